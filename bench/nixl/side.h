/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NIXL_BENCH_SIDE_H
#define NIXL_BENCH_SIDE_H

#include "api.h"

#include <stddef.h>
#include <stdint.h>

/* Pieces of memory that are transferred. */
struct pieces {
    uint64_t count;
    size_t stride;
    size_t length;
    const uint32_t *order; /* NULL: ascending */
};

/* An agent with the backend UCX, and memory for it. */
struct side {
    struct api api;
    nixl_capi_agent_t agent;
    nixl_capi_opt_args_t options; /* the backend */
    uint8_t *memory;
    size_t bytes;
};

void side_open(struct side *side, const char *library, const char *name, size_t bytes);
/* A list of the whole memory as one descriptor; or of `count` pieces, `stride` apart. */
nixl_capi_reg_dlist_t side_list(struct side *side, uint64_t count, size_t stride, size_t length);
void side_register(struct side *side, nixl_capi_reg_dlist_t list);
/* Pieces of what lies at base, prepared; agent: "" for our own. */
nixl_capi_xfer_dlist_handle_t side_prepare(struct side *side, const char *agent, uint64_t base,
                                           const struct pieces *pieces);

/* A request of all pieces, in the order of both lists. */
nixl_capi_xfer_req_t side_make(struct side *side, nixl_capi_xfer_op_t operation,
                               nixl_capi_xfer_dlist_handle_t local,
                               nixl_capi_xfer_dlist_handle_t remote, uint64_t count);
/* Post it and wait for its end; the times of both, in ns. */
struct post_times {
    double post;
    double complete;
};
struct post_times side_post(struct side *side, nixl_capi_xfer_req_t request);
void side_release(struct side *side, nixl_capi_xfer_req_t request);

/* 0 to count - 1, shuffled the same way in each run. */
uint32_t *side_shuffle(uint64_t count, uint32_t seed);

#endif
