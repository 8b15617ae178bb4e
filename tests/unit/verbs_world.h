/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_VERBS_WORLD_H
#define LEND_TESTS_UNIT_VERBS_WORLD_H

/*
 * The world of the tests of rails: two agents of one process under manual progress, with transports
 * loopback and verbs, the latter on a fake libibverbs: its NICs move bytes when told to, and fail
 * as they are told.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "core/agent.h"
#include "core/session.h"
#include "double.h"
#include "fake/cuda.h"
#include "fake/verbs.h"
#include "memory/cuda.h"
#include "transport/verbs/verbs.h"

#define SECOND UINT64_C(1000000000)

#ifndef WORLD_BLOCK
#define WORLD_BLOCK 4096
#endif
#ifndef WORLD_BLOCKS
#define WORLD_BLOCKS 64
#endif

enum {
    REGIONS = 3,
    BLOCKS = WORLD_BLOCKS,
    BLOCK = WORLD_BLOCK,
    BYTES = BLOCKS * BLOCK,
    STEPS_MAX = 1 << 16
};

/* Whose memory is a fake GPU's, one allocation for all its regions; and on which GPU. */
static bool owner_is_device, reader_is_device;
static int32_t device_of_owner;
static const char *carrier = "loopback";   /* of frames */
static uint32_t owner_pairs, reader_pairs; /* queue pairs for reads; 0: as verbs likes */
static uint32_t agent_flags;               /* of both, besides */
static void (*agent_log)(void *context, int32_t level, const char *text);

struct side {
    struct lend_agent *agent;
    int32_t ordinal;
    uint64_t device; /* where the allocation begins; 0: it is the host's */
    uint8_t *memory[REGIONS];
    struct lend_region *regions[REGIONS];
};

struct world {
    struct side owner, reader;
    struct lend_peer *peer;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
};

static inline void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

/* --- the world --- */

static inline void make_region(struct side *side, int at)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    if (side->device != 0) {
        uint64_t address = side->device + (uint64_t)at * BYTES;

        side->memory[at] = fake_cuda_bytes(address);
        check(lend_memory_device(address, BYTES, side->ordinal, &desc.memory, &error), &error);
    } else {
        side->memory[at] = calloc(1, BYTES);
        assert_non_null(side->memory[at]);
        check(lend_memory_system(side->memory[at], BYTES, &desc.memory, &error), &error);
    }
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    check(lend_region_register(side->agent, &desc, 1, &side->regions[at], NULL, &error), &error);
}

static inline void enter_gpu(int32_t ordinal)
{
    void *context = NULL;

    assert_int_equal(cuInit(0), 0);
    assert_int_equal(cuDevicePrimaryCtxRetain(&context, ordinal), 0);
    assert_int_equal(cuCtxPushCurrent_v2(context), 0);
}

static inline void leave_gpu(int32_t ordinal)
{
    void *context = NULL;

    assert_int_equal(cuCtxPopCurrent_v2(&context), 0);
    assert_int_equal(cuDevicePrimaryCtxRelease_v2(ordinal), 0);
}

static inline void take_gpu_memory(struct side *side, int32_t ordinal)
{
    side->ordinal = ordinal;
    enter_gpu(ordinal);
    assert_int_equal(cuMemAlloc_v2(&side->device, REGIONS * BYTES), 0);
    leave_gpu(ordinal);
}

static inline void make_side(struct side *side, const char *name, const char *device)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error error = {0};
    char transports[32];

    config.name = name;
    (void)snprintf(transports, sizeof transports, "%s%s", carrier, device != NULL ? ",verbs" : "");
    config.transports = transports;
    config.listen = strcmp(carrier, "tcp") == 0 ? "127.0.0.1" : NULL;
    config.verbs_devices = device;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS | agent_flags;
    config.verbs_queue_pairs = strcmp(name, "owner") == 0 ? owner_pairs : reader_pairs;
    config.on_log = agent_log;
    check(lend_agent_create(&config, &side->agent, &error), &error);
    for (int i = 0; i < REGIONS; i++)
        make_region(side, i);
}

/* The end of the connection that an agent has; NULL: there is none. */
static inline struct lend_session *session_of(const struct side *side)
{
    struct lend_list *link = side->agent->sessions.next;

    return link == &side->agent->sessions ? NULL : LEND_LIST_OWNER(link, struct lend_session, link);
}

static inline struct lend_verbs_rail *rail_of(const struct side *side)
{
    return lend_verbs_rail_of(session_of(side)->rail);
}

static inline void step(struct world *world)
{
    (void)lend_agent_progress(world->owner.agent, 0, NULL);
    (void)lend_agent_progress(world->reader.agent, 0, NULL);
}

static inline void step_often(struct world *world)
{
    for (int i = 0; i < 200; i++)
        step(world);
}

static inline void refresh(struct world *world)
{
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t count = 0;

    check(lend_metadata_export(world->owner.agent, bytes, sizeof bytes, &count, &error), &error);
    if (world->peer == NULL)
        check(lend_peer_import(world->reader.agent, bytes, count, &world->peer, &error), &error);
    else
        check(lend_peer_refresh(world->peer, bytes, count, &error), &error);
}

static inline void meet(struct world *world)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; status == LEND_E_TIMEOUT && i < STEPS_MAX; i++) {
        status = lend_peer_connect(world->peer, 0, &error);
        step(world);
    }
    check(status, &error);
    step_often(world);
}

static uint32_t regions_used = REGIONS; /* by leases and transfers, from the first on */

/* Lease the blocks of a list, in all regions; NULL: the first. */
static inline void grant_blocks(struct world *world, uint32_t access, const uint32_t *blocks,
                                uint64_t count)
{
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_block_set set = {.regions = world->owner.regions,
                                 .region_count = regions_used,
                                 .blocks = blocks,
                                 .count = count,
                                 .index_bits = blocks != NULL ? 32 : 0};
    struct lend_error error = {0};
    uint8_t bytes[512];
    size_t byte_count = 0;

    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    world->ticket = NULL;
    world->lease = NULL;
    desc.sets = &set;
    desc.set_count = 1;
    desc.access = access;
    desc.time_to_live_ns = 3600 * SECOND;
    check(lend_lease_grant(world->owner.agent, &desc, &world->lease, &error), &error);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &byte_count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, byte_count, &world->ticket, &error), &error);
}

static inline void grant(struct world *world, uint32_t access)
{
    grant_blocks(world, access, NULL, BLOCKS);
}

static inline uint8_t byte_at(int region, int offset)
{
    return (uint8_t)(offset / BLOCK * 7 + offset % 251 + region * 31 + 1);
}

static inline void fill(struct world *world)
{
    for (int i = 0; i < REGIONS; i++)
        for (int j = 0; j < BYTES; j++)
            world->owner.memory[i][j] = byte_at(i, j);
}

/* A fake libibverbs whose NICs may be changed still. */
static inline void begin_world(void)
{
    fake_verbs_reset();
    fake_verbs.device_count = FAKE_VERBS_DEVICES_MAX;
    lend_verbs = &fake_verbs_ops;
    if (owner_is_device || reader_is_device)
        lend_cuda = &fake_cuda_ops;
}

static inline void fill_world(struct world *world, const char *owners, const char *readers)
{
    if (owner_is_device)
        take_gpu_memory(&world->owner, device_of_owner);
    if (reader_is_device)
        take_gpu_memory(&world->reader, 0);
    make_side(&world->owner, "owner", owners);
    make_side(&world->reader, "reader", readers);
    fill(world);
    refresh(world);
    meet(world);
    grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
}

/* By those devices; NULL: without. */
static inline struct world *open_world_by(const char *owners, const char *readers, uint32_t vendor)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    begin_world();
    for (int i = 0; i < FAKE_VERBS_DEVICES_MAX; i++)
        fake_verbs.devices[i].vendor_id = vendor;
    fill_world(world, owners, readers);
    return world;
}

static inline struct world *open_world_of(bool owner_has, bool reader_has, uint32_t vendor)
{
    return open_world_by(owner_has ? "fake0" : NULL, reader_has ? "fake1" : NULL, vendor);
}

static inline struct world *open_world(bool owner_has, bool reader_has)
{
    return open_world_of(owner_has, reader_has, 0);
}

static inline void close_side(struct side *side)
{
    lend_agent_destroy(side->agent);
    for (int i = 0; side->device == 0 && i < REGIONS; i++)
        free(side->memory[i]);
    if (side->device == 0)
        return;
    enter_gpu(side->ordinal);
    assert_int_equal(cuMemFree_v2(side->device), 0);
    leave_gpu(side->ordinal);
}

static inline void close_world(struct world *world)
{
    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    lend_peer_forget(world->peer);
    close_side(&world->reader);
    close_side(&world->owner);
    assert_int_equal(fake_verbs_kept(), 0);
    if (owner_is_device || reader_is_device) {
        assert_int_equal(fake_cuda_held(), 0);
        assert_int_equal(fake_cuda_kept(), 0);
        fake_cuda_reset();
        lend_cuda = NULL;
    }
    lend_verbs = NULL;
    free(world);
}

/* --- transfers --- */

/* Every third block, backwards, to the beginning: work requests that touch nowhere. */
enum { CHOSEN = 20 };

static inline void prepare(struct world *world, uint32_t direction, const char *paths)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    uint64_t ids[REGIONS];
    struct lend_error error = {0};

    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    world->transfer = NULL;
    for (int i = 0; i < REGIONS; i++)
        ids[i] = lend_region_id(world->owner.regions[i]);
    desc.peer = world->peer;
    desc.direction = direction;
    desc.local_regions = world->reader.regions;
    desc.remote_regions = ids;
    desc.region_count = regions_used;
    desc.block_count_max = BLOCKS;
    desc.paths = paths;
    check(lend_transfer_prepare(world->reader.agent, &desc, &world->transfer, &error), &error);
}

/* The first of them, and a notification behind them; NULL: none. */
static inline void post_notified(struct world *world, uint32_t count, const void *bytes,
                                 uint64_t byte_count)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    uint32_t here[CHOSEN], there[CHOSEN];
    struct lend_error error = {0};

    for (uint32_t i = 0; i < CHOSEN; i++) {
        here[i] = i;
        there[i] = BLOCKS - 1 - 3 * i;
    }
    desc.ticket = world->ticket;
    desc.local_blocks = here;
    desc.remote_blocks = there;
    desc.block_count = count;
    desc.index_bits = 32;
    desc.timeout_ns = 60 * SECOND;
    desc.notification = bytes;
    desc.notification_bytes = byte_count;
    check(lend_transfer_post(world->transfer, &desc, &error), &error);
}

static inline void post_some(struct world *world, uint32_t count)
{
    post_notified(world, count, NULL, 0);
}

static inline void post(struct world *world)
{
    post_some(world, CHOSEN);
}

static inline struct lend_transfer_record finish(struct world *world, struct lend_error *error)
{
    struct lend_transfer_record record = {.struct_size = sizeof(struct lend_transfer_record)};
    enum lend_status status = LEND_PENDING;

    for (int i = 0; status == LEND_PENDING && i < STEPS_MAX; i++) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_not_equal(status, LEND_PENDING);
    assert_int_equal(lend_transfer_describe(world->transfer, &record, error), LEND_OK);
    return record;
}

static inline bool is_here(const struct world *world)
{
    for (uint32_t r = 0; r < regions_used; r++)
        for (int i = 0; i < CHOSEN; i++)
            if (memcmp(world->reader.memory[r] + (size_t)i * BLOCK,
                       world->owner.memory[r] + (size_t)(BLOCKS - 1 - 3 * i) * BLOCK, BLOCK) != 0)
                return false;
    return true;
}

static inline void expect(struct world *world, enum lend_status status, const char *path)
{
    struct lend_error error = {0};
    struct lend_transfer_record record;

    post(world);
    record = finish(world, &error);
    if (record.status != (int32_t)status)
        fail_msg("%s, not %s: %s", lend_status_name(record.status), lend_status_name(status),
                 error.message);
    if (path != NULL)
        assert_string_equal(record.path, path);
    if (status == LEND_OK)
        assert_true(is_here(world));
}

/* --- what is written --- */

static inline void paint(struct world *world, int value)
{
    for (int i = 0; i < REGIONS; i++)
        memset(world->reader.memory[i], value, BYTES);
}

/* What is there when an end was told. */
struct photo {
    uint8_t *bytes[REGIONS];
};

static inline struct photo take_photo(const struct world *world)
{
    struct photo photo;

    for (int i = 0; i < REGIONS; i++) {
        photo.bytes[i] = malloc(BYTES);
        assert_non_null(photo.bytes[i]);
        memcpy(photo.bytes[i], world->owner.memory[i], BYTES);
    }
    return photo;
}

static inline void expect_photo(struct photo *photo, const struct world *world)
{
    for (int i = 0; i < REGIONS; i++) {
        assert_memory_equal(photo->bytes[i], world->owner.memory[i], BYTES);
        free(photo->bytes[i]);
    }
}

#endif
