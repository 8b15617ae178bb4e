/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/verbs_objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The fake's queues: work is done when it is posted, or held until fake_verbs_let_go(). */

static void *refuse(int number)
{
    errno = number;
    return NULL;
}

/* --- completions --- */

struct lend_verbs_comp_channel *fake_verbs_create_channel(struct lend_verbs_context *context)
{
    int number = fake_verbs_fails(context);
    struct fake_channel *made;

    if (number == 0 && fake_verbs.refuses_channels)
        number = ENOMEM;
    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->channel.context = context;
    made->channel.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    made->next = fake_verbs_table.channels;
    fake_verbs_table.channels = made;
    fake_verbs.channels++;
    return &made->channel;
}

int fake_verbs_destroy_channel(struct lend_verbs_comp_channel *channel)
{
    struct fake_channel *it = (struct fake_channel *)channel;
    struct fake_channel **at = &fake_verbs_table.channels;

    if (it->users > 0)
        return EBUSY;
    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    (void)close(channel->fd);
    free(it);
    fake_verbs.channels--;
    return 0;
}

struct lend_verbs_cq *fake_verbs_create_cq(struct lend_verbs_context *context, int entries,
                                           void *cq_context,
                                           struct lend_verbs_comp_channel *channel, int vector)
{
    int number = fake_verbs_fails(context);
    struct fake_cq *made;

    if (number == 0 && (entries < 1 || entries >= FAKE_CQES_MAX || vector != 0))
        number = EINVAL;
    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->cq = (struct lend_verbs_cq){
        .context = context, .channel = channel, .cq_context = cq_context, .cqe = entries};
    made->ring = calloc((size_t)entries, sizeof *made->ring);
    if (channel != NULL)
        ((struct fake_channel *)channel)->users++;
    fake_verbs.cqs++;
    return &made->cq;
}

/* Events of the queue that nobody took are void. */
static void forget_events(struct fake_channel *channel, const struct lend_verbs_cq *cq)
{
    int kept = 0;
    eventfd_t value;

    for (int i = 0; i < channel->count; i++) {
        if (channel->pending[i] == cq)
            (void)eventfd_read(channel->channel.fd, &value);
        else
            channel->pending[kept++] = channel->pending[i];
    }
    channel->count = kept;
}

int fake_verbs_destroy_cq(struct lend_verbs_cq *cq)
{
    struct fake_cq *it = (struct fake_cq *)cq;

    if (it->users > 0 || it->told > 0) /* a real one waits for the acknowledgements */
        return EBUSY;
    if (cq->channel != NULL) {
        forget_events((struct fake_channel *)cq->channel, cq);
        ((struct fake_channel *)cq->channel)->users--;
    }
    free(it->ring);
    free(it);
    fake_verbs.cqs--;
    return 0;
}

int fake_verbs_get_cq_event(struct lend_verbs_comp_channel *channel, struct lend_verbs_cq **out_cq,
                            void **out_context)
{
    struct fake_channel *it = (struct fake_channel *)channel;
    eventfd_t value;

    if (it->count == 0) { /* a real one waits: whoever asks has polled first */
        errno = EAGAIN;
        return -1;
    }
    (void)eventfd_read(channel->fd, &value);
    *out_cq = it->pending[0];
    *out_context = it->pending[0]->cq_context;
    ((struct fake_cq *)it->pending[0])->told++;
    fake_verbs.unacknowledged++;
    memmove(it->pending, it->pending + 1, (size_t)--it->count * sizeof it->pending[0]);
    return 0;
}

void fake_verbs_ack_cq_events(struct lend_verbs_cq *cq, unsigned count)
{
    ((struct fake_cq *)cq)->told -= (int)count;
    fake_verbs.unacknowledged -= (int)count;
}

int fake_verbs_request_notify(struct lend_verbs_cq *cq, int solicited_only)
{
    (void)solicited_only;
    fake_verbs.arms++;
    if (fake_verbs.is_late)
        (void)fake_verbs_let_go(1 << 20);
    ((struct fake_cq *)cq)->is_armed = true;
    return 0;
}

int fake_verbs_poll(struct lend_verbs_cq *cq, int capacity, struct lend_verbs_completion *out)
{
    struct fake_cq *it = (struct fake_cq *)cq;
    int count = 0;

    fake_verbs.polls++;
    while (count < capacity && it->count > 0) {
        out[count++] = it->ring[it->first];
        it->first = (it->first + 1) % cq->cqe;
        it->count--;
    }
    return count;
}

static void complete(struct lend_verbs_cq *cq, const struct lend_verbs_completion *completion)
{
    struct fake_cq *it = (struct fake_cq *)cq;
    struct fake_channel *channel = (struct fake_channel *)cq->channel;

    if (it->count == cq->cqe)
        abort(); /* an overrun breaks a real queue for good */
    it->ring[(it->first + it->count++) % cq->cqe] = *completion;
    if (it->is_armed && channel != NULL && channel->count < FAKE_EVENTS_MAX) {
        it->is_armed = false;
        channel->pending[channel->count++] = cq;
        (void)eventfd_write(channel->channel.fd, 1);
    }
}

/* --- queue pairs --- */

static struct fake_qp *find_qp(uint32_t number)
{
    struct fake_qp *it = fake_verbs_table.qps;

    while (it != NULL && it->qp.qp_num != number)
        it = it->next;
    return it;
}

struct lend_verbs_qp *fake_verbs_create_qp(struct lend_verbs_pd *pd,
                                           struct lend_verbs_qp_init *init)
{
    int number = fake_verbs_fails(pd->context);
    struct fake_qp *made;

    if (number == 0 &&
        (init->cap.max_send_wr > FAKE_WORKS_MAX || init->cap.max_recv_wr > FAKE_WORKS_MAX ||
         init->cap.max_send_sge > FAKE_SGES_MAX || init->cap.max_recv_sge > FAKE_SGES_MAX ||
         init->qp_type != LEND_VERBS_QP_RC))
        number = EINVAL;
    if (number != 0)
        return refuse(number);
    made = calloc(1, sizeof *made);
    made->init = *init;
    made->qp = (struct lend_verbs_qp){.context = pd->context,
                                      .qp_context = init->qp_context,
                                      .pd = pd,
                                      .send_cq = init->send_cq,
                                      .recv_cq = init->recv_cq,
                                      .qp_num = ++fake_verbs_table.qp_num_last,
                                      .qp_type = init->qp_type};
    made->works = calloc((size_t)init->cap.max_send_wr + 1, sizeof *made->works);
    made->receives = calloc((size_t)init->cap.max_recv_wr + 1, sizeof *made->receives);
    made->next = fake_verbs_table.qps;
    fake_verbs_table.qps = made;
    ((struct fake_pd *)pd)->users++;
    ((struct fake_cq *)init->send_cq)->users++;
    ((struct fake_cq *)init->recv_cq)->users++;
    fake_verbs.qps++;
    fake_verbs.qps_made++;
    return &made->qp;
}

static void drop_work(struct fake_qp *it)
{
    for (; it->work_count > 0; it->work_count--) {
        free(it->works[it->work_first].inlined);
        it->works[it->work_first].inlined = NULL;
        it->work_first = (it->work_first + 1) % (int)(it->init.cap.max_send_wr + 1);
    }
    it->receive_count = 0;
}

int fake_verbs_destroy_qp(struct lend_verbs_qp *qp)
{
    struct fake_qp *it = (struct fake_qp *)qp;
    struct fake_qp **at = &fake_verbs_table.qps;

    while (*at != it)
        at = &(*at)->next;
    *at = it->next;
    drop_work(it);
    fake_verbs_forget_events(qp);
    ((struct fake_pd *)qp->pd)->users--;
    ((struct fake_cq *)qp->send_cq)->users--;
    ((struct fake_cq *)qp->recv_cq)->users--;
    free(it->works);
    free(it->receives);
    free(it);
    fake_verbs.qps--;
    return 0;
}

static void end_work(struct fake_qp *it, int status, uint32_t bytes)
{
    struct fake_work *work = &it->works[it->work_first];
    static const int opcodes[] = {
        [LEND_VERBS_SEND_WRITE] = LEND_VERBS_WC_WRITE,
        [LEND_VERBS_SEND_WRITE_IMMEDIATE] = LEND_VERBS_WC_WRITE,
        [LEND_VERBS_SEND_SEND] = LEND_VERBS_WC_SEND,
        [LEND_VERBS_SEND_SEND_IMMEDIATE] = LEND_VERBS_WC_SEND,
        [LEND_VERBS_SEND_READ] = LEND_VERBS_WC_READ,
        [LEND_VERBS_SEND_LOCAL_INVALIDATE] = LEND_VERBS_WC_LOCAL_INVALIDATE,
        [LEND_VERBS_SEND_BIND_WINDOW] = LEND_VERBS_WC_BIND,
    };
    const struct lend_verbs_completion completion = {.wr_id = work->send.wr_id,
                                                     .status = status,
                                                     .opcode = opcodes[work->send.opcode],
                                                     .byte_len = bytes,
                                                     .vendor_err = status != 0 ? 0x5a : 0,
                                                     .qp_num = it->qp.qp_num};
    bool is_told = status != 0 || it->init.sq_sig_all != 0 ||
                   (work->send.send_flags & LEND_VERBS_SIGNALED) != 0;

    free(work->inlined);
    work->inlined = NULL;
    it->work_first = (it->work_first + 1) % (int)(it->init.cap.max_send_wr + 1);
    it->work_count--;
    fake_verbs.works++;
    fake_verbs.works_of[fake_verbs_context_of(it->qp.context)->number]++;
    fake_verbs.bytes_of[fake_verbs_context_of(it->qp.context)->number] += bytes;
    if (is_told)
        complete(it->qp.send_cq, &completion);
}

static void flush(struct fake_qp *it)
{
    it->qp.state = LEND_VERBS_QP_ERROR;
    while (it->work_count > 0)
        end_work(it, LEND_VERBS_WC_FLUSHED, 0);
    for (; it->receive_count > 0; it->receive_count--) {
        const struct lend_verbs_completion completion = {.wr_id =
                                                             it->receives[it->receive_first].wr_id,
                                                         .status = LEND_VERBS_WC_FLUSHED,
                                                         .opcode = LEND_VERBS_WC_RECEIVE,
                                                         .qp_num = it->qp.qp_num};

        it->receive_first = (it->receive_first + 1) % (int)(it->init.cap.max_recv_wr + 1);
        complete(it->qp.recv_cq, &completion);
    }
}

void fake_verbs_kill_queues(struct lend_verbs_context *context)
{
    for (struct fake_qp *it = fake_verbs_table.qps; it != NULL; it = it->next) {
        if (it->qp.context == context)
            flush(it);
    }
}

static void set_fields(struct fake_qp *it, const struct lend_verbs_qp_attributes *from, int mask)
{
    struct lend_verbs_qp_attributes *to = &it->attributes;

    if ((mask & LEND_VERBS_SET_ACCESS) != 0)
        to->qp_access_flags = from->qp_access_flags;
    if ((mask & LEND_VERBS_SET_PEER_NUMBER) != 0)
        to->dest_qp_num = from->dest_qp_num;
    if ((mask & LEND_VERBS_SET_ADDRESS) != 0) {
        to->ah_attr = from->ah_attr;
        fake_verbs.last_sgid_index = from->ah_attr.grh.sgid_index;
    }
    if ((mask & LEND_VERBS_SET_PATH_MTU) != 0)
        to->path_mtu = from->path_mtu;
    if ((mask & LEND_VERBS_SET_RQ_PSN) != 0)
        to->rq_psn = from->rq_psn;
    if ((mask & LEND_VERBS_SET_SQ_PSN) != 0)
        to->sq_psn = from->sq_psn;
    if ((mask & LEND_VERBS_SET_PORT) != 0)
        to->port_num = from->port_num;
}

static int step_is_legal(const struct fake_qp *it, int to, int mask)
{
    const int init = LEND_VERBS_SET_PKEY_INDEX | LEND_VERBS_SET_PORT | LEND_VERBS_SET_ACCESS;
    const int rtr = LEND_VERBS_SET_ADDRESS | LEND_VERBS_SET_PATH_MTU | LEND_VERBS_SET_PEER_NUMBER |
                    LEND_VERBS_SET_RQ_PSN | LEND_VERBS_SET_MAX_SERVED_READS |
                    LEND_VERBS_SET_MIN_RNR_TIMER;
    const int rts = LEND_VERBS_SET_TIMEOUT | LEND_VERBS_SET_RETRY_COUNT | LEND_VERBS_SET_RNR_RETRY |
                    LEND_VERBS_SET_SQ_PSN | LEND_VERBS_SET_MAX_READS;

    if (to == LEND_VERBS_QP_RESET || to == LEND_VERBS_QP_ERROR)
        return true;
    if (to == LEND_VERBS_QP_INIT)
        return it->qp.state == LEND_VERBS_QP_RESET && (mask & init) == init;
    if (to == LEND_VERBS_QP_RTR)
        return it->qp.state == LEND_VERBS_QP_INIT && (mask & rtr) == rtr;
    return to == LEND_VERBS_QP_RTS && it->qp.state == LEND_VERBS_QP_RTR && (mask & rts) == rts;
}

/* Completions of a queue pair that was reset are gone, and bindings to it with it. */
static void forget(struct fake_qp *it)
{
    struct fake_cq *cq = (struct fake_cq *)it->qp.send_cq;
    int kept = 0;

    drop_work(it);
    for (int i = 0; i < cq->count; i++) {
        const struct lend_verbs_completion *at = &cq->ring[(cq->first + i) % cq->cq.cqe];

        if (at->qp_num != it->qp.qp_num)
            cq->ring[(cq->first + kept++) % cq->cq.cqe] = *at;
    }
    cq->count = kept;
}

int fake_verbs_modify_qp(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *attributes,
                         int mask)
{
    struct fake_qp *it = (struct fake_qp *)qp;
    int number = fake_verbs_fails(qp->context);

    if (number != 0)
        return number;
    if ((mask & LEND_VERBS_SET_STATE) == 0)
        return EINVAL;
    if (!step_is_legal(it, attributes->qp_state, mask))
        return EINVAL;
    set_fields(it, attributes, mask);
    if (attributes->qp_state == LEND_VERBS_QP_ERROR)
        flush(it);
    if (attributes->qp_state == LEND_VERBS_QP_RESET)
        forget(it);
    qp->state = attributes->qp_state;
    return 0;
}

int fake_verbs_query_qp(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *out, int mask,
                        struct lend_verbs_qp_init *out_init)
{
    struct fake_qp *it = (struct fake_qp *)qp;

    (void)mask;
    *out = it->attributes;
    out->qp_state = qp->state;
    *out_init = it->init;
    return 0;
}

/* --- bytes --- */

static bool is_within(uint64_t address, uint64_t bytes, uint64_t start, uint64_t length)
{
    return address >= start && bytes <= length && address - start <= length - bytes;
}

static bool is_local(const struct fake_qp *it, const struct lend_verbs_sge *sge, bool is_written)
{
    const struct fake_mr *mr = fake_verbs_find_mr(sge->lkey);

    return sge->length == 0 ||
           (mr != NULL && mr->mr.pd == it->qp.pd &&
            (!is_written || (mr->access & LEND_VERBS_LOCAL_WRITE) != 0) &&
            is_within(sge->addr, sge->length, (uintptr_t)mr->mr.addr, mr->mr.length));
}

/* The region that the peer of that queue pair may do this to; NULL: none. What was registered by
 * its address ends when it is freed, as the driver sees to that. */
static const struct fake_mr *allowed(const struct fake_qp *target, uint32_t rkey, uint64_t address,
                                     uint64_t bytes, unsigned right)
{
    const struct fake_mr *mr = fake_verbs_find_mr(rkey);
    bool is_allowed = false;

    if (mr != NULL)
        is_allowed = mr->mr.pd == target->qp.pd && (mr->access & right) != 0 &&
                     is_within(address, bytes, (uintptr_t)mr->mr.addr, mr->mr.length);
    for (const struct fake_mw *it = fake_verbs_table.mws; mr == NULL && it != NULL; it = it->next) {
        if (it->mr == NULL || it->rkey != rkey || it->qp_num != target->qp.qp_num)
            continue;
        mr = it->mr;
        is_allowed = (it->access & right) != 0 && is_within(address, bytes, it->address, it->bytes);
    }
    if ((target->attributes.qp_access_flags & right) == 0 || !is_allowed ||
        (fake_verbs_is_freed(mr) && !mr->is_import))
        return NULL;
    return mr;
}

static uint64_t work_bytes(const struct fake_work *work)
{
    uint64_t sum = 0;

    for (int i = 0; i < work->send.num_sge; i++)
        sum += work->sges[i].length;
    return sum;
}

/* Out of the work's pieces to `remote`, or from there into them. */
static void copy_pieces(const struct fake_work *work, struct fake_reach remote, bool is_read)
{
    uint64_t done = 0;

    for (int i = 0; i < work->send.num_sge; i++) {
        const struct lend_verbs_sge *sge = &work->sges[i];
        struct fake_reach local = {.mr = fake_verbs_find_mr(sge->lkey), .address = sge->addr};

        if (sge->length == 0)
            continue;
        if (work->inlined != NULL)
            local = (struct fake_reach){.address = (uintptr_t)work->inlined + done};
        fake_verbs_copy(is_read ? &local : &remote, is_read ? &remote : &local, sge->length);
        remote.address += sge->length;
        done += sge->length;
    }
}

static int check_local(const struct fake_qp *it, const struct fake_work *work)
{
    bool is_read = work->send.opcode == LEND_VERBS_SEND_READ;

    for (int i = 0; i < work->send.num_sge && work->inlined == NULL; i++) {
        if (!is_local(it, &work->sges[i], is_read))
            return LEND_VERBS_WC_LOCAL_PROTECTION;
    }
    return 0;
}

static int bind_window(struct fake_qp *it, const struct fake_work *work)
{
    struct fake_mw *mw = (struct fake_mw *)work->send.bind.mw;
    struct fake_mr *mr = (struct fake_mr *)work->send.bind.info.mr;
    uint32_t rkey = work->send.bind.rkey;
    const uint32_t same = ~0xffU;

    if (mw->mr != NULL || mr == NULL || mr->mr.pd != mw->mw.pd ||
        (mr->access & LEND_VERBS_BIND) == 0 || (mr->access & LEND_VERBS_LOCAL_WRITE) == 0 ||
        (mw->mw.rkey & same) != (rkey & same) || rkey == mw->mw.rkey ||
        !is_within(work->send.bind.info.addr, work->send.bind.info.length, (uintptr_t)mr->mr.addr,
                   mr->mr.length))
        return LEND_VERBS_WC_WINDOW_BIND;
    mw->mr = mr;
    mr->windows++;
    mw->rkey = rkey;
    mw->qp_num = it->qp.qp_num;
    mw->address = work->send.bind.info.addr;
    mw->bytes = work->send.bind.info.length;
    mw->access = work->send.bind.info.access;
    return 0;
}

static int invalidate(const struct fake_qp *it, uint32_t rkey)
{
    for (struct fake_mw *mw = fake_verbs_table.mws; mw != NULL; mw = mw->next) {
        if (mw->mr != NULL && mw->rkey == rkey && mw->qp_num == it->qp.qp_num) {
            mw->mr->windows--;
            mw->mr = NULL;
            return 0;
        }
    }
    return LEND_VERBS_WC_LOCAL_QP_OPERATION;
}

/* Give the receiver its message, or its number behind a write. False: it has posted no receive. */
static bool receive(struct fake_qp *target, const struct fake_work *work, bool has_payload)
{
    bool has_immediate = work->send.opcode == LEND_VERBS_SEND_WRITE_IMMEDIATE ||
                         work->send.opcode == LEND_VERBS_SEND_SEND_IMMEDIATE;
    const struct fake_receive *taken = &target->receives[target->receive_first];
    struct lend_verbs_completion completion = {
        .opcode = has_payload ? LEND_VERBS_WC_RECEIVE : LEND_VERBS_WC_RECEIVE_WRITE_IMMEDIATE,
        .qp_num = target->qp.qp_num,
        .byte_len = (uint32_t)work_bytes(work),
        .immediate = has_immediate ? work->send.immediate : 0,
        .flags = has_immediate ? LEND_VERBS_WC_HAS_IMMEDIATE : 0};

    if (target->receive_count == 0)
        return false;
    completion.wr_id = taken->wr_id;
    if (has_payload && completion.byte_len > 0) {
        if (taken->count != 1 || taken->sges[0].length < completion.byte_len ||
            !is_local(target, &taken->sges[0], true))
            completion.status = LEND_VERBS_WC_LOCAL_LENGTH;
        else
            copy_pieces(work,
                        (struct fake_reach){.mr = fake_verbs_find_mr(taken->sges[0].lkey),
                                            .address = taken->sges[0].addr},
                        false);
    }
    target->receive_first = (target->receive_first + 1) % (int)(target->init.cap.max_recv_wr + 1);
    target->receive_count--;
    fake_verbs.receives++;
    complete(target->qp.recv_cq, &completion);
    return true;
}

/* The peer that the queue pair leads to; NULL: it is not there, or not ready. */
static struct fake_qp *peer_of(const struct fake_qp *it)
{
    struct fake_qp *target = find_qp(it->attributes.dest_qp_num);

    return target != NULL &&
                   (target->qp.state == LEND_VERBS_QP_RTR || target->qp.state == LEND_VERBS_QP_RTS)
               ? target
               : NULL;
}

/* What a work that goes to the peer does; LEND_VERBS_WC_...; -1: it waits for a receive. */
static int reach_peer(struct fake_qp *it, const struct fake_work *work)
{
    struct fake_qp *target = peer_of(it);
    bool is_read = work->send.opcode == LEND_VERBS_SEND_READ;
    bool is_write = work->send.opcode == LEND_VERBS_SEND_WRITE ||
                    work->send.opcode == LEND_VERBS_SEND_WRITE_IMMEDIATE;
    bool has_receive = !is_read && work->send.opcode != LEND_VERBS_SEND_WRITE;

    if (target == NULL)
        return LEND_VERBS_WC_RETRY_EXCEEDED;
    if (has_receive && target->receive_count == 0)
        return -1;
    if ((is_read || is_write) && work_bytes(work) > 0) {
        struct fake_reach there = {.address = work->send.wr.rdma.remote_addr};

        there.mr = allowed(target, work->send.wr.rdma.rkey, there.address, work_bytes(work),
                           is_read ? LEND_VERBS_REMOTE_READ : LEND_VERBS_REMOTE_WRITE);
        if (there.mr == NULL) {
            flush(target);
            return LEND_VERBS_WC_REMOTE_ACCESS;
        }
        copy_pieces(work, there, is_read);
    }
    if (has_receive)
        (void)receive(target, work, !is_write); /* there is one */
    return 0;
}

/* Do the first piece of work. False: it waits. */
static bool do_first(struct fake_qp *it)
{
    const struct fake_work *work = &it->works[it->work_first];
    int status = fake_verbs.works == fake_verbs.status_at ? fake_verbs.status : 0;

    if (status == 0)
        status = check_local(it, work);
    if (status == 0 && work->send.opcode == LEND_VERBS_SEND_BIND_WINDOW)
        status = bind_window(it, work);
    else if (status == 0 && work->send.opcode == LEND_VERBS_SEND_LOCAL_INVALIDATE)
        status = invalidate(it, work->send.invalidate_rkey);
    else if (status == 0)
        status = reach_peer(it, work);
    if (status < 0)
        return false;
    end_work(it, status, (uint32_t)work_bytes(work));
    if (status != 0)
        flush(it);
    return true;
}

static bool is_held(const struct fake_qp *it)
{
    int opcode = it->works[it->work_first].send.opcode;
    bool is_own =
        opcode == LEND_VERBS_SEND_BIND_WINDOW || opcode == LEND_VERBS_SEND_LOCAL_INVALIDATE;

    return fake_verbs.holds && (fake_verbs.stalls || !is_own);
}

static void run(struct fake_qp *it)
{
    while (it->work_count > 0 && it->qp.state == LEND_VERBS_QP_RTS && !is_held(it) &&
           do_first(it)) {
    }
}

int fake_verbs_let_go(int count)
{
    return fake_verbs_let_go_of(-1, count);
}

int fake_verbs_let_go_of(int device, int count)
{
    int done = 0;
    bool moved = true;

    while (done < count && moved) {
        moved = false;
        for (struct fake_qp *it = fake_verbs_table.qps; it != NULL && done < count; it = it->next) {
            if (device >= 0 && fake_verbs_context_of(it->qp.context)->number != device)
                continue;
            if (it->work_count > 0 && it->qp.state == LEND_VERBS_QP_RTS && do_first(it)) {
                done++;
                moved = true;
            }
        }
    }
    return done;
}

static int take_work(struct fake_qp *it, const struct lend_verbs_send *send)
{
    int capacity = (int)(it->init.cap.max_send_wr + 1);
    struct fake_work *work = &it->works[(it->work_first + it->work_count) % capacity];
    uint64_t done = 0;

    if (it->work_count + 1 == capacity)
        return ENOMEM;
    if (send->num_sge < 0 || (uint32_t)send->num_sge > it->init.cap.max_send_sge)
        return EINVAL;
    work->send = *send;
    if (send->num_sge > 0)
        memcpy(work->sges, send->sg_list, (size_t)send->num_sge * sizeof work->sges[0]);
    if ((send->send_flags & LEND_VERBS_INLINE) != 0) {
        if (work_bytes(work) > it->init.cap.max_inline_data)
            return EINVAL;
        work->inlined = malloc(work_bytes(work) + 1);
        for (int i = 0; i < send->num_sge; i++) {
            memcpy(work->inlined + done, (const uint8_t *)(uintptr_t)work->sges[i].addr,
                   work->sges[i].length);
            done += work->sges[i].length;
        }
    }
    it->work_count++;
    return 0;
}

int fake_verbs_post_send(struct lend_verbs_qp *qp, struct lend_verbs_send *list,
                         struct lend_verbs_send **out_bad)
{
    struct fake_qp *it = (struct fake_qp *)qp;
    int number = fake_verbs.post_errno;

    fake_verbs.post_errno = 0;
    if (number == 0 && qp->state != LEND_VERBS_QP_RTS && qp->state != LEND_VERBS_QP_ERROR)
        number = EINVAL;
    for (; number == 0 && list != NULL; list = list->next) {
        number = take_work(it, list);
        if (number != 0)
            break;
    }
    if (number != 0)
        *out_bad = list;
    else
        fake_verbs.posts++;
    if (qp->state == LEND_VERBS_QP_ERROR)
        flush(it);
    run(it);
    return number;
}

int fake_verbs_post_receive(struct lend_verbs_qp *qp, struct lend_verbs_receive *list,
                            struct lend_verbs_receive **out_bad)
{
    struct fake_qp *it = (struct fake_qp *)qp;
    int capacity = (int)(it->init.cap.max_recv_wr + 1);

    for (; list != NULL; list = list->next) {
        struct fake_receive *to = &it->receives[(it->receive_first + it->receive_count) % capacity];

        if (qp->state == LEND_VERBS_QP_RESET || list->num_sge < 0 ||
            (uint32_t)list->num_sge > it->init.cap.max_recv_sge ||
            it->receive_count + 1 == capacity) {
            *out_bad = list;
            return qp->state == LEND_VERBS_QP_RESET ? EINVAL : ENOMEM;
        }
        to->wr_id = list->wr_id;
        to->count = list->num_sge;
        if (list->num_sge > 0)
            memcpy(to->sges, list->sg_list, (size_t)list->num_sge * sizeof to->sges[0]);
        it->receive_count++;
    }
    if (qp->state == LEND_VERBS_QP_ERROR)
        flush(it);
    for (struct fake_qp *next = fake_verbs_table.qps; next != NULL; next = next->next) {
        if (next->attributes.dest_qp_num == qp->qp_num)
            run(next);
    }
    return 0;
}
