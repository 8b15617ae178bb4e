/* SPDX-License-Identifier: Apache-2.0 */
#include "core/range_list.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/region.h"
#include "core/transfer.h"

#include <stdatomic.h>
#include <string.h>

enum { BOTH_RIGHTS = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

/* --- looking up --- */

static bool is_within(const struct lend_range *range, uint64_t address, uint64_t length_bytes)
{
    return range->address >= address && range->length_bytes <= length_bytes &&
           range->address - address <= length_bytes - range->length_bytes;
}

static bool serves(const struct lend_region *region, const struct lend_range *range)
{
    return is_within(range, region->memory.address, region->memory.length_bytes) &&
           region->memory.kind != LEND_MEMORY_DISK && !atomic_load(&region->is_withdrawn);
}

struct lend_region *lend_range_find_own(struct lend_agent *agent, const struct lend_range *range,
                                        struct lend_region *near)
{
    const struct lend_range_entry *entry;
    size_t position = SIZE_MAX;

    if (near != NULL && serves(near, range))
        return near;
    while ((entry = lend_range_index_next(&agent->ranges, range->address,
                                          range->address + range->length_bytes, &position)) != NULL)
        if (serves(entry->value, range))
            return entry->value;
    return NULL;
}

const struct lend_metadata_region *lend_range_find_peers(const struct lend_peer *peer,
                                                         const struct lend_range *range,
                                                         uint32_t access,
                                                         const struct lend_metadata_region *near)
{
    const struct lend_range_entry *entry;
    size_t position = SIZE_MAX;

    if (near != NULL && is_within(range, near->address, near->length_bytes) &&
        (near->access & access) == access)
        return near;
    while ((entry = lend_range_index_next(&peer->ranges, range->address,
                                          range->address + range->length_bytes, &position)) !=
           NULL) {
        const struct lend_metadata_region *region =
            &peer->metadata->regions[(size_t)entry->value - 1];

        if (is_within(range, region->address, region->length_bytes) &&
            (region->access & access) == access)
            return region;
    }
    return NULL;
}

/* --- places --- */

static uint64_t stamp_of(const struct lend_range_list *list)
{
    /* Under the agent's lock, under which both change. */
    return list->peer == NULL
               ? list->agent->places_stamp
               : atomic_load_explicit(&list->peer->metadata_stamp, memory_order_relaxed) + 1;
}

/* Where the last range of a list was found: neighbours often lie in one region. */
struct near {
    struct lend_region *own;
    const struct lend_metadata_region *peers;
};

static bool place_own(struct lend_range_list *list, struct lend_range_place *place,
                      struct near *near)
{
    const struct lend_range range = {place->address, place->length_bytes};

    near->own = lend_range_find_own(list->agent, &range, near->own);
    if (near->own == NULL)
        return false;
    place->region = near->own;
    place->region_id = near->own->id;
    place->region_address = near->own->memory.address;
    place->kind = near->own->memory.kind;
    place->access = BOTH_RIGHTS;
    return true;
}

/* Of regions that overlap, one with both rights, if there is one. */
static bool place_peers(struct lend_range_list *list, struct lend_range_place *place,
                        uint32_t access, struct near *near)
{
    const struct lend_range range = {place->address, place->length_bytes};
    const struct lend_metadata_region *found =
        lend_range_find_peers(list->peer, &range, BOTH_RIGHTS, near->peers);

    if (found == NULL)
        found = lend_range_find_peers(list->peer, &range, access, near->peers);
    near->peers = found;
    if (found == NULL)
        return false;
    place->region_id = found->id;
    place->region_address = found->address;
    place->kind = found->kind;
    place->access = found->access;
    return true;
}

/* Look the range up; the region of a peer's allows all of access, and more where it can. */
static enum lend_status renew(struct lend_range_list *list, uint64_t at, uint32_t access,
                              struct near *near, struct lend_error *error)
{
    struct lend_range_place *place = &list->places[at];

    place->stamp = 0;
    if (list->peer == NULL ? place_own(list, place, near)
                           : place_peers(list, place, access, near)) {
        place->stamp = stamp_of(list);
        return LEND_OK;
    }
    if (list->peer == NULL)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "local range %llu, 0x%llx + %llu, lies in no region of this agent",
                         (unsigned long long)at, (unsigned long long)place->address,
                         (unsigned long long)place->length_bytes);
    return lend_fail(error, LEND_E_OUT_OF_RANGE,
                     "remote range %llu, 0x%llx + %llu, lies in no region of %s that allows it",
                     (unsigned long long)at, (unsigned long long)place->address,
                     (unsigned long long)place->length_bytes, list->peer->name);
}

/* --- lists --- */

void lend_range_list_desc_init(struct lend_range_list_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_range_list_desc)LEND_RANGE_LIST_DESC_INIT;
}

static enum lend_status check_list_desc(struct lend_agent *agent,
                                        const struct lend_range_list_desc *desc,
                                        struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status == LEND_OK)
        status = lend_struct_check(desc, "lend_range_list_desc", sizeof *desc, error);
    if (status != LEND_OK)
        return status;
    if (desc->flags != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", desc->flags);
    if (desc->ranges == NULL || desc->range_count == 0)
        return lend_fail(error, LEND_E_INVALID, "no ranges: %p, count %llu",
                         (const void *)desc->ranges, (unsigned long long)desc->range_count);
    if (desc->range_count > LEND_TRANSFER_BLOCKS_MAX)
        return lend_fail(error, LEND_E_LIMIT, "a list of %llu ranges, over %d",
                         (unsigned long long)desc->range_count, LEND_TRANSFER_BLOCKS_MAX);
    for (uint64_t i = 0; i < desc->range_count; i++)
        if (desc->ranges[i].address > UINT64_MAX - desc->ranges[i].length_bytes)
            return lend_fail(error, LEND_E_OUT_OF_RANGE, "range %llu wraps around",
                             (unsigned long long)i);
    if (desc->peer == NULL)
        return LEND_OK;
    status = lend_handle_check(desc->peer, LEND_TAG_PEER, error);
    if (status == LEND_OK && desc->peer->agent != agent)
        return lend_fail(error, LEND_E_INVALID, "peer %s is of agent %s, not %s", desc->peer->name,
                         desc->peer->agent->name, agent->name);
    return status;
}

/* Room for the list, with its ranges, and not yet looked up. */
static struct lend_range_list *make_list(struct lend_agent *agent,
                                         const struct lend_range_list_desc *desc)
{
    struct lend_range_place *places =
        lend_sys->allocate((size_t)desc->range_count * sizeof *places);

    if (places == NULL)
        return NULL;
    for (uint64_t i = 0; i < desc->range_count; i++) {
        places[i].address = desc->ranges[i].address;
        places[i].length_bytes = desc->ranges[i].length_bytes;
    }
    (void)pthread_mutex_lock(&agent->lock);
    struct lend_range_list *made = lend_pool_take(&agent->range_lists, LEND_TAG_RANGE_LIST);
    if (made != NULL) {
        made->agent = agent;
        made->peer = desc->peer;
        made->references = 1;
        made->count = (uint32_t)desc->range_count;
        made->places = places;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (made == NULL)
        lend_sys->release(places);
    else if (made->peer != NULL)
        lend_peer_retain(made->peer);
    return made;
}

/* One reference less. Under no lock. */
static void release_list(struct lend_range_list *list)
{
    struct lend_agent *agent = list->agent;
    struct lend_range_place *places = NULL;
    struct lend_peer *peer = NULL;

    (void)pthread_mutex_lock(&agent->lock);
    if (--list->references == 0) {
        places = list->places;
        peer = list->peer;
        lend_pool_give(&agent->range_lists, list);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    lend_sys->release(places);
    if (peer != NULL)
        lend_peer_release(peer);
}

enum lend_status lend_range_list_prepare(struct lend_agent *agent,
                                         const struct lend_range_list_desc *desc,
                                         struct lend_range_list **out, struct lend_error *error)
{
    struct near near = {0};
    enum lend_status status = check_list_desc(agent, desc, error);

    if (status != LEND_OK)
        return status;
    if (out == NULL)
        return lend_fail(error, LEND_E_INVALID, "out is NULL");
    struct lend_range_list *list = make_list(agent, desc);
    if (list == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a list of %llu ranges",
                         (unsigned long long)desc->range_count);
    (void)pthread_mutex_lock(&agent->lock);
    for (uint64_t i = 0; status == LEND_OK && i < list->count; i++)
        if (list->places[i].length_bytes > 0)
            status = renew(list, i, 0, &near, error);
    (void)pthread_mutex_unlock(&agent->lock);
    if (status == LEND_OK)
        *out = list;
    else
        release_list(list);
    return status;
}

void lend_range_list_release(struct lend_range_list *list)
{
    if (list == NULL || lend_handle_check(list, LEND_TAG_RANGE_LIST, NULL) != LEND_OK)
        return;
    (void)pthread_mutex_lock(&list->agent->lock);
    __atomic_store_n(&list->object.live_tag, LEND_TAG_RANGE_LIST_UNHELD, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&list->agent->lock);
    release_list(list);
}

void lend_range_lists_fini(struct lend_agent *agent)
{
    for (void *object = NULL; (object = lend_pool_next(&agent->range_lists, object)) != NULL;)
        lend_sys->release(((struct lend_range_list *)object)->places);
    lend_pool_fini(&agent->range_lists);
}

/* --- transfers of two lists --- */

static enum lend_status check_lists(const struct lend_transfer *transfer,
                                    const struct lend_transfer_desc *desc, struct lend_error *error)
{
    const struct lend_range_list *local = desc->local_list, *remote = desc->remote_list;

    enum lend_status status = lend_handle_check(local, LEND_TAG_RANGE_LIST, error);
    if (status == LEND_OK)
        status = lend_handle_check(remote, LEND_TAG_RANGE_LIST, error);
    if (status != LEND_OK)
        return status;
    if (local->agent != transfer->agent || local->peer != NULL || remote->peer != transfer->peer)
        return lend_fail(error, LEND_E_INVALID,
                         "local_list must be of agent %s's memory, remote_list of peer %s's",
                         transfer->agent->name, transfer->peer->name);
    if (desc->range_count == 0 || desc->range_count > desc->block_count_max)
        return lend_fail(
            error, LEND_E_INVALID, "%llu pairs of ranges; 1 to %llu (block_count_max) are allowed",
            (unsigned long long)desc->range_count, (unsigned long long)desc->block_count_max);
    return LEND_OK;
}

/* What is paired, and what came of it so far. */
struct pairing {
    struct lend_range_list *local;
    struct lend_range_list *remote;
    uint64_t local_stamp;
    uint64_t remote_stamp;
    uint32_t access; /* that the transfer needs of the peer's regions */
    uint32_t kinds;
    uint64_t total_bytes;
    struct near local_near;
    struct near remote_near;
};

static struct pairing begin_locked(const struct lend_transfer *transfer)
{
    return (struct pairing){
        .local = transfer->local_list,
        .remote = transfer->remote_list,
        .local_stamp = stamp_of(transfer->local_list),
        .remote_stamp = stamp_of(transfer->remote_list),
        .access = transfer->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE,
    };
}

/* Both places as they are now. */
static enum lend_status refresh(struct pairing *pairing, struct lend_range_pair pair,
                                struct lend_error *error)
{
    const struct lend_range_place *here = &pairing->local->places[pair.local];
    const struct lend_range_place *there = &pairing->remote->places[pair.remote];
    enum lend_status status = LEND_OK;

    if (here->stamp != pairing->local_stamp)
        status = renew(pairing->local, pair.local, 0, &pairing->local_near, error);
    if (status == LEND_OK &&
        (there->stamp != pairing->remote_stamp || (there->access & pairing->access) == 0))
        status = renew(pairing->remote, pair.remote, pairing->access, &pairing->remote_near, error);
    return status;
}

static enum lend_status check_pair(struct pairing *pairing, struct lend_range_pair pair,
                                   uint64_t at, struct lend_error *error)
{
    const struct lend_range_place *here = &pairing->local->places[pair.local];
    const struct lend_range_place *there = &pairing->remote->places[pair.remote];

    if (here->length_bytes != there->length_bytes)
        return lend_fail(error, LEND_E_INVALID, "pair %llu is of %llu bytes here and %llu there",
                         (unsigned long long)at, (unsigned long long)here->length_bytes,
                         (unsigned long long)there->length_bytes);
    if (here->length_bytes == 0)
        return LEND_OK;
    if (__builtin_add_overflow(pairing->total_bytes, here->length_bytes, &pairing->total_bytes))
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "pair %llu: more than 2^64 bytes in all",
                         (unsigned long long)at);
    enum lend_status status = refresh(pairing, pair, error);
    pairing->kinds |= UINT32_C(1) << here->kind | UINT32_C(1) << there->kind;
    return status;
}

static enum lend_status pair_locked(struct lend_transfer *transfer,
                                    const struct lend_transfer_desc *desc, struct pairing *pairing,
                                    struct lend_error *error)
{
    uint64_t kept = 0;

    for (uint64_t i = 0; i < desc->range_count; i++) {
        /* A negative one is over any count. */
        uint64_t local = desc->local_indices != NULL ? (uint64_t)desc->local_indices[i] : i;
        uint64_t remote = desc->remote_indices != NULL ? (uint64_t)desc->remote_indices[i] : i;

        if (local >= pairing->local->count || remote >= pairing->remote->count)
            return lend_fail(error, LEND_E_INVALID,
                             "pair %llu is of ranges %lld and %lld; the lists have %u and %u",
                             (unsigned long long)i, (long long)local, (long long)remote,
                             pairing->local->count, pairing->remote->count);
        struct lend_range_pair pair = {(uint32_t)local, (uint32_t)remote};
        enum lend_status status = check_pair(pairing, pair, i, error);
        if (status != LEND_OK)
            return status;
        transfer->pairs[kept] = pair;
        kept += pairing->local->places[local].length_bytes > 0;
    }
    transfer->pair_count = kept;
    return kept > 0 ? LEND_OK : lend_fail(error, LEND_E_INVALID, "no pair has any bytes");
}

enum lend_status lend_transfer_pair(struct lend_transfer *transfer,
                                    const struct lend_transfer_desc *desc, struct lend_error *error)
{
    struct lend_agent *agent = transfer->agent;

    enum lend_status status = check_lists(transfer, desc, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&agent->lock);
    transfer->local_list = desc->local_list;
    transfer->remote_list = desc->remote_list;
    transfer->local_list->references++;
    transfer->remote_list->references++;
    struct pairing pairing = begin_locked(transfer);
    status = pair_locked(transfer, desc, &pairing, error);
    (void)pthread_mutex_unlock(&agent->lock);
    transfer->total_bytes = pairing.total_bytes;
    transfer->kinds = pairing.kinds;
    transfer->is_resolved = true;
    return status == LEND_OK ? lend_transfer_check_kinds(transfer, error) : status;
}

/* Does the pair go on where the last one ended, on both sides, in the same regions? */
static bool goes_on(const struct lend_transfer *transfer, uint64_t last,
                    const struct lend_range_place *here, const struct lend_range_place *there)
{
    const struct lend_extent *extent = &transfer->extents[last];
    const struct lend_run_range *range = &transfer->ranges[last];

    return extent->address + extent->row_bytes == here->address &&
           transfer->locals[last].id == here->region_id && range->region_id == there->region_id &&
           range->offset_bytes + range->length_bytes == there->address - there->region_address;
}

static enum lend_status unfold_locked(struct lend_transfer *transfer, uint64_t *out_count,
                                      struct lend_error *error)
{
    struct pairing pairing = begin_locked(transfer);
    uint64_t count = 0;

    for (uint64_t i = 0; i < transfer->pair_count; i++) {
        enum lend_status status = refresh(&pairing, transfer->pairs[i], error);
        if (status != LEND_OK)
            return status;

        const struct lend_range_place *here = &pairing.local->places[transfer->pairs[i].local];
        const struct lend_range_place *there = &pairing.remote->places[transfer->pairs[i].remote];
        if (count > 0 && goes_on(transfer, count - 1, here, there)) {
            struct lend_extent *extent = &transfer->extents[count - 1];

            *extent = lend_extent_of_bytes(extent->address, extent->row_bytes + here->length_bytes);
            transfer->ranges[count - 1].length_bytes += here->length_bytes;
            continue;
        }
        transfer->locals[count] = (struct lend_transfer_region){
            .region = here->region, .id = here->region_id, .address = here->region_address};
        transfer->extents[count] = lend_extent_of_bytes(here->address, here->length_bytes);
        transfer->ranges[count++] = (struct lend_run_range){
            .region_id = there->region_id,
            .offset_bytes = there->address - there->region_address,
            .length_bytes = here->length_bytes,
        };
        /* A region that came anew may be of another kind of memory. */
        transfer->kinds |= UINT32_C(1) << here->kind | UINT32_C(1) << there->kind;
    }
    *out_count = count;
    return LEND_OK;
}

enum lend_status lend_transfer_unfold(struct lend_transfer *transfer, struct lend_error *error)
{
    uint64_t count = 0;

    (void)pthread_mutex_lock(&transfer->agent->lock);
    enum lend_status status = unfold_locked(transfer, &count, error);
    (void)pthread_mutex_unlock(&transfer->agent->lock);
    if (status == LEND_OK)
        status = lend_transfer_check_kinds(transfer, error);
    if (status != LEND_OK)
        return status;
    lend_transfer_set_ranges(transfer, count);
    lend_transfer_drop_lists(transfer);
    return LEND_OK;
}

void lend_transfer_drop_lists(struct lend_transfer *transfer)
{
    struct lend_range_list *const lists[] = {transfer->local_list, transfer->remote_list};

    transfer->local_list = transfer->remote_list = NULL;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i] != NULL)
            release_list(lists[i]);
}
