/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe_rdma.h"

#include "tool/probe_agents.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A look at RDMA, in a child: what libibverbs and its providers load is gone with it. What the
 * kernel has in files is read there; libibverbs is asked for the rest, by trying it.
 */

enum { PAGE_BYTES = 4096, ACCESS_ON_DEMAND = 1 << 6, FORK_UNNEEDED = 2 };

/* Of struct ibv_device_attr, as far as it is needed, and more than it is long. */
struct attributes {
    char firmware[64];
    uint64_t guids[2];
    uint64_t region_bytes_max;
    uint64_t page_sizes;
    uint32_t vendor[3];
    int queue_pairs_max;
    int work_requests_max;
    unsigned capabilities;
    int counts[4];
    int regions_max;
    int more[9];
    int windows_max;
    unsigned char rest[256];
};
#define CAPABILITIES_2B ((1U << 24) | (1U << 21)) /* the windows, and local invalidate for them */

struct calls {
    void **(*list)(int *);
    const char *(*name)(void *);
    void *(*open)(void *);
    int (*query)(void *, struct attributes *);
    int (*query_port)(void *, uint8_t, int *);
    void *(*domain)(void *);
    void *(*reg)(void *, void *, size_t, int);
    int (*dereg)(void *);
    void *(*reg_dma_buf)(void *, uint64_t, size_t, uint64_t, int, int); /* NULL: too old */
    int (*fork)(void);                                                  /* likewise */
};

static bool find_calls(void *library, struct calls *out)
{
    *(void **)&out->list = dlsym(library, "ibv_get_device_list");
    *(void **)&out->name = dlsym(library, "ibv_get_device_name");
    *(void **)&out->open = dlsym(library, "ibv_open_device");
    *(void **)&out->query = dlsym(library, "ibv_query_device");
    *(void **)&out->query_port = dlsym(library, "ibv_query_port");
    *(void **)&out->domain = dlsym(library, "ibv_alloc_pd");
    *(void **)&out->reg = dlsym(library, "ibv_reg_mr");
    *(void **)&out->dereg = dlsym(library, "ibv_dereg_mr");
    *(void **)&out->reg_dma_buf = dlsym(library, "ibv_reg_dmabuf_mr");
    *(void **)&out->fork = dlsym(library, "ibv_is_fork_initialized");
    return out->list != NULL && out->name != NULL && out->open != NULL && out->query != NULL &&
           out->query_port != NULL && out->domain != NULL && out->reg != NULL && out->dereg != NULL;
}

/* --- the kernel's files --- */

__attribute__((format(printf, 3, 4))) static bool read_file(char *text, size_t capacity,
                                                            const char *format, ...)
{
    char path[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    text[0] = '\0';
    return probe_real.read(path, text, capacity) > 0;
}

static void note_gid(struct probe_rdma_port *port, const struct probe_rdma_gid *gid,
                     const char *text)
{
    size_t used = strlen(port->gids);

    if (used + strlen(text) + 3 < sizeof port->gids)
        (void)snprintf(port->gids + used, sizeof port->gids - used, "%s%s", used > 0 ? "; " : "",
                       text);
    port->rows[port->gid_count++] = *gid;
}

/* One of a port's GIDs: what is not set reads as zeros, or not at all. */
static void look_at_gid(const char *device, uint32_t number, int index,
                        struct probe_rdma_port *port)
{
    char raw[64], type[32], network[32], text[INET6_ADDRSTRLEN], row[160];
    struct probe_rdma_gid gid = {.index = (uint8_t)index};
    static const uint8_t zero[sizeof gid.bytes];

    if (!read_file(raw, sizeof raw, "/sys/class/infiniband/%s/ports/%u/gids/%d", device, number,
                   index) ||
        inet_pton(AF_INET6, raw, gid.bytes) != 1 || memcmp(gid.bytes, zero, sizeof zero) == 0)
        return;
    (void)read_file(type, sizeof type, "/sys/class/infiniband/%s/ports/%u/gid_attrs/types/%d",
                    device, number, index);
    (void)read_file(network, sizeof network, "/sys/class/infiniband/%s/ports/%u/gid_attrs/ndevs/%d",
                    device, number, index);
    (void)inet_ntop(AF_INET6, gid.bytes, text, sizeof text);
    (void)snprintf(row, sizeof row, "%d %s%s%s%s%s%s", index, type, type[0] != '\0' ? " " : "",
                   text, network[0] != '\0' ? " (" : "", network, network[0] != '\0' ? ")" : "");
    gid.is_roce_v2 = strcmp(type, "RoCE v2") == 0;
    note_gid(port, &gid, row);
    if (gid.is_roce_v2 && !(gid.bytes[0] == 0xfe && (gid.bytes[1] & 0xc0) == 0x80))
        port->has_address = true;
}

static void look_at_port(const char *device, uint32_t number, struct probe_rdma_port *port)
{
    char text[64];

    (void)read_file(text, sizeof text, "/sys/class/infiniband/%s/ports/%u/state", device, number);
    const char *word = strchr(text, ' ');
    (void)snprintf(port->state, sizeof port->state, "%.23s", word != NULL ? word + 1 : text);
    port->is_active = strcmp(port->state, "ACTIVE") == 0;
    (void)read_file(text, sizeof text, "/sys/class/infiniband/%s/ports/%u/link_layer", device,
                    number);
    port->is_ethernet = strcmp(text, "Ethernet") == 0;
    for (int i = 0; i < PROBE_RDMA_GIDS_MAX; i++)
        look_at_gid(device, number, i, port);
}

static void look_at_files(struct probe_rdma_device *device)
{
    static const char slot[] = "PCI_SLOT_NAME=";
    char text[512];

    device->numa_node = -1;
    if (read_file(text, sizeof text, "/sys/class/infiniband/%s/device/numa_node", device->name))
        device->numa_node = (int32_t)strtol(text, NULL, 10);
    if (read_file(text, sizeof text, "/sys/class/infiniband/%s/device/uevent", device->name)) {
        const char *at = strstr(text, slot);

        if (at != NULL)
            (void)snprintf(device->pci, sizeof device->pci, "%.*s",
                           (int)strcspn(at + sizeof slot - 1, "\n"), at + sizeof slot - 1);
    }
    if (read_file(text, sizeof text, "/sys/class/infiniband/%s/node_type", device->name))
        device->is_iwarp = strstr(text, "RNIC") != NULL;
    for (uint32_t i = 1; i <= PROBE_RDMA_PORTS_MAX; i++) {
        if (!read_file(text, sizeof text, "/sys/class/infiniband/%s/ports/%u/state", device->name,
                       i))
            break;
        look_at_port(device->name, i, &device->ports[device->port_count++]);
    }
}

/* --- libibverbs --- */

static void ask(const struct calls *calls, void *context, struct probe_rdma_device *device)
{
    static _Alignas(PAGE_BYTES) char page[PAGE_BYTES];
    struct attributes told = {.firmware = ""};
    void *domain = calls->domain(context);

    if (calls->query(context, &told) == 0) {
        (void)snprintf(device->firmware, sizeof device->firmware, "%.63s", told.firmware);
        device->has_windows_2b =
            (told.capabilities & CAPABILITIES_2B) == CAPABILITIES_2B && told.windows_max > 0;
        device->region_bytes_max = told.region_bytes_max;
        device->regions_max = (uint32_t)told.regions_max;
        device->windows_max = (uint32_t)told.windows_max;
        device->queue_pairs_max = (uint32_t)told.queue_pairs_max;
    }
    for (uint32_t i = 0; i < device->port_count; i++) {
        int port[64] = {0}; /* struct ibv_port_attr: state, greatest MTU, MTU, ... */

        if (calls->query_port(context, (uint8_t)(i + 1), port) == 0 && port[2] >= 1 && port[2] <= 5)
            device->ports[i].mtu = 128U << port[2];
    }
    if (domain == NULL)
        return;
    device->has_on_demand = calls->reg(domain, page, sizeof page, ACCESS_ON_DEMAND) != NULL;
    if (calls->reg_dma_buf != NULL && calls->reg_dma_buf(domain, 0, 0, 0, -1, 0) == NULL)
        device->has_dma_buf = errno != EOPNOTSUPP && errno != EPROTONOSUPPORT && errno != ENOSYS;
}

static void look_at_device(const struct calls *calls, void *handle,
                           struct probe_rdma_device *device)
{
    (void)snprintf(device->name, sizeof device->name, "%.63s", calls->name(handle));
    look_at_files(device);
    errno = 0;
    void *context = calls->open(handle);
    if (context != NULL)
        ask(calls, context, device);
    else
        (void)snprintf(
            device->why, sizeof device->why, "it cannot be opened: %s%s", strerrordesc_np(errno),
            errno == EACCES || errno == EPERM ? "; its file in /dev/infiniband has to be ours"
                                              : "");
}

static void explain_absence(struct probe_rdma *out)
{
    struct stat ignored;

    if (probe_real.stat("/sys/class/infiniband_verbs", &ignored) != 0)
        (void)snprintf(out->why, sizeof out->why,
                       "this kernel has no RDMA: module ib_uverbs is not loaded (modprobe "
                       "ib_uverbs, and the NIC's driver, or rdma_rxe for soft-RoCE)");
    else
        (void)snprintf(out->why, sizeof out->why,
                       "there is no RDMA device: see `rdma link'; in a container it needs "
                       "/dev/infiniband; without a NIC, `rdma link add rxe0 type rxe netdev eth0'");
}

/* In the child. */
static void look(const char *name, struct probe_rdma *out)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    struct calls calls;
    Dl_info file;
    int count = 0;

    if (library == NULL) {
        (void)snprintf(out->why, sizeof out->why, "%s (Debian: libibverbs1, ibverbs-providers)",
                       dlerror());
        return;
    }
    if (!find_calls(library, &calls)) {
        (void)snprintf(out->why, sizeof out->why, "%s is not libibverbs of rdma-core", name);
        return;
    }
    if (dladdr(*(void **)&calls.list, &file) != 0)
        (void)snprintf(out->path, sizeof out->path, "%s", file.dli_fname);
    out->has_relaxed_ordering = dlsym(library, "ibv_reg_mr_iova2") != NULL;
    out->is_fork_safe = calls.fork != NULL && calls.fork() == FORK_UNNEEDED;
    void **list = calls.list(&count);
    if (list == NULL || count <= 0)
        explain_absence(out);
    for (int i = 0; list != NULL && i < count && i < PROBE_RDMA_DEVICES_MAX; i++) {
        look_at_device(&calls, list[i], &out->devices[i]);
        out->count++;
    }
}

static void look_in_child(const void *name, void *out)
{
    look(name, out);
}

int probe_rdma_look(const char *library, struct probe_rdma *out)
{
    *out = (struct probe_rdma){.count = 0};
    int result = probe_in_child(look_in_child, library == NULL ? PROBE_RDMA_DEFAULT : library, out,
                                sizeof *out);
    if (result != 0)
        return result;
    if (out->count > 0)
        return 0;
    if (out->why[0] == '\0')
        (void)snprintf(out->why, sizeof out->why, "it did not come to an end when it was loaded");
    return -ENOENT;
}
