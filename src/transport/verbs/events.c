/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <sys/epoll.h>

/*
 * What NICs tell by themselves: that a completion has come which somebody sleeps for, that a port
 * is down, that a queue pair or all of the device has had a fatal error. The poller hears it, under
 * no lock of a session: it notes it, and wakes the sessions, which look. Until an event is
 * acknowledged its queue is not destroyed, and so its rail is there.
 */

enum { HEARD_MAX = 64 }; /* at one time, before others have their turn */

/* One that the provider did not give up has no session any more. */
static void wake(const struct lend_verbs_rail *rail)
{
    if (rail != NULL && rail->base.session != NULL)
        lend_session_wake(rail->base.session);
}

/* Every rail is to look. */
static void wake_all(struct lend_verbs_station *station)
{
    (void)pthread_mutex_lock(&station->rails_lock);
    for (struct lend_list *link = station->rails.next; link != &station->rails; link = link->next)
        wake(LEND_LIST_OWNER(link, struct lend_verbs_rail, station_link));
    (void)pthread_mutex_unlock(&station->rails_lock);
}

/* Was the device taken away? Then it says nothing, and its descriptors are ready for ever. */
static bool is_gone(uint32_t events)
{
    return (events & ((uint32_t)EPOLLHUP | (uint32_t)EPOLLERR)) != 0;
}

/* --- completions --- */

static void completions_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_verbs_ear *ear = LEND_LIST_OWNER(watch, struct lend_verbs_ear, completions);
    const struct lend_verbs_ops *verbs = ear->station->verbs;
    struct lend_verbs_cq *cq = NULL;
    void *rail = NULL;

    int count = 0;

    for (; count < HEARD_MAX && verbs->get_cq_event(ear->channel, &cq, &rail) == 0; count++) {
        wake(rail);
        verbs->ack_cq_events(cq, 1);
    }
    if (count == 0 && is_gone(events)) {
        atomic_store_explicit(&ear->hears_completions, false, memory_order_relaxed);
        lend_agent_unwatch(ear->station->agent, watch);
        wake_all(ear->station);
    }
}

void lend_verbs_rail_arm(struct lend_verbs_rail *rail)
{
    struct lend_verbs_cq *cq =
        rail->is_client ? rail->cq : lend_verbs_notes_cq(rail, LEND_VERBS_NOTE_LANE);
    bool can = atomic_load_explicit(&rail->station->ears[rail->nic].hears_completions,
                                    memory_order_relaxed);

    if (!can)
        rail->arming = LEND_VERBS_UNARMED;
    else if (rail->arming == LEND_VERBS_UNARMED && lend_verbs_request_notify(cq, false) == 0)
        rail->arming = LEND_VERBS_ARMED;
}

/* --- events of the device --- */

static void note_port(struct lend_verbs_ear *ear, int port)
{
    struct lend_verbs_nic *nic = ear->station->nics[ear->nic];
    struct lend_error why;
    bool was_up = lend_verbs_port_is_up(nic, (uint8_t)port);

    if (port < 1 || port > nic->port_count)
        return;
    if (lend_verbs_port_refresh(nic, (uint8_t)port, &why) != LEND_OK)
        lend_agent_log(ear->station->agent, LEND_LOG_WARNING, "verbs: %s", why.message);
    bool is_up = lend_verbs_port_is_up(nic, (uint8_t)port);
    if (was_up != is_up)
        lend_agent_log(ear->station->agent, LEND_LOG_WARNING, "verbs: %s:%d is %s", nic->name, port,
                       is_up ? "up" : "down");
}

static void note_death(struct lend_verbs_ear *ear)
{
    struct lend_verbs_nic *nic = ear->station->nics[ear->nic];

    if (atomic_exchange_explicit(&nic->is_dead, true, memory_order_relaxed))
        return;
    lend_agent_log(ear->station->agent, LEND_LOG_ERROR,
                   "verbs: %s has told of a fatal error, and is used no more", nic->name);
}

/* Relaxed: the wake comes after, and orders it. */
static void note_hurt(struct lend_verbs_rail *rail)
{
    if (rail != NULL)
        atomic_store_explicit(&rail->is_hurt, true, memory_order_relaxed);
    wake(rail);
}

static void note(struct lend_verbs_ear *ear, const struct lend_verbs_event *event)
{
    switch (event->type) {
    case LEND_VERBS_EVENT_PORT_ERROR:
    case LEND_VERBS_EVENT_PORT_ACTIVE:
    case LEND_VERBS_EVENT_LID_CHANGE:
    case LEND_VERBS_EVENT_PKEY_CHANGE:
    case LEND_VERBS_EVENT_GID_CHANGE: note_port(ear, event->element.port); break;
    case LEND_VERBS_EVENT_DEVICE_FATAL: note_death(ear); break;
    case LEND_VERBS_EVENT_QP_FATAL:
    case LEND_VERBS_EVENT_QP_REQUEST:
    case LEND_VERBS_EVENT_QP_ACCESS: note_hurt(event->element.qp->qp_context); return;
    case LEND_VERBS_EVENT_CQ_ERROR: note_hurt(event->element.cq->cq_context); return;
    default: return; /* of queues that we have not, or no news to us */
    }
    /* Release: what was noted is there for who sees the new number. */
    (void)atomic_fetch_add_explicit(&ear->station->events, 1, memory_order_release);
    lend_verbs_touch(ear->station);
    wake_all(ear->station);
}

static void events_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_verbs_ear *ear = LEND_LIST_OWNER(watch, struct lend_verbs_ear, events);
    struct lend_verbs_station *station = ear->station;
    struct lend_verbs_event event;
    int count = 0;

    while (count < HEARD_MAX &&
           station->verbs->get_async_event(station->nics[ear->nic]->context, &event) == 0) {
        note(ear, &event);
        station->verbs->ack_async_event(&event);
        count++;
    }
    if (count == 0 && is_gone(events)) {
        lend_agent_unwatch(station->agent, watch);
        ear->hears_events = false;
        event = (struct lend_verbs_event){.type = LEND_VERBS_EVENT_DEVICE_FATAL};
        note(ear, &event);
    }
}

/* --- what a rail makes of it --- */

/* Why it can go on no more, with its status; LEND_OK: it can. */
static enum lend_status judge(const struct lend_verbs_rail *rail, bool is_hurt,
                              struct lend_error *why)
{
    struct lend_verbs_nic *nic = rail->place.nic;

    if (atomic_load_explicit(&nic->is_dead, memory_order_relaxed))
        return lend_fail(why, LEND_E_DEVICE, "%s has told of a fatal error", nic->name);
    if (is_hurt)
        return lend_fail(why, LEND_E_DEVICE, "%s has told of a fatal error of a queue pair",
                         nic->name);
    if (!lend_verbs_port_is_up(nic, rail->place.port.number))
        return lend_fail(why, LEND_E_NO_PATH, "%s:%u is down: see `rdma link'", nic->name,
                         rail->place.port.number);
    return LEND_OK;
}

bool lend_verbs_rail_heed(struct lend_verbs_rail *rail)
{
    struct lend_error why;
    bool is_hurt = false;

    uint64_t told = atomic_load_explicit(&rail->station->events, memory_order_acquire);
    if (atomic_load_explicit(&rail->is_hurt, memory_order_relaxed))
        is_hurt = atomic_exchange_explicit(&rail->is_hurt, false, memory_order_relaxed);
    if (told == rail->events_seen && !is_hurt)
        return false;
    rail->events_seen = told;
    if (rail->state == LEND_VERBS_RAIL_BROKEN) { /* another try, at once */
        rail->failures = 0;
        (void)lend_verbs_rail_judge(&rail->base, &why);
        return false;
    }
    enum lend_status status = judge(rail, is_hurt, &why);
    if (status != LEND_OK)
        lend_verbs_rail_break(rail, status, 0, &why);
    return status != LEND_OK;
}

/* --- life --- */

/* So that a look that comes too late does not wait. */
static bool watch(struct lend_verbs_station *station, struct lend_watch *watch,
                  struct lend_error *why)
{
    int result = lend_sys->set_nonblocking(watch->fd);

    if (result < 0)
        return lend_fail_errno(why, -result, "its events would be waited for") == LEND_OK;
    return lend_agent_watch(station->agent, watch, EPOLLIN, why) == LEND_OK;
}

static void open_channel(struct lend_verbs_ear *ear, struct lend_error *why)
{
    const struct lend_verbs_ops *verbs = ear->station->verbs;

    ear->channel = verbs->create_comp_channel(ear->station->nics[ear->nic]->context);
    if (ear->channel == NULL) {
        (void)lend_fail(why, LEND_E_DEVICE, "it makes no completion channel");
        return;
    }
    ear->completions = (struct lend_watch){.ready = completions_ready, .fd = ear->channel->fd};
    bool is_heard = watch(ear->station, &ear->completions, why);
    atomic_store_explicit(&ear->hears_completions, is_heard, memory_order_relaxed);
    if (is_heard)
        return;
    (void)verbs->destroy_comp_channel(ear->channel); /* nothing uses it */
    ear->channel = NULL;
}

static void open_ear(struct lend_verbs_ear *ear)
{
    struct lend_verbs_nic *nic = ear->station->nics[ear->nic];
    struct lend_error why = {0};

    ear->events = (struct lend_watch){.ready = events_ready, .fd = nic->context->async_fd};
    ear->hears_events = watch(ear->station, &ear->events, &why);
    if (!ear->hears_events)
        lend_agent_log(ear->station->agent, LEND_LOG_WARNING,
                       "verbs: what %s tells of its ports is not heard: %s", nic->name,
                       why.message);
    open_channel(ear, &why);
    if (!atomic_load_explicit(&ear->hears_completions, memory_order_relaxed))
        lend_agent_log(ear->station->agent, LEND_LOG_WARNING,
                       "verbs: transfers by %s are polled for: %s", nic->name, why.message);
}

void lend_verbs_ears_open(struct lend_verbs_station *station)
{
    for (uint32_t i = 0; i < station->nic_count; i++) {
        station->ears[i].station = station;
        station->ears[i].nic = i;
        open_ear(&station->ears[i]);
    }
}

void lend_verbs_ears_close(struct lend_verbs_station *station)
{
    for (uint32_t i = 0; i < station->nic_count; i++) {
        struct lend_verbs_ear *ear = &station->ears[i];

        if (ear->hears_events)
            lend_agent_unwatch(station->agent, &ear->events);
        ear->hears_events = false;
        if (ear->channel == NULL)
            continue;
        if (atomic_load_explicit(&ear->hears_completions, memory_order_relaxed))
            lend_agent_unwatch(station->agent, &ear->completions);
        if (station->verbs->destroy_comp_channel(ear->channel) != 0)
            lend_agent_log(station->agent, LEND_LOG_ERROR,
                           "verbs: %s did not give its completion channel back",
                           station->nics[i]->name);
        ear->channel = NULL;
    }
}
