/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SIM_SIM_H
#define LEND_TESTS_SIM_SIM_H

#include <lend/lend.h>

#include <stdbool.h>

/*
 * The simulation: three agents of one process, over the simulated fabric, on a clock of their own,
 * in one thread. A seed decides every step, and a model that knows nothing of lend but its contract
 * says after each whether what happened may happen.
 */

enum sim_weather {
    SIM_FAIR = 0,   /* every frame arrives, at once */
    SIM_SLOW = 1,   /* every frame arrives, some of them late */
    SIM_STORMY = 2, /* frames are lost, swapped and corrupted; connections die */
};

struct sim_options {
    bool rewrites_too_early; /* the owner breaks its promise: it rewrites blocks that are leased */
    bool is_told;            /* print what happens */
};

/* What a history came to. */
struct sim_report {
    bool is_good;
    char why[400];    /* if it is not */
    uint64_t history; /* a digest of every step and what came of it */
    uint32_t weather; /* a sim_weather */
    uint64_t posts;
    uint64_t grants;
    uint64_t revokes;
    uint64_t withdrawals;
    uint64_t cancels;
    uint64_t deaths;
    uint64_t notifications;
    uint64_t bytes;
    uint64_t ends[64]; /* transfers, by the negative of their status */
};

void sim_run(uint64_t seed, const struct sim_options *options, struct sim_report *out);

#endif
