/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a status and its explanation are one statement, that always fits, is always one line, and
 * can quote the explanation that it replaces; statuses from the wire are never trusted. Method:
 * fill errors with short, long, dirty and nested messages and read them back.
 */
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const int32_t failures[] = {
    LEND_E_INVALID, LEND_E_NO_MEMORY,    LEND_E_UNSUPPORTED, LEND_E_LIMIT,    LEND_E_BUSY,
    LEND_E_OVERLAP, LEND_E_MEMORY,       LEND_E_ABSENT,      LEND_E_FORKED,   LEND_E_MISMATCH,
    LEND_E_UNKNOWN, LEND_E_OUT_OF_RANGE, LEND_E_ACCESS,      LEND_E_CONSUMED, LEND_E_EXPIRED,
    LEND_E_REVOKED, LEND_E_STALE,        LEND_E_PEER_DEAD,   LEND_E_TIMEOUT,  LEND_E_CANCELED,
    LEND_E_NO_PATH, LEND_E_CORRUPT,      LEND_E_VERSION,     LEND_E_SYSTEM,   LEND_E_DEVICE,
};
enum { FAILURES = sizeof failures / sizeof failures[0] };

static void test_every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < FAILURES; i++) {
        const char *name = lend_status_name(failures[i]);

        assert_int_equal(strncmp(name, "LEND_E_", 7), 0);
        assert_string_not_equal(name, "LEND_E_?");
        for (int k = 0; k < i; k++)
            assert_string_not_equal(name, lend_status_name(failures[k]));
    }
    assert_string_equal(lend_status_name(LEND_OK), "LEND_OK");
    assert_string_equal(lend_status_name(LEND_PENDING), "LEND_PENDING");
    assert_string_equal(lend_status_name(-11), "LEND_E_?");
    assert_string_equal(lend_status_name(2), "LEND_E_?");
    assert_string_equal(lend_status_name(INT32_MIN), "LEND_E_?");
}

static void test_version_is_three_numbers(void **state)
{
    char *next;

    (void)state;
    (void)strtol(lend_version(), &next, 10);
    assert_int_equal(*next, '.');
    (void)strtol(next + 1, &next, 10);
    assert_int_equal(*next, '.');
    (void)strtol(next + 1, &next, 10);
    assert_int_equal(*next, '\0');
}

static void test_only_known_failures_come_from_the_wire(void **state)
{
    static const int32_t strangers[] = {0, 1, 2, -11, -15, -27, -34, -50, INT32_MIN, INT32_MAX};

    (void)state;
    for (int i = 0; i < FAILURES; i++)
        assert_int_equal(lend_status_from_wire(failures[i]), failures[i]);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        assert_int_equal(lend_status_from_wire(strangers[i]), LEND_E_CORRUPT);
}

static void test_failure_fills_all_of_the_error(void **state)
{
    struct lend_error error;

    (void)state;
    memset(&error, 0x5a, sizeof error);
    assert_int_equal(lend_fail(&error, LEND_E_BUSY, "peer %s holds %d", "a", 3), LEND_E_BUSY);
    assert_int_equal(error.status, LEND_E_BUSY);
    assert_int_equal(error.sys_errno, 0);
    assert_int_equal(error.device_code, 0);
    assert_string_equal(error.message, "peer a holds 3");

    assert_int_equal(lend_fail_errno(&error, ENOENT, "opening %s", "/x"), LEND_E_SYSTEM);
    assert_int_equal(error.status, LEND_E_SYSTEM);
    assert_int_equal(error.sys_errno, ENOENT);
    assert_string_equal(error.message, "opening /x: No such file or directory");

    assert_int_equal(lend_fail_device(&error, 700, "copy"), LEND_E_DEVICE);
    assert_int_equal(error.status, LEND_E_DEVICE);
    assert_int_equal(error.sys_errno, 0);
    assert_int_equal(error.device_code, 700);
    assert_string_equal(error.message, "copy");
}

static void test_error_is_optional(void **state)
{
    (void)state;
    assert_int_equal(lend_fail(NULL, LEND_E_STALE, "x"), LEND_E_STALE);
    assert_int_equal(lend_fail_errno(NULL, EIO, "x"), LEND_E_SYSTEM);
    assert_int_equal(lend_fail_device(NULL, 1, "x"), LEND_E_DEVICE);
}

static void test_long_message_ends_in_dots(void **state)
{
    struct lend_error error;
    char text[400];

    (void)state;
    for (size_t length = 236; length < 246; length++) {
        memset(text, 'a', length);
        text[length] = '\0';
        (void)lend_fail(&error, LEND_E_INVALID, "%s", text);
        if (length < sizeof error.message) {
            assert_string_equal(error.message, text);
            continue;
        }
        assert_int_equal(strlen(error.message), sizeof error.message - 1);
        assert_string_equal(error.message + sizeof error.message - 5, "a...");
    }
    /* The system's text is what makes it too long. */
    text[230] = '\0';
    (void)lend_fail_errno(&error, ENOENT, "%s", text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_string_equal(error.message + sizeof error.message - 4, "...");
}

static void test_message_is_one_line(void **state)
{
    struct lend_error error;

    (void)state;
    (void)lend_fail(&error, LEND_E_INVALID, "peer %s", "a\nb\tc\x1b[31m");
    assert_string_equal(error.message, "peer a b c [31m");
}

static void test_message_may_quote_the_one_that_it_replaces(void **state)
{
    struct lend_error error;

    (void)state;
    (void)lend_fail(&error, LEND_E_MEMORY, "0x1000 is not mapped");
    (void)lend_fail(&error, LEND_E_MEMORY, "region 7: %s", error.message);
    assert_string_equal(error.message, "region 7: 0x1000 is not mapped");
}

static void test_unknown_errno_is_told_as_such(void **state)
{
    struct lend_error error;

    (void)state;
    (void)lend_fail_errno(&error, 99999, "x");
    assert_string_equal(error.message, "x: unknown error number");
    assert_int_equal(error.sys_errno, 99999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_a_name_of_its_own),
        cmocka_unit_test(test_version_is_three_numbers),
        cmocka_unit_test(test_only_known_failures_come_from_the_wire),
        cmocka_unit_test(test_failure_fills_all_of_the_error),
        cmocka_unit_test(test_error_is_optional),
        cmocka_unit_test(test_long_message_ends_in_dots),
        cmocka_unit_test(test_message_is_one_line),
        cmocka_unit_test(test_message_may_quote_the_one_that_it_replaces),
        cmocka_unit_test(test_unknown_errno_is_told_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
