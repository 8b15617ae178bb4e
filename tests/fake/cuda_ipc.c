/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of the fake CUDA driver: allocations that one process makes known, and another opens; and pools,
 * of which the same is true. */

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

enum { POOLS_MAX = 16 };

/* A pool; of what is imported, another process's. */
struct pool {
    bool is_there;
    unsigned handle_types;
    int ordinal;
    int fd; /* that others know it by */
    bool is_imported;
    bool has_access;
};

static struct opened openings[FAKE_CUDA_ALLOCATIONS_MAX];
static struct pool pools[POOLS_MAX];
static int torn;
static bool may_open_own;

void fake_cuda_reset_openings(void)
{
    memset(openings, 0, sizeof openings);
    memset(pools, 0, sizeof pools);
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

void fake_cuda_note_torn_locked(const struct fake_cuda_allocation *allocation)
{
    torn += fake_cuda_count_reading_locked(allocation);
}

static struct handle handle_of(const struct fake_cuda_allocation *allocation)
{
    return (struct handle){.magic = "fakeipc",
                           .pid = getpid(),
                           .base = allocation->base,
                           .id = allocation->buffer_id,
                           .bytes = allocation->length_bytes,
                           .fd = allocation->fd};
}

int cuIpcGetMemHandle(struct lend_cuda_ipc *out, uint64_t pointer)
{
    int result = fake_cuda_enter("cuIpcGetMemHandle");

    if (result != 0)
        return result;
    fake_cuda_lock();
    const struct fake_cuda_allocation *allocation = fake_cuda_find_locked(pointer);
    if (allocation == NULL || allocation->type != LEND_CUDA_MEMORY_DEVICE ||
        allocation->is_contextless) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        const struct handle handle = handle_of(allocation);

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

    fake_cuda_note_torn_locked(allocation);
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

/* --- pools --- */

int fake_cuda_pools(void)
{
    int count = 0;

    fake_cuda_lock();
    for (size_t i = 0; i < POOLS_MAX; i++)
        count += pools[i].is_there;
    fake_cuda_unlock();
    return count;
}

static void *make_pool(const struct pool *pool)
{
    void *made = NULL;

    fake_cuda_lock();
    for (size_t i = 0; i < POOLS_MAX && made == NULL; i++) {
        if (pools[i].is_there)
            continue;
        pools[i] = *pool;
        pools[i].is_there = true;
        made = &pools[i];
    }
    fake_cuda_unlock();
    return made;
}

int cuMemPoolCreate(void **out_pool, const struct fake_cuda_pool_desc *desc)
{
    int result = fake_cuda_enter("cuMemPoolCreate");
    const struct pool pool = {.handle_types = desc->handle_types,
                              .ordinal = desc->ordinal,
                              .fd = memfd_create("fake-gpu-pool", MFD_CLOEXEC)};

    if (result == 0)
        *out_pool = make_pool(&pool);
    return result;
}

int cuMemPoolDestroy(void *pool)
{
    int result = fake_cuda_enter("cuMemPoolDestroy");

    if (result != 0)
        return result;
    (void)close(((struct pool *)pool)->fd);
    ((struct pool *)pool)->is_there = false;
    return result;
}

int cuMemAllocFromPoolAsync(uint64_t *out_pointer, size_t bytes, void *pool, void *stream)
{
    int result = fake_cuda_enter("cuMemAllocFromPoolAsync");

    (void)stream;
    if (result == 0)
        result = cuMemAlloc_v2(out_pointer, bytes);
    if (result != 0)
        return result;
    fake_cuda_lock();
    struct fake_cuda_allocation *made = fake_cuda_find_locked(*out_pointer);
    made->is_contextless = 1;
    made->pool = pool;
    made->handle_types = ((struct pool *)pool)->handle_types;
    fake_cuda_unlock();
    return result;
}

int cuMemPoolExportToShareableHandle(void *out, void *pool, int type, unsigned long long flags)
{
    const struct pool *it = pool;
    int result = fake_cuda_enter("cuMemPoolExportToShareableHandle");

    if (result == 0 && ((it->handle_types & (unsigned)type) == 0 || it->is_imported || flags != 0))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result != 0)
        return result;
    if (type == LEND_CUDA_HANDLE_FD) {
        int fd = fcntl(it->fd, F_DUPFD_CLOEXEC, 0);

        memcpy(out, &fd, sizeof fd);
    } else {
        memset(out, 0, LEND_CUDA_IPC_BYTES);
        memcpy(out, "fakepool", 8);
    }
    return result;
}

int cuMemPoolExportPointer(struct lend_cuda_ticket *out, uint64_t pointer)
{
    int result = fake_cuda_enter("cuMemPoolExportPointer");

    if (result != 0)
        return result;
    fake_cuda_lock();
    const struct fake_cuda_allocation *allocation = fake_cuda_find_locked(pointer);
    if (allocation == NULL || allocation->pool == NULL) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        const struct handle handle = handle_of(allocation);

        memset(out, 0, sizeof *out);
        memcpy(out->bytes, &handle, sizeof handle);
    }
    fake_cuda_unlock();
    return result;
}

static bool is_pool(void *shared, int type)
{
    char path[64], name[64] = "";

    if (type != LEND_CUDA_HANDLE_FD)
        return type == LEND_CUDA_HANDLE_FABRIC && memcmp(shared, "fakepool", 8) == 0;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", (int)(intptr_t)shared);
    return readlink(path, name, sizeof name - 1) > 0 && strstr(name, "fake-gpu-pool") != NULL;
}

int cuMemPoolImportFromShareableHandle(void **out_pool, void *shared, int type,
                                       unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemPoolImportFromShareableHandle");
    const struct pool pool = {.is_imported = true, .fd = -1};

    if (result == 0 && (flags != 0 || !is_pool(shared, type)))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result == 0)
        *out_pool = make_pool(&pool);
    return result;
}

int cuMemPoolSetAccess(void *pool, const struct lend_cuda_access *access, size_t count)
{
    int result = fake_cuda_enter("cuMemPoolSetAccess");

    if (result == 0 && (count != 1 || access->location.type != LEND_CUDA_LOCATION_DEVICE ||
                        access->rights != LEND_CUDA_ACCESS_READ_WRITE))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result == 0)
        ((struct pool *)pool)->has_access = true;
    return result;
}

int cuMemPoolImportPointer(uint64_t *out, void *pool, struct lend_cuda_ticket *ticket)
{
    int result = fake_cuda_enter("cuMemPoolImportPointer");
    const struct pool *it = pool;
    struct handle handle;

    memcpy(&handle, ticket->bytes, sizeof handle);
    if (result == 0 && (!it->is_imported || !it->has_access ||
                        memcmp(handle.magic, "fakeipc", sizeof handle.magic) != 0))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    if (result != 0)
        return result;
    fake_cuda_lock();
    struct opened *opened = find_opening(&handle);
    if (opened == NULL || opened->base != 0 || !map_again_locked(&handle, opened)) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else {
        opened->count = 1;
        *out = opened->base;
    }
    fake_cuda_unlock();
    return result;
}

bool fake_cuda_close_imported_locked(uint64_t pointer)
{
    for (size_t i = 0; i < FAKE_CUDA_ALLOCATIONS_MAX; i++)
        if (openings[i].base == pointer) {
            unmap_locked(&openings[i]);
            return true;
        }
    return false;
}
