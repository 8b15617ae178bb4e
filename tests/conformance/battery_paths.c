/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a transfer takes the path that its policy allows, and no other; without one it takes the
 * best; and lend_explain() tells which, and why not a better one.
 * Method: explain, prepare and move with every policy; leases of many pieces, and many leases.
 */
#include "pair.h"

enum { BLOCK = 4096, BLOCKS = 16, TICKETS = 300, SCATTERED = 12000, REFRESHES = 50 };
/* So many that a bit for each is more than one frame of the protocol carries. */
enum { SPREAD = 300000, SPREAD_BLOCK = 4, SPREAD_READ = 3 };

/* Are there several paths to choose from? */
static bool is_local(const struct pair *pair)
{
    return strncmp(pair->setup->path, "local/", 6) == 0 && !pair_is_device(pair);
}

/* Prepare a READ with a policy; release it if that succeeds. */
static enum lend_status prepare(struct pair *pair, const struct loan *local,
                                const struct loan *remote, const char *paths,
                                struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;

    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.region_count = 1;
    desc.local_regions = &local->region;
    desc.remote_regions = &remote->id;
    desc.block_count_max = BLOCKS;
    desc.paths = paths;
    enum lend_status status = lend_transfer_prepare(pair->reader, &desc, &transfer, error);
    if (status == LEND_OK)
        assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    return status;
}

static void test_policy_refuses_what_it_does_not_allow(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    EXPECT(prepare(pair, &local, &remote, "smoke-signals", &error), LEND_E_INVALID, &error);
    SAYS(&error, "smoke-signals");
    EXPECT(prepare(pair, &local, &remote, pair_served_path(pair), &error), LEND_OK, &error);
    if (is_local(pair)) {
        EXPECT(prepare(pair, &local, &remote, "loopback", &error), LEND_E_NO_PATH, &error);
        SAYS(&error, "transport local");
        /* Of these only a connection can tell. */
        EXPECT(prepare(pair, &local, &remote, "local/cross-memory", &error), LEND_E_NO_PATH,
               &error);
        SAYS(&error, "lend_peer_connect()");
        EXPECT(pair_connect(pair, &error), LEND_OK, &error);
        if (!pair_is_mapped(pair)) {
            EXPECT(prepare(pair, &local, &remote, "local/mapped", &error), LEND_E_NO_PATH, &error);
            SAYS(&error, "LEND_REGION_SHARE_FILE");
        }
    }
    drop(&remote);
}

static void test_slow_paths_of_networks_are_taken_by_nobody_unawares(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    if (!pair_is_slow(pair)) {
        EXPECT(prepare(pair, &local, &remote, NULL, &error), LEND_OK, &error);
    } else {
        EXPECT(prepare(pair, &local, &remote, NULL, &error), LEND_E_NO_PATH, &error);
        SAYS(&error, pair->setup->path);
        EXPECT(prepare(pair, &local, &remote, "", &error), LEND_E_NO_PATH, &error);
        EXPECT(prepare(pair, &local, &remote, pair->setup->path, &error), LEND_OK, &error);
        assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);
    }
    drop(&remote);
}

static void test_explanation_names_the_path_that_is_taken(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    const char *best = pair_is_shared(pair) || pair_is_remote(pair) ? pair->setup->path
                                                                    : pair_path(pair, LEND_WRITE);
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    struct lend_error error = {0};
    uint32_t count = 0, chosen = 0;
    char text[2048], line[64];
    size_t length = 0;

    EXPECT(lend_explain(pair->peer, local.region, remote.id, LEND_READ, infos, LEND_PATHS_MAX,
                        &count, &error),
           LEND_OK, &error);
    for (uint32_t index = 0; is_local(pair) && index < count; index++)
        if (infos[index].is_one_sided != 0)
            assert_int_not_equal(infos[index].status, LEND_OK); /* nobody has connected yet */
    (void)pair_paths(pair, LEND_READ, &remote);
    EXPECT(lend_explain(pair->peer, local.region, remote.id, LEND_READ, infos, LEND_PATHS_MAX,
                        &count, &error),
           LEND_OK, &error);
    for (uint32_t index = 0; index < count; index++) {
        assert_true((infos[index].status == LEND_OK) == (infos[index].why[0] == '\0'));
        if (infos[index].is_chosen != 0) {
            assert_string_equal(infos[index].name, best);
            chosen++;
        }
    }
    assert_int_equal(chosen, !pair_is_slow(pair));
    EXPECT(lend_explain_text(pair->peer, local.region, remote.id, LEND_READ, text, sizeof text,
                             &length, &error),
           LEND_OK, &error);
    assert_int_equal(length, strlen(text));
    (void)snprintf(line, sizeof line,
                   pair_is_slow(pair) ? "  %s, where paths names it\n" : "* %s\n", best);
    assert_non_null(strstr(text, line));
    EXPECT(lend_explain(pair->peer, NULL, UINT64_MAX, LEND_READ, NULL, 0, &count, &error),
           LEND_E_UNKNOWN, &error);
    drop(&remote);
}

static void test_done_is_done_whoever_copies(void **state)
{
    struct pair *pair = *state;
    struct loan remote =
        lend_memory_of(pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = BLOCKS},
                       LEND_ACCESS_READ, NULL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.consumer_count = 2; /* so that it lives on, for another */
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_int_equal(read_blocks(pair, &local, &remote, 3), LEND_OK);
    EXPECT(lend_ticket_done(remote.ticket, &error), LEND_OK, &error);
    assert_int_equal(read_blocks(pair, &local, &remote, 3), LEND_E_CONSUMED);
    drop(&remote);
}

static void test_reader_that_copies_needs_no_owner_that_runs(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    enum lend_status status;

    assert_int_equal(read_blocks(pair, &local, &remote, 1), LEND_OK);
    if (pair_is_apart(pair) && !pair_is_served(pair)) {
        pair_stop_owner(pair);
        status = read_blocks(pair, &local, &remote, BLOCKS);
        pair_continue_owner(pair);
        assert_int_equal(status, LEND_OK);
        EXPECT_SAME(local.memory, remote.memory, local.bytes);
    }
    drop(&remote);
}

static void test_more_leases_than_a_reader_remembers(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct loan first = remote;

    for (uint32_t index = 0; index < TICKETS; index++) {
        struct loan next = remote;

        lend_range(pair, &next, LEND_ACCESS_READ, index % BLOCKS, 1);
        assert_int_equal(read_blocks(pair, &local, &next, 1),
                         index % BLOCKS == 0 ? LEND_OK : LEND_E_OUT_OF_RANGE);
        drop(&next);
    }
    assert_int_equal(read_blocks(pair, &local, &first, BLOCKS), LEND_OK);
    EXPECT_SAME(local.memory, remote.memory, local.bytes);
    drop(&remote);
}

static void test_lease_of_many_scattered_blocks(void **state)
{
    static int32_t granted[SCATTERED], ours[SCATTERED];
    struct pair *pair = *state;
    struct loan remote =
        lend_memory_of(pair, (struct lend_geometry){.block_length_bytes = 64, .count = 30000},
                       LEND_ACCESS_READ, NULL);
    struct loan local = keep_blocks(pair, 64, SCATTERED);
    struct lend_block_set set = {.regions = &remote.region,
                                 .region_count = 1,
                                 .blocks = granted,
                                 .count = SCATTERED,
                                 .index_bits = 32};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = ours,
                        .remote_blocks = granted,
                        .count = SCATTERED};
    struct lend_error error = {0};

    for (int32_t index = 0; index < SCATTERED; index++) {
        granted[index] = (SCATTERED - 1 - index) * 5 / 2;
        ours[index] = index;
    }
    pattern_fill(remote.memory, remote.bytes, 8);
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    uint8_t *lent = memory_copy(remote.memory, remote.bytes);
    for (int32_t index = 0; index < SCATTERED; index++)
        EXPECT_SAME(local.memory + index * 64, lent + granted[index] * 64, 64);
    free(lent);
    granted[SCATTERED / 2] += granted[SCATTERED / 2] % 5 == 0 ? 1 : 2; /* not of the lease */
    EXPECT(move_all(pair, &move), LEND_E_OUT_OF_RANGE, &move.error);
    drop(&remote);
}

/* Blocks that are lent whole, of a region with those flags. */
static struct loan lend_flagged(struct pair *pair, uint64_t block_bytes, uint64_t count,
                                uint32_t flags)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct loan loan = {.bytes = block_bytes * count};
    struct lend_region_info info = {0};
    struct lend_error error = {0};

    loan.memory = pair_memory(pair, PAIR_OWNER, loan.bytes);
    pattern_fill(loan.memory, loan.bytes, 1);
    EXPECT(pair_describe(pair, loan.memory, loan.bytes, &desc.memory, &error), LEND_OK, &error);
    desc.geometry = (struct lend_geometry){
        .block_length_bytes = block_bytes, .stride_bytes = block_bytes, .count = count};
    desc.geometry.inner_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.flags = flags;
    EXPECT(owner_register(pair, &desc, 1, &loan.region, &error), LEND_OK, &error);
    EXPECT(owner_describe_region(pair, loan.region, &info), LEND_OK, NULL);
    loan.id = info.id;
    meet(pair);
    lend_range(pair, &loan, LEND_ACCESS_READ, 0, 0);
    return loan;
}

/* A READ into the first blocks, by the paths that are named and not by those of the setup. */
static enum lend_status read_by(struct pair *pair, const char *paths, struct move *move)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;

    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.region_count = 1;
    desc.local_regions = &move->local->region;
    desc.remote_regions = &move->remote->id;
    desc.block_count_max = move->count;
    desc.paths = paths;
    move->may_be_served = true;
    enum lend_status status = lend_transfer_prepare(pair->reader, &desc, &transfer, &move->error);
    if (status != LEND_OK)
        return status;
    EXPECT(move_post(move, transfer), LEND_OK, &move->error);
    status = move_finish(pair, move, transfer);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    return status;
}

/* Connect, and wait until no path is still being found out. */
static void know_paths(struct pair *pair, const struct loan *remote)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_error error = {0};
    uint32_t count = 0, pending = 1;

    EXPECT(pair_connect(pair, &error), LEND_OK, &error);
    (void)pair_paths(pair, LEND_READ, remote); /* what a mapping takes may still be on its way */
    while (pending > 0) {
        assert_true(pair_now_ns() < deadline);
        pair_pump(pair);
        EXPECT(lend_explain(pair->peer, NULL, remote->id, LEND_READ, infos, LEND_PATHS_MAX, &count,
                            &error),
               LEND_OK, &error);
        pending = 0;
        for (uint32_t index = 0; index < count; index++)
            pending += infos[index].status == LEND_PENDING;
    }
}

/* Without a policy the read takes that path, which the explanation has chosen. */
static void expect_preferred(struct pair *pair, struct move *move, const char *path)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    const char *chosen = "none";
    uint32_t count = 0;

    EXPECT(lend_explain(pair->peer, move->local->region, move->remote->id, LEND_READ, infos,
                        LEND_PATHS_MAX, &count, &move->error),
           LEND_OK, &move->error);
    for (uint32_t index = 0; index < count; index++)
        if (infos[index].is_chosen != 0)
            chosen = infos[index].name;
    assert_string_equal(chosen, pair_is_slow(pair) ? "none" : path);
    memory_set(move->local->memory, 0, move->local->bytes);
    EXPECT(read_by(pair, pair_must_name(pair), move), LEND_OK, &move->error);
    assert_string_equal(move->record.path, path);
    EXPECT_SAME(move->local->memory, move->remote->memory, move->local->bytes);
}

static void test_without_a_policy_the_order_of_preference_decides(void **state)
{
    static const int32_t blocks[] = {0, 1, 2, 3};
    static const uint32_t flags[] = {0, LEND_REGION_PREFER_CROSS_MEMORY};
    struct pair *pair = *state;
    struct loan local = keep_blocks(pair, BLOCK, 4);

    for (int prefers = 0; prefers < 2; prefers++) {
        struct loan remote = lend_flagged(pair, BLOCK, BLOCKS, flags[prefers]);
        struct move move = {.local = &local,
                            .remote = &remote,
                            .local_blocks = blocks,
                            .remote_blocks = blocks,
                            .count = 4};
        /* What is not mapped is copied by its owner, unless that is to be spared. */
        const char *second = prefers ? "local/cross-memory" : "local/served";

        if (!is_local(pair))
            second = pair->setup->path;
        know_paths(pair, &remote);
        expect_preferred(pair, &move, pair_is_mapped(pair) ? "local/mapped" : second);
        if (is_local(pair)) {
            /* A policy narrows what there is, in whatever order it names it. */
            EXPECT(read_by(pair, "local/cross-memory,local/served", &move), LEND_OK, &move.error);
            assert_string_equal(move.record.path, second);
            EXPECT(read_by(pair, "local/served,local/cross-memory", &move), LEND_OK, &move.error);
            assert_string_equal(move.record.path, second);
        }
        drop(&remote);
    }
}

static void test_lease_too_large_to_be_told_is_served_or_refused(void **state)
{
    static const int32_t granted[SPREAD_READ] = {0, 2, SPREAD - 1}, ours[SPREAD_READ] = {0, 1, 2};
    struct pair *pair = *state;
    struct loan remote = lend_flagged(pair, SPREAD_BLOCK, SPREAD, LEND_REGION_PREFER_CROSS_MEMORY);
    struct loan local = keep_blocks(pair, SPREAD_BLOCK, SPREAD_READ);
    struct lend_block_set set = {.regions = &remote.region,
                                 .region_count = 1,
                                 .blocks = granted,
                                 .count = SPREAD_READ,
                                 .index_bits = 32};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct move move = {.local = &local,
                        .remote = &remote,
                        .local_blocks = ours,
                        .remote_blocks = granted,
                        .count = SPREAD_READ};
    struct lend_error error = {0};

    know_paths(pair, &remote);
    if (is_local(pair)) { /* the region can be read so; it is the lease that cannot be told */
        EXPECT(read_by(pair, "local/mapped,local/cross-memory", &move), LEND_OK, &move.error);
        assert_string_not_equal(move.record.path, "local/served");
    }
    drop(&remote);
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);

    memory_set(local.memory, 0, local.bytes);
    EXPECT(read_by(pair, pair_must_name(pair), &move), LEND_OK, &move.error);
    assert_string_equal(move.record.path, pair_served_path(pair));
    for (int32_t index = 0; index < SPREAD_READ; index++)
        EXPECT_SAME(local.memory + index * SPREAD_BLOCK,
                    remote.memory + (size_t)granted[index] * SPREAD_BLOCK, SPREAD_BLOCK);
    if (is_local(pair)) {
        EXPECT(read_by(pair, "local/mapped,local/cross-memory", &move), LEND_E_NO_PATH,
               &move.error);
        SAYS(&move.error, "too many pieces to be told");
    }
    drop(&remote);
}

/* Until the reader makes progress, it cannot know of the file. */
static void expect_not_told_yet(struct pair *pair, const struct loan *remote)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    struct lend_error error = {0};
    uint32_t count = 0;

    EXPECT(lend_explain(pair->peer, NULL, remote->id, LEND_READ, infos, LEND_PATHS_MAX, &count,
                        &error),
           LEND_OK, &error);
    assert_string_equal(infos[0].name, "local/mapped");
    assert_int_equal(infos[0].status, LEND_PENDING);
    assert_non_null(strstr(infos[0].why, "on this connection yet"));
    assert_int_equal(infos[0].is_chosen, 0);
    assert_int_equal(infos[1].is_chosen, 1);
}

static void test_read_waits_for_a_file_that_metadata_told_of_first(void **state)
{
    static const int32_t blocks[] = {0, 1, 2, 3};
    struct pair *pair = *state;
    struct loan local = keep_blocks(pair, BLOCK, 4);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct loan remote = {.bytes = BLOCKS * BLOCK};
    struct move move = {.local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 4};
    struct lend_region_info info = {0};
    struct lend_error error = {0};

    meet(pair);
    EXPECT(pair_connect(pair, &error), LEND_OK, &error);
    remote.memory = pair_memory(pair, PAIR_OWNER, remote.bytes);
    EXPECT(pair_describe(pair, remote.memory, remote.bytes, &desc.memory, &error), LEND_OK, &error);
    desc.geometry.block_length_bytes = desc.geometry.stride_bytes = BLOCK;
    desc.geometry.inner_count = 1;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ;
    for (uint64_t round = 0; round < REFRESHES; round++) {
        pattern_fill(remote.memory, remote.bytes, round);
        EXPECT(owner_register(pair, &desc, 1, &remote.region, &error), LEND_OK, &error);
        EXPECT(owner_describe_region(pair, remote.region, &info), LEND_OK, NULL);
        remote.id = info.id;
        meet(pair);
        lend_range(pair, &remote, LEND_ACCESS_READ, 0, 0);
        if (pair_is_mapped(pair) && pair_is_manual(pair))
            expect_not_told_yet(pair, &remote);
        EXPECT(read_by(pair, pair->setup->path, &move), LEND_OK, &move.error);
        assert_string_equal(move.record.path, pair->setup->path);
        assert_true(pattern_is(local.memory, local.bytes, round));
        drop(&remote);
        EXPECT(owner_withdraw(pair, remote.region, LEND_WITHDRAW_FORCE, 5 * SECONDS, &error),
               LEND_OK, &error);
        EXPECT(owner_deregister(pair, remote.region, &error), LEND_OK, &error);
    }
}

const struct CMUnitTest *battery_paths(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_policy_refuses_what_it_does_not_allow),
        PAIRED(test_slow_paths_of_networks_are_taken_by_nobody_unawares),
        PAIRED(test_explanation_names_the_path_that_is_taken),
        PAIRED(test_done_is_done_whoever_copies),
        PAIRED(test_reader_that_copies_needs_no_owner_that_runs),
        PAIRED(test_more_leases_than_a_reader_remembers),
        PAIRED(test_lease_of_many_scattered_blocks),
        PAIRED(test_without_a_policy_the_order_of_preference_decides),
        PAIRED(test_lease_too_large_to_be_told_is_served_or_refused),
        PAIRED(test_read_waits_for_a_file_that_metadata_told_of_first),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
