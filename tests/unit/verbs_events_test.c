/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whoever waits for a NIC looks for a while and then sleeps until it tells, and misses
 * nothing; and what a NIC tells of a port, of a queue or of itself ends what goes by it at once,
 * with the cause, and not only when it has been silent for long.
 * Method: two agents of one process on a fake libibverbs that counts how often it is asked, and
 * tells what the test says; the clock stands still where time would decide.
 */
#include "verbs_world.h"

#include "core/agent.h"
#include "core/session.h"
#include "transport/verbs/verbs.h"

/* More than it takes to look for spin_ns, by a clock that moves by a microsecond a look. */
enum { TICK_NS = 1000, POLLS_MAX = 400 };

static struct world *open_still(void)
{
    double_install(-1);
    double_clock_set(SECOND, TICK_NS);
    return open_world(true, true);
}

static void close_still(struct world *world)
{
    close_world(world);
    (void)double_remove();
}

/* A READ that is on its way, and does not come. */
static void post_held(struct world *world, const char *paths)
{
    prepare(world, LEND_READ, paths);
    expect(world, LEND_OK, "verbs/read");
    for (int i = 0; i < REGIONS; i++)
        memset(world->reader.memory[i], 0, BYTES);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
}

static void let_all_go(void)
{
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
}

/* --- sleep --- */

static void test_a_nic_that_is_busy_is_looked_at_for_a_while_and_not_on_and_on(void **state)
{
    (void)state;
    struct world *world = open_still();

    post_held(world, "verbs/read");
    int polls = fake_verbs.polls, arms = fake_verbs.arms;
    for (int i = 0; i < 4; i++) { /* nothing comes */
        (void)lend_agent_progress(world->reader.agent, SECOND, NULL);
        assert_in_range(fake_verbs.polls - polls, 1, POLLS_MAX);
        assert_int_equal(fake_verbs.arms - arms, 1);
    }
    let_all_go();
    struct lend_error error = {0};
    assert_int_equal(finish(world, &error).status, LEND_OK);
    close_still(world);
}

static void test_who_sleeps_is_woken_by_the_completion(void **state)
{
    (void)state;
    struct world *world = open_still();

    for (int i = 0; i < 3; i++) {
        post_held(world, "verbs/read");
        (void)lend_agent_progress(world->reader.agent, SECOND, NULL);
        let_all_go();
        /* The descriptor tells: nobody else wakes it. */
        uint64_t before = lend_sys->now_ns();
        assert_int_equal(lend_agent_progress(world->reader.agent, 100 * SECOND, NULL), LEND_OK);
        assert_true(lend_sys->now_ns() - before < SECOND);
        assert_int_equal(lend_transfer_test(world->transfer), LEND_OK);
        assert_true(is_here(world));
    }
    assert_true(fake_verbs.arms > 0);
    close_still(world);
}

static void test_what_completes_as_one_falls_asleep_is_not_missed(void **state)
{
    (void)state;
    struct world *world = open_still();

    post_held(world, "verbs/read");
    int arms = fake_verbs.arms;
    fake_verbs.is_late = true; /* all has completed when it is armed, and so nothing is told */
    uint64_t before = lend_sys->now_ns();
    assert_int_equal(lend_agent_progress(world->reader.agent, 100 * SECOND, NULL), LEND_OK);
    assert_true(lend_sys->now_ns() - before < SECOND);
    assert_int_equal(fake_verbs.arms - arms, 1);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_OK);
    fake_verbs.holds = false;
    close_still(world);
}

static void test_a_silent_nic_is_given_up_in_its_sleep(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};

    post_held(world, NULL);
    uint64_t before = lend_sys->now_ns();
    for (int i = 0; i < 10 && lend_transfer_test(world->transfer) == LEND_PENDING; i++) {
        (void)lend_agent_progress(world->reader.agent, 20 * SECOND, NULL);
        (void)lend_agent_progress(world->owner.agent, 0, NULL);
    }
    assert_in_range(lend_sys->now_ns() - before, 4 * SECOND, 30 * SECOND);
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "loopback");
    let_all_go();
    close_still(world);
}

static void test_without_a_channel_it_is_polled_for(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    struct lend_error error = {0};

    assert_non_null(world);
    fake_verbs_reset();
    fake_verbs.refuses_channels = true;
    lend_verbs = &fake_verbs_ops;
    make_side(&world->owner, "owner", "fake0");
    make_side(&world->reader, "reader", "fake1");
    fill(world);
    refresh(world);
    meet(world);
    grant(world, LEND_ACCESS_READ);
    post_held(world, "verbs/read");
    int polls = fake_verbs.polls;
    step_often(world);
    assert_true(fake_verbs.polls - polls >= 200);
    assert_int_equal(fake_verbs.arms, 0);
    let_all_go();
    assert_int_equal(finish(world, &error).status, LEND_OK);
    close_world(world);
}

/* --- what NICs tell --- */

/* Who wants no other path is told why there is none. */
static void expect_no_path(struct world *world, const char *why)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    const uint64_t id = lend_region_id(world->owner.regions[0]);
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    desc.peer = world->peer;
    desc.direction = LEND_READ;
    desc.local_regions = world->reader.regions;
    desc.remote_regions = &id;
    desc.region_count = 1;
    desc.block_count_max = BLOCKS;
    desc.paths = "verbs/read";
    assert_int_equal(lend_transfer_prepare(world->reader.agent, &desc, &transfer, &error),
                     LEND_E_NO_PATH);
    if (strstr(error.message, why) == NULL)
        fail_msg("%s", error.message);
}

static void test_a_port_that_goes_down_ends_what_goes_by_it_at_once(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};

    post_held(world, NULL);
    uint64_t before = lend_sys->now_ns();
    fake_verbs.devices[1].port_state = LEND_VERBS_PORT_DOWN;
    fake_verbs_event(1, LEND_VERBS_EVENT_PORT_ERROR, 1, NULL);
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "loopback");
    assert_true(is_here(world));
    assert_true(lend_sys->now_ns() - before < SECOND); /* and not after 5 of silence */
    let_all_go();

    expect_no_path(world, "fake1:1 is not active");

    /* Up again it is used again, at once. */
    fake_verbs.devices[1].port_state = LEND_VERBS_PORT_ACTIVE;
    fake_verbs_event(1, LEND_VERBS_EVENT_PORT_ACTIVE, 1, NULL);
    step_often(world);
    before = lend_sys->now_ns();
    expect(world, LEND_OK, "verbs/read");
    assert_true(lend_sys->now_ns() - before < SECOND);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    close_still(world);
}

static void test_a_write_under_a_port_that_goes_down_ends_too(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};

    prepare(world, LEND_WRITE, NULL);
    post(world);
    assert_int_equal(finish(world, &error).status, LEND_OK);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    fake_verbs.devices[1].port_state = LEND_VERBS_PORT_DOWN;
    fake_verbs_event(1, LEND_VERBS_EVENT_PORT_ERROR, 1, NULL);
    assert_int_equal(finish(world, &error).status, LEND_OK); /* served */
    let_all_go();
    close_still(world);
}

static void test_a_port_event_that_changes_nothing_breaks_nothing(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};
    int made = fake_verbs.qps_made;

    post_held(world, "verbs/read");
    for (int type = LEND_VERBS_EVENT_PORT_ACTIVE; type <= LEND_VERBS_EVENT_GID_CHANGE; type++)
        fake_verbs_event(1, type, 1, NULL);
    for (int port = -1; port < 300; port += 50) /* and of ports that are not there */
        fake_verbs_event(1, LEND_VERBS_EVENT_PORT_ERROR, port, NULL);
    step_often(world);
    let_all_go();
    assert_int_equal(finish(world, &error).status, LEND_OK);
    assert_true(is_here(world));
    assert_int_equal(fake_verbs.qps_made, made);
    close_still(world);
}

static void test_a_device_that_dies_is_used_no_more(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};

    post_held(world, "verbs/read");
    fake_verbs_event(1, LEND_VERBS_EVENT_DEVICE_FATAL, 0, NULL);
    assert_int_equal(finish(world, &error).status, LEND_E_NO_PATH);
    step_often(world);
    expect_no_path(world, "fake1 has told of a fatal error");
    int calls = fake_verbs.calls;
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "loopback");
    assert_int_equal(fake_verbs.calls, calls); /* nobody asks it for anything */
    fake_verbs.holds = false;
    close_still(world);
}

/* A NIC may know of a peer's end before its agent does. */
static void test_where_queue_pairs_are_lost_a_peers_death_is_told(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_error error = {0};

    post_held(world, "verbs/read");
    fake_verbs_event(1, LEND_VERBS_EVENT_DEVICE_FATAL, 0, NULL);
    for (int i = 0; i < 200; i++) { /* its owner is asked */
        (void)lend_agent_progress(world->reader.agent, 0, NULL);
        assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    }
    lend_lease_release(world->lease);
    world->lease = NULL;
    lend_agent_destroy(world->owner.agent);
    world->owner.agent = NULL;
    while (lend_transfer_test(world->transfer) == LEND_PENDING)
        (void)lend_agent_progress(world->reader.agent, 0, NULL);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    check(lend_transfer_describe(world->transfer, &record, &error), &error);
    assert_int_equal(record.status, LEND_E_PEER_DEAD);
    fake_verbs.holds = false;
    close_still(world);
}

static void test_an_owners_device_that_dies_leaves_reads_to_the_owner(void **state)
{
    (void)state;
    struct world *world = open_still();

    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "verbs/read");
    fake_verbs_event(0, LEND_VERBS_EVENT_DEVICE_FATAL, 0, NULL);
    step_often(world);
    expect(world, LEND_OK, "loopback");
    close_still(world);
}

static void test_a_queue_that_fails_breaks_its_own_rail_which_is_made_anew(void **state)
{
    static const int types[] = {LEND_VERBS_EVENT_QP_FATAL, LEND_VERBS_EVENT_QP_REQUEST,
                                LEND_VERBS_EVENT_QP_ACCESS};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world *world = open_still();
        struct lend_error error = {0};
        int made = fake_verbs.qps_made;

        post_held(world, "verbs/read");
        struct lend_session *session =
            LEND_LIST_OWNER(world->reader.agent->sessions.next, struct lend_session, link);
        fake_verbs_event(1, types[i], 0, lend_verbs_rail_of(session->rail)->pairs[0]);
        step_often(world);
        let_all_go();
        assert_int_equal(finish(world, &error).status, LEND_OK);
        assert_true(is_here(world));
        assert_int_equal(fake_verbs.qps_made - made, 2 * (1 + LEND_VERBS_READ_LANES));
        close_still(world);
    }
}

static void test_events_of_a_queue_pair_that_is_gone_are_void(void **state)
{
    (void)state;
    struct world *world = open_still();
    struct lend_session *session =
        LEND_LIST_OWNER(world->reader.agent->sessions.next, struct lend_session, link);

    fake_verbs_event(1, LEND_VERBS_EVENT_QP_FATAL, 0, lend_verbs_rail_of(session->rail)->pairs[0]);
    close_still(world); /* before anybody has heard of it */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_nic_that_is_busy_is_looked_at_for_a_while_and_not_on_and_on),
        cmocka_unit_test(test_who_sleeps_is_woken_by_the_completion),
        cmocka_unit_test(test_what_completes_as_one_falls_asleep_is_not_missed),
        cmocka_unit_test(test_a_silent_nic_is_given_up_in_its_sleep),
        cmocka_unit_test(test_without_a_channel_it_is_polled_for),
        cmocka_unit_test(test_a_port_that_goes_down_ends_what_goes_by_it_at_once),
        cmocka_unit_test(test_a_write_under_a_port_that_goes_down_ends_too),
        cmocka_unit_test(test_a_port_event_that_changes_nothing_breaks_nothing),
        cmocka_unit_test(test_a_device_that_dies_is_used_no_more),
        cmocka_unit_test(test_where_queue_pairs_are_lost_a_peers_death_is_told),
        cmocka_unit_test(test_an_owners_device_that_dies_leaves_reads_to_the_owner),
        cmocka_unit_test(test_a_queue_that_fails_breaks_its_own_rail_which_is_made_anew),
        cmocka_unit_test(test_events_of_a_queue_pair_that_is_gone_are_void),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
