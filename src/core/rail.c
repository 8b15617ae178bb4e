/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rail.h"

#include "base/error.h"
#include "core/region.h"

#include <string.h>

const struct lend_open_transport *lend_rail_transport(const struct lend_agent *agent)
{
    for (uint32_t i = 0; i < agent->transport_count; i++)
        if (agent->transports[i].ops->rail != NULL)
            return &agent->transports[i];
    return NULL;
}

const char *lend_rail_path(const struct lend_peer *peer, const struct lend_transport_ops *ops,
                           enum lend_way way)
{
    if (!lend_way_is_remote(way))
        return ops->paths[way];
    return peer->rail != NULL && ops->foreign == NULL ? peer->rail->ops->paths[way] : NULL;
}

/* --- a session's --- */

void lend_rail_begin(struct lend_session *session, struct lend_peer *peer)
{
    struct lend_error why = {0};

    if (session->rail_is_begun)
        return;
    session->rail_is_begun = true;
    if (peer->rail == NULL || session->channel->ops->foreign != NULL)
        return;
    const struct lend_rail_desc desc = {.session = session,
                                        .is_client = true,
                                        .address = peer->rail_address.address,
                                        .address_bytes = peer->rail_address.address_bytes};
    if (peer->rail->ops->rail->open(peer->rail->transport, &desc, &session->rail, &why) != LEND_OK)
        lend_agent_log(session->agent, LEND_LOG_WARNING, "no rail to %s: %s", peer->name,
                       why.message);
}

enum lend_status lend_rail_take(struct lend_session *session, const uint8_t *payload, size_t count,
                                struct lend_error *error)
{
    const struct lend_open_transport *open = lend_rail_transport(session->agent);

    if (session->rail == NULL && !session->role->is_client && open != NULL) {
        const struct lend_rail_desc desc = {.session = session};
        enum lend_status status =
            open->ops->rail->open(open->transport, &desc, &session->rail, error);
        if (status != LEND_OK)
            return status;
    }
    if (session->rail == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "a frame for a rail, of which there is none");
    return session->rail->ops->hear(session->rail, payload, count, error);
}

bool lend_rail_say(struct lend_session *session)
{
    uint8_t bytes[LEND_FRAME_MESSAGE_MAX];

    while (session->rail != NULL) {
        if (lend_session_room(session) < LEND_FRAME_CONTROL_MAX) {
            session->wanted_room = LEND_FRAME_CONTROL_MAX;
            return false;
        }
        size_t count = session->rail->ops->say(session->rail, bytes);
        if (count == 0)
            return true;
        (void)lend_session_send(session, LEND_FRAME_RAIL, 0, bytes, count);
    }
    return true;
}

bool lend_rail_notify(struct lend_session *session, uint64_t number, const void *bytes,
                      size_t count)
{
    struct lend_rail *rail = session->rail;

    /* A NIC seals nothing. */
    if (rail == NULL || lend_guard_is_sealed(&session->guard) ||
        !rail->ops->notify(rail, number, bytes, count))
        return false;
    lend_poller_timer(&session->agent->poller, rail->ops->due(rail));
    return true;
}

bool lend_rail_repeat(struct lend_session *session)
{
    if (session->rail == NULL)
        return true;
    session->rail->ops->repeat(session->rail);
    return lend_rail_say(session);
}

/* Who waits for a connection waits until it is known whether there is a rail. */
static void note(struct lend_session *session)
{
    struct lend_error why;

    if (atomic_load_explicit(&session->rail_is_known, memory_order_relaxed) ||
        (session->rail != NULL && session->rail->ops->judge(session->rail, &why) == LEND_PENDING))
        return;
    atomic_store_explicit(&session->rail_is_known, true, memory_order_release);
    lend_agent_announce(session->agent);
}

bool lend_rail_pump(struct lend_session *session)
{
    if (session->role->is_client)
        note(session);
    if (session->rail == NULL)
        return false;
    bool moved = session->rail->ops->pump(session->rail);
    size_t wanted = session->wanted_room;
    if (lend_rail_say(session))
        session->wanted_room = wanted;
    return moved;
}

bool lend_rail_sleep(struct lend_session *session)
{
    if (session->rail == NULL)
        return true;
    if (!session->rail->ops->sleep(session->rail))
        return false;
    lend_poller_timer(&session->agent->poller, session->rail->ops->due(session->rail));
    return true;
}

uint64_t lend_rail_timers(struct lend_session *session, uint64_t now_ns)
{
    uint64_t due = session->rail != NULL ? session->rail->ops->due(session->rail) : UINT64_MAX;

    if (now_ns < due)
        return due;
    lend_session_wake(session);
    return UINT64_MAX;
}

bool lend_rail_is_behind(const struct lend_session *session)
{
    return session->rail != NULL && session->rail->ops->is_behind(session->rail);
}

void lend_rail_halt(struct lend_session *session)
{
    if (session->rail != NULL)
        session->rail->ops->halt(session->rail);
}

void lend_rail_end(struct lend_session *session, bool forked)
{
    if (session->rail != NULL)
        session->rail->ops->close(session->rail, forked);
    session->rail = NULL;
}

/* --- regions --- */

bool lend_rail_reserve_locked(struct lend_region *region)
{
    const struct lend_open_transport *open = lend_rail_transport(region->agent);

    if (open == NULL || (open->ops->rail->kinds >> region->memory.kind & 1) == 0)
        return false;
    region->is_railing = true;
    return true;
}

void lend_rail_expose(struct lend_region *region, const struct lend_memory *memory,
                      const struct lend_device_memory *device, uint32_t life)
{
    const struct lend_open_transport *open = lend_rail_transport(region->agent);
    const struct lend_exposure exposure = {.region_id = region->id,
                                           .address = memory->address,
                                           .length_bytes = memory->length_bytes,
                                           .life = life,
                                           .access = region->access,
                                           .lane = device != NULL ? device->lane : NULL};
    struct lend_error why;

    if (open->ops->rail->expose(open->transport, &exposure, &why) != LEND_OK)
        lend_agent_log(region->agent, LEND_LOG_WARNING,
                       "region %llu is not read by transport %s: %s",
                       (unsigned long long)exposure.region_id, open->ops->name, why.message);
}

void lend_rail_settle_locked(struct lend_region *region, bool is_lent)
{
    struct lend_error why;

    region->is_railing = false;
    region->is_on_rail = true;
    if (!is_lent && lend_rail_conceal_locked(region, &why) != LEND_OK)
        lend_agent_log(region->agent, LEND_LOG_ERROR,
                       "memory that was not lent after all must stay until the agent has ended: %s",
                       why.message);
}

void lend_rail_expose_all(struct lend_agent *agent, struct lend_region *const *regions,
                          uint32_t count)
{
    for (uint32_t i = 0; i < count && lend_rail_transport(agent) != NULL; i++) {
        (void)pthread_mutex_lock(&agent->lock);
        bool is_its = lend_rail_reserve_locked(regions[i]);
        (void)pthread_mutex_unlock(&agent->lock);
        if (!is_its)
            continue;
        lend_rail_expose(regions[i], &regions[i]->memory, lend_region_device(regions[i]),
                         regions[i]->life);
        (void)pthread_mutex_lock(&agent->lock);
        lend_rail_settle_locked(regions[i], true);
        (void)pthread_mutex_unlock(&agent->lock);
    }
}

enum lend_status lend_rail_conceal_locked(struct lend_region *region, struct lend_error *error)
{
    const struct lend_open_transport *open = lend_rail_transport(region->agent);
    char who[200];

    if (region->is_railing)
        return lend_fail(error, LEND_E_BUSY,
                         "region %s (%llu) is being made known to a NIC by another thread",
                         region->name, (unsigned long long)region->id);
    if (!region->is_on_rail || open == NULL)
        return LEND_OK;
    open->ops->rail->conceal(open->transport, region->id);
    if (open->ops->rail->is_exposed(open->transport, region->id, who, sizeof who))
        return lend_fail(error, LEND_E_BUSY, "region %s (%llu): %s", region->name,
                         (unsigned long long)region->id, who);
    region->is_on_rail = false;
    return LEND_OK;
}
