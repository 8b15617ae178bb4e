/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of a GPU moves, in both directions and to both kinds of memory, through the host's
 * and under that name; what ends a lease waits for what a GPU is still writing; memory that was
 * freed is STALE; every failure of the driver is a failure of the transfer and of nothing else; and
 * the caller's CUDA context stays as it was.
 * Method: two agents of one process under manual progress, and the fake driver (tests/fake/cuda.c),
 * whose memory no processor may touch and whose copies are over only when they are asked for the
 * second time, or not before the test lets them. Nothing here shows what a GPU does.
 */
#include "staged_world.h"

static const char *const transports[] = {"loopback", "local"};

static void move_one(const char *transport, uint32_t direction, bool owner, bool reader)
{
    struct world world = make_world(transport, owner, reader);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    char path[32];

    begin(&world, direction);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, direction);
    assert_true(record.bytes == BYTES);
    assert_true(record.blocks == BLOCKS);
    (void)snprintf(path, sizeof path, "%s/staged", transport);
    assert_string_equal(record.path, path);
    end_world(&world);
}

static void test_a_read_fetches_memory_of_a_gpu(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        move_one(transports[i], LEND_READ, true, false);
        move_one(transports[i], LEND_READ, true, true);
        move_one(transports[i], LEND_READ, false, true);
    }
}

static void test_a_write_fills_memory_of_a_gpu(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        move_one(transports[i], LEND_WRITE, true, false);
        move_one(transports[i], LEND_WRITE, true, true);
        move_one(transports[i], LEND_WRITE, false, true);
    }
}

static void test_chunks_side_by_side_move_as_one_piece_of_memory(void **state)
{
    (void)state;
    has_mosaics = true;
    move_one("loopback", LEND_READ, true, true);
    move_one("loopback", LEND_WRITE, true, true);
    has_mosaics = false;
}

static void test_memory_that_cannot_synchronise_is_lent_all_the_same(void **state)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct world world = make_world("loopback", true, false);
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    (void)state;
    assert_true(fake_cuda_calls("cuPointerSetAttribute") > 0);
    fake_cuda_fail("cuPointerSetAttribute", LEND_CUDA_ERROR_INVALID_VALUE);
    check(describe(&world.owner.memory, &desc, &error), &error);
    check(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error), &error);
    end_world(&world);
}

static void test_one_chunk_that_was_freed_makes_a_lease_stale(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    has_mosaics = true;
    struct world world = make_world("loopback", true, false);
    begin(&world, LEND_READ);
    fake_cuda_renew(world.owner.memory.address + 17 * CHUNK);
    assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
    assert_true(record.bytes <= 17 * CHUNK);
    has_mosaics = false;
    end_world(&world);
}

static void test_both_ways_at_once_do_not_wait_for_each_other(void **state)
{
    enum { TURNS = 20 };
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world world = make_world(transports[i], true, true);
        struct lend_transfer *all[2 * TURNS];

        grant(&world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
        for (int turn = 0; turn < 2 * TURNS; turn++) {
            check(prepare(&world, turn % 2 == 0 ? LEND_READ : LEND_WRITE, NULL, &error), &error);
            check(post(&world, &error), &error);
            all[turn] = world.transfer;
        }
        for (int turn = 0; turn < 2 * TURNS; turn++) {
            world.transfer = all[turn];
            check(finish(&world, &record, &error), &error);
            assert_int_equal(lend_transfer_release(world.transfer), LEND_OK);
        }
        world.transfer = NULL;
        end_world(&world);
    }
}

/* --- the path --- */

static void explain(struct world *world, struct lend_region *local, char *text, size_t capacity)
{
    struct lend_error error = {0};
    size_t count = 0;

    check(lend_explain_text(world->peer, local, world->region_id, LEND_READ, text, capacity, &count,
                            &error),
          &error);
}

static void test_the_path_is_named_and_the_others_say_why_not(void **state)
{
    struct world world = make_world("local", true, false);
    struct lend_error error = {0};
    char text[2048];

    (void)state;
    explain(&world, world.reader.region, text, sizeof text);
    assert_non_null(strstr(text, "* local/staged\n"));
    assert_non_null(strstr(text, "  local/served: LEND_E_NO_PATH, memory of a GPU is out of its "
                                 "reach, and is moved through the host's\n"));
    assert_int_equal(prepare(&world, LEND_READ, "local/served,local/mapped", &error),
                     LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "memory of a GPU"));
    check(prepare(&world, LEND_READ, "local/staged", &error), &error);
    end_world(&world);
}

static void test_memory_of_the_host_is_never_staged(void **state)
{
    struct world world = make_world("loopback", false, false);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    char text[2048];

    (void)state;
    explain(&world, world.reader.region, text, sizeof text);
    assert_string_equal(text, "* loopback\n");
    assert_int_equal(prepare(&world, LEND_READ, "loopback/staged", &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "staged paths are for memory of a GPU"));
    begin(&world, LEND_READ);
    check(finish(&world, &record, &error), &error);
    assert_string_equal(record.path, "loopback");
    assert_int_equal(fake_cuda_calls("cuMemHostAlloc"), 0);
    end_world(&world);
}

static void test_transports_that_do_not_reach_a_gpu_refuse_its_memory(void **state)
{
    const struct lend_transport_ops ops = {.name = "far", .kinds = 1U << LEND_MEMORY_SYSTEM};
    struct lend_error error = {0};

    (void)state;
    check(lend_transport_check_kinds(&ops, LEND_MEMORY_SYSTEM, LEND_MEMORY_SYSTEM, &error), &error);
    assert_int_equal(
        lend_transport_check_kinds(&ops, LEND_MEMORY_SYSTEM, LEND_MEMORY_DEVICE, &error),
        LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "copy it to memory of the host and lend that"));
}

static void test_a_network_carries_memory_of_a_gpu_when_its_path_is_named(void **state)
{
    struct world world = make_world("tcp", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    char text[2048];

    (void)state;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        fill(&world.owner.memory, 1);
        fill(&world.reader.memory, 2);
        grant(&world, direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE);
        assert_int_equal(prepare(&world, direction, NULL, &error), LEND_E_NO_PATH);
        assert_non_null(strstr(error.message, "name \"tcp/staged\" in paths"));
        assert_int_equal(prepare(&world, direction, "tcp/served", &error), LEND_E_NO_PATH);
        check(prepare(&world, direction, "tcp/served,tcp/staged", &error), &error);
        check(post(&world, &error), &error);
        check(finish(&world, &record, &error), &error);
        expect_moved(&world, direction);
        assert_string_equal(record.path, "tcp/staged");
        assert_int_equal(lend_transfer_release(LEND_TAKE(world.transfer)), LEND_OK);
        lend_ticket_release(LEND_TAKE(world.ticket));
        lend_lease_release(LEND_TAKE(world.lease));
    }
    explain(&world, world.reader.region, text, sizeof text);
    assert_non_null(strstr(text, "  tcp/staged, where paths names it\n"));
    end_world(&world);
}

static void test_checksums_are_refused(void **state)
{
    struct world world = make_world("loopback", true, false);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.flags = LEND_TRANSFER_CHECKSUM;
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = world.peer;
    desc.local_regions = &world.reader.region;
    desc.remote_regions = &world.region_id;
    desc.block_count_max = 1;
    assert_int_equal(lend_transfer_prepare(world.reader.agent, &desc, &transfer, &error),
                     LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "LEND_TRANSFER_CHECKSUM"));
    end_world(&world);
}

/* --- memory that goes away --- */

static void test_memory_that_was_allocated_anew_is_stale(void **state)
{
    struct lend_block_set set = {.region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_transfer_record record;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    (void)state;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct world world = make_world("loopback", true, false);

        begin(&world, direction);
        fake_cuda_renew(world.owner.memory.address);
        memset(world.owner.memory.bytes, 0x5A, BYTES); /* somebody else's by now */
        assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
        assert_true(record.blocks == 0);
        for (size_t i = 0; i < BYTES; i++)
            assert_int_equal(world.owner.memory.bytes[i], 0x5A);
        set.regions = &world.owner.region;
        desc.sets = &set;
        desc.set_count = 1;
        desc.access = LEND_ACCESS_READ;
        desc.time_to_live_ns = MINUTE;
        assert_int_equal(lend_lease_grant(world.owner.agent, &desc, &lease, &error), LEND_E_STALE);
        assert_non_null(strstr(error.message, "was freed, and allocated anew, since it was"));
        end_world(&world);
    }
}

static void test_memory_that_goes_in_the_midst_is_no_success(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct world world = make_world("loopback", true, false);

        begin(&world, direction);
        fake_cuda_hold(1);
        for (int i = 0; i < STEPS_MAX && fake_cuda_under_way() == 0; i++)
            step(&world);
        fake_cuda_renew(world.owner.memory.address);
        fake_cuda_hold(0);
        assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
        assert_true(record.blocks == 0);
        end_world(&world);
    }
}

static void test_memory_of_the_reader_that_goes_is_no_success(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct world world = make_world("loopback", false, true);

        begin(&world, direction);
        fake_cuda_renew(world.reader.memory.address);
        assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
        end_world(&world);
    }
}

static void test_memory_that_is_freed_while_nothing_moves_is_noticed(void **state)
{
    struct lend_lease_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};
    uint64_t usual = lend_freed_look_ns;

    (void)state;
    lend_freed_look_ns = 1; /* not a second */
    has_mosaics = true;
    struct world world = make_world("loopback", true, false);
    has_mosaics = false;
    grant(&world, LEND_ACCESS_READ);
    for (int i = 0; i < 10; i++)
        step(&world);
    check(lend_lease_describe(world.lease, &info, &error), &error);
    assert_int_equal(info.status, LEND_OK);

    fake_cuda_fail("cuPointerGetAttributes", LEND_CUDA_ERROR_NOT_FOUND);
    for (int i = 0; i < 10; i++)
        step(&world);
    fake_cuda_fail("cuPointerGetAttributes", 0);
    check(lend_lease_describe(world.lease, &info, &error), &error);
    assert_int_equal(info.status, LEND_OK); /* a driver that fails says nothing of the memory */

    fake_cuda_renew(world.owner.memory.address + 21 * CHUNK);
    for (int i = 0; i < STEPS_MAX && info.status == LEND_OK; i++) {
        step(&world);
        check(lend_lease_describe(world.lease, &info, &error), &error);
    }
    assert_int_equal(info.status, LEND_E_STALE);
    check(prepare(&world, LEND_READ, NULL, &error), &error);
    check(post(&world, &error), &error);
    struct lend_transfer_record record;
    assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
    assert_true(record.blocks == 0);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_DRAIN, MINUTE, &error), &error);
    lend_freed_look_ns = usual;
    end_world(&world);
}

static void test_a_quiet_agent_asks_for_its_memory_once_in_a_while(void **state)
{
    struct world world = make_world("loopback", true, true);
    int before = fake_cuda_calls("cuPointerGetAttributes");

    (void)state;
    for (int i = 0; i < 2000; i++)
        step(&world);
    /* Two agents with one allocation each; a second may just be over, or two on a slow machine. */
    assert_true(fake_cuda_calls("cuPointerGetAttributes") - before < 200);
    end_world(&world);
}

/* --- suspended, and lent again --- */

static void test_a_region_that_comes_back_elsewhere_is_registered_anew(void **state)
{
    struct lend_transfer_record record;
    struct lend_memory memory;
    struct memory next = {0};
    struct lend_error error = {0};

    (void)state;
    struct world world = make_world("loopback", true, true);
    check(lend_region_suspend(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    free_memory(&world.owner.memory);
    make_memory(&next, true);
    world.owner.memory = next;
    check(lend_memory_device(next.address, BYTES, 0, &memory, &error), &error);
    check(lend_region_resume(world.owner.region, &memory, -1, 0, &error), &error);
    lend_peer_forget(world.peer);
    meet(&world);
    begin(&world, LEND_READ);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);

    /* In the same place, which the driver has given to another allocation since. */
    check(lend_region_suspend(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    fake_cuda_renew(next.address);
    check(lend_region_resume(world.owner.region, NULL, -1, 0, &error), &error);
    lend_ticket_release(world.ticket);
    lend_lease_release(world.lease);
    assert_int_equal(lend_transfer_release(world.transfer), LEND_OK);
    lend_peer_forget(world.peer);
    meet(&world);
    begin(&world, LEND_READ);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    end_world(&world);
}

/* --- what ends while a GPU copies --- */

static void hold_under_way(struct world *world)
{
    fake_cuda_hold(1);
    for (int i = 0; i < STEPS_MAX && fake_cuda_under_way() == 0; i++)
        step(world);
    assert_true(fake_cuda_under_way() > 0);
}

static void test_a_write_lease_ends_when_the_last_copy_has_landed(void **state)
{
    struct world world = make_world("loopback", true, false);
    uint8_t *then = malloc(BYTES);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    assert_non_null(then);
    begin(&world, LEND_WRITE);
    hold_under_way(&world);
    fake_cuda_hold(0);
    assert_true(fake_cuda_under_way() > 0);
    /* Nobody but the call itself looks whether the copies are over. */
    check(lend_lease_revoke(world.lease, &error), &error);
    assert_int_equal(fake_cuda_under_way(), 0);
    memcpy(then, world.owner.memory.bytes, BYTES);
    assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
    assert_true(record.blocks < BLOCKS);
    assert_memory_equal(world.owner.memory.bytes, then, BYTES);
    free(then);
    end_world(&world);
}

static void test_a_read_lease_ends_at_once_and_withdraw_waits(void **state)
{
    struct world world = make_world("loopback", true, false);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin(&world, LEND_READ);
    hold_under_way(&world);
    check(lend_lease_revoke(world.lease, &error), &error);
    assert_int_equal(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_BUSY);
    assert_non_null(strstr(error.message, "a copy for reader under lease"));
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
    assert_true(record.blocks == 0);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    end_world(&world);
}

static void test_a_canceled_read_is_pending_until_nothing_lands(void **state)
{
    struct world world = make_world("loopback", false, true);
    uint8_t *then = malloc(BYTES);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    assert_non_null(then);
    begin(&world, LEND_READ);
    hold_under_way(&world);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_PENDING);
    for (int i = 0; i < 1000; i++)
        step(&world);
    assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    assert_int_equal(lend_region_withdraw(world.reader.region, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_BUSY);
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_CANCELED);
    assert_int_equal(fake_cuda_under_way(), 0);
    memcpy(then, world.reader.memory.bytes, BYTES);
    for (int i = 0; i < 1000; i++)
        step(&world);
    assert_memory_equal(world.reader.memory.bytes, then, BYTES);
    free(then);
    end_world(&world);
}

static void test_a_failed_read_is_zeroed_by_the_gpu(void **state)
{
    struct world world = make_world("loopback", false, true);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    fill(&world.owner.memory, 1);
    fill(&world.reader.memory, 2);
    grant(&world, LEND_ACCESS_READ);
    desc.flags = LEND_TRANSFER_ZERO_ON_FAILURE;
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = world.peer;
    desc.local_regions = &world.reader.region;
    desc.remote_regions = &world.region_id;
    desc.block_count_max = BLOCKS;
    check(lend_transfer_prepare(world.reader.agent, &desc, &world.transfer, &error), &error);
    check(post(&world, &error), &error);
    hold_under_way(&world);
    check(lend_lease_revoke(world.lease, &error), &error);
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world.reader.memory.bytes[i], 0);
    assert_int_equal(fake_cuda_under_way(), 0);
    end_world(&world);
}

/* --- a driver that fails --- */

/* Copy anew, as it should be: of what failed before nothing is left. */
static void expect_well_again(struct world *world, uint32_t direction)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    check(post(world, &error), &error);
    check(finish(world, &record, &error), &error);
    expect_moved(world, direction);
}

static void fail_at(const char *function, int nth, uint32_t direction, bool *out_failed)
{
    struct world world = make_world("loopback", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    fill(&world.owner.memory, 1);
    fill(&world.reader.memory, 2);
    grant(&world, direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE);
    check(prepare(&world, direction, NULL, &error), &error);
    int calls = fake_cuda_calls(function);
    fake_cuda_fail_nth(function, nth, LEND_CUDA_ERROR_NOT_FOUND);
    check(post(&world, &error), &error);
    enum lend_status status = finish(&world, &record, &error);
    *out_failed = fake_cuda_calls(function) - calls > nth;
    fake_cuda_fail_nth(function, -1, 0);
    if (status == LEND_OK) {
        expect_moved(&world, direction);
    } else {
        assert_int_equal(status, LEND_E_DEVICE);
        assert_true(record.blocks < BLOCKS);
        assert_non_null(strstr(error.message, "CUDA_ERROR_NOT_FOUND (500)"));
        fill(&world.owner.memory, 1);
        fill(&world.reader.memory, 2);
        expect_well_again(&world, direction);
    }
    end_world(&world);
}

static void test_any_call_of_the_driver_may_fail(void **state)
{
    static const char *const functions[] = {
        "cuMemHostAlloc", "cuCtxPushCurrent",  "cuPointerGetAttributes",
        "cuEventCreate",  "cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync",
        "cuEventRecord",  "cuEventQuery",      "cuMemcpyBatchAsync",
    };

    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        has_old_driver =
            strstr(functions[i], "Memcpy") != NULL && strstr(functions[i], "Batch") == NULL;
        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            bool has_failed = true;

            /* The first calls one by one, and then ever fewer: all of them are alike. */
            for (int nth = 0; has_failed; nth += nth < 6 ? 1 : 7)
                fail_at(functions[i], nth, direction, &has_failed);
        }
        has_old_driver = false;
    }
}

static int copies(void)
{
    return fake_cuda_calls("cuMemcpyBatchAsync") + fake_cuda_calls("cuMemcpyDtoHAsync") +
           fake_cuda_calls("cuMemcpyHtoDAsync");
}

static void test_a_thousand_pieces_are_few_calls_of_a_driver_that_copies_many(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int driver = 0; driver < 3; driver++) {
        has_no_kernel = true;
        has_old_driver = driver == 1;
        struct world world = make_world("loopback", true, true);
        if (driver == 2)
            fake_cuda_fail("cuMemcpyBatchAsync", LEND_CUDA_ERROR_NOT_SUPPORTED);

        begin_pieces(&world, NULL);
        int before = copies();
        check(finish(&world, &record, &error), &error);
        expect_pieces(&world);
        /* 256 pieces a call, at the owner's and at the reader's; else one each, and one in vain. */
        assert_int_equal(copies() - before, driver == 0   ? 2 * ((PIECES + 255) / 256)
                                            : driver == 1 ? 2 * PIECES
                                                          : 2 * PIECES + 2);
        has_no_kernel = has_old_driver = false;
        end_world(&world);
    }
}

static void test_a_broken_context_ends_its_copies(void **state)
{
    struct world world = make_world("loopback", true, false);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin(&world, LEND_READ);
    hold_under_way(&world);
    fake_cuda_drop();
    fake_cuda_fail("cuEventQuery", 700); /* CUDA_ERROR_ILLEGAL_ADDRESS: a kernel went wrong */
    assert_int_equal(finish(&world, &record, &error), LEND_E_DEVICE);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    fake_cuda_fail("cuEventQuery", 0);
    fake_cuda_hold(0);
    end_world(&world);
}

static void test_a_gpu_that_hangs_keeps_its_region_and_no_other_peer(void **state)
{
    struct world world = make_world("loopback", true, false);
    struct lend_path_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};
    uint32_t count = 0;

    (void)state;
    begin(&world, LEND_READ);
    hold_under_way(&world);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_E_CANCELED);
    /* The owner gives up its connection, which the reader sees; and not the region. */
    do {
        step(&world);
        check(lend_explain(world.peer, NULL, world.region_id, LEND_READ, &info, 1, &count, &error),
              &error);
    } while (info.status == LEND_OK);
    assert_int_equal(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_BUSY);
    assert_non_null(strstr(error.message, "a copy for reader under lease"));
    assert_true(fake_cuda_under_way() > 0);
    /* It comes to itself. */
    fake_cuda_hold(0);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    assert_int_equal(fake_cuda_under_way(), 0);
    end_world(&world);
}

/* --- contexts --- */

static void test_a_thread_without_a_context_has_none_afterwards(void **state)
{
    struct world world = make_world("loopback", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    void *current = &world;

    (void)state;
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    begin(&world, LEND_READ);
    check(finish(&world, &record, &error), &error);
    assert_int_equal(cuCtxGetCurrent(&current), 0);
    assert_null(current);
    assert_int_equal(cuCtxSetCurrent(world.context), 0);
    end_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_fetches_memory_of_a_gpu),
        cmocka_unit_test(test_a_write_fills_memory_of_a_gpu),
        cmocka_unit_test(test_chunks_side_by_side_move_as_one_piece_of_memory),
        cmocka_unit_test(test_memory_that_cannot_synchronise_is_lent_all_the_same),
        cmocka_unit_test(test_one_chunk_that_was_freed_makes_a_lease_stale),
        cmocka_unit_test(test_both_ways_at_once_do_not_wait_for_each_other),
        cmocka_unit_test(test_the_path_is_named_and_the_others_say_why_not),
        cmocka_unit_test(test_memory_of_the_host_is_never_staged),
        cmocka_unit_test(test_transports_that_do_not_reach_a_gpu_refuse_its_memory),
        cmocka_unit_test(test_a_network_carries_memory_of_a_gpu_when_its_path_is_named),
        cmocka_unit_test(test_checksums_are_refused),
        cmocka_unit_test(test_memory_that_was_allocated_anew_is_stale),
        cmocka_unit_test(test_memory_that_goes_in_the_midst_is_no_success),
        cmocka_unit_test(test_memory_of_the_reader_that_goes_is_no_success),
        cmocka_unit_test(test_memory_that_is_freed_while_nothing_moves_is_noticed),
        cmocka_unit_test(test_a_quiet_agent_asks_for_its_memory_once_in_a_while),
        cmocka_unit_test(test_a_region_that_comes_back_elsewhere_is_registered_anew),
        cmocka_unit_test(test_a_write_lease_ends_when_the_last_copy_has_landed),
        cmocka_unit_test(test_a_read_lease_ends_at_once_and_withdraw_waits),
        cmocka_unit_test(test_a_canceled_read_is_pending_until_nothing_lands),
        cmocka_unit_test(test_a_failed_read_is_zeroed_by_the_gpu),
        cmocka_unit_test(test_any_call_of_the_driver_may_fail),
        cmocka_unit_test(test_a_thousand_pieces_are_few_calls_of_a_driver_that_copies_many),
        cmocka_unit_test(test_a_broken_context_ends_its_copies),
        cmocka_unit_test(test_a_gpu_that_hangs_keeps_its_region_and_no_other_peer),
        cmocka_unit_test(test_a_thread_without_a_context_has_none_afterwards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
