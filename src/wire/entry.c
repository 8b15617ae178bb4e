/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/entry.h"

#include "base/error.h"
#include "wire/field.h"

static const struct lend_envelope envelope = {
    .what = "an entry of a directory",
    .magic = {'L', 'N', 'D', 'E'},
    .version = LEND_ENTRY_VERSION,
};

size_t lend_entry_encode(const struct lend_entry *entry, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_envelope_begin(&writer, &envelope);
    lend_write_bytes(&writer, entry->incarnation, sizeof entry->incarnation);
    lend_write_u32(&writer, entry->metadata_bytes);
    lend_write_u32(&writer, entry->attachment_bytes);
    lend_write_bytes(&writer, entry->bytes,
                     (size_t)entry->metadata_bytes + entry->attachment_bytes);
    lend_envelope_end(&writer);
    return writer.count;
}

enum lend_status lend_entry_decode(const void *bytes, size_t count, struct lend_entry *out,
                                   struct lend_error *error)
{
    struct lend_entry entry = {0};
    struct lend_reader reader;

    enum lend_status status = lend_envelope_open(&envelope, bytes, count, &reader, error);
    if (status != LEND_OK)
        return status;
    lend_read_bytes(&reader, entry.incarnation, sizeof entry.incarnation);
    entry.metadata_bytes = lend_read_u32(&reader);
    entry.attachment_bytes = lend_read_u32(&reader);
    if (entry.metadata_bytes == 0 || entry.metadata_bytes > LEND_METADATA_BYTES_MAX ||
        entry.attachment_bytes > LEND_ATTACHMENT_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "an entry of %u bytes of metadata and %u of attachment",
                         entry.metadata_bytes, entry.attachment_bytes);
    entry.bytes = lend_read_span(&reader, (size_t)entry.metadata_bytes + entry.attachment_bytes);
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT,
                         "an entry of %zu bytes is cut, or has too many: %u of metadata and %u of "
                         "attachment",
                         count, entry.metadata_bytes, entry.attachment_bytes);
    *out = entry;
    return LEND_OK;
}
