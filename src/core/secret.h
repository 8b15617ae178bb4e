/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SECRET_H
#define LEND_CORE_SECRET_H

#include <lend/agent.h>
#include <lend/plugin.h>

#include <stdbool.h>

/*
 * Secrets: an agent's own, which whoever connects to it must have, and those of single peers, for
 * the connections that the agent makes to them. The plugin keeps them all, and the agent itself
 * never has a copy. What sessions do with them is in core/guard.h.
 */

/* The plugin, loaded when the first secret is given. */
struct lend_secret_keeper {
    void *library;
    const struct lend_secret_plugin *plugin; /* NULL: not loaded */
};

struct lend_secret {
    const struct lend_secret_plugin *plugin; /* NULL: there is no secret */
    void *kept;                              /* the plugin's */
    bool is_of_peer;                         /* given at its import */
};

/* Is what somebody says of a secret well-formed? LEND_E_INVALID. */
enum lend_status lend_secret_check(const void *bytes, uint32_t count, struct lend_error *error);

/* Load the plugin of that file; NULL: the library's own. LEND_E_ABSENT: it cannot be loaded;
 * LEND_E_VERSION: it is of another interface. */
enum lend_status lend_secret_load(struct lend_secret_keeper *keeper, const char *path,
                                  struct lend_error *error);
/* When all that it kept is forgotten. One that is not loaded is fine, and a forked child's copy. */
void lend_secret_unload(struct lend_secret_keeper *keeper);

/* Give it a secret that is well-formed. What keep() says. */
enum lend_status lend_secret_keep(struct lend_secret *secret,
                                  const struct lend_secret_plugin *plugin, const void *bytes,
                                  uint32_t count, struct lend_error *error);
/* None is fine, and a forked child's copy. */
void lend_secret_forget(struct lend_secret *secret);

/* Both have been kept by one plugin, or there is none: are they the same? */
bool lend_secret_is_same(const struct lend_secret *one, const struct lend_secret *other);

#endif
