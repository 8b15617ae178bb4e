/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a post costs neither allocation, nor system call, nor a lock that other peers use, and
 * sends no more than it must; and metadata is small.
 * Method: the doors to the system are counted, mutexes are noted down as they are locked (the
 * linker wraps the calls), and a null transport counts what core sends.
 */
#include "null_transport.h"

#include "base/sys.h"
#include "core/cursor.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BLOCKS = 100000, FEW_BLOCKS = 2000, RUNS_PER_FRAME = 4096, RUNS_PER_REQUEST = 8192 };

/* --- counting --- */

static struct {
    int allocations;
    int calls;
} counted;

#define COUNTED(slot, type, parameters, arguments)                                                 \
    static type counted_##slot parameters                                                          \
    {                                                                                              \
        counted.calls++;                                                                           \
        return lend_sys_real.slot arguments;                                                       \
    }

COUNTED(random, int, (void *bytes, size_t count), (bytes, count))
COUNTED(read, ssize_t, (int fd, void *bytes, size_t count), (fd, bytes, count))
COUNTED(write, ssize_t, (int fd, const void *bytes, size_t count), (fd, bytes, count))
COUNTED(sendmsg, ssize_t, (int fd, const struct msghdr *message), (fd, message))
COUNTED(recvmsg, ssize_t, (int fd, struct msghdr *message), (fd, message))
COUNTED(epoll_control, int, (int epoll, int operation, int fd, struct epoll_event *event),
        (epoll, operation, fd, event))
COUNTED(epoll_wait, int, (int epoll, struct epoll_event *events, int count, uint64_t timeout_ns),
        (epoll, events, count, timeout_ns))
COUNTED(poll, int, (struct pollfd * fds, unsigned count, uint64_t timeout_ns),
        (fds, count, timeout_ns))
COUNTED(map_twice, void *, (int fd, uint64_t offset, size_t bytes), (fd, offset, bytes))
static void counted_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns)
{
    counted.calls++;
    lend_sys_real.wait(condition, mutex, duration_ns);
}

static void counted_sleep_ns(uint64_t duration_ns)
{
    counted.calls++;
    lend_sys_real.sleep_ns(duration_ns);
}

static void *counted_allocate(size_t bytes)
{
    counted.allocations++;
    return lend_sys_real.allocate(bytes);
}

static struct lend_sys_ops counting;

/* Every door that something on the way of a post could call, but for the clock's. */
static void count_calls(void)
{
    counting = lend_sys_real;
    counting.allocate = counted_allocate;
    counting.allocate_dirty = counted_allocate;
    counting.sleep_ns = counted_sleep_ns;
    counting.random = counted_random;
    counting.read = counted_read;
    counting.write = counted_write;
    counting.sendmsg = counted_sendmsg;
    counting.recvmsg = counted_recvmsg;
    counting.epoll_control = counted_epoll_control;
    counting.epoll_wait = counted_epoll_wait;
    counting.poll = counted_poll;
    counting.map_twice = counted_map_twice;
    counting.wait = counted_wait;
    memset(&counted, 0, sizeof counted);
    lend_sys = &counting;
}

static void stop_counting(void)
{
    lend_sys = &lend_sys_real;
}

/* The mutexes that were locked since noting began. */
enum { NOTES_MAX = 64 };
struct notes {
    const pthread_mutex_t *locked[NOTES_MAX];
    unsigned count;
};
static struct notes *notes;

static void note(const pthread_mutex_t *mutex)
{
    if (notes == NULL)
        return;
    assert_true(notes->count < NOTES_MAX);
    notes->locked[notes->count++] = mutex;
}

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    note(mutex);
    return __real_pthread_mutex_lock(mutex);
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    note(mutex);
    return __real_pthread_mutex_trylock(mutex);
}

/* --- what is posted --- */

struct world {
    struct lend_agent *reader;
    struct null_pair pairs[2];
    int32_t *scattered;
    int32_t *run;
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    world->scattered = calloc(BLOCKS, sizeof *world->scattered);
    world->run = calloc(BLOCKS, sizeof *world->run);
    assert_true(world->scattered != NULL && world->run != NULL);
    for (int32_t i = 0; i < BLOCKS; i++) {
        world->scattered[i] = i / 2 + i % 2 * (BLOCKS / 2);
        world->run[i] = i;
    }
    world->reader = null_agent_create("reader");
    null_pair_init(&world->pairs[0], world->reader, "owner-0", BLOCKS);
    null_pair_init(&world->pairs[1], world->reader, "owner-1", BLOCKS);
    /* The first post connects. */
    for (int i = 0; i < 2; i++) {
        null_pair_post(&world->pairs[i], 32, world->run, 1);
        null_pair_finish(&world->pairs[i]);
    }
    null_transport_reset();
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    null_pair_fini(&world->pairs[0]);
    null_pair_fini(&world->pairs[1]);
    lend_agent_destroy(world->reader);
    free(world->scattered);
    free(world->run);
    free(world);
    return 0;
}

static void test_a_post_allocates_nothing_and_calls_nothing(void **state)
{
    struct world *world = *state;
    static const uint64_t sizes[] = {1, FEW_BLOCKS, BLOCKS};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        count_calls();
        null_pair_post(&world->pairs[0], 32, world->scattered, sizes[i]);
        stop_counting();
        assert_int_equal(counted.allocations, 0);
        assert_int_equal(counted.calls, 0);
        null_pair_finish(&world->pairs[0]);
    }
}

static void test_the_doors_are_counted(void **state)
{
    struct world *world = *state;

    count_calls();
    struct lend_agent *agent = null_agent_create("another");
    (void)lend_agent_progress(world->reader, 0, NULL);
    stop_counting();
    assert_true(counted.allocations > 0);
    assert_true(counted.calls > 0);
    lend_agent_destroy(agent);
}

static void test_posts_to_two_peers_share_no_lock(void **state)
{
    struct world *world = *state;
    struct notes seen[2] = {{.count = 0}};

    for (int i = 0; i < 2; i++) {
        notes = &seen[i];
        null_pair_post(&world->pairs[i], 32, world->scattered, FEW_BLOCKS);
        notes = NULL;
        assert_true(seen[i].count > 0);
    }
    for (unsigned i = 0; i < seen[0].count; i++)
        for (unsigned j = 0; j < seen[1].count; j++)
            assert_ptr_not_equal(seen[0].locked[i], seen[1].locked[j]);
    null_pair_finish(&world->pairs[0]);
    null_pair_finish(&world->pairs[1]);
}

static void test_few_scattered_blocks_are_one_request_and_one_frame_of_runs(void **state)
{
    struct world *world = *state;

    null_pair_post(&world->pairs[0], 32, world->scattered, FEW_BLOCKS);
    assert_int_equal(null_transport_seen.frames, 2);
    assert_int_equal(null_transport_seen.requests, 1);
    assert_int_equal(null_transport_seen.runs, FEW_BLOCKS);
    null_pair_finish(&world->pairs[0]);
    assert_int_equal(null_transport_seen.frames, 2);
}

static void test_neighbours_are_one_run(void **state)
{
    struct world *world = *state;

    null_pair_post(&world->pairs[0], 32, world->run, BLOCKS);
    assert_int_equal(null_transport_seen.frames, 2);
    assert_int_equal(null_transport_seen.runs, 1);
    null_pair_finish(&world->pairs[0]);
}

/* The first window alone: the answer that it has here ends the transfer. */
/* A request asks for 32 MiB at most: that is 8,192 blocks of 4 KiB. */
static void test_many_scattered_blocks_fill_their_frames(void **state)
{
    struct world *world = *state;

    null_pair_post(&world->pairs[0], 32, world->scattered, BLOCKS);
    assert_int_equal(null_transport_seen.requests, 1);
    assert_int_equal(null_transport_seen.runs, RUNS_PER_REQUEST);
    assert_int_equal(null_transport_seen.run_frames, RUNS_PER_REQUEST / RUNS_PER_FRAME);
    assert_int_equal(null_transport_seen.frames, 1 + RUNS_PER_REQUEST / RUNS_PER_FRAME);
    null_pair_finish(&world->pairs[0]);
}

/* --- pieces --- */

static uint64_t count_pieces(const struct lend_run *runs, uint64_t run_count)
{
    const struct lend_extent extents[2] = {
        {.address = 0,
         .row_bytes = 4096,
         .stride_bytes = 4096,
         .inner_stride_bytes = 4096,
         .inner_count = 1},
        {.address = UINT64_C(1) << 40,
         .row_bytes = 4096,
         .stride_bytes = 4096,
         .inner_stride_bytes = 4096,
         .inner_count = 1},
    };
    struct lend_cursor cursor;
    struct lend_segment segment;
    uint64_t pieces = 0;

    lend_cursor_init(&cursor, extents, 2, runs, run_count);
    while (lend_cursor_next(&cursor, UINT64_MAX, &segment))
        pieces++;
    return pieces;
}

static void test_blocks_that_touch_are_one_piece(void **state)
{
    static const struct lend_run one[] = {{0, 1000}};
    static const struct lend_run met[] = {{0, 400}, {400, 600}, {2000, 1}};

    (void)state;
    assert_int_equal(count_pieces(one, 1), 2); /* of two regions */
    assert_int_equal(count_pieces(met, 3), 4);
}

/* --- metadata --- */

/* The layers of a model, through the public interface: nothing is measured of the wire. */
static void test_metadata_of_122_regions_of_16384_blocks_is_under_4_kib(void **state)
{
    enum { REGIONS = 122, REGION_BLOCKS = 16384, BLOCK_BYTES = 1152, METADATA_MAX = 4096 };
    static char names[REGIONS][32];
    struct lend_region_desc descs[REGIONS];
    struct lend_region *regions[REGIONS];
    const uint64_t bytes = (uint64_t)REGION_BLOCKS * BLOCK_BYTES;
    uint8_t metadata[METADATA_MAX];
    struct lend_error error;
    size_t count = 0;
    char *memory = mmap(NULL, REGIONS * bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    (void)state;
    assert_ptr_not_equal(memory, MAP_FAILED);
    struct lend_agent *agent = null_agent_create("deepseek-v3-tp8-rank-7");
    for (int i = 0; i < REGIONS; i++) {
        (void)snprintf(names[i], sizeof names[i], "layers.%d.%s", i / 2, i % 2 == 0 ? "k" : "v");
        lend_region_desc_init(&descs[i]);
        assert_int_equal(
            lend_memory_system(memory + (uint64_t)i * bytes, bytes, &descs[i].memory, &error),
            LEND_OK);
        descs[i].geometry.block_length_bytes = BLOCK_BYTES;
        descs[i].geometry.count = REGION_BLOCKS;
        descs[i].access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
        descs[i].name = names[i];
    }
    assert_int_equal(lend_region_register(agent, descs, REGIONS, regions, NULL, &error), LEND_OK);
    assert_int_equal(lend_metadata_export(agent, metadata, sizeof metadata, &count, &error),
                     LEND_OK);
    assert_true(count < METADATA_MAX);
    print_message("122 regions of 16384 blocks: %zu bytes\n", count);
    lend_agent_destroy(agent);
    assert_int_equal(munmap(memory, REGIONS * bytes), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_post_allocates_nothing_and_calls_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_doors_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_posts_to_two_peers_share_no_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_few_scattered_blocks_are_one_request_and_one_frame_of_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_neighbours_are_one_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_scattered_blocks_fill_their_frames, set_up,
                                        tear_down),
        cmocka_unit_test(test_blocks_that_touch_are_one_piece),
        cmocka_unit_test(test_metadata_of_122_regions_of_16384_blocks_is_under_4_kib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
