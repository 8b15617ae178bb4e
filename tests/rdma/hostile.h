/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_RDMA_HOSTILE_H
#define LEND_TESTS_RDMA_HOSTILE_H

#include "line.h"

#include <stdatomic.h>
#include <sys/types.h>

/*
 * A peer that was given keys, and keeps to nothing but what its provider and the owner's refuse.
 * hostile_flood() is what it does, on any queue pair, whoever has joined that: raw lines below, or
 * an agent of lend. The rest is a process of its own that does it at an owner's word.
 */

enum {
    HOSTILE_BYTES = 8 * LINE_PACKET, /* of each of its writes and reads */
    HOSTILE_BYTE = 0xBB,             /* what it writes */
    HOSTILE_OWNERS_BYTE = 0x5A, /* what an owner uses memory for afterwards; nobody's to read */
};

/* What it keeps. */
struct hostile_keys {
    uint64_t address;
    uint32_t key;
    uint32_t bytes; /* at most HOSTILE_BYTES */
};

/* What came of a flood, or of one try. */
struct hostile_report {
    uint32_t status;  /* the first completion that was not a success, or IBV_WC_SUCCESS */
    uint32_t done;    /* successes before it */
    uint32_t others;  /* work requests that were under way then */
    uint32_t early;   /* 1: it came before the owner had begun to revoke */
    uint32_t leaked;  /* bytes read that an owner had written afterwards */
    uint32_t is_done; /* 0: something went wrong that has nothing to do with keys; see stderr */
};

/*
 * Write or read as fast as the queue pair takes it, until something is refused, and on until
 * nothing is under way. begun is set when the owner begins to revoke. local has HOSTILE_BYTES.
 */
struct hostile_report hostile_flood(struct line *line, struct ibv_mr *local,
                                    const struct hostile_keys *keys, enum ibv_wr_opcode opcode,
                                    const atomic_uint *begun);

/* A hostile process, as its owner sees it. */
struct hostile {
    pid_t process;
    int channel;
    atomic_uint *begun; /* both see it */
    struct line line;   /* the owner's end */
    uint32_t number;    /* of the last packets */
};

/* Before the process of the test has opened a device: verbs do not like to be forked. */
void hostile_start(struct hostile *hostile, uint32_t device);
/* Give it the owner's end of a line. */
void hostile_meet(struct hostile *hostile, struct line_host *host);
/* A new connection, of new queue pairs. */
void hostile_join(struct hostile *hostile);
/* The same, but the owner's queue pair is the one before. */
void hostile_rejoin(struct hostile *hostile);
/* One write or read. */
struct hostile_report hostile_try(struct hostile *hostile, const struct hostile_keys *keys,
                                  enum ibv_wr_opcode opcode);
/* A flood begins; its end is awaited by hostile_end(). */
void hostile_begin(struct hostile *hostile, const struct hostile_keys *keys,
                   enum ibv_wr_opcode opcode);
struct hostile_report hostile_end(struct hostile *hostile);
void hostile_kill(struct hostile *hostile);
void hostile_stop(struct hostile *hostile);

#endif
