/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <stdlib.h>

/* Requests: made of pairs of descriptors, and ended. What happens in between is in transfer.c. */

/* The pairs that a request is made of, by their indices (NULL: one after the other). */
struct pairs {
    nixl_capi_xfer_dlist_handle_t local;
    nixl_capi_xfer_dlist_handle_t remote;
    const int *local_indices;
    const int *remote_indices;
    size_t count; /* of the pairs */
};

_Static_assert(sizeof(int) == sizeof(int32_t), "lend takes NIXL's indices as they are");

/* NULL: there is none. */
static const struct lend_range *pick(const struct nixl_capi_xfer_dlist_handle_s *list,
                                     const int *indices, size_t at)
{
    size_t index = indices != NULL ? (size_t)indices[at] : at; /* a negative one is over any */

    return index < list->count ? &list->ranges[index] : NULL;
}

/* Is there nothing to move in any pair? */
static bool is_empty(const struct pairs *pairs)
{
    if (!pairs->local->has_empty || !pairs->remote->has_empty)
        return false;
    for (size_t i = 0; i < pairs->count; i++) {
        const struct lend_range *local = pick(pairs->local, pairs->local_indices, i);
        const struct lend_range *remote = pick(pairs->remote, pairs->remote_indices, i);

        if (local == NULL || remote == NULL || local->length_bytes > 0 || remote->length_bytes > 0)
            return false;
    }
    return true;
}

/* Of pairs whose indices are good. */
static uint64_t count_bytes(const struct pairs *pairs)
{
    uint64_t total = 0;

    if (pairs->local->is_even)
        return pairs->count * pairs->local->ranges[0].length_bytes;
    for (size_t i = 0; i < pairs->count; i++)
        total += pick(pairs->local, pairs->local_indices, i)->length_bytes;
    return total;
}

/* Both lists must have some descriptors, for any index to be good. */
static nixl_capi_status_t prepare_transfer(nixl_capi_xfer_req_t request, const struct pairs *pairs)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error;

    if (pairs->local->lend == NULL || pairs->remote->lend == NULL)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "a prepared list has no descriptors");
    if (is_empty(pairs))
        return NIXL_CAPI_SUCCESS;
    nixl_capi_status_t status = compat_peer_enter(request->peer);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    desc.direction = request->operation == NIXL_CAPI_XFER_OP_READ ? LEND_READ : LEND_WRITE;
    desc.peer = request->peer->lend;
    desc.block_count_max = pairs->count;
    desc.local_list = pairs->local->lend;
    desc.remote_list = pairs->remote->lend;
    desc.local_indices = pairs->local_indices;
    desc.remote_indices = pairs->remote_indices;
    desc.range_count = pairs->count;
    enum lend_status result = lend_transfer_prepare(atomic_load(&request->agent->lend), &desc,
                                                    &request->transfer, &error);
    compat_peer_leave(request->peer);
    if (result != LEND_OK) {
        (void)compat_fail_lend(result, &error, "a request");
        return result == LEND_E_INVALID ? NIXL_CAPI_ERROR_INVALID_PARAM : NIXL_CAPI_ERROR_BACKEND;
    }
    request->total_bytes = count_bytes(pairs);
    return NIXL_CAPI_SUCCESS;
}

static void free_request(nixl_capi_xfer_req_t request)
{
    (void)pthread_mutex_destroy(&request->lock);
    compat_peer_release(request->peer);
    compat_agent_release(request->agent);
    free(request->message.bytes);
    free(request);
}

static nixl_capi_status_t keep_message(nixl_capi_xfer_req_t request,
                                       const struct nixl_capi_opt_args_s *opt_args)
{
    if (opt_args == NULL || !opt_args->has_notification)
        return NIXL_CAPI_SUCCESS;
    return compat_request_set_message(request, &opt_args->notification);
}

/* Who is asked for what. */
struct order {
    nixl_capi_agent_t agent;
    struct compat_peer *peer;
    nixl_capi_xfer_op_t operation;
    const struct nixl_capi_opt_args_s *opt_args;
};

static nixl_capi_status_t make(const struct order *order, const struct pairs *pairs,
                               nixl_capi_xfer_req_t *out)
{
    /* Not calloc(): until glibc 2.41 that passes the thread's own cache by. */
    nixl_capi_xfer_req_t made = malloc(sizeof *made);

    if (made == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    *made = (struct nixl_capi_xfer_req_s){0};
    (void)pthread_mutex_init(&made->lock, NULL);
    made->agent = order->agent;
    compat_agent_retain(made->agent);
    made->peer = order->peer;
    compat_peer_retain(made->peer);
    made->operation = order->operation;
    made->desc_count = pairs->count;
    nixl_capi_status_t status = keep_message(made, order->opt_args);
    if (status == NIXL_CAPI_SUCCESS && made->peer->is_self)
        status = compat_peer_refresh_self(made->peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = prepare_transfer(made, pairs);
    if (status == NIXL_CAPI_SUCCESS)
        *out = made;
    else
        free_request(made);
    return status;
}

static nixl_capi_status_t check_operation(nixl_capi_xfer_op_t operation)
{
    if (operation == NIXL_CAPI_XFER_OP_READ || operation == NIXL_CAPI_XFER_OP_WRITE)
        return NIXL_CAPI_SUCCESS;
    return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "operation %d is neither READ nor WRITE",
                       (int)operation);
}

static nixl_capi_status_t make_of_lists(struct order *order, nixl_capi_xfer_dlist_handle_t local,
                                        nixl_capi_xfer_dlist_handle_t remote, struct pairs *pairs,
                                        nixl_capi_xfer_req_t *out)
{
    if (local->agent != order->agent || remote->agent != order->agent || local->peer != NULL ||
        remote->peer == NULL)
        return compat_fail(
            NIXL_CAPI_ERROR_INVALID_PARAM,
            "the first list must be of our own memory (of agent \"\"), the second of "
            "a peer's, both of this agent");
    if (pairs->count == 0)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "no or unequally many indices");
    nixl_capi_status_t status = check_operation(order->operation);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_check_backends(order->agent, order->opt_args);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    order->peer = remote->peer;
    pairs->local = local;
    pairs->remote = remote;
    return make(order, pairs, out);
}

nixl_capi_status_t nixl_capi_make_xfer_req(nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation,
                                           nixl_capi_xfer_dlist_handle_t local_descs,
                                           const int *local_indices, size_t local_indices_count,
                                           nixl_capi_xfer_dlist_handle_t remote_descs,
                                           const int *remote_indices, size_t remote_indices_count,
                                           nixl_capi_xfer_req_t *req_hndl,
                                           nixl_capi_opt_args_t opt_args)
{
    struct order order = {.agent = agent, .operation = operation, .opt_args = opt_args};
    struct pairs pairs = {
        .local_indices = local_indices,
        .remote_indices = remote_indices,
        .count = local_indices_count == remote_indices_count ? local_indices_count : 0,
    };

    if (req_hndl == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *req_hndl = NULL;
    if (agent == NULL || local_descs == NULL || remote_descs == NULL || local_indices == NULL ||
        remote_indices == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = make_of_lists(&order, local_descs, remote_descs, &pairs, req_hndl);
    compat_leave(agent);
    return status;
}

static nixl_capi_status_t create(struct order *order, const char *name,
                                 const struct compat_descs *local,
                                 const struct compat_descs *remote, nixl_capi_xfer_req_t *out)
{
    struct pairs pairs = {.count = local->count};
    nixl_capi_agent_t agent = order->agent;

    if (local->count == 0 || local->count != remote->count)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                           "%zu descriptors here and %zu there: as many, and not none, are needed",
                           local->count, remote->count);
    nixl_capi_status_t status = check_operation(order->operation);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_check_backends(agent, order->opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_find(agent, name, &order->peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_list_create(agent, NULL, local, &pairs.local);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_list_create(agent, order->peer, remote, &pairs.remote);
    if (status == NIXL_CAPI_SUCCESS)
        status = make(order, &pairs, out);
    compat_list_destroy(pairs.local, true);
    compat_list_destroy(pairs.remote, true);
    compat_peer_release(order->peer);
    return status;
}

nixl_capi_status_t nixl_capi_create_xfer_req(nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation,
                                             nixl_capi_xfer_dlist_t local_descs,
                                             nixl_capi_xfer_dlist_t remote_descs,
                                             const char *remote_agent,
                                             nixl_capi_xfer_req_t *req_hndl,
                                             nixl_capi_opt_args_t opt_args)
{
    struct order order = {.agent = agent, .operation = operation, .opt_args = opt_args};

    if (req_hndl == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *req_hndl = NULL;
    if (agent == NULL || local_descs == NULL || remote_descs == NULL || remote_agent == NULL ||
        !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status =
        create(&order, remote_agent, &local_descs->descs, &remote_descs->descs, req_hndl);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_destroy_xfer_req(nixl_capi_xfer_req_t req)
{
    if (req == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)pthread_mutex_lock(&req->lock);
    bool is_released = req->is_released;
    (void)pthread_mutex_unlock(&req->lock);
    if (!is_released)
        return NIXL_CAPI_ERROR_INVALID_STATE;
    free_request(req);
    return NIXL_CAPI_SUCCESS;
}
