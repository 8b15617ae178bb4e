/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/trial.h"

#include "base/error.h"
#include "base/sys.h"
#include "transport/verbs/attach.h"
#include "transport/verbs/qp.h"

#include <errno.h>
#include <string.h>

enum { BYTES = 4096, GPU_BYTES = 64 << 10, WORKS = 2 };

#define LOOK_AGAIN_NS UINT64_C(20000)
#define TRY_NS        UINT64_C(1000000000)

struct trial {
    const struct lend_verbs_ops *verbs;
    struct lend_verbs_nic *nic;
    struct lend_lane *lane;
    struct lend_verbs_cq *cq;
    struct lend_verbs_qp *qp;
    uint8_t *there; /* of the host, pinned: what is in the GPU, */
    uint8_t *here;  /* and what the NIC read */
    uint64_t device;
    struct lend_verbs_attachment host;
    struct lend_verbs_attachment gpu;
};

/* --- what it takes --- */

static enum lend_status make_pair(struct trial *trial, struct lend_error *error)
{
    const struct lend_verbs_wish nowhere = {.peer_gid = NULL};
    struct lend_verbs_place place;
    enum lend_status status = lend_verbs_choose(&trial->nic, 1, &nowhere, &place, error);

    if (status != LEND_OK)
        return status;
    trial->cq = trial->verbs->create_cq(trial->nic->context, WORKS, NULL, NULL, 0);
    if (trial->cq == NULL)
        return lend_verbs_fail(error, errno, "making a completion queue on %s", trial->nic->name);
    struct lend_verbs_qp_init init = {
        .send_cq = trial->cq,
        .recv_cq = trial->cq,
        .qp_type = LEND_VERBS_QP_RC,
        .cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
    };
    trial->qp = trial->verbs->create_qp(trial->nic->pd, &init);
    if (trial->qp == NULL)
        return lend_verbs_fail(error, errno, "making a queue pair on %s", trial->nic->name);
    const struct lend_verbs_join itself = {.from = &place,
                                           .gid = place.gid.gid,
                                           .lid = place.port.lid,
                                           .mtu = place.port.mtu,
                                           .served_reads = 1,
                                           .number = trial->qp->qp_num};
    int number = lend_verbs_qp_ready(trial->verbs, trial->qp, &place.port, LEND_VERBS_REMOTE_READ);
    if (number == 0)
        number = lend_verbs_qp_receive(trial->verbs, trial->qp, &itself);
    if (number == 0)
        number = lend_verbs_qp_send(trial->verbs, trial->qp, 0, 1);
    return number == 0 ? LEND_OK
                       : lend_verbs_fail(error, number, "joining a queue pair on %s to itself",
                                         trial->nic->name);
}

/* Memory of both sides: `there` is what the GPU has. */
static enum lend_status fill(struct trial *trial, struct lend_error *error)
{
    void *pinned = NULL;
    enum lend_status status = lend_lane_pin(trial->lane, 2 * (size_t)BYTES, &pinned, error);

    if (status != LEND_OK)
        return status;
    trial->there = pinned;
    trial->here = trial->there + BYTES;
    status = lend_lane_allocate(trial->lane, GPU_BYTES, &trial->device, error);
    if (status != LEND_OK)
        return status;
    int result = lend_sys->random(trial->there, BYTES);
    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes to try a NIC with");
    const struct lend_lane_piece piece = {
        .device = trial->device, .host = trial->there, .bytes = BYTES, .is_to_device = true};
    return lend_lane_do(trial->lane, &piece, error);
}

static enum lend_status attach(struct trial *trial, unsigned flag, struct lend_error *error)
{
    const struct lend_verbs_range host = {
        .address = (uint64_t)(uintptr_t)trial->there,
        .bytes = 2 * (uint64_t)BYTES,
        .kind = LEND_MEMORY_SYSTEM,
        .access = (unsigned)LEND_VERBS_LOCAL_WRITE | (unsigned)LEND_VERBS_REMOTE_READ,
    };
    const struct lend_verbs_range gpu = {.address = trial->device,
                                         .bytes = BYTES,
                                         .kind = LEND_MEMORY_DEVICE,
                                         .device = trial->lane->ordinal,
                                         .access = LEND_VERBS_REMOTE_READ};
    struct lend_verbs_exports exports;

    enum lend_status status = lend_verbs_attach(trial->nic, &host, NULL, &trial->host);
    if (status != LEND_OK) {
        *error = trial->host.refusal;
        return status;
    }
    lend_verbs_exports_init(&exports, &gpu);
    status = lend_verbs_attach_export(trial->nic, &gpu, &exports, flag, &trial->gpu, error);
    lend_verbs_exports_fini(&exports);
    return status;
}

/* --- trying --- */

/* Its status (LEND_VERBS_WC_...); < 0: none came in time. */
static int wait_for_completion(const struct trial *trial)
{
    const uint64_t until = lend_sys->now_ns() + TRY_NS;
    struct lend_verbs_completion completion;

    for (;;) {
        if (lend_verbs_poll(trial->cq, 1, &completion) == 1)
            return completion.status;
        if (lend_sys->now_ns() >= until)
            return -1;
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
    }
}

/* READ a page of what is attached, from its beginning on. True: it is `there`. */
static bool reads(struct trial *trial, const struct lend_verbs_attachment *from, int *out_status)
{
    struct lend_verbs_sge here = {.addr = (uint64_t)(uintptr_t)trial->here,
                                  .length = BYTES,
                                  .lkey = trial->host.pieces[0]->lkey};
    struct lend_verbs_send work = {
        .sg_list = &here,
        .num_sge = 1,
        .opcode = LEND_VERBS_SEND_READ,
        .send_flags = LEND_VERBS_SIGNALED,
        .wr.rdma = {.remote_addr = from->address, .rkey = from->pieces[0]->rkey}};
    struct lend_verbs_send *bad = NULL;

    for (int i = 0; i < BYTES; i++)
        trial->here[i] = (uint8_t)~trial->there[i];
    *out_status = -1;
    if (lend_verbs_post_send(trial->qp, &work, &bad) != 0)
        return false;
    *out_status = wait_for_completion(trial);
    return *out_status == LEND_VERBS_WC_SUCCESS && memcmp(trial->here, trial->there, BYTES) == 0;
}

static enum lend_status judge(struct trial *trial, unsigned flag, struct lend_error *error)
{
    int status;

    /* Where it does not reach even the host's memory so, the GPU's shows nothing. */
    if (!reads(trial, &trial->host, &status))
        return lend_fail(error, LEND_E_NO_PATH,
                         "%s does not reach itself (status %d of its completion)", trial->nic->name,
                         status);
    if (reads(trial, &trial->gpu, &status))
        return LEND_OK;
    return lend_fail(
        error, LEND_E_CORRUPT,
        "%s does not reach memory of GPU %d by a dma-buf %s: it read %s (status %d of "
        "its completion)",
        trial->nic->name, trial->lane->ordinal, flag == 0 ? "with the driver's default" : "by PCIe",
        status == LEND_VERBS_WC_SUCCESS ? "other bytes than are there" : "nothing", status);
}

/* --- the end --- */

/* False: the NIC keeps it, and what it reaches is nobody's any more. */
static bool detach(const struct trial *trial, struct lend_verbs_attachment *attachment)
{
    bool is_gone = lend_verbs_detach(trial->nic, attachment, NULL) == LEND_OK;

    lend_verbs_attachment_forget(attachment);
    return is_gone;
}

static void end(struct trial *trial)
{
    bool is_gone = trial->qp == NULL || trial->verbs->destroy_qp(trial->qp) == 0;

    if (is_gone && trial->cq != NULL)
        (void)trial->verbs->destroy_cq(trial->cq);
    if (detach(trial, &trial->gpu) && trial->device != 0)
        lend_lane_free(trial->lane, trial->device);
    if (detach(trial, &trial->host) && is_gone && trial->there != NULL)
        lend_lane_unpin(trial->lane, trial->there);
}

enum lend_status lend_verbs_try_export(struct lend_verbs_nic *nic, struct lend_lane *lane,
                                       unsigned flag, struct lend_error *error)
{
    struct trial trial = {.verbs = nic->verbs, .nic = nic, .lane = lane};
    enum lend_status status = make_pair(&trial, error);

    if (status == LEND_OK)
        status = fill(&trial, error);
    if (status == LEND_OK)
        status = attach(&trial, flag, error);
    if (status == LEND_OK)
        status = judge(&trial, flag, error);
    end(&trial);
    return status;
}
