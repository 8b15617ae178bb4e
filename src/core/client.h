/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_CLIENT_H
#define LEND_CORE_CLIENT_H

#include "core/outbox.h"
#include "core/transfer.h"

/* The asking end of a session. All under the session's lock, where nothing else is said. */

/* Begin one to the peer, over that transport; a reference for the caller. Under the peer's lock. */
enum lend_status lend_client_connect(struct lend_peer *peer, struct lend_session **out,
                                     struct lend_error *error);

/* Take a posted transfer. It completes through lend_transfer_complete(). */
void lend_client_submit(struct lend_session *session, struct lend_transfer *transfer);

/* End a transfer under way. True if it is complete; false: a WRITE that waits for the peer's word,
 * or a READ whose bytes are still landing. The reason lives for ever, here and below. */
bool lend_client_end(struct lend_session *session, struct lend_transfer *transfer,
                     enum lend_status status, const char *reason);

/* Stop a transfer from touching our memory, whatever the peer still does: it is complete. False: it
 * will be within LEND_SETTLE_NS, when what is landing has landed. */
bool lend_client_sever(struct lend_session *session, struct lend_transfer *transfer,
                       enum lend_status status, const char *reason);

/* Is there something left to send, with room for it or without? Then the session must be woken:
 * nothing that comes from the peer may do so. */
bool lend_client_has_more(const struct lend_session *session);

/* How the reads that it carries out by itself tell their ends; and how one goes back to be served.
 */
void lend_client_succeed(struct lend_session *session, struct lend_transfer *transfer);
void lend_client_fail(struct lend_session *session, struct lend_transfer *transfer,
                      const struct lend_error *why);
void lend_client_serve(struct lend_session *session, struct lend_transfer *transfer);

/* The part of a client's session that copies by itself, and what it has to send beside requests. */
struct lend_onesided *lend_client_onesided(struct lend_session *session);
struct lend_outbox *lend_client_outbox(struct lend_session *session);

#endif
