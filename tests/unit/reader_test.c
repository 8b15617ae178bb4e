/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no read leaves the bytes, whatever they say, and one that would have makes the reader bad
 * for good. Method: heap copies of exactly the size, so that ASan sees a byte too far; every cut of
 * a message.
 */
#include "base/reader.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint8_t *copy_exactly(const void *bytes, size_t count)
{
    uint8_t *copy = malloc(count > 0 ? count : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, count);
    return copy;
}

static void test_numbers_are_little_endian(void **state)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct lend_reader reader = lend_reader_init(bytes, sizeof bytes);

    (void)state;
    assert_int_equal(lend_read_u8(&reader), 0x01);
    assert_int_equal(lend_read_u16(&reader), 0x0302);
    assert_int_equal(lend_read_u32(&reader), 0x07060504);
    assert_false(lend_reader_done(&reader));
    assert_true(lend_read_u64(&reader) == UINT64_C(0x0f0e0d0c0b0a0908));
    assert_true(lend_reader_done(&reader));
}

/* A message of every kind of field. Returns whether the reader was content. */
static bool read_message(const uint8_t *bytes, size_t count)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    uint8_t copied[3];

    (void)lend_read_u8(&reader);
    (void)lend_read_u16(&reader);
    (void)lend_read_u32(&reader);
    (void)lend_read_u64(&reader);
    (void)lend_read_varint(&reader);
    lend_read_bytes(&reader, copied, sizeof copied);
    const uint8_t *span = lend_read_span(&reader, 2);
    assert_true((span == NULL) == reader.bad);
    return lend_reader_done(&reader);
}

static void test_every_cut_makes_the_reader_bad(void **state)
{
    uint8_t message[1 + 2 + 4 + 8 + 2 + 3 + 2] = {0};

    (void)state;
    message[15] = 0x80; /* a varint of two bytes */
    for (size_t count = 0; count <= sizeof message; count++) {
        uint8_t *bytes = copy_exactly(message, count);

        assert_int_equal(read_message(bytes, count), count == sizeof message);
        free(bytes);
    }
}

static void test_bad_reader_yields_zeros_for_good(void **state)
{
    uint8_t *bytes = copy_exactly("\xff\xff\xff", 3);
    struct lend_reader reader = lend_reader_init(bytes, 3);
    uint8_t out[2] = {0xaa, 0xaa};

    (void)state;
    assert_int_equal(lend_read_u32(&reader), 0);
    assert_true(reader.bad);
    /* These would have been there. */
    assert_int_equal(lend_read_u8(&reader), 0);
    assert_int_equal(lend_read_u16(&reader), 0);
    assert_true(lend_read_varint(&reader) == 0);
    assert_null(lend_read_span(&reader, 1));
    assert_null(lend_read_span(&reader, 0));
    lend_read_bytes(&reader, out, sizeof out);
    assert_int_equal(out[0], 0);
    assert_int_equal(out[1], 0);
    assert_false(lend_reader_done(&reader));
    free(bytes);
}

static void test_left_over_bytes_are_not_done(void **state)
{
    struct lend_reader reader = lend_reader_init("abc", 3);

    (void)state;
    (void)lend_read_u16(&reader);
    assert_false(lend_reader_done(&reader));
    assert_false(reader.bad);
}

static void test_empty_reader_is_done(void **state)
{
    struct lend_reader reader = lend_reader_init(NULL, 0);
    uint8_t byte = 0xaa;

    (void)state;
    assert_true(lend_reader_done(&reader));
    lend_read_bytes(&reader, &byte, 0);
    assert_int_equal(byte, 0xaa);
    assert_true(lend_reader_done(&reader));
    (void)lend_read_u8(&reader);
    assert_true(reader.bad);
}

static void test_span_of_a_huge_count_is_refused(void **state)
{
    struct lend_reader reader = lend_reader_init("abc", 3);

    (void)state;
    assert_null(lend_read_span(&reader, SIZE_MAX));
    assert_true(reader.bad);
}

static void test_varints_are_read_and_bad_ones_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t count;
        uint64_t value;
        bool is_good;
    } cases[] = {
        {"\x00", 1, 0, true},
        {"\x7f", 1, 127, true},
        {"\x80\x01", 2, 128, true},
        {"\xac\x02", 2, 300, true},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, UINT64_MAX, true},
        {"\x80\x00", 2, 0, true}, /* longer than need be: allowed */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, 0, false},     /* a 65th bit */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11, 0, false}, /* an 11th byte */
        {"\x80", 1, 0, false},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9, 0, false},
        {"", 0, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *bytes = copy_exactly(cases[i].bytes, cases[i].count);
        struct lend_reader reader = lend_reader_init(bytes, cases[i].count);

        assert_true(lend_read_varint(&reader) == cases[i].value);
        assert_int_equal(lend_reader_done(&reader), cases[i].is_good);
        assert_int_equal(reader.bad, !cases[i].is_good);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_little_endian),
        cmocka_unit_test(test_every_cut_makes_the_reader_bad),
        cmocka_unit_test(test_bad_reader_yields_zeros_for_good),
        cmocka_unit_test(test_left_over_bytes_are_not_done),
        cmocka_unit_test(test_empty_reader_is_done),
        cmocka_unit_test(test_span_of_a_huge_count_is_refused),
        cmocka_unit_test(test_varints_are_read_and_bad_ones_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
