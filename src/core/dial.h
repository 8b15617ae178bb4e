/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_DIAL_H
#define LEND_CORE_DIAL_H

#include "core/peer.h"

/* Connecting to a peer by one of its transports after another, the preferred first. */
struct lend_dial {
    struct lend_peer *peer;
    uint32_t reach; /* of the peer's: the one in use, or to be tried next */
};

/* Begin a connection by the first, from dial->reach on, that begins one. Else what each has said,
 * or what is wrong with us. Not under the session's lock. */
enum lend_status lend_dial(struct lend_dial *dial, struct lend_session *session,
                           struct lend_channel **out, struct lend_error *error);

/* The one in use has failed for that reason before anybody greeted: is it one to try the next for?
 * Also for the last, where there were others: what is told then names each. */
bool lend_dial_goes_on(struct lend_dial *dial, const struct lend_error *why);

#endif
