/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport ucx keeps the contract.
 * Method: the conformance battery over a real UCX and the loopback device, between two agents of
 * one process and of two, under threaded and under manual progress; by UCX's tcp, and by whatever
 * UCX chooses for that device, and between two hosts; as it goes there by itself, and with frames
 * of reads by rendezvous, as on fabrics where that saves a copy.
 */
#include "battery.h"

#include "transport/ucx/ucx.h"
#include "sanitizer.h"

#include <dlfcn.h>
#include <stdio.h>

int main(void)
{
    static const struct battery_setup setups[] = {
        {"ucx", "ucx", "ucx/served", 0},
        {"ucx, manual", "ucx", "ucx/served", BATTERY_MANUAL},
        {"ucx, two processes", "ucx", "ucx/served", BATTERY_APART},
        {"ucx, secret", "ucx", "ucx/served", BATTERY_SECRET},
        {"ucx, own choice", "ucx", "ucx/served", BATTERY_APART | BATTERY_CHOICE},
        {"ucx, fake GPU", "ucx", "ucx/staged", BATTERY_DEVICE},
    };
    static const struct battery_setup rendezvous[] = {
        {"ucx, rendezvous", "ucx", "ucx/served", BATTERY_STRAIGHT},
        {"ucx, rendezvous, manual", "ucx", "ucx/served", BATTERY_STRAIGHT | BATTERY_MANUAL},
        {"ucx, rendezvous, two processes", "ucx", "ucx/served", BATTERY_STRAIGHT | BATTERY_APART},
    };
    /* Last: whoever has been to another host sees its devices from then on. */
    static const struct battery_setup hosts[] = {
        {"ucx, two hosts", "ucx", "ucx/served", BATTERY_APART | BATTERY_HOSTS},
        {"ucx, own choice, two hosts", "ucx", "ucx/served",
         BATTERY_APART | BATTERY_HOSTS | BATTERY_CHOICE},
    };

    if (UNDER_TSAN) {
        (void)fprintf(stderr, "SKIP: " UCX_TSAN_REASON "\n");
        return 77;
    }
    if (dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL) == NULL) {
        (void)fprintf(stderr, "SKIP: %s (Debian: libucx0)\n", dlerror());
        return 77;
    }
    int failures = battery_run(setups, sizeof setups / sizeof setups[0]);
    lend_ucx_rendezvous_bytes = 1;
    failures += battery_run(rendezvous, sizeof rendezvous / sizeof rendezvous[0]);
    lend_ucx_rendezvous_bytes = 0;
    return failures + battery_run(hosts, sizeof hosts / sizeof hosts[0]);
}
