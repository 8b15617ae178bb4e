/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_WINDOW_H
#define LEND_TRANSPORT_VERBS_WINDOW_H

#include "transport/verbs/device.h"

/*
 * Memory windows of type 2B, kept: the right of one peer's queue pair to write one range. Binding
 * and ending are work requests on the peer's queue pair, which the caller posts and whose
 * completions it brings back; here is which window is in what state, and with which key.
 *
 *     take --> FREE --bind--> BINDING --bound--> BOUND --end--> ENDING --ended--> FREE --> give
 *                                 |                               |
 *                                 `---- the queue pair breaks ----`----> lost (deallocated)
 *
 * The key of a window changes its last byte with each binding, so that the key of an earlier one is
 * refused, until it comes round after 256: a window rests then, and another one is made.
 *
 * A cache is of one NIC. The caller locks.
 */

enum lend_verbs_window_state {
    LEND_VERBS_WINDOW_FREE = 0,
    LEND_VERBS_WINDOW_BINDING = 1,
    LEND_VERBS_WINDOW_BOUND = 2,
    LEND_VERBS_WINDOW_ENDING = 3,
    LEND_VERBS_WINDOW_BROKEN = 4, /* nobody knows: the queue pair must be reset, then drop() */
};

struct lend_verbs_window {
    struct lend_verbs_window *next; /* in the cache */
    struct lend_verbs_mw *mw;
    uint32_t rkey;     /* of the binding that is, or was last */
    uint32_t bindings; /* so far */
    uint32_t qp_num;   /* that it is bound to */
    uint8_t state;     /* ::lend_verbs_window_state */
    uint64_t address;
    uint64_t bytes;
    struct lend_verbs_mr *mr;
    void *owner; /* the caller's */
};

struct lend_verbs_windows {
    struct lend_verbs_nic *nic;
    struct lend_verbs_window *free;
    struct lend_verbs_window *worn; /* that the provider did not take back */
    uint32_t free_count;
    uint32_t keep; /* at most so many free ones */
    uint32_t made; /* windows that exist, taken or free */
    uint32_t limit;
    int failure; /* of the last deallocation that failed, an errno */
};

/* limit: windows at one time; 0: what the NIC has. keep: as many free ones stay. */
void lend_verbs_windows_init(struct lend_verbs_windows *windows, struct lend_verbs_nic *nic,
                             uint32_t limit, uint32_t keep);
/* Deallocate the free ones. LEND_E_BUSY: some are taken, or the provider kept some. */
enum lend_status lend_verbs_windows_fini(struct lend_verbs_windows *windows,
                                         struct lend_error *error);
/* In a forked child: free the memory alone. */
void lend_verbs_windows_forget(struct lend_verbs_windows *windows);

/* A free window. LEND_E_UNSUPPORTED: the NIC has none of type 2B. LEND_E_LIMIT: no more. */
enum lend_status lend_verbs_window_take(struct lend_verbs_windows *windows,
                                        struct lend_verbs_window **out, struct lend_error *error);
/* Fill in the work request that binds it for remote write, with the caller's wr_id and flags
 * already set; window->rkey is the key that will hold. Post it on that queue pair. */
void lend_verbs_window_bind(struct lend_verbs_window *window, const struct lend_verbs_qp *qp,
                            struct lend_verbs_mr *mr, uint64_t address, uint64_t bytes,
                            struct lend_verbs_send *work);
/* That work request completed, with that status; or it could not be posted (any failure, with
 * was_posted false): then the window is free again, with its former key. True: it is bound. */
bool lend_verbs_window_bound(struct lend_verbs_window *window, int wc_status, bool was_posted);
/* Fill in the work request that ends the binding (local invalidate). It is asked to be fenced and
 * signaled: behind it nothing of the peer lands on this NIC's word, see docs/fencing.md. */
void lend_verbs_window_end(struct lend_verbs_window *window, struct lend_verbs_send *work);
/* That one completed. True: the window is free. False: it is broken. */
bool lend_verbs_window_ended(struct lend_verbs_window *window, int wc_status, bool was_posted);
/* Back to the cache; it is free. */
void lend_verbs_window_give(struct lend_verbs_windows *windows, struct lend_verbs_window *window);
/* The queue pair that it was bound to is reset or destroyed: deallocate it, whatever its state.
 * LEND_E_BUSY: the provider did not let go of it: it counts as taken, the memory region under it
 * cannot be deregistered, and it may be called again. */
enum lend_status lend_verbs_window_drop(struct lend_verbs_windows *windows,
                                        struct lend_verbs_window *window, struct lend_error *error);

#endif
