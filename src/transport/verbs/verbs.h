/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_VERBS_H
#define LEND_TRANSPORT_VERBS_VERBS_H

#include "core/transport.h"
#include "memory/gpu_storage.h"
#include "memory/lane.h"
#include "transport/verbs/message.h"
#include "transport/verbs/near.h"
#include "transport/verbs/qp.h"
#include "transport/verbs/registration.h"
#include "transport/verbs/window.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Transport `verbs`: RDMA NICs beside another transport's channel (docs/verbs.md).
 *
 * It carries no frames. Each end of a *rail* has a few queue pairs of type RC, which are made over
 * the channel; only the client's ever send to the other: the server's go no further than RTR, but
 * for that for writes, on which it binds and ends windows. A READ or WRITE is cut into *batches*:
 * work requests of one queue pair, posted at one time, the last of which reads the lease's word,
 * fenced, and is the only one that is signaled. On a NIC whose fence is not to be relied on the
 * word is asked for when the data has completed.
 *
 * verbs.c:    the station: NICs, the page of words, the table
 * exposure.c: regions as the NICs know them
 * gpus.c:     GPUs whose memory peers write
 * legs.c:     a rail: its legs, one for each NIC that it uses
 * rail.c:     a leg: how it is made, said and heard, and breaks
 * pair.c:     queue pairs and their states
 * work.c:     batches
 * notes.c:    notifications
 * keys.c:     the owner's: what peers may write
 * granted.c:  the writer's: what owners let it write
 * events.c:   what NICs tell by themselves
 * message.c:  what the ends of a rail say
 *
 * Locks. A rail is its session's; but what a server's has for writes is guarded by the station's
 * lock of keys, as any thread may end a lease. The table of exposures has a lock of its own, a
 * leaf.
 */

enum {
    LEND_VERBS_WRITE_LANE = 0,        /* of the queue pairs of a rail; the others are for reads, */
    LEND_VERBS_NOTE_LANE = 1,         /* the first of them for notifications, too; */
    LEND_VERBS_READ_LANES = 2,        /* so many, where nothing else is wished for */
    LEND_VERBS_NOTES = 32,            /* notifications of a rail that are not confirmed */
    LEND_VERBS_QUEUE_WORK = 64,       /* work requests that a queue pair takes, */
    LEND_VERBS_BATCH_WORK = 16,       /* and of a batch; with that of the word */
    LEND_VERBS_BATCH_BYTES = 1 << 20, /* of a batch, about */
    LEND_VERBS_BATCHES = 16,          /* of a rail under way */
    LEND_VERBS_BATCHES_OF_ONE = 6,    /* and of a READ */
    LEND_VERBS_SGES_MAX = 4,          /* scatter entries of a work request */
    LEND_VERBS_SPLITS = 16,           /* moves of a rail that go by several, at one time; */
    LEND_VERBS_SPLIT_BYTES = 2 << 20, /* of so much or more, */
    LEND_VERBS_SHARE_BYTES = 1 << 16, /* in multiples of that, */
    LEND_VERBS_SHARE_LEAST = 16,      /* the slowest with so much of the fastest's at least */
    LEND_VERBS_JOINS_MAX = 4,         /* that fail one after the other, before a pause */
    LEND_VERBS_CALLS_MAX = 64,        /* of one peer that are answered within a second */
    LEND_VERBS_FARS_MAX = 65536,      /* regions of an owner that are known; others are served */
    LEND_VERBS_KEY_WORK = 512,        /* binds, and ends of bindings, under way at an owner's */
    LEND_VERBS_OWED_MAX = 128,        /* leases whose keys are made, and told; others are served */
    LEND_VERBS_WISHES_MAX = 16,       /* of them, those that a leg has wished for */
    LEND_VERBS_KEYS_AT_ONCE = 64,     /* made in one turn of a session, and ended under one lock */
    LEND_VERBS_KNOWN_MAX = 1 << 18,   /* pieces that a leg knows, of all leases */
    LEND_VERBS_ENTRY_BUCKETS = 64,
    LEND_VERBS_GRANT_BUCKETS = 256,
    LEND_VERBS_WINDOWS_KEPT = 4096, /* free ones, of a NIC */
    LEND_VERBS_GPUS_MAX = 16,       /* contexts, whose memory peers may write */
    LEND_VERBS_BEACONS_MAX = 4,     /* GPUs that one WRITE goes to */
    LEND_VERBS_BEACON_BYTES = 64 << 10,
    LEND_VERBS_LANDING_WORDS = LEND_VERBS_BATCHES + 1, /* the last for what nobody looks at */
    LEND_VERBS_ADDRESS_MAX = 2 + 8 * LEND_VERBS_GID_BYTES,
};

/* A region of ours. */
struct lend_verbs_exposure {
    struct lend_verbs_exposure *next; /* of its bucket */
    struct lend_exposure what;
    struct lend_verbs_region *region; /* NULL: no NIC took it, */
    struct lend_error why;            /* for that reason; or it was not let go of */
    bool lands;                       /* bytes may come in by NICs; else why_not says why not */
    struct lend_error why_not;
    uint32_t gpu; /* bit of it, of those whose memory peers write; 0: none */
};

/*
 * A GPU whose memory peers write. A PCIe write has no answer: that the peer's NIC has said that it
 * is done, and even that the lease's word behind it was read, is not that it is in the GPU, which
 * is another device than the one that the word is in. A read is answered, and overtakes no write on
 * the same way: so behind each WRITE to a GPU a few bytes of its memory are read, of a *beacon*,
 * which is the owner's and holds zeros. It is known to peers as a region of that id.
 */
struct lend_verbs_gpu {
    const struct lend_lane *lane;
    struct lend_gpu_storage *beacon; /* NULL: that GPU has one, for another context's memory */
};

static inline uint64_t lend_verbs_beacon_id(uint32_t ordinal)
{
    return UINT64_MAX - ordinal; /* regions count from 1 */
}

/* How a NIC is heard: what it tells of itself, and of completions that somebody waits for. */
struct lend_verbs_ear {
    struct lend_verbs_station *station;
    uint32_t nic;
    bool hears_events;
    _Atomic bool hears_completions; /* else who waits for them polls */
    struct lend_verbs_comp_channel *channel;
    struct lend_watch events;
    struct lend_watch completions;
};

struct lend_verbs_station {
    struct lend_agent *agent;
    const struct lend_verbs_ops *verbs;
    struct lend_verbs_ear ears[LEND_VERBS_NICS_MAX];
    _Atomic uint64_t events;    /* that the NICs have told */
    pthread_mutex_t rails_lock; /* guards the list; before those of the poller alone */
    struct lend_list rails;
    struct lend_verbs_nic *nics[LEND_VERBS_NICS_MAX];
    uint32_t nic_count;
    uint32_t lanes_max; /* of a rail; the other end may have fewer */
    struct lend_verbs_store *store;
    struct lend_verbs_region *words; /* the page of words */
    uint64_t words_address;
    uint64_t words_bytes;
    /* Grows with whatever theirs(), ours() and judge() of any rail depend on. */
    _Atomic uint64_t serial;

    pthread_mutex_t lock; /* guards the table */
    struct lend_verbs_exposure **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t exposure_count;

    /* Of each NIC from each GPU whose memory is exposed; 0: not known. */
    _Atomic uint32_t distances[LEND_VERBS_NICS_MAX][LEND_VERBS_ORDINALS_MAX];
    bool tries_exports;          /* by which the NICs reach GPUs; else the caller has said it */
    pthread_mutex_t trials_lock; /* guards the trials: before all but that of a region's keys */
    bool is_tried[LEND_VERBS_ORDINALS_MAX];
    pthread_mutex_t gpus_lock; /* guards their making: before all that follow */
    _Atomic uint32_t gpu_count;
    struct lend_verbs_gpu gpus[LEND_VERBS_GPUS_MAX];

    pthread_mutex_t keys_lock; /* guards the keys: before the lock above, and those of the store */
    struct lend_list grants[LEND_VERBS_GRANT_BUCKETS]; /* of all rails, by the slot of the lease */
    uint64_t attempts;                                 /* to end those of a lease */
    struct lend_verbs_windows windows[LEND_VERBS_NICS_MAX];
};

/* What a peer has told of a region of its. */
struct lend_verbs_far {
    struct lend_verbs_far *next;                          /* of its bucket */
    const struct lend_verbs_far *at[LEND_VERBS_LEGS_MAX]; /* the first leg's: as others know it */
    struct lend_verbs_told told;
};

/* What it has told of a lease: what that lets us write. */
struct lend_verbs_entry {
    struct lend_verbs_entry *next; /* of its bucket */
    uint32_t slot;
    uint64_t generation;
    bool is_lost;
    uint32_t total;       /* 0: nothing, and why */
    uint32_t piece_count; /* that have been told; nothing is written before all are */
    uint8_t distances[LEND_VERBS_LEGS_MAX]; /* of the owner's NICs from its GPU */
    char why[LEND_VERBS_REASON_MAX + 1];
    struct lend_verbs_piece pieces[]; /* ascending by address, when all are there */
};

enum lend_verbs_rail_state {
    LEND_VERBS_RAIL_IDLE = 0, /* server: nobody has called yet */
    LEND_VERBS_RAIL_CALLING,  /* client: until the other end answers */
    LEND_VERBS_RAIL_UP,
    LEND_VERBS_RAIL_BROKEN, /* why holds the reason */
};

enum lend_verbs_batch_phase {
    LEND_VERBS_BATCH_DONE = 0,
    LEND_VERBS_BATCH_DATA, /* its word is to be asked for once they have completed */
    LEND_VERBS_BATCH_WORD, /* that is asked for, too */
};

/* Work requests of one READ or WRITE, on one queue pair. */
struct lend_verbs_batch {
    struct lend_list link; /* in its move's `flying`, or among the free ones */
    struct lend_rail_move *move;
    uint32_t lane;
    uint32_t work_count; /* with that of the word */
    uint64_t bytes;
    enum lend_verbs_batch_phase phase;
    enum lend_status status; /* when it is done: what its word said */
};

/* Is it told when a completion comes? */
enum lend_verbs_arming {
    LEND_VERBS_UNARMED = 0,
    LEND_VERBS_ARMED,        /* if none was there already */
    LEND_VERBS_ARMED_LOOKED, /* none was */
};

struct lend_verbs_rail {
    struct lend_rail base; /* first: core knows us by it */
    struct lend_verbs_station *station;
    uint32_t leg; /* which it is: */
    struct lend_verbs_rail *root;
    struct lend_verbs_rail *legs[LEND_VERBS_LEGS_MAX]; /* of the root, which is the first */
    bool legs_are_begun;
    bool is_judged;                  /* it has been up, or has failed, since it was made */
    struct lend_verbs_splits *parts; /* of the root; NULL: it has one leg */
    struct lend_list station_link;   /* in its `rails` */
    _Atomic bool is_hurt;            /* a queue of it has had a fatal error */
    uint64_t events_seen;            /* of the station's */
    bool is_client;
    enum lend_verbs_rail_state state;
    struct lend_error why;
    uint32_t round; /* how often it was made: which answer belongs to which call */
    uint32_t failures;
    uint64_t retry_ns; /* after too many: not before */
    uint8_t peer_gids[8][LEND_VERBS_GID_BYTES];
    uint32_t peer_gid_count;

    struct lend_verbs_place place;
    uint32_t nic; /* its index in the station's */
    struct lend_verbs_cq *cq;
    enum lend_verbs_arming arming;
    uint32_t lane_count; /* queue pairs of it: at least one for reads */
    struct lend_verbs_qp *pairs[LEND_VERBS_LANES_MAX];
    struct lend_verbs_offer ours;
    struct lend_verbs_offer theirs;
    struct lend_verbs_notes *notes; /* of the root; NULL: all go by the channel */
    bool fences_itself;             /* nobody relies on fences and windows of this NIC */
    bool is_stuck; /* the provider did not give something back: nobody knows what it does */

    /* Server: what the peer may write. Under the lock of keys, with the queue pair for writes. */
    struct lend_list grants;
    struct lend_verbs_cq *write_cq;
    bool binds;              /* windows; else private regions are made; set before it is UP */
    bool is_writable;        /* the queue pair works, */
    uint32_t key_work;       /* with so much under way, whose completions its queue has room for */
    struct lend_error keeps; /* what the provider said when it kept something last */
    struct lend_verbs_keyless {
        uint32_t slot;
        uint64_t generation;
        char why[LEND_VERBS_REASON_MAX + 1];
    } keyless; /* the last lease for which there are no keys, which is said to the peer */

    uint32_t calls; /* that came since then */
    uint64_t calls_since_ns;

    /* What is to be said. */
    bool owes_offer; /* a call, or the answer to one */
    bool owes_refusal;
    uint32_t owed_count; /* leases whose keys are told, or, by the client, wished for next */
    struct lend_verbs_owed {
        uint32_t slot;
        uint64_t generation;
        bool is_begun; /* the peer knows how many keys there will be, */
        uint32_t told; /* and has so many */
    } owed[LEND_VERBS_OWED_MAX];
    uint64_t *telling; /* regions, which are told next; owned */
    uint32_t telling_count;
    uint32_t telling_capacity;

    /* Client. */
    struct lend_verbs_far **buckets;
    uint32_t bucket_count;
    uint32_t far_count;
    struct lend_verbs_entry *entries[LEND_VERBS_ENTRY_BUCKETS]; /* what leases let us write */
    uint32_t entry_count;
    uint32_t known_count;  /* pieces of these */
    uint32_t wishes;       /* for keys, which the owner has not answered */
    bool is_joined;        /* the owner has queue pairs of this round, and we ours; */
    bool owes_halt;        /* or ours broke, and its are to go, */
    uint32_t halted_round; /* of that round */
    uint64_t *landing;     /* where words land: one for each batch; owned */
    struct lend_verbs_region *landing_region;
    uint32_t landing_lkey; /* by the NIC that we have chosen */
    uint32_t free_work[LEND_VERBS_LANES_MAX];
    uint32_t next_lane;
    uint32_t flying_count;
    uint32_t pieces_max; /* scatter entries of a READ */
    uint64_t heard_ns;   /* when work last completed, or began */
    struct lend_list moves;
    struct lend_list free_batches;
    struct lend_verbs_batch batches[LEND_VERBS_BATCHES];
};

static inline struct lend_verbs_rail *lend_verbs_rail_of(struct lend_rail *base)
{
    return (struct lend_verbs_rail *)base;
}

static inline void lend_verbs_touch(struct lend_verbs_station *station)
{
    (void)atomic_fetch_add_explicit(&station->serial, 1, memory_order_release);
}

/* exposure.c: the table's operations of regions, and what rails ask of them */
enum lend_status lend_verbs_expose(void *transport, const struct lend_exposure *exposure,
                                   struct lend_error *error);
void lend_verbs_conceal(void *transport, uint64_t region_id);
bool lend_verbs_is_exposed(void *transport, uint64_t region_id, char *who, size_t capacity);
const void *lend_verbs_ours(struct lend_rail *base, uint64_t region_id, bool lands,
                            struct lend_error *why);
/* A region; NULL: no NIC has it. It stays for as long as a lease on it that is being written. */
struct lend_verbs_region *lend_verbs_find(struct lend_verbs_station *station, uint64_t region_id,
                                          uint32_t *out_gpu);
/* What to tell a peer of a region, by that NIC. False: it has no part in it. */
bool lend_verbs_describe(struct lend_verbs_station *station, uint64_t region_id, uint32_t nic,
                         struct lend_verbs_told *out);
void lend_verbs_exposures_fini(struct lend_verbs_station *station, bool forked);

/* gpus.c */
/* Find out how far our NICs are from that GPU, once. */
void lend_verbs_gpu_locate(struct lend_verbs_station *station, const struct lend_lane *lane);
/* How far it is then; 0: that is not known, or the lane is NULL. */
uint32_t lend_verbs_gpu_distance(const struct lend_verbs_station *station, uint32_t nic,
                                 const struct lend_lane *lane);
/* Find out by which exports our NICs reach that GPU, once. Any thread; may take a second. */
void lend_verbs_gpu_try(struct lend_verbs_station *station, struct lend_lane *lane);
/* Peers are to write memory of that lane's GPU: its bit, among the station's. */
enum lend_status lend_verbs_gpu_enter(struct lend_verbs_station *station, struct lend_lane *lane,
                                      uint32_t *out_gpu, struct lend_error *error);
/* What peers have written to those GPUs is there. False: a driver did not see to that, and why. */
bool lend_verbs_gpus_flush(const struct lend_verbs_station *station, uint32_t gpus,
                           struct lend_error *why);
/* Tell the peer, which is to write to those GPUs, of their beacons. */
void lend_verbs_gpus_tell(struct lend_verbs_rail *rail, uint32_t gpus);
/* How far our NIC of each leg is from the one GPU that those are contexts of; 0: not known, or
 * there is not one. */
void lend_verbs_gpus_measure(const struct lend_verbs_rail *root, uint32_t gpus,
                             uint8_t out[LEND_VERBS_LEGS_MAX]);
/* The station's store is closed. */
void lend_verbs_gpus_fini(struct lend_verbs_station *station, bool forked);

/* events.c */
/* Begin to hear the NICs, as far as that can be; and end it, before they are closed. */
void lend_verbs_ears_open(struct lend_verbs_station *station);
void lend_verbs_ears_close(struct lend_verbs_station *station);
/* Client: take in what the NIC has told since the last time. True: the rail broke by it. */
bool lend_verbs_rail_heed(struct lend_verbs_rail *rail);
/* The next completion is to be told: rail->arming. */
void lend_verbs_rail_arm(struct lend_verbs_rail *rail);

/* legs.c: what core knows as a rail, and its end as a whole */
/* What waits for keys on that leg: it has been told of some; or, if that is NULL, has broken. */
void lend_verbs_legs_settle(struct lend_verbs_rail *leg, const struct lend_verbs_granted *told);
void lend_verbs_legs_close(struct lend_rail *base, bool forked);
size_t lend_verbs_legs_say(struct lend_rail *base, uint8_t *bytes);
enum lend_status lend_verbs_legs_hear(struct lend_rail *base, const uint8_t *bytes, size_t count,
                                      struct lend_error *error);
void lend_verbs_legs_tell(struct lend_rail *base, uint64_t region_id);
enum lend_status lend_verbs_legs_judge(struct lend_rail *base, struct lend_error *why);
bool lend_verbs_legs_are_behind(struct lend_rail *base);
void lend_verbs_legs_submit(struct lend_rail *base, struct lend_rail_move *move);
bool lend_verbs_legs_stop(struct lend_rail *base, struct lend_rail_move *move);
bool lend_verbs_legs_pump(struct lend_rail *base);
bool lend_verbs_legs_sleep(struct lend_rail *base);
uint64_t lend_verbs_legs_due(struct lend_rail *base);
void lend_verbs_legs_halt(struct lend_rail *base);

/* pair.c */
/* Make the queue pairs of a rail, from its place, and what to offer to the other end. */
enum lend_status lend_verbs_pairs_make(struct lend_verbs_rail *rail, struct lend_error *error);
/* Join them to those of the other end's offer. */
enum lend_status lend_verbs_pairs_join(struct lend_verbs_rail *rail, struct lend_error *error);
/* Destroy them: not one more byte lands, or is read, by them. False: the provider did not do it. */
bool lend_verbs_pairs_destroy(struct lend_verbs_rail *rail);

/* keys.c */
bool lend_verbs_grant(struct lend_rail *base, const struct lend_rail_grant *what);
enum lend_status lend_verbs_revoke(void *transport, uint32_t slot, uint64_t generation,
                                   struct lend_error *error);
/* The peer wishes for keys of a lease on that leg, too: those that its root has. */
enum lend_status lend_verbs_hear_wish(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                      size_t count, struct lend_error *error);
/* Make some of the keys that are owed to the peer. True if there were any to make. */
bool lend_verbs_keys_pump(struct lend_verbs_rail *rail);
/* The next of the keys that are owed to the peer, and have been made. */
size_t lend_verbs_say_grant(struct lend_verbs_rail *rail, uint8_t *bytes);
/* The server's queue pair for writes is there; or it is to be gone, with all keys: false: the
 * provider keeps something. In a forked child: free the memory alone. */
void lend_verbs_keys_begin(struct lend_verbs_rail *rail);
bool lend_verbs_keys_end(struct lend_verbs_rail *rail);
void lend_verbs_keys_forget(struct lend_verbs_rail *rail);

/* granted.c */
void lend_verbs_granted_note(struct lend_verbs_rail *rail,
                             const struct lend_verbs_granted *granted);
/* NULL: it was not said. Valid until the next is noted. */
const struct lend_verbs_entry *lend_verbs_granted_find(struct lend_verbs_rail *rail, uint32_t slot,
                                                       uint64_t generation);
void lend_verbs_granted_forget(struct lend_verbs_rail *rail);
enum lend_status lend_verbs_writes(struct lend_rail *base, uint32_t slot, uint64_t generation,
                                   struct lend_error *why);

/* notes.c */
void lend_verbs_notes_open(struct lend_verbs_rail *rail);
/* By the NIC that was chosen. False: there are none by it. */
bool lend_verbs_notes_find(struct lend_verbs_rail *rail);
/* False: a NIC keeps it. */
bool lend_verbs_notes_close(struct lend_verbs_rail *rail, bool forked);
/* Server: with its queue pairs: their queue, before they are made; where it is that lane's, else
 * NULL; how many receives are there; and its end. */
void lend_verbs_notes_begin(struct lend_verbs_rail *rail);
struct lend_verbs_cq *lend_verbs_notes_cq(const struct lend_verbs_rail *rail, uint32_t lane);
uint8_t lend_verbs_notes_offer(struct lend_verbs_rail *rail);
bool lend_verbs_notes_end(struct lend_verbs_rail *rail);
/* Server: take what has come. True if anything had. */
bool lend_verbs_notes_hear(struct lend_verbs_rail *rail);
/* The same, of a peer that has gone. */
void lend_verbs_notes_drain(struct lend_verbs_rail *rail);
size_t lend_verbs_say_noted(struct lend_verbs_rail *rail, uint8_t *bytes);
enum lend_status lend_verbs_hear_note(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                      size_t count, struct lend_error *error);
/* Client. */
bool lend_verbs_notify(struct lend_rail *base, uint64_t number, const void *bytes, size_t count);
void lend_verbs_repeat(struct lend_rail *base);
bool lend_verbs_notes_fly(const struct lend_verbs_rail *rail);
/* A SEND has completed; or none will any more. */
void lend_verbs_notes_sent(struct lend_verbs_rail *rail);
void lend_verbs_notes_lose(struct lend_verbs_rail *rail);
size_t lend_verbs_say_note(struct lend_verbs_rail *rail, uint8_t *bytes);
enum lend_status lend_verbs_hear_noted(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                       size_t count, struct lend_error *error);

/* work.c */
/* Is anything of ours under way? */
bool lend_verbs_work_flies(const struct lend_verbs_rail *rail);
void lend_verbs_work_init(struct lend_verbs_rail *rail);
void lend_verbs_submit(struct lend_rail *base, struct lend_rail_move *move);
bool lend_verbs_stop(struct lend_rail *base, struct lend_rail_move *move);
bool lend_verbs_pump(struct lend_rail *base);
bool lend_verbs_sleep(struct lend_rail *base);
uint64_t lend_verbs_due(struct lend_rail *base);
/* The rail's queue pairs are destroyed: all that moves ends with that. */
void lend_verbs_work_end(struct lend_verbs_rail *rail, enum lend_status status, int32_t code);

/* rail.c: one leg */
enum lend_status lend_verbs_rail_open(void *transport, const struct lend_rail_desc *desc,
                                      struct lend_rail **out, struct lend_error *error);
/* One more leg of that root; the client's calls. NULL: no memory. */
struct lend_verbs_rail *lend_verbs_rail_open_leg(struct lend_verbs_rail *root, uint32_t leg);
/* A region that was told on that leg; NULL: it was not. */
struct lend_verbs_far *lend_verbs_rail_find(const struct lend_verbs_rail *rail, uint64_t region_id);
void lend_verbs_rail_close(struct lend_rail *base, bool forked);
size_t lend_verbs_rail_say(struct lend_rail *base, uint8_t *bytes);
enum lend_status lend_verbs_rail_hear(struct lend_rail *base, const uint8_t *bytes, size_t count,
                                      struct lend_error *error);
void lend_verbs_rail_tell(struct lend_rail *base, uint64_t region_id);
enum lend_status lend_verbs_rail_judge(struct lend_rail *base, struct lend_error *why);
bool lend_verbs_rail_is_behind(struct lend_rail *base);
uint64_t lend_verbs_rail_stamp(struct lend_rail *base);
const void *lend_verbs_rail_theirs(struct lend_rail *base, uint64_t region_id, uint32_t life,
                                   struct lend_error *why);
void lend_verbs_rail_halt(struct lend_rail *base);
/* It carries nothing any more: what moves ends with that status. Calls anew when it is next wanted.
 */
void lend_verbs_rail_break(struct lend_verbs_rail *rail, enum lend_status status, int32_t code,
                           const struct lend_error *why);

/* The same, from a call that nothing may end in: what moves ends with the next pump. */
void lend_verbs_rail_lose(struct lend_verbs_rail *rail, const struct lend_error *why);
/* The same, as the owner has told that its queue pair for writes is gone. */
void lend_verbs_rail_lose_pairs(struct lend_verbs_rail *rail);

extern const struct lend_transport_ops lend_transport_verbs;

#endif
