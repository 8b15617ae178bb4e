/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_CHUNKS_WORLD_H
#define LEND_TESTS_UNIT_CHUNKS_WORLD_H

/* Owners whose memory is made of chunks of the fake driver's, or is a pool's. */

#include "pidfds.h"
#include "staged_world.h"

enum {
    GRAIN = 16 << 10, /* the fake's granularity; every other chunk is twice as long */
    CHUNK_COUNT = BYTES / GRAIN * 2 / 3 + 2,
    TOUCHED = CHUNK_COUNT - 1, /* in which the tensor lies */
    RANGE_BYTES = (CHUNK_COUNT + CHUNK_COUNT / 2) * GRAIN,
};

_Static_assert(RANGE_BYTES >= BYTES + AHEAD, "the tensor lies within");
_Static_assert(GRAIN % AHEAD == 0 && BYTES % AHEAD == 0, "a page lies in one chunk");

static uint32_t chunk_types = LEND_CUDA_HANDLE_FD; /* that chunks, or the pool, are made with */
static uint32_t odd_chunk_types;                   /* of one of them, if it is not 0 */
static void *pool_of_test;

static inline uint64_t length_of_chunk(uint64_t index)
{
    return index % 2 == 0 ? GRAIN : 2 * GRAIN;
}

static inline void map_chunk(uint64_t address, uint64_t bytes, uint32_t types)
{
    const struct lend_cuda_chunk wanted = {
        .type = LEND_CUDA_CHUNK_PINNED,
        .handle_types = types,
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = 0},
    };
    uint64_t chunk = 0;

    assert_int_equal(cuMemCreate(&chunk, bytes, &wanted, 0), 0);
    assert_int_equal(cuMemMap(address, bytes, 0, chunk, 0), 0);
    assert_int_equal(cuMemRelease(chunk), 0);
}

static inline void open_chunks(uint64_t address, uint64_t bytes)
{
    const struct lend_cuda_access access = {
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = 0},
        .rights = LEND_CUDA_ACCESS_READ_WRITE,
    };

    assert_int_equal(cuMemSetAccess(address, bytes, &access, 1), 0);
}

static inline void free_chunks(struct memory *memory)
{
    uint64_t address = memory->allocation;

    for (uint64_t i = 0; i < CHUNK_COUNT; address += length_of_chunk(i++))
        assert_int_equal(cuMemUnmap(address, length_of_chunk(i)), 0);
    assert_int_equal(cuMemAddressFree(memory->allocation, RANGE_BYTES), 0);
    free(memory->bytes);
}

static inline void make_chunks(struct memory *memory)
{
    uint64_t at = 0;

    *memory = (struct memory){.is_device = true, .free = free_chunks, .bytes = malloc(BYTES)};
    assert_non_null(memory->bytes);
    assert_int_equal(cuMemAddressReserve(&memory->allocation, RANGE_BYTES, 0, 0, 0), 0);
    for (uint64_t i = 0; i < CHUNK_COUNT; at += length_of_chunk(i++))
        map_chunk(memory->allocation + at, length_of_chunk(i),
                  i == 7 && odd_chunk_types != 0 ? odd_chunk_types : chunk_types);
    open_chunks(memory->allocation, RANGE_BYTES);
    memory->address = memory->allocation + AHEAD;
}

static inline void free_pooled(struct memory *memory)
{
    assert_int_equal(cuMemFree_v2(memory->allocation), 0);
    assert_int_equal(cuMemPoolDestroy(pool_of_test), 0);
    free(memory->bytes);
}

static inline void make_pooled(struct memory *memory)
{
    const struct fake_cuda_pool_desc desc = {.type = LEND_CUDA_CHUNK_PINNED,
                                             .handle_types = chunk_types};

    *memory = (struct memory){.is_device = true, .free = free_pooled, .bytes = malloc(BYTES)};
    assert_non_null(memory->bytes);
    assert_int_equal(cuMemPoolCreate(&pool_of_test, &desc), 0);
    assert_int_equal(
        cuMemAllocFromPoolAsync(&memory->allocation, BYTES + 2 * AHEAD, pool_of_test, NULL), 0);
    memory->address = memory->allocation + AHEAD;
}

/* What it has in mind, to where the GPU has it: page by page, as chunks begin where pages do. */
static inline void store(const struct memory *memory)
{
    for (uint64_t at = 0; at < BYTES; at += AHEAD)
        memmove(fake_cuda_bytes(memory->address + at), memory->bytes + at, AHEAD);
}

static inline enum lend_status withdraw_region(struct world *world, struct lend_region *region,
                                               struct lend_error *error)
{
    enum lend_status status = LEND_E_BUSY;

    for (int i = 0; i < 1000 && status == LEND_E_BUSY; i++) {
        status = lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, error);
        step(world);
    }
    return status;
}

/* End a world of which the driver keeps something. */
static inline void abandon_world(struct world *world)
{
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    lend_lease_release(world->lease);
    lend_agent_destroy(world->reader.agent);
    lend_agent_destroy(world->owner.agent);
    free_memory(&world->reader.memory);
    free_memory(&world->owner.memory);
    assert_int_equal(rmdir(world->directory), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    lend_cuda = NULL;
}

#endif
