/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/lease_keys.h"
#include "core/stage.h"

#include <stdio.h>
#include <string.h>

#define PIN_WAIT_NS UINT64_C(2000)

/* --- pins: around every copy --- */

static enum lend_status judge(const struct lend_lease *lease, memory_order order)
{
    return lend_slot_judge(atomic_load_explicit(lease->word, order), lease->generation);
}

enum lend_status lend_lease_judge(const struct lend_lease *lease)
{
    return judge(lease, memory_order_relaxed);
}

static void unpin(struct lend_lease *lease)
{
    /* Release: our stores to the blocks come before whoever waits for the pins goes on. */
    (void)atomic_fetch_sub_explicit(&lease->pins, 1, memory_order_release);
}

static bool is_over(const struct lend_lease *lease)
{
    uint64_t expires = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed);

    return expires != 0 && lend_sys->now_ns() >= expires;
}

enum lend_status lend_lease_enter(struct lend_lease *lease)
{
    /* Pin, then look; who ends the lease stores the word, then looks at the pins. Both sequentially
     * consistent, so that one sees the other: no write begins that nobody waits for. */
    (void)atomic_fetch_add_explicit(&lease->pins, 1, memory_order_seq_cst);
    enum lend_status status = judge(lease, memory_order_seq_cst);

    if (status == LEND_OK && !is_over(lease))
        return LEND_OK;
    unpin(lease);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&lease->agent->lock);
        lend_lease_end_locked(lease, LEND_SLOT_EXPIRED);
        (void)pthread_mutex_unlock(&lease->agent->lock);
        status = judge(lease, memory_order_relaxed);
    }
    return status;
}

enum lend_status lend_lease_leave(struct lend_lease *lease)
{
    /* The proof of a read, as in a sequence lock: what we copied was loaded before this fence, and
     * the owner stores the word before it rewrites a byte. Had we seen a rewritten byte, we would
     * see the word. */
    atomic_thread_fence(memory_order_acquire);
    enum lend_status status = judge(lease, memory_order_relaxed);
    unpin(lease);
    return status;
}

void lend_lease_begin_move(struct lend_lease *lease)
{
    /* Before the pin is dropped: who finds no pin finds this. */
    (void)atomic_fetch_add_explicit(&lease->moves, 1, memory_order_seq_cst);
}

enum lend_status lend_lease_end_move(struct lend_lease *lease)
{
    atomic_thread_fence(memory_order_acquire); /* the same proof as that of lend_lease_leave() */
    enum lend_status status = judge(lease, memory_order_relaxed);

    /* Release: all was read before the owner frees the memory. */
    (void)atomic_fetch_sub_explicit(&lease->moves, 1, memory_order_release);
    return status;
}

void lend_lease_await_pins(struct lend_lease *lease)
{
    /* Acquire: the last copy's stores come before what the owner does next. A copy is a chunk of at
     * most a frame, so this ends. A GPU copies by itself, and tells whoever asks. */
    while (atomic_load_explicit(&lease->pins, memory_order_acquire) > 0) {
        lend_stages_poll(lease->agent);
        if (atomic_load_explicit(&lease->pins, memory_order_acquire) > 0)
            lend_sys->sleep_ns(PIN_WAIT_NS);
    }
}

/* --- life and end; under the agent's lock --- */

static void unlink_parts(struct lend_lease *lease)
{
    for (uint32_t i = 0; i < lease->part_count; i++)
        lend_list_remove(&lease->parts[i].link);
}

static void free_sets(struct lend_lease *lease)
{
    for (uint32_t i = 0; i < lease->blocks_count; i++)
        lend_blocks_fini(&lease->blocks[i]);
    lend_sys->release(lease->blocks);
    lend_sys->release(lease->parts);
    lend_sys->release(lease->consumers);
}

void lend_lease_drop_locked(struct lend_lease *lease)
{
    LEND_INVARIANT(lease->references > 0);
    if (--lease->references > 0)
        return;
    free_sets(lease);
    lend_pool_give(&lease->agent->leases, lease);
}

static enum lend_status status_of(enum lend_slot_state cause)
{
    return lend_slot_judge(lend_slot_word(0, cause), 0);
}

void lend_lease_end_locked(struct lend_lease *lease, enum lend_slot_state cause)
{
    struct lend_agent *agent = lease->agent;
    uint64_t now = lend_sys->now_ns();

    if (!lease->is_live)
        return;
    lease->is_live = false;
    lend_slots_end(&agent->slots, lease->slot, cause, now);
    lease->info.status = status_of(cause);
    lease->info.ended_ns = now;
    lend_statistics_end_lease(lease);
    if (lease->request_references == 0)
        unlink_parts(lease);
    /* The reference of its life becomes that of its untold end. */
    lend_list_remove(&lease->live_link);
    lend_list_append(&agent->ended_leases, &lease->live_link);
    atomic_store_explicit(&agent->has_news, true, memory_order_seq_cst);
}

static void fill_info(const struct lend_lease *lease, struct lend_lease_info *out)
{
    *out = lease->info;
    out->struct_size = sizeof *out;
    out->expires_ns = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed);
    out->bytes = atomic_load_explicit(&lease->bytes, memory_order_relaxed);
}

bool lend_lease_take_ended(struct lend_agent *agent, struct lend_lease_info *out)
{
    struct lend_error why;

    (void)pthread_mutex_lock(&agent->lock);
    struct lend_list *link = lend_list_take_first(&agent->ended_leases);
    (void)pthread_mutex_unlock(&agent->lock);
    if (link == NULL)
        return false;
    struct lend_lease *lease = LEND_LIST_OWNER(link, struct lend_lease, live_link);
    if (lend_lease_end_keys(lease, &why) != LEND_OK)
        lend_agent_log(agent, LEND_LOG_ERROR, "%s", why.message);
    (void)pthread_mutex_lock(&agent->lock);
    fill_info(lease, out);
    lend_lease_drop_locked(lease);
    (void)pthread_mutex_unlock(&agent->lock);
    return true;
}

/* Of a lease that has ended: nothing is written under it any more. */
static enum lend_status await_writes(struct lend_lease *lease, struct lend_error *error)
{
    if ((lease->access & LEND_ACCESS_WRITE) == 0)
        return LEND_OK;
    lend_lease_await_pins(lease);
    return lend_lease_end_keys(lease, error);
}

uint64_t lend_leases_expire(struct lend_agent *agent, uint64_t now_ns)
{
    (void)pthread_mutex_lock(&agent->lock);
    if (now_ns >= agent->lease_expiry_ns) {
        agent->lease_expiry_ns = UINT64_MAX;
        for (struct lend_list *link = agent->live_leases.next, *next; link != &agent->live_leases;
             link = next) {
            struct lend_lease *lease = LEND_LIST_OWNER(link, struct lend_lease, live_link);
            uint64_t expires = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed);

            next = link->next;
            if (expires != 0 && expires <= now_ns)
                lend_lease_end_locked(lease, LEND_SLOT_EXPIRED);
            else if (expires != 0 && expires < agent->lease_expiry_ns)
                agent->lease_expiry_ns = expires;
        }
    }
    uint64_t next_ns = agent->lease_expiry_ns;
    (void)pthread_mutex_unlock(&agent->lock);
    return next_ns;
}

void lend_leases_end_all(struct lend_agent *agent)
{
    (void)pthread_mutex_lock(&agent->lock);
    while (!lend_list_is_empty(&agent->live_leases))
        lend_lease_end_locked(
            LEND_LIST_OWNER(agent->live_leases.next, struct lend_lease, live_link),
            LEND_SLOT_REVOKED);
    (void)pthread_mutex_unlock(&agent->lock);
}

/* Free the sets of leases that are still there for their handles. */
void lend_leases_fini(struct lend_agent *agent)
{
    for (void *object = NULL; (object = lend_pool_next(&agent->leases, object)) != NULL;)
        free_sets(object);
    lend_pool_fini(&agent->leases);
}

/* --- revoking many --- */

/* A live lease on the region that touches the blocks, ended, with a reference; NULL: none is left.
 */
static struct lend_lease *revoke_one_locked(struct lend_region *region,
                                            const struct lend_blocks *blocks)
{
    for (struct lend_list *link = region->parts.next; link != &region->parts; link = link->next) {
        struct lend_lease_part *part = LEND_LIST_OWNER(link, struct lend_lease_part, link);

        if (!part->lease->is_live || (blocks != NULL && !lend_blocks_meet(part->blocks, blocks)))
            continue;
        part->lease->references++;
        lend_lease_end_locked(part->lease, LEND_SLOT_REVOKED);
        /* The whole region, and it is to come back: then what we ended here is STALE. */
        if (blocks == NULL && region->is_suspended)
            lend_slots_note(&region->agent->slots, part->lease->slot, region->id);
        return part->lease;
    }
    return NULL;
}

enum lend_status lend_leases_revoke(struct lend_region *region, const struct lend_blocks *blocks,
                                    uint32_t *count, struct lend_error *error)
{
    struct lend_agent *agent = region->agent;
    enum lend_status result = LEND_OK;

    for (;; (*count)++) {
        (void)pthread_mutex_lock(&agent->lock);
        struct lend_lease *lease = revoke_one_locked(region, blocks);
        (void)pthread_mutex_unlock(&agent->lock);
        if (lease == NULL)
            return result;
        enum lend_status status = await_writes(lease, error);
        if (status != LEND_OK)
            result = status;
        (void)pthread_mutex_lock(&agent->lock);
        lend_lease_drop_locked(lease);
        (void)pthread_mutex_unlock(&agent->lock);
    }
}

/* --- the public calls on one lease; lend_lease_grant() is in grant.c --- */

enum lend_status lend_lease_renew(struct lend_lease *lease, uint64_t time_to_live_ns,
                                  struct lend_error *error)
{
    enum lend_status status = lend_handle_check(lease, LEND_TAG_LEASE, error);

    if (status != LEND_OK)
        return status;
    if (time_to_live_ns == 0 && !lease->has_peer && !lease->is_standing)
        return lend_fail(error, LEND_E_INVALID, "a bearer lease must have a time to live");

    struct lend_agent *agent = lease->agent;
    (void)pthread_mutex_lock(&agent->lock);
    if (lease->is_live && is_over(lease))
        lend_lease_end_locked(lease, LEND_SLOT_EXPIRED);
    if (lease->is_live) {
        uint64_t expires =
            time_to_live_ns == 0 ? 0 : lend_deadline(lend_sys->now_ns(), time_to_live_ns);

        atomic_store_explicit(&lease->expires_ns, expires, memory_order_relaxed);
        if (lease->row != NULL)
            lend_statistics_set(&lease->row->expires_ns, expires);
        if (expires != 0 && expires < agent->lease_expiry_ns)
            agent->lease_expiry_ns = expires;
    } else {
        const struct lend_lease_name name = {.slot = lease->slot, .generation = lease->generation};
        status = lend_lease_explain(&name, (enum lend_status)lease->info.status, error);
    }
    uint64_t timer = agent->lease_expiry_ns;
    (void)pthread_mutex_unlock(&agent->lock);
    lend_poller_timer(&agent->poller, timer);
    lend_agent_dispatch(agent);
    return status;
}

enum lend_status lend_lease_revoke(struct lend_lease *lease, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(lease, LEND_TAG_LEASE, error);

    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&lease->agent->lock);
    lend_lease_end_locked(lease, LEND_SLOT_REVOKED);
    (void)pthread_mutex_unlock(&lease->agent->lock);
    status = await_writes(lease, error);
    lend_agent_dispatch(lease->agent);
    return status;
}

enum lend_status lend_lease_describe(const struct lend_lease *lease, struct lend_lease_info *out,
                                     struct lend_error *error)
{
    enum lend_status status = lend_handle_check(lease, LEND_TAG_LEASE, error);

    if (status != LEND_OK)
        return status;
    status = lend_struct_check(out, "lend_lease_info", sizeof *out, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&lease->agent->lock);
    fill_info(lease, out);
    (void)pthread_mutex_unlock(&lease->agent->lock);
    return LEND_OK;
}

enum lend_status lend_lease_list(struct lend_agent *agent, struct lend_lease_info *infos,
                                 uint32_t capacity, uint32_t *out_count, struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);
    uint32_t count = 0;

    if (status != LEND_OK)
        return status;
    if (out_count == NULL || (infos == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or infos for a capacity of %u, is NULL",
                         capacity);
    if (capacity > 0 && infos[0].struct_size != sizeof infos[0])
        return lend_fail(error, LEND_E_VERSION, "lend_lease_info is %u bytes, not %zu",
                         infos[0].struct_size, sizeof infos[0]);

    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->live_leases.next; link != &agent->live_leases;
         link = link->next, count++)
        if (count < capacity)
            fill_info(LEND_LIST_OWNER(link, struct lend_lease, live_link), &infos[count]);
    (void)pthread_mutex_unlock(&agent->lock);
    *out_count = count;
    return LEND_OK;
}

void lend_lease_release(struct lend_lease *lease)
{
    if (lend_handle_check(lease, LEND_TAG_LEASE, NULL) != LEND_OK)
        return;

    struct lend_agent *agent = lease->agent;
    (void)pthread_mutex_lock(&agent->lock);
    /* Handles end once: another release finds a dead tag, though the lease may live on. */
    lease->object.live_tag = LEND_TAG_LEASE_UNHELD;
    lend_lease_drop_locked(lease);
    (void)pthread_mutex_unlock(&agent->lock);
}

enum lend_status lend_lease_revoke_blocks(struct lend_agent *agent,
                                          const struct lend_block_set *set, uint32_t *out_count,
                                          struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);
    uint32_t count = 0;
    enum lend_status busy = LEND_OK;

    if (status != LEND_OK)
        return status;
    if (set == NULL || set->regions == NULL || set->region_count == 0)
        return lend_fail(error, LEND_E_INVALID, "no regions to revoke blocks of");
    for (uint32_t i = 0; i < set->region_count; i++) {
        struct lend_blocks blocks;

        status = lend_region_check(agent, set->regions[i], i, error);
        if (status != LEND_OK)
            return status;
        /* All are checked before any lease ends, so that a failure changes nothing. */
        status = lend_blocks_init(&blocks, set, set->regions[i]->geometry.count, error);
        if (status != LEND_OK)
            return status;
        lend_blocks_fini(&blocks);
    }
    for (uint32_t i = 0; i < set->region_count; i++) {
        struct lend_blocks blocks;

        status = lend_blocks_init(&blocks, set, set->regions[i]->geometry.count, error);
        if (status != LEND_OK)
            return status;
        status = lend_leases_revoke(set->regions[i], &blocks, &count, error);
        if (status != LEND_OK)
            busy = status;
        lend_blocks_fini(&blocks);
    }
    if (out_count != NULL)
        *out_count = count;
    lend_agent_dispatch(agent);
    return busy;
}
