/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_FRAME_H
#define LEND_WIRE_FRAME_H

#include <lend/status.h>

#include <stddef.h>

/*
 * Frames: what two agents say to each other, whatever carries it. A frame is a header of 32 bytes,
 *
 *     u16 magic | u8 version | u8 type | u32 payload_bytes | u64 sequence | u64 request |
 *     u32 CRC-32C of a control payload (0 for data) | u32 CRC-32C of the 28 bytes before
 *
 * and payload_bytes of payload. `sequence` counts the frames of one direction from 0, so that a
 * lost, doubled or reordered frame is seen; `request` names the request that the frame is about, or
 * is 0.
 *
 * Between agents with a secret (core/guard.h) the payload of each control frame that follows PROOF
 * ends in a MAC.
 */

enum {
    LEND_FRAME_HEADER_BYTES = 32,
    LEND_FRAME_DATA_MAX = 262144,   /* payload of DATA; a transport may carry less at a time, */
    LEND_FRAME_PAYLOAD_MAX = 65536, /* as those that copy into a ring do */
    LEND_FRAME_CONTROL_MAX = 32768, /* payload of any type but DATA */
    LEND_FRAME_MAC_BYTES = 16,      /* of it, between agents with a secret; which leaves: */
    LEND_FRAME_MESSAGE_MAX = LEND_FRAME_CONTROL_MAX - LEND_FRAME_MAC_BYTES,
    LEND_PROTOCOL_VERSION = 1,
};

enum lend_frame_type {
    LEND_FRAME_HELLO = 1,        /* client: who I am, whom I want */
    LEND_FRAME_WELCOME = 2,      /* server: it is I, and these are my limits */
    LEND_FRAME_BYE = 3,          /* either: why I am about to hang up */
    LEND_FRAME_REQUEST = 4,      /* client: move these blocks; followed by its RUNS */
    LEND_FRAME_RUNS = 5,         /* client: block runs, or ranges, of the request */
    LEND_FRAME_DATA = 6,         /* the direction of the request: its bytes, in order */
    LEND_FRAME_DONE = 7,         /* server: how the request ended; after its data */
    LEND_FRAME_CANCEL = 8,       /* client: end the request; DONE answers */
    LEND_FRAME_NOTIFY = 9,       /* client: bytes for the application; their number, 0: the next */
    LEND_FRAME_CREDIT = 10,      /* server: notification bytes that the application has taken */
    LEND_FRAME_TICKET_DONE = 11, /* client: this consumer needs the lease no more */
    LEND_FRAME_LOOK = 12,        /* client: what does this lease permit? I copy by myself */
    LEND_FRAME_VIEW = 13,        /* server: this */
    LEND_FRAME_FETCH = 14,       /* client, instead of HELLO: tell me your metadata */
    LEND_FRAME_FOUND = 15,       /* server: a part of it */
    LEND_FRAME_CHALLENGE = 16,   /* client, before all else: prove that you have our secret */
    LEND_FRAME_ANSWER = 17,      /* server: here; and now you */
    LEND_FRAME_PROOF = 18,       /* client: here */
    LEND_FRAME_RAIL = 19,        /* either: what our rails say to each other (core/rail.h) */
};

enum { LEND_FRAME_LAST = LEND_FRAME_RAIL };

struct lend_frame {
    uint8_t type; /* a lend_frame_type */
    uint32_t payload_bytes;
    uint64_t sequence;
    uint64_t request;
    uint32_t payload_crc;
};

/* Encode to LEND_FRAME_HEADER_BYTES at out. For a control frame payload is what follows, to be
 * checksummed; for DATA it is NULL. */
void lend_frame_encode(const struct lend_frame *frame, const void *payload, uint8_t *out);

/* Decode LEND_FRAME_HEADER_BYTES of untrusted bytes. LEND_E_CORRUPT, LEND_E_VERSION. */
enum lend_status lend_frame_decode(const uint8_t *bytes, struct lend_frame *out,
                                   struct lend_error *error);

/* Does the payload of a control frame match its checksum? LEND_E_CORRUPT if not. */
enum lend_status lend_frame_check(const struct lend_frame *frame, const void *payload,
                                  struct lend_error *error);

#endif
