/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    NOTICE_MAGIC = 0x4e4c444e, /* "NDLN" */
    NOTICE_BYTES_MAX = 16 + LEND_LOCAL_TEXT_MAX,
};

/* A file that peers may map: one of local->shared. */
struct shared {
    struct lend_list link;
    const struct lend_shared_file *file;
};

struct lend_local_ghost {
    struct lend_list link; /* in lend_local's list, once its connection is gone */
    int pidfd;
    int socket; /* then: what it says there still counts; -1: it says nothing more */
    struct ucred user;
    uint32_t numbers[LEND_LOCAL_FILES_MAX]; /* then: that it holds; 0: none */
};

enum { DRAIN_MAX = 2 * (LEND_LOCAL_FILES_MAX + LEND_LOCAL_ABSENT_MAX) };

/* Packets */

static bool has_number(enum lend_local_notice_type type)
{
    return type >= LEND_LOCAL_FILE && type != LEND_LOCAL_READY && type != LEND_LOCAL_LEFT_ALL;
}

static bool has_index(enum lend_local_notice_type type)
{
    return type >= LEND_LOCAL_WANT_PART;
}

static bool has_text(enum lend_local_notice_type type)
{
    return type == LEND_LOCAL_NO_FILE || type == LEND_LOCAL_NO_PART;
}

static bool has_bytes(enum lend_local_notice_type type)
{
    return type == LEND_LOCAL_FILE || type == LEND_LOCAL_WORDS;
}

ssize_t lend_local_notice_send(int socket, const struct lend_local_notice *notice, int fd)
{
    const int fds[LEND_LOCAL_FDS_MAX] = {fd, -1};
    size_t text_bytes = strnlen(notice->text, LEND_LOCAL_TEXT_MAX);
    uint8_t packet[NOTICE_BYTES_MAX];
    struct lend_writer writer = lend_writer_init(packet, sizeof packet);

    lend_write_u32(&writer, NOTICE_MAGIC);
    lend_write_u32(&writer, notice->type);
    if (has_number(notice->type))
        lend_write_u32(&writer, notice->number);
    if (has_index(notice->type))
        lend_write_u32(&writer, notice->index);
    if (has_bytes(notice->type))
        lend_write_u64(&writer, notice->bytes);
    if (notice->type == LEND_LOCAL_PROBE) {
        lend_write_u64(&writer, notice->nonce_address);
        lend_write_bytes(&writer, notice->nonce, sizeof notice->nonce);
    }
    if (has_text(notice->type)) {
        lend_write_u32(&writer, (uint32_t)text_bytes);
        lend_write_bytes(&writer, notice->text, text_bytes);
    }
    assert(lend_writer_fits(&writer));
    return lend_local_send_packet(socket, packet, writer.count, fds);
}

bool lend_local_is_notice(const struct lend_local_packet *packet)
{
    struct lend_reader reader = lend_reader_init(packet->bytes, (size_t)packet->count);

    return lend_read_u32(&reader) == NOTICE_MAGIC && !reader.bad;
}

static bool read_text(struct lend_reader *reader, char *text)
{
    uint32_t count = lend_read_u32(reader);

    if (count > LEND_LOCAL_TEXT_MAX)
        return false;
    lend_read_bytes(reader, text, count);
    text[count] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        if (text[i] < ' ' || text[i] > '~')
            return false;
    }
    return true;
}

bool lend_local_notice_decode(const struct lend_local_packet *packet, struct lend_local_notice *out)
{
    struct lend_reader reader = lend_reader_init(packet->bytes, (size_t)packet->count);
    struct lend_local_notice notice = {.number = 0};

    uint32_t magic = lend_read_u32(&reader);
    uint32_t type = lend_read_u32(&reader);
    if (magic != NOTICE_MAGIC || type < LEND_LOCAL_WORDS || type > LEND_LOCAL_NO_PART)
        return false;
    notice.type = (enum lend_local_notice_type)type;
    if (has_number(notice.type)) {
        notice.number = lend_read_u32(&reader);
        if (notice.number == 0)
            return false;
    }
    if (has_index(notice.type))
        notice.index = lend_read_u32(&reader);
    if (has_bytes(notice.type)) {
        notice.bytes = lend_read_u64(&reader);
        if (notice.bytes == 0)
            return false;
    }
    if (notice.type == LEND_LOCAL_PROBE) {
        notice.nonce_address = lend_read_u64(&reader);
        lend_read_bytes(&reader, notice.nonce, sizeof notice.nonce);
    }
    if (has_text(notice.type) && !read_text(&reader, notice.text))
        return false;
    if (!lend_reader_done(&reader))
        return false;
    *out = notice;
    return true;
}

/* The transport's part */

/* Whatever cannot be had here costs readers a way of their own, and nothing else. */
void lend_local_sharing_init(struct lend_local *local, const struct lend_transport_open *open)
{
    void *page = NULL;
    size_t page_bytes = lend_sys->page_bytes();

    (void)pthread_mutex_init(&local->share_lock, NULL); /* cannot fail on Linux */
    lend_list_init(&local->shared);
    lend_list_init(&local->served);
    lend_list_init(&local->ghosts);
    local->words_bytes = open->words_bytes;
    local->words_fd = open->words_fd >= 0 ? lend_sys->reopen_read(open->words_fd) : -1;
    if (lend_sys->map_wiped(page_bytes, &page) != 0)
        return;
    if (lend_sys->random(page, LEND_NONCE_BYTES) == 0)
        local->nonce = page;
    else
        lend_sys->unmap_wiped(page, page_bytes);
}

/* --- who has memory of a GPU open --- */

/* False: it cannot be, for want of memory or descriptors. */
static bool make_ghost(struct lend_local_channel *channel)
{
    if (channel->ghost != NULL)
        return true;
    struct lend_local_ghost *ghost = lend_sys->allocate(sizeof *ghost);
    if (ghost == NULL)
        return false;
    ghost->pidfd = lend_sys->duplicate(channel->death.fd);
    ghost->socket = -1;
    ghost->user = channel->user;
    lend_list_init(&ghost->link);
    if (ghost->pidfd >= 0)
        channel->ghost = ghost;
    else
        lend_sys->release(ghost);
    return channel->ghost != NULL;
}

static void free_ghost(struct lend_local_ghost *ghost)
{
    if (ghost == NULL)
        return;
    lend_list_remove(&ghost->link);
    if (ghost->socket >= 0)
        lend_sys->close(ghost->socket);
    lend_sys->close(ghost->pidfd);
    lend_sys->release(ghost);
}

/* The descriptors of a process are closed, and with them what it had of the driver, before its
 * pidfd says that it has ended. */
static bool has_ended(const struct lend_local_ghost *ghost)
{
    struct pollfd look = {.fd = ghost->pidfd, .events = POLLIN};

    return lend_sys->poll(&look, 1, 0) > 0 && look.revents != 0;
}

void lend_local_sharing_fini(struct lend_local *local, bool forked)
{
    struct lend_list *link;

    while (!lend_list_is_empty(&local->ghosts))
        free_ghost(LEND_LIST_OWNER(local->ghosts.next, struct lend_local_ghost, link));

    while ((link = lend_list_take_first(&local->shared)) != NULL)
        lend_sys->release(LEND_LIST_OWNER(link, struct shared, link));
    if (local->words_fd >= 0)
        lend_sys->close(local->words_fd);
    if (local->nonce != NULL)
        lend_sys->unmap_wiped(local->nonce, lend_sys->page_bytes());
    if (!forked) /* there, a thread that is not may hold it */
        (void)pthread_mutex_destroy(&local->share_lock);
}

/* What a client may have, and holds. All under share_lock. */

static struct lend_local_held *find_held(struct lend_local_channel *channel, uint32_t number)
{
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        if (channel->held[i].number == number)
            return &channel->held[i];
    }
    return NULL;
}

/* False: it may not, and why. */
static bool may_map(const struct lend_local_channel *channel, const struct lend_shared_file *file,
                    char *why_not, size_t capacity)
{
    const struct lend_backing *backing = &file->backing;
    uid_t uid = channel->user.uid;

    if (file->is_device && !channel->base.is_private) {
        (void)snprintf(why_not, capacity,
                       "who opens GPU memory can write to it, and the reader is of another user");
        return false;
    }
    if (file->is_device && channel->death.fd < 0) {
        (void)snprintf(why_not, capacity,
                       "the owner could not see the reader's process end: it gave no pidfd (Linux "
                       "5.3 has them)");
        return false;
    }
    if (!backing->is_fit_for_mapping) {
        (void)snprintf(why_not, capacity, "%s", backing->why_not);
        return false;
    }
    if (!channel->has_user && !backing->is_closed_to_writers) {
        (void)snprintf(why_not, capacity, "the owner cannot tell which user the reader is");
        return false;
    }
    if (!channel->has_user || !lend_backing_is_writable_by(backing, uid))
        return true;
    if (file->consents_to_owner && (uid == backing->owner_uid || uid == 0))
        return true;
    (void)snprintf(why_not, capacity,
                   "a reader of user %u could write to it: seal it with F_SEAL_FUTURE_WRITE "
                   "(lend_storage_create() does)",
                   (unsigned)uid);
    return false;
}

static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

/* Give the client the file, or tell it why not. */
static void offer(struct lend_local_channel *channel, const struct lend_shared_file *file)
{
    if (channel->has_left)
        return;
    struct lend_local_notice notice = {.number = file->number, .bytes = file->backing.file_bytes};
    int socket = channel->socket.fd;
    struct lend_local_held *held = find_held(channel, 0);

    if (may_map(channel, file, notice.text, sizeof notice.text)) {
        bool is_lost = file->is_device && !make_ghost(channel);

        notice.type = LEND_LOCAL_FILE;
        ssize_t sent =
            held != NULL && !is_lost ? lend_local_notice_send(socket, &notice, file->fd) : 0;
        if (sent > 0) {
            *held = (struct lend_local_held){.number = file->number, .is_device = file->is_device};
            return;
        }
        if (is_lost)
            (void)snprintf(notice.text, sizeof notice.text, "its owner has no descriptor left");
        else if (held == NULL)
            (void)snprintf(notice.text, sizeof notice.text, "more than %d files on one connection",
                           LEND_LOCAL_FILES_MAX);
        else
            (void)snprintf(notice.text, sizeof notice.text, "its descriptor could not be sent (%s)",
                           strerrordesc_np((int)-sent));
    }
    notice.type = LEND_LOCAL_NO_FILE;
    make_printable(notice.text);
    (void)lend_local_notice_send(socket, &notice, -1); /* untold: the client knows no such file */
}

static void tell_first(struct lend_local_channel *channel)
{
    const struct lend_local *local = channel->local;
    struct lend_local_notice words = {.type = LEND_LOCAL_WORDS, .bytes = local->words_bytes};
    struct lend_local_notice probe = {.type = LEND_LOCAL_PROBE};

    /* What does not get through is missing there, and told there. */
    if (local->words_fd >= 0)
        (void)lend_local_notice_send(channel->socket.fd, &words, local->words_fd);
    if (local->nonce == NULL)
        return;
    probe.nonce_address = (uintptr_t)local->nonce;
    memcpy(probe.nonce, local->nonce, sizeof probe.nonce);
    (void)lend_local_notice_send(channel->socket.fd, &probe, -1);
}

bool lend_local_introduce(struct lend_local_channel *channel)
{
    static const struct lend_local_notice ready = {.type = LEND_LOCAL_READY};
    struct lend_local *local = channel->local;
    uint32_t told = 0;

    tell_first(channel);

    (void)pthread_mutex_lock(&local->share_lock);
    for (struct lend_list *link = local->shared.next; link != &local->shared; link = link->next) {
        /* A socket has no room for more: the client is not told of the rest. */
        if (told++ == LEND_LOCAL_FILES_MAX + LEND_LOCAL_ABSENT_MAX)
            break;
        offer(channel, LEND_LIST_OWNER(link, struct shared, link)->file);
    }
    lend_list_append(&local->served, &channel->served);
    channel->is_served = true;
    bool is_told = lend_local_notice_send(channel->socket.fd, &ready, -1) > 0;
    (void)pthread_mutex_unlock(&local->share_lock);
    return is_told;
}

static bool drop_held(struct lend_local_channel *channel, uint32_t number)
{
    struct lend_local_held *held = find_held(channel, number);

    if (held == NULL)
        return false;
    *held = (struct lend_local_held){.number = 0};
    return true;
}

/* What it is given from then on is nobody's, and counts for nothing. False: it has not that one. */
static bool note_left(struct lend_local_channel *channel, const struct lend_local_notice *notice)
{
    if (notice->type == LEND_LOCAL_LEFT)
        return drop_held(channel, notice->number);
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++)
        if (channel->held[i].number != 0)
            (void)drop_held(channel, channel->held[i].number);
    channel->has_left = true;
    return true;
}

/* The file, while it is shared; under share_lock, which holds up who ends that. */
static const struct lend_shared_file *find_shared(struct lend_local *local, uint32_t number)
{
    for (struct lend_list *link = local->shared.next; link != &local->shared; link = link->next) {
        const struct lend_shared_file *file = LEND_LIST_OWNER(link, struct shared, link)->file;

        if (file->number == number)
            return file;
    }
    return NULL;
}

/* The lock is held until the driver has made the descriptor: whoever takes the memory back waits so
 * long, and nothing of it is handed over afterwards. */
static enum lend_status give_part(struct lend_local_channel *channel, uint32_t number,
                                  uint32_t index, struct lend_error *error)
{
    const struct lend_shared_file *file = find_shared(channel->local, number);
    struct lend_local_notice notice = {.type = LEND_LOCAL_PART, .number = number, .index = index};
    struct lend_error why = {.message = "the peer is taking it back"};
    int socket = channel->socket.fd, fd = -1;

    if (file != NULL && file->part != NULL && file->part(file, index, &fd, &why) == LEND_OK) {
        ssize_t sent = lend_local_notice_send(socket, &notice, fd);

        lend_sys->close(fd);
        if (sent > 0)
            return LEND_OK;
        (void)lend_fail(&why, LEND_E_SYSTEM, "the descriptor of part %u could not be sent (%s)",
                        index, strerrordesc_np((int)-sent));
    }
    notice.type = LEND_LOCAL_NO_PART;
    (void)snprintf(notice.text, sizeof notice.text, "%.160s", why.message);
    make_printable(notice.text);
    if (lend_local_notice_send(socket, &notice, -1) > 0)
        return LEND_OK;
    return lend_fail(error, LEND_E_PEER_DEAD, "the peer does not take what it has asked for");
}

static enum lend_status take_said_locked(struct lend_local_channel *channel,
                                         const struct lend_local_notice *notice,
                                         struct lend_error *error)
{
    if (notice->type == LEND_LOCAL_WANT_PART) {
        const struct lend_local_held *held = find_held(channel, notice->number);

        if (held != NULL && held->is_device)
            return give_part(channel, notice->number, notice->index, error);
        return lend_fail(error, LEND_E_CORRUPT,
                         "the peer wants a part of file %u, which it has not", notice->number);
    }
    if (note_left(channel, notice))
        return LEND_OK;
    return lend_fail(error, LEND_E_CORRUPT, "the peer has let go of file %u, which it has not",
                     notice->number);
}

enum lend_status lend_local_take_said(struct lend_local_channel *channel,
                                      const struct lend_local_packet *packet,
                                      struct lend_error *error)
{
    struct lend_local *local = channel->local;
    struct lend_local_notice notice;

    /* Descriptors of clients are not even taken. */
    if (!packet->is_whole || !lend_local_notice_decode(packet, &notice) ||
        (notice.type != LEND_LOCAL_LEFT && notice.type != LEND_LOCAL_LEFT_ALL &&
         notice.type != LEND_LOCAL_WANT_PART))
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent a packet that no agent sends then");

    (void)pthread_mutex_lock(&local->share_lock);
    enum lend_status status = take_said_locked(channel, &notice, error);
    (void)pthread_mutex_unlock(&local->share_lock);
    return status;
}

/* The next thing that was said there; 0: nothing now; negative: nothing any more. */
static int hear(int socket, struct lend_local_notice *out)
{
    for (int i = 0; i < DRAIN_MAX; i++) {
        struct lend_local_packet packet;

        lend_local_receive(socket, false, &packet);
        bool is_said = packet.count > 0 && packet.is_whole &&
                       lend_local_notice_decode(&packet, out) &&
                       (out->type == LEND_LOCAL_LEFT || out->type == LEND_LOCAL_LEFT_ALL);
        lend_local_packet_fini(&packet);
        if (is_said)
            return 1;
        if (packet.count == -EAGAIN || packet.count == -ENOMEM || packet.count == -ENOBUFS)
            return 0;
        /* Who closes with packets of ours unread resets the connection, which is told once, ahead
         * of what it had said. */
        if (packet.count <= 0 && packet.count != -ECONNRESET)
            return -1;
    }
    return 0;
}

/* Of memory of a GPU, what the client has not let go of is open until it says so, or its process
 * has ended. */
static void leave_ghost(struct lend_local_channel *channel)
{
    struct lend_local_ghost *ghost = channel->ghost;
    struct lend_local_notice notice;
    uint32_t count = 0;

    if (ghost == NULL)
        return;
    channel->ghost = NULL;
    while (hear(channel->socket.fd, &notice) > 0)
        (void)note_left(channel, &notice);
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++)
        if (channel->held[i].number != 0 && channel->held[i].is_device)
            ghost->numbers[count++] = channel->held[i].number;
    if (count == 0) {
        free_ghost(ghost);
        return;
    }
    ghost->socket = lend_sys->duplicate(channel->socket.fd);
    channel->is_haunting = ghost->socket >= 0;
    lend_list_append(&channel->local->ghosts, &ghost->link);
}

void lend_local_stop_serving(struct lend_local_channel *channel, bool forked)
{
    /* In a forked child, a thread that is not there may hold the lock; and who holds what is asked
     * of the parent alone. */
    if (forked)
        free_ghost(LEND_TAKE(channel->ghost));
    if (!channel->is_served || forked)
        return;
    (void)pthread_mutex_lock(&channel->local->share_lock);
    lend_list_remove(&channel->served);
    channel->is_served = false;
    leave_ghost(channel);
    (void)pthread_mutex_unlock(&channel->local->share_lock);
}

/* The operations of the table */

void lend_local_share(void *transport, const struct lend_shared_file *file)
{
    struct lend_local *local = transport;
    struct shared *shared = lend_sys->allocate(sizeof *shared);

    if (shared == NULL) {
        lend_agent_log(local->agent, LEND_LOG_WARNING,
                       "local: no memory to share file %u: no peer will map it", file->number);
        return;
    }
    shared->file = file;
    (void)pthread_mutex_lock(&local->share_lock);
    lend_list_append(&local->shared, &shared->link);
    for (struct lend_list *link = local->served.next; link != &local->served; link = link->next)
        offer(LEND_LIST_OWNER(link, struct lend_local_channel, served), file);
    (void)pthread_mutex_unlock(&local->share_lock);
}

static void ask_back(struct lend_local_channel *channel, struct lend_local_held *held)
{
    struct lend_local_notice notice = {.type = LEND_LOCAL_LET_GO, .number = held->number};

    held->owes_let_go = lend_local_notice_send(channel->socket.fd, &notice, -1) < 0;
}

void lend_local_unshare(void *transport, uint32_t number)
{
    struct lend_local *local = transport;
    struct shared *found = NULL;

    (void)pthread_mutex_lock(&local->share_lock);
    for (struct lend_list *link = local->shared.next; link != &local->shared; link = link->next) {
        struct shared *shared = LEND_LIST_OWNER(link, struct shared, link);
        if (shared->file->number == number)
            found = shared;
    }
    if (found != NULL) {
        lend_list_remove(&found->link);
        lend_sys->release(found);
        for (struct lend_list *link = local->served.next; link != &local->served;
             link = link->next) {
            struct lend_local_channel *channel =
                LEND_LIST_OWNER(link, struct lend_local_channel, served);
            struct lend_local_held *held = find_held(channel, number);
            if (held != NULL)
                ask_back(channel, held);
        }
    }
    (void)pthread_mutex_unlock(&local->share_lock);
}

/* Hear what it says. True: it holds that one still. */
static bool holds(struct lend_local_ghost *ghost, uint32_t number, bool *out_holds_any)
{
    struct lend_local_notice notice;
    bool is_held = false;
    int heard = 0;

    while (ghost->socket >= 0 && (heard = hear(ghost->socket, &notice)) > 0)
        for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++)
            if (notice.type == LEND_LOCAL_LEFT_ALL || ghost->numbers[i] == notice.number)
                ghost->numbers[i] = 0;
    if (heard < 0) {
        lend_sys->close(ghost->socket);
        ghost->socket = -1;
    }
    *out_holds_any = false;
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        is_held |= ghost->numbers[i] == number;
        *out_holds_any |= ghost->numbers[i] != 0;
    }
    return is_held;
}

/* By a process that is connected no more. */
static bool is_haunted(struct lend_local *local, uint32_t number, char *who, size_t capacity)
{
    bool is_held = false;
    struct lend_list *next;

    for (struct lend_list *link = local->ghosts.next; link != &local->ghosts; link = next) {
        struct lend_local_ghost *ghost = LEND_LIST_OWNER(link, struct lend_local_ghost, link);
        bool holds_any;
        bool holds_this = holds(ghost, number, &holds_any);

        next = link->next;
        if (!holds_any || has_ended(ghost)) {
            free_ghost(ghost);
        } else if (holds_this) {
            (void)snprintf(who, capacity, "process %d of user %u, which is connected no more,",
                           (int)ghost->user.pid, (unsigned)ghost->user.uid);
            is_held = true;
        }
    }
    return is_held;
}

bool lend_local_is_held(void *transport, uint32_t number, char *who, size_t capacity)
{
    struct lend_local *local = transport;

    (void)pthread_mutex_lock(&local->share_lock);
    bool is_held = is_haunted(local, number, who, capacity);
    for (struct lend_list *link = local->served.next; link != &local->served; link = link->next) {
        struct lend_local_channel *channel =
            LEND_LIST_OWNER(link, struct lend_local_channel, served);
        struct lend_local_held *held = find_held(channel, number);
        if (held == NULL)
            continue;
        if (held->owes_let_go)
            ask_back(channel, held);
        if (!is_held && channel->has_user)
            (void)snprintf(who, capacity, "process %d of user %u", (int)channel->user.pid,
                           (unsigned)channel->user.uid);
        else if (!is_held)
            (void)snprintf(who, capacity, "a process that cannot be told");
        is_held = true;
    }
    (void)pthread_mutex_unlock(&local->share_lock);
    return is_held;
}
