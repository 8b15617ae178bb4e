/* SPDX-License-Identifier: Apache-2.0 */
#include "core/range_index.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
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

/* Of the entries from there on; those from `unchanged` on were right before, and are again as soon
 * as one of them is. How many were looked at. */
static size_t renew_end_max(struct lend_range_index *index, size_t from, size_t unchanged)
{
    uint64_t most = from > 0 ? index->entries[from - 1].end_max : 0;
    size_t i = from;

    for (; i < index->count; i++) {
        struct lend_range_entry *entry = &index->entries[i];

        most = entry->end > most ? entry->end : most;
        if (i >= unchanged && entry->end_max == most)
            break;
        entry->end_max = most;
    }
    return i - from;
}

void lend_range_index_insert(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value)
{
    assert(index->count < index->capacity);

    size_t at = count_before(index, start, true);
    if (at > 0 && index->entries[at - 1].value == NULL) {
        at--; /* the place of a removed one: nobody need move */
        index->empty_count--;
    } else {
        memmove(&index->entries[at + 1], &index->entries[at],
                (index->count - at) * sizeof *index->entries);
        index->count++;
    }
    index->entries[at] = (struct lend_range_entry){.start = start, .end = end, .value = value};
    (void)renew_end_max(index, at, at + 1);
}

void lend_range_index_insert_all(struct lend_range_index *index, struct lend_range_entry *added,
                                 struct lend_sorted *places, size_t count)
{
    size_t old = index->count, at = old + count, lowest = at;

    assert(count <= index->capacity - index->count);
    for (size_t i = 0; i < count; i++)
        places[i] = (struct lend_sorted){.key = added[i].start, .value = &added[i]};
    const struct lend_sorted *sorted = lend_sort(places, count);
    index->count = at;
    /* From the last place to the first, so that nothing is written over that is still to move. */
    while (count > 0) {
        bool is_old = old > 0 && index->entries[old - 1].start > sorted[count - 1].key;

        index->entries[--at] =
            is_old ? index->entries[--old] : *(struct lend_range_entry *)sorted[--count].value;
        lowest = at;
    }
    (void)renew_end_max(index, lowest, index->count);
}

/* Close up the places of the removed. */
static void compact(struct lend_range_index *index)
{
    size_t kept = 0;

    for (size_t i = 0; i < index->count; i++)
        if (index->entries[i].value != NULL)
            index->entries[kept++] = index->entries[i];
    index->count = kept;
    index->empty_count = 0;
    index->walked = 0;
    (void)renew_end_max(index, 0, kept);
}

void lend_range_index_remove(struct lend_range_index *index, uint64_t start, void *value)
{
    size_t at = count_before(index, start, false);

    while (at < index->count && index->entries[at].value != value)
        at++;
    if (at == index->count)
        return;
    index->entries[at].end = 0;
    index->entries[at].value = NULL;
    index->empty_count++;
    for (; index->count > 0 && index->entries[index->count - 1].value == NULL; index->count--)
        index->empty_count--; /* nobody comes after it */
    index->walked += renew_end_max(index, at, at);
    if (index->empty_count > index->count / 2 || index->walked > index->count)
        compact(index);
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
