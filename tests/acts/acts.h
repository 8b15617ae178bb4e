/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ACTS_ACTS_H
#define LEND_TESTS_ACTS_ACTS_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <cmocka.h>

#include <lend/lend.h>

/*
 * What the tests with several processes share: memory that all of them see, turns that they wait
 * for, chance that can be replayed, words that tell where they belong, and a count of what leaks.
 *
 * The environment: LEND_SCALE=n divides the counts by n, LEND_TIMES=n multiplies them, LEND_SEED=n
 * replays the history of that seed, LEND_DIRECTORY=path keeps the sockets there.
 */

#define ACTS_MS          UINT64_C(1000000)
#define ACTS_SECOND      UINT64_C(1000000000)
#define ACTS_PATIENCE_NS (20 * ACTS_SECOND)

/* A count of iterations, scaled; at least 20. */
uint32_t acts_count(uint32_t count);
uint64_t acts_now_ns(void);
/* A delay at whose end one wants to be on time. */
void acts_delay(uint64_t duration_ns);

/* Chance. The seed is printed, so that what fails can be replayed. */
struct acts_chance {
    uint64_t state;
};
struct acts_chance acts_chance_begin(const char *test);
uint64_t acts_chance_below(struct acts_chance *chance, uint64_t limit);

/* Memory that every process sees which is forked after; zeroed. */
void *acts_shared(size_t bytes);
void acts_unshare(void *memory, size_t bytes);

/* A number that only grows, and that processes wait for. */
struct acts_turn {
    atomic_uint reached;
};
void acts_turn_to(struct acts_turn *turn, uint32_t value);
/* False: that did not come within ACTS_PATIENCE_NS. */
bool acts_turn_await(struct acts_turn *turn, uint32_t value);
/* As long as it takes, for processes that die with their parent. */
void acts_turn_sleep(struct acts_turn *turn, uint32_t value);

/* A folder for sockets. What agents that ended well have left in it is a finding. */
struct acts_directory {
    char path[64];
};
struct acts_directory acts_directory_make(void);
/* Remove the sockets and statistics pages of those that were killed. */
void acts_directory_empty(const struct acts_directory *directory);
/* False: something was left in it. */
bool acts_directory_remove(const struct acts_directory *directory);

/* A process that dies with its parent, and returns body's value as its exit status. */
pid_t acts_spawn(int (*body)(void *context), void *context);
/* Its exit status; -1 if it did not end well. */
int acts_reap(pid_t child);

/* In processes where no cmocka test runs: say what is wrong, and return false. */
bool acts_ok(enum lend_status status, const struct lend_error *error, const char *what);

struct lend_agent_config acts_config(const char *name, const struct acts_directory *directory);
/* Is there a UCX? If not, that is printed as the reason of a skip. */
bool acts_has_ucx(void);
/* One with the transport of that path; tcp listens at that address, NULL: of loopback. */
struct lend_agent_config acts_config_for(const char *name, const struct acts_directory *directory,
                                         const char *path, const char *address);
/* On that path the reader copies by itself. */
bool acts_path_copies(const char *path);
/* The kernel moves the blocks, and answers with an error what is a fault of ours elsewhere. */
bool acts_path_is_by_kernel(const char *path);
/* The path of the same transport on which the owner copies. */
const char *acts_path_served(const char *path);

/* What travels between the processes outside lend. */
struct acts_blob {
    size_t count;
    uint8_t bytes[16384];
};

/* A region of blocks that touch. */
struct acts_region {
    uint8_t *memory;
    uint64_t block_bytes;
    uint64_t count;
    struct lend_storage *storage; /* that the memory is, to be shared for mapping; or NULL */
    struct lend_region *region;
    uint64_t id; /* to peers */
};
/* Memory for a region that peers may read by that path: storage of lend's for "local/mapped". */
bool acts_furnish(struct acts_region *region, const char *path);
/* Unmap it, when no agent has it any more. */
void acts_unfurnish(struct acts_region *region);
bool acts_register(struct lend_agent *agent, struct acts_region *region, uint32_t access);
/* A bearer lease of all its blocks, and the ticket. */
bool acts_grant(struct lend_agent *agent, struct acts_region *region, uint32_t access,
                struct lend_lease **out, struct acts_blob *out_ticket);
bool acts_metadata(struct lend_agent *agent, struct acts_blob *out);
bool acts_import(struct lend_agent *agent, const struct acts_blob *blob, struct lend_peer **out);

/* Words that tell their block and their generation. */
void acts_fill(void *block, uint64_t bytes, uint64_t generation, uint64_t number);
bool acts_is(const void *block, uint64_t bytes, uint64_t generation, uint64_t number);
bool acts_is_byte(const void *memory, uint64_t bytes, uint8_t value);

/* What a process holds. */
struct acts_holdings {
    uint32_t descriptors;
    uint32_t threads;
    uint32_t maps;
    uint64_t heap_bytes;
};
struct acts_holdings acts_holdings_now(void);
/* Wait until no more than before is held (threads and closes take their time); print what is. */
bool acts_holdings_came_back(const struct acts_holdings *before, uint64_t heap_slack_bytes);

/* A pseudo-random choice of count different numbers below limit. */
void acts_choose(struct acts_chance *chance, int32_t *out, uint32_t count, uint32_t limit);

/* A moment in the life of a transfer, found by trying: late ones shorten it, early ones lengthen
 * it. */
struct acts_window {
    uint64_t span_ns;
};
uint64_t acts_window_pick(struct acts_window *window, struct acts_chance *chance);
void acts_window_learn(struct acts_window *window, bool was_late);

#endif
