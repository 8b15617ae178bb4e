/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/challenge.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/writer.h"

static const char sealed_label[] = "lend secret";
static const char proofs_label[] = "lend proofs";

_Static_assert(LEND_TRANSCRIPT_BYTES ==
                   sizeof sealed_label - 1 + 2 * sizeof(uint32_t) + 2 * LEND_CHALLENGE_NONCE_BYTES,
               "the label is of that length");
_Static_assert(sizeof proofs_label == sizeof sealed_label, "and so is the other one");

void lend_challenge_encode(const struct lend_challenge *challenge,
                           uint8_t out[LEND_CHALLENGE_BYTES])
{
    struct lend_writer writer = lend_writer_init(out, LEND_CHALLENGE_BYTES);

    lend_write_u32(&writer, challenge->version);
    lend_write_bytes(&writer, challenge->nonce, sizeof challenge->nonce);
}

void lend_answer_encode(const struct lend_challenge *answer, uint8_t out[LEND_ANSWER_BYTES])
{
    struct lend_writer writer = lend_writer_init(out, LEND_ANSWER_BYTES);

    lend_write_u32(&writer, answer->version);
    lend_write_bytes(&writer, answer->nonce, sizeof answer->nonce);
    lend_write_bytes(&writer, answer->proof, sizeof answer->proof);
}

static enum lend_status finish(const struct lend_reader *reader, const char *what, size_t count,
                               uint32_t version, struct lend_error *error)
{
    if (!lend_reader_done(reader))
        return lend_fail(error, LEND_E_CORRUPT, "%s of %zu bytes", what, count);
    if (version == 0)
        return lend_fail(error, LEND_E_CORRUPT, "%s of version 0", what);
    return LEND_OK;
}

enum lend_status lend_challenge_decode(const void *bytes, size_t count, struct lend_challenge *out,
                                       struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_challenge challenge = {.version = lend_read_u32(&reader)};

    lend_read_bytes(&reader, challenge.nonce, sizeof challenge.nonce);
    enum lend_status status = finish(&reader, "a CHALLENGE", count, challenge.version, error);
    if (status == LEND_OK)
        *out = challenge;
    return status;
}

enum lend_status lend_answer_decode(const void *bytes, size_t count, struct lend_challenge *out,
                                    struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_challenge answer = {.version = lend_read_u32(&reader)};

    lend_read_bytes(&reader, answer.nonce, sizeof answer.nonce);
    lend_read_bytes(&reader, answer.proof, sizeof answer.proof);
    enum lend_status status = finish(&reader, "an ANSWER", count, answer.version, error);
    if (status == LEND_OK)
        *out = answer;
    return status;
}

void lend_transcript_encode(const struct lend_challenge *challenge,
                            const struct lend_challenge *answer, bool is_sealed,
                            uint8_t out[LEND_TRANSCRIPT_BYTES])
{
    struct lend_writer writer = lend_writer_init(out, LEND_TRANSCRIPT_BYTES);

    lend_write_bytes(&writer, is_sealed ? sealed_label : proofs_label, sizeof sealed_label - 1);
    lend_write_u32(&writer, challenge->version);
    lend_write_u32(&writer, answer->version);
    lend_write_bytes(&writer, challenge->nonce, sizeof challenge->nonce);
    lend_write_bytes(&writer, answer->nonce, sizeof answer->nonce);
}
