/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_COPY_H
#define LEND_BASE_COPY_H

#include <stddef.h>

/*
 * Copy memory that its owner may be rewriting at this moment, as a sequence lock's reader does: the
 * caller proves afterwards that the lease was live, and throws the bytes away if it was not. The
 * race is by design, so thread sanitizer is told to look away from the lent side, and from nothing
 * else.
 */
void lend_copy_racing(void *destination, const void *source, size_t count);

/* The same for a system call of this thread that reads such memory, between the two. */
void lend_racing_begin(void);
void lend_racing_end(void);

#endif
