/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cursor.h"

#include "base/copy.h"

#include <assert.h>
#include <string.h>

void lend_cursor_init(struct lend_cursor *cursor, const struct lend_extent *extents,
                      uint64_t extent_count, const struct lend_run *runs, uint64_t run_count)
{
    assert(extent_count == 0 || (extents != NULL && extents[0].row_bytes > 0));
    assert(extent_count == 0 || (runs != NULL && run_count > 0 && runs[0].count > 0));

    *cursor = (struct lend_cursor){
        .extents = extents, .runs = runs, .extent_count = extent_count, .run_count = run_count};
}

static inline uint64_t address_of(const struct lend_cursor *cursor)
{
    const struct lend_extent *extent = &cursor->extents[cursor->extent];

    return extent->address +
           (cursor->runs[cursor->run].first + cursor->block) * extent->stride_bytes +
           cursor->row * extent->inner_stride_bytes + cursor->offset;
}

static inline void next_run(struct lend_cursor *cursor)
{
    cursor->block = 0;
    cursor->row = 0;
    cursor->offset = 0;
    if (++cursor->run == cursor->run_count) {
        cursor->run = 0;
        cursor->extent++;
    }
}

static inline void next_block(struct lend_cursor *cursor)
{
    cursor->row = 0;
    cursor->offset = 0;
    if (++cursor->block == cursor->runs[cursor->run].count)
        next_run(cursor);
}

/* Stand at byte `at` of the rows of the present block, counted from its first row. */
static inline void stand_in_block(struct lend_cursor *cursor, uint64_t row_bytes, uint64_t at)
{
    cursor->row = at < row_bytes ? 0 : at / row_bytes;
    cursor->offset = at - cursor->row * row_bytes;
}

/* Rows that do not touch: step to the end of this one, or by max. */
static inline uint64_t step_in_row(struct lend_cursor *cursor, const struct lend_extent *extent,
                                   uint64_t max)
{
    uint64_t left = extent->row_bytes - cursor->offset;

    if (left > max) {
        cursor->offset += max;
        return max;
    }
    cursor->offset = 0;
    if (++cursor->row == extent->inner_count)
        next_block(cursor);
    return left;
}

/* Rows that touch, in blocks that do not: step to the end of this block, or by max. */
static inline uint64_t step_in_block(struct lend_cursor *cursor, const struct lend_extent *extent,
                                     uint64_t max)
{
    uint64_t at = cursor->row * extent->row_bytes + cursor->offset;
    uint64_t left = extent->row_bytes * extent->inner_count - at;

    if (left > max) {
        stand_in_block(cursor, extent->row_bytes, at + max);
        return max;
    }
    next_block(cursor);
    return left;
}

/* Blocks that touch: step to the end of this run, or by max. Only a run that is cut is divided. */
static inline uint64_t step_in_run(struct lend_cursor *cursor, const struct lend_extent *extent,
                                   uint64_t max)
{
    uint64_t block_bytes = extent->stride_bytes;
    uint64_t at = cursor->block * block_bytes + cursor->row * extent->row_bytes + cursor->offset;
    uint64_t left = cursor->runs[cursor->run].count * block_bytes - at;

    if (left > max) {
        at += max;
        cursor->block = at / block_bytes;
        stand_in_block(cursor, extent->row_bytes, at - cursor->block * block_bytes);
        return max;
    }
    next_run(cursor);
    return left;
}

/* Step over what lies in one piece by the extent's own layout, at most max bytes. */
static inline uint64_t step(struct lend_cursor *cursor, uint64_t max)
{
    const struct lend_extent *extent = &cursor->extents[cursor->extent];

    if (extent->inner_count != 1 && extent->inner_stride_bytes != extent->row_bytes)
        return step_in_row(cursor, extent, max);
    if (extent->stride_bytes != extent->row_bytes * extent->inner_count)
        return step_in_block(cursor, extent, max);
    return step_in_run(cursor, extent, max);
}

/*
 * What most steps are: a whole block in one piece, alone in its run, with another run of the same
 * extent behind it that does not touch. The general way gives the same, in thrice the time.
 */
static inline bool next_scattered(struct lend_cursor *cursor, uint64_t max,
                                  struct lend_segment *out)
{
    const struct lend_extent *extent = &cursor->extents[cursor->extent];
    const struct lend_run *run = &cursor->runs[cursor->run];
    uint64_t length = extent->row_bytes;

    if (cursor->offset != 0 || run->count != 1 || cursor->run + 1 == cursor->run_count ||
        extent->inner_count != 1 || length > max)
        return false;

    uint64_t address = extent->address + run[0].first * extent->stride_bytes;
    if (extent->address + run[1].first * extent->stride_bytes == address + length)
        return false;

    cursor->run++;
    *out = (struct lend_segment){.address = address, .length_bytes = length};
    return true;
}

/* The same of strided blocks: one in the middle of its run, where the next one does not touch, or
 * is not asked for; or, where pieces end with their extent, the only one of its extent. */
static inline bool next_strided(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out)
{
    const struct lend_extent *extent = &cursor->extents[cursor->extent];
    const struct lend_run *run = &cursor->runs[cursor->run];
    uint64_t length = extent->row_bytes;

    if (cursor->offset != 0 || extent->inner_count != 1 || length > max)
        return false;
    *out = (struct lend_segment){.address = extent->address +
                                            (run->first + cursor->block) * extent->stride_bytes,
                                 .length_bytes = length};
    if (run->count == 1 && cursor->run_count == 1) {
        cursor->extent++;
        return true;
    }
    if (cursor->block + 1 >= run->count || (extent->stride_bytes == length && length < max))
        return false;
    cursor->block++;
    return true;
}

static inline bool next(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out)
{
    if (cursor->extent == cursor->extent_count || max == 0)
        return false;
    if (next_scattered(cursor, max, out))
        return true;

    uint64_t address = address_of(cursor);
    uint64_t length = step(cursor, max);

    /* What follows may touch although the layout does not say so: runs that meet, regions side by
     * side. */
    while (length < max && cursor->extent != cursor->extent_count &&
           address_of(cursor) == address + length)
        length += step(cursor, max - length);

    *out = (struct lend_segment){.address = address, .length_bytes = length};
    return true;
}

bool lend_cursor_next(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out)
{
    return next(cursor, max, out);
}

/* By itself, so that the usual ways save no registers for it. */
__attribute__((noinline)) static void next_by_steps(struct lend_cursor *cursor, uint64_t max,
                                                    struct lend_segment *out)
{
    uint64_t extent = cursor->extent;
    uint64_t address = address_of(cursor);
    uint64_t length = step(cursor, max);

    while (length < max && cursor->extent == extent && address_of(cursor) == address + length)
        length += step(cursor, max - length);
    *out = (struct lend_segment){.address = address, .length_bytes = length};
}

bool lend_cursor_next_of_extent(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out,
                                uint64_t *out_extent)
{
    if (cursor->extent == cursor->extent_count || max == 0)
        return false;
    *out_extent = cursor->extent;
    if (!next_strided(cursor, max, out) && !next_scattered(cursor, max, out))
        next_by_steps(cursor, max, out);
    return true;
}

/* The public interface counts addresses in 64 bits; here they become pointers. */
static inline void *pointer_to(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

uint32_t lend_cursor_pieces(struct lend_cursor *cursor, uint64_t max, struct iovec *out,
                            uint32_t capacity)
{
    struct lend_segment segment;
    uint32_t count = 0;

    while (count < capacity && next(cursor, max, &segment)) {
        out[count++] = (struct iovec){.iov_base = pointer_to(segment.address),
                                      .iov_len = segment.length_bytes};
        max -= segment.length_bytes;
    }
    return count;
}

void lend_cursor_skip(struct lend_cursor *cursor, uint64_t count)
{
    struct lend_segment segment;

    while (count > 0 && next(cursor, count, &segment))
        count -= segment.length_bytes;
}

void lend_cursor_gather(struct lend_cursor *cursor, void *destination, uint64_t count)
{
    struct lend_segment segment;
    uint8_t *to = destination;

    while (count > 0 && next(cursor, count, &segment)) {
        lend_copy_racing(to, pointer_to(segment.address), segment.length_bytes);
        to += segment.length_bytes;
        count -= segment.length_bytes;
    }
    assert(count == 0); /* the stream was shorter than its caller had counted */
}

void lend_cursor_scatter(struct lend_cursor *cursor, const void *source, uint64_t count)
{
    struct lend_segment segment;
    const uint8_t *from = source;

    while (count > 0 && next(cursor, count, &segment)) {
        memcpy(pointer_to(segment.address), from, segment.length_bytes);
        from += segment.length_bytes;
        count -= segment.length_bytes;
    }
    assert(count == 0); /* as above */
}

/* What most copies are: whole blocks in one piece, each alone in its run, on both sides. The
 * general way gives the same, in thrice the time. Returns how many bytes it copied. */
static inline uint64_t copy_scattered(struct lend_cursor *to, struct lend_cursor *from,
                                      uint64_t count)
{
    if (to->extent == to->extent_count || from->extent == from->extent_count)
        return 0;

    const struct lend_extent *target = &to->extents[to->extent];
    const struct lend_extent *source = &from->extents[from->extent];
    uint64_t length = source->row_bytes, done = 0;

    if (to->offset != 0 || from->offset != 0 || target->row_bytes != length ||
        target->inner_count != 1 || source->inner_count != 1)
        return 0;
    while (count - done >= length && to->run + 1 < to->run_count &&
           from->run + 1 < from->run_count && to->runs[to->run].count == 1 &&
           from->runs[from->run].count == 1) {
        lend_copy_racing(
            pointer_to(target->address + to->runs[to->run].first * target->stride_bytes),
            pointer_to(source->address + from->runs[from->run].first * source->stride_bytes),
            length);
        to->run++;
        from->run++;
        done += length;
    }
    return done;
}

void lend_cursor_copy(struct lend_cursor *to, struct lend_cursor *from, uint64_t count)
{
    struct lend_segment target = {0}, source;

    for (;;) {
        count -= copy_scattered(to, from, count);
        if (count == 0 || !next(from, count, &source))
            break;
        count -= source.length_bytes;
        while (source.length_bytes > 0) {
            if (target.length_bytes == 0 && !next(to, source.length_bytes, &target))
                break;

            uint64_t length = target.length_bytes < source.length_bytes ? target.length_bytes
                                                                        : source.length_bytes;
            lend_copy_racing(pointer_to(target.address), pointer_to(source.address), length);
            source.address += length;
            source.length_bytes -= length;
            target.address += length;
            target.length_bytes -= length;
        }
        if (source.length_bytes > 0)
            break;
    }
    assert(count == 0); /* as above */
}

uint64_t lend_cursor_zero(struct lend_cursor *cursor, uint64_t count)
{
    struct lend_segment segment;
    uint64_t done = 0;

    while (done < count && next(cursor, count - done, &segment)) {
        memset(pointer_to(segment.address), 0, segment.length_bytes);
        done += segment.length_bytes;
    }
    return done;
}
