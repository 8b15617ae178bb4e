/* SPDX-License-Identifier: Apache-2.0 */
#include "core/awaited.h"
#include "core/lease.h"
#include "core/peer.h"

#include "base/error.h"
#include "base/sys.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Granting: a caller's description checked and resolved into a lease, then made live. */

void lend_grant_desc_init(struct lend_grant_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_grant_desc)LEND_GRANT_DESC_INIT;
}

static bool is_standing(const struct lend_grant_desc *desc)
{
    return (desc->flags & LEND_GRANT_STANDING) != 0;
}

static bool is_behind_stream(const struct lend_grant_desc *desc)
{
    return (desc->flags & LEND_GRANT_AFTER_STREAM) != 0;
}

static enum lend_status check_desc(struct lend_agent *agent, const struct lend_grant_desc *desc,
                                   struct lend_error *error)
{
    const uint32_t both = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    const uint32_t known = LEND_GRANT_STANDING | LEND_GRANT_AFTER_STREAM;

    if (desc->access == 0 || (desc->access & ~both) != 0)
        return lend_fail(error, LEND_E_INVALID, "access 0x%x is not read, write or both",
                         desc->access);
    if ((desc->flags & ~known) != 0 || desc->reserved != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x, or reserved is not 0",
                         desc->flags & ~known);
    if (!is_behind_stream(desc) ? desc->stream != 0 : desc->access != LEND_ACCESS_READ)
        return lend_fail(error, LEND_E_INVALID,
                         "access 0x%x behind stream 0x%llx, flags 0x%x: LEND_GRANT_AFTER_STREAM "
                         "says that there is one, and is for reading alone",
                         desc->access, (unsigned long long)desc->stream, desc->flags);
    if (is_standing(desc) && (desc->sets != NULL || desc->set_count != 0))
        return lend_fail(error, LEND_E_INVALID, "%u sets of blocks for a standing lease, on all",
                         desc->set_count);
    if (!is_standing(desc) &&
        (desc->sets == NULL || desc->set_count == 0 || desc->set_count > LEND_GRANT_SETS_MAX))
        return lend_fail(error, LEND_E_INVALID, "%u sets of blocks; 1 to %d are allowed",
                         desc->sets != NULL ? desc->set_count : 0, LEND_GRANT_SETS_MAX);
    if (desc->consumer_count > LEND_CONSUMERS_MAX)
        return lend_fail(error, LEND_E_INVALID, "%u consumers, over %d", desc->consumer_count,
                         LEND_CONSUMERS_MAX);
    if (desc->peer == NULL)
        return desc->time_to_live_ns > 0 || is_standing(desc)
                   ? LEND_OK
                   : lend_fail(error, LEND_E_INVALID,
                               "a bearer lease (no peer) must have a time to live");

    enum lend_status status = lend_handle_check(desc->peer, LEND_TAG_PEER, error);
    if (status != LEND_OK)
        return status;
    if (desc->peer->agent != agent)
        return lend_fail(error, LEND_E_INVALID, "peer %s is of agent %s, not %s", desc->peer->name,
                         desc->peer->agent->name, agent->name);
    if (atomic_load(&desc->peer->lost) != LEND_OK)
        return lend_fail(error, LEND_E_PEER_DEAD, "peer %s is dead", desc->peer->name);
    return LEND_OK;
}

/* How many regions the sets name in all. */
static enum lend_status count_regions(struct lend_agent *agent, const struct lend_grant_desc *desc,
                                      uint32_t *out, struct lend_error *error)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < desc->set_count; i++) {
        const struct lend_block_set *set = &desc->sets[i];

        if (set->regions == NULL || set->region_count == 0)
            return lend_fail(error, LEND_E_INVALID, "set %u has no regions", i);
        total += set->region_count;
        if (total > agent->config.regions_max)
            return lend_fail(error, LEND_E_INVALID, "%llu regions, over regions_max (%u)",
                             (unsigned long long)total, agent->config.regions_max);
    }
    *out = (uint32_t)total;
    return LEND_OK;
}

/* Resolve one set: a part for each region, and its blocks anew wherever the number of blocks
 * changes. */
static enum lend_status resolve_set(struct lend_lease *lease, const struct lend_block_set *set,
                                    struct lend_error *error)
{
    const struct lend_blocks *blocks = NULL;
    uint64_t block_count = 0;

    for (uint32_t i = 0; i < set->region_count; i++) {
        struct lend_region *region = set->regions[i];

        enum lend_status status = lend_region_check(lease->agent, region, i, error);
        if (status != LEND_OK)
            return status;
        if ((lease->access & ~region->access) != 0)
            return lend_fail(
                error, LEND_E_ACCESS, "region %s (%llu) is registered with access 0x%x, not 0x%x",
                region->name, (unsigned long long)region->id, region->access, lease->access);
        if (blocks == NULL || block_count != region->geometry.count) {
            struct lend_blocks *made = &lease->blocks[lease->blocks_count];

            block_count = region->geometry.count;
            status = lend_blocks_init(made, set, block_count, error);
            if (status != LEND_OK)
                return status;
            lease->blocks_count++;
            blocks = made;
        }

        struct lend_lease_part *part = &lease->parts[lease->part_count++];
        *part = (struct lend_lease_part){
            .lease = lease, .region = region, .region_id = region->id, .blocks = blocks};
        lend_list_init(&part->link);
        lease->info.block_count += blocks->count;
    }
    return LEND_OK;
}

static int by_region(const void *one, const void *other)
{
    const struct lend_lease_part *a = one, *b = other;

    return a->region_id < b->region_id ? -1 : a->region_id > b->region_id;
}

static enum lend_status make_key(struct lend_lease *lease, struct lend_error *error)
{
    int result = lend_sys->random(lease->key, sizeof lease->key);

    return result < 0 ? lend_fail_errno(error, -result, "no random bytes for a lease's key")
                      : LEND_OK;
}

static enum lend_status resolve(struct lend_lease *lease, const struct lend_grant_desc *desc,
                                uint32_t region_count, struct lend_error *error)
{
    if (lease->is_standing)
        return make_key(lease, error);
    lease->parts = lend_sys->allocate(region_count * sizeof *lease->parts);
    lease->blocks = lend_sys->allocate(region_count * sizeof *lease->blocks);
    if (lease->parts == NULL || lease->blocks == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a lease on %u regions",
                         region_count);
    for (uint32_t i = 0; i < desc->set_count; i++) {
        enum lend_status status = resolve_set(lease, &desc->sets[i], error);
        if (status != LEND_OK)
            return status;
    }

    qsort(lease->parts, lease->part_count, sizeof *lease->parts, by_region);
    for (uint32_t i = 0; i < lease->part_count; i++) {
        lend_list_init(&lease->parts[i].link);
        if (i > 0 && lease->parts[i].region_id == lease->parts[i - 1].region_id)
            return lend_fail(error, LEND_E_INVALID,
                             "region %s (%llu) is named twice; put its blocks into one set",
                             lease->parts[i].region->name,
                             (unsigned long long)lease->parts[i].region_id);
    }
    return make_key(lease, error);
}

static enum lend_status check_quota_locked(struct lend_agent *agent, const struct lend_lease *lease,
                                           struct lend_error *error)
{
    uint32_t count = 0;

    if (!lease->has_peer)
        return LEND_OK;
    for (struct lend_list *link = agent->live_leases.next; link != &agent->live_leases;
         link = link->next) {
        const struct lend_lease *other = LEND_LIST_OWNER(link, struct lend_lease, live_link);

        count += other->has_peer && memcmp(other->peer_incarnation, lease->peer_incarnation,
                                           LEND_INCARNATION_BYTES) == 0;
    }
    if (count >= agent->config.leases_per_peer_max)
        return lend_fail(error, LEND_E_LIMIT, "peer %s holds %u leases (leases_per_peer_max)",
                         lease->info.peer, count);
    return LEND_OK;
}

static enum lend_status begin_locked(struct lend_lease *lease, uint64_t time_to_live_ns,
                                     struct lend_error *error)
{
    struct lend_agent *agent = lease->agent;
    uint64_t now = lend_sys->now_ns();

    for (uint32_t i = 0; i < lease->part_count; i++)
        if (lease->parts[i].region->object.live_tag != LEND_TAG_REGION ||
            lease->parts[i].region->id != lease->parts[i].region_id ||
            atomic_load(&lease->parts[i].region->is_withdrawn))
            return lend_fail(error, LEND_E_REVOKED, "region %llu is withdrawn",
                             (unsigned long long)lease->parts[i].region_id);
    enum lend_status status = check_quota_locked(agent, lease, error);
    if (status != LEND_OK)
        return status;
    status = lend_slots_take(&agent->slots, lease, now, &lease->slot, &lease->generation, error);
    if (status != LEND_OK)
        return status;

    lease->word = lend_slots_word(&agent->slots, lease->slot);
    lease->is_live = true;
    lease->info.id = lease->generation << 20 ^ lease->slot;
    lease->info.granted_ns = now;
    if (time_to_live_ns > 0) {
        uint64_t expires = lend_deadline(now, time_to_live_ns);

        atomic_store_explicit(&lease->expires_ns, expires, memory_order_relaxed);
        if (expires < agent->lease_expiry_ns)
            agent->lease_expiry_ns = expires;
    }
    for (uint32_t i = 0; i < lease->part_count; i++)
        lend_list_append(&lease->parts[i].region->parts, &lease->parts[i].link);
    lend_list_append(&agent->live_leases, &lease->live_link);
    lease->references = 2; /* the handle's and the life's */
    lend_statistics_begin_lease(lease);
    return LEND_OK;
}

/* The caller's, of whatever version, as one of ours. */
static enum lend_status copy_desc(struct lend_agent *agent, const struct lend_grant_desc *desc,
                                  struct lend_grant_desc *out, struct lend_error *error)
{
    /* Programs were compiled with these, before there were standing leases, and streams. */
    const size_t first_size = offsetof(struct lend_grant_desc, flags);
    const size_t second_size = offsetof(struct lend_grant_desc, stream);

    if (desc->struct_size != sizeof *desc && desc->struct_size != first_size &&
        desc->struct_size != second_size)
        return lend_fail(error, LEND_E_VERSION, "lend_grant_desc is %u bytes, not %zu, %zu or %zu",
                         desc->struct_size, sizeof *desc, first_size, second_size);
    lend_grant_desc_init(out);
    memcpy(out, desc, desc->struct_size);
    return check_desc(agent, out, error);
}

/* Is memory of a GPU still what it was when it was registered? The driver is asked under no lock.
 */
static enum lend_status check_device(const struct lend_lease_part *part, struct lend_error *error)
{
    struct lend_agent *agent = part->lease->agent;
    const struct lend_region *region = part->region;
    struct lend_device_memory *copy = NULL;

    (void)pthread_mutex_lock(&agent->lock);
    bool is_device = region->object.live_tag == LEND_TAG_REGION && region->id == part->region_id &&
                     lend_region_device(region) != NULL;
    if (is_device)
        copy = lend_device_copy(lend_region_device(region));
    (void)pthread_mutex_unlock(&agent->lock);
    if (!is_device)
        return LEND_OK;
    if (copy == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to look at a GPU's");
    enum lend_status status = lend_device_check_all(copy, error);
    lend_device_release(copy);
    return status;
}

static enum lend_status check_devices(const struct lend_lease *lease, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < lease->part_count; i++)
        if (lease->parts[i].region->memory.kind == LEND_MEMORY_DEVICE)
            status = check_device(&lease->parts[i], error);
    return status;
}

static void fill(struct lend_lease *lease, struct lend_agent *agent,
                 const struct lend_grant_desc *desc, uint32_t region_count)
{
    lease->agent = agent;
    lease->access = desc->access;
    lease->is_standing = is_standing(desc);
    lease->references = 1;
    lend_list_init(&lease->live_link);
    lease->info.access = desc->access;
    lease->info.consumer_count = desc->consumer_count;
    lease->info.region_count = region_count;
    lease->info.user_data = desc->user_data;
    if (desc->peer != NULL) {
        lease->has_peer = true;
        memcpy(lease->peer_incarnation, desc->peer->incarnation, LEND_INCARNATION_BYTES);
        memcpy(lease->info.peer, desc->peer->name, sizeof lease->info.peer);
    }
}

enum lend_status lend_lease_grant(struct lend_agent *agent, const struct lend_grant_desc *desc,
                                  struct lend_lease **out, struct lend_error *error)
{
    struct lend_grant_desc own;
    uint32_t region_count = 0;
    struct lend_awaited *awaited = NULL;
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (desc == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "desc or out is NULL");
    status = copy_desc(agent, desc, &own, error);
    if (status != LEND_OK)
        return status;
    status = count_regions(agent, &own, &region_count, error);
    if (status != LEND_OK)
        return status;

    (void)pthread_mutex_lock(&agent->lock);
    struct lend_lease *lease = lend_pool_take(&agent->leases, LEND_TAG_LEASE_UNHELD);
    (void)pthread_mutex_unlock(&agent->lock);
    if (lease == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a lease");
    fill(lease, agent, &own, region_count);
    status = resolve(lease, &own, region_count, error);
    if (status == LEND_OK)
        status = check_devices(lease, error);
    if (status == LEND_OK && is_behind_stream(&own))
        status = lend_awaited_create(lease, own.stream, &awaited, error);

    (void)pthread_mutex_lock(&agent->lock);
    if (status == LEND_OK)
        status = begin_locked(lease, own.time_to_live_ns, error);
    if (status == LEND_OK)
        lease->object.live_tag = LEND_TAG_LEASE;
    else
        lend_lease_drop_locked(lease);
    if (status == LEND_OK && awaited != NULL)
        lend_awaited_begin_locked(awaited, lease);
    uint64_t timer = awaited != NULL ? 0 : agent->lease_expiry_ns;
    (void)pthread_mutex_unlock(&agent->lock);
    if (status != LEND_OK) {
        lend_awaited_destroy(awaited);
        return status;
    }
    lend_poller_timer(&agent->poller, timer);
    *out = lease;
    return LEND_OK;
}
