/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/*
 * Goal: the doctor's checks find what no machine at hand can have, and are content with a machine
 * that has all that lend needs.
 *
 * Method: a fake door to the system, whose answers are those of a good machine but for the one that
 * a test plants. What can be planted for real is, in doctor_test.py.
 */

enum { USER = 1000, PID = 4242 };

struct fake_file {
    const char *path;
    const char *text; /* NULL: it is not there */
};

/* The fake machine. Planted files come first, and hide those below. */
static struct fake_file planted[8];
static struct rlimit fake_limit;
static int fake_limit_resource;
static int fake_dumpable;
static int fake_cross;
static uint64_t fake_boot_ns;
static const char *fake_version;
static struct stat fake_folder;
static int fake_bind;
static struct lend_error fake_error; /* of what takes an agent; LEND_OK: there is none */

static const struct fake_file good[] = {
    {"/proc/sys/kernel/osrelease", "6.1.0-18-amd64"},
    {"/proc/self/status", "Name:\tlend\nCapEff:\t0000000000000000\nSeccomp:\t0"},
    {"/proc/meminfo",
     "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nCommitLimit: 8388608 kB\n"
     "Committed_AS: 4194304 kB\nHugePages_Total: 16\nHugePages_Free: 4\nHugepagesize: 2048 kB"},
    {"/proc/sys/vm/overcommit_memory", "0"},
    {"/proc/self/cgroup", "0::/user.slice/a.scope"},
    {"/proc/self/statm", "1000 1 1 1 0 1 0"},
    {"/proc/self/mountinfo", "22 28 0:21 / /proc rw,relatime shared:12 - proc proc rw"},
    {"/proc/self/maps", "7f00-7f01 r-xp 0 08:01 77 /usr/lib/liblend.so.0.1.0"},
    {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"},
    {"/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm"},
};

static const char *text_of(const char *path)
{
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++) {
        if (planted[i].path != NULL && strcmp(planted[i].path, path) == 0)
            return planted[i].text;
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (strcmp(good[i].path, path) == 0)
            return good[i].text;
    }
    return NULL;
}

static void plant(const char *path, const char *text)
{
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++) {
        if (planted[i].path == NULL) {
            planted[i] = (struct fake_file){path, text};
            return;
        }
    }
    fail_msg("no room to plant %s", path);
}

static uid_t fake_user(void)
{
    return USER;
}

static pid_t fake_pid(void)
{
    return PID;
}

static ssize_t fake_read(const char *path, char *text, size_t capacity)
{
    const char *found = text_of(path);

    if (found == NULL)
        return -ENOENT;
    return snprintf(text, capacity, "%s", found);
}

static int fake_lines(const char *path, probe_visitor *visit, void *context)
{
    const char *found = text_of(path);
    char line[256];

    if (found == NULL)
        return -ENOENT;
    while (*found != '\0') {
        size_t length = strcspn(found, "\n");

        (void)snprintf(line, sizeof line, "%.*s", (int)length, found);
        if (!visit(context, line))
            return 0;
        found += length + (found[length] == '\n');
    }
    return 0;
}

static int fake_names(const char *path, probe_visitor *visit, void *context)
{
    (void)path;
    (void)visit(context, ".");
    return 0;
}

static bool fake_gpu, fake_peer_memory;

static int fake_stat(const char *path, struct stat *out)
{
    if (strstr(path, "/nv") != NULL && !fake_peer_memory)
        return -ENOENT;
    *out = fake_folder;
    return 0;
}

static int fake_link(const char *path, char *out, size_t capacity)
{
    if (strcmp(path, "/proc/self") != 0)
        return -ENOENT;
    (void)snprintf(out, capacity, "%d", PID);
    return 0;
}

static int fake_free_bytes(const char *path, uint64_t *out, bool *out_is_read_only)
{
    (void)path;
    *out = 1U << 30;
    *out_is_read_only = false;
    return 0;
}

static int fake_get_limit(int resource, struct rlimit *out)
{
    *out = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    if (resource == fake_limit_resource)
        *out = fake_limit;
    return 0;
}

static int fake_bind_socket(const char *path)
{
    (void)path;
    return fake_bind;
}

static int fake_write_file(const char *path, size_t bytes)
{
    (void)path;
    return bytes > 0 ? 0 : -EINVAL;
}

static int fake_look(const char *path)
{
    (void)path;
    return 1;
}

static int fake_works(void)
{
    return 0;
}

static int fake_cross_memory(void)
{
    return fake_cross;
}

static int fake_is_dumpable(void)
{
    return fake_dumpable;
}

static int fake_cuda(char *why, size_t capacity)
{
    (void)snprintf(why, capacity, "fake");
    return fake_gpu ? 0 : -ENOENT;
}

static uint64_t fake_now(void)
{
    return fake_boot_ns;
}

static const char *fake_library_version(void)
{
    return fake_version;
}

static enum lend_status fake_open(const char *name, const char *directory, struct lend_error *error)
{
    (void)name;
    (void)directory;
    (void)error;
    return LEND_OK;
}

static enum lend_status fake_trip(const char *directory, char *path, struct lend_error *error)
{
    (void)directory;
    (void)error;
    (void)strncpy(path, "fake/path", 32);
    return LEND_OK;
}

static enum lend_status fake_listens(const char *address, struct lend_error *error)
{
    (void)address;
    *error = fake_error;
    return error->status;
}

static enum lend_status fake_secret(const char *path, struct lend_error *error)
{
    (void)path;
    *error = fake_error;
    return error->status;
}

static enum lend_status fake_reach(const char *url, struct lend_error *error)
{
    (void)url;
    *error = fake_error;
    return error->status;
}

static int fake_ucx(const char *library, struct probe_ucx *out)
{
    (void)library;
    *out = (struct probe_ucx){
        .version = "1.99.0", .path = "/usr/lib/libucp.so.0", .transports = "rc", .copies = 1};
    return 0;
}

static struct probe_rdma planted_rdma;

static int fake_rdma(const char *library, struct probe_rdma *out)
{
    (void)library;
    *out = planted_rdma;
    return out->count > 0 ? 0 : -ENOENT;
}

static const struct probe probe_fake = {
    .user = fake_user,
    .pid = fake_pid,
    .read = fake_read,
    .lines = fake_lines,
    .names = fake_names,
    .stat = fake_stat,
    .link = fake_link,
    .free_bytes = fake_free_bytes,
    .limit = fake_get_limit,
    .bind_socket = fake_bind_socket,
    .write_file = fake_write_file,
    .is_listening = fake_look,
    .is_locked = fake_look,
    .memfd = fake_works,
    .pidfd = fake_works,
    .cross_memory = fake_cross_memory,
    .is_dumpable = fake_is_dumpable,
    .cuda = fake_cuda,
    .boot_ns = fake_now,
    .library_version = fake_library_version,
    .open_transport = fake_open,
    .round_trip = fake_trip,
    .listens = fake_listens,
    .secret = fake_secret,
    .reach = fake_reach,
    .ucx = fake_ucx,
    .rdma = fake_rdma,
};

static struct exam exam;

static int set_up(void **state)
{
    (void)state;
    memset(planted, 0, sizeof planted);
    exam = (struct exam){.probe = &probe_fake,
                         .directory = "/tmp/lend-1000",
                         .word = "/tmp/lend-1000",
                         .is_default = true,
                         .socket_mode = 0600,
                         .bytes = UINT64_C(1) << 30,
                         .peers = 64};
    fake_limit_resource = -1;
    fake_dumpable = 1;
    fake_cross = 0;
    fake_bind = 0;
    fake_error = (struct lend_error){.status = LEND_OK};
    fake_boot_ns = 1;
    fake_version = LEND_VERSION;
    fake_folder = (struct stat){.st_mode = S_IFDIR | 0700, .st_uid = USER};
    return 0;
}

static const struct check *const lists[] = {checks_folder,  checks_limits,  checks_kernel,
                                            checks_process, checks_network, checks_rdma};

/* Run all checks: that one has this severity and these words, and every other is OK. */
static void expect(const char *id, enum severity severity, const char *words, const char *cure)
{
    bool is_there = id == NULL;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const struct check *check = lists[i]; check->id != NULL; check++) {
            struct finding finding = {0};

            check->run(&exam, &finding);
            bool is_it = id != NULL && strcmp(check->id, id) == 0;
            if (finding.severity != (is_it ? severity : SEVERITY_OK))
                fail_msg("%s: severity %d: %s", check->id, (int)finding.severity, finding.found);
            assert_true(finding.found[0] != '\0');
            assert_int_equal(finding.remedy[0] != '\0', finding.severity != SEVERITY_OK);
            if (!is_it)
                continue;
            is_there = true;
            if (strstr(finding.found, words) == NULL || strstr(finding.remedy, cure) == NULL)
                fail_msg("%s: %s | %s", id, finding.found, finding.remedy);
        }
    }
    assert_true(is_there);
}

static void test_a_good_machine_is_well(void **state)
{
    (void)state;
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_an_old_kernel_is_a_fault(void **state)
{
    (void)state;
    plant("/proc/sys/kernel/osrelease", "4.18.0-553.el8");
    expect("kernel", SEVERITY_FAULT, "4.18.0-553.el8", "5.4 or later");
}

static void test_a_kernel_of_just_5_4_is_well(void **state)
{
    (void)state;
    plant("/proc/sys/kernel/osrelease", "5.4.0");
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_each_scope_of_yama_has_its_own_remedy(void **state)
{
    static const char path[] = "/proc/sys/kernel/yama/ptrace_scope";

    plant(path, "1");
    expect("ptrace-scope", SEVERITY_WARNING, "is 1", "LEND_AGENT_ALLOW_CROSS_MEMORY");
    (void)set_up(state);
    plant(path, "2");
    expect("ptrace-scope", SEVERITY_WARNING, "is 2", "CAP_SYS_PTRACE");
    (void)set_up(state);
    plant(path, "3");
    expect("ptrace-scope", SEVERITY_WARNING, "is 3", "only a reboot");
    (void)set_up(state);
    plant(path, "0");
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_the_right_to_trace_exempts_from_yama_but_for_scope_3(void **state)
{
    static const char path[] = "/proc/sys/kernel/yama/ptrace_scope";
    static const char status[] = "CapEff:\t0000000000080000\nSeccomp:\t0";

    plant("/proc/self/status", status);
    plant(path, "2");
    expect(NULL, SEVERITY_OK, "", "");
    (void)set_up(state);
    plant("/proc/self/status", status);
    plant(path, "3");
    expect("ptrace-scope", SEVERITY_WARNING, "is 3", "only a reboot");
}

static void test_a_kernel_without_cross_memory_is_told_from_a_filter(void **state)
{
    fake_cross = -ENOSYS;
    expect("cross-memory", SEVERITY_WARNING, "not implemented", "CONFIG_CROSS_MEMORY_ATTACH");
    (void)set_up(state);
    fake_cross = -ENOSYS;
    plant("/proc/self/status", "CapEff:\t0\nSeccomp:\t2");
    expect("cross-memory", SEVERITY_WARNING, "seccomp", "--cap-add SYS_PTRACE");
}

static void test_a_process_that_is_not_dumpable_is_told(void **state)
{
    (void)state;
    fake_dumpable = 0;
    expect("dumpable", SEVERITY_WARNING, "not dumpable", "PR_SET_DUMPABLE");
}

static void test_slow_clocks_are_told_with_a_faster_one_if_there_is(void **state)
{
    static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    plant(path, "hpet");
    expect("clock", SEVERITY_WARNING, "hpet", "echo tsc >");
    (void)set_up(state);
    plant(path, "acpi_pm");
    plant("/sys/devices/system/clocksource/clocksource0/available_clocksource", "acpi_pm");
    expect("clock", SEVERITY_WARNING, "acpi_pm", "tsc=reliable");
}

static void test_a_clock_that_stands_is_a_fault(void **state)
{
    (void)state;
    fake_boot_ns = 0;
    expect("clock", SEVERITY_FAULT, "stands", "clock_gettime");
}

static void test_memory_that_may_not_be_promised_is_a_fault(void **state)
{
    plant("/proc/sys/vm/overcommit_memory", "2");
    exam.bytes = UINT64_C(4) << 30; /* just what is left */
    expect(NULL, SEVERITY_OK, "", "");
    (void)set_up(state);
    plant("/proc/sys/vm/overcommit_memory", "2");
    exam.bytes = UINT64_C(5) << 30;
    expect("overcommit", SEVERITY_FAULT, "4096 MiB may still be promised",
           "vm.overcommit_memory=0");
}

static void test_a_limit_of_a_group_above_ours_counts(void **state)
{
    (void)state;
    plant("/sys/fs/cgroup/user.slice/a.scope/memory.max", "max");
    plant("/sys/fs/cgroup/user.slice/memory.max", "1073741824");
    plant("/sys/fs/cgroup/user.slice/memory.current", "536870912");
    expect("memory-limit", SEVERITY_FAULT, "512 of its 1024 MiB", "docker update --memory 1600M");
}

static void test_a_limit_of_the_first_version_counts(void **state)
{
    (void)state;
    plant("/proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/docker/0123");
    plant("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912"); /* a container's own root */
    plant("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576");
    expect("memory-limit", SEVERITY_FAULT, "511 of its 512 MiB", "MemoryMax=");
}

static void test_the_number_for_no_limit_is_none(void **state)
{
    (void)state;
    plant("/proc/self/cgroup", "4:memory:/");
    plant("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_huge_pages_are_counted_with_those_in_use(void **state)
{
    exam.is_huge = true;
    exam.bytes = 8U << 20; /* the 4 that are free */
    expect(NULL, SEVERITY_OK, "", "");
    (void)set_up(state);
    exam.is_huge = true;
    exam.bytes = (8U << 20) + 1;
    expect("huge-pages", SEVERITY_FAULT, "4 of 16 huge pages", "vm.nr_hugepages=17");
    (void)set_up(state);
    exam.is_huge = true;
    plant("/proc/meminfo", "MemAvailable: 8388608 kB");
    expect("huge-pages", SEVERITY_FAULT, "no huge pages", "LEND_STORAGE_HUGE_PAGES");
}

static void test_too_few_addresses_are_a_fault(void **state)
{
    fake_limit_resource = RLIMIT_AS;
    fake_limit = (struct rlimit){1U << 30, RLIM_INFINITY};
    expect("address-space", SEVERITY_FAULT, "RLIMIT_AS is 1073741824", "prlimit --pid $$ --as=");
    (void)set_up(state);
    fake_limit_resource = RLIMIT_AS;
    fake_limit = (struct rlimit){1U << 30, 1U << 30};
    expect("address-space", SEVERITY_FAULT, "RLIMIT_AS is 1073741824", "as root: prlimit");
}

static void test_a_default_folder_of_another_user_is_a_fault(void **state)
{
    (void)state;
    fake_folder.st_uid = 7;
    expect("folder", SEVERITY_FAULT, "belongs to user 7", "mkdir -m 0700");
}

static void test_a_folder_over_quota_is_a_fault(void **state)
{
    (void)state;
    fake_bind = -EDQUOT;
    expect("folder-use", SEVERITY_FAULT, "quota", "df -h /tmp/lend-1000");
}

static void test_hidden_processes_are_told_by_the_last_mount_of_proc(void **state)
{
    plant("/proc/self/mountinfo", "22 28 0:21 / /proc rw - proc proc rw\n"
                                  "40 22 0:30 / /proc rw - proc proc rw,hidepid=invisible");
    expect("proc", SEVERITY_WARNING, "hidepid=invisible", "hidepid=0");
    (void)set_up(state);
    plant("/proc/self/mountinfo", "22 28 0:21 / /proc rw - proc proc rw,hidepid=2\n"
                                  "40 22 0:30 / /proc rw - proc proc rw,hidepid=off");
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_another_version_and_another_copy_are_told(void **state)
{
    fake_version = "9.9.9";
    expect("version", SEVERITY_WARNING, "liblend 9.9.9", "ldconfig");
    (void)set_up(state);
    plant("/proc/self/maps", "7f00-7f01 r-xp 0 08:01 77 /usr/lib/liblend.so.0.1.0\n"
                             "7f01-7f02 r--p 0 08:01 77 /usr/lib/liblend.so.0.1.0\n"
                             "7f02-7f03 r-xp 0 08:01 78 /opt/engine/liblend.so.0\n"
                             "7f03-7f04 rw-p 0 00:00 0 [heap]");
    expect("copies", SEVERITY_FAULT, "2 copies", "/opt/engine/liblend.so.0");
}

static void test_what_was_asked_of_the_network_is_well_if_it_can_be_had(void **state)
{
    (void)state;
    exam.listen = "10.0.0.1:7000";
    exam.secret_file = "/etc/secret";
    exam.etcd = "etcd://10.0.0.1:2379";
    exam.ucx_devices = "mlx5_0:1";
    plant("/proc/sys/net/core/somaxconn", "4096");
    plant("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456");
    plant("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304");
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_a_port_that_takes_a_right_is_told(void **state)
{
    (void)state;
    exam.listen = "10.0.0.1:700";
    fake_error = (struct lend_error){.status = LEND_E_NO_PATH, .message = "Permission denied"};
    expect("listen", SEVERITY_FAULT, "Permission denied", "ip_unprivileged_port_start=700");
}

static void test_a_missing_plugin_is_told_with_its_package(void **state)
{
    exam.etcd = "etcd://10.0.0.1:2379";
    fake_error = (struct lend_error){.status = LEND_E_ABSENT, .message = "no plugin"};
    expect("etcd", SEVERITY_FAULT, "no plugin", "lend-plugins");
    (void)set_up(state);
    exam.secret_file = "/etc/secret";
    fake_error = (struct lend_error){.status = LEND_E_ABSENT, .message = "no plugin"};
    expect("secret", SEVERITY_FAULT, "no plugin", "lend-plugins");
    (void)set_up(state);
    exam.etcd = "etcd://10.0.0.1:2379";
    fake_error = (struct lend_error){.status = LEND_E_TIMEOUT, .message = "no answer"};
    expect("etcd", SEVERITY_FAULT, "no answer", "endpoint health");
}

/* One device of RoCE that is well, and is asked for. */
static void plant_rdma(void)
{
    planted_rdma = (struct probe_rdma){
        .path = "/usr/lib/libibverbs.so.1",
        .is_fork_safe = true,
        .count = 1,
        .devices = {{.name = "mlx5_0",
                     .firmware = "16.1",
                     .has_windows_2b = true,
                     .port_count = 1,
                     .ports = {{.is_active = true,
                                .is_ethernet = true,
                                .has_address = true,
                                .state = "ACTIVE",
                                .gid_count = 2,
                                .rows = {{0, false, {0xfe, 0x80}}, {3, true, {0xfe, 0x80}}},
                                .gids = "0 RoCE v2 fe80::1"}}}}};
    exam.verbs_devices = "mlx5_0:1,mlx5_0,mlx5_0:1:3,mlx5_0:1:fe80::";
}

static void test_rdma_devices_that_are_well_are(void **state)
{
    (void)state;
    plant_rdma();
    expect(NULL, SEVERITY_OK, "", "");
}

static void test_what_keeps_a_device_from_rdma_is_told_one_by_one(void **state)
{
    struct probe_rdma_device *device = &planted_rdma.devices[0];

    (void)state;
    plant_rdma();
    planted_rdma = (struct probe_rdma){.why = "libibverbs.so.1: cannot open"};
    expect("verbs", SEVERITY_FAULT, "cannot open", "apt-get install libibverbs1");
    plant_rdma();
    planted_rdma.count = 0;
    (void)snprintf(planted_rdma.why, sizeof planted_rdma.why, "this kernel has no RDMA");
    expect("verbs", SEVERITY_FAULT, "this kernel has no RDMA", "modprobe ib_uverbs");
    plant_rdma();
    exam.verbs_devices = "mlx5_0,mlx5_7";
    expect("verbs", SEVERITY_FAULT, "no RDMA device mlx5_7", "such as mlx5_0");
    plant_rdma();
    exam.verbs_devices = "mlx5_0:2";
    expect("verbs", SEVERITY_FAULT, "mlx5_0 has no port 2", "1 to 1");
    exam.verbs_devices = "mlx5_0:1:2";
    expect("verbs", SEVERITY_FAULT, "port 1 of mlx5_0 has no GID 2", "lend info");
    exam.verbs_devices = "mlx5_0:1:10.0.0.1";
    expect("verbs", SEVERITY_FAULT, "port 1 of mlx5_0 has no GID 10.0.0.1", "ip address add");
    exam.verbs_devices = "mlx5_0:1:0";
    expect("verbs", SEVERITY_FAULT, "port 1 of mlx5_0 has no RoCE v2 GID 0", "as RoCE v2");
    plant_rdma();
    (void)snprintf(device->why, sizeof device->why, "it cannot be opened");
    expect("verbs", SEVERITY_FAULT, "it cannot be opened", "--device=/dev/infiniband");
    plant_rdma();
    device->is_iwarp = true;
    expect("verbs", SEVERITY_FAULT, "iWARP", "transport tcp");
    plant_rdma();
    device->ports[0].is_active = false;
    (void)snprintf(device->ports[0].state, sizeof device->ports[0].state, "DOWN");
    expect("verbs", SEVERITY_FAULT, "port 1 of mlx5_0 is DOWN", "rdma link");
    plant_rdma();
    device->ports[0].has_address = false;
    expect("verbs", SEVERITY_FAULT, "no RoCE v2 GID of an address (0 RoCE v2 fe80::1)",
           "ip address add");
}

static void test_what_makes_rdma_slower_or_dangerous_is_a_warning(void **state)
{
    (void)state;
    plant_rdma();
    planted_rdma.devices[0].has_windows_2b = false;
    expect("verbs-windows", SEVERITY_WARNING, "mlx5_0 has no memory windows", "16.1");
    plant_rdma();
    fake_gpu = true;
    expect("verbs-gpus", SEVERITY_WARNING, "mlx5_0 takes no memory of GPUs",
           "modprobe nvidia-peermem");
    fake_peer_memory = true;
    expect(NULL, SEVERITY_OK, "", "");
    fake_peer_memory = false;
    planted_rdma.devices[0].has_dma_buf = true;
    expect(NULL, SEVERITY_OK, "", "");
    fake_gpu = false;
    plant_rdma();
    planted_rdma.is_fork_safe = false;
    expect("verbs-fork", SEVERITY_WARNING, "does not copy", "Linux 5.12");

    plant_rdma();
    fake_limit_resource = RLIMIT_MEMLOCK;
    fake_limit = (struct rlimit){8 << 20, 8 << 20};
    exam.bytes = 4 << 20;
    expect(NULL, SEVERITY_OK, "", "");
    exam.bytes = 0;
    expect("verbs-pinning", SEVERITY_WARNING, "pin 8388608 bytes", "LimitMEMLOCK=infinity");
    exam.bytes = 16 << 20; /* where locked-memory warns, too */
    for (const struct check *check = checks_rdma; check->id != NULL; check++) {
        struct finding finding = {0};

        check->run(&exam, &finding);
        assert_int_equal(finding.severity,
                         strcmp(check->id, "verbs-pinning") == 0 ? SEVERITY_FAULT : SEVERITY_OK);
    }
}

static void test_words_for_a_shell_are_quoted_where_they_must_be(void **state)
{
    char text[32];

    (void)state;
    assert_string_equal(shell_word(text, sizeof text, "/tmp/lend-0"), "/tmp/lend-0");
    assert_string_equal(shell_word(text, sizeof text, "/a b"), "'/a b'");
    assert_string_equal(shell_word(text, sizeof text, "it's"), "'it'\\''s'");
    assert_string_equal(shell_word(text, sizeof text, ""), "''");
    assert_true(strlen(shell_word(text, sizeof text, "a b 'c' 'd' 'e' 'f' 'g' 'h' 'i'")) <
                sizeof text);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_good_machine_is_well),
        TEST(test_an_old_kernel_is_a_fault),
        TEST(test_a_kernel_of_just_5_4_is_well),
        TEST(test_each_scope_of_yama_has_its_own_remedy),
        TEST(test_the_right_to_trace_exempts_from_yama_but_for_scope_3),
        TEST(test_a_kernel_without_cross_memory_is_told_from_a_filter),
        TEST(test_a_process_that_is_not_dumpable_is_told),
        TEST(test_slow_clocks_are_told_with_a_faster_one_if_there_is),
        TEST(test_a_clock_that_stands_is_a_fault),
        TEST(test_memory_that_may_not_be_promised_is_a_fault),
        TEST(test_a_limit_of_a_group_above_ours_counts),
        TEST(test_a_limit_of_the_first_version_counts),
        TEST(test_the_number_for_no_limit_is_none),
        TEST(test_huge_pages_are_counted_with_those_in_use),
        TEST(test_too_few_addresses_are_a_fault),
        TEST(test_a_default_folder_of_another_user_is_a_fault),
        TEST(test_a_folder_over_quota_is_a_fault),
        TEST(test_hidden_processes_are_told_by_the_last_mount_of_proc),
        TEST(test_another_version_and_another_copy_are_told),
        TEST(test_what_was_asked_of_the_network_is_well_if_it_can_be_had),
        TEST(test_a_port_that_takes_a_right_is_told),
        TEST(test_a_missing_plugin_is_told_with_its_package),
        TEST(test_rdma_devices_that_are_well_are),
        TEST(test_what_keeps_a_device_from_rdma_is_told_one_by_one),
        TEST(test_what_makes_rdma_slower_or_dangerous_is_a_warning),
        TEST(test_words_for_a_shell_are_quoted_where_they_must_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
