/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/found.h"

#include "base/error.h"
#include "wire/field.h"

#include <lend/discovery.h>

size_t lend_fetch_encode(const struct lend_fetch_message *fetch, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u32(&writer, fetch->version_min);
    lend_write_u32(&writer, fetch->version_max);
    lend_name_encode(&writer, fetch->name, LEND_AGENT_NAME_BYTES_MAX);
    return writer.count;
}

enum lend_status lend_fetch_decode(const void *bytes, size_t count, struct lend_fetch_message *out,
                                   struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_fetch_message fetch = {0};

    fetch.version_min = lend_read_u32(&reader);
    fetch.version_max = lend_read_u32(&reader);
    enum lend_status status =
        lend_name_decode(&reader, "asker", fetch.name, LEND_AGENT_NAME_BYTES_MAX, error);
    if (status != LEND_OK)
        return status;
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a FETCH of %zu bytes has %zu too many", count,
                         reader.left);
    if (fetch.version_min == 0 || fetch.version_min > fetch.version_max)
        return lend_fail(error, LEND_E_CORRUPT, "a FETCH of protocol versions %u to %u",
                         fetch.version_min, fetch.version_max);
    *out = fetch;
    return LEND_OK;
}

size_t lend_found_encode(const struct lend_found_part *part, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u32(&writer, part->version);
    lend_write_u32(&writer, part->metadata_bytes);
    lend_write_u32(&writer, part->attachment_bytes);
    lend_write_u32(&writer, part->offset);
    lend_write_bytes(&writer, part->bytes, part->count);
    return writer.count;
}

enum lend_status lend_found_decode(const void *bytes, size_t count, struct lend_found_part *out,
                                   struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_found_part part = {0};

    part.version = lend_read_u32(&reader);
    part.metadata_bytes = lend_read_u32(&reader);
    part.attachment_bytes = lend_read_u32(&reader);
    part.offset = lend_read_u32(&reader);
    if (reader.bad || reader.left == 0 || reader.left > LEND_FOUND_PART_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a FOUND of %zu bytes", count);
    part.count = (uint32_t)reader.left;
    part.bytes = lend_read_span(&reader, part.count);

    if (part.version == 0 || part.metadata_bytes == 0 ||
        part.metadata_bytes > LEND_METADATA_BYTES_MAX ||
        part.attachment_bytes > LEND_ATTACHMENT_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "a FOUND of version %u, of %u bytes of metadata and %u of attachment",
                         part.version, part.metadata_bytes, part.attachment_bytes);
    uint32_t total = part.metadata_bytes + part.attachment_bytes;
    if (part.offset >= total || part.count > total - part.offset)
        return lend_fail(error, LEND_E_CORRUPT, "a FOUND of bytes %u + %u, of %u", part.offset,
                         part.count, total);
    *out = part;
    return LEND_OK;
}
