/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>

nixl_capi_status_t nixl_capi_create_opt_args(nixl_capi_opt_args_t *args)
{
    if (args == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *args = calloc(1, sizeof **args);
    return *args != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_destroy_opt_args(nixl_capi_opt_args_t args)
{
    if (args == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    free(args->backends);
    free(args->notification.bytes);
    free(args->custom.bytes);
    free(args->ip_address);
    free(args);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_add_backend(nixl_capi_opt_args_t args,
                                                  nixl_capi_backend_t backend)
{
    if (args == NULL || backend == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    void *backends = args->backends;
    if (!compat_reserve(&backends, &args->backend_capacity, args->backend_count + 1,
                        sizeof *args->backends))
        return NIXL_CAPI_ERROR_BACKEND;
    args->backends = backends;
    args->backends[args->backend_count++] = backend;
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t set_bytes(struct compat_bytes *bytes, const void *data, size_t len)
{
    if (data == NULL && len > 0)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    void *copy = compat_copy(data, len);
    if (copy == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    free(bytes->bytes);
    *bytes = (struct compat_bytes){.bytes = copy, .length_bytes = len};
    return NIXL_CAPI_SUCCESS;
}

/* A copy for the caller, or NULL where there are no bytes. */
static nixl_capi_status_t get_bytes(const struct compat_bytes *bytes, void **data, size_t *len)
{
    if (bytes->length_bytes > 0) {
        *data = compat_copy(bytes->bytes, bytes->length_bytes);
        if (*data == NULL)
            return NIXL_CAPI_ERROR_BACKEND;
    }
    *len = bytes->length_bytes;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_set_notif_msg(nixl_capi_opt_args_t args, const void *data,
                                                    size_t len)
{
    return args == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM : set_bytes(&args->notification, data, len);
}

nixl_capi_status_t nixl_capi_opt_args_get_notif_msg(nixl_capi_opt_args_t args, void **data,
                                                    size_t *len)
{
    if (data != NULL)
        *data = NULL;
    return args == NULL || data == NULL || len == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM
                                                       : get_bytes(&args->notification, data, len);
}

nixl_capi_status_t nixl_capi_opt_args_set_custom_param(nixl_capi_opt_args_t args, const void *data,
                                                       size_t len)
{
    return args == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM : set_bytes(&args->custom, data, len);
}

nixl_capi_status_t nixl_capi_opt_args_get_custom_param(nixl_capi_opt_args_t args, void **data,
                                                       size_t *len)
{
    if (data != NULL)
        *data = NULL;
    return args == NULL || data == NULL || len == NULL ? NIXL_CAPI_ERROR_INVALID_PARAM
                                                       : get_bytes(&args->custom, data, len);
}

nixl_capi_status_t nixl_capi_opt_args_set_has_notif(nixl_capi_opt_args_t args, bool has_notif)
{
    if (args == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    args->has_notification = has_notif;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_get_has_notif(nixl_capi_opt_args_t args, bool *has_notif)
{
    if (args == NULL || has_notif == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *has_notif = args->has_notification;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_set_skip_desc_merge(nixl_capi_opt_args_t args,
                                                          bool skip_merge)
{
    if (args == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    args->skip_merge = skip_merge;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_get_skip_desc_merge(nixl_capi_opt_args_t args,
                                                          bool *skip_merge)
{
    if (args == NULL || skip_merge == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *skip_merge = args->skip_merge;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_set_ip_addr(nixl_capi_opt_args_t args, const char *ip_addr)
{
    if (args == NULL || ip_addr == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    char *copy = compat_copy_text(ip_addr);
    if (copy == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    free(args->ip_address);
    args->ip_address = copy;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_opt_args_set_port(nixl_capi_opt_args_t args, uint16_t port)
{
    if (args == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    args->port = port;
    args->has_port = true;
    return NIXL_CAPI_SUCCESS;
}
