/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: objects stay where they are and readable for the pool's life, come back zeroed, and rest as
 * long as can be before they serve again; the limit holds, and no memory is an answer. Method: take
 * and give in patterns under the double, which counts slabs.
 */
#include "base/pool.h"
#include "double.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { TAG = 0x7a6, LIMIT = 3000 };

struct thing {
    struct lend_pool_object pool;
    char text[41]; /* odd, so that the pool has to round */
};

static void test_unused_pool_owns_nothing(void **state)
{
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), LIMIT);
    assert_int_equal(double_live_allocations(), 0);
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_objects_are_zeroed_aligned_and_apart(void **state)
{
    static struct thing *things[LIMIT];
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), LIMIT);
    for (int i = 0; i < LIMIT; i++) {
        things[i] = lend_pool_take(&pool, TAG);
        assert_non_null(things[i]);
        assert_int_equal((uintptr_t)things[i] % 16, 0);
        assert_true(things[i]->pool.live_tag == TAG);
        for (size_t k = 0; k < sizeof things[i]->text; k++)
            assert_int_equal(things[i]->text[k], 0);
        memset(things[i]->text, i % 100 + 1, sizeof things[i]->text);
    }
    for (int i = 0; i < LIMIT; i++) {
        for (size_t k = 0; k < sizeof things[i]->text; k++)
            assert_int_equal(things[i]->text[k], i % 100 + 1);
    }
    assert_int_equal(pool.live_count, LIMIT);
    assert_int_equal(pool.made_count, LIMIT);
    assert_true(double_live_allocations() < LIMIT / 50);

    /* Over the limit there is nothing, until one comes back: that one, zeroed. */
    assert_null(lend_pool_take(&pool, TAG));
    lend_pool_give(&pool, things[5]);
    assert_true(things[5]->pool.live_tag == 0);
    assert_int_equal(pool.live_count, LIMIT - 1);
    struct thing *again = lend_pool_take(&pool, TAG + 1);
    assert_non_null(again);
    assert_true(again->pool.live_tag == TAG + 1);
    for (size_t k = 0; k < sizeof again->text; k++)
        assert_int_equal(again->text[k], 0);
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_freed_objects_return_in_the_order_of_their_freeing(void **state)
{
    enum { COUNT = 200 };
    struct thing *things[COUNT];
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), COUNT);
    for (int i = 0; i < COUNT; i++)
        things[i] = lend_pool_take(&pool, TAG);
    for (int i = 0; i < COUNT; i++)
        lend_pool_give(&pool, things[(i * 7) % COUNT]);
    for (int i = 0; i < COUNT; i++)
        assert_ptr_equal(lend_pool_take(&pool, TAG), things[(i * 7) % COUNT]);
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_freed_object_rests_while_its_slab_has_fresh_ones(void **state)
{
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), LIMIT);
    void *first = lend_pool_take(&pool, TAG);
    lend_pool_give(&pool, first);
    int fresh = 0;
    for (void *next = lend_pool_take(&pool, TAG); next != first;
         next = lend_pool_take(&pool, TAG)) {
        lend_pool_give(&pool, next);
        fresh++;
        assert_int_equal(double_live_allocations(), 1);
    }
    assert_true(fresh > 10);
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_no_memory_leaves_the_pool_as_it_was(void **state)
{
    struct lend_pool pool;
    int taken = 0;

    (void)state;
    double_install(1); /* the second slab */
    lend_pool_init(&pool, sizeof(struct thing), LIMIT);
    while (lend_pool_take(&pool, TAG) != NULL)
        taken++;
    assert_true(taken > 0 && taken < LIMIT);
    assert_int_equal(pool.live_count, taken);
    assert_int_equal(pool.made_count, taken);
    assert_non_null(lend_pool_take(&pool, TAG)); /* the call after the fault */
    lend_pool_fini(&pool);
    assert_true(double_remove());
}

static void test_walk_meets_each_live_object_once(void **state)
{
    enum { COUNT = 500 };
    struct lend_pool pool;
    int met = 0, kept = 0;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), COUNT);
    assert_null(lend_pool_next(&pool, NULL));
    for (int i = 0; i < COUNT; i++)
        assert_non_null(lend_pool_take(&pool, TAG));
    /* The walk bears that the object it stands on is given back. */
    for (struct thing *next = lend_pool_next(&pool, NULL); next != NULL;
         next = lend_pool_next(&pool, next)) {
        if (met++ % 3 == 0)
            lend_pool_give(&pool, next);
        else
            next->text[0] = 1, kept++;
    }
    assert_int_equal(met, COUNT);
    met = 0;
    for (struct thing *next = lend_pool_next(&pool, NULL); next != NULL;
         next = lend_pool_next(&pool, next)) {
        met += next->text[0];
        next->text[0] = 100; /* a second time would show */
    }
    assert_int_equal(met, kept);
    assert_null(lend_pool_next(&pool, &pool)); /* an address of another's */
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_objects_larger_than_a_slab_are_made_one_by_one(void **state)
{
    enum { LARGE = 10000 };
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, LARGE, 3);
    for (int i = 0; i < 3; i++) {
        char *object = lend_pool_take(&pool, TAG);

        assert_non_null(object);
        memset(object + sizeof(struct lend_pool_object), 1,
               LARGE - sizeof(struct lend_pool_object));
    }
    assert_null(lend_pool_take(&pool, TAG));
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

static void test_finished_pool_can_be_used_again(void **state)
{
    struct lend_pool pool;

    (void)state;
    double_install(-1);
    lend_pool_init(&pool, sizeof(struct thing), 2);
    assert_non_null(lend_pool_take(&pool, TAG));
    lend_pool_fini(&pool);
    assert_int_equal(double_live_allocations(), 0);
    assert_int_equal(pool.live_count, 0);
    assert_non_null(lend_pool_take(&pool, TAG));
    lend_pool_fini(&pool);
    assert_false(double_remove());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unused_pool_owns_nothing),
        cmocka_unit_test(test_objects_are_zeroed_aligned_and_apart),
        cmocka_unit_test(test_freed_objects_return_in_the_order_of_their_freeing),
        cmocka_unit_test(test_freed_object_rests_while_its_slab_has_fresh_ones),
        cmocka_unit_test(test_no_memory_leaves_the_pool_as_it_was),
        cmocka_unit_test(test_walk_meets_each_live_object_once),
        cmocka_unit_test(test_objects_larger_than_a_slab_are_made_one_by_one),
        cmocka_unit_test(test_finished_pool_can_be_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
