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
    bool orders_remote_writes;   /* what NICs have written is seen by what the GPU begins after; */
    bool flushes_remote_writes;  /* or else after a flush */
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
/* Do that piece, and wait until it is over. */
enum lend_status lend_lane_do(struct lend_lane *lane, const struct lend_lane_piece *piece,
                              struct lend_error *error);
/* Set it behind what another stream of the lane's context has now; 0: the default stream. */
enum lend_status lend_lane_follow(struct lend_lane *lane, uint64_t stream,
                                  struct lend_lane_mark *mark, struct lend_error *error);
/* There is no work before it, or none that anybody minds. */
void lend_lane_drop_mark(struct lend_lane_mark *mark);

/* Where the lane's GPU is, as "0000:3B:00.0". False: the driver does not say. */
enum { LEND_PCI_BYTES = 16 };
bool lend_lane_pci(const struct lend_lane *lane, char out[LEND_PCI_BYTES]);

/* Can what NICs write to memory of the lane's GPU be made visible to what that begins afterwards?
 * LEND_E_UNSUPPORTED: not by this driver. */
enum lend_status lend_lane_check_remote_writes(const struct lend_lane *lane,
                                               struct lend_error *error);
/* Make it so of all that they have written. LEND_E_BUSY: the driver did not; it may be called
 * again. LEND_E_DEVICE: its context has broken down, and nobody uses its memory any more. */
enum lend_status lend_lane_flush(const struct lend_lane *lane, struct lend_error *error);

/* Memory of the host that any device copies to and from by itself. LEND_E_DEVICE. */
enum lend_status lend_lane_pin(const struct lend_lane *lane, size_t bytes, void **out,
                               struct lend_error *error);
void lend_lane_unpin(const struct lend_lane *lane, void *memory);

/* Memory of the lane's device; waits for the driver. LEND_E_NO_MEMORY, LEND_E_DEVICE. */
enum lend_status lend_lane_allocate(const struct lend_lane *lane, size_t bytes, uint64_t *out,
                                    struct lend_error *error);
void lend_lane_free(const struct lend_lane *lane, uint64_t address);

/* The lane's context is the thread's current one until leave(); the one before it comes back then.
 */
enum lend_status lend_lane_enter(const struct lend_lane *lane, struct lend_error *error);
void lend_lane_leave(const struct lend_lane *lane);

#endif
