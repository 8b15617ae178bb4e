/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/gpu_storage.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/sys.h"
#include "memory/cuda.h"
#include "memory/lane.h"

#include <stdio.h>
#include <string.h>

enum { ALREADY_REGISTERED = 712 }; /* CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED */

struct lend_gpu_storage {
    int64_t life; /* of the process that made it */
    enum lend_memory_kind kind;
    int32_t ordinal;
    uint64_t address;      /* 0: there is none yet */
    uint64_t mapped_bytes; /* of a chunk at that address, or of the host's memory that we mapped */
    bool is_registered;    /* the host's memory is pinned as it was */
    char note[LEND_GPU_NOTE_BYTES];
    struct lend_lanes lanes; /* one, which holds the context */
    struct lend_lane *lane;
};

/* The GPU writes the zeros, and is waited for: whoever gets it shall find them. */
static enum lend_status zero_device(struct lend_gpu_storage *storage, uint64_t bytes,
                                    struct lend_error *error)
{
    const struct lend_lane_piece zeros = {.device = storage->address, .bytes = bytes};

    return lend_lane_do(storage->lane, &zeros, error);
}

/* What the lane's GPU says of itself; `otherwise` where its driver knows nothing of that. */
static int attribute_of(const struct lend_gpu_storage *storage, int attribute, int otherwise)
{
    const struct lend_cuda_ops *cuda = storage->lane->cuda;
    int device = 0, value = 0;

    if (cuda->device_get(&device, storage->ordinal) != LEND_CUDA_SUCCESS ||
        cuda->device_get_attribute(&value, attribute, device) != LEND_CUDA_SUCCESS)
        return otherwise;
    return value;
}

/* --- memory of a GPU --- */

/* A handle of a chunk; by a fabric's handles as well if its GPU has such. */
static int create_chunk(const struct lend_gpu_storage *storage, size_t bytes,
                        struct lend_cuda_chunk *wanted, uint64_t *out)
{
    const struct lend_cuda_ops *cuda = storage->lane->cuda;

    if (attribute_of(storage, LEND_CUDA_DEVICE_HAS_FABRIC, 0) != 0) {
        wanted->handle_types = LEND_CUDA_HANDLE_FD | LEND_CUDA_HANDLE_FABRIC;
        if (cuda->chunk_create(out, bytes, wanted, 0) == LEND_CUDA_SUCCESS)
            return LEND_CUDA_SUCCESS;
        wanted->handle_types = LEND_CUDA_HANDLE_FD; /* of no fabric, after all */
    }
    return cuda->chunk_create(out, bytes, wanted, 0);
}

static int map_chunk(struct lend_gpu_storage *storage, size_t bytes, uint64_t chunk)
{
    const struct lend_cuda_access access = {
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = storage->ordinal},
        .rights = LEND_CUDA_ACCESS_READ_WRITE};
    const struct lend_cuda_ops *cuda = storage->lane->cuda;
    uint64_t address = 0;
    int result = cuda->range_reserve(&address, bytes, 0, 0, 0);

    if (result != LEND_CUDA_SUCCESS)
        return result;
    result = cuda->map(address, bytes, 0, chunk, 0);
    if (result == LEND_CUDA_SUCCESS) {
        result = cuda->set_access(address, bytes, &access, 1);
        if (result == LEND_CUDA_SUCCESS) {
            storage->address = address;
            storage->mapped_bytes = bytes;
            return result;
        }
        (void)cuda->unmap(address, bytes); /* what failed first is told */
    }
    (void)cuda->range_free(address, bytes);
    return result;
}

/* One chunk, that others may open, and NICs read. Its result, and what was being done then. */
static int make_chunk(struct lend_gpu_storage *storage, uint64_t bytes, const char **what)
{
    const struct lend_cuda_ops *cuda = storage->lane->cuda;
    struct lend_cuda_chunk wanted = {
        .type = LEND_CUDA_CHUNK_PINNED,
        .handle_types = LEND_CUDA_HANDLE_FD,
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = storage->ordinal},
        .is_rdma_capable = attribute_of(storage, LEND_CUDA_DEVICE_RDMA_CHUNKS, 0) != 0};
    size_t grain = 0;
    uint64_t chunk = 0;
    int result = cuda->chunk_granularity(&grain, &wanted, 0);

    *what = "cuMemGetAllocationGranularity";
    if (result != LEND_CUDA_SUCCESS || grain == 0)
        return result;
    bytes = (bytes + grain - 1) / grain * grain;
    result = create_chunk(storage, bytes, &wanted, &chunk);
    *what = "cuMemCreate";
    if (result != LEND_CUDA_SUCCESS)
        return result;
    result = map_chunk(storage, bytes, chunk);
    *what = "mapping a chunk";
    (void)cuda->chunk_release(chunk); /* the mapping keeps it */
    (void)snprintf(storage->note, sizeof storage->note, "a chunk by cuMemCreate, for %s%s",
                   wanted.handle_types == LEND_CUDA_HANDLE_FD ? "file descriptors"
                                                              : "file descriptors and fabrics",
                   wanted.is_rdma_capable ? ", and for RDMA" : "; not for RDMA, says its GPU");
    return result;
}

/* LEND_E_UNSUPPORTED: there is none, and why; the storage is as it was. */
static enum lend_status try_chunk(struct lend_gpu_storage *storage, uint64_t bytes,
                                  struct lend_error *why)
{
    const char *what = NULL;

    if (attribute_of(storage, LEND_CUDA_DEVICE_HAS_CHUNKS, 0) == 0)
        return lend_fail(why, LEND_E_UNSUPPORTED, "GPU %d has no virtual memory management",
                         storage->ordinal);
    if (attribute_of(storage, LEND_CUDA_DEVICE_HAS_FD, 0) == 0)
        return lend_fail(why, LEND_E_UNSUPPORTED, "GPU %d exports no file descriptors",
                         storage->ordinal);
    enum lend_status status = lend_lane_enter(storage->lane, why);
    if (status != LEND_OK)
        return status;
    int result = make_chunk(storage, bytes, &what);
    lend_lane_leave(storage->lane);
    if (storage->address != 0)
        return LEND_OK;
    return lend_cuda_fail(why, storage->lane->cuda, result, what);
}

static enum lend_status allocate_device(struct lend_gpu_storage *storage, uint64_t bytes,
                                        struct lend_error *error)
{
    struct lend_error why = {0};

    if (try_chunk(storage, bytes, &why) != LEND_OK) {
        (void)snprintf(storage->note, sizeof storage->note, "cuMemAlloc, as %.150s", why.message);
        enum lend_status status =
            lend_lane_allocate(storage->lane, bytes, &storage->address, error);
        if (status != LEND_OK)
            return status;
    }
    return zero_device(storage, bytes, error);
}

static void free_device(const struct lend_gpu_storage *storage)
{
    const struct lend_cuda_ops *cuda = storage->lane->cuda;

    if (storage->mapped_bytes == 0) {
        lend_lane_free(storage->lane, storage->address);
    } else if (lend_lane_enter(storage->lane, NULL) == LEND_OK) {
        (void)cuda->unmap(storage->address, storage->mapped_bytes);
        (void)cuda->range_free(storage->address, storage->mapped_bytes);
        lend_lane_leave(storage->lane);
    }
}

/* --- pinned memory of the host --- */

static enum lend_status pin_there(struct lend_gpu_storage *storage, void *memory, uint64_t bytes,
                                  struct lend_error *error)
{
    enum lend_status status = lend_lane_enter(storage->lane, error);

    if (status != LEND_OK)
        return status;
    int result = storage->lane->cuda->host_register(memory, bytes, LEND_CUDA_HOST_PORTABLE);
    lend_lane_leave(storage->lane);
    if (result == ALREADY_REGISTERED)
        return lend_fail(error, LEND_E_INVALID,
                         "%p+%llu is pinned already: describe it with lend_memory_pinned()", memory,
                         (unsigned long long)bytes);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, storage->lane->cuda, result, "cuMemHostRegister");
    storage->address = (uint64_t)(uintptr_t)memory;
    storage->is_registered = true;
    return LEND_OK;
}

/* Zeros of that node. LEND_E_SYSTEM: the kernel gives none. */
static enum lend_status map_on_node(unsigned node, uint64_t bytes, void **out,
                                    struct lend_error *error)
{
    int fd = lend_sys->memfd_storage("lend-pinned", bytes, false);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "a file for %llu bytes", (unsigned long long)bytes);
    void *memory = lend_sys->map_file(fd, 0, bytes, true, false);
    lend_sys->close(fd);
    if (memory == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no room to map %llu bytes",
                         (unsigned long long)bytes);
    int result = lend_sys->bind_node(memory, bytes, node);
    if (result == 0) {
        *out = memory;
        return LEND_OK;
    }
    lend_sys->unmap(memory, bytes);
    return lend_fail_errno(error, -result, "binding to NUMA node %u", node);
}

static enum lend_status pin_on_node(struct lend_gpu_storage *storage, unsigned node, uint64_t bytes,
                                    struct lend_error *error)
{
    void *memory = NULL;
    enum lend_status status = map_on_node(node, bytes, &memory, error);

    if (status != LEND_OK)
        return status;
    status = pin_there(storage, memory, bytes, error);
    if (status != LEND_OK) {
        lend_sys->unmap(memory, bytes);
        return status;
    }
    storage->mapped_bytes = bytes;
    (void)snprintf(storage->note, sizeof storage->note, "pinned on NUMA node %u", node);
    return LEND_OK;
}

static enum lend_status allocate_pinned(struct lend_gpu_storage *storage,
                                        const struct lend_gpu_wish *wish, struct lend_error *error)
{
    struct lend_error why = {.message = "its driver does not say which NUMA node is next to it"};
    void *pinned = NULL;

    if (wish->memory != NULL) {
        (void)snprintf(storage->note, sizeof storage->note, "pinned as it was");
        return pin_there(storage, wish->memory, wish->bytes, error);
    }
    if (wish->node >= 0)
        return pin_on_node(storage, (unsigned)wish->node, wish->bytes, error);
    int node = attribute_of(storage, LEND_CUDA_DEVICE_HOST_NUMA_ID, -1);
    if (node >= 0 && pin_on_node(storage, (unsigned)node, wish->bytes, &why) == LEND_OK)
        return LEND_OK;
    (void)snprintf(storage->note, sizeof storage->note,
                   "cuMemHostAlloc, on no certain node: %.150s", why.message);
    enum lend_status status = lend_lane_pin(storage->lane, wish->bytes, &pinned, error);
    if (status != LEND_OK)
        return status;
    memset(pinned, 0, wish->bytes);
    storage->address = (uint64_t)(uintptr_t)pinned;
    return LEND_OK;
}

static void free_pinned(const struct lend_gpu_storage *storage)
{
    void *memory = (void *)(uintptr_t)storage->address;

    if (!storage->is_registered) {
        lend_lane_unpin(storage->lane, memory);
    } else if (lend_lane_enter(storage->lane, NULL) == LEND_OK) {
        (void)storage->lane->cuda->host_unregister(memory);
        lend_lane_leave(storage->lane);
    }
}

/* --- either of them --- */

enum lend_status lend_gpu_storage_create(const struct lend_gpu_wish *wish,
                                         struct lend_gpu_storage **out, struct lend_error *error)
{
    struct lend_device_memory where = {.ordinal = wish->ordinal};
    struct lend_gpu_storage *made = lend_sys->allocate(sizeof *made);

    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the handle of storage");
    made->life = lend_fork_life();
    made->kind = wish->kind;
    made->ordinal = wish->ordinal;
    lend_lanes_init(&made->lanes);
    enum lend_status status = lend_lane_assign(&made->lanes, &where, error);
    made->lane = where.lane;
    if (status == LEND_OK)
        status = wish->kind == LEND_MEMORY_DEVICE ? allocate_device(made, wish->bytes, error)
                                                  : allocate_pinned(made, wish, error);
    if (status != LEND_OK) {
        lend_gpu_storage_destroy(made);
        return status;
    }
    *out = made;
    return LEND_OK;
}

void lend_gpu_storage_destroy(struct lend_gpu_storage *storage)
{
    if (storage == NULL)
        return;
    bool forked = !lend_fork_is_same(storage->life);
    if (!forked && storage->address != 0 && storage->kind == LEND_MEMORY_DEVICE)
        free_device(storage);
    else if (!forked && storage->address != 0)
        free_pinned(storage);
    if (storage->mapped_bytes > 0 && storage->kind == LEND_MEMORY_PINNED)
        lend_sys->unmap((void *)(uintptr_t)storage->address, storage->mapped_bytes);
    lend_lanes_fini(&storage->lanes, forked);
    lend_sys->release(storage);
}

const char *lend_gpu_storage_note(const struct lend_gpu_storage *storage)
{
    return storage->note;
}

uint64_t lend_gpu_storage_address(const struct lend_gpu_storage *storage)
{
    return storage->address;
}

enum lend_status lend_gpu_storage_describe(const struct lend_gpu_storage *storage,
                                           uint64_t offset_bytes, uint64_t length_bytes,
                                           struct lend_memory *out, struct lend_error *error)
{
    uint64_t address = storage->address + offset_bytes;

    return storage->kind == LEND_MEMORY_DEVICE
               ? lend_memory_device(address, length_bytes, storage->ordinal, out, error)
               : lend_memory_pinned((const void *)(uintptr_t)address, length_bytes, out, error);
}
