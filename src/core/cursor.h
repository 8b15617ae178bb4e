/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_CURSOR_H
#define LEND_CORE_CURSOR_H

#include "memory/device.h"
#include "wire/message.h"

#include <lend/region.h>

#include <sys/uio.h>

/*
 * A cursor: one side of a request, as the stream of its bytes in the order that both ends agree on
 * (region by region, run by run, block by block, row by row). Each end walks its own.
 */

/* One region of the side, its slice worked in. */
struct lend_extent {
    uint64_t address; /* of row 0 of block 0, from the slice's first byte on */
    uint64_t row_bytes;
    uint64_t stride_bytes;
    uint64_t inner_stride_bytes;
    uint64_t inner_count;
    const struct lend_device_memory *device; /* NULL: memory that a processor reaches */
};

/* Bytes in one piece, as an extent of a single block. */
static inline struct lend_extent lend_extent_of_bytes(uint64_t address, uint64_t length_bytes)
{
    return (struct lend_extent){
        .address = address,
        .row_bytes = length_bytes,
        .stride_bytes = length_bytes,
        .inner_stride_bytes = length_bytes,
        .inner_count = 1,
    };
}

/* A range side has one extent a range, row_bytes long, and a single run {0, 1}. */
struct lend_cursor {
    const struct lend_extent *extents;
    const struct lend_run *runs;
    uint64_t extent_count;
    uint64_t run_count;

    uint64_t extent; /* where we are: which extent, */
    uint64_t run;    /* which run of it, */
    uint64_t block;  /* which block of the run, */
    uint64_t row;    /* which row of the block, */
    uint64_t offset; /* how far into the row */
};

/* A contiguous piece of the stream. */
struct lend_segment {
    uint64_t address;
    uint64_t length_bytes;
};

void lend_cursor_init(struct lend_cursor *cursor, const struct lend_extent *extents,
                      uint64_t extent_count, const struct lend_run *runs, uint64_t run_count);

/* The next contiguous piece, at most max bytes, and step past it; pieces that touch are one. False
 * at the end. */
bool lend_cursor_next(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out);

/* The same within one extent, even where the next one touches: *out_extent says which. */
bool lend_cursor_next_of_extent(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out,
                                uint64_t *out_extent);

/* Say where the next bytes of the stream lie, at most max of them, in at most capacity pieces, and
 * step past them. Returns how many pieces. */
uint32_t lend_cursor_pieces(struct lend_cursor *cursor, uint64_t max, struct iovec *out,
                            uint32_t capacity);
/* Step past the next count bytes, or what is left of them. */
void lend_cursor_skip(struct lend_cursor *cursor, uint64_t count);

/* Copy the next count bytes of the stream to destination, or from source, and step past them. The
 * stream must have that many. */
void lend_cursor_gather(struct lend_cursor *cursor, void *destination, uint64_t count);
void lend_cursor_scatter(struct lend_cursor *cursor, const void *source, uint64_t count);
/* Copy the next count bytes of one stream, which others may be writing, to another of ours. */
void lend_cursor_copy(struct lend_cursor *to, struct lend_cursor *from, uint64_t count);
/* Zero the next count bytes, or what is left of them; returns how many. */
uint64_t lend_cursor_zero(struct lend_cursor *cursor, uint64_t count);

#endif
