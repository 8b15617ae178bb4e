/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/act.h"

#include <lend/transfer.h>

/*
 * Act 1: the owner takes the memory back while a peer reads it. At a random moment of the read it
 * revokes the lease and at once rewrites the blocks; then it withdraws the regions, poisons the
 * memory and unmaps it. The reader may have been faster, and then it has only right bytes;
 * otherwise it is told.
 */

static enum lend_status take_back_once(struct acts *acts, struct act_row *row, uint32_t generation,
                                       struct lend_error *error)
{
    struct stage *stage = acts->stage;
    uint64_t seed = dice_roll(&acts->dice);
    enum lend_status status = act_grant_drawn(acts, LEND_READ, seed, error);

    if (status == LEND_OK) {
        (void)act_move(acts, LEND_READ, seed, generation);
        status = act_move_send(acts, error);
    }
    if (status != LEND_OK)
        return status;

    struct order *order = stage_order(stage, ORDER_REVOKE);
    order->seed = seed;
    order->block_count = acts->block_count;
    order->generation = generation + 1;
    order->is_rewriting = true;
    order->delay_ns = act_moment_ns(acts);
    status = stage_ask(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    act_note_time(row, stage->report.elapsed_ns);

    (void)stage_order(stage, ORDER_RECLAIM);
    status = stage_ask(stage, &stage->owner, error);
    if (status == LEND_OK)
        status = act_move_end(acts, error);
    if (status != LEND_OK)
        return status;

    const struct report *report = &stage->report;
    bool is_right = report->pieces_wrong == 0 &&
                    (report->status == LEND_OK || report->status == LEND_E_REVOKED ||
                     report->status == LEND_E_STALE);
    act_note(acts, row, report->status, is_right, report->text);
    act_note_path(row, report->path);
    return LEND_OK;
}

enum lend_status act_take_back(struct acts *acts, struct lend_error *error)
{
    struct act_row *row = act_row_add(acts, "1 take back while reading",
                                      "revoke in mid-read, rewrite; withdraw, poison, unmap",
                                      "REVOKED or STALE; OK only with right bytes");
    uint32_t generation = 1;
    enum lend_status status = act_open(acts, 0, 0, error);

    if (status == LEND_OK)
        status = act_lend(acts, 2 * acts->block_count, generation, error);
    if (status == LEND_OK)
        status = act_calibrate(acts, generation, error);
    for (uint32_t i = 0; status == LEND_OK && i < acts->iterations; i++) {
        if (i > 0) {
            generation += 2;
            status = act_lend(acts, 2 * acts->block_count, generation, error);
        }
        if (status == LEND_OK)
            status = take_back_once(acts, row, generation, error);
    }
    return status;
}
