/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_REGION_TABLE_H
#define LEND_CORE_REGION_TABLE_H

#include <lend/status.h>

#include <stdint.h>

/*
 * An agent's regions by their id and by their name. Ids ascend for good, so a new one is the last;
 * who is removed leaves its place empty until there are as many of those as of others. Names are
 * hashed into buckets, of which there are at least as many as regions. The agent's lock guards it.
 */

struct lend_region;

/* Where a region is, or was. */
struct lend_region_place {
    uint64_t id;
    struct lend_region *region; /* NULL: it was removed */
};

struct lend_region_table {
    struct lend_region_place *places; /* ascending */
    uint32_t place_count;
    uint32_t place_capacity;
    uint32_t count; /* of the regions that are there */
    uint64_t last_id;
    struct lend_region **buckets;
    uint32_t bucket_count; /* a power of two; 0: none yet */
};

void lend_region_table_fini(struct lend_region_table *table);

/* Room for count more, so that the next count inserts cannot fail. LEND_E_NO_MEMORY. */
enum lend_status lend_region_table_reserve(struct lend_region_table *table, uint32_t count,
                                           struct lend_error *error);

/* Give it its id, and enter it by that and by its name, if it has one, which nobody else has. */
void lend_region_table_insert(struct lend_region_table *table, struct lend_region *region);
void lend_region_table_remove(struct lend_region_table *table, struct lend_region *region);

/* NULL: there is none. An empty name is nobody's. */
struct lend_region *lend_region_table_find(const struct lend_region_table *table, uint64_t id);
struct lend_region *lend_region_table_named(const struct lend_region_table *table, const char *name,
                                            uint32_t hash);

uint32_t lend_region_name_hash(const char *name);

/* The region with the lowest id above that one; NULL: none. Begin with 0. */
struct lend_region *lend_region_table_next(const struct lend_region_table *table, uint64_t id);

#endif
