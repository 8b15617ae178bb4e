/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a region that is suspended is its owner's alone, and one that is resumed is a newer life of
 * the same: nothing of the life before reaches it, and peers go on without being forgotten.
 * Method: leases, tickets and transfers of either life against the other, with memory that stays,
 * moves, or serves somebody else meanwhile, and bytes that tell where they are from.
 */
#include "pair.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { BLOCK = 4096, BLOCKS = 16, BYTES = BLOCK * BLOCKS, OLD = 1, NEW = 2 };

static const struct lend_geometry plain = {.block_length_bytes = BLOCK, .count = BLOCKS};

struct blob {
    uint8_t bytes[64 << 10];
    size_t count;
};

static struct blob metadata_of(struct pair *pair)
{
    struct blob blob = {.count = 0};

    EXPECT(owner_metadata(pair, blob.bytes, sizeof blob.bytes, &blob.count), LEND_OK, NULL);
    return blob;
}

static struct lend_region_info describe(struct pair *pair, struct lend_region *region)
{
    struct lend_region_info info = {0};

    EXPECT(owner_describe_region(pair, region, &info), LEND_OK, NULL);
    return info;
}

/* What the reader knows of a region of the owner's; false: nothing. */
static bool look_up(struct pair *pair, uint64_t id, struct lend_region_info *out)
{
    struct lend_peer_info peer = {.struct_size = sizeof peer};
    struct lend_error error = {0};

    EXPECT(lend_peer_describe(pair->peer, &peer, &error), LEND_OK, &error);
    for (uint32_t i = 0; i < peer.region_count; i++) {
        out->struct_size = sizeof *out;
        EXPECT(lend_peer_region_at(pair->peer, i, out, &error), LEND_OK, &error);
        if (out->id == id)
            return true;
    }
    return false;
}

static void suspend(struct pair *pair, const struct loan *loan)
{
    struct lend_error error = {0};

    EXPECT(owner_suspend(pair, loan->region, LEND_WITHDRAW_FORCE, 5 * SECONDS, &error), LEND_OK,
           &error);
}

static void resume(struct pair *pair, struct loan *loan, void *elsewhere)
{
    struct lend_error error = {0};

    EXPECT(owner_resume(pair, loan->region, elsewhere, loan->bytes, &error), LEND_OK, &error);
    if (elsewhere != NULL)
        loan->memory = elsewhere;
}

/* A new lease and ticket in the place of the loan's. */
static void lend_again(struct pair *pair, struct loan *loan)
{
    lend_ticket_release(loan->ticket);
    loan->ticket = NULL;
    lend_range(pair, loan, LEND_ACCESS_READ, 0, BLOCKS);
}

static enum lend_status grant_on(struct pair *pair, struct lend_region **regions, uint32_t count,
                                 struct lend_lease **out)
{
    struct lend_block_set set = {.regions = regions, .region_count = count};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 60 * SECONDS;
    return owner_grant(pair, &grant, out, &error);
}

static void test_suspended_region_keeps_what_names_it(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_memory_of(pair, plain, LEND_ACCESS_READ, "layers.0");
    struct lend_region_info before = describe(pair, loan.region), known = {0};
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_DRAIN, 0, &error), LEND_OK, &error);
    struct lend_region_info asleep = describe(pair, loan.region);
    assert_int_equal(asleep.is_withdrawn, 1);
    assert_int_equal(asleep.is_suspended, 1);
    assert_int_equal(asleep.life, 0);
    assert_int_equal(grant_on(pair, &loan.region, 1, &lease), LEND_E_REVOKED);
    meet(pair);
    assert_false(look_up(pair, loan.id, &known));
    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_FORCE, 0, &error), LEND_OK, &error);

    resume(pair, &loan, NULL);
    struct lend_region_info after = describe(pair, loan.region);
    assert_int_equal(after.id, before.id);
    assert_string_equal(after.name, "layers.0");
    assert_memory_equal(&after.geometry, &before.geometry, sizeof after.geometry);
    assert_int_equal(after.memory.address, before.memory.address);
    assert_int_equal(after.is_withdrawn, 0);
    assert_int_equal(after.is_suspended, 0);
    assert_int_equal(after.life, 1);
    meet(pair);
    assert_true(look_up(pair, loan.id, &known));
    assert_string_equal(known.name, "layers.0");
    assert_int_equal(known.life, 1);
}

/* Where the reader copies by itself, addresses matter: it has to know those of this life. The file
 * to map is another one, and the owner serves. */
static void expect_refresh(struct pair *pair, const struct loan *local, const struct loan *loan)
{
    if (pair_is_served(pair))
        return;
    assert_int_equal(read_blocks(pair, local, loan, BLOCKS),
                     pair_is_shared(pair) ? LEND_OK : LEND_E_STALE);
    meet(pair);
    /* The file comes on the connection, by a way of its own. */
    (void)pair_paths(pair, LEND_READ, loan);
}

static void test_tickets_of_the_life_before_are_stale(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    pattern_fill(loan.memory, loan.bytes, OLD);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_OK);
    suspend(pair, &loan);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_REVOKED);
    resume(pair, &loan, NULL);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_STALE);

    /* And the second life ends as the first did. */
    lend_again(pair, &loan);
    expect_refresh(pair, &local, &loan);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_OK);
    assert_true(pattern_is(local.memory, BYTES, OLD));
    suspend(pair, &loan);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_REVOKED);
    resume(pair, &loan, NULL);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_STALE);
    assert_int_equal(describe(pair, loan.region).life, 2);
    drop(&loan);
}

/* Without a refresh if it is served, and with a transfer that was prepared in the life before. */
static void test_region_resumed_elsewhere_is_read_there(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    uint8_t *before = loan.memory, *elsewhere = pair_memory(pair, PAIR_OWNER, BYTES);
    int32_t blocks[BLOCKS];
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = BLOCKS};
    struct lend_transfer *transfer = NULL;
    struct lend_region_info known = {0};

    for (int32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    pattern_fill(before, BYTES, OLD);
    pattern_fill(elsewhere, BYTES, NEW);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    assert_true(pattern_is(local.memory, BYTES, OLD));

    suspend(pair, &loan);
    memory_set(before, 0xEE, BYTES);
    resume(pair, &loan, elsewhere);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_E_STALE, &move.error);
    assert_true(pattern_is(local.memory, BYTES, OLD));
    lend_again(pair, &loan);
    expect_refresh(pair, &local, &loan);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    assert_true(pattern_is(local.memory, BYTES, NEW));
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);

    /* And after one. */
    meet(pair);
    assert_true(look_up(pair, loan.id, &known));
    assert_int_equal(known.memory.address, pair_address(pair, elsewhere));
    memory_set(local.memory, 0, BYTES);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_OK);
    assert_true(pattern_is(local.memory, BYTES, NEW));
    drop(&loan);
}

static void test_suspension_is_busy_until_nobody_holds_the_region(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_DRAIN, SECONDS / 100, &error),
           LEND_E_BUSY, &error);
    SAYS(&error, "lives");
    /* A lease that is being drained is whole until it ends. */
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_OK);
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_BUSY, &error);
    SAYS(&error, "still being suspended");

    EXPECT(owner_revoke(pair, loan.lease, &error), LEND_OK, &error);
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_BUSY, &error);
    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_DRAIN, SECONDS, &error), LEND_OK, &error);
    resume(pair, &loan, NULL);
    /* It did not end by the suspension, and keeps its cause. */
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_REVOKED);
    drop(&loan);
}

/* The drain was not waited for: what force ends then is of the suspension all the same. */
static void test_suspension_that_drained_may_end_by_force(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_DRAIN, 0, &error), LEND_E_BUSY, &error);
    suspend(pair, &loan);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_REVOKED);
    resume(pair, &loan, NULL);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_STALE);
    drop(&loan);
}

static void test_region_that_is_not_quiet_is_not_resumed(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct lend_error error = {0};

    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_INVALID, &error);
    SAYS(&error, "not suspended");
    suspend(pair, &loan);
    resume(pair, &loan, NULL);
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_INVALID, &error);

    EXPECT(owner_withdraw(pair, loan.region, LEND_WITHDRAW_FORCE, SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_suspend(pair, loan.region, LEND_WITHDRAW_FORCE, SECONDS, &error), LEND_E_REVOKED,
           &error);
    SAYS(&error, "withdrawn for good");
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_INVALID, &error);
    SAYS(&error, "withdrawn for good");
}

static void test_suspended_region_may_be_withdrawn_or_given_back(void **state)
{
    struct pair *pair = *state;
    struct loan one = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct loan two = lend_memory_of(pair, plain, LEND_ACCESS_READ, "two");
    struct lend_error error = {0};

    suspend(pair, &one);
    EXPECT(owner_withdraw(pair, one.region, LEND_WITHDRAW_DRAIN, 0, &error), LEND_OK, &error);
    assert_int_equal(describe(pair, one.region).is_suspended, 0);
    assert_int_equal(describe(pair, one.region).is_withdrawn, 1);
    EXPECT(owner_resume(pair, one.region, NULL, 0, &error), LEND_E_INVALID, &error);
    EXPECT(owner_deregister(pair, one.region, &error), LEND_OK, &error);
    suspend(pair, &two);
    EXPECT(owner_deregister(pair, two.region, &error), LEND_OK, &error);
    EXPECT(owner_resume(pair, two.region, NULL, 0, &error), LEND_E_INVALID, &error);
}

static void test_memory_is_verified_anew_and_refused_as_at_first(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct loan other = lend_memory_of(pair, plain, LEND_ACCESS_READ, "other");
    uint8_t *elsewhere = pair_memory(pair, PAIR_OWNER, BYTES);
    struct lend_error error = {0};

    suspend(pair, &loan);
    EXPECT(owner_resume(pair, loan.region, elsewhere, BYTES - BLOCK, &error), LEND_E_INVALID,
           &error);
    SAYS(&error, "one");
    /* The page behind it is not to be read. */
    EXPECT(owner_resume(pair, loan.region, elsewhere + BLOCK, BYTES, &error), LEND_E_MEMORY,
           &error);
    EXPECT(owner_resume(pair, loan.region, other.memory - BLOCK, BYTES, &error), LEND_E_OVERLAP,
           &error);
    SAYS(&error, "other");
    assert_int_equal(describe(pair, loan.region).is_suspended, 1);
    assert_int_equal(describe(pair, loan.region).life, 0);
    resume(pair, &loan, elsewhere);
    assert_int_equal(describe(pair, loan.region).life, 1);
    assert_int_equal(describe(pair, loan.region).is_shared, 0);
    /* The same range, or one inside, is shared as at registration. */
    suspend(pair, &loan);
    resume(pair, &loan, other.memory);
    assert_int_equal(describe(pair, loan.region).is_shared, 1);
}

/* While it sleeps, its addresses are anybody's. */
static void test_addresses_of_a_suspended_region_may_serve_another(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *partly = NULL;
    struct lend_error error = {0};

    EXPECT(pair_describe(pair, loan.memory - BLOCK, BYTES, &desc.memory, &error), LEND_OK, &error);
    desc.access = LEND_ACCESS_READ;
    EXPECT(owner_register(pair, &desc, 1, &partly, &error), LEND_E_OVERLAP, &error);
    suspend(pair, &loan);
    EXPECT(owner_register(pair, &desc, 1, &partly, &error), LEND_OK, &error);
    EXPECT(owner_resume(pair, loan.region, NULL, 0, &error), LEND_E_OVERLAP, &error);
    EXPECT(owner_deregister(pair, partly, &error), LEND_OK, &error);
    resume(pair, &loan, NULL);
}

static void rest_hardly(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner)
        config->slot_rest_ns = 1;
}

/* The slot of a lease that the suspension ended serves another lease when the region comes back. */
static void test_lease_that_took_the_slot_meanwhile_lives_on(void **state)
{
    struct pair *pair = pair_make(battery_current, rest_hardly);
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan other = lend_memory_of(pair, plain, LEND_ACCESS_READ, "other");
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);

    (void)state;
    suspend(pair, &loan);
    lend_range(pair, &other, LEND_ACCESS_READ, 0, BLOCKS);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_STALE);
    assert_int_equal(read_blocks(pair, &local, &other, BLOCKS), LEND_OK);
    resume(pair, &loan, NULL);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_STALE);
    assert_int_equal(read_blocks(pair, &local, &other, BLOCKS), LEND_OK);
    drop(&loan);
    drop(&other);
    pair_free(pair);
}

static void test_lease_over_several_regions_ends_with_the_first(void **state)
{
    struct pair *pair = *state;
    struct loan one = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct loan two = lend_memory_of(pair, plain, LEND_ACCESS_READ, "two");
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_region *both[] = {one.region, two.region};
    struct lend_lease *lease = NULL;

    assert_int_equal(grant_on(pair, both, 2, &lease), LEND_OK);
    one.ticket = fetch_ticket(pair, lease);
    two.ticket = fetch_ticket(pair, lease);
    assert_int_equal(read_blocks(pair, &local, &two, BLOCKS), LEND_OK);
    suspend(pair, &one);
    suspend(pair, &two);
    assert_int_equal(read_blocks(pair, &local, &two, BLOCKS), LEND_E_REVOKED);
    /* The other's suspension ended nothing of it. */
    resume(pair, &two, NULL);
    assert_int_equal(read_blocks(pair, &local, &two, BLOCKS), LEND_E_REVOKED);
    resume(pair, &one, NULL);
    assert_int_equal(read_blocks(pair, &local, &one, BLOCKS), LEND_E_STALE);
    assert_int_equal(read_blocks(pair, &local, &two, BLOCKS), LEND_E_STALE);
    drop(&one);
    drop(&two);
}

/* At the reader's side: what was prepared with a region of ours follows it. */
static void test_prepared_transfer_follows_a_region_of_ours(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    uint8_t *elsewhere = pair_memory(pair, PAIR_READER, BYTES);
    int32_t blocks[] = {3, 4, 9};
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 3};
    struct lend_transfer *transfer = NULL;
    struct lend_memory memory;
    struct lend_error error = {0};

    pattern_fill(loan.memory, BYTES, OLD);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(lend_region_suspend(local.region, LEND_WITHDRAW_FORCE, SECONDS, &error), LEND_OK,
           &error);
    EXPECT(move_post(&move, transfer), LEND_E_REVOKED, &move.error);
    memory_set(local.memory, 0xEE, BYTES);
    EXPECT(pair_describe(pair, elsewhere, BYTES, &memory, &error), LEND_OK, &error);
    EXPECT(lend_region_resume(local.region, &memory, -1, 0, &error), LEND_OK, &error);
    for (int round = 0; round < 2; round++) {
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    }
    assert_true(is_filled(local.memory, BYTES, 0xEE));
    EXPECT_SAME(elsewhere + 3 * BLOCK, loan.memory + 3 * BLOCK, 2 * BLOCK);
    EXPECT_SAME(elsewhere + 9 * BLOCK, loan.memory + 9 * BLOCK, BLOCK);
    assert_true(is_filled(elsewhere, 3 * BLOCK, 0));
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&loan);
}

/* A region of the reader's that one thread moves there and back while another one reads into it. */
struct moving {
    const struct pair *pair;
    struct lend_region *region;
    uint8_t *places[2];
    atomic_uint reads; /* that succeeded */
    atomic_uint moves;
    atomic_bool is_wrong;
};

enum { MOVES = 100 };

static void *move_there_and_back(void *context)
{
    struct moving *moving = context;

    for (unsigned move = 1; move <= MOVES && !atomic_load(&moving->is_wrong); move++) {
        uint8_t *from = moving->places[(move + 1) % 2], *to = moving->places[move % 2];
        struct lend_memory memory;
        unsigned reads;

        if (lend_region_suspend(moving->region, LEND_WITHDRAW_FORCE, PAIR_PATIENCE_NS, NULL) !=
                LEND_OK ||
            !is_filled(to, BYTES, 0xEE)) /* what we were given back before, nobody touched */
            atomic_store(&moving->is_wrong, true);
        memory_set(from, 0xEE, BYTES);
        reads = atomic_load(&moving->reads);
        if (pair_describe(moving->pair, to, BYTES, &memory, NULL) != LEND_OK ||
            lend_region_resume(moving->region, &memory, -1, 0, NULL) != LEND_OK)
            atomic_store(&moving->is_wrong, true);
        /* Each life is read into before it ends, but for those that a read of the life before,
         * which is only counted now, stands for. */
        while (atomic_load(&moving->reads) == reads && !atomic_load(&moving->is_wrong))
            (void)sched_yield();
        atomic_store(&moving->moves, move);
    }
    return NULL;
}

static void test_region_that_moves_under_posts_gets_them_where_it_is(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct moving moving = {.pair = pair,
                            .region = local.region,
                            .places = {local.memory, pair_memory(pair, PAIR_READER, BYTES)}};
    int32_t blocks[BLOCKS];
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = BLOCKS};
    struct lend_transfer *transfer = NULL;
    uint64_t until = pair_now_ns() + 3 * PAIR_PATIENCE_NS;
    pthread_t thread;

    if (pair_is_manual(pair)) {
        drop(&loan);
        print_message("skipped: under manual progress nobody makes it beside two threads\n");
        skip();
    }
    for (int32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    pattern_fill(loan.memory, BYTES, OLD);
    memory_set(moving.places[1], 0xEE, BYTES);
    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    assert_int_equal(pthread_create(&thread, NULL, move_there_and_back, &moving), 0);
    while (atomic_load(&moving.moves) < MOVES && !atomic_load(&moving.is_wrong)) {
        enum lend_status status = move_post(&move, transfer);

        if (status == LEND_OK)
            status = move_finish(pair, &move, transfer);
        if (status == LEND_OK)
            (void)atomic_fetch_add(&moving.reads, 1);
        else if (status != LEND_E_REVOKED || pair_now_ns() > until)
            atomic_store(&moving.is_wrong, true);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&moving.is_wrong));
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    assert_true(pattern_is(moving.places[MOVES % 2], BYTES, OLD));
    assert_true(is_filled(moving.places[(MOVES + 1) % 2], BYTES, 0xEE));
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&loan);
}

static void test_refresh_takes_over_what_is_newer(void **state)
{
    struct pair *pair = *state;
    struct loan gone = lend_memory_of(pair, plain, LEND_ACCESS_READ, "gone");
    struct loan moved = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct blob old = metadata_of(pair);
    uint8_t *elsewhere = pair_memory(pair, PAIR_OWNER, BYTES);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *added = NULL;
    struct lend_region_info known = {0};
    struct lend_error error = {0};
    uint64_t id = 0;

    assert_int_equal(read_blocks(pair, &local, &moved, BLOCKS), LEND_OK);
    EXPECT(owner_withdraw(pair, gone.region, LEND_WITHDRAW_FORCE, SECONDS, &error), LEND_OK,
           &error);
    suspend(pair, &moved);
    resume(pair, &moved, elsewhere);
    EXPECT(pair_describe(pair, pair_memory(pair, PAIR_OWNER, BYTES), BYTES, &desc.memory, &error),
           LEND_OK, &error);
    desc.access = LEND_ACCESS_READ;
    desc.name = "added";
    EXPECT(owner_register(pair, &desc, 1, &added, &error), LEND_OK, &error);
    struct blob new = metadata_of(pair);

    EXPECT(lend_peer_refresh(pair->peer, new.bytes, new.count, &error), LEND_OK, &error);
    for (int round = 0; round < 2; round++) {
        EXPECT(lend_peer_region(pair->peer, "added", &id, &error), LEND_OK, &error);
        EXPECT(lend_peer_region(pair->peer, "gone", &id, &error), LEND_E_ABSENT, &error);
        assert_true(look_up(pair, moved.id, &known));
        assert_int_equal(known.life, 1);
        assert_int_equal(known.memory.address, pair_address(pair, elsewhere));
        /* What is older comes late, and changes nothing. */
        EXPECT(lend_peer_refresh(pair->peer, old.bytes, old.count, &error), LEND_OK, &error);
    }
    /* The connection and the peer's handle are what they were. */
    lend_again(pair, &moved);
    assert_int_equal(read_blocks(pair, &local, &moved, BLOCKS), LEND_OK);
    drop(&moved);
}

static void test_refresh_refuses_other_bytes_and_keeps_what_it_knew(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    struct lend_region_info known = {0};
    struct lend_error error = {0};
    uint8_t own[4096];
    size_t count = 0;

    EXPECT(lend_metadata_export(pair->reader, own, sizeof own, &count, &error), LEND_OK, &error);
    EXPECT(lend_peer_refresh(pair->peer, own, count, &error), LEND_E_PEER_DEAD, &error);
    SAYS(&error, "reader");
    struct blob blob = metadata_of(pair);
    EXPECT(lend_peer_refresh(pair->peer, blob.bytes, blob.count - 1, &error), LEND_E_CORRUPT,
           &error);
    EXPECT(lend_peer_refresh(pair->peer, NULL, 10, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_refresh(NULL, blob.bytes, blob.count, &error), LEND_E_INVALID, &error);
    assert_true(look_up(pair, loan.id, &known));
}

static void test_restarted_owner_is_no_refresh(void **state)
{
    struct pair *pair = *state;
    struct lend_error error = {0};

    (void)lend_memory_of(pair, plain, LEND_ACCESS_READ, "one");
    owner_restart(pair);
    struct blob blob = metadata_of(pair);
    EXPECT(lend_peer_refresh(pair->peer, blob.bytes, blob.count, &error), LEND_E_PEER_DEAD, &error);
    SAYS(&error, "restarted");
}

const struct CMUnitTest *battery_lives(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_suspended_region_keeps_what_names_it),
        PAIRED(test_tickets_of_the_life_before_are_stale),
        PAIRED(test_region_resumed_elsewhere_is_read_there),
        PAIRED(test_suspension_is_busy_until_nobody_holds_the_region),
        PAIRED(test_suspension_that_drained_may_end_by_force),
        PAIRED(test_region_that_is_not_quiet_is_not_resumed),
        PAIRED(test_suspended_region_may_be_withdrawn_or_given_back),
        PAIRED(test_memory_is_verified_anew_and_refused_as_at_first),
        PAIRED(test_addresses_of_a_suspended_region_may_serve_another),
        cmocka_unit_test(test_lease_that_took_the_slot_meanwhile_lives_on),
        PAIRED(test_lease_over_several_regions_ends_with_the_first),
        PAIRED(test_prepared_transfer_follows_a_region_of_ours),
        PAIRED(test_region_that_moves_under_posts_gets_them_where_it_is),
        PAIRED(test_refresh_takes_over_what_is_newer),
        PAIRED(test_refresh_refuses_other_bytes_and_keeps_what_it_knew),
        PAIRED(test_restarted_owner_is_no_refresh),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
