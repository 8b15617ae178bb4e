/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a standing lease has all regions in it, for as long as they are registered, and outlives
 * each of them; and ranges that were looked up when a transfer was prepared are posted again and
 * again. Method: one ticket for several regions that come, go, rest, and permit less than others;
 * after each refusal both memories are looked at.
 */
#include "pair.h"

enum { BYTES = 16384, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

/* A standing lease without an end, and its ticket. */
static struct lend_ticket *grant_all(struct pair *pair, struct lend_lease **out)
{
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.access = ALL;
    grant.flags = LEND_GRANT_STANDING;
    EXPECT(owner_grant(pair, &grant, out, &error), LEND_OK, &error);
    return fetch_ticket(pair, *out);
}

static struct loan lent(struct pair *pair, uint32_t access)
{
    struct loan loan = lend_memory_of(
        pair, (struct lend_geometry){.block_length_bytes = BYTES, .count = 1}, access, NULL);

    pattern_fill(loan.memory, BYTES, 1);
    return loan;
}

static struct lend_transfer *prepare(struct pair *pair, const struct loan *local,
                                     const struct loan *remote, uint32_t direction)
{
    const struct lend_range ours = {pair_address(pair, local->memory), BYTES};
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    /* The address that the owner has it at. */
    for (uint32_t at = 0; info.id != remote->id; at++)
        EXPECT(lend_peer_region_at(pair->peer, at, &info, &error), LEND_OK, &error);
    const struct lend_range theirs = {info.memory.address, BYTES};
    desc.direction = direction;
    desc.peer = pair->peer;
    desc.block_count_max = 1;
    desc.local_ranges = &ours;
    desc.remote_ranges = &theirs;
    desc.range_count = 1;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_OK, &error);
    return transfer;
}

static enum lend_status post(struct pair *pair, struct lend_transfer *transfer,
                             struct lend_ticket *ticket, struct lend_error *error)
{
    struct move move = {.may_be_served = true};
    struct lend_post_desc desc = LEND_POST_DESC_INIT;

    desc.ticket = ticket;
    enum lend_status status = lend_transfer_post(transfer, &desc, error);
    if (status != LEND_OK)
        return status;
    status = move_finish(pair, &move, transfer);
    *error = move.error;
    return status;
}

/* Move all of a region, and see that it came, or that nothing did. */
static enum lend_status move(struct pair *pair, struct lend_ticket *ticket,
                             const struct loan *remote, uint32_t direction)
{
    struct loan local = keep_blocks(pair, BYTES, 1);
    struct lend_transfer *transfer = prepare(pair, &local, remote, direction);
    struct lend_error error = {0};

    memset(local.memory, 0x5A, BYTES);
    pattern_fill(remote->memory, BYTES, 1);
    enum lend_status status = post(pair, transfer, ticket, &error);
    EXPECT(status, status, &error);
    if (direction == LEND_READ && status == LEND_OK)
        assert_true(pattern_is(local.memory, BYTES, 1));
    if (direction == LEND_WRITE && status == LEND_OK)
        assert_true(is_filled(remote->memory, BYTES, 0x5A));
    else
        assert_true(pattern_is(remote->memory, BYTES, 1));
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    EXPECT(lend_region_deregister(local.region, &error), LEND_OK, &error);
    return status;
}

static void test_standing_lease_reaches_regions_of_now_and_of_later(void **state)
{
    struct pair *pair = *state;
    struct loan first = lent(pair, ALL);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct loan second = lent(pair, ALL);

    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        EXPECT(move(pair, ticket, &first, direction), LEND_OK, NULL);
        EXPECT(move(pair, ticket, &second, direction), LEND_OK, NULL);
    }
    lend_ticket_release(ticket);
}

static void test_withdrawn_region_leaves_a_standing_lease_that_lives_on(void **state)
{
    struct pair *pair = *state;
    struct loan first = lent(pair, ALL), second = lent(pair, ALL);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_lease_info info = {0};
    struct lend_error error = {0};

    EXPECT(move(pair, ticket, &first, LEND_WRITE), LEND_OK, NULL);
    EXPECT(owner_withdraw(pair, first.region, LEND_WITHDRAW_FORCE, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(move(pair, ticket, &first, LEND_WRITE), LEND_E_REVOKED, NULL);
    EXPECT(owner_deregister(pair, first.region, &error), LEND_OK, &error);
    EXPECT(move(pair, ticket, &first, LEND_READ), LEND_E_REVOKED, NULL);
    /* That the lease lives forbids nothing. */
    EXPECT(owner_withdraw(pair, second.region, LEND_WITHDRAW_DRAIN, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_deregister(pair, second.region, &error), LEND_OK, &error);
    EXPECT(move(pair, ticket, &second, LEND_READ), LEND_E_REVOKED, NULL);
    EXPECT(owner_describe_lease(pair, lease, &info), LEND_OK, NULL);
    assert_int_equal(info.status, LEND_OK);
    struct loan third = lent(pair, ALL);
    EXPECT(move(pair, ticket, &third, LEND_READ), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

static void test_suspended_region_comes_back_into_a_standing_lease(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_error error = {0};

    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_FORCE, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(move(pair, ticket, &loan, LEND_READ), LEND_E_REVOKED, NULL);
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_OK, &error);
    meet(pair);
    EXPECT(move(pair, ticket, &loan, LEND_READ), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

static void test_standing_lease_permits_what_each_region_does(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BYTES, 1);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    EXPECT(move(pair, ticket, &loan, LEND_READ), LEND_OK, NULL);
    desc.direction = LEND_WRITE;
    desc.peer = pair->peer;
    desc.block_count_max = 1;
    desc.region_count = 1;
    desc.local_regions = &local.region;
    desc.remote_regions = &loan.id;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_ACCESS, &error);
    lend_ticket_release(ticket);
}

static void test_blocks_move_under_a_standing_lease(void **state)
{
    struct pair *pair = *state;
    const int32_t ours[] = {0, 1, 2}, theirs[] = {3, 1, 0};
    struct loan remote = lend_memory_of(
        pair, (struct lend_geometry){.block_length_bytes = 4096, .count = 4}, ALL, NULL);
    struct loan local = keep_blocks(pair, 4096, 4);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc blocks = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    struct move how = {.may_be_served = true};

    pattern_fill(remote.memory, remote.bytes, 7);
    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.block_count_max = 3;
    desc.region_count = 1;
    desc.local_regions = &local.region;
    desc.remote_regions = &remote.id;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_OK, &error);
    blocks.ticket = ticket;
    blocks.local_blocks = ours;
    blocks.remote_blocks = theirs;
    blocks.block_count = 3;
    EXPECT(lend_transfer_post(transfer, &blocks, &error), LEND_OK, &error);
    EXPECT(move_finish(pair, &how, transfer), LEND_OK, &how.error);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(local.memory + ours[i] * 4096, remote.memory + theirs[i] * 4096, 4096);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

static void test_revoked_standing_lease_reaches_nothing(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_error error = {0};

    EXPECT(owner_revoke(pair, lease, &error), LEND_OK, &error);
    EXPECT(move(pair, ticket, &loan, LEND_READ), LEND_E_REVOKED, NULL);
    EXPECT(move(pair, ticket, &loan, LEND_WRITE), LEND_E_REVOKED, NULL);
    lend_ticket_release(ticket);
}

static void test_descriptions_of_standing_leases_are_checked(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL);
    struct lend_block_set set = {.regions = &loan.region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    grant.access = ALL;
    grant.flags = LEND_GRANT_STANDING;
    grant.sets = &set;
    grant.set_count = 1;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_INVALID, &error);
    SAYS(&error, "standing");
    grant.flags = 2;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_INVALID, &error);
    SAYS(&error, "unknown flags");
    grant.flags = 0;
    grant.reserved = 1;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_INVALID, &error);

    /* As programs have it that were compiled before: what lies behind is none of it. */
    grant.struct_size = offsetof(struct lend_grant_desc, flags);
    grant.time_to_live_ns = SECONDS;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_OK, &error);
    grant.struct_size++;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_VERSION, &error);
}

/* --- ranges that are prepared --- */

static void test_prepared_ranges_are_posted_again_and_again(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_transfer *transfer = prepare(pair, &local, &loan, LEND_READ);
    struct lend_error error = {0};

    for (uint32_t round = 0; round < 20; round++) {
        pattern_fill(loan.memory, BYTES, round);
        EXPECT(post(pair, transfer, ticket, &error), LEND_OK, &error);
        assert_true(pattern_is(local.memory, BYTES, round));
    }
    EXPECT(lend_region_withdraw(local.region, LEND_WITHDRAW_FORCE, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(post(pair, transfer, ticket, &error), LEND_E_REVOKED, &error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

static void test_prepared_ranges_are_checked_when_they_are(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct lend_range ours = {pair_address(pair, local.memory), BYTES}, theirs = {64, BYTES};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc late = LEND_POST_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.block_count_max = 1;
    desc.local_ranges = &ours;
    desc.remote_ranges = &theirs;
    desc.range_count = 1;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_OUT_OF_RANGE,
           &error);
    SAYS(&error, "remote range 0");
    desc.range_count = 2;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_INVALID, &error);
    desc.range_count = 1;
    desc.local_ranges = NULL;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_INVALID, &error);
    desc.struct_size++;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_VERSION, &error);

    transfer = prepare(pair, &local, &loan, LEND_READ);
    late.ticket = ticket;
    late.local_ranges = late.remote_ranges = &ours;
    late.range_count = 1;
    EXPECT(lend_transfer_post(transfer, &late, &error), LEND_E_INVALID, &error);
    SAYS(&error, "prepared with its own");
    EXPECT(post(pair, transfer, ticket, &error), LEND_OK, &error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

const struct CMUnitTest *battery_standing(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_standing_lease_reaches_regions_of_now_and_of_later),
        PAIRED(test_withdrawn_region_leaves_a_standing_lease_that_lives_on),
        PAIRED(test_suspended_region_comes_back_into_a_standing_lease),
        PAIRED(test_standing_lease_permits_what_each_region_does),
        PAIRED(test_blocks_move_under_a_standing_lease),
        PAIRED(test_revoked_standing_lease_reaches_nothing),
        PAIRED(test_descriptions_of_standing_leases_are_checked),
        PAIRED(test_prepared_ranges_are_posted_again_and_again),
        PAIRED(test_prepared_ranges_are_checked_when_they_are),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
