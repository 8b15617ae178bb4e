/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SERVED_REQUEST_H
#define LEND_CORE_SERVED_REQUEST_H

#include "core/cursor.h"
#include "core/lease.h"
#include "core/sums.h"
#include "wire/message.h"

/*
 * One request, as the owner sees it: what is asked for, and whether the lease allows it. When and
 * how its bytes move is up to the server.
 *
 *     FREE --asked--> RUNS --the last run, and all is well--> MOVE --end--> ENDED --told--> FREE
 *                       `--------------- refused, canceled: end ------------^
 *
 * Where the transport still reads our memory when a MOVE ends, it is SETTLING in between.
 *
 * What a lease refuses is told in the verdict of the request, and leaves the session as it is. All
 * of it under the session's lock, and not under the agent's.
 */

enum lend_served_phase {
    LEND_SERVED_FREE = 0,
    LEND_SERVED_RUNS,     /* its runs are still coming */
    LEND_SERVED_MOVE,     /* its bytes move */
    LEND_SERVED_SETTLING, /* how it ends is known, and its memory is not quiet yet */
    LEND_SERVED_ENDED,    /* DONE is to be sent */
};

struct lend_served_request {
    enum lend_served_phase phase;
    uint64_t id;
    struct lend_request asked;
    struct lend_lease *lease;      /* held; NULL if there was none */
    uint64_t *region_ids;          /* owned; NULL with ranges */
    struct lend_region **standing; /* owned; under a standing lease: an extent's region each, */
    uint64_t standing_count;       /* and how many of them it counts in */
    uint64_t forced_seen;          /* lend_agent::forced_count as it was last looked at */
    struct lend_extent *extents;   /* owned; with ranges: one each */
    struct lend_run *runs;         /* owned; with ranges: the one that all extents share */
    uint64_t runs_taken;
    uint64_t planned_bytes; /* of the ranges so far */
    struct lend_cursor cursor;
    const struct lend_lane *lane; /* of memory of a GPU that has a part in it; NULL: none has, */
    uint64_t staged_bytes;        /* else so many bytes were given to the stage */
    uint64_t sent_bytes;          /* of a READ: given to the transport, */
    uint64_t moved_bytes;         /* and while the lease was live */
    bool is_moving;               /* the transport has some of it still, until this is settled: */
    uint64_t quiet_at;            /* lend_channel::begun after the last of it */
    enum lend_status ending;      /* while it is SETTLING */
    uint64_t settle_by_ns;
    struct lend_sums
        sums; /* if they are wanted: to be made, and then to be sent in place of bytes */
    struct lend_error verdict;
};

/*
 * Hold the lease of a request whose runs are to come, and look up its regions, of which there are
 * asked.region_count ids, copied. A failure is in the verdict, and the request is to be ended: what
 * lend_lease_get() says, LEND_E_NO_MEMORY, LEND_E_OUT_OF_RANGE.
 */
enum lend_status lend_served_open(struct lend_served_request *request, struct lend_agent *agent,
                                  const struct lend_lease_user *user, const uint64_t *region_ids);

/*
 * Runs have come, for a request in LEND_SERVED_RUNS. With the last of them it is checked against
 * the lease and planned, and goes on to LEND_SERVED_MOVE. If it is refused, the verdict says so,
 * and it is to be ended. LEND_E_CORRUPT: it breaks the session.
 */
enum lend_status lend_served_take_runs(struct lend_served_request *request, const uint8_t *payload,
                                       size_t bytes, struct lend_error *error);

/* Make checksums for a while; once all are there the request is a READ of them. The lease is
 * pinned. */
void lend_served_sum(struct lend_served_request *request);
/* Are there checksums still to be made? */
bool lend_served_is_summing(const struct lend_served_request *request);

/* Is a region withdrawn by force that it uses under a standing lease? LEND_E_REVOKED. Cheap where
 * there was no such withdrawal since it was asked last. */
enum lend_status lend_served_check_standing(struct lend_served_request *request);

/* It has ended with that status: let go of what it holds. The verdict stays, unless all is well. */
void lend_served_end(struct lend_served_request *request, enum lend_status status);
/* Has it ended, told or not? Then what still comes for it is dropped. */
static inline bool lend_served_is_over(const struct lend_served_request *request)
{
    return request->phase >= LEND_SERVED_SETTLING;
}

/* Let go of all but its lease, which is held for ever: its memory is not to be had back. */
void lend_served_abandon(struct lend_served_request *request);
/* Let go of what it holds, if anything, and be free. Nobody is told. */
void lend_served_drop(struct lend_served_request *request);

#endif
