/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport loopback keeps the contract.
 * Method: the conformance battery, under threaded and under manual progress.
 */
#include "battery.h"

int main(void)
{
    static const struct battery_setup setups[] = {
        {.name = "loopback", .transports = "loopback", .path = "loopback"},
        {.name = "loopback, manual",
         .transports = "loopback",
         .path = "loopback",
         .flags = BATTERY_MANUAL},
        {.name = "loopback, secret",
         .transports = "loopback",
         .path = "loopback",
         .flags = BATTERY_SECRET},
        {.name = "loopback, secret, manual",
         .transports = "loopback",
         .path = "loopback",
         .flags = BATTERY_SECRET | BATTERY_MANUAL},
        {.name = "loopback, secrets",
         .transports = "loopback",
         .path = "loopback",
         .flags = BATTERY_SECRETS},
        {.name = "loopback, fake GPU",
         .transports = "loopback",
         .path = "loopback/staged",
         .flags = BATTERY_DEVICE},
        {.name = "loopback, fake GPU, manual",
         .transports = "loopback",
         .path = "loopback/staged",
         .flags = BATTERY_DEVICE | BATTERY_MANUAL},
    };

    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
