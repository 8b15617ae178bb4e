/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_POOL_H
#define LEND_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Objects of one size that are never moved and whose memory is never given back before the pool's
 * end, so that a handle can be asked whether it is live without touching freed memory. Freed
 * objects are reused in the order in which they were freed, so that a stale handle stays
 * recognisable for as long as can be. Objects grow in slabs; a pool that was never used owns
 * nothing. Not thread-safe: its owner's lock guards it, except the caller's own fields.
 */
struct lend_pool {
    size_t object_bytes; /* rounded up to a multiple of 16 */
    uint32_t live_count;
    uint32_t made_count; /* objects ever carved out of slabs */
    uint32_t limit;
    uint32_t slab_objects;
    void *slabs; /* list of slabs */
    void *free_first;
    void *free_last;
};

/* Objects must begin with this; next_free is the pool's, live_tag is the owner's kind while live.
 */
struct lend_pool_object {
    uint64_t live_tag; /* 0 while free */
    void *next_free;
};

void lend_pool_init(struct lend_pool *pool, size_t object_bytes, uint32_t limit);
/* Give every slab back, whatever is live. */
void lend_pool_fini(struct lend_pool *pool);
/* A zeroed object with live_tag set; NULL if the limit is reached (live_count == limit) or no
 * memory. */
void *lend_pool_take(struct lend_pool *pool, uint64_t live_tag);
void lend_pool_give(struct lend_pool *pool, void *object);
/* The live object after this one, in no particular order; the first after NULL; NULL at the end. */
void *lend_pool_next(const struct lend_pool *pool, const void *object);

#endif
