/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_STAGED_WORLD_H
#define LEND_TESTS_UNIT_STAGED_WORLD_H

/* Two agents of one process, each with memory of the host or of the fake GPU, that staged_test.c
 * and opened_test.c have moved between them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "base/sys.h"
#include "core/freed.h"
#include "core/transport.h"
#include "fake/cuda.h"
#include "memory/cuda.h"

#define MINUTE UINT64_C(60000000000)

enum {
    BLOCK = 24 << 10, /* of which a cell of the stage holds two, and a bit */
    BLOCKS = 32,
    BYTES = BLOCK * BLOCKS,
    CHUNK = 32 << 10,
    AHEAD = 4096, /* where a tensor begins in its allocation */
    STEPS_MAX = 1 << 20,
};

/* Memory of one of both kinds, and where its bytes are. */
struct memory {
    bool is_device;
    bool is_mosaic; /* chunks that are mapped side by side */
    uint64_t allocation;
    uint64_t address;
    uint8_t *bytes;
    void (*free)(struct memory *memory); /* NULL: as it is usual */
};

struct side {
    struct lend_agent *agent;
    struct memory memory;
    struct lend_region *region;
};

struct world {
    const char *transport;
    char directory[32];
    struct side owner;
    struct side reader;
    struct lend_peer *peer;
    uint64_t region_id;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    void *context; /* the caller's, current all the time */
};

static inline void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static inline void make_memory(struct memory *memory, bool is_device)
{
    memory->is_device = is_device;
    if (is_device) {
        assert_int_equal(cuMemAlloc_v2(&memory->allocation, BYTES + 2 * AHEAD), 0);
        memory->address = memory->allocation + AHEAD; /* a tensor in the middle */
        memory->bytes = fake_cuda_bytes(memory->address);
    } else {
        memory->bytes = malloc(BYTES);
        memory->address = (uint64_t)(uintptr_t)memory->bytes;
    }
    assert_non_null(memory->bytes);
}

static bool has_mosaics;
static bool has_old_driver;  /* that copies piece by piece */
static bool has_threads;     /* that make the progress */
static bool has_no_kernel;   /* it does not translate ours; nor does an old one */
static uint32_t owner_flags; /* of its region */
static void (*make_owner_memory)(struct memory *memory); /* NULL: as it is usual */

/* Many allocations that touch: more than one copy is told of, and their borders lie in blocks. */
static inline void make_mosaic(struct memory *memory)
{
    void *place = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(place != MAP_FAILED);
    memory->is_device = memory->is_mosaic = true;
    memory->address = memory->allocation = (uint64_t)(uintptr_t)place;
    memory->bytes = malloc(BYTES);
    assert_non_null(memory->bytes);
    for (uint64_t chunk = 0; chunk < BYTES / CHUNK; chunk++) {
        const struct fake_cuda_allocation allocation = {
            .base = memory->address + chunk * CHUNK,
            .length_bytes = CHUNK,
            .buffer_id = memory->address / 4096 + chunk,
            .type = LEND_CUDA_MEMORY_DEVICE,
            .is_contextless = 1,
            .bytes = memory->bytes + chunk * CHUNK,
        };

        fake_cuda_add(&allocation);
    }
}

static inline void free_memory(struct memory *memory)
{
    if (memory->free != NULL) {
        memory->free(memory);
    } else if (memory->is_mosaic) {
        assert_int_equal(munmap((void *)(uintptr_t)memory->allocation, BYTES), 0);
        free(memory->bytes);
    } else if (memory->is_device)
        assert_int_equal(cuMemFree_v2(memory->allocation), 0);
    else
        free(memory->bytes);
}

static inline enum lend_status describe(const struct memory *memory, struct lend_region_desc *desc,
                                        struct lend_error *error)
{
    desc->geometry.block_length_bytes = BLOCK;
    desc->geometry.count = BLOCKS;
    return memory->is_device ? lend_memory_device(memory->address, BYTES, 0, &desc->memory, error)
                             : lend_memory_system(memory->bytes, BYTES, &desc->memory, error);
}

static inline void make_side(struct world *world, struct side *side, const char *name,
                             bool is_device)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    config.name = name;
    config.transports = world->transport;
    config.local_directory = world->directory;
    if (strcmp(world->transport, "tcp") == 0)
        config.listen = "127.0.0.1";
    config.flags = has_threads ? 0 : LEND_AGENT_MANUAL_PROGRESS;
    config.transfer_timeout_ns = MINUTE;
    check(lend_agent_create(&config, &side->agent, &error), &error);
    if (side == &world->owner && make_owner_memory != NULL)
        make_owner_memory(&side->memory);
    else if (is_device && has_mosaics)
        make_mosaic(&side->memory);
    else if (side->memory.bytes == NULL)
        make_memory(&side->memory, is_device);
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.flags = side == &world->owner ? owner_flags : 0;
    check(describe(&side->memory, &desc, &error), &error);
    check(lend_region_register(side->agent, &desc, 1, &side->region, NULL, &error), &error);
}

static inline void grant(struct world *world, uint32_t access)
{
    struct lend_block_set set = {.regions = &world->owner.region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    struct lend_error error = {0};
    size_t count = 0;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = access;
    desc.time_to_live_ns = MINUTE;
    check(lend_lease_grant(world->owner.agent, &desc, &world->lease, &error), &error);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, count, &world->ticket, &error), &error);
}

static inline void meet(struct world *world)
{
    static uint8_t bytes[64 << 10];
    struct lend_error error = {0};
    size_t count = 0;

    check(lend_metadata_export(world->owner.agent, bytes, sizeof bytes, &count, &error), &error);
    check(lend_peer_import(world->reader.agent, bytes, count, &world->peer, &error), &error);
    world->region_id = lend_region_id(world->owner.region);
}

/* A caller on whose thread a context of its own is current. */
static inline struct world make_world(const char *transport, bool owner_is_device,
                                      bool reader_is_device)
{
    struct world world = {.transport = transport};

    fake_cuda_reset();
    static struct lend_cuda_ops old_ops;

    old_ops = fake_cuda_ops;
    old_ops.copy_batch = NULL;
    lend_cuda = has_old_driver ? &old_ops : &fake_cuda_ops;
    if (has_old_driver || has_no_kernel)
        fake_cuda_fail("cuModuleLoadData", 209); /* CUDA_ERROR_NO_BINARY_FOR_GPU */
    assert_int_equal(cuInit(0), 0);
    assert_int_equal(cuDevicePrimaryCtxRetain(&world.context, 0), 0);
    assert_int_equal(cuCtxSetCurrent(world.context), 0);
    (void)snprintf(world.directory, sizeof world.directory, "/tmp/lend-staged-XXXXXX");
    assert_non_null(mkdtemp(world.directory));
    make_side(&world, &world.owner, "owner", owner_is_device);
    make_side(&world, &world.reader, "reader", reader_is_device);
    meet(&world);
    return world;
}

static inline void end_side(struct side *side)
{
    lend_agent_destroy(side->agent);
    free_memory(&side->memory);
}

static inline void end_world(struct world *world)
{
    void *current = NULL;

    lend_ticket_release(world->ticket);
    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_lease_release(world->lease);
    lend_peer_forget(world->peer);
    end_side(&world->reader);
    end_side(&world->owner);
    assert_int_equal(rmdir(world->directory), 0);
    /* The caller's context is as it was, and nothing of the driver's was kept. */
    assert_int_equal(cuCtxGetCurrent(&current), 0);
    assert_ptr_equal(current, world->context);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), 0);
    assert_int_equal(fake_cuda_held(), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    assert_int_equal(fake_cuda_under_way(), 0);
    assert_int_equal(fake_cuda_opened(), 0);
    assert_int_equal(fake_cuda_torn(), 0);
    assert_int_equal(fake_cuda_chunks(), 0);
    assert_int_equal(fake_cuda_pools(), 0);
    lend_cuda = NULL;
}

static inline void fill(struct memory *memory, unsigned seed)
{
    for (size_t i = 0; i < BYTES; i++)
        memory->bytes[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static inline enum lend_status prepare(struct world *world, uint32_t direction, const char *paths,
                                       struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.direction = direction;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->reader.region;
    desc.remote_regions = &world->region_id;
    desc.block_count_max = BLOCKS;
    desc.paths = paths;
    return lend_transfer_prepare(world->reader.agent, &desc, &world->transfer, error);
}

/* Every block of the peer's, to where the next but one is here. */
static inline enum lend_status post(struct world *world, struct lend_error *error)
{
    static int32_t here[BLOCKS], there[BLOCKS];
    struct lend_post_desc desc = LEND_POST_DESC_INIT;

    for (int32_t i = 0; i < BLOCKS; i++) {
        there[i] = i;
        here[i] = (i + 2) % BLOCKS;
    }
    desc.ticket = world->ticket;
    desc.local_blocks = here;
    desc.remote_blocks = there;
    desc.block_count = BLOCKS;
    return lend_transfer_post(world->transfer, &desc, error);
}

static inline void step(struct world *world)
{
    (void)lend_agent_progress(world->reader.agent, 0, NULL);
    (void)lend_agent_progress(world->owner.agent, 0, NULL);
}

/* Connected, and told of what is shared. */
static inline void connect_both(struct world *world)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; i < STEPS_MAX && status == LEND_E_TIMEOUT; i++) {
        status = lend_peer_connect(world->peer, 0, &error);
        step(world);
    }
    check(status, &error);
    for (int i = 0; i < 100; i++)
        step(world);
}

static inline enum lend_status finish(struct world *world, struct lend_transfer_record *record,
                                      struct lend_error *error)
{
    enum lend_status status = LEND_PENDING;

    for (int i = 0; i < STEPS_MAX && status == LEND_PENDING; i++) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_not_equal(status, LEND_PENDING);
    *record = (struct lend_transfer_record){.struct_size = sizeof *record};
    check(lend_transfer_describe(world->transfer, record, error), error);
    assert_int_equal(record->status, status);
    return status;
}

static inline void begin(struct world *world, uint32_t direction)
{
    struct lend_error error = {0};

    fill(&world->owner.memory, 1);
    fill(&world->reader.memory, 2);
    grant(world, direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE);
    check(prepare(world, direction, NULL, &error), &error);
    check(post(world, &error), &error);
}

/* Is each block where it was to go? */
static inline void expect_moved(const struct world *world, uint32_t direction)
{
    struct memory from = {0};

    from.bytes = malloc(BYTES);
    assert_non_null(from.bytes);
    fill(&from, direction == LEND_READ ? 1 : 2);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t here = (i + 2) % BLOCKS * BLOCK, there = i * BLOCK;
        size_t source = direction == LEND_READ ? there : here;
        const uint8_t *to = direction == LEND_READ ? world->reader.memory.bytes + here
                                                   : world->owner.memory.bytes + there;

        assert_memory_equal(to, from.bytes + source, BLOCK);
    }
    free(from.bytes);
}

/* --- many small pieces --- */

enum { PIECE = 64, PIECES = 1000, HERE_STEP = 3, THERE_STEP = 2 };

static inline struct lend_region *register_pieces(struct side *side, uint32_t flags)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(describe(&side->memory, &desc, &error), &error);
    desc.geometry.block_length_bytes = PIECE;
    desc.geometry.count = BYTES / PIECE;
    desc.access = LEND_ACCESS_READ;
    desc.flags = flags;
    check(lend_region_register(side->agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

/* Post a read of pieces that touch nowhere. Both sides are registered anew for it. */
static inline void begin_pieces(struct world *world, const char *paths)
{
    static int32_t here[PIECES], there[PIECES];
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post_desc = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    fill(&world->owner.memory, 1);
    fill(&world->reader.memory, 2);
    world->owner.region = register_pieces(&world->owner, owner_flags);
    world->reader.region = register_pieces(&world->reader, 0);
    lend_peer_forget(world->peer);
    meet(world);
    grant(world, LEND_ACCESS_READ);
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->reader.region;
    desc.remote_regions = &world->region_id;
    desc.block_count_max = PIECES;
    desc.paths = paths;
    check(lend_transfer_prepare(world->reader.agent, &desc, &world->transfer, &error), &error);
    for (int32_t i = 0; i < PIECES; i++) {
        here[i] = i * HERE_STEP;
        there[i] = i * THERE_STEP;
    }
    post_desc.ticket = world->ticket;
    post_desc.local_blocks = here;
    post_desc.remote_blocks = there;
    post_desc.block_count = PIECES;
    check(lend_transfer_post(world->transfer, &post_desc, &error), &error);
}

static inline void expect_pieces(const struct world *world)
{
    for (size_t i = 0; i < PIECES; i++)
        assert_memory_equal(world->reader.memory.bytes + i * HERE_STEP * PIECE,
                            world->owner.memory.bytes + i * THERE_STEP * PIECE, PIECE);
}

#endif
