/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/info.h"

#include <stdio.h>
#include <string.h>

/* RDMA: the library, each device with what it can do, and each port with its addresses. */

static const char section[] = "rdma";

enum { NAME_BYTES = 96, NAMES_MAX = PROBE_RDMA_DEVICES_MAX * (5 + 2 * PROBE_RDMA_PORTS_MAX) };

/* Rows keep pointers to their names. */
static char names[NAMES_MAX][NAME_BYTES];
static unsigned name_count;

static const char *name_of(const struct probe_rdma_device *device, const char *rest)
{
    char *name = names[name_count++ % NAMES_MAX];

    (void)snprintf(name, NAME_BYTES, "%.63s%s", device->name, rest);
    return name;
}

static void tell_ability(struct info *info, const struct probe_rdma_device *device,
                         const char *ability, bool has_it, const char *meaning)
{
    info_value(info, section, name_of(device, ability), "%s", has_it ? "yes" : "no");
    info_meaning(info, "%s", meaning);
}

static void tell_port(struct info *info, const struct probe_rdma_device *device, uint32_t number)
{
    const struct probe_rdma_port *port = &device->ports[number - 1];
    char rest[24];

    (void)snprintf(rest, sizeof rest, ":%u", number);
    info_value(info, section, name_of(device, rest), "%s, %s, MTU %u",
               device->is_iwarp    ? "iWARP"
               : port->is_ethernet ? "RoCE"
                                   : "InfiniBand",
               port->state, port->mtu);
    if (!port->is_active)
        info_meaning(info, "nothing goes by a port that is not ACTIVE: see `rdma link'");
    else if (port->is_ethernet && !port->has_address)
        info_meaning(info, "it has no RoCE v2 GID of an address: give its network device one");
    else
        info_meaning(info, "its port");
    (void)snprintf(rest, sizeof rest, ":%u GIDs", number);
    info_value(info, section, name_of(device, rest), "%u", port->gid_count);
    info_meaning(info, "%s", port->gids[0] != '\0' ? port->gids : "none is set");
}

static void tell_device(struct info *info, const struct probe_rdma_device *device)
{
    const char *name = name_of(device, "");

    if (device->why[0] != '\0') {
        info_value(info, section, name, "%s", "no");
        info_meaning(info, "%s", device->why);
        return;
    }
    info_value(info, section, name, "firmware %s",
               device->firmware[0] != '\0' ? device->firmware : "unknown");
    info_meaning(info, "%s%s, NUMA node %d; %u queue pairs, %u memory regions of up to %llu bytes",
                 device->pci[0] != '\0' ? "PCI " : "no PCI device", device->pci, device->numa_node,
                 device->queue_pairs_max, device->regions_max,
                 (unsigned long long)device->region_bytes_max);
    for (uint32_t i = 1; i <= device->port_count; i++)
        tell_port(info, device, i);
    info_value(info, section, name_of(device, " windows 2B"), "%s",
               device->has_windows_2b ? "yes" : "no");
    if (device->has_windows_2b)
        info_meaning(info, "%u memory windows: what is lent for writing is taken back by them",
                     device->windows_max);
    else
        info_meaning(info, "without memory windows each write lease takes a memory region");
    tell_ability(info, device, " on-demand paging", device->has_on_demand,
                 device->has_on_demand ? "for RC; lend pins memory all the same"
                                       : "memory is pinned, and counts against RLIMIT_MEMLOCK");
    tell_ability(info, device, " dma-buf", device->has_dma_buf,
                 device->has_dma_buf
                     ? "library, kernel and driver take memory of a GPU as dma-buf"
                     : "it needs rdma-core 34, Linux 5.12 and a driver that knows it");
}

static void tell_peer_memory(struct info *info)
{
    bool is_there = probe_peer_memory(info->probe);

    info_value(info, section, "peer memory", "%s", is_there ? "yes" : "no");
    info_meaning(info, "%s",
                 is_there ? "memory of a GPU is registered by it where dma-buf does not serve"
                          : "kernel module nvidia_peermem is not loaded (modprobe nvidia-peermem); "
                            "memory of a GPU needs it, or dma-buf");
}

void info_tell_rdma(struct info *info)
{
    static struct probe_rdma rdma; /* for its size */

    name_count = 0;
    bool has_devices = info->probe->rdma(NULL, &rdma) == 0;
    info_value(info, section, "libibverbs", "%s", rdma.path[0] != '\0' ? "yes" : "no");
    if (has_devices)
        info_meaning(info, "%s, %s relaxed ordering; fork %s", rdma.path,
                     rdma.has_relaxed_ordering ? "with" : "without",
                     rdma.is_fork_safe ? "needs no care" : "needs the caller's consent");
    else
        info_meaning(info, "%s", rdma.why);
    for (uint32_t i = 0; i < rdma.count; i++)
        tell_device(info, &rdma.devices[i]);
    tell_peer_memory(info);
}
