/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/ucx.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"

#include <string.h>

enum {
    IN_PLACE_LEAST = 16 << 10, /* bytes; fewer are copied: that takes less than keeping book */
    /* What is over the first of these in length, and not over the second, lies in a buffer of UCX's
     * that is much larger. So many of them a channel may hold, and has the others copied. */
    UCX_SMALL_BYTES = 1024,
    WASTEFUL_BYTES = 16 << 10,
    WASTEFUL_MAX = 8,
    LOOKS_MAX = 64,        /* for one frame */
    BATCH_BYTES = 8 << 10, /* of small frames that leave together, if the first is not tiny */
};

/*
 * Channels: frames out and in. What arrives stays in UCX's memory until core takes it, in the order
 * of its positions; so a window bounds what a peer may send before we have taken it.
 */

static struct lend_ucx_channel *channel_of(struct lend_channel *base)
{
    return (struct lend_ucx_channel *)base;
}

/* --- awake or not --- */

static void rise(struct lend_ucx_channel *channel)
{
    if (channel->is_asleep)
        channel->transport->awake_count++;
    channel->is_asleep = false;
}

/* The last one up has the poller look for all. */
static void lie_down(struct lend_ucx_channel *channel)
{
    struct lend_ucx_transport *transport = channel->transport;

    channel->is_asleep = true;
    if (--transport->awake_count == 0)
        lend_ucx_watch(transport, true);
}

void lend_ucx_channel_wake(struct lend_ucx_channel *channel)
{
    if (!channel->is_asleep)
        return;
    rise(channel);
    lend_session_wake(channel->base.session);
}

/* --- life --- */

static struct lend_list *bucket_of(struct lend_ucx_transport *transport, uint64_t number)
{
    return &transport->channels[(number >> 1) % LEND_UCX_BUCKETS];
}

struct lend_ucx_channel *lend_ucx_channel_create(struct lend_ucx_link *link)
{
    struct lend_ucx_channel *channel = lend_sys->allocate(sizeof *channel);

    if (channel == NULL)
        return NULL;
    if (lend_sys->random(&channel->number, sizeof channel->number) < 0) {
        lend_sys->release(channel);
        return NULL;
    }
    channel->number |= 1; /* 0 stands for none */
    channel->base.ops = &lend_transport_ucx;
    channel->transport = link->transport;
    channel->link = link;
    link->transport->awake_count++;
    lend_list_init(&channel->mail);
    lend_list_init(&channel->in_link);
    lend_list_init(&channel->in_table);
    lend_list_init(&channel->frames);
    lend_list_init(&channel->moves);
    lend_list_append(&link->channels, &channel->in_link);
    lend_list_append(bucket_of(link->transport, channel->number), &channel->in_table);
    return channel;
}

struct lend_ucx_channel *lend_ucx_channel_find(struct lend_ucx_transport *transport,
                                               uint64_t number)
{
    struct lend_list *bucket = bucket_of(transport, number);

    for (struct lend_list *at = bucket->next; at != bucket; at = at->next) {
        struct lend_ucx_channel *channel = LEND_LIST_OWNER(at, struct lend_ucx_channel, in_table);

        if (channel->number == number)
            return channel;
    }
    return NULL;
}

struct lend_ucx_greeting lend_ucx_channel_greet(const struct lend_ucx_channel *channel)
{
    return (struct lend_ucx_greeting){
        .link = channel->link->number,
        .channel = channel->number,
        .window_bytes = channel->transport->window_bytes,
    };
}

void lend_ucx_channel_hang_up(struct lend_ucx_channel *channel, enum lend_status status,
                              const char *reason)
{
    if (channel->hung.status != LEND_OK)
        return;
    (void)lend_fail(&channel->hung, status, "%s", reason);
    lend_list_append(&channel->transport->hung, &channel->mail);
    lend_ucx_ring(channel->transport);
}

static void drop_frame(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame, bool forked)
{
    lend_list_remove(&frame->link);
    if (frame->fetch != NULL)
        frame->fetch->frame = NULL;
    frame->fetch = NULL;
    if (forked) {
        if (frame->is_copy)
            lend_sys->release(frame->data);
        lend_sys->release(frame);
        return;
    }
    channel->frame_count--;
    if (frame->is_copy)
        lend_sys->release(frame->data);
    else if (frame->data != NULL)
        channel->transport->door.data_release(channel->transport->worker, frame->data);
    lend_list_append(&channel->transport->spare_frames, &frame->link);
}

static void drop_frames(struct lend_ucx_channel *channel, bool forked)
{
    while (!lend_list_is_empty(&channel->frames))
        drop_frame(channel, LEND_LIST_OWNER(channel->frames.next, struct lend_ucx_frame, link),
                   forked);
}

void lend_ucx_channel_free(struct lend_ucx_channel *channel, bool forked)
{
    struct lend_list *at;

    drop_frames(channel, forked);
    lend_sys->release(channel->batch);
    while ((at = lend_list_take_first(&channel->moves)) != NULL)
        LEND_LIST_OWNER(at, struct lend_ucx_move, link)->channel = NULL;
    channel->transport->awake_count -= !channel->is_asleep;
    lend_list_remove(&channel->mail);
    lend_list_remove(&channel->in_link);
    lend_list_remove(&channel->in_table);
    lend_sys->release(channel);
}

/* --- arriving; in callbacks --- */

static void breach(struct lend_ucx_channel *channel, const char *reason)
{
    if (channel->breach.status == LEND_OK)
        (void)lend_fail(&channel->breach, LEND_E_CORRUPT, "%s", reason);
}

static struct lend_ucx_frame *take_spare(struct lend_ucx_transport *transport)
{
    struct lend_list *spare = lend_list_take_first(&transport->spare_frames);

    if (spare != NULL)
        return LEND_LIST_OWNER(spare, struct lend_ucx_frame, link);
    struct lend_ucx_frame *frame = lend_sys->allocate(sizeof *frame);
    if (frame != NULL)
        lend_list_init(&frame->link);
    return frame;
}

/* Put it in its place; what comes out of order is rare, and comes late. False: there is one of that
 * position already. */
static bool insert(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame)
{
    struct lend_list *after = channel->frames.previous;

    while (after != &channel->frames) {
        const struct lend_ucx_frame *other = LEND_LIST_OWNER(after, struct lend_ucx_frame, link);

        if (other->position == frame->position)
            return false;
        if (other->position < frame->position)
            break;
        after = after->previous;
    }
    /* Appending to a ring whose head is the next one puts it before that. */
    lend_list_append(after->next, &frame->link);
    return true;
}

static bool is_data(const uint8_t *header)
{
    return header[3] == LEND_FRAME_DATA; /* where frame.h puts the type */
}

static struct lend_ucx_frame *due_frame(struct lend_ucx_channel *channel)
{
    if (lend_list_is_empty(&channel->frames))
        return NULL;
    struct lend_ucx_frame *first =
        LEND_LIST_OWNER(channel->frames.next, struct lend_ucx_frame, link);
    return first->position == channel->due_position ? first : NULL;
}

/* The frame at hand, if it may be shown: no control frame before all that is landing has landed. */
static struct lend_ucx_frame *ready_frame(struct lend_ucx_channel *channel)
{
    struct lend_ucx_frame *frame = due_frame(channel);

    if (frame == NULL || frame->is_close ||
        (!channel->is_server && !is_data(frame->header) && !lend_list_is_empty(&channel->moves)))
        return NULL;
    return frame;
}

/* If all that came before its end has been taken, say that it has ended. */
static void look_for_close(struct lend_ucx_channel *channel)
{
    const struct lend_ucx_frame *frame = due_frame(channel);

    if (frame != NULL && frame->is_close)
        lend_ucx_channel_hang_up(channel, LEND_E_PEER_DEAD, "the peer closed the connection");
}

static const char *check_frame(const struct lend_ucx_channel *channel,
                               const struct lend_ucx_message *message, size_t length,
                               bool is_rendezvous)
{
    struct lend_reader reader = lend_reader_init(message->frame + 4, 4);

    if (message->position < channel->due_position)
        return "the peer sent a frame of UCX twice";
    if (message->kind == LEND_UCX_CLOSE)
        return length > 0           ? "the peer closed the connection with more to say"
               : channel->is_ending ? "the peer closed the connection twice"
                                    : NULL;
    if (lend_read_u32(&reader) != length || length > LEND_FRAME_PAYLOAD_MAX)
        return "a frame and the message of UCX that it came in differ in length";
    if (is_rendezvous && (channel->is_server || !is_data(message->frame)))
        return "the peer sent something by rendezvous that is not of a read";
    if (channel->arrived + lend_ucx_cost(length) - channel->taken >
        channel->transport->window_bytes)
        return "the peer sent more than it was given credit for";
    return NULL;
}

/* What stands at that place is core's to judge; here it is a hint. */
static uint8_t type_of(const struct lend_ucx_message *message)
{
    return message->frame[3];
}

/* What came with a message. */
struct payload {
    void *data; /* UCX's */
    size_t length;
    bool is_rendezvous;
    bool is_shared; /* by several frames: it cannot be kept for one */
};

/* Where many of UCX's buffers would be wasted. */
static bool is_wasteful(const struct lend_ucx_channel *channel, const struct payload *payload)
{
    return !payload->is_rendezvous && payload->length > UCX_SMALL_BYTES &&
           payload->length <= WASTEFUL_BYTES && channel->frame_count >= WASTEFUL_MAX;
}

/* Let the frame have what came: UCX's buffer, or a copy. False: there is no memory for one that has
 * to be. */
static bool give_data(const struct lend_ucx_channel *channel, struct lend_ucx_frame *frame,
                      const struct payload *payload)
{
    size_t length = payload->length;

    frame->data = length > 0 ? payload->data : NULL;
    frame->length = length;
    frame->is_rendezvous = payload->is_rendezvous;
    frame->is_copy = false;
    if (length == 0 || (!payload->is_shared && !is_wasteful(channel, payload)))
        return true;
    void *copy = lend_sys->allocate(length);
    if (copy == NULL)
        return !payload->is_shared;
    memcpy(copy, payload->data, length);
    frame->data = copy;
    frame->is_copy = true;
    return true;
}

static bool take_frame(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                       const struct payload *payload)
{
    size_t length = payload->length;
    const char *reason = check_frame(channel, message, length, payload->is_rendezvous);
    struct lend_ucx_frame *frame = reason == NULL ? take_spare(channel->transport) : NULL;

    lend_ucx_channel_wake(channel);
    if (reason != NULL) {
        breach(channel, reason);
        return false;
    }
    if (frame == NULL || !give_data(channel, frame, payload)) {
        if (frame != NULL)
            lend_list_append(&channel->transport->spare_frames, &frame->link);
        lend_ucx_channel_hang_up(channel, LEND_E_NO_MEMORY, "no memory for a frame that came");
        return false;
    }
    frame->position = message->position;
    frame->is_close = message->kind == LEND_UCX_CLOSE;
    memcpy(frame->header, message->frame, sizeof frame->header);
    if (!insert(channel, frame)) {
        if (frame->is_copy)
            lend_sys->release(frame->data);
        lend_list_append(&channel->transport->spare_frames, &frame->link);
        breach(channel, "the peer sent a frame of UCX twice");
        return false;
    }
    channel->frame_count++;
    if (frame->is_close)
        channel->is_ending = true;
    else
        channel->arrived += lend_ucx_cost(length);
    if (type_of(message) == LEND_FRAME_DONE && channel->asked_count > 0)
        channel->asked_count--;
    look_for_close(channel);
    return frame->data != NULL && !frame->is_copy;
}

/* Several at once. */
static void take_frames(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                        uint8_t *data, size_t length)
{
    struct lend_ucx_message each = {
        .kind = LEND_UCX_FRAME, .position = message->position, .taken = message->taken};
    size_t at = 0;

    while (at < length && channel->breach.status == LEND_OK && channel->hung.status == LEND_OK) {
        if (length - at < sizeof each.frame) {
            breach(channel, "the peer sent half a frame over UCX");
            break;
        }
        memcpy(each.frame, data + at, sizeof each.frame);
        at += sizeof each.frame;

        struct lend_reader reader = lend_reader_init(each.frame + 4, 4);
        size_t announced = lend_read_u32(&reader);
        struct payload payload = {.data = data + at, .length = length - at, .is_shared = true};
        if (payload.length > announced)
            payload.length = announced; /* if there is less, that is found out below */
        at += payload.length;
        (void)take_frame(channel, &each, &payload);
        each.position++;
    }
    lend_ucx_channel_wake(channel);
}

/* The peer has taken that much of what we sent. */
static void take_credit(struct lend_ucx_channel *channel, uint64_t taken)
{
    if (taken > channel->sent) {
        breach(channel, "the peer took more than it was sent");
        lend_ucx_channel_wake(channel);
    } else if (taken > channel->sent_taken) {
        channel->sent_taken = taken;
        lend_ucx_channel_wake(channel);
    }
}

static void take_accept(struct lend_ucx_channel *channel, const void *data, size_t length)
{
    struct lend_ucx_greeting greeting;

    if (channel->peer_number != 0 || !lend_ucx_decode_greeting(data, length, &greeting)) {
        breach(channel, "the peer accepted the connection in a way that makes no sense");
    } else {
        channel->peer_number = greeting.channel;
        channel->window_bytes = greeting.window_bytes;
        lend_ucx_link_learn(channel->link, greeting.link);
    }
    lend_ucx_channel_wake(channel);
}

static void take_refusal(struct lend_ucx_channel *channel, const void *data, size_t length)
{
    struct lend_reader reader = lend_reader_init(data, length);
    enum lend_status status = lend_status_from_wire((int32_t)lend_read_u32(&reader));
    char text[LEND_UCX_TEXT_MAX + 1] = {0};
    struct lend_error why;

    if (status != LEND_E_LIMIT && status != LEND_E_NO_MEMORY)
        status = LEND_E_PEER_DEAD;
    size_t count = reader.left < LEND_UCX_TEXT_MAX ? reader.left : LEND_UCX_TEXT_MAX;
    lend_read_bytes(&reader, text, count);
    for (size_t i = 0; i < count; i++)
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '?';
    (void)lend_fail(&why, status, "the peer turned us away: %s", text);
    lend_ucx_channel_hang_up(channel, status, why.message);
}

bool lend_ucx_channel_take(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                           void *data, size_t length, bool is_rendezvous)
{
    const struct payload payload = {.data = data, .length = length, .is_rendezvous = is_rendezvous};

    if (is_rendezvous && message->kind != LEND_UCX_FRAME)
        return false;
    take_credit(channel, message->taken);
    switch (message->kind) {
    case LEND_UCX_ACCEPT: take_accept(channel, data, length); break;
    case LEND_UCX_REFUSE: take_refusal(channel, data, length); break;
    case LEND_UCX_FRAME:
    case LEND_UCX_CLOSE: return take_frame(channel, message, &payload);
    case LEND_UCX_FRAMES: take_frames(channel, message, data, length); break;
    case LEND_UCX_CREDIT:
    case LEND_UCX_OPEN:
    case LEND_UCX_PING:
    case LEND_UCX_PONG: break;
    }
    return false;
}

/* --- sending --- */

static size_t room_of(const struct lend_ucx_channel *channel)
{
    uint64_t used = channel->sent - channel->sent_taken + lend_ucx_cost(0);

    if (channel->peer_number == 0 || channel->link->is_broken || used >= channel->window_bytes ||
        lend_ucx_link_is_full(channel->link))
        return 0;
    uint64_t room = channel->window_bytes - used;
    return room < LEND_UCX_PAYLOAD_MAX ? (size_t)room : LEND_UCX_PAYLOAD_MAX;
}

size_t lend_ucx_room(struct lend_channel *base)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    lend_ucx_moves_settle(channel);
    size_t room = room_of(channel);
    lend_ucx_unlock(channel->transport);
    return room;
}

/* Each message costs a call of the system at least: what is small leaves with what comes after it,
 * as long as that is small. */
static void send_batch(struct lend_ucx_channel *channel)
{
    struct lend_ucx_send *batch = channel->batch;
    size_t bytes = channel->batch_bytes;
    struct lend_ucx_message message = {
        .kind = LEND_UCX_FRAMES,
        .channel = channel->peer_number,
        .position = channel->next_position - channel->batch_count,
        .taken = channel->taken,
    };

    if (batch == NULL)
        return;
    if (channel->batch_count == 1) {
        message.kind = LEND_UCX_FRAME;
        bytes -= sizeof message.frame;
        memcpy(message.frame, batch->bytes, sizeof message.frame);
        memmove(batch->bytes, batch->bytes + sizeof message.frame, bytes);
    }
    channel->batch = NULL;
    channel->batch_bytes = channel->batch_count = 0;
    channel->told = channel->taken;
    lend_ucx_send(batch, &message, bytes);
}

/* Room for a small frame's payload behind those that wait, its header being there already. NULL: no
 * memory. */
static uint8_t *add_to_batch(struct lend_ucx_channel *channel, const uint8_t *header, size_t count)
{
    const size_t whole = LEND_FRAME_HEADER_BYTES + count;

    if (channel->batch != NULL &&
        channel->batch_bytes + whole >
            (size_t)(channel->batch->is_large ? BATCH_BYTES : LEND_UCX_SMALL_BYTES))
        send_batch(channel);
    if (channel->batch == NULL)
        channel->batch = lend_ucx_send_take(channel->link, whole);
    if (channel->batch == NULL)
        return NULL;
    uint8_t *at = channel->batch->bytes + channel->batch_bytes;
    memcpy(at, header, LEND_FRAME_HEADER_BYTES);
    channel->batch_bytes += whole;
    channel->batch_count++;
    channel->next_position++;
    return at + LEND_FRAME_HEADER_BYTES;
}

/* Send one frame, from memory or from a cursor. */
static void send_frame(struct lend_ucx_channel *channel, const uint8_t *header, const void *payload,
                       struct lend_cursor *from, size_t count)
{
    const bool is_small = count <= BATCH_BYTES - LEND_FRAME_HEADER_BYTES;
    struct lend_ucx_message message = {.kind = LEND_UCX_FRAME, .channel = channel->peer_number};

    memcpy(message.frame, header, sizeof message.frame);
    channel->asked_count += type_of(&message) == LEND_FRAME_REQUEST;
    channel->sent += lend_ucx_cost(count);
    if (is_small) {
        uint8_t *at = add_to_batch(channel, header, count);

        if (at != NULL && from != NULL)
            lend_cursor_gather(from, at, count);
        else if (at != NULL && payload != NULL)
            memcpy(at, payload, count);
        return;
    }
    send_batch(channel);
    message.position = channel->next_position++;
    message.taken = channel->told = channel->taken;
    if (from != NULL && channel->is_server && count >= IN_PLACE_LEAST &&
        lend_ucx_move_out(channel, &message, from, count))
        return;
    struct lend_ucx_send *send = lend_ucx_send_take(channel->link, count);
    if (send == NULL)
        return;
    if (from != NULL)
        lend_cursor_gather(from, send->bytes, count);
    else if (payload != NULL)
        memcpy(send->bytes, payload, count);
    lend_ucx_send(send, &message, count);
}

void lend_ucx_send_frame(struct lend_channel *base, const uint8_t *header, const void *payload,
                         size_t count)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    if (!channel->link->is_broken)
        send_frame(channel, header, payload, NULL, count);
    lend_ucx_unlock(channel->transport);
}

void lend_ucx_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                        size_t count)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    if (!channel->link->is_broken)
        send_frame(channel, header, NULL, from, count);
    lend_ucx_unlock(channel->transport);
}

void lend_ucx_flush(struct lend_channel *base)
{
    struct lend_ucx_channel *channel = channel_of(base);

    /* Only we, under the session's lock, change what is read here. */
    if (channel->batch == NULL &&
        channel->taken - channel->told < channel->transport->window_bytes / 4)
        return;
    lend_ucx_lock(channel->transport);
    send_batch(channel);
    if (channel->taken == channel->told) {
        lend_ucx_unlock(channel->transport);
        return;
    }
    if (channel->peer_number != 0 && !channel->link->is_broken) {
        const struct lend_ucx_message message = {
            .kind = LEND_UCX_CREDIT, .channel = channel->peer_number, .taken = channel->taken};

        channel->told = channel->taken;
        lend_ucx_send_bytes(channel->link, &message, NULL, 0);
    }
    lend_ucx_unlock(channel->transport);
}

/* --- the end --- */

void lend_ucx_close_channel(struct lend_channel *base, bool forked)
{
    struct lend_ucx_channel *channel = channel_of(base);
    struct lend_ucx_transport *transport = channel->transport;

    if (forked) {
        lend_ucx_channel_free(channel, true);
        return;
    }
    lend_ucx_lock(transport);
    lend_ucx_moves_halt(channel);
    if (channel->peer_number != 0) {
        send_batch(channel);
        const struct lend_ucx_message message = {
            .kind = LEND_UCX_CLOSE,
            .channel = channel->peer_number,
            .position = channel->next_position,
            .taken = channel->taken,
        };
        lend_ucx_send_bytes(channel->link, &message, NULL, 0);
    }
    lend_ucx_channel_free(channel, false);
    lend_ucx_ring(transport); /* it may have been the last of a link that is broken */
    lend_ucx_unlock(transport);
}

/* --- taking --- */

void lend_ucx_halt(struct lend_channel *base)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    lend_ucx_moves_halt(channel);
    lend_ucx_unlock(channel->transport);
}

/* The frame at hand; let UCX work if there is none yet. */
static struct lend_ucx_frame *frame_at_hand(struct lend_ucx_channel *channel)
{
    struct lend_ucx_frame *frame;

    lend_ucx_moves_settle(channel);
    frame = ready_frame(channel);
    /* No more than what is waited for: it is taken while it is still in the processor's cache. */
    for (int i = 0; i < LOOKS_MAX && frame == NULL && lend_ucx_progress_once(channel->transport);
         i++) {
        lend_ucx_moves_settle(channel);
        frame = ready_frame(channel);
    }
    return frame;
}

enum lend_status lend_ucx_peek(struct lend_channel *base, uint8_t *header, struct lend_error *error)
{
    struct lend_ucx_channel *channel = channel_of(base);
    enum lend_status status = LEND_PENDING;

    lend_ucx_lock(channel->transport);
    const struct lend_ucx_frame *frame = frame_at_hand(channel);
    if (channel->breach.status != LEND_OK) {
        status = lend_fail(error, (enum lend_status)channel->breach.status, "%s",
                           channel->breach.message);
    } else if (frame != NULL) {
        memcpy(header, frame->header, sizeof frame->header);
        status = LEND_OK;
    }
    lend_ucx_unlock(channel->transport);
    return status;
}

/* The frame at hand has been taken whole, or is being received: then that counts later. */
static void step_past(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame,
                      bool is_landing)
{
    channel->taken += is_landing ? 0 : lend_ucx_cost(frame->length);
    channel->due_position++;
    channel->data_taken = 0;
    drop_frame(channel, frame, false);
    look_for_close(channel);
}

enum lend_status lend_ucx_take(struct lend_channel *base, void *payload, size_t count,
                               struct lend_error *error)
{
    struct lend_ucx_channel *channel = channel_of(base);
    enum lend_status status = LEND_OK;

    lend_ucx_lock(channel->transport);
    struct lend_ucx_frame *frame = due_frame(channel);
    if (frame == NULL || frame->length != count) {
        status = lend_fail(error, LEND_E_CORRUPT, "a frame has %zu of its %zu bytes",
                           frame != NULL ? frame->length : 0, count);
    } else {
        if (count > 0)
            memcpy(payload, frame->data, count);
        step_past(channel, frame, false);
    }
    lend_ucx_unlock(channel->transport);
    return status;
}

/* What the peer has still: to where it belongs, whole, or to nowhere. */
static size_t take_rendezvous(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame,
                              struct lend_cursor *to, size_t count)
{
    LEND_INVARIANT(count == frame->length); /* core takes frames whole */
    if (to != NULL) {
        lend_ucx_move_in(channel, frame->data, to, count);
        frame->data = NULL;
    }
    step_past(channel, frame, to != NULL);
    return count;
}

size_t lend_ucx_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                          size_t total)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    struct lend_ucx_frame *frame = due_frame(channel);
    bool is_good = frame != NULL && frame->length == total;
    bool is_rendezvous = is_good && frame->is_rendezvous;
    if (is_rendezvous && to != NULL && base->wants_copies) {
        lend_ucx_move_fetch(channel, frame);
        if (frame->fetch != NULL) /* core waits for this frame, and peeks at none */
            (void)lend_ucx_progress_once(channel->transport);
        lend_ucx_moves_settle(channel);
        is_good = !frame->is_rendezvous;
        is_rendezvous = false;
    }
    if (is_rendezvous)
        count = take_rendezvous(channel, frame, to, count);
    lend_ucx_unlock(channel->transport);
    if (!is_good || is_rendezvous)
        return is_good ? count : 0;

    /* The frame is ours until it has been taken; others need not wait for the copy. */
    if (count > total - channel->data_taken)
        count = total - channel->data_taken;
    if (to != NULL && count > 0)
        lend_cursor_scatter(to, (const uint8_t *)frame->data + channel->data_taken, count);
    channel->data_taken += count;
    if (channel->data_taken == total) {
        lend_ucx_lock(channel->transport);
        step_past(channel, frame, false);
        lend_ucx_unlock(channel->transport);
    }
    return count;
}

/* --- sleeping --- */

bool lend_ucx_sleep(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_flush(base); /* who sleeps with something untold sleeps for good */
    lend_ucx_lock(channel->transport);
    bool sleeps = ready_frame(channel) == NULL && lend_ucx_arm(channel->transport);
    if (ready_frame(channel) != NULL || lend_ucx_moves_have_news(channel) ||
        channel->breach.status != LEND_OK || (wants_room && room_of(channel) >= wanted))
        sleeps = false;
    if (sleeps && !channel->is_asleep)
        lie_down(channel);
    else if (!sleeps)
        rise(channel);
    lend_ucx_unlock(channel->transport);
    return sleeps;
}

void lend_ucx_awake(struct lend_channel *base)
{
    struct lend_ucx_channel *channel = channel_of(base);

    lend_ucx_lock(channel->transport);
    rise(channel);
    lend_ucx_watch(channel->transport, false);
    lend_ucx_unlock(channel->transport);
}
