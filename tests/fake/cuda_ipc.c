/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of the fake CUDA driver: allocations that one process makes known, and another opens. */

struct opened {
    uint64_t base; /* of it here; 0: free */
    uint64_t original;
    uint64_t id;
    int count;
    void *mapped; /* its bytes, by their file; NULL: they were here before */
};

/* What is in a handle. */
struct handle {
    char magic[8];
    int64_t pid;
    uint64_t base;
    uint64_t id;
    uint64_t bytes;
    int64_t fd;
};

static struct opened openings[FAKE_CUDA_ALLOCATIONS_MAX];
static int torn;
static bool may_open_own;

void fake_cuda_reset_openings(void)
{
    memset(openings, 0, sizeof openings);
    torn = 0;
    may_open_own = false;
}

void fake_cuda_open_own(int is_allowed)
{
    may_open_own = is_allowed != 0;
}

int fake_cuda_opened(void)
{
    int opened = 0;

    fake_cuda_lock();
    for (size_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++)
        opened += openings[i].count;
    fake_cuda_unlock();
    return opened;
}

int fake_cuda_torn(void)
{
    return torn;
}

int cuIpcGetMemHandle(struct lend_cuda_ipc *out, uint64_t pointer)
{
    int result = fake_cuda_enter("cuIpcGetMemHandle");
    struct handle handle = {.magic = "fakeipc", .pid = getpid()};

    if (result != 0)
        return result;
    fake_cuda_lock();
    const struct fake_cuda_allocation *allocation = fake_cuda_find_locked(pointer);
    if (allocation == NULL || allocation->type != LEND_CUDA_MEMORY_DEVICE ||
        allocation->is_contextless) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        handle.base = allocation->base;
        handle.id = allocation->buffer_id;
        handle.bytes = allocation->length_bytes;
        handle.fd = allocation->fd;
        memset(out, 0, sizeof *out);
        memcpy(out->bytes, &handle, sizeof handle);
    }
    fake_cuda_unlock();
    return result;
}

static struct opened *find_opening(const struct handle *handle)
{
    struct opened *free_one = NULL;

    for (size_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++) {
        if (openings[i].base != 0 && openings[i].original == handle->base &&
            openings[i].id == handle->id)
            return &openings[i];
        if (openings[i].base == 0)
            free_one = &openings[i];
    }
    return free_one;
}

/* The bytes of another process's; NULL: they cannot be had. */
static void *map_file(const struct handle *handle)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)handle->pid,
                   (long long)handle->fd);
    int fd = handle->fd > 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *mapped = mmap(NULL, handle->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return mapped == MAP_FAILED ? NULL : mapped;
}

/* The same bytes at another address. False: there is no such allocation. */
static bool map_again_locked(const struct handle *handle, struct opened *out)
{
    const struct fake_cuda_allocation *known = fake_cuda_find_locked(handle->base);
    bool is_known = known != NULL && known->base == handle->base &&
                    known->buffer_id == handle->id && known->bytes != NULL;
    void *mapped = is_known ? NULL : map_file(handle);

    if (!is_known && mapped == NULL)
        return false;
    void *place =
        mmap(NULL, handle->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED)
        return false;
    const struct fake_cuda_allocation again = {
        .base = (uint64_t)(uintptr_t)place,
        .length_bytes = handle->bytes,
        .buffer_id = UINT64_C(500000) + (uint64_t)(uintptr_t)place / 4096,
        .type = LEND_CUDA_MEMORY_DEVICE,
        .ordinal = is_known ? known->ordinal : 0,
        .bytes = is_known ? known->bytes : mapped,
    };
    *out = (struct opened){
        .base = again.base, .original = handle->base, .id = handle->id, .mapped = mapped};
    return fake_cuda_add_locked(&again);
}

int cuIpcOpenMemHandle_v2(uint64_t *out_pointer, struct lend_cuda_ipc handle_bytes, unsigned flags)
{
    int result = fake_cuda_enter("cuIpcOpenMemHandle");
    struct handle handle;

    if (result != 0)
        return result;
    memcpy(&handle, handle_bytes.bytes, sizeof handle);
    if (memcmp(handle.magic, "fakeipc", sizeof handle.magic) != 0 || flags > 1)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    if (handle.pid == getpid() && !may_open_own)
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    fake_cuda_lock();
    struct opened *opened = find_opening(&handle);
    if (opened == NULL || (opened->base == 0 && !map_again_locked(&handle, opened))) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        opened->count++;
        *out_pointer = opened->base;
    }
    fake_cuda_unlock();
    return result;
}

/* Nothing that is under way may still read it: on a GPU that is a fault, or worse. */
static void unmap_locked(struct opened *opened)
{
    struct fake_cuda_allocation *allocation = fake_cuda_find_locked(opened->base);

    torn += fake_cuda_count_reading_locked(allocation);
    (void)munmap((void *)(uintptr_t)opened->base, allocation->length_bytes);
    if (opened->mapped != NULL)
        (void)munmap(opened->mapped, allocation->length_bytes);
    fake_cuda_remove_locked(allocation);
    *opened = (struct opened){.base = 0};
}

int cuIpcCloseMemHandle(uint64_t pointer)
{
    int result = fake_cuda_enter("cuIpcCloseMemHandle");
    struct opened *opened = NULL;

    if (result != 0)
        return result;
    fake_cuda_lock();
    for (size_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++)
        if (openings[i].base == pointer && pointer != 0)
            opened = &openings[i];
    if (opened == NULL)
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    else if (--opened->count == 0)
        unmap_locked(opened);
    fake_cuda_unlock();
    return result;
}
