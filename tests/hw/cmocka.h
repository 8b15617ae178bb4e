/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_CMOCKA_H
#define LEND_TESTS_HW_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * In the place of cmocka, where no library is but libc: as much of it as the conformance battery
 * takes, by cmocka's names. Each test runs in a process of its own, which no driver of a GPU has
 * been opened in before: so it may fork as long as it has not called one. A failure ends that
 * process, as does a test that takes longer than CMOCKA_SECONDS.
 */

enum { CMOCKA_SECONDS = 120 };

typedef int cmocka_stage(void **state);

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    cmocka_stage *up;
    cmocka_stage *down;
};

/* Of all tests that have run since it was zeroed. */
struct cmocka_count {
    int passed;
    int failed;
    int skipped;
    char first[256]; /* that failed, and what it said */
};

extern struct cmocka_count cmocka_count;

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
        .name = #function, .test = (function)                                                      \
    }
#define cmocka_unit_test_setup_teardown(function, first, last)                                     \
    {                                                                                              \
        .name = #function, .test = (function), .up = (first), .down = (last)                       \
    }

/* How many have failed. */
int _cmocka_run_group_tests(const char *title, const struct CMUnitTest *tests, size_t count,
                            cmocka_stage *up, cmocka_stage *down);
void cmocka_set_test_filter(const char *pattern);

void print_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* It failed, or is skipped. */
void cmocka_fail(const char *what, const char *file, int line) __attribute__((noreturn));
void cmocka_skip(void) __attribute__((noreturn));
/* Fails unless they are equal, if they shall be, or else unequal. */
void cmocka_equal(int shall_be, uint64_t one, uint64_t other, const char *file, int line);
void cmocka_same_text(int shall_be, const char *one, const char *other, const char *file, int line);
void cmocka_range(uint64_t value, uint64_t first, uint64_t last, const char *file, int line);

#define _fail(file, line)                   cmocka_fail("", (file), (line))
#define skip()                              cmocka_skip()
#define CMOCKA_AT                           __FILE__, __LINE__
#define assert_true(value)                  cmocka_true((value) != 0, #value, CMOCKA_AT)
#define assert_false(value)                 assert_true(!(value))
#define assert_null(value)                  assert_true((value) == NULL)
#define assert_non_null(value)              assert_true((value) != NULL)
#define assert_int_equal(a, b)              cmocka_equal(1, (uint64_t)(a), (uint64_t)(b), CMOCKA_AT)
#define assert_int_not_equal(a, b)          cmocka_equal(0, (uint64_t)(a), (uint64_t)(b), CMOCKA_AT)
#define assert_ptr_equal(a, b)              assert_int_equal((uintptr_t)(a), (uintptr_t)(b))
#define assert_ptr_not_equal(a, b)          assert_int_not_equal((uintptr_t)(a), (uintptr_t)(b))
#define assert_string_equal(a, b)           cmocka_same_text(1, a, b, CMOCKA_AT)
#define assert_string_not_equal(a, b)       cmocka_same_text(0, a, b, CMOCKA_AT)
#define assert_memory_equal(a, b, bytes)    assert_true(memcmp((a), (b), (bytes)) == 0)
#define assert_in_range(value, first, last) cmocka_range(value, first, last, CMOCKA_AT)
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        cmocka_fail("", CMOCKA_AT);                                                                \
    } while (0)

static inline void cmocka_true(int is_true, const char *what, const char *file, int line)
{
    if (!is_true)
        cmocka_fail(what, file, line);
}

#endif
