/* SPDX-License-Identifier: Apache-2.0 */
#include "core/client_state.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/opened.h"
#include "core/rail.h"
#include "core/stage.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    DATA_BYTES_LEAST = 16 << 10, /* smaller frames wait for room, unless they end the request */
    POST_BYTES_MAX = 64 << 10,   /* that a post copies by itself; and what a step does */
    STEP_BYTES_MAX = 256 << 10,
};

/* --- the greeting --- */

static bool say_hello(struct lend_client *client)
{
    struct lend_hello hello = {
        .version_min = LEND_PROTOCOL_VERSION,
        .version_max = LEND_PROTOCOL_VERSION,
    };
    uint8_t bytes[256];

    memcpy(hello.name, client->session.agent->name, sizeof hello.name);
    memcpy(hello.incarnation, client->session.agent->incarnation, sizeof hello.incarnation);
    memcpy(hello.wanted, client->peer->incarnation, sizeof hello.wanted);
    size_t count = lend_hello_encode(&hello, bytes, sizeof bytes);
    assert(count <= sizeof bytes);
    client->has_said_hello = lend_session_send(&client->session, LEND_FRAME_HELLO, 0, bytes, count);
    return client->has_said_hello;
}

static enum lend_status take_welcome(struct lend_client *client, const struct lend_frame *frame,
                                     const uint8_t *payload, struct lend_error *error)
{
    struct lend_welcome welcome;

    enum lend_status status = lend_welcome_decode(payload, frame->payload_bytes, &welcome, error);
    if (status != LEND_OK)
        return status;
    if (client->session.is_welcome)
        return lend_fail(error, LEND_E_CORRUPT, "a second welcome");
    if (welcome.version != LEND_PROTOCOL_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "the peer chose version %u of the protocol, we speak %d", welcome.version,
                         LEND_PROTOCOL_VERSION);
    if (memcmp(welcome.incarnation, client->peer->incarnation, LEND_INCARNATION_BYTES) != 0)
        return lend_fail(error, LEND_E_PEER_DEAD,
                         "another incarnation of %s answers: it restarted; import its new metadata",
                         client->peer->name);
    client->requests_max =
        welcome.requests_max < LEND_CLIENT_SLOTS_MAX ? welcome.requests_max : LEND_CLIENT_SLOTS_MAX;
    client->outbox.window = welcome.notification_window_bytes;
    client->session.is_welcome = true;
    atomic_store(&client->peer->lost, LEND_OK);
    lend_agent_announce(client->session.agent);
    return LEND_OK;
}

/* --- slots --- */

static struct lend_client_slot *find_slot(struct lend_client *client, uint64_t request)
{
    for (uint32_t i = 0; request != 0 && i < client->requests_max; i++)
        if (client->slots[i].request == request)
            return &client->slots[i];
    return NULL;
}

static bool is_large(const struct lend_transfer *transfer)
{
    return transfer->window.bytes > LEND_WINDOW_SMALL_BYTES;
}

/* Do bytes go from us to the peer? Checksums of a WRITE come from it. */
static bool sends_bytes(const struct lend_transfer *transfer)
{
    return transfer->direction == LEND_WRITE && !transfer->is_summing;
}

static void begin_request(struct lend_client *client, struct lend_client_slot *slot,
                          struct lend_transfer *transfer)
{
    *slot = (struct lend_client_slot){
        .request = ++client->next_request,
        .transfer = transfer,
        .is_large = is_large(transfer),
        .bytes_left = lend_transfer_window_moves(transfer),
        .staged_left = lend_transfer_window_moves(transfer),
    };
    client->busy_count++;
    client->large_count += slot->is_large;
}

static void queue(struct lend_client *client, struct lend_transfer *transfer)
{
    lend_list_append(&client->waiting[is_large(transfer)], &transfer->session_link);
}

/* Large requests leave a quarter of the slots to small ones, and one at least, if there are two. */
static uint32_t large_max(const struct lend_client *client)
{
    uint32_t kept = client->requests_max / 4;

    if (kept == 0 && client->requests_max > 1)
        kept = 1;
    return client->requests_max - kept;
}

/* Who is next to have a slot; NULL: nobody may. Where both kinds wait they take turns, so that no
 * stream of either keeps out the other. */
static struct lend_transfer *take_waiting(struct lend_client *client)
{
    bool small = !lend_list_is_empty(&client->waiting[false]);
    bool large =
        !lend_list_is_empty(&client->waiting[true]) && client->large_count < large_max(client);

    if (!small && !large)
        return NULL;
    bool takes_large = large && (!small || client->prefers_large);
    client->prefers_large = !takes_large;
    return LEND_LIST_OWNER(lend_list_take_first(&client->waiting[takes_large]),
                           struct lend_transfer, session_link);
}

static void assign_slots(struct lend_client *client)
{
    for (uint32_t i = 0; i < client->requests_max && client->busy_count < client->requests_max;
         i++) {
        if (client->slots[i].request != 0)
            continue;
        struct lend_transfer *transfer = take_waiting(client);
        if (transfer == NULL)
            break;
        begin_request(client, &client->slots[i], transfer);
    }
}

/* --- asking --- */

static bool send_request(struct lend_client *client, struct lend_client_slot *slot)
{
    const struct lend_transfer *transfer = slot->transfer;
    const struct lend_transfer_window *window = &transfer->window;
    uint8_t bytes[LEND_FRAME_MESSAGE_MAX];
    const struct lend_request request = {
        .direction = (uint8_t)transfer->direction,
        .has_ranges = transfer->has_ranges,
        .wants_sums = transfer->is_summing,
        .lease = transfer->lease,
        .slice_offset_bytes = transfer->remote_slice.offset_bytes,
        .slice_length_bytes = transfer->remote_slice.length_bytes,
        .run_count = window->run_count,
        .total_bytes = window->bytes,
        .region_count = (uint32_t)window->region_count,
    };

    /* Numbered anew where it leaves: slots have their turns, and the server wants ascending
     * numbers. */
    slot->request = ++client->next_request;
    size_t count = lend_request_encode(
        &request, transfer->has_ranges ? NULL : transfer->remotes + window->region, bytes,
        sizeof bytes);
    LEND_INVARIANT(count <= sizeof bytes);
    slot->is_asked =
        lend_session_send(&client->session, LEND_FRAME_REQUEST, slot->request, bytes, count);
    return slot->is_asked;
}

static bool send_runs(struct lend_client *client, struct lend_client_slot *slot)
{
    const struct lend_transfer *transfer = slot->transfer;
    const struct lend_transfer_window *window = &transfer->window;
    size_t each = transfer->has_ranges ? LEND_RUN_RANGE_BYTES : LEND_RUN_BYTES;
    size_t most = lend_session_message_max(&client->session) / each;
    uint8_t bytes[LEND_FRAME_CONTROL_MAX];

    while (slot->runs_sent < window->run_count) {
        uint64_t left = window->run_count - slot->runs_sent;
        size_t count = left < most ? (size_t)left : most;
        uint64_t first = window->run + slot->runs_sent;

        if (transfer->has_ranges)
            lend_run_ranges_encode(transfer->ranges + first, count, bytes);
        else
            lend_runs_encode(transfer->remote_runs + first, count, bytes);
        if (!lend_session_send(&client->session, LEND_FRAME_RUNS, slot->request, bytes,
                               count * each))
            return false;
        slot->runs_sent += count;
    }
    return true;
}

/* Send bytes of a WRITE that stand in a cell, one frame at most. */
static bool send_cell(struct lend_client *client, struct lend_client_slot *slot,
                      struct lend_cell *cell)
{
    size_t count = (size_t)(cell->count - cell->sent);
    size_t least = count < DATA_BYTES_LEAST ? count : DATA_BYTES_LEAST;
    size_t room = lend_session_room(&client->session);

    if (room < least) {
        client->session.wanted_room = least;
        return false;
    }
    count = count < room ? count : room;
    lend_cell_send(cell, &client->session, slot->request, count);
    slot->bytes_left -= count;
    client->has_copied = true;
    return true;
}

/* The stage's part of a slot: of a READ, see that what landed is right; of a WRITE, send it, and
 * let the GPU fetch more. */
static bool pump_stage(struct lend_client *client, struct lend_client_slot *slot)
{
    struct lend_stage *stage = client->session.stage;
    bool is_write = sends_bytes(slot->transfer), moved = false;
    struct lend_cell *cell;

    while ((cell = lend_stage_first(stage, slot)) != NULL && lend_cell_has_landed(cell) &&
           !client->has_copied) {
        if (lend_cell_judge(cell) != LEND_OK) {
            const struct lend_error why = cell->error;

            lend_client_fail_slot(client, slot, &why);
            return true;
        }
        if (is_write && !send_cell(client, slot, cell))
            break;
        if (!is_write)
            lend_cell_free(cell);
        moved = true;
    }
    while (is_write && slot->staged_left > 0 &&
           (cell = lend_stage_take(stage, slot, false)) != NULL) {
        uint64_t count = lend_stage_reach(&slot->transfer->local, slot->staged_left);

        lend_cell_fill(stage, cell, &slot->transfer->local, count, NULL);
        slot->staged_left -= count;
        moved = true;
    }
    return moved;
}

/* Is our side's memory a GPU's, and it is bytes of that which move? */
static bool is_staged(const struct lend_transfer *transfer)
{
    return transfer->lane != NULL && !transfer->is_summing;
}

/* Make the stage for a slot, if it needs one. False: it cannot be, and the transfer has ended. */
static bool open_stage(struct lend_client *client, struct lend_client_slot *slot)
{
    struct lend_error why;

    if (!is_staged(slot->transfer) ||
        lend_stage_open(&client->session, slot->transfer->lane, &why) == LEND_OK)
        return true;
    lend_client_fail_slot(client, slot, &why);
    return false;
}

/* Send the bytes of a WRITE, one frame at most. */
static bool send_bytes(struct lend_client *client, struct lend_client_slot *slot)
{
    struct lend_transfer *transfer = slot->transfer;
    size_t room = lend_session_room(&client->session);
    size_t most = client->session.is_posting ? POST_BYTES_MAX : LEND_FRAME_DATA_MAX;
    size_t count = slot->bytes_left < most ? (size_t)slot->bytes_left : most;
    size_t least = count < DATA_BYTES_LEAST ? count : DATA_BYTES_LEAST;

    if (room < least) {
        client->session.wanted_room = least;
        return false;
    }
    count = count < room ? count : room;
    lend_session_send_data(&client->session, slot->request, &transfer->local, count);
    slot->bytes_left -= count;
    client->has_copied = true;
    return true;
}

static bool pump_slot(struct lend_client *client, struct lend_client_slot *slot)
{
    bool moved = false;

    if (slot->request == 0)
        return false;
    if (slot->wants_cancel && slot->is_asked) {
        slot->wants_cancel =
            !lend_session_send(&client->session, LEND_FRAME_CANCEL, slot->request, NULL, 0);
        return !slot->wants_cancel;
    }
    if (slot->transfer == NULL || slot->transfer->is_canceled || slot->severed != LEND_OK)
        return false;
    if (!slot->is_asked) {
        if (!open_stage(client, slot))
            return true;
        if (!send_request(client, slot))
            return false;
        moved = true;
    }
    if (slot->runs_sent < slot->transfer->window.run_count) {
        uint64_t before = slot->runs_sent;

        if (!send_runs(client, slot))
            return moved || slot->runs_sent > before;
        moved = true;
    }
    if (is_staged(slot->transfer))
        return pump_stage(client, slot) || moved;
    if (sends_bytes(slot->transfer) && slot->bytes_left > 0)
        moved |= send_bytes(client, slot);
    return moved;
}

/* --- pumping --- */

/* Send every transfer that has come its way; one whose way is not known yet stays, in its order. */
static void sort_arrivals(struct lend_client *client)
{
    struct lend_list staying;

    lend_list_init(&staying);
    for (struct lend_list *link; (link = lend_list_take_first(&client->arriving)) != NULL;) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);
        enum lend_status status = lend_onesided_take(&client->own, transfer);

        if (status == LEND_PENDING)
            lend_list_append(&staying, link);
        else if (status == LEND_E_NO_PATH)
            queue(client, transfer);
    }
    for (struct lend_list *link; (link = lend_list_take_first(&staying)) != NULL;)
        lend_list_append(&client->arriving, link);
}

static bool pump(struct lend_session *session)
{
    struct lend_client *client = lend_client_of(session);
    bool moved = client->severed_count > 0 && lend_client_end_severed(client);

    if (!client->has_said_hello)
        return say_hello(client);
    if (!session->is_welcome)
        return false;

    lend_rail_begin(session, client->peer);
    moved |= lend_rail_pump(session);
    if (lend_rail_is_behind(session))
        return moved; /* what comes behind a WRITE that broke is not to overtake the word of that */
    moved |= lend_outbox_pump(&client->outbox);
    sort_arrivals(client);
    moved |=
        lend_onesided_pump(&client->own, session->is_posting ? POST_BYTES_MAX : STEP_BYTES_MAX);
    assign_slots(client);
    if (client->busy_count == 0) {
        client->turn = 0; /* the next one has the first slot, and is found at once */
        return moved;
    }
    /* One frame of data at most: a post pumps too, and is to copy no more than that itself. Whoever
     * sent it is the last at the next pump. */
    uint32_t first = client->turn, left = client->busy_count;
    for (uint32_t i = 0; i < client->requests_max && left > 0 && !client->has_copied; i++) {
        uint32_t at = (first + i) % client->requests_max;

        left -= client->slots[at].request != 0;
        moved |= pump_slot(client, &client->slots[at]);
        if (client->has_copied)
            client->turn = (at + 1) % client->requests_max;
    }
    client->has_copied = false;
    return moved;
}

bool lend_client_has_more(const struct lend_session *session)
{
    const struct lend_client *client = (const struct lend_client *)session;

    if (session->wanted_room > 0 || lend_onesided_has_more(&client->own))
        return true;
    if (client->busy_count == 0 || !session->is_welcome)
        return false;
    uint32_t left = client->busy_count;
    for (uint32_t i = 0; i < client->requests_max && left > 0; i++) {
        const struct lend_client_slot *slot = &client->slots[i];
        const struct lend_transfer *transfer = slot->transfer;

        left -= slot->request != 0;
        if (slot->wants_cancel ||
            (transfer != NULL && !transfer->is_canceled && slot->severed == LEND_OK &&
             (!slot->is_asked || slot->runs_sent < transfer->window.run_count ||
              (sends_bytes(transfer) && slot->bytes_left > 0))))
            return true;
    }
    return false;
}

struct lend_outbox *lend_client_outbox(struct lend_session *session)
{
    return &lend_client_of(session)->outbox;
}

struct lend_onesided *lend_client_onesided(struct lend_session *session)
{
    return &lend_client_of(session)->own;
}

/* --- ends of transfers --- */

static void succeed(struct lend_client *client, struct lend_transfer *transfer)
{
    if (lend_transfer_begin_sums(transfer)) {
        queue(client, transfer);
        return;
    }
    if (!transfer->has_notification) {
        lend_transfer_complete(transfer, LEND_OK, NULL);
        return;
    }
    lend_outbox_queue(&client->outbox, &transfer->notification);
    (void)lend_outbox_pump(&client->outbox);
}

/* May a request have ended like that, by its owner's word? */
static bool is_end_of_request(const struct lend_transfer *transfer, int32_t status)
{
    if (status == LEND_E_CANCELED)
        return transfer->is_canceled;
    return status == LEND_OK || status == LEND_E_NO_MEMORY || status == LEND_E_UNSUPPORTED ||
           status == LEND_E_LIMIT || status == LEND_E_DEVICE ||
           (status <= LEND_E_UNKNOWN && status >= LEND_E_PEER_DEAD);
}

/* Does a DONE say what cannot be: an end that no request has, or more bytes than have moved? */
static enum lend_status check_done(const struct lend_transfer *transfer, uint64_t bytes_left,
                                   const struct lend_verdict *verdict, struct lend_error *error)
{
    uint64_t moved = lend_transfer_window_moves(transfer) - bytes_left;

    if (verdict->status == LEND_OK && bytes_left > 0)
        return lend_fail(error, LEND_E_CORRUPT, "DONE with %llu bytes of a request to come",
                         (unsigned long long)bytes_left);
    if (!is_end_of_request(transfer, verdict->status))
        return lend_fail(error, LEND_E_CORRUPT, "DONE with status %d, which no request has",
                         verdict->status);
    if (verdict->bytes > moved)
        return lend_fail(error, LEND_E_CORRUPT,
                         "DONE after %llu bytes of a request, and %llu moved",
                         (unsigned long long)verdict->bytes, (unsigned long long)moved);
    return LEND_OK;
}

static enum lend_status take_done(struct lend_client *client, const struct lend_frame *frame,
                                  const uint8_t *payload, struct lend_error *error)
{
    struct lend_client_slot *slot = find_slot(client, frame->request);
    struct lend_verdict verdict;
    struct lend_error why;

    enum lend_status status = lend_verdict_decode(payload, frame->payload_bytes, &verdict, error);
    if (status != LEND_OK)
        return status;
    if (slot == NULL || !slot->is_asked)
        return lend_fail(error, LEND_E_CORRUPT, "DONE for request %llu, which is not under way",
                         (unsigned long long)frame->request);

    bool is_early = lend_stage_is_flying(client->session.stage, slot); /* a WRITE, that failed */
    if (slot->severed != LEND_OK && !is_early) /* what was landing has landed, or this would not */
        lend_client_end_slot(client, slot);    /* be here */

    struct lend_transfer *transfer = slot->transfer;
    if (transfer != NULL) {
        /* Told while the slot has it: what breaks the session ends it. */
        status = check_done(transfer, slot->bytes_left, &verdict, error);
        if (status != LEND_OK)
            return status;
    }
    if (verdict.status != LEND_OK)
        (void)lend_fail(&why, (enum lend_status)verdict.status, "%s", verdict.text);
    if (transfer != NULL && verdict.status != LEND_OK && !transfer->is_summing)
        transfer->proven_bytes += verdict.bytes;
    if (is_early) {
        lend_client_answer_early(client, slot, &why);
        return LEND_OK;
    }
    lend_client_free_slot(client, slot);
    if (transfer == NULL)
        return LEND_OK;
    if (verdict.status != LEND_OK) {
        lend_client_fail_transfer(client, transfer, &why);
        return LEND_OK;
    }
    if (transfer->is_summing && lend_transfer_check_sums(transfer, &why) != LEND_OK) {
        lend_client_fail_transfer(client, transfer, &why);
        return LEND_OK;
    }
    transfer->proven_bytes += transfer->is_summing ? 0 : transfer->window.bytes;
    if (!lend_transfer_next_window(transfer)) {
        succeed(client, transfer);
    } else if (transfer->is_canceled) {
        (void)lend_fail(&why, LEND_E_CANCELED, "canceled");
        lend_client_fail_transfer(client, transfer, &why);
    } else {
        queue(client, transfer);
    }
    return LEND_OK;
}

void lend_client_submit(struct lend_session *session, struct lend_transfer *transfer)
{
    lend_list_append(&lend_client_of(session)->arriving, &transfer->session_link);
}

void lend_client_serve(struct lend_session *session, struct lend_transfer *transfer)
{
    queue(lend_client_of(session), transfer);
}

void lend_client_succeed(struct lend_session *session, struct lend_transfer *transfer)
{
    succeed(lend_client_of(session), transfer);
}

void lend_client_fail(struct lend_session *session, struct lend_transfer *transfer,
                      const struct lend_error *why)
{
    lend_client_fail_transfer(lend_client_of(session), transfer, why);
}

/* --- the role --- */

/* What a peer may give as the cause of its hanging up; how transfers ended it says elsewhere. */
static enum lend_status cause_of_bye(int32_t status)
{
    switch (status) {
    case LEND_E_NO_MEMORY:
    case LEND_E_LIMIT:
    case LEND_E_ACCESS:
    case LEND_E_VERSION: return (enum lend_status)status;
    default: return LEND_E_PEER_DEAD;
    }
}

static enum lend_status take_bye(const struct lend_frame *frame, const uint8_t *payload,
                                 struct lend_error *error)
{
    struct lend_verdict verdict;

    enum lend_status status = lend_verdict_decode(payload, frame->payload_bytes, &verdict, error);
    if (status != LEND_OK)
        return status;
    return lend_fail(error, cause_of_bye(verdict.status), "the peer hung up: %s", verdict.text);
}

static enum lend_status control(struct lend_session *session, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error)
{
    struct lend_client *client = lend_client_of(session);

    if (frame->type == LEND_FRAME_WELCOME)
        return take_welcome(client, frame, payload, error);
    if (frame->type == LEND_FRAME_BYE)
        return take_bye(frame, payload, error);
    if (!session->is_welcome)
        return lend_fail(error, LEND_E_CORRUPT, "frame type %u before a welcome", frame->type);
    if (frame->type == LEND_FRAME_DONE)
        return take_done(client, frame, payload, error);
    if (frame->type == LEND_FRAME_CREDIT)
        return lend_outbox_credit(&client->outbox, frame, payload, error);
    if (frame->type == LEND_FRAME_VIEW)
        return lend_onesided_view(&client->own, frame, payload, error);
    if (frame->type == LEND_FRAME_RAIL)
        return lend_rail_take(session, payload, frame->payload_bytes, error);
    return lend_fail(error, LEND_E_CORRUPT, "frame type %u from a server", frame->type);
}

/* Take bytes of a READ into a cell, and let the GPU fetch them there. */
static size_t take_staged(struct lend_client *client, struct lend_client_slot *slot, size_t count)
{
    struct lend_session *session = &client->session;
    struct lend_cursor *to = &slot->transfer->local;
    struct lend_cell *cell = lend_stage_take(session->stage, slot, true);

    if (cell == NULL)
        return 0;
    uint64_t reach = lend_stage_reach(to, count);
    size_t taken = session->channel->ops->take_data(session->channel, &cell->cursor, (size_t)reach,
                                                    session->frame.payload_bytes);
    slot->bytes_left -= taken;
    if (taken > 0)
        lend_cell_spill(session->stage, cell, to, taken, NULL);
    else
        lend_cell_free(cell);
    return taken;
}

static enum lend_status data(struct lend_session *session, size_t count, size_t *out_taken,
                             struct lend_error *error)
{
    struct lend_client *client = lend_client_of(session);
    const struct lend_frame *frame = &session->frame;
    const struct lend_channel *channel = session->channel;
    struct lend_client_slot *slot = find_slot(client, frame->request);
    struct lend_cursor *to = NULL;

    if (slot == NULL || !slot->is_asked || count > slot->bytes_left ||
        (slot->transfer != NULL && sends_bytes(slot->transfer)))
        return lend_fail(error, LEND_E_CORRUPT, "%zu bytes for request %llu, which awaits %llu",
                         count, (unsigned long long)frame->request,
                         slot != NULL ? (unsigned long long)slot->bytes_left : 0ull);
    if (slot->transfer != NULL && slot->severed == LEND_OK && is_staged(slot->transfer)) {
        *out_taken = take_staged(client, slot, count);
        return LEND_OK;
    }
    if (slot->transfer != NULL && slot->severed == LEND_OK)
        to = slot->transfer->is_summing ? &slot->transfer->sum_cursor : &slot->transfer->local;
    *out_taken = channel->ops->take_data(session->channel, to, count, frame->payload_bytes);
    slot->bytes_left -= *out_taken;
    if (to != NULL)
        slot->quiet_at = channel->begun;
    return LEND_OK;
}

static void fail_listed(struct lend_client *client, struct lend_list *list,
                        const struct lend_error *why)
{
    for (struct lend_list *link; (link = lend_list_take_first(list)) != NULL;)
        lend_client_fail_transfer(client, LEND_LIST_OWNER(link, struct lend_transfer, session_link),
                                  why);
}

static void die(struct lend_session *session)
{
    struct lend_client *client = lend_client_of(session);
    struct lend_error why = session->why, no_word = why;
    bool is_quiet = lend_session_halt(session);

    is_quiet &= lend_stage_halt(session->stage);
    lend_rail_halt(session);
    (void)lend_opened_halt(&client->own);
    if (why.status != LEND_E_CANCELED)
        atomic_store(&client->peer->lost, why.status);
    else /* CANCELED is quiet, and of a WRITE only the peer could say that */
        (void)lend_fail(&no_word, LEND_E_PEER_DEAD, "%.180s before it said that the write is over",
                        why.message);
    for (struct lend_list *link; (link = lend_list_take_first(&client->arriving)) != NULL;) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);

        /* It may have been written by a rail that broke just now. */
        lend_client_fail_transfer(
            client, transfer,
            transfer->direction == LEND_WRITE && transfer->rail_tries > 0 ? &no_word : &why);
    }
    fail_listed(client, &client->waiting[false], &why);
    fail_listed(client, &client->waiting[true], &why);
    while (!lend_list_is_empty(&client->own.all)) {
        struct lend_transfer *transfer =
            LEND_LIST_OWNER(client->own.all.next, struct lend_transfer, own_link);

        if (transfer->is_flying) { /* for ever, as far as is known */
            lend_list_remove(&transfer->own_link);
            lend_list_remove(&transfer->session_link);
            continue;
        }
        lend_onesided_drop(&client->own, transfer);
        /* Who is dead may have died before the last of them. */
        transfer->proven_bytes = 0;
        lend_client_fail_transfer(client, transfer,
                                  transfer->direction == LEND_WRITE ? &no_word : &why);
    }
    lend_onesided_fini(&client->own);
    for (uint32_t i = 0; i < client->requests_max; i++) {
        const struct lend_client_slot slot = client->slots[i];

        if (slot.transfer != NULL && !is_quiet && lend_client_is_landing(client, &client->slots[i]))
            continue; /* for ever, as its memory is not ours to call quiet */
        if (slot.severed != LEND_OK)
            lend_client_end_slot(client, &client->slots[i]);
        lend_stage_drop(session->stage, &client->slots[i]);
        client->slots[i] = (struct lend_client_slot){0};
        if (slot.transfer != NULL && slot.severed == LEND_OK)
            lend_client_fail_transfer(
                client, slot.transfer,
                slot.is_asked && slot.transfer->direction == LEND_WRITE ? &no_word : &why);
    }
    for (struct lend_list *link; (link = lend_list_take_first(&client->outbox.waiting)) != NULL;) {
        struct lend_outgoing *outgoing = LEND_LIST_OWNER(link, struct lend_outgoing, link);

        if (outgoing->transfer != NULL)
            lend_client_fail_transfer(client, outgoing->transfer, &why);
        else
            lend_sys->release(outgoing);
    }
    lend_agent_announce(session->agent);
}

static void buried(struct lend_session *session)
{
    lend_peer_lose(lend_client_of(session)->peer, session);
}

static void fini(struct lend_session *session)
{
    lend_peer_release(lend_client_of(session)->peer);
}

static bool diverts(struct lend_session *session, const struct lend_error *why)
{
    return lend_dial_goes_on(&lend_client_of(session)->dial, why);
}

static struct lend_channel *divert(struct lend_session *session, struct lend_error *error)
{
    struct lend_client *client = lend_client_of(session);
    struct lend_channel *channel = NULL;

    client->has_said_hello = false;
    client->dial.reach++;
    return lend_dial(&client->dial, session, &channel, error) == LEND_OK ? channel : NULL;
}

static const struct lend_session_role role = {
    .bytes = sizeof(struct lend_client),
    .is_client = true,
    .control = control,
    .data = data,
    .pump = pump,
    .timers = lend_client_timers,
    .die = die,
    .diverts = diverts,
    .divert = divert,
    .buried = buried,
    .fini = fini,
};

enum lend_status lend_client_connect(struct lend_peer *peer, struct lend_session **out,
                                     struct lend_error *error)
{
    struct lend_agent *agent = peer->agent;
    struct lend_session *session = lend_session_create(agent, &role, lend_peer_secret(peer));

    if (session == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection to %s", peer->name);

    struct lend_client *client = lend_client_of(session);
    lend_list_init(&client->waiting[false]);
    lend_list_init(&client->waiting[true]);
    lend_list_init(&client->arriving);
    lend_onesided_init(&client->own, session, peer);
    lend_outbox_init(&client->outbox, session, agent->config.notification_window_bytes);
    client->peer = peer;
    lend_peer_retain(peer);

    struct lend_channel *channel = NULL;
    client->dial.peer = peer;
    enum lend_status status = lend_dial(&client->dial, session, &channel, error);
    if (status != LEND_OK) {
        lend_session_release(session);
        return status;
    }
    lend_session_begin(session, channel);
    *out = session;
    return LEND_OK;
}
