/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the fake CUDA driver: chunks of memory, the addresses that they are mapped to, and what a GPU
 * says of itself. A chunk is a file in memory, which is also what is exported of it. */

enum { GRANULARITY = 16 << 10, ATTRIBUTES_MAX = 256, RANGES_MAX = 64, DEVICES = 2 };

struct chunk {
    int fd;
    int uses; /* handles and mappings; 0: there is no such chunk */
    size_t bytes;
    unsigned handle_types;
    int ordinal;
};

struct range {
    uint64_t start;
    size_t bytes; /* 0: there is no such range */
};

/* What is in a fabric handle. */
struct fabric {
    char magic[8];
    int64_t pid;
    int64_t fd;
};

static struct chunk chunks[FAKE_CUDA_ALLOCATIONS_MAX];
static struct range ranges[RANGES_MAX];
/* What a GPU says of itself until it is told to say something else. */
#define ATTRIBUTES                                                                                 \
    {                                                                                              \
        [LEND_CUDA_DEVICE_HAS_CHUNKS] = 1, [LEND_CUDA_DEVICE_HAS_FD] = 1,                          \
        [LEND_CUDA_DEVICE_RDMA_CHUNKS] = 1, [LEND_CUDA_DEVICE_HOST_NUMA_ID] = -1,                  \
    }

static int attributes[ATTRIBUTES_MAX] = ATTRIBUTES;

void fake_cuda_reset_chunks(void)
{
    static const int at_first[ATTRIBUTES_MAX] = ATTRIBUTES;

    memset(chunks, 0, sizeof chunks);
    memset(ranges, 0, sizeof ranges);
    memcpy(attributes, at_first, sizeof attributes);
}

void fake_cuda_attribute(int attribute, int value)
{
    attributes[attribute] = value;
}

int fake_cuda_chunk_attribute(int attribute)
{
    return attribute >= 0 && attribute < ATTRIBUTES_MAX ? attributes[attribute] : 0;
}

int fake_cuda_chunks(void)
{
    int count = 0;

    fake_cuda_lock();
    for (size_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++)
        count += chunks[i].uses > 0;
    for (size_t i = 0; i < RANGES_MAX; i++)
        count += ranges[i].bytes > 0;
    fake_cuda_unlock();
    return count;
}

/* A handle is one more than the chunk's place. */
static struct chunk *find_chunk(uint64_t handle)
{
    return handle > 0 && handle <= FAKE_CUDA_ALLOCATIONS_MAX && chunks[handle - 1].uses > 0
               ? &chunks[handle - 1]
               : NULL;
}

static void drop_locked(struct chunk *chunk)
{
    if (--chunk->uses == 0)
        (void)close(chunk->fd);
}

/* 0: there is no room. */
static uint64_t add_locked(const struct chunk *chunk)
{
    for (uint64_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++) {
        if (chunks[i].uses > 0)
            continue;
        chunks[i] = *chunk;
        chunks[i].uses = 1;
        return i + 1;
    }
    return 0;
}

int cuMemGetAllocationGranularity(size_t *out, const struct lend_cuda_chunk *chunk, int kind)
{
    int result = fake_cuda_enter("cuMemGetAllocationGranularity");

    if (result == 0 && (chunk->type != LEND_CUDA_CHUNK_PINNED || kind < 0 || kind > 1))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    *out = GRANULARITY;
    return result;
}

int cuMemCreate(uint64_t *out_handle, size_t bytes, const struct lend_cuda_chunk *wanted,
                unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemCreate");
    char name[32];

    if (result == 0 && (bytes == 0 || bytes % GRANULARITY != 0 || flags != 0 ||
                        wanted->type != LEND_CUDA_CHUNK_PINNED || wanted->compression != 0 ||
                        wanted->usage != 0 || wanted->location.type != LEND_CUDA_LOCATION_DEVICE ||
                        wanted->location.id < 0 || wanted->location.id >= DEVICES))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result != 0)
        return result;
    (void)snprintf(name, sizeof name, "fake-gpu-chunk-%d", wanted->location.id);
    struct chunk chunk = {.fd = memfd_create(name, MFD_CLOEXEC),
                          .bytes = bytes,
                          .handle_types = wanted->handle_types,
                          .ordinal = wanted->location.id};
    if (chunk.fd < 0 || ftruncate(chunk.fd, (off_t)bytes) != 0)
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;
    fake_cuda_lock();
    *out_handle = add_locked(&chunk);
    fake_cuda_unlock();
    return *out_handle == 0 ? LEND_CUDA_ERROR_OUT_OF_MEMORY : LEND_CUDA_SUCCESS;
}

int cuMemRelease(uint64_t handle)
{
    int result = fake_cuda_enter("cuMemRelease");

    if (result != 0)
        return result;
    fake_cuda_lock();
    struct chunk *chunk = find_chunk(handle);
    if (chunk == NULL)
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    else
        drop_locked(chunk);
    fake_cuda_unlock();
    return result;
}

int cuMemRetainAllocationHandle(uint64_t *out_handle, void *mapped)
{
    int result = fake_cuda_enter("cuMemRetainAllocationHandle");

    if (result != 0)
        return result;
    fake_cuda_lock();
    const struct fake_cuda_allocation *there = fake_cuda_find_locked((uint64_t)(uintptr_t)mapped);
    if (there == NULL || there->chunk == 0) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        *out_handle = there->chunk;
        find_chunk(there->chunk)->uses++;
    }
    fake_cuda_unlock();
    return result;
}

int cuMemExportToShareableHandle(void *out, uint64_t handle, int type, unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemExportToShareableHandle");

    if (result != 0)
        return result;
    fake_cuda_lock();
    const struct chunk *chunk = find_chunk(handle);
    if (chunk == NULL || (chunk->handle_types & (unsigned)type) == 0 || flags != 0) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else if (type == LEND_CUDA_HANDLE_FD) {
        int fd = fcntl(chunk->fd, F_DUPFD_CLOEXEC, 0);

        memcpy(out, &fd, sizeof fd);
        result = fd < 0 ? LEND_CUDA_ERROR_OUT_OF_MEMORY : 0;
    } else {
        const struct fabric fabric = {.magic = "fakefab", .pid = getpid(), .fd = chunk->fd};

        memset(out, 0, LEND_CUDA_IPC_BYTES);
        memcpy(out, &fabric, sizeof fabric);
    }
    fake_cuda_unlock();
    return result;
}

/* A descriptor of our own for what the handle names; -1: it names nothing. */
static int take_shared(void *shared, int type)
{
    const struct fabric *fabric = shared;
    char path[64];

    if (type == LEND_CUDA_HANDLE_FD)
        return fcntl((int)(intptr_t)shared, F_DUPFD_CLOEXEC, 0);
    if (type != LEND_CUDA_HANDLE_FABRIC || memcmp(fabric->magic, "fakefab", 8) != 0)
        return -1;
    (void)snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)fabric->pid,
                   (long long)fabric->fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* The GPU that its file's name tells of; -1: it is no chunk. */
static int ordinal_of(int fd)
{
    static const char prefix[] = "/memfd:fake-gpu-chunk-";
    char path[64], name[128] = "";

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, name, sizeof name - 1) < 0 || strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -1;
    return name[sizeof prefix - 1] - '0';
}

int cuMemImportFromShareableHandle(uint64_t *out_handle, void *shared, int type)
{
    int result = fake_cuda_enter("cuMemImportFromShareableHandle");
    struct stat file;

    if (result != 0)
        return result;
    struct chunk chunk = {.fd = take_shared(shared, type), .handle_types = (unsigned)type};
    if (chunk.fd < 0)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    chunk.ordinal = ordinal_of(chunk.fd);
    if (chunk.ordinal < 0 || fstat(chunk.fd, &file) != 0) {
        (void)close(chunk.fd);
        return LEND_CUDA_ERROR_INVALID_VALUE;
    }
    chunk.bytes = (size_t)file.st_size;
    fake_cuda_lock();
    *out_handle = add_locked(&chunk);
    fake_cuda_unlock();
    return *out_handle == 0 ? LEND_CUDA_ERROR_OUT_OF_MEMORY : LEND_CUDA_SUCCESS;
}

/* --- memory of the host --- */

int cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags)
{
    int result = fake_cuda_enter("cuMemHostRegister");

    if (result == 0 && (memory == NULL || bytes == 0 || flags != LEND_CUDA_HOST_PORTABLE))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result == 0)
        fake_cuda_keep(1);
    return result;
}

int cuMemHostUnregister(void *memory)
{
    int result = fake_cuda_enter("cuMemHostUnregister");

    (void)memory;
    if (result == 0)
        fake_cuda_keep(-1);
    return result;
}

/* --- addresses --- */

int cuMemAddressReserve(uint64_t *out, size_t bytes, size_t alignment, uint64_t wanted,
                        unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemAddressReserve");

    if (result == 0 &&
        (bytes == 0 || bytes % GRANULARITY != 0 || alignment != 0 || wanted != 0 || flags != 0))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result != 0)
        return result;
    void *place = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    result = LEND_CUDA_ERROR_OUT_OF_MEMORY;
    fake_cuda_lock();
    for (size_t i = 0; i < RANGES_MAX && result != 0 && place != MAP_FAILED; i++) {
        if (ranges[i].bytes != 0)
            continue;
        ranges[i] = (struct range){.start = (uint64_t)(uintptr_t)place, .bytes = bytes};
        *out = ranges[i].start;
        result = LEND_CUDA_SUCCESS;
    }
    fake_cuda_unlock();
    return result;
}

static struct range *find_range(uint64_t address, size_t bytes)
{
    for (size_t i = 0; i < RANGES_MAX; i++)
        if (address >= ranges[i].start && address + bytes <= ranges[i].start + ranges[i].bytes)
            return &ranges[i];
    return NULL;
}

/* All of it, and nothing is mapped there any more. */
int cuMemAddressFree(uint64_t address, size_t bytes)
{
    int result = fake_cuda_enter("cuMemAddressFree");

    if (result != 0)
        return result;
    fake_cuda_lock();
    struct range *range = find_range(address, bytes);
    bool is_free = range != NULL && range->start == address && range->bytes == bytes;
    for (size_t at = 0; is_free && at < bytes; at += GRANULARITY)
        is_free = fake_cuda_find_locked(address + at) == NULL;
    if (is_free) {
        (void)munmap((void *)(uintptr_t)address, bytes);
        *range = (struct range){.bytes = 0};
    } else {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    }
    fake_cuda_unlock();
    return result;
}

static int map_locked(uint64_t address, size_t bytes, uint64_t handle)
{
    struct chunk *chunk = find_chunk(handle);

    if (chunk == NULL || bytes > chunk->bytes || find_range(address, bytes) == NULL ||
        fake_cuda_find_locked(address) != NULL)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    void *inside = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, chunk->fd, 0);
    const struct fake_cuda_allocation mapped = {
        .base = address,
        .length_bytes = bytes,
        .buffer_id = fake_cuda_next_id(),
        .type = LEND_CUDA_MEMORY_DEVICE,
        .ordinal = chunk->ordinal,
        .is_contextless = 1,
        .bytes = inside,
        .handle_types = chunk->handle_types,
        .chunk = (unsigned)handle,
        .is_closed = 1,
    };
    if (inside == MAP_FAILED || !fake_cuda_add_locked(&mapped))
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;
    chunk->uses++;
    return LEND_CUDA_SUCCESS;
}

int cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
             unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemMap");

    if (result == 0 && (bytes == 0 || bytes % GRANULARITY != 0 || offset != 0 || flags != 0))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result != 0)
        return result;
    fake_cuda_lock();
    result = map_locked(address, bytes, handle);
    fake_cuda_unlock();
    return result;
}

int cuMemUnmap(uint64_t address, size_t bytes)
{
    int result = fake_cuda_enter("cuMemUnmap");

    if (result != 0)
        return result;
    fake_cuda_lock();
    struct fake_cuda_allocation *there = fake_cuda_find_locked(address);
    if (there == NULL || there->chunk == 0 || there->base != address ||
        there->length_bytes != bytes) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        fake_cuda_note_torn_locked(there);
        (void)munmap(there->bytes, bytes);
        drop_locked(find_chunk(there->chunk));
        fake_cuda_remove_locked(there);
    }
    fake_cuda_unlock();
    return result;
}

int cuMemSetAccess(uint64_t address, size_t bytes, const struct lend_cuda_access *access,
                   size_t count)
{
    int result = fake_cuda_enter("cuMemSetAccess");

    if (result == 0 && (count != 1 || access->location.type != LEND_CUDA_LOCATION_DEVICE ||
                        (access->rights != LEND_CUDA_ACCESS_READ &&
                         access->rights != LEND_CUDA_ACCESS_READ_WRITE)))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    fake_cuda_lock();
    for (uint64_t at = address; result == 0 && at < address + bytes;) {
        struct fake_cuda_allocation *there = fake_cuda_find_locked(at);

        if (there == NULL || there->chunk == 0 || there->base != at) {
            result = LEND_CUDA_ERROR_INVALID_VALUE;
            break;
        }
        there->is_closed = 0;
        there->is_read_only = access->rights == LEND_CUDA_ACCESS_READ;
        at += there->length_bytes;
    }
    fake_cuda_unlock();
    return result;
}
