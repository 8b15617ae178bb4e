/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_FREED_H
#define LEND_CORE_FREED_H

#include "core/agent.h"

/*
 * Memory of a GPU that its owner freed while it was lent is seen at every grant, and at every copy
 * that we make. Where nobody asks us for one, as a reader's GPU copies by itself, or nobody copies
 * at all, it is looked for as well: by progress, at most every second.
 */

/* How long it is until the next look. Tests change it. */
extern uint64_t lend_freed_look_ns;

/* There is such memory now. Under no lock. */
void lend_freed_watch(struct lend_agent *agent);

/* Look, if it is time: leases on what was freed end as STALE, and peers are asked to let go of it.
 * The time to look again; UINT64_MAX: there is nothing to look at. Under no lock. */
uint64_t lend_freed_look(struct lend_agent *agent, uint64_t now_ns);

#endif
