/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

/* Planning and posting: the time inside lend_transfer_post(). */

static const char section[] = "post";

enum { BLOCK_BYTES = 64, BLOCKS_MAX = 65536, POSTS_MAX = 256, POSTS_MAX_QUICK = 8 };

static const uint64_t counts[] = {1, 64, 4096, 65536};
enum { COUNTS = sizeof counts / sizeof *counts };

/* Write down where each piece is, on both sides: what the vectored system calls have one do. */
static double list_pieces(const struct pieces *pieces, struct iovec *local, struct iovec *remote)
{
    char *base = (char *)local;
    uint64_t began = now_ns();

    for (uint64_t i = 0; i < pieces->count; i++) {
        local[i] = (struct iovec){base + pieces->local[i] * BLOCK_BYTES, BLOCK_BYTES};
        remote[i] = (struct iovec){base + pieces->remote[i] * BLOCK_BYTES, BLOCK_BYTES};
    }
    __asm__ volatile("" : : "r"(local), "r"(remote) : "memory");
    return (double)(now_ns() - began);
}

struct posting {
    struct borrowing *borrowing;
    struct lend_transfer *transfer;
    struct iovec *local;
    struct iovec *remote;
    uint64_t verified_bytes;
};

static void measure(struct bench *bench, const struct posting *posting, struct pieces *pieces,
                    const char *what)
{
    uint64_t most = bench->is_quick ? POSTS_MAX_QUICK : POSTS_MAX;
    uint64_t posts = BLOCKS_MAX / pieces->count < most ? BLOCKS_MAX / pieces->count : most;
    struct samples ours = {0}, raw = {0};

    (void)borrowing_move(posting->borrowing, posting->transfer, pieces, NULL);
    for (uint64_t i = 0; i < bench->rounds * posts; i++) {
        double post_ns = 0;

        (void)borrowing_move(posting->borrowing, posting->transfer, pieces, &post_ns);
        samples_add(&ours, post_ns);
        samples_add(&raw, list_pieces(pieces, posting->local, posting->remote));
    }
    struct row *row = report_row(bench, section, what);
    row->direction = "read";
    row->block_bytes = BLOCK_BYTES;
    row->block_count = pieces->count;
    (void)snprintf(row->path, sizeof row->path, "%s", bench_paths[0]);
    row->measure = MEASURE_PER_BLOCK;
    row->verified_bytes = posting->verified_bytes;
    row->figure = samples_take(&ours, (double)pieces->count);
    row_beside(row, "listing the pieces in two iovecs", &raw, (double)pieces->count);
}

static void measure_shape(struct bench *bench, const struct posting *posting, bool is_scattered)
{
    for (int i = 0; i < COUNTS; i++) {
        struct pieces pieces;

        if (is_scattered)
            pieces_scatter(&pieces, BLOCK_BYTES, counts[i]);
        else
            pieces_line_up(&pieces, BLOCK_BYTES, counts[i]);
        measure(bench, posting, &pieces, is_scattered ? "post, scattered" : "post, in a run");
        pieces_free(&pieces);
        if (counts[i] >= 4096) /* with fewer, what a post costs at all counts for more */
            bench->report.rows[bench->report.count - 1].goal =
                (struct goal){.kind = GOAL_TIME, .limit = is_scattered ? 50 : 10};
    }
}

void bench_post(struct bench *bench)
{
    struct borrowing *borrowing = must_allocate(1, sizeof *borrowing);
    struct posting posting = {.borrowing = borrowing};
    struct pieces all;
    struct lend_error why;

    lending_add(&borrowing->lending, BLOCK_BYTES, BLOCKS_MAX);
    borrowing_begin(borrowing);
    posting.transfer = borrowing_prepare(borrowing, 0, LEND_READ, bench_paths[0], &why);
    must(posting.transfer == NULL ? LEND_E_NO_PATH : LEND_OK, &why);
    posting.local = must_allocate(BLOCKS_MAX, sizeof *posting.local);
    posting.remote = must_allocate(BLOCKS_MAX, sizeof *posting.remote);
    pieces_scatter(&all, BLOCK_BYTES, BLOCKS_MAX);
    posting.verified_bytes =
        borrowing_verify(borrowing, posting.transfer, LEND_READ, &all, bench_paths[0], &why);
    (void)list_pieces(&all, posting.local, posting.remote); /* once, so that its pages are there */
    pieces_free(&all);
    must(posting.verified_bytes == 0 ? LEND_E_NO_PATH : LEND_OK, &why);
    measure_shape(bench, &posting, true);
    measure_shape(bench, &posting, false);
    must(lend_transfer_release(posting.transfer), &why);
    borrowing_end(borrowing);
    free(posting.local);
    free(posting.remote);
    free(borrowing);
}
