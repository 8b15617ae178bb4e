/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: a frame's header says what it was made from, in the bytes that frame.h promises, and
 * nothing that was damaged, or that means nothing, is accepted. Method: headers are made, changed
 * byte by byte (with their checksum made right again where the field behind it is meant), and
 * decoded from copies of exactly their size.
 */

#include "wire_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VERSION_AT = 2, TYPE_AT = 3, COUNT_AT = 4, CRC_AT = 24 };

/* Decode a header as it is, or sealed; out is painted before. */
static enum lend_status decode(const uint8_t *header, bool is_sealed, struct lend_frame *out,
                               struct lend_error *error)
{
    uint8_t *copy = is_sealed ? copy_sealed(header, LEND_FRAME_HEADER_BYTES)
                              : copy_bytes(header, LEND_FRAME_HEADER_BYTES);

    memset(out, PAINT, sizeof *out);
    enum lend_status status = lend_frame_decode(copy, out, error);
    free(copy);
    return status;
}

static void assert_refused(const uint8_t *header, enum lend_status expected, const char *reason)
{
    struct lend_frame frame;
    struct lend_error error;

    assert_int_equal(decode(header, true, &frame, &error), expected);
    assert_true(is_painted(&frame, sizeof frame));
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error.message);
}

static void test_header_is_laid_out_as_promised(void **state)
{
    (void)state;
    static const uint8_t expected[LEND_FRAME_HEADER_BYTES - 8] = {
        'L',  'F',  1,    9,    3,    0,    0,    0,    0x08, 0x07, 0x06, 0x05,
        0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    struct lend_frame frame = {
        .type = LEND_FRAME_NOTIFY,
        .payload_bytes = 3,
        .sequence = 0x0102030405060708,
        .request = 0x1112131415161718,
    };
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, "abc", header);
    assert_memory_equal(header, expected, sizeof expected);
    static const uint8_t crc_of_abc[] = {0xb7, 0x3f, 0x4b, 0x36}; /* RFC 3720's polynomial */
    assert_memory_equal(header + CRC_AT, crc_of_abc, sizeof crc_of_abc);
}

static void test_every_type_comes_back_as_it_was(void **state)
{
    (void)state;
    static const char payload[] = "what a control frame carries";

    for (uint8_t type = LEND_FRAME_HELLO; type <= LEND_FRAME_LAST; type++) {
        struct lend_frame frame = {.type = type,
                                   .payload_bytes = sizeof payload,
                                   .sequence = UINT64_MAX - type,
                                   .request = UINT64_MAX};
        uint8_t header[LEND_FRAME_HEADER_BYTES];
        struct lend_frame again;

        lend_frame_encode(&frame, type == LEND_FRAME_DATA ? NULL : payload, header);
        assert_int_equal(decode(header, false, &again, NULL), LEND_OK);
        assert_int_equal(again.type, frame.type);
        assert_int_equal(again.payload_bytes, frame.payload_bytes);
        assert_true(again.sequence == frame.sequence && again.request == frame.request);
        assert_int_equal(lend_frame_check(&again, payload, NULL), LEND_OK);
        assert_int_equal(again.payload_crc == 0, type == LEND_FRAME_DATA);
    }
}

static void test_frame_without_payload_needs_none(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_CANCEL, .request = 4}, again;
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    assert_int_equal(decode(header, false, &again, NULL), LEND_OK);
    assert_int_equal(lend_frame_check(&again, NULL, NULL), LEND_OK);
}

static void test_any_flipped_bit_of_header_is_seen(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_DATA, .payload_bytes = 65536, .request = 1};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    for (unsigned bit = 0; bit < 8 * sizeof header; bit++) {
        struct lend_frame out;

        header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(decode(header, false, &out, NULL), LEND_E_CORRUPT);
        assert_true(is_painted(&out, sizeof out));
        header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void test_any_flipped_bit_of_control_payload_is_seen(void **state)
{
    (void)state;
    uint8_t payload[] = "the owner took it back";
    struct lend_frame frame = {.type = LEND_FRAME_BYE, .payload_bytes = sizeof payload}, again;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;

    lend_frame_encode(&frame, payload, header);
    assert_int_equal(decode(header, false, &again, NULL), LEND_OK);
    for (unsigned bit = 0; bit < 8 * sizeof payload; bit++) {
        payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(lend_frame_check(&again, payload, &error), LEND_E_CORRUPT);
        payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_non_null(strstr(error.message, "type 3"));
}

static void test_another_version_is_named_beside_ours(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_CANCEL};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    header[VERSION_AT] = 7;
    assert_refused(header, LEND_E_VERSION, "protocol version 7, and this library speaks version 1");
}

static void test_what_is_not_a_frame_is_refused(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_CANCEL};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    header[0] = 'X';
    assert_refused(header, LEND_E_CORRUPT, "begins with 0x4658");
}

static void test_unknown_types_are_refused(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_CANCEL};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    header[TYPE_AT] = 0;
    assert_refused(header, LEND_E_CORRUPT, "unknown type 0");
    header[TYPE_AT] = LEND_FRAME_LAST + 1;
    assert_refused(header, LEND_E_CORRUPT, "unknown type 20");
}

static void test_payloads_have_their_limits(void **state)
{
    (void)state;
    struct lend_frame data = {.type = LEND_FRAME_DATA, .payload_bytes = LEND_FRAME_DATA_MAX};
    struct lend_frame control = {.type = LEND_FRAME_RUNS, .payload_bytes = LEND_FRAME_CONTROL_MAX};
    uint8_t *payload = calloc(1, LEND_FRAME_CONTROL_MAX);
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_frame again;

    assert_non_null(payload);
    lend_frame_encode(&data, NULL, header);
    assert_int_equal(decode(header, false, &again, NULL), LEND_OK);
    header[COUNT_AT] = 1; /* 65,537 */
    assert_refused(header, LEND_E_CORRUPT, "262145 bytes, over the limit of 262144");

    lend_frame_encode(&control, payload, header);
    assert_int_equal(decode(header, false, &again, NULL), LEND_OK);
    header[COUNT_AT] = 1; /* 32,769 */
    assert_refused(header, LEND_E_CORRUPT, "32769 bytes, over the limit of 32768");
    free(payload);
}

static void test_data_is_never_empty_and_has_no_checksum(void **state)
{
    (void)state;
    struct lend_frame frame = {.type = LEND_FRAME_DATA, .payload_bytes = 1};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, NULL, header);
    header[CRC_AT] = 1;
    assert_refused(header, LEND_E_CORRUPT, "data frame of 1 bytes with checksum 00000001");
    header[CRC_AT] = 0;
    header[COUNT_AT] = 0;
    assert_refused(header, LEND_E_CORRUPT, "data frame of 0 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_is_laid_out_as_promised),
        cmocka_unit_test(test_every_type_comes_back_as_it_was),
        cmocka_unit_test(test_frame_without_payload_needs_none),
        cmocka_unit_test(test_any_flipped_bit_of_header_is_seen),
        cmocka_unit_test(test_any_flipped_bit_of_control_payload_is_seen),
        cmocka_unit_test(test_another_version_is_named_beside_ours),
        cmocka_unit_test(test_what_is_not_a_frame_is_refused),
        cmocka_unit_test(test_unknown_types_are_refused),
        cmocka_unit_test(test_payloads_have_their_limits),
        cmocka_unit_test(test_data_is_never_empty_and_has_no_checksum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
