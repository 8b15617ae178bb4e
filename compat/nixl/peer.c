/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdlib.h>
#include <string.h>

/* Peers: found by name, used, and ended for good though others still refer to them. */

static void free_peer(struct compat_peer *peer)
{
    compat_index_fini(&peer->index);
    (void)pthread_rwlock_destroy(&peer->use);
    free(peer->last);
    free(peer->name);
    compat_agent_release(peer->agent);
    free(peer);
}

void compat_peer_retain(struct compat_peer *peer)
{
    (void)atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
}

void compat_peer_release(struct compat_peer *peer)
{
    /* Release and acquire, as for agents. */
    if (peer != NULL && atomic_fetch_sub_explicit(&peer->references, 1, memory_order_acq_rel) == 1)
        free_peer(peer);
}

struct compat_peer *compat_peer_create(nixl_capi_agent_t agent, const char *name,
                                       struct lend_peer *lend, struct lend_ticket *ticket)
{
    struct compat_peer *peer = calloc(1, sizeof *peer);

    if (peer == NULL)
        return NULL;
    peer->name = compat_copy_text(name);
    if (peer->name == NULL) {
        free(peer);
        return NULL;
    }
    atomic_init(&peer->references, 1);
    compat_rwlock_init(&peer->use);
    peer->agent = agent;
    compat_agent_retain(agent);
    peer->lend = lend;
    peer->ticket = ticket;
    return peer;
}

nixl_capi_status_t compat_peer_enter(struct compat_peer *peer)
{
    (void)pthread_rwlock_rdlock(&peer->use);
    if (!peer->is_gone)
        return NIXL_CAPI_SUCCESS;
    (void)pthread_rwlock_unlock(&peer->use);
    return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                       "%s was invalidated, died, or came back as another incarnation since",
                       peer->name);
}

void compat_peer_leave(struct compat_peer *peer)
{
    (void)pthread_rwlock_unlock(&peer->use);
}

/* True if it was in the list; then its reference is the caller's. */
static bool unlink_locked(struct compat_peer *peer)
{
    for (struct compat_peer **at = &peer->agent->peers; *at != NULL; at = &(*at)->next) {
        if (*at == peer) {
            *at = peer->next;
            return true;
        }
    }
    return false;
}

static void let_go(struct compat_peer *peer)
{
    (void)pthread_rwlock_wrlock(&peer->use);
    if (!peer->is_gone) {
        peer->is_gone = true;
        lend_ticket_release(peer->ticket);
        lend_peer_forget(peer->lend);
        peer->ticket = NULL;
        peer->lend = NULL;
    }
    (void)pthread_rwlock_unlock(&peer->use);
}

void compat_peer_withdraw(struct compat_peer *peer)
{
    (void)pthread_mutex_lock(&peer->agent->lock);
    peer->is_withdrawn = true;
    (void)pthread_mutex_unlock(&peer->agent->lock);
    let_go(peer);
}

void compat_peer_end(struct compat_peer *peer)
{
    nixl_capi_agent_t agent = peer->agent;

    (void)pthread_mutex_lock(&agent->lock);
    bool was_listed = unlink_locked(peer);
    if (agent->self == peer) {
        agent->self = NULL;
        was_listed = true;
    }
    (void)pthread_mutex_unlock(&agent->lock);

    let_go(peer);
    if (was_listed)
        compat_peer_release(peer);
}

void compat_peers_forget(nixl_capi_agent_t agent)
{
    /* Nobody else is in a call. */
    while (agent->peers != NULL)
        compat_peer_end(agent->peers);
    if (agent->self != NULL)
        compat_peer_end(agent->self);
}

/* --- ourselves as a peer --- */

nixl_capi_status_t compat_lend_metadata_with(nixl_capi_agent_t agent,
                                             const struct lend_export_desc *desc, size_t room,
                                             struct compat_bytes *out)
{
    struct lend_error error;

    for (;;) {
        uint8_t *bytes = malloc(room);
        size_t count = 0;

        if (bytes == NULL)
            return NIXL_CAPI_ERROR_BACKEND;
        enum lend_status status =
            lend_metadata_export_with(atomic_load(&agent->lend), desc, bytes, room, &count, &error);
        if (status == LEND_OK) {
            *out = (struct compat_bytes){.bytes = bytes, .length_bytes = count};
            return NIXL_CAPI_SUCCESS;
        }
        free(bytes);
        if (status != LEND_E_INVALID || count <= room)
            return compat_fail_lend(status, &error, "metadata");
        room = count + count / 8; /* more may be registered meanwhile */
    }
}

nixl_capi_status_t compat_lend_metadata(nixl_capi_agent_t agent, struct compat_bytes *out)
{
    (void)pthread_mutex_lock(&agent->lock);
    size_t room = 4096 + 16 * agent->registered.count;
    (void)pthread_mutex_unlock(&agent->lock);
    size_t last = atomic_load_explicit(&agent->metadata_bytes, memory_order_relaxed);

    nixl_capi_status_t status =
        compat_lend_metadata_with(agent, NULL, room > last ? room : last, out);
    if (status == NIXL_CAPI_SUCCESS)
        atomic_store_explicit(&agent->metadata_bytes, out->length_bytes + out->length_bytes / 8,
                              memory_order_relaxed);
    return status;
}

static nixl_capi_status_t create_self(nixl_capi_agent_t agent, struct compat_peer **out)
{
    struct lend_peer *lend = NULL;
    struct lend_ticket *ticket = NULL;
    struct compat_bytes metadata = {0};
    struct lend_error error;

    (void)pthread_mutex_lock(&agent->lock);
    uint64_t serial = agent->serial;
    (void)pthread_mutex_unlock(&agent->lock);
    nixl_capi_status_t status = compat_lend_metadata(agent, &metadata);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    enum lend_status result = lend_peer_import(atomic_load(&agent->lend), metadata.bytes,
                                               metadata.length_bytes, &lend, &error);
    free(metadata.bytes);
    if (result == LEND_OK)
        result = lend_ticket_import(lend, agent->ticket, agent->ticket_bytes, &ticket, &error);
    struct compat_peer *peer =
        result == LEND_OK ? compat_peer_create(agent, agent->name, lend, ticket) : NULL;
    if (peer == NULL) {
        lend_ticket_release(ticket);
        lend_peer_forget(lend);
        return result == LEND_OK ? NIXL_CAPI_ERROR_BACKEND
                                 : compat_fail_lend(result, &error, "reaching ourselves");
    }
    peer->is_self = true;
    peer->serial = serial;
    *out = peer;
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t find_self(nixl_capi_agent_t agent, struct compat_peer **out)
{
    struct compat_peer *made = NULL;

    if (atomic_load(&agent->lend) == NULL)
        return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "agent %s has no backend", agent->name);
    (void)pthread_mutex_lock(&agent->lock);
    struct compat_peer *self = agent->self;
    if (self != NULL)
        compat_peer_retain(self);
    (void)pthread_mutex_unlock(&agent->lock);
    if (self != NULL) {
        *out = self;
        return NIXL_CAPI_SUCCESS;
    }
    nixl_capi_status_t status = create_self(agent, &made);
    if (status != NIXL_CAPI_SUCCESS)
        return status;

    (void)pthread_mutex_lock(&agent->lock);
    if (agent->self == NULL) {
        agent->self = made;
        made = NULL;
    }
    *out = agent->self;
    compat_peer_retain(*out);
    (void)pthread_mutex_unlock(&agent->lock);
    if (made != NULL) { /* another thread was quicker */
        compat_peer_end(made);
        compat_peer_release(made);
    }
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t compat_peer_refresh_self(struct compat_peer *peer)
{
    nixl_capi_agent_t agent = peer->agent;
    struct compat_bytes metadata = {0};
    struct lend_error error;

    (void)pthread_mutex_lock(&agent->lock);
    uint64_t serial = agent->serial;
    bool is_old = peer->serial != serial;
    (void)pthread_mutex_unlock(&agent->lock);
    if (!is_old)
        return NIXL_CAPI_SUCCESS;

    nixl_capi_status_t status = compat_lend_metadata(agent, &metadata);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_enter(peer);
    if (status == NIXL_CAPI_SUCCESS) {
        enum lend_status result =
            lend_peer_refresh(peer->lend, metadata.bytes, metadata.length_bytes, &error);

        if (result != LEND_OK)
            status = compat_fail_lend(result, &error, "reaching ourselves");
        compat_peer_leave(peer);
    }
    if (status == NIXL_CAPI_SUCCESS) {
        (void)pthread_mutex_lock(&agent->lock);
        peer->serial = serial;
        (void)pthread_mutex_unlock(&agent->lock);
    }
    free(metadata.bytes);
    return status;
}

/* --- by name --- */

struct compat_peer *compat_peer_listed(nixl_capi_agent_t agent, const char *name)
{
    (void)pthread_mutex_lock(&agent->lock);
    struct compat_peer *peer = agent->peers;
    while (peer != NULL && strcmp(peer->name, name) != 0)
        peer = peer->next;
    if (peer != NULL)
        compat_peer_retain(peer);
    (void)pthread_mutex_unlock(&agent->lock);
    return peer;
}

nixl_capi_status_t compat_peer_find(nixl_capi_agent_t agent, const char *name,
                                    struct compat_peer **out)
{
    if (strcmp(name, agent->name) == 0)
        return find_self(agent, out);

    (void)pthread_mutex_lock(&agent->lock);
    struct compat_peer *peer = agent->peers;
    while (peer != NULL && (peer->is_withdrawn || strcmp(peer->name, name) != 0))
        peer = peer->next;
    if (peer != NULL)
        compat_peer_retain(peer);
    (void)pthread_mutex_unlock(&agent->lock);
    if (peer == NULL)
        return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "agent %s knows no %s", agent->name, name);
    *out = peer;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_agent_make_connection(nixl_capi_agent_t agent,
                                                   const char *remote_agent,
                                                   nixl_capi_opt_args_t opt_args)
{
    struct compat_peer *peer = NULL;
    struct lend_error error;

    if (agent == NULL || remote_agent == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_find(agent, remote_agent, &peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_enter(peer);
    if (status == NIXL_CAPI_SUCCESS) {
        enum lend_status result = lend_peer_connect(peer->lend, UINT64_C(5000000000), &error);

        if (result != LEND_OK) {
            (void)compat_fail_lend(result, &error, "make_connection");
            status = NIXL_CAPI_ERROR_BACKEND;
        }
        compat_peer_leave(peer);
    }
    compat_peer_release(peer);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_invalidate_remote_md(nixl_capi_agent_t agent, const char *remote_agent)
{
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;

    if (agent == NULL || remote_agent == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    struct compat_peer *peer = compat_peer_listed(agent, remote_agent);
    if (peer == NULL)
        status = compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "agent %s knows no %s", agent->name,
                             remote_agent);
    else
        compat_peer_end(peer);
    compat_peer_release(peer);
    compat_leave(agent);
    return status;
}
