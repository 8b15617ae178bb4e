/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/demo.h"

#include "tool/trouble.h"

#include <lend/transfer.h>
#include <stdio.h>
#include <stdlib.h>

enum { GENERATION = 1 };

static const uint64_t lease_ns = 60000000000;

/* What each round took; the first is cold. */
struct rounds {
    int64_t post_ns[DEMO_ROUNDS];
    int64_t pull_ns[DEMO_ROUNDS];
    int64_t copy_ns[DEMO_ROUNDS];
    int64_t notify_ns[DEMO_ROUNDS];
};

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

/* The median of the warm rounds; sorts them. */
static int64_t median_warm(int64_t *times)
{
    enum { WARM = DEMO_ROUNDS - 1 };

    qsort(times + 1, WARM, sizeof *times, compare);
    return (times[1 + (WARM - 1) / 2] + times[1 + WARM / 2]) / 2;
}

static enum lend_status open_both(struct stage *stage, struct job *job, struct lend_error *error)
{
    enum lend_status status = stage_raise(stage, error);

    if (status != LEND_OK)
        return status;
    stage_order(stage, ORDER_OPEN)->block_count = job->block_count;
    status = stage_ask(stage, &stage->owner, error);
    return status == LEND_OK ? stage_ask(stage, &stage->reader, error) : status;
}

/* The owner lends and grants; the reader imports both, prepares and connects. */
static enum lend_status introduce(struct stage *stage, uint64_t seed, struct job *job,
                                  struct lend_error *error)
{
    struct order *order = stage_order(stage, ORDER_LEND);
    order->block_count = job->owner_block_count;
    order->generation = GENERATION;
    enum lend_status status = stage_ask(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    job->register_ns = stage->report.elapsed_ns;
    job->metadata_bytes = stage->report.byte_count;
    (void)snprintf(job->device, sizeof job->device, "%s", stage->report.device);

    (void)stage_order(stage, ORDER_IMPORT);
    stage_carry(stage);
    status = stage_ask(stage, &stage->reader, error);
    if (status != LEND_OK)
        return status;
    job->prepare_ns = stage->report.prepare_ns;
    job->connect_ns = stage->report.elapsed_ns; /* 0, but with paths to insist on */

    order = stage_order(stage, ORDER_GRANT);
    order->direction = LEND_READ;
    order->seed = seed;
    order->block_count = job->block_count;
    order->time_to_live_ns = lease_ns;
    status = stage_ask(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    job->ticket_bytes = stage->report.byte_count;

    (void)stage_order(stage, ORDER_TICKET);
    stage_carry(stage);
    status = stage_ask(stage, &stage->reader, error);
    if (status != LEND_OK)
        return status;
    (void)stage_order(stage, ORDER_CONNECT);
    status = stage_ask(stage, &stage->reader, error);
    job->connect_ns += stage->report.elapsed_ns;
    return status;
}

/* Order the pull while the owner waits for its notification, and see it end. */
static enum lend_status pull(struct stage *stage, uint64_t seed, struct job *job,
                             struct lend_error *error)
{
    (void)stage_order(stage, ORDER_RECEIVE);
    enum lend_status status = stage_send(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;

    struct order *order = stage_order(stage, ORDER_MOVE);
    order->direction = LEND_READ;
    order->seed = seed;
    order->block_count = job->block_count;
    order->generation = GENERATION;
    order->owner = (uint32_t)stage->owner.pid;
    order->is_notified = true;
    status = stage_send(stage, &stage->reader, error);
    if (status == LEND_OK)
        status = stage_await(stage, &stage->reader, error);
    if (status == LEND_OK && stage->report.is_begun)
        status = stage_await(stage, &stage->reader, error);
    if (status == LEND_OK && stage->report.status != LEND_OK)
        return trouble(error, (enum lend_status)stage->report.status, "the pull: %s",
                       stage->report.text);
    return status;
}

static enum lend_status run_round(struct stage *stage, uint64_t seed, struct job *job,
                                  struct rounds *rounds, int round, struct lend_error *error)
{
    const struct report *report = &stage->report;
    enum lend_status status = pull(stage, seed, job, error);
    if (status != LEND_OK)
        return status;

    uint64_t complete_ns = report->at_ns + report->wire_ns;
    rounds->post_ns[round] = (int64_t)report->post_ns;
    rounds->pull_ns[round] = (int64_t)report->elapsed_ns;
    job->bytes_right += report->bytes_right;
    job->pieces_wrong += report->pieces_wrong;
    (void)snprintf(job->path, sizeof job->path, "%s", report->path);
    if (report->pieces_wrong != 0)
        return trouble(error, LEND_E_CORRUPT, "%s", report->text);

    status = stage_await(stage, &stage->owner, error); /* the notification */
    if (status == LEND_OK && report->status != LEND_OK)
        return trouble(error, (enum lend_status)report->status, "the notification: %s",
                       report->text);
    if (status != LEND_OK)
        return status;
    rounds->notify_ns[round] = (int64_t)(report->at_ns - complete_ns);

    struct order *order = stage_order(stage, ORDER_COPY);
    order->seed = seed;
    order->block_count = job->block_count;
    status = stage_ask(stage, &stage->owner, error);
    rounds->copy_ns[round] = (int64_t)report->elapsed_ns;
    return status;
}

enum lend_status job_run(struct stage *stage, uint64_t seed, struct job *job,
                         struct lend_error *error)
{
    struct rounds rounds = {0};
    struct lend_error ignored; /* the job's own failure says more than what follows from it */
    enum lend_status status = open_both(stage, job, error);

    if (status == LEND_OK)
        status = introduce(stage, seed, job, error);
    for (int i = 0; status == LEND_OK && i < DEMO_ROUNDS; i++)
        status = run_round(stage, seed, job, &rounds, i, error);
    if (status == LEND_OK) {
        (void)stage_order(stage, ORDER_RECLAIM);
        status = stage_ask(stage, &stage->owner, error);
    }

    job->cold_pull_ns = (uint64_t)rounds.pull_ns[0];
    job->cold_copy_ns = (uint64_t)rounds.copy_ns[0];
    job->post_ns = (uint64_t)median_warm(rounds.post_ns);
    job->pull_ns = (uint64_t)median_warm(rounds.pull_ns);
    job->copy_ns = (uint64_t)median_warm(rounds.copy_ns);
    job->notify_ns = median_warm(rounds.notify_ns);
    enum lend_status cleared = stage_clear(stage, status == LEND_OK ? error : &ignored);
    return status == LEND_OK ? cleared : status;
}
