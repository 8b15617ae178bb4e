/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport local, served, keeps the contract.
 * Method: the conformance battery, between two agents of one process and of two, under threaded and
 * under manual progress, over sockets in a folder and in the abstract name space.
 */
#include "battery.h"

int main(void)
{
    static const struct battery_setup setups[] = {
        {"local", "local", "local/served", 0},
        {"local, manual", "local", "local/served", BATTERY_MANUAL},
        {"local, abstract", "local", "local/served", BATTERY_ABSTRACT},
        {"local, two processes", "local", "local/served", BATTERY_APART},
        {"local, two processes, manual", "local", "local/served", BATTERY_APART | BATTERY_MANUAL},
    };

    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
