/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_FIELD_H
#define LEND_WIRE_FIELD_H

#include "base/reader.h"
#include "base/writer.h"
#include "wire/message.h"

/*
 * Pieces that several messages have in common.
 *
 * A name is its length in a byte, then so many bytes: printable, and neither none nor more than its
 * kind allows.
 */

/* No control characters: every byte is 0x20 or more, and not 0x7f. UTF-8 passes. */
bool lend_text_is_printable(const void *bytes, size_t count);

/* At most max (< 256) bytes of it are written. */
void lend_name_encode(struct lend_writer *writer, const char *name, size_t max);

/* Read a name of at most max bytes to out, with a final NUL. `what` says whose, for the error.
 * LEND_E_CORRUPT: out is untouched. */
enum lend_status lend_name_decode(struct lend_reader *reader, const char *what, char *out,
                                  size_t max, struct lend_error *error);

/* The 28 bytes that name a lease: u32 slot | u64 generation | key. */
void lend_lease_name_write(struct lend_writer *writer, const struct lend_lease_name *name);
void lend_lease_name_read(struct lend_reader *reader, struct lend_lease_name *out);

/*
 * What travels outside of frames lies in an envelope: four bytes of magic, u16 version, the body,
 * and a CRC-32C of all before. Later versions keep this much, so that one that is not known is told
 * from one that was damaged.
 */
struct lend_envelope {
    const char *what; /* "a ticket" */
    uint8_t magic[4];
    uint16_t version;
};

void lend_envelope_begin(struct lend_writer *writer, const struct lend_envelope *envelope);
void lend_envelope_end(struct lend_writer *writer);

/* Check the envelope of count untrusted bytes; on success body reads what lies in it.
 * LEND_E_CORRUPT, LEND_E_VERSION. */
enum lend_status lend_envelope_open(const struct lend_envelope *envelope, const void *bytes,
                                    size_t count, struct lend_reader *body,
                                    struct lend_error *error);

/* Differences modulo 2^64, so that small ones of either sign make short varints. */
static inline uint64_t lend_zigzag(uint64_t difference)
{
    return (difference << 1) ^ (0 - (difference >> 63));
}

static inline uint64_t lend_unzigzag(uint64_t value)
{
    return (value >> 1) ^ (0 - (value & 1));
}

#endif
