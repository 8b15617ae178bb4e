/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a NIC, the kernel or the driver of a GPU refuses is said with its cause and remedy,
 * and memory of a GPU is registered by the best way that there is.
 * Method: a fake libibverbs with two NICs, and a fake CUDA driver. Files of /proc are a double's,
 * where limits are the matter.
 */
#include "verbs_stub.h"

#include <fcntl.h>

/* --- refusals --- */

static void test_one_nic_that_refuses_leaves_the_other(void **state)
{
    struct stage stage;
    struct lend_error why;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    fake_verbs.fail_register_at = 0;
    fake_verbs.failure = EINVAL;
    struct lend_verbs_region *region = put(&stage, host(0, 1, LEND_VERBS_MAY_READ));
    assert_false(lend_verbs_region_keys(region, 0, (uintptr_t)memory, 8, &keys));
    assert_true(lend_verbs_region_refusal(region, 0, &why));
    assert_int_equal(why.status, LEND_E_MEMORY);
    assert_non_null(strstr(why.message, "fake0 takes no such memory"));
    assert_false(lend_verbs_region_refusal(region, 1, &why));
    (void)keys_at(region, 1, (uintptr_t)memory, 8);
    close_stage(&stage);
}

static void test_what_the_kernel_refuses_is_said_with_its_cause(void **state)
{
    const struct {
        int number;
        uint32_t rights;
        enum lend_status status;
        const char *words;
    } rows[] = {
        {EFAULT, LEND_VERBS_MAY_LAND, LEND_E_MEMORY, "cannot be pinned for writing"},
        {EFAULT, LEND_VERBS_MAY_READ, LEND_E_MEMORY, "before Linux 6.2"},
        {EINVAL, LEND_VERBS_MAY_READ, LEND_E_MEMORY, "takes no such memory"},
        {EOPNOTSUPP, LEND_VERBS_MAY_READ, LEND_E_MEMORY, "takes no such memory"},
        {EIO, LEND_VERBS_MAY_READ, LEND_E_DEVICE, "registering 0x"},
        {EPERM, LEND_VERBS_MAY_READ, LEND_E_SYSTEM, "registering 0x"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage stage;

        fake_verbs_reset();
        open_nics(&stage);
        open_store(&stage);
        fake_verbs.devices[1].regions_max = 0; /* so that none takes it */
        fake_verbs.fail_register_at = 0;
        fake_verbs.failure = rows[i].number;
        assert_int_equal(refuse(&stage, host(0, 1, rows[i].rights)), rows[i].status);
        assert_non_null(strstr(stage.error.message, rows[i].words));
        assert_non_null(strstr(stage.error.message, "fake0"));
        close_stage(&stage);
    }
}

/* --- limits on locked memory: a double of two files of /proc --- */

static const char *proc_limits, *proc_status;
static const char *proc_next;

static int open_proc(const char *path)
{
    if (strcmp(path, "/proc/self/limits") == 0)
        proc_next = proc_limits;
    else if (strcmp(path, "/proc/self/status") == 0)
        proc_next = proc_status;
    else
        return -ENOENT;
    return proc_next != NULL ? 1000000 : -ENOENT;
}

static ssize_t read_proc(int fd, void *bytes, size_t count)
{
    size_t length = strlen(proc_next);

    assert_int_equal(fd, 1000000);
    if (length > 7) /* in small pieces, as it may come */
        length = 7;
    if (length > count)
        length = count;
    memcpy(bytes, proc_next, length);
    proc_next += length;
    return (ssize_t)length;
}

static void close_proc(int fd)
{
    assert_int_equal(fd, 1000000);
}

static void put_proc(const char *limits, const char *status)
{
    static struct lend_sys_ops ops;

    ops = lend_sys_real;
    ops.open_read = open_proc;
    ops.read = read_proc;
    ops.close = close_proc;
    proc_limits = limits;
    proc_status = status;
    lend_sys = &ops;
}

static void test_limit_on_locked_memory_is_checked_and_named_with_the_remedy(void **state)
{
    static const char limits[] = "Limit     Soft Limit   Hard Limit  Units\n"
                                 "Max locked memory         8192         65536       bytes\n";
    const struct {
        const char *limits, *status;
        enum lend_status expected;
    } rows[] = {
        {limits, "VmPin:\t       0 kB\nCapEff:\t0000000000000000\n", LEND_OK},
        {limits, "VmPin:\t       4 kB\nCapEff:\t0000000000000000\n", LEND_E_LIMIT},
        {limits, "VmPin:\t    9000 kB\nCapEff:\t0000000000000000\n", LEND_E_LIMIT},
        {limits, "VmPin:\t    9000 kB\nCapEff:\t0000000000004000\n", LEND_OK}, /* CAP_IPC_LOCK */
        {"Max locked memory         unlimited   unlimited   bytes\n", "VmPin: 9000 kB\n", LEND_OK},
        {NULL, NULL, LEND_OK}, /* no /proc: the kernel will say */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage stage;

        fake_verbs_reset();
        open_nics(&stage);
        open_store(&stage);
        put_proc(rows[i].limits, rows[i].status);
        if (rows[i].expected == LEND_OK)
            (void)put(&stage, host(0, 2, LEND_VERBS_MAY_READ));
        else
            assert_int_equal(refuse(&stage, host(0, 2, LEND_VERBS_MAY_READ)), LEND_E_LIMIT);
        lend_sys = &lend_sys_real;
        if (i == 1)
            assert_string_equal(stage.error.message,
                                "registering 8192 bytes needs locked memory, and RLIMIT_MEMLOCK is "
                                "8192 with 4096 pinned: raise it (ulimit -l unlimited; "
                                "LimitMEMLOCK=infinity; docker --ulimit memlock=-1) or give "
                                "CAP_IPC_LOCK");
        close_stage(&stage);
    }
}

static void test_kernel_without_memory_names_the_limits_that_it_may_mean(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    fake_verbs.devices[0].regions_max = fake_verbs.devices[1].regions_max = 0;
    put_proc("Max locked memory  unlimited unlimited bytes\n", "CapEff:\t0\n");
    assert_int_equal(refuse(&stage, host(0, 2, LEND_VERBS_MAY_READ)), LEND_E_LIMIT);
    assert_string_equal(stage.error.message,
                        "fake0: no room for 8192 more bytes: its 4096 memory regions, locked "
                        "memory (RLIMIT_MEMLOCK, in a user namespace too), or the kernel's memory");
    lend_sys = &lend_sys_real;
    close_stage(&stage);
}

/* --- device memory --- */

static void test_device_memory_is_exported_once_for_all_nics(void **state)
{
    struct stage stage;

    (void)state;
    put_device_memory();
    open_nics(&stage);
    open_store(&stage);
    /* Not at the beginning of a page. */
    struct lend_verbs_region *region = put(&stage, device(PAGE + 512, 1000, LEND_VERBS_MAY_READ));
    assert_int_equal(fake_cuda_calls("cuMemGetHandleForAddressRange"), 1);
    assert_int_equal(fake_verbs.last_offset, 512);
    for (uint32_t i = 0; i < NICS; i++) {
        struct lend_error why;

        assert_int_equal(lend_verbs_region_means(region, i), LEND_VERBS_BY_DMA_BUF);
        assert_false(lend_verbs_region_refusal(region, i, &why));
    }
    assert_int_equal(keys_at(region, 0, DEVICE_BASE + PAGE + 512, 1000).bytes, 1000);
    assert_int_equal(fcntl(fake_verbs.last_fd, F_GETFD), -1); /* closed: the NICs hold it */
    assert_int_equal(fake_cuda_held(), 0);
    close_stage(&stage);
}

static void test_export_by_pcie_is_tried_after_the_default(void **state)
{
    struct stage stage;

    (void)state;
    put_device_memory();
    fake_cuda_refuse_exports(1 << 0);
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, device(0, PAGE, LEND_VERBS_MAY_READ));
    assert_int_equal(fake_cuda_calls("cuMemGetHandleForAddressRange"), 2);
    assert_int_equal(lend_verbs_region_means(region, 0), LEND_VERBS_BY_DMA_BUF);
    close_stage(&stage);
}

static void test_dma_buf_that_takes_no_windows_is_registered_without(void **state)
{
    struct stage stage;

    (void)state;
    put_device_memory();
    fake_verbs.devices[0].refuses_dma_buf_windows = true;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region =
        put(&stage, device(0, PAGE, LEND_VERBS_MAY_READ | LEND_VERBS_MAY_WRITE));
    assert_int_equal(lend_verbs_region_means(region, 0), LEND_VERBS_BY_DMA_BUF);
    assert_false(lend_verbs_region_can_bind(region, 0));
    assert_true(lend_verbs_region_can_bind(region, 1));
    close_stage(&stage);
}

static void test_peer_memory_is_the_second_best_and_says_why(void **state)
{
    struct stage stage;
    struct lend_error why;

    (void)state;
    put_device_memory();
    fake_verbs.devices[0].has_dma_buf = false;
    fake_verbs.devices[0].has_peer_memory = true;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, device(0, PAGE, LEND_VERBS_MAY_READ));
    assert_int_equal(lend_verbs_region_means(region, 0), LEND_VERBS_BY_PEER_MEMORY);
    assert_true(lend_verbs_region_refusal(region, 0, &why));
    assert_non_null(strstr(why.message, "fake0 takes no dma-buf"));
    assert_int_equal(lend_verbs_region_means(region, 1), LEND_VERBS_BY_DMA_BUF);
    close_stage(&stage);
}

static void test_device_memory_that_no_way_leads_to_is_refused_with_both_reasons(void **state)
{
    struct stage stage;

    (void)state;
    put_device_memory();
    fake_cuda_refuse_exports(3);
    open_nics(&stage);
    open_store(&stage);
    assert_int_equal(refuse(&stage, device(0, PAGE, LEND_VERBS_MAY_READ)), LEND_E_UNSUPPORTED);
    assert_non_null(strstr(stage.error.message, "cuMemGetHandleForAddressRange"));
    assert_non_null(strstr(stage.error.message, "; and kernel module nvidia_peermem is not"));
    close_stage(&stage);
}

static void test_driver_without_exports_is_named(void **state)
{
    struct stage stage;
    struct lend_cuda_ops old = fake_cuda_ops;

    (void)state;
    old.memory_get_handle = NULL;
    lend_cuda = &old;
    put_device_memory();
    open_nics(&stage);
    open_store(&stage);
    assert_int_equal(refuse(&stage, device(0, PAGE, LEND_VERBS_MAY_READ)), LEND_E_UNSUPPORTED);
    assert_non_null(
        strstr(stage.error.message, "exports no memory as dma-buf (it needs CUDA 11.7)"));
    close_stage(&stage);
}

static void test_allocation_of_device_memory_is_the_drivers_answer(void **state)
{
    struct lend_verbs_memory what = device(PAGE, PAGE, LEND_VERBS_MAY_READ);
    struct lend_verbs_memory chunks = device(PAGE, sizeof device_bytes, LEND_VERBS_MAY_READ);
    struct lend_verbs_memory none = device(sizeof device_bytes, PAGE, LEND_VERBS_MAY_READ);
    struct lend_error error = {0};

    (void)state;
    put_device_memory();
    assert_int_equal(lend_verbs_allocation(&what, &error), LEND_OK);
    assert_int_equal(what.allocation_address, DEVICE_BASE);
    assert_int_equal(what.allocation_bytes, sizeof device_bytes);
    assert_int_equal(lend_verbs_allocation(&chunks, &error), LEND_OK);
    assert_int_equal(chunks.allocation_bytes, 0); /* beyond the first: by itself */
    assert_int_equal(lend_verbs_allocation(&none, &error), LEND_E_DEVICE);
    assert_int_equal(fake_cuda_held(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_nic_that_refuses_leaves_the_other),
        TEST(test_what_the_kernel_refuses_is_said_with_its_cause),
        TEST(test_limit_on_locked_memory_is_checked_and_named_with_the_remedy),
        TEST(test_kernel_without_memory_names_the_limits_that_it_may_mean),
        TEST(test_device_memory_is_exported_once_for_all_nics),
        TEST(test_export_by_pcie_is_tried_after_the_default),
        TEST(test_dma_buf_that_takes_no_windows_is_registered_without),
        TEST(test_peer_memory_is_the_second_best_and_says_why),
        TEST(test_device_memory_that_no_way_leads_to_is_refused_with_both_reasons),
        TEST(test_driver_without_exports_is_named),
        TEST(test_allocation_of_device_memory_is_the_drivers_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
