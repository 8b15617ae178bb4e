/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: many small pieces of a GPU's memory go by a kernel of ours, and where that cannot be, the
 * way they went before; nothing of what a kernel reads is touched before it is over; and every
 * failure of the driver is a failure of the transfer, and of nothing else.
 * Method: lanes, and agents of one process, over the fake driver (tests/fake/cuda_kernel.c), which
 * reads a kernel's table when the copies are made, from pinned memory alone. Whether the kernel's
 * text does what the fake does by hand is kernel_ptx_test.py's to see.
 */
#include "pidfds.h"
#include "staged_world.h"

#include "memory/lane.h"

enum { SPACE = 1 << 20, SMALL_MAX = 700, MANY = 600 };

/* A lane, and memory on both ends of it. */
struct bench {
    struct lend_lanes lanes;
    struct lend_lane *lane;
    uint64_t device;
    uint8_t *inside; /* where the bytes of that are */
    void *pinned;
};

static struct bench bench;

static void set_up(void)
{
    struct lend_device_memory where = {0};
    struct lend_error error = {0};

    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    bench = (struct bench){0};
    lend_lanes_init(&bench.lanes);
    check(lend_lane_assign(&bench.lanes, &where, &error), &error);
    bench.lane = where.lane;
    check(lend_lane_allocate(bench.lane, SPACE, &bench.device, &error), &error);
    check(lend_lane_pin(bench.lane, SPACE, &bench.pinned, &error), &error);
    bench.inside = fake_cuda_bytes(bench.device);
    for (size_t i = 0; i < SPACE; i++) {
        bench.inside[i] = (uint8_t)(i * 31 + i / 509);
        ((uint8_t *)bench.pinned)[i] = (uint8_t)(i * 17 + i / 251 + 3);
    }
}

static void tear_down(void)
{
    lend_lane_unpin(bench.lane, bench.pinned);
    lend_lane_free(bench.lane, bench.device);
    lend_lanes_fini(&bench.lanes, false);
    assert_int_equal(fake_cuda_kept(), 0);
    assert_int_equal(fake_cuda_held(), 0);
    lend_cuda = NULL;
}

static void equip(void)
{
    struct lend_error error = {0};

    check(lend_lane_equip(&bench.lanes, bench.lane, &error), &error);
}

/* Pieces of all lengths, each with a place of its own at either end; what is written there is
 * written to the mirror as well. */
static void make_pieces(struct lend_lane_piece *pieces, uint32_t count, int way, uint8_t *mirror)
{
    uint8_t *pinned = bench.pinned;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t here = (uint64_t)i * SMALL_MAX + i % 37,
                 there = (uint64_t)(count - 1 - i) * SMALL_MAX + i % 19;
        uint64_t bytes = 1 + i * 7 % (SMALL_MAX - 40);

        pieces[i] = (struct lend_lane_piece){.device = bench.device + here, .bytes = bytes};
        if (way == 2) { /* on the device: from its other half */
            pieces[i].bytes = bytes = bytes / 2 + 1;
            pieces[i].device = bench.device + here / 2;
            pieces[i].from = bench.device + SPACE / 2 + there / 2;
            memcpy(mirror + here / 2, bench.inside + SPACE / 2 + there / 2, bytes);
            continue;
        }
        pieces[i].host = pinned + there;
        pieces[i].is_to_device = way == 1;
        memcpy(mirror + (way == 1 ? here : there), way == 1 ? pinned + there : bench.inside + here,
               bytes);
    }
}

static void wait_for(struct lend_lane_mark *mark)
{
    struct lend_error error = {0};
    enum lend_status status;

    while ((status = lend_lane_ask(mark, &error)) == LEND_PENDING)
        continue;
    check(status, &error);
    assert_int_equal(mark->table.number, 0);
}

static void test_pieces_of_all_lengths_go_every_way(void **state)
{
    static struct lend_lane_piece pieces[MANY];
    struct lend_error error = {0};

    (void)state;
    for (int way = 0; way < 3; way++) {
        struct lend_lane_mark mark = {0};

        set_up();
        equip();
        uint8_t *to = way == 0 ? bench.pinned : bench.inside;
        uint8_t *mirror = malloc(SPACE);
        assert_non_null(mirror);
        memcpy(mirror, to, SPACE);
        make_pieces(pieces, MANY, way, mirror);
        check(lend_lane_put(bench.lane, pieces, MANY, &mark, &error), &error);
        wait_for(&mark);
        assert_memory_equal(to, mirror, SPACE);
        assert_int_equal(fake_cuda_calls("cuLaunchKernel"), 1);
        assert_int_equal(fake_cuda_calls("cuMemcpyBatchAsync"), 0);
        assert_int_equal(bench.lane->kernel.taken, 0);
        lend_lane_drop_mark(&mark);
        free(mirror);
        tear_down();
    }
}

/* A large one between them, of a driver that copies one by one: two launches read one table. */
static void test_two_launches_of_a_call_read_one_table(void **state)
{
    static struct lend_lane_piece pieces[MANY];
    static struct lend_cuda_ops old_ops;
    struct lend_lane_mark mark = {0};
    struct lend_error error = {0};

    (void)state;
    set_up();
    equip();
    old_ops = fake_cuda_ops;
    old_ops.copy_batch = NULL;
    bench.lane->cuda = &old_ops;
    uint8_t *mirror = malloc(SPACE);
    assert_non_null(mirror);
    memcpy(mirror, bench.inside, SPACE);
    make_pieces(pieces, MANY, 1, mirror);
    pieces[MANY / 2] = (struct lend_lane_piece){.device = bench.device + SPACE - 100000,
                                                .host = bench.pinned,
                                                .bytes = LEND_KERNEL_BYTES_MAX + 1,
                                                .is_to_device = true};
    memcpy(mirror + SPACE - 100000, bench.pinned, LEND_KERNEL_BYTES_MAX + 1);
    memcpy(mirror + MANY / 2 * SMALL_MAX, bench.inside + MANY / 2 * SMALL_MAX, SMALL_MAX);
    check(lend_lane_put(bench.lane, pieces, MANY, &mark, &error), &error);
    assert_int_equal(mark.table.used, MANY - 1);
    wait_for(&mark);
    assert_memory_equal(bench.inside, mirror, SPACE);
    assert_int_equal(fake_cuda_calls("cuLaunchKernel"), 2);
    assert_int_equal(fake_cuda_calls("cuMemcpyHtoDAsync"), 1);
    lend_lane_drop_mark(&mark);
    free(mirror);
    tear_down();
}

/* What is put in: launches, batches and copies that come of it. */
static void expect_calls(const uint64_t *bytes, uint32_t count, int launches, int batches,
                         int copies)
{
    static struct lend_lane_piece pieces[LEND_KERNEL_PIECES_MAX + 20];
    struct lend_lane_mark mark = {0};
    struct lend_error error = {0};

    set_up();
    equip();
    for (uint32_t i = 0; i < count; i++)
        pieces[i] = (struct lend_lane_piece){
            .device = bench.device, .from = bench.device + SPACE / 2, .bytes = bytes[i]};
    check(lend_lane_put(bench.lane, pieces, count, &mark, &error), &error);
    wait_for(&mark);
    assert_int_equal(fake_cuda_calls("cuLaunchKernel"), launches);
    assert_int_equal(fake_cuda_calls("cuMemcpyBatchAsync"), batches);
    assert_int_equal(fake_cuda_calls("cuMemcpyDtoDAsync"), copies);
    lend_lane_drop_mark(&mark);
    tear_down();
}

static void test_the_kernel_is_for_many_small_pieces(void **state)
{
    uint64_t bytes[LEND_KERNEL_PIECES_MAX + 20];

    (void)state;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++)
        bytes[i] = LEND_KERNEL_BYTES_MAX;
    expect_calls(bytes, 1, 0, 0, 1);
    expect_calls(bytes, LEND_KERNEL_PIECES_LEAST - 1, 0, 1, 0);
    expect_calls(bytes, LEND_KERNEL_PIECES_LEAST, 1, 0, 0);
    expect_calls(bytes, LEND_KERNEL_PIECES_MAX, 1, 0, 0);
    expect_calls(bytes, LEND_KERNEL_PIECES_MAX + 1, 1, 0, 1); /* its table is full */
    expect_calls(bytes, LEND_KERNEL_PIECES_MAX + 9, 1, 1, 0);
    bytes[20] = LEND_KERNEL_BYTES_MAX + 1;
    expect_calls(bytes, 21, 1, 0, 1);
    bytes[0] = LEND_KERNEL_BYTES_MAX + 1;
    expect_calls(bytes, 21, 0, 1, 0);
}

static void test_a_table_is_nobody_elses_until_its_work_is_over(void **state)
{
    static struct lend_lane_mark marks[LEND_KERNEL_TABLES + 1];
    static struct lend_lane_piece pieces[LEND_KERNEL_TABLES + 1][LEND_KERNEL_PIECES_LEAST];
    struct lend_error error = {0};

    (void)state;
    set_up();
    equip();
    fake_cuda_hold(1);
    for (uint32_t i = 0; i <= LEND_KERNEL_TABLES; i++) {
        for (uint32_t k = 0; k < LEND_KERNEL_PIECES_LEAST; k++)
            pieces[i][k] =
                (struct lend_lane_piece){.device = bench.device + i * 4096 + k * 300,
                                         .from = bench.device + SPACE / 2 + i * 4096 + k * 300,
                                         .bytes = 300};
        check(lend_lane_put(bench.lane, pieces[i], LEND_KERNEL_PIECES_LEAST, &marks[i], &error),
              &error);
        assert_int_equal(lend_lane_ask(&marks[i], &error), LEND_PENDING);
    }
    /* There was none for the last, which went by the driver's batch. */
    assert_int_equal(fake_cuda_calls("cuLaunchKernel"), LEND_KERNEL_TABLES);
    assert_int_equal(fake_cuda_calls("cuMemcpyBatchAsync"), 1);
    assert_true(bench.lane->kernel.taken == UINT32_MAX);
    fake_cuda_hold(0);
    for (uint32_t i = 0; i <= LEND_KERNEL_TABLES; i++) {
        wait_for(&marks[i]);
        assert_memory_equal(bench.inside + i * 4096, bench.inside + SPACE / 2 + i * 4096,
                            300 * LEND_KERNEL_PIECES_LEAST);
        lend_lane_drop_mark(&marks[i]);
    }
    assert_int_equal(bench.lane->kernel.taken, 0);
    tear_down();
}

static void test_what_never_ended_keeps_its_table_and_its_code(void **state)
{
    struct lend_lane_piece pieces[LEND_KERNEL_PIECES_LEAST];
    struct lend_lane_mark mark = {0};
    struct lend_error error = {0};
    void *context = NULL;

    (void)state;
    set_up();
    equip();
    fake_cuda_hold(1);
    for (uint32_t k = 0; k < LEND_KERNEL_PIECES_LEAST; k++)
        pieces[k] = (struct lend_lane_piece){
            .device = bench.device, .from = bench.device + 4096, .bytes = 9};
    check(lend_lane_put(bench.lane, pieces, LEND_KERNEL_PIECES_LEAST, &mark, &error), &error);
    lend_lane_drop_mark(&mark); /* an agent ends */
    lend_lane_unpin(bench.lane, bench.pinned);
    context = bench.lane->context;
    lend_lanes_fini(&bench.lanes, false);
    assert_int_equal(fake_cuda_calls("cuModuleUnload"), 0);
    assert_int_equal(fake_cuda_kept(), 2);
    fake_cuda_hold(0);
    fake_cuda_finish();
    assert_int_equal(cuCtxPushCurrent_v2(context), 0);
    bench.lane->kernel.taken = 0;
    lend_kernel_unload(&bench.lane->kernel, &fake_cuda_ops);
    assert_int_equal(cuMemFree_v2(bench.device), 0);
    assert_int_equal(cuCtxPopCurrent_v2(&context), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    lend_cuda = NULL;
}

static void test_a_forked_child_touches_nothing(void **state)
{
    (void)state;
    set_up();
    equip();
    struct lend_lanes theirs = bench.lanes;
    int calls = fake_cuda_calls("cuCtxPushCurrent");
    lend_lanes_fini(&theirs, true);
    assert_int_equal(fake_cuda_calls("cuCtxPushCurrent"), calls);
    assert_int_equal(fake_cuda_calls("cuModuleUnload"), 0);
    tear_down();
}

/* --- a driver that does not --- */

static int warnings;
static char warning[256];

static void note(void *context, int32_t level, const char *message)
{
    (void)context;
    if (level != LEND_LOG_WARNING)
        return;
    warnings++;
    (void)snprintf(warning, sizeof warning, "%s", message);
}

static void test_a_driver_that_does_not_load_it_is_told_of_once(void **state)
{
    static const char *const functions[] = {"cuModuleLoadData", "cuModuleGetFunction",
                                            "cuMemHostAlloc"};

    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
        struct lend_region_desc desc = LEND_REGION_DESC_INIT;
        struct lend_region *regions[2] = {NULL};
        struct lend_agent *agent = NULL;
        struct lend_error error = {0};
        struct memory memory = {0};
        void *context = NULL;

        fake_cuda_reset();
        lend_cuda = &fake_cuda_ops;
        assert_int_equal(cuInit(0), 0);
        assert_int_equal(cuDevicePrimaryCtxRetain(&context, 0), 0);
        assert_int_equal(cuCtxSetCurrent(context), 0);
        make_memory(&memory, true);
        fake_cuda_fail_nth(functions[i], 0, 209); /* CUDA_ERROR_NO_BINARY_FOR_GPU */
        config.name = "alone";
        config.transports = "loopback";
        config.on_log = note;
        config.flags = LEND_AGENT_MANUAL_PROGRESS;
        check(lend_agent_create(&config, &agent, &error), &error);
        warnings = 0;
        check(describe(&memory, &desc, &error), &error);
        desc.access = LEND_ACCESS_READ;
        for (int k = 0; k < 2; k++)
            check(lend_region_register(agent, &desc, 1, &regions[k], NULL, &error), &error);
        (void)lend_agent_progress(agent, 0, NULL);
        assert_int_equal(warnings, 1);
        assert_non_null(strstr(warning, "GPU 0 has no kernel for small pieces"));
        assert_non_null(strstr(warning, functions[i]));
        assert_int_equal(fake_cuda_calls("cuModuleLoadData"), 1);
        lend_agent_destroy(agent);
        free_memory(&memory);
        assert_int_equal(cuCtxSetCurrent(NULL), 0);
        assert_int_equal(fake_cuda_kept(), 0);
        assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), 0);
        assert_int_equal(fake_cuda_held(), 0);
        lend_cuda = NULL;
    }
}

static void test_a_driver_that_does_not_run_it_is_asked_once(void **state)
{
    struct world world = make_world("loopback", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    fake_cuda_fail("cuLaunchKernel", LEND_CUDA_ERROR_NOT_SUPPORTED);
    begin_pieces(&world, NULL);
    check(finish(&world, &record, &error), &error);
    expect_pieces(&world);
    assert_int_equal(fake_cuda_calls("cuLaunchKernel"), 2); /* by each agent's lane */
    end_world(&world);
}

static void test_pieces_are_gathered_to_a_cell_and_scattered_from_it(void **state)
{
    struct world world = make_world("loopback", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_pieces(&world, NULL);
    check(finish(&world, &record, &error), &error);
    expect_pieces(&world);
    assert_int_equal(fake_cuda_calls("cuLaunchKernel"), 2 * ((PIECES + 255) / 256));
    assert_int_equal(fake_cuda_calls("cuMemcpyBatchAsync"), 0);
    assert_int_equal(fake_cuda_calls("cuMemcpyDtoHAsync"), 0);
    end_world(&world);
}

/* Any launch, by either path; and one that goes astray, which ends its context. */
static void test_a_launch_that_fails_is_a_failure_of_its_transfer(void **state)
{
    static const char *const paths[] = {"loopback/staged", "local/cuda"};
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    if (!has_pidfds())
        print_message("no pidfds here: skipped over local/cuda\n");
    for (int path = 0; path < (has_pidfds() ? 2 : 1); path++) {
        bool has_failed = true;

        for (int nth = 0; has_failed; nth++) {
            owner_flags = path == 1 ? LEND_REGION_SHARE_DEVICE : 0;
            struct world world = make_world(path == 1 ? "local" : "loopback", true, true);
            fake_cuda_open_own(path == 1);
            fake_cuda_fail_nth("cuLaunchKernel", nth, LEND_CUDA_ERROR_NOT_FOUND);
            begin_pieces(&world, NULL);
            owner_flags = 0;
            enum lend_status status = finish(&world, &record, &error);
            assert_string_equal(record.path, paths[path]);
            has_failed = fake_cuda_calls("cuLaunchKernel") > nth;
            assert_int_equal(status, has_failed ? LEND_E_DEVICE : LEND_OK);
            if (has_failed)
                assert_non_null(strstr(error.message, "cuLaunchKernel"));
            else
                expect_pieces(&world);
            end_world(&world);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_of_all_lengths_go_every_way),
        cmocka_unit_test(test_two_launches_of_a_call_read_one_table),
        cmocka_unit_test(test_the_kernel_is_for_many_small_pieces),
        cmocka_unit_test(test_a_table_is_nobody_elses_until_its_work_is_over),
        cmocka_unit_test(test_what_never_ended_keeps_its_table_and_its_code),
        cmocka_unit_test(test_a_forked_child_touches_nothing),
        cmocka_unit_test(test_a_driver_that_does_not_load_it_is_told_of_once),
        cmocka_unit_test(test_a_driver_that_does_not_run_it_is_asked_once),
        cmocka_unit_test(test_pieces_are_gathered_to_a_cell_and_scattered_from_it),
        cmocka_unit_test(test_a_launch_that_fails_is_a_failure_of_its_transfer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
