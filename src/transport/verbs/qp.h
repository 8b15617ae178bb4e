/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_QP_H
#define LEND_TRANSPORT_VERBS_QP_H

#include "transport/verbs/device.h"

/* The steps of one queue pair (RC), until it carries what is posted. */

/* How a queue pair is joined to another. */
struct lend_verbs_join {
    const struct lend_verbs_place *from;
    const uint8_t *gid; /* of the other's port, */
    uint16_t lid;
    uint8_t mtu;
    uint8_t served_reads; /* of the other's, at one time */
    uint32_t number;      /* of the other, */
    uint32_t first_psn;   /* and what it counts its packets from */
};

/* INIT, RTR and RTS; what failed, as an errno, or 0. */
int lend_verbs_qp_ready(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                        const struct lend_verbs_port *port, unsigned access);
int lend_verbs_qp_receive(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                          const struct lend_verbs_join *join);
int lend_verbs_qp_send(const struct lend_verbs_ops *verbs, struct lend_verbs_qp *qp,
                       uint32_t first_psn, uint8_t reads);

#endif
