/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_SORT_H
#define LEND_BASE_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Something with a number to sort it by: an address, most often. */
struct lend_sorted {
    uint64_t key;
    void *value;
};

/*
 * Sort many by their keys, ascending; those with equal keys stay in their order. There are 2 *
 * count places, of which the first count are filled; the sorted ones are returned, and lie in
 * either half.
 *
 * By the digits of the keys, of which only those that differ are looked at: for the addresses of
 * thousands of regions a fraction of what qsort() takes, and, unlike it, without memory that does
 * not come through lend_sys.
 */
struct lend_sorted *lend_sort(struct lend_sorted *places, size_t count);

#endif
