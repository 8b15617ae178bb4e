/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/list.h"
#include "base/reader.h"
#include "base/ring.h"
#include "base/sys.h"
#include "base/writer.h"
#include "transport/loopback/fabric.h"
#include "wire/metadata.h"

#include <lend/memory.h>

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

/*
 * Agents of one process reach each other through rings in its own memory.
 *
 * A connection is a link with two ends, each a channel. A new server end, and the news that the
 * other end has closed, come to an agent through its transport's inbox, which the agent's poller
 * empties.
 *
 * Locks: session > registry > link > what lend_session_wake() takes. No session is locked from
 * here.
 */

extern const struct lend_transport_ops lend_transport_loopback;

enum {
    ADDRESS_VERSION = 1,
    ADDRESS_BYTES = 1 + LEND_INCARNATION_BYTES + 8,
    FRAME_ALIGN = 64,
    CLIENT = 0,
    SERVER = 1,
};

struct transport {
    struct lend_watch watch; /* of the inbox's eventfd */
    struct lend_list link;   /* in the registry, under its lock */
    struct lend_list inbox;  /* of channels; under the registry's lock */
    struct lend_agent *agent;
    uint64_t ring_bytes;
    uint64_t nonce; /* of the process that opened it */
    uint8_t incarnation[LEND_INCARNATION_BYTES];
};

struct channel {
    struct lend_channel base;
    struct transport *transport;
    struct link *link;
    uint32_t side; /* CLIENT or SERVER */
    bool is_accepted;
    struct lend_list mail; /* in the transport's inbox, under the registry's lock */
    struct lend_ring in;
    struct lend_ring out;
    bool has_sent; /* since the last flush */
    bool has_taken;
    size_t taken;                  /* of the DATA frame at hand */
    struct lend_fabric_line *line; /* NULL: no fabric */
};

struct link {
    void *memory; /* the allocation that this lies in */
    _Atomic uint32_t references;
    uint64_t ring_bytes;
    uint8_t *data[2];                 /* by the side that writes them */
    pthread_mutex_t lock;             /* guards sessions */
    struct lend_session *sessions[2]; /* NULL: not to be woken */
    struct channel *channels[2];      /* under the registry's lock; NULL: closed */
    struct lend_ring_shared shared[2];
};

/* Every open transport of this process. A forked child starts over. */
static struct {
    _Atomic int64_t life; /* 0: not yet made; negative: that life is making it */
    pthread_mutex_t lock;
    struct lend_list transports;
    uint64_t nonce;
} registry;

/* Make the registry this process's own: only one thread of a life gets to be here. */
static enum lend_status revive(int64_t life, struct lend_error *error)
{
    int result = lend_sys->random(&registry.nonce, sizeof registry.nonce);

    if (result < 0) {
        /* Release, here and below: whoever sees it sees what was made. */
        atomic_store_explicit(&registry.life, 0, memory_order_release);
        return lend_fail_errno(error, -result, "no random bytes for the loopback address");
    }
    (void)pthread_mutex_init(&registry.lock, NULL); /* cannot fail with default attributes */
    lend_list_init(&registry.transports);
    atomic_store_explicit(&registry.life, life, memory_order_release);
    return LEND_OK;
}

/* The registry, made for this life of the process. */
static enum lend_status ready_registry(struct lend_error *error)
{
    int64_t life = lend_fork_life();

    if (life < 0)
        return lend_fail_errno(error, (int)-life, "no page that tells a forked child");
    for (;;) {
        /* Acquire: what was made before is seen. */
        int64_t seen = atomic_load_explicit(&registry.life, memory_order_acquire);

        if (seen == life)
            return LEND_OK;
        /* Acquire, relaxed: a claim orders nothing but what follows it. */
        if (seen != -life &&
            atomic_compare_exchange_strong_explicit(&registry.life, &seen, -life,
                                                    memory_order_acquire, memory_order_relaxed))
            return revive(life, error);
        lend_sys->yield(); /* another thread is making it: a few microseconds */
    }
}

static void lock_registry(void)
{
    (void)pthread_mutex_lock(&registry.lock);
}

static void unlock_registry(void)
{
    (void)pthread_mutex_unlock(&registry.lock);
}

/* Put a channel into its transport's inbox, if it is not there, and ring. Under the registry's
 * lock. */
static void deliver_locked(struct channel *channel)
{
    static const uint64_t one = 1;
    struct transport *transport = channel->transport;

    if (!lend_list_is_empty(&channel->mail))
        return;
    lend_list_append(&transport->inbox, &channel->mail);
    /* An eventfd takes this unless its count is full, and then it has rung. Once more is for a
     * fault that a test has planted. */
    if (lend_sys->write(transport->watch.fd, &one, sizeof one) < 0)
        (void)lend_sys->write(transport->watch.fd, &one, sizeof one);
}

static uint64_t frame_bytes(size_t payload)
{
    return ((uint64_t)LEND_FRAME_HEADER_BYTES + payload + FRAME_ALIGN - 1) &
           ~(uint64_t)(FRAME_ALIGN - 1);
}

/* Links */

static struct link *create_link(uint64_t ring_bytes)
{
    size_t align = _Alignof(struct link);
    void *memory = lend_sys->allocate(sizeof(struct link) + align - 1);

    if (memory == NULL)
        return NULL;
    struct link *link = (void *)(((uintptr_t)memory + align - 1) & ~(uintptr_t)(align - 1));

    link->memory = memory;
    link->ring_bytes = ring_bytes;
    atomic_init(&link->references, 1);
    (void)pthread_mutex_init(&link->lock, NULL); /* cannot fail with default attributes */
    return link;
}

static void release_link(struct link *link)
{
    /* Release: our use of it happens before the free. Acquire: so does the other end's. */
    if (atomic_fetch_sub_explicit(&link->references, 1, memory_order_acq_rel) > 1)
        return;
    for (int side = 0; side < 2; side++)
        if (link->data[side] != NULL)
            lend_sys->unmap_twice(link->data[side], link->ring_bytes);
    (void)pthread_mutex_destroy(&link->lock);
    lend_sys->release(link->memory);
}

static bool map_rings(struct link *link)
{
    for (int side = 0; side < 2; side++) {
        link->data[side] = lend_sys->map_twice(-1, 0, link->ring_bytes);
        if (link->data[side] == NULL)
            return false;
    }
    return true;
}

static void wake(struct link *link, uint32_t side)
{
    (void)pthread_mutex_lock(&link->lock);
    if (link->sessions[side] != NULL)
        lend_session_wake(link->sessions[side]);
    (void)pthread_mutex_unlock(&link->lock);
}

static void set_session(struct link *link, uint32_t side, struct lend_session *session)
{
    (void)pthread_mutex_lock(&link->lock);
    link->sessions[side] = session;
    (void)pthread_mutex_unlock(&link->lock);
}

/* Channels: making and ending */

static struct channel *channel_of(struct lend_channel *base)
{
    return (struct channel *)base;
}

static void wake_owner(void *owner)
{
    struct channel *channel = owner;

    wake(channel->link, channel->side);
}

static void hang_up_owner(void *owner)
{
    struct channel *channel = owner;

    lock_registry();
    deliver_locked(channel);
    unlock_registry();
}

/* A channel of one side, with a reference on the link; NULL: no memory. */
static struct channel *create_channel(struct link *link, uint32_t side)
{
    struct channel *channel = lend_sys->allocate(sizeof *channel);

    if (channel == NULL)
        return NULL;
    channel->base.ops = &lend_transport_loopback;
    channel->base.is_private = true; /* it is this process */
    channel->link = link;
    channel->side = side;
    lend_list_init(&channel->mail);
    lend_ring_init(&channel->out, &link->shared[side], link->data[side], link->ring_bytes);
    lend_ring_init(&channel->in, &link->shared[1 - side], link->data[1 - side], link->ring_bytes);
    /* Relaxed: a reference that begets another needs no order. */
    (void)atomic_fetch_add_explicit(&link->references, 1, memory_order_relaxed);
    return channel;
}

static void destroy_channel(struct channel *channel)
{
    if (channel == NULL)
        return;
    lend_fabric_line_destroy(channel->line);
    release_link(channel->link);
    lend_sys->release(channel);
}

/* Nobody wakes this end from here on, and the other one will hear of it. */
static void part(struct channel *channel)
{
    struct link *link = channel->link;
    bool is_told = channel->line == NULL || !lend_fabric_line_is_dead(channel->line);

    lock_registry();
    lend_list_remove(&channel->mail);
    set_session(link, channel->side, NULL);
    link->channels[channel->side] = NULL;
    if (link->channels[1 - channel->side] != NULL && is_told)
        deliver_locked(link->channels[1 - channel->side]);
    unlock_registry();
}

static void loopback_close_channel(struct lend_channel *base, bool forked)
{
    struct channel *channel = channel_of(base);

    /* A forked child has no other end to tell, and a lock may be held by a thread that it has not.
     */
    if (!forked)
        part(channel);
    destroy_channel(channel);
}

/* The inbox */

/* A peer has connected. False if the channel is no more. */
static bool accept_channel(struct channel *channel)
{
    struct lend_error error;

    channel->is_accepted = true;
    if (lend_session_accept(channel->transport->agent, &channel->base, &error) != LEND_OK) {
        lend_agent_log(channel->transport->agent, LEND_LOG_WARNING,
                       "a peer of this process was turned away: %s", error.message);
        loopback_close_channel(&channel->base, false);
        return false;
    }
    /* The client may have sent already, to nobody who could be woken. */
    set_session(channel->link, SERVER, channel->base.session);
    lend_session_wake(channel->base.session);
    return true;
}

static bool is_parted(struct channel *channel)
{
    lock_registry();
    bool is_alone = channel->link->channels[1 - channel->side] == NULL;
    unlock_registry();

    return is_alone || (channel->line != NULL && lend_fabric_line_is_dead(channel->line));
}

static struct channel *take_mail(struct transport *transport)
{
    lock_registry();
    struct lend_list *first = lend_list_take_first(&transport->inbox);
    unlock_registry();

    return first != NULL ? LEND_LIST_OWNER(first, struct channel, mail) : NULL;
}

static void empty_inbox(struct lend_watch *watch, uint32_t events)
{
    struct transport *transport = (struct transport *)watch;
    struct channel *channel;
    uint64_t rings;

    (void)events;
    (void)lend_sys->read(watch->fd, &rings,
                         sizeof rings); /* to silence it; the list is what counts */
    while ((channel = take_mail(transport)) != NULL) {
        if (!channel->is_accepted && !accept_channel(channel))
            continue;
        if (is_parted(channel))
            lend_session_hang_up(channel->base.session, LEND_E_PEER_DEAD,
                                 "the other agent of this process closed the connection");
    }
}

/* Transports */

static enum lend_status enrol(struct transport *transport, struct lend_error *error)
{
    enum lend_status status = ready_registry(error);

    if (status != LEND_OK)
        return status;
    transport->watch.ready = empty_inbox;
    transport->watch.fd = lend_sys->event();
    if (transport->watch.fd < 0)
        return lend_fail_errno(error, -transport->watch.fd, "no eventfd for the loopback inbox");
    status = lend_agent_watch(transport->agent, &transport->watch, EPOLLIN, error);
    if (status != LEND_OK) {
        lend_sys->close(transport->watch.fd);
        return status;
    }

    transport->nonce = registry.nonce;
    lock_registry();
    lend_list_append(&registry.transports, &transport->link);
    unlock_registry();
    return LEND_OK;
}

static enum lend_status loopback_open(const struct lend_transport_open *open, void **out,
                                      struct lend_error *error)
{
    struct transport *transport = lend_sys->allocate(sizeof *transport);

    if (transport == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport loopback");
    transport->agent = open->agent;
    transport->ring_bytes = open->ring_bytes;
    memcpy(transport->incarnation, open->incarnation, LEND_INCARNATION_BYTES);
    lend_list_init(&transport->link);
    lend_list_init(&transport->inbox);

    enum lend_status status = enrol(transport, error);
    if (status != LEND_OK) {
        lend_sys->release(transport);
        return status;
    }
    *out = transport;
    return LEND_OK;
}

static void loopback_close(void *object)
{
    struct transport *transport = object;
    struct channel *channel;

    lock_registry();
    lend_list_remove(&transport->link);
    unlock_registry();
    lend_agent_unwatch(transport->agent, &transport->watch);
    lend_sys->close(transport->watch.fd);

    /* What was not yet accepted is not known to core. */
    while ((channel = take_mail(transport)) != NULL)
        if (!channel->is_accepted)
            loopback_close_channel(&channel->base, false);
    lend_sys->release(transport);
}

/* The registry of the child does not know this transport, and the parent's epoll is not ours to
 * change. */
static void loopback_close_forked(void *object)
{
    struct transport *transport = object;
    struct lend_list *first;

    while ((first = lend_list_take_first(&transport->inbox)) != NULL) {
        struct channel *channel = LEND_LIST_OWNER(first, struct channel, mail);

        if (!channel->is_accepted)
            loopback_close_channel(&channel->base, true);
    }
    lend_sys->close(transport->watch.fd);
    lend_sys->release(transport);
}

static size_t loopback_address(void *object, uint8_t *bytes)
{
    const struct transport *transport = object;
    struct lend_writer writer = lend_writer_init(bytes, LEND_METADATA_ADDRESS_MAX);

    lend_write_u8(&writer, ADDRESS_VERSION);
    lend_write_bytes(&writer, transport->incarnation, LEND_INCARNATION_BYTES);
    lend_write_u64(&writer, transport->nonce);
    assert(writer.count == ADDRESS_BYTES);
    return writer.count;
}

/* The incarnation in an address of this process; false if it is none. */
static bool parse_address(const struct transport *transport, const uint8_t *address, size_t count,
                          uint8_t *out_incarnation)
{
    struct lend_reader reader = lend_reader_init(address, count);
    uint8_t version = lend_read_u8(&reader);

    lend_read_bytes(&reader, out_incarnation, LEND_INCARNATION_BYTES);
    uint64_t nonce = lend_read_u64(&reader);
    return lend_reader_done(&reader) && version == ADDRESS_VERSION && nonce == transport->nonce;
}

static bool loopback_reaches(void *object, const uint8_t *address, size_t count)
{
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    return parse_address(object, address, count, incarnation);
}

/* "loopback:" and the incarnation in 32 digits: for tests, which ask where there is no network. */
static bool loopback_parse(void *object, const char *text, uint8_t *address, size_t *count)
{
    static const char prefix[] = "loopback:", digits[] = "0123456789abcdef";
    const struct transport *transport = object;
    struct lend_writer writer = lend_writer_init(address, LEND_METADATA_ADDRESS_MAX);
    const char *at = text;

    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return false;
    at += strlen(prefix);
    if (strlen(at) != 2 * LEND_INCARNATION_BYTES ||
        strspn(at, digits) != 2 * LEND_INCARNATION_BYTES)
        return false;
    lend_write_u8(&writer, ADDRESS_VERSION);
    for (; *at != '\0'; at += 2)
        lend_write_u8(&writer, (uint8_t)((strchr(digits, at[0]) - digits) << 4 |
                                         (strchr(digits, at[1]) - digits)));
    lend_write_u64(&writer, transport->nonce);
    *count = writer.count;
    return true;
}

/* Connecting */

static bool add_line(struct channel *channel, const uint8_t *from, const uint8_t *to)
{
    const struct lend_fabric_end end = {
        .owner = channel, .wake = wake_owner, .hang_up = hang_up_owner};

    if (!lend_fabric_is_installed())
        return true;
    channel->line = lend_fabric_line_create(from, to, channel->side == SERVER, &end);
    return channel->line != NULL;
}

/* Give the server's end to the transport that is named; false if nobody is. */
static bool hand_over(struct link *link, struct channel *client, struct channel *server,
                      const uint8_t *incarnation)
{
    bool is_found = false;

    lock_registry();
    for (struct lend_list *at = registry.transports.next; at != &registry.transports;
         at = at->next) {
        struct transport *target = LEND_LIST_OWNER(at, struct transport, link);

        if (memcmp(target->incarnation, incarnation, LEND_INCARNATION_BYTES) != 0)
            continue;
        link->channels[CLIENT] = client;
        link->channels[SERVER] = server;
        server->transport = target;
        deliver_locked(server);
        is_found = true;
        break;
    }
    unlock_registry();
    return is_found;
}

/* Both ends of a link, or neither. */
static bool create_ends(struct link *link, struct channel **out_client, struct channel **out_server)
{
    struct channel *client = create_channel(link, CLIENT);
    struct channel *server = create_channel(link, SERVER);

    if (client == NULL || server == NULL) {
        destroy_channel(client);
        destroy_channel(server);
        return false;
    }
    *out_client = client;
    *out_server = server;
    return true;
}

static enum lend_status join(struct transport *transport, struct link *link,
                             const uint8_t *incarnation, struct channel **out,
                             struct lend_error *error)
{
    struct channel *client = NULL;
    struct channel *server = NULL;

    if (!map_rings(link) || !create_ends(link, &client, &server))
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for two rings of %llu bytes",
                         (unsigned long long)link->ring_bytes);
    client->transport = transport;

    enum lend_status status = LEND_OK;
    if (!add_line(client, incarnation, transport->incarnation) ||
        !add_line(server, transport->incarnation, incarnation))
        status = lend_fail(error, LEND_E_NO_MEMORY, "no memory for the simulated fabric");
    else if (!hand_over(link, client, server, incarnation))
        status = lend_fail(error, LEND_E_PEER_DEAD,
                           "no agent of that incarnation is left in this process");
    if (status != LEND_OK) {
        destroy_channel(client);
        destroy_channel(server);
        return status;
    }
    *out = client;
    return LEND_OK;
}

static enum lend_status loopback_connect(void *object, const uint8_t *address, size_t count,
                                         struct lend_session *session, struct lend_channel **out,
                                         struct lend_error *error)
{
    struct transport *transport = object;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    struct channel *client = NULL;

    if (!parse_address(transport, address, count, incarnation))
        return lend_fail(error, LEND_E_PEER_DEAD, "the loopback address is of another process");

    struct link *link = create_link(transport->ring_bytes);
    if (link == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a loopback connection");
    set_session(link, CLIENT, session);

    enum lend_status status = join(transport, link, incarnation, &client, error);
    release_link(link);
    if (status != LEND_OK)
        return status;
    client->is_accepted = true;
    client->base.session = session;
    *out = &client->base;
    return LEND_OK;
}

/* Sending */

static size_t loopback_room(struct lend_channel *base)
{
    uint64_t room = lend_ring_room(&channel_of(base)->out);

    if (room < FRAME_ALIGN)
        return 0;
    room -= LEND_FRAME_HEADER_BYTES;
    return room < LEND_FRAME_PAYLOAD_MAX ? (size_t)room : LEND_FRAME_PAYLOAD_MAX;
}

/* Where the payload of the next frame goes. */
static uint8_t *put_header(struct channel *channel, const uint8_t *header)
{
    uint8_t *at = lend_ring_write_at(&channel->out);

    memcpy(at, header, LEND_FRAME_HEADER_BYTES);
    channel->has_sent = true;
    return at + LEND_FRAME_HEADER_BYTES;
}

static void loopback_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                          size_t count)
{
    struct channel *channel = channel_of(base);
    uint8_t *at = put_header(channel, header);

    if (count > 0)
        memcpy(at, payload, count);
    lend_ring_advance(&channel->out, frame_bytes(count));
}

static void loopback_send_data(struct lend_channel *base, const uint8_t *header,
                               struct lend_cursor *from, size_t count)
{
    struct channel *channel = channel_of(base);

    lend_cursor_gather(from, put_header(channel, header), count);
    lend_ring_advance(&channel->out, frame_bytes(count));
}

static void loopback_flush(struct lend_channel *base)
{
    struct channel *channel = channel_of(base);
    bool is_asleep = false;

    if (channel->has_sent)
        is_asleep = lend_ring_publish_head(&channel->out);
    if (channel->has_taken)
        is_asleep = lend_ring_publish_tail(&channel->in) || is_asleep;
    channel->has_sent = false;
    channel->has_taken = false;
    if (is_asleep)
        wake(channel->link, 1 - channel->side);
}

/* Receiving */

/* Both ends are of this process, so that the header in the ring is what we wrote there. */
static size_t payload_bytes(const uint8_t *header)
{
    struct lend_reader reader = lend_reader_init(header + 4, 4);

    return lend_read_u32(&reader);
}

static void step_past(struct channel *channel, size_t payload)
{
    lend_ring_advance(&channel->in, frame_bytes(payload));
    channel->has_taken = true;
}

/* Let the fabric judge what has arrived. Null if nothing may be seen. */
static const struct lend_fabric_held *first_held(struct channel *channel)
{
    bool is_pulled = false;

    while (lend_fabric_line_has_room(channel->line) && lend_ring_available(&channel->in) > 0) {
        const uint8_t *at = lend_ring_read_at(&channel->in);
        size_t count = payload_bytes(at);

        lend_fabric_line_push(channel->line, at, at + LEND_FRAME_HEADER_BYTES, count);
        step_past(channel, count);
        is_pulled = true;
    }
    if (is_pulled)
        loopback_flush(&channel->base); /* nobody else knows that there is room */
    return lend_fabric_line_first(channel->line);
}

/* The frame at hand, wherever it lies, and the payload bytes that are there; NULL: none has
 * arrived. */
static const uint8_t *frame_at_hand(struct channel *channel, size_t *out_count)
{
    if (channel->line != NULL) {
        const struct lend_fabric_held *held = first_held(channel);

        *out_count = held != NULL ? held->count : 0;
        return held != NULL ? held->bytes : NULL;
    }

    uint64_t available = lend_ring_available(&channel->in);
    if (available < LEND_FRAME_HEADER_BYTES)
        return NULL;
    *out_count = (size_t)(available - LEND_FRAME_HEADER_BYTES);
    return lend_ring_read_at(&channel->in);
}

/* The frame at hand is done with. */
static void drop_frame(struct channel *channel, size_t payload)
{
    if (channel->line != NULL)
        lend_fabric_line_pop(channel->line);
    else
        step_past(channel, payload);
    channel->taken = 0;
}

static enum lend_status loopback_peek(struct lend_channel *base, uint8_t *header,
                                      struct lend_error *error)
{
    struct channel *channel = channel_of(base);
    size_t count;
    const uint8_t *at = frame_at_hand(channel, &count);

    if (channel->in.is_broken)
        return lend_fail(error, LEND_E_CORRUPT, "the positions of a loopback ring make no sense");
    if (at == NULL)
        return LEND_PENDING;
    memcpy(header, at, LEND_FRAME_HEADER_BYTES);
    return LEND_OK;
}

static enum lend_status loopback_take(struct lend_channel *base, void *payload, size_t count,
                                      struct lend_error *error)
{
    struct channel *channel = channel_of(base);
    size_t there = 0;
    const uint8_t *at = frame_at_hand(channel, &there);

    if (at == NULL || there < count)
        return lend_fail(error, LEND_E_CORRUPT, "a frame has %zu of its %zu bytes", there, count);
    if (count > 0)
        memcpy(payload, at + LEND_FRAME_HEADER_BYTES, count);
    drop_frame(channel, count);
    return LEND_OK;
}

static size_t loopback_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                                 size_t total)
{
    struct channel *channel = channel_of(base);
    size_t there = 0;
    const uint8_t *at = frame_at_hand(channel, &there);

    if (at == NULL || there < total)
        return 0;
    if (count > total - channel->taken)
        count = total - channel->taken;
    if (to != NULL)
        lend_cursor_scatter(to, at + LEND_FRAME_HEADER_BYTES + channel->taken, count);
    channel->taken += count;
    if (channel->taken == total)
        drop_frame(channel, total);
    return count;
}

static bool loopback_sleep(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct channel *channel = channel_of(base);

    if (channel->line != NULL) {
        if (first_held(channel) != NULL)
            return false;
        if (!lend_fabric_line_has_room(channel->line))
            return true; /* the fabric wakes us in its time */
    }
    if (!lend_ring_sleep_consumer(&channel->in))
        return false;
    /* If there is room, the consumer's flag stays up: a wake-up too many, and nothing worse. */
    return !wants_room || lend_ring_sleep_producer(&channel->out, frame_bytes(wanted));
}

static void loopback_awake(struct lend_channel *base)
{
    struct channel *channel = channel_of(base);

    lend_ring_awake_consumer(&channel->in);
    lend_ring_awake_producer(&channel->out);
}

const struct lend_transport_ops lend_transport_loopback = {
    .name = "loopback",
    .paths = {[LEND_WAY_SERVED] = "loopback", [LEND_WAY_STAGED] = "loopback/staged"},
    .rank = 10,
    .kinds = 1u << LEND_MEMORY_SYSTEM | 1u << LEND_MEMORY_PINNED | 1u << LEND_MEMORY_DEVICE,
    .open = loopback_open,
    .close = loopback_close,
    .close_forked = loopback_close_forked,
    .address = loopback_address,
    .reaches = loopback_reaches,
    .parse = loopback_parse,
    .connect = loopback_connect,
    .close_channel = loopback_close_channel,
    .room = loopback_room,
    .send = loopback_send,
    .send_data = loopback_send_data,
    .flush = loopback_flush,
    .peek = loopback_peek,
    .take = loopback_take,
    .take_data = loopback_take_data,
    .sleep = loopback_sleep,
    .awake = loopback_awake,
};
