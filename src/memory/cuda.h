/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_CUDA_H
#define LEND_MEMORY_CUDA_H

#include "memory/verify.h"

#include <stddef.h>

/*
 * The door to the CUDA driver: what we use of libcuda.so.1, which is opened on first need, so that
 * the library loads where there is none. Prototypes and numbers are those of the driver's ABI
 * (CUDA 11.0 and later), written down here so that building needs no CUDA either.
 *
 * Every function returns a CUresult: 0 is success.
 */
struct lend_cuda_ops {
    int (*init)(unsigned flags);
    int (*get_error_name)(int result, const char **out);
    int (*device_get)(int *out_device, int ordinal);
    int (*primary_context_retain)(void **out_context, int device);
    int (*primary_context_release)(int device);
    int (*context_push)(void *context);
    int (*context_pop)(void **out_context);
    /* Needs no context; what is not CUDA's has zeros for attributes. */
    int (*pointer_get_attributes)(unsigned count, int *attributes, void **values, uint64_t pointer);
    /* Needs the context current. Of memory made of mapped chunks, the chunk that pointer lies in.
     */
    int (*memory_get_range)(uint64_t *out_base, size_t *out_bytes, uint64_t pointer);
};

enum {
    LEND_CUDA_SUCCESS = 0,
    LEND_CUDA_ERROR_INVALID_VALUE = 1,
    LEND_CUDA_ERROR_NO_DEVICE = 100,
    LEND_CUDA_ERROR_INVALID_DEVICE = 101,
    LEND_CUDA_ERROR_INVALID_CONTEXT = 201,
    LEND_CUDA_ERROR_NOT_FOUND = 500,
};

/* CUpointer_attribute, those that we ask for. */
enum {
    LEND_CUDA_POINTER_CONTEXT = 1,
    LEND_CUDA_POINTER_MEMORY_TYPE = 2,
    LEND_CUDA_POINTER_BUFFER_ID = 7,
    LEND_CUDA_POINTER_IS_MANAGED = 8,
    LEND_CUDA_POINTER_DEVICE_ORDINAL = 9,
    LEND_CUDA_POINTER_MAPPED = 13,
};

/* CUmemorytype; 0 for what CUDA does not know. */
enum {
    LEND_CUDA_MEMORY_UNREGISTERED = 0,
    LEND_CUDA_MEMORY_HOST = 1,
    LEND_CUDA_MEMORY_DEVICE = 2,
};

/* NULL: libcuda.so.1, once it is needed. A test points it at a fake. */
extern const struct lend_cuda_ops *lend_cuda;

/* Fill out from the library of that name, which stays open. LEND_E_UNSUPPORTED: there is none, or
 * it lacks a function. */
enum lend_status lend_cuda_load(const char *name, struct lend_cuda_ops *out,
                                struct lend_error *error);

/* Ask the driver about a piece of device memory; returns its status, and fills error, buffer_id and
 * allocation. */
enum lend_status lend_cuda_verify(struct lend_verify *item);

#endif
