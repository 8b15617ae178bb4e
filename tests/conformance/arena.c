/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "fake/cuda.h"
#include "memory/cuda.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The memory that a pair lends: slots that both processes see. In a setup with memory of a GPU, the
 * same slots are the memory of a fake one: a test sees the bytes where they are, and lend is given
 * addresses that no processor may touch (tests/fake/cuda.h).
 */

enum { PAGE_BYTES = 4096, ARENA_BYTES = PAIR_SLOTS * PAIR_SLOT_BYTES };

bool pair_is_device(const struct pair *pair)
{
    return (pair->setup->flags & BATTERY_DEVICE) != 0;
}

const char *pair_must_name(const struct pair *pair)
{
    bool is_far = strcmp(pair_carrier(pair), "tcp") == 0 || strcmp(pair_carrier(pair), "ucx") == 0;

    if (!pair_is_device(pair) || !is_far)
        return NULL;
    return pair_is_remote(pair) ? "verbs/read,verbs/write,tcp/staged" : pair->setup->path;
}

bool pair_is_slow(const struct pair *pair)
{
    return pair_must_name(pair) != NULL && !pair_is_remote(pair);
}

bool pair_is_opened(const struct pair *pair)
{
    return strcmp(pair->setup->path, "local/cuda") == 0;
}

bool pair_is_shared(const struct pair *pair)
{
    return pair_is_mapped(pair) || pair_is_opened(pair);
}

/* Map a file of its own into the slot, but for its last page, and seal it: nobody resizes it, and
 * nobody else maps it for writing. */
static int map_slot(uint8_t *slot)
{
    int fd = memfd_create("lend-battery", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, PAIR_SLOT_BYTES - PAGE_BYTES), 0);
    assert_ptr_equal(mmap(slot, PAIR_SLOT_BYTES - PAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0),
                     slot);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), 0);
    return fd;
}

static uint8_t *map_nothing(void)
{
    void *place =
        mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(place != MAP_FAILED);
    return place;
}

/* Every slot is an allocation of the fake GPU's, for both processes. */
static void give_to_gpu(struct pair *pair)
{
    pair->gpu = map_nothing();
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    for (size_t slot = 0; slot < PAIR_SLOTS; slot++) {
        const struct fake_cuda_allocation allocation = {
            .base = (uint64_t)(uintptr_t)(pair->gpu + slot * PAIR_SLOT_BYTES),
            .length_bytes = PAIR_SLOT_BYTES - PAGE_BYTES,
            .buffer_id = 100 + slot,
            .type = LEND_CUDA_MEMORY_DEVICE,
            .bytes = pair->arena + slot * PAIR_SLOT_BYTES,
        };

        fake_cuda_add(&allocation);
    }
}

void pair_map_arena(struct pair *pair)
{
    pair->arena = map_nothing();
    for (size_t slot = 0; slot < PAIR_SLOTS; slot++)
        pair->slot_fds[slot] = map_slot(pair->arena + slot * PAIR_SLOT_BYTES);
    if (pair_is_device(pair))
        give_to_gpu(pair);
}

void pair_unmap_arena(struct pair *pair)
{
    (void)munmap(pair->arena, ARENA_BYTES);
    for (size_t slot = 0; slot < PAIR_SLOTS; slot++)
        (void)close(pair->slot_fds[slot]);
    if (!pair_is_device(pair))
        return;
    (void)munmap(pair->gpu, ARENA_BYTES);
    lend_cuda = NULL;
    /* The reader's agent, and where it lives beside it the owner's, gave back what they had of the
     * driver. */
    assert_int_equal(fake_cuda_held(), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    assert_int_equal(fake_cuda_opened(), 0);
    assert_int_equal(fake_cuda_torn(), 0);
    fake_cuda_reset(); /* others may have those addresses next */
}

void *pair_memory(struct pair *pair, size_t bytes)
{
    size_t room = PAIR_SLOT_BYTES - PAGE_BYTES, rounded = (bytes + 63) & ~(size_t)63;
    size_t slot = pair_take_slot(pair);

    assert_true(rounded <= room);
    assert_true(slot < PAIR_SLOTS);
    return pair->arena + slot * PAIR_SLOT_BYTES + room - rounded;
}

void pair_note_end(struct pair *pair, const void *memory, bool is_owners)
{
    size_t slot = (size_t)((const uint8_t *)memory - pair->arena) / PAIR_SLOT_BYTES;
    uint32_t flag = is_owners ? BATTERY_HOST_OWNER : BATTERY_HOST_READER;

    pair->is_host[slot] = (pair->setup->flags & flag) != 0;
}

uint64_t pair_address(const struct pair *pair, const void *memory)
{
    const uint8_t *at = memory;

    if (pair_is_device(pair) && at >= pair->arena && at < pair->arena + ARENA_BYTES &&
        !pair->is_host[(size_t)(at - pair->arena) / PAIR_SLOT_BYTES])
        at = pair->gpu + (at - pair->arena);
    return (uint64_t)(uintptr_t)at;
}

enum lend_status pair_describe(const struct pair *pair, const void *memory, uint64_t bytes,
                               struct lend_memory *out, struct lend_error *error)
{
    uint64_t address = pair_address(pair, memory);

    return address == (uint64_t)(uintptr_t)memory
               ? lend_memory_system(memory, bytes, out, error)
               : lend_memory_device(address, bytes, 0, out, error);
}
