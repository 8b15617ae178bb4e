/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/channel.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"

#include <lend/transfer.h>

#include <stdio.h>
#include <string.h>

/* The operations of a channel to a NIXL agent: what core says, and what it is answered. */

extern const struct lend_transport_ops lend_transport_nixl;

enum { GREETING_ROOM = 512, NOTE_CREDIT_BYTES = LEND_NIXL_WINDOW_BYTES / 4 };

static struct lend_nixl_channel *channel_of(struct lend_channel *base)
{
    return (struct lend_nixl_channel *)base;
}

void lend_nixl_channel_wake(struct lend_nixl_channel *channel)
{
    if (!channel->is_closed)
        lend_session_wake(channel->base.session);
}

void lend_nixl_channel_hang_up(struct lend_nixl_channel *channel, enum lend_status status,
                               const char *reason)
{
    if (!channel->is_closed && !channel->is_broken)
        lend_session_hang_up(channel->base.session, status, reason);
    channel->is_broken = true;
}

/* --- making and ending --- */

enum lend_status lend_nixl_connect(void *transport, const uint8_t *address, size_t count,
                                   struct lend_session *session, struct lend_channel **out,
                                   struct lend_error *error)
{
    struct lend_nixl_engine *engine = transport;
    struct lend_reader reader = lend_reader_init(address, count);
    struct lend_nixl_channel *channel = lend_sys->allocate(sizeof *channel);

    if (channel == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection by nixl");
    channel->base.ops = &lend_transport_nixl;
    channel->base.session = session;
    channel->engine = engine;
    lend_list_init(&channel->notes);
    lend_list_init(&channel->reads);
    for (int i = 0; i < LEND_NIXL_CHUNKS; i++)
        lend_list_init(&channel->chunks[i].link);
    (void)lend_read_span(&reader, sizeof engine->nonce);
    lend_nixl_lock(engine);
    channel->peer = lend_nixl_peer_numbered(engine, lend_read_u64(&reader));
    if (channel->peer != NULL) {
        lend_list_append(&engine->channels, &channel->link);
        lend_nixl_engine_kick(engine);
    }
    lend_nixl_unlock(engine);
    if (channel->peer == NULL) {
        lend_sys->release(channel);
        return lend_fail(error, LEND_E_PEER_DEAD, "the address is of no NIXL agent that is known");
    }
    *out = &channel->base;
    return LEND_OK;
}

/* The helper frees it, when NIXL is done with it. */
void lend_nixl_close_channel(struct lend_channel *base, bool forked)
{
    struct lend_nixl_channel *channel = channel_of(base);
    struct lend_nixl_engine *engine = channel->engine;

    if (forked)
        return; /* it is freed with the engine's copy */
    lend_nixl_lock(engine);
    channel->is_closed = true;
    lend_nixl_engine_kick(engine);
    lend_nixl_unlock(engine);
}

/* --- what core says --- */

static size_t room_locked(struct lend_nixl_channel *channel)
{
    if (channel->is_broken)
        return 0;
    if (!channel->is_ready)
        return GREETING_ROOM;
    return lend_nixl_chunk_free(channel, false) != NULL ? LEND_FRAME_DATA_MAX
                                                        : LEND_NIXL_TAIL_BYTES;
}

size_t lend_nixl_room(struct lend_channel *base)
{
    struct lend_nixl_channel *channel = channel_of(base);

    lend_nixl_lock(channel->engine);
    size_t room = room_locked(channel);
    lend_nixl_unlock(channel->engine);
    return room;
}

static void take_note(struct lend_nixl_channel *channel, const void *bytes, size_t count)
{
    struct lend_nixl_note *note = lend_sys->allocate(sizeof *note + count);

    if (note == NULL) {
        lend_nixl_channel_hang_up(channel, LEND_E_NO_MEMORY, "no memory for a notification");
        return;
    }
    note->count = count;
    if (count > 0)
        memcpy(note->bytes, bytes, count);
    lend_list_append(&channel->notes, &note->link);
}

void lend_nixl_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                    size_t count)
{
    struct lend_nixl_channel *channel = channel_of(base);
    struct lend_frame frame;
    struct lend_error error;

    enum lend_status status = lend_frame_decode(header, &frame, &error);
    LEND_INVARIANT(status == LEND_OK && frame.payload_bytes == count);
    lend_nixl_lock(channel->engine);
    /* Of BYE and TICKET_DONE there is nobody to tell. */
    if (frame.type == LEND_FRAME_HELLO)
        channel->has_hello = true;
    else if (frame.type == LEND_FRAME_REQUEST)
        lend_nixl_request_take(channel, &frame, payload);
    else if (frame.type == LEND_FRAME_RUNS)
        lend_nixl_request_take_runs(channel, &frame, payload);
    else if (frame.type == LEND_FRAME_CANCEL)
        lend_nixl_request_cancel(channel, &frame);
    else if (frame.type == LEND_FRAME_NOTIFY)
        take_note(channel, payload, count);
    lend_nixl_engine_kick(channel->engine);
    lend_nixl_unlock(channel->engine);
}

/* A chunk for the bytes of a WRITE; NULL: they are few, and go into the tail, or to nowhere. */
static struct lend_nixl_chunk *begin_fill(struct lend_nixl_channel *channel,
                                          struct lend_nixl_request *request, size_t count)
{
    if (request == NULL || request->phase != LEND_NIXL_REQUEST_MOVE)
        return NULL;
    struct lend_nixl_chunk *chunk = lend_nixl_chunk_free(channel, false);
    if (chunk == NULL) {
        LEND_INVARIANT(count <= sizeof request->tail);
        request->tail_bytes = (uint32_t)count;
        return NULL;
    }
    lend_nixl_chunk_begin(chunk, request, count);
    chunk->phase = LEND_NIXL_CHUNK_FILLING;
    return chunk;
}

void lend_nixl_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                         size_t count)
{
    struct lend_nixl_channel *channel = channel_of(base);
    struct lend_frame frame;
    struct lend_error error;

    enum lend_status status = lend_frame_decode(header, &frame, &error);
    LEND_INVARIANT(status == LEND_OK && frame.payload_bytes == count);
    lend_nixl_lock(channel->engine);
    struct lend_nixl_request *request = lend_nixl_request_find(channel, frame.request);
    struct lend_nixl_chunk *chunk = begin_fill(channel, request, count);
    if (chunk == NULL && request != NULL && request->tail_bytes > 0)
        lend_cursor_gather(from, request->tail, count);
    else if (chunk == NULL)
        lend_cursor_skip(from, count);
    lend_nixl_unlock(channel->engine);
    if (chunk == NULL)
        return;

    lend_cursor_gather(from, chunk->memory, count);
    lend_nixl_lock(channel->engine);
    chunk->phase = LEND_NIXL_CHUNK_READY;
    if (chunk->request->phase == LEND_NIXL_REQUEST_ENDED || channel->is_broken)
        lend_nixl_chunk_end(chunk);
    lend_nixl_engine_kick(channel->engine);
    lend_nixl_unlock(channel->engine);
}

void lend_nixl_flush(struct lend_channel *base)
{
    (void)base; /* everything is on its way already */
}

/* --- what it is answered --- */

static void answer(struct lend_nixl_channel *channel, enum lend_frame_type type, uint64_t request,
                   size_t count)
{
    const struct lend_frame frame = {
        .type = (uint8_t)type,
        .payload_bytes = (uint32_t)count,
        .sequence = channel->sequence++,
        .request = request,
    };

    channel->answer.is_there = true;
    lend_frame_encode(&frame, type == LEND_FRAME_DATA ? NULL : channel->answer.payload,
                      channel->answer.header);
}

static void answer_welcome(struct lend_nixl_channel *channel)
{
    struct lend_welcome welcome = {
        .version = LEND_PROTOCOL_VERSION,
        .requests_max = LEND_NIXL_REQUESTS,
        .notification_window_bytes = LEND_NIXL_WINDOW_BYTES,
    };

    memcpy(welcome.incarnation, channel->peer->identity.incarnation, sizeof welcome.incarnation);
    channel->has_welcomed = true;
    answer(channel, LEND_FRAME_WELCOME, 0,
           lend_welcome_encode(&welcome, channel->answer.payload, LEND_NIXL_ANSWER_BYTES));
}

static bool answer_data(struct lend_nixl_channel *channel)
{
    if (lend_list_is_empty(&channel->reads))
        return false;
    struct lend_nixl_chunk *chunk =
        LEND_LIST_OWNER(channel->reads.next, struct lend_nixl_chunk, link);
    if (chunk->phase != LEND_NIXL_CHUNK_LANDED)
        return false;
    channel->answer.chunk = chunk;
    channel->answer.taken = 0;
    answer(channel, LEND_FRAME_DATA, chunk->request->id, chunk->bytes);
    return true;
}

static bool answer_done(struct lend_nixl_channel *channel)
{
    for (int i = 0; i < LEND_NIXL_REQUESTS; i++) {
        struct lend_nixl_request *request = &channel->requests[i];

        if (request->phase != LEND_NIXL_REQUEST_ENDED || !lend_nixl_request_is_quiet(request))
            continue;
        bool is_read = request->asked.direction == LEND_READ;
        struct lend_verdict verdict = {.status = request->verdict.status};

        /* Chunks of a WRITE end in any order, so that nothing leading is proven before all is. */
        if (is_read || verdict.status == LEND_OK)
            verdict.bytes = request->moved_bytes;
        (void)snprintf(verdict.text, sizeof verdict.text, "%.*s", LEND_MESSAGE_TEXT_MAX,
                       request->verdict.message);
        answer(channel, LEND_FRAME_DONE, request->id,
               lend_verdict_encode(&verdict, channel->answer.payload, LEND_NIXL_ANSWER_BYTES));
        lend_nixl_request_free(request);
        return true;
    }
    return false;
}

static bool answer_credit(struct lend_nixl_channel *channel)
{
    if (channel->noted - channel->credited < NOTE_CREDIT_BYTES)
        return false;
    channel->credited = channel->noted;
    answer(channel, LEND_FRAME_CREDIT, 0,
           lend_credit_encode(channel->noted, channel->answer.payload, LEND_NIXL_ANSWER_BYTES));
    return true;
}

/* Is there a frame for core? */
static bool has_answer(struct lend_nixl_channel *channel)
{
    if (channel->answer.is_there)
        return true;
    if (!channel->has_welcomed) {
        if (!channel->has_hello || !channel->is_ready)
            return false;
        answer_welcome(channel);
        return true;
    }
    return answer_data(channel) || answer_done(channel) || answer_credit(channel);
}

enum lend_status lend_nixl_peek(struct lend_channel *base, uint8_t *header,
                                struct lend_error *error)
{
    struct lend_nixl_channel *channel = channel_of(base);

    (void)error;
    lend_nixl_lock(channel->engine);
    bool is_there = has_answer(channel);
    if (is_there)
        memcpy(header, channel->answer.header, LEND_FRAME_HEADER_BYTES);
    lend_nixl_unlock(channel->engine);
    return is_there ? LEND_OK : LEND_PENDING;
}

enum lend_status lend_nixl_take(struct lend_channel *base, void *payload, size_t count,
                                struct lend_error *error)
{
    struct lend_nixl_channel *channel = channel_of(base);

    (void)error;
    lend_nixl_lock(channel->engine);
    LEND_INVARIANT(channel->answer.is_there && count <= sizeof channel->answer.payload);
    memcpy(payload, channel->answer.payload, count);
    channel->answer.is_there = false;
    lend_nixl_unlock(channel->engine);
    return LEND_OK;
}

size_t lend_nixl_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                           size_t total)
{
    struct lend_nixl_channel *channel = channel_of(base);
    struct lend_nixl_answer *given = &channel->answer;
    struct lend_nixl_chunk *chunk = given->chunk;
    size_t left = total - given->taken;

    /* Ours until it is taken: nobody else touches a chunk that has landed, and is answered with. */
    count = count < left ? count : left;
    if (to != NULL)
        lend_cursor_scatter(to, chunk->memory + given->taken, count);
    given->taken += count;
    if (given->taken < total)
        return count;

    lend_nixl_lock(channel->engine);
    struct lend_nixl_request *request = chunk->request;
    given->is_there = false;
    given->chunk = NULL;
    lend_nixl_chunk_end(chunk);
    request->moved_bytes += total;
    if (request->moved_bytes == request->asked.total_bytes)
        lend_nixl_request_end(channel, request, NULL);
    lend_nixl_engine_kick(channel->engine); /* there is a chunk free */
    lend_nixl_unlock(channel->engine);
    return count;
}

bool lend_nixl_sleep(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct lend_nixl_channel *channel = channel_of(base);

    lend_nixl_lock(channel->engine);
    bool sleeps =
        !has_answer(channel) && !(wants_room && room_locked(channel) >= (wanted > 0 ? wanted : 1));
    lend_nixl_unlock(channel->engine);
    return sleeps;
}

void lend_nixl_awake(struct lend_channel *base)
{
    (void)base; /* one wake more does no harm */
}
