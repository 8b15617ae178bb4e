/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: once revoke has returned, the blocks are the owner's: no read that was not complete before
 * reports success, and no write lands. Method: 12,000 times between two processes, the owner
 * revokes at a random moment of a running transfer and rewrites the blocks at once. Every word of
 * every transfer tells its block and its generation, and is compared; so is all of the owner's
 * memory after each. The moment is tuned so that many are caught in the middle, and the test fails
 * if they are few.
 */
#include "take_back.h"

static void test_nothing_passes_a_revoke(void **state)
{
    struct take_back_plan plan = {.iterations = acts_count(12000),
                                  .chance = acts_chance_begin("revoke")};
    struct take_back_result result;

    (void)state;
    assert_true(take_back_run(&plan, &result));
    print_message("%u reads and %u writes; %u ended by their revoke, %u of them (%.1f %% of all) "
                  "in the middle\n",
                  result.reads, result.writes, result.revoked, result.caught,
                  100.0 * result.caught / plan.iterations);
    assert_int_equal(result.foreign, 0);
    assert_int_equal(result.foreign_leading, 0);
    assert_int_equal(result.landed_late, 0);
    assert_int_equal(result.lost, 0);
    assert_int_equal(result.read_late, 0);
    assert_int_equal(result.wrong_status, 0);
    assert_int_equal(result.reads + result.writes, plan.iterations);
    assert_true(result.caught * 100 >= plan.iterations * 3);
    assert_true(result.revoked < plan.iterations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_passes_a_revoke)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
