/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the writer says how long the whole is, stores no byte too far, and what it writes the
 * reader reads. Method: write one message into nothing and into every capacity up to its size;
 * random round trips.
 */
#include "base/reader.h"
#include "base/writer.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { MESSAGE_BYTES = 1 + 2 + 4 + 8 + 2 + 3 };

static void write_message(struct lend_writer *writer)
{
    lend_write_u8(writer, 0x01);
    lend_write_u16(writer, 0x0302);
    lend_write_u32(writer, 0x07060504);
    lend_write_u64(writer, UINT64_C(0x0f0e0d0c0b0a0908));
    lend_write_varint(writer, 300);
    lend_write_bytes(writer, "xyz", 3);
}

static const uint8_t expected[MESSAGE_BYTES] = {1,  2,  3,  4,  5,  6,    7,    8,   9,   10,
                                                11, 12, 13, 14, 15, 0xac, 0x02, 'x', 'y', 'z'};

static void test_nothing_is_needed_to_measure(void **state)
{
    struct lend_writer writer = lend_writer_init(NULL, 0);

    (void)state;
    write_message(&writer);
    assert_int_equal(writer.count, MESSAGE_BYTES);
    assert_false(lend_writer_fits(&writer));
}

static void test_what_does_not_fit_is_counted_and_not_stored(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity <= MESSAGE_BYTES; capacity++) {
        uint8_t *bytes = malloc(capacity > 0 ? capacity : 1);
        struct lend_writer writer = lend_writer_init(bytes, capacity);

        assert_non_null(bytes);
        memset(bytes, 0xee, capacity);
        write_message(&writer);
        assert_int_equal(writer.count, MESSAGE_BYTES);
        assert_int_equal(lend_writer_fits(&writer), capacity == MESSAGE_BYTES);
        /* What is stored is a prefix: no small field slips in behind one that did not fit. */
        size_t stored = 0;
        while (stored < capacity && bytes[stored] == expected[stored])
            stored++;
        for (size_t i = stored; i < capacity; i++)
            assert_int_equal(bytes[i], 0xee);
        free(bytes);
    }
}

static void test_message_is_written_as_specified(void **state)
{
    uint8_t bytes[MESSAGE_BYTES];
    struct lend_writer writer = lend_writer_init(bytes, sizeof bytes);

    (void)state;
    write_message(&writer);
    assert_true(lend_writer_fits(&writer));
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void test_varint_takes_as_many_bytes_as_it_must(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t value = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        uint8_t bytes[10];
        struct lend_writer writer = lend_writer_init(bytes, sizeof bytes);

        lend_write_varint(&writer, value);
        assert_int_equal(writer.count, bits == 0 ? 1 : (bits + 6) / 7);
        struct lend_reader reader = lend_reader_init(bytes, writer.count);
        assert_true(lend_read_varint(&reader) == value);
        assert_true(lend_reader_done(&reader));
    }
}

static void test_empty_bytes_may_be_null(void **state)
{
    struct lend_writer writer = lend_writer_init(NULL, 0);

    (void)state;
    lend_write_bytes(&writer, NULL, 0);
    assert_int_equal(writer.count, 0);
    assert_true(lend_writer_fits(&writer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_needed_to_measure),
        cmocka_unit_test(test_what_does_not_fit_is_counted_and_not_stored),
        cmocka_unit_test(test_message_is_written_as_specified),
        cmocka_unit_test(test_varint_takes_as_many_bytes_as_it_must),
        cmocka_unit_test(test_empty_bytes_may_be_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
