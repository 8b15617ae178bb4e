/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_ACTOR_H
#define LEND_TOOL_ACTOR_H

#include "tool/borrower.h"
#include "tool/lender.h"
#include "tool/order.h"

#include <lend/discovery.h>

/* One of the demo's two processes, as it is inside: it plays the owner or the reader as it is told.
 */
struct actor {
    struct endpoint endpoint;
    int channel;              /* to the director */
    struct lender lender;     /* the owner's */
    struct borrower borrower; /* the reader's */
    struct cache scratch;     /* the owner's, for copies that lend has no part in */
    int32_t *remote;          /* drawn: blocks of the owner */
    int32_t *local;           /* drawn: blocks of the reader */
    struct order order;       /* being carried out */
    struct report report;
};

/* Carries out actor->order, and fills actor->report but for its status and text. */
typedef enum lend_status (*actor_handler)(struct actor *actor, struct lend_error *error);

/* One for each ::order_verb; NULL: not one of this role. */
actor_handler owner_handler(uint32_t verb);
actor_handler reader_handler(uint32_t verb);

/* Draw the blocks that the order's seed decides: of a cache of population blocks, and of the
 * reader's. */
enum lend_status actor_draw(struct actor *actor, uint32_t remote_population,
                            uint32_t local_population, struct lend_error *error);

/* Report where the agent listens, if it does. */
enum lend_status actor_tell_address(struct actor *actor, struct lend_agent *agent,
                                    struct lend_error *error);

/* If the order names an address, ask there: out gets what was found, to be released. Else it stays
 * NULL. */
enum lend_status actor_ask(struct actor *actor, struct lend_agent *agent, struct lend_found **out,
                           struct lend_error *error);

/* How many blocks the reader's cache has in each region, to pull that many to. */
uint32_t actor_reader_blocks(uint32_t block_count);

/* Carry out orders until the director closes the channel. find is one of the two above. */
void actor_play(const struct endpoint *endpoint, int channel, actor_handler (*find)(uint32_t verb));

/* The program that an owner becomes by ORDER_EXEC: it waits to be killed, but not for long. */
int actor_stand_in(int argc, char **argv);

#endif
