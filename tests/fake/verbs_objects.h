/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_VERBS_OBJECTS_H
#define LEND_TESTS_FAKE_VERBS_OBJECTS_H

#include "fake/verbs.h"

/* What the fake libibverbs is made of, between its own two files. */

enum { FAKE_EVENTS_MAX = 32, FAKE_SGES_MAX = 32, FAKE_WORKS_MAX = 1024, FAKE_CQES_MAX = 32768 };

struct fake_context {
    struct fake_context *next;
    int number; /* of its device */
    bool is_dead;
    int event_count;
    struct lend_verbs_event events[FAKE_EVENTS_MAX];
    struct lend_verbs_context_ex ex;
};

struct fake_pd {
    struct lend_verbs_pd pd;
    int users;
    bool is_orphan; /* it was to be given back, and had users */
};

struct fake_mr {
    struct lend_verbs_mr mr;
    struct fake_mr *next;
    unsigned access;
    int windows; /* bound to it */
    /* Memory of a fake GPU: where its first byte is, and which allocation that is of. */
    uint64_t device; /* 0: memory of the host */
    uint64_t device_end;
    uint64_t device_id;
    bool
        is_import; /* of a dma-buf, which keeps the memory; else the driver ends it when it is freed
                    */
};

struct fake_mw {
    struct lend_verbs_mw mw;
    struct fake_mw *next;
    uint32_t rkey;      /* that holds; the one in mw is the user's to keep */
    struct fake_mr *mr; /* NULL: not bound */
    uint32_t qp_num;
    uint64_t address;
    uint64_t bytes;
    unsigned access;
};

struct fake_channel {
    struct lend_verbs_comp_channel channel;
    struct fake_channel *next;
    int users;
    int count;
    struct lend_verbs_cq *pending[FAKE_EVENTS_MAX];
};

struct fake_cq {
    struct lend_verbs_cq cq;
    bool is_armed;
    int users;
    int told; /* events that were taken and not acknowledged */
    int first, count;
    struct lend_verbs_completion *ring; /* of cq.cqe */
};

/* Work, as it was posted. */
struct fake_work {
    struct lend_verbs_send send;
    struct lend_verbs_sge sges[FAKE_SGES_MAX];
    uint8_t *inlined; /* its bytes, where they were inline */
};

struct fake_receive {
    uint64_t wr_id;
    int count;
    struct lend_verbs_sge sges[FAKE_SGES_MAX];
};

struct fake_qp {
    struct lend_verbs_qp qp;
    struct fake_qp *next;
    struct lend_verbs_qp_init init;
    struct lend_verbs_qp_attributes attributes;
    int work_first, work_count;
    struct fake_work *works; /* a ring of cap.max_send_wr */
    int receive_first, receive_count;
    struct fake_receive *receives; /* a ring of cap.max_recv_wr */
};

struct fake_verbs_table {
    struct fake_context *contexts;
    struct fake_mr *mrs;
    struct fake_mw *mws;
    struct fake_qp *qps;
    struct fake_channel *channels;
    uint32_t key_next;
    uint32_t qp_num_last;
    int let_go; /* held pieces of work that may happen */
};

extern struct fake_verbs_table fake_verbs_table;

static inline struct fake_context *fake_verbs_context_of(struct lend_verbs_context *context)
{
    return (struct fake_context *)(void *)((char *)context -
                                           offsetof(struct fake_context, ex.context));
}

/* One end of a copy. */
struct fake_reach {
    const struct fake_mr *mr; /* NULL: memory of the host */
    uint64_t address;
};

/* By its key; NULL: there is none. */
const struct fake_mr *fake_verbs_find_mr(uint32_t key);
/* Is the memory that was registered gone? Of an import it stays, though nobody else sees it. */
bool fake_verbs_is_freed(const struct fake_mr *mr);
void fake_verbs_copy(const struct fake_reach *to, const struct fake_reach *from, size_t count);

/* Count a call; how it fails, or 0. context may be NULL. */
int fake_verbs_fails(struct lend_verbs_context *context);
void fake_verbs_kill_queues(struct lend_verbs_context *context);
/* Events of that queue pair that nobody took are void. */
void fake_verbs_forget_events(const struct lend_verbs_qp *qp);

struct lend_verbs_comp_channel *fake_verbs_create_channel(struct lend_verbs_context *context);
int fake_verbs_destroy_channel(struct lend_verbs_comp_channel *channel);
struct lend_verbs_cq *fake_verbs_create_cq(struct lend_verbs_context *context, int entries,
                                           void *cq_context,
                                           struct lend_verbs_comp_channel *channel, int vector);
int fake_verbs_destroy_cq(struct lend_verbs_cq *cq);
int fake_verbs_get_cq_event(struct lend_verbs_comp_channel *channel, struct lend_verbs_cq **out_cq,
                            void **out_context);
void fake_verbs_ack_cq_events(struct lend_verbs_cq *cq, unsigned count);
int fake_verbs_poll(struct lend_verbs_cq *cq, int capacity, struct lend_verbs_completion *out);
int fake_verbs_request_notify(struct lend_verbs_cq *cq, int solicited_only);

struct lend_verbs_qp *fake_verbs_create_qp(struct lend_verbs_pd *pd,
                                           struct lend_verbs_qp_init *init);
int fake_verbs_modify_qp(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *attributes,
                         int mask);
int fake_verbs_query_qp(struct lend_verbs_qp *qp, struct lend_verbs_qp_attributes *out, int mask,
                        struct lend_verbs_qp_init *out_init);
int fake_verbs_destroy_qp(struct lend_verbs_qp *qp);
int fake_verbs_post_send(struct lend_verbs_qp *qp, struct lend_verbs_send *list,
                         struct lend_verbs_send **out_bad);
int fake_verbs_post_receive(struct lend_verbs_qp *qp, struct lend_verbs_receive *list,
                            struct lend_verbs_receive **out_bad);

#endif
