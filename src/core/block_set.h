/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_BLOCK_SET_H
#define LEND_CORE_BLOCK_SET_H

#include <lend/lease.h>

#include <stdbool.h>

/*
 * Which blocks a lease names: a range, or the members of a bitmap over first .. first + span - 1. A
 * bitmap because a set is asked far more often than made, and one bit a block is small beside a
 * block.
 */
struct lend_blocks {
    uint64_t first;
    uint64_t span;
    uint64_t count;   /* members */
    uint64_t *bitmap; /* NULL: every block of the span is one */
};

/*
 * Check a caller's set against a region of that many blocks, and resolve it. LEND_E_INVALID,
 * LEND_E_OUT_OF_RANGE (with the position), LEND_E_NO_MEMORY. Give back with lend_blocks_fini().
 */
enum lend_status lend_blocks_init(struct lend_blocks *blocks, const struct lend_block_set *set,
                                  uint64_t region_block_count, struct lend_error *error);
void lend_blocks_fini(struct lend_blocks *blocks);

/* Does it have all blocks of first .. first + count - 1 (count > 0)? */
bool lend_blocks_cover(const struct lend_blocks *blocks, uint64_t first, uint64_t count);

/* Do two sets have a block in common? */
bool lend_blocks_meet(const struct lend_blocks *one, const struct lend_blocks *other);

/* The i-th number of a caller's array of int32 or int64. */
static inline int64_t lend_index_at(const void *indices, uint32_t bits, uint64_t i)
{
    return bits == 64 ? ((const int64_t *)indices)[i] : ((const int32_t *)indices)[i];
}

#endif
