/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Agents: made, entered by every call, and ended. */

static void free_agent(nixl_capi_agent_t agent)
{
    compat_assembly_destroy(agent->assembly);
    (void)pthread_mutex_destroy(&agent->lock);
    (void)pthread_rwlock_destroy(&agent->life);
    if (agent->params != NULL)
        (void)nixl_capi_destroy_params(agent->params);
    free(agent->name);
    free(agent);
}

void compat_agent_retain(nixl_capi_agent_t agent)
{
    /* Relaxed: the caller holds a reference, so this publishes nothing. */
    (void)atomic_fetch_add_explicit(&agent->references, 1, memory_order_relaxed);
}

void compat_agent_release(nixl_capi_agent_t agent)
{
    /* Release: what we did comes before the free; acquire: so does what others did. */
    if (atomic_fetch_sub_explicit(&agent->references, 1, memory_order_acq_rel) == 1)
        free_agent(agent);
}

void compat_rwlock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;

    /* None of them can fail with that. */
    (void)pthread_rwlockattr_init(&attributes);
    (void)pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(lock, &attributes);
    (void)pthread_rwlockattr_destroy(&attributes);
}

bool compat_enter(nixl_capi_agent_t agent)
{
    (void)pthread_rwlock_rdlock(&agent->life);
    if (!agent->is_over)
        return true;
    (void)pthread_rwlock_unlock(&agent->life);
    return false;
}

void compat_leave(nixl_capi_agent_t agent)
{
    (void)pthread_rwlock_unlock(&agent->life);
}

nixl_capi_status_t compat_check_backends(nixl_capi_agent_t agent,
                                         const struct nixl_capi_opt_args_s *opt_args)
{
    for (size_t i = 0; opt_args != NULL && i < opt_args->backend_count; i++)
        if (opt_args->backends[i] == NULL || opt_args->backends[i]->agent != agent)
            return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                               "backend %zu of the options is of another agent than %s", i,
                               agent->name);
    return NIXL_CAPI_SUCCESS;
}

static bool name_is_good(const char *name)
{
    size_t count = strnlen(name, LEND_AGENT_NAME_BYTES_MAX + 1);

    for (size_t i = 0; i < count; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return count >= 1 && count <= LEND_AGENT_NAME_BYTES_MAX;
}

/* As NIXL takes it; what it would not take is a no. */
static bool telemetry_is_asked_for(void)
{
    static const char *const words[] = {"1", "y", "yes", "on", "true", "enable"};
    const char *given = getenv("NIXL_TELEMETRY_ENABLE");

    for (size_t i = 0; given != NULL && i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(given, words[i]) == 0)
            return true;
    return false;
}

nixl_capi_status_t nixl_capi_create_configured_agent(const char *name,
                                                     const nixl_capi_agent_config_t *cfg,
                                                     nixl_capi_agent_t *agent)
{
    if (agent == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *agent = NULL;
    if (name == NULL || cfg == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    if (!name_is_good(name))
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                           "the name of an agent must have 1 to %d printable bytes",
                           LEND_AGENT_NAME_BYTES_MAX);

    nixl_capi_agent_t made = calloc(1, sizeof *made);
    if (made == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    atomic_init(&made->references, 1);
    compat_rwlock_init(&made->life);
    (void)pthread_mutex_init(&made->lock, NULL); /* cannot fail with default attributes */
    made->config = *cfg;
    made->config.capture_telemetry |= telemetry_is_asked_for();
    made->name = compat_copy_text(name);
    made->assembly = compat_assembly_create();
    nixl_capi_status_t status =
        made->name != NULL && made->assembly != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
    if (status == NIXL_CAPI_SUCCESS && cfg->enable_listen_thread)
        status = compat_post_open(made);
    if (status != NIXL_CAPI_SUCCESS) {
        compat_agent_release(made);
        return status;
    }
    *agent = made;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_create_agent(const char *name, nixl_capi_agent_t *agent)
{
    static const nixl_capi_agent_config_t usual = {.enable_prog_thread = true};

    return nixl_capi_create_configured_agent(name, &usual, agent);
}

nixl_capi_status_t nixl_capi_destroy_agent(nixl_capi_agent_t agent)
{
    if (agent == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)pthread_rwlock_wrlock(&agent->life);
    bool was_over = agent->is_over;
    agent->is_over = true;
    (void)pthread_rwlock_unlock(&agent->life);
    if (was_over)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    /* No call runs from here on, and none begins. */
    compat_post_close(agent);
    compat_peers_forget(agent);
    compat_engine_close(agent);
    compat_index_fini(&agent->registered);
    compat_agent_release(agent);
    return NIXL_CAPI_SUCCESS;
}
