/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "pair.h"

#include <string.h>

/* Metadata of `count` descriptors, and transfers of as many, each of its own registration. */

enum { STRIDE = 4096, LENGTH = 512, ONES = 1000 };

static void open_all(struct side *side, const char *library, const char *name, uint64_t count)
{
    side_open(side, library, name, count * STRIDE);
    nixl_capi_reg_dlist_t list = side_list(side, count, STRIDE, LENGTH);

    side_register(side, list);
    DO(side->api.destroy_reg_dlist(list));
}

static const char *library_of_peer;

static void serve(struct side *side, struct pair *pair, uint64_t count)
{
    char over;

    open_all(side, library_of_peer, "exchange-peer", count);
    memset(side->memory, 1, side->bytes);
    uint64_t base = (uintptr_t)side->memory;
    pair_send(pair, &base, sizeof base);
    double ns = pair_export(side, pair);
    pair_send(pair, &ns, sizeof ns);
    (void)pair_import(side, pair);
    pair_receive(pair, &over, sizeof over);
}

static void transfer(struct side *side, nixl_capi_xfer_dlist_handle_t local,
                     nixl_capi_xfer_dlist_handle_t remote, uint64_t count)
{
    int times = count == 1 ? ONES : count > 10000 ? 3 : 20;

    for (int i = 0; i <= times; i++) {
        uint64_t began = now_ns();
        nixl_capi_xfer_req_t request =
            side_make(side, NIXL_CAPI_XFER_OP_WRITE, local, remote, count);
        double made = (double)(now_ns() - began);
        struct post_times took = side_post(side, request);

        side_release(side, request);
        if (i == 0)
            continue; /* connections are made with the first */
        sample_give("make a request, each", count, LENGTH, made / (double)count);
        sample_give("post, each", count, LENGTH, took.post / (double)count);
        sample_give("complete, each", count, LENGTH, took.complete / (double)count);
        sample_give("make and complete, each", count, LENGTH,
                    (made + took.complete) / (double)count);
    }
}

void measure_exchange(const char *library, uint64_t count)
{
    struct side side;
    struct pair pair;
    uint64_t base;
    double exported;
    uint32_t *order = side_shuffle(count, 3);
    struct pieces pieces = {.count = count, .stride = STRIDE, .length = LENGTH, .order = order};

    library_of_peer = library;
    pair_start(&pair, count, serve);
    open_all(&side, library, "exchange", count);
    memset(side.memory, 2, side.bytes);
    pair_receive(&pair, &base, sizeof base);
    double imported = pair_import(&side, &pair);
    pair_receive(&pair, &exported, sizeof exported);
    (void)pair_export(&side, &pair);
    sample_give("export, all", count, 0, exported);
    sample_give("import, all", count, 0, imported);

    uint64_t began = now_ns();
    nixl_capi_xfer_dlist_handle_t local = side_prepare(&side, "", (uintptr_t)side.memory, &pieces);
    nixl_capi_xfer_dlist_handle_t remote = side_prepare(&side, "exchange-peer", base, &pieces);
    sample_give("list and prepare both sides, each", count, 0,
                (double)(now_ns() - began) / (double)count);
    transfer(&side, local, remote, count);
    pair_send(&pair, "", 1);
}
