/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_STATUS_H
#define LEND_STATUS_H

/**
 * @file
 * What can go wrong, and how a caller learns why.
 *
 * A fallible function returns an ::lend_status and takes a struct lend_error last. The status is
 * for code to branch on; the error is for a person to read. Nothing is stored per thread, so an
 * error can be read on any thread, be kept for as long as its storage lives, and never goes stale.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(LEND_BUILDING)
#define LEND_API __attribute__((visibility("default")))
#else
#define LEND_API
#endif
#define LEND_MUST_USE __attribute__((warn_unused_result))

/**
 * Zero is success, positive is "not yet", and every failure is negative. Values are never
 * renumbered or reused. They are grouped by what is now broken: the call, the reference that a
 * reader holds, bytes from elsewhere, the machine.
 */
enum lend_status {
    LEND_OK = 0,
    LEND_PENDING = 1, /**< Under way. Ask again, wait, or watch the agent's file descriptor. */

    /* The call: nothing was changed. */
    LEND_E_INVALID = -1,     /**< The caller broke a documented precondition. */
    LEND_E_NO_MEMORY = -2,   /**< Host memory ran out. */
    LEND_E_UNSUPPORTED = -3, /**< This build, transport or machine cannot do it. */
    LEND_E_LIMIT = -4,       /**< A limit of the agent's configuration is reached; named. */
    LEND_E_BUSY = -5,        /**< Somebody still uses it; the message names who, and by what. */
    LEND_E_OVERLAP = -6,     /**< The range overlaps another region; the message names it. */
    LEND_E_MEMORY = -7,      /**< The memory is not what its description says; see message. */
    LEND_E_ABSENT = -8,      /**< Nothing of that name or number, or nothing waiting. */
    LEND_E_FORKED = -9,      /**< The agent was made before a fork, by the parent. */
    LEND_E_MISMATCH = -10,   /**< A peer's regions are not tagged as wanted; both are named. */

    /* The reference: why a transfer did not succeed (docs/failures.md). */
    LEND_E_UNKNOWN = -16,      /**< No such lease here, or one of another incarnation. */
    LEND_E_OUT_OF_RANGE = -17, /**< A block or byte outside the region or the lease. */
    LEND_E_ACCESS = -18,       /**< The lease or region does not allow this direction. */
    LEND_E_CONSUMED = -19,     /**< Every consumer, or this one, has said done. */
    LEND_E_EXPIRED = -20,      /**< The lease's time to live passed. */
    LEND_E_REVOKED = -21,      /**< The owner took the blocks back. */
    LEND_E_STALE = -22,        /**< The slot, the region or a GPU's memory has a newer life. */
    LEND_E_PEER_DEAD = -23,    /**< The peer died, restarted, or broke the protocol. */
    LEND_E_TIMEOUT = -24,      /**< The deadline passed. */
    LEND_E_CANCELED = -25,     /**< Canceled, and quiet: not one more byte lands. */
    LEND_E_NO_PATH = -26,      /**< No transport reaches the peer under the policy. */

    /* Bytes from elsewhere: they were refused whole. */
    LEND_E_CORRUPT = -32, /**< The bytes failed validation. */
    LEND_E_VERSION = -33, /**< The bytes, or a struct_size, are of a version that we do not know. */

    /* The machine. */
    LEND_E_SYSTEM = -48, /**< A system call failed; see lend_error::sys_errno. */
    LEND_E_DEVICE = -49, /**< A GPU or NIC failed; see lend_error::device_code. */
};

/**
 * Why the last call that was given this struct failed. Caller-owned, and written only on failure.
 * 256 bytes, for ever: that is what lets it live on the stack and cross any language boundary.
 */
struct lend_error {
    int32_t status;      /**< The ::lend_status that was returned. */
    int32_t sys_errno;   /**< errno of the failed system call, or 0. */
    int64_t device_code; /**< CUresult, ibv_wc_status, ... or 0. */
    char message[240];   /**< One line, no newline, NUL-terminated. */
};

/** The enumerator's name, such as "LEND_E_REVOKED". Never NULL. Threads: safe; static storage. */
LEND_API const char *lend_status_name(int32_t status);

/** The library's version, such as "0.1.0". Threads: safe; static storage. */
LEND_API const char *lend_version(void);

#ifdef __cplusplus
}
#endif
#endif
