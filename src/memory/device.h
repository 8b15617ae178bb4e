/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_DEVICE_H
#define LEND_MEMORY_DEVICE_H

#include <lend/memory.h>

#include <stdbool.h>

struct lend_lane;

/* One allocation of the driver's, as far as registered memory lies in it. */
struct lend_device_buffer {
    uint64_t end; /* one past its last byte */
    uint64_t id;  /* never given to another allocation of the process */
};

/* What the driver said of device memory when it was registered. */
struct lend_device_memory {
    uint64_t start;
    void *context; /* NULL: of none, and the primary one of its device serves */
    int32_t ordinal;
    uint32_t buffer_count;
    struct lend_lane *lane; /* that its copies go by; see memory/lane.h */
    struct lend_device_buffer buffers[];
};

/* Add the next allocation, that goes on up to end. *memory may be NULL, and may move.
 * LEND_E_NO_MEMORY: it stays as it was. */
enum lend_status lend_device_note(struct lend_device_memory **memory, uint64_t end, uint64_t id,
                                  struct lend_error *error);
void lend_device_release(struct lend_device_memory *memory);
/* Another of the same; NULL: no memory. */
struct lend_device_memory *lend_device_copy(const struct lend_device_memory *memory);

/* The allocation that the address lies in, which the memory has. */
const struct lend_device_buffer *lend_device_buffer_at(const struct lend_device_memory *memory,
                                                       uint64_t address);

/* How many bytes lie in allocations that both know, where both have them. */
uint64_t lend_device_common(const struct lend_device_memory *a, const struct lend_device_memory *b);
/* One past its last allocation's last byte. */
static inline uint64_t lend_device_end(const struct lend_device_memory *memory)
{
    return memory->buffers[memory->buffer_count - 1].end;
}

/* Is what lies at the address still the allocation of that id? LEND_E_STALE: it was freed, or
 * freed and allocated anew. */
enum lend_status lend_device_check(uint64_t address, uint64_t id, struct lend_error *error);
/* The same for all of the memory. */
enum lend_status lend_device_check_all(const struct lend_device_memory *memory,
                                       struct lend_error *error);

#endif
