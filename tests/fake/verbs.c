/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/verbs.h"

#include "double.h"
#include "fake/cuda.h"
#include "fake/verbs_objects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The fake's devices and memory; what moves is in verbs_work.c. */

struct fake_verbs fake_verbs;
struct fake_verbs_table fake_verbs_table;

static struct lend_verbs_device devices[FAKE_VERBS_DEVICES_MAX];

static void set_gid(struct fake_verbs_device *device, unsigned type, uint8_t last)
{
    struct lend_verbs_gid_entry *entry = &device->gids[device->gid_count];

    *entry = (struct lend_verbs_gid_entry){
        .gid_index = device->gid_count++, .port_num = 1, .gid_type = type};
    if (last == 0) { /* of the link */
        entry->gid.raw[0] = 0xfe;
        entry->gid.raw[1] = 0x80;
        entry->gid.raw[15] = 1;
        return;
    }
    memcpy(entry->gid.raw + 10, (uint8_t[]){0xff, 0xff, 10, 77, 0, last}, 6);
}

void fake_verbs_reset(void)
{
    fake_verbs = (struct fake_verbs){.device_count = 2,
                                     .fork_status = LEND_VERBS_FORK_UNNEEDED,
                                     .fail_at = -1,
                                     .failure = EIO,
                                     .fail_register_at = -1,
                                     .status_at = -1,
                                     .last_fd = -1};
    memset(&fake_verbs_table, 0, sizeof fake_verbs_table);
    fake_verbs_table.key_next = 1;
    for (int i = 0; i < FAKE_VERBS_DEVICES_MAX; i++) {
        struct fake_verbs_device *device = &fake_verbs.devices[i];

        device->link_layer = LEND_VERBS_LINK_ETHERNET;
        device->port_state = LEND_VERBS_PORT_ACTIVE;
        device->capabilities = LEND_VERBS_DEVICE_MEMORY_WINDOW | LEND_VERBS_DEVICE_WINDOW_2B |
                               LEND_VERBS_DEVICE_LOCAL_INVALIDATE;
        device->region_bytes_max = UINT64_MAX;
        device->windows_max = 1024;
        device->regions_max = 4096;
        device->message_bytes_max = 1U << 31;
        device->active_width = 2;
        device->active_speed = 32;
        device->odp_general = LEND_VERBS_ODP_SUPPORTED;
        device->odp_rc = LEND_VERBS_ODP_READ | LEND_VERBS_ODP_WRITE;
        device->has_dma_buf = true;
        set_gid(device, LEND_VERBS_GID_ROCE_V1, 0);
        set_gid(device, LEND_VERBS_GID_ROCE_V2, 0);
        set_gid(device, LEND_VERBS_GID_ROCE_V1, (uint8_t)(i + 1));
        set_gid(device, LEND_VERBS_GID_ROCE_V2, (uint8_t)(i + 1));
        memset(&devices[i], 0, sizeof devices[i]);
        devices[i].node_type = LEND_VERBS_NODE_CHANNEL_ADAPTER;
        (void)snprintf(devices[i].name, sizeof devices[i].name, "fake%d", i);
        (void)snprintf(devices[i].ibdev_path, sizeof devices[i].ibdev_path,
                       "/nonexistent/class/infiniband/fake%d", i);
    }
}

int fake_verbs_kept(void)
{
    return fake_verbs.contexts + fake_verbs.pds + fake_verbs.mrs + fake_verbs.mws +
           fake_verbs.channels + fake_verbs.cqs + fake_verbs.qps + fake_verbs.unacknowledged;
}

int fake_verbs_fails(struct lend_verbs_context *context)
{
    int number = fake_verbs.calls++;

    if (context != NULL && fake_verbs_context_of(context)->is_dead)
        return EIO;
    if (number == fake_verbs.fail_at)
        return fake_verbs.failure;
    return fake_verbs.is_swept && double_should_fail() ? fake_verbs.failure : 0;
}

static void *refuse(int number)
{
    errno = number;
    return NULL;
}

/* --- devices --- */

static struct lend_verbs_device **get_device_list(int *out_count)
{
    int number = fake_verbs_fails(NULL);
    struct lend_verbs_device **list;

    if (number == 0)
        number = fake_verbs.list_errno;
    if (number != 0)
        return refuse(number);
    list = calloc((size_t)fake_verbs.device_count + 1, sizeof *list);
    for (int i = 0; i < fake_verbs.device_count; i++) {
        devices[i].transport_type = fake_verbs.devices[i].transport_type;
        list[i] = &devices[i];
    }
    *out_count = fake_verbs.device_count;
    return list;
}

static void free_device_list(struct lend_verbs_device **list)
{
    free(list);
}

static struct lend_verbs_mw *alloc_mw(struct lend_verbs_pd *pd, int type);
static int dealloc_mw(struct lend_verbs_mw *mw);
static int query_port_ex(struct lend_verbs_context *context, uint8_t port,
                         struct lend_verbs_port_attributes *out, size_t bytes);
static int query_device_ex(struct lend_verbs_context *context, const void *input,
                           struct lend_verbs_device_attributes_ex *out, size_t bytes);

static struct lend_verbs_context *open_device(struct lend_verbs_device *device)
{
    int number = fake_verbs_fails(NULL);
    struct fake_context *made;

    if (number == 0)
        number = fake_verbs.open_errno;
    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->number = (int)(device - devices);
    made->ex.bytes = sizeof made->ex;
    made->ex.query_port = query_port_ex;
    made->ex.query_device_ex = query_device_ex;
    made->ex.context = (struct lend_verbs_context){
        .device = device,
        .cmd_fd = -1,
        .async_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE),
        .num_comp_vectors = 1,
        .abi_compat = fake_verbs.devices[made->number].is_old ? NULL : (void *)UINTPTR_MAX,
        .ops = {.alloc_mw = alloc_mw,
                .dealloc_mw = dealloc_mw,
                .poll_cq = fake_verbs_poll,
                .req_notify_cq = fake_verbs_request_notify,
                .post_send = fake_verbs_post_send,
                .post_recv = fake_verbs_post_receive}};
    made->next = fake_verbs_table.contexts;
    fake_verbs_table.contexts = made;
    fake_verbs.contexts++;
    return &made->ex.context;
}

static int close_device(struct lend_verbs_context *context)
{
    struct fake_context *it = fake_verbs_context_of(context);
    struct fake_context **at = &fake_verbs_table.contexts;

    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    (void)close(context->async_fd);
    free(it);
    fake_verbs.contexts--;
    return 0;
}

static const struct fake_verbs_device *device_of(struct lend_verbs_context *context)
{
    return &fake_verbs.devices[fake_verbs_context_of(context)->number];
}

static int query_device(struct lend_verbs_context *context,
                        struct lend_verbs_device_attributes *out)
{
    int number = fake_verbs_fails(context);
    const struct fake_verbs_device *device = device_of(context);

    if (number != 0)
        return number;
    *out = (struct lend_verbs_device_attributes){.fw_ver = "1.2.3 of a fake",
                                                 .max_mr_size = device->region_bytes_max,
                                                 .vendor_id = device->vendor_id,
                                                 .max_qp = 1024,
                                                 .max_qp_wr = 1024,
                                                 .device_cap_flags = device->capabilities,
                                                 .max_sge = 32,
                                                 .max_sge_rd = 16,
                                                 .max_cq = 1024,
                                                 .max_cqe = 32767,
                                                 .max_mr = device->regions_max,
                                                 .max_pd = 1024,
                                                 .max_qp_rd_atom = 16,
                                                 .max_qp_init_rd_atom = 16,
                                                 .max_mw = device->windows_max,
                                                 .max_pkeys = 1,
                                                 .phys_port_cnt = 1};
    return 0;
}

static int query_device_ex(struct lend_verbs_context *context, const void *input,
                           struct lend_verbs_device_attributes_ex *out, size_t bytes)
{
    (void)input;
    if (bytes < sizeof *out)
        return EINVAL;
    int number = query_device(context, &out->base);
    out->odp_general = device_of(context)->odp_general;
    out->odp_rc = device_of(context)->odp_rc;
    return number;
}

static int query_port(struct lend_verbs_context *context, uint8_t port,
                      struct lend_verbs_port_attributes *out)
{
    int number = fake_verbs_fails(context);
    const struct fake_verbs_device *device = device_of(context);

    if (number != 0)
        return number;
    if (port != 1)
        return EINVAL;
    out->state = device->port_state;
    out->max_mtu = LEND_VERBS_MTU_4096;
    out->active_mtu = LEND_VERBS_MTU_1024;
    out->gid_tbl_len = (int)device->gid_count;
    out->max_msg_sz = device->message_bytes_max;
    out->active_width = device->active_width;
    out->active_speed = device->active_speed;
    out->lid = device->link_layer == LEND_VERBS_LINK_INFINIBAND ? 7 : 0;
    out->link_layer = (uint8_t)device->link_layer;
    return 0;
}

static int query_port_ex(struct lend_verbs_context *context, uint8_t port,
                         struct lend_verbs_port_attributes *out, size_t bytes)
{
    return bytes < sizeof *out ? EINVAL : query_port(context, port, out);
}

static int query_gid(struct lend_verbs_context *context, uint8_t port, int index,
                     union lend_verbs_gid *out)
{
    int number = fake_verbs_fails(context);

    if (number != 0 || port != 1 || index < 0 || (uint32_t)index >= device_of(context)->gid_count) {
        errno = number != 0 ? number : EINVAL;
        return -1;
    }
    *out = device_of(context)->gids[index].gid;
    return 0;
}

static ssize_t query_gid_table(struct lend_verbs_context *context, struct lend_verbs_gid_entry *out,
                               size_t capacity, uint32_t flags, size_t entry_bytes)
{
    const struct fake_verbs_device *device = device_of(context);
    int number = fake_verbs_fails(context);

    if (number != 0)
        return -number;
    if (flags != 0 || entry_bytes != sizeof *out || capacity < device->gid_count)
        return -EINVAL;
    memcpy(out, device->gids, device->gid_count * sizeof *out);
    return device->gid_count;
}

static int query_pkey(struct lend_verbs_context *context, uint8_t port, int index, uint16_t *out)
{
    int number = fake_verbs_fails(context);

    if (number != 0 || port != 1 || index != 0) {
        errno = number != 0 ? number : EINVAL;
        return -1;
    }
    *out = 0xffff;
    return 0;
}

/* --- events --- */

void fake_verbs_event(int device, int type, int port, struct lend_verbs_qp *qp)
{
    struct lend_verbs_event event = {.type = type};

    if (qp != NULL)
        event.element.qp = qp;
    else
        event.element.port = port;
    for (struct fake_context *it = fake_verbs_table.contexts; it != NULL; it = it->next) {
        if (it->number != device)
            continue;
        if (type == LEND_VERBS_EVENT_DEVICE_FATAL) {
            it->is_dead = true;
            fake_verbs_kill_queues(&it->ex.context);
        }
        if (it->event_count < FAKE_EVENTS_MAX) {
            it->events[it->event_count++] = event;
            (void)eventfd_write(it->ex.context.async_fd, 1);
        }
    }
}

void fake_verbs_forget_events(const struct lend_verbs_qp *qp)
{
    struct fake_context *it = fake_verbs_context_of(qp->context);
    int kept = 0;
    eventfd_t value;

    for (int i = 0; i < it->event_count; i++) {
        if (it->events[i].type <= LEND_VERBS_EVENT_COMMUNICATION && it->events[i].element.qp == qp)
            (void)eventfd_read(it->ex.context.async_fd, &value);
        else
            it->events[kept++] = it->events[i];
    }
    it->event_count = kept;
}

static int get_async_event(struct lend_verbs_context *context, struct lend_verbs_event *out)
{
    struct fake_context *it = fake_verbs_context_of(context);
    eventfd_t value;

    if (it->event_count == 0) { /* a real one waits: whoever asks has polled first */
        errno = EAGAIN;
        return -1;
    }
    (void)eventfd_read(context->async_fd, &value);
    *out = it->events[0];
    memmove(it->events, it->events + 1, (size_t)--it->event_count * sizeof it->events[0]);
    fake_verbs.unacknowledged++;
    return 0;
}

static void ack_async_event(struct lend_verbs_event *event)
{
    (void)event;
    fake_verbs.unacknowledged--;
}

/* --- memory --- */

static struct lend_verbs_pd *alloc_pd(struct lend_verbs_context *context)
{
    int number = fake_verbs_fails(context);
    struct fake_pd *made;

    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->pd.context = context;
    fake_verbs.pds++;
    return &made->pd;
}

static int dealloc_pd(struct lend_verbs_pd *pd)
{
    struct fake_pd *it = (struct fake_pd *)pd;

    it->is_orphan = it->users > 0; /* whoever asked will not ask again */
    if (it->users > 0)
        return EBUSY;
    free(it);
    fake_verbs.pds--;
    return 0;
}

static uint32_t make_key(void)
{
    return fake_verbs_table.key_next++ << 8;
}

static struct lend_verbs_mr *make_mr(struct lend_verbs_pd *pd, uint64_t address, size_t bytes,
                                     unsigned access)
{
    struct fake_mr *made = calloc(1, sizeof *made);

    made->access = access;
    made->mr = (struct lend_verbs_mr){
        .context = pd->context, .pd = pd, .addr = (void *)(uintptr_t)address, .length = bytes};
    made->mr.lkey = made->mr.rkey = make_key();
    made->next = fake_verbs_table.mrs;
    fake_verbs_table.mrs = made;
    ((struct fake_pd *)pd)->users++;
    fake_verbs.mrs++;
    fake_verbs.last_access = access;
    return &made->mr;
}

static void note_device(struct lend_verbs_mr *mr, uint64_t device, bool is_import)
{
    struct fake_mr *it = (struct fake_mr *)mr;

    it->device = device;
    it->device_id = fake_cuda_id(device, &it->device_end);
    it->is_import = is_import;
}

static int count_mrs(const struct lend_verbs_context *context)
{
    int count = 0;

    for (const struct fake_mr *it = fake_verbs_table.mrs; it != NULL; it = it->next)
        count += it->mr.context == context;
    return count;
}

static int register_fails(struct lend_verbs_pd *pd, size_t bytes, unsigned access)
{
    const struct fake_verbs_device *device = device_of(pd->context);
    int number = fake_verbs_fails(pd->context);

    if (number != 0)
        return number;
    if (fake_verbs.registrations++ == fake_verbs.fail_register_at)
        return fake_verbs.failure;
    if (bytes == 0 || bytes > device->region_bytes_max)
        return EINVAL;
    if ((access & LEND_VERBS_REMOTE_WRITE) != 0 && (access & LEND_VERBS_LOCAL_WRITE) == 0)
        return EINVAL;
    if ((access & LEND_VERBS_BIND) != 0 &&
        (device->capabilities & LEND_VERBS_DEVICE_WINDOW_2B) == 0)
        return EINVAL;
    return count_mrs(pd->context) >= device->regions_max ? ENOMEM : 0;
}

static struct lend_verbs_mr *reg_mr_iova2(struct lend_verbs_pd *pd, void *address, size_t bytes,
                                          uint64_t iova, unsigned access)
{
    int number = register_fails(pd, bytes, access);
    bool is_device = fake_cuda_bytes((uint64_t)(uintptr_t)address) != NULL;
    struct lend_verbs_mr *made;

    if (number == 0 && is_device && !device_of(pd->context)->has_peer_memory)
        number = EFAULT;
    if (number != 0)
        return refuse(number);
    made = make_mr(pd, iova, bytes, access);
    if (is_device)
        note_device(made, (uint64_t)(uintptr_t)address, false);
    return made;
}

static struct lend_verbs_mr *reg_mr(struct lend_verbs_pd *pd, void *address, size_t bytes,
                                    int access)
{
    if (((unsigned)access & LEND_VERBS_OPTIONAL_ACCESS) != 0)
        return refuse(EINVAL);
    return reg_mr_iova2(pd, address, bytes, (uintptr_t)address, (unsigned)access);
}

static struct lend_verbs_mr *reg_dmabuf_mr(struct lend_verbs_pd *pd, uint64_t offset, size_t bytes,
                                           uint64_t iova, int fd, int access)
{
    if (!device_of(pd->context)->has_dma_buf)
        return refuse(EOPNOTSUPP);
    if (fd < 0)
        return refuse(EBADF);
    int number = register_fails(pd, bytes, (unsigned)access);
    if (number == 0 && offset % 4096 != iova % 4096)
        number = EINVAL;
    if (number == 0 && device_of(pd->context)->refuses_dma_buf_windows &&
        ((unsigned)access & LEND_VERBS_BIND) != 0)
        number = EINVAL;
    uint64_t base = 0, length = 0;
    unsigned flags = 0;
    if (number == 0 && (!fake_cuda_exported(fd, &base, &length, &flags) || offset > length ||
                        bytes > length - offset))
        number = EINVAL;
    if (number != 0)
        return refuse(number);
    fake_verbs.last_fd = fd;
    fake_verbs.last_offset = offset;
    struct lend_verbs_mr *made = make_mr(pd, iova, bytes, (unsigned)access);
    note_device(made, base + offset, true);
    if ((device_of(pd->context)->misleads >> flags & 1) != 0)
        ((struct fake_mr *)made)->device_id = UINT64_MAX; /* no memory has it */
    fake_verbs.last_export = flags;
    return made;
}

static int dereg_mr(struct lend_verbs_mr *mr)
{
    struct fake_mr *it = (struct fake_mr *)mr;
    struct fake_mr **at = &fake_verbs_table.mrs;

    if (fake_verbs.deregister_errno != 0)
        return fake_verbs.deregister_errno;
    if (it->windows > 0)
        return EBUSY;
    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    ((struct fake_pd *)mr->pd)->users--;
    free(it);
    fake_verbs.mrs--;
    return 0;
}

bool fake_verbs_knows(const struct lend_verbs_context *context, uint32_t rkey)
{
    for (const struct fake_mr *it = fake_verbs_table.mrs; it != NULL; it = it->next) {
        if (it->mr.context == context && it->mr.rkey == rkey)
            return true;
    }
    return false;
}

static struct lend_verbs_mw *alloc_mw(struct lend_verbs_pd *pd, int type)
{
    int number = fake_verbs_fails(pd->context);
    struct fake_mw *made;

    if (number == 0 && type != LEND_VERBS_WINDOW_TYPE_2)
        number = EINVAL;
    if (number == 0 && fake_verbs.mws >= device_of(pd->context)->windows_max)
        number = ENOMEM;
    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->mw =
        (struct lend_verbs_mw){.context = pd->context, .pd = pd, .rkey = make_key(), .type = type};
    made->next = fake_verbs_table.mws;
    fake_verbs_table.mws = made;
    ((struct fake_pd *)pd)->users++;
    fake_verbs.mws++;
    return &made->mw;
}

static int dealloc_mw(struct lend_verbs_mw *mw)
{
    struct fake_mw *it = (struct fake_mw *)mw;
    struct fake_mw **at = &fake_verbs_table.mws;

    if (fake_verbs.deallocate_errno != 0) {
        int number = fake_verbs.deallocate_errno;

        if (fake_verbs.deallocate_once)
            fake_verbs.deallocate_errno = 0;
        return number;
    }
    if (it->mr != NULL)
        it->mr->windows--;
    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    ((struct fake_pd *)mw->pd)->users--;
    free(it);
    fake_verbs.mws--;
    return 0;
}

void fake_verbs_abandon(void)
{
    fake_verbs.deregister_errno = fake_verbs.deallocate_errno = 0;
    while (fake_verbs_table.mws != NULL)
        (void)dealloc_mw(&fake_verbs_table.mws->mw);
    while (fake_verbs_table.mrs != NULL) {
        struct lend_verbs_pd *pd = fake_verbs_table.mrs->mr.pd;

        (void)dereg_mr(&fake_verbs_table.mrs->mr);
        if (((struct fake_pd *)pd)->is_orphan && ((struct fake_pd *)pd)->users == 0)
            (void)dealloc_pd(pd);
    }
}

static int is_fork_initialized(void)
{
    return fake_verbs.fork_status;
}

static const char *wc_status_str(int status)
{
    return status == 0 ? "success" : "a status of a fake";
}

static const char *event_type_str(int type)
{
    (void)type;
    return "an event of a fake";
}

#define COMMON                                                                                     \
    .get_device_list = get_device_list, .free_device_list = free_device_list,                      \
    .open_device = open_device, .close_device = close_device, .query_device = query_device,        \
    .query_port = query_port, .query_gid = query_gid, .query_pkey = query_pkey,                    \
    .get_async_event = get_async_event, .ack_async_event = ack_async_event, .alloc_pd = alloc_pd,  \
    .dealloc_pd = dealloc_pd, .reg_mr = reg_mr, .dereg_mr = dereg_mr,                              \
    .create_comp_channel = fake_verbs_create_channel,                                              \
    .destroy_comp_channel = fake_verbs_destroy_channel, .create_cq = fake_verbs_create_cq,         \
    .destroy_cq = fake_verbs_destroy_cq, .get_cq_event = fake_verbs_get_cq_event,                  \
    .ack_cq_events = fake_verbs_ack_cq_events, .create_qp = fake_verbs_create_qp,                  \
    .modify_qp = fake_verbs_modify_qp, .query_qp = fake_verbs_query_qp,                            \
    .destroy_qp = fake_verbs_destroy_qp, .wc_status_str = wc_status_str,                           \
    .event_type_str = event_type_str

const struct lend_verbs_ops fake_verbs_ops = {
    COMMON,
    .query_gid_table = query_gid_table,
    .reg_mr_iova2 = reg_mr_iova2,
    .reg_dmabuf_mr = reg_dmabuf_mr,
    .is_fork_initialized = is_fork_initialized,
};
const struct lend_verbs_ops fake_verbs_old_ops = {COMMON};
