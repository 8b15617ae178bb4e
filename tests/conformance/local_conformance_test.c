/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport local keeps the contract, on each of its paths.
 * Method: the conformance battery, between two agents of one process and of two, under threaded and
 * under manual progress, over sockets in a folder and in the abstract name space.
 */
#include "battery.h"

/*
 * Two agents of one process meet in memory that each has mapped for itself. ThreadSanitizer knows
 * memory by its address, cannot see that these are the same words, and so misses what they order;
 * transport loopback shows it the same core in one mapping.
 */
#if defined(__SANITIZE_THREAD__)
#define SKIPPED_SETUPS 7
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SKIPPED_SETUPS 7
#endif
#endif
#ifndef SKIPPED_SETUPS
#define SKIPPED_SETUPS 0
#endif

int main(void)
{
    static const struct battery_setup setups[] = {
        {"local", "local", "local/served", 0},
        {"local, manual", "local", "local/served", BATTERY_MANUAL},
        {"local, abstract", "local", "local/served", BATTERY_ABSTRACT},
        {"mapped", "local", "local/mapped", 0},
        {"mapped, manual", "local", "local/mapped", BATTERY_MANUAL},
        {"cross-memory", "local", "local/cross-memory", 0},
        {"cross-memory, manual", "local", "local/cross-memory", BATTERY_MANUAL},
        {"local, two processes, secret", "local", "local/served", BATTERY_APART | BATTERY_SECRET},
        {"mapped, two processes, secret", "local", "local/mapped", BATTERY_APART | BATTERY_SECRET},
        {"local, two processes", "local", "local/served", BATTERY_APART},
        {"local, two processes, manual", "local", "local/served", BATTERY_APART | BATTERY_MANUAL},
        {"mapped, two processes", "local", "local/mapped", BATTERY_APART},
        {"mapped, two processes, manual", "local", "local/mapped", BATTERY_APART | BATTERY_MANUAL},
        {"cross-memory, two processes", "local", "local/cross-memory", BATTERY_APART},
        {"cross-memory, two processes, manual", "local", "local/cross-memory",
         BATTERY_APART | BATTERY_MANUAL},
    };

    return battery_run(setups + SKIPPED_SETUPS, sizeof setups / sizeof setups[0] - SKIPPED_SETUPS);
}
