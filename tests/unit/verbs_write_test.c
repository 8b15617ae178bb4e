/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a WRITE by queue pairs reports success only for bytes that landed while the lease lived;
 * once a write lease is said to have ended not one byte lands, whatever the peer has under way and
 * whatever the NIC does; and all that was made on a NIC is given back.
 * Method: the world of rails. Each test of an end goes over both kinds of keys: windows, and the
 * private regions of a NIC that says that it is soft-RoCE. What the owner's memory holds when the
 * end is told is compared, byte for byte, with what it holds when the NICs have done all they have.
 */
#include "verbs_world.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SOFT_ROCE = 0xffffff, KEYS = REGIONS };

/* Of windows, and of private regions. */
static const uint32_t vendors[] = {0, SOFT_ROCE};

/* A world in which a WRITE has gone by queue pairs. */
static struct world *open_written(uint32_t vendor)
{
    struct world *world = open_world_of(true, true, vendor);

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x11);
    expect(world, LEND_OK, "verbs/write");
    paint(world, 0x22);
    return world;
}

/* A WRITE is under way, and so many pieces of its work are done. */
static int begin_write(struct world *world, int works)
{
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    return fake_verbs_let_go(works);
}

static void let_all_go(void)
{
    fake_verbs.holds = fake_verbs.stalls = false;
    (void)fake_verbs_let_go(1 << 20);
}

/* Keys that a NIC has: windows are kept, and so only regions can be counted. */
static int count_keys(uint32_t vendor, int before)
{
    return vendor == SOFT_ROCE ? fake_verbs.mrs - before : fake_verbs.mws;
}

/* --- by which path --- */

static void test_a_write_goes_by_queue_pairs_and_is_told_so(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_world_of(true, true, vendors[i]);
        struct lend_error error = {0};
        char text[2048];
        size_t count = 0;
        int before = fake_verbs.mrs;

        check(lend_explain_text(world->peer, NULL, lend_region_id(world->owner.regions[0]),
                                LEND_WRITE, text, sizeof text, &count, &error),
              &error);
        assert_non_null(strstr(text, "* verbs/write\n"));
        prepare(world, LEND_WRITE, NULL);
        paint(world, 0x5a);
        expect(world, LEND_OK, "verbs/write");
        assert_int_equal(count_keys(vendors[i], before), KEYS);

        int posts = fake_verbs.posts;
        paint(world, 0x5b);
        expect(world, LEND_OK, "verbs/write");
        /* 60 blocks, and the words of four batches; by soft-RoCE these by themselves. */
        assert_int_equal(fake_verbs.posts - posts, vendors[i] == SOFT_ROCE ? 8 : 4);
        close_world(world);
    }
}

static void test_where_one_side_has_no_nic_writes_are_served(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world *world = open_world(i == 1, i == 2);

        prepare(world, LEND_WRITE, NULL);
        paint(world, 0x5a);
        expect(world, LEND_OK, "loopback");
        close_world(world);
    }
}

static void test_a_lease_for_writing_alone_is_not_read(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);

    grant(world, LEND_ACCESS_WRITE);
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x5a);
    expect(world, LEND_OK, "verbs/write");
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_E_ACCESS, NULL);
    close_world(world);
}

static void test_a_lease_for_reading_alone_is_not_written(void **state)
{
    (void)state;
    static const char *const paths[] = {NULL, "verbs/write"};

    for (int i = 0; i < 2; i++) {
        struct world *world = open_world(true, true);

        grant(world, LEND_ACCESS_READ);
        prepare(world, LEND_WRITE, paths[i]);
        expect(world, LEND_E_ACCESS, NULL);
        assert_int_equal(fake_verbs.mws, 0);
        close_world(world);
    }
}

static void test_each_run_of_blocks_has_a_key(void **state)
{
    (void)state;
    /* Those of a transfer are the multiples of three from 6 on: without others there are 20 runs in
     * a region; without a few of the others, four. */
    for (int is_many = 0; is_many < 2; is_many++) {
        struct world *world = open_world(true, true);
        uint32_t blocks[BLOCKS];
        uint64_t count = 0;

        for (uint32_t i = 6; i < BLOCKS; i++)
            if (i % 3 == 0 || (!is_many && i != 10 && i != 20 && i != 40))
                blocks[count++] = i;
        grant_blocks(world, LEND_ACCESS_WRITE, blocks, count);
        prepare(world, LEND_WRITE, "verbs/write");
        paint(world, 0x5a);
        expect(world, LEND_OK, "verbs/write");
        assert_int_equal(fake_verbs.mws, (is_many ? CHOSEN : 4) * REGIONS);
        close_world(world);
    }
}

static void test_where_a_nic_has_too_few_windows_writes_are_served(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    fake_verbs_reset();
    fake_verbs.devices[0].windows_max = KEYS - 1;
    lend_verbs = &fake_verbs_ops;
    make_side(&world->owner, "owner", "fake0");
    make_side(&world->reader, "reader", "fake1");
    refresh(world);
    meet(world);
    grant(world, LEND_ACCESS_WRITE);
    prepare(world, LEND_WRITE, NULL);
    paint(world, 0x5a);
    expect(world, LEND_OK, "loopback");
    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_E_NO_PATH, NULL);
    close_world(world);
}

/* --- the end of a lease --- */

static void test_after_a_revoke_nothing_lands_wherever_the_write_is(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int after = 0; after < 70; after += 3) {
            struct world *world = open_written(vendors[i]);
            struct lend_error error = {0};

            int done = begin_write(world, after);
            step(world);
            check(lend_lease_revoke(world->lease, &error), &error);
            struct photo photo = take_photo(world);
            let_all_go();
            struct lend_transfer_record record = finish(world, &error);
            /* All blocks, and the word of each of four batches. */
            bool is_over = done == REGIONS * CHOSEN + 4;
            assert_int_equal(record.status, is_over ? LEND_OK : LEND_E_REVOKED);
            step_often(world);
            for (uint64_t block = 0; block < record.blocks; block++) /* what it calls proven */
                assert_int_equal(
                    photo.bytes[block / CHOSEN][(BLOCKS - 1 - 3 * (block % CHOSEN)) * BLOCK], 0x22);
            expect_photo(&photo, world);
            close_world(world);
        }
}

static void test_keys_end_with_their_lease_and_windows_are_bound_again(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_world_of(true, true, vendors[i]);
        struct lend_error error = {0};
        int before = fake_verbs.mrs;

        prepare(world, LEND_WRITE, "verbs/write");
        for (int round = 0; round < 5; round++) {
            paint(world, round);
            expect(world, LEND_OK, "verbs/write");
            assert_int_equal(count_keys(vendors[i], before), KEYS);
            check(lend_lease_revoke(world->lease, &error), &error);
            assert_int_equal(fake_verbs.mrs, before);
            grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
        }
        close_world(world);
    }
}

static void test_keys_of_a_lease_that_expires_end_by_themselves(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_world_of(true, true, SOFT_ROCE);
    struct lend_error error = {0};
    int before = fake_verbs.mrs;

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 1);
    expect(world, LEND_OK, "verbs/write");
    assert_int_equal(fake_verbs.mrs, before + KEYS);
    check(lend_lease_renew(world->lease, SECOND, &error), &error);
    double_clock_advance(2 * SECOND);
    (void)lend_agent_progress(world->owner.agent, 0, NULL);
    assert_int_equal(fake_verbs.mrs, before);
    paint(world, 2);
    post(world);
    assert_int_equal(finish(world, &error).status, LEND_E_EXPIRED);
    close_world(world);
    (void)double_remove();
}

static void test_keys_end_with_their_peer(void **state)
{
    (void)state;
    struct world *world = open_written(SOFT_ROCE);
    struct lend_error error = {0};

    assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    close_side(&world->reader);
    for (int i = 0; i < 100; i++)
        (void)lend_agent_progress(world->owner.agent, 0, NULL);
    assert_int_equal(fake_verbs.qps, 0);
    assert_int_equal(fake_verbs.mrs, REGIONS + 1); /* and the page of words */
    check(lend_lease_revoke(world->lease, &error), &error);
    lend_lease_release(world->lease);
    close_side(&world->owner);
    assert_int_equal(fake_verbs_kept(), 0);
    lend_verbs = NULL;
    free(world);
}

static void test_withdrawing_ends_keys_and_writers_are_told_why(void **state)
{
    (void)state;
    static const char *const paths[] = {NULL, "verbs/write"};

    for (int i = 0; i < 4; i++) {
        struct world *world = open_written(vendors[i % 2]);
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, paths[i / 2]);
        (void)begin_write(world, 10);
        check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
              &error);
        struct photo photo = take_photo(world);
        let_all_go();
        assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
        expect_photo(&photo, world);
        close_world(world);
    }
}

static void test_a_region_lives_on_after_its_writers(void **state)
{
    (void)state;
    struct world *world = open_written(0);
    struct lend_error error = {0};

    check(lend_region_suspend(world->owner.regions[2], LEND_WITHDRAW_FORCE, SECOND, &error),
          &error);
    check(lend_region_resume(world->owner.regions[2], NULL, -1, 0, &error), &error);
    refresh(world);
    expect(world, LEND_E_STALE, NULL);
    grant(world, LEND_ACCESS_WRITE);
    expect(world, LEND_OK, "verbs/write");
    close_world(world);
}

/* --- a provider that does not do it --- */

static void test_an_end_that_never_completes_is_forced(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_written(0);
    struct lend_error error = {0};

    (void)begin_write(world, 10);
    fake_verbs.stalls = true;
    int pairs = fake_verbs.qps;
    check(lend_lease_revoke(world->lease, &error), &error);
    assert_int_equal(fake_verbs.qps, pairs - 1);
    struct photo photo = take_photo(world);
    let_all_go();
    assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
    expect_photo(&photo, world);
    grant(world, LEND_ACCESS_WRITE);
    expect(world, LEND_OK, "verbs/write"); /* by other queue pairs */
    close_world(world);
    (void)double_remove();
}

static void test_a_queue_pair_for_writes_that_was_lost_is_made_anew(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_written(0);
    struct lend_error error = {0};

    fake_verbs.holds = fake_verbs.stalls = true; /* nothing of the writer's is under way */
    check(lend_lease_revoke(world->lease, &error), &error);
    fake_verbs.holds = fake_verbs.stalls = false;
    grant(world, LEND_ACCESS_WRITE);
    expect(world, LEND_OK, "verbs/write");
    close_world(world);
    (void)double_remove();
}

static void test_a_key_that_a_nic_keeps_is_busy(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        double_install(-1);
        double_clock_set(SECOND, 1000);
        struct world *world = open_written(vendors[i]);
        struct lend_error error = {0};

        fake_verbs.holds = fake_verbs.stalls = true; /* windows are not just invalidated */
        fake_verbs.deregister_errno = fake_verbs.deallocate_errno = EBUSY;
        assert_int_equal(lend_lease_revoke(world->lease, &error), LEND_E_BUSY);
        assert_non_null(strstr(error.message, "fake0"));
        assert_int_equal(
            lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, 1000, &error),
            LEND_E_BUSY);
        fake_verbs.deregister_errno = fake_verbs.deallocate_errno = 0;
        check(lend_lease_revoke(world->lease, &error), &error);
        fake_verbs.holds = fake_verbs.stalls = false;
        check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
              &error);
        close_world(world);
        (void)double_remove();
    }
}

/* Two leases that the table of grants has in one place. */
static void test_a_key_that_a_nic_keeps_holds_up_no_other(void **state)
{
    enum { LEASES = 256 };
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_written(0);
    struct lend_lease *lease = world->lease;
    struct lend_ticket *ticket = world->ticket;
    struct lend_error error = {0};

    world->lease = NULL;
    world->ticket = NULL;
    for (int i = 0; i < LEASES; i++)
        grant(world, LEND_ACCESS_WRITE);
    expect(world, LEND_OK, "verbs/write");
    assert_int_equal(fake_verbs.mws, 2 * KEYS);
    fake_verbs.holds = fake_verbs.stalls = true;
    fake_verbs.deallocate_errno = EBUSY;
    fake_verbs.deallocate_once = true;
    assert_int_equal(lend_lease_revoke(lease, &error), LEND_E_BUSY);
    assert_int_equal(fake_verbs.mws, 0); /* it was tried again before its end was told */
    check(lend_lease_revoke(lease, &error), &error);
    fake_verbs.holds = fake_verbs.stalls = false;
    expect(world, LEND_OK, "verbs/write"); /* by the other lease, and other queue pairs */
    lend_ticket_release(ticket);
    lend_lease_release(lease);
    close_world(world);
    (void)double_remove();
}

static void test_an_end_that_finds_no_room_is_posted_again(void **state)
{
    (void)state;
    struct world *world = open_written(0);
    struct lend_error error = {0};
    int pairs = fake_verbs.qps;

    fake_verbs.post_errno = ENOMEM;
    check(lend_lease_revoke(world->lease, &error), &error);
    assert_int_equal(fake_verbs.qps, pairs); /* without force */
    close_world(world);
}

static void test_an_end_that_fails_takes_the_queue_pair_with_it(void **state)
{
    (void)state;
    struct world *world = open_written(0);
    struct lend_error error = {0};
    int pairs = fake_verbs.qps;

    (void)begin_write(world, 10);
    fake_verbs.status_at = fake_verbs.works + 1;
    fake_verbs.status = LEND_VERBS_WC_LOCAL_QP_OPERATION;
    check(lend_lease_revoke(world->lease, &error), &error);
    assert_int_equal(fake_verbs.qps, pairs - 1);
    assert_int_equal(fake_verbs.mws, 1); /* that which had ended before */
    struct photo photo = take_photo(world);
    let_all_go();
    assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
    expect_photo(&photo, world);
    close_world(world);
}

/* --- what breaks --- */

static void test_whatever_status_work_ends_with_a_write_ends_well(void **state)
{
    (void)state;
    for (int status = LEND_VERBS_WC_LOCAL_LENGTH; status < LEND_VERBS_WC_STATUSES; status++) {
        for (int only = 0; only < 2; only++) {
            struct world *world = open_written(vendors[status % 2]);

            prepare(world, LEND_WRITE, only != 0 ? "verbs/write" : NULL);
            fake_verbs.status_at = fake_verbs.works + 30;
            fake_verbs.status = status;
            expect(world, LEND_OK, only != 0 ? "verbs/write" : "loopback");
            /* The owner had heard that its queue pairs were to go before it served. */
            assert_int_equal(fake_verbs.qps, only != 0 ? 6 : 0);
            fake_verbs.status_at = -1;
            step_often(world);
            prepare(world, LEND_WRITE, "verbs/write"); /* which has recovered */
            paint(world, 0x33);
            expect(world, LEND_OK, "verbs/write");
            close_world(world);
        }
    }
}

static void test_a_bind_that_fails_leaves_the_write_to_its_owner_or_another_try(void **state)
{
    (void)state;
    for (int nth = 0; nth < 2 * KEYS; nth++) {
        struct world *world = open_world(true, true);

        prepare(world, LEND_WRITE, nth % 2 != 0 ? "verbs/write" : NULL);
        paint(world, 0x44);
        fake_verbs.status_at = fake_verbs.works + nth / 2;
        fake_verbs.status = LEND_VERBS_WC_WINDOW_BIND;
        expect(world, LEND_OK, nth % 2 != 0 ? "verbs/write" : "loopback");
        close_world(world);
    }
}

static void test_a_call_that_fails_leaves_writes_to_their_owner(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        int reached = 0;

        for (int nth = 0; reached == nth; nth++) {
            struct world *world = open_world_of(true, true, vendors[i]);
            struct lend_error error = {0};
            int first = fake_verbs.calls;

            prepare(world, LEND_WRITE, NULL);
            paint(world, 0x11);
            fake_verbs.fail_at = first + nth;
            fake_verbs.failure = ENOMEM;
            expect(world, LEND_OK, NULL);
            check(lend_lease_revoke(world->lease, &error), &error);
            reached += fake_verbs.calls > first + nth;
            fake_verbs.fail_at = -1;
            close_world(world);
        }
        assert_true(reached >= KEYS);
    }
}

/* The transfer is canceled: from that moment on nothing lands, as the owner has no queue pair of
 * the rail that it went by any more, but those of the next if that was called for. */
static void expect_quiet(struct world *world, int pairs)
{
    enum lend_status status = LEND_PENDING;

    while (status == LEND_PENDING) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_equal(status, LEND_E_CANCELED);
    assert_int_equal(fake_verbs.qps, pairs);
    struct photo photo = take_photo(world);
    let_all_go();
    expect_photo(&photo, world);
    expect(world, LEND_OK, "verbs/write"); /* by other queue pairs */
}

static void test_a_cancel_by_force_is_quiet(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_written(vendors[i]);

        (void)begin_write(world, 10);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
        expect_quiet(world, 0);
        close_world(world);
    }
}

static void test_a_cancel_behind_a_break_is_quiet(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_written(vendors[i]);

        (void)begin_write(world, 10);
        fake_verbs.status_at = fake_verbs.works;
        fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
        (void)fake_verbs_let_go(1);
        fake_verbs.status_at = -1;
        /* The rail is broken, and calls anew; its owner has not heard of it. */
        for (int n = 0; n < 20; n++)
            (void)lend_agent_progress(world->reader.agent, 0, NULL);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
        expect_quiet(world, 6);
        close_world(world);
    }
}

/* A WRITE is canceled, and that call of the system fails, if it is not negative. Returns how many
 * there were before, and, where none failed, until it had ended. */
static int cancel_without_memory(int failing, int *out_calls)
{
    double_install(failing);
    double_clock_set(SECOND, 1000);
    struct world *world = open_written(0);

    (void)begin_write(world, 10);
    const int before = double_calls();
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    enum lend_status status = LEND_PENDING;
    while (status == LEND_PENDING) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    if (status == LEND_E_CANCELED)
        assert_int_equal(fake_verbs.qps, 0);
    else /* the connection broke: nobody says that it is quiet */
        assert_int_equal(status, LEND_E_PEER_DEAD);
    *out_calls = double_calls();
    let_all_go();
    close_world(world);
    assert_int_equal(double_remove(), failing >= 0);
    return before;
}

static void test_a_cancel_is_quiet_where_memory_runs_out(void **state)
{
    const bool is_scaled = getenv("LEND_SCALE") != NULL;
    /* In between nothing happens, half a second long. */
    const int near = is_scaled ? 6 : 60, apart = is_scaled ? 5000 : 500;

    (void)state;
    int calls = 0, ignored = 0;
    int before = cancel_without_memory(-1, &calls);

    for (int at = before; at < calls; at++)
        if (at < before + near || at >= calls - near || at % apart == 0)
            (void)cancel_without_memory(at, &ignored);
}

static void test_a_cancel_that_no_owner_hears_is_not_called_quiet(void **state)
{
    (void)state;
    struct world *world = open_written(0);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)begin_write(world, 10);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    close_side(&world->owner);
    let_all_go();
    for (int i = 0; i < 200; i++)
        (void)lend_agent_progress(world->reader.agent, 0, NULL);
    record = (struct lend_transfer_record){.struct_size = sizeof record};
    check(lend_transfer_describe(world->transfer, &record, &error), &error);
    assert_int_equal(record.status, LEND_E_PEER_DEAD);
    assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    close_side(&world->reader);
    lend_verbs = NULL;
    free(world);
}

static void test_a_forked_child_lets_go_and_its_parent_writes_on(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_written(vendors[i]);
        int status = 0;

        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            lend_agent_destroy(world->reader.agent);
            lend_agent_destroy(world->owner.agent);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        expect(world, LEND_OK, "verbs/write");
        close_world(world);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_goes_by_queue_pairs_and_is_told_so),
        cmocka_unit_test(test_where_one_side_has_no_nic_writes_are_served),
        cmocka_unit_test(test_a_lease_for_writing_alone_is_not_read),
        cmocka_unit_test(test_a_lease_for_reading_alone_is_not_written),
        cmocka_unit_test(test_each_run_of_blocks_has_a_key),
        cmocka_unit_test(test_where_a_nic_has_too_few_windows_writes_are_served),
        cmocka_unit_test(test_after_a_revoke_nothing_lands_wherever_the_write_is),
        cmocka_unit_test(test_keys_end_with_their_lease_and_windows_are_bound_again),
        cmocka_unit_test(test_keys_of_a_lease_that_expires_end_by_themselves),
        cmocka_unit_test(test_keys_end_with_their_peer),
        cmocka_unit_test(test_withdrawing_ends_keys_and_writers_are_told_why),
        cmocka_unit_test(test_a_region_lives_on_after_its_writers),
        cmocka_unit_test(test_an_end_that_never_completes_is_forced),
        cmocka_unit_test(test_a_queue_pair_for_writes_that_was_lost_is_made_anew),
        cmocka_unit_test(test_a_key_that_a_nic_keeps_is_busy),
        cmocka_unit_test(test_a_key_that_a_nic_keeps_holds_up_no_other),
        cmocka_unit_test(test_an_end_that_finds_no_room_is_posted_again),
        cmocka_unit_test(test_an_end_that_fails_takes_the_queue_pair_with_it),
        cmocka_unit_test(test_whatever_status_work_ends_with_a_write_ends_well),
        cmocka_unit_test(test_a_bind_that_fails_leaves_the_write_to_its_owner_or_another_try),
        cmocka_unit_test(test_a_call_that_fails_leaves_writes_to_their_owner),
        cmocka_unit_test(test_a_cancel_by_force_is_quiet),
        cmocka_unit_test(test_a_cancel_behind_a_break_is_quiet),
        cmocka_unit_test(test_a_cancel_is_quiet_where_memory_runs_out),
        cmocka_unit_test(test_a_cancel_that_no_owner_hears_is_not_called_quiet),
        cmocka_unit_test(test_a_forked_child_lets_go_and_its_parent_writes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
