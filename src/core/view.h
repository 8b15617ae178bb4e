/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_VIEW_H
#define LEND_CORE_VIEW_H

#include "core/onesided.h"

/* What leases permit, as their owners said: the reader's table of views. Between onesided.c and
 * view.c alone. */

/* Wait for what the transfer's lease permits, or learn it at once: lend_onesided_permit() follows.
 */
void lend_views_attach(struct lend_onesided *own, struct lend_transfer *transfer);

/* It is to end, but first the owner is to answer a look that comes behind all that was said before,
 * which needs no memory: lend_onesided_permit() follows. What was written for a canceled one by a
 * rail that broke lands until its owner has heard of that. */
void lend_views_hush(struct lend_onesided *own, struct lend_transfer *transfer);

/* Send what there is to ask. True if anything left. */
bool lend_views_ask(struct lend_onesided *own);
/* Is there something left to ask? */
bool lend_views_want(const struct lend_onesided *own);

void lend_views_fini(struct lend_onesided *own);

/* The lease permits the transfer (LEND_OK); or not that way (LEND_E_NO_PATH: its owner may know
 * better); or not at all. */
void lend_onesided_permit(struct lend_onesided *own, struct lend_transfer *transfer,
                          enum lend_status status, struct lend_error *why);

#endif
