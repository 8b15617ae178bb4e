/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include "base/crc32c.h"
#include "base/error.h"
#include "base/reader.h"
#include "base/writer.h"

#include <assert.h>

enum {
    MAGIC = 0x464c, /* "LF" */
    CHECKED_BYTES = LEND_FRAME_HEADER_BYTES - 4,
};

static uint32_t payload_max(uint8_t type)
{
    return type == LEND_FRAME_DATA ? LEND_FRAME_DATA_MAX : LEND_FRAME_CONTROL_MAX;
}

void lend_frame_encode(const struct lend_frame *frame, const void *payload, uint8_t *out)
{
    assert(frame->payload_bytes <= payload_max(frame->type));
    assert(payload != NULL || frame->type == LEND_FRAME_DATA || frame->payload_bytes == 0);

    struct lend_writer writer = lend_writer_init(out, LEND_FRAME_HEADER_BYTES);
    bool is_checked = frame->type != LEND_FRAME_DATA;
    uint32_t payload_crc = is_checked ? lend_crc32c(0, payload, frame->payload_bytes) : 0;

    lend_write_u16(&writer, MAGIC);
    lend_write_u8(&writer, LEND_PROTOCOL_VERSION);
    lend_write_u8(&writer, frame->type);
    lend_write_u32(&writer, frame->payload_bytes);
    lend_write_u64(&writer, frame->sequence);
    lend_write_u64(&writer, frame->request);
    lend_write_u32(&writer, payload_crc);
    lend_write_u32(&writer, lend_crc32c(0, out, CHECKED_BYTES));
}

enum lend_status lend_frame_decode(const uint8_t *bytes, struct lend_frame *out,
                                   struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, LEND_FRAME_HEADER_BYTES);
    struct lend_frame frame;
    uint16_t magic = lend_read_u16(&reader);
    uint8_t version = lend_read_u8(&reader);

    frame.type = lend_read_u8(&reader);
    frame.payload_bytes = lend_read_u32(&reader);
    frame.sequence = lend_read_u64(&reader);
    frame.request = lend_read_u64(&reader);
    frame.payload_crc = lend_read_u32(&reader);
    uint32_t stated = lend_read_u32(&reader);
    uint32_t counted = lend_crc32c(0, bytes, CHECKED_BYTES);

    if (magic != MAGIC)
        return lend_fail(error, LEND_E_CORRUPT, "a frame begins with 0x%04x, not 0x%04x", magic,
                         MAGIC);
    if (stated != counted)
        return lend_fail(error, LEND_E_CORRUPT, "a frame's header has checksum %08x, it says %08x",
                         counted, stated);
    if (version != LEND_PROTOCOL_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "a frame of protocol version %u, and this library speaks version %d",
                         version, LEND_PROTOCOL_VERSION);
    if (frame.type < LEND_FRAME_HELLO || frame.type > LEND_FRAME_LAST)
        return lend_fail(error, LEND_E_CORRUPT, "a frame of unknown type %u", frame.type);
    if (frame.payload_bytes > payload_max(frame.type))
        return lend_fail(error, LEND_E_CORRUPT,
                         "a frame of type %u with %u bytes, over the limit of %u", frame.type,
                         frame.payload_bytes, payload_max(frame.type));
    if (frame.type == LEND_FRAME_DATA && (frame.payload_bytes == 0 || frame.payload_crc != 0))
        return lend_fail(error, LEND_E_CORRUPT, "a data frame of %u bytes with checksum %08x",
                         frame.payload_bytes, frame.payload_crc);

    *out = frame;
    return LEND_OK;
}

enum lend_status lend_frame_check(const struct lend_frame *frame, const void *payload,
                                  struct lend_error *error)
{
    if (frame->type == LEND_FRAME_DATA)
        return LEND_OK;

    uint32_t counted = lend_crc32c(0, payload, frame->payload_bytes);
    if (counted != frame->payload_crc)
        return lend_fail(error, LEND_E_CORRUPT,
                         "%u bytes of a frame of type %u have checksum %08x, its header says %08x",
                         frame->payload_bytes, frame->type, counted, frame->payload_crc);
    return LEND_OK;
}
