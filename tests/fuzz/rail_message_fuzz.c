/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no message of a rail can crash us, and what is accepted obeys its limits and says the same
 * when it is written again. Method: the input is a message; its first byte says which.
 */

#include "fuzz/fuzz.h"
#include "transport/verbs/message.h"
#include "wire/frame.h"

enum { ROOM = LEND_FRAME_MESSAGE_MAX, IS_LOST_AT = 13 };

static bool was_accepted(enum lend_status status, const struct lend_error *error, const void *out,
                         size_t out_bytes)
{
    if (status == LEND_OK)
        return true;
    CHECK(status == LEND_E_CORRUPT);
    CHECK(error->status == status && error->message[0] != '\0');
    CHECK(is_painted(out, out_bytes));
    return false;
}

static void check_pieces(const struct lend_verbs_piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        CHECK(pieces[i].bytes > 0 && pieces[i].bytes <= UINT64_MAX - pieces[i].address);
}

static void try_offer(const uint8_t *bytes, size_t count, bool is_answer)
{
    struct lend_verbs_offer offer;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&offer, PAINT, sizeof offer);
    enum lend_status status = lend_verbs_offer_decode(bytes, count, is_answer, &offer, &error);
    if (status == LEND_E_UNSUPPORTED) /* of which the round is told, to be refused */
        return;
    if (!was_accepted(status, &error, &offer, sizeof offer))
        return;
    CHECK(offer.lane_count >= 1 && offer.lane_count <= LEND_VERBS_LANES_MAX);
    CHECK(offer.mtu >= 1 && offer.mtu <= 5 && offer.reads > 0);
    for (uint32_t i = 0; i < offer.lane_count; i++)
        CHECK(offer.lanes[i].number >> 24 == 0 && offer.lanes[i].first_psn >> 24 == 0);
    CHECK(offer.words_address % sizeof(uint64_t) == 0);
    CHECK(offer.words_bytes <= UINT64_MAX - offer.words_address);
    CHECK(lend_verbs_offer_encode(&offer, is_answer, written, ROOM) == count);
    lend_verbs_message_set_leg(written, lend_verbs_message_leg(bytes, count));
    CHECK(memcmp(written, bytes, count) == 0);
}

static void check_reason(const char *reason)
{
    for (const char *at = reason; *at != '\0'; at++)
        CHECK((uint8_t)*at >= 0x20 && (uint8_t)*at < 0x7f);
}

static void try_refusal(const uint8_t *bytes, size_t count)
{
    char reason[LEND_VERBS_REASON_MAX + 1];
    struct lend_error error;
    uint32_t round;

    if (lend_verbs_refusal_decode(bytes, count, &round, reason, &error) != LEND_OK)
        return;
    CHECK(memchr(reason, '\0', sizeof reason) != NULL);
    check_reason(reason);
}

static void try_keys(const uint8_t *bytes, size_t count)
{
    for (size_t at = 1; at < count;) {
        struct lend_verbs_told told;
        struct lend_error error;
        uint8_t written[ROOM];
        size_t before = at;

        memset(&told, PAINT, sizeof told);
        enum lend_status status = lend_verbs_told_decode(bytes, count, &at, &told, &error);
        if (!was_accepted(status, &error, &told, sizeof told)) {
            CHECK(at == before);
            return;
        }
        CHECK(at > before && at <= count && at - before == lend_verbs_told_bytes(&told));
        CHECK(told.piece_count >= 1 && told.piece_count <= LEND_VERBS_PIECES_MAX);
        check_pieces(told.pieces, told.piece_count);
        lend_verbs_told_encode(&told, written, ROOM);
        CHECK(memcmp(written, bytes + before, at - before) == 0);
    }
}

static void try_grant(const uint8_t *bytes, size_t count)
{
    struct lend_verbs_granted granted;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&granted, PAINT, sizeof granted);
    enum lend_status status = lend_verbs_granted_decode(bytes, count, &granted, &error);
    if (!was_accepted(status, &error, &granted, sizeof granted))
        return;
    CHECK(granted.piece_count <= LEND_VERBS_GRANT_PIECES_MAX);
    CHECK(granted.total <= LEND_VERBS_GRANTED_MAX && granted.first <= granted.total);
    CHECK(granted.piece_count <= granted.total - granted.first);
    CHECK(memchr(granted.why, '\0', sizeof granted.why) != NULL);
    check_pieces(granted.pieces, granted.piece_count);
    check_reason(granted.why);
    if (granted.total == 0) /* what it says may have been mended, or have ended before its end */
        return;
    CHECK(lend_verbs_granted_encode(&granted, written, ROOM) == count);
    lend_verbs_message_set_leg(written, lend_verbs_message_leg(bytes, count));
    CHECK((written[IS_LOST_AT] != 0) == (bytes[IS_LOST_AT] != 0));
    written[IS_LOST_AT] = bytes[IS_LOST_AT];
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_halt(const uint8_t *bytes, size_t count)
{
    struct lend_error error;
    uint8_t written[ROOM];
    uint32_t round;

    memset(&round, PAINT, sizeof round);
    enum lend_status status = lend_verbs_halt_decode(bytes, count, &round, &error);
    if (!was_accepted(status, &error, &round, sizeof round))
        return;
    CHECK(lend_verbs_halt_encode(round, written, ROOM) == count);
    lend_verbs_message_set_leg(written, lend_verbs_message_leg(bytes, count));
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_wish(const uint8_t *bytes, size_t count)
{
    struct lend_error error;
    uint8_t written[ROOM];
    struct {
        uint64_t generation;
        uint32_t slot;
    } wish;

    memset(&wish, PAINT, sizeof wish);
    enum lend_status status =
        lend_verbs_wish_decode(bytes, count, &wish.slot, &wish.generation, &error);
    if (!was_accepted(status, &error, &wish, sizeof wish))
        return;
    CHECK(lend_verbs_wish_encode(wish.slot, wish.generation, written, ROOM) == count);
    lend_verbs_message_set_leg(written, lend_verbs_message_leg(bytes, count));
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_note(const uint8_t *bytes, size_t count)
{
    const uint8_t *said = NULL;
    struct lend_error error;
    uint8_t written[ROOM];
    uint64_t number;
    size_t length = 0;

    memset(&number, PAINT, sizeof number);
    enum lend_status status = lend_verbs_note_decode(bytes, count, &number, &said, &length, &error);
    if (!was_accepted(status, &error, &number, sizeof number))
        return;
    CHECK(number > 0 && said == bytes + LEND_VERBS_NOTE_HEAD);
    CHECK(lend_verbs_note_encode(number, said, length, written, ROOM) == count);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_noted(const uint8_t *bytes, size_t count)
{
    struct lend_error error;
    uint8_t written[ROOM];
    uint64_t number;

    memset(&number, PAINT, sizeof number);
    enum lend_status status = lend_verbs_noted_decode(bytes, count, &number, &error);
    if (!was_accepted(status, &error, &number, sizeof number))
        return;
    CHECK(lend_verbs_noted_encode(number, written, ROOM) == count);
    lend_verbs_message_set_leg(written, lend_verbs_message_leg(bytes, count));
    CHECK(memcmp(written, bytes, count) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    switch (lend_verbs_message_kind(bytes, count)) {
    case LEND_VERBS_CALL: try_offer(bytes, count, false); break;
    case LEND_VERBS_ANSWER: try_offer(bytes, count, true); break;
    case LEND_VERBS_REFUSAL: try_refusal(bytes, count); break;
    case LEND_VERBS_KEYS: try_keys(bytes, count); break;
    case LEND_VERBS_GRANT: try_grant(bytes, count); break;
    case LEND_VERBS_HALT: try_halt(bytes, count); break;
    case LEND_VERBS_WISH: try_wish(bytes, count); break;
    case LEND_VERBS_NOTE: try_note(bytes, count); break;
    case LEND_VERBS_NOTED: try_noted(bytes, count); break;
    default: break;
    }
    return 0;
}
