/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/pattern.h"

#include <string.h>

/* Odd, so that multiplication by it is a bijection of 64-bit words; the golden ratio's digits. */
static const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
/* Another odd number, and its inverse modulo 2^64. */
static const uint64_t spread = UINT64_C(0xd6e8feb86659fd93);
static const uint64_t gather = UINT64_C(0xcfee444d8b59a89b);

enum { OWNER_BITS = 22, REGION_BITS = 10, BLOCK_BITS = 20, GENERATION_BITS = 12 };
_Static_assert(OWNER_BITS + REGION_BITS + BLOCK_BITS + GENERATION_BITS == 64, "a mark is a word");

static uint64_t low(uint64_t value, unsigned bits)
{
    return value & ((UINT64_C(1) << bits) - 1);
}

static uint64_t origin_of(const struct mark *mark)
{
    uint64_t packed = low(mark->owner, OWNER_BITS);

    packed = packed << REGION_BITS | low(mark->region, REGION_BITS);
    packed = packed << BLOCK_BITS | low(mark->block, BLOCK_BITS);
    packed = packed << GENERATION_BITS | low(mark->generation, GENERATION_BITS);
    packed *= spread;
    return packed ^ packed >> 32;
}

static struct mark mark_of(uint64_t origin)
{
    uint64_t packed = (origin ^ origin >> 32) * gather;

    return (struct mark){
        .generation = (uint32_t)low(packed, GENERATION_BITS),
        .block = (uint32_t)low(packed >> GENERATION_BITS, BLOCK_BITS),
        .region = (uint32_t)low(packed >> (GENERATION_BITS + BLOCK_BITS), REGION_BITS),
        .owner = (uint32_t)(packed >> (GENERATION_BITS + BLOCK_BITS + REGION_BITS)),
    };
}

void pattern_fill(void *block, size_t bytes, const struct mark *mark)
{
    uint64_t *words = block;
    uint64_t word = origin_of(mark);

    for (size_t i = 0; i < bytes / sizeof *words; i++, word += step)
        words[i] = word;
}

size_t pattern_count_wrong(const void *block, size_t bytes, const struct mark *mark)
{
    const uint64_t *words = block;
    uint64_t word = origin_of(mark);
    size_t wrong = 0;

    for (size_t i = 0; i < bytes / sizeof *words; i++, word += step)
        wrong += words[i] != word;
    return wrong;
}

size_t pattern_count_foreign(const void *block, size_t bytes, const struct mark *one,
                             const struct mark *other)
{
    const uint64_t *words = block;
    uint64_t first = origin_of(one);
    uint64_t second = origin_of(other);
    size_t foreign = 0;

    for (size_t i = 0; i < bytes / sizeof *words; i++, first += step, second += step)
        foreign += words[i] != first && words[i] != second;
    return foreign;
}

size_t pattern_find_wrong(const void *block, size_t bytes, const struct mark *mark,
                          struct mark *out_told)
{
    const uint64_t *words = block;
    uint64_t origin = origin_of(mark);

    for (size_t i = 0; i < bytes / sizeof *words; i++) {
        if (words[i] == origin + i * step)
            continue;
        *out_told = mark_of(words[i] - i * step);
        return i;
    }
    return bytes / sizeof *words;
}
