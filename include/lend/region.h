/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_REGION_H
#define LEND_REGION_H

/**
 * @file
 * Regions: external memory made known to an agent, addressed in blocks.
 *
 *     register -> (grant leases, move blocks) -> withdraw -> deregister
 *
 * The memory stays its owner's. lend never frees, moves or remaps it, and copies it only to carry
 * out a transfer that a live lease permits, or one that this agent posted itself. The owner may
 * free it once lend_region_withdraw() or lend_region_deregister() has returned LEND_OK.
 */

#include <lend/agent.h>
#include <lend/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_region;

/** What peers may be allowed to do with the region. The agent itself may always do both, as far as
 * the memory's own protection goes. */
enum lend_access {
    LEND_ACCESS_READ = 1,
    LEND_ACCESS_WRITE = 2,
};

enum lend_region_flag {
    LEND_REGION_ALLOW_OVERLAP = 1, /**< Accept a range that partly overlaps another region's. */

    /** The memory is a shared mapping of the file lend_region_desc::share_fd, and peers on this
     * host may map that file, the whole of it, for reading: the owner's consent to the path
     * "local/mapped". A file is shared while all of its regions are lent, and from the first that
     * is withdrawn or suspended on no more, until the last such one is resumed; once such a region
     * was deregistered, not before all regions of the file were. Host memory only. */
    LEND_REGION_SHARE_FILE = 2,
    /** With LEND_REGION_SHARE_FILE: where a peer does not unmap in time, lend_region_withdraw() may
     * punch the region's pages out of the file. Their contents are lost, to the owner too. And
     * peers of the user whose file it is may map it though no seal keeps them from writing. For all
     * regions of one file, or for none; for no file of huge pages or sealed against writers. */
    LEND_REGION_PUNCH_OUT = 4,
    /** The owner has no processor time to give: readers that can shall copy by themselves, by
     * "local/cross-memory", rather than be served. */
    LEND_REGION_PREFER_CROSS_MEMORY = 8,
    /** Agents of NVIDIA NIXL that are given our NIXL metadata (<lend/nixl.h>) may read and write
     * the whole of the memory by themselves, under no lease. NIXL cannot take that back from them:
     * once the metadata was exported, only LEND_WITHDRAW_FORCE can, which closes our NIXL agent,
     * and with it all that goes on with NIXL agents; and the region cannot be suspended. Needs both
     * rights of access, memory that overlaps no other such region, and transport `nixl`. */
    LEND_REGION_ALLOW_UNFENCED = 16,
    /** The memory is a GPU's, and peers on this host that are processes of this user may open the
     * allocation that it lies in, the whole of it, or all of its mapped chunks, so that their GPU
     * copies from it by itself: the owner's consent to the path "local/cuda". What is opened can be
     * written, too, by a peer that is not honest; and the driver puts several small allocations (of
     * less than 2 MiB) in one. As with LEND_REGION_SHARE_FILE an allocation is shared while all of
     * its regions are lent. Memory of cudaMalloc(), or chunks or pools that were made with a handle
     * type (a file descriptor, or a fabric handle); else LEND_E_UNSUPPORTED, and what to do. */
    LEND_REGION_SHARE_DEVICE = 32,
};

enum lend_withdraw_mode {
    LEND_WITHDRAW_DRAIN = 1, /**< No new leases; wait for those that live to end by themselves. */
    LEND_WITHDRAW_FORCE = 2, /**< End every lease on the region first, as REVOKED. */
};

enum { LEND_REGION_NAME_BYTES_MAX = 63, LEND_REGION_TAGS_BYTES_MAX = 255 };

/**
 * How blocks lie in a region. Block b has inner_count rows; row r of it is the block_length_bytes
 * bytes at
 *
 *     base + b * stride_bytes + r * inner_stride_bytes
 *
 * and its *selected bytes* are block_length_bytes * inner_count. Blocks may not overlap: they
 * either follow one another (stride_bytes covers all rows of a block), or interleave
 * (inner_stride_bytes covers all blocks: K and V halves of one tensor). A head slice of a larger
 * block is a geometry with a smaller block_length_bytes than the row it lies in.
 *
 * All zero: the region is one block. inner_count 0 means 1; stride_bytes 0 means blocks that touch.
 */
struct lend_geometry {
    uint64_t block_length_bytes;
    uint64_t stride_bytes;
    uint64_t count; /**< At most LEND_REGION_BLOCKS_MAX. */
    uint64_t inner_stride_bytes;
    uint64_t inner_count; /**< At most LEND_REGION_ROWS_MAX. */
};

#define LEND_REGION_BLOCKS_MAX (UINT64_C(1) << 31)
#define LEND_REGION_ROWS_MAX   (UINT64_C(1) << 20)

/**
 * How the lender keeps memory alive while lend uses it. retain() is called once when the region is
 * registered and release() once when nothing of lend can touch the memory any more: before
 * lend_region_deregister() or lend_agent_destroy() returns. Both with no lock of lend held. Either
 * may be NULL.
 */
struct lend_owner {
    void *token;
    void (*retain)(void *token);
    void (*release)(void *token);
};

/** One region to register. Initialise with LEND_REGION_DESC_INIT. */
struct lend_region_desc {
    uint32_t struct_size;          /**< sizeof(struct lend_region_desc) as compiled. */
    uint32_t flags;                /**< ::lend_region_flag. */
    struct lend_memory memory;     /**< What and where. */
    struct lend_geometry geometry; /**< How it divides into blocks. */
    uint32_t access;               /**< ::lend_access, or 0: for this agent's own use alone. */
    int32_t share_fd;              /**< With LEND_REGION_SHARE_FILE; duplicated, not kept. */
    uint64_t share_offset_bytes;   /**< Where in that file the memory's first byte is. */
    const char *name;              /**< For peers to find it by; unique if not NULL or "". */
    /** Travels with it; NULL or "" for none. Pairs "key=value" with spaces between can be asked for
     * at import: model, dtype, a hash of the layout (see lend_import_desc::tags). */
    const char *tags;
    struct lend_owner owner;
};

#define LEND_REGION_DESC_INIT                                                                      \
    {                                                                                              \
        .struct_size = sizeof(struct lend_region_desc)                                             \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_region_desc_init(struct lend_region_desc *desc);

/**
 * Lend memory to an agent: all of the regions, or none.
 *
 * The memory is verified first. Host memory: mapped from end to end, readable, and writable if
 * access has LEND_ACCESS_WRITE; one look at the kernel's list of mappings serves the whole call.
 * Device memory: the CUDA driver is asked for its type, ordinal and allocation.
 * A range that equals a registered one, or lies within one, shares its registration.
 *
 * @param descs    count of them; copied.
 * @param count    1 .. the agent's regions_max.
 * @param out      count handles, in order, on success; untouched on failure. Give each back with
 *                 lend_region_deregister().
 * @param results  NULL, or count statuses: on failure, what was wrong with each (LEND_OK for those
 *                 that were right). On success all LEND_OK.
 * @param error    the first failure, with its index; may be NULL.
 * @retval LEND_E_INVALID      null arguments, an impossible geometry, a name that is taken or too
 * long, or an unknown flag; or a file for memory that is not the host's,
 *                             no descriptor, or LEND_REGION_PUNCH_OUT for a part of a file.
 * @retval LEND_E_VERSION      struct_size is of no version of the struct.
 * @retval LEND_E_MEMORY       not mapped, mapped in part, without the rights, of another kind or
 *                             device, or beyond its allocation: with the first bad address; or
 *                             not of the file, or not there in it, that share_fd says.
 * @retval LEND_E_OVERLAP      it overlaps another region in part; the message names that one.
 * @retval LEND_E_UNSUPPORTED  a kind of memory that no open transport moves; or device memory, and
 *                             there is no CUDA driver; or LEND_REGION_PUNCH_OUT for a file that
 *                             nothing can be punched out of.
 * @retval LEND_E_LIMIT        regions_max.
 * @retval LEND_E_NO_MEMORY
 * @retval LEND_E_SYSTEM
 * @retval LEND_E_DEVICE       the driver failed; see lend_error::device_code. Or NIXL did.
 * @retval LEND_E_TIMEOUT      NIXL has not answered (LEND_REGION_ALLOW_UNFENCED).
 * @retval LEND_E_FORKED
 *
 * Ownership: the memory stays the owner's. Threads: safe. Blocks: for the kernel's list, and for
 * NIXL with LEND_REGION_ALLOW_UNFENCED.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_register(
    struct lend_agent *agent, const struct lend_region_desc *descs, uint32_t count,
    struct lend_region **out, int32_t *results, struct lend_error *error);

/**
 * End access to the region. After LEND_OK no peer reaches the memory through anything that lend
 * handed out, and no transfer of this agent touches it: the owner may free or unmap it. Whatever is
 * returned, the region stays withdrawn: no new leases, no new transfers.
 *
 * Local transfers that use the region end as LEND_E_REVOKED with LEND_WITHDRAW_FORCE.
 *
 * Peers that have its file mapped (LEND_REGION_SHARE_FILE) are asked to let go once no lease on it
 * lives, and waited for. With LEND_REGION_PUNCH_OUT its pages are punched out of the file at the
 * deadline if a peer has not, and that is all that is left: LEND_OK, and a warning names the peer.
 *
 * @param mode        a ::lend_withdraw_mode.
 * @param timeout_ns  how long to wait.
 * @retval LEND_OK         it is the owner's alone. Also if it was withdrawn before.
 * @retval LEND_E_BUSY     the time is over; the message names one holder and by what it holds. Call
 * again, or with FORCE.
 * @retval LEND_E_INVALID  not a live region, or an unknown mode.
 * @retval LEND_E_FORKED
 *
 * Threads: safe, from callbacks too. Blocks: up to timeout_ns, making progress meanwhile.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_withdraw(struct lend_region *region,
                                                             uint32_t mode, uint64_t timeout_ns,
                                                             struct lend_error *error);

/**
 * End access to the region for a while: as lend_region_withdraw(), but its id, name and geometry
 * stay, and lend_region_resume() lends it again. After LEND_OK the owner may unmap or free the
 * memory, or let it be moved. Suspending a suspended region waits for what is left of it.
 * @retval as lend_region_withdraw(), and LEND_E_REVOKED for a region that is withdrawn for good,
 * and LEND_E_UNSUPPORTED for one with LEND_REGION_ALLOW_UNFENCED.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_suspend(struct lend_region *region,
                                                            uint32_t mode, uint64_t timeout_ns,
                                                            struct lend_error *error);

/**
 * Lend a suspended region again, as a newer life of it: tickets of leases that the suspension ended
 * are answered LEND_E_STALE from now on. Peers that hold metadata of the life before are told
 * LEND_E_STALE where addresses matter; they refresh (lend_peer_refresh()).
 *
 * @param memory  where it is now: of the same kind and length; NULL: where it was. Verified as at
 *                registration.
 * @param share_fd  with LEND_REGION_SHARE_FILE, the file that is behind it now; else ignored.
 * @param share_offset_bytes  where in that file.
 * @retval LEND_E_INVALID  not a live region, not suspended, or memory of another length or kind.
 * @retval LEND_E_BUSY     lend_region_suspend() has not said LEND_OK yet.
 * @retval as lend_region_register() for the memory.
 * Threads: safe. Blocks: for the kernel's list of mappings.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_resume(struct lend_region *region,
                                                           const struct lend_memory *memory,
                                                           int32_t share_fd,
                                                           uint64_t share_offset_bytes,
                                                           struct lend_error *error);

/**
 * Give a region back. The handle is void after LEND_OK.
 * @retval LEND_E_BUSY     a lease on it lives, a transfer in flight uses it, or a peer has its file
 * mapped (it is asked to let go, and the region stays withdrawn); withdraw it first.
 * Prepared transfers that are idle do not count: posting them fails from now on.
 * @retval LEND_E_INVALID  not a live region.
 * @retval LEND_E_FORKED
 * Threads: safe. Blocks: no. The owner's release() runs before this returns.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_deregister(struct lend_region *region,
                                                               struct lend_error *error);

/** What an agent knows of a region of its own, or of a peer's. */
struct lend_region_info {
    uint32_t struct_size; /**< Set by the caller to sizeof(struct lend_region_info). */
    uint32_t access;      /**< ::lend_access. */
    uint64_t id;          /**< Unique within the agent for its life; names the region to peers. */
    struct lend_memory memory;
    struct lend_geometry geometry; /**< With the defaults filled in. */
    char name[LEND_REGION_NAME_BYTES_MAX + 1];
    char tags[LEND_REGION_TAGS_BYTES_MAX + 1];
    uint32_t is_withdrawn; /**< 1: withdrawn for good, or suspended. */
    uint32_t is_suspended; /**< 1: until lend_region_resume(). */
    uint32_t flags;        /**< ::lend_region_flag; of a peer's, what its metadata tells of them. */
    uint32_t life;         /**< 0 at first; how many times it was resumed. */
    uint32_t
        is_shared; /**< 1 if it uses the registration of another region (same or containing). */
};

/**
 * Describe a region.
 * @retval LEND_E_INVALID  not a live region, or out is NULL.
 * @retval LEND_E_VERSION  struct_size is of no version of the struct.
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_region_describe(const struct lend_region *region,
                                                             struct lend_region_info *out,
                                                             struct lend_error *error);

/** The registered description of its memory. As lend_region_describe(). */
LEND_API LEND_MUST_USE enum lend_status lend_region_memory(const struct lend_region *region,
                                                           struct lend_memory *out,
                                                           struct lend_error *error);

/** The region's id; 0 if it is not a live region. Threads: safe. */
LEND_API uint64_t lend_region_id(const struct lend_region *region);

#ifdef __cplusplus
}
#endif
#endif
