/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_DEVICE_H
#define LEND_TRANSPORT_VERBS_DEVICE_H

#include "core/transport.h"
#include "transport/verbs/door.h"
#include "transport/verbs/named.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

/*
 * The RDMA devices of the machine (NICs): what they are, what they can do, and how their ports are
 * reached. A NIC is opened and closed by one thread, and read by any; its ports change.
 */

enum {
    LEND_VERBS_NICS_MAX = 16,                     /* opened by one agent */
    LEND_VERBS_PORTS_MAX = 8,                     /* that we look at, of one NIC */
    LEND_VERBS_GIDS_MAX = 256,                    /* that we look at, of one port */
    LEND_VERBS_ORDINALS_MAX = LEND_RAIL_GPUS_MAX, /* GPUs have lower numbers */
};

struct lend_verbs_gid_row {
    uint8_t gid[LEND_VERBS_GID_BYTES];
    uint32_t index; /* sgid_index */
    uint32_t type;  /* LEND_VERBS_GID_... */
};

struct lend_verbs_port {
    uint8_t number; /* from 1 */
    uint8_t state;  /* LEND_VERBS_PORT_... */
    uint8_t link_layer;
    uint8_t mtu; /* LEND_VERBS_MTU_... */
    uint16_t lid;
    uint32_t message_bytes_max;
    uint32_t rate_mbps;    /* of its link, in Mbit/s; 0: not known */
    uint32_t gid_capacity; /* of its table */
    uint32_t gid_count;
    struct lend_verbs_gid_row *gids; /* those that are set, by their index */
};

/* What a NIC can do, as far as we use it. */
struct lend_verbs_abilities {
    uint64_t region_bytes_max; /* one memory region */
    uint32_t queue_pairs_max;
    uint32_t work_requests_max; /* in one queue */
    uint32_t completions_max;   /* in one queue */
    uint32_t regions_max;
    uint32_t windows_max;     /* memory windows of both types */
    uint32_t pieces_max;      /* scatter entries of one work request, */
    uint32_t read_pieces_max; /* and of a READ */
    uint32_t
        served_reads_max; /* READs of a peer under way, on one queue pair (max_dest_rd_atomic) */
    uint32_t reads_max;   /* READs of ours under way, on one queue pair (max_rd_atomic) */
    bool has_windows_2b;  /* memory windows of type 2B, and local invalidate for them */
    bool has_on_demand;   /* on-demand paging for RC reads and writes */
    bool has_relaxed_ordering; /* the library can ask for it; it is the NIC's to follow */
    bool has_dma_buf;          /* library, kernel and driver know the call */
};

struct lend_verbs_nic {
    const struct lend_verbs_ops *verbs;
    struct lend_verbs_context *context;
    struct lend_verbs_pd *pd; /* one a NIC and agent */
    char name[LEND_VERBS_NAME_BYTES];
    struct lend_verbs_named named; /* what its user named of it: of no other is use made */
    char firmware[64];
    bool is_iwarp;
    int32_t numa_node; /* -1: not known */
    char pci[32];      /* "0000:3b:00.0", "" for one without */
    struct lend_verbs_abilities abilities;
    uint8_t port_count;
    /* Of each GPU: bit n is set if exports with flag n are not to be used by it (trial.h). */
    _Atomic uint8_t unfit_exports[LEND_VERBS_ORDINALS_MAX];
    _Atomic bool is_dead; /* it has said that nothing of it works any more */
    pthread_mutex_t lock; /* a leaf: guards the ports */
    struct lend_verbs_port ports[LEND_VERBS_PORTS_MAX];
};

/* How many devices there are; at most capacity of their names go to out. LEND_E_UNSUPPORTED: no
 * library. LEND_E_ABSENT: there are none, and why, and what to do. */
enum lend_status lend_verbs_list(const struct lend_verbs_ops *verbs,
                                 char (*out)[LEND_VERBS_NAME_BYTES], uint32_t capacity,
                                 uint32_t *out_count, struct lend_error *error);

/* Open a device as a user names it, with a protection domain, and look at its ports. LEND_E_ABSENT:
 * no such device, or not what was named of it; LEND_E_ACCESS: we may not open it; LEND_E_INVALID:
 * no name, or a GID that does not serve; LEND_E_DEVICE, LEND_E_NO_MEMORY, LEND_E_SYSTEM. */
enum lend_status lend_verbs_nic_open(const struct lend_verbs_ops *verbs, const char *name,
                                     struct lend_verbs_nic **out, struct lend_error *error);
/* Close it; everything made on it is gone already. NULL is a no-op. LEND_E_SYSTEM: the provider did
 * not give something back (it says what, and all that can be freed is). */
enum lend_status lend_verbs_nic_close(struct lend_verbs_nic *nic, struct lend_error *error);
/* In a forked child: free the memory, and leave the device to the parent. */
void lend_verbs_nic_forget(struct lend_verbs_nic *nic);
/* Look at a port again, after an event of it (port up or down, GIDs changed). Any thread. */
enum lend_status lend_verbs_port_refresh(struct lend_verbs_nic *nic, uint8_t port,
                                         struct lend_error *error);
/* Is that port up, as far as the NIC has told? Any thread. */
bool lend_verbs_port_is_up(struct lend_verbs_nic *nic, uint8_t port);

/* Where a path begins: a port of one of our NICs, and its address there. */
struct lend_verbs_place {
    struct lend_verbs_nic *nic;
    struct lend_verbs_port port;   /* as it was then, without its GIDs */
    struct lend_verbs_gid_row gid; /* of an InfiniBand port its first */
};

/* What decides between our places; what is not known is NULL. */
struct lend_verbs_wish {
    /* Our own address of a connection to the peer, of the control channel, say. */
    const struct sockaddr_storage *local;
    const uint8_t *peer_gid; /* of the same link as ours; RoCE: the route to it decides */
};

/*
 * Choose the place from which to reach a peer, among what was named of those NICs. A GID that was
 * named is taken, whatever the routes say. On Ethernet RoCE v2 alone: the GID with the address
 * from which this machine's routes lead to the peer's (by peer_gid, else by local); without any of
 * them a GID of IPv4, of IPv6, and of IPv6's link, in this order. LEND_E_NO_PATH: why none will do,
 * by name.
 */
enum lend_status lend_verbs_choose(struct lend_verbs_nic *const *nics, uint32_t count,
                                   const struct lend_verbs_wish *wish, struct lend_verbs_place *out,
                                   struct lend_error *error);

/* The address of an RoCE v2 GID, with port 0; false: it is no address of IP. */
bool lend_verbs_gid_address(const uint8_t *gid, struct sockaddr_storage *out);
/* And back. False: another family. */
bool lend_verbs_gid_of(const struct sockaddr_storage *address, uint8_t *gid);
/* "::ffff:10.0.0.1", "fe80::1" (at least 46 bytes). */
void lend_verbs_gid_text(const uint8_t *gid, char *text, size_t capacity);

/* MTU in bytes of LEND_VERBS_MTU_...; 0: none of them. */
uint32_t lend_verbs_mtu_bytes(uint8_t mtu);

/* May this process fork while memory is registered? LEND_E_UNSUPPORTED: only with consent: the
 * kernel (before 5.12) or library (before rdma-core 35) do not copy pinned pages for the child, so
 * that a fork can move the parent's away from under the NIC. */
enum lend_status lend_verbs_check_fork(const struct lend_verbs_ops *verbs, bool consents,
                                       struct lend_error *error);

/* The beginning of a file, as text. False: it cannot be read, or is empty. */
bool lend_verbs_read_text(const char *path, char *text, size_t capacity);
/* Is the kernel's way from a NIC to memory of a GPU without dma-buf there (nvidia_peermem)? Else
 * why holds the reason and the remedy. */
bool lend_verbs_has_peer_memory(char *why, size_t capacity);

#endif
