/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe_agents.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A look at UCX, in a child: what it loads and starts is gone with it, and if it dies we do not. It
 * makes a context, which looks for devices, and no worker, which would open ports on them.
 */

enum { FEATURE_AM = 64, FIELD_FEATURES = 1, MINOR_LEAST = 11 };

/* Of ucp.h, as far as it is needed: a mask that says which fields are set, and the first of them.
 */
struct parameters {
    uint64_t field_mask;
    uint64_t features;
    unsigned char rest[496];
};

struct calls {
    const char *(*version_string)(void);
    int (*config_read)(const char *, const char *, void **);
    int (*init)(unsigned, unsigned, const void *, const void *, void **);
    void (*print)(void *, FILE *);
};

static bool find_calls(void *library, struct calls *out)
{
    *(void **)&out->version_string = dlsym(library, "ucp_get_version_string");
    *(void **)&out->config_read = dlsym(library, "ucp_config_read");
    *(void **)&out->init = dlsym(library, "ucp_init_version");
    *(void **)&out->print = dlsym(library, "ucp_context_print_info");
    return out->version_string != NULL && out->config_read != NULL && out->init != NULL &&
           out->print != NULL;
}

/* Add a word to a list that commas part, once. */
static void add_once(char *list, size_t capacity, const char *word, size_t length)
{
    size_t used = strlen(list);

    for (const char *at = list; *at != '\0'; at += strcspn(at, ",") + (strchr(at, ',') != NULL))
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return;
    if (used + length + 2 < capacity)
        (void)snprintf(list + used, capacity - used, "%s%.*s", used == 0 ? "" : ",", (int)length,
                       word);
}

/* The transports out of lines such as "resource 1  :  md 1  dev 1  flags -- tcp/lo". */
static void read_transports(char *text, struct probe_ucx *out)
{
    static const char mark[] = "flags ";

    for (char *line = strsep(&text, "\n"); line != NULL; line = strsep(&text, "\n")) {
        const char *word = strstr(line, mark);

        if (strstr(line, "resource") == NULL || word == NULL)
            continue;
        word += sizeof mark - 1;
        word += strcspn(word, " ");
        word += strspn(word, " ");
        add_once(out->transports, sizeof out->transports, word, strcspn(word, "/"));
    }
}

static void ask_transports(const struct calls *calls, struct probe_ucx *out)
{
    const struct parameters parameters = {.field_mask = FIELD_FEATURES, .features = FEATURE_AM};
    void *config = NULL, *context = NULL;
    char *text = NULL;
    size_t length = 0;

    if (calls->config_read(NULL, NULL, &config) != 0 ||
        calls->init(1, MINOR_LEAST, &parameters, config, &context) != 0)
        return;
    FILE *stream = open_memstream(&text, &length);
    if (stream == NULL)
        return;
    calls->print(context, stream);
    if (fclose(stream) == 0)
        read_transports(text, out);
    free(text);
}

/* How many files of that library are in this process. */
static uint32_t count_copies(const char *name)
{
    char first[256] = "", line[512];
    uint32_t copies = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char *path = strchr(line, '/');

        if (path == NULL || strstr(path, name) == NULL)
            continue;
        path[strcspn(path, "\n")] = '\0';
        if (copies == 0 || strcmp(first, path) != 0) { /* the lines of one file follow another */
            (void)snprintf(first, sizeof first, "%s", path);
            copies++;
        }
    }
    if (maps != NULL)
        (void)fclose(maps);
    return copies;
}

/* In the child. */
static void look(const char *name, struct probe_ucx *out)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    struct calls calls;
    Dl_info file;

    if (library == NULL) {
        (void)snprintf(out->why, sizeof out->why, "%s", dlerror());
        return;
    }
    if (!find_calls(library, &calls)) {
        (void)snprintf(out->why, sizeof out->why, "%s is not libucp of UCX 1.%d or later", name,
                       MINOR_LEAST);
        return;
    }
    (void)snprintf(out->version, sizeof out->version, "%s", calls.version_string());
    if (dladdr(*(void **)&calls.init, &file) != 0)
        (void)snprintf(out->path, sizeof out->path, "%s", file.dli_fname);
    out->copies = count_copies("/libucp.so");
    ask_transports(&calls, out);
}

static void look_in_child(const void *name, void *out)
{
    look(name, out);
}

int probe_ucx_look(const char *name, struct probe_ucx *out)
{
    *out = (struct probe_ucx){0};
    int result =
        probe_in_child(look_in_child, name == NULL ? PROBE_UCX_DEFAULT : name, out, sizeof *out);
    if (result != 0)
        return result;
    out->version[sizeof out->version - 1] = out->why[sizeof out->why - 1] = '\0';
    if (out->version[0] != '\0')
        return 0;
    if (out->why[0] == '\0')
        (void)snprintf(out->why, sizeof out->why, "it did not come to an end when it was loaded");
    return -ENOENT;
}
