/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_FORK_H
#define LEND_BASE_FORK_H

#include <stdint.h>

/*
 * Tells a process from the parent that it was forked from, even by a bare clone(): a page that the
 * kernel wipes in the child (MADV_WIPEONFORK, Linux 4.14) holds the number of this process's life.
 */

/* The number of this life, never 0; or a negative errno as the page could not be made. */
int64_t lend_fork_life(void);

/* Is this still the life of that number? One load. */
int lend_fork_is_same(int64_t life);

#endif
