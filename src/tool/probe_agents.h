/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_PROBE_AGENTS_H
#define LEND_TOOL_PROBE_AGENTS_H

#include "tool/probe.h"

/* What agents of the library itself say: see struct probe. A directory of NULL is the default. */
enum lend_status probe_open_transport(const char *name, const char *directory,
                                      struct lend_error *error);
enum lend_status probe_listens(const char *address, struct lend_error *error);
enum lend_status probe_secret(const char *path, struct lend_error *error);
enum lend_status probe_reach(const char *url, struct lend_error *error);
int probe_ucx_look(const char *name, struct probe_ucx *out);
enum lend_status probe_nixl_find(const char *file, struct lend_nixl_library *out,
                                 struct lend_error *error);
enum lend_status probe_round_trip(const char *directory, char *path, struct lend_error *error);

/* Have a child look, with a copy of what is at out, and take what it leaves there. 0, or a negative
 * errno. */
int probe_in_child(void (*look)(const void *subject, void *out), const void *subject, void *out,
                   size_t bytes);

#endif
