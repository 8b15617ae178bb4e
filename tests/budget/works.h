/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_BUDGET_WORKS_H
#define LEND_TESTS_BUDGET_WORKS_H

#include "core/transport.h"

/* Move all of it; what is counted. */
void works_move(struct lend_rail *rail, struct lend_rail_move *move);

#endif
