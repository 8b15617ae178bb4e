/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_PROBE_RDMA_H
#define LEND_TOOL_PROBE_RDMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was seen of RDMA: libibverbs, its devices, their ports. */

enum { PROBE_RDMA_DEVICES_MAX = 8, PROBE_RDMA_PORTS_MAX = 2, PROBE_RDMA_GIDS_MAX = 64 };

struct probe_rdma_gid {
    uint8_t index;
    bool is_roce_v2;
    uint8_t bytes[16];
};

struct probe_rdma_port {
    bool is_active;
    bool is_ethernet; /* RoCE */
    bool has_address; /* an RoCE v2 GID that is an address of IP of more than the link */
    uint32_t mtu;
    uint32_t gid_count;
    char state[24];                                  /* in the kernel's words */
    struct probe_rdma_gid rows[PROBE_RDMA_GIDS_MAX]; /* those that are set, */
    char gids[256]; /* and as text: "1 RoCE v2 ::ffff:10.0.0.1 (eth0); ..." */
};

struct probe_rdma_device {
    char name[64];
    char firmware[64];
    char pci[16];  /* "" for one without */
    char why[128]; /* it cannot be opened; what follows is void, but for ports */
    int32_t numa_node;
    bool is_iwarp;
    bool has_windows_2b;
    bool has_on_demand;
    bool has_dma_buf;
    uint64_t region_bytes_max;
    uint32_t regions_max;
    uint32_t windows_max;
    uint32_t queue_pairs_max;
    uint32_t port_count;
    struct probe_rdma_port ports[PROBE_RDMA_PORTS_MAX];
};

struct probe_rdma {
    char path[128]; /* of the library */
    char why[256];  /* there is none, or no device: the cause and the remedy */
    bool has_relaxed_ordering;
    bool is_fork_safe; /* the kernel copies what is pinned when a process forks */
    uint32_t count;
    struct probe_rdma_device devices[PROBE_RDMA_DEVICES_MAX];
};

#define PROBE_RDMA_DEFAULT "libibverbs.so.1"

/* Look, in a child. -ENOENT: no library or no device, and out->why says why. */
int probe_rdma_look(const char *library, struct probe_rdma *out);

#endif
