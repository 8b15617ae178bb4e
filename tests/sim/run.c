/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdlib.h>

/* Each lease was told to have ended, once. */
static void check_ends(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (sim->leases[i].end_calls != 1)
            (void)complain(sim, "lease %u was told to have ended %u times", i,
                           sim->leases[i].end_calls);
}

void sim_run(uint64_t seed, const struct sim_options *options, struct sim_report *out)
{
    struct sim *sim = calloc(1, sizeof *sim);

    *out = (struct sim_report){.is_good = true, .history = UINT64_C(0xcbf29ce484222325)};
    sim->options = options;
    sim->report = out;
    bool is_good = open_world(sim, seed);
    for (uint32_t i = 0; i < STEPS && is_good; i++)
        is_good = step(sim) && out->is_good;
    if (is_good)
        (void)finish(sim);
    close_world(sim);
    check_ends(sim);
    free(sim);
}
