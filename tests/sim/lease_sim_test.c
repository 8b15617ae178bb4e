/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: whatever the order of grants, reads, writes, revokes, cancels and deaths, and whatever the
 * fabric does to the frames, the contract holds: no foreign byte in a success, no byte outside of
 * what is lent, quiet after the end, an end by the deadline, and the right cause. Method: one seed
 * is one history of three agents over the simulated fabric, in one thread, on a clock of its own; a
 * model checks memory byte by byte. LEND_SEED=n replays one history and
 * tells it, LEND_SEEDS=n sets how many are
 * lived. A last test breaks the owner's promise, and must see the model find out.
 */

#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { SEEDS = 1000 };

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void add(struct sim_report *sum, const struct sim_report *one)
{
    sum->posts += one->posts;
    sum->grants += one->grants;
    sum->revokes += one->revokes;
    sum->withdrawals += one->withdrawals;
    sum->cancels += one->cancels;
    sum->deaths += one->deaths;
    sum->notifications += one->notifications;
    sum->bytes += one->bytes;
    for (size_t i = 0; i < sizeof sum->ends / sizeof sum->ends[0]; i++)
        sum->ends[i] += one->ends[i];
}

static void tell(const struct sim_report *sum)
{
    print_message("# %" PRIu64 " posts, %" PRIu64 " grants, %" PRIu64 " revokes, %" PRIu64
                  " withdrawals, %" PRIu64 " cancels, %" PRIu64 " deaths, %" PRIu64
                  " notifications, %" PRIu64 " bytes\n",
                  sum->posts, sum->grants, sum->revokes, sum->withdrawals, sum->cancels,
                  sum->deaths, sum->notifications, sum->bytes);
    for (int i = 0; i < 64; i++)
        if (sum->ends[i] > 0)
            print_message("# %s: %" PRIu64 "\n", lend_status_name(-i), sum->ends[i]);
}

static void test_every_history_keeps_the_contract(void **state)
{
    bool is_replay = getenv("LEND_SEED") != NULL;
    const struct sim_options honest = {.is_told = is_replay};
    struct sim_report sum = {0}, report;
    uint64_t first = number_of("LEND_SEED", 0);
    uint64_t count = is_replay ? 1 : number_of("LEND_SEEDS", SEEDS);

    (void)state;
    for (uint64_t seed = first; seed < first + count; seed++) {
        sim_run(seed, &honest, &report);
        if (!report.is_good)
            fail_msg("LEND_SEED=%" PRIu64 ": %s", seed, report.why);
        add(&sum, &report);
    }
    tell(&sum);
    if (count < SEEDS)
        return;
    /* A simulation in which little happens shows little. */
    const int seen[] = {LEND_OK,        LEND_E_OUT_OF_RANGE, LEND_E_ACCESS, LEND_E_CONSUMED,
                        LEND_E_EXPIRED, LEND_E_REVOKED,      LEND_E_STALE,  LEND_E_PEER_DEAD,
                        LEND_E_TIMEOUT, LEND_E_CANCELED};
    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
        if (sum.ends[-seen[i]] < 20)
            fail_msg("only %" PRIu64 " transfers came to %s", sum.ends[-seen[i]],
                     lend_status_name(seen[i]));
    assert_true(sum.ends[LEND_OK] * 4 > sum.posts);
    assert_true(sum.revokes > count && sum.withdrawals > count / 2 && sum.cancels > count &&
                sum.deaths > count / 2);
}

static void test_a_seed_is_one_history(void **state)
{
    const struct sim_options honest = {0};
    struct sim_report one, again;
    uint64_t digests = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        sim_run(seed, &honest, &one);
        sim_run(seed, &honest, &again);
        assert_true(one.history == again.history);
        assert_int_equal(one.bytes, again.bytes);
        digests ^= one.history;
    }
    assert_true(digests != 0);
}

static void test_an_owner_that_rewrites_before_it_revokes_is_found_out(void **state)
{
    const struct sim_options breach = {.rewrites_too_early = true};
    struct sim_report report;
    int found = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200 && found == 0; seed++) {
        sim_run(seed, &breach, &report);
        found += !report.is_good;
    }
    assert_int_equal(found, 1);
    assert_non_null(strstr(report.why, "never covered"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_history_keeps_the_contract),
        cmocka_unit_test(test_a_seed_is_one_history),
        cmocka_unit_test(test_an_owner_that_rewrites_before_it_revokes_is_found_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
