/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Checks of what this process may use: descriptors, memory, file sizes. */

enum {
    DESCRIPTORS_OF_AGENT = 32,
    DESCRIPTORS_OF_PEER = 4, /* its socket, its process, its memory, and one on the way */
    DESCRIPTORS_LEAST = 64,
    CAPABILITY_IPC_LOCK = 14,
    OVERCOMMIT_NEVER = 2,
};

/* Two rings of a connection, and their header, with the agent's defaults. */
static const uint64_t rings_bytes = (2U << 19) + 4096;

typedef unsigned long long number; /* as printf() has it */

static const char *print_limit(char *text, size_t capacity, rlim_t limit)
{
    if (limit == RLIM_INFINITY)
        (void)snprintf(text, capacity, "unlimited");
    else
        (void)snprintf(text, capacity, "%llu", (number)limit);
    return text;
}

/* The soft limit, and the hard one as text; unlimited if it cannot be asked. */
static struct rlimit limit_of(const struct exam *exam, int resource)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    (void)exam->probe->limit(resource, &limit);
    return limit;
}

static void check_descriptors(const struct exam *exam, struct finding *out)
{
    struct rlimit limit = limit_of(exam, RLIMIT_NOFILE);
    uint64_t needed = DESCRIPTORS_OF_AGENT + exam->peers * DESCRIPTORS_OF_PEER;
    char soft[32];
    char hard[32];

    if (limit.rlim_cur >= needed && limit.rlim_cur >= DESCRIPTORS_LEAST) {
        found(out, SEVERITY_OK, "%s descriptors; %llu peers need about %llu",
              print_limit(soft, sizeof soft, limit.rlim_cur), (number)exam->peers, (number)needed);
        return;
    }
    needed = needed < DESCRIPTORS_LEAST ? DESCRIPTORS_LEAST : needed;
    found(out, limit.rlim_cur < DESCRIPTORS_LEAST ? SEVERITY_FAULT : SEVERITY_WARNING,
          "RLIMIT_NOFILE is %s (hard %s); an agent with %llu peers needs about %llu descriptors",
          print_limit(soft, sizeof soft, limit.rlim_cur),
          print_limit(hard, sizeof hard, limit.rlim_max), (number)exam->peers, (number)needed);
    if (limit.rlim_max >= needed)
        remedy(out, "ulimit -S -n %llu", (number)needed);
    else
        remedy(out,
               "as root: prlimit --pid $$ --nofile=%llu (in a unit of systemd: LimitNOFILE=%llu)",
               (number)needed, (number)needed);
}

static void check_locked_memory(const struct exam *exam, struct finding *out)
{
    struct rlimit limit = limit_of(exam, RLIMIT_MEMLOCK);
    bool is_exempt = probe_capability(exam->probe, CAPABILITY_IPC_LOCK);
    char soft[32];
    number kib = (exam->bytes + 1023) >> 10;

    if (is_exempt || limit.rlim_cur >= exam->bytes) {
        found(out, SEVERITY_OK, "%s bytes may be locked%s",
              print_limit(soft, sizeof soft, limit.rlim_cur),
              is_exempt ? ", and CAP_IPC_LOCK exempts us" : "");
        return;
    }
    found(out, SEVERITY_WARNING,
          "RLIMIT_MEMLOCK is %s bytes, and %llu are to be lent: pinned memory and network cards "
          "need it locked; plain memory on one host does not",
          print_limit(soft, sizeof soft, limit.rlim_cur), (number)exam->bytes);
    if (limit.rlim_max >= exam->bytes)
        remedy(out, "ulimit -S -l %llu", kib);
    else
        remedy(out,
               "as root: prlimit --pid $$ --memlock=%llu (systemd: LimitMEMLOCK=infinity; docker: "
               "--ulimit memlock=-1)",
               (number)exam->bytes);
}

static void check_file_size(const struct exam *exam, struct finding *out)
{
    struct rlimit limit = limit_of(exam, RLIMIT_FSIZE);
    uint64_t needed = exam->bytes > rings_bytes ? exam->bytes : rings_bytes;
    char soft[32];

    if (limit.rlim_cur >= needed) {
        found(out, SEVERITY_OK, "files of %s bytes",
              print_limit(soft, sizeof soft, limit.rlim_cur));
        return;
    }
    found(out, SEVERITY_FAULT,
          "RLIMIT_FSIZE is %s bytes, and holds for memory behind a descriptor too: a connection's "
          "rings or storage of %llu bytes would end the process by SIGXFSZ",
          print_limit(soft, sizeof soft, limit.rlim_cur), (number)needed);
    if (limit.rlim_max >= needed)
        remedy(out, "prlimit --pid $$ --fsize=%llu:", (number)needed);
    else
        remedy(out, "as root: prlimit --pid $$ --fsize=unlimited (systemd: LimitFSIZE=infinity)");
}

static void check_address_space(const struct exam *exam, struct finding *out)
{
    struct rlimit limit = limit_of(exam, RLIMIT_AS);
    uint64_t pages = 0;
    uint64_t needed = exam->bytes + 2 * rings_bytes * exam->peers; /* rings are mapped twice */
    char soft[32];

    (void)probe_number(exam->probe, "/proc/self/statm", &pages);
    needed += pages * 4096;
    if (limit.rlim_cur >= needed) {
        found(out, SEVERITY_OK, "%s bytes of addresses",
              print_limit(soft, sizeof soft, limit.rlim_cur));
        return;
    }
    found(out, SEVERITY_FAULT,
          "RLIMIT_AS is %s bytes; memory and rings for %llu peers take %llu bytes of addresses",
          print_limit(soft, sizeof soft, limit.rlim_cur), (number)exam->peers, (number)needed);
    if (limit.rlim_max >= needed)
        remedy(out, "prlimit --pid $$ --as=%llu:", (number)needed);
    else
        remedy(out, "as root: prlimit --pid $$ --as=unlimited (systemd: LimitAS=infinity)");
}

static void check_free_memory(const struct exam *exam, struct finding *out)
{
    uint64_t kib = 0;

    if (probe_field(exam->probe, "/proc/meminfo", "MemAvailable:", &kib) < 0) {
        found(out, SEVERITY_OK, "/proc/meminfo does not say what is free");
        return;
    }
    if (exam->bytes <= kib << 10) {
        found(out, SEVERITY_OK, "%llu MiB are free", (number)(kib >> 10));
        return;
    }
    found(out, SEVERITY_FAULT, "%llu MiB are to be lent, and the machine has %llu MiB free",
          (number)(exam->bytes >> 20), (number)(kib >> 10));
    remedy(out, "lend at most %lluM, or end what uses the memory: ps --sort=-rss -eo rss,pid,comm",
           (number)(kib >> 10));
}

static void check_memory_limit(const struct exam *exam, struct finding *out)
{
    uint64_t limit = 0;
    uint64_t used = 0;

    if (probe_memory_limit(exam->probe, &limit, &used) < 0) {
        found(out, SEVERITY_OK, "no control group limits our memory");
        return;
    }
    if (exam->bytes <= limit - used) {
        found(out, SEVERITY_OK, "our control group may use %llu MiB, and uses %llu",
              (number)(limit >> 20), (number)(used >> 20));
        return;
    }
    found(out, SEVERITY_FAULT,
          "%llu MiB are to be lent, and our control group has %llu of its %llu MiB left: whoever "
          "touches more is killed",
          (number)(exam->bytes >> 20), (number)((limit - used) >> 20), (number)(limit >> 20));
    remedy(out,
           "docker update --memory %lluM CONTAINER, or systemctl set-property --runtime UNIT "
           "MemoryMax=%lluM, or resources.limits.memory of the pod",
           (number)((exam->bytes + used) >> 20) + 64, (number)((exam->bytes + used) >> 20) + 64);
}

static void check_overcommit(const struct exam *exam, struct finding *out)
{
    uint64_t mode = 0;
    uint64_t limit_kib = 0;
    uint64_t used_kib = 0;

    (void)probe_number(exam->probe, "/proc/sys/vm/overcommit_memory", &mode);
    (void)probe_field(exam->probe, "/proc/meminfo", "CommitLimit:", &limit_kib);
    (void)probe_field(exam->probe, "/proc/meminfo", "Committed_AS:", &used_kib);
    uint64_t left_kib = limit_kib > used_kib ? limit_kib - used_kib : 0;
    if (mode != OVERCOMMIT_NEVER || exam->bytes <= left_kib << 10) {
        found(out, SEVERITY_OK, "vm.overcommit_memory is %llu", (number)mode);
        return;
    }
    found(out, SEVERITY_FAULT,
          "vm.overcommit_memory is 2, and %llu MiB may still be promised of the %llu MiB that are "
          "to be lent",
          (number)(left_kib >> 10), (number)(exam->bytes >> 20));
    remedy(out, "as root: sysctl -w vm.overcommit_memory=0");
}

static void check_huge_pages(const struct exam *exam, struct finding *out)
{
    uint64_t size_kib = 0;
    uint64_t total = 0;
    uint64_t free_pages = 0;

    if (!exam->is_huge) {
        found(out, SEVERITY_OK, "not asked for (--huge)");
        return;
    }
    if (probe_field(exam->probe, "/proc/meminfo", "Hugepagesize:", &size_kib) < 0 ||
        size_kib == 0) {
        found(out, SEVERITY_FAULT, "this kernel has no huge pages");
        remedy(out, "leave out LEND_STORAGE_HUGE_PAGES, or boot a kernel with CONFIG_HUGETLBFS");
        return;
    }
    (void)probe_field(exam->probe, "/proc/meminfo", "HugePages_Total:", &total);
    (void)probe_field(exam->probe, "/proc/meminfo", "HugePages_Free:", &free_pages);
    uint64_t page = size_kib << 10;
    uint64_t wanted = exam->bytes == 0 ? 1 : (exam->bytes + page - 1) / page;
    if (free_pages >= wanted) {
        found(out, SEVERITY_OK, "%llu huge pages of %llu KiB are free", (number)free_pages,
              (number)size_kib);
        return;
    }
    found(out, SEVERITY_FAULT, "%llu of %llu huge pages of %llu KiB are free, and %llu are wanted",
          (number)free_pages, (number)total, (number)size_kib, (number)wanted);
    remedy(out, "as root: sysctl -w vm.nr_hugepages=%llu", (number)(total - free_pages + wanted));
}

const struct check checks_limits[] = {
    {"descriptors", check_descriptors},
    {"locked-memory", check_locked_memory},
    {"file-size", check_file_size},
    {"address-space", check_address_space},
    {"free-memory", check_free_memory},
    {"memory-limit", check_memory_limit},
    {"overcommit", check_overcommit},
    {"huge-pages", check_huge_pages},
    {NULL, NULL},
};
