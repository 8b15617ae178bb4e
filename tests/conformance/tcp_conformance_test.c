/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport tcp keeps the contract, over IPv4 and IPv6, on one host and between two.
 * Method: the conformance battery, between two agents of one process and of two, under threaded and
 * under manual progress, by the addresses of loopback; and between two network namespaces that a
 * pair of virtual Ethernet devices joins.
 */
#include "battery.h"

int main(void)
{
    static const struct battery_setup setups[] = {
        {.name = "tcp", .transports = "tcp", .path = "tcp/served"},
        {.name = "tcp, manual", .transports = "tcp", .path = "tcp/served", .flags = BATTERY_MANUAL},
        {.name = "tcp, IPv6", .transports = "tcp", .path = "tcp/served", .flags = BATTERY_IPV6},
        {.name = "tcp, secret", .transports = "tcp", .path = "tcp/served", .flags = BATTERY_SECRET},
        {.name = "tcp, secrets",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_SECRETS},
        {.name = "tcp, two processes, secret",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART | BATTERY_SECRET},
        {.name = "tcp, two processes",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART},
        {.name = "tcp, two processes, manual",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART | BATTERY_MANUAL},
        {.name = "tcp, fake GPU",
         .transports = "tcp",
         .path = "tcp/staged",
         .flags = BATTERY_DEVICE},
        {.name = "tcp, two hosts",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART | BATTERY_HOSTS},
        {.name = "tcp, two hosts, IPv6",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART | BATTERY_HOSTS | BATTERY_IPV6},
        {.name = "tcp, two hosts, secret",
         .transports = "tcp",
         .path = "tcp/served",
         .flags = BATTERY_APART | BATTERY_HOSTS | BATTERY_SECRET},
    };

    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
