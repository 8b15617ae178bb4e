/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a long READ or WRITE goes by several NICs at one time, each of which moves its part, and is
 * a success only if the lease lived behind the bytes of each; once a write lease has ended, or a
 * WRITE is called canceled, nothing lands by any of them; a NIC that breaks takes its own leg with
 * it; and whatever else a rail does goes by its first leg, as with one NIC. Method: two agents
 * of one process on a fake libibverbs with two NICs each: fake0 and fake2 are the owner's, fake1
 * and fake3 the reader's. The fake counts by NIC, and checks that keys and queue pairs are of one
 * NIC; a test lets the NICs go on one by one.
 */
#define WORLD_BLOCK 65536
#include "verbs_world.h"

#include <errno.h>

static struct world *open_both(void)
{
    struct world *world = open_world_by("fake0,fake2", "fake1,fake3", 0);

    prepare(world, LEND_READ, "verbs/read");
    return world;
}

/* How far the NICs of that side's legs are from its GPU. */
static void set_distances_of(const struct side *side, uint32_t first, uint32_t second)
{
    const struct lend_verbs_rail *root = rail_of(side);

    atomic_store(&root->station->distances[root->legs[0]->nic][side->ordinal], first);
    atomic_store(&root->station->distances[root->legs[1]->nic][side->ordinal], second);
}

static void set_distances(const struct world *world, uint32_t first, uint32_t second)
{
    set_distances_of(&world->reader, first, second);
}

static void clear(struct world *world)
{
    for (int i = 0; i < REGIONS; i++)
        memset(world->reader.memory[i], 0, BYTES);
}

static void test_a_long_read_goes_by_each_nic_and_a_part_of_it(void **state)
{
    (void)state;
    struct world *world = open_both();
    const uint64_t bytes = (uint64_t)REGIONS * CHOSEN * BLOCK;

    expect(world, LEND_OK, "verbs/read"); /* its lease is looked at here */
    for (int i = 0; i < 3; i++) {
        const int first = fake_verbs.works_of[1], second = fake_verbs.works_of[3];
        const int least = (int)(bytes / BLOCK / 2 - 2);

        clear(world);
        expect(world, LEND_OK, "verbs/read");
        assert_true(fake_verbs.works_of[1] - first >= least);
        assert_true(fake_verbs.works_of[3] - second >= least);
    }
    assert_int_equal(fake_verbs.works_of[0] + fake_verbs.works_of[2], REGIONS); /* windows alone */
    assert_int_equal(fake_verbs.qps, 4 * (1 + LEND_VERBS_READ_LANES));
    close_world(world);
}

static void test_a_long_read_into_a_gpu_goes_by_the_nearest_nics_alone(void **state)
{
    (void)state;
    reader_is_device = true;
    for (uint32_t far = 0; far < 3; far++) {
        struct world *world = open_both();

        expect(world, LEND_OK, "verbs/read");
        set_distances(world, far == 0 ? 5 : 3, far == 1 ? 5 : 3);
        const int first = fake_verbs.works_of[1], second = fake_verbs.works_of[3];
        clear(world);
        expect(world, LEND_OK, "verbs/read");
        assert_true((fake_verbs.works_of[1] > first) == (far != 0));
        assert_true((fake_verbs.works_of[3] > second) == (far != 1));
        close_world(world);
    }
    reader_is_device = false;
}

/* Each transfer goes as these distances of the first NICs and the second ones say. */
static void expect_nearest_to_both(uint32_t direction)
{
    static const struct {
        uint32_t ours[2], theirs[2]; /* 0: not known, or it is the host's memory there */
        bool goes[2];
    } cases[] = {
        {{3, 5}, {0, 0}, {true, false}}, {{5, 3}, {0, 0}, {false, true}},
        {{0, 0}, {3, 5}, {true, false}}, {{0, 0}, {5, 3}, {false, true}},
        {{3, 5}, {9, 3}, {false, true}}, {{3, 5}, {3, 5}, {true, false}},
        {{3, 5}, {5, 3}, {true, true}},  {{5, 3}, {0, 3}, {false, true}},
        {{0, 0}, {0, 3}, {true, true}},
    };

    for (size_t i = 0; i < 4 * sizeof cases / sizeof cases[0]; i++) {
        const bool is_short = i % 2 != 0;
        const uint32_t *ours = cases[i / 4].ours, *theirs = cases[i / 4].theirs;

        reader_is_device = ours[0] + ours[1] > 0 || i / 2 % 2 != 0;
        owner_is_device = theirs[0] + theirs[1] > 0 || i / 2 % 2 != 0;
        struct world *world = open_both();

        set_distances_of(&world->reader, ours[0], ours[1]);
        set_distances_of(&world->owner, theirs[0], theirs[1]);
        prepare(world, direction, direction == LEND_READ ? "verbs/read" : "verbs/write");
        for (int round = 0; round < 2; round++) { /* with keys of the second leg, and without */
            const uint64_t first = fake_verbs.bytes_of[1], second = fake_verbs.bytes_of[3];

            paint(world, round + 1);
            post_some(world, is_short ? 4 : CHOSEN);
            assert_int_equal(finish(world, &(struct lend_error){0}).status, LEND_OK);
            const bool goes = cases[i / 4].goes[1] && (!is_short || !cases[i / 4].goes[0]);
            assert_true((fake_verbs.bytes_of[1] - first > BLOCK) == cases[i / 4].goes[0]);
            assert_true((fake_verbs.bytes_of[3] - second > BLOCK) == goes);
        }
        close_world(world);
    }
    reader_is_device = owner_is_device = false;
}

static void test_a_write_between_gpus_goes_by_the_nics_nearest_to_both(void **state)
{
    (void)state;
    expect_nearest_to_both(LEND_WRITE);
}

static void test_a_read_between_gpus_goes_by_the_nics_nearest_to_both(void **state)
{
    (void)state;
    expect_nearest_to_both(LEND_READ);
}

/* Each leg reads its own NIC's way behind its part, so that what it wrote is there. */
static void test_a_long_write_to_a_gpu_goes_by_each_nic_and_is_there(void **state)
{
    (void)state;
    owner_is_device = true;
    struct world *world = open_both();

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x11);
    expect(world, LEND_OK, "verbs/write"); /* the second leg wishes for keys */
    const int first = fake_verbs.works_of[1], second = fake_verbs.works_of[3];
    paint(world, 0x22);
    expect(world, LEND_OK, "verbs/write");
    assert_true(fake_verbs.works_of[1] > first);
    assert_true(fake_verbs.works_of[3] > second);
    assert_int_equal(fake_cuda_calls("cuFlushGPUDirectRDMAWrites"), 0);
    close_world(world);
    owner_is_device = false;
}

static void test_each_leg_goes_to_another_nic_of_the_owner(void **state)
{
    (void)state;
    struct world *world = open_both();
    const struct lend_verbs_rail *owner = rail_of(&world->owner), *reader = rail_of(&world->reader);

    for (int i = 0; i < 2; i++) {
        assert_int_equal(owner->legs[i]->state, LEND_VERBS_RAIL_UP);
        assert_int_equal(reader->legs[i]->state, LEND_VERBS_RAIL_UP);
    }
    assert_ptr_not_equal(owner->legs[0]->place.nic, owner->legs[1]->place.nic);
    assert_ptr_not_equal(reader->legs[0]->place.nic, reader->legs[1]->place.nic);
    close_world(world);
}

/* The bytes of one READ that went by each of the reader's NICs; links have that width and speed. */
static void read_by_speeds(const uint8_t (*links)[2], uint64_t *out_first, uint64_t *out_second)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    begin_world();
    for (int i = 0; i < FAKE_VERBS_DEVICES_MAX; i++) {
        fake_verbs.devices[i].active_width = links[i][0];
        fake_verbs.devices[i].active_speed = links[i][1];
    }
    fill_world(world, "fake0,fake2", "fake1,fake3");
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    clear(world);
    *out_first = fake_verbs.bytes_of[1];
    *out_second = fake_verbs.bytes_of[3];
    expect(world, LEND_OK, "verbs/read");
    *out_first = fake_verbs.bytes_of[1] - *out_first;
    *out_second = fake_verbs.bytes_of[3] - *out_second;
    close_world(world);
}

static void test_the_part_of_each_nic_is_as_its_link_is_fast(void **state)
{
    enum { X1 = 1, X4 = 2, X12 = 8, SDR = 1, EDR = 32, HDR = 64, NDR = 128, UNKNOWN = 3 };
    static const struct {
        uint8_t links[FAKE_VERBS_DEVICES_MAX][2]; /* legs are 1 with 0, and 3 with 2 */
        uint64_t first, second;                   /* that ratio */
    } cases[] = {
        {{{X4, EDR}, {X4, EDR}, {X4, EDR}, {X4, EDR}}, 1, 1},
        {{{X4, NDR}, {X4, EDR}, {X4, NDR}, {X4, NDR}}, 1, 4},
        {{{X4, NDR}, {X4, NDR}, {X4, HDR}, {X4, NDR}}, 2, 1},    /* the owner's is slower */
        {{{X1, SDR}, {X4, NDR}, {X12, NDR}, {X12, NDR}}, 1, 16}, /* at least so much */
        {{{X4, NDR}, {X4, NDR}, {X4, NDR}, {X4, UNKNOWN}}, 1, 1},
        {{{X4, NDR}, {X4, NDR}, {UNKNOWN, SDR}, {X4, EDR}}, 1, 1},
    };
    const uint64_t total = (uint64_t)REGIONS * CHOSEN * BLOCK;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t first = 0, second = 0, sum = cases[i].first + cases[i].second;

        read_by_speeds(cases[i].links, &first, &second);
        /* Words of leases are among them. */
        assert_in_range(first + second, total, total + 1024);
        assert_in_range(first, total / sum * cases[i].first - LEND_VERBS_SHARE_BYTES,
                        total / sum * cases[i].first + 1024);
    }
}

static void test_where_one_side_has_one_nic_both_legs_lead_to_it(void **state)
{
    static const char *const owners[] = {"fake0", "fake0,fake2"};
    static const char *const readers[] = {"fake1,fake3", "fake1"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *world = open_world_by(owners[i], readers[i], 0);

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        clear(world);
        expect(world, LEND_OK, "verbs/read");
        assert_int_equal(fake_verbs.works_of[3] > 0, i == 0);
        close_world(world);
    }
}

static void test_the_word_is_read_behind_the_bytes_of_each_leg(void **state)
{
    (void)state;
    /* One NIC has done all of its work, and the other so much, when the lease ends. */
    for (int device = 1; device <= 3; device += 2) {
        for (int after = 0; after < 60; after += 7) {
            struct world *world = open_both();
            struct lend_error error = {0};

            expect(world, LEND_OK, "verbs/read");
            clear(world);
            fake_verbs.holds = true;
            post(world);
            for (int i = 0; i < 20; i++) { /* more is posted as it goes on */
                step_often(world);
                (void)fake_verbs_let_go_of(device, 1 << 20);
            }
            int done = fake_verbs_let_go_of(4 - device, after);
            step(world);
            check(lend_lease_revoke(world->lease, &error), &error);
            for (int i = 0; i < REGIONS; i++)
                memset(world->owner.memory[i], 0xee, BYTES);
            fake_verbs.holds = false;
            (void)fake_verbs_let_go(1 << 20);
            struct lend_transfer_record record = finish(world, &error);
            assert_int_equal(record.status, done < after ? LEND_OK : LEND_E_REVOKED);
            for (uint64_t i = 0; i < record.blocks; i++) /* what it calls proven is of this life */
                for (int j = 0; j < BLOCK; j += 61)
                    assert_int_equal(
                        world->reader.memory[i / CHOSEN][(i % CHOSEN) * BLOCK + (size_t)j],
                        byte_at((int)(i / CHOSEN),
                                (BLOCKS - 1 - 3 * (int)(i % CHOSEN)) * BLOCK + j));
            close_world(world);
        }
    }
}

static void test_a_nic_that_breaks_takes_its_own_leg_with_it(void **state)
{
    (void)state;
    for (int device = 1; device <= 3; device += 2) {
        struct world *world = open_both();
        struct lend_error error = {0};

        expect(world, LEND_OK, "verbs/read");
        clear(world);
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        fake_verbs.devices[device].port_state = LEND_VERBS_PORT_DOWN;
        fake_verbs_event(device, LEND_VERBS_EVENT_PORT_ERROR, 1, NULL);
        step_often(world);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        assert_int_equal(finish(world, &error).status, LEND_OK); /* tried again, by the other */
        assert_true(is_here(world));
        int works = fake_verbs.works_of[device];
        step_often(world);
        clear(world);
        expect(world, LEND_OK, "verbs/read");
        assert_int_equal(fake_verbs.works_of[device], works);

        fake_verbs.devices[device].port_state = LEND_VERBS_PORT_ACTIVE;
        fake_verbs_event(device, LEND_VERBS_EVENT_PORT_ACTIVE, 1, NULL);
        step_often(world);
        for (int i = 0; i < 2; i++) {
            clear(world);
            expect(world, LEND_OK, "verbs/read");
            step_often(world);
        }
        assert_true(fake_verbs.works_of[device] > works);
        close_world(world);
    }
}

static void test_whatever_status_a_part_ends_with_the_read_ends_well(void **state)
{
    (void)state;
    for (int status = LEND_VERBS_WC_LOCAL_LENGTH; status < LEND_VERBS_WC_STATUSES; status += 3) {
        for (int at = 1; at < 80; at += 33) {
            struct world *world = open_both();
            struct lend_error error = {0};

            prepare(world, LEND_READ, NULL);
            expect(world, LEND_OK, "verbs/read");
            clear(world);
            fake_verbs.status_at = fake_verbs.works + at;
            fake_verbs.status = status;
            post(world);
            assert_int_equal(finish(world, &error).status, LEND_OK);
            assert_true(is_here(world));
            fake_verbs.status_at = -1;
            step_often(world);
            expect(world, LEND_OK, NULL);
            close_world(world);
        }
    }
}

static void test_a_cancel_is_quiet_on_every_leg(void **state)
{
    (void)state;
    for (int lets_go = 0; lets_go < 2; lets_go++) {
        struct world *world = open_both();

        expect(world, LEND_OK, "verbs/read");
        clear(world);
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
        if (lets_go != 0) {
            (void)fake_verbs_let_go_of(3, 1 << 20);
            step_often(world);
            assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
            (void)fake_verbs_let_go_of(1, 1 << 20);
        }
        enum lend_status status = LEND_PENDING;
        while (status == LEND_PENDING) {
            step(world);
            status = lend_transfer_test(world->transfer);
        }
        assert_int_equal(status, LEND_E_CANCELED);
        clear(world);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        step_often(world);
        for (int i = 0; i < REGIONS; i++)
            for (int j = 0; j < BYTES; j += 509)
                assert_int_equal(world->reader.memory[i][j], 0);
        expect(world, LEND_OK, "verbs/read");
        close_world(world);
    }
}

/* The last of them is the world's. */
static void post_many(struct world *world, struct lend_transfer **transfers, int count)
{
    for (int i = 0; i < count; i++) {
        world->transfer = i == 0 ? world->transfer : NULL;
        if (i > 0)
            prepare(world, LEND_READ, "verbs/read");
        transfers[i] = world->transfer;
        post(world);
        step(world);
    }
}

static void test_many_long_reads_are_under_way_at_once(void **state)
{
    enum { MANY = LEND_VERBS_SPLITS + 4 };

    (void)state;
    struct world *world = open_both();
    struct lend_transfer *transfers[MANY];
    struct lend_error error = {0};

    expect(world, LEND_OK, "verbs/read");
    clear(world);
    fake_verbs.holds = true;
    post_many(world, transfers, MANY);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    for (int i = 0; i < MANY; i++) {
        world->transfer = transfers[i];
        assert_int_equal(finish(world, &error).status, LEND_OK);
        if (i + 1 < MANY)
            assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    }
    assert_true(is_here(world));
    close_world(world);
}

static void test_a_cancel_is_told_of_a_read_that_has_nothing_under_way(void **state)
{
    enum { MANY = 6 };

    (void)state;
    struct world *world = open_both();
    struct lend_transfer *transfers[MANY];
    struct lend_error error = {0};

    expect(world, LEND_OK, "verbs/read");
    fake_verbs.holds = true;
    post_many(world, transfers, MANY); /* the last find no room for a batch */
    (void)lend_transfer_cancel(world->transfer, 0);
    for (int i = 0; i < 20; i++)
        step(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_E_CANCELED);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    for (int i = 0; i < MANY; i++) {
        world->transfer = transfers[i];
        assert_int_equal(finish(world, &error).status, i + 1 < MANY ? LEND_OK : LEND_E_CANCELED);
        if (i + 1 < MANY)
            assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    }
    close_world(world);
}

/* --- WRITEs --- */

enum { SOFT_ROCE = 0xffffff };

/* Of windows, and of private regions. */
static const uint32_t vendors[] = {0, SOFT_ROCE};

/* A world in which a WRITE has gone by both legs. */
static struct world *open_written(uint32_t vendor)
{
    struct world *world = open_world_by("fake0,fake2", "fake1,fake3", vendor);

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 0x11);
    expect(world, LEND_OK, "verbs/write");
    paint(world, 0x22);
    return world;
}

static void let_all_go(void)
{
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
}

static void test_a_long_write_goes_by_each_nic_from_the_first_on(void **state)
{
    enum { RUNS = (BLOCKS + 2) / 3 }; /* more than are given a key at once */
    const uint64_t bytes = (uint64_t)REGIONS * CHOSEN * BLOCK;
    uint32_t blocks[RUNS];

    (void)state;
    for (uint32_t i = 0; i < RUNS; i++)
        blocks[i] = 3 * i;
    for (int i = 0; i < 4; i++) {
        struct world *world = open_world_by("fake0,fake2", "fake1,fake3", vendors[i % 2]);
        const int before = fake_verbs.mrs, keys = i < 2 ? 1 : RUNS;

        if (i >= 2)
            grant_blocks(world, LEND_ACCESS_WRITE, blocks, RUNS);
        prepare(world, LEND_WRITE, "verbs/write");
        for (int round = 0; round < 3; round++) {
            const uint64_t first = fake_verbs.bytes_of[1], second = fake_verbs.bytes_of[3];

            paint(world, round + 1);
            expect(world, LEND_OK, "verbs/write");
            assert_true(fake_verbs.bytes_of[1] - first >= bytes / 2 - LEND_VERBS_SHARE_BYTES);
            assert_true(fake_verbs.bytes_of[3] - second >= bytes / 2 - LEND_VERBS_SHARE_BYTES);
        }
        /* Of each leg, and no more than once. */
        assert_int_equal(i % 2 == 0 ? fake_verbs.mws : fake_verbs.mrs - before, 2 * REGIONS * keys);
        check(lend_lease_revoke(world->lease, NULL), NULL);
        assert_int_equal(fake_verbs.mrs, before);
        close_world(world);
    }
}

static void test_short_writes_cost_no_keys_of_other_legs(void **state)
{
    (void)state;
    struct world *world = open_world_by("fake0,fake2", "fake1,fake3", SOFT_ROCE);
    const int before = fake_verbs.mrs;

    prepare(world, LEND_WRITE, "verbs/write");
    paint(world, 1);
    post_some(world, 4);
    assert_int_equal(finish(world, &(struct lend_error){0}).status, LEND_OK);
    assert_int_equal(fake_verbs.mrs - before, REGIONS);
    assert_int_equal(fake_verbs.works_of[3], 0);
    close_world(world);
}

static void test_after_a_revoke_nothing_lands_by_any_leg(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int device = 1; device <= 3; device += 2)
            for (int after = 0; after < 40; after += 5) {
                struct world *world = open_written(vendors[i]);
                struct lend_error error = {0};

                fake_verbs.holds = true;
                post(world);
                step_often(world);
                (void)fake_verbs_let_go_of(device, after);
                (void)fake_verbs_let_go_of(4 - device, 3);
                step(world);
                check(lend_lease_revoke(world->lease, &error), &error);
                struct photo photo = take_photo(world);
                let_all_go();
                assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
                step_often(world);
                expect_photo(&photo, world);
                close_world(world);
            }
}

static void test_a_write_ends_well_whatever_nic_or_status_breaks_a_leg(void **state)
{
    (void)state;
    for (int status = LEND_VERBS_WC_LOCAL_LENGTH; status < LEND_VERBS_WC_STATUSES; status += 3)
        for (int at = 1; at < 80; at += 26) {
            struct world *world = open_written(vendors[at % 2]);

            prepare(world, LEND_WRITE, status % 2 != 0 ? "verbs/write" : NULL);
            fake_verbs.status_at = fake_verbs.works + at;
            fake_verbs.status = status;
            expect(world, LEND_OK, NULL);
            fake_verbs.status_at = -1;
            step_often(world);
            prepare(world, LEND_WRITE, "verbs/write");
            paint(world, 0x33);
            expect(world, LEND_OK, "verbs/write");
            step_often(world);
            int works = fake_verbs.works_of[3];
            paint(world, 0x44);
            expect(world, LEND_OK, "verbs/write");
            assert_true(fake_verbs.works_of[3] > works); /* both legs are there again */
            close_world(world);
        }
}

static void test_a_write_is_not_canceled_while_a_leg_that_broke_may_land(void **state)
{
    (void)state;
    for (int device = 1; device <= 3; device += 2) {
        struct world *world = open_written(0);

        fake_verbs.holds = true;
        post(world);
        step_often(world);
        fake_verbs.status_at = fake_verbs.works;
        fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
        (void)fake_verbs_let_go_of(device, 1);
        fake_verbs.status_at = -1;
        /* That leg is broken, and its owner has not heard of it. */
        for (int i = 0; i < 20; i++)
            (void)lend_agent_progress(world->reader.agent, 0, NULL);
        assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
        for (int i = 0; i < 20; i++)
            (void)lend_agent_progress(world->reader.agent, 0, NULL);
        (void)fake_verbs_let_go_of(4 - device, 1 << 20);
        for (int i = 0; i < 20; i++)
            (void)lend_agent_progress(world->reader.agent, 0, NULL);
        assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
        step_often(world);
        assert_int_equal(lend_transfer_test(world->transfer), LEND_E_CANCELED);
        struct photo photo = take_photo(world);
        let_all_go();
        expect_photo(&photo, world);
        expect(world, LEND_OK, "verbs/write");
        close_world(world);
    }
}

/* The owner has not answered what a leg wishes for yet. */
static void test_a_write_whose_keys_are_on_their_way_can_be_ended(void **state)
{
    (void)state;
    for (int breaks = 0; breaks < 2; breaks++) {
        struct world *world = open_both();
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        post_some(world, 4); /* by the root, which is told its keys */
        assert_int_equal(finish(world, &error).status, LEND_OK);
        fake_verbs.holds = true;
        paint(world, 0x22);
        post(world);
        for (int i = 0; i < 20; i++)
            (void)lend_agent_progress(world->reader.agent, 0, NULL);
        if (breaks == 0) {
            assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
            let_all_go();
            for (int i = 0; i < 20; i++)
                (void)lend_agent_progress(world->reader.agent, 0, NULL);
            assert_int_equal(lend_transfer_test(world->transfer), LEND_E_CANCELED);
        } else {
            fake_verbs.devices[3].port_state = LEND_VERBS_PORT_DOWN;
            fake_verbs_event(3, LEND_VERBS_EVENT_PORT_ERROR, 1, NULL);
            for (int i = 0; i < 20; i++)
                (void)lend_agent_progress(world->reader.agent, 0, NULL);
            let_all_go();
            assert_int_equal(finish(world, &error).status, LEND_OK); /* by the root alone */
            assert_true(is_here(world));
        }
        step_often(world);
        paint(world, 0x33);
        expect(world, LEND_OK, "verbs/write");
        close_world(world);
    }
}

static void test_a_leg_that_has_no_keys_leaves_its_part_to_the_first(void **state)
{
    (void)state;
    for (int nth = 0; nth < REGIONS; nth++) {
        struct world *world = open_both();
        struct lend_error error = {0};

        prepare(world, LEND_WRITE, "verbs/write");
        post_some(world, 4);
        assert_int_equal(finish(world, &error).status, LEND_OK);
        int works = fake_verbs.works_of[3];
        fake_verbs.fail_at = fake_verbs.calls + nth; /* a window of the second leg */
        fake_verbs.failure = ENOMEM;
        paint(world, 0x22);
        expect(world, LEND_OK, "verbs/write");
        fake_verbs.fail_at = -1;
        assert_int_equal(fake_verbs.works_of[3], works);
        close_world(world);
    }
}

static void test_messages_for_legs_that_cannot_be_cut_the_connection(void **state)
{
    (void)state;
    for (uint32_t leg = 2; leg < 16; leg += 3) {
        struct lend_verbs_rail *root;
        struct world *world = open_both();
        uint8_t bytes[8] = {LEND_VERBS_HALT};
        struct lend_error error = {0};

        lend_verbs_message_set_leg(bytes, leg);
        root = rail_of(&world->owner);
        assert_int_equal(root->base.ops->hear(&root->base, bytes, 5, &error), LEND_E_CORRUPT);
        bytes[0] = LEND_VERBS_KEYS;
        lend_verbs_message_set_leg(bytes, leg);
        root = rail_of(&world->reader);
        assert_int_equal(root->base.ops->hear(&root->base, bytes, 5, &error), LEND_E_CORRUPT);
        close_world(world);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_read_goes_by_each_nic_and_a_part_of_it),
        cmocka_unit_test(test_a_long_read_into_a_gpu_goes_by_the_nearest_nics_alone),
        cmocka_unit_test(test_a_write_between_gpus_goes_by_the_nics_nearest_to_both),
        cmocka_unit_test(test_a_read_between_gpus_goes_by_the_nics_nearest_to_both),
        cmocka_unit_test(test_a_long_write_to_a_gpu_goes_by_each_nic_and_is_there),
        cmocka_unit_test(test_each_leg_goes_to_another_nic_of_the_owner),
        cmocka_unit_test(test_the_part_of_each_nic_is_as_its_link_is_fast),
        cmocka_unit_test(test_where_one_side_has_one_nic_both_legs_lead_to_it),
        cmocka_unit_test(test_the_word_is_read_behind_the_bytes_of_each_leg),
        cmocka_unit_test(test_a_nic_that_breaks_takes_its_own_leg_with_it),
        cmocka_unit_test(test_whatever_status_a_part_ends_with_the_read_ends_well),
        cmocka_unit_test(test_a_cancel_is_quiet_on_every_leg),
        cmocka_unit_test(test_many_long_reads_are_under_way_at_once),
        cmocka_unit_test(test_a_cancel_is_told_of_a_read_that_has_nothing_under_way),
        cmocka_unit_test(test_a_long_write_goes_by_each_nic_from_the_first_on),
        cmocka_unit_test(test_short_writes_cost_no_keys_of_other_legs),
        cmocka_unit_test(test_after_a_revoke_nothing_lands_by_any_leg),
        cmocka_unit_test(test_a_write_ends_well_whatever_nic_or_status_breaks_a_leg),
        cmocka_unit_test(test_a_write_is_not_canceled_while_a_leg_that_broke_may_land),
        cmocka_unit_test(test_a_write_whose_keys_are_on_their_way_can_be_ended),
        cmocka_unit_test(test_a_leg_that_has_no_keys_leaves_its_part_to_the_first),
        cmocka_unit_test(test_messages_for_legs_that_cannot_be_cut_the_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
