/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_UCX_MESSAGE_H
#define LEND_TRANSPORT_UCX_MESSAGE_H

#include "core/transport.h"
#include "wire/metadata.h"

/*
 * What two transports say to each other: active messages of UCX, with a header of ours,
 *
 *     u16 magic | u8 version | u8 kind | u32 zero | u64 channel | u64 position | u64 taken |
 *     the frame's header of 32 bytes
 *
 * and a payload. `channel` is the receiver's number of a channel: random, so that nobody guesses
 * it. `position` counts the frames of one direction, because UCX does not keep the order of small
 * and large messages; `taken` is what the sender has taken of the other direction, as costs
 * (lend_ucx_cost()) summed up.
 */

enum lend_ucx_kind {
    LEND_UCX_OPEN = 1,   /* client: a channel, please; channel 0; payload: greeting, address */
    LEND_UCX_ACCEPT = 2, /* server: here; payload: greeting */
    LEND_UCX_REFUSE = 3, /* server: no; payload: u32 status, text */
    LEND_UCX_FRAME = 4,  /* either: a frame; payload: the frame's */
    LEND_UCX_CREDIT = 5, /* either: `taken`, and nothing else */
    LEND_UCX_CLOSE = 6,  /* either: no frame comes from `position` on */
    LEND_UCX_PING = 7,   /* either: are you there? channel: the receiver's number of the link */
    LEND_UCX_PONG = 8,   /* either: yes; the same, with the PING's `position` */
    LEND_UCX_FRAMES = 9, /* either: frames from `position` on; payload: each one's header and its
                            payload, one after another; the message's own frame is zeros */
};

enum {
    LEND_UCX_ID = 27, /* of our messages, among those of UCX */
    LEND_UCX_HEADER_BYTES = 64,
    LEND_UCX_GREETING_BYTES = 24,
    LEND_UCX_TEXT_MAX = 200,
    /* An address of UCX's, with what is around it. */
    LEND_UCX_ADDRESS_EXTRA = 24,
    LEND_UCX_ADDRESS_MAX = LEND_METADATA_ADDRESS_MAX - LEND_UCX_ADDRESS_EXTRA,
};

struct lend_ucx_message {
    enum lend_ucx_kind kind;
    uint64_t channel;
    uint64_t position;
    uint64_t taken;
    uint8_t frame[LEND_FRAME_HEADER_BYTES];
};

/* Who is speaking, in the payload of OPEN and ACCEPT. */
struct lend_ucx_greeting {
    uint64_t link;         /* the sender's number of its connection to the receiver */
    uint64_t channel;      /* the sender's number of the channel */
    uint64_t window_bytes; /* the sender takes frames of that cost before it says `taken` */
};

/* What tells others how to reach a worker: metadata carry it, and OPEN. */
struct lend_ucx_address {
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    const uint8_t *bytes; /* UCX's, inside what was decoded */
    size_t count;
};

/* What a frame takes of a window: its payload, and what holding it takes. */
static inline uint64_t lend_ucx_cost(size_t payload)
{
    return (uint64_t)payload + 256;
}

void lend_ucx_encode(const struct lend_ucx_message *message, uint8_t *out);
/* False: it is none of ours. */
bool lend_ucx_decode(const void *bytes, size_t count, struct lend_ucx_message *out);

void lend_ucx_encode_greeting(const struct lend_ucx_greeting *greeting, uint8_t *out);
/* From the first bytes of a payload. */
bool lend_ucx_decode_greeting(const void *bytes, size_t count, struct lend_ucx_greeting *out);

/* To out, with room for LEND_METADATA_ADDRESS_MAX; the count of UCX's bytes is at most
 * LEND_UCX_ADDRESS_MAX. Returns how many. */
size_t lend_ucx_encode_address(const struct lend_ucx_address *address, uint8_t *out);
/* False: it is damaged, or of another version. UCX itself checks nothing of what is inside, and
 * would end the process over it. */
bool lend_ucx_decode_address(const uint8_t *bytes, size_t count, struct lend_ucx_address *out);

#endif
