/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: FETCH and FOUND come back as they were written, and whatever breaks their limits is
 * refused, with the reason. Method: round trips, and samples with one thing wrong, in copies of
 * exactly their size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "wire/found.h"
#include "wire_samples.h"

enum { ROOM = 20000 };

static void assert_fetch_refused(const uint8_t *bytes, size_t count, const char *reason)
{
    uint8_t *copy = copy_bytes(bytes, count);
    struct lend_fetch_message out;
    struct lend_error error;

    memset(&out, PAINT, sizeof out);
    assert_int_equal(lend_fetch_decode(copy, count, &out, &error), LEND_E_CORRUPT);
    assert_true(is_painted(&out, sizeof out));
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error.message);
    free(copy);
}

static void assert_part_refused(const struct lend_found_part *part, const char *reason)
{
    static uint8_t bytes[ROOM];
    size_t count = lend_found_encode(part, bytes, sizeof bytes);
    struct lend_found_part out;
    struct lend_error error;

    assert_true(count <= sizeof bytes);
    uint8_t *copy = copy_bytes(bytes, count);
    memset(&out, PAINT, sizeof out);
    assert_int_equal(lend_found_decode(copy, count, &out, &error), LEND_E_CORRUPT);
    assert_true(is_painted(&out, sizeof out));
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error.message);
    free(copy);
}

static void test_a_fetch_comes_back_as_it_was(void **state)
{
    struct lend_fetch_message fetch = sample_fetch(), again;
    uint8_t bytes[128];
    size_t count = lend_fetch_encode(&fetch, bytes, sizeof bytes);

    (void)state;
    assert_int_equal(lend_fetch_decode(bytes, count, &again, NULL), LEND_OK);
    assert_int_equal(again.version_min, fetch.version_min);
    assert_int_equal(again.version_max, fetch.version_max);
    assert_string_equal(again.name, fetch.name);
    bytes[count] = 0;
    assert_fetch_refused(bytes, count + 1, "1 too many");
    for (size_t length = 0; length < count; length++)
        assert_fetch_refused(bytes, length, "");
}

static void test_a_fetch_has_a_name_and_a_range_of_versions(void **state)
{
    struct lend_fetch_message fetch = sample_fetch();
    uint8_t bytes[128];

    (void)state;
    fetch.version_min = 0;
    assert_fetch_refused(bytes, lend_fetch_encode(&fetch, bytes, sizeof bytes), "versions 0 to");
    fetch = sample_fetch();
    fetch.version_min = fetch.version_max + 1;
    assert_fetch_refused(bytes, lend_fetch_encode(&fetch, bytes, sizeof bytes), "versions 4 to 3");
    fetch = sample_fetch();
    fetch.name[0] = '\n';
    assert_fetch_refused(bytes, lend_fetch_encode(&fetch, bytes, sizeof bytes), "control");
}

static void test_a_part_comes_back_as_it_was(void **state)
{
    static uint8_t bytes[ROOM];
    struct lend_found_part part = sample_found(), again;

    (void)state;
    size_t count = lend_found_encode(&part, bytes, sizeof bytes);
    assert_int_equal(count, LEND_FOUND_HEADER_BYTES + part.count);
    assert_int_equal(lend_found_decode(bytes, count, &again, NULL), LEND_OK);
    assert_int_equal(again.version, part.version);
    assert_int_equal(again.metadata_bytes, part.metadata_bytes);
    assert_int_equal(again.attachment_bytes, part.attachment_bytes);
    assert_int_equal(again.offset, part.offset);
    assert_int_equal(again.count, part.count);
    assert_memory_equal(again.bytes, part.bytes, part.count);
    assert_ptr_equal(again.bytes, bytes + LEND_FOUND_HEADER_BYTES);
    struct lend_error error;
    for (size_t length = 0; length <= LEND_FOUND_HEADER_BYTES; length++)
        assert_int_equal(lend_found_decode(bytes, length, &again, &error), LEND_E_CORRUPT);
}

static void test_a_part_is_within_what_it_is_part_of(void **state)
{
    static const uint8_t many[LEND_FOUND_PART_MAX + 1];
    struct lend_found_part part = sample_found();

    (void)state;
    part.version = 0;
    assert_part_refused(&part, "of version 0");
    part = sample_found();
    part.metadata_bytes = 0;
    assert_part_refused(&part, "0 bytes of metadata");
    part.metadata_bytes = LEND_METADATA_BYTES_MAX + 1;
    assert_part_refused(&part, "bytes of metadata");
    part = sample_found();
    part.attachment_bytes = LEND_ATTACHMENT_BYTES_MAX + 1;
    assert_part_refused(&part, "of attachment");
    part = sample_found();
    part.offset = part.metadata_bytes + part.attachment_bytes - part.count + 1;
    assert_part_refused(&part, "a FOUND of bytes");
    part.offset = UINT32_MAX;
    assert_part_refused(&part, "a FOUND of bytes");
    part = sample_found();
    part.metadata_bytes = LEND_METADATA_BYTES_MAX;
    part.bytes = many;
    part.count = LEND_FOUND_PART_MAX + 1;
    assert_part_refused(&part, "a FOUND of 16401 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fetch_comes_back_as_it_was),
        cmocka_unit_test(test_a_fetch_has_a_name_and_a_range_of_versions),
        cmocka_unit_test(test_a_part_comes_back_as_it_was),
        cmocka_unit_test(test_a_part_is_within_what_it_is_part_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
