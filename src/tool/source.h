/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_SOURCE_H
#define LEND_TOOL_SOURCE_H

#include "tool/export_file.h"

#include <argp.h>

/* Where a reader learns of an owner: from a file, from the owner itself, or from a directory. One
 * of the three is set. */
struct source {
    const char *path;       /* what `lend serve --export' wrote */
    const char *from;       /* an address at which `lend serve --listen' listens */
    const char *directory;  /* a URL, and */
    const char *name;       /* the agent's name there */
    const char *plugin;     /* for the directory; NULL: the library's */
    uint32_t wait_seconds;  /* for it to be there */
    bool *out_is_networked; /* set when an option wants tcp */
};

/* --from --directory --name --wait: a child of a sub-command's parser; input is a struct source. */
extern const struct argp options_source;

/* End the program with EXIT_USAGE unless exactly one is set; `file` says how a file is given. */
void source_check(const struct source *source, struct argp_state *state, const char *file);

/* The agent asks, where it takes one. */
enum lend_status source_read(const struct source *source, struct lend_agent *agent,
                             struct export_file *out, struct lend_error *error);

/* What the user called it, for messages. */
const char *source_name(const struct source *source);

#endif
