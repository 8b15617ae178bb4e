/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * A frame in a ring: 32 bytes of header, its payload, and padding to a multiple of 64, so that
 * headers stand at the start of a cache line. A ring lies twice in a row in the address space, so a
 * frame never wraps. Frames are published whole: half a frame is the mark of a peer that breaks the
 * protocol.
 */
enum {
    FRAME_UNIT = 64,
    PACKETS_PER_TURN = 8, /* of a flooding peer, before the others have theirs */

    /* The file: header, ring of the client, ring of the server. The header is as long as the
     * largest page of any machine, so that rings begin on one; only its first page is touched. */
    HEADER_BYTES = 65536,
};

struct header {
    struct lend_ring_shared from_client;
    struct lend_ring_shared from_server;
};

_Static_assert(sizeof(struct header) <= 4096, "one page of the header is touched");
_Static_assert((int)LEND_FRAME_HEADER_BYTES < (int)FRAME_UNIT,
               "an empty unit has room for a payload");

static struct lend_local_channel *channel_of(struct lend_channel *base)
{
    return (struct lend_local_channel *)(void *)base;
}

/* Bytes of ring that a frame takes. */
static inline uint64_t footprint(uint64_t payload_bytes)
{
    return (LEND_FRAME_HEADER_BYTES + payload_bytes + FRAME_UNIT - 1) & ~(uint64_t)(FRAME_UNIT - 1);
}

/* Life */

struct lend_local_channel *lend_local_channel_create(struct lend_local *local)
{
    struct lend_local_channel *channel = lend_sys->allocate(sizeof *channel);

    if (channel == NULL)
        return NULL;
    channel->base.ops = &lend_transport_local;
    channel->local = local;
    channel->socket.fd = -1;
    channel->death.fd = -1;
    lend_list_init(&channel->half_open);
    lend_list_init(&channel->served);
    return channel;
}

static void unmap(struct lend_local_channel *channel)
{
    if (channel->shared != NULL)
        lend_sys->unmap_twice(channel->shared, HEADER_BYTES);
    if (channel->in.data != NULL)
        lend_sys->unmap_twice(channel->in.data, channel->in.bytes);
    if (channel->out.data != NULL)
        lend_sys->unmap_twice(channel->out.data, channel->out.bytes);
}

static bool is_over(const struct lend_local_channel *channel)
{
    /* Relaxed: it orders nothing; the poller is who sets it. */
    return atomic_load_explicit(&channel->is_over, memory_order_relaxed);
}

/* Stop to watch a descriptor, and close it. A forked child shares the poller with its parent: what
 * it took out of it there, the parent would miss. */
static void close_watched(struct lend_local_channel *channel, struct lend_watch *watch, bool forked)
{
    if (watch->fd < 0)
        return;
    if (!forked && watch->ready != NULL && !is_over(channel))
        lend_agent_unwatch(channel->local->agent, watch);
    if (!forked && watch == &channel->socket && channel->is_haunting)
        lend_sys->shutdown_write(watch->fd);
    else if (!forked && watch == &channel->socket)
        lend_sys->shutdown(watch->fd);
    lend_sys->close(watch->fd);
    watch->fd = -1;
}

void lend_local_channel_destroy(struct lend_local_channel *channel, bool forked)
{
    if (channel == NULL)
        return;
    lend_local_stop_serving(channel, forked);
    if (!forked)
        lend_local_leave(channel);
    /* First: a peer that sees the end takes what is mapped for free. */
    lend_local_mappings_destroy(channel->mappings, forked);
    close_watched(channel, &channel->death, forked);
    close_watched(channel, &channel->socket, forked);
    unmap(channel);
    lend_sys->release(channel);
}

uint64_t lend_local_file_bytes(uint64_t ring_bytes)
{
    return HEADER_BYTES + 2 * ring_bytes;
}

enum lend_status lend_local_channel_map(struct lend_local_channel *channel, int fd,
                                        uint64_t ring_bytes, bool is_client,
                                        struct lend_error *error)
{
    struct lend_ring *rings[2] = {&channel->out,
                                  &channel->in}; /* from the client, from the server */
    struct header *header = lend_sys->map_twice(fd, 0, HEADER_BYTES);

    if (header == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "the header of two rings cannot be mapped");
    channel->shared = header;
    struct lend_ring_shared *shared[2] = {&header->from_client, &header->from_server};

    if (!is_client) {
        rings[0] = &channel->in;
        rings[1] = &channel->out;
    }
    for (int i = 0; i < 2; i++) {
        uint64_t offset = HEADER_BYTES + (uint64_t)i * ring_bytes;
        uint8_t *data = lend_sys->map_twice(fd, offset, ring_bytes);

        if (data == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "a ring of %llu bytes cannot be mapped twice",
                             (unsigned long long)ring_bytes);
        lend_ring_init(rings[i], shared[i], data, ring_bytes);
    }
    atomic_store_explicit(&channel->is_ready, !is_client, memory_order_relaxed);
    return LEND_OK;
}

/* Doorbells */

/* Wake the other end. What goes wrong here shows at the socket, which the poller watches. */
static void ring_bell(struct lend_local_channel *channel)
{
    static const uint8_t bell = 1;
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)&bell, .iov_len = sizeof bell};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

    ssize_t sent = lend_sys->sendmsg(channel->socket.fd, &message);
    /* EAGAIN: doorbells that nobody has read yet fill the socket, and will wake it as well. */
    channel->owes_bell =
        sent < 0 && sent != -EAGAIN && sent != -EPIPE && sent != -ECONNRESET && sent != -ENOTCONN;
}

static inline void publish_head(struct lend_local_channel *channel)
{
    channel->told_head = channel->out.position;
    if (lend_ring_publish_head(&channel->out))
        ring_bell(channel);
}

static inline void publish_tail(struct lend_local_channel *channel)
{
    channel->told_tail = channel->in.position;
    if (lend_ring_publish_tail(&channel->in))
        ring_bell(channel);
}

void lend_local_flush(struct lend_channel *base)
{
    struct lend_local_channel *channel = channel_of(base);

    if (channel->told_head != channel->out.position)
        publish_head(channel);
    if (channel->told_tail != channel->in.position)
        publish_tail(channel);
    if (channel->owes_bell)
        ring_bell(channel);
}

/* Acquire: with what the server has told before; pairs with its release in mapping.c. */
static inline bool is_ready(const struct lend_local_channel *channel)
{
    return atomic_load_explicit(&channel->is_ready, memory_order_acquire);
}

/* The most payload that ring carries, whoever waits for more. */
static inline uint64_t payload_max(const struct lend_ring *ring)
{
    uint64_t most = ring->bytes - LEND_FRAME_HEADER_BYTES;

    return most < LEND_FRAME_PAYLOAD_MAX ? most : LEND_FRAME_PAYLOAD_MAX;
}

bool lend_local_sleep(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct lend_local_channel *channel = channel_of(base);
    uint64_t payload = wanted < payload_max(&channel->out) ? wanted : payload_max(&channel->out);

    lend_local_flush(base); /* who sleeps with something untold sleeps for good */
    if (channel->owes_bell || channel->is_peeked || channel->in.is_broken ||
        channel->out.is_broken || lend_local_must_let_go(channel))
        return false;
    if (!is_ready(channel))
        wants_room = false; /* there is none until the poller wakes us */
    if (!lend_ring_sleep_consumer(&channel->in))
        return false;
    if (!wants_room || lend_ring_sleep_producer(&channel->out, footprint(payload)))
        return true;

    /* There is room. If the peer has seen us asleep already, its doorbell wakes us once for
     * nothing. */
    lend_ring_awake_consumer(&channel->in);
    return false;
}

void lend_local_awake(struct lend_channel *base)
{
    struct lend_local_channel *channel = channel_of(base);

    lend_ring_awake_consumer(&channel->in);
    lend_ring_awake_producer(&channel->out);
}

/* Frames out */

size_t lend_local_room(struct lend_channel *base)
{
    struct lend_local_channel *channel = channel_of(base);

    if (!is_ready(channel))
        return 0;
    uint64_t room = lend_ring_room(&channel->out) & ~(uint64_t)(FRAME_UNIT - 1);
    if (room == 0)
        return 0;
    room -= LEND_FRAME_HEADER_BYTES;
    return room < LEND_FRAME_PAYLOAD_MAX ? (size_t)room : LEND_FRAME_PAYLOAD_MAX;
}

void lend_local_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                     size_t count)
{
    struct lend_ring *ring = &channel_of(base)->out;
    uint8_t *at = lend_ring_write_at(ring);

    assert(count <= lend_local_room(base));
    memcpy(at, header, LEND_FRAME_HEADER_BYTES);
    if (count > 0)
        memcpy(at + LEND_FRAME_HEADER_BYTES, payload, count);
    lend_ring_advance(ring, footprint(count));
}

void lend_local_send_data(struct lend_channel *base, const uint8_t *header,
                          struct lend_cursor *from, size_t count)
{
    struct lend_local_channel *channel = channel_of(base);
    uint8_t *at = lend_ring_write_at(&channel->out);

    assert(count <= lend_local_room(base));
    memcpy(at, header, LEND_FRAME_HEADER_BYTES);
    lend_cursor_gather(from, at + LEND_FRAME_HEADER_BYTES, count);
    lend_ring_advance(&channel->out, footprint(count));
    publish_head(channel); /* so that the peer copies out while we copy in */
}

/* Frames in */

/* Look for the next frame, and keep a private copy of its header: the peer may rewrite what it has
 * published. */
static enum lend_status find_frame(struct lend_local_channel *channel, struct lend_error *error)
{
    uint64_t available = lend_ring_available(&channel->in);

    if (channel->in.is_broken || channel->out.is_broken)
        return lend_fail(error, LEND_E_CORRUPT,
                         "the peer published a position that its ring cannot have");
    if (available == 0)
        return LEND_PENDING;
    if (available < FRAME_UNIT)
        return lend_fail(error, LEND_E_CORRUPT, "the peer published %llu bytes, less than a frame",
                         (unsigned long long)available);
    memcpy(channel->header, lend_ring_read_at(&channel->in), LEND_FRAME_HEADER_BYTES);

    /* The rest of the header is for core to judge. */
    struct lend_reader reader = lend_reader_init(channel->header + 4, sizeof(uint32_t));
    uint32_t payload_bytes = lend_read_u32(&reader);
    if (payload_bytes > LEND_FRAME_PAYLOAD_MAX || footprint(payload_bytes) > available)
        return lend_fail(error, LEND_E_CORRUPT,
                         "the peer published %llu bytes with a frame whose payload is %u",
                         (unsigned long long)available, payload_bytes);

    channel->payload_bytes = payload_bytes;
    channel->taken_bytes = 0;
    channel->is_peeked = true;
    return LEND_OK;
}

enum lend_status lend_local_peek(struct lend_channel *base, uint8_t *header,
                                 struct lend_error *error)
{
    struct lend_local_channel *channel = channel_of(base);

    if (lend_local_must_let_go(channel))
        lend_local_let_go(channel);
    if (!channel->is_peeked) {
        enum lend_status status = find_frame(channel, error);
        if (status != LEND_OK)
            return status;
    }
    memcpy(header, channel->header, LEND_FRAME_HEADER_BYTES);
    return LEND_OK;
}

static const uint8_t *payload_at(const struct lend_local_channel *channel)
{
    return lend_ring_read_at(&channel->in) + LEND_FRAME_HEADER_BYTES + channel->taken_bytes;
}

static void finish_frame(struct lend_local_channel *channel)
{
    lend_ring_advance(&channel->in, footprint(channel->payload_bytes));
    channel->is_peeked = false;
}

enum lend_status lend_local_take(struct lend_channel *base, void *payload, size_t count,
                                 struct lend_error *error)
{
    struct lend_local_channel *channel = channel_of(base);

    assert(channel->is_peeked && channel->taken_bytes == 0);
    if (count != channel->payload_bytes)
        return lend_fail(error, LEND_E_INVALID, "%zu bytes wanted of a frame that carries %u",
                         count, channel->payload_bytes);
    if (count > 0)
        memcpy(payload, payload_at(channel), count);
    finish_frame(channel);
    return LEND_OK;
}

size_t lend_local_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                            size_t total)
{
    struct lend_local_channel *channel = channel_of(base);

    assert(channel->is_peeked);
    LEND_INVARIANT(total == channel->payload_bytes);

    size_t left = total - channel->taken_bytes;
    if (count > left)
        count = left;
    if (to != NULL)
        lend_cursor_scatter(to, payload_at(channel), count);
    channel->taken_bytes += (uint32_t)count;
    if (channel->taken_bytes == total) {
        finish_frame(channel);
        publish_tail(channel); /* so that the peer copies in while we copy out */
    }
    return count;
}

/* What the poller sees */

/* The other end is gone. The last that is done here: core may close the channel. */
static void hang_up(struct lend_local_channel *channel, enum lend_status status, const char *reason)
{
    if (is_over(channel))
        return;
    /* Level-triggered: a socket that has hung up would be told again and again. */
    lend_agent_unwatch(channel->local->agent, &channel->socket);
    if (channel->death.fd >= 0)
        lend_agent_unwatch(channel->local->agent, &channel->death);
    atomic_store_explicit(&channel->is_over, true, memory_order_relaxed);
    lend_session_hang_up(channel->base.session, status, reason);
}

/* Client: the server's answer to our setup. False: it refused, or it makes no sense. */
static bool take_answer(struct lend_local_channel *channel, struct lend_local_packet *packet)
{
    struct lend_local_answer answer;

    if (!lend_local_answer_decode(packet, &answer) ||
        (channel->is_answered && answer.status == LEND_OK)) {
        hang_up(channel, LEND_E_CORRUPT, "the peer sent a packet that no agent sends then");
        return false;
    }
    if (answer.status != LEND_OK) {
        struct lend_error why;

        (void)lend_fail(&why, lend_status_from_wire(answer.status),
                        "the peer refused the connection: %s; it speaks version %u of the set-up",
                        lend_status_name(lend_status_from_wire(answer.status)), answer.version);
        hang_up(channel, (enum lend_status)why.status, why.message);
        return false;
    }
    channel->is_answered = true;
    if (answer.has_pidfd && packet->fd_count > 0)
        lend_local_watch_death(channel, packet, 0);
    return true;
}

/* False: nothing more is to be done with this channel, which may be gone. */
static bool take_packet(struct lend_local_channel *channel, struct lend_local_packet *packet)
{
    if (packet->count == -EAGAIN || packet->count == -ENOMEM || packet->count == -ENOBUFS)
        return false;
    if (packet->count <= 0) {
        hang_up(channel, LEND_E_PEER_DEAD, "the peer closed its connection, or died");
        return false;
    }
    if (packet->count == 1)
        return true;

    struct lend_error why = {.status = LEND_OK};
    bool is_client = channel->mappings != NULL;
    if (!is_client)
        (void)lend_local_take_said(channel, packet, &why);
    else if (channel->is_answered && lend_local_is_notice(packet))
        (void)lend_local_take_notice(channel, packet, &why);
    else
        return take_answer(channel, packet);
    if (why.status == LEND_OK)
        return true;
    hang_up(channel, (enum lend_status)why.status, why.message);
    return false;
}

void lend_local_socket_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_local_channel *channel = LEND_LIST_OWNER(watch, struct lend_local_channel, socket);
    struct lend_session *session = channel->base.session;
    bool is_closed = (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;

    /* One packet a turn is what there usually is; where the peer has hung up, look for what is
     * behind. */
    for (int i = 0; i < (is_closed ? PACKETS_PER_TURN : 1); i++) {
        struct lend_local_packet packet;

        lend_local_receive(watch->fd, channel->mappings != NULL, &packet);
        bool goes_on = take_packet(channel, &packet);
        lend_local_packet_fini(&packet);
        if (!goes_on)
            return;
    }
    lend_session_wake(session);
}

void lend_local_death_ready(struct lend_watch *watch, uint32_t events)
{
    (void)events;
    hang_up(LEND_LIST_OWNER(watch, struct lend_local_channel, death), LEND_E_PEER_DEAD,
            "the peer's process has ended");
}
