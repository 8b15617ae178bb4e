/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_PROGRESS_H
#define LEND_TOOL_PROGRESS_H

#include <stdint.h>

/* A bar on stderr, drawn if that is a terminal and the work has taken a second. */
struct progress {
    const char *label;
    uint64_t total;
    uint64_t done;
    uint64_t started_ns;
    uint64_t drawn_ns; /* 0: never */
};
struct progress progress_start(const char *label, uint64_t total);
void progress_step(struct progress *progress);
void progress_end(struct progress *progress);

#endif
