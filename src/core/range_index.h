/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_RANGE_INDEX_H
#define LEND_CORE_RANGE_INDEX_H

#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * Ranges of addresses, sorted by their first byte, that may nest and overlap. Each entry knows the
 * furthest end of all before it and itself, so that a search to the left knows when to stop.
 */
struct lend_range_entry {
    uint64_t start;
    uint64_t end;     /* one past the last */
    uint64_t end_max; /* of this entry and all before */
    void *value;
};

struct lend_range_index {
    struct lend_range_entry *entries;
    size_t count;
    size_t capacity;
};

void lend_range_index_fini(struct lend_range_index *index);

/* Room for count more, so that the next count inserts cannot fail. LEND_E_NO_MEMORY. */
enum lend_status lend_range_index_reserve(struct lend_range_index *index, size_t count,
                                          struct lend_error *error);
void lend_range_index_insert(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value);

/* Many at once, into an index that has none: append each in any order, then sort once. There must
 * be room. */
void lend_range_index_append(struct lend_range_index *index, uint64_t start, uint64_t end,
                             void *value);
void lend_range_index_sort(struct lend_range_index *index);

void lend_range_index_remove(struct lend_range_index *index, uint64_t start, void *value);

/*
 * Walk the entries that have a byte of start .. end - 1, from the last to the first: *position
 * begins as SIZE_MAX; NULL at the end.
 */
const struct lend_range_entry *lend_range_index_next(const struct lend_range_index *index,
                                                     uint64_t start, uint64_t end,
                                                     size_t *position);

#endif
