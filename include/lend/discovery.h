/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_DISCOVERY_H
#define LEND_DISCOVERY_H

/**
 * @file
 * Finding peers: how metadata comes to the other side where the application has no way of its own.
 *
 * Either from the agent itself: one that listens (lend_agent_config::listen) tells its metadata to
 * whoever asks there, or only to whoever has the secret, if it has one. Or from a *directory*, a
 * service where agents publish theirs under their names; this build knows etcd, by a plugin.
 *
 * With the metadata goes an *attachment*: bytes of the application, such as a ticket, as readable
 * to all as the metadata.
 */

#include <lend/peer.h>

#ifdef __cplusplus
extern "C" {
#endif

/** As of metadata. A directory may take less: etcd 1.5 MiB of both, if it was told nothing else. */
#define LEND_ATTACHMENT_BYTES_MAX (UINT32_C(16) << 20)

/**
 * Give, replace, or with count 0 take away, the attachment of this agent.
 * @param bytes  copied.
 * @retval LEND_E_LIMIT  over LEND_ATTACHMENT_BYTES_MAX.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_agent_attach(struct lend_agent *agent,
                                                          const void *bytes, size_t count,
                                                          struct lend_error *error);

/** What was found of an agent. The bytes are lend's; give it back with lend_found_release(). */
struct lend_found {
    const void *metadata; /**< For lend_peer_import(). */
    size_t metadata_bytes;
    const void *attachment; /**< NULL: none. */
    size_t attachment_bytes;
};

/**
 * Ask the agent that listens there.
 *
 * @param address  numeric "ADDRESS:PORT" or "[IPV6]:PORT".
 * @param out      on success what it told, checked to be metadata. Untouched on failure.
 * @retval LEND_E_PEER_DEAD    nobody listens there, or no agent does.
 * @retval LEND_E_TIMEOUT      no answer in timeout_ns.
 * @retval LEND_E_ACCESS       we have a secret (lend_agent_config::secret; that of an import is not
 * asked with), and the other has another one, or none. (If it has one and we have none, it hangs up
 * without a word: LEND_E_PEER_DEAD, and the text says so.)
 * @retval LEND_E_VERSION      it speaks another version of the protocol; both are named.
 * @retval LEND_E_UNSUPPORTED  this agent has no transport that takes such addresses open.
 * @retval LEND_E_CORRUPT      what came is no metadata.
 * @retval LEND_E_INVALID, LEND_E_LIMIT, LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns, making progress meanwhile.
 */
LEND_API LEND_MUST_USE enum lend_status lend_fetch(struct lend_agent *agent, const char *address,
                                                   uint64_t timeout_ns, struct lend_found **out,
                                                   struct lend_error *error);

/** Give back what was found. NULL is a no-op. Threads: safe. */
LEND_API void lend_found_release(struct lend_found *found);

/**
 * Where this agent listens, as "ADDRESS:PORT" for lend_fetch(): of the address that it advertises.
 * @param text  room for capacity bytes with the NUL; 64 suffice.
 * @retval LEND_E_ABSENT  it listens nowhere.
 * @retval LEND_E_INVALID, LEND_E_FORKED
 * Threads: safe. Blocks: no.
 */
LEND_API LEND_MUST_USE enum lend_status lend_agent_address(const struct lend_agent *agent,
                                                           char *text, size_t capacity,
                                                           struct lend_error *error);

struct lend_directory;

/** What a directory tells of another agent. */
enum lend_directory_event {
    LEND_DIRECTORY_CAME = 1, /**< It is there: new, or another incarnation of the name. */
    LEND_DIRECTORY_CHANGED,  /**< The same incarnation, with newer metadata or attachment. */
    LEND_DIRECTORY_LEFT,     /**< It took its entry back, or its time ran out. */
};

enum lend_directory_flag {
    /** Publish how to reach us, and the attachment, and nothing of our regions: metadata that is
     * partial, as of lend_metadata_export_with() without regions. For those who carry what they
     * tell of their regions in the attachment. */
    LEND_DIRECTORY_NO_REGIONS = 1,
};

/** Initialise with LEND_DIRECTORY_CONFIG_INIT. */
struct lend_directory_config {
    uint32_t struct_size; /**< sizeof(struct lend_directory_config) as compiled. */
    uint32_t flags;       /**< ::lend_directory_flag. */
    /** Required: "etcd://HOST:PORT[,HOST:PORT...][/PREFIX]"; the prefix is "lend" if none is given;
     * entries lie under PREFIX/agents/NAME. "etcds://" for TLS, with the system's authorities. */
    const char *url;
    const char *plugin;       /**< The plugin to load; NULL: lend-etcd.so of the library. */
    uint64_t time_to_live_ns; /**< 10 s: how long an entry outlives an agent that died; >= 1 s. */
    uint64_t timeout_ns;      /**< 5 s: for each call of the service. */
    /** Called for each change of an agent but ourselves, and at the beginning for each that is
     * there, before lend_directory_open() has returned; on a thread of the directory, with no lock
     * held. found is NULL for LEFT, and valid during the call. Peers that this agent has imported
     * are refreshed before. NULL: not told. */
    void (*on_event)(void *context, enum lend_directory_event event, const char *name,
                     const struct lend_found *found);
    void *context;
};

#define LEND_DIRECTORY_CONFIG_INIT                                                                 \
    {                                                                                              \
        .struct_size = sizeof(struct lend_directory_config)                                        \
    }

/** Fill with zeros and the size; for other languages. Threads: safe. */
LEND_API void lend_directory_config_init(struct lend_directory_config *config);

/**
 * Enter a directory: reach it once, then keep up with it on a thread of its own, through stops and
 * restarts of the service, until it is closed.
 * @param agent  must outlive the directory.
 * @param out    close it with lend_directory_close(). Untouched on failure.
 * @retval LEND_E_ABSENT       the plugin cannot be loaded; says why.
 * @retval LEND_E_TIMEOUT, LEND_E_NO_PATH  the service does not answer, or not as it should.
 * @retval LEND_E_UNSUPPORTED  a url of no known service.
 * @retval LEND_E_INVALID, LEND_E_VERSION, LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns.
 */
LEND_API LEND_MUST_USE enum lend_status lend_directory_open(
    struct lend_agent *agent, const struct lend_directory_config *config,
    struct lend_directory **out, struct lend_error *error);

/**
 * Publish this agent's metadata and attachment under its name, and keep them up to date there, and
 * alive, until the directory is closed. Again: look now whether they changed.
 * @retval LEND_E_BUSY   a live agent of another incarnation has the name; it is taken over when
 * that one's entry goes.
 * @retval LEND_E_LIMIT  it is more than the service takes (etcd: 1.5 MiB a request by default).
 * @retval LEND_E_TIMEOUT, LEND_E_NO_PATH  the service does not answer; it is published when it
 * does.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns of the configuration.
 */
LEND_API LEND_MUST_USE enum lend_status lend_directory_publish(struct lend_directory *directory,
                                                               struct lend_error *error);

/**
 * Take our entry back, and stay in the directory: others are told that we left
 * (LEND_DIRECTORY_LEFT). lend_directory_publish() publishes again. Not published: nothing to do.
 * @retval LEND_E_TIMEOUT, LEND_E_NO_PATH  the service does not answer; the entry is no longer kept
 * alive, and goes when its time has run out.
 * @retval LEND_E_INVALID, LEND_E_FORKED
 * Threads: safe. Blocks: up to timeout_ns of the configuration.
 */
LEND_API LEND_MUST_USE enum lend_status lend_directory_unpublish(struct lend_directory *directory,
                                                                 struct lend_error *error);

/**
 * Look an agent up by its name.
 * @param wait_ns  how long to wait for it to come, if it is not there; 0: look once.
 * @param out      as of lend_fetch().
 * @retval LEND_E_ABSENT  no agent of that name is there.
 * @retval LEND_E_CORRUPT what is there is no metadata of an agent of that name.
 * @retval LEND_E_TIMEOUT, LEND_E_NO_PATH  the service does not answer, or not as it should.
 * @retval LEND_E_INVALID, LEND_E_NO_MEMORY, LEND_E_FORKED
 * Threads: safe. Blocks: up to wait_ns and timeout_ns of the configuration.
 */
LEND_API LEND_MUST_USE enum lend_status lend_directory_find(struct lend_directory *directory,
                                                            const char *name, uint64_t wait_ns,
                                                            struct lend_found **out,
                                                            struct lend_error *error);

/**
 * Take our entry back, if that can be done in time (else its own time runs out), and leave. NULL is
 * a no-op. Threads: no other call on it may run or follow, but those of a callback that is under
 * way, which is waited for. Not from its callback. Blocks: up to timeout_ns of the configuration,
 * and for as long as that callback.
 */
LEND_API void lend_directory_close(struct lend_directory *directory);

#ifdef __cplusplus
}
#endif
#endif
