/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>

nixl_capi_string_list_t compat_string_list_create(void)
{
    return calloc(1, sizeof(struct nixl_capi_string_list_s));
}

bool compat_string_list_add(nixl_capi_string_list_t list, const char *string)
{
    void *strings = list->strings;

    if (!compat_reserve(&strings, &list->capacity, list->count + 1, sizeof *list->strings))
        return false;
    list->strings = strings;
    char *copy = compat_copy_text(string);
    if (copy == NULL)
        return false;
    list->strings[list->count++] = copy;
    return true;
}

nixl_capi_status_t nixl_capi_destroy_string_list(nixl_capi_string_list_t list)
{
    if (list == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    for (size_t i = 0; i < list->count; i++)
        free(list->strings[i]);
    free(list->strings);
    free(list);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_string_list_size(nixl_capi_string_list_t list, size_t *size)
{
    if (list == NULL || size == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *size = list->count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_string_list_get(nixl_capi_string_list_t list, size_t index,
                                             const char **str)
{
    if (str == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *str = NULL;
    if (list == NULL || index >= list->count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *str = list->strings[index];
    return NIXL_CAPI_SUCCESS;
}
