/* SPDX-License-Identifier: Apache-2.0 */
#include "blob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- exporting --- */

/* What of the registered descriptors the peer is told: those of the list, and their regions. */
static nixl_capi_status_t select_locked(nixl_capi_agent_t agent, const struct compat_descs *partial,
                                        struct compat_index *out, struct lend_region **regions,
                                        uint32_t *out_count)
{
    struct compat_place place;

    for (size_t i = 0; i < partial->count; i++) {
        const struct compat_desc *desc = &partial->at[i];

        /* One that is being deregistered may have no region any more. */
        if (!compat_index_find(&agent->registered, partial->type, desc, NULL, &place) ||
            compat_index_at(&place)->is_leaving)
            return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                               "descriptor %zu, 0x%zx + %zu, is not registered with agent %s", i,
                               desc->address, desc->length_bytes, agent->name);
        if (!compat_index_add(out, partial->type, desc, NULL))
            return NIXL_CAPI_ERROR_BACKEND;
        if (compat_index_at(&place)->region != NULL)
            regions[(*out_count)++] = compat_index_at(&place)->region;
    }
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t pack_locked(nixl_capi_agent_t agent, struct compat_blob *blob,
                                      const struct compat_index *index, struct compat_bytes *out)
{
    blob->serial = agent->serial;
    out->bytes = compat_blob_encode(blob, index, &out->length_bytes);
    return out->bytes != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

static nixl_capi_status_t export_whole(nixl_capi_agent_t agent, struct compat_blob *blob,
                                       struct compat_bytes *out)
{
    struct compat_bytes metadata = {0};

    nixl_capi_status_t status = compat_lend_metadata(agent, &metadata);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    blob->flags = COMPAT_BLOB_WHOLE;
    blob->metadata =
        (struct compat_blob_bytes){.bytes = metadata.bytes, .count = metadata.length_bytes};
    (void)pthread_mutex_lock(&agent->lock);
    status = pack_locked(agent, blob, &agent->registered, out);
    (void)pthread_mutex_unlock(&agent->lock);
    free(metadata.bytes);
    return status;
}

/* Of the descriptors of the list alone, and of nothing else that is registered. */
static nixl_capi_status_t export_part(nixl_capi_agent_t agent, struct compat_blob *blob,
                                      const struct compat_descs *partial, struct compat_bytes *out)
{
    struct lend_region **regions = calloc(partial->count + 1, sizeof(struct lend_region *));
    struct lend_export_desc desc = LEND_EXPORT_DESC_INIT;
    struct compat_bytes metadata = {0};
    struct compat_index some = {0};

    if (regions == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    desc.flags = LEND_EXPORT_PARTIAL;
    desc.regions = regions;
    /* In one go: nobody begins to deregister them meanwhile. */
    (void)pthread_mutex_lock(&agent->lock);
    nixl_capi_status_t status = select_locked(agent, partial, &some, regions, &desc.region_count);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_lend_metadata_with(agent, &desc, 4096 + 32 * partial->count, &metadata);
    if (status == NIXL_CAPI_SUCCESS) {
        blob->metadata =
            (struct compat_blob_bytes){.bytes = metadata.bytes, .count = metadata.length_bytes};
        status = pack_locked(agent, blob, &some, out);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    compat_index_fini(&some);
    free(metadata.bytes);
    free(regions);
    return status;
}

nixl_capi_status_t compat_metadata_export(nixl_capi_agent_t agent,
                                          const struct compat_descs *partial, void **out,
                                          size_t *out_bytes)
{
    struct compat_bytes made = {0};
    struct compat_blob blob = {0};

    if (atomic_load(&agent->lend) == NULL)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "agent %s has no backend", agent->name);
    (void)snprintf(blob.name, sizeof blob.name, "%s", agent->name);
    if (agent->has_key)
        blob.key = (struct compat_blob_bytes){.bytes = agent->key, .count = sizeof agent->key};
    blob.ticket = (struct compat_blob_bytes){.bytes = agent->ticket, .count = agent->ticket_bytes};
    nixl_capi_status_t status = partial != NULL ? export_part(agent, &blob, partial, &made)
                                                : export_whole(agent, &blob, &made);
    if (status == NIXL_CAPI_SUCCESS) {
        *out = made.bytes;
        *out_bytes = made.length_bytes;
    }
    return status;
}

nixl_capi_status_t nixl_capi_get_local_md(nixl_capi_agent_t agent, void **data, size_t *len)
{
    if (data == NULL || len == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *data = NULL;
    *len = 0;
    if (agent == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_metadata_export(agent, NULL, data, len);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_get_local_partial_md(nixl_capi_agent_t agent,
                                                  nixl_capi_reg_dlist_t descs, void **data,
                                                  size_t *len, nixl_capi_opt_args_t opt_args)
{
    if (data == NULL || len == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *data = NULL;
    *len = 0;
    if (agent == NULL || descs == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_metadata_export(agent, &descs->descs, data, len);
    compat_leave(agent);
    return status;
}

/* --- loading --- */

/* What one load works with. */
struct load {
    nixl_capi_agent_t agent;
    struct compat_blob blob;
    const void *bytes;
    size_t count;
    struct lend_peer *lend;
    struct lend_ticket *ticket;
    struct lend_peer_info info;
    struct compat_index index; /* of the descriptors in the blob */
};

/* Has a peer been lost? Its handle of lend's leads nowhere for ever. */
static bool is_lost(struct compat_peer *peer)
{
    struct lend_peer_info info = {.struct_size = sizeof info};
    bool lost = true;

    (void)pthread_rwlock_rdlock(&peer->use);
    if (!peer->is_gone && lend_peer_describe(peer->lend, &info, NULL) == LEND_OK)
        lost = info.status < 0;
    (void)pthread_rwlock_unlock(&peer->use);
    return lost;
}

static nixl_capi_status_t import(struct load *load)
{
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;
    struct lend_agent *lend = atomic_load(&load->agent->lend);
    struct lend_error error;

    /* Its key, not ours: who connects proves to know that of who listens. */
    desc.secret = load->blob.key.count > 0 ? load->blob.key.bytes : NULL;
    desc.secret_bytes = (uint32_t)load->blob.key.count;
    enum lend_status status = lend_peer_import_with(
        lend, load->blob.metadata.bytes, load->blob.metadata.count, &desc, &load->lend, &error);
    if (status == LEND_OK)
        status = lend_ticket_import(load->lend, load->blob.ticket.bytes, load->blob.ticket.count,
                                    &load->ticket, &error);
    load->info.struct_size = sizeof load->info;
    if (status == LEND_OK)
        status = lend_peer_describe(load->lend, &load->info, &error);
    if (status != LEND_OK) {
        (void)compat_fail_lend(status, &error, "load_remote_md");
        return NIXL_CAPI_ERROR_BACKEND;
    }
    if (strcmp(load->info.name, load->blob.name) != 0)
        return compat_fail(NIXL_CAPI_ERROR_BACKEND, "load_remote_md: two names, %s and %s",
                           load->info.name, load->blob.name);
    if (!compat_blob_index(&load->blob, false, &load->index))
        return NIXL_CAPI_ERROR_BACKEND;
    return NIXL_CAPI_SUCCESS;
}

static void let_go(struct load *load)
{
    lend_ticket_release(load->ticket);
    lend_peer_forget(load->lend);
    compat_index_fini(&load->index);
}

static void keep_bytes(struct compat_peer *peer, const struct load *load)
{
    uint8_t *copy = compat_copy(load->bytes, load->count); /* without it, only a little slower */

    free(peer->last);
    peer->last = copy;
    peer->last_bytes = copy != NULL ? load->count : 0;
}

/* More of a peer that is known. */
static nixl_capi_status_t merge_locked(struct compat_peer *peer, struct load *load)
{
    bool is_whole = (load->blob.flags & COMPAT_BLOB_WHOLE) != 0;

    if (!is_whole && !compat_blob_index(&load->blob, true, &peer->index))
        return NIXL_CAPI_ERROR_BACKEND;
    if (is_whole && load->blob.serial >= peer->serial) {
        struct compat_index before = peer->index;

        peer->index = load->index;
        load->index = before;
        peer->serial = load->blob.serial;
    }
    keep_bytes(peer, load);
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t add(struct load *load)
{
    nixl_capi_agent_t agent = load->agent;
    struct compat_peer *peer = compat_peer_create(agent, load->blob.name, load->lend, load->ticket);

    if (peer == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    load->lend = NULL;
    load->ticket = NULL;
    peer->index = load->index;
    load->index = (struct compat_index){0};
    memcpy(peer->incarnation, load->info.incarnation, sizeof peer->incarnation);
    if ((load->blob.flags & COMPAT_BLOB_WHOLE) != 0)
        peer->serial = load->blob.serial;
    keep_bytes(peer, load);

    struct compat_peer *rival = NULL;
    (void)pthread_mutex_lock(&agent->lock);
    for (rival = agent->peers; rival != NULL && strcmp(rival->name, peer->name) != 0;)
        rival = rival->next;
    if (rival != NULL)
        compat_peer_retain(rival);
    peer->next = agent->peers;
    agent->peers = peer;
    (void)pthread_mutex_unlock(&agent->lock);
    if (rival != NULL) { /* another thread loaded it meanwhile: the later one stays */
        compat_peer_end(rival);
        compat_peer_release(rival);
    }
    return NIXL_CAPI_SUCCESS;
}

/* Is it the peer that we know, in the same life? */
static bool is_same(const struct compat_peer *peer, const struct load *load)
{
    return memcmp(peer->incarnation, load->info.incarnation, sizeof peer->incarnation) == 0;
}

static nixl_capi_status_t enter(struct load *load)
{
    struct compat_peer *known = compat_peer_listed(load->agent, load->blob.name);
    nixl_capi_status_t status;

    if (known != NULL && is_lost(known)) {
        compat_peer_end(known); /* before the import, which would give the same handle */
        compat_peer_release(known);
        known = NULL;
    }
    status = import(load);
    if (status != NIXL_CAPI_SUCCESS) {
        compat_peer_release(known);
        return status;
    }
    if (known != NULL && is_same(known, load)) {
        (void)pthread_mutex_lock(&load->agent->lock);
        status = merge_locked(known, load);
        (void)pthread_mutex_unlock(&load->agent->lock);
    } else {
        if (known != NULL)
            compat_peer_end(known);
        status = add(load);
    }
    compat_peer_release(known);
    return status;
}

/* Was exactly that loaded the last time? */
static bool is_repeated(struct load *load)
{
    struct compat_peer *peer = compat_peer_listed(load->agent, load->blob.name);

    if (peer == NULL)
        return false;
    (void)pthread_mutex_lock(&load->agent->lock);
    bool is_equal = peer->last != NULL && peer->last_bytes == load->count &&
                    memcmp(peer->last, load->bytes, load->count) == 0;
    (void)pthread_mutex_unlock(&load->agent->lock);
    is_equal = is_equal && !is_lost(peer);
    compat_peer_release(peer);
    return is_equal;
}

nixl_capi_status_t compat_metadata_load(nixl_capi_agent_t agent, const void *bytes, size_t count,
                                        char **out_name)
{
    struct load load = {.agent = agent, .bytes = bytes, .count = count};
    const char *why = compat_blob_decode(bytes, count, &load.blob);

    if (why != NULL)
        return compat_fail(NIXL_CAPI_ERROR_BACKEND, "load_remote_md: %zu bytes: %s", count, why);
    if (strcmp(load.blob.name, agent->name) == 0)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "load_remote_md: %s is our own name",
                           agent->name);
    if (atomic_load(&agent->lend) == NULL)
        return compat_fail(NIXL_CAPI_ERROR_BACKEND, "agent %s has no backend", agent->name);
    char *name = compat_copy_text(load.blob.name);
    if (name == NULL)
        return NIXL_CAPI_ERROR_BACKEND;

    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    if (!is_repeated(&load))
        status = enter(&load);
    let_go(&load);
    if (status == NIXL_CAPI_SUCCESS)
        *out_name = name;
    else
        free(name);
    return status;
}

nixl_capi_status_t nixl_capi_load_remote_md(nixl_capi_agent_t agent, const void *data, size_t len,
                                            char **agent_name)
{
    if (agent_name == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *agent_name = NULL;
    if (agent == NULL || data == NULL || len == 0 || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_metadata_load(agent, data, len, agent_name);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_check_remote_md(nixl_capi_agent_t agent, const char *remote_name,
                                             nixl_capi_xfer_dlist_t descs)
{
    if (agent == NULL || remote_name == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    struct compat_peer *peer = compat_peer_listed(agent, remote_name);
    nixl_capi_status_t status =
        peer != NULL && !is_lost(peer) ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_NOT_FOUND;
    if (status == NIXL_CAPI_SUCCESS && descs != NULL && descs->descs.count > 0)
        status = compat_descs_check(agent, peer, &descs->descs);
    compat_peer_release(peer);
    compat_leave(agent);
    return status;
}
