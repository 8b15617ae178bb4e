/* SPDX-License-Identifier: Apache-2.0 */
#include "core/region_table.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/region.h"

#include <assert.h>
#include <string.h>

enum { BUCKETS_MIN = 64 };

void lend_region_table_fini(struct lend_region_table *table)
{
    lend_sys->release(table->places);
    lend_sys->release(table->buckets);
    *table = (struct lend_region_table){0};
}

/* --- by id --- */

/* The first place whose id is not below that one. */
static uint32_t place_of(const struct lend_region_table *table, uint64_t id)
{
    uint32_t low = 0, high = table->place_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (table->places[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum lend_status reserve_places(struct lend_region_table *table, uint32_t count,
                                       struct lend_error *error)
{
    uint32_t wanted = table->place_count + count, twice = table->place_capacity * 2;

    if (wanted <= table->place_capacity)
        return LEND_OK;
    uint32_t capacity = twice > wanted ? twice : wanted;
    struct lend_region_place *grown = lend_sys->allocate(capacity * sizeof *grown);
    if (grown == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a table of %u regions", capacity);
    if (table->place_count > 0)
        memcpy(grown, table->places, table->place_count * sizeof *grown);
    lend_sys->release(table->places);
    table->places = grown;
    table->place_capacity = capacity;
    return LEND_OK;
}

/* Close up the empty places. */
static void compact(struct lend_region_table *table)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->place_count; i++)
        if (table->places[i].region != NULL)
            table->places[kept++] = table->places[i];
    table->place_count = kept;
}

struct lend_region *lend_region_table_find(const struct lend_region_table *table, uint64_t id)
{
    uint32_t at = place_of(table, id);

    return at < table->place_count && table->places[at].id == id ? table->places[at].region : NULL;
}

struct lend_region *lend_region_table_next(const struct lend_region_table *table, uint64_t id)
{
    uint32_t at = place_of(table, id + 1);

    while (at < table->place_count && table->places[at].region == NULL)
        at++;
    return at < table->place_count ? table->places[at].region : NULL;
}

/* --- by name --- */

/* FNV-1a (Fowler, Noll, Vo; 32 bits). */
uint32_t lend_region_name_hash(const char *name)
{
    uint32_t hash = 2166136261u;

    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash;
}

static enum lend_status reserve_names(struct lend_region_table *table, uint32_t count,
                                      struct lend_error *error)
{
    uint32_t wanted = table->count + count, bucket_count = BUCKETS_MIN;

    if (wanted <= table->bucket_count)
        return LEND_OK;
    while (bucket_count < wanted)
        bucket_count *= 2;
    struct lend_region **buckets = lend_sys->allocate(bucket_count * sizeof(struct lend_region *));
    if (buckets == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the names of %u regions", wanted);
    for (uint32_t i = 0; i < table->bucket_count; i++)
        for (struct lend_region *region = table->buckets[i], *next; region != NULL; region = next) {
            struct lend_region **head = &buckets[region->name_hash & (bucket_count - 1)];

            next = region->next_by_name;
            region->next_by_name = *head;
            *head = region;
        }
    lend_sys->release(table->buckets);
    table->buckets = buckets;
    table->bucket_count = bucket_count;
    return LEND_OK;
}

static struct lend_region **bucket_of(const struct lend_region_table *table, uint32_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

struct lend_region *lend_region_table_named(const struct lend_region_table *table, const char *name,
                                            uint32_t hash)
{
    if (name[0] == '\0' || table->bucket_count == 0)
        return NULL;

    struct lend_region *region = *bucket_of(table, hash);
    while (region != NULL && (region->name_hash != hash || strcmp(region->name, name) != 0))
        region = region->next_by_name;
    return region;
}

static void insert_name(struct lend_region_table *table, struct lend_region *region)
{
    if (region->name[0] == '\0')
        return;

    struct lend_region **head = bucket_of(table, region->name_hash);
    region->next_by_name = *head;
    *head = region;
}

static void remove_name(struct lend_region_table *table, struct lend_region *region)
{
    if (region->name[0] == '\0')
        return;

    struct lend_region **link = bucket_of(table, region->name_hash);
    while (*link != region)
        link = &(*link)->next_by_name;
    *link = region->next_by_name;
}

/* --- both --- */

enum lend_status lend_region_table_reserve(struct lend_region_table *table, uint32_t count,
                                           struct lend_error *error)
{
    enum lend_status status = reserve_places(table, count, error);

    return status == LEND_OK ? reserve_names(table, count, error) : status;
}

void lend_region_table_insert(struct lend_region_table *table, struct lend_region *region)
{
    assert(table->place_count < table->place_capacity && table->count < table->bucket_count);
    region->id = ++table->last_id;
    table->places[table->place_count++] =
        (struct lend_region_place){.id = region->id, .region = region};
    table->count++;
    insert_name(table, region);
}

void lend_region_table_remove(struct lend_region_table *table, struct lend_region *region)
{
    uint32_t at = place_of(table, region->id);

    LEND_INVARIANT(at < table->place_count && table->places[at].region == region);
    table->places[at].region = NULL;
    remove_name(table, region);
    table->count--;
    if (table->count < table->place_count / 2)
        compact(table);
}
