/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the checksum is CRC-32C, by the processor's instruction and without it, in one go and in
 * pieces. Method: the vectors of RFC 3720, appendix B.4; both ways against a bit by bit one, at all
 * alignments.
 */
#include "base/crc32c.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BYTES = 300 };

static uint32_t bit_by_bit(const uint8_t *bytes, size_t count)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? (crc >> 1) ^ UINT32_C(0x82f63b78) : crc >> 1;
    }
    return ~crc;
}

static void check_both(const void *bytes, size_t count, uint32_t expected)
{
    assert_int_equal(lend_crc32c(0, bytes, count), expected);
    assert_int_equal(lend_crc32c_portable(0, bytes, count), expected);
}

static void test_vectors_of_the_standard(void **state)
{
    uint8_t bytes[32];

    (void)state;
    memset(bytes, 0, sizeof bytes);
    check_both(bytes, sizeof bytes, 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    check_both(bytes, sizeof bytes, 0x62a8ab43);
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i;
    check_both(bytes, sizeof bytes, 0x46dd794e);
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(31 - i);
    check_both(bytes, sizeof bytes, 0x113fdb5c);
    check_both("123456789", 9, 0xe3069283);
    check_both(NULL, 0, 0);
}

static void test_all_lengths_and_alignments(void **state)
{
    uint8_t bytes[BYTES + 8];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 131 + 7);
    for (size_t offset = 0; offset < 8; offset++) {
        for (size_t count = 0; count <= BYTES; count++)
            check_both(bytes + offset, count, bit_by_bit(bytes + offset, count));
    }
}

static void test_pieces_continue_each_other(void **state)
{
    uint8_t bytes[BYTES];

    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 29 + 3);
    uint32_t whole = bit_by_bit(bytes, BYTES);
    for (size_t cut = 0; cut <= BYTES; cut++) {
        uint32_t first = lend_crc32c(0, bytes, cut);

        assert_int_equal(lend_crc32c(first, bytes + cut, BYTES - cut), whole);
        assert_int_equal(lend_crc32c_portable(first, bytes + cut, BYTES - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_standard),
        cmocka_unit_test(test_all_lengths_and_alignments),
        cmocka_unit_test(test_pieces_continue_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
