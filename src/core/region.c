/* SPDX-License-Identifier: Apache-2.0 */
#include "core/region.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "core/share.h"
#include "memory/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ORDER_FROM = 256 }; /* regions in one call, to be entered by address */

void lend_region_desc_init(struct lend_region_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_region_desc)LEND_REGION_DESC_INIT;
}

/* --- lookups --- */

/* Where the region with that id is among all, or would be. */
static uint32_t place_of_locked(const struct lend_agent *agent, uint64_t id)
{
    uint32_t low = 0, high = agent->region_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (agent->regions_by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct lend_region *lend_region_find_locked(struct lend_agent *agent, uint64_t id)
{
    uint32_t at = place_of_locked(agent, id);

    return at < agent->region_count && agent->regions_by_id[at]->id == id ? agent->regions_by_id[at]
                                                                          : NULL;
}

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
                           LEND_REGION_PUNCH_OUT | LEND_REGION_PREFER_CROSS_MEMORY;

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

    struct lend_geometry geometry = desc->geometry;
    return lend_geometry_complete(&geometry, desc->memory.length_bytes, error);
}

enum lend_status lend_region_check_moves(const struct lend_agent *agent, uint32_t kind,
                                         struct lend_error *error)
{
    for (uint32_t i = 0; i < agent->transport_count; i++)
        if ((agent->transports[i].ops->kinds >> kind & 1) != 0)
            return LEND_OK;
    return lend_fail(error, LEND_E_UNSUPPORTED, "no open transport moves memory of kind %u", kind);
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

static enum lend_status check_name_locked(struct lend_agent *agent, const char *name,
                                          struct lend_error *error)
{
    if (name == NULL || name[0] == '\0')
        return LEND_OK;
    for (struct lend_region *region = agent->names[lend_name_hash(name)]; region != NULL;
         region = region->next_by_name)
        if (strcmp(region->name, name) == 0)
            return lend_fail(error, LEND_E_INVALID, "the name %s is taken by region %llu", name,
                             (unsigned long long)region->id);
    return LEND_OK;
}

/* Look at the regions in the same range: one to share the registration of, or an overlap to refuse.
 */
static enum lend_status check_range_locked(struct lend_agent *agent,
                                           const struct lend_memory *memory, uint32_t flags,
                                           struct lend_region **out_host, struct lend_error *error)
{
    uint64_t start = memory->address, end = end_of(memory);
    const struct lend_range_entry *entry;
    size_t position = SIZE_MAX;

    *out_host = NULL;
    while ((entry = lend_range_index_next(&agent->ranges, start, end, &position)) != NULL) {
        struct lend_region *other = entry->value;

        if (!shares_space(&other->memory, memory))
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

static struct lend_registration *make_registration(const struct lend_memory *memory,
                                                   uint64_t buffer_id)
{
    struct lend_registration *made = lend_sys->allocate(sizeof *made);

    if (made != NULL)
        *made = (struct lend_registration){
            .address = memory->address,
            .length_bytes = memory->length_bytes,
            .buffer_id = buffer_id,
        };
    return made;
}

enum lend_status lend_region_seat_locked(struct lend_region *region,
                                         const struct lend_memory *memory, uint64_t buffer_id,
                                         struct lend_error *error)
{
    struct lend_agent *agent = region->agent;
    struct lend_region *host;

    enum lend_status status = check_range_locked(agent, memory, region->flags, &host, error);
    if (status == LEND_OK)
        status = lend_range_index_reserve(&agent->ranges, 1, error);
    if (status != LEND_OK)
        return status;

    bool is_shared = host != NULL && host->registration->buffer_id == buffer_id;
    struct lend_registration *registration =
        is_shared ? host->registration : make_registration(memory, buffer_id);
    if (registration == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    registration->references++;
    region->registration = registration;
    region->is_shared = is_shared;
    region->memory = *memory;
    region->memory.is_registered = 1;
    lend_range_index_insert(&agent->ranges, memory->address, end_of(memory), region);
    return LEND_OK;
}

void lend_region_unseat_locked(struct lend_region *region)
{
    if (region->registration == NULL)
        return;
    lend_range_index_remove(&region->agent->ranges, region->memory.address, region);
    if (--region->registration->references == 0)
        lend_sys->release(region->registration);
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

static enum lend_status make_locked(struct lend_agent *agent, const struct lend_region_desc *desc,
                                    uint64_t buffer_id, struct lend_region **out,
                                    struct lend_error *error)
{
    enum lend_status status = check_name_locked(agent, desc->name, error);
    if (status != LEND_OK)
        return status;
    if (agent->regions.live_count == agent->config.regions_max)
        return lend_fail(error, LEND_E_LIMIT, "the agent has %u regions (regions_max)",
                         agent->config.regions_max);

    struct lend_region *region = lend_pool_take(&agent->regions, LEND_TAG_REGION);
    if (region == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a region");
    region->agent = agent;
    region->geometry = desc->geometry;
    region->access = desc->access;
    region->flags = desc->flags;
    region->owner = desc->owner;
    lend_list_init(&region->parts);
    if (desc->name != NULL)
        (void)snprintf(region->name, sizeof region->name, "%s", desc->name);

    status = lend_geometry_complete(&region->geometry, desc->memory.length_bytes, error);
    if (status == LEND_OK)
        status = copy_tags(region, desc->tags, error);
    if (status == LEND_OK)
        status = lend_region_seat_locked(region, &desc->memory, buffer_id, error);
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
    if (count > agent->region_capacity - agent->region_count) {
        uint32_t wanted = agent->region_count + count;
        uint32_t capacity =
            agent->region_capacity * 2 > wanted ? agent->region_capacity * 2 : wanted;
        struct lend_region **grown = lend_sys->allocate(capacity * sizeof(struct lend_region *));

        if (grown == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a table of %u regions",
                             capacity);
        for (uint32_t i = 0; i < agent->region_count; i++)
            grown[i] = agent->regions_by_id[i];
        lend_sys->release(agent->regions_by_id);
        agent->regions_by_id = grown;
        agent->region_capacity = capacity;
    }
    return lend_range_index_reserve(&agent->ranges, count, error);
}

static void link_name_locked(struct lend_region *region)
{
    struct lend_region **head = &region->agent->names[lend_name_hash(region->name)];

    if (region->name[0] == '\0')
        return;
    region->next_by_name = *head;
    *head = region;
}

/* Undo all that was made of it, but for its place among the ids. */
static void drop_locked(struct lend_region *region)
{
    if (region->name[0] != '\0') {
        struct lend_region **link = &region->agent->names[lend_name_hash(region->name)];

        while (*link != region)
            link = &(*link)->next_by_name;
        *link = region->next_by_name;
    }
    free_region_locked(region);
}

/* Give it its place among the ids, of which its own is the last. */
static void list_locked(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;

    agent->regions_by_id[agent->region_count++] = region;
    LEND_STATISTICS_ADD_LOCKED(agent, regions, 1);
    LEND_STATISTICS_ADD_LOCKED(agent, region_bytes, region->memory.length_bytes);
}

void lend_region_remove_locked(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;
    uint32_t at = place_of_locked(agent, region->id);

    LEND_INVARIANT(at < agent->region_count && agent->regions_by_id[at] == region);
    agent->region_count--;
    memmove(&agent->regions_by_id[at], &agent->regions_by_id[at + 1],
            (agent->region_count - at) * sizeof(struct lend_region *));
    LEND_STATISTICS_ADD_LOCKED(agent, regions, -1);
    LEND_STATISTICS_ADD_LOCKED(agent, region_bytes, 0 - region->memory.length_bytes);
    if (atomic_load_explicit(&region->is_withdrawn, memory_order_relaxed))
        LEND_STATISTICS_ADD_LOCKED(agent, regions_withdrawn, -1);
    drop_locked(region);
}

/* What one call works with. */
struct batch {
    struct lend_agent *agent;
    const struct lend_region_desc *descs;
    uint32_t count;
    int32_t *results; /* the caller's; may be NULL */
    struct lend_verify *items;
    struct lend_wanted_files wanted;
    struct lend_region **made;
};

static enum lend_status enter_locked(struct batch *batch, uint32_t at, struct lend_error *error)
{
    struct lend_file *file = batch->wanted.of != NULL ? batch->wanted.of[at] : NULL;
    const struct lend_region_desc *desc = &batch->descs[at];
    struct lend_region *region = NULL;

    enum lend_status status =
        make_locked(batch->agent, desc, batch->items[at].buffer_id, &region, error);
    if (status != LEND_OK)
        return status;
    if (file != NULL)
        status = lend_file_attach_locked(region, file, desc->share_offset_bytes, error);
    if (status != LEND_OK) {
        free_region_locked(region);
        return status;
    }
    region->id = batch->agent->region_next_id + at; /* in the caller's order */
    link_name_locked(region);
    batch->made[at] = region;
    return LEND_OK;
}

static int by_address(const void *one, const void *other, void *context)
{
    const struct lend_region_desc *descs = context;
    uint32_t left = *(const uint32_t *)one, right = *(const uint32_t *)other;
    uint64_t a = descs[left].memory.address, b = descs[right].memory.address;

    if (a != b)
        return a < b ? -1 : 1;
    return left < right ? -1 : left > right; /* equal ones in the caller's order */
}

/*
 * The order in which to enter many: by address, so that the index of ranges, which is an array,
 * grows at its end. NULL: as they come, which is also the way of a few, and for lack of memory.
 */
static uint32_t *order_of(const struct batch *batch)
{
    uint32_t *order =
        batch->count >= ORDER_FROM ? lend_sys->allocate(batch->count * sizeof *order) : NULL;

    if (order == NULL)
        return NULL;
    for (uint32_t i = 0; i < batch->count; i++)
        order[i] = i;
    qsort_r(order, batch->count, sizeof *order, by_address, (void *)(uintptr_t)batch->descs);
    return order;
}

static enum lend_status enter_each_locked(struct batch *batch, uint32_t *out_failed,
                                          struct lend_error *error)
{
    uint32_t *order = order_of(batch);
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < batch->count; i++) {
        uint32_t at = order != NULL ? order[i] : i;

        status = enter_locked(batch, at, error);
        *out_failed = at;
    }
    lend_sys->release(order);
    return status;
}

/* All, or none: the first that fails takes back those before it. */
static enum lend_status enter_all(struct batch *batch, uint32_t *out_failed,
                                  struct lend_error *error)
{
    struct lend_agent *agent = batch->agent;

    *out_failed = 0;
    (void)pthread_mutex_lock(&agent->lock);
    enum lend_status status = reserve_locked(agent, batch->count, error);
    if (status == LEND_OK)
        status = enter_each_locked(batch, out_failed, error);
    for (uint32_t i = 0; i < batch->count; i++) {
        if (status == LEND_OK) {
            list_locked(batch->made[i]);
        } else if (batch->made[i] != NULL) {
            drop_locked(batch->made[i]);
            batch->made[i] = NULL;
        }
    }
    if (status == LEND_OK) {
        agent->region_next_id += batch->count;
        agent->serial++;
        lend_files_share_locked(agent);
    }
    (void)pthread_mutex_unlock(&agent->lock);
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
        batch->items[i].needs_write = (batch->descs[i].access & LEND_ACCESS_WRITE) != 0;
    }
    if (first != LEND_OK)
        return first;

    (void)lend_memory_verify(batch->items, batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct lend_verify *item = &batch->items[i];

        /* Asked last: of memory that nothing moves yet, what is wrong with it is told first. */
        if (item->status == LEND_OK)
            item->status = lend_region_check_moves(batch->agent, item->memory.kind, &item->error);
    }
    first = tell_items(batch, error);
    if (first != LEND_OK)
        return first;
    if (lend_files_want(batch->descs, batch->items, batch->count, &batch->wanted) == LEND_OK)
        return LEND_OK;
    return tell_items(batch, error);
}

static enum lend_status register_batch(struct batch *batch, struct lend_error *error)
{
    struct lend_error why = {0};
    uint32_t failed;

    batch->items = lend_sys->allocate(batch->count * sizeof *batch->items);
    batch->made = lend_sys->allocate(batch->count * sizeof(struct lend_region *));
    if (batch->items == NULL || batch->made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to register %u regions", batch->count);
    enum lend_status status = check_all(batch, error);
    if (status != LEND_OK)
        return status;
    status = enter_all(batch, &failed, &why);
    if (status != LEND_OK)
        return fail_at(batch, failed, status, &why, error);
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

    struct batch batch = {.agent = agent, .descs = descs, .count = count, .results = results};
    if (results != NULL)
        memset(results, 0, count * sizeof *results);
    status = register_batch(&batch, error);
    for (uint32_t i = 0; status == LEND_OK && i < count; i++) {
        const struct lend_owner *owner = &descs[i].owner;

        if (owner->retain != NULL)
            owner->retain(owner->token);
        out[i] = batch.made[i];
    }
    lend_files_drop(&batch.wanted);
    lend_sys->release(batch.items);
    lend_sys->release(batch.made);
    return status;
}

void lend_regions_fini(struct lend_agent *agent, bool tell_owners)
{
    while (agent->region_count > 0) {
        struct lend_region *region = agent->regions_by_id[agent->region_count - 1];
        struct lend_owner owner = region->owner;

        lend_region_remove_locked(region);
        if (tell_owners && owner.release != NULL)
            owner.release(owner.token);
    }
    lend_sys->release(agent->regions_by_id);
    agent->regions_by_id = NULL;
    lend_range_index_fini(&agent->ranges);
    lend_pool_fini(&agent->regions);
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
