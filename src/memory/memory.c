/* SPDX-License-Identifier: Apache-2.0 */
#include <lend/memory.h>

#include "base/error.h"
#include "memory/verify.h"

#include <stdio.h>

static enum lend_status describe(struct lend_memory memory, struct lend_memory *out,
                                 struct lend_error *error)
{
    if (out == NULL)
        return lend_fail(error, LEND_E_INVALID, "nowhere to put the description: out is NULL");
    memory.struct_size = sizeof memory;
    enum lend_status status = lend_memory_check(&memory, error);
    if (status != LEND_OK)
        return status;
    *out = memory;
    return LEND_OK;
}

enum lend_status lend_memory_system(const void *address, uint64_t length_bytes,
                                    struct lend_memory *out, struct lend_error *error)
{
    return describe((struct lend_memory){.kind = LEND_MEMORY_SYSTEM,
                                         .address = (uintptr_t)address,
                                         .length_bytes = length_bytes},
                    out, error);
}

enum lend_status lend_memory_pinned(const void *address, uint64_t length_bytes,
                                    struct lend_memory *out, struct lend_error *error)
{
    return describe((struct lend_memory){.kind = LEND_MEMORY_PINNED,
                                         .address = (uintptr_t)address,
                                         .length_bytes = length_bytes},
                    out, error);
}

enum lend_status lend_memory_device(uint64_t pointer, uint64_t length_bytes, int32_t device,
                                    struct lend_memory *out, struct lend_error *error)
{
    return describe((struct lend_memory){.kind = LEND_MEMORY_DEVICE,
                                         .address = pointer,
                                         .length_bytes = length_bytes,
                                         .device = device},
                    out, error);
}

enum lend_status lend_memory_disk(int32_t file_descriptor, uint64_t offset_bytes,
                                  uint64_t length_bytes, struct lend_memory *out,
                                  struct lend_error *error)
{
    return describe((struct lend_memory){.kind = LEND_MEMORY_DISK,
                                         .address = offset_bytes,
                                         .length_bytes = length_bytes,
                                         .device = file_descriptor},
                    out, error);
}

uint64_t lend_memory_address(const struct lend_memory *memory)
{
    return memory == NULL ? 0 : memory->address;
}

uint64_t lend_memory_length_bytes(const struct lend_memory *memory)
{
    return memory == NULL ? 0 : memory->length_bytes;
}

uint32_t lend_memory_storage_kind(const struct lend_memory *memory)
{
    return memory == NULL ? 0 : memory->kind;
}

int32_t lend_memory_device_id(const struct lend_memory *memory)
{
    return memory == NULL ? -1 : memory->device;
}

int32_t lend_memory_is_system(const struct lend_memory *memory)
{
    return lend_memory_storage_kind(memory) == LEND_MEMORY_SYSTEM;
}

int32_t lend_memory_is_pinned(const struct lend_memory *memory)
{
    return lend_memory_storage_kind(memory) == LEND_MEMORY_PINNED;
}

int32_t lend_memory_is_device(const struct lend_memory *memory)
{
    return lend_memory_storage_kind(memory) == LEND_MEMORY_DEVICE;
}

int32_t lend_memory_is_disk(const struct lend_memory *memory)
{
    return lend_memory_storage_kind(memory) == LEND_MEMORY_DISK;
}

int32_t lend_memory_is_host(const struct lend_memory *memory)
{
    return lend_memory_is_system(memory) || lend_memory_is_pinned(memory);
}

enum lend_status lend_memory_descriptor(const struct lend_memory *memory,
                                        struct lend_transfer_descriptor *out,
                                        struct lend_error *error)
{
    if (memory == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "%s is NULL", memory == NULL ? "memory" : "out");
    enum lend_status status = lend_memory_check(memory, error);
    if (status != LEND_OK)
        return status;
    if (memory->is_registered == 0)
        return lend_fail(error, LEND_E_ABSENT,
                         "memory at 0x%llx is not registered by this description; take that of "
                         "lend_region_memory()",
                         (unsigned long long)memory->address);
    *out = (struct lend_transfer_descriptor){
        .address = memory->address,
        .length_bytes = memory->length_bytes,
        .memory_type = lend_memory_is_device(memory) ? LEND_MEMORY_TYPE_VRAM
                       : lend_memory_is_disk(memory) ? LEND_MEMORY_TYPE_FILE
                                                     : LEND_MEMORY_TYPE_DRAM,
        .device_id = (uint32_t)memory->device,
    };
    return LEND_OK;
}

/* "System", "Device(0)", ... */
static void name_storage(const struct lend_memory *memory, char *text, size_t capacity)
{
    switch (memory->kind) {
    case LEND_MEMORY_SYSTEM: (void)snprintf(text, capacity, "System"); break;
    case LEND_MEMORY_PINNED: (void)snprintf(text, capacity, "Pinned"); break;
    case LEND_MEMORY_DEVICE: (void)snprintf(text, capacity, "Device(%d)", memory->device); break;
    case LEND_MEMORY_DISK: (void)snprintf(text, capacity, "Disk(%d)", memory->device); break;
    default: (void)snprintf(text, capacity, "Kind(%u)", memory->kind); break;
    }
}

size_t lend_memory_format(const struct lend_memory *memory, char *text, size_t capacity)
{
    char storage[32];
    int length;

    if (memory == NULL) {
        length = snprintf(text, capacity, "(none)");
    } else {
        name_storage(memory, storage, sizeof storage);
        length =
            snprintf(text, capacity, "%s 0x%llx+%llu%s", storage,
                     (unsigned long long)memory->address, (unsigned long long)memory->length_bytes,
                     memory->is_registered != 0 ? ", registered" : "");
    }
    return length < 0 ? 0 : (size_t)length;
}
