/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>
#include <string.h>

static struct compat_param *find(const struct nixl_capi_params_s *params, const char *key)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].key, key) == 0)
            return &params->items[i];
    }
    return NULL;
}

const char *compat_params_find(const struct nixl_capi_params_s *params, const char *key)
{
    const struct compat_param *param = params != NULL ? find(params, key) : NULL;

    return param != NULL ? param->value : NULL;
}

nixl_capi_params_t compat_params_copy(const struct nixl_capi_params_s *params)
{
    nixl_capi_params_t copy = NULL;

    if (nixl_capi_create_params(&copy) != NIXL_CAPI_SUCCESS)
        return NULL;
    for (size_t i = 0; i < params->count; i++) {
        if (nixl_capi_params_add(copy, params->items[i].key, params->items[i].value) !=
            NIXL_CAPI_SUCCESS) {
            nixl_capi_destroy_params(copy);
            return NULL;
        }
    }
    return copy;
}

nixl_capi_status_t nixl_capi_create_params(nixl_capi_params_t *params)
{
    if (params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *params = calloc(1, sizeof **params);
    return *params != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_destroy_params(nixl_capi_params_t params)
{
    if (params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    for (size_t i = 0; i < params->count; i++) {
        free(params->items[i].key);
        free(params->items[i].value);
    }
    free(params->items);
    free(params);
    return NIXL_CAPI_SUCCESS;
}

/* Make room, and copy the key; the value is copied already. */
static bool append(nixl_capi_params_t params, const char *key, char *value)
{
    void *items = params->items;

    if (!compat_reserve(&items, &params->capacity, params->count + 1, sizeof *params->items))
        return false;
    params->items = items;
    char *copy = compat_copy_text(key);
    if (copy == NULL)
        return false;
    params->items[params->count++] = (struct compat_param){.key = copy, .value = value};
    return true;
}

nixl_capi_status_t nixl_capi_params_add(nixl_capi_params_t params, const char *key,
                                        const char *value)
{
    if (params == NULL || key == NULL || value == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    char *copy = compat_copy_text(value);
    if (copy == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    struct compat_param *known = find(params, key);
    if (known != NULL) {
        free(known->value);
        known->value = copy;
    } else if (!append(params, key, copy)) {
        free(copy);
        return NIXL_CAPI_ERROR_BACKEND;
    }
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_params_is_empty(nixl_capi_params_t params, bool *is_empty)
{
    if (params == NULL || is_empty == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *is_empty = params->count == 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_params_create_iterator(nixl_capi_params_t params,
                                                    nixl_capi_param_iter_t *iter)
{
    if (iter == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *iter = NULL;
    if (params == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    *iter = calloc(1, sizeof **iter);
    if (*iter == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    (*iter)->params = params;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_params_iterator_next(nixl_capi_param_iter_t iter, const char **key,
                                                  const char **value, bool *has_next)
{
    if (iter == NULL || key == NULL || value == NULL || has_next == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;

    *key = NULL;
    *value = NULL;
    if (iter->next < iter->params->count) {
        const struct compat_param *param = &iter->params->items[iter->next++];
        *key = param->key;
        *value = param->value;
    }
    *has_next = iter->next < iter->params->count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_params_destroy_iterator(nixl_capi_param_iter_t iter)
{
    if (iter == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    free(iter);
    return NIXL_CAPI_SUCCESS;
}
