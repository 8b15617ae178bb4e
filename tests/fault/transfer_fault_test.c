/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever call of the system fails on either side, a transfer ends before its deadline, with
 * a documented status and no wrong bytes under a success, writes nothing outside of its blocks,
 * leaks nothing, and succeeds when it is posted again. Method: the sweep of sweep.h over reads and
 * writes by blocks and by ranges, with notifications, cancels, zeroing and counted consumers.
 */
#include "sweep.h"

#define SECONDS UINT64_C(1000000000)

enum { TURNS_MAX = 40000 }; /* of a millisecond: more than the deadline */

static const uint64_t deadline_ns = 30 * SECONDS;
static const char notice[2000] = "blocks are there"; /* longer than what is kept in place */

/* What a transfer may end with where a call of the system failed somewhere: the reference's
 * causes, or a local failure. */
static const int ends[] = {LEND_E_NO_MEMORY,
                           LEND_E_SYSTEM,
                           LEND_E_PEER_DEAD,
                           LEND_E_TIMEOUT,
                           LEND_E_CANCELED,
                           LEND_E_NO_PATH,
                           0};
static const int posts[] = {LEND_E_PEER_DEAD, LEND_E_NO_PATH, LEND_E_NO_MEMORY, 0};

static void prepare(struct world *world, uint32_t direction, uint32_t flags, bool by_ranges)
{
    uint64_t id = lend_region_id(world->lent);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.flags = flags;
    desc.direction = direction;
    desc.peer = world->peer;
    desc.block_count_max = 8;
    if (!by_ranges) {
        desc.region_count = 1;
        desc.local_regions = &world->kept;
        desc.remote_regions = &id;
    }
    RETRY(lend_transfer_prepare(world->reader, &desc, &world->transfer, NULL), LEND_E_NO_MEMORY);
}

/* Four blocks: 1, 0, 7, 3 of theirs, and 8 .. 11 of ours. */
static const int32_t theirs[4] = {1, 0, 7, 3};
static const int32_t ours[4] = {8, 9, 10, 11};

static enum lend_status post(struct world *world, bool by_ranges, const char *notification)
{
    struct lend_range local[4], remote[4];
    struct lend_post_desc desc = LEND_POST_DESC_INIT;

    desc.ticket = world->ticket;
    desc.timeout_ns = deadline_ns;
    desc.notification = notification;
    desc.notification_bytes = notification != NULL ? sizeof notice : 0;
    if (by_ranges) {
        for (int i = 0; i < 4; i++) {
            local[i].address = (uintptr_t)kept_memory + (uint64_t)ours[i] * BLOCK_BYTES;
            remote[i].address = (uintptr_t)lent_memory + (uint64_t)theirs[i] * BLOCK_BYTES;
            local[i].length_bytes = remote[i].length_bytes = BLOCK_BYTES;
        }
        desc.local_ranges = local;
        desc.remote_ranges = remote;
        desc.range_count = 4;
    } else {
        desc.local_blocks = ours;
        desc.remote_blocks = theirs;
        desc.block_count = 4;
    }
    return lend_transfer_post(world->transfer, &desc, NULL);
}

static enum lend_status finish(struct world *world)
{
    enum lend_status status = LEND_PENDING;

    for (int turn = 0; turn < TURNS_MAX && status == LEND_PENDING; turn++) {
        pump(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_not_equal(status, LEND_PENDING); /* it has a deadline */
    return status;
}

/* Nothing outside of what the transfer may write has changed. */
static void check_outside(uint32_t direction)
{
    if (direction == LEND_READ) {
        assert_true(is_filled(lent_memory, 0, BLOCKS, 1, 0));
        assert_true(is_filled(kept_memory, 0, 8, 101, 0));
        assert_true(is_filled(kept_memory, 12, 4, 101, 12));
    } else {
        assert_true(is_filled(kept_memory, 0, BLOCKS, 101, 0));
        assert_true(is_filled(lent_memory, 2, 1, 1, 2));
        assert_true(is_filled(lent_memory, 4, 3, 1, 4));
        assert_true(is_filled(lent_memory, 8, 8, 1, 8));
    }
}

static void check_moved(uint32_t direction)
{
    for (int i = 0; i < 4; i++) {
        uint64_t there = (uint64_t)theirs[i], here = (uint64_t)ours[i];

        if (direction == LEND_READ)
            assert_true(is_filled(kept_memory, here, 1, 1, there));
        else
            assert_true(is_filled(lent_memory, there, 1, 101, here));
    }
}

/* Post until it succeeds: at the second time at the latest. */
static void move(struct world *world, uint32_t direction, bool by_ranges, const char *notification)
{
    bool succeeded = false;

    for (int attempt = 0; attempt < 2 && !succeeded; attempt++) {
        enum lend_status status = post(world, by_ranges, notification);

        if (status != LEND_OK) {
            check_listed(world, status, posts, "lend_transfer_post");
        } else {
            status = finish(world);
            succeeded = status == LEND_OK;
            if (!succeeded)
                check_listed(world, status, ends, "a transfer");
        }
        check_outside(direction);
    }
    assert_true(succeeded);
    check_moved(direction);
}

/* The one notification that belongs to a success has come, or was lost with its connection. */
static void take_notice(struct world *world)
{
    char bytes[sizeof notice];
    size_t count = 0;
    enum lend_status status = LEND_E_ABSENT;

    for (int turn = 0; turn < 10 && status == LEND_E_ABSENT; turn++) {
        pump(world);
        status =
            lend_notification_receive(world->owner, bytes, sizeof bytes, &count, NULL, 0, NULL);
    }
    if (status == LEND_OK) {
        assert_int_equal(count, sizeof notice);
        assert_memory_equal(bytes, notice, sizeof notice);
        status =
            lend_notification_receive(world->owner, bytes, sizeof bytes, &count, NULL, 0, NULL);
    }
    assert_int_equal(status, LEND_E_ABSENT);
}

static void begin(struct world *world, uint32_t access)
{
    make_agents(world);
    register_regions(world);
    import_peer(world);
    grant_lease(world, access, 0);
    import_ticket(world);
}

static void read_blocks(struct world *world)
{
    begin(world, LEND_ACCESS_READ);
    prepare(world, LEND_READ, 0, false);
    move(world, LEND_READ, false, notice);
    take_notice(world);
}

static void test_reads_by_blocks_end_and_succeed_again(void **state)
{
    (void)state;
    sweep(read_blocks);
}

static void write_blocks(struct world *world)
{
    begin(world, LEND_ACCESS_WRITE);
    prepare(world, LEND_WRITE, 0, false);
    move(world, LEND_WRITE, false, notice);
    take_notice(world);
}

static void test_writes_by_blocks_end_and_succeed_again(void **state)
{
    (void)state;
    sweep(write_blocks);
}

static void read_ranges(struct world *world)
{
    begin(world, LEND_ACCESS_READ);
    prepare(world, LEND_READ, 0, true);
    move(world, LEND_READ, true, NULL);
}

static void write_ranges(struct world *world)
{
    begin(world, LEND_ACCESS_WRITE);
    prepare(world, LEND_WRITE, 0, true);
    move(world, LEND_WRITE, true, notice);
    take_notice(world);
}

/* Blocks 1, 0, 7, 3 of theirs, and 8 .. 11 of ours. */
static struct lend_range_list *list(struct world *world, bool is_remote)
{
    struct lend_range_list_desc desc = LEND_RANGE_LIST_DESC_INIT;
    struct lend_range_list *made = NULL;
    struct lend_range ranges[4];

    for (int i = 0; i < 4; i++)
        ranges[i] = (struct lend_range){
            is_remote ? (uintptr_t)lent_memory + (uint64_t)theirs[i] * BLOCK_BYTES
                      : (uintptr_t)kept_memory + (uint64_t)ours[i] * BLOCK_BYTES,
            BLOCK_BYTES};
    desc.peer = is_remote ? world->peer : NULL;
    desc.ranges = ranges;
    desc.range_count = 4;
    RETRY(lend_range_list_prepare(world->reader, &desc, &made, NULL), LEND_E_NO_MEMORY);
    return made;
}

static void read_lists(struct world *world)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc plain = LEND_POST_DESC_INIT;
    bool succeeded = false;

    begin(world, LEND_ACCESS_READ);
    desc.direction = LEND_READ;
    desc.peer = world->peer;
    desc.block_count_max = 4;
    desc.local_list = list(world, false);
    desc.remote_list = list(world, true);
    desc.range_count = 4;
    RETRY(lend_transfer_prepare(world->reader, &desc, &world->transfer, NULL), LEND_E_NO_MEMORY);
    lend_range_list_release(desc.local_list); /* the transfer holds it; the other goes last */
    plain.ticket = world->ticket;
    plain.timeout_ns = deadline_ns;
    for (int attempt = 0; attempt < 2 && !succeeded; attempt++) {
        enum lend_status status = lend_transfer_post(world->transfer, &plain, NULL);

        if (status != LEND_OK) {
            check_listed(world, status, posts, "lend_transfer_post");
            continue;
        }
        status = finish(world);
        succeeded = status == LEND_OK;
        if (!succeeded)
            check_listed(world, status, ends, "a transfer");
    }
    assert_true(succeeded);
    check_moved(LEND_READ);
    lend_range_list_release(desc.remote_list);
}

static void test_transfers_by_ranges_end_and_succeed_again(void **state)
{
    (void)state;
    sweep(read_ranges);
    sweep(write_ranges);
    sweep(read_lists);
}

static void cancel(struct world *world, uint32_t direction)
{
    enum lend_status status = post(world, false, NULL);

    if (status != LEND_OK) {
        check_listed(world, status, posts, "lend_transfer_post");
    } else {
        pump(world);
        status = LEND_PENDING;
        for (int turn = 0; turn < TURNS_MAX && status == LEND_PENDING; turn++) {
            status = lend_transfer_cancel(world->transfer, 0);
            pump(world);
        }
        assert_int_not_equal(status, LEND_PENDING);
        if (status != LEND_OK && status != LEND_E_CANCELED)
            check_listed(world, status, ends, "lend_transfer_cancel");
    }
    check_outside(direction);
}

static void cancel_read(struct world *world)
{
    begin(world, LEND_ACCESS_READ);
    prepare(world, LEND_READ, 0, false);
    cancel(world, LEND_READ);
    move(world, LEND_READ, false, NULL);
}

static void cancel_write(struct world *world)
{
    begin(world, LEND_ACCESS_WRITE);
    prepare(world, LEND_WRITE, 0, false);
    cancel(world, LEND_WRITE);
    move(world, LEND_WRITE, false, NULL);
}

static void test_cancels_become_quiet(void **state)
{
    (void)state;
    sweep(cancel_read);
    sweep(cancel_write);
}

static void read_revoked(struct world *world)
{
    static const uint8_t zeros[4 * BLOCK_BYTES];

    begin(world, LEND_ACCESS_READ);
    prepare(world, LEND_READ, LEND_TRANSFER_ZERO_ON_FAILURE, false);
    SURE(lend_lease_revoke(world->lease, NULL));
    if (post(world, false, NULL) != LEND_OK)
        world->failures++;
    else
        assert_int_not_equal(finish(world), LEND_OK);
    if (world->failures > 0 && post(world, false, NULL) == LEND_OK)
        assert_int_equal(finish(world), LEND_E_REVOKED);
    check_outside(LEND_READ);
    assert_memory_equal(kept_memory + 8 * BLOCK_BYTES, zeros, sizeof zeros);
    SURE(lend_transfer_release(world->transfer));
    world->transfer = NULL;
    lend_lease_release(world->lease);
    world->lease = NULL;
    lend_ticket_release(world->ticket);
    world->ticket = NULL;

    grant_lease(world, LEND_ACCESS_READ, 0);
    import_ticket(world);
    prepare(world, LEND_READ, LEND_TRANSFER_ZERO_ON_FAILURE, false);
    move(world, LEND_READ, false, NULL);
}

static void test_failed_reads_are_zeroed(void **state)
{
    (void)state;
    sweep(read_revoked);
}

static enum lend_status lease_status(struct world *world)
{
    struct lend_lease_info info = {.struct_size = sizeof info};

    SURE(lend_lease_describe(world->lease, &info, NULL));
    return (enum lend_status)info.status;
}

/* Say done; if the connection is lost under it, once more. */
static void consume(struct world *world)
{
    make_agents(world);
    register_regions(world);
    import_peer(world);
    grant_lease(world, LEND_ACCESS_READ, 1);
    import_ticket(world);
    for (int attempt = 0; attempt < 2 && lease_status(world) == LEND_OK; attempt++) {
        RETRY(lend_ticket_done(world->ticket, NULL), LEND_E_PEER_DEAD, LEND_E_NO_PATH,
              LEND_E_NO_MEMORY);
        for (int turn = 0; turn < 300 && lease_status(world) == LEND_OK; turn++)
            pump(world);
    }
    assert_int_equal(lease_status(world), LEND_E_CONSUMED);
}

static void test_consumers_are_counted(void **state)
{
    (void)state;
    sweep(consume);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_by_blocks_end_and_succeed_again),
        cmocka_unit_test(test_writes_by_blocks_end_and_succeed_again),
        cmocka_unit_test(test_transfers_by_ranges_end_and_succeed_again),
        cmocka_unit_test(test_cancels_become_quiet),
        cmocka_unit_test(test_failed_reads_are_zeroed),
        cmocka_unit_test(test_consumers_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
