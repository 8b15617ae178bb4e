/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_REGION_H
#define LEND_CORE_REGION_H

#include "core/agent.h"

/* What was verified and made known to transports: once for all the regions that lie in one range.
 */
struct lend_registration {
    uint64_t address;
    uint64_t length_bytes;
    uint64_t buffer_id; /* the driver's, for device memory */
    uint32_t references;
};

struct lend_region {
    struct lend_pool_object object;
    struct lend_agent *agent;
    uint64_t id;
    struct lend_memory memory;
    struct lend_geometry geometry; /* complete */
    uint32_t access;
    uint32_t flags;
    uint32_t life; /* how many times it was resumed; changed under the agent's lock */
    char name[LEND_REGION_NAME_BYTES_MAX + 1];
    struct lend_region *next_by_name;
    char *tags; /* owned; NULL: none */
    struct lend_owner owner;
    struct lend_registration *registration;
    bool is_shared;
    _Atomic bool is_withdrawn; /* set under the agent's lock; posting looks without it */
    struct lend_list parts;    /* of leases that live, or whose requests have not all ended */
};

/* The region with that id, or NULL. Under the agent's lock. */
struct lend_region *lend_region_find_locked(struct lend_agent *agent, uint64_t id);

/* A caller's handle: live, of this agent. `at` is its position in the caller's list. Under no lock.
 */
enum lend_status lend_region_check(const struct lend_agent *agent, const struct lend_region *region,
                                   uint64_t at, struct lend_error *error);

/* One extent of a cursor: a region's blocks, cut to a slice. The slice may be all zero. */
struct lend_extent lend_extent_of(uint64_t address, const struct lend_geometry *geometry,
                                  uint64_t slice_offset, uint64_t slice_bytes);

/* Give everything back at the agent's end: registrations, and owner tokens if they are to be told.
 */
void lend_regions_fini(struct lend_agent *agent, bool tell_owners);

#endif
