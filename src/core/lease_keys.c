/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease_keys.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/rail.h"

#include <stdio.h>

#define PAUSE_NS UINT64_C(2000)

/* --- which bytes --- */

/* Runs of bytes as they are found. */
struct runs {
    struct lend_rail_span *spans; /* owned */
    uint32_t capacity;
    uint32_t count;
    bool is_full; /* there are more */
};

static void add_run(struct runs *runs, const struct lend_region *region, uint64_t offset,
                    uint64_t bytes)
{
    struct lend_rail_span *last = runs->count > 0 ? &runs->spans[runs->count - 1] : NULL;
    uint64_t address = region->memory.address + offset;

    if (last != NULL && last->region_id == region->id &&
        last->address + last->length_bytes == address)
        last->length_bytes += bytes;
    else if (runs->count == runs->capacity)
        runs->is_full = true;
    else
        runs->spans[runs->count++] = (struct lend_rail_span){
            .region_id = region->id, .address = address, .length_bytes = bytes};
}

/* The next blocks of a set that follow one another, from *at on. False: there are none. */
static bool next_blocks(const struct lend_blocks *blocks, uint64_t *at, uint64_t *out_count)
{
    uint64_t end = blocks->first + blocks->span;

    if (*at >= end)
        return false;
    if (blocks->count == blocks->span) {
        *out_count = end - *at;
        return true;
    }
    while (*at < end && !lend_blocks_cover(blocks, *at, 1))
        (*at)++;
    uint64_t count = 0;
    while (*at + count < end && lend_blocks_cover(blocks, *at + count, 1))
        count++;
    *out_count = count;
    return count > 0;
}

/* One row of each of those blocks: as one run if they touch. */
static void add_row(struct runs *runs, const struct lend_region *region, uint64_t first,
                    uint64_t count, uint64_t row)
{
    const struct lend_geometry *geometry = &region->geometry;
    uint64_t unit = geometry->block_length_bytes;
    uint64_t offset = first * geometry->stride_bytes + row * geometry->inner_stride_bytes;

    if (geometry->inner_count > 1 && geometry->inner_stride_bytes == unit)
        unit *= geometry->inner_count; /* its rows touch, and are one */
    if (unit == geometry->stride_bytes) {
        add_run(runs, region, offset, unit * count);
        return;
    }
    for (uint64_t i = 0; i < count && !runs->is_full; i++)
        add_run(runs, region, offset + i * geometry->stride_bytes, unit);
}

static void add_part(struct runs *runs, const struct lend_lease_part *part)
{
    const struct lend_geometry *geometry = &part->region->geometry;
    bool is_one =
        geometry->inner_count <= 1 || geometry->inner_stride_bytes == geometry->block_length_bytes;
    uint64_t rows = is_one ? 1 : geometry->inner_count;

    for (uint64_t row = 0; row < rows && !runs->is_full; row++) {
        uint64_t count = 0;

        for (uint64_t at = part->blocks->first;
             !runs->is_full && next_blocks(part->blocks, &at, &count); at += count)
            add_row(runs, part->region, at, count, row);
    }
}

/* How many rows its blocks have: as many runs, if no two of them touch. */
static uint64_t count_rows(const struct lend_lease *lease)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < lease->part_count; i++) {
        const uint64_t inner = lease->parts[i].region->geometry.inner_count;

        count += lease->parts[i].blocks->count * (inner > 1 ? inner : 1);
    }
    return count;
}

/* --- making --- */

/* A rail has the keys no more, or never had them. */
static void ended(void *of)
{
    struct lend_lease *lease = of;

    /* Release: what their end has stopped is over before anybody finds none. */
    (void)atomic_fetch_sub_explicit(&lease->keys, 1, memory_order_release);
    lend_lease_put(lease);
}

/* One more rail is to have keys of it, while it lives: for so many rows. */
static bool hold(struct lend_lease *lease, uint64_t *out_rows)
{
    (void)pthread_mutex_lock(&lease->agent->lock);
    bool is_live = lease->is_live;
    if (is_live) {
        lease->references++;
        lease->request_references++;
        (void)atomic_fetch_add_explicit(&lease->keys, 1, memory_order_seq_cst);
        *out_rows = count_rows(lease); /* of a lease that lives all regions are there */
    }
    (void)pthread_mutex_unlock(&lease->agent->lock);
    return is_live;
}

/* Its runs, as far as there is room. False: it has ended since. */
static bool find_runs(struct lend_lease *lease, struct runs *runs)
{
    (void)pthread_mutex_lock(&lease->agent->lock);
    bool is_live = lease->is_live;
    for (uint32_t i = 0; is_live && i < lease->part_count; i++)
        add_part(runs, &lease->parts[i]);
    (void)pthread_mutex_unlock(&lease->agent->lock);
    return is_live;
}

void lend_lease_give_keys(struct lend_lease *lease, struct lend_session *session)
{
    struct lend_rail *rail = session->rail;
    char why[160] = "the owner has no memory to name its blocks";
    uint64_t rows;

    if (rail == NULL || (lease->access & LEND_ACCESS_WRITE) == 0 || !hold(lease, &rows))
        return;
    struct runs runs = {.capacity =
                            (uint32_t)(rows < LEND_RAIL_SPANS_MAX ? rows : LEND_RAIL_SPANS_MAX)};
    runs.spans = lend_sys->allocate(runs.capacity * sizeof *runs.spans);
    const bool is_live = runs.spans == NULL || find_runs(lease, &runs);
    if (runs.is_full)
        (void)snprintf(why, sizeof why,
                       "its %llu pieces lie in more than %d runs, each of which needs a key: "
                       "lend fewer with a lease, or such as touch",
                       (unsigned long long)rows, LEND_RAIL_SPANS_MAX);
    const struct lend_rail_grant grant = {
        .slot = lease->slot,
        .generation = lease->generation,
        .spans = runs.spans,
        .span_count = runs.is_full ? 0 : runs.count,
        .why_none = why,
        .lease = lease,
        .ended = ended,
    };
    if (!is_live || !rail->ops->grant(rail, &grant))
        ended(lease);
    lend_sys->release(runs.spans);
}

/* --- ending --- */

enum lend_status lend_lease_end_keys(struct lend_lease *lease, struct lend_error *error)
{
    const struct lend_open_transport *open = lend_rail_transport(lease->agent);

    /* Acquire: nothing is written any more where none are left. A session may be making some at
     * this moment: it has raised the count before. */
    while (atomic_load_explicit(&lease->keys, memory_order_acquire) > 0) {
        enum lend_status status =
            open->ops->rail->revoke(open->transport, lease->slot, lease->generation, error);
        if (status != LEND_OK)
            return status;
        if (atomic_load_explicit(&lease->keys, memory_order_acquire) > 0)
            lend_sys->sleep_ns(PAUSE_NS);
    }
    return LEND_OK;
}

/* An ended lease on the region that has keys, with a reference; NULL: there is none. */
static struct lend_lease *find_locked(struct lend_region *region)
{
    for (struct lend_list *link = region->parts.next; link != &region->parts; link = link->next) {
        struct lend_lease *lease = LEND_LIST_OWNER(link, struct lend_lease_part, link)->lease;

        if (lease->is_live || atomic_load_explicit(&lease->keys, memory_order_relaxed) == 0)
            continue;
        lease->references++;
        return lease;
    }
    return NULL;
}

void lend_region_end_keys(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;
    enum lend_status status = LEND_OK;

    while (status == LEND_OK) {
        (void)pthread_mutex_lock(&agent->lock);
        struct lend_lease *lease = find_locked(region);
        (void)pthread_mutex_unlock(&agent->lock);
        if (lease == NULL)
            return;
        status = lend_lease_end_keys(lease, NULL);
        (void)pthread_mutex_lock(&agent->lock);
        lend_lease_drop_locked(lease);
        (void)pthread_mutex_unlock(&agent->lock);
    }
}
