/* SPDX-License-Identifier: Apache-2.0 */
#include "core/server.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/awaited.h"
#include "core/lease.h"
#include "core/look.h"
#include "core/notification.h"
#include "core/numbered.h"
#include "core/outgoing.h"
#include "core/peer.h"
#include "core/rail.h"
#include "core/served_request.h"
#include "core/snapshot.h"
#include "core/stage.h"
#include "core/staged.h"

#include <stdio.h>
#include <string.h>

/*
 * The owner's side of the served paths: it checks what is asked for against the lease, and copies
 * by itself, a chunk at a time, with the lease pinned. So ending a lease is not serving it any
 * more.
 */

enum {
    REQUESTS_MAX = 64,
    DATA_BYTES_LEAST = 16 << 10, /* smaller frames wait for room, unless they end the request */
};

struct server {
    struct lend_session session;
    struct lend_lease_user user; /* points at the two below */
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    bool is_counted;          /* in lend_agent::served_count */
    _Atomic bool has_greeted; /* name and incarnation are there */
    bool owes_welcome;
    uint32_t requests_max;
    uint64_t last_request;
    uint32_t active_count;
    uint64_t active_bytes; /* that the requests ask for which have not ended */
    uint32_t turn;         /* who is first at the next pump */
    struct lend_served_request requests[REQUESTS_MAX];
    struct lend_looks looks;
    struct lend_telling telling; /* to who asks for our metadata, and greets us never */
    struct lend_numbered numbered;
    _Atomic uint64_t notified; /* cost of the notifications that came; changed under the lock */
    _Atomic uint64_t credited; /* of which the peer was told that they are taken; the same */
    _Atomic uint64_t taken;
    struct lend_statistics_peer *row; /* on the statistics page; NULL: none */
};

static struct server *server_of(struct lend_session *session)
{
    return (struct server *)session;
}

/* --- the greeting --- */

static enum lend_status take_hello(struct server *server, const struct lend_frame *frame,
                                   const uint8_t *payload, struct lend_error *error)
{
    const struct lend_agent *agent = server->session.agent;
    struct lend_hello hello;

    enum lend_status status = lend_hello_decode(payload, frame->payload_bytes, &hello, error);
    if (status != LEND_OK)
        return status;
    if (hello.version_min > LEND_PROTOCOL_VERSION || hello.version_max < LEND_PROTOCOL_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "%s speaks versions %u to %u of the protocol, %s speaks %d", hello.name,
                         hello.version_min, hello.version_max, agent->name, LEND_PROTOCOL_VERSION);
    if (memcmp(hello.wanted, agent->incarnation, LEND_INCARNATION_BYTES) != 0)
        return lend_fail(error, LEND_E_PEER_DEAD,
                         "another incarnation of %s answers: it restarted; import its new metadata",
                         agent->name);
    memcpy(server->name, hello.name, sizeof server->name);
    memcpy(server->incarnation, hello.incarnation, sizeof server->incarnation);
    server->has_greeted = true;
    server->owes_welcome = true;
    server->row = lend_statistics_begin_peer(server->session.agent, server->name);
    return LEND_OK;
}

static bool send_welcome(struct server *server)
{
    const struct lend_agent *agent = server->session.agent;
    struct lend_welcome welcome = {
        .version = LEND_PROTOCOL_VERSION,
        .requests_max = server->requests_max,
        .notification_window_bytes = agent->config.notification_window_bytes,
    };
    uint8_t bytes[128];

    memcpy(welcome.incarnation, agent->incarnation, sizeof welcome.incarnation);
    size_t count = lend_welcome_encode(&welcome, bytes, sizeof bytes);
    server->owes_welcome =
        !lend_session_send(&server->session, LEND_FRAME_WELCOME, 0, bytes, count);
    server->session.is_welcome = !server->owes_welcome;
    return server->session.is_welcome;
}

/* --- requests --- */

static struct lend_served_request *find_request(struct server *server, uint64_t id)
{
    for (uint32_t i = 0; i < server->requests_max; i++)
        if (server->requests[i].phase != LEND_SERVED_FREE && server->requests[i].id == id)
            return &server->requests[i];
    return NULL;
}

static void count_request(struct server *server, enum lend_status status)
{
    struct lend_agent *agent = server->session.agent;

    if (status != LEND_OK) {
        LEND_STATISTICS_ADD(agent, requests_refused, 1);
        return;
    }
    LEND_STATISTICS_ADD(agent, requests_served, 1);
    if (server->row != NULL)
        lend_statistics_bump(&server->row->requests, 1);
}

static void count_active(struct server *server, int32_t more)
{
    server->active_count += (uint32_t)more;
    if (server->row != NULL)
        lend_statistics_set(&server->row->requests_active, server->active_count);
}

static void count_end(struct server *server, const struct lend_served_request *request,
                      enum lend_status status)
{
    server->active_bytes -= request->asked.total_bytes;
    count_request(server, status);
}

/* Does the transport, or a GPU, still have memory of it? */
static bool is_unsettled(const struct server *server, const struct lend_served_request *request)
{
    return request->is_moving || lend_staged_is_flying(&server->session, request);
}

/* What it holds is let go of once its memory is quiet. */
static void end_request(struct server *server, struct lend_served_request *request,
                        enum lend_status status)
{
    if (request->lane != NULL)
        lend_stage_drop(server->session.stage, request);
    if (is_unsettled(server, request)) {
        request->phase = LEND_SERVED_SETTLING;
        request->ending = status;
        request->settle_by_ns = lend_deadline(lend_sys->now_ns(), LEND_SETTLE_NS);
        lend_poller_timer(&server->session.agent->poller, request->settle_by_ns);
        return;
    }
    lend_served_end(request, status);
    count_end(server, request, status);
}

/* The lease has ended under the request. */
static void end_with_lease(struct server *server, struct lend_served_request *request,
                           enum lend_status cause)
{
    (void)lend_lease_explain(&request->asked.lease, cause, &request->verdict);
    end_request(server, request, cause);
}

/* What one peer asks for at one time is bounded, where the owner wants that. */
static enum lend_status check_quota(const struct server *server, const struct lend_request *asked,
                                    struct lend_error *error)
{
    uint64_t most = server->session.agent->config.bytes_per_peer_max;

    /* active_bytes is never over it, so nothing wraps. */
    if (most == 0 || asked->total_bytes <= most - server->active_bytes)
        return LEND_OK;
    return lend_fail(error, LEND_E_LIMIT,
                     "%.64s asks for %llu bytes, and for %llu more at the same time; "
                     "bytes_per_peer_max is %llu",
                     server->name, (unsigned long long)asked->total_bytes,
                     (unsigned long long)server->active_bytes, (unsigned long long)most);
}

static enum lend_status take_request(struct server *server, const struct lend_frame *frame,
                                     const uint8_t *payload, struct lend_error *error)
{
    uint64_t region_ids[LEND_REQUEST_REGIONS_MAX];
    struct lend_served_request *request = NULL;
    struct lend_request asked;

    enum lend_status status =
        lend_request_decode(payload, frame->payload_bytes, &asked, region_ids, error);
    if (status != LEND_OK)
        return status;
    if (frame->request <= server->last_request)
        return lend_fail(error, LEND_E_CORRUPT, "request %llu after request %llu",
                         (unsigned long long)frame->request,
                         (unsigned long long)server->last_request);
    for (uint32_t i = 0; i < server->requests_max && request == NULL; i++)
        if (server->requests[i].phase == LEND_SERVED_FREE)
            request = &server->requests[i];
    if (request == NULL)
        return lend_fail(error, LEND_E_LIMIT,
                         "more than %u requests at one time (requests_per_peer_max)",
                         server->requests_max);

    server->last_request = frame->request;
    count_active(server, 1);
    *request = (struct lend_served_request){
        .phase = LEND_SERVED_RUNS, .id = frame->request, .asked = asked};
    status = check_quota(server, &asked, &request->verdict);
    if (status == LEND_OK)
        status = lend_served_open(request, server->session.agent, &server->user, region_ids);
    server->active_bytes += asked.total_bytes;
    if (status != LEND_OK)
        end_request(server, request, status);
    return LEND_OK;
}

static enum lend_status take_runs(struct server *server, const struct lend_frame *frame,
                                  const uint8_t *payload, struct lend_error *error)
{
    struct lend_served_request *request = find_request(server, frame->request);

    if (frame->request > server->last_request)
        return lend_fail(error, LEND_E_CORRUPT, "runs of request %llu, which was not made",
                         (unsigned long long)frame->request);
    if (request == NULL || lend_served_is_over(request))
        return LEND_OK; /* refused, or canceled, while they were on their way */
    if (request->phase != LEND_SERVED_RUNS)
        return lend_fail(error, LEND_E_CORRUPT, "more runs of request %llu than it named",
                         (unsigned long long)frame->request);

    enum lend_status status = lend_served_take_runs(request, payload, frame->payload_bytes, error);
    if (status == LEND_OK && request->phase == LEND_SERVED_MOVE && request->lane != NULL)
        (void)lend_staged_open(&server->session, request);
    if (status == LEND_OK && request->verdict.status != LEND_OK)
        end_request(server, request, (enum lend_status)request->verdict.status);
    return status;
}

/* --- moving --- */

static void count_moved(struct server *server, struct lend_served_request *request, size_t count)
{
    bool is_read = request->asked.direction == LEND_READ;

    request->moved_bytes += count;
    lend_statistics_count_served(server->session.agent, server->row, is_read, count);
    (void)atomic_fetch_add_explicit(&request->lease->bytes, count, memory_order_relaxed);
    if (request->moved_bytes == request->asked.total_bytes)
        end_request(server, request, LEND_OK);
}

/* Is what was begun settled by now? Then it has moved, if the lease lives still. */
static bool settle(struct server *server, struct lend_served_request *request)
{
    if (request->quiet_at > server->session.channel->settled)
        return false;
    request->is_moving = false;
    enum lend_status status = lend_lease_end_move(request->lease);
    if (request->phase == LEND_SERVED_SETTLING)
        end_request(server, request, request->ending);
    else if (status == LEND_OK)
        count_moved(server, request, request->sent_bytes - request->moved_bytes);
    else
        end_with_lease(server, request, status);
    return true;
}

/* Give the next bytes to the transport, the lease being pinned. LEND_PENDING: it goes on by itself,
 * and they count when that is settled, with all that went before. */
static enum lend_status send_bytes(struct server *server, struct lend_served_request *request,
                                   size_t count)
{
    const struct lend_channel *channel = server->session.channel;
    uint64_t before = channel->begun;

    lend_session_send_data(&server->session, request->id, &request->cursor, count);
    request->sent_bytes += count;
    if (channel->begun != before) {
        request->quiet_at = channel->begun;
        if (!request->is_moving)
            lend_lease_begin_move(request->lease);
        request->is_moving = true;
    }
    enum lend_status status = lend_lease_leave(request->lease);
    return status == LEND_OK && request->is_moving ? LEND_PENDING : status;
}

/* Send the next chunk of a READ. */
static bool serve_read(struct server *server, struct lend_served_request *request)
{
    uint64_t left = request->asked.total_bytes - request->sent_bytes;
    size_t count = left < LEND_FRAME_DATA_MAX ? (size_t)left : LEND_FRAME_DATA_MAX;
    size_t least = count < DATA_BYTES_LEAST ? count : DATA_BYTES_LEAST;
    size_t room = lend_session_room(&server->session);

    if (room < least) {
        server->session.wanted_room = least;
        return false;
    }
    count = count < room ? count : room;

    enum lend_status status = lend_lease_enter(request->lease);
    if (status == LEND_OK)
        status = send_bytes(server, request, count);
    if (status == LEND_OK)
        count_moved(server, request, count);
    else if (status != LEND_PENDING)
        end_with_lease(server, request, status);
    return true;
}

/* Go on with a request for memory of a GPU. True if anything moved. */
static bool pump_staged(struct server *server, struct lend_served_request *request)
{
    bool moved = false;

    if (request->phase == LEND_SERVED_SETTLING && !is_unsettled(server, request)) {
        end_request(server, request, request->ending);
        moved = true;
    }
    size_t count = 0; /* one frame of it at most, as others have their turn */
    while (request->phase == LEND_SERVED_MOVE && count == 0) {
        enum lend_status status = lend_staged_step(&server->session, request, &count);

        if (status == LEND_PENDING)
            break;
        moved = true;
        if (status != LEND_OK && request->verdict.status != LEND_OK)
            end_request(server, request, status);
        else if (status != LEND_OK)
            end_with_lease(server, request, status);
        else if (count > 0)
            count_moved(server, request, count);
    }
    return moved;
}

/* Checksum a chunk, under a live lease. */
static void serve_sums(struct server *server, struct lend_served_request *request)
{
    enum lend_status status = lend_lease_enter(request->lease);

    if (status == LEND_OK) {
        lend_served_sum(request);
        status = lend_lease_leave(request->lease);
    }
    if (status != LEND_OK)
        end_with_lease(server, request, status);
}

/* Take bytes of a WRITE. Pinned while they land, so that whoever ends the lease waits for them. */
static enum lend_status take_data(struct lend_session *session, size_t count, size_t *out_taken,
                                  struct lend_error *error)
{
    struct server *server = server_of(session);
    const struct lend_frame *frame = &session->frame;
    const struct lend_transport_ops *ops = session->channel->ops;
    struct lend_served_request *request = find_request(server, frame->request);
    struct lend_cursor *to = NULL;

    if (frame->request > server->last_request || !server->has_greeted)
        return lend_fail(error, LEND_E_CORRUPT, "bytes of request %llu, which was not made",
                         (unsigned long long)frame->request);
    if (request != NULL && !lend_served_is_over(request)) {
        uint64_t done = request->lane != NULL ? request->staged_bytes : request->moved_bytes;

        if (request->phase != LEND_SERVED_MOVE || request->asked.direction != LEND_WRITE ||
            request->asked.wants_sums || count > request->asked.total_bytes - done)
            return lend_fail(error, LEND_E_CORRUPT, "%zu bytes that request %llu did not announce",
                             count, (unsigned long long)frame->request);

        enum lend_status status = lend_lease_enter(request->lease);
        if (status == LEND_OK && request->lane != NULL) {
            *out_taken = lend_staged_take(session, request, count);
            return LEND_OK;
        }
        if (status == LEND_OK)
            to = &request->cursor;
        else
            end_with_lease(server, request, status);
    }
    *out_taken = ops->take_data(session->channel, to, count, frame->payload_bytes);
    if (to != NULL) {
        (void)lend_lease_leave(request->lease); /* what landed, landed while it was live */
        count_moved(server, request, *out_taken);
    }
    return LEND_OK;
}

static bool send_done(struct server *server, struct lend_served_request *request)
{
    struct lend_verdict verdict = {
        .status = request->verdict.status,
        .bytes = request->moved_bytes,
    };
    uint8_t bytes[512];

    if (verdict.status != LEND_OK)
        (void)snprintf(verdict.text, sizeof verdict.text, "%.*s", LEND_MESSAGE_TEXT_MAX,
                       request->verdict.message);
    size_t count = lend_verdict_encode(&verdict, bytes, sizeof bytes);
    if (!lend_session_send(&server->session, LEND_FRAME_DONE, request->id, bytes, count))
        return false;
    request->phase = LEND_SERVED_FREE;
    count_active(server, -1);
    return true;
}

static bool pump_request(struct server *server, struct lend_served_request *request)
{
    bool moved = request->is_moving && settle(server, request);

    if (!lend_served_is_over(request) && lend_served_check_standing(request) != LEND_OK)
        end_request(server, request, LEND_E_REVOKED);
    if (request->phase == LEND_SERVED_MOVE && lend_lease_is_awaited(request->lease))
        return moved; /* we are woken */
    if (request->lane != NULL)
        moved |= pump_staged(server, request);
    if (lend_served_is_summing(request)) {
        serve_sums(server, request);
        return true;
    }
    if (request->phase == LEND_SERVED_MOVE && request->asked.direction == LEND_READ &&
        request->lane == NULL &&
        (!request->is_moving || request->sent_bytes < request->asked.total_bytes)) {
        if (!serve_read(server, request))
            return moved;
        moved = true;
    }
    if (request->phase == LEND_SERVED_ENDED)
        return send_done(server, request) || moved;
    return moved;
}

/* --- the rest of what a client says --- */

static enum lend_status take_cancel(struct server *server, const struct lend_frame *frame)
{
    struct lend_served_request *request = find_request(server, frame->request);

    if (request != NULL && !lend_served_is_over(request)) {
        (void)lend_fail(&request->verdict, LEND_E_CANCELED, "canceled");
        end_request(server, request, LEND_E_CANCELED);
    }
    return LEND_OK;
}

/* What the peer takes for occupied of its window, as far as we know. */
static uint64_t outstanding(const struct server *server)
{
    return atomic_load_explicit(&server->notified, memory_order_seq_cst) -
           atomic_load_explicit(&server->credited, memory_order_seq_cst);
}

/*
 * Is the peer to be told what was taken? Not each time, which would be a frame for every
 * notification, and a wake-up of whoever sent it: only when a quarter of the window is occupied, or
 * one of the longest would not fit any more.
 */
static bool owes_credit(const struct server *server)
{
    uint64_t window = server->session.agent->config.notification_window_bytes;
    uint64_t occupied = outstanding(server);

    return atomic_load_explicit(&server->taken, memory_order_seq_cst) !=
               atomic_load_explicit(&server->credited, memory_order_seq_cst) &&
           (occupied > window / 4 ||
            occupied + lend_notification_cost(LEND_NOTIFICATION_BYTES_MAX) > window);
}

static enum lend_status deliver(struct lend_session *session, const void *bytes, uint32_t count)
{
    const struct server *server = server_of(session);

    return lend_notification_deliver(session, server->name, server->incarnation, bytes, count);
}

/* By the channel, or by a rail. */
static enum lend_status notified(struct lend_session *session, uint64_t number, const void *bytes,
                                 size_t count, struct lend_error *error)
{
    struct server *server = server_of(session);
    uint64_t window = session->agent->config.notification_window_bytes;
    uint64_t cost = lend_notification_cost(count);

    if (lend_numbered_has(&server->numbered, number))
        return LEND_OK;
    if (count > LEND_NOTIFICATION_BYTES_MAX || outstanding(server) + cost > window)
        return lend_fail(
            error, LEND_E_LIMIT,
            "a notification of %zu bytes beyond the window of %llu (notification_window_bytes)",
            count, (unsigned long long)window);
    /* Sequentially consistent, as in lend_server_credit(): either who takes one before it sees this
     * one, or the pump that follows sees that it was taken. */
    (void)atomic_fetch_add_explicit(&server->notified, cost, memory_order_seq_cst);
    enum lend_status status =
        lend_numbered_take(&server->numbered, number, bytes, (uint32_t)count, deliver, session);
    if (status != LEND_OK)
        return lend_fail(error, status, "no memory for a notification of %zu bytes", count);
    return LEND_OK;
}

static enum lend_status take_ticket_done(struct server *server, const struct lend_frame *frame,
                                         const uint8_t *payload, struct lend_error *error)
{
    struct lend_lease_name name;

    enum lend_status status = lend_lease_name_decode(payload, frame->payload_bytes, &name, error);
    if (status == LEND_OK)
        lend_lease_consume(server->session.agent, &name, server->incarnation);
    return status;
}

static enum lend_status control(struct lend_session *session, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error)
{
    struct server *server = server_of(session);

    if (!server->has_greeted && server->telling.snapshot == NULL && frame->type == LEND_FRAME_HELLO)
        return take_hello(server, frame, payload, error);
    if (!server->has_greeted && frame->type == LEND_FRAME_FETCH)
        return lend_telling_begin(&server->telling, session, frame, payload, error);
    if (frame->type == LEND_FRAME_BYE)
        return lend_fail(error, LEND_E_CANCELED, "%s hung up", server->name);
    if (!server->has_greeted)
        return lend_fail(error, LEND_E_CORRUPT, "frame type %u before a hello", frame->type);

    switch ((enum lend_frame_type)frame->type) {
    case LEND_FRAME_REQUEST: return take_request(server, frame, payload, error);
    case LEND_FRAME_RUNS: return take_runs(server, frame, payload, error);
    case LEND_FRAME_CANCEL: return take_cancel(server, frame);
    case LEND_FRAME_NOTIFY:
        return notified(session, frame->request, payload, frame->payload_bytes, error);
    case LEND_FRAME_TICKET_DONE: return take_ticket_done(server, frame, payload, error);
    case LEND_FRAME_LOOK: return lend_look_take(&server->looks, frame, payload, error);
    case LEND_FRAME_RAIL: return lend_rail_take(session, payload, frame->payload_bytes, error);
    case LEND_FRAME_HELLO:
    case LEND_FRAME_WELCOME:
    case LEND_FRAME_BYE:
    case LEND_FRAME_DATA:
    case LEND_FRAME_DONE:
    case LEND_FRAME_VIEW:
    case LEND_FRAME_CREDIT:
    case LEND_FRAME_FETCH:
    case LEND_FRAME_FOUND:
    case LEND_FRAME_CHALLENGE:
    case LEND_FRAME_ANSWER:
    case LEND_FRAME_PROOF: break;
    }
    return lend_fail(error, LEND_E_CORRUPT, "frame type %u from a client", frame->type);
}

static bool send_credit(struct server *server)
{
    uint8_t bytes[16];

    if (!owes_credit(server))
        return false;
    uint64_t taken = atomic_load_explicit(&server->taken, memory_order_seq_cst);
    size_t count = lend_credit_encode(taken, bytes, sizeof bytes);
    if (!lend_session_send(&server->session, LEND_FRAME_CREDIT, 0, bytes, count))
        return false;
    atomic_store_explicit(&server->credited, taken, memory_order_seq_cst);
    return true;
}

void lend_server_credit(struct lend_session *session, uint64_t cost)
{
    struct server *server = server_of(session);

    (void)atomic_fetch_add_explicit(&server->taken, cost, memory_order_seq_cst);
    if (owes_credit(server))
        lend_session_wake(session);
}

void lend_servers_abort(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;

    (void)pthread_mutex_lock(&agent->lock);
    if (region->standing_uses > 0) {
        atomic_store_explicit(&region->is_forced, true, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&agent->forced_count, 1, memory_order_release);
        /* Their next pumps see it; and who withdraws the region waits until it is used no more. */
        for (struct lend_list *link = agent->sessions.next; link != &agent->sessions;
             link = link->next)
            lend_session_wake(LEND_LIST_OWNER(link, struct lend_session, link));
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

/* --- the role --- */

static bool pump(struct lend_session *session)
{
    struct server *server = server_of(session);
    bool moved = false;

    if (server->telling.snapshot != NULL)
        return lend_telling_pump(&server->telling, session);
    if (server->owes_welcome && !send_welcome(server))
        return false;
    if (!session->is_welcome)
        return false;
    moved |= send_credit(server);
    moved |= lend_rail_pump(session);
    moved |= lend_look_pump(&server->looks, session, &server->user);
    if (server->active_count == 0) {
        server->turn = 0; /* the next one has the first place, and is found at once */
        return moved;
    }
    /* One chunk each, so that a small request does not wait for a large one. Where there is room
     * for some of them alone, the next pump goes on behind the last that had its turn. */
    uint32_t first = server->turn, left = server->active_count;
    for (uint32_t i = 0; i < server->requests_max && left > 0; i++) {
        uint32_t at = (first + i) % server->requests_max;

        if (server->requests[at].phase == LEND_SERVED_FREE)
            continue;
        left--;
        if (pump_request(server, &server->requests[at])) {
            server->turn = (at + 1) % server->requests_max;
            moved = true;
        }
    }
    return moved;
}

/* A lease that has ended, or a request, does not wait for ever for a peer that takes nothing. */
static uint64_t timers(struct lend_session *session, uint64_t now_ns)
{
    struct server *server = server_of(session);
    uint64_t next = UINT64_MAX;

    if (session->channel == NULL || (session->channel->begun == session->channel->settled &&
                                     !lend_stage_is_flying(session->stage, NULL)))
        return next;
    for (uint32_t i = 0; i < server->requests_max; i++) {
        struct lend_served_request *request = &server->requests[i];

        if (!is_unsettled(server, request))
            continue;
        if (request->phase == LEND_SERVED_MOVE) {
            enum lend_status status = lend_lease_judge(request->lease);

            if (status != LEND_OK)
                end_with_lease(server, request, status);
        }
        if (request->phase == LEND_SERVED_SETTLING && request->settle_by_ns < next)
            next = request->settle_by_ns;
    }
    if (now_ns < next)
        return next;
    lend_session_die(session, LEND_E_PEER_DEAD,
                     lend_stage_is_flying(session->stage, NULL)
                         ? "the GPU did not finish a copy for %.64s within %d ms"
                         : "%.64s did not take what it was sent within %d ms",
                     server->name, (int)(LEND_SETTLE_NS / 1000000));
    return UINT64_MAX;
}

/* Does another session of ours speak for the same incarnation? */
static bool is_still_here(const struct server *gone)
{
    struct lend_agent *agent = gone->session.agent;
    bool found = false;

    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->sessions.next; link != &agent->sessions && !found;
         link = link->next) {
        struct lend_session *session = LEND_LIST_OWNER(link, struct lend_session, link);
        struct server *other = server_of(session);

        if (session->role == gone->session.role && other != gone &&
            !atomic_load_explicit(&session->is_dead, memory_order_acquire) &&
            atomic_load_explicit(&other->has_greeted, memory_order_acquire))
            found = memcmp(other->incarnation, gone->incarnation, LEND_INCARNATION_BYTES) == 0;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    return found;
}

static void die(struct lend_session *session)
{
    struct server *server = server_of(session);
    bool is_quiet = lend_session_halt(session);

    (void)lend_stage_halt(session->stage);
    lend_rail_halt(session);
    for (uint32_t i = 0; i < server->requests_max; i++) {
        struct lend_served_request *request = &server->requests[i];

        if (request->phase >= LEND_SERVED_RUNS && request->phase <= LEND_SERVED_SETTLING)
            count_request(server, LEND_E_PEER_DEAD);
        if (lend_staged_is_flying(session, request) || (request->is_moving && !is_quiet)) {
            lend_served_abandon(request); /* whoever withdraws the region is told of its lease */
            continue;
        }
        if (request->is_moving)
            (void)lend_lease_end_move(request->lease);
        request->is_moving = false;
        lend_served_drop(request);
    }
    server->active_count = 0;
    server->active_bytes = 0;
    lend_telling_end(&server->telling, session->agent);
    lend_numbered_fini(&server->numbered);
    if (server->has_greeted)
        lend_statistics_end_peer(session->agent, server->row);
    server->row = NULL;
    if (!server->has_greeted || is_still_here(server))
        return;
    if (session->why.status == LEND_E_PEER_DEAD)
        lend_peers_mourn(session->agent, server->incarnation);
    /* Who says goodbye has forgotten us, and its tickets: its leases end as if it had died. */
    if (session->why.status == LEND_E_PEER_DEAD || session->why.status == LEND_E_CANCELED)
        lend_lease_mourn(session->agent, server->incarnation);
}

static void buried(struct lend_session *session)
{
    lend_notifications_forget(session);
}

/* Only now is its place free: notifications that nobody has taken keep it, so that what peers who
 * come and go may leave behind is bounded. */
static void fini(struct lend_session *session)
{
    struct lend_agent *agent = session->agent;

    if (!server_of(session)->is_counted)
        return;
    (void)pthread_mutex_lock(&agent->lock);
    agent->served_count--;
    (void)pthread_mutex_unlock(&agent->lock);
}

static const struct lend_session_role role = {
    .bytes = sizeof(struct server),
    .control = control,
    .notified = notified,
    .data = take_data,
    .pump = pump,
    .timers = timers,
    .die = die,
    .buried = buried,
    .fini = fini,
};

enum lend_status lend_session_accept(struct lend_agent *agent, struct lend_channel *channel,
                                     struct lend_error *error)
{
    struct lend_session *session = lend_session_create(agent, &role, &agent->secret);

    if (session == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to serve one more peer");

    struct server *server = server_of(session);
    server->requests_max = agent->config.requests_per_peer_max;
    lend_numbered_init(&server->numbered);
    server->user =
        (struct lend_lease_user){.incarnation = server->incarnation, .name = server->name};
    (void)pthread_mutex_lock(&agent->lock);
    bool is_full = agent->served_count >= agent->config.peers_max;
    if (!is_full) {
        agent->served_count++;
        server->is_counted = true;
        session->channel = channel;
        channel->session = session;
        lend_list_append(&agent->sessions, &session->link);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (is_full) {
        lend_session_release(session);
        return lend_fail(error, LEND_E_LIMIT, "%u peers are served already (peers_max)",
                         agent->config.peers_max);
    }
    lend_poller_timer(&agent->poller, session->greet_until_ns);
    lend_session_wake(session);
    return LEND_OK;
}
