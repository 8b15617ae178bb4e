/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSFER_H
#define LEND_TRANSFER_H

/**
 * @file
 * Transfers: blocks from a peer's regions to ours (READ), or the other way (WRITE).
 *
 *     prepare --> post --> test | wait | cancel --> (post again ...) --> release
 *
 * Prepare once for a pair of region lists; post many times, each with a ticket and two arrays of
 * block numbers. The blocks of a transfer are those numbers in every pair of regions, region by
 * region: region_count * block_count in all, in that order.
 */

#include <lend/lease.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_transfer;
struct lend_range_list;

enum lend_direction {
    LEND_READ = 1,  /**< From the peer's memory to ours. */
    LEND_WRITE = 2, /**< From our memory to the peer's. */
};

enum lend_transfer_flag {
    /** Zero the destination of a READ that fails, before it is complete. Its record counts no
     * blocks then, and a cancel may be LEND_PENDING until it is done. */
    LEND_TRANSFER_ZERO_ON_FAILURE = 1,
    /** For debugging: compare a CRC-32C of every block at the owner with one of what is here, after
     * the data has moved and under the same lease. A difference is LEND_E_CORRUPT, and names the
     * block. The owner must run for it, whatever the path. For memory of the host alone. */
    LEND_TRANSFER_CHECKSUM = 2,
};

/** A part of each row of a block: a head slice. Both zero: the whole row. */
struct lend_slice {
    uint64_t offset_bytes;
    uint64_t length_bytes;
};

/** A range of addresses: ours, or the peer's as its metadata gives them. */
struct lend_range {
    uint64_t address;
    uint64_t length_bytes;
};

/** A list of ranges to look up. Initialise with LEND_RANGE_LIST_DESC_INIT. */
struct lend_range_list_desc {
    uint32_t struct_size;            /**< sizeof(struct lend_range_list_desc) as compiled. */
    uint32_t flags;                  /**< None yet: 0. */
    struct lend_peer *peer;          /**< Whose memory it is; NULL: the agent's own. */
    const struct lend_range *ranges; /**< Each lies in one region, or has no bytes. */
    uint64_t range_count;            /**< 1 to 2^24. */
};

#define LEND_RANGE_LIST_DESC_INIT                                                                  \
    {                                                                                              \
        .struct_size = sizeof(struct lend_range_list_desc)                                         \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_range_list_desc_init(struct lend_range_list_desc *desc);

/**
 * Look up a list of ranges, of our memory or a peer's, once for many transfers: those that are
 * prepared of two lists look nothing up. What is registered or withdrawn later, and newer metadata
 * of the peer, is minded when the list is used.
 *
 * @param desc  copied, the ranges too.
 * @param out   on success, a handle; give it back with lend_range_list_release(). Untouched on
 * failure.
 * @retval LEND_E_INVALID      null arguments, no ranges, unknown flags, a peer of another agent.
 * @retval LEND_E_OUT_OF_RANGE a range outside every region; with its position.
 * @retval LEND_E_LIMIT        over 2^24 ranges.
 * @retval LEND_E_VERSION, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no. Cost: O(range_count).
 */
LEND_API LEND_MUST_USE enum lend_status lend_range_list_prepare(
    struct lend_agent *agent, const struct lend_range_list_desc *desc, struct lend_range_list **out,
    struct lend_error *error);

/** Give the handle back; transfers that were prepared with it stay as they are. NULL, or no live
 * handle: nothing. Threads: safe. Blocks: no. */
LEND_API void lend_range_list_release(struct lend_range_list *list);

/** What to prepare. Initialise with LEND_TRANSFER_DESC_INIT. */
struct lend_transfer_desc {
    uint32_t struct_size;  /**< sizeof(struct lend_transfer_desc) as compiled; one that ends behind
                                paths or range_count is of a version that is still taken. */
    uint32_t flags;        /**< ::lend_transfer_flag. */
    uint32_t direction;    /**< A ::lend_direction. */
    uint32_t region_count; /**< Pairs of regions; 0: transfers by address, see lend_post_desc. */
    struct lend_peer *peer;
    struct lend_region *const *local_regions; /**< region_count handles of this agent. */
    const uint64_t *remote_regions;           /**< region_count ids of the peer's regions. */
    struct lend_slice local_slice;            /**< Of every block, on our side. */
    struct lend_slice remote_slice;           /**< Of every block, on the peer's side. */
    uint64_t block_count_max; /**< Blocks (or address ranges) that a post may name; <= 2^24. */
    /** The paths that it may take, by name, separated by commas ("local/mapped,local/served");
     * NULL: any but those that must be named (lend_path_info::must_be_named). One that no path of
     * them can carry is refused, and never takes another. */
    const char *paths;
    /** For a transfer by address that is posted again and again: its ranges, looked up when it is
     * prepared. Posts name none then, and go over these. As in lend_post_desc; NULL: posts name
     * theirs. */
    const struct lend_range *local_ranges;
    const struct lend_range *remote_ranges;
    uint64_t range_count; /**< At most block_count_max. */
    /** In place of those ranges, pairs of two lists: our own, and the peer's. Pairs that go on
     * where the one before them ended, on both sides and in the same regions, are one range; those
     * of no bytes are none. */
    struct lend_range_list *local_list;
    struct lend_range_list *remote_list;
    const int32_t *local_indices;  /**< range_count numbers of ranges; NULL: 0, 1, 2 ... */
    const int32_t *remote_indices; /**< The same of remote_list. */
};

#define LEND_TRANSFER_DESC_INIT                                                                    \
    {                                                                                              \
        .struct_size = sizeof(struct lend_transfer_desc)                                           \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_transfer_desc_init(struct lend_transfer_desc *desc);

/** What to post. Initialise with LEND_POST_DESC_INIT. */
struct lend_post_desc {
    uint32_t struct_size;       /**< sizeof(struct lend_post_desc) as compiled. */
    uint32_t index_bits;        /**< 32 or 64: width of the block numbers; 0 means 32. */
    struct lend_ticket *ticket; /**< Of the peer, for these blocks and this direction. */
    const void *local_blocks;   /**< block_count numbers of int32 or int64. */
    const void *remote_blocks;  /**< block_count numbers. */
    uint64_t block_count;
    /** In place of block numbers, for a transfer prepared with region_count 0. Each local range
     * lies in one region of ours and each remote one in one region of the peer's; lengths are
     * pairwise equal. */
    const struct lend_range *local_ranges;
    const struct lend_range *remote_ranges;
    uint64_t range_count;
    /** Bytes for the peer's application after the data, or NULL. */
    const void *notification;
    uint64_t notification_bytes;
    uint64_t timeout_ns; /**< From now to completion; 0: the agent's transfer_timeout_ns. */
    uint64_t user_data;  /**< Given back in the completion record. */
};

#define LEND_POST_DESC_INIT                                                                        \
    {                                                                                              \
        .struct_size = sizeof(struct lend_post_desc)                                               \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_post_desc_init(struct lend_post_desc *desc);

/**
 * Prepare a transfer: check the regions against each other, and allocate all that posting needs.
 *
 * @param desc  copied, arrays too.
 * @param out   on success, a handle; give it back with lend_transfer_release(). Untouched on
 * failure.
 * @retval LEND_E_INVALID      null arguments, unknown flag or direction, a region or peer of
 * another agent, pairs whose blocks have unequal numbers of selected bytes (both are named), or a
 * slice outside its row.
 * @retval LEND_E_UNKNOWN      the peer's metadata has no region of that id.
 * @retval LEND_E_OUT_OF_RANGE a range outside every region; with its position.
 * @retval LEND_E_ACCESS       the peer's region is not lent in that direction.
 * @retval LEND_E_REVOKED      a local region is withdrawn.
 * @retval LEND_E_UNSUPPORTED  memory of a kind that the peer's transport does not move; or
 *                             LEND_TRANSFER_CHECKSUM for memory of a GPU.
 * @retval LEND_E_NO_PATH      none of desc->paths can be taken; says why not, one by one. Paths of
 *                             which only a connection can tell need lend_peer_connect() first. Or
 *                             memory of a GPU would go over a network, and no path says so.
 * @retval LEND_E_LIMIT        transfers_max, or block_count_max over 2^24.
 * @retval LEND_E_VERSION, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no. Cost: O(region_count + range_count), and one
 * allocation for block_count_max. Of lists, each pair costs a look at its two places; the first
 * post does the rest, and takes the agent's lock for it.
 */
LEND_API LEND_MUST_USE enum lend_status lend_transfer_prepare(struct lend_agent *agent,
                                                              const struct lend_transfer_desc *desc,
                                                              struct lend_transfer **out,
                                                              struct lend_error *error);

/**
 * Start it. The arrays may be reused when this returns; the local memory is lend's until the
 * transfer is complete: test, wait or cancel say so.
 *
 * @retval LEND_OK              posted. What goes wrong from here on stands in the completion
 * record.
 * @retval LEND_E_BUSY          it is still under way; or the notification finds no room (drain
 * yours).
 * @retval LEND_E_INVALID       not a live handle, null or unequal arrays, no blocks, a ticket of
 * another peer, more than block_count_max, or a notification over the window.
 * @retval LEND_E_OUT_OF_RANGE  a block number outside its region, or a range outside every region;
 * with its position.
 * @retval LEND_E_REVOKED       a local region is withdrawn or gone.
 * @retval LEND_E_STALE         the GPU memory of a local region was found to have been freed.
 * @retval LEND_E_PEER_DEAD     the peer is known to be dead, or was forgotten.
 * @retval LEND_E_NO_PATH       no connection can be begun; with the cause.
 * @retval LEND_E_NO_MEMORY     for a notification longer than those that were posted before.
 * @retval LEND_E_VERSION, LEND_E_FORKED
 * Threads: safe; one post a transfer at a time. Blocks: no. Cost: no allocation, but for a long
 * notification; no lock that other peers use.
 */
LEND_API LEND_MUST_USE enum lend_status lend_transfer_post(struct lend_transfer *transfer,
                                                           const struct lend_post_desc *desc,
                                                           struct lend_error *error);

/**
 * How is it?
 * @retval LEND_PENDING    under way.
 * @retval LEND_E_INVALID  not a live handle, or never posted.
 * @retval LEND_E_FORKED
 * Any other value is the completed transfer's status (LEND_OK, LEND_E_REVOKED, ...).
 * Threads: safe. Blocks: no; makes progress under manual progress, and beside a progress thread
 * where it is called again and again without a pause.
 */
LEND_API enum lend_status lend_transfer_test(struct lend_transfer *transfer);

/**
 * Wait until it is complete, helping it along, for at most timeout_ns.
 * Returns as lend_transfer_test(): LEND_PENDING when timeout_ns passed first, which ends nothing.
 * Threads: safe. Blocks: up to timeout_ns.
 */
LEND_API enum lend_status lend_transfer_wait(struct lend_transfer *transfer, uint64_t timeout_ns);

/**
 * Ask for its end, and wait at most timeout_ns for quiet.
 * @retval LEND_PENDING    not yet quiet: bytes may still land; the memory must stay. Ask again.
 * @retval LEND_E_INVALID  not a live handle, or never posted.
 * @retval LEND_E_FORKED
 * Any other value means that it is complete and quiet: LEND_E_CANCELED, or how it ended before the
 * cancel could reach it. A READ is quiet at once, or, where a transport receives straight into
 * place, within a second: when what is landing has landed, or the connection was cut. A WRITE is
 * when the peer has said so or is dead. A deadline that passes is not quiet on the peer's side: a
 * WRITE that ended as LEND_E_TIMEOUT may still land there until the lease ends; our own memory is
 * free all the same. Threads: safe, from callbacks too. Blocks: up to timeout_ns.
 */
LEND_API enum lend_status lend_transfer_cancel(struct lend_transfer *transfer, uint64_t timeout_ns);

/** How a transfer ended. */
struct lend_transfer_record {
    uint32_t struct_size; /**< Set by the caller to sizeof(struct lend_transfer_record). */
    int32_t status;       /**< LEND_PENDING while under way. */
    uint64_t bytes;       /**< Proven: all on success, else those of the leading blocks. */
    uint64_t blocks;      /**< Proven leading blocks, region by region; ranges count as blocks. */
    uint64_t post_ns;     /**< Time inside lend_transfer_post(). */
    uint64_t wire_ns;     /**< From post to completion. */
    uint64_t user_data;
    /** That it took, or was to take: "local/served"; see lend_explain(). "none": none was chosen
     * yet, or before it ended. */
    char path[32];
};

/**
 * The completion record, and in why the reason of a failure. Both may be read until the next post.
 * @param why  NULL, or filled if the transfer failed.
 * @retval LEND_OK         whatever the transfer's own status is.
 * @retval LEND_E_INVALID  not a live handle, never posted, or out is NULL.
 * @retval LEND_E_VERSION
 * Threads: safe. Blocks: no.
 */
LEND_API enum lend_status lend_transfer_describe(struct lend_transfer *transfer,
                                                 struct lend_transfer_record *out,
                                                 struct lend_error *why);

/**
 * Give the handle back.
 * @retval LEND_E_BUSY     it is under way: cancel it first; nothing was changed.
 * @retval LEND_E_INVALID  not a live handle. NULL is LEND_OK.
 * Threads: safe. Blocks: no.
 */
LEND_API enum lend_status lend_transfer_release(struct lend_transfer *transfer);

#ifdef __cplusplus
}
#endif
#endif
