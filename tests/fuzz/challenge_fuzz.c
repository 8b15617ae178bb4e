/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: nothing that strangers say where a proof of the secret is due can crash us, and what is
 * accepted says the same when it is written again. Method: the first byte of the input chooses the
 * message, the rest is its payload.
 */

#include "fuzz/fuzz.h"
#include "wire/challenge.h"

#include <lend/lend.h>

static void try_challenge(const uint8_t *bytes, size_t count)
{
    struct lend_challenge challenge;
    struct lend_error error;
    uint8_t written[LEND_CHALLENGE_BYTES];

    memset(&challenge, PAINT, sizeof challenge);
    if (lend_challenge_decode(bytes, count, &challenge, &error) != LEND_OK) {
        CHECK(error.status == LEND_E_CORRUPT && error.message[0] != '\0');
        CHECK(is_painted(&challenge, sizeof challenge));
        return;
    }
    CHECK(count == LEND_CHALLENGE_BYTES && challenge.version > 0);
    lend_challenge_encode(&challenge, written);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_answer(const uint8_t *bytes, size_t count)
{
    struct lend_challenge answer;
    struct lend_error error;
    uint8_t written[LEND_ANSWER_BYTES];

    memset(&answer, PAINT, sizeof answer);
    if (lend_answer_decode(bytes, count, &answer, &error) != LEND_OK) {
        CHECK(error.status == LEND_E_CORRUPT && error.message[0] != '\0');
        CHECK(is_painted(&answer, sizeof answer));
        return;
    }
    CHECK(count == LEND_ANSWER_BYTES && answer.version > 0);
    lend_answer_encode(&answer, written);
    CHECK(memcmp(written, bytes, count) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count > 0 && count - 1 <= LEND_FRAME_CONTROL_MAX) {
        uint8_t *payload = copy_bytes(bytes + 1, count - 1);

        (bytes[0] % 2 == 0 ? try_challenge : try_answer)(payload, count - 1);
        free(payload);
    }
    return 0;
}
