/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include <stdlib.h>
#include <string.h>

void compat_index_fini(struct compat_index *index)
{
    for (size_t i = 0; i < index->space_count; i++) {
        struct compat_space *space = &index->spaces[i];

        for (size_t j = 0; j < space->chunk_count; j++)
            free(space->chunks[j].at);
        free(space->chunks);
    }
    free(index->spaces);
    *index = (struct compat_index){0};
}

static struct compat_space *find_space(const struct compat_index *index, nixl_capi_mem_type_t type,
                                       uint64_t device)
{
    for (size_t i = 0; i < index->space_count; i++)
        if (index->spaces[i].type == type && index->spaces[i].device == device)
            return &index->spaces[i];
    return NULL;
}

static struct compat_space *add_space(struct compat_index *index, nixl_capi_mem_type_t type,
                                      uint64_t device)
{
    struct compat_space *space = find_space(index, type, device);

    if (space != NULL)
        return space;
    if (!compat_reserve((void **)&index->spaces, &index->space_capacity, index->space_count + 1,
                        sizeof *index->spaces))
        return NULL;
    space = &index->spaces[index->space_count++];
    *space = (struct compat_space){.type = type, .device = device};
    return space;
}

static uintptr_t end_of(const struct compat_entry *entry)
{
    return entry->address + entry->length_bytes;
}

static int order(const struct compat_entry *entry, uintptr_t address, size_t length_bytes)
{
    if (entry->address != address)
        return entry->address < address ? -1 : 1;
    return entry->length_bytes < length_bytes ? -1 : entry->length_bytes > length_bytes;
}

static bool is_at_or_before(const struct compat_chunk *chunk, uintptr_t address,
                            size_t length_bytes)
{
    if (chunk->first_address != address)
        return chunk->first_address < address;
    return order(&chunk->at[0], address, length_bytes) <= 0;
}

/* How many chunks begin at or before that range. */
static size_t count_chunks(const struct compat_space *space, uintptr_t address, size_t length_bytes)
{
    size_t low = 0, high = space->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (is_at_or_before(&space->chunks[middle], address, length_bytes))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many entries of a chunk come at or before that range. */
static uint32_t count_entries(const struct compat_chunk *chunk, uintptr_t address,
                              size_t length_bytes)
{
    uint32_t low = 0, high = chunk->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (order(&chunk->at[middle], address, length_bytes) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void renew(struct compat_chunk *chunk)
{
    chunk->first_address = chunk->count > 0 ? chunk->at[0].address : 0;
    chunk->end_max = 0;
    chunk->is_apart = true;
    for (uint32_t i = 0; i < chunk->count; i++) {
        chunk->is_apart &= chunk->end_max <= chunk->at[i].address;
        if (end_of(&chunk->at[i]) > chunk->end_max)
            chunk->end_max = end_of(&chunk->at[i]);
    }
}

/* An empty chunk at that place. */
static struct compat_chunk *open_chunk(struct compat_space *space, size_t at)
{
    if (!compat_reserve((void **)&space->chunks, &space->chunk_capacity, space->chunk_count + 1,
                        sizeof *space->chunks))
        return NULL;
    struct compat_entry *entries = malloc(COMPAT_CHUNK_ENTRIES * sizeof *entries);
    if (entries == NULL)
        return NULL;

    struct compat_chunk *chunk = &space->chunks[at];
    memmove(chunk + 1, chunk, (space->chunk_count - at) * sizeof *chunk);
    space->chunk_count++;
    *chunk = (struct compat_chunk){.at = entries, .is_apart = true};
    return chunk;
}

/*
 * Make room in a full chunk, of which `at` entries come before the new one: its upper half moves to
 * a chunk behind it. A new last one of all begins a chunk by itself, so that who comes in ascending
 * order leaves full chunks behind.
 */
static bool split(struct compat_space *space, size_t *chunk_index, uint32_t *at)
{
    bool is_last = *chunk_index == space->chunk_count - 1 && *at == COMPAT_CHUNK_ENTRIES;
    uint32_t kept = is_last ? COMPAT_CHUNK_ENTRIES : COMPAT_CHUNK_ENTRIES / 2;
    struct compat_chunk *upper = open_chunk(space, *chunk_index + 1);

    if (upper == NULL)
        return false;
    struct compat_chunk *lower = upper - 1;
    upper->count = lower->count - kept;
    memcpy(upper->at, lower->at + kept, upper->count * sizeof *upper->at);
    lower->count = kept;
    renew(lower);
    renew(upper);
    if (*at > kept || is_last) {
        *at -= kept;
        ++*chunk_index;
    }
    return true;
}

bool compat_index_add(struct compat_index *index, nixl_capi_mem_type_t type,
                      const struct compat_desc *desc, void *region)
{
    struct compat_space *space = add_space(index, type, desc->device);

    if (space == NULL || (space->chunk_count == 0 && open_chunk(space, 0) == NULL))
        return false;
    size_t at_chunk = space->count > 0 ? count_chunks(space, desc->address, desc->length_bytes) : 0;
    at_chunk -= at_chunk > 0;
    uint32_t at = count_entries(&space->chunks[at_chunk], desc->address, desc->length_bytes);
    if (space->chunks[at_chunk].count == COMPAT_CHUNK_ENTRIES && !split(space, &at_chunk, &at))
        return false;

    struct compat_chunk *chunk = &space->chunks[at_chunk];
    memmove(&chunk->at[at + 1], &chunk->at[at], (chunk->count - at) * sizeof *chunk->at);
    chunk->at[at] = (struct compat_entry){
        .address = desc->address, .length_bytes = desc->length_bytes, .region = region};
    chunk->count++;
    chunk->first_address = chunk->at[0].address;
    if (at > 0)
        chunk->is_apart &= end_of(&chunk->at[at - 1]) <= desc->address;
    if (at + 1 < chunk->count)
        chunk->is_apart &= end_of(&chunk->at[at]) <= chunk->at[at + 1].address;
    if (end_of(&chunk->at[at]) > chunk->end_max)
        chunk->end_max = end_of(&chunk->at[at]);
    space->count++;
    index->count++;
    return true;
}

/* The entry before; false: there is none. */
static bool step_back(struct compat_place *place)
{
    if (place->at == 0) {
        if (place->chunk == 0)
            return false;
        place->chunk--;
        place->at = place->space->chunks[place->chunk].count;
    }
    place->at--;
    return true;
}

bool compat_index_find(const struct compat_index *index, nixl_capi_mem_type_t type,
                       const struct compat_desc *desc, const void *region, struct compat_place *out)
{
    struct compat_space *space = find_space(index, type, desc->device);
    size_t chunk = space != NULL ? count_chunks(space, desc->address, desc->length_bytes) : 0;

    if (chunk == 0)
        return false;
    *out = (struct compat_place){.space = space, .chunk = chunk - 1};
    out->at = count_entries(&space->chunks[chunk - 1], desc->address, desc->length_bytes);
    while (step_back(out) && order(compat_index_at(out), desc->address, desc->length_bytes) == 0)
        if (region == NULL || compat_index_at(out)->region == region)
            return true;
    return false;
}

struct compat_entry *compat_index_at(const struct compat_place *place)
{
    return &place->space->chunks[place->chunk].at[place->at];
}

void compat_index_remove(struct compat_index *index, const struct compat_place *place)
{
    struct compat_space *space = place->space;
    struct compat_chunk *chunk = &space->chunks[place->chunk];
    uintptr_t end = end_of(&chunk->at[place->at]);

    chunk->count--;
    memmove(&chunk->at[place->at], &chunk->at[place->at + 1],
            (chunk->count - place->at) * sizeof *chunk->at);
    space->count--;
    index->count--;
    if (chunk->count == 0) {
        free(chunk->at);
        space->chunk_count--;
        memmove(chunk, chunk + 1, (space->chunk_count - place->chunk) * sizeof *chunk);
    } else {
        chunk->first_address = chunk->at[0].address;
        if (chunk->is_apart)
            chunk->end_max = end_of(&chunk->at[chunk->count - 1]);
        else if (end == chunk->end_max)
            renew(chunk);
    }
}

const struct compat_space *compat_index_space(const struct compat_index *index,
                                              nixl_capi_mem_type_t type, uint64_t device)
{
    return find_space(index, type, device);
}

/* The last of the first `count` entries of a chunk that ends at or behind `end`. */
static const struct compat_entry *reach(const struct compat_chunk *chunk, uint32_t count,
                                        uintptr_t end)
{
    if (chunk->end_max < end)
        return NULL;
    for (uint32_t i = count; i > 0; i--)
        if (end_of(&chunk->at[i - 1]) >= end)
            return &chunk->at[i - 1];
    return NULL;
}

const struct compat_entry *compat_space_cover(const struct compat_space *space,
                                              const struct compat_desc *desc)
{
    uintptr_t end;

    if (__builtin_add_overflow(desc->address, desc->length_bytes, &end))
        return NULL;
    /* All that begin at or before it: the longest that one can be comes last among equals. */
    size_t chunk = count_chunks(space, desc->address, SIZE_MAX);
    if (chunk == 0)
        return NULL;
    chunk--;
    const struct compat_entry *entry = reach(
        &space->chunks[chunk], count_entries(&space->chunks[chunk], desc->address, SIZE_MAX), end);
    /* In the chunks before, all entries begin before it. */
    while (entry == NULL && chunk-- > 0)
        entry = reach(&space->chunks[chunk], space->chunks[chunk].count, end);
    return entry;
}
