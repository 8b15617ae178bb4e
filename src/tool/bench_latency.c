/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include <stdlib.h>

/* One small block: post and wait. */

static const char section[] = "latency";

enum { BLOCKS = 64, SAMPLES = 200, SAMPLES_QUICK = 10, COPIES = 16 };

static const uint64_t sizes[] = {8, 4096, 65536};
enum { SIZES = sizeof sizes / sizeof *sizes };

void bench_latency(struct bench *bench)
{
    struct borrowing *borrowing = must_allocate(1, sizeof *borrowing);
    uint32_t samples = bench->rounds * (bench->is_quick ? SAMPLES_QUICK : SAMPLES);
    int32_t local = 7, remote = 12;

    for (int i = 0; i < SIZES; i++)
        lending_add(&borrowing->lending, sizes[i], BLOCKS);
    borrowing_begin(borrowing);
    for (uint32_t i = 0; i < SIZES; i++) {
        struct pieces pieces = {
            .block_bytes = sizes[i], .count = 1, .local = &local, .remote = &remote};
        struct ways ways = {0};

        ways_prepare(&ways, borrowing, i, &pieces);
        for (uint32_t s = 0; s < samples; s++)
            ways_take_turns(&ways, borrowing, &pieces, COPIES);

        struct row *rows = ways_report(bench, section, &ways, &pieces);
        for (int r = 0; r < BENCH_PATHS * BENCH_DIRECTIONS; r++)
            rows[r].what = "one block, post and wait";
        ways_release(&ways);
    }
    borrowing_end(borrowing);
    free(borrowing);
}
