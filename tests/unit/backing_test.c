/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a file is told to be behind memory only if every byte of it is a shared mapping of that
 * file at that place, else the first address that is not is named; a file whose pages could go away
 * is not fit for mapping, and the reason comes with its remedy; who might write is known.
 * Method: real memfds, a file of a tmpfs and one of a disk, mapped rightly and wrongly; then
 * made-up answers for huge pages, and every call of the system failing once.
 */
#include "memory/backing.h"
#include "base/sys.h"
#include "double.h"

#include <lend/storage.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/magic.h>

enum { PAGES = 8 };

static size_t page;

static int make_file(int seals)
{
    int fd = memfd_create("lend-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(PAGES * page)), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static char *map_pages(int fd, size_t first, size_t count, int flags)
{
    char *memory =
        mmap(NULL, count * page, PROT_READ | PROT_WRITE, flags, fd, (off_t)(first * page));

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static void map_over(char *at, int fd, size_t first, size_t count, int flags)
{
    assert_ptr_equal(mmap(at, count * page, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
                          (off_t)(first * page)),
                     at);
}

static enum lend_status check(int fd, uint64_t offset, const char *memory, uint64_t bytes,
                              struct lend_backing *out, struct lend_error *error)
{
    const struct lend_memory description = {.struct_size = sizeof description,
                                            .kind = LEND_MEMORY_SYSTEM,
                                            .address = (uintptr_t)memory,
                                            .length_bytes = bytes};

    return lend_backing_check(fd, offset, &description, out, error);
}

/* The memory is not of that file; the message names the address, and says why. */
static void expect_bad(int fd, uint64_t offset, const char *memory, uint64_t bytes, const char *bad,
                       const char *why)
{
    struct lend_backing backing;
    struct lend_error error = {0};
    char address[32];

    (void)snprintf(address, sizeof address, "0x%llx (byte ", (unsigned long long)(uintptr_t)bad);
    memset(&backing, 0x33, sizeof backing);
    assert_int_equal(check(fd, offset, memory, bytes, &backing, &error), LEND_E_MEMORY);
    assert_memory_equal(error.message, address, strlen(address));
    if (strstr(error.message, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, error.message);
    assert_null(strstr(error.message, "..."));
    assert_int_equal(backing.inode, UINT64_C(0x3333333333333333)); /* untouched */
}

static void expect_unfit(int fd, const char *memory, const char *why)
{
    struct lend_backing backing;

    assert_int_equal(check(fd, 0, memory, PAGES * page, &backing, NULL), LEND_OK);
    assert_false(backing.is_fit_for_mapping);
    if (strstr(backing.why_not, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, backing.why_not);
    assert_true(strlen(backing.why_not) < sizeof backing.why_not - 1); /* none is cut off */
    assert_non_null(strstr(backing.why_not, "lend_storage_create()"));
}

static void test_storage_is_fit_for_mapping(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_region_desc region = LEND_REGION_DESC_INIT;
    struct lend_storage *storage = NULL;
    struct lend_backing backing;
    struct stat file;

    (void)state;
    desc.length_bytes = PAGES * page;
    assert_int_equal(lend_storage_create(&desc, &storage, NULL), LEND_OK);
    assert_int_equal(lend_storage_describe(storage, 100, PAGES * page - 200, &region, NULL),
                     LEND_OK);
    assert_int_equal(lend_backing_check(region.share_fd, region.share_offset_bytes, &region.memory,
                                        &backing, NULL),
                     LEND_OK);
    assert_int_equal(fstat(lend_storage_fd(storage), &file), 0);
    assert_true(backing.device == file.st_dev && backing.inode == file.st_ino);
    assert_int_equal(backing.file_bytes, PAGES * page);
    assert_true(backing.is_fit_for_mapping);
    assert_true(backing.is_closed_to_writers);
    assert_false(backing.is_huge);
    assert_int_equal(backing.mode, file.st_mode & 07777);
    assert_int_equal(backing.owner_uid, geteuid());
    assert_string_equal(backing.why_not, "");
    assert_false(lend_backing_is_writable_by(&backing, 0));
    lend_storage_destroy(storage);
}

static void test_parts_and_neighbouring_mappings_are_good(void **state)
{
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 2, 6, MAP_SHARED);
    struct lend_backing backing;

    (void)state;
    assert_int_equal(check(fd, 2 * page, memory, 6 * page, &backing, NULL), LEND_OK);
    assert_int_equal(check(fd, 3 * page + 5, memory + page + 5, 1, &backing, NULL), LEND_OK);
    assert_int_equal(mprotect(memory + 2 * page, page, PROT_READ), 0); /* three mappings now */
    assert_int_equal(check(fd, 2 * page, memory, 6 * page, &backing, NULL), LEND_OK);
    assert_true(backing.is_fit_for_mapping);
    assert_false(backing.is_closed_to_writers);
    assert_int_equal(munmap(memory, 6 * page), 0);
    assert_int_equal(close(fd), 0);
}

static void test_memory_of_elsewhere_is_named_by_its_first_address(void **state)
{
    int fd = make_file(F_SEAL_SHRINK), other = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    char *private = map_pages(fd, 0, 1, MAP_PRIVATE);
    char *nobodys = map_pages(-1, 0, 1, MAP_SHARED | MAP_ANONYMOUS);

    (void)state;
    expect_bad(fd, 0, private, page, private, "rw-p");
    expect_bad(fd, 0, private, page, private, "private (not MAP_SHARED)");
    expect_bad(fd, 0, nobodys, page, nobodys, "another file");
    expect_bad(other, 0, memory + 7, page, memory + 7, "another file");
    expect_bad(fd, page, memory, page, memory, "another place in the file: share_fd is");
    expect_bad(fd, 1, memory, page, memory, "another place in the file");
    expect_bad(fd, 0, memory + 1, page, memory + 1, "another place in the file");

    map_over(memory + 3 * page, other, 3, 1, MAP_SHARED);
    expect_bad(fd, 0, memory, PAGES * page, memory + 3 * page, "another file");
    expect_bad(fd, 10, memory + 10, 3 * page, memory + 3 * page, "another file");
    map_over(memory + 3 * page, fd, 3, 1, MAP_PRIVATE);
    expect_bad(fd, 0, memory, PAGES * page, memory + 3 * page, "private");
    map_over(memory + 3 * page, fd, 4, 1, MAP_SHARED);
    expect_bad(fd, 0, memory, PAGES * page, memory + 3 * page, "another place");
    assert_int_equal(munmap(memory + 3 * page, page), 0);
    expect_bad(fd, 0, memory, PAGES * page, memory + 3 * page, "is not mapped");
    map_over(memory + 3 * page, fd, 3, 1, MAP_SHARED);
    struct lend_backing backing;
    assert_int_equal(check(fd, 0, memory, PAGES * page, &backing, NULL), LEND_OK);
    expect_bad(fd, 0, (char *)(uintptr_t)UINT64_C(0xffffffffffffe000), 8,
               (char *)(uintptr_t)UINT64_C(0xffffffffffffe000), "is not mapped");

    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(munmap(private, page), 0);
    assert_int_equal(munmap(nobodys, page), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(other), 0);
}

static void test_memory_behind_the_end_of_the_file_is_refused(void **state)
{
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES + 1, MAP_SHARED);
    struct lend_backing backing;
    struct lend_error error;

    (void)state;
    assert_int_equal(check(fd, 0, memory, PAGES * page, &backing, &error), LEND_OK);
    assert_int_equal(check(fd, 0, memory, PAGES * page + 1, &backing, &error), LEND_E_MEMORY);
    assert_non_null(strstr(error.message, "the file to share ends at 0x"));
    assert_int_equal(munmap(memory, (PAGES + 1) * page), 0);
    assert_int_equal(close(fd), 0);
}

static void test_file_that_could_shrink_is_not_fit(void **state)
{
    int fd = make_file(F_SEAL_GROW);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    struct lend_backing backing;

    (void)state;
    expect_unfit(fd, memory, "could shrink: seal it with F_SEAL_SHRINK");
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0); /* as it says */
    assert_int_equal(check(fd, 0, memory, PAGES * page, &backing, NULL), LEND_OK);
    assert_true(backing.is_fit_for_mapping);
    assert_string_equal(backing.why_not, "");
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);

    fd = make_file(F_SEAL_SEAL);
    memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    expect_unfit(fd, memory, "takes no more seals");
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

static void check_named_file(const char *folder, const char *why)
{
    char path[64];

    (void)snprintf(path, sizeof path, "%s/lend-backing-XXXXXX", folder);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        print_message("skipped: no file can be made in %s\n", folder);
        skip();
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ftruncate(fd, (off_t)(PAGES * page)), 0);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    expect_unfit(fd, memory, why);
    expect_bad(fd, page, memory, page, memory, "another place");
    assert_int_equal(munmap(memory, PAGES * page), 0);
    memory = map_pages(fd, 0, PAGES, MAP_PRIVATE);
    expect_bad(fd, 0, memory, page, memory, "private");
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

static void test_file_of_a_tmpfs_is_not_fit(void **state)
{
    struct statfs about;

    (void)state;
    if (statfs("/dev/shm", &about) != 0 || about.f_type != TMPFS_MAGIC) {
        print_message("skipped: /dev/shm is no tmpfs here\n");
        skip();
    }
    check_named_file("/dev/shm", "could shrink");
}

static void test_file_with_a_name_is_not_fit(void **state)
{
    (void)state;
    check_named_file(".", "could shrink");
}

static void test_bad_numbers_are_refused(void **state)
{
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    struct lend_memory device = {.struct_size = sizeof device,
                                 .kind = LEND_MEMORY_DEVICE,
                                 .address = (uintptr_t)memory,
                                 .length_bytes = page};
    struct lend_backing backing;
    struct lend_error error;

    (void)state;
    assert_int_equal(check(-1, 0, memory, page, &backing, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "descriptor -1"));
    assert_int_equal(check(fd, 0, memory, 0, &backing, &error), LEND_E_INVALID);
    assert_int_equal(check(fd, UINT64_MAX, memory, page, &backing, &error), LEND_E_INVALID);
    assert_int_equal(check(fd, INT64_MAX - page + 1, memory, page, &backing, &error),
                     LEND_E_INVALID);
    assert_int_equal(lend_backing_check(fd, 0, &device, &backing, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "memory of kind 3 shares no file"));
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

static void test_writers_are_the_owner_root_and_whom_the_mode_lets(void **state)
{
    struct lend_backing backing = {.owner_uid = 1000, .mode = 0755};

    (void)state;
    assert_true(lend_backing_is_writable_by(&backing, 1000));
    assert_true(lend_backing_is_writable_by(&backing, 0));
    assert_false(lend_backing_is_writable_by(&backing, 1001));
    backing.mode = 0444; /* the owner may change it */
    assert_true(lend_backing_is_writable_by(&backing, 1000));
    backing.mode = 0620;
    assert_true(lend_backing_is_writable_by(&backing, 1001));
    backing.mode = 0602;
    assert_true(lend_backing_is_writable_by(&backing, 1001));
    backing.is_closed_to_writers = true;
    assert_false(lend_backing_is_writable_by(&backing, 1001));
    assert_false(lend_backing_is_writable_by(&backing, 1000));
    assert_false(lend_backing_is_writable_by(&backing, 0));
}

static void test_seals_and_modes_are_as_the_kernel_keeps_them(void **state)
{
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    struct lend_backing backing;

    (void)state;
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(check(fd, 0, memory, page, &backing, NULL), LEND_OK);
    assert_int_equal(backing.mode, 0640);
    assert_false(backing.is_closed_to_writers);
    assert_false(lend_backing_is_writable_by(&backing, geteuid() + 1));
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    assert_int_equal(check(fd, 0, memory, page, &backing, NULL), LEND_OK);
    assert_true(backing.is_closed_to_writers);
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

/* Made up: the file is of huge pages, of which `blocks` are taken. */
static int64_t blocks;

static int file_system_of_huge(int fd, struct statfs *out)
{
    int result = lend_sys_real.file_system(fd, out);

    out->f_type = HUGETLBFS_MAGIC;
    return result;
}

static int file_stat_of_huge(int fd, struct stat *out)
{
    int result = lend_sys_real.file_stat(fd, out);

    out->st_blocks = blocks;
    return result;
}

static void test_huge_pages_are_fit_if_none_can_be_missing(void **state)
{
    struct lend_sys_ops made_up = lend_sys_real;
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);
    struct lend_backing backing;

    (void)state;
    made_up.file_system = file_system_of_huge;
    made_up.file_stat = file_stat_of_huge;
    lend_sys = &made_up;
    blocks = (int64_t)(PAGES * page / 512);
    expect_unfit(fd, memory, "could be punched out");
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    blocks--;
    expect_unfit(fd, memory, "not all taken");
    blocks++;
    assert_int_equal(check(fd, 0, memory, page, &backing, NULL), LEND_OK);
    assert_true(backing.is_huge);
    assert_true(backing.is_fit_for_mapping);
    lend_sys = &lend_sys_real;
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

static void test_storage_of_huge_pages_is_fit(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_storage *storage = NULL;
    struct lend_backing backing;
    struct lend_error error;

    (void)state;
    desc.length_bytes = 1;
    desc.flags = LEND_STORAGE_HUGE_PAGES;
    if (lend_storage_create(&desc, &storage, &error) != LEND_OK) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    assert_int_equal(check(lend_storage_fd(storage), 0, lend_storage_address(storage),
                           lend_storage_length_bytes(storage), &backing, NULL),
                     LEND_OK);
    assert_true(backing.is_huge);
    assert_string_equal(backing.why_not, "");
    assert_true(backing.is_fit_for_mapping);
    lend_storage_destroy(storage);
}

static void test_every_call_that_fails_is_told(void **state)
{
    int fd = make_file(F_SEAL_SHRINK);
    char *memory = map_pages(fd, 0, PAGES, MAP_SHARED);

    (void)state;
    for (int nth = 0;; nth++) {
        struct lend_backing backing = {0};
        struct lend_error error = {0};

        double_install(nth);
        enum lend_status status = check(fd, 0, memory, page, &backing, &error);
        if (!double_remove()) {
            assert_int_equal(status, LEND_OK);
            assert_true(nth >= 5); /* seals, stat, open, reads, file system */
            break;
        }
        if (nth == 0) { /* no seals: not fit, and that is no failure */
            assert_int_equal(status, LEND_OK);
            assert_false(backing.is_fit_for_mapping);
            assert_non_null(strstr(backing.why_not, "not a memfd"));
            continue;
        }
        assert_int_equal(status, LEND_E_SYSTEM);
        assert_int_equal(error.status, LEND_E_SYSTEM);
    }
    assert_int_equal(munmap(memory, PAGES * page), 0);
    assert_int_equal(close(fd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storage_is_fit_for_mapping),
        cmocka_unit_test(test_parts_and_neighbouring_mappings_are_good),
        cmocka_unit_test(test_memory_of_elsewhere_is_named_by_its_first_address),
        cmocka_unit_test(test_memory_behind_the_end_of_the_file_is_refused),
        cmocka_unit_test(test_file_that_could_shrink_is_not_fit),
        cmocka_unit_test(test_file_of_a_tmpfs_is_not_fit),
        cmocka_unit_test(test_file_with_a_name_is_not_fit),
        cmocka_unit_test(test_bad_numbers_are_refused),
        cmocka_unit_test(test_writers_are_the_owner_root_and_whom_the_mode_lets),
        cmocka_unit_test(test_seals_and_modes_are_as_the_kernel_keeps_them),
        cmocka_unit_test(test_huge_pages_are_fit_if_none_can_be_missing),
        cmocka_unit_test(test_storage_of_huge_pages_is_fit),
        cmocka_unit_test(test_every_call_that_fails_is_told),
    };

    page = (size_t)sysconf(_SC_PAGESIZE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
