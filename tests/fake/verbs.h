/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_VERBS_H
#define LEND_TESTS_FAKE_VERBS_H

#include "transport/verbs/door.h"

#include <stdbool.h>

/*
 * A fake libibverbs with fake NICs: queue pairs of this process move bytes between its memory
 * regions and windows, on one thread. It does what a test tells it, so that things happen which no
 * soft-RoCE does, such as dma-buf, limits of memory windows, a device that dies, every status of a
 * completion, and a registration that fails at the n-th call. What a NIC does is shown on one.
 *
 * It checks rights, bounds and keys as a provider does: a peer without a right gets
 * LEND_VERBS_WC_REMOTE_ACCESS, and both queue pairs are in error.
 */

enum { FAKE_VERBS_DEVICES_MAX = 4, FAKE_VERBS_GIDS_MAX = 8 };

/* A NIC, which a test may change before it is opened. */
struct fake_verbs_device {
    int link_layer; /* LEND_VERBS_LINK_...; one port */
    int port_state;
    int transport_type;
    unsigned capabilities; /* LEND_VERBS_DEVICE_... */
    uint32_t vendor_id;
    uint64_t region_bytes_max;
    int windows_max;
    int regions_max;
    uint32_t message_bytes_max;
    uint8_t active_width; /* of the port: 4X, */
    uint8_t active_speed; /* each of 25 Gbit/s */
    uint64_t odp_general;
    uint32_t odp_rc;
    bool is_old;                  /* its context has no functions beyond the first */
    bool has_dma_buf;             /* the driver takes such memory; else EOPNOTSUPP */
    bool refuses_dma_buf_windows; /* EINVAL for the right to bind them over a dma-buf */
    unsigned misleads;            /* bit n: a dma-buf exported with flags n leads to nothing */
    bool has_peer_memory;         /* device memory by its address; else EFAULT */
    uint32_t gid_count;
    struct lend_verbs_gid_entry gids[FAKE_VERBS_GIDS_MAX];
};

struct fake_verbs {
    int device_count; /* "fake0" ... */
    struct fake_verbs_device devices[FAKE_VERBS_DEVICES_MAX];
    int list_errno;  /* get_device_list() fails so */
    int open_errno;  /* and open_device() */
    int fork_status; /* LEND_VERBS_FORK_... */
    bool refuses_channels;

    int fail_at;   /* that call which may fail does so, counted from 0; -1: none */
    int failure;   /* with that errno */
    int calls;     /* of them, since the reset; works and polls are not among them */
    bool is_swept; /* they are calls of the double's, too, which is installed: see double.h */
    int fail_register_at; /* that registration fails, counted from 0; -1: none */
    int registrations;    /* tried since the reset */
    int deregister_errno; /* dereg_mr() fails so, until it is 0 again */
    int deallocate_errno; /* dealloc_mw() fails so, */
    bool deallocate_once; /* the next one, or every one until that is 0 again */
    int post_errno;       /* the next post_send() fails so, once */

    bool holds;    /* work for a peer waits for fake_verbs_let_go() */
    bool stalls;   /* and so do binds of windows, and the ends of bindings */
    int status_at; /* that piece of work ends with status, counted from 0; -1: none */
    int status;    /* LEND_VERBS_WC_... */
    int works;     /* that ended, since the reset, */
    int works_of[FAKE_VERBS_DEVICES_MAX];      /* and by which NIC; */
    uint64_t bytes_of[FAKE_VERBS_DEVICES_MAX]; /* and of how many bytes */
    int receives;                              /* that took a message */
    int posts;                                 /* calls of post_send() that were good */
    int polls;                                 /* calls of poll_cq() */
    int arms;                                  /* of req_notify_cq(); */
    bool is_late;                              /* before each of which all held work happens */

    bool is_beside;       /* the kernel moves the bytes, and no tool sees two threads at them */
    unsigned last_access; /* of the last registration */
    int last_fd;          /* of the last registration of a dma-buf */
    uint64_t last_offset;
    unsigned last_export; /* the flags it was exported with */
    int last_sgid_index;  /* that a queue pair was to begin at */
    int qps_made;
    /* Not given back. */
    int contexts, pds, mrs, mws, channels, cqs, qps, unacknowledged;
};

extern struct fake_verbs fake_verbs;
extern const struct lend_verbs_ops fake_verbs_ops;
/* The same of a library of long ago: what may be NULL is. */
extern const struct lend_verbs_ops fake_verbs_old_ops;

/* What several threads may use, for agents with progress of their own. Bytes are moved by the
 * kernel, as nothing orders a NIC and the memory's owner. */
extern const struct lend_verbs_ops fake_verbs_threads_ops;

/* Two Ethernet NICs that can do everything, with GIDs of RoCE v1 and v2: fake0 has 10.77.0.1, fake1
 * 10.77.0.2. Nothing fails. */
void fake_verbs_reset(void);
/* Things made and not given back. */
int fake_verbs_kept(void);
/* Has the NIC a memory region of that key? */
bool fake_verbs_knows(const struct lend_verbs_context *context, uint32_t rkey);
/* Free what is left, as the end of a process does; contexts that are open stay so. */
void fake_verbs_abandon(void);
/* So many pieces of held work happen, in order; how many did. */
int fake_verbs_let_go(int count);
/* The same of that NIC's alone. */
int fake_verbs_let_go_of(int device, int count);
/* Tell the users of a device that something happened to it, or to a port or queue pair of it; with
 * LEND_VERBS_EVENT_DEVICE_FATAL every queue pair of it is in error, and every call fails (EIO). */
void fake_verbs_event(int device, int type, int port, struct lend_verbs_qp *qp);

#endif
