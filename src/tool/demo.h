/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_DEMO_H
#define LEND_TOOL_DEMO_H

#include "tool/act.h"
#include "tool/options.h"

enum { DEMO_ROUNDS = 9 };

/* The main job: what two processes did and how long it took. */
struct job {
    uint32_t owner_block_count; /* of each region */
    uint32_t block_count;       /* of each region, in the pull */
    uint64_t pieces;
    uint64_t bytes;
    uint64_t lent_bytes;
    uint64_t register_ns;
    uint64_t metadata_bytes;
    uint64_t ticket_bytes;
    uint64_t prepare_ns; /* import and prepare */
    uint64_t connect_ns;
    uint64_t post_ns; /* medians of the warm rounds, here and below */
    uint64_t pull_ns;
    uint64_t copy_ns;
    int64_t notify_ns; /* from the data's completion until the owner's application has it */
    uint64_t cold_pull_ns;
    uint64_t cold_copy_ns;
    uint64_t bytes_right; /* in all rounds */
    uint64_t pieces_wrong;
    char path[32];
    char device[128]; /* the GPU's name; "": it is memory of the host */
};

/* Do it on an empty stage, which is empty again afterwards. */
enum lend_status job_run(struct stage *stage, uint64_t seed, struct job *job,
                         struct lend_error *error);

/* Show it and the acts. failure: why the acts did not come to their end, or NULL. */
void demo_print(const struct options *options, const struct job *job, const struct acts *acts);
enum lend_status demo_print_json(const struct options *options, const struct job *job,
                                 const struct acts *acts, const char *failure,
                                 struct lend_error *error);

#endif
