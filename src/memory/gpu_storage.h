/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_GPU_STORAGE_H
#define LEND_MEMORY_GPU_STORAGE_H

#include <lend/memory.h>

/* Memory that the CUDA driver allocates for us: of a GPU, or the host's, pinned for all of them. */
struct lend_gpu_storage;

struct lend_gpu_wish {
    enum lend_memory_kind kind;
    int32_t ordinal;
    uint64_t bytes;
    int64_t node; /* of the host, for pinned memory; -1: the GPU's, if that can be */
    void *memory; /* of the host, there already, to be pinned as it is; NULL: none */
};

enum { LEND_GPU_NOTE_BYTES = 200 };

/* Of that kind, zeroed; in the primary context of that device. LEND_E_UNSUPPORTED,
 * LEND_E_NO_MEMORY, LEND_E_INVALID, LEND_E_DEVICE, LEND_E_SYSTEM. */
enum lend_status lend_gpu_storage_create(const struct lend_gpu_wish *wish,
                                         struct lend_gpu_storage **out, struct lend_error *error);
/* NULL is a no-op. In a forked child, which has no driver, it frees what is the child's alone. */
void lend_gpu_storage_destroy(struct lend_gpu_storage *storage);

/* What it was made of, and why of nothing better. */
const char *lend_gpu_storage_note(const struct lend_gpu_storage *storage);
uint64_t lend_gpu_storage_address(const struct lend_gpu_storage *storage);
/* A part of it, offset_bytes from the beginning on, which is within. */
enum lend_status lend_gpu_storage_describe(const struct lend_gpu_storage *storage,
                                           uint64_t offset_bytes, uint64_t length_bytes,
                                           struct lend_memory *out, struct lend_error *error);

#endif
