/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: device memory is what its description says, or the answer says what it is instead and
 * where; the thread's CUDA context is as it was; no driver, an old driver and a failing one are
 * clear errors. Method: a fake driver behind the door (tests/fake/cuda.c), which knows made-up
 * allocations; the same as a libcuda.so.1 of its own beside this program, for the way through
 * dlopen. Nothing here shows what a real driver does.
 */
#include "memory/cuda.h"
#include "fake/cuda.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MIB  (UINT64_C(1) << 20)
#define BASE UINT64_C(0x7f0000000000)

static int use_fake(void **state)
{
    (void)state;
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    return 0;
}

static int use_none(void **state)
{
    (void)state;
    lend_cuda = NULL;
    assert_int_equal(fake_cuda_held(), 0);
    return 0;
}

static struct fake_cuda_allocation gpu_memory(uint64_t base, uint64_t length_bytes)
{
    return (struct fake_cuda_allocation){.base = base,
                                         .length_bytes = length_bytes,
                                         .buffer_id = 40 + base / MIB % 100,
                                         .type = LEND_CUDA_MEMORY_DEVICE,
                                         .ordinal = 1};
}

static struct lend_verify ask(uint64_t address, uint64_t length_bytes)
{
    return (struct lend_verify){
        .memory = {.struct_size = sizeof(struct lend_memory),
                   .kind = LEND_MEMORY_DEVICE,
                   .address = address,
                   .length_bytes = length_bytes,
                   .device = 1},
        .needs_write = true,
    };
}

static void refuse(struct lend_verify item, enum lend_status status, const char *message)
{
    assert_int_equal(lend_memory_verify(NULL, &item, 1), status);
    assert_int_equal(item.status, status);
    assert_int_equal(item.error.status, status);
    assert_string_equal(item.error.message, message);
    assert_true(fake_cuda_held() == 0);
}

static void test_memory_of_a_gpu_is_good(void **state)
{
    const struct fake_cuda_allocation allocation = gpu_memory(BASE, 2 * MIB);
    struct lend_verify items[] = {ask(BASE, 2 * MIB), ask(BASE + 5, 1), ask(BASE + MIB, MIB)};

    (void)state;
    fake_cuda_add(&allocation);
    assert_int_equal(lend_memory_verify(NULL, items, 3), LEND_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i].status, LEND_OK);
        assert_true(items[i].buffer_id == allocation.buffer_id);
        assert_true(items[i].allocation == BASE);
    }
    /* It belongs to a context: that one was made current, and no other was made. */
    assert_int_equal(fake_cuda_calls("cuCtxPushCurrent"), 3);
    assert_int_equal(fake_cuda_calls("cuDevicePrimaryCtxRetain"), 0);
}

static void test_chunks_that_touch_are_walked(void **state)
{
    struct lend_verify item = ask(BASE + MIB, 4 * MIB);

    (void)state;
    for (uint64_t chunk = 0; chunk < 3; chunk++) {
        struct fake_cuda_allocation allocation = gpu_memory(BASE + chunk * 2 * MIB, 2 * MIB);

        allocation.is_contextless = 1;
        fake_cuda_add(&allocation);
    }
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_true(item.allocation == BASE);
    assert_true(item.buffer_id == gpu_memory(BASE, 1).buffer_id);
    assert_int_equal(fake_cuda_calls("cuMemGetAddressRange"), 3);
    /* It belongs to none: the primary context of its device served, and was given back. */
    assert_int_equal(fake_cuda_calls("cuDevicePrimaryCtxRetain"), 1);
    assert_int_equal(fake_cuda_calls("cuDevicePrimaryCtxRelease"), 1);
}

static void test_what_it_is_instead_is_said(void **state)
{
    struct fake_cuda_allocation allocation;

    (void)state;
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is not memory that the CUDA driver knows");
    allocation = gpu_memory(BASE, MIB), allocation.type = LEND_CUDA_MEMORY_HOST;
    fake_cuda_add(&allocation);
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is pinned host memory, not memory of a GPU; "
           "describe it with lend_memory_pinned()");
    fake_cuda_reset();
    allocation = gpu_memory(BASE, MIB), allocation.is_managed = 1;
    fake_cuda_add(&allocation);
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is managed memory, which may move between GPU and "
           "host; allocate it with cudaMalloc");
    fake_cuda_reset();
    allocation = gpu_memory(BASE, MIB), allocation.ordinal = 0;
    fake_cuda_add(&allocation);
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is memory of GPU 0, not of GPU 1");
    fake_cuda_reset();
    allocation = gpu_memory(BASE, MIB), allocation.is_reserved = 1;
    fake_cuda_add(&allocation);
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is a reserved address without memory behind it");
    fake_cuda_reset();
    allocation = gpu_memory(BASE, MIB), allocation.type = 4;
    fake_cuda_add(&allocation);
    refuse(ask(BASE, MIB), LEND_E_MEMORY,
           "0x7f0000000000 (byte 0 of 1048576) is memory of CUDA type 4, not memory of a GPU");
}

static void test_range_beyond_its_allocation_is_refused_at_the_offset(void **state)
{
    const struct fake_cuda_allocation first = gpu_memory(BASE, 2 * MIB);
    const struct fake_cuda_allocation second = gpu_memory(BASE + 3 * MIB, MIB);
    struct fake_cuda_allocation third = gpu_memory(BASE + 4 * MIB, MIB);

    (void)state;
    third.ordinal = 0;
    fake_cuda_add(&first);
    fake_cuda_add(&second);
    fake_cuda_add(&third);
    refuse(ask(BASE, 2 * MIB + 1), LEND_E_MEMORY,
           "0x7f0000200000 (byte 2097152 of 2097153) is not memory that the CUDA driver knows");
    /* A hole in the middle, a chunk of another GPU at the end. */
    refuse(ask(BASE + MIB, 3 * MIB), LEND_E_MEMORY,
           "0x7f0000200000 (byte 1048576 of 3145728) is not memory that the CUDA driver knows");
    refuse(ask(BASE + 3 * MIB, 2 * MIB), LEND_E_MEMORY,
           "0x7f0000400000 (byte 1048576 of 2097152) is memory of GPU 0, not of GPU 1");
}

static void test_every_function_that_fails_is_told(void **state)
{
    static const struct {
        const char *function;
        const char *message;
    } cases[] = {
        {"cuInit", "cuInit: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuPointerGetAttributes",
         "cuPointerGetAttributes: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuDeviceGet", "cuDeviceGet: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuDevicePrimaryCtxRetain",
         "cuDevicePrimaryCtxRetain: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuCtxPushCurrent", "cuCtxPushCurrent: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuMemGetAddressRange",
         "cuMemGetAddressRange: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuCtxPopCurrent", "cuCtxPopCurrent: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
        {"cuDevicePrimaryCtxRelease",
         "cuDevicePrimaryCtxRelease: the CUDA driver says CUDA_ERROR_NOT_FOUND (500)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake_cuda_allocation allocation = gpu_memory(BASE, MIB);
        struct lend_verify item = ask(BASE, MIB);

        fake_cuda_reset();
        allocation.is_contextless = 1;
        fake_cuda_add(&allocation);
        fake_cuda_fail(cases[i].function, LEND_CUDA_ERROR_NOT_FOUND);
        assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_E_DEVICE);
        assert_int_equal(item.error.device_code, LEND_CUDA_ERROR_NOT_FOUND);
        refuse(item, LEND_E_DEVICE, cases[i].message);
    }
}

static void test_errors_without_a_name_keep_their_number(void **state)
{
    (void)state;
    fake_cuda_fail("cuInit", 12345);
    refuse(ask(BASE, MIB), LEND_E_DEVICE,
           "cuInit: the CUDA driver says an error without a name (12345)");
}

static void test_no_gpu_is_unsupported(void **state)
{
    (void)state;
    fake_cuda_fail("cuInit", LEND_CUDA_ERROR_NO_DEVICE);
    refuse(ask(BASE, MIB), LEND_E_UNSUPPORTED,
           "the CUDA driver finds no GPU (see nvidia-smi, CUDA_VISIBLE_DEVICES)");
}

static void test_ranges_that_cannot_be_are_not_believed(void **state)
{
    static const struct {
        uint64_t base, length_bytes;
    } lies[] = {
        {BASE + 1, MIB},         /* begins behind the address */
        {BASE - MIB, MIB},       /* ends before it */
        {BASE, UINT64_MAX - 10}, /* wraps */
    };
    const struct fake_cuda_allocation allocation = gpu_memory(BASE, MIB);

    (void)state;
    fake_cuda_add(&allocation);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct lend_verify item = ask(BASE, MIB);

        fake_cuda_lie(lies[i].base, lies[i].length_bytes);
        assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_E_DEVICE);
        assert_non_null(strstr(item.error.message, "which it does not"));
        assert_int_equal(fake_cuda_held(), 0);
    }
}

static void test_host_memory_needs_no_driver(void **state)
{
    char bytes[100] = {0};
    struct lend_verify item = ask((uintptr_t)bytes, sizeof bytes);

    (void)state;
    item.memory.kind = LEND_MEMORY_PINNED;
    item.memory.device = 0;
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_int_equal(fake_cuda_calls("cuInit"), 0);
}

static void test_absent_library_is_named_with_its_remedy(void **state)
{
    struct lend_cuda_ops ops;
    struct lend_error error;

    (void)state;
    memset(&ops, 0, sizeof ops);
    assert_int_equal(lend_cuda_load("liblend-no-such.so.1", &ops, &error), LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "liblend-no-such.so.1: cannot open shared object file"));
    assert_non_null(strstr(error.message, "needs the NVIDIA driver's library"));
    assert_null(ops.init);
}

static void test_library_without_our_functions_is_refused(void **state)
{
    struct lend_cuda_ops ops;
    struct lend_error error;

    (void)state;
    memset(&ops, 0, sizeof ops);
    assert_int_equal(lend_cuda_load("libc.so.6", &ops, &error), LEND_E_UNSUPPORTED);
    assert_string_equal(error.message, "libc.so.6 has no function cuInit; install the NVIDIA "
                                       "driver of CUDA 11.0 or later");
    assert_null(ops.init);
}

/* The fake as a library, which lies beside this program. */
static void *open_fake_library(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "libcuda.so.1");

    assert_true(length > 0);
    path[length] = '\0';
    (void)snprintf(strrchr(path, '/') + 1, sizeof "libcuda.so.1", "libcuda.so.1");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fail_msg("%s: build it too (tests/fake/cuda.c)", dlerror());
    return library;
}

static void test_library_is_opened_on_first_need(void **state)
{
    /* Opened by its path, it is what the name libcuda.so.1 stands for from now on. */
    void *library = open_fake_library();
    void (*reset)(void);
    void (*add)(const struct fake_cuda_allocation *allocation);
    int (*calls)(const char *function);
    const struct fake_cuda_allocation allocation = gpu_memory(BASE, MIB);
    struct lend_verify item = ask(BASE, MIB);

    (void)state;
    *(void **)&reset = dlsym(library, "fake_cuda_reset");
    *(void **)&add = dlsym(library, "fake_cuda_add");
    *(void **)&calls = dlsym(library, "fake_cuda_calls");
    assert_true(reset != NULL && add != NULL && calls != NULL);
    reset();
    add(&allocation);
    lend_cuda = NULL;
    assert_int_equal(calls("cuInit"), 0);
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_true(item.buffer_id == allocation.buffer_id);
    assert_int_equal(calls("cuInit"), 1);
    assert_int_equal(calls("cuMemGetAddressRange"), 1);
    assert_int_equal(fake_cuda_calls("cuInit"), 0); /* the one that is linked in */
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_int_equal(dlclose(library), 0); /* lend holds it open */
    assert_int_equal(lend_memory_verify(NULL, &item, 1), LEND_OK);
    assert_int_equal(calls("cuMemGetAddressRange"), 3);
}

#define FAKED(test) cmocka_unit_test_setup_teardown(test, use_fake, use_none)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKED(test_memory_of_a_gpu_is_good),
        FAKED(test_chunks_that_touch_are_walked),
        FAKED(test_what_it_is_instead_is_said),
        FAKED(test_range_beyond_its_allocation_is_refused_at_the_offset),
        FAKED(test_every_function_that_fails_is_told),
        FAKED(test_errors_without_a_name_keep_their_number),
        FAKED(test_no_gpu_is_unsupported),
        FAKED(test_ranges_that_cannot_be_are_not_believed),
        FAKED(test_host_memory_needs_no_driver),
        FAKED(test_absent_library_is_named_with_its_remedy),
        FAKED(test_library_without_our_functions_is_refused),
        FAKED(test_library_is_opened_on_first_need),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
