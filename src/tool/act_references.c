/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/act.h"

#include "tool/trouble.h"

#include <lend/transfer.h>
#include <stdio.h>

/*
 * Act 2: five bad references, each with an answer of its own. vLLM, say, keeps block ids of a
 * request whose blocks were given to another one meanwhile: here that is an error, and says which.
 */

enum { LEASES_MAX = 4, GENERATION = 1 };

static const uint64_t slot_rest_ns = 1000000;
static const uint64_t ample_ns = 10000000000;

/* Note what the reader's last report says, beside what it must say. */
static void note(struct acts *acts, struct act_row *row, int32_t expected)
{
    const struct report *report = &acts->stage->report;

    act_note(acts, row, report->status, report->status == expected && report->pieces_wrong == 0,
             report->text);
    act_note_time(row, report->elapsed_ns);
    act_note_path(row, report->path);
}

/* Begin a grant of the first blocks, half of what there is. */
static struct order *offer_half(struct acts *acts)
{
    struct order *order = stage_order(acts->stage, ORDER_GRANT);

    order->direction = LEND_READ;
    order->has_range = true;
    order->block_count = acts->block_count;
    order->time_to_live_ns = ample_ns;
    return order;
}

/* Pull blocks that may not all exist, and wait for what comes of it. */
static enum lend_status pull(struct acts *acts, int32_t bad_block, struct lend_error *error)
{
    struct order *order = act_move(acts, LEND_READ, dice_roll(&acts->dice), GENERATION);

    order->bad_block = bad_block;
    enum lend_status status = act_move_send(acts, error);
    return status == LEND_OK ? act_move_end(acts, error) : status;
}

static enum lend_status refer_unknown(struct acts *acts, struct act_row *row,
                                      struct lend_error *error)
{
    struct stage *stage = acts->stage;
    bool is_stray = dice_below(&acts->dice, 2) == 0;
    enum lend_status status = LEND_OK;

    if (is_stray) {
        (void)stage_order(stage, ORDER_STRAY);
        status = stage_ask(stage, &stage->owner, error);
    } else {
        (void)offer_half(acts);
        status = stage_ask(stage, &stage->owner, error);
    }
    if (status != LEND_OK)
        return status;

    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    uint32_t ticket_bytes = stage->report.byte_count;
    if (ticket_bytes > sizeof ticket)
        return trouble(error, LEND_E_LIMIT, "a ticket of %u bytes", ticket_bytes);
    for (uint32_t i = 0; i < ticket_bytes; i++)
        ticket[i] = stage->report.bytes_sent[i];

    if (!is_stray) {
        struct order *order = stage_order(stage, ORDER_RESTART);
        order->block_count = 2 * acts->block_count;
        order->generation = GENERATION;
        status = stage_ask(stage, &stage->owner, error);
        if (status != LEND_OK)
            return status;
        (void)stage_order(stage, ORDER_IMPORT);
        stage_carry(stage);
        status = stage_ask(stage, &stage->reader, error);
        if (status != LEND_OK)
            return status;
    }

    struct order *order = stage_order(stage, ORDER_TICKET);
    order->byte_count = ticket_bytes;
    for (uint32_t i = 0; i < ticket_bytes; i++)
        order->bytes[i] = ticket[i];
    status = stage_send(stage, &stage->reader, error);
    if (status == LEND_OK)
        status = stage_await(stage, &stage->reader, error);
    if (status == LEND_OK)
        note(acts, row, LEND_E_UNKNOWN);
    return status;
}

static enum lend_status refer_out_of_range(struct acts *acts, struct act_row *row,
                                           struct lend_error *error)
{
    uint32_t there = 2 * acts->block_count; /* blocks of the region: half of them lent */
    bool is_in_region = dice_below(&acts->dice, 2) == 0;
    uint32_t bad = is_in_region
                       ? acts->block_count + (uint32_t)dice_below(&acts->dice, acts->block_count)
                       : there + (uint32_t)dice_below(&acts->dice, INT32_MAX - there);

    (void)offer_half(acts);
    enum lend_status status = act_grant(acts, error);
    if (status == LEND_OK)
        status = pull(acts, (int32_t)bad, error);
    if (status == LEND_OK)
        note(acts, row, LEND_E_OUT_OF_RANGE);
    return status;
}

static enum lend_status refer_consumed(struct acts *acts, struct act_row *row,
                                       struct lend_error *error)
{
    struct stage *stage = acts->stage;
    struct order *order = offer_half(acts);

    order->block_count = 0; /* all */
    order->consumer_count = 1;
    enum lend_status status = act_grant(acts, error);
    if (status == LEND_OK)
        status = pull(acts, -1, error);
    if (status != LEND_OK)
        return status;
    if (stage->report.status != LEND_OK) { /* the first pull is a good one */
        note(acts, row, LEND_OK);
        return LEND_OK;
    }
    (void)stage_order(stage, ORDER_DONE);
    status = stage_ask(stage, &stage->reader, error);
    if (status == LEND_OK)
        status = pull(acts, -1, error);
    if (status == LEND_OK)
        note(acts, row, LEND_E_CONSUMED);
    return status;
}

static enum lend_status refer_stale(struct acts *acts, struct act_row *row,
                                    struct lend_error *error)
{
    struct stage *stage = acts->stage;
    struct order *order = offer_half(acts);

    order->block_count = 0;
    enum lend_status status = act_grant(acts, error);
    if (status != LEND_OK)
        return status;
    (void)stage_order(stage, ORDER_REUSE);
    status = stage_ask(stage, &stage->owner, error);
    if (status == LEND_OK)
        status = pull(acts, -1, error);
    if (status == LEND_OK)
        note(acts, row, LEND_E_STALE);
    return status;
}

static enum lend_status refer_expired(struct acts *acts, struct act_row *row,
                                      struct lend_error *error)
{
    struct order *order = offer_half(acts);
    uint64_t time_to_live_ns = 1 + dice_below(&acts->dice, 5000000);

    order->block_count = 0;
    order->time_to_live_ns = time_to_live_ns;
    enum lend_status status = act_grant(acts, error);
    if (status != LEND_OK)
        return status;
    sleep_until_ns(now_ns() + time_to_live_ns);
    status = pull(acts, -1, error);
    if (status == LEND_OK)
        note(acts, row, LEND_E_EXPIRED);
    return status;
}

enum lend_status act_references(struct acts *acts, struct lend_error *error)
{
    static const struct {
        const char *done;
        const char *expected;
        enum lend_status (*refer)(struct acts *, struct act_row *, struct lend_error *);
    } cases[] = {
        {"ticket of another agent, or of the incarnation before", "UNKNOWN", refer_unknown},
        {"block beyond the lease, or beyond the region", "OUT_OF_RANGE", refer_out_of_range},
        {"lease whose one consumer is done", "CONSUMED", refer_consumed},
        {"lease whose slot serves another by now", "STALE", refer_stale},
        {"lease whose time is over", "EXPIRED", refer_expired},
    };
    enum lend_status status = act_open(acts, LEASES_MAX, slot_rest_ns, error);

    if (status == LEND_OK)
        status = act_lend(acts, 2 * acts->block_count, GENERATION, error);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct act_row *row =
            act_row_add(acts, "2 bad reference", cases[i].done, cases[i].expected);

        for (uint32_t k = 0; status == LEND_OK && k < acts->iterations; k++)
            status = cases[i].refer(acts, row, error);
    }
    return status;
}
