/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/verify.h"
#include "base/error.h"
#include "memory/cuda.h"
#include "memory/host.h"

static enum lend_status check_range(const struct lend_memory *memory, struct lend_error *error)
{
    uint64_t end_max = memory->kind == LEND_MEMORY_DISK ? (uint64_t)INT64_MAX : UINT64_MAX;

    if (memory->address == 0 && memory->kind != LEND_MEMORY_DISK)
        return lend_fail(error, LEND_E_INVALID, "memory at address 0 (null)");
    if (memory->length_bytes == 0)
        return lend_fail(error, LEND_E_INVALID, "memory at 0x%llx has a length of 0 bytes",
                         (unsigned long long)memory->address);
    if (memory->length_bytes > LEND_MEMORY_BYTES_MAX)
        return lend_fail(
            error, LEND_E_INVALID, "memory at 0x%llx of %llu bytes is over the limit of %llu",
            (unsigned long long)memory->address, (unsigned long long)memory->length_bytes,
            (unsigned long long)LEND_MEMORY_BYTES_MAX);
    if (memory->address > end_max - memory->length_bytes)
        return lend_fail(error, LEND_E_INVALID,
                         "memory at 0x%llx of %llu bytes wraps around the end of addresses",
                         (unsigned long long)memory->address,
                         (unsigned long long)memory->length_bytes);
    return LEND_OK;
}

enum lend_status lend_memory_check(const struct lend_memory *memory, struct lend_error *error)
{
    bool is_host = false;

    if (memory->struct_size != sizeof *memory)
        return lend_fail(error, LEND_E_VERSION, "struct lend_memory of %u bytes, expected %zu",
                         memory->struct_size, sizeof *memory);
    switch (memory->kind) {
    case LEND_MEMORY_SYSTEM:
    case LEND_MEMORY_PINNED: is_host = true; break;
    case LEND_MEMORY_DEVICE:
    case LEND_MEMORY_DISK: break;
    default: return lend_fail(error, LEND_E_INVALID, "unknown kind of memory, %u", memory->kind);
    }
    if (is_host ? memory->device != 0 : memory->device < 0)
        return lend_fail(error, LEND_E_INVALID, "device %d of %s memory", memory->device,
                         is_host                            ? "host"
                         : memory->kind == LEND_MEMORY_DISK ? "file"
                                                            : "GPU");
    return check_range(memory, error);
}

enum lend_status lend_memory_verify(struct lend_maps *maps, struct lend_verify *items,
                                    uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct lend_verify *item = &items[i];

        item->buffer_id = 0;
        item->allocation = 0;
        item->device = NULL;
        item->error.status = LEND_OK; /* the rest is for who fails: there may be thousands */
        item->status = lend_memory_check(&item->memory, &item->error);
        if (item->status != LEND_OK)
            continue;
        if (item->memory.kind == LEND_MEMORY_DEVICE)
            item->status = lend_cuda_verify(item);
        else if (item->memory.kind == LEND_MEMORY_DISK)
            item->status = lend_fail(&item->error, LEND_E_UNSUPPORTED,
                                     "file descriptor %d: this build lends no memory of files",
                                     item->memory.device);
    }
    lend_host_verify(maps, items, count);

    for (uint32_t i = 0; i < count; i++) {
        if (items[i].status != LEND_OK)
            return items[i].status;
    }
    return LEND_OK;
}
