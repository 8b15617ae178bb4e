/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SECRET_STAGE_H
#define LEND_TESTS_SECRET_STAGE_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "core/session.h"
#include "fake/pipe.h"

/*
 * An owner and a reader over the fake pipe, each with a secret or without, and a speaker: one end
 * of a connection that is held by hand, and that has a secret too.
 */

enum { BLOCKS = 8, BLOCK_BYTES = 65536, MEMORY_BYTES = BLOCKS * BLOCK_BYTES };

#define OUR_SECRET   "the secret of these two"
#define THEIR_SECRET "the secret of some others"

struct stage {
    char directory[64];
    struct lend_agent *owner, *reader;
    uint8_t *lent_memory, *kept_memory;
    struct lend_region *lent, *kept;
    struct lend_lease *lease;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    uint32_t log_count;          /* warnings of both */
    char log[320];               /* the last one */
    uint32_t flags;              /* of the agents that are made, beside those of all */
    uint64_t connect_timeout_ns; /* of the agents that are made; 0: as usual */
};

/* An agent with that secret, or without one; NULL, and why. */
struct lend_agent *stage_agent(struct stage *stage, const char *name, const char *secret,
                               struct lend_error *error);
/* Both agents, and what the reader needs to move blocks; a lease of one counted consumer. */
void stage_up(struct stage *stage, const char *owners_secret, const char *readers_secret);
/* Both with one secret and flags of their own. */
void stage_up_flagged(struct stage *stage, uint32_t owners_flags, uint32_t readers_flags);
void stage_down(struct stage *stage);
void stage_pump(struct stage *stage);
/* Connect; LEND_E_TIMEOUT: neither it nor a refusal came. */
enum lend_status stage_connect(struct stage *stage, struct lend_error *error);
/* Move all blocks; the transfer's final status. */
enum lend_status stage_move(struct stage *stage, uint32_t direction);
struct lend_transfer *stage_post(struct stage *stage, uint32_t direction);
enum lend_status stage_finish(struct stage *stage, struct lend_transfer *transfer);

const struct lend_statistics *page_of(const struct lend_agent *agent);

struct speaker {
    struct pipe_end *end;
    void *library;
    const struct lend_secret_plugin *plugin;
    void *kept;
    void *keys;
    uint32_t role;
    bool has_no_macs; /* it proves the secret as if none followed */
    struct lend_challenge challenge, answer;
    uint64_t heard_count; /* of frames */
    struct lend_frame heard;
    uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
};
void speaker_up(struct speaker *speaker, uint32_t role, const char *secret);
void speaker_down(struct speaker *speaker);
/* Take a frame into `heard`; false: there is none. */
bool speaker_hear(struct speaker *speaker);
/* CHALLENGE, and the ANSWER to it, whose proof must be right. */
void speaker_challenge(struct speaker *speaker, struct stage *stage);
/* The proof of that role, over the speaker's transcript. */
void speaker_prove(const struct speaker *speaker, uint32_t role, uint8_t *out);
/* Both, and the PROOF. */
void speaker_meet(struct speaker *speaker, struct stage *stage);
void speaker_derive(struct speaker *speaker);
/* Say a frame under the MAC of that role. */
void speaker_say_sealed(struct speaker *speaker, uint32_t role, uint8_t type, uint64_t request,
                        const void *payload, size_t count);
/* Is the frame that was heard under the MAC of that role? Then its payload is without it. */
bool speaker_unseal(struct speaker *speaker, uint32_t role);
size_t encode_hello(const struct stage *stage, uint8_t *out, size_t capacity);

#endif
