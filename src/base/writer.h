/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_WRITER_H
#define LEND_BASE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Writes little-endian bytes into the caller's storage. It counts on past the end without storing,
 * so that `count` says what the whole would have taken; `lend_writer_fits()` says whether it is all
 * there.
 */
struct lend_writer {
    uint8_t *start; /* may be NULL if capacity is 0: to measure */
    size_t capacity;
    size_t count;
};

static inline struct lend_writer lend_writer_init(void *bytes, size_t capacity)
{
    return (struct lend_writer){.start = bytes, .capacity = capacity};
}

void lend_write_u8(struct lend_writer *writer, uint8_t value);
void lend_write_u16(struct lend_writer *writer, uint16_t value);
void lend_write_u32(struct lend_writer *writer, uint32_t value);
void lend_write_u64(struct lend_writer *writer, uint64_t value);
void lend_write_varint(struct lend_writer *writer, uint64_t value);
void lend_write_bytes(struct lend_writer *writer, const void *bytes, size_t count);

static inline bool lend_writer_fits(const struct lend_writer *writer)
{
    return writer->count <= writer->capacity;
}

#endif
