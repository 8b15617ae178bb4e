/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_NOTIFICATION_H
#define LEND_NOTIFICATION_H

/**
 * @file
 * Notifications: bytes for a peer's application, alone or behind a transfer's data.
 *
 * From one agent to one peer they arrive in the order in which they were sent (one that belongs to
 * a transfer is sent when that completes with LEND_OK; otherwise never), each once, and leave
 * though neither application polls. They are lost only with the peer or the connection.
 */

#include <lend/peer.h>

#ifdef __cplusplus
extern "C" {
#endif

/** No single notification is longer; and none over half the agent's notification_window_bytes. */
enum { LEND_NOTIFICATION_BYTES_MAX = 16384 };

/** Where a notification came from. */
struct lend_notification_info {
    uint32_t struct_size; /**< Set by the caller to sizeof(struct lend_notification_info). */
    uint32_t byte_count;  /**< Length of the notification. */
    char peer[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
};

/**
 * Send bytes to a peer's application.
 * @retval LEND_OK         queued; it leaves by itself.
 * @retval LEND_E_BUSY     the window is full: the peer's application does not receive. Nothing is
 * queued.
 * @retval LEND_E_INVALID  null arguments, or too long. Zero bytes are allowed.
 * @retval LEND_E_PEER_DEAD, LEND_E_NO_PATH, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_notification_send(struct lend_peer *peer,
                                                               const void *bytes, size_t count,
                                                               struct lend_error *error);

/**
 * Take the next notification of any peer.
 * @param bytes  room for capacity bytes.
 * @param info   who sent it; may be NULL.
 * @param out_count  its length.
 * @retval LEND_E_ABSENT   none came within timeout_ns.
 * @retval LEND_E_LIMIT    capacity is too small: out_count and info are filled, and it stays first
 * in line.
 * @retval LEND_E_INVALID, LEND_E_VERSION, LEND_E_FORKED
 * Threads: safe; each notification goes to one caller. Blocks: up to timeout_ns, making progress
 * meanwhile; with 0 as lend_transfer_test() does.
 */
LEND_API LEND_MUST_USE enum lend_status lend_notification_receive(
    struct lend_agent *agent, void *bytes, size_t capacity, size_t *out_count,
    struct lend_notification_info *info, uint64_t timeout_ns, struct lend_error *error);

#ifdef __cplusplus
}
#endif
#endif
