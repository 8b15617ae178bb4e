/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_GEOMETRY_H
#define LEND_BASE_GEOMETRY_H

#include <lend/region.h>

/*
 * Check a geometry against the length of its region, and fill in its defaults in place: afterwards
 * no field is zero. LEND_E_INVALID: no blocks, too many, a row or block beyond the end (with its
 * number), rows or blocks that overlap, or arithmetic that wraps. Untouched on failure.
 */
enum lend_status lend_geometry_complete(struct lend_geometry *geometry, uint64_t length_bytes,
                                        struct lend_error *error);

/* Selected bytes of a block, of a complete geometry. */
static inline uint64_t lend_geometry_block_bytes(const struct lend_geometry *geometry)
{
    return geometry->block_length_bytes * geometry->inner_count;
}

#endif
