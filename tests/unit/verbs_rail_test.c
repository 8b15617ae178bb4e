/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a READ by queue pairs reports success only for bytes that were read while the lease lived;
 * whatever breaks, it ends with the lease's cause or by another path, and nothing lands after its
 * end; a withdrawn region is reached by no key; and all that was made on a NIC is given back.
 * Method: two agents of one process under manual progress, with transports loopback and verbs, the
 * latter on a fake libibverbs: its NICs move bytes when told to, and fail as they are told.
 */
#include "verbs_world.h"

static void test_a_read_goes_by_queue_pairs_and_is_told_so(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};
    char text[2048];
    size_t count = 0;

    check(lend_explain_text(world->peer, NULL, lend_region_id(world->owner.regions[0]), LEND_READ,
                            text, sizeof text, &count, &error),
          &error);
    assert_non_null(strstr(text, "* verbs/read\n"));
    prepare(world, LEND_READ, NULL);
    int works = fake_verbs.works;
    expect(world, LEND_OK, "verbs/read");
    assert_true(fake_verbs.works > works + REGIONS * CHOSEN);

    works = fake_verbs.posts;
    expect(world, LEND_OK, "verbs/read");
    assert_true(fake_verbs.posts - works <= 6); /* 60 blocks and their words */
    close_world(world);
}

static void test_where_one_side_has_no_nic_reads_are_served(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world *world = open_world(i == 1, i == 2);

        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "loopback");
        close_world(world);
    }
}

static void test_a_lease_that_was_revoked_is_seen_in_its_word(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    check(lend_lease_revoke(world->lease, &error), &error);
    expect(world, LEND_E_REVOKED, "verbs/read");
    close_world(world);
}

static void test_bytes_of_the_next_life_are_never_a_success(void **state)
{
    (void)state;
    /* The lease ends after so many pieces of work, and the blocks are overwritten at once. */
    for (int after = 0; after < 80; after += 3) {
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        int done = fake_verbs_let_go(after);
        step(world);
        check(lend_lease_revoke(world->lease, &error), &error);
        for (int i = 0; i < REGIONS; i++)
            memset(world->owner.memory[i], 0xee, BYTES);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        struct lend_transfer_record record = finish(world, &error);
        /* All blocks, and the word of each of four batches. */
        assert_int_equal(record.status, done == REGIONS * CHOSEN + 4 ? LEND_OK : LEND_E_REVOKED);
        for (uint64_t i = 0; i < record.blocks; i++) /* what it calls proven is of this life */
            for (int j = 0; j < BLOCK; j++)
                assert_int_equal(
                    world->reader.memory[i / CHOSEN][(i % CHOSEN) * BLOCK + (size_t)j],
                    byte_at((int)(i / CHOSEN), (BLOCKS - 1 - 3 * (int)(i % CHOSEN)) * BLOCK + j));
        close_world(world);
    }
}

static void test_a_cancel_says_so_when_nothing_lands_any_more(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    for (int i = 0; i < REGIONS; i++)
        memset(world->reader.memory[i], 0, BYTES);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    /* The NIC says nothing for ever: then its queue pairs are destroyed. */
    enum lend_status status = LEND_PENDING;
    while (status == LEND_PENDING) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_equal(status, LEND_E_CANCELED);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    for (int i = 0; i < REGIONS; i++)
        for (int j = 0; j < BYTES; j++)
            assert_int_equal(world->reader.memory[i][j], 0);
    expect(world, LEND_OK, "verbs/read"); /* by other queue pairs */
    close_world(world);
}

static void test_a_cancel_waits_for_what_is_landing(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    assert_int_equal(finish(world, &error).status, LEND_E_CANCELED);
    expect(world, LEND_OK, "verbs/read");
    close_world(world);
}

static void test_withdrawing_ends_the_keys_and_readers_are_told_why(void **state)
{
    (void)state;
    static const char *const paths[] = {NULL, "verbs/read"};

    for (int i = 0; i < 2; i++) {
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_READ, paths[i]);
        expect(world, LEND_OK, "verbs/read");
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        int before = fake_verbs.mrs;
        check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
              &error);
        assert_int_equal(fake_verbs.mrs, before - 1);
        memset(world->owner.memory[1], 0xee, BYTES);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
        close_world(world);
    }
}

static void test_a_region_that_a_nic_keeps_is_busy(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    fake_verbs.deregister_errno = 16; /* EBUSY */
    assert_int_equal(
        lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND / 1000, &error),
        LEND_E_BUSY);
    assert_non_null(strstr(error.message, "fake0"));
    fake_verbs.deregister_errno = 0;
    check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
          &error);
    close_world(world);
}

static void test_a_resumed_region_is_read_by_new_keys(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    for (int i = 0; i < 2; i++) {
        struct side *side = i == 0 ? &world->owner : &world->reader;

        check(lend_region_suspend(side->regions[2], LEND_WITHDRAW_FORCE, SECOND, &error), &error);
        check(lend_region_resume(side->regions[2], NULL, -1, 0, &error), &error);
        refresh(world);
        grant(world, LEND_ACCESS_READ);
        fill(world);
        expect(world, LEND_OK, "verbs/read");
    }
    close_world(world);
}

static void test_whatever_status_work_ends_with_a_read_ends_well(void **state)
{
    (void)state;
    for (int status = LEND_VERBS_WC_LOCAL_LENGTH; status < LEND_VERBS_WC_STATUSES; status++) {
        for (int only = 0; only < 2; only++) {
            struct world *world = open_world(true, true);

            prepare(world, LEND_READ, only != 0 ? "verbs/read" : NULL);
            expect(world, LEND_OK, "verbs/read");
            fake_verbs.status_at = fake_verbs.works + 30;
            fake_verbs.status = status;
            expect(world, LEND_OK, only != 0 ? "verbs/read" : "loopback");
            fake_verbs.status_at = -1;
            step_often(world);
            prepare(world, LEND_READ, "verbs/read"); /* which has recovered */
            expect(world, LEND_OK, "verbs/read");
            close_world(world);
        }
    }
}

static void test_a_nic_that_goes_on_failing_is_given_up(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.holds = true;
    post(world);
    for (int i = 0; i < 8; i++) {
        step_often(world);
        fake_verbs.status_at = fake_verbs.works;
        fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
        (void)fake_verbs_let_go(1);
    }
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_E_PEER_DEAD);
    assert_int_equal(error.device_code, LEND_VERBS_WC_RETRY_EXCEEDED);
    fake_verbs.holds = false;
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, NULL);
    close_world(world);
}

static void test_a_call_that_fails_leaves_reads_to_their_owner(void **state)
{
    (void)state;
    int reached = 0;

    for (int nth = 0; reached == nth; nth++) {
        struct world *world = calloc(1, sizeof *world);

        assert_non_null(world);
        fake_verbs_reset();
        lend_verbs = &fake_verbs_ops;
        make_side(&world->owner, "owner", "fake0");
        make_side(&world->reader, "reader", "fake1");
        fill(world);
        refresh(world);
        fake_verbs.fail_at = fake_verbs.calls + nth;
        fake_verbs.failure = 12; /* ENOMEM */
        int first = fake_verbs.calls;
        meet(world);
        grant(world, LEND_ACCESS_READ);
        reached += fake_verbs.calls > first + nth;
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, NULL);
        fake_verbs.fail_at = -1;
        close_world(world);
    }
    assert_true(reached > 10);
}

static void test_where_a_fence_is_not_kept_the_word_is_asked_for_later(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    /* The next rail sees it: this one breaks. */
    fake_verbs.devices[1].vendor_id = 0xffffff;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.status_at = fake_verbs.works;
    fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
    expect(world, LEND_OK, "verbs/read");

    int posts = fake_verbs.posts;
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(fake_verbs.posts - posts, 4);
    assert_int_equal(fake_verbs_let_go(1 << 20), REGIONS * CHOSEN); /* and no word */
    step_often(world);
    assert_int_equal(fake_verbs.posts - posts, 8);
    check(lend_lease_revoke(world->lease, &error), &error);
    fake_verbs.holds = false;
    assert_int_equal(fake_verbs_let_go(1 << 20), 4);
    assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
    close_world(world);
}

static void test_a_nic_that_completes_nothing_is_not_waited_for(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, NULL);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    double_clock_advance(6 * SECOND);
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "loopback");
    memset(world->reader.memory[0], 0x33, BYTES);
    fake_verbs.holds = false;
    assert_int_equal(fake_verbs_let_go(1 << 20), 0); /* its queue pairs are gone */
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(world->reader.memory[0][i], 0x33);
    close_world(world);
    (void)double_remove();
}

static uint32_t count_busy(const struct lend_verbs_rail *rail)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < rail->lane_count; i++)
        count += rail->free_work[i] < LEND_VERBS_QUEUE_WORK;
    return count;
}

static void test_there_are_as_many_queue_pairs_as_the_end_with_fewer_wants(void **state)
{
    enum { BATCHES = 4 }; /* of a READ here */
    static const struct {
        uint32_t owner, reader, expected;
    } cases[] = {{0, 0, 2}, {1, 0, 1}, {0, 1, 1}, {15, 4, 4}, {3, 15, 3}, {15, 15, 15}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t expected = cases[i].expected;

        owner_pairs = cases[i].owner;
        reader_pairs = cases[i].reader;
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        assert_int_equal(fake_verbs.qps, 2 * (1 + expected));
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        assert_int_equal(count_busy(rail_of(&world->reader)),
                         expected < BATCHES ? expected : BATCHES);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        assert_int_equal(finish(world, &error).status, LEND_OK);
        prepare(world, LEND_WRITE, "verbs/write");
        expect(world, LEND_OK, "verbs/write");
        close_world(world);
    }
    owner_pairs = reader_pairs = 0;
}

static void test_more_queue_pairs_than_there_may_be_are_refused(void **state)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    (void)state;
    config.name = "many";
    config.verbs_queue_pairs = 16;
    assert_int_equal(lend_agent_create(&config, &agent, &error), LEND_E_INVALID);
    assert_string_equal(error.message, "verbs_queue_pairs is 16, over 15");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_goes_by_queue_pairs_and_is_told_so),
        cmocka_unit_test(test_where_one_side_has_no_nic_reads_are_served),
        cmocka_unit_test(test_a_lease_that_was_revoked_is_seen_in_its_word),
        cmocka_unit_test(test_bytes_of_the_next_life_are_never_a_success),
        cmocka_unit_test(test_a_cancel_says_so_when_nothing_lands_any_more),
        cmocka_unit_test(test_a_cancel_waits_for_what_is_landing),
        cmocka_unit_test(test_withdrawing_ends_the_keys_and_readers_are_told_why),
        cmocka_unit_test(test_a_region_that_a_nic_keeps_is_busy),
        cmocka_unit_test(test_a_resumed_region_is_read_by_new_keys),
        cmocka_unit_test(test_whatever_status_work_ends_with_a_read_ends_well),
        cmocka_unit_test(test_a_nic_that_goes_on_failing_is_given_up),
        cmocka_unit_test(test_a_call_that_fails_leaves_reads_to_their_owner),
        cmocka_unit_test(test_where_a_fence_is_not_kept_the_word_is_asked_for_later),
        cmocka_unit_test(test_a_nic_that_completes_nothing_is_not_waited_for),
        cmocka_unit_test(test_there_are_as_many_queue_pairs_as_the_end_with_fewer_wants),
        cmocka_unit_test(test_more_queue_pairs_than_there_may_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
