/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_STORAGE_H
#define LEND_STORAGE_H

/**
 * @file
 * Storage: memory that lend allocates, for an owner who may choose where its blocks live.
 *
 * It is ordinary memory behind a file in memory (memfd), sealed against resizing and against new
 * writers. So peers on this host may map it and read without the owner's help (path
 * "local/mapped"). Any other memory can be lent too; storage is the one that is fastest.
 *
 * Storage of kind LEND_MEMORY_DEVICE is memory of a GPU: a chunk of the driver's virtual memory,
 * made so that other processes may open it, by file descriptors and where the GPU has them by
 * fabric handles, and that NICs may reach it where the GPU can have that; or where it has no such
 * memory, what cuMemAlloc() gives. Of kind LEND_MEMORY_PINNED it is the host's, pinned for every
 * GPU, and on the NUMA node next to the one that is named, where the driver says which that is
 * (CUDA 12.2) and the process may have memory of it; or memory of yours that is pinned where it is.
 * There is no file behind either. lend_storage_note() tells what it has come to.
 *
 * The seal against writers is one against punching too, for the owner as for everybody: where
 * LEND_REGION_PUNCH_OUT is to work, lend a file of your own that has no such seal.
 */

#include <lend/region.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_storage;

enum lend_storage_flag {
    LEND_STORAGE_HUGE_PAGES = 1, /**< Pages of the machine's default huge size, or fail. */
    LEND_STORAGE_ON_NODE = 2,    /**< On the NUMA node lend_storage_desc::numa_node, or fail. For
                                      memory of the host, pinned or not. */
};

/** What to allocate. Initialise with LEND_STORAGE_DESC_INIT. */
struct lend_storage_desc {
    uint32_t struct_size;  /**< sizeof(struct lend_storage_desc) as compiled; ones that end behind
                                name or reserved are of versions that are still taken. */
    uint32_t flags;        /**< ::lend_storage_flag. */
    uint64_t length_bytes; /**< 1 .. LEND_MEMORY_BYTES_MAX; rounded up to whole pages. */
    uint32_t numa_node;    /**< Looked at with LEND_STORAGE_ON_NODE. */
    uint32_t kind;         /**< LEND_MEMORY_SYSTEM, or 0 for that; ..._PINNED; ..._DEVICE. */
    const char *name;      /**< Shown in /proc/PID/maps; NULL: "lend-storage". */
    int32_t device;        /**< The GPU's ordinal, where kind is of one; else 0. */
    uint32_t reserved;     /**< 0. */
    void *memory;          /**< With kind LEND_MEMORY_PINNED: length_bytes of yours, to be pinned as
                                they are and for as long as the storage is there, which they must
                                outlive; NULL: allocate. */
};

#define LEND_STORAGE_DESC_INIT                                                                     \
    {                                                                                              \
        .struct_size = sizeof(struct lend_storage_desc)                                            \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_storage_desc_init(struct lend_storage_desc *desc);

/**
 * Allocate storage: zeroed, readable and writable by this process. Memory of yours that is pinned
 * stays as it is.
 *
 * @param out  on success, a handle; give it back with lend_storage_destroy(). Untouched on failure.
 * @retval LEND_E_INVALID      null arguments, unknown flags, a length of 0 or over the limit;
 * memory of yours that is pinned already.
 * @retval LEND_E_VERSION      struct_size is of no version of the struct.
 * @retval LEND_E_UNSUPPORTED  no huge pages or no such NUMA node here; says what to set. No CUDA
 *                             driver, where the kind is of one.
 * @retval LEND_E_NO_MEMORY    not so much memory, or not so many huge pages are reserved.
 * @retval LEND_E_SYSTEM, LEND_E_DEVICE
 * Threads: safe. Blocks: no longer than the kernel does.
 */
LEND_API LEND_MUST_USE enum lend_status lend_storage_create(const struct lend_storage_desc *desc,
                                                            struct lend_storage **out,
                                                            struct lend_error *error);

/** The first byte, page-aligned; NULL for NULL. Of a GPU's memory the driver's pointer, which no
 * processor may follow. Valid until destroyed. Threads: safe. */
LEND_API void *lend_storage_address(const struct lend_storage *storage);
/** The length in bytes, in whole pages but for memory of yours; 0 for NULL. Threads: safe. */
LEND_API uint64_t lend_storage_length_bytes(const struct lend_storage *storage);
/** The descriptor of its file, owned by the storage; -1 if there is none. Threads: safe. */
LEND_API int32_t lend_storage_fd(const struct lend_storage *storage);
/** One line that says what it was made of, and why of nothing better: "a sealed memfd",
 * "cuMemAlloc, as GPU 0 has no virtual memory management". For people; NULL for NULL. Valid until
 * destroyed. Threads: safe. */
LEND_API const char *lend_storage_note(const struct lend_storage *storage);

/**
 * Describe a part of it for lend_region_register(): the memory, and the consent to share its file
 * (LEND_REGION_SHARE_FILE). Sets desc->memory, share_fd and share_offset_bytes, adds to
 * desc->flags, and leaves the rest as it is. Of the driver's memory it sets desc->memory alone.
 * @retval LEND_E_INVALID       null arguments, or a length of 0.
 * @retval LEND_E_OUT_OF_RANGE  not a part of the storage.
 * @retval LEND_E_VERSION       struct_size of desc is of no version of the struct.
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_storage_describe(const struct lend_storage *storage,
                                                              uint64_t offset_bytes,
                                                              uint64_t length_bytes,
                                                              struct lend_region_desc *desc,
                                                              struct lend_error *error);

/**
 * Unmap and free it. Its regions must have been withdrawn (lend_region_withdraw() said LEND_OK) or
 * deregistered. NULL is a no-op. Threads: no other call on this storage may run or follow.
 */
LEND_API void lend_storage_destroy(struct lend_storage *storage);

#ifdef __cplusplus
}
#endif
#endif
