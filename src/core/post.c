/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transfer.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/region.h"
#include "core/stage.h"
#include "memory/lane.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* From a post to its completion, and what waits for it. */

enum { ZERO_BYTES = 256 << 10 };

#define LOOK_AGAIN_NS UINT64_C(2000)

/* --- completion --- */

static void record(struct lend_transfer *transfer, enum lend_status status,
                   const struct lend_error *why)
{
    uint64_t proven = status == LEND_OK ? transfer->total_bytes : transfer->proven_bytes;

    transfer->status = status;
    transfer->wire_ns = lend_sys->now_ns() - transfer->posted_ns;
    if (why != NULL)
        transfer->why = *why;
    transfer->record_blocks = 0;
    if (transfer->has_ranges) {
        uint64_t end = 0;

        transfer->record_bytes = 0;
        for (uint64_t i = 0; i < transfer->block_count; i++) {
            end += transfer->ranges[i].length_bytes;
            if (end > proven)
                break;
            transfer->record_blocks++;
            transfer->record_bytes = end;
        }
    } else {
        transfer->record_blocks = proven / transfer->block_bytes;
        transfer->record_bytes = transfer->record_blocks * transfer->block_bytes;
    }
}

static void finish(struct lend_transfer *transfer)
{
    struct lend_agent *agent = transfer->agent;

    /* Release: the record is there before anybody finds it complete. It is the caller's from here
     * on. */
    atomic_store_explicit(&transfer->phase, LEND_PHASE_COMPLETE, memory_order_release);
    lend_agent_announce(agent);
}

void lend_transfer_complete(struct lend_transfer *transfer, enum lend_status status,
                            const struct lend_error *why)
{
    struct lend_agent *agent = transfer->agent;

    record(transfer, status, why);
    lend_statistics_count_transfer(transfer);
    if (status == LEND_OK || transfer->direction != LEND_READ ||
        (transfer->flags & LEND_TRANSFER_ZERO_ON_FAILURE) == 0) {
        finish(transfer);
        return;
    }
    transfer->record_bytes = 0; /* of what was proven nothing stays */
    transfer->record_blocks = 0;
    lend_cursor_init(&transfer->local, transfer->extents, transfer->region_count,
                     transfer->local_runs, transfer->has_ranges ? 1 : transfer->local_run_count);
    (void)pthread_mutex_lock(&agent->zero_lock);
    atomic_store_explicit(&transfer->phase, LEND_PHASE_ZEROING, memory_order_seq_cst);
    lend_list_append(&agent->zeroing, &transfer->session_link);
    (void)atomic_fetch_add(&agent->zeroing_count, 1);
    (void)pthread_mutex_unlock(&agent->zero_lock);
    lend_poller_kick(&agent->poller);
}

static void end_zeroing(struct lend_transfer *transfer)
{
    lend_list_remove(&transfer->session_link);
    (void)atomic_fetch_sub(&transfer->agent->zeroing_count, 1);
    finish(transfer);
}

static struct lend_transfer *first_zeroed(struct lend_agent *agent)
{
    return LEND_LIST_OWNER(agent->zeroing.next, struct lend_transfer, session_link);
}

/* Zero a chunk of memory some of which is a GPU's, which does so by itself. True once all is over;
 * a GPU that fails leaves its part as it is, as nobody can do more. */
static bool zero_staged(struct lend_transfer *transfer)
{
    struct lend_lane_mark *mark = &transfer->agent->zero_mark;

    if (lend_lane_ask(mark, NULL) == LEND_PENDING)
        return false;
    return lend_stage_zero(&transfer->local, ZERO_BYTES, mark) == 0;
}

bool lend_transfers_zero(struct lend_agent *agent)
{
    if (atomic_load(&agent->zeroing_count) == 0)
        return false;
    (void)pthread_mutex_lock(&agent->zero_lock);
    if (!lend_list_is_empty(&agent->zeroing)) {
        struct lend_transfer *transfer = first_zeroed(agent);

        if (lend_transfer_is_staged(transfer)
                ? zero_staged(transfer)
                : lend_cursor_zero(&transfer->local, ZERO_BYTES) < ZERO_BYTES)
            end_zeroing(transfer);
    }
    (void)pthread_mutex_unlock(&agent->zero_lock);
    return true;
}

void lend_transfer_stop_zeroing(struct lend_transfer *transfer)
{
    struct lend_agent *agent = transfer->agent;

    (void)pthread_mutex_lock(&agent->zero_lock);
    while (atomic_load(&transfer->phase) == LEND_PHASE_ZEROING) {
        /* What a GPU was told to zero of it lands yet; that is a chunk. */
        if (transfer != first_zeroed(agent) ||
            lend_lane_ask(&agent->zero_mark, NULL) != LEND_PENDING)
            end_zeroing(transfer);
        else
            lend_sys->sleep_ns(LOOK_AGAIN_NS);
    }
    (void)pthread_mutex_unlock(&agent->zero_lock);
}

/* --- posting --- */

static enum lend_status check_desc(const struct lend_transfer *transfer,
                                   const struct lend_post_desc *desc, struct lend_error *error)
{
    const struct lend_agent *agent = transfer->agent;
    uint64_t longest = agent->config.notification_window_bytes / 2;

    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_post_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    enum lend_status status = lend_handle_check(desc->ticket, LEND_TAG_TICKET, error);
    if (status != LEND_OK)
        return status;
    if (desc->ticket->peer != transfer->peer)
        return lend_fail(error, LEND_E_INVALID, "the ticket is of peer %s, the transfer of %s",
                         desc->ticket->peer->name, transfer->peer->name);
    longest = longest < LEND_NOTIFICATION_BYTES_MAX ? longest : LEND_NOTIFICATION_BYTES_MAX;
    if (desc->notification_bytes > longest)
        return lend_fail(error, LEND_E_INVALID, "a notification of %llu bytes, over %llu",
                         (unsigned long long)desc->notification_bytes, (unsigned long long)longest);
    if (desc->notification == NULL && desc->notification_bytes > 0)
        return lend_fail(error, LEND_E_INVALID, "a notification of %llu bytes that is NULL",
                         (unsigned long long)desc->notification_bytes);
    return LEND_OK;
}

/* Keep the notification's bytes: in place if they are few, else in storage that grows once. */
static enum lend_status keep_notification(struct lend_transfer *transfer,
                                          const struct lend_post_desc *desc,
                                          struct lend_error *error)
{
    size_t count = (size_t)desc->notification_bytes;
    uint8_t *to = transfer->inline_notification;

    transfer->has_notification = desc->notification != NULL;
    if (!transfer->has_notification)
        return LEND_OK;
    if (count > sizeof transfer->inline_notification) {
        if (count > transfer->long_capacity) {
            uint8_t *grown = lend_sys->allocate(count);

            if (grown == NULL)
                return lend_fail(error, LEND_E_NO_MEMORY,
                                 "no memory for a notification of %zu bytes", count);
            lend_sys->release(transfer->long_notification);
            transfer->long_notification = grown;
            transfer->long_capacity = count;
        }
        to = transfer->long_notification;
    }
    if (count > 0)
        memcpy(to, desc->notification, count);
    transfer->notification.type = LEND_FRAME_NOTIFY;
    transfer->notification.count = count;
    transfer->notification.bytes = to;
    transfer->notification.transfer = transfer;
    return LEND_OK;
}

/* Another life of a region has another registration, be it at the same address. */
static void note_device(struct lend_transfer *transfer, uint64_t at)
{
    const struct lend_device_memory *device = lend_region_device(transfer->locals[at].region);

    transfer->extents[at].device = device;
    if (at == 0)
        transfer->lane = NULL;
    if (transfer->lane == NULL && device != NULL)
        transfer->lane = device->lane;
}

enum lend_status lend_transfer_check_locals(struct lend_transfer *transfer,
                                            struct lend_error *error)
{
    for (uint64_t i = 0; i < transfer->region_count; i++) {
        struct lend_transfer_region *local = &transfer->locals[i];

        if (local->region->object.live_tag != LEND_TAG_REGION || local->region->id != local->id ||
            atomic_load_explicit(&local->region->is_withdrawn, memory_order_seq_cst))
            return lend_fail(error, LEND_E_REVOKED, "local region %llu is withdrawn or gone",
                             (unsigned long long)local->id);
        if (atomic_load_explicit(&local->region->is_freed, memory_order_seq_cst))
            return lend_fail(error, LEND_E_STALE,
                             "the GPU memory of local region %llu was freed while it was lent: "
                             "withdraw it before it is freed, and register it anew",
                             (unsigned long long)local->id);

        /* Not locked, and yet ours to read: it changes only while the region is quiet, which was
         * before we saw it lent, or will be after we have ended. */
        uint64_t address = local->region->memory.address;
        if (lend_transfer_is_staged(transfer))
            note_device(transfer, i);
        if (address == local->address)
            continue;
        if (transfer->has_ranges)
            return lend_fail(error, LEND_E_REVOKED,
                             "local region %llu was resumed at 0x%llx, away from range %llu",
                             (unsigned long long)local->id, (unsigned long long)address,
                             (unsigned long long)i);
        transfer->extents[i].address += address - local->address;
        local->address = address;
    }
    return LEND_OK;
}

enum lend_status lend_transfer_check_devices(const struct lend_transfer *transfer,
                                             struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    uint64_t known = 0; /* ids of allocations begin at 1 */

    for (uint64_t i = 0; status == LEND_OK && i < transfer->region_count; i++) {
        const struct lend_device_memory *device = transfer->extents[i].device;

        /* Regions of one allocation mostly follow one another. */
        if (device == NULL || (device->buffer_count == 1 && device->buffers[0].id == known))
            continue;
        status = lend_device_check_all(device, error);
        known = device->buffers[device->buffer_count - 1].id;
    }
    return status;
}

enum lend_status lend_transfer_flush(const struct lend_transfer *transfer, struct lend_error *error)
{
    const struct lend_lane *last = NULL;
    enum lend_status status = LEND_OK;

    for (uint64_t i = 0; status == LEND_OK && i < transfer->region_count; i++) {
        const struct lend_device_memory *device = transfer->extents[i].device;

        if (device != NULL && device->lane != last)
            status = lend_lane_flush(last = device->lane, error);
    }
    if (status == LEND_OK)
        return LEND_OK;
    if (error != NULL)
        error->status = LEND_E_DEVICE;
    return LEND_E_DEVICE;
}

/* Make that session the transfer's. The old one is let go of. */
static void adopt_session(struct lend_transfer *transfer, struct lend_session *session)
{
    struct lend_session *before = transfer->session;

    if (before == session) {
        lend_session_release(session); /* it has a reference already */
        return;
    }
    (void)pthread_mutex_lock(&transfer->agent->completion_lock);
    transfer->session = session;
    (void)pthread_mutex_unlock(&transfer->agent->completion_lock);
    lend_session_release(before);
}

const char lend_no_path[] = "none";

static void reset(struct lend_transfer *transfer, const struct lend_post_desc *desc)
{
    transfer->proven_bytes = 0;
    transfer->is_canceled = false;
    atomic_store_explicit(&transfer->is_severed, false, memory_order_relaxed);
    transfer->is_summing = false;
    transfer->rail_tries = 0;
    transfer->severed = LEND_OK;
    transfer->is_doubted = false;
    transfer->path = lend_no_path;
    transfer->status = LEND_PENDING;
    transfer->why = (struct lend_error){0};
    transfer->lease = desc->ticket->lease;
    transfer->user_data = desc->user_data;
}

/* Under the session's lock: begin, or say why not. */
static enum lend_status begin(struct lend_transfer *transfer, const struct lend_post_desc *desc,
                              struct lend_error *error)
{
    struct lend_session *session = transfer->session;

    if (transfer->has_notification &&
        !lend_outbox_reserve(lend_client_outbox(session), transfer->notification.count))
        return lend_fail(error, LEND_E_BUSY,
                         "%s's application does not take its notifications: the window is full",
                         transfer->peer->name);
    /* Sequentially consistent: whoever withdraws a region of ours sees us under way, or we see it
     * withdrawn. */
    atomic_store_explicit(&transfer->phase, LEND_PHASE_ACTIVE, memory_order_seq_cst);
    enum lend_status status = lend_transfer_check_locals(transfer, error);
    if (status != LEND_OK) {
        /* Before the lock is given up: who finds it active then may end it. */
        atomic_store_explicit(&transfer->phase, LEND_PHASE_POSTING, memory_order_seq_cst);
        if (transfer->has_notification)
            lend_outbox_unreserve(lend_client_outbox(session), transfer->notification.count);
        return status;
    }
    reset(transfer, desc);
    lend_client_submit(session, transfer);
    session->is_posting = true;
    if (session->channel != NULL)
        (void)lend_session_pump(session);
    session->is_posting = false;
    transfer->post_ns = lend_sys->now_ns() - transfer->posted_ns;
    return LEND_OK;
}

static enum lend_status submit(struct lend_transfer *transfer, const struct lend_post_desc *desc,
                               struct lend_error *error)
{
    uint64_t deadline_ns = transfer->deadline_ns;
    struct lend_session *session;

    for (;;) {
        enum lend_status status = lend_peer_route(transfer->peer, &session, error);
        if (status != LEND_OK)
            return status;
        adopt_session(transfer, session);
        lend_session_lock(session);
        if (!atomic_load_explicit(&session->is_dead, memory_order_relaxed))
            break;
        (void)pthread_mutex_unlock(&session->lock); /* it died since: the next is another one */
    }
    enum lend_status status = begin(transfer, desc, error);
    bool has_more = lend_client_has_more(session);
    (void)pthread_mutex_unlock(&session->lock);
    if (status != LEND_OK)
        return status;
    lend_poller_timer(&transfer->agent->poller, deadline_ns);
    if (has_more)
        lend_session_wake(session);
    return LEND_OK;
}

enum lend_status lend_transfer_post(struct lend_transfer *transfer,
                                    const struct lend_post_desc *desc, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(transfer, LEND_TAG_TRANSFER, error);

    if (status != LEND_OK)
        return status;
    if (desc == NULL)
        return lend_fail(error, LEND_E_INVALID, "desc is NULL");
    status = check_desc(transfer, desc, error);
    if (status != LEND_OK)
        return status;

    uint64_t posted_ns = lend_sys->now_ns();
    int32_t before = atomic_load(&transfer->phase);
    if ((before != LEND_PHASE_IDLE && before != LEND_PHASE_COMPLETE) ||
        !atomic_compare_exchange_strong(&transfer->phase, &before, LEND_PHASE_POSTING))
        return lend_fail(error, LEND_E_BUSY,
                         "the transfer is still under way: wait for it, or cancel it");
    transfer->posted_ns = posted_ns;
    transfer->deadline_ns = lend_deadline(
        posted_ns,
        desc->timeout_ns != 0 ? desc->timeout_ns : transfer->agent->config.transfer_timeout_ns);
    status = lend_transfer_plan(transfer, desc, error);
    if (status == LEND_OK)
        status = keep_notification(transfer, desc, error);
    if (status == LEND_OK)
        status = submit(transfer, desc, error);
    if (status != LEND_OK)
        atomic_store(&transfer->phase, before);
    return status;
}

/* --- testing, waiting, canceling --- */

static bool is_complete(void *subject)
{
    struct lend_transfer *transfer = subject;

    return atomic_load_explicit(&transfer->phase, memory_order_acquire) == LEND_PHASE_COMPLETE;
}

/* A live handle that was posted once. */
static enum lend_status check_posted(const struct lend_transfer *transfer)
{
    enum lend_status status = lend_handle_check(transfer, LEND_TAG_TRANSFER, NULL);

    if (status == LEND_OK && atomic_load(&transfer->phase) == LEND_PHASE_IDLE)
        status = LEND_E_INVALID;
    return status;
}

bool lend_transfer_is_active(struct lend_transfer *transfer, const struct lend_session *session)
{
    (void)pthread_mutex_lock(&transfer->agent->completion_lock);
    bool is_its = transfer->session == session;
    (void)pthread_mutex_unlock(&transfer->agent->completion_lock);
    return is_its &&
           atomic_load_explicit(&transfer->phase, memory_order_seq_cst) == LEND_PHASE_ACTIVE;
}

static enum lend_status look(struct lend_transfer *transfer)
{
    return is_complete(transfer) ? (enum lend_status)transfer->status : LEND_PENDING;
}

struct lend_session *lend_transfer_session(struct lend_transfer *transfer)
{
    (void)pthread_mutex_lock(&transfer->agent->completion_lock);
    struct lend_session *session = transfer->session;
    if (session != NULL)
        lend_session_retain(session);
    (void)pthread_mutex_unlock(&transfer->agent->completion_lock);
    return session;
}

/* Beside the progress thread. */
static void poll_session(struct lend_transfer *transfer)
{
    struct lend_session *session = lend_transfer_session(transfer);

    if (session == NULL)
        return;
    lend_session_poll(session);
    lend_session_release(session);
    lend_agent_dispatch(transfer->agent);
}

enum lend_status lend_transfer_test(struct lend_transfer *transfer)
{
    enum lend_status status = check_posted(transfer);

    if (status != LEND_OK)
        return status;
    if (!is_complete(transfer)) {
        if (lend_agent_is_manual(transfer->agent))
            (void)lend_poller_progress(&transfer->agent->poller, 0);
        else
            poll_session(transfer);
    }
    return look(transfer);
}

static void await(struct lend_transfer *transfer, uint64_t until_ns)
{
    struct lend_agent *agent = transfer->agent;

    if (lend_agent_is_manual(agent)) {
        for (uint64_t now; !is_complete(transfer) && (now = lend_sys->now_ns()) < until_ns;)
            (void)lend_poller_progress(&agent->poller, until_ns - now);
        return;
    }
    struct lend_session *session = lend_transfer_session(transfer);
    if (session != NULL) {
        lend_session_help(session, until_ns, is_complete, transfer);
        lend_session_release(session);
    }
    lend_agent_await(agent, until_ns, is_complete, transfer);
    lend_agent_dispatch(agent);
}

enum lend_status lend_transfer_wait(struct lend_transfer *transfer, uint64_t timeout_ns)
{
    enum lend_status status = check_posted(transfer);

    if (status != LEND_OK)
        return status;
    if (!is_complete(transfer))
        await(transfer, lend_deadline(lend_sys->now_ns(), timeout_ns));
    return look(transfer);
}

enum lend_status lend_transfer_cancel(struct lend_transfer *transfer, uint64_t timeout_ns)
{
    enum lend_status status = check_posted(transfer);

    if (status != LEND_OK)
        return status;
    struct lend_session *session = lend_transfer_session(transfer);
    if (session != NULL) {
        lend_session_lock(session);
        if (lend_transfer_is_active(transfer, session)) {
            (void)lend_client_end(session, transfer, LEND_E_CANCELED, "canceled");
            if (session->channel != NULL)
                (void)lend_session_pump(session);
        }
        bool has_more = lend_client_has_more(session);
        (void)pthread_mutex_unlock(&session->lock);
        if (has_more)
            lend_session_wake(session);
        lend_session_release(session);
    }
    if (!is_complete(transfer))
        await(transfer, lend_deadline(lend_sys->now_ns(), timeout_ns));
    return look(transfer);
}

enum lend_status lend_transfer_describe(struct lend_transfer *transfer,
                                        struct lend_transfer_record *out, struct lend_error *why)
{
    enum lend_status status = check_posted(transfer);

    if (status != LEND_OK)
        return status;
    if (out == NULL)
        return LEND_E_INVALID;
    if (out->struct_size != sizeof *out)
        return LEND_E_VERSION;
    *out = (struct lend_transfer_record){.struct_size = sizeof *out, .status = LEND_PENDING};
    (void)snprintf(out->path, sizeof out->path, "%s", transfer->path);
    if (!is_complete(transfer))
        return LEND_OK;
    out->status = transfer->status;
    out->bytes = transfer->record_bytes;
    out->blocks = transfer->record_blocks;
    out->post_ns = transfer->post_ns;
    out->wire_ns = transfer->wire_ns;
    out->user_data = transfer->user_data;
    if (why != NULL && transfer->status != LEND_OK)
        *why = transfer->why;
    return LEND_OK;
}
