/* SPDX-License-Identifier: Apache-2.0 */
#include "core/client_state.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/stage.h"

/*
 * How transfers end before their time: canceled, severed, run out. One whose bytes are still
 * landing, because the transport goes on by itself, completes only when they have.
 */

static struct lend_client_slot *slot_of(struct lend_client *client,
                                        const struct lend_transfer *transfer)
{
    for (uint32_t i = 0; i < client->requests_max; i++)
        if (client->slots[i].request != 0 && client->slots[i].transfer == transfer)
            return &client->slots[i];
    return NULL;
}

void lend_client_free_slot(struct lend_client *client, struct lend_client_slot *slot)
{
    lend_stage_drop(client->session.stage, slot);
    client->busy_count--;
    client->large_count -= slot->is_large;
    *slot = (struct lend_client_slot){0};
}

void lend_client_fail_transfer(struct lend_client *client, struct lend_transfer *transfer,
                               const struct lend_error *why)
{
    if (transfer->has_notification)
        lend_outbox_unreserve(&client->outbox, transfer->notification.count);
    lend_transfer_complete(transfer, (enum lend_status)why->status, why);
}

void lend_client_end_slot(struct lend_client *client, struct lend_client_slot *slot)
{
    struct lend_transfer *transfer = slot->transfer;
    struct lend_error why;

    (void)lend_fail(&why, (enum lend_status)slot->severed, "%s", slot->reason);
    why.device_code = transfer->why.device_code; /* where the reason is kept there */
    lend_stage_drop(client->session.stage, slot);
    slot->severed = LEND_OK;
    slot->transfer = NULL;
    client->severed_count--;
    if (!slot->is_asked) /* or its answer is here already */
        lend_client_free_slot(client, slot);
    lend_client_fail_transfer(client, transfer, &why);
}

bool lend_client_end_severed(struct lend_client *client)
{
    bool moved = false;

    for (uint32_t i = 0; i < client->requests_max; i++) {
        struct lend_client_slot *slot = &client->slots[i];

        if (slot->severed == LEND_OK || lend_client_is_landing(client, slot))
            continue;
        lend_client_end_slot(client, slot);
        moved = true;
    }
    return moved;
}

/* Bytes are landing that belong to the slot: remember how its transfer is to end. The first reason
 * counts. */
static void sever_later(struct lend_client *client, struct lend_client_slot *slot,
                        enum lend_status status, const char *reason)
{
    if (slot->severed != LEND_OK)
        return;
    client->severed_count++;
    slot->wants_cancel = true;
    slot->severed = status;
    slot->reason = reason;
    slot->settle_by_ns = lend_deadline(lend_sys->now_ns(), LEND_SETTLE_NS);
    atomic_store_explicit(&slot->transfer->is_severed, true, memory_order_relaxed);
    lend_poller_timer(&client->session.agent->poller, slot->settle_by_ns);
}

bool lend_client_is_landing(const struct lend_client *client, const struct lend_client_slot *slot)
{
    const struct lend_channel *channel = client->session.channel;

    return (channel != NULL && slot->quiet_at > channel->settled) ||
           (slot->request != 0 && lend_stage_is_flying(client->session.stage, slot));
}

void lend_client_answer_early(struct lend_client *client, struct lend_client_slot *slot,
                              const struct lend_error *why)
{
    struct lend_transfer *transfer = slot->transfer;

    if (slot->severed == LEND_OK) {
        transfer->why = *why; /* until it is complete it is ours to keep the reason in */
        sever_later(client, slot, (enum lend_status)why->status, transfer->why.message);
    }
    slot->is_asked = false; /* nothing more is to come for it, */
    slot->wants_cancel = false;
}

/* The slot's transfer is to end now; the request is told so, if it was made. */
static void let_go(struct lend_client *client, struct lend_client_slot *slot)
{
    if (!slot->is_asked) {
        lend_client_free_slot(client, slot);
        return;
    }
    lend_stage_drop(client->session.stage, slot);
    slot->transfer = NULL;
    slot->wants_cancel = true;
}

bool lend_client_sever(struct lend_session *session, struct lend_transfer *transfer,
                       enum lend_status status, const char *reason)
{
    struct lend_client *client = lend_client_of(session);
    struct lend_client_slot *slot = slot_of(client, transfer);
    struct lend_error why;

    if (slot != NULL && lend_client_is_landing(client, slot)) {
        sever_later(client, slot, status, reason);
        return false;
    }
    if (lend_onesided_is_landing(&client->own, transfer)) {
        lend_onesided_sever(&client->own, transfer, status, reason);
        return false;
    }
    lend_onesided_drop(&client->own, transfer);
    lend_list_remove(&transfer->session_link);
    lend_list_remove(&transfer->notification.link);
    if (slot != NULL)
        let_go(client, slot);
    if (lend_onesided_hush(&client->own, transfer, status, reason))
        return false;
    (void)lend_fail(&why, status, "%s", reason);
    lend_client_fail_transfer(client, transfer, &why);
    return true;
}

void lend_client_fail_slot(struct lend_client *client, struct lend_client_slot *slot,
                           const struct lend_error *why)
{
    struct lend_transfer *transfer = slot->transfer;

    if (lend_client_is_landing(client, slot)) {
        transfer->why = *why; /* until it is complete it is ours to keep the reason in */
        sever_later(client, slot, (enum lend_status)why->status, transfer->why.message);
        return;
    }
    let_go(client, slot);
    lend_client_fail_transfer(client, transfer, why);
}

bool lend_client_end(struct lend_session *session, struct lend_transfer *transfer,
                     enum lend_status status, const char *reason)
{
    struct lend_client_slot *slot = slot_of(lend_client_of(session), transfer);

    /* Only the peer can say when a WRITE that it was asked for has ended. */
    if (transfer->direction == LEND_WRITE && status == LEND_E_CANCELED && slot != NULL &&
        slot->is_asked) {
        if (!transfer->is_canceled)
            slot->wants_cancel = true;
        transfer->is_canceled = true;
        return false;
    }
    return lend_client_sever(session, transfer, status, reason);
}

/* Give a transfer its deadline's due; the time when it has one, UINT64_MAX: it is over. */
static uint64_t run_out(struct lend_session *session, struct lend_transfer *transfer, uint64_t now)
{
    if (now < transfer->deadline_ns)
        return transfer->deadline_ns;
    (void)lend_client_sever(session, transfer, LEND_E_TIMEOUT,
                            session->is_welcome ? "the deadline passed"
                                                : "the deadline passed before the peer answered");
    return UINT64_MAX;
}

/* The same for one that is asked for; once it is severed, the time until which that may last. */
static uint64_t run_out_slot(struct lend_client *client, const struct lend_client_slot *slot,
                             uint64_t now)
{
    uint64_t next = slot->severed != LEND_OK ? slot->settle_by_ns
                                             : run_out(&client->session, slot->transfer, now);

    return slot->severed != LEND_OK ? slot->settle_by_ns : next;
}

static uint64_t run_out_waiting(struct lend_session *session, struct lend_list *waiting,
                                uint64_t now)
{
    uint64_t next = UINT64_MAX;

    for (struct lend_list *link = waiting->next, *following; link != waiting; link = following) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);
        following = link->next;
        uint64_t own = run_out(session, transfer, now);
        next = own < next ? own : next;
    }
    return next;
}

uint64_t lend_client_timers(struct lend_session *session, uint64_t now)
{
    struct lend_client *client = lend_client_of(session);

    if (client->severed_count > 0 && session->channel != NULL)
        (void)lend_client_end_severed(client);

    uint64_t next = run_out_waiting(session, &client->waiting[false], now);
    uint64_t own = run_out_waiting(session, &client->waiting[true], now);

    next = own < next ? own : next;
    own = run_out_waiting(session, &client->arriving, now);
    next = own < next ? own : next;
    for (struct lend_list *link = client->own.all.next, *following; link != &client->own.all;
         link = following) {
        following = link->next;
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, own_link);
        own = transfer->severed == LEND_OK ? run_out(session, transfer, now) : UINT64_MAX;
        next = own < next ? own : next;
    }
    own = lend_onesided_settle(&client->own, now);
    next = own < next ? own : next;
    for (uint32_t i = 0; i < client->requests_max; i++)
        if (client->slots[i].request != 0 && client->slots[i].transfer != NULL) {
            own = run_out_slot(client, &client->slots[i], now);
            next = own < next ? own : next;
        }
    if (now >= next) { /* of a slot that was severed in vain */
        lend_session_die(session, LEND_E_PEER_DEAD,
                         "%s left what it was sending unfinished for %d ms", client->peer->name,
                         (int)(LEND_SETTLE_NS / 1000000));
        return UINT64_MAX;
    }
    /* Its data is there, but the peer does not take the notification. */
    for (struct lend_list *link = client->outbox.waiting.next, *following;
         link != &client->outbox.waiting; link = following) {
        struct lend_outgoing *outgoing = LEND_LIST_OWNER(link, struct lend_outgoing, link);

        following = link->next;
        own = outgoing->transfer != NULL ? run_out(session, outgoing->transfer, now) : UINT64_MAX;
        next = own < next ? own : next;
    }
    if (session->channel != NULL)
        (void)lend_session_pump(session); /* the cancels of what ran out */
    return next;
}
