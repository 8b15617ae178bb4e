/* SPDX-License-Identifier: Apache-2.0 */
#include "core/secret.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

#define DEFAULT_PLUGIN LEND_PLUGIN_DIRECTORY "/lend-secret.so"

enum lend_status lend_secret_check(const struct lend_agent_config *config, struct lend_error *error)
{
    uint32_t bytes = config->secret_bytes;

    if ((config->secret == NULL) != (bytes == 0))
        return lend_fail(error, LEND_E_INVALID, "secret is %s, and secret_bytes is %u",
                         config->secret == NULL ? "NULL" : "given", bytes);
    if (bytes > 0 && (bytes < LEND_SECRET_BYTES_MIN || bytes > LEND_SECRET_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID, "a secret of %u bytes; it must have %d to %d",
                         bytes, LEND_SECRET_BYTES_MIN, LEND_SECRET_BYTES_MAX);
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

enum lend_status lend_secret_open(struct lend_secret *secret,
                                  const struct lend_agent_config *config, struct lend_error *error)
{
    const char *path = config->secret_plugin != NULL ? config->secret_plugin : DEFAULT_PLUGIN;
    lend_secret_plugin_entry *entry;
    char why[160] = "";

    if (config->secret == NULL)
        return LEND_OK;
    secret->library = lend_sys->load(path, why, sizeof why);
    if (secret->library == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "no plugin for the secret: %s; it is Debian's package lend-plugins, or "
                         "name its file (secret_plugin)",
                         why);

    void *symbol = lend_sys->symbol(secret->library, LEND_SECRET_PLUGIN_SYMBOL);
    if (symbol == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "%.160s has no function %s: it is not a plugin for the secret", path,
                         LEND_SECRET_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    const struct lend_secret_plugin *plugin = entry();
    enum lend_status status = check_table(plugin, path, error);
    if (status != LEND_OK)
        return status;
    status = plugin->keep(config->secret, config->secret_bytes, &secret->kept, error);
    if (status == LEND_OK)
        secret->plugin = plugin;
    return status;
}

void lend_secret_close(struct lend_secret *secret)
{
    if (secret->plugin != NULL)
        secret->plugin->forget(secret->kept);
    secret->plugin = NULL;
    secret->kept = NULL;
    lend_sys->unload(secret->library);
    secret->library = NULL;
}
