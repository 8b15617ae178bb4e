/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SECRET_H
#define LEND_CORE_SECRET_H

#include <lend/agent.h>
#include <lend/plugin.h>

#include <stdatomic.h>

/*
 * The secret that an agent shares with its peers: the plugin that keeps it. The agent itself never
 * has a copy. What sessions do with it is in core/guard.h.
 */
struct lend_secret {
    void *library;
    const struct lend_secret_plugin *plugin; /* NULL: the agent has no secret */
    void *kept;                              /* the plugin's */
    _Atomic uint64_t told_ns;                /* when a refusal was last logged */
    _Atomic uint64_t untold_count;           /* refusals since then */
};

/* Is what a configuration says of a secret well-formed? LEND_E_INVALID. */
enum lend_status lend_secret_check(const struct lend_agent_config *config,
                                   struct lend_error *error);

/* Load the plugin and give it the secret, if the configuration has one. LEND_E_ABSENT: it cannot be
 * loaded; LEND_E_VERSION: it is of another interface; and what keep() says. */
enum lend_status lend_secret_open(struct lend_secret *secret,
                                  const struct lend_agent_config *config, struct lend_error *error);

/* Forget it. Half-opened ones are fine, and a forked child's copy. */
void lend_secret_close(struct lend_secret *secret);

#endif
