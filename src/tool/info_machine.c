/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/info.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What the machine and the account allow, each value with what it means for lend. */

enum { CAPABILITY_IPC_LOCK = 14, CAPABILITY_SYS_PTRACE = 19 };

typedef unsigned long long number; /* as printf() has it */

static void tell_limit(struct info *info, const char *name, int resource, const char *meaning)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    char texts[2][32];
    int result = info->probe->limit(resource, &limit);
    rlim_t values[] = {limit.rlim_cur, limit.rlim_max};

    for (size_t i = 0; i < 2; i++) {
        if (values[i] == RLIM_INFINITY)
            (void)snprintf(texts[i], sizeof texts[i], "unlimited");
        else
            (void)snprintf(texts[i], sizeof texts[i], "%llu", (number)values[i]);
    }
    if (result < 0)
        info_value(info, "limits", name, "%s", strerrordesc_np(-result));
    else
        info_value(info, "limits", name, "%s (hard %s)", texts[0], texts[1]);
    info_meaning(info, "%s", meaning);
}

/* What a file says, or why it says nothing. */
static void tell_file(struct info *info, const char *section, const char *name, const char *path)
{
    char text[INFO_VALUE_BYTES];
    ssize_t count = info->probe->read(path, text, sizeof text);

    info_value(info, section, name, "%s", count < 0 ? strerrordesc_np((int)-count) : text);
}

static void tell_capability(struct info *info, const char *name, unsigned capability,
                            const char *meaning)
{
    info_value(info, "limits", name, "%s",
               probe_capability(info->probe, capability) ? "yes" : "no");
    info_meaning(info, "%s", meaning);
}

static void tell_memory_limit(struct info *info)
{
    uint64_t limit = 0;
    uint64_t used = 0;
    int result = probe_memory_limit(info->probe, &limit, &used);

    if (result == 0)
        info_value(info, "limits", "cgroup memory", "%llu MiB, %llu used", (number)(limit >> 20),
                   (number)(used >> 20));
    else
        info_value(info, "limits", "cgroup memory", "%s",
                   result == -ENOENT ? "unlimited" : strerrordesc_np(-result));
    info_meaning(info, "storage counts for whoever touches its pages first; past the limit "
                       "processes are killed");
}

void info_tell_limits(struct info *info)
{
    uint64_t scope = 0;

    tell_limit(info, "RLIMIT_NOFILE", RLIMIT_NOFILE,
               "an agent takes about 32 descriptors, and 4 a "
               "peer");
    tell_limit(info, "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK,
               "bytes; only pinned memory and network cards lock memory");
    tell_limit(info, "RLIMIT_FSIZE", RLIMIT_FSIZE,
               "bytes; also of files in memory: rings and storage");
    tell_limit(info, "RLIMIT_AS", RLIMIT_AS,
               "bytes; a connection's rings are mapped twice, 2 MiB a peer");
    tell_capability(info, "CAP_SYS_PTRACE", CAPABILITY_SYS_PTRACE,
                    "with it local/cross-memory reads processes that do not consent");
    tell_capability(info, "CAP_IPC_LOCK", CAPABILITY_IPC_LOCK, "with it RLIMIT_MEMLOCK is void");
    if (probe_number(info->probe, "/proc/sys/kernel/yama/ptrace_scope", &scope) == 0)
        info_value(info, "limits", "ptrace_scope", "%llu", (number)scope);
    else
        info_value(info, "limits", "ptrace_scope", "%s", "no Yama");
    info_meaning(info, "%s",
                 scope == 0 ? "local/cross-memory is not restricted by it"
                            : "local/cross-memory takes LEND_AGENT_ALLOW_CROSS_MEMORY (1) or "
                              "CAP_SYS_PTRACE (2), or is off (3)");
    info_value(info, "limits", "dumpable", "%s", info->probe->is_dumpable() == 1 ? "yes" : "no");
    info_meaning(info,
                 "of this process; what is not dumpable cannot be read by local/cross-memory");
    tell_memory_limit(info);
}

static void tell_call(struct info *info, const char *name, int result, const char *meaning)
{
    info_value(info, "kernel", name, "%s", result == 0 ? "works" : strerrordesc_np(-result));
    info_meaning(info, "%s", meaning);
}

/* Namespaces of the machine itself have numbers that never change. */
static void tell_namespace(struct info *info, const char *name, const char *kind, const char *first,
                           const char *meaning)
{
    char path[64];
    char text[64];

    (void)snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    int result = info->probe->link(path, text, sizeof text);
    info_value(info, "kernel", name, "%s", result < 0 ? strerrordesc_np(-result) : text);
    info_meaning(info, "%s; %s",
                 result == 0 && strcmp(text, first) == 0 ? "the machine's own"
                                                         : "one of a container, or unknown",
                 meaning);
}

void info_tell_kernel(struct info *info)
{
    static const char section[] = "kernel";
    const struct probe *probe = info->probe;
    char hidden[64];
    int proc = probe_proc(probe);

    tell_file(info, section, "release", "/proc/sys/kernel/osrelease");
    info_meaning(info, "lend needs Linux 5.4 or later");
    tell_call(info, "memfd", probe->memfd(), "files in memory, sealed: rings and storage");
    tell_call(info, "pidfd", probe->pidfd(), "a peer's death is seen at once");
    tell_call(info, "cross-memory", probe->cross_memory(),
              "process_vm_readv from a child of this process");
    probe_proc_hidden(probe, hidden, sizeof hidden);
    info_value(info, section, "/proc", "%s",
               proc == 0        ? "ours"
               : proc == -EXDEV ? "of another PID namespace"
                                : "not mounted");
    info_meaning(info, "%s%s", hidden[0] == '\0' ? "memory is verified there" : "with ", hidden);
    tell_namespace(info, "PID namespace", "pid", "pid:[4026531836]",
                   "peers in another one do without local/cross-memory");
    tell_namespace(info, "user namespace", "user", "user:[4026531837]",
                   "peers in another one may count as other users");
    tell_file(info, section, "clock",
              "/sys/devices/system/clocksource/clocksource0/"
              "current_clocksource");
    info_meaning(info, "tsc, kvm-clock and arch_sys_counter are read without a system call");
}

static bool count_node(void *context, const char *name)
{
    uint32_t *count = context;

    if (strncmp(name, "node", 4) == 0 && name[4] >= '0' && name[4] <= '9')
        (*count)++;
    return true;
}

static void tell_huge_pages(struct info *info)
{
    uint64_t size_kib = 0;
    uint64_t total = 0;
    uint64_t free_pages = 0;

    (void)probe_field(info->probe, "/proc/meminfo", "Hugepagesize:", &size_kib);
    (void)probe_field(info->probe, "/proc/meminfo", "HugePages_Total:", &total);
    (void)probe_field(info->probe, "/proc/meminfo", "HugePages_Free:", &free_pages);
    info_value(info, "memory", "huge pages", "%llu of %llu KiB, %llu free", (number)total,
               (number)size_kib, (number)free_pages);
    info_meaning(info, "%s",
                 free_pages > 0 ? "LEND_STORAGE_HUGE_PAGES takes them"
                                : "LEND_STORAGE_HUGE_PAGES fails until vm.nr_hugepages reserves "
                                  "some");
}

static void tell_folder(struct info *info)
{
    struct stat folder;
    int result = info->probe->stat(info->directory, &folder);

    info_value(info, "memory", "socket folder", "%s", info->directory);
    if (result < 0)
        info_meaning(info, "%s%s", strerrordesc_np(-result),
                     result == -ENOENT && info->is_default ? ": the first agent makes it" : "");
    else
        info_meaning(info, "%s of user %u, mode %04o",
                     S_ISDIR(folder.st_mode)   ? "a folder"
                     : S_ISLNK(folder.st_mode) ? "a link"
                                               : "no folder",
                     (unsigned)folder.st_uid, (unsigned)folder.st_mode & 07777);
}

void info_tell_memory(struct info *info)
{
    static const char section[] = "memory";
    uint64_t kib = 0;
    uint64_t shared = 0;
    bool is_read_only = false;
    uint32_t nodes = 0;

    (void)probe_field(info->probe, "/proc/meminfo", "MemAvailable:", &kib);
    info_value(info, section, "available", "%llu MiB", (number)(kib >> 10));
    info_meaning(info, "of the machine");
    tell_huge_pages(info);
    int result = info->probe->free_bytes("/dev/shm", &shared, &is_read_only);
    if (result < 0)
        info_value(info, section, "/dev/shm", "%s", strerrordesc_np(-result));
    else
        info_value(info, section, "/dev/shm", "%llu MiB free", (number)(shared >> 20));
    info_meaning(info, "lend's files in memory are not there, and its size does not limit them");
    (void)info->probe->names("/sys/devices/system/node", count_node, &nodes);
    info_value(info, section, "NUMA nodes", "%u", nodes == 0 ? 1 : nodes);
    info_meaning(info, "%s",
                 nodes > 1 ? "LEND_STORAGE_ON_NODE chooses one; a copy across nodes is slower"
                           : "there is nothing to choose");
    tell_file(info, section, "vm.overcommit_memory", "/proc/sys/vm/overcommit_memory");
    info_meaning(info, "2: storage must fit what CommitLimit of /proc/meminfo leaves");
    tell_folder(info);
}
