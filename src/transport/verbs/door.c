/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/door.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY  "libibverbs.so.1"
#define EXTENDED ((void *)UINTPTR_MAX)

const struct lend_verbs_ops *lend_verbs;

static struct lend_verbs_ops loaded_ops;
static bool is_loaded;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    const char *name;
    size_t offset;
    int since; /* rdma-core of that number brought it, and we do without; 0: every one has it */
} symbols[] = {
    {"ibv_get_device_list", offsetof(struct lend_verbs_ops, get_device_list), 0},
    {"ibv_free_device_list", offsetof(struct lend_verbs_ops, free_device_list), 0},
    {"ibv_open_device", offsetof(struct lend_verbs_ops, open_device), 0},
    {"ibv_close_device", offsetof(struct lend_verbs_ops, close_device), 0},
    {"ibv_query_device", offsetof(struct lend_verbs_ops, query_device), 0},
    {"ibv_query_port", offsetof(struct lend_verbs_ops, query_port), 0},
    {"ibv_query_gid", offsetof(struct lend_verbs_ops, query_gid), 0},
    {"_ibv_query_gid_table", offsetof(struct lend_verbs_ops, query_gid_table), 32},
    {"ibv_query_pkey", offsetof(struct lend_verbs_ops, query_pkey), 0},
    {"ibv_get_async_event", offsetof(struct lend_verbs_ops, get_async_event), 0},
    {"ibv_ack_async_event", offsetof(struct lend_verbs_ops, ack_async_event), 0},
    {"ibv_alloc_pd", offsetof(struct lend_verbs_ops, alloc_pd), 0},
    {"ibv_dealloc_pd", offsetof(struct lend_verbs_ops, dealloc_pd), 0},
    {"ibv_reg_mr", offsetof(struct lend_verbs_ops, reg_mr), 0},
    {"ibv_reg_mr_iova2", offsetof(struct lend_verbs_ops, reg_mr_iova2), 27},
    {"ibv_reg_dmabuf_mr", offsetof(struct lend_verbs_ops, reg_dmabuf_mr), 34},
    {"ibv_dereg_mr", offsetof(struct lend_verbs_ops, dereg_mr), 0},
    {"ibv_create_comp_channel", offsetof(struct lend_verbs_ops, create_comp_channel), 0},
    {"ibv_destroy_comp_channel", offsetof(struct lend_verbs_ops, destroy_comp_channel), 0},
    {"ibv_create_cq", offsetof(struct lend_verbs_ops, create_cq), 0},
    {"ibv_destroy_cq", offsetof(struct lend_verbs_ops, destroy_cq), 0},
    {"ibv_get_cq_event", offsetof(struct lend_verbs_ops, get_cq_event), 0},
    {"ibv_ack_cq_events", offsetof(struct lend_verbs_ops, ack_cq_events), 0},
    {"ibv_create_qp", offsetof(struct lend_verbs_ops, create_qp), 0},
    {"ibv_modify_qp", offsetof(struct lend_verbs_ops, modify_qp), 0},
    {"ibv_query_qp", offsetof(struct lend_verbs_ops, query_qp), 0},
    {"ibv_destroy_qp", offsetof(struct lend_verbs_ops, destroy_qp), 0},
    {"ibv_is_fork_initialized", offsetof(struct lend_verbs_ops, is_fork_initialized), 35},
    {"ibv_wc_status_str", offsetof(struct lend_verbs_ops, wc_status_str), 0},
    {"ibv_event_type_str", offsetof(struct lend_verbs_ops, event_type_str), 0},
};

enum lend_status lend_verbs_load(const char *name, struct lend_verbs_ops *out,
                                 struct lend_error *error)
{
    char why[160];
    void *library = lend_sys->load(name, why, sizeof why);
    struct lend_verbs_ops ops = {0};

    if (library == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "%s; transport verbs needs rdma-core (Debian: libibverbs1, "
                         "ibverbs-providers)",
                         why);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = lend_sys->symbol(library, symbols[i].name);

        if (symbol == NULL && symbols[i].since == 0) {
            lend_sys->unload(library); /* nothing of it is in use */
            return lend_fail(error, LEND_E_UNSUPPORTED,
                             "%.100s has no function %s: it is not libibverbs of rdma-core", name,
                             symbols[i].name);
        }
        memcpy((char *)&ops + symbols[i].offset, &symbol, sizeof symbol);
    }
    *out = ops;
    return LEND_OK;
}

enum lend_status lend_verbs_open(const struct lend_verbs_ops **out, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    if (lend_verbs != NULL) {
        *out = lend_verbs;
        return LEND_OK;
    }
    (void)pthread_mutex_lock(&loading);
    if (!is_loaded) {
        status = lend_verbs_load(LIBRARY, &loaded_ops, error);
        is_loaded = status == LEND_OK;
    }
    (void)pthread_mutex_unlock(&loading);
    if (status == LEND_OK)
        *out = &loaded_ops;
    return status;
}

int lend_verbs_errno(int result)
{
    if (result == 0)
        return 0;
    if (result == -1)
        return errno != 0 ? errno : EIO;
    return result < 0 ? -result : result;
}

enum lend_status lend_verbs_fail(struct lend_error *error, int number, const char *format, ...)
{
    char text[sizeof((struct lend_error *)NULL)->message];
    const char *words = strerrordesc_np(number);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (number == ENOMEM)
        return lend_fail(error, LEND_E_NO_MEMORY, "%s: %s", text, words);
    if (number == EIO || number == ENODEV)
        return lend_fail_device(error, number, "%s: %s", text, words);
    return lend_fail_errno(error, number, "%s", text);
}

const char *lend_verbs_wc_name(int status)
{
    static const char *const names[LEND_VERBS_WC_STATUSES] = {
        "success",
        "local length error (1)",
        "local queue pair operation error (2)",
        "local end-to-end context operation error (3)",
        "local protection error (4)",
        "flushed, as the queue pair is in error (5)",
        "memory window binding error (6)",
        "bad response error (7)",
        "local access error (8)",
        "remote invalid request (9)",
        "remote access error (10)",
        "remote operation error (11)",
        "transport retries exceeded (12)",
        "receiver-not-ready retries exceeded (13)",
        "local reliable-datagram-domain violation (14)",
        "remote invalid reliable-datagram request (15)",
        "remote aborted (16)",
        "invalid end-to-end context number (17)",
        "invalid end-to-end context state (18)",
        "fatal error (19)",
        "response time-out (20)",
        "general error (21)",
        "tag-matching error (22)",
        "tag-matching rendezvous incomplete (23)",
    };

    if (status < 0 || status >= LEND_VERBS_WC_STATUSES)
        return "a status that is not known";
    return names[status];
}

/* What the context's provider adds behind that place; NULL: this library's contexts have it not. */
static const struct lend_verbs_context_ex *extended(struct lend_verbs_context *context,
                                                    size_t offset)
{
    const size_t at = offsetof(struct lend_verbs_context_ex, context);

    if (context->abi_compat != EXTENDED)
        return NULL;
    const struct lend_verbs_context_ex *whole = (const void *)((const char *)context - at);
    /* It grows upwards, so that a place is told by its distance from the end. */
    return whole->bytes < sizeof *whole - offset ? NULL : whole;
}

int lend_verbs_query_port(const struct lend_verbs_ops *verbs, struct lend_verbs_context *context,
                          uint8_t port, struct lend_verbs_port_attributes *out)
{
    const struct lend_verbs_context_ex *whole =
        extended(context, offsetof(struct lend_verbs_context_ex, query_port));

    *out = (struct lend_verbs_port_attributes){0};
    if (whole != NULL && whole->query_port != NULL)
        return lend_verbs_errno(whole->query_port(context, port, out, sizeof *out));
    return lend_verbs_errno(verbs->query_port(context, port, out));
}

int lend_verbs_query_device_ex(struct lend_verbs_context *context,
                               struct lend_verbs_device_attributes_ex *out)
{
    const struct lend_verbs_context_ex *whole =
        extended(context, offsetof(struct lend_verbs_context_ex, query_device_ex));

    *out = (struct lend_verbs_device_attributes_ex){0};
    if (whole == NULL || whole->query_device_ex == NULL)
        return EOPNOTSUPP;
    return lend_verbs_errno(whole->query_device_ex(context, NULL, out, sizeof *out));
}

struct lend_verbs_mw *lend_verbs_alloc_mw(struct lend_verbs_pd *pd, int type)
{
    if (pd->context->ops.alloc_mw == NULL) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    return pd->context->ops.alloc_mw(pd, type);
}

int lend_verbs_dealloc_mw(struct lend_verbs_mw *mw)
{
    return lend_verbs_errno(mw->context->ops.dealloc_mw(mw));
}

struct lend_verbs_mr *lend_verbs_reg_mr(const struct lend_verbs_ops *verbs,
                                        struct lend_verbs_pd *pd, void *address, size_t bytes,
                                        unsigned access)
{
    if ((access & LEND_VERBS_OPTIONAL_ACCESS) == 0 || verbs->reg_mr_iova2 == NULL)
        return verbs->reg_mr(pd, address, bytes, (int)(access & ~LEND_VERBS_OPTIONAL_ACCESS));
    return verbs->reg_mr_iova2(pd, address, bytes, (uintptr_t)address, access);
}
