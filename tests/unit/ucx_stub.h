/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_UCX_STUB_H
#define LEND_TESTS_UNIT_UCX_STUB_H

/* An owner and a reader over a fake UCX, under manual progress. */

#include "fake/ucx.h"
#include "transport/ucx/ucx.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/sys.h"

#include <lend/lend.h>

enum { BLOCK = 32 << 10, BLOCKS = 8, BYTES = BLOCK * BLOCKS, STEPS_MAX = 10000 };
#define SECOND UINT64_C(1000000000)

/* That agents made from now on have with silent peers; 0: the usual. */
static uint64_t stub_patience_ns;

/* The fake's devices are there; those of that name are not. */
#define STUB_ABSENT "absent0"

static struct lend_sys_ops stub_sys;

static int stub_stat(const char *path, struct stat *out)
{
    if (strncmp(path, "/sys/class/", strlen("/sys/class/")) != 0)
        return lend_sys_real.stat(path, out);
    return strstr(path, STUB_ABSENT) == NULL ? 0 : -ENOENT;
}

static inline void stub_devices(void)
{
    stub_sys = lend_sys_real;
    stub_sys.stat = stub_stat;
    lend_sys = &stub_sys;
}

struct world {
    struct lend_agent *owner;
    struct lend_agent *reader;
    struct lend_region *lent;
    struct lend_region *place;
    struct lend_peer *peer;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint8_t *source;
    uint8_t *destination;
};

static inline void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static inline struct lend_agent_config config_of(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = "ucx";
    config.ucx_devices = "fake0:1";
    config.connect_timeout_ns = stub_patience_ns; /* 0: the usual */
    config.transfer_timeout_ns = stub_patience_ns;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    return config;
}

static inline struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = config_of(name);
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static inline struct lend_region *lend_region_of(struct lend_agent *agent, void *memory,
                                                 uint32_t access)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_system(memory, BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = access;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static inline void import(struct world *world)
{
    uint8_t bytes[8192];
    struct lend_error error = {0};
    size_t count = 0;

    check(lend_metadata_export(world->owner, bytes, sizeof bytes, &count, &error), &error);
    check(lend_peer_import(world->reader, bytes, count, &world->peer, &error), &error);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, count, &world->ticket, &error), &error);
}

static inline void grant(struct world *world)
{
    struct lend_block_set set = {.regions = &world->lent, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.sets = &set;
    desc.set_count = 1;
    desc.time_to_live_ns = 3600 * SECOND;
    check(lend_lease_grant(world->owner, &desc, &world->lease, &error), &error);
}

static inline void prepare(struct world *world, uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    check(lend_region_describe(world->lent, &info, &error), &error);
    desc.direction = direction;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->place;
    desc.remote_regions = &info.id;
    desc.block_count_max = BLOCKS;
    check(lend_transfer_prepare(world->reader, &desc, &world->transfer, &error), &error);
}

static inline void pump(struct world *world)
{
    if (world->owner != NULL)
        (void)lend_agent_progress(world->owner, 0, NULL);
    (void)lend_agent_progress(world->reader, 0, NULL);
}

static inline void pump_often(struct world *world)
{
    for (int i = 0; i < 200; i++)
        pump(world);
}

static inline enum lend_status await(struct world *world)
{
    enum lend_status status = LEND_PENDING;

    for (int i = 0; i < STEPS_MAX && status == LEND_PENDING; i++) {
        pump(world);
        status = lend_transfer_test(world->transfer);
    }
    return status;
}

static inline void post(struct world *world, uint64_t timeout_ns)
{
    static const int32_t blocks[BLOCKS] = {7, 6, 5, 4, 3, 2, 1, 0};
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    desc.ticket = world->ticket;
    desc.local_blocks = blocks;
    desc.remote_blocks = blocks;
    desc.block_count = BLOCKS;
    desc.timeout_ns = timeout_ns;
    check(lend_transfer_post(world->transfer, &desc, &error), &error);
}

/* Agents look at how the fake is set when they are made. */
static inline void make_both(struct world *world)
{
    world->owner = make_agent("owner");
    world->reader = make_agent("reader");
    world->lent = lend_region_of(world->owner, world->source, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    world->place = lend_region_of(world->reader, world->destination, 0);
    grant(world);
    import(world);
    prepare(world, LEND_READ);
}

static inline int begin(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    fake_ucx_reset();
    lend_ucx = &fake_ucx_ops;
    lend_ucx_rendezvous_bytes = SIZE_MAX;
    world->source = malloc(BYTES);
    world->destination = calloc(1, BYTES);
    for (size_t i = 0; i < BYTES; i++)
        world->source[i] = (uint8_t)(i * 31 + i / BLOCK);
    make_both(world);
    *state = world;
    return 0;
}

static inline int end(void **state)
{
    struct world *world = *state;

    lend_agent_destroy(world->reader);
    lend_agent_destroy(world->owner);
    free(world->source);
    free(world->destination);
    free(world);
    lend_ucx = NULL;
    lend_ucx_rendezvous_bytes = 0;
    if (fake_ucx.is_stubborn)
        return 0; /* what it never gave back is lost */
    assert_int_equal(fake_ucx.endpoints, 0);
    assert_int_equal(fake_ucx.workers, 0);
    assert_int_equal(fake_ucx.contexts, 0);
    assert_int_equal(fake_ucx.configs, 0);
    assert_int_equal(fake_ucx.requests, 0);
    assert_int_equal(fake_ucx.data, 0);
    return 0;
}

static inline bool is_read(const struct world *world)
{
    return memcmp(world->source, world->destination, BYTES) == 0;
}

#endif
