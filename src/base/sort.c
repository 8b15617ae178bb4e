/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sort.h"

#include <stdbool.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, KEY_BITS = 64, FEW = 48 };

static bool is_sorted(const struct lend_sorted *places, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (places[i - 1].key > places[i].key)
            return false;
    return true;
}

/* By insertion: less than to count digits. */
static void sort_few(struct lend_sorted *places, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct lend_sorted one = places[i];
        size_t at = i;

        for (; at > 0 && places[at - 1].key > one.key; at--)
            places[at] = places[at - 1];
        places[at] = one;
    }
}

static uint64_t digit_of(uint64_t key, unsigned shift)
{
    return key >> shift & (DIGITS - 1);
}

/* One digit: count how often each value is there, then put each behind those with lower ones. */
static void pass(const struct lend_sorted *from, struct lend_sorted *to, size_t count,
                 unsigned shift)
{
    size_t starts[DIGITS] = {0};
    size_t before = 0;

    for (size_t i = 0; i < count; i++)
        starts[digit_of(from[i].key, shift)]++;
    for (size_t digit = 0; digit < DIGITS; digit++) {
        size_t here = starts[digit];

        starts[digit] = before;
        before += here;
    }
    for (size_t i = 0; i < count; i++)
        to[starts[digit_of(from[i].key, shift)]++] = from[i];
}

struct lend_sorted *lend_sort(struct lend_sorted *places, size_t count)
{
    struct lend_sorted *from = places, *to = places + count;
    uint64_t differing = 0;

    if (is_sorted(places, count))
        return places;
    if (count <= FEW) {
        sort_few(places, count);
        return places;
    }
    for (size_t i = 1; i < count; i++)
        differing |= places[i].key ^ places[0].key;
    for (unsigned shift = 0; shift < KEY_BITS; shift += DIGIT_BITS) {
        /* Digits begin at the lowest bit that differs: addresses are most often round. */
        while (shift < KEY_BITS && (differing >> shift & 1) == 0)
            shift++;
        if (shift == KEY_BITS)
            break;
        pass(from, to, count, shift);

        struct lend_sorted *sorted = to;
        to = from;
        from = sorted;
    }
    return from;
}
