/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_MAPPED_H
#define LEND_MEMORY_MAPPED_H

#include "memory/lane.h"

/*
 * Memory of a GPU that other processes of this host open, and that their own GPUs copy from. Its
 * owner writes down what there is to know, a struct lend_device_share; whoever reads that opens it.
 *
 * What was allocated with cudaMalloc is one allocation with one handle. Chunks of the driver's
 * virtual memory (expandable segments) have a handle each, and what opens them maps them side by
 * side, as their owner has them. An allocation of a memory pool has two: the pool's and its own.
 *
 * A handle is bytes, or it is a descriptor, which is made when it is asked for and handed over: no
 * end keeps more than one of them, however many chunks there are.
 */

enum {
    LEND_DEVICE_HANDLE_BYTES = 64,
    LEND_DEVICE_PARTS_MAX = 8192, /* of one share: 16 GiB of 2 MiB each */
};

enum lend_device_kind {
    LEND_DEVICE_ALLOCATION = 0, /* CUDA IPC */
    LEND_DEVICE_CHUNKS = 1,
    LEND_DEVICE_POOLED = 2,
};

/* How memory can be opened. */
struct lend_device_way {
    enum lend_device_kind kind;
    uint64_t handle_types; /* of all its chunks, or of its pool; a bit each */
};

struct lend_device_part {
    uint64_t bytes;
    uint8_t handle[LEND_DEVICE_HANDLE_BYTES]; /* zeros where it is a descriptor */
};

/* What the owner writes, and other processes read. */
struct lend_device_share {
    uint64_t id;                              /* of the first allocation, the driver's, */
    uint64_t base;                            /* where its owner has it, */
    uint64_t bytes;                           /* from there to the end of the last one */
    uint8_t handle[LEND_DEVICE_HANDLE_BYTES]; /* of an allocation */
    uint32_t kind;
    uint32_t handle_type; /* of the parts */
    uint32_t part_count;  /* chunks; or 1, the pool */
    uint32_t reserved;
    struct lend_device_part parts[];
};

size_t lend_device_share_bytes(const struct lend_device_share *share);

/* --- the owner's side --- */

/* How can others open the memory? LEND_E_UNSUPPORTED: not at all; which part of it, and what to do.
 * LEND_E_LIMIT, LEND_E_DEVICE. */
enum lend_status lend_device_judge(const struct lend_device_memory *memory,
                                   struct lend_device_way *out, struct lend_error *error);
/* Write it down, of whole allocations, the first of which begins where the memory does. The caller
 * releases it. LEND_E_UNSUPPORTED, LEND_E_DEVICE, LEND_E_NO_MEMORY. */
enum lend_status lend_device_export(const struct lend_device_memory *whole,
                                    const struct lend_device_way *way,
                                    struct lend_device_share **out, struct lend_error *error);
/* A new descriptor of that part, if it is what the owner thinks that it is. LEND_E_STALE,
 * LEND_E_DEVICE. */
enum lend_status lend_device_export_part(const struct lend_device_memory *whole,
                                         const struct lend_device_way *way, uint32_t index,
                                         int *out_fd, struct lend_error *error);

/* --- the reader's side --- */

/* What is opened, or about to be. */
struct lend_mapped;

/* Begin to open what another process says that it has, for the lane's copies to read. Nothing of
 * what it says is believed. LEND_E_UNSUPPORTED, LEND_E_DEVICE, LEND_E_NO_MEMORY. */
enum lend_status lend_mapped_begin(const struct lend_lane *lane, const void *told, uint64_t bytes,
                                   struct lend_mapped **out, struct lend_error *error);
/* Is the descriptor of a part wanted next? */
bool lend_mapped_wants(const struct lend_mapped *mapped, uint32_t *out_index);
/* Go on, with that descriptor, which stays the caller's, or with -1. LEND_PENDING: there is more to
 * do. LEND_OK: it is open. Any failure: it is to be closed. */
enum lend_status lend_mapped_go_on(struct lend_mapped *mapped, int fd, struct lend_error *error);
/* Where its first byte is in the lane's context; 0 until it is open. And all of its bytes. */
uint64_t lend_mapped_address(const struct lend_mapped *mapped);
uint64_t lend_mapped_bytes(const struct lend_mapped *mapped);
/* Close what is open of it, from which nothing is copied any more, and release it. False: the
 * driver did not close all, and some of it is open still. */
bool lend_mapped_close(struct lend_mapped *mapped);
/* Release what is known of it, and leave it open. */
void lend_mapped_forget(struct lend_mapped *mapped);

#endif
