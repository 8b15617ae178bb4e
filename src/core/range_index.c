/* SPDX-License-Identifier: Apache-2.0 */
#include "core/range_index.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <string.h>

enum {
    RECENT_MAX = 512, /* entries that have come one by one, before they are merged */
    FEW = 32,         /* that are inserted one by one though they come together */
};

void lend_range_index_fini(struct lend_range_index *index)
{
    lend_sys->release(index->settled.entries);
    lend_sys->release(index->recent.entries);
    *index = (struct lend_range_index){0};
}

static enum lend_status reserve_run(struct lend_range_run *run, size_t wanted,
                                    struct lend_error *error)
{
    if (wanted <= run->capacity)
        return LEND_OK;

    size_t capacity = run->capacity * 2 > wanted ? run->capacity * 2 : wanted;
    struct lend_range_entry *entries = lend_sys->allocate(capacity * sizeof *entries);
    if (entries == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an index of %zu regions",
                         capacity);
    if (run->count > 0)
        memcpy(entries, run->entries, run->count * sizeof *entries);
    lend_sys->release(run->entries);
    run->entries = entries;
    run->capacity = capacity;
    return LEND_OK;
}

enum lend_status lend_range_index_reserve(struct lend_range_index *index, size_t count,
                                          struct lend_error *error)
{
    size_t recent = index->recent.count + count;

    enum lend_status status =
        reserve_run(&index->settled, index->settled.count + index->recent.count + count, error);
    if (status == LEND_OK)
        status = reserve_run(&index->recent, recent < RECENT_MAX ? recent : RECENT_MAX, error);
    return status;
}

/* --- one run --- */

/* How many entries start before start (or at it, if at_too). */
static size_t count_before(const struct lend_range_run *run, uint64_t start, bool at_too)
{
    size_t low = 0, high = run->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t there = run->entries[middle].start;

        if (there < start || (at_too && there == start))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of the entries from there on; those from `unchanged` on were right before, and are again as soon
 * as one of them is. How many were looked at. */
static size_t renew_end_max(struct lend_range_run *run, size_t from, size_t unchanged)
{
    uint64_t most = from > 0 ? run->entries[from - 1].end_max : 0;
    size_t i = from;

    for (; i < run->count; i++) {
        struct lend_range_entry *entry = &run->entries[i];

        most = entry->end > most ? entry->end : most;
        if (i >= unchanged && entry->end_max == most)
            break;
        entry->end_max = most;
    }
    return i - from;
}

static void insert_in(struct lend_range_run *run, const struct lend_range_entry *entry)
{
    assert(run->count < run->capacity);

    size_t at = count_before(run, entry->start, true);
    if (at > 0 && run->entries[at - 1].value == NULL) {
        at--; /* the place of a removed one: nobody need move */
        run->empty_count--;
    } else {
        memmove(&run->entries[at + 1], &run->entries[at], (run->count - at) * sizeof *run->entries);
        run->count++;
    }
    run->entries[at] = *entry;
    (void)renew_end_max(run, at, at + 1);
}

/* Merge entries that are sorted by where they start, and of no run or another one. */
static void merge_in(struct lend_range_run *run, const struct lend_sorted *sorted, size_t count)
{
    size_t old = run->count, at = old + count, lowest = at;

    assert(count <= run->capacity - run->count);
    run->count = at;
    /* From the last place to the first, so that nothing is written over that is still to move. */
    while (count > 0) {
        bool is_old = old > 0 && run->entries[old - 1].start > sorted[count - 1].key;

        run->entries[--at] =
            is_old ? run->entries[--old] : *(struct lend_range_entry *)sorted[--count].value;
        lowest = at;
    }
    (void)renew_end_max(run, lowest, run->count);
}

/* Close up the places of the removed. */
static void compact(struct lend_range_run *run)
{
    size_t kept = 0;

    for (size_t i = 0; i < run->count; i++)
        if (run->entries[i].value != NULL)
            run->entries[kept++] = run->entries[i];
    run->count = kept;
    run->empty_count = 0;
    run->walked = 0;
    (void)renew_end_max(run, 0, kept);
}

static bool remove_from(struct lend_range_run *run, uint64_t start, const void *value)
{
    size_t at = count_before(run, start, false);

    while (at < run->count && run->entries[at].start == start && run->entries[at].value != value)
        at++;
    if (at == run->count || run->entries[at].value != value)
        return false;
    run->entries[at].end = 0;
    run->entries[at].value = NULL;
    run->empty_count++;
    for (; run->count > 0 && run->entries[run->count - 1].value == NULL; run->count--)
        run->empty_count--; /* nobody comes after it */
    run->walked += renew_end_max(run, at, at);
    if (run->empty_count > run->count / 2 || run->walked > run->count)
        compact(run);
    return true;
}

/* The last of the first `before` entries that has a byte behind start; NULL: none. */
static const struct lend_range_entry *step_back(const struct lend_range_run *run, uint64_t start,
                                                size_t before)
{
    for (; before > 0 && run->entries[before - 1].end_max > start; before--)
        if (run->entries[before - 1].end > start)
            return &run->entries[before - 1];
    return NULL;
}

/* --- both --- */

static void merge_recent(struct lend_range_index *index)
{
    struct lend_range_run *recent = &index->recent;
    struct lend_sorted sorted[RECENT_MAX];

    compact(recent);
    for (size_t i = 0; i < recent->count; i++)
        sorted[i] =
            (struct lend_sorted){.key = recent->entries[i].start, .value = &recent->entries[i]};
    merge_in(&index->settled, sorted, recent->count);
    recent->count = 0;
}

void lend_range_index_insert(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value)
{
    const struct lend_range_entry entry = {.start = start, .end = end, .value = value};

    if (index->recent.count == RECENT_MAX)
        merge_recent(index);
    insert_in(&index->recent, &entry);
}

void lend_range_index_insert_all(struct lend_range_index *index, struct lend_range_entry *added,
                                 struct lend_sorted *places, size_t count)
{
    if (count <= FEW) {
        for (size_t i = 0; i < count; i++)
            lend_range_index_insert(index, added[i].start, added[i].end, added[i].value);
        return;
    }
    for (size_t i = 0; i < count; i++)
        places[i] = (struct lend_sorted){.key = added[i].start, .value = &added[i]};
    merge_in(&index->settled, lend_sort(places, count), count);
}

void lend_range_index_remove(struct lend_range_index *index, uint64_t start, void *value)
{
    if (!remove_from(&index->recent, start, value))
        (void)remove_from(&index->settled, start, value);
}

/* Of both runs the entry that starts last is the next. The position is how many entries of each are
 * still to be looked at. */
const struct lend_range_entry *lend_range_index_next(const struct lend_range_index *index,
                                                     uint64_t start, uint64_t end, size_t *position)
{
    const struct lend_range_run *settled = &index->settled, *recent = &index->recent;
    size_t left = *position & UINT32_MAX, recent_left = *position >> 32;

    if (*position == SIZE_MAX) {
        left = count_before(settled, end, false);
        recent_left = recent->count > 0 ? count_before(recent, end, false) : 0;
    }
    const struct lend_range_entry *one = step_back(settled, start, left);
    const struct lend_range_entry *other = step_back(recent, start, recent_left);
    bool is_recent = other != NULL && (one == NULL || other->start > one->start);

    if (is_recent)
        recent_left = (size_t)(other - recent->entries);
    else
        left = one != NULL ? (size_t)(one - settled->entries) : 0;
    if (one == NULL && other == NULL)
        recent_left = 0;
    *position = recent_left << 32 | left;
    return is_recent ? other : one;
}
