/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a small transfer does not wait for large ones, of its own peer or of others; large ones
 * take turns; no stream of small ones keeps a large one out; and one peer's requests ask for no
 * more at one time than its quota.
 * Method: agents of one process under manual progress, stepped in turn, so that every run is the
 * same. What is counted is how many bytes the owner has served of the others meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <lend/lend.h>

#define MIB    (UINT64_C(1) << 20)
#define MINUTE UINT64_C(60000000000)

enum {
    CHUNK = 64 << 10, /* the most that one frame carries */
    BLOCKS = 16,      /* of a chunk each: a region is 1 MiB */
    READERS = 2,
    LARGE_COUNT = 20, /* more than requests_per_peer_max */
    STEPS_MAX = 1 << 20,
    RING = 512 << 10, /* local_ring_bytes: what one pump may send at most */
};

/* A lease of its own for every transfer: the owner counts the bytes of each. */
struct pull {
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint64_t before;
};

struct reader {
    struct lend_agent *agent;
    struct lend_peer *peer;
    struct lend_region *region;
};

struct world {
    uint32_t requests_max; /* of the agents' configuration */
    uint64_t bytes_max;
    struct lend_agent *owner;
    struct lend_region *region;
    uint64_t region_id;
    struct reader readers[READERS];
    char directory[32];
    uint8_t *memory[1 + READERS];
};

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static struct lend_agent *make_agent(struct world *world, const char *transport, const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = transport;
    config.local_directory = world->directory;
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    config.requests_per_peer_max = world->requests_max;
    config.bytes_per_peer_max = world->bytes_max;
    config.transfer_timeout_ns = MINUTE;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *make_region(struct lend_agent *agent, uint8_t *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_system(memory, BLOCKS * (uint64_t)CHUNK, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = CHUNK;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static struct world *open_world(const char *transport, uint32_t requests_max, uint64_t bytes_max)
{
    static const char *const names[READERS] = {"one", "other"};
    struct world *world = calloc(1, sizeof *world);
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t count = 0;

    assert_non_null(world);
    world->requests_max = requests_max;
    world->bytes_max = bytes_max;
    (void)snprintf(world->directory, sizeof world->directory, "/tmp/lend-fairness-XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    for (int i = 0; i < 1 + READERS; i++)
        assert_non_null(world->memory[i] = calloc(BLOCKS, CHUNK));
    world->owner = make_agent(world, transport, "owner");
    world->region = make_region(world->owner, world->memory[0]);
    world->region_id = lend_region_id(world->region);
    check(lend_metadata_export(world->owner, bytes, sizeof bytes, &count, &error), &error);
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &world->readers[i];

        reader->agent = make_agent(world, transport, names[i]);
        reader->region = make_region(reader->agent, world->memory[1 + i]);
        check(lend_peer_import(reader->agent, bytes, count, &reader->peer, &error), &error);
    }
    return world;
}

static void close_world(struct world *world)
{
    for (int i = 0; i < READERS; i++)
        lend_agent_destroy(world->readers[i].agent);
    lend_agent_destroy(world->owner);
    for (int i = 0; i < 1 + READERS; i++)
        free(world->memory[i]);
    assert_int_equal(rmdir(world->directory), 0);
    free(world);
}

static void step(struct world *world)
{
    (void)lend_agent_progress(world->owner, 0, NULL);
    for (int i = 0; i < READERS; i++)
        (void)lend_agent_progress(world->readers[i].agent, 0, NULL);
}

static uint64_t served(const struct pull *pull)
{
    struct lend_lease_info info = {.struct_size = sizeof info};

    assert_int_equal(lend_lease_describe(pull->lease, &info, NULL), LEND_OK);
    return info.bytes;
}

/* Post a transfer of so many bytes: the same blocks, over and over. */
static struct pull begin(struct world *world, int reader_index, uint32_t direction, uint64_t bytes)
{
    struct reader *reader = &world->readers[reader_index];
    struct lend_block_set set = {.regions = &world->region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    uint64_t count = bytes / CHUNK;
    int32_t *blocks = malloc(count * sizeof *blocks);
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    size_t ticket_bytes = 0;
    struct lend_error error = {0};
    struct pull pull = {0};

    assert_non_null(blocks);
    for (uint64_t i = 0; i < count; i++)
        blocks[i] = (int32_t)(i % BLOCKS);
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    grant.time_to_live_ns = 10 * MINUTE;
    check(lend_lease_grant(world->owner, &grant, &pull.lease, &error), &error);
    check(lend_ticket_export(pull.lease, ticket, sizeof ticket, &ticket_bytes, &error), &error);
    check(lend_ticket_import(reader->peer, ticket, ticket_bytes, &pull.ticket, &error), &error);

    desc.peer = reader->peer;
    desc.direction = direction;
    desc.local_regions = &reader->region;
    desc.remote_regions = &world->region_id;
    desc.region_count = 1;
    desc.block_count_max = count;
    check(lend_transfer_prepare(reader->agent, &desc, &pull.transfer, &error), &error);
    post.ticket = pull.ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = count;
    check(lend_transfer_post(pull.transfer, &post, &error), &error);
    free(blocks);
    return pull;
}

static bool is_over(const struct pull *pull)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};

    assert_int_equal(lend_transfer_describe(pull->transfer, &record, NULL), LEND_OK);
    assert_true(record.status == LEND_OK || record.status == LEND_PENDING);
    return record.status == LEND_OK;
}

static void await(struct world *world, const struct pull *pull)
{
    for (int left = STEPS_MAX; !is_over(pull); left--) {
        assert_true(left > 0);
        step(world);
    }
}

/* Let it begin, and be well under way. */
static void await_bytes(struct world *world, const struct pull *pull, uint64_t bytes)
{
    for (int left = STEPS_MAX; served(pull) < bytes; left--) {
        assert_true(left > 0);
        step(world);
    }
}

static void end(struct world *world, struct pull *pull)
{
    if (lend_transfer_test(pull->transfer) == LEND_PENDING)
        (void)lend_transfer_cancel(pull->transfer, 0);
    for (int left = STEPS_MAX; lend_transfer_test(pull->transfer) == LEND_PENDING; left--) {
        assert_true(left > 0);
        step(world);
    }
    assert_int_equal(lend_transfer_release(pull->transfer), LEND_OK);
    lend_ticket_release(pull->ticket);
    lend_lease_release(pull->lease);
}

/* How much of the others was served while a small one, posted now, came to its end. */
static uint64_t wait_of_small(struct world *world, int reader, uint32_t direction,
                              struct pull *others, int count)
{
    uint64_t total = 0;

    for (int i = 0; i < count; i++)
        others[i].before = served(&others[i]);
    struct pull small = begin(world, reader, direction, CHUNK);
    await(world, &small);
    for (int i = 0; i < count; i++) {
        assert_false(is_over(&others[i]));
        total += served(&others[i]) - others[i].before;
    }
    end(world, &small);
    return total;
}

static const char *const transports[] = {"loopback", "local"};

static void try_small_beside_large(int other, uint32_t large_direction, uint32_t small_direction)
{
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 0, 0);
        struct pull warm = begin(world, other, LEND_READ, CHUNK);
        struct pull large = begin(world, 0, large_direction, 256 * MIB);

        await(world, &warm);
        await_bytes(world, &large, 4 * MIB);
        /* What stands in the ring before it, and what goes into it meanwhile. */
        uint64_t waited = wait_of_small(world, other, small_direction, &large, 1);
        assert_in_range(waited, 0, RING);
        end(world, &warm);
        end(world, &large);
        close_world(world);
    }
}

static void test_small_read_passes_a_large_one_of_the_same_peer(void **state)
{
    (void)state;
    try_small_beside_large(0, LEND_READ, LEND_READ);
}

static void test_small_read_passes_a_large_one_of_another_peer(void **state)
{
    (void)state;
    try_small_beside_large(1, LEND_READ, LEND_READ);
}

static void test_small_write_passes_a_large_one_of_the_same_peer(void **state)
{
    (void)state;
    try_small_beside_large(0, LEND_WRITE, LEND_WRITE);
}

static void test_small_write_passes_a_large_one_of_another_peer(void **state)
{
    (void)state;
    try_small_beside_large(1, LEND_WRITE, LEND_WRITE);
}

static void test_small_read_passes_a_large_write_of_the_same_peer(void **state)
{
    (void)state;
    try_small_beside_large(0, LEND_WRITE, LEND_READ);
}

/* The large ones take all the slots that they may have, and more of them wait. */
static void test_small_read_passes_more_large_ones_than_there_are_slots(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 0, 0);
        struct pull large[LARGE_COUNT];

        for (int j = 0; j < LARGE_COUNT; j++)
            large[j] = begin(world, 0, LEND_READ, 256 * MIB);
        await_bytes(world, &large[0], MIB);
        uint64_t waited = wait_of_small(world, 0, LEND_READ, large, LARGE_COUNT);
        assert_in_range(waited, 0, 4 * RING);
        for (int j = 0; j < LARGE_COUNT; j++)
            end(world, &large[j]);
        close_world(world);
    }
}

/* One slot alone, that both want: each has a window, then the other. */
static void test_large_transfers_take_turns(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 1, 0);
        struct pull first = begin(world, 0, LEND_READ, 128 * MIB);
        struct pull second = begin(world, 0, LEND_READ, 128 * MIB);

        await(world, &first);
        assert_in_range(served(&second), 96 * MIB, 128 * MIB);
        assert_false(is_over(&second));
        await(world, &second);
        end(world, &first);
        end(world, &second);
        close_world(world);
    }
}

static void test_small_read_waits_for_one_window_where_there_is_one_slot(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 1, 0);
        struct pull large = begin(world, 0, LEND_READ, 256 * MIB);

        await_bytes(world, &large, MIB);
        uint64_t waited = wait_of_small(world, 0, LEND_READ, &large, 1);
        assert_in_range(waited, 1, 32 * MIB);
        end(world, &large);
        close_world(world);
    }
}

static void test_stream_of_small_reads_keeps_no_large_one_out(void **state)
{
    enum { STREAM = 4 };

    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 2, 0);
        struct pull stream[STREAM];
        int small_count = 0;

        for (int j = 0; j < STREAM; j++)
            stream[j] = begin(world, 0, LEND_READ, CHUNK);
        struct pull large = begin(world, 0, LEND_READ, 16 * MIB);
        for (; !is_over(&large) && small_count < STEPS_MAX; step(world))
            for (int j = 0; j < STREAM; j++)
                if (is_over(&stream[j])) {
                    end(world, &stream[j]);
                    stream[j] = begin(world, 0, LEND_READ, CHUNK);
                    small_count++;
                }
        assert_true(is_over(&large));
        /* It has 256 chunks, and each of its turns lets at most a few small ones pass. */
        assert_in_range(small_count, 1, 4 * 256);
        for (int j = 0; j < STREAM; j++)
            end(world, &stream[j]);
        end(world, &large);
        close_world(world);
    }
}

/* Quota for a window of 32 MiB, and a chunk. */
static void test_quota_counts_what_is_asked_for_at_one_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        struct world *world = open_world(transports[i], 0, 32 * MIB + CHUNK);
        struct pull large = begin(world, 0, LEND_READ, 256 * MIB);
        struct lend_error error = {0};
        enum lend_status status = LEND_PENDING;

        await_bytes(world, &large, MIB);
        struct pull small = begin(world, 0, LEND_READ, CHUNK);
        await(world, &small);
        struct pull over = begin(world, 0, LEND_READ, 2 * CHUNK);
        for (int left = STEPS_MAX; left > 0 && status == LEND_PENDING; left--) {
            step(world);
            status = lend_transfer_test(over.transfer);
        }
        assert_int_equal(status, LEND_E_LIMIT);
        struct lend_transfer_record record = {.struct_size = sizeof record};
        assert_int_equal(lend_transfer_describe(over.transfer, &record, &error), LEND_OK);
        assert_non_null(strstr(error.message, "one asks for 131072 bytes, and for 33554432 more"));
        /* Another peer has its own, and the first has it back when its request is over. */
        struct pull others = begin(world, 1, LEND_READ, 16 * MIB);
        await(world, &others);
        end(world, &large);
        struct pull later = begin(world, 0, LEND_READ, 16 * MIB);
        await(world, &later);
        end(world, &small);
        end(world, &over);
        end(world, &others);
        end(world, &later);
        close_world(world);
    }
}

/* Regions of more than a window, in blocks that divide no window evenly. */
enum { ODD_BLOCK = 12000, ODD_BLOCKS = 4000, ODD_REGIONS = 2 };

static struct lend_region *make_odd_region(struct lend_agent *agent, uint8_t **out_memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    *out_memory = calloc(ODD_BLOCKS, ODD_BLOCK);
    assert_non_null(*out_memory);
    check(lend_memory_system(*out_memory, (uint64_t)ODD_BLOCKS * ODD_BLOCK, &desc.memory, &error),
          &error);
    desc.geometry.block_length_bytes = ODD_BLOCK;
    desc.geometry.count = ODD_BLOCKS;
    desc.access = LEND_ACCESS_READ;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static void meet(struct world *world, struct reader *reader)
{
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t count = 0;

    check(lend_metadata_export(world->owner, bytes, sizeof bytes, &count, &error), &error);
    check(lend_peer_refresh(reader->peer, bytes, count, &error), &error);
}

/* Read all blocks, the second half of them first at the peer's side, of both regions. */
static void read_odd_regions(struct world *world, struct lend_region **theirs,
                             struct lend_region **ours)
{
    static int32_t here[ODD_BLOCKS], there[ODD_BLOCKS];
    struct reader *reader = &world->readers[0];
    struct lend_block_set set = {.regions = theirs, .region_count = ODD_REGIONS};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    const uint64_t ids[ODD_REGIONS] = {lend_region_id(theirs[0]), lend_region_id(theirs[1])};
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    size_t ticket_bytes = 0;
    struct lend_error error = {0};
    struct pull pull = {0};

    for (int32_t i = 0; i < ODD_BLOCKS; i++) {
        here[i] = i;
        there[i] = (i + ODD_BLOCKS / 2) % ODD_BLOCKS;
    }
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = MINUTE;
    check(lend_lease_grant(world->owner, &grant, &pull.lease, &error), &error);
    check(lend_ticket_export(pull.lease, ticket, sizeof ticket, &ticket_bytes, &error), &error);
    check(lend_ticket_import(reader->peer, ticket, ticket_bytes, &pull.ticket, &error), &error);
    desc.peer = reader->peer;
    desc.direction = LEND_READ;
    desc.local_regions = ours;
    desc.remote_regions = ids;
    desc.region_count = ODD_REGIONS;
    desc.block_count_max = ODD_BLOCKS;
    check(lend_transfer_prepare(reader->agent, &desc, &pull.transfer, &error), &error);
    post.ticket = pull.ticket;
    post.local_blocks = here;
    post.remote_blocks = there;
    post.block_count = ODD_BLOCKS;
    check(lend_transfer_post(pull.transfer, &post, &error), &error);
    await(world, &pull);
    end(world, &pull);
}

static void test_transfer_of_many_windows_moves_every_byte(void **state)
{
    struct world *world = open_world("loopback", 0, 0);
    struct lend_region *theirs[ODD_REGIONS], *ours[ODD_REGIONS];
    uint8_t *from[ODD_REGIONS], *to[ODD_REGIONS];
    const size_t half = (size_t)ODD_BLOCKS / 2 * ODD_BLOCK;

    (void)state;
    for (int i = 0; i < ODD_REGIONS; i++) {
        theirs[i] = make_odd_region(world->owner, &from[i]);
        ours[i] = make_odd_region(world->readers[0].agent, &to[i]);
        for (size_t j = 0; j < 2 * half; j += 4) {
            uint32_t value = (uint32_t)(j / 4 * 2654435761u + (size_t)i);

            memcpy(from[i] + j, &value, sizeof value);
        }
    }
    meet(world, &world->readers[0]);
    read_odd_regions(world, theirs, ours);
    for (int i = 0; i < ODD_REGIONS; i++) {
        assert_true(memcmp(to[i], from[i] + half, half) == 0);
        assert_true(memcmp(to[i] + half, from[i], half) == 0);
    }
    close_world(world);
    for (int i = 0; i < ODD_REGIONS; i++) {
        free(from[i]);
        free(to[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_read_passes_a_large_one_of_the_same_peer),
        cmocka_unit_test(test_small_read_passes_a_large_one_of_another_peer),
        cmocka_unit_test(test_small_write_passes_a_large_one_of_the_same_peer),
        cmocka_unit_test(test_small_write_passes_a_large_one_of_another_peer),
        cmocka_unit_test(test_small_read_passes_a_large_write_of_the_same_peer),
        cmocka_unit_test(test_small_read_passes_more_large_ones_than_there_are_slots),
        cmocka_unit_test(test_large_transfers_take_turns),
        cmocka_unit_test(test_small_read_waits_for_one_window_where_there_is_one_slot),
        cmocka_unit_test(test_quota_counts_what_is_asked_for_at_one_time),
        cmocka_unit_test(test_transfer_of_many_windows_moves_every_byte),
        cmocka_unit_test(test_stream_of_small_reads_keeps_no_large_one_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
