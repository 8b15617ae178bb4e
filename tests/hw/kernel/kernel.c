/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the kernel for small pieces copies on a GPU as memcpy() does, and where it pays.
 * Method: a lane on GPU 0 of whatever libcuda.so.1 the loader finds. Random pieces at random
 * places, within the GPU and between it and pinned memory; every byte is compared, those between
 * them too. Then the same pieces by the kernel, without it, and as one contiguous copy, best of
 * many rounds, from the call to the driver's word that it is over. Prints rows as tests/hw/gpu.c
 * does; ends with the number of failures.
 */
#include "../driver.h"
#include "kernel.h"
#include "memory/cuda.h"
#include "memory/lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SPACE = 64 << 20, PLACE = 32 << 10, PIECES = LEND_KERNEL_PIECES_MAX, ROUNDS = 20 };
enum way { ON_DEVICE, TO_HOST, TO_DEVICE };

static const char *const ways[] = {"GPU to GPU", "GPU to pinned", "pinned to GPU"};

static struct lend_lanes lanes;
static struct lend_lane *lane;
static uint64_t device, source;  /* SPACE each */
static uint8_t *pinned, *mirror; /* the same */
static struct lend_lane_piece pieces[PIECES];
static struct lend_lane_mark mark;
static struct lend_error error;
static int failures;

static void must(enum lend_status status)
{
    if (status == LEND_OK)
        return;
    (void)fprintf(stderr, "%s\n", error.message);
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Put them in, and wait until they are over: how long that took. */
static uint64_t put(uint32_t count)
{
    uint64_t start = now_ns();
    enum lend_status status;

    must(lend_lane_put(lane, pieces, count, &mark, &error));
    while ((status = lend_lane_ask(&mark, &error)) == LEND_PENDING)
        continue;
    must(status);
    return now_ns() - start;
}

static void put_one(enum way way, uint64_t bytes)
{
    pieces[0] = (struct lend_lane_piece){.device = device,
                                         .host = way == ON_DEVICE ? NULL : pinned,
                                         .from = way == ON_DEVICE ? source : 0,
                                         .bytes = bytes,
                                         .is_to_device = way == TO_DEVICE};
}

static void fill(uint64_t address, unsigned seed)
{
    for (size_t i = 0; i < SPACE; i++)
        pinned[i] = (uint8_t)(i * 131 + i / 4093 + seed);
    put_one(TO_DEVICE, SPACE);
    pieces[0].device = address;
    (void)put(1);
}

/* A piece in each place, of any length and alignment. */
static void scatter(enum way way, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = 1 + (uint64_t)rand() % LEND_KERNEL_BYTES_MAX;
        uint64_t here = (uint64_t)i * PLACE + (uint64_t)rand() % 16000;
        uint64_t there = (uint64_t)(count - 1 - i) * PLACE + (uint64_t)rand() % 16000;

        if (rand() % 2 == 0) /* alike on both sides */
            there = there / 16 * 16 + here % 16;
        pieces[i] = (struct lend_lane_piece){.device = device + here,
                                             .host = way == ON_DEVICE ? NULL : pinned + there,
                                             .from = way == ON_DEVICE ? source + there : 0,
                                             .bytes = bytes,
                                             .is_to_device = way == TO_DEVICE};
    }
}

/* What pinned, or the GPU's memory, is to have, and then has. */
static bool moves(enum way way)
{
    fill(source, 1);
    fill(device, 2);
    memcpy(mirror, pinned, SPACE);
    for (size_t i = 0; i < SPACE; i++)
        pinned[i] = (uint8_t)(i * 131 + i / 4093 + 1); /* as the source has it */
    scatter(way, PIECES);
    if (way == TO_HOST) { /* what the GPU has, into what is there */
        uint8_t *theirs = malloc(SPACE);

        memcpy(theirs, mirror, SPACE);
        memcpy(mirror, pinned, SPACE);
        for (uint32_t i = 0; i < PIECES; i++)
            memcpy(mirror + ((uint8_t *)pieces[i].host - pinned),
                   theirs + (pieces[i].device - device), pieces[i].bytes);
        free(theirs);
    } else {
        for (uint32_t i = 0; i < PIECES; i++) {
            uint64_t from = way == ON_DEVICE ? pieces[i].from - source
                                             : (uint64_t)((uint8_t *)pieces[i].host - pinned);

            memcpy(mirror + (pieces[i].device - device), pinned + from, pieces[i].bytes);
        }
    }
    (void)put(PIECES);
    if (way != TO_HOST) {
        put_one(TO_HOST, SPACE);
        (void)put(1);
    }
    return memcmp(mirror, pinned, SPACE) == 0;
}

static void test_moves(void)
{
    for (enum way way = ON_DEVICE; way <= TO_DEVICE; way++) {
        int good = 0;

        for (int round = 0; round < 3; round++)
            good += moves(way);
        failures += good != 3;
        (void)printf("| kernel, %s, %d pieces of any length | %s | %d of 3 rounds |\n", ways[way],
                     PIECES, good == 3 ? "passed" : "FAILED", good);
    }
}

static uint64_t best(uint32_t count)
{
    uint64_t least = UINT64_MAX;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t taken = put(count);

        least = taken < least ? taken : least;
    }
    return least;
}

/* Pieces that touch nowhere; larger ones than the kernel takes are several for it. */
static void measure(enum way way, uint64_t bytes, uint32_t count)
{
    uint64_t taken[2];

    put_one(way, bytes * count);
    uint64_t whole = best(1);
    for (int is_off = 0; is_off < 2; is_off++) {
        uint64_t part =
            is_off == 0 && bytes > LEND_KERNEL_BYTES_MAX ? LEND_KERNEL_BYTES_MAX : bytes;
        uint32_t parts = (uint32_t)(bytes / part);

        for (uint32_t i = 0; i < count * parts; i++) {
            uint64_t at = (uint64_t)(i / parts) * 2 * bytes + i % parts * part;

            pieces[i] = (struct lend_lane_piece){.device = device + at,
                                                 .host = way == ON_DEVICE ? NULL : pinned + at,
                                                 .from = way == ON_DEVICE ? source + at : 0,
                                                 .bytes = part,
                                                 .is_to_device = way == TO_DEVICE};
        }
        atomic_store(&lane->kernel.is_off, is_off != 0);
        taken[is_off] = best(count * parts);
    }
    atomic_store(&lane->kernel.is_off, false);
    (void)printf("| %s, %u pieces of %llu bytes | passed | kernel %.1f us, without %.1f us, one "
                 "copy %.1f us |\n",
                 ways[way], count, (unsigned long long)bytes, (double)taken[0] / 1000,
                 (double)taken[1] / 1000, (double)whole / 1000);
}

int main(void)
{
    static const uint64_t lengths[] = {256, 1024, 4096, 8192, 16384, 32768, 65536};
    struct lend_device_memory where = {0};
    void *memory = NULL;
    char name[128] = "";

    driver_open();
    driver_must(driver.device_name(name, sizeof name, 0), "cuDeviceGetName");
    (void)printf("# %s\n", name);
    lend_lanes_init(&lanes);
    must(lend_lane_assign(&lanes, &where, &error));
    lane = where.lane;
    must(lend_lane_equip(&lanes, lane, &error));
    must(lend_lane_allocate(lane, SPACE, &device, &error));
    must(lend_lane_allocate(lane, SPACE, &source, &error));
    must(lend_lane_pin(lane, SPACE, &memory, &error));
    pinned = memory;
    mirror = malloc(SPACE);
    if (mirror == NULL)
        return 2;
    test_moves();
    failures += !test_behind_stream();
    for (enum way way = ON_DEVICE; way <= TO_DEVICE; way++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            measure(way, lengths[i], 256);
        for (uint32_t count = LEND_KERNEL_PIECES_LEAST; count <= 64; count *= 2)
            measure(way, 4096, count);
        measure(way, 4096, PIECES);
    }
    lend_lane_drop_mark(&mark);
    lend_lane_unpin(lane, pinned);
    lend_lane_free(lane, source);
    lend_lane_free(lane, device);
    lend_lanes_fini(&lanes, false);
    free(mirror);
    return failures > 0;
}
