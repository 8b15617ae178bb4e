/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory is known to the NICs by as few keys as can be, with no right more than it was lent
 * for; a key that was taken back reaches nothing; what is refused is explained; nothing leaks.
 * Method: a fake libibverbs with two NICs, which checks rights and counts what it gave, and a fake
 * CUDA driver for device memory. Files of /proc are a double's, where limits are the matter.
 */
#include "base/sys.h"
#include "double.h"
#include "fake/cuda.h"
#include "fake/verbs.h"
#include "memory/cuda.h"
#include "transport/verbs/registration.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { PAGE = 4096, NICS = 2 };
#define DEVICE_BASE UINT64_C(0x7f0000200000)

static _Alignas(PAGE) uint8_t memory[16 * PAGE];
static uint8_t device_bytes[16 * PAGE];

struct stage {
    struct lend_verbs_nic *nics[NICS];
    struct lend_verbs_store *store;
    struct lend_error error;
};

static void open_nics(struct stage *stage)
{
    memset(stage, 0, sizeof *stage);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0", &stage->nics[0], &stage->error),
                     LEND_OK);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake1", &stage->nics[1], &stage->error),
                     LEND_OK);
}

static void open_store(struct stage *stage)
{
    assert_int_equal(
        lend_verbs_store_open(&fake_verbs_ops, stage->nics, NICS, &stage->store, &stage->error),
        LEND_OK);
    fake_verbs.registrations = 0;
    fake_verbs.fail_at = -1;
}

static void close_nics(struct stage *stage)
{
    for (int i = 0; i < NICS; i++)
        assert_int_equal(lend_verbs_nic_close(stage->nics[i], &stage->error), LEND_OK);
    assert_int_equal(fake_verbs_kept(), 0);
}

static void close_stage(struct stage *stage)
{
    assert_int_equal(lend_verbs_store_close(stage->store, &stage->error), LEND_OK);
    close_nics(stage);
}

static int set_up(void **state)
{
    (void)state;
    fake_verbs_reset();
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lend_cuda = NULL;
    lend_sys = &lend_sys_real;
    fake_cuda_reset();
    return 0;
}

static struct lend_verbs_memory host(uint32_t first, uint32_t pages, uint32_t rights)
{
    return (struct lend_verbs_memory){.address = (uintptr_t)memory + first * (uint64_t)PAGE,
                                      .bytes = pages * (uint64_t)PAGE,
                                      .kind = LEND_MEMORY_SYSTEM,
                                      .rights = rights};
}

static struct lend_verbs_memory within(struct lend_verbs_memory memory_, uint32_t pages)
{
    memory_.allocation_address = (uintptr_t)memory;
    memory_.allocation_bytes = pages * (uint64_t)PAGE;
    return memory_;
}

static struct lend_verbs_region *put(struct stage *stage, struct lend_verbs_memory what)
{
    struct lend_verbs_region *region = NULL;

    assert_int_equal(lend_verbs_region_register(stage->store, &what, &region, &stage->error),
                     LEND_OK);
    return region;
}

static enum lend_status refuse(struct stage *stage, struct lend_verbs_memory what)
{
    struct lend_verbs_region *region = NULL;
    enum lend_status status =
        lend_verbs_region_register(stage->store, &what, &region, &stage->error);

    assert_null(region);
    assert_int_equal(stage->error.status, status);
    return status;
}

static struct lend_verbs_keys keys_at(const struct lend_verbs_region *region, uint32_t nic,
                                      uint64_t address, uint64_t bytes)
{
    struct lend_verbs_keys keys = {0};

    assert_true(lend_verbs_region_keys(region, nic, address, bytes, &keys));
    assert_int_equal(keys.address, address);
    assert_true(keys.bytes > 0 && keys.bytes <= bytes);
    assert_int_equal(keys.rkey, keys.mr->rkey);
    return keys;
}

/* Does a NIC know that key still? */
static bool is_known(const struct stage *stage, uint32_t rkey)
{
    return fake_verbs_knows(stage->nics[0]->context, rkey) ||
           fake_verbs_knows(stage->nics[1]->context, rkey);
}

/* --- rights --- */

static void test_rights_are_those_that_the_memory_was_lent_with(void **state)
{
    const unsigned relaxed = LEND_VERBS_RELAXED_ORDERING;
    const struct {
        uint32_t rights;
        unsigned access;
    } rows[] = {
        {LEND_VERBS_MAY_READ, LEND_VERBS_REMOTE_READ | relaxed},
        {LEND_VERBS_MAY_LAND, LEND_VERBS_LOCAL_WRITE | relaxed},
        {LEND_VERBS_MAY_WRITE, LEND_VERBS_LOCAL_WRITE | LEND_VERBS_BIND | relaxed},
        {LEND_VERBS_MAY_READ | LEND_VERBS_IS_ORDERED, LEND_VERBS_REMOTE_READ},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage stage;

        fake_verbs_reset();
        open_nics(&stage);
        open_store(&stage);
        struct lend_verbs_region *region = put(&stage, host(0, 1, rows[i].rights));
        assert_int_equal(fake_verbs.last_access, rows[i].access);
        assert_int_equal(fake_verbs.last_access & LEND_VERBS_REMOTE_WRITE, 0);
        assert_int_equal(lend_verbs_region_can_bind(region, 0),
                         (rows[i].access & LEND_VERBS_BIND) != 0);
        close_stage(&stage);
    }
}

static void test_nic_without_windows_is_not_asked_to_bind_them(void **state)
{
    struct stage stage;

    (void)state;
    fake_verbs.devices[1].capabilities = 0;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(0, 1, LEND_VERBS_MAY_WRITE));
    assert_true(lend_verbs_region_can_bind(region, 0));
    assert_false(lend_verbs_region_can_bind(region, 1));
    assert_int_equal(lend_verbs_region_means(region, 1), LEND_VERBS_BY_PAGES);
    close_stage(&stage);
}

/* --- sharing --- */

static void test_regions_of_an_allocation_share_its_registration(void **state)
{
    struct stage stage;
    struct lend_verbs_region *regions[8];

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    for (uint32_t i = 0; i < 8; i++) {
        regions[i] = put(&stage, within(host(2 * i, 1, LEND_VERBS_MAY_READ), 16));
        assert_int_equal(lend_verbs_region_life(regions[i]), 1);
    }
    assert_int_equal(fake_verbs.registrations, NICS); /* one each */
    assert_int_equal(keys_at(regions[0], 0, (uintptr_t)memory, 1).rkey,
                     keys_at(regions[7], 0, (uintptr_t)memory + 14 * PAGE, 1).rkey);
    assert_int_not_equal(keys_at(regions[0], 0, (uintptr_t)memory, 1).rkey,
                         keys_at(regions[0], 1, (uintptr_t)memory, 1).rkey);
    close_stage(&stage);
}

static void test_registration_is_not_shared_with_rights_that_it_has_not(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    (void)put(&stage, host(0, 4, LEND_VERBS_MAY_READ | LEND_VERBS_MAY_LAND));
    (void)put(&stage, host(1, 1, LEND_VERBS_MAY_LAND));
    assert_int_equal(fake_verbs.mrs, NICS);
    (void)put(&stage, host(1, 1, LEND_VERBS_MAY_WRITE));
    assert_int_equal(fake_verbs.mrs, 2 * NICS);
    (void)put(&stage, host(3, 2, LEND_VERBS_MAY_READ)); /* half outside */
    assert_int_equal(fake_verbs.mrs, 3 * NICS);
    (void)put(&stage, host(1, 1, LEND_VERBS_MAY_READ | LEND_VERBS_IS_ORDERED));
    assert_int_equal(fake_verbs.mrs, 4 * NICS);
    close_stage(&stage);
}

static void test_ordered_registration_is_nobody_elses(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    (void)put(&stage, host(0, 4, LEND_VERBS_MAY_READ | LEND_VERBS_IS_ORDERED));
    (void)put(&stage, host(1, 1, LEND_VERBS_MAY_READ));
    assert_int_equal(fake_verbs.mrs, 2 * NICS);
    close_stage(&stage);
}

/* --- taking back --- */

static void test_withdrawn_region_is_reached_by_no_key(void **state)
{
    struct stage stage;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(0, 2, LEND_VERBS_MAY_READ));
    uint32_t rkey = keys_at(region, 0, (uintptr_t)memory, 8).rkey;
    assert_true(is_known(&stage, rkey));
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_OK);
    assert_false(is_known(&stage, rkey));
    assert_int_equal(fake_verbs.mrs, 0);
    assert_false(lend_verbs_region_keys(region, 0, (uintptr_t)memory, 8, &keys));
    assert_int_equal(lend_verbs_region_means(region, 0), 0);
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_OK); /* again */
    assert_int_equal(lend_verbs_region_renew(region, &stage.error), LEND_E_REVOKED);
    assert_int_equal(lend_verbs_region_release(region, &stage.error), LEND_OK);
    close_stage(&stage);
}

static void test_neighbours_of_a_withdrawn_region_get_keys_that_do_not_reach_it(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *one = put(&stage, within(host(0, 1, LEND_VERBS_MAY_READ), 16));
    struct lend_verbs_region *other = put(&stage, within(host(4, 2, LEND_VERBS_MAY_READ), 16));
    struct lend_verbs_region *third = put(&stage, within(host(8, 1, LEND_VERBS_MAY_READ), 16));
    uint32_t old = keys_at(other, 1, (uintptr_t)memory + 4 * PAGE, 8).rkey;

    assert_int_equal(lend_verbs_region_withdraw(one, &stage.error), LEND_OK);
    assert_false(is_known(&stage, old));
    assert_int_equal(lend_verbs_region_life(other), 2);
    struct lend_verbs_keys fresh = keys_at(other, 1, (uintptr_t)memory + 4 * PAGE, 8);
    assert_int_not_equal(fresh.rkey, old);
    assert_ptr_equal(fresh.mr->addr, memory + 4 * PAGE);
    assert_int_equal(fresh.mr->length, 2 * PAGE);
    assert_int_not_equal(fresh.rkey, keys_at(third, 1, (uintptr_t)memory + 8 * PAGE, 8).rkey);

    /* From here on each is alone. */
    assert_int_equal(lend_verbs_region_withdraw(third, &stage.error), LEND_OK);
    assert_int_equal(lend_verbs_region_life(other), 2);
    close_stage(&stage);
}

static void test_neighbour_that_cannot_be_registered_anew_says_why_and_may_try_again(void **state)
{
    struct stage stage;
    struct lend_error why;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *one = put(&stage, within(host(0, 1, LEND_VERBS_MAY_READ), 16));
    struct lend_verbs_region *other = put(&stage, within(host(4, 2, LEND_VERBS_MAY_READ), 16));
    fake_verbs.devices[0].regions_max = fake_verbs.devices[1].regions_max = 0;
    assert_int_equal(lend_verbs_region_withdraw(one, &stage.error), LEND_OK);
    assert_false(lend_verbs_region_keys(other, 0, (uintptr_t)memory + 4 * PAGE, 8, &keys));
    assert_true(lend_verbs_region_refusal(other, 0, &why));
    assert_int_equal(why.status, LEND_E_LIMIT);
    assert_int_equal(lend_verbs_region_renew(other, &stage.error), LEND_E_LIMIT);

    fake_verbs.devices[0].regions_max = fake_verbs.devices[1].regions_max = 16;
    uint64_t life = lend_verbs_region_life(other);
    assert_int_equal(lend_verbs_region_renew(other, &stage.error), LEND_OK);
    assert_int_equal(lend_verbs_region_life(other), life + 1);
    (void)keys_at(other, 0, (uintptr_t)memory + 4 * PAGE, 8);
    close_stage(&stage);
}

static void test_nic_that_does_not_let_go_is_named_and_asked_again(void **state)
{
    struct stage stage;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(0, 1, LEND_VERBS_MAY_READ));
    fake_verbs.deregister_errno = EBUSY;
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_E_BUSY);
    assert_non_null(strstr(stage.error.message, "fake0 still holds 0x"));
    assert_non_null(strstr(stage.error.message, "memory windows are bound to it"));
    assert_false(lend_verbs_region_keys(region, 0, (uintptr_t)memory, 8, &keys));
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_E_BUSY);
    fake_verbs.deregister_errno = 0;
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_OK);
    assert_int_equal(fake_verbs.mrs, 0);
    close_stage(&stage);
}

static void test_released_region_that_a_nic_holds_is_tried_with_the_next(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(0, 1, LEND_VERBS_MAY_READ));
    struct lend_verbs_region *next = put(&stage, host(2, 1, LEND_VERBS_MAY_READ));
    fake_verbs.deregister_errno = EIO;
    assert_int_equal(lend_verbs_region_release(region, &stage.error), LEND_E_BUSY);
    assert_int_equal(fake_verbs.mrs, 2 * NICS);
    fake_verbs.deregister_errno = 0;
    assert_int_equal(lend_verbs_region_release(next, &stage.error), LEND_OK);
    assert_int_equal(fake_verbs.mrs, 0);
    close_stage(&stage);
}

static void test_store_that_a_nic_holds_says_so_at_its_end(void **state)
{
    struct stage stage;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    (void)put(&stage, host(0, 1, LEND_VERBS_MAY_READ));
    fake_verbs.deregister_errno = EIO;
    assert_int_equal(lend_verbs_store_close(stage.store, &stage.error), LEND_E_BUSY);
    assert_non_null(strstr(stage.error.message, "returned errno 5"));
    for (int i = 0; i < NICS; i++) {
        assert_int_equal(lend_verbs_nic_close(stage.nics[i], &stage.error), LEND_E_SYSTEM);
        assert_non_null(strstr(stage.error.message, "giving its protection domain back"));
    }
    fake_verbs_abandon();
    assert_int_equal(fake_verbs_kept(), 0);
}

/* --- pieces --- */

static void test_range_above_the_nics_limit_is_registered_in_pieces(void **state)
{
    struct stage stage;
    const uint64_t start = (uintptr_t)memory + 100, bytes = 7 * PAGE;
    uint64_t done = 0, count = 0;

    (void)state;
    fake_verbs.devices[1].region_bytes_max = 3 * PAGE + 17;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region =
        put(&stage, (struct lend_verbs_memory){.address = start,
                                               .bytes = bytes,
                                               .kind = LEND_MEMORY_SYSTEM,
                                               .rights = LEND_VERBS_MAY_READ});
    assert_int_equal(keys_at(region, 0, start, bytes).bytes, bytes);
    for (; done < bytes; count++) {
        struct lend_verbs_keys keys = keys_at(region, 1, start + done, bytes - done);

        assert_true(keys.mr->length <= 3 * PAGE + 17);
        assert_true(start + done >= (uintptr_t)keys.mr->addr);
        assert_true(start + done + keys.bytes <= (uintptr_t)keys.mr->addr + keys.mr->length);
        done += keys.bytes;
    }
    assert_int_equal(done, bytes);
    assert_int_equal(count, 3);
    assert_int_equal(fake_verbs.mrs, 1 + 3);
    close_stage(&stage);
}

static void test_range_of_too_many_pieces_is_refused(void **state)
{
    struct stage stage;
    struct lend_verbs_memory huge = host(0, 1, LEND_VERBS_MAY_READ);

    (void)state;
    fake_verbs.devices[0].region_bytes_max = fake_verbs.devices[1].region_bytes_max = PAGE;
    open_nics(&stage);
    open_store(&stage);
    huge.bytes = UINT64_C(65537) * PAGE;
    assert_int_equal(refuse(&stage, huge), LEND_E_LIMIT);
    assert_non_null(strstr(stage.error.message, "fake0 takes 4096 bytes a memory region"));
    close_stage(&stage);
}

static void test_message_is_no_longer_than_a_gibibyte(void **state)
{
    struct stage stage;
    struct lend_verbs_memory huge = host(0, 1, LEND_VERBS_MAY_READ);

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    huge.bytes = UINT64_C(5) << 30;
    struct lend_verbs_region *region = put(&stage, huge);
    assert_int_equal(keys_at(region, 0, huge.address, huge.bytes).bytes, 1 << 30);
    close_stage(&stage);
}

static void test_keys_are_of_the_region_alone(void **state)
{
    struct stage stage;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, within(host(4, 2, LEND_VERBS_MAY_READ), 16));
    const uint64_t start = (uintptr_t)memory + 4 * PAGE;
    assert_false(lend_verbs_region_keys(region, 0, start - 1, 8, &keys));
    assert_false(lend_verbs_region_keys(region, 0, start + 2 * PAGE, 8, &keys));
    assert_false(lend_verbs_region_keys(region, NICS, start, 8, &keys));
    assert_int_equal(keys_at(region, 0, start + 2 * PAGE - 5, 8).bytes, 5);
    close_stage(&stage);
}

static void test_memory_that_is_nowhere_is_refused(void **state)
{
    struct stage stage;
    struct lend_verbs_memory none = host(0, 0, LEND_VERBS_MAY_READ), over = none, outside = none;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    assert_int_equal(refuse(&stage, none), LEND_E_INVALID);
    over.address = UINT64_MAX - 10;
    over.bytes = 12;
    assert_int_equal(refuse(&stage, over), LEND_E_INVALID);
    outside = within(host(3, 2, LEND_VERBS_MAY_READ), 4);
    assert_int_equal(refuse(&stage, outside), LEND_E_INVALID);
    assert_non_null(strstr(stage.error.message, "does not lie in its allocation"));
    close_stage(&stage);
}

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

static struct lend_verbs_memory device(uint64_t offset, uint64_t bytes, uint32_t rights)
{
    return (struct lend_verbs_memory){.address = DEVICE_BASE + offset,
                                      .bytes = bytes,
                                      .kind = LEND_MEMORY_DEVICE,
                                      .rights = rights};
}

static void put_device_memory(void)
{
    fake_cuda_add(&(struct fake_cuda_allocation){.base = DEVICE_BASE,
                                                 .length_bytes = sizeof device_bytes,
                                                 .buffer_id = 7,
                                                 .type = LEND_CUDA_MEMORY_DEVICE,
                                                 .bytes = device_bytes});
}

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

/* --- private ones --- */

static void test_private_registration_carries_the_right_to_write_for_its_range_alone(void **state)
{
    struct stage stage;
    struct lend_verbs_private *private = NULL;
    struct lend_verbs_keys keys;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(0, 8, LEND_VERBS_MAY_WRITE));
    const uint64_t start = (uintptr_t)memory + PAGE + 64;
    assert_int_equal(lend_verbs_private_begin(region, 1, start, 128, &private, &stage.error),
                     LEND_OK);
    assert_true((fake_verbs.last_access & LEND_VERBS_REMOTE_WRITE) != 0);
    assert_true(lend_verbs_private_keys(private, start, 4096, &keys));
    assert_int_equal(keys.bytes, 128);
    assert_int_equal(keys.mr->length, 128);
    assert_false(lend_verbs_private_keys(private, start + 128, 1, &keys));

    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_E_BUSY);
    assert_string_equal(stage.error.message,
                        "1 private registrations of blocks lent for writing are there");
    fake_verbs.deregister_errno = EBUSY;
    assert_int_equal(lend_verbs_private_end(private, &stage.error), LEND_E_BUSY);
    fake_verbs.deregister_errno = 0;
    uint32_t rkey = keys.rkey;
    assert_int_equal(lend_verbs_private_end(private, &stage.error), LEND_OK);
    assert_false(is_known(&stage, rkey));
    assert_int_equal(lend_verbs_region_withdraw(region, &stage.error), LEND_OK);
    assert_int_equal(lend_verbs_private_begin(region, 1, start, 128, &private, &stage.error),
                     LEND_E_REVOKED);
    close_stage(&stage);
}

static void test_private_registration_lies_in_its_region(void **state)
{
    struct stage stage;
    struct lend_verbs_private *private = NULL;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    struct lend_verbs_region *region = put(&stage, host(1, 2, LEND_VERBS_MAY_WRITE));
    struct lend_verbs_region *readable = put(&stage, host(4, 2, LEND_VERBS_MAY_READ));
    const uint64_t start = (uintptr_t)memory + PAGE;
    assert_int_equal(lend_verbs_private_begin(region, 0, start - 1, 8, &private, &stage.error),
                     LEND_E_OUT_OF_RANGE);
    assert_int_equal(
        lend_verbs_private_begin(region, 0, start + PAGE, PAGE + 1, &private, &stage.error),
        LEND_E_OUT_OF_RANGE);
    assert_int_equal(lend_verbs_private_begin(readable, 0, (uintptr_t)memory + 4 * PAGE, 8,
                                              &private, &stage.error),
                     LEND_E_ACCESS);
    assert_int_equal(fake_verbs.mrs, 2 * NICS);
    close_stage(&stage);
}

/* --- faults --- */

/* All that one does with the store, with host and device memory. */
static enum lend_status scenario(struct stage *stage)
{
    struct lend_verbs_region *regions[3] = {0};
    struct lend_verbs_private *private = NULL;
    const struct lend_verbs_memory what[3] = {
        within(host(0, 4, LEND_VERBS_MAY_READ | LEND_VERBS_MAY_WRITE), 16),
        within(host(8, 4, LEND_VERBS_MAY_READ), 16), device(PAGE, PAGE, LEND_VERBS_MAY_READ)};
    enum lend_status status =
        lend_verbs_store_open(&fake_verbs_ops, stage->nics, NICS, &stage->store, &stage->error);

    for (int i = 0; i < 3 && status == LEND_OK; i++)
        status = lend_verbs_region_register(stage->store, &what[i], &regions[i], &stage->error);
    if (status == LEND_OK)
        status = lend_verbs_private_begin(regions[0], 1, (uintptr_t)memory, PAGE, &private,
                                          &stage->error);
    if (private != NULL)
        assert_int_equal(lend_verbs_private_end(private, &stage->error), LEND_OK);
    if (regions[0] != NULL) /* taking back never fails for want of something */
        assert_int_equal(lend_verbs_region_withdraw(regions[0], &stage->error), LEND_OK);
    if (regions[2] != NULL)
        assert_int_equal(lend_verbs_region_release(regions[2], &stage->error), LEND_OK);
    assert_int_equal(lend_verbs_store_close(stage->store, &stage->error), LEND_OK);
    assert_int_equal(fake_verbs.mrs, 0);
    return status;
}

static void test_each_call_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    for (int nth = 0;; nth++) {
        struct stage stage;

        fake_verbs_reset();
        fake_cuda_reset();
        put_device_memory();
        open_nics(&stage);
        fake_verbs.is_swept = true;
        double_install(nth);
        enum lend_status status = scenario(&stage);
        bool was_reached = double_remove();
        fake_verbs.is_swept = false;
        assert_int_equal(fake_cuda_held(), 0);
        close_nics(&stage);
        if (!was_reached) {
            assert_int_equal(status, LEND_OK);
            assert_true(nth > 10);
            return;
        }
        /* One NIC that refuses leaves the other, and then all is well. */
        assert_true(status == LEND_OK || status == LEND_E_NO_MEMORY || status == LEND_E_DEVICE);
    }
}

static void test_forked_child_frees_the_memory_and_leaves_the_nic_to_its_parent(void **state)
{
    struct stage stage;
    struct lend_verbs_region *region;

    (void)state;
    open_nics(&stage);
    double_install(-1);
    open_store(&stage);
    region = put(&stage, host(0, 4, LEND_VERBS_MAY_READ));
    assert_non_null(region);
    lend_verbs_store_forget(stage.store);
    assert_false(double_remove()); /* which checks that nothing leaked */
    assert_int_equal(fake_verbs.mrs, NICS);
    fake_verbs_abandon();
    close_nics(&stage);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rights_are_those_that_the_memory_was_lent_with),
        TEST(test_nic_without_windows_is_not_asked_to_bind_them),
        TEST(test_regions_of_an_allocation_share_its_registration),
        TEST(test_registration_is_not_shared_with_rights_that_it_has_not),
        TEST(test_ordered_registration_is_nobody_elses),
        TEST(test_withdrawn_region_is_reached_by_no_key),
        TEST(test_neighbours_of_a_withdrawn_region_get_keys_that_do_not_reach_it),
        TEST(test_neighbour_that_cannot_be_registered_anew_says_why_and_may_try_again),
        TEST(test_nic_that_does_not_let_go_is_named_and_asked_again),
        TEST(test_released_region_that_a_nic_holds_is_tried_with_the_next),
        TEST(test_store_that_a_nic_holds_says_so_at_its_end),
        TEST(test_range_above_the_nics_limit_is_registered_in_pieces),
        TEST(test_range_of_too_many_pieces_is_refused),
        TEST(test_message_is_no_longer_than_a_gibibyte),
        TEST(test_keys_are_of_the_region_alone),
        TEST(test_memory_that_is_nowhere_is_refused),
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
        TEST(test_private_registration_carries_the_right_to_write_for_its_range_alone),
        TEST(test_private_registration_lies_in_its_region),
        TEST(test_each_call_may_fail_and_nothing_leaks),
        TEST(test_forked_child_frees_the_memory_and_leaves_the_nic_to_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
