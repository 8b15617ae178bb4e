/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_ONESIDED_H
#define LEND_CORE_ONESIDED_H

#include "core/puller.h"
#include "core/transfer.h"
#include "wire/view.h"

/*
 * Reads that the reader carries out by itself: from a mapping of the owner's file, or out of the
 * owner's process; and reads and writes of its NIC. Part of a client; all of it under the session's
 * lock.
 *
 *     arrive --which way?--> served, by the owner (client.c)
 *        `--> wait for the lease's view --> check the blocks --> copy --> prove --> done
 *
 * What a lease permits, its *view*, is asked of the owner once. From then on a read needs nothing
 * of the owner but its memory: the lease's word, and a sign that it lives.
 *
 * The proof of a read. The copy races with whatever the owner does, as in a sequence lock: copy,
 * acquire fence, load the word. The owner stores the word, then a full fence, before it rewrites a
 * byte; so had the copy seen a rewritten byte, the load would see the word. A dead owner rewrites
 * nothing and ends no lease: so before success the transport looks once whether it is still there.
 */

struct lend_onesided {
    struct lend_session *session;
    struct lend_peer *peer;
    struct lend_list views; /* struct view, least recently used first */
    uint32_t view_count;
    uint32_t wanted_count; /* views that are to be asked for, */
    uint32_t looks_out;    /* and asked for, and not answered */
    uint64_t next_look;
    struct lend_list unheard; /* transfers that wait until the owner answers a look that is to be
                                 asked, whatever it says, */
    struct lend_list hushed;  /* and those for which this one was: */
    uint64_t hush_look;       /* 0: none is under way */
    struct lend_list all;     /* transfers that are here, by own_link */
    struct lend_list copying; /* of them, by session_link: those that we copy, in turn, */
    struct lend_list pulling; /* those that the puller has, */
    uint32_t on_rail_count;   /* and how many the rail has; */
    struct lend_list carried; /* those that a GPU copies (opened.c), */
    uint32_t flying_count;    /* and how many of them it copies now, */
    struct lend_list opened;  /* out of these allocations of the peer's, */
    uint64_t opened_stamp;    /* of which none is wanted back at that mapping_stamp */

    struct lend_pull probe; /* of the owner's process */
    bool is_probing;
    _Atomic bool probe_is_done;   /* by a helper */
    _Atomic int32_t probe_status; /* LEND_PENDING: not probed */
    struct lend_error probe_why;
};

void lend_onesided_init(struct lend_onesided *own, struct lend_session *session,
                        struct lend_peer *peer);
/* No transfer is here any more. */
void lend_onesided_fini(struct lend_onesided *own);

/* A transfer of an established session: where does it go? LEND_OK: it is here now, or has ended.
 * LEND_E_NO_PATH: it is to be served by the owner. LEND_PENDING: its policy leaves it but ways that
 * are being found out; ask again when the session is woken. */
enum lend_status lend_onesided_take(struct lend_onesided *own, struct lend_transfer *transfer);

/* Let go of a transfer that is here: not one more byte lands. A no-op for one that is not. */
void lend_onesided_drop(struct lend_onesided *own, struct lend_transfer *transfer);

/* Is something landing still for a transfer that is here, so that it cannot be dropped at once? */
bool lend_onesided_is_landing(const struct lend_onesided *own,
                              const struct lend_transfer *transfer);
/* Then this: it ends with that status once nothing is. The reason lives for ever. */
void lend_onesided_sever(struct lend_onesided *own, struct lend_transfer *transfer,
                         enum lend_status status, const char *reason);
/* It ends with that status, and is with no rail any more; but a rail may have broken under it, and
 * bytes of it be on their way still: then true, and it ends when its owner has heard of that. */
bool lend_onesided_hush(struct lend_onesided *own, struct lend_transfer *transfer,
                        enum lend_status status, const char *reason);
/* The time by which that must be over, for all such; if it is past, it is ended by force.
 * UINT64_MAX: there is none. */
uint64_t lend_onesided_settle(struct lend_onesided *own, uint64_t now_ns);

/* Ask, copy at most so many bytes, end what is over. True if anything moved. */
bool lend_onesided_pump(struct lend_onesided *own, uint64_t bytes);
/* Is there something to do, without word from anybody? */
bool lend_onesided_has_more(const struct lend_onesided *own);

/* A VIEW has come. LEND_E_CORRUPT: it breaks the session. */
enum lend_status lend_onesided_view(struct lend_onesided *own, const struct lend_frame *frame,
                                    const uint8_t *payload, struct lend_error *error);
/* This consumer has said done: the lease is to be looked at anew, should it be used again. */
void lend_onesided_forget(struct lend_onesided *own, const struct lend_lease_name *name);

/* Do the paths that it allows let its owner serve it? */
bool lend_onesided_may_serve(const struct lend_transfer *transfer);

/* Could a region of the peer be read that way, as far as is known? LEND_OK; LEND_PENDING: after a
 * probe, which is begun, or word of a file; else why not. Under the agent's lock as well. */
enum lend_status lend_onesided_judge_locked(struct lend_onesided *own, enum lend_way way,
                                            const struct lend_metadata_region *region,
                                            struct lend_error *why);

/* What the lease's word says. For opened.c, as the next three: work out where the peer's side is
 * where it was opened; every byte is here, and its lease lived; the way is none any more. */
enum lend_status lend_onesided_judge_word(struct lend_onesided *own,
                                          const struct lend_transfer *transfer);
enum lend_status lend_onesided_place_opened(struct lend_onesided *own,
                                            struct lend_transfer *transfer, struct lend_error *why);
void lend_onesided_prove(struct lend_onesided *own, struct lend_transfer *transfer);

/* Find out whether the owner's process can be read; probe_status says when. */
void lend_onesided_probe(struct lend_onesided *own);

/* The ways, better ones first, to a region with those flags. */
void lend_ways_rank(uint32_t region_flags, enum lend_way ways[LEND_WAYS]);
/* Is it one for transfers of that direction? */
bool lend_way_suits(enum lend_way way, uint32_t direction);

#endif
