/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

nixl_capi_status_t compat_post_open(nixl_capi_agent_t agent)
{
    (void)agent;
    return NIXL_CAPI_SUCCESS;
}

void compat_post_close(nixl_capi_agent_t agent)
{
    (void)agent;
}

static nixl_capi_status_t refuse(nixl_capi_agent_t agent,
                                 const struct nixl_capi_opt_args_s *opt_args)
{
    if (agent == NULL || opt_args == NULL || opt_args->ip_address == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    return NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_send_local_md(nixl_capi_agent_t agent, nixl_capi_opt_args_t opt_args)
{
    return refuse(agent, opt_args);
}

nixl_capi_status_t nixl_capi_send_local_partial_md(nixl_capi_agent_t agent,
                                                   nixl_capi_reg_dlist_t descs,
                                                   nixl_capi_opt_args_t opt_args)
{
    (void)descs;
    return refuse(agent, opt_args);
}

nixl_capi_status_t nixl_capi_fetch_remote_md(nixl_capi_agent_t agent, const char *remote_name,
                                             nixl_capi_opt_args_t opt_args)
{
    (void)remote_name;
    return refuse(agent, opt_args);
}

nixl_capi_status_t nixl_capi_invalidate_local_md(nixl_capi_agent_t agent,
                                                 nixl_capi_opt_args_t opt_args)
{
    return refuse(agent, opt_args);
}
