/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/mapped.h"

#include "base/error.h"
#include "base/sys.h"
#include "memory/cuda.h"

#include <string.h>

/* What a reader does to open memory of a GPU that another process has. */

enum { PARTS_PER_TURN = 64 }; /* whose handles are here; then others have their turn */

struct lend_mapped {
    const struct lend_lane *lane;
    uint64_t address;    /* of the first byte; 0: there is none yet */
    uint32_t part_count; /* that are here, from the first on: mapped, or the pool, imported */
    uint64_t part_bytes; /* of all of these */
    bool is_open;
    void *pool;
    struct lend_device_share *share; /* ours, and looked at */
};

/* --- what the other process says --- */

/* The numbers, and nothing else. */
static bool is_sane(const struct lend_device_share *share)
{
    uint64_t bytes = 0;

    if (share->bytes == 0 || share->bytes > LEND_MEMORY_BYTES_MAX)
        return false;
    if (share->kind == LEND_DEVICE_ALLOCATION)
        return share->part_count == 0;
    if ((share->handle_type != LEND_CUDA_HANDLE_FD &&
         share->handle_type != LEND_CUDA_HANDLE_FABRIC) ||
        share->part_count == 0)
        return false;
    for (uint32_t i = 0; i < share->part_count; i++) {
        if (share->parts[i].bytes == 0 || share->parts[i].bytes > share->bytes - bytes)
            return false;
        bytes += share->parts[i].bytes;
    }
    return bytes == share->bytes && (share->kind == LEND_DEVICE_CHUNKS ||
                                     (share->kind == LEND_DEVICE_POOLED && share->part_count == 1));
}

/* Copied first: it may change as we look. */
static enum lend_status take_share(const void *told, uint64_t bytes, struct lend_device_share **out,
                                   struct lend_error *error)
{
    struct lend_device_share head;

    if (bytes < sizeof head)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "the peer tells of its GPU memory in %llu bytes",
                         (unsigned long long)bytes);
    memcpy(&head, told, sizeof head);
    if (head.part_count > LEND_DEVICE_PARTS_MAX || lend_device_share_bytes(&head) > bytes)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "the peer tells of %u chunks of GPU memory in %llu bytes; at most %d",
                         head.part_count, (unsigned long long)bytes, LEND_DEVICE_PARTS_MAX);
    size_t count = head.part_count * sizeof head.parts[0];
    struct lend_device_share *share = lend_sys->allocate(sizeof head + count);
    if (share == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to open GPU memory by");
    *share = head;
    memcpy(share->parts, (const uint8_t *)told + sizeof head, count);
    if (!is_sane(share)) {
        lend_sys->release(share);
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "the peer tells of its GPU memory (kind %u, %u parts) what cannot be",
                         head.kind, head.part_count);
    }
    *out = share;
    return LEND_OK;
}

/* --- opening --- */

/* What a peer says of its allocation is not believed: a copy beyond it would break our context. */
static enum lend_status check_range(const struct lend_mapped *mapped, struct lend_error *error)
{
    uint64_t base = 0, end = 0;
    enum lend_status status =
        lend_cuda_find_range(mapped->lane->cuda, mapped->address, &base, &end, error);

    if (status != LEND_OK || end - mapped->address >= mapped->share->bytes)
        return status;
    return lend_fail(error, LEND_E_UNSUPPORTED,
                     "the peer's GPU memory is %llu bytes where it was opened, and %llu as it says",
                     (unsigned long long)(end - mapped->address),
                     (unsigned long long)mapped->share->bytes);
}

static enum lend_status open_allocation(struct lend_mapped *mapped, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;
    struct lend_cuda_ipc handle;

    memcpy(handle.bytes, mapped->share->handle, sizeof handle.bytes);
    int result = cuda->ipc_open(&mapped->address, handle, LEND_CUDA_IPC_PEER_ACCESS);
    if (result != LEND_CUDA_SUCCESS) {
        mapped->address = 0;
        return lend_cuda_fail(error, cuda, result, "cuIpcOpenMemHandle");
    }
    return check_range(mapped, error);
}

/* As the driver takes one: a descriptor stands where else an address does. */
static void *handle_of(struct lend_mapped *mapped, int fd)
{
    return mapped->share->handle_type == LEND_CUDA_HANDLE_FD
               ? (void *)(intptr_t)fd
               : (void *)mapped->share->parts[mapped->part_count].handle;
}

static enum lend_status map_chunk(struct lend_mapped *mapped, int fd, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;
    uint64_t bytes = mapped->share->parts[mapped->part_count].bytes, chunk = 0;
    int result = LEND_CUDA_SUCCESS;

    if (mapped->address == 0)
        result = cuda->range_reserve(&mapped->address, mapped->share->bytes, 0, 0, 0);
    if (result != LEND_CUDA_SUCCESS) {
        mapped->address = 0;
        return lend_cuda_fail(error, cuda, result, "cuMemAddressReserve");
    }
    result = cuda->chunk_import(&chunk, handle_of(mapped, fd), (int)mapped->share->handle_type);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemImportFromShareableHandle");
    /* No chunk that is shorter than its owner says can be mapped so far. */
    result = cuda->map(mapped->address + mapped->part_bytes, bytes, 0, chunk, 0);
    (void)cuda->chunk_release(chunk); /* the mapping keeps it */
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemMap");
    mapped->part_bytes += bytes;
    mapped->part_count++;
    return LEND_OK;
}

/* For our GPU to read, and no more. */
static enum lend_status let_read(const struct lend_mapped *mapped, struct lend_error *error)
{
    const struct lend_cuda_access access = {
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = mapped->lane->ordinal},
        .rights = LEND_CUDA_ACCESS_READ};
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;
    int result = cuda->set_access(mapped->address, mapped->share->bytes, &access, 1);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemSetAccess");
    return LEND_OK;
}

/* A pool that was imported is there for its own GPU alone, and knows no rights but all of them. */
static enum lend_status import_pool(struct lend_mapped *mapped, int fd, struct lend_error *error)
{
    const struct lend_cuda_access access = {
        .location = {.type = LEND_CUDA_LOCATION_DEVICE, .id = mapped->lane->ordinal},
        .rights = LEND_CUDA_ACCESS_READ_WRITE};
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;
    struct lend_cuda_ticket ticket;

    if (cuda->pool_export == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "this CUDA driver has no memory pools (it needs CUDA 11.2)");
    int result =
        cuda->pool_import(&mapped->pool, handle_of(mapped, fd), (int)mapped->share->handle_type, 0);
    if (result != LEND_CUDA_SUCCESS) {
        mapped->pool = NULL;
        return lend_cuda_fail(error, cuda, result, "cuMemPoolImportFromShareableHandle");
    }
    mapped->part_count = 1;
    result = cuda->pool_set_access(mapped->pool, &access, 1);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemPoolSetAccess");
    memcpy(ticket.bytes, mapped->share->handle, sizeof ticket.bytes);
    result = cuda->pool_import_pointer(&mapped->address, mapped->pool, &ticket);
    if (result != LEND_CUDA_SUCCESS) {
        mapped->address = 0;
        return lend_cuda_fail(error, cuda, result, "cuMemPoolImportPointer");
    }
    return check_range(mapped, error);
}

static enum lend_status add_parts(struct lend_mapped *mapped, int fd, struct lend_error *error)
{
    bool is_fd = mapped->share->handle_type == LEND_CUDA_HANDLE_FD;
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && mapped->part_count < mapped->share->part_count; i++) {
        if (i == (is_fd ? 1 : PARTS_PER_TURN))
            return LEND_PENDING;
        status = map_chunk(mapped, fd, error);
    }
    return status == LEND_OK ? let_read(mapped, error) : status;
}

enum lend_status lend_mapped_begin(const struct lend_lane *lane, const void *told, uint64_t bytes,
                                   struct lend_mapped **out, struct lend_error *error)
{
    struct lend_device_share *share = NULL;
    enum lend_status status = take_share(told, bytes, &share, error);

    if (status != LEND_OK)
        return status;
    struct lend_mapped *mapped = lend_sys->allocate(sizeof *mapped);
    if (mapped == NULL) {
        lend_sys->release(share);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to open GPU memory by");
    }
    *mapped = (struct lend_mapped){.lane = lane, .share = share};
    *out = mapped;
    return LEND_OK;
}

bool lend_mapped_wants(const struct lend_mapped *mapped, uint32_t *out_index)
{
    *out_index = mapped->part_count;
    return mapped->share->handle_type == LEND_CUDA_HANDLE_FD &&
           mapped->part_count < mapped->share->part_count;
}

enum lend_status lend_mapped_go_on(struct lend_mapped *mapped, int fd, struct lend_error *error)
{
    enum lend_status status = lend_lane_enter(mapped->lane, error);

    if (status != LEND_OK)
        return status;
    switch (mapped->share->kind) {
    case LEND_DEVICE_CHUNKS: status = add_parts(mapped, fd, error); break;
    case LEND_DEVICE_POOLED: status = import_pool(mapped, fd, error); break;
    default: status = open_allocation(mapped, error); break;
    }
    lend_lane_leave(mapped->lane);
    mapped->is_open = status == LEND_OK;
    return status;
}

uint64_t lend_mapped_address(const struct lend_mapped *mapped)
{
    return mapped->is_open ? mapped->address : 0;
}

uint64_t lend_mapped_bytes(const struct lend_mapped *mapped)
{
    return mapped->share->bytes;
}

/* --- closing --- */

/* Each as it was mapped; the addresses only when nothing is there any more. */
static bool close_chunks(struct lend_mapped *mapped)
{
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;
    uint64_t address = mapped->address;
    bool is_closed = true;

    for (uint32_t i = 0; i < mapped->part_count; i++) {
        is_closed &= cuda->unmap(address, mapped->share->parts[i].bytes) == LEND_CUDA_SUCCESS;
        address += mapped->share->parts[i].bytes;
    }
    if (is_closed)
        (void)cuda->range_free(mapped->address, mapped->share->bytes); /* nobody's memory */
    return is_closed;
}

static bool close_pool(struct lend_mapped *mapped)
{
    const struct lend_cuda_ops *cuda = mapped->lane->cuda;

    if (mapped->address != 0 && cuda->free(mapped->address) != LEND_CUDA_SUCCESS)
        return false;
    return mapped->pool == NULL || cuda->pool_destroy(mapped->pool) == LEND_CUDA_SUCCESS;
}

bool lend_mapped_close(struct lend_mapped *mapped)
{
    bool is_closed = mapped->address == 0 && mapped->pool == NULL;

    if (!is_closed && lend_lane_enter(mapped->lane, NULL) == LEND_OK) {
        switch (mapped->share->kind) {
        case LEND_DEVICE_CHUNKS: is_closed = close_chunks(mapped); break;
        case LEND_DEVICE_POOLED: is_closed = close_pool(mapped); break;
        default:
            is_closed = mapped->lane->cuda->ipc_close(mapped->address) == LEND_CUDA_SUCCESS;
            break;
        }
        lend_lane_leave(mapped->lane);
    }
    lend_mapped_forget(mapped);
    return is_closed;
}

void lend_mapped_forget(struct lend_mapped *mapped)
{
    lend_sys->release(mapped->share);
    lend_sys->release(mapped);
}
