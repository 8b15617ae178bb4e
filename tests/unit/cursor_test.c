/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: a cursor walks the bytes of a side in the order that both ends agree on, in pieces that are
 * as long as they can be, and goes on from any byte. Method: a model that lists the address of
 * every byte, one by one, over random geometries (blocks that touch, that have gaps, that
 * interleave, slices of rows) and random runs; each operation is compared with the model, byte by
 * byte.
 */

#include "core/cursor.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum {
    ROUNDS = 1000,
    EXTENTS_MAX = 3,
    RUNS_MAX = 5,
    EXTENT_BYTES = 2048,
    ARENA_BYTES = EXTENTS_MAX * EXTENT_BYTES,
};

struct side {
    uint8_t *arena;
    struct lend_extent extents[EXTENTS_MAX];
    struct lend_run runs[RUNS_MAX];
    uint64_t extent_count;
    uint64_t run_count;
    uint64_t *addresses; /* of every byte of the stream, in order */
    uint64_t bytes;
};

static uint64_t draw(uint64_t *random, uint64_t bound)
{
    uint64_t z = (*random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % bound;
}

static void list_addresses(struct side *side)
{
    uint64_t room = 1 << 20;

    side->addresses = malloc(room * sizeof *side->addresses);
    side->bytes = 0;
    assert_non_null(side->addresses);
    for (uint64_t e = 0; e < side->extent_count; e++) {
        const struct lend_extent *extent = &side->extents[e];

        for (uint64_t r = 0; r < side->run_count; r++)
            for (uint64_t b = 0; b < side->runs[r].count; b++)
                for (uint64_t row = 0; row < extent->inner_count; row++)
                    for (uint64_t i = 0; i < extent->row_bytes; i++) {
                        assert_true(side->bytes < room);
                        side->addresses[side->bytes++] =
                            extent->address + (side->runs[r].first + b) * extent->stride_bytes +
                            row * extent->inner_stride_bytes + i;
                    }
    }
}

/* Of `count` blocks within EXTENT_BYTES; every layout that a geometry allows comes up. */
static struct lend_extent random_extent(uint64_t *random, uint64_t base, uint64_t count)
{
    struct lend_extent extent = {.row_bytes = 1 + draw(random, 20),
                                 .inner_count = 1 + draw(random, 4)};
    uint64_t skip = draw(random, 2) * draw(random, 4); /* a slice that does not begin its row */
    uint64_t row = extent.row_bytes + skip + draw(random, 2) * draw(random, 4);

    if (draw(random, 2) == 0) {
        extent.inner_stride_bytes = row;
        extent.stride_bytes = row * extent.inner_count + draw(random, 2) * draw(random, 9);
    } else {
        extent.stride_bytes = row;
        extent.inner_stride_bytes = row * count + draw(random, 2) * draw(random, 9);
    }
    extent.address = base + skip;
    assert_true(skip + (count - 1) * extent.stride_bytes +
                    (extent.inner_count - 1) * extent.inner_stride_bytes + extent.row_bytes <=
                EXTENT_BYTES);
    return extent;
}

static void make_side(struct side *side, uint64_t *random)
{
    uint64_t blocks = 1 + draw(random, 16);

    *side = (struct side){.arena = malloc(ARENA_BYTES),
                          .extent_count = 1 + draw(random, EXTENTS_MAX),
                          .run_count = 1 + draw(random, RUNS_MAX)};
    assert_non_null(side->arena);
    for (uint64_t i = 0; i < ARENA_BYTES; i++)
        side->arena[i] = (uint8_t)(1 + draw(random, 255));
    for (uint64_t i = 0; i < side->extent_count; i++)
        side->extents[i] =
            random_extent(random, (uint64_t)(uintptr_t)side->arena + i * EXTENT_BYTES, blocks);
    for (uint64_t i = 0; i < side->run_count; i++) {
        uint64_t first = draw(random, blocks);

        /* Half of the runs go on where the one before ended. */
        if (i > 0 && draw(random, 2) == 0)
            first = (side->runs[i - 1].first + side->runs[i - 1].count) % blocks;
        side->runs[i].first = (uint32_t)first;
        side->runs[i].count = (uint32_t)(1 + draw(random, blocks - first));
    }
    list_addresses(side);
}

static void list_addresses_anew(struct side *side)
{
    free(side->addresses);
    list_addresses(side);
}

static void free_side(struct side *side)
{
    free(side->addresses);
    free(side->arena);
}

static struct lend_cursor begin(const struct side *side)
{
    struct lend_cursor cursor;

    lend_cursor_init(&cursor, side->extents, side->extent_count, side->runs, side->run_count);
    return cursor;
}

static uint8_t byte_at(uint64_t address)
{
    return *(const uint8_t *)(uintptr_t)address;
}

/* Bytes in a row from `at` on, at most max, by the model. */
static uint64_t longest(const struct side *side, uint64_t at, uint64_t max)
{
    uint64_t length = 1;

    while (length < max && at + length < side->bytes &&
           side->addresses[at + length] == side->addresses[at] + length)
        length++;
    return length;
}

static void test_next_gives_the_longest_pieces_in_order(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side side;
        make_side(&side, &random);
        struct lend_cursor cursor = begin(&side);
        bool is_unlimited = draw(&random, 2) == 0;
        uint64_t at = 0;

        while (at < side.bytes) {
            uint64_t max = is_unlimited ? UINT64_MAX : 1 + draw(&random, 60);
            struct lend_segment segment;

            assert_true(lend_cursor_next(&cursor, max, &segment));
            assert_int_equal(segment.address, side.addresses[at]);
            assert_int_equal(segment.length_bytes, longest(&side, at, max));
            at += segment.length_bytes;
        }
        struct lend_segment none = {.address = 1};
        assert_false(lend_cursor_next(&cursor, UINT64_MAX, &none));
        assert_int_equal(none.address, 1);
        free_side(&side);
    }
}

/* Where the extent ends whose byte is at `at`, and which it is. */
static uint64_t end_of_extent(const struct side *side, uint64_t at, uint64_t *out_extent)
{
    uint64_t end = 0, blocks = 0;

    for (uint64_t i = 0; i < side->run_count; i++)
        blocks += side->runs[i].count;
    for (*out_extent = 0;; ++*out_extent) {
        const struct lend_extent *extent = &side->extents[*out_extent];

        end += blocks * extent->inner_count * extent->row_bytes;
        if (at < end)
            return end;
    }
}

static void test_pieces_of_an_extent_end_with_it_and_name_it(void **state)
{
    uint64_t random = 7;

    (void)state;
    for (int round = 0; round < 4 * ROUNDS; round++) {
        struct side side;
        make_side(&side, &random);
        if (round % 4 == 0) /* free ranges */
            side.run_count = side.runs[0].count = 1;
        list_addresses_anew(&side);
        struct lend_cursor cursor = begin(&side);
        bool is_unlimited = draw(&random, 2) == 0;
        uint64_t at = 0, extent = 99, wanted;

        while (at < side.bytes) {
            uint64_t max = is_unlimited ? UINT64_MAX : 1 + draw(&random, 60);
            uint64_t left = end_of_extent(&side, at, &wanted) - at;
            struct lend_segment segment;

            assert_true(lend_cursor_next_of_extent(&cursor, max, &segment, &extent));
            assert_int_equal(extent, wanted);
            assert_int_equal(segment.address, side.addresses[at]);
            assert_int_equal(segment.length_bytes, longest(&side, at, max < left ? max : left));
            at += segment.length_bytes;
        }
        struct lend_segment none = {.address = 1};
        assert_false(lend_cursor_next_of_extent(&cursor, UINT64_MAX, &none, &extent));
        assert_int_equal(none.address, 1);
        free_side(&side);
    }
}

static void test_next_of_no_bytes_gives_nothing_and_stays(void **state)
{
    uint64_t random = 2;
    struct lend_segment segment;
    struct side side;

    (void)state;
    make_side(&side, &random);
    struct lend_cursor cursor = begin(&side);

    assert_false(lend_cursor_next(&cursor, 0, &segment));
    assert_true(lend_cursor_next(&cursor, 1, &segment));
    assert_int_equal(segment.address, side.addresses[0]);
    free_side(&side);
}

static void test_gather_in_any_cuts_reads_the_stream(void **state)
{
    uint64_t random = 3;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side side;
        make_side(&side, &random);
        struct lend_cursor cursor = begin(&side);

        for (uint64_t at = 0; at < side.bytes;) {
            uint64_t count = draw(&random, 100);
            uint8_t *got = malloc(100);

            if (count > side.bytes - at)
                count = side.bytes - at;
            assert_non_null(got);
            memset(got, 0, 100);
            lend_cursor_gather(&cursor, got, count);
            for (uint64_t i = 0; i < count; i++)
                assert_int_equal(got[i], byte_at(side.addresses[at + i]));
            for (uint64_t i = count; i < 100; i++)
                assert_int_equal(got[i], 0);
            at += count;
            free(got);
        }
        free_side(&side);
    }
}

/* What the arena must hold after the first count bytes of `stream` (or zeros) were put in place. */
static uint8_t *expect(const struct side *side, const uint8_t *stream, uint64_t count)
{
    uint8_t *expected = malloc(ARENA_BYTES);

    assert_non_null(expected);
    memcpy(expected, side->arena, ARENA_BYTES);
    for (uint64_t i = 0; i < count; i++)
        expected[side->addresses[i] - (uint64_t)(uintptr_t)side->arena] =
            stream != NULL ? stream[i] : 0;
    return expected;
}

static void test_scatter_in_any_cuts_writes_the_stream_and_nothing_else(void **state)
{
    uint64_t random = 4;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side side;
        make_side(&side, &random);
        struct lend_cursor cursor = begin(&side);
        uint64_t bytes = draw(&random, 2) == 0 ? side.bytes : draw(&random, side.bytes);
        uint8_t *stream = malloc(bytes + 1);

        assert_non_null(stream);
        for (uint64_t i = 0; i < bytes; i++)
            stream[i] = (uint8_t)draw(&random, 256);
        uint8_t *expected = expect(&side, stream, bytes);
        for (uint64_t at = 0; at < bytes;) {
            uint64_t count = draw(&random, 100);

            if (count > bytes - at)
                count = bytes - at;
            lend_cursor_scatter(&cursor, stream + at, count);
            at += count;
        }
        assert_memory_equal(side.arena, expected, ARENA_BYTES);
        free(expected);
        free(stream);
        free_side(&side);
    }
}

/* Blocks alone in their runs, of one row each, as most are; as many bytes in a row as said. */
static void make_scattered(struct side *side, uint64_t *random, uint64_t row_bytes)
{
    free(side->addresses);
    for (uint64_t i = 0; i < side->extent_count; i++)
        side->extents[i] = (struct lend_extent){
            .address = (uint64_t)(uintptr_t)side->arena + i * EXTENT_BYTES,
            .row_bytes = row_bytes,
            .stride_bytes = row_bytes + draw(random, 2) * 3,
            .inner_stride_bytes = row_bytes,
            .inner_count = 1,
        };
    for (uint64_t i = 0; i < side->run_count; i++)
        side->runs[i] = (struct lend_run){.first = (uint32_t)draw(random, 16),
                                          .count = (uint32_t)(draw(random, 5) == 0 ? 2 : 1)};
    list_addresses(side);
}

static void test_copy_in_any_cuts_carries_one_stream_to_the_other(void **state)
{
    uint64_t random = 11;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side from, to;

        make_side(&from, &random);
        make_side(&to, &random);
        if (round % 2 == 0) {
            uint64_t row_bytes = 1 + draw(&random, 20);

            make_scattered(&from, &random, row_bytes);
            make_scattered(&to, &random, draw(&random, 4) == 0 ? row_bytes + 1 : row_bytes);
        }
        uint64_t bytes = from.bytes < to.bytes ? from.bytes : to.bytes;
        uint8_t *stream = malloc(bytes);
        assert_non_null(stream);
        for (uint64_t i = 0; i < bytes; i++)
            stream[i] = byte_at(from.addresses[i]);
        uint8_t *expected = expect(&to, stream, bytes);
        struct lend_cursor source = begin(&from), target = begin(&to);

        for (uint64_t at = 0; at < bytes;) {
            uint64_t count = draw(&random, 2) == 0 ? draw(&random, 100) : bytes;

            if (count > bytes - at)
                count = bytes - at;
            lend_cursor_copy(&target, &source, count);
            at += count;
        }
        assert_memory_equal(to.arena, expected, ARENA_BYTES);
        free(expected);
        free(stream);
        free_side(&from);
        free_side(&to);
    }
}

static void test_pieces_in_any_cuts_are_the_stream(void **state)
{
    uint64_t random = 17;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side side;
        uint64_t at = 0;

        make_side(&side, &random);
        struct lend_cursor cursor = begin(&side);
        while (at < side.bytes) {
            struct iovec pieces[7];
            uint32_t capacity = (uint32_t)draw(&random, 8);
            uint64_t max = draw(&random, 100), found = 0;
            struct lend_cursor before = cursor;
            uint32_t count = lend_cursor_pieces(&cursor, max, pieces, capacity);

            assert_true(count <= capacity);
            for (uint32_t i = 0; i < count; i++)
                for (uint64_t byte = 0; byte < pieces[i].iov_len; byte++)
                    assert_int_equal((uintptr_t)pieces[i].iov_base + byte,
                                     side.addresses[at + found++]);
            assert_true(found <= max);
            /* Where there was room for more pieces, all that was asked for is there. */
            if (count < capacity)
                assert_int_equal(found, max < side.bytes - at ? max : side.bytes - at);
            at += found;
            /* To skip them comes to the same place. */
            lend_cursor_skip(&before, found);
            assert_memory_equal(&before, &cursor, sizeof cursor);
        }
        lend_cursor_skip(&cursor, 5);
        assert_int_equal(lend_cursor_pieces(&cursor, 5, &(struct iovec){0}, 1), 0);
        free_side(&side);
    }
}

static void test_zero_clears_what_is_left_and_says_how_much(void **state)
{
    uint64_t random = 5;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct side side;
        make_side(&side, &random);
        struct lend_cursor cursor = begin(&side);
        uint64_t count = draw(&random, side.bytes + 1);
        uint8_t *expected = expect(&side, NULL, count);

        assert_int_equal(lend_cursor_zero(&cursor, count), count);
        assert_memory_equal(side.arena, expected, ARENA_BYTES);
        free(expected);

        expected = expect(&side, NULL, side.bytes);
        assert_int_equal(lend_cursor_zero(&cursor, UINT64_MAX), side.bytes - count);
        assert_int_equal(lend_cursor_zero(&cursor, UINT64_MAX), 0);
        assert_memory_equal(side.arena, expected, ARENA_BYTES);
        free(expected);
        free_side(&side);
    }
}

static void test_regions_side_by_side_are_one_piece(void **state)
{
    /* Two regions of 8 blocks of 2 rows that touch, the second behind the first. */
    const struct lend_extent extents[] = {
        {.address = 4096,
         .row_bytes = 32,
         .stride_bytes = 64,
         .inner_stride_bytes = 32,
         .inner_count = 2},
        {.address = 4096 + 512,
         .row_bytes = 64,
         .stride_bytes = 64,
         .inner_stride_bytes = 64,
         .inner_count = 1},
    };
    const struct lend_run runs[] = {{.first = 0, .count = 3}, {.first = 3, .count = 5}};
    struct lend_segment segment;
    struct lend_cursor cursor;

    (void)state;
    lend_cursor_init(&cursor, extents, 2, runs, 2);
    assert_true(lend_cursor_next(&cursor, UINT64_MAX, &segment));
    assert_int_equal(segment.address, 4096);
    assert_int_equal(segment.length_bytes, 1024);
    assert_false(lend_cursor_next(&cursor, UINT64_MAX, &segment));
}

static void test_interleaved_halves_alternate_block_by_block(void **state)
{
    /* K and V halves of one tensor of 100 blocks of 16 bytes: the V half lies 1,600 bytes behind.
     */
    const struct lend_extent tensor = {.address = 8192,
                                       .row_bytes = 16,
                                       .stride_bytes = 16,
                                       .inner_stride_bytes = 1600,
                                       .inner_count = 2};
    const struct lend_run runs[] = {{.first = 7, .count = 2}};
    const uint64_t expected[] = {8192 + 112, 8192 + 1712, 8192 + 128, 8192 + 1728};
    struct lend_segment segment;
    struct lend_cursor cursor;

    (void)state;
    lend_cursor_init(&cursor, &tensor, 1, runs, 1);
    for (size_t i = 0; i < 4; i++) {
        assert_true(lend_cursor_next(&cursor, UINT64_MAX, &segment));
        assert_int_equal(segment.address, expected[i]);
        assert_int_equal(segment.length_bytes, 16);
    }
    assert_false(lend_cursor_next(&cursor, UINT64_MAX, &segment));
}

static void test_a_range_walks_without_strides(void **state)
{
    const struct lend_extent ranges[] = {
        {.address = 1000, .row_bytes = 24, .inner_count = 1},
        {.address = 1024, .row_bytes = 10, .inner_count = 1},
        {.address = 3000, .row_bytes = 1, .inner_count = 1},
    };
    const struct lend_run whole = {.first = 0, .count = 1};
    struct lend_segment segment;
    struct lend_cursor cursor;

    (void)state;
    lend_cursor_init(&cursor, ranges, 3, &whole, 1);
    assert_true(lend_cursor_next(&cursor, 30, &segment));
    assert_int_equal(segment.address, 1000);
    assert_int_equal(segment.length_bytes, 30);
    assert_true(lend_cursor_next(&cursor, 30, &segment));
    assert_int_equal(segment.address, 1030);
    assert_int_equal(segment.length_bytes, 4);
    assert_true(lend_cursor_next(&cursor, 30, &segment));
    assert_int_equal(segment.address, 3000);
    assert_int_equal(segment.length_bytes, 1);
    assert_false(lend_cursor_next(&cursor, 30, &segment));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_gives_the_longest_pieces_in_order),
        cmocka_unit_test(test_pieces_of_an_extent_end_with_it_and_name_it),
        cmocka_unit_test(test_next_of_no_bytes_gives_nothing_and_stays),
        cmocka_unit_test(test_gather_in_any_cuts_reads_the_stream),
        cmocka_unit_test(test_scatter_in_any_cuts_writes_the_stream_and_nothing_else),
        cmocka_unit_test(test_copy_in_any_cuts_carries_one_stream_to_the_other),
        cmocka_unit_test(test_pieces_in_any_cuts_are_the_stream),
        cmocka_unit_test(test_zero_clears_what_is_left_and_says_how_much),
        cmocka_unit_test(test_regions_side_by_side_are_one_piece),
        cmocka_unit_test(test_interleaved_halves_alternate_block_by_block),
        cmocka_unit_test(test_a_range_walks_without_strides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
