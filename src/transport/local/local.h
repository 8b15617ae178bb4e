/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_LOCAL_H
#define LEND_TRANSPORT_LOCAL_H

#include "base/list.h"
#include "base/ring.h"
#include "core/transport.h"

#include <sys/socket.h>
#include <sys/un.h>

/*
 * Transport `local`, served path: two processes of one host.
 *
 * A connection is a UNIX socket, for set-up, doorbells and hang-up, and one piece of shared memory:
 * a header and two rings of bytes, one each way. The client makes the memory and sends it with its
 * first packet; whoever reaches the socket needs no other right.
 *
 *     client: connect --- setup {magic, version, flags, ring bytes} + memfd [+ pidfd] ---> server
 *     client: <---------- answer {magic, version, flags, status} [+ pidfd] --------------- server
 *     either: <---------- doorbell, one byte, where the other end sleeps ----------------> either
 *
 * The other end is dead when its socket hangs up (all of its descriptors are close-on-exec, so exec
 * counts) or when its process ends (its pidfd: a child that it forked may hold the socket).
 *
 * place.c:   where an agent listens: directory, path, address
 * setup.c:   packets and descriptors: how a connection comes to be
 * channel.c: frames in the rings, doorbells, hang-up
 * local.c:   the transport: listening, half-open connections, the table
 */

enum {
    LEND_LOCAL_PATH_MAX = 107, /* of sockaddr_un, less the NUL */
    LEND_LOCAL_HALF_OPEN_MAX = 64,
    LEND_LOCAL_RING_BYTES_MIN = 65536,
    LEND_LOCAL_RING_BYTES_MAX = 64 << 20,
    LEND_LOCAL_FDS_MAX = 2, /* that come with a packet */
    LEND_LOCAL_ADDRESS_HEADER_BYTES = 2,
};

/* Where an agent listens. */
struct lend_local_place {
    bool is_abstract;
    size_t length;
    char path[LEND_LOCAL_PATH_MAX + 1];
};

struct lend_local {
    struct lend_agent *agent;
    struct lend_watch listener;
    struct lend_local_place place;
    uint32_t mode;
    bool is_bound;
    int pidfd; /* ours, for peers; -1 if this kernel has none */
    uint64_t ring_bytes;
    uint64_t connect_timeout_ns;

    /* All of these are the poller's. */
    struct lend_list half_open; /* oldest first */
    uint32_t half_open_count;
    uint64_t resume_ns;       /* when to listen again, after descriptors ran out; 0: we do */
    uint64_t warned_ns;       /* when the last warning was told, */
    uint32_t warnings_untold; /* and how many were not since */
};

struct lend_local_channel {
    struct lend_channel base; /* first: core knows us by it */
    struct lend_local *local;

    /* The poller's, once set up. */
    struct lend_watch socket;
    struct lend_watch death; /* the peer's pidfd; -1: none */
    bool is_answered;        /* client: the server has taken the rings */
    bool is_over;
    struct lend_list half_open; /* server: in lend_local's list until it is set up */
    uint64_t deadline_ns;

    /* The session's. */
    void *shared; /* the header, mapped twice as everything is */
    struct lend_ring in;
    struct lend_ring out;
    uint64_t told_head; /* of out, as last published */
    uint64_t told_tail; /* of in */
    bool owes_bell;     /* the kernel had no memory for a doorbell: ring again */
    bool is_peeked;     /* the frame whose header this is stands at in.position */
    uint32_t payload_bytes;
    uint32_t taken_bytes; /* of its payload */
    uint8_t header[LEND_FRAME_HEADER_BYTES];
};

/* A packet as it came. Descriptors that are not taken out of fds (-1 left there) are given up. */
struct lend_local_packet {
    ssize_t count; /* as recvmsg() returned it: 0 is hang-up, negative an errno */
    bool is_whole; /* neither bytes nor descriptors were cut off */
    uint32_t fd_count;
    int fds[LEND_LOCAL_FDS_MAX];
    uint8_t bytes[32];
};

/* What the first packets say. */
struct lend_local_setup {
    uint16_t version;
    bool has_pidfd;
    uint64_t ring_bytes;
};
struct lend_local_answer {
    uint16_t version;
    bool has_pidfd;
    int32_t status;
};

/* place.c */
enum lend_status lend_local_place_choose(struct lend_local_place *out,
                                         const struct lend_transport_open *open,
                                         struct lend_error *error);
size_t lend_local_place_encode(const struct lend_local_place *place, uint8_t *bytes);
/* False for anything that no agent of this version exports. */
bool lend_local_place_decode(struct lend_local_place *out, const uint8_t *bytes, size_t count);
socklen_t lend_local_place_socket(const struct lend_local_place *place, struct sockaddr_un *out);

/* setup.c */
enum lend_status lend_local_call(struct lend_local_channel *channel,
                                 const struct lend_local_place *place, struct lend_error *error);
/* Read one packet; its descriptors too, if takes_fds. */
void lend_local_receive(int fd, bool takes_fds, struct lend_local_packet *out);
void lend_local_packet_fini(struct lend_local_packet *packet);
/* Descriptors of strangers that are still being closed, each by a thread. */
uint32_t lend_local_closing_count(void);
bool lend_local_answer_decode(const struct lend_local_packet *packet,
                              struct lend_local_answer *out);
/* Server: take over what a client's first packet brings, or say what is wrong with it. */
enum lend_status lend_local_take_setup(struct lend_local_channel *channel,
                                       struct lend_local_packet *packet, struct lend_error *error);
/* Tell the client how it went. False if it cannot be told. */
bool lend_local_answer(struct lend_local_channel *channel, enum lend_status status);
/* Watch for the end of the peer's process, if that descriptor tells it. */
void lend_local_watch_death(struct lend_local_channel *channel, struct lend_local_packet *packet,
                            uint32_t index);

/* channel.c */
struct lend_local_channel *lend_local_channel_create(struct lend_local *local);
void lend_local_channel_destroy(struct lend_local_channel *channel, bool forked);
/* Map the rings that lie in the file; the client's are the server's turned round. */
enum lend_status lend_local_channel_map(struct lend_local_channel *channel, int fd,
                                        uint64_t ring_bytes, bool is_client,
                                        struct lend_error *error);
/* The bytes of a file for rings of that size. */
uint64_t lend_local_file_bytes(uint64_t ring_bytes);
void lend_local_socket_ready(struct lend_watch *watch, uint32_t events);
void lend_local_death_ready(struct lend_watch *watch, uint32_t events);

/* The operations of the table that channel.c has. */
size_t lend_local_room(struct lend_channel *base);
void lend_local_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                     size_t count);
void lend_local_send_data(struct lend_channel *base, const uint8_t *header,
                          struct lend_cursor *from, size_t count);
void lend_local_flush(struct lend_channel *base);
enum lend_status lend_local_peek(struct lend_channel *base, uint8_t *header,
                                 struct lend_error *error);
enum lend_status lend_local_take(struct lend_channel *base, void *payload, size_t count,
                                 struct lend_error *error);
size_t lend_local_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                            size_t total);
bool lend_local_sleep(struct lend_channel *base, bool wants_room, size_t wanted);

extern const struct lend_transport_ops lend_transport_local;

#endif
