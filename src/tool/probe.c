/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is made of the door's answers: nothing here asks the system itself. */

enum { LINE_BYTES = 512, PATH_BYTES = 1024 };

int probe_number(const struct probe *probe, const char *path, uint64_t *out)
{
    char text[64];
    char *end = NULL;
    ssize_t count = probe->read(path, text, sizeof text);

    if (count < 0)
        return (int)count;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text)
        return -EINVAL;
    *out = number;
    return 0;
}

struct search {
    const char *label;
    char *out;
    size_t capacity;
    bool is_found;
};

static bool find_label(void *context, const char *line)
{
    struct search *search = context;
    size_t length = strlen(search->label);

    if (strncmp(line, search->label, length) != 0)
        return true;
    line += length;
    (void)snprintf(search->out, search->capacity, "%s", line + strspn(line, " \t"));
    search->is_found = true;
    return false;
}

int probe_text(const struct probe *probe, const char *path, const char *label, char *out,
               size_t capacity)
{
    struct search search = {.label = label, .out = out, .capacity = capacity};
    int result = probe->lines(path, find_label, &search);

    if (result < 0)
        return result;
    return search.is_found ? 0 : -ENOENT;
}

int probe_field(const struct probe *probe, const char *path, const char *label, uint64_t *out)
{
    char text[64];
    char *end = NULL;
    int result = probe_text(probe, path, label, text, sizeof text);

    if (result < 0)
        return result;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text)
        return -EINVAL;
    *out = number;
    return 0;
}

bool probe_peer_memory(const struct probe *probe)
{
    static const char *const paths[] = {"/sys/module/nvidia_peermem", "/sys/module/nv_peer_mem",
                                        "/sys/kernel/mm/memory_peers/nv_mem"};
    struct stat ignored;

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (probe->stat(paths[i], &ignored) == 0)
            return true;
    return false;
}

bool probe_capability(const struct probe *probe, unsigned number)
{
    char text[32];

    if (probe_text(probe, "/proc/self/status", "CapEff:", text, sizeof text) < 0)
        return false;
    return (strtoull(text, NULL, 16) >> number & 1) != 0;
}

int probe_proc(const struct probe *probe)
{
    char text[32];
    int result = probe->link("/proc/self", text, sizeof text);

    if (result == -ENOENT) {
        struct stat found;

        return probe->stat("/proc/stat", &found) == 0 ? -EXDEV : -ENOENT;
    }
    if (result < 0)
        return result;
    return strtol(text, NULL, 10) == probe->pid() ? 0 : -EXDEV;
}

/* A line of mountinfo: "... /proc options - proc proc rw,hidepid=invisible". */
static bool find_hidden(void *context, const char *line)
{
    static const char key[] = "hidepid=";
    struct search *search = context;

    if (strstr(line, " /proc ") == NULL || strstr(line, " - proc ") == NULL)
        return true;

    const char *value = strstr(line, key);
    size_t length = value == NULL ? 0 : strcspn(value, ", \n");
    search->out[0] = '\0'; /* the last mount of /proc is the one that is seen */
    if (value != NULL && strncmp(value, "hidepid=0", length) != 0 &&
        strncmp(value, "hidepid=off", length) != 0)
        (void)snprintf(search->out, search->capacity, "%.*s", (int)length, value);
    return true;
}

void probe_proc_hidden(const struct probe *probe, char *out, size_t capacity)
{
    struct search search = {.out = out, .capacity = capacity};

    out[0] = '\0';
    (void)probe->lines("/proc/self/mountinfo", find_hidden, &search);
}

void probe_directory(const struct probe *probe, char *out, size_t capacity)
{
    (void)snprintf(out, capacity, "/tmp/lend-%u", (unsigned)probe->user());
}

/* Control groups: version 2 names its files otherwise than version 1 does. */
struct group {
    const struct probe *probe;
    uint64_t limit;
    uint64_t used;
    bool is_found;
};

static void look_at_group(struct group *group, const char *root, const char *path, bool is_second)
{
    char file[PATH_BYTES];
    uint64_t limit = 0;
    uint64_t used = 0;

    (void)snprintf(file, sizeof file, "%s%s/%s", root, path,
                   is_second ? "memory.max" : "memory.limit_in_bytes");
    if (probe_number(group->probe, file, &limit) < 0 || limit > INT64_MAX / 2)
        return; /* "max", and version 1's number for it */
    (void)snprintf(file, sizeof file, "%s%s/%s", root, path,
                   is_second ? "memory.current" : "memory.usage_in_bytes");
    if (probe_number(group->probe, file, &used) < 0)
        used = 0;
    if (group->is_found && group->limit - group->used <= limit - used)
        return;
    *group = (struct group){.probe = group->probe,
                            .limit = limit,
                            .used = used < limit ? used : limit,
                            .is_found = true};
}

/* The group itself and all above it: in a container the path is one of outside, and the root is
 * what there is. */
static void climb(struct group *group, const char *root, const char *path, bool is_second)
{
    char at[PATH_BYTES];

    (void)snprintf(at, sizeof at, "%s", path);
    for (size_t length = strlen(at);; length = strlen(at)) {
        if (length > 0 && at[length - 1] == '/')
            at[length - 1] = '\0';
        look_at_group(group, root, at, is_second);
        char *slash = strrchr(at, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
        if (slash == at) {
            look_at_group(group, root, at, is_second);
            return;
        }
    }
}

/* A line of /proc/self/cgroup: "0::/path", or "4:memory:/path". */
static bool find_group(void *context, const char *line)
{
    struct group *group = context;
    const char *controllers = strchr(line, ':');
    const char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');

    if (path == NULL)
        return true;
    if (strncmp(line, "0::", 3) == 0) {
        climb(group, "/sys/fs/cgroup", path + 1, true);
        climb(group, "/sys/fs/cgroup/unified", path + 1, true);
    } else if (strncmp(controllers, ":memory:", 8) == 0) {
        climb(group, "/sys/fs/cgroup/memory", path + 1, false);
    }
    return true;
}

int probe_memory_limit(const struct probe *probe, uint64_t *out_limit, uint64_t *out_used)
{
    struct group group = {.probe = probe};
    int result = probe->lines("/proc/self/cgroup", find_group, &group);

    if (result < 0)
        return result;
    if (!group.is_found)
        return -ENOENT;
    *out_limit = group.limit;
    *out_used = group.used;
    return 0;
}
