/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a transfer moves what was named, ends once, and says how.
 * Method: transfers of every form between known memories; where the end must come late, the owner
 * is kept from making progress (manual), or stopped (another process).
 */
#include "pair.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 32, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

static const int32_t first_eight[] = {0, 1, 2, 3, 4, 5, 6, 7};

static struct move eight(uint32_t direction, const struct loan *local, const struct loan *remote)
{
    return (struct move){.direction = direction,
                         .local = local,
                         .remote = remote,
                         .local_blocks = first_eight,
                         .remote_blocks = first_eight,
                         .count = 8};
}

/* Keep the owner from answering, where the setup has a way; let_go() undoes it. */
static bool hold_owner(struct pair *pair)
{
    if (pair_is_apart(pair))
        pair_stop_owner(pair);
    return pair_is_apart(pair) || pair_is_manual(pair);
}

static void let_go(struct pair *pair)
{
    if (pair_is_apart(pair))
        pair_continue_owner(pair);
}

/* Another lease for the same: whoever uses it for the first time needs its owner, on every path. */
static void renew_ticket(struct pair *pair, struct loan *loan)
{
    drop(loan);
    lend_range(pair, loan, ALL, 0, 0);
}

static enum lend_status await_end(struct pair *pair, struct lend_transfer *transfer)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    enum lend_status status;

    while ((status = lend_transfer_test(transfer)) == LEND_PENDING && pair_now_ns() < deadline) {
        pair_pump(pair);
        (void)sched_yield();
    }
    return status;
}

static void test_numbers_of_either_width_name_the_same_blocks(void **state)
{
    static const int32_t narrow_ours[] = {9, 1, 2}, narrow_theirs[] = {31, 0, 17};
    static const int64_t wide_ours[] = {9, 1, 2}, wide_theirs[] = {31, 0, 17};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    for (uint32_t bits = 0; bits <= 64; bits += 32) {
        bool is_wide = bits == 64;
        struct move move = {.direction = LEND_READ,
                            .local = &local,
                            .remote = &remote,
                            .local_blocks = is_wide ? (const void *)wide_ours : narrow_ours,
                            .remote_blocks = is_wide ? (const void *)wide_theirs : narrow_theirs,
                            .count = 3,
                            .index_bits = bits};

        memory_set(local.memory, 0, local.bytes);
        EXPECT(move_all(pair, &move), LEND_OK, &move.error);
        for (size_t index = 0; index < 3; index++)
            EXPECT_SAME(local.memory + narrow_ours[index] * BLOCK,
                        remote.memory + narrow_theirs[index] * BLOCK, BLOCK);
        assert_true(is_filled(local.memory, BLOCK, 0));
    }
    drop(&remote);
}

/* Post ranges and wait: by address, the way of tensors without blocks. */
static enum lend_status move_ranges(struct pair *pair, struct move *move,
                                    const struct lend_range *ours, const struct lend_range *theirs,
                                    uint64_t count)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    enum lend_status status;

    desc.direction = move->direction;
    desc.peer = pair->peer;
    desc.block_count_max = count;
    desc.paths = pair_paths(pair, move->direction, move->remote);
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &move->error), LEND_OK,
           &move->error);
    post.ticket = move->remote->ticket;
    post.local_ranges = ours;
    post.remote_ranges = theirs;
    post.range_count = count;
    status = lend_transfer_post(transfer, &post, &move->error);
    if (status == LEND_OK)
        status = move_finish(pair, move, transfer);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    return status;
}

static void test_ranges_move_by_address(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    EXPECT(lend_peer_region_at(pair->peer, 0, &info, &error), LEND_OK, &error);
    uint64_t base = info.memory.address, mine = pair_address(pair, local.memory);
    struct lend_range theirs[] = {{base + 5, 10000}, {base + 90001, 1}, {base + 50000, 4096}};
    struct lend_range ours[] = {{mine + 70000, 10000}, {mine, 1}, {mine + 333, 4096}};

    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct move move = {.direction = direction, .remote = &remote};

        pattern_fill(remote.memory, remote.bytes, 3 + direction);
        pattern_fill(local.memory, local.bytes, 30 + direction);
        EXPECT(move_ranges(pair, &move, ours, theirs, 3), LEND_OK, &move.error);
        assert_int_equal(move.record.blocks, 3);
        assert_int_equal(move.record.bytes, 14097);
        for (size_t index = 0; index < 3; index++)
            EXPECT_SAME(local.memory + (ours[index].address - mine),
                        remote.memory + (theirs[index].address - base), theirs[index].length_bytes);
    }
    drop(&remote);
}

static void test_range_outside_the_leased_blocks_is_refused(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_memory_of(
        pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = BLOCKS}, ALL, NULL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    uint64_t base = pair_address(pair, remote.memory), mine = pair_address(pair, local.memory);
    uint8_t lent[BLOCK];
    struct lend_range ours = {mine, BLOCK};
    const struct lend_range cases[] = {{base + 4 * BLOCK, BLOCK},
                                       {base + 4 * BLOCK - 1, BLOCK},
                                       {base + 7 * BLOCK + 1, BLOCK},
                                       {base + 8 * BLOCK, BLOCK},
                                       {base + BLOCKS * BLOCK - 1, BLOCK},
                                       {base - 1, BLOCK},
                                       {UINT64_MAX - 10, BLOCK}};

    lend_range(pair, &remote, ALL, 4, 4);
    pattern_fill(remote.memory, remote.bytes, 5);
    memory_get(lent, remote.memory + 4 * BLOCK, BLOCK);
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++)
        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            struct move move = {.direction = direction, .remote = &remote};
            enum lend_status status;

            memory_put(local.memory, lent, BLOCK);
            status = move_ranges(pair, &move, &ours, &cases[index], 1);
            EXPECT(status, index == 0 ? LEND_OK : LEND_E_OUT_OF_RANGE, &move.error);
            assert_true(pattern_is(remote.memory, remote.bytes, 5));
        }
    drop(&remote);
}

static void test_prepared_once_is_posted_many_times(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer *transfer = NULL;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    for (int32_t round = 0; round < 200; round++) {
        int32_t ours[8], theirs[8];

        for (int32_t index = 0; index < 8; index++) {
            ours[index] = (round * 3 + index * 5) % BLOCKS;
            theirs[index] = (round * 7 + index) % BLOCKS;
        }
        move.local_blocks = ours;
        move.remote_blocks = theirs;
        move.count = (uint64_t)(round % 8 + 1);
        move.user_data = (uint64_t)round;
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
        assert_int_equal(move.record.user_data, round);
        assert_int_equal(move.record.bytes, move.count * BLOCK);
        for (uint64_t index = 0; index < move.count; index++)
            EXPECT_SAME(local.memory + ours[index] * BLOCK, remote.memory + theirs[index] * BLOCK,
                        BLOCK);
    }
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_record_says_how_it_went(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_transfer *transfer = NULL;
    struct lend_error why = {0};

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    assert_int_equal(lend_transfer_test(transfer), LEND_E_INVALID);
    assert_int_equal(lend_transfer_wait(transfer, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_cancel(transfer, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_describe(transfer, &record, &why), LEND_E_INVALID);

    uint64_t before = pair_now_ns();
    move.user_data = UINT64_MAX;
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    uint64_t spent = pair_now_ns() - before;

    assert_string_equal(move.record.path, pair->setup->path);
    assert_int_equal(move.record.bytes, 8 * BLOCK);
    assert_int_equal(move.record.blocks, 8);
    assert_true(move.record.user_data == UINT64_MAX);
    assert_in_range(move.record.wire_ns, 1, spent);
    assert_true(move.record.post_ns <= spent);

    /* A smaller struct, of the first version, is filled in part; one of no version is refused. */
    record.struct_size = 3;
    assert_int_equal(lend_transfer_describe(transfer, &record, &why), LEND_E_VERSION);
    assert_int_equal(lend_transfer_describe(transfer, NULL, &why), LEND_E_INVALID);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_failed_read_leaves_zeros_where_asked(void **state)
{
    static const int32_t ours[] = {4, 6}, theirs[] = {0, 1};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, 1000, BLOCKS, ALL);
    struct loan local = keep_geometry(
        pair, (struct lend_geometry){.block_length_bytes = 1000, .stride_bytes = 1500, .count = 8});
    struct move move = {.direction = LEND_READ,
                        .flags = LEND_TRANSFER_ZERO_ON_FAILURE,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = ours,
                        .remote_blocks = theirs,
                        .count = 2};
    struct lend_error error = {0};

    memory_set(local.memory, 0x77, local.bytes);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    EXPECT(move_all(pair, &move), LEND_E_REVOKED, &move.error);
    assert_int_equal(move.record.bytes, 0);
    assert_int_equal(move.record.blocks, 0);
    for (uint64_t block = 0; block < 8; block++) {
        bool is_hit = block == 4 || block == 6;

        assert_true(is_filled(local.memory + block * 1500, 1000, is_hit ? 0 : 0x77));
        if (block < 7)
            assert_true(is_filled(local.memory + block * 1500 + 1000, 500, 0x77));
    }
    drop(&remote);
}

static void test_canceled_read_is_quiet(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, 60000, 30, ALL);
    struct loan local = keep_blocks(pair, 60000, 30), other = keep_blocks(pair, 60000, 30);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer *transfer = NULL;
    uint32_t canceled = 0;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
        enum lend_status status;

        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        for (uint32_t step = 0; step < round; step++)
            pair_pump(pair);
        /* At once, but where a transport is receiving straight into place. */
        while ((status = lend_transfer_cancel(transfer, 0)) == LEND_PENDING &&
               pair_is_straight(pair) && pair_now_ns() < deadline)
            pair_pump(pair);
        assert_true(status == LEND_OK || status == LEND_E_CANCELED);
        assert_int_equal(lend_transfer_test(transfer), status);
        memory_set(local.memory, (int)round, local.bytes);
        /* What was under way passes before what is asked for now. */
        assert_int_equal(read_blocks(pair, &other, &remote, 2), LEND_OK);
        assert_true(is_filled(local.memory, local.bytes, (uint8_t)round));
        canceled += status == LEND_E_CANCELED;
    }
    if (pair_is_manual(pair))
        assert_true(canceled > 0);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_canceled_write_is_quiet(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, 60000, 30, ALL);
    struct loan local = keep_blocks(pair, 60000, 30), other = keep_blocks(pair, 60000, 30);
    struct move move = eight(LEND_WRITE, &local, &remote);
    struct lend_transfer *transfer = NULL;
    uint32_t canceled = 0;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
        enum lend_status status;

        memory_set(local.memory, 0xAB, local.bytes);
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        for (uint32_t step = 0; step < round; step++)
            pair_pump(pair);
        while ((status = lend_transfer_cancel(transfer, 0)) == LEND_PENDING &&
               pair_now_ns() < deadline)
            pair_pump(pair);
        assert_true(status == LEND_OK || status == LEND_E_CANCELED);
        if (status == LEND_OK)
            assert_true(is_filled(remote.memory, 8 * 60000, 0xAB));
        memory_set(remote.memory, (int)round, remote.bytes);
        memory_set(local.memory, 0xCD, local.bytes);
        assert_int_equal(read_blocks(pair, &other, &remote, 2), LEND_OK);
        assert_true(is_filled(remote.memory, remote.bytes, (uint8_t)round));
        canceled += status == LEND_E_CANCELED;
    }
    if (pair_is_manual(pair))
        assert_true(canceled > 0);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_transfer_under_way_is_busy(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote), again = move;
    struct lend_transfer *transfer = NULL;
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error error = {0};

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    if (hold_owner(pair)) {
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        assert_int_equal(lend_transfer_test(transfer), LEND_PENDING);
        assert_int_equal(lend_transfer_wait(transfer, SECONDS / 100), LEND_PENDING);
        assert_int_equal(lend_transfer_describe(transfer, &record, NULL), LEND_OK);
        assert_int_equal(record.status, LEND_PENDING);
        EXPECT(move_post(&again, transfer), LEND_E_BUSY, &again.error);
        assert_int_equal(lend_transfer_release(transfer), LEND_E_BUSY);
        EXPECT(lend_region_deregister(local.region, &error), LEND_E_BUSY, &error);
        let_go(pair);
        EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
        EXPECT_SAME(local.memory, remote.memory, 8 * BLOCK);
    }
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    EXPECT(lend_region_deregister(local.region, &error), LEND_OK, &error);
    drop(&remote);
}

static void test_deadline_ends_a_transfer(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer *transfer = NULL;

    assert_int_equal(read_blocks(pair, &local, &remote, 1), LEND_OK);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    move.timeout_ns = SECONDS / 20;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        renew_ticket(pair, &remote); /* what was asked of the last one may be answered by now */
        if (!hold_owner(pair))
            break;
        uint64_t before = pair_now_ns();

        EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
        move.direction = direction;
        EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        while (lend_transfer_wait(transfer, SECONDS / 100) == LEND_PENDING)
            assert_true(pair_now_ns() < before + PAIR_PATIENCE_NS);
        assert_int_equal(lend_transfer_test(transfer), LEND_E_TIMEOUT);
        assert_in_range(pair_now_ns() - before, SECONDS / 20, 5 * SECONDS);
        let_go(pair);
    }
    /* The peer is none the worse for it. The write may land until its lease ends, and a reader that
     * copies by itself does not wait for it. */
    EXPECT(owner_revoke(pair, remote.lease, &move.error), LEND_OK, &move.error);
    renew_ticket(pair, &remote);
    assert_int_equal(read_blocks(pair, &local, &remote, 4), LEND_OK);
    EXPECT_SAME(local.memory, remote.memory, 4 * BLOCK);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void many_at_once(struct pair *pair)
{
    enum { MANY = 48 };
    struct loan remote = lend_blocks(pair, 20000, 96, ALL);
    struct loan local = keep_blocks(pair, 20000, 96);
    struct lend_transfer *transfers[MANY] = {NULL};
    struct move moves[MANY];
    int32_t blocks[MANY][2];

    for (int32_t index = 0; index < MANY; index++) {
        blocks[index][0] = index;
        blocks[index][1] = 95 - index;
        moves[index] = (struct move){.direction = LEND_READ,
                                     .local = &local,
                                     .remote = &remote,
                                     .local_blocks = blocks[index],
                                     .remote_blocks = blocks[index],
                                     .count = 2};
        EXPECT(move_prepare(pair, &moves[index], &transfers[index]), LEND_OK, &moves[index].error);
        EXPECT(move_post(&moves[index], transfers[index]), LEND_OK, &moves[index].error);
    }
    for (int32_t index = MANY - 1; index >= 0; index--)
        EXPECT(move_finish(pair, &moves[index], transfers[index]), LEND_OK, &moves[index].error);
    EXPECT_SAME(local.memory, remote.memory, local.bytes);
    for (int32_t index = 0; index < MANY; index++)
        EXPECT(lend_transfer_release(transfers[index]), LEND_OK, NULL);
    drop(&remote);
}

static void test_many_transfers_are_under_way_at_once(void **state)
{
    many_at_once(*state);
}

/* As little as an agent may have: everything has to wait for room, and does. */
static void narrow(struct lend_agent_config *config, bool is_owner)
{
    (void)is_owner;
    config->requests_per_peer_max = 1;
    config->local_ring_bytes = 131072;
}

static void test_narrow_agents_move_as_much(void **state)
{
    struct pair *pair = pair_make(battery_current, narrow);

    (void)state;
    many_at_once(pair);
    pair_free(pair);
}

struct worker {
    struct pair *pair;
    const struct loan *remote;
    const uint8_t *lent; /* the remote's bytes: only one thread asks the owner for them */
    struct loan local;
    pthread_t thread;
    uint32_t number;
    uint32_t wrong;
};

/* No assertions here: cmocka's belong to the thread that runs the test. */
static void *work(void *context)
{
    struct worker *worker = context;
    struct lend_error error = {0};

    for (uint32_t round = 0; round < 50; round++) {
        int32_t blocks[3], ours[] = {0, 1, 2};
        uint8_t got[3 * BLOCK];
        struct lend_transfer_record record = {.struct_size = sizeof record};
        struct move move = {.direction = LEND_READ,
                            .local = &worker->local,
                            .remote = worker->remote,
                            .local_blocks = ours,
                            .remote_blocks = blocks,
                            .count = 3};
        struct lend_transfer *transfer = NULL;

        for (uint32_t index = 0; index < 3; index++)
            blocks[index] = (int32_t)((worker->number * 7 + round * 3 + index) % BLOCKS);
        worker->wrong += move_prepare(worker->pair, &move, &transfer) != LEND_OK;
        worker->wrong += move_post(&move, transfer) != LEND_OK;
        worker->wrong += await_end(worker->pair, transfer) != LEND_OK;
        worker->wrong += lend_transfer_describe(transfer, &record, &error) != LEND_OK;
        memory_get(got, worker->local.memory, sizeof got);
        for (uint32_t index = 0; index < 3; index++)
            worker->wrong += memcmp(got + index * BLOCK,
                                    worker->lent + (size_t)blocks[index] * BLOCK, BLOCK) != 0;
        worker->wrong += lend_transfer_release(transfer) != LEND_OK;
    }
    return NULL;
}

static void test_threads_share_an_agent(void **state)
{
    enum { WORKERS = 4 };
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct worker workers[WORKERS];
    uint8_t *lent = memory_copy(remote.memory, remote.bytes);

    for (uint32_t number = 0; number < WORKERS; number++)
        workers[number] = (struct worker){.pair = pair,
                                          .remote = &remote,
                                          .lent = lent,
                                          .local = keep_blocks(pair, BLOCK, 3),
                                          .number = number};
    for (uint32_t number = 0; number < WORKERS; number++)
        assert_int_equal(pthread_create(&workers[number].thread, NULL, work, &workers[number]), 0);
    for (uint32_t number = 0; number < WORKERS; number++) {
        assert_int_equal(pthread_join(workers[number].thread, NULL), 0);
        assert_int_equal(workers[number].wrong, 0);
    }
    free(lent);
    drop(&remote);
}

static void test_numbers_outside_the_regions_are_refused_at_post(void **state)
{
    static const int64_t bad[] = {-1, BLOCKS, INT64_MIN, INT64_MAX, (INT64_C(1) << 32) + 1};
    static const int64_t good[] = {0, 1, 2};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = {
        .direction = LEND_READ, .local = &local, .remote = &remote, .count = 3, .index_bits = 64};
    struct lend_transfer *transfer = NULL;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    for (size_t index = 0; index < 2 * sizeof bad / sizeof bad[0]; index++) {
        int64_t numbers[] = {0, 1, bad[index / 2]};
        char text[32];

        move.local_blocks = index % 2 == 0 ? numbers : good;
        move.remote_blocks = index % 2 == 0 ? good : numbers;
        EXPECT(move_post(&move, transfer), LEND_E_OUT_OF_RANGE, &move.error);
        (void)snprintf(text, sizeof text, "%lld", (long long)bad[index / 2]);
        SAYS(&move.error, text);
        SAYS(&move.error, "2");                                         /* its position */
        assert_int_equal(lend_transfer_test(transfer), LEND_E_INVALID); /* never posted */
    }

    static const int32_t negative[] = {0, -7, 2}, narrow[] = {0, 1, 2};
    move.index_bits = 32;
    move.local_blocks = narrow;
    move.remote_blocks = negative;
    EXPECT(move_post(&move, transfer), LEND_E_OUT_OF_RANGE, &move.error);
    SAYS(&move.error, "-7");
    move.remote_blocks = narrow;
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_local_region_that_is_withdrawn_ends_its_transfers(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS), other = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    bool is_held;

    assert_int_equal(read_blocks(pair, &local, &remote, 1), LEND_OK);
    renew_ticket(pair, &remote);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    is_held = hold_owner(pair);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(lend_region_withdraw(local.region, LEND_WITHDRAW_FORCE, 5 * SECONDS, &error), LEND_OK,
           &error);
    memory_set(local.memory, 0x11, local.bytes);
    if (is_held)
        assert_int_equal(lend_transfer_test(transfer), LEND_E_REVOKED);
    let_go(pair);
    assert_int_not_equal(await_end(pair, transfer), LEND_PENDING);
    assert_int_equal(read_blocks(pair, &other, &remote, 2), LEND_OK);
    assert_true(is_filled(local.memory, local.bytes, 0x11));

    EXPECT(move_post(&move, transfer), LEND_E_REVOKED, &move.error);
    EXPECT(lend_region_deregister(local.region, &error), LEND_OK, &error);
    EXPECT(move_post(&move, transfer), LEND_E_REVOKED, &move.error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

static void test_region_that_its_owner_replaced_is_not_read(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(owner_withdraw(pair, remote.region, LEND_WITHDRAW_FORCE, 5 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_deregister(pair, remote.region, &error), LEND_OK, &error);

    /* The same memory again, and a lease on it: another region all the same. */
    struct loan next = remote;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region_info info = {0};

    EXPECT(pair_describe(pair, next.memory, next.bytes, &desc.memory, &error), LEND_OK, &error);
    desc.geometry = next.geometry;
    desc.access = ALL;
    EXPECT(owner_register(pair, &desc, 1, &next.region, &error), LEND_OK, &error);
    EXPECT(owner_describe_region(pair, next.region, &info), LEND_OK, NULL);
    assert_int_not_equal(info.id, remote.id);
    meet(pair);
    lend_range(pair, &next, ALL, 0, 0);

    move.ticket = next.ticket;
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    enum lend_status status = move_finish(pair, &move, transfer);
    assert_true(status == LEND_E_STALE || status == LEND_E_OUT_OF_RANGE);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_E_UNKNOWN, &move.error);
    drop(&next);
    drop(&remote);
}

static void test_descriptor_tells_of_completion(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct epoll_event event = {.events = EPOLLIN};
    struct lend_transfer *transfer = NULL;
    int epoll = epoll_create1(EPOLL_CLOEXEC), fd = lend_agent_fd(pair->reader);
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_error error = {0};

    assert_true(epoll >= 0 && fd >= 0);
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    if (!pair_is_manual(pair)) {
        assert_int_equal(epoll_wait(epoll, &event, 1, 20000), 1);
        assert_int_equal(await_end(pair, transfer), LEND_OK);
        lend_agent_clear(pair->reader);
        assert_int_equal(epoll_wait(epoll, &event, 1, 0), 0);
        assert_int_equal(read_blocks(pair, &local, &remote, 1), LEND_OK);
        assert_int_equal(epoll_wait(epoll, &event, 1, 20000), 1);
    }
    /* Manual: sleep whenever armed, progress whenever woken, and look at nothing else. */
    while (pair_is_manual(pair) && pair_now_ns() < deadline) {
        struct lend_transfer_record record = {.struct_size = sizeof record};

        (void)lend_transfer_describe(transfer, &record, NULL);
        if (record.status != LEND_PENDING)
            break;
        if (lend_agent_arm(pair->reader, &error) == LEND_OK) {
            if (!pair_is_apart(pair))
                (void)lend_agent_progress(pair->owner, 0, NULL);
            assert_true(epoll_wait(epoll, &event, 1, pair_is_apart(pair) ? 20000 : 20) >= 0);
        }
        (void)lend_agent_progress(pair->reader, 0, NULL);
    }
    assert_int_equal(lend_transfer_test(transfer), LEND_OK);
    (void)close(epoll);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&remote);
}

/* A machine on which RDMA devices are emulated may be slow to refuse a connection to who is dead:
 * then a call has gone by before. */
static bool is_refused(const struct pair *pair, enum lend_status status)
{
    return status == LEND_E_PEER_DEAD ||
           (status == LEND_OK && pair_is_remote(pair) && strcmp(pair_carrier(pair), "tcp") == 0);
}

static void test_death_of_the_owner_ends_every_transfer(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, 60000, 30, ALL);
    struct loan locals[6]; /* one each: two reads may land at the same time */
    struct lend_transfer *transfers[6] = {NULL};
    struct move moves[6];
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    for (uint32_t index = 0; index < 6; index++) {
        locals[index] = keep_blocks(pair, 60000, 30);
        moves[index] = eight(index % 2 == 0 ? LEND_READ : LEND_WRITE, &locals[index], &remote);
        EXPECT(move_prepare(pair, &moves[index], &transfers[index]), LEND_OK, &moves[index].error);
    }
    assert_int_equal(read_blocks(pair, &locals[0], &remote, 1), LEND_OK);
    for (uint32_t index = 0; index < 6; index++)
        EXPECT(move_post(&moves[index], transfers[index]), LEND_OK, &moves[index].error);
    owner_destroy(pair);
    for (uint32_t index = 0; index < 6; index++) {
        enum lend_status status = await_end(pair, transfers[index]);

        assert_true(status == LEND_E_PEER_DEAD || status == LEND_OK || status == LEND_E_REVOKED);
    }
    assert_int_equal(await_end(pair, transfers[5]), lend_transfer_test(transfers[5]));
    EXPECT(lend_peer_describe(pair->peer, &info, &error), LEND_OK, &error);
    while (info.status != LEND_E_PEER_DEAD) {
        pair_pump(pair);
        EXPECT(lend_peer_describe(pair->peer, &info, &error), LEND_OK, &error);
    }
    enum lend_status posted = move_post(&moves[0], transfers[0]);
    assert_true(is_refused(pair, posted));
    if (posted == LEND_OK)
        assert_int_equal(await_end(pair, transfers[0]), LEND_E_PEER_DEAD);
    assert_true(is_refused(pair, lend_ticket_done(remote.ticket, &error)));
    assert_true(is_refused(pair, lend_notification_send(pair->peer, "x", 1, &error)));
    for (uint32_t index = 0; index < 6; index++)
        EXPECT(lend_transfer_release(transfers[index]), LEND_OK, NULL);
    drop(&remote);
}

static void test_released_transfer_is_refused(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = eight(LEND_READ, &local, &remote);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_transfer *transfer = NULL;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    EXPECT(move_post(&move, transfer), LEND_E_INVALID, &move.error);
    assert_int_equal(lend_transfer_test(transfer), LEND_E_INVALID);
    assert_int_equal(lend_transfer_wait(transfer, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_cancel(transfer, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_describe(transfer, &record, NULL), LEND_E_INVALID);
    assert_int_equal(lend_transfer_release(transfer), LEND_E_INVALID);
    drop(&remote);
}

const struct CMUnitTest *battery_transfers(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_numbers_of_either_width_name_the_same_blocks),
        PAIRED(test_ranges_move_by_address),
        PAIRED(test_range_outside_the_leased_blocks_is_refused),
        PAIRED(test_prepared_once_is_posted_many_times),
        PAIRED(test_record_says_how_it_went),
        PAIRED(test_failed_read_leaves_zeros_where_asked),
        PAIRED(test_canceled_read_is_quiet),
        PAIRED(test_canceled_write_is_quiet),
        PAIRED(test_transfer_under_way_is_busy),
        PAIRED(test_deadline_ends_a_transfer),
        PAIRED(test_many_transfers_are_under_way_at_once),
        cmocka_unit_test(test_narrow_agents_move_as_much),
        PAIRED(test_threads_share_an_agent),
        PAIRED(test_numbers_outside_the_regions_are_refused_at_post),
        PAIRED(test_local_region_that_is_withdrawn_ends_its_transfers),
        PAIRED(test_region_that_its_owner_replaced_is_not_read),
        PAIRED(test_descriptor_tells_of_completion),
        PAIRED(test_death_of_the_owner_ends_every_transfer),
        PAIRED(test_released_transfer_is_refused),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
