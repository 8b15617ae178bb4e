/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_TICKET_H
#define LEND_WIRE_TICKET_H

#include "wire/message.h"

/* The bytes of a ticket: magic "LNDT", u16 version, then the fields below, then a CRC-32C of all
 * before. */
struct lend_ticket_bytes {
    uint8_t incarnation[LEND_INCARNATION_BYTES]; /* of the agent that granted the lease */
    char agent[LEND_AGENT_NAME_BYTES_MAX + 1];   /* its name, for messages alone */
    struct lend_lease_name lease;
    uint32_t access;     /* a hint: the owner's word counts */
    uint64_t expires_ns; /* the owner's clock, a hint; 0: never */
};

enum { LEND_TICKET_VERSION = 1 };

size_t lend_ticket_encode(const struct lend_ticket_bytes *ticket, void *bytes, size_t capacity);
/* LEND_E_CORRUPT, LEND_E_VERSION. Leaves out untouched on failure. */
enum lend_status lend_ticket_decode(const void *bytes, size_t count, struct lend_ticket_bytes *out,
                                    struct lend_error *error);

#endif
