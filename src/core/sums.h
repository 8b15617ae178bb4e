/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SUMS_H
#define LEND_CORE_SUMS_H

#include "core/cursor.h"

#include <stdbool.h>

/*
 * Checksums of blocks, for debugging (LEND_TRANSFER_CHECKSUM). Once its data has moved, a transfer
 * asks again for the same blocks, and the owner answers with four bytes of CRC-32C each; the other
 * side computes its own, and compares. A unit is a block's selected bytes, or a range.
 */

/* Of one request. */
enum { LEND_SUMS_BYTES_MAX = 1 << 20, LEND_SUMS_MAX = 1 << 20 };

/* Bytes of the unit that the cursor stands at the beginning of. */
static inline uint64_t lend_sums_unit_bytes(const struct lend_cursor *cursor)
{
    const struct lend_extent *extent = &cursor->extents[cursor->extent];

    return extent->row_bytes * extent->inner_count;
}

/* Where checksums lie, for a cursor to walk over. */
struct lend_sums_place {
    struct lend_extent extent;
    struct lend_run run;
};

/* Stand at the first of so many bytes of checksums. */
void lend_sums_stand(struct lend_cursor *cursor, struct lend_sums_place *place, const void *sums,
                     uint64_t bytes);

/* The owner's work at one request. */
struct lend_sums {
    uint32_t count;
    uint32_t made;
    uint32_t crc;                 /* of the unit under way, */
    uint64_t left;                /* and its bytes still to come; 0: the next begins */
    uint8_t *bytes;               /* owned; count * 4, little-endian */
    struct lend_sums_place place; /* of the same, to be sent from */
};

/* Go on for about so many bytes; true once all are made. */
bool lend_sums_make(struct lend_sums *sums, struct lend_cursor *cursor, uint64_t bytes);

/* The checksum of the next unit, which steps past it. */
uint32_t lend_sums_of_unit(struct lend_cursor *cursor);

#endif
