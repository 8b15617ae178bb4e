/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent of lend and a plain NIXL program move bytes both ways, whoever begins, and notify
 * each other; what each promise of lend becomes on that path is what docs/nixl-transport.md says.
 * Method: NVIDIA's own library (LEND_TEST_NIXL names its file) in two processes: this one has lend,
 * the other one NIXL alone (nixl/agent.c). Every byte is compared.
 */
#include "nixl/agent.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

enum { BLOCK = 4096, BLOCKS = 512, BYTES = BLOCK * BLOCKS, SKIPPED = 77 };
#define SECOND UINT64_C(1000000000)

struct world {
    struct nixl_agent them;
    struct lend_agent *us;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_region *region; /* ours, of BYTES */
    uint8_t *memory;
    uint64_t their_address;
    char name[64];
};

static struct nixl_order order;
static struct nixl_answer answer;

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static int say(struct world *world, uint32_t verb)
{
    order.verb = verb;
    assert_int_equal(nixl_agent_tell(&world->them, &order, &answer), 0);
    return answer.result;
}

static struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = "nixl";
    config.nixl_devices = "lo";
    config.nixl_library = getenv("LEND_TEST_NIXL");
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.connect_timeout_ns = 20 * SECOND;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *add_region(struct lend_agent *agent, void *memory, uint32_t flags)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_system(memory, BYTES, &desc.memory, &error), &error);
    desc.flags = flags;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static void import_peer(struct world *world, uint64_t length)
{
    struct lend_nixl_peer_desc desc = LEND_NIXL_PEER_DESC_INIT;
    struct lend_region_desc region = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    assert_int_equal(say(world, NIXL_ADDRESS), 0);
    world->their_address = answer.address;
    check(lend_memory_system((void *)(uintptr_t)answer.address, length, &region.memory, &error),
          &error);
    region.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    region.geometry.block_length_bytes = BLOCK;
    region.geometry.count = length / BLOCK;
    region.name = "theirs";
    assert_int_equal(say(world, NIXL_TELL), 0);
    desc.bytes = answer.bytes;
    desc.byte_count = answer.byte_count;
    desc.regions = &region;
    desc.region_count = 1;
    check(lend_nixl_peer_import(world->us, &desc, &world->peer, &error), &error);
    check(lend_nixl_ticket(world->peer, LEND_NIXL_ACCEPT_UNFENCED, &world->ticket, &error), &error);
}

static void give_metadata(struct world *world)
{
    struct lend_error error = {0};
    size_t count = 0;

    check(lend_nixl_metadata_export(world->us, order.bytes, sizeof order.bytes, &count, &error),
          &error);
    order.byte_count = (uint32_t)count;
    assert_int_equal(say(world, NIXL_LOAD), 0);
    assert_int_equal(answer.byte_count, strlen(lend_agent_name(world->us)));
    assert_memory_equal(answer.bytes, lend_agent_name(world->us), answer.byte_count);
}

/* A fresh pair of names for each test, so that none can hear of another's. */
static int set_up(void **state)
{
    static unsigned count;
    struct world *world = calloc(1, sizeof *world);
    char name[64];

    *state = world;
    (void)snprintf(world->name, sizeof world->name, "plain-%u", ++count);
    if (nixl_agent_begin(&world->them, getenv("LEND_TEST_NIXL"), world->name) != 0)
        return -1;
    (void)snprintf(name, sizeof name, "lend-%u", count);
    world->us = make_agent(name);
    world->memory = calloc(1, BYTES);
    return world->memory == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    lend_agent_destroy(world->us);
    nixl_agent_end(&world->them, 0);
    free(world->memory);
    free(world);
    return 0;
}

static struct lend_transfer *prepare(struct world *world, uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    uint64_t remote = 0;

    check(lend_peer_region(world->peer, "theirs", &remote, &error), &error);
    desc.direction = direction;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->region;
    desc.remote_regions = &remote;
    desc.block_count_max = BLOCKS;
    desc.paths = "nixl/unfenced";
    check(lend_transfer_prepare(world->us, &desc, &transfer, &error), &error);
    return transfer;
}

/* Their block 7 * i is our block i, so that few blocks touch on their side. */
static void fill_blocks(int32_t *local, int32_t *remote)
{
    for (int32_t i = 0; i < BLOCKS; i++) {
        local[i] = i;
        remote[i] = i * 7 % BLOCKS;
    }
}

static enum lend_status run(struct lend_transfer *transfer, struct world *world,
                            struct lend_transfer_record *record, struct lend_error *why)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    int32_t local[BLOCKS], remote[BLOCKS];
    struct lend_error error = {0};

    fill_blocks(local, remote);
    desc.ticket = world->ticket;
    desc.local_blocks = local;
    desc.remote_blocks = remote;
    desc.block_count = BLOCKS;
    desc.timeout_ns = 20 * SECOND;
    check(lend_transfer_post(transfer, &desc, &error), &error);
    enum lend_status status = lend_transfer_wait(transfer, 25 * SECOND);
    record->struct_size = sizeof *record;
    check(lend_transfer_describe(transfer, record, why), &error);
    return status;
}

static void test_lend_reads_a_nixl_agents_memory(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {0};
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    order.address = 5;
    assert_int_equal(say(world, NIXL_FILL), 0);
    import_peer(world, BYTES);
    struct lend_transfer *transfer = prepare(world, LEND_READ);
    if (run(transfer, world, &record, &error) != LEND_OK)
        fail_msg("%s", error.message);
    assert_string_equal(record.path, "nixl/unfenced");
    assert_int_equal(record.bytes, BYTES);
    assert_int_equal(record.blocks, BLOCKS);
    for (uint64_t i = 0; i < BYTES; i++)
        if (world->memory[i] != nixl_pattern(5, i / BLOCK * 7 % BLOCKS * BLOCK + i % BLOCK))
            fail_msg("byte %llu", (unsigned long long)i);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
}

static void test_lend_writes_a_nixl_agents_memory(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {0};
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    for (uint64_t i = 0; i < BYTES; i++)
        world->memory[i] = nixl_pattern(9, i);
    import_peer(world, BYTES);
    struct lend_transfer *transfer = prepare(world, LEND_WRITE);
    if (run(transfer, world, &record, &error) != LEND_OK)
        fail_msg("%s", error.message);
    assert_int_equal(record.bytes, BYTES);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        order.offset = block * 7 % BLOCKS * BLOCK;
        order.length = BLOCK;
        assert_int_equal(say(world, NIXL_SHOW), 0);
        assert_memory_equal(answer.bytes, world->memory + block * BLOCK, BLOCK);
    }
    order.offset = BYTES; /* and nothing beyond */
    assert_int_equal(say(world, NIXL_SHOW), 0);
    for (size_t i = 0; i < BLOCK; i++)
        assert_int_equal(answer.bytes[i], 0);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
}

static void test_a_nixl_agent_reads_and_writes_lends_memory(void **state)
{
    struct world *world = *state;

    for (uint64_t i = 0; i < BYTES; i++)
        world->memory[i] = nixl_pattern(3, i);
    world->region = add_region(world->us, world->memory, LEND_REGION_ALLOW_UNFENCED);
    give_metadata(world);
    order.address = (uintptr_t)world->memory + 4096;
    order.offset = 0;
    order.length = BYTES / 2;
    assert_int_equal(say(world, NIXL_READ), 0);
    for (uint64_t at = 0; at < BYTES / 2; at += 32768) {
        order.offset = at;
        order.length = 32768;
        assert_int_equal(say(world, NIXL_SHOW), 0);
        assert_memory_equal(answer.bytes, world->memory + 4096 + at, 32768);
    }
    order.address = 11;
    assert_int_equal(say(world, NIXL_FILL), 0);
    order.address = (uintptr_t)world->memory + 512;
    order.offset = 1000;
    order.length = 300000;
    assert_int_equal(say(world, NIXL_WRITE), 0);
    for (uint64_t i = 0; i < BYTES; i++) {
        uint8_t wanted =
            i >= 512 && i < 300512 ? nixl_pattern(11, 1000 + i - 512) : nixl_pattern(3, i);
        if (world->memory[i] != wanted)
            fail_msg("byte %llu", (unsigned long long)i);
    }
}

static void test_notifications_go_both_ways(void **state)
{
    struct world *world = *state;
    struct lend_notification_info info = {.struct_size = sizeof info};
    struct lend_peer_info theirs = {.struct_size = sizeof theirs};
    struct lend_error error = {0};
    uint8_t bytes[64];
    size_t count = 0;

    import_peer(world, BYTES);
    give_metadata(world);
    check(lend_notification_send(world->peer, "from lend", 9, &error), &error);
    assert_int_equal(say(world, NIXL_AWAIT), 0);
    assert_string_equal((char *)answer.bytes, lend_agent_name(world->us));
    size_t head = strlen((char *)answer.bytes) + 1;
    assert_int_equal(answer.byte_count, head + 9);
    assert_memory_equal(answer.bytes + head, "from lend", 9);

    memcpy(order.bytes, "from NIXL", 9);
    order.byte_count = 9;
    assert_int_equal(say(world, NIXL_NOTIFY), 0);
    check(lend_notification_receive(world->us, bytes, sizeof bytes, &count, &info, 20 * SECOND,
                                    &error),
          &error);
    assert_int_equal(count, 9);
    assert_memory_equal(bytes, "from NIXL", 9);
    assert_string_equal(info.peer, world->name);
    check(lend_peer_describe(world->peer, &theirs, &error), &error);
    assert_memory_equal(info.incarnation, theirs.incarnation, LEND_INCARNATION_BYTES);
}

static void test_a_transfers_notification_comes_behind_its_bytes(void **state)
{
    struct world *world = *state;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    memset(world->memory, 0x5a, BYTES);
    import_peer(world, BYTES);
    desc.direction = LEND_WRITE;
    desc.peer = world->peer;
    desc.block_count_max = 4;
    check(lend_transfer_prepare(world->us, &desc, &transfer, &error), &error);
    const struct lend_range from[] = {{(uintptr_t)world->memory + 3, 17},
                                      {(uintptr_t)world->memory + 100, BYTES - 200}};
    const struct lend_range to[] = {{world->their_address + 1, 17},
                                    {world->their_address + 64, BYTES - 200}};
    post.ticket = world->ticket;
    post.local_ranges = from;
    post.remote_ranges = to;
    post.range_count = 2;
    post.notification = "written";
    post.notification_bytes = 7;
    check(lend_transfer_post(transfer, &post, &error), &error);
    assert_int_equal(say(world, NIXL_AWAIT), 0);
    assert_memory_equal(answer.bytes + strlen((char *)answer.bytes) + 1, "written", 7);
    order.offset = BYTES - 200;
    order.length = 200;
    assert_int_equal(say(world, NIXL_SHOW), 0);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(answer.bytes[i], i < 64 ? 0x5a : 0);
    assert_int_equal(lend_transfer_wait(transfer, 20 * SECOND), LEND_OK);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
}

static void test_the_path_is_explained_as_unfenced_and_needs_consent(void **state)
{
    struct world *world = *state;
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    uint32_t count = 0;

    import_peer(world, BYTES);
    assert_int_equal(lend_nixl_ticket(world->peer, 0, &ticket, &error), LEND_E_ACCESS);
    assert_non_null(strstr(error.message, "LEND_NIXL_ACCEPT_UNFENCED"));
    check(lend_explain(world->peer, NULL, 1, LEND_READ, infos, LEND_PATHS_MAX, &count, &error),
          &error);
    assert_int_equal(count, 1);
    assert_string_equal(infos[0].name, "nixl/unfenced");
    assert_int_equal(infos[0].status, LEND_OK);
    assert_int_equal(infos[0].is_fenced, 0);
}

static void test_memory_that_the_peer_has_not_is_out_of_range(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {0};
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    import_peer(world, (uint64_t)NIXL_MEMORY_BYTES + BYTES);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    desc.direction = LEND_READ;
    desc.peer = world->peer;
    desc.block_count_max = 1;
    check(lend_transfer_prepare(world->us, &desc, &transfer, &error), &error);
    const struct lend_range to = {(uintptr_t)world->memory, 4096};
    const struct lend_range from = {world->their_address + NIXL_MEMORY_BYTES - 100, 4096};
    post.ticket = world->ticket;
    post.local_ranges = &to;
    post.remote_ranges = &from;
    post.range_count = 1;
    check(lend_transfer_post(transfer, &post, &error), &error);
    assert_int_equal(lend_transfer_wait(transfer, 20 * SECOND), LEND_E_OUT_OF_RANGE);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);

    /* And the connection is as good as before. */
    transfer = prepare(world, LEND_READ);
    if (run(transfer, world, &record, &error) != LEND_OK)
        fail_msg("%s", error.message);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
}

static void test_withdraw_says_what_nixl_cannot_do_and_force_ends_it(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, LEND_REGION_ALLOW_UNFENCED);
    assert_int_equal(lend_region_suspend(world->region, LEND_WITHDRAW_FORCE, SECOND, &error),
                     LEND_E_UNSUPPORTED);
    give_metadata(world);
    order.address = (uintptr_t)world->memory;
    order.offset = 0;
    order.length = 4096;
    assert_int_equal(say(world, NIXL_WRITE), 0);
    assert_int_equal(lend_region_withdraw(world->region, LEND_WITHDRAW_DRAIN, SECOND / 10, &error),
                     LEND_E_BUSY);
    assert_non_null(strstr(error.message, "NIXL"));
    assert_int_equal(lend_region_deregister(world->region, &error), LEND_E_BUSY);
    check(lend_region_withdraw(world->region, LEND_WITHDRAW_FORCE, 20 * SECOND, &error), &error);

    /* The other one believes that it may still write: nothing lands. */
    memset(world->memory, 0x77, BYTES);
    order.address = 1;
    assert_int_equal(say(world, NIXL_FILL), 0);
    order.address = (uintptr_t)world->memory;
    assert_int_not_equal(say(world, NIXL_WRITE), 0);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->memory[i], 0x77);
    check(lend_region_deregister(world->region, &error), &error);

    /* And it goes on with new metadata. */
    world->region = add_region(world->us, world->memory, LEND_REGION_ALLOW_UNFENCED);
    (void)say(world, NIXL_FORGET);
    give_metadata(world);
    order.address = (uintptr_t)world->memory;
    order.length = 4096;
    assert_int_equal(say(world, NIXL_WRITE), 0);
    assert_int_equal(world->memory[5], nixl_pattern(1, 5));
}

static void test_nothing_lands_after_a_withdrawal_under_a_storm_of_writes(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, LEND_REGION_ALLOW_UNFENCED);
    give_metadata(world);
    order.address = 6;
    assert_int_equal(say(world, NIXL_FILL), 0);
    order.verb = NIXL_STORM;
    order.address = (uintptr_t)world->memory;
    order.offset = 1;
    order.length = BYTES;
    assert_int_equal(nixl_agent_order(&world->them, &order), 0);
    while (((volatile uint8_t *)world->memory)[BYTES - 1] != nixl_pattern(6, BYTES))
        ; /* it rages */
    check(lend_region_withdraw(world->region, LEND_WITHDRAW_FORCE, 20 * SECOND, &error), &error);
    memset(world->memory, 0x77, BYTES);
    assert_int_equal(nixl_agent_answer(&world->them, &answer), 0);
    assert_int_not_equal(answer.result, 0);
    for (size_t i = 0; i < BYTES; i++)
        if (world->memory[i] != 0x77)
            fail_msg("byte %zu", i);
}

static void test_a_stopped_peer_holds_up_neither_cancel_nor_the_agents_end(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {0};
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    import_peer(world, BYTES);
    struct lend_transfer *transfer = prepare(world, LEND_READ);
    assert_int_equal(run(transfer, world, &record, &error), LEND_OK);
    assert_int_equal(kill(world->them.pid, SIGSTOP), 0);
    memset(world->memory, 0x77, BYTES);
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    int32_t local[BLOCKS], remote[BLOCKS];
    fill_blocks(local, remote);
    desc.ticket = world->ticket;
    desc.local_blocks = local;
    desc.remote_blocks = remote;
    desc.block_count = BLOCKS;
    check(lend_transfer_post(transfer, &desc, &error), &error);
    assert_int_equal(lend_transfer_wait(transfer, SECOND / 10), LEND_PENDING);
    assert_int_equal(lend_transfer_cancel(transfer, 20 * SECOND), LEND_E_CANCELED);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    check(lend_region_withdraw(world->region, LEND_WITHDRAW_FORCE, 20 * SECOND, &error), &error);
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    lend_agent_destroy(world->us);
    assert_int_equal(kill(world->them.pid, SIGCONT), 0);
    world->us = NULL;
    world->peer = NULL;
    world->ticket = NULL;
}

static void test_memory_that_nobody_was_told_of_is_withdrawn_at_once(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, LEND_REGION_ALLOW_UNFENCED);
    check(lend_region_withdraw(world->region, LEND_WITHDRAW_DRAIN, 20 * SECOND, &error), &error);
    check(lend_region_deregister(world->region, &error), &error);
}

static void test_a_peer_that_is_killed_is_a_dead_one_and_its_successor_another(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {0};
    struct lend_error error = {0};

    world->region = add_region(world->us, world->memory, 0);
    import_peer(world, BYTES);
    struct lend_transfer *transfer = prepare(world, LEND_READ);
    assert_int_equal(run(transfer, world, &record, &error), LEND_OK);
    nixl_agent_end(&world->them, SIGKILL);
    enum lend_status status = run(transfer, world, &record, &error);
    if (status != LEND_E_PEER_DEAD && status != LEND_E_TIMEOUT)
        fail_msg("%s: %s", lend_status_name(status), error.message);
    assert_int_equal(lend_transfer_cancel(transfer, 20 * SECOND), status);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);

    assert_int_equal(nixl_agent_begin(&world->them, getenv("LEND_TEST_NIXL"), world->name), 0);
    order.address = 2;
    assert_int_equal(say(world, NIXL_FILL), 0);
    import_peer(world, BYTES);
    transfer = prepare(world, LEND_READ);
    if (run(transfer, world, &record, &error) != LEND_OK)
        fail_msg("%s", error.message);
    assert_int_equal(world->memory[1], nixl_pattern(2, 1));
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
}

static void test_damaged_metadata_is_refused(void **state)
{
    struct world *world = *state;
    struct lend_nixl_peer_desc desc = LEND_NIXL_PEER_DESC_INIT;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};

    desc.bytes = "no metadata of NIXL's";
    desc.byte_count = 21;
    assert_int_equal(lend_nixl_peer_import(world->us, &desc, &peer, &error), LEND_E_CORRUPT);
    assert_null(peer);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        EACH(test_lend_reads_a_nixl_agents_memory),
        EACH(test_lend_writes_a_nixl_agents_memory),
        EACH(test_a_nixl_agent_reads_and_writes_lends_memory),
        EACH(test_notifications_go_both_ways),
        EACH(test_a_transfers_notification_comes_behind_its_bytes),
        EACH(test_the_path_is_explained_as_unfenced_and_needs_consent),
        EACH(test_memory_that_the_peer_has_not_is_out_of_range),
        EACH(test_withdraw_says_what_nixl_cannot_do_and_force_ends_it),
        EACH(test_nothing_lands_after_a_withdrawal_under_a_storm_of_writes),
        EACH(test_a_stopped_peer_holds_up_neither_cancel_nor_the_agents_end),
        EACH(test_memory_that_nobody_was_told_of_is_withdrawn_at_once),
        EACH(test_a_peer_that_is_killed_is_a_dead_one_and_its_successor_another),
        EACH(test_damaged_metadata_is_refused),
    };

    (void)setenv("UCX_LOG_LEVEL", "fatal",
                 0); /* what is asked for here they would tell by the page */
    (void)setenv("NIXL_LOG_LEVEL", "FATAL", 0);
    /* Or a libnl-route in the wheels crashes when the process ends, with lend or without it. */
    (void)setenv("UCX_MODULES", "^ib", 0);
    if (argc == 4 && strcmp(argv[1], NIXL_AGENT_WORD) == 0) {
        nixl_agent_serve(argv[2], argv[3]);
        return 0;
    }
    if (getenv("LEND_TEST_NIXL") == NULL || getenv("LEND_TEST_NIXL")[0] == '\0') {
        print_message(
            "SKIP: LEND_TEST_NIXL names no libnixl_capi.so of NVIDIA's; make test-nixl fetches "
            "its wheel\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
