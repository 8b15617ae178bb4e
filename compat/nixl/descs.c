/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool compat_descs_add(struct compat_descs *descs, const struct compat_desc *desc)
{
    void *at = descs->at;

    if (descs->count == SIZE_MAX ||
        !compat_reserve(&at, &descs->capacity, descs->count + 1, sizeof *desc))
        return false;
    descs->at = at;
    descs->at[descs->count++] = *desc;
    return true;
}

_Static_assert(sizeof(struct compat_desc) == 3 * sizeof(uint64_t), "a row is a descriptor");

bool compat_descs_add_rows(struct compat_descs *descs, const uint64_t *rows, size_t count)
{
    void *at = descs->at;
    size_t total = 0;

    if (__builtin_add_overflow(descs->count, count, &total) ||
        !compat_reserve(&at, &descs->capacity, total, sizeof *descs->at))
        return false;
    descs->at = at;
    if (count > 0)
        memcpy(&descs->at[descs->count], rows, count * sizeof *descs->at);
    descs->count = total;
    return true;
}

bool compat_descs_resize(struct compat_descs *descs, size_t count)
{
    void *at = descs->at;

    if (!compat_reserve(&at, &descs->capacity, count, sizeof *descs->at))
        return false;
    descs->at = at;
    if (count > descs->count)
        memset(&descs->at[descs->count], 0, (count - descs->count) * sizeof *descs->at);
    descs->count = count;
    return true;
}

void compat_descs_remove(struct compat_descs *descs, size_t index)
{
    descs->count--;
    memmove(&descs->at[index], &descs->at[index + 1], (descs->count - index) * sizeof *descs->at);
}

void compat_descs_trim(struct compat_descs *descs)
{
    if (descs->count == 0) {
        free(descs->at);
        descs->at = NULL;
        descs->capacity = 0;
        return;
    }

    /* What cannot be made smaller stays as it is. */
    struct compat_desc *at = reallocarray(descs->at, descs->count, sizeof *at);
    if (at != NULL) {
        descs->at = at;
        descs->capacity = descs->count;
    }
}

void compat_descs_print(const struct compat_descs *descs, const char *name)
{
    const char *type = NULL;

    (void)nixl_capi_mem_type_to_string(descs->type, &type);
    printf("%s of %s, %zu descriptors\n", name, type, descs->count);
    for (size_t i = 0; i < descs->count; i++)
        printf("  %zu: address 0x%" PRIxPTR ", %zu bytes, device %" PRIu64 "\n", i,
               descs->at[i].address, descs->at[i].length_bytes, descs->at[i].device);
    fflush(stdout);
}
