/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAULT_SWEEP_H
#define LEND_TESTS_FAULT_SWEEP_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "double.h"

/*
 * The fault sweep: a scenario is played with call 0 of the system failing, then call 1, and so on
 * until none is left to fail; each distinct place once where a scenario makes very many calls. Two
 * agents under manual progress on one thread, and a clock that stands still unless it is looked at
 * or waited for.
 */

enum { BLOCKS = 16, BLOCK_BYTES = 8192, LENT_BYTES = BLOCKS * BLOCK_BYTES };

/* A run of a scenario. Everything is NULL until the scenario makes it, and what it leaves is
 * given back after it. */
struct world {
    const char *transports;
    bool has_secret; /* agents that are made share one */
    bool has_own;    /* or the owner alone has one, which the reader gives at the import */
    struct lend_agent *owner;
    struct lend_agent *reader;
    struct lend_region *lent; /* the owner's: BLOCKS blocks, read and write, named "lent" */
    struct lend_region *kept; /* the reader's, alike */
    struct lend_peer *peer;   /* the owner, as the reader knows it */
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    int retained; /* owner tokens */
    int released;
    int failures; /* calls that did not succeed at once */
};

typedef void scenario(struct world *world);

/* Play it over every transport, with every fault. */
void sweep(scenario *play);

/* Memory of the two regions, the same in every run; filled anew before each. */
extern uint8_t lent_memory[LENT_BYTES];
extern uint8_t kept_memory[LENT_BYTES];
void fill(uint8_t *memory, uint8_t seed);
/* Do count blocks of `memory` from `block` on hold what fill() put there for blocks from `as` on?
 */
bool is_filled(const uint8_t *memory, uint64_t block, uint64_t count, uint8_t seed, uint64_t as);

/* Progress of both agents, and a millisecond of the clock. */
void pump(struct world *world);

/* Ready-made steps, each with its faults looked at. */
void make_agent(struct world *world, bool is_owner);
void make_agents(struct world *world);
void register_regions(struct world *world); /* lent and kept */
void import_peer(struct world *world);
/* A bearer lease on blocks 0 .. 7 of lent; consumers 0: not counted. */
void grant_lease(struct world *world, uint32_t access, uint32_t consumers);
void import_ticket(struct world *world);
struct lend_region_desc describe_region(struct world *world, uint8_t *memory, const char *name);

/* The status must be one of the list, which ends with 0: else the test fails, with the call. */
void check_listed(struct world *world, enum lend_status got, const int *listed, const char *call);
void check_succeeds(enum lend_status got, const char *call);

/*
 * Make a call. Where the fault strikes it, its status must be one of those that are listed, as its
 * header lists them, and the call must succeed when it is made again.
 */
#define RETRY(call, ...)                                                                           \
    do {                                                                                           \
        enum lend_status retry_got_ = (call);                                                      \
        if (retry_got_ != LEND_OK) {                                                               \
            check_listed(world, retry_got_, (const int[]){__VA_ARGS__, 0}, #call);                 \
            check_succeeds((call), #call);                                                         \
        }                                                                                          \
    } while (0)

/* A call that no fault can touch. */
#define SURE(call) check_succeeds((call), #call)

#endif
