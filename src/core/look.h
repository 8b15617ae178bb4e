/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_LOOK_H
#define LEND_CORE_LOOK_H

#include "core/lease.h"
#include "core/session.h"

/*
 * The owner's answers to readers that copy by themselves: what does this lease permit? Asked once
 * for a ticket, so that its transfers need no more of the owner than the lease's word.
 */

enum { LEND_LOOKS_MAX = 16 }; /* that one peer may have unanswered */

struct lend_looks {
    uint32_t count;
    struct lend_look {
        uint64_t id;
        struct lend_lease_name name;
        bool is_told; /* our rail was told what to say ahead of the answer */
    } waiting[LEND_LOOKS_MAX];
};

/* A LOOK has come. LEND_E_CORRUPT, LEND_E_LIMIT: it breaks the session. */
enum lend_status lend_look_take(struct lend_looks *looks, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error);

/* Answer the oldest; true if its answer has left. Under the session's lock. */
bool lend_look_pump(struct lend_looks *looks, struct lend_session *session,
                    const struct lend_lease_user *user);

#endif
