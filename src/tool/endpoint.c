/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/endpoint.h"

#include <stdio.h>
#include <unistd.h>

static void log_line(void *context, int32_t level, const char *text)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};

    (void)context;
    (void)fprintf(stderr, "lend[%d] %s: %s\n", getpid(),
                  level >= 1 && level <= 4 ? names[level] : "", text);
}

enum lend_status endpoint_create(const struct endpoint *endpoint, const char *name,
                                 struct lend_agent **out, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = endpoint->transports;
    config.transports_required = endpoint->transports;
    config.local_directory = endpoint->directory;
    config.local_mode = endpoint->socket_mode;
    config.leases_max = endpoint->leases_max;
    config.slot_rest_ns = endpoint->slot_rest_ns;
    if (endpoint->is_verbose)
        config.on_log = log_line;
    return lend_agent_create(&config, out, error);
}
