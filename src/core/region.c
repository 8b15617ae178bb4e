/* SPDX-License-Identifier: Apache-2.0 */
#include "core/region.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "core/lease.h"
#include "core/transfer.h"
#include "memory/verify.h"

#include <stdio.h>
#include <string.h>

#define LOOK_AGAIN_NS UINT64_C(20000)

void lend_region_desc_init(struct lend_region_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_region_desc)LEND_REGION_DESC_INIT;
}

/* --- lookups --- */

struct lend_region *lend_region_find_locked(struct lend_agent *agent, uint64_t id)
{
    uint32_t low = 0, high = agent->region_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (agent->regions_by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < agent->region_count && agent->regions_by_id[low]->id == id
               ? agent->regions_by_id[low]
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

static enum lend_status check_desc(const struct lend_region_desc *desc, struct lend_error *error)
{
    const struct lend_memory *memory = &desc->memory;

    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_region_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    if (memory->struct_size != sizeof *memory)
        return lend_fail(
            error, LEND_E_INVALID,
            "its memory was not described: call lend_memory_system() or another of its kind");
    if ((desc->flags & ~(uint32_t)LEND_REGION_ALLOW_OVERLAP) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", desc->flags);
    if ((desc->access & ~(uint32_t)(LEND_ACCESS_READ | LEND_ACCESS_WRITE)) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown access 0x%x", desc->access);
    if (memory->kind < LEND_MEMORY_SYSTEM || memory->kind > LEND_MEMORY_DISK)
        return lend_fail(error, LEND_E_INVALID, "unknown kind of memory %u", memory->kind);
    if (!text_is_good(desc->name, LEND_REGION_NAME_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "its name must have at most %d printable bytes",
                         LEND_REGION_NAME_BYTES_MAX);
    if (!text_is_good(desc->tags, LEND_REGION_TAGS_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "its tags must have at most %d printable bytes",
                         LEND_REGION_TAGS_BYTES_MAX);
    if (memory->length_bytes == 0 || memory->length_bytes > LEND_MEMORY_BYTES_MAX ||
        memory->address > UINT64_MAX - memory->length_bytes ||
        (memory->address == 0 && memory->kind != LEND_MEMORY_DISK))
        return lend_fail(
            error, LEND_E_INVALID, "memory 0x%llx + %llu bytes is empty, null or wraps",
            (unsigned long long)memory->address, (unsigned long long)memory->length_bytes);

    struct lend_geometry geometry = desc->geometry;
    return lend_geometry_complete(&geometry, memory->length_bytes, error);
}

static enum lend_status check_moves(const struct lend_agent *agent, uint32_t kind,
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
                                           const struct lend_region_desc *desc,
                                           struct lend_region **out_host, struct lend_error *error)
{
    uint64_t start = desc->memory.address, end = end_of(&desc->memory);
    const struct lend_range_entry *entry;
    size_t position = SIZE_MAX;

    *out_host = NULL;
    while ((entry = lend_range_index_next(&agent->ranges, start, end, &position)) != NULL) {
        struct lend_region *other = entry->value;

        if (!shares_space(&other->memory, &desc->memory))
            continue;
        if (entry->start <= start && entry->end >= end)
            *out_host = other;
        else if (!(entry->start >= start && entry->end <= end) &&
                 (desc->flags & LEND_REGION_ALLOW_OVERLAP) == 0)
            return lend_fail(error, LEND_E_OVERLAP,
                             "0x%llx + %llu overlaps region %s (%llu) at 0x%llx + %llu in part",
                             (unsigned long long)start,
                             (unsigned long long)desc->memory.length_bytes, other->name,
                             (unsigned long long)other->id,
                             (unsigned long long)other->memory.address,
                             (unsigned long long)other->memory.length_bytes);
    }
    return LEND_OK;
}

static enum lend_status share_registration(struct lend_region *region, struct lend_region *host,
                                           uint64_t buffer_id, struct lend_error *error)
{
    if (host != NULL && host->registration->buffer_id == buffer_id) {
        region->registration = host->registration;
        region->registration->references++;
        region->is_shared = true;
        return LEND_OK;
    }
    region->registration = lend_sys->allocate(sizeof *region->registration);
    if (region->registration == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    *region->registration = (struct lend_registration){
        .address = region->memory.address,
        .length_bytes = region->memory.length_bytes,
        .buffer_id = buffer_id,
        .references = 1,
    };
    return LEND_OK;
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

/* Free what a region owns, and itself; it is in no table any more. */
static void free_region_locked(struct lend_region *region)
{
    if (region->registration != NULL && --region->registration->references == 0)
        lend_sys->release(region->registration);
    lend_sys->release(region->tags);
    lend_pool_give(&region->agent->regions, region);
}

static enum lend_status make_locked(struct lend_agent *agent, const struct lend_region_desc *desc,
                                    uint64_t buffer_id, struct lend_region **out,
                                    struct lend_error *error)
{
    struct lend_region *host;

    enum lend_status status = check_name_locked(agent, desc->name, error);
    if (status != LEND_OK)
        return status;
    status = check_range_locked(agent, desc, &host, error);
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
    region->memory.is_registered = 1;
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
        status = share_registration(region, host, buffer_id, error);
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

static void insert_locked(struct lend_agent *agent, struct lend_region *region)
{
    region->id = agent->region_next_id++;
    agent->regions_by_id[agent->region_count++] = region;
    lend_range_index_insert(&agent->ranges, region->memory.address, end_of(&region->memory),
                            region);
    if (region->name[0] != '\0') {
        struct lend_region **head = &agent->names[lend_name_hash(region->name)];

        region->next_by_name = *head;
        *head = region;
    }
}

static void remove_locked(struct lend_agent *agent, struct lend_region *region)
{
    uint32_t at = 0;

    while (agent->regions_by_id[at] != region)
        at++;
    agent->region_count--;
    memmove(&agent->regions_by_id[at], &agent->regions_by_id[at + 1],
            (agent->region_count - at) * sizeof(struct lend_region *));
    lend_range_index_remove(&agent->ranges, region->memory.address, region);
    if (region->name[0] != '\0') {
        struct lend_region **link = &agent->names[lend_name_hash(region->name)];

        while (*link != region)
            link = &(*link)->next_by_name;
        *link = region->next_by_name;
    }
}

/* All, or none: the first that fails takes back those before it. */
static enum lend_status enter_all(struct lend_agent *agent, const struct lend_region_desc *descs,
                                  const struct lend_verify *items, uint32_t count,
                                  struct lend_region **out, uint32_t *out_failed,
                                  struct lend_error *error)
{
    uint32_t made = 0;

    *out_failed = 0;
    (void)pthread_mutex_lock(&agent->lock);
    enum lend_status status = reserve_locked(agent, count, error);
    while (status == LEND_OK && made < count) {
        struct lend_region *region = NULL;

        status = make_locked(agent, &descs[made], items[made].buffer_id, &region, error);
        if (status == LEND_OK) {
            insert_locked(agent, region);
            out[made++] = region;
        }
    }
    if (status == LEND_OK) {
        agent->serial++;
    } else {
        *out_failed = made;
        while (made > 0) {
            remove_locked(agent, out[--made]);
            free_region_locked(out[made]);
            out[made] = NULL;
        }
    }
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

/* --- registering: the whole --- */

/* What one call works with. */
struct batch {
    struct lend_agent *agent;
    const struct lend_region_desc *descs;
    uint32_t count;
    int32_t *results; /* the caller's; may be NULL */
    struct lend_verify *items;
    struct lend_region **made;
};

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

/* Every description and its memory: all results, and the first failure. */
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
            item->status = check_moves(batch->agent, item->memory.kind, &item->error);
        if (item->status != LEND_OK) {
            (void)fail_at(batch, i, item->status, &item->error, first == LEND_OK ? error : NULL);
            first = first == LEND_OK ? item->status : first;
        }
    }
    return first;
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
    status = enter_all(batch->agent, batch->descs, batch->items, batch->count, batch->made, &failed,
                       &why);
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
    lend_sys->release(batch.items);
    lend_sys->release(batch.made);
    return status;
}

/* --- withdrawing --- */

/* Who holds the region still: LEND_E_BUSY with a name, or LEND_OK. */
static enum lend_status find_holder_locked(const struct lend_region *region,
                                           struct lend_error *error)
{
    for (struct lend_list *link = region->parts.next; link != &region->parts; link = link->next) {
        const struct lend_lease_part *part = LEND_LIST_OWNER(link, struct lend_lease_part, link);
        const struct lend_lease *lease = part->lease;

        if (lease->is_live)
            return lend_fail(error, LEND_E_BUSY,
                             "region %s (%llu): lease %u.%llx of %s lives; last used by %s",
                             region->name, (unsigned long long)region->id, lease->slot,
                             (unsigned long long)lease->generation,
                             lease->has_peer ? lease->info.peer : "any bearer",
                             lease->info.last_user[0] != '\0' ? lease->info.last_user : "nobody");
        /* Acquire: what the copy stored is there before the owner frees the memory. */
        if (atomic_load_explicit(&part->lease->pins, memory_order_seq_cst) > 0)
            return lend_fail(error, LEND_E_BUSY,
                             "region %s (%llu): a copy for %s under lease %u.%llx is under way",
                             region->name, (unsigned long long)region->id, lease->info.last_user,
                             lease->slot, (unsigned long long)lease->generation);
    }
    return lend_transfers_check_idle_locked(region, error);
}

static enum lend_status find_holder(struct lend_region *region, struct lend_error *error)
{
    (void)pthread_mutex_lock(&region->agent->lock);
    enum lend_status status = find_holder_locked(region, error);
    (void)pthread_mutex_unlock(&region->agent->lock);
    return status;
}

enum lend_status lend_region_withdraw(struct lend_region *region, uint32_t mode,
                                      uint64_t timeout_ns, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;
    if (mode != LEND_WITHDRAW_DRAIN && mode != LEND_WITHDRAW_FORCE)
        return lend_fail(error, LEND_E_INVALID, "unknown mode %u of withdrawing", mode);

    struct lend_agent *agent = region->agent;
    uint64_t until = lend_deadline(lend_sys->now_ns(), timeout_ns);
    (void)pthread_mutex_lock(&agent->lock);
    /* Sequentially consistent: a post that does not see this is seen by find_holder(). */
    if (!atomic_exchange_explicit(&region->is_withdrawn, true, memory_order_seq_cst))
        agent->serial++;
    (void)pthread_mutex_unlock(&agent->lock);
    if (mode == LEND_WITHDRAW_FORCE) {
        (void)lend_leases_revoke(region, NULL);
        lend_transfers_abort(region);
        lend_agent_dispatch(agent);
    }

    struct lend_error why;
    while (find_holder(region, &why) != LEND_OK) {
        uint64_t now = lend_sys->now_ns();
        if (now >= until) {
            if (error != NULL)
                *error = why;
            return LEND_E_BUSY;
        }
        uint64_t left = until - now;
        (void)lend_poller_progress(&agent->poller, left < LOOK_AGAIN_NS ? left : LOOK_AGAIN_NS);
    }
    return LEND_OK;
}

enum lend_status lend_region_deregister(struct lend_region *region, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(region, LEND_TAG_REGION, error);

    if (status != LEND_OK)
        return status;

    struct lend_agent *agent = region->agent;
    struct lend_owner owner = region->owner;
    (void)pthread_mutex_lock(&agent->lock);
    status = find_holder_locked(region, error);
    if (status == LEND_OK) {
        /* Sequentially consistent, as in withdraw: a post that prepared it must not begin. */
        atomic_store_explicit(&region->is_withdrawn, true, memory_order_seq_cst);
        status = lend_transfers_check_idle_locked(region, error);
    }
    if (status == LEND_OK) {
        while (!lend_list_is_empty(&region->parts)) {
            struct lend_lease_part *part =
                LEND_LIST_OWNER(region->parts.next, struct lend_lease_part, link);

            lend_list_remove(&part->link);
            part->region = NULL;
        }
        remove_locked(agent, region);
        free_region_locked(region);
        agent->serial++;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (status == LEND_OK && owner.release != NULL)
        owner.release(owner.token);
    return status;
}

void lend_regions_fini(struct lend_agent *agent, bool tell_owners)
{
    while (agent->region_count > 0) {
        struct lend_region *region = agent->regions_by_id[agent->region_count - 1];
        struct lend_owner owner = region->owner;

        remove_locked(agent, region);
        free_region_locked(region);
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
    *out = (struct lend_region_info){
        .struct_size = sizeof *out,
        .access = region->access,
        .id = region->id,
        .memory = region->memory,
        .geometry = region->geometry,
        .is_withdrawn = atomic_load(&region->is_withdrawn),
        .is_shared = region->is_shared,
    };
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
    *out = region->memory;
    return LEND_OK;
}

uint64_t lend_region_id(const struct lend_region *region)
{
    return lend_handle_check(region, LEND_TAG_REGION, NULL) == LEND_OK ? region->id : 0;
}
