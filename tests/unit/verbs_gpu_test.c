/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: NICs read and write memory of GPUs, of either end; what is told as complete is seen by the
 * GPU, and what a lease lets land lands before its end is told; memory that was freed is STALE, and
 * no key reaches what took its place; what no NIC takes is refused by name, or staged where that is
 * allowed.
 * Method: the world of rails, with a fake GPU's memory behind it: its bytes are where no address of
 * the program leads, and what a NIC writes there is on its way until something makes it arrive
 * (tests/fake/cuda_remote.c). Nothing here shows what a NIC or a GPU does.
 */
#include "verbs_world.h"

#include "core/agent.h"
#include "core/freed.h"
#include "core/session.h"
#include "fake/cuda_inside.h"
#include "fake/verbs_objects.h"
#include "transport/verbs/verbs.h"

#include <dirent.h>
#include <errno.h>

enum { SOFT_ROCE = 0xffffff };

static const struct {
    bool owner, reader;
} sides[] = {{true, true}, {true, false}, {false, true}};

static struct lend_verbs_station *station_of(const struct side *side)
{
    struct lend_list *first = side->agent->sessions.next;

    return lend_verbs_rail_of(LEND_LIST_OWNER(first, struct lend_session, link)->rail)->station;
}

static void set_distances(const struct world *world, uint32_t first, uint32_t second)
{
    struct lend_verbs_station *station = station_of(&world->reader);

    atomic_store(&station->distances[0][0], first);
    atomic_store(&station->distances[1][0], second);
}

static struct world *open_gpus(bool owner, bool reader)
{
    owner_is_device = owner;
    reader_is_device = reader;
    return open_world(true, true);
}

/* A world whose NICs and GPUs may be changed before it is filled. */
static struct world *begin_gpus(bool owner, bool reader)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    owner_is_device = owner;
    reader_is_device = reader;
    begin_world();
    return world;
}

static void let_all_go(void)
{
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    fake_cuda_remote_arrive();
}

static int flushes(void)
{
    return fake_cuda_calls("cuFlushGPUDirectRDMAWrites");
}

/* How it ends, and the message. */
static enum lend_status result_of(struct world *world, struct lend_error *error)
{
    post(world);
    return (enum lend_status)finish(world, error).status;
}

/* --- that they move, and are seen --- */

static void test_nics_move_memory_of_gpus_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        struct world *world = open_gpus(sides[i].owner, sides[i].reader);
        int pinned = fake_cuda_calls("cuMemHostAlloc"); /* for the tables of kernels */

        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "verbs/read");
        paint(world, 0x5a);
        prepare(world, LEND_WRITE, NULL);
        expect(world, LEND_OK, "verbs/write"); /* seen, though nothing was flushed there */
        assert_int_equal(fake_cuda_calls("cuMemHostAlloc"), pinned);
        close_world(world);
    }
}

static void test_a_read_into_a_gpu_is_complete_when_that_was_flushed(void **state)
{
    struct world *world = open_gpus(false, true);
    struct lend_error error = {0};

    (void)state;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    assert_int_equal(flushes(), 1);
    assert_int_equal(fake_cuda_remote_held(), 0);
    /* What came is not believed to be there where the driver does not say so. */
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", LEND_CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(result_of(world, &error), LEND_E_DEVICE);
    assert_non_null(strstr(error.message, "cuFlushGPUDirectRDMAWrites"));
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", 0);
    expect(world, LEND_OK, "verbs/read");
    close_world(world);
}

/* Agents are made when the GPU has said so. */
static struct world *open_ordered(int ordering, int options)
{
    struct world *world = begin_gpus(true, true);

    fake_cuda_order_writes(ordering, options);
    fill_world(world, "fake0", "fake1");
    return world;
}

static void test_a_gpu_that_orders_such_writes_is_not_flushed(void **state)
{
    struct world *world = open_ordered(LEND_CUDA_FLUSH_TO_OWNER, 1);

    (void)state;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    paint(world, 0x5a);
    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_OK, "verbs/write");
    assert_int_equal(lend_lease_revoke(world->lease, NULL), LEND_OK);
    assert_int_equal(flushes(), 0);
    close_world(world);
}

static void test_nothing_comes_in_where_nobody_can_tell_when_it_is_seen(void **state)
{
    struct world *world = open_ordered(0, 0);
    struct lend_error error = {0};
    char text[2048];
    size_t count = 0;

    (void)state;
    check(lend_explain_text(world->peer, world->reader.regions[0],
                            lend_region_id(world->owner.regions[0]), LEND_READ, text, sizeof text,
                            &count, &error),
          &error);
    assert_non_null(strstr(text, "  verbs/read: LEND_E_NO_PATH, no NIC may write to region 1 of "
                                 "ours: nothing tells when GPU 0 sees"));
    assert_non_null(strstr(text, "* loopback/staged\n"));
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "loopback/staged");
    paint(world, 0x5a);
    prepare(world, LEND_WRITE, NULL);
    expect(world, LEND_OK, "loopback/staged");
    close_world(world);
}

static void test_a_write_to_gpus_reads_of_each_behind_its_data(void **state)
{
    struct world *world;

    (void)state;
    device_of_owner = 1;
    world = open_gpus(true, false);
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x5a);
    expect(world, LEND_OK, "verbs/write");
    int works = fake_verbs.works;
    paint(world, 0x5b);
    expect(world, LEND_OK, "verbs/write");
    /* 60 blocks, 14 in a batch, and behind each of its 5 batches a beacon and a word. */
    assert_int_equal(fake_verbs.works - works, 60 + 2 * 5);
    device_of_owner = 0;
    close_world(world);
}

/* Its owner does not tell where to read behind a WRITE, though it gives keys. */
static void test_no_write_is_believed_that_no_read_can_follow(void **state)
{
    struct world *world = open_gpus(true, false);
    struct lend_error error = {0};

    (void)state;
    lend_verbs_conceal(station_of(&world->owner), lend_verbs_beacon_id(0));
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x5a);
    assert_int_equal(result_of(world, &error), LEND_E_NO_PATH);
    prepare(world, LEND_WRITE, NULL);
    expect(world, LEND_OK, "loopback/staged");
    close_world(world);
}

static void test_several_nics_share_a_read_into_a_gpu(void **state)
{
    struct world *world;

    (void)state;
    owner_is_device = reader_is_device = true;
    world = open_world_by("fake0,fake2", "fake1,fake3", 0);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    paint(world, 0x5a);
    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_OK, "verbs/write");
    close_world(world);
}

/* How many memory regions of that NIC give peers bytes of the allocation, and of how much of it. */
static int count_readable(const struct side *side, uint64_t *out_longest)
{
    int count = 0;

    *out_longest = 0;
    for (const struct fake_mr *mr = fake_verbs_table.mrs; mr != NULL; mr = mr->next) {
        if (mr->device < side->device || mr->device >= side->device + REGIONS * BYTES ||
            (mr->access & LEND_VERBS_REMOTE_READ) == 0)
            continue;
        assert_int_equal(mr->access & LEND_VERBS_REMOTE_WRITE, 0);
        *out_longest = mr->mr.length > *out_longest ? mr->mr.length : *out_longest;
        count++;
    }
    return count;
}

/* An allocation may have other things in it than what is lent, and regions that are withdrawn by
 * themselves, whatever leases there are on others. */
static void test_regions_of_one_allocation_have_keys_of_their_own(void **state)
{
    struct world *world = open_gpus(true, false);
    struct lend_error error = {0};
    uint64_t longest = 0;

    (void)state;
    assert_int_equal(count_readable(&world->owner, &longest), REGIONS);
    assert_int_equal(longest, BYTES);
    regions_used = 1;
    grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
          &error);
    assert_int_equal(count_readable(&world->owner, &longest), REGIONS - 1);
    int made = fake_verbs.qps_made;
    paint(world, 0x5a);
    expect(world, LEND_OK, "verbs/read");
    paint(world, 0x5b);
    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_OK, "verbs/write");
    assert_int_equal(fake_verbs.qps_made, made); /* nobody noticed */
    regions_used = REGIONS;
    close_world(world);
}

/* --- ends --- */

/* A WRITE of which so many pieces of work are done: on their way to the GPU, or there. */
static void begin_write(struct world *world, int works)
{
    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x11);
    expect(world, LEND_OK, "verbs/write");
    paint(world, 0x22);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    (void)fake_verbs_let_go(works);
}

static void overwrite(struct world *world)
{
    for (int i = 0; i < REGIONS; i++)
        memset(world->owner.memory[i], 0x77, BYTES);
}

static bool is_overwritten(const struct world *world)
{
    for (int i = 0; i < REGIONS; i++)
        for (int j = 0; j < BYTES; j++)
            if (world->owner.memory[i][j] != 0x77)
                return false;
    return true;
}

static void test_what_was_on_its_way_has_landed_when_a_lease_has_ended(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int works = 1; works < 20; works += 4) {
            struct lend_error error = {0};

            owner_is_device = true;
            reader_is_device = false;
            struct world *world = open_world_of(true, true, i == 0 ? 0 : SOFT_ROCE);
            begin_write(world, works);
            assert_true(works > 14 || fake_cuda_remote_held() > 0);
            check(lend_lease_revoke(world->lease, &error), &error);
            assert_int_equal(fake_cuda_remote_held(), 0);
            overwrite(world);
            let_all_go();
            struct lend_transfer_record record = finish(world, &error);
            assert_int_equal(record.status, LEND_E_REVOKED);
            let_all_go();
            assert_true(is_overwritten(world));
            close_world(world);
        }
}

static void test_a_lease_whose_writes_are_not_flushed_has_not_ended(void **state)
{
    struct world *world = open_gpus(true, false);
    struct lend_error error = {0};

    (void)state;
    begin_write(world, 3);
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", LEND_CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(lend_lease_revoke(world->lease, &error), LEND_E_BUSY);
    assert_non_null(strstr(error.message, "cuFlushGPUDirectRDMAWrites"));
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", 0);
    check(lend_lease_revoke(world->lease, &error), &error);
    assert_int_equal(fake_cuda_remote_held(), 0);
    let_all_go();
    (void)finish(world, &error);
    close_world(world);
}

static void test_the_end_does_not_wait_for_a_context_that_broke_down(void **state)
{
    enum { ILLEGAL_ADDRESS = 700 };
    struct world *world = open_gpus(true, false);
    struct lend_error error = {0};

    (void)state;
    begin_write(world, 3);
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", ILLEGAL_ADDRESS);
    check(lend_lease_revoke(world->lease, &error), &error);
    fake_cuda_fail("cuFlushGPUDirectRDMAWrites", 0);
    let_all_go();
    (void)finish(world, &error);
    close_world(world);
}

static void test_a_withdrawn_region_has_no_keys_and_a_resumed_one_has_new_ones(void **state)
{
    struct world *world = open_gpus(true, true);
    struct lend_region *region = world->owner.regions[1];
    struct lend_error error = {0};
    int before = fake_verbs.mrs;

    (void)state;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    check(lend_region_suspend(region, LEND_WITHDRAW_FORCE, SECOND, &error), &error);
    assert_int_equal(fake_verbs.mrs, before - 1);
    check(lend_region_resume(region, NULL, -1, 0, &error), &error);
    assert_int_equal(fake_verbs.mrs, before);
    refresh(world);
    grant(world, LEND_ACCESS_READ);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.deregister_errno = EIO;
    assert_int_equal(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), LEND_E_BUSY);
    assert_non_null(strstr(error.message, "fake0"));
    fake_verbs.deregister_errno = 0;
    check(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, SECOND, &error), &error);
    assert_int_equal(fake_verbs.mrs, before - 1);
    assert_int_equal(result_of(world, &error), LEND_E_REVOKED);
    close_world(world);
}

/* --- memory that goes away --- */

/* Somebody else has it by now. */
static void renew(struct side *side)
{
    fake_cuda_renew(side->device);
    for (int i = 0; i < REGIONS; i++)
        memset(side->memory[i], 0x77, BYTES);
}

static void test_keys_end_with_memory_that_was_freed(void **state)
{
    uint64_t usual = lend_freed_look_ns;
    struct lend_error error = {0};

    (void)state;
    lend_freed_look_ns = 1; /* not a second */
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        struct world *world = open_gpus(true, false);
        int before = fake_verbs.mrs;

        prepare(world, direction, NULL);
        expect(world, LEND_OK, NULL);
        renew(&world->owner);
        step_often(world);
        assert_int_equal(fake_verbs.mrs, before - REGIONS);
        assert_int_equal(result_of(world, &error), LEND_E_STALE);
        fake_cuda_remote_arrive();
        assert_true(is_overwritten(world));
        for (int i = 0; i < REGIONS; i++)
            check(lend_region_withdraw(world->owner.regions[i], LEND_WITHDRAW_FORCE, 0, &error),
                  &error);
        close_world(world);
    }
    lend_freed_look_ns = usual;
}

/* An import keeps what was registered: what takes its place is another memory. What was registered
 * by its address the driver takes from the NIC. */
static void test_no_key_reaches_what_took_the_place_of_freed_memory(void **state)
{
    struct lend_error error = {0};

    (void)state;
    for (int by_address = 0; by_address < 2; by_address++) {
        struct world *world = begin_gpus(true, false);

        fake_verbs.devices[0].has_dma_buf = !by_address;
        fake_verbs.devices[0].has_peer_memory = by_address;
        fill_world(world, "fake0", "fake1");
        begin_write(world, 0);
        renew(&world->owner);
        let_all_go(); /* before anybody has looked */
        (void)finish(world, &error);
        fake_cuda_remote_arrive();
        assert_true(is_overwritten(world));
        close_world(world);
    }
}

static void test_memory_of_the_reader_is_compared_before_and_after(void **state)
{
    struct lend_error error = {0};

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct world *world = open_gpus(false, true);

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        fake_verbs.holds = late;
        if (!late)
            renew(&world->reader);
        int works = fake_verbs.works;
        post(world);
        step_often(world);
        if (late)
            renew(&world->reader);
        let_all_go();
        struct lend_transfer_record record = finish(world, &error);
        assert_int_equal(record.status, LEND_E_STALE);
        assert_true(record.bytes == 0);
        assert_true(late || fake_verbs.works == works); /* nothing was begun */
        for (int i = 0; i < REGIONS; i++)
            for (int j = 0; j < BYTES; j++)
                assert_int_equal(world->reader.memory[i][j], 0x77);
        close_world(world);
    }
}

static void test_freed_memory_of_the_reader_is_used_no_more(void **state)
{
    uint64_t usual = lend_freed_look_ns;
    struct world *world = open_gpus(false, true);
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error = {0};
    uint32_t block = 0;

    (void)state;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    lend_freed_look_ns = 1;
    renew(&world->reader);
    int before = fake_verbs.mrs;
    lend_freed_look(world->reader.agent, UINT64_MAX);
    step_often(world);
    lend_freed_look_ns = usual;
    assert_int_equal(fake_verbs.mrs, before - REGIONS);
    desc.ticket = world->ticket;
    desc.local_blocks = desc.remote_blocks = &block;
    desc.block_count = 1;
    desc.index_bits = 32;
    assert_int_equal(lend_transfer_post(world->transfer, &desc, &error), LEND_E_STALE);
    assert_non_null(strstr(error.message, "was freed while it was lent"));
    close_world(world);
}

/* --- what no NIC takes --- */

static struct world *open_refused(bool owner, bool reader)
{
    struct world *world = begin_gpus(owner, reader);

    for (int i = 0; i < 2; i++)
        fake_verbs.devices[i].has_dma_buf = false;
    fill_world(world, "fake0", "fake1");
    return world;
}

static void test_what_no_nic_takes_is_staged_or_refused_with_the_cause(void **state)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};

    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        struct world *world = open_refused(sides[i].owner, sides[i].reader);
        uint64_t id = lend_region_id(world->owner.regions[0]);
        struct lend_transfer *refused = NULL;

        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "loopback/staged");
        prepare(world, LEND_WRITE, NULL);
        expect(world, LEND_OK, "loopback/staged");
        desc.peer = world->peer;
        desc.direction = LEND_READ;
        desc.local_regions = world->reader.regions;
        desc.remote_regions = &id;
        desc.region_count = 1;
        desc.block_count_max = 1;
        desc.paths = "verbs/read";
        if (sides[i].reader) {
            assert_int_equal(lend_transfer_prepare(world->reader.agent, &desc, &refused, &error),
                             LEND_E_NO_PATH);
            assert_non_null(strstr(error.message, "fake1 takes no dma-buf"));
        } else {
            prepare(world, LEND_READ, "verbs/read");
            assert_int_equal(result_of(world, &error), LEND_E_NO_PATH);
            assert_non_null(strstr(error.message, "the owner's NIC does not have region"));
        }
        close_world(world);
    }
}

/* Over a network the staged path is taken by nobody unawares: the NIC's reason is told with it. */
static void test_over_a_network_staging_must_be_named(void **state)
{
    struct lend_error error = {0};

    (void)state;
    carrier = "tcp";
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        struct world *world = open_refused(sides[i].owner, sides[i].reader);

        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            prepare(world, direction, NULL);
            assert_int_equal(result_of(world, &error), LEND_E_NO_PATH);
            assert_non_null(strstr(error.message, "name \"tcp/staged\" in paths"));
            if (sides[i].reader && direction == LEND_READ && !sides[i].owner)
                assert_non_null(strstr(error.message, "fake1 takes no dma-buf"));
            paint(world, direction == LEND_READ ? 0 : 0x5a);
            prepare(world, direction, "verbs/read,verbs/write,tcp/staged");
            expect(world, LEND_OK, "tcp/staged");
        }
        close_world(world);
    }
    struct world *world = open_gpus(true, true);
    carrier = "loopback";
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "verbs/read");
    paint(world, 0x5b);
    prepare(world, LEND_WRITE, NULL);
    expect(world, LEND_OK, "verbs/write");
    close_world(world);
}

static void test_more_gpus_than_there_are_bits_for_are_not_written_by_nics(void **state)
{
    struct world *world = open_gpus(true, false);
    struct lend_verbs_station *station = station_of(&world->owner);
    static struct lend_lane lanes[LEND_VERBS_GPUS_MAX + 1];
    struct lend_lane strange = {.ordinal = LEND_VERBS_ORDINALS_MAX};
    struct lend_error error = {0};
    uint32_t gpu = 0, all = 0;

    (void)state;
    assert_int_equal(lend_verbs_gpu_enter(station, &strange, &gpu, &error), LEND_E_LIMIT);
    for (int i = 0; i < LEND_VERBS_GPUS_MAX; i++) {
        /* The first is that of the world's memory. */
        enum lend_status status = lend_verbs_gpu_enter(station, &lanes[i], &gpu, &error);

        assert_int_equal(status, i + 1 < LEND_VERBS_GPUS_MAX ? LEND_OK : LEND_E_LIMIT);
        all |= gpu;
    }
    assert_non_null(strstr(error.message, "16 CUDA contexts"));
    check(lend_verbs_gpu_enter(station, &lanes[0], &gpu, &error), &error); /* it is there */
    assert_int_equal(all, 0xfffe);
    close_world(world);
}

static void test_a_gpu_of_a_high_number_is_reached_through_the_host(void **state)
{
    enum { HIGH = 40 };
    struct world *world = begin_gpus(true, false);
    struct lend_error error = {0};
    char text[2048];
    size_t count = 0;

    (void)state;
    take_gpu_memory(&world->owner, 0);
    fake_cuda_lock();
    fake_cuda_find_locked(world->owner.device)->ordinal = HIGH;
    fake_cuda_unlock();
    world->owner.ordinal = HIGH;
    make_side(&world->owner, "owner", "fake0");
    make_side(&world->reader, "reader", "fake1");
    fill(world);
    refresh(world);
    meet(world);
    grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    paint(world, 0x5a);
    prepare(world, LEND_WRITE, NULL);
    expect(world, LEND_OK, "loopback/staged");
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "loopback/staged");
    check(lend_explain_text(world->peer, NULL, lend_region_id(world->owner.regions[0]), LEND_READ,
                            text, sizeof text, &count, &error),
          &error);
    assert_non_null(strstr(text, "  verbs/read: LEND_E_NO_PATH, its GPU has number 40"));
    world->owner.ordinal = 0;
    close_world(world);
}

/* A short READ goes by one NIC: that nearest to the GPU it comes in to, if it is known which. */
static void test_a_short_read_into_a_gpu_goes_by_the_nearest_nic(void **state)
{
    (void)state;
    for (uint32_t far = 0; far < 3; far++) {
        owner_is_device = false;
        reader_is_device = true;
        struct world *world = open_world_by("fake0,fake2", "fake1,fake3", 0);

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        set_distances(world, far == 0 ? 5 : 3, far == 1 ? 5 : 3);
        int first = fake_verbs.works_of[1], second = fake_verbs.works_of[3];
        paint(world, 0x5a);
        expect(world, LEND_OK, "verbs/read");
        assert_true((fake_verbs.works_of[1] > first) == (far != 0));
        assert_true((fake_verbs.works_of[3] > second) == (far == 0));
        close_world(world);
    }
}

static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

static void test_each_call_of_the_driver_may_fail(void **state)
{
    static const char *const calls[] = {
        "cuMemGetHandleForAddressRange", "cuMemAlloc",      "cuDeviceGetAttribute",
        "cuMemGetAddressRange",          "cuMemsetD8Async", "cuCtxPushCurrent"};

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        for (int nth = 0; nth < 8; nth++) {
            struct world *world = open_gpus(true, true);
            struct lend_region *region = world->owner.regions[0];
            struct lend_error error = {0};

            check(lend_region_suspend(region, LEND_WITHDRAW_FORCE, SECOND, &error), &error);
            int descriptors = count_descriptors();
            fake_cuda_fail_nth(calls[i], nth, LEND_CUDA_ERROR_INVALID_VALUE);
            enum lend_status status = lend_region_resume(region, NULL, -1, 0, &error);
            fake_cuda_fail_nth(calls[i], -1, 0);
            assert_int_equal(count_descriptors(), descriptors);
            if (status == LEND_OK) {
                refresh(world);
                grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
                prepare(world, LEND_READ, NULL);
                expect(world, LEND_OK, NULL); /* by a NIC, or staged */
                paint(world, 0x5a);
                prepare(world, LEND_WRITE, NULL);
                expect(world, LEND_OK, NULL);
            } else {
                assert_int_equal(status, LEND_E_DEVICE);
            }
            close_world(world);
        }
}

static void test_each_registration_may_fail(void **state)
{
    (void)state;
    for (int nth = 0; nth < 14; nth++) {
        struct world *world = begin_gpus(true, true);

        take_gpu_memory(&world->owner, 0);
        take_gpu_memory(&world->reader, 0);
        fake_verbs.fail_register_at = nth + 1; /* not the page of words */
        fake_verbs.failure = ENOMEM;
        make_side(&world->owner, "owner", "fake0");
        if (nth + 1 >= fake_verbs.registrations) {
            int words = fake_verbs.registrations;

            fake_verbs.fail_register_at += fake_verbs.fail_register_at == words;
        }
        make_side(&world->reader, "reader", "fake1");
        fill(world);
        refresh(world);
        meet(world);
        grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, NULL);
        prepare(world, LEND_WRITE, NULL);
        expect(world, LEND_OK, NULL);
        close_world(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nics_move_memory_of_gpus_both_ways),
        cmocka_unit_test(test_a_read_into_a_gpu_is_complete_when_that_was_flushed),
        cmocka_unit_test(test_a_gpu_that_orders_such_writes_is_not_flushed),
        cmocka_unit_test(test_nothing_comes_in_where_nobody_can_tell_when_it_is_seen),
        cmocka_unit_test(test_a_write_to_gpus_reads_of_each_behind_its_data),
        cmocka_unit_test(test_no_write_is_believed_that_no_read_can_follow),
        cmocka_unit_test(test_several_nics_share_a_read_into_a_gpu),
        cmocka_unit_test(test_regions_of_one_allocation_have_keys_of_their_own),
        cmocka_unit_test(test_a_short_read_into_a_gpu_goes_by_the_nearest_nic),
        cmocka_unit_test(test_what_was_on_its_way_has_landed_when_a_lease_has_ended),
        cmocka_unit_test(test_a_lease_whose_writes_are_not_flushed_has_not_ended),
        cmocka_unit_test(test_the_end_does_not_wait_for_a_context_that_broke_down),
        cmocka_unit_test(test_a_withdrawn_region_has_no_keys_and_a_resumed_one_has_new_ones),
        cmocka_unit_test(test_keys_end_with_memory_that_was_freed),
        cmocka_unit_test(test_no_key_reaches_what_took_the_place_of_freed_memory),
        cmocka_unit_test(test_memory_of_the_reader_is_compared_before_and_after),
        cmocka_unit_test(test_freed_memory_of_the_reader_is_used_no_more),
        cmocka_unit_test(test_what_no_nic_takes_is_staged_or_refused_with_the_cause),
        cmocka_unit_test(test_over_a_network_staging_must_be_named),
        cmocka_unit_test(test_more_gpus_than_there_are_bits_for_are_not_written_by_nics),
        cmocka_unit_test(test_a_gpu_of_a_high_number_is_reached_through_the_host),
        cmocka_unit_test(test_each_call_of_the_driver_may_fail),
        cmocka_unit_test(test_each_registration_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
