/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tcp/tcp.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    LISTEN_BACKLOG = 256,
    ACCEPTS_PER_TURN = 16, /* before other watches have theirs */
};

#define WARNING_PAUSE_NS UINT64_C(1000000000)
#define LISTEN_PAUSE_NS  UINT64_C(100000000)

/* What a stranger causes may be told, but no stranger may fill the log. */
static void warn(struct lend_tcp *tcp, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void warn(struct lend_tcp *tcp, const char *format, ...)
{
    uint64_t now = lend_sys->now_ns();
    struct lend_error text;
    va_list args;

    if (tcp->warned_ns != 0 && now - tcp->warned_ns < WARNING_PAUSE_NS) {
        tcp->warnings_untold++;
        return;
    }
    va_start(args, format);
    (void)vsnprintf(text.message, sizeof text.message, format, args);
    va_end(args);
    lend_agent_log(tcp->agent, LEND_LOG_WARNING, "tcp: %s (and %u warnings not told before)",
                   text.message, tcp->warnings_untold);
    tcp->warned_ns = now;
    tcp->warnings_untold = 0;
}

/* Half-open connections: accepted, and their first frame is not there */

static void alarm_expired(void *transport);

static struct lend_tcp_channel *oldest_of(const struct lend_tcp *tcp)
{
    return LEND_LIST_OWNER(tcp->half_open.next, struct lend_tcp_channel, half_open);
}

static void set_alarm(struct lend_tcp *tcp)
{
    uint64_t at = tcp->resume_ns;

    if (!lend_list_is_empty(&tcp->half_open)) {
        uint64_t deadline = oldest_of(tcp)->deadline_ns;
        if (at == 0 || deadline < at)
            at = deadline;
    }
    lend_agent_alarm(tcp->agent, at, alarm_expired, tcp);
}

static void leave_half_open(struct lend_tcp_channel *channel)
{
    lend_list_remove(&channel->half_open);
    channel->tcp->half_open_count--;
}

static void drop_oldest(struct lend_tcp *tcp, bool forked)
{
    struct lend_tcp_channel *oldest = oldest_of(tcp);

    leave_half_open(oldest);
    lend_tcp_channel_destroy(oldest, forked);
}

static void alarm_expired(void *transport)
{
    struct lend_tcp *tcp = transport;
    uint64_t now = lend_sys->now_ns();
    struct lend_error error;

    while (!lend_list_is_empty(&tcp->half_open) && oldest_of(tcp)->deadline_ns <= now) {
        char text[LEND_TCP_TEXT_BYTES];

        lend_tcp_peer_text(oldest_of(tcp)->socket.fd, text);
        drop_oldest(tcp, false);
        warn(tcp, "a connection from %s sent no greeting in time, and was closed", text);
    }
    if (tcp->resume_ns != 0 && now >= tcp->resume_ns) {
        bool listens = lend_agent_watch(tcp->agent, &tcp->listener, EPOLLIN, &error) == LEND_OK;
        tcp->resume_ns = listens ? 0 : now + LISTEN_PAUSE_NS;
    }
    set_alarm(tcp);
}

/* Tell a client of another version which one we speak. A courtesy. */
static void say_version(const struct lend_tcp_channel *channel)
{
    uint8_t preamble[LEND_TCP_PREAMBLE_BYTES];
    struct iovec piece = {.iov_base = preamble, .iov_len = sizeof preamble};
    const struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    lend_tcp_preamble_encode(preamble);
    (void)lend_sys->sendmsg(channel->socket.fd, &message);
}

/* Is what has come a preamble and a whole frame? LEND_PENDING: not yet. */
static enum lend_status check_first(const struct lend_tcp_channel *channel,
                                    struct lend_error *error)
{
    const struct lend_tcp_buffer *in = &channel->in;
    struct lend_frame frame;
    uint16_t version;

    if (in->end < LEND_TCP_PREAMBLE_BYTES)
        return LEND_PENDING;
    switch (lend_tcp_preamble_decode(in->bytes, &version)) {
    case LEND_TCP_IS_OURS: break;
    case LEND_TCP_IS_OTHER_VERSION:
        say_version(channel);
        return lend_fail(error, LEND_E_VERSION, "it speaks version %u of transport tcp", version);
    case LEND_TCP_IS_STRANGE:
        return lend_fail(error, LEND_E_CORRUPT, "it begins with bytes that no agent sends");
    }
    if (in->end < LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES)
        return LEND_PENDING;

    enum lend_status status = lend_frame_decode(in->bytes + LEND_TCP_PREAMBLE_BYTES, &frame, error);
    if (status == LEND_E_VERSION)
        return LEND_OK; /* core answers that */
    if (status != LEND_OK)
        return status;
    if (frame.payload_bytes > LEND_TCP_FIRST_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "its first frame has %u bytes",
                         frame.payload_bytes);
    bool is_whole =
        in->end - LEND_TCP_PREAMBLE_BYTES - LEND_FRAME_HEADER_BYTES >= frame.payload_bytes;
    return is_whole ? LEND_OK : LEND_PENDING;
}

/* Take what has come. LEND_PENDING: it is to go on. */
static enum lend_status receive_first(struct lend_tcp_channel *channel, struct lend_error *error)
{
    struct lend_tcp_buffer *in = &channel->in;
    struct iovec piece = {.iov_base = in->bytes + in->end,
                          .iov_len = LEND_TCP_FIRST_BYTES - in->end};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    ssize_t came = lend_sys->recvmsg(channel->socket.fd, &message);
    if (came == -EAGAIN || came == -ENOMEM || came == -ENOBUFS)
        return LEND_PENDING;
    if (came <= 0)
        return lend_fail(error, LEND_E_PEER_DEAD, "it was closed before a greeting came");
    in->end += (uint32_t)came;
    return check_first(channel, error);
}

/* Its session is the one to look at the socket now. */
static enum lend_status accept_channel(struct lend_tcp_channel *channel, struct lend_error *error)
{
    struct lend_error why;

    enum lend_status status = lend_tcp_channel_begin(channel, error);
    if (status != LEND_OK)
        return status;
    channel->in.first = LEND_TCP_PREAMBLE_BYTES;
    channel->socket.ready = lend_tcp_socket_ready;
    /* Where that cannot be had, it is woken now and then for nothing. */
    (void)lend_agent_rewatch(channel->tcp->agent, &channel->socket, EPOLLONESHOT, &why);
    atomic_store_explicit(&channel->is_ready, true, memory_order_release);
    return lend_session_accept(channel->tcp->agent, &channel->base, error);
}

static void half_open_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_tcp_channel *channel = LEND_LIST_OWNER(watch, struct lend_tcp_channel, socket);
    struct lend_tcp *tcp = channel->tcp;
    struct lend_error error = {.status = LEND_OK};
    char text[LEND_TCP_TEXT_BYTES];

    (void)events;
    enum lend_status status = receive_first(channel, &error);
    if (status == LEND_PENDING)
        return;
    leave_half_open(channel);
    set_alarm(tcp);
    if (status == LEND_OK)
        status = accept_channel(channel, &error);
    if (status == LEND_OK)
        return;
    lend_tcp_peer_text(watch->fd, text);
    warn(tcp, "a connection from %s was refused: %s", text, error.message);
    lend_tcp_channel_destroy(channel, false);
}

/* Listening */

/* On failure the descriptor is the channel's already, or still the caller's: it is closed with the
 * channel, so *out is set first. */
static enum lend_status make_half_open(struct lend_tcp *tcp, int fd, struct lend_tcp_channel **out,
                                       struct lend_error *error)
{
    struct lend_tcp_channel *channel = lend_tcp_channel_create(tcp);

    if (channel == NULL) {
        lend_sys->close(fd);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for it");
    }
    *out = channel;
    channel->socket.fd = fd;
    channel->in.bytes = lend_sys->allocate(LEND_TCP_FIRST_BYTES);
    if (channel->in.bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for its first frame");
    enum lend_status status = lend_tcp_tune(fd, tcp->patience_ns, error);
    if (status != LEND_OK)
        return status;

    channel->socket.ready = half_open_ready;
    status = lend_agent_watch(tcp->agent, &channel->socket, EPOLLIN, error);
    if (status != LEND_OK)
        channel->socket.ready = NULL;
    return status;
}

static void admit(struct lend_tcp *tcp, int fd)
{
    struct lend_tcp_channel *channel = NULL;
    struct lend_error error;

    if (tcp->half_open_count == LEND_TCP_HALF_OPEN_MAX) {
        drop_oldest(tcp, false);
        warn(tcp, "%d connections have sent no greeting; the oldest was closed",
             LEND_TCP_HALF_OPEN_MAX);
    }
    if (make_half_open(tcp, fd, &channel, &error) != LEND_OK) {
        warn(tcp, "a connection was closed: %s", error.message);
        lend_tcp_channel_destroy(channel, false);
        return;
    }
    channel->deadline_ns = lend_sys->now_ns() + tcp->connect_timeout_ns;
    lend_list_append(&tcp->half_open, &channel->half_open);
    tcp->half_open_count++;
}

/* Errors that are of the connection that was to be accepted, and not of ours. */
static bool is_of_peer(int result)
{
    switch (-result) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM: return true;
    default: return false;
    }
}

static void listener_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_tcp *tcp = LEND_LIST_OWNER(watch, struct lend_tcp, listener);

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = lend_sys->accept(watch->fd);
        if (fd == -EAGAIN)
            break;
        if (fd < 0 && is_of_peer(fd))
            continue;
        if (fd < 0) {
            /* Out of descriptors or memory: the connection stays in the queue, and would wake us
             * without end. */
            struct lend_error error;
            (void)lend_fail_errno(&error, -fd, "no connection can be accepted for a while");
            warn(tcp, "%s", error.message);
            lend_agent_unwatch(tcp->agent, watch);
            tcp->resume_ns = lend_sys->now_ns() + LISTEN_PAUSE_NS;
            break;
        }
        admit(tcp, fd);
    }
    set_alarm(tcp);
}

static enum lend_status bind_listener(struct lend_tcp *tcp, struct lend_tcp_place *place,
                                      struct lend_error *error)
{
    struct sockaddr_storage address;
    socklen_t count = lend_tcp_place_socket(place, &address);
    int fd = tcp->listener.fd;
    char text[LEND_TCP_TEXT_BYTES];

    lend_tcp_place_text(place, text);
    /* A wildcard of IPv6 takes IPv4 too; and who restarts need not wait for old connections. */
    int result = lend_sys->set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (result == 0 && place->is_v6)
        result =
            lend_sys->set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !lend_tcp_place_is_wildcard(place));
    if (result < 0)
        return lend_fail_errno(error, -result, "set options of the socket for %s", text);

    result = lend_sys->bind(fd, (const struct sockaddr *)&address, count);
    if (result == -EADDRINUSE)
        return lend_fail_errno(error, -result, "%s is taken by another program: listen elsewhere",
                               text);
    if (result == -EADDRNOTAVAIL)
        return lend_fail_errno(error, -result, "%s is no address of this machine: see listen",
                               text);
    if (result == 0)
        result = lend_sys->listen(fd, LISTEN_BACKLOG);
    if (result == 0)
        result = lend_sys->own_address(fd, &address);
    if (result < 0)
        return lend_fail_errno(error, -result, "listen at %s", text);
    (void)lend_tcp_place_of(place, &address); /* with the port */
    return LEND_OK;
}

static enum lend_status start_listening(struct lend_tcp *tcp,
                                        const struct lend_transport_open *open,
                                        struct lend_error *error)
{
    struct lend_tcp_place place;

    if (!lend_tcp_place_parse(&place, open->listen))
        return lend_fail(error, LEND_E_INVALID,
                         "listen is \"%.80s\": give a numeric ADDRESS, ADDRESS:PORT or [IPV6]:PORT",
                         open->listen);
    enum lend_status status = lend_tcp_socket(place.is_v6, &tcp->listener.fd, error);
    if (status == LEND_OK)
        status = bind_listener(tcp, &place, error);
    if (status == LEND_OK)
        status = lend_tcp_places_find(&tcp->told, &place, open->advertise, error);
    if (status != LEND_OK)
        return status;

    tcp->listener.ready = listener_ready;
    status = lend_agent_watch(tcp->agent, &tcp->listener, EPOLLIN, error);
    if (status != LEND_OK)
        tcp->listener.ready = NULL;
    return status;
}

/* The table */

static void destroy(struct lend_tcp *tcp, bool forked)
{
    if (tcp == NULL)
        return;
    while (!lend_list_is_empty(&tcp->half_open))
        drop_oldest(tcp, forked);
    if (!forked && tcp->listener.ready != NULL) {
        lend_agent_alarm(tcp->agent, 0, alarm_expired, tcp);
        if (tcp->resume_ns == 0)
            lend_agent_unwatch(tcp->agent, &tcp->listener);
    }
    if (tcp->listener.fd >= 0)
        lend_sys->close(tcp->listener.fd);
    lend_sys->release(tcp);
}

static void lend_tcp_destroy(struct lend_tcp *tcp)
{
    destroy(tcp, false);
}

static void lend_tcp_channel_drop(struct lend_tcp_channel *channel)
{
    lend_tcp_channel_destroy(channel, false);
}

LEND_AUTO_DEFINE(lend_tcp, lend_tcp_destroy)
LEND_AUTO_DEFINE(lend_tcp_channel, lend_tcp_channel_drop)

static bool tcp_is_wanted(const struct lend_transport_open *open)
{
    return open->listen != NULL || open->advertise != NULL;
}

static enum lend_status tcp_open(const struct lend_transport_open *open, void **out,
                                 struct lend_error *error)
{
    LEND_AUTO(lend_tcp) struct lend_tcp *tcp = lend_sys->allocate(sizeof *tcp);

    if (tcp == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport tcp");
    lend_list_init(&tcp->half_open);
    tcp->agent = open->agent;
    tcp->connect_timeout_ns = open->connect_timeout_ns;
    /* Transfers may be short of time where the network is not to be blamed. */
    tcp->patience_ns = open->transfer_timeout_ns > open->connect_timeout_ns
                           ? open->transfer_timeout_ns
                           : open->connect_timeout_ns;
    tcp->listener.fd = -1;

    if (open->listen == NULL && open->advertise != NULL)
        return lend_fail(error, LEND_E_INVALID, "advertise is given, and listen is not");
    if (open->listen != NULL) {
        enum lend_status status = start_listening(tcp, open, error);
        if (status != LEND_OK)
            return status;
    }
    *out = LEND_TAKE(tcp);
    return LEND_OK;
}

static void tcp_close(void *transport)
{
    destroy(transport, false);
}

static void tcp_close_forked(void *transport)
{
    destroy(transport, true);
}

static size_t tcp_address(void *transport, uint8_t *bytes)
{
    const struct lend_tcp *tcp = transport;

    return lend_tcp_places_encode(&tcp->told, bytes);
}

static bool tcp_reaches(void *transport, const uint8_t *address, size_t count)
{
    struct lend_tcp_places places;

    (void)transport;
    return lend_tcp_places_decode(&places, address, count) && places.count > 0;
}

static bool tcp_parse(void *transport, const char *text, uint8_t *address, size_t *count)
{
    struct lend_tcp_places places = {.count = 1};

    if (!lend_tcp_place_parse(&places.places[0], text))
        return false;
    *count = lend_tcp_places_encode(&places, address);
    return tcp_reaches(transport, address, *count);
}

static bool tcp_describe(void *transport, char *text, size_t capacity)
{
    const struct lend_tcp *tcp = transport;
    char told[LEND_TCP_TEXT_BYTES];

    if (tcp->told.count == 0)
        return false;
    lend_tcp_place_text(&tcp->told.places[0], told);
    if (strlen(told) >= capacity)
        return false;
    memcpy(text, told, strlen(told) + 1);
    return true;
}

static enum lend_status tcp_connect(void *transport, const uint8_t *address, size_t count,
                                    struct lend_session *session, struct lend_channel **out,
                                    struct lend_error *error)
{
    struct lend_tcp_places places;

    if (!lend_tcp_places_decode(&places, address, count) || places.count == 0)
        return lend_fail(error, LEND_E_CORRUPT, "%zu bytes that are no address of transport tcp",
                         count);

    LEND_AUTO(lend_tcp_channel)
    struct lend_tcp_channel *channel = lend_tcp_channel_create(transport);
    if (channel == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection");
    channel->base.session = session;
    channel->places = places;

    enum lend_status status = lend_tcp_channel_begin(channel, error);
    if (status == LEND_OK)
        status = lend_tcp_call(channel, error);
    if (status != LEND_OK)
        return status;

    *out = &LEND_TAKE(channel)->base;
    return LEND_OK;
}

static void tcp_close_channel(struct lend_channel *base, bool forked)
{
    lend_tcp_channel_destroy((struct lend_tcp_channel *)(void *)base, forked);
}

const struct lend_transport_ops lend_transport_tcp = {
    .name = "tcp",
    .paths = {[LEND_WAY_SERVED] = "tcp/served", [LEND_WAY_STAGED] = "tcp/staged"},
    .rank = 40,
    .kinds = 1U << LEND_MEMORY_SYSTEM | 1U << LEND_MEMORY_PINNED | 1U << LEND_MEMORY_DEVICE,
    .staged_is_asked = true,
    .is_wanted = tcp_is_wanted,
    .open = tcp_open,
    .close = tcp_close,
    .close_forked = tcp_close_forked,
    .address = tcp_address,
    .reaches = tcp_reaches,
    .parse = tcp_parse,
    .describe = tcp_describe,
    .connect = tcp_connect,
    .close_channel = tcp_close_channel,
    .room = lend_tcp_room,
    .send = lend_tcp_send,
    .send_data = lend_tcp_send_data,
    .flush = lend_tcp_flush,
    .peek = lend_tcp_peek,
    .take = lend_tcp_take,
    .take_data = lend_tcp_take_data,
    .sleep = lend_tcp_sleep,
    .awake = lend_tcp_awake,
};
