/* SPDX-License-Identifier: Apache-2.0 */
#include "core/remote.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/explain.h"
#include "core/lease.h"
#include "core/rail.h"
#include "core/slot.h"
#include "core/view.h"

enum { TRIES_MAX = 3 }; /* of one transfer, where the rail broke */

static struct lend_rail *rail_of(const struct lend_onesided *own)
{
    return own->session->rail;
}

enum lend_status lend_remote_judge(struct lend_onesided *own,
                                   const struct lend_metadata_region *region,
                                   struct lend_error *why)
{
    struct lend_rail *rail = rail_of(own);

    if (rail == NULL)
        return lend_fail(why, LEND_E_NO_PATH, "no rail leads to %s", own->peer->name);
    if ((rail->ops->kinds >> region->kind & 1) == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "memory of kind %u is not read or written by NICs yet", region->kind);
    if (region->kind == LEND_MEMORY_DEVICE &&
        (region->device < 0 || region->device >= LEND_RAIL_GPUS_MAX))
        return lend_fail(why, LEND_E_NO_PATH,
                         "its GPU has number %d, and NICs are told of those below %d",
                         region->device, LEND_RAIL_GPUS_MAX);
    return rail->ops->judge(rail, why);
}

uint64_t lend_remote_stamp(struct lend_onesided *own)
{
    struct lend_rail *rail = rail_of(own);

    return rail != NULL ? rail->ops->stamp(rail) : 0;
}

enum lend_status lend_remote_bind(struct lend_onesided *own, struct lend_transfer *transfer,
                                  struct lend_error *why)
{
    struct lend_rail *rail = rail_of(own);
    bool is_write = transfer->direction == LEND_WRITE;

    if (is_write) {
        enum lend_status status =
            rail->ops->writes(rail, transfer->lease.slot, transfer->lease.generation, why);
        if (status != LEND_OK)
            return status;
    }
    for (uint64_t i = 0; !transfer->is_bound && i < transfer->region_count; i++) {
        uint64_t id = transfer->has_ranges ? transfer->ranges[i].region_id : transfer->remotes[i];
        struct lend_rail_ends *ends = &transfer->ends[i];

        ends->theirs =
            is_write ? NULL : rail->ops->theirs(rail, id, transfer->sources[i].life, why);
        if (ends->theirs == NULL && !is_write)
            return LEND_E_NO_PATH;
        ends->ours = rail->ops->ours(rail, transfer->locals[i].id, !is_write, why);
        if (ends->ours == NULL)
            return LEND_E_NO_PATH;
    }
    transfer->is_bound = true;
    return LEND_OK;
}

/* --- ends --- */

static void fail(struct lend_onesided *own, struct lend_transfer *transfer,
                 const struct lend_error *why)
{
    lend_onesided_drop(own, transfer);
    lend_client_fail(own->session, transfer, why);
}

/* The rail broke under it, and whether the lease lives is not known. Its owner says that: by
 * serving it, or, where that is not allowed, by what it answers to a look, after which it is tried
 * again. */
void lend_remote_try_again(struct lend_onesided *own, struct lend_transfer *transfer,
                           struct lend_error *why)
{
    bool is_dead = atomic_load_explicit(&own->session->is_dead, memory_order_relaxed);

    lend_onesided_forget(own, &transfer->lease);
    if (lend_onesided_may_serve(transfer) && !is_dead) {
        transfer->rail_tries++;
        lend_onesided_fall_back(own, transfer, why);
    } else if (transfer->rail_tries < TRIES_MAX ||
               is_dead) { /* the session ends it, if that ends */
        transfer->rail_tries++;
        lend_onesided_drop(own, transfer);
        lend_transfer_rewind(transfer);
        lend_client_submit(own->session, transfer);
    } else if (why->status == LEND_E_PEER_DEAD || why->status == LEND_E_DEVICE) { /* says the NIC */
        fail(own, transfer, why);
    } else {
        lend_onesided_fall_back(own, transfer, why); /* where there is no way */
    }
}

bool lend_onesided_hush(struct lend_onesided *own, struct lend_transfer *transfer,
                        enum lend_status status, const char *reason)
{
    if (transfer->direction != LEND_WRITE || status != LEND_E_CANCELED ||
        transfer->rail_tries == 0 || rail_of(own) == NULL)
        return false;
    transfer->severed = status;
    transfer->severed_why = reason;
    atomic_store_explicit(&transfer->is_severed, true, memory_order_relaxed);
    lend_list_append(&own->all, &transfer->own_link);
    lend_views_hush(own, transfer);
    return true;
}

/* Nothing of it is on its way any more to memory of a GPU of ours, which is what it was, and sees
 * what came. */
static enum lend_status settle_devices(const struct lend_transfer *transfer, struct lend_error *why)
{
    enum lend_status status = LEND_OK;

    if (!lend_transfer_is_staged(transfer))
        return LEND_OK;
    if (transfer->direction == LEND_READ)
        status = lend_transfer_flush(transfer, why);
    return status == LEND_OK ? lend_transfer_check_devices(transfer, why) : status;
}

/* Did it end before anything of it was written, as its owner has said that there are no keys after
 * all? */
static bool has_no_keys(struct lend_transfer *transfer, struct lend_error *why)
{
    const struct lend_rail_move *move = &transfer->move;
    struct lend_rail *rail = transfer->session->rail;

    return move->is_write && move->status == LEND_E_NO_PATH && move->code == 0 &&
           move->posted_bytes == 0 &&
           rail->ops->writes(rail, move->slot, move->generation, why) == LEND_E_NO_PATH;
}

static void move_done(struct lend_rail_move *move)
{
    struct lend_transfer *transfer = LEND_LIST_OWNER(move, struct lend_transfer, move);
    struct lend_onesided *own = lend_client_onesided(transfer->session);
    struct lend_error why;
    enum lend_status settled = settle_devices(transfer, &why);

    transfer->is_on_rail = false;
    own->on_rail_count--;
    transfer->proven_bytes = move->proven_bytes;
    if (transfer->severed == LEND_E_CANCELED && move->is_write &&
        lend_rail_has_broken(move->status, move->code)) {
        lend_views_hush(own, transfer);
    } else if (transfer->severed != LEND_OK) {
        (void)lend_fail(&why, (enum lend_status)transfer->severed, "%s", transfer->severed_why);
        fail(own, transfer, &why);
    } else if (move->status == LEND_OK && settled != LEND_OK) {
        transfer->proven_bytes = 0;
        fail(own, transfer, &why);
    } else if (move->status == LEND_OK) {
        lend_onesided_drop(own, transfer);
        lend_client_succeed(own->session, transfer);
    } else if (has_no_keys(transfer, &why)) {
        lend_onesided_fall_back(own, transfer, &why);
    } else if (lend_rail_has_broken(move->status, move->code)) {
        (void)lend_fail(&why, move->status, "the rail to %s broke (work completion %d)",
                        own->peer->name, move->code);
        why.device_code = move->code;
        lend_remote_try_again(own, transfer, &why);
    } else {
        (void)lend_lease_explain(&transfer->lease, move->status, &why);
        fail(own, transfer, &why);
    }
}

/* Which of the owner's GPUs are read or written. */
static uint32_t find_gpus(const struct lend_transfer *transfer)
{
    uint32_t gpus = 0;

    if (!lend_transfer_is_staged(transfer))
        return 0;
    for (uint64_t i = 0; i < transfer->region_count; i++)
        if (transfer->sources[i].gpu >= 0) /* and as judged, there is a bit for it */
            gpus |= UINT32_C(1) << transfer->sources[i].gpu;
    return gpus;
}

void lend_remote_begin(struct lend_onesided *own, struct lend_transfer *transfer)
{
    struct lend_error why;

    if (lend_transfer_is_staged(transfer) &&
        lend_transfer_check_devices(transfer, &why) != LEND_OK) {
        fail(own, transfer, &why);
        return;
    }
    transfer->move = (struct lend_rail_move){
        .theirs = transfer->remote,
        .ours = transfer->local,
        .is_write = transfer->direction == LEND_WRITE,
        .gpus = find_gpus(transfer),
        .ends = transfer->ends,
        .total_bytes = transfer->total_bytes,
        .slot = transfer->lease.slot,
        .generation = transfer->lease.generation,
        .judge = lend_slot_judge,
        .done = move_done,
    };
    transfer->is_on_rail = true;
    own->on_rail_count++;
    rail_of(own)->ops->submit(rail_of(own), &transfer->move);
}

void lend_remote_drop(struct lend_onesided *own, struct lend_transfer *transfer)
{
    if (!transfer->is_on_rail)
        return;
    bool is_quiet = rail_of(own)->ops->stop(rail_of(own), &transfer->move);
    LEND_INVARIANT(is_quiet);
    (void)settle_devices(transfer, NULL); /* it ends by another cause */
    transfer->is_on_rail = false;
    own->on_rail_count--;
}

/* --- before their time --- */

bool lend_onesided_is_landing(const struct lend_onesided *own, const struct lend_transfer *transfer)
{
    (void)own;
    return transfer->severed != LEND_OK || transfer->is_flying ||
           (transfer->is_on_rail && !lend_list_is_empty(&transfer->move.flying));
}

void lend_onesided_sever(struct lend_onesided *own, struct lend_transfer *transfer,
                         enum lend_status status, const char *reason)
{
    if (transfer->severed != LEND_OK)
        return;
    transfer->severed = status;
    transfer->severed_why = reason;
    transfer->settle_by_ns = lend_deadline(lend_sys->now_ns(), LEND_SETTLE_NS);
    atomic_store_explicit(&transfer->is_severed, true, memory_order_relaxed);
    lend_poller_timer(&own->session->agent->poller, transfer->settle_by_ns);
    if (transfer->is_on_rail)
        (void)rail_of(own)->ops->stop(rail_of(own), &transfer->move);
}

uint64_t lend_onesided_settle(struct lend_onesided *own, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;
    bool flies = false;

    for (struct lend_list *link = own->all.next; link != &own->all; link = link->next) {
        const struct lend_transfer *transfer =
            LEND_LIST_OWNER(link, struct lend_transfer, own_link);

        flies |=
            transfer->is_flying && transfer->severed != LEND_OK && transfer->settle_by_ns <= now_ns;
        if (transfer->severed != LEND_OK && (transfer->is_on_rail || transfer->is_flying) &&
            transfer->settle_by_ns < next)
            next = transfer->settle_by_ns;
    }
    if (now_ns < next || flies) /* a GPU has to be waited for: the session gives up */
        return next;
    lend_rail_halt(own->session);
    return UINT64_MAX;
}
