/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_RDMA_SCENE_H
#define LEND_TESTS_RDMA_SCENE_H

#include "../acts/acts.h"
#include "hostile.h"

/*
 * An owner, and peers in processes of their own: memory of the owner's that is registered as lend
 * registers it, for remote reads and for the binding of windows, and a window for each peer.
 */

enum {
    SCENE_PEERS = 2,
    SCENE_BYTES = 2 * HOSTILE_BYTES,
    SCENE_BYTE = 0x11, /* what is in it at first */
};

struct scene {
    struct line_host host;
    uint8_t *memory;
    struct ibv_mr *region;
    struct ibv_mr *lent; /* of what is lent, where that is not by a window */
    struct ibv_mw *windows[SCENE_PEERS];
    struct hostile peers[SCENE_PEERS];
    uint32_t count;
};

void scene_open(struct scene *scene, uint32_t peers);
void scene_close(struct scene *scene);
/* Register the memory again, after an ibv_dereg_mr(). */
void scene_register(struct scene *scene);
/* Another window for that peer: deallocation ends one that no invalidate can reach any more. */
void scene_renew(struct scene *scene, uint32_t peer);
/* Lend the first half to that peer for writing; what it then holds. */
struct hostile_keys scene_lend(struct scene *scene, uint32_t peer);
/* The same, by a region of these blocks alone: for whoever knows its key. scene_take_back() is its
 * end. */
struct hostile_keys scene_lend_region(struct scene *scene);
void scene_take_back(struct scene *scene);
/* Its keys for reading the same. */
struct hostile_keys scene_reading(const struct scene *scene);
/* Nothing but that byte is in those. */
bool scene_is(const struct scene *scene, uint64_t from, uint64_t bytes, uint8_t byte);

#endif
