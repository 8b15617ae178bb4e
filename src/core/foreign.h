/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_FOREIGN_H
#define LEND_CORE_FOREIGN_H

#include "core/region.h"

/* Peers that are no agents of lend: what of our memory they may reach. */

/* Let them reach a region whose owner allows it; nothing is done for others. May block; under no
 * lock. LEND_E_UNSUPPORTED, and what the transport says. */
enum lend_status lend_foreign_expose(struct lend_region *region, struct lend_error *error);

/* See that they do not, of a region that comes to nothing. Blocks until it is so, or for as long as
 * a connection may take; under no lock. */
void lend_foreign_take_back(struct lend_region *region);

/* Let them reach it no more. LEND_E_BUSY: they still may; with by_force it is only a matter of
 * time. Under the agent's lock. */
enum lend_status lend_foreign_conceal_locked(struct lend_region *region, bool by_force,
                                             struct lend_error *error);

#endif
