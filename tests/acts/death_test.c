/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever dies, the other gets an error in bounded time, its memory back, and holds nothing
 * more. Method: more than 1,000 times a reader or an owner is killed, stopped, or replaced by exec
 * at a random moment of a running transfer, while one agent of this process survives them all (see
 * death.h). READs are served by shared memory or by tcp, mapped, or read across; WRITEs are always
 * served.
 *
 * On the paths where the reader copies, an owner that is stopped need not keep a READ from success,
 * and a reader that is stopped keeps what it has mapped: the owner is told that, in time, and has
 * the memory back when the reader is dead.
 */
#include "death.h"

#include "built.h"
#include "transport/ucx/ucx.h"

static void survive_on(const char *path, uint32_t count)
{
    const struct death_plan plan = {.deaths = acts_count(count), .path = path};

    death_run(&plan);
}

static void test_survivor_of_served_transfers_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    survive_on("local/served", 480);
}

static void test_survivor_of_mapped_reads_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    survive_on("local/mapped", 240);
}

static void test_survivor_of_reads_across_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    survive_on("local/cross-memory", 240);
}

static void test_survivor_of_transfers_by_tcp_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    if (!built_with("tcp"))
        skip();
    survive_on("tcp/served", 240);
}

static void test_survivor_of_transfers_by_ucx_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    survive_on("ucx/served", 120);
}

/* Straight into place, as on fabrics where that pays. */
static void test_survivor_of_rendezvous_of_ucx_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    lend_ucx_rendezvous_bytes = 1;
    survive_on("ucx/served", 120);
    lend_ucx_rendezvous_bytes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_survivor_of_served_transfers_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_of_mapped_reads_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_of_reads_across_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_of_transfers_by_tcp_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_of_transfers_by_ucx_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_of_rendezvous_of_ucx_is_told_and_gets_its_memory_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
