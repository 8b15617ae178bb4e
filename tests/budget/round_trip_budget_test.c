/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: while those at both ends look by themselves, a notification's round trip and a small read
 * over transport local cost no system call but a look at the descriptors now and then, and no more
 * memory than what they carry.
 * Method: the doors to the system are counted. The owner is driven by hand, on the reader's thread:
 * where the reader polls, in turn; where it waits, whenever it yields the processor, so that who
 * answers when is the same in every run. Nobody gives up spinning. A look that does not wait is not
 * counted where somebody spins: how many there are is a matter of time. Where a caller polls beside
 * the progress thread, the clock stands still for all but the test's thread, and the timer that
 * calls the progress thread back ends when the test says so.
 */
#include "base/sys.h"
#include "sanitizer.h"

#include <lend/lend.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { ROUNDS = 1000, WARM_UP = 20, BLOCK = 4096, BLOCKS = 16, NOTE = 64 };
#define LONG_NS UINT64_C(20000000000)

/* --- counting --- */

static struct {
    _Atomic int calls; /* that enter the kernel, other than looks */
    _Atomic int looks;
    _Atomic int allocations;
} counted;

static struct {
    _Atomic bool is_fake;
    _Atomic uint64_t now_ns;
    _Atomic int timer_fd; /* that was set last */
    _Atomic int set_count;
} fake_clock;
enum { TICK_NS = 100, POLLED_NS = 1000000, ROW_NS = 60000 };
enum { SHORT_PAUSE_NS = 2000, LONG_PAUSE_NS = 20000 };

static void (*on_yield)(void *context); /* on the test's thread alone */
static void *yield_context;
static pthread_t test_thread;
static bool is_yielding;

static ssize_t counted_read(int fd, void *bytes, size_t count)
{
    counted.calls++;
    return lend_sys_real.read(fd, bytes, count);
}

static ssize_t counted_write(int fd, const void *bytes, size_t count)
{
    counted.calls++;
    return lend_sys_real.write(fd, bytes, count);
}

static ssize_t counted_sendmsg(int fd, const struct msghdr *message)
{
    counted.calls++;
    return lend_sys_real.sendmsg(fd, message);
}

static ssize_t counted_recvmsg(int fd, struct msghdr *message)
{
    counted.calls++;
    return lend_sys_real.recvmsg(fd, message);
}

static int counted_epoll_wait(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns)
{
    if (timeout_ns == 0)
        counted.looks++;
    else
        counted.calls++;
    return lend_sys_real.epoll_wait(epoll, events, count, timeout_ns);
}

static void counted_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns)
{
    counted.calls++;
    lend_sys_real.wait(condition, mutex, duration_ns);
}

static void *counted_allocate(size_t bytes)
{
    counted.allocations++;
    return lend_sys_real.allocate(bytes);
}

static void driving_yield(void)
{
    if (pthread_equal(pthread_self(), test_thread) && on_yield != NULL && !is_yielding) {
        is_yielding = true;
        on_yield(yield_context);
        is_yielding = false;
    } else {
        lend_sys_real.yield();
    }
}

static uint64_t ticking_now(void)
{
    if (!fake_clock.is_fake)
        return lend_sys_real.now_ns();
    if (pthread_equal(pthread_self(), test_thread))
        fake_clock.now_ns += TICK_NS;
    return fake_clock.now_ns;
}

static int noted_set_timer(int fd, uint64_t in_ns)
{
    (void)in_ns;
    fake_clock.timer_fd = fd;
    fake_clock.set_count++;
    return 0;
}

static struct lend_sys_ops counting;

static void begin_to_count(void)
{
    counted.calls = 0;
    counted.looks = 0;
    counted.allocations = 0;
}

/* --- two agents --- */

struct world {
    struct lend_agent *owner; /* driven by hand */
    struct lend_agent *reader;
    struct lend_peer *to_owner;
    struct lend_peer *to_reader;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint8_t *memory; /* the owner's half, then the reader's */
    bool echoes;
};

static struct lend_agent *make_agent(const char *name, uint32_t flags)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.transports = "local";
    config.flags = flags;
    config.spin_ns = LONG_NS;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return agent;
}

static struct lend_peer *import(struct lend_agent *agent, struct lend_agent *other)
{
    static uint8_t metadata[4096];
    struct lend_peer *peer = NULL;
    size_t count = 0;

    assert_int_equal(lend_metadata_export(other, metadata, sizeof metadata, &count, NULL), LEND_OK);
    assert_int_equal(lend_peer_import(agent, metadata, count, &peer, NULL), LEND_OK);
    return peer;
}

static struct lend_region *lend_half(struct lend_agent *agent, uint8_t *memory, uint32_t access)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, BLOCKS * BLOCK, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = access;
    desc.name = "blocks";
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

static void prepare_read(struct world *world)
{
    struct lend_region *region = lend_half(world->owner, world->memory, LEND_ACCESS_READ);
    struct lend_region *local = lend_half(world->reader, world->memory + BLOCKS * BLOCK, 0);
    const struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    uint64_t remote = 0;
    size_t count = 0;

    world->to_owner = import(world->reader, world->owner);
    world->to_reader = import(world->owner, world->reader);
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = LONG_NS;
    assert_int_equal(lend_lease_grant(world->owner, &grant, &world->lease, NULL), LEND_OK);
    assert_int_equal(lend_ticket_export(world->lease, ticket, sizeof ticket, &count, NULL),
                     LEND_OK);
    assert_int_equal(lend_ticket_import(world->to_owner, ticket, count, &world->ticket, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_region(world->to_owner, "blocks", &remote, NULL), LEND_OK);
    desc.direction = LEND_READ;
    desc.peer = world->to_owner;
    desc.region_count = 1;
    desc.local_regions = &local;
    desc.remote_regions = &remote;
    desc.block_count_max = 1;
    desc.paths = "local/served";
    assert_int_equal(lend_transfer_prepare(world->reader, &desc, &world->transfer, NULL), LEND_OK);
}

/* What the owner does in its turn: it serves, and sends notifications back. */
static void drive_owner(void *context)
{
    struct world *world = context;
    uint8_t note[NOTE];
    size_t count = 0;

    if (!world->echoes) {
        (void)lend_agent_progress(world->owner, 0, NULL);
        return;
    }
    if (lend_notification_receive(world->owner, note, sizeof note, &count, NULL, 0, NULL) ==
        LEND_OK)
        assert_int_equal(lend_notification_send(world->to_reader, note, count, NULL), LEND_OK);
}

static void notify_once(struct world *world, bool waits)
{
    uint8_t note[NOTE] = {1};
    enum lend_status status;
    size_t count = 0;

    world->echoes = true;
    assert_int_equal(lend_notification_send(world->to_owner, note, sizeof note, NULL), LEND_OK);
    do {
        if (!waits)
            drive_owner(world);
        status = lend_notification_receive(world->reader, note, sizeof note, &count, NULL,
                                           waits ? LONG_NS : 0, NULL);
    } while (status == LEND_E_ABSENT && !waits);
    assert_int_equal(status, LEND_OK);
    world->echoes = false;
}

static void post_read(struct world *world)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    const int32_t block = 3;

    post.ticket = world->ticket;
    post.index_bits = 32;
    post.local_blocks = &block;
    post.remote_blocks = &block;
    post.block_count = 1;
    assert_int_equal(lend_transfer_post(world->transfer, &post, NULL), LEND_OK);
}

static void read_once(struct world *world, bool waits)
{
    enum lend_status status;

    post_read(world);
    if (waits) {
        status = lend_transfer_wait(world->transfer, LONG_NS);
    } else {
        do {
            drive_owner(world);
            status = lend_transfer_test(world->transfer);
        } while (status == LEND_PENDING);
    }
    assert_int_equal(status, LEND_OK);
}

static void make_world(struct world *world, uint32_t reader_flags, bool waits)
{
    *world = (struct world){.memory = calloc(2 * BLOCKS, BLOCK)};
    assert_non_null(world->memory);
    counting = lend_sys_real;
    counting.read = counted_read;
    counting.write = counted_write;
    counting.sendmsg = counted_sendmsg;
    counting.recvmsg = counted_recvmsg;
    counting.epoll_wait = counted_epoll_wait;
    counting.wait = counted_wait;
    counting.allocate = counted_allocate;
    counting.allocate_dirty = counted_allocate;
    counting.yield = driving_yield;
    counting.now_ns = ticking_now;
    counting.set_timer = noted_set_timer;
    test_thread = pthread_self();
    lend_sys = &counting;

    world->owner = make_agent("owner", LEND_AGENT_MANUAL_PROGRESS);
    world->reader = make_agent("reader", reader_flags);
    prepare_read(world);
    yield_context = world;
    /* The first connect. Who has never been answered sleeps until it is, so nobody waits here. */
    for (int i = 0; i < WARM_UP; i++) {
        notify_once(world, false);
        read_once(world, false);
    }
    on_yield = waits ? drive_owner : NULL;
    for (int i = 0; i < WARM_UP; i++) {
        notify_once(world, waits);
        read_once(world, waits);
    }
}

static void end_world(struct world *world)
{
    on_yield = NULL;
    assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_agent_destroy(world->reader);
    lend_agent_destroy(world->owner);
    free(world->memory);
    lend_sys = &lend_sys_real;
}

static void measure(struct world *world, void (*once)(struct world *world, bool waits), bool waits,
                    const char *what)
{
    begin_to_count();
    for (int i = 0; i < ROUNDS; i++)
        once(world, waits);
    print_message("%s: %.3f calls, %.3f looks, %.2f allocations a round\n", what,
                  (double)counted.calls / ROUNDS, (double)counted.looks / ROUNDS,
                  (double)counted.allocations / ROUNDS);
}

/* --- tests --- */

static void test_two_that_poll_call_the_system_for_looks_alone(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, LEND_AGENT_MANUAL_PROGRESS, false);
    measure(&world, notify_once, false, "both poll, notification");
    assert_int_equal(counted.calls, 0);
    /* Four passes a round, and a look in 64 of them; or more, where they take long. */
    assert_true(UNDER_ASAN || UNDER_TSAN || counted.looks < ROUNDS / 8);
    assert_true(counted.allocations <= 2 * ROUNDS);
    measure(&world, read_once, false, "both poll, read of 4 KiB");
    assert_int_equal(counted.calls, 0);
    assert_true(UNDER_ASAN || UNDER_TSAN || counted.looks < ROUNDS / 4);
    assert_true(counted.allocations <= 3 * ROUNDS);
    end_world(&world);
}

static void test_who_waits_and_makes_progress_is_not_rung(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, LEND_AGENT_MANUAL_PROGRESS, true);
    measure(&world, notify_once, true, "manual, notification");
    assert_int_equal(counted.calls, 0);
    assert_true(counted.allocations <= 2 * ROUNDS);
    measure(&world, read_once, true, "manual, read of 4 KiB");
    assert_int_equal(counted.calls, 0);
    assert_true(counted.allocations <= 3 * ROUNDS);
    end_world(&world);
}

/* The progress thread may be awake for a while after the session was left to it: a tenth of a call
 * a round is far from the one that a doorbell or a wake-up for each answer costs. */
static void test_who_waits_beside_the_progress_thread_is_not_rung_either(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, 0, true);
    measure(&world, notify_once, true, "progress thread, notification");
    assert_true(counted.calls <= ROUNDS / 10);
    assert_true(counted.allocations <= 2 * ROUNDS);
    measure(&world, read_once, true, "progress thread, read of 4 KiB");
    assert_true(counted.calls <= ROUNDS / 10);
    assert_true(counted.allocations <= 3 * ROUNDS);
    end_world(&world);
}

/* --- callers that poll beside the progress thread --- */

static void make_polled_world(struct world *world)
{
    make_world(world, 0, false);
    fake_clock.now_ns = lend_sys_real.now_ns();
    fake_clock.is_fake = true;
    fake_clock.set_count = 0;
    for (int i = 0; i < WARM_UP; i++) {
        notify_once(world, false);
        read_once(world, false);
    }
}

static void end_polled_world(struct world *world)
{
    fake_clock.is_fake = false;
    end_world(world);
}

static void test_who_polls_beside_the_progress_thread_is_not_rung_either(void **state)
{
    struct world world;

    (void)state;
    make_polled_world(&world);
    measure(&world, notify_once, false, "polled, notification");
    assert_true(counted.calls <= ROUNDS / 10);
    measure(&world, read_once, false, "polled, read of 4 KiB");
    assert_true(counted.calls <= ROUNDS / 10);
    /* Each sets it for longer than many of these take. */
    assert_in_range(fake_clock.set_count, 1, ROUNDS / 10);
    end_polled_world(&world);
}

/* Post, and poll without a pause until the session is the caller's; nobody serves it. */
static void post_and_poll(struct world *world)
{
    int before = fake_clock.set_count;

    fake_clock.now_ns += POLLED_NS; /* so that the timer is not thought to be set */
    post_read(world);
    for (int i = 0; i < ROW_NS / SHORT_PAUSE_NS; i++) {
        fake_clock.now_ns += SHORT_PAUSE_NS;
        assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    }
    assert_true(fake_clock.set_count > before);
}

/* The owner serves all that there is; nobody polls, and it completes. */
static void expect_served_by_thread(struct world *world)
{
    struct lend_transfer_record record = {.struct_size = sizeof record, .status = LEND_PENDING};

    drive_owner(world);
    uint64_t until_ns = lend_sys_real.now_ns() + LONG_NS;
    while (record.status == LEND_PENDING && lend_sys_real.now_ns() < until_ns) {
        assert_int_equal(lend_transfer_describe(world->transfer, &record, NULL), LEND_OK);
        lend_sys_real.yield();
    }
    assert_int_equal(record.status, LEND_OK);
}

static void test_whose_polls_stop_is_seen_to_by_the_progress_thread(void **state)
{
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    fake_clock.now_ns += POLLED_NS;
    assert_int_equal(lend_sys_real.set_timer(fake_clock.timer_fd, 1), 0);
    expect_served_by_thread(&world);
    end_polled_world(&world);
}

static void test_who_goes_on_to_poll_now_and_then_is_served_by_the_thread_again(void **state)
{
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    for (int i = 0; i < POLLED_NS / LONG_PAUSE_NS; i++) {
        fake_clock.now_ns += LONG_PAUSE_NS;
        assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    }
    assert_int_equal(lend_sys_real.set_timer(fake_clock.timer_fd, 1), 0);
    expect_served_by_thread(&world);
    end_polled_world(&world);
}

/* Until the timer ends, the thread leaves the session to callers, so these step it. */
static void test_who_polls_after_a_pause_sees_what_came_in_it(void **state)
{
    enum lend_status status;
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    drive_owner(&world);
    uint64_t until_ns = lend_sys_real.now_ns() + LONG_NS;
    do {
        fake_clock.now_ns += LONG_PAUSE_NS;
        status = lend_transfer_test(world.transfer); /* pending where the thread is at it yet */
    } while (status == LEND_PENDING && lend_sys_real.now_ns() < until_ns);
    assert_int_equal(status, LEND_OK);
    end_polled_world(&world);
}

/* Who looks how many transfers are and then does something else for long has polled none. */
static void test_few_polls_in_a_row_take_no_session_from_the_thread(void **state)
{
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    fake_clock.now_ns += POLLED_NS;
    assert_int_equal(lend_sys_real.set_timer(fake_clock.timer_fd, 1), 0);
    expect_served_by_thread(&world);
    int before = fake_clock.set_count;
    post_read(&world);
    for (int i = 0; i < WARM_UP; i++) {
        fake_clock.now_ns += LONG_PAUSE_NS;
        for (int j = 0; j < WARM_UP; j++)
            assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    }
    assert_int_equal(fake_clock.set_count, before);
    expect_served_by_thread(&world);
    end_polled_world(&world);
}

/* Another session is polled on, which puts off the timer: it never ends. */
static void test_whose_polls_stop_is_seen_to_while_another_session_is_polled(void **state)
{
    uint8_t note[NOTE];
    struct world world;
    size_t count = 0;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    for (int i = 0; i < 2 * POLLED_NS / SHORT_PAUSE_NS; i++) {
        fake_clock.now_ns += SHORT_PAUSE_NS;
        assert_int_equal(
            lend_notification_receive(world.reader, note, sizeof note, &count, NULL, 0, NULL),
            LEND_E_ABSENT);
    }
    expect_served_by_thread(&world);
    end_polled_world(&world);
}

static void test_who_waits_after_it_has_polled_leaves_all_to_the_thread(void **state)
{
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    assert_int_equal(lend_transfer_wait(world.transfer, 1), LEND_PENDING);
    expect_served_by_thread(&world);
    end_polled_world(&world);
}

/* Who clears the descriptor is about to wait for it, and polls in between all that it has. */
static void test_who_waits_for_the_descriptor_leaves_all_to_the_thread(void **state)
{
    enum lend_status status;
    struct world world;

    (void)state;
    make_polled_world(&world);
    post_and_poll(&world);
    lend_agent_clear(world.reader);
    int before = fake_clock.set_count;
    fake_clock.now_ns += POLLED_NS;
    for (int i = 0; i < ROW_NS / SHORT_PAUSE_NS; i++) {
        fake_clock.now_ns += SHORT_PAUSE_NS;
        assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    }
    drive_owner(&world);
    uint64_t until_ns = lend_sys_real.now_ns() + LONG_NS;
    do
        status = lend_transfer_test(world.transfer);
    while (status == LEND_PENDING && lend_sys_real.now_ns() < until_ns);
    assert_int_equal(status, LEND_OK);
    assert_int_equal(fake_clock.set_count, before);
    end_polled_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_that_poll_call_the_system_for_looks_alone),
        cmocka_unit_test(test_who_waits_and_makes_progress_is_not_rung),
        cmocka_unit_test(test_who_waits_beside_the_progress_thread_is_not_rung_either),
        cmocka_unit_test(test_who_polls_beside_the_progress_thread_is_not_rung_either),
        cmocka_unit_test(test_whose_polls_stop_is_seen_to_by_the_progress_thread),
        cmocka_unit_test(test_who_goes_on_to_poll_now_and_then_is_served_by_the_thread_again),
        cmocka_unit_test(test_who_polls_after_a_pause_sees_what_came_in_it),
        cmocka_unit_test(test_few_polls_in_a_row_take_no_session_from_the_thread),
        cmocka_unit_test(test_whose_polls_stop_is_seen_to_while_another_session_is_polled),
        cmocka_unit_test(test_who_waits_after_it_has_polled_leaves_all_to_the_thread),
        cmocka_unit_test(test_who_waits_for_the_descriptor_leaves_all_to_the_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
