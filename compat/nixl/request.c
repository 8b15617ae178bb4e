/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <stdlib.h>

/* Requests: made of pairs of descriptors, and ended. What happens in between is in transfer.c. */

/* The pairs that a request is made of, by their indices (NULL: one after the other). */
struct pairs {
    const struct compat_piece *local;
    const struct compat_piece *remote;
    size_t local_count; /* of all pieces */
    size_t remote_count;
    const int *local_indices;
    const int *remote_indices;
    size_t count; /* of the pairs */
};

static const struct compat_piece *pick(const struct compat_piece *pieces, size_t count,
                                       const int *indices, size_t at)
{
    if (indices == NULL)
        return &pieces[at];
    return indices[at] >= 0 && (size_t)indices[at] < count ? &pieces[indices[at]] : NULL;
}

/* Does the pair go on where the last range ends, on both sides, within the same registrations? */
static bool goes_on(const struct lend_range *local, const struct lend_range *remote,
                    const struct compat_piece *next_local, const struct compat_piece *next_remote,
                    const uintptr_t ends[2])
{
    return local->address + local->length_bytes == next_local->address &&
           remote->address + remote->length_bytes == next_remote->address &&
           next_local->address + next_local->length_bytes <= ends[0] &&
           next_remote->address + next_remote->length_bytes <= ends[1];
}

/* The ranges of the request: a pair each, but pairs that touch are one, and none of no bytes. */
static nixl_capi_status_t fill_ranges(nixl_capi_xfer_req_t request, const struct pairs *pairs)
{
    uintptr_t ends[2] = {0, 0};

    for (size_t i = 0; i < pairs->count; i++) {
        const struct compat_piece *local =
            pick(pairs->local, pairs->local_count, pairs->local_indices, i);
        const struct compat_piece *remote =
            pick(pairs->remote, pairs->remote_count, pairs->remote_indices, i);
        size_t last = request->range_count - 1;

        if (local == NULL || remote == NULL)
            return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                               "index %zu is beyond its prepared list", i);
        if (local->length_bytes != remote->length_bytes)
            return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                               "pair %zu has %zu bytes here, %zu there", i, local->length_bytes,
                               remote->length_bytes);
        if (local->length_bytes == 0)
            continue;
        request->total_bytes += local->length_bytes;
        if (request->range_count > 0 &&
            goes_on(&request->local[last], &request->remote[last], local, remote, ends)) {
            request->local[last].length_bytes += local->length_bytes;
            request->remote[last].length_bytes += local->length_bytes;
            continue;
        }
        request->local[request->range_count] =
            (struct lend_range){.address = local->address, .length_bytes = local->length_bytes};
        request->remote[request->range_count++] =
            (struct lend_range){.address = remote->address, .length_bytes = remote->length_bytes};
        ends[0] = local->end;
        ends[1] = remote->end;
    }
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t prepare_transfer(nixl_capi_xfer_req_t request)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error;

    if (request->range_count == 0)
        return NIXL_CAPI_SUCCESS;
    nixl_capi_status_t status = compat_peer_enter(request->peer);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    desc.direction = request->operation == NIXL_CAPI_XFER_OP_READ ? LEND_READ : LEND_WRITE;
    desc.peer = request->peer->lend;
    desc.block_count_max = request->range_count;
    desc.local_ranges = request->local;
    desc.remote_ranges = request->remote;
    desc.range_count = request->range_count;
    enum lend_status result = lend_transfer_prepare(atomic_load(&request->agent->lend), &desc,
                                                    &request->transfer, &error);
    compat_peer_leave(request->peer);
    if (result == LEND_OK)
        return NIXL_CAPI_SUCCESS;
    (void)compat_fail_lend(result, &error, "a request");
    return NIXL_CAPI_ERROR_BACKEND;
}

static void free_request(nixl_capi_xfer_req_t request)
{
    (void)pthread_mutex_destroy(&request->lock);
    compat_peer_release(request->peer);
    compat_agent_release(request->agent);
    free(request->message.bytes);
    free(request->local);
    free(request->remote);
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
    nixl_capi_xfer_req_t made = calloc(1, sizeof *made);

    if (made == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    (void)pthread_mutex_init(&made->lock, NULL);
    made->agent = order->agent;
    compat_agent_retain(made->agent);
    made->peer = order->peer;
    compat_peer_retain(made->peer);
    made->operation = order->operation;
    made->desc_count = pairs->count;
    made->local = calloc(pairs->count, sizeof *made->local);
    made->remote = calloc(pairs->count, sizeof *made->remote);
    nixl_capi_status_t status =
        made->local != NULL && made->remote != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
    if (status == NIXL_CAPI_SUCCESS)
        status = fill_ranges(made, pairs);
    if (status == NIXL_CAPI_SUCCESS)
        status = keep_message(made, order->opt_args);
    if (status == NIXL_CAPI_SUCCESS && made->peer->is_self)
        status = compat_peer_refresh_self(made->peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = prepare_transfer(made);
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
    pairs->local = local->pieces;
    pairs->local_count = local->count;
    pairs->remote = remote->pieces;
    pairs->remote_count = remote->count;
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
    struct compat_piece *local_pieces = NULL, *remote_pieces = NULL;
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
        status = compat_pieces_look_up(agent, NULL, local, &local_pieces);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_pieces_look_up(agent, order->peer, remote, &remote_pieces);
    const struct pairs pairs = {
        .local = local_pieces,
        .local_count = local->count,
        .remote = remote_pieces,
        .remote_count = remote->count,
        .count = local->count,
    };
    if (status == NIXL_CAPI_SUCCESS)
        status = make(order, &pairs, out);
    compat_peer_release(order->peer);
    free(local_pieces);
    free(remote_pieces);
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
