/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what memory/cuda.h writes down of the driver's ABI is what NVIDIA's header says. Method:
 * the compiler compares them, where cuda.h is installed (NVIDIA's toolkit, or
 * nvidia-cuda-runtime-cu12 of PyPI; -Dc_args=-I...). It is of CUDA 12.8 or later, as the copies
 * made many at once are.
 */
#include <cuda.h>

#include <stdio.h>

#include "memory/cuda.h"

/* Of the same size, each field of it where the other has it. */
#define SAME_SIZE(ours, theirs)                                                                    \
    _Static_assert(sizeof(ours) == sizeof(theirs), #theirs " has another size")
#define SAME_PLACE(ours, field, theirs, their_field)                                               \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field) &&                       \
                       sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->their_field),           \
                   #their_field " of " #theirs " is elsewhere")
#define SAME(ours, theirs)                                                                         \
    _Static_assert((long long)(ours) == (long long)(theirs), #theirs " is another")

typedef struct lend_cuda_chunk chunk;
typedef struct lend_cuda_access access_right;
typedef struct lend_cuda_batch batch;

SAME_SIZE(void *, CUcontext);
SAME_SIZE(void *, CUstream);
SAME_SIZE(void *, CUevent);
SAME_SIZE(void *, CUmemoryPool);
SAME_SIZE(int, CUdevice);
SAME_SIZE(int, CUresult);
SAME_SIZE(uint64_t, CUdeviceptr);
SAME_SIZE(uint64_t, CUmemGenericAllocationHandle);
SAME_SIZE(struct lend_cuda_ipc, CUipcMemHandle);
SAME_SIZE(struct lend_cuda_ticket, CUmemFabricHandle);
SAME_SIZE(struct lend_cuda_ticket, CUmemPoolPtrExportData);

SAME_SIZE(struct lend_cuda_location, CUmemLocation);
SAME_PLACE(struct lend_cuda_location, type, CUmemLocation, type);
SAME_PLACE(struct lend_cuda_location, id, CUmemLocation, id);
SAME_SIZE(chunk, CUmemAllocationProp);
SAME_PLACE(chunk, type, CUmemAllocationProp, type);
SAME_PLACE(chunk, handle_types, CUmemAllocationProp, requestedHandleTypes);
SAME_PLACE(chunk, location, CUmemAllocationProp, location);
SAME_PLACE(chunk, reserved, CUmemAllocationProp, win32HandleMetaData);
SAME_PLACE(chunk, compression, CUmemAllocationProp, allocFlags.compressionType);
SAME_PLACE(chunk, is_rdma_capable, CUmemAllocationProp, allocFlags.gpuDirectRDMACapable);
SAME_PLACE(chunk, usage, CUmemAllocationProp, allocFlags.usage);
SAME_SIZE(access_right, CUmemAccessDesc);
SAME_PLACE(access_right, location, CUmemAccessDesc, location);
SAME_PLACE(access_right, rights, CUmemAccessDesc, flags);
SAME_SIZE(batch, CUmemcpyAttributes);
SAME_PLACE(batch, source_order, CUmemcpyAttributes, srcAccessOrder);
SAME_PLACE(batch, source_type, CUmemcpyAttributes, srcLocHint.type);
SAME_PLACE(batch, source_id, CUmemcpyAttributes, srcLocHint.id);
SAME_PLACE(batch, destination_type, CUmemcpyAttributes, dstLocHint.type);
SAME_PLACE(batch, destination_id, CUmemcpyAttributes, dstLocHint.id);
SAME_PLACE(batch, flags, CUmemcpyAttributes, flags);

SAME(LEND_CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(LEND_CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(LEND_CUDA_ERROR_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(LEND_CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME(LEND_CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT);
SAME(LEND_CUDA_ERROR_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(LEND_CUDA_ERROR_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(LEND_CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_NOT_SUPPORTED);
SAME(712, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);

SAME(LEND_CUDA_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(LEND_CUDA_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(LEND_CUDA_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
SAME(LEND_CUDA_HOST_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE);
SAME(LEND_CUDA_HANDLE_DMA_BUF, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD);
SAME(LEND_CUDA_HANDLE_BY_PCIE, CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE);
SAME(LEND_CUDA_SOURCE_IN_STREAM_ORDER, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
SAME(LEND_CUDA_IPC_PEER_ACCESS, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
SAME(LEND_CUDA_HANDLE_FD, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
SAME(LEND_CUDA_HANDLE_FABRIC, CU_MEM_HANDLE_TYPE_FABRIC);
SAME(LEND_CUDA_CHUNK_PINNED, CU_MEM_ALLOCATION_TYPE_PINNED);
SAME(LEND_CUDA_LOCATION_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
SAME(LEND_CUDA_ACCESS_READ, CU_MEM_ACCESS_FLAGS_PROT_READ);
SAME(LEND_CUDA_ACCESS_READ_WRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);

SAME(LEND_CUDA_DEVICE_HAS_CHUNKS, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
SAME(LEND_CUDA_DEVICE_HAS_FD, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
SAME(LEND_CUDA_DEVICE_RDMA_CHUNKS, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
SAME(LEND_CUDA_DEVICE_HAS_FABRIC, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED);
SAME(LEND_CUDA_DEVICE_HOST_NUMA_ID, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID);

SAME(LEND_CUDA_POINTER_CONTEXT, CU_POINTER_ATTRIBUTE_CONTEXT);
SAME(LEND_CUDA_POINTER_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SAME(LEND_CUDA_POINTER_SYNC_MEMOPS, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
SAME(LEND_CUDA_POINTER_BUFFER_ID, CU_POINTER_ATTRIBUTE_BUFFER_ID);
SAME(LEND_CUDA_POINTER_IS_MANAGED, CU_POINTER_ATTRIBUTE_IS_MANAGED);
SAME(LEND_CUDA_POINTER_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SAME(LEND_CUDA_POINTER_IS_IPC_CAPABLE, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
SAME(LEND_CUDA_POINTER_MAPPED, CU_POINTER_ATTRIBUTE_MAPPED);
SAME(LEND_CUDA_POINTER_HANDLE_TYPES, CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES);
SAME(LEND_CUDA_POINTER_POOL, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE);
SAME(LEND_CUDA_MEMORY_HOST, CU_MEMORYTYPE_HOST);
SAME(LEND_CUDA_MEMORY_DEVICE, CU_MEMORYTYPE_DEVICE);

int main(void)
{
    printf("memory/cuda.h agrees with cuda.h of CUDA %d\n", CUDA_VERSION);
    return 0;
}
