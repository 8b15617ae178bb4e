/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the racing copy copies, every length at every alignment, and thread sanitizer lets its
 * source be rewritten meanwhile. Method: against memcpy; then beside a thread that rewrites the
 * source.
 */
#include "base/copy.h"
#include "base/sys.h"

#include <stdatomic.h>
#include <string.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BYTES = 64, ROUNDS = 2000 };

static void test_every_length_and_alignment(void **state)
{
    uint8_t source[BYTES + 8], copied[BYTES + 16], expected[BYTES + 16];

    (void)state;
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i + 1);
    for (size_t from = 0; from < 8; from++) {
        for (size_t to = 0; to < 8; to++) {
            for (size_t count = 0; count <= BYTES; count++) {
                memset(copied, 0, sizeof copied);
                memset(expected, 0, sizeof expected);
                lend_copy_racing(copied + to, source + from, count);
                memcpy(expected + to, source + from, count);
                assert_memory_equal(copied, expected, sizeof copied);
            }
        }
    }
}

static void test_nothing_may_be_null(void **state)
{
    (void)state;
    lend_copy_racing(NULL, NULL, 0);
}

struct race {
    uint8_t source[4096];
    atomic_bool is_over;
};

static void *rewrite(void *context)
{
    struct race *race = context;
    /* Volatile, so that no compiler makes the loop a memset of its own, which sanitizers cannot
     * see. */
    volatile uint8_t *source = race->source;

    for (unsigned i = 0; !atomic_load(&race->is_over); i++) {
        for (size_t k = 0; k < sizeof race->source; k++)
            source[k] = (i & 1) != 0 ? 0xff : 0x00;
    }
    return NULL;
}

static void test_source_may_be_rewritten_meanwhile(void **state)
{
    static struct race race;
    static uint8_t copied[sizeof race.source];
    pthread_t thread;
    size_t foreign = 0;

    (void)state;
    assert_int_equal(lend_sys->thread(&thread, rewrite, &race, "rewriter"), 0);
    for (int i = 0; i < ROUNDS; i++) {
        lend_copy_racing(copied, race.source, sizeof copied);
        for (size_t k = 0; k < sizeof copied; k++)
            foreign += copied[k] != 0x00 && copied[k] != 0xff;
    }
    atomic_store(&race.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(foreign, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_length_and_alignment),
        cmocka_unit_test(test_nothing_may_be_null),
        cmocka_unit_test(test_source_may_be_rewritten_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
