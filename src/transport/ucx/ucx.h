/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_UCX_UCX_H
#define LEND_TRANSPORT_UCX_UCX_H

#include "base/list.h"
#include "core/transport.h"
#include "transport/ucx/door.h"
#include "transport/ucx/message.h"

#include <pthread.h>

/*
 * Agents reach each other through UCX: one worker an agent, one endpoint (a *link*) for each agent
 * that it talks to, as client, server, or both, and any number of channels over a link.
 *
 * A link is made by whoever opens a channel first, and lives until one of the two workers does not.
 * It is shared because UCX pairs the endpoints of two workers as they come: of two that connect to
 * each other at one time, either's channels would end with the other's.
 *
 * Callbacks of UCX come from inside its functions, under our lock and perhaps a session's. They
 * queue, and wake a session; what is to be told or closed is left to the poller, whose bell they
 * ring.
 *
 * Locks: session > this transport's > what lend_session_wake() takes.
 */

extern const struct lend_transport_ops lend_transport_ucx;

enum {
    LEND_UCX_BUCKETS = 64,
    LEND_UCX_SMALL_BYTES = 1024,
    /* Payload of a frame: with all headers it fits UCX's buffers of 64 KiB, and what does not is
     * cut into pieces of 8 KiB by its tcp. */
    LEND_UCX_PAYLOAD_MAX = 60 << 10,
};

/* Frames of a READ go by rendezvous from that many bytes on; 0: as the devices want it. For tests.
 */
extern size_t lend_ucx_rendezvous_bytes;

struct lend_ucx_transport {
    struct lend_watch watch; /* of the worker's descriptor */
    struct lend_watch bell;  /* of an eventfd: there is something to tell */
    struct lend_agent *agent;
    struct lend_ucx_ops door;
    uint64_t window_bytes; /* that a channel's peer may send before it hears of `taken` */
    size_t rendezvous_bytes;
    bool may_use_tcp;     /* UCX's */
    uint64_t patience_ns; /* with a peer that says nothing, though something was sent to it */
    uint64_t doubt_ns;    /* that a peer has to say which of two links is its own */
    uint64_t alarm_ns;    /* when it comes; 0: it is not set; the poller's */
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint8_t address[LEND_METADATA_ADDRESS_MAX]; /* ours, as peers are told */
    size_t address_bytes;

    pthread_mutex_t lock; /* guards the worker, and all that follows */
    void *context;
    void *worker;
    bool is_watched;          /* the worker's descriptor, by the poller: */
    uint32_t awake_count;     /* needless while any channel is awake, as its session looks itself */
    struct lend_list links;   /* that can be used */
    struct lend_list broken;  /* that are to be closed */
    struct lend_list closing; /* that are being closed */
    struct lend_list channels[LEND_UCX_BUCKETS]; /* by number */
    struct lend_list arrivals;                   /* opens to be answered */
    uint32_t arrival_count;
    struct lend_list hung; /* channels whose end is to be told */
    struct lend_list spare_small;
    struct lend_list spare_large;
    uint32_t spare_large_count;
    struct lend_list spare_frames;
};

/* An endpoint, and what goes over it. */
struct lend_ucx_link {
    struct lend_list link; /* in one of the transport's three lists */
    struct lend_ucx_transport *transport;
    void *endpoint;       /* NULL: closed */
    uint64_t number;      /* random */
    uint64_t peer_number; /* 0: not known yet */
    struct lend_list channels;
    uint32_t pending; /* operations whose callback is to come, */
    uint64_t unsent;  /* and what of them are messages, as costs */
    bool is_broken;
    bool is_strange; /* a message that anybody can write named it, and nothing has come since that
                        only who has our answers can write */
    bool was_unused; /* strange, and without a channel, when it was looked at last */
    bool owes_pong;
    uint64_t owed;                    /* what the PONG repeats */
    struct lend_ucx_arrival *doubted; /* who names another end of it, until there is a PONG */
    uint64_t doubted_ns;
    uint64_t asked;      /* what that must say */
    uint64_t heard_ns;   /* when something last came */
    uint64_t unheard_ns; /* when something was sent that nothing was heard after; 0: none was */
    struct lend_error why;
    size_t address_bytes;
    uint8_t address[LEND_UCX_ADDRESS_MAX]; /* of the peer's worker, as UCX has it */
};

/* A message that is on its way out; it lies still until UCX says that it is done with it. */
struct lend_ucx_send {
    struct lend_list spare;
    struct lend_ucx_link *link;
    bool is_large;
    uint64_t cost;
    uint8_t header[LEND_UCX_HEADER_BYTES];
    uint8_t bytes[];
};

/* Bytes that UCX reads from, or writes to, lent memory by itself. */
struct lend_ucx_move {
    struct lend_list link; /* in lend_ucx_channel::moves, in the order in which they were begun */
    struct lend_ucx_link *over;
    struct lend_ucx_channel *channel; /* NULL: it is closed, and this was not to be stopped */
    bool is_done;
    uint64_t cost; /* of a receive: what it will have taken */
    /* It lands in memory of ours, to become what the frame has: */
    void *buffer;                 /* NULL: it does not */
    struct lend_ucx_frame *frame; /* NULL: nobody wants it any more */
    size_t bytes;
    uint8_t header[LEND_UCX_HEADER_BYTES];
    uint32_t piece_count;
    struct iovec pieces[];
};

/* A frame that has arrived, in UCX's memory. */
struct lend_ucx_frame {
    struct lend_list link; /* in lend_ucx_channel::frames */
    uint64_t position;
    bool is_close; /* it is none: no other comes after it */
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    void *data;                  /* UCX's; NULL for length 0 */
    bool is_rendezvous;          /* the peer still has it, and data names it */
    bool is_copy;                /* data is ours */
    struct lend_ucx_move *fetch; /* a move that brings us data; NULL: none is under way */
    size_t length;
};

/* Somebody wants a channel. */
struct lend_ucx_arrival {
    struct lend_list link;
    struct lend_ucx_greeting greeting;
    size_t address_bytes;
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
};

/* All of it, but for base, under the transport's lock. */
struct lend_ucx_channel {
    struct lend_channel base;
    struct lend_ucx_transport *transport;
    struct lend_ucx_link *link;
    struct lend_list in_link;
    struct lend_list in_table;
    struct lend_list mail; /* in lend_ucx_transport::hung */
    uint64_t number;
    uint64_t peer_number;     /* 0: not accepted yet */
    struct lend_error hung;   /* status LEND_OK: it is not */
    struct lend_error breach; /* of the peer's; status LEND_OK: none */
    bool is_asleep;
    bool is_server;
    struct lend_list moves; /* that were begun and are not counted as settled */
    uint32_t asked_count;   /* requests that the peer has not ended yet */

    uint64_t next_position;      /* of what is sent */
    struct lend_ucx_send *batch; /* small frames, with their headers, that leave with flush(); */
    size_t batch_bytes;
    uint32_t batch_count;  /* NULL, and 0: none */
    uint64_t sent;         /* costs, summed up */
    uint64_t sent_taken;   /* of them, what the peer has taken */
    uint64_t window_bytes; /* the peer's */

    struct lend_list frames; /* that have arrived, by position, */
    uint32_t frame_count;    /* and how many these are */
    uint64_t due_position;   /* of the next to be taken */
    bool is_ending;          /* its last one is among them, and costs nothing */
    uint64_t arrived;        /* costs, summed up */
    uint64_t taken;
    uint64_t told;     /* of taken, what the peer was told */
    size_t data_taken; /* of the DATA frame at hand */
};

static inline void lend_ucx_lock(struct lend_ucx_transport *transport)
{
    (void)pthread_mutex_lock(&transport->lock);
}

static inline void lend_ucx_unlock(struct lend_ucx_transport *transport)
{
    (void)pthread_mutex_unlock(&transport->lock);
}

/* --- ucx.c; under the lock --- */

/* Have the poller tell what is to be told. */
void lend_ucx_ring(struct lend_ucx_transport *transport);
/* Have the poller watch the worker's descriptor, or not. */
void lend_ucx_watch(struct lend_ucx_transport *transport, bool is_wanted);
/* Let UCX work: one round, and false if there was nothing to do; or a while. */
bool lend_ucx_progress_once(struct lend_ucx_transport *transport);
void lend_ucx_progress(struct lend_ucx_transport *transport);
/* The same, and see that the worker's descriptor tells of what comes. False: there is more to do
 * already. */
bool lend_ucx_arm(struct lend_ucx_transport *transport);

/* --- link.c; under the lock --- */

/* The link to that agent, made if there is none. LEND_E_NO_PATH, LEND_E_NO_MEMORY. */
enum lend_status lend_ucx_link_get(struct lend_ucx_transport *transport,
                                   const struct lend_ucx_address *address,
                                   struct lend_ucx_link **out, struct lend_error *error);
/* The link to that worker: whoever names another agent as itself has a link of its own, and whoever
 * names another's worker shares that one's. NULL: none. */
struct lend_ucx_link *lend_ucx_link_find(struct lend_ucx_transport *transport,
                                         const struct lend_ucx_address *address);
/* It is of no use any more: its channels hang up, and the poller closes it. */
void lend_ucx_link_break(struct lend_ucx_link *link, enum lend_status status, const char *reason);
/* Close it now: what goes on over it is over soon, and UCX says so. */
void lend_ucx_link_close(struct lend_ucx_link *link);
/* Free what nothing goes on over any more, or what is a forked child's copy. */
void lend_ucx_link_free(struct lend_ucx_link *link);
/* Close what is broken, and free what is closed. In the poller's turn. */
void lend_ucx_links_tidy(struct lend_ucx_transport *transport);
/* At the end, with no channel left: let what was sent go out, for a while, then close all. */
void lend_ucx_links_close(struct lend_ucx_transport *transport);

/* A message to be filled in, with room for count bytes; NULL: no memory, and the link is broken. */
struct lend_ucx_send *lend_ucx_send_take(struct lend_ucx_link *link, size_t count);
/* Send it, with the first count of its bytes as payload. It is not the caller's any more. */
void lend_ucx_send(struct lend_ucx_send *send, const struct lend_ucx_message *message,
                   size_t count);
/* Send a message of those bytes, at most LEND_UCX_SMALL_BYTES. */
void lend_ucx_send_bytes(struct lend_ucx_link *link, const struct lend_ucx_message *message,
                         const void *bytes, size_t count);

/* Something is about to be sent over it, to which an answer may be expected; something was heard.
 */
void lend_ucx_link_expect(struct lend_ucx_link *link);
void lend_ucx_link_heard(struct lend_ucx_link *link);
/* A message that is about a link, by the number that we gave it. */
void lend_ucx_links_take(struct lend_ucx_transport *transport,
                         const struct lend_ucx_message *message);
/* Somebody asks for a channel as from where that link goes, but names another end of it. One of the
 * two is not there any more, or never was: ask. True: the arrival is kept until that is known;
 * false: one is already. */
bool lend_ucx_link_doubt(struct lend_ucx_link *link, struct lend_ucx_arrival *arrival);
/* A message that anybody can write is to make one more: is there place? */
bool lend_ucx_links_have_place(struct lend_ucx_transport *transport);
/* The peer has said its number, in an answer that only it can give. */
void lend_ucx_link_learn(struct lend_ucx_link *link, uint64_t number);
/* When the first doubt is to end; UINT64_MAX: there is none. */
uint64_t lend_ucx_links_doubt_until(const struct lend_ucx_transport *transport);
/* Answer those who asked whether we are there; ask those who are silent, and give them up in the
 * end. */
void lend_ucx_links_answer(struct lend_ucx_transport *transport);
void lend_ucx_links_look(struct lend_ucx_transport *transport);

/* A message of that cost is on its way, and has left. */
void lend_ucx_link_owes(struct lend_ucx_link *link, uint64_t cost);
void lend_ucx_link_has_sent(struct lend_ucx_link *link, uint64_t cost);
/* Is enough on its way? Whatever the peer says that it has taken. */
bool lend_ucx_link_is_full(const struct lend_ucx_link *link);
/* Break the link because of what UCX says. */
void lend_ucx_link_break_with(struct lend_ucx_link *link, lend_ucx_status status);

/* --- devices.c --- */

/* May UCX use its tcp for those devices? */
bool lend_ucx_may_use_tcp(const struct lend_transport_open *open);
/* LEND_E_INVALID: one that is named is not there. */
enum lend_status lend_ucx_check_devices(const struct lend_transport_open *open,
                                        struct lend_error *error);

/* --- move.c; under the lock --- */

/* Send the next count bytes of the cursor from where they lie. False: they lie in too many pieces,
 * or there is no memory to say in which; the cursor stays. */
bool lend_ucx_move_out(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                       struct lend_cursor *from, size_t count);
/* Fetch a frame of rendezvous to a buffer, which the frame has when that is over; begun once. */
void lend_ucx_move_fetch(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame);
/* Receive one to where the cursor's next bytes lie. UCX's data is not ours any more. */
void lend_ucx_move_in(struct lend_ucx_channel *channel, void *data, struct lend_cursor *to,
                      size_t count);
/* Count the moves that are over. */
void lend_ucx_moves_settle(struct lend_ucx_channel *channel);
/* Is one over that was not counted yet? */
bool lend_ucx_moves_have_news(const struct lend_ucx_channel *channel);
/* See that none goes on. Those that do still are UCX's for ever. */
void lend_ucx_moves_halt(struct lend_ucx_channel *channel);

/* --- channel.c --- */

/* A channel over that link, in the table; NULL: no memory, or no random number. Under the lock. */
struct lend_ucx_channel *lend_ucx_channel_create(struct lend_ucx_link *link);
/* Without a word to the peer. Under the lock, but `forked`. */
void lend_ucx_channel_free(struct lend_ucx_channel *channel, bool forked);
/* The channel of that number; NULL: none. Under the lock. */
struct lend_ucx_channel *lend_ucx_channel_find(struct lend_ucx_transport *transport,
                                               uint64_t number);
/* Its end has come: the poller shall tell. The first reason counts. Under the lock. */
void lend_ucx_channel_hang_up(struct lend_ucx_channel *channel, enum lend_status status,
                              const char *reason);
/* A message for it has come, data being UCX's. True: data is kept. Under the lock. */
bool lend_ucx_channel_take(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                           void *data, size_t length, bool is_rendezvous);
/* There is something for its session to see. Under the lock. */
void lend_ucx_channel_wake(struct lend_ucx_channel *channel);
/* How others are told of it. Under the lock. */
struct lend_ucx_greeting lend_ucx_channel_greet(const struct lend_ucx_channel *channel);

void lend_ucx_close_channel(struct lend_channel *base, bool forked);
size_t lend_ucx_room(struct lend_channel *base);
void lend_ucx_send_frame(struct lend_channel *base, const uint8_t *header, const void *payload,
                         size_t count);
void lend_ucx_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                        size_t count);
void lend_ucx_flush(struct lend_channel *base);
void lend_ucx_halt(struct lend_channel *base);
enum lend_status lend_ucx_peek(struct lend_channel *base, uint8_t *header,
                               struct lend_error *error);
enum lend_status lend_ucx_take(struct lend_channel *base, void *payload, size_t count,
                               struct lend_error *error);
size_t lend_ucx_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                          size_t total);
bool lend_ucx_sleep(struct lend_channel *base, bool wants_room, size_t wanted);
void lend_ucx_awake(struct lend_channel *base);

#endif
