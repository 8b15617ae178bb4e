/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that somebody else allocated is registered by NIXL's C ABI, and a second agent reads it.
 *
 *     cc nixl_external.c $(pkg-config --cflags --libs nixl_capi) && ./a.out
 *
 * The agents may as well be in two processes, or on two hosts: what get_local_md() gives is all
 * that has to reach the other one. For memory of a GPU, say NIXL_CAPI_MEM_VRAM and the device's
 * number.
 */
#include <nixl_capi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 1 << 20 };

static const nixl_capi_mem_type_t TYPE = NIXL_CAPI_MEM_DRAM;

/* End the program with the call that did not succeed. */
#define DO(call) check((call), #call)
static void check(nixl_capi_status_t status, const char *call)
{
    if (status == NIXL_CAPI_SUCCESS)
        return;
    fprintf(stderr, "nixl_external: %d: %s\n", (int)status, call);
    exit(1);
}

/* An agent that has this memory registered. */
static nixl_capi_agent_t open_agent(const char *name, const void *memory)
{
    nixl_capi_agent_t agent;
    nixl_capi_params_t params;
    nixl_capi_backend_t backend;
    nixl_capi_reg_dlist_t list;

    DO(nixl_capi_create_agent(name, &agent));
    DO(nixl_capi_create_params(&params));
    DO(nixl_capi_create_backend(agent, "UCX", params, &backend));
    DO(nixl_capi_create_reg_dlist(TYPE, &list));
    DO(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)memory, BYTES, 0, NULL, 0));
    DO(nixl_capi_register_mem(agent, list, NULL));
    DO(nixl_capi_destroy_reg_dlist(list));
    DO(nixl_capi_destroy_backend(backend));
    DO(nixl_capi_destroy_params(params));
    return agent;
}

/* All of one piece of memory, as a list to move. */
static nixl_capi_xfer_dlist_t all_of(const void *memory)
{
    nixl_capi_xfer_dlist_t list;

    DO(nixl_capi_create_xfer_dlist(TYPE, &list));
    DO(nixl_capi_xfer_dlist_add_desc(list, (uintptr_t)memory, BYTES, 0));
    return list;
}

int main(void)
{
    void *external = malloc(BYTES), *pulled = calloc(1, BYTES), *told;
    size_t told_bytes;
    char *name;
    nixl_capi_xfer_req_t request;
    nixl_capi_status_t status;

    if (external == NULL || pulled == NULL)
        return 1;
    memset(external, 0xa5, BYTES);

    nixl_capi_agent_t owner = open_agent("owner", external);
    nixl_capi_agent_t reader = open_agent("reader", pulled);
    DO(nixl_capi_get_local_md(owner, &told, &told_bytes));
    DO(nixl_capi_load_remote_md(reader, told, told_bytes, &name));
    nixl_capi_xfer_dlist_t to = all_of(pulled), from = all_of(external);
    DO(nixl_capi_create_xfer_req(reader, NIXL_CAPI_XFER_OP_READ, to, from, name, &request, NULL));
    status = nixl_capi_post_xfer_req(reader, request, NULL);
    while (status == NIXL_CAPI_IN_PROG)
        status = nixl_capi_get_xfer_status(reader, request);
    check(status, "reading");

    bool is_same = memcmp(external, pulled, BYTES) == 0;
    DO(nixl_capi_release_xfer_req(reader, request));
    DO(nixl_capi_destroy_xfer_req(request));
    DO(nixl_capi_destroy_xfer_dlist(to));
    DO(nixl_capi_destroy_xfer_dlist(from));
    DO(nixl_capi_destroy_agent(reader));
    DO(nixl_capi_destroy_agent(owner));
    free(name);
    free(told);
    free(pulled);
    free(external);
    printf("%d bytes read, %s\n", BYTES, is_same ? "all as they were" : "not as they were");
    return is_same ? 0 : 1;
}
