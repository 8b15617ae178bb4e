/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_LOOPBACK_FABRIC_H
#define LEND_TRANSPORT_LOOPBACK_FABRIC_H

#include "wire/frame.h"

#include <lend/agent.h>

#include <stdbool.h>
#include <stdint.h>

/*
 * The simulated fabric, for tests alone. While one is installed, every connection that loopback
 * makes goes over two *lines*, one a direction: what the receiver finds in its ring is judged frame
 * by frame, and held until its time has come. A connection made without a fabric pays one branch a
 * call.
 */

enum lend_fabric_action {
    LEND_FABRIC_DELIVER = 0,
    LEND_FABRIC_DROP = 1,
    LEND_FABRIC_DELAY = 2,   /* until until_ns; what follows waits behind it */
    LEND_FABRIC_SWAP = 3,    /* with the next one; alone at until_ns if none comes before */
    LEND_FABRIC_CORRUPT = 4, /* flip one bit: of the header, then of the payload */
};

struct lend_fabric_verdict {
    uint32_t action; /* a lend_fabric_action */
    uint32_t bit;    /* modulo the bits that the frame has */
    uint64_t until_ns;
};

/* A frame on its way. */
struct lend_fabric_frame {
    uint8_t from[LEND_INCARNATION_BYTES];
    uint8_t to[LEND_INCARNATION_BYTES];
    bool is_from_client;
    const uint8_t *header; /* LEND_FRAME_HEADER_BYTES */
    const uint8_t *payload;
    size_t count;
};

struct lend_fabric {
    /* What becomes of it. Called under locks: calls nothing of lend. */
    struct lend_fabric_verdict (*judge)(void *context, const struct lend_fabric_frame *frame);
    void *context;
};

/* Install a fabric, which must stay where it is; NULL: remove it. Lines that there are then deliver
 * all. */
void lend_fabric_install(const struct lend_fabric *fabric);

/* When the next frame that is held may be seen; UINT64_MAX: none is held. */
uint64_t lend_fabric_next_ns(void);

/* Wake every session for which a frame has become visible by now. */
void lend_fabric_tick(void);

/* The death of every line from or to that agent: what is held is lost, and so is all that follows.
 * Loud: both ends are told. Silent: neither is, not even when the other one closes. With no session
 * locked. */
void lend_fabric_cut(const uint8_t *incarnation, bool is_loud);

/* For loopback.c: a line. Its calls are made by its receiver alone, with the session locked. */

struct lend_fabric_line;

struct lend_fabric_end {
    void *owner;                  /* the receiver's */
    void (*wake)(void *owner);    /* something may be seen */
    void (*hang_up)(void *owner); /* the line is dead */
};

struct lend_fabric_held {
    struct lend_fabric_held *next;
    uint64_t visible_ns;
    bool is_swapping; /* until the next one comes */
    size_t count;     /* of payload */
    uint8_t bytes[];  /* header, payload */
};

bool lend_fabric_is_installed(void);
/* NULL: no memory. */
struct lend_fabric_line *lend_fabric_line_create(const uint8_t *from, const uint8_t *to,
                                                 bool is_from_client,
                                                 const struct lend_fabric_end *end);
void lend_fabric_line_destroy(struct lend_fabric_line *line);
/* May it take another frame? What it holds is bounded. */
bool lend_fabric_line_has_room(const struct lend_fabric_line *line);
/* A frame came out of the ring: judge and hold it. */
void lend_fabric_line_push(struct lend_fabric_line *line, const uint8_t *header,
                           const uint8_t *payload, size_t count);
/* The first frame, if it may be seen, or NULL; it stays until it is popped. */
const struct lend_fabric_held *lend_fabric_line_first(struct lend_fabric_line *line);
void lend_fabric_line_pop(struct lend_fabric_line *line);
bool lend_fabric_line_is_dead(const struct lend_fabric_line *line);

#endif
