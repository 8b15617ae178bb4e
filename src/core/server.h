/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SERVER_H
#define LEND_CORE_SERVER_H

#include "core/region.h"
#include "core/session.h"

/* The serving end of a session. lend_session_accept() makes one. */

/* Every request under a standing lease that moves bytes of the region, which is withdrawn, is to
 * end as revoked: when its session is pumped next, or what a transport still has of it settles.
 * Under no lock. */
void lend_servers_abort(struct lend_region *region);

/* The application has taken notifications that cost that much: let the peer know. Under no lock. */
void lend_server_credit(struct lend_session *session, uint64_t cost);

#endif
