/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/*
 * Regions as the NICs know them. Each is registered by itself: so that withdrawing one ends the
 * keys of no other.
 */

enum { BUCKETS_FIRST = 64 };

static struct lend_verbs_exposure **bucket_of(const struct lend_verbs_station *station, uint64_t id)
{
    return &station->buckets[id & (station->bucket_count - 1)];
}

static struct lend_verbs_exposure **find_locked(const struct lend_verbs_station *station,
                                                uint64_t id)
{
    struct lend_verbs_exposure **at;

    if (station->bucket_count == 0)
        return NULL;
    for (at = bucket_of(station, id); *at != NULL; at = &(*at)->next)
        if ((*at)->what.region_id == id)
            return at;
    return NULL;
}

/* Room for one more; without memory the buckets are longer, or there are none. */
static bool grow_locked(struct lend_verbs_station *station)
{
    uint32_t before = station->bucket_count;
    uint32_t count = before == 0 ? (uint32_t)BUCKETS_FIRST : before * 2;

    if (station->exposure_count < before)
        return true;
    struct lend_verbs_exposure **old = station->buckets;
    struct lend_verbs_exposure **made = lend_sys->allocate(count * sizeof(void *));
    if (made == NULL)
        return before > 0;
    station->buckets = made;
    station->bucket_count = count;
    for (uint32_t i = 0; i < before; i++)
        for (struct lend_verbs_exposure *it = old[i], *next; it != NULL; it = next) {
            next = it->next;
            it->next = *bucket_of(station, it->what.region_id);
            *bucket_of(station, it->what.region_id) = it;
        }
    lend_sys->release(old);
    return true;
}

/* Of memory of a GPU: what of these rights there can be. What nothing makes visible to the GPU does
 * not come in by a NIC. */
static uint32_t limit_rights(struct lend_verbs_station *station,
                             struct lend_verbs_exposure *exposure, uint32_t rights)
{
    struct lend_lane *lane = exposure->what.lane;
    struct lend_error *why = &exposure->why_not;

    if (lend_lane_check_remote_writes(lane, why) != LEND_OK)
        rights &= ~(uint32_t)(LEND_VERBS_MAY_WRITE | LEND_VERBS_MAY_LAND);
    if ((rights & LEND_VERBS_MAY_WRITE) != 0 &&
        lend_verbs_gpu_enter(station, lane, &exposure->gpu, why) != LEND_OK)
        rights &= ~(uint32_t)LEND_VERBS_MAY_WRITE;
    if (why->status != LEND_OK)
        lend_agent_log(station->agent, LEND_LOG_WARNING,
                       "region %llu is not written by transport verbs: %s",
                       (unsigned long long)exposure->what.region_id, why->message);
    return rights;
}

/* How the NICs are to know it: no more than what is lent, though a GPU's allocation may be more. In
 * that may be other things, which nobody has lent, and regions that are withdrawn by themselves. */
static struct lend_verbs_memory memory_of(struct lend_verbs_station *station,
                                          struct lend_verbs_exposure *exposure)
{
    const struct lend_exposure *what = &exposure->what;
    uint32_t rights = LEND_VERBS_MAY_LAND;

    rights |= (what->access & LEND_ACCESS_READ) != 0 ? (uint32_t)LEND_VERBS_MAY_READ : 0;
    rights |= (what->access & LEND_ACCESS_WRITE) != 0 ? (uint32_t)LEND_VERBS_MAY_WRITE : 0;
    struct lend_verbs_memory memory = {.address = what->address,
                                       .bytes = what->length_bytes,
                                       .kind = LEND_MEMORY_SYSTEM,
                                       .rights = rights};
    if (what->lane == NULL)
        return memory;
    memory.kind = LEND_MEMORY_DEVICE;
    memory.device = what->lane->ordinal;
    lend_verbs_gpu_locate(station, what->lane);
    lend_verbs_gpu_try(station, what->lane);
    memory.rights = limit_rights(station, exposure, rights);
    return memory;
}

/* One that cannot be landed in, as it is not writable, may still be read. */
static enum lend_status take(struct lend_verbs_station *station,
                             struct lend_verbs_exposure *exposure, struct lend_error *error)
{
    struct lend_verbs_memory memory = memory_of(station, exposure);
    uint32_t lent = memory.rights & (uint32_t)LEND_VERBS_MAY_READ;
    struct lend_error first = {0};

    exposure->lands = (memory.rights & LEND_VERBS_MAY_LAND) != 0;
    if (memory.rights == 0) {
        if (error != NULL)
            *error = exposure->why_not;
        return (enum lend_status)exposure->why_not.status;
    }

    enum lend_status status =
        lend_verbs_region_register(station->store, &memory, &exposure->region, &first);
    if (lent != 0 && (status == LEND_E_MEMORY || status == LEND_E_SYSTEM)) {
        memory.rights = lent;
        exposure->lands = false;
        exposure->why_not = first;
        if (lend_verbs_region_register(station->store, &memory, &exposure->region, NULL) == LEND_OK)
            return LEND_OK;
    }
    if (status != LEND_OK && error != NULL)
        *error = first;
    return status;
}

enum lend_status lend_verbs_expose(void *transport, const struct lend_exposure *what,
                                   struct lend_error *error)
{
    struct lend_verbs_station *station = transport;
    struct lend_verbs_exposure *exposure = lend_sys->allocate(sizeof *exposure);
    struct lend_error why = {0};

    if (exposure == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to note a region");
    exposure->what = *what;
    enum lend_status status = take(station, exposure, &why);
    exposure->why = why;

    (void)pthread_mutex_lock(&station->lock);
    bool has_room = grow_locked(station);
    if (has_room) {
        exposure->next = *bucket_of(station, what->region_id);
        *bucket_of(station, what->region_id) = exposure;
        station->exposure_count++;
    }
    (void)pthread_mutex_unlock(&station->lock);
    if (!has_room) {
        if (exposure->region != NULL)
            (void)lend_verbs_region_release(exposure->region, NULL);
        lend_sys->release(exposure);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to note a region");
    }
    lend_verbs_touch(station);
    if (status != LEND_OK && error != NULL)
        *error = why;
    return status;
}

void lend_verbs_conceal(void *transport, uint64_t region_id)
{
    struct lend_verbs_station *station = transport;

    (void)pthread_mutex_lock(&station->lock);
    struct lend_verbs_exposure **at = find_locked(station, region_id);
    struct lend_verbs_exposure *exposure = at != NULL ? *at : NULL;
    /* The fence: no NIC reaches the memory once this says OK. */
    if (exposure != NULL &&
        (exposure->region == NULL ||
         lend_verbs_region_withdraw(exposure->region, &exposure->why) == LEND_OK)) {
        *at = exposure->next;
        station->exposure_count--;
        if (exposure->region != NULL)
            (void)lend_verbs_region_release(exposure->region, NULL); /* withdrawn, so it is free */
        lend_sys->release(exposure);
    }
    (void)pthread_mutex_unlock(&station->lock);
    lend_verbs_touch(station);
}

bool lend_verbs_is_exposed(void *transport, uint64_t region_id, char *who, size_t capacity)
{
    struct lend_verbs_station *station = transport;

    (void)pthread_mutex_lock(&station->lock);
    struct lend_verbs_exposure **at = find_locked(station, region_id);
    if (at != NULL)
        (void)snprintf(who, capacity, "%s", (*at)->why.message);
    (void)pthread_mutex_unlock(&station->lock);
    return at != NULL;
}

const void *lend_verbs_ours(struct lend_rail *base, uint64_t region_id, bool lands,
                            struct lend_error *why)
{
    struct lend_verbs_station *station = lend_verbs_rail_of(base)->station;
    struct lend_verbs_region *region = NULL;

    (void)pthread_mutex_lock(&station->lock);
    struct lend_verbs_exposure **at = find_locked(station, region_id);
    if (at != NULL)
        region = (*at)->region;
    if (region == NULL) {
        (void)lend_fail(why, LEND_E_NO_PATH, "region %llu of ours is known to no NIC: %.180s",
                        (unsigned long long)region_id, at != NULL ? (*at)->why.message : "");
    } else if (lands && !(*at)->lands) {
        (void)lend_fail(why, LEND_E_NO_PATH, "no NIC may write to region %llu of ours: %.180s",
                        (unsigned long long)region_id, (*at)->why_not.message);
        region = NULL;
    }
    (void)pthread_mutex_unlock(&station->lock);
    return region;
}

struct lend_verbs_region *lend_verbs_find(struct lend_verbs_station *station, uint64_t region_id,
                                          uint32_t *out_gpu)
{
    (void)pthread_mutex_lock(&station->lock);
    struct lend_verbs_exposure **at = find_locked(station, region_id);
    struct lend_verbs_region *region = at != NULL ? (*at)->region : NULL;
    *out_gpu = at != NULL ? (*at)->gpu : 0;
    (void)pthread_mutex_unlock(&station->lock);
    return region;
}

/* Every piece of it, as that NIC has it. */
static bool list_pieces(const struct lend_verbs_region *region, uint32_t nic,
                        const struct lend_exposure *what, struct lend_verbs_told *out)
{
    for (uint64_t done = 0; done < what->length_bytes;) {
        struct lend_verbs_keys keys;

        if (out->piece_count == LEND_VERBS_PIECES_MAX ||
            !lend_verbs_region_keys(region, nic, what->address + done, what->length_bytes - done,
                                    &keys))
            return false;
        out->pieces[out->piece_count++] = (struct lend_verbs_piece){
            .address = keys.address, .bytes = keys.bytes, .rkey = keys.rkey};
        done += keys.bytes;
    }
    return true;
}

bool lend_verbs_describe(struct lend_verbs_station *station, uint64_t region_id, uint32_t nic,
                         struct lend_verbs_told *out)
{
    (void)pthread_mutex_lock(&station->lock);
    struct lend_verbs_exposure **at = find_locked(station, region_id);
    bool is_there = at != NULL && (*at)->region != NULL;
    if (is_there) {
        *out = (struct lend_verbs_told){
            .region_id = region_id,
            .life = (*at)->what.life,
            .distance = lend_verbs_gpu_distance(station, nic, (*at)->what.lane)};
        is_there = list_pieces((*at)->region, nic, &(*at)->what, out);
    }
    (void)pthread_mutex_unlock(&station->lock);
    return is_there;
}

void lend_verbs_exposures_fini(struct lend_verbs_station *station, bool forked)
{
    struct lend_error why;

    for (uint32_t i = 0; i < station->bucket_count; i++)
        for (struct lend_verbs_exposure *it = station->buckets[i], *next; it != NULL; it = next) {
            next = it->next;
            if (!forked && it->region != NULL &&
                lend_verbs_region_release(it->region, &why) != LEND_OK)
                lend_agent_log(station->agent, LEND_LOG_ERROR, "region %llu stays pinned: %s",
                               (unsigned long long)it->what.region_id, why.message);
            lend_sys->release(it);
        }
    lend_sys->release(station->buckets);
    station->buckets = NULL;
    station->bucket_count = 0;
}
