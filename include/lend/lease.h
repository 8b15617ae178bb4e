/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_LEASE_H
#define LEND_LEASE_H

/**
 * @file
 * Leases: what one peer, or any bearer of a ticket, may do with which blocks until when.
 *
 *     owner:   grant --> export ticket ................ revoke | expires | consumed
 *     reader:            import ticket --> transfers --> done
 *
 * After a lease has ended (lend_lease_revoke() returned, say) no write under it lands, and no read
 * under it that was not complete before reports success. The owner may overwrite the blocks at
 * once, but may free them only after lend_region_withdraw(). Until a lease ends, nobody rewrites
 * blocks leased for reading or touches blocks leased for writing: lend cannot see a breach of that.
 */

#include <lend/peer.h>
#include <lend/region.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_lease;
struct lend_ticket;

/**
 * The same blocks of one or several regions. Blocks are the range first .. first + count - 1, or,
 * if blocks is not NULL, the count numbers there (of int32 or int64, in any order, twice is once).
 * A range with count 0 means every block from first on.
 */
struct lend_block_set {
    struct lend_region *const *regions;
    uint32_t region_count;
    uint32_t index_bits; /**< 32 or 64; looked at only if blocks is not NULL. */
    const void *blocks;
    uint64_t first;
    uint64_t count;
};

enum lend_grant_flag {
    /**
     * A *standing* lease: on all regions, whole, for what of its access each is registered for; on
     * those of now, and on those of later for as long as they are registered. For agents whose
     * peers know of no leases, as those of NIXL. sets is NULL. To withdraw a region, or suspend it,
     * takes that region out of the lease and leaves the lease as it is: what is under way there
     * ends as LEND_E_REVOKED, and whoever asks for it later is told so. lend_lease_revoke_blocks()
     * leaves it alone. No peer copies by itself under it, the owner always serves.
     */
    LEND_GRANT_STANDING = 1,
    /**
     * The blocks are still being written by what lend_grant_desc::stream has to do at this moment:
     * the lease is live and has its ticket at once, and transfers under it wait, whatever path they
     * take, until that work is over. What is put into the stream later is not waited for. If the
     * work fails (its context breaks down), the lease is revoked. It is for reading alone, and its
     * time to live runs meanwhile, as do the transfers' deadlines.
     */
    LEND_GRANT_AFTER_STREAM = 2,
};

/** What to grant. Initialise with LEND_GRANT_DESC_INIT. */
struct lend_grant_desc {
    uint32_t struct_size; /**< sizeof(struct lend_grant_desc) as compiled; one that ends behind
                               user_data or reserved is of a version that is still taken. */
    uint32_t access;      /**< One or both of ::lend_access. */
    const struct lend_block_set *sets;
    uint32_t set_count; /**< 1 .. LEND_GRANT_SETS_MAX; 0 for a standing lease. */
    /** Consumers after whose lend_ticket_done() the lease ends; one that has used the lease and
     * then dies or forgets this agent counts as done. 0: not counted. */
    uint32_t consumer_count;
    /** Who may use it; NULL: whoever bears the ticket. The lease ends when that peer dies or
     * forgets this agent. */
    struct lend_peer *peer;
    uint64_t time_to_live_ns; /**< Required for a bearer lease, unless it is a standing one; 0: no
                                   end. */
    uint64_t user_data;       /**< Given back in lend_lease_info. */
    uint32_t flags;           /**< ::lend_grant_flag. */
    uint32_t reserved;
    /** With LEND_GRANT_AFTER_STREAM: a CUstream (cudaStream_t) of the context that the first
     * region of memory of a GPU belongs to, not one that is being captured; 0: its default stream.
     * lend uses it in this call alone. */
    uint64_t stream;
};

enum { LEND_GRANT_SETS_MAX = 64 };

#define LEND_GRANT_DESC_INIT                                                                       \
    {                                                                                              \
        .struct_size = sizeof(struct lend_grant_desc)                                              \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_grant_desc_init(struct lend_grant_desc *desc);

/**
 * Grant a lease.
 *
 * @param desc   copied, arrays too.
 * @param out    on success, a handle; give it back with lend_lease_release(). Untouched on failure.
 * @retval LEND_E_INVALID       null arguments, no block, an unknown access bit, a bearer lease
 * without time to live, unknown flags, sets for a standing lease, LEND_GRANT_AFTER_STREAM for a
 * lease that permits writing or has no region of memory of a GPU, a stream without that flag, a
 * region that is named twice, a region or peer of another agent.
 * @retval LEND_E_OUT_OF_RANGE  a block that the region does not have; with its position.
 * @retval LEND_E_ACCESS        a region was not registered for this access.
 * @retval LEND_E_REVOKED       a region is withdrawn.
 * @retval LEND_E_STALE         memory of a GPU was freed since it was registered.
 * @retval LEND_E_DEVICE        the driver of such memory failed; see lend_error::device_code.
 * @retval LEND_E_PEER_DEAD     the named peer is known to be dead.
 * @retval LEND_E_LIMIT         leases_max or leases_per_peer_max, or every free slot still rests.
 * @retval LEND_E_NO_MEMORY
 * @retval LEND_E_SYSTEM        the kernel gave no random bytes.
 * @retval LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_lease_grant(struct lend_agent *agent,
                                                         const struct lend_grant_desc *desc,
                                                         struct lend_lease **out,
                                                         struct lend_error *error);

/**
 * Let a live lease live for time_to_live_ns from now.
 * @retval LEND_E_INVALID  not a live handle, or 0 for a bearer lease.
 * @retval LEND_E_EXPIRED, LEND_E_REVOKED, LEND_E_CONSUMED, LEND_E_PEER_DEAD  it has ended.
 * @retval LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_lease_renew(struct lend_lease *lease,
                                                         uint64_t time_to_live_ns,
                                                         struct lend_error *error);

/**
 * End a lease. Once this returns LEND_OK, no write under it lands and no read under it that was not
 * complete before reports success. Ending an ended lease is LEND_OK and changes nothing.
 * @retval LEND_E_INVALID  not a live handle.
 * @retval LEND_E_BUSY     it has ended, but an RDMA NIC does not confirm that it refuses the peer's
 *                         writes (named in the error): they may land until a later call says
 *                         LEND_OK, or the agent is destroyed.
 * @retval LEND_E_FORKED
 * Threads: safe, from callbacks too. Blocks: never for a read lease; for a write lease until the
 * chunk that is being copied at this moment is in place (at most a millisecond of copying), and
 * until the NICs that were told to let the peer write have confirmed that they do not (half a
 * second at most, then by force).
 */
LEND_API enum lend_status lend_lease_revoke(struct lend_lease *lease, struct lend_error *error);

/**
 * End every lease that touches one of these blocks: what an engine calls when it evicts them.
 * @param out_count  NULL, or how many were ended.
 * @retval as lend_lease_revoke(), and LEND_E_OUT_OF_RANGE for a block that a region does not have.
 * Threads: safe, from callbacks too. Blocks: as lend_lease_revoke().
 */
LEND_API enum lend_status lend_lease_revoke_blocks(struct lend_agent *agent,
                                                   const struct lend_block_set *set,
                                                   uint32_t *out_count, struct lend_error *error);

/** A lease, seen from its owner. */
struct lend_lease_info {
    uint32_t struct_size; /**< Set by the caller to sizeof(struct lend_lease_info). */
    int32_t status;       /**< LEND_OK while it lives; else why it ended: LEND_E_REVOKED, _EXPIRED,
                               _CONSUMED, or _PEER_DEAD. */
    uint64_t id;          /**< Its slot and generation; unique within the agent. */
    uint32_t access;
    uint32_t consumer_count;
    uint32_t consumers_done;
    uint32_t region_count;
    uint64_t block_count; /**< Blocks that may be used, over all regions. */
    uint64_t granted_ns;  /**< CLOCK_BOOTTIME. */
    uint64_t expires_ns;  /**< CLOCK_BOOTTIME; 0: never. */
    uint64_t ended_ns;    /**< CLOCK_BOOTTIME; 0 while it lives. */
    uint64_t requests; /**< Requests served under it, and looks of readers that copy themselves. */
    uint64_t bytes;    /**< Bytes served under it: what readers copied themselves is not seen. */
    uint64_t user_data;
    char peer[LEND_AGENT_NAME_BYTES_MAX + 1];      /**< "" for a bearer lease. */
    char last_user[LEND_AGENT_NAME_BYTES_MAX + 1]; /**< Who used it last; "" if nobody did. */
};

/**
 * Describe a lease, living or ended.
 * @retval LEND_E_INVALID  not a live handle, or out is NULL.
 * @retval LEND_E_VERSION  struct_size is of no version of the struct.
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_lease_describe(const struct lend_lease *lease,
                                                            struct lend_lease_info *out,
                                                            struct lend_error *error);

/**
 * Who holds what, since when: describe every lease of the agent that lives.
 * @param infos      capacity of them, struct_size set in the first; may be NULL if capacity is 0.
 * @param out_count  how many live, which may be more than capacity.
 * @retval LEND_E_INVALID, LEND_E_VERSION, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_lease_list(struct lend_agent *agent,
                                                        struct lend_lease_info *infos,
                                                        uint32_t capacity, uint32_t *out_count,
                                                        struct lend_error *error);

/** Give the handle back. The lease lives on until it ends by itself or its region is withdrawn.
 * NULL is a no-op. Threads: safe. */
LEND_API void lend_lease_release(struct lend_lease *lease);

enum { LEND_TICKET_BYTES_MAX = 256 };

/**
 * The ticket's bytes, to travel with a request by whatever way the application has.
 * @param bytes      room for capacity bytes; LEND_TICKET_BYTES_MAX always suffices.
 * @param out_count  how many were written.
 * @retval LEND_E_INVALID  not a live handle, null arguments, or capacity is too small (says how
 * many). Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_ticket_export(const struct lend_lease *lease,
                                                           void *bytes, size_t capacity,
                                                           size_t *out_count,
                                                           struct lend_error *error);

/**
 * Accept a ticket that a peer's application sent.
 * @param peer  whose metadata was imported: the ticket must be of that incarnation.
 * @param out   on success, a handle; give it back with lend_ticket_release().
 * @retval LEND_E_CORRUPT  the bytes are cut, too many, or flipped.
 * @retval LEND_E_VERSION  a ticket of a later version.
 * @retval LEND_E_UNKNOWN  a ticket of another agent or of another incarnation; names both.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_ticket_import(struct lend_peer *peer,
                                                           const void *bytes, size_t count,
                                                           struct lend_ticket **out,
                                                           struct lend_error *error);

/**
 * Tell the owner that this consumer needs the lease no more. Counted once per incarnation.
 * It is sent in order after the transfers that completed before.
 * @retval LEND_E_PEER_DEAD  nobody is there to tell.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_NO_PATH, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API enum lend_status lend_ticket_done(struct lend_ticket *ticket, struct lend_error *error);

/** Give the handle back; tells the owner nothing. NULL is a no-op. Threads: safe. */
LEND_API void lend_ticket_release(struct lend_ticket *ticket);

#ifdef __cplusplus
}
#endif
#endif
