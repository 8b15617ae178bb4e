/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: agents come and go and leave nothing behind.
 * Method: 200 agents of this process, each with a thread, connect to one hub, read a block, notify
 * it, and are destroyed, several times over; then 16 processes do so, some of which end without a
 * word. After each time the descriptors, threads, mappings and heap of the hub's process are what
 * they were before.
 */
#include "acts.h"

#include <sys/resource.h>
#include <unistd.h>

enum { AGENTS = 200, PROCESSES = 16, BLOCK = 4096, BLOCKS = 16, ROUNDS = 4 };

struct hub {
    struct acts_directory directory;
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_lease *lease;
    struct acts_blob metadata;
    struct acts_blob ticket;
};

static void hub_begin(struct hub *hub)
{
    struct lend_agent_config config;
    struct lend_error error = {0};

    hub->directory = acts_directory_make();
    config = acts_config("hub", &hub->directory);
    assert_true(acts_ok(lend_agent_create(&config, &hub->agent, &error), &error, "hub"));
    hub->region = (struct acts_region){
        .memory = acts_shared(BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    for (uint64_t block = 0; block < BLOCKS; block++)
        acts_fill(hub->region.memory + block * BLOCK, BLOCK, 1, block);
    assert_true(acts_register(hub->agent, &hub->region, LEND_ACCESS_READ));
    assert_true(acts_grant(hub->agent, &hub->region, LEND_ACCESS_READ, &hub->lease, &hub->ticket));
    assert_true(acts_metadata(hub->agent, &hub->metadata));
}

static void hub_end(struct hub *hub)
{
    lend_agent_destroy(hub->agent);
    acts_unshare(hub->region.memory, BLOCK * BLOCKS);
    assert_true(acts_directory_remove(&hub->directory));
}

/* One that connects to the hub. */
struct spoke {
    struct lend_agent *agent;
    struct lend_peer *peer;
    struct acts_region region;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
};

static bool spoke_begin(struct hub *hub, uint32_t number, uint8_t *memory, struct spoke *out)
{
    struct lend_agent_config config;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};
    char name[32];

    (void)snprintf(name, sizeof name, "spoke-%u", number);
    config = acts_config(name, &hub->directory);
    out->region = (struct acts_region){.memory = memory, .block_bytes = BLOCK, .count = 1};
    if (!acts_ok(lend_agent_create(&config, &out->agent, &error), &error, name) ||
        !acts_register(out->agent, &out->region, 0) ||
        !acts_import(out->agent, &hub->metadata, &out->peer) ||
        !acts_ok(lend_ticket_import(out->peer, hub->ticket.bytes, hub->ticket.count, &out->ticket,
                                    &error),
                 &error, "import of a ticket"))
        return false;
    desc.peer = out->peer;
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &out->region.region;
    desc.remote_regions = &hub->region.id;
    desc.block_count_max = 1;
    return acts_ok(lend_transfer_prepare(out->agent, &desc, &out->transfer, &error), &error,
                   "prepare");
}

static bool spoke_post(struct spoke *spoke, int32_t block)
{
    static const int32_t zero = 0;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    post.ticket = spoke->ticket;
    post.local_blocks = &zero;
    post.remote_blocks = &block;
    post.block_count = 1;
    post.notification = &block;
    post.notification_bytes = sizeof block;
    return acts_ok(lend_transfer_post(spoke->transfer, &post, &error), &error, "post");
}

static bool spoke_check(struct spoke *spoke, int32_t block)
{
    enum lend_status status = lend_transfer_wait(spoke->transfer, ACTS_PATIENCE_NS);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error why = {0};

    (void)lend_transfer_describe(spoke->transfer, &record, &why);
    return acts_ok(status, &why, "read") &&
           acts_is(spoke->region.memory, BLOCK, 1, (uint64_t)block);
}

/* In good order, or, as a program that crashes would not, only by the agent's end. */
static void spoke_end(struct spoke *spoke, bool in_order)
{
    if (in_order) {
        (void)lend_transfer_release(spoke->transfer);
        lend_ticket_release(spoke->ticket);
        lend_peer_forget(spoke->peer);
    }
    lend_agent_destroy(spoke->agent);
}

static void hear(struct hub *hub, uint32_t count)
{
    for (uint32_t heard = 0; heard < count; heard++) {
        struct lend_error error = {0};
        int32_t block = -1;
        size_t bytes = 0;

        assert_true(acts_ok(lend_notification_receive(hub->agent, &block, sizeof block, &bytes,
                                                      NULL, ACTS_PATIENCE_NS, &error),
                            &error, "notification"));
        assert_in_range(block, 0, BLOCKS - 1);
    }
}

/* Each agent holds about a dozen descriptors, and each connection as many at both ends. */
static void allow_descriptors(void)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < AGENTS * 32) {
        print_message("only %llu descriptors are allowed\n", (unsigned long long)limit.rlim_cur);
        skip();
    }
}

static void come_and_go(struct hub *hub, uint32_t count, uint8_t *memories)
{
    static struct spoke spokes[AGENTS];

    memset(spokes, 0, sizeof spokes);
    for (uint32_t index = 0; index < count; index++)
        assert_true(spoke_begin(hub, index, memories + (size_t)index * BLOCK, &spokes[index]));
    for (uint32_t index = 0; index < count; index++)
        assert_true(spoke_post(&spokes[index], (int32_t)(index % BLOCKS)));
    for (uint32_t index = 0; index < count; index++)
        assert_true(spoke_check(&spokes[index], (int32_t)(index % BLOCKS)));
    hear(hub, count);
    for (uint32_t index = 0; index < count; index++)
        spoke_end(&spokes[index], index % 2 == 0);
}

static void test_two_hundred_agents_leave_nothing(void **state)
{
    struct hub hub = {0};
    uint32_t rounds = acts_count(ROUNDS * 20) / 20; /* at least one */
    uint8_t *memories = acts_shared((size_t)AGENTS * BLOCK);
    struct acts_holdings before;

    (void)state;
    allow_descriptors();
    hub_begin(&hub);
    before = acts_holdings_now();
    come_and_go(&hub, AGENTS, memories);
    /* What the C library keeps for later is kept from here on. */
    before.maps = UINT32_MAX / 2;
    assert_true(acts_holdings_came_back(&before, UINT64_MAX / 2));
    before = acts_holdings_now();
    for (uint32_t round = 0; round < rounds; round++) {
        come_and_go(&hub, AGENTS, memories);
        assert_true(acts_holdings_came_back(&before, 256 << 10));
    }
    hub_end(&hub);
    acts_unshare(memories, (size_t)AGENTS * BLOCK);
}

/* A process of some round, forked before this one has an agent or a second thread. */
struct process {
    struct call *call;
    uint32_t number;
    uint32_t round;
};

/* What the processes wait for, in memory that all see. */
struct call {
    struct acts_turn round;
    struct hub hub; /* the handles in it are this process's alone */
};

static int process_main(void *context)
{
    struct process *process = context;
    uint8_t *memory = acts_shared(BLOCK);

    if (!acts_turn_await(&process->call->round, process->round))
        return 1;
    for (uint32_t round = 0; round < 8; round++) {
        struct spoke spoke = {0};
        int32_t block = (int32_t)((process->number + round) % BLOCKS);

        if (!spoke_begin(&process->call->hub, process->number, memory, &spoke) ||
            !spoke_post(&spoke, block) || !spoke_check(&spoke, block))
            return 1;
        if (round == 7 && process->number % 2 == 0)
            return 0; /* without a word */
        spoke_end(&spoke, round % 2 == 0);
    }
    return 0;
}

/* A notification is lost only with its peer, and these peers have ended: take what they sent. */
static void hear_the_rest(struct hub *hub)
{
    struct lend_error error = {0};
    int32_t block;
    size_t bytes = 0;

    while (lend_notification_receive(hub->agent, &block, sizeof block, &bytes, NULL, 0, &error) ==
           LEND_OK)
        assert_in_range(block, 0, BLOCKS - 1);
}

static void test_sixteen_processes_leave_nothing(void **state)
{
    enum { ROUNDS_MAX = 64 };
    static struct process processes[ROUNDS_MAX][PROCESSES];
    static pid_t children[ROUNDS_MAX][PROCESSES];
    struct call *call = acts_shared(sizeof *call);
    struct acts_holdings before;
    uint32_t rounds = 1 + acts_count(ROUNDS * 20) / 20;

    (void)state;
    allow_descriptors();
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t index = 0; index < PROCESSES; index++) {
            processes[round][index] = (struct process){call, index, round + 1};
            children[round][index] = acts_spawn(process_main, &processes[round][index]);
        }
    hub_begin(&call->hub);
    before = acts_holdings_now();
    for (uint32_t round = 0; round < rounds; round++) {
        acts_turn_to(&call->round, round + 1);
        for (uint32_t index = 0; index < PROCESSES; index++)
            assert_int_equal(acts_reap(children[round][index]), 0);
        hear_the_rest(&call->hub);
        if (round == 0) /* what it grew to serve them once, it keeps */
            before.heap_bytes = acts_holdings_now().heap_bytes;
        assert_true(acts_holdings_came_back(&before, 256 << 10));
    }
    lend_agent_destroy(call->hub.agent);
    acts_unshare(call->hub.region.memory, BLOCK * BLOCKS);
    /* Those that ended without a word left their sockets in the folder. */
    acts_directory_empty(&call->hub.directory);
    assert_true(acts_directory_remove(&call->hub.directory));
    acts_unshare(call, sizeof *call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_hundred_agents_leave_nothing),
        cmocka_unit_test(test_sixteen_processes_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
