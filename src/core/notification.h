/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_NOTIFICATION_H
#define LEND_CORE_NOTIFICATION_H

#include "core/agent.h"
#include "core/session.h"

/* A notification that has come, until the application takes it. */
struct lend_notification {
    struct lend_list link;        /* in lend_agent::notifications */
    struct lend_session *session; /* a reference: who is to have the credit */
    char peer[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint32_t count;
    uint8_t bytes[];
};

/* Give a notification to the application. Under the session's lock. LEND_E_NO_MEMORY. */
enum lend_status lend_notification_deliver(struct lend_session *session, const char *peer,
                                           const uint8_t *incarnation, const void *bytes,
                                           uint32_t count);

/* The session is dead: nobody who waits for a notification is to look there. Under no lock. */
void lend_notifications_forget(struct lend_session *session);

/* `forked`: sessions are freed already. */
void lend_notifications_fini(struct lend_agent *agent, bool forked);

#endif
