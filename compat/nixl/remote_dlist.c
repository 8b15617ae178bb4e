/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>
#include <string.h>

nixl_capi_status_t nixl_capi_create_remote_dlist(nixl_capi_mem_type_t mem_type,
                                                 nixl_capi_remote_dlist_t *dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *dlist = NULL;
    if (!compat_is_type(mem_type))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    *dlist = calloc(1, sizeof **dlist);
    if (*dlist == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    (*dlist)->descs.type = mem_type;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_destroy_remote_dlist(nixl_capi_remote_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    for (size_t i = 0; i < dlist->agent_count; i++)
        free(dlist->agents[i]);
    free(dlist->agents);
    free(dlist->agent_of);
    free(dlist->descs.at);
    free(dlist);
    return NIXL_CAPI_SUCCESS;
}

/* The number of a name, which is kept once however often it comes. */
static bool find_agent(nixl_capi_remote_dlist_t list, const char *name, uint32_t *out)
{
    void *agents = list->agents;

    /* The last descriptor's agent is most likely this one's, too. */
    if (list->descs.count > 0) {
        *out = list->agent_of[list->descs.count - 1];
        if (strcmp(list->agents[*out], name) == 0)
            return true;
    }
    for (size_t i = 0; i < list->agent_count; i++) {
        *out = (uint32_t)i;
        if (strcmp(list->agents[i], name) == 0)
            return true;
    }

    if (list->agent_count == UINT32_MAX ||
        !compat_reserve(&agents, &list->agent_capacity, list->agent_count + 1,
                        sizeof *list->agents))
        return false;
    list->agents = agents;
    char *copy = compat_copy_text(name);
    if (copy == NULL)
        return false;
    *out = (uint32_t)list->agent_count;
    list->agents[list->agent_count++] = copy;
    return true;
}

nixl_capi_status_t nixl_capi_remote_dlist_add_desc(nixl_capi_remote_dlist_t dlist, uintptr_t addr,
                                                   size_t len, uint64_t dev_id,
                                                   const char *remote_agent)
{
    const struct compat_desc desc = {.address = addr, .length_bytes = len, .device = dev_id};
    uint32_t agent = 0;

    if (dlist == NULL || remote_agent == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    void *agent_of = dlist->agent_of;
    if (!compat_reserve(&agent_of, &dlist->agent_of_capacity, dlist->descs.count + 1,
                        sizeof *dlist->agent_of))
        return NIXL_CAPI_ERROR_BACKEND;
    dlist->agent_of = agent_of;
    if (!find_agent(dlist, remote_agent, &agent) || !compat_descs_add(&dlist->descs, &desc))
        return NIXL_CAPI_ERROR_BACKEND;
    dlist->agent_of[dlist->descs.count - 1] = agent;
    return NIXL_CAPI_SUCCESS;
}
