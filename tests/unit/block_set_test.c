/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a set has exactly the blocks that its caller named, whether as a range or as a list, and
 * refuses what the region does not have, saying where. Method: each rule at its border; cover and
 * meet of random sets against an array of bools.
 */
#include "core/block_set.h"
#include "double.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BLOCKS = 200 }; /* of a region: several words of a bitmap, the last not full */

static struct lend_block_set range_of(uint64_t first, uint64_t count)
{
    return (struct lend_block_set){.first = first, .count = count};
}

static struct lend_block_set list_of(const void *blocks, uint32_t bits, uint64_t count)
{
    return (struct lend_block_set){.blocks = blocks, .index_bits = bits, .count = count};
}

static void refuse(struct lend_block_set set, enum lend_status wanted, const char *why)
{
    struct lend_blocks blocks, before;
    struct lend_error error = {0};

    memset(&blocks, 0x5a, sizeof blocks);
    before = blocks;
    assert_int_equal(lend_blocks_init(&blocks, &set, BLOCKS, &error), wanted);
    assert_int_equal(error.status, wanted);
    assert_string_equal(error.message, why);
    assert_memory_equal(&blocks, &before, sizeof blocks);
}

static void test_range_has_its_blocks_and_no_other(void **state)
{
    struct lend_block_set set = range_of(10, 5);
    struct lend_blocks blocks;

    (void)state;
    assert_int_equal(lend_blocks_init(&blocks, &set, BLOCKS, NULL), LEND_OK);
    assert_int_equal(blocks.count, 5);
    assert_true(lend_blocks_cover(&blocks, 10, 5));
    assert_true(lend_blocks_cover(&blocks, 14, 1));
    assert_false(lend_blocks_cover(&blocks, 9, 1));
    assert_false(lend_blocks_cover(&blocks, 15, 1));
    assert_false(lend_blocks_cover(&blocks, 10, 6));
    assert_false(lend_blocks_cover(&blocks, 11, UINT64_MAX));
    assert_false(lend_blocks_cover(&blocks, UINT64_MAX, 12)); /* a sum that wraps */
    lend_blocks_fini(&blocks);
}

static void test_range_without_count_goes_to_the_end(void **state)
{
    struct lend_block_set set = range_of(BLOCKS - 3, 0);
    struct lend_blocks blocks;

    (void)state;
    assert_int_equal(lend_blocks_init(&blocks, &set, BLOCKS, NULL), LEND_OK);
    assert_int_equal(blocks.count, 3);
    assert_true(lend_blocks_cover(&blocks, BLOCKS - 3, 3));
    lend_blocks_fini(&blocks);
}

static void test_range_beyond_the_region_is_refused(void **state)
{
    (void)state;
    refuse(range_of(200, 0), LEND_E_OUT_OF_RANGE, "block 200 of a region of 200 blocks");
    refuse(range_of(UINT64_MAX, 1), LEND_E_OUT_OF_RANGE,
           "block 18446744073709551615 of a region of 200 blocks");
    refuse(range_of(199, 2), LEND_E_OUT_OF_RANGE, "blocks 199 + 2 of a region of 200 blocks");
    refuse(range_of(1, UINT64_MAX), LEND_E_OUT_OF_RANGE,
           "blocks 1 + 18446744073709551615 of a region of 200 blocks");
}

static void check_list(const void *list, uint32_t bits)
{
    /* Of 7, 199, 7, 0, 64, 199. */
    struct lend_block_set set = list_of(list, bits, 6);
    struct lend_blocks blocks;

    assert_int_equal(lend_blocks_init(&blocks, &set, BLOCKS, NULL), LEND_OK);
    assert_int_equal(blocks.count, 4);
    for (uint64_t i = 0; i < BLOCKS + 60; i++)
        assert_int_equal(lend_blocks_cover(&blocks, i, 1), i == 0 || i == 7 || i == 64 || i == 199);
    lend_blocks_fini(&blocks);
}

static void test_list_has_each_block_once_in_any_order(void **state)
{
    (void)state;
    double_install(-1);
    check_list((const int32_t[]){7, 199, 7, 0, 64, 199}, 32);
    check_list((const int64_t[]){7, 199, 7, 0, 64, 199}, 64);
    assert_int_equal(double_live_allocations(), 0);
    assert_false(double_remove());
}

static void test_list_beyond_the_region_is_refused_with_the_position(void **state)
{
    (void)state;
    refuse(list_of((const int32_t[]){3, 199, 200}, 32, 3), LEND_E_OUT_OF_RANGE,
           "block 200 at position 2, of a region of 200 blocks");
    refuse(list_of((const int32_t[]){3, -1, 200}, 32, 3), LEND_E_OUT_OF_RANGE,
           "block -1 at position 1, of a region of 200 blocks");
    /* Its lower half alone would be block 3. */
    refuse(list_of((const int64_t[]){(INT64_C(1) << 32) + 3}, 64, 1), LEND_E_OUT_OF_RANGE,
           "block 4294967299 at position 0, of a region of 200 blocks");
    refuse(list_of((const int64_t[]){0, INT64_MIN}, 64, 2), LEND_E_OUT_OF_RANGE,
           "block -9223372036854775808 at position 1, of a region of 200 blocks");
}

static void test_lists_of_no_sense_are_refused(void **state)
{
    const int32_t list[] = {1, 2};

    (void)state;
    refuse(list_of(list, 32, 0), LEND_E_INVALID, "a list of 0 blocks");
    refuse(list_of(list, 32, LEND_REGION_BLOCKS_MAX + 1), LEND_E_INVALID,
           "a list of 2147483649 blocks");
    refuse(list_of(list, 0, 2), LEND_E_INVALID, "index_bits is 0; block numbers have 32 or 64");
    refuse(list_of(list, 16, 2), LEND_E_INVALID, "index_bits is 16; block numbers have 32 or 64");
}

static void test_no_memory_is_an_answer(void **state)
{
    const int32_t list[] = {100, 102};

    (void)state;
    double_install(0);
    refuse(list_of(list, 32, 2), LEND_E_NO_MEMORY, "no memory for a set of 3 blocks");
    assert_true(double_remove());
}

struct random {
    uint64_t seed;
};

static uint64_t draw(struct random *random, uint64_t bound)
{
    random->seed = random->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random->seed >> 33) % bound;
}

/* A random set, and the same as an array of bools. */
static void make(struct random *random, struct lend_blocks *blocks, bool *model)
{
    struct lend_block_set set;
    int64_t list[BLOCKS];

    memset(model, 0, BLOCKS * sizeof *model);
    if (draw(random, 3) == 0) {
        uint64_t first = draw(random, BLOCKS);

        set = range_of(first, 1 + draw(random, BLOCKS - first));
        memset(&model[first], 1, set.count * sizeof *model);
    } else {
        uint64_t base = draw(random, BLOCKS), width = 1 + draw(random, BLOCKS - base);

        set = list_of(list, 64, 1 + draw(random, BLOCKS));
        for (uint64_t i = 0; i < set.count; i++) {
            list[i] = (int64_t)(base + draw(random, width));
            model[list[i]] = true;
        }
    }
    assert_int_equal(lend_blocks_init(blocks, &set, BLOCKS, NULL), LEND_OK);
}

static void check_against_model(const struct lend_blocks *blocks, const bool *model)
{
    uint64_t count = 0;

    for (uint64_t first = 0; first < BLOCKS; first++) {
        bool covered = true;

        count += model[first];
        for (uint64_t end = first + 1; end <= BLOCKS; end++) {
            covered = covered && model[end - 1];
            if (lend_blocks_cover(blocks, first, end - first) != covered)
                fail_msg("blocks %d to %d", (int)first, (int)end);
        }
        assert_false(lend_blocks_cover(blocks, first, BLOCKS + 1 - first));
    }
    assert_int_equal(blocks->count, count);
}

static void test_random_sets_cover_and_meet_as_their_models_do(void **state)
{
    struct random random = {.seed = 1};
    int met = 0;

    (void)state;
    double_install(-1);
    for (int round = 0; round < 300; round++) {
        struct lend_blocks one, other;
        bool one_model[BLOCKS], other_model[BLOCKS], meet = false;

        make(&random, &one, one_model);
        make(&random, &other, other_model);
        check_against_model(&one, one_model);
        for (int i = 0; i < BLOCKS; i++)
            meet = meet || (one_model[i] && other_model[i]);
        assert_int_equal(lend_blocks_meet(&one, &other), meet);
        assert_int_equal(lend_blocks_meet(&other, &one), meet);
        met += meet;
        lend_blocks_fini(&one);
        lend_blocks_fini(&other);
    }
    assert_in_range(met, 30, 270);
    assert_false(double_remove());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_has_its_blocks_and_no_other),
        cmocka_unit_test(test_range_without_count_goes_to_the_end),
        cmocka_unit_test(test_range_beyond_the_region_is_refused),
        cmocka_unit_test(test_list_has_each_block_once_in_any_order),
        cmocka_unit_test(test_list_beyond_the_region_is_refused_with_the_position),
        cmocka_unit_test(test_lists_of_no_sense_are_refused),
        cmocka_unit_test(test_no_memory_is_an_answer),
        cmocka_unit_test(test_random_sets_cover_and_meet_as_their_models_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
