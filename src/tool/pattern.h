/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_PATTERN_H
#define LEND_TOOL_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/*
 * What a block holds, so that each of its words tells whose it is.
 *
 * Word i of a block is origin + i * step, where origin is a bijection of the mark below and step an
 * odd constant: words of one block all differ, words of different blocks differ but for chance in
 * 2^64, and from any word and its place the mark can be computed back.
 */
struct mark {
    uint32_t owner;      /* process id, below 2^22 (the kernel's limit) */
    uint32_t region;     /* below 2^10 */
    uint32_t block;      /* below 2^20 */
    uint32_t generation; /* below 2^12; higher bits are dropped */
};

enum { PATTERN_BLOCKS_MAX = 1 << 20, PATTERN_REGIONS_MAX = 1 << 10, PATTERN_GENERATIONS = 1 << 12 };

/* bytes is a multiple of 8, here and below. */
void pattern_fill(void *block, size_t bytes, const struct mark *mark);

/* How many words are not those of the mark. */
size_t pattern_count_wrong(const void *block, size_t bytes, const struct mark *mark);

/* How many words are of neither mark, at their place. */
size_t pattern_count_foreign(const void *block, size_t bytes, const struct mark *one,
                             const struct mark *other);

/* The first wrong word: its place, and the mark that it tells. Only if there is one. */
size_t pattern_find_wrong(const void *block, size_t bytes, const struct mark *mark,
                          struct mark *out_told);

#endif
