/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a read under a lease that was granted behind a stream has what that stream wrote.
 * Method: a stream that waits for a word in pinned memory, and then copies to the blocks. Two
 * agents of one process; the read is posted while the stream waits, is pending until the word is
 * written, and has the new bytes then. (On the fake all streams wait, so that it shows no more
 * there than that the test works: unit/awaited_test.c shows who waits.)
 */
#include "kernel.h"

#include <lend/lend.h>

#include "memory/cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 1 << 20, BLOCKS = 16 };

#define MINUTE UINT64_C(60000000000)

static int (*wait_value)(void *stream, uint64_t address, uint32_t value, unsigned flags);

struct scene {
    const struct lend_cuda_ops *cuda;
    void *stream;
    uint64_t device;
    volatile uint32_t *word; /* pinned, as are */
    uint8_t *bytes;          /* what the stream is to copy, */
    uint8_t *result;         /* and what is read */
    struct lend_agent *owner, *reader;
    struct lend_peer *peer;
    struct lend_region *lent, *own;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    struct lend_error error;
};

/* The stream, which waits; nothing of it may be in the way of what else is set up. */
static bool make_memory(struct scene *scene)
{
    const struct lend_cuda_ops *cuda = NULL;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *pinned = NULL;

    if (library == NULL || lend_cuda_open(&cuda, &scene->error) != LEND_OK)
        return false;
    *(void **)&wait_value = dlsym(library, "cuStreamWaitValue32_v2");
    scene->cuda = cuda;
    if (wait_value == NULL || cuda->stream_create(&scene->stream, 1) != 0 ||
        cuda->allocate(&scene->device, BYTES) != 0 ||
        cuda->host_allocate(&pinned, 3 * BYTES, LEND_CUDA_HOST_PORTABLE) != 0)
        return false;
    memset(pinned, 0, 3 * BYTES);
    scene->word = pinned;
    scene->bytes = (uint8_t *)pinned + BYTES;
    scene->result = (uint8_t *)pinned + 2 * BYTES;
    for (size_t i = 0; i < BYTES; i++)
        scene->bytes[i] = (uint8_t)(i * 7 + i / 251 + 1);
    return true;
}

static enum lend_status enroll(struct lend_agent *agent, const struct lend_memory *memory,
                               struct lend_region **out, struct lend_error *error)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    desc.memory = *memory;
    desc.geometry.block_length_bytes = BYTES / BLOCKS;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ;
    return lend_region_register(agent, &desc, 1, out, NULL, error);
}

static enum lend_status meet(struct scene *scene)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    static uint8_t bytes[64 << 10];
    struct lend_memory memory;
    size_t count = 0;

    config.transports = "loopback";
    config.name = "owner";
    enum lend_status status = lend_agent_create(&config, &scene->owner, &scene->error);
    config.name = "reader";
    if (status == LEND_OK)
        status = lend_agent_create(&config, &scene->reader, &scene->error);
    if (status == LEND_OK)
        status = lend_memory_device(scene->device, BYTES, 0, &memory, &scene->error);
    if (status == LEND_OK)
        status = enroll(scene->owner, &memory, &scene->lent, &scene->error);
    if (status == LEND_OK)
        status = lend_memory_pinned(scene->result, BYTES, &memory, &scene->error);
    if (status == LEND_OK)
        status = enroll(scene->reader, &memory, &scene->own, &scene->error);
    if (status == LEND_OK)
        status = lend_metadata_export(scene->owner, bytes, sizeof bytes, &count, &scene->error);
    if (status == LEND_OK)
        status = lend_peer_import(scene->reader, bytes, count, &scene->peer, &scene->error);
    return status;
}

static enum lend_status lend_blocks(struct scene *scene, bool is_behind)
{
    struct lend_block_set set = {.regions = &scene->lent, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = 0;

    lend_ticket_release(scene->ticket);
    lend_lease_release(scene->lease);
    scene->ticket = NULL;
    scene->lease = NULL;
    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.time_to_live_ns = MINUTE;
    desc.flags = is_behind ? LEND_GRANT_AFTER_STREAM : 0;
    desc.stream = is_behind ? (uint64_t)(uintptr_t)scene->stream : 0;
    enum lend_status status = lend_lease_grant(scene->owner, &desc, &scene->lease, &scene->error);
    if (status == LEND_OK)
        status = lend_ticket_export(scene->lease, bytes, sizeof bytes, &count, &scene->error);
    if (status == LEND_OK)
        status = lend_ticket_import(scene->peer, bytes, count, &scene->ticket, &scene->error);
    return status;
}

static enum lend_status post(struct scene *scene)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    uint64_t there = lend_region_id(scene->lent);
    int32_t blocks[BLOCKS];
    enum lend_status status = LEND_OK;

    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = scene->peer;
    desc.local_regions = &scene->own;
    desc.remote_regions = &there;
    desc.block_count_max = BLOCKS;
    if (scene->transfer == NULL)
        status = lend_transfer_prepare(scene->reader, &desc, &scene->transfer, &scene->error);
    for (int32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    post.ticket = scene->ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    return status == LEND_OK ? lend_transfer_post(scene->transfer, &post, &scene->error) : status;
}

/* A first read has everything made that takes the driver's locks; the second is behind the stream.
 */
static const char *read_behind(struct scene *scene)
{
    if (lend_blocks(scene, false) != LEND_OK || post(scene) != LEND_OK ||
        lend_transfer_wait(scene->transfer, MINUTE) != LEND_OK)
        return "a read that waits for nothing failed";
    if (wait_value(scene->stream, (uint64_t)(uintptr_t)scene->word, 1, 0) != 0 ||
        scene->cuda->copy_to_device(scene->device, scene->bytes, BYTES, scene->stream) != 0)
        return "the stream takes no work";
    const char *wrong = NULL;
    if (lend_blocks(scene, true) != LEND_OK || post(scene) != LEND_OK)
        wrong = "it was refused";
    else if (lend_transfer_wait(scene->transfer, MINUTE / 600) != LEND_PENDING)
        wrong = "it did not wait";
    /* In any case, so that the stream ends. Release: what came before is there for it. */
    __atomic_store_n(scene->word, 1, __ATOMIC_RELEASE);
    if (wrong == NULL && lend_transfer_wait(scene->transfer, MINUTE) != LEND_OK)
        wrong = "it failed";
    else if (wrong == NULL && memcmp(scene->result, scene->bytes, BYTES) != 0)
        wrong = "it has other bytes than the stream wrote";
    return wrong;
}

bool test_behind_stream(void)
{
    struct scene scene = {0};
    const char *wrong = "it was not set up";

    if (make_memory(&scene) && meet(&scene) == LEND_OK)
        wrong = read_behind(&scene);
    (void)printf("| a read under a lease granted behind a stream | %s | %s %s |\n",
                 wrong == NULL ? "passed" : "FAILED", wrong != NULL ? wrong : "",
                 wrong != NULL ? scene.error.message : "");
    if (scene.transfer != NULL)
        (void)lend_transfer_release(scene.transfer);
    lend_ticket_release(scene.ticket);
    lend_lease_release(scene.lease);
    if (scene.peer != NULL)
        lend_peer_forget(scene.peer);
    lend_agent_destroy(scene.reader);
    lend_agent_destroy(scene.owner);
    if (scene.word != NULL)
        (void)scene.cuda->host_free((void *)(uintptr_t)scene.word);
    if (scene.device != 0)
        (void)scene.cuda->free(scene.device);
    if (scene.stream != NULL)
        (void)scene.cuda->stream_destroy(scene.stream);
    return wrong == NULL;
}
