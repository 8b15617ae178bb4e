/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/act.h"

#include "tool/trouble.h"

#include <lend/transfer.h>
#include <stdio.h>
#include <string.h>

enum { SEEN_PREFIX = sizeof "LEND_" - 1, CALIBRATIONS = 3 };

static const uint64_t grant_ns = 10000000000;

struct act_row *act_row_add(struct acts *acts, const char *act, const char *done,
                            const char *expected)
{
    struct act_row *row = &acts->rows[acts->row_count];

    if (acts->row_count < ACT_ROWS_MAX - 1)
        acts->row_count++;
    *row = (struct act_row){.act = act, .done = done, .expected = expected};
    return row;
}

void act_note(struct acts *acts, struct act_row *row, int32_t status, bool is_right,
              const char *reason)
{
    uint32_t i = 0;

    while (i < row->seen_count && row->seen[i].status != status)
        i++;
    if (i < ACT_SEEN_MAX) {
        row->seen_count += i == row->seen_count;
        row->seen[i].status = status;
        row->seen[i].count++;
    }
    row->repetitions++;
    if (!is_right && row->wrong++ == 0)
        (void)snprintf(row->reason, sizeof row->reason, "%s: %s", lend_status_name(status), reason);
    progress_step(&acts->progress);
}

void act_note_time(struct act_row *row, uint64_t ns)
{
    if (ns > row->slowest_ns)
        row->slowest_ns = ns;
}

void act_note_path(struct act_row *row, const char *path)
{
    uint32_t i = 0;

    while (i < row->path_count && strcmp(row->paths[i].name, path) != 0)
        i++;
    if (path[0] == '\0' || i == ACT_PATHS_MAX)
        return;
    if (i == row->path_count)
        (void)snprintf(row->paths[row->path_count++].name, sizeof row->paths[i].name, "%s", path);
    row->paths[i].count++;
}

const char *act_row_seen(const struct act_row *row, char *text, size_t capacity)
{
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < row->seen_count && used < capacity; i++) {
        const char *name = lend_status_name(row->seen[i].status) + SEEN_PREFIX;
        int count = snprintf(text + used, capacity - used, "%s%s %u", i == 0 ? "" : ", ",
                             strncmp(name, "E_", 2) == 0 ? name + 2 : name, row->seen[i].count);

        used += count > 0 ? (size_t)count : 0;
    }
    return text;
}

const char *act_row_verdict(const struct act_row *row, uint32_t iterations)
{
    if (row->wrong > 0)
        return "wrong";
    return row->repetitions < iterations ? "cut short" : "right";
}

uint32_t acts_count_wrong(const struct acts *acts)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < acts->row_count; i++)
        wrong += acts->rows[i].wrong;
    return wrong;
}

enum lend_status act_open(struct acts *acts, uint32_t leases_max, uint64_t slot_rest_ns,
                          struct lend_error *error)
{
    struct stage *stage = acts->stage;
    enum lend_status status = stage_raise(stage, error);

    if (status != LEND_OK)
        return status;
    struct order *order = stage_order(stage, ORDER_OPEN);
    order->leases_max = leases_max;
    order->slot_rest_ns = slot_rest_ns;
    order->block_count = acts->block_count;
    status = stage_ask(stage, &stage->owner, error);
    return status == LEND_OK ? stage_ask(stage, &stage->reader, error) : status;
}

enum lend_status act_lend(struct acts *acts, uint32_t block_count, uint32_t generation,
                          struct lend_error *error)
{
    struct stage *stage = acts->stage;
    struct order *order = stage_order(stage, ORDER_LEND);

    order->block_count = block_count;
    order->generation = generation;
    enum lend_status status = stage_ask(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    (void)stage_order(stage, ORDER_IMPORT);
    stage_carry(stage);
    return stage_ask(stage, &stage->reader, error);
}

enum lend_status act_grant(struct acts *acts, struct lend_error *error)
{
    struct stage *stage = acts->stage;
    enum lend_status status = stage_ask(stage, &stage->owner, error);

    if (status != LEND_OK)
        return status;
    (void)stage_order(stage, ORDER_TICKET);
    stage_carry(stage);
    return stage_ask(stage, &stage->reader, error);
}

enum lend_status act_grant_drawn(struct acts *acts, uint32_t direction, uint64_t seed,
                                 struct lend_error *error)
{
    struct order *order = stage_order(acts->stage, ORDER_GRANT);

    order->direction = direction;
    order->seed = seed;
    order->block_count = acts->block_count;
    order->time_to_live_ns = grant_ns;
    return act_grant(acts, error);
}

struct order *act_move(struct acts *acts, uint32_t direction, uint64_t seed, uint32_t generation)
{
    struct order *order = stage_order(acts->stage, ORDER_MOVE);

    order->direction = direction;
    order->seed = seed;
    order->block_count = acts->block_count;
    order->generation = generation;
    order->owner = (uint32_t)acts->stage->owner.pid;
    return order;
}

enum lend_status act_move_send(struct acts *acts, struct lend_error *error)
{
    struct stage *stage = acts->stage;
    enum lend_status status = stage_send(stage, &stage->reader, error);

    if (status == LEND_OK)
        status = stage_await(stage, &stage->reader, error);
    if (status == LEND_OK && !stage->report.is_begun)
        return trouble(error, (enum lend_status)stage->report.status, "reader: %s",
                       stage->report.text);
    return status;
}

enum lend_status act_move_end(struct acts *acts, struct lend_error *error)
{
    return stage_await(acts->stage, &acts->stage->reader, error);
}

uint64_t act_moment_ns(struct acts *acts)
{
    return dice_below(&acts->dice, acts->pull_ns + acts->pull_ns / 8 + 1);
}

enum lend_status act_calibrate(struct acts *acts, uint32_t generation, struct lend_error *error)
{
    struct report *report = &acts->stage->report;

    for (int i = 0; i < CALIBRATIONS; i++) { /* the last counts: the first finds cold pages */
        uint64_t seed = dice_roll(&acts->dice);
        enum lend_status status = act_grant_drawn(acts, LEND_READ, seed, error);

        if (status != LEND_OK)
            return status;
        (void)act_move(acts, LEND_READ, seed, generation);
        status = act_move_send(acts, error);
        if (status == LEND_OK)
            status = act_move_end(acts, error);
        if (status != LEND_OK)
            return status;
        if (report->status != LEND_OK || report->pieces_wrong != 0)
            return trouble(error,
                           report->status == LEND_OK ? LEND_E_CORRUPT
                                                     : (enum lend_status)report->status,
                           "an undisturbed pull: %s", report->text);
        acts->pull_ns = report->elapsed_ns;
    }
    return LEND_OK;
}

enum lend_status acts_run(struct acts *acts, struct lend_error *error)
{
    static enum lend_status (*const all[])(struct acts *, struct lend_error *) = {
        act_take_back,
        act_references,
        act_abort,
        act_death,
    };
    enum { ALL_REPETITIONS_AN_ITERATION = 1 + 5 + 2 + 5 };
    enum lend_status status = LEND_OK;

    uint64_t repetitions = ALL_REPETITIONS_AN_ITERATION + (acts->stage->has_hosts ? 1U : 0U);
    acts->progress = progress_start("four acts", acts->iterations * repetitions);
    for (size_t i = 0; status == LEND_OK && i < sizeof all / sizeof all[0]; i++) {
        struct lend_error ignored; /* the act's own failure says more than what follows from it */

        status = all[i](acts, error);
        enum lend_status cleared = stage_clear(acts->stage, status == LEND_OK ? error : &ignored);
        status = status == LEND_OK ? cleared : status;
    }
    progress_end(&acts->progress);
    return status;
}
