/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_CHALLENGE_H
#define LEND_WIRE_CHALLENGE_H

#include <lend/plugin.h>
#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * What two agents with a shared secret say before all else, in frames of these lengths:
 *
 *     CHALLENGE  u32 version | 32 random bytes                  client
 *     ANSWER     u32 version | 32 random bytes | 32 of proof    server
 *     PROOF      32 of proof                                    client
 *
 * `version` is of this exchange and of the MACs that follow: the newest that the client knows, then
 * the one that the server chose. A proof is over a transcript, under the secret and the role of
 * whoever gives it:
 *
 *     "lend secret" | u32 version of CHALLENGE | u32 version of ANSWER | both random bytes
 *
 * so that it is of no use to another session, nor in the other direction, and that nobody between
 * the two can make them speak an older version. From PROOF on, each control frame ends in a MAC
 * over these 24 bytes, and what the payload is without it:
 *
 *     u32 type | u32 payload_bytes with the MAC | u64 sequence | u64 request
 *
 * Where no MACs follow, by what each end knows itself, a transcript begins with "lend proofs"
 * instead: so ends that do not agree on it refuse each other, and a proof that was given where
 * there are none is of no use where there are.
 */

enum {
    LEND_CHALLENGE_VERSION = 1,
    LEND_CHALLENGE_NONCE_BYTES = 32,
    LEND_CHALLENGE_BYTES = 4 + LEND_CHALLENGE_NONCE_BYTES,
    LEND_ANSWER_BYTES = LEND_CHALLENGE_BYTES + LEND_SECRET_PROOF_BYTES,
    LEND_TRANSCRIPT_BYTES = 11 + 4 + 4 + 2 * LEND_CHALLENGE_NONCE_BYTES,
    LEND_SEALED_HEADER_BYTES = 24,
};

/* Of both frames; CHALLENGE has no proof. */
struct lend_challenge {
    uint32_t version;
    uint8_t nonce[LEND_CHALLENGE_NONCE_BYTES];
    uint8_t proof[LEND_SECRET_PROOF_BYTES];
};

void lend_challenge_encode(const struct lend_challenge *challenge,
                           uint8_t out[LEND_CHALLENGE_BYTES]);
void lend_answer_encode(const struct lend_challenge *answer, uint8_t out[LEND_ANSWER_BYTES]);
/* Untrusted bytes. LEND_E_CORRUPT: another length, or version 0. */
enum lend_status lend_challenge_decode(const void *bytes, size_t count, struct lend_challenge *out,
                                       struct lend_error *error);
enum lend_status lend_answer_decode(const void *bytes, size_t count, struct lend_challenge *out,
                                    struct lend_error *error);

/* is_sealed: MACs follow. */
void lend_transcript_encode(const struct lend_challenge *challenge,
                            const struct lend_challenge *answer, bool is_sealed,
                            uint8_t out[LEND_TRANSCRIPT_BYTES]);

#endif
