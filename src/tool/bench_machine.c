/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <gnu/libc-version.h>
#include <lend/status.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* What a figure depends on, told beside it. */

/* The first line of a small file without its newline; "" if it cannot be read. */
static const char *read_line(const char *path, char *text, size_t capacity)
{
    FILE *file = fopen(path, "re");

    text[0] = '\0';
    if (file == NULL)
        return text;
    if (fgets(text, (int)capacity, file) == NULL)
        text[0] = '\0';
    (void)fclose(file);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* The value of the first line of /proc/cpuinfo that begins so; "" if there is none. */
static const char *read_cpu(const char *key, char *text, size_t capacity)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[512];

    text[0] = '\0';
    while (file != NULL && text[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');

        if (strncmp(line, key, strlen(key)) == 0 && value != NULL && strlen(value) > 2)
            (void)snprintf(text, capacity, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    }
    if (file != NULL)
        (void)fclose(file);
    return text;
}

static uint64_t count_memory(void)
{
    struct sysinfo info;

    return sysinfo(&info) != 0 ? 0 : (uint64_t)info.totalram * info.mem_unit;
}

static int count_allowed(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) != 0 ? 0 : CPU_COUNT(&set);
}

/* What a look at the clock costs: every time that is told holds one. */
static double time_clock(void)
{
    enum { LOOKS = 1000 };
    uint64_t began = now_ns();

    for (int i = 0; i < LOOKS; i++)
        (void)now_ns();
    return (double)(now_ns() - began) / LOOKS;
}

json_t *machine_json(void)
{
    static const char governor_path[] = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    char model[256], governor[64], load[64], pages[64], shared[64], ptrace[16], date[64];
    struct utsname kernel = {0};
    double loads[3] = {0};
    time_t now = time(NULL);
    struct tm calendar = {0};

    (void)uname(&kernel);       /* left empty if it cannot be told */
    (void)getloadavg(loads, 3); /* as above */
    (void)gmtime_r(&now, &calendar);
    (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &calendar);
    (void)snprintf(load, sizeof load, "%.2f %.2f %.2f", loads[0], loads[1], loads[2]);
    return json_pack(
        "{s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:s}", "date",
        date, "cpu", read_cpu("model name", model, sizeof model), "cores",
        (int)sysconf(_SC_NPROCESSORS_ONLN), "cores_allowed", count_allowed(), "architecture",
        kernel.machine, "system", kernel.sysname, "kernel", kernel.release, "memory_bytes",
        (json_int_t)count_memory(), "library", lend_version(), "libc", gnu_get_libc_version(),
        "governor", read_line(governor_path, governor, sizeof governor), "huge_pages",
        read_line("/sys/kernel/mm/transparent_hugepage/enabled", pages, sizeof pages),
        "huge_pages_shared",
        read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shared, sizeof shared),
        "load_average", load, "clock_ns", time_clock(), "ptrace_scope",
        read_line("/proc/sys/kernel/yama/ptrace_scope", ptrace, sizeof ptrace));
}

void machine_print(void)
{
    char model[256], memory[32];
    struct utsname kernel = {0};
    double loads[3] = {0};

    (void)uname(&kernel);
    (void)getloadavg(loads, 3);
    (void)printf("%s, %ld cores, %s, %s %s, glibc %s, lend %s, load average %.2f\n\n",
                 read_cpu("model name", model, sizeof model), sysconf(_SC_NPROCESSORS_ONLN),
                 print_bytes(memory, sizeof memory, count_memory()), kernel.sysname, kernel.release,
                 gnu_get_libc_version(), lend_version(), loads[0]);
}
