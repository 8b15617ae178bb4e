/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_RDMA_LINE_H
#define LEND_TESTS_RDMA_LINE_H

#include <infiniband/verbs.h>

#include <stdbool.h>
#include <stdint.h>

/*
 * Raw verbs: a device, and connections of one queue pair each. No lend is in this: it shows what a
 * provider does, and what a peer can do that knows no rules. What goes wrong is said on stderr, as
 * some who call this are processes without cmocka.
 */

enum {
    LINE_DEPTH = 64,   /* work requests in a send queue */
    LINE_PACKET = 4096 /* the most that one packet carries */
};

/* A device of this process, and its protection domain. */
struct line_host {
    struct ibv_context *device;
    struct ibv_pd *domain;
    union ibv_gid gid;
    uint8_t gid_index;
};

/* What the other side has to know of a queue pair. */
struct line_end {
    union ibv_gid gid;
    uint32_t number;
};

struct line {
    struct line_host *host;
    struct ibv_cq *completions;
    struct ibv_qp *pair;
};

/* Something to do on a line. */
struct line_work {
    enum ibv_wr_opcode opcode;
    struct ibv_mr *local;
    uint64_t remote; /* an address there */
    uint32_t key;
    uint32_t bytes;
    unsigned flags;
};

/* The devices that the tests may use: LEND_TEST_RDMA names one, or two with a comma between,
 * or it is the first. */
const char *line_device(uint32_t number);
/* Whether the link loses packets: LEND_TEST_RDMA_LOSS is set. */
bool line_is_lossy(void);
bool line_host_open(struct line_host *host, const char *device);
void line_host_close(struct line_host *host);
/* Whether the device is soft-RoCE, by its name. */
bool line_is_rxe(const struct line_host *host);

bool line_open(struct line *line, struct line_host *host);
void line_close(struct line *line);
struct line_end line_end(const struct line *line);
/* Another queue pair in the place of this one, which is better than to reset it: rxe of Linux 6.1
 * counts wrong what refers to a queue pair that is reset while packets come for it. No window may
 * be bound to it. */
bool line_renew(struct line *line);
/* Join it with another's, anew if it was joined before. Both count packets from that number on. */
bool line_join(struct line *line, const struct line_end *other, uint32_t number);
/* Take the queue pair to that state, from which no more comes of it. */
bool line_stop(struct line *line, enum ibv_qp_state state);
enum ibv_qp_state line_state(const struct line *line);

bool line_post(struct line *line, const struct line_work *work);
/* One completion. IBV_WC_GENERAL_ERR, which no provider here gives: none came in time. */
enum ibv_wc_status line_await(struct line *line);
enum ibv_wc_status line_do(struct line *line, const struct line_work *work);

/* Bind a window of type 2 to the line's queue pair, with a key that it did not have last. */
enum ibv_wc_status line_bind(struct line *line, struct ibv_mw *window, struct ibv_mr *region,
                             void *memory, uint64_t bytes);
/* Never of one that is not bound: rxe of Linux 6.1 does not look, and follows a null pointer. */
enum ibv_wc_status line_invalidate(struct line *line, uint32_t key);

#endif
