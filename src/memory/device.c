/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/device.h"

#include "base/error.h"
#include "base/sys.h"
#include "memory/cuda.h"

#include <assert.h>
#include <string.h>

/* As many as are there the next time that room is made: 1, 2, 4, ... */
static bool is_full(uint32_t count)
{
    return (count & (count - 1)) == 0;
}

enum lend_status lend_device_note(struct lend_device_memory **memory, uint64_t end, uint64_t id,
                                  struct lend_error *error)
{
    struct lend_device_memory *known = *memory;
    uint32_t count = known != NULL ? known->buffer_count : 0;

    if (is_full(count)) {
        size_t capacity = count > 0 ? 2 * (size_t)count : 1;
        struct lend_device_memory *grown =
            lend_sys->allocate(sizeof *grown + capacity * sizeof grown->buffers[0]);

        if (grown == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %zu allocations of a GPU",
                             capacity);
        if (known != NULL)
            memcpy(grown, known, sizeof *known + count * sizeof known->buffers[0]);
        lend_sys->release(known);
        *memory = known = grown;
    }
    known->buffers[count] = (struct lend_device_buffer){.end = end, .id = id};
    known->buffer_count = count + 1;
    return LEND_OK;
}

void lend_device_release(struct lend_device_memory *memory)
{
    lend_sys->release(memory);
}

struct lend_device_memory *lend_device_copy(const struct lend_device_memory *memory)
{
    size_t bytes = sizeof *memory + memory->buffer_count * sizeof memory->buffers[0];
    struct lend_device_memory *copy = lend_sys->allocate(bytes);

    if (copy != NULL)
        memcpy(copy, memory, bytes);
    return copy;
}

const struct lend_device_buffer *lend_device_buffer_at(const struct lend_device_memory *memory,
                                                       uint64_t address)
{
    uint32_t first = 0, count = memory->buffer_count;

    assert(address >= memory->start && count > 0);
    while (count > 1) {
        uint32_t half = count / 2;

        if (address >= memory->buffers[first + half - 1].end) {
            first += half;
            count -= half;
        } else {
            count = half;
        }
    }
    return &memory->buffers[first];
}

uint64_t lend_device_common(const struct lend_device_memory *a, const struct lend_device_memory *b)
{
    uint64_t at = a->start > b->start ? a->start : b->start;
    uint64_t end =
        lend_device_end(a) < lend_device_end(b) ? lend_device_end(a) : lend_device_end(b);
    uint64_t common = 0;

    while (at < end) {
        const struct lend_device_buffer *one = lend_device_buffer_at(a, at);
        const struct lend_device_buffer *other = lend_device_buffer_at(b, at);
        uint64_t next = one->end < other->end ? one->end : other->end;

        if (one->id == other->id)
            common += next - at;
        at = next;
    }
    return common;
}

enum lend_status lend_device_check(uint64_t address, uint64_t id, struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = NULL;
    unsigned long long now = 0;
    unsigned type = LEND_CUDA_MEMORY_UNREGISTERED;
    int attributes[] = {LEND_CUDA_POINTER_MEMORY_TYPE, LEND_CUDA_POINTER_BUFFER_ID};
    void *values[] = {&type, &now};
    enum lend_status status = lend_cuda_open(&cuda, error);

    if (status != LEND_OK)
        return status;
    int result = cuda->pointer_get_attributes(2, attributes, values, address);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, cuda, result, "cuPointerGetAttributes");
    if (type == LEND_CUDA_MEMORY_DEVICE && now == id)
        return LEND_OK;
    return lend_fail(error, LEND_E_STALE,
                     "the GPU memory at 0x%llx was freed%s since it was registered: withdraw it "
                     "before it is freed, and register it anew",
                     (unsigned long long)address,
                     type == LEND_CUDA_MEMORY_DEVICE ? ", and allocated anew," : "");
}

enum lend_status lend_device_check_all(const struct lend_device_memory *memory,
                                       struct lend_error *error)
{
    uint64_t address = memory->start;
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < memory->buffer_count; i++) {
        status = lend_device_check(address, memory->buffers[i].id, error);
        address = memory->buffers[i].end;
    }
    return status;
}
