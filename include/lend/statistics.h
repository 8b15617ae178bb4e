/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_STATISTICS_H
#define LEND_STATISTICS_H

/**
 * @file
 * The statistics page: what an agent tells about itself to programs that watch it (`lend top`,
 * `lend metrics`), without a port and without being asked.
 *
 * It is a file of sizeof(struct lend_statistics) bytes, NAME-INCARNATION.stats, in the folder of
 * the agent's socket (lend_agent_config::local_directory), with mode 0600, which the agent maps and
 * writes in place. INCARNATION is its first four bytes in hexadecimal, as in the socket's name;
 * bytes of NAME outside A-Z a-z 0-9 . _ - are written _. A watcher maps it for reading, or, where
 * it does not trust whoever made it, reads it: what is mapped may be cut under it. The agent holds
 * a BSD lock (flock) on it for as long as it, or a child that it forked, lives: a file that has its
 * magic and can be locked (shared: LOCK_SH) is of an agent that was killed.
 *
 * Every number is written whole (aligned, relaxed atomic). A row of a table is read like this: load
 * `sequence` (acquire), odd: being written, try again; copy the row; fence; load it again; changed:
 * try again. Rows with an id of 0 are free.
 */

#include <lend/agent.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LEND_STATISTICS_MAGIC   UINT64_C(0x54415453444e454c) /**< "LENDSTAT" in memory. */
#define LEND_STATISTICS_VERSION 1

enum { LEND_STATISTICS_PATHS = 16, LEND_STATISTICS_LEASES = 256, LEND_STATISTICS_PEERS = 64 };

/** Totals of one path since the agent was made, of transfers posted here; of path "none" those that
 * ended before one was chosen. */
struct lend_statistics_path {
    char name[32];             /**< "" : free. Written once, before the numbers. */
    uint64_t transfers;        /**< Posted here, and completed with LEND_OK, */
    uint64_t transfers_failed; /**< or otherwise. */
    uint64_t bytes_read;       /**< Moved by them. */
    uint64_t bytes_written;
};

/** A lease that lives: who holds what, since when. */
struct lend_statistics_lease {
    uint64_t sequence;
    uint64_t id;         /**< As lend_lease_info::id; 0: the row is free. */
    uint64_t granted_ns; /**< CLOCK_BOOTTIME, as all times here. */
    uint64_t expires_ns; /**< 0: never. */
    uint64_t block_count;
    uint64_t requests; /**< Served, or looked up by readers that copy by themselves. */
    uint64_t bytes;    /**< Served, of requests that have ended. */
    uint32_t region_count;
    uint32_t access;                               /**< ::lend_access. */
    char region[64];                               /**< The name of its first region. */
    char peer[LEND_AGENT_NAME_BYTES_MAX + 1];      /**< "": any bearer. */
    char last_user[LEND_AGENT_NAME_BYTES_MAX + 1]; /**< "": nobody yet. */
};

/** A connection of a peer that we serve. */
struct lend_statistics_peer {
    uint64_t sequence;
    uint64_t id; /**< Of the connection; 0: the row is free. */
    uint64_t connected_ns;
    uint64_t requests;      /**< Served on it, and ended with LEND_OK. */
    uint64_t bytes_read;    /**< By it, from us. */
    uint64_t bytes_written; /**< By it, to us. */
    uint64_t requests_active;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
};

struct lend_statistics {
    uint64_t magic;   /**< LEND_STATISTICS_MAGIC, written last. */
    uint32_t version; /**< LEND_STATISTICS_VERSION. */
    uint32_t bytes;   /**< sizeof(struct lend_statistics). */
    uint64_t pid;     /**< In the agent's own name space. */
    uint64_t started_ns;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    char library_version[32];

    /* How many there are now. */
    uint64_t regions;
    uint64_t region_bytes;
    uint64_t regions_withdrawn; /**< Of them; suspended ones too. */
    uint64_t leases;
    uint64_t peers_imported;
    uint64_t peers_served; /**< Connections that have greeted. */
    uint64_t transfers_prepared;
    uint64_t notifications_waiting;

    /* Totals since the agent was made. */
    uint64_t leases_granted;
    uint64_t leases_revoked;
    uint64_t leases_expired;
    uint64_t leases_consumed;
    uint64_t leases_peer_dead;
    uint64_t requests_served;
    uint64_t requests_refused; /**< Ended otherwise than LEND_OK. */
    uint64_t bytes_served_read;
    uint64_t bytes_served_written;
    uint64_t notifications_sent;
    uint64_t notifications_received;
    uint64_t sessions_broken; /**< Cut because a peer broke the protocol. */
    /** Connections that ended before they had proved to have lend_agent_config::secret. */
    uint64_t secrets_refused;

    uint64_t leases_omitted; /**< That live, and found no row. */
    uint64_t peers_omitted;
    struct lend_statistics_path paths[LEND_STATISTICS_PATHS];
    struct lend_statistics_lease lease_rows[LEND_STATISTICS_LEASES];
    struct lend_statistics_peer peer_rows[LEND_STATISTICS_PEERS];
};

#ifdef __cplusplus
}
#endif
#endif
