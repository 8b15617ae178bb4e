/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_STAGED_H
#define LEND_CORE_STAGED_H

#include "core/served_request.h"
#include "core/session.h"

/*
 * The owner's part of a request for memory of a GPU, request->lane: its bytes go over the session's
 * stage. A READ is fetched cell by cell, and what has come while the lease was live is sent. A
 * WRITE is taken to cells, and the lease stays pinned until a cell has landed.
 */

/* What it needs is there, or its verdict says why not. LEND_E_UNSUPPORTED, LEND_E_NO_MEMORY,
 * LEND_E_DEVICE. */
enum lend_status lend_staged_open(struct lend_session *session,
                                  struct lend_served_request *request);

/* Go on, in LEND_SERVED_MOVE. LEND_OK: *out_count bytes more have moved. LEND_PENDING: nothing is
 * to be done now. Else it is to be ended: its verdict says why, or if that is LEND_OK it is the
 * lease that has ended so. */
enum lend_status lend_staged_step(struct lend_session *session, struct lend_served_request *request,
                                  size_t *out_count);

/* Take at most count bytes of a WRITE; its lease has been entered, and is left. Returns how many.
 */
size_t lend_staged_take(struct lend_session *session, struct lend_served_request *request,
                        size_t count);

/* Does the GPU still have memory of it? */
bool lend_staged_is_flying(const struct lend_session *session,
                           const struct lend_served_request *request);

#endif
