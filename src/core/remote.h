/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_REMOTE_H
#define LEND_CORE_REMOTE_H

#include "core/onesided.h"

/* Reads and writes that go by a rail: between onesided.c and remote.c alone. */

/* Could it read, or write, that region, as far as is known? As lend_onesided_judge_locked(). */
enum lend_status lend_remote_judge(struct lend_onesided *own,
                                   const struct lend_metadata_region *region,
                                   struct lend_error *why);
/* Changes with whatever a placement on the rail depends on. */
uint64_t lend_remote_stamp(struct lend_onesided *own);

/* Find where the transfer's regions are to the NICs, of a placement that holds. LEND_E_NO_PATH.
 * LEND_E_UNKNOWN: a WRITE, and what its lease lets us write is to be asked for. */
enum lend_status lend_remote_bind(struct lend_onesided *own, struct lend_transfer *transfer,
                                  struct lend_error *why);
/* The rail broke under it, or is being made anew: its owner serves it, or it is tried again. */
void lend_remote_try_again(struct lend_onesided *own, struct lend_transfer *transfer,
                           struct lend_error *why);
/* The rail takes it, between transfer->remote and transfer->local. */
void lend_remote_begin(struct lend_onesided *own, struct lend_transfer *transfer);
/* The rail has it no more, if it had it; nothing of it is landing. */
void lend_remote_drop(struct lend_onesided *own, struct lend_transfer *transfer);

/* onesided.c: served from the beginning, or no way at all. */
void lend_onesided_fall_back(struct lend_onesided *own, struct lend_transfer *transfer,
                             struct lend_error *why);

#endif
