/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_LEASE_KEYS_H
#define LEND_CORE_LEASE_KEYS_H

#include "core/lease.h"
#include "core/session.h"

/*
 * Keys: what a lease for writing lets the NICs of peers write, by the rails of our sessions.
 *
 * A lease counts the rails that have keys of it, as it counts copies: the count is raised under the
 * agent's lock while the lease lives, before a key is made, and each of them holds a request's
 * reference, so that the lease's regions are not withdrawn. Whoever ends the lease stores its word,
 * and then ends the keys.
 */

/* Let the peer of that session write what the lease says, if it may write. The lease is held; under
 * the session's lock alone. */
void lend_lease_give_keys(struct lend_lease *lease, struct lend_session *session);

/* End the keys of a lease that has ended. LEND_OK: nothing is written by them any more.
 * LEND_E_BUSY: a NIC keeps some, by its name; it may be called again. The lease is held; under no
 * lock. Waits for a NIC that ends none, for a second at most. */
enum lend_status lend_lease_end_keys(struct lend_lease *lease, struct lend_error *error);

/* The same for every lease on a region that has ended. */
void lend_region_end_keys(struct lend_region *region);

#endif
