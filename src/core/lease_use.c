/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/*
 * Leases as their users meet them: found by the name in a ticket, held for a request, consumed, and
 * mourned.
 */

enum { CONSUMERS_FIRST = 8 };

enum lend_status lend_lease_explain(const struct lend_lease_name *name, enum lend_status cause,
                                    struct lend_error *error)
{
    const char *what = "is in a state that is not known here";

    switch ((int)cause) {
    case LEND_E_UNKNOWN: what = "was never granted by this agent; ask for a new ticket"; break;
    case LEND_E_STALE:
        what = "has ended, and its slot or its region has a newer life; ask for a new ticket";
        break;
    case LEND_E_REVOKED: what = "was revoked by its owner"; break;
    case LEND_E_EXPIRED: what = "has expired; renew it in time, or ask for a longer one"; break;
    case LEND_E_CONSUMED: what = "is consumed"; break;
    case LEND_E_PEER_DEAD: what = "was for a peer that died, or hung up"; break;
    default: break;
    }
    return lend_fail(error, cause, "lease %u.%llx %s", name->slot,
                     (unsigned long long)name->generation, what);
}

static bool keys_are_equal(const uint8_t *one, const uint8_t *other)
{
    uint8_t difference = 0;

    /* Every byte is looked at, so that the time tells nothing of the key. */
    for (int i = 0; i < LEND_KEY_BYTES; i++)
        difference |= (uint8_t)(one[i] ^ other[i]);
    return difference == 0;
}

/* The live lease of that name, or the cause why there is none. */
static enum lend_status find_locked(struct lend_agent *agent, const struct lend_lease_name *name,
                                    struct lend_lease **out)
{
    struct lend_slot *slot = lend_slots_at(&agent->slots, name->slot);

    if (slot == NULL)
        return LEND_E_UNKNOWN;
    enum lend_status status = lend_slot_judge(
        atomic_load_explicit(lend_slots_word(&agent->slots, name->slot), memory_order_relaxed),
        name->generation);
    if (status != LEND_OK)
        return status;

    struct lend_lease *lease = slot->lease;
    if (!keys_are_equal(lease->key, name->key))
        return LEND_E_UNKNOWN;
    uint64_t expires = atomic_load_explicit(&lease->expires_ns, memory_order_relaxed);
    if (expires != 0 && lend_sys->now_ns() >= expires) {
        lend_lease_end_locked(lease, LEND_SLOT_EXPIRED);
        return LEND_E_EXPIRED;
    }
    *out = lease;
    return LEND_OK;
}

static struct lend_consumer *find_consumer(struct lend_lease *lease, const uint8_t *incarnation)
{
    for (uint32_t i = 0; i < lease->consumer_entries; i++)
        if (memcmp(lease->consumers[i].incarnation, incarnation, LEND_INCARNATION_BYTES) == 0)
            return &lease->consumers[i];
    return NULL;
}

/* Note that an incarnation uses a counted lease; the entry, or NULL: no memory, or too many. */
static struct lend_consumer *add_consumer(struct lend_lease *lease, const uint8_t *incarnation)
{
    struct lend_consumer *found = find_consumer(lease, incarnation);

    if (found != NULL)
        return found;
    if (lease->consumer_entries == LEND_CONSUMER_ENTRIES_MAX)
        return NULL;
    if (lease->consumer_entries == lease->consumer_capacity) {
        uint32_t capacity =
            lease->consumer_capacity > 0 ? lease->consumer_capacity * 2 : CONSUMERS_FIRST;
        struct lend_consumer *grown = lend_sys->allocate(capacity * sizeof *grown);

        if (grown == NULL)
            return NULL;
        if (lease->consumer_entries > 0)
            memcpy(grown, lease->consumers, lease->consumer_entries * sizeof *grown);
        lend_sys->release(lease->consumers);
        lease->consumers = grown;
        lease->consumer_capacity = capacity;
    }
    found = &lease->consumers[lease->consumer_entries++];
    memcpy(found->incarnation, incarnation, LEND_INCARNATION_BYTES);
    return found;
}

static enum lend_status check_user(struct lend_lease *lease, const struct lend_lease_name *name,
                                   const struct lend_lease_user *user, uint32_t access,
                                   struct lend_error *error)
{
    if (lease->has_peer &&
        memcmp(lease->peer_incarnation, user->incarnation, LEND_INCARNATION_BYTES) != 0)
        return lend_fail(error, LEND_E_ACCESS,
                         "lease %u.%llx is for another peer (%s) than this incarnation of %s",
                         name->slot, (unsigned long long)name->generation, lease->info.peer,
                         user->name);
    if ((access & ~lease->access) != 0)
        return lend_fail(error, LEND_E_ACCESS, "lease %u.%llx is for %s only", name->slot,
                         (unsigned long long)name->generation,
                         lease->access == LEND_ACCESS_READ ? "reading" : "writing");
    if (lease->info.consumer_count == 0)
        return LEND_OK;

    struct lend_consumer *consumer = add_consumer(lease, user->incarnation);
    if (consumer == NULL)
        return lend_fail(error, LEND_E_LIMIT, "lease %u.%llx has no room for one more consumer",
                         name->slot, (unsigned long long)name->generation);
    if (consumer->is_done)
        return lend_lease_explain(name, LEND_E_CONSUMED, error);
    return LEND_OK;
}

enum lend_status lend_lease_get(struct lend_agent *agent, const struct lend_lease_name *name,
                                const struct lend_lease_user *user, uint32_t access,
                                struct lend_lease **out, struct lend_error *error)
{
    struct lend_lease *lease = NULL;

    (void)pthread_mutex_lock(&agent->lock);
    enum lend_status status = find_locked(agent, name, &lease);
    if (status != LEND_OK)
        status = lend_lease_explain(name, status, error);
    else
        status = check_user(lease, name, user, access, error);
    if (status == LEND_OK) {
        lease->references++;
        lease->request_references++;
        lease->info.requests++;
        lend_statistics_use_lease(lease, user->name);
        if (strcmp(lease->info.last_user, user->name) != 0)
            (void)snprintf(lease->info.last_user, sizeof lease->info.last_user, "%s", user->name);
        *out = lease;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

void lend_lease_put(struct lend_lease *lease)
{
    struct lend_agent *agent = lease->agent;

    (void)pthread_mutex_lock(&agent->lock);
    lease->request_references--;
    if (lease->row != NULL)
        lend_statistics_set(&lease->row->bytes,
                            atomic_load_explicit(&lease->bytes, memory_order_relaxed));
    if (lease->request_references == 0 && !lease->is_live)
        for (uint32_t i = 0; i < lease->part_count; i++)
            lend_list_remove(&lease->parts[i].link);
    lend_lease_drop_locked(lease);
    (void)pthread_mutex_unlock(&agent->lock);
}

static const struct lend_lease_part *find_part(const struct lend_lease *lease, uint64_t region_id)
{
    uint32_t low = 0, high = lease->part_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (lease->parts[middle].region_id < region_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < lease->part_count && lease->parts[low].region_id == region_id ? &lease->parts[low]
                                                                               : NULL;
}

static enum lend_status find_standing(const struct lend_lease *lease, uint64_t region_id,
                                      uint32_t access, struct lend_leased *out,
                                      struct lend_error *error)
{
    struct lend_agent *agent = lease->agent;
    struct lend_region *region = lend_region_table_find(&agent->table, region_id);

    if (region == NULL || atomic_load_explicit(&region->is_withdrawn, memory_order_relaxed))
        return lend_fail(error,
                         region != NULL || region_id <= agent->table.last_id ? LEND_E_REVOKED
                                                                             : LEND_E_OUT_OF_RANGE,
                         "region %llu of %s is %s", (unsigned long long)region_id, agent->name,
                         region != NULL ? "withdrawn" : "not registered");
    if ((access & ~region->access) != 0)
        return lend_fail(error, LEND_E_ACCESS, "region %llu is registered with access 0x%x only",
                         (unsigned long long)region_id, region->access);
    *out = (struct lend_leased){.region = region};
    return LEND_OK;
}

enum lend_status lend_lease_find(const struct lend_lease *lease, uint64_t region_id,
                                 uint32_t access, struct lend_leased *out, struct lend_error *error)
{
    if (lease->is_standing)
        return find_standing(lease, region_id, access, out, error);

    const struct lend_lease_name name = {.slot = lease->slot, .generation = lease->generation};
    const struct lend_lease_part *part = find_part(lease, region_id);

    if (part == NULL)
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "region %llu is not in the lease",
                         (unsigned long long)region_id);
    /* Only a lease that has ended loses a region. */
    if (part->region == NULL)
        return lend_lease_explain(&name, lend_lease_judge(lease), error);
    *out = (struct lend_leased){.region = part->region, .blocks = part->blocks};
    return LEND_OK;
}

/* Selected bytes of a region that follow one another, from some byte on. */
struct stretch {
    uint64_t block;      /* where it begins */
    uint64_t unit_bytes; /* of a block, for as many blocks as touch */
    uint64_t into_bytes; /* how far into the first unit it begins */
    uint64_t unit_count;
};

/* Find the stretch that begins at offset; false: that byte is in no block. Blocks follow one
 * another, or interleave (struct lend_geometry). */
static bool find_stretch(const struct lend_geometry *geometry, uint64_t offset, struct stretch *out)
{
    uint64_t row_bytes = geometry->block_length_bytes, stride = geometry->stride_bytes;
    uint64_t inner = geometry->inner_stride_bytes, rows = geometry->inner_count;
    bool is_interleaved = rows > 1 && inner >= stride;
    uint64_t block = is_interleaved ? offset % inner / stride : offset / stride;
    uint64_t row = is_interleaved ? offset / inner : offset % stride / inner;
    uint64_t rest = is_interleaved ? offset % inner % stride : offset % stride % inner;

    if (block >= geometry->count || row >= rows || rest >= row_bytes)
        return false;
    *out = (struct stretch){
        .block = block, .unit_bytes = row_bytes, .into_bytes = rest, .unit_count = 1};
    if (!is_interleaved && inner == row_bytes) {
        out->unit_bytes = row_bytes * rows;
        out->into_bytes = row * row_bytes + rest;
    }
    if (out->unit_bytes == stride)
        out->unit_count = geometry->count - block;
    return true;
}

enum lend_status lend_lease_check_range(const struct lend_geometry *geometry,
                                        const struct lend_blocks *blocks,
                                        const struct lend_run_range *range,
                                        struct lend_error *error)
{
    uint64_t offset = range->offset_bytes, left = range->length_bytes;

    while (left > 0) {
        struct stretch stretch;
        uint64_t here = 0;

        if (find_stretch(geometry, offset, &stretch)) {
            here = stretch.unit_bytes * stretch.unit_count - stretch.into_bytes;
            here = here < left ? here : left;
            uint64_t count =
                (stretch.into_bytes + here + stretch.unit_bytes - 1) / stretch.unit_bytes;
            if (blocks != NULL && !lend_blocks_cover(blocks, stretch.block, count))
                here = 0;
        }
        if (here == 0)
            return lend_fail(
                error, LEND_E_OUT_OF_RANGE,
                "bytes %llu + %llu of region %llu: those from %llu on are not all in the lease",
                (unsigned long long)range->offset_bytes, (unsigned long long)range->length_bytes,
                (unsigned long long)range->region_id, (unsigned long long)offset);
        offset += here;
        left -= here;
    }
    return LEND_OK;
}

static void count_done(struct lend_lease *lease, struct lend_consumer *consumer)
{
    if (consumer->is_done)
        return;
    consumer->is_done = true;
    lease->info.consumers_done++;
    if (lease->info.consumers_done >= lease->info.consumer_count)
        lend_lease_end_locked(lease, LEND_SLOT_CONSUMED);
}

void lend_lease_consume(struct lend_agent *agent, const struct lend_lease_name *name,
                        const uint8_t *incarnation)
{
    struct lend_lease *lease;

    (void)pthread_mutex_lock(&agent->lock);
    if (find_locked(agent, name, &lease) == LEND_OK && lease->info.consumer_count > 0 &&
        (!lease->has_peer ||
         memcmp(lease->peer_incarnation, incarnation, LEND_INCARNATION_BYTES) == 0)) {
        struct lend_consumer *consumer = add_consumer(lease, incarnation);

        if (consumer != NULL)
            count_done(lease, consumer);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

void lend_lease_mourn(struct lend_agent *agent, const uint8_t *incarnation)
{
    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->live_leases.next, *next; link != &agent->live_leases;
         link = next) {
        struct lend_lease *lease = LEND_LIST_OWNER(link, struct lend_lease, live_link);
        struct lend_consumer *consumer = find_consumer(lease, incarnation);

        next = link->next;
        if (lease->has_peer &&
            memcmp(lease->peer_incarnation, incarnation, LEND_INCARNATION_BYTES) == 0)
            lend_lease_end_locked(lease, LEND_SLOT_PEER_DEAD);
        else if (consumer != NULL)
            count_done(lease, consumer);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}
