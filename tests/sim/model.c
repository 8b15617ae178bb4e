/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

/* --- leases --- */

struct loan *loan_of(struct sim *sim, const struct lease *lease)
{
    struct party *owner = &sim->parties[lease->owner];
    struct loan *loan = &owner->loans[lease->loan];

    return owner->life == lease->owner_life && loan->life == lease->loan_life &&
                   loan->handle != NULL
               ? loan
               : NULL;
}

void end_lease(struct sim *sim, struct lease *lease)
{
    struct loan *loan = loan_of(sim, lease);
    const struct lend_slice all = {0};

    if (lease->has_ended)
        return;
    lease->has_ended = true;
    if (loan == NULL || (lease->access & LEND_ACCESS_WRITE) == 0)
        return;
    /* Whatever was written by now is what the blocks hold, and nothing may be written from here on.
     */
    uint8_t *bytes = malloc(block_bytes(&loan->geometry));
    for (uint32_t b = 0; b < loan->geometry.count; b++)
        if ((lease->blocks >> b & 1) != 0) {
            copy_block(&loan->geometry, &all, loan->memory, b, bytes, true);
            copy_block(&loan->geometry, &all, loan->shadow, b, bytes, false);
        }
    free(bytes);
}

bool may_be_consumed(const struct sim *sim, const struct lease *lease)
{
    bool may = lease->may_be_consumed;

    /* A consumer whose connection is lost counts as done. */
    for (uint32_t i = 0; i < PARTIES; i++)
        may |= sim->is_lost[lease->owner][i];
    return may && lease->consumer_count > 0;
}

bool lease_lives(struct sim *sim, struct lease *lease)
{
    struct lend_lease_info info = {.struct_size = sizeof info};
    struct lend_error error;

    if (lease->has_ended || lease->owner_life != sim->parties[lease->owner].life)
        return false;
    if (lease->handle == NULL)
        return true;
    if (!expect(sim, lend_lease_describe(lease->handle, &info, &error), LEND_OK, "describe",
                &error))
        return false;
    if (info.status != LEND_OK)
        end_lease(sim, lease);
    return !lease->has_ended;
}

void revoke_leases(struct sim *sim, uint32_t owner, uint32_t loan, uint32_t blocks)
{
    for (uint32_t i = 0; i < sim->lease_count; i++) {
        struct lease *lease = &sim->leases[i];

        if (lease->owner == owner && lease->loan == loan && loan_of(sim, lease) != NULL &&
            (lease->blocks & blocks) != 0)
            lease->may_be_revoked = true;
    }
}

/* --- memory --- */

uint64_t block_bytes(const struct lend_geometry *geometry)
{
    return geometry->block_length_bytes * geometry->inner_count;
}

void copy_block(const struct lend_geometry *geometry, const struct lend_slice *slice,
                uint8_t *memory, uint64_t block, uint8_t *bytes, bool is_out)
{
    uint64_t count = slice->length_bytes > 0 ? slice->length_bytes : geometry->block_length_bytes;

    for (uint64_t row = 0; row < geometry->inner_count; row++) {
        uint8_t *at = memory + block * geometry->stride_bytes + row * geometry->inner_stride_bytes +
                      slice->offset_bytes;

        if (is_out)
            memcpy(bytes + row * count, at, count);
        else
            memcpy(at, bytes + row * count, count);
    }
}

void rewrite_block(struct sim *sim, struct loan *loan, uint64_t block)
{
    const struct lend_slice all = {0};
    uint64_t count = block_bytes(&loan->geometry);
    uint64_t *words = malloc(count);
    uint64_t version = ++sim->version;

    for (uint64_t i = 0; i < count / 8; i++)
        words[i] = version << 32 | block << 24 | i;
    copy_block(&loan->geometry, &all, loan->memory, block, (uint8_t *)words, false);
    copy_block(&loan->geometry, &all, loan->shadow, block, (uint8_t *)words, false);
    free(words);
}

uint8_t source_byte(const struct transfer *transfer, uint64_t at)
{
    return (uint8_t)(transfer->serial * 31 + at * 7 + (at >> 8));
}

/* The blocks of a loan that a peer may be writing to. */
static uint32_t written_blocks(struct sim *sim, const struct loan *loan)
{
    uint32_t blocks = 0;

    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (loan_of(sim, &sim->leases[i]) == loan && !sim->leases[i].has_ended &&
            (sim->leases[i].access & LEND_ACCESS_WRITE) != 0)
            blocks |= sim->leases[i].blocks;
    return blocks;
}

bool check_loan(struct sim *sim, struct party *party, struct loan *loan)
{
    const struct lend_slice all = {0};

    if (loan->memory == NULL)
        return true;
    uint32_t written = written_blocks(sim, loan);
    uint8_t *bytes = malloc(block_bytes(&loan->geometry));
    uint8_t *expected = malloc(loan->bytes);
    memcpy(expected, loan->shadow, loan->bytes);
    for (uint32_t b = 0; b < loan->geometry.count; b++)
        if ((written >> b & 1) != 0) {
            copy_block(&loan->geometry, &all, loan->memory, b, bytes, true);
            copy_block(&loan->geometry, &all, expected, b, bytes, false);
        }
    bool is_same = memcmp(expected, loan->memory, loan->bytes) == 0;
    free(bytes);
    free(expected);
    return is_same ||
           complain(sim, "memory lent by party %u changed outside of what was lent", party->index);
}

bool check_idle(struct sim *sim, struct transfer *transfer)
{
    if (transfer->state != READY)
        return true;
    for (uint64_t i = 0; i < transfer->bytes; i++)
        if (transfer->memory[i] != transfer->fill)
            return complain(sim, "a byte landed, or changed, at %llu after post %u had ended",
                            (unsigned long long)i, transfer->serial);
    return true;
}

bool check_all(struct sim *sim)
{
    bool is_good = sim->report->is_good;

    for (uint32_t i = 0; i < PARTIES; i++) {
        for (uint32_t j = 0; j < LOANS; j++)
            is_good &= check_loan(sim, &sim->parties[i], &sim->parties[i].loans[j]);
        for (uint32_t j = 0; j < TRANSFERS; j++)
            is_good &= check_idle(sim, &sim->parties[i].transfers[j]);
    }
    return is_good;
}

/* --- transfers --- */

static uint64_t bit(enum lend_status status)
{
    return UINT64_C(1) << -(int)status;
}

/* What a transfer that ends now may have come to, beside LEND_OK. */
static uint64_t causes(const struct sim *sim, const struct transfer *transfer)
{
    const struct lease *lease = transfer->lease;
    bool is_gone = transfer->owner_life != sim->parties[transfer->owner].life;
    uint64_t may = 0;

    if (transfer->is_outside)
        may |= bit(LEND_E_OUT_OF_RANGE);
    if (transfer->is_wrong_way || transfer->is_for_another)
        may |= bit(LEND_E_ACCESS);
    if (may_be_consumed(sim, lease))
        may |= bit(LEND_E_CONSUMED);
    if (lease->expires_ns != 0 && now_ns() >= lease->expires_ns)
        may |= bit(LEND_E_EXPIRED);
    if (lease->may_be_revoked || transfer->was_withdrawn)
        may |= bit(LEND_E_REVOKED);
    if (lease->is_superseded)
        may |= bit(LEND_E_STALE);
    if (is_gone || transfer->is_forgotten)
        may |= bit(LEND_E_PEER_DEAD);
    if (now_ns() >= transfer->deadline_ns)
        may |= bit(LEND_E_TIMEOUT);
    if (transfer->was_canceled || transfer->is_forgotten)
        may |= bit(LEND_E_CANCELED);
    if (sim->is_lost[transfer->party][transfer->owner]) /* a greeting has a deadline of its own */
        may |= bit(LEND_E_PEER_DEAD) | bit(LEND_E_TIMEOUT);
    if (lease->named >= 0 && (sim->is_lost[lease->owner][lease->named] ||
                              lease->named_life != sim->parties[lease->named].life))
        may |= bit(LEND_E_PEER_DEAD);
    return may;
}

/* What our memory must hold after `blocks` blocks of a READ have come. */
static uint8_t *expect_memory(const struct transfer *transfer, uint64_t blocks, bool is_zeroed)
{
    const struct lease *lease = transfer->lease;
    const struct lend_geometry *theirs = &lease->owner_geometry;
    const struct lend_slice all = {0};
    uint8_t *bytes = calloc(1, block_bytes(&transfer->geometry));
    uint8_t *expected = malloc(transfer->bytes);

    memset(expected, transfer->fill, transfer->bytes);
    for (uint32_t i = 0; i < blocks; i++) {
        if (!is_zeroed)
            copy_block(theirs, &transfer->slice, lease->snapshot,
                       (uint64_t)transfer->remote_blocks[i], bytes, true);
        copy_block(&transfer->geometry, &all, expected, (uint64_t)transfer->local_blocks[i], bytes,
                   false);
    }
    free(bytes);
    return expected;
}

static bool check_read(struct sim *sim, const struct transfer *transfer, enum lend_status status,
                       uint64_t proven)
{
    const struct lend_slice all = {0};
    bool is_zeroed = status != LEND_OK && (transfer->flags & LEND_TRANSFER_ZERO_ON_FAILURE) != 0;
    uint64_t known = status == LEND_OK || is_zeroed ? transfer->count : proven;

    if (is_zeroed && transfer->was_withdrawn)
        known = 0; /* the zeroing may have been cut short */
    uint8_t *expected = expect_memory(transfer, known, is_zeroed);
    uint8_t *bytes = malloc(block_bytes(&transfer->geometry));

    /* After a failure the blocks that are not proven hold whatever they hold. */
    for (uint64_t i = known; i < transfer->count; i++) {
        copy_block(&transfer->geometry, &all, transfer->memory, (uint64_t)transfer->local_blocks[i],
                   bytes, true);
        copy_block(&transfer->geometry, &all, expected, (uint64_t)transfer->local_blocks[i], bytes,
                   false);
    }
    bool is_same = memcmp(expected, transfer->memory, transfer->bytes) == 0;
    free(bytes);
    free(expected);
    return is_same ||
           complain(sim,
                    "post %u, a READ of %u blocks: %s, %llu proven, with bytes that the lease "
                    "never covered",
                    transfer->serial, transfer->count, lend_status_name(status),
                    (unsigned long long)proven);
}

/* A WRITE has not touched our memory; and what it says is written is there. */
static bool check_write(struct sim *sim, const struct transfer *transfer, enum lend_status status)
{
    struct loan *loan = loan_of(sim, transfer->lease);
    const struct lend_slice all = {0};
    uint64_t count = block_bytes(&transfer->geometry);
    bool is_good = true;

    for (uint64_t i = 0; i < transfer->bytes; i++)
        if (transfer->memory[i] != source_byte(transfer, i))
            return complain(sim, "post %u, a WRITE, changed what it reads", transfer->serial);
    if (status != LEND_OK || loan == NULL || transfer->lease->has_ended ||
        transfer->lease->is_written)
        return true;
    uint8_t *ours = malloc(count), *theirs = malloc(count);
    for (uint32_t i = 0; i < transfer->count && is_good; i++) {
        copy_block(&transfer->geometry, &all, transfer->memory, (uint64_t)transfer->local_blocks[i],
                   ours, true);
        copy_block(&loan->geometry, &transfer->slice, loan->memory,
                   (uint64_t)transfer->remote_blocks[i], theirs, true);
        is_good = memcmp(ours, theirs, count) == 0;
    }
    free(ours);
    free(theirs);
    return is_good ||
           complain(sim, "post %u, a WRITE, is LEND_OK and not in place", transfer->serial);
}

static bool check_record(struct sim *sim, const struct transfer *transfer, enum lend_status status,
                         struct lend_transfer_record *record)
{
    struct lend_error error = {0};
    uint64_t total = transfer->count * block_bytes(&transfer->geometry);

    *record = (struct lend_transfer_record){.struct_size = sizeof *record};
    if (!expect(sim, lend_transfer_describe(transfer->handle, record, &error), LEND_OK, "record",
                &error))
        return false;
    if (record->status != status || record->user_data != transfer->serial ||
        (status == LEND_OK && (record->bytes != total || record->blocks != transfer->count)) ||
        record->blocks > transfer->count || record->bytes > total)
        return complain(sim, "post %u: the record says %s, %llu bytes, %llu blocks of %u",
                        transfer->serial, lend_status_name(record->status),
                        (unsigned long long)record->bytes, (unsigned long long)record->blocks,
                        transfer->count);
    if (status != LEND_OK && error.message[0] == '\0')
        return complain(sim, "post %u: %s without a reason", transfer->serial,
                        lend_status_name(status));
    return true;
}

/* Whatever is done is done: the memory is ours again, and nothing may touch it. */
static void make_idle(struct transfer *transfer)
{
    transfer->state = READY;
    transfer->fill = (uint8_t)(transfer->serial * 7 + 3);
    memset(transfer->memory, transfer->fill, transfer->bytes);
}

bool settle(struct sim *sim, struct transfer *transfer, enum lend_status status)
{
    struct post *post = &sim->posts[transfer->serial];
    struct lend_transfer_record record;
    bool is_known = status == LEND_OK || (status < 0 && status > -64);

    note(sim, (uint64_t)transfer->serial << 8 | (uint8_t)-status);
    tell(sim, "post %u ends: %s", transfer->serial, lend_status_name(status));
    if (!is_known || (status != LEND_OK && (causes(sim, transfer) & bit(status)) == 0))
        return complain(sim, "post %u ended as %s, for which there is no cause", transfer->serial,
                        lend_status_name(status));
    if (status == LEND_OK && (transfer->was_over || transfer->is_outside ||
                              transfer->is_wrong_way || transfer->is_for_another))
        return complain(sim, "post %u is LEND_OK without a lease that permits it",
                        transfer->serial);
    if (!check_record(sim, transfer, status, &record))
        return false;
    if (transfer->direction == LEND_WRITE) {
        transfer->lease->writes--;
        if (!check_write(sim, transfer, status))
            return false;
        if (status != LEND_OK)
            transfer->lease->is_written = true;
    } else if (!check_read(sim, transfer, status, record.blocks)) {
        return false;
    }
    sim->report->ends[-status]++;
    sim->report->bytes += status == LEND_OK ? record.bytes : 0;
    post->was_good = status == LEND_OK;
    post->was_bad = status != LEND_OK;
    if (post->was_bad && post->is_heard)
        return complain(sim, "post %u has failed, and its notification came", transfer->serial);
    make_idle(transfer);
    return true;
}

/* --- notifications --- */

static bool hear_of_post(struct sim *sim, uint32_t serial)
{
    struct post *post = &sim->posts[serial % SERIALS_MAX];

    if (!post->has_notification || post->is_heard || post->was_bad)
        return complain(sim, "the notification of post %u came twice, or was never to come",
                        serial);
    post->is_heard = true;
    return true;
}

bool hear(struct sim *sim, struct party *party, const struct lend_notification_info *info,
          const uint8_t *bytes, size_t count)
{
    struct message message;

    if (count < sizeof message)
        return complain(sim, "a notification of %zu bytes", count);
    memcpy(&message, bytes, sizeof message);
    note(sim, (uint64_t)message.sender << 32 | message.number << 16 | message.serial);
    for (size_t i = sizeof message; i < count; i++)
        if (bytes[i] != (uint8_t)(i + message.serial + message.number))
            return complain(sim, "a notification has a byte that nobody sent");
    if (message.sender >= PARTIES || message.receiver_life != party->life ||
        memcmp(info->incarnation, sim->parties[message.sender].incarnations[message.sender_life],
               LEND_INCARNATION_BYTES) != 0)
        return complain(sim, "party %u has a notification that was for another", party->index);
    sim->report->notifications++;
    tell(sim, "party %u hears party %u: %u, of post %u", party->index, message.sender,
         message.number, message.serial);
    if (message.serial != 0)
        return hear_of_post(sim, message.serial);
    if (message.sender_life != sim->parties[message.sender].life)
        return true; /* the last words of the dead */
    uint32_t *last = &sim->heard[party->index][message.sender];
    bool may_skip = sim->is_lost[party->index][message.sender];
    if (message.number <= *last || (message.number != *last + 1 && !may_skip))
        return complain(sim, "party %u has notification %u of party %u after %u", party->index,
                        message.number, message.sender, *last);
    *last = message.number;
    return true;
}
