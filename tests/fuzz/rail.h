/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FUZZ_RAIL_H
#define LEND_TESTS_FUZZ_RAIL_H

#include "transport/verbs/message.h"

/* What the input of rail_fuzz.c says: steps, one behind the other, each a byte and what follows it.
 */
enum rail_step {
    RAIL_TO_OWNER = 0,   /* 2 bytes of a length, so many bytes: a message of the reader's, forged */
    RAIL_TO_READER = 1,  /* the same of the owner's */
    RAIL_OWNER_SAYS = 2, /* what it has to say, to the reader */
    RAIL_READER_SAYS = 3, /* and the other way round */
    RAIL_TELL = 4,        /* 1 byte: a region */
    RAIL_GRANT = 5,       /* 1 byte: a lease */
    RAIL_REVOKE = 6,      /* 1 byte: a lease */
    RAIL_READ = 7,        /* 1 byte: a lease and region */
    RAIL_WRITE = 8,       /* 1 byte: the same */
    RAIL_PUMP = 9,
    RAIL_JUDGE = 10,    /* the reader asks whether it can be used: it calls anew if it broke */
    RAIL_FAIL = 11,     /* 2 bytes: after so much work one piece ends so */
    RAIL_STOP = 12,     /* 1 byte: a move */
    RAIL_HOLD = 13,     /* 1 byte: 0: let all go; else hold, and let so much go */
    RAIL_WITHDRAW = 14, /* 1 byte: a region; it is exposed again at once, at the same place */
    RAIL_HALT = 15,     /* the reader ends by force what moves */
    RAIL_NOTIFY = 16,   /* 1 byte: a notification of the reader's, of four times so many bytes */
    RAIL_SEND = 17, /* 1 byte of a length, so many bytes: a message by the reader's NIC, forged */
    RAIL_STEPS = 18,
};

enum { RAIL_REGIONS = 3, RAIL_LEASES = 4, RAIL_REGION_BYTES = 16384, RAIL_BLOCK_BYTES = 1024 };

#endif
