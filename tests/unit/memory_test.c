/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a description holds what was said, says so in every way there is, and nonsense is never
 * described. Method: each kind through each getter; each rule of the numbers at its border.
 */
#include <lend/memory.h>

#include "memory/verify.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

_Static_assert(sizeof(struct lend_memory) == 32, "frozen: other languages allocate it");
_Static_assert(sizeof(struct lend_transfer_descriptor) == 24, "frozen: as above");

#define AT(address) ((const void *)(uintptr_t)(address))

static void test_system_memory_is_described(void **state)
{
    struct lend_memory memory;
    struct lend_error error = {0};
    char bytes[10] = {0};

    (void)state;
    assert_int_equal(lend_memory_system(bytes, sizeof bytes, &memory, &error), LEND_OK);
    assert_int_equal(memory.struct_size, sizeof memory);
    assert_true(lend_memory_address(&memory) == (uintptr_t)bytes);
    assert_int_equal(lend_memory_length_bytes(&memory), sizeof bytes);
    assert_int_equal(lend_memory_storage_kind(&memory), LEND_MEMORY_SYSTEM);
    assert_int_equal(lend_memory_device_id(&memory), 0);
    assert_int_equal(memory.is_registered, 0);
    assert_int_equal(error.status, 0);
}

static void test_each_kind_answers_to_its_own_predicate(void **state)
{
    struct lend_memory memory[4];

    (void)state;
    assert_int_equal(lend_memory_system(AT(4096), 1, &memory[0], NULL), LEND_OK);
    assert_int_equal(lend_memory_pinned(AT(4096), 1, &memory[1], NULL), LEND_OK);
    assert_int_equal(lend_memory_device(4096, 1, 3, &memory[2], NULL), LEND_OK);
    assert_int_equal(lend_memory_disk(5, 0, 1, &memory[3], NULL), LEND_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lend_memory_is_system(&memory[i]), i == 0);
        assert_int_equal(lend_memory_is_pinned(&memory[i]), i == 1);
        assert_int_equal(lend_memory_is_device(&memory[i]), i == 2);
        assert_int_equal(lend_memory_is_disk(&memory[i]), i == 3);
        assert_int_equal(lend_memory_is_host(&memory[i]), i < 2);
    }
    assert_int_equal(lend_memory_device_id(&memory[2]), 3);
    assert_int_equal(lend_memory_device_id(&memory[3]), 5);
}

static void test_getters_bear_null(void **state)
{
    char text[16];

    (void)state;
    assert_true(lend_memory_address(NULL) == 0);
    assert_true(lend_memory_length_bytes(NULL) == 0);
    assert_int_equal(lend_memory_storage_kind(NULL), 0);
    assert_int_equal(lend_memory_device_id(NULL), -1);
    assert_int_equal(lend_memory_is_system(NULL), 0);
    assert_int_equal(lend_memory_is_pinned(NULL), 0);
    assert_int_equal(lend_memory_is_device(NULL), 0);
    assert_int_equal(lend_memory_is_disk(NULL), 0);
    assert_int_equal(lend_memory_is_host(NULL), 0);
    assert_int_equal(lend_memory_format(NULL, text, sizeof text), 6);
    assert_string_equal(text, "(none)");
}

static void expect_invalid(enum lend_status status, const struct lend_error *error,
                           const char *message)
{
    assert_int_equal(status, LEND_E_INVALID);
    assert_int_equal(error->status, LEND_E_INVALID);
    assert_string_equal(error->message, message);
}

static void test_impossible_ranges_are_refused(void **state)
{
    struct lend_memory memory, before;
    struct lend_error error;

    (void)state;
    memset(&memory, 0x5a, sizeof memory);
    before = memory;
    expect_invalid(lend_memory_system(NULL, 1, &memory, &error), &error,
                   "memory at address 0 (null)");
    expect_invalid(lend_memory_pinned(NULL, 1, &memory, &error), &error,
                   "memory at address 0 (null)");
    expect_invalid(lend_memory_device(0, 1, 0, &memory, &error), &error,
                   "memory at address 0 (null)");
    expect_invalid(lend_memory_system(AT(4096), 0, &memory, &error), &error,
                   "memory at 0x1000 has a length of 0 bytes");
    expect_invalid(lend_memory_disk(3, 0, 0, &memory, &error), &error,
                   "memory at 0x0 has a length of 0 bytes");
    expect_invalid(lend_memory_system(AT(4096), LEND_MEMORY_BYTES_MAX + 1, &memory, &error), &error,
                   "memory at 0x1000 of 70368744177665 bytes is over the limit of 70368744177664");
    expect_invalid(lend_memory_system(AT(4096), UINT64_MAX, &memory, &error), &error,
                   "memory at 0x1000 of 18446744073709551615 bytes is over the limit of "
                   "70368744177664");
    expect_invalid(lend_memory_device(UINT64_MAX - 9, 11, 0, &memory, &error), &error,
                   "memory at 0xfffffffffffffff6 of 11 bytes wraps around the end of addresses");
    expect_invalid(lend_memory_disk(3, INT64_MAX, 1, &memory, &error), &error,
                   "memory at 0x7fffffffffffffff of 1 bytes wraps around the end of addresses");
    expect_invalid(lend_memory_device(4096, 1, -1, &memory, &error), &error,
                   "device -1 of GPU memory");
    expect_invalid(lend_memory_disk(-1, 0, 1, &memory, &error), &error, "device -1 of file memory");
    expect_invalid(lend_memory_system(AT(4096), 1, NULL, &error), &error,
                   "nowhere to put the description: out is NULL");
    assert_int_equal(lend_memory_system(NULL, 1, &memory, NULL), LEND_E_INVALID);
    assert_memory_equal(&memory, &before, sizeof memory);
}

static void test_ranges_at_the_border_are_accepted(void **state)
{
    struct lend_memory memory;

    (void)state;
    assert_int_equal(lend_memory_system(AT(1), LEND_MEMORY_BYTES_MAX, &memory, NULL), LEND_OK);
    assert_int_equal(lend_memory_device(UINT64_MAX - 9, 9, 0, &memory, NULL), LEND_OK);
    assert_int_equal(lend_memory_disk(0, INT64_MAX - 1, 1, &memory, NULL), LEND_OK);
}

static void test_descriptions_made_by_hand_are_checked(void **state)
{
    struct lend_memory good, memory;
    struct lend_error error;

    (void)state;
    assert_int_equal(lend_memory_system(AT(4096), 1, &good, NULL), LEND_OK);
    assert_int_equal(lend_memory_check(&good, &error), LEND_OK);
    memory = good;
    memory.struct_size = 24;
    assert_int_equal(lend_memory_check(&memory, &error), LEND_E_VERSION);
    assert_string_equal(error.message, "struct lend_memory of 24 bytes, expected 32");
    memory = good;
    memory.kind = 0;
    expect_invalid(lend_memory_check(&memory, &error), &error, "unknown kind of memory, 0");
    memory.kind = 5;
    expect_invalid(lend_memory_check(&memory, &error), &error, "unknown kind of memory, 5");
    memory = good;
    memory.device = 1;
    expect_invalid(lend_memory_check(&memory, &error), &error, "device 1 of host memory");
}

static void test_descriptor_exists_once_registered(void **state)
{
    struct lend_memory memory;
    struct lend_transfer_descriptor descriptor = {.address = 7};
    struct lend_error error;

    (void)state;
    assert_int_equal(lend_memory_device(8192, 100, 2, &memory, NULL), LEND_OK);
    assert_int_equal(lend_memory_descriptor(&memory, &descriptor, &error), LEND_E_ABSENT);
    assert_string_equal(error.message, "memory at 0x2000 is not registered by this description; "
                                       "take that of lend_region_memory()");
    assert_int_equal(descriptor.address, 7);
    memory.is_registered = 1;
    assert_int_equal(lend_memory_descriptor(&memory, &descriptor, &error), LEND_OK);
    assert_int_equal(descriptor.address, 8192);
    assert_int_equal(descriptor.length_bytes, 100);
    assert_int_equal(descriptor.memory_type, LEND_MEMORY_TYPE_VRAM);
    assert_int_equal(descriptor.device_id, 2);

    memory.kind = LEND_MEMORY_DISK;
    assert_int_equal(lend_memory_descriptor(&memory, &descriptor, &error), LEND_OK);
    assert_int_equal(descriptor.memory_type, LEND_MEMORY_TYPE_FILE);
    memory.device = 0;
    for (uint32_t kind = LEND_MEMORY_SYSTEM; kind <= LEND_MEMORY_PINNED; kind++) {
        memory.kind = kind;
        assert_int_equal(lend_memory_descriptor(&memory, &descriptor, &error), LEND_OK);
        assert_int_equal(descriptor.memory_type, LEND_MEMORY_TYPE_DRAM);
        assert_int_equal(descriptor.device_id, 0);
    }
    expect_invalid(lend_memory_descriptor(NULL, &descriptor, &error), &error, "memory is NULL");
    expect_invalid(lend_memory_descriptor(&memory, NULL, &error), &error, "out is NULL");
    memory.kind = 77;
    expect_invalid(lend_memory_descriptor(&memory, &descriptor, &error), &error,
                   "unknown kind of memory, 77");
}

static void test_printable_form(void **state)
{
    struct lend_memory memory;
    char text[64];

    (void)state;
    assert_int_equal(lend_memory_device(UINT64_C(0x7f0012000000), 65536, 0, &memory, NULL),
                     LEND_OK);
    assert_int_equal(lend_memory_format(&memory, text, sizeof text), 30);
    assert_string_equal(text, "Device(0) 0x7f0012000000+65536");
    memory.kind = LEND_MEMORY_DISK, memory.device = 12;
    (void)lend_memory_format(&memory, text, sizeof text);
    assert_string_equal(text, "Disk(12) 0x7f0012000000+65536");
    memory.kind = LEND_MEMORY_PINNED;
    (void)lend_memory_format(&memory, text, sizeof text);
    assert_string_equal(text, "Pinned 0x7f0012000000+65536");
    memory.kind = LEND_MEMORY_SYSTEM, memory.is_registered = 1;
    (void)lend_memory_format(&memory, text, sizeof text);
    assert_string_equal(text, "System 0x7f0012000000+65536, registered");
    memory.kind = 9;
    (void)lend_memory_format(&memory, text, sizeof text);
    assert_string_equal(text, "Kind(9) 0x7f0012000000+65536, registered");
}

static void test_printable_form_is_cut_and_measured(void **state)
{
    struct lend_memory memory;
    char text[8];

    (void)state;
    assert_int_equal(lend_memory_system(AT(4096), 1, &memory, NULL), LEND_OK);
    assert_int_equal(lend_memory_format(&memory, NULL, 0), strlen("System 0x1000+1"));
    memset(text, 'x', sizeof text);
    assert_int_equal(lend_memory_format(&memory, text, 7), strlen("System 0x1000+1"));
    assert_string_equal(text, "System");
    assert_int_equal(text[7], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system_memory_is_described),
        cmocka_unit_test(test_each_kind_answers_to_its_own_predicate),
        cmocka_unit_test(test_getters_bear_null),
        cmocka_unit_test(test_impossible_ranges_are_refused),
        cmocka_unit_test(test_ranges_at_the_border_are_accepted),
        cmocka_unit_test(test_descriptions_made_by_hand_are_checked),
        cmocka_unit_test(test_descriptor_exists_once_registered),
        cmocka_unit_test(test_printable_form),
        cmocka_unit_test(test_printable_form_is_cut_and_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
