/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_CUDA_H
#define LEND_TESTS_FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

/*
 * A fake CUDA driver: it has the functions that lend uses, and the allocations that a test tells it
 * of, which have no memory behind them. It is linked into tests, or built as a libcuda.so.1 of its
 * own, and shows how lend treats what a driver answers; what a driver does answer is shown on a GPU
 * alone.
 */

/* As a real driver would describe it; the numbers are those of memory/cuda.h. */
struct fake_cuda_allocation {
    uint64_t base;
    uint64_t length_bytes;
    uint64_t buffer_id;
    unsigned type;      /* LEND_CUDA_MEMORY_... */
    int ordinal;        /* of the GPU */
    int is_managed;     /* cudaMallocManaged */
    int is_reserved;    /* an address range with no memory mapped to it */
    int is_contextless; /* mapped chunk or memory pool: belongs to no context */
};

/* Two GPUs, no allocations, nothing fails, cuInit() to be called. */
void fake_cuda_reset(void);
void fake_cuda_add(const struct fake_cuda_allocation *allocation);
/* That function returns result from now on, and does nothing. */
void fake_cuda_fail(const char *function, int result);
/* cuMemGetAddressRange() answers with this range, whatever it is asked. */
void fake_cuda_lie(uint64_t base, uint64_t length_bytes);
/* Calls of that function since the reset. */
int fake_cuda_calls(const char *function);
/* Contexts pushed and not popped, primary contexts retained and not released. */
int fake_cuda_held(void);

int cuInit(unsigned flags);
int cuGetErrorName(int result, const char **out);
int cuDeviceGet(int *out_device, int ordinal);
int cuDevicePrimaryCtxRetain(void **out_context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **out_context);
int cuPointerGetAttributes(unsigned count, int *attributes, void **values, uint64_t pointer);
int cuMemGetAddressRange_v2(uint64_t *out_base, size_t *out_bytes, uint64_t pointer);

/* All of them, to point lend_cuda at. */
extern const struct lend_cuda_ops fake_cuda_ops;

#endif
