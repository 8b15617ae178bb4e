/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a channel of transport tcp carries frames whole and in order however the system cuts them,
 * from and to scattered memory and nowhere else, holds no more than its buffer for a peer that
 * takes nothing, wakes whoever sleeps, and tells of a peer's end after what it had sent. Method:
 * two agents of a stub of core in one process; a double of the system cuts what is sent and
 * received at every byte, by chance, or fails it.
 */
#include "tcp_stub.h"

#include <sys/ioctl.h>

enum { HOLE = 64, PIECES = 40, PIECE = 300, SPREAD = PIECES * PIECE };

static struct lend_agent client, server;

/* A double that cuts. The limits hold for one descriptor. */
static struct lend_sys_ops cutting;
static int cut_fd;
static size_t send_left, receive_left; /* until the next gap; SIZE_MAX: no gap */
static uint64_t chance;                /* 0: only gaps */
static int send_failure, receive_failure;
static size_t receive_calls;

static uint64_t roll(uint64_t below)
{
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return (chance >> 33) % below;
}

/* The message with only its first `most` bytes. */
static struct msghdr shorten(const struct msghdr *message, struct iovec *pieces, size_t most)
{
    struct msghdr shorter = *message;

    shorter.msg_iov = pieces;
    shorter.msg_iovlen = 0;
    for (size_t i = 0; i < message->msg_iovlen && most > 0; i++) {
        pieces[i] = message->msg_iov[i];
        if (pieces[i].iov_len > most)
            pieces[i].iov_len = most;
        most -= pieces[i].iov_len;
        shorter.msg_iovlen++;
    }
    return shorter;
}

/* How many bytes this call may move; 0: a gap. */
static size_t next_cut(size_t *left)
{
    size_t most = *left;

    if (most == 0)
        *left = SIZE_MAX;
    else if (chance != 0)
        most = roll(4) == 0 ? 0 : 1 + roll(roll(3) == 0 ? 100000 : 700);
    return most;
}

static void count_down(size_t *left, ssize_t moved)
{
    if (*left != SIZE_MAX && moved > 0)
        *left -= (size_t)moved;
}

static ssize_t cut_send(int fd, const struct msghdr *message)
{
    struct iovec pieces[LEND_TCP_PIECES_MAX + 8];

    if (fd != cut_fd && chance == 0)
        return lend_sys_real.sendmsg(fd, message);
    if (send_failure != 0)
        return send_failure;
    size_t most = next_cut(&send_left);
    if (most == 0)
        return -EAGAIN;
    struct msghdr shorter = shorten(message, pieces, most);
    ssize_t sent = lend_sys_real.sendmsg(fd, &shorter);
    count_down(&send_left, sent);
    return sent;
}

static ssize_t cut_receive(int fd, struct msghdr *message)
{
    struct iovec pieces[LEND_TCP_PIECES_MAX + 8];

    if (fd != cut_fd && chance == 0)
        return lend_sys_real.recvmsg(fd, message);
    receive_calls++;
    if (receive_failure != 0)
        return receive_failure;
    size_t most = next_cut(&receive_left);
    if (most == 0)
        return -EAGAIN;
    struct msghdr shorter = shorten(message, pieces, most);
    ssize_t came = lend_sys_real.recvmsg(fd, &shorter);
    count_down(&receive_left, came);
    return came;
}

static void cut(struct lend_agent *agent)
{
    cutting = lend_sys_real;
    cutting.sendmsg = cut_send;
    cutting.recvmsg = cut_receive;
    cut_fd = stub_channel(agent)->socket.fd;
    send_left = receive_left = SIZE_MAX;
    chance = 0;
    send_failure = receive_failure = 0;
    receive_calls = 0;
    lend_sys = &cutting;
}

/* Scattered memory: pieces of one size with holes between them. */
struct spread {
    uint8_t bytes[PIECES * (PIECE + HOLE)];
    struct lend_extent extent;
    struct lend_run run;
    struct lend_cursor cursor;
};

static struct lend_cursor *cursor_over(struct spread *spread)
{
    spread->extent = (struct lend_extent){.address = (uintptr_t)spread->bytes,
                                          .row_bytes = PIECE,
                                          .stride_bytes = PIECE + HOLE,
                                          .inner_stride_bytes = PIECE,
                                          .inner_count = 1};
    spread->run = (struct lend_run){.first = 0, .count = PIECES};
    lend_cursor_init(&spread->cursor, &spread->extent, 1, &spread->run, 1);
    return &spread->cursor;
}

static void fill_spread(struct spread *spread)
{
    for (size_t i = 0; i < sizeof spread->bytes; i++)
        spread->bytes[i] = (uint8_t)(i * 7 + (i >> 8) * 3 + 1);
}

/* The pieces are as filled, and the holes are untouched. */
static void check_spread(const struct spread *got, const struct spread *sent, size_t count)
{
    for (size_t i = 0; i < sizeof got->bytes; i++) {
        size_t piece = i / (PIECE + HOLE), at = i % (PIECE + HOLE);
        bool is_sent = at < PIECE && piece * PIECE + at < count;

        assert_int_equal(got->bytes[i], is_sent ? sent->bytes[i] : 0xee);
    }
}

static void send_frame(struct lend_channel *channel, uint8_t type, const void *payload,
                       size_t count)
{
    const struct lend_frame frame = {.type = type, .payload_bytes = (uint32_t)count};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, payload, header);
    assert_true(ops->room(channel) >= count && ops->room(channel) > 0);
    ops->send(channel, header, payload, count);
}

static void send_spread(struct lend_channel *channel, struct spread *spread, size_t count)
{
    const struct lend_frame frame = {.type = LEND_FRAME_DATA, .payload_bytes = (uint32_t)count};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    assert_true(ops->room(channel) >= count);
    ops->send_data(channel, header, cursor_over(spread), count);
}

/* Peek until the next frame is there; both ends do their part. */
static struct lend_frame await_frame(struct lend_channel *to, struct lend_channel *from)
{
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;
    struct lend_frame frame;
    enum lend_status status;

    while ((status = ops->peek(to, header, &error)) == LEND_PENDING) {
        assert_true(lend_sys_real.now_ns() < until);
        ops->flush(from);
    }
    assert_int_equal(status, LEND_OK);
    assert_int_equal(lend_frame_decode(header, &frame, &error), LEND_OK);
    return frame;
}

static void take_control(struct lend_channel *to, struct lend_channel *from, uint8_t *payload,
                         size_t count)
{
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    struct lend_error error;
    enum lend_status status;

    assert_int_equal(await_frame(to, from).payload_bytes, count);
    while ((status = ops->take(to, payload, count, &error)) == LEND_PENDING) {
        assert_true(lend_sys_real.now_ns() < until);
        ops->flush(from);
    }
    assert_int_equal(status, LEND_OK);
}

static void take_spread(struct lend_channel *to, struct lend_channel *from, struct spread *spread,
                        size_t count)
{
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    struct lend_cursor *cursor = spread != NULL ? cursor_over(spread) : NULL;
    size_t taken = 0;

    assert_int_equal(await_frame(to, from).payload_bytes, count);
    while (taken < count) {
        assert_true(lend_sys_real.now_ns() < until);
        taken += ops->take_data(to, cursor, count - taken, count);
        ops->flush(from);
    }
    assert_int_equal(taken, count);
}

static const uint8_t words[77] = {9, 8, 7, 6};

/* One of each: control, scattered data, empty control, data to nowhere, control. */
static void converse(struct lend_channel *from, struct lend_channel *to, size_t count)
{
    static struct spread sent, got;
    uint8_t payload[sizeof words];

    fill_spread(&sent);
    memset(got.bytes, 0xee, sizeof got.bytes);
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    send_spread(from, &sent, count);
    ops->flush(from);
    memset(payload, 0, sizeof payload);
    take_control(to, from, payload, sizeof payload);
    assert_memory_equal(payload, words, sizeof words);
    take_spread(to, from, &got, count);
    check_spread(&got, &sent, count);

    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    while (ops->room(from) == 0) {
        assert_true(lend_sys_real.now_ns() < until);
        ops->flush(from);
    }
    send_frame(from, LEND_FRAME_CANCEL, NULL, 0);
    take_control(to, from, payload, 0);
}

enum { STREAM = 3 * LEND_FRAME_HEADER_BYTES + (int)sizeof words + SPREAD };

/* Cut positions: all near the frames' ends, and some of the rest. */
static size_t next_position(size_t at)
{
    bool is_near = at < 400 || at > STREAM - 100 || at % PIECE < 3 || at % PIECE > PIECE - 3;

    return at + (is_near ? 1 : 37);
}

static void test_stream_may_be_cut_anywhere_where_it_is_sent(void **state)
{
    (void)state;
    stub_pair(&client, &server);
    for (size_t at = 0; at < STREAM; at = next_position(at)) {
        cut(&client);
        send_left = at;
        converse(client.sessions[0].channel, server.sessions[0].channel, SPREAD);
    }
    stub_unpair(&client, &server);
}

static void test_stream_may_be_cut_anywhere_where_it_is_received(void **state)
{
    (void)state;
    stub_pair(&client, &server);
    for (size_t at = 0; at < STREAM; at = next_position(at)) {
        cut(&server);
        receive_left = at;
        converse(client.sessions[0].channel, server.sessions[0].channel, SPREAD);
    }
    stub_unpair(&client, &server);
}

static void test_small_data_leaves_with_what_is_behind_it(void **state)
{
    static struct spread sent;
    uint8_t payload[sizeof words];

    (void)state;
    stub_pair(&client, &server);
    cut(&client);
    send_left = 100000; /* counts down what has left */
    fill_spread(&sent);
    send_spread(client.sessions[0].channel, &sent, 4000);
    send_frame(client.sessions[0].channel, LEND_FRAME_NOTIFY, words, sizeof words);
    assert_int_equal(send_left, 100000);
    ops->flush(client.sessions[0].channel);
    assert_int_equal(100000 - send_left, 2 * LEND_FRAME_HEADER_BYTES + 4000 + (int)sizeof words);
    take_spread(server.sessions[0].channel, client.sessions[0].channel, NULL, 4000);
    take_control(server.sessions[0].channel, client.sessions[0].channel, payload, sizeof payload);
    stub_unpair(&client, &server);
}

static void test_data_may_be_taken_to_nowhere(void **state)
{
    static struct spread sent;
    uint8_t payload[sizeof words];

    (void)state;
    stub_pair(&client, &server);
    fill_spread(&sent);
    for (size_t count = 1; count <= SPREAD; count += 997) {
        send_spread(client.sessions[0].channel, &sent, count);
        send_frame(client.sessions[0].channel, LEND_FRAME_NOTIFY, words, sizeof words);
        ops->flush(client.sessions[0].channel);
        take_spread(server.sessions[0].channel, client.sessions[0].channel, NULL, count);
        take_control(server.sessions[0].channel, client.sessions[0].channel, payload,
                     sizeof payload);
        assert_memory_equal(payload, words, sizeof words);
    }
    stub_unpair(&client, &server);
}

/* Memory that was sent may be another's as soon as send_data() has returned. */
static void test_memory_is_not_read_after_it_was_sent(void **state)
{
    static struct spread sent, kept, got;

    (void)state;
    stub_pair(&client, &server);
    for (size_t at = 0; at < STREAM; at += 101) {
        cut(&client);
        send_left = at;
        fill_spread(&sent);
        kept = sent;
        memset(got.bytes, 0xee, sizeof got.bytes);
        send_spread(client.sessions[0].channel, &sent, SPREAD);
        memset(sent.bytes, 0x55, sizeof sent.bytes);
        ops->flush(client.sessions[0].channel);
        take_spread(server.sessions[0].channel, client.sessions[0].channel, &got, SPREAD);
        check_spread(&got, &kept, SPREAD);
    }
    stub_unpair(&client, &server);
}

/* Sleep until woken, as core does: who cannot sleep has something to do. */
static void rest(struct lend_agent *agent, bool wants_room)
{
    struct lend_channel *channel = agent->sessions[0].channel;

    if (ops->sleep(channel, wants_room, 1)) {
        (void)stub_turn(agent, 1000000);
        ops->awake(channel);
    }
}

static void test_frames_by_chance_arrive_whole_and_in_order(void **state)
{
    static struct spread sent, got;
    enum { FRAMES = 1500 };
    uint32_t out = 0, in = 0;
    size_t taken = 0;

    (void)state;
    stub_pair(&client, &server);
    cut(&client);
    chance = 20261123;
    fill_spread(&sent);
    struct lend_channel *from = client.sessions[0].channel, *to = server.sessions[0].channel;
    uint64_t until = lend_sys_real.now_ns() + 3 * PATIENCE_NS;
    while (in < FRAMES) {
        uint8_t header[LEND_FRAME_HEADER_BYTES], payload[4096];
        struct lend_error error;
        bool moved = false;

        assert_true(lend_sys_real.now_ns() < until);
        while (out < FRAMES && ops->room(from) > 0 && roll(3) > 0) {
            size_t count = 1 + out * 37 % SPREAD;
            if (out % 3 == 0)
                send_spread(from, &sent, count);
            else
                send_frame(from, LEND_FRAME_NOTIFY, sent.bytes, count % 4096);
            out++;
            moved = true;
        }
        ops->flush(from);
        enum lend_status status = ops->peek(to, header, &error);
        if (status == LEND_OK) {
            size_t count = 1 + in * 37 % SPREAD;
            if (in % 3 == 0) {
                if (taken == 0) {
                    memset(got.bytes, 0xee, sizeof got.bytes);
                    (void)cursor_over(&got);
                }
                size_t more = ops->take_data(to, &got.cursor, count - taken, count);
                taken += more;
                moved |= more > 0;
                if (taken == count) {
                    check_spread(&got, &sent, count);
                    taken = 0;
                    in++;
                }
            } else if (ops->take(to, payload, count % 4096, &error) == LEND_OK) {
                assert_memory_equal(payload, sent.bytes, count % 4096);
                in++;
                moved = true;
            }
        } else {
            assert_int_equal(status, LEND_PENDING);
        }
        if (!moved) {
            rest(&client, out < FRAMES);
            rest(&server, false);
        }
    }
    stub_unpair(&client, &server);
}

static void test_peer_that_takes_nothing_is_held_one_buffer_for(void **state)
{
    static uint8_t plain[LEND_FRAME_DATA_MAX], got[LEND_FRAME_DATA_MAX];
    struct lend_extent extent = lend_extent_of_bytes((uintptr_t)plain, sizeof plain);
    struct lend_extent target = lend_extent_of_bytes((uintptr_t)got, sizeof got);
    const struct lend_run run = {0, 1};
    const struct lend_frame frame = {.type = LEND_FRAME_DATA, .payload_bytes = sizeof plain};
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint32_t sent = 0, taken = 0;

    (void)state;
    stub_pair(&client, &server);
    struct lend_channel *from = client.sessions[0].channel, *to = server.sessions[0].channel;
    lend_frame_encode(&frame, NULL, header);
    while (ops->room(from) > 0) {
        struct lend_cursor cursor;

        memset(plain, (int)sent++, sizeof plain);
        lend_cursor_init(&cursor, &extent, 1, &run, 1);
        ops->send_data(from, header, &cursor, sizeof plain);
        ops->flush(from);
        assert_true(sent < 1000); /* the kernel's buffers end somewhere */
    }
    const struct lend_tcp_buffer *out = &stub_channel(&client)->out;
    assert_true(out->end - out->first <= LEND_FRAME_HEADER_BYTES + sizeof plain);
    assert_true(ops->sleep(from, true, 1)); /* nothing is to be done */

    /* It takes: then there is room, and whoever sleeps hears of it. */
    while (taken < sent) {
        struct lend_cursor cursor;

        lend_cursor_init(&cursor, &target, 1, &run, 1);
        assert_int_equal(await_frame(to, from).payload_bytes, sizeof got);
        for (size_t count = 0; count < sizeof got; ops->flush(from))
            count += ops->take_data(to, &cursor, sizeof got - count, sizeof got);
        for (size_t i = 0; i < sizeof got; i += 511)
            assert_int_equal(got[i], (uint8_t)taken);
        taken++;
    }
    STUB_UNTIL(client.sessions[0].wakes > 1, &client, &server);
    assert_true(ops->room(from) > 0);
    stub_unpair(&client, &server);
}

static void test_only_a_sleeper_is_woken(void **state)
{
    uint8_t payload[sizeof words];

    (void)state;
    stub_pair(&client, &server);
    struct lend_channel *from = client.sessions[0].channel, *to = server.sessions[0].channel;
    while (stub_turn(&server, 0)) /* what greeting has left */
        ;
    uint32_t wakes = server.sessions[0].wakes;
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(from);
    assert_false(stub_turn(&server, 0)); /* it is awake, and looks by itself */
    take_control(to, from, payload, sizeof payload);

    assert_true(ops->sleep(to, false, 0));
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(from);
    STUB_UNTIL(server.sessions[0].wakes == wakes + 1, &server, &client);
    assert_false(stub_turn(&server, 0)); /* once */
    ops->awake(to);
    take_control(to, from, payload, sizeof payload);

    /* What is here already keeps it from sleeping: in the buffer, */
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(from);
    take_control(to, from, payload, sizeof payload);
    assert_false(ops->sleep(to, false, 0));
    take_control(to, from, payload, sizeof payload);
    /* or in the socket. */
    send_frame(from, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(from);
    assert_true(ops->sleep(to, false, 0));
    STUB_UNTIL(server.sessions[0].wakes == wakes + 2, &server, &client);
    stub_unpair(&client, &server);
}

/* Bytes that have come and are not taken. */
static int count_waiting(int fd)
{
    int count = 0;

    assert_int_equal(ioctl(fd, FIONREAD, &count), 0);
    return count;
}

/* Peek until the end was told. */
static void await_end(struct lend_session *session)
{
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;

    while (session->hung == LEND_OK) {
        assert_true(lend_sys_real.now_ns() < until);
        assert_int_equal(ops->peek(session->channel, header, &error), LEND_PENDING);
    }
}

static void test_end_is_told_after_what_was_sent_before_it(void **state)
{
    uint8_t payload[sizeof words];

    (void)state;
    stub_pair(&client, &server);
    struct lend_channel *to = server.sessions[0].channel;
    assert_true(ops->sleep(to, false, 0));
    send_frame(client.sessions[0].channel, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(client.sessions[0].channel);
    ops->close_channel(client.sessions[0].channel, false);
    client.sessions[0].channel = NULL;
    uint32_t wakes = server.sessions[0].wakes;
    STUB_UNTIL(server.sessions[0].wakes > wakes, &server, &client);
    ops->awake(to);
    take_control(to, to, payload, sizeof payload);
    assert_memory_equal(payload, words, sizeof words);
    await_end(&server.sessions[0]);
    assert_int_equal(server.sessions[0].hung, LEND_E_PEER_DEAD);
    stub_unpair(&client, &server);
}

static void test_frame_that_ends_half_way_is_none(void **state)
{
    uint8_t payload[sizeof words], header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;

    (void)state;
    for (size_t at = 1; at < LEND_FRAME_HEADER_BYTES + sizeof words; at += 7) {
        stub_pair(&client, &server);
        struct lend_session *session = &server.sessions[0];

        cut(&client);
        send_left = at;
        send_frame(client.sessions[0].channel, LEND_FRAME_NOTIFY, words, sizeof words);
        ops->flush(client.sessions[0].channel);
        ops->close_channel(client.sessions[0].channel, false);
        client.sessions[0].channel = NULL;
        uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
        while (session->hung == LEND_OK) {
            assert_true(lend_sys_real.now_ns() < until);
            if (ops->peek(session->channel, header, &error) == LEND_OK)
                assert_int_equal(ops->take(session->channel, payload, sizeof payload, &error),
                                 LEND_PENDING);
        }
        stub_unpair(&client, &server);
    }
}

static void test_failures_of_the_socket_tell_their_cause(void **state)
{
    static const struct {
        int failure;
        enum lend_status status;
        const char *says;
    } cases[] = {
        {-ETIMEDOUT, LEND_E_PEER_DEAD, "answered nothing for too long"},
        {-ECONNRESET, LEND_E_PEER_DEAD, "reset"},
        {-EFAULT, LEND_E_MEMORY, "unmapped while lent"},
    };
    static struct spread sent;

    (void)state;
    fill_spread(&sent);
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        struct lend_session *session = &client.sessions[0];

        stub_pair(&client, &server);
        cut(&client);
        if (i % 2 == 0) {
            send_failure = cases[i / 2].failure;
            send_spread(session->channel, &sent, SPREAD);
            ops->flush(session->channel);
            assert_int_equal(ops->room(session->channel), 0);
        } else {
            receive_failure = cases[i / 2].failure;
            await_end(session);
        }
        assert_int_equal(session->hung, cases[i / 2].status);
        assert_non_null(strstr(session->reason, cases[i / 2].says));
        stub_unpair(&client, &server);
        lend_sys = &lend_sys_real;
    }
}

static void test_kernel_without_memory_is_asked_again(void **state)
{
    (void)state;
    stub_pair(&client, &server);
    cut(&client);
    send_failure = -ENOBUFS;
    send_frame(client.sessions[0].channel, LEND_FRAME_NOTIFY, words, sizeof words);
    ops->flush(client.sessions[0].channel);
    assert_int_equal(ops->room(client.sessions[0].channel), 0);
    send_failure = 0;
    uint8_t payload[sizeof words];
    take_control(server.sessions[0].channel, client.sessions[0].channel, payload, sizeof payload);
    assert_memory_equal(payload, words, sizeof words);
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    stub_unpair(&client, &server);
}

static void test_stream_of_data_costs_about_one_call_a_frame(void **state)
{
    static struct spread sent, got;
    enum { FRAMES = 8 }; /* which any socket takes at once */

    (void)state;
    stub_pair(&client, &server);
    fill_spread(&sent);
    for (int i = 0; i < FRAMES; i++)
        send_spread(client.sessions[0].channel, &sent, SPREAD);
    ops->flush(client.sessions[0].channel);
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    while (count_waiting(stub_channel(&server)->socket.fd) <
           FRAMES * (SPREAD + LEND_FRAME_HEADER_BYTES))
        assert_true(lend_sys_real.now_ns() < until);
    cut(&server);
    for (int i = 0; i < FRAMES; i++)
        take_spread(server.sessions[0].channel, client.sessions[0].channel, &got, SPREAD);
    assert_true(receive_calls <= FRAMES + 2);
    stub_unpair(&client, &server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_stream_may_be_cut_anywhere_where_it_is_sent),
        STUB_TEST(test_stream_may_be_cut_anywhere_where_it_is_received),
        STUB_TEST(test_small_data_leaves_with_what_is_behind_it),
        STUB_TEST(test_data_may_be_taken_to_nowhere),
        STUB_TEST(test_memory_is_not_read_after_it_was_sent),
        STUB_TEST(test_frames_by_chance_arrive_whole_and_in_order),
        STUB_TEST(test_peer_that_takes_nothing_is_held_one_buffer_for),
        STUB_TEST(test_only_a_sleeper_is_woken),
        STUB_TEST(test_end_is_told_after_what_was_sent_before_it),
        STUB_TEST(test_frame_that_ends_half_way_is_none),
        STUB_TEST(test_failures_of_the_socket_tell_their_cause),
        STUB_TEST(test_kernel_without_memory_is_asked_again),
        STUB_TEST(test_stream_of_data_costs_about_one_call_a_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
