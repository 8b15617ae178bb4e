/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tcp/tcp.h"

#include "base/copy.h"
#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static struct lend_tcp_channel *channel_of(struct lend_channel *base)
{
    return (struct lend_tcp_channel *)(void *)base;
}

/* Life */

struct lend_tcp_channel *lend_tcp_channel_create(struct lend_tcp *tcp)
{
    struct lend_tcp_channel *channel = lend_sys->allocate(sizeof *channel);

    if (channel == NULL)
        return NULL;
    channel->base.ops = &lend_transport_tcp;
    channel->tcp = tcp;
    channel->socket.fd = -1;
    lend_list_init(&channel->half_open);
    return channel;
}

enum lend_status lend_tcp_channel_begin(struct lend_tcp_channel *channel, struct lend_error *error)
{
    struct lend_tcp_buffer *in = &channel->in;
    uint8_t *bytes = lend_sys->allocate(LEND_TCP_IN_BYTES + LEND_TCP_OUT_BYTES);

    if (bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the buffers of a connection");
    assert(in->end <= LEND_TCP_IN_BYTES);
    if (in->bytes != NULL)
        memcpy(bytes, in->bytes, in->end);
    lend_sys->release(in->bytes);
    in->bytes = bytes;
    channel->out.bytes = bytes + LEND_TCP_IN_BYTES;
    lend_tcp_preamble_encode(channel->out.bytes);
    channel->out.end = LEND_TCP_PREAMBLE_BYTES;
    return LEND_OK;
}

void lend_tcp_channel_destroy(struct lend_tcp_channel *channel, bool forked)
{
    if (channel == NULL)
        return;
    /* A forked child shares the poller with its parent: what it took out of it there, the parent
     * would miss. */
    if (!forked && channel->socket.ready != NULL)
        lend_agent_unwatch(channel->tcp->agent, &channel->socket);
    if (channel->socket.fd >= 0) {
        if (!forked)
            lend_sys->shutdown(channel->socket.fd);
        lend_sys->close(channel->socket.fd);
    }
    lend_sys->release(channel->in.bytes);
    lend_sys->release(channel);
}

/* Acquire: with the descriptor; pairs with the release in connect.c. */
static inline bool is_ready(const struct lend_tcp_channel *channel)
{
    return atomic_load_explicit(&channel->is_ready, memory_order_acquire);
}

/* Buffers */

static inline uint32_t count_of(const struct lend_tcp_buffer *buffer)
{
    return buffer->end - buffer->first;
}

static inline void step_past(struct lend_tcp_buffer *buffer, uint32_t count)
{
    buffer->first += count;
    if (buffer->first == buffer->end)
        buffer->first = buffer->end = 0;
}

static inline void append(struct lend_tcp_buffer *buffer, const void *bytes, size_t count)
{
    memcpy(buffer->bytes + buffer->end, bytes, count);
    buffer->end += (uint32_t)count;
}

/* Hang-up */

/* The peer is gone, as a system call has it. What it had sent before is still taken. */
static void hang_up(struct lend_tcp_channel *channel, ssize_t result)
{
    struct lend_error why;

    if (result == 0) {
        (void)lend_fail(&why, LEND_E_PEER_DEAD, "the peer closed its connection, or died");
    } else if (result == -ETIMEDOUT) {
        (void)lend_fail(&why, LEND_E_PEER_DEAD,
                        "the peer has answered nothing for too long: it is stopped, or cut off");
    } else if (result == -EFAULT) {
        (void)lend_fail(&why, LEND_E_MEMORY,
                        "memory of a transfer is not there any more: it was unmapped while lent");
    } else {
        (void)lend_fail_errno(&why, (int)-result, "the connection to the peer is broken");
        why.status = LEND_E_PEER_DEAD;
    }
    lend_session_hang_up(channel->base.session, (enum lend_status)why.status, why.message);
}

/* Bytes out */

/* One system call. Returns what it took; 0: nothing now, and `is_blocked` or `is_deaf` says why. */
static size_t send_once(struct lend_tcp_channel *channel, struct iovec *pieces, size_t count)
{
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent = lend_sys->sendmsg(channel->socket.fd, &message);

    if (sent > 0)
        return (size_t)sent;
    if (sent == -EAGAIN || sent == -ENOBUFS || sent == -ENOMEM || sent == 0) {
        channel->is_blocked = true;
    } else {
        channel->is_deaf = true;
        hang_up(channel, sent);
    }
    return 0;
}

/* Send what is buffered. */
static void push_out(struct lend_tcp_channel *channel)
{
    struct lend_tcp_buffer *out = &channel->out;

    while (count_of(out) > 0) {
        struct iovec piece = {.iov_base = out->bytes + out->first, .iov_len = count_of(out)};
        size_t sent = send_once(channel, &piece, 1);

        if (channel->is_deaf)
            sent = count_of(out);
        if (sent == 0)
            return;
        step_past(out, (uint32_t)sent);
    }
    channel->is_blocked = false;
}

void lend_tcp_flush(struct lend_channel *base)
{
    struct lend_tcp_channel *channel = channel_of(base);

    if (is_ready(channel) && count_of(&channel->out) > 0)
        push_out(channel);
}

size_t lend_tcp_room(struct lend_channel *base)
{
    struct lend_tcp_channel *channel = channel_of(base);
    const struct lend_tcp_buffer *out = &channel->out;

    if (!is_ready(channel) || channel->is_blocked || channel->is_deaf)
        return 0;
    if (LEND_TCP_OUT_BYTES - out->end < LEND_FRAME_HEADER_BYTES + LEND_FRAME_DATA_MAX)
        push_out(channel);
    return channel->is_blocked || channel->is_deaf ? 0 : LEND_TCP_CHUNK_BYTES;
}

void lend_tcp_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                   size_t count)
{
    struct lend_tcp_channel *channel = channel_of(base);

    append(&channel->out, header, LEND_FRAME_HEADER_BYTES);
    if (count > 0)
        append(&channel->out, payload, count);
}

/* Of pieces, the first `sent` bytes are gone: keep a copy of the rest. */
static void keep_rest(struct lend_tcp_channel *channel, const struct iovec *pieces, uint32_t count,
                      size_t sent)
{
    struct lend_tcp_buffer *out = &channel->out;

    for (uint32_t i = 0; i < count; i++) {
        size_t gone = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
        size_t left = pieces[i].iov_len - gone;

        sent -= gone;
        if (left == 0)
            continue;
        lend_copy_racing(out->bytes + out->end, (const uint8_t *)pieces[i].iov_base + gone, left);
        out->end += (uint32_t)left;
    }
}

/* Send pieces behind what is buffered; what is not taken is copied there. */
static void send_pieces(struct lend_tcp_channel *channel, struct iovec *pieces, uint32_t count)
{
    struct lend_tcp_buffer *out = &channel->out;
    size_t buffered = count_of(out), sent = 0;

    pieces[0] = (struct iovec){.iov_base = out->bytes + out->first, .iov_len = buffered};
    if (!channel->is_blocked && !channel->is_deaf) {
        lend_racing_begin();
        sent = send_once(channel, pieces, count);
        lend_racing_end();
    }
    if (channel->is_deaf)
        return;
    if (sent >= buffered) {
        step_past(out, (uint32_t)buffered);
        keep_rest(channel, pieces + 1, count - 1, sent - buffered);
    } else {
        step_past(out, (uint32_t)sent);
        keep_rest(channel, pieces + 1, count - 1, 0);
    }
    if (count_of(out) > 0)
        channel->is_blocked = true;
}

void lend_tcp_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                        size_t count)
{
    enum { OURS = 2 }; /* what is buffered, and the header */
    struct lend_tcp_channel *channel = channel_of(base);
    struct iovec pieces[OURS + LEND_TCP_PIECES_MAX];
    struct lend_tcp_buffer *out = &channel->out;

    append(out, header, LEND_FRAME_HEADER_BYTES);
    if (count <= LEND_TCP_SMALL_BYTES) {
        lend_cursor_gather(from, out->bytes + out->end, count);
        out->end += (uint32_t)count;
        return;
    }
    while (count > 0 && !channel->is_blocked && !channel->is_deaf) {
        uint32_t found = lend_cursor_pieces(from, count, pieces + 1, LEND_TCP_PIECES_MAX);

        for (uint32_t i = 1; i <= found; i++)
            count -= pieces[i].iov_len;
        send_pieces(channel, pieces, 1 + found);
    }
    if (channel->is_deaf) {
        lend_cursor_skip(from, count);
    } else if (count > 0) {
        lend_cursor_gather(from, out->bytes + out->end, count);
        out->end += (uint32_t)count;
    }
}

/* Bytes in */

/* One system call into `pieces`, of which the last is free room of the buffer. Returns how many
 * bytes went to the others. */
static size_t receive_once(struct lend_tcp_channel *channel, struct iovec *pieces, size_t count,
                           size_t wanted)
{
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    struct lend_tcp_buffer *in = &channel->in;

    if (channel->is_over || !is_ready(channel))
        return 0;
    ssize_t came = lend_sys->recvmsg(channel->socket.fd, &message);
    if (came == -EAGAIN || came == -ENOMEM || came == -ENOBUFS)
        return 0;
    if (came <= 0) {
        channel->is_over = true;
        hang_up(channel, came);
        return 0;
    }
    size_t direct = (size_t)came < wanted ? (size_t)came : wanted;
    in->end += (uint32_t)((size_t)came - direct);
    return direct;
}

/* Free room of the buffer, at most count bytes, as the last piece. */
static struct iovec room_of(struct lend_tcp_buffer *in, size_t count)
{
    size_t room = LEND_TCP_IN_BYTES - in->end;

    return (struct iovec){.iov_base = in->bytes + in->end, .iov_len = count < room ? count : room};
}

/* See that so many bytes are in the buffer, if they are here. */
static bool gather(struct lend_tcp_channel *channel, uint32_t needed)
{
    struct lend_tcp_buffer *in = &channel->in;

    if (count_of(in) >= needed)
        return true;
    if (in->first + needed + LEND_TCP_AHEAD_BYTES > LEND_TCP_IN_BYTES) {
        uint32_t count = count_of(in);

        memmove(in->bytes, in->bytes + in->first, count);
        in->first = 0;
        in->end = count;
    }
    struct iovec piece = room_of(in, needed - count_of(in) + LEND_TCP_AHEAD_BYTES);
    (void)receive_once(channel, &piece, 1, 0);
    return count_of(in) >= needed;
}

/* Client: the server's preamble, ahead of its first frame. */
static enum lend_status take_preamble(struct lend_tcp_channel *channel, struct lend_error *error)
{
    struct lend_tcp_buffer *in = &channel->in;
    char text[LEND_TCP_TEXT_BYTES];
    uint16_t version = 0;

    if (!gather(channel, LEND_TCP_PREAMBLE_BYTES))
        return LEND_PENDING;

    enum lend_tcp_preamble kind = lend_tcp_preamble_decode(in->bytes + in->first, &version);
    lend_tcp_place_text(&channel->places.places[channel->place], text);
    if (kind == LEND_TCP_IS_STRANGE)
        return lend_fail(error, LEND_E_PEER_DEAD, "what answers at %s is no agent of lend", text);
    if (kind == LEND_TCP_IS_OTHER_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "the agent at %s speaks version %u of transport tcp, we speak another",
                         text, version);
    step_past(in, LEND_TCP_PREAMBLE_BYTES);
    channel->owes_preamble = false;
    return LEND_OK;
}

enum lend_status lend_tcp_peek(struct lend_channel *base, uint8_t *header, struct lend_error *error)
{
    struct lend_tcp_channel *channel = channel_of(base);
    struct lend_tcp_buffer *in = &channel->in;

    if (channel->owes_preamble) {
        enum lend_status status = take_preamble(channel, error);
        if (status != LEND_OK)
            return status;
    }
    if (!channel->is_peeked) {
        if (!gather(channel, LEND_FRAME_HEADER_BYTES))
            return LEND_PENDING;
        memcpy(channel->header, in->bytes + in->first, LEND_FRAME_HEADER_BYTES);

        /* The rest of the header is for core to judge. */
        struct lend_reader reader = lend_reader_init(channel->header + 4, sizeof(uint32_t));
        channel->payload_bytes = lend_read_u32(&reader);
        if (channel->payload_bytes > LEND_FRAME_DATA_MAX)
            return lend_fail(error, LEND_E_CORRUPT, "the peer sent a frame whose payload is %u",
                             channel->payload_bytes);
        channel->taken_bytes = 0;
        channel->is_peeked = true;
        step_past(in, LEND_FRAME_HEADER_BYTES);
    }
    memcpy(header, channel->header, LEND_FRAME_HEADER_BYTES);
    return LEND_OK;
}

enum lend_status lend_tcp_take(struct lend_channel *base, void *payload, size_t count,
                               struct lend_error *error)
{
    struct lend_tcp_channel *channel = channel_of(base);
    struct lend_tcp_buffer *in = &channel->in;

    assert(channel->is_peeked && channel->taken_bytes == 0);
    if (count != channel->payload_bytes || count > LEND_FRAME_CONTROL_MAX)
        return lend_fail(error, LEND_E_INVALID, "%zu bytes wanted of a frame that carries %u",
                         count, channel->payload_bytes);
    if (!gather(channel, (uint32_t)count))
        return LEND_PENDING;
    if (count > 0)
        memcpy(payload, in->bytes + in->first, count);
    step_past(in, (uint32_t)count);
    channel->is_peeked = false;
    return LEND_OK;
}

/* Take what is buffered of it. */
static size_t take_buffered(struct lend_tcp_channel *channel, struct lend_cursor *to, size_t count)
{
    struct lend_tcp_buffer *in = &channel->in;
    uint32_t taken = count < count_of(in) ? (uint32_t)count : count_of(in);

    if (to != NULL)
        lend_cursor_scatter(to, in->bytes + in->first, taken);
    step_past(in, taken);
    return taken;
}

/* The buffer is empty: receive to where it belongs, and a little of what is behind. */
static size_t take_direct(struct lend_tcp_channel *channel, struct lend_cursor *to, size_t count,
                          bool is_last)
{
    struct iovec pieces[LEND_TCP_PIECES_MAX + 1];
    struct lend_cursor ahead = *to;
    uint32_t found = lend_cursor_pieces(&ahead, count, pieces, LEND_TCP_PIECES_MAX);
    size_t wanted = 0;

    for (uint32_t i = 0; i < found; i++)
        wanted += pieces[i].iov_len;
    if (is_last && wanted == count)
        pieces[found++] = room_of(&channel->in, LEND_TCP_TAIL_BYTES);

    size_t came = receive_once(channel, pieces, found, wanted);
    if (came == wanted)
        *to = ahead;
    else
        lend_cursor_skip(to, came);
    return came;
}

/* The same to nowhere, through the buffer. */
static size_t drop_direct(struct lend_tcp_channel *channel, size_t count)
{
    struct iovec piece = room_of(&channel->in, count);

    return receive_once(channel, &piece, 1, piece.iov_len);
}

size_t lend_tcp_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                          size_t total)
{
    struct lend_tcp_channel *channel = channel_of(base);

    assert(channel->is_peeked);
    LEND_INVARIANT(total == channel->payload_bytes);

    size_t left = total - channel->taken_bytes;
    if (count > left)
        count = left;
    size_t taken = take_buffered(channel, to, count);
    if (taken < count) {
        size_t rest = count - taken;
        taken +=
            to != NULL ? take_direct(channel, to, rest, count == left) : drop_direct(channel, rest);
    }
    channel->taken_bytes += (uint32_t)taken;
    channel->is_peeked = channel->taken_bytes < total;
    return taken;
}

/* Sleep */

/* Is there something to be taken that the socket will not tell of? */
static bool has_more(const struct lend_tcp_channel *channel)
{
    uint32_t count = count_of(&channel->in);

    if (channel->owes_preamble)
        return count >= LEND_TCP_PREAMBLE_BYTES;
    if (!channel->is_peeked)
        return count >= LEND_FRAME_HEADER_BYTES;
    if (channel->header[3] == LEND_FRAME_DATA)
        return count > 0 || channel->taken_bytes == channel->payload_bytes;
    return count >= channel->payload_bytes;
}

/* Watch the socket for that alone, once; or for nothing. */
static bool watch_for(struct lend_tcp_channel *channel, uint32_t events)
{
    struct lend_error error;

    if (atomic_exchange_explicit(&channel->watched, events, memory_order_seq_cst) == events)
        return true;
    if (lend_agent_rewatch(channel->tcp->agent, &channel->socket, events | EPOLLONESHOT, &error) ==
        LEND_OK)
        return true;
    atomic_store_explicit(&channel->watched, 0, memory_order_seq_cst);
    return false;
}

bool lend_tcp_sleep(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct lend_tcp_channel *channel = channel_of(base);

    (void)wanted; /* there is room for all, or none */
    if (!is_ready(channel))
        return true;      /* the poller wakes us when it is */
    lend_tcp_flush(base); /* who sleeps with something untold sleeps for good */
    if (channel->is_over || has_more(channel) || (wants_room && lend_tcp_room(base) > 0))
        return false;
    return watch_for(channel, EPOLLIN | EPOLLRDHUP | (channel->is_blocked ? EPOLLOUT : 0));
}

void lend_tcp_awake(struct lend_channel *base)
{
    struct lend_tcp_channel *channel = channel_of(base);

    if (is_ready(channel))
        (void)watch_for(channel, 0); /* else it wakes us once for nothing */
}

void lend_tcp_socket_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_tcp_channel *channel = LEND_LIST_OWNER(watch, struct lend_tcp_channel, socket);

    (void)events;
    /* It was told once, and is watched for nothing now; whoever wants more says so. */
    atomic_store_explicit(&channel->watched, 0, memory_order_seq_cst);
    lend_session_wake(channel->base.session);
}
