/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_POLLER_H
#define LEND_CORE_POLLER_H

#include "base/list.h"
#include "base/sys.h"
#include "core/transport.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * The poller: what makes progress. It waits for descriptors, steps the sessions that are hot, runs
 * out deadlines, and reaps what is dead. One thread at a time has its turn: the agent's own, or
 * whoever calls lend_agent_progress().
 */

/* One alarm a transport. */
struct lend_alarm {
    uint64_t at_ns; /* 0: none */
    void (*expired)(void *transport);
    void *transport;
};

enum { LEND_ALARMS_MAX = 16 };

struct lend_poller {
    struct lend_agent *agent;
    int epoll_fd;
    int kick_fd; /* an eventfd that wakes the poller */
    struct lend_watch kick_watch;
    bool has_thread;
    pthread_t thread;

    pthread_mutex_t turn; /* whose turn it is; guards the alarms and the graveyard */
    struct lend_alarm alarms[LEND_ALARMS_MAX];
    uint64_t moved_ns;                  /* when something last moved, */
    uint64_t spin_ns;                   /* and for how long we look again then */
    bool has_processors;                /* more than one */
    _Atomic uint64_t no_yield_until_ns; /* see lend_poller_give_way() */
    uint32_t passes_since_look;
    uint64_t passed_ns;        /* when the last pass was over, */
    uint64_t looked_ns;        /* and the last look at the descriptors */
    struct epoll_event *batch; /* the events that are being told */
    int batch_count;

    pthread_mutex_t hot_lock; /* a leaf */
    struct lend_list hot;
    _Atomic uint32_t hot_count; /* of them; changed under the lock */

    /* Sessions that callers poll: none without a thread, which sees to those that are polled no
     * more when the timer ends. */
    struct lend_list polled; /* hot_lock */
    struct lend_watch timer_watch;
    _Atomic uint64_t timer_due_ns; /* when it ends at the latest; 0: it is not set */
    _Atomic bool is_relied_on;     /* see lend_poller_rely() */

    _Atomic bool is_asleep; /* in epoll_wait, or about to */
    _Atomic bool stop;
    _Atomic bool has_dead;        /* sessions to reap */
    _Atomic uint64_t timer_at_ns; /* when timers are next to be looked at; UINT64_MAX: never */
};

enum lend_status lend_poller_init(struct lend_poller *poller, struct lend_agent *agent,
                                  struct lend_error *error);
enum lend_status lend_poller_start(struct lend_poller *poller, struct lend_error *error);
/* End the thread. Half-made pollers are fine. */
void lend_poller_stop(struct lend_poller *poller);
void lend_poller_fini(struct lend_poller *poller);

/* Make progress for at most timeout_ns, until something moved. True if it did. Takes a turn, or
 * leaves it to whoever has it. Tells the application what was queued for it. */
bool lend_poller_progress(struct lend_poller *poller, uint64_t timeout_ns);

/* Are we its thread? Then we are in a callback. */
bool lend_poller_is_ours(const struct lend_poller *poller);
bool lend_poller_is_stopping(struct lend_poller *poller);

/* Put every hot session to sleep. False if one has work, or a timer is due. */
bool lend_poller_arm(struct lend_poller *poller);

/* See that timers are looked at by then. Any lock may be held. */
void lend_poller_timer(struct lend_poller *poller, uint64_t at_ns);

/* A caller is about to wait: what others, or it, polled until now is the poller's again. */
void lend_poller_reclaim(struct lend_poller *poller);

/* The application waits for the agent's descriptor, however often it looks in between: no session
 * is left to callers that poll, from now on. */
void lend_poller_rely(struct lend_poller *poller);

/* Wake the poller if it sleeps. Any lock may be held. */
void lend_poller_kick(struct lend_poller *poller);

/*
 * In a spin that has seen nothing for idle_ns: the peer may have no processor but ours, so let it
 * run. Where somebody else takes the processor for long, it is not done again for a while: then it
 * is better to sleep, because who is woken gets the processor soon.
 */
void lend_poller_give_way(struct lend_poller *poller, uint64_t now_ns, uint64_t idle_ns);

#endif
