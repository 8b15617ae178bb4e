/* SPDX-License-Identifier: Apache-2.0 */
#include "core/block_set.h"

#include "base/error.h"
#include "base/sys.h"

enum { WORD_BITS = 64 };

static bool has(const struct lend_blocks *blocks, uint64_t block)
{
    uint64_t bit = block - blocks->first;

    return bit < blocks->span && (blocks->bitmap == NULL ||
                                  (blocks->bitmap[bit / WORD_BITS] >> bit % WORD_BITS & 1) != 0);
}

static enum lend_status init_range(struct lend_blocks *blocks, const struct lend_block_set *set,
                                   uint64_t limit, struct lend_error *error)
{
    if (set->first >= limit)
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "block %llu of a region of %llu blocks",
                         (unsigned long long)set->first, (unsigned long long)limit);

    uint64_t count = set->count != 0 ? set->count : limit - set->first;
    if (count > limit - set->first)
        return lend_fail(
            error, LEND_E_OUT_OF_RANGE, "blocks %llu + %llu of a region of %llu blocks",
            (unsigned long long)set->first, (unsigned long long)count, (unsigned long long)limit);
    *blocks = (struct lend_blocks){.first = set->first, .span = count, .count = count};
    return LEND_OK;
}

static enum lend_status find_bounds(const struct lend_block_set *set, uint64_t limit,
                                    uint64_t *out_least, uint64_t *out_most,
                                    struct lend_error *error)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (uint64_t i = 0; i < set->count; i++) {
        int64_t index = lend_index_at(set->blocks, set->index_bits, i);

        if (index < 0 || (uint64_t)index >= limit)
            return lend_fail(error, LEND_E_OUT_OF_RANGE,
                             "block %lld at position %llu, of a region of %llu blocks",
                             (long long)index, (unsigned long long)i, (unsigned long long)limit);
        least = (uint64_t)index < least ? (uint64_t)index : least;
        most = (uint64_t)index > most ? (uint64_t)index : most;
    }
    *out_least = least;
    *out_most = most;
    return LEND_OK;
}

enum lend_status lend_blocks_init(struct lend_blocks *blocks, const struct lend_block_set *set,
                                  uint64_t region_block_count, struct lend_error *error)
{
    if (set->blocks == NULL)
        return init_range(blocks, set, region_block_count, error);
    if (set->index_bits != 32 && set->index_bits != 64)
        return lend_fail(error, LEND_E_INVALID, "index_bits is %u; block numbers have 32 or 64",
                         set->index_bits);
    if (set->count == 0 || set->count > LEND_REGION_BLOCKS_MAX)
        return lend_fail(error, LEND_E_INVALID, "a list of %llu blocks",
                         (unsigned long long)set->count);

    uint64_t least = 0, most = 0;
    enum lend_status status = find_bounds(set, region_block_count, &least, &most, error);
    if (status != LEND_OK)
        return status;

    struct lend_blocks made = {.first = least, .span = most - least + 1};
    made.bitmap = lend_sys->allocate((made.span + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t));
    if (made.bitmap == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a set of %llu blocks",
                         (unsigned long long)made.span);
    for (uint64_t i = 0; i < set->count; i++) {
        uint64_t bit = (uint64_t)lend_index_at(set->blocks, set->index_bits, i) - least;

        if (bit >= made.span) {
            lend_blocks_fini(&made);
            return lend_fail(error, LEND_E_INVALID, "the list of blocks changed while it was read");
        }
        uint64_t mask = UINT64_C(1) << bit % WORD_BITS;

        made.count += (made.bitmap[bit / WORD_BITS] & mask) == 0;
        made.bitmap[bit / WORD_BITS] |= mask;
    }
    *blocks = made;
    return LEND_OK;
}

void lend_blocks_fini(struct lend_blocks *blocks)
{
    lend_sys->release(blocks->bitmap);
    blocks->bitmap = NULL;
}

bool lend_blocks_cover(const struct lend_blocks *blocks, uint64_t first, uint64_t count)
{
    if (first < blocks->first || first - blocks->first >= blocks->span ||
        count > blocks->span - (first - blocks->first))
        return false;
    if (blocks->count == blocks->span)
        return true;
    for (uint64_t i = 0; i < count; i++)
        if (!has(blocks, first + i))
            return false;
    return true;
}

bool lend_blocks_meet(const struct lend_blocks *one, const struct lend_blocks *other)
{
    uint64_t first = one->first > other->first ? one->first : other->first;
    uint64_t one_end = one->first + one->span, other_end = other->first + other->span;
    uint64_t end = one_end < other_end ? one_end : other_end;

    if (first >= end)
        return false;
    if (one->bitmap == NULL && other->bitmap == NULL)
        return true;
    for (uint64_t block = first; block < end; block++)
        if (has(one, block) && has(other, block))
            return true;
    return false;
}
