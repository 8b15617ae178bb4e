/* SPDX-License-Identifier: Apache-2.0 */
#include "core/range_index.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void lend_range_index_fini(struct lend_range_index *index)
{
    lend_sys->release(index->entries);
    *index = (struct lend_range_index){0};
}

enum lend_status lend_range_index_reserve(struct lend_range_index *index, size_t count,
                                          struct lend_error *error)
{
    if (count <= index->capacity - index->count)
        return LEND_OK;

    size_t capacity =
        index->capacity * 2 > index->count + count ? index->capacity * 2 : index->count + count;
    struct lend_range_entry *entries = lend_sys->allocate(capacity * sizeof *entries);
    if (entries == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an index of %zu regions",
                         capacity);
    if (index->count > 0)
        memcpy(entries, index->entries, index->count * sizeof *entries);
    lend_sys->release(index->entries);
    index->entries = entries;
    index->capacity = capacity;
    return LEND_OK;
}

/* How many entries start before start (or at it, if at_too). */
static size_t count_before(const struct lend_range_index *index, uint64_t start, bool at_too)
{
    size_t low = 0, high = index->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t there = index->entries[middle].start;

        if (there < start || (at_too && there == start))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* From there on something has changed: put right what follows, up to the first that is right. */
static void renew_end_max(struct lend_range_index *index, size_t from)
{
    uint64_t most = from > 0 ? index->entries[from - 1].end_max : 0;

    for (size_t i = from; i < index->count; i++) {
        struct lend_range_entry *entry = &index->entries[i];

        most = entry->end > most ? entry->end : most;
        if (entry->end_max == most)
            break; /* and so are all behind it */
        entry->end_max = most;
    }
}

void lend_range_index_insert(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value)
{
    assert(index->count < index->capacity);

    size_t at = count_before(index, start, true);
    memmove(&index->entries[at + 1], &index->entries[at],
            (index->count - at) * sizeof *index->entries);
    index->entries[at] = (struct lend_range_entry){.start = start, .end = end, .value = value};
    index->count++;
    renew_end_max(index, at);
}

void lend_range_index_append(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value)
{
    assert(index->count < index->capacity);
    index->entries[index->count++] =
        (struct lend_range_entry){.start = start, .end = end, .value = value};
}

static int by_start(const void *one, const void *other)
{
    uint64_t a = ((const struct lend_range_entry *)one)->start;
    uint64_t b = ((const struct lend_range_entry *)other)->start;

    return a < b ? -1 : a > b;
}

void lend_range_index_sort(struct lend_range_index *index)
{
    bool is_sorted = true;

    for (size_t i = 1; i < index->count && is_sorted; i++)
        is_sorted = index->entries[i - 1].start <= index->entries[i].start;
    if (!is_sorted)
        qsort(index->entries, index->count, sizeof *index->entries, by_start);
    renew_end_max(index, 0);
}

void lend_range_index_remove(struct lend_range_index *index, uint64_t start, void *value)
{
    size_t at = count_before(index, start, false);

    while (at < index->count && index->entries[at].value != value)
        at++;
    if (at == index->count)
        return;
    index->count--;
    memmove(&index->entries[at], &index->entries[at + 1],
            (index->count - at) * sizeof *index->entries);
    renew_end_max(index, at);
}

const struct lend_range_entry *lend_range_index_next(const struct lend_range_index *index,
                                                     uint64_t start, uint64_t end, size_t *position)
{
    size_t at = *position == SIZE_MAX ? count_before(index, end, false) : *position;

    while (at > 0 && index->entries[at - 1].end_max > start) {
        at--;
        if (index->entries[at].end > start) {
            *position = at;
            return &index->entries[at];
        }
    }
    *position = 0;
    return NULL;
}
