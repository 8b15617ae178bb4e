/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/ucx.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

/* Endpoints: making, using, breaking and closing them. All of it under the transport's lock. */

enum {
    SPARE_LARGE_MAX = 16,  /* of 64 KiB */
    UNSENT_WINDOWS = 4,    /* of ours, that may wait to leave over a link */
    STRANGE_MAX = 64,      /* links that nobody has proven to be at the other end of */
    IDLE_MAX = 32,         /* links without a channel */
    FLUSH_NS = 100000000,  /* that the end of an agent waits for its last words to leave, */
    CLOSE_NS = 1000000000, /* and for its endpoints to be closed */
};

/* --- messages --- */

struct lend_ucx_send *lend_ucx_send_take(struct lend_ucx_link *link, size_t count)
{
    struct lend_ucx_transport *transport = link->transport;
    bool is_large = count > LEND_UCX_SMALL_BYTES;
    struct lend_list *spare =
        lend_list_take_first(is_large ? &transport->spare_large : &transport->spare_small);
    struct lend_ucx_send *send;

    if (spare != NULL) {
        transport->spare_large_count -= is_large;
        send = LEND_LIST_OWNER(spare, struct lend_ucx_send, spare);
    } else {
        send = lend_sys->allocate(sizeof *send +
                                  (is_large ? LEND_FRAME_PAYLOAD_MAX : LEND_UCX_SMALL_BYTES));
        if (send == NULL) {
            lend_ucx_link_break(link, LEND_E_NO_MEMORY, "no memory for a message of UCX");
            return NULL;
        }
        lend_list_init(&send->spare);
        send->is_large = is_large;
    }
    send->link = link;
    return send;
}

static void give_send(struct lend_ucx_send *send)
{
    struct lend_ucx_transport *transport = send->link->transport;

    if (send->is_large && transport->spare_large_count == SPARE_LARGE_MAX) {
        lend_sys->release(send);
        return;
    }
    transport->spare_large_count += send->is_large;
    lend_list_append(send->is_large ? &transport->spare_large : &transport->spare_small,
                     &send->spare);
}

void lend_ucx_link_break_with(struct lend_ucx_link *link, lend_ucx_status status)
{
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_PEER_DEAD, "UCX lost the peer: %s (%d)",
                    link->transport->door.status_string(status), status);
    lend_ucx_link_break(link, LEND_E_PEER_DEAD, why.message);
}

static uint64_t unsent_max(const struct lend_ucx_link *link)
{
    return link->transport->window_bytes * UNSENT_WINDOWS;
}

bool lend_ucx_link_is_full(const struct lend_ucx_link *link)
{
    return link->unsent >= unsent_max(link);
}

void lend_ucx_link_owes(struct lend_ucx_link *link, uint64_t cost)
{
    link->pending++;
    link->unsent += cost;
}

void lend_ucx_link_has_sent(struct lend_ucx_link *link, uint64_t cost)
{
    bool was_full = lend_ucx_link_is_full(link);

    link->pending--;
    link->unsent -= cost;
    if (!was_full || lend_ucx_link_is_full(link))
        return;
    for (struct lend_list *at = link->channels.next; at != &link->channels; at = at->next)
        lend_ucx_channel_wake(LEND_LIST_OWNER(at, struct lend_ucx_channel, in_link));
}

static void was_sent(void *request, lend_ucx_status status, void *user_data)
{
    struct lend_ucx_send *send = user_data;
    struct lend_ucx_link *link = send->link;

    lend_ucx_link_has_sent(link, send->cost);
    give_send(send);
    link->transport->door.request_free(request);
    if (status != LEND_UCX_OK)
        lend_ucx_link_break_with(link, status);
}

void lend_ucx_send(struct lend_ucx_send *send, const struct lend_ucx_message *message, size_t count)
{
    struct lend_ucx_link *link = send->link;
    const struct lend_ucx_operation how = {
        .op_attr_mask = LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA |
                        LEND_UCX_OPERATION_FLAGS | LEND_UCX_OPERATION_MEMORY_TYPE,
        .flags = LEND_UCX_SEND_EAGER,
        .callback.send = was_sent,
        .user_data = send,
        .memory_type = LEND_UCX_MEMORY_HOST,
    };

    if (link->is_broken) {
        give_send(send);
        return;
    }
    /* Frames stop before; what is said besides adds up only where nothing is taken. */
    if (link->unsent > 2 * unsent_max(link)) {
        give_send(send);
        lend_ucx_link_break(link, LEND_E_PEER_DEAD, "the peer does not take what it is sent");
        return;
    }
    if (message->kind != LEND_UCX_PONG)
        lend_ucx_link_expect(link);
    /* What it holds, however little of that it sends. */
    send->cost = lend_ucx_cost(send->is_large ? LEND_FRAME_PAYLOAD_MAX : LEND_UCX_SMALL_BYTES);
    lend_ucx_encode(message, send->header);
    void *state = link->transport->door.send(link->endpoint, LEND_UCX_ID, send->header,
                                             sizeof send->header, send->bytes, count, &how);
    if (lend_ucx_is_request(state)) {
        lend_ucx_link_owes(link, send->cost);
        return;
    }
    give_send(send);
    if (state != NULL)
        lend_ucx_link_break_with(link, lend_ucx_state_status(state));
}

void lend_ucx_send_bytes(struct lend_ucx_link *link, const struct lend_ucx_message *message,
                         const void *bytes, size_t count)
{
    struct lend_ucx_send *send = lend_ucx_send_take(link, count);

    if (send == NULL)
        return;
    if (count > 0)
        memcpy(send->bytes, bytes, count);
    lend_ucx_send(send, message, count);
}

/* --- silence --- */

/* What UCX has taken to send may lie in a socket for a quarter of an hour before the kernel gives
 * up, and a keep-alive probe is not sent meanwhile. So we ask ourselves. */

void lend_ucx_link_expect(struct lend_ucx_link *link)
{
    if (link->unheard_ns == 0)
        link->unheard_ns = lend_sys->now_ns();
}

void lend_ucx_link_heard(struct lend_ucx_link *link)
{
    link->heard_ns = lend_sys->now_ns();
    link->unheard_ns = 0;
    link->is_strange = false;
}

/* Does a request of ours wait for its end? */
static bool is_asking(const struct lend_ucx_link *link)
{
    for (struct lend_list *at = link->channels.next; at != &link->channels; at = at->next)
        if (LEND_LIST_OWNER(at, struct lend_ucx_channel, in_link)->asked_count > 0)
            return true;
    return false;
}

static void say(struct lend_ucx_link *link, enum lend_ucx_kind kind)
{
    const struct lend_ucx_message message = {
        .kind = kind,
        .channel = link->peer_number,
        .position = kind == LEND_UCX_PONG ? link->owed : link->asked,
    };

    if (link->peer_number != 0) /* else it has not answered at all, and that has its own time */
        lend_ucx_send_bytes(link, &message, NULL, 0);
}

/* --- doubt --- */

/* Anybody can send an OPEN that names another agent's worker, which is no secret. Were it believed,
 * it would cut that agent off. But the answer to a PING comes from who is there, and knows the
 * numbers of its link. */

bool lend_ucx_link_doubt(struct lend_ucx_link *link, struct lend_ucx_arrival *arrival)
{
    if (link->doubted != NULL || lend_sys->random(&link->asked, sizeof link->asked) < 0)
        return false;
    link->doubted = arrival;
    link->doubted_ns = lend_sys->now_ns();
    link->asked |= 1; /* 0 is said where nothing is in doubt */
    say(link, LEND_UCX_PING);
    return true;
}

uint64_t lend_ucx_links_doubt_until(const struct lend_ucx_transport *transport)
{
    uint64_t until_ns = UINT64_MAX;

    for (struct lend_list *at = transport->links.next; at != &transport->links; at = at->next) {
        const struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        if (link->doubted != NULL && link->doubted_ns + transport->doubt_ns < until_ns)
            until_ns = link->doubted_ns + transport->doubt_ns;
    }
    return until_ns;
}

/* The peer has said that it is there, and at this link. */
static void believe(struct lend_ucx_link *link, uint64_t position)
{
    if (link->doubted == NULL || position != link->asked)
        return;
    lend_agent_log(link->transport->agent, LEND_LOG_WARNING,
                   "somebody asked for a connection by ucx in the name of a peer that is "
                   "connected, and is not that peer");
    lend_sys->release(link->doubted);
    link->doubted = NULL;
    link->asked = 0;
}

/* Let the one in doubt be answered. */
static void reconsider(struct lend_ucx_link *link)
{
    struct lend_ucx_transport *transport = link->transport;

    if (link->doubted == NULL)
        return;
    lend_list_append(&transport->arrivals, &link->doubted->link);
    transport->arrival_count++;
    link->doubted = NULL;
    link->asked = 0;
    lend_ucx_ring(transport);
}

void lend_ucx_link_learn(struct lend_ucx_link *link, uint64_t number)
{
    link->peer_number = number;
    if (link->doubted != NULL && link->doubted->greeting.link == number)
        reconsider(link);
}

static void hang_up_all(struct lend_ucx_link *link, enum lend_status status, const char *reason)
{
    for (struct lend_list *at = link->channels.next; at != &link->channels; at = at->next)
        lend_ucx_channel_hang_up(LEND_LIST_OWNER(at, struct lend_ucx_channel, in_link), status,
                                 reason);
}

/* There was no answer: who named this link first is gone, or was never there. If nobody ever spoke
 * over it, the link itself may be good: UCX has perhaps paired it with one that the other has made.
 */
static void give_up_first(struct lend_ucx_link *link)
{
    static const char reason[] = "the peer connected anew";

    if (!link->is_strange) {
        lend_ucx_link_break(link, LEND_E_PEER_DEAD, reason);
        return;
    }
    hang_up_all(link, LEND_E_PEER_DEAD, reason);
    link->peer_number = 0;
    reconsider(link);
}

/* --- silence, again --- */

void lend_ucx_links_take(struct lend_ucx_transport *transport,
                         const struct lend_ucx_message *message)
{
    for (struct lend_list *at = transport->links.next; at != &transport->links; at = at->next) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        if (link->number != message->channel)
            continue;
        lend_ucx_link_heard(link);
        if (message->kind == LEND_UCX_PONG) {
            believe(link, message->position);
        } else {
            link->owes_pong = true;
            link->owed = message->position;
            lend_ucx_ring(transport);
        }
    }
}

void lend_ucx_links_answer(struct lend_ucx_transport *transport)
{
    for (struct lend_list *at = transport->links.next, *next; at != &transport->links; at = next) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        next = at->next; /* it may break */
        if (link->owes_pong)
            say(link, LEND_UCX_PONG);
        link->owes_pong = false;
    }
}

void lend_ucx_links_look(struct lend_ucx_transport *transport)
{
    uint64_t now = lend_sys->now_ns();

    for (struct lend_list *at = transport->links.next, *next; at != &transport->links; at = next) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);
        struct lend_error why;

        next = at->next;
        bool is_unused = link->is_strange && lend_list_is_empty(&link->channels);
        if (is_unused && link->was_unused) {
            lend_ucx_link_break(link, LEND_E_PEER_DEAD, "nobody used the connection");
            continue;
        }
        link->was_unused = is_unused;
        if (link->doubted != NULL && now - link->doubted_ns >= transport->doubt_ns) {
            give_up_first(link);
            continue;
        }
        if (link->unheard_ns == 0 && is_asking(link))
            link->unheard_ns = link->heard_ns;
        uint64_t silent_ns = link->unheard_ns != 0 ? now - link->unheard_ns : 0;
        if (silent_ns >= transport->patience_ns) {
            (void)lend_fail(&why, LEND_E_PEER_DEAD,
                            "the peer has answered nothing for %llu ms: it is stopped, or cut off",
                            (unsigned long long)(silent_ns / 1000000));
            lend_ucx_link_break(link, LEND_E_PEER_DEAD, why.message);
        } else if (silent_ns >= transport->patience_ns / 4) {
            say(link, LEND_UCX_PING);
        }
    }
}

/* --- links --- */

/* UCX says that the endpoint is of no use any more. */
static void failed(void *argument, void *endpoint, lend_ucx_status status)
{
    (void)endpoint;
    lend_ucx_link_break_with(argument, status);
}

void lend_ucx_link_break(struct lend_ucx_link *link, enum lend_status status, const char *reason)
{
    struct lend_ucx_transport *transport = link->transport;

    if (link->is_broken)
        return;
    link->is_broken = true;
    (void)lend_fail(&link->why, status, "%s", reason);
    hang_up_all(link, status, reason);
    lend_list_remove(&link->link);
    lend_list_append(&transport->broken, &link->link);
    reconsider(link);
    lend_ucx_ring(transport);
}

struct lend_ucx_link *lend_ucx_link_find(struct lend_ucx_transport *transport,
                                         const struct lend_ucx_address *address)
{
    for (struct lend_list *at = transport->links.next; at != &transport->links; at = at->next) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        if (link->address_bytes == address->count &&
            memcmp(link->address, address->bytes, address->count) == 0)
            return link;
    }
    return NULL;
}

static enum lend_status create_endpoint(struct lend_ucx_link *link,
                                        const struct lend_ucx_address *address,
                                        struct lend_error *error)
{
    const struct lend_ucx_ops *door = &link->transport->door;
    _Alignas(16) uint8_t bytes[LEND_UCX_ADDRESS_MAX]; /* as UCX itself would have it */
    const struct lend_ucx_endpoint_params params = {
        .field_mask = LEND_UCX_ENDPOINT_ADDRESS | LEND_UCX_ENDPOINT_ERROR_MODE |
                      LEND_UCX_ENDPOINT_ERROR_HANDLER,
        .address = bytes,
        .err_mode = LEND_UCX_ERROR_MODE_PEER,
        .error_callback = failed,
        .error_argument = link,
    };

    memcpy(bytes, address->bytes, address->count);
    lend_ucx_status result =
        door->endpoint_create(link->transport->worker, &params, &link->endpoint);
    if (result == LEND_UCX_OK)
        return LEND_OK;
    link->endpoint = NULL;
    if (result == LEND_UCX_UNREACHABLE)
        return lend_fail(error, LEND_E_NO_PATH,
                         "UCX finds no way to the peer (%s) over the devices and transports that "
                         "both name (ucx_devices, ucx_transports)",
                         door->status_string(result));
    return lend_fail(error, result == LEND_UCX_NO_MEMORY ? LEND_E_NO_MEMORY : LEND_E_PEER_DEAD,
                     "UCX cannot connect to the peer: %s (%d)", door->status_string(result),
                     result);
}

enum lend_status lend_ucx_link_get(struct lend_ucx_transport *transport,
                                   const struct lend_ucx_address *address,
                                   struct lend_ucx_link **out, struct lend_error *error)
{
    struct lend_ucx_link *link = lend_ucx_link_find(transport, address);

    if (link != NULL) {
        *out = link;
        return LEND_OK;
    }
    link = lend_sys->allocate(sizeof *link);
    if (link == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection of UCX");
    link->transport = transport;
    lend_list_init(&link->link);
    lend_list_init(&link->channels);
    link->address_bytes = address->count;
    memcpy(link->address, address->bytes, address->count);
    int result = lend_sys->random(&link->number, sizeof link->number);
    link->number |= 1; /* 0 stands for none */
    enum lend_status status =
        result < 0 ? lend_fail_errno(error, -result, "no random number for a connection of UCX")
                   : create_endpoint(link, address, error);
    if (status != LEND_OK) {
        lend_sys->release(link);
        return status;
    }
    lend_list_append(&transport->links, &link->link);
    lend_ucx_ring(transport); /* so that the poller begins to look after it */
    *out = link;
    return LEND_OK;
}

/* --- how many --- */

static uint32_t count_strange(const struct lend_ucx_transport *transport)
{
    uint32_t count = 0;

    for (struct lend_list *at = transport->links.next; at != &transport->links; at = at->next)
        count += LEND_LIST_OWNER(at, struct lend_ucx_link, link)->is_strange;
    return count;
}

/* Of the links without a channel, break those that are there longest, until so many are left: of
 * the strange ones, or of all. */
static void break_idle(struct lend_ucx_transport *transport, bool are_strange, uint32_t most)
{
    uint32_t count = 0;

    for (struct lend_list *at = transport->links.previous, *next; at != &transport->links;
         at = next) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        next = at->previous;
        if (!lend_list_is_empty(&link->channels) || (are_strange && !link->is_strange))
            continue;
        if (++count > most)
            lend_ucx_link_break(link, LEND_E_PEER_DEAD, "nobody used the connection");
    }
}

bool lend_ucx_links_have_place(struct lend_ucx_transport *transport)
{
    if (count_strange(transport) >= STRANGE_MAX)
        break_idle(transport, true, 0);
    return count_strange(transport) < STRANGE_MAX;
}

/* --- closing --- */

static void was_closed(void *request, lend_ucx_status status, void *user_data)
{
    struct lend_ucx_link *link = user_data;

    (void)status; /* it is closed anyway */
    link->pending--;
    link->transport->door.request_free(request);
}

static void close_endpoint(struct lend_ucx_link *link)
{
    const struct lend_ucx_operation how = {
        .op_attr_mask =
            LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA | LEND_UCX_OPERATION_FLAGS,
        .flags = LEND_UCX_CLOSE_FORCE,
        .callback.send = was_closed,
        .user_data = link,
    };
    void *endpoint = link->endpoint;

    link->endpoint = NULL;
    if (endpoint == NULL)
        return;
    link->pending++; /* before: the callbacks of others come meanwhile */
    if (!lend_ucx_is_request(link->transport->door.endpoint_close(endpoint, &how)))
        link->pending--;
}

void lend_ucx_link_free(struct lend_ucx_link *link)
{
    if (link->doubted != NULL)
        lend_sys->release(link->doubted);
    lend_sys->release(link);
}

static void free_closed(struct lend_ucx_transport *transport)
{
    struct lend_list *at = transport->closing.next;

    while (at != &transport->closing) {
        struct lend_ucx_link *link = LEND_LIST_OWNER(at, struct lend_ucx_link, link);

        at = at->next;
        if (link->pending > 0 || !lend_list_is_empty(&link->channels))
            continue;
        lend_list_remove(&link->link);
        lend_ucx_link_free(link);
    }
}

void lend_ucx_link_close(struct lend_ucx_link *link)
{
    lend_ucx_link_break(link, LEND_E_PEER_DEAD, "the connection was cut to stop what went over it");
    lend_list_remove(&link->link);
    lend_list_append(&link->transport->closing, &link->link);
    close_endpoint(link);
}

void lend_ucx_links_tidy(struct lend_ucx_transport *transport)
{
    break_idle(transport, true, IDLE_MAX / 2);
    break_idle(transport, false, IDLE_MAX);
    while (!lend_list_is_empty(&transport->broken))
        lend_ucx_link_close(LEND_LIST_OWNER(transport->broken.next, struct lend_ucx_link, link));
    free_closed(transport);
}

static uint32_t count_pending(struct lend_list *list)
{
    uint32_t count = 0;

    for (struct lend_list *at = list->next; at != list; at = at->next)
        count += LEND_LIST_OWNER(at, struct lend_ucx_link, link)->pending;
    return count;
}

static void work_until_none(struct lend_ucx_transport *transport, struct lend_list *list,
                            uint64_t duration_ns)
{
    uint64_t until = lend_sys->now_ns() + duration_ns;

    while (count_pending(list) > 0 && lend_sys->now_ns() < until)
        lend_ucx_progress(transport);
}

static void flush_endpoint(struct lend_ucx_link *link)
{
    const struct lend_ucx_operation how = {
        .op_attr_mask = LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA,
        .callback.send = was_closed,
        .user_data = link,
    };

    link->pending++;
    if (!lend_ucx_is_request(link->transport->door.endpoint_flush(link->endpoint, &how)))
        link->pending--;
}

void lend_ucx_links_close(struct lend_ucx_transport *transport)
{
    for (struct lend_list *at = transport->links.next, *next; at != &transport->links; at = next) {
        next = at->next;
        flush_endpoint(LEND_LIST_OWNER(at, struct lend_ucx_link, link));
    }
    work_until_none(transport, &transport->links, FLUSH_NS);
    while (!lend_list_is_empty(&transport->links))
        lend_ucx_link_break(LEND_LIST_OWNER(transport->links.next, struct lend_ucx_link, link),
                            LEND_E_CANCELED, "the agent was destroyed");
    lend_ucx_links_tidy(transport);
    work_until_none(transport, &transport->closing, CLOSE_NS);
    free_closed(transport);
}
