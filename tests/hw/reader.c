/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(20000000000)

uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* What one transfer takes; given back in any case. */
struct task {
    const struct order *order;
    uint64_t bytes;
    uint8_t *host; /* the bytes of our side, or a copy of them */
    uint64_t device;
    struct lend_region *region;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
};

static enum lend_status describe(const struct task *task, struct lend_memory *out,
                                 struct lend_error *error)
{
    if (task->order->memory == LEND_MEMORY_DEVICE)
        return lend_memory_device(task->device, task->bytes, 0, out, error);
    return task->order->memory == LEND_MEMORY_PINNED
               ? lend_memory_pinned(task->host, task->bytes, out, error)
               : lend_memory_system(task->host, task->bytes, out, error);
}

static enum lend_status set_up(struct lend_agent *agent, struct task *task,
                               struct lend_error *error)
{
    const struct order *order = task->order;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    enum lend_status status = describe(task, &desc.memory, error);
    desc.geometry.block_length_bytes = order->block_bytes;
    desc.geometry.count = order->block_count;
    if (status == LEND_OK)
        status = lend_region_register(agent, &desc, 1, &task->region, NULL, error);
    if (status == LEND_OK)
        status =
            lend_peer_import(agent, order->metadata, order->metadata_bytes, &task->peer, error);
    if (status == LEND_OK)
        status = lend_peer_connect(task->peer, PATIENCE_NS, error);
    if (status == LEND_OK)
        status = lend_ticket_import(task->peer, order->ticket, order->ticket_bytes, &task->ticket,
                                    error);
    return status;
}

static enum lend_status prepare(struct lend_agent *agent, struct task *task,
                                struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.direction = task->order->direction;
    desc.peer = task->peer;
    desc.region_count = 1;
    desc.local_regions = &task->region;
    desc.remote_regions = &task->order->region_id;
    desc.block_count_max = task->order->block_count;
    desc.paths = task->order->paths[0] != '\0' ? task->order->paths : NULL;
    return lend_transfer_prepare(agent, &desc, &task->transfer, error);
}

static enum lend_status move(struct task *task, struct answer *answer, struct lend_error *error)
{
    uint32_t count = task->order->block_count;
    int32_t *blocks = malloc(2 * sizeof *blocks * count);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    enum lend_status status = LEND_OK;

    if (blocks == NULL)
        return LEND_E_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = (int32_t)i;
        blocks[count + i] = (int32_t)(2 * i);
    }
    post.ticket = task->ticket;
    post.local_blocks = blocks;
    post.remote_blocks = blocks + count;
    post.block_count = count;
    for (uint32_t round = 0; round < task->order->rounds && status == LEND_OK; round++) {
        uint64_t start = now_ns();

        status = lend_transfer_post(task->transfer, &post, error);
        if (status != LEND_OK)
            break;
        status = lend_transfer_wait(task->transfer, PATIENCE_NS);
        uint64_t taken = now_ns() - start;
        if (lend_transfer_describe(task->transfer, &record, error) != LEND_OK)
            break;
        if (answer->best_ns == 0 || taken < answer->best_ns)
            answer->best_ns = taken;
        if (answer->post_ns == 0 || record.post_ns < answer->post_ns)
            answer->post_ns = record.post_ns;
    }
    (void)snprintf(answer->path, sizeof answer->path, "%s", record.path);
    free(blocks);
    return status;
}

/* One copy of as many bytes, by the driver alone: within the GPU, or over the link to it. */
static uint64_t find_ceiling(const struct task *task)
{
    uint64_t other = 0, best = 0;

    driver_must(driver.allocate(&other, task->bytes), "cuMemAlloc");
    for (int round = 0; round < 5; round++) {
        uint64_t start = now_ns();

        if (task->order->memory == LEND_MEMORY_DEVICE)
            driver_must(driver.on_device(other, task->device, task->bytes), "cuMemcpyDtoD");
        else if (task->order->direction == LEND_READ)
            driver_must(driver.to_host(task->host, other, task->bytes), "cuMemcpyDtoH");
        else
            driver_must(driver.to_device(other, task->host, task->bytes), "cuMemcpyHtoD");
        driver_must(driver.synchronize(), "cuCtxSynchronize");
        uint64_t taken = now_ns() - start;
        best = best == 0 || taken < best ? taken : best;
    }
    driver_must(driver.free(other), "cuMemFree");
    return best;
}

/* Our blocks stand for every second of the region's. */
static uint8_t byte_of(const struct order *order, uint64_t at)
{
    uint64_t block = at / order->block_bytes;

    return pattern_at(2 * block * order->block_bytes + at % order->block_bytes, order->seed);
}

static void fill(const struct task *task)
{
    for (uint64_t i = 0; i < task->bytes; i++)
        task->host[i] = task->order->direction == LEND_WRITE ? byte_of(task->order, i) : 0;
    if (task->order->memory == LEND_MEMORY_DEVICE)
        driver_put(task->device, task->host, task->bytes);
}

static bool is_wrong(const struct task *task)
{
    if (task->order->memory == LEND_MEMORY_DEVICE)
        driver_must(driver.to_host(task->host, task->device, task->bytes), "cuMemcpyDtoH");
    for (uint64_t i = 0; i < task->bytes; i++)
        if (task->host[i] != byte_of(task->order, i))
            return true;
    return false;
}

static void tidy(struct task *task)
{
    if (task->transfer != NULL && lend_transfer_release(task->transfer) != LEND_OK)
        (void)fprintf(stderr, "the reader's transfer is still under way\n");
    lend_ticket_release(task->ticket);
    if (task->peer != NULL)
        lend_peer_forget(task->peer);
    if (task->region != NULL && lend_region_deregister(task->region, NULL) != LEND_OK)
        (void)fprintf(stderr, "the reader's own region is held\n");
    if (task->device != 0)
        driver_must(driver.free(task->device), "cuMemFree");
    if (task->order->memory == LEND_MEMORY_PINNED)
        driver_must(driver.free_host(task->host), "cuMemFreeHost");
    else
        free(task->host);
}

static void allocate(struct task *task)
{
    if (task->order->memory == LEND_MEMORY_PINNED) {
        void *host = NULL;

        driver_must(driver.allocate_host(&host, task->bytes, 0), "cuMemHostAlloc");
        task->host = host;
        return;
    }
    task->host = malloc(task->bytes);
    if (task->host == NULL)
        abort();
    if (task->order->memory == LEND_MEMORY_DEVICE)
        driver_must(driver.allocate(&task->device, task->bytes), "cuMemAlloc");
}

static struct answer obey(struct lend_agent *agent, const struct order *order)
{
    struct task task = {.order = order, .bytes = order->block_bytes * order->block_count};
    struct answer answer = {.status = LEND_OK};
    struct lend_error error = {0};

    allocate(&task);
    fill(&task);
    enum lend_status status = set_up(agent, &task, &error);
    if (status == LEND_OK)
        status = prepare(agent, &task, &error);
    if (status == LEND_OK)
        status = move(&task, &answer, &error);
    answer.status = status;
    (void)snprintf(answer.message, sizeof answer.message, "%s", error.message);
    if (status == LEND_OK)
        answer.is_wrong = is_wrong(&task);
    if (status == LEND_OK && order->wants_ceiling != 0)
        answer.ceiling_ns = find_ceiling(&task); /* which writes to its memory */
    tidy(&task);
    return answer;
}

static bool take(void *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        ssize_t got = read(STDIN_FILENO, (uint8_t *)bytes + at, count - at);

        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

int read_on_order(const char *directory)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};
    static struct order order;

    driver_open();
    config.name = "reader";
    config.transports = "local";
    config.local_directory = directory;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK) {
        (void)fprintf(stderr, "the reader has no agent: %s\n", error.message);
        return 2;
    }
    while (take(&order, sizeof order) && order.direction != 0) {
        struct answer answer = obey(agent, &order);

        if (write(STDOUT_FILENO, &answer, sizeof answer) != (ssize_t)sizeof answer)
            break;
    }
    lend_agent_destroy(agent);
    return 0;
}
