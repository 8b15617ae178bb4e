/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_GUARD_H
#define LEND_CORE_GUARD_H

#include "core/secret.h"
#include "wire/challenge.h"
#include "wire/frame.h"

#include <stdbool.h>

/*
 * How each session with a secret is held to it, whatever carries it: a server's to the secret of
 * its agent, a client's to that of its peer, or else of its agent. Nothing is said to the other
 * end, and nothing taken from it, before it has proved that it has the secret (wire/challenge.h);
 * from then on every control frame is sealed with a MAC, but where the agent wants that on networks
 * alone and the channel is private. A server tells those who have not proved
 * it nothing but an ANSWER: what they get wrong ends in silence.
 *
 * All under the session's lock.
 */

struct lend_agent;
struct lend_session;

enum lend_guard_phase {
    LEND_GUARD_OPEN = 0, /* both have proved it, or there is no secret */
    LEND_GUARD_OWES_CHALLENGE,
    LEND_GUARD_WANTS_ANSWER,
    LEND_GUARD_OWES_PROOF,
    LEND_GUARD_WANTS_CHALLENGE, /* a server begins here */
    LEND_GUARD_OWES_ANSWER,
    LEND_GUARD_WANTS_PROOF,
};

struct lend_guard {
    const struct lend_secret *secret;
    enum lend_guard_phase phase;
    struct lend_challenge challenge;
    struct lend_challenge answer;
    void *keys; /* the plugin's; NULL: frames are not sealed */
};

/* The secret stays where it is for as long as the guard. */
void lend_guard_init(struct lend_guard *guard, const struct lend_secret *secret, bool is_client);
void lend_guard_fini(struct lend_guard *guard);

/* Has the other end not proved yet that it has our secret? */
static inline bool lend_guard_is_shut(const struct lend_guard *guard)
{
    return guard->phase != LEND_GUARD_OPEN;
}

/* Does a MAC end each control frame? */
static inline bool lend_guard_is_sealed(const struct lend_guard *guard)
{
    return guard->keys != NULL && guard->phase == LEND_GUARD_OPEN;
}

/* While it is shut: take a frame of the other end; LEND_E_ACCESS. Send what there is to send: true
 * if anything was. */
enum lend_status lend_guard_take(struct lend_session *session, const struct lend_frame *frame,
                                 const uint8_t *payload, struct lend_error *error);
bool lend_guard_pump(struct lend_session *session);
/* Could the other end send that frame now? Before its payload is waited for. */
enum lend_status lend_guard_expect(const struct lend_session *session,
                                   const struct lend_frame *frame, struct lend_error *error);

/* Once it is open. Write the MAC of a frame, whose payload_bytes count it, and whose payload is
 * without it. */
void lend_guard_seal(const struct lend_session *session, const struct lend_frame *frame,
                     const void *payload, uint8_t *out_mac);
/* A frame has come: check the MAC that ends its payload, and take it off. LEND_E_CORRUPT. */
enum lend_status lend_guard_unseal(const struct lend_session *session, struct lend_frame *frame,
                                   const uint8_t *payload, struct lend_error *error);

/* A server's session has ended before the other end proved that it has the secret: count it, and
 * tell the log, now and then. */
void lend_guard_refuse(struct lend_agent *agent, const struct lend_error *why);

#endif
