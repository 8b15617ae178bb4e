/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_NIXL_CHANNEL_H
#define LEND_TRANSPORT_NIXL_CHANNEL_H

#include "transport/nixl/engine.h"

/*
 * A channel to a NIXL agent, which knows nothing of it: to core it plays a server of lend. It takes
 * the frames of the client, has the helper carry out what they ask for, and answers.
 *
 *     READ   REQUEST, RUNS --> NIXL reads into chunks --> DATA from them --> DONE
 *     WRITE  REQUEST, RUNS, DATA --> into chunks --> NIXL writes them --> DONE
 *
 * All but what says otherwise is guarded by the engine's lock. Only the helper takes a channel off
 * the engine's list, once core has closed it and NIXL is done with its memory.
 */

enum {
    LEND_NIXL_REQUESTS = 16,
    LEND_NIXL_TAIL_BYTES = 64, /* that a WRITE may leave though no chunk is free: the last of it */
    LEND_NIXL_WINDOW_BYTES = 262144, /* of notifications that have not left */
    LEND_NIXL_ANSWER_BYTES = 512,
};

enum lend_nixl_request_phase {
    LEND_NIXL_REQUEST_FREE,
    LEND_NIXL_REQUEST_RUNS,  /* runs are still to come */
    LEND_NIXL_REQUEST_MOVE,  /* bytes are moving */
    LEND_NIXL_REQUEST_ENDED, /* and is to be answered, once it is quiet */
};

struct lend_nixl_request {
    enum lend_nixl_request_phase phase;
    uint64_t id;
    struct lend_request asked;
    struct lend_extent *extents; /* owned */
    struct lend_run *runs;       /* owned; with ranges: the one that all extents share */
    uint64_t runs_taken;
    struct lend_cursor cursor; /* on the peer's side: what is in no chunk yet */
    uint64_t begun_bytes;      /* that are in chunks, or were */
    uint64_t moved_bytes;      /* a READ: given to core; a WRITE: written */
    uint32_t chunks;           /* that NIXL has to do with, or is to have */
    uint32_t landed;           /* chunks that core is to have */
    uint32_t tail_bytes;
    uint8_t tail[LEND_NIXL_TAIL_BYTES];
    struct lend_error verdict;
};

enum lend_nixl_chunk_phase {
    LEND_NIXL_CHUNK_FREE,
    LEND_NIXL_CHUNK_FILLING, /* core's thread copies to it, with no lock of ours */
    LEND_NIXL_CHUNK_READY,   /* to be given to NIXL */
    LEND_NIXL_CHUNK_FLYING,  /* NIXL has it */
    LEND_NIXL_CHUNK_LANDED,  /* read, and core is to have it */
};

/* A part of a request, and where it lies with us. It flies by as many requests of NIXL's as its
 * pieces take. */
struct lend_nixl_chunk {
    struct lend_list link; /* of the reads, in their order */
    enum lend_nixl_chunk_phase phase;
    struct lend_nixl_request *request;
    uint8_t *memory;
    size_t bytes;
    size_t flown;              /* and over */
    size_t flying;             /* by the flight under way */
    struct lend_cursor cursor; /* where the rest belongs on the peer's side */
    /* The helper's own: NIXL's. */
    void *flight;
    void *local;
    void *remote;
};

/* A frame that core looks at. */
struct lend_nixl_answer {
    bool is_there;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint8_t payload[LEND_NIXL_ANSWER_BYTES];
    struct lend_nixl_chunk *chunk; /* of DATA; taken so far: */
    size_t taken;
};

/* A notification that is to leave. */
struct lend_nixl_note {
    struct lend_list link;
    size_t count;
    uint8_t bytes[];
};

struct lend_nixl_channel {
    struct lend_channel base;
    struct lend_list link;
    struct lend_nixl_engine *engine;
    struct lend_nixl_peer *peer;
    struct lend_nixl_slab *slab; /* the helper's */
    bool is_ready;               /* the peer is loaded, and chunks have memory */
    bool is_broken;              /* core was told that it is over */
    bool is_closed;              /* by core: its session is not to be touched */
    bool has_hello;
    bool has_welcomed;
    uint64_t sequence; /* of frames to core */
    uint64_t noted;    /* cost of the notifications that have left, */
    uint64_t credited; /* of which core was told */
    struct lend_list notes;
    struct lend_list reads;
    struct lend_nixl_answer answer;
    struct lend_nixl_request requests[LEND_NIXL_REQUESTS];
    struct lend_nixl_chunk chunks[LEND_NIXL_CHUNKS]; /* reads first */
};

/* channel.c: operations of a channel; see core/transport.h. */
enum lend_status lend_nixl_connect(void *transport, const uint8_t *address, size_t count,
                                   struct lend_session *session, struct lend_channel **out,
                                   struct lend_error *error);
void lend_nixl_close_channel(struct lend_channel *base, bool forked);
size_t lend_nixl_room(struct lend_channel *base);
void lend_nixl_send(struct lend_channel *base, const uint8_t *header, const void *payload,
                    size_t count);
void lend_nixl_send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                         size_t count);
void lend_nixl_flush(struct lend_channel *base);
enum lend_status lend_nixl_peek(struct lend_channel *base, uint8_t *header,
                                struct lend_error *error);
enum lend_status lend_nixl_take(struct lend_channel *base, void *payload, size_t count,
                                struct lend_error *error);
size_t lend_nixl_take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                           size_t total);
bool lend_nixl_sleep(struct lend_channel *base, bool wants_room, size_t wanted);
void lend_nixl_awake(struct lend_channel *base);

/* asked.c: what a client asks for. Under the lock. */
struct lend_nixl_request *lend_nixl_request_find(struct lend_nixl_channel *channel, uint64_t id);
void lend_nixl_request_take(struct lend_nixl_channel *channel, const struct lend_frame *frame,
                            const uint8_t *payload);
void lend_nixl_request_take_runs(struct lend_nixl_channel *channel, const struct lend_frame *frame,
                                 const uint8_t *payload);
void lend_nixl_request_cancel(struct lend_nixl_channel *channel, const struct lend_frame *frame);
/* It has ended so; what of it has not flown does not. */
void lend_nixl_request_end(struct lend_nixl_channel *channel, struct lend_nixl_request *request,
                           const struct lend_error *why);
/* Is it over, with nothing of it under way? */
bool lend_nixl_request_is_quiet(const struct lend_nixl_request *request);
void lend_nixl_request_free(struct lend_nixl_request *request);
/* The next bytes of a request, at most so many, are that chunk's. */
void lend_nixl_chunk_begin(struct lend_nixl_chunk *chunk, struct lend_nixl_request *request,
                           size_t bytes);
/* The chunk is of no use any more. */
void lend_nixl_chunk_end(struct lend_nixl_chunk *chunk);
struct lend_nixl_chunk *lend_nixl_chunk_free(struct lend_nixl_channel *channel, bool is_read);

/* move.c: on the helper. */
bool lend_nixl_channel_move(struct lend_nixl_channel *channel, bool *out_is_busy);
/* End what NIXL has of it; nobody knows then what still lands in its slab. */
void lend_nixl_channel_ground(struct lend_nixl_channel *channel);

/* Tell core's session, if it is there. Under the lock. */
void lend_nixl_channel_wake(struct lend_nixl_channel *channel);
void lend_nixl_channel_hang_up(struct lend_nixl_channel *channel, enum lend_status status,
                               const char *reason);

#endif
