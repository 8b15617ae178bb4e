/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a lease permits what was granted, to whom and until when, and each end has its own name.
 * Method: grant, use, end in every documented way, use again; after each refusal both memories are
 * looked at.
 */
#include "pair.h"

#include <sched.h>

enum { BLOCK = 4096, BLOCKS = 16, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

static struct loan lent_memory(struct pair *pair, uint32_t access)
{
    struct loan loan = lend_memory_of(
        pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = BLOCKS}, access, NULL);

    pattern_fill(loan.memory, loan.bytes, 1);
    return loan;
}

static struct lend_grant_desc grant_of(const struct lend_block_set *set, uint32_t access)
{
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;

    grant.sets = set;
    grant.set_count = 1;
    grant.access = access;
    grant.time_to_live_ns = 60 * SECONDS;
    return grant;
}

static struct lend_lease_info lease_info(struct pair *pair, struct lend_lease *lease)
{
    struct lend_lease_info info = {0};

    EXPECT(owner_describe_lease(pair, lease, &info), LEND_OK, NULL);
    return info;
}

/* Wait until the lease has that status and that many consumers are done. */
static void await_lease(struct pair *pair, struct lend_lease *lease, int32_t status, uint32_t done)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_lease_info info = lease_info(pair, lease);

    while ((info.status != status || info.consumers_done < done) && pair_now_ns() < deadline) {
        pair_pump(pair);
        (void)sched_yield();
        info = lease_info(pair, lease);
    }
    assert_string_equal(lend_status_name(info.status), lend_status_name(status));
    assert_true(info.consumers_done >= done);
}

/* Move one block each way under the loan's ticket, and see that refusals change nothing. */
static enum lend_status move_one(struct pair *pair, struct loan *local, struct loan *remote,
                                 uint32_t direction, int32_t block)
{
    struct move move = {.direction = direction,
                        .local = local,
                        .remote = remote,
                        .local_blocks = &block,
                        .remote_blocks = &block,
                        .count = 1};
    uint64_t offset = (uint64_t)block * BLOCK;
    enum lend_status status;

    memory_set(local->memory + offset, 0x5A, BLOCK);
    pattern_fill(remote->memory, remote->bytes, 1);
    status = move_all(pair, &move);
    if (direction == LEND_READ || status != LEND_OK)
        assert_true(pattern_is(remote->memory, remote->bytes, 1));
    if (direction == LEND_READ && status == LEND_OK)
        EXPECT_SAME(local->memory + offset, remote->memory + offset, BLOCK);
    if (direction == LEND_WRITE && status == LEND_OK)
        assert_true(is_filled(remote->memory + offset, BLOCK, 0x5A));
    return status;
}

static void test_lease_is_described_and_listed(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent_memory(pair, ALL);
    struct lend_block_set set = {
        .regions = &loan.region, .region_count = 1, .first = 3, .count = 5};
    struct lend_grant_desc grant = grant_of(&set, LEND_ACCESS_READ);
    struct lend_lease_info infos[4];
    struct lend_error error = {0};
    uint32_t count = 9;

    EXPECT(owner_list(pair, infos, 0, &count), LEND_OK, NULL);
    assert_int_equal(count, 0);
    grant.consumer_count = 2;
    grant.user_data = 77;

    uint64_t before = pair_now_ns();
    EXPECT(owner_grant(pair, &grant, &loan.lease, &error), LEND_OK, &error);
    uint64_t after = pair_now_ns();
    struct lend_lease_info info = lease_info(pair, loan.lease);

    assert_int_equal(info.status, LEND_OK);
    assert_int_equal(info.access, LEND_ACCESS_READ);
    assert_int_equal(info.consumer_count, 2);
    assert_int_equal(info.consumers_done, 0);
    assert_int_equal(info.region_count, 1);
    assert_int_equal(info.block_count, 5);
    assert_int_equal(info.user_data, 77);
    assert_in_range(info.granted_ns, before, after);
    assert_in_range(info.expires_ns, before + 60 * SECONDS, after + 60 * SECONDS);
    assert_int_equal(info.ended_ns, 0);
    assert_string_equal(info.peer, "");
    assert_string_equal(info.last_user, "");

    EXPECT(owner_list(pair, infos, 4, &count), LEND_OK, NULL);
    assert_int_equal(count, 1);
    assert_int_equal(infos[0].id, info.id);
    EXPECT(owner_revoke(pair, loan.lease, &error), LEND_OK, &error);
    EXPECT(owner_list(pair, infos, 4, &count), LEND_OK, NULL);
    assert_int_equal(count, 0);
}

static void test_use_of_a_lease_is_counted_and_named(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    assert_int_equal(read_blocks(pair, &local, &remote, 3), LEND_OK);
    assert_int_equal(read_blocks(pair, &local, &remote, 2), LEND_OK);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 0), LEND_OK);

    struct lend_lease_info info = lease_info(pair, remote.lease);
    /* Who copies by itself asks once what the lease permits; NICs write by themselves as well. */
    uint32_t writes = pair_is_remote(pair) ? 0 : 1;
    assert_int_equal(info.requests, pair_is_served(pair) ? 3 : 1 + writes);
    assert_int_equal(info.bytes, (pair_is_served(pair) ? 6 : writes) * BLOCK);
    assert_string_equal(info.last_user, "reader");
    drop(&remote);
}

static void test_range_is_the_border_of_a_lease(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    lend_range(pair, &remote, ALL, 4, 6);
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        assert_int_equal(move_one(pair, &local, &remote, direction, 3), LEND_E_OUT_OF_RANGE);
        assert_int_equal(move_one(pair, &local, &remote, direction, 4), LEND_OK);
        assert_int_equal(move_one(pair, &local, &remote, direction, 9), LEND_OK);
        assert_int_equal(move_one(pair, &local, &remote, direction, 10), LEND_E_OUT_OF_RANGE);
        assert_int_equal(move_one(pair, &local, &remote, direction, BLOCKS - 1),
                         LEND_E_OUT_OF_RANGE);
    }
    drop(&remote);
}

static void test_one_bad_block_among_good_ones_fails_the_transfer(void **state)
{
    static const int32_t blocks[] = {0, 1, 2, 3, 4};
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = {.direction = LEND_WRITE,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 5};

    lend_range(pair, &remote, ALL, 0, 4);
    EXPECT(move_all(pair, &move), LEND_E_OUT_OF_RANGE, &move.error);
    SAYS(&move.error, "0 + 5");
    /* Block 4 lies outside the lease; it was never written. */
    uint8_t *fresh = malloc(remote.bytes);
    assert_non_null(fresh);
    pattern_fill(fresh, remote.bytes, 1);
    EXPECT_SAME(remote.memory + 4 * BLOCK, fresh + 4 * BLOCK, remote.bytes - 4 * BLOCK);
    free(fresh);
    drop(&remote);
}

static void check_list(struct pair *pair, const void *numbers, uint32_t bits)
{
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region,
                                 .region_count = 1,
                                 .index_bits = bits,
                                 .blocks = numbers,
                                 .count = 5};
    struct lend_grant_desc grant = grant_of(&set, LEND_ACCESS_READ);
    struct lend_error error = {0};

    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_int_equal(lease_info(pair, remote.lease).block_count, 4);
    for (int32_t block = 0; block < BLOCKS; block++) {
        bool is_lent = block == 15 || block == 2 || block == 3 || block == 7;

        assert_int_equal(move_one(pair, &local, &remote, LEND_READ, block),
                         is_lent ? LEND_OK : LEND_E_OUT_OF_RANGE);
    }
    drop(&remote);
}

static void test_lists_of_either_width_grant_their_blocks_once(void **state)
{
    static const int32_t narrow[] = {15, 2, 3, 2, 7};
    static const int64_t wide[] = {15, 2, 3, 2, 7};

    check_list(*state, narrow, 32);
    check_list(*state, wide, 64);
}

static void test_sets_of_several_regions_add_up(void **state)
{
    static const int32_t few[] = {1, 3};
    struct pair *pair = *state;
    struct loan one = lent_memory(pair, ALL), two = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct loan three = lent_memory(pair, ALL);
    struct lend_region *both[] = {one.region, two.region};
    struct lend_block_set sets[3] = {
        {.regions = both, .region_count = 2, .first = 14},
        {.regions = &three.region, .region_count = 1, .index_bits = 32, .blocks = few, .count = 2},
        {.regions = &two.region, .region_count = 1, .first = 1, .count = 1},
    };
    struct lend_grant_desc grant = grant_of(sets, LEND_ACCESS_READ);
    struct lend_error error = {0};

    grant.set_count = 3;
    EXPECT(owner_grant(pair, &grant, &one.lease, &error), LEND_E_INVALID, &error); /* two, twice */
    grant.set_count = 2;
    EXPECT(owner_grant(pair, &grant, &one.lease, &error), LEND_OK, &error);
    one.ticket = two.ticket = three.ticket = fetch_ticket(pair, one.lease);

    struct lend_lease_info info = lease_info(pair, one.lease);
    assert_int_equal(info.region_count, 3);
    assert_int_equal(info.block_count, 6);
    assert_int_equal(move_one(pair, &local, &one, LEND_READ, 15), LEND_OK);
    assert_int_equal(move_one(pair, &local, &one, LEND_READ, 1), LEND_E_OUT_OF_RANGE);
    assert_int_equal(move_one(pair, &local, &two, LEND_READ, 14), LEND_OK);
    assert_int_equal(move_one(pair, &local, &two, LEND_READ, 1), LEND_E_OUT_OF_RANGE);
    assert_int_equal(move_one(pair, &local, &three, LEND_READ, 1), LEND_OK);
    assert_int_equal(move_one(pair, &local, &three, LEND_READ, 3), LEND_OK);
    assert_int_equal(move_one(pair, &local, &three, LEND_READ, 2), LEND_E_OUT_OF_RANGE);
    drop(&one);
}

static void test_region_outside_the_lease_is_out_of_range(void **state)
{
    struct pair *pair = *state;
    struct loan lent = lend_blocks(pair, BLOCK, BLOCKS, ALL), other = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    other.ticket = lent.ticket;
    assert_int_equal(move_one(pair, &local, &other, LEND_READ, 0), LEND_E_OUT_OF_RANGE);
    assert_int_equal(move_one(pair, &local, &other, LEND_WRITE, 0), LEND_E_OUT_OF_RANGE);
    drop(&lent);
}

static void test_direction_that_was_not_granted_is_refused(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    lend_range(pair, &remote, LEND_ACCESS_READ, 0, 0);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 1), LEND_E_ACCESS);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 1), LEND_OK);
    drop(&remote);
    lend_range(pair, &remote, LEND_ACCESS_WRITE, 0, 0);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 1), LEND_E_ACCESS);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 1), LEND_OK);
    drop(&remote);
}

static void test_region_gives_no_lease_beyond_its_access(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent_memory(pair, LEND_ACCESS_READ);
    struct lend_block_set set = {.regions = &loan.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, LEND_ACCESS_WRITE);
    struct lend_error error = {0};

    EXPECT(owner_grant(pair, &grant, &loan.lease, &error), LEND_E_ACCESS, &error);
    grant.access = ALL;
    EXPECT(owner_grant(pair, &grant, &loan.lease, &error), LEND_E_ACCESS, &error);
    assert_null(loan.lease);
    grant.access = LEND_ACCESS_READ;
    EXPECT(owner_grant(pair, &grant, &loan.lease, &error), LEND_OK, &error);
}

static void test_revoked_lease_is_revoked_for_everybody(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_E_REVOKED);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 0), LEND_E_REVOKED);

    struct lend_lease_info info = lease_info(pair, remote.lease);
    assert_int_equal(info.status, LEND_E_REVOKED);
    assert_true(info.ended_ns >= info.granted_ns);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    assert_int_equal(lease_info(pair, remote.lease).ended_ns, info.ended_ns);
    EXPECT(owner_renew(pair, remote.lease, SECONDS, &error), LEND_E_REVOKED, &error);

    while (pair_end_count(pair) == 0)
        pair_pump(pair);
    assert_int_equal(pair_end_count(pair), 1);
    assert_int_equal(pair_end(pair, 0).status, LEND_E_REVOKED);
    assert_int_equal(pair_end(pair, 0).id, info.id);
    drop(&remote);
}

static void test_expired_lease_is_expired_and_told(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    grant.time_to_live_ns = SECONDS / 50;
    grant.user_data = 4711;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);

    /* Nobody uses it and nobody asks: it ends by itself all the same. */
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    while (pair_end_count(pair) == 0 && pair_now_ns() < deadline) {
        pair_pump(pair);
        (void)sched_yield();
    }
    assert_int_equal(pair_end_count(pair), 1);
    assert_int_equal(pair_end(pair, 0).status, LEND_E_EXPIRED);
    assert_int_equal(pair_end(pair, 0).user_data, 4711);

    struct lend_lease_info info = lease_info(pair, remote.lease);
    assert_int_equal(info.status, LEND_E_EXPIRED);
    assert_true(info.ended_ns >= info.expires_ns);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_E_EXPIRED);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 0), LEND_E_EXPIRED);
    EXPECT(owner_renew(pair, remote.lease, SECONDS, &error), LEND_E_EXPIRED, &error);
    drop(&remote);
}

static void test_renewed_lease_lives_on(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    grant.time_to_live_ns = SECONDS / 2;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    uint64_t first_end = lease_info(pair, remote.lease).expires_ns;
    EXPECT(owner_renew(pair, remote.lease, 60 * SECONDS, &error), LEND_OK, &error);
    assert_true(lease_info(pair, remote.lease).expires_ns > first_end + 50 * SECONDS);

    /* The old ticket is good beyond its first end: the owner's clock counts, not the hint. */
    while (pair_now_ns() <= first_end)
        assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);
    assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);
    assert_int_equal(pair_end_count(pair), 0);

    /* And renewing may shorten. */
    EXPECT(owner_renew(pair, remote.lease, SECONDS / 100, &error), LEND_OK, &error);
    await_lease(pair, remote.lease, LEND_E_EXPIRED, 0);
    drop(&remote);
}

static void test_consumer_that_is_done_has_consumed(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    grant.consumer_count = 1;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);
    EXPECT(lend_ticket_done(remote.ticket, &error), LEND_OK, &error);
    /* In order after it comes: */
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_E_CONSUMED);
    await_lease(pair, remote.lease, LEND_E_CONSUMED, 1);
    EXPECT(lend_ticket_done(remote.ticket, &error), LEND_OK, &error);
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 0), LEND_E_CONSUMED);
    assert_int_equal(lease_info(pair, remote.lease).consumers_done, 1);
    EXPECT(owner_renew(pair, remote.lease, SECONDS, &error), LEND_E_CONSUMED, &error);
    assert_int_equal(pair_end(pair, 0).status, LEND_E_CONSUMED);
    drop(&remote);
}

static void test_consumers_are_counted_once_each(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    grant.consumer_count = 2;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_int_equal(read_blocks(pair, &local, &remote, 1), LEND_OK);
    EXPECT(lend_ticket_done(remote.ticket, &error), LEND_OK, &error);
    EXPECT(lend_ticket_done(remote.ticket, &error), LEND_OK, &error);
    await_lease(pair, remote.lease, LEND_OK, 1);
    /* This one has said done; that is an end for it, though not for the lease. */
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_E_CONSUMED);
    assert_int_equal(lease_info(pair, remote.lease).consumers_done, 1);

    struct pair second = pair_join(pair, "second");
    struct loan theirs = remote, kept = keep_blocks(&second, BLOCK, BLOCKS);

    theirs.ticket = fetch_ticket(&second, remote.lease);
    assert_int_equal(read_blocks(&second, &kept, &theirs, 1), LEND_OK);
    EXPECT(lend_ticket_done(theirs.ticket, &error), LEND_OK, &error);
    await_lease(&second, remote.lease, LEND_E_CONSUMED, 2);
    assert_int_equal(lease_info(pair, remote.lease).consumers_done, 2);
    drop(&theirs);
    drop(&remote);
    pair_leave(&second);
}

static void test_consumer_that_dies_is_counted(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    grant.consumer_count = 1;
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);

    struct pair second = pair_join(pair, "mortal");
    struct loan theirs = remote, kept = keep_blocks(&second, BLOCK, BLOCKS);

    theirs.ticket = fetch_ticket(&second, remote.lease);
    assert_int_equal(read_blocks(&second, &kept, &theirs, 1), LEND_OK);
    await_lease(pair, remote.lease, LEND_OK, 0);
    pair_die(&second);
    await_lease(pair, remote.lease, LEND_E_CONSUMED, 1);
}

static void test_named_peer_alone_may_use_its_lease(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    EXPECT(owner_import(pair, &grant.peer), LEND_OK, NULL);
    grant.time_to_live_ns = 0; /* no end, for a named peer */
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_string_equal(lease_info(pair, remote.lease).peer, "reader");
    assert_int_equal(lease_info(pair, remote.lease).expires_ns, 0);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 2), LEND_OK);

    struct pair second = pair_join(pair, "thief");
    struct loan stolen = remote, kept = keep_blocks(&second, BLOCK, BLOCKS);

    stolen.ticket = fetch_ticket(&second, remote.lease);
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        enum lend_status status = move_one(&second, &kept, &stolen, direction, 2);

        assert_true(status == LEND_E_ACCESS || status == LEND_E_UNKNOWN);
    }
    assert_int_equal(move_one(pair, &local, &remote, LEND_WRITE, 2), LEND_OK);
    drop(&stolen);
    pair_leave(&second);
    drop(&remote);
    owner_forget(pair, grant.peer);
}

static void test_lease_of_a_named_peer_ends_with_it(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lent_memory(pair, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_error error = {0};

    EXPECT(owner_import(pair, &grant.peer), LEND_OK, NULL);
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_OK, &error);
    remote.ticket = fetch_ticket(pair, remote.lease);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 2), LEND_OK);

    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    pair_die(pair);
    config.name = "heir";
    pair_name_transports(pair, &config);
    config.local_directory = pair->directory;
    config.flags = pair_is_manual(pair) ? LEND_AGENT_MANUAL_PROGRESS : 0;
    EXPECT(lend_agent_create(&config, &pair->reader, &error), LEND_OK, &error);
    await_lease(pair, remote.lease, LEND_E_PEER_DEAD, 0);
    EXPECT(owner_renew(pair, remote.lease, SECONDS, &error), LEND_E_PEER_DEAD, &error);
    EXPECT(owner_grant(pair, &grant, &remote.lease, &error), LEND_E_PEER_DEAD, &error);
    owner_forget(pair, grant.peer);
}

static void test_revoking_blocks_ends_the_leases_that_touch_them(void **state)
{
    static const int64_t evicted[] = {12, 3};
    struct pair *pair = *state;
    struct loan loan = lent_memory(pair, ALL);
    struct lend_lease *leases[4];
    static const uint64_t firsts[] = {0, 3, 4, 10};
    struct lend_error error = {0};
    uint32_t count = 0;

    for (size_t index = 0; index < 4; index++) {
        lend_range(pair, &loan, ALL, firsts[index], 4); /* 0-3, 3-6, 4-7, 10-13 */
        leases[index] = loan.lease;
        drop(&loan);
    }

    struct lend_block_set set = {.regions = &loan.region,
                                 .region_count = 1,
                                 .index_bits = 64,
                                 .blocks = evicted,
                                 .count = 2};
    EXPECT(owner_revoke_blocks(pair, &set, &count, &error), LEND_OK, &error);
    assert_int_equal(count, 3);
    assert_int_equal(lease_info(pair, leases[0]).status, LEND_E_REVOKED);
    assert_int_equal(lease_info(pair, leases[1]).status, LEND_E_REVOKED);
    assert_int_equal(lease_info(pair, leases[2]).status, LEND_OK);
    assert_int_equal(lease_info(pair, leases[3]).status, LEND_E_REVOKED);

    EXPECT(owner_revoke_blocks(pair, &set, &count, &error), LEND_OK, &error);
    assert_int_equal(count, 0);
    set = (struct lend_block_set){
        .regions = &loan.region, .region_count = 1, .first = BLOCKS - 1, .count = 2};
    EXPECT(owner_revoke_blocks(pair, &set, &count, &error), LEND_E_OUT_OF_RANGE, &error);
    assert_int_equal(lease_info(pair, leases[2]).status, LEND_OK);
    set = (struct lend_block_set){.regions = &loan.region, .region_count = 1};
    EXPECT(owner_revoke_blocks(pair, &set, &count, &error), LEND_OK, &error);
    assert_int_equal(count, 1);
}

static void one_slot_without_rest(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner) {
        config->leases_max = 1;
        config->slot_rest_ns = 1;
    }
}

static void test_slot_with_a_newer_life_is_stale(void **state)
{
    struct pair *pair = pair_make(battery_current, one_slot_without_rest);
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS), old = remote;
    struct lend_error error = {0};

    (void)state;
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    owner_release(pair, remote.lease);
    lend_range(pair, &remote, ALL, 0, 0);
    assert_int_equal(move_one(pair, &local, &old, LEND_READ, 0), LEND_E_STALE);
    assert_int_equal(move_one(pair, &local, &old, LEND_WRITE, 0), LEND_E_STALE);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_OK);
    /* A late done of the old life does not count in the new one. */
    EXPECT(lend_ticket_done(old.ticket, &error), LEND_OK, &error);
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_OK);
    drop(&old);
    drop(&remote);
    pair_free(pair);
}

static void one_slot_with_rest(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner) {
        config->leases_max = 1;
        config->slot_rest_ns = 600 * SECONDS;
    }
}

static void test_slot_rests_before_it_serves_again(void **state)
{
    struct pair *pair = pair_make(battery_current, one_slot_with_rest);
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    (void)state;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_LIMIT, &error);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_LIMIT, &error);
    owner_release(pair, remote.lease);
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_LIMIT, &error);
    assert_null(lease);
    /* Its cause stays readable meanwhile. */
    assert_int_equal(move_one(pair, &local, &remote, LEND_READ, 0), LEND_E_REVOKED);
    drop(&remote);
    pair_free(pair);
}

static void two_leases_per_peer(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner)
        config->leases_per_peer_max = 2;
}

static void test_leases_of_one_peer_are_limited(void **state)
{
    struct pair *pair = pair_make(battery_current, two_leases_per_peer);
    struct loan remote = lent_memory(pair, ALL);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_lease *leases[3] = {NULL, NULL, NULL};
    struct lend_error error = {0};

    (void)state;
    EXPECT(owner_import(pair, &grant.peer), LEND_OK, NULL);
    EXPECT(owner_grant(pair, &grant, &leases[0], &error), LEND_OK, &error);
    EXPECT(owner_grant(pair, &grant, &leases[1], &error), LEND_OK, &error);
    EXPECT(owner_grant(pair, &grant, &leases[2], &error), LEND_E_LIMIT, &error);
    SAYS(&error, "reader");
    EXPECT(owner_revoke(pair, leases[0], &error), LEND_OK, &error);
    EXPECT(owner_grant(pair, &grant, &leases[2], &error), LEND_OK, &error);
    owner_forget(pair, grant.peer);
    pair_free(pair);
}

static void test_released_handle_is_refused_and_the_lease_lives_on(void **state)
{
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_lease_info info = {0};
    struct lend_error error = {0};
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = 0;

    owner_release(pair, remote.lease);
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_E_INVALID, &error);
    EXPECT(owner_renew(pair, remote.lease, SECONDS, &error), LEND_E_INVALID, &error);
    assert_int_equal(owner_describe_lease(pair, remote.lease, &info), LEND_E_INVALID);
    assert_int_equal(owner_export(pair, remote.lease, bytes, &count), LEND_E_INVALID);
    assert_int_equal(read_blocks(pair, &local, &remote, BLOCKS), LEND_OK);

    uint32_t live = 0;
    EXPECT(owner_list(pair, &info, 1, &live), LEND_OK, NULL);
    assert_int_equal(live, 1);
    drop(&remote);
}

/* What ended carries in its user_data what shall end next: a lease, then a region. */
static void end_the_next(void *context, const struct lend_lease_info *info)
{
    (void)context;
    if (info->status == LEND_E_EXPIRED)
        (void)lend_lease_revoke((struct lend_lease *)(uintptr_t)info->user_data, NULL);
    if (info->status == LEND_E_REVOKED &&
        lend_region_withdraw((struct lend_region *)(uintptr_t)info->user_data, LEND_WITHDRAW_FORCE,
                             SECONDS, NULL) != LEND_OK)
        return; /* the test sees that it is not withdrawn */
}

static void with_dominoes(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner)
        config->on_lease_end = end_the_next;
}

static void test_callback_may_revoke_and_withdraw(void **state)
{
    struct pair *pair = pair_make(battery_current, with_dominoes);
    struct loan remote = lent_memory(pair, ALL);
    struct lend_block_set set = {.regions = &remote.region, .region_count = 1};
    struct lend_grant_desc grant = grant_of(&set, ALL);
    struct lend_region_info info = {0};
    struct lend_lease *first = NULL, *second = NULL;
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_error error = {0};

    (void)state;
    grant.user_data = (uint64_t)(uintptr_t)remote.region;
    EXPECT(owner_grant(pair, &grant, &second, &error), LEND_OK, &error);
    grant.user_data = (uint64_t)(uintptr_t)second;
    grant.time_to_live_ns = SECONDS / 50;
    EXPECT(owner_grant(pair, &grant, &first, &error), LEND_OK, &error);
    while (info.is_withdrawn == 0 && pair_now_ns() < deadline) {
        pair_pump(pair);
        EXPECT(owner_describe_region(pair, remote.region, &info), LEND_OK, NULL);
    }
    assert_int_equal(info.is_withdrawn, 1);
    await_lease(pair, second, LEND_E_REVOKED, 0);
    EXPECT(owner_withdraw(pair, remote.region, LEND_WITHDRAW_DRAIN, SECONDS, &error), LEND_OK,
           &error);
    pair_free(pair);
}

const struct CMUnitTest *battery_leases(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_lease_is_described_and_listed),
        PAIRED(test_use_of_a_lease_is_counted_and_named),
        PAIRED(test_range_is_the_border_of_a_lease),
        PAIRED(test_one_bad_block_among_good_ones_fails_the_transfer),
        PAIRED(test_lists_of_either_width_grant_their_blocks_once),
        PAIRED(test_sets_of_several_regions_add_up),
        PAIRED(test_region_outside_the_lease_is_out_of_range),
        PAIRED(test_direction_that_was_not_granted_is_refused),
        PAIRED(test_region_gives_no_lease_beyond_its_access),
        PAIRED(test_revoked_lease_is_revoked_for_everybody),
        PAIRED(test_expired_lease_is_expired_and_told),
        PAIRED(test_renewed_lease_lives_on),
        PAIRED(test_consumer_that_is_done_has_consumed),
        PAIRED(test_consumers_are_counted_once_each),
        PAIRED(test_consumer_that_dies_is_counted),
        PAIRED(test_named_peer_alone_may_use_its_lease),
        PAIRED(test_lease_of_a_named_peer_ends_with_it),
        PAIRED(test_revoking_blocks_ends_the_leases_that_touch_them),
        cmocka_unit_test(test_slot_with_a_newer_life_is_stale),
        cmocka_unit_test(test_slot_rests_before_it_serves_again),
        cmocka_unit_test(test_leases_of_one_peer_are_limited),
        PAIRED(test_released_handle_is_refused_and_the_lease_lives_on),
        cmocka_unit_test(test_callback_may_revoke_and_withdraw),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
