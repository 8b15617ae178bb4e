/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*
 * Backends. One is known, by the name that users ask for: UCX. Behind it is lend's agent, which
 * reaches peers in this process and on this host by shared memory, and others by tcp, or by what
 * drives the devices that it was given.
 */

#define BACKEND "UCX"

/* Parameters of create_backend(), and the variable of the environment that says the same. */
static const struct {
    const char *key;
    const char *variable;
    const char *usual;
} known[] = {
    {"lend_listen", "LEND_NIXL_LISTEN", "0.0.0.0"},
    {"lend_advertise", "LEND_NIXL_ADVERTISE", ""},
    {"lend_transports", "LEND_NIXL_TRANSPORTS", ""},
    {"lend_ucx_devices", "LEND_NIXL_UCX_DEVICES", ""},
    {"lend_secret_plugin", "LEND_NIXL_SECRET_PLUGIN", ""},
    {"lend_etcd_plugin", "LEND_NIXL_ETCD_PLUGIN", ""},
};

static const nixl_capi_mem_type_t moved[] = {NIXL_CAPI_MEM_DRAM, NIXL_CAPI_MEM_VRAM};

bool compat_is_moved(nixl_capi_mem_type_t type)
{
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++)
        if (moved[i] == type)
            return true;
    return false;
}

static const char *setting(nixl_capi_params_t params, const char *key)
{
    const char *value = compat_params_find(params, key);

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].key, key) != 0)
            continue;
        if (value == NULL)
            value = getenv(known[i].variable);
        if (value == NULL)
            value = known[i].usual;
    }
    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *compat_setting(const char *key)
{
    return setting(NULL, key);
}

/* --- lend's agent --- */

void compat_on_log(void *context, int32_t level, const char *text)
{
    static const enum compat_level levels[] = {
        [LEND_LOG_ERROR] = COMPAT_ERROR,
        [LEND_LOG_WARNING] = COMPAT_WARNING,
        [LEND_LOG_INFO] = COMPAT_INFO,
        [LEND_LOG_DEBUG] = COMPAT_DEBUG,
    };

    (void)context;
    if (level >= LEND_LOG_ERROR && level <= LEND_LOG_DEBUG)
        compat_log(levels[level], "%s", text);
}

static bool has_word(const char *list, const char *word)
{
    size_t count = strlen(word);

    for (const char *at = list; at != NULL; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, count) == 0 && (at[count] == ',' || at[count] == '\0'))
            return true;
    return false;
}

/* UCX_TLS as its users set it: does it name none but what stays on the host? */
static bool stays_on_host(void)
{
    static const char *const near[] = {"self",      "sm",       "shm",     "mm",  "posix",
                                       "sysv",      "xpmem",    "knem",    "cma", "cuda",
                                       "cuda_copy", "cuda_ipc", "gdr_copy"};
    const char *list = getenv("UCX_TLS");
    char copy[256], *rest = copy;

    if (list == NULL || list[0] == '\0' || list[0] == '^' || strlen(list) >= sizeof copy)
        return false;
    (void)snprintf(copy, sizeof copy, "%s", list);
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        bool is_near = false;

        for (size_t i = 0; i < sizeof near / sizeof near[0]; i++)
            is_near |= strcmp(word, near[i]) == 0;
        if (!is_near)
            return false;
    }
    return true;
}

/* NIXL's users name a NIC so; to lend they name it in other words, as the network behind it is
 * trusted then. Who does not is to know that the NIC has no part in it. */
static void warn_of_devices(nixl_capi_params_t params, const struct lend_agent_config *config)
{
    const char *devices = compat_params_find(params, "device_list");
    const char *said_by = "device_list";

    if (devices == NULL) {
        devices = getenv("UCX_NET_DEVICES");
        said_by = "UCX_NET_DEVICES";
    }
    if (devices == NULL || devices[0] == '\0' || strcmp(devices, "all") == 0 ||
        config->ucx_devices != NULL)
        return;
    compat_log(COMPAT_WARNING,
               "%s (%s) has no effect, and other hosts are reached by tcp; LEND_NIXL_UCX_DEVICES "
               "names devices to use",
               said_by, devices);
}

static void configure(nixl_capi_agent_t agent, nixl_capi_params_t params,
                      struct lend_agent_config *out)
{
    out->name = agent->name;
    out->on_log = compat_on_log;
    out->secret_plugin = setting(params, "lend_secret_plugin"); /* peers have keys, too */
    out->flags = LEND_AGENT_NO_STATISTICS | LEND_AGENT_SEAL_NETWORKS;
    out->transports = setting(params, "lend_transports");
    out->ucx_devices = setting(params, "lend_ucx_devices");
    if (out->ucx_devices != NULL)
        out->transports_required = "ucx";
    warn_of_devices(params, out);
    out->regions_max = 1 << 20;
    out->leases_max = 16;
    out->transfers_max = 1 << 20;
    out->requests_per_peer_max = 64;
    out->notification_window_bytes = COMPAT_NOTIFICATION_WINDOW;
    if ((out->transports != NULL && !has_word(out->transports, "tcp")) || stays_on_host())
        return;
    out->listen = setting(params, "lend_listen");
    if (out->listen != NULL && strcmp(out->listen, "none") == 0)
        out->listen = NULL;
    if (out->listen == NULL)
        return;
    out->advertise = setting(params, "lend_advertise");
    out->secret = agent->key;
    out->secret_bytes = sizeof agent->key;
}

/* With a key for who comes by a network; where that cannot be had, with no network. */
static enum lend_status create(nixl_capi_agent_t agent, nixl_capi_params_t params,
                               struct lend_agent **out, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    if (getrandom(agent->key, sizeof agent->key, 0) != (ssize_t)sizeof agent->key) {
        (void)snprintf(error->message, sizeof error->message, "no random bytes for the key");
        return LEND_E_SYSTEM;
    }
    configure(agent, params, &config);
    enum lend_status status = lend_agent_create(&config, out, error);
    agent->has_key = status == LEND_OK && config.secret != NULL;
    if (status != LEND_E_ABSENT)
        return status;

    compat_log(COMPAT_WARNING,
               "agent %s is reached on this host alone: other hosts would have to prove that they "
               "know its key, and %s",
               agent->name, error->message);
    config.listen = config.advertise = NULL;
    config.secret = NULL;
    config.secret_bytes = 0;
    return lend_agent_create(&config, out, error);
}

static enum lend_status lend_all(nixl_capi_agent_t agent, struct lend_agent *lend,
                                 struct lend_error *error)
{
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;

    grant.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    grant.flags = LEND_GRANT_STANDING;
    enum lend_status status = lend_lease_grant(lend, &grant, &agent->lease, error);
    if (status == LEND_OK)
        status = lend_ticket_export(agent->lease, agent->ticket, sizeof agent->ticket,
                                    &agent->ticket_bytes, error);
    return status;
}

nixl_capi_status_t compat_engine_open(nixl_capi_agent_t agent, nixl_capi_params_t params)
{
    struct lend_agent *lend = NULL;
    struct lend_error error;

    enum lend_status status = create(agent, params, &lend, &error);
    if (status == LEND_OK)
        status = lend_all(agent, lend, &error);
    if (status == LEND_OK) {
        atomic_store(&agent->lend, lend);
        return NIXL_CAPI_SUCCESS;
    }
    lend_agent_destroy(lend);
    (void)compat_fail_lend(status, &error, "create_backend");
    return NIXL_CAPI_ERROR_BACKEND;
}

void compat_engine_close(nixl_capi_agent_t agent)
{
    lend_agent_destroy(atomic_exchange(&agent->lend, NULL));
    agent->lease = NULL;
    explicit_bzero(agent->key, sizeof agent->key);
}

/* --- the ABI --- */

nixl_capi_status_t nixl_capi_get_available_plugins(nixl_capi_agent_t agent,
                                                   nixl_capi_string_list_t *plugins)
{
    if (plugins == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *plugins = NULL;
    if (agent == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    nixl_capi_string_list_t list = compat_string_list_create();
    if (list == NULL || !compat_string_list_add(list, BACKEND)) {
        if (list != NULL)
            (void)nixl_capi_destroy_string_list(list);
        return NIXL_CAPI_ERROR_BACKEND;
    }
    *plugins = list;
    return NIXL_CAPI_SUCCESS;
}

/* The parameters that a backend would have, or has: what is usual, and over it those given. */
static nixl_capi_params_t list_params(nixl_capi_params_t given)
{
    nixl_capi_params_t made = NULL;
    bool is_whole = nixl_capi_create_params(&made) == NIXL_CAPI_SUCCESS;

    for (size_t i = 0; is_whole && i < sizeof known / sizeof known[0]; i++) {
        const char *value = setting(given, known[i].key);

        is_whole = nixl_capi_params_add(made, known[i].key, value != NULL ? value : "") ==
                   NIXL_CAPI_SUCCESS;
    }
    for (size_t i = 0; is_whole && given != NULL && i < given->count; i++)
        is_whole = nixl_capi_params_add(made, given->items[i].key, given->items[i].value) ==
                   NIXL_CAPI_SUCCESS;
    if (!is_whole && made != NULL) {
        (void)nixl_capi_destroy_params(made);
        made = NULL;
    }
    return made;
}

static nixl_capi_status_t describe(nixl_capi_params_t given, nixl_capi_mem_list_t *mems,
                                   nixl_capi_params_t *params)
{
    nixl_capi_mem_list_t list = compat_mem_list_create(moved, sizeof moved / sizeof moved[0]);
    nixl_capi_params_t made = list_params(given);

    if (list == NULL || made == NULL) {
        if (list != NULL)
            (void)nixl_capi_destroy_mem_list(list);
        if (made != NULL)
            (void)nixl_capi_destroy_params(made);
        return NIXL_CAPI_ERROR_BACKEND;
    }
    *mems = list;
    *params = made;
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t check_plugin(const char *name)
{
    if (strcmp(name, BACKEND) == 0)
        return NIXL_CAPI_SUCCESS;
    return compat_fail(NIXL_CAPI_ERROR_NOT_FOUND, "no backend %s here, only " BACKEND, name);
}

nixl_capi_status_t nixl_capi_get_plugin_params(nixl_capi_agent_t agent, const char *plugin_name,
                                               nixl_capi_mem_list_t *mems,
                                               nixl_capi_params_t *params)
{
    if (mems == NULL || params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *mems = NULL;
    *params = NULL;
    if (agent == NULL || plugin_name == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    nixl_capi_status_t status = check_plugin(plugin_name);
    return status == NIXL_CAPI_SUCCESS ? describe(NULL, mems, params) : status;
}

nixl_capi_backend_t compat_backend_create(nixl_capi_agent_t agent)
{
    nixl_capi_backend_t made = malloc(sizeof *made);

    if (made == NULL)
        return NULL;
    made->agent = agent;
    compat_agent_retain(agent);
    return made;
}

static nixl_capi_status_t create_locked(nixl_capi_agent_t agent, nixl_capi_params_t params)
{
    if (agent->lend != NULL)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "agent %s has a backend " BACKEND,
                           agent->name);

    nixl_capi_params_t copy = compat_params_copy(params);
    if (copy == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    nixl_capi_status_t status = compat_engine_open(agent, copy);
    if (status != NIXL_CAPI_SUCCESS) {
        (void)nixl_capi_destroy_params(copy);
        return status;
    }
    agent->params = copy;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_create_backend(nixl_capi_agent_t agent, const char *plugin_name,
                                            nixl_capi_params_t params, nixl_capi_backend_t *backend)
{
    if (backend == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *backend = NULL;
    if (agent == NULL || plugin_name == NULL || params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = check_plugin(plugin_name);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    if (!compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    nixl_capi_backend_t made = compat_backend_create(agent);
    if (made == NULL) {
        status = NIXL_CAPI_ERROR_BACKEND;
    } else {
        (void)pthread_mutex_lock(&agent->lock);
        status = create_locked(agent, params);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    if (status == NIXL_CAPI_SUCCESS)
        *backend = made;
    else if (made != NULL)
        (void)nixl_capi_destroy_backend(made);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_destroy_backend(nixl_capi_backend_t backend)
{
    if (backend == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_agent_release(backend->agent);
    free(backend);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_get_backend_params(nixl_capi_agent_t agent,
                                                nixl_capi_backend_t backend,
                                                nixl_capi_mem_list_t *mems,
                                                nixl_capi_params_t *params)
{
    if (mems == NULL || params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *mems = NULL;
    *params = NULL;
    if (agent == NULL || backend == NULL || backend->agent != agent)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    /* They do not change once they are there, and who has a backend saw that they are. */
    return describe(agent->params, mems, params);
}
