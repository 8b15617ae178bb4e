/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/field.h"

#include "base/crc32c.h"
#include "base/error.h"

#include <assert.h>
#include <string.h>

bool lend_text_is_printable(const void *bytes, size_t count)
{
    const uint8_t *text = bytes;

    for (size_t i = 0; i < count; i++) {
        if (text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return true;
}

void lend_name_encode(struct lend_writer *writer, const char *name, size_t max)
{
    assert(max <= UINT8_MAX);

    size_t count = strnlen(name, max);

    lend_write_u8(writer, (uint8_t)count);
    lend_write_bytes(writer, name, count);
}

enum lend_status lend_name_decode(struct lend_reader *reader, const char *what, char *out,
                                  size_t max, struct lend_error *error)
{
    uint8_t count = lend_read_u8(reader);
    const uint8_t *bytes = lend_read_span(reader, count);

    if (bytes == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "the %s's name is cut", what);
    if (count == 0)
        return lend_fail(error, LEND_E_CORRUPT, "the %s's name is empty", what);
    if (count > max)
        return lend_fail(error, LEND_E_CORRUPT, "the %s's name has %u bytes, over the limit of %zu",
                         what, count, max);
    if (!lend_text_is_printable(bytes, count))
        return lend_fail(error, LEND_E_CORRUPT, "the %s's name has a control character", what);

    memcpy(out, bytes, count);
    out[count] = '\0';
    return LEND_OK;
}

void lend_lease_name_write(struct lend_writer *writer, const struct lend_lease_name *name)
{
    lend_write_u32(writer, name->slot);
    lend_write_u64(writer, name->generation);
    lend_write_bytes(writer, name->key, sizeof name->key);
}

void lend_lease_name_read(struct lend_reader *reader, struct lend_lease_name *out)
{
    out->slot = lend_read_u32(reader);
    out->generation = lend_read_u64(reader);
    lend_read_bytes(reader, out->key, sizeof out->key);
}

enum {
    MAGIC_BYTES = sizeof(((struct lend_envelope *)NULL)->magic),
    CRC_BYTES = 4,
    ENVELOPE_BYTES = MAGIC_BYTES + 2 + CRC_BYTES,
};

void lend_envelope_begin(struct lend_writer *writer, const struct lend_envelope *envelope)
{
    lend_write_bytes(writer, envelope->magic, MAGIC_BYTES);
    lend_write_u16(writer, envelope->version);
}

void lend_envelope_end(struct lend_writer *writer)
{
    bool fits = lend_writer_fits(writer);

    lend_write_u32(writer, fits ? lend_crc32c(0, writer->start, writer->count) : 0);
}

enum lend_status lend_envelope_open(const struct lend_envelope *envelope, const void *bytes,
                                    size_t count, struct lend_reader *body,
                                    struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    const uint8_t *start = bytes;

    if (count < ENVELOPE_BYTES || memcmp(start, envelope->magic, MAGIC_BYTES) != 0)
        return lend_fail(error, LEND_E_CORRUPT, "%zu bytes are not %s", count, envelope->what);

    struct lend_reader end = lend_reader_init(start + count - CRC_BYTES, CRC_BYTES);
    uint32_t stated = lend_read_u32(&end);
    uint32_t counted = lend_crc32c(0, start, count - CRC_BYTES);
    if (stated != counted)
        return lend_fail(error, LEND_E_CORRUPT,
                         "%s of %zu bytes has checksum %08x, and says %08x: it is cut or damaged",
                         envelope->what, count, counted, stated);

    (void)lend_read_span(&reader, MAGIC_BYTES);
    uint16_t version = lend_read_u16(&reader);
    if (version != envelope->version)
        return lend_fail(error, LEND_E_VERSION,
                         "%s of version %u, and this library reads version %u", envelope->what,
                         version, envelope->version);

    reader.left -= CRC_BYTES;
    *body = reader;
    return LEND_OK;
}
