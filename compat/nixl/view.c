/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

/* Views of memory for code on a GPU: there are none. */

static nixl_capi_status_t refuse(void)
{
    return compat_fail(NIXL_CAPI_ERROR_BACKEND, "views for code on a GPU are not supported here");
}

nixl_capi_status_t nixl_capi_prep_mem_view_local(nixl_capi_agent_t agent,
                                                 nixl_capi_xfer_dlist_t descs,
                                                 nixl_capi_mem_view_t *mvh,
                                                 nixl_capi_opt_args_t opt_args)
{
    (void)opt_args;
    if (mvh != NULL)
        *mvh = NULL;
    return agent == NULL || descs == NULL || mvh == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM : refuse();
}

nixl_capi_status_t nixl_capi_prep_mem_view_remote(nixl_capi_agent_t agent,
                                                  nixl_capi_remote_dlist_t descs,
                                                  nixl_capi_mem_view_t *mvh,
                                                  nixl_capi_opt_args_t opt_args)
{
    (void)opt_args;
    if (mvh != NULL)
        *mvh = NULL;
    return agent == NULL || descs == NULL || mvh == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM : refuse();
}

nixl_capi_status_t nixl_capi_release_mem_view(nixl_capi_agent_t agent, nixl_capi_mem_view_t mvh)
{
    return agent == NULL || mvh == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM : refuse();
}
