/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a transfer with LEND_TRANSFER_CHECKSUM succeeds where both sides have the same bytes, and
 * else fails, naming the first block that differs.
 * Method: reads and writes of every shape with checksums; and a read that overwrites its own first
 * block with the second, so that the two sides differ for certain.
 */
#include "pair.h"

enum { BLOCK = 4096, BLOCKS = 300 };

static void test_checked_transfers_of_any_size_succeed(void **state)
{
    static const uint64_t counts[] = {1, 2, 255, BLOCKS};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    int32_t here[BLOCKS], there[BLOCKS];

    for (int i = 0; i < BLOCKS; i++) {
        here[i] = i;
        there[i] = (i * 7) % BLOCKS; /* 7 and 300 have no factor in common */
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            struct move move = {.direction = direction,
                                .flags = LEND_TRANSFER_CHECKSUM,
                                .local = &local,
                                .remote = &remote,
                                .local_blocks = here,
                                .remote_blocks = there,
                                .count = counts[i]};

            pattern_fill(remote.memory, remote.bytes, 3 + i);
            pattern_fill(local.memory, local.bytes, 5 + i);
            EXPECT(move_all(pair, &move), LEND_OK, &move.error);
            assert_int_equal(move.record.blocks, counts[i]);
            assert_int_equal(move.record.bytes, counts[i] * BLOCK);
            for (uint64_t k = 0; k < counts[i]; k++)
                EXPECT_SAME(local.memory + (size_t)here[k] * BLOCK,
                            remote.memory + (size_t)there[k] * BLOCK, BLOCK);
        }
    drop(&local);
    drop(&remote);
}

static void test_checksums_are_of_the_slices_that_move(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, 8, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, 100, 8);
    static const int32_t blocks[] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct move move = {.direction = LEND_READ,
                        .flags = LEND_TRANSFER_CHECKSUM,
                        .local = &local,
                        .remote = &remote,
                        .remote_slice = {.offset_bytes = 1000, .length_bytes = 100},
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 8};

    pattern_fill(remote.memory, remote.bytes, 9);
    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    for (size_t k = 0; k < 8; k++)
        EXPECT_SAME(local.memory + k * 100, remote.memory + k * BLOCK + 1000, 100);
    drop(&local);
    drop(&remote);
}

static void test_difference_is_corrupt_and_names_its_block(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    int32_t here[BLOCKS], there[BLOCKS];

    for (int i = 0; i < BLOCKS; i++)
        here[i] = there[i] = i;
    here[271] = 270; /* what came there first is gone; near, so that both land in this order */
    struct move move = {.direction = LEND_READ,
                        .flags = LEND_TRANSFER_CHECKSUM,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = here,
                        .remote_blocks = there,
                        .count = BLOCKS};

    pattern_fill(remote.memory, remote.bytes, 11);
    EXPECT(move_all(pair, &move), LEND_E_CORRUPT, &move.error);
    SAYS(&move.error, "block 270 of the transfer has CRC-32C");
    assert_int_equal(move.record.blocks, 270);
    move.flags = 0;
    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    drop(&local);
    drop(&remote);
}

static void test_checksums_end_with_their_lease(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, 4, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, 4);
    static const int32_t blocks[] = {0, 1, 2, 3};
    struct move move = {.direction = LEND_READ,
                        .flags = LEND_TRANSFER_CHECKSUM,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 4};
    struct lend_error error = {0};

    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    EXPECT(move_all(pair, &move), LEND_E_REVOKED, &move.error);
    assert_int_equal(move.record.blocks, 0);
    drop(&local);
    drop(&remote);
}

const struct CMUnitTest *battery_sums(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_checked_transfers_of_any_size_succeed),
        PAIRED(test_checksums_are_of_the_slices_that_move),
        PAIRED(test_difference_is_corrupt_and_names_its_block),
        PAIRED(test_checksums_end_with_their_lease),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
