/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/output.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Many scattered blocks at once, by each path, in blocks of several sizes. */

static const char section[] = "bandwidth";

enum { COLD_ROUNDS_MAX = 5, SERVED = 0, MAPPED = 1, CROSS = 2 };

static const uint64_t sizes[] = {512, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* --- cold: the first read over a new mapping --- */

struct cold {
    struct way way;
    struct samples copies;
};

/* A copy out of a mapping that has not been touched. */
static double copy_cold(const struct borrowing *borrowing, const struct pieces *pieces)
{
    const unsigned char *fresh = borrowing_map(borrowing);
    double took = raw_copy_in(pieces, borrowing->memory, fresh, 1);

    (void)munmap((void *)(uintptr_t)fresh, borrowing->lending.bytes);
    return took;
}

static void measure_cold(struct cold *cold, struct borrowing *borrowing, uint32_t layout,
                         const struct pieces *pieces, uint32_t rounds)
{
    struct way *way = &cold->way;

    for (uint32_t i = 0; i < rounds && i < COLD_ROUNDS_MAX; i++) {
        borrowing_meet_again(borrowing);
        struct lend_transfer *transfer =
            borrowing_prepare(borrowing, layout, LEND_READ, bench_paths[MAPPED], &way->why);
        if (transfer == NULL)
            return;

        double took = borrowing_move(borrowing, transfer, pieces, NULL);
        if (i == 0)
            way->verified_bytes = borrowing_verify(borrowing, transfer, LEND_READ, pieces,
                                                   bench_paths[MAPPED], &way->why);
        (void)lend_transfer_release(transfer); /* complete, so not busy */
        if (way->verified_bytes == 0)
            return;
        samples_add(&way->samples, took);
        samples_add(&cold->copies, copy_cold(borrowing, pieces));
    }
}

static void report_cold(struct bench *bench, struct cold *cold, const struct pieces *pieces)
{
    struct row *row = way_report(bench, section, &cold->way, bench_paths[MAPPED], pieces);

    row->what = "scattered blocks, first";
    row->direction = "read";
    row->measure = MEASURE_RATE;
    row_beside(row, "memcpy, first", &cold->copies, 1);
}

/* --- warm --- */

static struct goal goal_of(const struct row *row)
{
    bool is_read = strcmp(row->direction, "read") == 0;

    if (strcmp(row->path, bench_paths[SERVED]) == 0 && row->block_bytes == 65536)
        return (struct goal){.kind = GOAL_SHARE, .limit = 0.45};
    if (strcmp(row->path, bench_paths[SERVED]) == 0 && row->block_bytes == 4096)
        return (struct goal){.kind = GOAL_SHARE, .limit = 0.3};
    if (strcmp(row->path, bench_paths[MAPPED]) == 0 && is_read)
        return (struct goal){.kind = GOAL_SHARE, .limit = 0.9};
    if (strcmp(row->path, bench_paths[CROSS]) == 0 && is_read)
        return (struct goal){.kind = GOAL_TIMES, .limit = 1.2, .beside = 1};
    return (struct goal){.kind = GOAL_NONE};
}

static void measure_size(struct bench *bench, struct borrowing *borrowing, uint32_t layout,
                         struct progress *progress)
{
    const struct layout *which = &borrowing->lending.layouts[layout];
    struct ways ways = {0};
    struct cold cold = {0};
    struct pieces pieces;

    pieces_scatter(&pieces, which->block_bytes, which->block_count);
    measure_cold(&cold, borrowing, layout, &pieces, bench->rounds);
    ways_prepare(&ways, borrowing, layout, &pieces);
    for (uint32_t i = 0; i < bench->rounds; i++) {
        ways_take_turns(&ways, borrowing, &pieces, 1);
        progress_step(progress);
    }

    struct row *rows = ways_report(bench, section, &ways, &pieces);
    for (int i = 0; i < BENCH_PATHS * BENCH_DIRECTIONS; i++) {
        rows[i].what = "scattered blocks";
        rows[i].measure = MEASURE_RATE;
        rows[i].goal = goal_of(&rows[i]);
    }
    report_cold(bench, &cold, &pieces);
    ways_release(&ways);
    pieces_free(&pieces);
}

void bench_bandwidth(struct bench *bench)
{
    struct borrowing *borrowing = must_allocate(1, sizeof *borrowing);
    struct progress progress = progress_start(section, (SIZES + UINT64_C(1)) * bench->rounds);

    for (int i = 0; i < SIZES; i++)
        lending_add(&borrowing->lending, sizes[i],
                    bench->bytes < sizes[i] ? 1 : bench->bytes / sizes[i]);
    if (bench->bytes > sizes[SIZES - 1])
        lending_add(&borrowing->lending, bench->bytes, 1); /* all in one block */
    borrowing_begin(borrowing);
    for (uint32_t i = 0; i < borrowing->lending.layout_count; i++)
        measure_size(bench, borrowing, i, &progress);
    progress_end(&progress);
    borrowing_end(borrowing);
    free(borrowing);
}
