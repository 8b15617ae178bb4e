/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_LEASE_H
#define LEND_CORE_LEASE_H

#include "core/agent.h"
#include "core/block_set.h"
#include "core/region.h"

/* What a lease says of one region. */
struct lend_lease_part {
    struct lend_list link; /* in lend_region::parts */
    struct lend_lease *lease;
    struct lend_region *region; /* NULL once it was deregistered */
    uint64_t region_id;
    const struct lend_blocks *blocks; /* shared by the regions of one set */
};

/* A consumer that has said done, or was seen to die. */
struct lend_consumer {
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    bool is_done;
};

/* Consumers that a lease may count, and incarnations that may use such a one. */
enum { LEND_CONSUMERS_MAX = 1024, LEND_CONSUMER_ENTRIES_MAX = 4096 };

struct lend_lease {
    struct lend_pool_object object;
    struct lend_agent *agent;
    uint32_t references; /* the handle, the life, each request, the untold end; agent's lock */
    uint32_t slot;
    uint64_t generation;
    const _Atomic uint64_t *word;
    uint8_t key[LEND_KEY_BYTES];
    uint32_t access;
    bool has_peer;
    bool is_standing; /* on all regions: no parts, and every request counts in its regions */
    bool is_live;
    _Atomic bool is_awaited; /* a GPU still writes its blocks: awaited.h */
    uint8_t peer_incarnation[LEND_INCARNATION_BYTES];
    struct lend_list live_link;  /* in lend_agent::live_leases, then ::ended_leases */
    struct lend_lease_info info; /* what does not change while it lives, and the end */
    _Atomic uint64_t expires_ns; /* 0: never */
    _Atomic uint64_t bytes;
    _Atomic uint32_t pins;       /* copies under way at this moment */
    _Atomic uint32_t moves;      /* requests whose bytes a transport still reads */
    _Atomic uint32_t keys;       /* rails by which a peer may write: lease_keys.h */
    uint32_t request_references; /* requests that hold it; agent's lock */
    uint32_t part_count;
    uint32_t blocks_count;
    struct lend_lease_part *parts; /* ascending by region id; one allocation with `blocks` */
    struct lend_blocks *blocks;
    struct lend_consumer *consumers; /* who has used it, if they are counted */
    uint32_t consumer_entries;
    uint32_t consumer_capacity;
    struct lend_statistics_lease *row; /* on the statistics page; NULL: none; agent's lock */
};

/*
 * Pin a lease around one copy. enter: LEND_OK, and nothing frees the blocks or, for a write, hears
 * that the lease has ended, until leave; or the cause why not. leave: LEND_OK if the lease was
 * still live after the last byte was copied. No lock is taken, unless the lease's time is found to
 * be over.
 */
enum lend_status lend_lease_enter(struct lend_lease *lease);
enum lend_status lend_lease_leave(struct lend_lease *lease);

/*
 * A transport goes on reading the blocks after a copy has been left: begin, before leave; end:
 * LEND_OK if the lease was still live when it had read the last of them. Whoever ends the lease
 * does not wait for it, as nothing is written; whoever withdraws a region does.
 */
void lend_lease_begin_move(struct lend_lease *lease);
enum lend_status lend_lease_end_move(struct lend_lease *lease);

/* LEND_OK while it lives, else what its word says of it. */
enum lend_status lend_lease_judge(const struct lend_lease *lease);

/* End a lease for that cause, unless it has ended already. Under the agent's lock. The pins of a
 * write lease are to be waited for afterwards, without the lock. */
void lend_lease_end_locked(struct lend_lease *lease, enum lend_slot_state cause);
void lend_lease_await_pins(struct lend_lease *lease);

/* One reference. Under the agent's lock. */
void lend_lease_drop_locked(struct lend_lease *lease);

/* End every live lease on a region as revoked, or, if blocks is not NULL, those that touch them,
 * wait for the pins of those that may write, and end their keys. Under no lock. *count grows by how
 * many. LEND_E_BUSY: a NIC keeps keys; all have ended still. */
enum lend_status lend_leases_revoke(struct lend_region *region, const struct lend_blocks *blocks,
                                    uint32_t *count, struct lend_error *error);

/* Who asks for a lease, and why. */
struct lend_lease_user {
    const uint8_t *incarnation;
    const char *name;
};

/*
 * Find the lease that a request names and take a request's reference on it; give it back with
 * lend_lease_put(). LEND_E_UNKNOWN, _STALE, _REVOKED, _EXPIRED, _CONSUMED, _ACCESS, _PEER_DEAD.
 */
enum lend_status lend_lease_get(struct lend_agent *agent, const struct lend_lease_name *name,
                                const struct lend_lease_user *user, uint32_t access,
                                struct lend_lease **out, struct lend_error *error);
void lend_lease_put(struct lend_lease *lease);

/* A region, and which of its blocks a lease names. */
struct lend_leased {
    struct lend_region *region;
    const struct lend_blocks *blocks; /* NULL: all, by a standing lease */
};

/* That region, which is still registered, by the lease, which is held for that access. Under the
 * agent's lock.
 * LEND_E_OUT_OF_RANGE: it is not in the lease; if it was deregistered, the lease has ended, and
 * that is the cause. LEND_E_REVOKED, LEND_E_ACCESS: it is out of a standing lease. */
enum lend_status lend_lease_find(const struct lend_lease *lease, uint64_t region_id,
                                 uint32_t access, struct lend_leased *out,
                                 struct lend_error *error);

/* Are those bytes of a region of that geometry all of blocks of the set (NULL: of all blocks)?
 * LEND_E_OUT_OF_RANGE. */
enum lend_status lend_lease_check_range(const struct lend_geometry *geometry,
                                        const struct lend_blocks *blocks,
                                        const struct lend_run_range *range,
                                        struct lend_error *error);

/* The message for a lease that has ended, or never was. */
enum lend_status lend_lease_explain(const struct lend_lease_name *name, enum lend_status cause,
                                    struct lend_error *error);

/* A consumer has said done. Unknown and ended leases are no error: it may come late. */
void lend_lease_consume(struct lend_agent *agent, const struct lend_lease_name *name,
                        const uint8_t *incarnation);

/* An incarnation was seen to die: leases for it end, and it counts as done where it had begun. */
void lend_lease_mourn(struct lend_agent *agent, const uint8_t *incarnation);

/* End what has expired; the time when to look again. Under no lock. */
uint64_t lend_leases_expire(struct lend_agent *agent, uint64_t now_ns);

/* At the agent's end: every lease ends as revoked, then is freed. */
void lend_leases_end_all(struct lend_agent *agent);
void lend_leases_fini(struct lend_agent *agent);

/* Take the ended leases that are still to be told, in lend_lease_info, when nothing is written by
 * their keys any more; false if there is none. Under no lock. */
bool lend_lease_take_ended(struct lend_agent *agent, struct lend_lease_info *out);

#endif
