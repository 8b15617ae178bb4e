/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a geometry that is accepted never reaches beyond its region and never touches a byte twice;
 * one that is refused says why, and stays as it was. Method: the layouts of real caches; each rule
 * at its border; all small geometries against a map of bytes.
 */
#include "base/geometry.h"

#include <string.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define GEOMETRY(block, stride, blocks, inner_stride, rows)                                        \
    ((struct lend_geometry){.block_length_bytes = (block),                                         \
                            .stride_bytes = (stride),                                              \
                            .count = (blocks),                                                     \
                            .inner_stride_bytes = (inner_stride),                                  \
                            .inner_count = (rows)})

static void expect(struct lend_geometry given, uint64_t length, struct lend_geometry wanted)
{
    struct lend_error error = {0};
    enum lend_status status = lend_geometry_complete(&given, length, &error);

    if (status != LEND_OK)
        fail_msg("refused: %s", error.message);
    assert_int_equal(error.status, 0);
    assert_true(given.block_length_bytes == wanted.block_length_bytes);
    assert_true(given.stride_bytes == wanted.stride_bytes);
    assert_true(given.count == wanted.count);
    assert_true(given.inner_stride_bytes == wanted.inner_stride_bytes);
    assert_true(given.inner_count == wanted.inner_count);
}

static void refuse(struct lend_geometry given, uint64_t length, const char *why)
{
    const struct lend_geometry before = given;
    struct lend_error error = {0};

    assert_int_equal(lend_geometry_complete(&given, length, &error), LEND_E_INVALID);
    assert_int_equal(lend_geometry_complete(&given, length, NULL), LEND_E_INVALID);
    assert_int_equal(error.status, LEND_E_INVALID);
    assert_string_equal(error.message, why);
    assert_memory_equal(&given, &before, sizeof given);
}

static void test_all_zero_is_one_block(void **state)
{
    (void)state;
    expect(GEOMETRY(0, 0, 0, 0, 0), 12345, GEOMETRY(12345, 12345, 1, 12345, 1));
    expect(GEOMETRY(0, 0, 0, 0, 0), 1, GEOMETRY(1, 1, 1, 1, 1));
}

static void test_defaults_are_blocks_that_touch(void **state)
{
    (void)state;
    expect(GEOMETRY(64, 0, 4, 0, 0), 256, GEOMETRY(64, 64, 4, 64, 1));
    expect(GEOMETRY(64, 0, 4, 0, 1), 300, GEOMETRY(64, 64, 4, 64, 1));
    /* Two rows of 16 in 64, and the next block right behind the second. */
    expect(GEOMETRY(16, 0, 2, 64, 2), 160, GEOMETRY(16, 80, 2, 64, 2));
}

static void test_steps_that_are_never_taken_do_not_matter(void **state)
{
    (void)state;
    expect(GEOMETRY(64, 1, 1, 0, 0), 64, GEOMETRY(64, 64, 1, 64, 1));
    expect(GEOMETRY(64, UINT64_MAX, 1, UINT64_MAX, 1), 64, GEOMETRY(64, 64, 1, 64, 1));
    expect(GEOMETRY(64, 0, 2, 7, 1), 128, GEOMETRY(64, 64, 2, 64, 1));
}

static void test_interleaved_keys_and_values(void **state)
{
    /* One tensor [2][blocks][block]: the K half, then the V half. */
    const uint64_t block = 65536, blocks = 100, half = block * blocks;

    (void)state;
    expect(GEOMETRY(block, block, blocks, half, 2), 2 * half,
           GEOMETRY(block, block, blocks, half, 2));
    /* Halves further apart than they need be, blocks with a gap. */
    expect(GEOMETRY(block - 8, block, blocks, half + 64, 2), 2 * half + 64,
           GEOMETRY(block - 8, block, blocks, half + 64, 2));
    refuse(GEOMETRY(block, block, blocks, half, 2), 2 * half - 1,
           "block 99 ends beyond the region's 13107199 bytes");
    refuse(
        GEOMETRY(block, block, blocks, half - 1, 2), 2 * half,
        "blocks overlap: stride of 65536 bytes under their extent of 6619135, and inner stride of "
        "6553599 under the extent of 100 rows");
}

static void test_head_slices_of_larger_rows(void **state)
{
    /* 16 tokens a block, 8 heads of 128 values of 2 bytes: two of the heads, of every token. */
    const uint64_t row = 8 * 128 * 2, slice = 2 * 128 * 2, tokens = 16, blocks = 50;

    (void)state;
    expect(GEOMETRY(slice, row * tokens, blocks, row, tokens), row * tokens * blocks,
           GEOMETRY(slice, row * tokens, blocks, row, tokens));
    /* The last slice may begin behind the first byte, and the region ends with it. */
    expect(GEOMETRY(slice, row * tokens, blocks, row, tokens),
           row * tokens * blocks - (row - slice),
           GEOMETRY(slice, row * tokens, blocks, row, tokens));
    refuse(GEOMETRY(slice, row * tokens, blocks, row, tokens),
           row * tokens * blocks - (row - slice) - 1,
           "block 49 ends beyond the region's 1636863 bytes");
    struct lend_geometry geometry = GEOMETRY(slice, row * tokens, blocks, row, tokens);
    assert_int_equal(lend_geometry_complete(&geometry, row * tokens * blocks, NULL), LEND_OK);
    assert_true(lend_geometry_block_bytes(&geometry) == slice * tokens);
}

static void test_half_filled_geometries_are_refused(void **state)
{
    (void)state;
    refuse(GEOMETRY(64, 0, 0, 0, 0), 640,
           "geometry has 0 blocks of 64 bytes; give both, or leave all of it zero");
    refuse(GEOMETRY(0, 0, 10, 0, 0), 640,
           "geometry has 10 blocks of 0 bytes; give both, or leave all of it zero");
    refuse(GEOMETRY(0, 64, 0, 0, 0), 640,
           "geometry has 0 blocks of 0 bytes; give both, or leave all of it zero");
    refuse(GEOMETRY(0, 0, 0, 0, 1), 640,
           "geometry has 0 blocks of 0 bytes; give both, or leave all of it zero");
    refuse(GEOMETRY(0, 0, 0, 0, 0), 0,
           "geometry has 1 blocks of 0 bytes; give both, or leave all of it zero");
    refuse(GEOMETRY(64, 0, 1, 0, 2), 640,
           "rows overlap: inner stride of 0 bytes under their length of 64");
}

static void test_overlaps_are_refused(void **state)
{
    (void)state;
    refuse(GEOMETRY(64, 63, 10, 0, 0), 640,
           "blocks overlap: stride of 63 bytes under their extent of 64, and inner stride of 64 "
           "under the extent of 10 rows");
    refuse(GEOMETRY(64, 640, 1, 63, 2), 640,
           "rows overlap: inner stride of 63 bytes under their length of 64");
    /* Neither following nor interleaved. */
    refuse(GEOMETRY(10, 30, 3, 20, 3), 1000,
           "blocks overlap: stride of 30 bytes under their extent of 50, and inner stride of 20 "
           "under the extent of 3 rows");
}

static void test_first_block_or_row_beyond_the_end_is_named(void **state)
{
    (void)state;
    refuse(GEOMETRY(641, 0, 1, 0, 0), 640, "rows of 641 bytes in a region of 640 bytes");
    refuse(GEOMETRY(64, 64, 11, 0, 0), 640, "block 10 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, 100, 7, 0, 0), 640, "block 6 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, 0, 1, 100, 7), 640, "row 6 of block 0 ends beyond the region's 640 bytes");
}

static void test_limits_are_named(void **state)
{
    (void)state;
    refuse(GEOMETRY(1, 1, LEND_REGION_BLOCKS_MAX + 1, 0, 0), UINT64_C(1) << 46,
           "geometry has 2147483649 blocks, over the limit of 2147483648");
    refuse(GEOMETRY(1, 0, 1, 1, LEND_REGION_ROWS_MAX + 1), UINT64_C(1) << 46,
           "geometry has 1048577 rows in a block, over the limit of 1048576");
    expect(GEOMETRY(1, 1, LEND_REGION_BLOCKS_MAX, 0, 0), UINT64_C(1) << 46,
           GEOMETRY(1, 1, LEND_REGION_BLOCKS_MAX, 1, 1));
}

static void test_arithmetic_that_wraps_is_refused(void **state)
{
    const uint64_t large = UINT64_C(1) << 63;

    (void)state;
    /* Each would be small after wrapping. */
    refuse(GEOMETRY(64, large, 3, 0, 0), 640, "block 1 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, UINT64_MAX, 2, 0, 0), 640, "block 1 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, 0, 1, large, 3), 640,
           "row 1 of block 0 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, 64, 2, UINT64_MAX, 2), 640,
           "row 1 of block 0 ends beyond the region's 640 bytes");
    refuse(GEOMETRY(64, (UINT64_C(1) << 63) + 64, 3, 128, 2), 640,
           "block 1 ends beyond the region's 640 bytes");
}

/* Do the rows of all blocks lie in the region, no byte in two of them? By looking at each byte. */
static bool is_sound(const struct lend_geometry *geometry, uint64_t length)
{
    bool taken[64] = {false};

    for (uint64_t b = 0; b < geometry->count; b++) {
        for (uint64_t r = 0; r < geometry->inner_count; r++) {
            for (uint64_t i = 0; i < geometry->block_length_bytes; i++) {
                uint64_t at = b * geometry->stride_bytes + r * geometry->inner_stride_bytes + i;

                if (at >= length || taken[at])
                    return false;
                taken[at] = true;
            }
        }
    }
    return true;
}

static void check_small(struct lend_geometry given, uint64_t length, unsigned *accepted)
{
    struct lend_geometry made = given;

    if (lend_geometry_complete(&made, length, NULL) != LEND_OK)
        return;
    ++*accepted;
    assert_true(made.block_length_bytes > 0 && made.stride_bytes > 0 && made.count > 0);
    assert_true(made.inner_stride_bytes > 0 && made.inner_count > 0);
    assert_true(is_sound(&made, length));
    /* Complete is complete. */
    struct lend_geometry again = made;
    assert_int_equal(lend_geometry_complete(&again, length, NULL), LEND_OK);
    assert_memory_equal(&again, &made, sizeof made);
}

static void test_every_small_geometry_that_is_accepted_is_sound(void **state)
{
    unsigned accepted = 0;

    (void)state;
    for (uint64_t length = 1; length <= 24; length++) {
        for (uint64_t n = 0; n < 7 * 8 * 4 * 9 * 4; n++) {
            struct lend_geometry given =
                GEOMETRY(n % 7, n / 7 % 8, n / 56 % 4, n / 224 % 9, n / 2016 % 4);

            check_small(given, length, &accepted);
        }
    }
    assert_true(accepted > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_zero_is_one_block),
        cmocka_unit_test(test_defaults_are_blocks_that_touch),
        cmocka_unit_test(test_steps_that_are_never_taken_do_not_matter),
        cmocka_unit_test(test_interleaved_keys_and_values),
        cmocka_unit_test(test_head_slices_of_larger_rows),
        cmocka_unit_test(test_half_filled_geometries_are_refused),
        cmocka_unit_test(test_overlaps_are_refused),
        cmocka_unit_test(test_first_block_or_row_beyond_the_end_is_named),
        cmocka_unit_test(test_limits_are_named),
        cmocka_unit_test(test_arithmetic_that_wraps_is_refused),
        cmocka_unit_test(test_every_small_geometry_that_is_accepted_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
