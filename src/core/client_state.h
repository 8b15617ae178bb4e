/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_CLIENT_STATE_H
#define LEND_CORE_CLIENT_STATE_H

#include "core/client.h"
#include "core/dial.h"
#include "core/onesided.h"
#include "core/outbox.h"
#include "core/peer.h"
#include "core/session.h"

/* What the two files of a client's session share: client.c, which asks, and client_end.c. All of it
 * under the session's lock. */

enum { LEND_CLIENT_SLOTS_MAX = 64 }; /* requests that any server lets one peer have */

/* A request on the wire: from its frame until the server's DONE. */
struct lend_client_slot {
    uint64_t request;               /* 0: free */
    struct lend_transfer *transfer; /* NULL: nobody cares any more; its bytes are dropped */
    bool is_large;                  /* it asks for more than LEND_WINDOW_SMALL_BYTES */
    bool is_asked;                  /* the REQUEST frame has left */
    uint64_t runs_sent;
    uint64_t bytes_left;  /* to come, or to be sent */
    uint64_t staged_left; /* of a WRITE from memory of a GPU: not yet given to the stage */
    bool wants_cancel;    /* a CANCEL frame is to be sent */
    uint64_t quiet_at;    /* lend_channel::begun after the last of its bytes were taken */
    int32_t severed;      /* it ends with that status once they have landed; LEND_OK: it goes on */
    const char *reason;
    uint64_t settle_by_ns;
};

struct lend_client {
    struct lend_session session;
    struct lend_peer *peer; /* a reference */
    struct lend_dial dial;  /* how it is reached */
    bool has_said_hello;
    uint32_t requests_max;
    uint64_t next_request;
    uint32_t turn; /* the slot that is first at the next pump */
    uint32_t busy_count;
    uint32_t large_count; /* of them, those that are large */
    bool prefers_large;   /* the next slot is for a large one, if both wait */
    bool has_copied;      /* in this pump */
    uint32_t severed_count;
    struct lend_client_slot slots[LEND_CLIENT_SLOTS_MAX];
    struct lend_onesided own;  /* reads that we carry out ourselves */
    struct lend_list arriving; /* transfers whose way is not chosen yet */
    /* Transfers without a slot, in their order: small ones, and large ones. */
    struct lend_list waiting[2];
    struct lend_outbox outbox;
};

static inline struct lend_client *lend_client_of(struct lend_session *session)
{
    return (struct lend_client *)session;
}

/* A slot is over. */
void lend_client_free_slot(struct lend_client *client, struct lend_client_slot *slot);

/* A transfer ends: its notification, if it was to have one, is never sent. */
void lend_client_fail_transfer(struct lend_client *client, struct lend_transfer *transfer,
                               const struct lend_error *why);
/* Is something landing still that belongs to the slot? */
bool lend_client_is_landing(const struct lend_client *client, const struct lend_client_slot *slot);
/* The same of a transfer whose stage has failed. */
void lend_client_fail_slot(struct lend_client *client, struct lend_client_slot *slot,
                           const struct lend_error *why);
/* Its request was refused, and a GPU still reads what was to be sent: it ends once that is over. */
void lend_client_answer_early(struct lend_client *client, struct lend_client_slot *slot,
                              const struct lend_error *why);
/* Nothing lands any more for a slot that was severed: its transfer ends as was said then. */
void lend_client_end_slot(struct lend_client *client, struct lend_client_slot *slot);
/* The same for all of which that is so. True if there was one. */
bool lend_client_end_severed(struct lend_client *client);
/* lend_session_role::timers */
uint64_t lend_client_timers(struct lend_session *session, uint64_t now_ns);

#endif
