/* SPDX-License-Identifier: Apache-2.0 */
#include "blob.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t magic[8] = "LNDNIXL\1";

enum { ROW_BYTES = 16, SPACE_BYTES = 20, CRC_BYTES = 4 };

/* --- writing: into room that was counted before --- */

static uint8_t *put(uint8_t *to, const void *bytes, size_t count)
{
    if (count > 0)
        memcpy(to, bytes, count);
    return to + count;
}

static uint8_t *put_u32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    return put(to, &value, sizeof value);
}

static uint8_t *put_u64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    return put(to, &value, sizeof value);
}

static uint8_t *put_bytes(uint8_t *to, const void *bytes, size_t count)
{
    return put(put_u32(to, (uint32_t)count), bytes, count);
}

static uint8_t *put_space(uint8_t *to, const struct compat_space *space)
{
    to = put_u32(to, (uint32_t)space->type);
    to = put_u64(to, space->device);
    to = put_u64(to, space->count);
    for (size_t i = 0; i < space->chunk_count; i++)
        for (uint32_t j = 0; j < space->chunks[i].count; j++) {
            to = put_u64(to, space->chunks[i].at[j].address);
            to = put_u64(to, space->chunks[i].at[j].length_bytes);
        }
    return to;
}

uint8_t *compat_blob_encode(const struct compat_blob *blob, const struct compat_index *index,
                            size_t *out_count)
{
    size_t name_bytes = strlen(blob->name);
    size_t total = sizeof magic + 8 + 4 + 8 + 4 * 4 + name_bytes + blob->key.count +
                   blob->ticket.count + blob->metadata.count + 4 +
                   index->space_count * SPACE_BYTES + index->count * ROW_BYTES + CRC_BYTES;
    uint8_t *bytes = malloc(total);

    if (bytes == NULL)
        return NULL;
    uint8_t *to = put(bytes, magic, sizeof magic);
    to = put_u64(to, total);
    to = put_u32(to, blob->flags);
    to = put_u64(to, blob->serial);
    to = put_bytes(to, blob->name, name_bytes);
    to = put_bytes(to, blob->key.bytes, blob->key.count);
    to = put_bytes(to, blob->ticket.bytes, blob->ticket.count);
    to = put_bytes(to, blob->metadata.bytes, blob->metadata.count);
    to = put_u32(to, (uint32_t)index->space_count);
    for (size_t i = 0; i < index->space_count; i++)
        to = put_space(to, &index->spaces[i]);
    (void)put_u32(to, compat_crc32c(bytes, total - CRC_BYTES));
    *out_count = total;
    return bytes;
}

/* --- reading: what is not there makes it bad, and reads as 0 --- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool is_bad;
};

static const uint8_t *take(struct reader *reader, size_t count)
{
    const uint8_t *bytes = reader->at;

    if (reader->is_bad || count > reader->left) {
        reader->is_bad = true;
        return NULL;
    }
    reader->at += count;
    reader->left -= count;
    return bytes;
}

static uint32_t take_u32(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 4);
    uint32_t value = 0;

    if (bytes != NULL)
        memcpy(&value, bytes, sizeof value);
    return le32toh(value);
}

static uint64_t take_u64(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 8);
    uint64_t value = 0;

    if (bytes != NULL)
        memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

static struct compat_blob_bytes take_bytes(struct reader *reader)
{
    size_t count = take_u32(reader);
    const uint8_t *bytes = take(reader, count);

    return (struct compat_blob_bytes){.bytes = bytes, .count = bytes != NULL ? count : 0};
}

static const char *check_space(struct reader *reader)
{
    uint32_t type = take_u32(reader);
    (void)take_u64(reader); /* any device */
    uint64_t count = take_u64(reader);

    if (reader->is_bad || count > reader->left / ROW_BYTES)
        return "its descriptors are cut";
    if (type >= NIXL_CAPI_MEM_UNKNOWN)
        return "descriptors of an unknown type of memory";
    for (uint64_t i = 0; i < count; i++) {
        uint64_t address = take_u64(reader);

        if (take_u64(reader) > UINTPTR_MAX - address)
            return "a descriptor wraps around";
    }
    return NULL;
}

static const char *check_name(const struct compat_blob_bytes *name, char *out)
{
    if (name->count == 0 || name->count > LEND_AGENT_NAME_BYTES_MAX)
        return "its name is empty or too long";
    if (memchr(name->bytes, 0, name->count) != NULL)
        return "its name has a zero in it";
    memcpy(out, name->bytes, name->count);
    out[name->count] = '\0';
    return NULL;
}

static const char *check_head(struct reader *reader, size_t count, const void *bytes)
{
    const uint8_t *start = take(reader, sizeof magic);
    uint32_t crc;

    if (start == NULL || memcmp(start, magic, sizeof magic) != 0)
        return "not metadata of this library";
    if (take_u64(reader) != count)
        return "cut, or with bytes too many";
    if (reader->left < CRC_BYTES)
        return "cut";
    memcpy(&crc, (const uint8_t *)bytes + count - CRC_BYTES, sizeof crc);
    if (le32toh(crc) != compat_crc32c(bytes, count - CRC_BYTES))
        return "its checksum is wrong";
    reader->left -= CRC_BYTES;
    return NULL;
}

const char *compat_blob_decode(const void *bytes, size_t count, struct compat_blob *out)
{
    struct reader reader = {.at = bytes, .left = count};
    const char *why = check_head(&reader, count, bytes);

    if (why != NULL)
        return why;
    out->flags = take_u32(&reader);
    out->serial = take_u64(&reader);
    const struct compat_blob_bytes name = take_bytes(&reader);
    out->key = take_bytes(&reader);
    out->ticket = take_bytes(&reader);
    out->metadata = take_bytes(&reader);
    out->space_count = take_u32(&reader);
    if (reader.is_bad)
        return "cut";
    if ((out->flags & ~(uint32_t)COMPAT_BLOB_WHOLE) != 0)
        return "flags of a later version";
    if (out->key.count != 0 && out->key.count != COMPAT_KEY_BYTES)
        return "a key of another length";
    why = check_name(&name, out->name);
    out->spaces = (struct compat_blob_bytes){.bytes = reader.at, .count = reader.left};
    for (uint32_t i = 0; why == NULL && i < out->space_count; i++)
        why = check_space(&reader);
    if (why == NULL && reader.left > 0)
        why = "bytes behind its descriptors";
    return why;
}

static bool is_known(const struct compat_index *index, nixl_capi_mem_type_t type,
                     const struct compat_desc *desc)
{
    struct compat_place place;

    return compat_index_find(index, type, desc, NULL, &place);
}

bool compat_blob_index(const struct compat_blob *blob, bool skips_known, struct compat_index *out)
{
    struct reader reader = {.at = blob->spaces.bytes, .left = blob->spaces.count};

    for (uint32_t i = 0; i < blob->space_count; i++) {
        nixl_capi_mem_type_t type = (nixl_capi_mem_type_t)take_u32(&reader);
        uint64_t device = take_u64(&reader);
        uint64_t count = take_u64(&reader);

        for (uint64_t j = 0; j < count; j++) {
            struct compat_desc desc = {.device = device};

            desc.address = take_u64(&reader);
            desc.length_bytes = take_u64(&reader);
            if (skips_known && is_known(out, type, &desc))
                continue;
            if (!compat_index_add(out, type, &desc, NULL))
                return false;
        }
    }
    return true;
}
