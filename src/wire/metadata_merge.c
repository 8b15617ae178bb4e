/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/metadata.h"

#include "base/error.h"
#include "base/sort.h"
#include "base/sys.h"

#include <lend/peer.h>

#include <string.h>

/*
 * Two pieces of metadata of one incarnation as one. It is put together as bytes, and decoded again:
 * so that it lies in one allocation, and is checked, as if it had been told at once.
 */

/* Both lists, ascending by id, and of two with the same id the later life. */
static uint32_t unite(const struct lend_metadata *known, const struct lend_metadata *told,
                      struct lend_metadata_region *out)
{
    uint32_t count = 0;

    for (uint32_t i = 0, k = 0; i < known->region_count || k < told->region_count;) {
        const struct lend_metadata_region *a = &known->regions[i], *b = &told->regions[k];

        if (k == told->region_count || (i < known->region_count && a->id < b->id)) {
            out[count++] = *a;
            i++;
        } else if (i == known->region_count || b->id < a->id) {
            out[count++] = *b;
            k++;
        } else {
            out[count++] = b->life >= a->life ? *b : *a;
            i++;
            k++;
        }
    }
    return count;
}

/* FNV-1a. Names that it cannot tell apart are told apart afterwards. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return hash;
}

/* Leave out whoever has a name that one with a higher id has, too. Should other names with the same
 * hash lie between the two, they both stay, and are refused when they are decoded. */
static uint32_t drop_renamed(struct lend_metadata_region *regions, uint32_t count,
                             struct lend_sorted *places)
{
    uint32_t named = 0, left = 0;

    for (uint32_t i = 0; i < count; i++)
        if (regions[i].name[0] != '\0')
            places[named++] =
                (struct lend_sorted){.key = hash_name(regions[i].name), .value = &regions[i]};
    const struct lend_sorted *sorted = lend_sort(places, named);
    for (uint32_t i = 1; i < named; i++) {
        struct lend_metadata_region *earlier = sorted[i - 1].value, *later = sorted[i].value;

        if (sorted[i - 1].key == sorted[i].key && strcmp(earlier->name, later->name) == 0)
            earlier->id = 0;
    }
    for (uint32_t i = 0; i < count; i++)
        if (regions[i].id != 0)
            regions[left++] = regions[i];
    return left;
}

static enum lend_status repack(const struct lend_metadata *metadata, struct lend_metadata **out,
                               struct lend_error *error)
{
    if (metadata->region_count > LEND_METADATA_REGIONS_MAX)
        return lend_fail(error, LEND_E_LIMIT, "%s has told of %u regions in parts, over %d",
                         metadata->name, metadata->region_count, LEND_METADATA_REGIONS_MAX);
    size_t count = lend_metadata_encode(metadata, NULL, 0);
    if (count > LEND_METADATA_BYTES_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "%s has told of its regions in parts of %zu bytes, over %u",
                         metadata->name, count, LEND_METADATA_BYTES_MAX);
    uint8_t *bytes = lend_sys->allocate(count);
    if (bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %zu bytes of metadata", count);
    (void)lend_metadata_encode(metadata, bytes, count);
    enum lend_status status = lend_metadata_decode(bytes, count, out, error);
    lend_sys->release(bytes);
    return status;
}

enum lend_status lend_metadata_merge(const struct lend_metadata *known,
                                     const struct lend_metadata *told, struct lend_metadata **out,
                                     struct lend_error *error)
{
    size_t room = (size_t)known->region_count + told->region_count + 1;
    struct lend_metadata *merged = lend_sys->allocate(sizeof *merged);
    struct lend_metadata_region *regions = lend_sys->allocate(room * sizeof *regions);
    struct lend_sorted *places = lend_sys->allocate(2 * room * sizeof *places);
    enum lend_status status = LEND_E_NO_MEMORY;

    if (merged != NULL && regions != NULL && places != NULL) {
        *merged = *known;
        merged->serial = told->serial > known->serial ? told->serial : known->serial;
        merged->is_partial = false;
        merged->regions = regions;
        merged->region_count = drop_renamed(regions, unite(known, told, regions), places);
        status = repack(merged, out, error);
    } else {
        (void)lend_fail(error, status, "no memory to merge %zu regions", room - 1);
    }
    lend_sys->release(places);
    lend_sys->release(regions);
    lend_sys->release(merged);
    return status;
}
