/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sys.h"

#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* What is looked for among the loaded libraries, and what was found. */
struct library_search {
    const char *name;
    const void *address; /* NULL: any */
    char *path;
    size_t capacity;
    unsigned count;
};

static bool holds(const struct dl_phdr_info *info, const void *address)
{
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD && (uintptr_t)address - start < part->p_memsz)
            return true;
    }
    return false;
}

static int match_library(struct dl_phdr_info *info, size_t bytes, void *context)
{
    struct library_search *search = context;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *file = slash != NULL ? slash + 1 : info->dlpi_name;

    (void)bytes;
    if (strncmp(file, search->name, strlen(search->name)) != 0)
        return 0;
    search->count++;
    if (search->path[0] == '\0' && (search->address == NULL || holds(info, search->address)))
        (void)snprintf(search->path, search->capacity, "%s", info->dlpi_name);
    return 0;
}

unsigned lend_sys_libraries_real(const char *name, const void *address, char *path, size_t capacity)
{
    struct library_search search = {
        .name = name, .address = address, .path = path, .capacity = capacity};

    path[0] = '\0';
    (void)dl_iterate_phdr(match_library, &search);
    return search.count;
}
