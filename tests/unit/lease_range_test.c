/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a range of bytes is let through exactly if a lease's blocks select each byte of it, and the
 * answer to a huge range comes at once. Method: the layouts of caches by hand; every offset and
 * length of small random geometries against a map of bytes; ranges that no loop over bytes or over
 * rows times blocks would finish.
 */
#include "base/geometry.h"
#include "core/lease.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BYTES_MAX = 72, BLOCKS_MAX = 8 };

/* A part of a lease, with what it points at. */
struct stage {
    struct lend_region region;
    struct lend_blocks blocks;
};

/* Geometry: bytes of a row, stride, blocks, inner stride, rows. */
static void set_up(struct stage *stage, const uint64_t *geometry, uint64_t length,
                   const struct lend_block_set *set)
{
    *stage = (struct stage){.region.geometry = {.block_length_bytes = geometry[0],
                                                .stride_bytes = geometry[1],
                                                .count = geometry[2],
                                                .inner_stride_bytes = geometry[3],
                                                .inner_count = geometry[4]}};
    assert_int_equal(lend_geometry_complete(&stage->region.geometry, length, NULL), LEND_OK);
    assert_int_equal(lend_blocks_init(&stage->blocks, set, stage->region.geometry.count, NULL),
                     LEND_OK);
}

static enum lend_status check(const struct stage *stage, uint64_t offset, uint64_t length,
                              struct lend_error *error)
{
    const struct lend_run_range range = {
        .region_id = 5, .offset_bytes = offset, .length_bytes = length};

    return lend_lease_check_range(&stage->region.geometry, &stage->blocks, &range, error);
}

static bool is_allowed(const struct stage *stage, uint64_t offset, uint64_t length)
{
    struct lend_error error = {0};
    enum lend_status status = check(stage, offset, length, &error);

    assert_int_equal(error.status, status);
    if (status != LEND_OK)
        assert_int_equal(status, LEND_E_OUT_OF_RANGE);
    return status == LEND_OK;
}

/* Which bytes do the blocks select? One by one. */
static void map_bytes(const struct stage *stage, bool *map)
{
    const struct lend_geometry *geometry = &stage->region.geometry;

    memset(map, 0, BYTES_MAX * sizeof *map);
    for (uint64_t b = 0; b < geometry->count; b++)
        for (uint64_t r = 0; r < geometry->inner_count; r++)
            for (uint64_t i = 0; i < geometry->block_length_bytes; i++)
                map[b * geometry->stride_bytes + r * geometry->inner_stride_bytes + i] =
                    lend_blocks_cover(&stage->blocks, b, 1);
}

/* Every offset and length, beyond the end too. */
static void check_every_range(const struct stage *stage)
{
    const struct lend_geometry *geometry = &stage->region.geometry;
    bool map[BYTES_MAX];

    map_bytes(stage, map);
    for (uint64_t offset = 0; offset < BYTES_MAX; offset++) {
        bool allowed = true;

        for (uint64_t end = offset + 1; end <= BYTES_MAX + 1; end++) {
            allowed = allowed && end <= BYTES_MAX && map[end - 1];
            if (is_allowed(stage, offset, end - offset) != allowed)
                fail_msg("%d to %d of rows of %d, stride %d, %d blocks, inner stride %d, %d rows",
                         (int)offset, (int)end, (int)geometry->block_length_bytes,
                         (int)geometry->stride_bytes, (int)geometry->count,
                         (int)geometry->inner_stride_bytes, (int)geometry->inner_count);
        }
        assert_false(is_allowed(stage, offset, UINT64_MAX));
        assert_false(is_allowed(stage, offset, UINT64_MAX - offset));
        assert_false(is_allowed(stage, UINT64_MAX - offset, 1));
        assert_false(is_allowed(stage, UINT64_MAX - offset, offset + 2)); /* a sum that wraps */
    }
}

static uint64_t draw(uint64_t *seed, uint64_t bound)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % bound;
}

/* Blocks that follow one another, or interleave; that touch, or leave gaps. */
static void draw_geometry(uint64_t *seed, uint64_t *geometry)
{
    uint64_t row = 1 + draw(seed, 4), count = 1 + draw(seed, 4), rows = 1 + draw(seed, 3);
    uint64_t row_gap = draw(seed, 2) * draw(seed, 3), block_gap = draw(seed, 2) * draw(seed, 3);
    bool is_interleaved = draw(seed, 2) == 0;
    uint64_t stride = is_interleaved ? row + block_gap : (row + row_gap) * rows + block_gap;
    uint64_t inner = is_interleaved ? stride * count + row_gap : row + row_gap;

    memcpy(geometry, (uint64_t[]){row, stride, count, inner, rows}, 5 * sizeof *geometry);
}

static void test_random_geometries_allow_what_a_map_of_bytes_does(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 400; round++) {
        uint64_t geometry[5];
        int64_t list[BLOCKS_MAX];
        struct stage stage;

        draw_geometry(&seed, geometry);
        struct lend_block_set set = {.first = draw(&seed, geometry[2])};
        if (draw(&seed, 3) != 0) {
            set = (struct lend_block_set){
                .blocks = list, .index_bits = 64, .count = 1 + draw(&seed, BLOCKS_MAX)};
            for (uint64_t i = 0; i < set.count; i++)
                list[i] = (int64_t)draw(&seed, geometry[2]);
        }
        set_up(&stage, geometry, BYTES_MAX, &set);
        check_every_range(&stage);
        lend_blocks_fini(&stage.blocks);
    }
}

static void test_interleaved_keys_and_values_are_allowed_half_by_half(void **state)
{
    /* [2][4 blocks][8 bytes]: blocks 1 and 2 at 8 of each half. */
    const struct lend_block_set set = {.first = 1, .count = 2};
    struct stage stage;

    (void)state;
    set_up(&stage, (uint64_t[]){8, 8, 4, 32, 2}, 64, &set);
    assert_true(is_allowed(&stage, 8, 16));
    assert_true(is_allowed(&stage, 40, 16));
    assert_true(is_allowed(&stage, 13, 9));
    assert_false(is_allowed(&stage, 7, 2));
    assert_false(is_allowed(&stage, 8, 17));
    assert_false(is_allowed(&stage, 32, 1)); /* block 0 of the values */
    check_every_range(&stage);

    /* All blocks: the halves touch. */
    set_up(&stage, (uint64_t[]){8, 8, 4, 32, 2}, 64, &(struct lend_block_set){0});
    assert_true(is_allowed(&stage, 0, 64));
    check_every_range(&stage);
}

static void test_head_slices_are_allowed_and_nothing_between_them(void **state)
{
    /* 3 blocks of 2 tokens of 10 bytes: of each, the first 4. */
    const struct lend_block_set set = {.first = 1};
    struct stage stage;

    (void)state;
    set_up(&stage, (uint64_t[]){4, 20, 3, 10, 2}, 60, &set);
    assert_true(is_allowed(&stage, 20, 4));
    assert_true(is_allowed(&stage, 31, 3));
    assert_false(is_allowed(&stage, 20, 5));
    assert_false(is_allowed(&stage, 0, 4));
    assert_false(is_allowed(&stage, 60, 4));
    check_every_range(&stage);
}

static void test_refusal_names_the_first_byte_that_is_not_leased(void **state)
{
    const struct lend_block_set set = {.first = 1, .count = 1};
    struct lend_error error = {0};
    struct stage stage;

    (void)state;
    set_up(&stage, (uint64_t[]){8, 12, 3, 0, 0}, 60, &set);
    assert_int_equal(check(&stage, 14, 20, &error), LEND_E_OUT_OF_RANGE);
    assert_string_equal(error.message, "bytes 14 + 20 of region 5: those from 20 on are not all in "
                                       "the lease");
}

static void test_huge_ranges_are_answered_at_once(void **state)
{
    const uint64_t large = UINT64_C(1) << 46, blocks = LEND_REGION_BLOCKS_MAX;
    struct stage stage;

    (void)state;
    set_up(&stage, (uint64_t[5]){0}, large, &(struct lend_block_set){0});
    assert_true(is_allowed(&stage, 0, large));
    assert_true(is_allowed(&stage, 1, large - 1));
    assert_false(is_allowed(&stage, 1, large));
    assert_false(is_allowed(&stage, 0, UINT64_MAX));

    set_up(&stage, (uint64_t[]){1, 1, blocks, 0, 0}, blocks, &(struct lend_block_set){0});
    assert_true(is_allowed(&stage, 0, blocks));
    assert_false(is_allowed(&stage, 1, blocks));

    set_up(&stage, (uint64_t[]){1, 1000, 1000, 1, 1000}, large, &(struct lend_block_set){0});
    assert_true(is_allowed(&stage, 0, 1000000));
    assert_false(is_allowed(&stage, 0, UINT64_MAX));
}

static void test_list_of_all_blocks_of_many_rows_is_looked_at_once(void **state)
{
    const uint64_t rows = 1 << 18, blocks = 1 << 18;
    int32_t *list = malloc(blocks * sizeof *list);
    struct stage stage;

    (void)state;
    assert_non_null(list);
    for (uint64_t i = 0; i < blocks; i++)
        list[i] = (int32_t)i;
    set_up(&stage, (uint64_t[]){1, 1, blocks, blocks, rows}, rows * blocks,
           &(struct lend_block_set){.blocks = list, .index_bits = 32, .count = blocks});
    assert_true(is_allowed(&stage, 0, rows * blocks));
    assert_true(is_allowed(&stage, 1, rows * blocks - 1));
    assert_false(is_allowed(&stage, 1, rows * blocks));
    assert_false(is_allowed(&stage, 0, UINT64_MAX));
    lend_blocks_fini(&stage.blocks);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_geometries_allow_what_a_map_of_bytes_does),
        cmocka_unit_test(test_interleaved_keys_and_values_are_allowed_half_by_half),
        cmocka_unit_test(test_head_slices_are_allowed_and_nothing_between_them),
        cmocka_unit_test(test_refusal_names_the_first_byte_that_is_not_leased),
        cmocka_unit_test(test_huge_ranges_are_answered_at_once),
        cmocka_unit_test(test_list_of_all_blocks_of_many_rows_is_looked_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
