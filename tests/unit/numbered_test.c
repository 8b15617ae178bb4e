/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: notifications that come by two ways are given on in the order of their numbers, each once.
 * Method: some come in every order of four, one of them twice; what is given on is noted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/numbered.h"
#include "double.h"

static uint32_t given;
static bool refuses;

/* Each is its own number. */
static enum lend_status give(struct lend_session *session, const void *bytes, uint32_t count)
{
    (void)session;
    if (refuses)
        return LEND_E_NO_MEMORY;
    assert_int_equal(count, 1);
    assert_int_equal(*(const uint8_t *)bytes, ++given);
    return LEND_OK;
}

static enum lend_status come(struct lend_numbered *numbered, uint8_t number, bool is_told)
{
    if (is_told && lend_numbered_has(numbered, number))
        return LEND_E_CONSUMED;
    return lend_numbered_take(numbered, is_told ? number : 0, &number, 1, give, NULL);
}

static void test_each_is_given_once_and_in_its_turn(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 256; order++) {
        uint8_t seen = 0;
        struct lend_numbered numbered;

        double_install(-1);
        lend_numbered_init(&numbered);
        given = 0;
        for (int i = 0; i < 4; i++) {
            const uint8_t number = (uint8_t)(1 + (order >> 2 * i & 3));
            const bool was_here = (seen >> number & 1) != 0;

            assert_int_equal(come(&numbered, number, true), was_here ? LEND_E_CONSUMED : LEND_OK);
            seen |= (uint8_t)(1u << number);
            uint32_t leading = 0;
            while ((seen >> (leading + 1) & 1) != 0)
                leading++;
            assert_int_equal(given, leading);
        }
        lend_numbered_fini(&numbered);
        (void)double_remove(); /* nothing is kept */
    }
}

static void test_those_without_a_number_are_the_next(void **state)
{
    (void)state;
    struct lend_numbered numbered;

    lend_numbered_init(&numbered);
    given = 0;
    assert_int_equal(come(&numbered, 1, false), LEND_OK);
    assert_int_equal(come(&numbered, 3, true), LEND_OK);
    assert_int_equal(come(&numbered, 1, true), LEND_E_CONSUMED);
    assert_int_equal(come(&numbered, 2, false), LEND_OK);
    assert_int_equal(given, 3);
    lend_numbered_fini(&numbered);
}

static void test_one_that_cannot_be_given_is_not_lost(void **state)
{
    (void)state;
    struct lend_numbered numbered;

    lend_numbered_init(&numbered);
    given = 0;
    refuses = true;
    assert_int_equal(come(&numbered, 1, true), LEND_E_NO_MEMORY);
    refuses = false;
    assert_int_equal(come(&numbered, 1, true), LEND_OK);
    double_install(0);
    assert_int_equal(come(&numbered, 3, true), LEND_E_NO_MEMORY);
    assert_true(double_remove());
    assert_int_equal(come(&numbered, 3, true), LEND_OK);
    assert_int_equal(come(&numbered, 2, true), LEND_OK);
    assert_int_equal(given, 3);
    lend_numbered_fini(&numbered);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_given_once_and_in_its_turn),
        cmocka_unit_test(test_those_without_a_number_are_the_next),
        cmocka_unit_test(test_one_that_cannot_be_given_is_not_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
