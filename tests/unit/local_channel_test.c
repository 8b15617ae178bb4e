/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a channel of transport local carries frames whole and in order, wakes whoever sleeps and
 * nobody else, tells of a peer's end, and believes nothing that the other end publishes. Method:
 * two agents of a stub of core, in one process and in two; nonsense is written to the shared memory
 * by hand; calls of the system are counted, and failed, by a double.
 */
#include "local_stub.h"
#include "pidfds.h"

#include <sys/prctl.h>

static const struct lend_transport_ops *const ops = &lend_transport_local;

static void make_header(uint8_t *header, const void *payload, size_t count, uint64_t sequence)
{
    struct lend_frame frame = {.type = payload != NULL ? LEND_FRAME_NOTIFY : LEND_FRAME_DATA,
                               .payload_bytes = (uint32_t)count,
                               .sequence = sequence};

    lend_frame_encode(&frame, payload, header);
}

static uint8_t pattern(uint64_t sequence, size_t at)
{
    return (uint8_t)(sequence * 31 + at * 7 + (at >> 8));
}

/* A plain buffer as the stream of a DATA frame. */
struct plain {
    struct lend_extent extent;
    struct lend_run run;
    struct lend_cursor cursor;
};

static struct lend_cursor *cursor_over(struct plain *plain, void *bytes, size_t count)
{
    plain->extent = (struct lend_extent){.address = (uintptr_t)bytes,
                                         .row_bytes = count,
                                         .stride_bytes = count,
                                         .inner_stride_bytes = count,
                                         .inner_count = 1};
    plain->run = (struct lend_run){.first = 0, .count = 1};
    lend_cursor_init(&plain->cursor, &plain->extent, 1, &plain->run, 1);
    return &plain->cursor;
}

static void send_numbered(struct lend_channel *channel, uint64_t sequence, size_t count)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct plain plain;
    bool is_data = count > 0 && (sequence % 2 == 1 || count > LEND_FRAME_CONTROL_MAX);

    for (size_t i = 0; i < count; i++)
        payload[i] = pattern(sequence, i);
    make_header(header, is_data ? NULL : payload, count, sequence);
    if (is_data)
        ops->send_data(channel, header, cursor_over(&plain, payload, count), count);
    else
        ops->send(channel, header, payload, count);
}

/* Take the next frame, by pieces if it is data, and check it. False: there is none. */
static bool take_numbered(struct lend_channel *channel, uint64_t sequence, size_t piece)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;
    struct lend_frame frame;
    struct plain plain;

    enum lend_status status = ops->peek(channel, header, &error);
    if (status == LEND_PENDING)
        return false;
    assert_int_equal(status, LEND_OK);
    assert_int_equal(lend_frame_decode(header, &frame, &error), LEND_OK);
    assert_int_equal(frame.sequence, sequence);

    size_t count = frame.payload_bytes;
    memset(payload, 0xee, count);
    if (frame.type == LEND_FRAME_DATA) {
        struct lend_cursor *cursor = cursor_over(&plain, payload, count);
        for (size_t taken = 0; taken < count;) {
            assert_int_equal(ops->peek(channel, header, &error), LEND_OK); /* it stays the same */
            size_t got = ops->take_data(channel, cursor, piece, count);
            assert_int_equal(got, piece < count - taken ? piece : count - taken);
            taken += got;
        }
    } else {
        assert_int_equal(ops->take(channel, payload, count, &error), LEND_OK);
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(payload[i], pattern(sequence, i));
    return true;
}

static void test_frames_of_every_size_arrive_whole_both_ways(void **state)
{
    static struct lend_agent client, server;

    (void)state;
    stub_pair(&client, &server);
    for (int way = 0; way < 2; way++) {
        struct lend_channel *from = (way == 0 ? &client : &server)->sessions[0].channel;
        struct lend_channel *to = (way == 0 ? &server : &client)->sessions[0].channel;
        uint64_t sent = 0, taken = 0, seed = 12345;

        assert_int_equal(ops->room(from), RING_BYTES - LEND_FRAME_HEADER_BYTES);
        /* Some forty times round the ring, mostly full, so that frames lie across its end. */
        while (taken < 2000) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t count = (size_t)(seed >> 40) % (sent % 7 == 0 ? 33000 : 300);
            while (sent < 2000 && ops->room(from) >= count && ops->room(from) > 0) {
                send_numbered(from, sent++, count);
                count = count / 2 + 1;
            }
            ops->flush(from);
            for (uint64_t batch = seed >> 62; batch < 4 && taken < sent; batch++)
                assert_true(take_numbered(to, taken++, 1000));
            ops->flush(to);
        }
        assert_false(take_numbered(to, taken, 1));
    }
    stub_unpair(&client, &server);
}

static void test_room_is_what_a_frame_can_carry(void **state)
{
    static struct lend_agent client, server;
    struct lend_channel *channel;

    (void)state;
    stub_pair(&client, &server);
    channel = client.sessions[0].channel;
    send_numbered(channel, 0, ops->room(channel));
    assert_int_equal(ops->room(channel), 0);
    ops->flush(channel);
    assert_true(take_numbered(server.sessions[0].channel, 0, 65536)); /* data: told at once */
    assert_int_equal(ops->room(channel), RING_BYTES - LEND_FRAME_HEADER_BYTES);

    send_numbered(channel, 0, 32);
    ops->flush(channel);
    assert_true(take_numbered(server.sessions[0].channel, 0, 1));
    assert_int_equal(ops->room(channel), RING_BYTES - 64 - LEND_FRAME_HEADER_BYTES);
    ops->flush(server.sessions[0].channel);
    assert_int_equal(ops->room(channel), RING_BYTES - LEND_FRAME_HEADER_BYTES);

    /* Up to one unit of 64 bytes is left: an empty frame. */
    send_numbered(channel, 2, RING_BYTES - 64 - LEND_FRAME_HEADER_BYTES);
    assert_int_equal(ops->room(channel), 64 - LEND_FRAME_HEADER_BYTES);
    send_numbered(channel, 4, 0);
    assert_int_equal(ops->room(channel), 0);
    ops->flush(channel);
    assert_true(take_numbered(server.sessions[0].channel, 2, 1));
    assert_true(take_numbered(server.sessions[0].channel, 4, 1));
    stub_unpair(&client, &server);
}

static void test_data_may_be_taken_to_nowhere(void **state)
{
    static struct lend_agent client, server;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_channel *to;

    (void)state;
    stub_pair(&client, &server);
    to = server.sessions[0].channel;
    send_numbered(client.sessions[0].channel, 1, 5000);
    send_numbered(client.sessions[0].channel, 2, 10);
    ops->flush(client.sessions[0].channel);
    assert_int_equal(ops->peek(to, header, NULL), LEND_OK);
    assert_int_equal(ops->take_data(to, NULL, 4000, 5000), 4000);
    assert_int_equal(ops->take_data(to, NULL, 4000, 5000), 1000);
    assert_true(take_numbered(to, 2, 1));
    stub_unpair(&client, &server);
}

/* Doorbells */

static struct lend_sys_ops counting;
static uint32_t send_calls;
static int send_failure;

static ssize_t count_send(int fd, const struct msghdr *message)
{
    send_calls++;
    return send_failure != 0 ? send_failure : lend_sys_real.sendmsg(fd, message);
}

static void count_sends(void)
{
    counting = lend_sys_real;
    counting.sendmsg = count_send;
    send_calls = 0;
    send_failure = 0;
    lend_sys = &counting;
}

static void test_only_a_sleeper_is_rung_and_once(void **state)
{
    static struct lend_agent client, server;
    struct lend_channel *from, *to;

    (void)state;
    stub_pair(&client, &server);
    from = client.sessions[0].channel;
    to = server.sessions[0].channel;
    count_sends();
    for (uint64_t i = 0; i < 1000; i++) { /* both awake: no call of the system */
        send_numbered(from, i, 100);
        ops->flush(from);
        assert_true(take_numbered(to, i, 100));
        ops->flush(to);
    }
    assert_int_equal(send_calls, 0);

    assert_true(ops->sleep(to, false, 0));
    uint32_t wakes = server.sessions[0].wakes;
    send_numbered(from, 0, 10);
    send_numbered(from, 2, 10);
    ops->flush(from);
    send_numbered(from, 4, 10);
    ops->flush(from);
    assert_int_equal(send_calls, 1);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].wakes, wakes + 1);
    assert_false(ops->sleep(to, false, 0)); /* there is something */
    for (uint64_t i = 0; i < 6; i += 2)
        assert_true(take_numbered(to, i, 10));
    stub_unpair(&client, &server);
}

static void test_who_is_up_again_is_not_rung(void **state)
{
    static struct lend_agent client, server;
    struct lend_channel *from, *to;

    (void)state;
    stub_pair(&client, &server);
    from = client.sessions[0].channel;
    to = server.sessions[0].channel;
    count_sends();
    send_numbered(from, 0, ops->room(from));
    ops->flush(from);
    assert_true(ops->sleep(from, true, LEND_FRAME_PAYLOAD_MAX));
    ops->awake(from);
    assert_true(take_numbered(to, 0, 10));
    send_numbered(to, 0, 10);
    ops->flush(to);
    assert_int_equal(send_calls, 0);
    stub_unpair(&client, &server);
}

static void test_a_sleeper_for_room_is_rung_when_there_is_enough(void **state)
{
    static struct lend_agent client, server;
    struct lend_channel *from, *to;

    (void)state;
    stub_pair(&client, &server);
    from = client.sessions[0].channel;
    to = server.sessions[0].channel;
    count_sends();
    assert_false(ops->sleep(from, true, 1000));
    /* It said no, so nothing that comes may ring. */
    send_numbered(to, 0, 10);
    ops->flush(to);
    assert_int_equal(send_calls, 0);
    assert_true(take_numbered(from, 0, 10));

    send_numbered(from, 0, ops->room(from));
    ops->flush(from);
    assert_int_equal(send_calls, 0);
    assert_true(ops->sleep(from, true, LEND_FRAME_PAYLOAD_MAX)); /* more than this ring carries */
    assert_true(take_numbered(to, 0, 10));
    ops->flush(to);
    assert_int_equal(send_calls, 1);
    uint32_t wakes = client.sessions[0].wakes;
    stub_settle(&client, NULL);
    assert_int_equal(client.sessions[0].wakes, wakes + 1);
    assert_false(ops->sleep(from, true, LEND_FRAME_PAYLOAD_MAX));
    stub_unpair(&client, &server);
}

static void test_a_doorbell_that_the_kernel_had_no_memory_for_is_rung_again(void **state)
{
    static struct lend_agent client, server;
    struct lend_channel *from, *to;

    (void)state;
    stub_pair(&client, &server);
    from = client.sessions[0].channel;
    to = server.sessions[0].channel;
    count_sends();
    assert_true(ops->sleep(to, false, 0));
    send_failure = -ENOBUFS;
    send_numbered(from, 0, 10);
    ops->flush(from);
    assert_false(ops->sleep(from, false, 0)); /* it owes one, and tries */
    send_failure = 0;
    assert_true(ops->sleep(from, false, 0));
    uint32_t wakes = server.sessions[0].wakes;
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].wakes, wakes + 1);
    stub_unpair(&client, &server);
}

/* Two processes */

static struct lend_agent mine, theirs;

/* Fork a client of `theirs` that runs body and ends with 0; its copies of the server are its own.
 */
static pid_t start_client(void (*body)(struct lend_channel *channel, int argument), int argument)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child != 0)
        return child;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    stub_open(&mine, 1, true);
    if (stub_connect(&mine, &theirs, NULL) != LEND_OK)
        _exit(2);
    while (!stub_channel(&mine)->is_ready)
        (void)stub_turn(&mine, DEADLINE_NS);
    body(mine.sessions[0].channel, argument);
    _exit(0);
}

static void await_session(void)
{
    while (theirs.session_count == 0)
        assert_true(stub_turn(&theirs, DEADLINE_NS));
}

static void sleep_until_woken(struct lend_agent *agent, bool wants_room, size_t wanted)
{
    struct lend_session *session = &agent->sessions[0];
    uint32_t wakes = session->wakes;

    if (!ops->sleep(session->channel, wants_room, wanted))
        return;
    while (session->wakes == wakes && session->hung == LEND_OK) {
        /* A wake-up that is lost shows here. */
        if (!stub_turn(agent, DEADLINE_NS))
            fail_msg("nobody rang");
    }
}

static void take_asleep(struct lend_agent *agent, uint64_t sequence)
{
    while (!take_numbered(agent->sessions[0].channel, sequence, 65536)) {
        assert_int_equal(agent->sessions[0].hung, LEND_OK);
        sleep_until_woken(agent, false, 0);
    }
}

static void send_asleep(struct lend_agent *agent, uint64_t sequence, size_t count)
{
    struct lend_channel *channel = agent->sessions[0].channel;

    while (ops->room(channel) < count || ops->room(channel) == 0)
        sleep_until_woken(agent, true, count);
    send_numbered(channel, sequence, count);
}

static void pong(struct lend_channel *channel, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        take_asleep(&mine, (uint64_t)i);
        send_numbered(channel, (uint64_t)i, 40);
        ops->flush(channel);
    }
    ops->flush(channel);
}

static void test_no_wake_up_is_lost_in_a_hundred_thousand_round_trips(void **state)
{
    enum { ROUNDS = 100000 };
    int result = -1;

    (void)state;
    stub_open(&theirs, 9, false);
    pid_t child = start_client(pong, ROUNDS);
    await_session();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        send_numbered(theirs.sessions[0].channel, i, 40);
        ops->flush(theirs.sessions[0].channel);
        take_asleep(&theirs, i);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    stub_close(&theirs);
}

static size_t stream_count(uint64_t sequence)
{
    return (size_t)(sequence * 7919 % 60000);
}

static void stream(struct lend_channel *channel, int frames)
{
    for (int i = 0; i < frames; i++) {
        send_asleep(&mine, (uint64_t)i, stream_count((uint64_t)i));
        if (i % 3 == 0)
            ops->flush(channel);
    }
    ops->flush(channel);
}

static void test_a_stream_that_fills_the_ring_goes_on_and_ends_with_the_sender(void **state)
{
    enum { FRAMES = 3000 };
    int result = -1;

    (void)state;
    stub_open(&theirs, 9, false);
    pid_t child = start_client(stream, FRAMES);
    await_session();
    struct lend_channel *channel = theirs.sessions[0].channel;
    for (uint64_t i = 0; i < FRAMES; i++) {
        /* The sender may be gone before we have taken what it sent. */
        while (!take_numbered(channel, i, 65536)) {
            assert_int_equal(theirs.sessions[0].hung, LEND_OK);
            ops->flush(channel);
            sleep_until_woken(&theirs, false, 0);
        }
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    stub_await_end(&theirs, &theirs.sessions[0]);
    assert_int_equal(theirs.sessions[0].hung, LEND_E_PEER_DEAD);
    stub_close(&theirs);
}

/* The end of a peer */

static void send_three_and_die(struct lend_channel *channel, int argument)
{
    (void)argument;
    for (uint64_t i = 0; i < 6; i += 2)
        send_numbered(channel, i, 100);
    ops->flush(channel);
    send_numbered(channel, 6, 100); /* never published */
    (void)raise(SIGKILL);
}

static void test_what_a_killed_peer_had_published_is_taken_and_no_more(void **state)
{
    (void)state;
    stub_open(&theirs, 9, false);
    pid_t child = start_client(send_three_and_die, 0);
    await_session();
    assert_int_equal(waitpid(child, NULL, 0), child);
    stub_await_end(&theirs, &theirs.sessions[0]);
    assert_int_equal(theirs.sessions[0].hung, LEND_E_PEER_DEAD);
    for (uint64_t i = 0; i < 6; i += 2)
        assert_true(take_numbered(theirs.sessions[0].channel, i, 1));
    assert_false(take_numbered(theirs.sessions[0].channel, 6, 1));

    uint32_t turns = theirs.turns;
    stub_settle(&theirs, NULL);
    assert_int_equal(theirs.turns, turns); /* a hang-up that is watched on would spin */
    stub_close(&theirs);
}

static void fork_a_holder_and_die(struct lend_channel *channel, int pipe_end)
{
    (void)channel;
    pid_t holder = fork();
    if (holder == 0) {
        char byte;

        (void)prctl(PR_SET_PDEATHSIG, 0);
        (void)!read(pipe_end, &byte, 1); /* until the test has seen what it wanted to see */
        _exit(0);
    }
    (void)raise(SIGKILL);
}

static void test_a_peer_is_dead_although_its_child_holds_the_socket(void **state)
{
    int pipe_ends[2];

    (void)state;
    skip_without_pidfds();
    assert_int_equal(pipe(pipe_ends), 0);
    stub_open(&theirs, 9, false);
    pid_t child = start_client(fork_a_holder_and_die, pipe_ends[0]);
    await_session();
    stub_await_end(&theirs, &theirs.sessions[0]);
    assert_int_equal(theirs.sessions[0].hung, LEND_E_PEER_DEAD);
    assert_string_equal(theirs.sessions[0].reason, "the peer's process has ended");
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(write(pipe_ends[1], "", 1), 1); /* it has the other end itself: no hang-up */
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
    stub_close(&theirs);
}

static void test_the_client_hears_of_the_servers_death_too(void **state)
{
    static struct lend_agent client, server;

    (void)state;
    stub_pair(&client, &server);
    assert_int_equal(stub_channel(&client)->death.fd >= 0, has_pidfds());
    assert_int_equal(stub_channel(&server)->death.fd >= 0, has_pidfds());
    send_numbered(server.sessions[0].channel, 0, 10);
    ops->flush(server.sessions[0].channel);
    ops->close_channel(server.sessions[0].channel, false);
    server.sessions[0].channel = NULL;
    stub_await_end(&client, &client.sessions[0]);
    assert_int_equal(client.sessions[0].hung, LEND_E_PEER_DEAD);
    assert_true(take_numbered(client.sessions[0].channel, 0, 1));
    stub_unpair(&client, &server);
}

static void test_a_forked_child_that_lets_go_disturbs_nothing(void **state)
{
    static struct lend_agent client, server;
    int result = -1;

    (void)state;
    stub_pair(&client, &server);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ops->close_channel(client.sessions[0].channel, true);
        ops->close_channel(server.sessions[0].channel, true);
        ops->close_forked(client.opened);
        ops->close_forked(server.opened);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);

    stub_settle(&client, &server);
    assert_int_equal(server.sessions[0].hung, LEND_OK);
    assert_true(ops->sleep(server.sessions[0].channel, false, 0));
    uint32_t wakes = server.sessions[0].wakes;
    send_numbered(client.sessions[0].channel, 0, 10);
    ops->flush(client.sessions[0].channel);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].wakes, wakes + 1); /* still watched */
    assert_true(take_numbered(server.sessions[0].channel, 0, 1));
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK); /* still listening */
    stub_unpair(&client, &server);
}

static void test_closing_is_seen_although_a_forked_child_holds_the_socket(void **state)
{
    static struct lend_agent client, server;
    int pipe_ends[2];
    char byte;

    (void)state;
    stub_pair(&client, &server);
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(pipe_ends[1]);
        (void)!read(pipe_ends[0], &byte, 1);
        _exit(0);
    }
    ops->close_channel(client.sessions[0].channel, false);
    client.sessions[0].channel = NULL;
    stub_await_end(&server, &server.sessions[0]);
    (void)close(pipe_ends[1]);
    (void)close(pipe_ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    stub_unpair(&client, &server);
}

/* What a hostile peer publishes */

static void expect_corrupt(struct lend_agent *agent)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error = {0};

    assert_int_equal(ops->peek(agent->sessions[0].channel, header, &error), LEND_E_CORRUPT);
    assert_true(error.message[0] != '\0');
    assert_false(ops->sleep(agent->sessions[0].channel, false, 0)); /* it is to be looked at */
}

static void test_positions_that_cannot_be_are_refused(void **state)
{
    static const uint64_t heads[] = {RING_BYTES + 1, UINT64_MAX, UINT64_C(1) << 63, 1, 63};
    static struct lend_agent client, server;

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        stub_pair(&client, &server);
        atomic_store(&stub_channel(&client)->out.shared->head, heads[i]);
        expect_corrupt(&server);
        stub_unpair(&client, &server);
    }
    stub_pair(&client, &server);
    atomic_store(&stub_channel(&client)->in.shared->tail, 64); /* more than was produced */
    assert_int_equal(ops->room(server.sessions[0].channel), 0);
    expect_corrupt(&server);
    stub_unpair(&client, &server);
}

static void test_frames_that_are_cut_or_too_long_are_refused(void **state)
{
    static const uint32_t payloads[] = {LEND_FRAME_PAYLOAD_MAX + 1, UINT32_MAX, 33, 1000};
    static struct lend_agent client, server;

    (void)state;
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        stub_pair(&client, &server);
        struct lend_ring *ring = &stub_channel(&client)->out;
        make_header(lend_ring_write_at(ring), NULL, 0, 0);
        memcpy(lend_ring_write_at(ring) + 4, &payloads[i], sizeof payloads[i]);
        atomic_store(&ring->shared->head, 64); /* one unit, whatever the header says */
        expect_corrupt(&server);
        stub_unpair(&client, &server);
    }
}

static void test_a_header_that_is_rewritten_after_the_look_changes_nothing(void **state)
{
    static struct lend_agent client, server;
    uint8_t first[LEND_FRAME_HEADER_BYTES], again[LEND_FRAME_HEADER_BYTES];
    struct lend_channel *to;

    (void)state;
    stub_pair(&client, &server);
    to = server.sessions[0].channel;
    uint8_t *at = lend_ring_write_at(&stub_channel(&client)->out);
    send_numbered(client.sessions[0].channel, 1, 100);
    assert_int_equal(ops->peek(to, first, NULL), LEND_OK);
    make_header(at, NULL, 60000, 99);
    assert_int_equal(ops->peek(to, again, NULL), LEND_OK);
    assert_memory_equal(first, again, sizeof first);
    assert_int_equal(ops->take_data(to, NULL, 60000, 100), 100);
    assert_int_equal(ops->peek(to, again, NULL), LEND_PENDING);
    stub_unpair(&client, &server);
}

static void test_a_flood_of_packets_has_a_bounded_turn(void **state)
{
    static struct lend_agent client, server;
    uint8_t bell = 1;
    uint32_t sent = 0;

    (void)state;
    stub_pair(&client, &server);
    int fd = stub_channel(&client)->socket.fd;
    struct iovec bytes = {.iov_base = &bell, .iov_len = 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    while (lend_sys->sendmsg(fd, &message) == 1)
        sent++;
    assert_true(sent > 8);
    uint32_t turns = server.turns;
    stub_settle(&server, NULL);
    assert_int_equal(server.turns - turns, sent); /* one a turn: others come between */

    /* Anything but a doorbell ends it. */
    uint8_t junk[64] = {0};
    bytes = (struct iovec){.iov_base = junk, .iov_len = sizeof junk};
    assert_int_equal(lend_sys->sendmsg(fd, &message), sizeof junk);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].hung, LEND_E_CORRUPT);
    stub_unpair(&client, &server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_frames_of_every_size_arrive_whole_both_ways),
        STUB_TEST(test_room_is_what_a_frame_can_carry),
        STUB_TEST(test_data_may_be_taken_to_nowhere),
        STUB_TEST(test_only_a_sleeper_is_rung_and_once),
        STUB_TEST(test_who_is_up_again_is_not_rung),
        STUB_TEST(test_a_sleeper_for_room_is_rung_when_there_is_enough),
        STUB_TEST(test_a_doorbell_that_the_kernel_had_no_memory_for_is_rung_again),
        STUB_TEST(test_no_wake_up_is_lost_in_a_hundred_thousand_round_trips),
        STUB_TEST(test_a_stream_that_fills_the_ring_goes_on_and_ends_with_the_sender),
        STUB_TEST(test_what_a_killed_peer_had_published_is_taken_and_no_more),
        STUB_TEST(test_a_peer_is_dead_although_its_child_holds_the_socket),
        STUB_TEST(test_the_client_hears_of_the_servers_death_too),
        STUB_TEST(test_a_forked_child_that_lets_go_disturbs_nothing),
        STUB_TEST(test_closing_is_seen_although_a_forked_child_holds_the_socket),
        STUB_TEST(test_positions_that_cannot_be_are_refused),
        STUB_TEST(test_frames_that_are_cut_or_too_long_are_refused),
        STUB_TEST(test_a_header_that_is_rewritten_after_the_look_changes_nothing),
        STUB_TEST(test_a_flood_of_packets_has_a_bounded_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
