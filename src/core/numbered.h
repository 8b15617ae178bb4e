/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_NUMBERED_H
#define LEND_CORE_NUMBERED_H

#include "core/session.h"

/*
 * A peer's notifications in their order, each once, though they come by two ways: its channel, and
 * a rail, whose are repeated by the channel where nobody confirmed them. Each has a number, from 1
 * on; one that comes early waits for those before it, and one that was there is dropped. Part of a
 * server, under the session's lock.
 */
struct lend_numbered {
    uint64_t last;          /* that was given on */
    struct lend_list early; /* struct early, ascending */
};

void lend_numbered_init(struct lend_numbered *numbered);
void lend_numbered_fini(struct lend_numbered *numbered);

/* Has it come before? */
bool lend_numbered_has(const struct lend_numbered *numbered, uint64_t number);
/* One that has not; 0: the next. It is given to the application with all that waited for it.
 * LEND_E_NO_MEMORY. */
enum lend_status lend_numbered_take(struct lend_numbered *numbered, uint64_t number,
                                    const void *bytes, uint32_t count,
                                    enum lend_status (*give)(struct lend_session *session,
                                                             const void *bytes, uint32_t count),
                                    struct lend_session *session);

#endif
