/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_MESSAGE_H
#define LEND_TRANSPORT_VERBS_MESSAGE_H

#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the two ends of a rail say to each other, in frames of their session's channel:
 *
 *     client                                    server
 *       CALL (my queue pairs)               -->
 *                                           <--  ANSWER (mine, and the page of words), or REFUSAL
 *                                           <--  KEYS (where regions are): ahead of the view of a
 *                                                lease that has them
 *
 *                                           <--  GRANT (what a lease for writing lets it write):
 *                                                ahead of the view as well. Of a lease of many
 *                                                keys this one says how many there will be, and
 *                                                others follow when they are made
 *       WISH (keys of a lease that was   -->   of a leg that is not the first: a GRANT answers
 *             granted on the first leg)
 *       NOTE (a notification): a SEND; or, -->
 *             as a frame, once more
 *                                           <--  NOTED (which was the last that came by a SEND)
 *       HALT (end what was made in that round) -->
 *
 * A client whose queue pairs broke says HALT, and calls again, with the next round. Each leg of a
 * rail has its own of all that.
 */

enum {
    LEND_VERBS_LANES_MAX = 16,
    LEND_VERBS_LEGS_MAX = 4,           /* NICs of ours that a rail uses */
    LEND_VERBS_PIECES_MAX = 16,        /* of a region, to one NIC */
    LEND_VERBS_GRANTED_MAX = 16384,    /* pieces of a lease for writing, */
    LEND_VERBS_GRANT_PIECES_MAX = 512, /* and of a message that tells of it */
    LEND_VERBS_REASON_MAX = 200,
    LEND_VERBS_NOTE_HEAD = 9,
    LEND_VERBS_NOTE_BYTES = LEND_VERBS_NOTE_HEAD + 512, /* of a notification by a rail */
};

enum lend_verbs_message {
    LEND_VERBS_CALL = 1,
    LEND_VERBS_ANSWER = 2,
    LEND_VERBS_REFUSAL = 3,
    LEND_VERBS_KEYS = 4,
    LEND_VERBS_GRANT = 5,
    LEND_VERBS_HALT = 6,
    LEND_VERBS_WISH = 7,
    LEND_VERBS_NOTE = 8,
    LEND_VERBS_NOTED = 9,
};

/* The queue pairs of one end. Without gaps, whose bytes nobody sets: it is compared as a whole. */
struct lend_verbs_offer {
    uint32_t round;
    uint8_t gid[16];
    uint16_t lid;
    uint8_t link_layer;
    uint8_t mtu; /* LEND_VERBS_MTU_... */
    uint8_t
        reads; /* client: that it would have under way on a queue pair; server: that it serves */
    uint8_t lane_count;
    uint8_t reserved[2];
    struct {
        uint32_t number;
        uint32_t first_psn; /* of what this end sends */
    } lanes[LEND_VERBS_LANES_MAX];
    uint32_t rate_mbps; /* of the link of that end; 0: not known */
    /* An ANSWER: the words of leases, as the owner's processor stores them. */
    uint64_t words_address;
    uint64_t words_bytes;
    uint32_t words_rkey;
    uint8_t note_count; /* notifications for which there are receives; 0: it takes none */
    uint8_t unused[3];
};

/* Where a region is. */
struct lend_verbs_told {
    uint64_t region_id;
    uint32_t life;
    uint32_t piece_count;
    uint32_t distance; /* of that NIC of the owner from the GPU whose memory it is; at most
                          UINT8_MAX; 0: it is not known, or is the host's */
    uint32_t reserved;
    struct lend_verbs_piece {
        uint64_t address; /* as metadata counts it */
        uint64_t bytes;
        uint32_t rkey;
    } pieces[LEND_VERBS_PIECES_MAX];
};

/* What a lease for writing lets a peer write by itself: `total` pieces, of which these are some,
 * from number `first` on. Nothing, where there are none, and why: or, without a reason, it is to be
 * asked for again. */
struct lend_verbs_granted {
    uint32_t slot;
    uint64_t generation;
    bool is_lost; /* the queue pair for writes is gone: another rail is to be made */
    /* How far the owner's NIC of each leg is from the GPU whose memory it is; 0: it is not known,
     * or is none, or several. */
    uint8_t distances[LEND_VERBS_LEGS_MAX];
    uint32_t total;
    uint32_t first;
    uint32_t piece_count;
    struct lend_verbs_piece pieces[LEND_VERBS_GRANT_PIECES_MAX];
    char why[LEND_VERBS_REASON_MAX + 1];
};

/* What a message is, or 0: its first byte, but for the upper half, which says of which leg it is.
 */
uint8_t lend_verbs_message_kind(const uint8_t *bytes, size_t count);
uint32_t lend_verbs_message_leg(const uint8_t *bytes, size_t count);
void lend_verbs_message_set_leg(uint8_t *bytes, uint32_t leg);

size_t lend_verbs_offer_encode(const struct lend_verbs_offer *offer, bool is_answer, uint8_t *bytes,
                               size_t capacity);
/* LEND_E_CORRUPT. LEND_E_UNSUPPORTED: a version, or an order of bytes, that is not ours. */
enum lend_status lend_verbs_offer_decode(const uint8_t *bytes, size_t count, bool is_answer,
                                         struct lend_verbs_offer *out, struct lend_error *error);

size_t lend_verbs_refusal_encode(uint32_t round, const char *reason, uint8_t *bytes,
                                 size_t capacity);
enum lend_status lend_verbs_refusal_decode(const uint8_t *bytes, size_t count, uint32_t *out_round,
                                           char reason[LEND_VERBS_REASON_MAX + 1],
                                           struct lend_error *error);

/* KEYS are a first byte, and regions behind each other. */
size_t lend_verbs_told_bytes(const struct lend_verbs_told *told);
void lend_verbs_told_encode(const struct lend_verbs_told *told, uint8_t *bytes, size_t capacity);
/* The one that begins at *at, which steps behind it. */
enum lend_status lend_verbs_told_decode(const uint8_t *bytes, size_t count, size_t *at,
                                        struct lend_verbs_told *out, struct lend_error *error);

size_t lend_verbs_granted_encode(const struct lend_verbs_granted *granted, uint8_t *bytes,
                                 size_t capacity);
enum lend_status lend_verbs_granted_decode(const uint8_t *bytes, size_t count,
                                           struct lend_verbs_granted *out,
                                           struct lend_error *error);

size_t lend_verbs_wish_encode(uint32_t slot, uint64_t generation, uint8_t *bytes, size_t capacity);
enum lend_status lend_verbs_wish_decode(const uint8_t *bytes, size_t count, uint32_t *out_slot,
                                        uint64_t *out_generation, struct lend_error *error);

/* Numbers begin with 1. out_bytes points into the message. */
size_t lend_verbs_note_encode(uint64_t number, const void *bytes, size_t count, uint8_t *out,
                              size_t capacity);
enum lend_status lend_verbs_note_decode(const uint8_t *bytes, size_t count, uint64_t *out_number,
                                        const uint8_t **out_bytes, size_t *out_count,
                                        struct lend_error *error);
size_t lend_verbs_noted_encode(uint64_t number, uint8_t *bytes, size_t capacity);
enum lend_status lend_verbs_noted_decode(const uint8_t *bytes, size_t count, uint64_t *out_number,
                                         struct lend_error *error);

size_t lend_verbs_halt_encode(uint32_t round, uint8_t *bytes, size_t capacity);
enum lend_status lend_verbs_halt_decode(const uint8_t *bytes, size_t count, uint32_t *out_round,
                                        struct lend_error *error);

#endif
