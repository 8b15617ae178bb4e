/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a peer says in lend's messages over UCX costs the owner nothing but that peer's
 * connection: of memory, of descriptors, and of what others are served. What UCX itself takes from
 * its peers is UCX's. Method: messages by hand, sent by an unmodified UCX (parcel.h); the stage of
 * hostile.h is looked at after each.
 */
#include "hostile.h"

enum { UNKNOWN = -1000 }; /* a status that is not looked at */

/* A frame that is right but for what the test does to it: a NOTIFY. */
static struct lend_ucx_message write_notify(struct wire *wire, const void *bytes, size_t count)
{
    const struct forged forged = forge(wire, LEND_FRAME_NOTIFY, 0, bytes, count);
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_FRAME);

    wire_encode(&forged, message.frame);
    wire->sequence++;
    return message;
}

static void check_served(struct wire *wire, const struct stage *stage)
{
    const struct asking asking = ask_read(stage, 0, 2);

    assert_int_equal(await_done(wire, wire_ask(wire, &asking), NULL), LEND_OK);
}

/* --- messages that are none --- */

static void send_raw(struct wire *wire, const void *header, size_t header_count, size_t count)
{
    static uint8_t bytes[200000];
    const struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)header, .iov_len = header_count},
        {.iov_base = bytes, .iov_len = count},
    };

    parcel_send(&wire->ucx, &parts[0], &parts[1], LEND_UCX_SEND_EAGER);
    parcel_send(&wire->ucx, &parts[0], &parts[1], LEND_UCX_SEND_RENDEZVOUS);
    parcel_work(&wire->ucx, false);
}

static void test_messages_that_are_none_are_let_go(void **state)
{
    static const size_t counts[] = {0, 1, 4096, 65536, 200000};
    struct stage *stage = *state;
    static struct wire wire;
    uint8_t header[2 * LEND_UCX_HEADER_BYTES] = {0};

    wire_meet(&wire, stage);
    const struct lend_ucx_message credit = parcel_write(&wire.ucx, LEND_UCX_CREDIT);
    lend_ucx_encode(&credit, header);
    for (size_t count = 0; count < sizeof header; count++)
        if (count != LEND_UCX_HEADER_BYTES)
            send_raw(&wire, header, count, counts[count % 5]);
    for (size_t i = 0; i < 8 * 8; i++) { /* magic, version, kind, and what must be zero */
        header[i / 8] ^= (uint8_t)(1u << i % 8);
        if (header[3] < LEND_UCX_OPEN || header[3] > LEND_UCX_CLOSE || i / 8 != 3)
            send_raw(&wire, header, LEND_UCX_HEADER_BYTES, counts[i % 5]);
        header[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    check_served(&wire, stage);
    wire_close(&wire);
}

static void test_messages_for_channels_that_are_not_there_are_let_go(void **state)
{
    static const uint8_t bytes[100];
    struct stage *stage = *state;
    static struct wire wire, gone;
    uint64_t until = wall_ns() + PATIENCE;

    wire_meet(&wire, stage);
    int descriptors = count_descriptors();
    wire_meet(&gone, stage);
    const uint64_t channels[] = {
        0, 1, UINT64_MAX, wire.ucx.ours.channel, wire.ucx.peers.channel ^ 2, gone.ucx.peers.channel,
    };
    wire_close(&gone);
    while (count_descriptors() > descriptors)
        assert_true(wall_ns() < until);
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        for (int kind = LEND_UCX_ACCEPT; kind <= LEND_UCX_CLOSE; kind++) {
            struct lend_ucx_message message = parcel_write(&wire.ucx, (enum lend_ucx_kind)kind);

            wire.ucx.position -= kind == LEND_UCX_FRAME;
            message.channel = channels[i];
            message.taken = UINT64_MAX;
            parcel_post(&wire.ucx, &message, bytes, sizeof bytes);
            parcel_post(&wire.ucx, &message, NULL, 0);
        }
    }
    wire.ucx.told = wire.ucx.taken;
    wire.ucx.sent = wire.ucx.sent_taken; /* none of it has come to our channel */
    check_served(&wire, stage);
    wire_close(&wire);
}

/* Ask with so many bytes of a greeting and an address, one of them changed. */
static void ask_badly(struct wire *wire, size_t count, size_t at, uint32_t how)
{
    const struct lend_ucx_message open = {.kind = LEND_UCX_OPEN};
    uint8_t bytes[2 * LEND_METADATA_ADDRESS_MAX] = {0}, header[LEND_UCX_HEADER_BYTES];
    const struct iovec parts[2] = {{.iov_base = header, .iov_len = sizeof header},
                                   {.iov_base = bytes, .iov_len = count}};

    lend_ucx_encode(&open, header);
    lend_ucx_encode_greeting(&wire->ucx.ours, bytes);
    memcpy(bytes + LEND_UCX_GREETING_BYTES, wire->ucx.address, wire->ucx.address_bytes);
    if (at < 16)
        memset(bytes + at, 0, 8); /* the connection's number, or the channel's */
    else if (at < count)
        bytes[at] ^= 0x10;
    parcel_send(&wire->ucx, &parts[0], &parts[1], how);
    parcel_work(&wire->ucx, false);
}

static void test_openings_that_make_no_sense_are_let_go(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;

    wire_dial(&wire, stage);
    const size_t whole = LEND_UCX_GREETING_BYTES + wire.ucx.address_bytes;
    for (size_t count = 0; count < whole; count++)
        ask_badly(&wire, count, SIZE_MAX, LEND_UCX_SEND_EAGER);
    for (size_t at = LEND_UCX_GREETING_BYTES; at < whole; at++)
        ask_badly(&wire, whole, at, LEND_UCX_SEND_EAGER);
    ask_badly(&wire, whole, 0, LEND_UCX_SEND_EAGER);
    ask_badly(&wire, whole, 8, LEND_UCX_SEND_EAGER);
    ask_badly(&wire, whole + 1, SIZE_MAX, LEND_UCX_SEND_EAGER);
    ask_badly(&wire, 2 * LEND_METADATA_ADDRESS_MAX, SIZE_MAX, LEND_UCX_SEND_EAGER);
    ask_badly(&wire, whole, SIZE_MAX, LEND_UCX_SEND_RENDEZVOUS);
    assert_int_equal(wire_set_up(&wire), LEND_OK);
    assert_int_equal(wire.ucx.accepted, 1);
    assert_int_equal(wire.ucx.refusals, 0);
    wire_close(&wire);
}

/* --- messages that break the rules --- */

struct bad_message {
    const char *what;
    void (*send)(struct wire *wire);
    int status; /* of the BYE */
};

static void send_accept(struct wire *wire)
{
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_ACCEPT);
    uint8_t bytes[LEND_UCX_GREETING_BYTES];

    lend_ucx_encode_greeting(&wire->ucx.ours, bytes);
    parcel_post(&wire->ucx, &message, bytes, sizeof bytes);
}

static void send_refusal(struct wire *wire)
{
    const struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_REFUSE);

    parcel_post(&wire->ucx, &message, "\1\2\3\4%s%n\x1b[0m", 12);
}

static void send_empty_refusal(struct wire *wire)
{
    const struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_REFUSE);

    parcel_post(&wire->ucx, &message, NULL, 0);
}

static void send_a_frame_again(struct wire *wire)
{
    const struct lend_ucx_message message = write_notify(wire, "hello", 5);

    parcel_post(&wire->ucx, &message, "hello", 5);
    parcel_post(&wire->ucx, &message, "hello", 5);
}

static void send_an_early_frame_again(struct wire *wire)
{
    wire->ucx.position++;
    send_a_frame_again(wire);
}

static void send_a_close_again(struct wire *wire)
{
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_CLOSE);

    message.position += 5;
    parcel_post(&wire->ucx, &message, NULL, 0);
    message.position += 1;
    parcel_post(&wire->ucx, &message, NULL, 0);
}

static void send_less_than_announced(struct wire *wire)
{
    const struct lend_ucx_message message = write_notify(wire, "hello", 5);

    parcel_post(&wire->ucx, &message, "hello", 4);
}

static void send_more_than_announced(struct wire *wire)
{
    const struct lend_ucx_message message = write_notify(wire, "hello", 5);

    parcel_post(&wire->ucx, &message, "hello!", 6);
}

static void send_nothing_of_what_was_announced(struct wire *wire)
{
    const struct lend_ucx_message message = write_notify(wire, "hello", 5);

    parcel_post(&wire->ucx, &message, NULL, 0);
}

static void send_a_frame_that_is_too_large(struct wire *wire)
{
    static const uint8_t bytes[LEND_FRAME_PAYLOAD_MAX + 1];
    const struct lend_ucx_message message = write_notify(wire, bytes, sizeof bytes);

    parcel_post(&wire->ucx, &message, bytes, sizeof bytes);
}

static void send_a_close_with_payload(struct wire *wire)
{
    const struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_CLOSE);

    parcel_post(&wire->ucx, &message, "bye", 3);
}

static void take_more_than_was_sent(struct wire *wire)
{
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_CREDIT);

    message.taken = wire->ucx.taken + 1;
    parcel_post(&wire->ucx, &message, NULL, 0);
}

static void take_all_that_a_number_can_say(struct wire *wire)
{
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_CREDIT);

    message.taken = UINT64_MAX;
    parcel_post(&wire->ucx, &message, NULL, 0);
}

/* What the owner would have to fetch: data of a write, or of `announced` bytes in the header. */
static void send_by_rendezvous(struct wire *wire, uint8_t type, uint32_t announced)
{
    static uint8_t bytes[32768];
    struct forged forged = forge(wire, type, 1, bytes, sizeof bytes);
    struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_FRAME);
    uint8_t header[LEND_UCX_HEADER_BYTES];
    const struct iovec parts[2] = {{.iov_base = header, .iov_len = sizeof header},
                                   {.iov_base = bytes, .iov_len = sizeof bytes}};

    forged.payload_bytes = announced;
    wire_encode(&forged, message.frame);
    lend_ucx_encode(&message, header);
    parcel_send(&wire->ucx, &parts[0], &parts[1], LEND_UCX_SEND_RENDEZVOUS);
    parcel_work(&wire->ucx, false);
}

static void send_data_by_rendezvous(struct wire *wire)
{
    send_by_rendezvous(wire, LEND_FRAME_DATA, 32768);
}

static void send_less_by_rendezvous(struct wire *wire)
{
    send_by_rendezvous(wire, LEND_FRAME_DATA, 65536);
}

static void send_more_by_rendezvous(struct wire *wire)
{
    send_by_rendezvous(wire, LEND_FRAME_DATA, 1);
}

static void notify_by_rendezvous(struct wire *wire)
{
    send_by_rendezvous(wire, LEND_FRAME_NOTIFY, 32768);
}

/* Two frames in one message, the last `missing` bytes of it left out. */
static void send_two_at_once(struct wire *wire, size_t missing, int times)
{
    uint8_t bytes[2 * (LEND_FRAME_HEADER_BYTES + 5)];
    size_t count = 0;
    struct lend_ucx_message message = {.kind = LEND_UCX_FRAME};

    for (int i = 0; i < 2; i++) {
        const struct lend_ucx_message each = write_notify(wire, "hello", 5);

        if (i == 0)
            message = each;
        memcpy(bytes + count, each.frame, sizeof each.frame);
        memcpy(bytes + count + sizeof each.frame, "hello", 5);
        count += sizeof each.frame + 5;
    }
    message.kind = LEND_UCX_FRAMES;
    memset(message.frame, 0, sizeof message.frame);
    for (int i = 0; i < times; i++)
        parcel_post(&wire->ucx, &message, bytes, count - missing);
    wire->ucx.sent += 2 * lend_ucx_cost(5);
}

static void send_two_without_the_last_byte(struct wire *wire)
{
    send_two_at_once(wire, 1, 1);
}

static void send_one_and_a_half_header(struct wire *wire)
{
    send_two_at_once(wire, 5 + LEND_FRAME_HEADER_BYTES / 2, 1);
}

static void send_two_at_once_again(struct wire *wire)
{
    send_two_at_once(wire, 0, 2);
}

static void test_several_frames_in_one_message_are_taken_one_by_one(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;

    wire_meet(&wire, stage);
    send_two_at_once(&wire, 0, 1);
    check_served(&wire, stage);
    wire_close(&wire);
}

static void test_bad_messages_cut_the_connection(void **state)
{
    static const struct bad_message bad[] = {
        {"an ACCEPT", send_accept, LEND_E_CORRUPT},
        {"a REFUSE", send_refusal, UNKNOWN},
        {"an empty REFUSE", send_empty_refusal, UNKNOWN},
        {"a frame twice", send_a_frame_again, LEND_E_CORRUPT},
        {"an early frame twice", send_an_early_frame_again, LEND_E_CORRUPT},
        {"two ends", send_a_close_again, LEND_E_CORRUPT},
        {"less than announced", send_less_than_announced, LEND_E_CORRUPT},
        {"more than announced", send_more_than_announced, LEND_E_CORRUPT},
        {"nothing", send_nothing_of_what_was_announced, LEND_E_CORRUPT},
        {"too large", send_a_frame_that_is_too_large, LEND_E_CORRUPT},
        {"an end with payload", send_a_close_with_payload, LEND_E_CORRUPT},
        {"taken more than sent", take_more_than_was_sent, LEND_E_CORRUPT},
        {"taken 2^64 - 1", take_all_that_a_number_can_say, LEND_E_CORRUPT},
        {"two, less a byte", send_two_without_the_last_byte, LEND_E_CORRUPT},
        {"one, and half a header", send_one_and_a_half_header, LEND_E_CORRUPT},
        {"two at once, again", send_two_at_once_again, LEND_E_CORRUPT},
        {"data by rendezvous", send_data_by_rendezvous, LEND_E_CORRUPT},
        {"less by rendezvous", send_less_by_rendezvous, LEND_E_CORRUPT},
        {"more by rendezvous", send_more_by_rendezvous, LEND_E_CORRUPT},
        {"a notification by rendezvous", notify_by_rendezvous, LEND_E_CORRUPT},
    };
    struct stage *stage = *state;
    static struct wire wire;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        print_message("%s\n", bad[i].what);
        wire_meet(&wire, stage);
        bad[i].send(&wire);
        if (bad[i].status != UNKNOWN)
            expect_cut(&wire, (enum lend_status)bad[i].status);
        else
            while (wire_take(&wire))
                ;
        wire_close(&wire);
    }
}

/* --- order --- */

static void test_frames_are_taken_in_their_order_however_they_come(void **state)
{
    struct stage *stage = *state;
    struct asking asking = ask_read(stage, 0, 2);
    static struct wire wire;
    uint8_t request[256], runs[8] = {0};

    runs[4] = 2;
    wire_meet(&wire, stage);
    size_t count = lend_request_encode(&asking.request, asking.region_ids, request, sizeof request);
    struct forged forged = forge(&wire, LEND_FRAME_REQUEST, 1, request, count);
    struct lend_ucx_message first = parcel_write(&wire.ucx, LEND_UCX_FRAME);
    wire_encode(&forged, first.frame);
    wire.sequence++;
    forged = forge(&wire, LEND_FRAME_RUNS, 1, runs, sizeof runs);
    struct lend_ucx_message second = parcel_write(&wire.ucx, LEND_UCX_FRAME);
    wire_encode(&forged, second.frame);
    wire.sequence++;
    wire.request = 1;

    parcel_post(&wire.ucx, &second, runs, sizeof runs);
    parcel_post(&wire.ucx, &first, request, count);
    assert_int_equal(await_done(&wire, 1, NULL), LEND_OK);
    wire_close(&wire);
}

/* Send messages that cannot be taken yet until we are cut off; how many that took. */
static uint32_t send_until_cut(struct wire *wire, enum lend_ucx_kind kind, bool is_backwards,
                               size_t count)
{
    static const uint8_t bytes[1000];
    uint64_t until = wall_ns() + PATIENCE;
    uint32_t sent = 0;

    while (!parcel_is_over(&wire->ucx)) {
        struct lend_ucx_message message = kind == LEND_UCX_FRAME ? write_notify(wire, bytes, count)
                                                                 : parcel_write(&wire->ucx, kind);

        message.position = is_backwards ? UINT64_MAX - sent : 1000 + UINT64_C(1000003) * sent;
        parcel_post(&wire->ucx, &message, bytes, count);
        sent++;
        assert_true(wall_ns() < until);
        while (wire_take_now(wire))
            ;
    }
    return sent;
}

static void test_frames_ahead_of_their_turn_are_held_within_the_window(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;

    for (int i = 0; i < 4; i++) {
        wire_meet(&wire, stage);
        size_t heap = count_heap();
        uint32_t sent = send_until_cut(&wire, LEND_UCX_FRAME, i % 2 == 1, i < 2 ? 0 : 1000);
        print_message("%u frames\n", sent);
        assert_true(sent > RING_BYTES / lend_ucx_cost(i < 2 ? 0 : 1000) - 8);
        assert_true(count_heap() < heap + UCX_POOL_BYTES + (4 << 20));
        wire_close(&wire);
    }
}

static void test_ends_ahead_of_their_turn_are_not_hoarded(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;

    for (int i = 0; i < 2; i++) {
        wire_meet(&wire, stage);
        print_message("%u ends\n", send_until_cut(&wire, LEND_UCX_CLOSE, i == 1, 0));
        wire_close(&wire);
    }
}

/* --- many, and others --- */

static void test_messages_of_another_connection_are_let_go_or_cut_it(void **state)
{
    enum { FRAMES = 4 };
    struct stage *stage = *state;
    static struct wire first, second;
    struct lend_ucx_message recorded[FRAMES];

    /* What somebody else has said, again, while it is there and when it is gone. */
    wire_meet(&first, stage);
    for (int i = 0; i < FRAMES; i++) {
        recorded[i] = write_notify(&first, "hello", 5);
        parcel_post(&first.ucx, &recorded[i], "hello", 5);
    }
    check_served(&first, stage);
    wire_meet(&second, stage);
    wire_close(&first);
    for (int i = 0; i < FRAMES; i++)
        parcel_post(&second.ucx, &recorded[i], "hello", 5);
    second.ucx.sent = second.ucx.sent_taken;
    check_served(&second, stage);

    /* And as if it were the second's own. */
    for (int i = 0; i < FRAMES; i++) {
        recorded[i].channel = second.ucx.peers.channel;
        recorded[i].position = second.ucx.position++;
        parcel_post(&second.ucx, &recorded[i], "hello", 5);
    }
    expect_cut(&second, LEND_E_PEER_DEAD); /* the frames' own numbers tell */
    wire_close(&second);
}

/* Somebody speaks to the owner from one place, and has it answer to another one, where nobody takes
 * anything: with as much credit as a number can say. */
static void test_answers_that_nobody_takes_are_bounded(void **state)
{
    struct stage *stage = *state;
    static struct wire mouth, ear;
    struct asking asking = ask_read(stage, 0, 1);
    size_t heap = count_heap();

    asking.request.lease = stage->gapped; /* in pieces, so that the owner copies them */
    asking.request.total_bytes = (GAP_BLOCKS - 4) * GAP_BLOCK_BYTES;
    asking.region_ids[0] = stage->gaps_id;
    asking.runs[0].count = GAP_BLOCKS - 4;
    wire_dial(&ear, stage);
    wire_dial(&mouth, stage);
    ear.ucx.ours.window_bytes = UINT64_MAX / 2;
    mouth.ucx.ours = ear.ucx.ours;
    parcel_ask(&mouth.ucx, ear.ucx.address, ear.ucx.address_bytes);
    while (ear.ucx.accepted == 0) {
        parcel_work(&mouth.ucx, false);
        parcel_work(&ear.ucx, true);
    }
    ear.ucx.is_deaf = true;
    mouth.ucx.peers = ear.ucx.peers;
    mouth.ucx.peers.window_bytes = UINT64_MAX / 2;
    wire_say_hello(&mouth, stage);
    for (uint64_t i = 0; i < scaled(4000); i++) {
        (void)wire_ask(&mouth, &asking);
        parcel_work(&mouth.ucx, false);
        if (i % 2 == 1)
            (void)honest_round(stage);
    }
    print_message("%zu KiB more\n", (count_heap() - heap) / 1024);
    assert_true(count_heap() < heap + UCX_POOL_BYTES / 2);
    wire_close(&mouth);
    wire_close(&ear);
}

static void post_by_chance(struct wire *wire, struct chance *chance)
{
    static uint8_t bytes[70000];
    struct lend_ucx_message message =
        write_notify(wire, bytes, chance_below(chance, 8) == 0 ? 60000 : chance_below(chance, 300));
    size_t count = message.frame[4] | (size_t)message.frame[5] << 8;
    uint64_t wild = chance_next(chance) >> chance_below(chance, 64);

    switch (chance_below(chance, 24)) {
    case 0: message.kind = (enum lend_ucx_kind)(1 + chance_below(chance, LEND_UCX_FRAMES)); break;
    case 1: message.channel ^= wild; break;
    case 2: message.position += chance_below(chance, 4); break;
    case 3: message.position = wild; break;
    case 4: message.taken = wild; break;
    case 5: message.frame[chance_below(chance, sizeof message.frame)] ^= (uint8_t)wild; break;
    case 6: count = chance_below(chance, sizeof bytes); break;
    case 7: message.position -= chance_below(chance, 3); break;
    default: break; /* a right one */
    }
    parcel_post(&wire->ucx, &message, bytes, count);
}

static void test_messages_by_chance_reach_nothing(void **state)
{
    struct stage *stage = *state;
    struct chance chance = chance_begin("messages by chance");
    static struct wire wire;
    static uint8_t taken[LEND_NOTIFICATION_BYTES_MAX];
    const uint64_t rounds = scaled(5000);
    uint64_t cuts = 0;
    size_t count;

    wire_meet(&wire, stage);
    /* The owner hears of them when it comes to it: of a few rounds perhaps after the last. */
    for (uint64_t round = 0; round < rounds || (cuts == 0 && round < 100 * rounds); round++) {
        post_by_chance(&wire, &chance);
        while (wire_take_now(&wire))
            ;
        while (lend_notification_receive(stage->owner, taken, sizeof taken, &count, NULL, 0,
                                         NULL) == LEND_OK)
            ;
        if (wire.is_over || chance_below(&chance, 256) == 0) {
            cuts++;
            wire_close(&wire);
            wire_meet(&wire, stage);
        }
        if (round % 512 == 511)
            (void)honest_round(stage);
    }
    wire_close(&wire);
    assert_true(cuts > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_messages_that_are_none_are_let_go),
        STAGED(test_messages_for_channels_that_are_not_there_are_let_go),
        STAGED(test_openings_that_make_no_sense_are_let_go),
        STAGED(test_bad_messages_cut_the_connection),
        STAGED(test_several_frames_in_one_message_are_taken_one_by_one),
        STAGED(test_frames_are_taken_in_their_order_however_they_come),
        STAGED(test_frames_ahead_of_their_turn_are_held_within_the_window),
        STAGED(test_ends_ahead_of_their_turn_are_not_hoarded),
        STAGED(test_messages_of_another_connection_are_let_go_or_cut_it),
        STAGED(test_answers_that_nobody_takes_are_bounded),
        STAGED(test_messages_by_chance_reach_nothing),
    };
    int failed = 0;

    if (!parcel_can())
        return 77;
    RUN_OVER("ucx", tests, failed);
    return failed;
}
