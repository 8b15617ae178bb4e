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

#ifdef __cplusplus
}
#endif
#endif
