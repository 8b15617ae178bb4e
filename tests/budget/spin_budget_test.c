/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: progress looks again for as long as its configuration says, and four times as long where
 * that would have spared the last sleep; once that was in vain, or with one processor, it is over;
 * and who is alone on its processor gives way once in a while, not at every look.
 * Method: a reader and a writer under manual progress on one thread, with a clock that goes on by a
 * tick at each look at it. The writer sends a notification when it is due: while the reader spins,
 * as it yields, or else when it has fallen asleep, for which the clock is put forward. Sleeps are
 * counted, and the time that went by before them.
 */
#include "base/sys.h"

#include <lend/lend.h>

#include <stdbool.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { ROUNDS = 20, TICK_NS = 250, SPIN_NS = 50000, SOON_NS = 120000, LATE_NS = 1000000 };
#define LONG_NS UINT64_C(20000000000)

static struct {
    uint64_t now_ns;
    uint64_t due_ns;   /* when the writer sends; 0: it does not */
    uint64_t slept_ns; /* when the reader fell asleep last */
    int sleeps;
    int yields;
    unsigned processors;
    struct lend_agent *reader, *writer;
    struct lend_peer *peer;
} world;

static void send_if_due(void)
{
    if (world.due_ns == 0 || world.now_ns < world.due_ns)
        return;
    world.due_ns = 0;
    assert_int_equal(lend_notification_send(world.peer, "now", 3, NULL), LEND_OK);
}

static uint64_t ticking_now(void)
{
    return world.now_ns += TICK_NS;
}

static void sending_yield(void)
{
    world.yields++;
    send_if_due();
}

static int sleeping_wait(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns)
{
    if (timeout_ns > 0 && world.due_ns != 0) {
        world.sleeps++;
        world.slept_ns = world.now_ns;
        if (world.now_ns < world.due_ns)
            world.now_ns = world.due_ns;
        send_if_due();
    }
    return lend_sys_real.epoll_wait(epoll, events, count, timeout_ns);
}

static unsigned told_processors(void)
{
    return world.processors;
}

static struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.transports = "local";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    config.spin_ns = SPIN_NS;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return agent;
}

/* What the reader waits for comes that long after it has taken the last one. */
static void receive_after(uint64_t idle_ns)
{
    char bytes[8];
    size_t count;

    world.due_ns = world.now_ns + idle_ns;
    assert_int_equal(
        lend_notification_receive(world.reader, bytes, sizeof bytes, &count, NULL, LONG_NS, NULL),
        LEND_OK);
    /* What it said in turn, so that nothing is left to do. */
    while (lend_agent_progress(world.writer, 0, NULL) == LEND_OK)
        ;
}

static void make_world(unsigned processors)
{
    static struct lend_sys_ops doubled;
    static uint8_t metadata[4096];
    char bytes[8];
    size_t count;

    memset(&world, 0, sizeof world);
    world.processors = processors;
    world.now_ns = lend_sys_real.now_ns();
    doubled = lend_sys_real;
    doubled.now_ns = ticking_now;
    doubled.yield = sending_yield;
    doubled.epoll_wait = sleeping_wait;
    doubled.processors = told_processors;
    lend_sys = &doubled;
    world.reader = make_agent("spinning reader");
    world.writer = make_agent("spinning writer");
    assert_int_equal(lend_metadata_export(world.reader, metadata, sizeof metadata, &count, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_import(world.writer, metadata, count, &world.peer, NULL), LEND_OK);
    assert_int_equal(lend_notification_send(world.peer, "first", 5, NULL), LEND_OK);
    enum lend_status status;
    do {
        (void)lend_agent_progress(world.writer, 0, NULL);
        status =
            lend_notification_receive(world.reader, bytes, sizeof bytes, &count, NULL, 0, NULL);
    } while (status == LEND_E_ABSENT);
    assert_int_equal(status, LEND_OK);
    receive_after(LATE_NS); /* whatever it thought of its spins before */
    world.sleeps = 0;
}

static void end_world(void)
{
    world.due_ns = 0;
    lend_agent_destroy(world.writer);
    lend_agent_destroy(world.reader);
    lend_sys = &lend_sys_real;
}

static void receive_all(uint64_t idle_ns)
{
    for (int i = 0; i < ROUNDS; i++)
        receive_after(idle_ns);
}

/* --- tests --- */

static void test_what_comes_while_it_spins_anyway_is_not_slept_for(void **state)
{
    (void)state;
    make_world(2);
    receive_all(SPIN_NS / 2);
    assert_int_equal(world.sleeps, 0);
    end_world();
}

static void test_what_comes_soon_after_it_fell_asleep_is_slept_for_once(void **state)
{
    (void)state;
    make_world(2);
    receive_all(SOON_NS);
    assert_int_equal(world.sleeps, 1);
    end_world();
}

static void test_with_one_processor_it_sleeps_each_time(void **state)
{
    (void)state;
    make_world(1);
    receive_all(SOON_NS);
    assert_int_equal(world.sleeps, ROUNDS);
    end_world();
}

/* How long it looked again, before it slept for what comes late. */
static uint64_t spin_before_sleep(void)
{
    uint64_t began_ns = world.now_ns;
    int sleeps = world.sleeps;

    receive_after(LATE_NS);
    assert_int_equal(world.sleeps, sleeps + 1);
    return world.slept_ns - began_ns;
}

static void test_a_long_spin_that_was_in_vain_is_the_last(void **state)
{
    (void)state;
    make_world(2);
    assert_in_range(spin_before_sleep(), SPIN_NS / 2, SPIN_NS * 3 / 2);
    receive_after(SOON_NS);
    receive_after(SOON_NS);
    assert_in_range(spin_before_sleep(), SPIN_NS * 3, SPIN_NS * 5);
    for (int i = 0; i < ROUNDS; i++)
        assert_in_range(spin_before_sleep(), SPIN_NS / 2, SPIN_NS * 3 / 2);
    end_world();
}

/* A yield that is over at once is followed by looks for 4 us, which are many. */
static void test_who_is_alone_on_its_processor_yields_once_in_a_while(void **state)
{
    (void)state;
    make_world(2);
    int before = world.yields;
    (void)spin_before_sleep();
    assert_in_range(world.yields - before, 1, SPIN_NS / 4000);
    end_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_while_it_spins_anyway_is_not_slept_for),
        cmocka_unit_test(test_what_comes_soon_after_it_fell_asleep_is_slept_for_once),
        cmocka_unit_test(test_with_one_processor_it_sleeps_each_time),
        cmocka_unit_test(test_a_long_spin_that_was_in_vain_is_the_last),
        cmocka_unit_test(test_who_is_alone_on_its_processor_yields_once_in_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
