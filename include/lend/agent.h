/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_AGENT_H
#define LEND_AGENT_H

/**
 * @file
 * An agent: the endpoint that lends memory and moves blocks. One per process is usual.
 *
 * An agent has a name, which its user chooses, and an *incarnation*, 128 random bits that no other
 * agent has had or will have: a restarted process is another incarnation under the same name.
 *
 * Progress. An agent makes progress on a thread of its own, or, with LEND_AGENT_MANUAL_PROGRESS,
 * only inside lend_agent_progress() and the calls that wait. Callbacks run on whatever thread made
 * the progress that they report, with no lock of lend held, and may call any function of lend.
 *
 * Time. Every wait takes a timeout in nanoseconds. 0 means "look once"; nothing waits for ever.
 *
 * Fork. After a fork the child's copies of the parent's agents answer LEND_E_FORKED, and the lent
 * memory is as usable in the child as before.
 */

#include <lend/status.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lend_agent;
struct lend_lease_info;

enum lend_agent_flag {
    LEND_AGENT_MANUAL_PROGRESS = 1, /**< No thread: the caller drives lend_agent_progress(). */
    LEND_AGENT_NO_STATISTICS = 2,   /**< No statistics page (<lend/statistics.h>). */
    /** Let any process of this user read this one's memory, as "local/cross-memory" wants it under
     * ptrace_scope 1 (prctl PR_SET_PTRACER, for the whole process, and not undone). */
    LEND_AGENT_ALLOW_CROSS_MEMORY = 4,
    /** Hold connections to processes of this user on this machine to a secret as all others, but
     * put no MACs on what is said over them: the kernel keeps everybody else away from it. For
     * agents that all have this flag: one with it and one without do not meet there
     * (LEND_E_ACCESS). */
    LEND_AGENT_SEAL_NETWORKS = 8,
    /** This process forks no child that goes on without exec while the agent lives: then transport
     * verbs is opened, too, where the kernel (before Linux 5.12) or rdma-core (before 35) does not
     * copy what is registered for a child, or where ibv_fork_init() was called. A process that
     * breaks its word there may have a NIC write to memory that has become the child's. */
    LEND_AGENT_NEVER_FORKS = 16,
    /** How the driver exports memory of GPUs to the NICs of transport verbs (dma-buf): as it does
     * by default, and in no other way; or mapped through PCIe, and in no other way (for a NIC that
     * has a GPU behind it on PCIe, where the GPU is joined to the processor by another link, too).
     * With neither flag, or both, each NIC tries them when a region of a GPU is first registered:
     * it reads a page of the GPU by either, and one that gives other bytes is not used and told in
     * the log; where both do, the default is taken (docs/verbs.md). */
    LEND_AGENT_DMA_BUF_DEFAULT = 32,
    LEND_AGENT_DMA_BUF_PCIE = 64,
};

enum lend_log_level {
    LEND_LOG_ERROR = 1,
    LEND_LOG_WARNING = 2,
    LEND_LOG_INFO = 3,
    LEND_LOG_DEBUG = 4,
};

enum { LEND_AGENT_NAME_BYTES_MAX = 63, LEND_INCARNATION_BYTES = 16 };

/** Initialise with LEND_AGENT_CONFIG_INIT; a zero means the default that the comment gives. */
struct lend_agent_config {
    uint32_t struct_size; /**< sizeof(struct lend_agent_config) as the caller was compiled. */
    uint32_t flags;       /**< ::lend_agent_flag. */
    const char *name;     /**< Required: 1 .. LEND_AGENT_NAME_BYTES_MAX printable bytes. */

    /** Transports to open, by name, separated by commas; NULL: all that this build has. */
    const char *transports;
    /** Those of them without which lend_agent_create() shall fail; NULL: at least one must open. */
    const char *transports_required;

    /** Where transport `local` puts its UNIX socket. NULL: /tmp/lend-UID, made with mode 0700. */
    const char *local_directory;
    /** Permission bits of that socket; 0: 0600. Give 0660 or 0666 to lend to other users. */
    uint32_t local_mode;
    /** 1: a socket in the abstract name space, which needs no folder but a shared network one. */
    uint32_t local_is_abstract;

    /** Where transport `tcp` listens: numeric "ADDRESS", "ADDRESS:PORT", "[IPV6]:PORT"; without a
     * port (or with 0) on any free one. NULL: nowhere: this agent connects to others by tcp, and
     * none to it. An agent that cannot listen there is not made. Whoever gets there may also fetch
     * its metadata (<lend/discovery.h>). */
    const char *listen;
    /** The address, of the same form, that peers are told instead; NULL: those listened on. For an
     * agent behind a translated address, or one of several on a wildcard. */
    const char *advertise;

    /** The network devices that transport `ucx` may use, as UCX names them, separated by commas:
     * "eth0", "mlx5_0:1". NULL: ucx is not opened. The network behind them is trusted: UCX opens
     * ports of its own there, and parses what comes (docs/trust.md). */
    const char *ucx_devices;
    const char *ucx_transports; /**< UCX's transports (UCX_TLS), such as "tcp"; NULL: its choice. */
    const char *ucx_library;    /**< The libucp to load; NULL: libucp.so.0. */

    /** The network device that transport `nixl` may use (<lend/nixl.h>), as UCX names it: "eth0",
     * "mlx5_0:1". NULL: nixl is not opened. The network behind it is trusted: NIXL opens ports of
     * its own there, and parses what comes (docs/trust.md). */
    const char *nixl_devices;
    /** One of UCX's transports between hosts ("tcp", "rc", "ud", "dc", "ib"); NULL: any of them. */
    const char *nixl_transports;
    /** NVIDIA's libnixl_capi to load; NULL: where it usually is (lend_nixl_library_find()). */
    const char *nixl_library;

    /** The RDMA devices that transport `verbs` may use, as libibverbs names them, separated by
     * commas: "mlx5_0", "mlx5_0:1" (a port), "mlx5_0:1:3" (a port and the index of a GID of it),
     * "mlx5_0:1:10.0.0.1" or "mlx5_0:1:fe80::1" (the GID by its address). Without a GID, the one is
     * used from which the machine's routes lead to the peer. On Ethernet it has to be of RoCE v2.
     * NULL: verbs is not opened. Regions are then pinned and made known to the device when they are
     * registered, and whoever holds a ticket to read some blocks of a region is given the device's
     * key to read the whole of it; to write, keys of those blocks alone (docs/verbs.md). */
    const char *verbs_devices;

    /** A secret of 16 .. 64 bytes that this agent shares with its peers. Both ends of each
     * connection then prove that they have it, and every control message carries a MAC under a key
     * made from it (but see LEND_AGENT_SEAL_NETWORKS); bulk data is neither encrypted nor
     * authenticated. Copied, and wiped at the end. NULL: none; an agent with one does not talk to
     * agents without. Needs the plugin. A peer whose secret is another one is imported with that
     * (lend_import_desc::secret). */
    const void *secret;
    uint32_t secret_bytes;
    /** The queue pairs for reads that transport verbs makes at most with a peer, by each RDMA
     * device, beside one for writes: 1 .. 15; 0: 2. The end that has fewer decides. */
    uint32_t verbs_queue_pairs;
    const char *secret_plugin; /**< The plugin to load; NULL: lend-secret.so of the library. */

    /** Called for what is worth telling; NULL: silence. The text is valid during the call. This and
     * the next are called with no lock held, by the progress thread, by a directory's, or within
     * any call of this agent's (under manual progress too), perhaps by several at one time. They
     * may call lend, but to end this agent or a directory of it; what waits keeps the progress of
     * this agent going meanwhile. */
    void (*on_log)(void *context, int32_t level, const char *text);
    /** Called once for each lease of this agent that ended, and why (lend_lease_info::status). */
    void (*on_lease_end)(void *context, const struct lend_lease_info *info);
    void *context; /**< Passed to the callbacks. */

    uint32_t regions_max;               /**< 65,536. */
    uint32_t leases_max;                /**< 65,536. */
    uint32_t peers_max;                 /**< 1,024: peers imported, and connections accepted (a
                                             lost one counts until its notifications are taken). */
    uint32_t transfers_max;             /**< 65,536 prepared at one time. */
    uint32_t requests_per_peer_max;     /**< 16 that one peer may have served at one time; <= 64. */
    uint32_t leases_per_peer_max;       /**< 65,536 that one named peer may hold. */
    uint32_t notification_window_bytes; /**< 262,144 undelivered a peer, each way. */
    uint32_t local_ring_bytes;          /**< 524,288 each way; a power of two, at least 131,072. */

    /** Bytes that the requests of one peer may ask for at one time. Default: no limit. */
    uint64_t bytes_per_peer_max;
    uint64_t connect_timeout_ns;  /**< 5 s: from the first use of a peer until it answers. */
    uint64_t transfer_timeout_ns; /**< 30 s: from post to completion, unless post says other. */
    uint64_t slot_rest_ns;        /**< 1 s: how long the cause of an ended lease stays readable
                                       before its slot may serve another. */
    uint64_t spin_ns;             /**< 50 us: how long progress looks again before it sleeps; four
                                       times that after a sleep that this would have spared. */
};

#define LEND_AGENT_CONFIG_INIT                                                                     \
    {                                                                                              \
        .struct_size = sizeof(struct lend_agent_config)                                            \
    }

/** Fill with zeros and the size, as LEND_AGENT_CONFIG_INIT does. Threads: safe. */
LEND_API void lend_agent_config_init(struct lend_agent_config *config);

/**
 * Make an agent.
 *
 * @param config copied, strings too.
 * @param out    on success, the agent; give it back with lend_agent_destroy(). Untouched on
 * failure.
 * @param error  filled on failure; may be NULL.
 * @retval LEND_E_INVALID      null arguments, bad name, unknown flag, or a value out of its range.
 * @retval LEND_E_VERSION      struct_size is of no version of this struct.
 * @retval LEND_E_UNSUPPORTED  a transport that is wanted is not in this build.
 * @retval LEND_E_NO_PATH      no transport, or not a required one, could be opened; says why.
 * @retval LEND_E_ABSENT       a secret is given, and its plugin cannot be loaded; says why.
 * @retval LEND_E_NO_MEMORY
 * @retval LEND_E_SYSTEM
 *
 * Threads: safe. Blocks: no longer than the file system does; with nixl_devices for NIXL, which
 * takes half a second, and at most connect_timeout_ns.
 */
LEND_API LEND_MUST_USE enum lend_status lend_agent_create(const struct lend_agent_config *config,
                                                          struct lend_agent **out,
                                                          struct lend_error *error);

/**
 * End an agent in whatever state it is: its leases are revoked, its transfers end as canceled, its
 * peers see it die, and its regions are withdrawn and their owner tokens released. Every handle
 * that it gave is void. NULL is a no-op. In a forked child it frees the child's copy and disturbs
 * nothing of the parent's.
 *
 * Threads: no other call on this agent may run or follow. Blocks: for at most one chunk of a copy.
 * Not from a callback.
 */
LEND_API void lend_agent_destroy(struct lend_agent *agent);

/** The name; NULL for NULL. Valid for as long as the agent. Threads: safe. */
LEND_API const char *lend_agent_name(const struct lend_agent *agent);

/** Copy the LEND_INCARNATION_BYTES of the incarnation to out. Threads: safe. */
LEND_API void lend_agent_incarnation(const struct lend_agent *agent, uint8_t *out);

/**
 * Make progress on the calling thread, and wait at most timeout_ns for something to make it on.
 * Needed under manual progress; allowed beside a progress thread.
 * @retval LEND_OK         something moved.
 * @retval LEND_E_TIMEOUT  nothing did.
 * @retval LEND_E_INVALID  agent is NULL.
 * @retval LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns.
 */
LEND_API enum lend_status lend_agent_progress(struct lend_agent *agent, uint64_t timeout_ns,
                                              struct lend_error *error);

/**
 * A descriptor for poll, epoll or asyncio, owned by the agent.
 *
 * With a progress thread it is readable when a transfer has completed or a notification has come
 * since the last lend_agent_clear(). Under manual progress it is readable when
 * lend_agent_progress() has work, provided that lend_agent_arm() said so first.
 * Returns -1 for NULL or after a fork. Threads: safe.
 */
LEND_API int32_t lend_agent_fd(const struct lend_agent *agent);

/** Make the descriptor of a threaded agent unreadable until the next event. Threads: safe. */
LEND_API void lend_agent_clear(struct lend_agent *agent);

/**
 * Manual progress: ask to be woken through lend_agent_fd().
 * @retval LEND_OK       armed: go to sleep on the descriptor.
 * @retval LEND_PENDING  there is work already: call lend_agent_progress() first.
 * @retval LEND_E_INVALID
 * @retval LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API enum lend_status lend_agent_arm(struct lend_agent *agent, struct lend_error *error);

#ifdef __cplusplus
}
#endif
#endif
