/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the ends of a rail say to each other comes out as it went in, and anything else is
 * refused whole.
 * Method: encode, decode; cut at each length, lengthen, and change fields, in exact-size copies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transport/verbs/message.h"

enum { MARK_AT = 6, MTU_AT = 33, READS_AT = 34, LANES_AT = 35, NUMBER_AT = 36 };

static struct lend_verbs_offer offer_of(void)
{
    return (struct lend_verbs_offer){
        .round = 7,
        .gid = {0xfe, 0x80, [15] = 1},
        .lid = 0x1234,
        .link_layer = 2,
        .mtu = 5,
        .reads = 16,
        .lane_count = 2,
        .lanes = {{0x11, 0xabcdef}, {0xffffff, 0}},
        .rate_mbps = 400000,
        .words_address = UINT64_C(0x7f0000001000),
        .words_bytes = 4096,
        .words_rkey = 0xdeadbeef,
        .note_count = 32,
    };
}

static enum lend_status decode(const uint8_t *bytes, size_t count, bool is_answer,
                               struct lend_verbs_offer *out)
{
    uint8_t *exact = malloc(count > 0 ? count : 1);

    assert_non_null(exact);
    memcpy(exact, bytes, count);
    enum lend_status status = lend_verbs_offer_decode(exact, count, is_answer, out, NULL);
    free(exact);
    return status;
}

static void test_offers_come_out_as_they_went_in_and_whole_alone(void **state)
{
    (void)state;
    for (int is_answer = 0; is_answer < 2; is_answer++) {
        struct lend_verbs_offer offer = offer_of(), out = {0};
        uint8_t bytes[256];
        size_t count = lend_verbs_offer_encode(&offer, is_answer != 0, bytes, sizeof bytes);

        assert_in_range(count, NUMBER_AT, sizeof bytes - 1);
        assert_int_equal(decode(bytes, count, is_answer != 0, &out), LEND_OK);
        if (is_answer == 0) {
            offer.words_address = offer.words_bytes = 0;
            offer.words_rkey = 0;
            offer.note_count = 0;
        }
        assert_memory_equal(&out, &offer, sizeof offer);
        for (size_t cut = 0; cut < count; cut++)
            assert_int_equal(decode(bytes, cut, is_answer != 0, &out), LEND_E_CORRUPT);
        assert_int_equal(decode(bytes, count + 1, is_answer != 0, &out), LEND_E_CORRUPT);
    }
}

static void test_offers_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        enum lend_status status;
    } changes[] = {
        {1, 9, LEND_E_UNSUPPORTED},     {MARK_AT, 1, LEND_E_UNSUPPORTED},
        {MTU_AT, 0, LEND_E_CORRUPT},    {MTU_AT, 6, LEND_E_CORRUPT},
        {READS_AT, 0, LEND_E_CORRUPT},  {LANES_AT, 0, LEND_E_CORRUPT},
        {LANES_AT, 17, LEND_E_CORRUPT}, {NUMBER_AT + 3, 1, LEND_E_CORRUPT},
    };
    struct lend_verbs_offer offer = offer_of(), out;
    uint8_t bytes[256];

    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        size_t count = lend_verbs_offer_encode(&offer, true, bytes, sizeof bytes);

        bytes[changes[i].at] = changes[i].value;
        assert_int_equal(decode(bytes, count, true, &out), changes[i].status);
    }
    offer.words_address = 4;
    size_t count = lend_verbs_offer_encode(&offer, true, bytes, sizeof bytes);
    assert_int_equal(decode(bytes, count, true, &out), LEND_E_CORRUPT);
    offer.words_address = UINT64_MAX - 7;
    offer.words_bytes = 16;
    count = lend_verbs_offer_encode(&offer, true, bytes, sizeof bytes);
    assert_int_equal(decode(bytes, count, true, &out), LEND_E_CORRUPT);
}

static void test_refusals_are_printable_and_bounded(void **state)
{
    (void)state;
    char long_reason[2 * LEND_VERBS_REASON_MAX], reason[LEND_VERBS_REASON_MAX + 1];
    uint8_t bytes[2 * LEND_VERBS_REASON_MAX];
    uint32_t round = 0;

    size_t count = lend_verbs_refusal_encode(3, "no\tmore", bytes, sizeof bytes);
    assert_int_equal(lend_verbs_refusal_decode(bytes, count, &round, reason, NULL), LEND_OK);
    assert_int_equal(round, 3);
    assert_string_equal(reason, "no?more");
    for (size_t cut = 0; cut < 5; cut++)
        assert_int_equal(lend_verbs_refusal_decode(bytes, cut, &round, reason, NULL),
                         LEND_E_CORRUPT);
    memset(long_reason, 'x', sizeof long_reason - 1);
    long_reason[sizeof long_reason - 1] = '\0';
    count = lend_verbs_refusal_encode(3, long_reason, bytes, sizeof bytes);
    assert_int_equal(lend_verbs_refusal_decode(bytes, count, &round, reason, NULL), LEND_OK);
    assert_int_equal(strlen(reason), LEND_VERBS_REASON_MAX);
    assert_int_equal(lend_verbs_refusal_decode(bytes, count + 1, &round, reason, NULL),
                     LEND_E_CORRUPT);
}

static void test_keys_make_a_whole_or_are_refused(void **state)
{
    (void)state;
    struct lend_verbs_told told = {.region_id = 5,
                                   .life = 2,
                                   .piece_count = 2,
                                   .distance = 200,
                                   .pieces = {{4096, 100, 1}, {4196, 50, 2}}},
                           out;
    uint8_t bytes[512] = {LEND_VERBS_KEYS};
    size_t count = 1 + lend_verbs_told_bytes(&told), at = 1;

    lend_verbs_told_encode(&told, bytes + 1, sizeof bytes - 1);
    assert_int_equal(lend_verbs_told_decode(bytes, count, &at, &out, NULL), LEND_OK);
    assert_int_equal(at, count);
    assert_memory_equal(&out, &told, sizeof told);
    for (size_t cut = 1; cut < count; cut++) {
        at = 1;
        assert_int_equal(lend_verbs_told_decode(bytes, cut, &at, &out, NULL), LEND_E_CORRUPT);
    }
    struct lend_verbs_told wrong[4] = {told, told, told, told};
    wrong[0].pieces[1].address++;
    wrong[1].pieces[0].bytes = 0;
    wrong[2].pieces[1].bytes = UINT64_MAX;
    wrong[3].piece_count = 0;
    for (int i = 0; i < 4; i++) {
        lend_verbs_told_encode(&wrong[i], bytes + 1, sizeof bytes - 1);
        at = 1;
        assert_int_equal(lend_verbs_told_decode(bytes, count, &at, &out, NULL), LEND_E_CORRUPT);
    }
}

static void test_grants_come_out_as_they_went_in_and_whole_alone(void **state)
{
    (void)state;
    static struct lend_verbs_granted granted, out, wrong;
    static uint8_t bytes[64 + LEND_VERBS_GRANT_PIECES_MAX * 20];
    size_t count = 0;

    granted.slot = 9;
    granted.generation = UINT64_C(0x123456789abc);
    granted.total = LEND_VERBS_GRANTED_MAX;
    for (int i = 0; i < LEND_VERBS_LEGS_MAX; i++)
        granted.distances[i] = (uint8_t)(200 + i);
    for (uint32_t pieces = 0; pieces <= LEND_VERBS_GRANT_PIECES_MAX; pieces += 128) {
        granted.piece_count = pieces;
        granted.first = granted.total - pieces;
        for (uint32_t i = 0; i < pieces; i++)
            granted.pieces[i] =
                (struct lend_verbs_piece){.address = i * 4096, .bytes = 100, .rkey = i};
        count = lend_verbs_granted_encode(&granted, bytes, sizeof bytes);
        assert_int_equal(lend_verbs_message_kind(bytes, count), LEND_VERBS_GRANT);
        assert_int_equal(lend_verbs_granted_decode(bytes, count, &out, NULL), LEND_OK);
        assert_memory_equal(&out, &granted, sizeof out);
        for (size_t cut = 0; cut < count; cut += 1 + cut / 8)
            assert_int_equal(lend_verbs_granted_decode(bytes, cut, &out, NULL), LEND_E_CORRUPT);
        assert_int_equal(lend_verbs_granted_decode(bytes, count + 1, &out, NULL), LEND_E_CORRUPT);
    }
    for (int i = 0; i < 5; i++) {
        wrong = granted;
        wrong.pieces[7].bytes = i == 0 ? 0 : i == 1 ? UINT64_MAX - 100 : 100;
        wrong.total += i == 2; /* more than there can be, */
        wrong.first += i == 3; /* than there are, */
        if (i == 4)
            wrong.total = wrong.first = 0; /* or than none */
        count = lend_verbs_granted_encode(&wrong, bytes, sizeof bytes);
        assert_int_equal(lend_verbs_granted_decode(bytes, count, &out, NULL), LEND_E_CORRUPT);
    }
}

static void test_a_grant_of_nothing_says_why(void **state)
{
    (void)state;
    struct lend_verbs_granted granted = {.slot = 9, .generation = 10}, out;
    static uint8_t bytes[64 + LEND_VERBS_REASON_MAX];

    for (size_t length = 0; length <= LEND_VERBS_REASON_MAX; length += 50) {
        memset(granted.why, 'x', length);
        size_t count = lend_verbs_granted_encode(&granted, bytes, sizeof bytes);
        assert_int_equal(lend_verbs_granted_decode(bytes, count, &out, NULL), LEND_OK);
        assert_memory_equal(&out, &granted, sizeof out);
        if (length > 0)
            bytes[count - 1] = '\n';
        assert_int_equal(lend_verbs_granted_decode(bytes, count, &out, NULL), LEND_OK);
        assert_null(strchr(out.why, '\n'));
        memset(bytes + count, 'x', sizeof bytes - count);
        assert_int_equal(lend_verbs_granted_decode(bytes, sizeof bytes, &out, NULL),
                         LEND_E_CORRUPT);
    }
}

static void test_halts_come_out_as_they_went_in_and_whole_alone(void **state)
{
    (void)state;
    uint8_t bytes[16];
    uint32_t round = 0;
    size_t count = lend_verbs_halt_encode(77, bytes, sizeof bytes);

    assert_int_equal(lend_verbs_message_kind(bytes, count), LEND_VERBS_HALT);
    assert_int_equal(lend_verbs_halt_decode(bytes, count, &round, NULL), LEND_OK);
    assert_int_equal(round, 77);
    for (size_t cut = 0; cut < count; cut++)
        assert_int_equal(lend_verbs_halt_decode(bytes, cut, &round, NULL), LEND_E_CORRUPT);
    assert_int_equal(lend_verbs_halt_decode(bytes, count + 1, &round, NULL), LEND_E_CORRUPT);
}

static void test_wishes_come_out_as_they_went_in_and_whole_alone(void **state)
{
    (void)state;
    uint8_t bytes[16];
    uint64_t generation = 0;
    uint32_t slot = 0;
    size_t count = lend_verbs_wish_encode(9, UINT64_C(0x123456789abc), bytes, sizeof bytes);

    lend_verbs_message_set_leg(bytes, 3);
    assert_int_equal(lend_verbs_message_kind(bytes, count), LEND_VERBS_WISH);
    for (size_t cut = 0; cut < count; cut++)
        assert_int_equal(lend_verbs_wish_decode(bytes, cut, &slot, &generation, NULL),
                         LEND_E_CORRUPT);
    assert_int_equal(lend_verbs_wish_decode(bytes, count + 1, &slot, &generation, NULL),
                     LEND_E_CORRUPT);
    assert_int_equal(lend_verbs_wish_decode(bytes, count, &slot, &generation, NULL), LEND_OK);
    assert_true(slot == 9 && generation == UINT64_C(0x123456789abc));
}

static void test_notifications_come_out_as_they_went_in_and_bounded(void **state)
{
    (void)state;
    uint8_t text[LEND_VERBS_NOTE_BYTES] = {7, 8, 9}, bytes[LEND_VERBS_NOTE_BYTES + 1] = {0};
    const uint8_t *said = NULL;
    uint64_t number = 0;
    size_t length = 0;

    for (size_t i = 0; i <= LEND_VERBS_NOTE_BYTES - LEND_VERBS_NOTE_HEAD; i += 128) {
        size_t count = lend_verbs_note_encode(77 + i, text, i, bytes, sizeof bytes);

        assert_int_equal(lend_verbs_message_kind(bytes, count), LEND_VERBS_NOTE);
        assert_int_equal(lend_verbs_note_decode(bytes, count, &number, &said, &length, NULL),
                         LEND_OK);
        assert_true(number == 77 + i && length == i);
        assert_memory_equal(said, text, i);
    }
    for (size_t cut = 0; cut < LEND_VERBS_NOTE_HEAD; cut++)
        assert_int_equal(lend_verbs_note_decode(bytes, cut, &number, &said, &length, NULL),
                         LEND_E_CORRUPT);
    assert_int_equal(lend_verbs_note_decode(bytes, sizeof bytes, &number, &said, &length, NULL),
                     LEND_E_CORRUPT);
    size_t count = lend_verbs_noted_encode(5, bytes, sizeof bytes);
    assert_int_equal(lend_verbs_noted_decode(bytes, count, &number, NULL), LEND_OK);
    assert_int_equal(number, 5);
    assert_int_equal(lend_verbs_noted_decode(bytes, count - 1, &number, NULL), LEND_E_CORRUPT);
    assert_int_equal(lend_verbs_noted_decode(bytes, count + 1, &number, NULL), LEND_E_CORRUPT);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offers_come_out_as_they_went_in_and_whole_alone),
        cmocka_unit_test(test_offers_that_make_no_sense_are_refused),
        cmocka_unit_test(test_refusals_are_printable_and_bounded),
        cmocka_unit_test(test_keys_make_a_whole_or_are_refused),
        cmocka_unit_test(test_grants_come_out_as_they_went_in_and_whole_alone),
        cmocka_unit_test(test_a_grant_of_nothing_says_why),
        cmocka_unit_test(test_wishes_come_out_as_they_went_in_and_whole_alone),
        cmocka_unit_test(test_notifications_come_out_as_they_went_in_and_bounded),
        cmocka_unit_test(test_halts_come_out_as_they_went_in_and_whole_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
