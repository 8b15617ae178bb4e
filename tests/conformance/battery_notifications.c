/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: notifications arrive once, in order, after the data that they go with, or are refused.
 * Method: numbered notifications of every length, alone and behind transfers, both ways; a receiver
 * that does not receive; a transfer that fails.
 */
#include "pair.h"

#include <poll.h>
#include <sched.h>

enum { BLOCK = 4096, BLOCKS = 16, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

static uint8_t note[LEND_NOTIFICATION_BYTES_MAX];

/* The reader's own receive, which waits whatever the progress. */
static enum lend_status reader_receive(struct pair *pair, void *bytes, size_t capacity,
                                       size_t *out_count, struct lend_notification_info *info)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_error error = {0};
    enum lend_status status;

    if (info != NULL)
        info->struct_size = sizeof *info;
    do {
        pair_pump(pair);
        status = lend_notification_receive(pair->reader, bytes, capacity, out_count, info,
                                           pair_is_manual(pair) ? 0 : SECONDS, &error);
    } while (status == LEND_E_ABSENT && pair_now_ns() < deadline);
    return status;
}

static void expect_at_owner(struct pair *pair, const void *bytes, size_t count)
{
    static uint8_t got[256 << 10];
    struct lend_notification_info info = {0};
    size_t got_count = 0;

    assert_string_equal(
        lend_status_name(owner_receive(pair, got, &got_count, &info, PAIR_PATIENCE_NS)), "LEND_OK");
    assert_int_equal(got_count, count);
    assert_int_equal(info.byte_count, count);
    assert_string_equal(info.peer, "reader");
    if (count > 0)
        assert_memory_equal(got, bytes, count);
}

static void expect_none_at_owner(struct pair *pair)
{
    uint8_t got[64];
    size_t count = 0;

    assert_int_equal(owner_receive(pair, got, &count, NULL, 0), LEND_E_ABSENT);
}

static void send_note(struct pair *pair, const void *bytes, size_t count)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    struct lend_error error = {0};
    enum lend_status status;

    while ((status = lend_notification_send(pair->peer, bytes, count, &error)) == LEND_E_BUSY &&
           pair_now_ns() < deadline) {
        pair_pump(pair);
        (void)sched_yield();
    }
    EXPECT(status, LEND_OK, &error);
}

static void test_notification_says_who_sent_it(void **state)
{
    struct pair *pair = *state;
    struct lend_notification_info info = {0};
    uint8_t got[LEND_NOTIFICATION_BYTES_MAX], incarnation[LEND_INCARNATION_BYTES];
    struct lend_peer *reader = NULL;
    struct lend_error error = {0};
    size_t count = 0;

    meet(pair);
    send_note(pair, "hello", 5);
    assert_int_equal(owner_receive(pair, got, &count, &info, PAIR_PATIENCE_NS), LEND_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(got, "hello", 5);
    lend_agent_incarnation(pair->reader, incarnation);
    assert_memory_equal(info.incarnation, incarnation, sizeof incarnation);
    assert_string_equal(info.peer, "reader");

    EXPECT(owner_import(pair, &reader), LEND_OK, NULL);
    EXPECT(owner_send(pair, reader, "and back", 8, &error), LEND_OK, &error);
    assert_int_equal(reader_receive(pair, got, sizeof got, &count, &info), LEND_OK);
    assert_int_equal(count, 8);
    assert_memory_equal(got, "and back", 8);
    assert_string_equal(info.peer, "owner");
    owner_forget(pair, reader);
}

static void test_notifications_of_every_length_keep_their_order(void **state)
{
    struct pair *pair = *state;

    meet(pair);
    for (uint32_t index = 0; index < 300; index++) {
        size_t count = index * index % 5000;

        pattern_fill(note, count, index);
        send_note(pair, note, count);
        if (index % 4 == 3) /* behind by at most four of them */
            for (uint32_t late = index - 3; late <= index; late++) {
                pattern_fill(note, late * late % 5000, late);
                expect_at_owner(pair, note, late * late % 5000);
            }
    }
    expect_none_at_owner(pair);
}

static void test_longest_and_shortest_arrive_and_longer_is_refused(void **state)
{
    struct pair *pair = *state;
    uint8_t *longer = calloc(1, LEND_NOTIFICATION_BYTES_MAX + 1);
    struct lend_error error = {0};

    assert_non_null(longer);
    meet(pair);
    pattern_fill(note, sizeof note, 9);
    send_note(pair, note, sizeof note);
    send_note(pair, NULL, 0);
    send_note(pair, note, 1);
    expect_at_owner(pair, note, sizeof note);
    expect_at_owner(pair, NULL, 0);
    expect_at_owner(pair, note, 1);
    EXPECT(lend_notification_send(pair->peer, longer, LEND_NOTIFICATION_BYTES_MAX + 1, &error),
           LEND_E_INVALID, &error);
    SAYS(&error, "16385");
    EXPECT(lend_notification_send(pair->peer, NULL, 4, &error), LEND_E_INVALID, &error);
    EXPECT(lend_notification_send(NULL, note, 4, &error), LEND_E_INVALID, &error);
    expect_none_at_owner(pair);
    free(longer);
}

static void small_window(struct lend_agent_config *config, bool is_owner)
{
    (void)is_owner;
    config->notification_window_bytes = 16384;
}

static void test_full_window_is_busy_and_loses_nothing(void **state)
{
    struct pair *pair = pair_make(battery_current, small_window);
    struct lend_error error = {0};
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    uint32_t sent = 0, received = 0, rounds = 0;

    (void)state;
    meet(pair);
    EXPECT(lend_notification_send(pair->peer, note, 8193, &error), LEND_E_INVALID, &error);
    while (rounds < 3 && pair_now_ns() < deadline) {
        /* Nobody receives: after so many bytes it must be busy, for as long as that lasts. */
        uint32_t before = sent;
        enum lend_status status;

        pattern_fill(note, 1024, sent);
        while ((status = lend_notification_send(pair->peer, note, 1024, &error)) == LEND_OK) {
            pattern_fill(note, 1024, ++sent);
            pair_pump(pair);
            assert_true(sent - before <= 64);
        }
        EXPECT(status, LEND_E_BUSY, &error);
        while (received < sent) {
            pattern_fill(note, 1024, received++);
            expect_at_owner(pair, note, 1024);
        }
        /* What the owner took is told back. */
        pattern_fill(note, 1024, sent);
        send_note(pair, note, 1024);
        sent++;
        rounds++;
    }
    assert_int_equal(rounds, 3);
    pattern_fill(note, 1024, received);
    expect_at_owner(pair, note, 1024);
    expect_none_at_owner(pair);
    pair_free(pair);
}

static void test_too_small_a_buffer_loses_nothing(void **state)
{
    struct pair *pair = *state;
    struct lend_peer *reader = NULL;
    struct lend_notification_info info = {0};
    struct lend_error error = {0};
    uint8_t got[64];
    size_t count = 0;

    EXPECT(owner_import(pair, &reader), LEND_OK, NULL);
    EXPECT(owner_send(pair, reader, "0123456789", 10, &error), LEND_OK, &error);
    EXPECT(owner_send(pair, reader, "next", 4, &error), LEND_OK, &error);
    for (size_t capacity = 0; capacity < 10; capacity += 3) {
        count = 0;
        assert_int_equal(reader_receive(pair, capacity == 0 ? NULL : got, capacity, &count, &info),
                         LEND_E_LIMIT);
        assert_int_equal(count, 10);
        assert_string_equal(info.peer, "owner");
    }
    assert_int_equal(reader_receive(pair, got, 10, &count, NULL), LEND_OK);
    assert_memory_equal(got, "0123456789", 10);
    assert_int_equal(reader_receive(pair, got, sizeof got, &count, NULL), LEND_OK);
    assert_int_equal(count, 4);
    assert_int_equal(
        lend_notification_receive(pair->reader, got, sizeof got, &count, NULL, 0, &error),
        LEND_E_ABSENT);
    owner_forget(pair, reader);
}

static void test_notification_follows_the_data_it_goes_with(void **state)
{
    static const int32_t blocks[] = {3, 14, 7, 8};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, 60000, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, 60000, BLOCKS);
    struct move move = {.direction = LEND_WRITE,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 4};

    for (uint32_t round = 1; round <= 30; round++) {
        struct lend_transfer *transfer = NULL;

        memory_set(local.memory, (int)round, local.bytes);
        EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
        move.notification = &round;
        move.notification_bytes = sizeof round;
        EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
        /* The owner looks at its memory at once; the reader has polled nothing. */
        expect_at_owner(pair, &round, sizeof round);
        for (size_t index = 0; index < 4; index++)
            assert_true(is_filled(remote.memory + blocks[index] * 60000, 60000, (uint8_t)round));
        EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
        EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    }
    expect_none_at_owner(pair);
    drop(&remote);
}

static void test_notification_behind_a_read_says_that_it_is_read(void **state)
{
    static const int32_t blocks[] = {0, 1};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 2,
                        .notification = "taken",
                        .notification_bytes = 5};

    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    send_note(pair, "after", 5);
    expect_at_owner(pair, "taken", 5);
    expect_at_owner(pair, "after", 5);
    /* One of no bytes at all is one too, if it is asked for. */
    move.notification = "";
    move.notification_bytes = 0;
    EXPECT(move_all(pair, &move), LEND_OK, &move.error);
    expect_at_owner(pair, NULL, 0);
    drop(&remote);
}

static void test_failed_transfer_notifies_nobody(void **state)
{
    static const int32_t blocks[] = {0, 1};
    struct pair *pair = *state;
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct move move = {.direction = direction,
                            .local = &local,
                            .remote = &remote,
                            .local_blocks = blocks,
                            .remote_blocks = blocks,
                            .count = 2,
                            .notification = "never",
                            .notification_bytes = 5};

        EXPECT(move_all(pair, &move), LEND_E_REVOKED, &move.error);
    }
    send_note(pair, "this one", 8);
    expect_at_owner(pair, "this one", 8);
    expect_none_at_owner(pair);
    drop(&remote);
}

static void test_failed_transfers_give_their_room_back(void **state)
{
    static const int32_t blocks[] = {0};
    struct pair *pair = pair_make(battery_current, small_window);
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};
    struct move move = {.direction = LEND_WRITE,
                        .local = &local,
                        .remote = &remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 1,
                        .notification = note,
                        .notification_bytes = 4096};

    (void)state;
    EXPECT(owner_revoke(pair, remote.lease, &error), LEND_OK, &error);
    for (uint32_t round = 0; round < 20; round++)
        EXPECT(move_all(pair, &move), LEND_E_REVOKED, &move.error);
    drop(&remote);
    pair_free(pair);
}

static void test_descriptor_tells_of_notifications(void **state)
{
    struct pair *pair = *state;
    struct lend_peer *reader = NULL;
    struct pollfd look = {.fd = lend_agent_fd(pair->reader), .events = POLLIN};
    struct lend_error error = {0};
    uint8_t got[64];
    size_t count = 0;

    EXPECT(owner_import(pair, &reader), LEND_OK, NULL);
    if (!pair_is_manual(pair)) {
        lend_agent_clear(pair->reader);
        assert_int_equal(poll(&look, 1, 0), 0);
        EXPECT(owner_send(pair, reader, "wake", 4, &error), LEND_OK, &error);
        assert_int_equal(poll(&look, 1, 20000), 1);
        assert_int_equal(
            lend_notification_receive(pair->reader, got, sizeof got, &count, NULL, 0, &error),
            LEND_OK);
        assert_int_equal(count, 4);
    }
    owner_forget(pair, reader);
}

const struct CMUnitTest *battery_notifications(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_notification_says_who_sent_it),
        PAIRED(test_notifications_of_every_length_keep_their_order),
        PAIRED(test_longest_and_shortest_arrive_and_longer_is_refused),
        cmocka_unit_test(test_full_window_is_busy_and_loses_nothing),
        PAIRED(test_too_small_a_buffer_loses_nothing),
        PAIRED(test_notification_follows_the_data_it_goes_with),
        PAIRED(test_notification_behind_a_read_says_that_it_is_read),
        PAIRED(test_failed_transfer_notifies_nobody),
        cmocka_unit_test(test_failed_transfers_give_their_room_back),
        PAIRED(test_descriptor_tells_of_notifications),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
