/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of a GPU keeps the contract, on each path that it has on one host.
 * Method: the conformance battery, with memory of GPU 0 of whatever libcuda.so.1 the loader finds
 * at both ends, by a stand-in for cmocka (cmocka.h), a process for each test. Prints a row for each
 * setup.
 */
#include "cmocka.h"

#include "conformance/battery.h"
#include "conformance/gpu.h"
#include "built.h"
#include "driver.h"
#include "rows.h"
#include "sanitizer.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* --- the GPU of a process, which it opens when it first has memory --- */

static pthread_once_t opening = PTHREAD_ONCE_INIT;

static void enter(void)
{
    (void)pthread_once(&opening, driver_open);
    driver_enter();
}

void battery_gpu_begin(void)
{
}

uint64_t battery_gpu_allocate(size_t bytes)
{
    uint64_t address = 0;

    enter();
    driver_must(driver.allocate(&address, bytes), "cuMemAlloc");
    return address;
}

void battery_gpu_free(uint64_t address)
{
    enter();
    driver_must(driver.free(address), "cuMemFree");
}

void battery_gpu_put(uint64_t to, const void *from, size_t bytes)
{
    enter();
    driver_put(to, from, bytes);
}

void battery_gpu_get(void *to, uint64_t from, size_t bytes)
{
    enter();
    driver_must(driver.to_host(to, from, bytes), "cuMemcpyDtoH");
}

void battery_gpu_end(void)
{
}

/* --- its rows --- */

/* The library of the hardware tests has every transport that the battery asks for. */
bool built_with(const char *transport)
{
    (void)transport;
    return true;
}

/* The last on a GPU that leaves lets its driver put it to sleep, and each process of a test would
 * wait for it to wake. */
static void keep_awake(void)
{
    if (fork() != 0)
        return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    driver_open();
    for (;;)
        (void)pause();
}

/* Of these the thread sanitizer misses what orders them, as of conformance/local_conformance_test.c
 * and battery.c. */
static bool is_left_out(const struct battery_setup *setup)
{
    bool is_in_one = strcmp(setup->transports, "local") == 0 && (setup->flags & BATTERY_APART) == 0;

    return UNDER_TSAN && (is_in_one || (setup->flags & BATTERY_MANUAL) != 0);
}

static void run(const struct battery_setup *setup)
{
    char name[96];

    memset(&cmocka_count, 0, sizeof cmocka_count);
    (void)snprintf(name, sizeof name, "conformance battery, %s", setup->name);
    int failures = battery_run(setup, 1);
    for (char *at = cmocka_count.first; *at != '\0'; at++)
        if (*at == '|' || *at == '\n')
            *at = '/'; /* it is to be a cell of a table */
    tell(name, failures == 0 && cmocka_count.passed > 0,
         "%d tests passed, %d failed, %d left out%s%s", cmocka_count.passed, cmocka_count.failed,
         cmocka_count.skipped, failures > 0 ? "; " : "", cmocka_count.first);
}

int main(int argc, char **argv)
{
    static const struct battery_setup setups[] = {
        {"local/cuda, two processes", "local", "local/cuda", BATTERY_DEVICE | BATTERY_APART},
        {"local/staged, two processes", "local", "local/staged", BATTERY_DEVICE | BATTERY_APART},
        {"local/cuda, two processes, manual progress", "local", "local/cuda",
         BATTERY_DEVICE | BATTERY_APART | BATTERY_MANUAL},
        {"local/staged, two processes, manual progress", "local", "local/staged",
         BATTERY_DEVICE | BATTERY_APART | BATTERY_MANUAL},
        {"local/staged, one process", "local", "local/staged", BATTERY_DEVICE},
        {"loopback/staged", "loopback", "loopback/staged", BATTERY_DEVICE},
        {"loopback/staged, manual progress", "loopback", "loopback/staged",
         BATTERY_DEVICE | BATTERY_MANUAL},
        {"tcp/staged, two processes", "tcp", "tcp/staged", BATTERY_DEVICE | BATTERY_APART},
    };
    const size_t few = 2, count = is_small() ? few : sizeof setups / sizeof setups[0];
    bool is_list = argc == 2 && strcmp(argv[1], "list") == 0, is_known = argc == 1 || is_list;

    if (!is_list)
        keep_awake();
    for (size_t i = 0; i < count; i++) {
        bool is_wanted = argc == 1 || strcmp(argv[1], setups[i].name) == 0;

        is_known |= is_wanted;
        if (is_list)
            (void)puts(setups[i].name);
        else if (is_wanted && !is_left_out(&setups[i]))
            run(&setups[i]);
    }
    return tell_failures() > 0 || !is_known;
}
