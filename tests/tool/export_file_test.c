/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/export_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/*
 * Goal: what an agent tells of itself is taken if `lend serve' tells such, and refused, without
 * being read, if it is more than that ever tells.
 *
 * Method: what was found is made up here; and blanks behind JSON are JSON.
 */

enum { TOLD_BYTES_MAX = 64 << 10 };

static const char model[] =
    "{\"format\":1,\"model\":\"qwen3-8b\",\"owner\":7,\"generation\":3,\"ticket\":\"AQID\"}";

/* Find that text with blanks behind it, so many bytes in all. */
static enum lend_status find(const char *text, size_t count, struct export_file *out,
                             struct lend_error *error)
{
    struct lend_found found = {.metadata = "some", .metadata_bytes = 4, .attachment_bytes = count};
    char *bytes = malloc(count);

    assert_non_null(bytes);
    memset(bytes, ' ', count);
    memcpy(bytes, text, strlen(text));
    found.attachment = bytes;
    enum lend_status status = export_file_find("10.0.0.1:7000", &found, out, error);
    free(bytes);
    return status;
}

static void test_what_serve_tells_is_taken(void **state)
{
    struct export_file *file = calloc(1, sizeof *file);
    struct lend_error error = {0};

    (void)state;
    assert_non_null(file);
    assert_int_equal(find(model, TOLD_BYTES_MAX, file, &error), LEND_OK);
    assert_string_equal(file->model, "qwen3-8b");
    assert_int_equal(file->owner, 7);
    assert_int_equal(file->generation, 3);
    assert_int_equal(file->ticket_bytes, 3);
    assert_memory_equal(file->ticket, "\1\2\3", 3);
    assert_int_equal(file->metadata_bytes, 4);
    assert_memory_equal(file->metadata, "some", 4);
    free(file);
}

static void test_what_is_more_than_serve_tells_is_refused(void **state)
{
    struct export_file *file = calloc(1, sizeof *file);
    struct lend_error error = {0};

    (void)state;
    assert_non_null(file);
    assert_int_equal(find(model, TOLD_BYTES_MAX + 1, file, &error), LEND_E_CORRUPT);
    assert_non_null(strstr(error.message, "10.0.0.1:7000"));
    assert_non_null(strstr(error.message, "65537 bytes, over 65536"));
    assert_int_equal(file->metadata_bytes, 0);
    free(file);
}

static void test_what_is_not_of_serve_is_refused(void **state)
{
    struct export_file *file = calloc(1, sizeof *file);
    const struct lend_found nothing = {.metadata = "some", .metadata_bytes = 4};
    struct lend_error error = {0};

    (void)state;
    assert_non_null(file);
    assert_int_equal(export_file_find("there", &nothing, file, &error), LEND_E_ABSENT);
    assert_int_equal(find("no JSON", 100, file, &error), LEND_E_CORRUPT);
    assert_int_equal(find("{\"format\":1}", 100, file, &error), LEND_E_CORRUPT);
    assert_int_equal(find("[]", 100, file, &error), LEND_E_CORRUPT);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_serve_tells_is_taken),
        cmocka_unit_test(test_what_is_more_than_serve_tells_is_refused),
        cmocka_unit_test(test_what_is_not_of_serve_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
