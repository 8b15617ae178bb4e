/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/verbs_objects.h"

#include <pthread.h>
#include <sched.h>

/* The fake libibverbs for several threads: each of its functions by itself, under one lock. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lend_verbs_context_ops unlocked;
static struct lend_verbs_context_ex unlocked_ex;

#define LOCKED(type, name, of, parameters, arguments)                                              \
    static type name parameters                                                                    \
    {                                                                                              \
        (void)pthread_mutex_lock(&lock);                                                           \
        type result = (of)arguments;                                                               \
        (void)pthread_mutex_unlock(&lock);                                                         \
        return result;                                                                             \
    }

LOCKED(struct lend_verbs_mw *, alloc_mw, unlocked.alloc_mw, (struct lend_verbs_pd * pd, int type),
       (pd, type))
LOCKED(int, dealloc_mw, unlocked.dealloc_mw, (struct lend_verbs_mw * mw), (mw))
LOCKED(int, poll_cq, unlocked.poll_cq,
       (struct lend_verbs_cq * cq, int capacity, struct lend_verbs_completion *out),
       (cq, capacity, out))
LOCKED(int, post_send, unlocked.post_send,
       (struct lend_verbs_qp * qp, struct lend_verbs_send *list, struct lend_verbs_send **out_bad),
       (qp, list, out_bad))
LOCKED(int, post_receive, unlocked.post_recv,
       (struct lend_verbs_qp * qp, struct lend_verbs_receive *list,
        struct lend_verbs_receive **out_bad),
       (qp, list, out_bad))
LOCKED(int, query_port_ex, unlocked_ex.query_port,
       (struct lend_verbs_context * context, uint8_t port, struct lend_verbs_port_attributes *out,
        size_t bytes),
       (context, port, out, bytes))
LOCKED(int, query_device_ex, unlocked_ex.query_device_ex,
       (struct lend_verbs_context * context, const void *input,
        struct lend_verbs_device_attributes_ex *out, size_t bytes),
       (context, input, out, bytes))
LOCKED(struct lend_verbs_device **, get_device_list, fake_verbs_ops.get_device_list,
       (int *out_count), (out_count))
LOCKED(int, close_device, fake_verbs_ops.close_device, (struct lend_verbs_context * context),
       (context))
LOCKED(int, query_device, fake_verbs_ops.query_device,
       (struct lend_verbs_context * context, struct lend_verbs_device_attributes *out),
       (context, out))
LOCKED(int, query_gid, fake_verbs_ops.query_gid,
       (struct lend_verbs_context * context, uint8_t port, int index, union lend_verbs_gid *out),
       (context, port, index, out))
LOCKED(ssize_t, query_gid_table, fake_verbs_ops.query_gid_table,
       (struct lend_verbs_context * context, struct lend_verbs_gid_entry *out, size_t capacity,
        uint32_t flags, size_t entry_bytes),
       (context, out, capacity, flags, entry_bytes))
LOCKED(struct lend_verbs_pd *, alloc_pd, fake_verbs_ops.alloc_pd,
       (struct lend_verbs_context * context), (context))
LOCKED(int, dealloc_pd, fake_verbs_ops.dealloc_pd, (struct lend_verbs_pd * pd), (pd))
LOCKED(struct lend_verbs_mr *, reg_mr, fake_verbs_ops.reg_mr,
       (struct lend_verbs_pd * pd, void *address, size_t bytes, int access),
       (pd, address, bytes, access))
LOCKED(struct lend_verbs_mr *, reg_dmabuf_mr, fake_verbs_ops.reg_dmabuf_mr,
       (struct lend_verbs_pd * pd, uint64_t offset, size_t bytes, uint64_t iova, int fd,
        int access),
       (pd, offset, bytes, iova, fd, access))
LOCKED(struct lend_verbs_mr *, reg_mr_iova2, fake_verbs_ops.reg_mr_iova2,
       (struct lend_verbs_pd * pd, void *address, size_t bytes, uint64_t iova, unsigned access),
       (pd, address, bytes, iova, access))
LOCKED(int, dereg_mr, fake_verbs_ops.dereg_mr, (struct lend_verbs_mr * mr), (mr))
LOCKED(struct lend_verbs_cq *, create_cq, fake_verbs_ops.create_cq,
       (struct lend_verbs_context * context, int entries, void *cq_context,
        struct lend_verbs_comp_channel *channel, int vector),
       (context, entries, cq_context, channel, vector))
LOCKED(struct lend_verbs_qp *, create_qp, fake_verbs_ops.create_qp,
       (struct lend_verbs_pd * pd, struct lend_verbs_qp_init *init), (pd, init))
LOCKED(int, modify_qp, fake_verbs_ops.modify_qp,
       (struct lend_verbs_qp * qp, struct lend_verbs_qp_attributes *attributes, int mask),
       (qp, attributes, mask))
LOCKED(int, destroy_qp, fake_verbs_ops.destroy_qp, (struct lend_verbs_qp * qp), (qp))
LOCKED(int, is_fork_initialized, fake_verbs_ops.is_fork_initialized, (void), ())

LOCKED(int, request_notify, unlocked.req_notify_cq, (struct lend_verbs_cq * cq, int solicited_only),
       (cq, solicited_only))
LOCKED(struct lend_verbs_comp_channel *, create_channel, fake_verbs_ops.create_comp_channel,
       (struct lend_verbs_context * context), (context))
LOCKED(int, destroy_channel, fake_verbs_ops.destroy_comp_channel,
       (struct lend_verbs_comp_channel * channel), (channel))
LOCKED(int, get_cq_event, fake_verbs_ops.get_cq_event,
       (struct lend_verbs_comp_channel * channel, struct lend_verbs_cq **out_cq,
        void **out_context),
       (channel, out_cq, out_context))
LOCKED(int, get_async_event, fake_verbs_ops.get_async_event,
       (struct lend_verbs_context * context, struct lend_verbs_event *out), (context, out))

static void ack_cq_events(struct lend_verbs_cq *cq, unsigned count)
{
    (void)pthread_mutex_lock(&lock);
    fake_verbs_ops.ack_cq_events(cq, count);
    (void)pthread_mutex_unlock(&lock);
}

static void ack_async_event(struct lend_verbs_event *event)
{
    (void)pthread_mutex_lock(&lock);
    fake_verbs_ops.ack_async_event(event);
    (void)pthread_mutex_unlock(&lock);
}

/* As a real one it waits until each event of it is acknowledged. */
static int destroy_cq(struct lend_verbs_cq *cq)
{
    (void)pthread_mutex_lock(&lock);
    while (((struct fake_cq *)cq)->told > 0) {
        (void)pthread_mutex_unlock(&lock);
        (void)sched_yield();
        (void)pthread_mutex_lock(&lock);
    }
    int result = fake_verbs_ops.destroy_cq(cq);
    (void)pthread_mutex_unlock(&lock);
    return result;
}

static void free_device_list(struct lend_verbs_device **list)
{
    fake_verbs_ops.free_device_list(list);
}

static const char *wc_status_str(int status)
{
    return fake_verbs_ops.wc_status_str(status);
}

/* A provider's functions are in the context, and those of each context of a fake are the same. */
static struct lend_verbs_context *open_device(struct lend_verbs_device *device)
{
    (void)pthread_mutex_lock(&lock);
    struct lend_verbs_context *context = fake_verbs_ops.open_device(device);
    if (context != NULL) {
        struct lend_verbs_context_ex *ex = &fake_verbs_context_of(context)->ex;

        unlocked = context->ops;
        unlocked_ex = *ex;
        context->ops = (struct lend_verbs_context_ops){.alloc_mw = alloc_mw,
                                                       .dealloc_mw = dealloc_mw,
                                                       .poll_cq = poll_cq,
                                                       .req_notify_cq = request_notify,
                                                       .post_send = post_send,
                                                       .post_recv = post_receive};
        ex->query_port = query_port_ex;
        ex->query_device_ex = query_device_ex;
    }
    (void)pthread_mutex_unlock(&lock);
    return context;
}

const struct lend_verbs_ops fake_verbs_threads_ops = {
    .get_device_list = get_device_list,
    .free_device_list = free_device_list,
    .open_device = open_device,
    .close_device = close_device,
    .query_device = query_device,
    .get_async_event = get_async_event,
    .ack_async_event = ack_async_event,
    .create_comp_channel = create_channel,
    .destroy_comp_channel = destroy_channel,
    .get_cq_event = get_cq_event,
    .ack_cq_events = ack_cq_events,
    .query_gid = query_gid,
    .query_gid_table = query_gid_table,
    .alloc_pd = alloc_pd,
    .dealloc_pd = dealloc_pd,
    .reg_mr = reg_mr,
    .reg_mr_iova2 = reg_mr_iova2,
    .reg_dmabuf_mr = reg_dmabuf_mr,
    .dereg_mr = dereg_mr,
    .create_cq = create_cq,
    .destroy_cq = destroy_cq,
    .create_qp = create_qp,
    .modify_qp = modify_qp,
    .destroy_qp = destroy_qp,
    .is_fork_initialized = is_fork_initialized,
    .wc_status_str = wc_status_str,
};
