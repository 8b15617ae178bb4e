/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/actor.h"

#include "tool/trouble.h"

#include <stdio.h>
#include <unistd.h>

/* What the reader does when it is told. Each is an actor_handler. */

enum { WIPE = 0xEE };

/* The generation of what the reader writes to a buffer that it has back. */
static const uint32_t reuse_generation = PATTERN_GENERATIONS - 1;
static const uint64_t late_ns = 3000000;

static enum lend_status open_agent(struct actor *actor, struct lend_error *error)
{
    struct borrower *borrower = &actor->borrower;
    size_t count = 0;
    enum lend_status status = endpoint_create(&actor->endpoint, "reader", &borrower->agent, error);

    if (status == LEND_OK)
        status = borrower_take_paths(borrower, actor->endpoint.paths, error);
    if (status == LEND_OK)
        status = borrower_furnish(borrower, &actor->endpoint,
                                  actor_reader_blocks(actor->order.block_count), error);
    if (status == LEND_OK)
        status = lend_metadata_export(borrower->agent, actor->report.bytes_sent,
                                      sizeof actor->report.bytes_sent, &count, error);
    actor->report.byte_count = status == LEND_OK ? (uint32_t)count : 0;
    return status == LEND_OK ? actor_tell_address(actor, borrower->agent, error) : status;
}

static enum lend_status import(struct actor *actor, struct lend_error *error)
{
    struct borrower *borrower = &actor->borrower;
    struct lend_found *found = NULL;
    enum lend_status status = actor_ask(actor, borrower->agent, &found, error);
    if (status != LEND_OK)
        return status;

    uint64_t begun_ns = now_ns();
    status = found != NULL
                 ? borrower_import(borrower, found->metadata, found->metadata_bytes, error)
                 : borrower_import(borrower, actor->order.bytes, actor->order.byte_count, error);
    lend_found_release(found);
    actor->report.elapsed_ns = actor->borrower.connect_ns;
    actor->report.prepare_ns = now_ns() - begun_ns - actor->borrower.connect_ns;
    return status;
}

static enum lend_status go_ahead(struct actor *actor, struct lend_error *error)
{
    uint64_t begun_ns = now_ns();
    enum lend_status status =
        lend_peer_connect(actor->borrower.owner, actor->order.timeout_ns, error);

    actor->report.elapsed_ns = now_ns() - begun_ns;
    return status;
}

static enum lend_status take_ticket(struct actor *actor, struct lend_error *error)
{
    struct borrower *borrower = &actor->borrower;
    struct lend_found *found = NULL;
    enum lend_status status = actor_ask(actor, borrower->agent, &found, error);
    if (status != LEND_OK)
        return status;

    uint64_t begun_ns = now_ns();
    status =
        found != NULL
            ? borrower_take_ticket(borrower, found->attachment, found->attachment_bytes, error)
            : borrower_take_ticket(borrower, actor->order.bytes, actor->order.byte_count, error);
    lend_found_release(found);
    actor->report.elapsed_ns = now_ns() - begun_ns;
    return status;
}

static enum lend_status be_done(struct actor *actor, struct lend_error *error)
{
    return lend_ticket_done(actor->borrower.ticket, error);
}

/* Tell the director that the transfer is about to be posted. */
static void tell_begin(void *context)
{
    struct actor *actor = context;
    struct lend_error ignored; /* if the director is gone, the next receive says so */

    actor->report.is_begun = true;
    actor->report.at_ns = now_ns();
    (void)report_send(actor->channel, &actor->report, &ignored);
    actor->report.is_begun = false;
}

/* Check what a READ brought: all of it on success, else the leading blocks that it vouches for. */
static void check_read(struct actor *actor, const struct blocks *local,
                       const struct outcome *outcome)
{
    const struct order *order = &actor->order;
    struct mark mark = {.owner = order->owner, .generation = order->generation};
    uint64_t all = (uint64_t)actor->borrower.cache.region_count * local->count;
    uint64_t proven = outcome->record.blocks < all ? outcome->record.blocks : all;
    struct finding finding;

    cache_check(&actor->borrower.cache, local, actor->remote, &mark,
                outcome->status == LEND_OK ? all : proven, &finding);
    actor->report.bytes_right = finding.bytes;
    actor->report.pieces_wrong = finding.pieces;
    (void)snprintf(actor->report.text, sizeof actor->report.text, "%s", finding.text);
}

/* After CANCELED the buffer is ours: use it at once, and see that it stays as we left it. */
static void reuse_buffer(struct actor *actor, const struct blocks *local)
{
    const struct cache *cache = &actor->borrower.cache;
    struct mark mark = {.owner = (uint32_t)getpid(), .generation = reuse_generation};
    struct finding finding;

    cache_fill_blocks(cache, local, local->numbers, &mark);
    sleep_until_ns(now_ns() + late_ns);
    cache_check(cache, local, local->numbers, &mark, (uint64_t)cache->region_count * local->count,
                &finding);
    actor->report.late_pieces = finding.pieces;
    (void)snprintf(actor->report.text, sizeof actor->report.text, "%s", finding.text);
}

static void report_outcome(struct report *report, const struct outcome *outcome)
{
    report->is_refused = outcome->is_refused;
    report->at_ns = outcome->begun_ns;
    report->elapsed_ns = outcome->elapsed_ns;
    report->quiet_ns = outcome->quiet_ns;
    report->post_ns = outcome->record.post_ns;
    report->wire_ns = outcome->record.wire_ns;
    report->bytes = outcome->record.bytes;
    (void)snprintf(report->path, sizeof report->path, "%s", outcome->record.path);
}

static enum lend_status move_blocks(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;
    const struct cache *cache = &actor->borrower.cache;
    struct outcome outcome;
    enum lend_status status =
        actor_draw(actor, actor->borrower.owner_block_count, cache->block_count, error);
    if (status != LEND_OK)
        return status;

    struct blocks local = {actor->local, order->block_count};
    struct mark sent = {.owner = (uint32_t)getpid(), .generation = order->generation};
    if (order->bad_block >= 0)
        actor->remote[order->seed % order->block_count] = order->bad_block;
    if (order->direction == LEND_READ)
        cache_set(cache, &local, WIPE);
    else
        cache_fill_blocks(cache, &local, actor->remote, &sent);

    struct move move = {
        .direction = order->direction,
        .is_canceled = order->is_canceled,
        .cancel_after_ns = order->delay_ns,
        .timeout_ns = order->timeout_ns,
        .local = actor->local,
        .remote = actor->remote,
        .count = order->block_count,
        .notification = order->is_notified ? "pulled" : NULL,
        .on_begin = tell_begin,
        .context = actor,
    };
    borrower_move(&actor->borrower, &move, &outcome);
    if (outcome.status == LEND_E_CANCELED && order->is_canceled)
        reuse_buffer(actor, &local);
    else if (order->direction == LEND_READ)
        check_read(actor, &local, &outcome);
    report_outcome(&actor->report, &outcome);
    if (outcome.status == LEND_OK)
        return LEND_OK;
    return trouble(error, (enum lend_status)outcome.status, "%s", outcome.text);
}

actor_handler reader_handler(uint32_t verb)
{
    static const actor_handler handlers[] = {
        [ORDER_OPEN] = open_agent,    [ORDER_IMPORT] = import,    [ORDER_CONNECT] = go_ahead,
        [ORDER_TICKET] = take_ticket, [ORDER_MOVE] = move_blocks, [ORDER_DONE] = be_done,
    };

    return verb < sizeof handlers / sizeof handlers[0] ? handlers[verb] : NULL;
}
