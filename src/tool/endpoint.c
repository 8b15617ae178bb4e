/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/endpoint.h"

#include "tool/secret_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void log_line(void *context, int32_t level, const char *text)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};

    (void)context;
    (void)fprintf(stderr, "lend[%d] %s: %s\n", getpid(),
                  level >= 1 && level <= 4 ? names[level] : "", text);
}

bool endpoint_has_name(const char *names, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = names; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

static void add_name(char *names, const char *name)
{
    size_t used = strlen(names);

    if (!endpoint_has_name(names, name))
        (void)snprintf(names + used, ENDPOINT_TRANSPORTS_BYTES - used, "%s%s", used == 0 ? "" : ",",
                       name);
}

const char *endpoint_transports(const struct endpoint *endpoint, char *text)
{
    bool is_chosen = endpoint->transports != NULL;

    (void)snprintf(text, ENDPOINT_TRANSPORTS_BYTES, "%s", is_chosen ? endpoint->transports : "");
    if (!is_chosen)
        add_name(text, "local");
    if (endpoint->is_networked || endpoint->listen != NULL)
        add_name(text, "tcp");
    if (!is_chosen && endpoint->ucx_devices != NULL)
        add_name(text, "ucx");
    if (endpoint->verbs_devices != NULL) /* it goes beside the others */
        add_name(text, "verbs");
    return text;
}

enum lend_status endpoint_create(const struct endpoint *endpoint, const char *name,
                                 struct lend_agent **out, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    char transports[ENDPOINT_TRANSPORTS_BYTES];
    struct secret secret = {.count = 0};

    config.name = name;
    config.transports = endpoint_transports(endpoint, transports);
    config.transports_required = config.transports;
    config.local_directory = endpoint->directory;
    config.local_mode = endpoint->socket_mode;
    config.listen = endpoint->listen;
    config.advertise = endpoint->advertise;
    config.ucx_devices = endpoint->ucx_devices;
    config.ucx_transports = endpoint->ucx_transports;
    config.ucx_library = endpoint->ucx_library;
    config.verbs_devices = endpoint->verbs_devices;
    config.leases_max = endpoint->leases_max;
    config.slot_rest_ns = endpoint->slot_rest_ns;
    config.connect_timeout_ns = endpoint->connect_timeout_ns;
    config.transfer_timeout_ns = endpoint->transfer_timeout_ns;
    if (endpoint->is_verbose)
        config.on_log = log_line;
    if (endpoint->secret_file != NULL) {
        enum lend_status status = secret_read(endpoint->secret_file, &secret, error);

        if (status != LEND_OK)
            return status;
        config.secret = secret.bytes;
        config.secret_bytes = secret.count;
        config.secret_plugin = endpoint->secret_plugin;
    }
    enum lend_status status = lend_agent_create(&config, out, error);
    secret_wipe(&secret);
    return status;
}
