/* SPDX-License-Identifier: Apache-2.0 */
#include "hostile.h"

#include "base/sys.h"
#include "wire/metadata.h"
#include "wire/ticket.h"

#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* What hostile peers are played against. */

enum {
    HEAP_SLACK_BYTES = 8 << 20,
    UCX_POOLS_MAX = 2, /* each agent's */
    PEERS_MAX = 16,
};

/* --- time, chance, resources --- */

uint64_t wall_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = -3; /* itself, and the two dots */

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

size_t count_heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

uint64_t chance_next(struct chance *chance)
{
    chance->state ^= chance->state << 13;
    chance->state ^= chance->state >> 7;
    chance->state ^= chance->state << 17;
    return chance->state;
}

uint64_t chance_below(struct chance *chance, uint64_t bound)
{
    return (chance_next(chance) >> 11) % bound;
}

struct chance chance_begin(const char *test)
{
    struct chance chance = {.state = from_environment("LEND_SEED", wall_ns() | 1)};

    print_message("%s: LEND_SEED=%llu\n", test, (unsigned long long)chance.state);
    return chance;
}

uint64_t chance_number(void)
{
    uint64_t number;

    assert_int_equal(lend_sys->random(&number, sizeof number), 0);
    return number;
}

uint64_t scaled(uint64_t count)
{
    uint64_t divided = count / from_environment("LEND_SCALE", 1);

    return divided > 0 ? divided : 1;
}

/* --- the owner --- */

static void *map_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

static struct lend_agent *make_agent(const struct stage *stage, const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;

    config.name = name;
    config.transports = over_what();
    config.ucx_devices = over_ucx ? "lo" : NULL;
    config.ucx_transports = over_ucx ? "tcp" : NULL;
    config.listen = over_tcp ? "127.0.0.1" : NULL;
    config.local_directory = stage->directory;
    config.peers_max = PEERS_MAX;
    config.requests_per_peer_max = REQUESTS_MAX;
    config.notification_window_bytes = WINDOW_BYTES;
    config.local_ring_bytes = RING_BYTES;
    config.connect_timeout_ns = GREETING;
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    return agent;
}

static struct lend_region *lend_bytes(struct lend_agent *agent, void *memory, uint64_t bytes,
                                      struct lend_geometry geometry)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, bytes, &desc.memory, NULL), LEND_OK);
    desc.geometry = geometry;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

static void make_owner(struct stage *stage)
{
    const struct lend_geometry blocks = {.block_length_bytes = BLOCK_BYTES, .count = KV_BLOCKS};
    const struct lend_geometry gaps = {
        .block_length_bytes = GAP_BLOCK_BYTES, .stride_bytes = GAP_STRIDE, .count = GAP_BLOCKS};

    stage->arena = map_memory(ARENA_BYTES);
    stage->shadow = map_memory(ARENA_BYTES);
    for (size_t i = 0; i < ARENA_BYTES; i++)
        stage->arena[i] = (uint8_t)(i * 31 + (i >> 12) * 17 + 5);
    memcpy(stage->shadow, stage->arena, ARENA_BYTES);
    stage->kv_memory = stage->arena + GUARD_BYTES;
    stage->gaps_memory = stage->kv_memory + KV_BYTES + GUARD_BYTES;
    stage->closed_memory = stage->gaps_memory + GAP_BYTES + GUARD_BYTES;

    stage->owner = make_agent(stage, "owner");
    stage->kv = lend_bytes(stage->owner, stage->kv_memory, KV_BYTES, blocks);
    stage->gaps = lend_bytes(stage->owner, stage->gaps_memory, GAP_BYTES, gaps);
    stage->closed =
        lend_bytes(stage->owner, stage->closed_memory, CLOSED_BYTES, (struct lend_geometry){0});
    stage->kv_id = lend_region_id(stage->kv);
    stage->gaps_id = lend_region_id(stage->gaps);
    stage->closed_id = lend_region_id(stage->closed);
    lend_agent_incarnation(stage->owner, stage->incarnation);
}

static struct lend_lease *grant(struct stage *stage, struct lend_region *region, uint32_t access,
                                uint64_t first, uint64_t count)
{
    struct lend_block_set set = {
        .regions = &region, .region_count = 1, .first = first, .count = count};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;

    desc.access = access;
    desc.sets = &set;
    desc.set_count = 1;
    desc.time_to_live_ns = 3600000 * MS;
    desc.consumer_count = region == stage->closed ? 1 : 0;
    assert_int_equal(lend_lease_grant(stage->owner, &desc, &lease, NULL), LEND_OK);
    return lease;
}

static struct lend_lease_name name_of(const struct lend_lease *lease)
{
    struct lend_ticket_bytes ticket;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count;

    assert_int_equal(lend_ticket_export(lease, bytes, sizeof bytes, &count, NULL), LEND_OK);
    assert_int_equal(lend_ticket_decode(bytes, count, &ticket, NULL), LEND_OK);
    return ticket.lease;
}

static struct lend_ticket *hand_over(struct stage *stage, const struct lend_lease *lease)
{
    struct lend_ticket *ticket = NULL;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count;

    assert_int_equal(lend_ticket_export(lease, bytes, sizeof bytes, &count, NULL), LEND_OK);
    assert_int_equal(lend_ticket_import(stage->peer, bytes, count, &ticket, NULL), LEND_OK);
    return ticket;
}

static void lend_to_hostile(struct stage *stage)
{
    stage->leases[0] = grant(stage, stage->kv, LEND_ACCESS_READ, 0, QUARTER);
    stage->leases[1] = grant(stage, stage->kv, LEND_ACCESS_WRITE, QUARTER, QUARTER);
    stage->leases[2] = grant(stage, stage->gaps, LEND_ACCESS_READ, 0, GAP_BLOCKS - 4);
    stage->reading = name_of(stage->leases[0]);
    stage->writing = name_of(stage->leases[1]);
    stage->gapped = name_of(stage->leases[2]);
}

/* --- the honest peer --- */

static struct lend_transfer *prepare(struct stage *stage, uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;

    desc.direction = direction;
    desc.peer = stage->peer;
    desc.region_count = 1;
    desc.local_regions = &stage->kept;
    desc.remote_regions = &stage->kv_id;
    desc.block_count_max = HONEST_BLOCKS;
    assert_int_equal(lend_transfer_prepare(stage->honest, &desc, &transfer, NULL), LEND_OK);
    return transfer;
}

static void find_place(struct stage *stage, const uint8_t *bytes, size_t count)
{
    struct lend_metadata *metadata = NULL;

    assert_int_equal(lend_metadata_decode(bytes, count, &metadata, NULL), LEND_OK);
    assert_int_equal(metadata->transport_count, 1);
    const uint8_t *address = metadata->transports[0].address;
    uint32_t address_bytes = metadata->transports[0].address_bytes;
    struct lend_tcp_places places = {.count = 0};
    if (over_ucx) {
        memcpy(stage->ucx_address, address, address_bytes);
        stage->ucx_address_bytes = address_bytes;
    } else if (over_tcp) {
        assert_true(lend_tcp_places_decode(&places, address, address_bytes));
        stage->tcp_place = places.places[0];
    } else {
        assert_true(lend_local_place_decode(&stage->place, address, address_bytes));
    }
    lend_sys->release(metadata);
}

static void make_honest(struct stage *stage)
{
    const struct lend_geometry blocks = {.block_length_bytes = BLOCK_BYTES,
                                         .count = 2 * HONEST_BLOCKS};
    const uint32_t both = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    uint8_t bytes[4096];
    size_t count;

    stage->honest = make_agent(stage, "honest");
    stage->kept_memory = map_memory(2 * HONEST_BLOCKS * BLOCK_BYTES);
    stage->kept =
        lend_bytes(stage->honest, stage->kept_memory, 2 * HONEST_BLOCKS * BLOCK_BYTES, blocks);
    assert_int_equal(lend_metadata_export(stage->owner, bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    find_place(stage, bytes, count);
    assert_int_equal(lend_peer_import(stage->honest, bytes, count, &stage->peer, NULL), LEND_OK);

    struct lend_lease *lease = grant(stage, stage->kv, both, 2 * QUARTER, 2 * QUARTER);
    stage->read_ticket = hand_over(stage, lease);
    stage->write_ticket = hand_over(stage, lease);
    lend_lease_release(lease);
    stage->leases[3] = grant(stage, stage->closed, LEND_ACCESS_READ, 0, 1);
    stage->counted = name_of(stage->leases[3]);
    stage->counted_ticket = hand_over(stage, stage->leases[3]);
    stage->reads = prepare(stage, LEND_READ);
    stage->writes = prepare(stage, LEND_WRITE);
}

static void move(struct stage *stage, struct lend_transfer *transfer, struct lend_ticket *ticket,
                 uint32_t there, uint32_t here)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    int32_t local[HONEST_BLOCKS], remote[HONEST_BLOCKS];

    for (uint32_t i = 0; i < HONEST_BLOCKS; i++) {
        local[i] = (int32_t)(here + i);
        remote[i] = (int32_t)(there + (i * 5 + stage->rounds) % QUARTER);
    }
    desc.ticket = ticket;
    desc.local_blocks = local;
    desc.remote_blocks = remote;
    desc.block_count = HONEST_BLOCKS;
    desc.timeout_ns = PATIENCE;
    assert_int_equal(lend_transfer_post(transfer, &desc, NULL), LEND_OK);
    assert_int_equal(lend_transfer_wait(transfer, 2 * PATIENCE), LEND_OK);
    for (uint32_t i = 0; i < HONEST_BLOCKS; i++) {
        uint64_t at = (uint64_t)remote[i] * BLOCK_BYTES;
        uint8_t *ours = stage->kept_memory + (uint64_t)local[i] * BLOCK_BYTES;

        if (there == 3 * QUARTER) /* a write: that is what the arena holds from now on */
            memcpy(stage->shadow + GUARD_BYTES + at, ours, BLOCK_BYTES);
        assert_memory_equal(stage->kv_memory + at, ours, BLOCK_BYTES);
    }
}

uint64_t honest_round(struct stage *stage)
{
    uint64_t began = wall_ns();

    stage->rounds++;
    memset(stage->kept_memory, 0, HONEST_BLOCKS * BLOCK_BYTES);
    for (size_t i = 0; i < HONEST_BLOCKS * BLOCK_BYTES; i++)
        stage->kept_memory[HONEST_BLOCKS * BLOCK_BYTES + i] = (uint8_t)(i * 3 + stage->rounds);
    move(stage, stage->reads, stage->read_ticket, 2 * QUARTER, 0);
    move(stage, stage->writes, stage->write_ticket, 3 * QUARTER, HONEST_BLOCKS);
    return wall_ns() - began;
}

/* --- looking at it --- */

bool is_all(const uint8_t *bytes, size_t count, uint8_t value)
{
    return bytes[0] == value && memcmp(bytes, bytes + 1, count - 1) == 0;
}

void check_stage(struct stage *stage)
{
    const size_t writable = GUARD_BYTES + QUARTER * BLOCK_BYTES;
    const size_t behind = writable + QUARTER * BLOCK_BYTES;
    uint64_t until = wall_ns() + PATIENCE;

    if (!stage->is_withdrawn)
        (void)honest_round(stage);
    assert_memory_equal(stage->arena, stage->shadow, writable);
    assert_memory_equal(stage->arena + behind, stage->shadow + behind, ARENA_BYTES - behind);
    while (count_descriptors() > stage->descriptors || lend_local_closing_count() > 0) {
        assert_true(wall_ns() < until);
        (void)sched_yield();
    }
    size_t pools = over_ucx ? (size_t)UCX_POOLS_MAX * UCX_POOL_BYTES : 0;
    assert_true(count_heap() <= stage->heap_bytes + HEAP_SLACK_BYTES + pools);
}

/* Each end of a connection has a socket, and over local a pidfd of the other, which may come last.
 * UCX has of them what it wants. */
static void await_honest(struct stage *stage)
{
    uint64_t until = wall_ns() + PATIENCE;

    stage->descriptors = count_descriptors() + (over_tcp ? 2 : 4);
    while (lend_peer_connect(stage->peer, GREETING, NULL) == LEND_E_TIMEOUT)
        assert_true(wall_ns() < until); /* a greeting is short, for a machine that is busy */
    (void)honest_round(stage);
    if (over_ucx)
        stage->descriptors = count_descriptors();
    while (count_descriptors() < stage->descriptors) {
        assert_true(wall_ns() < until);
        (void)sched_yield();
    }
}

int stage_up(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);

    assert_non_null(stage);
    (void)snprintf(stage->directory, sizeof stage->directory, "/tmp/lend-hostile-XXXXXX");
    assert_non_null(mkdtemp(stage->directory));
    make_owner(stage);
    lend_to_hostile(stage);
    make_honest(stage);
    await_honest(stage);
    stage->heap_bytes = count_heap();
    *state = stage;
    return 0;
}

int stage_down(void **state)
{
    struct stage *stage = *state;

    check_stage(stage);
    assert_int_equal(lend_transfer_release(stage->reads), LEND_OK);
    assert_int_equal(lend_transfer_release(stage->writes), LEND_OK);
    lend_ticket_release(stage->read_ticket);
    lend_ticket_release(stage->write_ticket);
    lend_ticket_release(stage->counted_ticket);
    lend_peer_forget(stage->peer);
    lend_agent_destroy(stage->honest);
    lend_agent_destroy(stage->owner);
    assert_int_equal(rmdir(stage->directory), 0);
    (void)munmap(stage->arena, ARENA_BYTES);
    (void)munmap(stage->shadow, ARENA_BYTES);
    (void)munmap(stage->kept_memory, 2 * HONEST_BLOCKS * BLOCK_BYTES);
    free(stage);
    return 0;
}
