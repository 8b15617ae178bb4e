/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: bytes come out as they went in, across the end of the ring and between two threads; a party
 * that sleeps is woken; and whatever stands in the shared page, room and available stay within the
 * ring. Method: single steps; a stream through a small ring by two threads that sleep on events;
 * lies in the shared page, chosen and random.
 */
#include "base/ring.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { RING_BYTES = 4096, STREAM_BYTES = 4 << 20, LIES = 200000 };
#define PATIENCE_NS UINT64_C(60000000000)

struct pair {
    struct lend_ring_shared shared;
    uint8_t *data;
    struct lend_ring producer;
    struct lend_ring consumer;
    int wake_producer; /* eventfds */
    int wake_consumer;
};

static void open_pair(struct pair *pair)
{
    memset(&pair->shared, 0, sizeof pair->shared);
    pair->data = lend_sys->map_twice(-1, 0, RING_BYTES);
    assert_non_null(pair->data);
    lend_ring_init(&pair->producer, &pair->shared, pair->data, RING_BYTES);
    lend_ring_init(&pair->consumer, &pair->shared, pair->data, RING_BYTES);
    pair->wake_producer = lend_sys->event();
    pair->wake_consumer = lend_sys->event();
    assert_true(pair->wake_producer >= 0 && pair->wake_consumer >= 0);
}

static void close_pair(struct pair *pair)
{
    lend_sys->unmap_twice(pair->data, RING_BYTES);
    lend_sys->close(pair->wake_producer);
    lend_sys->close(pair->wake_consumer);
}

static void test_new_ring_is_empty(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES);
    assert_int_equal(lend_ring_available(&pair.consumer), 0);
    close_pair(&pair);
}

static void test_nothing_is_seen_before_it_is_published(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    lend_ring_write_at(&pair.producer)[0] = 42;
    lend_ring_advance(&pair.producer, 10);
    assert_int_equal(lend_ring_available(&pair.consumer), 0);
    assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES - 10);
    assert_false(lend_ring_publish_head(&pair.producer));
    assert_int_equal(lend_ring_available(&pair.consumer), 10);
    assert_int_equal(lend_ring_read_at(&pair.consumer)[0], 42);

    lend_ring_advance(&pair.consumer, 4);
    assert_int_equal(lend_ring_available(&pair.consumer), 6);
    assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES - 10);
    assert_false(lend_ring_publish_tail(&pair.consumer));
    assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES - 6);
    close_pair(&pair);
}

static void test_run_across_the_end_is_contiguous(void **state)
{
    struct pair pair;
    uint8_t expected[RING_BYTES];

    (void)state;
    open_pair(&pair);
    lend_ring_advance(&pair.producer, RING_BYTES - 100);
    (void)lend_ring_publish_head(&pair.producer);
    assert_int_equal(lend_ring_available(&pair.consumer), RING_BYTES - 100);
    lend_ring_advance(&pair.consumer, RING_BYTES - 100);
    (void)lend_ring_publish_tail(&pair.consumer);

    assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES);
    for (size_t i = 0; i < sizeof expected; i++)
        expected[i] = (uint8_t)(i * 7 + 1);
    memcpy(lend_ring_write_at(&pair.producer), expected, sizeof expected);
    lend_ring_advance(&pair.producer, sizeof expected);
    (void)lend_ring_publish_head(&pair.producer);
    assert_int_equal(lend_ring_room(&pair.producer), 0);
    assert_int_equal(lend_ring_available(&pair.consumer), sizeof expected);
    assert_memory_equal(lend_ring_read_at(&pair.consumer), expected, sizeof expected);
    /* The end of the ring is in the middle of the run. */
    assert_int_equal(pair.data[0], expected[100]);
    close_pair(&pair);
}

static void test_positions_may_wrap(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    pair.producer.position = pair.producer.seen = UINT64_MAX - 9;
    pair.consumer.position = pair.consumer.seen = UINT64_MAX - 9;
    atomic_store(&pair.shared.head, UINT64_MAX - 9);
    atomic_store(&pair.shared.tail, UINT64_MAX - 9);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES);
        lend_ring_advance(&pair.producer, 7);
        (void)lend_ring_publish_head(&pair.producer);
        assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES - 7);
        assert_int_equal(lend_ring_available(&pair.consumer), 7);
        lend_ring_advance(&pair.consumer, 7);
        (void)lend_ring_publish_tail(&pair.consumer);
        assert_int_equal(lend_ring_available(&pair.consumer), 0);
    }
    assert_false(pair.producer.is_broken);
    assert_false(pair.consumer.is_broken);
    close_pair(&pair);
}

static void test_sleeper_is_woken_once(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    assert_true(lend_ring_sleep_consumer(&pair.consumer));
    lend_ring_advance(&pair.producer, RING_BYTES);
    assert_true(lend_ring_publish_head(&pair.producer));
    assert_false(lend_ring_publish_head(&pair.producer));
    /* There is something to do: no sleep, and nobody to wake. */
    assert_false(lend_ring_sleep_consumer(&pair.consumer));
    assert_false(lend_ring_publish_head(&pair.producer));

    assert_true(lend_ring_sleep_producer(&pair.producer, 100));
    lend_ring_advance(&pair.consumer, 99);
    assert_true(lend_ring_publish_tail(&pair.consumer));
    assert_true(lend_ring_sleep_producer(&pair.producer, 100)); /* 99 are not enough */
    lend_ring_advance(&pair.consumer, 1);
    assert_true(lend_ring_publish_tail(&pair.consumer));
    assert_false(lend_ring_sleep_producer(&pair.producer, 100));
    assert_false(lend_ring_publish_tail(&pair.consumer));
    close_pair(&pair);
}

static void test_who_is_up_again_is_not_woken(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    assert_true(lend_ring_sleep_consumer(&pair.consumer));
    lend_ring_awake_consumer(&pair.consumer);
    lend_ring_advance(&pair.producer, RING_BYTES);
    assert_false(lend_ring_publish_head(&pair.producer));

    assert_true(lend_ring_sleep_producer(&pair.producer, 100));
    lend_ring_awake_producer(&pair.producer);
    assert_int_equal(lend_ring_available(&pair.consumer), RING_BYTES);
    lend_ring_advance(&pair.consumer, 100);
    assert_false(lend_ring_publish_tail(&pair.consumer));
    close_pair(&pair);
}

/* The stream: any byte of it from its position. */
static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 40);
}

static void ring_bell(int event)
{
    const uint64_t one = 1;

    assert_int_equal(lend_sys->write(event, &one, sizeof one), sizeof one);
}

/* False when nobody rang within the time that no machine needs. */
static bool await_bell(int event)
{
    struct pollfd bell = {.fd = event, .events = POLLIN};
    uint64_t count;

    return lend_sys->poll(&bell, 1, PATIENCE_NS) == 1 &&
           lend_sys->read(event, &count, sizeof count) == sizeof count;
}

static void *produce(void *context)
{
    struct pair *pair = context;
    uint64_t sent = 0;
    uint32_t dice = 1;

    while (sent < STREAM_BYTES) {
        dice = dice * 1664525 + 1013904223;
        uint64_t wanted = 1 + (dice >> 16) % RING_BYTES;
        if (wanted > STREAM_BYTES - sent)
            wanted = STREAM_BYTES - sent;
        while (lend_ring_room(&pair->producer) < wanted) {
            if (lend_ring_sleep_producer(&pair->producer, wanted) &&
                !await_bell(pair->wake_producer))
                return pair; /* never woken */
        }
        uint8_t *to = lend_ring_write_at(&pair->producer);
        for (uint64_t i = 0; i < wanted; i++)
            to[i] = byte_at(sent + i);
        lend_ring_advance(&pair->producer, wanted);
        if (lend_ring_publish_head(&pair->producer))
            ring_bell(pair->wake_consumer);
        sent += wanted;
    }
    return NULL;
}

static void test_stream_between_two_threads(void **state)
{
    struct pair pair;
    pthread_t thread;
    uint64_t received = 0, wrong = 0;
    void *trouble = &pair;
    bool is_woken = true;

    (void)state;
    open_pair(&pair);
    assert_int_equal(lend_sys->thread(&thread, produce, &pair, "producer"), 0);
    while (received < STREAM_BYTES && is_woken) {
        uint64_t count = lend_ring_available(&pair.consumer);

        if (count == 0) {
            if (lend_ring_sleep_consumer(&pair.consumer))
                is_woken = await_bell(pair.wake_consumer);
            continue;
        }
        const uint8_t *from = lend_ring_read_at(&pair.consumer);
        for (uint64_t i = 0; i < count; i++)
            wrong += from[i] != byte_at(received + i);
        lend_ring_advance(&pair.consumer, count);
        if (lend_ring_publish_tail(&pair.consumer))
            ring_bell(pair.wake_producer);
        received += count;
    }
    assert_int_equal(pthread_join(thread, &trouble), 0);
    assert_null(trouble);
    assert_true(is_woken);
    assert_int_equal(wrong, 0);
    assert_int_equal(lend_ring_available(&pair.consumer), 0);
    assert_false(pair.producer.is_broken || pair.consumer.is_broken);
    close_pair(&pair);
}

static void test_impossible_heads_break_the_consumer(void **state)
{
    /* The consumer has seen 100 and taken 40 of them. */
    static const struct {
        uint64_t head;
        bool is_true;
    } cases[] = {
        {100, true},
        {101, true},
        {40 + RING_BYTES, true},
        {41 + RING_BYTES, false}, /* more than a ring ahead */
        {99, false},              /* backwards */
        {40, false},
        {39, false},
        {0, false},
        {UINT64_MAX, false},
        {UINT64_C(1) << 63, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;

        open_pair(&pair);
        atomic_store(&pair.shared.head, 100);
        assert_int_equal(lend_ring_available(&pair.consumer), 100);
        lend_ring_advance(&pair.consumer, 40);
        atomic_store(&pair.shared.head, cases[i].head);
        assert_int_equal(lend_ring_available(&pair.consumer),
                         cases[i].is_true ? cases[i].head - 40 : 0);
        assert_int_equal(pair.consumer.is_broken, !cases[i].is_true);
        /* Broken for good, and no reason to sleep. */
        atomic_store(&pair.shared.head, 100);
        if (!cases[i].is_true) {
            assert_int_equal(lend_ring_available(&pair.consumer), 0);
            assert_false(lend_ring_sleep_consumer(&pair.consumer));
        }
        close_pair(&pair);
    }
}

static void test_impossible_tails_break_the_producer(void **state)
{
    /* The producer has made 1000, and seen 100 of them taken. */
    static const struct {
        uint64_t tail;
        bool is_true;
    } cases[] = {
        {100, true},   {101, true},         {1000, true},
        {1001, false}, /* taken before it was made */
        {99, false},   /* backwards */
        {0, false},    {UINT64_MAX, false}, {UINT64_C(1000) - RING_BYTES, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;

        open_pair(&pair);
        lend_ring_advance(&pair.producer, 1000);
        atomic_store(&pair.shared.tail, 100);
        assert_int_equal(lend_ring_room(&pair.producer), RING_BYTES - 900);
        atomic_store(&pair.shared.tail, cases[i].tail);
        assert_int_equal(lend_ring_room(&pair.producer),
                         cases[i].is_true ? RING_BYTES - (1000 - cases[i].tail) : 0);
        assert_int_equal(pair.producer.is_broken, !cases[i].is_true);
        atomic_store(&pair.shared.tail, 100);
        if (!cases[i].is_true) {
            assert_int_equal(lend_ring_room(&pair.producer), 0);
            assert_false(lend_ring_sleep_producer(&pair.producer, 1));
        }
        close_pair(&pair);
    }
}

static void test_random_lies_never_leave_the_ring(void **state)
{
    struct pair pair;
    uint64_t dice = 42;
    int broken = 0;

    (void)state;
    open_pair(&pair);
    for (int i = 0; i < LIES; i++) {
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t lie = dice >> (dice >> 58); /* of every magnitude */

        if (pair.producer.is_broken || pair.consumer.is_broken) {
            broken++;
            lend_ring_init(&pair.producer, &pair.shared, pair.data, RING_BYTES);
            lend_ring_init(&pair.consumer, &pair.shared, pair.data, RING_BYTES);
        }
        atomic_store(&pair.shared.head, pair.consumer.position + lie % (2 * RING_BYTES));
        atomic_store(&pair.shared.tail, dice % 3 == 0 ? lie : pair.producer.position - lie % 5000);
        uint64_t available = lend_ring_available(&pair.consumer);
        uint64_t room = lend_ring_room(&pair.producer);
        assert_in_range(available, 0, RING_BYTES);
        assert_in_range(room, 0, RING_BYTES);
        assert_in_range((uintptr_t)(lend_ring_write_at(&pair.producer) + room),
                        (uintptr_t)pair.data, (uintptr_t)pair.data + 2 * RING_BYTES);
        assert_in_range((uintptr_t)(lend_ring_read_at(&pair.consumer) + available),
                        (uintptr_t)pair.data, (uintptr_t)pair.data + 2 * RING_BYTES);
        lend_ring_advance(&pair.consumer, available);
        lend_ring_advance(&pair.producer, room);
    }
    assert_true(broken > 100 && broken < LIES);
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_ring_is_empty),
        cmocka_unit_test(test_nothing_is_seen_before_it_is_published),
        cmocka_unit_test(test_run_across_the_end_is_contiguous),
        cmocka_unit_test(test_positions_may_wrap),
        cmocka_unit_test(test_sleeper_is_woken_once),
        cmocka_unit_test(test_who_is_up_again_is_not_woken),
        cmocka_unit_test(test_stream_between_two_threads),
        cmocka_unit_test(test_impossible_heads_break_the_consumer),
        cmocka_unit_test(test_impossible_tails_break_the_producer),
        cmocka_unit_test(test_random_lies_never_leave_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
