/* SPDX-License-Identifier: Apache-2.0 */
#include "core/awaited.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/session.h"
#include "memory/lane.h"

#define LOOK_AGAIN_NS UINT64_C(50000)

struct lend_awaited {
    struct lend_list link;    /* in lend_agent::awaited, or in that of a look; agent's lock */
    struct lend_lease *lease; /* a reference */
    struct lend_lane_mark mark;
    bool is_over;
};

static struct lend_awaited *awaited_of(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_awaited, link);
}

/* That of the first memory of a GPU in it; NULL: there is none. It stays until the agent's end. */
static struct lend_lane *lane_of(const struct lend_lease *lease)
{
    struct lend_lane *lane = NULL;

    (void)pthread_mutex_lock(&lease->agent->lock);
    for (uint32_t i = 0; lane == NULL && i < lease->part_count; i++) {
        const struct lend_lease_part *part = &lease->parts[i];

        if (part->region->object.live_tag == LEND_TAG_REGION &&
            part->region->id == part->region_id && lend_region_device(part->region) != NULL)
            lane = lend_region_device(part->region)->lane;
    }
    (void)pthread_mutex_unlock(&lease->agent->lock);
    return lane;
}

enum lend_status lend_awaited_create(const struct lend_lease *lease, uint64_t stream,
                                     struct lend_awaited **out, struct lend_error *error)
{
    struct lend_lane *lane = lane_of(lease);

    if (lane == NULL)
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_GRANT_AFTER_STREAM for blocks of which none is a GPU's");
    struct lend_awaited *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to wait for a stream by");
    enum lend_status status = lend_lane_follow(lane, stream, &made->mark, error);
    if (status != LEND_OK) {
        lend_sys->release(made);
        return status;
    }
    *out = made;
    return LEND_OK;
}

void lend_awaited_destroy(struct lend_awaited *awaited)
{
    if (awaited != NULL)
        lend_lane_drop_mark(&awaited->mark);
    lend_sys->release(awaited);
}

void lend_awaited_begin_locked(struct lend_awaited *awaited, struct lend_lease *lease)
{
    awaited->lease = lease;
    lease->references++;
    /* Relaxed: nobody knows its name before the lock is let go. */
    atomic_store_explicit(&lease->is_awaited, true, memory_order_relaxed);
    lend_list_append(&lease->agent->awaited, &awaited->link);
}

bool lend_awaited_is_named(struct lend_agent *agent, const struct lend_lease_name *name)
{
    (void)pthread_mutex_lock(&agent->lock);
    const struct lend_slot *slot = lend_slots_at(&agent->slots, name->slot);
    bool is_awaited =
        slot != NULL &&
        lend_slot_judge(
            atomic_load_explicit(lend_slots_word(&agent->slots, name->slot), memory_order_relaxed),
            name->generation) == LEND_OK &&
        lend_lease_is_awaited(slot->lease);
    (void)pthread_mutex_unlock(&agent->lock);
    return is_awaited;
}

/* Ask the driver. What it says is an error is no content: the lease ends, and the log says why. */
static void look_at(struct lend_awaited *awaited)
{
    struct lend_lease *lease = awaited->lease;
    struct lend_error why;

    if (lend_lease_judge(lease) != LEND_OK) {
        awaited->is_over = true; /* whoever waits is told so */
        return;
    }
    enum lend_status status = lend_lane_ask(&awaited->mark, &why);
    awaited->is_over = status != LEND_PENDING;
    if (status == LEND_OK || status == LEND_PENDING)
        return;
    (void)pthread_mutex_lock(&lease->agent->lock);
    lend_lease_end_locked(lease, LEND_SLOT_REVOKED);
    lend_agent_log(lease->agent, LEND_LOG_WARNING,
                   "a lease is revoked, as the stream that it was granted behind has failed: %s",
                   why.message);
    (void)pthread_mutex_unlock(&lease->agent->lock);
}

/* Those that are over wait no more, and the others are the agent's again. True: some are over. */
static bool settle_locked(struct lend_agent *agent, struct lend_list *all, struct lend_list *over)
{
    for (struct lend_list *link; (link = lend_list_take_first(all)) != NULL;) {
        struct lend_awaited *awaited = awaited_of(link);

        if (awaited->is_over) {
            atomic_store_explicit(&awaited->lease->is_awaited, false, memory_order_release);
            lend_lease_drop_locked(awaited->lease);
        }
        lend_list_append(awaited->is_over ? over : &agent->awaited, link);
    }
    return !lend_list_is_empty(over);
}

uint64_t lend_awaited_look(struct lend_agent *agent, uint64_t now_ns)
{
    struct lend_list all, over;

    lend_list_init(&all);
    lend_list_init(&over);
    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link; (link = lend_list_take_first(&agent->awaited)) != NULL;)
        lend_list_append(&all, link);
    (void)pthread_mutex_unlock(&agent->lock);
    if (lend_list_is_empty(&all))
        return UINT64_MAX;
    for (struct lend_list *link = all.next; link != &all; link = link->next)
        look_at(awaited_of(link));

    (void)pthread_mutex_lock(&agent->lock);
    if (settle_locked(agent, &all, &over))
        for (struct lend_list *link = agent->sessions.next; link != &agent->sessions;
             link = link->next)
            lend_session_wake(LEND_LIST_OWNER(link, struct lend_session, link));
    bool is_empty = lend_list_is_empty(&agent->awaited);
    (void)pthread_mutex_unlock(&agent->lock);
    for (struct lend_list *link; (link = lend_list_take_first(&over)) != NULL;)
        lend_awaited_destroy(awaited_of(link));
    return is_empty ? UINT64_MAX : lend_deadline(now_ns, LOOK_AGAIN_NS);
}

void lend_awaited_fini(struct lend_agent *agent, bool forked)
{
    for (struct lend_list *link; (link = lend_list_take_first(&agent->awaited)) != NULL;) {
        if (forked)
            awaited_of(link)->mark = (struct lend_lane_mark){0};
        lend_awaited_destroy(awaited_of(link));
    }
}
