/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/qp.h"

#include <string.h>

enum {
    TIMEOUT = 14,        /* 67 ms for an acknowledgment, as the NIC counts: 4.096 us << TIMEOUT */
    RETRY_COUNT = 6,     /* half a second until a peer is given up; 7 is for ever on soft-RoCE */
    RNR_RETRY_COUNT = 6, /* 7 is for ever; an owner that keeps its word needs none */
    RNR_TIMER = 12,
    HOP_LIMIT = 64,
};

int lend_verbs_qp_ready(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                        const struct lend_verbs_port *port, unsigned access)
{
    struct lend_verbs_qp_attributes attributes = {
        .qp_state = LEND_VERBS_QP_INIT,
        .port_num = port->number,
        .qp_access_flags = access,
    };

    return lend_verbs_errno(verbs->modify_qp(qp, &attributes,
                                             LEND_VERBS_SET_STATE | LEND_VERBS_SET_PKEY_INDEX |
                                                 LEND_VERBS_SET_PORT | LEND_VERBS_SET_ACCESS));
}

int lend_verbs_qp_receive(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                          const struct lend_verbs_join *join)
{
    struct lend_verbs_qp_attributes attributes = {
        .qp_state = LEND_VERBS_QP_RTR,
        .path_mtu = join->mtu,
        .dest_qp_num = join->number,
        .rq_psn = join->first_psn,
        .max_dest_rd_atomic = join->served_reads,
        .min_rnr_timer = RNR_TIMER,
    };
    struct lend_verbs_address *address = &attributes.ah_attr;

    address->port_num = join->from->port.number;
    address->dlid = join->lid;
    /* RoCE always has a global address; an InfiniBand link, where it leaves the subnet, which is
     * not known: it does no harm. */
    address->is_global = 1;
    memcpy(address->grh.dgid.raw, join->gid, sizeof address->grh.dgid.raw);
    address->grh.sgid_index = (uint8_t)join->from->gid.index;
    address->grh.hop_limit = HOP_LIMIT;
    return lend_verbs_errno(
        verbs->modify_qp(qp, &attributes,
                         LEND_VERBS_SET_STATE | LEND_VERBS_SET_ADDRESS | LEND_VERBS_SET_PATH_MTU |
                             LEND_VERBS_SET_PEER_NUMBER | LEND_VERBS_SET_RQ_PSN |
                             LEND_VERBS_SET_MAX_SERVED_READS | LEND_VERBS_SET_MIN_RNR_TIMER));
}

int lend_verbs_qp_send(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                       uint32_t first_psn, uint8_t reads)
{
    struct lend_verbs_qp_attributes attributes = {
        .qp_state = LEND_VERBS_QP_RTS,
        .sq_psn = first_psn,
        .timeout = TIMEOUT,
        .retry_cnt = RETRY_COUNT,
        .rnr_retry = RNR_RETRY_COUNT,
        .max_rd_atomic = reads,
    };

    return lend_verbs_errno(verbs->modify_qp(
        qp, &attributes,
        LEND_VERBS_SET_STATE | LEND_VERBS_SET_SQ_PSN | LEND_VERBS_SET_TIMEOUT |
            LEND_VERBS_SET_RETRY_COUNT | LEND_VERBS_SET_RNR_RETRY | LEND_VERBS_SET_MAX_READS));
}
