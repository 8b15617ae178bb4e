/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_RANGE_INDEX_H
#define LEND_CORE_RANGE_INDEX_H

#include "base/sort.h"

#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * Ranges of addresses, sorted by their first byte, that may nest and overlap. Each entry knows the
 * furthest end of all before it and itself, so that a search to the left knows when to stop.
 *
 * Who is removed leaves an empty range behind. They are closed up once there are as many of them as
 * others, or once removals have walked over as many entries as there are: so to remove all, one by
 * one and in any order, is far from quadratic. Many at a time are inserted by one sort and one
 * merge. Few at a time go to a short run of their own, which is merged when it is full: so to
 * insert all, one by one and in any order, is far from quadratic as well.
 */
struct lend_range_entry {
    uint64_t start;
    uint64_t end;     /* one past the last; 0: it was removed */
    uint64_t end_max; /* of this entry and all before */
    void *value;      /* NULL: it was removed */
};

/* Entries in order. */
struct lend_range_run {
    struct lend_range_entry *entries;
    size_t count;       /* of entries, */
    size_t empty_count; /* and of those among them that were removed */
    size_t walked;      /* entries that removals have walked over since the last closing-up */
    size_t capacity;
};

struct lend_range_index {
    struct lend_range_run settled;
    struct lend_range_run recent; /* those that came one by one since the last merge */
};

void lend_range_index_fini(struct lend_range_index *index);

/* Room for count more, so that the next count inserts cannot fail. LEND_E_NO_MEMORY. */
enum lend_status lend_range_index_reserve(struct lend_range_index *index, size_t count,
                                          struct lend_error *error);
void lend_range_index_insert(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value);
/* The same for many: start, end and value of each are filled in; `places` has room to sort them,
 * for 2 * count. */
void lend_range_index_insert_all(struct lend_range_index *index, struct lend_range_entry *added,
                                 struct lend_sorted *places, size_t count);
void lend_range_index_remove(struct lend_range_index *index, uint64_t start, void *value);

/*
 * Walk the ranges that have a byte of start .. end - 1, from the last to the first: *position
 * begins as SIZE_MAX; NULL at the end.
 */
const struct lend_range_entry *lend_range_index_next(const struct lend_range_index *index,
                                                     uint64_t start, uint64_t end,
                                                     size_t *position);

#endif
