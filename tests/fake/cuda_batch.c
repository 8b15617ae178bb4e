/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

/* Of the fake CUDA driver: copies that are made many at once, or are of many, and those that are
 * waited for. */

/* As far as the allocation goes that the address lies in; of no allocation, for ever. */
static size_t length_there(uint64_t address)
{
    fake_cuda_lock();
    const struct fake_cuda_allocation *it = fake_cuda_find_locked(address);
    size_t length = it != NULL ? it->length_bytes - (address - it->base) : SIZE_MAX;
    fake_cuda_unlock();
    return length;
}

/* To a GPU, chunks that are mapped side by side are one piece of memory. */
int fake_cuda_put(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    int result = LEND_CUDA_SUCCESS;

    while (bytes > 0 && result == LEND_CUDA_SUCCESS) {
        size_t there = length_there(to), here = length_there(from);
        size_t piece = here < there ? here : there;

        piece = piece < bytes ? piece : bytes;
        result = fake_cuda_put_one(to, from, piece, stream);
        to += piece;
        from += piece;
        bytes -= piece;
    }
    return result;
}

int cuMemcpyBatchAsync(uint64_t *to, uint64_t *from, size_t *bytes, size_t count,
                       struct lend_cuda_batch *attributes, size_t *attribute_starts,
                       size_t attribute_count, size_t *failed_at, void *stream)
{
    int result = fake_cuda_enter("cuMemcpyBatchAsync");

    /* As the driver documents it: one attribute at least, the first for the first copy; an order
     * that is one; and no default stream. */
    if (result == 0 &&
        (count == 0 || attribute_count == 0 || attribute_count > count ||
         attribute_starts[0] != 0 || attributes[0].source_order < 1 ||
         attributes[0].source_order > 3 || attributes[0].flags != 0 || stream == NULL))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    *failed_at = SIZE_MAX;
    /* In no order that anybody may count on: the last comes first. */
    for (size_t i = count; i > 0 && result == 0; i--) {
        result = fake_cuda_put(to[i - 1], from[i - 1], bytes[i - 1], stream);
        if (result != 0)
            *failed_at = i - 1;
    }
    return result;
}

/* All that was put in before is done first, as by the legacy default stream. */
static int copy_now(const char *name, uint64_t to, uint64_t from, size_t bytes)
{
    int result = fake_cuda_enter(name);

    if (result == 0)
        result = fake_cuda_put(to, from, bytes, NULL);
    if (result == 0)
        fake_cuda_finish();
    return result;
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes)
{
    return copy_now("cuMemcpyDtoH", (uint64_t)(uintptr_t)to, from, bytes);
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes)
{
    return copy_now("cuMemcpyHtoD", to, (uint64_t)(uintptr_t)from, bytes);
}
