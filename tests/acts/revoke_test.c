/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: once revoke has returned, the blocks are the owner's: no read that was not complete before
 * reports success, and no write lands, whatever path its reads take. Method: 15,000 times between
 * two processes, 6,000 of them served by shared memory and 3,000 by tcp, the owner revokes at a
 * random moment of a running transfer and rewrites the blocks at once. Every word of every transfer
 * tells its block and its generation, and is compared; so is all of the owner's memory after each.
 * The moment is tuned so that many are caught in the middle, and the test fails if they are few.
 */
#include "take_back.h"

#include "built.h"
#include "transport/ucx/ucx.h"

static void revoke_on(const char *path, uint32_t iterations)
{
    struct take_back_plan plan = {
        .iterations = acts_count(iterations), .path = path, .chance = acts_chance_begin("revoke")};
    struct take_back_result result;

    assert_true(take_back_run(&plan, &result));
    print_message(
        "%s: %u reads and %u writes; %u ended by their revoke, %u of them (%.1f %% of all) "
        "in the middle\n",
        path, result.reads, result.writes, result.revoked, result.caught,
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

static void test_nothing_served_passes_a_revoke(void **state)
{
    (void)state;
    revoke_on("local/served", 6000);
}

static void test_nothing_mapped_passes_a_revoke(void **state)
{
    (void)state;
    revoke_on("local/mapped", 3000);
}

static void test_nothing_that_is_read_across_passes_a_revoke(void **state)
{
    (void)state;
    revoke_on("local/cross-memory", 3000);
}

static void test_nothing_by_tcp_passes_a_revoke(void **state)
{
    (void)state;
    if (!built_with("tcp"))
        skip();
    revoke_on("tcp/served", 3000);
}

static void test_nothing_by_ucx_passes_a_revoke(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    revoke_on("ucx/served", 1500);
}

/* Straight into place, as on fabrics where that pays. */
static void test_nothing_by_rendezvous_of_ucx_passes_a_revoke(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    lend_ucx_rendezvous_bytes = 1;
    revoke_on("ucx/served", 1500);
    lend_ucx_rendezvous_bytes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_served_passes_a_revoke),
        cmocka_unit_test(test_nothing_mapped_passes_a_revoke),
        cmocka_unit_test(test_nothing_that_is_read_across_passes_a_revoke),
        cmocka_unit_test(test_nothing_by_tcp_passes_a_revoke),
        cmocka_unit_test(test_nothing_by_ucx_passes_a_revoke),
        cmocka_unit_test(test_nothing_by_rendezvous_of_ucx_passes_a_revoke),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
