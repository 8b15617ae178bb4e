/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport local keeps the contract, on each of its paths.
 * Method: the conformance battery, between two agents of one process and of two, under threaded and
 * under manual progress, over sockets in a folder and in the abstract name space.
 */
#include "battery.h"
#include "sanitizer.h"

/*
 * Two agents of one process meet in memory that each has mapped for itself. ThreadSanitizer knows
 * memory by its address, cannot see that these are the same words, and so misses what they order;
 * transport loopback shows it the same core in one mapping.
 */
enum { SKIPPED_SETUPS = UNDER_TSAN ? 8 : 0 };

static const struct battery_setup setups[] = {
    {.name = "local", .transports = "local", .path = "local/served"},
    {.name = "local, fake GPU",
     .transports = "local",
     .path = "local/staged",
     .flags = BATTERY_DEVICE},
    {.name = "local, manual",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_MANUAL},
    {.name = "local, abstract",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_ABSTRACT},
    {.name = "mapped", .transports = "local", .path = "local/mapped"},
    {.name = "mapped, manual",
     .transports = "local",
     .path = "local/mapped",
     .flags = BATTERY_MANUAL},
    {.name = "cross-memory", .transports = "local", .path = "local/cross-memory"},
    {.name = "cross-memory, manual",
     .transports = "local",
     .path = "local/cross-memory",
     .flags = BATTERY_MANUAL},
    {.name = "local, two processes, secrets",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_APART | BATTERY_SECRETS},
    {.name = "local, two processes, secret",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_APART | BATTERY_SECRET},
    {.name = "mapped, two processes, secret",
     .transports = "local",
     .path = "local/mapped",
     .flags = BATTERY_APART | BATTERY_SECRET},
    {.name = "local, two processes",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_APART},
    {.name = "local, two processes, manual",
     .transports = "local",
     .path = "local/served",
     .flags = BATTERY_APART | BATTERY_MANUAL},
    {.name = "mapped, two processes",
     .transports = "local",
     .path = "local/mapped",
     .flags = BATTERY_APART},
    {.name = "mapped, two processes, manual",
     .transports = "local",
     .path = "local/mapped",
     .flags = BATTERY_APART | BATTERY_MANUAL},
    {.name = "cross-memory, two processes",
     .transports = "local",
     .path = "local/cross-memory",
     .flags = BATTERY_APART},
    {.name = "cross-memory, two processes, manual",
     .transports = "local",
     .path = "local/cross-memory",
     .flags = BATTERY_APART | BATTERY_MANUAL},
    {.name = "local, two processes, fake GPU",
     .transports = "local",
     .path = "local/staged",
     .flags = BATTERY_DEVICE | BATTERY_APART},
    {.name = "local, two processes, fake GPU, manual",
     .transports = "local",
     .path = "local/staged",
     .flags = BATTERY_DEVICE | BATTERY_APART | BATTERY_MANUAL},
    {.name = "cuda, two processes, fake GPU",
     .transports = "local",
     .path = "local/cuda",
     .flags = BATTERY_DEVICE | BATTERY_APART},
    {.name = "cuda, two processes, fake GPU, manual",
     .transports = "local",
     .path = "local/cuda",
     .flags = BATTERY_DEVICE | BATTERY_APART | BATTERY_MANUAL},
};

int main(void)
{
    return battery_run(setups + SKIPPED_SETUPS, sizeof setups / sizeof setups[0] - SKIPPED_SETUPS);
}
