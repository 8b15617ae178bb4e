/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: threads that poll transfers of one peer, without a pause or with one, beside each other,
 * beside one that waits and beside the progress thread, all see each of their transfers end, and
 * what it read. So do they when the peer goes away meanwhile, and a fork changes nothing for them.
 * Method: two agents with progress threads over transport local, whose owner lends each thread a
 * block that has the thread's number in each byte; threads that post a read of their block, and
 * look how it is in one of three ways, again and again.
 */
#include "sanitizer.h"

#include <lend/lend.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { THREADS = 4, BLOCK = 4096, PAUSE = 50, FORKS = 3 };
#define LONG_NS UINT64_C(60000000000)

/* How a thread looks: it only polls, polls and gives way, or waits. */
enum way { POLLS, POLLS_AND_PAUSES, WAITS };
static const enum way ways[THREADS] = {POLLS, POLLS, POLLS_AND_PAUSES, WAITS};

struct reader {
    enum way way;
    int32_t block;
    int rounds; /* to go; < 0: until one fails */
    struct lend_transfer *transfer;
    struct lend_ticket *ticket;
    uint8_t *memory; /* of the block */
    int wrong;       /* rounds that said OK, and had other bytes */
    enum lend_status last;
    _Atomic int done; /* rounds that were OK */
    pthread_t thread;
};

struct scene {
    struct lend_agent *owner, *agent;
    uint8_t *lent, *kept;
    struct reader readers[THREADS];
};

static int scaled(int count)
{
    const char *scale = getenv("LEND_SCALE");
    long by = scale != NULL ? strtol(scale, NULL, 10) : 1;

    return by > 1 ? (int)(count / by) + 1 : count;
}

/* --- readers --- */

static enum lend_status finish(const struct reader *reader)
{
    enum lend_status status;

    if (reader->way == WAITS)
        return lend_transfer_wait(reader->transfer, LONG_NS);
    while ((status = lend_transfer_test(reader->transfer)) == LEND_PENDING)
        if (reader->way == POLLS_AND_PAUSES)
            for (int i = 0; i < PAUSE; i++)
                (void)sched_yield();
    return status;
}

static void *read_again_and_again(void *context)
{
    struct reader *reader = context;
    struct lend_post_desc post = LEND_POST_DESC_INIT;

    post.ticket = reader->ticket;
    post.index_bits = 32;
    post.local_blocks = post.remote_blocks = &reader->block;
    post.block_count = 1;
    for (; reader->rounds != 0; reader->rounds -= reader->rounds > 0) {
        memset(reader->memory, 0, BLOCK);
        reader->last = lend_transfer_post(reader->transfer, &post, NULL);
        if (reader->last == LEND_OK)
            reader->last = finish(reader);
        if (reader->last != LEND_OK)
            break;
        reader->wrong += reader->memory[0] != reader->block + 1 ||
                         reader->memory[BLOCK - 1] != reader->block + 1;
        reader->done++;
    }
    return NULL;
}

static void begin_to_read(struct scene *scene, int rounds)
{
    for (int i = 0; i < THREADS; i++) {
        struct reader *reader = &scene->readers[i];

        reader->rounds = rounds;
        assert_int_equal(pthread_create(&reader->thread, NULL, read_again_and_again, reader), 0);
    }
}

static void end_readers(struct scene *scene)
{
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(scene->readers[i].thread, NULL), 0);
        assert_int_equal(scene->readers[i].wrong, 0);
    }
}

/* Until each has read so often. */
static void let_them_read(struct scene *scene, int rounds)
{
    for (int i = 0; i < THREADS; i++)
        while (scene->readers[i].done < rounds)
            (void)sched_yield();
}

/* --- the scene --- */

static struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.transports = "local";
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.transfer_timeout_ns = LONG_NS;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return agent;
}

static struct lend_region *lend_blocks_of(struct lend_agent *agent, uint8_t *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, THREADS * BLOCK, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = THREADS;
    desc.access = LEND_ACCESS_READ;
    desc.name = "blocks";
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

static struct lend_ticket *hand_over_ticket(struct scene *scene, struct lend_region *region,
                                            struct lend_peer **out_peer)
{
    const struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    static uint8_t bytes[4096];
    struct lend_ticket *ticket = NULL;
    struct lend_lease *lease = NULL;
    size_t count;

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = LONG_NS;
    assert_int_equal(lend_lease_grant(scene->owner, &grant, &lease, NULL), LEND_OK);
    assert_int_equal(lend_metadata_export(scene->owner, bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_import(scene->agent, bytes, count, out_peer, NULL), LEND_OK);
    assert_int_equal(lend_ticket_export(lease, bytes, sizeof bytes, &count, NULL), LEND_OK);
    assert_int_equal(lend_ticket_import(*out_peer, bytes, count, &ticket, NULL), LEND_OK);
    return ticket;
}

static int make_scene(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    uint64_t remote;

    assert_non_null(scene);
    *scene = (struct scene){.owner = make_agent("polled owner"),
                            .agent = make_agent("polling reader"),
                            .lent = calloc(THREADS, BLOCK),
                            .kept = calloc(THREADS, BLOCK)};
    assert_true(scene->lent != NULL && scene->kept != NULL);
    for (int i = 0; i < THREADS; i++)
        memset(scene->lent + i * BLOCK, i + 1, BLOCK);
    struct lend_region *region = lend_blocks_of(scene->owner, scene->lent);
    struct lend_region *local = lend_blocks_of(scene->agent, scene->kept);
    struct lend_ticket *ticket = hand_over_ticket(scene, region, &desc.peer);
    assert_int_equal(lend_peer_region(desc.peer, "blocks", &remote, NULL), LEND_OK);
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &local;
    desc.remote_regions = &remote;
    desc.block_count_max = 1;
    desc.paths = "local/served";
    for (int i = 0; i < THREADS; i++) {
        struct reader *reader = &scene->readers[i];

        reader->way = ways[i];
        reader->block = i;
        reader->ticket = ticket;
        reader->memory = scene->kept + i * BLOCK;
        assert_int_equal(lend_transfer_prepare(scene->agent, &desc, &reader->transfer, NULL),
                         LEND_OK);
    }
    *state = scene;
    return 0;
}

static int end_scene(void **state)
{
    struct scene *scene = *state;

    lend_agent_destroy(scene->agent);
    lend_agent_destroy(scene->owner);
    free(scene->lent);
    free(scene->kept);
    free(scene);
    return 0;
}

/* --- tests --- */

static void test_all_who_poll_and_wait_see_their_transfers_end(void **state)
{
    struct scene *scene = *state;
    int rounds = scaled(UNDER_ASAN || UNDER_TSAN ? 500 : 1000);

    begin_to_read(scene, rounds);
    end_readers(scene);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(scene->readers[i].last, LEND_OK);
        assert_int_equal(scene->readers[i].done, rounds);
    }
}

static void test_all_who_poll_and_wait_see_that_the_peer_goes_away(void **state)
{
    struct scene *scene = *state;

    begin_to_read(scene, -1);
    let_them_read(scene, scaled(100));
    lend_agent_destroy(scene->owner);
    scene->owner = NULL;
    end_readers(scene);
    for (int i = 0; i < THREADS; i++)
        assert_true(scene->readers[i].last < 0);
}

/* The child has one thread, and locks that the others held; the parent's go on. It ends by a
 * signal, as checkers of leaks would find the stacks of threads that it does not have. */
static void test_a_fork_beside_those_who_poll_and_wait_changes_nothing_for_them(void **state)
{
    struct scene *scene = *state;
    int status;

    begin_to_read(scene, scaled(UNDER_ASAN || UNDER_TSAN ? 200 : 400));
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();

        if (child == 0) {
            bool is_forked = lend_transfer_test(scene->readers[0].transfer) == LEND_E_FORKED;

            lend_agent_destroy(scene->agent);
            (void)kill(getpid(), is_forked ? SIGKILL : SIGABRT);
            _exit(1);
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    end_readers(scene);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(scene->readers[i].last, LEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_who_poll_and_wait_see_their_transfers_end,
                                        make_scene, end_scene),
        cmocka_unit_test_setup_teardown(test_all_who_poll_and_wait_see_that_the_peer_goes_away,
                                        make_scene, end_scene),
        cmocka_unit_test_setup_teardown(
            test_a_fork_beside_those_who_poll_and_wait_changes_nothing_for_them, make_scene,
            end_scene),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
