/* SPDX-License-Identifier: Apache-2.0 */
#include "base/geometry.h"
#include "base/error.h"

#include <stdbool.h>

/* Printable, in the widest type that printf has. */
#define ULL(value) ((unsigned long long)(value))

static bool is_empty(const struct lend_geometry *geometry)
{
    return geometry->block_length_bytes == 0 && geometry->stride_bytes == 0 &&
           geometry->count == 0 && geometry->inner_stride_bytes == 0 && geometry->inner_count == 0;
}

/* start + steps * step + length; false if that is 2^64 or more. */
static bool end_of(uint64_t steps, uint64_t step, uint64_t length, uint64_t *out)
{
    uint64_t distance;

    return !__builtin_mul_overflow(steps, step, &distance) &&
           !__builtin_add_overflow(distance, length, out);
}

static enum lend_status check_counts(const struct lend_geometry *geometry, uint64_t length_bytes,
                                     struct lend_error *error)
{
    if (geometry->block_length_bytes == 0 || geometry->count == 0)
        return lend_fail(
            error, LEND_E_INVALID,
            "geometry has %llu blocks of %llu bytes; give both, or leave all of it zero",
            ULL(geometry->count), ULL(geometry->block_length_bytes));
    if (geometry->count > LEND_REGION_BLOCKS_MAX)
        return lend_fail(error, LEND_E_INVALID, "geometry has %llu blocks, over the limit of %llu",
                         ULL(geometry->count), ULL(LEND_REGION_BLOCKS_MAX));
    if (geometry->inner_count > LEND_REGION_ROWS_MAX)
        return lend_fail(error, LEND_E_INVALID,
                         "geometry has %llu rows in a block, over the limit of %llu",
                         ULL(geometry->inner_count), ULL(LEND_REGION_ROWS_MAX));
    if (geometry->block_length_bytes > length_bytes)
        return lend_fail(error, LEND_E_INVALID, "rows of %llu bytes in a region of %llu bytes",
                         ULL(geometry->block_length_bytes), ULL(length_bytes));
    return LEND_OK;
}

/* From the first byte of a block to behind its last. */
static enum lend_status measure_block(const struct lend_geometry *geometry, uint64_t length_bytes,
                                      uint64_t *out_extent, struct lend_error *error)
{
    uint64_t row = geometry->block_length_bytes;
    uint64_t inner = geometry->inner_stride_bytes;

    if (inner < row)
        return lend_fail(error, LEND_E_INVALID,
                         "rows overlap: inner stride of %llu bytes under their length of %llu",
                         ULL(inner), ULL(row));
    if (!end_of(geometry->inner_count - 1, inner, row, out_extent) || *out_extent > length_bytes)
        return lend_fail(error, LEND_E_INVALID,
                         "row %llu of block 0 ends beyond the region's %llu bytes",
                         ULL((length_bytes - row) / inner + 1), ULL(length_bytes));
    return LEND_OK;
}

static enum lend_status check_blocks(const struct lend_geometry *geometry, uint64_t extent,
                                     uint64_t length_bytes, struct lend_error *error)
{
    uint64_t row = geometry->block_length_bytes;
    uint64_t stride = geometry->stride_bytes;
    uint64_t first_rows = 0, end = 0;
    bool follow = stride >= extent;
    bool interleave = stride >= row && end_of(geometry->count - 1, stride, row, &first_rows) &&
                      geometry->inner_stride_bytes >= first_rows;

    if (!follow && !interleave)
        return lend_fail(
            error, LEND_E_INVALID,
            "blocks overlap: stride of %llu bytes under their extent of %llu, and inner "
            "stride of %llu under the extent of %llu rows",
            ULL(stride), ULL(extent), ULL(geometry->inner_stride_bytes), ULL(geometry->count));
    if (!end_of(geometry->count - 1, stride, extent, &end) || end > length_bytes)
        return lend_fail(error, LEND_E_INVALID, "block %llu ends beyond the region's %llu bytes",
                         ULL((length_bytes - extent) / stride + 1), ULL(length_bytes));
    return LEND_OK;
}

enum lend_status lend_geometry_complete(struct lend_geometry *geometry, uint64_t length_bytes,
                                        struct lend_error *error)
{
    struct lend_geometry made = *geometry;
    uint64_t extent = 0;

    if (is_empty(&made)) {
        made.block_length_bytes = length_bytes;
        made.count = 1;
    }
    enum lend_status status = check_counts(&made, length_bytes, error);
    if (status != LEND_OK)
        return status;

    /* Steps that are never taken are given their defaults, whatever they were. */
    if (made.inner_count <= 1) {
        made.inner_count = 1;
        made.inner_stride_bytes = made.block_length_bytes;
    }
    status = measure_block(&made, length_bytes, &extent, error);
    if (status != LEND_OK)
        return status;
    if (made.stride_bytes == 0 || made.count == 1)
        made.stride_bytes = extent;
    status = check_blocks(&made, extent, length_bytes, error);
    if (status != LEND_OK)
        return status;

    *geometry = made;
    return LEND_OK;
}
