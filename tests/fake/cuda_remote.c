/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * What NICs do with memory of the fake GPUs. A PCIe write has no answer: that a NIC has written,
 * and even said so, is not that the bytes are there. So here they wait, each of them, for what
 * makes them arrive by the rules of PCIe or the driver's word.
 */

enum { HELD_MAX = 65536 };

struct held {
    uint64_t to;
    uint64_t id; /* of the allocation */
    size_t bytes;
    uint8_t *copy;
};

static struct held held[HELD_MAX];
static int held_count;
static int writes_ordering, flush_options = 1;
static unsigned refused_exports; /* bit n: those with flags n */

void fake_cuda_reset_remote(void)
{
    while (held_count > 0)
        free(held[--held_count].copy);
    writes_ordering = 0;
    refused_exports = 0;
    flush_options = 1;
}

void fake_cuda_order_writes(int ordering, int options)
{
    writes_ordering = ordering;
    flush_options = options;
}

/* Else it can do nothing that one may ask of a GPU, and lies in no slot. */
int cuDeviceGetAttribute(int *out, int attribute, int device)
{
    int result = fake_cuda_enter_anywhere("cuDeviceGetAttribute");

    if (result != 0)
        return result;
    if (device < 0 || device > 1)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    *out = attribute == LEND_CUDA_DEVICE_FLUSH_OPTIONS     ? flush_options
           : attribute == LEND_CUDA_DEVICE_WRITES_ORDERING ? writes_ordering
                                                           : fake_cuda_chunk_attribute(attribute);
    return LEND_CUDA_SUCCESS;
}

int cuDeviceGetPCIBusId(char *out, int capacity, int device)
{
    int result = fake_cuda_enter_anywhere("cuDeviceGetPCIBusId");

    if (result != 0)
        return result;
    if (device < 0 || device > 1 || capacity < 13)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    (void)snprintf(out, (size_t)capacity, "0000:%s:00.0", device == 0 ? "6A" : "6B");
    return LEND_CUDA_SUCCESS;
}

static void arrive(struct held *it)
{
    const struct fake_cuda_allocation *there = fake_cuda_find_locked(it->to);

    if (there != NULL && there->buffer_id == it->id && there->bytes != NULL)
        memcpy(there->bytes + (it->to - there->base), it->copy, it->bytes);
    free(it->copy);
}

void fake_cuda_arrive_locked(int ordinal)
{
    int kept = 0;

    for (int i = 0; i < held_count; i++) {
        const struct fake_cuda_allocation *there = fake_cuda_find_locked(held[i].to);

        if (ordinal >= 0 && there != NULL && there->ordinal != ordinal)
            held[kept++] = held[i];
        else
            arrive(&held[i]);
    }
    held_count = kept;
}

int cuFlushGPUDirectRDMAWrites(int target, int scope)
{
    int result = fake_cuda_enter("cuFlushGPUDirectRDMAWrites");

    if (result != 0)
        return result;
    if ((flush_options & 1) == 0)
        return LEND_CUDA_ERROR_NOT_SUPPORTED;
    if (target != LEND_CUDA_FLUSH_CURRENT_CONTEXT || scope != LEND_CUDA_FLUSH_TO_OWNER)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    fake_cuda_lock();
    fake_cuda_arrive_locked(fake_cuda_ordinal());
    fake_cuda_unlock();
    return LEND_CUDA_SUCCESS;
}

void fake_cuda_remote_write(uint64_t to, const void *from, size_t bytes)
{
    struct held it = {.to = to, .bytes = bytes, .copy = malloc(bytes)};

    memcpy(it.copy, from, bytes);
    it.id = fake_cuda_id(to, &(uint64_t){0});
    fake_cuda_lock();
    if (writes_ordering >= LEND_CUDA_FLUSH_TO_OWNER || held_count == HELD_MAX)
        arrive(&it);
    else
        held[held_count++] = it;
    fake_cuda_unlock();
}

const uint8_t *fake_cuda_remote_read(uint64_t from)
{
    fake_cuda_lock();
    const struct fake_cuda_allocation *there = fake_cuda_find_locked(from);
    const uint8_t *bytes =
        there != NULL && there->bytes != NULL ? there->bytes + (from - there->base) : NULL;
    if (there != NULL)
        fake_cuda_arrive_locked(there->ordinal);
    fake_cuda_unlock();
    return bytes;
}

void fake_cuda_refuse_exports(unsigned mask)
{
    refused_exports = mask;
}

/* Is all of it there, but for what is missing to the last page? */
static bool has_pages_locked(uint64_t pointer, size_t bytes)
{
    const struct fake_cuda_allocation *allocation;

    for (uint64_t at = pointer; at < pointer + bytes;) {
        allocation = fake_cuda_find_locked(at);
        if (allocation == NULL)
            return false;
        at = (allocation->base + allocation->length_bytes + 4095) & ~UINT64_C(4095);
    }
    return true;
}

/* A descriptor of whole pages of the host's, which says in a file of which, and how. */
int cuMemGetHandleForAddressRange(void *out_handle, uint64_t pointer, size_t bytes, int type,
                                  unsigned long long flags)
{
    int result = fake_cuda_enter("cuMemGetHandleForAddressRange");

    if (result != 0)
        return result;
    if (type != LEND_CUDA_HANDLE_DMA_BUF || pointer % 4096 != 0 || bytes % 4096 != 0 || flags > 1 ||
        (refused_exports >> flags & 1) != 0)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    fake_cuda_lock();
    bool is_there = has_pages_locked(pointer, bytes);
    fake_cuda_unlock();
    if (!is_there)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    const uint64_t range[] = {pointer, bytes, flags};
    int fd = memfd_create("fake-dma-buf", MFD_CLOEXEC);
    if (fd < 0 || write(fd, range, sizeof range) != (ssize_t)sizeof range)
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(out_handle, &fd, sizeof fd);
    return 0;
}

bool fake_cuda_exported(int fd, uint64_t *out_base, uint64_t *out_bytes, unsigned *out_flags)
{
    uint64_t range[3];

    if (pread(fd, range, sizeof range, 0) != (ssize_t)sizeof range)
        return false;
    *out_base = range[0];
    *out_bytes = range[1];
    *out_flags = (unsigned)range[2];
    return true;
}

uint64_t fake_cuda_id(uint64_t pointer, uint64_t *out_end)
{
    fake_cuda_lock();
    const struct fake_cuda_allocation *there = fake_cuda_find_locked(pointer);
    uint64_t id = there != NULL ? there->buffer_id : 0;
    *out_end = there != NULL ? there->base + there->length_bytes : 0;
    fake_cuda_unlock();
    return id;
}

int fake_cuda_remote_held(void)
{
    return held_count;
}

void fake_cuda_remote_arrive(void)
{
    fake_cuda_lock();
    fake_cuda_arrive_locked(-1);
    fake_cuda_unlock();
}
