/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: loopback carries frames between agents of one process, whole and in order, wakes who
 * sleeps, tells each end of the other one's end, and never touches an end that is closed. Method:
 * core's side is a stub that counts; the calls are made one by one, then from two threads that
 * sleep on what the channel wakes; then each call of the system fails in turn.
 */

#include "loopback_stub.h"

#include "double.h"

#include <sys/wait.h>
#include <unistd.h>

static void test_frames_arrive_whole_and_in_order_both_ways(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    uint64_t sent[2] = {0, 0}, taken[2] = {0, 0}, sequence;
    struct lend_channel *ends[2] = {world->client->channel, world->server->channel};

    /* Enough to go around the ring many times; sizes that end at every place of a line. */
    while (taken[0] < 3000 || taken[1] < 3000) {
        for (int i = 0; i < 2; i++) {
            while (send_frame(ends[i], sent[i], (size_t)(sent[i] * 131 % 4001)))
                sent[i]++;
            ops->flush(ends[i]);
        }
        for (int i = 0; i < 2; i++) {
            while (take_frame(ends[1 - i], &sequence)) {
                assert_int_equal(sequence, taken[i]);
                taken[i]++;
            }
            assert_int_equal(taken[i], sent[i]);
            ops->flush(ends[1 - i]);
        }
    }
    end_world(world);
}

static void test_nothing_is_seen_before_flush(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    uint64_t sequence;

    assert_true(send_frame(world->client->channel, 5, 100));
    assert_false(take_frame(world->server->channel, &sequence));
    ops->flush(world->client->channel);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(sequence, 5);
    end_world(world);
}

static void test_what_room_promises_holds_until_it_is_zero(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    struct lend_channel *channel = world->client->channel;
    uint64_t count = 0, sequence;

    /* The longest frame is a ring's worth; then there is no room for even an empty one. */
    assert_int_equal(ops->room(channel), RING_BYTES - LEND_FRAME_HEADER_BYTES);
    assert_true(send_frame(channel, 0, ops->room(channel)));
    assert_int_equal(ops->room(channel), 0);
    ops->flush(channel);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(ops->room(channel), 0); /* taken, but not told */
    ops->flush(world->server->channel);
    assert_int_equal(ops->room(channel), RING_BYTES - LEND_FRAME_HEADER_BYTES);

    while (send_frame(channel, count, 0))
        count++;
    assert_int_equal(count, RING_BYTES / 64);
    assert_int_equal(ops->room(channel), 0);
    ops->flush(channel);
    for (uint64_t i = 0; i < count; i++) {
        assert_true(take_frame(world->server->channel, &sequence));
        assert_int_equal(sequence, i);
    }
    assert_false(take_frame(world->server->channel, &sequence));
    end_world(world);
}

static void test_data_goes_from_cursor_to_cursor_in_any_cuts(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    static uint8_t from[4096], to[4096];
    const struct lend_run whole = {.first = 0, .count = 64};
    const struct lend_extent sparse = {.address = (uint64_t)(uintptr_t)from,
                                       .row_bytes = 24,
                                       .stride_bytes = 64,
                                       .inner_stride_bytes = 24,
                                       .inner_count = 1};
    struct lend_extent there = sparse;
    struct lend_cursor reading, writing;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    const size_t total = 64 * 24;

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(1 + i % 251);
    there.address = (uint64_t)(uintptr_t)to;
    lend_cursor_init(&reading, &sparse, 1, &whole, 1);
    lend_cursor_init(&writing, &there, 1, &whole, 1);
    /* Two frames of the same stream. */
    make_header(header, 0, 1000);
    ops->send_data(world->server->channel, header, &reading, 1000);
    make_header(header, 1, total - 1000);
    ops->send_data(world->server->channel, header, &reading, total - 1000);
    ops->flush(world->server->channel);

    struct lend_error error;
    for (size_t frame = 0; frame < 2; frame++) {
        size_t bytes = frame == 0 ? 1000 : total - 1000;

        for (size_t taken = 0; taken < bytes;) {
            assert_int_equal(ops->peek(world->client->channel, header, &error), LEND_OK);
            size_t now = ops->take_data(world->client->channel, &writing, 77, bytes);
            assert_true(now > 0 && now <= 77);
            taken += now;
            assert_true(taken <= bytes);
        }
    }
    assert_int_equal(ops->peek(world->client->channel, header, &error), LEND_PENDING);
    for (size_t i = 0; i < sizeof from; i++)
        assert_int_equal(to[i], i % 64 < 24 ? from[i] : 0);
    end_world(world);
}

static void test_data_may_be_taken_to_nowhere(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    struct lend_channel *channel = world->server->channel;
    uint64_t sequence;

    assert_true(send_frame(world->client->channel, 0, 5000));
    assert_true(send_frame(world->client->channel, 1, 0));
    assert_true(send_frame(world->client->channel, 2, 10));
    ops->flush(world->client->channel);
    assert_int_equal(ops->take_data(channel, NULL, 4000, 5000), 4000);
    assert_int_equal(ops->take_data(channel, NULL, 4000, 5000), 1000);
    assert_int_equal(ops->take_data(channel, NULL, 4000, 0), 0); /* an empty one is done at once */
    assert_true(take_frame(channel, &sequence));
    assert_int_equal(sequence, 2);
    end_world(world);
}

static void test_a_frame_that_is_shorter_than_it_says_is_not_taken(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    uint8_t payload[512];
    struct lend_error error;

    assert_true(send_frame(world->client->channel, 0, 100));
    ops->flush(world->client->channel);
    assert_int_equal(ops->take(world->server->channel, payload, sizeof payload, &error),
                     LEND_E_CORRUPT);
    assert_int_equal(ops->take_data(world->server->channel, NULL, 10, sizeof payload), 0);
    end_world(world);
}

static void test_a_connection_is_accepted_in_the_turn_of_its_server(void **state)
{
    (void)state;
    struct world *world = make_world();

    assert_int_equal(connect_world(world), LEND_OK);
    assert_int_equal(world->owner.agent.accept_count, 0);
    assert_true(send_frame(world->client->channel, 0, 10)); /* it need not be accepted for that */
    ops->flush(world->client->channel);

    assert_true(poll_agent(&world->owner.agent));
    assert_int_equal(world->owner.agent.accept_count, 1);
    world->server = world->owner.agent.accepted;
    assert_true(world->server->wakes > 0); /* for what came before it was there */
    assert_false(poll_agent(&world->owner.agent));
    end_world(world);
}

static void test_an_agent_reaches_itself(void **state)
{
    (void)state;
    struct world *world = make_world();
    uint64_t sequence;

    memcpy(world->owner.address, world->reader.address, world->reader.address_bytes);
    assert_true(ops->reaches(world->reader.transport, world->owner.address, 25));
    assert_int_equal(connect_world(world), LEND_OK);
    assert_true(poll_agent(&world->reader.agent));
    world->server = world->reader.agent.accepted;
    assert_true(send_frame(world->client->channel, 7, 300));
    ops->flush(world->client->channel);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(sequence, 7);
    end_world(world);
}

static void test_a_close_hangs_up_the_other_end_which_takes_what_was_sent(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    uint64_t sequence;

    assert_true(send_frame(world->client->channel, 3, 40));
    ops->flush(world->client->channel);
    close_end(&world->client);
    assert_int_equal(world->server->hung, LEND_OK); /* not from the closing thread */
    assert_true(poll_agent(&world->owner.agent));
    assert_int_equal(world->server->hung, LEND_E_PEER_DEAD);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(sequence, 3);
    end_world(world);
}

static void test_the_client_hears_of_the_servers_end_too(void **state)
{
    (void)state;
    struct world *world = make_connected_world();

    close_end(&world->server);
    assert_true(poll_agent(&world->reader.agent));
    assert_int_equal(world->client->hung, LEND_E_PEER_DEAD);
    assert_false(poll_agent(&world->reader.agent));
    end_world(world);
}

static void test_a_client_that_closes_before_it_is_accepted_is_accepted_and_hung_up(void **state)
{
    (void)state;
    struct world *world = make_world();

    assert_int_equal(connect_world(world), LEND_OK);
    close_end(&world->client);
    assert_true(poll_agent(&world->owner.agent));
    world->server = world->owner.agent.accepted;
    assert_int_equal(world->server->hung, LEND_E_PEER_DEAD);
    end_world(world);
}

static void test_a_client_that_is_turned_away_is_hung_up(void **state)
{
    (void)state;
    struct world *world = make_world();

    world->owner.agent.is_refusing = true;
    assert_int_equal(connect_world(world), LEND_OK);
    assert_true(poll_agent(&world->owner.agent));
    assert_int_equal(world->owner.agent.log_count, 1);
    assert_true(poll_agent(&world->reader.agent));
    assert_int_equal(world->client->hung, LEND_E_PEER_DEAD);
    end_world(world);
}

static void test_a_transport_that_closes_hangs_up_who_waits_in_its_inbox(void **state)
{
    (void)state;
    struct world *world = make_world();

    assert_int_equal(connect_world(world), LEND_OK);
    ops->close(world->owner.transport);
    assert_true(poll_agent(&world->reader.agent));
    assert_int_equal(world->client->hung, LEND_E_PEER_DEAD);
    close_end(&world->client);
    ops->close(world->reader.transport);
    free(world);
}

static void test_a_closed_end_is_never_woken(void **state)
{
    (void)state;
    struct world *world = make_connected_world();

    assert_true(ops->sleep(world->server->channel, false, 0));
    ops->close_channel(world->server->channel, false);
    int wakes = world->server->wakes;

    assert_true(send_frame(world->client->channel, 0, 10));
    ops->flush(world->client->channel);
    assert_int_equal(world->server->wakes, wakes);
    free_session(world->server);
    world->server = NULL;
    end_world(world);
}

static void test_a_sleeping_consumer_is_woken_once_by_a_frame(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    int wakes = world->server->wakes;
    uint64_t sequence;

    assert_true(ops->sleep(world->server->channel, false, 0));
    ops->flush(world->client->channel); /* nothing was queued */
    assert_int_equal(world->server->wakes, wakes);
    assert_true(send_frame(world->client->channel, 0, 10));
    ops->flush(world->client->channel);
    assert_int_equal(world->server->wakes, wakes + 1);
    assert_true(send_frame(world->client->channel, 1, 10));
    ops->flush(world->client->channel); /* it is awake */
    assert_int_equal(world->server->wakes, wakes + 1);

    assert_false(ops->sleep(world->server->channel, false, 0));
    assert_true(take_frame(world->server->channel, &sequence));
    assert_true(take_frame(world->server->channel, &sequence));
    assert_true(ops->sleep(world->server->channel, false, 0));
    end_world(world);
}

static void test_who_is_up_again_is_not_woken(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    struct lend_channel *channel = world->client->channel;
    uint64_t sequence;

    assert_true(send_frame(channel, 0, 30000));
    assert_true(send_frame(channel, 1, ops->room(channel)));
    ops->flush(channel);
    int wakes = world->client->wakes;

    assert_true(ops->sleep(channel, true, 1000));
    ops->awake(channel);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_true(send_frame(world->server->channel, 0, 10));
    ops->flush(world->server->channel);
    assert_int_equal(world->client->wakes, wakes);
    end_world(world);
}

static void test_a_producer_that_waits_for_room_is_woken_by_it(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    struct lend_channel *channel = world->client->channel;
    uint64_t sequence;

    assert_false(ops->sleep(channel, true, 1000)); /* there is room */
    assert_true(send_frame(channel, 0, 30000));
    assert_true(send_frame(channel, 1, ops->room(channel)));
    ops->flush(channel);
    int wakes = world->client->wakes;

    assert_true(ops->sleep(channel, true, 1000));
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(world->client->wakes, wakes);
    ops->flush(world->server->channel);
    assert_int_equal(world->client->wakes, wakes + 1);
    assert_false(ops->sleep(channel, true, 1000));
    end_world(world);
}

static void test_only_a_whole_address_of_this_process_is_reached(void **state)
{
    (void)state;
    struct world *world = make_world();
    uint8_t address[64];
    struct lend_channel *channel = NULL;
    struct lend_session *session = make_session();
    struct lend_error error;

    assert_int_equal(world->owner.address_bytes, 25);
    memset(address, 0, sizeof address);
    memcpy(address, world->owner.address, 25);
    assert_true(ops->reaches(world->reader.transport, address, 25));
    for (size_t count = 0; count < 64; count++)
        if (count != 25)
            assert_false(ops->reaches(world->reader.transport, address, count));

    const size_t version = 0, incarnation = 1, nonce = 17;
    address[version] ^= 1;
    assert_false(ops->reaches(world->reader.transport, address, 25));
    address[version] ^= 1;
    for (size_t i = nonce; i < 25; i++) {
        address[i] ^= 0x10;
        assert_false(ops->reaches(world->reader.transport, address, 25));
        assert_int_equal(
            ops->connect(world->reader.transport, address, 25, session, &channel, &error),
            LEND_E_PEER_DEAD);
        address[i] ^= 0x10;
    }
    address[incarnation] ^= 1; /* it could be an agent of ours, but is none */
    assert_true(ops->reaches(world->reader.transport, address, 25));
    assert_int_equal(ops->connect(world->reader.transport, address, 25, session, &channel, &error),
                     LEND_E_PEER_DEAD);
    assert_null(channel);
    assert_int_equal(session->wakes, 0);
    free_session(session);
    end_world(world);
}

static void test_a_closed_transport_is_not_connected_to(void **state)
{
    (void)state;
    struct world *world = make_world();

    ops->close(world->owner.transport);
    assert_int_equal(connect_world(world), LEND_E_PEER_DEAD);
    ops->close(world->reader.transport);
    free(world);
}

/* What a forked child does, as its exit status: 0, or the number of what was wrong. */
static int live_as_child(struct world *world)
{
    struct party own = {0};
    struct lend_error error;
    struct lend_channel *channel;

    /* A new agent of the child, before and after the parent's copies are freed. */
    if (open_party(&own, 0xcc) != LEND_OK)
        return 1;
    if (ops->reaches(own.transport, world->owner.address, world->owner.address_bytes) ||
        ops->reaches(world->owner.transport, own.address, own.address_bytes))
        return 2;
    ops->close_channel(world->client->channel, true);
    ops->close_channel(world->server->channel, true);
    ops->close_forked(world->owner.transport);
    ops->close_forked(world->reader.transport);
    if (ops->connect(own.transport, world->owner.address, world->owner.address_bytes, world->client,
                     &channel, &error) != LEND_E_PEER_DEAD)
        return 3;

    memcpy(world->owner.address, own.address, own.address_bytes);
    if (ops->connect(own.transport, own.address, own.address_bytes, world->client, &channel,
                     &error) != LEND_OK ||
        !poll_agent(&own.agent))
        return 4;
    ops->close_channel(channel, false);
    ops->close_channel(own.agent.accepted->channel, false);
    free_session(own.agent.accepted);
    ops->close(own.transport);
    free_session(world->client);
    free_session(world->server);
    free(world);
    return 0;
}

static void test_a_forked_child_frees_its_copies_and_disturbs_nothing(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    uint64_t sequence;
    int status;

    assert_true(send_frame(world->client->channel, 1, 100));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(live_as_child(world));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    assert_false(poll_agent(&world->owner.agent));
    assert_false(poll_agent(&world->reader.agent));
    assert_false(take_frame(world->server->channel, &sequence));
    ops->flush(world->client->channel);
    assert_true(take_frame(world->server->channel, &sequence));
    assert_int_equal(sequence, 1);
    end_world(world);
}

/* --- two threads --- */

enum { THREAD_FRAMES = 20000 };

/* Send THREAD_FRAMES and take as many, asleep whenever there is nothing to do. */
static void *talk(void *context)
{
    struct lend_session *session = context;
    uint64_t sent = 0, taken = 0, sequence;

    while (sent < THREAD_FRAMES || taken < THREAD_FRAMES) {
        size_t next = (size_t)(sent * 977 % 5000);
        bool moved = false;

        while (sent < THREAD_FRAMES && send_frame(session->channel, sent, next)) {
            sent++;
            next = (size_t)(sent * 977 % 5000);
            moved = true;
        }
        ops->flush(session->channel);
        while (taken < THREAD_FRAMES && take_frame(session->channel, &sequence)) {
            assert_int_equal(sequence, taken);
            taken++;
            moved = true;
        }
        ops->flush(session->channel);
        if (!moved && ops->sleep(session->channel, sent < THREAD_FRAMES, next))
            assert_int_equal(sem_wait(&session->awake), 0);
    }
    return NULL;
}

static void test_two_threads_that_sleep_lose_no_wake(void **state)
{
    (void)state;
    struct world *world = make_connected_world();
    pthread_t other;

    assert_int_equal(pthread_create(&other, NULL, talk, world->server), 0);
    (void)talk(world->client);
    assert_int_equal(pthread_join(other, NULL), 0);
    end_world(world);
}

static _Atomic bool is_over;

static void *close_soon(void *context)
{
    struct lend_session *session = context;

    ops->close_channel(session->channel, false);
    /* A wake after this is a use after free, which the sanitizers see. */
    free_session(session);
    atomic_store(&is_over, true);
    return NULL;
}

static void test_a_close_beside_flushes_wakes_nobody_who_is_gone(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct world *world = make_connected_world();
        pthread_t other;
        uint64_t sent = 0;

        atomic_store(&is_over, false);
        assert_true(ops->sleep(world->server->channel, false, 0));
        assert_int_equal(pthread_create(&other, NULL, close_soon, world->server), 0);
        world->server = NULL;
        do {
            if (send_frame(world->client->channel, sent, 0))
                sent++;
            ops->flush(world->client->channel);
        } while (!atomic_load(&is_over));
        assert_int_equal(pthread_join(other, NULL), 0);
        end_world(world);
    }
}

/* --- a system that fails --- */

/* Open, connect, accept, close; the first failure's status. */
static enum lend_status live_once(void)
{
    struct world *world = calloc(1, sizeof *world);
    enum lend_status status = LEND_OK;

    assert_non_null(world);
    status = open_party(&world->owner, 1);
    if (status == LEND_OK) {
        status = open_party(&world->reader, 2);
        if (status == LEND_OK) {
            status = connect_world(world);
            if (status == LEND_OK) {
                assert_true(poll_agent(&world->owner.agent));
                world->server = world->owner.agent.accepted;
            }
            close_end(&world->client);
            if (world->server != NULL) {
                assert_true(poll_agent(&world->owner.agent));
                assert_int_equal(world->server->hung, LEND_E_PEER_DEAD);
            }
            close_end(&world->server);
            ops->close(world->reader.transport);
        }
        ops->close(world->owner.transport);
    }
    free(world);
    return status;
}

static void test_whatever_call_fails_nothing_is_left_behind(void **state)
{
    (void)state;
    int failures = 0;

    for (int nth = 0;; nth++) {
        double_install(nth);
        enum lend_status status = live_once();
        if (!double_remove()) { /* also asserts that nothing leaked */
            assert_int_equal(status, LEND_OK);
            break;
        }
        assert_true(status == LEND_OK || status == LEND_E_NO_MEMORY || status == LEND_E_SYSTEM);
        failures += status != LEND_OK;
    }
    /* Two calls of open (twice), the link, its two rings and two ends. What a bell needs is tried
     * again, and the process's own nonce was drawn by the tests before. */
    assert_int_equal(failures, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_arrive_whole_and_in_order_both_ways),
        cmocka_unit_test(test_nothing_is_seen_before_flush),
        cmocka_unit_test(test_what_room_promises_holds_until_it_is_zero),
        cmocka_unit_test(test_data_goes_from_cursor_to_cursor_in_any_cuts),
        cmocka_unit_test(test_data_may_be_taken_to_nowhere),
        cmocka_unit_test(test_a_frame_that_is_shorter_than_it_says_is_not_taken),
        cmocka_unit_test(test_a_connection_is_accepted_in_the_turn_of_its_server),
        cmocka_unit_test(test_an_agent_reaches_itself),
        cmocka_unit_test(test_a_close_hangs_up_the_other_end_which_takes_what_was_sent),
        cmocka_unit_test(test_the_client_hears_of_the_servers_end_too),
        cmocka_unit_test(test_a_client_that_closes_before_it_is_accepted_is_accepted_and_hung_up),
        cmocka_unit_test(test_a_client_that_is_turned_away_is_hung_up),
        cmocka_unit_test(test_a_transport_that_closes_hangs_up_who_waits_in_its_inbox),
        cmocka_unit_test(test_a_closed_end_is_never_woken),
        cmocka_unit_test(test_a_sleeping_consumer_is_woken_once_by_a_frame),
        cmocka_unit_test(test_who_is_up_again_is_not_woken),
        cmocka_unit_test(test_a_producer_that_waits_for_room_is_woken_by_it),
        cmocka_unit_test(test_only_a_whole_address_of_this_process_is_reached),
        cmocka_unit_test(test_a_closed_transport_is_not_connected_to),
        cmocka_unit_test(test_a_forked_child_frees_its_copies_and_disturbs_nothing),
        cmocka_unit_test(test_two_threads_that_sleep_lose_no_wake),
        cmocka_unit_test(test_a_close_beside_flushes_wakes_nobody_who_is_gone),
        cmocka_unit_test(test_whatever_call_fails_nothing_is_left_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
