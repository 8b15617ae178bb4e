/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_UCX_H
#define LEND_TESTS_FAKE_UCX_H

#include "transport/ucx/door.h"

#include <stdbool.h>

/*
 * A fake UCX: workers of this process hand each other active messages, on one thread. It does what
 * a test tells it, so that callbacks come late, or only after a close by force; what UCX itself
 * does is shown with UCX alone.
 */
struct fake_ucx {
    bool holds_sends;    /* callbacks of sends from place wait for fake_ucx_let_go() */
    bool holds_receives; /* so do those of receives, and nothing lands before */
    bool is_stubborn;    /* a close by force brings no callback either */
    bool drops;          /* what is sent is lost, and nobody is told */
    bool reverses;       /* what waits to be delivered comes last first */
    int fail_at;         /* that call with a status fails, counted from 0; -1: none */
    lend_ucx_status failure;
    int calls; /* with a status, since the reset */
    /* Not given back. */
    int configs, contexts, workers, endpoints, requests, data;
    int closed;     /* endpoints, by force */
    int sent;       /* messages */
    int rendezvous; /* messages sent so */
    int from_place; /* messages sent in pieces, eagerly */
};

enum { FAKE_UCX_HEADER_MAX = 256 };

/* The last message that was sent in pieces, or by rendezvous, or not: its header. */
struct fake_ucx_message {
    uint8_t header[FAKE_UCX_HEADER_MAX];
    size_t header_length;
    size_t length;
};
extern struct fake_ucx_message fake_ucx_last;

extern struct fake_ucx fake_ucx;
extern const struct lend_ucx_ops fake_ucx_ops;

void fake_ucx_reset(void);
/* Everything that is held is done at the next progress. */
void fake_ucx_let_go(void);
/* Say that to a worker, by the order in which they were made, as if a peer had; the payload is
 * zeros. */
void fake_ucx_say(int worker, const void *header, size_t header_length, size_t length,
                  bool is_rendezvous);
/* The same, with that payload. */
void fake_ucx_tell(int worker, const void *header, size_t header_length, const void *payload,
                   size_t length);

#endif
