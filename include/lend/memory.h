/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_H
#define LEND_MEMORY_H

/**
 * @file
 * Descriptions of memory that somebody else owns.
 *
 * A struct lend_memory is plain data: it holds no reference, owns nothing, may be copied freely and
 * shared between threads. Describing memory looks at the numbers alone; registering it
 * (lend_region_register()) asks the kernel or the driver whether the numbers are true.
 */

#include <lend/status.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where the bytes live. */
enum lend_memory_kind {
    LEND_MEMORY_SYSTEM = 1, /**< Ordinary host memory. */
    LEND_MEMORY_PINNED = 2, /**< Host memory locked for a device, such as cudaHostAlloc's. */
    LEND_MEMORY_DEVICE = 3, /**< Memory of the GPU with ordinal lend_memory::device. */
    LEND_MEMORY_DISK = 4,   /**< A range of an open file; lend_memory::device is the descriptor. */
};

/** How a transport sees it: the three classes of NIXL and of most RDMA libraries. */
enum lend_memory_type {
    LEND_MEMORY_TYPE_DRAM = 0,
    LEND_MEMORY_TYPE_VRAM = 1,
    LEND_MEMORY_TYPE_FILE = 2,
};

/** External memory. Make it with one of the functions below; all fields may be read. */
struct lend_memory {
    uint32_t struct_size;   /**< sizeof(struct lend_memory) as the caller was compiled. */
    uint32_t kind;          /**< A ::lend_memory_kind. */
    uint64_t address;       /**< First byte; for LEND_MEMORY_DISK the offset in the file. */
    uint64_t length_bytes;  /**< 1 .. LEND_MEMORY_BYTES_MAX. */
    int32_t device;         /**< GPU ordinal or file descriptor; 0 for host memory. */
    uint32_t is_registered; /**< 1 in the copies that lend_region_memory() gives, else 0. */
};

/** What a transport is told of registered memory. */
struct lend_transfer_descriptor {
    uint64_t address;
    uint64_t length_bytes;
    uint32_t memory_type; /**< A ::lend_memory_type. */
    uint32_t device_id;
};

/** 64 TiB: more than any machine has, and far from where address arithmetic wraps. */
#define LEND_MEMORY_BYTES_MAX (UINT64_C(1) << 46)

/**
 * Describe ordinary host memory, pinned host memory, device memory, or a range of a file.
 *
 * @param out   filled on success, untouched on failure.
 * @param error filled on failure; may be NULL.
 * @retval LEND_E_INVALID  null address (except for a file's offset), zero length, a length over
 *                         LEND_MEMORY_BYTES_MAX, a range that wraps around, a negative device, or
 *                         out is NULL.
 *
 * Ownership: nothing is taken. Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_memory_system(const void *address,
                                                           uint64_t length_bytes,
                                                           struct lend_memory *out,
                                                           struct lend_error *error);

/** As lend_memory_system(), for host memory that is locked for a device. */
LEND_API LEND_MUST_USE enum lend_status lend_memory_pinned(const void *address,
                                                           uint64_t length_bytes,
                                                           struct lend_memory *out,
                                                           struct lend_error *error);

/** As lend_memory_system(), for memory of the GPU with this ordinal (as CUDA counts them). */
LEND_API LEND_MUST_USE enum lend_status lend_memory_device(uint64_t pointer, uint64_t length_bytes,
                                                           int32_t device, struct lend_memory *out,
                                                           struct lend_error *error);

/** As lend_memory_system(), for a range of an open file. */
LEND_API LEND_MUST_USE enum lend_status lend_memory_disk(int32_t file_descriptor,
                                                         uint64_t offset_bytes,
                                                         uint64_t length_bytes,
                                                         struct lend_memory *out,
                                                         struct lend_error *error);

/** The first byte's address, or a file's offset; 0 for NULL. Threads: safe. */
LEND_API uint64_t lend_memory_address(const struct lend_memory *memory);
/** The length; 0 for NULL. Threads: safe. */
LEND_API uint64_t lend_memory_length_bytes(const struct lend_memory *memory);
/** A ::lend_memory_kind; 0 for NULL. Threads: safe. */
LEND_API uint32_t lend_memory_storage_kind(const struct lend_memory *memory);
/** The GPU's ordinal, or the file's descriptor; 0 for host memory, -1 for NULL. Threads: safe. */
LEND_API int32_t lend_memory_device_id(const struct lend_memory *memory);

/** 1 or 0: is it LEND_MEMORY_SYSTEM, ..._PINNED, ..._DEVICE, ..._DISK? Threads: safe. */
LEND_API int32_t lend_memory_is_system(const struct lend_memory *memory);
LEND_API int32_t lend_memory_is_pinned(const struct lend_memory *memory);
LEND_API int32_t lend_memory_is_device(const struct lend_memory *memory);
LEND_API int32_t lend_memory_is_disk(const struct lend_memory *memory);
/** 1 if a host processor can load and store it (system or pinned). Threads: safe. */
LEND_API int32_t lend_memory_is_host(const struct lend_memory *memory);

/**
 * The transfer descriptor, which exists once the memory is registered.
 * @retval LEND_E_ABSENT   this description is not of registered memory: take the registered one
 *                         from lend_region_memory().
 * @retval LEND_E_INVALID  a null argument.
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_memory_descriptor(const struct lend_memory *memory,
                                                               struct lend_transfer_descriptor *out,
                                                               struct lend_error *error);

/**
 * A printable form, such as "Device(0) 0x7f0012000000+65536" or "System 0x5581...+4096,
 * registered". Writes at most capacity bytes with a final NUL, and returns the length that the
 * whole text has (as snprintf does). NULL prints as "(none)". Threads: safe.
 */
LEND_API size_t lend_memory_format(const struct lend_memory *memory, char *text, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
