/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever dies on one host, the other is told in bounded time, keeps what is right, and
 * holds nothing more; and whoever restarts is met anew. Method: 60 times (LEND_TIMES=17: more than
 * 1,000) a reader or an owner on the first host is killed, stopped, or replaced by exec at a random
 * moment of a running transfer, while one agent on the second survives them all (see acts/death.h).
 * Then an owner is killed and restarted 200 times under one name: each time the reader, who knows
 * the former ones until then, has an error of the dead one, imports its new incarnation, and reads
 * and writes every byte right; descriptors, threads, mappings and heap stay as they were.
 */
#include "acts/death.h"
#include "crossing.h"

enum { VICTIM, SURVIVOR }; /* the hosts */

enum { RESTARTS = 200, WARM = 10 };

static struct hosts hosts;

static bool go(bool is_victim)
{
    struct lend_error error = {0};

    return acts_ok(hosts_enter(&hosts, is_victim ? VICTIM : SURVIVOR, &error), &error,
                   "a host that is entered");
}

static void survive_between(const char *const *addresses)
{
    const struct death_plan plan = {
        .deaths = acts_count(30),
        .path = "tcp/served",
        .victim_address = addresses[VICTIM],
        .survivor_address = addresses[SURVIVOR],
        .go = go,
    };
    struct lend_error error = {0};
    enum lend_status status = hosts_open(&hosts, &error);

    if (status == LEND_E_ACCESS || status == LEND_E_ABSENT) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    assert_true(acts_ok(status, &error, "hosts"));
    death_run(&plan);
    assert_true(acts_ok(hosts_leave(&hosts, &error), &error, "the way back"));
    hosts_close(&hosts);
}

static void test_survivor_on_another_host_is_told_and_gets_its_memory_back(void **state)
{
    (void)state;
    survive_between(hosts_ipv4);
}

static void test_survivor_by_ipv6_is_told_and_gets_its_memory_back(void **state)
{
    char texts[HOSTS][64];
    const char *const addresses[HOSTS] = {texts[0], texts[1]};

    (void)state;
    for (int i = 0; i < HOSTS; i++)
        (void)snprintf(texts[i], sizeof texts[i], "[%s]", hosts_ipv6[i]);
    survive_between(addresses);
}

/* One transfer of all blocks; its status. */
static enum lend_status move(struct crossing *crossing, uint32_t direction,
                             struct lend_ticket *ticket, uint64_t generation)
{
    bool is_read = direction == LEND_READ;
    struct acts_region *from = is_read ? &crossing->theirs : &crossing->ours;
    struct acts_region *to = is_read ? &crossing->ours : &crossing->theirs;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};
    int32_t blocks[CROSSING_BLOCKS];

    memset(to->memory, 0, CROSSING_BYTES);
    for (int32_t i = 0; i < CROSSING_BLOCKS; i++) {
        blocks[i] = i;
        acts_fill(from->memory + (uint64_t)i * CROSSING_BLOCK, CROSSING_BLOCK, generation,
                  (uint64_t)i);
    }
    post.ticket = ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = CROSSING_BLOCKS;
    enum lend_status status = lend_transfer_post(crossing->transfers[direction - 1], &post, &error);
    if (status == LEND_OK)
        status = lend_transfer_wait(crossing->transfers[direction - 1], ACTS_PATIENCE_NS);
    for (uint64_t i = 0; status == LEND_OK && i < CROSSING_BLOCKS; i++)
        assert_true(acts_is(to->memory + i * CROSSING_BLOCK, CROSSING_BLOCK, generation, i));
    return status;
}

/* The owner of that life: meet it, use it, lose it. */
static void live_through(struct crossing *crossing, uint32_t life)
{
    crossing_meet(crossing);
    struct lend_ticket *ticket = crossing_grant(crossing, crossing->peer);

    assert_int_equal(move(crossing, LEND_READ, ticket, 2 * life), LEND_OK);
    assert_int_equal(move(crossing, LEND_WRITE, ticket, 2 * life + 1), LEND_OK);
    crossing_restart(crossing);
    /* What we know of it is of one that is no more. */
    assert_int_equal(move(crossing, LEND_READ, ticket, 2 * life), LEND_E_PEER_DEAD);
    lend_ticket_release(ticket);
    crossing_part(crossing);
}

static void test_restarted_owners_are_met_anew_and_leave_nothing(void **state)
{
    struct acts_holdings before = {0};
    struct crossing crossing;

    (void)state;
    crossing_open(&crossing, NULL, 0);
    crossing_begin(&crossing);
    for (uint32_t life = 1; life <= RESTARTS + WARM; life++) {
        live_through(&crossing, life);
        if (life == WARM)
            before = acts_holdings_now();
    }
    assert_true(acts_holdings_came_back(&before, 64 << 10));
    crossing_end(&crossing);
    crossing_close(&crossing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_survivor_on_another_host_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_survivor_by_ipv6_is_told_and_gets_its_memory_back),
        cmocka_unit_test(test_restarted_owners_are_met_anew_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
