/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory is known to the NICs by as few keys as can be, with no right more than it was lent
 * for; a key that was taken back reaches nothing; nothing leaks.
 * Method: a fake libibverbs with two NICs, which checks rights and counts what it gave.
 */
#include "verbs_stub.h"

#include "double.h"

#include <stdatomic.h>

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

/* A reader of keys, while neighbours come and go. */
struct looker {
    const struct lend_verbs_region *region;
    atomic_bool is_over;
    uint64_t found;
};

static void *look_up(void *context)
{
    struct looker *looker = context;
    struct lend_verbs_keys keys;

    while (!atomic_load(&looker->is_over))
        looker->found += lend_verbs_region_keys(looker->region, 0, (uintptr_t)memory, 64, &keys);
    return NULL;
}

static void test_keys_are_looked_up_while_neighbours_are_withdrawn(void **state)
{
    struct stage stage;
    struct looker looker = {0};
    pthread_t thread;

    (void)state;
    open_nics(&stage);
    open_store(&stage);
    looker.region = put(&stage, within(host(0, 1, LEND_VERBS_MAY_READ), 16));
    assert_int_equal(pthread_create(&thread, NULL, look_up, &looker), 0);
    for (uint32_t i = 0; i < 200; i++) {
        struct lend_verbs_region *next = put(&stage, within(host(2, 1, LEND_VERBS_MAY_READ), 16));
        struct lend_verbs_region *third = put(&stage, within(host(4, 1, LEND_VERBS_MAY_READ), 16));

        assert_int_equal(lend_verbs_region_release(next, &stage.error), LEND_OK);
        assert_int_equal(lend_verbs_region_release(third, &stage.error), LEND_OK);
    }
    atomic_store(&looker.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    struct lend_verbs_keys keys;
    assert_true(lend_verbs_region_keys(looker.region, 0, (uintptr_t)memory, 64, &keys));
    close_stage(&stage);
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
        TEST(test_private_registration_carries_the_right_to_write_for_its_range_alone),
        TEST(test_private_registration_lies_in_its_region),
        TEST(test_each_call_may_fail_and_nothing_leaks),
        TEST(test_keys_are_looked_up_while_neighbours_are_withdrawn),
        TEST(test_forked_child_frees_the_memory_and_leaves_the_nic_to_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
