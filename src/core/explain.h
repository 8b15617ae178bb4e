/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_EXPLAIN_H
#define LEND_CORE_EXPLAIN_H

#include "core/transfer.h"

/* Which ways of the peer's transport a list of paths allows, as a set of bits. LEND_E_INVALID: a
 * path that no transport of this build has. LEND_E_NO_PATH: none of this transport's. */
enum lend_status lend_paths_parse(const struct lend_peer *peer, const char *paths, uint32_t *out,
                                  struct lend_error *error);

/* Can one of the allowed ways carry the transfer, as far as is known? LEND_E_NO_PATH, with the
 * reasons. Under no lock. */
enum lend_status lend_paths_check(const struct lend_transfer *transfer, struct lend_error *error);

#endif
