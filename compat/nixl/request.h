/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_REQUEST_H
#define COMPAT_NIXL_REQUEST_H

#include "agent.h"

/*
 *     made --post--> under way --complete--> done --post--> under way ... --release--> released
 */
struct nixl_capi_xfer_req_s {
    nixl_capi_agent_t agent;  /* a reference */
    struct compat_peer *peer; /* a reference */
    nixl_capi_xfer_op_t operation;
    struct lend_transfer *transfer; /* NULL: no bytes are to be moved */
    uint64_t total_bytes;
    uint64_t desc_count;

    pthread_mutex_t lock; /* of all below */
    bool is_posted;       /* once, at least */
    bool is_under_way;
    bool is_released;
    nixl_capi_status_t status; /* when it is not under way */
    bool has_message;
    struct compat_bytes message;
    struct nixl_capi_xfer_telemetry_s telemetry;
};

/* Take a copy of what the peer is to be told; NULL: nothing. */
nixl_capi_status_t compat_request_set_message(nixl_capi_xfer_req_t request,
                                              const struct compat_bytes *message);

#endif
