/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/ucx.h"

#include "base/error.h"
#include "base/sys.h"
#include "base/writer.h"

#include <stdio.h>
#include <string.h>

/* The transport as a whole: UCX's context and worker, its progress, and who comes and goes. */

enum {
    ROUNDS_MAX = 64,    /* of UCX's progress in one go */
    ARRIVALS_MAX = 128, /* opens that wait for the poller */
    FRESH_MAX = 8,      /* channels of a link over which the peer has sent nothing yet */
    DETAIL_MAX = 200,
    RENDEZVOUS_LEAST = 32 << 10,
    PATH_MAX_BYTES = 512,
};

#define LIBRARY "libucp.so.0"
/* What UCX reads of the environment begins with LEND_UCX_ rather than UCX_, so that what is meant
 * for another user of it in this process does not change ours. */
#define PREFIX  "LEND"

size_t lend_ucx_rendezvous_bytes;

/* --- progress; under the lock --- */

void lend_ucx_ring(struct lend_ucx_transport *transport)
{
    static const uint64_t one = 1;

    /* An eventfd takes this unless its count is full, and then it has rung. Once more is for a
     * fault that a test has planted. */
    if (lend_sys->write(transport->bell.fd, &one, sizeof one) < 0)
        (void)lend_sys->write(transport->bell.fd, &one, sizeof one);
}

void lend_ucx_watch(struct lend_ucx_transport *transport, bool is_wanted)
{
    const uint32_t events = EPOLLONESHOT | (is_wanted ? (uint32_t)EPOLLIN : 0);
    struct lend_error error;

    /* If it cannot be changed it stays as it is: at worst, the alarm looks. */
    if (transport->is_watched != is_wanted &&
        lend_agent_rewatch(transport->agent, &transport->watch, events, &error) == LEND_OK)
        transport->is_watched = is_wanted;
}

/* Before nobody looks: see that the poller does. */
static void arm_or_ring(struct lend_ucx_transport *transport)
{
    if (!lend_ucx_arm(transport))
        lend_ucx_ring(transport);
    lend_ucx_watch(transport, true);
}

bool lend_ucx_progress_once(struct lend_ucx_transport *transport)
{
    return transport->door.worker_progress(transport->worker) > 0;
}

void lend_ucx_progress(struct lend_ucx_transport *transport)
{
    for (int i = 0; i < ROUNDS_MAX; i++)
        if (!lend_ucx_progress_once(transport))
            return;
}

bool lend_ucx_arm(struct lend_ucx_transport *transport)
{
    for (int i = 0; i < ROUNDS_MAX; i++) {
        lend_ucx_progress(transport);
        if (transport->door.worker_arm(transport->worker) != LEND_UCX_BUSY)
            return true;
    }
    return false;
}

/* --- arriving --- */

static void keep_arrival(struct lend_ucx_transport *transport, const uint8_t *data, size_t length)
{
    struct lend_ucx_greeting greeting;
    struct lend_ucx_address address;

    if (!lend_ucx_decode_greeting(data, length, &greeting) ||
        !lend_ucx_decode_address(data + LEND_UCX_GREETING_BYTES, length - LEND_UCX_GREETING_BYTES,
                                 &address) ||
        transport->arrival_count >= ARRIVALS_MAX)
        return;
    struct lend_ucx_arrival *arrival = lend_sys->allocate(sizeof *arrival);
    if (arrival == NULL)
        return;
    arrival->greeting = greeting;
    arrival->address_bytes = length - LEND_UCX_GREETING_BYTES;
    memcpy(arrival->address, data + LEND_UCX_GREETING_BYTES, arrival->address_bytes);
    lend_list_append(&transport->arrivals, &arrival->link);
    transport->arrival_count++;
    lend_ucx_ring(transport);
}

static lend_ucx_status arrived(void *argument, const void *header, size_t header_length, void *data,
                               size_t length, const struct lend_ucx_received *how)
{
    struct lend_ucx_transport *transport = argument;
    struct lend_ucx_message message;

    if (!lend_ucx_decode(header, header_length, &message))
        return LEND_UCX_OK;
    bool is_rendezvous = (how->recv_attr & LEND_UCX_RECEIVED_RENDEZVOUS) != 0;
    if (message.kind == LEND_UCX_OPEN) {
        if (!is_rendezvous)
            keep_arrival(transport, data, length);
        return LEND_UCX_OK;
    }
    if (message.kind == LEND_UCX_PING || message.kind == LEND_UCX_PONG) {
        lend_ucx_links_take(transport, &message);
        return LEND_UCX_OK;
    }
    struct lend_ucx_channel *channel = lend_ucx_channel_find(transport, message.channel);
    if (channel != NULL)
        lend_ucx_link_heard(channel->link);
    if (channel == NULL || !lend_ucx_channel_take(channel, &message, data, length, is_rendezvous))
        return LEND_UCX_OK;
    return LEND_UCX_IN_PROGRESS;
}

static void refuse(struct lend_ucx_link *link, uint64_t channel, const struct lend_error *why)
{
    const struct lend_ucx_message message = {.kind = LEND_UCX_REFUSE, .channel = channel};
    uint8_t bytes[4 + LEND_UCX_TEXT_MAX];
    struct lend_writer writer = lend_writer_init(bytes, sizeof bytes);

    lend_write_u32(&writer, (uint32_t)why->status);
    lend_write_bytes(&writer, why->message, strnlen(why->message, LEND_UCX_TEXT_MAX));
    lend_ucx_send_bytes(link, &message, bytes, writer.count);
}

/* The link to who wants a channel, made if there is none. NULL: there cannot be one, or it is in
 * doubt, and the arrival is kept (error: LEND_PENDING). Under the lock. */
static struct lend_ucx_link *find_link(struct lend_ucx_transport *transport,
                                       struct lend_ucx_arrival *arrival, struct lend_error *error)
{
    struct lend_ucx_address address;

    if (!lend_ucx_decode_address(arrival->address, arrival->address_bytes, &address)) {
        (void)lend_fail(error, LEND_E_CORRUPT, "its address is damaged");
        return NULL;
    }
    struct lend_ucx_link *link = lend_ucx_link_find(transport, &address);
    if (link != NULL && link->peer_number != 0 && link->peer_number != arrival->greeting.link) {
        if (lend_ucx_link_doubt(link, arrival)) {
            error->status = LEND_PENDING;
            return NULL;
        }
        (void)lend_fail(error, LEND_E_LIMIT, "another of its connections is in doubt");
        refuse(link, arrival->greeting.channel, error);
        return NULL;
    }
    if (link == NULL) {
        if (!lend_ucx_links_have_place(transport)) {
            (void)lend_fail(error, LEND_E_LIMIT, "too many ask for connections, and then are mute");
            return NULL;
        }
        if (lend_ucx_link_get(transport, &address, &link, error) != LEND_OK)
            return NULL;
        link->is_strange = true;
    }
    link->peer_number = arrival->greeting.link;
    return link;
}

static bool has_many_fresh(const struct lend_ucx_link *link)
{
    uint32_t count = 0;

    for (struct lend_list *at = link->channels.next; at != &link->channels; at = at->next) {
        const struct lend_ucx_channel *channel =
            LEND_LIST_OWNER(at, struct lend_ucx_channel, in_link);

        count += channel->is_server && channel->arrived == 0;
    }
    return count >= FRESH_MAX;
}

/* The server's end of a channel that a peer wants. Under the lock. */
static struct lend_ucx_channel *answer_locked(struct lend_ucx_transport *transport,
                                              struct lend_ucx_arrival *arrival,
                                              struct lend_error *error)
{
    struct lend_ucx_link *link = find_link(transport, arrival, error);

    if (link == NULL)
        return NULL;
    bool is_full = has_many_fresh(link);
    struct lend_ucx_channel *channel = is_full ? NULL : lend_ucx_channel_create(link);
    if (channel == NULL) {
        if (is_full)
            (void)lend_fail(error, LEND_E_LIMIT, "%d of its connections are mute", FRESH_MAX);
        else
            (void)lend_fail(error, LEND_E_NO_MEMORY, "no memory for one more connection");
        refuse(link, arrival->greeting.channel, error);
        return NULL;
    }
    channel->peer_number = arrival->greeting.channel;
    channel->is_server = true;
    return channel;
}

/* True: it is kept for later. */
static bool answer(struct lend_ucx_transport *transport, struct lend_ucx_arrival *arrival)
{
    struct lend_error error = {0};

    lend_ucx_lock(transport);
    struct lend_ucx_channel *channel = answer_locked(transport, arrival, &error);
    lend_ucx_unlock(transport);
    if (error.status == LEND_PENDING)
        return true;
    if (channel != NULL &&
        lend_session_accept(transport->agent, &channel->base, &error) == LEND_OK) {
        const struct lend_ucx_message message = {.kind = LEND_UCX_ACCEPT,
                                                 .channel = arrival->greeting.channel};
        uint8_t bytes[LEND_UCX_GREETING_BYTES];

        lend_ucx_lock(transport);
        const struct lend_ucx_greeting greeting = lend_ucx_channel_greet(channel);
        lend_ucx_encode_greeting(&greeting, bytes);
        lend_ucx_send_bytes(channel->link, &message, bytes, sizeof bytes);
        /* Only now is there room: the peer knows the channel. */
        channel->window_bytes = arrival->greeting.window_bytes;
        lend_ucx_unlock(transport);
        lend_session_wake(channel->base.session);
        return false;
    }
    lend_agent_log(transport->agent, LEND_LOG_WARNING, "a peer was turned away by ucx: %s",
                   error.message);
    if (channel == NULL)
        return false;
    lend_ucx_lock(transport);
    refuse(channel->link, arrival->greeting.channel, &error);
    channel->peer_number = 0; /* no farewell */
    lend_ucx_unlock(transport);
    lend_ucx_close_channel(&channel->base, false);
    return false;
}

/* --- telling; in the poller's turn --- */

static struct lend_ucx_arrival *take_arrival(struct lend_ucx_transport *transport)
{
    lend_ucx_lock(transport);
    struct lend_list *first = lend_list_take_first(&transport->arrivals);
    transport->arrival_count -= first != NULL;
    lend_ucx_unlock(transport);
    return first != NULL ? LEND_LIST_OWNER(first, struct lend_ucx_arrival, link) : NULL;
}

static struct lend_ucx_channel *take_hung(struct lend_ucx_transport *transport)
{
    lend_ucx_lock(transport);
    struct lend_list *first = lend_list_take_first(&transport->hung);
    lend_ucx_unlock(transport);
    return first != NULL ? LEND_LIST_OWNER(first, struct lend_ucx_channel, mail) : NULL;
}

static void look_after_links(struct lend_ucx_transport *transport);

static void time_has_come(void *object)
{
    struct lend_ucx_transport *transport = object;

    transport->alarm_ns = 0;
    lend_ucx_lock(transport);
    lend_ucx_links_look(transport);
    arm_or_ring(transport); /* whoever is awake, and does not look */
    lend_ucx_unlock(transport);
    look_after_links(transport);
}

/* For as long as there are any. In the poller's turn. */
static void look_after_links(struct lend_ucx_transport *transport)
{
    uint64_t at_ns = lend_sys->now_ns() + transport->patience_ns / 8;

    lend_ucx_lock(transport);
    bool has_any = !lend_list_is_empty(&transport->links);
    uint64_t doubt_ns = lend_ucx_links_doubt_until(transport);
    lend_ucx_unlock(transport);
    if (at_ns > doubt_ns)
        at_ns = doubt_ns;
    if (!has_any || (transport->alarm_ns != 0 && transport->alarm_ns <= at_ns))
        return;
    transport->alarm_ns = at_ns;
    lend_agent_alarm(transport->agent, at_ns, time_has_come, transport);
}

static void tell(struct lend_ucx_transport *transport)
{
    struct lend_ucx_arrival *arrival;
    struct lend_ucx_channel *channel;

    while ((arrival = take_arrival(transport)) != NULL) {
        if (!answer(transport, arrival))
            lend_sys->release(arrival);
    }
    while ((channel = take_hung(transport)) != NULL)
        if (channel->base.session != NULL)
            lend_session_hang_up(channel->base.session, (enum lend_status)channel->hung.status,
                                 channel->hung.message);
    lend_ucx_lock(transport);
    lend_ucx_links_tidy(transport);
    lend_ucx_links_answer(transport);
    if (transport->awake_count == 0)
        arm_or_ring(transport);
    lend_ucx_unlock(transport);
    look_after_links(transport);
}

static void worker_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_ucx_transport *transport = LEND_LIST_OWNER(watch, struct lend_ucx_transport, watch);

    (void)events;
    lend_ucx_lock(transport);
    transport->is_watched = false; /* it was told once */
    lend_ucx_progress(transport);
    lend_ucx_unlock(transport);
    tell(transport);
}

static void bell_rang(struct lend_watch *watch, uint32_t events)
{
    struct lend_ucx_transport *transport = LEND_LIST_OWNER(watch, struct lend_ucx_transport, bell);
    uint64_t rings;

    (void)events;
    (void)lend_sys->read(watch->fd, &rings, sizeof rings); /* to silence it */
    tell(transport);
}

/* --- opening --- */

static enum lend_status fail_ucx(const struct lend_ucx_transport *transport, lend_ucx_status status,
                                 const char *what, struct lend_error *error)
{
    return lend_fail(error, status == LEND_UCX_NO_MEMORY ? LEND_E_NO_MEMORY : LEND_E_NO_PATH,
                     "%s: UCX says %s (%d)", what, transport->door.status_string(status), status);
}

/* Settings of UCX's that are ours to make, and to which of its transports they belong. It complains
 * of those that nobody has taken up. */
static const struct {
    const char *name;
    const char *value;
    bool is_of_tcp;
} settings[] = {
    {"KEEPALIVE_INTERVAL", "1s", false}, /* a peer that is cut off is to be found out */
    {"RNDV_SCHEME", "am", false},        /* nobody reaches into anybody's memory */
    {"CONN_NB", "y", true},              /* connecting shall not block */
    {"KEEPIDLE", "1s", true},
    {"KEEPINTVL", "1s", true},
    {"KEEPCNT", "3", true},
};

static enum lend_status set(const struct lend_ucx_transport *transport, void *config,
                            const char *name, const char *value, struct lend_error *error)
{
    lend_ucx_status status = transport->door.config_modify(config, name, value);

    if (status == LEND_UCX_OK)
        return LEND_OK;
    return lend_fail(error, LEND_E_INVALID, "UCX does not take \"%.80s\" for %s: %s", value, name,
                     transport->door.status_string(status));
}

static enum lend_status configure(const struct lend_ucx_transport *transport,
                                  const struct lend_transport_open *open, void *config,
                                  struct lend_error *error)
{
    enum lend_status status = set(transport, config, "NET_DEVICES", open->ucx_devices, error);

    if (status == LEND_OK && open->ucx_transports != NULL)
        status = set(transport, config, "TLS", open->ucx_transports, error);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (!settings[i].is_of_tcp || lend_ucx_may_use_tcp(open))
            (void)transport->door.config_modify(config, settings[i].name, settings[i].value);
    return status;
}

static enum lend_status make_context(struct lend_ucx_transport *transport,
                                     const struct lend_transport_open *open,
                                     struct lend_error *error)
{
    const struct lend_ucx_context_params params = {
        .field_mask = LEND_UCX_CONTEXT_FEATURES,
        .features = LEND_UCX_FEATURE_MESSAGES | LEND_UCX_FEATURE_WAKEUP,
    };
    void *config = NULL;
    lend_ucx_status result = transport->door.config_read(PREFIX, NULL, &config);

    if (result != LEND_UCX_OK)
        return fail_ucx(transport, result, "reading UCX's configuration", error);
    enum lend_status status = configure(transport, open, config, error);
    if (status == LEND_OK) {
        result = transport->door.init(LEND_UCX_MAJOR, LEND_UCX_MINOR, &params, config,
                                      &transport->context);
        if (result != LEND_UCX_OK) {
            char what[DETAIL_MAX];

            transport->context = NULL;
            (void)snprintf(what, sizeof what, "opening devices \"%.60s\" by transports \"%.60s\"",
                           open->ucx_devices,
                           open->ucx_transports != NULL ? open->ucx_transports : "all");
            status = fail_ucx(transport, result, what, error);
        }
    }
    transport->door.config_release(config);
    return status;
}

static enum lend_status make_worker(struct lend_ucx_transport *transport, struct lend_error *error)
{
    const struct lend_ucx_worker_params params = {
        .field_mask = LEND_UCX_WORKER_THREADS | LEND_UCX_WORKER_EVENTS | LEND_UCX_WORKER_FLAGS,
        .thread_mode = LEND_UCX_THREADS_SERIALIZED,
        .events = LEND_UCX_WAKEUP_SENT | LEND_UCX_WAKEUP_RECEIVED,
        .flags = LEND_UCX_WORKER_QUIET_LEAKS,
    };
    const struct lend_ucx_handler handler = {
        .field_mask = LEND_UCX_HANDLER_ID | LEND_UCX_HANDLER_FLAGS | LEND_UCX_HANDLER_CALLBACK |
                      LEND_UCX_HANDLER_ARGUMENT,
        .id = LEND_UCX_ID,
        .flags = LEND_UCX_HANDLER_WHOLE | LEND_UCX_HANDLER_PERSISTENT,
        .callback = arrived,
        .argument = transport,
    };

    lend_ucx_status result =
        transport->door.worker_create(transport->context, &params, &transport->worker);
    if (result != LEND_UCX_OK) {
        transport->worker = NULL;
        return fail_ucx(transport, result, "making a worker", error);
    }
    result = transport->door.worker_set_handler(transport->worker, &handler);
    if (result == LEND_UCX_OK)
        result = transport->door.worker_get_efd(transport->worker, &transport->watch.fd);
    if (result != LEND_UCX_OK)
        return fail_ucx(transport, result, "making a worker that takes active messages", error);
    return LEND_OK;
}

static enum lend_status find_address(struct lend_ucx_transport *transport, struct lend_error *error)
{
    struct lend_ucx_worker_attributes attributes = {
        .field_mask =
            LEND_UCX_QUERY_ADDRESS | LEND_UCX_QUERY_ADDRESS_FLAGS | LEND_UCX_QUERY_MESSAGE_HEADER,
        .address_flags = LEND_UCX_ADDRESS_NET_ONLY,
    };
    lend_ucx_status result = transport->door.worker_query(transport->worker, &attributes);

    if (result != LEND_UCX_OK)
        return fail_ucx(transport, result, "asking for the worker's address", error);

    struct lend_ucx_address address = {.bytes = attributes.address,
                                       .count = attributes.address_length};
    enum lend_status status = LEND_OK;
    memcpy(address.incarnation, transport->incarnation, sizeof address.incarnation);
    if (address.count > LEND_UCX_ADDRESS_MAX)
        status = lend_fail(error, LEND_E_LIMIT,
                           "UCX's address has %zu bytes, over %d: name fewer devices or transports",
                           address.count, LEND_UCX_ADDRESS_MAX);
    else if (attributes.max_am_header < LEND_UCX_HEADER_BYTES)
        status = lend_fail(error, LEND_E_NO_PATH,
                           "UCX sends headers of at most %zu bytes, and ours have %d",
                           attributes.max_am_header, LEND_UCX_HEADER_BYTES);
    else
        transport->address_bytes = lend_ucx_encode_address(&address, transport->address);
    transport->door.worker_release_address(transport->worker, attributes.address);
    return status;
}

/* Tell which UCX it is, and warn of a second one in the process: each has its own memory hooks. */
static void introduce(const struct lend_ucx_transport *transport,
                      const struct lend_transport_open *open)
{
    char path[PATH_MAX_BYTES];
    void *function;

    memcpy(&function, &transport->door.worker_create, sizeof function);
    unsigned count = lend_sys->libraries("libucp", function, path, sizeof path);
    lend_agent_log(transport->agent, LEND_LOG_INFO,
                   "ucx: version %.40s (%.120s), devices %.60s, transports %.60s",
                   transport->door.version_string(), path[0] != '\0' ? path : "not a library",
                   open->ucx_devices, open->ucx_transports != NULL ? open->ucx_transports : "all");
    if (count > 1)
        lend_agent_log(transport->agent, LEND_LOG_WARNING,
                       "%u copies of libucp are in this process, which may disturb each other; "
                       "ours is %.120s",
                       count, path);
}

static enum lend_status watch_both(struct lend_ucx_transport *transport, struct lend_error *error)
{
    enum lend_status status =
        lend_agent_watch(transport->agent, &transport->watch, EPOLLONESHOT, error);

    if (status != LEND_OK)
        return status;
    status = lend_agent_watch(transport->agent, &transport->bell, EPOLLIN, error);
    if (status != LEND_OK)
        lend_agent_unwatch(transport->agent, &transport->watch);
    return status;
}

static void free_spares(struct lend_ucx_transport *transport)
{
    struct lend_list *at;

    while ((at = lend_list_take_first(&transport->spare_small)) != NULL ||
           (at = lend_list_take_first(&transport->spare_large)) != NULL)
        lend_sys->release(LEND_LIST_OWNER(at, struct lend_ucx_send, spare));
    while ((at = lend_list_take_first(&transport->spare_frames)) != NULL)
        lend_sys->release(LEND_LIST_OWNER(at, struct lend_ucx_frame, link));
    while ((at = lend_list_take_first(&transport->arrivals)) != NULL)
        lend_sys->release(LEND_LIST_OWNER(at, struct lend_ucx_arrival, link));
}

/* What is left of a transport that nothing watches any more. */
static void demolish(struct lend_ucx_transport *transport)
{
    if (transport->worker != NULL) {
        lend_ucx_lock(transport);
        lend_ucx_links_close(transport);
        transport->door.worker_destroy(transport->worker);
        lend_ucx_unlock(transport);
    }
    if (transport->context != NULL)
        transport->door.cleanup(transport->context);
    free_spares(transport);
    if (transport->bell.fd >= 0)
        lend_sys->close(transport->bell.fd);
    (void)pthread_mutex_destroy(&transport->lock);
    lend_sys->release(transport);
}

static struct lend_ucx_transport *create(const struct lend_transport_open *open)
{
    struct lend_ucx_transport *transport = lend_sys->allocate(sizeof *transport);

    if (transport == NULL)
        return NULL;
    struct lend_list *const lists[] = {
        &transport->links,       &transport->broken,       &transport->closing,
        &transport->arrivals,    &transport->hung,         &transport->spare_small,
        &transport->spare_large, &transport->spare_frames,
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        lend_list_init(lists[i]);
    for (size_t i = 0; i < LEND_UCX_BUCKETS; i++)
        lend_list_init(&transport->channels[i]);
    transport->agent = open->agent;
    transport->window_bytes = open->ring_bytes;
    transport->patience_ns = open->transfer_timeout_ns > open->connect_timeout_ns
                                 ? open->transfer_timeout_ns
                                 : open->connect_timeout_ns;
    transport->doubt_ns = open->connect_timeout_ns / 4;
    transport->watch = (struct lend_watch){.ready = worker_ready, .fd = -1};
    transport->bell = (struct lend_watch){.ready = bell_rang, .fd = -1};
    memcpy(transport->incarnation, open->incarnation, sizeof transport->incarnation);
    (void)pthread_mutex_init(&transport->lock, NULL); /* cannot fail with default attributes */
    return transport;
}

static enum lend_status build(struct lend_ucx_transport *transport,
                              const struct lend_transport_open *open, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    if (lend_ucx != NULL)
        transport->door = *lend_ucx;
    else
        status = lend_ucx_load(open->ucx_library != NULL ? open->ucx_library : LIBRARY,
                               &transport->door, error);
    if (status == LEND_OK) {
        transport->bell.fd = lend_sys->event();
        if (transport->bell.fd < 0)
            status = lend_fail_errno(error, -transport->bell.fd, "no event descriptor for ucx");
    }
    if (status == LEND_OK)
        status = make_context(transport, open, error);
    if (status == LEND_OK)
        status = make_worker(transport, error);
    if (status == LEND_OK)
        status = find_address(transport, error);
    if (status == LEND_OK)
        status = watch_both(transport, error);
    return status;
}

static bool ucx_is_wanted(const struct lend_transport_open *open)
{
    return open->ucx_devices != NULL;
}

/* On loopback with UCX's tcp, frames that are sent at once are twice as fast as those that are
 * asked for; where the fabric has no such streams, one copy is saved on the reader's side. */
static size_t rendezvous_from(const struct lend_transport_open *open)
{
    if (lend_ucx_rendezvous_bytes != 0)
        return lend_ucx_rendezvous_bytes;
    return lend_ucx_may_use_tcp(open) ? SIZE_MAX : RENDEZVOUS_LEAST;
}

static enum lend_status ucx_open(const struct lend_transport_open *open, void **out,
                                 struct lend_error *error)
{
    if (open->ucx_devices == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "it is opened only where the configuration names the network devices that "
                         "it may use (ucx_devices)");

    enum lend_status status = lend_ucx_check_devices(open, error);
    if (status != LEND_OK)
        return status;
    struct lend_ucx_transport *transport = create(open);
    if (transport == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport ucx");
    status = build(transport, open, error);
    if (status != LEND_OK) {
        demolish(transport);
        return status;
    }
    transport->rendezvous_bytes = rendezvous_from(open);
    transport->may_use_tcp = lend_ucx_may_use_tcp(open);
    introduce(transport, open);
    lend_ucx_lock(transport);
    arm_or_ring(transport);
    lend_ucx_unlock(transport);
    *out = transport;
    return LEND_OK;
}

static void ucx_close(void *object)
{
    struct lend_ucx_transport *transport = object;

    lend_agent_alarm(transport->agent, 0, time_has_come, transport);
    lend_agent_unwatch(transport->agent, &transport->watch);
    lend_agent_unwatch(transport->agent, &transport->bell);
    demolish(transport);
}

/* UCX is not to be called in a forked child: what is its stays as it is. */
static void ucx_close_forked(void *object)
{
    struct lend_ucx_transport *transport = object;
    struct lend_list *const lists[] = {&transport->links, &transport->broken, &transport->closing};
    struct lend_list *at;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        while ((at = lend_list_take_first(lists[i])) != NULL)
            lend_ucx_link_free(LEND_LIST_OWNER(at, struct lend_ucx_link, link));
    free_spares(transport);
    lend_sys->close(transport->bell.fd);
    lend_sys->release(transport);
}

/* --- reaching others --- */

static size_t ucx_address(void *object, uint8_t *bytes)
{
    const struct lend_ucx_transport *transport = object;

    memcpy(bytes, transport->address, transport->address_bytes);
    return transport->address_bytes;
}

static bool ucx_reaches(void *object, const uint8_t *address, size_t count)
{
    struct lend_ucx_address decoded;

    (void)object;
    return lend_ucx_decode_address(address, count, &decoded);
}

static const char *ucx_remark(void *object)
{
    const struct lend_ucx_transport *transport = object;

    return transport->may_use_tcp
               ? "; where UCX goes over its own tcp, lend's is usually the faster: then leave ucx "
                 "out (transports, ucx_devices)"
               : "";
}

/* Ask for a channel. Under the lock. */
static void send_open(struct lend_ucx_channel *channel)
{
    const struct lend_ucx_transport *transport = channel->transport;
    const struct lend_ucx_message message = {.kind = LEND_UCX_OPEN};
    const struct lend_ucx_greeting greeting = lend_ucx_channel_greet(channel);
    uint8_t bytes[LEND_UCX_GREETING_BYTES + LEND_METADATA_ADDRESS_MAX];

    lend_ucx_encode_greeting(&greeting, bytes);
    memcpy(bytes + LEND_UCX_GREETING_BYTES, transport->address, transport->address_bytes);
    lend_ucx_send_bytes(channel->link, &message, bytes,
                        LEND_UCX_GREETING_BYTES + transport->address_bytes);
}

static enum lend_status ucx_connect(void *object, const uint8_t *address, size_t count,
                                    struct lend_session *session, struct lend_channel **out,
                                    struct lend_error *error)
{
    struct lend_ucx_transport *transport = object;
    struct lend_ucx_channel *channel = NULL;
    struct lend_ucx_link *link = NULL;
    struct lend_ucx_address decoded;

    if (!lend_ucx_decode_address(address, count, &decoded))
        return lend_fail(error, LEND_E_PEER_DEAD, "the peer's address of UCX is damaged");
    lend_ucx_lock(transport);
    enum lend_status status = lend_ucx_link_get(transport, &decoded, &link, error);
    if (status == LEND_OK) {
        channel = lend_ucx_channel_create(link);
        if (channel == NULL)
            status = lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection by ucx");
    }
    if (channel != NULL) {
        channel->base.session = session;
        send_open(channel);
        lend_ucx_progress(transport); /* who is of this host, and refuses, has done so by now */
        if (link->is_broken) {
            status = lend_fail(error, (enum lend_status)link->why.status, "%s", link->why.message);
            /* With the lock held still: the poller shall not tell a session that core lets go of.
             */
            lend_ucx_channel_free(channel, false);
        }
    }
    lend_ucx_unlock(transport);
    if (status == LEND_OK)
        *out = &channel->base;
    return status;
}

const struct lend_transport_ops lend_transport_ucx = {
    .name = "ucx",
    .paths = {[LEND_WAY_SERVED] = "ucx/served", [LEND_WAY_STAGED] = "ucx/staged"},
    .rank = 30,
    .kinds = 1u << LEND_MEMORY_SYSTEM | 1u << LEND_MEMORY_PINNED | 1u << LEND_MEMORY_DEVICE,
    .staged_is_asked = true,
    .is_wanted = ucx_is_wanted,
    .open = ucx_open,
    .close = ucx_close,
    .close_forked = ucx_close_forked,
    .address = ucx_address,
    .reaches = ucx_reaches,
    .remark = ucx_remark,
    .connect = ucx_connect,
    .close_channel = lend_ucx_close_channel,
    .room = lend_ucx_room,
    .send = lend_ucx_send_frame,
    .send_data = lend_ucx_send_data,
    .flush = lend_ucx_flush,
    .halt = lend_ucx_halt,
    .peek = lend_ucx_peek,
    .take = lend_ucx_take,
    .take_data = lend_ucx_take_data,
    .sleep = lend_ucx_sleep,
    .awake = lend_ucx_awake,
};
