/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/act.h"

#include <lend/transfer.h>

/*
 * Act 3: the reader cancels in mid-transfer and uses its buffer at once for something else. After
 * CANCELED nothing lands any more: for a READ the reader looks at its own buffer, for a WRITE the
 * owner looks at its cache, where only what it lent may have changed, and only to what the reader
 * had meant to send.
 */

enum { GENERATION = 1, WRITE_GENERATION = 100 };

static const uint64_t late_ns = 3000000;

static bool is_expected(const struct report *report)
{
    return (report->status == LEND_OK || report->status == LEND_E_CANCELED) &&
           report->pieces_wrong == 0 && report->late_pieces == 0;
}

/* Cancel one transfer; the stage's report says what came of it. */
static enum lend_status cancel_once(struct acts *acts, struct act_row *row, uint32_t direction,
                                    uint64_t seed, struct lend_error *error)
{
    enum lend_status status = act_grant_drawn(acts, direction, seed, error);

    if (status != LEND_OK)
        return status;
    struct order *order =
        act_move(acts, direction, seed, direction == LEND_READ ? GENERATION : WRITE_GENERATION);
    order->is_canceled = true;
    order->delay_ns = act_moment_ns(acts);
    status = act_move_send(acts, error);
    if (status == LEND_OK)
        status = act_move_end(acts, error);
    if (status == LEND_OK) {
        act_note_time(row, acts->stage->report.quiet_ns);
        act_note_path(row, acts->stage->report.path);
    }
    return status;
}

static enum lend_status abort_read(struct acts *acts, struct act_row *row, struct lend_error *error)
{
    const struct report *report = &acts->stage->report;
    enum lend_status status = cancel_once(acts, row, LEND_READ, dice_roll(&acts->dice), error);

    if (status == LEND_OK)
        act_note(acts, row, report->status, is_expected(report), report->text);
    return status;
}

static enum lend_status abort_write(struct acts *acts, struct act_row *row,
                                    struct lend_error *error)
{
    struct stage *stage = acts->stage;
    uint64_t seed = dice_roll(&acts->dice);
    enum lend_status status = cancel_once(acts, row, LEND_WRITE, seed, error);
    if (status != LEND_OK)
        return status;

    const struct report moved = stage->report;
    struct order *order = stage_order(stage, ORDER_LOOK);
    order->seed = seed;
    order->block_count = acts->block_count;
    order->owner = (uint32_t)stage->reader.pid;
    order->generation = WRITE_GENERATION;
    order->is_written = moved.status == LEND_OK;
    order->delay_ns = late_ns;
    status = stage_ask(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    const char *reason = stage->report.pieces_wrong != 0  ? "foreign bytes in the owner's cache"
                         : stage->report.late_pieces != 0 ? "the owner's cache changed afterwards"
                         : !is_expected(&moved)           ? moved.text
                                                          : NULL;
    act_note(acts, row, moved.status, reason == NULL, reason != NULL ? reason : "");

    order = stage_order(stage, ORDER_REVOKE); /* and make the cache whole again */
    order->seed = seed;
    order->block_count = acts->block_count;
    order->generation = GENERATION;
    order->is_rewriting = true;
    return stage_ask(stage, &stage->owner, error);
}

enum lend_status act_abort(struct acts *acts, struct lend_error *error)
{
    static const char expected[] = "CANCELED and quiet; OK only if it was complete";
    struct act_row *read =
        act_row_add(acts, "3 abort", "cancel a READ in mid-transfer, reuse the buffer", expected);
    struct act_row *write =
        act_row_add(acts, "3 abort", "cancel a WRITE in mid-transfer, reuse the buffer", expected);
    enum lend_status status = act_open(acts, 0, 0, error);

    if (status == LEND_OK)
        status = act_lend(acts, 2 * acts->block_count, GENERATION, error);
    if (status == LEND_OK)
        status = act_calibrate(acts, GENERATION, error);
    for (uint32_t i = 0; status == LEND_OK && i < acts->iterations; i++) {
        status = abort_read(acts, read, error);
        if (status == LEND_OK)
            status = abort_write(acts, write, error);
    }
    return status;
}
