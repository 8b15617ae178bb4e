/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_LOCAL_H
#define LEND_TRANSPORT_LOCAL_H

#include "base/list.h"
#include "base/ring.h"
#include "core/transport.h"

#include <pthread.h>
#include <stdatomic.h>

#include <sys/socket.h>
#include <sys/un.h>

/*
 * Transport `local`: two processes of one host.
 *
 * A connection is a UNIX socket, for set-up, doorbells and hang-up, and one piece of shared memory:
 * a header and two rings of bytes, one each way. The client makes the memory and sends it with its
 * first packet; whoever reaches the socket needs no other right.
 *
 *     client: connect --- setup {magic, version, flags, ring bytes} + memfd [+ pidfd] ---> server
 *     client: <---------- answer {magic, version, flags, status} [+ pidfd] --------------- server
 *     client: <--- words + fd, probe, file + fd | no file ..., ready --------------------- server
 *     either: <---------- doorbell, one byte, where the other end sleeps ----------------> either
 *     client: <---------- file + fd | no file, as they come; let go {number} ------------- server
 *     client: ----------- left {number}: it is mapped here no more ----------------------> server
 *     client: ----------- left all: the last packet, and nothing is mapped here, ever ---> server
 *     client: ----------- want part {number, index}: of memory of a GPU -----------------> server
 *     client: <---------- part {number, index} + fd | no part {number, index, text} ------ server
 *
 * The client sends no frame before it is ready, so that after the greeting it knows what it may map
 * (local/mapped) and whose memory it may read (local/cross-memory).
 *
 * Of memory of a GPU it wants the parts one after the other, as it opens them: neither end has more
 * than one of their descriptors at a time.
 *
 * The other end is dead when its socket hangs up (all of its descriptors are close-on-exec, so exec
 * counts) or when its process ends (its pidfd: a child that it forked may hold the socket).
 *
 * place.c:   where an agent listens: directory, path, address
 * setup.c:   packets and descriptors: how a connection comes to be
 * channel.c: frames in the rings, doorbells, hang-up
 * share.c:   the owner's side of one-sided ways: what it tells its readers, and who holds what
 * mapping.c: the reader's side: files and words that it maps, the process that it may read
 * local.c:   the transport: listening, half-open connections, the table
 */

enum {
    LEND_LOCAL_PATH_MAX = 107, /* of sockaddr_un, less the NUL */
    LEND_LOCAL_HALF_OPEN_MAX = 64,
    LEND_LOCAL_RING_BYTES_MIN = 65536,
    LEND_LOCAL_RING_BYTES_MAX = 64 << 20,
    LEND_LOCAL_FDS_MAX = 2, /* that come with a packet */
    LEND_LOCAL_BOOT_ID_BYTES = 16,
    LEND_LOCAL_FILES_MAX = 64,  /* that one connection shares at a time, */
    LEND_LOCAL_ABSENT_MAX = 64, /* and of which it is told why it may not map them */
    LEND_LOCAL_TEXT_MAX = 160,
};

/* Where an agent listens. */
struct lend_local_place {
    bool is_abstract;
    size_t length;
    char path[LEND_LOCAL_PATH_MAX + 1];
    uint8_t boot_id[LEND_LOCAL_BOOT_ID_BYTES]; /* of the machine, since it booted; zeros: unknown */
};

/* What the packets of one-sided ways are. */
enum lend_local_notice_type {
    LEND_LOCAL_WORDS = 1, /* {bytes} + the words of the owner's leases */
    LEND_LOCAL_PROBE,     /* {address, nonce}: where to look whether a process is the owner */
    LEND_LOCAL_FILE,      /* {number, bytes} + a file that the reader may map */
    LEND_LOCAL_NO_FILE,   /* {number, text}: why it may not */
    LEND_LOCAL_READY,     /* all that there was to tell at first */
    LEND_LOCAL_LET_GO,    /* {number}: unmap it */
    LEND_LOCAL_LEFT,      /* {number}, to the owner: it is not mapped, or no more */
    LEND_LOCAL_LEFT_ALL,  /* to the owner: none is, nor those that we are still to be told of */
    LEND_LOCAL_WANT_PART, /* {number, index}, to the owner: that part's descriptor is wanted, */
    LEND_LOCAL_PART,      /* {number, index} + which is this */
    LEND_LOCAL_NO_PART,   /* {number, index, text}: why there is none */
};

/* One of them, but for its descriptor. What a type has not is 0. */
struct lend_local_notice {
    enum lend_local_notice_type type;
    uint32_t number;
    uint32_t index; /* of a part */
    uint64_t bytes; /* of the file */
    uint64_t nonce_address;
    uint8_t nonce[LEND_NONCE_BYTES];
    char text[LEND_LOCAL_TEXT_MAX + 1]; /* printable */
};

/* A file that a server's client was given, and has not left. */
struct lend_local_held {
    uint32_t number;  /* 0: none */
    bool owes_let_go; /* the client is to be told, and the socket had no room */
    bool is_device;   /* it lets the client open memory of a GPU */
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

    /* For readers. */
    int words_fd; /* read-only; -1: none */
    uint64_t words_bytes;
    uint8_t *nonce; /* a page that is wiped in forked children; NULL: none */

    /* A leaf: held for what does not wait, but for a driver that makes a descriptor of a part. */
    pthread_mutex_t share_lock;
    struct lend_list shared; /* files; share_lock */
    struct lend_list served; /* channels that are told of them; share_lock */
    struct lend_list ghosts; /* of those that are gone, and have GPU memory open; share_lock */

    /* All of these are the poller's. */
    struct lend_list half_open; /* oldest first */
    uint32_t half_open_count;
    uint64_t resume_ns;       /* when to listen again, after descriptors ran out; 0: we do */
    uint64_t warned_ns;       /* when the last warning was told, */
    uint32_t warnings_untold; /* and how many were not since */
};

/* What a client has mapped of its server's. */
struct lend_local_mappings;
/* What is known of a client when its connection is gone. */
struct lend_local_ghost;

struct lend_local_channel {
    struct lend_channel base; /* first: core knows us by it */
    struct lend_local *local;

    _Atomic bool is_ready; /* frames may be sent: a client has been told all. Release and acquire:
                              with what it was told at first. */
    _Atomic bool is_over;  /* the poller sees that the other end is gone */
    bool has_user;         /* it is known who the other end was */
    struct ucred user;     /* when it connected, or began to listen */

    /* Client */
    struct lend_local_mappings *mappings; /* NULL in a server */

    /* Server; share_lock */
    struct lend_list served; /* in lend_local's list, if is_served */
    bool is_served;
    bool has_left;                  /* its end is near, and it has said its last */
    struct lend_local_ghost *ghost; /* kept ready, once it was given GPU memory to open; or NULL */
    bool is_haunting;               /* it is in lend_local's list: the socket is heard still */
    struct lend_local_held held[LEND_LOCAL_FILES_MAX];

    /* The poller's, once set up. */
    struct lend_watch socket;
    struct lend_watch death;    /* the peer's pidfd; -1: none */
    bool is_answered;           /* client: the server has taken the rings */
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
    uint8_t bytes[256];
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
/* May both be of one machine? What is unknown may be. */
bool lend_local_place_is_near(const struct lend_local_place *ours,
                              const struct lend_local_place *theirs);
socklen_t lend_local_place_socket(const struct lend_local_place *place, struct sockaddr_un *out);

/* setup.c */
/* Ask the kernel who is at the other end of the socket. */
void lend_local_know(struct lend_local_channel *channel);
enum lend_status lend_local_call(struct lend_local_channel *channel,
                                 const struct lend_local_place *place, struct lend_error *error);
/* Read one packet; its descriptors too, if takes_fds. */
void lend_local_receive(int fd, bool takes_fds, struct lend_local_packet *out);
void lend_local_packet_fini(struct lend_local_packet *packet);
/* Send bytes, and up to two descriptors (-1: none). As sendmsg(). */
ssize_t lend_local_send_packet(int fd, const uint8_t *packet, size_t count, const int *fds);
/* The number of a pidfd's process in our name space: 0 if it has none there, negative if it has
 * ended. False: that is no pidfd. */
bool lend_local_pidfd_number(int fd, int *out);
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

/* share.c: the owner's side */
void lend_local_sharing_init(struct lend_local *local, const struct lend_transport_open *open);
void lend_local_sharing_fini(struct lend_local *local, bool forked);
/* The packet of it, and what came: false if it is none. fd: -1, or to go with it. */
ssize_t lend_local_notice_send(int socket, const struct lend_local_notice *notice, int fd);
/* Does it begin like one? */
bool lend_local_is_notice(const struct lend_local_packet *packet);
bool lend_local_notice_decode(const struct lend_local_packet *packet,
                              struct lend_local_notice *out);
/* Tell a new client what is shared. False: it cannot be told, and so not be served. */
bool lend_local_introduce(struct lend_local_channel *channel);
/* A packet from a client. LEND_E_CORRUPT: no client sends that. */
enum lend_status lend_local_take_said(struct lend_local_channel *channel,
                                      const struct lend_local_packet *packet,
                                      struct lend_error *error);
/* It is told nothing more, and holds nothing. Nothing happens in a forked child. */
void lend_local_stop_serving(struct lend_local_channel *channel, bool forked);
void lend_local_share(void *transport, const struct lend_shared_file *file);
void lend_local_unshare(void *transport, uint32_t number);
bool lend_local_is_held(void *transport, uint32_t number, char *who, size_t capacity);

/* mapping.c: the reader's side */
struct lend_local_mappings *lend_local_mappings_create(void);
void lend_local_mappings_destroy(struct lend_local_mappings *mappings, bool forked);
/* A packet from the server, behind its answer. LEND_E_CORRUPT: no server sends that. */
enum lend_status lend_local_take_notice(struct lend_local_channel *channel,
                                        struct lend_local_packet *packet, struct lend_error *error);
/* Unmap what the server wants back, and tell it. Under the session's lock. */
void lend_local_let_go(struct lend_local_channel *channel);
/* Is there any of that to be done? */
bool lend_local_must_let_go(const struct lend_local_channel *channel);
const _Atomic uint64_t *lend_local_words(struct lend_channel *base, uint32_t *out_count,
                                         struct lend_error *why);
const uint8_t *lend_local_mapped(struct lend_channel *base, uint32_t file, uint64_t *out_bytes,
                                 struct lend_error *why);
uint64_t lend_local_mapping_stamp(struct lend_channel *base);
bool lend_local_keep(struct lend_channel *base, uint32_t file, bool keeps);
enum lend_status lend_local_part(struct lend_channel *base, uint32_t file, uint32_t index,
                                 int *out_fd, struct lend_error *why);
/* Before the end: unmap all that is not kept, and say so. */
void lend_local_leave(struct lend_local_channel *channel);
enum lend_status lend_local_process(struct lend_channel *base, struct lend_process *out,
                                    struct lend_error *why);
bool lend_local_is_alive(struct lend_channel *base);
bool lend_local_prefault(struct lend_channel *base, uint64_t bytes);

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
void lend_local_awake(struct lend_channel *base);

extern const struct lend_transport_ops lend_transport_local;

#endif
