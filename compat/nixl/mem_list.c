/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>

nixl_capi_mem_list_t compat_mem_list_create(const nixl_capi_mem_type_t *types, size_t count)
{
    nixl_capi_mem_list_t list = calloc(1, sizeof *list);
    if (list == NULL)
        return NULL;

    list->types = compat_copy(types, count * sizeof *types);
    if (list->types == NULL) {
        free(list);
        return NULL;
    }
    list->count = count;
    return list;
}

nixl_capi_status_t nixl_capi_destroy_mem_list(nixl_capi_mem_list_t list)
{
    if (list == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    free(list->types);
    free(list);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_mem_list_is_empty(nixl_capi_mem_list_t list, bool *is_empty)
{
    if (list == NULL || is_empty == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *is_empty = list->count == 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_mem_list_size(nixl_capi_mem_list_t list, size_t *size)
{
    if (list == NULL || size == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *size = list->count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_mem_list_get(nixl_capi_mem_list_t list, size_t index,
                                          nixl_capi_mem_type_t *mem_type)
{
    if (list == NULL || mem_type == NULL || index >= list->count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *mem_type = list->types[index];
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_mem_type_to_string(nixl_capi_mem_type_t mem_type, const char **str)
{
    static const char *const names[] = {
        [NIXL_CAPI_MEM_DRAM] = "DRAM",   [NIXL_CAPI_MEM_VRAM] = "VRAM",
        [NIXL_CAPI_MEM_BLOCK] = "BLOCK", [NIXL_CAPI_MEM_OBJECT] = "OBJECT",
        [NIXL_CAPI_MEM_FILE] = "FILE",   [NIXL_CAPI_MEM_UNKNOWN] = "UNKNOWN",
    };

    if (str == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *str = NULL;
    if (!compat_is_type(mem_type))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *str = names[mem_type];
    return NIXL_CAPI_SUCCESS;
}
