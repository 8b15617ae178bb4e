/* SPDX-License-Identifier: Apache-2.0 */
#include "core/notification.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/outgoing.h"
#include "core/peer.h"
#include "core/server.h"

#include <string.h>

/* --- sending --- */

static enum lend_status check_send(const struct lend_peer *peer, const void *bytes, size_t count,
                                   struct lend_error *error)
{
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    if (bytes == NULL && count > 0)
        return lend_fail(error, LEND_E_INVALID, "a notification of %zu bytes that is NULL", count);

    size_t longest = peer->agent->config.notification_window_bytes / 2;
    longest = longest < LEND_NOTIFICATION_BYTES_MAX ? longest : LEND_NOTIFICATION_BYTES_MAX;
    if (count > longest)
        return lend_fail(error, LEND_E_INVALID, "a notification of %zu bytes, over %zu", count,
                         longest);
    return LEND_OK;
}

/* An outgoing frame with its bytes behind it. */
static struct lend_outgoing *make_outgoing(enum lend_frame_type type, const void *bytes,
                                           size_t count)
{
    struct lend_outgoing *outgoing = lend_sys->allocate(sizeof *outgoing + count);

    if (outgoing == NULL)
        return NULL;
    lend_list_init(&outgoing->link);
    if (count > 0)
        memcpy(outgoing + 1, bytes, count);
    outgoing->type = type;
    outgoing->count = count;
    outgoing->bytes = (const uint8_t *)(outgoing + 1);
    return outgoing;
}

/* A frame that is to leave. */
struct departure {
    enum lend_frame_type type;
    const void *bytes;
    size_t count;
};

static enum lend_status reserve_locked(struct lend_session *session,
                                       const struct departure *departure,
                                       const struct lend_peer *peer, struct lend_error *error)
{
    if (atomic_load_explicit(&session->is_dead, memory_order_relaxed))
        return lend_fail(error, LEND_E_PEER_DEAD, "the connection to %s is lost: %.150s",
                         peer->name, session->why.message);
    if (departure->type == LEND_FRAME_NOTIFY &&
        !lend_outbox_reserve(lend_client_outbox(session), departure->count))
        return lend_fail(error, LEND_E_BUSY,
                         "%s's application does not take its notifications: the window is full",
                         peer->name);
    return LEND_OK;
}

/* Send it at once, or queue a copy. */
static enum lend_status send_locked(struct lend_session *session, const struct departure *departure,
                                    const struct lend_peer *peer, struct lend_error *error)
{
    enum lend_status status = reserve_locked(session, departure, peer, error);

    if (status != LEND_OK)
        return status;
    if (lend_outbox_send(lend_client_outbox(session), departure->type, departure->bytes,
                         departure->count))
        return LEND_OK;

    struct lend_outgoing *outgoing =
        make_outgoing(departure->type, departure->bytes, departure->count);
    if (outgoing == NULL) {
        if (departure->type == LEND_FRAME_NOTIFY)
            lend_outbox_unreserve(lend_client_outbox(session), departure->count);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a frame of %zu bytes",
                         departure->count);
    }
    lend_outbox_queue(lend_client_outbox(session), outgoing);
    if (session->channel != NULL)
        (void)lend_session_pump(session);
    return LEND_OK;
}

enum lend_status lend_outgoing_send(struct lend_peer *peer, enum lend_frame_type type,
                                    const void *bytes, size_t count, struct lend_error *error)
{
    const struct departure departure = {.type = type, .bytes = bytes, .count = count};
    struct lend_session *session;

    enum lend_status status = lend_peer_route(peer, &session, error);
    if (status != LEND_OK)
        return status;
    lend_session_lock(session);
    status = send_locked(session, &departure, peer, error);
    bool has_more = lend_client_has_more(session);
    (void)pthread_mutex_unlock(&session->lock);
    if (status == LEND_OK && has_more)
        lend_session_wake(session);
    lend_session_release(session);
    return status;
}

enum lend_status lend_notification_send(struct lend_peer *peer, const void *bytes, size_t count,
                                        struct lend_error *error)
{
    enum lend_status status = check_send(peer, bytes, count, error);

    if (status != LEND_OK)
        return status;
    return lend_outgoing_send(peer, LEND_FRAME_NOTIFY, bytes, count, error);
}

/* --- receiving --- */

enum lend_status lend_notification_deliver(struct lend_session *session, const char *peer,
                                           const uint8_t *incarnation, const void *bytes,
                                           uint32_t count)
{
    struct lend_agent *agent = session->agent;
    struct lend_session *before = NULL;
    struct lend_notification *made = lend_sys->allocate(sizeof *made + count);

    if (made == NULL)
        return LEND_E_NO_MEMORY;
    made->count = count;
    if (count > 0)
        memcpy(made->bytes, bytes, count);
    memcpy(made->peer, peer, sizeof made->peer);
    memcpy(made->incarnation, incarnation, sizeof made->incarnation);
    made->session = session;
    lend_session_retain(session);
    (void)pthread_mutex_lock(&agent->lock);
    lend_list_append(&agent->notifications, &made->link);
    (void)atomic_fetch_add(&agent->notification_count, 1);
    LEND_STATISTICS_ADD_LOCKED(agent, notifications_received, 1);
    LEND_STATISTICS_ADD_LOCKED(agent, notifications_waiting, 1);
    if (agent->last_notifier != session) {
        before = agent->last_notifier;
        agent->last_notifier = session;
        lend_session_retain(session);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    lend_session_release(before);
    lend_agent_announce(agent);
    return LEND_OK;
}

static void fill_info(const struct lend_notification *from, struct lend_notification_info *out)
{
    *out = (struct lend_notification_info){.struct_size = sizeof *out, .byte_count = from->count};
    memcpy(out->peer, from->peer, sizeof out->peer);
    memcpy(out->incarnation, from->incarnation, sizeof out->incarnation);
}

/* The first in line, if it fits: LEND_E_ABSENT, LEND_E_LIMIT. */
static enum lend_status take(struct lend_agent *agent, size_t capacity, size_t *out_count,
                             struct lend_notification_info *info, struct lend_notification **out)
{
    enum lend_status status = LEND_E_ABSENT;

    (void)pthread_mutex_lock(&agent->lock);
    if (!lend_list_is_empty(&agent->notifications)) {
        struct lend_notification *first =
            LEND_LIST_OWNER(agent->notifications.next, struct lend_notification, link);

        *out_count = first->count;
        if (info != NULL)
            fill_info(first, info);
        status = first->count > capacity ? LEND_E_LIMIT : LEND_OK;
        if (status == LEND_OK) {
            lend_list_remove(&first->link);
            (void)atomic_fetch_sub(&agent->notification_count, 1);
            LEND_STATISTICS_ADD_LOCKED(agent, notifications_waiting, -1);
            *out = first;
        }
    }
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

static bool has_any(void *subject)
{
    struct lend_agent *agent = subject;

    return atomic_load(&agent->notification_count) > 0;
}

/* The session that brought the last one, with a reference; NULL: none, or it is gone. */
static struct lend_session *hold_last_notifier(struct lend_agent *agent)
{
    (void)pthread_mutex_lock(&agent->lock);
    struct lend_session *session = agent->last_notifier;
    if (session != NULL)
        lend_session_retain(session);
    (void)pthread_mutex_unlock(&agent->lock);
    return session;
}

/* Who waits helps the peer that notified last, for as long as progress spins: it is the one that
 * most likely answers, and a thread that is woken for its answer costs more than all the rest. */
static void await_with_thread(struct lend_agent *agent, uint64_t until_ns)
{
    struct lend_session *session = hold_last_notifier(agent);

    if (session != NULL) {
        lend_session_help(session, until_ns, has_any, agent);
        lend_session_release(session);
    }
    lend_agent_await(agent, until_ns, has_any, agent);
    lend_agent_dispatch(agent);
}

/* And who looks again and again does it too. */
static void poll_last_notifier(struct lend_agent *agent)
{
    struct lend_session *session = hold_last_notifier(agent);

    if (session == NULL)
        return;
    lend_session_poll(session);
    lend_session_release(session);
    lend_agent_dispatch(agent);
}

static void await_any(struct lend_agent *agent, uint64_t timeout_ns)
{
    if (timeout_ns == 0) { /* one look */
        if (lend_agent_is_manual(agent))
            (void)lend_poller_progress(&agent->poller, 0);
        else
            poll_last_notifier(agent);
        return;
    }

    uint64_t now = lend_sys->now_ns(), until = lend_deadline(now, timeout_ns);
    if (!lend_agent_is_manual(agent)) {
        await_with_thread(agent, until);
        return;
    }
    for (; !has_any(agent) && now < until; now = lend_sys->now_ns())
        (void)lend_poller_progress(&agent->poller, until - now);
}

void lend_notifications_forget(struct lend_session *session)
{
    struct lend_agent *agent = session->agent;

    (void)pthread_mutex_lock(&agent->lock);
    bool is_its = agent->last_notifier == session;
    if (is_its)
        agent->last_notifier = NULL;
    (void)pthread_mutex_unlock(&agent->lock);
    if (is_its)
        lend_session_release(session);
}

enum lend_status lend_notification_receive(struct lend_agent *agent, void *bytes, size_t capacity,
                                           size_t *out_count, struct lend_notification_info *info,
                                           uint64_t timeout_ns, struct lend_error *error)
{
    struct lend_notification *taken = NULL;
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (out_count == NULL || (bytes == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or room for %zu bytes, is NULL",
                         capacity);
    if (info != NULL && info->struct_size != sizeof *info)
        return lend_fail(error, LEND_E_VERSION, "lend_notification_info is %u bytes, not %zu",
                         info->struct_size, sizeof *info);

    status = take(agent, capacity, out_count, info, &taken);
    if (status == LEND_E_ABSENT) {
        await_any(agent, timeout_ns);
        status = take(agent, capacity, out_count, info, &taken);
    }
    if (status == LEND_E_ABSENT)
        return lend_fail(error, status, "no notification came within %llu ms",
                         (unsigned long long)(timeout_ns / 1000000));
    if (status == LEND_E_LIMIT)
        return lend_fail(error, status, "the notification has %zu bytes, there is room for %zu",
                         *out_count, capacity);
    if (taken->count > 0)
        memcpy(bytes, taken->bytes, taken->count);
    lend_server_credit(taken->session, lend_notification_cost(taken->count));
    lend_session_release(taken->session);
    lend_sys->release(taken);
    return LEND_OK;
}

void lend_notifications_fini(struct lend_agent *agent, bool forked)
{
    for (struct lend_list *link; (link = lend_list_take_first(&agent->notifications)) != NULL;) {
        struct lend_notification *left = LEND_LIST_OWNER(link, struct lend_notification, link);

        if (!forked)
            lend_session_release(left->session);
        lend_sys->release(left);
    }
}
