/* SPDX-License-Identifier: Apache-2.0 */
#include "core/statistics.h"

#include "base/directory.h"
#include "base/error.h"
#include "base/sys.h"
#include "core/lease.h"
#include "core/transfer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct lend_statistics_path) == 64, "watchers know it so");
_Static_assert(sizeof(struct lend_statistics_lease) == 256, "watchers know it so");
_Static_assert(sizeof(struct lend_statistics_peer) == 120, "watchers know it so");
_Static_assert(LEND_STATISTICS_LEASES % 64 == 0 && LEND_STATISTICS_PEERS % 64 == 0, "whole words");

/* Rows are written word by word, whatever they are made of. */
typedef uint64_t __attribute__((may_alias)) word;

/* --- the file --- */

static enum lend_status make_page(struct lend_agent *agent, struct lend_error *error)
{
    struct lend_statistics_writer *writer = &agent->statistics;
    char made[LEND_DIRECTORY_DEFAULT_BYTES];
    char stem[LEND_FILE_STEM_BYTES];
    const char *directory;

    enum lend_status status =
        lend_directory_choose(agent->config.local_directory, made, &directory, error);
    if (status != LEND_OK)
        return status;
    lend_file_stem(agent->name, agent->incarnation, stem);

    size_t bytes = strlen(directory) + sizeof stem + sizeof "/.stats";
    writer->path = lend_sys->allocate(bytes);
    if (writer->path == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the path of a file");
    (void)snprintf(writer->path, bytes, "%s/%s.stats", directory, stem);

    writer->fd = lend_sys->make_file(writer->path, sizeof *writer->page);
    if (writer->fd < 0)
        return lend_fail_errno(error, -writer->fd, "%.180s", writer->path);
    writer->page = lend_sys->map_file(writer->fd, 0, sizeof *writer->page, true, false);
    if (writer->page == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to map %.180s", writer->path);
    return LEND_OK;
}

/* Say whose page it is; the magic last, for watchers that are early. */
static void introduce(struct lend_agent *agent)
{
    struct lend_statistics *page = agent->statistics.page;
    struct ucred self;

    lend_sys->self(&self);
    page->version = LEND_STATISTICS_VERSION;
    page->bytes = sizeof *page;
    page->pid = (uint64_t)self.pid;
    page->started_ns = lend_sys->now_ns();
    memcpy(page->incarnation, agent->incarnation, sizeof page->incarnation);
    memcpy(page->name, agent->name, sizeof page->name);
    (void)snprintf(page->library_version, sizeof page->library_version, "%s", lend_version());
    __atomic_store_n(&page->magic, LEND_STATISTICS_MAGIC, __ATOMIC_RELEASE);
}

void lend_statistics_open(struct lend_agent *agent)
{
    struct lend_error why;

    if ((agent->config.flags & LEND_AGENT_NO_STATISTICS) != 0)
        return;
    if (make_page(agent, &why) == LEND_OK) {
        introduce(agent);
        return;
    }
    lend_agent_log(agent, LEND_LOG_INFO, "no statistics page: %s", why.message);
    lend_statistics_fini(agent, false);
}

void lend_statistics_fini(struct lend_agent *agent, bool forked)
{
    struct lend_statistics_writer *writer = &agent->statistics;

    lend_sys->unmap(writer->page, sizeof *writer->page);
    writer->page = NULL;
    if (writer->fd >= 0) {
        if (!forked)
            lend_sys->unlink(writer->path);
        lend_sys->close(writer->fd); /* the parent's lock stays: its descriptor is still open */
    }
    writer->fd = -1;
    lend_sys->release(writer->path);
    writer->path = NULL;
}

/* --- rows --- */

/* The first row that is not taken, and take it; `count` if there is none. */
static uint32_t take_row(uint64_t *taken, uint32_t count)
{
    for (uint32_t i = 0; i < count / 64; i++) {
        if (~taken[i] == 0)
            continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(~taken[i]);
        taken[i] |= UINT64_C(1) << bit;
        return i * 64 + bit;
    }
    return count;
}

static void give_row(uint64_t *taken, uint32_t at)
{
    taken[at / 64] &= ~(UINT64_C(1) << at % 64);
}

/* Odd while the row is written. Release: whoever sees a word that we store sees the row odd. */
static void begin_row(uint64_t *sequence)
{
    lend_statistics_bump(sequence, 1);
    atomic_thread_fence(memory_order_release);
}

/* Release: whoever sees it even sees the row as it is now. */
static void end_row(uint64_t *sequence)
{
    __atomic_store_n(sequence, __atomic_load_n(sequence, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}

static void store_words(void *to, const void *from, size_t bytes)
{
    word *into = to;
    const word *source = from;

    for (size_t i = 0; i < bytes / sizeof *into; i++)
        __atomic_store_n(&into[i], source[i], __ATOMIC_RELAXED);
}

/* Write a row whole: it begins with its sequence, of which `from` knows nothing. */
static void fill_row(void *row, const void *from, size_t bytes)
{
    uint64_t *sequence = row;

    begin_row(sequence);
    store_words(sequence + 1, (const uint64_t *)from + 1, bytes - sizeof *sequence);
    end_row(sequence);
}

/* --- leases --- */

void lend_statistics_begin_lease(struct lend_lease *lease)
{
    struct lend_agent *agent = lease->agent;
    struct lend_statistics_writer *writer = &agent->statistics;
    struct lend_statistics_lease row = {
        .id = lease->info.id,
        .granted_ns = lease->info.granted_ns,
        .expires_ns = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed),
        .block_count = lease->info.block_count,
        .region_count = lease->part_count,
        .access = lease->access,
    };

    if (writer->page == NULL)
        return;
    LEND_STATISTICS_ADD_LOCKED(agent, leases, 1);
    LEND_STATISTICS_ADD_LOCKED(agent, leases_granted, 1);
    uint32_t at = take_row(writer->leases, LEND_STATISTICS_LEASES);
    if (at == LEND_STATISTICS_LEASES) {
        LEND_STATISTICS_ADD_LOCKED(agent, leases_omitted, 1);
        return;
    }
    (void)snprintf(row.region, sizeof row.region, "%s",
                   lease->is_standing ? "*" : lease->parts[0].region->name);
    memcpy(row.peer, lease->info.peer, sizeof row.peer);
    lease->row = &writer->page->lease_rows[at];
    fill_row(lease->row, &row, sizeof row);
}

void lend_statistics_use_lease(struct lend_lease *lease, const char *user)
{
    struct lend_statistics_lease *row = lease->row;
    char name[sizeof row->last_user] = {0};

    if (row == NULL)
        return;
    lend_statistics_set(&row->requests, lease->info.requests);
    if (strncmp(lease->info.last_user, user, sizeof lease->info.last_user) == 0)
        return;
    (void)snprintf(name, sizeof name, "%s", user);
    begin_row(&row->sequence);
    store_words(row->last_user, name, sizeof name);
    end_row(&row->sequence);
}

static void count_end(struct lend_agent *agent, int32_t cause)
{
    switch (cause) {
    case LEND_E_REVOKED: LEND_STATISTICS_ADD_LOCKED(agent, leases_revoked, 1); break;
    case LEND_E_EXPIRED: LEND_STATISTICS_ADD_LOCKED(agent, leases_expired, 1); break;
    case LEND_E_CONSUMED: LEND_STATISTICS_ADD_LOCKED(agent, leases_consumed, 1); break;
    case LEND_E_PEER_DEAD: LEND_STATISTICS_ADD_LOCKED(agent, leases_peer_dead, 1); break;
    default: break;
    }
}

void lend_statistics_end_lease(struct lend_lease *lease)
{
    struct lend_agent *agent = lease->agent;
    struct lend_statistics_writer *writer = &agent->statistics;
    struct lend_statistics_lease *row = lease->row;

    if (writer->page == NULL)
        return;
    LEND_STATISTICS_ADD_LOCKED(agent, leases, -1);
    count_end(agent, lease->info.status);
    if (row == NULL) {
        LEND_STATISTICS_ADD_LOCKED(agent, leases_omitted, -1);
        return;
    }
    lease->row = NULL;
    begin_row(&row->sequence);
    lend_statistics_set(&row->id, 0);
    end_row(&row->sequence);
    give_row(writer->leases, (uint32_t)(row - writer->page->lease_rows));
}

/* --- peers --- */

static struct lend_statistics_peer *begin_peer_locked(struct lend_agent *agent, const char *name)
{
    struct lend_statistics_writer *writer = &agent->statistics;
    struct lend_statistics_peer row = {.connected_ns = lend_sys->now_ns()};

    LEND_STATISTICS_ADD_LOCKED(agent, peers_served, 1);
    uint32_t at = take_row(writer->peers, LEND_STATISTICS_PEERS);
    if (at == LEND_STATISTICS_PEERS) {
        LEND_STATISTICS_ADD_LOCKED(agent, peers_omitted, 1);
        return NULL;
    }
    row.id = ++writer->peer_last_id;
    (void)snprintf(row.name, sizeof row.name, "%s", name);
    fill_row(&writer->page->peer_rows[at], &row, sizeof row);
    return &writer->page->peer_rows[at];
}

struct lend_statistics_peer *lend_statistics_begin_peer(struct lend_agent *agent, const char *name)
{
    struct lend_statistics_peer *row = NULL;

    if (agent->statistics.page == NULL)
        return NULL;
    (void)pthread_mutex_lock(&agent->lock);
    row = begin_peer_locked(agent, name);
    (void)pthread_mutex_unlock(&agent->lock);
    return row;
}

void lend_statistics_end_peer(struct lend_agent *agent, struct lend_statistics_peer *row)
{
    struct lend_statistics_writer *writer = &agent->statistics;

    if (writer->page == NULL)
        return;
    (void)pthread_mutex_lock(&agent->lock);
    LEND_STATISTICS_ADD_LOCKED(agent, peers_served, -1);
    if (row == NULL) {
        LEND_STATISTICS_ADD_LOCKED(agent, peers_omitted, -1);
    } else {
        begin_row(&row->sequence);
        lend_statistics_set(&row->id, 0);
        end_row(&row->sequence);
        give_row(writer->peers, (uint32_t)(row - writer->page->peer_rows));
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

void lend_statistics_count_served(struct lend_agent *agent, struct lend_statistics_peer *row,
                                  bool is_read, uint64_t bytes)
{
    if (is_read)
        LEND_STATISTICS_ADD(agent, bytes_served_read, bytes);
    else
        LEND_STATISTICS_ADD(agent, bytes_served_written, bytes);
    if (row != NULL)
        lend_statistics_bump(is_read ? &row->bytes_read : &row->bytes_written, bytes);
}

/* --- paths --- */

/* The row of that path, made on its first use; NULL: all are other paths'. */
static struct lend_statistics_path *find_path(struct lend_statistics_writer *writer,
                                              const char *path)
{
    for (size_t i = 0; i < LEND_STATISTICS_PATHS; i++) {
        struct lend_statistics_path *row = &writer->page->paths[i];
        const char *found = atomic_load_explicit(&writer->paths[i], memory_order_relaxed);
        char name[sizeof row->name] = {0};

        /* Relaxed: names are constants, and the row is for watchers alone. */
        if (found == NULL &&
            atomic_compare_exchange_strong_explicit(&writer->paths[i], &found, path,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            (void)snprintf(name, sizeof name, "%s", path);
            /* Its beginning last: a name that has begun is there. */
            store_words(row->name + sizeof(word), name + sizeof(word), sizeof name - sizeof(word));
            atomic_thread_fence(memory_order_release);
            store_words(row->name, name, sizeof(word));
            return row;
        }
        if (found == path || strcmp(found, path) == 0)
            return row;
    }
    return NULL;
}

void lend_statistics_count_transfer(const struct lend_transfer *transfer)
{
    struct lend_statistics_writer *writer = &transfer->agent->statistics;
    struct lend_statistics_path *row =
        writer->page != NULL ? find_path(writer, transfer->path) : NULL;

    if (row == NULL)
        return;
    lend_statistics_add(transfer->status == LEND_OK ? &row->transfers : &row->transfers_failed, 1);
    lend_statistics_add(transfer->direction == LEND_READ ? &row->bytes_read : &row->bytes_written,
                        transfer->record_bytes);
}
