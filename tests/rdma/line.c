/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../acts/acts.h"

enum {
    PORT = 1,
    READS = 16,        /* at one time, either way */
    RETRY_PERIOD = 10, /* 4.096 us times 2 to this: what goes unanswered so long is sent again */
    RETRIES = 3,
    LOSSY_RETRIES = 6, /* 7 is for ever on rxe */
    RNR_PERIOD = 12,
};

static bool say(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return false;
}

const char *line_device(uint32_t number)
{
    static char names[2][32];
    const char *text = getenv("LEND_TEST_RDMA");

    if (text == NULL || sscanf(text, "%31[^,],%31s", names[0], names[1]) < 1)
        return NULL;
    return names[number][0] != '\0' ? names[number] : names[0];
}

bool line_is_lossy(void)
{
    return getenv("LEND_TEST_RDMA_LOSS") != NULL;
}

bool line_is_rxe(const struct line_host *host)
{
    return strncmp(ibv_get_device_name(host->device->device), "rxe", 3) == 0;
}

/* The address of RoCE version 2 that is one of IPv4: routers and loss are those of an IP network.
 */
static bool find_gid(struct line_host *host)
{
    struct ibv_gid_entry entry;

    for (uint32_t i = 0; i < 255; i++) {
        static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

        if (ibv_query_gid_ex(host->device, PORT, i, &entry, 0) != 0)
            continue;
        if (entry.gid_type == IBV_GID_TYPE_ROCE_V2 &&
            memcmp(entry.gid.raw, mapped, sizeof mapped) == 0) {
            host->gid = entry.gid;
            host->gid_index = (uint8_t)i;
            return true;
        }
    }
    errno = EADDRNOTAVAIL;
    return say("an IPv4 address of RoCE version 2");
}

bool line_host_open(struct line_host *host, const char *device)
{
    struct ibv_device **devices = ibv_get_device_list(NULL);

    memset(host, 0, sizeof *host);
    for (uint32_t i = 0; devices != NULL && devices[i] != NULL && host->device == NULL; i++)
        if (device == NULL || strcmp(ibv_get_device_name(devices[i]), device) == 0)
            host->device = ibv_open_device(devices[i]);
    if (devices != NULL)
        ibv_free_device_list(devices);
    if (host->device == NULL)
        return say(device != NULL ? device : "an RDMA device");
    host->domain = ibv_alloc_pd(host->device);
    return host->domain != NULL ? find_gid(host) : say("ibv_alloc_pd");
}

void line_host_close(struct line_host *host)
{
    if (host->domain != NULL && ibv_dealloc_pd(host->domain) != 0)
        (void)say("ibv_dealloc_pd");
    if (host->device != NULL)
        (void)ibv_close_device(host->device);
    memset(host, 0, sizeof *host);
}

static bool make_pair(struct line *line)
{
    struct ibv_qp_init_attr wanted = {
        .qp_type = IBV_QPT_RC,
        .send_cq = line->completions,
        .recv_cq = line->completions,
        .cap = {.max_send_wr = LINE_DEPTH, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
    };
    line->pair = ibv_create_qp(line->host->domain, &wanted);
    return line->pair != NULL || say("ibv_create_qp");
}

bool line_open(struct line *line, struct line_host *host)
{
    memset(line, 0, sizeof *line);
    line->host = host;
    line->completions = ibv_create_cq(host->device, 4 * LINE_DEPTH, NULL, NULL, 0);
    return line->completions != NULL ? make_pair(line) : say("ibv_create_cq");
}

bool line_renew(struct line *line)
{
    struct ibv_wc old;

    errno = line->pair != NULL ? ibv_destroy_qp(line->pair) : 0;
    line->pair = NULL;
    if (errno != 0)
        return say("ibv_destroy_qp");
    while (ibv_poll_cq(line->completions, 1, &old) > 0)
        continue; /* of the one before */
    return make_pair(line);
}

void line_close(struct line *line)
{
    if (line->pair != NULL && ibv_destroy_qp(line->pair) != 0)
        (void)say("ibv_destroy_qp");
    if (line->completions != NULL && ibv_destroy_cq(line->completions) != 0)
        (void)say("ibv_destroy_cq");
    memset(line, 0, sizeof *line);
}

struct line_end line_end(const struct line *line)
{
    return (struct line_end){line->host->gid, line->pair->qp_num};
}

bool line_stop(struct line *line, enum ibv_qp_state state)
{
    struct ibv_qp_attr wanted = {.qp_state = state};

    errno = ibv_modify_qp(line->pair, &wanted, IBV_QP_STATE);
    return errno == 0 || say("ibv_modify_qp to a state of rest");
}

enum ibv_qp_state line_state(const struct line *line)
{
    struct ibv_qp_attr seen = {.qp_state = IBV_QPS_UNKNOWN};
    struct ibv_qp_init_attr made;

    (void)ibv_query_qp(line->pair, &seen, IBV_QP_STATE, &made);
    return seen.qp_state;
}

static bool make_ready(struct line *line, const struct line_end *other, uint32_t number)
{
    struct ibv_qp_attr wanted = {
        .qp_state = IBV_QPS_RTR,
        .path_mtu = IBV_MTU_4096,
        .dest_qp_num = other->number,
        .rq_psn = number,
        .max_dest_rd_atomic = READS,
        .min_rnr_timer = RNR_PERIOD,
        .ah_attr = {.is_global = 1,
                    .port_num = PORT,
                    .grh = {.dgid = other->gid,
                            .sgid_index = line->host->gid_index,
                            .hop_limit = 64}},
    };

    errno = ibv_modify_qp(line->pair, &wanted,
                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                              IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
    if (errno != 0)
        return say("ibv_modify_qp to receive");
    wanted = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTS,
        .timeout = RETRY_PERIOD,
        .retry_cnt = line_is_lossy() ? LOSSY_RETRIES : RETRIES,
        .rnr_retry = RETRIES,
        .sq_psn = number,
        .max_rd_atomic = READS,
    };
    errno = ibv_modify_qp(line->pair, &wanted,
                          IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                              IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
    return errno == 0 || say("ibv_modify_qp to send");
}

bool line_join(struct line *line, const struct line_end *other, uint32_t number)
{
    struct ibv_qp_attr wanted = {
        .qp_state = IBV_QPS_INIT,
        .port_num = PORT,
        .qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE,
    };
    struct ibv_wc old;

    if (!line_stop(line, IBV_QPS_RESET))
        return false;
    while (ibv_poll_cq(line->completions, 1, &old) > 0)
        continue; /* of the life before */
    errno = ibv_modify_qp(line->pair, &wanted,
                          IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
    return errno == 0 ? make_ready(line, other, number & 0xFFFFFF) : say("ibv_modify_qp to INIT");
}

bool line_post(struct line *line, const struct line_work *work)
{
    struct ibv_sge local = {(uintptr_t)work->local->addr, work->bytes, work->local->lkey};
    struct ibv_send_wr request = {
        .sg_list = &local,
        .num_sge = 1,
        .opcode = work->opcode,
        .send_flags = work->flags | IBV_SEND_SIGNALED,
        .wr.rdma = {work->remote, work->key},
    };
    struct ibv_send_wr *bad;

    errno = ibv_post_send(line->pair, &request, &bad);
    return errno == 0 || say("ibv_post_send");
}

enum ibv_wc_status line_await(struct line *line)
{
    uint64_t end = acts_now_ns() + ACTS_PATIENCE_NS;
    struct ibv_wc completion;

    for (;;) {
        int count = ibv_poll_cq(line->completions, 1, &completion);

        if (count > 0)
            return completion.status;
        if (count < 0 || acts_now_ns() > end) {
            (void)fprintf(stderr, "no completion came\n");
            return IBV_WC_GENERAL_ERR;
        }
        (void)sched_yield();
    }
}

enum ibv_wc_status line_do(struct line *line, const struct line_work *work)
{
    return line_post(line, work) ? line_await(line) : IBV_WC_GENERAL_ERR;
}

static enum ibv_wc_status do_request(struct line *line, struct ibv_send_wr *request)
{
    struct ibv_send_wr *bad;

    request->send_flags = IBV_SEND_SIGNALED;
    errno = ibv_post_send(line->pair, request, &bad);
    return errno == 0 || say("ibv_post_send") ? line_await(line) : IBV_WC_GENERAL_ERR;
}

enum ibv_wc_status line_bind(struct line *line, struct ibv_mw *window, struct ibv_mr *region,
                             void *memory, uint64_t bytes)
{
    struct ibv_send_wr request = {
        .opcode = IBV_WR_BIND_MW,
        .bind_mw = {.mw = window,
                    .rkey = ibv_inc_rkey(window->rkey),
                    .bind_info = {.mr = region,
                                  .addr = (uintptr_t)memory,
                                  .length = bytes,
                                  .mw_access_flags = IBV_ACCESS_REMOTE_WRITE}},
    };
    enum ibv_wc_status status = do_request(line, &request);

    if (status == IBV_WC_SUCCESS)
        window->rkey = request.bind_mw.rkey;
    return status;
}

enum ibv_wc_status line_invalidate(struct line *line, uint32_t key)
{
    struct ibv_send_wr request = {.opcode = IBV_WR_LOCAL_INV, .invalidate_rkey = key};

    return do_request(line, &request);
}
