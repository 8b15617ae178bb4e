/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read so many scattered blocks, so many times, from one memory of a (fake) GPU to another by
 * local/cuda, with a driver that copies nothing: it says at once that it has. Print the median time
 * of a block in nanoseconds. devices_cost.py counts the instructions of the same.
 *
 *     devices batch|single BLOCKS TIMES PIDFD
 *
 * batch: many copies are one call of the driver. single: each is one, as before CUDA 12.8. PIDFD: a
 * descriptor of a process that lives as long as this one.
 */
#include "devices.h"

#include "base/sys.h"
#include "fake/cuda.h"
#include "memory/cuda.h"
#include "samples.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 65536, STEPS_MAX = 100000 };

#define PATIENCE_NS UINT64_C(60000000000)

static void check(bool is_well, const struct lend_error *error, const char *what)
{
    if (is_well)
        return;
    (void)fprintf(stderr, "devices: %s: %s\n", what, error != NULL ? error->message : "");
    exit(1);
}

/* --- a driver that does nothing --- */

static int copy_none(uint64_t *to, uint64_t *from, size_t *bytes, size_t count,
                     struct lend_cuda_batch *attributes, size_t *attribute_starts,
                     size_t attribute_count, size_t *failed_at, void *stream)
{
    (void)to;
    (void)from;
    (void)bytes;
    (void)count;
    (void)attributes;
    (void)attribute_starts;
    (void)attribute_count;
    (void)failed_at;
    (void)stream;
    return LEND_CUDA_SUCCESS;
}

static int copy_nothing(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    (void)to;
    (void)from;
    (void)bytes;
    (void)stream;
    return LEND_CUDA_SUCCESS;
}

static int tell_over(void *event)
{
    (void)event;
    return LEND_CUDA_SUCCESS;
}

static void open_driver(bool has_batch)
{
    static struct lend_cuda_ops ops;
    void *context = NULL;

    fake_cuda_reset();
    fake_cuda_open_own(1);
    ops = fake_cuda_ops;
    ops.copy_batch = has_batch ? copy_none : NULL;
    ops.copy_on_device = copy_nothing;
    ops.event_query = tell_over;
    lend_cuda = &ops;
    check(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 &&
              cuCtxSetCurrent(context) == 0,
          NULL, "no driver");
}

static int pidfd;

static int give_pidfd(void)
{
    return dup(pidfd);
}

/* --- two ends --- */

struct end {
    struct lend_agent *agent;
    struct lend_region *region;
};

static void open_end(struct end *end, const char *name, const char *directory, uint64_t blocks,
                     uint32_t flags)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};
    uint64_t memory = 0;

    config.name = name;
    config.transports = "local";
    config.local_directory = directory;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    check(lend_agent_create(&config, &end->agent, &error) == LEND_OK, &error, "no agent");
    check(cuMemAlloc_v2(&memory, blocks * BLOCK) == 0, NULL, "no memory");
    check(lend_memory_device(memory, blocks * BLOCK, 0, &desc.memory, &error) == LEND_OK, &error,
          "no description");
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = blocks;
    desc.access = LEND_ACCESS_READ;
    desc.flags = flags;
    check(lend_region_register(end->agent, &desc, 1, &end->region, NULL, &error) == LEND_OK, &error,
          "no region");
}

static struct lend_peer *meet(const struct end *owner, const struct end *reader)
{
    static uint8_t bytes[65536];
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    enum lend_status status = LEND_E_TIMEOUT;
    size_t count = 0;

    check(lend_metadata_export(owner->agent, bytes, sizeof bytes, &count, &error) == LEND_OK,
          &error, "no metadata");
    check(lend_peer_import(reader->agent, bytes, count, &peer, &error) == LEND_OK, &error,
          "no peer");
    for (int i = 0; i < STEPS_MAX && status == LEND_E_TIMEOUT; i++) {
        status = lend_peer_connect(peer, 0, &error);
        (void)lend_agent_progress(owner->agent, 0, NULL);
    }
    check(status == LEND_OK, &error, "no connection");
    for (int i = 0; i < 100; i++) { /* what is shared is told behind it */
        (void)lend_agent_progress(owner->agent, 0, NULL);
        (void)lend_agent_progress(reader->agent, 0, NULL);
    }
    return peer;
}

static struct lend_ticket *grant(const struct end *owner, struct lend_peer *peer,
                                 struct lend_lease **out_lease)
{
    struct lend_block_set set = {.regions = &owner->region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    size_t count = 0;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.time_to_live_ns = 60 * PATIENCE_NS;
    check(lend_lease_grant(owner->agent, &desc, out_lease, &error) == LEND_OK, &error, "no lease");
    check(lend_ticket_export(*out_lease, bytes, sizeof bytes, &count, &error) == LEND_OK &&
              lend_ticket_import(peer, bytes, count, &ticket, &error) == LEND_OK,
          &error, "no ticket");
    return ticket;
}

/* --- the work --- */

__attribute__((noinline)) void devices_move(struct lend_agent *reader,
                                            struct lend_transfer *transfer,
                                            const struct lend_post_desc *post)
{
    struct lend_error error = {0};
    enum lend_status status = lend_transfer_post(transfer, post, &error);

    check(status == LEND_OK, &error, "no post");
    while ((status = lend_transfer_test(transfer)) == LEND_PENDING)
        (void)lend_agent_progress(reader, 0, NULL);
    check(status == LEND_OK, NULL, "not all was moved");
}

/* The first of all: the owner has to tell of the lease, and the memory has to be opened. */
static void move_first(const struct end *owner, const struct end *reader,
                       struct lend_transfer *transfer, const struct lend_post_desc *post)
{
    struct lend_error error = {0};

    check(lend_transfer_post(transfer, post, &error) == LEND_OK, &error, "no post");
    while (lend_transfer_test(transfer) == LEND_PENDING) {
        (void)lend_agent_progress(reader->agent, 0, NULL);
        (void)lend_agent_progress(owner->agent, 0, NULL);
    }
}

/* Every second block there, to every one here. */
static uint64_t move_often(const struct end *owner, const struct end *reader,
                           struct lend_transfer *transfer, struct lend_ticket *ticket,
                           uint64_t blocks, uint64_t times)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    int32_t *numbers = calloc(2 * blocks, sizeof *numbers);
    uint64_t *samples = calloc(times, sizeof *samples);

    check(numbers != NULL && samples != NULL, NULL, "no memory");
    for (uint64_t i = 0; i < blocks; i++) {
        numbers[i] = (int32_t)i;
        numbers[blocks + i] = (int32_t)(2 * i);
    }
    post.ticket = ticket;
    post.local_blocks = numbers;
    post.remote_blocks = numbers + blocks;
    post.block_count = blocks;
    move_first(owner, reader, transfer, &post);
    for (uint64_t i = 0; i < times; i++) {
        uint64_t before = samples_now_ns();

        devices_move(reader->agent, transfer, &post);
        samples[i] = samples_now_ns() - before;
    }
    check(lend_transfer_describe(transfer, &record, NULL) == LEND_OK &&
              strcmp(record.path, "local/cuda") == 0 && record.blocks == blocks,
          NULL, "it went another way");
    uint64_t median = samples_median(samples, times);
    free(samples);
    free(numbers);
    return median;
}

int main(int argument_count, char **arguments)
{
    char directory[] = "/tmp/lend-devices-XXXXXX";
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct end owner = {0}, reader = {0};
    struct lend_transfer *transfer = NULL;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    if (argument_count != 5) {
        (void)fprintf(stderr, "usage: %s batch|single BLOCKS TIMES PIDFD\n", arguments[0]);
        return 2;
    }
    struct lend_sys_ops sys = lend_sys_real;
    sys.pidfd_self = give_pidfd;
    lend_sys = &sys;
    pidfd = (int)strtol(arguments[4], NULL, 10);
    const uint64_t blocks = strtoull(arguments[2], NULL, 10);
    open_driver(strcmp(arguments[1], "batch") == 0);
    check(mkdtemp(directory) != NULL, NULL, "no folder");
    open_end(&owner, "owner", directory, 2 * blocks, LEND_REGION_SHARE_DEVICE);
    open_end(&reader, "reader", directory, blocks, 0);
    struct lend_peer *peer = meet(&owner, &reader);
    struct lend_ticket *ticket = grant(&owner, peer, &lease);
    const uint64_t region_id = lend_region_id(owner.region);

    desc.direction = LEND_READ;
    desc.peer = peer;
    desc.region_count = 1;
    desc.local_regions = &reader.region;
    desc.remote_regions = &region_id;
    desc.block_count_max = blocks;
    desc.paths = "local/cuda";
    check(lend_transfer_prepare(reader.agent, &desc, &transfer, &error) == LEND_OK, &error,
          "no transfer");
    uint64_t median =
        move_often(&owner, &reader, transfer, ticket, blocks, strtoull(arguments[3], NULL, 10));
    printf("%.2f\n", (double)median / (double)blocks);

    check(lend_transfer_release(transfer) == LEND_OK, NULL, "the transfer is under way");
    lend_ticket_release(ticket);
    lend_peer_forget(peer);
    lend_lease_release(lease);
    lend_agent_destroy(reader.agent);
    lend_agent_destroy(owner.agent);
    return rmdir(directory) != 0;
}
