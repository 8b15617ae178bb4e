/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_RANGE_LIST_H
#define LEND_CORE_RANGE_LIST_H

#include "core/peer.h"

#include <lend/transfer.h>

struct lend_region;

/*
 * Lists of address ranges that are looked up once, for many transfers.
 *
 * Each range of a list knows its *place*: the region that it lies in, with the stamp of the time
 * when that was so. The stamp of our own regions grows whenever one of them is withdrawn or moved,
 * that of a peer's when newer metadata has come: then a place is looked up anew when it is next
 * asked for, and no sooner. What was registered since makes no place wrong, so it changes no stamp.
 *
 * A transfer that is prepared of two lists takes no more of them than the numbers of their ranges;
 * the first post unfolds those to what posts go over. Until then it holds the lists.
 */
struct lend_range_place {
    uint64_t address;
    uint64_t length_bytes;
    uint64_t stamp; /* of when the rest was right; 0: it never was */
    uint64_t region_id;
    uint64_t region_address;
    struct lend_region *region; /* NULL: the peer's */
    uint32_t kind;              /* of memory */
    uint32_t access;            /* that the region allows */
};

struct lend_range_list {
    struct lend_pool_object object;
    struct lend_agent *agent;
    struct lend_peer *peer; /* a reference; NULL: our own memory */
    uint32_t references;    /* the handle's, and transfers'; agent's lock */
    uint32_t count;
    struct lend_range_place *places; /* owned; agent's lock */
};

/* A pair of ranges, by their numbers. */
struct lend_range_pair {
    uint32_t local;
    uint32_t remote;
};

/* The region of ours that the range lies in and that is lent, `near` if it is that one (NULL:
 * any); of the peer's, one that allows all of access. NULL: there is none. Under the agent's lock.
 */
struct lend_region *lend_range_find_own(struct lend_agent *agent, const struct lend_range *range,
                                        struct lend_region *near);
const struct lend_metadata_region *lend_range_find_peers(const struct lend_peer *peer,
                                                         const struct lend_range *range,
                                                         uint32_t access,
                                                         const struct lend_metadata_region *near);

/* Pair the ranges of the two lists that desc names: they are what posts go over. */
enum lend_status lend_transfer_pair(struct lend_transfer *transfer,
                                    const struct lend_transfer_desc *desc,
                                    struct lend_error *error);
/* The pairs as extents and ranges, before the first post. */
enum lend_status lend_transfer_unfold(struct lend_transfer *transfer, struct lend_error *error);

/* Let go of the lists of a transfer that was not unfolded. Under no lock. */
void lend_transfer_drop_lists(struct lend_transfer *transfer);

/* At the agent's end. */
void lend_range_lists_fini(struct lend_agent *agent);

#endif
