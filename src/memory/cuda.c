/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/cuda.h"
#include "base/error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#define LIBRARY "libcuda.so.1"

const struct lend_cuda_ops *lend_cuda;

static struct lend_cuda_ops loaded_ops;
static struct lend_error loaded_error; /* status LEND_OK if loaded_ops is good */
static pthread_once_t loaded_once = PTHREAD_ONCE_INIT;

/* What the driver says of one address. */
struct answer {
    void *context; /* NULL for memory of no context: mapped chunks, memory pools */
    unsigned type;
    int ordinal;
    int is_managed; /* the driver writes a boolean as one byte or four */
    int is_mapped;
    unsigned long long buffer_id;
};

static const struct {
    const char *name;
    size_t offset;
    bool is_optional;
} symbols[] = {
    {"cuInit", offsetof(struct lend_cuda_ops, init), false},
    {"cuGetErrorName", offsetof(struct lend_cuda_ops, get_error_name), false},
    {"cuDeviceGet", offsetof(struct lend_cuda_ops, device_get), false},
    {"cuDeviceGetAttribute", offsetof(struct lend_cuda_ops, device_get_attribute), false},
    {"cuDeviceGetPCIBusId", offsetof(struct lend_cuda_ops, device_get_pci), false},
    {"cuDevicePrimaryCtxRetain", offsetof(struct lend_cuda_ops, primary_context_retain), false},
    {"cuDevicePrimaryCtxRelease_v2", offsetof(struct lend_cuda_ops, primary_context_release),
     false},
    {"cuCtxPushCurrent_v2", offsetof(struct lend_cuda_ops, context_push), false},
    {"cuCtxPopCurrent_v2", offsetof(struct lend_cuda_ops, context_pop), false},
    {"cuPointerGetAttributes", offsetof(struct lend_cuda_ops, pointer_get_attributes), false},
    {"cuMemGetAddressRange_v2", offsetof(struct lend_cuda_ops, memory_get_range), false},
    {"cuPointerSetAttribute", offsetof(struct lend_cuda_ops, pointer_set_attribute), false},
    {"cuMemGetHandleForAddressRange", offsetof(struct lend_cuda_ops, memory_get_handle), true},
    {"cuFlushGPUDirectRDMAWrites", offsetof(struct lend_cuda_ops, flush_remote_writes), true},
    {"cuStreamCreate", offsetof(struct lend_cuda_ops, stream_create), false},
    {"cuStreamDestroy_v2", offsetof(struct lend_cuda_ops, stream_destroy), false},
    {"cuEventCreate", offsetof(struct lend_cuda_ops, event_create), false},
    {"cuEventDestroy_v2", offsetof(struct lend_cuda_ops, event_destroy), false},
    {"cuEventRecord", offsetof(struct lend_cuda_ops, event_record), false},
    {"cuEventQuery", offsetof(struct lend_cuda_ops, event_query), false},
    {"cuMemcpyDtoHAsync_v2", offsetof(struct lend_cuda_ops, copy_to_host), false},
    {"cuMemcpyHtoDAsync_v2", offsetof(struct lend_cuda_ops, copy_to_device), false},
    {"cuMemcpyDtoDAsync_v2", offsetof(struct lend_cuda_ops, copy_on_device), false},
    {"cuMemcpyBatchAsync", offsetof(struct lend_cuda_ops, copy_batch), true},
    {"cuMemsetD8Async", offsetof(struct lend_cuda_ops, fill), false},
    {"cuMemHostAlloc", offsetof(struct lend_cuda_ops, host_allocate), false},
    {"cuMemFreeHost", offsetof(struct lend_cuda_ops, host_free), false},
    {"cuMemAlloc_v2", offsetof(struct lend_cuda_ops, allocate), false},
    {"cuMemFree_v2", offsetof(struct lend_cuda_ops, free), false},
    {"cuModuleLoadData", offsetof(struct lend_cuda_ops, module_load), false},
    {"cuModuleUnload", offsetof(struct lend_cuda_ops, module_unload), false},
    {"cuModuleGetFunction", offsetof(struct lend_cuda_ops, module_find), false},
    {"cuLaunchKernel", offsetof(struct lend_cuda_ops, launch), false},
    {"cuIpcGetMemHandle", offsetof(struct lend_cuda_ops, ipc_get), false},
    {"cuIpcOpenMemHandle_v2", offsetof(struct lend_cuda_ops, ipc_open), false},
    {"cuIpcCloseMemHandle", offsetof(struct lend_cuda_ops, ipc_close), false},
    {"cuMemHostRegister_v2", offsetof(struct lend_cuda_ops, host_register), false},
    {"cuMemHostUnregister", offsetof(struct lend_cuda_ops, host_unregister), false},
    {"cuMemGetAllocationGranularity", offsetof(struct lend_cuda_ops, chunk_granularity), false},
    {"cuMemCreate", offsetof(struct lend_cuda_ops, chunk_create), false},
    {"cuMemRelease", offsetof(struct lend_cuda_ops, chunk_release), false},
    {"cuMemRetainAllocationHandle", offsetof(struct lend_cuda_ops, chunk_retain), false},
    {"cuMemExportToShareableHandle", offsetof(struct lend_cuda_ops, chunk_export), false},
    {"cuMemImportFromShareableHandle", offsetof(struct lend_cuda_ops, chunk_import), false},
    {"cuMemAddressReserve", offsetof(struct lend_cuda_ops, range_reserve), false},
    {"cuMemAddressFree", offsetof(struct lend_cuda_ops, range_free), false},
    {"cuMemMap", offsetof(struct lend_cuda_ops, map), false},
    {"cuMemUnmap", offsetof(struct lend_cuda_ops, unmap), false},
    {"cuMemSetAccess", offsetof(struct lend_cuda_ops, set_access), false},
    {"cuMemPoolExportToShareableHandle", offsetof(struct lend_cuda_ops, pool_export), true},
    {"cuMemPoolExportPointer", offsetof(struct lend_cuda_ops, pool_export_pointer), true},
    {"cuMemPoolImportFromShareableHandle", offsetof(struct lend_cuda_ops, pool_import), true},
    {"cuMemPoolImportPointer", offsetof(struct lend_cuda_ops, pool_import_pointer), true},
    {"cuMemPoolSetAccess", offsetof(struct lend_cuda_ops, pool_set_access), true},
    {"cuMemPoolDestroy", offsetof(struct lend_cuda_ops, pool_destroy), true},
};

enum lend_status lend_cuda_load(const char *name, struct lend_cuda_ops *out,
                                struct lend_error *error)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    struct lend_cuda_ops ops = {0};

    if (library == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "%s; lending memory of a GPU needs the NVIDIA driver's library "
                         "(Debian: libcuda1; in a container: the NVIDIA container toolkit)",
                         dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);

        if (symbol == NULL && !symbols[i].is_optional) {
            (void)dlclose(library); /* nothing of it is in use */
            return lend_fail(
                error, LEND_E_UNSUPPORTED,
                "%s has no function %s; install the NVIDIA driver of CUDA 11.0 or later", name,
                symbols[i].name);
        }
        memcpy((char *)&ops + symbols[i].offset, &symbol, sizeof symbol);
    }
    if (ops.pool_export_pointer == NULL || ops.pool_import == NULL ||
        ops.pool_import_pointer == NULL || ops.pool_set_access == NULL || ops.pool_destroy == NULL)
        ops.pool_export = NULL;
    *out = ops;
    return LEND_OK;
}

static void load_once(void)
{
    (void)lend_cuda_load(LIBRARY, &loaded_ops, &loaded_error); /* told to everybody who asks */
}

enum lend_status lend_cuda_fail(struct lend_error *error, const struct lend_cuda_ops *cuda,
                                int result, const char *what)
{
    const char *name = NULL;

    if (cuda->get_error_name(result, &name) != LEND_CUDA_SUCCESS || name == NULL)
        name = "an error without a name";
    return lend_fail_device(error, result, "%s: the CUDA driver says %s (%d)", what, name, result);
}

enum lend_status lend_cuda_open(const struct lend_cuda_ops **out, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = lend_cuda;

    if (cuda == NULL) {
        (void)pthread_once(&loaded_once, load_once);
        if (loaded_error.status != LEND_OK) {
            if (error != NULL)
                *error = loaded_error;
            return (enum lend_status)loaded_error.status;
        }
        cuda = &loaded_ops;
    }
    int result = cuda->init(0);
    if (result == LEND_CUDA_ERROR_NO_DEVICE)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "the CUDA driver finds no GPU (see nvidia-smi, CUDA_VISIBLE_DEVICES)");
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuInit");
    *out = cuda;
    return LEND_OK;
}

static enum lend_status ask(const struct lend_cuda_ops *cuda, uint64_t pointer, struct answer *out,
                            struct lend_error *error)
{
    struct answer answer = {0};
    int attributes[] = {LEND_CUDA_POINTER_CONTEXT,        LEND_CUDA_POINTER_MEMORY_TYPE,
                        LEND_CUDA_POINTER_DEVICE_ORDINAL, LEND_CUDA_POINTER_IS_MANAGED,
                        LEND_CUDA_POINTER_MAPPED,         LEND_CUDA_POINTER_BUFFER_ID};
    void *values[] = {&answer.context,    &answer.type,      &answer.ordinal,
                      &answer.is_managed, &answer.is_mapped, &answer.buffer_id};
    int result = cuda->pointer_get_attributes(sizeof attributes / sizeof attributes[0], attributes,
                                              values, pointer);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuPointerGetAttributes");
    *out = answer;
    return LEND_OK;
}

/* Is it memory of that device? The address is `offset` bytes behind the beginning. */
static enum lend_status check_answer(const struct lend_verify *item, const struct answer *answer,
                                     uint64_t offset, struct lend_error *error)
{
    unsigned long long address = item->memory.address + offset;
    unsigned long long at = offset;
    unsigned long long length = item->memory.length_bytes;

    if (answer->type == LEND_CUDA_MEMORY_UNREGISTERED)
        return lend_fail(error, LEND_E_MEMORY,
                         "0x%llx (byte %llu of %llu) is not memory that the CUDA driver knows",
                         address, at, length);
    if (answer->is_managed != 0)
        return lend_fail(error, LEND_E_MEMORY,
                         "0x%llx (byte %llu of %llu) is managed memory, which may move between "
                         "GPU and host; allocate it with cudaMalloc",
                         address, at, length);
    if (answer->type == LEND_CUDA_MEMORY_HOST)
        return lend_fail(error, LEND_E_MEMORY,
                         "0x%llx (byte %llu of %llu) is pinned host memory, not memory of a GPU; "
                         "describe it with lend_memory_pinned()",
                         address, at, length);
    if (answer->type != LEND_CUDA_MEMORY_DEVICE)
        return lend_fail(
            error, LEND_E_MEMORY,
            "0x%llx (byte %llu of %llu) is memory of CUDA type %u, not memory of a GPU", address,
            at, length, answer->type);
    if (answer->ordinal != item->memory.device)
        return lend_fail(error, LEND_E_MEMORY,
                         "0x%llx (byte %llu of %llu) is memory of GPU %d, not of GPU %d", address,
                         at, length, answer->ordinal, item->memory.device);
    if (answer->is_mapped == 0)
        return lend_fail(
            error, LEND_E_MEMORY,
            "0x%llx (byte %llu of %llu) is a reserved address without memory behind it", address,
            at, length);
    return LEND_OK;
}

enum lend_status lend_cuda_find_range(const struct lend_cuda_ops *cuda, uint64_t address,
                                      uint64_t *out_base, uint64_t *out_end,
                                      struct lend_error *error)
{
    uint64_t base = 0, end;
    size_t bytes = 0;
    int result = cuda->memory_get_range(&base, &bytes, address);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuMemGetAddressRange");
    if (base > address || __builtin_add_overflow(base, bytes, &end) || end <= address)
        return lend_fail_device(
            error, 0, "the CUDA driver says that 0x%llx lies in 0x%llx+%llu, which it does not",
            (unsigned long long)address, (unsigned long long)base, (unsigned long long)bytes);
    *out_base = base;
    *out_end = end;
    return LEND_OK;
}

/* Make the primary context of that device current, and no more so. */
static enum lend_status enter_primary(const struct lend_cuda_ops *cuda, int32_t ordinal,
                                      int *out_device, struct lend_error *error)
{
    void *context = NULL;
    int result = cuda->device_get(out_device, ordinal);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuDeviceGet");
    result = cuda->primary_context_retain(&context, *out_device);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuDevicePrimaryCtxRetain");
    result = cuda->context_push(context);
    if (result != LEND_CUDA_SUCCESS) {
        (void)cuda->primary_context_release(*out_device); /* what failed first is told */
        return lend_cuda_fail(error, cuda, result, "cuCtxPushCurrent");
    }
    return LEND_OK;
}

static void leave_primary(const struct lend_cuda_ops *cuda, int device)
{
    void *popped;

    (void)cuda->context_pop(&popped);            /* it is the one that was pushed, */
    (void)cuda->primary_context_release(device); /* and retained */
}

enum lend_status lend_cuda_allocation(uint64_t address, int32_t ordinal, uint64_t *out_base,
                                      uint64_t *out_end, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = NULL;
    int device = 0;
    enum lend_status status = lend_cuda_open(&cuda, error);

    if (status == LEND_OK)
        status = enter_primary(cuda, ordinal, &device, error);
    if (status != LEND_OK)
        return status;
    status = lend_cuda_find_range(cuda, address, out_base, out_end, error);
    leave_primary(cuda, device);
    return status;
}

enum lend_status lend_cuda_export(uint64_t address, uint64_t bytes, int32_t ordinal, unsigned flags,
                                  int *out_fd, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = NULL;
    int device = 0, fd = -1;
    enum lend_status status = lend_cuda_open(&cuda, error);

    if (status != LEND_OK)
        return status;
    if (cuda->memory_get_handle == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "this CUDA driver exports no memory as dma-buf (it needs CUDA 11.7)");
    status = enter_primary(cuda, ordinal, &device, error);
    if (status != LEND_OK)
        return status;
    int result = cuda->memory_get_handle(&fd, address, bytes, LEND_CUDA_HANDLE_DMA_BUF, flags);
    if (result != LEND_CUDA_SUCCESS)
        status = lend_cuda_fail(error, cuda, result, "cuMemGetHandleForAddressRange");
    leave_primary(cuda, device);
    if (status == LEND_OK)
        *out_fd = fd;
    return status;
}

/*
 * A copy of the owner's that the driver has promised (cudaMemcpy) is then over when its call
 * returns, so that ours, in a stream of its own, does not overtake it. Memory that cannot have this
 * (mapped chunks) is lent all the same.
 */
static void sync_memory_operations(const struct lend_cuda_ops *cuda, uint64_t pointer)
{
    const unsigned yes = 1;

    (void)cuda->pointer_set_attribute(&yes, LEND_CUDA_POINTER_SYNC_MEMOPS, pointer);
}

/* Walk from allocation to allocation: one, or the chunks that are mapped side by side. */
static enum lend_status walk_allocations(const struct lend_cuda_ops *cuda, struct lend_verify *item,
                                         struct answer answer)
{
    const uint64_t start = item->memory.address;
    const uint64_t length = item->memory.length_bytes;
    uint64_t offset = 0;

    for (;;) {
        uint64_t base = 0, end = 0;
        enum lend_status status = check_answer(item, &answer, offset, &item->error);

        if (status == LEND_OK)
            status = lend_cuda_find_range(cuda, start + offset, &base, &end, &item->error);
        if (status != LEND_OK)
            return status;
        if (offset == 0) {
            item->buffer_id = answer.buffer_id;
            item->allocation = base;
        }
        if (item->wants_device) {
            status = lend_device_note(&item->device, end, answer.buffer_id, &item->error);
            if (status != LEND_OK)
                return status;
            sync_memory_operations(cuda, start + offset);
        }
        if (end - start >= length)
            return LEND_OK;
        offset = end - start;
        status = ask(cuda, start + offset, &answer, &item->error);
        if (status != LEND_OK)
            return status;
    }
}

/* With that context current, and the one before it again afterwards. */
static enum lend_status walk_in_context(const struct lend_cuda_ops *cuda, struct lend_verify *item,
                                        const struct answer *answer, void *context)
{
    void *popped;
    int result = cuda->context_push(context);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(&item->error, cuda, result, "cuCtxPushCurrent");
    enum lend_status status = walk_allocations(cuda, item, *answer);
    result = cuda->context_pop(&popped);
    if (status == LEND_OK && result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(&item->error, cuda, result, "cuCtxPopCurrent");
    return status;
}

/* Memory of no context is looked at in the primary one of its device, which its owner uses. */
static enum lend_status walk_in_primary(const struct lend_cuda_ops *cuda, struct lend_verify *item,
                                        const struct answer *answer)
{
    void *context = NULL;
    int device = 0;
    int result = cuda->device_get(&device, answer->ordinal);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(&item->error, cuda, result, "cuDeviceGet");
    result = cuda->primary_context_retain(&context, device);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(&item->error, cuda, result, "cuDevicePrimaryCtxRetain");
    enum lend_status status = walk_in_context(cuda, item, answer, context);
    result = cuda->primary_context_release(device);
    if (status == LEND_OK && result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(&item->error, cuda, result, "cuDevicePrimaryCtxRelease");
    return status;
}

enum lend_status lend_cuda_verify(struct lend_verify *item)
{
    const struct lend_cuda_ops *cuda = NULL;
    struct answer answer = {0};
    enum lend_status status = lend_cuda_open(&cuda, &item->error);

    if (status == LEND_OK)
        status = ask(cuda, item->memory.address, &answer, &item->error);
    if (status == LEND_OK)
        status = check_answer(item, &answer, 0, &item->error);
    if (status != LEND_OK)
        return status;
    status = answer.context != NULL ? walk_in_context(cuda, item, &answer, answer.context)
                                    : walk_in_primary(cuda, item, &answer);
    if (status == LEND_OK && item->device != NULL) {
        item->device->start = item->memory.address;
        item->device->ordinal = item->memory.device;
        item->device->context = answer.context;
    } else if (status != LEND_OK) {
        lend_device_release(item->device);
        item->device = NULL;
    }
    return status;
}
