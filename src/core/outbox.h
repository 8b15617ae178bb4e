/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_OUTBOX_H
#define LEND_CORE_OUTBOX_H

#include "core/outgoing.h"
#include "core/session.h"

/*
 * The frames of a client that leave in order beside its requests: notifications, and word that
 * tickets are done. Notifications have a window: what was sent, and not yet taken by the peer's
 * application, is bounded. Under the session's lock.
 */
struct lend_outbox {
    struct lend_session *session;
    struct lend_list waiting; /* struct lend_outgoing, in order */
    uint64_t window;          /* ours until the server has told its own */
    uint64_t reserved;        /* cost of all that was ever accepted, */
    uint64_t sent;            /* sent, */
    uint64_t credited;        /* and taken by the peer's application */
    uint64_t numbered;        /* the number of the last that was sent: see core/numbered.h */
};

void lend_outbox_init(struct lend_outbox *outbox, struct lend_session *session, uint64_t window);

/* Is there room in the window for a notification of that many bytes? Then it is taken. */
bool lend_outbox_reserve(struct lend_outbox *outbox, size_t count);
void lend_outbox_unreserve(struct lend_outbox *outbox, size_t count);

/* Queue a frame; it becomes the outbox's, unless it has a transfer. */
void lend_outbox_queue(struct lend_outbox *outbox, struct lend_outgoing *outgoing);
/* Send a frame that was never queued, if nothing is before it, and there is room: false if not. */
bool lend_outbox_send(struct lend_outbox *outbox, enum lend_frame_type type, const void *bytes,
                      size_t count);
/* Send what can be sent; true if anything left. */
bool lend_outbox_pump(struct lend_outbox *outbox);

/* A CREDIT has come. LEND_E_CORRUPT: it breaks the session. */
enum lend_status lend_outbox_credit(struct lend_outbox *outbox, const struct lend_frame *frame,
                                    const uint8_t *payload, struct lend_error *error);

#endif
