/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_PULLER_H
#define LEND_CORE_PULLER_H

#include "base/list.h"
#include "core/cursor.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * The puller: helper threads that read the memory of other processes (process_vm_readv).
 *
 * Such a call can be put to sleep in the kernel for as long as the other side likes (userfaultfd,
 * FUSE), and nothing but its own death ends it. So no other thread ever makes one; a helper reads
 * into a buffer of its own and copies on from there, so that one that is stuck can be left behind:
 * whatever it reads some day goes nowhere.
 *
 * Each call reads a nonce as its last piece: 16 random bytes at an address that the owner named,
 * which are wiped in its forked children. The kernel takes the address space once a call, so the
 * nonce proves that every byte of the call came from the owner's, and not from a process that took
 * its number, or from the program that replaced it.
 */

enum { LEND_NONCE_BYTES = 16 };

/* Whose memory to read. */
struct lend_process {
    int pid; /* in our name space */
    uint64_t nonce_address;
    uint8_t nonce[LEND_NONCE_BYTES];
};

/* One READ. The caller fills in what is above the line, and owns the struct; its own again once
 * done() was called, or lend_puller_cancel() has returned. */
struct lend_pull {
    struct lend_process process;
    struct lend_cursor from; /* addresses of that process */
    struct lend_cursor to;   /* ours; as many bytes */
    uint64_t total_bytes;
    const _Atomic uint64_t *word; /* of the lease: judged after every chunk */
    uint64_t generation;
    void (*done)(struct lend_pull *pull); /* by a helper, with no lock held */

    /* ---- */
    enum lend_status status; /* LEND_OK: all landed, under a live word; whether the owner lived is
                                for the caller to look at. LEND_E_REVOKED, ...: the word's cause.
                                LEND_E_PEER_DEAD: no such process, or another one. LEND_E_SYSTEM:
                                it could not be read, sys_errno says why. */
    int sys_errno;
    uint64_t proven_bytes; /* leading ones that landed under a live word */
    struct lend_list link; /* among those that wait for a helper */
    struct lend_list busy; /* of the helpers that are at it */
    bool is_ending;        /* it has failed; the last helper that leaves tells */
    uint64_t taken_bytes;  /* of the stream, by helpers */
};

struct lend_puller {
    pthread_mutex_t lock; /* a leaf */
    pthread_cond_t work;
    struct lend_list waiting;
    struct lend_list helpers;
    uint32_t helper_count;
    uint32_t idle_count;
    uint32_t stuck_count; /* left behind, and not yet back */
    bool is_over;
};

/* Helpers that work at one time, and that may be stuck before cross-memory is refused. */
enum { LEND_PULLER_HELPERS = 2, LEND_PULLER_STUCK_MAX = 16 };

void lend_puller_init(struct lend_puller *puller);
/* No pull is under way any more. Helpers that are stuck are left behind, and free what is theirs if
 * they ever come back. forked: there are no threads here. */
void lend_puller_fini(struct lend_puller *puller, bool forked);

/* Begin. Threads are made when they are first needed. LEND_E_LIMIT: LEND_PULLER_STUCK_MAX are stuck
 * (says in whose memory to look). LEND_E_NO_MEMORY, LEND_E_SYSTEM: no thread, and none is there. */
enum lend_status lend_puller_submit(struct lend_puller *puller, struct lend_pull *pull,
                                    struct lend_error *error);

/* Stop it: when this returns not one more byte lands, and done() is not called, and not running. It
 * waits for copies within our own memory at most. True: done() was not called before either. */
bool lend_puller_cancel(struct lend_puller *puller, struct lend_pull *pull);

/* Read the nonce, on the calling thread: is it the process, and may we? LEND_E_ACCESS (with the
 * remedy), LEND_E_PEER_DEAD, LEND_E_SYSTEM. For a helper thread alone. */
enum lend_status lend_process_probe(const struct lend_process *process, struct lend_error *error);

#endif
