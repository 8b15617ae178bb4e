/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_FOUND_H
#define LEND_CORE_FOUND_H

#include <lend/discovery.h>

/* What was found of an agent: a copy of the bytes of its metadata, which were checked to be that,
 * and behind them those of its attachment. LEND_E_NO_MEMORY. */
enum lend_status lend_found_make(const void *bytes, size_t metadata_bytes, size_t attachment_bytes,
                                 struct lend_found **out, struct lend_error *error);

#endif
