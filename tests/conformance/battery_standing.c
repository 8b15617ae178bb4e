/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a standing lease has all regions in it, for as long as they are registered, and outlives
 * each of them; ranges that were looked up when a transfer was prepared are posted again and
 * again; and lists of ranges that were looked up before serve many transfers, and mind what is
 * registered and withdrawn later. Method: one ticket for several regions that come, go, rest, and
 * permit less than others; after each refusal both memories are looked at.
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
    desc.paths = pair_must_name(pair);
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

    memory_set(local.memory, 0x5A, BYTES);
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
    desc.paths = pair_must_name(pair);
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
    desc.paths = pair_must_name(pair);
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
        EXPECT_SAME(local.memory + ours[i] * 4096, remote.memory + theirs[i] * 4096, 4096);
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
    grant.flags = 4;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_INVALID, &error);
    SAYS(&error, "unknown flags");
    grant.flags = 0;
    grant.reserved = 1;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_INVALID, &error);

    /* As programs have it that were compiled before: what lies behind is none of it. */
    grant.struct_size = offsetof(struct lend_grant_desc, flags);
    grant.time_to_live_ns = SECONDS;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_OK, &error);
    grant.struct_size = offsetof(struct lend_grant_desc, stream);
    grant.reserved = 0;
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
    desc.paths = pair_must_name(pair);
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

/* --- lists of ranges --- */

enum { PIECES = 4, PIECE = BYTES / PIECES };

/* The pieces of a region, in their order, and one of no bytes behind them. */
static enum lend_status list(struct pair *pair, const struct loan *loan, bool is_remote,
                             struct lend_range_list **out, struct lend_error *error)
{
    struct lend_range_list_desc desc = LEND_RANGE_LIST_DESC_INIT;
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_range ranges[PIECES + 1] = {{0}};
    uint64_t address = pair_address(pair, loan->memory);

    for (uint32_t at = 0; is_remote && info.id != loan->id; at++)
        EXPECT(lend_peer_region_at(pair->peer, at, &info, error), LEND_OK, error);
    for (uint64_t i = 0; i < PIECES; i++)
        ranges[i] =
            (struct lend_range){(is_remote ? info.memory.address : address) + i * PIECE, PIECE};
    desc.peer = is_remote ? pair->peer : NULL;
    desc.ranges = ranges;
    desc.range_count = PIECES + 1;
    return lend_range_list_prepare(pair->reader, &desc, out, error);
}

/* Two lists, and what is made of them. */
struct listed {
    struct lend_range_list *local;
    struct lend_range_list *remote;
};

static struct listed list_both(struct pair *pair, const struct loan *local,
                               const struct loan *remote)
{
    struct listed both;
    struct lend_error error = {0};

    EXPECT(list(pair, local, false, &both.local, &error), LEND_OK, &error);
    EXPECT(list(pair, remote, true, &both.remote, &error), LEND_OK, &error);
    return both;
}

static void release_both(struct listed both)
{
    lend_range_list_release(both.local);
    lend_range_list_release(both.remote);
}

static struct lend_transfer_desc describe_pairs(struct pair *pair, struct listed both,
                                                uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.direction = direction;
    desc.peer = pair->peer;
    desc.paths = pair_must_name(pair);
    desc.block_count_max = PIECES + 1;
    desc.local_list = both.local;
    desc.remote_list = both.remote;
    desc.range_count = PIECES + 1;
    return desc;
}

/* Read all pairs, in their order. */
static enum lend_status read_pairs(struct pair *pair, struct listed both,
                                   struct lend_ticket *ticket, struct lend_error *error)
{
    struct lend_transfer_desc desc = describe_pairs(pair, both, LEND_READ);
    struct lend_transfer *transfer = NULL;

    enum lend_status status = lend_transfer_prepare(pair->reader, &desc, &transfer, error);
    if (status != LEND_OK)
        return status;
    status = post(pair, transfer, ticket, error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    return status;
}

static void test_lists_of_ranges_are_paired_in_any_order(void **state)
{
    static const int32_t ours[] = {0, 4, 1, 3, 2}, theirs[] = {2, 4, 3, 0, 1};
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct listed both = list_both(pair, &local, &loan);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_transfer *transfers[2] = {NULL, NULL};
    struct lend_error error = {0};

    for (int i = 0; i < 2; i++) {
        struct lend_transfer_desc desc =
            describe_pairs(pair, both, i == 0 ? LEND_READ : LEND_WRITE);

        desc.local_indices = ours;
        desc.remote_indices = theirs;
        EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfers[i], &error), LEND_OK, &error);
    }
    /* They hold what they need of the lists. */
    release_both(both);
    for (uint32_t round = 0; round < 3; round++) {
        pattern_fill(loan.memory, BYTES, round);
        EXPECT(post(pair, transfers[0], ticket, &error), LEND_OK, &error);
        for (int i = 0; i < PIECES + 1; i++)
            if (ours[i] < PIECES)
                EXPECT_SAME(local.memory + ours[i] * PIECE, loan.memory + theirs[i] * PIECE, PIECE);
        pattern_fill(local.memory, BYTES, round + 100);
        EXPECT(post(pair, transfers[1], ticket, &error), LEND_OK, &error);
        for (int i = 0; i < PIECES + 1; i++)
            if (ours[i] < PIECES)
                EXPECT_SAME(local.memory + ours[i] * PIECE, loan.memory + theirs[i] * PIECE, PIECE);
    }
    /* 0, 1 and 2, 3 touch on both sides; what lies between them is of no bytes. */
    EXPECT(lend_transfer_describe(transfers[0], &record, NULL), LEND_OK, NULL);
    assert_int_equal(record.bytes, BYTES);
    assert_int_equal(record.blocks, 3);
    for (int i = 0; i < 2; i++)
        EXPECT(lend_transfer_release(transfers[i]), LEND_OK, NULL);
    lend_ticket_release(ticket);
}

static void test_lists_mind_what_becomes_of_our_regions(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct listed both = list_both(pair, &local, &loan);
    struct lend_transfer_desc desc = describe_pairs(pair, both, LEND_READ);
    struct lend_region_desc again = LEND_REGION_DESC_INIT;
    struct lend_transfer *waiting = NULL;
    struct lend_error error = {0};

    EXPECT(read_pairs(pair, both, ticket, &error), LEND_OK, &error);
    assert_true(pattern_is(local.memory, BYTES, 1));
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &waiting, &error), LEND_OK, &error);
    EXPECT(lend_region_withdraw(local.region, LEND_WITHDRAW_FORCE, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(read_pairs(pair, both, ticket, &error), LEND_E_OUT_OF_RANGE, &error);
    SAYS(&error, "local range 0");
    EXPECT(lend_region_deregister(local.region, &error), LEND_OK, &error);
    EXPECT(post(pair, waiting, ticket, &error), LEND_E_OUT_OF_RANGE, &error);

    /* Another region at the same place serves as well, those that wait, too. */
    EXPECT(pair_describe(pair, local.memory, BYTES, &again.memory, &error), LEND_OK, &error);
    again.access = ALL;
    EXPECT(lend_region_register(pair->reader, &again, 1, &local.region, NULL, &error), LEND_OK,
           &error);
    memory_set(local.memory, 0, BYTES);
    EXPECT(post(pair, waiting, ticket, &error), LEND_OK, &error);
    assert_true(pattern_is(local.memory, BYTES, 1));
    memory_set(local.memory, 0, BYTES);
    EXPECT(read_pairs(pair, both, ticket, &error), LEND_OK, &error);
    assert_true(pattern_is(local.memory, BYTES, 1));
    /* What went over a region goes over no other. */
    EXPECT(lend_region_deregister(local.region, &error), LEND_OK, &error);
    EXPECT(lend_region_register(pair->reader, &again, 1, &local.region, NULL, &error), LEND_OK,
           &error);
    EXPECT(post(pair, waiting, ticket, &error), LEND_E_REVOKED, &error);
    EXPECT(lend_transfer_release(waiting), LEND_OK, NULL);
    release_both(both);
    lend_ticket_release(ticket);
}

static void test_lists_mind_what_becomes_of_the_peers_regions(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct lend_lease *lease = NULL;
    struct lend_ticket *ticket = grant_all(pair, &lease);
    struct listed both = list_both(pair, &local, &loan);
    struct lend_region_desc again = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    EXPECT(read_pairs(pair, both, ticket, &error), LEND_OK, &error);
    EXPECT(owner_withdraw(pair, loan.region, LEND_WITHDRAW_FORCE, 20 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_deregister(pair, loan.region, &error), LEND_OK, &error);
    EXPECT(read_pairs(pair, both, ticket, &error), LEND_E_REVOKED, &error); /* says the owner */
    meet(pair);
    EXPECT(read_pairs(pair, both, ticket, &error), LEND_E_OUT_OF_RANGE, &error);
    SAYS(&error, "remote range 0");

    EXPECT(pair_describe(pair, loan.memory, BYTES, &again.memory, &error), LEND_OK, &error);
    again.access = LEND_ACCESS_READ;
    EXPECT(owner_register(pair, &again, 1, &loan.region, &error), LEND_OK, &error);
    meet(pair);
    memory_set(local.memory, 0, BYTES);
    EXPECT(read_pairs(pair, both, ticket, &error), LEND_OK, &error);
    assert_true(pattern_is(local.memory, BYTES, 1));

    struct lend_transfer_desc desc = describe_pairs(pair, both, LEND_WRITE);
    struct lend_transfer *transfer = NULL;
    EXPECT(lend_transfer_prepare(pair->reader, &desc, &transfer, &error), LEND_E_OUT_OF_RANGE,
           &error);
    SAYS(&error, "that allows it");
    release_both(both);
    lend_ticket_release(ticket);
}

static void test_lists_and_their_pairs_are_checked(void **state)
{
    static const int32_t beyond[PIECES + 1] = {0, 1, PIECES + 1, 2, 3};
    static const int32_t below[PIECES + 1] = {0, 1, -1, 2, 3};
    static const int32_t uneven[PIECES + 1] = {0, 1, 2, 3, 3};
    static const int32_t empty[PIECES + 1] = {4, 4, 4, 4, 4};
    struct pair *pair = *state;
    struct loan loan = lent(pair, ALL), local = keep_blocks(pair, BYTES, 1);
    struct listed both = list_both(pair, &local, &loan);
    const struct lend_transfer_desc good = describe_pairs(pair, both, LEND_READ);
    struct lend_range range = {pair_address(pair, local.memory), BYTES + 1};
    struct lend_range_list_desc desc = LEND_RANGE_LIST_DESC_INIT;
    struct lend_range_list *none = NULL;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    for (uint32_t fault = 0; fault < 12; fault++) {
        struct lend_transfer_desc bad = good;

        switch (fault) {
        case 0: bad.local_list = NULL; break;
        case 1: bad.remote_list = NULL; break;
        case 2: bad.local_list = both.remote; break;
        case 3: bad.remote_list = both.local; break;
        case 4: bad.range_count = 0; break;
        case 5: bad.block_count_max = PIECES; break;
        case 6: bad.local_indices = beyond; break;
        case 7: bad.remote_indices = below; break;
        case 8: bad.local_indices = uneven; break;
        case 9: bad.local_indices = bad.remote_indices = empty; break;
        case 10: bad.local_ranges = bad.remote_ranges = &range; break;
        default:
            bad.remote_regions = &loan.id, bad.local_regions = &local.region, bad.region_count = 1;
            break;
        }
        EXPECT(lend_transfer_prepare(pair->reader, &bad, &transfer, &error), LEND_E_INVALID,
               &error);
    }
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_INVALID, &error);
    desc.ranges = &range;
    desc.range_count = 1;
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_OUT_OF_RANGE,
           &error);
    SAYS(&error, "local range 0");
    range.length_bytes = UINT64_MAX;
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_OUT_OF_RANGE,
           &error);
    SAYS(&error, "wraps");
    range.length_bytes = BYTES;
    desc.flags = 1;
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_INVALID, &error);
    desc.flags = 0;
    desc.range_count = UINT64_C(1) << 32;
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_LIMIT, &error);
    desc.struct_size--;
    EXPECT(lend_range_list_prepare(pair->reader, &desc, &none, &error), LEND_E_VERSION, &error);
    assert_null(none);
    release_both(both);
    release_both(both); /* given back already: nothing */
    EXPECT(lend_transfer_prepare(pair->reader, &good, &transfer, &error), LEND_E_INVALID, &error);
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
        PAIRED(test_lists_of_ranges_are_paired_in_any_order),
        PAIRED(test_lists_mind_what_becomes_of_our_regions),
        PAIRED(test_lists_mind_what_becomes_of_the_peers_regions),
        PAIRED(test_lists_and_their_pairs_are_checked),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
