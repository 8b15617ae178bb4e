/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_AWAITED_H
#define LEND_CORE_AWAITED_H

#include "core/lease.h"

/*
 * Leases whose blocks a GPU is still to write: granted behind the work that a stream had then.
 * Until that is over no request under such a lease moves a byte, and nobody who would copy by
 * himself is told what it permits. Progress asks the driver, and wakes who waits.
 */

struct lend_awaited;

/* Note where the stream is now. The lease's regions are known, one of them memory of a GPU at
 * least; it is nobody else's yet. LEND_E_INVALID: none is. LEND_E_DEVICE, LEND_E_NO_MEMORY. */
enum lend_status lend_awaited_create(const struct lend_lease *lease, uint64_t stream,
                                     struct lend_awaited **out, struct lend_error *error);
/* NULL is a no-op. Not in a forked child. */
void lend_awaited_destroy(struct lend_awaited *awaited);
/* The lease is live from now on, and waits; the awaited is the agent's. Under the agent's lock. */
void lend_awaited_begin_locked(struct lend_awaited *awaited, struct lend_lease *lease);

static inline bool lend_lease_is_awaited(const struct lend_lease *lease)
{
    /* Acquire: what a GPU wrote came before the driver said that it is over. */
    return atomic_load_explicit(&lease->is_awaited, memory_order_acquire);
}
/* The same of one by its name, if it lives. Under no lock. */
bool lend_awaited_is_named(struct lend_agent *agent, const struct lend_lease_name *name);

/* Look which are over; when to look again, UINT64_MAX: there are none. Under no lock. */
uint64_t lend_awaited_look(struct lend_agent *agent, uint64_t now_ns);
/* At the agent's end, before its leases go. In a forked child nothing is the driver's. */
void lend_awaited_fini(struct lend_agent *agent, bool forked);

#endif
