/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_CUDA_H
#define LEND_MEMORY_CUDA_H

#include "memory/verify.h"

#include <stddef.h>

enum { LEND_CUDA_IPC_BYTES = 64 };

/* What another process opens an allocation with. The driver takes it by value. */
struct lend_cuda_ipc {
    uint8_t bytes[LEND_CUDA_IPC_BYTES];
};

/* CUmemcpyAttributes: how the copies of a batch are made. The hints are for memory that none of
 * ours is. */
struct lend_cuda_batch {
    uint32_t source_order;
    uint32_t source_type;
    int32_t source_id;
    uint32_t destination_type;
    int32_t destination_id;
    uint32_t flags;
};

/* CUmemLocation, of a device: its ordinal. */
struct lend_cuda_location {
    uint32_t type;
    int32_t id;
};

/* CUmemAllocationProp: what a chunk of memory is made as. */
struct lend_cuda_chunk {
    uint32_t type;
    uint32_t handle_types; /* that it can be exported as, a bit each */
    struct lend_cuda_location location;
    void *reserved;
    uint8_t compression;
    uint8_t is_rdma_capable; /* a NIC may read and write it */
    uint16_t usage;
    uint8_t reserved_too[4];
};

/* CUmemAccessDesc: who may do what with mapped chunks, or with a pool's memory. */
struct lend_cuda_access {
    struct lend_cuda_location location;
    uint32_t rights;
};

/* CUmemPoolPtrExportData, and CUmemFabricHandle, which is as long. */
struct lend_cuda_ticket {
    uint8_t bytes[LEND_CUDA_IPC_BYTES];
};

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
    int (*device_get_attribute)(int *out, int attribute, int device);
    int (*device_get_pci)(char *out, int capacity, int device); /* "0000:3B:00.0" */
    int (*primary_context_retain)(void **out_context, int device);
    int (*primary_context_release)(int device);
    int (*context_push)(void *context);
    int (*context_pop)(void **out_context);
    /* Needs no context; what is not CUDA's has zeros for attributes. */
    int (*pointer_get_attributes)(unsigned count, int *attributes, void **values, uint64_t pointer);
    /* Needs the context current. Of memory made of mapped chunks, the chunk that pointer lies in.
     */
    int (*memory_get_range)(uint64_t *out_base, size_t *out_bytes, uint64_t pointer);
    /* May fail for memory that cannot have it, mapped chunks among them. */
    int (*pointer_set_attribute)(const void *value, int attribute, uint64_t pointer);
    /* A descriptor of that memory, whole pages of the host's. NULL before CUDA 11.7. */
    int (*memory_get_handle)(void *out_handle, uint64_t pointer, size_t bytes, int type,
                             unsigned long long flags);

    /* What NICs have written to memory of the current context (target 0) is seen by whatever is
     * begun after the return. NULL before CUDA 11.3. */
    int (*flush_remote_writes)(int target, int scope);

    /* Copies. All with the context current that the stream was made in. */
    int (*stream_create)(void **out_stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*event_create)(void **out_event, unsigned flags);
    int (*event_destroy)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_query)(void *event); /* LEND_CUDA_ERROR_NOT_READY: not yet */
    int (*copy_to_host)(void *to, uint64_t from, size_t bytes, void *stream);
    int (*copy_to_device)(uint64_t to, const void *from, size_t bytes, void *stream);
    int (*copy_on_device)(uint64_t to, uint64_t from, size_t bytes, void *stream);
    /* Many at once, each to or from where it likes, in no order among themselves. attribute_starts:
     * the copy from which on each attribute counts. NULL before CUDA 12.8. (CUDA 13 has a second
     * version, without failed_at, by another name; this one stays.) */
    int (*copy_batch)(uint64_t *to, uint64_t *from, size_t *bytes, size_t count,
                      struct lend_cuda_batch *attributes, size_t *attribute_starts,
                      size_t attribute_count, size_t *failed_at, void *stream);
    int (*fill)(uint64_t to, unsigned char value, size_t bytes, void *stream);
    int (*host_allocate)(void **out, size_t bytes, unsigned flags);
    int (*host_free)(void *memory);
    int (*allocate)(uint64_t *out_pointer, size_t bytes);
    int (*free)(uint64_t pointer);

    /* Code of ours: translated for the context that is current, found in it by name, and run by
     * that many threads. Arguments are copied by the call. */
    int (*module_load)(void **out_module, const void *text);
    int (*module_unload)(void *module);
    int (*module_find)(void **out_function, void *module, const char *name);
    int (*launch)(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,
                  unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned shared_bytes,
                  void *stream, void **arguments, void **extra);

    /* Of a whole allocation, by any address in it; and the address of its first byte where another
     * process has opened it, in the context that is current then. What is opened twice there has
     * one address, and is closed twice. The process that made it cannot open it. */
    int (*ipc_get)(struct lend_cuda_ipc *out, uint64_t pointer);
    int (*ipc_open)(uint64_t *out_pointer, struct lend_cuda_ipc handle, unsigned flags);
    int (*ipc_close)(uint64_t pointer);

    /* Memory of the host that somebody else has allocated: pinned, and known to the driver. */
    int (*host_register)(void *memory, size_t bytes, unsigned flags);
    int (*host_unregister)(void *memory);

    /* Chunks of memory, and ranges of addresses that they are mapped to. A chunk is there until its
     * handles are released and its mappings are gone, in whatever process. */
    int (*chunk_granularity)(size_t *out, const struct lend_cuda_chunk *chunk, int kind);
    int (*chunk_create)(uint64_t *out_handle, size_t bytes, const struct lend_cuda_chunk *chunk,
                        unsigned long long flags);
    int (*chunk_release)(uint64_t handle);
    int (*chunk_retain)(uint64_t *out_handle, void *mapped); /* one handle more, to be released */
    /* out is an int, or a struct lend_cuda_ticket, as the type says; and so is handle, but for the
     * descriptor, which stands there instead of an address. */
    int (*chunk_export)(void *out, uint64_t handle, int type, unsigned long long flags);
    int (*chunk_import)(uint64_t *out_handle, void *handle, int type);
    int (*range_reserve)(uint64_t *out, size_t bytes, size_t alignment, uint64_t wanted,
                         unsigned long long flags);
    int (*range_free)(uint64_t address, size_t bytes);
    int (*map)(uint64_t address, size_t bytes, size_t offset, uint64_t handle,
               unsigned long long flags);
    int (*unmap)(uint64_t address, size_t bytes); /* as it was mapped, no part of that */
    int (*set_access)(uint64_t address, size_t bytes, const struct lend_cuda_access *access,
                      size_t count);

    /* Memory pools, whole and allocation by allocation. pool_export is NULL before CUDA 11.2. What
     * is imported is freed as if it had been allocated, before its owner frees it. */
    int (*pool_export)(void *out, void *pool, int type, unsigned long long flags);
    int (*pool_export_pointer)(struct lend_cuda_ticket *out, uint64_t pointer);
    int (*pool_import)(void **out_pool, void *handle, int type, unsigned long long flags);
    int (*pool_import_pointer)(uint64_t *out, void *pool, struct lend_cuda_ticket *ticket);
    int (*pool_set_access)(void *pool, const struct lend_cuda_access *access, size_t count);
    int (*pool_destroy)(void *pool);
};

enum {
    LEND_CUDA_SUCCESS = 0,
    LEND_CUDA_ERROR_INVALID_VALUE = 1,
    LEND_CUDA_ERROR_OUT_OF_MEMORY = 2,
    LEND_CUDA_ERROR_NO_DEVICE = 100,
    LEND_CUDA_ERROR_INVALID_DEVICE = 101,
    LEND_CUDA_ERROR_INVALID_CONTEXT = 201,
    LEND_CUDA_ERROR_NOT_FOUND = 500,
    LEND_CUDA_ERROR_NOT_READY = 600,
    LEND_CUDA_ERROR_NOT_SUPPORTED = 801,
};

enum {
    LEND_CUDA_STREAM_NON_BLOCKING = 1,    /* it does not wait for the default stream */
    LEND_CUDA_EVENT_DISABLE_TIMING = 2,   /* it tells that something is over, not when */
    LEND_CUDA_HOST_PORTABLE = 1,          /* pinned for all contexts */
    LEND_CUDA_HANDLE_DMA_BUF = 1,         /* of memory_get_handle(): a descriptor (int) */
    LEND_CUDA_HANDLE_BY_PCIE = 1,         /* flag of it: mapped through PCIe, for a NIC behind it */
    LEND_CUDA_SOURCE_IN_STREAM_ORDER = 1, /* of a batch: a source is read when its turn has come */
    LEND_CUDA_IPC_PEER_ACCESS = 1,        /* of ipc_open(): from another GPU as well */
    LEND_CUDA_FLUSH_CURRENT_CONTEXT = 0,  /* target of flush_remote_writes(), */
    LEND_CUDA_FLUSH_TO_OWNER = 100,       /* and scope of it: what that context's GPU begins */
    LEND_CUDA_HANDLE_FD = 1,              /* of a chunk, or a pool: a descriptor, */
    LEND_CUDA_HANDLE_FABRIC = 8,          /* or 64 bytes that the GPUs of a fabric know */
    LEND_CUDA_CHUNK_PINNED = 1,           /* type of a chunk: it moves nowhere */
    LEND_CUDA_LOCATION_DEVICE = 1,
    LEND_CUDA_ACCESS_READ = 1,
    LEND_CUDA_ACCESS_READ_WRITE = 3,
};

/* CUdevice_attribute, those that we ask for. */
enum {
    LEND_CUDA_DEVICE_FLUSH_OPTIONS = 117,   /* bit 0: there is flush_remote_writes() */
    LEND_CUDA_DEVICE_WRITES_ORDERING = 118, /* the scope that needs no flush; 0: none */
    LEND_CUDA_DEVICE_HAS_CHUNKS = 102,      /* it can have memory of chunks, */
    LEND_CUDA_DEVICE_HAS_FD = 103,          /* exported as descriptors, */
    LEND_CUDA_DEVICE_RDMA_CHUNKS = 110,     /* for a NIC to reach, */
    LEND_CUDA_DEVICE_HAS_FABRIC = 128,      /* exported to other GPUs of its fabric */
    LEND_CUDA_DEVICE_HOST_NUMA_ID = 134,    /* the NUMA node next to it; -1: none is */
};

/* CUpointer_attribute, those that we ask for. */
enum {
    LEND_CUDA_POINTER_CONTEXT = 1,
    LEND_CUDA_POINTER_MEMORY_TYPE = 2,
    LEND_CUDA_POINTER_SYNC_MEMOPS = 6,
    LEND_CUDA_POINTER_BUFFER_ID = 7,
    LEND_CUDA_POINTER_IS_MANAGED = 8,
    LEND_CUDA_POINTER_DEVICE_ORDINAL = 9,
    LEND_CUDA_POINTER_IS_IPC_CAPABLE = 10, /* by ipc_get() */
    LEND_CUDA_POINTER_MAPPED = 13,
    LEND_CUDA_POINTER_HANDLE_TYPES = 14, /* that it can be exported as, a bit each */
    LEND_CUDA_POINTER_POOL = 17,         /* its pool; NULL: it is of none */
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

/* The driver, opened and initialised. LEND_E_UNSUPPORTED, LEND_E_DEVICE. */
enum lend_status lend_cuda_open(const struct lend_cuda_ops **out, struct lend_error *error);
/* A call of the driver returned that: LEND_E_DEVICE, with the name of the result. */
enum lend_status lend_cuda_fail(struct lend_error *error, const struct lend_cuda_ops *cuda,
                                int result, const char *what);

/* Memory of that device as a dma-buf: a new descriptor. Address and length are whole pages of the
 * host's; flags are 0 or LEND_CUDA_HANDLE_BY_PCIE. LEND_E_UNSUPPORTED: the driver has not the call.
 */
enum lend_status lend_cuda_export(uint64_t address, uint64_t bytes, int32_t ordinal, unsigned flags,
                                  int *out_fd, struct lend_error *error);
/* The allocation that the address lies in, from its base to its end. */
enum lend_status lend_cuda_allocation(uint64_t address, int32_t ordinal, uint64_t *out_base,
                                      uint64_t *out_end, struct lend_error *error);

/* The allocation that the address lies in; the context is current. */
enum lend_status lend_cuda_find_range(const struct lend_cuda_ops *cuda, uint64_t address,
                                      uint64_t *out_base, uint64_t *out_end,
                                      struct lend_error *error);

/* Ask the driver about a piece of device memory; returns its status, and fills error, buffer_id,
 * allocation and, if it is wanted, device. */
enum lend_status lend_cuda_verify(struct lend_verify *item);

#endif
