/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "transport/loopback/fabric.h"

#include <stdlib.h>
#include <string.h>

/* What owners do, and what the world does. What readers do is in moves.c. */

static struct party *any_party(struct sim *sim)
{
    return &sim->parties[draw(sim, PARTIES)];
}

/* --- lending --- */

static struct lend_geometry any_geometry(struct sim *sim, uint64_t *out_bytes)
{
    bool is_large = chance(sim, 20);
    struct lend_geometry geometry = {
        .block_length_bytes = 8 * (is_large ? 256 + draw(sim, 2048) : 1 + draw(sim, 40)),
        .count = 4 + draw(sim, BLOCKS_MAX - 3),
        .inner_count = 1 + draw(sim, 3),
    };
    uint64_t row = geometry.block_length_bytes + (chance(sim, 30) ? 8 * draw(sim, 5) : 0);

    if (chance(sim, 50)) {
        geometry.inner_stride_bytes = row;
        geometry.stride_bytes = row * geometry.inner_count + (chance(sim, 30) ? 64 : 0);
    } else {
        geometry.stride_bytes = row;
        geometry.inner_stride_bytes = row * geometry.count + (chance(sim, 30) ? 64 : 0);
    }
    *out_bytes = (geometry.count - 1) * geometry.stride_bytes +
                 (geometry.inner_count - 1) * geometry.inner_stride_bytes +
                 geometry.block_length_bytes;
    return geometry;
}

static bool lend_loan(struct sim *sim, struct party *party, struct loan *loan)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error;

    free(loan->memory);
    free(loan->shadow);
    *loan = (struct loan){.life = loan->life + 1};
    loan->geometry = any_geometry(sim, &loan->bytes);
    loan->access = LEND_ACCESS_READ | (chance(sim, 60) ? LEND_ACCESS_WRITE : 0);
    loan->memory = malloc(loan->bytes);
    loan->shadow = malloc(loan->bytes);
    memset(loan->memory, 0x11, loan->bytes);
    memset(loan->shadow, 0x11, loan->bytes);
    for (uint32_t b = 0; b < loan->geometry.count; b++)
        rewrite_block(sim, loan, b);

    desc.geometry = loan->geometry;
    desc.access = loan->access;
    desc.flags = LEND_REGION_ALLOW_OVERLAP;
    enum lend_status status = lend_memory_system(loan->memory, loan->bytes, &desc.memory, &error);
    if (!expect(sim, status, LEND_OK, "describe memory", &error))
        return false;
    status = lend_region_register(party->agent, &desc, 1, &loan->handle, NULL, &error);
    loan->id = lend_region_id(loan->handle);
    return expect(sim, status, LEND_OK, "register", &error);
}

/* The blocks on which no lease lives, or none that writes. */
static uint32_t free_blocks(struct sim *sim, const struct loan *loan, bool for_writing)
{
    uint32_t blocks = (uint32_t)((UINT64_C(1) << loan->geometry.count) - 1);

    for (uint32_t i = 0; i < sim->lease_count; i++) {
        struct lease *lease = &sim->leases[i];

        if (loan_of(sim, lease) == loan && lease_lives(sim, lease) &&
            (for_writing || (lease->access & LEND_ACCESS_WRITE) != 0))
            blocks &= ~lease->blocks;
    }
    return blocks;
}

static bool grant_lease(struct sim *sim, struct party *party, struct loan *loan,
                        struct lease *lease)
{
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    int32_t numbers[BLOCKS_MAX];
    struct lend_block_set set = {
        .regions = &loan->handle, .region_count = 1, .index_bits = 32, .blocks = numbers};
    struct lend_error error;

    for (int32_t b = 0; b < BLOCKS_MAX; b++)
        if ((lease->blocks >> b & 1) != 0)
            numbers[set.count++] = b;
    desc.access = lease->access;
    desc.sets = &set;
    desc.set_count = 1;
    desc.consumer_count = lease->consumer_count;
    desc.peer = lease->named >= 0 ? party->others[lease->named].peer : NULL;
    desc.time_to_live_ns = 200 * US + draw(sim, chance(sim, 30) ? 2 * MS : 60 * MS);
    desc.user_data = sim->lease_count;
    enum lend_status status = lend_lease_grant(party->agent, &desc, &lease->handle, &error);
    lease->expires_ns = now_ns() + desc.time_to_live_ns; /* a little late, as we are told late */
    note(sim, (uint64_t)(int64_t)status);
    if (status == LEND_E_LIMIT || (status == LEND_E_REVOKED && loan->is_withdrawn) ||
        (status == LEND_E_PEER_DEAD && lease->named >= 0 &&
         (lease->named_life != sim->parties[lease->named].life ||
          sim->is_lost[party->index][lease->named])))
        return true;
    if (!expect(sim, status, LEND_OK, "grant", &error))
        return false;
    if (loan->is_withdrawn)
        return complain(sim, "a lease was granted on a region that is withdrawn");
    lease->expires_ns -= 1 * US; /* nothing may end sooner than this */

    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (sim->leases[i].owner == lease->owner && sim->leases[i].has_ended)
            sim->leases[i].is_superseded = true;
    lease->owner_geometry = loan->geometry;
    lease->snapshot = malloc(loan->bytes);
    memcpy(lease->snapshot, loan->memory, loan->bytes);
    tell(sim, "party %u grants lease %u on region %u, blocks %06x, to %s, for %d, %u consumers",
         party->index, sim->lease_count, lease->loan, lease->blocks,
         lease->access == LEND_ACCESS_WRITE ? "write" : "read", lease->named,
         lease->consumer_count);
    sim->lease_count++;
    sim->report->grants++;
    status = lend_ticket_export(lease->handle, lease->ticket, sizeof lease->ticket,
                                &lease->ticket_bytes, &error);
    return expect(sim, status, LEND_OK, "export", &error);
}

static bool grant(struct sim *sim, struct party *party)
{
    struct loan *loan = &party->loans[draw(sim, LOANS)];
    struct lease *lease = &sim->leases[sim->lease_count];
    uint32_t other = (uint32_t)draw(sim, PARTIES);

    if (loan->handle == NULL || sim->lease_count == LEASES_MAX)
        return true;
    bool for_writing = (loan->access & LEND_ACCESS_WRITE) != 0 && chance(sim, 35);
    bool is_named = party->others[other].peer != NULL && chance(sim, 30);
    *lease = (struct lease){
        .owner = party->index,
        .owner_life = party->life,
        .loan = (uint32_t)(loan - party->loans),
        .loan_life = loan->life,
        .access = for_writing ? LEND_ACCESS_WRITE : LEND_ACCESS_READ,
        .blocks = free_blocks(sim, loan, for_writing),
        .consumer_count = chance(sim, 30) ? 1 + (uint32_t)draw(sim, 2) : 0,
        .named = is_named ? (int32_t)other : -1,
        .named_life = is_named ? party->others[other].life : 0,
    };
    if (chance(sim, 60)) /* else all that are free */
        lease->blocks &= (uint32_t)draw(sim, UINT32_MAX);
    return lease->blocks == 0 || grant_lease(sim, party, loan, lease);
}

static struct lease *any_lease(struct sim *sim, const struct party *owner)
{
    uint32_t first = sim->lease_count > 0 ? (uint32_t)draw(sim, sim->lease_count) : 0;

    for (uint32_t i = 0; i < sim->lease_count; i++) {
        struct lease *lease = &sim->leases[(first + i) % sim->lease_count];

        if (lease->handle != NULL && lease->owner == owner->index &&
            lease->owner_life == owner->life)
            return lease;
    }
    return NULL;
}

static bool renew(struct sim *sim, struct party *party)
{
    struct lease *lease = any_lease(sim, party);
    uint64_t time_to_live_ns = 100 * US + draw(sim, 20 * MS);
    struct lend_error error;

    if (lease == NULL || lease->expires_ns == 0)
        return true;
    bool lived = lease_lives(sim, lease);
    uint64_t before_ns = now_ns();
    enum lend_status status = lend_lease_renew(lease->handle, time_to_live_ns, &error);
    if (lived && now_ns() >= lease->expires_ns && status == LEND_E_EXPIRED)
        return true;
    if (status == LEND_OK)
        lease->expires_ns = before_ns + time_to_live_ns;
    if (status == LEND_OK || lived)
        return expect(sim, status, lived ? LEND_OK : LEND_E_EXPIRED, "renew", &error);
    note(sim, (uint64_t)(int64_t)status);
    return true;
}

static void rewrite_blocks(struct sim *sim, struct loan *loan, uint32_t blocks)
{
    for (uint32_t b = 0; b < loan->geometry.count; b++)
        if ((blocks >> b & 1) != 0)
            rewrite_block(sim, loan, b);
}

/* The first act: take back, and rewrite at once. */
static bool revoke(struct sim *sim, struct party *party)
{
    struct lease *lease = any_lease(sim, party);
    struct lend_error error;

    if (lease == NULL)
        return true;
    struct loan *loan = loan_of(sim, lease);
    bool is_breach = sim->options->rewrites_too_early && loan != NULL && lease_lives(sim, lease) &&
                     lease->access == LEND_ACCESS_READ;
    if (is_breach) {
        rewrite_blocks(sim, loan, lease->blocks & free_blocks(sim, loan, false));
        progress(sim, party, 2); /* or nobody could have looked */
    }
    lease->may_be_revoked = true;
    tell(sim, "party %u revokes lease %u", party->index, (unsigned)(lease - sim->leases));
    enum lend_status status = lend_lease_revoke(lease->handle, &error);
    if (!expect(sim, status, LEND_OK, "revoke", &error))
        return false;
    end_lease(sim, lease);
    sim->report->revokes++;
    if (loan != NULL)
        rewrite_blocks(sim, loan, lease->blocks & free_blocks(sim, loan, true));
    if (chance(sim, 20)) {
        lend_lease_release(lease->handle);
        lease->handle = NULL;
    }
    return true;
}

/* Evict some blocks: every lease that touches them ends. */
static bool evict(struct sim *sim, struct party *party)
{
    struct loan *loan = &party->loans[draw(sim, LOANS)];
    struct lend_error error;
    uint32_t ended = 0, lived = 0;

    if (loan->handle == NULL)
        return true;
    uint64_t first = draw(sim, loan->geometry.count);
    const struct lend_block_set set = {.regions = &loan->handle,
                                       .region_count = 1,
                                       .first = first,
                                       .count = 1 + draw(sim, loan->geometry.count - first)};
    uint32_t blocks = (uint32_t)(((UINT64_C(1) << set.count) - 1) << first);

    for (uint32_t i = 0; i < sim->lease_count; i++)
        lived += loan_of(sim, &sim->leases[i]) == loan && lease_lives(sim, &sim->leases[i]) &&
                 (sim->leases[i].blocks & blocks) != 0;
    revoke_leases(sim, party->index, (uint32_t)(loan - party->loans), blocks);
    enum lend_status status = lend_lease_revoke_blocks(party->agent, &set, &ended, &error);
    if (!expect(sim, status, LEND_OK, "revoke blocks", &error))
        return false;
    if (ended != lived)
        return complain(sim, "%u leases ended by their blocks, and %u were there", ended, lived);
    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (loan_of(sim, &sim->leases[i]) == loan && (sim->leases[i].blocks & blocks) != 0)
            end_lease(sim, &sim->leases[i]);
    sim->report->revokes += ended;
    if ((free_blocks(sim, loan, true) & blocks) != blocks)
        return complain(sim, "a lease lives on a block that was evicted");
    rewrite_blocks(sim, loan, blocks);
    return true;
}

/* The first act's other half: withdraw, poison, give back, free. */
static bool withdraw(struct sim *sim, struct party *party)
{
    struct loan *loan = &party->loans[draw(sim, LOANS)];
    bool is_forced = chance(sim, 70);
    bool is_held = false;
    struct lend_error error;

    if (loan->handle == NULL)
        return true;
    for (uint32_t i = 0; i < sim->lease_count; i++)
        is_held |= loan_of(sim, &sim->leases[i]) == loan && lease_lives(sim, &sim->leases[i]);
    if (is_forced)
        revoke_leases(sim, party->index, (uint32_t)(loan - party->loans), UINT32_MAX);
    loan->is_withdrawn = true;
    tell(sim, "party %u withdraws region %u", party->index, (unsigned)(loan - party->loans));
    enum lend_status status = lend_region_withdraw(
        loan->handle, is_forced ? LEND_WITHDRAW_FORCE : LEND_WITHDRAW_DRAIN, 0, &error);
    if (status == LEND_E_BUSY && !is_forced && is_held) {
        note(sim, 1);
        return true;
    }
    if (!expect(sim, status, LEND_OK, "withdraw", &error))
        return false;
    if (!is_forced && free_blocks(sim, loan, true) != (UINT64_C(1) << loan->geometry.count) - 1)
        return complain(sim, "a region is withdrawn and a lease on it lives");
    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (loan_of(sim, &sim->leases[i]) == loan)
            end_lease(sim, &sim->leases[i]);
    sim->report->withdrawals++;
    memset(loan->memory, 0xee, loan->bytes);
    memset(loan->shadow, 0xee, loan->bytes);
    if (chance(sim, 30))
        return true; /* the memory stays for a while, and must stay as it is */

    status = lend_region_deregister(loan->handle, &error);
    loan->handle = NULL;
    return expect(sim, status, LEND_OK, "deregister", &error);
}

bool step_lending(struct sim *sim, struct party *party)
{
    uint64_t luck = draw(sim, 100);
    struct loan *loan = &party->loans[draw(sim, LOANS)];

    if (loan->handle == NULL && luck < 60)
        return lend_loan(sim, party, loan);
    if (luck < 60)
        return grant(sim, party);
    if (luck < 68)
        return renew(sim, party);
    if (luck < 88)
        return revoke(sim, party);
    if (luck < 95)
        return evict(sim, party);
    return withdraw(sim, party);
}

/* --- the world --- */

static bool pass_time(struct sim *sim)
{
    uint64_t luck = draw(sim, 100);
    uint64_t next_ns = lend_fabric_next_ns();
    uint64_t now = now_ns();

    if (luck < 50)
        advance(draw(sim, 20 * US));
    else if (luck < 90 && next_ns != UINT64_MAX)
        advance(next_ns > now ? next_ns - now : 0);
    else if (luck < 99)
        advance(draw(sim, 500 * US));
    else
        advance(draw(sim, 60 * MS));
    return true;
}

/* The fourth act: a party dies, and another one takes its name. */
static bool die(struct sim *sim, struct party *party)
{
    if (party->life + 2 >= LIVES_MAX)
        return true;
    sim->report->deaths++;
    stop_party(sim, party, sim->report->weather == SIM_STORMY && chance(sim, 50));
    return start_party(sim, party);
}

/* Every transfer ends within its deadline, once somebody looks. */
static bool keep_deadlines(struct sim *sim, struct party *party)
{
    for (uint32_t i = 0; i < TRANSFERS; i++) {
        struct transfer *transfer = &party->transfers[i];

        if (transfer->state != POSTED || now_ns() < transfer->deadline_ns)
            continue;
        /* A large destination is zeroed in chunks, a pass each. */
        progress(sim, party, transfer->flags != 0 ? 20 : 2);
        if (!test_transfer(sim, transfer))
            return false;
        if (transfer->state == POSTED)
            return complain(sim, "post %u is under way %llu us after its deadline",
                            transfer->serial,
                            (unsigned long long)((now_ns() - transfer->deadline_ns) / US));
    }
    return true;
}

bool step(struct sim *sim)
{
    struct party *party = any_party(sim);
    uint64_t luck = draw(sim, 1000);

    note(sim, luck);
    if (luck < 450) {
        for (uint32_t i = 0; i < PARTIES; i++)
            progress(sim, &sim->parties[(party->index + i) % PARTIES], (uint32_t)draw(sim, 3));
        return sim->report->is_good;
    }
    if (luck < 500)
        return pass_time(sim);
    if (luck < 580)
        return step_lending(sim, party);
    if (luck < 582)
        return die(sim, party);
    if (luck < 584) {
        if (sim->report->weather == SIM_STORMY)
            cut_links(sim, party, chance(sim, 50));
        return true;
    }
    if (luck < 595)
        return keep_deadlines(sim, party);
    if (luck < 605)
        return check_all(sim);
    return step_transfer(sim, party);
}
