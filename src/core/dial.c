/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dial.h"

#include "base/error.h"

/* For those who are told of the path, and why it is not a better one. */
static void note(const struct lend_dial *dial, const struct lend_error *why)
{
    (void)pthread_mutex_lock(&dial->peer->agent->lock);
    dial->peer->reaches[dial->reach].why = *why;
    (void)pthread_mutex_unlock(&dial->peer->agent->lock);
}

/* Nobody is there, or nobody of ours, or not for us. What goes wrong in ourselves, or takes too
 * long, would go on by the next as well. */
static bool is_dead_end(int32_t status)
{
    return status == LEND_E_PEER_DEAD || status == LEND_E_ACCESS || status == LEND_E_NO_PATH ||
           status == LEND_E_CORRUPT || status == LEND_E_UNSUPPORTED || status == LEND_E_SYSTEM;
}

enum lend_status lend_dial(struct lend_dial *dial, struct lend_session *session,
                           struct lend_channel **out, struct lend_error *error)
{
    struct lend_peer *peer = dial->peer;

    for (; dial->reach < peer->reach_count; dial->reach++) {
        const struct lend_peer_reach *reach = &peer->reaches[dial->reach];
        struct lend_error why = {0};

        enum lend_status status =
            reach->transport->ops->connect(reach->transport->transport, reach->address.address,
                                           reach->address.address_bytes, session, out, &why);
        note(dial, &why);
        if (status == LEND_OK) {
            atomic_store_explicit(&peer->reach, dial->reach, memory_order_relaxed);
            return LEND_OK;
        }
        if (!is_dead_end(status)) {
            if (error != NULL)
                *error = why;
            return status;
        }
    }
    return lend_peer_explain(peer, error);
}

bool lend_dial_goes_on(struct lend_dial *dial, const struct lend_error *why)
{
    if (!is_dead_end(why->status))
        return false;
    note(dial, why);
    return dial->reach + 1 < dial->peer->reach_count || dial->reach > 0;
}
