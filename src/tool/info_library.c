/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/info.h"

#include <errno.h>
#include <lend/memory.h>
#include <lend/statistics.h>
#include <stdio.h>
#include <string.h>

/* What the library is, and what it can do here. */

static const char nowhere[] = "etcd://127.0.0.1:1";

static void tell_build(struct info *info)
{
    static const char section[] = "build";

    info_value(info, section, "library", "%s", info->probe->library_version());
    info_meaning(info, "the liblend that was found; this command is of version %s", LEND_VERSION);
#if defined(__clang__)
    info_value(info, section, "compiler", "clang %s", __clang_version__);
#else
    info_value(info, section, "compiler", "gcc %s", __VERSION__);
#endif
#ifdef NDEBUG
    info_meaning(info, "assertions are off");
#else
    info_meaning(info, "assertions are on");
#endif
    info_value(info, section, "transports", "%s", LEND_TRANSPORTS);
    info_meaning(info, "those that this build has");
    info_value(info, section, "statistics", "version %d", LEND_STATISTICS_VERSION);
    info_meaning(info, "of the page that lend top and lend metrics read, %zu bytes",
                 sizeof(struct lend_statistics));
}

static const char *yes_or_no(bool is_so)
{
    return is_so ? "yes" : "no";
}

static void tell_kinds(struct info *info)
{
    static const char section[] = "memory kinds";
    char why[INFO_MEANING_BYTES] = "";
    int proc = probe_proc(info->probe);
    bool has_driver = info->probe->cuda(why, sizeof why) == 0;

    info_value(info, section, "system", "%s", yes_or_no(proc == 0));
    info_meaning(info, "%s",
                 proc == 0
                     ? "ordinary memory of a process"
                     : "it is verified in /proc/self/maps, and /proc is not there or not ours");
    info_value(info, section, "pinned", "%s", yes_or_no(proc == 0));
    info_meaning(info, "host memory that was locked for a device moves as system memory does");
    info_value(info, section, "device", "%s", yes_or_no(has_driver));
    if (has_driver)
        info_meaning(info,
                     "memory of a GPU moves through the host's, by the paths that end in "
                     "/staged; the driver is there%s%s",
                     why[0] != '\0' ? ": " : "", why);
    else
        info_meaning(info, "the CUDA driver: %s", why);
    info_value(info, section, "disk", "%s", "no");
    info_meaning(info, "this build lends no memory of files");
}

/* Its version and its own transports, of the library that an agent would load. */
static void tell_ucx(struct info *info)
{
    static const char section[] = "transports";
    struct probe_ucx ucx;

    if (info->probe->ucx(NULL, &ucx) != 0) {
        info_value(info, section, "libucp", "%s", "no");
        info_meaning(info, "transport ucx does not open: %s", ucx.why);
        return;
    }
    info_value(info, section, "libucp", "UCX %s", ucx.version);
    info_meaning(info, "%s, with %s%s", ucx.path,
                 ucx.transports[0] != '\0' ? ucx.transports : "no transport",
                 ucx.copies > 1 ? "; TWO COPIES of it are in one process, and will disturb one "
                                  "another: see LD_PRELOAD, LD_LIBRARY_PATH"
                                : "");
}

/* UCX opens ports of its own, so that it is not opened to look. */
static void tell_transport_ucx(struct info *info, const char *meaning)
{
    struct probe_ucx ucx;
    bool is_there = info->probe->ucx(NULL, &ucx) == 0;

    info_value(info, "transports", "ucx", "%s", is_there ? "on demand" : "does not open");
    info_meaning(info, "%s; opened only with ucx_devices (--ucx-devices)", meaning);
}

/* Nor is NIXL, for the same reason. */
static void tell_transport_nixl(struct info *info, const char *meaning)
{
    struct lend_nixl_library library = {.struct_size = sizeof library};
    struct lend_error error = {0};
    bool is_there = info->probe->nixl(info->nixl_library, &library, &error) == LEND_OK;

    info_value(info, "transports", "nixl", "%s", is_there ? "on demand" : "does not open");
    info_meaning(info, "%s; opened only with nixl_devices", meaning);
}

static bool tell_transport(struct info *info, const char *name, const char *meaning)
{
    static const char section[] = "transports";
    struct lend_error error = {0};

    if (strcmp(name, "ucx") == 0) {
        tell_transport_ucx(info, meaning);
        return false;
    }
    if (strcmp(name, "nixl") == 0) {
        tell_transport_nixl(info, meaning);
        return false;
    }
    bool opens = info->probe->open_transport(name, info->is_default ? NULL : info->directory,
                                             &error) == LEND_OK;

    info_value(info, section, name, "%s", opens ? "opens" : "does not open");
    if (opens)
        info_meaning(info, "%s", meaning);
    else
        info_meaning(info, "%s (%s)", error.message, lend_status_name(error.status));
    return opens;
}

/* What needs more libraries than liblend does lies in files of its own. */
static void tell_plugins(struct info *info)
{
    static const char section[] = "plugins";
    struct lend_error error = {0};
    enum lend_status status = info->probe->secret(NULL, &error);

    info_value(info, section, "shared secret", "%s", yes_or_no(status == LEND_OK));
    if (status == LEND_OK)
        info_meaning(info, "agents can prove to each other that they share one");
    else
        info_meaning(info, "%s (%s)", error.message, lend_status_name(status));

    error = (struct lend_error){0};
    status = info->probe->reach(nowhere, &error); /* what is missing is missed before it is asked */
    bool is_there = status != LEND_E_ABSENT && status != LEND_E_UNSUPPORTED;
    info_value(info, section, "etcd", "%s", yes_or_no(is_there));
    if (is_there)
        info_meaning(info, "agents can publish themselves there and find others");
    else
        info_meaning(info, "%s (%s)", error.message, lend_status_name(status));
}

static void tell_paths(struct info *info, bool has_local, bool has_loopback, bool has_tcp)
{
    static const char section[] = "paths";
    int memfd = info->probe->memfd();
    int cross = info->probe->cross_memory();
    char why[INFO_MEANING_BYTES] = "";

    info_value(info, section, "local/mapped", "%s", yes_or_no(has_local && memfd == 0));
    if (memfd == 0)
        info_meaning(info, "for storage of lend, and memory behind a sealed file that its region "
                           "may share");
    else
        info_meaning(info, "a file in memory cannot be made and sealed: %s",
                     strerrordesc_np(-memfd));
    info_value(info, section, "local/served", "%s", yes_or_no(has_local && memfd == 0));
    info_meaning(info, "%s",
                 has_local && memfd == 0
                     ? "for any memory: the owner copies"
                     : "it takes transport local, and a file in memory for its rings");
    bool has_driver = info->probe->cuda(why, sizeof why) == 0;
    info_value(info, section, "local/staged", "%s",
               yes_or_no(has_local && memfd == 0 && has_driver));
    info_meaning(info, "%s",
                 "for memory of a GPU, at either end: its own process copies, through "
                 "pinned memory of the host");
    info_value(info, section, "local/cross-memory", "%s", yes_or_no(has_local && cross == 0));
    if (cross == 0)
        info_meaning(info, "for any memory of a process that lets us read it");
    else
        info_meaning(info, "process_vm_readv between two processes of ours: %s",
                     strerrordesc_np(-cross));
    info_value(info, section, "tcp/served", "%s", yes_or_no(has_tcp));
    info_meaning(info, "for any memory, on any machine that is reached: the owner sends");
    info_value(info, section, "loopback", "%s", yes_or_no(has_loopback));
    info_meaning(info, "inside one process");
}

/* The transports by name: what a build may have, and what each is for. */
static const struct {
    const char *name;
    const char *meaning;
} transports[] = {
    {"local", "processes of one host"},
    {"loopback", "agents of one process"},
    {"nixl", "agents of NVIDIA NIXL, with no lend in them; nothing fences that path"},
    {"tcp", "other machines, by plain sockets; it listens only where `listen' says"},
    {"ucx", "other machines of a trusted network, by the fabrics that UCX drives"},
    {"verbs", "RDMA NICs, which read by themselves, beside another transport's connection"},
};

static const char *meaning_of(const char *name)
{
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        if (strcmp(name, transports[i].name) == 0)
            return transports[i].meaning;
    }
    return "";
}

void info_tell_library(struct info *info)
{
    static char names[] = LEND_TRANSPORTS; /* rows keep pointers into it */
    bool has_local = false;
    bool has_loopback = false;
    bool has_tcp = false;
    char *rest = NULL;

    tell_build(info);
    tell_kinds(info);
    for (char *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        bool opens = tell_transport(info, name, meaning_of(name));

        has_local = has_local || (opens && strcmp(name, "local") == 0);
        has_loopback = has_loopback || (opens && strcmp(name, "loopback") == 0);
        has_tcp = has_tcp || (opens && strcmp(name, "tcp") == 0);
    }
    tell_ucx(info);
    info_tell_nixl(info);
    info_tell_rdma(info);
    tell_paths(info, has_local, has_loopback, has_tcp);
    tell_plugins(info);
}
