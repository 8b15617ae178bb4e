/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_READER_H
#define LEND_BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads bytes that we do not trust. The first read past the end makes the reader bad for good, and
 * a bad reader yields zeros, so a parser reads every field and then asks once. All of the wire is
 * little-endian.
 */
struct lend_reader {
    const uint8_t *next;
    size_t left;
    bool bad;
};

static inline struct lend_reader lend_reader_init(const void *bytes, size_t count)
{
    return (struct lend_reader){.next = bytes, .left = count};
}

uint8_t lend_read_u8(struct lend_reader *reader);
uint16_t lend_read_u16(struct lend_reader *reader);
uint32_t lend_read_u32(struct lend_reader *reader);
uint64_t lend_read_u64(struct lend_reader *reader);
/* LEB128 of at most ten bytes. One that is cut, or over 64 bits, makes the reader bad. */
uint64_t lend_read_varint(struct lend_reader *reader);
/* count bytes copied to out; zeros if the reader is or becomes bad. */
void lend_read_bytes(struct lend_reader *reader, void *out, size_t count);
/* count bytes in place, or NULL if the reader is or becomes bad. */
const uint8_t *lend_read_span(struct lend_reader *reader, size_t count);

/* True if every read was in bounds and every byte was read. */
static inline bool lend_reader_done(const struct lend_reader *reader)
{
    return !reader->bad && reader->left == 0;
}

#endif
