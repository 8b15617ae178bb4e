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

/* Is every descriptor registered, as that type of memory and of that device? */
static nixl_capi_status_t check_locked(nixl_capi_agent_t agent, const struct compat_peer *peer,
                                       const struct compat_descs *descs)
{
    bool is_own = peer == NULL || peer->is_self;
    struct finder finder = {.index = is_own ? &agent->registered : &peer->index};

    for (size_t i = 0; i < descs->count; i++) {
        const struct compat_desc *desc = &descs->at[i];

        if (find(&finder, descs->type, desc) == NULL)
            return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                               "descriptor %zu, 0x%zx + %zu (%s, device %llu), lies within no "
                               "registration of %s",
                               i, desc->address, desc->length_bytes, compat_type_name(descs->type),
                               (unsigned long long)desc->device, is_own ? agent->name : peer->name);
    }
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t compat_descs_check(nixl_capi_agent_t agent, const struct compat_peer *peer,
                                      const struct compat_descs *descs)
{
    (void)pthread_mutex_lock(&agent->lock);
    nixl_capi_status_t status = check_locked(agent, peer, descs);
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

static const struct compat_entry *registration_of(nixl_capi_agent_t agent,
                                                  const struct compat_peer *peer,
                                                  nixl_capi_mem_type_t type,
                                                  const struct compat_desc *desc)
{
    bool is_own = peer == NULL || peer->is_self;
    struct finder finder = {.index = is_own ? &agent->registered : &peer->index};

    return find(&finder, type, desc);
}

nixl_capi_status_t nixl_capi_find_registration(nixl_capi_agent_t agent, const char *agent_name,
                                               nixl_capi_mem_type_t mem_type,
                                               struct nixl_capi_range_s *range)
{
    struct compat_peer *peer = NULL;
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;

    if (agent == NULL || agent_name == NULL || range == NULL || !compat_is_type(mem_type) ||
        !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    if (agent_name[0] != '\0')
        status = compat_peer_find(agent, agent_name, &peer);
    if (status == NIXL_CAPI_SUCCESS) {
        const struct compat_desc desc = {range->addr, range->len, range->dev_id};

        (void)pthread_mutex_lock(&agent->lock);
        const struct compat_entry *found = registration_of(agent, peer, mem_type, &desc);
        if (found != NULL) {
            range->addr = found->address;
            range->len = found->length_bytes;
        }
        (void)pthread_mutex_unlock(&agent->lock);
        status = found != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_NOT_FOUND;
    }
    compat_peer_release(peer);
    compat_leave(agent);
    return status;
}

/* --- prepared lists --- */

void compat_list_destroy(nixl_capi_xfer_dlist_handle_t list, bool has_agent)
{
    if (list == NULL)
        return;
    if (has_agent)
        lend_range_list_release(list->lend);
    compat_peer_release(list->peer);
    compat_agent_release(list->agent);
    free(list->ranges);
    free(list);
}

static nixl_capi_status_t copy_ranges(nixl_capi_xfer_dlist_handle_t list,
                                      const struct compat_descs *descs)
{
    list->ranges = calloc(descs->count + 1, sizeof *list->ranges);
    if (list->ranges == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    list->count = descs->count;
    list->is_even = true;
    for (size_t i = 0; i < descs->count; i++) {
        list->ranges[i] = (struct lend_range){
            .address = descs->at[i].address,
            .length_bytes = descs->at[i].length_bytes,
        };
        list->is_even &= descs->at[i].length_bytes == descs->at[0].length_bytes;
        list->has_empty |= descs->at[i].length_bytes == 0;
    }
    return NIXL_CAPI_SUCCESS;
}

/* The same with lend: of our own memory, or the peer's. */
static nixl_capi_status_t look_up(nixl_capi_xfer_dlist_handle_t list)
{
    struct lend_range_list_desc desc = LEND_RANGE_LIST_DESC_INIT;
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    struct lend_error error;

    if (list->count == 0)
        return NIXL_CAPI_SUCCESS;
    if (list->peer != NULL && list->peer->is_self)
        status = compat_peer_refresh_self(list->peer);
    if (status == NIXL_CAPI_SUCCESS && list->peer != NULL)
        status = compat_peer_enter(list->peer);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    desc.peer = list->peer != NULL ? list->peer->lend : NULL;
    desc.ranges = list->ranges;
    desc.range_count = list->count;
    enum lend_status result =
        lend_range_list_prepare(atomic_load(&list->agent->lend), &desc, &list->lend, &error);
    if (list->peer != NULL)
        compat_peer_leave(list->peer);
    return result == LEND_OK ? NIXL_CAPI_SUCCESS
                             : compat_fail_lend(result, &error, "a list of descriptors");
}

nixl_capi_status_t compat_list_create(nixl_capi_agent_t agent, struct compat_peer *peer,
                                      const struct compat_descs *descs,
                                      nixl_capi_xfer_dlist_handle_t *out)
{
    nixl_capi_xfer_dlist_handle_t made = calloc(1, sizeof *made);

    if (made == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    made->agent = agent;
    compat_agent_retain(agent);
    made->peer = peer;
    if (peer != NULL)
        compat_peer_retain(peer);
    nixl_capi_status_t status = compat_descs_check(agent, peer, descs);
    if (status == NIXL_CAPI_SUCCESS)
        status = copy_ranges(made, descs);
    if (status == NIXL_CAPI_SUCCESS)
        status = look_up(made);
    if (status == NIXL_CAPI_SUCCESS)
        *out = made;
    else
        compat_list_destroy(made, true);
    return status;
}

static nixl_capi_status_t prepare(nixl_capi_agent_t agent, const char *name,
                                  const struct compat_descs *descs,
                                  nixl_capi_xfer_dlist_handle_t *out)
{
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    struct compat_peer *peer = NULL;

    if (atomic_load(&agent->lend) == NULL)
        return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "agent %s has no backend", agent->name);
    if (name[0] != '\0')
        status = compat_peer_find(agent, name, &peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_list_create(agent, peer, descs, out);
    compat_peer_release(peer);
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
    if (agent == NULL || dlist_handle == NULL || dlist_handle->agent != agent)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    /* Where the agent is destroyed, lend's list went with it. The struct goes with the list. */
    bool has_agent = compat_enter(agent);
    compat_agent_retain(agent);
    compat_list_destroy(dlist_handle, has_agent);
    if (has_agent)
        compat_leave(agent);
    compat_agent_release(agent);
    return NIXL_CAPI_SUCCESS;
}
