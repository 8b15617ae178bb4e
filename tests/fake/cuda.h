/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_CUDA_H
#define LEND_TESTS_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A fake CUDA driver: it has the functions that lend uses, two GPUs, and the allocations that a
 * test tells it of or makes. It is linked into tests, or built as a libcuda.so.1 of its own, and
 * shows how lend treats what a driver answers; what a driver does answer is shown on a GPU alone.
 *
 * Memory of its GPUs is memory of the host that lies elsewhere: the address that the program knows
 * has no rights at all, so that a processor that touches it ends in SIGSEGV; and only the fake's
 * copies know where the bytes are. What one process lets another open is found there by its file;
 * or it was there before they parted by fork(), and its bytes are in memory that they share.
 * What is asynchronous in a driver is so here: a copy moves its bytes when something asks whether
 * it is over, at the second time that it is asked.
 */

/* As a real driver would describe it; the numbers are those of memory/cuda.h. */
struct fake_cuda_allocation {
    uint64_t base;
    uint64_t length_bytes;
    uint64_t buffer_id;
    unsigned type;         /* LEND_CUDA_MEMORY_... */
    int ordinal;           /* of the GPU */
    int is_managed;        /* cudaMallocManaged */
    int is_reserved;       /* an address range with no memory mapped to it */
    int is_contextless;    /* mapped chunk or memory pool: belongs to no context */
    uint8_t *bytes;        /* where its bytes are; NULL: there are none, and nothing copies them */
    int fd;                /* of the file that they are in, for other processes; 0: there is none */
    unsigned handle_types; /* that it may be exported as */
    void *pool;            /* that it is of */
    unsigned chunk;        /* that is mapped there; 0: none is */
    int is_closed;         /* mapped, and nobody may read or write it yet, */
    int is_read_only;      /* or read it alone */
};

/* Two GPUs, no allocations, nothing fails, cuInit() to be called. */
void fake_cuda_reset(void);
void fake_cuda_add(const struct fake_cuda_allocation *allocation);
/* Where the byte that the program knows by that address is; NULL: nowhere. */
uint8_t *fake_cuda_bytes(uint64_t pointer);
/* What lies at the address is freed, and allocated anew in the same place. */
void fake_cuda_renew(uint64_t pointer);
/* That function returns result from now on, and does nothing; with the nth call from now, counted
 * from 0, it does so once. */
void fake_cuda_fail(const char *function, int result);
void fake_cuda_fail_nth(const char *function, int nth, int result);
/* cuMemGetAddressRange() answers with this range, whatever it is asked. */
void fake_cuda_lie(uint64_t base, uint64_t length_bytes);
/* Copies stay under way, whoever asks, until this is told again with 0. */
void fake_cuda_hold(int is_held);
/* All that was begun is over. */
void fake_cuda_finish(void);
/* Those under way never move a byte: their context has broken down. */
void fake_cuda_drop(void);
/* Copies that were begun and are not over. */
int fake_cuda_under_way(void);
/* Calls of that function since the reset. */
int fake_cuda_calls(const char *function);
/* The stream behind whose work an event was recorded last. */
void *fake_cuda_recorded(void);
/* Contexts pushed and not popped by this thread, primary contexts retained and not released. */
int fake_cuda_held(void);
/* Flags of exports of memory as dma-buf that are refused; 0: none is. */
void fake_cuda_refuse_exports(unsigned mask);
/* Streams, events, code and pinned memory that were made and not given back. */
int fake_cuda_kept(void);

/* What the GPUs say of writes by NICs: CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING and
 * ..._FLUSH_WRITES_OPTIONS; after a reset that they order none (0), and that there is a flush (1).
 */
void fake_cuda_order_writes(int ordering, int options);
/* For fake NICs. Bytes that one writes to a GPU that does not order them are on their way until
 * that GPU is flushed, or copies, or a NIC reads from it; and are lost if the memory is freed. Of
 * one allocation. */
void fake_cuda_remote_write(uint64_t to, const void *from, size_t bytes);
/* Where a NIC reads the bytes of that address: all that was on its way to that GPU is there. NULL:
 * no such memory. */
const uint8_t *fake_cuda_remote_read(uint64_t from);
/* Of an exported range: its first address, its length, and the flags it was exported with. False:
 * it is none. */
bool fake_cuda_exported(int fd, uint64_t *out_base, uint64_t *out_bytes, unsigned *out_flags);
/* The id of the allocation at that address, and where that ends; 0: there is none. */
uint64_t fake_cuda_id(uint64_t pointer, uint64_t *out_end);
/* Writes of NICs that are on their way. */
int fake_cuda_remote_held(void);
/* They arrive, by and by, whoever asks for it or not. */
void fake_cuda_remote_arrive(void);

/* A process may open what it has itself made for others to open: no driver allows that, but a test
 * may have both ends in one. */
void fake_cuda_open_own(int is_allowed);
/* What was opened and not closed; and what was closed while a copy of it was under way. */
int fake_cuda_opened(void);
int fake_cuda_torn(void);

/* Chunks and ranges of addresses that are there, and pools; what was imported counts by itself. */
int fake_cuda_chunks(void);
int fake_cuda_pools(void);
/* What a GPU answers when it is asked for that attribute. */
void fake_cuda_attribute(int attribute, int value);

/* The first fields of CUmemPoolProps. */
struct fake_cuda_pool_desc {
    uint32_t type;
    uint32_t handle_types;
    uint32_t location_type;
    int32_t ordinal;
};

struct lend_cuda_ipc;
struct lend_cuda_batch;
struct lend_cuda_chunk;
struct lend_cuda_access;
struct lend_cuda_ticket;
int cuInit(unsigned flags);
int cuGetErrorName(int result, const char **out);
int cuDeviceGet(int *out_device, int ordinal);
int cuDeviceGetAttribute(int *out, int attribute, int device);
int cuDeviceGetPCIBusId(char *out, int capacity, int device);
int cuFlushGPUDirectRDMAWrites(int target, int scope);
int cuDevicePrimaryCtxRetain(void **out_context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **out_context);
int cuCtxGetCurrent(void **out_context);
int cuCtxSetCurrent(void *context);
int cuPointerGetAttributes(unsigned count, int *attributes, void **values, uint64_t pointer);
int cuPointerSetAttribute(const void *value, int attribute, uint64_t pointer);
int cuMemGetAddressRange_v2(uint64_t *out_base, size_t *out_bytes, uint64_t pointer);
int cuMemGetHandleForAddressRange(void *out_handle, uint64_t pointer, size_t bytes, int type,
                                  unsigned long long flags);
int cuMemAlloc_v2(uint64_t *out_pointer, size_t bytes);
int cuMemFree_v2(uint64_t pointer);
int cuStreamCreate(void **out_stream, unsigned flags);
int cuStreamDestroy_v2(void *stream);
int cuEventCreate(void **out_event, unsigned flags);
int cuEventDestroy_v2(void *event);
int cuEventRecord(void *event, void *stream);
int cuEventQuery(void *event);
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream);
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream);
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes);
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes);
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream);
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream);
int cuMemcpyBatchAsync(uint64_t *to, uint64_t *from, size_t *bytes, size_t count,
                       struct lend_cuda_batch *attributes, size_t *attribute_starts,
                       size_t attribute_count, size_t *failed_at, void *stream);
int cuIpcGetMemHandle(struct lend_cuda_ipc *out, uint64_t pointer);
int cuIpcOpenMemHandle_v2(uint64_t *out_pointer, struct lend_cuda_ipc handle, unsigned flags);
int cuIpcCloseMemHandle(uint64_t pointer);
int cuMemGetAllocationGranularity(size_t *out, const struct lend_cuda_chunk *chunk, int kind);
int cuMemCreate(uint64_t *out_handle, size_t bytes, const struct lend_cuda_chunk *wanted,
                unsigned long long flags);
int cuMemRelease(uint64_t handle);
int cuMemRetainAllocationHandle(uint64_t *out_handle, void *mapped);
int cuMemExportToShareableHandle(void *out, uint64_t handle, int type, unsigned long long flags);
int cuMemImportFromShareableHandle(uint64_t *out_handle, void *shared, int type);
int cuMemAddressReserve(uint64_t *out, size_t bytes, size_t alignment, uint64_t wanted,
                        unsigned long long flags);
int cuMemAddressFree(uint64_t address, size_t bytes);
int cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
             unsigned long long flags);
int cuMemUnmap(uint64_t address, size_t bytes);
int cuMemSetAccess(uint64_t address, size_t bytes, const struct lend_cuda_access *access,
                   size_t count);
int cuMemPoolCreate(void **out_pool, const struct fake_cuda_pool_desc *desc);
int cuMemPoolDestroy(void *pool);
int cuMemAllocFromPoolAsync(uint64_t *out_pointer, size_t bytes, void *pool, void *stream);
int cuMemPoolExportToShareableHandle(void *out, void *pool, int type, unsigned long long flags);
int cuMemPoolExportPointer(struct lend_cuda_ticket *out, uint64_t pointer);
int cuMemPoolImportFromShareableHandle(void **out_pool, void *shared, int type,
                                       unsigned long long flags);
int cuMemPoolImportPointer(uint64_t *out, void *pool, struct lend_cuda_ticket *ticket);
int cuMemPoolSetAccess(void *pool, const struct lend_cuda_access *access, size_t count);
int cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags);
int cuMemHostUnregister(void *memory);
int cuStreamWaitValue32_v2(void *stream, uint64_t address, uint32_t value, unsigned flags);
int cuModuleLoadData(void **out_module, const void *text);
int cuModuleUnload(void *module);
int cuModuleGetFunction(void **out_function, void *module, const char *name);
int cuLaunchKernel(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,
                   unsigned threads_x, unsigned threads_y, unsigned threads_z,
                   unsigned shared_bytes, void *stream, void **arguments, void **extra);
int cuMemHostAlloc(void **out, size_t bytes, unsigned flags);
int cuMemFreeHost(void *memory);

struct lend_cuda_ops;
/* All of them that lend uses, to point lend_cuda at. */
extern const struct lend_cuda_ops fake_cuda_ops;

#endif
