/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Checks of the kernel, and of what it lets this process do. */

enum { KERNEL_MAJOR = 5, KERNEL_MINOR = 4, CAPABILITY_SYS_PTRACE = 19, SECCOMP_FILTER = 2 };

typedef unsigned long long number; /* as printf() has it */

static void check_kernel(const struct exam *exam, struct finding *out)
{
    char release[80] = "?";
    unsigned major = 0;
    unsigned minor = 0;

    if (exam->probe->read("/proc/sys/kernel/osrelease", release, sizeof release) < 0 ||
        sscanf(release, "%u.%u", &major, &minor) != 2) {
        found(out, SEVERITY_OK, "the kernel does not tell its release");
        return;
    }
    if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)) {
        found(out, SEVERITY_OK, "Linux %s", release);
        return;
    }
    found(out, SEVERITY_FAULT, "Linux %s; lend needs %d.%d or later", release, KERNEL_MAJOR,
          KERNEL_MINOR);
    remedy(out, "boot a kernel of release %d.%d or later", KERNEL_MAJOR, KERNEL_MINOR);
}

static void check_proc(const struct exam *exam, struct finding *out)
{
    char hidden[64];
    int result = probe_proc(exam->probe);

    if (result == -EXDEV) {
        found(out, SEVERITY_FAULT,
              "/proc is of another PID namespace than we are: memory cannot be verified there");
        remedy(out, "mount -t proc proc /proc (unshare: --mount-proc)");
        return;
    }
    if (result < 0) {
        found(out, SEVERITY_FAULT, "/proc/self: %s: memory cannot be verified without /proc",
              strerrordesc_np(-result));
        remedy(out, "mount -t proc proc /proc");
        return;
    }
    probe_proc_hidden(exam->probe, hidden, sizeof hidden);
    if (hidden[0] != '\0' && !probe_capability(exam->probe, CAPABILITY_SYS_PTRACE)) {
        found(out, SEVERITY_WARNING,
              "/proc is mounted with %s: processes of other users, and who they are, stay unknown",
              hidden);
        remedy(out, "as root: mount -o remount,hidepid=0 /proc");
        return;
    }
    found(out, SEVERITY_OK, "/proc is ours%s%s", hidden[0] == '\0' ? "" : ", with ", hidden);
}

/* Does a filter of seccomp stand between us and the kernel? */
static bool is_filtered(const struct exam *exam)
{
    uint64_t mode = 0;

    return probe_field(exam->probe, "/proc/self/status", "Seccomp:", &mode) == 0 &&
           mode == SECCOMP_FILTER;
}

static const char *filter_note(const struct exam *exam)
{
    return is_filtered(exam) ? "; a seccomp filter is in force" : "";
}

static void check_memfd(const struct exam *exam, struct finding *out)
{
    int result = exam->probe->memfd();

    if (result == 0) {
        found(out, SEVERITY_OK, "memory behind a descriptor can be made and sealed");
        return;
    }
    found(out, SEVERITY_FAULT, "memory behind a descriptor cannot be made (memfd_create): %s%s",
          strerrordesc_np(-result), filter_note(exam));
    if (result == -EMFILE || result == -ENFILE)
        remedy(out, "ulimit -S -n 4096");
    else
        remedy(out, "allow memfd_create, ftruncate and fcntl in the seccomp profile (docker: "
                    "--security-opt seccomp=PROFILE)");
}

static void check_pidfd(const struct exam *exam, struct finding *out)
{
    int result = exam->probe->pidfd();

    if (result == 0) {
        found(out, SEVERITY_OK, "processes can be watched (pidfd_open)");
        return;
    }
    found(out, SEVERITY_WARNING,
          "pidfd_open: %s%s: only a socket's hang-up tells of a peer's death, and a child that a "
          "peer forked can delay it",
          strerrordesc_np(-result), filter_note(exam));
    remedy(out, "allow pidfd_open in the seccomp profile (docker: --security-opt seccomp=PROFILE)");
}

static void check_cross_memory(const struct exam *exam, struct finding *out)
{
    int result = exam->probe->cross_memory();

    if (result == 0) {
        found(out, SEVERITY_OK, "a process of ours can read another's memory");
        return;
    }
    found(out, SEVERITY_WARNING,
          "process_vm_readv: %s%s: path local/cross-memory is off; local/mapped and local/served "
          "work",
          strerrordesc_np(-result), filter_note(exam));
    if (result == -ENOSYS && !is_filtered(exam))
        remedy(out, "boot a kernel with CONFIG_CROSS_MEMORY_ATTACH");
    else if (is_filtered(exam))
        remedy(out, "allow process_vm_readv in the seccomp profile (docker: --cap-add SYS_PTRACE)");
    else
        remedy(out, "see ptrace-scope and dumpable");
}

static void check_ptrace_scope(const struct exam *exam, struct finding *out)
{
    static const char path[] = "/proc/sys/kernel/yama/ptrace_scope";
    uint64_t scope = 0;

    if (probe_number(exam->probe, path, &scope) < 0) {
        found(out, SEVERITY_OK, "Yama does not restrict reading another's memory");
        return;
    }
    if (scope == 0 || (scope <= 2 && probe_capability(exam->probe, CAPABILITY_SYS_PTRACE))) {
        found(out, SEVERITY_OK, "kernel.yama.ptrace_scope is %llu%s", (number)scope,
              scope == 0 ? "" : ", and CAP_SYS_PTRACE exempts us");
        return;
    }
    found(out, SEVERITY_WARNING,
          "kernel.yama.ptrace_scope is %llu: path local/cross-memory is off; local/mapped and "
          "local/served work",
          (number)scope);
    if (scope == 1)
        remedy(out, "set LEND_AGENT_ALLOW_CROSS_MEMORY in the owner, or as root: sysctl -w "
                    "kernel.yama.ptrace_scope=0");
    else if (scope == 2)
        remedy(out, "give the reader CAP_SYS_PTRACE, or as root: sysctl -w "
                    "kernel.yama.ptrace_scope=0");
    else
        remedy(out, "only a reboot can lower it: set kernel.yama.ptrace_scope in /etc/sysctl.d/ "
                    "first; or give storage of lend_storage_create(), which needs no such right");
}

static void check_dumpable(const struct exam *exam, struct finding *out)
{
    int result = exam->probe->is_dumpable();

    if (result == 1) {
        found(out, SEVERITY_OK, "this process is dumpable");
        return;
    }
    found(out, SEVERITY_WARNING,
          "this process is not dumpable: peers cannot read its memory, and local/cross-memory is "
          "off for what it lends");
    remedy(out, "prctl(PR_SET_DUMPABLE, 1) in the program; do not run it set-user-id, with file "
                "capabilities, or from a file that its user may not read; or as root: sysctl -w "
                "fs.suid_dumpable=1");
}

static void check_clock(const struct exam *exam, struct finding *out)
{
    static const char folder[] = "/sys/devices/system/clocksource/clocksource0";
    static const char *const slow[] = {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"};
    char path[96];
    char name[64];
    char others[128] = "";

    if (exam->probe->boot_ns() == 0) {
        found(out, SEVERITY_FAULT, "CLOCK_BOOTTIME stands at 0: leases cannot expire");
        remedy(out, "allow clock_gettime in the seccomp profile");
        return;
    }
    (void)snprintf(path, sizeof path, "%s/current_clocksource", folder);
    if (exam->probe->read(path, name, sizeof name) < 0) {
        found(out, SEVERITY_OK, "the clock runs; its source is not told");
        return;
    }
    (void)snprintf(path, sizeof path, "%s/available_clocksource", folder);
    (void)exam->probe->read(path, others, sizeof others);
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
        if (strcmp(name, slow[i]) != 0)
            continue;
        found(out, SEVERITY_WARNING, "the clock's source is %s: each look at it is a slow call",
              name);
        if (strstr(others, "tsc") != NULL)
            remedy(out, "as root: echo tsc > %s/current_clocksource", folder);
        else
            remedy(out, "boot with tsc=reliable if the machine's counters are; it offers: %s",
                   others);
        return;
    }
    found(out, SEVERITY_OK, "the clock's source is %s", name);
}

static void check_time_namespace(const struct exam *exam, struct finding *out)
{
    char text[64];
    long long seconds = 0;
    long long ns = 0;

    if (probe_text(exam->probe, "/proc/self/timens_offsets", "boottime", text, sizeof text) < 0 ||
        sscanf(text, "%lld %lld", &seconds, &ns) != 2 || (seconds == 0 && ns == 0)) {
        found(out, SEVERITY_OK, "the clock is the machine's");
        return;
    }
    found(out, SEVERITY_WARNING,
          "a time namespace sets the clock off by %lld s: ages in lend top are wrong across it; "
          "leases are not, as the owner's clock alone counts",
          seconds);
    remedy(out, "run lend top and lend metrics in the agent's time namespace: nsenter -T -t PID");
}

const struct check checks_kernel[] = {
    {"kernel", check_kernel},
    {"proc", check_proc},
    {"memfd", check_memfd},
    {"pidfd", check_pidfd},
    {"cross-memory", check_cross_memory},
    {"ptrace-scope", check_ptrace_scope},
    {"dumpable", check_dumpable},
    {"clock", check_clock},
    {"time-namespace", check_time_namespace},
    {NULL, NULL},
};
