/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    LISTEN_BACKLOG = 256,
    ACCEPTS_PER_TURN = 16, /* before other watches have theirs */
};

#define WARNING_PAUSE_NS UINT64_C(1000000000)
#define LISTEN_PAUSE_NS  UINT64_C(100000000)

/* What a stranger causes may be told, but no stranger may fill the log. */
static void warn(struct lend_local *local, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void warn(struct lend_local *local, const char *format, ...)
{
    uint64_t now = lend_sys->now_ns();
    struct lend_error text;
    va_list args;

    if (local->warned_ns != 0 && now - local->warned_ns < WARNING_PAUSE_NS) {
        local->warnings_untold++;
        return;
    }
    va_start(args, format);
    (void)vsnprintf(text.message, sizeof text.message, format, args);
    va_end(args);
    lend_agent_log(local->agent, LEND_LOG_WARNING, "local: %s (and %u warnings not told before)",
                   text.message, local->warnings_untold);
    local->warned_ns = now;
    local->warnings_untold = 0;
}

/* Half-open connections: accepted, and their setup has not come */

static void alarm_expired(void *transport);

static void set_alarm(struct lend_local *local)
{
    uint64_t at = local->resume_ns;

    if (!lend_list_is_empty(&local->half_open)) {
        const struct lend_local_channel *oldest =
            LEND_LIST_OWNER(local->half_open.next, struct lend_local_channel, half_open);
        if (at == 0 || oldest->deadline_ns < at)
            at = oldest->deadline_ns;
    }
    lend_agent_alarm(local->agent, at, alarm_expired, local);
}

static void leave_half_open(struct lend_local_channel *channel)
{
    lend_list_remove(&channel->half_open);
    channel->local->half_open_count--;
}

static struct lend_local_channel *take_oldest(struct lend_local *local)
{
    struct lend_local_channel *oldest =
        LEND_LIST_OWNER(local->half_open.next, struct lend_local_channel, half_open);

    leave_half_open(oldest);
    return oldest;
}

static void alarm_expired(void *transport)
{
    struct lend_local *local = transport;
    uint64_t now = lend_sys->now_ns();
    struct lend_error error;

    while (!lend_list_is_empty(&local->half_open)) {
        if (LEND_LIST_OWNER(local->half_open.next, struct lend_local_channel, half_open)
                ->deadline_ns > now)
            break;
        lend_local_channel_destroy(take_oldest(local), false);
        warn(local, "a connection sent no setup in time, and was closed");
    }
    if (local->resume_ns != 0 && now >= local->resume_ns) {
        bool listens = lend_agent_watch(local->agent, &local->listener, EPOLLIN, &error) == LEND_OK;
        local->resume_ns = listens ? 0 : now + LISTEN_PAUSE_NS;
    }
    set_alarm(local);
}

/* The setup has come, or whatever else a stranger sent. */
static void half_open_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_local_channel *channel = LEND_LIST_OWNER(watch, struct lend_local_channel, socket);
    struct lend_local *local = channel->local;
    struct lend_local_packet packet;
    struct lend_error error = {.status = LEND_OK};

    (void)events;
    lend_local_receive(watch->fd, true, &packet);
    if (packet.count == -EAGAIN || packet.count == -ENOMEM || packet.count == -ENOBUFS)
        return;
    leave_half_open(channel);
    set_alarm(local);

    enum lend_status status = LEND_E_PEER_DEAD;
    if (packet.count <= 0)
        (void)lend_fail(&error, status, "a connection was closed before its setup came");
    else
        status = lend_local_take_setup(channel, &packet, &error);
    lend_local_packet_fini(&packet);

    /* The answer goes ahead of every doorbell. */
    if (status == LEND_OK &&
        (!lend_local_answer(channel, LEND_OK) || !lend_local_introduce(channel)))
        status = lend_fail(&error, LEND_E_PEER_DEAD, "a client was gone before the answer");
    if (status == LEND_OK) {
        channel->is_answered = true;
        watch->ready = lend_local_socket_ready;
        status = lend_session_accept(local->agent, &channel->base, &error);
        if (status == LEND_OK) {
            /* The client may have queued frames before it could know that we sleep. */
            lend_session_wake(channel->base.session);
            return;
        }
    }
    if (status != LEND_E_PEER_DEAD)
        (void)lend_local_answer(channel, status);
    warn(local, "a connection was refused: %s", error.message);
    lend_local_channel_destroy(channel, false);
}

/* Listening */

/* No permission bits guard an abstract name, so we do. */
static bool may_enter(const struct lend_local *local, int fd)
{
    struct ucred self;
    struct ucred peer;

    if (!local->place.is_abstract || (local->mode & 02) != 0)
        return true;
    if (lend_sys->peer(fd, &peer) < 0)
        return false;
    lend_sys->self(&self);
    return peer.uid == self.uid || ((local->mode & 020) != 0 && peer.gid == self.gid);
}

static void admit(struct lend_local *local, int fd)
{
    if (!may_enter(local, fd)) {
        warn(local, "a connection of another user was refused: set local_mode to let it in");
        lend_sys->close(fd);
        return;
    }
    if (local->half_open_count == LEND_LOCAL_HALF_OPEN_MAX) {
        lend_local_channel_destroy(take_oldest(local), false);
        warn(local, "%d connections have sent no setup; the oldest was closed",
             LEND_LOCAL_HALF_OPEN_MAX);
    }

    struct lend_local_channel *channel = lend_local_channel_create(local);
    if (channel == NULL) {
        warn(local, "no memory for a connection");
        lend_sys->close(fd);
        return;
    }
    struct lend_error error;
    channel->socket.fd = fd;
    channel->socket.ready = half_open_ready;
    lend_local_know(channel);
    if (lend_agent_watch(local->agent, &channel->socket, EPOLLIN | EPOLLRDHUP, &error) != LEND_OK) {
        warn(local, "a connection was closed: %s", error.message);
        channel->socket.ready = NULL;
        lend_local_channel_destroy(channel, false);
        return;
    }
    channel->deadline_ns = lend_sys->now_ns() + local->connect_timeout_ns;
    lend_list_append(&local->half_open, &channel->half_open);
    local->half_open_count++;
}

static void listener_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_local *local = LEND_LIST_OWNER(watch, struct lend_local, listener);

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = lend_sys->accept(watch->fd);
        if (fd == -EAGAIN)
            break;
        if (fd == -ECONNABORTED)
            continue;
        if (fd < 0) {
            /* Out of descriptors or memory: the connection stays in the queue, and would wake us
             * without end. */
            struct lend_error error;
            (void)lend_fail_errno(&error, -fd, "no connection can be accepted for a while");
            warn(local, "%s", error.message);
            lend_agent_unwatch(local->agent, watch);
            local->resume_ns = lend_sys->now_ns() + LISTEN_PAUSE_NS;
            break;
        }
        admit(local, fd);
    }
    set_alarm(local);
}

static enum lend_status start_listening(struct lend_local *local, struct lend_error *error)
{
    const struct lend_local_place *place = &local->place;
    struct sockaddr_un address;
    socklen_t count = lend_local_place_socket(place, &address);

    int fd = lend_sys->socket();
    if (fd < 0)
        return lend_fail_errno(error, -fd, "make a UNIX socket");
    local->listener.fd = fd;

    int result = lend_sys->bind(fd, (const struct sockaddr *)&address, count);
    if (result < 0)
        return lend_fail_errno(error, -result, "bind a socket to %s (see local_directory)",
                               place->path);
    local->is_bound = true;

    /* Before anybody can connect: nobody can until listen(). */
    result = place->is_abstract ? 0 : lend_sys->chmod(place->path, local->mode);
    if (result < 0)
        return lend_fail_errno(error, -result, "chmod %04o %s", local->mode, place->path);

    result = lend_sys->listen(fd, LISTEN_BACKLOG);
    if (result < 0)
        return lend_fail_errno(error, -result, "listen at %s", place->path);

    local->listener.ready = listener_ready;
    enum lend_status status = lend_agent_watch(local->agent, &local->listener, EPOLLIN, error);
    if (status != LEND_OK)
        local->listener.ready = NULL;
    return status;
}

/* The table */

static void destroy(struct lend_local *local, bool forked)
{
    if (local == NULL)
        return;
    while (!lend_list_is_empty(&local->half_open))
        lend_local_channel_destroy(take_oldest(local), forked);
    if (!forked && local->listener.ready != NULL) {
        lend_agent_alarm(local->agent, 0, alarm_expired, local);
        if (local->resume_ns == 0)
            lend_agent_unwatch(local->agent, &local->listener);
    }
    if (!forked && local->is_bound && !local->place.is_abstract)
        lend_sys->unlink(local->place.path);
    if (local->listener.fd >= 0)
        lend_sys->close(local->listener.fd);
    if (local->pidfd >= 0)
        lend_sys->close(local->pidfd);
    lend_local_sharing_fini(local, forked);
    lend_sys->release(local);
}

static void lend_local_destroy(struct lend_local *local)
{
    destroy(local, false);
}

static void lend_local_channel_drop(struct lend_local_channel *channel)
{
    lend_local_channel_destroy(channel, false);
}

LEND_AUTO_DEFINE(lend_local, lend_local_destroy)
LEND_AUTO_DEFINE(lend_local_channel, lend_local_channel_drop)

static enum lend_status local_open(const struct lend_transport_open *open, void **out,
                                   struct lend_error *error)
{
    LEND_AUTO(lend_local) struct lend_local *local = lend_sys->allocate(sizeof *local);

    if (local == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport local");
    lend_list_init(&local->half_open);
    local->agent = open->agent;
    local->mode = open->local_mode;
    local->ring_bytes = open->ring_bytes;
    local->connect_timeout_ns = open->connect_timeout_ns;
    local->listener.fd = -1;
    lend_local_sharing_init(local, open);
    local->pidfd = lend_sys->pidfd_self(); /* without one, hang-up is what tells of our death */

    enum lend_status status = lend_local_place_choose(&local->place, open, error);
    if (status != LEND_OK)
        return status;
    status = start_listening(local, error);
    if (status != LEND_OK)
        return status;
    if (open->local_directory == NULL && !open->local_is_abstract && (local->mode & 066) != 0)
        warn(local,
             "local_mode %04o lets others in, but nobody else may enter the folder of %s: set "
             "local_directory",
             local->mode, local->place.path);

    *out = LEND_TAKE(local);
    return LEND_OK;
}

static void local_close(void *transport)
{
    destroy(transport, false);
}

static void local_close_forked(void *transport)
{
    destroy(transport, true);
}

static size_t local_address(void *transport, uint8_t *bytes)
{
    const struct lend_local *local = transport;

    return lend_local_place_encode(&local->place, bytes);
}

static bool local_reaches(void *transport, const uint8_t *address, size_t count)
{
    const struct lend_local *local = transport;
    struct lend_local_place place;

    return lend_local_place_decode(&place, address, count) &&
           lend_local_place_is_near(&local->place, &place);
}

static enum lend_status local_connect(void *transport, const uint8_t *address, size_t count,
                                      struct lend_session *session, struct lend_channel **out,
                                      struct lend_error *error)
{
    struct lend_local_place place;

    if (!lend_local_place_decode(&place, address, count))
        return lend_fail(error, LEND_E_CORRUPT, "%zu bytes that are no address of a UNIX socket",
                         count);

    LEND_AUTO(lend_local_channel)
    struct lend_local_channel *channel = lend_local_channel_create(transport);
    if (channel == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection to %s", place.path);
    channel->base.session = session;

    enum lend_status status = lend_local_call(channel, &place, error);
    if (status != LEND_OK)
        return status;

    *out = &LEND_TAKE(channel)->base;
    return LEND_OK;
}

static void local_close_channel(struct lend_channel *base, bool forked)
{
    lend_local_channel_destroy((struct lend_local_channel *)(void *)base, forked);
}

const struct lend_transport_ops lend_transport_local = {
    .name = "local",
    .paths = {[LEND_WAY_SERVED] = "local/served",
              [LEND_WAY_MAPPED] = "local/mapped",
              [LEND_WAY_CROSS_MEMORY] = "local/cross-memory",
              [LEND_WAY_STAGED] = "local/staged",
              [LEND_WAY_DEVICE] = "local/cuda"},
    .rank = 20,
    .kinds = 1U << LEND_MEMORY_SYSTEM | 1U << LEND_MEMORY_PINNED | 1U << LEND_MEMORY_DEVICE,
    .open = local_open,
    .close = local_close,
    .close_forked = local_close_forked,
    .address = local_address,
    .reaches = local_reaches,
    .connect = local_connect,
    .close_channel = local_close_channel,
    .room = lend_local_room,
    .send = lend_local_send,
    .send_data = lend_local_send_data,
    .flush = lend_local_flush,
    .peek = lend_local_peek,
    .take = lend_local_take,
    .take_data = lend_local_take_data,
    .sleep = lend_local_sleep,
    .awake = lend_local_awake,
    .share = lend_local_share,
    .unshare = lend_local_unshare,
    .is_held = lend_local_is_held,
    .words = lend_local_words,
    .mapped = lend_local_mapped,
    .keep = lend_local_keep,
    .part = lend_local_part,
    .mapping_stamp = lend_local_mapping_stamp,
    .process = lend_local_process,
    .is_alive = lend_local_is_alive,
    .prefault = lend_local_prefault,
};
