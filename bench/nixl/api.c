/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
#define API_ENTRY(name) {"nixl_capi_" #name, offsetof(struct api, name)},
    API_FUNCTIONS(API_ENTRY)
#undef API_ENTRY
};

void die(const char *what)
{
    fprintf(stderr, "nixl_bench: %s\n", what);
    /* What NVIDIA's library has brought along ends some processes in SIGSEGV in exit(). */
    fflush(NULL);
    _exit(1);
}

void api_check(nixl_capi_status_t status, const char *call)
{
    if (status == NIXL_CAPI_SUCCESS)
        return;
    fprintf(stderr, "status %d: ", (int)status);
    die(call);
}

void api_open(struct api *out, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL)
        die(dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *found = dlsym(library, functions[i].name);

        if (found == NULL)
            die(dlerror());
        memcpy((char *)out + functions[i].offset, &found, sizeof found);
    }
}
