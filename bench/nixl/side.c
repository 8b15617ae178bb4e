/* SPDX-License-Identifier: Apache-2.0 */
#include "side.h"
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>

void side_open(struct side *side, const char *library, const char *name, size_t bytes)
{
    nixl_capi_mem_list_t kinds;
    nixl_capi_params_t params;
    nixl_capi_backend_t backend;

    api_open(&side->api, library);
    DO(side->api.create_agent(name, &side->agent));
    DO(side->api.get_plugin_params(side->agent, "UCX", &kinds, &params));
    DO(side->api.create_backend(side->agent, "UCX", params, &backend));
    DO(side->api.create_opt_args(&side->options));
    DO(side->api.opt_args_add_backend(side->options, backend));
    side->bytes = bytes;
    side->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (side->memory == MAP_FAILED)
        die("no memory for what is to be registered");
}

nixl_capi_reg_dlist_t side_list(struct side *side, uint64_t count, size_t stride, size_t length)
{
    nixl_capi_reg_dlist_t list;

    DO(side->api.create_reg_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (uint64_t i = 0; i < count; i++)
        DO(side->api.reg_dlist_add_desc(list, (uintptr_t)side->memory + i * stride, length, 0, NULL,
                                        0));
    return list;
}

void side_register(struct side *side, nixl_capi_reg_dlist_t list)
{
    DO(side->api.register_mem(side->agent, list, side->options));
}

nixl_capi_xfer_dlist_handle_t side_prepare(struct side *side, const char *agent, uint64_t base,
                                           const struct pieces *pieces)
{
    nixl_capi_xfer_dlist_t list;
    nixl_capi_xfer_dlist_handle_t out;

    DO(side->api.create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (uint64_t i = 0; i < pieces->count; i++) {
        uint64_t at = pieces->order != NULL ? pieces->order[i] : i;

        DO(side->api.xfer_dlist_add_desc(list, base + at * pieces->stride, pieces->length, 0));
    }
    DO(side->api.prep_xfer_dlist(side->agent, agent, list, &out, side->options));
    DO(side->api.destroy_xfer_dlist(list));
    return out;
}

nixl_capi_xfer_req_t side_make(struct side *side, nixl_capi_xfer_op_t operation,
                               nixl_capi_xfer_dlist_handle_t local,
                               nixl_capi_xfer_dlist_handle_t remote, uint64_t count)
{
    nixl_capi_xfer_req_t out;
    int *indices = malloc(count * sizeof *indices);

    if (indices == NULL)
        die("no memory for indices");
    for (uint64_t i = 0; i < count; i++)
        indices[i] = (int)i;
    DO(side->api.make_xfer_req(side->agent, operation, local, indices, count, remote, indices,
                               count, &out, side->options));
    free(indices);
    return out;
}

struct post_times side_post(struct side *side, nixl_capi_xfer_req_t request)
{
    uint64_t began = now_ns();
    nixl_capi_status_t status = side->api.post_xfer_req(side->agent, request, NULL);
    uint64_t posted = now_ns();

    while (status == NIXL_CAPI_IN_PROG)
        status = side->api.get_xfer_status(side->agent, request);
    api_check(status, "get_xfer_status");
    return (struct post_times){(double)(posted - began), (double)(now_ns() - began)};
}

void side_release(struct side *side, nixl_capi_xfer_req_t request)
{
    DO(side->api.release_xfer_req(side->agent, request));
    DO(side->api.destroy_xfer_req(request));
}

uint32_t *side_shuffle(uint64_t count, uint32_t seed)
{
    uint32_t *order = malloc(count * sizeof *order);

    if (order == NULL)
        die("no memory for an order");
    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (uint64_t i = count - 1; i > 0; i--) {
        seed = seed * 1664525u + 1013904223u;
        uint64_t other = ((uint64_t)seed * (i + 1)) >> 32;
        uint32_t kept = order[i];

        order[i] = order[other];
        order[other] = kept;
    }
    return order;
}
