/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "pair.h"

#include <stdio.h>
#include <string.h>

/* Pieces of one large registration, in any order on both sides, to another process and from it. */

enum { BYTES = 64 << 20, PIECES_MAX = 16384, TIMES = 5 };

static const char *library_of_peer;

static void open_all(struct side *side, const char *library, const char *name, size_t bytes)
{
    side_open(side, library, name, bytes);
    nixl_capi_reg_dlist_t list = side_list(side, 1, 0, bytes);

    side_register(side, list);
    DO(side->api.destroy_reg_dlist(list));
}

static uint64_t count_of(uint64_t piece_bytes)
{
    uint64_t count = BYTES / piece_bytes;

    return count < PIECES_MAX ? count : PIECES_MAX;
}

static void serve(struct side *side, struct pair *pair, uint64_t piece_bytes)
{
    char over;

    open_all(side, library_of_peer, "scatter-peer", count_of(piece_bytes) * piece_bytes);
    memset(side->memory, 0, side->bytes);
    uint64_t base = (uintptr_t)side->memory;
    pair_send(pair, &base, sizeof base);
    (void)pair_export(side, pair);
    (void)pair_import(side, pair);
    pair_receive(pair, &over, sizeof over);
}

static void transfer(struct side *side, nixl_capi_xfer_op_t operation,
                     nixl_capi_xfer_dlist_handle_t local, nixl_capi_xfer_dlist_handle_t remote,
                     const struct pieces *pieces)
{
    const char *name = operation == NIXL_CAPI_XFER_OP_WRITE ? "write" : "read";
    char what[48];
    nixl_capi_xfer_req_t request = side_make(side, operation, local, remote, pieces->count);

    for (int i = 0; i <= TIMES; i++) {
        struct post_times took = side_post(side, request);

        if (i == 0)
            continue; /* pages and connections come with the first */
        snprintf(what, sizeof what, "scattered pieces, %s", name);
        sample_give(what, pieces->count, pieces->length, took.complete);
        snprintf(what, sizeof what, "of that, post, %s", name);
        sample_give(what, pieces->count, pieces->length, took.post);
    }
    side_release(side, request);
}

/* A pattern that differs from piece to piece, and within a piece. */
static void fill(uint8_t *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (uint8_t)((i * 2654435761u) >> 13);
}

void measure_scatter(const char *library, uint64_t piece_bytes)
{
    struct side side;
    struct pair pair;
    uint64_t base;
    uint64_t count = count_of(piece_bytes);
    size_t bytes = count * piece_bytes;
    struct pieces here = {count, piece_bytes, piece_bytes, side_shuffle(count, 1)};
    struct pieces there = {count, piece_bytes, piece_bytes, side_shuffle(count, 2)};

    library_of_peer = library;
    pair_start(&pair, piece_bytes, serve);
    open_all(&side, library, "scatter", 2 * bytes);
    fill(side.memory, bytes);
    memset(side.memory + bytes, 0, bytes);
    pair_receive(&pair, &base, sizeof base);
    (void)pair_import(&side, &pair);
    (void)pair_export(&side, &pair);

    nixl_capi_xfer_dlist_handle_t source = side_prepare(&side, "", (uintptr_t)side.memory, &here);
    nixl_capi_xfer_dlist_handle_t target =
        side_prepare(&side, "", (uintptr_t)side.memory + bytes, &here);
    nixl_capi_xfer_dlist_handle_t remote = side_prepare(&side, "scatter-peer", base, &there);
    transfer(&side, NIXL_CAPI_XFER_OP_WRITE, source, remote, &here);
    transfer(&side, NIXL_CAPI_XFER_OP_READ, target, remote, &here);
    if (memcmp(side.memory, side.memory + bytes, bytes) != 0)
        die("what was written and read again is something else");
    pair_send(&pair, "", 1);
}
