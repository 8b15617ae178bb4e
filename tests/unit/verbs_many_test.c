/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a lease of thousands of runs of blocks is written by queue pairs, as one of a few is: its
 * keys are made in steps, and end whole, wherever in their making that is; and what cannot have
 * them is served, or refused with the cause and its values.
 * Method: the world of rails, with many blocks, of which every third is leased: each is a run. How
 * many keys there are is counted at the fake NIC. All of it goes over both kinds of keys: windows,
 * and the private regions of a NIC that says that it is soft-RoCE.
 */
#define WORLD_BLOCK  64
#define WORLD_BLOCKS 16386
#include "verbs_world.h"

#include <errno.h>

enum { SOFT_ROCE = 0xffffff, RUNS_MAX = LEND_RAIL_SPANS_MAX, ROOM = 1 << 16 };

/* Of windows, and of private regions. */
static const uint32_t vendors[] = {0, SOFT_ROCE};

static int before; /* there were so many regions */

/* A lease of the last so many runs of each region; the NIC has room for so many keys. */
static struct world *open_scattered(uint32_t vendor, uint32_t runs, int room)
{
    static uint32_t blocks[BLOCKS / 3];
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    begin_world();
    fake_verbs.devices[0].vendor_id = fake_verbs.devices[1].vendor_id = vendor;
    fake_verbs.devices[0].windows_max = room;
    fake_verbs.devices[0].regions_max = room + REGIONS + 1; /* and the page of words */
    fill_world(world, "fake0", "fake1");
    for (uint32_t i = 0; i < runs; i++)
        blocks[i] = BLOCKS - 1 - 3 * (runs - 1 - i);
    grant_blocks(world, LEND_ACCESS_WRITE, blocks, runs);
    before = fake_verbs.mrs;
    return world;
}

static int count_keys(void)
{
    return fake_verbs.mws + fake_verbs.mrs - before;
}

/* What a WRITE that only NICs may carry fails with. */
static void expect_refusal(struct world *world, const char *part)
{
    struct lend_error error = {0};

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x77);
    post(world);
    assert_int_equal(finish(world, &error).status, LEND_E_NO_PATH);
    if (strstr(error.message, part) == NULL)
        fail_msg("'%s' is not in: %s", part, error.message);
    assert_int_equal(fake_verbs.mrs, before);
    prepare(world, LEND_WRITE, NULL);
    expect(world, LEND_OK, "loopback");
}

static void test_thousands_of_runs_are_written_by_queue_pairs(void **state)
{
    static const uint32_t runs[] = {22, 172, 2000, RUNS_MAX / REGIONS};

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct world *world = open_scattered(vendors[i % 2], runs[i / 2], ROOM);
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        for (int round = 0; round < 2; round++) {
            paint(world, 0x50 + round);
            expect(world, LEND_OK, "verbs/write");
            assert_int_equal(count_keys(), runs[i / 2] * REGIONS);
        }
        check(lend_lease_revoke(world->lease, &error), &error);
        assert_int_equal(fake_verbs.mrs, before);
        assert_true(fake_verbs.mws <= LEND_VERBS_WINDOWS_KEPT);
        expect(world, LEND_E_REVOKED, NULL);
        close_world(world);
    }
}

static void test_their_making_stops_nobody_for_long(void **state)
{
    enum { RUNS = 1000 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_scattered(vendors[i], RUNS, ROOM);
        struct lend_error error = {0};
        int steps = 0, most = 0;

        prepare(world, LEND_WRITE, "verbs/write");
        paint(world, 0x5a);
        post(world);
        for (; lend_transfer_test(world->transfer) == LEND_PENDING; steps++) {
            int had = count_keys();

            step(world);
            most = count_keys() - had > most ? count_keys() - had : most;
        }
        assert_int_equal(finish(world, &error).status, LEND_OK);
        assert_true(is_here(world));
        /* A few turns of the session in a call of progress. */
        assert_true(most > 0 && most <= 8 * LEND_VERBS_KEYS_AT_ONCE);
        assert_true(steps > REGIONS * RUNS / most);
        close_world(world);
    }
}

static void test_a_lease_that_ends_before_its_keys_are_made_leaves_none(void **state)
{
    enum { RUNS = 400, STEPS = 14 };
    int ended = 0, partial = 0;

    (void)state;
    for (int i = 0; i < 2 * STEPS; i++) {
        struct world *world = open_scattered(vendors[i % 2], RUNS, ROOM);
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        paint(world, 0x5a);
        post(world);
        for (int steps = 0; steps < i / 2; steps++)
            step(world);
        int had = count_keys();
        check(lend_lease_revoke(world->lease, &error), &error);
        struct photo photo = take_photo(world);
        assert_int_equal(fake_verbs.mrs, before);
        int kept = fake_verbs.mws;
        enum lend_status status = finish(world, &error).status;
        assert_true(status == LEND_OK || status == LEND_E_REVOKED);
        step_often(world);
        assert_int_equal(fake_verbs.mrs, before); /* and none is made any more */
        assert_int_equal(fake_verbs.mws, kept);
        expect_photo(&photo, world);
        ended += status == LEND_E_REVOKED;
        partial += had > 0 && had < RUNS * REGIONS && status == LEND_E_REVOKED;
        close_world(world);
    }
    assert_true(ended > 4 && ended < 2 * STEPS);
    assert_true(partial >= 4);
}

static struct world *revoking;
static int most_left, looks;

/* The owner's session goes on while somebody ends the lease. */
static void progress_meanwhile(uint64_t ns)
{
    (void)ns;
    (void)lend_agent_progress(revoking->owner.agent, 0, NULL);
    assert_true(count_keys() <= most_left);
    most_left = count_keys();
    looks++;
}

static void test_no_key_is_made_while_others_of_the_lease_end(void **state)
{
    const struct lend_sys_ops *real = lend_sys;
    struct lend_sys_ops sys = *lend_sys;
    struct world *world = open_scattered(SOFT_ROCE, 1000, ROOM);
    struct lend_error error = {0};

    (void)state;
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x5a);
    post(world);
    while (count_keys() == 0)
        step(world);
    revoking = world;
    most_left = count_keys();
    assert_true(most_left > LEND_VERBS_KEYS_AT_ONCE && most_left < 3000);
    sys.sleep_ns = progress_meanwhile;
    lend_sys = &sys;
    check(lend_lease_revoke(world->lease, &error), &error);
    lend_sys = real;
    assert_true(looks > 0);
    assert_int_equal(count_keys(), 0);
    assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
    close_world(world);
}

static void test_keys_that_a_nic_keeps_when_their_making_fails_end_with_the_lease(void **state)
{
    struct world *world = open_scattered(SOFT_ROCE, 100, 128);
    struct lend_error error = {0};

    (void)state;
    fake_verbs.deregister_errno = EBUSY;
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x5a);
    post(world);
    while (fake_verbs.mrs < fake_verbs.devices[0].regions_max)
        step(world);
    const int kept = count_keys();
    assert_true(kept > LEND_VERBS_KEYS_AT_ONCE);
    fake_verbs.devices[0].regions_max = ROOM;
    assert_int_equal(finish(world, &error).status, LEND_E_NO_PATH);
    assert_int_equal(count_keys(), kept);
    fake_verbs.deregister_errno = 0;
    check(lend_lease_revoke(world->lease, &error), &error);
    assert_int_equal(count_keys(), 0);
    close_world(world);
}

/* As where the channel has no room for all that is to be told. */
static void test_a_lease_that_ends_while_its_keys_are_told_says_so(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_scattered(vendors[i], 1000, ROOM);
        struct lend_verbs_rail *rail = rail_of(&world->owner);
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        paint(world, 0x5a);
        post(world);
        while (count_keys() == 0)
            step(world);
        assert_int_equal(rail->owed_count, 1);
        rail->owed[0].told = 1;
        check(lend_lease_revoke(world->lease, &error), &error);
        assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
        assert_int_equal(rail->owed_count, 0);
        close_world(world);
    }
}

static void test_a_write_that_waits_for_keys_is_canceled_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_scattered(vendors[i], 1000, ROOM);

        prepare(world, LEND_WRITE, "verbs/write");
        paint(world, 0x5a);
        post(world);
        while (count_keys() == 0)
            step(world);
        struct photo photo = take_photo(world);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_E_CANCELED);
        step_often(world);
        expect_photo(&photo, world);
        expect(world, LEND_OK, "verbs/write");
        close_world(world);
    }
}

static void test_a_nic_with_room_for_fewer_says_so_wherever_it_ends(void **state)
{
    enum { RUNS = 100 };
    static const int rooms[] = {1, 63, 64, 65, 128, REGIONS * RUNS - 1};

    (void)state;
    for (int i = 0; i < 12; i++) {
        struct world *world = open_scattered(vendors[i % 2], RUNS, rooms[i / 2]);

        expect_refusal(world, i % 2 == 0 ? "memory windows are in use" : "fake0");
        close_world(world);
    }
}

static void test_more_runs_than_there_may_be_are_refused_by_their_number(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_scattered(vendors[i], RUNS_MAX / REGIONS + 1, ROOM);

        expect_refusal(world, "its 16386 pieces lie in more than 16384 runs");
        close_world(world);
    }
}

static void test_leases_of_many_runs_at_one_time_have_their_keys(void **state)
{
    enum { LEASES = 5, RUNS = 300 };
    struct lend_lease *leases[LEASES];
    struct lend_ticket *tickets[LEASES];
    struct lend_transfer *transfers[LEASES];

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_scattered(vendors[i], RUNS, ROOM);
        struct lend_error error = {0};
        uint32_t blocks[RUNS];

        paint(world, 0x5a);
        for (int j = 0; j < LEASES; j++) {
            for (uint32_t at = 0; at < RUNS; at++)
                blocks[at] = BLOCKS - 1 - 3 * (RUNS - 1 - at);
            grant_blocks(world, LEND_ACCESS_WRITE, blocks, RUNS);
            prepare(world, LEND_WRITE, "verbs/write");
            post(world);
            leases[j] = world->lease;
            tickets[j] = world->ticket;
            transfers[j] = world->transfer;
            world->lease = NULL;
            world->ticket = NULL;
            world->transfer = NULL;
        }
        for (int j = 0; j < LEASES; j++) {
            world->transfer = transfers[j];
            assert_int_equal(finish(world, &error).status, LEND_OK);
            assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
            world->transfer = NULL;
        }
        assert_int_equal(count_keys(), LEASES * RUNS * REGIONS);
        for (int j = 0; j < LEASES; j++) {
            lend_ticket_release(tickets[j]);
            check(lend_lease_revoke(leases[j], &error), &error);
            lend_lease_release(leases[j]);
        }
        assert_int_equal(fake_verbs.mrs, before);
        close_world(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousands_of_runs_are_written_by_queue_pairs),
        cmocka_unit_test(test_their_making_stops_nobody_for_long),
        cmocka_unit_test(test_a_lease_that_ends_before_its_keys_are_made_leaves_none),
        cmocka_unit_test(test_no_key_is_made_while_others_of_the_lease_end),
        cmocka_unit_test(test_keys_that_a_nic_keeps_when_their_making_fails_end_with_the_lease),
        cmocka_unit_test(test_a_lease_that_ends_while_its_keys_are_told_says_so),
        cmocka_unit_test(test_a_write_that_waits_for_keys_is_canceled_at_once),
        cmocka_unit_test(test_a_nic_with_room_for_fewer_says_so_wherever_it_ends),
        cmocka_unit_test(test_more_runs_than_there_may_be_are_refused_by_their_number),
        cmocka_unit_test(test_leases_of_many_runs_at_one_time_have_their_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
