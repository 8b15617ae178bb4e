/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a READ by queue pairs reports success only for bytes that were read while the lease lived;
 * whatever breaks, it ends with the lease's cause or by another path, and nothing lands after its
 * end; a withdrawn region is reached by no key; and all that was made on a NIC is given back.
 * Method: two agents of one process under manual progress, with transports loopback and verbs, the
 * latter on a fake libibverbs: its NICs move bytes when told to, and fail as they are told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "double.h"
#include "fake/verbs.h"

#define SECOND UINT64_C(1000000000)

enum { REGIONS = 3, BLOCKS = 64, BLOCK = 4096, BYTES = BLOCKS * BLOCK, STEPS_MAX = 1 << 16 };

struct side {
    struct lend_agent *agent;
    uint8_t *memory[REGIONS];
    struct lend_region *regions[REGIONS];
};

struct world {
    struct side owner, reader;
    struct lend_peer *peer;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
};

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

/* --- the world --- */

static void make_region(struct side *side, int at)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    side->memory[at] = calloc(1, BYTES);
    assert_non_null(side->memory[at]);
    check(lend_memory_system(side->memory[at], BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    check(lend_region_register(side->agent, &desc, 1, &side->regions[at], NULL, &error), &error);
}

static void make_side(struct side *side, const char *name, const char *device)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error error = {0};

    config.name = name;
    config.transports = device != NULL ? "loopback,verbs" : "loopback";
    config.verbs_devices = device;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    check(lend_agent_create(&config, &side->agent, &error), &error);
    for (int i = 0; i < REGIONS; i++)
        make_region(side, i);
}

static void step(struct world *world)
{
    (void)lend_agent_progress(world->owner.agent, 0, NULL);
    (void)lend_agent_progress(world->reader.agent, 0, NULL);
}

static void step_often(struct world *world)
{
    for (int i = 0; i < 200; i++)
        step(world);
}

static void refresh(struct world *world)
{
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t count = 0;

    check(lend_metadata_export(world->owner.agent, bytes, sizeof bytes, &count, &error), &error);
    if (world->peer == NULL)
        check(lend_peer_import(world->reader.agent, bytes, count, &world->peer, &error), &error);
    else
        check(lend_peer_refresh(world->peer, bytes, count, &error), &error);
}

static void meet(struct world *world)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; status == LEND_E_TIMEOUT && i < STEPS_MAX; i++) {
        status = lend_peer_connect(world->peer, 0, &error);
        step(world);
    }
    check(status, &error);
    step_often(world);
}

static void grant(struct world *world, uint32_t access)
{
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_block_set set = {0};
    struct lend_error error = {0};
    uint8_t bytes[512];
    size_t count = 0;

    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    world->ticket = NULL;
    world->lease = NULL;
    set.regions = world->owner.regions;
    set.region_count = REGIONS;
    set.count = BLOCKS;
    desc.sets = &set;
    desc.set_count = 1;
    desc.access = access;
    desc.time_to_live_ns = 3600 * SECOND;
    check(lend_lease_grant(world->owner.agent, &desc, &world->lease, &error), &error);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, count, &world->ticket, &error), &error);
}

static uint8_t byte_at(int region, int offset)
{
    return (uint8_t)(offset / BLOCK * 7 + offset % 251 + region * 31 + 1);
}

static void fill(struct world *world)
{
    for (int i = 0; i < REGIONS; i++)
        for (int j = 0; j < BYTES; j++)
            world->owner.memory[i][j] = byte_at(i, j);
}

static struct world *open_world(bool owner_has, bool reader_has)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    fake_verbs_reset();
    lend_verbs = &fake_verbs_ops;
    make_side(&world->owner, "owner", owner_has ? "fake0" : NULL);
    make_side(&world->reader, "reader", reader_has ? "fake1" : NULL);
    fill(world);
    refresh(world);
    meet(world);
    grant(world, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    return world;
}

static void close_side(struct side *side)
{
    lend_agent_destroy(side->agent);
    for (int i = 0; i < REGIONS; i++)
        free(side->memory[i]);
}

static void close_world(struct world *world)
{
    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    lend_peer_forget(world->peer);
    close_side(&world->reader);
    close_side(&world->owner);
    assert_int_equal(fake_verbs_kept(), 0);
    lend_verbs = NULL;
    free(world);
}

/* --- transfers --- */

/* Every third block, backwards, to the beginning: work requests that touch nowhere. */
enum { CHOSEN = 20 };

static void prepare(struct world *world, uint32_t direction, const char *paths)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    uint64_t ids[REGIONS];
    struct lend_error error = {0};

    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    world->transfer = NULL;
    for (int i = 0; i < REGIONS; i++)
        ids[i] = lend_region_id(world->owner.regions[i]);
    desc.peer = world->peer;
    desc.direction = direction;
    desc.local_regions = world->reader.regions;
    desc.remote_regions = ids;
    desc.region_count = REGIONS;
    desc.block_count_max = BLOCKS;
    desc.paths = paths;
    check(lend_transfer_prepare(world->reader.agent, &desc, &world->transfer, &error), &error);
}

static void post(struct world *world)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    uint32_t here[CHOSEN], there[CHOSEN];
    struct lend_error error = {0};

    for (uint32_t i = 0; i < CHOSEN; i++) {
        here[i] = i;
        there[i] = BLOCKS - 1 - 3 * i;
    }
    desc.ticket = world->ticket;
    desc.local_blocks = here;
    desc.remote_blocks = there;
    desc.block_count = CHOSEN;
    desc.index_bits = 32;
    desc.timeout_ns = 60 * SECOND;
    check(lend_transfer_post(world->transfer, &desc, &error), &error);
}

static struct lend_transfer_record finish(struct world *world, struct lend_error *error)
{
    struct lend_transfer_record record = {.struct_size = sizeof(struct lend_transfer_record)};
    enum lend_status status = LEND_PENDING;

    for (int i = 0; status == LEND_PENDING && i < STEPS_MAX; i++) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_not_equal(status, LEND_PENDING);
    assert_int_equal(lend_transfer_describe(world->transfer, &record, error), LEND_OK);
    return record;
}

static bool is_here(const struct world *world)
{
    for (int r = 0; r < REGIONS; r++)
        for (int i = 0; i < CHOSEN; i++)
            if (memcmp(world->reader.memory[r] + (size_t)i * BLOCK,
                       world->owner.memory[r] + (size_t)(BLOCKS - 1 - 3 * i) * BLOCK, BLOCK) != 0)
                return false;
    return true;
}

static void expect(struct world *world, enum lend_status status, const char *path)
{
    struct lend_error error = {0};
    struct lend_transfer_record record;

    post(world);
    record = finish(world, &error);
    if (record.status != (int32_t)status)
        fail_msg("%s, not %s: %s", lend_status_name(record.status), lend_status_name(status),
                 error.message);
    if (path != NULL)
        assert_string_equal(record.path, path);
    if (status == LEND_OK)
        assert_true(is_here(world));
}

/* --- tests --- */

static void test_a_read_goes_by_queue_pairs_and_is_told_so(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};
    char text[2048];
    size_t count = 0;

    check(lend_explain_text(world->peer, NULL, lend_region_id(world->owner.regions[0]), LEND_READ,
                            text, sizeof text, &count, &error),
          &error);
    assert_non_null(strstr(text, "* verbs/read\n"));
    prepare(world, LEND_READ, NULL);
    int works = fake_verbs.works;
    expect(world, LEND_OK, "verbs/read");
    assert_true(fake_verbs.works > works + REGIONS * CHOSEN);

    works = fake_verbs.posts;
    expect(world, LEND_OK, "verbs/read");
    assert_true(fake_verbs.posts - works <= 6); /* 60 blocks and their words */
    close_world(world);
}

static void test_a_write_is_served_by_its_owner(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_WRITE, NULL);
    memset(world->reader.memory[1], 0x5a, BYTES);
    post(world);
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "loopback");
    assert_true(is_here(world));
    close_world(world);
}

static void test_where_one_side_has_no_nic_reads_are_served(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world *world = open_world(i == 1, i == 2);

        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "loopback");
        close_world(world);
    }
}

static void test_a_lease_that_was_revoked_is_seen_in_its_word(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    check(lend_lease_revoke(world->lease, &error), &error);
    expect(world, LEND_E_REVOKED, "verbs/read");
    close_world(world);
}

static void test_bytes_of_the_next_life_are_never_a_success(void **state)
{
    (void)state;
    /* The lease ends after so many pieces of work, and the blocks are overwritten at once. */
    for (int after = 0; after < 80; after += 3) {
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_READ, "verbs/read");
        expect(world, LEND_OK, "verbs/read");
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        int done = fake_verbs_let_go(after);
        step(world);
        check(lend_lease_revoke(world->lease, &error), &error);
        for (int i = 0; i < REGIONS; i++)
            memset(world->owner.memory[i], 0xee, BYTES);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        struct lend_transfer_record record = finish(world, &error);
        /* All blocks, and the word of each of four batches. */
        assert_int_equal(record.status, done == REGIONS * CHOSEN + 4 ? LEND_OK : LEND_E_REVOKED);
        for (uint64_t i = 0; i < record.blocks; i++) /* what it calls proven is of this life */
            for (int j = 0; j < BLOCK; j++)
                assert_int_equal(
                    world->reader.memory[i / CHOSEN][(i % CHOSEN) * BLOCK + (size_t)j],
                    byte_at((int)(i / CHOSEN), (BLOCKS - 1 - 3 * (int)(i % CHOSEN)) * BLOCK + j));
        close_world(world);
    }
}

static void test_a_cancel_says_so_when_nothing_lands_any_more(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    for (int i = 0; i < REGIONS; i++)
        memset(world->reader.memory[i], 0, BYTES);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    /* The NIC says nothing for ever: then its queue pairs are destroyed. */
    enum lend_status status = LEND_PENDING;
    while (status == LEND_PENDING) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_equal(status, LEND_E_CANCELED);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    for (int i = 0; i < REGIONS; i++)
        for (int j = 0; j < BYTES; j++)
            assert_int_equal(world->reader.memory[i][j], 0);
    expect(world, LEND_OK, "verbs/read"); /* by other queue pairs */
    close_world(world);
}

static void test_a_cancel_waits_for_what_is_landing(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    assert_int_equal(finish(world, &error).status, LEND_E_CANCELED);
    expect(world, LEND_OK, "verbs/read");
    close_world(world);
}

static void test_withdrawing_ends_the_keys_and_readers_are_told_why(void **state)
{
    (void)state;
    static const char *const paths[] = {NULL, "verbs/read"};

    for (int i = 0; i < 2; i++) {
        struct world *world = open_world(true, true);
        struct lend_error error = {0};

        prepare(world, LEND_READ, paths[i]);
        expect(world, LEND_OK, "verbs/read");
        fake_verbs.holds = true;
        post(world);
        step_often(world);
        int before = fake_verbs.mrs;
        check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
              &error);
        assert_int_equal(fake_verbs.mrs, before - 1);
        memset(world->owner.memory[1], 0xee, BYTES);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
        close_world(world);
    }
}

static void test_a_region_that_a_nic_keeps_is_busy(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    fake_verbs.deregister_errno = 16; /* EBUSY */
    assert_int_equal(
        lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND / 1000, &error),
        LEND_E_BUSY);
    assert_non_null(strstr(error.message, "fake0"));
    fake_verbs.deregister_errno = 0;
    check(lend_region_withdraw(world->owner.regions[1], LEND_WITHDRAW_FORCE, SECOND, &error),
          &error);
    close_world(world);
}

static void test_a_resumed_region_is_read_by_new_keys(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    for (int i = 0; i < 2; i++) {
        struct side *side = i == 0 ? &world->owner : &world->reader;

        check(lend_region_suspend(side->regions[2], LEND_WITHDRAW_FORCE, SECOND, &error), &error);
        check(lend_region_resume(side->regions[2], NULL, -1, 0, &error), &error);
        refresh(world);
        grant(world, LEND_ACCESS_READ);
        fill(world);
        expect(world, LEND_OK, "verbs/read");
    }
    close_world(world);
}

static void test_whatever_status_work_ends_with_a_read_ends_well(void **state)
{
    (void)state;
    for (int status = LEND_VERBS_WC_LOCAL_LENGTH; status < LEND_VERBS_WC_STATUSES; status++) {
        for (int only = 0; only < 2; only++) {
            struct world *world = open_world(true, true);

            prepare(world, LEND_READ, only != 0 ? "verbs/read" : NULL);
            expect(world, LEND_OK, "verbs/read");
            fake_verbs.status_at = fake_verbs.works + 30;
            fake_verbs.status = status;
            expect(world, LEND_OK, only != 0 ? "verbs/read" : "loopback");
            fake_verbs.status_at = -1;
            step_often(world);
            prepare(world, LEND_READ, "verbs/read"); /* which has recovered */
            expect(world, LEND_OK, "verbs/read");
            close_world(world);
        }
    }
}

static void test_a_nic_that_goes_on_failing_is_given_up(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.holds = true;
    post(world);
    for (int i = 0; i < 8; i++) {
        step_often(world);
        fake_verbs.status_at = fake_verbs.works;
        fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
        (void)fake_verbs_let_go(1);
    }
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_E_PEER_DEAD);
    assert_int_equal(error.device_code, LEND_VERBS_WC_RETRY_EXCEEDED);
    fake_verbs.holds = false;
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, NULL);
    close_world(world);
}

static void test_a_call_that_fails_leaves_reads_to_their_owner(void **state)
{
    (void)state;
    int reached = 0;

    for (int nth = 0; reached == nth; nth++) {
        struct world *world = calloc(1, sizeof *world);

        assert_non_null(world);
        fake_verbs_reset();
        lend_verbs = &fake_verbs_ops;
        make_side(&world->owner, "owner", "fake0");
        make_side(&world->reader, "reader", "fake1");
        fill(world);
        refresh(world);
        fake_verbs.fail_at = fake_verbs.calls + nth;
        fake_verbs.failure = 12; /* ENOMEM */
        int first = fake_verbs.calls;
        meet(world);
        grant(world, LEND_ACCESS_READ);
        reached += fake_verbs.calls > first + nth;
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, NULL);
        fake_verbs.fail_at = -1;
        close_world(world);
    }
    assert_true(reached > 10);
}

static void test_where_a_fence_is_not_kept_the_word_is_asked_for_later(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    /* The next rail sees it: this one breaks. */
    fake_verbs.devices[1].vendor_id = 0xffffff;
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.status_at = fake_verbs.works;
    fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
    expect(world, LEND_OK, "verbs/read");

    int posts = fake_verbs.posts;
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(fake_verbs.posts - posts, 4);
    assert_int_equal(fake_verbs_let_go(1 << 20), REGIONS * CHOSEN); /* and no word */
    step_often(world);
    assert_int_equal(fake_verbs.posts - posts, 8);
    check(lend_lease_revoke(world->lease, &error), &error);
    fake_verbs.holds = false;
    assert_int_equal(fake_verbs_let_go(1 << 20), 4);
    assert_int_equal(finish(world, &error).status, LEND_E_REVOKED);
    close_world(world);
}

static void test_a_nic_that_completes_nothing_is_not_waited_for(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 1000);
    struct world *world = open_world(true, true);
    struct lend_error error = {0};

    prepare(world, LEND_READ, NULL);
    fake_verbs.holds = true;
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    double_clock_advance(6 * SECOND);
    struct lend_transfer_record record = finish(world, &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "loopback");
    memset(world->reader.memory[0], 0x33, BYTES);
    fake_verbs.holds = false;
    assert_int_equal(fake_verbs_let_go(1 << 20), 0); /* its queue pairs are gone */
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(world->reader.memory[0][i], 0x33);
    close_world(world);
    (void)double_remove();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_goes_by_queue_pairs_and_is_told_so),
        cmocka_unit_test(test_a_write_is_served_by_its_owner),
        cmocka_unit_test(test_where_one_side_has_no_nic_reads_are_served),
        cmocka_unit_test(test_a_lease_that_was_revoked_is_seen_in_its_word),
        cmocka_unit_test(test_bytes_of_the_next_life_are_never_a_success),
        cmocka_unit_test(test_a_cancel_says_so_when_nothing_lands_any_more),
        cmocka_unit_test(test_a_cancel_waits_for_what_is_landing),
        cmocka_unit_test(test_withdrawing_ends_the_keys_and_readers_are_told_why),
        cmocka_unit_test(test_a_region_that_a_nic_keeps_is_busy),
        cmocka_unit_test(test_a_resumed_region_is_read_by_new_keys),
        cmocka_unit_test(test_whatever_status_work_ends_with_a_read_ends_well),
        cmocka_unit_test(test_a_nic_that_goes_on_failing_is_given_up),
        cmocka_unit_test(test_a_call_that_fails_leaves_reads_to_their_owner),
        cmocka_unit_test(test_where_a_fence_is_not_kept_the_word_is_asked_for_later),
        cmocka_unit_test(test_a_nic_that_completes_nothing_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
