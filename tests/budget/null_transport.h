/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_NULL_TRANSPORT_H
#define LEND_TESTS_NULL_TRANSPORT_H

#include <lend/lend.h>

#include <stdint.h>

/*
 * A transport that carries nothing, so that what is left is what core does to post: it welcomes its
 * client, takes every frame, counts it, and once it has the runs of a request answers that the
 * lease was revoked. It answers when it is asked to, never within a post.
 *
 * It takes the place of every other transport in the program that is linked with it.
 */

/* What was taken since null_transport_reset(). */
struct null_transport_seen {
    uint64_t frames;
    uint64_t requests;
    uint64_t regions; /* that the requests named */
    uint64_t runs;
    uint64_t run_frames;
};
extern struct null_transport_seen null_transport_seen;
void null_transport_reset(void);

/* An agent that lends, or one that posts, over nothing and without a thread. */
struct lend_agent *null_agent_create(const char *name);

/* What an agent needs to post: two regions of its own, each against one of an owner that is never
 * asked. Whatever goes wrong ends the program. */
struct null_pair {
    struct lend_agent *reader;
    struct lend_agent *owner;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_lease *lease;
    struct lend_transfer *transfer;
    struct lend_region *local;
    void *memory;
};
void null_pair_init(struct null_pair *pair, struct lend_agent *reader, const char *owner,
                    uint64_t block_count);
void null_pair_fini(struct null_pair *pair);

/* Post those blocks, the same on both sides. */
void null_pair_post(struct null_pair *pair, uint32_t index_bits, const void *blocks,
                    uint64_t block_count);

/* Let the answers arrive, until the transfer has ended. */
void null_pair_finish(struct null_pair *pair);

#endif
