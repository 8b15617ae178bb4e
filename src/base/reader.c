/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"

#include <string.h>

enum { VARINT_BYTES_MAX = 10 };

const uint8_t *lend_read_span(struct lend_reader *reader, size_t count)
{
    const uint8_t *span = reader->next;

    if (reader->bad || reader->left < count) {
        reader->bad = true;
        return NULL;
    }
    if (count > 0) {
        reader->next += count;
        reader->left -= count;
    }
    return span;
}

static uint64_t read_le(struct lend_reader *reader, unsigned bytes)
{
    const uint8_t *span = lend_read_span(reader, bytes);
    uint64_t value = 0;

    if (span == NULL)
        return 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)span[i] << (8 * i);
    return value;
}

uint8_t lend_read_u8(struct lend_reader *reader)
{
    return (uint8_t)read_le(reader, 1);
}

uint16_t lend_read_u16(struct lend_reader *reader)
{
    return (uint16_t)read_le(reader, 2);
}

uint32_t lend_read_u32(struct lend_reader *reader)
{
    return (uint32_t)read_le(reader, 4);
}

uint64_t lend_read_u64(struct lend_reader *reader)
{
    return read_le(reader, 8);
}

uint64_t lend_read_varint(struct lend_reader *reader)
{
    uint64_t value = 0;

    for (unsigned i = 0;; i++) {
        uint8_t byte = lend_read_u8(reader);

        /* The tenth byte holds the 64th bit and nothing else, so that it always is the last. */
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            reader->bad = true;
        if (reader->bad)
            return 0;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return value;
    }
}

void lend_read_bytes(struct lend_reader *reader, void *out, size_t count)
{
    const uint8_t *span = lend_read_span(reader, count);

    if (count == 0)
        return;
    if (span == NULL)
        memset(out, 0, count);
    else
        memcpy(out, span, count);
}
