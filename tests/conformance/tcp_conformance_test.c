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
        {"tcp", "tcp", "tcp/served", 0},
        {"tcp, manual", "tcp", "tcp/served", BATTERY_MANUAL},
        {"tcp, IPv6", "tcp", "tcp/served", BATTERY_IPV6},
        {"tcp, secret", "tcp", "tcp/served", BATTERY_SECRET},
        {"tcp, two processes, secret", "tcp", "tcp/served", BATTERY_APART | BATTERY_SECRET},
        {"tcp, two processes", "tcp", "tcp/served", BATTERY_APART},
        {"tcp, two processes, manual", "tcp", "tcp/served", BATTERY_APART | BATTERY_MANUAL},
        {"tcp, two hosts", "tcp", "tcp/served", BATTERY_APART | BATTERY_HOSTS},
        {"tcp, two hosts, IPv6", "tcp", "tcp/served", BATTERY_APART | BATTERY_HOSTS | BATTERY_IPV6},
        {"tcp, two hosts, secret", "tcp", "tcp/served",
         BATTERY_APART | BATTERY_HOSTS | BATTERY_SECRET},
    };

    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
