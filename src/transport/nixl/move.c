/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/channel.h"

#include "base/error.h"
#include "base/sys.h"

#include <lend/transfer.h>

#include <stdio.h>
#include <string.h>

/*
 * The helper's side of channels: chunks and notifications, to and from NIXL.
 *
 * A request of NIXL's is released only when it is over. One that was not may go on for as long as
 * the NIXL agent lives, whatever releasing it says: so the slab in which its bytes are, or are to
 * land, is not used again in this life.
 */

enum { PIECES_MAX = 512 };

/* --- flights: on the helper, under no lock --- */

static void end_flight(struct lend_nixl_engine *engine, struct lend_nixl_chunk *chunk)
{
    const struct lend_nixl_ops *door = &engine->door;

    if (chunk->flight != NULL) {
        (void)door->request_release(engine->nixl, chunk->flight);
        (void)door->request_destroy(chunk->flight);
    }
    if (chunk->local != NULL)
        (void)door->list_destroy(chunk->local);
    if (chunk->remote != NULL)
        (void)door->list_destroy(chunk->remote);
    chunk->flight = chunk->local = chunk->remote = NULL;
}

/* Two lists, of the next pieces of a chunk. */
static lend_nixl_result list_pieces(struct lend_nixl_engine *engine, struct lend_nixl_chunk *chunk)
{
    const struct lend_nixl_ops *door = &engine->door;
    struct iovec pieces[PIECES_MAX];
    uint8_t *at = chunk->memory + chunk->flown;

    uint32_t count =
        lend_cursor_pieces(&chunk->cursor, chunk->bytes - chunk->flown, pieces, PIECES_MAX);
    lend_nixl_result result = door->list_create(LEND_NIXL_MEMORY_DRAM, &chunk->local);
    if (result == LEND_NIXL_OK)
        result = door->list_create(LEND_NIXL_MEMORY_DRAM, &chunk->remote);
    for (uint32_t i = 0; result == LEND_NIXL_OK && i < count; i++) {
        size_t length = pieces[i].iov_len;

        result = door->list_add(chunk->local, (uintptr_t)at, length, 0);
        if (result == LEND_NIXL_OK)
            result = door->list_add(chunk->remote, (uintptr_t)pieces[i].iov_base, length, 0);
        at += length;
    }
    chunk->flying = (size_t)(at - (chunk->memory + chunk->flown));
    return result;
}

/* NIXL makes no request of it, which may have one of two reasons: LEND_E_PEER_DEAD, or that the
 * peer has no such memory. */
static enum lend_status explain_refusal(struct lend_nixl_channel *channel,
                                        struct lend_nixl_chunk *chunk, lend_nixl_result result,
                                        struct lend_error *error)
{
    struct lend_nixl_engine *engine = channel->engine;

    if (engine->door.metadata_check(engine->nixl, channel->peer->name, NULL) != LEND_NIXL_OK)
        return lend_fail(error, LEND_E_PEER_DEAD, "NIXL knows agent %s no more",
                         channel->peer->identity.name);
    if (engine->door.metadata_check(engine->nixl, channel->peer->name, chunk->remote) !=
        LEND_NIXL_OK)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "agent %s has registered no memory of kind DRAM that has all of a range "
                         "of %zu bytes in one piece, as far as its metadata tells",
                         channel->peer->identity.name, chunk->flying);
    return lend_fail(error, LEND_E_DEVICE, "NIXL makes no request for %zu bytes (%d)",
                     chunk->flying, result);
}

/* LEND_PENDING: it is under way. LEND_E_PEER_DEAD: the connection is over. */
static enum lend_status launch(struct lend_nixl_channel *channel, struct lend_nixl_chunk *chunk,
                               bool is_read, struct lend_error *error)
{
    struct lend_nixl_engine *engine = channel->engine;
    const struct lend_nixl_ops *door = &engine->door;

    lend_nixl_result result = list_pieces(engine, chunk);
    if (result != LEND_NIXL_OK)
        return lend_fail(error, LEND_E_NO_MEMORY, "NIXL takes no list of pieces (%d)", result);
    result =
        door->request_create(engine->nixl, is_read ? LEND_NIXL_READ : LEND_NIXL_WRITE, chunk->local,
                             chunk->remote, channel->peer->name, &chunk->flight, NULL);
    if (result != LEND_NIXL_OK) {
        chunk->flight = NULL;
        return explain_refusal(channel, chunk, result, error);
    }
    result = door->request_post(engine->nixl, chunk->flight, NULL);
    if (result == LEND_NIXL_OK)
        return LEND_OK;
    if (result == LEND_NIXL_IN_PROGRESS)
        return LEND_PENDING;
    return lend_fail(error, LEND_E_PEER_DEAD, "NIXL does not post a request to %s (%d)",
                     channel->peer->identity.name, result);
}

static enum lend_status look(struct lend_nixl_channel *channel, struct lend_nixl_chunk *chunk,
                             struct lend_error *error)
{
    struct lend_nixl_engine *engine = channel->engine;
    lend_nixl_result result = engine->door.request_status(engine->nixl, chunk->flight);

    if (result == LEND_NIXL_OK)
        return LEND_OK;
    if (result == LEND_NIXL_IN_PROGRESS)
        return LEND_PENDING;
    return lend_fail(error, LEND_E_PEER_DEAD, "NIXL ended a request to %s (%d)",
                     channel->peer->identity.name, result);
}

/* --- what becomes of it: under the lock --- */

static void settle(struct lend_nixl_channel *channel, struct lend_nixl_chunk *chunk)
{
    struct lend_nixl_request *request = chunk->request;
    bool is_over = request->phase == LEND_NIXL_REQUEST_ENDED || channel->is_closed;

    chunk->flown += chunk->flying;
    chunk->flying = 0;
    if (!is_over && chunk->flown < chunk->bytes) {
        chunk->phase = LEND_NIXL_CHUNK_READY;
        return;
    }
    if (request->asked.direction == LEND_READ && !is_over) {
        chunk->phase = LEND_NIXL_CHUNK_LANDED;
        request->chunks--;
        request->landed++;
    } else {
        request->moved_bytes += chunk->bytes;
        lend_nixl_chunk_end(chunk);
        if (request->moved_bytes == request->asked.total_bytes)
            lend_nixl_request_end(channel, request, NULL);
    }
    lend_nixl_channel_wake(channel);
}

static void fail_request(struct lend_nixl_channel *channel, struct lend_nixl_chunk *chunk,
                         const struct lend_error *why)
{
    struct lend_nixl_request *request = chunk->request;

    lend_nixl_chunk_end(chunk);
    lend_nixl_request_end(channel, request, why);
    lend_nixl_channel_wake(channel);
}

/* The peer is lost to NIXL: forget it, after all that goes on with it, so that a later connection
 * begins anew. */
static void lose_peer(struct lend_nixl_channel *channel, const char *reason)
{
    struct lend_nixl_engine *engine = channel->engine;
    struct lend_nixl_peer *peer = channel->peer;

    lend_nixl_channels_cut(engine, peer, reason);
    if (peer->loaded_life == engine->life)
        (void)engine->door.metadata_forget(engine->nixl, peer->name);
    peer->loaded_life = 0;
}

/* One step of a chunk. False: there was nothing to do, or to be seen. */
static bool step_chunk(struct lend_nixl_channel *channel, struct lend_nixl_chunk *chunk,
                       bool *out_is_busy)
{
    struct lend_nixl_engine *engine = channel->engine;
    struct lend_error why = {0};

    lend_nixl_lock(engine);
    bool is_ready = chunk->phase == LEND_NIXL_CHUNK_READY;
    bool is_flying = chunk->phase == LEND_NIXL_CHUNK_FLYING;
    bool is_read = is_ready && chunk->request->asked.direction == LEND_READ;
    if (is_ready && (channel->is_broken || channel->is_closed)) {
        lend_nixl_chunk_end(chunk);
        is_ready = false;
    }
    if (is_ready)
        chunk->phase = LEND_NIXL_CHUNK_FLYING;
    lend_nixl_unlock(engine);
    if (!is_ready && !is_flying)
        return false;

    enum lend_status status =
        is_ready ? launch(channel, chunk, is_read, &why) : look(channel, chunk, &why);
    if (status == LEND_PENDING) {
        *out_is_busy = true;
        return is_ready;
    }
    if (status == LEND_E_PEER_DEAD) {
        lose_peer(channel, why.message);
        return true;
    }
    end_flight(engine, chunk);
    lend_nixl_lock(engine);
    if (status == LEND_OK)
        settle(channel, chunk);
    else
        fail_request(channel, chunk, &why);
    lend_nixl_unlock(engine);
    return true;
}

void lend_nixl_channel_ground(struct lend_nixl_channel *channel)
{
    struct lend_nixl_engine *engine = channel->engine;

    for (int i = 0; i < LEND_NIXL_CHUNKS; i++) {
        struct lend_nixl_chunk *chunk = &channel->chunks[i];

        lend_nixl_lock(engine);
        bool is_flying = chunk->phase == LEND_NIXL_CHUNK_FLYING;
        lend_nixl_unlock(engine);
        if (!is_flying)
            continue;
        channel->slab->is_spoilt = true;
        end_flight(engine, chunk);
        lend_nixl_lock(engine);
        lend_nixl_chunk_end(chunk);
        lend_nixl_unlock(engine);
    }
}

/* --- beginnings: under the lock --- */

/* Reads that have bytes to begin, one chunk each in turn, while there are chunks. */
static bool begin_reads(struct lend_nixl_channel *channel)
{
    bool has_begun = false, goes_on = true;

    while (goes_on) {
        goes_on = false;
        for (int i = 0; i < LEND_NIXL_REQUESTS; i++) {
            struct lend_nixl_request *request = &channel->requests[i];
            uint64_t left = request->asked.total_bytes - request->begun_bytes;

            if (request->phase != LEND_NIXL_REQUEST_MOVE || request->asked.direction != LEND_READ ||
                left == 0)
                continue;
            struct lend_nixl_chunk *chunk = lend_nixl_chunk_free(channel, true);
            if (chunk == NULL)
                return has_begun;
            lend_nixl_chunk_begin(chunk, request,
                                  left < LEND_NIXL_CHUNK_BYTES ? (size_t)left
                                                               : (size_t)LEND_NIXL_CHUNK_BYTES);
            chunk->phase = LEND_NIXL_CHUNK_READY;
            lend_list_append(&channel->reads, &chunk->link);
            has_begun = goes_on = true;
        }
    }
    return has_begun;
}

static bool begin_tails(struct lend_nixl_channel *channel)
{
    bool has_begun = false;

    for (int i = 0; i < LEND_NIXL_REQUESTS; i++) {
        struct lend_nixl_request *request = &channel->requests[i];
        struct lend_nixl_chunk *chunk;

        if (request->tail_bytes == 0 || (chunk = lend_nixl_chunk_free(channel, false)) == NULL)
            continue;
        lend_nixl_chunk_begin(chunk, request, request->tail_bytes);
        memcpy(chunk->memory, request->tail, request->tail_bytes);
        request->tail_bytes = 0;
        chunk->phase = LEND_NIXL_CHUNK_READY;
        has_begun = true;
    }
    return has_begun;
}

/* --- notifications --- */

/* The next that is to leave. */
static bool send_note(struct lend_nixl_channel *channel)
{
    struct lend_nixl_engine *engine = channel->engine;

    lend_nixl_lock(engine);
    struct lend_list *link =
        channel->is_broken || channel->is_closed ? NULL : lend_list_take_first(&channel->notes);
    lend_nixl_unlock(engine);
    if (link == NULL)
        return false;

    struct lend_nixl_note *note = LEND_LIST_OWNER(link, struct lend_nixl_note, link);
    lend_nixl_result result =
        engine->door.notify(engine->nixl, channel->peer->name, note->bytes, note->count, NULL);
    lend_nixl_lock(engine);
    channel->noted += lend_notification_cost(note->count);
    lend_nixl_channel_wake(channel);
    lend_nixl_unlock(engine);
    lend_sys->release(note);
    if (result != LEND_NIXL_OK)
        lose_peer(channel, "NIXL does not send a notification");
    return true;
}

/* --- channels --- */

/* On the helper: load the peer, and have memory. */
static void make_ready(struct lend_nixl_channel *channel)
{
    struct lend_nixl_engine *engine = channel->engine;
    struct lend_error why;

    enum lend_status status = lend_nixl_peer_load(engine, channel->peer, &why);
    if (status == LEND_OK) {
        channel->slab = lend_nixl_slab_get(engine);
        if (channel->slab == NULL)
            status = lend_fail(&why, LEND_E_NO_MEMORY, "no memory for what NIXL reads and writes");
    }
    lend_nixl_lock(engine);
    for (int i = 0; status == LEND_OK && i < LEND_NIXL_CHUNKS; i++)
        channel->chunks[i].memory = channel->slab->memory + (size_t)i * LEND_NIXL_CHUNK_BYTES;
    channel->is_ready = status == LEND_OK;
    if (status != LEND_OK)
        lend_nixl_channel_hang_up(channel, status, why.message);
    lend_nixl_channel_wake(channel);
    lend_nixl_unlock(engine);
}

bool lend_nixl_channel_move(struct lend_nixl_channel *channel, bool *out_is_busy)
{
    struct lend_nixl_engine *engine = channel->engine;
    bool moved;

    lend_nixl_lock(engine);
    bool is_new = !channel->is_ready && !channel->is_broken && !channel->is_closed;
    lend_nixl_unlock(engine);
    if (is_new)
        make_ready(channel);
    moved = is_new;
    while (send_note(channel))
        moved = true;
    lend_nixl_lock(engine);
    if (!channel->is_closed && !channel->is_broken) {
        moved |= begin_tails(channel);
        moved |= begin_reads(channel);
    }
    lend_nixl_unlock(engine);
    for (int i = 0; i < LEND_NIXL_CHUNKS; i++)
        moved |= step_chunk(channel, &channel->chunks[i], out_is_busy);
    return moved;
}

/* Of one that core has closed, so that the helper alone has it. */
static bool has_flights(const struct lend_nixl_channel *channel)
{
    for (int i = 0; i < LEND_NIXL_CHUNKS; i++)
        if (channel->chunks[i].phase == LEND_NIXL_CHUNK_FLYING)
            return true;
    return false;
}

static void free_memory(struct lend_nixl_channel *channel)
{
    for (struct lend_list *link; (link = lend_list_take_first(&channel->notes)) != NULL;)
        lend_sys->release(LEND_LIST_OWNER(link, struct lend_nixl_note, link));
    for (int i = 0; i < LEND_NIXL_REQUESTS; i++)
        lend_nixl_request_free(&channel->requests[i]);
    lend_sys->release(channel);
}

/* It is closed, and NIXL has nothing of it. */
static void free_channel(struct lend_nixl_channel *channel)
{
    lend_nixl_lock(channel->engine);
    lend_list_remove(&channel->link);
    lend_nixl_unlock(channel->engine);
    lend_nixl_slab_put(channel->engine, channel->slab);
    free_memory(channel);
}

void lend_nixl_channels_free_forked(struct lend_nixl_engine *engine)
{
    for (struct lend_list *link; (link = lend_list_take_first(&engine->channels)) != NULL;)
        free_memory(LEND_LIST_OWNER(link, struct lend_nixl_channel, link));
}

/* The channel behind that one, or the first, and whether core has closed it; NULL: none. */
static struct lend_nixl_channel *channel_at(struct lend_nixl_engine *engine,
                                            struct lend_nixl_channel *before, bool *out_is_closed)
{
    struct lend_nixl_channel *channel = NULL;

    lend_nixl_lock(engine);
    struct lend_list *link = before != NULL ? before->link.next : engine->channels.next;
    if (link != &engine->channels) {
        channel = LEND_LIST_OWNER(link, struct lend_nixl_channel, link);
        *out_is_closed = channel->is_closed;
    }
    lend_nixl_unlock(engine);
    return channel;
}

bool lend_nixl_channels_step(struct lend_nixl_engine *engine, bool *out_is_busy)
{
    struct lend_nixl_channel *before = NULL, *channel;
    bool moved = false, is_closed = false;

    *out_is_busy = false;
    while ((channel = channel_at(engine, before, &is_closed)) != NULL) {
        moved |= lend_nixl_channel_move(channel, out_is_busy);
        if (is_closed && !has_flights(channel))
            free_channel(channel);
        else
            before = channel;
    }
    return moved;
}

void lend_nixl_channels_cut(struct lend_nixl_engine *engine, const struct lend_nixl_peer *peer,
                            const char *reason)
{
    struct lend_nixl_channel *channel = NULL;
    bool is_closed;

    while ((channel = channel_at(engine, channel, &is_closed)) != NULL) {
        if (peer != NULL && channel->peer != peer)
            continue;
        lend_nixl_channel_ground(channel);
        lend_nixl_lock(engine);
        lend_nixl_channel_hang_up(channel, LEND_E_PEER_DEAD, reason);
        lend_nixl_unlock(engine);
    }
}

void lend_nixl_channels_end_life(struct lend_nixl_engine *engine, const char *reason)
{
    struct lend_nixl_channel *before = NULL, *channel;
    bool is_closed = false;

    lend_nixl_channels_cut(engine, NULL, reason);
    while ((channel = channel_at(engine, before, &is_closed)) != NULL) {
        if (is_closed)
            free_channel(channel);
        else
            before = channel;
    }
}
