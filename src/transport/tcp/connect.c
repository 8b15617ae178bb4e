/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tcp/tcp.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <errno.h>
#include <stdio.h>

#include <netinet/tcp.h>

enum {
    PREAMBLE_MAGIC = 0x544e444c, /* "LDNT" */
    PREAMBLE_VERSION = 1,
    UNSENT_BYTES = 2 * LEND_FRAME_DATA_MAX,
    PROBES = 5, /* to a peer that says nothing */
};

#define NS_PER_MS      UINT64_C(1000000)
#define NS_PER_S       UINT64_C(1000000000)
/* What the kernel keeps in milliseconds, and in seconds of 16 bits. */
#define TIMEOUT_NS_MAX (UINT64_C(32767) * NS_PER_S)

/* Preambles */

void lend_tcp_preamble_encode(uint8_t *bytes)
{
    struct lend_writer writer = lend_writer_init(bytes, LEND_TCP_PREAMBLE_BYTES);

    lend_write_u32(&writer, PREAMBLE_MAGIC);
    lend_write_u16(&writer, PREAMBLE_VERSION);
    lend_write_u16(&writer, 0);
}

enum lend_tcp_preamble lend_tcp_preamble_decode(const uint8_t *bytes, uint16_t *out_version)
{
    struct lend_reader reader = lend_reader_init(bytes, LEND_TCP_PREAMBLE_BYTES);

    if (lend_read_u32(&reader) != PREAMBLE_MAGIC)
        return LEND_TCP_IS_STRANGE;
    *out_version = lend_read_u16(&reader);
    /* What other versions put behind it is theirs. */
    return *out_version == PREAMBLE_VERSION ? LEND_TCP_IS_OURS : LEND_TCP_IS_OTHER_VERSION;
}

/* Sockets */

enum lend_status lend_tcp_socket(bool is_v6, int *out, struct lend_error *error)
{
    int fd = lend_sys->tcp_socket(is_v6 ? AF_INET6 : AF_INET);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "make a TCP socket for %s", is_v6 ? "IPv6" : "IPv4");
    *out = fd;
    return LEND_OK;
}

enum lend_status lend_tcp_tune(int fd, uint64_t timeout_ns, struct lend_error *error)
{
    uint64_t bounded = timeout_ns < TIMEOUT_NS_MAX ? timeout_ns : TIMEOUT_NS_MAX;
    int ms = (int)(bounded / NS_PER_MS), s = (int)(bounded / NS_PER_S);
    int idle = s / 2 > 0 ? s / 2 : 1, interval = s / (2 * PROBES) > 0 ? s / (2 * PROBES) : 1;
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        /* What waits in the kernel, unsent, stands before whatever small is said behind it. */
        {IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES},
        /* A peer that acknowledges nothing, or takes nothing, for so long is dead; and one that
         * is idle is asked whether it is there. */
        {IPPROTO_TCP, TCP_USER_TIMEOUT, ms > 0 ? ms : 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, idle},
        {IPPROTO_TCP, TCP_KEEPINTVL, interval},
        {IPPROTO_TCP, TCP_KEEPCNT, PROBES},
    };

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int result = lend_sys->set_option(fd, options[i].level, options[i].name, options[i].value);
        if (result < 0)
            return lend_fail_errno(error, -result, "set option %d of a TCP socket",
                                   options[i].name);
    }
    return LEND_OK;
}

/* Connecting */

static enum lend_status fail_connect(const struct lend_tcp_channel *channel, int sys_errno,
                                     struct lend_error *error)
{
    char text[LEND_TCP_TEXT_BYTES];

    lend_tcp_place_text(&channel->places.places[channel->place], text);
    (void)lend_fail_errno(error, sys_errno, "no connection to %s", text);
    switch (sys_errno) {
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN: error->status = LEND_E_PEER_DEAD; break;
    case ETIMEDOUT: error->status = LEND_E_TIMEOUT; break;
    case EACCES:
    case EPERM: error->status = LEND_E_ACCESS; break; /* a rule of this machine's firewall */
    default: break;
    }
    return (enum lend_status)error->status;
}

static void connecting_ready(struct lend_watch *watch, uint32_t events);

/* Give up on the present place. */
static void close_attempt(struct lend_tcp_channel *channel)
{
    if (channel->socket.ready != NULL)
        lend_agent_unwatch(channel->tcp->agent, &channel->socket);
    if (channel->socket.fd >= 0)
        lend_sys->close(channel->socket.fd);
    channel->socket.ready = NULL;
    channel->socket.fd = -1;
}

/* The time is divided among the places that are left. The kernel gives up then; where it is too old
 * to do so, core gives up on the whole. */
static enum lend_status try_place(struct lend_tcp_channel *channel, struct lend_error *error)
{
    const struct lend_tcp_place *place = &channel->places.places[channel->place];
    uint64_t share = channel->tcp->connect_timeout_ns / (channel->places.count - channel->place);
    struct sockaddr_storage address;
    socklen_t count = lend_tcp_place_socket(place, &address);

    enum lend_status status = lend_tcp_socket(place->is_v6, &channel->socket.fd, error);
    if (status == LEND_OK)
        status = lend_tcp_tune(channel->socket.fd, share, error);
    if (status != LEND_OK)
        return status;

    int result = lend_sys->connect(channel->socket.fd, (const struct sockaddr *)&address, count);
    /* A peer on this machine has refused already. */
    if (result == -EINPROGRESS)
        result = lend_sys->pending_error(channel->socket.fd);
    if (result < 0)
        return fail_connect(channel, -result, error);

    channel->socket.ready = connecting_ready;
    status =
        lend_agent_watch(channel->tcp->agent, &channel->socket, EPOLLOUT | EPOLLONESHOT, error);
    if (status != LEND_OK)
        channel->socket.ready = NULL;
    return status;
}

/* Try what is left, from the present place on. The last failure is the one to tell. */
static enum lend_status try_places(struct lend_tcp_channel *channel, struct lend_error *error)
{
    enum lend_status status = LEND_E_NO_PATH;

    for (; channel->place < channel->places.count; channel->place++) {
        status = try_place(channel, error);
        if (status == LEND_OK)
            return LEND_OK;
        close_attempt(channel);
    }
    return status;
}

static void connecting_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_tcp_channel *channel = LEND_LIST_OWNER(watch, struct lend_tcp_channel, socket);
    struct lend_error error = {.status = LEND_OK};

    (void)events;
    int result = lend_sys->pending_error(watch->fd);
    if (result == 0 && lend_tcp_tune(watch->fd, channel->tcp->patience_ns, &error) == LEND_OK) {
        watch->ready = lend_tcp_socket_ready;
        /* Release: with the descriptor. */
        atomic_store_explicit(&channel->is_ready, true, memory_order_release);
        lend_session_wake(channel->base.session);
        return;
    }
    if (result < 0)
        (void)fail_connect(channel, -result, &error);
    close_attempt(channel);
    channel->place++;
    if (channel->place < channel->places.count && try_places(channel, &error) == LEND_OK)
        return;
    lend_session_hang_up(channel->base.session, (enum lend_status)error.status, error.message);
}

enum lend_status lend_tcp_call(struct lend_tcp_channel *channel, struct lend_error *error)
{
    struct lend_error why = {.status = LEND_OK};

    channel->owes_preamble = true;
    enum lend_status status = try_places(channel, &why);
    if (status != LEND_OK && error != NULL)
        *error = why;
    return status;
}
