/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver driver;

static void *context; /* of GPU 0 */

static void find_new(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);

    memcpy(slot, &symbol, sizeof symbol);
}

static void find(void *library, const char *name, void *slot)
{
    if (dlsym(library, name) == NULL) {
        (void)fprintf(stderr, "libcuda.so.1 has no %s\n", name);
        exit(2);
    }
    find_new(library, name, slot);
}

void driver_must(int result, const char *what)
{
    if (result == 0)
        return;
    (void)fprintf(stderr, "%s: CUDA error %d\n", what, result);
    exit(2);
}

void driver_put(uint64_t to, const void *from, size_t bytes)
{
    driver_must(driver.to_device(to, from, bytes), "cuMemcpyHtoD");
    driver_must(driver.synchronize(), "cuCtxSynchronize");
}

void driver_enter(void)
{
    driver_must(driver.context_set(context), "cuCtxSetCurrent");
}

void driver_open(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        (void)fprintf(stderr, "there is no NVIDIA driver to test on: %s\n", dlerror());
        exit(2);
    }
    find(library, "cuInit", &driver.init);
    find(library, "cuDriverGetVersion", &driver.version);
    find(library, "cuDeviceGetCount", &driver.device_count);
    find(library, "cuDeviceGetName", &driver.device_name);
    find(library, "cuDevicePrimaryCtxRetain", &driver.context_retain);
    find(library, "cuCtxSetCurrent", &driver.context_set);
    find(library, "cuCtxGetCurrent", &driver.context_get);
    find(library, "cuMemAlloc_v2", &driver.allocate);
    find(library, "cuMemFree_v2", &driver.free);
    find(library, "cuMemHostAlloc", &driver.allocate_host);
    find(library, "cuMemFreeHost", &driver.free_host);
    find(library, "cuMemcpyHtoD_v2", &driver.to_device);
    find(library, "cuMemcpyDtoH_v2", &driver.to_host);
    find(library, "cuMemcpyDtoD_v2", &driver.on_device);
    find(library, "cuCtxSynchronize", &driver.synchronize);
    find(library, "cuMemGetAllocationGranularity", &driver.chunk_granularity);
    find(library, "cuMemCreate", &driver.chunk_create);
    find(library, "cuMemRelease", &driver.chunk_release);
    find(library, "cuMemAddressReserve", &driver.range_reserve);
    find(library, "cuMemAddressFree", &driver.range_free);
    find(library, "cuMemMap", &driver.map);
    find(library, "cuMemUnmap", &driver.unmap);
    find(library, "cuMemSetAccess", &driver.set_access);
    find_new(library, "cuMemPoolCreate", &driver.pool_create);
    find_new(library, "cuMemPoolDestroy", &driver.pool_destroy);
    find_new(library, "cuMemAllocFromPoolAsync", &driver.pool_allocate);
    driver_must(driver.init(0), "cuInit");
    driver_must(driver.context_retain(&context, 0), "cuDevicePrimaryCtxRetain");
    driver_enter();
}
