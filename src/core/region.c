/* SPDX-License-Identifier: Apache-2.0 */
#include "core/region.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "core/foreign.h"
#include "core/freed.h"
#include "core/rail.h"
#include "core/share.h"

#include <stdio.h>
#include <string.h>

void lend_region_desc_init(struct lend_region_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_region_desc)LEND_REGION_DESC_INIT;
}

/* --- lookups --- */

enum lend_status lend_region_check(const struct lend_agent *agent, const struct lend_region *region,
                                   uint64_t at, struct lend_error *error)
{
    if (region == NULL || region->object.live_tag != LEND_TAG_REGION)
        return lend_fail(error, LEND_E_INVALID, "%p at position %llu is not a live region",
                         (const void *)region, (unsigned long long)at);
    if (region->agent != agent)
        return lend_fail(error, LEND_E_INVALID,
                         "region %s (%llu) at position %llu is of agent %s, not %s", region->name,
                         (unsigned long long)region->id, (unsigned long long)at,
                         region->agent->name, agent->name);
    return LEND_OK;
}

struct lend_extent lend_extent_of(uint64_t address, const struct lend_geometry *geometry,
                                  uint64_t slice_offset, uint64_t slice_bytes)
{
    return (struct lend_extent){
        .address = address + slice_offset,
        .row_bytes = slice_bytes > 0 ? slice_bytes : geometry->block_length_bytes,
        .stride_bytes = geometry->stride_bytes,
        .inner_stride_bytes = geometry->inner_stride_bytes,
        .inner_count = geometry->inner_count,
    };
}

/* --- registering: each description by itself --- */

static bool text_is_good(const char *text, size_t limit)
{
    size_t count = text != NULL ? strnlen(text, limit + 1) : 0;

    for (size_t i = 0; i < count; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return count <= limit;
}

enum lend_status lend_region_check_memory(const struct lend_memory *memory,
                                          struct lend_error *error)
{
    if (memory->struct_size != sizeof *memory)
        return lend_fail(
            error, LEND_E_INVALID,
            "its memory was not described: call lend_memory_system() or another of its kind");
    if (memory->kind < LEND_MEMORY_SYSTEM || memory->kind > LEND_MEMORY_DISK)
        return lend_fail(error, LEND_E_INVALID, "unknown kind of memory %u", memory->kind);
    if (memory->length_bytes == 0 || memory->length_bytes > LEND_MEMORY_BYTES_MAX ||
        memory->address > UINT64_MAX - memory->length_bytes ||
        (memory->address == 0 && memory->kind != LEND_MEMORY_DISK))
        return lend_fail(
            error, LEND_E_INVALID, "memory 0x%llx + %llu bytes is empty, null or wraps",
            (unsigned long long)memory->address, (unsigned long long)memory->length_bytes);
    return LEND_OK;
}

static enum lend_status check_desc(const struct lend_region_desc *desc, struct lend_error *error)
{
    const uint32_t known = LEND_REGION_ALLOW_OVERLAP | LEND_REGION_SHARE_FILE |
                           LEND_REGION_PUNCH_OUT | LEND_REGION_PREFER_CROSS_MEMORY |
                           LEND_REGION_ALLOW_UNFENCED | LEND_REGION_SHARE_DEVICE;

    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_region_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    if ((desc->flags & ~known) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", desc->flags & ~known);
    if ((desc->flags & LEND_REGION_PUNCH_OUT) != 0 && (desc->flags & LEND_REGION_SHARE_FILE) == 0)
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_REGION_PUNCH_OUT is for a file: set LEND_REGION_SHARE_FILE too");
    if ((desc->access & ~(uint32_t)(LEND_ACCESS_READ | LEND_ACCESS_WRITE)) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown access 0x%x", desc->access);
    if ((desc->flags & LEND_REGION_ALLOW_UNFENCED) != 0 &&
        desc->access != (LEND_ACCESS_READ | LEND_ACCESS_WRITE))
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_REGION_ALLOW_UNFENCED lets peers read and write: access must have "
                         "both rights");
    if (!text_is_good(desc->name, LEND_REGION_NAME_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "its name must have at most %d printable bytes",
                         LEND_REGION_NAME_BYTES_MAX);
    if (!text_is_good(desc->tags, LEND_REGION_TAGS_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "its tags must have at most %d printable bytes",
                         LEND_REGION_TAGS_BYTES_MAX);
    enum lend_status status = lend_region_check_memory(&desc->memory, error);
    if (status != LEND_OK)
        return status;

    if ((desc->flags & LEND_REGION_SHARE_FILE) != 0 && !lend_memory_is_host(&desc->memory))
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_REGION_SHARE_FILE is for host memory, and this is of kind %u",
                         desc->memory.kind);

    if ((desc->flags & LEND_REGION_SHARE_DEVICE) != 0 && desc->memory.kind != LEND_MEMORY_DEVICE)
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_REGION_SHARE_DEVICE is for memory of a GPU, and this is of kind %u",
                         desc->memory.kind);

    struct lend_geometry geometry = desc->geometry;
    return lend_geometry_complete(&geometry, desc->memory.length_bytes, error);
}

enum lend_status lend_region_check_moves(const struct lend_agent *agent, uint32_t kind,
                                         struct lend_error *error)
{
    for (uint32_t i = 0; i < agent->transport_count; i++)
        if ((agent->transports[i].ops->kinds >> kind & 1) != 0)
            return LEND_OK;
    if (kind == LEND_MEMORY_DEVICE)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "no open transport moves memory of a GPU: open transport local, which "
                         "does on one host, or copy it to memory of the host and lend that");
    return lend_fail(error, LEND_E_UNSUPPORTED, "no open transport moves memory of kind %u", kind);
}

enum lend_status lend_transport_check_kinds(const struct lend_transport_ops *ops, uint32_t one,
                                            uint32_t other, struct lend_error *error)
{
    if ((ops->kinds >> one & 1) != 0 && (ops->kinds >> other & 1) != 0)
        return LEND_OK;
    if (one == LEND_MEMORY_DEVICE || other == LEND_MEMORY_DEVICE)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "transport %s does not reach memory of a GPU: use transport local on one "
                         "host, or copy it to memory of the host and lend that",
                         ops->name);
    return lend_fail(error, LEND_E_UNSUPPORTED,
                     "transport %s does not move between memory of kinds %u and %u", ops->name, one,
                     other);
}

/* --- registering: among the others --- */

static uint64_t end_of(const struct lend_memory *memory)
{
    return memory->address + memory->length_bytes;
}

static bool shares_space(const struct lend_memory *one, const struct lend_memory *other)
{
    bool one_is_disk = one->kind == LEND_MEMORY_DISK,
         other_is_disk = other->kind == LEND_MEMORY_DISK;

    /* Host and device addresses are of one space (CUDA's unified addressing); each file is its own.
     */
    return one_is_disk == other_is_disk && (!one_is_disk || one->device == other->device);
}

static enum lend_status check_name_locked(struct lend_agent *agent, const char *name, uint32_t hash,
                                          struct lend_error *error)
{
    const struct lend_region *region = lend_region_table_named(&agent->table, name, hash);

    if (region == NULL)
        return LEND_OK;
    return lend_fail(error, LEND_E_INVALID, "the name %s is taken by region %llu", name,
                     (unsigned long long)region->id);
}

void lend_region_check_item(struct lend_agent *agent, struct lend_verify *item)
{
    struct lend_error why;

    if (item->status == LEND_OK)
        item->status = lend_region_check_moves(agent, item->memory.kind, &item->error);
    if (item->status == LEND_OK && item->device != NULL)
        item->status = lend_lane_assign(&agent->lanes, item->device, &item->error);
    if (item->status == LEND_OK && item->device != NULL &&
        lend_lane_equip(&agent->lanes, item->device->lane, &why) != LEND_OK)
        lend_agent_log(agent, LEND_LOG_WARNING,
                       "GPU %d has no kernel for small pieces, which makes them slow: %s",
                       item->device->ordinal, why.message);
}

/* What a region is to be put among: those with lower ids. All have, for one that comes back. */
struct seat {
    struct lend_verify *item;
    uint64_t before_id;
};

/* Look at the regions in the same range: one to share the registration of, or an overlap to refuse.
 */
static enum lend_status check_range_locked(struct lend_agent *agent, const struct seat *seat,
                                           uint32_t flags, struct lend_region **out_host,
                                           struct lend_error *error)
{
    const struct lend_memory *memory = &seat->item->memory;
    uint64_t start = memory->address, end = end_of(memory);
    const struct lend_range_entry *entry;
    size_t position = SIZE_MAX;

    *out_host = NULL;
    while ((entry = lend_range_index_next(&agent->ranges, start, end, &position)) != NULL) {
        struct lend_region *other = entry->value;

        if (other->id >= seat->before_id || !shares_space(&other->memory, memory))
            continue;
        if (entry->start <= start && entry->end >= end)
            *out_host = other;
        else if (!(entry->start >= start && entry->end <= end) &&
                 (flags & LEND_REGION_ALLOW_OVERLAP) == 0)
            return lend_fail(error, LEND_E_OVERLAP,
                             "0x%llx + %llu overlaps region %s (%llu) at 0x%llx + %llu in part",
                             (unsigned long long)start, (unsigned long long)memory->length_bytes,
                             other->name, (unsigned long long)other->id,
                             (unsigned long long)other->memory.address,
                             (unsigned long long)other->memory.length_bytes);
    }
    return LEND_OK;
}

enum { REGISTRATION_TAG = 1 }; /* that it is live: nobody has a handle to it */

static struct lend_registration *make_registration(struct lend_agent *agent,
                                                   struct lend_verify *item)
{
    struct lend_registration *made = lend_pool_take(&agent->registrations, REGISTRATION_TAG);

    if (made != NULL) {
        made->address = item->memory.address;
        made->length_bytes = item->memory.length_bytes;
        made->buffer_id = item->buffer_id;
        made->device = item->device;
        item->device = NULL;
    }
    return made;
}

/* Give it a registration of its own, or another's. Its range is not entered here. */
static enum lend_status take_seat_locked(struct lend_region *region, const struct seat *seat,
                                         struct lend_error *error)
{
    struct lend_region *host;

    enum lend_status status = check_range_locked(region->agent, seat, region->flags, &host, error);
    if (status != LEND_OK)
        return status;

    bool is_shared = host != NULL && host->registration->buffer_id == seat->item->buffer_id;
    struct lend_registration *registration =
        is_shared ? host->registration : make_registration(region->agent, seat->item);
    if (registration == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    registration->references++;
    region->registration = registration;
    region->is_shared = is_shared;
    region->memory = seat->item->memory;
    region->memory.is_registered = 1;
    return LEND_OK;
}

enum lend_status lend_region_seat_locked(struct lend_region *region, struct lend_verify *item,
                                         struct lend_error *error)
{
    const struct seat seat = {.item = item, .before_id = UINT64_MAX};
    struct lend_range_index *ranges = &region->agent->ranges;

    enum lend_status status = lend_range_index_reserve(ranges, 1, error);
    if (status == LEND_OK)
        status = take_seat_locked(region, &seat, error);
    if (status == LEND_OK)
        lend_range_index_insert(ranges, item->memory.address, end_of(&item->memory), region);
    return status;
}

void lend_region_unseat_locked(struct lend_region *region)
{
    if (region->registration == NULL)
        return;
    lend_range_index_remove(&region->agent->ranges, region->memory.address, region);
    region->agent->places_stamp++;
    if (--region->registration->references == 0) {
        lend_device_release(region->registration->device);
        lend_pool_give(&region->agent->registrations, region->registration);
    }
    region->registration = NULL;
    region->is_shared = false;
}

static enum lend_status copy_tags(struct lend_region *region, const char *tags,
                                  struct lend_error *error)
{
    if (tags == NULL || tags[0] == '\0')
        return LEND_OK;

    size_t bytes = strlen(tags) + 1;
    region->tags = lend_sys->allocate(bytes);
    if (region->tags == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for tags");
    memcpy(region->tags, tags, bytes);
    return LEND_OK;
}

/* Free what a region owns, and itself; it is in no list any more. */
static void free_region_locked(struct lend_region *region)
{
    lend_region_unseat_locked(region);
    lend_file_detach_locked(region);
    lend_sys->release(region->tags);
    lend_pool_give(&region->agent->regions, region);
}

/* A region that is not yet among the others. */
static enum lend_status make_locked(struct lend_agent *agent, const struct lend_region_desc *desc,
                                    struct lend_region **out, struct lend_error *error)
{
    const char *name = desc->name != NULL ? desc->name : "";
    uint32_t hash = lend_region_name_hash(name);

    enum lend_status status = check_name_locked(agent, name, hash, error);
    if (status != LEND_OK)
        return status;
    if (agent->regions.live_count == agent->config.regions_max)
        return lend_fail(error, LEND_E_LIMIT, "the agent has %u regions (regions_max)",
                         agent->config.regions_max);

    struct lend_region *region = lend_pool_take(&agent->regions, LEND_TAG_REGION);
    if (region == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a region");
    region->agent = agent;
    region->memory = desc->memory;
    region->geometry = desc->geometry;
    region->access = desc->access;
    region->flags = desc->flags;
    region->owner = desc->owner;
    lend_list_init(&region->parts);
    region->name_hash = hash;
    memcpy(region->name, name, strlen(name) + 1); /* its length was checked */

    status = lend_geometry_complete(&region->geometry, desc->memory.length_bytes, error);
    if (status == LEND_OK)
        status = copy_tags(region, desc->tags, error);
    if (status != LEND_OK) {
        free_region_locked(region);
        return status;
    }
    *out = region;
    return LEND_OK;
}

static enum lend_status reserve_locked(struct lend_agent *agent, uint32_t count,
                                       struct lend_error *error)
{
    enum lend_status status = lend_region_table_reserve(&agent->table, count, error);

    return status == LEND_OK ? lend_range_index_reserve(&agent->ranges, count, error) : status;
}

static void insert_locked(struct lend_agent *agent, struct lend_region *region)
{
    lend_region_table_insert(&agent->table, region);
    LEND_STATISTICS_ADD_LOCKED(agent, regions, 1);
    LEND_STATISTICS_ADD_LOCKED(agent, region_bytes, region->memory.length_bytes);
}

void lend_region_remove_locked(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;

    lend_region_table_remove(&agent->table, region);
    LEND_STATISTICS_ADD_LOCKED(agent, regions, -1);
    LEND_STATISTICS_ADD_LOCKED(agent, region_bytes, 0 - region->memory.length_bytes);
    if (atomic_load_explicit(&region->is_withdrawn, memory_order_relaxed))
        LEND_STATISTICS_ADD_LOCKED(agent, regions_withdrawn, -1);
    free_region_locked(region);
}

/* Room for a call that registers few, so that it need not be allocated. */
enum { FEW = 4 };
struct few {
    struct lend_verify items[FEW];
    struct lend_region *made[FEW];
    struct lend_range_entry entries[FEW];
    struct lend_sorted places[2 * FEW];
};

/* What one call works with. */
struct batch {
    struct lend_agent *agent;
    const struct lend_region_desc *descs;
    uint32_t count;
    int32_t *results; /* the caller's; may be NULL */
    void *room;       /* owned, for what follows; NULL: they are few */
    struct lend_verify *items;
    struct lend_wanted_files wanted;
    struct lend_region **made;
    uint32_t made_count;
    struct lend_range_entry *entries; /* room for the ranges of all, */
    struct lend_sorted *places;       /* and to sort them */
};

/* Make the regions, up to the first that cannot be made. */
static enum lend_status make_all_locked(struct batch *batch, struct lend_error *error)
{
    enum lend_status status = reserve_locked(batch->agent, batch->count, error);

    while (status == LEND_OK && batch->made_count < batch->count) {
        struct lend_region *region = NULL;

        status = make_locked(batch->agent, &batch->descs[batch->made_count], &region, error);
        if (status == LEND_OK) {
            insert_locked(batch->agent, region);
            batch->made[batch->made_count++] = region;
        }
    }
    return status;
}

/* Put those that were made among the others: their ranges all at once, then each beside those that
 * come before it, up to the first that may not be there: *out_at. */
static enum lend_status seat_all_locked(struct batch *batch, uint32_t *out_at,
                                        struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; i < batch->made_count; i++) {
        struct lend_region *region = batch->made[i];

        batch->entries[i] = (struct lend_range_entry){
            .start = region->memory.address, .end = end_of(&region->memory), .value = region};
    }
    lend_range_index_insert_all(&batch->agent->ranges, batch->entries, batch->places,
                                batch->made_count);
    for (uint32_t i = 0; status == LEND_OK && i < batch->made_count; i++) {
        const struct seat seat = {
            .item = &batch->items[i],
            .before_id = batch->made[i]->id,
        };

        *out_at = i;
        status = take_seat_locked(batch->made[i], &seat, error);
        if (status == LEND_OK && batch->wanted.of != NULL && batch->wanted.of[i] != NULL)
            status = lend_file_attach_locked(batch->made[i], batch->wanted.of[i],
                                             batch->descs[i].share_offset_bytes, error);
    }
    return status;
}

static void take_back_locked(struct batch *batch)
{
    while (batch->made_count > 0) {
        struct lend_region *region = batch->made[--batch->made_count];

        if (region->registration == NULL) /* its range is there already, all the same */
            lend_range_index_remove(&batch->agent->ranges, region->memory.address, region);
        lend_region_remove_locked(region);
    }
}

/* All, or none: *out_failed is the first that cannot be, in the caller's order. */
static enum lend_status enter_all(struct batch *batch, uint32_t *out_failed,
                                  struct lend_error *error)
{
    struct lend_error why;

    (void)pthread_mutex_lock(&batch->agent->lock);
    enum lend_status status = make_all_locked(batch, error);
    *out_failed = batch->made_count;
    enum lend_status earlier = seat_all_locked(batch, out_failed, &why);
    if (earlier != LEND_OK) {
        status = earlier;
        *error = why;
    } else if (status != LEND_OK) {
        *out_failed = batch->made_count;
    }
    if (status == LEND_OK) {
        batch->agent->serial++;
        lend_files_share_locked(batch->agent);
    } else {
        take_back_locked(batch);
    }
    (void)pthread_mutex_unlock(&batch->agent->lock);
    return status;
}

/* --- registering: the whole --- */

static enum lend_status fail_at(const struct batch *batch, uint32_t at, enum lend_status status,
                                const struct lend_error *why, struct lend_error *error)
{
    const char *name = batch->descs[at].name;

    if (batch->results != NULL)
        batch->results[at] = status;
    if (error != NULL) {
        *error = *why;
        (void)lend_fail(error, status, "region %u (%.63s): %.160s", at,
                        name != NULL && text_is_good(name, LEND_REGION_NAME_BYTES_MAX) ? name : "",
                        why->message);
        error->sys_errno = why->sys_errno;
        error->device_code = why->device_code;
    }
    return status;
}

/* Of all items, tell of those that failed; the first. */
static enum lend_status tell_items(struct batch *batch, struct lend_error *error)
{
    enum lend_status first = LEND_OK;

    for (uint32_t i = 0; i < batch->count; i++) {
        const struct lend_verify *item = &batch->items[i];

        if (item->status == LEND_OK)
            continue;
        (void)fail_at(batch, i, item->status, &item->error, first == LEND_OK ? error : NULL);
        first = first == LEND_OK ? item->status : first;
    }
    return first;
}

/* Every description, its memory, and the file behind that: all results, and the first failure. */
static enum lend_status check_all(struct batch *batch, struct lend_error *error)
{
    enum lend_status first = LEND_OK;
    struct lend_error why;

    for (uint32_t i = 0; i < batch->count; i++) {
        enum lend_status status = check_desc(&batch->descs[i], &why);

        if (status != LEND_OK) {
            (void)fail_at(batch, i, status, &why, first == LEND_OK ? error : NULL);
            first = first == LEND_OK ? status : first;
        }
        batch->items[i].memory = batch->descs[i].memory;
        batch->items[i].device = NULL; /* that is given back, whatever comes */
        batch->items[i].wants_device = true;
        batch->items[i].needs_write = (batch->descs[i].access & LEND_ACCESS_WRITE) != 0;
    }
    if (first != LEND_OK)
        return first;

    (void)lend_memory_verify(&batch->agent->maps, batch->items, batch->count);
    /* Asked last: of memory that nothing moves yet, what is wrong with it is told first. */
    for (uint32_t i = 0; i < batch->count; i++)
        lend_region_check_item(batch->agent, &batch->items[i]);
    first = tell_items(batch, error);
    if (first != LEND_OK)
        return first;
    if (lend_files_want(batch->descs, batch->items, batch->count, &batch->wanted) == LEND_OK)
        return LEND_OK;
    return tell_items(batch, error);
}

/* Let foreign peers reach those whose owners allow it: all, or none of the batch is registered. */
static enum lend_status expose_all(struct batch *batch, uint32_t *out_failed,
                                   struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < batch->count; i++) {
        *out_failed = i;
        status = lend_foreign_expose(batch->made[i], error);
    }
    if (status != LEND_OK) {
        for (uint32_t i = 0; i < batch->count; i++)
            lend_foreign_take_back(batch->made[i]);
        (void)pthread_mutex_lock(&batch->agent->lock);
        take_back_locked(batch);
        (void)pthread_mutex_unlock(&batch->agent->lock);
    }
    return status;
}

/* Arrays of as many as there are, to be filled. False: no memory. */
static bool take_room(struct batch *batch, struct few *few)
{
    size_t count = batch->count;

    if (count <= FEW) {
        batch->items = few->items;
        batch->made = few->made;
        batch->entries = few->entries;
        batch->places = few->places;
        return true;
    }
    batch->room =
        lend_sys->allocate_dirty(count * (sizeof *batch->items + sizeof(struct lend_region *) +
                                          sizeof *batch->entries + 2 * sizeof *batch->places));
    if (batch->room == NULL)
        return false;
    /* All are aligned as pointers are, whatever comes first. */
    batch->items = batch->room;
    batch->entries = (void *)(batch->items + count);
    batch->places = (void *)(batch->entries + count);
    batch->made = (void *)(batch->places + 2 * count);
    return true;
}

static enum lend_status register_batch(struct batch *batch, struct few *few,
                                       struct lend_error *error)
{
    struct lend_error why;
    uint32_t failed;

    if (!take_room(batch, few))
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to register %u regions", batch->count);
    enum lend_status status = check_all(batch, error);
    if (status != LEND_OK)
        return status;
    status = enter_all(batch, &failed, &why);
    if (status == LEND_OK)
        status = expose_all(batch, &failed, &why);
    if (status != LEND_OK)
        return fail_at(batch, failed, status, &why, error);
    lend_rail_expose_all(batch->agent, batch->made, batch->count);
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->descs[i].memory.kind == LEND_MEMORY_DEVICE) {
            lend_freed_watch(batch->agent);
            break;
        }
    return LEND_OK;
}

enum lend_status lend_region_register(struct lend_agent *agent,
                                      const struct lend_region_desc *descs, uint32_t count,
                                      struct lend_region **out, int32_t *results,
                                      struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (descs == NULL || out == NULL || count == 0)
        return lend_fail(error, LEND_E_INVALID, "descs or out is NULL, or count (%u) is 0", count);
    if (count > agent->config.regions_max)
        return lend_fail(error, LEND_E_LIMIT, "%u regions, over regions_max (%u)", count,
                         agent->config.regions_max);

    struct few few;
    struct batch batch = {.agent = agent, .descs = descs, .count = count, .results = results};
    if (results != NULL)
        memset(results, 0, count * sizeof *results);
    status = register_batch(&batch, &few, error);
    for (uint32_t i = 0; status == LEND_OK && i < count; i++) {
        const struct lend_owner *owner = &descs[i].owner;

        if (owner->retain != NULL)
            owner->retain(owner->token);
        out[i] = batch.made[i];
    }
    lend_files_drop(&batch.wanted);
    for (uint32_t i = 0; batch.items != NULL && i < count; i++)
        lend_device_release(batch.items[i].device); /* of those that share a registration */
    lend_sys->release(batch.room);
    return status;
}

void lend_regions_fini(struct lend_agent *agent, bool tell_owners)
{
    uint64_t id = 0;

    for (struct lend_region *region;
         (region = lend_region_table_next(&agent->table, id)) != NULL;) {
        struct lend_owner owner = region->owner;

        id = region->id;

        lend_region_remove_locked(region);
        if (tell_owners && owner.release != NULL)
            owner.release(owner.token);
    }
    lend_region_table_fini(&agent->table);
    lend_range_index_fini(&agent->ranges);
    lend_pool_fini(&agent->regions);
    lend_pool_fini(&agent->registrations);
}

/* --- describing --- */

enum lend_status lend_region_describe(const struct lend_region *region,
                                      struct lend_region_info *out, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;
    status = lend_struct_check(out, "lend_region_info", sizeof *out, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&region->agent->lock);
    *out = (struct lend_region_info){
        .struct_size = sizeof *out,
        .access = region->access,
        .id = region->id,
        .memory = region->memory,
        .geometry = region->geometry,
        .is_withdrawn = atomic_load(&region->is_withdrawn),
        .is_suspended = region->is_suspended,
        .flags = region->flags,
        .life = region->life,
        .is_shared = region->is_shared,
    };
    (void)pthread_mutex_unlock(&region->agent->lock);
    memcpy(out->name, region->name, sizeof out->name);
    if (region->tags != NULL)
        (void)snprintf(out->tags, sizeof out->tags, "%s", region->tags);
    return LEND_OK;
}

enum lend_status lend_region_memory(const struct lend_region *region, struct lend_memory *out,
                                    struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;
    if (out == NULL)
        return lend_fail(error, LEND_E_INVALID, "out is NULL");
    (void)pthread_mutex_lock(&region->agent->lock);
    *out = region->memory;
    (void)pthread_mutex_unlock(&region->agent->lock);
    return LEND_OK;
}

uint64_t lend_region_id(const struct lend_region *region)
{
    return lend_handle_check(region, LEND_TAG_REGION, NULL) == LEND_OK ? region->id : 0;
}
