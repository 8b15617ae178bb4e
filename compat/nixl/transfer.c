/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <stdlib.h>
#include <time.h>

/* Requests on their way: posted, asked about, and given up. */

#define CANCEL_NS  UINT64_C(2000000000)
#define PATIENT_NS (UINT64_C(1) << 62) /* NIXL knows no deadlines */

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Of this agent, which lives? Then enter the call. The agent may be destroyed, so that only the
 * request tells. */
static bool enter(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request)
{
    return agent != NULL && request != NULL && request->agent == agent && compat_enter(agent);
}

nixl_capi_status_t compat_request_set_message(nixl_capi_xfer_req_t request,
                                              const struct compat_bytes *message)
{
    void *copy = NULL;

    if (message != NULL) {
        copy = compat_copy(message->bytes, message->length_bytes);
        if (copy == NULL)
            return NIXL_CAPI_ERROR_BACKEND;
    }
    free(request->message.bytes);
    request->message.bytes = copy;
    request->message.length_bytes = message != NULL ? message->length_bytes : 0;
    request->has_message = message != NULL;
    return NIXL_CAPI_SUCCESS;
}

/* --- completion --- */

static void complete_locked(nixl_capi_xfer_req_t request, enum lend_status status)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error why = {0};

    request->is_under_way = false;
    request->status = NIXL_CAPI_SUCCESS;
    if (lend_transfer_describe(request->transfer, &record, &why) == LEND_OK) {
        request->telemetry.post_duration_us = record.post_ns / 1000;
        request->telemetry.xfer_duration_us = record.wire_ns / 1000;
    }
    if (status == LEND_OK)
        return;
    /* NIXL forgets a peer that is gone; and whoever had it forgotten is told that. */
    if (status == LEND_E_PEER_DEAD)
        compat_peer_end(request->peer);
    (void)pthread_rwlock_rdlock(&request->peer->use);
    bool was_forgotten = request->peer->is_gone && status == LEND_E_CANCELED;
    (void)pthread_rwlock_unlock(&request->peer->use);
    request->status = was_forgotten ? NIXL_CAPI_ERROR_NOT_FOUND : NIXL_CAPI_ERROR_BACKEND;
    (void)compat_fail_lend(status, &why, "a request");
}

/* Look how it is. */
static nixl_capi_status_t look_locked(nixl_capi_xfer_req_t request)
{
    if (request->is_under_way) {
        enum lend_status status = lend_transfer_test(request->transfer);

        if (status == LEND_PENDING)
            return NIXL_CAPI_IN_PROG;
        complete_locked(request, status);
    }
    return request->status;
}

/* --- posting --- */

static nixl_capi_status_t submit_locked(nixl_capi_xfer_req_t request,
                                        const struct compat_envelope *envelope)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct compat_peer *peer = request->peer;
    struct lend_error error;

    nixl_capi_status_t status = compat_peer_enter(peer);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    desc.ticket = peer->ticket;
    desc.notification = envelope->bytes;
    desc.notification_bytes = envelope->count;
    desc.timeout_ns = PATIENT_NS;
    enum lend_status result = lend_transfer_post(request->transfer, &desc, &error);
    compat_peer_leave(peer);
    if (result == LEND_OK)
        return NIXL_CAPI_SUCCESS;
    if (result == LEND_E_PEER_DEAD)
        compat_peer_end(peer);
    (void)compat_fail_lend(result, &error, "post_xfer_req");
    return NIXL_CAPI_ERROR_BACKEND;
}

/* Nothing to move, so that only the notification is left to send. */
static nixl_capi_status_t tell_locked(nixl_capi_xfer_req_t request)
{
    nixl_capi_status_t status = compat_peer_enter(request->peer);

    if (status != NIXL_CAPI_SUCCESS)
        return status;
    compat_peer_leave(request->peer);
    return request->has_message ? compat_notification_send(request->peer, &request->message)
                                : NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t start_locked(nixl_capi_xfer_req_t request)
{
    struct compat_envelope envelope = {0};

    request->telemetry = (struct nixl_capi_xfer_telemetry_s){
        .start_time_us = now_us(),
        .total_bytes = request->total_bytes,
        .desc_count = request->desc_count,
    };
    if (request->transfer == NULL)
        return tell_locked(request);

    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    if (request->has_message)
        status = compat_notification_begin(request->peer, &request->message, &envelope);
    if (status == NIXL_CAPI_SUCCESS)
        status = submit_locked(request, &envelope);
    free(envelope.bytes);
    request->is_under_way = status == NIXL_CAPI_SUCCESS;
    return status;
}

static nixl_capi_status_t post_locked(nixl_capi_xfer_req_t request,
                                      const struct nixl_capi_opt_args_s *opt_args)
{
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;

    if (request->is_released)
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "the request is released");
    if (look_locked(request) == NIXL_CAPI_IN_PROG)
        return compat_fail(NIXL_CAPI_ERROR_BACKEND, "the request is under way");
    if (opt_args != NULL)
        status = compat_request_set_message(
            request, opt_args->has_notification ? &opt_args->notification : NULL);
    if (status == NIXL_CAPI_SUCCESS)
        status = start_locked(request);
    request->is_posted = true;
    request->status = status;
    return status == NIXL_CAPI_SUCCESS ? look_locked(request) : status;
}

nixl_capi_status_t nixl_capi_post_xfer_req(nixl_capi_agent_t agent, nixl_capi_xfer_req_t req_hndl,
                                           nixl_capi_opt_args_t opt_args)
{
    if (!enter(agent, req_hndl))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)pthread_mutex_lock(&req_hndl->lock);
    nixl_capi_status_t status = post_locked(req_hndl, opt_args);
    (void)pthread_mutex_unlock(&req_hndl->lock);
    compat_leave(agent);
    return status;
}

/* --- asking --- */

nixl_capi_status_t nixl_capi_get_xfer_status(nixl_capi_agent_t agent, nixl_capi_xfer_req_t req_hndl)
{
    nixl_capi_status_t status;

    if (!enter(agent, req_hndl))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)pthread_mutex_lock(&req_hndl->lock);
    if (req_hndl->is_released)
        status = NIXL_CAPI_ERROR_INVALID_PARAM;
    else if (!req_hndl->is_posted)
        status = compat_fail(NIXL_CAPI_ERROR_BACKEND, "the request was not posted");
    else
        status = look_locked(req_hndl);
    (void)pthread_mutex_unlock(&req_hndl->lock);
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_query_xfer_backend(nixl_capi_agent_t agent,
                                                nixl_capi_xfer_req_t req_hndl,
                                                nixl_capi_backend_t *backend)
{
    if (backend == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *backend = NULL;
    if (!enter(agent, req_hndl))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *backend = compat_backend_create(agent);
    compat_leave(agent);
    return *backend != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_get_xfer_telemetry(nixl_capi_agent_t agent,
                                                nixl_capi_xfer_req_t req_hndl,
                                                nixl_capi_xfer_telemetry_t telemetry)
{
    nixl_capi_status_t status = NIXL_CAPI_ERROR_NO_TELEMETRY;

    if (telemetry == NULL || !enter(agent, req_hndl))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)pthread_mutex_lock(&req_hndl->lock);
    if (req_hndl->is_released)
        status = NIXL_CAPI_ERROR_INVALID_PARAM;
    else if (agent->config.capture_telemetry)
        status = req_hndl->is_posted ? look_locked(req_hndl) : NIXL_CAPI_ERROR_BACKEND;
    if (status == NIXL_CAPI_SUCCESS)
        *telemetry = req_hndl->telemetry;
    (void)pthread_mutex_unlock(&req_hndl->lock);
    compat_leave(agent);
    return status;
}

/* A guess by what was measured: a start, and so many bytes a microsecond. */
nixl_capi_status_t nixl_capi_estimate_xfer_cost(nixl_capi_agent_t agent,
                                                nixl_capi_xfer_req_t req_hndl,
                                                nixl_capi_opt_args_t opt_args, int64_t *duration_us,
                                                int64_t *err_margin_us, nixl_capi_cost_t *method)
{
    enum { START_US = 20, NEAR_BYTES_US = 5000, FAR_BYTES_US = 1000, PIECES_US = 10 };
    struct lend_peer_info info = {.struct_size = sizeof info};

    if (duration_us == NULL || err_margin_us == NULL || method == NULL || !enter(agent, req_hndl))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_enter(req_hndl->peer);
    if (status == NIXL_CAPI_SUCCESS) {
        bool is_far = lend_peer_describe(req_hndl->peer->lend, &info, NULL) == LEND_OK &&
                      info.transport[0] == 't';

        *duration_us = (int64_t)(START_US + req_hndl->desc_count / PIECES_US +
                                 req_hndl->total_bytes / (is_far ? FAR_BYTES_US : NEAR_BYTES_US));
        *err_margin_us = *duration_us;
        *method = NIXL_CAPI_COST_ANALYTICAL_BACKEND;
        compat_peer_leave(req_hndl->peer);
    }
    compat_leave(agent);
    return status;
}

/* --- giving up --- */

/* Not one byte lands after NIXL_CAPI_SUCCESS. */
static nixl_capi_status_t release_locked(nixl_capi_xfer_req_t request)
{
    if (request->is_released)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    if (look_locked(request) == NIXL_CAPI_IN_PROG) {
        enum lend_status status = lend_transfer_cancel(request->transfer, CANCEL_NS);

        if (status == LEND_PENDING)
            return compat_fail(NIXL_CAPI_ERROR_BACKEND,
                               "the request was canceled and is not quiet yet: release it again");
        request->is_under_way = false;
        request->status = NIXL_CAPI_ERROR_BACKEND;
    }
    if (request->transfer != NULL && lend_transfer_release(request->transfer) != LEND_OK)
        return NIXL_CAPI_ERROR_BACKEND;
    request->transfer = NULL;
    request->is_released = true;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_release_xfer_req(nixl_capi_agent_t agent, nixl_capi_xfer_req_t req)
{
    if (agent == NULL || req == NULL || req->agent != agent)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    bool has_agent = compat_enter(agent);
    (void)pthread_mutex_lock(&req->lock);
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;
    if (has_agent)
        status = release_locked(req);
    else if (req->is_released)
        status = NIXL_CAPI_ERROR_INVALID_PARAM;
    else
        req->is_released = true; /* the agent has ended its transfer */
    (void)pthread_mutex_unlock(&req->lock);
    if (has_agent)
        compat_leave(agent);
    return status;
}
