/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SERVICE_H
#define LEND_CORE_SERVICE_H

#include <lend/plugin.h>

/* The plugin that speaks to a directory's service. */
struct lend_service {
    void *library;
    const struct lend_directory_plugin *plugin; /* NULL: it is not loaded */
};

/* From that file, or the library's own. LEND_E_ABSENT, LEND_E_VERSION; unload it also then. */
enum lend_status lend_service_load(struct lend_service *service, const char *given,
                                   struct lend_error *error);
void lend_service_unload(struct lend_service *service);

#endif
