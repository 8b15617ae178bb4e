/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>

bool compat_query_resp_add(nixl_capi_query_resp_list_t list, nixl_capi_params_t params)
{
    void *answers = list->answers;

    if (!compat_reserve(&answers, &list->capacity, list->count + 1, sizeof *list->answers))
        return false;
    list->answers = answers;
    list->answers[list->count++] = params;
    return true;
}

void compat_query_resp_clear(nixl_capi_query_resp_list_t list)
{
    for (size_t i = 0; i < list->count; i++)
        (void)nixl_capi_destroy_params(list->answers[i]); /* none is no failure */
    list->count = 0;
}

nixl_capi_status_t nixl_capi_create_query_resp_list(nixl_capi_query_resp_list_t *list)
{
    if (list == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *list = calloc(1, sizeof **list);
    return *list != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_destroy_query_resp_list(nixl_capi_query_resp_list_t list)
{
    if (list == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    compat_query_resp_clear(list);
    free(list->answers);
    free(list);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_query_resp_list_size(nixl_capi_query_resp_list_t list, size_t *size)
{
    if (list == NULL || size == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *size = list->count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_query_resp_list_has_value(nixl_capi_query_resp_list_t list,
                                                       size_t index, bool *has_value)
{
    if (list == NULL || has_value == NULL || index >= list->count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *has_value = list->answers[index] != NULL;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_query_resp_list_get_params(nixl_capi_query_resp_list_t list,
                                                        size_t index, nixl_capi_params_t *params)
{
    if (params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *params = NULL;
    if (list == NULL || index >= list->count || list->answers[index] == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *params = compat_params_copy(list->answers[index]);
    return *params != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}
