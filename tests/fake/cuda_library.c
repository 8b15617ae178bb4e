/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "memory/cuda.h"

#include <stdio.h>
#include <string.h>

/*
 * What the fake libcuda.so.1 has beyond what lend calls, for programs of others that run on it:
 * enough to make a context, allocate, fill and compare. Nothing of it pretends to be a real GPU.
 */

enum { DEVICE_COUNT = 2, VERSION = 12000 };

#define TOTAL_BYTES (UINT64_C(1) << 30)

int cuDriverGetVersion(int *out);
int cuGetErrorString(int result, const char **out);
int cuDeviceGetCount(int *out);
int cuDeviceGetName(char *name, int capacity, int device);
int cuDeviceTotalMem_v2(size_t *out, int device);
int cuMemGetInfo_v2(size_t *out_free, size_t *out_total);
int cuCtxGetDevice(int *out);
int cuCtxSynchronize(void);
int cuStreamSynchronize(void *stream);
int cuEventSynchronize(void *event);
int cuPointerGetAttribute(void *value, int attribute, uint64_t pointer);
int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes);
int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t bytes);

int cuDriverGetVersion(int *out)
{
    *out = VERSION;
    return LEND_CUDA_SUCCESS;
}

int cuGetErrorString(int result, const char **out)
{
    return cuGetErrorName(result, out);
}

int cuDeviceGetCount(int *out)
{
    *out = DEVICE_COUNT;
    return LEND_CUDA_SUCCESS;
}

int cuDeviceGetName(char *name, int capacity, int device)
{
    if (device < 0 || device >= DEVICE_COUNT || capacity <= 0)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    (void)snprintf(name, (size_t)capacity, "fake GPU %d of lend's tests", device);
    return LEND_CUDA_SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *out, int device)
{
    if (device < 0 || device >= DEVICE_COUNT)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    *out = TOTAL_BYTES;
    return LEND_CUDA_SUCCESS;
}

int cuMemGetInfo_v2(size_t *out_free, size_t *out_total)
{
    *out_free = *out_total = TOTAL_BYTES;
    return LEND_CUDA_SUCCESS;
}

int cuCtxGetDevice(int *out)
{
    void *context = NULL, *second = NULL;
    int result = cuCtxGetCurrent(&context);

    if (result != 0)
        return result;
    if (context == NULL)
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    result = cuDevicePrimaryCtxRetain(&second, 1);
    if (result != 0)
        return result;
    *out = context == second;
    return cuDevicePrimaryCtxRelease_v2(1);
}

int cuCtxSynchronize(void)
{
    fake_cuda_finish();
    return LEND_CUDA_SUCCESS;
}

int cuStreamSynchronize(void *stream)
{
    (void)stream;
    return cuCtxSynchronize();
}

int cuEventSynchronize(void *event)
{
    (void)event;
    return cuCtxSynchronize();
}

int cuPointerGetAttribute(void *value, int attribute, uint64_t pointer)
{
    return cuPointerGetAttributes(1, &attribute, &value, pointer);
}

int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes)
{
    uint8_t *there = fake_cuda_bytes(to);
    const uint8_t *here = fake_cuda_bytes(from);

    fake_cuda_finish();
    if (there == NULL || here == NULL)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    memmove(there, here, bytes);
    return LEND_CUDA_SUCCESS;
}

int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t bytes)
{
    uint8_t *there = fake_cuda_bytes(to);

    fake_cuda_finish();
    if (there == NULL)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    memset(there, value, bytes);
    return LEND_CUDA_SUCCESS;
}
