/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_DRIVER_H
#define LEND_TESTS_HW_DRIVER_H

#include <stddef.h>
#include <stdint.h>

/* The CUDA driver, for the hardware tests themselves, as any program has it: libcuda.so.1,
 * whichever the loader finds. */

struct lend_cuda_access;
struct lend_cuda_chunk;

/* CUmemPoolProps. */
struct driver_pool {
    uint32_t type; /* these are of the same numbers as a chunk's */
    uint32_t handle_types;
    uint32_t location_type;
    int32_t ordinal;
    uint8_t reserved[72];
};

struct driver {
    int (*init)(unsigned flags);
    int (*version)(int *out);
    int (*device_count)(int *out);
    int (*device_name)(char *name, int capacity, int device);
    int (*context_retain)(void **out, int device);
    int (*context_set)(void *context);
    int (*context_get)(void **out);
    int (*allocate)(uint64_t *out, size_t bytes);
    int (*free)(uint64_t pointer);
    int (*allocate_host)(void **out, size_t bytes, unsigned flags);
    int (*free_host)(void *memory);
    int (*to_device)(uint64_t to, const void *from, size_t bytes);
    int (*to_host)(void *to, uint64_t from, size_t bytes);
    int (*on_device)(uint64_t to, uint64_t from, size_t bytes);
    int (*synchronize)(void);
    int (*chunk_granularity)(size_t *out, const struct lend_cuda_chunk *wanted, int kind);
    int (*chunk_create)(uint64_t *out, size_t bytes, const struct lend_cuda_chunk *wanted,
                        unsigned long long flags);
    int (*chunk_release)(uint64_t chunk);
    int (*range_reserve)(uint64_t *out, size_t bytes, size_t alignment, uint64_t wanted,
                         unsigned long long flags);
    int (*range_free)(uint64_t address, size_t bytes);
    int (*map)(uint64_t address, size_t bytes, size_t offset, uint64_t chunk,
               unsigned long long flags);
    int (*unmap)(uint64_t address, size_t bytes);
    int (*set_access)(uint64_t address, size_t bytes, const struct lend_cuda_access *access,
                      size_t count);
    /* NULL where the driver is older than CUDA 11.2. */
    int (*pool_create)(void **out, const struct driver_pool *wanted);
    int (*pool_destroy)(void *pool);
    int (*pool_allocate)(uint64_t *out, size_t bytes, void *pool, void *stream);
};

extern struct driver driver;

/* Open it, and make the primary context of GPU 0 current. Ends the process, saying why, where that
 * cannot be. */
void driver_open(void);
/* Make it this thread's too. */
void driver_enter(void);
/* The same of any call that fails. */
void driver_must(int result, const char *what);
/* Bytes of the host's to the GPU. A copy from memory that is not pinned may return before they are
 * there; this does not. */
void driver_put(uint64_t to, const void *from, size_t bytes);

#endif
