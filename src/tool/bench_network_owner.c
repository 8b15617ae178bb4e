/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The owner's side of section network: where it stands, and what it is asked beside serving. */

void network_enter(const struct network *network, int which)
{
    struct lend_error error;

    if (network->has_hosts)
        must(hosts_move_to(&network->hosts, which, &error), &error);
}

const char *network_address(const struct network *network, int which)
{
    return network->has_hosts ? hosts_ipv4[which] : "127.0.0.1";
}

struct lend_agent *network_open_agent(const struct network *network, int which, const char *name)
{
    struct endpoint endpoint = network->endpoint;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    endpoint.is_networked = true;
    if (which == NETWORK_OWNER)
        endpoint.listen = network_address(network, which);
    must(endpoint_create(&endpoint, name, &agent, &error), &error);
    return agent;
}

/* Both hosts have one clock, so that the way there alone can be timed. */
static void receive_heartbeats(const struct pair *pair, struct lend_agent *agent, uint32_t count)
{
    double *took_ns = must_allocate(count, sizeof *took_ns);
    struct lend_error error;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t sent_ns = 0;
        size_t got = 0;

        must(lend_notification_receive(agent, &sent_ns, sizeof sent_ns, &got, NULL,
                                       bench_timeout_ns, &error),
             &error);
        took_ns[i] = (double)(now_ns() - sent_ns);
    }
    pair_say(pair, took_ns, count * sizeof *took_ns);
    free(took_ns);
}

/* What is resident and shared with no file: neither the lent memory nor the library. */
static uint64_t own_memory_bytes(void)
{
    unsigned long long size = 0, resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    must_sys(file != NULL, "/proc/self/statm");
    must_sys(fscanf(file, "%llu %llu %llu", &size, &resident, &shared) == 3, "/proc/self/statm");
    (void)fclose(file);
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void network_attend(const struct network *network, const struct pair *pair,
                    struct lend_agent *agent)
{
    struct network_order order;

    while (pair_hears(pair, &order, sizeof order)) {
        if (order.verb == NETWORK_HEARTBEATS) {
            receive_heartbeats(pair, agent, order.count);
        } else if (order.verb == NETWORK_RAW_HEARTBEATS) {
            raw_heartbeats_receive(pair, network_address(network, NETWORK_OWNER), order.count);
        } else if (order.verb == NETWORK_MEMORY) {
            uint64_t bytes = own_memory_bytes();

            pair_say(pair, &bytes, sizeof bytes);
        }
    }
}
