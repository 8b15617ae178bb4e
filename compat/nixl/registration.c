/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdlib.h>

/*
 * Memory, registered and taken back. Each descriptor is a region of lend's, in the standing lease
 * of the agent from its registration on.
 */

enum {
    BATCH = 8192, /* descriptors that lend is told of at one time */
    FEW = 4,      /* for which nothing is allocated */
};

#define WITHDRAW_NS UINT64_C(5000000000)

const char *compat_type_name(nixl_capi_mem_type_t type)
{
    const char *name = "?";

    (void)nixl_capi_mem_type_to_string(type, &name);
    return name;
}

/* Nobody reaches it after that. */
static enum lend_status take_back(struct lend_region *region, struct lend_error *error)
{
    if (region == NULL)
        return LEND_OK;
    enum lend_status status = lend_region_deregister(region, error);
    if (status != LEND_E_BUSY)
        return status;
    status = lend_region_withdraw(region, LEND_WITHDRAW_FORCE, WITHDRAW_NS, error);
    return status == LEND_OK ? lend_region_deregister(region, error) : status;
}

/* --- registering --- */

/* What one call works with. */
struct registration {
    nixl_capi_agent_t agent;
    struct lend_agent *lend;
    const struct compat_descs *descs;
    struct lend_region **regions; /* one each; NULL for a descriptor of no bytes */
    size_t made;                  /* descriptors whose regions are there */
    size_t entered;               /* and that are in the index */
    struct lend_region_desc *batch;
    struct lend_region **batch_regions;
    int32_t *results;
};

static enum lend_status describe(nixl_capi_mem_type_t type, const struct compat_desc *desc,
                                 struct lend_region_desc *out, struct lend_error *error)
{
    *out = (struct lend_region_desc)LEND_REGION_DESC_INIT;
    out->flags = LEND_REGION_ALLOW_OVERLAP;
    out->access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    if (type == NIXL_CAPI_MEM_VRAM)
        return lend_memory_device(desc->address, desc->length_bytes,
                                  desc->device <= INT32_MAX ? (int32_t)desc->device : -1,
                                  &out->memory, error);
    return lend_memory_system((const void *)desc->address, desc->length_bytes, &out->memory, error);
}

/* Memory that is mapped read-only is lent for reading alone. True if there is any such. */
static bool narrow(struct registration *call, uint32_t count)
{
    bool is_narrower = false;

    for (uint32_t i = 0; i < count; i++) {
        if (call->results[i] == LEND_E_MEMORY && call->batch[i].access != LEND_ACCESS_READ) {
            call->batch[i].access = LEND_ACCESS_READ;
            is_narrower = true;
        }
    }
    return is_narrower;
}

/* Register the next batch of descriptors. */
static nixl_capi_status_t register_batch(struct registration *call)
{
    const struct compat_descs *descs = call->descs;
    size_t first = call->made, last = first;
    struct lend_error error;
    uint32_t count = 0;

    for (; last < descs->count && count < BATCH; last++) {
        if (descs->at[last].length_bytes == 0)
            continue;
        enum lend_status status =
            describe(descs->type, &descs->at[last], &call->batch[count], &error);
        if (status != LEND_OK)
            return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "descriptor %zu: %s", last,
                               error.message);
        count++;
    }
    enum lend_status status = LEND_OK;
    if (count > 0)
        status = lend_region_register(call->lend, call->batch, count, call->batch_regions,
                                      call->results, &error);
    if (status == LEND_E_MEMORY && narrow(call, count))
        status = lend_region_register(call->lend, call->batch, count, call->batch_regions,
                                      call->results, &error);
    if (status != LEND_OK)
        return compat_fail_lend(status, &error, "register_mem");
    for (size_t i = first, at = 0; i < last; i++)
        call->regions[i] = descs->at[i].length_bytes > 0 ? call->batch_regions[at++] : NULL;
    call->made = last;
    return NIXL_CAPI_SUCCESS;
}

/* Room for a call of few descriptors. */
struct few {
    struct lend_region *regions[FEW];
    struct lend_region_desc batch[FEW];
    struct lend_region *batch_regions[FEW];
    int32_t results[FEW];
};

/* All arrays of the call; one block, which is the caller's to free, or NULL as they are few. */
static bool take_room(struct registration *call, struct few *few, void **out_block)
{
    size_t count = call->descs->count, room = count < BATCH ? count : BATCH;

    *out_block = NULL;
    if (count <= FEW) {
        call->regions = few->regions;
        call->batch = few->batch;
        call->batch_regions = few->batch_regions;
        call->results = few->results;
        return true;
    }
    size_t bytes =
        count * sizeof(struct lend_region *) +
        room * (sizeof *call->batch + sizeof(struct lend_region *) + sizeof *call->results);
    *out_block = malloc(bytes);
    if (*out_block == NULL)
        return false;
    /* The first three are aligned alike; the last is of smaller numbers. */
    call->regions = *out_block;
    call->batch = (void *)(call->regions + count);
    call->batch_regions = (void *)(call->batch + room);
    call->results = (void *)(call->batch_regions + room);
    return true;
}

static nixl_capi_status_t enter_all(struct registration *call)
{
    nixl_capi_agent_t agent = call->agent;
    const struct compat_descs *descs = call->descs;

    (void)pthread_mutex_lock(&agent->lock);
    while (call->entered < descs->count &&
           compat_index_add(&agent->registered, descs->type, &descs->at[call->entered],
                            call->regions[call->entered]))
        call->entered++;
    if (call->entered < descs->count) {
        /* Nobody is told of them before all are there. */
        struct compat_place place;

        while (call->entered-- > 0)
            if (compat_index_find(&agent->registered, descs->type, &descs->at[call->entered],
                                  call->regions[call->entered], &place))
                compat_index_remove(&agent->registered, &place);
        call->entered = 0;
    }
    agent->serial++;
    (void)pthread_mutex_unlock(&agent->lock);
    return call->entered == descs->count ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

static void undo(struct registration *call)
{
    struct lend_error error;

    for (size_t i = 0; i < call->made; i++)
        if (take_back(call->regions[i], &error) != LEND_OK)
            compat_log(COMPAT_WARNING, "a registration is left over: %s", error.message);
}

static nixl_capi_status_t register_all(struct registration *call)
{
    struct few few;
    void *block;
    nixl_capi_status_t status =
        take_room(call, &few, &block) ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;

    while (status == NIXL_CAPI_SUCCESS && call->made < call->descs->count)
        status = register_batch(call);
    if (status == NIXL_CAPI_SUCCESS)
        status = enter_all(call);
    if (status != NIXL_CAPI_SUCCESS)
        undo(call);
    free(block);
    return status;
}

static nixl_capi_status_t check_wraps(const struct compat_descs *descs)
{
    for (size_t i = 0; i < descs->count; i++)
        if (descs->at[i].address > UINTPTR_MAX - descs->at[i].length_bytes)
            return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "descriptor %zu wraps around", i);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_register_mem(nixl_capi_agent_t agent, nixl_capi_reg_dlist_t dlist,
                                          nixl_capi_opt_args_t opt_args)
{
    if (agent == NULL || dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    if (!compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    struct registration call = {
        .agent = agent, .lend = atomic_load(&agent->lend), .descs = &dlist->descs};
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS && (call.lend == NULL || !compat_is_moved(call.descs->type)))
        status = compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                             "agent %s has no backend for memory of "
                             "type %s",
                             agent->name, compat_type_name(call.descs->type));
    if (status == NIXL_CAPI_SUCCESS)
        status = check_wraps(call.descs);
    if (status == NIXL_CAPI_SUCCESS && call.descs->count > 0)
        status = register_all(&call);
    compat_leave(agent);
    return status;
}

/* --- deregistering --- */

/* Mark the descriptors of a list and collect their regions, or do nothing. */
static nixl_capi_status_t mark_locked(nixl_capi_agent_t agent, const struct compat_descs *descs,
                                      struct lend_region **regions)
{
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    struct compat_place place;
    size_t count = 0;

    for (; count < descs->count; count++) {
        if (!compat_index_find(&agent->registered, descs->type, &descs->at[count], NULL, &place))
            status =
                compat_fail(NIXL_CAPI_ERROR_NOT_FOUND,
                            "descriptor %zu, 0x%zx + %zu, is not registered with agent %s", count,
                            descs->at[count].address, descs->at[count].length_bytes, agent->name);
        else if (compat_index_at(&place)->is_leaving)
            status = compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                                 "descriptor %zu is listed twice, or another thread deregisters it",
                                 count);
        if (status != NIXL_CAPI_SUCCESS)
            break;
        compat_index_at(&place)->is_leaving = true;
        regions[count] = compat_index_at(&place)->region;
    }
    while (status != NIXL_CAPI_SUCCESS && count-- > 0)
        if (compat_index_find(&agent->registered, descs->type, &descs->at[count], regions[count],
                              &place))
            compat_index_at(&place)->is_leaving = false;
    return status;
}

/* Those that were taken back leave the index; the others stay in it. */
static void settle(nixl_capi_agent_t agent, const struct compat_descs *descs,
                   struct lend_region *const *regions, size_t taken)
{
    struct compat_place place;

    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < descs->count; i++) {
        if (!compat_index_find(&agent->registered, descs->type, &descs->at[i], regions[i], &place))
            continue;
        if (i < taken)
            compat_index_remove(&agent->registered, &place);
        else
            compat_index_at(&place)->is_leaving = false;
    }
    agent->serial++;
    (void)pthread_mutex_unlock(&agent->lock);
}

static nixl_capi_status_t deregister_all(nixl_capi_agent_t agent, const struct compat_descs *descs,
                                         struct lend_region **regions)
{
    struct lend_error error;
    enum lend_status taking = LEND_OK;
    size_t taken = 0;

    (void)pthread_mutex_lock(&agent->lock);
    nixl_capi_status_t status = mark_locked(agent, descs, regions);
    (void)pthread_mutex_unlock(&agent->lock);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    while (taken < descs->count && (taking = take_back(regions[taken], &error)) == LEND_OK)
        taken++;
    settle(agent, descs, regions, taken);
    if (taking == LEND_OK)
        return NIXL_CAPI_SUCCESS;
    (void)compat_fail_lend(taking, &error, "deregister_mem");
    return NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_deregister_mem(nixl_capi_agent_t agent, nixl_capi_reg_dlist_t dlist,
                                            nixl_capi_opt_args_t opt_args)
{
    if (agent == NULL || dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    if (!compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    const struct compat_descs *descs = &dlist->descs;
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS && descs->count > 0) {
        struct lend_region *few[FEW];
        struct lend_region **regions =
            descs->count <= FEW ? few : malloc(descs->count * sizeof(struct lend_region *));

        status = regions != NULL ? deregister_all(agent, descs, regions) : NIXL_CAPI_ERROR_BACKEND;
        if (regions != few)
            free(regions);
    }
    compat_leave(agent);
    return status;
}

/* --- asking --- */

nixl_capi_status_t nixl_capi_query_mem(nixl_capi_agent_t agent, nixl_capi_reg_dlist_t descs,
                                       nixl_capi_query_resp_list_t resp,
                                       nixl_capi_opt_args_t opt_args)
{
    if (agent == NULL || descs == NULL || resp == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_query_resp_clear(resp);
    if (opt_args == NULL || opt_args->backend_count != 1)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                           "query_mem wants exactly one backend in its options");
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    return compat_fail(NIXL_CAPI_ERROR_BACKEND, "no backend here answers for files and objects");
}
