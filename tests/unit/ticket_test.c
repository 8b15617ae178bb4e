/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: a ticket says what it was made from, in few bytes, and nothing that was cut, lengthened or
 * damaged is accepted. Method: the bytes of a ticket are changed (and sealed again, where the field
 * behind the checksum is meant) and decoded from copies of exactly their size.
 */

#include "wire_samples.h"

#include <lend/lease.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VERSION_AT = 4, ACCESS_AT = 50, NAME_AT = 62 };

static void assert_refused(const uint8_t *bytes, size_t count, enum lend_status expected,
                           const char *reason)
{
    uint8_t *copy = copy_sealed(bytes, count);
    struct lend_ticket_bytes ticket;
    struct lend_error error;

    memset(&ticket, PAINT, sizeof ticket);
    assert_int_equal(lend_ticket_decode(copy, count, &ticket, &error), expected);
    assert_true(is_painted(&ticket, sizeof ticket));
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error.message);
    free(copy);
}

static void test_ticket_comes_back_as_it_was(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket(), again;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);
    uint8_t *copy = copy_bytes(bytes, count);

    assert_int_equal(lend_ticket_decode(copy, count, &again, NULL), LEND_OK);
    assert_true(tickets_are_equal(&ticket, &again));
    free(copy);
}

static void test_longest_ticket_fits_what_callers_keep_for_it(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket(), again;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];

    memset(ticket.agent, 'a', LEND_AGENT_NAME_BYTES_MAX);
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);
    assert_true(count <= sizeof bytes);
    assert_int_equal(lend_ticket_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(tickets_are_equal(&ticket, &again));
}

static void test_encoding_measures_what_does_not_fit(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket();
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    for (size_t capacity = 0; capacity < count; capacity++) {
        uint8_t *small = malloc(capacity);

        assert_int_equal(lend_ticket_encode(&ticket, small, capacity), count);
        free(small);
    }
}

static void test_every_cut_and_every_flipped_bit_is_seen(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket(), out;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    memset(&out, PAINT, sizeof out);
    for (size_t length = 0; length < count; length++) {
        uint8_t *copy = copy_bytes(bytes, length);

        assert_int_equal(lend_ticket_decode(copy, length, &out, NULL), LEND_E_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < 8 * count; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(lend_ticket_decode(bytes, count, &out, NULL), LEND_E_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_true(is_painted(&out, sizeof out));
}

static void test_another_version_is_named_beside_ours(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket();
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    bytes[VERSION_AT + 1] = 2;
    assert_refused(bytes, count, LEND_E_VERSION, "version 513, and this library reads version 1");
}

static void test_other_bytes_are_not_a_ticket(void **state)
{
    (void)state;
    assert_refused((const uint8_t *)"LNDM, metadata in place of it", 29, LEND_E_CORRUPT,
                   "29 bytes are not a ticket");
}

static void test_bytes_too_few_or_too_many_are_refused_even_if_sealed(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket();
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    memset(bytes + count, 0, 4);
    assert_refused(bytes, count + 3, LEND_E_CORRUPT, "3 too many");
    assert_refused(bytes, count - 1, LEND_E_CORRUPT, "name is cut");
    assert_refused(bytes, ACCESS_AT, LEND_E_CORRUPT, "name is cut");
}

static void test_access_is_reading_or_writing_or_both(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket();
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    bytes[ACCESS_AT] = 0;
    assert_refused(bytes, count, LEND_E_CORRUPT, "access 0x0");
    bytes[ACCESS_AT] = 5;
    assert_refused(bytes, count, LEND_E_CORRUPT, "access 0x5");
    bytes[ACCESS_AT] = 1;
    bytes[ACCESS_AT + 3] = 1;
    assert_refused(bytes, count, LEND_E_CORRUPT, "access 0x1000001");
}

static void test_name_is_printable_and_neither_empty_nor_too_long(void **state)
{
    (void)state;
    struct lend_ticket_bytes ticket = sample_ticket(), again;
    uint8_t bytes[LEND_TICKET_BYTES_MAX] = {0};
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);

    bytes[NAME_AT + 1] = '\n';
    assert_refused(bytes, count, LEND_E_CORRUPT, "control character");
    bytes[NAME_AT + 1] = 0x7f;
    assert_refused(bytes, count, LEND_E_CORRUPT, "control character");
    bytes[NAME_AT + 1] = 0;
    assert_refused(bytes, count, LEND_E_CORRUPT, "control character");
    bytes[NAME_AT] = 0;
    assert_refused(bytes, NAME_AT + 5, LEND_E_CORRUPT, "empty");
    memset(bytes + NAME_AT, 64, 65);
    assert_refused(bytes, NAME_AT + 1 + 64 + 4, LEND_E_CORRUPT, "64 bytes, over the limit of 63");

    memcpy(ticket.agent, "pr\303\251fill", sizeof "pr\303\251fill"); /* UTF-8 */
    count = lend_ticket_encode(&ticket, bytes, sizeof bytes);
    assert_int_equal(lend_ticket_decode(bytes, count, &again, NULL), LEND_OK);
    assert_string_equal(again.agent, ticket.agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticket_comes_back_as_it_was),
        cmocka_unit_test(test_longest_ticket_fits_what_callers_keep_for_it),
        cmocka_unit_test(test_encoding_measures_what_does_not_fit),
        cmocka_unit_test(test_every_cut_and_every_flipped_bit_is_seen),
        cmocka_unit_test(test_another_version_is_named_beside_ours),
        cmocka_unit_test(test_other_bytes_are_not_a_ticket),
        cmocka_unit_test(test_bytes_too_few_or_too_many_are_refused_even_if_sealed),
        cmocka_unit_test(test_access_is_reading_or_writing_or_both),
        cmocka_unit_test(test_name_is_printable_and_neither_empty_nor_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
