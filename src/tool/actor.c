/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/actor.h"

#include "tool/dice.h"
#include "tool/trouble.h"

#include <stdio.h>
#include <stdlib.h>

enum { STAND_IN_SECONDS = 60 };

uint32_t actor_reader_blocks(uint32_t block_count)
{
    return 2 * block_count;
}

enum lend_status actor_draw(struct actor *actor, uint32_t remote_population,
                            uint32_t local_population, struct lend_error *error)
{
    const struct order *order = &actor->order;
    size_t bytes = (order->block_count + 1U) * sizeof(int32_t);
    int32_t *remote = realloc(actor->remote, bytes);
    if (remote != NULL)
        actor->remote = remote;
    int32_t *local = realloc(actor->local, bytes);
    if (local != NULL)
        actor->local = local;
    if (remote == NULL || local == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for %u block numbers",
                       order->block_count);

    enum lend_status status =
        dice_draw(order->seed, remote_population, order->block_count, remote, error);
    if (status != LEND_OK)
        return status;
    return dice_draw(~order->seed, local_population, order->block_count, local, error);
}

enum lend_status actor_tell_address(struct actor *actor, struct lend_agent *agent,
                                    struct lend_error *error)
{
    struct report *report = &actor->report;

    if (actor->endpoint.listen == NULL)
        return LEND_OK;
    return lend_agent_address(agent, report->address, sizeof report->address, error);
}

enum lend_status actor_ask(struct actor *actor, struct lend_agent *agent, struct lend_found **out,
                           struct lend_error *error)
{
    *out = NULL;
    if (actor->order.address[0] == '\0')
        return LEND_OK;
    return lend_fetch(agent, actor->order.address, actor->order.timeout_ns, out, error);
}

static void carry_out(struct actor *actor, actor_handler (*find)(uint32_t verb))
{
    struct lend_error error = {0};
    actor_handler handler = find(actor->order.verb);

    actor->report = (struct report){0};
    if (handler != NULL)
        actor->report.status = handler(actor, &error);
    else
        actor->report.status =
            trouble(&error, LEND_E_INVALID, "order %u is not of this role", actor->order.verb);
    if (actor->report.status != LEND_OK && actor->report.text[0] == '\0')
        (void)snprintf(actor->report.text, sizeof actor->report.text, "%s", error.message);
}

void actor_play(const struct endpoint *endpoint, int channel, actor_handler (*find)(uint32_t verb))
{
    struct lend_error error = {0};
    struct actor *actor = calloc(1, sizeof *actor);

    if (actor == NULL)
        return;
    actor->endpoint = *endpoint;
    actor->channel = channel;
    while (order_receive(channel, &actor->order, &error) == LEND_OK) {
        carry_out(actor, find);
        if (report_send(channel, &actor->report, &error) != LEND_OK)
            break; /* the director is gone: nobody is left to be told */
    }
    lender_close(&actor->lender);
    borrower_close(&actor->borrower);
    cache_unmap(&actor->scratch);
    free(actor->remote);
    free(actor->local);
    free(actor);
}

int actor_stand_in(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    sleep_until_ns(now_ns() + STAND_IN_SECONDS * UINT64_C(1000000000));
    return EXIT_GOOD;
}
