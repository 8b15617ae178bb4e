/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_TRANSFER_H
#define LEND_CORE_TRANSFER_H

#include "core/agent.h"
#include "core/outgoing.h"
#include "core/peer.h"
#include "core/puller.h"
#include "core/range_list.h"
#include "core/session.h"
#include "core/sums.h"

/* A ticket that was imported. */
struct lend_ticket {
    struct lend_pool_object object;
    struct lend_agent *agent;
    struct lend_peer *peer; /* a reference */
    struct lend_lease_name lease;
};

enum lend_transfer_phase {
    LEND_PHASE_IDLE = 0, /* never posted */
    LEND_PHASE_POSTING,
    LEND_PHASE_ACTIVE,
    LEND_PHASE_ZEROING, /* it has failed, and its destination is being zeroed */
    LEND_PHASE_COMPLETE,
};

enum { LEND_TRANSFER_BLOCKS_MAX = 1 << 24, LEND_NOTIFICATION_INLINE = 128 };

/* A region of ours that a transfer uses: the id tells whether the handle's place serves another by
 * now, the address whether it was resumed elsewhere since. */
struct lend_transfer_region {
    struct lend_region *region;
    uint64_t id;
    uint64_t address; /* that the transfer's extents count from */
};

/*
 * One request asks for no more than that, though for one block, or range, at least: a large
 * transfer gives its place to those that wait after each. Asking again costs a turn-around, which
 * is little beside the time that so many bytes take. What asks for no more than the smaller number
 * never waits behind those that ask for more.
 */
enum { LEND_WINDOW_BYTES = 32 << 20, LEND_WINDOW_SMALL_BYTES = 1 << 20 };

/* How far the peer's side of a transfer has been asked for: the regions and runs of one request. */
struct lend_transfer_window {
    uint64_t region; /* the first, and how many */
    uint64_t region_count;
    uint64_t run;
    uint64_t run_count;
    uint64_t bytes; /* that the request moves */
};

/* A region or range of the peer's side, to a reader that copies by itself. */
struct lend_source {
    uint32_t life; /* of the region, as its metadata says, */
    int32_t gpu;   /* and of which GPU its memory is; -1: the host's */
    struct lend_geometry geometry;
    /* Of memory of a GPU that the reader opens: */
    uint32_t file; /* that tells of its allocation, */
    uint64_t offset_bytes;
    uint64_t length_bytes;      /* where it is in that, */
    struct lend_opened *opened; /* and where that was opened; while it is placed */
};

/* What the places of the peer's side depend on; another one, and they are to be found anew. */
struct lend_placement {
    enum lend_way way;
    const struct lend_session *session; /* NULL: not placed */
    uint64_t mapping_stamp;
    uint64_t metadata_stamp;
    uint64_t rail_stamp;
};

struct lend_transfer {
    struct lend_pool_object object;
    struct lend_agent *agent;
    struct lend_list link;  /* in lend_agent::transfer_list */
    struct lend_peer *peer; /* a reference */
    uint32_t direction;
    uint32_t flags;
    bool has_ranges;
    bool is_resolved; /* its ranges were given and found when it was prepared */
    struct lend_slice remote_slice;
    uint64_t region_count;               /* with ranges: of those found at the last post */
    void *arrays;                        /* owned: most of those that follow */
    struct lend_transfer_region *locals; /* region_count, or a range each */
    uint64_t *remotes;                   /* region ids; NULL with ranges */
    uint64_t local_blocks_min;           /* the fewest that a region of that side has */
    uint64_t remote_blocks_min;
    uint64_t block_bytes;
    uint64_t block_count_max;
    uint64_t window_bytes_max;
    struct lend_extent *extents;   /* of our side */
    struct lend_run *local_runs;   /* with ranges: the one run that all extents share */
    struct lend_run *remote_runs;  /* NULL with ranges */
    struct lend_run_range *ranges; /* of the peer's side */
    /* Prepared of two lists, and not yet posted: references to them, and what is paired. */
    struct lend_range_list *local_list;
    struct lend_range_list *remote_list;
    struct lend_range_pair *pairs;
    uint64_t pair_count;
    uint64_t ways_allowed;        /* bits of lend_way, LEND_WAYS for each of the peer's reaches */
    bool has_policy;              /* they are those that its user has named */
    uint32_t kinds;               /* bit n set: memory of that kind has a part in it */
    const struct lend_lane *lane; /* of our side's first memory of a GPU; NULL: there is none */

    /* One that we carry out ourselves (onesided.c); under the session's lock. */
    struct lend_source *sources; /* of the peer's side; NULL in a WRITE to a peer without a rail */
    struct lend_extent *source_extents; /* the same in our addresses, or its own */
    struct lend_placement placement;
    struct lend_list own_link; /* in lend_onesided::all */
    struct lend_cursor remote;
    struct lend_pull pull;
    bool is_pulled; /* the puller has it */
    struct lend_rail_move move;
    struct lend_rail_ends *ends;  /* NULL: the peer has no rail; of the placement, */
    bool is_bound;                /* if they are known */
    bool is_on_rail;              /* the rail has it */
    bool view_is_new;             /* what its lease permits was asked for it */
    uint32_t rail_tries;          /* that ended with nothing known */
    bool is_flying;               /* a GPU copies, out of what was opened, */
    uint64_t flying_bytes;        /* so many bytes, */
    struct lend_lane_mark mark;   /* until that says so; */
    struct lend_error flight_why; /* and why it copies no more than those; LEND_OK: as it should */
    int32_t severed; /* on the rail, or while a GPU copies: how it ends once nothing lands; LEND_OK:
                        it goes on */
    const char *severed_why;
    uint64_t settle_by_ns;
    bool is_doubted; /* no way is left, as `why` says, unless its owner is dead: that is asked */
    _Atomic bool pull_is_done; /* and has told, on its own thread */

    _Atomic int32_t phase; /* a lend_transfer_phase */

    /* Of the post under way; under the session's lock, once it is active. */
    struct lend_session *session;  /* a reference, kept until the next post; completion_lock */
    struct lend_list session_link; /* while it waits for its turn, or is being zeroed */
    struct lend_cursor local;
    uint64_t local_run_count;
    uint64_t remote_run_count; /* or ranges */
    uint64_t block_count;
    uint64_t total_bytes;
    uint64_t proven_bytes; /* of requests that are done */
    struct lend_transfer_window window;
    struct lend_lease_name lease;
    uint64_t posted_ns;
    uint64_t deadline_ns;
    uint64_t post_ns;
    uint64_t wire_ns; /* of the last completion */
    uint64_t user_data;
    bool is_canceled;        /* a WRITE that waits for the peer's word */
    _Atomic bool is_severed; /* it completes when what is landing has landed */
    bool is_summing;         /* its bytes have moved, and their checksums are asked for */
    uint8_t *sums;           /* owned, with LEND_TRANSFER_CHECKSUM: of one window, as they come */
    struct lend_sums_place sum_place; /* of the same, to be received to */
    struct lend_cursor sum_cursor;
    struct lend_cursor checked; /* of our side: what was not compared yet, */
    uint64_t checked_blocks;    /* and how many were */
    enum lend_way way;
    const char *_Atomic path; /* read by who asks how it goes, while it goes */
    int32_t status;
    uint64_t record_bytes; /* proven, as the record tells them */
    uint64_t record_blocks;
    struct lend_error why;
    struct lend_outgoing notification; /* to be sent on success, if has_notification */
    bool has_notification;
    uint8_t inline_notification[LEND_NOTIFICATION_INLINE];
    uint8_t *long_notification; /* owned; grows on the first post that needs it */
    size_t long_capacity;
};

/* What the record tells as the path, until a way is chosen. */
extern const char lend_no_path[];

/* Find the ranges of desc; they are what later posts go over. */
enum lend_status lend_transfer_resolve(struct lend_transfer *transfer,
                                       const struct lend_transfer_desc *desc,
                                       struct lend_error *error);

/* That many of its ranges are found: they are what posts go over. */
void lend_transfer_set_ranges(struct lend_transfer *transfer, uint64_t count);

/* Check what is to be posted, and plan it: runs, ranges, the first window. Nothing of the last
 * post's record is touched. */
enum lend_status lend_transfer_plan(struct lend_transfer *transfer,
                                    const struct lend_post_desc *desc, struct lend_error *error);

/* A region of ours, and one of the peer's, of those kinds have a part in it. */
static inline void lend_transfer_note_kinds(struct lend_transfer *transfer, uint32_t local,
                                            uint32_t remote)
{
    transfer->kinds |= UINT32_C(1) << local | UINT32_C(1) << remote;
}
/* Does memory of a GPU have a part in it? */
static inline bool lend_transfer_is_staged(const struct lend_transfer *transfer)
{
    return (transfer->kinds >> LEND_MEMORY_DEVICE & 1) != 0;
}

/* Can it do with memory of those kinds what its flags say? LEND_E_UNSUPPORTED. */
enum lend_status lend_transfer_check_kinds(const struct lend_transfer *transfer,
                                           struct lend_error *error);

/* Are all regions of ours that it uses still lent to the agent? Those that were resumed elsewhere
 * are followed there, except by address ranges. It must be LEND_PHASE_ACTIVE, so that whoever
 * suspends a region waits for it. LEND_E_REVOKED. */
enum lend_status lend_transfer_check_locals(struct lend_transfer *transfer,
                                            struct lend_error *error);

/* Is our side's memory of GPUs what it was when it was registered? LEND_E_STALE. It is active. */
enum lend_status lend_transfer_check_devices(const struct lend_transfer *transfer,
                                             struct lend_error *error);
/* See that our GPUs see what NICs have written for it. LEND_E_DEVICE. */
enum lend_status lend_transfer_flush(const struct lend_transfer *transfer,
                                     struct lend_error *error);

/* The session of the last post, with a reference; NULL: none yet. */
struct lend_session *lend_transfer_session(struct lend_transfer *transfer);

/* Is it under way in that session, whose lock is held? */
bool lend_transfer_is_active(struct lend_transfer *transfer, const struct lend_session *session);

/* Client's side; under the session's lock. */

/* The next request's window; false when all was asked for. */
bool lend_transfer_next_window(struct lend_transfer *transfer);

/* Bytes that the peer sends for the window, or is sent. */
uint64_t lend_transfer_window_moves(const struct lend_transfer *transfer);
/* All has moved: is it to be checked? Then it is planned anew, to ask for checksums. */
bool lend_transfer_begin_sums(struct lend_transfer *transfer);
/* The checksums of a window are here: are ours the same? LEND_E_CORRUPT, naming the block. */
enum lend_status lend_transfer_check_sums(struct lend_transfer *transfer, struct lend_error *error);

/* Begin anew with nothing moved, as planned. */
void lend_transfer_rewind(struct lend_transfer *transfer);

/* It has ended with that status; what is proven stands in proven_bytes. The transfer may be gone
 * when this returns. */
void lend_transfer_complete(struct lend_transfer *transfer, enum lend_status status,
                            const struct lend_error *why);

/* Under the agent's lock: LEND_E_BUSY, by name, if a transfer under way uses the region. */
enum lend_status lend_transfers_check_idle_locked(const struct lend_region *region,
                                                  struct lend_error *error);

/* End every transfer under way that uses the region, as revoked. Under no lock. */
void lend_transfers_abort(struct lend_region *region);

/* In the poller's turn: zero a chunk of what failed. True if there was any. */
bool lend_transfers_zero(struct lend_agent *agent);

/* Leave the rest of its destination as it is: it is complete. A no-op if it is not being zeroed. */
void lend_transfer_stop_zeroing(struct lend_transfer *transfer);

/* `forked`: sessions are freed already, whatever refers to them. */
void lend_transfers_fini(struct lend_agent *agent, bool forked);

#endif
