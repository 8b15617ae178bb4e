/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/message.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/writer.h"

#include <string.h>

enum { VERSION = 6, TOLD_HEAD_BYTES = 17, PIECE_BYTES = 20 };

/* As the machine stores it: words of leases are read as they lie. */
#define ORDER_MARK UINT64_C(0x0102030405060708)

uint8_t lend_verbs_message_kind(const uint8_t *bytes, size_t count)
{
    return count > 0 ? bytes[0] & 0x0f : 0;
}

uint32_t lend_verbs_message_leg(const uint8_t *bytes, size_t count)
{
    return count > 0 ? bytes[0] >> 4 : 0;
}

void lend_verbs_message_set_leg(uint8_t *bytes, uint32_t leg)
{
    bytes[0] = (uint8_t)(bytes[0] | leg << 4);
}

/* --- offers --- */

size_t lend_verbs_offer_encode(const struct lend_verbs_offer *offer, bool is_answer, uint8_t *bytes,
                               size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);
    const uint64_t mark = ORDER_MARK;

    lend_write_u8(&writer, is_answer ? LEND_VERBS_ANSWER : LEND_VERBS_CALL);
    lend_write_u8(&writer, VERSION);
    lend_write_u32(&writer, offer->round);
    lend_write_bytes(&writer, &mark, sizeof mark);
    lend_write_bytes(&writer, offer->gid, sizeof offer->gid);
    lend_write_u16(&writer, offer->lid);
    lend_write_u8(&writer, offer->link_layer);
    lend_write_u8(&writer, offer->mtu);
    lend_write_u8(&writer, offer->reads);
    lend_write_u8(&writer, offer->lane_count);
    for (uint32_t i = 0; i < offer->lane_count; i++) {
        lend_write_u32(&writer, offer->lanes[i].number);
        lend_write_u32(&writer, offer->lanes[i].first_psn);
    }
    lend_write_u32(&writer, offer->rate_mbps);
    if (is_answer) {
        lend_write_u64(&writer, offer->words_address);
        lend_write_u64(&writer, offer->words_bytes);
        lend_write_u32(&writer, offer->words_rkey);
        lend_write_u8(&writer, offer->note_count);
    }
    return writer.count;
}

static enum lend_status check_offer(const struct lend_verbs_offer *offer, struct lend_error *error)
{
    if (offer->lane_count == 0 || offer->mtu < 1 || offer->mtu > 5 || offer->reads == 0)
        return lend_fail(error, LEND_E_CORRUPT,
                         "a rail of %u queue pairs, MTU %u and %u reads at one time",
                         offer->lane_count, offer->mtu, offer->reads);
    for (uint32_t i = 0; i < offer->lane_count; i++)
        if (offer->lanes[i].number >> 24 != 0 || offer->lanes[i].first_psn >> 24 != 0)
            return lend_fail(error, LEND_E_CORRUPT, "queue pair 0x%x with first number 0x%x",
                             offer->lanes[i].number, offer->lanes[i].first_psn);
    if (offer->words_address % sizeof(uint64_t) != 0 ||
        offer->words_bytes > UINT64_MAX - offer->words_address)
        return lend_fail(error, LEND_E_CORRUPT, "words of leases at 0x%llx + %llu",
                         (unsigned long long)offer->words_address,
                         (unsigned long long)offer->words_bytes);
    return LEND_OK;
}

enum lend_status lend_verbs_offer_decode(const uint8_t *bytes, size_t count, bool is_answer,
                                         struct lend_verbs_offer *out, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_verbs_offer offer = {0};
    uint64_t mark = 0;

    (void)lend_read_u8(&reader);
    uint8_t version = lend_read_u8(&reader);
    offer.round = lend_read_u32(&reader);
    lend_read_bytes(&reader, &mark, sizeof mark);
    if (!reader.bad && (version != VERSION || mark != ORDER_MARK)) {
        out->round = offer.round;
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         version != VERSION ? "its rails are of version %u"
                                            : "its processor orders bytes otherwise (version %u)",
                         version);
    }
    lend_read_bytes(&reader, offer.gid, sizeof offer.gid);
    offer.lid = lend_read_u16(&reader);
    offer.link_layer = lend_read_u8(&reader);
    offer.mtu = lend_read_u8(&reader);
    offer.reads = lend_read_u8(&reader);
    offer.lane_count = lend_read_u8(&reader);
    if (offer.lane_count > LEND_VERBS_LANES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a rail of %u queue pairs", offer.lane_count);
    for (uint32_t i = 0; i < offer.lane_count; i++) {
        offer.lanes[i].number = lend_read_u32(&reader);
        offer.lanes[i].first_psn = lend_read_u32(&reader);
    }
    offer.rate_mbps = lend_read_u32(&reader);
    if (is_answer) {
        offer.words_address = lend_read_u64(&reader);
        offer.words_bytes = lend_read_u64(&reader);
        offer.words_rkey = lend_read_u32(&reader);
        offer.note_count = lend_read_u8(&reader);
    }
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "the offer of a rail in %zu bytes", count);
    enum lend_status status = check_offer(&offer, error);
    if (status == LEND_OK)
        *out = offer;
    return status;
}

/* --- refusals --- */

size_t lend_verbs_refusal_encode(uint32_t round, const char *reason, uint8_t *bytes,
                                 size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, LEND_VERBS_REFUSAL);
    lend_write_u32(&writer, round);
    lend_write_bytes(&writer, reason, strnlen(reason, LEND_VERBS_REASON_MAX));
    return writer.count;
}

/* All that is left, with nothing in it that a terminal would act upon. False: it is too long. */
static bool read_reason(struct lend_reader *reader, char reason[LEND_VERBS_REASON_MAX + 1])
{
    size_t length = reader->left;

    if (reader->bad || length > LEND_VERBS_REASON_MAX)
        return false;
    lend_read_bytes(reader, reason, length);
    reason[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)reason[i] < 0x20 || (unsigned char)reason[i] >= 0x7f)
            reason[i] = '?';
    return true;
}

enum lend_status lend_verbs_refusal_decode(const uint8_t *bytes, size_t count, uint32_t *out_round,
                                           char reason[LEND_VERBS_REASON_MAX + 1],
                                           struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    (void)lend_read_u8(&reader);
    uint32_t round = lend_read_u32(&reader);
    if (!read_reason(&reader, reason))
        return lend_fail(error, LEND_E_CORRUPT, "the refusal of a rail in %zu bytes", count);
    *out_round = round;
    return LEND_OK;
}

/* --- keys --- */

static void write_pieces(struct lend_writer *writer, const struct lend_verbs_piece *pieces,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        lend_write_u64(writer, pieces[i].address);
        lend_write_u64(writer, pieces[i].bytes);
        lend_write_u32(writer, pieces[i].rkey);
    }
}

static void read_pieces(struct lend_reader *reader, struct lend_verbs_piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        pieces[i].address = lend_read_u64(reader);
        pieces[i].bytes = lend_read_u64(reader);
        pieces[i].rkey = lend_read_u32(reader);
    }
}

size_t lend_verbs_told_bytes(const struct lend_verbs_told *told)
{
    return TOLD_HEAD_BYTES + (size_t)told->piece_count * PIECE_BYTES;
}

void lend_verbs_told_encode(const struct lend_verbs_told *told, uint8_t *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u64(&writer, told->region_id);
    lend_write_u32(&writer, told->life);
    lend_write_u32(&writer, told->piece_count);
    lend_write_u8(&writer, (uint8_t)told->distance);
    write_pieces(&writer, told->pieces, told->piece_count);
    LEND_INVARIANT(lend_writer_fits(&writer));
}

/* Do its pieces follow each other without a gap? */
static bool is_whole(const struct lend_verbs_told *told)
{
    for (uint32_t i = 0; i < told->piece_count; i++) {
        const struct lend_verbs_piece *piece = &told->pieces[i];

        if (piece->bytes == 0 || piece->bytes > UINT64_MAX - piece->address ||
            (i > 0 && piece->address != piece[-1].address + piece[-1].bytes))
            return false;
    }
    return true;
}

enum lend_status lend_verbs_told_decode(const uint8_t *bytes, size_t count, size_t *at,
                                        struct lend_verbs_told *out, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes + *at, count - *at);
    struct lend_verbs_told told = {0};

    told.region_id = lend_read_u64(&reader);
    told.life = lend_read_u32(&reader);
    told.piece_count = lend_read_u32(&reader);
    told.distance = lend_read_u8(&reader);
    if (told.piece_count == 0 || told.piece_count > LEND_VERBS_PIECES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a region in %u pieces", told.piece_count);
    read_pieces(&reader, told.pieces, told.piece_count);
    if (reader.bad || !is_whole(&told))
        return lend_fail(error, LEND_E_CORRUPT, "the keys of region %llu make no whole",
                         (unsigned long long)told.region_id);
    *at = count - reader.left;
    *out = told;
    return LEND_OK;
}

/* --- grants --- */

size_t lend_verbs_granted_encode(const struct lend_verbs_granted *granted, uint8_t *bytes,
                                 size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, LEND_VERBS_GRANT);
    lend_write_u32(&writer, granted->slot);
    lend_write_u64(&writer, granted->generation);
    lend_write_u8(&writer, granted->is_lost);
    lend_write_bytes(&writer, granted->distances, sizeof granted->distances);
    lend_write_u32(&writer, granted->total);
    lend_write_u32(&writer, granted->first);
    lend_write_u32(&writer, granted->piece_count);
    write_pieces(&writer, granted->pieces, granted->piece_count);
    if (granted->total == 0)
        lend_write_bytes(&writer, granted->why, strnlen(granted->why, LEND_VERBS_REASON_MAX));
    return writer.count;
}

enum lend_status lend_verbs_granted_decode(const uint8_t *bytes, size_t count,
                                           struct lend_verbs_granted *out, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_verbs_granted granted = {0};
    bool is_sound = true;

    (void)lend_read_u8(&reader);
    granted.slot = lend_read_u32(&reader);
    granted.generation = lend_read_u64(&reader);
    granted.is_lost = lend_read_u8(&reader) != 0;
    lend_read_bytes(&reader, granted.distances, sizeof granted.distances);
    granted.total = lend_read_u32(&reader);
    granted.first = lend_read_u32(&reader);
    granted.piece_count = lend_read_u32(&reader);
    if (granted.total > LEND_VERBS_GRANTED_MAX || granted.first > granted.total ||
        granted.piece_count > granted.total - granted.first ||
        granted.piece_count > LEND_VERBS_GRANT_PIECES_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "%u pieces of a lease for writing, from %u of %u on", granted.piece_count,
                         granted.first, granted.total);
    read_pieces(&reader, granted.pieces, granted.piece_count);
    if (granted.total == 0)
        is_sound = read_reason(&reader, granted.why);
    for (uint32_t i = 0; i < granted.piece_count; i++)
        is_sound &= granted.pieces[i].bytes > 0 &&
                    granted.pieces[i].bytes <= UINT64_MAX - granted.pieces[i].address;
    if (!lend_reader_done(&reader) || !is_sound)
        return lend_fail(error, LEND_E_CORRUPT, "what lease %u lets write, in %zu bytes",
                         granted.slot, count);
    *out = granted;
    return LEND_OK;
}

size_t lend_verbs_wish_encode(uint32_t slot, uint64_t generation, uint8_t *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, LEND_VERBS_WISH);
    lend_write_u32(&writer, slot);
    lend_write_u64(&writer, generation);
    return writer.count;
}

enum lend_status lend_verbs_wish_decode(const uint8_t *bytes, size_t count, uint32_t *out_slot,
                                        uint64_t *out_generation, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    (void)lend_read_u8(&reader);
    uint32_t slot = lend_read_u32(&reader);
    uint64_t generation = lend_read_u64(&reader);
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a wish for keys in %zu bytes", count);
    *out_slot = slot;
    *out_generation = generation;
    return LEND_OK;
}

/* --- notifications --- */

size_t lend_verbs_note_encode(uint64_t number, const void *bytes, size_t count, uint8_t *out,
                              size_t capacity)
{
    struct lend_writer writer = lend_writer_init(out, capacity);

    lend_write_u8(&writer, LEND_VERBS_NOTE);
    lend_write_u64(&writer, number);
    lend_write_bytes(&writer, bytes, count);
    return writer.count;
}

enum lend_status lend_verbs_note_decode(const uint8_t *bytes, size_t count, uint64_t *out_number,
                                        const uint8_t **out_bytes, size_t *out_count,
                                        struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    uint8_t kind = lend_read_u8(&reader);
    uint64_t number = lend_read_u64(&reader);
    if (reader.bad || kind != LEND_VERBS_NOTE || number == 0 || count > LEND_VERBS_NOTE_BYTES)
        return lend_fail(error, LEND_E_CORRUPT, "a notification by a rail in %zu bytes", count);
    *out_number = number;
    *out_bytes = bytes + LEND_VERBS_NOTE_HEAD;
    *out_count = count - LEND_VERBS_NOTE_HEAD;
    return LEND_OK;
}

size_t lend_verbs_noted_encode(uint64_t number, uint8_t *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, LEND_VERBS_NOTED);
    lend_write_u64(&writer, number);
    return writer.count;
}

enum lend_status lend_verbs_noted_decode(const uint8_t *bytes, size_t count, uint64_t *out_number,
                                         struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    (void)lend_read_u8(&reader);
    uint64_t number = lend_read_u64(&reader);
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "notifications that came, in %zu bytes", count);
    *out_number = number;
    return LEND_OK;
}

size_t lend_verbs_halt_encode(uint32_t round, uint8_t *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, LEND_VERBS_HALT);
    lend_write_u32(&writer, round);
    return writer.count;
}

enum lend_status lend_verbs_halt_decode(const uint8_t *bytes, size_t count, uint32_t *out_round,
                                        struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);

    (void)lend_read_u8(&reader);
    uint32_t round = lend_read_u32(&reader);
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "the halt of a rail in %zu bytes", count);
    *out_round = round;
    return LEND_OK;
}
