/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_PLUGIN_H
#define LEND_PLUGIN_H

/**
 * @file
 * For those who write plugins: libraries of their own that lend loads when it is asked for what
 * they do. Users of lend need nothing of this.
 *
 * A plugin exports one function, whose name has the number of its interface in it, and which gives
 * a table of functions. The table is constant, and says by its size and its number as what it was
 * compiled: lend takes larger tables of the same number than it knows, and uses what it knows.
 */

#include <lend/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- the shared secret --- */

/** What lend looks for in lend_agent_config::secret_plugin: a ::lend_secret_plugin_entry. */
#define LEND_SECRET_PLUGIN_SYMBOL "lend_secret_plugin_1"

enum {
    LEND_SECRET_PLUGIN_ABI = 1,
    LEND_SECRET_BYTES_MIN = 16,
    LEND_SECRET_BYTES_MAX = 64,
    LEND_SECRET_PROOF_BYTES = 32,
    LEND_SECRET_MAC_BYTES = 16,
};

/** Who says it: keys and proofs of the two are never the same. */
enum lend_secret_role { LEND_SECRET_CLIENT = 0, LEND_SECRET_SERVER = 1 };

/** A message that gets a MAC: its header and its payload, one behind the other. */
struct lend_secret_message {
    uint32_t struct_size;   /**< sizeof(struct lend_secret_message). */
    uint32_t role;          /**< ::lend_secret_role of whoever sends it. */
    const uint8_t *header;  /**< Of the same length each time. */
    uint64_t header_bytes;  /**< At least 1. */
    const uint8_t *payload; /**< NULL if there is none. */
    uint64_t payload_bytes; /**< May be 0. */
};

/**
 * The cryptography of the shared secret, and the keeper of its keys. lend writes the protocol (who
 * says what to whom, with which nonces); whatever has to do with a key happens here.
 *
 * Every slot is required. All may be called by several threads at one time, for the same secret
 * too. Nothing blocks, and nothing calls lend. Several secrets may be kept at one time. In a forked
 * child only forget() and discard() are called, for the child's copies.
 */
struct lend_secret_plugin {
    uint32_t struct_size; /**< sizeof(struct lend_secret_plugin) as the plugin was compiled. */
    uint32_t abi;         /**< LEND_SECRET_PLUGIN_ABI as the plugin was compiled. */
    const char *name;     /**< What does the work: "libsodium 1.0.18". */

    /** Keep a secret of LEND_SECRET_BYTES_MIN .. LEND_SECRET_BYTES_MAX bytes, or what is made of
     * it, in memory of the plugin's own. LEND_E_NO_MEMORY, or LEND_E_SYSTEM; says why. */
    enum lend_status (*keep)(const void *secret, uint64_t secret_bytes, void **out_kept,
                             struct lend_error *error);
    /** Wipe it. Keys that came from it stay. NULL is a no-op. */
    void (*forget)(void *kept);

    /** Write the LEND_SECRET_PROOF_BYTES that show that this role knows the secret and means this
     * transcript. */
    void (*prove)(const void *kept, uint32_t role, const uint8_t *transcript, uint64_t bytes,
                  uint8_t *out_proof);
    /** Is this that proof? 1, or 0; in a time that does not tell how much of it is right. */
    int32_t (*check)(const void *kept, uint32_t role, const uint8_t *transcript, uint64_t bytes,
                     const uint8_t *proof);

    /** Make the keys of one session: one for each role's messages. LEND_E_NO_MEMORY. */
    enum lend_status (*derive)(const void *kept, const uint8_t *transcript, uint64_t bytes,
                               void **out_keys, struct lend_error *error);
    /** Wipe them. NULL is a no-op. */
    void (*discard)(void *keys);
    /** Write the LEND_SECRET_MAC_BYTES of a message. */
    void (*seal)(const void *keys, const struct lend_secret_message *message, uint8_t *out_mac);
    /** Is this that MAC? 1, or 0; in a time that does not tell how much of it is right. */
    int32_t (*verify)(const void *keys, const struct lend_secret_message *message,
                      const uint8_t *mac);
};

/** The plugin's one exported function: its table, which is valid until it is unloaded. */
typedef const struct lend_secret_plugin *lend_secret_plugin_entry(void);

/* --- the directory --- */

/** What lend looks for in lend_directory_config::plugin: a ::lend_directory_plugin_entry. */
#define LEND_DIRECTORY_PLUGIN_SYMBOL "lend_directory_plugin_1"

enum { LEND_DIRECTORY_PLUGIN_ABI = 1 };

/** What a plugin is opened with. Valid during the call. */
struct lend_directory_plugin_open {
    uint32_t struct_size;     /**< sizeof(struct lend_directory_plugin_open). */
    uint32_t reserved;        /**< 0. */
    const char *url;          /**< As in lend_directory_config. */
    uint64_t time_to_live_ns; /**< How long an entry outlives whoever keeps it alive. */
    uint64_t timeout_ns;      /**< For each call: it has ended by then; limit() changes it. */
    uint64_t entry_bytes_max; /**< Longer entries are as good as none. */
    uint64_t owner_bytes;     /**< So many first bytes of an entry say whose it is. */
};

/** What a watch tells, from within lend_directory_plugin::watch() and on its thread. The bytes are
 * valid during the call; they, and the name, are as untrusted as the service. */
struct lend_directory_watcher {
    uint32_t struct_size; /**< sizeof(struct lend_directory_watcher). */
    uint32_t reserved;    /**< 0. */
    void *context;
    /** An entry that is there, or that has come or changed. */
    void (*entry)(void *context, const char *name, uint64_t name_bytes, const void *bytes,
                  uint64_t bytes_count);
    /** All that was there when the watch began has been told. */
    void (*listed)(void *context);
    /** The entry of that name is gone. */
    void (*gone)(void *context, const char *name, uint64_t name_bytes);
};

/**
 * A service that keeps entries, a few bytes each, under the names of agents, and tells when they
 * change. lend decides what an entry says, who publishes when, and what becomes of what is told.
 *
 * Every slot is required. A handle is used by one thread at a time, but for interrupt(); several
 * handles may be used at one time. All but open(), limit(), interrupt() and close() block, for as
 * long as the timeout of the handle, and watch() until something ends it. Failures:
 * LEND_E_TIMEOUT and LEND_E_NO_PATH where the service does not answer, or not as it should,
 * LEND_E_NO_MEMORY, and what is said at each.
 */
struct lend_directory_plugin {
    uint32_t struct_size; /**< sizeof(struct lend_directory_plugin) as the plugin was compiled. */
    uint32_t abi;         /**< LEND_DIRECTORY_PLUGIN_ABI as the plugin was compiled. */
    const char *name;     /**< What does the work: "etcd, by libcurl 7.88.1". */

    /** Make a handle; nothing is connected. LEND_E_UNSUPPORTED: a url of another service.
     * LEND_E_INVALID: one that makes no sense. */
    enum lend_status (*open)(const struct lend_directory_plugin_open *open, void **out,
                             struct lend_error *error);
    /** Free it; what was put stays until its time is out. NULL is a no-op. */
    void (*close)(void *handle);

    /** Make, or replace, the entry of that name, if there is none or it is ours, and keep it alive
     * until the time to live has passed without a keep(). LEND_E_BUSY: it is another's.
     * LEND_E_LIMIT: the service does not take so many bytes. */
    enum lend_status (*put)(void *handle, const char *name, const void *bytes, uint64_t count,
                            struct lend_error *error);
    /** Keep what was put alive. LEND_E_STALE: its time has run out, or the service has lost it;
     * put it again. */
    enum lend_status (*keep)(void *handle, struct lend_error *error);
    /** Take back what was put. */
    enum lend_status (*take_back)(void *handle, struct lend_error *error);

    /** Tell the entry of that name to watcher->entry(), once. LEND_E_ABSENT: there is none. */
    enum lend_status (*find)(void *handle, const char *name,
                             const struct lend_directory_watcher *watcher,
                             struct lend_error *error);
    /** Tell all entries, then listed(), then what changes, until the service ends it, an error
     * does, or interrupt(): LEND_E_CANCELED. */
    enum lend_status (*watch)(void *handle, const struct lend_directory_watcher *watcher,
                              struct lend_error *error);
    /** The calls that follow have ended within so long, each; before it is said, within the timeout
     * that the handle was opened with. */
    void (*limit)(void *handle, uint64_t timeout_ns);
    /** From any thread: let a call that is under way, or the next one, end soon with
     * LEND_E_CANCELED. For good. */
    void (*interrupt)(void *handle);
};

/** The plugin's one exported function: its table, which is valid until it is unloaded. */
typedef const struct lend_directory_plugin *lend_directory_plugin_entry(void);

#ifdef __cplusplus
}
#endif
#endif
