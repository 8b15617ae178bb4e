/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Move so many pieces, so many times, by a rail whose NIC does nothing: it says at once that it has
 * done what it was told. Print the median time of a piece in nanoseconds. works_cost.py counts the
 * instructions of the same.
 *
 *     works strided|free read|write PIECES TIMES
 *
 * strided: pages of one region, with a gap between each two, at both ends. free: pages that have
 * nothing in common, in an order that is none, each an extent of its own.
 */
#include "core/agent.h"
#include "core/session.h"
#include "fake/verbs.h"
#include "samples.h"
#include "transport/verbs/verbs.h"
#include "works.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, WORDS = 512, GENERATION = 7 };

static _Alignas(PAGE) uint64_t words[WORDS];

/* --- a NIC that does nothing --- */

static struct {
    uint64_t done[LEND_VERBS_BATCHES]; /* batches that it was given */
    uint32_t count;
} nic;

static int take_work(struct lend_verbs_qp *qp, struct lend_verbs_send *list,
                     struct lend_verbs_send **out_bad)
{
    (void)qp;
    (void)out_bad;
    nic.done[nic.count++] = list->wr_id;
    return 0;
}

static int tell_work(struct lend_verbs_cq *cq, int capacity, struct lend_verbs_completion *out)
{
    int count = 0;

    (void)cq;
    for (; count < capacity && (uint32_t)count < nic.count; count++) {
        out[count].wr_id = nic.done[count];
        out[count].status = LEND_VERBS_WC_SUCCESS;
    }
    nic.count = 0;
    return count;
}

/* --- two ends --- */

struct end {
    void *station;
    struct lend_session session;
    struct lend_rail *rail;
    uint8_t *memory;
};

static void check(bool is_well, const char *what)
{
    if (is_well)
        return;
    fprintf(stderr, "works: %s\n", what);
    exit(1);
}

static void open_end(struct end *end, struct lend_agent *agent, const char *device, size_t bytes)
{
    const struct lend_transport_open open = {
        .agent = agent, .words = words, .words_bytes = sizeof words, .verbs_devices = device};

    end->memory = aligned_alloc(PAGE, bytes);
    check(end->memory != NULL, "no memory");
    const struct lend_exposure exposure = {.region_id = 1,
                                           .address = (uintptr_t)end->memory,
                                           .length_bytes = bytes,
                                           .life = 1,
                                           .access = LEND_ACCESS_READ | LEND_ACCESS_WRITE};
    check(lend_transport_verbs.open(&open, &end->station, NULL) == LEND_OK, "no station");
    check(lend_transport_verbs.rail->expose(end->station, &exposure, NULL) == LEND_OK, "no region");
    end->session = (struct lend_session){.agent = agent, .is_closed = true};
}

static void say(struct end *from, struct end *to)
{
    uint8_t bytes[LEND_FRAME_MESSAGE_MAX];

    for (size_t count; (count = from->rail->ops->say(from->rail, bytes)) > 0;)
        check(to->rail->ops->hear(to->rail, bytes, count, NULL) == LEND_OK, "not heard");
}

static void key_ended(void *lease)
{
    (void)lease;
}

static void join(struct end *owner, struct end *reader, size_t bytes)
{
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
    const struct lend_rail_ops *ops = lend_transport_verbs.rail;
    const struct lend_rail_desc theirs = {.session = &owner->session};
    const struct lend_rail_desc ours = {.session = &reader->session,
                                        .is_client = true,
                                        .address = address,
                                        .address_bytes =
                                            lend_transport_verbs.address(owner->station, address)};
    const struct lend_rail_span span = {1, (uintptr_t)owner->memory, bytes};
    const struct lend_rail_grant grant = {
        .slot = 1, .generation = GENERATION, .spans = &span, .span_count = 1, .ended = key_ended};

    check(ops->open(owner->station, &theirs, &owner->rail, NULL) == LEND_OK, "no rail");
    check(ops->open(reader->station, &ours, &reader->rail, NULL) == LEND_OK, "no rail");
    say(reader, owner);
    ops->tell(owner->rail, 1);
    check(ops->grant(owner->rail, &grant), "no keys");
    say(owner, reader);
}

/* --- the work --- */

/* Pages that are 3 apart at the one end and 5 at the other, or anywhere. */
static struct lend_extent *lay_out(const struct end *end, bool is_free, uint64_t count,
                                   uint64_t apart)
{
    struct lend_extent *extents = calloc(is_free ? count : 1, sizeof *extents);

    check(extents != NULL, "no memory");
    for (uint64_t i = 0; i < (is_free ? count : 1); i++)
        extents[i] = (struct lend_extent){.address = (uintptr_t)end->memory +
                                                     (i * 7919 % count) * apart * PAGE,
                                          .row_bytes = PAGE,
                                          .stride_bytes = apart * PAGE,
                                          .inner_stride_bytes = PAGE,
                                          .inner_count = 1};
    return extents;
}

static enum lend_status live(uint64_t word, uint64_t generation)
{
    (void)word;
    (void)generation;
    return LEND_OK;
}

static void done(struct lend_rail_move *move)
{
    check(move->status == LEND_OK && move->proven_bytes == move->total_bytes, "not all was moved");
    move->ends = NULL;
}

__attribute__((noinline)) void works_move(struct lend_rail *rail, struct lend_rail_move *move)
{
    rail->ops->submit(rail, move);
    while (move->ends != NULL)
        (void)rail->ops->pump(rail);
}

static uint64_t move_often(struct end *owner, struct end *reader, char **arguments)
{
    const bool is_free = strcmp(arguments[1], "free") == 0, is_write = arguments[2][0] == 'w';
    const uint64_t pieces = strtoull(arguments[3], NULL, 10);
    const uint64_t times = strtoull(arguments[4], NULL, 10);
    const struct lend_run run = {0, is_free ? 1 : (uint32_t)pieces};
    struct lend_extent *theirs = lay_out(owner, is_free, pieces, 3);
    struct lend_extent *ours = lay_out(reader, is_free, pieces, 5);
    struct lend_rail_ends *ends = calloc(is_free ? pieces : 1, sizeof *ends);
    uint64_t *samples = calloc(times, sizeof *samples);
    struct lend_error why = {0};

    check(ends != NULL && samples != NULL, "no memory");
    for (uint64_t i = 0; i < (is_free ? pieces : 1); i++) {
        ends[i].theirs = reader->rail->ops->theirs(reader->rail, 1, 1, &why);
        ends[i].ours = reader->rail->ops->ours(reader->rail, 1, true, &why);
        check(ends[i].theirs != NULL && ends[i].ours != NULL, why.message);
    }
    for (uint64_t i = 0; i < times; i++) {
        struct lend_rail_move move = {.ends = ends,
                                      .is_write = is_write,
                                      .total_bytes = pieces * PAGE,
                                      .slot = 1,
                                      .generation = GENERATION,
                                      .judge = live,
                                      .done = done};

        lend_cursor_init(&move.theirs, theirs, is_free ? pieces : 1, &run, 1);
        lend_cursor_init(&move.ours, ours, is_free ? pieces : 1, &run, 1);
        uint64_t before = samples_now_ns();
        works_move(reader->rail, &move);
        samples[i] = samples_now_ns() - before;
    }
    uint64_t median = samples_median(samples, times);
    free(samples);
    free(ends);
    free(ours);
    free(theirs);
    return median;
}

int main(int argument_count, char **arguments)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct end owner = {0}, reader = {0};
    struct lend_agent *agent = NULL;

    if (argument_count != 5) {
        fprintf(stderr, "usage: %s strided|free read|write PIECES TIMES\n", arguments[0]);
        return 2;
    }
    const uint64_t pieces = strtoull(arguments[3], NULL, 10);
    config.name = "works";
    config.transports = "loopback";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    check(lend_agent_create(&config, &agent, NULL) == LEND_OK, "no agent");
    fake_verbs_reset();
    lend_verbs = &fake_verbs_ops;
    open_end(&owner, agent, "fake0", pieces * 3 * PAGE);
    open_end(&reader, agent, "fake1", pieces * 5 * PAGE);
    join(&owner, &reader, pieces * 3 * PAGE);

    struct lend_verbs_context *context = lend_verbs_rail_of(reader.rail)->place.nic->context;
    context->ops.post_send = take_work;
    context->ops.poll_cq = tell_work;
    uint64_t median = move_often(&owner, &reader, arguments);
    printf("%.2f\n", (double)median / (double)pieces);

    reader.rail->ops->close(reader.rail, false);
    owner.rail->ops->close(owner.rail, false);
    lend_transport_verbs.close(reader.station);
    lend_transport_verbs.close(owner.station);
    lend_agent_destroy(agent);
    free(owner.memory);
    free(reader.memory);
    return 0;
}
