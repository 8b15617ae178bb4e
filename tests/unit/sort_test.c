/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is sorted ascends, is what it was before, and keeps the order of equal keys. Method:
 * keys that differ in few bits and in many, low ones and high ones, few and thousands, in every
 * kind of order; each value knows the place that it had.
 */
#include "base/sort.h"

#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { MANY = 5000 };

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed ^ *seed >> 29;
}

/* The value of each is its key's address in `keys`, whose order is that before. */
static void check(const uint64_t *keys, size_t count)
{
    struct lend_sorted *places = malloc(2 * count * sizeof *places + 1);
    uint8_t *seen = calloc(count + 1, 1);

    assert_true(places != NULL && seen != NULL);
    for (size_t i = 0; i < count; i++)
        places[i] = (struct lend_sorted){.key = keys[i], .value = (void *)(uintptr_t)&keys[i]};
    const struct lend_sorted *sorted = lend_sort(places, count);
    for (size_t i = 0; i < count; i++) {
        const uint64_t *key = sorted[i].value;

        assert_true(*key == sorted[i].key);
        assert_int_equal(seen[key - keys], 0);
        seen[key - keys] = 1;
        if (i > 0) {
            assert_true(sorted[i - 1].key <= sorted[i].key);
            if (sorted[i - 1].key == sorted[i].key)
                assert_true((uintptr_t)sorted[i - 1].value < (uintptr_t)sorted[i].value);
        }
    }
    free(places);
    free(seen);
}

static void test_keys_of_any_bits_in_any_number_ascend(void **state)
{
    static const uint64_t masks[] = {0,
                                     1,
                                     0xff,
                                     UINT64_C(0x8000000000000000),
                                     UINT64_C(0x7ffffffff000),
                                     UINT64_C(0xffc0000000000000),
                                     UINT64_C(0x8000000000000001),
                                     UINT64_MAX};
    static const size_t counts[] = {0, 1, 2, 3, 47, 48, 49, 50, 1000, MANY};
    static uint64_t keys[MANY];
    uint64_t seed = 1;

    (void)state;
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint64_t same = draw(&seed) & ~masks[m];

            for (size_t i = 0; i < counts[c]; i++)
                keys[i] = (draw(&seed) & masks[m]) | same;
            check(keys, counts[c]);
        }
}

static void test_ascending_and_descending_keys_ascend(void **state)
{
    static uint64_t keys[MANY];

    (void)state;
    for (size_t count = 1; count <= MANY; count *= 7) {
        for (size_t i = 0; i < count; i++)
            keys[i] = UINT64_C(0x7f0000000000) + i * 4096;
        check(keys, count);
        for (size_t i = 0; i < count; i++)
            keys[i] = UINT64_C(0x7f0000000000) - i * 4096;
        check(keys, count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_of_any_bits_in_any_number_ascend),
        cmocka_unit_test(test_ascending_and_descending_keys_ascend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
