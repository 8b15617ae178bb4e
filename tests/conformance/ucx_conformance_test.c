/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport ucx keeps the contract.
 * Method: the conformance battery over a real UCX and the loopback device, between two agents of
 * one process and of two, under threaded and under manual progress; by UCX's tcp, and by whatever
 * UCX chooses for that device.
 */
#include "battery.h"

#include <dlfcn.h>
#include <stdio.h>

#define UCX(name, flags, transports)                                                               \
    {                                                                                              \
        name, "ucx", "ucx/served", flags, "lo", transports                                         \
    }

int main(void)
{
    static const struct battery_setup setups[] = {
        UCX("ucx", 0, "tcp"),
        UCX("ucx, manual", BATTERY_MANUAL, "tcp"),
        UCX("ucx, two processes", BATTERY_APART, "tcp"),
        UCX("ucx, own choice", BATTERY_APART, NULL),
    };

    if (dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL) == NULL) {
        (void)fprintf(stderr, "skipped: %s (Debian: libucx0)\n", dlerror());
        return 77;
    }
    return battery_run(setups, sizeof setups / sizeof setups[0]);
}
