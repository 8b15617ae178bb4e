/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"
#include "pair.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The memory that a pair lends: slots that both processes see. In a setup with memory of a GPU a
 * slot is an allocation of the process that lends it. What a test knows it by is the slot all the
 * same, which has no rights then: the bytes are reached by the functions here alone, and a test
 * that forgets it ends in SIGSEGV, whatever the GPU is.
 */

enum {
    PAGE_BYTES = 4096,
    ROOM_BYTES = PAIR_SLOT_BYTES - PAGE_BYTES, /* of a slot, but for its last page */
    ARENA_BYTES = PAIR_SLOTS * PAIR_SLOT_BYTES,
    PIECE_BYTES = 1 << 20,
};

/* Of both processes, in a slot of its own. */
struct arena {
    uint64_t gpu[PAIR_SLOTS]; /* where that slot is in the memory of a GPU; 0: nowhere */
    bool is_owners[PAIR_SLOTS];
    /* What the owner is asked for. */
    uint64_t address;
    size_t byte_count;
    uint8_t bytes[PIECE_BYTES];
};

_Static_assert(sizeof(struct arena) <= ROOM_BYTES, "it lies in one slot");

static struct pair *current; /* whose arena is mapped */

static struct arena *arena_of(const struct pair *pair)
{
    return (void *)(pair->arena + (PAIR_SLOTS_SHARED - 1) * PAIR_SLOT_BYTES);
}

/* Map a file of its own into the slot, but for its last page, and seal it: nobody resizes it, and
 * nobody else maps it for writing. */
static int map_slot(uint8_t *slot)
{
    int fd = memfd_create("lend-battery", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, ROOM_BYTES), 0);
    assert_ptr_equal(mmap(slot, ROOM_BYTES, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0),
                     slot);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), 0);
    return fd;
}

void pair_map_arena(struct pair *pair)
{
    pair->arena =
        mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(pair->arena != MAP_FAILED);
    for (size_t slot = 0; slot < PAIR_SLOTS; slot++) {
        uint8_t *place = pair->arena + slot * PAIR_SLOT_BYTES;

        pair->slot_fds[slot] = map_slot(place);
        if (pair_is_device(pair) && slot >= PAIR_SLOTS_SHARED)
            assert_int_equal(mprotect(place, ROOM_BYTES, PROT_NONE), 0);
    }
    if (pair_is_device(pair))
        battery_gpu_begin();
    current = pair;
}

void pair_unmap_arena(struct pair *pair)
{
    const struct arena *arena = arena_of(pair);

    for (size_t slot = 0; slot < PAIR_SLOTS; slot++) {
        /* What is another process's went with it. */
        if (arena->gpu[slot] != 0 && !(arena->is_owners[slot] && pair_is_apart(pair)))
            battery_gpu_free(arena->gpu[slot]);
        (void)close(pair->slot_fds[slot]);
    }
    current = NULL;
    (void)munmap(pair->arena, ARENA_BYTES);
    if (pair_is_device(pair))
        battery_gpu_end();
}

static void do_allocate(struct pair *pair)
{
    arena_of(pair)->address = battery_gpu_allocate(ROOM_BYTES);
}

/* Has that end memory of the host's, though the other has a GPU's? */
static bool is_host(const struct pair *pair, enum pair_end end)
{
    uint32_t flag = end == PAIR_OWNER ? BATTERY_HOST_OWNER : BATTERY_HOST_READER;

    return !pair_is_device(pair) || (pair->setup->flags & flag) != 0;
}

void *pair_memory(struct pair *pair, enum pair_end end, size_t bytes)
{
    struct arena *arena = arena_of(pair);
    size_t slot = pair_take_slot(pair), rounded = (bytes + 63) & ~(size_t)63;

    assert_true(rounded <= ROOM_BYTES);
    assert_true(slot < PAIR_SLOTS);
    uint8_t *place = pair->arena + slot * PAIR_SLOT_BYTES, *memory = place + ROOM_BYTES - rounded;
    arena->is_owners[slot] = end == PAIR_OWNER;
    if (is_host(pair, end)) {
        assert_false(pair_is_device(pair) && pair_is_apart(pair)); /* it is this process's right */
        assert_int_equal(mprotect(place, ROOM_BYTES, PROT_READ | PROT_WRITE), 0);
        return memory;
    }
    if (end == PAIR_OWNER)
        pair_at_owner(pair, do_allocate);
    else
        do_allocate(pair);
    arena->gpu[slot] = arena->address;
    memory_set(memory, 0, rounded);
    return memory;
}

/* Where a GPU has that byte; 0: none has, and it is where the pointer says. */
static uint64_t find_on_gpu(const struct pair *pair, const void *memory)
{
    uintptr_t offset = (uintptr_t)memory - (uintptr_t)pair->arena;

    if (!pair_is_device(pair) || offset >= ARENA_BYTES)
        return 0;
    uint64_t base = arena_of(pair)->gpu[offset / PAIR_SLOT_BYTES];
    return base == 0 ? 0 : base + offset % PAIR_SLOT_BYTES;
}

uint64_t pair_address(const struct pair *pair, const void *memory)
{
    uint64_t address = find_on_gpu(pair, memory);

    return address != 0 ? address : (uint64_t)(uintptr_t)memory;
}

enum lend_status pair_describe(const struct pair *pair, const void *memory, uint64_t bytes,
                               struct lend_memory *out, struct lend_error *error)
{
    uint64_t address = find_on_gpu(pair, memory);

    return address == 0 ? lend_memory_system(memory, bytes, out, error)
                        : lend_memory_device(address, bytes, 0, out, error);
}

/* --- its bytes --- */

static void do_put(struct pair *pair)
{
    const struct arena *arena = arena_of(pair);

    battery_gpu_put(arena->address, arena->bytes, arena->byte_count);
}

static void do_get(struct pair *pair)
{
    struct arena *arena = arena_of(pair);

    battery_gpu_get(arena->bytes, arena->address, arena->byte_count);
}

/* Is that memory of a GPU of the owner's, in its process? */
static bool is_far(const void *memory)
{
    size_t slot = (size_t)((const uint8_t *)memory - current->arena) / PAIR_SLOT_BYTES;

    return arena_of(current)->is_owners[slot] && pair_is_apart(current);
}

/* How much of it goes at once. */
static size_t piece_of(uint64_t bytes)
{
    return bytes < PIECE_BYTES ? (size_t)bytes : PIECE_BYTES;
}

static void put_far(uint64_t address, const uint8_t *from, uint64_t bytes)
{
    struct arena *arena = arena_of(current);

    for (uint64_t at = 0; at < bytes; at += arena->byte_count) {
        arena->address = address + at;
        arena->byte_count = piece_of(bytes - at);
        memcpy(arena->bytes, from + at, arena->byte_count);
        pair_at_owner(current, do_put);
    }
}

static void get_far(uint8_t *to, uint64_t address, uint64_t bytes)
{
    struct arena *arena = arena_of(current);

    for (uint64_t at = 0; at < bytes; at += arena->byte_count) {
        arena->address = address + at;
        arena->byte_count = piece_of(bytes - at);
        pair_at_owner(current, do_get);
        memcpy(to + at, arena->bytes, arena->byte_count);
    }
}

void memory_put(void *to, const void *from, uint64_t bytes)
{
    uint64_t address = current != NULL ? find_on_gpu(current, to) : 0;

    if (address == 0)
        memcpy(to, from, bytes);
    else if (is_far(to))
        put_far(address, from, bytes);
    else
        battery_gpu_put(address, from, bytes);
}

void memory_get(void *to, const void *from, uint64_t bytes)
{
    uint64_t address = current != NULL ? find_on_gpu(current, from) : 0;

    if (address == 0)
        memcpy(to, from, bytes);
    else if (is_far(from))
        get_far(to, address, bytes);
    else
        battery_gpu_get(to, address, bytes);
}
