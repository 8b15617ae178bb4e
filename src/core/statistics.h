/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_STATISTICS_H
#define LEND_CORE_STATISTICS_H

#include <lend/statistics.h>

#include <stdbool.h>

/*
 * The agent's side of its statistics page. Telling costs a few stores to shared memory, no lock and
 * no system call; an agent without a page tells nothing. In a forked child the page is the
 * parent's, and nothing here is called but lend_statistics_fini().
 */

struct lend_lease;
struct lend_transfer;

struct lend_statistics_writer {
    struct lend_statistics *page;                 /* NULL: none */
    int fd;                                       /* of the file, for its lock */
    char *path;                                   /* owned */
    uint64_t leases[LEND_STATISTICS_LEASES / 64]; /* a bit for each row that is taken; agent's */
    uint64_t peers[LEND_STATISTICS_PEERS / 64];   /* lock */
    uint64_t peer_last_id;                        /* agent's lock */
    const char *_Atomic paths[LEND_STATISTICS_PATHS]; /* whose rows they are */
};

/* Make the page; why there is none is told in the log. */
void lend_statistics_open(struct lend_agent *agent);
/* Let go of it; the file is removed, unless this is a forked child. */
void lend_statistics_fini(struct lend_agent *agent, bool forked);

/* Relaxed, all: a number orders nothing, and a watcher sees each by itself. */
static inline void lend_statistics_set(uint64_t *number, uint64_t value)
{
    __atomic_store_n(number, value, __ATOMIC_RELAXED);
}
/* One writer at a time. */
static inline void lend_statistics_bump(uint64_t *number, uint64_t more)
{
    lend_statistics_set(number, __atomic_load_n(number, __ATOMIC_RELAXED) + more);
}
static inline void lend_statistics_add(uint64_t *number, uint64_t more)
{
    (void)__atomic_fetch_add(number, more, __ATOMIC_RELAXED);
}

/* Add to a number of the agent's page, from any thread; or, where only holders of the agent's lock
 * do, under that. */
#define LEND_STATISTICS_ADD(agent, field, more)                                                    \
    do {                                                                                           \
        if ((agent)->statistics.page != NULL)                                                      \
            lend_statistics_add(&(agent)->statistics.page->field, (uint64_t)(more));               \
    } while (0)
#define LEND_STATISTICS_ADD_LOCKED(agent, field, more)                                             \
    do {                                                                                           \
        if ((agent)->statistics.page != NULL)                                                      \
            lend_statistics_bump(&(agent)->statistics.page->field, (uint64_t)(more));              \
    } while (0)

/* A lease lives, is asked for by that user, has ended (for the cause in its info). Under the
 * agent's lock. */
void lend_statistics_begin_lease(struct lend_lease *lease);
void lend_statistics_use_lease(struct lend_lease *lease, const char *user);
void lend_statistics_end_lease(struct lend_lease *lease);

/* A peer whom we serve, from its greeting on: its row, NULL if there is none for it. Under no lock
 * of an agent. */
struct lend_statistics_peer *lend_statistics_begin_peer(struct lend_agent *agent, const char *name);
void lend_statistics_end_peer(struct lend_agent *agent, struct lend_statistics_peer *row);
/* Bytes were moved for it. */
void lend_statistics_count_served(struct lend_agent *agent, struct lend_statistics_peer *row,
                                  bool is_read, uint64_t bytes);

/* A transfer of ours is complete, and its record is there. */
void lend_statistics_count_transfer(const struct lend_transfer *transfer);

#endif
