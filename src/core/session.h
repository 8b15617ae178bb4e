/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SESSION_H
#define LEND_CORE_SESSION_H

#include "core/agent.h"
#include "core/guard.h"

/*
 * A session: one channel, and what the two agents at its ends say over it. The agent that connected
 * is its client: it asks, and it notifies. The other one serves. Each role has a file of its own
 * (client.c, server.c); what both do is here.
 */

struct lend_session_role;
struct lend_stage;

/* How long whatever ends waits for moves of its transport to settle; then they are halted. */
#define LEND_SETTLE_NS UINT64_C(500000000)

struct lend_session {
    struct lend_agent *agent;
    struct lend_channel *channel;         /* NULL once it is closed */
    const struct lend_session_role *role; /* client or server */
    _Atomic uint32_t references;
    struct lend_list link; /* in lend_agent::sessions */
    struct lend_list hot_link;
    bool is_hot;              /* hot_lock */
    bool is_closed;           /* hot_lock: never to be hot again */
    _Atomic bool is_woken;    /* since its last step */
    _Atomic uint32_t helpers; /* threads that step it while they wait */
    _Atomic uint32_t callers; /* that want its lock, for one thing each */

    struct lend_list polled_link;
    _Atomic bool is_polled; /* hot_lock: callers step it as they poll, and the poller does not */
    _Atomic uint64_t polled_ns;  /* when one did last, */
    _Atomic uint64_t row_ns;     /* since when they do, one soon after the other, */
    _Atomic uint64_t tended_ns;  /* when one of these stepped it last, */
    _Atomic uint64_t stirred_ns; /* and when that moved anything, or the row began */

    pthread_mutex_t lock; /* guards all below */
    uint64_t sent_sequence;
    uint64_t due_sequence;
    struct lend_guard guard;
    struct lend_frame frame; /* the one that is being taken */
    bool has_frame;
    size_t frame_left;       /* of its data */
    _Atomic bool is_welcome; /* the greeting is over; set under the lock */
    size_t wanted_room; /* what there is to send next found no room for that much; 0: all is sent */
    bool is_posting;    /* the pump is that of a post, which is to copy little */
    bool pump_moved;    /* the last pump sent something, so there may be more to send */
    bool is_asleep;     /* the channel was told so, and not yet that it is up again */
    uint64_t greet_until_ns;    /* the greeting must be over by then */
    struct lend_channel *spent; /* led nowhere: to be closed, and another one begun */
    _Atomic bool is_adrift;     /* there is such a one; set under the lock */
    struct lend_stage *stage;   /* for memory of GPUs; NULL: none was needed yet */
    struct lend_rail *rail;     /* beside the channel; NULL: none */
    bool rail_is_begun;         /* client: it was looked whether there is to be one, */
    _Atomic bool rail_is_known; /* and whether it can be used; set under the lock */
    struct lend_error why;      /* of the death */
    _Atomic bool is_dead;       /* set under the lock */

    pthread_mutex_t hung_lock; /* a leaf: the transport says that the other end is gone */
    struct lend_error hung;    /* status LEND_OK: it is not */
    _Atomic bool is_hung;      /* it is; never taken back */
};

/* What a role does. All under the session's lock. */
struct lend_session_role {
    size_t bytes; /* of its struct, which begins with a lend_session */
    bool is_client;

    /* A control frame, payload checked. A failure breaks the session. */
    enum lend_status (*control)(struct lend_session *session, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error);

    /* A notification has come by the rail. NULL: nobody sends us any. */
    enum lend_status (*notified)(struct lend_session *session, uint64_t number, const void *bytes,
                                 size_t count, struct lend_error *error);

    /* Bytes of a DATA frame are at hand: take at most count of them to where they belong. total is
     * the frame's length. Returns how many were taken. */
    enum lend_status (*data)(struct lend_session *session, size_t count, size_t *out_taken,
                             struct lend_error *error);

    /* Send what there is to send. True if anything was. */
    bool (*pump)(struct lend_session *session);

    /* Run out what is over; the time to look again, UINT64_MAX for never. */
    uint64_t (*timers)(struct lend_session *session, uint64_t now_ns);

    /* The session has died of session->why: let go of everything. */
    void (*die)(struct lend_session *session);

    /* Before the greeting is over, the channel has failed for that reason: is there another to try?
     * NULL: never. */
    bool (*diverts)(struct lend_session *session, const struct lend_error *why);
    /* Then begin it: the session has no channel. In the poller's turn, and not under the lock.
     * NULL, and the session's end is told to it, if none can be begun. */
    struct lend_channel *(*divert)(struct lend_session *session, struct lend_error *error);

    /* It is off the agent's list and its channel is closed. Under no lock, in the poller's turn. */
    void (*buried)(struct lend_session *session);

    /* The last reference is gone. Under no lock. */
    void (*fini)(struct lend_session *session);
};

/* A session of that role, held to that secret, which outlives it, with one reference for the
 * agent's list; NULL: no memory. */
struct lend_session *lend_session_create(struct lend_agent *agent,
                                         const struct lend_session_role *role,
                                         const struct lend_secret *secret);
/* Over that channel, which was dialled, say what the role says first, and go on the agent's list,
 * which takes the reference; the caller has one more. */
void lend_session_begin(struct lend_session *session, struct lend_channel *channel);
void lend_session_retain(struct lend_session *session);
void lend_session_release(struct lend_session *session);

/* Join a session for as long as a thread waits: it steps the session itself, and the poller does
 * not. */
void lend_session_join(struct lend_session *session);
void lend_session_leave(struct lend_session *session);

/* Step it until that is over, or the time is, or nothing has moved for as long as progress spins.
 */
void lend_session_help(struct lend_session *session, uint64_t until_ns,
                       bool (*is_over)(void *subject), void *subject);

/* A caller looks how something of it is, and waits for nothing. Callers that look again and again
 * step it themselves, and the poller only when they have stopped. */
void lend_session_poll(struct lend_session *session);

/* It is never to be hot again. In the poller's turn, or at the agent's end. */
void lend_session_close_hot(struct lend_session *session);

/* Take what arrived and send what can be. True if anything moved. Takes the lock, or, unless
 * may_wait, leaves it to whoever has it. */
bool lend_session_step(struct lend_session *session, bool may_wait);

/* The lock, for a call of the application: those who step the session, again and again, let it go
 * before them. */
void lend_session_lock(struct lend_session *session);

/* Put it to sleep: whoever has something for it will wake it. False if there is something already.
 */
bool lend_session_sleep(struct lend_session *session);

/* Payload bytes that a frame could carry now. */
size_t lend_session_room(struct lend_session *session);

/* Payload bytes that a control frame may have: a MAC, where there is one, takes its part. */
size_t lend_session_message_max(const struct lend_session *session);
/* Send a frame, if there is room: false if not. */
bool lend_session_send(struct lend_session *session, enum lend_frame_type type, uint64_t request,
                       const void *payload, size_t count);
/* Send the next count bytes of a cursor, for which there is room. */
void lend_session_send_data(struct lend_session *session, uint64_t request,
                            struct lend_cursor *from, size_t count);
/* Send bytes, for which there is room; they are a copy's from then on. */
void lend_session_send_copy(struct lend_session *session, uint64_t request, const void *bytes,
                            size_t count);

/* See that the channel moves no byte of ours any more, by force if need be; no frame comes or goes
 * after that, if there were any such. False: something goes on for ever. Under the lock. */
bool lend_session_halt(struct lend_session *session);

/* The end: for that reason. Under the lock. */
void lend_session_die(struct lend_session *session, enum lend_status status, const char *format,
                      ...) __attribute__((format(printf, 3, 4)));
/* Send a BYE with the reason, if there is room, then die of it. */
void lend_session_bye(struct lend_session *session, const struct lend_error *why);

/* Send what can be sent at once; publish it. Under the lock. */
bool lend_session_pump(struct lend_session *session);

/* In the poller's turn: close the channels of the dead, and drop them; give those another channel
 * who want one. */
void lend_sessions_reap(struct lend_agent *agent);
/* In the poller's turn: run out deadlines; the time to look again. */
uint64_t lend_sessions_timers(struct lend_agent *agent, uint64_t now_ns);
/* At the agent's end. */
void lend_sessions_fini(struct lend_agent *agent, bool forked);

#endif
