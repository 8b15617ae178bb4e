/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/ucx.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/* The network devices that the configuration names, as UCX_NET_DEVICES has them. */

enum { NAME_BYTES = 64, PATH_BYTES = 128 };

/* The next name, at *at, and its length. False: there is none. */
static bool next_name(const char **at, size_t *length)
{
    *at += strspn(*at, ",");
    *length = strcspn(*at, ",");
    return *length > 0;
}

static bool is_in(const char *folder, const char *name)
{
    struct stat found;
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof path, "/sys/class/%s/%s", folder, name);
    return lend_sys->stat(path, &found) == 0;
}

/* Names of network interfaces have no colon, and those of RDMA ports do. */
bool lend_ucx_may_use_tcp(const struct lend_transport_open *open)
{
    const char *transports = open->ucx_transports;
    size_t length;

    if (transports != NULL && strstr(transports, "tcp") == NULL && strcmp(transports, "all") != 0)
        return false;
    for (const char *at = open->ucx_devices; next_name(&at, &length); at += length)
        if (memchr(at, ':', length) == NULL)
            return true;
    return false;
}

/* UCX itself only warns of a name that it does not know, and then reaches nobody. What it does not
 * take for one name (all of them, all but some, patterns) is left to it. */
enum lend_status lend_ucx_check_devices(const struct lend_transport_open *open,
                                        struct lend_error *error)
{
    size_t length;

    if (strcmp(open->ucx_devices, "all") == 0 || strpbrk(open->ucx_devices, "^*?[") != NULL)
        return LEND_OK;
    for (const char *at = open->ucx_devices; next_name(&at, &length); at += length) {
        char name[NAME_BYTES];

        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ":,"), at);
        if (!is_in("net", name) && !is_in("infiniband", name))
            return lend_fail(error, LEND_E_INVALID,
                             "ucx_devices names %.60s, and this machine has no such network "
                             "interface or RDMA device: see \"lend info\", or ucx_info -d",
                             name);
    }
    return LEND_OK;
}
