/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/mapped.h"

#include "base/error.h"
#include "base/sys.h"
#include "memory/cuda.h"

#include <assert.h>
#include <string.h>

/* What the owner of memory of a GPU does for others to open it. */

_Static_assert(LEND_DEVICE_HANDLE_BYTES == sizeof(struct lend_cuda_ipc) &&
                   LEND_DEVICE_HANDLE_BYTES == sizeof(struct lend_cuda_ticket),
               "a share has room for a handle");

/* What the driver says of an address of ours, all of it wider than what any driver writes. */
struct answer {
    uint64_t is_ipc_capable;
    uint64_t handle_types;
    void *pool;
};

static enum lend_status ask(const struct lend_cuda_ops *cuda, uint64_t address, struct answer *out,
                            struct lend_error *error)
{
    int attributes[] = {LEND_CUDA_POINTER_IS_IPC_CAPABLE, LEND_CUDA_POINTER_HANDLE_TYPES,
                        LEND_CUDA_POINTER_POOL};
    void *values[] = {&out->is_ipc_capable, &out->handle_types, &out->pool};
    unsigned count = cuda->pool_export != NULL ? 3 : 2; /* older drivers know no third */

    *out = (struct answer){.pool = NULL};
    int result = cuda->pointer_get_attributes(count, attributes, values, address);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuPointerGetAttributes");
    return LEND_OK;
}

size_t lend_device_share_bytes(const struct lend_device_share *share)
{
    return sizeof *share + share->part_count * sizeof share->parts[0];
}

/* --- how it can be opened --- */

static enum lend_status refuse(const struct lend_device_memory *memory, uint64_t address,
                               const char *what, uint64_t handle_types, const char *remedy,
                               struct lend_error *error)
{
    return lend_fail(error, LEND_E_UNSUPPORTED,
                     "0x%llx (byte %llu) is of %s that nobody else may open (handle types 0x%llx): "
                     "%s",
                     (unsigned long long)address, (unsigned long long)(address - memory->start),
                     what, (unsigned long long)handle_types, remedy);
}

static bool can_be_opened(uint64_t handle_types)
{
    return (handle_types & (LEND_CUDA_HANDLE_FD | LEND_CUDA_HANDLE_FABRIC)) != 0;
}

/* All of its chunks, of which the first has answered: they must have a type in common. */
static enum lend_status judge_chunks(const struct lend_device_memory *memory, struct answer answer,
                                     struct lend_device_way *out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = memory->lane->cuda;
    uint64_t address = memory->start, types = UINT64_MAX;

    if (memory->buffer_count > LEND_DEVICE_PARTS_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "it lies in %u chunks of GPU memory, and %d can be shared: make it of "
                         "larger ones, or register it in parts",
                         memory->buffer_count, LEND_DEVICE_PARTS_MAX);
    for (uint32_t i = 0; i < memory->buffer_count; i++) {
        enum lend_status status = i == 0 ? LEND_OK : ask(cuda, address, &answer, error);

        if (status != LEND_OK)
            return status;
        if (answer.is_ipc_capable != 0 || answer.pool != NULL)
            return refuse(memory, address, "several allocations", answer.handle_types,
                          "register the part of each by itself", error);
        types &= answer.handle_types;
        if (!can_be_opened(types))
            return refuse(memory, address, "a mapped chunk", answer.handle_types,
                          "see expandable_segments in docs/cuda.md, or cudaMalloc it", error);
        address = memory->buffers[i].end;
    }
    *out = (struct lend_device_way){.kind = LEND_DEVICE_CHUNKS, .handle_types = types};
    return LEND_OK;
}

enum lend_status lend_device_judge(const struct lend_device_memory *memory,
                                   struct lend_device_way *out, struct lend_error *error)
{
    struct answer answer;
    enum lend_status status = ask(memory->lane->cuda, memory->start, &answer, error);

    if (status != LEND_OK)
        return status;
    bool is_one = memory->buffer_count == 1;
    *out = (struct lend_device_way){.kind = LEND_DEVICE_ALLOCATION};
    if (answer.is_ipc_capable != 0 && is_one)
        return LEND_OK;
    if (answer.pool == NULL || !is_one)
        return judge_chunks(memory, answer, out, error);
    if (!can_be_opened(answer.handle_types))
        return refuse(memory, memory->start, "a memory pool", answer.handle_types,
                      "make one by cudaMemPoolCreate() with handleTypes, or cudaMalloc it", error);
    *out =
        (struct lend_device_way){.kind = LEND_DEVICE_POOLED, .handle_types = answer.handle_types};
    return LEND_OK;
}

/* --- what others are told --- */

static enum lend_status export_allocation(const struct lend_device_memory *whole,
                                          struct lend_device_share *out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = whole->lane->cuda;
    struct lend_cuda_ipc handle;
    int result = cuda->ipc_get(&handle, whole->start);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuIpcGetMemHandle");
    memcpy(out->handle, handle.bytes, sizeof out->handle);
    return LEND_OK;
}

/* Is that part what it was when it was registered? Asked when we have hold of it. */
static enum lend_status check_part(const struct lend_device_memory *whole, uint32_t index,
                                   struct lend_error *error)
{
    return lend_device_check(index == 0 ? whole->start : whole->buffers[index - 1].end,
                             whole->buffers[index].id, error);
}

/* The handle of a chunk, of that type. */
static enum lend_status export_chunk(const struct lend_device_memory *whole, uint32_t index,
                                     uint32_t type, void *out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = whole->lane->cuda;
    uint64_t address = index == 0 ? whole->start : whole->buffers[index - 1].end, chunk = 0;
    int result = cuda->chunk_retain(&chunk, (void *)(uintptr_t)address);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemRetainAllocationHandle");
    enum lend_status status = check_part(whole, index, error);
    if (status == LEND_OK) {
        result = cuda->chunk_export(out, chunk, (int)type, 0);
        if (result != LEND_CUDA_SUCCESS)
            status = lend_cuda_fail(error, cuda, result, "cuMemExportToShareableHandle");
    }
    (void)cuda->chunk_release(chunk); /* what its owner has keeps it */
    return status;
}

static enum lend_status export_pool(const struct lend_device_memory *whole, uint32_t type,
                                    void *out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = whole->lane->cuda;
    struct answer answer;
    enum lend_status status = ask(cuda, whole->start, &answer, error);

    if (status == LEND_OK)
        status = check_part(whole, 0, error);
    if (status != LEND_OK)
        return status;
    int result = cuda->pool_export(out, answer.pool, (int)type, 0);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemPoolExportToShareableHandle");
    return LEND_OK;
}

static enum lend_status export_pointer(const struct lend_device_memory *whole,
                                       struct lend_device_share *out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = whole->lane->cuda;
    struct lend_cuda_ticket ticket;
    int result = cuda->pool_export_pointer(&ticket, whole->start);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemPoolExportPointer");
    memcpy(out->handle, ticket.bytes, sizeof out->handle);
    return LEND_OK;
}

static uint32_t type_of(const struct lend_device_way *way)
{
    return (way->handle_types & LEND_CUDA_HANDLE_FD) != 0 ? LEND_CUDA_HANDLE_FD
                                                          : LEND_CUDA_HANDLE_FABRIC;
}

/* Those of which the handle is bytes have it written down. */
static enum lend_status export_parts(const struct lend_device_memory *whole,
                                     struct lend_device_share *out, struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    uint64_t start = whole->start;

    for (uint32_t i = 0; status == LEND_OK && i < out->part_count; i++) {
        out->parts[i].bytes = whole->buffers[i].end - start;
        start = whole->buffers[i].end;
        if (out->handle_type == LEND_CUDA_HANDLE_FD)
            continue;
        status = out->kind == LEND_DEVICE_CHUNKS
                     ? export_chunk(whole, i, out->handle_type, out->parts[i].handle, error)
                     : export_pool(whole, out->handle_type, out->parts[i].handle, error);
    }
    return status;
}

static enum lend_status fill(const struct lend_device_memory *whole, struct lend_device_share *out,
                             struct lend_error *error)
{
    enum lend_status status = lend_lane_enter(whole->lane, error);

    if (status != LEND_OK)
        return status;
    if (out->kind == LEND_DEVICE_ALLOCATION)
        status = export_allocation(whole, out, error);
    else if (out->kind == LEND_DEVICE_POOLED)
        status = export_pointer(whole, out, error);
    if (status == LEND_OK)
        status = export_parts(whole, out, error);
    lend_lane_leave(whole->lane);
    return status;
}

enum lend_status lend_device_export(const struct lend_device_memory *whole,
                                    const struct lend_device_way *way,
                                    struct lend_device_share **out, struct lend_error *error)
{
    const struct lend_device_share head = {
        .id = whole->buffers[0].id,
        .base = whole->start,
        .bytes = lend_device_end(whole) - whole->start,
        .kind = way->kind,
        .handle_type = way->kind == LEND_DEVICE_ALLOCATION ? 0 : type_of(way),
        .part_count = way->kind == LEND_DEVICE_ALLOCATION ? 0 : whole->buffer_count,
    };
    struct lend_device_share *share = lend_sys->allocate(lend_device_share_bytes(&head));

    if (share == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the handles of %u chunks",
                         whole->buffer_count);
    *share = head;
    enum lend_status status = fill(whole, share, error);
    if (status == LEND_OK)
        *out = share;
    else
        lend_sys->release(share);
    return status;
}

enum lend_status lend_device_export_part(const struct lend_device_memory *whole,
                                         const struct lend_device_way *way, uint32_t index,
                                         int *out_fd, struct lend_error *error)
{
    if (way->kind == LEND_DEVICE_ALLOCATION || index >= whole->buffer_count ||
        type_of(way) != LEND_CUDA_HANDLE_FD)
        return lend_fail(error, LEND_E_UNSUPPORTED, "it has no descriptor of part %u", index);
    enum lend_status status = lend_lane_enter(whole->lane, error);
    if (status != LEND_OK)
        return status;
    status = way->kind == LEND_DEVICE_CHUNKS
                 ? export_chunk(whole, index, LEND_CUDA_HANDLE_FD, out_fd, error)
                 : export_pool(whole, LEND_CUDA_HANDLE_FD, out_fd, error);
    lend_lane_leave(whole->lane);
    return status;
}
