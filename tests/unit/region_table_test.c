/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a region is found by its id and by its name for as long as it is in the table and no
 * longer, and ids are never given twice. Method: a random history against a list, named and
 * nameless, with every question after each step; reserving under the double.
 */
#include "core/region_table.h"
#include "core/region.h"
#include "double.h"

#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { REGIONS = 150, STEPS = 3000 };

static struct lend_region regions[REGIONS];
static bool is_there[REGIONS];

static void name_region(int i)
{
    regions[i] = (struct lend_region){0};
    if (i % 5 != 0) /* the others have none */
        (void)snprintf(regions[i].name, sizeof regions[i].name, "layer.%d", i);
    regions[i].name_hash = lend_region_name_hash(regions[i].name);
}

static const struct lend_region *by_name(const struct lend_region_table *table, const char *name)
{
    return lend_region_table_named(table, name, lend_region_name_hash(name));
}

static void check(const struct lend_region_table *table)
{
    uint64_t id = 0;
    uint32_t count = 0, walked = 0;

    for (int i = 0; i < REGIONS; i++) {
        count += is_there[i];
        if (regions[i].id != 0)
            assert_ptr_equal(lend_region_table_find(table, regions[i].id),
                             is_there[i] ? &regions[i] : NULL);
        if (regions[i].name[0] != '\0')
            assert_ptr_equal(by_name(table, regions[i].name), is_there[i] ? &regions[i] : NULL);
    }
    assert_int_equal(table->count, count);
    for (const struct lend_region *next; (next = lend_region_table_next(table, id)) != NULL;) {
        assert_true(next->id > id && is_there[next - regions]);
        id = next->id;
        walked++;
    }
    assert_int_equal(walked, count);
    assert_true(table->place_count <= 2 * count + 1);
}

static void test_random_history_is_that_of_a_list(void **state)
{
    struct lend_region_table table = {0};
    uint64_t seed = 1, last_id = 0;

    (void)state;
    double_install(-1);
    memset(is_there, 0, sizeof is_there);
    for (int i = 0; i < REGIONS; i++)
        name_region(i);
    for (int step = 0; step < STEPS; step++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int i = (int)((seed >> 33) % REGIONS);

        if (is_there[i]) {
            lend_region_table_remove(&table, &regions[i]);
        } else {
            name_region(i);
            assert_int_equal(lend_region_table_reserve(&table, 1, NULL), LEND_OK);
            lend_region_table_insert(&table, &regions[i]);
            assert_true(regions[i].id > last_id);
            last_id = regions[i].id;
        }
        is_there[i] = !is_there[i];
        check(&table);
    }
    lend_region_table_fini(&table);
    assert_int_equal(double_live_allocations(), 0);
    assert_false(double_remove());
}

static void test_empty_name_is_nobodys(void **state)
{
    struct lend_region_table table = {0};

    (void)state;
    assert_null(by_name(&table, "nobody")); /* nothing was ever in it */
    assert_null(lend_region_table_next(&table, 0));
    memset(is_there, 0, sizeof is_there);
    name_region(0);
    assert_int_equal(lend_region_table_reserve(&table, 1, NULL), LEND_OK);
    lend_region_table_insert(&table, &regions[0]);
    assert_null(by_name(&table, ""));
    lend_region_table_fini(&table);
}

static void test_reserve_that_finds_no_memory_changes_nothing(void **state)
{
    (void)state;
    for (int nth = 0; nth < 2; nth++) {
        struct lend_region_table table = {0};
        struct lend_error error = {0};

        memset(is_there, 0, sizeof is_there);
        for (int i = 0; i < REGIONS; i++)
            name_region(i);
        assert_int_equal(lend_region_table_reserve(&table, 1, NULL), LEND_OK);
        lend_region_table_insert(&table, &regions[1]);
        is_there[1] = true;
        double_install(nth);
        assert_int_equal(lend_region_table_reserve(&table, 1000, &error), LEND_E_NO_MEMORY);
        assert_true(double_remove());
        assert_string_equal(error.message, nth == 0 ? "no memory for a table of 1001 regions"
                                                    : "no memory for the names of 1001 regions");
        check(&table);
        lend_region_table_fini(&table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_history_is_that_of_a_list),
        cmocka_unit_test(test_empty_name_is_nobodys),
        cmocka_unit_test(test_reserve_that_finds_no_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
