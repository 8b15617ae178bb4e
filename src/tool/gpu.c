/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/gpu.h"

#include "tool/trouble.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OUT_OF_MEMORY = 2, PORTABLE = 1, FUNCTIONS = 15 };

/* The driver's own functions, of CUDA 11.0 and later. Each returns a CUresult, 0 for success. */
static struct {
    int (*init)(unsigned flags);
    int (*error_name)(int result, const char **out);
    int (*device_get)(int *out, int ordinal);
    int (*device_name)(char *name, int capacity, int device);
    int (*context_retain)(void **out, int device);
    int (*context_set)(void *context);
    int (*synchronize)(void);
    int (*allocate)(uint64_t *out, size_t bytes);
    int (*free)(uint64_t memory);
    int (*allocate_host)(void **out, size_t bytes, unsigned flags);
    int (*free_host)(void *memory);
    int (*put)(uint64_t to, const void *from, size_t bytes);
    int (*get)(void *to, uint64_t from, size_t bytes);
    int (*copy)(uint64_t to, uint64_t from, size_t bytes, void *stream);
    int (*set)(uint64_t to, unsigned char value, size_t bytes);
} driver;

static const struct {
    void *slot;
    const char *name;
} functions[FUNCTIONS] = {
    {&driver.init, "cuInit"},
    {&driver.error_name, "cuGetErrorName"},
    {&driver.device_get, "cuDeviceGet"},
    {&driver.device_name, "cuDeviceGetName"},
    {&driver.context_retain, "cuDevicePrimaryCtxRetain"},
    {&driver.context_set, "cuCtxSetCurrent"},
    {&driver.synchronize, "cuCtxSynchronize"},
    {&driver.allocate, "cuMemAlloc_v2"},
    {&driver.free, "cuMemFree_v2"},
    {&driver.allocate_host, "cuMemHostAlloc"},
    {&driver.free_host, "cuMemFreeHost"},
    {&driver.put, "cuMemcpyHtoD_v2"},
    {&driver.get, "cuMemcpyDtoH_v2"},
    {&driver.copy, "cuMemcpyDtoDAsync_v2"},
    {&driver.set, "cuMemsetD8_v2"},
};
_Static_assert(sizeof driver == FUNCTIONS * sizeof(void *), "every function has its name");

static char device_name[128];

const char *gpu_name(void)
{
    return device_name;
}

/* The library stays open as long as the process. */
static enum lend_status load(struct lend_error *error)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL)
        return trouble(error, LEND_E_UNSUPPORTED,
                       "memory of a GPU takes NVIDIA's driver, which is not here (%s): install it, "
                       "or use --memory host",
                       dlerror());
    for (size_t i = 0; i < FUNCTIONS; i++) {
        void *symbol = dlsym(library, functions[i].name);

        if (symbol == NULL)
            return trouble(error, LEND_E_UNSUPPORTED,
                           "libcuda.so.1 has no %s: it takes a driver of CUDA 11.0 or later",
                           functions[i].name);
        memcpy(functions[i].slot, &symbol, sizeof symbol);
    }
    return LEND_OK;
}

static const char *name_of(int result)
{
    const char *name = NULL;

    return driver.error_name(result, &name) == 0 && name != NULL ? name : "an unknown result";
}

/* Make GPU 0's context current. NULL, or the function that said no. */
static const char *begin(int *result)
{
    void *context = NULL;
    int device = 0;

    if ((*result = driver.init(0)) != 0)
        return "cuInit";
    if ((*result = driver.device_get(&device, 0)) != 0)
        return "cuDeviceGet";
    if ((*result = driver.context_retain(&context, device)) != 0)
        return "cuDevicePrimaryCtxRetain";
    if ((*result = driver.context_set(context)) != 0)
        return "cuCtxSetCurrent";
    *result = driver.device_name(device_name, sizeof device_name, device);
    return *result == 0 ? NULL : "cuDeviceGetName";
}

static enum lend_status open_gpu(struct lend_error *error)
{
    int result = 0;

    if (device_name[0] != '\0')
        return LEND_OK;
    enum lend_status status = load(error);
    if (status != LEND_OK)
        return status;
    const char *refused = begin(&result);
    if (refused == NULL)
        return LEND_OK;
    device_name[0] = '\0';
    return trouble(error, LEND_E_UNSUPPORTED,
                   "there is no GPU 0 to use: %s says %s (%d): see what nvidia-smi says, or use "
                   "--memory host",
                   refused, name_of(result), result);
}

enum lend_status gpu_allocate(uint32_t kind, size_t bytes, unsigned char **out,
                              struct lend_error *error)
{
    bool is_device = kind == LEND_MEMORY_DEVICE;
    void *memory = NULL;
    uint64_t pointer = 0;
    enum lend_status status = open_gpu(error);

    if (status != LEND_OK)
        return status;
    int result = is_device ? driver.allocate(&pointer, bytes)
                           : driver.allocate_host(&memory, bytes, PORTABLE);
    if (result != 0)
        return trouble(error, result == OUT_OF_MEMORY ? LEND_E_NO_MEMORY : LEND_E_DEVICE,
                       "%s gives no %zu MiB: %s (%d): try less --memory",
                       is_device ? device_name : "the CUDA driver", bytes >> 20, name_of(result),
                       result);
    *out = is_device ? (unsigned char *)(uintptr_t)pointer : memory;
    return LEND_OK;
}

/* There is nobody to tell in the middle of an act, and nothing to go on with. */
static void must(int result, const char *what)
{
    if (result == 0)
        return;
    (void)fprintf(stderr, "lend: %s: %s says %s (%d)\n", device_name, what, name_of(result),
                  result);
    _exit(EXIT_TROUBLE);
}

void gpu_free(uint32_t kind, unsigned char *memory)
{
    if (kind == LEND_MEMORY_DEVICE)
        must(driver.free((uintptr_t)memory), "cuMemFree");
    else
        must(driver.free_host(memory), "cuMemFreeHost");
}

/* A copy from memory that is not pinned may return before its last bytes have arrived. */
void gpu_finish(void)
{
    must(driver.synchronize(), "cuCtxSynchronize");
}

void gpu_put(unsigned char *to, const void *from, size_t bytes)
{
    must(driver.put((uintptr_t)to, from, bytes), "cuMemcpyHtoD");
    gpu_finish();
}

void gpu_get(void *to, const unsigned char *from, size_t bytes)
{
    must(driver.get(to, (uintptr_t)from, bytes), "cuMemcpyDtoH");
}

void gpu_set(unsigned char *to, int byte, size_t bytes)
{
    must(driver.set((uintptr_t)to, (unsigned char)byte, bytes), "cuMemsetD8");
    gpu_finish();
}

void gpu_copy(unsigned char *to, const unsigned char *from, size_t bytes)
{
    must(driver.copy((uintptr_t)to, (uintptr_t)from, bytes, NULL), "cuMemcpyDtoDAsync");
}
