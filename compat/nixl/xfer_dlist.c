/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>

nixl_capi_status_t nixl_capi_create_xfer_dlist(nixl_capi_mem_type_t mem_type,
                                               nixl_capi_xfer_dlist_t *dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *dlist = NULL;
    if (!compat_is_type(mem_type))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    *dlist = calloc(1, sizeof **dlist);
    if (*dlist == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    (*dlist)->descs.type = mem_type;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_destroy_xfer_dlist(nixl_capi_xfer_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    free(dlist->descs.at);
    free(dlist);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_get_type(nixl_capi_xfer_dlist_t dlist,
                                                 nixl_capi_mem_type_t *mem_type)
{
    if (dlist == NULL || mem_type == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *mem_type = dlist->descs.type;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_add_desc(nixl_capi_xfer_dlist_t dlist, uintptr_t addr,
                                                 size_t len, uint64_t dev_id)
{
    const struct compat_desc desc = {.address = addr, .length_bytes = len, .device = dev_id};

    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    return compat_descs_add(&dlist->descs, &desc) ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_xfer_dlist_add_rows(nixl_capi_xfer_dlist_t dlist, const uint64_t *rows,
                                                 size_t count)
{
    if (dlist == NULL || (rows == NULL && count > 0))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    return compat_descs_add_rows(&dlist->descs, rows, count) ? NIXL_CAPI_SUCCESS
                                                             : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_xfer_dlist_desc_count(nixl_capi_xfer_dlist_t dlist, size_t *count)
{
    if (dlist == NULL || count == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *count = dlist->descs.count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_len(nixl_capi_xfer_dlist_t dlist, size_t *len)
{
    return nixl_capi_xfer_dlist_desc_count(dlist, len);
}

nixl_capi_status_t nixl_capi_xfer_dlist_is_empty(nixl_capi_xfer_dlist_t dlist, bool *is_empty)
{
    if (dlist == NULL || is_empty == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *is_empty = dlist->descs.count == 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_trim(nixl_capi_xfer_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_descs_trim(&dlist->descs);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_rem_desc(nixl_capi_xfer_dlist_t dlist, int index)
{
    if (dlist == NULL || index < 0 || (size_t)index >= dlist->descs.count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_descs_remove(&dlist->descs, (size_t)index);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_clear(nixl_capi_xfer_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    dlist->descs.count = 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_xfer_dlist_resize(nixl_capi_xfer_dlist_t dlist, size_t new_size)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    return compat_descs_resize(&dlist->descs, new_size) ? NIXL_CAPI_SUCCESS
                                                        : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_xfer_dlist_print(nixl_capi_xfer_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_descs_print(&dlist->descs, "ranges to move");
    return NIXL_CAPI_SUCCESS;
}
