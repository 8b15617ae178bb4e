/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_NIXL_ENGINE_H
#define LEND_TRANSPORT_NIXL_ENGINE_H

#include "base/list.h"
#include "core/transport.h"
#include "transport/nixl/door.h"

#include <lend/memory.h>

#include <pthread.h>

/*
 * A NIXL agent, and the thread that has it.
 *
 * NIXL's calls may block for tens of milliseconds, and some copy. So one helper thread makes all of
 * them, and no other does: nothing that NIXL does stops the progress of other peers. It also makes
 * NIXL's own progress, which has no thread then.
 *
 * A NIXL agent that peers were told of cannot be made to forget them, nor memory that they were
 * told of; so its *life* ends with all of them, and another begins when it is needed. All that was
 * handed to NIXL is kept until the end of the life, if NIXL has not said that it is done with it.
 *
 * Locks: session, or the agent's > engine's > what lend_session_wake() takes. NIXL is called under
 * none of them.
 */

enum {
    LEND_NIXL_NAME_MAX = 255, /* of a NIXL agent's name, as far as we deal with it */
    LEND_NIXL_CHUNK_BYTES = LEND_FRAME_DATA_MAX,
    LEND_NIXL_READS = 4,  /* chunks of a channel that are read ahead, */
    LEND_NIXL_WRITES = 2, /* and that are being written */
    LEND_NIXL_CHUNKS = LEND_NIXL_READS + LEND_NIXL_WRITES,
    LEND_NIXL_SLAB_BYTES = LEND_NIXL_CHUNKS * LEND_NIXL_CHUNK_BYTES,
};

/* Memory between a channel and NIXL: bytes that are read land here, and in the caller's memory only
 * when the read is over; so that nothing of NIXL's ever reaches the caller's. */
struct lend_nixl_engine;

struct lend_nixl_slab {
    struct lend_list link; /* of the engine's, whether it is free or in use */
    uint8_t *memory;
    uint32_t life;  /* in which NIXL has it */
    bool is_used;   /* by a channel */
    bool is_spoilt; /* NIXL may still write to it: not to be used again in this life */
};

/* A NIXL agent that was imported. Kept until the transport closes. */
struct lend_nixl_peer {
    struct lend_list link;
    struct lend_foreign_identity identity;
    uint64_t number;
    char name[LEND_NIXL_NAME_MAX + 1]; /* as NIXL has it */
    uint8_t *bytes;                    /* its metadata, */
    size_t byte_count;
    uint32_t loaded_life; /* and the life in which it was loaded; 0: none */
    struct lend_metadata_region *regions;
    uint32_t region_count;
};

/* Memory that NIXL agents may reach. */
struct lend_nixl_exposure {
    struct lend_list link;
    struct lend_exposure it;
    uint32_t registered_life; /* 0: none */
    uint32_t told_life;       /* the life whose peers know of it; 0: none */
    bool is_leaving;
    bool by_force;
};

/* What another thread wants of the helper, and waits for. */
struct lend_nixl_call {
    struct lend_list link;
    enum lend_status (*run)(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                            struct lend_error *error);
    enum lend_status status; /* LEND_PENDING: it is under way */
    bool is_abandoned;       /* nobody waits any more: whoever ends it frees it */
    struct lend_error error;
    const void *subject;
    uint8_t *bytes; /* that came of it, or went into it; owned */
    size_t byte_count;
    struct lend_metadata_region *regions; /* owned */
    uint32_t region_count;
    struct lend_foreign_identity identity;
};

struct lend_nixl_engine {
    struct lend_watch bell; /* something is there for the poller; first, so that it is this */
    struct lend_agent *agent;
    struct lend_nixl_ops door;
    struct lend_nixl_library library;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    char settings[128]; /* of UCX, in NIXL's words */
    uint8_t nonce[LEND_INCARNATION_BYTES];
    const uint8_t *incarnation; /* the agent's */
    uint64_t timeout_ns;
    uint64_t window_bytes; /* of notifications that may wait, as far as we know */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* guards all below, up to the helper's own */
    pthread_cond_t work;  /* for the helper */
    pthread_cond_t done;  /* for those who wait for a call */
    bool stops;
    struct lend_list calls;
    struct lend_list peers;
    uint64_t last_peer;
    struct lend_list exposures;
    struct lend_list channels; /* to peers */
    struct lend_list senders;  /* from peers: who has sent notifications */

    /* The helper's own. */
    void *nixl;    /* NULL: no life */
    void *backend; /* the handle */
    void *inbox;   /* the map that notifications come in */
    uint32_t life; /* of the latest NIXL agent, counted from 1 */
    struct lend_list slabs;
    uint64_t busy_ns; /* when something last moved */
};

static inline void lend_nixl_lock(struct lend_nixl_engine *engine)
{
    (void)pthread_mutex_lock(&engine->lock);
}

static inline void lend_nixl_unlock(struct lend_nixl_engine *engine)
{
    (void)pthread_mutex_unlock(&engine->lock);
}

/* engine.c: from any thread. */

enum lend_status lend_nixl_engine_start(struct lend_nixl_engine *engine, struct lend_error *error);
/* The thread is gone, and so is the NIXL agent. */
void lend_nixl_engine_stop(struct lend_nixl_engine *engine);

/* Let the helper run a call, and wait for it as long as a connection may take. The call is the
 * engine's from here on if LEND_E_TIMEOUT is returned, and the caller's otherwise. */
enum lend_status lend_nixl_engine_call(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                       struct lend_error *error);
enum lend_status lend_nixl_call_create(struct lend_nixl_call **out, struct lend_error *error);
void lend_nixl_call_free(struct lend_nixl_call *call);

/* There is something for the helper to do. Under the lock. */
void lend_nixl_engine_kick(struct lend_nixl_engine *engine);

/* engine.c: on the helper alone. */

/* Have a NIXL agent, with all that is exposed. */
enum lend_status lend_nixl_engine_live(struct lend_nixl_engine *engine, struct lend_error *error);
/* End its life, and all that goes on in it, for that reason. */
void lend_nixl_engine_end_life(struct lend_nixl_engine *engine, const char *reason);
/* Register memory of ours, or undo it. False: NIXL says no. */
bool lend_nixl_engine_register(struct lend_nixl_engine *engine, uint64_t address, uint64_t length,
                               bool is_wanted);
/* A slab of this life; NULL: no memory, or NIXL says no. */
struct lend_nixl_slab *lend_nixl_slab_get(struct lend_nixl_engine *engine);
void lend_nixl_slab_put(struct lend_nixl_engine *engine, struct lend_nixl_slab *slab);

/* exposure.c */
extern const struct lend_foreign_ops lend_nixl_foreign;
/* On the helper: see that NIXL has what is exposed, and has no more what is not. */
enum lend_status lend_nixl_expose_all(struct lend_nixl_engine *engine, struct lend_error *error);
bool lend_nixl_conceal_leaving(struct lend_nixl_engine *engine);
void lend_nixl_exposures_fini(struct lend_nixl_engine *engine);

/* met.c: peers that were imported. Under the lock. */
struct lend_nixl_peer *lend_nixl_peer_numbered(struct lend_nixl_engine *engine, uint64_t number);
struct lend_nixl_peer *lend_nixl_peer_named(struct lend_nixl_engine *engine, const char *name);
/* The name as an agent of lend may have it. */
void lend_nixl_tame_name(const char *name, char out[LEND_AGENT_NAME_BYTES_MAX + 1]);
void lend_nixl_peers_fini(struct lend_nixl_engine *engine);
/* What meet() and tell() have the helper do. */
enum lend_status lend_nixl_meet(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                struct lend_error *error);
/* Load a peer's metadata in this life, if it is not. On the helper. */
enum lend_status lend_nixl_peer_load(struct lend_nixl_engine *engine, struct lend_nixl_peer *peer,
                                     struct lend_error *error);

/* channel.c, move.c: on the helper. True if anything moved. */
bool lend_nixl_channels_step(struct lend_nixl_engine *engine, bool *out_is_busy);
/* Hang up those to that peer, for that reason. */
void lend_nixl_channels_cut(struct lend_nixl_engine *engine, const struct lend_nixl_peer *peer,
                            const char *reason);
/* In a forked child. */
void lend_nixl_channels_free_forked(struct lend_nixl_engine *engine);
/* The life has ended: so have they. */
void lend_nixl_channels_end_life(struct lend_nixl_engine *engine, const char *reason);

/* inbox.c */
bool lend_nixl_inbox_poll(struct lend_nixl_engine *engine); /* on the helper */
void lend_nixl_inbox_ready(struct lend_watch *watch, uint32_t events);
void lend_nixl_inbox_fini(struct lend_nixl_engine *engine);

#endif
