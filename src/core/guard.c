/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guard.h"

#include "base/error.h"
#include "base/sys.h"
#include "base/writer.h"
#include "core/session.h"

#include <string.h>

#define TELL_EVERY_NS UINT64_C(10000000000)

/* What to do about a secret that the other end does not have. */
static const char *remedy(const struct lend_secret *secret)
{
    return secret->is_of_peer ? "import it with the lend_agent_config::secret that it has now"
                              : "give both agents the same lend_agent_config::secret, or import "
                                "the peer with its own";
}

void lend_guard_init(struct lend_guard *guard, const struct lend_secret *secret, bool is_client)
{
    *guard = (struct lend_guard){.secret = secret};
    if (secret->plugin != NULL)
        guard->phase = is_client ? LEND_GUARD_OWES_CHALLENGE : LEND_GUARD_WANTS_CHALLENGE;
}

void lend_guard_fini(struct lend_guard *guard)
{
    if (guard->keys != NULL)
        guard->secret->plugin->discard(guard->keys);
    guard->keys = NULL;
}

static uint32_t our_role(const struct lend_session *session)
{
    return session->role->is_client ? LEND_SECRET_CLIENT : LEND_SECRET_SERVER;
}

static uint32_t their_role(const struct lend_session *session)
{
    return session->role->is_client ? LEND_SECRET_SERVER : LEND_SECRET_CLIENT;
}

/* --- proofs --- */

/* Do MACs follow? By what we know ourselves, and never by what the other end says; and the
 * transcript holds it to the same. */
static bool is_to_be_sealed(const struct lend_session *session)
{
    return (session->agent->config.flags & LEND_AGENT_SEAL_NETWORKS) == 0 ||
           !session->channel->is_private;
}

static void prove(struct lend_session *session, uint8_t *out)
{
    const struct lend_guard *guard = &session->guard;
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];

    lend_transcript_encode(&guard->challenge, &guard->answer, is_to_be_sealed(session), transcript);
    guard->secret->plugin->prove(guard->secret->kept, our_role(session), transcript,
                                 sizeof transcript, out);
}

/* Is their proof right? Then make the session's keys, if it is to have any. */
static enum lend_status admit(struct lend_session *session, const uint8_t *proof,
                              struct lend_error *error)
{
    struct lend_guard *guard = &session->guard;
    const struct lend_secret *secret = guard->secret;
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];

    lend_transcript_encode(&guard->challenge, &guard->answer, is_to_be_sealed(session), transcript);
    if (secret->plugin->check(secret->kept, their_role(session), transcript, sizeof transcript,
                              proof) != 1)
        return lend_fail(error, LEND_E_ACCESS,
                         "the peer has another secret than %s%s, or somebody stands between us; %s",
                         secret->is_of_peer ? "its import gave" : "we have",
                         session->channel->is_private
                             ? " (or one of us has LEND_AGENT_SEAL_NETWORKS, and not the other)"
                             : "",
                         remedy(secret));
    if (!is_to_be_sealed(session))
        return LEND_OK;
    return secret->plugin->derive(secret->kept, transcript, sizeof transcript, &guard->keys, error);
}

/* --- the client --- */

static bool send_challenge(struct lend_session *session)
{
    struct lend_challenge *ours = &session->guard.challenge;
    uint8_t bytes[LEND_CHALLENGE_BYTES];

    /* Anew each time that there was no room: nobody has seen the last one. */
    if (lend_sys->random(ours->nonce, sizeof ours->nonce) < 0) {
        lend_session_hang_up(session, LEND_E_SYSTEM, "no random bytes for a challenge");
        return false;
    }
    ours->version = LEND_CHALLENGE_VERSION;
    lend_challenge_encode(ours, bytes);
    if (!lend_session_send(session, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes))
        return false;
    session->guard.phase = LEND_GUARD_WANTS_ANSWER;
    return true;
}

static bool send_proof(struct lend_session *session)
{
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    prove(session, proof);
    if (!lend_session_send(session, LEND_FRAME_PROOF, 0, proof, sizeof proof))
        return false;
    session->guard.phase = LEND_GUARD_OPEN;
    return true;
}

/* Instead of an answer. Nobody vouches for it, so what it says is but a hint. */
static enum lend_status take_bye(const struct lend_session *session, const struct lend_frame *frame,
                                 const uint8_t *payload, struct lend_error *error)
{
    const struct lend_secret *secret = session->guard.secret;
    struct lend_verdict verdict;

    enum lend_status status = lend_verdict_decode(payload, frame->payload_bytes, &verdict, error);
    if (status != LEND_OK)
        return status;
    if (verdict.status == LEND_E_LIMIT || verdict.status == LEND_E_NO_MEMORY)
        return lend_fail(error, (enum lend_status)verdict.status, "the peer hung up: %s",
                         verdict.text);
    return lend_fail(error, LEND_E_ACCESS,
                     "the peer has no secret, and %s (or it is of a release that knows none); %s; "
                     "it says: %.60s",
                     secret->is_of_peer ? "its import gave one" : "we have one", remedy(secret),
                     verdict.text);
}

static enum lend_status take_answer(struct lend_session *session, const struct lend_frame *frame,
                                    const uint8_t *payload, struct lend_error *error)
{
    struct lend_guard *guard = &session->guard;

    enum lend_status status =
        lend_answer_decode(payload, frame->payload_bytes, &guard->answer, error);
    if (status != LEND_OK)
        return status;
    status = admit(session, guard->answer.proof, error);
    if (status != LEND_OK)
        return status;
    if (guard->answer.version != LEND_CHALLENGE_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "the peer chose version %u of the proofs, we speak %d",
                         guard->answer.version, LEND_CHALLENGE_VERSION);
    guard->phase = LEND_GUARD_OWES_PROOF;
    return LEND_OK;
}

/* --- the server --- */

static enum lend_status take_challenge(struct lend_session *session, const struct lend_frame *frame,
                                       const uint8_t *payload, struct lend_error *error)
{
    struct lend_guard *guard = &session->guard;

    enum lend_status status =
        lend_challenge_decode(payload, frame->payload_bytes, &guard->challenge, error);
    if (status != LEND_OK)
        return status;

    int result = lend_sys->random(guard->answer.nonce, sizeof guard->answer.nonce);
    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes for an answer");
    /* The newest that both know: every client knows ours, which is the first. */
    guard->answer.version = LEND_CHALLENGE_VERSION;
    prove(session, guard->answer.proof);
    guard->phase = LEND_GUARD_OWES_ANSWER;
    return LEND_OK;
}

static bool send_answer(struct lend_session *session)
{
    uint8_t bytes[LEND_ANSWER_BYTES];

    lend_answer_encode(&session->guard.answer, bytes);
    if (!lend_session_send(session, LEND_FRAME_ANSWER, 0, bytes, sizeof bytes))
        return false;
    session->guard.phase = LEND_GUARD_WANTS_PROOF;
    return true;
}

static enum lend_status take_proof(struct lend_session *session, const uint8_t *payload,
                                   struct lend_error *error)
{
    enum lend_status status = admit(session, payload, error);

    if (status == LEND_OK)
        session->guard.phase = LEND_GUARD_OPEN;
    return status;
}

void lend_guard_refuse(struct lend_agent *agent, const struct lend_error *why)
{
    uint64_t now = lend_sys->now_ns();
    uint64_t told = atomic_load_explicit(&agent->refusal_told_ns, memory_order_relaxed);

    LEND_STATISTICS_ADD(agent, secrets_refused, 1);
    /* Relaxed: these two are but for the log. */
    if ((told != 0 && now - told < TELL_EVERY_NS) ||
        !atomic_compare_exchange_strong_explicit(&agent->refusal_told_ns, &told, now,
                                                 memory_order_relaxed, memory_order_relaxed)) {
        (void)atomic_fetch_add_explicit(&agent->refusals_untold, 1, memory_order_relaxed);
        return;
    }
    uint64_t untold = atomic_exchange_explicit(&agent->refusals_untold, 0, memory_order_relaxed);
    lend_agent_log(agent, LEND_LOG_WARNING,
                   "refused who did not prove to have our secret, and %llu others before: %s",
                   (unsigned long long)untold, why->message);
}

/* --- both --- */

enum lend_status lend_guard_expect(const struct lend_session *session,
                                   const struct lend_frame *frame, struct lend_error *error)
{
    enum lend_guard_phase phase = session->guard.phase;
    bool is_due = false;

    if (phase == LEND_GUARD_WANTS_CHALLENGE)
        is_due =
            frame->type == LEND_FRAME_CHALLENGE && frame->payload_bytes == LEND_CHALLENGE_BYTES;
    else if (phase == LEND_GUARD_WANTS_PROOF)
        is_due = frame->type == LEND_FRAME_PROOF && frame->payload_bytes == LEND_SECRET_PROOF_BYTES;
    else if (phase == LEND_GUARD_WANTS_ANSWER)
        is_due = frame->type == LEND_FRAME_BYE ||
                 (frame->type == LEND_FRAME_ANSWER && frame->payload_bytes == LEND_ANSWER_BYTES);
    if (is_due)
        return LEND_OK;
    return lend_fail(error, LEND_E_ACCESS,
                     "a frame of type %u with %u bytes where a proof of the secret was due; %s",
                     frame->type, frame->payload_bytes, remedy(session->guard.secret));
}

enum lend_status lend_guard_take(struct lend_session *session, const struct lend_frame *frame,
                                 const uint8_t *payload, struct lend_error *error)
{
    switch (frame->type) {
    case LEND_FRAME_CHALLENGE: return take_challenge(session, frame, payload, error);
    case LEND_FRAME_ANSWER: return take_answer(session, frame, payload, error);
    case LEND_FRAME_PROOF: return take_proof(session, payload, error);
    /* lend_guard_expect() lets no other pass. */
    default: return take_bye(session, frame, payload, error);
    }
}

bool lend_guard_pump(struct lend_session *session)
{
    switch (session->guard.phase) {
    case LEND_GUARD_OWES_CHALLENGE: return send_challenge(session);
    case LEND_GUARD_OWES_PROOF: return send_proof(session);
    case LEND_GUARD_OWES_ANSWER: return send_answer(session);
    case LEND_GUARD_OPEN:
    case LEND_GUARD_WANTS_ANSWER:
    case LEND_GUARD_WANTS_CHALLENGE:
    case LEND_GUARD_WANTS_PROOF: break;
    }
    return false;
}

/* --- MACs --- */

static void encode_header(const struct lend_frame *frame, uint8_t out[LEND_SEALED_HEADER_BYTES])
{
    struct lend_writer writer = lend_writer_init(out, LEND_SEALED_HEADER_BYTES);

    lend_write_u32(&writer, frame->type);
    lend_write_u32(&writer, frame->payload_bytes);
    lend_write_u64(&writer, frame->sequence);
    lend_write_u64(&writer, frame->request);
}

void lend_guard_seal(const struct lend_session *session, const struct lend_frame *frame,
                     const void *payload, uint8_t *out_mac)
{
    const struct lend_guard *guard = &session->guard;
    uint8_t header[LEND_SEALED_HEADER_BYTES];
    const struct lend_secret_message message = {
        .struct_size = sizeof message,
        .role = our_role(session),
        .header = header,
        .header_bytes = sizeof header,
        .payload = payload,
        .payload_bytes = frame->payload_bytes - LEND_SECRET_MAC_BYTES,
    };

    encode_header(frame, header);
    guard->secret->plugin->seal(guard->keys, &message, out_mac);
}

enum lend_status lend_guard_unseal(const struct lend_session *session, struct lend_frame *frame,
                                   const uint8_t *payload, struct lend_error *error)
{
    const struct lend_guard *guard = &session->guard;
    uint8_t header[LEND_SEALED_HEADER_BYTES];
    struct lend_secret_message message = {
        .struct_size = sizeof message,
        .role = their_role(session),
        .header = header,
        .header_bytes = sizeof header,
        .payload = payload,
    };

    if (frame->payload_bytes < LEND_SECRET_MAC_BYTES)
        return lend_fail(error, LEND_E_CORRUPT, "a frame of type %u with %u bytes, without a MAC",
                         frame->type, frame->payload_bytes);
    message.payload_bytes = frame->payload_bytes - LEND_SECRET_MAC_BYTES;
    encode_header(frame, header);
    if (guard->secret->plugin->verify(guard->keys, &message, payload + message.payload_bytes) != 1)
        return lend_fail(error, LEND_E_CORRUPT,
                         "a frame of type %u whose MAC is not of our peer: it was changed, or is "
                         "somebody else's",
                         frame->type);
    frame->payload_bytes -= LEND_SECRET_MAC_BYTES;
    return LEND_OK;
}
