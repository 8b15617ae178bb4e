/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SKEW_TALK_H
#define LEND_TESTS_SKEW_TALK_H

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

#include "fake/pipe.h"

/*
 * A talk between two agents over the fake pipe that goes the same way each time, were it of two
 * releases: random numbers are made from what they are for. It is compiled against each release, so
 * it uses nothing that the oldest one has not.
 */

enum { TALK_BLOCKS = 2, TALK_BLOCK_BYTES = 64, TALK_BYTES = TALK_BLOCKS * TALK_BLOCK_BYTES };

enum talk_step { TALK_CONNECT, TALK_WRITE, TALK_READ, TALK_NOTIFY, TALK_DONE, TALK_STEPS };

struct talk {
    struct lend_agent *owner, *reader;
    uint8_t lent_memory[TALK_BYTES], kept_memory[TALK_BYTES];
    struct lend_region *lent, *kept;
    struct lend_lease *lease; /* for reading and writing all; of one counted consumer */
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint8_t metadata[1024], ticket_bytes[LEND_TICKET_BYTES_MAX];
    size_t metadata_count, ticket_count;
};

/* The owner, its lease, and what it exports. */
void talk_owner(struct talk *talk);
/* The reader, to whom an owner's metadata and ticket are given. */
void talk_reader(struct talk *talk, const void *metadata, size_t metadata_count, const void *ticket,
                 size_t ticket_count);
void talk_end(struct talk *talk);

/* What the reader does in a step; and whether it has come out well. */
void talk_begin(struct talk *talk, enum talk_step step);
bool talk_is_well(struct talk *talk, enum talk_step step);

/* What stands in the memory of either after a write, and the byte of the owner's own. */
uint8_t talk_written(size_t at);
uint8_t talk_owned(size_t at);
#define TALK_NOTIFICATION "said by one release to another"

#endif
