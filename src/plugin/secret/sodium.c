/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared secret on libsodium. What is kept of a secret is a key of 256 bits made from it, in
 * memory of sodium_malloc(): pages of its own between two that nobody may touch, locked, left out
 * of core dumps, and wiped when they are freed.
 *
 *     kept     BLAKE2b-256 of the secret, keyed with a label
 *     proofs   HMAC-SHA512-256 (crypto_auth) of the transcript, under a subkey of the role
 *     session  BLAKE2b-256 of the transcript, keyed with a subkey of the role
 *     MACs     BLAKE2b-128 of the message, keyed with the session's key of the role
 *
 * Subkeys are crypto_kdf's.
 */
#include <lend/plugin.h>

#include <sodium.h>
#include <stdio.h>

enum { ROLES = 2, PROOF_SUBKEY = 1, SESSION_SUBKEY = 17 };

/* At least crypto_generichash_KEYBYTES_MIN long, and at most _MAX. */
static const uint8_t kept_label[] = "lend: the shared secret, first form";
static const char subkey_label[crypto_kdf_CONTEXTBYTES] = "lendkeys";

struct kept {
    uint8_t key[crypto_kdf_KEYBYTES];
};

struct keys {
    uint8_t key[ROLES][crypto_generichash_KEYBYTES];
};

_Static_assert(LEND_SECRET_PROOF_BYTES == crypto_auth_BYTES, "a proof is an authenticator");
_Static_assert(LEND_SECRET_MAC_BYTES == crypto_generichash_BYTES_MIN, "the shortest that it makes");
_Static_assert(sizeof kept_label - 1 >= crypto_generichash_KEYBYTES_MIN &&
                   sizeof kept_label - 1 <= crypto_generichash_KEYBYTES_MAX,
               "a label is a key");

static enum lend_status fail(struct lend_error *error, enum lend_status status, const char *text)
{
    if (error != NULL) {
        *error = (struct lend_error){.status = status};
        (void)snprintf(error->message, sizeof error->message, "%s", text);
    }
    return status;
}

static enum lend_status keep(const void *secret, uint64_t secret_bytes, void **out_kept,
                             struct lend_error *error)
{
    if (sodium_init() < 0)
        return fail(error, LEND_E_SYSTEM, "libsodium finds no source of random numbers");

    struct kept *kept = sodium_malloc(sizeof *kept);
    if (kept == NULL)
        return fail(error, LEND_E_NO_MEMORY, "no guarded memory for a secret");
    (void)crypto_generichash(kept->key, sizeof kept->key, secret, secret_bytes, kept_label,
                             sizeof kept_label - 1);
    (void)sodium_mprotect_readonly(kept); /* a safeguard that may be missing */
    *out_kept = kept;
    return LEND_OK;
}

static void forget(void *kept)
{
    sodium_free(kept);
}

static void prove(const void *kept, uint32_t role, const uint8_t *transcript, uint64_t bytes,
                  uint8_t *out_proof)
{
    const struct kept *from = kept;
    uint8_t key[crypto_auth_KEYBYTES];

    (void)crypto_kdf_derive_from_key(key, sizeof key, PROOF_SUBKEY + role, subkey_label, from->key);
    (void)crypto_auth(out_proof, transcript, bytes, key);
    sodium_memzero(key, sizeof key);
}

static int32_t check(const void *kept, uint32_t role, const uint8_t *transcript, uint64_t bytes,
                     const uint8_t *proof)
{
    uint8_t right[crypto_auth_BYTES];

    prove(kept, role, transcript, bytes, right);
    int different = sodium_memcmp(right, proof, sizeof right);
    sodium_memzero(right, sizeof right);
    return different == 0;
}

static enum lend_status derive(const void *kept, const uint8_t *transcript, uint64_t bytes,
                               void **out_keys, struct lend_error *error)
{
    const struct kept *from = kept;
    uint8_t key[crypto_generichash_KEYBYTES];

    struct keys *keys = sodium_malloc(sizeof *keys);
    if (keys == NULL)
        return fail(error, LEND_E_NO_MEMORY, "no guarded memory for the keys of a session");
    for (uint32_t role = 0; role < ROLES; role++) {
        (void)crypto_kdf_derive_from_key(key, sizeof key, SESSION_SUBKEY + role, subkey_label,
                                         from->key);
        (void)crypto_generichash(keys->key[role], sizeof keys->key[role], transcript, bytes, key,
                                 sizeof key);
    }
    sodium_memzero(key, sizeof key);
    (void)sodium_mprotect_readonly(keys); /* a safeguard that may be missing */
    *out_keys = keys;
    return LEND_OK;
}

static void discard(void *keys)
{
    sodium_free(keys);
}

static void seal(const void *keys, const struct lend_secret_message *message, uint8_t *out_mac)
{
    const struct keys *of = keys;
    const uint8_t *key = of->key[message->role % ROLES];
    crypto_generichash_state state;

    (void)crypto_generichash_init(&state, key, sizeof of->key[0], LEND_SECRET_MAC_BYTES);
    (void)crypto_generichash_update(&state, message->header, message->header_bytes);
    if (message->payload_bytes > 0)
        (void)crypto_generichash_update(&state, message->payload, message->payload_bytes);
    (void)crypto_generichash_final(&state, out_mac, LEND_SECRET_MAC_BYTES);
    sodium_memzero(&state, sizeof state);
}

static int32_t verify(const void *keys, const struct lend_secret_message *message,
                      const uint8_t *mac)
{
    uint8_t right[LEND_SECRET_MAC_BYTES];

    seal(keys, message, right);
    int different = sodium_memcmp(right, mac, sizeof right);
    sodium_memzero(right, sizeof right);
    return different == 0;
}

static const struct lend_secret_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi = LEND_SECRET_PLUGIN_ABI,
    .name = "libsodium " SODIUM_VERSION_STRING,
    .keep = keep,
    .forget = forget,
    .prove = prove,
    .check = check,
    .derive = derive,
    .discard = discard,
    .seal = seal,
    .verify = verify,
};

/* Found by its name, which no header declares: lend_secret_plugin_entry is its type. */
__attribute__((visibility("default"))) lend_secret_plugin_entry lend_secret_plugin_1;

const struct lend_secret_plugin *lend_secret_plugin_1(void)
{
    return &plugin;
}
