/* SPDX-License-Identifier: Apache-2.0 */
#include "core/service.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

#define DEFAULT_PLUGIN LEND_PLUGIN_DIRECTORY "/lend-etcd.so"

static enum lend_status check_table(const struct lend_directory_plugin *plugin, const char *path,
                                    struct lend_error *error)
{
    if (plugin == NULL || plugin->abi != LEND_DIRECTORY_PLUGIN_ABI ||
        plugin->struct_size < sizeof *plugin)
        return lend_fail(error, LEND_E_VERSION,
                         "%.160s has interface %u of %u bytes, not %d of %zu; install the one of "
                         "this release",
                         path, plugin != NULL ? plugin->abi : 0,
                         plugin != NULL ? plugin->struct_size : 0, LEND_DIRECTORY_PLUGIN_ABI,
                         sizeof *plugin);
    if (plugin->name == NULL || plugin->open == NULL || plugin->close == NULL ||
        plugin->put == NULL || plugin->keep == NULL || plugin->take_back == NULL ||
        plugin->find == NULL || plugin->watch == NULL || plugin->limit == NULL ||
        plugin->interrupt == NULL)
        return lend_fail(error, LEND_E_VERSION, "%.160s leaves a required slot empty", path);
    return LEND_OK;
}

enum lend_status lend_service_load(struct lend_service *service, const char *given,
                                   struct lend_error *error)
{
    const char *path = given != NULL ? given : DEFAULT_PLUGIN;
    lend_directory_plugin_entry *entry;
    char why[160] = "";

    service->library = lend_sys->load(path, why, sizeof why);
    if (service->library == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "no plugin for the directory: %s; it is Debian's package lend-plugins, or "
                         "name its file",
                         why);
    void *symbol = lend_sys->symbol(service->library, LEND_DIRECTORY_PLUGIN_SYMBOL);
    if (symbol == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "%.160s has no function %s: it is not a plugin for a directory", path,
                         LEND_DIRECTORY_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    const struct lend_directory_plugin *plugin = entry();
    enum lend_status status = check_table(plugin, path, error);
    if (status == LEND_OK)
        service->plugin = plugin;
    return status;
}

void lend_service_unload(struct lend_service *service)
{
    lend_sys->unload(service->library);
    *service = (struct lend_service){0};
}
