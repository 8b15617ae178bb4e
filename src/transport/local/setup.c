/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SETUP_MAGIC = 0x534c444e,  /* "NDLS" */
    ANSWER_MAGIC = 0x414c444e, /* "NDLA" */
    SETUP_VERSION = 2,
    SETUP_BYTES = 16,
    ANSWER_BYTES = 16,
    HAS_PIDFD = 1, /* flag of either: the last descriptor is a pidfd of the sender */
    CLOSING_MAX = 64,
};

/* Descriptors of strangers */

static _Atomic uint32_t closing_count;

static void *close_apart(void *context)
{
    lend_sys->close((int)(intptr_t)context);
    /* Release: what we did comes before anybody sees that we are done. */
    atomic_fetch_sub_explicit(&closing_count, 1, memory_order_release);
    return NULL;
}

uint32_t lend_local_closing_count(void)
{
    return atomic_load_explicit(&closing_count,
                                memory_order_acquire); /* pairs with the release above */
}

/*
 * Close a descriptor that is not what it should be. Closing a file of FUSE asks the server of that
 * file system, which may be the peer, and may never answer: so a thread of its own does it, and
 * while CLOSING_MAX of them are stuck no descriptors are taken at all.
 */
static void close_foreign(int fd)
{
    pthread_t thread;

    atomic_fetch_add_explicit(&closing_count, 1, memory_order_relaxed);
    if (lend_sys->thread(&thread, close_apart, (void *)(intptr_t)fd, "lend-close") == 0)
        (void)pthread_detach(thread);
    else
        (void)close_apart((void *)(intptr_t)fd);
}

void lend_local_packet_fini(struct lend_local_packet *packet)
{
    for (uint32_t i = 0; i < packet->fd_count; i++) {
        if (packet->fds[i] >= 0)
            close_foreign(packet->fds[i]);
    }
    packet->fd_count = 0;
}

/* Asked of the kernel's own description, as even to poll a foreign file may block. */
bool lend_local_pidfd_number(int fd, int *out)
{
    static const char name[] = "\nPid:\t";
    char path[48];
    char text[512];

    (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = lend_sys->open_read(path);
    if (info < 0)
        return false;
    ssize_t count = lend_sys->read(info, text, sizeof text - 1);
    lend_sys->close(info);
    if (count <= 0)
        return false;
    text[count] = '\0';
    const char *found = strstr(text, name);
    if (found == NULL)
        return false;
    *out = (int)strtol(found + strlen(name), NULL, 10);
    return true;
}

void lend_local_watch_death(struct lend_local_channel *channel, struct lend_local_packet *packet,
                            uint32_t index)
{
    struct lend_agent *agent = channel->local->agent;
    struct lend_error error;
    int number;

    if (channel->death.fd >= 0 || !lend_local_pidfd_number(packet->fds[index], &number))
        return;
    channel->death.ready = lend_local_death_ready;
    channel->death.fd = packet->fds[index];
    packet->fds[index] = -1;
    if (lend_agent_watch(agent, &channel->death, EPOLLIN, &error) == LEND_OK)
        return;
    lend_agent_log(agent, LEND_LOG_DEBUG, "local: only hang-up will tell of a peer's death: %s",
                   error.message);
    lend_sys->close(channel->death.fd);
    channel->death.fd = -1;
}

/* Packets */

static void take_fds(struct msghdr *message, struct lend_local_packet *out)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        assert(out->fd_count + count <= LEND_LOCAL_FDS_MAX);
        memcpy(out->fds + out->fd_count, CMSG_DATA(part), count * sizeof(int));
        out->fd_count += (uint32_t)count;
    }
}

/* Room for an even number of descriptors has no slack at its end in which one more would fit; what
 * does not fit the kernel drops without giving it to us. */
_Static_assert(CMSG_SPACE(LEND_LOCAL_FDS_MAX * sizeof(int)) ==
                   CMSG_LEN(LEND_LOCAL_FDS_MAX * sizeof(int)),
               "no slack");

void lend_local_receive(int fd, bool takes_fds, struct lend_local_packet *out)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(LEND_LOCAL_FDS_MAX * sizeof(int))];
    } control;
    struct iovec bytes = {.iov_base = out->bytes, .iov_len = sizeof out->bytes};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

    if (takes_fds && lend_local_closing_count() < CLOSING_MAX) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    out->fd_count = 0;
    out->count = lend_sys->recvmsg(fd, &message);
    out->is_whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    if (out->count >= 0 && message.msg_control != NULL)
        take_fds(&message, out);
}

ssize_t lend_local_send_packet(int fd, const uint8_t *packet, size_t count, const int *fds)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(LEND_LOCAL_FDS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)packet, .iov_len = count};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    int given[LEND_LOCAL_FDS_MAX];
    size_t given_count = 0;

    for (size_t i = 0; i < LEND_LOCAL_FDS_MAX; i++) {
        if (fds[i] >= 0)
            given[given_count++] = fds[i];
    }
    if (given_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(given_count * sizeof(int));
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(given_count * sizeof(int));
        memcpy(CMSG_DATA(part), given, given_count * sizeof(int));
    }
    return lend_sys->sendmsg(fd, &message);
}

static ssize_t send_setup(struct lend_local_channel *channel, int memory)
{
    const struct lend_local *local = channel->local;
    int fds[LEND_LOCAL_FDS_MAX] = {memory, local->pidfd};
    uint8_t packet[SETUP_BYTES];
    struct lend_writer writer = lend_writer_init(packet, sizeof packet);

    lend_write_u32(&writer, SETUP_MAGIC);
    lend_write_u16(&writer, SETUP_VERSION);
    lend_write_u16(&writer, local->pidfd >= 0 ? HAS_PIDFD : 0);
    lend_write_u64(&writer, local->ring_bytes);
    assert(writer.count == sizeof packet);
    return lend_local_send_packet(channel->socket.fd, packet, sizeof packet, fds);
}

bool lend_local_answer(struct lend_local_channel *channel, enum lend_status status)
{
    int pidfd = status == LEND_OK ? channel->local->pidfd : -1;
    int fds[LEND_LOCAL_FDS_MAX] = {pidfd, -1};
    uint8_t packet[ANSWER_BYTES];
    struct lend_writer writer = lend_writer_init(packet, sizeof packet);

    lend_write_u32(&writer, ANSWER_MAGIC);
    lend_write_u16(&writer, SETUP_VERSION);
    lend_write_u16(&writer, pidfd >= 0 ? HAS_PIDFD : 0);
    lend_write_u32(&writer, (uint32_t)status);
    lend_write_u32(&writer, 0);
    assert(writer.count == sizeof packet);
    return lend_local_send_packet(channel->socket.fd, packet, sizeof packet, fds) ==
           (ssize_t)sizeof packet;
}

bool lend_local_answer_decode(const struct lend_local_packet *packet, struct lend_local_answer *out)
{
    struct lend_reader reader = lend_reader_init(packet->bytes, (size_t)packet->count);

    uint32_t magic = lend_read_u32(&reader);
    uint16_t version = lend_read_u16(&reader);
    uint16_t flags = lend_read_u16(&reader);
    int32_t status = (int32_t)lend_read_u32(&reader);
    uint32_t reserved = lend_read_u32(&reader);
    if (!packet->is_whole || !lend_reader_done(&reader) || magic != ANSWER_MAGIC ||
        (flags & ~HAS_PIDFD) != 0 || reserved != 0)
        return false;
    *out = (struct lend_local_answer){
        .version = version, .has_pidfd = (flags & HAS_PIDFD) != 0, .status = status};
    return true;
}

/* Client */

static enum lend_status explain_connect(const struct lend_local_place *place, int sys_errno,
                                        struct lend_error *error)
{
    const char *path = place->path;
    struct ucred self;

    switch (sys_errno) {
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
    case ECONNRESET:
    case EPIPE:
        return lend_fail(error, LEND_E_PEER_DEAD, "nobody listens at %s%s (%s)",
                         place->is_abstract ? "@" : "", path, strerrordesc_np(sys_errno));
    case EACCES:
    case EPERM:
        lend_sys->self(&self);
        return lend_fail(
            error, LEND_E_ACCESS,
            "user %u may not connect to %s: its agent needs a local_mode such as 0666, "
            "and a local_directory that this user may enter",
            (unsigned)self.uid, path);
    case EAGAIN:
        return lend_fail(
            error, LEND_E_BUSY,
            "too many wait to be let in at %s: its agent does not make progress, or try "
            "again",
            path);
    default: return lend_fail_errno(error, sys_errno, "connect to %s", path);
    }
}

static enum lend_status make_rings(struct lend_local_channel *channel,
                                   const struct lend_local_place *place, struct lend_error *error)
{
    uint64_t ring_bytes = channel->local->ring_bytes;
    int memory = lend_sys->memfd("lend-rings", lend_local_file_bytes(ring_bytes));

    if (memory < 0)
        return lend_fail_errno(error, -memory, "make shared memory for two rings of %llu bytes",
                               (unsigned long long)ring_bytes);

    enum lend_status status = lend_local_channel_map(channel, memory, ring_bytes, true, error);
    if (status == LEND_OK) {
        ssize_t sent = send_setup(channel, memory);
        if (sent < 0)
            status = explain_connect(place, (int)-sent, error);
    }
    lend_sys->close(memory);
    return status;
}

void lend_local_know(struct lend_local_channel *channel)
{
    struct ucred self;

    channel->has_user = lend_sys->peer(channel->socket.fd, &channel->user) == 0;
    lend_sys->self(&self);
    channel->base.is_private = channel->has_user && channel->user.uid == self.uid;
}

enum lend_status lend_local_call(struct lend_local_channel *channel,
                                 const struct lend_local_place *place, struct lend_error *error)
{
    struct sockaddr_un address;
    socklen_t count = lend_local_place_socket(place, &address);

    channel->mappings = lend_local_mappings_create();
    if (channel->mappings == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for what %s shares", place->path);
    int fd = lend_sys->socket();
    if (fd < 0)
        return lend_fail_errno(error, -fd, "make a UNIX socket");
    channel->socket.fd = fd;

    int result = lend_sys->connect(fd, (const struct sockaddr *)&address, count);
    if (result < 0)
        return explain_connect(place, -result, error);

    lend_local_know(channel);
    enum lend_status status = make_rings(channel, place, error);
    if (status != LEND_OK)
        return status;

    channel->socket.ready = lend_local_socket_ready;
    status = lend_agent_watch(channel->local->agent, &channel->socket, EPOLLIN | EPOLLRDHUP, error);
    if (status != LEND_OK)
        channel->socket.ready = NULL;
    return status;
}

/* Server */

static enum lend_status check_setup(const struct lend_local_packet *packet,
                                    struct lend_local_setup *out, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(packet->bytes, (size_t)packet->count);

    uint32_t magic = lend_read_u32(&reader);
    uint16_t version = lend_read_u16(&reader);
    uint16_t flags = lend_read_u16(&reader);
    uint64_t ring_bytes = lend_read_u64(&reader);
    if (magic != SETUP_MAGIC || reader.bad)
        return lend_fail(error, LEND_E_CORRUPT, "the first packet is no setup");
    if (version != SETUP_VERSION)
        return lend_fail(error, LEND_E_VERSION, "a setup of version %u, and we know version %d",
                         version, SETUP_VERSION);
    if (!packet->is_whole || !lend_reader_done(&reader) || (flags & ~HAS_PIDFD) != 0)
        return lend_fail(error, LEND_E_CORRUPT,
                         "a setup with %zd bytes, flags 0x%x and %u descriptors, or more",
                         packet->count, flags, packet->fd_count);
    if (ring_bytes < LEND_LOCAL_RING_BYTES_MIN || ring_bytes > LEND_LOCAL_RING_BYTES_MAX ||
        (ring_bytes & (ring_bytes - 1)) != 0)
        return lend_fail(
            error, LEND_E_CORRUPT, "rings of %llu bytes; a power of two from %d to %d is allowed",
            (unsigned long long)ring_bytes, LEND_LOCAL_RING_BYTES_MIN, LEND_LOCAL_RING_BYTES_MAX);
    *out = (struct lend_local_setup){
        .version = version, .has_pidfd = (flags & HAS_PIDFD) != 0, .ring_bytes = ring_bytes};

    uint32_t expected = out->has_pidfd ? 2 : 1;
    if (packet->fd_count != expected)
        return lend_fail(error, LEND_E_CORRUPT, "a setup with %u descriptors, expected %u",
                         packet->fd_count, expected);
    return LEND_OK;
}

enum lend_status lend_local_take_setup(struct lend_local_channel *channel,
                                       struct lend_local_packet *packet, struct lend_error *error)
{
    struct lend_local_setup setup = {0};

    enum lend_status status = check_setup(packet, &setup, error);
    if (status != LEND_OK)
        return status;

    uint64_t file_bytes = lend_local_file_bytes(setup.ring_bytes);
    if (lend_sys->memfd_check(packet->fds[0], file_bytes) != 0)
        return lend_fail(
            error, LEND_E_CORRUPT,
            "a setup whose descriptor is no memory of %llu bytes sealed against resizing",
            (unsigned long long)file_bytes);

    /* It is memory, so to close it waits for nobody. */
    int memory = packet->fds[0];
    packet->fds[0] = -1;
    status = lend_local_channel_map(channel, memory, setup.ring_bytes, false, error);
    lend_sys->close(memory);
    if (status == LEND_OK && setup.has_pidfd)
        lend_local_watch_death(channel, packet, 1);
    return status;
}
