/* SPDX-License-Identifier: Apache-2.0 */
#include "base/writer.h"

#include <string.h>

void lend_write_bytes(struct lend_writer *writer, const void *bytes, size_t count)
{
    /* What once did not fit leaves count over capacity: what is stored is a prefix of the whole. */
    if (count > 0 && writer->count <= writer->capacity && count <= writer->capacity - writer->count)
        memcpy(writer->start + writer->count, bytes, count);
    writer->count += count;
}

static void write_le(struct lend_writer *writer, uint64_t value, unsigned count)
{
    uint8_t bytes[sizeof value];

    for (unsigned i = 0; i < count; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    lend_write_bytes(writer, bytes, count);
}

void lend_write_u8(struct lend_writer *writer, uint8_t value)
{
    write_le(writer, value, 1);
}

void lend_write_u16(struct lend_writer *writer, uint16_t value)
{
    write_le(writer, value, 2);
}

void lend_write_u32(struct lend_writer *writer, uint32_t value)
{
    write_le(writer, value, 4);
}

void lend_write_u64(struct lend_writer *writer, uint64_t value)
{
    write_le(writer, value, 8);
}

void lend_write_varint(struct lend_writer *writer, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        lend_write_u8(writer, (uint8_t)(value | 0x80));
    lend_write_u8(writer, (uint8_t)value);
}
