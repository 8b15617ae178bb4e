/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/engine.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/* How long the helper looks again and again after something has moved, how long it then looks
 * often, and how often: NIXL agents that reach our memory by themselves need that as much as we do,
 * and what they do is not told to us. */
#define SPIN_NS       UINT64_C(200000)
#define OFTEN_NS      UINT64_C(20000000)
#define LOOK_OFTEN_NS UINT64_C(100000)
#define LOOK_NS       UINT64_C(1000000)
#define IDLE_NS       UINT64_C(1000000000) /* there is no NIXL agent to look after */

/* --- calls --- */

enum lend_status lend_nixl_call_create(struct lend_nixl_call **out, struct lend_error *error)
{
    struct lend_nixl_call *call = lend_sys->allocate(sizeof *call);

    if (call == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to ask NIXL");
    lend_list_init(&call->link);
    call->status = LEND_PENDING;
    *out = call;
    return LEND_OK;
}

void lend_nixl_call_free(struct lend_nixl_call *call)
{
    if (call == NULL)
        return;
    lend_sys->release(call->bytes);
    lend_sys->release(call->regions);
    lend_sys->release(call);
}

void lend_nixl_engine_kick(struct lend_nixl_engine *engine)
{
    (void)pthread_cond_signal(&engine->work);
}

enum lend_status lend_nixl_engine_call(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                       struct lend_error *error)
{
    uint64_t now = lend_sys->now_ns(), until = now + engine->timeout_ns;

    lend_nixl_lock(engine);
    lend_list_append(&engine->calls, &call->link);
    lend_nixl_engine_kick(engine);
    for (; call->status == LEND_PENDING && now < until; now = lend_sys->now_ns())
        lend_sys->wait(&engine->done, &engine->lock, until - now);
    enum lend_status status = call->status;
    call->is_abandoned = status == LEND_PENDING;
    if (status != LEND_OK && status != LEND_PENDING && error != NULL)
        *error = call->error;
    lend_nixl_unlock(engine);
    if (status == LEND_PENDING)
        return lend_fail(error, LEND_E_TIMEOUT, "NIXL has not answered within %llu ms",
                         (unsigned long long)(engine->timeout_ns / 1000000));
    return status;
}

static void end_call(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                     enum lend_status status)
{
    lend_nixl_lock(engine);
    call->status = status;
    bool is_abandoned = call->is_abandoned;
    (void)pthread_cond_broadcast(&engine->done);
    lend_nixl_unlock(engine);
    if (is_abandoned)
        lend_nixl_call_free(call);
}

static bool run_calls(struct lend_nixl_engine *engine)
{
    bool moved = false;

    for (;;) {
        lend_nixl_lock(engine);
        struct lend_list *link = lend_list_take_first(&engine->calls);
        lend_nixl_unlock(engine);
        if (link == NULL)
            return moved;
        struct lend_nixl_call *call = LEND_LIST_OWNER(link, struct lend_nixl_call, link);

        end_call(engine, call, call->run(engine, call, &call->error));
        moved = true;
    }
}

/* --- a life --- */

static enum lend_status no(struct lend_error *error, const char *what, lend_nixl_result result)
{
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_DEVICE, "NIXL does not %s (%d); it says why on standard error",
                    what, result);
    why.device_code = result;
    if (error != NULL)
        *error = why;
    return LEND_E_DEVICE;
}

static enum lend_status make_backend(struct lend_nixl_engine *engine, struct lend_error *error)
{
    const struct lend_nixl_ops *door = &engine->door;
    void *params = NULL;

    lend_nixl_result result = door->params_create(&params);
    if (result != LEND_NIXL_OK)
        return no(error, "make a list of parameters", result);
    result = door->params_add(params, "engine_config", engine->settings);
    if (result == LEND_NIXL_OK)
        result = door->backend_create(engine->nixl, "UCX", params, &engine->backend);
    (void)door->params_destroy(params);
    if (result != LEND_NIXL_OK)
        return lend_fail(error, LEND_E_DEVICE,
                         "NIXL makes no backend UCX with %.100s (%d): is the device there, and up? "
                         "It says why on standard error",
                         engine->settings, result);
    return LEND_OK;
}

static void destroy_agent(struct lend_nixl_engine *engine)
{
    const struct lend_nixl_ops *door = &engine->door;

    if (engine->inbox != NULL)
        (void)door->notifications_destroy(engine->inbox);
    if (engine->backend != NULL)
        (void)door->backend_destroy(engine->backend);
    /* There is nothing that we could do about it: what it says it still has is never freed. */
    lend_nixl_result result = door->agent_destroy(engine->nixl);
    LEND_INVARIANT(result == LEND_NIXL_OK);
    engine->inbox = engine->backend = engine->nixl = NULL;
}

static enum lend_status make_agent(struct lend_nixl_engine *engine, struct lend_error *error)
{
    const struct lend_nixl_agent_config config = {.thread_sync = LEND_NIXL_SYNC_NONE};

    lend_nixl_result result = engine->door.agent_create(engine->name, &config, &engine->nixl);
    if (result != LEND_NIXL_OK) {
        engine->nixl = NULL;
        return no(error, "make an agent", result);
    }
    enum lend_status status = make_backend(engine, error);
    if (status == LEND_OK) {
        result = engine->door.notifications_create(&engine->inbox);
        if (result != LEND_NIXL_OK)
            status = no(error, "make a map for notifications", result);
    }
    if (status != LEND_OK)
        destroy_agent(engine);
    return status;
}

enum lend_status lend_nixl_engine_live(struct lend_nixl_engine *engine, struct lend_error *error)
{
    if (engine->nixl != NULL)
        return LEND_OK;

    enum lend_status status = make_agent(engine, error);
    if (status != LEND_OK)
        return status;
    engine->life++;
    return lend_nixl_expose_all(engine, error);
}

static void free_slab(struct lend_nixl_slab *slab)
{
    lend_list_remove(&slab->link);
    lend_sys->release(slab->memory);
    lend_sys->release(slab);
}

/* NIXL has none of them any more; channels may. */
static void free_slabs(struct lend_nixl_engine *engine)
{
    for (struct lend_list *link = engine->slabs.next, *next; link != &engine->slabs; link = next) {
        struct lend_nixl_slab *slab = LEND_LIST_OWNER(link, struct lend_nixl_slab, link);

        next = link->next;
        if (!slab->is_used)
            free_slab(slab);
    }
}

void lend_nixl_engine_end_life(struct lend_nixl_engine *engine, const char *reason)
{
    if (engine->nixl == NULL)
        return;
    lend_nixl_channels_end_life(engine, reason);
    destroy_agent(engine);
    free_slabs(engine);
}

bool lend_nixl_engine_register(struct lend_nixl_engine *engine, uint64_t address, uint64_t length,
                               bool is_wanted)
{
    const struct lend_nixl_ops *door = &engine->door;
    void *list = NULL;

    if (door->memory_list_create(LEND_NIXL_MEMORY_DRAM, &list) != LEND_NIXL_OK)
        return false;
    lend_nixl_result result =
        door->memory_list_add(list, (uintptr_t)address, (size_t)length, 0, NULL, 0);
    if (result == LEND_NIXL_OK)
        result = is_wanted ? door->memory_register(engine->nixl, list, NULL)
                           : door->memory_deregister(engine->nixl, list, NULL);
    (void)door->memory_list_destroy(list);
    return result == LEND_NIXL_OK;
}

/* --- slabs --- */

static struct lend_nixl_slab *make_slab(struct lend_nixl_engine *engine)
{
    struct lend_nixl_slab *slab = lend_sys->allocate(sizeof *slab);
    uint8_t *memory = lend_sys->allocate(LEND_NIXL_SLAB_BYTES);

    if (slab == NULL || memory == NULL ||
        !lend_nixl_engine_register(engine, (uintptr_t)memory, LEND_NIXL_SLAB_BYTES, true)) {
        lend_sys->release(slab);
        lend_sys->release(memory);
        return NULL;
    }
    slab->memory = memory;
    slab->life = engine->life;
    lend_list_append(&engine->slabs, &slab->link);
    return slab;
}

struct lend_nixl_slab *lend_nixl_slab_get(struct lend_nixl_engine *engine)
{
    struct lend_nixl_slab *found = NULL;

    for (struct lend_list *link = engine->slabs.next; link != &engine->slabs && found == NULL;
         link = link->next) {
        struct lend_nixl_slab *slab = LEND_LIST_OWNER(link, struct lend_nixl_slab, link);

        if (!slab->is_used && !slab->is_spoilt && slab->life == engine->life)
            found = slab;
    }
    if (found == NULL)
        found = make_slab(engine);
    if (found != NULL)
        found->is_used = true;
    return found;
}

void lend_nixl_slab_put(struct lend_nixl_engine *engine, struct lend_nixl_slab *slab)
{
    if (slab == NULL)
        return;
    slab->is_used = false;
    if (engine->nixl == NULL || slab->life != engine->life)
        free_slab(slab);
}

/* --- the helper --- */

static uint64_t pause_ns(const struct lend_nixl_engine *engine, uint64_t idle_ns)
{
    if (engine->nixl == NULL)
        return IDLE_NS;
    return idle_ns < OFTEN_NS ? LOOK_OFTEN_NS : LOOK_NS;
}

/* Wait for something to do, unless there is. True: it is all over. */
static bool await_work(struct lend_nixl_engine *engine, bool is_busy)
{
    uint64_t idle_ns = lend_sys->now_ns() - engine->busy_ns;

    lend_nixl_lock(engine);
    if (!is_busy && !engine->stops && lend_list_is_empty(&engine->calls) && idle_ns > SPIN_NS)
        lend_sys->wait(&engine->work, &engine->lock, pause_ns(engine, idle_ns));
    bool stops = engine->stops;
    lend_nixl_unlock(engine);
    if (is_busy)
        lend_sys->yield();
    return stops;
}

static void *help(void *context)
{
    struct lend_nixl_engine *engine = context;
    bool is_busy = false;

    do {
        bool moved = run_calls(engine);

        moved |= lend_nixl_conceal_leaving(engine);
        moved |= lend_nixl_channels_step(engine, &is_busy);
        moved |= lend_nixl_inbox_poll(engine);
        if (moved)
            engine->busy_ns = lend_sys->now_ns();
    } while (!await_work(engine, is_busy));
    (void)run_calls(engine); /* nobody is left waiting */
    lend_nixl_engine_end_life(engine, "the agent is closed");
    return NULL;
}

static enum lend_status come_alive(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                   struct lend_error *error)
{
    (void)call;
    return lend_nixl_engine_live(engine, error);
}

enum lend_status lend_nixl_engine_start(struct lend_nixl_engine *engine, struct lend_error *error)
{
    struct lend_nixl_call *call = NULL;

    enum lend_status status = lend_nixl_call_create(&call, error);
    if (status != LEND_OK)
        return status;
    int result = lend_sys->thread(&engine->thread, help, engine, "lend-nixl");
    if (result < 0) {
        lend_nixl_call_free(call);
        return lend_fail_errno(error, -result, "no thread for NIXL");
    }
    engine->has_thread = true;
    call->run = come_alive;
    status = lend_nixl_engine_call(engine, call, error);
    if (status != LEND_E_TIMEOUT)
        lend_nixl_call_free(call);
    return status;
}

void lend_nixl_engine_stop(struct lend_nixl_engine *engine)
{
    if (!engine->has_thread)
        return;
    lend_nixl_lock(engine);
    engine->stops = true;
    lend_nixl_engine_kick(engine);
    lend_nixl_unlock(engine);
    (void)pthread_join(engine->thread, NULL);
    engine->has_thread = false;
}
