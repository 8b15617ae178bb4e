/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the revoke test can fail.
 * Method: the same act by an owner with a planted bug: it rewrites the blocks first and ends the
 * lease after. The checker must see foreign words reported as success, and does as soon as one is.
 */
#include "take_back.h"

static void see_foreign_words(const char *path)
{
    struct take_back_plan plan = {
        .path = path, .rewrites_first = true, .chance = acts_chance_begin("planted")};
    struct take_back_result result = {0};
    uint32_t tried = 0;

    while (result.foreign == 0 && tried < 20000) {
        plan.iterations = 100;
        plan.chance.state += 2;
        assert_true(take_back_run(&plan, &result));
        tried += result.reads;
    }
    print_message("%s: %u of the last %u reads reported foreign words as success (%u tried)\n",
                  path, result.foreign, result.reads, tried);
    assert_true(result.foreign > 0);
}

static void test_word_stored_after_the_rewrite_is_seen(void **state)
{
    (void)state;
    see_foreign_words("local/served");
}

static void test_it_is_seen_in_mapped_reads(void **state)
{
    (void)state;
    see_foreign_words("local/mapped");
}

static void test_it_is_seen_in_reads_across(void **state)
{
    (void)state;
    see_foreign_words("local/cross-memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_word_stored_after_the_rewrite_is_seen),
        cmocka_unit_test(test_it_is_seen_in_mapped_reads),
        cmocka_unit_test(test_it_is_seen_in_reads_across),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
