/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>
#include <string.h>

struct compat_bytes compat_reg_metadata(const struct nixl_capi_reg_dlist_s *list, size_t index)
{
    return list->metadata != NULL ? list->metadata[index] : (struct compat_bytes){0};
}

/* Have a place for the metadata of `count` descriptors, of which those of today have what they
 * have, and others none. */
static bool reserve_metadata(nixl_capi_reg_dlist_t list, size_t count)
{
    size_t before = list->metadata_capacity;
    void *metadata = list->metadata;

    if (!compat_reserve(&metadata, &list->metadata_capacity, count, sizeof *list->metadata))
        return false;
    list->metadata = metadata;
    if (list->metadata_capacity > before)
        memset(&list->metadata[before], 0,
               (list->metadata_capacity - before) * sizeof *list->metadata);
    return true;
}

/* Drop the metadata of the descriptors from `first` on. */
static void drop_metadata(nixl_capi_reg_dlist_t list, size_t first)
{
    if (list->metadata == NULL)
        return;
    for (size_t i = first; i < list->descs.count; i++) {
        free(list->metadata[i].bytes);
        list->metadata[i] = (struct compat_bytes){0};
    }
}

nixl_capi_status_t nixl_capi_create_reg_dlist(nixl_capi_mem_type_t mem_type,
                                              nixl_capi_reg_dlist_t *dlist)
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

nixl_capi_status_t nixl_capi_destroy_reg_dlist(nixl_capi_reg_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    drop_metadata(dlist, 0);
    free(dlist->metadata);
    free(dlist->descs.at);
    free(dlist);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_get_type(nixl_capi_reg_dlist_t dlist,
                                                nixl_capi_mem_type_t *mem_type)
{
    if (dlist == NULL || mem_type == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *mem_type = dlist->descs.type;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_add_desc(nixl_capi_reg_dlist_t dlist, uintptr_t addr,
                                                size_t len, uint64_t dev_id, const void *metadata,
                                                size_t metadata_len)
{
    const struct compat_desc desc = {.address = addr, .length_bytes = len, .device = dev_id};
    void *copy = NULL;

    if (dlist == NULL || (metadata == NULL && metadata_len > 0))
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    if (metadata_len > 0 || dlist->metadata != NULL) {
        if (!reserve_metadata(dlist, dlist->descs.count + 1))
            return NIXL_CAPI_ERROR_BACKEND;
    }
    if (metadata_len > 0) {
        copy = compat_copy(metadata, metadata_len);
        if (copy == NULL)
            return NIXL_CAPI_ERROR_BACKEND;
    }
    if (!compat_descs_add(&dlist->descs, &desc)) {
        free(copy);
        return NIXL_CAPI_ERROR_BACKEND;
    }
    if (copy != NULL)
        dlist->metadata[dlist->descs.count - 1] = (struct compat_bytes){copy, metadata_len};
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_desc_count(nixl_capi_reg_dlist_t dlist, size_t *count)
{
    if (dlist == NULL || count == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *count = dlist->descs.count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_is_empty(nixl_capi_reg_dlist_t dlist, bool *is_empty)
{
    if (dlist == NULL || is_empty == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *is_empty = dlist->descs.count == 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_trim(nixl_capi_reg_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_descs_trim(&dlist->descs);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_rem_desc(nixl_capi_reg_dlist_t dlist, int index)
{
    if (dlist == NULL || index < 0 || (size_t)index >= dlist->descs.count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    size_t at = (size_t)index;
    compat_descs_remove(&dlist->descs, at);
    if (dlist->metadata != NULL) {
        free(dlist->metadata[at].bytes);
        memmove(&dlist->metadata[at], &dlist->metadata[at + 1],
                (dlist->descs.count - at) * sizeof *dlist->metadata);
        dlist->metadata[dlist->descs.count] = (struct compat_bytes){0};
    }
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_reg_dlist_clear(nixl_capi_reg_dlist_t dlist)
{
    return nixl_capi_reg_dlist_resize(dlist, 0);
}

nixl_capi_status_t nixl_capi_reg_dlist_resize(nixl_capi_reg_dlist_t dlist, size_t new_size)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    if (dlist->metadata != NULL && !reserve_metadata(dlist, new_size))
        return NIXL_CAPI_ERROR_BACKEND;
    drop_metadata(dlist, new_size);
    return compat_descs_resize(&dlist->descs, new_size) ? NIXL_CAPI_SUCCESS
                                                        : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_reg_dlist_print(nixl_capi_reg_dlist_t dlist)
{
    if (dlist == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_descs_print(&dlist->descs, "ranges to register");
    return NIXL_CAPI_SUCCESS;
}
