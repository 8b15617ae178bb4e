/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_ENTRY_H
#define LEND_WIRE_ENTRY_H

#include <lend/discovery.h>

/*
 * What an agent publishes of itself in a directory, in an envelope ("LNDE"):
 *
 *     incarnation | u32 bytes of metadata | u32 of attachment | both
 *
 * The first LEND_ENTRY_OWNER_BYTES of it are the same in all entries of one incarnation, and in no
 * others.
 */

enum {
    LEND_ENTRY_VERSION = 1,
    LEND_ENTRY_OWNER_BYTES = 6 + LEND_INCARNATION_BYTES,
    LEND_ENTRY_OVERHEAD_BYTES = LEND_ENTRY_OWNER_BYTES + 8 + 4,
};

#define LEND_ENTRY_BYTES_MAX                                                                       \
    (LEND_ENTRY_OVERHEAD_BYTES + LEND_METADATA_BYTES_MAX + LEND_ATTACHMENT_BYTES_MAX)

struct lend_entry {
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint32_t metadata_bytes;   /* 1 .. LEND_METADATA_BYTES_MAX */
    uint32_t attachment_bytes; /* 0 .. LEND_ATTACHMENT_BYTES_MAX */
    const uint8_t *bytes;      /* of both */
};

/* How many bytes it takes; written if that is at most capacity. */
size_t lend_entry_encode(const struct lend_entry *entry, void *bytes, size_t capacity);

/* Decode untrusted bytes; out->bytes lie in them. LEND_E_CORRUPT, LEND_E_VERSION: out is untouched.
 */
enum lend_status lend_entry_decode(const void *bytes, size_t count, struct lend_entry *out,
                                   struct lend_error *error);

#endif
