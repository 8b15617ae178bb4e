/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_EXPLAIN_H
#define LEND_EXPLAIN_H

/**
 * @file
 * Which path a transfer would take, and why not a better one.
 *
 * A path is a transport and the way in which it moves the bytes: "local/mapped", "local/served",
 * "local/cross-memory", "loopback"; "verbs/read" and "verbs/write"; "local/staged",
 * "loopback/staged", "tcp/staged" and "ucx/staged" for memory of a GPU that goes through the
 * host's, and "local/cuda", where a GPU copies. What lend_transfer_desc::paths allows is chosen
 * from in the order in which lend_explain() tells them; what was taken stands in
 * the completion record. The staged paths of networks are taken by nobody who does not name them.
 */

#include <lend/transfer.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LEND_PATH_NAME_MAX = 31, LEND_PATHS_MAX = 16 };

/** One way to a peer's region. */
struct lend_path_info {
    uint32_t struct_size; /**< Set by the caller, in the first, to sizeof(struct lend_path_info). */
    int32_t status;       /**< LEND_OK: it can be taken now. LEND_PENDING: known once connected
                               (lend_peer_connect()), or once word of it has come on the connection:
                               a transfer that may take no other waits. Else why it cannot. */
    uint32_t is_chosen;   /**< 1 for the one that a transfer without a policy takes. */
    uint32_t is_one_sided;  /**< 1: the reader copies, or a NIC does, and the owner need not run. */
    uint32_t is_fenced;     /**< 1: nothing reports success after a lease has ended. */
    uint32_t must_be_named; /**< 1: taken only where lend_transfer_desc::paths names it. */
    char name[LEND_PATH_NAME_MAX + 1];
    char why[240]; /**< Why it cannot be taken, and what to do about it; "" if it can. */
};

/**
 * Explain the paths between a region of ours and one of a peer's: all that there could be, best
 * first.
 *
 * @param local          a region of the peer's agent; NULL: ordinary host memory.
 * @param remote_region  the id of the peer's region.
 * @param direction      a ::lend_direction.
 * @param infos          capacity of them, struct_size set in the first; may be NULL if capacity is
 *                       0. LEND_PATHS_MAX always suffice.
 * @param out_count      how many there are, which may be more than capacity.
 * @retval LEND_E_INVALID  not a live handle, unknown direction, null arguments.
 * @retval LEND_E_UNKNOWN  the peer's metadata has no region of that id.
 * @retval LEND_E_VERSION, LEND_E_FORKED
 * Threads: safe. Blocks: no; nothing is connected.
 */
LEND_API LEND_MUST_USE enum lend_status lend_explain(struct lend_peer *peer,
                                                     const struct lend_region *local,
                                                     uint64_t remote_region, uint32_t direction,
                                                     struct lend_path_info *infos,
                                                     uint32_t capacity, uint32_t *out_count,
                                                     struct lend_error *error);

/**
 * The same for a person: a line a path, "* " before the chosen one. Writes at most capacity bytes
 * with a final NUL.
 * @param out_count  the length of the whole text, as snprintf() tells it.
 * As lend_explain().
 */
LEND_API LEND_MUST_USE enum lend_status lend_explain_text(
    struct lend_peer *peer, const struct lend_region *local, uint64_t remote_region,
    uint32_t direction, char *text, size_t capacity, size_t *out_count, struct lend_error *error);

#ifdef __cplusplus
}
#endif
#endif
