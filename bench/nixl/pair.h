/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NIXL_BENCH_PAIR_H
#define NIXL_BENCH_PAIR_H

#include "side.h"

/*
 * A second process with an agent of the same library. It is forked before either has loaded that,
 * and ends with the first one. Both know each other's metadata.
 */
struct pair {
    int link; /* to the other process */
};

/* What the peer does with its agent once both know each other; it returns when it is told to. */
typedef void (*pair_serve)(struct side *side, struct pair *pair, uint64_t argument);

void pair_start(struct pair *pair, uint64_t argument, pair_serve serve);
void pair_send(struct pair *pair, const void *bytes, size_t count);
void pair_receive(struct pair *pair, void *bytes, size_t count);
/* Our metadata to it, and what it sent in turn, loaded; the time that either call took. */
double pair_export(struct side *side, struct pair *pair);
double pair_import(struct side *side, struct pair *pair);

#endif
