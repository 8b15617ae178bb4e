/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transfer.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/explain.h"
#include "core/region.h"
#include "core/sums.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Preparing, and giving back. What happens between a post and its completion is in post.c. */

void lend_transfer_desc_init(struct lend_transfer_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_transfer_desc)LEND_TRANSFER_DESC_INIT;
}

void lend_post_desc_init(struct lend_post_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_post_desc)LEND_POST_DESC_INIT;
}

static bool has_ranges(const struct lend_transfer_desc *desc)
{
    return desc->local_ranges != NULL || desc->remote_ranges != NULL || desc->range_count != 0;
}

static bool has_lists(const struct lend_transfer_desc *desc)
{
    return desc->local_list != NULL || desc->remote_list != NULL || desc->local_indices != NULL ||
           desc->remote_indices != NULL;
}

static enum lend_status check_desc(struct lend_agent *agent, const struct lend_transfer_desc *desc,
                                   struct lend_error *error)
{
    if ((desc->flags & ~(uint32_t)(LEND_TRANSFER_ZERO_ON_FAILURE | LEND_TRANSFER_CHECKSUM)) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", desc->flags);
    if (desc->direction != LEND_READ && desc->direction != LEND_WRITE)
        return lend_fail(error, LEND_E_INVALID, "unknown direction %u", desc->direction);
    if (desc->block_count_max == 0 || desc->block_count_max > LEND_TRANSFER_BLOCKS_MAX)
        return lend_fail(error, desc->block_count_max == 0 ? LEND_E_INVALID : LEND_E_LIMIT,
                         "block_count_max is %llu; 1 to %d are allowed",
                         (unsigned long long)desc->block_count_max, LEND_TRANSFER_BLOCKS_MAX);

    enum lend_status status = lend_handle_check(desc->peer, LEND_TAG_PEER, error);
    if (status != LEND_OK)
        return status;
    if (desc->peer->agent != agent)
        return lend_fail(error, LEND_E_INVALID, "peer %s is of agent %s, not %s", desc->peer->name,
                         desc->peer->agent->name, agent->name);
    if (desc->region_count > LEND_METADATA_REGIONS_MAX)
        return lend_fail(error, LEND_E_INVALID, "%u pairs of regions, over %d", desc->region_count,
                         LEND_METADATA_REGIONS_MAX);
    if (desc->region_count > 0 && (desc->local_regions == NULL || desc->remote_regions == NULL))
        return lend_fail(error, LEND_E_INVALID, "%u pairs of regions, and one list is NULL",
                         desc->region_count);
    if (desc->region_count == 0 &&
        (desc->local_slice.length_bytes != 0 || desc->remote_slice.length_bytes != 0))
        return lend_fail(error, LEND_E_INVALID, "slices are of blocks, not of address ranges");
    if (desc->region_count > 0 && (has_ranges(desc) || has_lists(desc)))
        return lend_fail(error, LEND_E_INVALID, "%u pairs of regions, and address ranges",
                         desc->region_count);
    if (has_lists(desc) && (desc->local_ranges != NULL || desc->remote_ranges != NULL))
        return lend_fail(error, LEND_E_INVALID, "lists of ranges, and ranges");
    return LEND_OK;
}

/* The caller's, of whatever version, as one of ours. */
static enum lend_status copy_desc(struct lend_agent *agent, const struct lend_transfer_desc *desc,
                                  struct lend_transfer_desc *out, struct lend_error *error)
{
    /* Programs were compiled with these, before ranges could be prepared, and lists of them. */
    const size_t first_size = offsetof(struct lend_transfer_desc, local_ranges);
    const size_t second_size = offsetof(struct lend_transfer_desc, local_list);

    if (desc->struct_size != sizeof *desc && desc->struct_size != second_size &&
        desc->struct_size != first_size)
        return lend_fail(error, LEND_E_VERSION,
                         "lend_transfer_desc is %u bytes, not %zu, %zu or %zu", desc->struct_size,
                         sizeof *desc, second_size, first_size);
    lend_transfer_desc_init(out);
    memcpy(out, desc, desc->struct_size);
    return check_desc(agent, out, error);
}

static enum lend_status check_slice(const struct lend_slice *slice,
                                    const struct lend_geometry *geometry, const char *side,
                                    struct lend_error *error)
{
    uint64_t row = geometry->block_length_bytes;

    if (slice->length_bytes == 0 && slice->offset_bytes != 0)
        return lend_fail(error, LEND_E_INVALID, "a %s slice at %llu of no length", side,
                         (unsigned long long)slice->offset_bytes);
    if (slice->offset_bytes > row || slice->length_bytes > row - slice->offset_bytes)
        return lend_fail(error, LEND_E_INVALID, "%s slice %llu + %llu of a row of %llu bytes", side,
                         (unsigned long long)slice->offset_bytes,
                         (unsigned long long)slice->length_bytes, (unsigned long long)row);
    return LEND_OK;
}

static uint64_t selected_bytes(const struct lend_geometry *geometry, const struct lend_slice *slice)
{
    return slice->length_bytes > 0 ? slice->length_bytes * geometry->inner_count
                                   : lend_geometry_block_bytes(geometry);
}

static enum lend_status check_rights(const struct lend_transfer *transfer,
                                     const struct lend_region *local,
                                     const struct lend_metadata_region *remote,
                                     struct lend_error *error)
{
    uint32_t access = transfer->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE;
    const struct lend_transport_ops *ops = lend_peer_ops(transfer->peer);

    if (atomic_load(&local->is_withdrawn))
        return lend_fail(error, LEND_E_REVOKED, "local region %s (%llu) is withdrawn", local->name,
                         (unsigned long long)local->id);
    if ((remote->access & access) == 0)
        return lend_fail(error, LEND_E_ACCESS, "region %s (%llu) of %s is not lent for %s",
                         remote->name, (unsigned long long)remote->id, transfer->peer->name,
                         access == LEND_ACCESS_READ ? "reading" : "writing");
    return lend_transport_check_kinds(ops, local->memory.kind, remote->kind, error);
}

/* Check one pair of regions against each other, and take it in. Under the agent's lock. */
static enum lend_status take_pair_locked(struct lend_transfer *transfer,
                                         const struct lend_transfer_desc *desc, uint32_t at,
                                         struct lend_error *error)
{
    struct lend_region *local = desc->local_regions[at];
    const struct lend_metadata_region *remote =
        lend_peer_find_locked(transfer->peer, desc->remote_regions[at]);

    enum lend_status status = lend_region_check(transfer->agent, local, at, error);
    if (status != LEND_OK)
        return status;
    if (remote == NULL)
        return lend_fail(error, LEND_E_UNKNOWN, "%s has no region %llu (pair %u) in its metadata",
                         transfer->peer->name, (unsigned long long)desc->remote_regions[at], at);
    status = check_slice(&desc->local_slice, &local->geometry, "local", error);
    if (status == LEND_OK)
        status = check_slice(&desc->remote_slice, &remote->geometry, "remote", error);
    if (status == LEND_OK)
        status = check_rights(transfer, local, remote, error);
    if (status != LEND_OK)
        return status;

    uint64_t here = selected_bytes(&local->geometry, &desc->local_slice);
    uint64_t there = selected_bytes(&remote->geometry, &desc->remote_slice);
    if (here != there || (at > 0 && here != transfer->block_bytes))
        return lend_fail(error, LEND_E_INVALID,
                         "pair %u: a block is %llu bytes in %s (%llu) and %llu in %s's %s (%llu)%s",
                         at, (unsigned long long)here, local->name, (unsigned long long)local->id,
                         (unsigned long long)there, transfer->peer->name, remote->name,
                         (unsigned long long)remote->id,
                         here == there ? "; the pairs before have others" : "");
    transfer->block_bytes = here;
    transfer->locals[at] = (struct lend_transfer_region){
        .region = local, .id = local->id, .address = local->memory.address};
    transfer->remotes[at] = remote->id;
    lend_transfer_note_kinds(transfer, local->memory.kind, remote->kind);
    transfer->extents[at] =
        lend_extent_of(local->memory.address, &local->geometry, desc->local_slice.offset_bytes,
                       desc->local_slice.length_bytes);
    if (local->geometry.count < transfer->local_blocks_min)
        transfer->local_blocks_min = local->geometry.count;
    if (remote->geometry.count < transfer->remote_blocks_min)
        transfer->remote_blocks_min = remote->geometry.count;
    return LEND_OK;
}

/* The next array of that many items; NULL base: only count its bytes. */
static void *carve(uint8_t *base, size_t *used, uint64_t count, size_t item_bytes)
{
    void *at = base != NULL ? base + *used : NULL;

    /* Each item is of 64-bit fields, or of two of 32 bits: the next array is aligned as well. */
    *used += (size_t)count * item_bytes;
    return at;
}

/* How many bytes its arrays take; and if there is a base, where each of them is. */
static size_t lay_out(struct lend_transfer *transfer, const struct lend_transfer_desc *desc,
                      uint8_t *base)
{
    uint64_t blocks = desc->block_count_max;
    bool has_ranges = transfer->has_ranges;
    uint64_t extents = has_ranges ? blocks : desc->region_count;
    bool has_sources = transfer->direction == LEND_READ || transfer->peer->rail != NULL;
    uint64_t sources = has_sources ? extents : 0;
    size_t used = 0;

    transfer->extents = carve(base, &used, extents, sizeof *transfer->extents);
    transfer->locals = carve(base, &used, extents, sizeof *transfer->locals);
    transfer->local_runs =
        carve(base, &used, has_ranges ? 1 : blocks, sizeof *transfer->local_runs);
    transfer->ranges = carve(base, &used, has_ranges ? blocks : 0, sizeof *transfer->ranges);
    transfer->pairs = carve(base, &used, desc->local_list != NULL ? desc->range_count : 0,
                            sizeof *transfer->pairs);
    transfer->remotes = carve(base, &used, has_ranges ? 0 : extents, sizeof *transfer->remotes);
    transfer->remote_runs =
        carve(base, &used, has_ranges ? 0 : blocks, sizeof *transfer->remote_runs);
    transfer->sources = carve(base, &used, sources, sizeof *transfer->sources);
    transfer->source_extents = carve(base, &used, sources, sizeof *transfer->source_extents);
    if (transfer->peer->rail != NULL)
        transfer->ends = carve(base, &used, sources, sizeof *transfer->ends);
    return used;
}

static enum lend_status allocate(struct lend_transfer *transfer,
                                 const struct lend_transfer_desc *desc, struct lend_error *error)
{
    transfer->arrays = lend_sys->allocate_dirty(lay_out(transfer, desc, NULL));
    if (transfer->arrays == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY,
                         "no memory for a transfer of %u pairs of regions and %llu blocks",
                         desc->region_count, (unsigned long long)desc->block_count_max);
    (void)lay_out(transfer, desc, transfer->arrays);
    return LEND_OK;
}

static void free_arrays(struct lend_transfer *transfer)
{
    lend_sys->release(transfer->arrays);
    lend_sys->release(transfer->sums);
    lend_sys->release(transfer->long_notification);
}

/* Give back what a transfer owns, and itself. Under no lock. */
static void free_transfer(struct lend_transfer *transfer)
{
    struct lend_agent *agent = transfer->agent;
    struct lend_peer *peer = transfer->peer;
    struct lend_session *session = transfer->session;

    lend_transfer_drop_lists(transfer);
    free_arrays(transfer);
    (void)pthread_mutex_lock(&agent->lock);
    lend_list_remove(&transfer->link);
    lend_pool_give(&agent->transfers, transfer);
    LEND_STATISTICS_ADD_LOCKED(agent, transfers_prepared, -1);
    (void)pthread_mutex_unlock(&agent->lock);
    lend_session_release(session);
    lend_peer_release(peer);
}

/* Room for the checksums of as many blocks as a window may have. */
static enum lend_status allocate_sums(struct lend_transfer *transfer, struct lend_error *error)
{
    uint64_t count = transfer->block_count_max;

    if (!transfer->has_ranges) {
        uint64_t most = LEND_SUMS_BYTES_MAX / transfer->block_bytes;

        count *= transfer->region_count;
        if (count > most)
            count = most > 0 ? most : 1;
    }
    transfer->sums = lend_sys->allocate((size_t)count * 4);
    if (transfer->sums == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %llu checksums",
                         (unsigned long long)count);
    return LEND_OK;
}

static enum lend_status fill(struct lend_transfer *transfer, const struct lend_transfer_desc *desc,
                             struct lend_error *error)
{
    transfer->direction = desc->direction;
    transfer->flags = desc->flags;
    transfer->has_ranges = desc->region_count == 0;
    transfer->has_policy = desc->paths != NULL && desc->paths[0] != '\0';
    transfer->remote_slice = desc->remote_slice;
    transfer->region_count = desc->region_count;
    transfer->block_count_max = desc->block_count_max;
    transfer->window_bytes_max = (desc->flags & LEND_TRANSFER_CHECKSUM) != 0
                                     ? (uint64_t)LEND_SUMS_BYTES_MAX
                                     : (uint64_t)LEND_WINDOW_BYTES;
    transfer->local_blocks_min = transfer->remote_blocks_min = UINT64_MAX;
    transfer->path = lend_no_path;

    enum lend_status status =
        lend_paths_parse(transfer->peer, desc->paths, &transfer->ways_allowed, error);
    if (status == LEND_OK)
        status = allocate(transfer, desc, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&transfer->agent->lock);
    for (uint32_t i = 0; status == LEND_OK && i < desc->region_count; i++)
        status = take_pair_locked(transfer, desc, i, error);
    (void)pthread_mutex_unlock(&transfer->agent->lock);
    if (status == LEND_OK)
        status = lend_transfer_check_kinds(transfer, error);
    if (status == LEND_OK)
        status = lend_paths_check(transfer, error);
    if (status == LEND_OK && has_lists(desc))
        status = lend_transfer_pair(transfer, desc, error);
    else if (status == LEND_OK && has_ranges(desc))
        status = lend_transfer_resolve(transfer, desc, error);
    if (status != LEND_OK)
        return status;

    uint64_t total, blocks = transfer->block_count_max * (desc->region_count > 0);
    if (__builtin_mul_overflow(blocks * desc->region_count, transfer->block_bytes, &total))
        return lend_fail(error, LEND_E_LIMIT, "%llu blocks of %llu bytes in %u regions wrap around",
                         (unsigned long long)blocks, (unsigned long long)transfer->block_bytes,
                         desc->region_count);
    return (desc->flags & LEND_TRANSFER_CHECKSUM) != 0 ? allocate_sums(transfer, error) : LEND_OK;
}

enum lend_status lend_transfer_prepare(struct lend_agent *agent,
                                       const struct lend_transfer_desc *desc,
                                       struct lend_transfer **out, struct lend_error *error)
{
    struct lend_transfer_desc own;
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (desc == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "desc or out is NULL");
    status = copy_desc(agent, desc, &own, error);
    if (status != LEND_OK)
        return status;

    lend_peer_retain(own.peer);
    (void)pthread_mutex_lock(&agent->lock);
    bool is_full = agent->transfers.live_count == agent->config.transfers_max;
    struct lend_transfer *transfer =
        is_full ? NULL : lend_pool_take(&agent->transfers, LEND_TAG_TRANSFER);
    if (transfer != NULL) {
        transfer->agent = agent;
        transfer->peer = own.peer;
        lend_list_init(&transfer->session_link);
        lend_list_init(&transfer->own_link);
        lend_list_init(&transfer->notification.link);
        lend_list_append(&agent->transfer_list, &transfer->link);
        LEND_STATISTICS_ADD_LOCKED(agent, transfers_prepared, 1);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (transfer == NULL) {
        lend_peer_release(own.peer);
        return is_full ? lend_fail(error, LEND_E_LIMIT, "%u transfers are prepared (transfers_max)",
                                   agent->config.transfers_max)
                       : lend_fail(error, LEND_E_NO_MEMORY, "no memory for a transfer");
    }
    status = fill(transfer, &own, error);
    if (status != LEND_OK) {
        free_transfer(transfer);
        return status;
    }
    *out = transfer;
    return LEND_OK;
}

static bool is_under_way(const struct lend_transfer *transfer)
{
    int32_t phase = atomic_load_explicit(&transfer->phase, memory_order_seq_cst);

    return phase == LEND_PHASE_ACTIVE || phase == LEND_PHASE_ZEROING;
}

enum lend_status lend_transfer_release(struct lend_transfer *transfer)
{
    if (transfer == NULL)
        return LEND_OK;
    enum lend_status status = lend_handle_check(transfer, LEND_TAG_TRANSFER, NULL);
    if (status != LEND_OK)
        return status;
    if (is_under_way(transfer))
        return LEND_E_BUSY;
    free_transfer(transfer);
    return LEND_OK;
}

/* --- all of an agent's --- */

static bool uses(const struct lend_transfer *transfer, const struct lend_region *region)
{
    for (uint64_t i = 0; i < transfer->region_count; i++)
        if (transfer->locals[i].region == region && transfer->locals[i].id == region->id)
            return true;
    return false;
}

/* One that is under way; those that were severed already, only if that is asked for. */
static struct lend_transfer *find_user_locked(const struct lend_region *region, bool severed_too)
{
    const struct lend_list *head = &region->agent->transfer_list;

    for (struct lend_list *link = head->next; link != head; link = link->next) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, link);

        if (is_under_way(transfer) && uses(transfer, region) &&
            (severed_too || !atomic_load_explicit(&transfer->is_severed, memory_order_relaxed)))
            return transfer;
    }
    return NULL;
}

enum lend_status lend_transfers_check_idle_locked(const struct lend_region *region,
                                                  struct lend_error *error)
{
    const struct lend_transfer *transfer = find_user_locked(region, true);

    if (transfer == NULL)
        return LEND_OK;
    return lend_fail(error, LEND_E_BUSY,
                     "region %s (%llu): a %s of this agent's, %s %s, is under way", region->name,
                     (unsigned long long)region->id,
                     transfer->direction == LEND_READ ? "read" : "write",
                     transfer->direction == LEND_READ ? "from" : "to", transfer->peer->name);
}

void lend_transfers_abort(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;

    for (;;) {
        (void)pthread_mutex_lock(&agent->lock);
        struct lend_transfer *transfer = find_user_locked(region, false);
        struct lend_session *session = transfer != NULL ? lend_transfer_session(transfer) : NULL;
        (void)pthread_mutex_unlock(&agent->lock);
        if (transfer == NULL)
            return;

        (void)pthread_mutex_lock(&session->lock);
        if (lend_transfer_is_active(transfer, session) && uses(transfer, region))
            (void)lend_client_sever(session, transfer, LEND_E_REVOKED,
                                    "a local region was withdrawn");
        (void)pthread_mutex_unlock(&session->lock);
        lend_transfer_stop_zeroing(transfer);
        lend_session_wake(session); /* to send the cancel */
        lend_session_release(session);
    }
}

void lend_transfers_fini(struct lend_agent *agent, bool forked)
{
    for (void *object = NULL; (object = lend_pool_next(&agent->transfers, object)) != NULL;) {
        struct lend_transfer *transfer = object;

        if (!forked) {
            lend_session_release(transfer->session);
            lend_lane_drop_mark(&transfer->mark); /* of one whose copy never ended */
        }
        free_arrays(transfer);
    }
    lend_pool_fini(&agent->transfers);
}
