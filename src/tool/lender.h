/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_LENDER_H
#define LEND_TOOL_LENDER_H

#include "tool/cache.h"
#include "tool/endpoint.h"

#include <lend/lease.h>

/* The owner's half: a KV cache, the agent that lends it, and at most one lease on it at a time. */
struct lender {
    struct lend_agent *agent;
    struct cache cache;
    struct lend_region *regions[MODEL_REGIONS_MAX];
    uint32_t region_count;    /* that are registered */
    uint32_t generation;      /* of the pattern in the cache */
    struct lend_peer *reader; /* NULL, or whom leases can be granted to by name */
    struct lend_lease *lease;
};

/* Allocate a cache of the endpoint's model and kind of memory, fill it, and register all its
 * regions in one call, which takes out_register_ns. */
enum lend_status lender_lend(struct lender *lender, const struct endpoint *endpoint,
                             uint32_t block_count, uint64_t *out_register_ns,
                             struct lend_error *error);

/* What to grant. */
struct offer {
    uint32_t access;
    uint32_t consumer_count;
    struct blocks blocks; /* a list; or with NULL numbers the first count blocks, 0 for all */
    uint64_t time_to_live_ns;
    bool is_named; /* to the reader alone */
};

/* Grant it, waiting a little for a slot that rests. The lease before is given back, not ended. */
enum lend_status lender_grant(struct lender *lender, const struct offer *offer,
                              struct lend_error *error);

enum lend_status lender_revoke(struct lender *lender, struct lend_error *error);

/* Take everything back: withdraw by force and deregister the regions, poison the memory, free it.
 * What was taken back stays so when it ends before the end, such as LEND_E_BUSY for a reader that
 * maps the memory and does not let go; call it again. */
enum lend_status lender_reclaim(struct lender *lender, uint64_t timeout_ns,
                                struct lend_error *error);

/* End the agent and free all. */
void lender_close(struct lender *lender);

#endif
