/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_BLOB_H
#define COMPAT_NIXL_BLOB_H

#include "agent.h"

/*
 * The bytes of metadata:
 *
 *     "LNDNIXL\1" | u64 bytes in all | u32 flags | u64 serial | name | key | ticket | metadata of
 * lend | u32 count of spaces | spaces | CRC-32C of all before
 *
 * A space is {u32 type | u64 device | u64 count | that many of {u64 address | u64 length}}; names
 * and the other strings of bytes are {u32 length | bytes}. All numbers are little-endian.
 */
enum { COMPAT_BLOB_WHOLE = 1 }; /* all that is registered, and not some of it */

struct compat_blob_bytes {
    const uint8_t *bytes;
    size_t count;
};

struct compat_blob {
    uint32_t flags;
    uint64_t serial;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    struct compat_blob_bytes key; /* none, or COMPAT_KEY_BYTES */
    struct compat_blob_bytes ticket;
    struct compat_blob_bytes metadata;
    struct compat_blob_bytes spaces; /* behind their count; checked */
    uint32_t space_count;
};

/* The bytes, for free(); of what is in the index, not of blob->spaces. NULL: out of memory. */
uint8_t *compat_blob_encode(const struct compat_blob *blob, const struct compat_index *index,
                            size_t *out_count);

/* Untrusted bytes, looked at and not copied. NULL if they are well-formed, else what is wrong. */
const char *compat_blob_decode(const void *bytes, size_t count, struct compat_blob *out);

/* Enter all descriptors into an index. False: out of memory. */
bool compat_blob_index(const struct compat_blob *blob, bool skips_known, struct compat_index *out);

uint32_t compat_crc32c(const void *bytes, size_t count);
/* The same without the processor's help. */
uint32_t compat_crc32c_portable(const void *bytes, size_t count);

#endif
