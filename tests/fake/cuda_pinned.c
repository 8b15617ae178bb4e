/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <stdlib.h>
#include <string.h>

/* Of the fake CUDA driver: pinned memory of the host, which its kernels reach, and no other. */

enum { PINNED_MAX = 256 };

static struct pinned {
    void *memory;
    size_t bytes;
} pinned[PINNED_MAX];

void fake_cuda_reset_pinned(void)
{
    memset(pinned, 0, sizeof pinned);
}

/* Know one in the place of another; NULL is none. False: that is not known, or there is no room. */
static bool swap(const void *before, void *after, size_t bytes)
{
    size_t i = 0;

    fake_cuda_lock();
    while (i < PINNED_MAX && pinned[i].memory != before)
        i++;
    if (i < PINNED_MAX)
        pinned[i] = (struct pinned){.memory = after, .bytes = bytes};
    fake_cuda_unlock();
    return i < PINNED_MAX;
}

int cuMemHostAlloc(void **out, size_t bytes, unsigned flags)
{
    int result = fake_cuda_enter("cuMemHostAlloc");

    if (result != 0)
        return result;
    void *memory = (flags & ~7u) == 0 ? aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095) : NULL;
    if (memory == NULL || !swap(NULL, memory, bytes)) {
        free(memory);
        return LEND_CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = memory;
    fake_cuda_keep(1);
    return LEND_CUDA_SUCCESS;
}

bool fake_cuda_is_pinned_locked(uint64_t address, size_t bytes)
{
    for (size_t i = 0; i < PINNED_MAX; i++) {
        uint64_t base = (uint64_t)(uintptr_t)pinned[i].memory;

        if (base != 0 && address >= base && address - base <= pinned[i].bytes &&
            bytes <= pinned[i].bytes - (address - base))
            return true;
    }
    return false;
}

int cuMemFreeHost(void *memory)
{
    int result = fake_cuda_enter("cuMemFreeHost");

    if (result != 0)
        return result;
    if (memory == NULL || !swap(memory, NULL, 0))
        return LEND_CUDA_ERROR_INVALID_VALUE;
    free(memory);
    fake_cuda_keep(-1);
    return LEND_CUDA_SUCCESS;
}
