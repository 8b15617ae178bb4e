/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the main job of `lend demo' and its four acts hold with memory of a GPU, by each path.
 * Method: they are the demo's own, without its output, and so without the libraries that it takes:
 * processes that lend, pull, are killed and stopped, and check every byte by copies of the driver.
 * Prints a row for each thing that was done.
 */
#include "rows.h"
#include "tool/demo.h"
#include "tool/trouble.h"

#include <stdio.h>
#include <string.h>

enum { ITERATIONS = 20, FEW = 3, ACT_BLOCKS = 8, JOB_BLOCKS = 32 };

static void tell_job(const char *path, const struct job *job)
{
    char name[96];

    (void)snprintf(name, sizeof name, "demo, main job, %s", path);
    tell(name, strcmp(job->path, path) == 0 && job->pieces_wrong == 0,
         "%llu blocks of 32 KiB by %s, %.2f GB/s, %.2fx of cuMemcpyDtoDAsync of each block, on %s",
         (unsigned long long)job->pieces, job->path, (double)job->bytes / (double)job->pull_ns,
         (double)job->copy_ns / (double)job->pull_ns, job->device);
}

static void tell_acts(const char *path, const struct acts *acts)
{
    char name[160], seen[160];

    for (uint32_t i = 0; i < acts->row_count; i++) {
        const struct act_row *row = &acts->rows[i];
        const char *verdict = act_row_verdict(row, acts->iterations);

        (void)snprintf(name, sizeof name, "demo, %s: %s, %s", row->act, row->done, path);
        tell(name, strcmp(verdict, "right") == 0, "%s%s%s", act_row_seen(row, seen, sizeof seen),
             row->wrong > 0 ? "; " : "", row->wrong > 0 ? row->reason : "");
    }
}

static void play(const char *path, uint32_t iterations)
{
    static struct stage stage;
    const struct endpoint endpoint = {
        .model = model_at(0), .memory_kind = LEND_MEMORY_DEVICE, .paths = path};
    struct acts acts = {.stage = &stage,
                        .dice = {.state = dice_seed()},
                        .iterations = iterations,
                        .block_count = ACT_BLOCKS};
    uint32_t regions = model_region_count(endpoint.model);
    struct job job = {.owner_block_count = 2 * JOB_BLOCKS,
                      .block_count = JOB_BLOCKS,
                      .pieces = (uint64_t)JOB_BLOCKS * regions};
    struct lend_error error = {0};

    job.bytes = job.pieces * model_block_bytes(endpoint.model);
    stage = (struct stage){0};
    enum lend_status status = stage_open(&stage, &endpoint, false, &error);
    if (status == LEND_OK)
        status = job_run(&stage, dice_roll(&acts.dice), &job, &error);
    if (status == LEND_OK) {
        tell_job(path, &job);
        status = acts_run(&acts, &error);
    }
    stage_close(&stage);
    tell_acts(path, &acts);
    if (status != LEND_OK)
        tell("demo", false, "%s: %s: %s", path, lend_status_name(status), error.message);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "stand-in") == 0)
        return actor_stand_in(argc, argv); /* what an owner becomes by exec */
    play("local/cuda", is_small() ? FEW : ITERATIONS);
    play("local/staged", is_small() ? FEW : ITERATIONS);
    return tell_failures() > 0;
}
