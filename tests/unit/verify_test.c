/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: host memory is what its description says, or the first bad address is named; one look at
 * the list of mappings serves any number of ranges; a list that cannot be had or read is an error.
 * Method: real mappings with holes and without rights; then lists made up, fed in pieces of every
 * size through a double that counts the looks; ranges at random against a map of pages.
 */
#include "memory/verify.h"
#include "base/error.h"
#include "base/sys.h"
#include "double.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { PAGE = 4096, PAGES = 16, MADE_UP_FD = 1000000 };

static struct lend_verify ask(uint64_t address, uint64_t length_bytes, bool needs_write)
{
    return (struct lend_verify){
        .memory = {.struct_size = sizeof(struct lend_memory),
                   .kind = LEND_MEMORY_SYSTEM,
                   .address = address,
                   .length_bytes = length_bytes},
        .needs_write = needs_write,
        .buffer_id = 7,
        .allocation = 7,
        .status = LEND_E_STALE,
    };
}

static uint64_t map_pages(int rights)
{
    void *pages = mmap(NULL, PAGES * PAGE, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(pages, MAP_FAILED);
    return (uintptr_t)pages;
}

static void *at(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static void expect_message(const struct lend_verify *item, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void expect_message(const struct lend_verify *item, const char *format, ...)
{
    char wanted[240];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(wanted, sizeof wanted, format, args);
    va_end(args);
    assert_int_equal(item->status, LEND_E_MEMORY);
    assert_int_equal(item->error.status, LEND_E_MEMORY);
    assert_string_equal(item->error.message, wanted);
}

static void test_mapped_memory_is_good(void **state)
{
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);
    struct lend_verify items[] = {
        ask(pages, PAGES * PAGE, true),
        ask(pages + 1, 1, false),
        ask(pages + PAGES * PAGE - 1, 1, true),
    };

    (void)state;
    items[1].memory.kind = LEND_MEMORY_PINNED;
    assert_int_equal(lend_memory_verify(NULL, items, 3), LEND_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i].status, LEND_OK);
        assert_int_equal(items[i].error.status, LEND_OK);
        assert_true(items[i].buffer_id == 0);
        assert_true(items[i].allocation == 0);
    }
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

static void test_no_items_are_no_look(void **state)
{
    (void)state;
    double_install(0);
    assert_int_equal(lend_memory_verify(NULL, NULL, 0), LEND_OK);
    assert_false(double_remove());
}

static void test_neighbouring_mappings_cover_a_range_together(void **state)
{
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);
    struct lend_verify item = ask(pages + 100, PAGES * PAGE - 200, false);

    (void)state;
    /* Other rights make other mappings. */
    assert_int_equal(mprotect(at(pages + 4 * PAGE), PAGE, PROT_READ), 0);
    assert_int_equal(mprotect(at(pages + 9 * PAGE), PAGE, PROT_READ | PROT_EXEC), 0);
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

static void test_hole_is_named_by_its_first_address(void **state)
{
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);
    struct lend_verify items[] = {
        ask(pages + 100, PAGES * PAGE - 100, false), /* over the hole */
        ask(pages + 5 * PAGE + 1, 10, false),        /* in it */
        ask(pages + 4 * PAGE, PAGE + 1, false),      /* one byte into it */
        ask(pages + 4 * PAGE, PAGE, false),          /* up to it */
        ask(pages + 7 * PAGE, PAGE, true),           /* from its end on */
    };

    (void)state;
    assert_int_equal(munmap(at(pages + 5 * PAGE), 2 * PAGE), 0);
    assert_int_equal(lend_memory_verify(NULL, items, 5), LEND_E_MEMORY);
    expect_message(&items[0], "0x%llx (byte %d of %d) is not mapped in this process",
                   (unsigned long long)(pages + 5 * PAGE), 5 * PAGE - 100, PAGES * PAGE - 100);
    expect_message(&items[1], "0x%llx (byte 0 of 10) is not mapped in this process",
                   (unsigned long long)(pages + 5 * PAGE + 1));
    expect_message(&items[2], "0x%llx (byte %d of %d) is not mapped in this process",
                   (unsigned long long)(pages + 5 * PAGE), PAGE, PAGE + 1);
    assert_int_equal(items[3].status, LEND_OK);
    assert_int_equal(items[4].status, LEND_OK);
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

static void test_addresses_beyond_all_mappings_are_not_mapped(void **state)
{
    struct lend_verify items[] = {
        ask(1, 10, false),
        ask(UINT64_C(0xffffffffffffe000), 8, false), /* behind the last line */
        ask(UINT64_C(0xffff800000000000), PAGE, false),
    };

    (void)state;
    assert_int_equal(lend_memory_verify(NULL, items, 3), LEND_E_MEMORY);
    expect_message(&items[0], "0x1 (byte 0 of 10) is not mapped in this process");
    expect_message(&items[1], "0xffffffffffffe000 (byte 0 of 8) is not mapped in this process");
    expect_message(&items[2], "0xffff800000000000 (byte 0 of 4096) is not mapped in this process");
}

static void test_missing_rights_are_named(void **state)
{
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);
    unsigned long long third = pages + 3 * PAGE, sixth = pages + 6 * PAGE;
    struct lend_verify items[] = {
        ask(pages, 4 * PAGE, true),
        ask(pages, 4 * PAGE, false),
        ask(pages + 5 * PAGE, 2 * PAGE, false),
    };

    (void)state;
    assert_int_equal(mprotect(at(third), PAGE, PROT_READ), 0);
    assert_int_equal(mprotect(at(sixth), PAGE, PROT_NONE), 0);
    assert_int_equal(lend_memory_verify(NULL, items, 3), LEND_E_MEMORY);
    expect_message(&items[0],
                   "0x%llx (byte 12288 of 16384) is mapped r--p at 0x%llx-0x%llx: not writable, "
                   "and it is to be lent for writing",
                   third, third, third + PAGE);
    assert_int_equal(items[1].status, LEND_OK);
    expect_message(&items[2],
                   "0x%llx (byte 4096 of 8192) is mapped ---p at 0x%llx-0x%llx: not readable "
                   "(memory of a GPU is described with lend_memory_device())",
                   sixth, sixth, sixth + PAGE);
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

static void test_bad_numbers_are_found_before_the_kernel_is_asked(void **state)
{
    struct lend_verify items[] = {ask(0, 1, false), ask(PAGE, 0, false), ask(PAGE, 1, false),
                                  ask(PAGE, 1, false)};

    (void)state;
    items[2].memory.kind = 99;
    items[3].memory.struct_size = 1;
    double_install(0);
    assert_int_equal(lend_memory_verify(NULL, items, 4), LEND_E_INVALID);
    assert_false(double_remove());
    assert_int_equal(items[0].status, LEND_E_INVALID);
    assert_int_equal(items[1].status, LEND_E_INVALID);
    assert_int_equal(items[2].status, LEND_E_INVALID);
    assert_int_equal(items[3].status, LEND_E_VERSION);
}

static void test_files_are_not_lent_yet(void **state)
{
    struct lend_verify item = ask(0, PAGE, false);

    (void)state;
    item.memory.kind = LEND_MEMORY_DISK;
    item.memory.device = 3;
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_E_UNSUPPORTED);
    assert_string_equal(item.error.message,
                        "file descriptor 3: this build lends no memory of files");
}

static void test_first_failure_in_order_is_returned_and_the_good_ones_stay_good(void **state)
{
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);
    struct lend_verify items[] = {ask(pages, PAGE, true), ask(1, 1, false), ask(pages, 0, false),
                                  ask(pages, PAGE, false)};

    (void)state;
    assert_int_equal(lend_memory_verify(NULL, items, 4), LEND_E_MEMORY);
    assert_int_equal(items[0].status, LEND_OK);
    assert_int_equal(items[2].status, LEND_E_INVALID);
    assert_int_equal(items[3].status, LEND_OK);
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

static void test_every_call_that_fails_is_told(void **state)
{
    static const enum lend_status expected[] = {LEND_E_NO_MEMORY, LEND_E_NO_MEMORY, LEND_E_SYSTEM,
                                                LEND_E_SYSTEM};
    static const char *const messages[] = {
        "no memory to verify 65 ranges of host memory",
        "no memory to verify 65 ranges of host memory",
        "opening /proc/self/maps: Too many open files",
        "reading /proc/self/maps: Input/output error",
    };
    uint64_t pages = map_pages(PROT_READ | PROT_WRITE);

    (void)state;
    /* For few, nothing is allocated. */
    for (uint32_t count = 2, first = 2; count <= 65; count += 63, first -= 2) {
        for (uint32_t nth = 0;; nth++) {
            struct lend_verify items[65];

            for (uint32_t i = 0; i < count; i++)
                items[i] = ask(pages + i % 2 * PAGE, PAGE, true);
            double_install((int)nth);
            enum lend_status status = lend_memory_verify(NULL, items, count);
            if (!double_remove()) {
                assert_int_equal(status, LEND_OK);
                assert_true(nth >= 4 - first);
                break;
            }
            uint32_t which = nth + first < 4 ? nth + first : 3; /* any later one is another read */
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(items[i].status, expected[which]);
                assert_string_equal(items[i].error.message, messages[which]);
            }
            assert_int_equal(status, expected[which]);
        }
    }
    assert_int_equal(munmap(at(pages), PAGES * PAGE), 0);
}

/* A list of mappings that we make up, given out in pieces of piece_bytes; counts the looks. */
static const char *list;
static size_t piece_bytes;
static int looks;

static int open_list(const char *path)
{
    assert_string_equal(path, "/proc/self/maps");
    looks++;
    return MADE_UP_FD;
}

static ssize_t read_list(int fd, void *bytes, size_t count)
{
    size_t given = strnlen(list, count < piece_bytes ? count : piece_bytes);

    assert_int_equal(fd, MADE_UP_FD);
    memcpy(bytes, list, given);
    list += given;
    return (ssize_t)given;
}

static void close_list(int fd)
{
    assert_int_equal(fd, MADE_UP_FD);
    looks += 1000;
}

static enum lend_status verify_by(const char *text, size_t piece, struct lend_verify *items,
                                  uint32_t count)
{
    struct lend_sys_ops made_up = lend_sys_real;

    made_up.open_read = open_list;
    made_up.read = read_list;
    made_up.close = close_list;
    list = text;
    piece_bytes = piece;
    looks = 0;
    lend_sys = &made_up;
    enum lend_status status = lend_memory_verify(NULL, items, count);
    lend_sys = &lend_sys_real;
    assert_int_equal(looks, 1001); /* opened once, closed once */
    return status;
}

static void test_list_may_come_in_pieces_of_any_size(void **state)
{
    static const char text[] =
        "10000-12000 rw-p 00000000 00:00 0 \n"
        "12000-13000 r--s 00001000 fe:01 1234                       /a path/with spaces - and\n"
        "7fff00000000-7fff00001000 rwxp 00000000 00:00 0            [stack]\n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]\n";

    (void)state;
    for (size_t piece = 1; piece <= sizeof text; piece++) {
        struct lend_verify items[] = {
            ask(0x7fff00000000, PAGE, true),
            ask(0x10000, 0x3000, false),
            ask(0x10000, 0x3000, true),
            ask(0x12fff, 2, false),
            ask(UINT64_C(0xffffffffff600000), 1, false),
        };

        assert_int_equal(verify_by(text, piece, items, 5), LEND_E_MEMORY);
        assert_int_equal(items[0].status, LEND_OK);
        assert_int_equal(items[1].status, LEND_OK);
        expect_message(&items[2],
                       "0x12000 (byte 8192 of 12288) is mapped r--s at 0x12000-0x13000: not "
                       "writable, and it is to be lent for writing");
        expect_message(&items[3], "0x13000 (byte 1 of 2) is not mapped in this process");
        expect_message(&items[4],
                       "0xffffffffff600000 (byte 0 of 1) is mapped --xp at "
                       "0xffffffffff600000-0xffffffffff601000: not readable (memory of a GPU is "
                       "described with lend_memory_device())");
    }
}

static void test_list_that_is_none_is_an_error(void **state)
{
    static const char *const texts[] = {
        "nonsense\n",
        "1000\n",
        "1000-2000\n",
        "1000-2000 r\nwxp\n",
        "1000-20x0 rw-p 0\n",
        "-2000 rw-p\n\n",
        "\n",
        "1000-2000 rw-p 0\n",
        "1000-2000 rw-p 0 0 0\n",
        "1000-2000 rw-p 0 0:0 f \n",
        "1000-2000 rw-pp 0 0:0 0\n",
        "1000-2000 rw-p 0 0:0\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct lend_verify item = ask(0x5000, 1, false);

        assert_int_equal(verify_by(texts[i], 100, &item, 1), LEND_E_SYSTEM);
        assert_int_equal(item.error.status, LEND_E_SYSTEM);
        assert_non_null(strstr(item.error.message, "that is none of a mapping"));
    }
    struct lend_verify item = ask(0x5000, 1, false);
    assert_int_equal(verify_by("", 100, &item, 1), LEND_E_MEMORY);
}

static void test_list_is_read_no_further_than_it_must(void **state)
{
    struct lend_verify item = ask(0x10000, 1, false);

    (void)state;
    assert_int_equal(verify_by("10000-11000 r--p 0 0:0 0\nnonsense\n", 100, &item, 1), LEND_OK);
}

/* --- a kernel that answers for single addresses --- */

static int mapping_count;
static int question_count;

/* Mappings of a page at every other page from page 16 on, the third of them read-only. */
static int answer(int fd, uint64_t address, struct lend_sys_mapping *out)
{
    uint64_t index = address < 16 * PAGE ? 0 : (address / PAGE - 16 + 1) / 2;

    assert_int_equal(fd, MADE_UP_FD);
    question_count++;
    if (index >= (uint64_t)mapping_count)
        return -ENOENT;
    *out = (struct lend_sys_mapping){
        .start = (16 + index * 2) * PAGE, .end = (17 + index * 2) * PAGE, .rights = "rw-p"};
    if (index == 2)
        out->rights[1] = '-';
    return 0;
}

static enum lend_status verify_by_questions(struct lend_verify *items, uint32_t count)
{
    struct lend_sys_ops made_up = lend_sys_real;

    made_up.open_read = open_list;
    made_up.mapping = answer;
    made_up.close = close_list;
    looks = question_count = 0;
    lend_sys = &made_up;
    enum lend_status status = lend_memory_verify(NULL, items, count);
    lend_sys = &lend_sys_real;
    assert_int_equal(looks, 1001);
    return status;
}

static void test_few_ranges_ask_for_their_own_mappings_alone(void **state)
{
    struct lend_verify good[] = {ask(22 * PAGE, PAGE, true), ask(16 * PAGE + 8, 100, true),
                                 ask(20 * PAGE, PAGE, false), ask(22 * PAGE + 1, 1, true)};
    struct lend_verify bad[] = {ask(20 * PAGE, PAGE, true), ask(16 * PAGE, 2 * PAGE, false),
                                ask(17 * PAGE, 1, false),   ask(10, 1, false),
                                ask(22 * PAGE, PAGE, true), ask(5000 * PAGE, 1, false)};

    (void)state;
    mapping_count = 1000;
    assert_int_equal(verify_by_questions(good, 4), LEND_OK);
    assert_int_equal(question_count, 3); /* of a thousand mappings */
    assert_int_equal(verify_by_questions(bad, 6), LEND_E_MEMORY);
    for (int i = 0; i < 6; i++)
        assert_int_equal(bad[i].status, i == 4 ? LEND_OK : LEND_E_MEMORY);
    assert_non_null(strstr(bad[0].error.message, "not writable"));
    assert_non_null(strstr(bad[1].error.message, "(byte 4096 of 8192) is not mapped"));
}

static int real_looks;

static int open_counted(const char *path)
{
    real_looks++;
    return lend_sys_real.open_read(path);
}

static void test_ten_thousand_ranges_take_one_look(void **state)
{
    enum { COUNT = 10000 };
    struct lend_verify *items = calloc(COUNT, sizeof *items);
    struct lend_sys_ops counting = lend_sys_real;
    char *memory = mmap(NULL, (size_t)COUNT * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    (void)state;
    assert_non_null(items);
    assert_ptr_not_equal(memory, MAP_FAILED);
    /* Many mappings: every other hundred of pages has other rights. */
    for (size_t i = 0; i < COUNT; i += 200)
        assert_int_equal(mprotect(memory + i * PAGE, 100 * PAGE, PROT_READ), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        items[i] = ask((uintptr_t)memory + (uint64_t)((i * 7919u) % COUNT) * PAGE, PAGE, false);
    counting.open_read = open_counted;
    real_looks = 0;
    lend_sys = &counting;
    enum lend_status status = lend_memory_verify(NULL, items, COUNT);
    lend_sys = &lend_sys_real;
    assert_int_equal(status, LEND_OK);
    assert_int_equal(real_looks, 1);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(items[i].status, LEND_OK);
    assert_int_equal(munmap(memory, (size_t)COUNT * PAGE), 0);
    free(items);
}

/* Pages of a made-up process: 0 not mapped, 1 read, 2 read and write, 3 neither. */
enum { MAP_PAGES = 64, MAP_BASE = 0x100000, ROUNDS = 300, RANGES = 40 };

static void print_list(const uint8_t *map, char *text, size_t capacity)
{
    static const char *const rights[] = {"", "r--p", "rw-p", "---p"};
    size_t used = 0;

    text[0] = '\0';
    for (int page = 0; page < MAP_PAGES; page++) {
        if (map[page] == 0)
            continue;
        used += (size_t)snprintf(text + used, capacity - used, "%x-%x %s 00000000 00:00 0\n",
                                 MAP_BASE + page * PAGE, MAP_BASE + (page + 1) * PAGE,
                                 rights[map[page]]);
    }
    assert_true(used < capacity);
}

/* The first byte of the range that is not as wanted, by looking at every page; its end if none. */
static uint64_t first_bad(const uint8_t *map, const struct lend_verify *item)
{
    uint64_t end = item->memory.address + item->memory.length_bytes;

    for (uint64_t next = item->memory.address; next < end; next = (next / PAGE + 1) * PAGE) {
        uint8_t page = map[(next - MAP_BASE) / PAGE];

        if (page == 0 || page == 3 || (page == 1 && item->needs_write))
            return next;
    }
    return end;
}

static void test_random_ranges_agree_with_a_map_of_pages(void **state)
{
    unsigned dice = 1, good = 0, bad = 0;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t map[MAP_PAGES + 1] = {0};
        char text[MAP_PAGES * 64];
        struct lend_verify items[RANGES];

        for (int page = 0; page < MAP_PAGES; page++) {
            dice = dice * 1664525 + 1013904223;
            map[page] = (dice >> 16) % 12 == 0 ? (uint8_t)((dice >> 24) % 4) : 2;
        }
        print_list(map, text, sizeof text);
        for (int i = 0; i < RANGES; i++) {
            dice = dice * 1664525 + 1013904223;
            uint64_t start = (dice >> 8) % (MAP_PAGES * PAGE - 1);
            dice = dice * 1664525 + 1013904223;
            uint64_t length = 1 + (dice >> 8) % (MAP_PAGES * PAGE - start) / (1 + dice % 7);
            items[i] = ask(MAP_BASE + start, length, dice >> 31);
        }
        (void)verify_by(text, 1 + (dice >> 10) % 5000, items, RANGES);
        for (int i = 0; i < RANGES; i++) {
            uint64_t where = first_bad(map, &items[i]);
            bool is_good = where == items[i].memory.address + items[i].memory.length_bytes;
            char prefix[32];

            (void)snprintf(prefix, sizeof prefix, "0x%llx (byte", (unsigned long long)where);
            assert_int_equal(items[i].status, is_good ? LEND_OK : LEND_E_MEMORY);
            if (!is_good)
                assert_memory_equal(items[i].error.message, prefix, strlen(prefix));
            good += is_good;
            bad += !is_good;
        }
    }
    assert_true(good > 1000 && bad > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapped_memory_is_good),
        cmocka_unit_test(test_no_items_are_no_look),
        cmocka_unit_test(test_neighbouring_mappings_cover_a_range_together),
        cmocka_unit_test(test_hole_is_named_by_its_first_address),
        cmocka_unit_test(test_addresses_beyond_all_mappings_are_not_mapped),
        cmocka_unit_test(test_missing_rights_are_named),
        cmocka_unit_test(test_bad_numbers_are_found_before_the_kernel_is_asked),
        cmocka_unit_test(test_files_are_not_lent_yet),
        cmocka_unit_test(test_first_failure_in_order_is_returned_and_the_good_ones_stay_good),
        cmocka_unit_test(test_every_call_that_fails_is_told),
        cmocka_unit_test(test_list_may_come_in_pieces_of_any_size),
        cmocka_unit_test(test_list_that_is_none_is_an_error),
        cmocka_unit_test(test_list_is_read_no_further_than_it_must),
        cmocka_unit_test(test_few_ranges_ask_for_their_own_mappings_alone),
        cmocka_unit_test(test_ten_thousand_ranges_take_one_look),
        cmocka_unit_test(test_random_ranges_agree_with_a_map_of_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
