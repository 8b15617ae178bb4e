/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_OPENED_H
#define LEND_CORE_OPENED_H

#include "core/onesided.h"

/*
 * Reads that the reader's GPU carries out by itself, out of a peer's allocation that was opened.
 * Part of lend_onesided; all of it under the session's lock.
 *
 *     wanted --open, part by part--> opened, kept <--> copies fly from it
 *                        | its owner wants it back: nothing more flies; when nothing does,
 *                        `--close--> let go
 *
 * What the owner has to say of its allocation stands in a file that the transport maps; and as that
 * is kept from being let go for as long as the allocation is open, the owner knows.
 */

/* Could a region of the peer be read that way, as far as is known, into memory of a GPU? As
 * lend_onesided_judge_locked(). */
enum lend_status lend_opened_judge(struct lend_onesided *own,
                                   const struct lend_metadata_region *region,
                                   struct lend_error *why);

/* Open what the transfer's sources lie in, and turn their offsets into addresses. LEND_PENDING: it
 * is being opened, or its owner has not told of it yet. LEND_E_NO_PATH. */
enum lend_status lend_opened_place(struct lend_onesided *own, struct lend_transfer *transfer,
                                   struct lend_error *why);
/* Is our side of it memory of GPUs alone, which one lane copies to? */
bool lend_opened_suits(const struct lend_transfer *transfer);

/* Its lease permits the transfer, and its cursors stand at the beginning. */
void lend_opened_begin(struct lend_onesided *own, struct lend_transfer *transfer);
/* A transfer of which nothing flies is here no more. */
void lend_opened_drop(struct lend_onesided *own, struct lend_transfer *transfer);

/* See what has landed, begin more, and close what is wanted back. True if anything moved, or is
 * under way. */
bool lend_opened_pump(struct lend_onesided *own);
/* Wait a while for what flies; false: it flies still, and perhaps for ever. */
bool lend_opened_halt(struct lend_onesided *own);
/* Close all from which nothing flies; the others are never closed, and stay in mind. */
void lend_opened_fini(struct lend_onesided *own);
/* At the agent's end. */
void lend_opened_forget(struct lend_agent *agent);

#endif
