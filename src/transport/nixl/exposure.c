/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/engine.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/* What NIXL agents are told of us, and what of our memory they may reach. */

/* --- on the helper --- */

static struct lend_nixl_exposure *find_locked(struct lend_nixl_engine *engine, uint64_t region_id)
{
    for (struct lend_list *link = engine->exposures.next; link != &engine->exposures;
         link = link->next) {
        struct lend_nixl_exposure *exposure =
            LEND_LIST_OWNER(link, struct lend_nixl_exposure, link);

        if (exposure->it.region_id == region_id)
            return exposure;
    }
    return NULL;
}

static void drop_locked(struct lend_nixl_exposure *exposure)
{
    lend_list_remove(&exposure->link);
    lend_sys->release(exposure);
}

/* The next that NIXL has not been given in this life, as a copy. */
static bool next_missing(struct lend_nixl_engine *engine, struct lend_exposure *out)
{
    bool found = false;

    lend_nixl_lock(engine);
    for (struct lend_list *link = engine->exposures.next; link != &engine->exposures && !found;
         link = link->next) {
        struct lend_nixl_exposure *exposure =
            LEND_LIST_OWNER(link, struct lend_nixl_exposure, link);

        if (!exposure->is_leaving && exposure->registered_life != engine->life) {
            exposure->registered_life = engine->life;
            *out = exposure->it;
            found = true;
        }
    }
    lend_nixl_unlock(engine);
    return found;
}

enum lend_status lend_nixl_expose_all(struct lend_nixl_engine *engine, struct lend_error *error)
{
    struct lend_exposure it;

    while (next_missing(engine, &it)) {
        if (lend_nixl_engine_register(engine, it.address, it.length_bytes, true))
            continue;
        lend_nixl_lock(engine);
        struct lend_nixl_exposure *exposure = find_locked(engine, it.region_id);
        if (exposure != NULL)
            exposure->registered_life = 0;
        lend_nixl_unlock(engine);
        return lend_fail(error, LEND_E_DEVICE, "NIXL does not register 0x%llx + %llu",
                         (unsigned long long)it.address, (unsigned long long)it.length_bytes);
    }
    return LEND_OK;
}

/* What is to be done about one that leaves. */
enum leaving { NONE, FORGET, DEREGISTER, END_LIFE };

static enum leaving next_leaving(struct lend_nixl_engine *engine, struct lend_exposure *out)
{
    enum leaving what = NONE;

    lend_nixl_lock(engine);
    for (struct lend_list *link = engine->exposures.next;
         link != &engine->exposures && what == NONE; link = link->next) {
        struct lend_nixl_exposure *exposure =
            LEND_LIST_OWNER(link, struct lend_nixl_exposure, link);
        bool is_alive = engine->nixl != NULL;

        if (!exposure->is_leaving)
            continue;
        if (!is_alive || exposure->registered_life != engine->life)
            what = FORGET;
        else if (exposure->told_life != engine->life)
            what = DEREGISTER;
        else if (exposure->by_force)
            what = END_LIFE;
        *out = exposure->it;
    }
    lend_nixl_unlock(engine);
    return what;
}

bool lend_nixl_conceal_leaving(struct lend_nixl_engine *engine)
{
    struct lend_exposure it = {0};
    bool moved = false;

    for (enum leaving what; (what = next_leaving(engine, &it)) != NONE; moved = true) {
        /* What NIXL does not give back is not quiet before all of it has ended. */
        bool must_end = what == END_LIFE ||
                        (what == DEREGISTER &&
                         !lend_nixl_engine_register(engine, it.address, it.length_bytes, false));
        if (must_end)
            lend_nixl_engine_end_life(engine, "our NIXL agent was closed, to take memory back");
        lend_nixl_lock(engine);
        struct lend_nixl_exposure *exposure = find_locked(engine, it.region_id);
        if (exposure != NULL)
            drop_locked(exposure);
        lend_nixl_unlock(engine);
    }
    return moved;
}

static enum lend_status run_expose(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                   struct lend_error *error)
{
    (void)call;
    enum lend_status status = lend_nixl_engine_live(engine, error);
    return status == LEND_OK ? lend_nixl_expose_all(engine, error) : status;
}

/* From now on peers may know of all that is exposed. */
static void mark_told(struct lend_nixl_engine *engine)
{
    lend_nixl_lock(engine);
    for (struct lend_list *link = engine->exposures.next; link != &engine->exposures;
         link = link->next)
        LEND_LIST_OWNER(link, struct lend_nixl_exposure, link)->told_life = engine->life;
    lend_nixl_unlock(engine);
}

static enum lend_status run_tell(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                 struct lend_error *error)
{
    void *bytes = NULL;
    size_t count = 0;

    enum lend_status status = run_expose(engine, call, error);
    if (status != LEND_OK)
        return status;
    (void)lend_nixl_conceal_leaving(engine);
    if (engine->nixl == NULL) /* which was the end of it */
        status = run_expose(engine, call, error);
    if (status != LEND_OK)
        return status;
    lend_nixl_result result = engine->door.metadata_get(engine->nixl, &bytes, &count);
    if (result != LEND_NIXL_OK)
        return lend_fail(error, LEND_E_DEVICE, "NIXL tells no metadata (%d)", result);
    mark_told(engine);
    call->bytes = lend_sys->allocate(count);
    if (call->bytes == NULL) {
        status = lend_fail(error, LEND_E_NO_MEMORY, "no memory for metadata of %zu bytes", count);
    } else {
        memcpy(call->bytes, bytes, count);
        call->byte_count = count;
    }
    engine->door.free(bytes);
    return status;
}

/* --- from any thread --- */

static enum lend_status find(const char *library, struct lend_nixl_library *out,
                             struct lend_error *error)
{
    struct lend_nixl_library found;
    enum lend_status status = lend_nixl_load(library, NULL, &found, error);

    *out = found;
    return status;
}

static enum lend_status tell(void *object, void *bytes, size_t capacity, size_t *out_count,
                             struct lend_error *error)
{
    struct lend_nixl_call *call = NULL;

    enum lend_status status = lend_nixl_call_create(&call, error);
    if (status != LEND_OK)
        return status;
    call->run = run_tell;
    status = lend_nixl_engine_call(object, call, error);
    if (status == LEND_E_TIMEOUT)
        return status;
    if (status == LEND_OK) {
        *out_count = call->byte_count;
        if (call->byte_count > capacity)
            status = lend_fail(error, LEND_E_LIMIT,
                               "the metadata takes %zu bytes, there is room for %zu",
                               call->byte_count, capacity);
        else
            memcpy(bytes, call->bytes, call->byte_count);
    }
    lend_nixl_call_free(call);
    return status;
}

static struct lend_metadata_region *copy_regions(const struct lend_foreign_peer *peer)
{
    size_t bytes = peer->region_count * sizeof *peer->regions;
    struct lend_metadata_region *copy = lend_sys->allocate(bytes > 0 ? bytes : 1);

    if (copy == NULL)
        return NULL;
    if (bytes > 0)
        memcpy(copy, peer->regions, bytes);
    for (uint32_t i = 0; i < peer->region_count; i++)
        copy[i].name = copy[i].tags = ""; /* the caller's, and of no use here */
    return copy;
}

static enum lend_status meet(void *object, const struct lend_foreign_peer *peer,
                             struct lend_foreign_identity *out, struct lend_error *error)
{
    struct lend_nixl_call *call = NULL;

    enum lend_status status = lend_nixl_call_create(&call, error);
    if (status != LEND_OK)
        return status;
    call->run = lend_nixl_meet;
    call->bytes = lend_sys->allocate(peer->byte_count);
    call->regions = copy_regions(peer);
    if (call->bytes == NULL || call->regions == NULL) {
        lend_nixl_call_free(call);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for metadata of %zu bytes",
                         peer->byte_count);
    }
    memcpy(call->bytes, peer->bytes, peer->byte_count);
    call->byte_count = peer->byte_count;
    call->region_count = peer->region_count;
    status = lend_nixl_engine_call(object, call, error);
    if (status == LEND_E_TIMEOUT)
        return status;
    if (status == LEND_OK)
        *out = call->identity;
    lend_nixl_call_free(call);
    return status;
}

static enum lend_status enter_locked(struct lend_nixl_engine *engine,
                                     const struct lend_exposure *wanted, struct lend_error *error)
{
    for (struct lend_list *link = engine->exposures.next; link != &engine->exposures;
         link = link->next) {
        const struct lend_exposure *other =
            &LEND_LIST_OWNER(link, struct lend_nixl_exposure, link)->it;

        if (wanted->address < other->address + other->length_bytes &&
            other->address < wanted->address + wanted->length_bytes)
            return lend_fail(error, LEND_E_OVERLAP,
                             "0x%llx + %llu overlaps region %llu, which NIXL has too, and NIXL "
                             "finds no memory that was registered twice",
                             (unsigned long long)wanted->address,
                             (unsigned long long)wanted->length_bytes,
                             (unsigned long long)other->region_id);
    }
    struct lend_nixl_exposure *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to have a region exposed");
    made->it = *wanted;
    lend_list_append(&engine->exposures, &made->link);
    return LEND_OK;
}

static void conceal(void *object, uint64_t region_id, bool by_force)
{
    struct lend_nixl_engine *engine = object;

    lend_nixl_lock(engine);
    struct lend_nixl_exposure *exposure = find_locked(engine, region_id);
    if (exposure != NULL && (!exposure->is_leaving || by_force > exposure->by_force)) {
        exposure->is_leaving = true;
        exposure->by_force |= by_force;
        lend_nixl_engine_kick(engine);
    }
    lend_nixl_unlock(engine);
}

static enum lend_status expose(void *object, const struct lend_exposure *wanted,
                               struct lend_error *error)
{
    struct lend_nixl_engine *engine = object;
    struct lend_nixl_call *call = NULL;

    enum lend_status status = lend_nixl_call_create(&call, error);
    if (status != LEND_OK)
        return status;
    call->run = run_expose;
    lend_nixl_lock(engine);
    status = enter_locked(engine, wanted, error);
    lend_nixl_unlock(engine);
    if (status != LEND_OK) {
        lend_nixl_call_free(call);
        return status;
    }
    status = lend_nixl_engine_call(engine, call, error);
    if (status != LEND_E_TIMEOUT)
        lend_nixl_call_free(call);
    if (status != LEND_OK)
        conceal(engine, wanted->region_id, false);
    return status;
}

static bool is_exposed(void *object, uint64_t region_id, char *who, size_t capacity)
{
    struct lend_nixl_engine *engine = object;

    lend_nixl_lock(engine);
    const struct lend_nixl_exposure *exposure = find_locked(engine, region_id);
    bool is_told = exposure != NULL && exposure->told_life != 0;
    bool by_force = exposure != NULL && exposure->by_force;
    lend_nixl_unlock(engine);
    if (exposure == NULL)
        return false;
    (void)snprintf(who, capacity, "%s",
                   by_force ? "our NIXL agent is being closed"
                   : is_told
                       ? "NIXL agents that were given our NIXL metadata may reach it, and NIXL "
                         "cannot take that back: only LEND_WITHDRAW_FORCE does, which closes our "
                         "NIXL agent"
                       : "NIXL is giving it back");
    return true;
}

void lend_nixl_exposures_fini(struct lend_nixl_engine *engine)
{
    for (struct lend_list *link; (link = lend_list_take_first(&engine->exposures)) != NULL;)
        lend_sys->release(LEND_LIST_OWNER(link, struct lend_nixl_exposure, link));
}

const struct lend_foreign_ops lend_nixl_foreign = {
    .find = find,
    .tell = tell,
    .meet = meet,
    .expose = expose,
    .conceal = conceal,
    .is_exposed = is_exposed,
};
