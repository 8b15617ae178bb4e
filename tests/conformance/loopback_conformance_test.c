/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport loopback keeps the contract.
 * Method: the conformance battery, under threaded and under manual progress.
 */
#include "battery.h"

int main(void)
{
    static const struct battery_setup setups[] = {
        {"loopback", "loopback", "loopback", 0},
        {"loopback, manual", "loopback", "loopback", BATTERY_MANUAL},
        {"loopback, secret", "loopback", "loopback", BATTERY_SECRET},
        {"loopback, secret, manual", "loopback", "loopback", BATTERY_SECRET | BATTERY_MANUAL},
    };

    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
