/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a walk meets each range that has a byte in common with what is asked, once, from the last
 * to the first, however ranges nest and overlap. Method: a chain of random inserts and removals,
 * every question after each, against an unsorted list; reserving under the double.
 */
#include "core/range_index.h"
#include "double.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

enum { SPACE = 24, RANGES_MAX = 12 };

struct model {
    struct {
        uint64_t start, end;
        bool is_there;
    } ranges[RANGES_MAX]; /* the value of a range is its place here */
    int count;
};

static uint64_t draw(uint64_t *seed, uint64_t bound)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % bound;
}

static void check_question(const struct lend_range_index *index, struct model *model,
                           uint64_t start, uint64_t end)
{
    const struct lend_range_entry *entry;
    bool seen[RANGES_MAX] = {false};
    uint64_t last = UINT64_MAX;
    size_t position = SIZE_MAX;

    while ((entry = lend_range_index_next(index, start, end, &position)) != NULL) {
        for (int i = 0; i < RANGES_MAX; i++) {
            if (entry->value != &model->ranges[i])
                continue;
            assert_false(seen[i]);
            seen[i] = true;
            assert_true(entry->start == model->ranges[i].start);
            assert_true(entry->end == model->ranges[i].end);
        }
        assert_true(entry->start <= last);
        last = entry->start;
    }
    assert_null(lend_range_index_next(index, start, end, &position)); /* the end stays the end */
    for (int i = 0; i < RANGES_MAX; i++)
        assert_int_equal(seen[i], model->ranges[i].is_there && model->ranges[i].start < end &&
                                      model->ranges[i].end > start);
}

static void insert(struct lend_range_index *index, struct model *model, int i, uint64_t start,
                   uint64_t end)
{
    assert_int_equal(lend_range_index_reserve(index, 1, NULL), LEND_OK);
    model->ranges[i].start = start;
    model->ranges[i].end = end;
    model->ranges[i].is_there = true;
    lend_range_index_insert(index, start, end, &model->ranges[i]);
    model->count++;
}

static void drop(struct lend_range_index *index, struct model *model, int i)
{
    lend_range_index_remove(index, model->ranges[i].start, &model->ranges[i]);
    model->ranges[i].is_there = false;
    model->count--;
}

static void check_run(const struct lend_range_run *run)
{
    uint64_t most = 0;

    assert_true(run->empty_count <= run->count / 2);
    for (size_t i = 0; i < run->count; i++) {
        most = run->entries[i].end > most ? run->entries[i].end : most;
        assert_true(run->entries[i].end_max == most); /* else a walk looks too far */
    }
}

static size_t count_of(const struct lend_range_index *index)
{
    return index->settled.count - index->settled.empty_count + index->recent.count -
           index->recent.empty_count;
}

static void check_every_question(const struct lend_range_index *index, struct model *model)
{
    assert_int_equal(count_of(index), model->count);
    check_run(&index->settled);
    check_run(&index->recent);
    for (uint64_t start = 0; start < SPACE; start++)
        for (uint64_t end = start + 1; end <= SPACE; end++)
            check_question(index, model, start, end);
}

static void test_empty_index_has_nothing(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};

    (void)state;
    check_every_question(&index, &model);
    lend_range_index_remove(&index, 3, &model);
    assert_int_equal(count_of(&index), 0);
    lend_range_index_fini(&index);
}

static void test_nested_equal_and_touching_ranges_are_all_met(void **state)
{
    static const uint64_t ranges[][2] = {{0, 24}, {2, 10}, {2, 10}, {2, 4},
                                         {4, 10}, {9, 11}, {2, 24}, {10, 12}};
    enum { COUNT = sizeof ranges / sizeof ranges[0] };
    struct lend_range_index index = {0};
    struct model model = {0};

    (void)state;
    for (int i = 0; i < COUNT; i++)
        insert(&index, &model, i, ranges[i][0], ranges[i][1]);
    check_every_question(&index, &model);
    /* The furthest end goes: what it reached over is still met. */
    for (int i = 0; i < COUNT; i++) {
        drop(&index, &model, i);
        check_every_question(&index, &model);
    }
    lend_range_index_fini(&index);
}

static void test_range_of_another_value_is_not_removed(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};

    (void)state;
    insert(&index, &model, 0, 5, 9);
    lend_range_index_remove(&index, 5, &model.ranges[1]);
    check_every_question(&index, &model);
    lend_range_index_fini(&index);
}

static void test_ranges_at_the_end_of_the_address_space_are_met(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};

    (void)state;
    insert(&index, &model, 0, UINT64_MAX - 10, UINT64_MAX);
    insert(&index, &model, 1, 0, UINT64_MAX);
    check_question(&index, &model, UINT64_MAX - 1, UINT64_MAX);
    check_question(&index, &model, 0, 1);
    lend_range_index_fini(&index);
}

static void test_random_history_is_that_of_a_list(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};
    uint64_t seed = 1;

    (void)state;
    double_install(-1);
    for (int step = 0; step < 1500; step++) {
        int i = (int)draw(&seed, RANGES_MAX);

        if (model.ranges[i].is_there) {
            drop(&index, &model, i);
        } else {
            uint64_t start = draw(&seed, SPACE);

            insert(&index, &model, i, start, start + 1 + draw(&seed, SPACE - start));
        }
        check_every_question(&index, &model);
    }
    lend_range_index_fini(&index);
    assert_int_equal(double_live_allocations(), 0);
    assert_false(double_remove());
}

/* Some by one, the others by a batch, of which some are as high, and some as low, as can be. */
static void test_batch_is_met_as_if_inserted_one_by_one(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct lend_range_entry added[RANGES_MAX];
        struct lend_sorted places[2 * RANGES_MAX];
        int alone = (int)draw(&seed, RANGES_MAX + 1), gone = (int)draw(&seed, 3);

        for (int i = 0; i < RANGES_MAX; i++) {
            uint64_t start = draw(&seed, SPACE), end = start + 1 + draw(&seed, SPACE - start);

            if (i < alone) {
                insert(&index, &model, i, start, end);
                continue;
            }
            model.ranges[i].start = start;
            model.ranges[i].end = end;
            model.ranges[i].is_there = true;
            model.count++;
            added[i - alone] =
                (struct lend_range_entry){.start = start, .end = end, .value = &model.ranges[i]};
        }
        for (int i = 0; i < gone && i < alone; i++)
            drop(&index, &model, i);
        assert_int_equal(lend_range_index_reserve(&index, RANGES_MAX, NULL), LEND_OK);
        lend_range_index_insert_all(&index, added, places, (size_t)(RANGES_MAX - alone));
        check_every_question(&index, &model);
        for (int i = 0; i < RANGES_MAX; i++)
            if (model.ranges[i].is_there)
                drop(&index, &model, i);
        check_every_question(&index, &model);
    }
    lend_range_index_fini(&index);
}

enum { MANY = 4000, WIDE = 1 << 16, LONGEST = 300 };

static struct {
    uint64_t start, end;
    bool is_there, is_seen;
} many[MANY];

static void put_many(struct lend_range_index *index, size_t i, uint64_t start, uint64_t end)
{
    many[i].start = start;
    many[i].end = end;
    many[i].is_there = true;
    assert_int_equal(lend_range_index_reserve(index, 1, NULL), LEND_OK);
    lend_range_index_insert(index, start, end, &many[i]);
}

static void ask_many(const struct lend_range_index *index, uint64_t start, uint64_t end)
{
    const struct lend_range_entry *entry;
    uint64_t last = UINT64_MAX;
    size_t position = SIZE_MAX;

    for (size_t i = 0; i < MANY; i++)
        many[i].is_seen = false;
    while ((entry = lend_range_index_next(index, start, end, &position)) != NULL) {
        size_t i = ((size_t)entry->value - (size_t)many) / sizeof many[0];

        assert_false(many[i].is_seen);
        assert_true(entry->start <= last);
        last = entry->start;
        many[i].is_seen = true;
    }
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(many[i].is_seen,
                         many[i].is_there && many[i].start < end && many[i].end > start);
}

/* Enough of them that those that came one by one are merged again and again. */
static void test_thousands_that_come_and_go_one_by_one_are_met(void **state)
{
    struct lend_range_index index = {0};
    uint64_t seed = 7;

    (void)state;
    memset(many, 0, sizeof many);
    for (size_t i = 0; i < MANY; i++) { /* ascending, then descending, then anywhere */
        uint64_t start = i < MANY / 3 ? i * 4 : i < 2 * MANY / 3 ? WIDE - i * 4 : draw(&seed, WIDE);

        put_many(&index, i, start, start + 1 + draw(&seed, LONGEST));
        if (i % 50 == 0)
            ask_many(&index, draw(&seed, WIDE), WIDE);
    }
    check_run(&index.settled);
    assert_true(index.settled.count > 0);
    for (int step = 0; step < 3 * MANY; step++) {
        size_t i = (size_t)draw(&seed, MANY);
        uint64_t start = draw(&seed, WIDE);

        if (many[i].is_there) {
            lend_range_index_remove(&index, many[i].start, &many[i]);
            many[i].is_there = false;
        } else {
            put_many(&index, i, start, start + 1 + draw(&seed, LONGEST));
        }
        if (step % 50 == 0)
            ask_many(&index, start, start + 1 + draw(&seed, LONGEST));
    }
    check_run(&index.settled);
    check_run(&index.recent);
    lend_range_index_fini(&index);
}

static void test_reserve_that_finds_no_memory_changes_nothing(void **state)
{
    struct lend_range_index index = {0};
    struct lend_error error = {0};
    struct model model = {0};

    (void)state;
    double_install(2); /* the third allocation: the first two are for the first range */
    insert(&index, &model, 0, 3, 8);
    assert_int_equal(lend_range_index_reserve(&index, 1000, &error), LEND_E_NO_MEMORY);
    assert_int_equal(error.status, LEND_E_NO_MEMORY);
    assert_string_equal(error.message, "no memory for an index of 1001 regions");
    check_every_question(&index, &model);
    insert(&index, &model, 1, 2, 4);
    check_every_question(&index, &model);
    lend_range_index_fini(&index);
    assert_true(double_remove());
}

static void test_inserts_that_were_reserved_take_no_memory(void **state)
{
    struct lend_range_index index = {0};
    struct model model = {0};

    (void)state;
    double_install(-1);
    assert_int_equal(lend_range_index_reserve(&index, RANGES_MAX, NULL), LEND_OK);
    int calls = double_calls();
    for (int i = 0; i < RANGES_MAX; i++)
        lend_range_index_insert(&index, (uint64_t)i, SPACE, &model.ranges[i]);
    assert_int_equal(double_calls(), calls);
    assert_int_equal(count_of(&index), RANGES_MAX);
    lend_range_index_fini(&index);
    assert_false(double_remove());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_index_has_nothing),
        cmocka_unit_test(test_nested_equal_and_touching_ranges_are_all_met),
        cmocka_unit_test(test_range_of_another_value_is_not_removed),
        cmocka_unit_test(test_ranges_at_the_end_of_the_address_space_are_met),
        cmocka_unit_test(test_random_history_is_that_of_a_list),
        cmocka_unit_test(test_batch_is_met_as_if_inserted_one_by_one),
        cmocka_unit_test(test_thousands_that_come_and_go_one_by_one_are_met),
        cmocka_unit_test(test_reserve_that_finds_no_memory_changes_nothing),
        cmocka_unit_test(test_inserts_that_were_reserved_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
