/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SERVER_H
#define LEND_CORE_SERVER_H

#include "core/session.h"

/* The serving end of a session. lend_session_accept() makes one. */

/* The application has taken notifications that cost that much: let the peer know. Under no lock. */
void lend_server_credit(struct lend_session *session, uint64_t cost);

#endif
