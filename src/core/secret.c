/* SPDX-License-Identifier: Apache-2.0 */
#include "core/secret.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

#define DEFAULT_PLUGIN LEND_PLUGIN_DIRECTORY "/lend-secret.so"

enum lend_status lend_secret_check(const void *bytes, uint32_t count, struct lend_error *error)
{
    if ((bytes == NULL) != (count == 0))
        return lend_fail(error, LEND_E_INVALID, "secret is %s, and secret_bytes is %u",
                         bytes == NULL ? "NULL" : "given", count);
    if (count > 0 && (count < LEND_SECRET_BYTES_MIN || count > LEND_SECRET_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "a secret of %u bytes; it must have %d to %d",
                         count, LEND_SECRET_BYTES_MIN, LEND_SECRET_BYTES_MAX);
    return LEND_OK;
}

static enum lend_status check_table(const struct lend_secret_plugin *plugin, const char *path,
                                    struct lend_error *error)
{
    if (plugin == NULL || plugin->abi != LEND_SECRET_PLUGIN_ABI ||
        plugin->struct_size < sizeof *plugin)
        return lend_fail(error, LEND_E_VERSION,
                         "%.160s has interface %u of %u bytes, not %d of %zu; install the one of "
                         "this release",
                         path, plugin != NULL ? plugin->abi : 0,
                         plugin != NULL ? plugin->struct_size : 0, LEND_SECRET_PLUGIN_ABI,
                         sizeof *plugin);
    if (plugin->name == NULL || plugin->keep == NULL || plugin->forget == NULL ||
        plugin->prove == NULL || plugin->check == NULL || plugin->derive == NULL ||
        plugin->discard == NULL || plugin->seal == NULL || plugin->verify == NULL)
        return lend_fail(error, LEND_E_VERSION, "%.160s leaves a required slot empty", path);
    return LEND_OK;
}

enum lend_status lend_secret_load(struct lend_secret_keeper *keeper, const char *path,
                                  struct lend_error *error)
{
    lend_secret_plugin_entry *entry;
    char why[160] = "";

    if (path == NULL)
        path = DEFAULT_PLUGIN;
    keeper->library = lend_sys->load(path, why, sizeof why);
    if (keeper->library == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "no plugin for the secret: %s; it is Debian's package lend-plugins, or "
                         "name its file (secret_plugin)",
                         why);

    void *symbol = lend_sys->symbol(keeper->library, LEND_SECRET_PLUGIN_SYMBOL);
    if (symbol == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "%.160s has no function %s: it is not a plugin for the secret", path,
                         LEND_SECRET_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    const struct lend_secret_plugin *plugin = entry();
    enum lend_status status = check_table(plugin, path, error);
    if (status == LEND_OK)
        keeper->plugin = plugin;
    return status;
}

void lend_secret_unload(struct lend_secret_keeper *keeper)
{
    lend_sys->unload(keeper->library);
    *keeper = (struct lend_secret_keeper){0};
}

enum lend_status lend_secret_keep(struct lend_secret *secret,
                                  const struct lend_secret_plugin *plugin, const void *bytes,
                                  uint32_t count, struct lend_error *error)
{
    enum lend_status status = plugin->keep(bytes, count, &secret->kept, error);

    if (status == LEND_OK)
        secret->plugin = plugin;
    return status;
}

void lend_secret_forget(struct lend_secret *secret)
{
    if (secret->plugin != NULL)
        secret->plugin->forget(secret->kept);
    *secret = (struct lend_secret){0};
}

/* What one proves, the other one checks. No session has such a transcript, and nobody is told. */
bool lend_secret_is_same(const struct lend_secret *one, const struct lend_secret *other)
{
    static const uint8_t transcript[] = "are these two the same?";
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    if (one->plugin == NULL || other->plugin == NULL)
        return one->plugin == other->plugin;
    one->plugin->prove(one->kept, LEND_SECRET_CLIENT, transcript, sizeof transcript, proof);
    return other->plugin->check(other->kept, LEND_SECRET_CLIENT, transcript, sizeof transcript,
                                proof) == 1;
}
