/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <linux/magic.h>

/* Address space is finite, and an owner decides how long its files say they are. */
#define MAPPED_BYTES_MAX (UINT64_C(1) << 44)

enum { STAT_BLOCK_BYTES = 512, LOOKS_MAX = 4 };

enum state {
    FREE = 0,
    MAPPED,
    LEAVING, /* mapped, and the owner wants it back */
    GONE,    /* not mapped; the owner does not know it yet */
    REFUSED, /* it was never mapped, and the owner knows */
};

struct file {
    enum state state;
    uint32_t number;
    uint64_t bytes;
    uint8_t *memory;
    uint64_t touched_bytes;
    bool was_refused; /* GONE: it was never mapped, and `why` stays */
    bool is_kept;     /* what was opened by it is not closed yet */
    char why[LEND_LOCAL_TEXT_MAX];
};

/* A file that the owner does not let us map. */
struct absent {
    uint32_t number; /* 0: none */
    char why[LEND_LOCAL_TEXT_MAX + 1];
};

/* The part that was asked for last. */
struct part {
    enum { PART_NONE, PART_ASKED, PART_HERE, PART_REFUSED } state;
    uint32_t number; /* of the file */
    uint32_t index;
    int fd; /* PART_HERE */
    char why[LEND_LOCAL_TEXT_MAX + 1];
};

struct lend_local_mappings {
    /* The poller's until the channel is ready; then they stay as they are. */
    const _Atomic uint64_t *words;
    uint64_t words_bytes;
    bool has_words; /* they came, mapped or not */
    bool has_probe;
    uint64_t nonce_address;
    uint8_t nonce[LEND_NONCE_BYTES];

    _Atomic bool must_let_go; /* set by the poller, cleared under the session's lock */
    _Atomic uint64_t stamp;

    pthread_mutex_t map_lock; /* a leaf; guards all below */
    uint64_t mapped_bytes;
    uint32_t told_last; /* the highest number that was told: higher ones may still come */
    struct file files[LEND_LOCAL_FILES_MAX];
    struct absent absent[LEND_LOCAL_ABSENT_MAX]; /* the last that were told */
    uint32_t absent_next;
    struct part part;
};

static struct lend_local_channel *channel_of(struct lend_channel *base)
{
    return (struct lend_local_channel *)(void *)base;
}

struct lend_local_mappings *lend_local_mappings_create(void)
{
    struct lend_local_mappings *mappings = lend_sys->allocate(sizeof *mappings);

    if (mappings == NULL)
        return NULL;
    (void)pthread_mutex_init(&mappings->map_lock, NULL); /* cannot fail on Linux */
    atomic_init(&mappings->stamp, 1);
    return mappings;
}

static void drop_part(struct lend_local_mappings *mappings)
{
    if (mappings->part.state == PART_HERE)
        lend_sys->close(mappings->part.fd);
    mappings->part.state = PART_NONE;
}

void lend_local_mappings_destroy(struct lend_local_mappings *mappings, bool forked)
{
    if (mappings == NULL)
        return;
    drop_part(mappings);
    /* None of it is in a forked child, and something else may be there by now. */
    if (!forked) {
        for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++)
            lend_sys->unmap(mappings->files[i].memory, mappings->files[i].bytes);
        lend_sys->unmap((void *)(uintptr_t)mappings->words, mappings->words_bytes);
        (void)pthread_mutex_destroy(&mappings->map_lock);
    }
    lend_sys->release(mappings);
}

static struct file *find_file(struct lend_local_mappings *mappings, uint32_t number)
{
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        struct file *file = &mappings->files[i];
        if (file->state != FREE && file->number == number)
            return file;
    }
    return NULL;
}

static struct absent *find_absent(struct lend_local_mappings *mappings, uint32_t number)
{
    for (size_t i = 0; i < LEND_LOCAL_ABSENT_MAX; i++) {
        if (mappings->absent[i].number == number)
            return &mappings->absent[i];
    }
    return NULL;
}

/* A place for a file. One that we refused has told the owner, who will not name it again: its place
 * is free to be taken, but for the reason that stands there. */
static struct file *find_place(struct lend_local_mappings *mappings)
{
    struct file *refused = NULL;

    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        struct file *file = &mappings->files[i];
        if (file->state == FREE)
            return file;
        if (file->state == REFUSED)
            refused = file;
    }
    return refused;
}

/* Release: with the states that say what is to be done, though map_lock guards those too. */
static void plan_letting_go(struct lend_local_mappings *mappings)
{
    atomic_store_explicit(&mappings->must_let_go, true, memory_order_release);
}

/* Under map_lock. */
static void change_stamp(struct lend_local_mappings *mappings)
{
    /* Release: who sees the new stamp looks at new mappings. */
    (void)atomic_fetch_add_explicit(&mappings->stamp, 1, memory_order_release);
}

/* What comes from the server. By the poller, without the session's lock. */

/*
 * Why the file that came may not be mapped; NULL: it may. The seals are asked for first: only
 * memory has any, and to ask anything else of a foreign file may block.
 */
static const char *find_fault(int fd, uint64_t bytes)
{
    struct statfs file_system;
    struct stat file;
    int seals = lend_sys->seals(fd);

    if (seals < 0)
        return "it is no memory file";
    if ((seals & F_SEAL_SHRINK) == 0)
        return "it could shrink under its reader";
    if (lend_sys->file_stat(fd, &file) != 0 || lend_sys->file_system(fd, &file_system) != 0)
        return "it does not say what it is";
    if (file.st_size < 0 || (uint64_t)file.st_size != bytes)
        return "it has not the length that its owner says";
    if (file_system.f_type == TMPFS_MAGIC)
        return NULL;
    /* Huge pages can be missing for good, and kill who touches them: so all must be there, and
     * stay. */
    if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0 ||
        (uint64_t)file.st_blocks * STAT_BLOCK_BYTES < bytes)
        return "its huge pages may be missing";
    return NULL;
}

/* Map what came; NULL, and why not. */
static uint8_t *map_kept(int fd, uint64_t bytes, const char **why)
{
    uint8_t *memory = lend_sys->map_file(fd, 0, bytes, false, false);

    if (memory == NULL) {
        *why = "there is no address space for it here";
        return NULL;
    }
    if (lend_sys->keep_from_fork(memory, bytes) == 0)
        return memory;
    lend_sys->unmap(memory, bytes);
    *why = "it cannot be kept from forked children here";
    return NULL;
}

/*
 * Map what came with the packet. NULL: it cannot be, and why. A descriptor that we had no room for
 * is nobody's fault; one that is missing or one too many is the peer's, and is_bad.
 */
static uint8_t *take_memory(struct lend_local_packet *packet, uint64_t bytes, const char **why,
                            bool *is_bad)
{
    *is_bad = packet->fd_count > 1 || (packet->fd_count == 0 && packet->is_whole);
    if (packet->fd_count != 1 || !packet->is_whole) {
        *why = "this process had no room for its descriptor";
        return NULL;
    }
    *why = find_fault(packet->fds[0], bytes);
    if (*why != NULL)
        return NULL;
    uint8_t *memory = map_kept(packet->fds[0], bytes, why);

    /* It is memory, so to close it waits for nobody. */
    lend_sys->close(packet->fds[0]);
    packet->fds[0] = -1;
    return memory;
}

static enum lend_status take_words(struct lend_local_channel *channel,
                                   struct lend_local_packet *packet, uint64_t bytes,
                                   struct lend_error *error)
{
    struct lend_local_mappings *mappings = channel->mappings;
    const char *why = NULL;
    bool is_bad = false;

    if (mappings->has_words || bytes > UINT32_MAX * sizeof(uint64_t))
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent words of leases twice, or too many");
    uint8_t *memory = take_memory(packet, bytes, &why, &is_bad);
    if (is_bad)
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent words of leases with %u descriptors",
                         packet->fd_count);
    if (memory == NULL)
        lend_agent_log(channel->local->agent, LEND_LOG_DEBUG,
                       "local: the words of a peer's leases cannot be mapped: %s", why);
    mappings->has_words = true;
    mappings->words = (const _Atomic uint64_t *)(const void *)memory;
    mappings->words_bytes = memory != NULL ? bytes : 0;
    return LEND_OK;
}

static void note_told(struct lend_local_mappings *mappings, uint32_t number)
{
    if (number > mappings->told_last)
        mappings->told_last = number;
}

static enum lend_status take_file(struct lend_local_mappings *mappings,
                                  struct lend_local_packet *packet,
                                  const struct lend_local_notice *notice, struct lend_error *error)
{
    struct file *file = find_place(mappings);
    const char *why = "it is too long to be mapped beside what this peer shares already";
    uint8_t *memory = NULL;
    bool is_bad = false;

    if (file == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "the peer shares more than %d files",
                         LEND_LOCAL_FILES_MAX);
    if (find_file(mappings, notice->number) != NULL ||
        find_absent(mappings, notice->number) != NULL)
        return lend_fail(error, LEND_E_CORRUPT, "the peer told twice of file %u", notice->number);
    if (notice->bytes <= MAPPED_BYTES_MAX - mappings->mapped_bytes)
        memory = take_memory(packet, notice->bytes, &why, &is_bad);
    if (is_bad)
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent file %u with %u descriptors",
                         notice->number, packet->fd_count);

    note_told(mappings, notice->number);
    *file = (struct file){.number = notice->number, .memory = memory};
    if (memory == NULL) {
        file->state = GONE;
        file->was_refused = true;
        (void)snprintf(file->why, sizeof file->why, "%s", why);
        plan_letting_go(mappings);
        return LEND_OK;
    }
    file->state = MAPPED;
    file->bytes = notice->bytes;
    mappings->mapped_bytes += notice->bytes;
    change_stamp(mappings);
    return LEND_OK;
}

static enum lend_status take_no_file(struct lend_local_mappings *mappings,
                                     const struct lend_local_notice *notice,
                                     struct lend_error *error)
{
    struct absent *absent = &mappings->absent[mappings->absent_next++ % LEND_LOCAL_ABSENT_MAX];

    if (find_file(mappings, notice->number) != NULL ||
        find_absent(mappings, notice->number) != NULL)
        return lend_fail(error, LEND_E_CORRUPT, "the peer told twice of file %u", notice->number);
    note_told(mappings, notice->number);
    absent->number = notice->number;
    (void)snprintf(absent->why, sizeof absent->why, "%s", notice->text);
    return LEND_OK;
}

static enum lend_status take_let_go(struct lend_local_mappings *mappings, uint32_t number,
                                    struct lend_error *error)
{
    struct file *file = find_file(mappings, number);

    if (file != NULL && file->state == REFUSED) {
        file->state = FREE; /* our answer had crossed the question */
        return LEND_OK;
    }
    if (file != NULL && file->state == GONE && file->was_refused) {
        file->was_refused = false; /* it is about to be told */
        return LEND_OK;
    }
    if (file == NULL || file->state != MAPPED)
        return lend_fail(error, LEND_E_CORRUPT, "the peer wants back file %u, which we have not",
                         number);
    if (mappings->part.state == PART_HERE && mappings->part.number == number)
        drop_part(mappings);
    file->state = LEAVING;
    change_stamp(mappings); /* who keeps it looks, and does so no more */
    plan_letting_go(mappings);
    return LEND_OK;
}

/* What we asked for; one that nobody waits for any more is dropped when the next is wanted. */
static enum lend_status take_part(struct lend_local_mappings *mappings,
                                  struct lend_local_packet *packet,
                                  const struct lend_local_notice *notice, struct lend_error *error)
{
    struct part *part = &mappings->part;

    if (part->state != PART_ASKED || part->number != notice->number ||
        part->index != notice->index ||
        (notice->type == LEND_LOCAL_PART && packet->is_whole && packet->fd_count != 1))
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent a part %u of file %u unasked",
                         notice->index, notice->number);
    part->state = PART_REFUSED;
    (void)snprintf(part->why, sizeof part->why, "%s",
                   notice->type == LEND_LOCAL_PART ? "this process had no room for a descriptor"
                                                   : notice->text);
    if (notice->type == LEND_LOCAL_PART && packet->is_whole) {
        part->state = PART_HERE;
        part->fd = packet->fds[0];
        packet->fds[0] = -1;
    }
    return LEND_OK;
}

static enum lend_status take_locked(struct lend_local_channel *channel,
                                    struct lend_local_packet *packet,
                                    const struct lend_local_notice *notice,
                                    struct lend_error *error)
{
    struct lend_local_mappings *mappings = channel->mappings;
    bool is_early = !atomic_load_explicit(&channel->is_ready, memory_order_relaxed);

    switch (notice->type) {
    case LEND_LOCAL_FILE: return take_file(mappings, packet, notice, error);
    case LEND_LOCAL_NO_FILE: return take_no_file(mappings, notice, error);
    case LEND_LOCAL_LET_GO: return take_let_go(mappings, notice->number, error);
    case LEND_LOCAL_PART:
    case LEND_LOCAL_NO_PART: return take_part(mappings, packet, notice, error);
    case LEND_LOCAL_WORDS:
        if (is_early)
            return take_words(channel, packet, notice->bytes, error);
        break;
    case LEND_LOCAL_PROBE:
        if (!is_early || mappings->has_probe)
            break;
        mappings->has_probe = true;
        mappings->nonce_address = notice->nonce_address;
        memcpy(mappings->nonce, notice->nonce, sizeof mappings->nonce);
        return LEND_OK;
    case LEND_LOCAL_READY:
        if (!is_early)
            break;
        /* Release: with all that was told before; pairs with the acquire of who looks. */
        atomic_store_explicit(&channel->is_ready, true, memory_order_release);
        return LEND_OK;
    case LEND_LOCAL_LEFT:
    case LEND_LOCAL_LEFT_ALL:
    case LEND_LOCAL_WANT_PART: break;
    }
    return lend_fail(error, LEND_E_CORRUPT, "the peer sent a packet that no agent sends then");
}

enum lend_status lend_local_take_notice(struct lend_local_channel *channel,
                                        struct lend_local_packet *packet, struct lend_error *error)
{
    struct lend_local_notice notice;

    if (!lend_local_notice_decode(packet, &notice))
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent a packet that no agent sends then");
    bool brings = notice.type == LEND_LOCAL_FILE || notice.type == LEND_LOCAL_WORDS ||
                  notice.type == LEND_LOCAL_PART;
    if (!brings && (packet->fd_count > 0 || !packet->is_whole))
        return lend_fail(error, LEND_E_CORRUPT, "the peer sent descriptors that nobody expects");

    (void)pthread_mutex_lock(&channel->mappings->map_lock);
    enum lend_status status = take_locked(channel, packet, &notice, error);
    (void)pthread_mutex_unlock(&channel->mappings->map_lock);
    return status;
}

/* Letting go. Under the session's lock. */

bool lend_local_must_let_go(const struct lend_local_channel *channel)
{
    return channel->mappings != NULL &&
           /* pairs with the release of who plans it */
           atomic_load_explicit(&channel->mappings->must_let_go, memory_order_acquire);
}

/* True: the owner knows that we have not the file. */
static bool tell_left(const struct lend_local_channel *channel, uint32_t number)
{
    const struct lend_local_notice notice = {.type = LEND_LOCAL_LEFT, .number = number};
    ssize_t sent = lend_local_notice_send(channel->socket.fd, &notice, -1);

    /* An owner that is gone knows; anything else may pass. */
    return sent > 0 || sent == -EPIPE || sent == -ECONNRESET || sent == -ENOTCONN;
}

void lend_local_let_go(struct lend_local_channel *channel)
{
    struct lend_local_mappings *mappings = channel->mappings;
    bool owes = false;

    (void)pthread_mutex_lock(&mappings->map_lock);
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        struct file *file = &mappings->files[i];
        owes |= file->state == LEAVING && file->is_kept;
        if (file->state == LEAVING && !file->is_kept) {
            lend_sys->unmap(file->memory, file->bytes);
            mappings->mapped_bytes -= file->bytes;
            file->memory = NULL;
            file->state = GONE;
            change_stamp(mappings);
        }
        if (file->state != GONE)
            continue;
        if (!tell_left(channel, file->number))
            owes = true;
        else
            file->state = file->was_refused ? REFUSED : FREE;
    }
    /* Under the lock, so that nothing that the poller plans is lost. */
    atomic_store_explicit(&mappings->must_let_go, owes, memory_order_release);
    (void)pthread_mutex_unlock(&mappings->map_lock);
}

void lend_local_leave(struct lend_local_channel *channel)
{
    static const struct lend_local_notice all = {.type = LEND_LOCAL_LEFT_ALL};
    struct lend_local_mappings *mappings = channel->mappings;
    bool is_kept = false;

    if (mappings == NULL || channel->socket.fd < 0)
        return;
    (void)pthread_mutex_lock(&mappings->map_lock);
    if (mappings->part.state == PART_HERE)
        drop_part(mappings);
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        struct file *file = &mappings->files[i];

        if (file->state != MAPPED && file->state != LEAVING)
            continue;
        is_kept |= file->is_kept;
        if (file->is_kept)
            continue;
        lend_sys->unmap(file->memory, file->bytes);
        file->memory = NULL;
        file->state = FREE;
        (void)tell_left(channel, file->number); /* the end says it, too, of all but GPU memory */
    }
    (void)pthread_mutex_unlock(&mappings->map_lock);
    if (!is_kept)
        (void)lend_local_notice_send(channel->socket.fd, &all, -1);
}

/* The operations of the table */

static bool is_ready(const struct lend_local_channel *channel)
{
    /* Acquire: with what was told before it was ready. */
    return channel->mappings != NULL &&
           atomic_load_explicit(&channel->is_ready, memory_order_acquire);
}

const _Atomic uint64_t *lend_local_words(struct lend_channel *base, uint32_t *out_count,
                                         struct lend_error *why)
{
    struct lend_local_channel *channel = channel_of(base);

    if (!is_ready(channel)) {
        (void)lend_fail(why, LEND_E_NO_PATH, "the connection is still being set up");
        return NULL;
    }
    if (channel->mappings->words == NULL) {
        (void)lend_fail(why, LEND_E_NO_PATH, "the words of the peer's leases %s",
                        channel->mappings->has_words ? "cannot be mapped here" : "did not come");
        return NULL;
    }
    *out_count = (uint32_t)(channel->mappings->words_bytes / sizeof(uint64_t));
    return channel->mappings->words;
}

static const uint8_t *find_mapped(struct lend_local_mappings *mappings, uint32_t number,
                                  uint64_t *out_bytes, struct lend_error *why)
{
    const struct file *file = find_file(mappings, number);
    const struct absent *absent = find_absent(mappings, number);

    if (file != NULL && file->state == MAPPED) {
        *out_bytes = file->bytes;
        return file->memory;
    }
    if (file != NULL && file->why[0] != '\0')
        (void)lend_fail(why, LEND_E_NO_PATH, "%s", file->why);
    else if (file != NULL)
        (void)lend_fail(why, LEND_E_NO_PATH, "the peer is taking file %u back", number);
    else if (absent != NULL)
        (void)lend_fail(why, LEND_E_NO_PATH, "%s", absent->why);
    else if (number > mappings->told_last)
        (void)lend_fail(why, LEND_PENDING, "the peer shares no file %u on this connection yet",
                        number);
    else
        (void)lend_fail(why, LEND_E_NO_PATH, "the peer shares no file %u on this connection",
                        number);
    return NULL;
}

const uint8_t *lend_local_mapped(struct lend_channel *base, uint32_t file, uint64_t *out_bytes,
                                 struct lend_error *why)
{
    struct lend_local_mappings *mappings = channel_of(base)->mappings;

    if (file == 0 || !is_ready(channel_of(base))) {
        (void)lend_fail(why, LEND_E_NO_PATH,
                        file == 0 ? "it lies in no file that the peer shares"
                                  : "the connection is still being set up");
        return NULL;
    }
    (void)pthread_mutex_lock(&mappings->map_lock);
    const uint8_t *memory = find_mapped(mappings, file, out_bytes, why);
    (void)pthread_mutex_unlock(&mappings->map_lock);
    return memory;
}

bool lend_local_keep(struct lend_channel *base, uint32_t number, bool keeps)
{
    struct lend_local_mappings *mappings = channel_of(base)->mappings;

    (void)pthread_mutex_lock(&mappings->map_lock);
    struct file *file = find_file(mappings, number);
    bool is_there = file != NULL && (file->state == MAPPED || (file->state == LEAVING && !keeps));
    if (is_there)
        file->is_kept = keeps;
    (void)pthread_mutex_unlock(&mappings->map_lock);
    return is_there;
}

/* Ask for it. An owner that does not read now will later; one that is gone is seen as such. */
static void ask_part(const struct lend_local_channel *channel, uint32_t number, uint32_t index)
{
    const struct lend_local_notice notice = {
        .type = LEND_LOCAL_WANT_PART, .number = number, .index = index};

    if (lend_local_notice_send(channel->socket.fd, &notice, -1) > 0)
        channel->mappings->part =
            (struct part){.state = PART_ASKED, .number = number, .index = index};
}

static enum lend_status find_part(const struct lend_local_channel *channel, uint32_t number,
                                  uint32_t index, int *out_fd, struct lend_error *why)
{
    struct lend_local_mappings *mappings = channel->mappings;
    struct part *part = &mappings->part;
    const struct file *file = find_file(mappings, number);

    if (file == NULL || file->state != MAPPED)
        return lend_fail(why, LEND_E_NO_PATH, "the peer is taking file %u back", number);
    if (!channel->base.is_private) /* a driver is to look at it */
        return lend_fail(
            why, LEND_E_NO_PATH,
            "descriptors of GPU memory are taken from processes of our own user alone");
    if (part->state == PART_ASKED)
        return LEND_PENDING;
    if (part->state == PART_NONE || part->number != number || part->index != index) {
        drop_part(mappings);
        ask_part(channel, number, index);
        return LEND_PENDING;
    }
    bool is_here = part->state == PART_HERE;
    part->state = PART_NONE;
    if (!is_here)
        return lend_fail(why, LEND_E_NO_PATH, "%s", part->why);
    *out_fd = part->fd;
    return LEND_OK;
}

enum lend_status lend_local_part(struct lend_channel *base, uint32_t file, uint32_t index,
                                 int *out_fd, struct lend_error *why)
{
    const struct lend_local_channel *channel = channel_of(base);

    (void)pthread_mutex_lock(&channel->mappings->map_lock);
    enum lend_status status = find_part(channel, file, index, out_fd, why);
    (void)pthread_mutex_unlock(&channel->mappings->map_lock);
    return status;
}

uint64_t lend_local_mapping_stamp(struct lend_channel *base)
{
    struct lend_local_channel *channel = channel_of(base);

    if (channel->mappings == NULL)
        return 1;
    if (lend_local_must_let_go(channel))
        lend_local_let_go(channel);
    /* Acquire: pairs with the release of who changes it. */
    return atomic_load_explicit(&channel->mappings->stamp, memory_order_acquire);
}

enum lend_status lend_local_process(struct lend_channel *base, struct lend_process *out,
                                    struct lend_error *why)
{
    struct lend_local_channel *channel = channel_of(base);
    const struct lend_local_mappings *mappings = channel->mappings;
    int number = 0;

    if (!is_ready(channel))
        return lend_fail(why, LEND_E_NO_PATH, "the connection is still being set up");
    if (!mappings->has_probe)
        return lend_fail(why, LEND_E_NO_PATH, "the peer named no place to know its process by");
    if (channel->death.fd < 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "the peer gave no pidfd: its kernel has none (Linux 5.3 has), or it had "
                         "no descriptor left");
    if (!lend_local_pidfd_number(channel->death.fd, &number))
        return lend_fail(why, LEND_E_NO_PATH,
                         "the number of the peer's process cannot be read from /proc/self/fdinfo");
    if (number < 0)
        return lend_fail(why, LEND_E_NO_PATH, "the peer's process has ended");
    if (number == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "the peer's process is in another PID name space, and has no number here");
    *out = (struct lend_process){.pid = number, .nonce_address = mappings->nonce_address};
    memcpy(out->nonce, mappings->nonce, sizeof out->nonce);
    return LEND_OK;
}

bool lend_local_is_alive(struct lend_channel *base)
{
    const struct lend_local_channel *channel = channel_of(base);
    struct pollfd looks[2] = {
        {.fd = channel->socket.fd, .events = POLLRDHUP},
        {.fd = channel->death.fd, .events = POLLIN}, /* -1: passed over */
    };
    int result = -EINTR;

    /* Relaxed: it orders nothing. */
    if (atomic_load_explicit(&channel->is_over, memory_order_relaxed))
        return false;
    for (int i = 0; i < LOOKS_MAX && result == -EINTR; i++)
        result = lend_sys->poll(looks, 2, 0);
    return result >= 0 && (looks[0].revents & (POLLHUP | POLLRDHUP | POLLERR)) == 0 &&
           looks[1].revents == 0;
}

static void touch(const uint8_t *memory, uint64_t from, uint64_t to, size_t page_bytes)
{
    for (uint64_t at = from; at < to; at += page_bytes)
        (void)*(const volatile uint8_t *)(memory + at);
}

bool lend_local_prefault(struct lend_channel *base, uint64_t bytes)
{
    struct lend_local_mappings *mappings = channel_of(base)->mappings;
    size_t page_bytes = lend_sys->page_bytes();
    bool is_more = false;

    if (mappings == NULL)
        return false;
    if (bytes < page_bytes)
        bytes = page_bytes;
    (void)pthread_mutex_lock(&mappings->map_lock);
    for (size_t i = 0; i < LEND_LOCAL_FILES_MAX; i++) {
        struct file *file = &mappings->files[i];
        if (file->state != MAPPED)
            continue;
        uint64_t left = file->bytes - file->touched_bytes;
        /* Whole pages, so that each is touched once. */
        uint64_t chunk = left <= bytes ? left : bytes - bytes % page_bytes;

        touch(file->memory, file->touched_bytes, file->touched_bytes + chunk, page_bytes);
        file->touched_bytes += chunk;
        bytes -= chunk;
        is_more |= file->touched_bytes < file->bytes;
    }
    (void)pthread_mutex_unlock(&mappings->map_lock);
    return is_more;
}
