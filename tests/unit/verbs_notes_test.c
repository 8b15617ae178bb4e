/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a notification to a peer with a rail goes by a SEND of the NIC, behind the proof of the
 * data that it goes with; all of a peer's come in their order, each once, whichever of them went by
 * the channel, and whatever breaks; and what a hostile peer sends costs its rail alone.
 * Method: the world of rails. Each notification bears its index; the owner takes them, and expects
 * the next. The fake counts messages that came to a receive.
 */
#include "verbs_world.h"

#include "core/agent.h"
#include "core/session.h"
#include "transport/verbs/verbs.h"

enum { LONGEST = 4096, INLINE = LEND_VERBS_NOTE_BYTES - LEND_VERBS_NOTE_HEAD };

static void write_note(uint8_t *bytes, uint32_t index, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(index * 31 + i);
    memcpy(bytes, &index, sizeof index);
}

static void notify(struct world *world, uint32_t index, size_t count)
{
    struct lend_error error = {0};
    uint8_t bytes[LONGEST];

    write_note(bytes, index, count);
    check(lend_notification_send(world->peer, bytes, count, &error), &error);
}

/* Take all that have come, from that index on; returns the next. */
static uint32_t take_all(struct world *world, uint32_t next)
{
    uint8_t bytes[LONGEST], expected[LONGEST];
    struct lend_error error = {0};
    size_t count = 0;

    for (;;) {
        enum lend_status status = lend_notification_receive(world->owner.agent, bytes, sizeof bytes,
                                                            &count, NULL, 0, &error);
        if (status == LEND_E_ABSENT)
            return next;
        check(status, &error);
        write_note(expected, next, count);
        assert_memory_equal(bytes, expected, count);
        next++;
    }
}

static uint32_t take_until(struct world *world, uint32_t next, uint32_t end)
{
    for (int i = 0; next < end && i < STEPS_MAX; i++) {
        step(world);
        next = take_all(world, next);
    }
    assert_int_equal(next, end);
    step_often(world);
    assert_int_equal(take_all(world, next), end); /* and not once more */
    return next;
}

static void test_short_notifications_go_by_the_nic_and_long_ones_by_the_channel(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);

    for (uint32_t i = 0; i < 100; i++) {
        notify(world, i, i % 2 != 0 ? INLINE + i : INLINE - i);
        step(world);
    }
    (void)take_until(world, 0, 100);
    assert_int_equal(fake_verbs.receives, 50);
    close_world(world);
}

static void test_where_there_is_no_rail_they_go_by_the_channel(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_world(i == 0, i == 1);

        for (uint32_t n = 0; n < 20; n++)
            notify(world, n, 8);
        (void)take_until(world, 0, 20);
        assert_int_equal(fake_verbs.receives, 0);
        close_world(world);
    }
}

static void test_an_owner_that_cannot_sleep_for_them_takes_none_by_its_nic(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    begin_world();
    fake_verbs.refuses_channels = true;
    fill_world(world, "fake0", "fake1");
    for (uint32_t n = 0; n < 20; n++)
        notify(world, n, 8);
    (void)take_until(world, 0, 20);
    assert_int_equal(fake_verbs.receives, 0);
    close_world(world);
}

/* Lengths, and how far the NICs are, change from one to the next. */
static void test_their_order_is_kept_whichever_way_each_goes(void **state)
{
    enum { MANY = 1200 };

    (void)state;
    struct world *world = open_world(true, true);
    uint32_t next = 0, dice = 12345;

    for (uint32_t i = 0; i < MANY; i++) {
        dice = dice * 1664525 + 1013904223;
        fake_verbs.holds = dice >> 30 != 0;
        notify(world, i, dice >> 28 == 5 ? 4 * INLINE : 4 + (dice >> 8) % INLINE / 2);
        if (dice >> 27 < 5)
            step(world);
        if (dice >> 26 < 9)
            (void)fake_verbs_let_go((int)(dice >> 10 & 7));
        if (dice >> 25 < 30)
            next = take_all(world, next);
    }
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    (void)take_until(world, next, MANY);
    assert_in_range(fake_verbs.receives, MANY / 8, MANY);
    close_world(world);
}

static void test_no_more_are_under_way_than_there_are_receives(void **state)
{
    enum { MANY = 3 * LEND_VERBS_NOTES };

    (void)state;
    struct world *world = open_world(true, true);

    fake_verbs.holds = true;
    for (uint32_t i = 0; i < MANY; i++)
        notify(world, i, 16);
    step_often(world);
    assert_int_equal(take_all(world, 0), 0); /* the first has not come */
    fake_verbs.holds = false;
    assert_int_equal(fake_verbs_let_go(1 << 20), LEND_VERBS_NOTES);
    uint32_t next = take_until(world, 0, MANY);
    notify(world, next, 16); /* they were confirmed */
    (void)take_until(world, next, next + 1);
    assert_int_equal(fake_verbs.receives, LEND_VERBS_NOTES + 1);
    close_world(world);
}

static void test_each_comes_once_whatever_breaks_the_rail(void **state)
{
    enum { MANY = 60 };

    (void)state;
    for (int at = 0; at < 24; at++) {
        struct world *world = open_world(true, true);
        uint32_t next = 0;

        fake_verbs.status_at = fake_verbs.works + at;
        fake_verbs.status = at % 2 != 0 ? LEND_VERBS_WC_RNR_RETRY_EXCEEDED : LEND_VERBS_WC_FATAL;
        fake_verbs.holds = at % 3 == 0;
        for (uint32_t i = 0; i < MANY; i++) {
            notify(world, i, 4 + i);
            if (i % (2 + (uint32_t)at % 5) == 0)
                step(world);
            if (i == MANY / 2) { /* a rail that is wanted is made anew */
                (void)fake_verbs_let_go(1 << 20);
                fake_verbs.holds = false;
                prepare(world, LEND_READ, NULL);
                expect(world, LEND_OK, NULL);
                next = take_all(world, next);
            }
        }
        (void)take_until(world, next, MANY);
        close_world(world);
    }
}

/* They have come, and the sender does not know: it says them again. */
static void test_what_came_and_was_not_confirmed_is_not_given_twice(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);

    for (uint32_t i = 0; i < 5; i++)
        notify(world, i, 64);
    (void)take_until(world, 0, 5);
    assert_int_equal(fake_verbs.receives, 5);
    fake_verbs.devices[1].port_state = LEND_VERBS_PORT_DOWN;
    fake_verbs_event(1, LEND_VERBS_EVENT_PORT_ERROR, 1, NULL);
    step_often(world);
    notify(world, 5, 64);
    (void)take_until(world, 5, 6);
    close_world(world);
}

static void test_who_leaves_says_first_what_may_not_have_come(void **state)
{
    (void)state;
    for (int is_end = 0; is_end < 2; is_end++) {
        struct world *world = open_world(true, true);

        fake_verbs.holds = true; /* for ever: the queue pair goes before */
        for (uint32_t i = 0; i < 7; i++)
            notify(world, i, 64);
        if (is_end == 0) {
            lend_ticket_release(world->ticket);
            world->ticket = NULL;
            lend_peer_forget(world->peer);
            world->peer = NULL;
        } else {
            lend_ticket_release(world->ticket);
            lend_peer_forget(world->peer);
            world->ticket = NULL;
            world->peer = NULL;
            close_side(&world->reader);
        }
        uint32_t next = 0;
        for (int i = 0; i < 400; i++) {
            (void)lend_agent_progress(world->owner.agent, 0, NULL);
            next = take_all(world, next);
        }
        assert_int_equal(next, 7);
        lend_lease_release(world->lease);
        if (is_end == 0)
            close_side(&world->reader);
        close_side(&world->owner);
        assert_int_equal(fake_verbs_kept(), 0);
        lend_verbs = NULL;
        free(world);
    }
}

/* --- behind data --- */

static void write_notified(struct world *world, uint32_t index)
{
    uint8_t bytes[64];

    write_note(bytes, index, sizeof bytes);
    post_notified(world, CHOSEN, bytes, sizeof bytes);
}

static void test_a_notification_comes_when_its_data_is_in_place(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};
    uint32_t next = 0;

    prepare(world, LEND_WRITE, "verbs/write");
    for (uint32_t round = 0; round < 20; round++) {
        paint(world, (int)round + 1);
        fake_verbs.holds = round > 0;
        write_notified(world, round);
        for (int i = 0; next == round && i < STEPS_MAX; i++) {
            (void)fake_verbs_let_go(1);
            step(world);
            next = take_all(world, next);
        }
        assert_int_equal(next, round + 1);
        assert_true(is_here(world));
        assert_int_equal(finish(world, &error).status, LEND_OK);
    }
    assert_int_equal(fake_verbs.receives, 20);
    close_world(world);
}

static void test_a_lease_that_ended_is_never_notified_as_a_success(void **state)
{
    (void)state;
    for (int after = 0; after < 70; after += 6) {
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        expect(world, LEND_OK, "verbs/write");
        fake_verbs.holds = true;
        write_notified(world, 0);
        step_often(world);
        int done = fake_verbs_let_go(after);
        check(lend_lease_revoke(world->lease, &error), &error);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        assert_int_equal(finish(world, &error).status,
                         done == REGIONS * CHOSEN + 4 ? LEND_OK : LEND_E_REVOKED);
        step_often(world);
        assert_int_equal(take_all(world, 0), done == REGIONS * CHOSEN + 4 ? 1 : 0);
        close_world(world);
    }
}

/* --- a peer that sends what it likes --- */

static void send_raw(struct world *world, const void *bytes, uint32_t count)
{
    struct lend_verbs_rail *rail = rail_of(&world->reader);
    struct lend_verbs_sge sge = {
        .addr = (uint64_t)(uintptr_t)rail->landing, .length = count, .lkey = rail->landing_lkey};
    struct lend_verbs_send *bad = NULL, work = {.wr_id = LEND_VERBS_BATCHES,
                                                .sg_list = &sge,
                                                .num_sge = 1,
                                                .opcode = LEND_VERBS_SEND_SEND};

    memcpy(rail->landing, bytes, count);
    assert_int_equal(lend_verbs_post_send(rail->pairs[LEND_VERBS_NOTE_LANE], &work, &bad), 0);
    step_often(world);
}

static void test_what_is_no_notification_costs_the_rail_alone(void **state)
{
    static const struct {
        uint8_t bytes[16];
        uint32_t count;
    } sent[] = {{{0}, 0},
                {{1, 2, 3}, 3},
                {{LEND_VERBS_NOTE, 1}, 8},
                {{LEND_VERBS_NOTE}, 12}, /* number 0 */
                {{LEND_VERBS_CALL, 1, 0, 0, 0, 0, 0, 0, 0}, 16},
                {{LEND_VERBS_NOTE | 0x10, 1, 0, 0, 0, 0, 0, 0, 0}, 16}};

    (void)state;
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        struct world *world = open_world(true, true);

        send_raw(world, sent[i].bytes, sent[i].count);
        assert_int_equal(rail_of(&world->owner)->state, LEND_VERBS_RAIL_IDLE);
        notify(world, 0, 100);
        (void)take_until(world, 0, 1);
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, NULL);
        step_often(world);
        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read"); /* by another rail */
        close_world(world);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_notifications_go_by_the_nic_and_long_ones_by_the_channel),
        cmocka_unit_test(test_where_there_is_no_rail_they_go_by_the_channel),
        cmocka_unit_test(test_an_owner_that_cannot_sleep_for_them_takes_none_by_its_nic),
        cmocka_unit_test(test_their_order_is_kept_whichever_way_each_goes),
        cmocka_unit_test(test_no_more_are_under_way_than_there_are_receives),
        cmocka_unit_test(test_each_comes_once_whatever_breaks_the_rail),
        cmocka_unit_test(test_what_came_and_was_not_confirmed_is_not_given_twice),
        cmocka_unit_test(test_who_leaves_says_first_what_may_not_have_come),
        cmocka_unit_test(test_a_notification_comes_when_its_data_is_in_place),
        cmocka_unit_test(test_a_lease_that_ended_is_never_notified_as_a_success),
        cmocka_unit_test(test_what_is_no_notification_costs_the_rail_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
