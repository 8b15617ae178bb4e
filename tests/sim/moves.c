/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "transport/loopback/fabric.h"

#include <stdlib.h>
#include <string.h>

/* What readers do. */

/* --- acquaintances --- */

static bool meet(struct sim *sim, struct party *party, struct party *other)
{
    struct acquaintance *known = &party->others[other->index];
    struct lend_peer *peer = NULL;
    struct lend_error error;
    size_t count = 0;
    uint8_t *bytes = malloc(LEND_METADATA_BYTES_MAX / 256);

    enum lend_status status =
        lend_metadata_export(other->agent, bytes, LEND_METADATA_BYTES_MAX / 256, &count, &error);
    if (expect(sim, status, LEND_OK, "export metadata", &error)) {
        status = lend_peer_import(party->agent, bytes, count, &peer, &error);
        (void)expect(sim, status, LEND_OK, "import metadata", &error);
    }
    free(bytes);
    if (peer == NULL)
        return false;
    if (known->peer == NULL || known->life == other->life) {
        if (known->peer != NULL && known->peer != peer)
            return complain(sim, "one incarnation has two handles");
        if (known->peer == peer)
            lend_peer_forget(peer);
        if (known->life != other->life)
            known->sent = 0;
        known->peer = peer;
        known->life = other->life;
        return true;
    }
    if (known->peer == peer)
        return complain(sim, "two incarnations have one handle");
    lend_peer_forget(peer); /* we go on with the old one until we forget it */
    return true;
}

static bool forget(struct sim *sim, struct party *party, struct party *other)
{
    struct acquaintance *known = &party->others[other->index];

    if (known->peer == NULL)
        return true;
    /* What is named to it goes on; what goes to it does not. */
    for (uint32_t i = 0; i < TRANSFERS; i++)
        if (party->transfers[i].state == POSTED && party->transfers[i].owner == other->index)
            party->transfers[i].is_forgotten = true;
    if (known->life == other->life)
        sim->is_lost[party->index][other->index] = sim->is_lost[other->index][party->index] = true;
    lend_peer_forget(known->peer);
    note(sim, known->life);
    tell(sim, "party %u forgets party %u", party->index, other->index);
    known->peer = NULL;
    return true;
}

/* --- transfers --- */

void free_transfer(struct transfer *transfer)
{
    if (transfer->state == POSTED && transfer->direction == LEND_WRITE) {
        transfer->lease->writes--;
        transfer->lease->is_written = true;
    }
    free(transfer->memory);
    *transfer = (struct transfer){0};
}

/* A region of ours with blocks of as many bytes, in whatever rows. */
static bool make_region(struct sim *sim, struct party *party, struct transfer *transfer,
                        uint64_t rows, uint64_t row_bytes)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_geometry *geometry = &transfer->geometry;
    struct lend_error error;

    *geometry = (struct lend_geometry){
        .block_length_bytes = row_bytes, .count = BLOCKS_MAX, .inner_count = rows};
    if (chance(sim, 50)) {
        geometry->block_length_bytes = rows * row_bytes;
        geometry->inner_count = 1;
    }
    geometry->inner_stride_bytes = geometry->block_length_bytes;
    geometry->stride_bytes = rows * row_bytes + (chance(sim, 30) ? 24 : 0);
    transfer->bytes = geometry->count * geometry->stride_bytes;
    transfer->memory = malloc(transfer->bytes);
    memset(transfer->memory, transfer->fill, transfer->bytes);

    desc.geometry = *geometry;
    desc.flags = LEND_REGION_ALLOW_OVERLAP;
    enum lend_status status =
        lend_memory_system(transfer->memory, transfer->bytes, &desc.memory, &error);
    if (!expect(sim, status, LEND_OK, "describe memory", &error))
        return false;
    status = lend_region_register(party->agent, &desc, 1, &transfer->region, NULL, &error);
    return expect(sim, status, LEND_OK, "register", &error);
}

static struct lease *any_ticket(struct sim *sim, const struct party *party)
{
    for (int tries = 0; tries < 6 && sim->lease_count > 0; tries++) {
        /* Of late ones, mostly. */
        uint32_t back =
            (uint32_t)draw(sim, chance(sim, 80) && sim->lease_count > 6 ? 6 : sim->lease_count);
        struct lease *lease = &sim->leases[sim->lease_count - 1 - back];

        if (party->others[lease->owner].peer != NULL && lease->writes == 0 &&
            (lease_lives(sim, lease) || chance(sim, 15)))
            return lease;
    }
    return NULL;
}

/* Import the ticket: it must be of the incarnation that we know. */
static bool take_ticket(struct sim *sim, struct transfer *transfer)
{
    const struct lease *lease = transfer->lease;
    struct party *party = &sim->parties[transfer->party];
    struct acquaintance *known = &party->others[lease->owner];
    struct lend_error error;

    enum lend_status status = lend_ticket_import(known->peer, lease->ticket, lease->ticket_bytes,
                                                 &transfer->ticket, &error);
    return expect(sim, status, known->life == lease->owner_life ? LEND_OK : LEND_E_UNKNOWN,
                  "import a ticket", &error);
}

/* Which way, and which part of the rows. */
static void choose_part(struct sim *sim, struct transfer *transfer, const struct loan *loan)
{
    const struct lease *lease = transfer->lease;
    uint64_t row_bytes = lease->owner_geometry.block_length_bytes;
    bool is_write = lease->access == LEND_ACCESS_WRITE;

    transfer->is_wrong_way =
        chance(sim, 4) && loan->access == (LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    transfer->direction = is_write != transfer->is_wrong_way ? LEND_WRITE : LEND_READ;
    if (transfer->direction == LEND_READ && chance(sim, 25))
        transfer->flags = LEND_TRANSFER_ZERO_ON_FAILURE;
    if (chance(sim, 25) && row_bytes >= 16) {
        transfer->slice.length_bytes = 8 * (1 + draw(sim, row_bytes / 8 - 1));
        transfer->slice.offset_bytes =
            8 * draw(sim, (row_bytes - transfer->slice.length_bytes) / 8 + 1);
    }
}

static bool prepare(struct sim *sim, struct party *party, struct transfer *transfer)
{
    struct lease *lease = any_ticket(sim, party);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error;

    if (lease == NULL)
        return true;
    const struct lend_geometry *theirs = &lease->owner_geometry;
    struct loan *loan = loan_of(sim, lease);
    *transfer = (struct transfer){.lease = lease,
                                  .party = party->index,
                                  .owner = lease->owner,
                                  .owner_life = lease->owner_life,
                                  .fill = (uint8_t)draw(sim, 256)};
    if (!take_ticket(sim, transfer))
        return false;
    if (transfer->ticket == NULL || loan == NULL)
        goto nothing; /* it was of another incarnation, or of a region that is gone */

    choose_part(sim, transfer, loan);
    uint64_t row_bytes = transfer->slice.length_bytes > 0 ? transfer->slice.length_bytes
                                                          : theirs->block_length_bytes;
    if (!make_region(sim, party, transfer, theirs->inner_count, row_bytes))
        return false;
    desc.flags = transfer->flags;
    desc.direction = transfer->direction;
    desc.region_count = 1;
    desc.peer = party->others[lease->owner].peer;
    desc.local_regions = &transfer->region;
    desc.remote_regions = &loan->id;
    desc.remote_slice = transfer->slice;
    desc.block_count_max = BLOCKS_MAX;
    enum lend_status status = lend_transfer_prepare(party->agent, &desc, &transfer->handle, &error);
    if (status == LEND_OK) {
        transfer->state = READY;
        note(sim, 3);
        return true;
    }
    /* Our metadata may be older than the region. */
    if (status != LEND_E_UNKNOWN && !expect(sim, status, LEND_OK, "prepare", &error))
        return false;
    status = lend_region_deregister(transfer->region, &error);
    if (!expect(sim, status, LEND_OK, "deregister ours", &error))
        return false;
nothing:
    lend_ticket_release(transfer->ticket);
    free_transfer(transfer);
    return true;
}

/* Blocks of the lease, each once on our side, in any order; rarely one that is not leased. */
static void choose_blocks(struct sim *sim, struct transfer *transfer)
{
    const struct lease *lease = transfer->lease;
    uint32_t wanted = chance(sim, 50) ? BLOCKS_MAX : 1 + (uint32_t)draw(sim, BLOCKS_MAX);
    uint32_t turn = (uint32_t)draw(sim, BLOCKS_MAX);

    transfer->count = 0;
    transfer->is_outside = false;
    for (uint32_t i = 0; i < lease->owner_geometry.count && transfer->count < wanted; i++)
        if ((lease->blocks >> i & 1) != 0) {
            transfer->local_blocks[transfer->count] =
                (int32_t)((transfer->count * 7 + turn) % BLOCKS_MAX);
            transfer->remote_blocks[transfer->count++] = (int32_t)i;
        }
    for (uint32_t i = 0; i < lease->owner_geometry.count && chance(sim, 4); i++)
        if ((lease->blocks >> i & 1) == 0) {
            transfer->remote_blocks[draw(sim, transfer->count)] = (int32_t)i;
            transfer->is_outside = true;
        }
}

static void describe_post(struct sim *sim, struct party *party, struct transfer *transfer,
                          struct post *post)
{
    struct lease *lease = transfer->lease;

    *post = (struct post){.has_notification = chance(sim, 30),
                          .sender = party->index,
                          .sender_life = party->life,
                          .receiver = transfer->owner,
                          .receiver_life = transfer->owner_life};
    transfer->is_for_another = lease->named >= 0 && ((uint32_t)lease->named != party->index ||
                                                     lease->named_life != party->life);
    transfer->was_over = !lease_lives(sim, lease);
    transfer->was_canceled = transfer->is_forgotten = false;
    transfer->has_notification = post->has_notification;
    if (transfer->direction == LEND_WRITE)
        for (uint64_t i = 0; i < transfer->bytes; i++)
            transfer->memory[i] = source_byte(transfer, i);
}

static size_t write_message(const struct message *message, uint8_t *bytes, size_t extra)
{
    memcpy(bytes, message, sizeof *message);
    for (size_t i = sizeof *message; i < sizeof *message + extra; i++)
        bytes[i] = (uint8_t)(i + message->serial + message->number);
    return sizeof *message + extra;
}

/* A post that is refused has changed nothing. */
static bool refuse(struct sim *sim, struct transfer *transfer, enum lend_status status,
                   const struct lend_error *error)
{
    const struct party *party = &sim->parties[transfer->party];
    bool may_be_dead = transfer->owner_life != sim->parties[transfer->owner].life ||
                       sim->is_lost[transfer->party][transfer->owner] ||
                       party->others[transfer->owner].peer == NULL;

    note(sim, (uint64_t)(int64_t)status);
    memset(transfer->memory, transfer->fill, transfer->bytes);
    if ((status == LEND_E_PEER_DEAD && may_be_dead) || (status == LEND_E_TIMEOUT && may_be_dead) ||
        (status == LEND_E_REVOKED && transfer->was_withdrawn) ||
        (status == LEND_E_BUSY && transfer->has_notification))
        return true;
    return expect(sim, status, LEND_OK, "post", error);
}

static bool post_transfer(struct sim *sim, struct party *party, struct transfer *transfer)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lease *lease = transfer->lease;
    uint8_t bytes[64];
    struct lend_error error;

    if (sim->serial + 1 >= SERIALS_MAX || (transfer->direction == LEND_WRITE && lease->writes > 0))
        return true;
    choose_blocks(sim, transfer);
    transfer->serial = ++sim->serial;
    struct post *post = &sim->posts[transfer->serial];
    describe_post(sim, party, transfer, post);
    const struct message message = {.sender = party->index,
                                    .sender_life = party->life,
                                    .receiver_life = transfer->owner_life,
                                    .serial = transfer->serial};
    desc.ticket = transfer->ticket;
    desc.local_blocks = transfer->local_blocks;
    desc.remote_blocks = transfer->remote_blocks;
    desc.block_count = transfer->count;
    desc.timeout_ns = 200 * US + draw(sim, chance(sim, 20) ? 1 * MS : 60 * MS);
    desc.user_data = transfer->serial;
    if (post->has_notification) {
        desc.notification = bytes;
        desc.notification_bytes = write_message(&message, bytes, draw(sim, 30));
    }
    uint64_t before_ns = now_ns();
    enum lend_status status = lend_transfer_post(transfer->handle, &desc, &error);
    if (status != LEND_OK) {
        *post = (struct post){.was_bad = true};
        return refuse(sim, transfer, status, &error);
    }
    if (transfer->was_withdrawn)
        return complain(sim, "a transfer was posted on a region of ours that is withdrawn");
    tell(sim, "party %u posts %u to party %u: %s of %u blocks under lease %u%s%s", party->index,
         transfer->serial, transfer->owner, transfer->direction == LEND_READ ? "READ" : "WRITE",
         transfer->count, (unsigned)(lease - sim->leases), transfer->is_outside ? ", outside" : "",
         post->has_notification ? ", tells" : "");
    transfer->deadline_ns = before_ns + desc.timeout_ns;
    transfer->state = POSTED;
    lease->writes += transfer->direction == LEND_WRITE;
    sim->report->posts++;
    return true;
}

bool test_transfer(struct sim *sim, struct transfer *transfer)
{
    if (transfer->state != POSTED)
        return true;
    enum lend_status status = lend_transfer_test(transfer->handle);
    return status == LEND_PENDING || settle(sim, transfer, status);
}

/* The third act: abort, and reuse the buffer at once. */
static bool cancel(struct sim *sim, struct transfer *transfer)
{
    if (transfer->state != POSTED)
        return true;
    transfer->was_canceled = true;
    tell(sim, "party %u cancels post %u", transfer->party, transfer->serial);
    sim->report->cancels++;
    enum lend_status status = lend_transfer_cancel(transfer->handle, 0);
    if (status == LEND_PENDING && transfer->direction == LEND_READ && transfer->flags == 0)
        return complain(sim, "a READ is not quiet at once when it is canceled");
    return status == LEND_PENDING || settle(sim, transfer, status);
}

/* Our own region is withdrawn, with whatever uses it; then all of the transfer is given back. */
static bool give_up(struct sim *sim, struct transfer *transfer)
{
    struct lend_error error;

    if (transfer->state == FREE)
        return true;
    if (transfer->state == POSTED || chance(sim, 30)) {
        transfer->was_withdrawn = true;
        enum lend_status status =
            lend_region_withdraw(transfer->region, LEND_WITHDRAW_FORCE, 0, &error);
        if (!expect(sim, status, LEND_OK, "withdraw ours", &error) || !test_transfer(sim, transfer))
            return false;
        if (transfer->state == POSTED)
            return complain(sim, "post %u is under way on memory that is withdrawn",
                            transfer->serial);
        if (chance(sim, 50))
            return post_transfer(sim, &sim->parties[transfer->party], transfer); /* in vain */
    }
    if (!check_idle(sim, transfer))
        return false;
    enum lend_status status = lend_transfer_release(transfer->handle);
    if (!expect(sim, status, LEND_OK, "release", &error))
        return false;
    status = lend_region_deregister(transfer->region, &error);
    lend_ticket_release(transfer->ticket);
    free_transfer(transfer);
    return expect(sim, status, LEND_OK, "deregister ours", &error);
}

static bool say_done(struct sim *sim, struct transfer *transfer)
{
    struct lend_error error;

    if (transfer->state == FREE)
        return true;
    transfer->lease->may_be_consumed = true;
    enum lend_status status = lend_ticket_done(transfer->ticket, &error);
    tell(sim, "party %u is done with lease %u: %s", transfer->party,
         (unsigned)(transfer->lease - sim->leases), lend_status_name(status));
    if (status == LEND_OK)
        return true;
    memset(transfer->memory, transfer->fill, transfer->state == READY ? transfer->bytes : 0);
    return status == LEND_E_PEER_DEAD || status == LEND_E_TIMEOUT
               ? transfer->state == POSTED || refuse(sim, transfer, status, &error)
               : expect(sim, status, LEND_OK, "done", &error);
}

/* --- notifications --- */

static bool notify(struct sim *sim, struct party *party, struct party *other)
{
    struct acquaintance *known = &party->others[other->index];
    uint8_t bytes[512];
    struct lend_error error;

    if (known->peer == NULL)
        return true;
    const struct message message = {.sender = party->index,
                                    .sender_life = party->life,
                                    .receiver_life = known->life,
                                    .number = known->sent + 1};
    size_t count = write_message(&message, bytes, draw(sim, 400));
    enum lend_status status = lend_notification_send(known->peer, bytes, count, &error);
    if (status == LEND_OK)
        known->sent++;
    else if (known->life == other->life && !sim->is_lost[party->index][other->index] &&
             status != LEND_E_BUSY)
        return expect(sim, status, LEND_OK, "notify", &error);
    note(sim, (uint64_t)(int64_t)status);
    tell(sim, "party %u tells party %u: %u, %s", party->index, other->index, message.number,
         lend_status_name(status));
    return true;
}

static bool listen(struct sim *sim, struct party *party)
{
    struct lend_notification_info info = {.struct_size = sizeof info};
    uint8_t bytes[512];
    struct lend_error error;
    size_t count = 0;

    for (;;) {
        enum lend_status status =
            lend_notification_receive(party->agent, bytes, sizeof bytes, &count, &info, 0, &error);
        if (status == LEND_E_ABSENT)
            return true;
        if (!expect(sim, status, LEND_OK, "receive", &error) ||
            !hear(sim, party, &info, bytes, count))
            return false;
    }
}

/* --- a step, and the end --- */

bool step_transfer(struct sim *sim, struct party *party)
{
    struct party *other = &sim->parties[draw(sim, PARTIES)];
    struct transfer *transfer = &party->transfers[draw(sim, TRANSFERS)];
    uint64_t luck = draw(sim, 310);

    if (luck < 40)
        return meet(sim, party, other);
    if (luck < 43)
        return forget(sim, party, other);
    if (luck < 180 && transfer->state == FREE && !prepare(sim, party, transfer))
        return false;
    if (luck < 180 && transfer->state == READY && !lease_lives(sim, transfer->lease) &&
        chance(sim, 70))
        return give_up(sim, transfer);
    if (luck < 180)
        return transfer->state != READY || post_transfer(sim, party, transfer);
    if (luck < 220)
        return test_transfer(sim, transfer);
    if (luck < 230)
        return cancel(sim, transfer);
    if (luck < 245)
        return give_up(sim, transfer);
    if (luck < 265)
        return say_done(sim, transfer);
    if (luck < 290)
        return notify(sim, party, other);
    return listen(sim, party);
}

/* The storm is over: everything that is under way ends, by its deadline at the latest. */
static bool settle_all(struct sim *sim)
{
    for (uint32_t round = 0; round < 60; round++) {
        uint64_t next_ns = lend_fabric_next_ns();
        uint64_t now = now_ns();

        for (uint32_t i = 0; i < PARTIES; i++) {
            progress(sim, &sim->parties[i], 3);
            for (uint32_t j = 0; j < TRANSFERS; j++)
                if (!test_transfer(sim, &sim->parties[i].transfers[j]))
                    return false;
            if (!listen(sim, &sim->parties[i]))
                return false;
        }
        if (round == 50) /* past every deadline */
            advance(80 * MS);
        else
            advance(next_ns != UINT64_MAX && next_ns > now ? next_ns - now : 1 * MS);
    }
    return true;
}

/* In fair weather nothing is lost: what was to be heard has been. */
static bool check_heard(struct sim *sim)
{
    for (uint32_t i = 1; i <= sim->serial; i++) {
        const struct post *post = &sim->posts[i];

        if (post->was_good && post->has_notification && !post->is_heard &&
            post->sender_life == sim->parties[post->sender].life &&
            post->receiver_life == sim->parties[post->receiver].life &&
            !sim->is_lost[post->sender][post->receiver])
            return complain(sim, "the notification of post %u never came", i);
    }
    for (uint32_t i = 0; i < PARTIES; i++)
        for (uint32_t j = 0; j < PARTIES; j++) {
            const struct acquaintance *known = &sim->parties[j].others[i];

            if (known->peer != NULL && known->life == sim->parties[i].life && !sim->is_lost[i][j] &&
                known->sent != sim->heard[i][j])
                return complain(sim, "party %u heard %u of the %u notifications of party %u", i,
                                sim->heard[i][j], known->sent, j);
        }
    return true;
}

bool finish(struct sim *sim)
{
    if (!settle_all(sim))
        return false;
    for (uint32_t i = 0; i < PARTIES; i++)
        for (uint32_t j = 0; j < TRANSFERS; j++)
            if (sim->parties[i].transfers[j].state == POSTED)
                return complain(sim, "post %u never ends", sim->parties[i].transfers[j].serial);
    return check_heard(sim) && check_all(sim);
}
