/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_REGION_H
#define LEND_CORE_REGION_H

#include "core/agent.h"
#include "memory/verify.h"

/* What was verified and made known to transports: once for all the regions that lie in one range.
 */
struct lend_registration {
    struct lend_pool_object object;
    uint64_t address;
    uint64_t length_bytes;
    uint64_t buffer_id;                /* the driver's, for device memory: of its beginning, */
    struct lend_device_memory *device; /* and all that is known of it; owned; NULL: the host's */
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
    char name[LEND_REGION_NAME_BYTES_MAX + 1];
    uint32_t name_hash; /* lend_region_name_hash() */
    struct lend_region *next_by_name;
    char *tags; /* owned; NULL: none */
    struct lend_owner owner;
    struct lend_registration *registration; /* NULL while it is suspended, and quiet */
    bool is_shared;
    struct lend_file *file;     /* that peers may map; NULL: none; agent's lock */
    uint64_t file_offset_bytes; /* of the memory's first byte in that file */
    bool is_file_closed;        /* on its account the file is not shared; agent's lock */
    bool is_punched;            /* its pages were taken from who did not let go; agent's lock */
    bool is_exposed;            /* to foreign peers, or was; agent's lock */
    bool is_on_rail;            /* exposed to the NICs of peers, or was; agent's lock */
    bool is_railing;            /* a thread is about to expose it to them; agent's lock */
    bool is_suspended;          /* and not withdrawn for good; agent's lock */
    bool is_quiet;              /* a suspension has come to its end; agent's lock */
    uint32_t life;              /* how many times it was resumed; agent's lock */
    _Atomic bool is_withdrawn;  /* changed under the agent's lock; posting looks without it, */
    _Atomic bool is_freed;      /* as at this: its memory was found to be, while it was lent */
    uint32_t standing_uses;     /* by requests under standing leases; agent's lock */
    _Atomic bool is_forced;     /* those requests are to end; set under the agent's lock */
    struct lend_list parts;     /* of leases that live, or whose requests have not all ended */
};

/*
 * The lives of a region (withdraw.c):
 *
 *     lent --suspend--> suspended --nobody holds it--> quiet --resume--> lent, as a newer life
 *       \                   \                           \
 *        `------------------`--------- withdraw ---------`--> withdrawn for good
 *
 * Suspended and withdrawn regions are both is_withdrawn to whoever asks whether anything new may
 * begin. A quiet region is in no index of ranges and has no registration: its addresses may serve
 * others.
 */

/* A caller's handle: live, of this agent. `at` is its position in the caller's list. Under no lock.
 */
enum lend_status lend_region_check(const struct lend_agent *agent, const struct lend_region *region,
                                   uint64_t at, struct lend_error *error);

/* The numbers of a description of memory. LEND_E_INVALID. */
enum lend_status lend_region_check_memory(const struct lend_memory *memory,
                                          struct lend_error *error);
/* Does an open transport move memory of that kind? LEND_E_UNSUPPORTED. */
enum lend_status lend_region_check_moves(const struct lend_agent *agent, uint32_t kind,
                                         struct lend_error *error);

/* Put the region among the others at that memory, which was verified, with a registration of its
 * own, which takes item->device, or another's; and take it out again. On failure it stays where it
 * was: nowhere. LEND_E_OVERLAP, LEND_E_NO_MEMORY. */
enum lend_status lend_region_seat_locked(struct lend_region *region, struct lend_verify *item,
                                         struct lend_error *error);
void lend_region_unseat_locked(struct lend_region *region);

/* Memory that was verified: does an open transport move it; and if it is a GPU's, how? Else the
 * item's status and error say why not. */
void lend_region_check_item(struct lend_agent *agent, struct lend_verify *item);

/* What is known of its memory if that is a GPU's, else NULL. */
static inline const struct lend_device_memory *lend_region_device(const struct lend_region *region)
{
    return region->registration != NULL ? region->registration->device : NULL;
}

/* Take it out of every table, and free it. Under the agent's lock. */
void lend_region_remove_locked(struct lend_region *region);

/* One extent of a cursor: a region's blocks, cut to a slice. The slice may be all zero. */
struct lend_extent lend_extent_of(uint64_t address, const struct lend_geometry *geometry,
                                  uint64_t slice_offset, uint64_t slice_bytes);

/* Give everything back at the agent's end: registrations, and owner tokens if they are to be told.
 */
void lend_regions_fini(struct lend_agent *agent, bool tell_owners);

#endif
