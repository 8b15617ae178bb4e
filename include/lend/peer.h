/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_PEER_H
#define LEND_PEER_H

/**
 * @file
 * Peers: other agents, known from the metadata that they export.
 *
 * Metadata is a byte string that the application carries to the other side by whatever way it has.
 * It names the agent, its incarnation, how to reach it, and its regions; it is versioned,
 * checksummed and bounded, and holds no right to anything: that takes a ticket.
 */

#include <lend/agent.h>
#include <lend/region.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_peer;

/** No metadata is longer; a longer one is refused unread. */
#define LEND_METADATA_BYTES_MAX (UINT32_C(16) << 20)

/**
 * Export what peers need to know of this agent: its regions that have an access right and are not
 * withdrawn.
 *
 * @param bytes      room for capacity bytes; may be NULL if capacity is 0.
 * @param out_count  how many bytes there are: written, or, if capacity is too small, needed.
 * @retval LEND_E_INVALID  null arguments, or capacity is too small: out_count says what it takes.
 * @retval LEND_E_LIMIT    it would be longer than LEND_METADATA_BYTES_MAX.
 * @retval LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_metadata_export(struct lend_agent *agent, void *bytes,
                                                             size_t capacity, size_t *out_count,
                                                             struct lend_error *error);

enum lend_export_flag {
    LEND_EXPORT_PARTIAL = 1, /**< Of the regions that are listed, and of no others. */
};

/** What to export. Initialise with LEND_EXPORT_DESC_INIT. */
struct lend_export_desc {
    uint32_t struct_size; /**< sizeof(struct lend_export_desc) as compiled. */
    uint32_t flags;       /**< ::lend_export_flag. */
    /** With LEND_EXPORT_PARTIAL: regions of this agent; those without an access right, and those
     * withdrawn, are left out. None: only how to reach the agent is told. Else NULL. */
    struct lend_region *const *regions;
    uint32_t region_count;
    uint32_t reserved; /**< 0. */
};

#define LEND_EXPORT_DESC_INIT                                                                      \
    {                                                                                              \
        .struct_size = sizeof(struct lend_export_desc)                                             \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_export_desc_init(struct lend_export_desc *desc);

/**
 * As lend_metadata_export(), of some of the regions if that is wanted: who imports that learns
 * nothing of the others. What several such blobs tell adds up. A lend that knows of no such
 * metadata refuses it: LEND_E_VERSION.
 * @param desc  NULL: of all.
 * @retval LEND_E_INVALID  also unknown flags, or a region that is not this agent's.
 * @retval LEND_E_VERSION  of another struct_size.
 * Threads: safe; but the regions must not be deregistered meanwhile. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_metadata_export_with(
    struct lend_agent *agent, const struct lend_export_desc *desc, void *bytes, size_t capacity,
    size_t *out_count, struct lend_error *error);

/**
 * Make a peer known. The same incarnation again gives the same handle, counted, and takes over what
 * the later of the two blobs says of its regions; the same name with another incarnation is another
 * peer.
 *
 * @param out  on success, a handle; give each back with lend_peer_forget(). Untouched on failure.
 * @retval LEND_E_CORRUPT  the bytes are cut, too many, or flipped; nothing was kept.
 * @retval LEND_E_VERSION  metadata of a later version; both are named.
 * @retval LEND_E_NO_PATH  no transport of this agent reaches that peer; names those of both.
 * @retval LEND_E_LIMIT    peers_max; or what was told in parts adds up to more than
 *                         LEND_METADATA_BYTES_MAX.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe; two threads may import the same bytes. Blocks: no; nothing is connected yet.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_import(struct lend_agent *agent,
                                                         const void *bytes, size_t count,
                                                         struct lend_peer **out,
                                                         struct lend_error *error);

enum lend_import_flag {
    LEND_IMPORT_PREFAULT = 1, /**< Touch every page of files that are mapped from this peer when
                                   they are mapped, so that the first transfers find them warm. */
};

/** How to import. Initialise with LEND_IMPORT_DESC_INIT. */
struct lend_import_desc {
    uint32_t struct_size; /**< sizeof(struct lend_import_desc) as compiled; one without a secret,
                               which ends behind tags, is of a version that is still taken. */
    uint32_t flags;       /**< ::lend_import_flag. */
    /** Pairs "key=value" with spaces between that every region of the peer must carry in its tags,
     * or the import is refused; NULL or "" for none. */
    const char *tags;
    /** The secret of connections that this agent makes to the peer, instead of
     * lend_agent_config::secret: that of the peer's own configuration, which the application has
     * brought here. Those that the peer makes to us are held to ours all the same. Copied, and
     * wiped when the peer is let go of. NULL: none. Needs the plugin that
     * lend_agent_config::secret_plugin names, which is loaded then, if it was not. */
    const void *secret;
    uint32_t secret_bytes; /**< As lend_agent_config::secret_bytes. */
    uint32_t reserved;     /**< 0. */
};

#define LEND_IMPORT_DESC_INIT                                                                      \
    {                                                                                              \
        .struct_size = sizeof(struct lend_import_desc)                                             \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_import_desc_init(struct lend_import_desc *desc);

/**
 * As lend_peer_import(), with conditions. Those of the first import of an incarnation hold for its
 * later ones too, and for lend_peer_refresh().
 * @param desc  copied; NULL: none.
 * @retval LEND_E_MISMATCH  a region's tags are not as wanted: names the region, the key, and both
 *                          values. Nothing was kept.
 * @retval LEND_E_MISMATCH  the incarnation was imported before with another secret, or without one
 *                          where this agent has another: forget it first. One that imports without
 *                          a secret goes along with the first. Nothing was changed.
 * @retval LEND_E_ABSENT    a secret is given, and its plugin cannot be loaded; says why.
 * @retval LEND_E_INVALID   unknown flags, wanted tags that are not pairs, or a secret that is too
 *                          short or too long.
 * @retval LEND_E_SYSTEM    the plugin has no random numbers.
 * Threads, blocks: as lend_peer_import(); with a secret, no longer than the file system does.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_import_with(struct lend_agent *agent,
                                                              const void *bytes, size_t count,
                                                              const struct lend_import_desc *desc,
                                                              struct lend_peer **out,
                                                              struct lend_error *error);

/**
 * Take over newer metadata of the same incarnation: regions that came, went, or were resumed. What
 * is older than what is known changes nothing. Transfers and tickets stay.
 * @retval LEND_E_PEER_DEAD  the metadata is of another incarnation: the peer restarted; import it.
 * @retval LEND_E_MISMATCH   its tags are not as lend_peer_import_with() wanted them; nothing was
 *                           changed.
 * @retval LEND_E_CORRUPT, LEND_E_VERSION, LEND_E_INVALID, LEND_E_LIMIT, LEND_E_NO_MEMORY,
 *         LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_refresh(struct lend_peer *peer, const void *bytes,
                                                          size_t count, struct lend_error *error);

/**
 * Connect ahead of the first transfer (which otherwise does it).
 * @retval LEND_E_PEER_DEAD  nobody answers there, or another incarnation does; or it hung up
 * without a word, as an agent does that wants a secret of us (lend_agent_config::secret,
 * lend_import_desc::secret), and we have none.
 * @retval LEND_E_TIMEOUT    no answer in timeout_ns (at most connect_timeout_ns).
 * @retval LEND_E_VERSION    the peer speaks another version of the protocol; both are named.
 * @retval LEND_E_ACCESS     the peer's socket is closed to this user; names the path and its mode.
 * Or we have a secret, of our own or for that peer, and the peer has another one, or none.
 * @retval LEND_E_BUSY       too many wait there to be let in: try again.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_LIMIT, LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns, making progress meanwhile.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_connect(struct lend_peer *peer,
                                                          uint64_t timeout_ns,
                                                          struct lend_error *error);

/** A peer as it is known here. */
struct lend_peer_info {
    uint32_t struct_size; /**< Set by the caller to sizeof(struct lend_peer_info). */
    int32_t status;       /**< LEND_OK: connected; LEND_PENDING: not yet; else why it is lost. */
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint32_t region_count;
    char transport[16]; /**< The one that is, or would be, used. */
};

/** Describe a peer. @retval LEND_E_INVALID, LEND_E_VERSION. Threads: safe. Blocks: no. */
LEND_API LEND_MUST_USE enum lend_status lend_peer_describe(const struct lend_peer *peer,
                                                           struct lend_peer_info *out,
                                                           struct lend_error *error);

/**
 * The id of a peer's region, by its name.
 * @retval LEND_E_ABSENT   the peer's metadata has no region of that name.
 * @retval LEND_E_INVALID
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_region(const struct lend_peer *peer,
                                                         const char *name, uint64_t *out_id,
                                                         struct lend_error *error);

/**
 * Describe a peer's region, by its place in the metadata (0 .. region_count - 1).
 * @retval LEND_E_OUT_OF_RANGE, LEND_E_INVALID, LEND_E_VERSION
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_peer_region_at(const struct lend_peer *peer,
                                                            uint32_t index,
                                                            struct lend_region_info *out,
                                                            struct lend_error *error);

/**
 * Give a handle back. With the last one the peer is forgotten: its transfers end as
 * LEND_E_CANCELED, or LEND_E_PEER_DEAD where the peer's word is needed and does not come; its
 * connection is closed. Handles of its transfers and tickets stay valid to be released. NULL is a
 * no-op. Threads: safe. Blocks: no.
 */
LEND_API void lend_peer_forget(struct lend_peer *peer);

#ifdef __cplusplus
}
#endif
#endif
