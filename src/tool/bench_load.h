/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_BENCH_LOAD_H
#define LEND_TOOL_BENCH_LOAD_H

#include "tool/bench_pair.h"

/* Ending what a peer is using: this process owns and ends, and the other one pulls from it as fast
 * as it can, two transfers at a time. */

enum {
    LOAD_BLOCK_BYTES = 64 << 10, /* a chunk of the served path */
    LOAD_BLOCKS = 16,
    LOAD_REGION_BYTES = LOAD_BLOCK_BYTES * LOAD_BLOCKS,
};

struct load_result {
    struct samples ends;   /* of the revoke or the withdraw */
    struct samples chunks; /* memcpy of one chunk, just before, under the same load */
    uint64_t verified_bytes;
    struct lend_error why; /* if the path cannot be taken */
};

/* So many times, each with a region, a lease and a ticket of its own. */
void load_measure(const char *path, bool is_withdraw, uint32_t count, struct load_result *result);

#endif
