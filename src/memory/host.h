/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_HOST_H
#define LEND_MEMORY_HOST_H

#include "memory/verify.h"

/*
 * Hold the host memory among the items whose status is LEND_OK against the kernel's list of
 * mappings (NULL: opened for it), read once, and fill in their status and error. Passes over all
 * other items.
 */
void lend_host_verify(struct lend_maps *maps, struct lend_verify *items, uint32_t count);

#endif
