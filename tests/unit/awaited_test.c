/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is read under a lease that was granted behind a stream is what the stream's work left
 * there, by every path, and nobody else waits for it; and it waits no longer than the lease lives.
 * Method: two agents of one process under manual progress, and the fake driver, which lets nothing
 * be over before the test says so. The blocks are written after the reader has posted, and before
 * that. Nothing here shows what a GPU does.
 */
#include "pidfds.h"
#include "staged_world.h"

#include <sys/wait.h>

enum { MANY_STEPS = 3000 };

static uint64_t stream; /* the caller's; the fake asks only which it is */

static enum lend_status grant_behind(struct world *world, struct lend_grant_desc *desc,
                                     struct lend_error *error)
{
    struct lend_block_set set = {.regions = &world->owner.region, .region_count = 1};

    desc->sets = &set;
    desc->set_count = 1;
    desc->time_to_live_ns = MINUTE;
    return lend_lease_grant(world->owner.agent, desc, &world->lease, error);
}

static void grant_ticket(struct world *world)
{
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    struct lend_error error = {0};
    size_t count = 0;

    desc.access = LEND_ACCESS_READ;
    desc.flags = LEND_GRANT_AFTER_STREAM;
    desc.stream = stream;
    check(grant_behind(world, &desc, &error), &error);
    assert_ptr_equal(fake_cuda_recorded(), (void *)(uintptr_t)stream);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, count, &world->ticket, &error), &error);
}

/* A read of all blocks, posted while the stream's work is under way. */
static struct world begin_waiting(const char *path)
{
    struct lend_error error = {0};
    bool is_open = strcmp(path, "local/cuda") == 0;

    owner_flags = is_open ? LEND_REGION_SHARE_DEVICE : 0;
    struct world world =
        make_world(strstr(path, "loopback") == path ? "loopback" : "local", true, true);
    owner_flags = 0;
    fake_cuda_open_own(is_open);
    connect_both(&world);
    fill(&world.owner.memory, 3);
    fill(&world.reader.memory, 2);
    fake_cuda_hold(1);
    grant_ticket(&world);
    check(prepare(&world, LEND_READ, path, &error), &error);
    check(post(&world, &error), &error);
    for (int i = 0; i < MANY_STEPS; i++)
        step(&world);
    assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    assert_int_equal(fake_cuda_under_way(), 0); /* no copy was begun */
    return world;
}

static void test_a_read_is_of_what_the_stream_has_written(void **state)
{
    static const char *const paths[] = {"loopback/staged", "local/staged", "local/cuda"};
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world world = begin_waiting(paths[i]);

        fill(&world.owner.memory, 1); /* the kernel */
        fake_cuda_hold(0);
        check(finish(&world, &record, &error), &error);
        assert_string_equal(record.path, paths[i]);
        expect_moved(&world, LEND_READ);
        /* From now on nobody waits. */
        fill(&world.reader.memory, 2);
        check(post(&world, &error), &error);
        check(finish(&world, &record, &error), &error);
        expect_moved(&world, LEND_READ);
        end_world(&world);
    }
}

/* Who sleeps is woken when it is over: nothing else would. */
static void test_a_read_goes_on_where_threads_make_progress(void **state)
{
    static const char *const paths[] = {"loopback/staged", "local/staged", "local/cuda"};
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        has_threads = true;
        struct world world = begin_waiting(paths[i]);
        has_threads = false;
        assert_int_equal(lend_transfer_wait(world.transfer, MINUTE / 2000), LEND_PENDING);
        fill(&world.owner.memory, 1);
        fake_cuda_hold(0);
        assert_int_equal(lend_transfer_wait(world.transfer, MINUTE / 3), LEND_OK);
        expect_moved(&world, LEND_READ);
        check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error),
              &error);
        end_world(&world);
    }
}

static void test_another_lease_does_not_wait(void **state)
{
    static const char *const paths[] = {"local/staged", "local/cuda"};
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world world = begin_waiting(paths[i]);
        struct lend_transfer *waiting = world.transfer;
        struct lend_ticket *ticket = world.ticket;
        struct lend_lease *lease = world.lease;

        grant(&world, LEND_ACCESS_READ);
        check(prepare(&world, LEND_READ, paths[i], &error), &error);
        check(post(&world, &error), &error);
        for (int k = 0; k < STEPS_MAX && fake_cuda_under_way() == 0; k++)
            step(&world);
        assert_true(fake_cuda_under_way() > 0); /* a copy of this one */
        assert_int_equal(lend_transfer_test(waiting), LEND_PENDING);
        fake_cuda_hold(0);
        check(finish(&world, &record, &error), &error);
        assert_int_equal(lend_transfer_release(world.transfer), LEND_OK);
        lend_ticket_release(world.ticket);
        lend_lease_release(world.lease);
        world.transfer = waiting;
        world.ticket = ticket;
        world.lease = lease;
        check(finish(&world, &record, &error), &error);
        end_world(&world);
    }
}

/* What ends a wait before the stream does: the lease's end, a cancel, the agent's end, and a stream
 * that fails. */
static void test_nobody_waits_for_longer_than_there_is_something_to_wait_for(void **state)
{
    static const char *const paths[] = {"loopback/staged", "local/cuda"};
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct world world = begin_waiting(paths[i % 2]);

        if (i / 2 == 0) {
            check(lend_lease_revoke(world.lease, &error), &error);
            assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
        } else if (i / 2 == 1) {
            enum lend_status status = lend_transfer_cancel(world.transfer, 0);

            assert_true(status == LEND_E_CANCELED || status == LEND_PENDING);
            assert_int_equal(finish(&world, &record, &error), LEND_E_CANCELED);
        } else if (i / 2 == 2) {
            struct lend_lease_info info = {.struct_size = sizeof info};

            fake_cuda_fail("cuEventQuery", 700); /* CUDA_ERROR_ILLEGAL_ADDRESS */
            assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
            check(lend_lease_describe(world.lease, &info, &error), &error);
            assert_int_equal(info.status, LEND_E_REVOKED);
            fake_cuda_fail("cuEventQuery", 0);
        } else {
            enum lend_status status = LEND_E_BUSY;

            for (int k = 0; k < 1000 && status == LEND_E_BUSY; k++) {
                status = lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, 0, &error);
                step(&world); /* the reader lets go of what it has open */
            }
            check(status, &error);
            assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
        }
        fake_cuda_hold(0);
        end_world(&world);
    }
    struct world world = begin_waiting(paths[0]);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_E_CANCELED);
    end_world(&world); /* held still */
}

static void test_a_forked_child_touches_nothing_of_it(void **state)
{
    struct world world = begin_waiting("loopback/staged");
    int status = 0;

    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int calls = fake_cuda_calls("cuEventDestroy");

        lend_agent_destroy(world.owner.agent);
        _exit(fake_cuda_calls("cuEventDestroy") == calls ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_E_CANCELED);
    end_world(&world);
}

static void test_what_cannot_be_waited_for_is_refused(void **state)
{
    static const char *const functions[] = {"cuCtxPushCurrent", "cuEventCreate", "cuEventRecord"};
    struct world world = make_world("loopback", true, false);
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};
    uint32_t count = 1;

    (void)state;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.flags = LEND_GRANT_AFTER_STREAM;
    assert_int_equal(grant_behind(&world, &desc, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "for reading alone"));
    desc.access = LEND_ACCESS_READ;
    desc.flags = 0;
    desc.stream = 1;
    assert_int_equal(grant_behind(&world, &desc, &error), LEND_E_INVALID);
    desc.flags = LEND_GRANT_AFTER_STREAM;
    for (int i = 0; i < 3; i++) {
        int kept = fake_cuda_kept();

        fake_cuda_fail(functions[i], LEND_CUDA_ERROR_NOT_FOUND);
        assert_int_equal(grant_behind(&world, &desc, &error), LEND_E_DEVICE);
        fake_cuda_fail(functions[i], 0);
        assert_non_null(strstr(error.message, functions[i]));
        assert_int_equal(fake_cuda_kept(), kept);
    }
    struct lend_region *device = world.owner.region;
    static uint8_t host[BYTES];
    struct lend_region_desc region = LEND_REGION_DESC_INIT;
    check(lend_memory_system(host, BYTES, &region.memory, &error), &error);
    region.access = LEND_ACCESS_READ;
    check(lend_region_register(world.owner.agent, &region, 1, &world.owner.region, NULL, &error),
          &error);
    assert_int_equal(grant_behind(&world, &desc, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "none is a GPU's"));
    world.owner.region = device;
    check(lend_lease_list(world.owner.agent, NULL, 0, &count, &error), &error);
    assert_int_equal(count, 0);
    /* A program that was compiled before there were streams. */
    desc.flags = 0;
    desc.stream = 77; /* is not there for it */
    desc.struct_size = (uint32_t)offsetof(struct lend_grant_desc, stream);
    check(grant_behind(&world, &desc, &error), &error);
    end_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_is_of_what_the_stream_has_written),
        cmocka_unit_test(test_a_read_goes_on_where_threads_make_progress),
        cmocka_unit_test(test_another_lease_does_not_wait),
        cmocka_unit_test(test_nobody_waits_for_longer_than_there_is_something_to_wait_for),
        cmocka_unit_test(test_a_forked_child_touches_nothing_of_it),
        cmocka_unit_test(test_what_cannot_be_waited_for_is_refused),
    };

    if (is_without_pidfds())
        return 77;
    stream = (uint64_t)(uintptr_t)&stream;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
