/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/device.h"

#include "base/error.h"
#include "base/sys.h"
#include "transport/verbs/near.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 384, TABLE_ENTRIES_MAX = 16384 };

/* --- small files --- */

bool lend_verbs_read_text(const char *path, char *text, size_t capacity)
{
    int fd = lend_sys->open_read(path);
    size_t length = 0;
    ssize_t count;

    text[0] = '\0';
    if (fd < 0)
        return false;
    while (length < capacity - 1 &&
           (count = lend_sys->read(fd, text + length, capacity - 1 - length)) > 0)
        length += (size_t)count;
    lend_sys->close(fd);
    text[length] = '\0';
    return length > 0;
}

static bool is_there(const char *path)
{
    struct stat status;

    return lend_sys->stat(path, &status) == 0;
}

bool lend_verbs_has_peer_memory(char *why, size_t capacity)
{
    static const char *const modules[] = {"/sys/module/nvidia_peermem", "/sys/module/nv_peer_mem",
                                          "/sys/kernel/mm/memory_peers/nv_mem"};

    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (is_there(modules[i]))
            return true;
    }
    (void)snprintf(why, capacity,
                   "kernel module nvidia_peermem is not loaded (modprobe nvidia-peermem; it comes "
                   "with the NVIDIA driver)");
    return false;
}

/* --- the list --- */

/* Why there are no devices. */
static enum lend_status explain_absence(struct lend_error *error)
{
    if (!is_there("/sys/class/infiniband_verbs"))
        return lend_fail(error, LEND_E_ABSENT,
                         "this kernel has no RDMA: module ib_uverbs is not loaded (modprobe "
                         "ib_uverbs, and the NIC's driver, or rdma_rxe for soft-RoCE)");
    return lend_fail(error, LEND_E_ABSENT,
                     "there is no RDMA device: see `rdma link'; in a container it needs "
                     "/dev/infiniband; without a NIC, `rdma link add rxe0 type rxe netdev eth0'; "
                     "its provider is in Debian's ibverbs-providers");
}

/* The library's list, to be freed; with at least one in it. */
static enum lend_status take_list(const struct lend_verbs_ops *verbs,
                                  struct lend_verbs_device ***out, int *out_count,
                                  struct lend_error *error)
{
    int count = 0;

    errno = 0;
    struct lend_verbs_device **list = verbs->get_device_list(&count);
    int number = errno;
    if (list == NULL && number != ENOSYS && number != ENOENT && number != 0)
        return lend_verbs_fail(error, number, "list of RDMA devices");
    if (list == NULL || count <= 0) {
        if (list != NULL)
            verbs->free_device_list(list);
        return explain_absence(error);
    }
    *out = list;
    *out_count = count;
    return LEND_OK;
}

enum lend_status lend_verbs_list(const struct lend_verbs_ops *verbs,
                                 char (*out)[LEND_VERBS_NAME_BYTES], uint32_t capacity,
                                 uint32_t *out_count, struct lend_error *error)
{
    struct lend_verbs_device **list = NULL;
    int count = 0;
    enum lend_status status = take_list(verbs, &list, &count, error);

    if (status != LEND_OK)
        return status;
    for (uint32_t i = 0; i < (uint32_t)count && i < capacity; i++)
        (void)snprintf(out[i], LEND_VERBS_NAME_BYTES, "%.*s", LEND_VERBS_NAME_BYTES - 1,
                       list[i]->name);
    *out_count = (uint32_t)count;
    verbs->free_device_list(list);
    return LEND_OK;
}

/* --- one of them --- */

static enum lend_status open_context(struct lend_verbs_nic *nic, struct lend_error *error)
{
    const char *name = nic->named.device;
    struct lend_verbs_device **list = NULL;
    int count = 0, number = 0;
    enum lend_status status = take_list(nic->verbs, &list, &count, error);
    bool is_known = false;

    if (status != LEND_OK)
        return status;
    for (int i = 0; i < count && !is_known; i++) {
        if (strncmp(list[i]->name, name, sizeof list[i]->name) != 0)
            continue;
        is_known = true;
        nic->context = nic->verbs->open_device(list[i]);
        number = errno;
    }
    nic->verbs->free_device_list(list);
    if (nic->context != NULL)
        return LEND_OK;
    if (!is_known)
        return lend_fail(error, LEND_E_ABSENT, "there is no RDMA device %.63s: see `rdma link'",
                         name);
    if (number == EACCES || number == EPERM)
        return lend_fail(error, LEND_E_ACCESS,
                         "%.63s: we may not open its file in /dev/infiniband (in a container, "
                         "--device=/dev/infiniband)",
                         name);
    return lend_verbs_fail(error, number != 0 ? number : EIO, "%.63s: opening it", name);
}

static void describe_place(struct lend_verbs_nic *nic)
{
    const struct lend_verbs_device *device = nic->context->device;
    char path[PATH_BYTES], text[1024];

    (void)snprintf(nic->name, sizeof nic->name, "%.*s", (int)sizeof nic->name - 1, device->name);
    nic->is_iwarp = device->transport_type == LEND_VERBS_TRANSPORT_IWARP ||
                    device->node_type == LEND_VERBS_NODE_IWARP;
    nic->numa_node = -1;
    (void)snprintf(path, sizeof path, "%.255s/device/numa_node", device->ibdev_path);
    if (lend_verbs_read_text(path, text, sizeof text))
        nic->numa_node = (int32_t)strtol(text, NULL, 10);
    (void)snprintf(path, sizeof path, "%.255s/device", device->ibdev_path);
    (void)lend_verbs_pci_name(path, nic->pci); /* "" for one without */
}

/* A registration of no descriptor fails in any case; how tells whether library, kernel and driver
 * know the call. */
static bool can_dma_buf(const struct lend_verbs_nic *nic)
{
    if (nic->verbs->reg_dmabuf_mr == NULL)
        return false;
    struct lend_verbs_mr *mr = nic->verbs->reg_dmabuf_mr(nic->pd, 0, 0, 0, -1, 0);
    int number = errno;
    if (mr != NULL) {
        (void)nic->verbs->dereg_mr(mr); /* of nothing, which nobody was told of */
        return false;
    }
    return number != EOPNOTSUPP && number != ENOTSUP && number != EPROTONOSUPPORT &&
           number != ENOSYS;
}

static uint32_t positive(int value)
{
    return value > 0 ? (uint32_t)value : 0;
}

static enum lend_status ask_abilities(struct lend_verbs_nic *nic, struct lend_error *error)
{
    const unsigned window =
        (unsigned)LEND_VERBS_DEVICE_WINDOW_2B | (unsigned)LEND_VERBS_DEVICE_LOCAL_INVALIDATE;
    const uint32_t paging = (uint32_t)LEND_VERBS_ODP_READ | (uint32_t)LEND_VERBS_ODP_WRITE;
    struct lend_verbs_device_attributes told = {0};
    struct lend_verbs_device_attributes_ex more;
    int number = lend_verbs_errno(nic->verbs->query_device(nic->context, &told));

    if (number != 0)
        return lend_verbs_fail(error, number, "%s: asking for its limits", nic->name);
    (void)snprintf(nic->firmware, sizeof nic->firmware, "%.*s", (int)sizeof nic->firmware - 1,
                   told.fw_ver);
    nic->port_count =
        told.phys_port_cnt < LEND_VERBS_PORTS_MAX ? told.phys_port_cnt : LEND_VERBS_PORTS_MAX;
    nic->abilities = (struct lend_verbs_abilities){
        .region_bytes_max = told.max_mr_size != 0 ? told.max_mr_size : UINT64_MAX,
        .queue_pairs_max = positive(told.max_qp),
        .work_requests_max = positive(told.max_qp_wr),
        .completions_max = positive(told.max_cqe),
        .regions_max = positive(told.max_mr),
        .windows_max = positive(told.max_mw),
        .pieces_max = positive(told.max_sge),
        .read_pieces_max = positive(told.max_sge_rd > 0 ? told.max_sge_rd : told.max_sge),
        .served_reads_max = positive(told.max_qp_rd_atom),
        .reads_max = positive(told.max_qp_init_rd_atom),
        .has_windows_2b = (told.device_cap_flags & window) == window && told.max_mw > 0 &&
                          nic->context->ops.alloc_mw != NULL,
        .has_relaxed_ordering = nic->verbs->reg_mr_iova2 != NULL,
        .has_dma_buf = can_dma_buf(nic),
    };
    if (lend_verbs_query_device_ex(nic->context, &more) == 0)
        nic->abilities.has_on_demand =
            (more.odp_general & LEND_VERBS_ODP_SUPPORTED) != 0 && (more.odp_rc & paging) == paging;
    return LEND_OK;
}

/* --- ports --- */

static bool is_zero(const uint8_t *gid)
{
    static const uint8_t zero[LEND_VERBS_GID_BYTES];

    return memcmp(gid, zero, sizeof zero) == 0;
}

static void add_gid(struct lend_verbs_port *port, const uint8_t *gid, uint32_t index, uint32_t type)
{
    if (is_zero(gid) || port->gid_count == LEND_VERBS_GIDS_MAX)
        return;
    struct lend_verbs_gid_row *row = &port->gids[port->gid_count++];
    memcpy(row->gid, gid, sizeof row->gid);
    row->index = index;
    row->type = type;
}

/* As old libraries tell it: one by one, with the types in the kernel's files. */
static void ask_gids_singly(const struct lend_verbs_nic *nic, struct lend_verbs_port *port,
                            int count)
{
    const struct lend_verbs_device *device = nic->context->device;
    char path[PATH_BYTES], text[64];
    union lend_verbs_gid gid;

    for (int i = 0; i < count; i++) {
        uint32_t type = LEND_VERBS_GID_IB;

        if (nic->verbs->query_gid(nic->context, port->number, i, &gid) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%.255s/ports/%u/gid_attrs/types/%d", device->ibdev_path,
                       port->number, i);
        if (port->link_layer == LEND_VERBS_LINK_ETHERNET)
            type = lend_verbs_read_text(path, text, sizeof text) && strncmp(text, "RoCE v2", 7) == 0
                       ? LEND_VERBS_GID_ROCE_V2
                       : LEND_VERBS_GID_ROCE_V1;
        add_gid(port, gid.raw, (uint32_t)i, type);
    }
}

static enum lend_status ask_gids(const struct lend_verbs_nic *nic, struct lend_verbs_port *port,
                                 int count, struct lend_error *error)
{
    /* The table is the device's: all ports, and how long others' are we do not know. */
    size_t capacity = (size_t)count * (nic->port_count > 0 ? nic->port_count : 1);
    struct lend_verbs_gid_entry *entries;
    ssize_t told;

    if (nic->verbs->query_gid_table == NULL) {
        ask_gids_singly(nic, port, count);
        return LEND_OK;
    }
    if (capacity > TABLE_ENTRIES_MAX)
        capacity = TABLE_ENTRIES_MAX;
    entries = lend_sys->allocate((capacity + 1) * sizeof *entries);
    if (entries == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "%s: no memory for its GIDs", nic->name);
    told = nic->verbs->query_gid_table(nic->context, entries, capacity, 0, sizeof *entries);
    for (ssize_t i = 0; i < told; i++) {
        if (entries[i].port_num == port->number)
            add_gid(port, entries[i].gid.raw, entries[i].gid_index, entries[i].gid_type);
    }
    lend_sys->release(entries);
    if (told < 0)
        ask_gids_singly(nic, port, count);
    return LEND_OK;
}

/* What the link carries, in Mbit/s. Its width and speed are numbered as in Linux' enum
 * ib_port_width and ib_port_speed (include/rdma/ib_verbs.h), the speed of one lane as its sysfs
 * rounds it. What is not among them is not known. */
static uint32_t rate_of(uint8_t width, uint8_t speed)
{
    static const struct {
        uint8_t number, lanes;
    } widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}};
    static const uint32_t rates[] = {2500, 5000, 10000, 10000, 14000, 25000, 50000, 100000};
    uint32_t lanes = 0, rate = 0;

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        lanes = widths[i].number == width ? widths[i].lanes : lanes;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        rate = 1U << i == speed ? rates[i] : rate;
    return lanes * rate;
}

static enum lend_status ask_port(const struct lend_verbs_nic *nic, uint8_t number,
                                 struct lend_verbs_port *out, struct lend_error *error)
{
    struct lend_verbs_port_attributes told;
    int result = lend_verbs_query_port(nic->verbs, nic->context, number, &told);

    if (result != 0)
        return lend_verbs_fail(error, result, "%s: asking for port %u", nic->name, number);
    *out = (struct lend_verbs_port){.number = number,
                                    .state = (uint8_t)told.state,
                                    .link_layer = told.link_layer,
                                    .mtu = (uint8_t)told.active_mtu,
                                    .lid = told.lid,
                                    .message_bytes_max = told.max_msg_sz,
                                    .rate_mbps = rate_of(told.active_width, told.active_speed)};
    if (out->link_layer == LEND_VERBS_LINK_UNSPECIFIED && !nic->is_iwarp)
        out->link_layer = LEND_VERBS_LINK_INFINIBAND; /* which was the only one, once */
    int count = told.gid_tbl_len > 0 ? told.gid_tbl_len : 0;
    out->gid_capacity = (uint32_t)count;
    uint32_t kept = count < LEND_VERBS_GIDS_MAX ? (uint32_t)count : LEND_VERBS_GIDS_MAX;
    /* All the room, as the table may have grown since. */
    out->gids = lend_sys->allocate((kept > 0 ? LEND_VERBS_GIDS_MAX : 1) * sizeof *out->gids);
    if (out->gids == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "%s: no memory for its GIDs", nic->name);
    enum lend_status status = count > 0 ? ask_gids(nic, out, count, error) : LEND_OK;
    if (status != LEND_OK) {
        lend_sys->release(out->gids);
        out->gids = NULL;
    }
    return status;
}

enum lend_status lend_verbs_port_refresh(struct lend_verbs_nic *nic, uint8_t port,
                                         struct lend_error *error)
{
    struct lend_verbs_port fresh = {0};

    if (port < 1 || port > nic->port_count)
        return lend_fail(error, LEND_E_ABSENT, "%s has no port %u", nic->name, port);
    enum lend_status status = ask_port(nic, port, &fresh, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&nic->lock);
    struct lend_verbs_gid_row *before = nic->ports[port - 1].gids;
    nic->ports[port - 1] = fresh;
    (void)pthread_mutex_unlock(&nic->lock);
    lend_sys->release(before);
    return LEND_OK;
}

bool lend_verbs_port_is_up(struct lend_verbs_nic *nic, uint8_t port)
{
    (void)pthread_mutex_lock(&nic->lock);
    bool is_up = port >= 1 && port <= nic->port_count &&
                 nic->ports[port - 1].state == LEND_VERBS_PORT_ACTIVE;
    (void)pthread_mutex_unlock(&nic->lock);
    return is_up;
}

static enum lend_status look(struct lend_verbs_nic *nic, struct lend_error *error)
{
    describe_place(nic);
    nic->pd = nic->verbs->alloc_pd(nic->context);
    if (nic->pd == NULL)
        return lend_verbs_fail(error, errno, "%s: a protection domain", nic->name);
    enum lend_status status = ask_abilities(nic, error);
    for (uint8_t i = 1; i <= nic->port_count && status == LEND_OK; i++)
        status = lend_verbs_port_refresh(nic, i, error);
    return status == LEND_OK ? lend_verbs_named_check(nic, error) : status;
}

enum lend_status lend_verbs_nic_open(const struct lend_verbs_ops *verbs, const char *name,
                                     struct lend_verbs_nic **out, struct lend_error *error)
{
    struct lend_verbs_nic *made = lend_sys->allocate(sizeof *made);

    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for RDMA device %.63s", name);
    made->verbs = verbs;
    (void)pthread_mutex_init(&made->lock, NULL); /* cannot fail on Linux */
    enum lend_status status = lend_verbs_named_parse(name, &made->named, error);
    if (status == LEND_OK)
        status = open_context(made, error);
    if (status == LEND_OK)
        status = look(made, error);
    if (status != LEND_OK) {
        (void)lend_verbs_nic_close(made, NULL); /* what failed first has been told */
        return status;
    }
    *out = made;
    return LEND_OK;
}

void lend_verbs_nic_forget(struct lend_verbs_nic *nic)
{
    if (nic == NULL)
        return;
    for (uint32_t i = 0; i < LEND_VERBS_PORTS_MAX; i++)
        lend_sys->release(nic->ports[i].gids);
    lend_sys->release(nic);
}

enum lend_status lend_verbs_nic_close(struct lend_verbs_nic *nic, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    if (nic == NULL)
        return LEND_OK;
    if (nic->pd != NULL) {
        int number = lend_verbs_errno(nic->verbs->dealloc_pd(nic->pd));

        if (number != 0)
            status =
                lend_verbs_fail(error, number, "%s: giving its protection domain back", nic->name);
    }
    if (nic->context != NULL) {
        int number = lend_verbs_errno(nic->verbs->close_device(nic->context));

        if (number != 0 && status == LEND_OK)
            status = lend_verbs_fail(error, number, "%s: closing it", nic->name);
    }
    (void)pthread_mutex_destroy(&nic->lock);
    lend_verbs_nic_forget(nic);
    return status;
}

enum lend_status lend_verbs_check_fork(const struct lend_verbs_ops *verbs, bool consents,
                                       struct lend_error *error)
{
    int told = verbs->is_fork_initialized != NULL ? verbs->is_fork_initialized()
                                                  : LEND_VERBS_FORK_DISABLED;

    if (told == LEND_VERBS_FORK_UNNEEDED || consents)
        return LEND_OK;
    if (told == LEND_VERBS_FORK_ENABLED)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "ibv_fork_init() was called (or IBV_FORK_SAFE is set), so that a forked "
                         "child dies of registered memory; leave it out, or promise "
                         "LEND_AGENT_NEVER_FORKS");
    return lend_fail(
        error, LEND_E_UNSUPPORTED,
        "a kernel before 5.12 or rdma-core before 35 does not copy registered pages at "
        "a fork, so that a NIC may write to a child's; promise "
        "LEND_AGENT_NEVER_FORKS");
}
