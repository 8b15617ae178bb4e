/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_DOOR_H
#define LEND_TRANSPORT_VERBS_DOOR_H

#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The door to RDMA: what we use of libibverbs.so.1, which is opened on first need, so that the
 * library loads where there is none. Names, layouts and numbers are those of its stable ABI
 * (rdma-core 15 and later, where not said otherwise), written down here so that building needs no
 * rdma-core either; tests/unit/verbs_door_test.c compares them with the real headers where those
 * are.
 *
 * libibverbs has two kinds of functions: symbols of the library, which are in struct
 * lend_verbs_ops; and those that its header writes out over the provider's table in each context,
 * as we do at the end of this file. A fake fills in both.
 *
 * Functions return as libibverbs documents: those that make something NULL and errno; others 0 or a
 * positive errno, where a few old providers say -1 and errno (lend_verbs_errno() takes either).
 * Structures are as we use them: of objects that the library makes we declare the beginning.
 */

enum { LEND_VERBS_GID_BYTES = 16, LEND_VERBS_NAME_BYTES = 64 };

/* Numbers */

enum { /* lend_verbs_device.node_type */
       LEND_VERBS_NODE_CHANNEL_ADAPTER = 1,
       LEND_VERBS_NODE_IWARP = 4,
};

enum {                              /* lend_verbs_device.transport_type */
       LEND_VERBS_TRANSPORT_IB = 0, /* RoCE, too */
       LEND_VERBS_TRANSPORT_IWARP = 1,
       LEND_VERBS_TRANSPORT_UNSPECIFIED = 4, /* of a provider's own, such as efa's */
};

enum { /* lend_verbs_device_attributes.device_cap_flags */
       LEND_VERBS_DEVICE_MEMORY_WINDOW = 1 << 17,
       LEND_VERBS_DEVICE_LOCAL_INVALIDATE = 1 << 21, /* memory-management extensions */
       LEND_VERBS_DEVICE_WINDOW_2A = 1 << 23,
       LEND_VERBS_DEVICE_WINDOW_2B = 1 << 24,
};

enum { /* On-demand paging: general_caps, and rc_odp_caps. */
       LEND_VERBS_ODP_SUPPORTED = 1 << 0,
       LEND_VERBS_ODP_IMPLICIT = 1 << 1,
       LEND_VERBS_ODP_WRITE = 1 << 2,
       LEND_VERBS_ODP_READ = 1 << 3,
};

enum { /* lend_verbs_port_attributes.state */
       LEND_VERBS_PORT_DOWN = 1,
       LEND_VERBS_PORT_INIT = 2,
       LEND_VERBS_PORT_ARMED = 3,
       LEND_VERBS_PORT_ACTIVE = 4,
};

enum { /* lend_verbs_port_attributes.link_layer */
       LEND_VERBS_LINK_UNSPECIFIED = 0,
       LEND_VERBS_LINK_INFINIBAND = 1,
       LEND_VERBS_LINK_ETHERNET = 2,
};

enum { /* lend_verbs_port_attributes.active_mtu, lend_verbs_qp_attributes.path_mtu */
       LEND_VERBS_MTU_256 = 1,
       LEND_VERBS_MTU_512 = 2,
       LEND_VERBS_MTU_1024 = 3,
       LEND_VERBS_MTU_2048 = 4,
       LEND_VERBS_MTU_4096 = 5,
};

enum { /* lend_verbs_gid_entry.gid_type */
       LEND_VERBS_GID_IB = 0,
       LEND_VERBS_GID_ROCE_V1 = 1,
       LEND_VERBS_GID_ROCE_V2 = 2,
};

enum { /* rights of memory regions, windows and queue pairs */
       LEND_VERBS_LOCAL_WRITE = 1 << 0,
       LEND_VERBS_REMOTE_WRITE = 1 << 1,
       LEND_VERBS_REMOTE_READ = 1 << 2,
       LEND_VERBS_BIND = 1 << 4,
       LEND_VERBS_ZERO_BASED = 1 << 5,
       LEND_VERBS_ON_DEMAND = 1 << 6,
       LEND_VERBS_RELAXED_ORDERING = 1 << 20, /* optional: the library drops it for old kernels */
};
#define LEND_VERBS_OPTIONAL_ACCESS 0x3ff00000U /* needs reg_mr_iova2 */

enum { LEND_VERBS_WINDOW_TYPE_2 = 2 };
enum { LEND_VERBS_QP_RC = 2 };

enum { /* states of a queue pair */
       LEND_VERBS_QP_RESET = 0,
       LEND_VERBS_QP_INIT = 1,
       LEND_VERBS_QP_RTR = 2,
       LEND_VERBS_QP_RTS = 3,
       LEND_VERBS_QP_SQD = 4,
       LEND_VERBS_QP_SQE = 5,
       LEND_VERBS_QP_ERROR = 6,
};

enum { /* fields of lend_verbs_qp_attributes for modify_qp */
       LEND_VERBS_SET_STATE = 1 << 0,
       LEND_VERBS_SET_ACCESS = 1 << 3,
       LEND_VERBS_SET_PKEY_INDEX = 1 << 4,
       LEND_VERBS_SET_PORT = 1 << 5,
       LEND_VERBS_SET_ADDRESS = 1 << 7,
       LEND_VERBS_SET_PATH_MTU = 1 << 8,
       LEND_VERBS_SET_TIMEOUT = 1 << 9,
       LEND_VERBS_SET_RETRY_COUNT = 1 << 10,
       LEND_VERBS_SET_RNR_RETRY = 1 << 11,
       LEND_VERBS_SET_RQ_PSN = 1 << 12,
       LEND_VERBS_SET_MAX_READS = 1 << 13, /* that we have under way (max_rd_atomic) */
       LEND_VERBS_SET_MIN_RNR_TIMER = 1 << 15,
       LEND_VERBS_SET_SQ_PSN = 1 << 16,
       LEND_VERBS_SET_MAX_SERVED_READS = 1 << 17, /* that the peer has (max_dest_rd_atomic) */
       LEND_VERBS_SET_PEER_NUMBER = 1 << 20,
};

enum { /* lend_verbs_send.opcode */
       LEND_VERBS_SEND_WRITE = 0,
       LEND_VERBS_SEND_WRITE_IMMEDIATE = 1,
       LEND_VERBS_SEND_SEND = 2,
       LEND_VERBS_SEND_SEND_IMMEDIATE = 3,
       LEND_VERBS_SEND_READ = 4,
       LEND_VERBS_SEND_LOCAL_INVALIDATE = 7,
       LEND_VERBS_SEND_BIND_WINDOW = 8,
};

enum {                            /* lend_verbs_send.send_flags */
       LEND_VERBS_FENCE = 1 << 0, /* begin after all READs before it on its queue pair */
       LEND_VERBS_SIGNALED = 1 << 1,
       LEND_VERBS_SOLICITED = 1 << 2,
       LEND_VERBS_INLINE = 1 << 3,
};

enum { /* lend_verbs_completion.status */
       LEND_VERBS_WC_SUCCESS = 0,
       LEND_VERBS_WC_LOCAL_LENGTH = 1,
       LEND_VERBS_WC_LOCAL_QP_OPERATION = 2,
       LEND_VERBS_WC_LOCAL_EEC_OPERATION = 3,
       LEND_VERBS_WC_LOCAL_PROTECTION = 4,
       LEND_VERBS_WC_FLUSHED = 5,
       LEND_VERBS_WC_WINDOW_BIND = 6,
       LEND_VERBS_WC_BAD_RESPONSE = 7,
       LEND_VERBS_WC_LOCAL_ACCESS = 8,
       LEND_VERBS_WC_REMOTE_INVALID_REQUEST = 9,
       LEND_VERBS_WC_REMOTE_ACCESS = 10,
       LEND_VERBS_WC_REMOTE_OPERATION = 11,
       LEND_VERBS_WC_RETRY_EXCEEDED = 12,
       LEND_VERBS_WC_RNR_RETRY_EXCEEDED = 13,
       LEND_VERBS_WC_LOCAL_RDD = 14,
       LEND_VERBS_WC_REMOTE_INVALID_RD = 15,
       LEND_VERBS_WC_REMOTE_ABORTED = 16,
       LEND_VERBS_WC_INVALID_EECN = 17,
       LEND_VERBS_WC_INVALID_EEC_STATE = 18,
       LEND_VERBS_WC_FATAL = 19,
       LEND_VERBS_WC_RESPONSE_TIMEOUT = 20,
       LEND_VERBS_WC_GENERAL = 21,
       LEND_VERBS_WC_TAG_MATCHING = 22,
       LEND_VERBS_WC_TAG_RENDEZVOUS = 23,
       LEND_VERBS_WC_STATUSES = 24,
};

enum { /* lend_verbs_completion.opcode, which is valid for success alone */
       LEND_VERBS_WC_SEND = 0,
       LEND_VERBS_WC_WRITE = 1,
       LEND_VERBS_WC_READ = 2,
       LEND_VERBS_WC_BIND = 5,
       LEND_VERBS_WC_LOCAL_INVALIDATE = 6,
       LEND_VERBS_WC_RECEIVE = 1 << 7,
       LEND_VERBS_WC_RECEIVE_WRITE_IMMEDIATE = (1 << 7) + 1,
};
enum { LEND_VERBS_WC_HAS_IMMEDIATE = 1 << 1 }; /* lend_verbs_completion.flags */

enum { /* lend_verbs_event.type */
       LEND_VERBS_EVENT_CQ_ERROR = 0,
       LEND_VERBS_EVENT_QP_FATAL = 1,
       LEND_VERBS_EVENT_QP_REQUEST = 2,
       LEND_VERBS_EVENT_QP_ACCESS = 3,
       LEND_VERBS_EVENT_COMMUNICATION = 4,
       LEND_VERBS_EVENT_DEVICE_FATAL = 8,
       LEND_VERBS_EVENT_PORT_ACTIVE = 9,
       LEND_VERBS_EVENT_PORT_ERROR = 10,
       LEND_VERBS_EVENT_LID_CHANGE = 11,
       LEND_VERBS_EVENT_PKEY_CHANGE = 12,
       LEND_VERBS_EVENT_GID_CHANGE = 18,
};

enum { /* is_fork_initialized() */
       LEND_VERBS_FORK_DISABLED = 0,
       LEND_VERBS_FORK_ENABLED = 1,
       LEND_VERBS_FORK_UNNEEDED = 2, /* the kernel copies what is pinned when a process forks */
};

/* Objects that libibverbs and its providers make */

struct lend_verbs_context;
struct lend_verbs_qp;
struct lend_verbs_cq;
struct lend_verbs_pd;
struct lend_verbs_mw;
struct lend_verbs_send;
struct lend_verbs_receive;
struct lend_verbs_completion;

struct lend_verbs_device {
    void *obsolete[2];
    int node_type;
    int transport_type;
    char name[LEND_VERBS_NAME_BYTES];     /* "mlx5_0" */
    char dev_name[LEND_VERBS_NAME_BYTES]; /* "uverbs0" */
    char dev_path[256];
    char ibdev_path[256]; /* "/sys/class/infiniband/mlx5_0" */
};

/* The provider's own functions; those that we do not call have no name. */
struct lend_verbs_context_ops {
    void *unused0[7];
    struct lend_verbs_mw *(*alloc_mw)(struct lend_verbs_pd *pd, int type);
    void *bind_mw; /* of type 1: we bind by work requests */
    int (*dealloc_mw)(struct lend_verbs_mw *mw);
    void *unused1;
    int (*poll_cq)(struct lend_verbs_cq *cq, int capacity, struct lend_verbs_completion *out);
    int (*req_notify_cq)(struct lend_verbs_cq *cq, int solicited_only);
    void *unused2[8];
    void *unused3[4];
    int (*post_send)(struct lend_verbs_qp *qp, struct lend_verbs_send *list,
                     struct lend_verbs_send **out_bad);
    int (*post_recv)(struct lend_verbs_qp *qp, struct lend_verbs_receive *list,
                     struct lend_verbs_receive **out_bad);
    void *unused4[5];
};

struct lend_verbs_context {
    struct lend_verbs_device *device;
    struct lend_verbs_context_ops ops;
    int cmd_fd;
    int async_fd;
    int num_comp_vectors;
    union { /* a pthread_mutex_t, which is not ours */
        unsigned char bytes[40];
        void *alignment;
    } mutex;
    void *abi_compat; /* all bits set: it lies in a lend_verbs_context_ex */
};

struct lend_verbs_port_attributes;
struct lend_verbs_device_attributes_ex;

/* What stands before a context of the extended kind, as far as we use it: it grows upwards. */
struct lend_verbs_context_ex {
    int (*query_port)(struct lend_verbs_context *context, uint8_t port,
                      struct lend_verbs_port_attributes *out, size_t bytes);
    void *unused0[25];
    void *priv;
    int (*query_device_ex)(struct lend_verbs_context *context, const void *input,
                           struct lend_verbs_device_attributes_ex *out, size_t bytes);
    void *unused1[10];
    uint64_t unused2;
    size_t bytes; /* of all that the library's version has */
    struct lend_verbs_context context;
};

struct lend_verbs_pd {
    struct lend_verbs_context *context;
    uint32_t handle;
};

struct lend_verbs_mr {
    struct lend_verbs_context *context;
    struct lend_verbs_pd *pd;
    void *addr;
    size_t length;
    uint32_t handle;
    uint32_t lkey;
    uint32_t rkey;
};

struct lend_verbs_mw {
    struct lend_verbs_context *context;
    struct lend_verbs_pd *pd;
    uint32_t rkey;
    uint32_t handle;
    int type;
};

struct lend_verbs_comp_channel {
    struct lend_verbs_context *context;
    int fd;
    int refcnt;
};

struct lend_verbs_cq { /* goes on with what is not ours */
    struct lend_verbs_context *context;
    struct lend_verbs_comp_channel *channel;
    void *cq_context;
    uint32_t handle;
    int cqe;
};

struct lend_verbs_qp { /* goes on with what is not ours */
    struct lend_verbs_context *context;
    void *qp_context;
    struct lend_verbs_pd *pd;
    struct lend_verbs_cq *send_cq;
    struct lend_verbs_cq *recv_cq;
    void *srq;
    uint32_t handle;
    uint32_t qp_num;
    int state;
    int qp_type;
};

/* What is asked and told */

struct lend_verbs_device_attributes {
    char fw_ver[64];
    uint64_t node_guid; /* big-endian */
    uint64_t sys_image_guid;
    uint64_t max_mr_size;
    uint64_t page_size_cap;
    uint32_t vendor_id;
    uint32_t vendor_part_id;
    uint32_t hw_ver;
    int max_qp;
    int max_qp_wr;
    unsigned device_cap_flags;
    int max_sge;
    int max_sge_rd;
    int max_cq;
    int max_cqe;
    int max_mr;
    int max_pd;
    int max_qp_rd_atom;
    int max_ee_rd_atom;
    int max_res_rd_atom;
    int max_qp_init_rd_atom;
    int max_ee_init_rd_atom;
    int atomic_cap;
    int max_ee;
    int max_rdd;
    int max_mw;
    int unused[11];
    uint16_t max_pkeys;
    uint8_t local_ca_ack_delay;
    uint8_t phys_port_cnt;
};

struct lend_verbs_device_attributes_ex { /* the library knows the size that it is given */
    struct lend_verbs_device_attributes base;
    uint32_t comp_mask;
    uint64_t odp_general;
    uint32_t odp_rc;
    uint32_t odp_uc;
    uint32_t odp_ud;
};

struct lend_verbs_port_attributes {
    int state;
    int max_mtu;
    int active_mtu;
    int gid_tbl_len;
    uint32_t port_cap_flags;
    uint32_t max_msg_sz;
    uint32_t bad_pkey_cntr;
    uint32_t qkey_viol_cntr;
    uint16_t pkey_tbl_len;
    uint16_t lid;
    uint16_t sm_lid;
    uint8_t lmc;
    uint8_t max_vl_num;
    uint8_t sm_sl;
    uint8_t subnet_timeout;
    uint8_t init_type_reply;
    uint8_t active_width;
    uint8_t active_speed;
    uint8_t phys_state;
    uint8_t link_layer;
    uint8_t flags;
    uint16_t port_cap_flags2;
};

union lend_verbs_gid {
    uint8_t raw[LEND_VERBS_GID_BYTES];
    uint64_t words[2]; /* big-endian: subnet prefix, interface id */
};

struct lend_verbs_gid_entry {
    union lend_verbs_gid gid;
    uint32_t gid_index;
    uint32_t port_num;
    uint32_t gid_type;
    uint32_t ndev_ifindex;
};

struct lend_verbs_address {
    struct {
        union lend_verbs_gid dgid;
        uint32_t flow_label;
        uint8_t sgid_index;
        uint8_t hop_limit;
        uint8_t traffic_class;
    } grh;
    uint16_t dlid;
    uint8_t sl;
    uint8_t src_path_bits;
    uint8_t static_rate;
    uint8_t is_global;
    uint8_t port_num;
};

struct lend_verbs_qp_capacity {
    uint32_t max_send_wr;
    uint32_t max_recv_wr;
    uint32_t max_send_sge;
    uint32_t max_recv_sge;
    uint32_t max_inline_data;
};

struct lend_verbs_qp_init {
    void *qp_context;
    struct lend_verbs_cq *send_cq;
    struct lend_verbs_cq *recv_cq;
    void *srq;
    struct lend_verbs_qp_capacity cap; /* what was granted comes back in it */
    int qp_type;
    int sq_sig_all;
};

struct lend_verbs_qp_attributes {
    int qp_state;
    int cur_qp_state;
    int path_mtu;
    int path_mig_state;
    uint32_t qkey;
    uint32_t rq_psn;
    uint32_t sq_psn;
    uint32_t dest_qp_num;
    unsigned qp_access_flags;
    struct lend_verbs_qp_capacity cap;
    struct lend_verbs_address ah_attr;
    struct lend_verbs_address alt_ah_attr;
    uint16_t pkey_index;
    uint16_t alt_pkey_index;
    uint8_t en_sqd_async_notify;
    uint8_t sq_draining;
    uint8_t max_rd_atomic;
    uint8_t max_dest_rd_atomic;
    uint8_t min_rnr_timer;
    uint8_t port_num;
    uint8_t timeout;
    uint8_t retry_cnt;
    uint8_t rnr_retry;
    uint8_t alt_port_num;
    uint8_t alt_timeout;
    uint32_t rate_limit;
};

/* Work */

struct lend_verbs_sge {
    uint64_t addr;
    uint32_t length;
    uint32_t lkey;
};

struct lend_verbs_bind {
    struct lend_verbs_mr *mr;
    uint64_t addr;
    uint64_t length;
    unsigned access;
};

struct lend_verbs_send {
    uint64_t wr_id;
    struct lend_verbs_send *next;
    struct lend_verbs_sge *sg_list;
    int num_sge;
    int opcode;
    unsigned send_flags;
    union {
        uint32_t immediate; /* big-endian */
        uint32_t invalidate_rkey;
    };
    union {
        struct {
            uint64_t remote_addr;
            uint32_t rkey;
        } rdma;
        struct {
            uint64_t remote_addr;
            uint64_t compare_add;
            uint64_t swap;
            uint32_t rkey;
        } atomic; /* which we do not use: it has the union's size */
    } wr;
    uint32_t xrc_remote_srqn;
    struct {
        struct lend_verbs_mw *mw;
        uint32_t rkey;
        struct lend_verbs_bind info;
    } bind;
};

struct lend_verbs_receive {
    uint64_t wr_id;
    struct lend_verbs_receive *next;
    struct lend_verbs_sge *sg_list;
    int num_sge;
};

struct lend_verbs_completion {
    uint64_t wr_id;
    int status;
    int opcode;
    uint32_t vendor_err;
    uint32_t byte_len;
    union {
        uint32_t immediate; /* big-endian */
        uint32_t invalidated_rkey;
    };
    uint32_t qp_num;
    uint32_t src_qp;
    unsigned flags;
    uint16_t pkey_index;
    uint16_t slid;
    uint8_t sl;
    uint8_t dlid_path_bits;
};

struct lend_verbs_event {
    union {
        struct lend_verbs_cq *cq;
        struct lend_verbs_qp *qp;
        void *other;
        int port;
    } element;
    int type;
};

/* Symbols of the library, by their names without ibv_. "NULL": an older library has it not. */
struct lend_verbs_ops {
    struct lend_verbs_device **(*get_device_list)(int *out_count);
    void (*free_device_list)(struct lend_verbs_device **list);
    struct lend_verbs_context *(*open_device)(struct lend_verbs_device *device);
    int (*close_device)(struct lend_verbs_context *context);
    int (*query_device)(struct lend_verbs_context *context,
                        struct lend_verbs_device_attributes *out);
    /* Fills in less than the whole, and only where the context has no query_port of its own: use
     * lend_verbs_query_port(). */
    int (*query_port)(struct lend_verbs_context *context, uint8_t port,
                      struct lend_verbs_port_attributes *out);
    int (*query_gid)(struct lend_verbs_context *context, uint8_t port, int index,
                     union lend_verbs_gid *out);
    /* NULL before rdma-core 32. Returns how many, or a negative errno. */
    ssize_t (*query_gid_table)(struct lend_verbs_context *context, struct lend_verbs_gid_entry *out,
                               size_t capacity, uint32_t flags, size_t entry_bytes);
    int (*query_pkey)(struct lend_verbs_context *context, uint8_t port, int index,
                      uint16_t *out); /* big-endian */
    int (*get_async_event)(struct lend_verbs_context *context, struct lend_verbs_event *out);
    void (*ack_async_event)(struct lend_verbs_event *event);
    struct lend_verbs_pd *(*alloc_pd)(struct lend_verbs_context *context);
    int (*dealloc_pd)(struct lend_verbs_pd *pd);
    struct lend_verbs_mr *(*reg_mr)(struct lend_verbs_pd *pd, void *address, size_t bytes,
                                    int access);
    /* NULL before rdma-core 27; needed for LEND_VERBS_OPTIONAL_ACCESS. */
    struct lend_verbs_mr *(*reg_mr_iova2)(struct lend_verbs_pd *pd, void *address, size_t bytes,
                                          uint64_t iova, unsigned access);
    /* NULL before rdma-core 34. */
    struct lend_verbs_mr *(*reg_dmabuf_mr)(struct lend_verbs_pd *pd, uint64_t offset, size_t bytes,
                                           uint64_t iova, int fd, int access);
    int (*dereg_mr)(struct lend_verbs_mr *mr);
    struct lend_verbs_comp_channel *(*create_comp_channel)(struct lend_verbs_context *context);
    int (*destroy_comp_channel)(struct lend_verbs_comp_channel *channel);
    struct lend_verbs_cq *(*create_cq)(struct lend_verbs_context *context, int entries,
                                       void *cq_context, struct lend_verbs_comp_channel *channel,
                                       int vector);
    int (*destroy_cq)(struct lend_verbs_cq *cq);
    int (*get_cq_event)(struct lend_verbs_comp_channel *channel, struct lend_verbs_cq **out_cq,
                        void **out_context);
    void (*ack_cq_events)(struct lend_verbs_cq *cq, unsigned count);
    struct lend_verbs_qp *(*create_qp)(struct lend_verbs_pd *pd, struct lend_verbs_qp_init *init);
    int (*modify_qp)(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *attributes,
                     int mask);
    int (*query_qp)(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *out, int mask,
                    struct lend_verbs_qp_init *out_init);
    int (*destroy_qp)(struct lend_verbs_qp *qp);
    int (*is_fork_initialized)(void); /* NULL before rdma-core 35 */
    const char *(*wc_status_str)(int status);
    const char *(*event_type_str)(int type);
};

/* NULL: libibverbs.so.1, once it is needed. A test points it at a fake. */
extern const struct lend_verbs_ops *lend_verbs;

/* Fill out from the library of that name, which stays loaded. LEND_E_UNSUPPORTED: there is none, or
 * it lacks a function. */
enum lend_status lend_verbs_load(const char *name, struct lend_verbs_ops *out,
                                 struct lend_error *error);
/* The library, loaded once for the process; out is valid for good. LEND_E_UNSUPPORTED. Any thread.
 */
enum lend_status lend_verbs_open(const struct lend_verbs_ops **out, struct lend_error *error);

/* What a function returned that says how it went: 0, or a positive errno. */
int lend_verbs_errno(int result);
/* Such an errno (> 0) in an error; LEND_E_NO_MEMORY for ENOMEM, LEND_E_DEVICE for EIO and ENODEV,
 * else LEND_E_SYSTEM. */
enum lend_status lend_verbs_fail(struct lend_error *error, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What a failed work completion says, in words: "remote access error (10)". */
const char *lend_verbs_wc_name(int status);

/* As the header of libibverbs writes them: through the provider's table. */

/* 0, or a positive errno. Attributes that an old library does not know are zero. */
int lend_verbs_query_port(const struct lend_verbs_ops *verbs, struct lend_verbs_context *context,
                          uint8_t port, struct lend_verbs_port_attributes *out);
/* EOPNOTSUPP: neither library nor provider know the call. */
int lend_verbs_query_device_ex(struct lend_verbs_context *context,
                               struct lend_verbs_device_attributes_ex *out);
/* NULL, and errno. */
struct lend_verbs_mw *lend_verbs_alloc_mw(struct lend_verbs_pd *pd, int type);
int lend_verbs_dealloc_mw(struct lend_verbs_mw *mw);
/* reg_mr or reg_mr_iova2, by what the rights want. Optional rights are left out where the library
 * is too old for them. */
struct lend_verbs_mr *lend_verbs_reg_mr(const struct lend_verbs_ops *verbs,
                                        struct lend_verbs_pd *pd, void *address, size_t bytes,
                                        unsigned access);

static inline int lend_verbs_post_send(struct lend_verbs_qp *qp, struct lend_verbs_send *list,
                                       struct lend_verbs_send **out_bad)
{
    return qp->context->ops.post_send(qp, list, out_bad);
}

static inline int lend_verbs_post_receive(struct lend_verbs_qp *qp, struct lend_verbs_receive *list,
                                          struct lend_verbs_receive **out_bad)
{
    return qp->context->ops.post_recv(qp, list, out_bad);
}

/* How many; negative: the queue is broken. */
static inline int lend_verbs_poll(struct lend_verbs_cq *cq, int capacity,
                                  struct lend_verbs_completion *out)
{
    return cq->context->ops.poll_cq(cq, capacity, out);
}

static inline int lend_verbs_request_notify(struct lend_verbs_cq *cq, bool solicited_only)
{
    return cq->context->ops.req_notify_cq(cq, solicited_only);
}

/* The key that the next binding of a window makes: its last byte counts. */
static inline uint32_t lend_verbs_next_rkey(uint32_t rkey)
{
    return (rkey & ~0xffU) | ((rkey + 1) & 0xffU);
}

#endif
