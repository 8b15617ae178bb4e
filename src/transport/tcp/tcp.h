/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_TCP_H
#define LEND_TRANSPORT_TCP_H

#include "base/list.h"
#include "core/transport.h"

#include <stdatomic.h>

#include <netinet/in.h>
#include <sys/socket.h>

/*
 * Transport `tcp`: two processes of any two machines, over plain sockets.
 *
 * A connection is a stream of frames each way, behind a preamble of its own:
 *
 *     client: connect --- preamble {magic, version}, first frame ---> server
 *     client: <---------- preamble {magic, version}, frames --------- server
 *     either: <---------- frames ----------------------------------> either
 *
 * The server says nothing until the first frame is there whole, and keeps a stranger's connection
 * among few until then: who knows nothing of lend gets nothing, and costs little.
 *
 * Data goes from the lent memory to the socket, and from the socket to its destination, with no
 * stop between: sendmsg() and recvmsg() with the pieces themselves. What the socket does not take
 * at once is copied aside before the call returns, because the lease is pinned only so long; the
 * next frame waits until that is sent. So what a slow reader can make an owner hold is one such
 * buffer, and the kernel's.
 *
 * A session that is awake looks at its socket by itself. One that sleeps has it watched, for one
 * event (EPOLLONESHOT).
 *
 * place.c:   where agents listen: texts and addresses
 * connect.c: how a connection comes to be, and the options of its socket
 * channel.c: frames in the stream, hang-up
 * tcp.c:     the transport: listening, half-open connections, the table
 */

enum {
    LEND_TCP_PLACES_MAX = 8,
    LEND_TCP_TEXT_BYTES = 64, /* "[IPV6]:PORT", and its NUL */
    LEND_TCP_ADDRESS_MAX = 2 + LEND_TCP_PLACES_MAX * 19,
    LEND_TCP_HALF_OPEN_MAX = 64,

    LEND_TCP_PREAMBLE_BYTES = 8,
    LEND_TCP_FIRST_MAX = 1024, /* payload of a client's first frame */
    LEND_TCP_FIRST_BYTES = LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES + LEND_TCP_FIRST_MAX,

    LEND_TCP_AHEAD_BYTES = 8192,  /* read beyond what is waited for: small frames come together */
    LEND_TCP_TAIL_BYTES = 128,    /* read behind data: the next header, or a whole small frame */
    LEND_TCP_SMALL_BYTES = 8192,  /* data that is copied, and leaves with what is said behind it */
    LEND_TCP_PIECES_MAX = 256,    /* of one system call */
    LEND_TCP_CHUNK_BYTES = 65536, /* of data in a frame that we send: it stays in the cache, and
                                     what is small waits for no more. Peers may send longer ones */

    LEND_TCP_IN_BYTES = LEND_FRAME_HEADER_BYTES + LEND_FRAME_CONTROL_MAX + LEND_TCP_AHEAD_BYTES,
    LEND_TCP_OUT_BYTES = 16384 + LEND_FRAME_HEADER_BYTES + LEND_FRAME_DATA_MAX,
};

/* One end of TCP. */
struct lend_tcp_place {
    bool is_v6;
    uint16_t port; /* 0: any */
    uint8_t bytes[16];
};
struct lend_tcp_places {
    uint32_t count;
    struct lend_tcp_place places[LEND_TCP_PLACES_MAX];
};

struct lend_tcp {
    struct lend_agent *agent;
    struct lend_watch listener;  /* fd -1: we listen nowhere */
    struct lend_tcp_places told; /* where peers are told that we are */
    uint64_t connect_timeout_ns;
    uint64_t patience_ns; /* with a peer that answers nothing, or takes nothing */

    /* All of these are the poller's. */
    struct lend_list half_open; /* oldest first */
    uint32_t half_open_count;
    uint64_t resume_ns;       /* when to listen again, after descriptors ran out; 0: we do */
    uint64_t warned_ns;       /* when the last warning was told, */
    uint32_t warnings_untold; /* and how many were not since */
};

/* Bytes that have come, and are not taken; or that are to leave. */
struct lend_tcp_buffer {
    uint8_t *bytes;
    uint32_t first; /* of those that are there, */
    uint32_t end;   /* and behind the last */
};

/* A connection. */
struct lend_tcp_channel {
    struct lend_channel base; /* first: core knows us by it */
    struct lend_tcp *tcp;
    struct lend_watch socket;
    _Atomic bool is_ready; /* it is connected. Release and acquire: with the descriptor. */
    /* What the socket is watched for. Set by who puts the session to sleep, cleared by the poller:
     * in doubt it is watched for nothing. */
    _Atomic uint32_t watched;

    /* The poller's, until it is ready. */
    struct lend_tcp_places places; /* client: where the server may be, */
    uint32_t place;                /* and where we are trying */
    struct lend_list half_open;    /* server: in lend_tcp's list until its first frame is there */
    uint64_t deadline_ns;

    /* The session's. */
    struct lend_tcp_buffer in;
    struct lend_tcp_buffer out;
    bool is_blocked;    /* the socket takes no more, until `out` is empty */
    bool is_deaf;       /* the peer takes nothing any more: what is sent is dropped */
    bool is_over;       /* nothing more comes */
    bool owes_preamble; /* client: the server's has not come yet */
    bool is_peeked;     /* the frame whose header this is has not been taken whole */
    uint32_t payload_bytes;
    uint32_t taken_bytes; /* of its payload */
    uint8_t header[LEND_FRAME_HEADER_BYTES];
};

/* What a preamble says. */
enum lend_tcp_preamble {
    LEND_TCP_IS_OURS,
    LEND_TCP_IS_OTHER_VERSION,
    LEND_TCP_IS_STRANGE,
};

/* place.c */
/* "ADDRESS", "ADDRESS:PORT", "[IPV6]", "[IPV6]:PORT"; without a port it is 0. */
bool lend_tcp_place_parse(struct lend_tcp_place *out, const char *text);
void lend_tcp_place_text(const struct lend_tcp_place *place, char *text);
bool lend_tcp_place_is_wildcard(const struct lend_tcp_place *place);
/* Of another family: false. */
bool lend_tcp_place_of(struct lend_tcp_place *out, const struct sockaddr_storage *from);
socklen_t lend_tcp_place_socket(const struct lend_tcp_place *place, struct sockaddr_storage *out);
/* Where peers reach who listens there. */
enum lend_status lend_tcp_places_find(struct lend_tcp_places *out,
                                      const struct lend_tcp_place *listens, const char *advertise,
                                      struct lend_error *error);
size_t lend_tcp_places_encode(const struct lend_tcp_places *places, uint8_t *bytes);
/* False for anything that no agent of this version exports. */
bool lend_tcp_places_decode(struct lend_tcp_places *out, const uint8_t *bytes, size_t count);
/* The other end of a connection, for messages. */
void lend_tcp_peer_text(int fd, char *text);

/* connect.c */
/* Make a socket for one end or for listening, with its options. */
enum lend_status lend_tcp_socket(bool is_v6, int *out, struct lend_error *error);
/* Options of a connection; the kernel is to give up on a peer that answers nothing for that long.
 */
enum lend_status lend_tcp_tune(int fd, uint64_t timeout_ns, struct lend_error *error);
/* Client: begin to connect, with the first of the places. */
enum lend_status lend_tcp_call(struct lend_tcp_channel *channel, struct lend_error *error);
void lend_tcp_preamble_encode(uint8_t *bytes);
enum lend_tcp_preamble lend_tcp_preamble_decode(const uint8_t *bytes, uint16_t *out_version);

/* channel.c */
struct lend_tcp_channel *lend_tcp_channel_create(struct lend_tcp *tcp);
void lend_tcp_channel_destroy(struct lend_tcp_channel *channel, bool forked);
/* Make its buffers; what has come stays, and a preamble is the first that is to leave. */
enum lend_status lend_tcp_channel_begin(struct lend_tcp_channel *channel, struct lend_error *error);
/* The socket of a connection that stands has something for its session. */
void lend_tcp_socket_ready(struct lend_watch *watch, uint32_t events);

/* The operations of the table that channel.c has. */
size_t lend_tcp_room(struct lend_channel *base);
void lend_tcp_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                   size_t count);
void lend_tcp_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                        size_t count);
void lend_tcp_flush(struct lend_channel *base);
enum lend_status lend_tcp_peek(struct lend_channel *base, uint8_t *header,
                               struct lend_error *error);
enum lend_status lend_tcp_take(struct lend_channel *base, void *payload, size_t count,
                               struct lend_error *error);
size_t lend_tcp_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                          size_t total);
bool lend_tcp_sleep(struct lend_channel *base, bool wants_room, size_t wanted);
void lend_tcp_awake(struct lend_channel *base);

extern const struct lend_transport_ops lend_transport_tcp;

#endif
