/* SPDX-License-Identifier: Apache-2.0 */
#include "core/freed.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/lease.h"
#include "core/rail.h"
#include "core/region.h"
#include "core/share.h"
#include "core/transfer.h"

enum { BUFFERS_MAX = 256 }; /* that one look asks for; the next goes on behind them */

uint64_t lend_freed_look_ns = UINT64_C(1000000000);

struct look {
    uint32_t skipped; /* of those that are there, */
    uint32_t count;   /* and taken */
    struct {
        uint64_t address;
        uint64_t id;
    } buffers[BUFFERS_MAX];
};

void lend_freed_watch(struct lend_agent *agent)
{
    uint64_t at = lend_deadline(lend_sys->now_ns(), lend_freed_look_ns);

    (void)pthread_mutex_lock(&agent->lock);
    if (at < agent->freed_look_at_ns)
        agent->freed_look_at_ns = at;
    at = agent->freed_look_at_ns;
    (void)pthread_mutex_unlock(&agent->lock);
    lend_poller_timer(&agent->poller, at);
}

/* Memory of a GPU that is lent, and not known to have been freed; else NULL. */
static const struct lend_device_memory *watched_of(const struct lend_region *region)
{
    if (region == NULL || atomic_load(&region->is_freed) || atomic_load(&region->is_withdrawn))
        return NULL;
    return lend_region_device(region);
}

static bool is_noted(const struct look *look, uint64_t id)
{
    for (uint32_t i = 0; i < look->count; i++)
        if (look->buffers[i].id == id)
            return true;
    return false;
}

/* False: there is no more room. */
static bool note(struct look *look, const struct lend_device_memory *memory, uint32_t skip)
{
    uint64_t address = memory->start;

    for (uint32_t i = 0; i < memory->buffer_count; i++) {
        if (look->skipped < skip) {
            look->skipped++;
        } else if (!is_noted(look, memory->buffers[i].id)) {
            if (look->count == BUFFERS_MAX)
                return false;
            look->buffers[look->count].address = address;
            look->buffers[look->count++].id = memory->buffers[i].id;
        }
        address = memory->buffers[i].end;
    }
    return true;
}

/* What there is to ask for now. */
static void gather_locked(struct lend_agent *agent, struct look *look)
{
    bool is_all = true;

    look->count = look->skipped = 0;
    for (uint32_t i = 0; is_all && i < agent->table.place_count; i++) {
        const struct lend_device_memory *memory = watched_of(agent->table.places[i].region);

        if (memory != NULL)
            is_all = note(look, memory, agent->freed_looked);
    }
    agent->freed_looked = is_all ? 0 : agent->freed_looked + BUFFERS_MAX;
}

static void end_leases_locked(struct lend_region *region)
{
    struct lend_slots *slots = &region->agent->slots;
    struct lend_list *next;

    for (struct lend_list *link = region->parts.next; link != &region->parts; link = next) {
        struct lend_lease *lease = LEND_LIST_OWNER(link, struct lend_lease_part, link)->lease;

        next = link->next;
        if (!lease->is_live)
            continue;
        lend_lease_end_locked(lease, LEND_SLOT_REVOKED);
        lease->info.status = LEND_E_STALE;
        lend_slots_note(slots, lease->slot, region->id);
        next = region->parts.next; /* its parts may have gone, this one and others */
    }
    lend_slots_outdate(slots, region->id);
}

static bool has_buffer(const struct lend_device_memory *memory, uint64_t id)
{
    for (uint32_t i = 0; i < memory->buffer_count; i++)
        if (memory->buffers[i].id == id)
            return true;
    return false;
}

/* Keys of NICs end with the memory: of a lease for writing when that is told of, and then those of
 * the region. False: there are some left. */
static bool conceal_locked(struct lend_region *region)
{
    struct lend_error why;

    for (struct lend_list *link = region->parts.next; link != &region->parts; link = link->next)
        if (atomic_load(&LEND_LIST_OWNER(link, struct lend_lease_part, link)->lease->keys) > 0)
            return false;
    return lend_transfers_check_idle_locked(region, &why) == LEND_OK &&
           lend_rail_conceal_locked(region, &why) == LEND_OK;
}

/* The same of all that was freed. True: it is to be looked at again. */
static bool conceal_all_locked(struct lend_agent *agent)
{
    bool are_left = false;

    for (uint32_t i = 0; i < agent->table.place_count; i++) {
        struct lend_region *region = agent->table.places[i].region;

        if (region != NULL && region->is_on_rail && atomic_load(&region->is_freed) &&
            !atomic_load(&region->is_withdrawn))
            are_left |= !conceal_locked(region);
    }
    return are_left;
}

/* That allocation is no more. */
static void end_all(struct lend_agent *agent, uint64_t id, const struct lend_error *why)
{
    (void)pthread_mutex_lock(&agent->lock);
    for (uint32_t i = 0; i < agent->table.place_count; i++) {
        struct lend_region *region = agent->table.places[i].region;
        const struct lend_device_memory *memory = watched_of(region);

        if (memory == NULL || !has_buffer(memory, id))
            continue;
        /* Sequentially consistent, as is_withdrawn is: no post that it does not see begins. */
        atomic_store(&region->is_freed, true);
        end_leases_locked(region);
        lend_file_close_locked(region);
        if (region->is_on_rail)
            (void)conceal_locked(region); /* else the next look does */
        lend_agent_log(agent, LEND_LOG_WARNING, "region %s (%llu) is lent no more: %s",
                       region->name, (unsigned long long)region->id, why->message);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

uint64_t lend_freed_look(struct lend_agent *agent, uint64_t now_ns)
{
    struct look look;

    (void)pthread_mutex_lock(&agent->lock);
    uint64_t at = agent->freed_look_at_ns;
    if (at <= now_ns) {
        gather_locked(agent, &look);
        bool are_left = conceal_all_locked(agent);
        at = look.count > 0 || look.skipped > 0 || are_left
                 ? lend_deadline(now_ns, lend_freed_look_ns)
                 : UINT64_MAX;
        agent->freed_look_at_ns = at;
    } else {
        look.count = 0;
    }
    (void)pthread_mutex_unlock(&agent->lock);

    for (uint32_t i = 0; i < look.count; i++) {
        struct lend_error why;

        /* A driver that fails says nothing of the memory. */
        if (lend_device_check(look.buffers[i].address, look.buffers[i].id, &why) == LEND_E_STALE)
            end_all(agent, look.buffers[i].id, &why);
    }
    return at;
}
