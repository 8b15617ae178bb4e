/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_NIXL_H
#define LEND_NIXL_H

/**
 * @file
 * Peers that are agents of NVIDIA NIXL: programs with no lend in them.
 *
 * Transport `nixl` (lend_agent_config::nixl_devices) loads NVIDIA's libnixl_capi and has a NIXL
 * agent of its own, with the name of the lend agent. Each side gives the other its NIXL metadata,
 * by whatever way they have:
 *
 *     lend_nixl_metadata_export() --> nixlAgent::loadRemoteMD()
 *     nixlAgent::getLocalMD()     --> lend_nixl_peer_import() --> lend_nixl_ticket() --> post
 *
 * The path is called "nixl/unfenced", because NIXL has nothing to stop another agent with. It is
 * taken only by those who have said that they accept it: LEND_NIXL_ACCEPT_UNFENCED for a ticket,
 * LEND_REGION_ALLOW_UNFENCED for memory that NIXL agents may reach. What this keeps of lend's
 * promises is told in docs/nixl-transport.md.
 *
 * NIXL's network is trusted: whoever reaches the ports that it opens may harm this process.
 */

#include <lend/lease.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LEND_NIXL_PATH_MAX = 255 };

/** What a libnixl_capi is. */
enum lend_nixl_kind {
    LEND_NIXL_UNKNOWN = 0,   /**< None, or none that we know. */
    LEND_NIXL_NVIDIAS = 1,   /**< NVIDIA's, with a NIXL behind it: what the transport uses. */
    LEND_NIXL_LENDS_OWN = 2, /**< lend's own (compat/nixl), which has no NIXL behind it. */
    LEND_NIXL_STUB = 3,      /**< A stub, such as Rust's nixl-sys builds. */
};

/** A libnixl_capi that was found. */
struct lend_nixl_library {
    uint32_t struct_size;      /**< Set by the caller to sizeof(struct lend_nixl_library). */
    uint32_t kind;             /**< A ::lend_nixl_kind. */
    uint32_t has_memory_views; /**< 1: it is newer than NIXL 1.4. */
    uint32_t reserved;
    char path[LEND_NIXL_PATH_MAX + 1]; /**< Of its file; "" if there is none. */
};

/**
 * Find the libnixl_capi that an agent would load, and load it.
 *
 * Looked for, unless a file is named: beside a libnixl.so that is loaded already, by its bare name,
 * in the folders of Python's wheels (nixl-cu13, nixl-cu12), and in /opt/nvidia/nvda_nixl. What is
 * not NVIDIA's is passed over.
 *
 * @param library  as lend_agent_config::nixl_library.
 * @param out      filled on failure too, with the last one that was found and is not NVIDIA's.
 * @retval LEND_OK             it is NVIDIA's, and has every function that lend uses.
 * @retval LEND_E_ABSENT       there is none.
 * @retval LEND_E_UNSUPPORTED  what was named is not NVIDIA's or too old; or this build has no
 *                             transport nixl.
 * @retval LEND_E_INVALID, LEND_E_VERSION
 * Threads: safe. Blocks: for the dynamic loader. It stays loaded.
 */
LEND_API LEND_MUST_USE enum lend_status lend_nixl_library_find(const char *library,
                                                               struct lend_nixl_library *out,
                                                               struct lend_error *error);

/**
 * Write this agent's NIXL metadata, for nixlAgent::loadRemoteMD() of a peer: where the NIXL agent
 * is reached, and the regions with LEND_REGION_ALLOW_UNFENCED that are lent now. Whoever is given
 * it may read and write those until they are withdrawn.
 *
 * @param bytes      room for capacity bytes.
 * @param out_count  its length; set with LEND_E_LIMIT too.
 * @retval LEND_E_LIMIT        capacity is too small.
 * @retval LEND_E_UNSUPPORTED  transport nixl is not open.
 * @retval LEND_E_DEVICE       NIXL says no; see the message.
 * @retval LEND_E_TIMEOUT      NIXL has not answered within connect_timeout_ns.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: for NIXL.
 */
LEND_API LEND_MUST_USE enum lend_status lend_nixl_metadata_export(struct lend_agent *agent,
                                                                  void *bytes, size_t capacity,
                                                                  size_t *out_count,
                                                                  struct lend_error *error);

/** A NIXL agent to import. Initialise with LEND_NIXL_PEER_DESC_INIT. */
struct lend_nixl_peer_desc {
    uint32_t struct_size;  /**< sizeof(struct lend_nixl_peer_desc) as compiled. */
    uint32_t region_count; /**< How many regions; may be 0 for notifications alone. */
    const void *bytes;     /**< What its getLocalMD() gave, */
    size_t byte_count;     /**< and how long that is. */
    /** The memory of the peer that is to be read or written, as its owner describes it: memory,
     * geometry, access, name and tags of each; the rest is ignored. NIXL's metadata does not tell
     * it. Each lies within one registration of the peer. Their ids are 1, 2, ... in this order. */
    const struct lend_region_desc *regions;
};

#define LEND_NIXL_PEER_DESC_INIT                                                                   \
    {                                                                                              \
        .struct_size = sizeof(struct lend_nixl_peer_desc)                                          \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_nixl_peer_desc_init(struct lend_nixl_peer_desc *desc);

/**
 * Take in a NIXL agent as a peer: transfers by blocks or by ranges, and notifications, go to it as
 * to any other. The same metadata again gives the same peer, with the regions that are told now.
 *
 * @param out  on success, a handle; give it back with lend_peer_forget(). Untouched on failure.
 * @retval LEND_E_CORRUPT      NIXL does not take the metadata.
 * @retval LEND_E_UNSUPPORTED  transport nixl is not open.
 * @retval LEND_E_INVALID      null arguments, or a region that cannot be; with its number.
 * @retval LEND_E_TIMEOUT      NIXL has not answered within connect_timeout_ns.
 * @retval LEND_E_LIMIT, LEND_E_VERSION, LEND_E_NO_MEMORY, LEND_E_DEVICE, LEND_E_FORKED
 * Threads: safe. Blocks: for NIXL, which parses what was given.
 */
LEND_API LEND_MUST_USE enum lend_status lend_nixl_peer_import(
    struct lend_agent *agent, const struct lend_nixl_peer_desc *desc, struct lend_peer **out,
    struct lend_error *error);

enum lend_nixl_flag {
    /** The caller knows that nothing fences this path: no lease stands behind it, its owner cannot
     * end it, and what it reads may have changed meanwhile. */
    LEND_NIXL_ACCEPT_UNFENCED = 1,
};

/**
 * A ticket for everything that was described of a NIXL peer: it grants none, so that nothing was
 * granted. It has no end of its own.
 *
 * @param flags  ::lend_nixl_flag.
 * @param out    on success, a handle; give it back with lend_ticket_release().
 * @retval LEND_E_ACCESS   flags has not LEND_NIXL_ACCEPT_UNFENCED.
 * @retval LEND_E_INVALID  not a peer of lend_nixl_peer_import(), null arguments or unknown flags.
 * @retval LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_nixl_ticket(struct lend_peer *peer, uint32_t flags,
                                                         struct lend_ticket **out,
                                                         struct lend_error *error);

#ifdef __cplusplus
}
#endif
#endif
