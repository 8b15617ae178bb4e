/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/message.h"

#include "base/crc32c.h"
#include "base/reader.h"
#include "base/writer.h"

#include <assert.h>
#include <string.h>

enum { MAGIC = 0x554c, VERSION = 1, ADDRESS_VERSION = 1 };

void lend_ucx_encode(const struct lend_ucx_message *message, uint8_t *out)
{
    struct lend_writer writer = lend_writer_init(out, LEND_UCX_HEADER_BYTES);

    lend_write_u16(&writer, MAGIC);
    lend_write_u8(&writer, VERSION);
    lend_write_u8(&writer, (uint8_t)message->kind);
    lend_write_u32(&writer, 0);
    lend_write_u64(&writer, message->channel);
    lend_write_u64(&writer, message->position);
    lend_write_u64(&writer, message->taken);
    lend_write_bytes(&writer, message->frame, sizeof message->frame);
    assert(writer.count == LEND_UCX_HEADER_BYTES);
}

bool lend_ucx_decode(const void *bytes, size_t count, struct lend_ucx_message *out)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    uint16_t magic = lend_read_u16(&reader);
    uint8_t version = lend_read_u8(&reader);
    uint8_t kind = lend_read_u8(&reader);
    uint32_t zero = lend_read_u32(&reader);

    out->kind = (enum lend_ucx_kind)kind;
    out->channel = lend_read_u64(&reader);
    out->position = lend_read_u64(&reader);
    out->taken = lend_read_u64(&reader);
    lend_read_bytes(&reader, out->frame, sizeof out->frame);
    return lend_reader_done(&reader) && magic == MAGIC && version == VERSION && zero == 0 &&
           kind >= LEND_UCX_OPEN && kind <= LEND_UCX_FRAMES;
}

void lend_ucx_encode_greeting(const struct lend_ucx_greeting *greeting, uint8_t *out)
{
    struct lend_writer writer = lend_writer_init(out, LEND_UCX_GREETING_BYTES);

    lend_write_u64(&writer, greeting->link);
    lend_write_u64(&writer, greeting->channel);
    lend_write_u64(&writer, greeting->window_bytes);
    assert(writer.count == LEND_UCX_GREETING_BYTES);
}

bool lend_ucx_decode_greeting(const void *bytes, size_t count, struct lend_ucx_greeting *out)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    out->link = lend_read_u64(&reader);
    out->channel = lend_read_u64(&reader);
    out->window_bytes = lend_read_u64(&reader);
    return !reader.bad && out->link != 0 && out->channel != 0;
}

size_t lend_ucx_encode_address(const struct lend_ucx_address *address, uint8_t *out)
{
    struct lend_writer writer = lend_writer_init(out, LEND_METADATA_ADDRESS_MAX);

    assert(address->count <= LEND_UCX_ADDRESS_MAX);
    lend_write_u8(&writer, ADDRESS_VERSION);
    lend_write_bytes(&writer, address->incarnation, sizeof address->incarnation);
    lend_write_u16(&writer, (uint16_t)address->count);
    lend_write_bytes(&writer, address->bytes, address->count);
    lend_write_u32(&writer, lend_crc32c(0, out, writer.count));
    assert(lend_writer_fits(&writer));
    return writer.count;
}

bool lend_ucx_decode_address(const uint8_t *bytes, size_t count, struct lend_ucx_address *out)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    uint8_t version = lend_read_u8(&reader);

    lend_read_bytes(&reader, out->incarnation, sizeof out->incarnation);
    out->count = lend_read_u16(&reader);
    out->bytes = lend_read_span(&reader, out->count);
    uint32_t crc = lend_read_u32(&reader);
    return lend_reader_done(&reader) && version == ADDRESS_VERSION && out->count > 0 &&
           out->count <= LEND_UCX_ADDRESS_MAX && crc == lend_crc32c(0, bytes, count - 4);
}
