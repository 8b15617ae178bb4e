/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks of what it takes to use RDMA; each says nothing of what was not asked for. */

enum { NAME_BYTES = 64 };

typedef unsigned long long number; /* as printf() has it */

/* The check is for transport verbs; true: it was asked for, and RDMA is there. */
static bool begin(const struct exam *exam, struct probe_rdma *rdma, struct finding *out)
{
    if (exam->verbs_devices == NULL) {
        found(out, SEVERITY_OK, "not asked for (--verbs-devices)");
        return false;
    }
    if (exam->probe->rdma(NULL, rdma) == 0)
        return true;
    found(out, SEVERITY_FAULT, "%s", rdma->why);
    if (rdma->path[0] == '\0')
        remedy(out, "as root: apt-get install libibverbs1 ibverbs-providers");
    else
        remedy(out, "as root: modprobe ib_uverbs and the NIC's driver; or, without a NIC: modprobe "
                    "rdma_rxe && rdma link add rxe0 type rxe netdev eth0");
    return false;
}

/* What was asked for: "NAME", "NAME:PORT" or "NAME:PORT:GID". */
struct wanted {
    char name[NAME_BYTES];
    char gid[NAME_BYTES]; /* an index, or an address; "": any */
    unsigned long port;   /* 0: any */
};

/* The next of them. False: there is none. */
static bool next_wanted(const char **at, struct wanted *out)
{
    size_t length = strcspn(*at, ",");
    size_t word = strcspn(*at, ":,");
    char *rest = NULL;

    if (**at == '\0')
        return false;
    *out = (struct wanted){.port = 0};
    (void)snprintf(out->name, NAME_BYTES, "%.*s", (int)word, *at);
    if (word < length)
        out->port = strtoul(*at + word + 1, &rest, 10);
    if (rest != NULL && *rest == ':')
        (void)snprintf(out->gid, NAME_BYTES, "%.*s", (int)(*at + length - rest - 1), rest + 1);
    *at += length + ((*at)[length] == ',');
    return true;
}

static const struct probe_rdma_device *find_device(const struct probe_rdma *rdma, const char *name)
{
    for (uint32_t i = 0; i < rdma->count; i++) {
        if (strcmp(rdma->devices[i].name, name) == 0)
            return &rdma->devices[i];
    }
    return NULL;
}

/* Is that GID the one that was asked for, by its index or its address? */
static bool is_gid(const struct probe_rdma_gid *gid, const char *text)
{
    uint8_t bytes[16] = {[10] = 0xff, 0xff};
    char *end;
    unsigned long index = strtoul(text, &end, 10);

    if (*end == '\0')
        return gid->index == index;
    return (inet_pton(AF_INET, text, bytes + 12) == 1 || inet_pton(AF_INET6, text, bytes) == 1) &&
           memcmp(bytes, gid->bytes, sizeof bytes) == 0;
}

static bool check_gid(const struct probe_rdma_device *device, const struct wanted *wanted,
                      struct finding *out)
{
    const struct probe_rdma_port *port = &device->ports[wanted->port - 1];
    bool is_there = false;

    for (uint32_t i = 0; i < port->gid_count; i++) {
        if (!is_gid(&port->rows[i], wanted->gid))
            continue;
        if (!port->is_ethernet || port->rows[i].is_roce_v2)
            return true;
        is_there = true;
    }
    found(out, SEVERITY_FAULT, "port %lu of %s has %s GID %s (%s)", wanted->port, device->name,
          is_there ? "no RoCE v2" : "no", wanted->gid,
          port->gids[0] != '\0' ? port->gids : "none is set");
    remedy(out,
           "a GID that `lend info' shows%s; or ip address add ADDRESS/BITS dev DEVICE, of its "
           "network device: rdma link",
           port->is_ethernet ? " as RoCE v2" : "");
    return false;
}

/* False: something was found. */
static bool check_port(const struct probe_rdma_device *device, uint32_t number_,
                       const struct wanted *wanted, struct finding *out)
{
    const struct probe_rdma_port *port = &device->ports[number_ - 1];

    if (!port->is_active) {
        found(out, SEVERITY_FAULT, "port %u of %s is %s", number_, device->name, port->state);
        remedy(out, "its cable, switch or network device: rdma link; ip link set DEVICE up");
    } else if (wanted->gid[0] != '\0') {
        return check_gid(device, wanted, out);
    } else if (port->is_ethernet && !port->has_address) {
        found(out, SEVERITY_FAULT, "port %u of %s has no RoCE v2 GID of an address (%s)", number_,
              device->name, port->gids[0] != '\0' ? port->gids : "none is set");
        remedy(out, "ip address add ADDRESS/BITS dev DEVICE, of its network device: rdma link");
    } else {
        return true;
    }
    return false;
}

static bool check_device(const struct probe_rdma_device *device, const struct wanted *wanted,
                         struct finding *out)
{
    if (device->why[0] != '\0') {
        found(out, SEVERITY_FAULT, "%s: %s", device->name, device->why);
        remedy(out, "in a container: --device=/dev/infiniband; else the group of its file there");
        return false;
    }
    if (device->is_iwarp) {
        found(out, SEVERITY_FAULT, "%s is iWARP, which lend does not drive", device->name);
        remedy(out, "a device for RoCE or InfiniBand, or transport tcp");
        return false;
    }
    if (wanted->port > device->port_count) {
        found(out, SEVERITY_FAULT, "%s has no port %lu", device->name, wanted->port);
        remedy(out, "a port of 1 to %u", device->port_count);
        return false;
    }
    for (uint32_t i = 1; i <= device->port_count; i++) {
        if ((wanted->port == 0 || wanted->port == i) && !check_port(device, i, wanted, out))
            return false;
    }
    return true;
}

static void check_verbs(const struct exam *exam, struct finding *out)
{
    static struct probe_rdma rdma; /* for its size */
    struct wanted wanted;

    if (!begin(exam, &rdma, out))
        return;
    for (const char *at = exam->verbs_devices; next_wanted(&at, &wanted);) {
        const struct probe_rdma_device *device = find_device(&rdma, wanted.name);

        if (device == NULL) {
            found(out, SEVERITY_FAULT, "this machine has no RDMA device %s", wanted.name);
            remedy(out, "a device that `rdma link' shows, such as %s", rdma.devices[0].name);
            return;
        }
        if (!check_device(device, &wanted, out))
            return;
    }
    found(out, SEVERITY_OK, "%s has %u devices, and those asked for are ready", rdma.path,
          rdma.count);
}

/* What a device has not, lend does in a slower way. */
static void check_windows(const struct exam *exam, struct finding *out)
{
    static struct probe_rdma rdma;
    struct wanted wanted;

    if (exam->verbs_devices == NULL || exam->probe->rdma(NULL, &rdma) != 0) {
        found(out, SEVERITY_OK, "%s",
              exam->verbs_devices == NULL ? "not asked for (--verbs-devices)"
                                          : "there is no device to ask");
        return;
    }
    for (const char *at = exam->verbs_devices; next_wanted(&at, &wanted);) {
        const struct probe_rdma_device *device = find_device(&rdma, wanted.name);

        if (device == NULL || device->why[0] != '\0' || device->has_windows_2b)
            continue;
        found(out, SEVERITY_WARNING,
              "%s has no memory windows of type 2B: each lease for writing takes a memory region",
              wanted.name);
        remedy(out, "lend for reading where that will do; or newer firmware, if it is old (%s)",
               device->firmware);
        return;
    }
    found(out, SEVERITY_OK, "leases for writing are memory windows");
}

/* Memory of GPUs, where there are any: does a NIC take it? Else it goes through the host's. */
static void check_gpus(const struct exam *exam, struct finding *out)
{
    static struct probe_rdma rdma;
    bool has_peer_memory = probe_peer_memory(exam->probe);
    struct wanted wanted;
    char why[160];

    if (exam->verbs_devices == NULL || exam->probe->cuda(why, sizeof why) != 0 ||
        exam->probe->rdma(NULL, &rdma) != 0) {
        found(out, SEVERITY_OK, "%s",
              exam->verbs_devices == NULL ? "not asked for (--verbs-devices)"
                                          : "there is no GPU, or no device to ask");
        return;
    }
    for (const char *at = exam->verbs_devices; next_wanted(&at, &wanted);) {
        const struct probe_rdma_device *device = find_device(&rdma, wanted.name);

        if (device == NULL || device->why[0] != '\0' || device->has_dma_buf || has_peer_memory)
            continue;
        found(out, SEVERITY_WARNING,
              "%s takes no memory of GPUs: no dma-buf, and nvidia_peermem is not loaded; it goes "
              "through the host's memory, and over a network where a transfer names that path",
              wanted.name);
        remedy(out, "rdma-core 34, Linux 5.12, a driver of the NIC that knows dma-buf, CUDA 11.7 "
                    "with NVIDIA's open kernel modules; or, as root: modprobe nvidia-peermem");
        return;
    }
    found(out, SEVERITY_OK, "memory of GPUs is given to the devices by %s",
          has_peer_memory ? "dma-buf, or by peer memory" : "dma-buf");
}

static void check_pinning(const struct exam *exam, struct finding *out)
{
    enum { CAPABILITY_IPC_LOCK = 14 };
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    if (exam->verbs_devices == NULL) {
        found(out, SEVERITY_OK, "not asked for (--verbs-devices)");
        return;
    }
    (void)exam->probe->limit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY || probe_capability(exam->probe, CAPABILITY_IPC_LOCK)) {
        found(out, SEVERITY_OK, "memory can be pinned without a limit of ours");
        return;
    }
    if (exam->bytes != 0 && exam->bytes <= limit.rlim_cur) {
        found(out, SEVERITY_OK, "%llu bytes may be pinned", (number)limit.rlim_cur);
        return;
    }
    found(out, exam->bytes != 0 ? SEVERITY_FAULT : SEVERITY_WARNING,
          "RLIMIT_MEMLOCK lets this process pin %llu bytes, for all of its NICs together",
          (number)limit.rlim_cur);
    remedy(out, "ulimit -l unlimited; LimitMEMLOCK=infinity in a unit of systemd; docker run "
                "--ulimit memlock=-1");
}

static void check_fork(const struct exam *exam, struct finding *out)
{
    static struct probe_rdma rdma;

    if (exam->verbs_devices == NULL) {
        found(out, SEVERITY_OK, "not asked for (--verbs-devices)");
        return;
    }
    if (exam->probe->rdma(NULL, &rdma) != 0 || rdma.is_fork_safe) {
        found(out, SEVERITY_OK, "registered memory may be there when a process forks");
        return;
    }
    found(out, SEVERITY_WARNING,
          "this kernel or libibverbs does not copy registered pages when a process forks");
    remedy(out, "Linux 5.12 and rdma-core 35, without IBV_FORK_SAFE and RDMAV_FORK_SAFE; or "
                "LEND_AGENT_NEVER_FORKS, for a process that never forks");
}

const struct check checks_rdma[] = {
    {"verbs", check_verbs},           {"verbs-windows", check_windows}, {"verbs-gpus", check_gpus},
    {"verbs-pinning", check_pinning}, {"verbs-fork", check_fork},       {NULL, NULL},
};
