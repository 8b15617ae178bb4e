/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"
#include "base/sys.h"

#include <assert.h>
#include <string.h>

/* Slabs begin at about this size, and double until they hold SLAB_OBJECTS_MAX. */
enum { SLAB_BYTES_FIRST = 4096, SLAB_OBJECTS_MAX = 512, ALIGNMENT = 16 };

struct slab {
    struct slab *next;
    uint32_t object_count;
    uint32_t carved_count;
};

_Static_assert(sizeof(struct slab) % ALIGNMENT == 0, "objects follow it in place");
_Static_assert(sizeof(struct lend_pool_object) % ALIGNMENT == 0, "the rest follows it in place");

void lend_pool_init(struct lend_pool *pool, size_t object_bytes, uint32_t limit)
{
    assert(object_bytes >= sizeof(struct lend_pool_object));
    size_t rounded = (object_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t first = (SLAB_BYTES_FIRST - sizeof(struct slab)) / rounded;

    *pool = (struct lend_pool){
        .object_bytes = rounded,
        .limit = limit,
        .slab_objects = first > 0 ? (uint32_t)first : 1,
    };
}

void lend_pool_fini(struct lend_pool *pool)
{
    struct slab *slab = pool->slabs;

    while (slab != NULL) {
        struct slab *next = slab->next;

        lend_sys->release(slab);
        slab = next;
    }
    /* A zeroed one, in an owner that was never built to its end, stays as it is. */
    if (pool->object_bytes > 0)
        lend_pool_init(pool, pool->object_bytes, pool->limit);
}

/* A new slab, for no more than the limit leaves to make; NULL if there is no memory. */
static struct slab *grow(struct lend_pool *pool)
{
    uint32_t left = pool->limit - pool->made_count;
    uint32_t count = pool->slab_objects < left ? pool->slab_objects : left;
    struct slab *slab = lend_sys->allocate(sizeof *slab + count * pool->object_bytes);

    if (slab == NULL)
        return NULL;
    slab->object_count = count;
    slab->next = pool->slabs;
    pool->slabs = slab;
    if (pool->slab_objects <= SLAB_OBJECTS_MAX / 2)
        pool->slab_objects *= 2;
    return slab;
}

static struct lend_pool_object *carve(struct lend_pool *pool, struct slab *slab)
{
    char *objects = (char *)(slab + 1);
    void *object = objects + (size_t)slab->carved_count * pool->object_bytes;

    slab->carved_count++;
    pool->made_count++;
    return object;
}

static struct lend_pool_object *reuse(struct lend_pool *pool)
{
    struct lend_pool_object *object = pool->free_first;

    pool->free_first = object->next_free;
    if (pool->free_first == NULL)
        pool->free_last = NULL;
    memset(object, 0, pool->object_bytes);
    return object;
}

void *lend_pool_take(struct lend_pool *pool, uint64_t live_tag)
{
    struct slab *slab = pool->slabs;
    struct lend_pool_object *object;

    assert(live_tag != 0);
    if (pool->live_count >= pool->limit)
        return NULL;
    /* What is left of the slab comes first: it costs nothing, and lets freed objects rest. */
    if (slab != NULL && slab->carved_count < slab->object_count) {
        object = carve(pool, slab);
    } else if (pool->free_first != NULL) {
        object = reuse(pool);
    } else {
        slab = grow(pool);
        if (slab == NULL)
            return NULL;
        object = carve(pool, slab);
    }
    pool->live_count++;
    /* Release: whoever sees the tag without the owner's lock sees a zeroed object behind it. */
    __atomic_store_n(&object->live_tag, live_tag, __ATOMIC_RELEASE);
    return object;
}

void lend_pool_give(struct lend_pool *pool, void *object)
{
    struct lend_pool_object *freed = object;
    struct lend_pool_object *last = pool->free_last;

    assert(freed->live_tag != 0); /* given twice */
    /* Relaxed: only the tag itself is looked at without the owner's lock. */
    __atomic_store_n(&freed->live_tag, 0, __ATOMIC_RELAXED);
    freed->next_free = NULL;
    if (last == NULL)
        pool->free_first = freed;
    else
        last->next_free = freed;
    pool->free_last = freed;
    pool->live_count--;
}

/* The object at a place that counts through all slabs; NULL: past the end. */
static struct lend_pool_object *next_in(const struct lend_pool *pool, const struct slab *slab,
                                        size_t at)
{
    for (; slab != NULL; slab = slab->next, at = 0)
        for (; at < slab->carved_count; at++) {
            char *objects = (char *)(uintptr_t)(slab + 1);
            void *place = objects + at * pool->object_bytes;
            struct lend_pool_object *object = place;

            if (object->live_tag != 0)
                return object;
        }
    return NULL;
}

void *lend_pool_next(const struct lend_pool *pool, const void *object)
{
    if (object == NULL)
        return next_in(pool, pool->slabs, 0);
    for (const struct slab *slab = pool->slabs; slab != NULL; slab = slab->next) {
        size_t offset = (size_t)((uintptr_t)object - (uintptr_t)(slab + 1));

        if (offset < (size_t)slab->carved_count * pool->object_bytes)
            return next_in(pool, slab, offset / pool->object_bytes + 1);
    }
    return NULL;
}
