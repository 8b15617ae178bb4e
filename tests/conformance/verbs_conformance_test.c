/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: transport verbs keeps the contract, beside each of the transports that carry its frames.
 * Method: the conformance battery: between two agents of one process, under manual progress and in
 * threads, on a fake libibverbs, whose NICs move bytes as real ones do. Where
 * LEND_TEST_RDMA names two devices ("rxe0,rxe0"), on those instead, in threads and between two
 * processes: that is how tests/rdma runs it, in a virtual machine with soft-RoCE.
 */
#include "battery.h"

#include "fake/verbs.h"
#include "sanitizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64, SOFT_ROCE = 0xffffff };

static int run_real(const char *devices)
{
    static char names[2][NAME_BYTES];
    const char *comma = strchr(devices, ',');
    struct battery_setup setups[] = {
        {.name = "verbs, tcp", .transports = "tcp,verbs"},
        {.name = "verbs, local", .transports = "local,verbs"},
        {.name = "verbs, tcp, two processes", .transports = "tcp,verbs", .flags = BATTERY_APART},
        {.name = "verbs, tcp, two processes, manual",
         .transports = "tcp,verbs",
         .flags = BATTERY_APART | BATTERY_MANUAL},
        {.name = "verbs, local, two processes, secret",
         .transports = "local,verbs",
         .flags = BATTERY_APART | BATTERY_SECRET},
    };

    if (comma == NULL) {
        (void)fprintf(stderr, "LEND_TEST_RDMA is to name two devices, with a comma between\n");
        return 1;
    }
    (void)snprintf(names[0], sizeof names[0], "%.*s", (int)(comma - devices), devices);
    (void)snprintf(names[1], sizeof names[1], "%s", comma + 1);
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++) {
        setups[i].path = "verbs/read";
        setups[i].flags |= BATTERY_STRAIGHT;
    }
    battery_nics[0] = names[0];
    battery_nics[1] = names[1];
    return battery_run(setups, sizeof setups / sizeof setups[0]);
}

static void use_two_nics_each(void)
{
    fake_verbs.device_count = FAKE_VERBS_DEVICES_MAX;
    battery_nics[0] = "fake0,fake2";
    battery_nics[1] = "fake1,fake3";
}

/* Between agents with threads of their own: by private regions, and by windows. */
static int run_threads(void)
{
    static const struct battery_setup setups[] = {
        {.name = "verbs on a fake soft-RoCE, tcp, threads",
         .transports = "tcp,verbs",
         .path = "verbs/read",
         .flags = BATTERY_STRAIGHT},
        {.name = "verbs on a fake, tcp, fake GPU, two NICs each, threads",
         .transports = "tcp,verbs",
         .path = "verbs/read",
         .flags = BATTERY_STRAIGHT | BATTERY_DEVICE},
        {.name = "verbs on a fake, local, two NICs each, threads",
         .transports = "local,verbs",
         .path = "verbs/read",
         .flags = BATTERY_STRAIGHT},
    };
    int failed = 0;

    if (UNDER_TSAN) {
        (void)printf("skipped: verbs in threads: what orders a NIC's bytes and the memory's owner "
                     "goes by shared memory and sockets, and the thread sanitizer does not see "
                     "it\n");
        return 0;
    }
    lend_verbs = &fake_verbs_threads_ops;
    fake_verbs.is_beside = true;
    failed += battery_run(&setups[0], 1);
    fake_verbs.devices[0].vendor_id = fake_verbs.devices[1].vendor_id = 0;
    use_two_nics_each();
    return failed + battery_run(&setups[1], 2);
}

/* Memory of fake GPUs: at both ends, and at either; and by private regions, and by the addresses of
 * the GPU, where the NIC has no windows, or the kernel no dma-buf. */
static int run_gpus(void)
{
    static const struct battery_setup setups[] = {
        {.name = "verbs on a fake, tcp, fake GPU, manual",
         .transports = "tcp,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_DEVICE},
        {.name = "verbs on a fake, loopback, fake GPU to the host, manual",
         .transports = "loopback,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_DEVICE | BATTERY_HOST_READER},
        {.name = "verbs on a fake, loopback, the host to a fake GPU, manual",
         .transports = "loopback,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_DEVICE | BATTERY_HOST_OWNER},
        {.name = "verbs on a fake without windows, loopback, fake GPU, manual",
         .transports = "loopback,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_DEVICE},
        {.name = "verbs on a fake without dma-buf, local, fake GPU, manual",
         .transports = "local,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_DEVICE},
    };
    int failed = battery_run(setups, 3);

    for (int i = 0; i < 2; i++)
        fake_verbs.devices[i].refuses_dma_buf_windows = true;
    failed += battery_run(&setups[3], 1);
    for (int i = 0; i < 2; i++) {
        fake_verbs.devices[i].refuses_dma_buf_windows = false;
        fake_verbs.devices[i].has_dma_buf = false;
        fake_verbs.devices[i].has_peer_memory = true;
    }
    failed += battery_run(&setups[4], 1);
    fake_verbs_reset();
    return failed;
}

static int run_fake(void)
{
    static const struct battery_setup setups[] = {
        {.name = "verbs on a fake, loopback, manual",
         .transports = "loopback,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT},
        {.name = "verbs on a fake, tcp, manual",
         .transports = "tcp,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT},
        {.name = "verbs on a fake, local, secret, manual",
         .transports = "local,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT | BATTERY_SECRET},
        {.name = "verbs on a fake soft-RoCE, loopback, manual",
         .transports = "loopback,verbs",
         .path = "verbs/read",
         .flags = BATTERY_MANUAL | BATTERY_STRAIGHT},
    };
    int failed = 0;

    fake_verbs_reset();
    lend_verbs = &fake_verbs_ops;
    battery_nics[0] = "fake0";
    battery_nics[1] = "fake1";
    failed += run_gpus();
    failed += battery_run(setups, 3);
    /* Of such NICs neither fences nor windows are relied on. */
    fake_verbs.devices[0].vendor_id = fake_verbs.devices[1].vendor_id = SOFT_ROCE;
    failed += battery_run(&setups[3], 1);
    return failed + run_threads();
}

int main(void)
{
    const char *devices = getenv("LEND_TEST_RDMA");

    return devices != NULL ? run_real(devices) : run_fake();
}
