/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_PULLER_H
#define LEND_CORE_PULLER_H

#include "base/list.h"
#include "core/cursor.h"
#include "core/transport.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * The puller: helper threads that read the memory of other processes (process_vm_readv).
 *
 * Such a call can be put to sleep in the kernel for as long as the other side likes (userfaultfd,
 * FUSE): it ends when whoever could serve the page has done so or is gone, or with our own process;
 * the death of the process that is read is not enough. So no other thread ever makes one; a helper
 * reads into a buffer of its own and copies on from there, so that one that is stuck can be left
 * behind: whatever it reads some day goes nowhere.
 *
 * Each call reads a nonce as its last piece: 16 random bytes at an address that the owner named,
 * which are wiped in its forked children. The kernel takes the address space once a call, so the
 * nonce proves that every byte of the call came from the owner's, and not from a process that took
 * its number, or from the program that replaced it.
 */

enum {
    LEND_PULLER_HELPERS = 2, /* that work at one time, and at one pull */
    /* Helpers that may be stuck before cross-memory is refused: in all, and in one process. */
    LEND_PULLER_STUCK_MAX = 16,
    LEND_PULLER_STUCK_IN_ONE_MAX = 4,
};

/* One READ. The caller fills in what is above the line, and owns the struct; its own again once
 * done() was called, or lend_puller_cancel() has returned. What the cursors point to is the
 * caller's, and stays for as long. */
struct lend_pull {
    struct lend_process process;
    struct lend_cursor from;      /* addresses of that process */
    struct lend_cursor to;        /* ours; as many bytes */
    uint64_t total_bytes;         /* 0: a probe, which reads the nonce alone */
    const _Atomic uint64_t *word; /* of the lease: judged after every chunk; NULL in a probe */
    uint64_t generation;
    void (*done)(struct lend_pull *pull); /* by a helper, with no lock held */

    /* ---- */
    enum lend_status status; /* LEND_OK: all landed, under a live word; whether the owner lived is
                                for the caller to look at. LEND_E_REVOKED, ...: the word's cause.
                                LEND_E_PEER_DEAD: no such process, or another one. LEND_E_SYSTEM:
                                it could not be read, sys_errno says why. */
    int sys_errno;
    uint64_t proven_bytes; /* leading ones that landed under a live word */

    /* Under the puller's lock: */
    struct lend_list link; /* among those that wait for a helper */
    struct lend_list busy; /* of the helpers that are at it */
    uint32_t busy_count;
    uint64_t taken_bytes; /* of the stream, by helpers */
    uint64_t end_bytes;   /* where the first chunk begins that did not land */
    bool is_under_way;
    bool is_taken;    /* whole */
    bool is_ending;   /* it has failed; the last helper that leaves tells */
    bool is_canceled; /* nobody tells */
};

struct lend_puller {
    pthread_mutex_t lock;     /* a leaf */
    pthread_cond_t work;      /* something waits, or it is over */
    pthread_cond_t quiet;     /* a helper has come to the end of something */
    struct lend_list waiting; /* pulls that another helper may work at */
    struct lend_list helpers;
    struct lend_list ended; /* helpers to be joined */
    uint32_t helper_count;
    uint32_t idle_count;  /* those about to begin included */
    uint32_t stuck_count; /* left behind, and not yet back */
    bool is_watched;      /* an idle helper looks every now and then whether others are late */
    bool is_over;
};

void lend_puller_init(struct lend_puller *puller);
/* No pull is under way any more. Helpers that are stuck are left behind, and free what is theirs if
 * they ever come back. forked: there are no threads here, and memory is all there is to free. */
void lend_puller_fini(struct lend_puller *puller, bool forked);

/*
 * Begin. Threads are made when they are first needed, and end when they have had nothing to do for
 * a second. LEND_E_LIMIT: too many are stuck, in all or in this process; says in whose memory to
 * look. LEND_E_NO_MEMORY, LEND_E_SYSTEM: no thread, and none is there.
 */
enum lend_status lend_puller_submit(struct lend_puller *puller, struct lend_pull *pull,
                                    struct lend_error *error);

/*
 * Stop it: when this returns not one more byte lands, and done() is not called, and not running. It
 * waits for copies within our own memory at most, and for a done() that runs: so hold no lock that
 * done() takes, and do not call it from there. True: done() was not called before either; then
 * status is LEND_E_CANCELED, or what it had failed with, and proven_bytes counts. The pull must
 * have been submitted once.
 */
bool lend_puller_cancel(struct lend_puller *puller, struct lend_pull *pull);

/*
 * Read the nonce, on the calling thread, which it may put to sleep for good: is it the process, and
 * may we? LEND_E_ACCESS (with the remedy), LEND_E_PEER_DEAD, LEND_E_NO_PATH (the process of that
 * number is another one), LEND_E_UNSUPPORTED, LEND_E_SYSTEM. A pull of 0 bytes asks the same of a
 * helper.
 */
enum lend_status lend_process_probe(const struct lend_process *process, struct lend_error *error);

/* Say why the process could not be read: the errno of a pull or probe that was not LEND_OK, 0 for
 * another nonce. Returns what lend_process_probe() would. */
enum lend_status lend_process_explain(const struct lend_process *process, int sys_errno,
                                      struct lend_error *error);

#endif
