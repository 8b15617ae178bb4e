/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever strangers send to the port of an owner, in whatever pieces and numbers, and
 * whatever was recorded of others and is sent again, its memory outside of what was leased stays as
 * it was, honest peers are served beside them, and what they cost of memory and descriptors is
 * bounded and given back. Method: bytes made by hand, by chance, and cut at every place, against an
 * owner with a thread that listens at loopback; after each the whole stage is looked at
 * (hostile.h).
 */
#include "hostile.h"

#include "base/sys.h"
#include "sanitizer.h"

#include <poll.h>

/* What a client says, byte by byte. */
struct recording {
    uint8_t bytes[65536];
    size_t count;
    uint64_t sequence;
};

static void record_frame(struct recording *recording, uint8_t type, uint64_t request,
                         const void *payload, size_t count)
{
    const struct lend_frame frame = {.type = type,
                                     .payload_bytes = (uint32_t)count,
                                     .sequence = recording->sequence++,
                                     .request = request};

    assert_true(recording->count + LEND_FRAME_HEADER_BYTES + count <= sizeof recording->bytes);
    lend_frame_encode(&frame, type == LEND_FRAME_DATA ? NULL : payload,
                      recording->bytes + recording->count);
    recording->count += LEND_FRAME_HEADER_BYTES;
    memcpy(recording->bytes + recording->count, payload, count);
    recording->count += count;
}

static void record_greeting(struct recording *recording, const struct stage *stage)
{
    struct lend_hello hello = {.version_min = 1, .version_max = 1, .name = "hostile"};
    uint8_t bytes[256];

    memset(recording, 0, offsetof(struct recording, count));
    recording->sequence = 0;
    memcpy(hello.wanted, stage->incarnation, sizeof hello.wanted);
    lend_tcp_preamble_encode(recording->bytes);
    recording->count = LEND_TCP_PREAMBLE_BYTES;
    record_frame(recording, LEND_FRAME_HELLO, 0, bytes,
                 lend_hello_encode(&hello, bytes, sizeof bytes));
}

/* A greeting, and a write of two blocks to where the hostile peer may. */
static void record_write(struct recording *recording, const struct stage *stage, uint8_t filling)
{
    const struct asking asking = ask_write(stage, 3, 2);
    static uint8_t data[2 * BLOCK_BYTES];
    uint8_t bytes[256];

    record_greeting(recording, stage);
    record_frame(recording, LEND_FRAME_REQUEST, 1, bytes,
                 lend_request_encode(&asking.request, asking.region_ids, bytes, sizeof bytes));
    lend_runs_encode(asking.runs, 1, bytes);
    record_frame(recording, LEND_FRAME_RUNS, 1, bytes, LEND_RUN_BYTES);
    memset(data, filling, sizeof data);
    record_frame(recording, LEND_FRAME_DATA, 1, data, sizeof data);
}

/* Where that write lands. */
static uint8_t *target(const struct stage *stage)
{
    return stage->kv_memory + (size_t)(QUARTER + 3) * BLOCK_BYTES;
}

/* Read until the other end has hung up. */
static void await_cut(struct wire *wire)
{
    uint64_t until = wall_ns() + PATIENCE;

    while (wire_take_now(wire) || !wire->is_over) {
        assert_true(wall_ns() < until);
        stream_wait(wire, POLLIN);
    }
}

static void test_bytes_by_chance_reach_nothing(void **state)
{
    static struct recording recording;
    static struct wire wire;
    struct stage *stage = *state;
    struct chance chance = chance_begin("bytes by chance");

    for (uint64_t round = 0, rounds = scaled(400); round < rounds; round++) {
        uint8_t bytes[2048];
        size_t right = 0, count = 1 + chance_below(&chance, sizeof bytes);

        /* All of it wrong, or behind a right preamble, a right greeting, or a part of a write. */
        record_write(&recording, stage, 0xcc);
        if (round % 4 == 1)
            right = LEND_TCP_PREAMBLE_BYTES;
        else if (round % 4 > 1)
            right = chance_below(&chance, recording.count);
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)chance_next(&chance);
        wire_dial(&wire, stage);
        (void)stream_send(&wire, recording.bytes, right);
        (void)stream_send(&wire, bytes, count);
        wire_close(&wire);
        if (round % 50 == 49)
            (void)honest_round(stage);
    }
}

static void test_messages_cut_anywhere_reach_nothing(void **state)
{
    static struct recording recording;
    static struct wire wire;
    struct stage *stage = *state;

    if (UNDER_TSAN) {
        print_message("skipped: it looks at memory while bytes land there, which is a race\n");
        skip();
    }
    memset(target(stage), 0x11, (size_t)2 * BLOCK_BYTES);
    record_write(&recording, stage, 0xcc);
    size_t before = recording.count - (size_t)2 * BLOCK_BYTES; /* all but the data itself */
    for (size_t at = 0; at < before; at++) {
        wire_dial(&wire, stage);
        assert_true(stream_send(&wire, recording.bytes, at));
        wire_close(&wire);
        assert_int_equal(target(stage)[0], 0x11);
    }
    /* What comes of the data lands, and no byte beyond. */
    for (size_t at = before + 1; at < recording.count; at += 811) {
        uint64_t until = wall_ns() + PATIENCE;
        size_t landed = at - before;

        memset(target(stage), 0x11, (size_t)2 * BLOCK_BYTES);
        wire_dial(&wire, stage);
        (void)stream_send(&wire, recording.bytes, at);
        while (((volatile uint8_t *)target(stage))[landed - 1] != 0xcc) {
            assert_true(wall_ns() < until);
            while (wire_take_now(&wire)) {
            }
            if (!wire.is_over)
                continue;
            wire_close(&wire); /* one too many: those before are not all buried yet */
            wire_dial(&wire, stage);
            (void)stream_send(&wire, recording.bytes, at);
        }
        assert_int_equal(target(stage)[landed], 0x11);
        wire_close(&wire);
    }
}

static void test_greetings_that_drip_are_cut_and_hold_nobody(void **state)
{
    enum { LORISES = 100 };
    static struct recording recording;
    static struct wire wires[LORISES];
    struct stage *stage = *state;
    uint64_t until = wall_ns() + 2 * GREETING;
    size_t sent = 0;

    record_greeting(&recording, stage);
    for (int i = 0; i < LORISES; i++)
        wire_dial(&wires[i], stage);
    /* A byte each, and then an honest peer's turn; but never the last byte. */
    while (wall_ns() < until) {
        for (int i = 0; i < LORISES && sent + 1 < recording.count; i++)
            (void)stream_send(&wires[i], recording.bytes + sent, 1);
        sent++;
        (void)honest_round(stage);
    }
    for (int i = 0; i < LORISES; i++) {
        await_cut(&wires[i]);
        wire_close(&wires[i]);
    }
}

static void test_flood_of_connections_is_bounded(void **state)
{
    enum { FLOOD = 400, SLACK = 4 };
    static struct wire wires[FLOOD];
    struct stage *stage = *state;

    for (int i = 0; i < FLOOD; i++) {
        wire_dial(&wires[i], stage);
        if (i % 40 == 39)
            (void)honest_round(stage);
        /* Of each connection one descriptor is ours; what is left is the owner's. */
        assert_true(count_descriptors() - stage->descriptors - (i + 1) <=
                    LEND_TCP_HALF_OPEN_MAX + SLACK);
    }
    assert_true(count_heap() <= stage->heap_bytes + (4 << 20));
    for (int i = 0; i < FLOOD - LEND_TCP_HALF_OPEN_MAX; i++)
        await_cut(&wires[i]);
    for (int i = 0; i < FLOOD; i++)
        wire_close(&wires[i]);
}

static void test_greeted_connections_are_no_more_than_peers_max(void **state)
{
    enum { MANY = 60 };
    static struct recording recording;
    static struct wire wires[MANY];
    struct stage *stage = *state;
    int welcome = 0;

    record_greeting(&recording, stage);
    for (int i = 0; i < MANY; i++) {
        wire_dial(&wires[i], stage);
        assert_true(stream_send(&wires[i], recording.bytes, recording.count));
    }
    for (int i = 0; i < MANY; i++) {
        if (wire_take(&wires[i])) {
            assert_int_equal(wires[i].frame.type, LEND_FRAME_WELCOME);
            welcome++;
        }
    }
    assert_in_range(welcome, 1, 15); /* 16, less the honest peer */
    (void)honest_round(stage);
    for (int i = 0; i < MANY; i++)
        wire_close(&wires[i]);
}

static void test_recorded_bytes_are_worth_nothing_once_the_lease_is_over(void **state)
{
    static struct recording recording;
    static struct wire wire;
    struct stage *stage = *state;

    record_write(&recording, stage, 0xcc);
    wire_dial(&wire, stage);
    assert_true(stream_send(&wire, recording.bytes, recording.count));
    assert_int_equal(await_done(&wire, 1, NULL), LEND_OK);
    assert_int_equal(target(stage)[0], 0xcc);

    /* Again on the same connection, without its beginning: numbers that were. */
    memset(target(stage), 0x22, (size_t)2 * BLOCK_BYTES);
    struct recording greeting;
    record_greeting(&greeting, stage);
    assert_true(
        stream_send(&wire, recording.bytes + greeting.count, recording.count - greeting.count));
    expect_cut(&wire, LEND_E_PEER_DEAD);
    wire_close(&wire);
    assert_int_equal(target(stage)[0], 0x22);

    /* And on another, after the lease. */
    assert_int_equal(lend_lease_revoke(stage->leases[1], NULL), LEND_OK);
    wire_dial(&wire, stage);
    assert_true(stream_send(&wire, recording.bytes, recording.count));
    assert_int_equal(await_done(&wire, 1, NULL), LEND_E_REVOKED);
    wire_close(&wire);
    for (size_t i = 0; i < (size_t)2 * BLOCK_BYTES; i++)
        assert_int_equal(target(stage)[i], 0x22);
}

static void test_flood_of_requests_is_bounded(void **state)
{
    static struct wire wire;
    struct stage *stage = *state;
    const struct asking asking = ask_read(stage, 0, QUARTER);

    /* It asks and asks, and reads nothing: it is cut off when it asks for more than it may. */
    wire_meet(&wire, stage);
    for (int i = 0; i < 50 * REQUESTS_MAX; i++)
        (void)wire_ask(&wire, &asking);
    (void)honest_round(stage);
    assert_true(count_heap() <= stage->heap_bytes + (4 << 20));
    await_cut(&wire);
    wire_close(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_bytes_by_chance_reach_nothing),
        STAGED(test_messages_cut_anywhere_reach_nothing),
        STAGED(test_greetings_that_drip_are_cut_and_hold_nobody),
        STAGED(test_flood_of_connections_is_bounded),
        STAGED(test_greeted_connections_are_no_more_than_peers_max),
        STAGED(test_recorded_bytes_are_worth_nothing_once_the_lease_is_over),
        STAGED(test_flood_of_requests_is_bounded),
    };

    over_tcp = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
