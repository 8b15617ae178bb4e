/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_EXPLAIN_H
#define LEND_CORE_EXPLAIN_H

#include "core/peer.h"
#include "core/transfer.h"

#include <lend/explain.h>

_Static_assert(LEND_PEER_REACHES_MAX *LEND_WAYS <= 64, "a transfer's ways_allowed has the bits");

/* Which ways of the peer's transports a list of paths allows, as lend_transfer::ways_allowed; an
 * empty one, or NULL: all that need not be named.
 * LEND_E_INVALID: a path that no transport of this build has. LEND_E_NO_PATH: none of the transport
 * by which it is, or will be, reached. */
enum lend_status lend_paths_parse(const struct lend_peer *peer, const char *paths, uint64_t *out,
                                  struct lend_error *error);

/* Does the transfer allow that way, by the transport that its peer is reached by? */
static inline bool lend_paths_allow(const struct lend_transfer *transfer, enum lend_way way)
{
    /* Relaxed: it stands still while there is a connection. */
    uint32_t reach = atomic_load_explicit(&transfer->peer->reach, memory_order_relaxed);

    return (transfer->ways_allowed >> (reach * LEND_WAYS + (uint32_t)way) & 1) != 0;
}

/* Memory of a GPU that would go through the host's on its way over a network, and nobody has said
 * that it may: LEND_E_NO_PATH. */
enum lend_status lend_paths_check_staged(const struct lend_transfer *transfer,
                                         struct lend_error *error);

/* Can one of the allowed ways carry the transfer, as far as is known? LEND_E_NO_PATH, with the
 * reasons. Under no lock. */
enum lend_status lend_paths_check(const struct lend_transfer *transfer, struct lend_error *error);

#endif
