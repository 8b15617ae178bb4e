/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_FOUND_H
#define LEND_WIRE_FOUND_H

#include "wire/message.h"

/*
 * FETCH: a client that knows an address, and not yet who is there, asks for metadata instead of
 * saying HELLO. FOUND: a part of the answer, which is the metadata and, behind it, the attachment:
 *
 *     FETCH    u32 version min, max | name
 *     FOUND    u32 version | u32 bytes of metadata | u32 of attachment | u32 offset | bytes
 *
 * The parts come in order, and with the last of them all has been said: the client hangs up.
 */

enum {
    LEND_FOUND_HEADER_BYTES = 16,
    LEND_FOUND_PART_MAX = 16384, /* of bytes in a frame: a MAC has room beside them */
};

struct lend_fetch_message {
    uint32_t version_min; /* of the protocol, that the client speaks */
    uint32_t version_max;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
};

/* Each encoder returns how many bytes it takes, and has written them if that is at most capacity.
 * Decoders take untrusted bytes. LEND_E_CORRUPT: out is untouched. */
size_t lend_fetch_encode(const struct lend_fetch_message *fetch, void *bytes, size_t capacity);
enum lend_status lend_fetch_decode(const void *bytes, size_t count, struct lend_fetch_message *out,
                                   struct lend_error *error);

struct lend_found_part {
    uint32_t version;          /* to speak */
    uint32_t metadata_bytes;   /* 1 .. LEND_METADATA_BYTES_MAX */
    uint32_t attachment_bytes; /* 0 .. LEND_ATTACHMENT_BYTES_MAX */
    uint32_t offset;
    uint32_t count; /* 1 .. LEND_FOUND_PART_MAX; offset + count is within both together */
    const uint8_t *bytes;
};

size_t lend_found_encode(const struct lend_found_part *part, void *bytes, size_t capacity);
/* out->bytes lie in the message. */
enum lend_status lend_found_decode(const void *bytes, size_t count, struct lend_found_part *out,
                                   struct lend_error *error);

#endif
