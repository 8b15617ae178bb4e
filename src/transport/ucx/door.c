/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/door.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

const struct lend_ucx_ops *lend_ucx;

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"ucp_get_version_string", offsetof(struct lend_ucx_ops, version_string)},
    {"ucs_status_string", offsetof(struct lend_ucx_ops, status_string)},
    {"ucp_config_read", offsetof(struct lend_ucx_ops, config_read)},
    {"ucp_config_modify", offsetof(struct lend_ucx_ops, config_modify)},
    {"ucp_config_release", offsetof(struct lend_ucx_ops, config_release)},
    {"ucp_init_version", offsetof(struct lend_ucx_ops, init)},
    {"ucp_cleanup", offsetof(struct lend_ucx_ops, cleanup)},
    {"ucp_worker_create", offsetof(struct lend_ucx_ops, worker_create)},
    {"ucp_worker_destroy", offsetof(struct lend_ucx_ops, worker_destroy)},
    {"ucp_worker_query", offsetof(struct lend_ucx_ops, worker_query)},
    {"ucp_worker_release_address", offsetof(struct lend_ucx_ops, worker_release_address)},
    {"ucp_worker_get_efd", offsetof(struct lend_ucx_ops, worker_get_efd)},
    {"ucp_worker_arm", offsetof(struct lend_ucx_ops, worker_arm)},
    {"ucp_worker_progress", offsetof(struct lend_ucx_ops, worker_progress)},
    {"ucp_worker_set_am_recv_handler", offsetof(struct lend_ucx_ops, worker_set_handler)},
    {"ucp_ep_create", offsetof(struct lend_ucx_ops, endpoint_create)},
    {"ucp_ep_close_nbx", offsetof(struct lend_ucx_ops, endpoint_close)},
    {"ucp_ep_flush_nbx", offsetof(struct lend_ucx_ops, endpoint_flush)},
    {"ucp_am_send_nbx", offsetof(struct lend_ucx_ops, send)},
    {"ucp_am_recv_data_nbx", offsetof(struct lend_ucx_ops, receive)},
    {"ucp_am_data_release", offsetof(struct lend_ucx_ops, data_release)},
    {"ucp_request_free", offsetof(struct lend_ucx_ops, request_free)},
};

enum lend_status lend_ucx_load(const char *name, struct lend_ucx_ops *out, struct lend_error *error)
{
    char why[160];
    void *library = lend_sys->load(name, why, sizeof why);
    struct lend_ucx_ops ops;

    if (library == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED, "%s; transport ucx needs UCX (Debian: libucx0)",
                         why);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = lend_sys->symbol(library, symbols[i].name);

        if (symbol == NULL)
            return lend_fail(error, LEND_E_UNSUPPORTED,
                             "%.100s has no function %s; transport ucx needs UCX 1.%d or later",
                             name, symbols[i].name, LEND_UCX_MINOR);
        memcpy((char *)&ops + symbols[i].offset, &symbol, sizeof symbol);
    }
    *out = ops;
    return LEND_OK;
}
