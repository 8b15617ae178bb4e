/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_LANE_H
#define LEND_MEMORY_LANE_H

#include "memory/device.h"
#include "memory/kernel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

/*
 * Lanes: where copies between device memory and the host's run by themselves. Each context has one,
 * a stream of our own that waits for no other. What was put into a lane is over when a mark that
 * was set behind it says so; nobody waits in the driver for that.
 *
 * The caller's current context is as it was when a function returns.
 */

enum { LEND_LANES_MAX = 16 };

struct lend_cuda_ops;

struct lend_lane {
    const struct lend_cuda_ops *cuda;
    void *context;
    void *stream;
    int32_t ordinal;
    bool is_primary;             /* the context is the device's primary one, and retained by us */
    bool was_equipped;           /* or was tried to be; lend_lanes::lock */
    _Atomic bool has_no_batches; /* the driver has them, and does not make them here */
    struct lend_kernel kernel;   /* for small pieces, once it was equipped */
};

struct lend_lanes {
    pthread_mutex_t lock; /* guards count; a lane that is there stays as it is */
    uint32_t count;
    struct lend_lane lanes[LEND_LANES_MAX];
};

void lend_lanes_init(struct lend_lanes *lanes);
/* Nothing is in them any more. A forked child has no driver: nothing of it is touched there. */
void lend_lanes_fini(struct lend_lanes *lanes, bool forked);

/* Give the memory its lane, which is made if there is none. LEND_E_UNSUPPORTED, LEND_E_DEVICE,
 * LEND_E_LIMIT. */
enum lend_status lend_lane_assign(struct lend_lanes *lanes, struct lend_device_memory *memory,
                                  struct lend_error *error);

/* Have the lane copy many small pieces at once, if nobody has before. LEND_E_DEVICE, told once: the
 * driver does not translate our code, and each is copied by itself, or by the driver's batches. */
enum lend_status lend_lane_equip(struct lend_lanes *lanes, struct lend_lane *lane,
                                 struct lend_error *error);
/* How many pieces it is well to put in by one call. */
uint32_t lend_lane_pieces_max(const struct lend_lane *lane);

/* A piece of work: between the host's memory and the device's, within that, or zeros (both of host
 * and from are none). */
struct lend_lane_piece {
    uint64_t device;
    void *host;    /* of lend_lane_pin() */
    uint64_t from; /* device memory that is copied to `device`; 0: it is not that */
    uint64_t bytes;
    bool is_to_device; /* from the host's */
};

/* What tells when work is over. */
struct lend_lane_mark {
    struct lend_lane *lane; /* NULL: it was never set */
    void *event;
    bool is_set;                    /* behind the last work; else it is to be tried again */
    struct lend_kernel_table table; /* that the work reads, until it is known to be over */
};

/* Put in the pieces and a mark behind them. A failure may come when some of the pieces are under
 * way: the mark tells of those as well. */
enum lend_status lend_lane_put(struct lend_lane *lane, const struct lend_lane_piece *pieces,
                               uint32_t count, struct lend_lane_mark *mark,
                               struct lend_error *error);
/* Is all over that was put in before the mark? LEND_PENDING: no, or it cannot be known.
 * LEND_E_DEVICE: its context has broken down, and with it all work has ended. */
enum lend_status lend_lane_ask(struct lend_lane_mark *mark, struct lend_error *error);
/* Set it behind what another stream of the lane's context has now; 0: the default stream. */
enum lend_status lend_lane_follow(struct lend_lane *lane, uint64_t stream,
                                  struct lend_lane_mark *mark, struct lend_error *error);
/* There is no work before it, or none that anybody minds. */
void lend_lane_drop_mark(struct lend_lane_mark *mark);

/* Memory of the host that any device copies to and from by itself. LEND_E_DEVICE. */
enum lend_status lend_lane_pin(const struct lend_lane *lane, size_t bytes, void **out,
                               struct lend_error *error);
void lend_lane_unpin(const struct lend_lane *lane, void *memory);

/* Memory of the lane's device; waits for the driver. LEND_E_NO_MEMORY, LEND_E_DEVICE. */
enum lend_status lend_lane_allocate(const struct lend_lane *lane, size_t bytes, uint64_t *out,
                                    struct lend_error *error);
void lend_lane_free(const struct lend_lane *lane, uint64_t address);

/*
 * Allocations that other processes of this host open, and read by their own GPU's copies. What is
 * opened can be written as well: the driver has no other way.
 */
enum { LEND_DEVICE_HANDLE_BYTES = 64 };

struct lend_device_share {
    uint64_t id;    /* of the allocation, the driver's, */
    uint64_t base;  /* where its owner has it, */
    uint64_t bytes; /* all of it */
    uint8_t handle[LEND_DEVICE_HANDLE_BYTES];
};

/* Make it of the allocation that the memory lies in. LEND_E_UNSUPPORTED: it lies in several, or in
 * one that the driver lets nobody open; which, and what to do. LEND_E_DEVICE. */
enum lend_status lend_device_export(const struct lend_device_memory *memory,
                                    struct lend_device_share *out, struct lend_error *error);
/* Open another process's, as it says that it is: *out_address is that of its first byte in the
 * lane's context. LEND_E_UNSUPPORTED: it is not as long, or cannot be opened; why. */
enum lend_status lend_lane_open(const struct lend_lane *lane, const struct lend_device_share *share,
                                uint64_t *out_address, struct lend_error *error);
/* False: the driver did not, and it is open still. */
bool lend_lane_close(const struct lend_lane *lane, uint64_t address);

#endif
