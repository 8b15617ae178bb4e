/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include <stdio.h>

/* The same pieces by every path, both ways, beside raw means: in turns. */

static const uint32_t directions[BENCH_DIRECTIONS] = {LEND_READ, LEND_WRITE};
static const char *const words[BENCH_DIRECTIONS] = {"read", "write"};
static const char *const crossings[BENCH_DIRECTIONS] = {"process_vm_readv", "process_vm_writev"};

void ways_prepare(struct ways *ways, struct borrowing *borrowing, uint32_t layout,
                  const struct pieces *pieces)
{
    for (int p = 0; p < BENCH_PATHS; p++) {
        for (int d = 0; d < BENCH_DIRECTIONS; d++) {
            struct way *way = &ways->ways[p][d];

            way->transfer =
                borrowing_prepare(borrowing, layout, directions[d], bench_paths[p], &way->why);
            if (way->transfer == NULL)
                continue;
            way->verified_bytes = borrowing_verify(borrowing, way->transfer, directions[d], pieces,
                                                   bench_paths[p], &way->why);
            if (way->verified_bytes > 0)
                continue;
            (void)lend_transfer_release(way->transfer); /* complete, so not busy */
            way->transfer = NULL;
        }
    }
}

/* What is read is written back, so that the owner's bytes stay as they are. */
void ways_take_turns(struct ways *ways, struct borrowing *borrowing, const struct pieces *pieces,
                     uint32_t copies)
{
    for (int d = 0; d < BENCH_DIRECTIONS; d++) {
        samples_add(&ways->copies[d],
                    directions[d] == LEND_READ
                        ? raw_copy_in(pieces, borrowing->memory, borrowing->seen, copies)
                        : raw_copy_out(pieces, borrowing->scratch, borrowing->memory, copies));
        for (int p = 0; p < BENCH_PATHS; p++) {
            struct way *way = &ways->ways[p][d];

            if (way->transfer != NULL)
                samples_add(&way->samples, borrowing_move(borrowing, way->transfer, pieces, NULL));
        }
        raw_cross(&ways->crossings[d], borrowing, directions[d], pieces);
    }
}

struct row *way_report(struct bench *bench, const char *section, struct way *way, const char *path,
                       const struct pieces *pieces)
{
    struct row *row = report_row(bench, section, "");

    (void)snprintf(row->path, sizeof row->path, "%s", path);
    row->block_bytes = pieces->block_bytes;
    row->block_count = pieces->count;
    row->why = way->why;
    row->verified_bytes = way->verified_bytes;
    row->figure = samples_take(&way->samples, 1);
    return row;
}

struct row *ways_report(struct bench *bench, const char *section, struct ways *ways,
                        const struct pieces *pieces)
{
    struct row *all = NULL;

    for (int d = 0; d < BENCH_DIRECTIONS; d++) {
        struct row *first = NULL;

        for (int p = 0; p < BENCH_PATHS; p++) {
            struct row *row = way_report(bench, section, &ways->ways[p][d], bench_paths[p], pieces);

            row->direction = words[d];
            if (first != NULL) {
                row_share_besides(row, first);
                continue;
            }
            first = row;
            row_beside(row, "memcpy", &ways->copies[d], 1);
            row_beside(row, crossings[d], &ways->crossings[d], 1);
        }
        all = all == NULL ? first : all;
    }
    return all;
}

void ways_release(struct ways *ways)
{
    for (int p = 0; p < BENCH_PATHS; p++)
        for (int d = 0; d < BENCH_DIRECTIONS; d++)
            (void)lend_transfer_release(ways->ways[p][d].transfer); /* complete, or NULL */
}
