/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ticket.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/lease.h"

#include <stdio.h>
#include <string.h>

enum lend_status lend_ticket_export(const struct lend_lease *lease, void *bytes, size_t capacity,
                                    size_t *out_count, struct lend_error *error)
{
    struct lend_ticket_bytes ticket = {0};
    enum lend_status status = lend_handle_check(lease, LEND_TAG_LEASE, error);

    if (status != LEND_OK)
        return status;
    if (bytes == NULL || out_count == NULL)
        return lend_fail(error, LEND_E_INVALID, "bytes or out_count is NULL");
    memcpy(ticket.incarnation, lease->agent->incarnation, sizeof ticket.incarnation);
    memcpy(ticket.agent, lease->agent->name, sizeof ticket.agent);
    ticket.lease.slot = lease->slot;
    ticket.lease.generation = lease->generation;
    memcpy(ticket.lease.key, lease->key, sizeof ticket.lease.key);
    ticket.access = lease->access;
    ticket.expires_ns = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed);

    size_t count = lend_ticket_encode(&ticket, bytes, capacity);
    if (count > capacity)
        return lend_fail(error, LEND_E_INVALID, "the ticket takes %zu bytes, there is room for %zu",
                         count, capacity);
    *out_count = count;
    return LEND_OK;
}

/* Enough of an incarnation for a person to tell two apart. */
static const char *short_form(const uint8_t *incarnation, char text[9])
{
    (void)snprintf(text, 9, "%02x%02x%02x%02x", incarnation[0], incarnation[1], incarnation[2],
                   incarnation[3]);
    return text;
}

enum lend_status lend_ticket_import(struct lend_peer *peer, const void *bytes, size_t count,
                                    struct lend_ticket **out, struct lend_error *error)
{
    struct lend_ticket_bytes ticket;
    char theirs[9], known[9];
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    if (bytes == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "bytes or out is NULL");
    status = lend_ticket_decode(bytes, count, &ticket, error);
    if (status != LEND_OK)
        return status;
    if (memcmp(ticket.incarnation, peer->incarnation, sizeof ticket.incarnation) != 0)
        return lend_fail(error, LEND_E_UNKNOWN,
                         "the ticket is of agent %s (incarnation %s...), the peer is %s (%s...)",
                         ticket.agent, short_form(ticket.incarnation, theirs), peer->name,
                         short_form(peer->incarnation, known));

    struct lend_agent *agent = peer->agent;
    lend_peer_retain(peer);
    (void)pthread_mutex_lock(&agent->lock);
    struct lend_ticket *made = lend_pool_take(&agent->tickets, LEND_TAG_TICKET);
    if (made != NULL) {
        made->agent = agent;
        made->peer = peer;
        made->lease = ticket.lease;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (made == NULL) {
        lend_peer_release(peer);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a ticket");
    }
    *out = made;
    return LEND_OK;
}

enum lend_status lend_ticket_done(struct lend_ticket *ticket, struct lend_error *error)
{
    uint8_t bytes[64];
    enum lend_status status = lend_handle_check(ticket, LEND_TAG_TICKET, error);

    if (status != LEND_OK)
        return status;
    size_t count = lend_lease_name_encode(&ticket->lease, bytes, sizeof bytes);
    LEND_INVARIANT(count <= sizeof bytes);
    return lend_outgoing_send(ticket->peer, LEND_FRAME_TICKET_DONE, bytes, count, error);
}

void lend_ticket_release(struct lend_ticket *ticket)
{
    if (lend_handle_check(ticket, LEND_TAG_TICKET, NULL) != LEND_OK)
        return;

    struct lend_agent *agent = ticket->agent;
    struct lend_peer *peer = ticket->peer;
    (void)pthread_mutex_lock(&agent->lock);
    lend_pool_give(&agent->tickets, ticket);
    (void)pthread_mutex_unlock(&agent->lock);
    lend_peer_release(peer);
}
