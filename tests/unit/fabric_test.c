/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: the simulated fabric does to each frame what the test says, at the time that it says, and
 * to no other; so that what the simulation shows is shown about lend. Method: loopback over a stub
 * of core, a judge that follows a script, and a clock that the test moves.
 */

#include "loopback_stub.h"

#include "transport/loopback/fabric.h"

enum { SCRIPT_MAX = 32 };

static struct {
    struct lend_fabric_verdict verdicts[SCRIPT_MAX]; /* one a frame */
    size_t frames;                                   /* judged so far */
    bool is_from_client;                             /* of the last one */
    uint8_t from[LEND_INCARNATION_BYTES];
    uint8_t to[LEND_INCARNATION_BYTES];
    size_t count;
} script;

static uint64_t clock_ns;
static struct lend_sys_ops timed;

static uint64_t read_clock(void)
{
    return clock_ns;
}

static struct lend_fabric_verdict follow(void *context, const struct lend_fabric_frame *frame)
{
    assert_ptr_equal(context, &script);
    assert_true(script.frames < SCRIPT_MAX);
    script.is_from_client = frame->is_from_client;
    script.count = frame->count;
    memcpy(script.from, frame->from, sizeof script.from);
    memcpy(script.to, frame->to, sizeof script.to);
    return script.verdicts[script.frames++];
}

static const struct lend_fabric fabric = {.judge = follow, .context = &script};

static struct world *make_scripted(const struct lend_fabric_verdict *verdicts, size_t count)
{
    memset(&script, 0, sizeof script);
    memcpy(script.verdicts, verdicts, count * sizeof *verdicts);
    clock_ns = 1000;
    timed = lend_sys_real;
    timed.now_ns = read_clock;
    lend_sys = &timed;
    lend_fabric_install(&fabric);
    return make_connected_world();
}

static void end_scripted(struct world *world)
{
    end_world(world);
    lend_fabric_install(NULL);
    assert_true(lend_fabric_next_ns() == UINT64_MAX);
    lend_sys = &lend_sys_real;
}

/* Send frames 0 .. count - 1 from the client. */
static void send_frames(struct world *world, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        assert_true(send_frame(world->client->channel, i, (size_t)(i * 100)));
    ops->flush(world->client->channel);
}

static void expect_frames(struct world *world, const uint64_t *sequences, size_t count)
{
    uint64_t sequence;

    for (size_t i = 0; i < count; i++) {
        assert_true(take_frame(world->server->channel, &sequence));
        assert_int_equal(sequence, sequences[i]);
    }
    assert_false(take_frame(world->server->channel, &sequence));
}

static void test_a_kind_fabric_delivers_all_in_order(void **state)
{
    (void)state;
    struct world *world = make_scripted((struct lend_fabric_verdict[]){{0}}, 1);

    send_frames(world, 4);
    expect_frames(world, (uint64_t[]){0, 1, 2, 3}, 4);
    assert_int_equal(script.frames, 4);
    assert_true(script.is_from_client);
    assert_int_equal(script.count, 300);
    assert_memory_equal(script.from, world->reader.incarnation, sizeof script.from);
    assert_memory_equal(script.to, world->owner.incarnation, sizeof script.to);
    end_scripted(world);
}

static void test_a_dropped_frame_is_gone_and_others_come(void **state)
{
    (void)state;
    const struct lend_fabric_verdict verdicts[] = {{0}, {.action = LEND_FABRIC_DROP}, {0}};
    struct world *world = make_scripted(verdicts, 3);

    send_frames(world, 3);
    expect_frames(world, (uint64_t[]){0, 2}, 2);
    end_scripted(world);
}

static void test_a_delayed_frame_comes_at_its_time_and_holds_up_what_follows(void **state)
{
    (void)state;
    const struct lend_fabric_verdict verdicts[] = {
        {0}, {.action = LEND_FABRIC_DELAY, .until_ns = 5000}, {0}};
    struct world *world = make_scripted(verdicts, 3);
    struct lend_channel *channel = world->server->channel;

    send_frames(world, 3);
    expect_frames(world, (uint64_t[]){0}, 1);
    assert_int_equal(lend_fabric_next_ns(), 5000);
    assert_true(ops->sleep(channel, false, 0));
    int wakes = world->server->wakes;

    clock_ns = 4999;
    lend_fabric_tick();
    assert_int_equal(world->server->wakes, wakes);
    expect_frames(world, NULL, 0);
    clock_ns = 5000;
    lend_fabric_tick();
    assert_int_equal(world->server->wakes, wakes + 1);
    assert_false(ops->sleep(channel, false, 0));
    expect_frames(world, (uint64_t[]){1, 2}, 2);
    assert_true(ops->sleep(channel, false, 0));
    end_scripted(world);
}

static void test_a_swapped_frame_comes_after_the_next_one(void **state)
{
    (void)state;
    const struct lend_fabric_verdict verdicts[] = {{.action = LEND_FABRIC_SWAP, .until_ns = 9000},
                                                   {0},
                                                   {.action = LEND_FABRIC_SWAP, .until_ns = 9000},
                                                   {.action = LEND_FABRIC_SWAP, .until_ns = 9000},
                                                   {0}};
    struct world *world = make_scripted(verdicts, 5);

    send_frames(world, 1);
    expect_frames(world, NULL, 0);
    assert_true(send_frame(world->client->channel, 1, 10));
    ops->flush(world->client->channel);
    expect_frames(world, (uint64_t[]){1, 0}, 2);

    /* Two that are told to swap trade places once. */
    send_frames(world, 3);
    expect_frames(world, (uint64_t[]){1, 0, 2}, 3);
    end_scripted(world);
}

static void test_a_swapped_frame_that_nothing_follows_comes_alone(void **state)
{
    (void)state;
    const struct lend_fabric_verdict verdicts[] = {{.action = LEND_FABRIC_SWAP, .until_ns = 9000}};
    struct world *world = make_scripted(verdicts, 1);

    send_frames(world, 1);
    expect_frames(world, NULL, 0);
    assert_int_equal(lend_fabric_next_ns(), 9000);
    clock_ns = 9000;
    expect_frames(world, (uint64_t[]){0}, 1);
    end_scripted(world);
}

static void test_a_corrupt_frame_differs_in_that_bit(void **state)
{
    (void)state;
    struct lend_fabric_verdict verdicts[2] = {
        {.action = LEND_FABRIC_CORRUPT, .bit = 9},
        {.action = LEND_FABRIC_CORRUPT, .bit = 8 * (LEND_FRAME_HEADER_BYTES + 99) + 7}};
    struct world *world = make_scripted(verdicts, 2);
    uint8_t header[LEND_FRAME_HEADER_BYTES], sent[LEND_FRAME_HEADER_BYTES], payload[100];
    struct lend_error error;

    assert_true(send_frame(world->client->channel, 0, 100));
    assert_true(send_frame(world->client->channel, 1, 100));
    ops->flush(world->client->channel);

    make_header(sent, 0, 100);
    sent[1] ^= 2;
    assert_int_equal(ops->peek(world->server->channel, header, &error), LEND_OK);
    assert_memory_equal(header, sent, sizeof header);
    assert_int_equal(ops->take(world->server->channel, payload, 100, &error), LEND_OK);
    assert_int_equal(ops->take(world->server->channel, payload, 100, &error), LEND_OK);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(payload[i], pattern(1, i) ^ (i == 99 ? 0x80 : 0));
    end_scripted(world);
}

static void test_a_loud_cut_loses_what_is_held_and_hangs_up_both_ends(void **state)
{
    (void)state;
    const struct lend_fabric_verdict verdicts[] = {{.action = LEND_FABRIC_DELAY, .until_ns = 5000},
                                                   {0}};
    struct world *world = make_scripted(verdicts, 2);

    send_frames(world, 1);
    expect_frames(world, NULL, 0);
    lend_fabric_cut(world->reader.incarnation, true);
    send_frames(world, 1);
    clock_ns = 6000;
    expect_frames(world, NULL, 0);
    assert_true(poll_agent(&world->owner.agent));
    assert_true(poll_agent(&world->reader.agent));
    assert_int_equal(world->server->hung, LEND_E_PEER_DEAD);
    assert_int_equal(world->client->hung, LEND_E_PEER_DEAD);
    end_scripted(world);
}

static void test_a_silent_cut_is_never_told(void **state)
{
    (void)state;
    struct world *world = make_scripted((struct lend_fabric_verdict[]){{0}}, 1);

    send_frames(world, 1);
    lend_fabric_cut(world->owner.incarnation, false);
    expect_frames(world, NULL, 0);
    close_end(&world->client);
    assert_false(poll_agent(&world->owner.agent));
    assert_false(poll_agent(&world->reader.agent));
    assert_int_equal(world->server->hung, LEND_OK);
    end_scripted(world);
}

static void test_a_cut_leaves_other_agents_alone(void **state)
{
    (void)state;
    struct world *world = make_scripted((struct lend_fabric_verdict[]){{0}}, 1);
    uint8_t nobody[LEND_INCARNATION_BYTES] = {0};

    lend_fabric_cut(nobody, true);
    send_frames(world, 2);
    expect_frames(world, (uint64_t[]){0, 1}, 2);
    assert_false(poll_agent(&world->owner.agent));
    end_scripted(world);
}

static void test_what_is_held_is_bounded_and_nothing_is_lost_by_it(void **state)
{
    (void)state;
    struct lend_fabric_verdict first = {.action = LEND_FABRIC_DELAY, .until_ns = 5000};
    struct world *world = make_scripted(&first, 1);
    uint64_t sequence, sent = 0, taken = 0;

    send_frames(world, 1);
    expect_frames(world, NULL, 0);
    lend_fabric_install(NULL); /* from here on all are delivered, behind the first */
    for (sent = 1; send_frame(world->client->channel, sent, 0); sent++) {
        ops->flush(world->client->channel);
        assert_false(take_frame(world->server->channel, &sequence));
        assert_true(ops->sleep(world->server->channel, false, 0));
    }
    assert_int_equal(sent, 64 + RING_BYTES / 64);

    clock_ns = 5000;
    while (take_frame(world->server->channel, &sequence)) {
        assert_int_equal(sequence, taken);
        taken++;
    }
    assert_int_equal(taken, sent);
    end_scripted(world);
}

static void test_a_connection_made_without_a_fabric_is_not_judged(void **state)
{
    (void)state;
    struct world *world = make_connected_world();

    memset(&script, 0, sizeof script);
    lend_fabric_install(&fabric);
    send_frames(world, 2);
    expect_frames(world, (uint64_t[]){0, 1}, 2);
    assert_int_equal(script.frames, 0);
    end_world(world);
    lend_fabric_install(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_kind_fabric_delivers_all_in_order),
        cmocka_unit_test(test_a_dropped_frame_is_gone_and_others_come),
        cmocka_unit_test(test_a_delayed_frame_comes_at_its_time_and_holds_up_what_follows),
        cmocka_unit_test(test_a_swapped_frame_comes_after_the_next_one),
        cmocka_unit_test(test_a_swapped_frame_that_nothing_follows_comes_alone),
        cmocka_unit_test(test_a_corrupt_frame_differs_in_that_bit),
        cmocka_unit_test(test_a_loud_cut_loses_what_is_held_and_hangs_up_both_ends),
        cmocka_unit_test(test_a_silent_cut_is_never_told),
        cmocka_unit_test(test_a_cut_leaves_other_agents_alone),
        cmocka_unit_test(test_what_is_held_is_bounded_and_nothing_is_lost_by_it),
        cmocka_unit_test(test_a_connection_made_without_a_fabric_is_not_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
