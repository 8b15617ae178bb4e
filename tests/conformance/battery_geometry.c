/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every selected byte lands where the two geometries say, and no other byte changes.
 * Method: beside each transfer a model of it, one byte at a time, straight from the formula of
 * struct lend_geometry; afterwards both memories are compared with the model's from end to end.
 */
#include "pair.h"

/* One side of a transfer, as the model walks it. */
struct side {
    uint8_t *bytes;
    struct lend_geometry geometry;
    struct lend_slice slice;
    const int32_t *blocks;
    uint64_t count;
};

static uint64_t side_row_bytes(const struct side *side)
{
    return side->slice.length_bytes != 0 ? side->slice.length_bytes
                                         : side->geometry.block_length_bytes;
}

static uint64_t side_total(const struct side *side)
{
    return side->count * side->geometry.inner_count * side_row_bytes(side);
}

/* The position-th selected byte. */
static uint8_t *side_byte(const struct side *side, uint64_t position)
{
    uint64_t row_bytes = side_row_bytes(side), rows = side->geometry.inner_count;
    uint64_t block = (uint64_t)side->blocks[position / (row_bytes * rows)];
    uint64_t row = position / row_bytes % rows;

    return side->bytes + block * side->geometry.stride_bytes +
           row * side->geometry.inner_stride_bytes + side->slice.offset_bytes +
           position % row_bytes;
}

/* Move, and compare what each side has then with what the model makes of it. */
static void move_and_compare(struct pair *pair, struct move *move)
{
    bool is_read = move->direction == LEND_READ;
    struct side local = {.bytes = memory_copy(move->local->memory, move->local->bytes),
                         .geometry = move->local->geometry,
                         .slice = move->local_slice,
                         .blocks = move->local_blocks,
                         .count = move->count};
    struct side remote = {.bytes = memory_copy(move->remote->memory, move->remote->bytes),
                          .geometry = move->remote->geometry,
                          .slice = move->remote_slice,
                          .blocks = move->remote_blocks,
                          .count = move->count};

    assert_int_equal(side_total(&local), side_total(&remote));
    for (uint64_t position = 0; position < side_total(&local); position++)
        if (is_read)
            *side_byte(&local, position) = *side_byte(&remote, position);
        else
            *side_byte(&remote, position) = *side_byte(&local, position);

    EXPECT(move_all(pair, move), LEND_OK, &move->error);
    assert_int_equal(move->record.bytes, side_total(&local));
    assert_int_equal(move->record.blocks, move->count);
    EXPECT_SAME(move->local->memory, local.bytes, move->local->bytes);
    EXPECT_SAME(move->remote->memory, remote.bytes, move->remote->bytes);
    free(local.bytes);
    free(remote.bytes);
}

static struct loan lend_geometry_of(struct pair *pair, struct lend_geometry geometry)
{
    struct loan loan = lend_memory_of(pair, geometry, LEND_ACCESS_READ | LEND_ACCESS_WRITE, NULL);

    lend_range(pair, &loan, LEND_ACCESS_READ | LEND_ACCESS_WRITE, 0, 0);
    return loan;
}

/* Both directions, with fresh bytes on both sides. */
static void both_ways(struct pair *pair, struct move *move)
{
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        pattern_fill(move->local->memory, move->local->bytes, 10 + direction);
        pattern_fill(move->remote->memory, move->remote->bytes, 20 + direction);
        move->direction = direction;
        move_and_compare(pair, move);
    }
}

static void test_scattered_blocks_land_in_order(void **state)
{
    static const int32_t ours[] = {7, 0, 3, 4, 5, 1, 9, 8};
    static const int32_t theirs[] = {2, 3, 4, 5, 15, 14, 0, 1};
    struct pair *pair = *state;
    struct loan remote =
        lend_geometry_of(pair, (struct lend_geometry){.block_length_bytes = 1000, .count = 16});
    struct loan local = keep_blocks(pair, 1000, 10);

    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = 8});
    drop(&remote);
}

static void test_blocks_with_gaps_leave_the_gaps_alone(void **state)
{
    static const int32_t ours[] = {3, 1, 2}, theirs[] = {0, 1, 4};
    struct pair *pair = *state;
    struct loan remote = lend_geometry_of(
        pair, (struct lend_geometry){.block_length_bytes = 777, .stride_bytes = 1024, .count = 5});
    struct loan local = keep_geometry(
        pair, (struct lend_geometry){.block_length_bytes = 777, .stride_bytes = 901, .count = 4});

    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = 3});
    drop(&remote);
}

/* vLLM's tensor of a layer is [2][blocks][...]: K in the first half, V in the second. */
static void test_interleaved_halves_of_k_and_v_arrive_together(void **state)
{
    enum { HALF = 640, BLOCKS = 24, OURS = 9 };
    static const int32_t ours[] = {8, 2, 3, 0}, theirs[] = {23, 4, 5, 11};
    struct pair *pair = *state;
    struct loan remote =
        lend_geometry_of(pair, (struct lend_geometry){.block_length_bytes = HALF,
                                                      .stride_bytes = HALF,
                                                      .count = BLOCKS,
                                                      .inner_stride_bytes = HALF * BLOCKS,
                                                      .inner_count = 2});
    struct loan interleaved =
        keep_geometry(pair, (struct lend_geometry){.block_length_bytes = HALF,
                                                   .stride_bytes = HALF,
                                                   .count = OURS,
                                                   .inner_stride_bytes = HALF * OURS,
                                                   .inner_count = 2});
    struct loan together = keep_blocks(pair, HALF * 2, OURS);
    struct move move = {.local = &interleaved,
                        .remote = &remote,
                        .local_blocks = ours,
                        .remote_blocks = theirs,
                        .count = 4};

    both_ways(pair, &move);
    move.local = &together; /* the same number of selected bytes, in another shape */
    both_ways(pair, &move);
    drop(&remote);
}

static void test_rows_of_unlike_shapes_fit_if_their_bytes_are_equal(void **state)
{
    static const int32_t ours[] = {1, 0}, theirs[] = {2, 0};
    struct pair *pair = *state;
    struct loan remote = lend_geometry_of(pair, (struct lend_geometry){.block_length_bytes = 48,
                                                                       .stride_bytes = 640,
                                                                       .count = 3,
                                                                       .inner_stride_bytes = 80,
                                                                       .inner_count = 8});
    struct loan local = keep_geometry(pair, (struct lend_geometry){.block_length_bytes = 64,
                                                                   .stride_bytes = 700,
                                                                   .count = 2,
                                                                   .inner_stride_bytes = 100,
                                                                   .inner_count = 6});

    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = 2});
    drop(&remote);
}

static void test_slices_cut_both_sides(void **state)
{
    static const int32_t ours[] = {0, 2}, theirs[] = {1, 3};
    struct pair *pair = *state;
    struct loan remote = lend_geometry_of(pair, (struct lend_geometry){.block_length_bytes = 256,
                                                                       .stride_bytes = 1024,
                                                                       .count = 4,
                                                                       .inner_stride_bytes = 256,
                                                                       .inner_count = 4});
    struct loan local = keep_geometry(pair, (struct lend_geometry){.block_length_bytes = 128,
                                                                   .stride_bytes = 512,
                                                                   .count = 3,
                                                                   .inner_stride_bytes = 128,
                                                                   .inner_count = 4});

    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_slice = {.offset_bytes = 3, .length_bytes = 100},
                                   .remote_slice = {.offset_bytes = 156, .length_bytes = 100},
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = 2});
    drop(&remote);
}

/* Of which each has a key of its own where NICs write. */
static void test_one_byte_blocks_are_blocks(void **state)
{
    enum { COUNT = 1000 };
    struct pair *pair = *state;
    struct loan remote = lend_geometry_of(
        pair, (struct lend_geometry){.block_length_bytes = 1, .stride_bytes = 3, .count = COUNT});
    struct loan local = keep_blocks(pair, 1, COUNT);
    int32_t ours[COUNT], theirs[COUNT];

    for (int32_t index = 0; index < COUNT; index++) {
        ours[index] = index;
        theirs[index] = COUNT - 1 - index;
    }
    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = COUNT});
    drop(&remote);
}

static void test_transfer_larger_than_every_buffer_arrives_whole(void **state)
{
    enum { BLOCK = 40000, COUNT = 48 };
    struct pair *pair = *state;
    struct loan remote =
        lend_geometry_of(pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = COUNT});
    struct loan local = keep_blocks(pair, BLOCK, COUNT);
    int32_t ours[COUNT], theirs[COUNT];

    for (int32_t index = 0; index < COUNT; index++) {
        ours[index] = index * 5 % COUNT;
        theirs[index] = index * 7 % COUNT;
    }
    both_ways(pair, &(struct move){.local = &local,
                                   .remote = &remote,
                                   .local_blocks = ours,
                                   .remote_blocks = theirs,
                                   .count = COUNT});
    drop(&remote);
}

/* Unequal tensor parallelism. A rank's cache is [block][token][head of the rank][byte of the head].
 */
enum {
    HEADS = 8,
    HEAD_BYTES = 32,
    TOKENS = 16,
    RANK_BLOCKS = 6,
    RANKS_MAX = 4,
};

/* The seed of its pattern. */
static uint64_t head_seed(int32_t block, uint32_t token, uint32_t head)
{
    return ((uint64_t)block * TOKENS + token) * HEADS + head;
}

static struct lend_geometry rank_geometry(uint32_t ranks)
{
    uint64_t row = HEADS / ranks * HEAD_BYTES;

    return (struct lend_geometry){.block_length_bytes = row,
                                  .stride_bytes = row * TOKENS,
                                  .count = RANK_BLOCKS,
                                  .inner_stride_bytes = row,
                                  .inner_count = TOKENS};
}

static uint8_t *rank_head(const struct loan *rank, uint32_t ranks, int32_t block, uint32_t token,
                          uint32_t head)
{
    return rank->memory + (uint64_t)block * rank->geometry.stride_bytes +
           token * rank->geometry.inner_stride_bytes + head % (HEADS / ranks) * HEAD_BYTES;
}

static void fill_ranks(struct loan *ranks, uint32_t count)
{
    for (int32_t block = 0; block < RANK_BLOCKS; block++)
        for (uint32_t token = 0; token < TOKENS; token++)
            for (uint32_t head = 0; head < HEADS; head++)
                pattern_fill(rank_head(&ranks[head / (HEADS / count)], count, block, token, head),
                             HEAD_BYTES, head_seed(block, token, head));
}

static bool ranks_have(struct loan *ranks, uint32_t count, int32_t at, int32_t block)
{
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t head = 0; head < HEADS; head++)
            if (!pattern_is(rank_head(&ranks[head / (HEADS / count)], count, at, token, head),
                            HEAD_BYTES, head_seed(block, token, head)))
                return false;
    return true;
}

/* Every pair of ranks that has heads in common moves those. */
static void pull_heads(struct pair *pair, struct loan *from, uint32_t from_count, struct loan *to,
                       uint32_t to_count, struct move *blocks)
{
    uint32_t pieces = from_count > to_count ? from_count : to_count;
    uint64_t piece_bytes = HEADS / pieces * HEAD_BYTES;

    for (uint32_t piece = 0; piece < pieces; piece++) {
        struct move move = *blocks;
        uint32_t source = piece * from_count / pieces, target = piece * to_count / pieces;

        move.direction = LEND_READ;
        move.remote = &from[source];
        move.local = &to[target];
        move.remote_slice = (struct lend_slice){
            .offset_bytes = piece % (pieces / from_count) * piece_bytes,
            .length_bytes = piece_bytes,
        };
        move.local_slice = (struct lend_slice){
            .offset_bytes = piece % (pieces / to_count) * piece_bytes,
            .length_bytes = piece_bytes,
        };
        EXPECT(move_all(pair, &move), LEND_OK, &move.error);
        assert_int_equal(move.record.bytes, move.count * TOKENS * piece_bytes);
    }
}

static void reshard(struct pair *pair, uint32_t from_count, uint32_t to_count)
{
    static const int32_t ours[] = {5, 0, 2}, theirs[] = {1, 4, 3};
    struct move blocks = {.local_blocks = ours, .remote_blocks = theirs, .count = 3};
    struct loan from[RANKS_MAX], to[RANKS_MAX];

    for (uint32_t rank = 0; rank < from_count; rank++)
        from[rank] = lend_geometry_of(pair, rank_geometry(from_count));
    for (uint32_t rank = 0; rank < to_count; rank++)
        to[rank] = keep_geometry(pair, rank_geometry(to_count));
    fill_ranks(from, from_count);
    pull_heads(pair, from, from_count, to, to_count, &blocks);

    for (size_t index = 0; index < 3; index++)
        assert_true(ranks_have(to, to_count, ours[index], theirs[index]));
    for (uint32_t rank = 0; rank < to_count; rank++)
        for (int32_t untouched = 1; untouched < RANK_BLOCKS; untouched += 2)
            if (untouched != 5)
                assert_true(is_filled(to[rank].memory +
                                          (uint64_t)untouched * to[rank].geometry.stride_bytes,
                                      to[rank].geometry.stride_bytes, 0));
    for (uint32_t rank = 0; rank < from_count; rank++)
        drop(&from[rank]);
}

static void test_tensor_parallel_four_to_two(void **state)
{
    reshard(*state, 4, 2);
}

static void test_tensor_parallel_two_to_four(void **state)
{
    reshard(*state, 2, 4);
}

static void test_several_pairs_of_regions_move_region_by_region(void **state)
{
    enum { REGIONS = 3, BLOCK = 512, COUNT = 4 };
    static const int32_t ours[] = {3, 0}, theirs[] = {1, 2};
    struct pair *pair = *state;
    struct loan remote[REGIONS], local[REGIONS];
    struct lend_region *regions[REGIONS], *lent[REGIONS];
    uint64_t ids[REGIONS];

    for (uint32_t index = 0; index < REGIONS; index++) {
        remote[index] = lend_memory_of(
            pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = COUNT},
            LEND_ACCESS_READ, NULL);
        pattern_fill(remote[index].memory, remote[index].bytes, 40 + index);
        local[index] = keep_blocks(pair, BLOCK, COUNT);
        regions[index] = local[index].region;
        lent[index] = remote[index].region;
        ids[index] = remote[index].id;
    }

    struct lend_block_set set = {.regions = lent, .region_count = REGIONS};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(owner_grant(pair, &grant, &remote[0].lease, &error), LEND_OK, &error);
    remote[0].ticket = fetch_ticket(pair, remote[0].lease);

    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct move move = {.direction = LEND_READ,
                        .remote = &remote[0],
                        .local_blocks = ours,
                        .remote_blocks = theirs,
                        .count = 2};

    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.region_count = REGIONS;
    desc.local_regions = regions;
    desc.remote_regions = ids;
    desc.block_count_max = 2;
    desc.paths = pair_paths(pair, LEND_READ, &remote[0]);
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_OK, &error);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    assert_int_equal(move.record.blocks, REGIONS * 2);
    assert_int_equal(move.record.bytes, REGIONS * 2 * BLOCK);
    for (uint32_t index = 0; index < REGIONS; index++)
        for (size_t pick = 0; pick < 2; pick++)
            EXPECT_SAME(local[index].memory + ours[pick] * BLOCK,
                        remote[index].memory + theirs[pick] * BLOCK, BLOCK);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote[0]);
}

const struct CMUnitTest *battery_geometry(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_scattered_blocks_land_in_order),
        PAIRED(test_blocks_with_gaps_leave_the_gaps_alone),
        PAIRED(test_interleaved_halves_of_k_and_v_arrive_together),
        PAIRED(test_rows_of_unlike_shapes_fit_if_their_bytes_are_equal),
        PAIRED(test_slices_cut_both_sides),
        PAIRED(test_one_byte_blocks_are_blocks),
        PAIRED(test_transfer_larger_than_every_buffer_arrives_whole),
        PAIRED(test_tensor_parallel_four_to_two),
        PAIRED(test_tensor_parallel_two_to_four),
        PAIRED(test_several_pairs_of_regions_move_region_by_region),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
