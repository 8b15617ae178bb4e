/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of a GPU goes by transport ucx whatever way its frames come, and what UCX does late
 * lands in no cell of the stage and in no memory of the GPU.
 * Method: two agents over a fake UCX and a fake CUDA driver, under manual progress; frames of reads
 * that are sent at once, and by rendezvous, whose callbacks are held back.
 */
#include "ucx_stub.h"

#include "fake/cuda.h"
#include "memory/cuda.h"

#include <sys/mman.h>

/* The same bytes, at an address that no processor may touch. */
static void *give_to_gpu(uint8_t *bytes, uint64_t id)
{
    void *place = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(place != MAP_FAILED);
    fake_cuda_add(&(struct fake_cuda_allocation){
        .base = (uint64_t)(uintptr_t)place,
        .length_bytes = BYTES,
        .buffer_id = id,
        .type = LEND_CUDA_MEMORY_DEVICE,
        .bytes = bytes,
    });
    return place;
}

static void *places[2];

static struct lend_region *register_device(struct lend_agent *agent, void *place, uint32_t access)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_device((uint64_t)(uintptr_t)place, BYTES, 0, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = access;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static void prepare_staged(struct world *world, uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    uint64_t id = lend_region_id(world->lent);
    struct lend_error error = {0};

    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    desc.direction = direction;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->place;
    desc.remote_regions = &id;
    desc.block_count_max = BLOCKS;
    desc.paths = "ucx/staged";
    check(lend_transfer_prepare(world->reader, &desc, &world->transfer, &error), &error);
}

/* Agents anew, with memory of a GPU at either end. */
static void remake(struct world *world, bool owner_has_gpu, bool reader_has_gpu)
{
    lend_agent_destroy(world->reader);
    lend_agent_destroy(world->owner);
    world->transfer = NULL;
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    places[0] = give_to_gpu(world->source, 1);
    places[1] = give_to_gpu(world->destination, 2);
    world->owner = make_agent("owner");
    world->reader = make_agent("reader");
    const uint32_t all = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    world->lent = owner_has_gpu ? register_device(world->owner, places[0], all)
                                : lend_region_of(world->owner, world->source, all);
    world->place = reader_has_gpu ? register_device(world->reader, places[1], 0)
                                  : lend_region_of(world->reader, world->destination, 0);
    grant(world);
    import(world);
    fake_ucx.closed = 0;
}

static int end_staged(void **state)
{
    struct world *world = *state;

    lend_agent_destroy(LEND_TAKE(world->reader));
    lend_agent_destroy(LEND_TAKE(world->owner));
    assert_int_equal(fake_cuda_held(), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    for (int i = 0; i < 2; i++)
        (void)munmap(places[i], BYTES);
    lend_cuda = NULL;
    return end(state);
}

static void move_all_ways(struct world *world)
{
    for (int ends = 1; ends < 4; ends++) {
        remake(world, (ends & 1) != 0, (ends & 2) != 0);
        memset(world->destination, 0, BYTES);
        prepare_staged(world, LEND_READ);
        post(world, 0);
        assert_int_equal(await(world), LEND_OK);
        assert_true(is_read(world));

        memset(world->source, 0x33, BYTES);
        prepare_staged(world, LEND_WRITE);
        post(world, 0);
        assert_int_equal(await(world), LEND_OK);
        assert_true(is_read(world));
        if (ends < 3)
            for (int i = 0; i < 2; i++)
                (void)munmap(places[i], BYTES);
    }
}

static void test_memory_of_a_gpu_is_moved_and_never_read_in_place(void **state)
{
    struct world *world = *state;

    fake_ucx.reverses = true;
    move_all_ways(world);
    assert_int_equal(fake_ucx.rendezvous, 0);
}

static void test_frames_by_rendezvous_are_fetched_first(void **state)
{
    struct world *world = *state;

    lend_ucx_rendezvous_bytes = 1;
    move_all_ways(world);
    assert_true(fake_ucx.rendezvous > 0); /* of the reads from memory of the host */
}

static void begin_late(struct world *world)
{
    lend_ucx_rendezvous_bytes = 1;
    remake(world, false, true);
    memset(world->destination, 0x5A, BYTES);
    prepare_staged(world, LEND_READ);
    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    assert_true(fake_ucx.rendezvous > 0);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
}

static void expect_untouched(const struct world *world)
{
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->destination[i], 0x5A);
}

static void test_what_is_still_fetched_has_not_landed(void **state)
{
    struct world *world = *state;

    begin_late(world);
    expect_untouched(world);
    fake_ucx.holds_receives = false;
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

static void test_a_cancel_does_not_wait_for_what_is_fetched(void **state)
{
    struct world *world = *state;

    begin_late(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_E_CANCELED);
    fake_ucx.holds_receives = false;
    fake_ucx_let_go();
    pump_often(world);
    expect_untouched(world);
    assert_int_equal(fake_ucx.closed, 0);
    /* The connection goes on. */
    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

static void test_an_agent_that_ends_leaves_what_is_fetched(void **state)
{
    struct world *world = *state;

    begin_late(world);
    lend_agent_destroy(LEND_TAKE(world->reader));
    assert_true(fake_ucx.closed > 0);
    expect_untouched(world);
    fake_ucx_let_go();
    expect_untouched(world);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, begin, end_staged)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_memory_of_a_gpu_is_moved_and_never_read_in_place),
        WITH(test_frames_by_rendezvous_are_fetched_first),
        WITH(test_what_is_still_fetched_has_not_landed),
        WITH(test_a_cancel_does_not_wait_for_what_is_fetched),
        WITH(test_an_agent_that_ends_leaves_what_is_fetched),
    };

    stub_devices();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
