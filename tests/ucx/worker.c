/* SPDX-License-Identifier: Apache-2.0 */
/* An agent that has nothing but a worker of UCX on loopback, until its input ends: for
 * strangers.py. */
#include <lend/lend.h>

#include <stdio.h>

int main(void)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = "worker";
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.transports = "ucx";
    config.ucx_devices = "lo";
    config.ucx_transports = "tcp";
    if (lend_agent_create(&config, &agent, &error) != LEND_OK) {
        (void)printf("SKIP: %s\n", error.message);
        return 77;
    }
    (void)puts("ready");
    (void)fflush(stdout);
    (void)getchar();
    lend_agent_destroy(agent);
    return 0;
}
