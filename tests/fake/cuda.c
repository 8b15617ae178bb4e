/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "memory/cuda.h"

#include <stdbool.h>
#include <string.h>

enum { ALLOCATIONS_MAX = 64, FUNCTIONS_MAX = 16, DEVICE_COUNT = 2, NOT_INITIALIZED = 3 };

struct function {
    const char *name;
    int calls;
    int result; /* what it fails with; 0: it does not */
};

static struct fake_cuda_allocation allocations[ALLOCATIONS_MAX];
static size_t allocation_count;
static struct function functions[FUNCTIONS_MAX];
static uint64_t lie_base, lie_bytes;
static int pushed, retained;
static bool is_initialized;
static char contexts[DEVICE_COUNT]; /* whose addresses stand for contexts */

static struct function *find_function(const char *name)
{
    struct function *function = functions;

    while (function->name != NULL && strcmp(function->name, name) != 0)
        function++;
    function->name = name;
    return function;
}

/* Count a call, and say how it fails, if it does. */
static int enter(const char *name)
{
    struct function *function = find_function(name);

    function->calls++;
    if (function->result != 0)
        return function->result;
    return is_initialized || strcmp(name, "cuInit") == 0 ? 0 : NOT_INITIALIZED;
}

static const struct fake_cuda_allocation *find_allocation(uint64_t pointer)
{
    for (size_t i = 0; i < allocation_count; i++) {
        if (pointer >= allocations[i].base &&
            pointer - allocations[i].base < allocations[i].length_bytes)
            return &allocations[i];
    }
    return NULL;
}

void fake_cuda_reset(void)
{
    memset(functions, 0, sizeof functions);
    allocation_count = 0;
    lie_base = lie_bytes = 0;
    pushed = retained = 0;
    is_initialized = false;
}

void fake_cuda_add(const struct fake_cuda_allocation *allocation)
{
    if (allocation_count < ALLOCATIONS_MAX)
        allocations[allocation_count++] = *allocation;
}

void fake_cuda_fail(const char *function, int result)
{
    find_function(function)->result = result;
}

void fake_cuda_lie(uint64_t base, uint64_t length_bytes)
{
    lie_base = base;
    lie_bytes = length_bytes;
}

int fake_cuda_calls(const char *function)
{
    return find_function(function)->calls;
}

int fake_cuda_held(void)
{
    return pushed + retained;
}

int cuInit(unsigned flags)
{
    int result = enter("cuInit");

    if (result == 0 && flags != 0)
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    is_initialized = result == 0;
    return result;
}

int cuGetErrorName(int result, const char **out)
{
    static const struct {
        int result;
        const char *name;
    } names[] = {
        {LEND_CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {LEND_CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {LEND_CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {LEND_CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {LEND_CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].result == result) {
            *out = names[i].name;
            return LEND_CUDA_SUCCESS;
        }
    }
    *out = NULL;
    return LEND_CUDA_ERROR_INVALID_VALUE;
}

int cuDeviceGet(int *out_device, int ordinal)
{
    int result = enter("cuDeviceGet");

    if (result != 0)
        return result;
    if (ordinal < 0 || ordinal >= DEVICE_COUNT)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    *out_device = ordinal;
    return LEND_CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **out_context, int device)
{
    int result = enter("cuDevicePrimaryCtxRetain");

    if (result != 0)
        return result;
    retained++;
    *out_context = &contexts[device];
    return LEND_CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    int result = enter("cuDevicePrimaryCtxRelease");

    (void)device;
    retained--;
    return result;
}

int cuCtxPushCurrent_v2(void *context)
{
    int result = enter("cuCtxPushCurrent");

    if (result != 0)
        return result;
    if (context != &contexts[0] && context != &contexts[1])
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    pushed++;
    return LEND_CUDA_SUCCESS;
}

int cuCtxPopCurrent_v2(void **out_context)
{
    int result = enter("cuCtxPopCurrent");

    pushed--;
    *out_context = &contexts[0];
    return result;
}

/* The driver's defaults are zeros, and -2 for the ordinal, where it does not know the address. */
static bool answer(const struct fake_cuda_allocation *allocation, int attribute, void *value)
{
    const struct fake_cuda_allocation unknown = {.ordinal = -2, .is_reserved = 1};
    const struct fake_cuda_allocation *known = allocation != NULL ? allocation : &unknown;

    switch (attribute) {
    case LEND_CUDA_POINTER_CONTEXT:
        *(void **)value = allocation == NULL || known->is_contextless || known->ordinal < 0
                              ? NULL
                              : &contexts[known->ordinal % DEVICE_COUNT];
        return true;
    case LEND_CUDA_POINTER_MEMORY_TYPE: *(unsigned *)value = known->type; return true;
    case LEND_CUDA_POINTER_BUFFER_ID: *(unsigned long long *)value = known->buffer_id; return true;
    case LEND_CUDA_POINTER_IS_MANAGED: *(bool *)value = known->is_managed != 0; return true;
    case LEND_CUDA_POINTER_DEVICE_ORDINAL: *(int *)value = known->ordinal; return true;
    case LEND_CUDA_POINTER_MAPPED: *(bool *)value = known->is_reserved == 0; return true;
    default: return false;
    }
}

int cuPointerGetAttributes(unsigned count, int *attributes, void **values, uint64_t pointer)
{
    int result = enter("cuPointerGetAttributes");

    if (result != 0)
        return result;
    for (unsigned i = 0; i < count; i++) {
        if (!answer(find_allocation(pointer), attributes[i], values[i]))
            return LEND_CUDA_ERROR_INVALID_VALUE;
    }
    return LEND_CUDA_SUCCESS;
}

int cuMemGetAddressRange_v2(uint64_t *out_base, size_t *out_bytes, uint64_t pointer)
{
    const struct fake_cuda_allocation *allocation = find_allocation(pointer);
    int result = enter("cuMemGetAddressRange");

    if (result != 0)
        return result;
    if (pushed == 0)
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    if (allocation == NULL)
        return LEND_CUDA_ERROR_NOT_FOUND;
    *out_base = lie_bytes > 0 ? lie_base : allocation->base;
    *out_bytes = lie_bytes > 0 ? lie_bytes : allocation->length_bytes;
    return LEND_CUDA_SUCCESS;
}

const struct lend_cuda_ops fake_cuda_ops = {
    .init = cuInit,
    .get_error_name = cuGetErrorName,
    .device_get = cuDeviceGet,
    .primary_context_retain = cuDevicePrimaryCtxRetain,
    .primary_context_release = cuDevicePrimaryCtxRelease_v2,
    .context_push = cuCtxPushCurrent_v2,
    .context_pop = cuCtxPopCurrent_v2,
    .pointer_get_attributes = cuPointerGetAttributes,
    .memory_get_range = cuMemGetAddressRange_v2,
};
