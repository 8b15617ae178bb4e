/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of the fake CUDA driver: memory of its GPUs, each a file, at addresses that no processor
 * reads. */

enum { GUARD_BYTES = 4096 };

static uint64_t buffer_id_last;
static void *freed_last; /* addresses that nobody has; under the driver's lock */
static size_t freed_last_bytes;

uint64_t fake_cuda_next_id(void)
{
    return ((uint64_t)getpid() << 32) + __atomic_add_fetch(&buffer_id_last, 1, __ATOMIC_SEQ_CST);
}

/* Where the last was freed, if it was as long: as a driver's allocator does. */
static void *take_place(size_t bytes)
{
    void *place = NULL;

    fake_cuda_lock();
    if (freed_last != NULL && freed_last_bytes == bytes) {
        place = freed_last;
        freed_last = NULL;
    }
    fake_cuda_unlock();
    if (place == NULL)
        place = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return place;
}

/* Its addresses are kept from everybody else until another is freed. */
static void give_place_locked(void *place, size_t bytes)
{
    if (freed_last != NULL)
        (void)munmap(freed_last, freed_last_bytes);
    freed_last = place;
    freed_last_bytes = bytes;
}

/* No two are side by side, which would make one range of them: a guard lies behind each. */
int cuMemAlloc_v2(uint64_t *out_pointer, size_t bytes)
{
    size_t pages = (bytes + 4095) & ~(size_t)4095;
    int result = fake_cuda_enter("cuMemAlloc");
    void *place, *inside;

    if (result != 0)
        return result;
    if (bytes == 0)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    place = take_place(pages + GUARD_BYTES);
    int fd = memfd_create("fake-gpu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)pages) != 0)
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;
    inside = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (place == MAP_FAILED || inside == MAP_FAILED)
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;

    struct fake_cuda_allocation allocation = {
        .base = (uint64_t)(uintptr_t)place,
        .length_bytes = bytes,
        .buffer_id = fake_cuda_next_id(),
        .type = LEND_CUDA_MEMORY_DEVICE,
        .ordinal = fake_cuda_ordinal(),
        .bytes = inside,
        .fd = fd,
    };
    fake_cuda_add(&allocation);
    *out_pointer = allocation.base;
    return LEND_CUDA_SUCCESS;
}

int cuMemFree_v2(uint64_t pointer)
{
    int result = fake_cuda_enter("cuMemFree");

    if (result != 0)
        return result;
    fake_cuda_lock();
    struct fake_cuda_allocation *allocation = fake_cuda_find_locked(pointer);
    if (allocation == NULL || allocation->base != pointer || allocation->chunk != 0) {
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    } else if (!fake_cuda_close_imported_locked(pointer)) {
        size_t pages = ((size_t)allocation->length_bytes + 4095) & ~(size_t)4095;

        give_place_locked((void *)(uintptr_t)allocation->base, pages + GUARD_BYTES);
        (void)munmap(allocation->bytes, pages);
        (void)close(allocation->fd);
        fake_cuda_remove_locked(allocation);
    }
    fake_cuda_unlock();
    return result;
}
