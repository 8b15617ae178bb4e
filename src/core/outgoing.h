/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_OUTGOING_H
#define LEND_CORE_OUTGOING_H

#include "base/list.h"
#include "wire/frame.h"
#include "wire/message.h"

struct lend_peer;
struct lend_transfer;

/* A control frame that waits to be sent, in order: a notification, or word that a ticket is done.
 */
struct lend_outgoing {
    struct lend_list link;
    enum lend_frame_type type;
    size_t count;
    const uint8_t *bytes;
    struct lend_transfer *transfer; /* that completes when it has left; NULL: free it then */
};

/* Send a frame of that type to the peer, in order with others. Copies the bytes. LEND_E_BUSY,
 * LEND_E_PEER_DEAD, LEND_E_NO_PATH, LEND_E_ACCESS, LEND_E_NO_MEMORY, LEND_E_SYSTEM. */
enum lend_status lend_outgoing_send(struct lend_peer *peer, enum lend_frame_type type,
                                    const void *bytes, size_t count, struct lend_error *error);

#endif
