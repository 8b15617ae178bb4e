/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdlib.h>

/* Looking descriptors up, and the lists that are looked up once for many requests. */

/* One after the other: neighbours often lie within one registration. */
struct finder {
    const struct compat_index *index;
    const struct compat_space *space;
    uint64_t device;
    const struct compat_entry *last; /* NULL: none yet */
};

static const struct compat_entry *find(struct finder *finder, nixl_capi_mem_type_t type,
                                       const struct compat_desc *desc)
{
    const struct compat_entry *last = finder->last;

    if (finder->space == NULL || desc->device != finder->device) {
        finder->space = compat_index_space(finder->index, type, desc->device);
        finder->device = desc->device;
        finder->last = NULL;
        if (finder->space == NULL)
            return NULL;
    } else if (last != NULL && desc->address >= last->address &&
               desc->length_bytes <= last->length_bytes &&
               desc->address - last->address <= last->length_bytes - desc->length_bytes) {
        return last;
    }
    finder->last = compat_space_cover(finder->space, desc);
    return finder->last;
}

static nixl_capi_status_t look_up_locked(nixl_capi_agent_t agent, const struct compat_peer *peer,
                                         const struct compat_descs *descs, struct compat_piece *out)
{
    bool is_own = peer == NULL || peer->is_self;
    struct finder finder = {.index = is_own ? &agent->registered : &peer->index};

    for (size_t i = 0; i < descs->count; i++) {
        const struct compat_desc *desc = &descs->at[i];
        const struct compat_entry *entry = find(&finder, descs->type, desc);

        if (entry == NULL)
            return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                               "descriptor %zu, 0x%zx + %zu (%s, device %llu), lies within no "
                               "registration of %s",
                               i, desc->address, desc->length_bytes, compat_type_name(descs->type),
                               (unsigned long long)desc->device, is_own ? agent->name : peer->name);
        out[i] = (struct compat_piece){
            .address = desc->address,
            .length_bytes = desc->length_bytes,
            .end = entry->address + entry->length_bytes,
        };
    }
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t compat_pieces_look_up(nixl_capi_agent_t agent, struct compat_peer *peer,
                                         const struct compat_descs *descs,
                                         struct compat_piece **out)
{
    struct compat_piece *pieces = calloc(descs->count + 1, sizeof *pieces);

    if (pieces == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    (void)pthread_mutex_lock(&agent->lock);
    nixl_capi_status_t status = look_up_locked(agent, peer, descs, pieces);
    (void)pthread_mutex_unlock(&agent->lock);
    if (status == NIXL_CAPI_SUCCESS)
        *out = pieces;
    else
        free(pieces);
    return status;
}

/* --- prepared lists --- */

static void free_list(nixl_capi_xfer_dlist_handle_t list)
{
    compat_peer_release(list->peer);
    compat_agent_release(list->agent);
    free(list->pieces);
    free(list);
}

static nixl_capi_status_t prepare(nixl_capi_agent_t agent, const char *name,
                                  const struct compat_descs *descs,
                                  nixl_capi_xfer_dlist_handle_t *out)
{
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    nixl_capi_xfer_dlist_handle_t made = calloc(1, sizeof *made);

    if (made == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    made->agent = agent;
    compat_agent_retain(agent);
    made->count = descs->count;
    if (atomic_load(&agent->lend) == NULL)
        status = compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "agent %s has no backend", agent->name);
    if (status == NIXL_CAPI_SUCCESS && name[0] != '\0')
        status = compat_peer_find(agent, name, &made->peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_pieces_look_up(agent, made->peer, descs, &made->pieces);
    if (status == NIXL_CAPI_SUCCESS)
        *out = made;
    else
        free_list(made);
    return status;
}

nixl_capi_status_t nixl_capi_prep_xfer_dlist(nixl_capi_agent_t agent, const char *agent_name,
                                             nixl_capi_xfer_dlist_t descs,
                                             nixl_capi_xfer_dlist_handle_t *dlist_hndl,
                                             nixl_capi_opt_args_t opt_args)
{
    if (dlist_hndl == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *dlist_hndl = NULL;
    if (agent == NULL || agent_name == NULL || descs == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = prepare(agent, agent_name, &descs->descs, dlist_hndl);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_release_xfer_dlist_handle(nixl_capi_agent_t agent,
                                                       nixl_capi_xfer_dlist_handle_t dlist_handle)
{
    /* The agent may be destroyed: it is not looked at, only whose the list is. */
    if (agent == NULL || dlist_handle == NULL || dlist_handle->agent != agent)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    free_list(dlist_handle);
    return NIXL_CAPI_SUCCESS;
}
