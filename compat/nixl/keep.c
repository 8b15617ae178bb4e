/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 8 };

bool compat_reserve(void **items, size_t *capacity, size_t count, size_t item_bytes)
{
    if (count <= *capacity)
        return true;

    size_t most = PTRDIFF_MAX / item_bytes;
    if (count > most)
        return false;
    size_t wanted = *capacity > most / 2 ? most : *capacity * 2;
    if (wanted < CAPACITY_MIN)
        wanted = CAPACITY_MIN;
    if (wanted < count)
        wanted = count;
    void *grown = reallocarray(*items, wanted, item_bytes);
    if (grown == NULL)
        return false;

    *items = grown;
    *capacity = wanted;
    return true;
}

void *compat_copy(const void *bytes, size_t length_bytes)
{
    if (length_bytes == SIZE_MAX)
        return NULL;

    unsigned char *copy = malloc(length_bytes + 1);
    if (copy == NULL)
        return NULL;
    if (length_bytes > 0)
        memcpy(copy, bytes, length_bytes);
    copy[length_bytes] = 0;
    return copy;
}

char *compat_copy_text(const char *text)
{
    return compat_copy(text, strlen(text));
}

bool compat_is_type(nixl_capi_mem_type_t type)
{
    return (unsigned)type <= NIXL_CAPI_MEM_UNKNOWN;
}

bool nixl_capi_is_stub(void)
{
    return false;
}
