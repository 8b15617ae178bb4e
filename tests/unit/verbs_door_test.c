/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what transport/verbs/door.h says of libibverbs' ABI is what its own headers say, and the
 * door does what the header's inline functions do.
 * Method: where those are installed (Debian: libibverbs-dev), sizes, offsets and numbers are
 * compared when this is compiled; where its library is, every function is looked up. The functions
 * over the provider's table are called with contexts of the fake one, new and old.
 */
#include "fake/verbs.h"
#include "transport/verbs/door.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#if __has_include(<infiniband/verbs.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <infiniband/verbs.h>
#pragma GCC diagnostic pop
#undef ibv_query_port
#undef ibv_reg_mr

#define SAME_NUMBER(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #ours)
#define SAME_SIZE(ours, theirs)   _Static_assert(sizeof(ours) == sizeof(theirs), #ours)
#define SAME_PLACE(ours, field, theirs, their_field)                                               \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field) &&                       \
                       sizeof(((ours *)NULL)->field) == sizeof(((theirs *)NULL)->their_field),     \
                   #ours "." #field)
/* Counted from the context, as what stands before it grows upwards. */
#define SAME_DISTANCE(field)                                                                       \
    _Static_assert(offsetof(struct lend_verbs_context_ex, context) -                               \
                           offsetof(struct lend_verbs_context_ex, field) ==                        \
                       offsetof(struct verbs_context, context) -                                   \
                           offsetof(struct verbs_context, field),                                  \
                   #field)

SAME_NUMBER(LEND_VERBS_NODE_CHANNEL_ADAPTER, IBV_NODE_CA);
SAME_NUMBER(LEND_VERBS_NODE_IWARP, IBV_NODE_RNIC);
SAME_NUMBER(LEND_VERBS_TRANSPORT_IB, IBV_TRANSPORT_IB);
SAME_NUMBER(LEND_VERBS_TRANSPORT_IWARP, IBV_TRANSPORT_IWARP);
SAME_NUMBER(LEND_VERBS_TRANSPORT_UNSPECIFIED, IBV_TRANSPORT_UNSPECIFIED);
SAME_NUMBER(LEND_VERBS_DEVICE_MEMORY_WINDOW, IBV_DEVICE_MEM_WINDOW);
SAME_NUMBER(LEND_VERBS_DEVICE_LOCAL_INVALIDATE, IBV_DEVICE_MEM_MGT_EXTENSIONS);
SAME_NUMBER(LEND_VERBS_DEVICE_WINDOW_2A, IBV_DEVICE_MEM_WINDOW_TYPE_2A);
SAME_NUMBER(LEND_VERBS_DEVICE_WINDOW_2B, IBV_DEVICE_MEM_WINDOW_TYPE_2B);
SAME_NUMBER(LEND_VERBS_ODP_SUPPORTED, IBV_ODP_SUPPORT);
SAME_NUMBER(LEND_VERBS_ODP_IMPLICIT, IBV_ODP_SUPPORT_IMPLICIT);
SAME_NUMBER(LEND_VERBS_ODP_WRITE, IBV_ODP_SUPPORT_WRITE);
SAME_NUMBER(LEND_VERBS_ODP_READ, IBV_ODP_SUPPORT_READ);
SAME_NUMBER(LEND_VERBS_PORT_DOWN, IBV_PORT_DOWN);
SAME_NUMBER(LEND_VERBS_PORT_INIT, IBV_PORT_INIT);
SAME_NUMBER(LEND_VERBS_PORT_ARMED, IBV_PORT_ARMED);
SAME_NUMBER(LEND_VERBS_PORT_ACTIVE, IBV_PORT_ACTIVE);
SAME_NUMBER(LEND_VERBS_LINK_UNSPECIFIED, IBV_LINK_LAYER_UNSPECIFIED);
SAME_NUMBER(LEND_VERBS_LINK_INFINIBAND, IBV_LINK_LAYER_INFINIBAND);
SAME_NUMBER(LEND_VERBS_LINK_ETHERNET, IBV_LINK_LAYER_ETHERNET);
SAME_NUMBER(LEND_VERBS_MTU_256, IBV_MTU_256);
SAME_NUMBER(LEND_VERBS_MTU_512, IBV_MTU_512);
SAME_NUMBER(LEND_VERBS_MTU_1024, IBV_MTU_1024);
SAME_NUMBER(LEND_VERBS_MTU_2048, IBV_MTU_2048);
SAME_NUMBER(LEND_VERBS_MTU_4096, IBV_MTU_4096);
SAME_NUMBER(LEND_VERBS_GID_IB, IBV_GID_TYPE_IB);
SAME_NUMBER(LEND_VERBS_GID_ROCE_V1, IBV_GID_TYPE_ROCE_V1);
SAME_NUMBER(LEND_VERBS_GID_ROCE_V2, IBV_GID_TYPE_ROCE_V2);
SAME_NUMBER(LEND_VERBS_LOCAL_WRITE, IBV_ACCESS_LOCAL_WRITE);
SAME_NUMBER(LEND_VERBS_REMOTE_WRITE, IBV_ACCESS_REMOTE_WRITE);
SAME_NUMBER(LEND_VERBS_REMOTE_READ, IBV_ACCESS_REMOTE_READ);
SAME_NUMBER(LEND_VERBS_BIND, IBV_ACCESS_MW_BIND);
SAME_NUMBER(LEND_VERBS_ZERO_BASED, IBV_ACCESS_ZERO_BASED);
SAME_NUMBER(LEND_VERBS_ON_DEMAND, IBV_ACCESS_ON_DEMAND);
SAME_NUMBER(LEND_VERBS_RELAXED_ORDERING, IBV_ACCESS_RELAXED_ORDERING);
SAME_NUMBER(LEND_VERBS_OPTIONAL_ACCESS, IBV_ACCESS_OPTIONAL_RANGE);
SAME_NUMBER(LEND_VERBS_WINDOW_TYPE_2, IBV_MW_TYPE_2);
SAME_NUMBER(LEND_VERBS_QP_RC, IBV_QPT_RC);

SAME_NUMBER(LEND_VERBS_QP_RESET, IBV_QPS_RESET);
SAME_NUMBER(LEND_VERBS_QP_INIT, IBV_QPS_INIT);
SAME_NUMBER(LEND_VERBS_QP_RTR, IBV_QPS_RTR);
SAME_NUMBER(LEND_VERBS_QP_RTS, IBV_QPS_RTS);
SAME_NUMBER(LEND_VERBS_QP_SQD, IBV_QPS_SQD);
SAME_NUMBER(LEND_VERBS_QP_SQE, IBV_QPS_SQE);
SAME_NUMBER(LEND_VERBS_QP_ERROR, IBV_QPS_ERR);
SAME_NUMBER(LEND_VERBS_SET_STATE, IBV_QP_STATE);
SAME_NUMBER(LEND_VERBS_SET_ACCESS, IBV_QP_ACCESS_FLAGS);
SAME_NUMBER(LEND_VERBS_SET_PKEY_INDEX, IBV_QP_PKEY_INDEX);
SAME_NUMBER(LEND_VERBS_SET_PORT, IBV_QP_PORT);
SAME_NUMBER(LEND_VERBS_SET_ADDRESS, IBV_QP_AV);
SAME_NUMBER(LEND_VERBS_SET_PATH_MTU, IBV_QP_PATH_MTU);
SAME_NUMBER(LEND_VERBS_SET_TIMEOUT, IBV_QP_TIMEOUT);
SAME_NUMBER(LEND_VERBS_SET_RETRY_COUNT, IBV_QP_RETRY_CNT);
SAME_NUMBER(LEND_VERBS_SET_RNR_RETRY, IBV_QP_RNR_RETRY);
SAME_NUMBER(LEND_VERBS_SET_RQ_PSN, IBV_QP_RQ_PSN);
SAME_NUMBER(LEND_VERBS_SET_MAX_READS, IBV_QP_MAX_QP_RD_ATOMIC);
SAME_NUMBER(LEND_VERBS_SET_MIN_RNR_TIMER, IBV_QP_MIN_RNR_TIMER);
SAME_NUMBER(LEND_VERBS_SET_SQ_PSN, IBV_QP_SQ_PSN);
SAME_NUMBER(LEND_VERBS_SET_MAX_SERVED_READS, IBV_QP_MAX_DEST_RD_ATOMIC);
SAME_NUMBER(LEND_VERBS_SET_PEER_NUMBER, IBV_QP_DEST_QPN);

SAME_NUMBER(LEND_VERBS_SEND_WRITE, IBV_WR_RDMA_WRITE);
SAME_NUMBER(LEND_VERBS_SEND_WRITE_IMMEDIATE, IBV_WR_RDMA_WRITE_WITH_IMM);
SAME_NUMBER(LEND_VERBS_SEND_SEND, IBV_WR_SEND);
SAME_NUMBER(LEND_VERBS_SEND_SEND_IMMEDIATE, IBV_WR_SEND_WITH_IMM);
SAME_NUMBER(LEND_VERBS_SEND_READ, IBV_WR_RDMA_READ);
SAME_NUMBER(LEND_VERBS_SEND_LOCAL_INVALIDATE, IBV_WR_LOCAL_INV);
SAME_NUMBER(LEND_VERBS_SEND_BIND_WINDOW, IBV_WR_BIND_MW);
SAME_NUMBER(LEND_VERBS_FENCE, IBV_SEND_FENCE);
SAME_NUMBER(LEND_VERBS_SIGNALED, IBV_SEND_SIGNALED);
SAME_NUMBER(LEND_VERBS_SOLICITED, IBV_SEND_SOLICITED);
SAME_NUMBER(LEND_VERBS_INLINE, IBV_SEND_INLINE);

SAME_NUMBER(LEND_VERBS_WC_SUCCESS, IBV_WC_SUCCESS);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_LENGTH, IBV_WC_LOC_LEN_ERR);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_QP_OPERATION, IBV_WC_LOC_QP_OP_ERR);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_EEC_OPERATION, IBV_WC_LOC_EEC_OP_ERR);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_PROTECTION, IBV_WC_LOC_PROT_ERR);
SAME_NUMBER(LEND_VERBS_WC_FLUSHED, IBV_WC_WR_FLUSH_ERR);
SAME_NUMBER(LEND_VERBS_WC_WINDOW_BIND, IBV_WC_MW_BIND_ERR);
SAME_NUMBER(LEND_VERBS_WC_BAD_RESPONSE, IBV_WC_BAD_RESP_ERR);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_ACCESS, IBV_WC_LOC_ACCESS_ERR);
SAME_NUMBER(LEND_VERBS_WC_REMOTE_INVALID_REQUEST, IBV_WC_REM_INV_REQ_ERR);
SAME_NUMBER(LEND_VERBS_WC_REMOTE_ACCESS, IBV_WC_REM_ACCESS_ERR);
SAME_NUMBER(LEND_VERBS_WC_REMOTE_OPERATION, IBV_WC_REM_OP_ERR);
SAME_NUMBER(LEND_VERBS_WC_RETRY_EXCEEDED, IBV_WC_RETRY_EXC_ERR);
SAME_NUMBER(LEND_VERBS_WC_RNR_RETRY_EXCEEDED, IBV_WC_RNR_RETRY_EXC_ERR);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_RDD, IBV_WC_LOC_RDD_VIOL_ERR);
SAME_NUMBER(LEND_VERBS_WC_REMOTE_INVALID_RD, IBV_WC_REM_INV_RD_REQ_ERR);
SAME_NUMBER(LEND_VERBS_WC_REMOTE_ABORTED, IBV_WC_REM_ABORT_ERR);
SAME_NUMBER(LEND_VERBS_WC_INVALID_EECN, IBV_WC_INV_EECN_ERR);
SAME_NUMBER(LEND_VERBS_WC_INVALID_EEC_STATE, IBV_WC_INV_EEC_STATE_ERR);
SAME_NUMBER(LEND_VERBS_WC_FATAL, IBV_WC_FATAL_ERR);
SAME_NUMBER(LEND_VERBS_WC_RESPONSE_TIMEOUT, IBV_WC_RESP_TIMEOUT_ERR);
SAME_NUMBER(LEND_VERBS_WC_GENERAL, IBV_WC_GENERAL_ERR);
SAME_NUMBER(LEND_VERBS_WC_TAG_MATCHING, IBV_WC_TM_ERR);
SAME_NUMBER(LEND_VERBS_WC_TAG_RENDEZVOUS, IBV_WC_TM_RNDV_INCOMPLETE);
SAME_NUMBER(LEND_VERBS_WC_SEND, IBV_WC_SEND);
SAME_NUMBER(LEND_VERBS_WC_WRITE, IBV_WC_RDMA_WRITE);
SAME_NUMBER(LEND_VERBS_WC_READ, IBV_WC_RDMA_READ);
SAME_NUMBER(LEND_VERBS_WC_BIND, IBV_WC_BIND_MW);
SAME_NUMBER(LEND_VERBS_WC_LOCAL_INVALIDATE, IBV_WC_LOCAL_INV);
SAME_NUMBER(LEND_VERBS_WC_RECEIVE, IBV_WC_RECV);
SAME_NUMBER(LEND_VERBS_WC_RECEIVE_WRITE_IMMEDIATE, IBV_WC_RECV_RDMA_WITH_IMM);
SAME_NUMBER(LEND_VERBS_WC_HAS_IMMEDIATE, IBV_WC_WITH_IMM);
SAME_NUMBER(LEND_VERBS_EVENT_CQ_ERROR, IBV_EVENT_CQ_ERR);
SAME_NUMBER(LEND_VERBS_EVENT_QP_FATAL, IBV_EVENT_QP_FATAL);
SAME_NUMBER(LEND_VERBS_EVENT_QP_REQUEST, IBV_EVENT_QP_REQ_ERR);
SAME_NUMBER(LEND_VERBS_EVENT_QP_ACCESS, IBV_EVENT_QP_ACCESS_ERR);
SAME_NUMBER(LEND_VERBS_EVENT_COMMUNICATION, IBV_EVENT_COMM_EST);
SAME_NUMBER(LEND_VERBS_EVENT_DEVICE_FATAL, IBV_EVENT_DEVICE_FATAL);
SAME_NUMBER(LEND_VERBS_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ACTIVE);
SAME_NUMBER(LEND_VERBS_EVENT_PORT_ERROR, IBV_EVENT_PORT_ERR);
SAME_NUMBER(LEND_VERBS_EVENT_LID_CHANGE, IBV_EVENT_LID_CHANGE);
SAME_NUMBER(LEND_VERBS_EVENT_PKEY_CHANGE, IBV_EVENT_PKEY_CHANGE);
SAME_NUMBER(LEND_VERBS_EVENT_GID_CHANGE, IBV_EVENT_GID_CHANGE);
SAME_NUMBER(LEND_VERBS_FORK_DISABLED, IBV_FORK_DISABLED);
SAME_NUMBER(LEND_VERBS_FORK_ENABLED, IBV_FORK_ENABLED);
SAME_NUMBER(LEND_VERBS_FORK_UNNEEDED, IBV_FORK_UNNEEDED);

SAME_SIZE(struct lend_verbs_device, struct ibv_device);
SAME_PLACE(struct lend_verbs_device, node_type, struct ibv_device, node_type);
SAME_PLACE(struct lend_verbs_device, transport_type, struct ibv_device, transport_type);
SAME_PLACE(struct lend_verbs_device, name, struct ibv_device, name);
SAME_PLACE(struct lend_verbs_device, dev_name, struct ibv_device, dev_name);
SAME_PLACE(struct lend_verbs_device, dev_path, struct ibv_device, dev_path);
SAME_PLACE(struct lend_verbs_device, ibdev_path, struct ibv_device, ibdev_path);

SAME_SIZE(struct lend_verbs_context_ops, struct ibv_context_ops);
SAME_PLACE(struct lend_verbs_context_ops, alloc_mw, struct ibv_context_ops, alloc_mw);
SAME_PLACE(struct lend_verbs_context_ops, dealloc_mw, struct ibv_context_ops, dealloc_mw);
SAME_PLACE(struct lend_verbs_context_ops, poll_cq, struct ibv_context_ops, poll_cq);
SAME_PLACE(struct lend_verbs_context_ops, req_notify_cq, struct ibv_context_ops, req_notify_cq);
SAME_PLACE(struct lend_verbs_context_ops, post_send, struct ibv_context_ops, post_send);
SAME_PLACE(struct lend_verbs_context_ops, post_recv, struct ibv_context_ops, post_recv);
SAME_SIZE(struct lend_verbs_context, struct ibv_context);
SAME_PLACE(struct lend_verbs_context, device, struct ibv_context, device);
SAME_PLACE(struct lend_verbs_context, ops, struct ibv_context, ops);
SAME_PLACE(struct lend_verbs_context, cmd_fd, struct ibv_context, cmd_fd);
SAME_PLACE(struct lend_verbs_context, async_fd, struct ibv_context, async_fd);
SAME_PLACE(struct lend_verbs_context, num_comp_vectors, struct ibv_context, num_comp_vectors);
SAME_PLACE(struct lend_verbs_context, abi_compat, struct ibv_context, abi_compat);
SAME_DISTANCE(query_port);
SAME_DISTANCE(query_device_ex);
_Static_assert(offsetof(struct lend_verbs_context_ex, context) -
                       offsetof(struct lend_verbs_context_ex, bytes) ==
                   offsetof(struct verbs_context, context) - offsetof(struct verbs_context, sz),
               "bytes");

SAME_PLACE(struct lend_verbs_pd, context, struct ibv_pd, context);
SAME_SIZE(struct lend_verbs_mr, struct ibv_mr);
SAME_PLACE(struct lend_verbs_mr, pd, struct ibv_mr, pd);
SAME_PLACE(struct lend_verbs_mr, addr, struct ibv_mr, addr);
SAME_PLACE(struct lend_verbs_mr, length, struct ibv_mr, length);
SAME_PLACE(struct lend_verbs_mr, lkey, struct ibv_mr, lkey);
SAME_PLACE(struct lend_verbs_mr, rkey, struct ibv_mr, rkey);
SAME_SIZE(struct lend_verbs_mw, struct ibv_mw);
SAME_PLACE(struct lend_verbs_mw, context, struct ibv_mw, context);
SAME_PLACE(struct lend_verbs_mw, pd, struct ibv_mw, pd);
SAME_PLACE(struct lend_verbs_mw, rkey, struct ibv_mw, rkey);
SAME_PLACE(struct lend_verbs_mw, type, struct ibv_mw, type);
SAME_PLACE(struct lend_verbs_comp_channel, fd, struct ibv_comp_channel, fd);
SAME_PLACE(struct lend_verbs_cq, context, struct ibv_cq, context);
SAME_PLACE(struct lend_verbs_cq, channel, struct ibv_cq, channel);
SAME_PLACE(struct lend_verbs_cq, cq_context, struct ibv_cq, cq_context);
SAME_PLACE(struct lend_verbs_cq, cqe, struct ibv_cq, cqe);
SAME_PLACE(struct lend_verbs_qp, context, struct ibv_qp, context);
SAME_PLACE(struct lend_verbs_qp, qp_context, struct ibv_qp, qp_context);
SAME_PLACE(struct lend_verbs_qp, pd, struct ibv_qp, pd);
SAME_PLACE(struct lend_verbs_qp, send_cq, struct ibv_qp, send_cq);
SAME_PLACE(struct lend_verbs_qp, recv_cq, struct ibv_qp, recv_cq);
SAME_PLACE(struct lend_verbs_qp, qp_num, struct ibv_qp, qp_num);
SAME_PLACE(struct lend_verbs_qp, state, struct ibv_qp, state);
SAME_PLACE(struct lend_verbs_qp, qp_type, struct ibv_qp, qp_type);

SAME_SIZE(struct lend_verbs_device_attributes, struct ibv_device_attr);
SAME_PLACE(struct lend_verbs_device_attributes, fw_ver, struct ibv_device_attr, fw_ver);
SAME_PLACE(struct lend_verbs_device_attributes, node_guid, struct ibv_device_attr, node_guid);
SAME_PLACE(struct lend_verbs_device_attributes, max_mr_size, struct ibv_device_attr, max_mr_size);
SAME_PLACE(struct lend_verbs_device_attributes, vendor_id, struct ibv_device_attr, vendor_id);
SAME_PLACE(struct lend_verbs_device_attributes, max_qp, struct ibv_device_attr, max_qp);
SAME_PLACE(struct lend_verbs_device_attributes, max_qp_wr, struct ibv_device_attr, max_qp_wr);
SAME_PLACE(struct lend_verbs_device_attributes, device_cap_flags, struct ibv_device_attr,
           device_cap_flags);
SAME_PLACE(struct lend_verbs_device_attributes, max_sge, struct ibv_device_attr, max_sge);
SAME_PLACE(struct lend_verbs_device_attributes, max_sge_rd, struct ibv_device_attr, max_sge_rd);
SAME_PLACE(struct lend_verbs_device_attributes, max_cq, struct ibv_device_attr, max_cq);
SAME_PLACE(struct lend_verbs_device_attributes, max_cqe, struct ibv_device_attr, max_cqe);
SAME_PLACE(struct lend_verbs_device_attributes, max_mr, struct ibv_device_attr, max_mr);
SAME_PLACE(struct lend_verbs_device_attributes, max_pd, struct ibv_device_attr, max_pd);
SAME_PLACE(struct lend_verbs_device_attributes, max_qp_rd_atom, struct ibv_device_attr,
           max_qp_rd_atom);
SAME_PLACE(struct lend_verbs_device_attributes, max_qp_init_rd_atom, struct ibv_device_attr,
           max_qp_init_rd_atom);
SAME_PLACE(struct lend_verbs_device_attributes, atomic_cap, struct ibv_device_attr, atomic_cap);
SAME_PLACE(struct lend_verbs_device_attributes, max_mw, struct ibv_device_attr, max_mw);
SAME_PLACE(struct lend_verbs_device_attributes, max_pkeys, struct ibv_device_attr, max_pkeys);
SAME_PLACE(struct lend_verbs_device_attributes, phys_port_cnt, struct ibv_device_attr,
           phys_port_cnt);
SAME_PLACE(struct lend_verbs_device_attributes_ex, base, struct ibv_device_attr_ex, orig_attr);
SAME_PLACE(struct lend_verbs_device_attributes_ex, odp_general, struct ibv_device_attr_ex,
           odp_caps.general_caps);
SAME_PLACE(struct lend_verbs_device_attributes_ex, odp_rc, struct ibv_device_attr_ex,
           odp_caps.per_transport_caps.rc_odp_caps);

SAME_SIZE(struct lend_verbs_port_attributes, struct ibv_port_attr);
SAME_PLACE(struct lend_verbs_port_attributes, state, struct ibv_port_attr, state);
SAME_PLACE(struct lend_verbs_port_attributes, active_mtu, struct ibv_port_attr, active_mtu);
SAME_PLACE(struct lend_verbs_port_attributes, gid_tbl_len, struct ibv_port_attr, gid_tbl_len);
SAME_PLACE(struct lend_verbs_port_attributes, max_msg_sz, struct ibv_port_attr, max_msg_sz);
SAME_PLACE(struct lend_verbs_port_attributes, lid, struct ibv_port_attr, lid);
SAME_PLACE(struct lend_verbs_port_attributes, active_width, struct ibv_port_attr, active_width);
SAME_PLACE(struct lend_verbs_port_attributes, active_speed, struct ibv_port_attr, active_speed);
SAME_PLACE(struct lend_verbs_port_attributes, link_layer, struct ibv_port_attr, link_layer);
SAME_SIZE(union lend_verbs_gid, union ibv_gid);
SAME_SIZE(struct lend_verbs_gid_entry, struct ibv_gid_entry);
SAME_PLACE(struct lend_verbs_gid_entry, gid_index, struct ibv_gid_entry, gid_index);
SAME_PLACE(struct lend_verbs_gid_entry, port_num, struct ibv_gid_entry, port_num);
SAME_PLACE(struct lend_verbs_gid_entry, gid_type, struct ibv_gid_entry, gid_type);
SAME_PLACE(struct lend_verbs_gid_entry, ndev_ifindex, struct ibv_gid_entry, ndev_ifindex);

SAME_SIZE(struct lend_verbs_address, struct ibv_ah_attr);
SAME_PLACE(struct lend_verbs_address, grh.dgid, struct ibv_ah_attr, grh.dgid);
SAME_PLACE(struct lend_verbs_address, grh.flow_label, struct ibv_ah_attr, grh.flow_label);
SAME_PLACE(struct lend_verbs_address, grh.sgid_index, struct ibv_ah_attr, grh.sgid_index);
SAME_PLACE(struct lend_verbs_address, grh.hop_limit, struct ibv_ah_attr, grh.hop_limit);
SAME_PLACE(struct lend_verbs_address, grh.traffic_class, struct ibv_ah_attr, grh.traffic_class);
SAME_PLACE(struct lend_verbs_address, dlid, struct ibv_ah_attr, dlid);
SAME_PLACE(struct lend_verbs_address, sl, struct ibv_ah_attr, sl);
SAME_PLACE(struct lend_verbs_address, is_global, struct ibv_ah_attr, is_global);
SAME_PLACE(struct lend_verbs_address, port_num, struct ibv_ah_attr, port_num);
SAME_SIZE(struct lend_verbs_qp_capacity, struct ibv_qp_cap);
SAME_PLACE(struct lend_verbs_qp_capacity, max_recv_wr, struct ibv_qp_cap, max_recv_wr);
SAME_PLACE(struct lend_verbs_qp_capacity, max_send_sge, struct ibv_qp_cap, max_send_sge);
SAME_PLACE(struct lend_verbs_qp_capacity, max_recv_sge, struct ibv_qp_cap, max_recv_sge);
SAME_PLACE(struct lend_verbs_qp_capacity, max_inline_data, struct ibv_qp_cap, max_inline_data);
SAME_SIZE(struct lend_verbs_qp_init, struct ibv_qp_init_attr);
SAME_PLACE(struct lend_verbs_qp_init, send_cq, struct ibv_qp_init_attr, send_cq);
SAME_PLACE(struct lend_verbs_qp_init, recv_cq, struct ibv_qp_init_attr, recv_cq);
SAME_PLACE(struct lend_verbs_qp_init, srq, struct ibv_qp_init_attr, srq);
SAME_PLACE(struct lend_verbs_qp_init, cap, struct ibv_qp_init_attr, cap);
SAME_PLACE(struct lend_verbs_qp_init, qp_type, struct ibv_qp_init_attr, qp_type);
SAME_PLACE(struct lend_verbs_qp_init, sq_sig_all, struct ibv_qp_init_attr, sq_sig_all);
SAME_SIZE(struct lend_verbs_qp_attributes, struct ibv_qp_attr);
SAME_PLACE(struct lend_verbs_qp_attributes, qp_state, struct ibv_qp_attr, qp_state);
SAME_PLACE(struct lend_verbs_qp_attributes, path_mtu, struct ibv_qp_attr, path_mtu);
SAME_PLACE(struct lend_verbs_qp_attributes, rq_psn, struct ibv_qp_attr, rq_psn);
SAME_PLACE(struct lend_verbs_qp_attributes, sq_psn, struct ibv_qp_attr, sq_psn);
SAME_PLACE(struct lend_verbs_qp_attributes, dest_qp_num, struct ibv_qp_attr, dest_qp_num);
SAME_PLACE(struct lend_verbs_qp_attributes, qp_access_flags, struct ibv_qp_attr, qp_access_flags);
SAME_PLACE(struct lend_verbs_qp_attributes, cap, struct ibv_qp_attr, cap);
SAME_PLACE(struct lend_verbs_qp_attributes, ah_attr, struct ibv_qp_attr, ah_attr);
SAME_PLACE(struct lend_verbs_qp_attributes, pkey_index, struct ibv_qp_attr, pkey_index);
SAME_PLACE(struct lend_verbs_qp_attributes, max_rd_atomic, struct ibv_qp_attr, max_rd_atomic);
SAME_PLACE(struct lend_verbs_qp_attributes, max_dest_rd_atomic, struct ibv_qp_attr,
           max_dest_rd_atomic);
SAME_PLACE(struct lend_verbs_qp_attributes, min_rnr_timer, struct ibv_qp_attr, min_rnr_timer);
SAME_PLACE(struct lend_verbs_qp_attributes, port_num, struct ibv_qp_attr, port_num);
SAME_PLACE(struct lend_verbs_qp_attributes, timeout, struct ibv_qp_attr, timeout);
SAME_PLACE(struct lend_verbs_qp_attributes, retry_cnt, struct ibv_qp_attr, retry_cnt);
SAME_PLACE(struct lend_verbs_qp_attributes, rnr_retry, struct ibv_qp_attr, rnr_retry);

SAME_SIZE(struct lend_verbs_sge, struct ibv_sge);
SAME_PLACE(struct lend_verbs_sge, addr, struct ibv_sge, addr);
SAME_PLACE(struct lend_verbs_sge, length, struct ibv_sge, length);
SAME_PLACE(struct lend_verbs_sge, lkey, struct ibv_sge, lkey);
SAME_SIZE(struct lend_verbs_bind, struct ibv_mw_bind_info);
SAME_PLACE(struct lend_verbs_bind, addr, struct ibv_mw_bind_info, addr);
SAME_PLACE(struct lend_verbs_bind, length, struct ibv_mw_bind_info, length);
SAME_PLACE(struct lend_verbs_bind, access, struct ibv_mw_bind_info, mw_access_flags);
SAME_SIZE(struct lend_verbs_send, struct ibv_send_wr);
SAME_PLACE(struct lend_verbs_send, next, struct ibv_send_wr, next);
SAME_PLACE(struct lend_verbs_send, sg_list, struct ibv_send_wr, sg_list);
SAME_PLACE(struct lend_verbs_send, num_sge, struct ibv_send_wr, num_sge);
SAME_PLACE(struct lend_verbs_send, opcode, struct ibv_send_wr, opcode);
SAME_PLACE(struct lend_verbs_send, send_flags, struct ibv_send_wr, send_flags);
SAME_PLACE(struct lend_verbs_send, immediate, struct ibv_send_wr, imm_data);
SAME_PLACE(struct lend_verbs_send, invalidate_rkey, struct ibv_send_wr, invalidate_rkey);
SAME_PLACE(struct lend_verbs_send, wr, struct ibv_send_wr, wr);
SAME_PLACE(struct lend_verbs_send, wr.rdma.remote_addr, struct ibv_send_wr, wr.rdma.remote_addr);
SAME_PLACE(struct lend_verbs_send, wr.rdma.rkey, struct ibv_send_wr, wr.rdma.rkey);
SAME_PLACE(struct lend_verbs_send, bind.mw, struct ibv_send_wr, bind_mw.mw);
SAME_PLACE(struct lend_verbs_send, bind.rkey, struct ibv_send_wr, bind_mw.rkey);
SAME_PLACE(struct lend_verbs_send, bind.info, struct ibv_send_wr, bind_mw.bind_info);
SAME_SIZE(struct lend_verbs_receive, struct ibv_recv_wr);
SAME_PLACE(struct lend_verbs_receive, next, struct ibv_recv_wr, next);
SAME_PLACE(struct lend_verbs_receive, sg_list, struct ibv_recv_wr, sg_list);
SAME_PLACE(struct lend_verbs_receive, num_sge, struct ibv_recv_wr, num_sge);
SAME_SIZE(struct lend_verbs_completion, struct ibv_wc);
SAME_PLACE(struct lend_verbs_completion, status, struct ibv_wc, status);
SAME_PLACE(struct lend_verbs_completion, opcode, struct ibv_wc, opcode);
SAME_PLACE(struct lend_verbs_completion, vendor_err, struct ibv_wc, vendor_err);
SAME_PLACE(struct lend_verbs_completion, byte_len, struct ibv_wc, byte_len);
SAME_PLACE(struct lend_verbs_completion, immediate, struct ibv_wc, imm_data);
SAME_PLACE(struct lend_verbs_completion, qp_num, struct ibv_wc, qp_num);
SAME_PLACE(struct lend_verbs_completion, src_qp, struct ibv_wc, src_qp);
SAME_PLACE(struct lend_verbs_completion, flags, struct ibv_wc, wc_flags);
SAME_PLACE(struct lend_verbs_completion, slid, struct ibv_wc, slid);
SAME_SIZE(struct lend_verbs_event, struct ibv_async_event);
SAME_PLACE(struct lend_verbs_event, type, struct ibv_async_event, event_type);
SAME_PLACE(struct lend_verbs_event, element.port, struct ibv_async_event, element.port_num);

/* Prototypes: ours stand where theirs would, argument by argument. */
_Static_assert(__builtin_types_compatible_p(__typeof__(ibv_query_gid),
                                            int(struct ibv_context *, uint8_t, int,
                                                union ibv_gid *)),
               "query_gid");
_Static_assert(__builtin_types_compatible_p(__typeof__(ibv_reg_mr_iova2),
                                            struct ibv_mr *(struct ibv_pd *, void *, size_t,
                                                            uint64_t, unsigned)),
               "reg_mr_iova2");
_Static_assert(__builtin_types_compatible_p(__typeof__(ibv_reg_dmabuf_mr),
                                            struct ibv_mr *(struct ibv_pd *, uint64_t, size_t,
                                                            uint64_t, int, int)),
               "reg_dmabuf_mr");
_Static_assert(__builtin_types_compatible_p(__typeof__(_ibv_query_gid_table),
                                            ssize_t(struct ibv_context *, struct ibv_gid_entry *,
                                                    size_t, uint32_t, size_t)),
               "query_gid_table");
_Static_assert(__builtin_types_compatible_p(__typeof__(ibv_create_cq),
                                            struct ibv_cq *(struct ibv_context *, int, void *,
                                                            struct ibv_comp_channel *, int)),
               "create_cq");
_Static_assert(__builtin_types_compatible_p(__typeof__(ibv_query_qp),
                                            int(struct ibv_qp *, struct ibv_qp_attr *, int,
                                                struct ibv_qp_init_attr *)),
               "query_qp");

static void test_layouts_are_those_of_the_headers(void **state)
{
    (void)state;
    print_message("compared with the headers of libibverbs\n");
}
#else
static void test_layouts_are_those_of_the_headers(void **state)
{
    (void)state;
    print_message("SKIP: no infiniband/verbs.h to compare with (Debian: libibverbs-dev)\n");
    skip();
}
#endif

static void test_installed_library_has_every_function(void **state)
{
    struct lend_verbs_ops ops;
    struct lend_error error = {0};

    (void)state;
    if (lend_verbs_load("libibverbs.so.1", &ops, &error) != LEND_OK) {
        print_message("SKIP: %s\n", error.message);
        assert_null(strstr(error.message, "has no function"));
        skip();
    }
    assert_string_equal(ops.wc_status_str(LEND_VERBS_WC_SUCCESS), "success");
    assert_true(strlen(ops.event_type_str(LEND_VERBS_EVENT_DEVICE_FATAL)) > 0);
}

static void test_a_library_without_the_functions_is_refused(void **state)
{
    struct lend_verbs_ops ops;
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(lend_verbs_load("libc.so.6", &ops, &error), LEND_E_UNSUPPORTED);
    assert_string_equal(error.message, "libc.so.6 has no function ibv_get_device_list: it is not "
                                       "libibverbs of rdma-core");
    assert_int_equal(lend_verbs_load("libno-such-thing.so.1", &ops, &error), LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "transport verbs needs rdma-core (Debian: libibverbs1"));
}

static void test_a_fake_takes_the_place_of_the_library(void **state)
{
    const struct lend_verbs_ops *ops = NULL;
    struct lend_error error = {0};

    (void)state;
    lend_verbs = &fake_verbs_ops;
    assert_int_equal(lend_verbs_open(&ops, &error), LEND_OK);
    assert_ptr_equal(ops, &fake_verbs_ops);
    lend_verbs = NULL;
}

static struct lend_verbs_context *open_fake(const struct lend_verbs_ops *ops, bool is_old)
{
    int count = 0;

    fake_verbs_reset();
    fake_verbs.devices[0].is_old = is_old;
    struct lend_verbs_device **list = ops->get_device_list(&count);
    struct lend_verbs_context *context = ops->open_device(list[0]);
    ops->free_device_list(list);
    assert_non_null(context);
    return context;
}

static void test_extended_functions_are_called_where_the_context_has_them(void **state)
{
    struct lend_verbs_port_attributes port;
    struct lend_verbs_device_attributes_ex device;
    struct lend_verbs_context *context = open_fake(&fake_verbs_ops, false);
    struct lend_verbs_context_ex *whole =
        (void *)((char *)context - offsetof(struct lend_verbs_context_ex, context));

    (void)state;
    assert_int_equal(lend_verbs_query_port(&fake_verbs_ops, context, 1, &port), 0);
    assert_int_equal(port.state, LEND_VERBS_PORT_ACTIVE);
    assert_int_equal(lend_verbs_query_device_ex(context, &device), 0);
    assert_int_equal(device.odp_general, LEND_VERBS_ODP_SUPPORTED);

    /* A library whose contexts end before that function: what stands there is another thing's. */
    whole->bytes = sizeof *whole - offsetof(struct lend_verbs_context_ex, query_device_ex) - 1;
    assert_int_equal(lend_verbs_query_device_ex(context, &device), EOPNOTSUPP);
    whole->bytes = sizeof *whole - offsetof(struct lend_verbs_context_ex, query_device_ex);
    assert_int_equal(lend_verbs_query_device_ex(context, &device), 0);
    whole->query_device_ex = NULL;
    assert_int_equal(lend_verbs_query_device_ex(context, &device), EOPNOTSUPP);
    assert_int_equal(fake_verbs_ops.close_device(context), 0);
}

static void test_contexts_of_old_have_the_first_functions_alone(void **state)
{
    struct lend_verbs_port_attributes port;
    struct lend_verbs_device_attributes_ex device;
    struct lend_verbs_context *context = open_fake(&fake_verbs_old_ops, true);

    (void)state;
    memset(&port, 0xff, sizeof port);
    assert_int_equal(lend_verbs_query_port(&fake_verbs_old_ops, context, 1, &port), 0);
    assert_int_equal(port.state, LEND_VERBS_PORT_ACTIVE);
    assert_int_equal(port.port_cap_flags2, 0);
    assert_int_equal(lend_verbs_query_port(&fake_verbs_old_ops, context, 2, &port), EINVAL);
    assert_int_equal(lend_verbs_query_device_ex(context, &device), EOPNOTSUPP);
    assert_int_equal(fake_verbs_old_ops.close_device(context), 0);
}

static void test_optional_rights_take_the_newer_call_and_are_left_out_without_it(void **state)
{
    static char memory[4096];
    const unsigned rights =
        (unsigned)LEND_VERBS_REMOTE_READ | (unsigned)LEND_VERBS_RELAXED_ORDERING;
    const struct lend_verbs_ops *ops[] = {&fake_verbs_ops, &fake_verbs_old_ops};
    const unsigned expected[] = {rights, LEND_VERBS_REMOTE_READ};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct lend_verbs_context *context = open_fake(ops[i], i == 1);
        struct lend_verbs_pd *pd = ops[i]->alloc_pd(context);
        struct lend_verbs_mr *mr = lend_verbs_reg_mr(ops[i], pd, memory, sizeof memory, rights);

        assert_non_null(mr);
        assert_int_equal(fake_verbs.last_access, expected[i]);
        assert_int_equal(ops[i]->dereg_mr(mr), 0);
        assert_int_equal(ops[i]->dealloc_pd(pd), 0);
        assert_int_equal(ops[i]->close_device(context), 0);
    }
    assert_int_equal(fake_verbs_kept(), 0);
}

static void test_windows_need_a_provider_that_has_them(void **state)
{
    struct lend_verbs_context *context = open_fake(&fake_verbs_ops, false);
    struct lend_verbs_pd *pd = fake_verbs_ops.alloc_pd(context);
    struct lend_verbs_mw *mw = lend_verbs_alloc_mw(pd, LEND_VERBS_WINDOW_TYPE_2);

    (void)state;
    assert_non_null(mw);
    assert_int_equal(lend_verbs_dealloc_mw(mw), 0);
    context->ops.alloc_mw = NULL;
    errno = 0;
    assert_null(lend_verbs_alloc_mw(pd, LEND_VERBS_WINDOW_TYPE_2));
    assert_int_equal(errno, EOPNOTSUPP);
    assert_int_equal(fake_verbs_ops.dealloc_pd(pd), 0);
    assert_int_equal(fake_verbs_ops.close_device(context), 0);
}

static void test_results_of_all_kinds_are_told_as_an_errno(void **state)
{
    (void)state;
    assert_int_equal(lend_verbs_errno(0), 0);
    assert_int_equal(lend_verbs_errno(EBUSY), EBUSY);
    assert_int_equal(lend_verbs_errno(-EBUSY), EBUSY);
    errno = EINVAL;
    assert_int_equal(lend_verbs_errno(-1), EINVAL);
    errno = 0;
    assert_int_equal(lend_verbs_errno(-1), EIO);
}

static void test_errors_say_what_is_broken(void **state)
{
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(lend_verbs_fail(&error, ENOMEM, "%s", "it"), LEND_E_NO_MEMORY);
    assert_string_equal(error.message, "it: Cannot allocate memory");
    assert_int_equal(lend_verbs_fail(&error, EIO, "it"), LEND_E_DEVICE);
    assert_int_equal(error.device_code, EIO);
    assert_int_equal(lend_verbs_fail(&error, ENODEV, "it"), LEND_E_DEVICE);
    assert_int_equal(lend_verbs_fail(&error, EPERM, "it"), LEND_E_SYSTEM);
    assert_int_equal(error.sys_errno, EPERM);
}

static void test_every_status_of_a_completion_has_words_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < LEND_VERBS_WC_STATUSES; i++) {
        assert_true(strlen(lend_verbs_wc_name(i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(lend_verbs_wc_name(i), lend_verbs_wc_name(j));
    }
    assert_string_equal(lend_verbs_wc_name(LEND_VERBS_WC_REMOTE_ACCESS),
                        "remote access error (10)");
    assert_string_equal(lend_verbs_wc_name(LEND_VERBS_WC_STATUSES), lend_verbs_wc_name(-1));
}

static void test_keys_of_windows_change_their_last_byte(void **state)
{
    (void)state;
    assert_int_equal(lend_verbs_next_rkey(0x1234fe), 0x1234ff);
    assert_int_equal(lend_verbs_next_rkey(0x1234ff), 0x123400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts_are_those_of_the_headers),
        cmocka_unit_test(test_installed_library_has_every_function),
        cmocka_unit_test(test_a_library_without_the_functions_is_refused),
        cmocka_unit_test(test_a_fake_takes_the_place_of_the_library),
        cmocka_unit_test(test_extended_functions_are_called_where_the_context_has_them),
        cmocka_unit_test(test_contexts_of_old_have_the_first_functions_alone),
        cmocka_unit_test(test_optional_rights_take_the_newer_call_and_are_left_out_without_it),
        cmocka_unit_test(test_windows_need_a_provider_that_has_them),
        cmocka_unit_test(test_results_of_all_kinds_are_told_as_an_errno),
        cmocka_unit_test(test_errors_say_what_is_broken),
        cmocka_unit_test(test_every_status_of_a_completion_has_words_of_its_own),
        cmocka_unit_test(test_keys_of_windows_change_their_last_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
