/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: storage is zeroed memory behind a file that nobody resizes and nobody else writes; what
 * cannot be had is named with its remedy; nothing is left behind on any way out.
 * Method: real storage, looked at from both ends and from a forked child; then every call of the
 * system fails once, and the kernel's answers are made up where this machine would not give them.
 */
#include <lend/storage.h>

#include "base/sys.h"
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { HUGE_KIB = 2048 };

static struct lend_storage *create(uint64_t length_bytes)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *storage = NULL;
    struct lend_error error;

    desc.length_bytes = length_bytes;
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_OK);
    assert_non_null(storage);
    return storage;
}

static void test_storage_is_zeroed_whole_pages_and_writable(void **state)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct lend_storage *storage = create(3 * page + 1);
    char *memory = lend_storage_address(storage);

    (void)state;
    assert_int_equal(lend_storage_length_bytes(storage), 4 * page);
    assert_int_equal((uintptr_t)memory % page, 0);
    for (uint64_t i = 0; i < 4 * page; i++)
        assert_int_equal(memory[i], 0);
    memset(memory, 0x5a, 4 * page);
    lend_storage_destroy(storage);
}

static void test_nobody_resizes_storage_or_writes_to_its_file(void **state)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct lend_storage *storage = create(2 * page);
    volatile char *memory = lend_storage_address(storage);
    int fd = lend_storage_fd(storage);

    (void)state;
    memory[0] = 'a';
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)page), -1);
    assert_int_equal(ftruncate(fd, (off_t)page * 3), -1);
    assert_int_equal(write(fd, "b", 1), -1);
    assert_ptr_equal(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), -1);

    volatile char *reader = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(reader, MAP_FAILED);
    assert_int_equal(reader[0], 'a');
    memory[0] = 'c'; /* we still do */
    assert_int_equal(reader[0], 'c');
    assert_int_equal(mprotect((void *)(uintptr_t)reader, page, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(munmap((void *)(uintptr_t)reader, page), 0);
    lend_storage_destroy(storage);
}

static void test_name_is_shown_in_the_list_of_mappings(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *named = NULL, *unnamed = create(1);
    char line[512];
    int found = 0;

    (void)state;
    desc.length_bytes = 1;
    desc.name = "kv-cache-7";
    assert_int_equal(lend_storage_create(&desc, &named, NULL), LEND_OK);
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        found += strstr(line, " rw-s ") != NULL && strstr(line, "/memfd:kv-cache-7 ") != NULL;
        found += strstr(line, " rw-s ") != NULL && strstr(line, "/memfd:lend-storage ") != NULL;
    }
    assert_int_equal(fclose(maps), 0);
    assert_int_equal(found, 2);
    lend_storage_destroy(named);
    lend_storage_destroy(unnamed);
}

static void expect(const struct lend_storage_desc *desc, enum lend_status status,
                   const char *message)
{
    struct lend_storage *storage = (struct lend_storage *)(uintptr_t)1;
    struct lend_error error = {0};

    assert_int_equal(lend_storage_create(desc, &storage, &error), status);
    assert_int_equal(error.status, status);
    if (strstr(error.message, message) == NULL)
        fail_msg("'%s' is not in '%s'", message, error.message);
    assert_null(strstr(error.message, "...")); /* it is told to its end */
    assert_ptr_equal(storage, (void *)(uintptr_t)1);
}

static void test_descriptions_that_cannot_be_are_refused(void **state)
{
    char long_name[251];
    struct lend_storage *storage = NULL;
    struct lend_storage_desc good = {.flags = 77}, desc;

    (void)state;
    lend_storage_desc_init(NULL);
    lend_storage_desc_init(&good);
    assert_int_equal(good.struct_size, sizeof good);
    assert_int_equal(good.flags, 0);
    good.length_bytes = 1;
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';

    expect(NULL, LEND_E_INVALID, "desc is NULL");
    assert_int_equal(lend_storage_create(&good, NULL, NULL), LEND_E_INVALID);
    desc = good, desc.struct_size--;
    expect(&desc, LEND_E_VERSION, "bytes, not");
    desc = good, desc.flags = 4;
    expect(&desc, LEND_E_INVALID, "unknown flags 0x4");
    desc = good, desc.reserved = 1;
    expect(&desc, LEND_E_INVALID, "reserved is 1, not 0");
    desc = good, desc.length_bytes = 0;
    expect(&desc, LEND_E_INVALID, "storage of 0 bytes");
    desc = good, desc.length_bytes = LEND_MEMORY_BYTES_MAX + 1;
    expect(&desc, LEND_E_INVALID, "storage of 70368744177665 bytes");
    desc = good, desc.name = long_name;
    expect(&desc, LEND_E_INVALID, "at most 249 bytes");
    long_name[249] = '\0';
    assert_int_equal(lend_storage_create(&desc, &storage, NULL), LEND_OK);
    lend_storage_destroy(storage);
}

static void test_parts_are_described_for_registration(void **state)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct lend_storage *storage = create(2 * page);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT, before;
    struct lend_error error;

    (void)state;
    desc.flags = LEND_REGION_PREFER_CROSS_MEMORY;
    desc.access = LEND_ACCESS_READ;
    desc.name = "part";
    assert_int_equal(lend_storage_describe(storage, 100, 2 * page - 100, &desc, NULL), LEND_OK);
    assert_int_equal(desc.memory.kind, LEND_MEMORY_SYSTEM);
    assert_int_equal(desc.memory.address, (uintptr_t)lend_storage_address(storage) + 100);
    assert_int_equal(desc.memory.length_bytes, 2 * page - 100);
    assert_int_equal(desc.flags, LEND_REGION_PREFER_CROSS_MEMORY | LEND_REGION_SHARE_FILE);
    assert_int_equal(desc.share_fd, lend_storage_fd(storage));
    assert_int_equal(desc.share_offset_bytes, 100);
    assert_int_equal(desc.access, LEND_ACCESS_READ);
    assert_string_equal(desc.name, "part");

    before = desc;
    assert_int_equal(lend_storage_describe(storage, 0, 0, &desc, &error), LEND_E_INVALID);
    assert_int_equal(lend_storage_describe(NULL, 0, 1, &desc, &error), LEND_E_INVALID);
    assert_int_equal(lend_storage_describe(storage, 0, 1, NULL, &error), LEND_E_INVALID);
    assert_int_equal(lend_storage_describe(storage, 0, 2 * page + 1, &desc, &error),
                     LEND_E_OUT_OF_RANGE);
    assert_int_equal(lend_storage_describe(storage, 2 * page, 1, &desc, &error),
                     LEND_E_OUT_OF_RANGE);
    assert_int_equal(lend_storage_describe(storage, UINT64_MAX, 2, &desc, &error),
                     LEND_E_OUT_OF_RANGE);
    assert_int_equal(lend_storage_describe(storage, 2, UINT64_MAX, &desc, &error),
                     LEND_E_OUT_OF_RANGE);
    assert_non_null(strstr(error.message, "18446744073709551615 bytes from 2 on are no part"));
    assert_memory_equal(&before, &desc, sizeof desc);
    desc.struct_size -= 8;
    assert_int_equal(lend_storage_describe(storage, 0, 1, &desc, &error), LEND_E_VERSION);
    lend_storage_destroy(storage);
}

static void test_what_is_no_storage_is_refused(void **state)
{
    uint64_t zeros[8] = {0};
    struct lend_storage *none = (struct lend_storage *)(void *)zeros;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    (void)state;
    assert_null(lend_storage_address(NULL));
    assert_int_equal(lend_storage_length_bytes(NULL), 0);
    assert_int_equal(lend_storage_fd(NULL), -1);
    lend_storage_destroy(NULL);
    assert_null(lend_storage_address(none));
    assert_int_equal(lend_storage_length_bytes(none), 0);
    assert_int_equal(lend_storage_fd(none), -1);
    assert_int_equal(lend_storage_describe(none, 0, 1, &desc, NULL), LEND_E_INVALID);
    lend_storage_destroy(none);
}

static void test_forked_child_shares_the_memory_and_destroys_its_copy_alone(void **state)
{
    struct lend_storage *storage = create(1);
    volatile char *memory = lend_storage_address(storage);
    int status = -1;

    (void)state;
    memory[0] = 'p';
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool is_seen = memory[0] == 'p';

        memory[1] = 'c';
        lend_storage_destroy(storage);
        _exit(is_seen ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(memory[0], 'p');
    assert_int_equal(memory[1], 'c');
    memory[0] = 'q';
    assert_int_equal(fcntl(lend_storage_fd(storage), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    lend_storage_destroy(storage);
}

static void test_every_call_that_fails_is_told_and_nothing_is_left(void **state)
{
    static const enum lend_status expected[] = {LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_NO_MEMORY,
                                                LEND_E_UNSUPPORTED, LEND_E_SYSTEM};
    static const char *const messages[] = {
        "no memory for the handle", "making a memfd of ", "no room to map",
        "mbind() to NUMA node 0: not permitted", "sealing storage: Operation not permitted"};
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;

    (void)state;
    desc.length_bytes = 4096;
    desc.flags = LEND_STORAGE_ON_NODE;
    for (int nth = 0;; nth++) {
        struct lend_storage *storage = NULL;
        struct lend_error error = {0};

        double_install(nth);
        enum lend_status status = lend_storage_create(&desc, &storage, &error);
        lend_storage_destroy(storage);
        if (!double_remove()) {
            assert_int_equal(nth, 5);
            assert_true(status == LEND_OK || strstr(error.message, "mbind()") != NULL);
            return;
        }
        assert_null(storage);
        if (status == LEND_E_UNSUPPORTED && nth > 3)
            skip(); /* no mbind() on this machine: nothing is called behind it */
        assert_int_equal(status, expected[nth]);
        assert_non_null(strstr(error.message, messages[nth]));
    }
}

/* --- a machine with huge pages, made up: the file is of ordinary ones --- */

static const char *meminfo;
static int memfd_answer, bind_answer, populate_answer, seal_answer;
static bool map_is_refused;
static struct lend_sys_ops made_up;

enum { MADE_UP_FD = 1000000 };

static int open_meminfo(const char *path)
{
    assert_string_equal(path, "/proc/meminfo");
    return MADE_UP_FD;
}

static ssize_t read_meminfo(int fd, void *bytes, size_t count)
{
    size_t given = strnlen(meminfo, count < 7 ? count : 7); /* in small pieces */

    assert_int_equal(fd, MADE_UP_FD);
    memcpy(bytes, meminfo, given);
    meminfo += given;
    return (ssize_t)given;
}

static void close_any(int fd)
{
    if (fd != MADE_UP_FD)
        lend_sys_real.close(fd);
}

static int memfd_of_huge(const char *name, size_t bytes, bool huge)
{
    if (huge)
        assert_int_equal(bytes % (HUGE_KIB * 1024), 0);
    return memfd_answer != 0 ? memfd_answer : lend_sys_real.memfd_storage(name, bytes, false);
}

static void *map_or_refuse(int fd, uint64_t offset, size_t bytes, bool writable, bool prefault)
{
    return map_is_refused ? NULL : lend_sys_real.map_file(fd, offset, bytes, writable, prefault);
}

static int bind_made_up(void *memory, size_t bytes, unsigned node)
{
    assert_non_null(memory);
    assert_true(bytes > 0);
    assert_int_equal(node, 1);
    return bind_answer;
}

static int populate_made_up(void *memory, size_t bytes)
{
    assert_non_null(memory);
    assert_true(bytes > 0);
    return populate_answer;
}

static int seal_made_up(int fd, int seals)
{
    return seal_answer != 0 ? seal_answer : lend_sys_real.seal(fd, seals);
}

/* The made-up kernel answers all well, and has 3 huge pages free. */
static void make_up(void)
{
    meminfo = "MemTotal: 1 kB\nHugePages_Total:    9\nHugePages_Free:        3\n"
              "Hugepagesize:       2048 kB\nHugetlb: 0 kB\n";
    memfd_answer = bind_answer = populate_answer = seal_answer = 0;
    map_is_refused = false;
    made_up = lend_sys_real;
    made_up.open_read = open_meminfo, made_up.read = read_meminfo, made_up.close = close_any;
    made_up.memfd_storage = memfd_of_huge, made_up.map_file = map_or_refuse;
    made_up.bind_node = bind_made_up, made_up.populate = populate_made_up;
    made_up.seal = seal_made_up;
    lend_sys = &made_up;
}

static void test_lack_of_huge_pages_is_told_with_its_remedy(void **state)
{
    const char *remedy = "takes 5 huge pages of 2048 KiB, and 3 are free: raise vm.nr_hugepages "
                         "by 2 ";
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *storage = NULL;

    (void)state;
    desc.length_bytes = 4 * HUGE_KIB * 1024 + 1;
    desc.flags = LEND_STORAGE_HUGE_PAGES;
    make_up(), memfd_answer = -ENOMEM;
    expect(&desc, LEND_E_NO_MEMORY, remedy);
    make_up(), map_is_refused = true;
    expect(&desc, LEND_E_NO_MEMORY, remedy);
    make_up(), populate_answer = -EFAULT;
    expect(&desc, LEND_E_NO_MEMORY, remedy);
    make_up(), memfd_answer = -EINVAL;
    expect(&desc, LEND_E_UNSUPPORTED, "no memfd of huge pages");
    make_up(), populate_answer = -EINVAL;
    expect(&desc, LEND_E_UNSUPPORTED, "Linux 5.14");
    make_up(), populate_answer = -EIO;
    expect(&desc, LEND_E_SYSTEM, "taking huge pages");
    make_up(), meminfo = "MemTotal: 1 kB\n";
    expect(&desc, LEND_E_UNSUPPORTED, "no huge pages (no Hugepagesize");
    make_up(), meminfo = "MemTotal: 1 kB\nHugepagesize: 3000 kB\n";
    expect(&desc, LEND_E_UNSUPPORTED, "no huge pages (no Hugepagesize");
    make_up();
    assert_int_equal(lend_storage_create(&desc, &storage, NULL), LEND_OK);
    assert_int_equal(lend_storage_length_bytes(storage), 5 * HUGE_KIB * 1024);
    lend_storage_destroy(storage);
    lend_sys = &lend_sys_real;
}

static void test_lack_of_meminfo_is_told(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;

    (void)state;
    desc.length_bytes = 1;
    desc.flags = LEND_STORAGE_HUGE_PAGES;
    double_install(0);
    expect(&desc, LEND_E_SYSTEM, "opening /proc/meminfo");
    assert_true(double_remove());
    double_install(1);
    expect(&desc, LEND_E_SYSTEM, "reading /proc/meminfo");
    assert_true(double_remove());
}

static void test_lack_of_a_node_is_told_with_its_remedy(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;

    (void)state;
    desc.length_bytes = 1;
    desc.flags = LEND_STORAGE_ON_NODE;
    desc.numa_node = 1;
    make_up(), bind_answer = -EINVAL;
    expect(&desc, LEND_E_UNSUPPORTED, "no NUMA node 1 with memory");
    make_up(), bind_answer = -ENOSYS;
    expect(&desc, LEND_E_UNSUPPORTED, "mbind() to NUMA node 1: not there");
    make_up(), bind_answer = -ENOMEM;
    expect(&desc, LEND_E_NO_MEMORY, "node 1");
    make_up(), bind_answer = -EIO;
    expect(&desc, LEND_E_SYSTEM, "binding to NUMA node 1");
    desc.flags |= LEND_STORAGE_HUGE_PAGES;
    make_up(), populate_answer = -EFAULT;
    expect(&desc, LEND_E_NO_MEMORY, "nr_hugepages under /sys/devices/system/node/node1/");
    make_up(), memfd_answer = -ENOSPC, desc.flags = 0;
    expect(&desc, LEND_E_NO_MEMORY, "no memory for storage of ");
    make_up(), seal_answer = -EINVAL;
    expect(&desc, LEND_E_UNSUPPORTED, "Linux 5.1");
    lend_sys = &lend_sys_real;
}

/* --- and a real one --- */

static void test_storage_of_huge_pages_is_had_or_its_lack_named(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.length_bytes = 1;
    desc.flags = LEND_STORAGE_HUGE_PAGES;
    enum lend_status status = lend_storage_create(&desc, &storage, &error);
    if (status != LEND_OK) {
        assert_true(status == LEND_E_NO_MEMORY || status == LEND_E_UNSUPPORTED);
        assert_null(storage);
        print_message("skipped: %s\n", error.message);
        skip();
    }
    assert_true(lend_storage_length_bytes(storage) > (uint64_t)sysconf(_SC_PAGESIZE));
    assert_int_equal((uintptr_t)lend_storage_address(storage) % lend_storage_length_bytes(storage),
                     0);
    memset(lend_storage_address(storage), 1, lend_storage_length_bytes(storage));
    lend_storage_destroy(storage);
}

static void test_storage_lies_on_its_node(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.length_bytes = 1;
    desc.flags = LEND_STORAGE_ON_NODE;
    enum lend_status status = lend_storage_create(&desc, &storage, &error);
    if (status == LEND_E_UNSUPPORTED) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    assert_int_equal(status, LEND_OK);
    ((volatile char *)lend_storage_address(storage))[0] = 1;
    lend_storage_destroy(storage);
    desc.numa_node = 1022;
    expect(&desc, LEND_E_UNSUPPORTED, "no NUMA node 1022");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storage_is_zeroed_whole_pages_and_writable),
        cmocka_unit_test(test_nobody_resizes_storage_or_writes_to_its_file),
        cmocka_unit_test(test_name_is_shown_in_the_list_of_mappings),
        cmocka_unit_test(test_descriptions_that_cannot_be_are_refused),
        cmocka_unit_test(test_parts_are_described_for_registration),
        cmocka_unit_test(test_what_is_no_storage_is_refused),
        cmocka_unit_test(test_forked_child_shares_the_memory_and_destroys_its_copy_alone),
        cmocka_unit_test(test_every_call_that_fails_is_told_and_nothing_is_left),
        cmocka_unit_test(test_lack_of_huge_pages_is_told_with_its_remedy),
        cmocka_unit_test(test_lack_of_meminfo_is_told),
        cmocka_unit_test(test_lack_of_a_node_is_told_with_its_remedy),
        cmocka_unit_test(test_storage_of_huge_pages_is_had_or_its_lack_named),
        cmocka_unit_test(test_storage_lies_on_its_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
