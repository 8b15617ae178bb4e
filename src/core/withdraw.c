/* SPDX-License-Identifier: Apache-2.0 */
#include "core/region.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/foreign.h"
#include "core/freed.h"
#include "core/lease_keys.h"
#include "core/rail.h"
#include "core/server.h"
#include "core/share.h"
#include "core/stage.h"
#include "core/transfer.h"
#include "memory/verify.h"

/*
 * Getting memory back: for good, for a while, and lending it again. What a region's life looks like
 * is told in region.h.
 */

#define LOOK_AGAIN_NS UINT64_C(20000)

/* --- withdrawing and suspending --- */

/* Who holds the region still: LEND_E_BUSY with a name, or LEND_OK. */
static enum lend_status find_holder_locked(const struct lend_region *region,
                                           struct lend_error *error)
{
    for (struct lend_list *link = region->parts.next; link != &region->parts; link = link->next) {
        const struct lend_lease_part *part = LEND_LIST_OWNER(link, struct lend_lease_part, link);
        const struct lend_lease *lease = part->lease;

        if (lease->is_live)
            return lend_fail(error, LEND_E_BUSY,
                             "region %s (%llu): lease %u.%llx of %s lives; last used by %s",
                             region->name, (unsigned long long)region->id, lease->slot,
                             (unsigned long long)lease->generation,
                             lease->has_peer ? lease->info.peer : "any bearer",
                             lease->info.last_user[0] != '\0' ? lease->info.last_user : "nobody");
        /* Acquire: what the copy stored is there before the owner frees the memory. */
        if (atomic_load_explicit(&lease->pins, memory_order_seq_cst) > 0 ||
            atomic_load_explicit(&lease->moves, memory_order_seq_cst) > 0)
            return lend_fail(error, LEND_E_BUSY,
                             "region %s (%llu): a copy for %s under lease %u.%llx is under way",
                             region->name, (unsigned long long)region->id, lease->info.last_user,
                             lease->slot, (unsigned long long)lease->generation);
        if (atomic_load_explicit(&lease->keys, memory_order_acquire) > 0)
            return lend_fail(error, LEND_E_BUSY,
                             "region %s (%llu): a NIC of ours lets %s write under lease %u.%llx",
                             region->name, (unsigned long long)region->id, lease->info.last_user,
                             lease->slot, (unsigned long long)lease->generation);
    }
    if (region->standing_uses > 0)
        return lend_fail(error, LEND_E_BUSY,
                         "region %s (%llu): a request under a standing lease is under way",
                         region->name, (unsigned long long)region->id);
    return lend_transfers_check_idle_locked(region, error);
}

/* How to end access to a region. */
struct ending {
    bool suspends;
    uint32_t mode;
    uint64_t timeout_ns;
    uint32_t life; /* which life of the region it is about */
};

/* Is it quiet, and does nobody map its file? That one is closed once no lease hangs on it, or at
 * once by force. */
static enum lend_status look_locked(struct lend_region *region, const struct ending *how,
                                    bool is_late, struct lend_error *error)
{
    if (region->is_quiet)
        return LEND_OK;

    enum lend_status status = find_holder_locked(region, error);
    if (status == LEND_OK || how->mode == LEND_WITHDRAW_FORCE)
        lend_file_close_locked(region);
    if (status == LEND_OK)
        status = lend_foreign_conceal_locked(region, how->mode == LEND_WITHDRAW_FORCE, error);
    if (status == LEND_OK)
        status = lend_rail_conceal_locked(region, error);
    return status == LEND_OK ? lend_file_await_locked(region, is_late, error) : status;
}

/* The agent's lock is not held. Where a suspension has become quiet, say so, and let go of the
 * addresses. */
static enum lend_status look(struct lend_region *region, const struct ending *how, bool is_late,
                             struct lend_error *error)
{
    enum lend_status status;

    (void)pthread_mutex_lock(&region->agent->lock);
    if (how->suspends && region->life != how->life) {
        status = lend_fail(error, LEND_E_BUSY, "region %s (%llu) was resumed by another thread",
                           region->name, (unsigned long long)region->id);
    } else {
        status = look_locked(region, how, is_late, error);
        if (status == LEND_OK && region->is_suspended && !region->is_quiet) {
            lend_region_unseat_locked(region);
            region->is_quiet = true;
        }
    }
    (void)pthread_mutex_unlock(&region->agent->lock);
    return status;
}

/* Let nothing new begin. */
static enum lend_status close_off(struct lend_region *region, bool suspends, uint32_t *out_life,
                                  struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&region->agent->lock);
    *out_life = region->life;
    if (suspends && region->is_exposed) {
        (void)pthread_mutex_unlock(&region->agent->lock);
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "region %s (%llu) is not to be suspended, as NIXL agents may reach it "
                         "(LEND_REGION_ALLOW_UNFENCED): withdraw it, and register it anew",
                         region->name, (unsigned long long)region->id);
    }
    /* Sequentially consistent: a post that does not see this is seen by find_holder_locked(). */
    if (!atomic_exchange_explicit(&region->is_withdrawn, true, memory_order_seq_cst)) {
        region->agent->serial++;
        region->agent->places_stamp++;
        region->is_suspended = suspends;
        LEND_STATISTICS_ADD_LOCKED(region->agent, regions_withdrawn, 1);
    } else if (!suspends) {
        region->is_suspended = false;
    } else if (!region->is_suspended) {
        status = lend_fail(error, LEND_E_REVOKED,
                           "region %s (%llu) is withdrawn for good: register the memory anew",
                           region->name, (unsigned long long)region->id);
    }
    (void)pthread_mutex_unlock(&region->agent->lock);
    return status;
}

static enum lend_status end_access(struct lend_region *region, struct ending *how,
                                   struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;
    if (how->mode != LEND_WITHDRAW_DRAIN && how->mode != LEND_WITHDRAW_FORCE)
        return lend_fail(error, LEND_E_INVALID, "unknown mode %u of withdrawing", how->mode);

    struct lend_agent *agent = region->agent;
    uint64_t until = lend_deadline(lend_sys->now_ns(), how->timeout_ns);
    uint32_t revoked = 0;
    status = close_off(region, how->suspends, &how->life, error);
    if (status != LEND_OK)
        return status;
    if (how->mode == LEND_WITHDRAW_FORCE) {
        (void)lend_leases_revoke(region, NULL, &revoked,
                                 NULL); /* what is busy is looked at below */
        lend_servers_abort(region);
        lend_transfers_abort(region);
        lend_agent_dispatch(agent);
    }

    /* Sessions whose moves go on under a lease that has ended shall see to it. */
    lend_poller_timer(&agent->poller, lend_sys->now_ns());

    struct lend_error why;
    while (look(region, how, false, &why) != LEND_OK) {
        lend_stages_poll(agent);      /* a GPU's copies may have outlived their connection, */
        lend_region_end_keys(region); /* and keys of leases that ended by themselves are there */
        uint64_t now = lend_sys->now_ns();
        if (now >= until)
            return look(region, how, true, error);
        uint64_t left = until - now;
        (void)lend_poller_progress(&agent->poller, left < LOOK_AGAIN_NS ? left : LOOK_AGAIN_NS);
    }
    return LEND_OK;
}

enum lend_status lend_region_withdraw(struct lend_region *region, uint32_t mode,
                                      uint64_t timeout_ns, struct lend_error *error)
{
    struct ending how = {.mode = mode, .timeout_ns = timeout_ns};

    return end_access(region, &how, error);
}

enum lend_status lend_region_suspend(struct lend_region *region, uint32_t mode, uint64_t timeout_ns,
                                     struct lend_error *error)
{
    struct ending how = {.suspends = true, .mode = mode, .timeout_ns = timeout_ns};

    return end_access(region, &how, error);
}

/* --- resuming --- */

static enum lend_status check_quiet_locked(const struct lend_region *region,
                                           struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;
    if (!region->is_suspended)
        return lend_fail(error, LEND_E_INVALID, "region %s (%llu) is %s, not suspended",
                         region->name, (unsigned long long)region->id,
                         atomic_load(&region->is_withdrawn) ? "withdrawn for good" : "lent");
    if (!region->is_quiet)
        return lend_fail(error, LEND_E_BUSY,
                         "region %s (%llu) is still being suspended: lend_region_suspend() has not "
                         "said that it is over",
                         region->name, (unsigned long long)region->id);
    return LEND_OK;
}

/* Where the region is to be: may it be there, of what is known of that memory by itself? */
static enum lend_status check_place(const struct lend_region *region,
                                    const struct lend_memory *memory, struct lend_error *error)
{
    const struct lend_memory *before = &region->memory;

    enum lend_status status = lend_region_check_memory(memory, error);
    if (status != LEND_OK)
        return status;
    if (memory->length_bytes != before->length_bytes)
        return lend_fail(error, LEND_E_INVALID,
                         "memory of %llu bytes for region %s (%llu), which has %llu",
                         (unsigned long long)memory->length_bytes, region->name,
                         (unsigned long long)region->id, (unsigned long long)before->length_bytes);
    /* Of a file, the number is a descriptor's, and another one may name the same file. */
    if (memory->kind != before->kind ||
        (memory->device != before->device && memory->kind != LEND_MEMORY_DISK))
        return lend_fail(error, LEND_E_INVALID,
                         "memory of kind %u, device %d, for region %s (%llu) of kind %u, device %d",
                         memory->kind, memory->device, region->name, (unsigned long long)region->id,
                         before->kind, before->device);
    return LEND_OK;
}

/* It is another life from here on. */
static void begin_life_locked(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;

    lend_slots_outdate(&agent->slots, region->id);
    region->life++;
    region->is_suspended = false;
    region->is_quiet = false;
    atomic_store(&region->is_freed, false);
    atomic_store_explicit(&region->is_forced, false, memory_order_relaxed);
    agent->serial++;
    LEND_STATISTICS_ADD_LOCKED(agent, regions_withdrawn, -1);
    /* Sequentially consistent, and last: a post that sees it lent sees where it is. */
    atomic_store_explicit(&region->is_withdrawn, false, memory_order_seq_cst);
}

/* Where a region is to be. */
struct place {
    struct lend_region_desc desc; /* its memory, flags and file; no more */
    struct lend_verify item;
    struct lend_wanted_files wanted;
};

static enum lend_status verify_place(struct lend_agent *agent, struct place *place,
                                     struct lend_error *error)
{
    place->item.memory = place->desc.memory;
    place->item.wants_device = true;
    (void)lend_memory_verify(&agent->maps, &place->item, 1);
    lend_region_check_item(agent, &place->item);
    enum lend_status status = place->item.status;
    if (status == LEND_OK)
        status = lend_files_want(&place->desc, &place->item, 1, &place->wanted);
    if (status != LEND_OK && error != NULL)
        *error = place->item.error;
    return status;
}

/* Before anybody can ask for it there: NICs know it. */
static enum lend_status expose_place(struct lend_region *region, const struct place *place,
                                     bool *out_is_on_rail, struct lend_error *error)
{
    (void)pthread_mutex_lock(&region->agent->lock);
    enum lend_status status = check_quiet_locked(region, error);
    if (status == LEND_OK && region->is_railing)
        status =
            lend_fail(error, LEND_E_BUSY, "region %s (%llu) is being resumed by another thread",
                      region->name, (unsigned long long)region->id);
    if (status == LEND_OK)
        *out_is_on_rail = lend_rail_reserve_locked(region);
    uint32_t life = region->life + 1;
    (void)pthread_mutex_unlock(&region->agent->lock);
    if (*out_is_on_rail)
        lend_rail_expose(region, &place->desc.memory, place->item.device, life);
    return status;
}

static enum lend_status move_in_locked(struct lend_region *region, struct place *place,
                                       struct lend_error *error)
{
    enum lend_status status = lend_region_seat_locked(region, &place->item, error);
    if (status != LEND_OK)
        return status;
    if (place->wanted.of != NULL)
        status = lend_file_attach_locked(region, place->wanted.of[0],
                                         place->desc.share_offset_bytes, error);
    if (status != LEND_OK) {
        lend_region_unseat_locked(region);
        return status;
    }
    begin_life_locked(region);
    lend_files_share_locked(region->agent);
    return LEND_OK;
}

enum lend_status lend_region_resume(struct lend_region *region, const struct lend_memory *memory,
                                    int32_t share_fd, uint64_t share_offset_bytes,
                                    struct lend_error *error)
{
    struct place place = {.desc = {.share_fd = share_fd, .share_offset_bytes = share_offset_bytes}};
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);
    bool is_on_rail = false;

    if (status != LEND_OK)
        return status;

    struct lend_agent *agent = region->agent;
    (void)pthread_mutex_lock(&agent->lock);
    uint64_t id = region->id;
    status = check_quiet_locked(region, error);
    place.desc.flags = region->flags;
    place.desc.memory = memory != NULL ? *memory : region->memory;
    place.item.needs_write = (region->access & LEND_ACCESS_WRITE) != 0;
    if (status == LEND_OK)
        status = check_place(region, &place.desc.memory, error);
    (void)pthread_mutex_unlock(&agent->lock);
    if (status != LEND_OK)
        return status;

    status = verify_place(agent, &place, error);
    if (status == LEND_OK)
        status = expose_place(region, &place, &is_on_rail, error);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&agent->lock);
        status = check_quiet_locked(region, error); /* still, and nobody was quicker */
        if (status == LEND_OK && region->id != id)
            status =
                lend_fail(error, LEND_E_INVALID, "region %llu is gone", (unsigned long long)id);
        if (status == LEND_OK)
            status = move_in_locked(region, &place, error);
        if (is_on_rail)
            lend_rail_settle_locked(region, status == LEND_OK);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    lend_files_drop(&place.wanted);
    lend_device_release(place.item.device);
    if (status == LEND_OK && place.desc.memory.kind == LEND_MEMORY_DEVICE)
        lend_freed_watch(agent);
    return status;
}

/* --- giving back --- */

/* Of a region that was not withdrawn: peers are asked to let go of its file, and not waited for. */
static enum lend_status take_file_back_locked(struct lend_region *region, struct lend_error *error)
{
    struct lend_error why;

    lend_file_close_locked(region);
    enum lend_status status = lend_file_await_locked(region, false, &why);
    if (status != LEND_OK)
        return lend_fail(error, status, "%.200s: withdraw it first", why.message);
    return LEND_OK;
}

enum lend_status lend_region_deregister(struct lend_region *region, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;

    struct lend_agent *agent = region->agent;
    struct lend_owner owner = region->owner;
    lend_region_end_keys(region);
    (void)pthread_mutex_lock(&agent->lock);
    status = find_holder_locked(region, error);
    if (status == LEND_OK) {
        /* Sequentially consistent, as in withdraw: a post that prepared it must not begin. */
        if (!atomic_exchange_explicit(&region->is_withdrawn, true, memory_order_seq_cst)) {
            agent->places_stamp++;
            LEND_STATISTICS_ADD_LOCKED(agent, regions_withdrawn, 1);
        }
        status = lend_transfers_check_idle_locked(region, error);
    }
    if (status == LEND_OK)
        status = lend_foreign_conceal_locked(region, false, error);
    if (status == LEND_OK)
        status = lend_rail_conceal_locked(region, error);
    if (status == LEND_OK)
        status = take_file_back_locked(region, error);
    if (status == LEND_OK) {
        while (!lend_list_is_empty(&region->parts)) {
            struct lend_lease_part *part =
                LEND_LIST_OWNER(region->parts.next, struct lend_lease_part, link);

            lend_list_remove(&part->link);
            part->region = NULL;
        }
        lend_region_remove_locked(region);
        agent->serial++;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (status == LEND_OK && owner.release != NULL)
        owner.release(owner.token);
    return status;
}
