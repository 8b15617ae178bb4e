/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_BUDGET_DEVICES_H
#define LEND_TESTS_BUDGET_DEVICES_H

#include <lend/lend.h>

/* Post it and see it to its end. devices_cost.py counts what is done inside. */
void devices_move(struct lend_agent *reader, struct lend_transfer *transfer,
                  const struct lend_post_desc *post);

#endif
