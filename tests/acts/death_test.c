/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever dies, the other gets an error in bounded time, its memory back, and holds nothing
 * more. Method: 1,000 times a reader or an owner is killed, stopped, or replaced by exec at a
 * random moment of a running transfer, while one agent of this process survives them all. As owner
 * it withdraws the region by force, and makes the memory inaccessible the moment that this has
 * returned OK. As reader it checks the status, the time it took, and every word of what succeeded.
 * At the end its descriptors, threads, mappings and heap are what they were.
 *
 * The victims are forked by a nursery that never had an agent or a second thread.
 */
#include "acts.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 16384, BLOCKS = 64 };

#define STOPPED_TIMEOUT_NS (30 * ACTS_MS)
#define DEADLINE_NS        (10 * ACTS_SECOND) /* that a loaded machine keeps, too */

enum fate { KILLED, STOPPED, REPLACED };

/* A victim's life, in memory that all see. */
struct life {
    struct acts_directory directory;
    bool is_owner; /* else it is the reader */
    bool writes;
    bool replaces_itself;
    uint64_t generation;
    uint64_t delay_ns; /* before it replaces itself */
    struct acts_blob metadata;
    struct acts_blob ticket;
    uint64_t id;
    struct acts_turn began; /* the victim: transfers run, or: ready to be asked */
    struct acts_turn asked; /* the survivor: its transfer runs */
};

struct nursery {
    pid_t pid;
    int wire;
};

static void replace_self(void)
{
    (void)execl("/bin/sleep", "sleep", "600", (char *)NULL);
    perror("/bin/sleep");
    _exit(1);
}

/* The victim as reader: one transfer after the other, for ever. */
static int read_until_death(struct life *life, struct lend_agent *agent)
{
    struct acts_region region = {
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    int32_t blocks[BLOCKS];

    for (int32_t block = 0; block < BLOCKS; block++) {
        blocks[block] = block;
        acts_fill(region.memory + (uint64_t)block * BLOCK, BLOCK, life->generation,
                  (uint64_t)block);
    }
    if (!acts_import(agent, &life->metadata, &desc.peer) || !acts_register(agent, &region, 0) ||
        !acts_ok(lend_ticket_import(desc.peer, life->ticket.bytes, life->ticket.count, &post.ticket,
                                    &error),
                 &error, "import of a ticket"))
        return 1;
    desc.direction = life->writes ? LEND_WRITE : LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &region.region;
    desc.remote_regions = &life->id;
    desc.block_count_max = BLOCKS;
    if (!acts_ok(lend_transfer_prepare(agent, &desc, &transfer, &error), &error, "prepare"))
        return 1;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    for (uint32_t round = 1;; round++) {
        if (!acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"))
            return 1;
        acts_turn_to(&life->began, round);
        if (life->replaces_itself && round == 2) {
            acts_delay(life->delay_ns);
            replace_self();
        }
        if (lend_transfer_wait(transfer, ACTS_PATIENCE_NS) != LEND_OK)
            (void)pause(); /* the owner took it back before death came */
    }
}

/* The victim as owner: lend, and answer for ever. */
static int own_until_death(struct life *life, struct lend_agent *agent)
{
    struct acts_region region = {
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    struct lend_lease *lease = NULL;

    for (uint64_t block = 0; block < BLOCKS; block++)
        acts_fill(region.memory + block * BLOCK, BLOCK, life->generation, block);
    if (!acts_register(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE) ||
        !acts_grant(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE, &lease, &life->ticket) ||
        !acts_metadata(agent, &life->metadata))
        return 1;
    life->id = region.id;
    acts_turn_to(&life->began, 1);
    if (life->replaces_itself) {
        if (!acts_turn_await(&life->asked, 1))
            return 1;
        acts_delay(life->delay_ns);
        replace_self();
    }
    for (;;)
        (void)pause();
}

static int live(void *context)
{
    struct life *life = context;
    struct lend_agent_config config = acts_config("victim", &life->directory);
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    if (!acts_ok(lend_agent_create(&config, &agent, &error), &error, "victim"))
        return 1;
    return life->is_owner ? own_until_death(life, agent) : read_until_death(life, agent);
}

static void nurse(struct life *life, int wire)
{
    pid_t order;

    /* 0: bring one into life; a number: bury that one. */
    while (read(wire, &order, sizeof order) == (ssize_t)sizeof order) {
        if (order == 0)
            order = acts_spawn(live, life);
        else if (waitpid(order, NULL, 0) != order)
            order = -1;
        if (write(wire, &order, sizeof order) != (ssize_t)sizeof order)
            break;
    }
    _exit(0);
}

static struct nursery nursery_open(struct life *life)
{
    struct nursery nursery;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    (void)fflush(NULL);
    nursery.pid = fork();
    assert_true(nursery.pid >= 0);
    if (nursery.pid == 0) {
        (void)close(ends[0]);
        nurse(life, ends[1]);
    }
    (void)close(ends[1]);
    nursery.wire = ends[0];
    return nursery;
}

static pid_t nursery_order(struct nursery *nursery, pid_t order)
{
    assert_int_equal(write(nursery->wire, &order, sizeof order), sizeof order);
    assert_int_equal(read(nursery->wire, &order, sizeof order), sizeof order);
    return order;
}

static void nursery_close(struct nursery *nursery)
{
    (void)close(nursery->wire);
    assert_int_equal(acts_reap(nursery->pid), 0);
}

struct survivor {
    struct life *life;
    struct nursery nursery;
    struct lend_agent *agent;
    struct acts_chance chance;
    uint8_t *memories[2]; /* as owner: this round's, and the last one's, which nothing may touch */
    struct acts_region region; /* as reader */
    uint32_t caught;           /* transfers that death ended */
    uint64_t longest_ns;
};

static pid_t give_birth(struct survivor *survivor, bool is_owner, enum fate fate)
{
    struct life *life = survivor->life;

    life->is_owner = is_owner;
    life->writes = acts_chance_below(&survivor->chance, 2) == 1;
    life->replaces_itself = fate == REPLACED;
    life->generation++;
    life->delay_ns = acts_chance_below(&survivor->chance, ACTS_MS);
    atomic_store(&life->began.reached, 0);
    atomic_store(&life->asked.reached, 0);
    pid_t victim = nursery_order(&survivor->nursery, 0);
    assert_true(victim > 0);
    return victim;
}

static void strike(struct survivor *survivor, pid_t victim, enum fate fate)
{
    (void)survivor;
    if (fate == KILLED)
        assert_int_equal(kill(victim, SIGKILL), 0);
    if (fate == STOPPED)
        assert_int_equal(kill(victim, SIGSTOP), 0);
}

static void bury(struct survivor *survivor, pid_t victim)
{
    assert_int_equal(kill(victim, SIGKILL), 0);
    assert_int_equal(nursery_order(&survivor->nursery, victim), victim);
}

static void note_time(struct survivor *survivor, uint64_t began_ns)
{
    uint64_t spent = acts_now_ns() - began_ns;

    if (spent > survivor->longest_ns)
        survivor->longest_ns = spent;
    assert_true(spent < DEADLINE_NS);
}

/* The reader dies; the owner, that is this process, takes its memory back. */
static void lose_reader(struct survivor *survivor, enum fate fate)
{
    struct life *life = survivor->life;
    struct acts_region region = {.block_bytes = BLOCK, .count = BLOCKS};
    struct lend_lease_info info = {.struct_size = sizeof info};
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};
    size_t bytes = (size_t)BLOCK * BLOCKS;

    region.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region.memory != MAP_FAILED);
    memset(region.memory, 0x3C, bytes);
    assert_true(acts_register(survivor->agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE));
    life->id = region.id;
    assert_true(acts_grant(survivor->agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE, &lease,
                           &life->ticket));
    assert_true(acts_metadata(survivor->agent, &life->metadata));

    pid_t victim = give_birth(survivor, false, fate);
    assert_true(acts_turn_await(&life->began, 2));
    acts_delay(acts_chance_below(&survivor->chance, ACTS_MS));
    strike(survivor, victim, fate);

    uint64_t struck_ns = acts_now_ns();
    assert_true(
        acts_ok(lend_region_withdraw(region.region, LEND_WITHDRAW_FORCE, DEADLINE_NS, &error),
                &error, "withdraw"));
    note_time(survivor, struck_ns);
    /* From here on a touch of it is a fault that ends this process. */
    assert_int_equal(mprotect(region.memory, bytes, PROT_NONE), 0);
    assert_true(acts_ok(lend_region_deregister(region.region, &error), &error, "deregister"));
    assert_true(acts_ok(lend_lease_describe(lease, &info, &error), &error, "describe"));
    assert_true(info.status != LEND_OK);
    survivor->caught += info.bytes % bytes != 0; /* ended in the middle of one */
    lend_lease_release(lease);
    bury(survivor, victim);
    if (survivor->memories[1] != NULL)
        assert_int_equal(munmap(survivor->memories[1], bytes), 0);
    survivor->memories[1] = survivor->memories[0];
    survivor->memories[0] = region.memory;
}

static void check_status(struct survivor *survivor, enum lend_status status, enum fate fate)
{
    const uint8_t *memory = survivor->region.memory;
    enum lend_status expected = fate == STOPPED ? LEND_E_TIMEOUT : LEND_E_PEER_DEAD;

    if (status != LEND_OK && status != expected)
        fail_msg("fate %d: %s", (int)fate, lend_status_name(status));
    survivor->caught += status != LEND_OK;
    for (uint64_t block = 0; status == LEND_OK && !survivor->life->writes && block < BLOCKS;
         block++)
        assert_true(acts_is(memory + block * BLOCK, BLOCK, survivor->life->generation, block));
}

/* The owner dies; the reader, that is this process, is told. */
static void lose_owner(struct survivor *survivor, enum fate fate)
{
    struct life *life = survivor->life;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    int32_t blocks[BLOCKS];
    pid_t victim = give_birth(survivor, true, fate);

    assert_true(acts_turn_await(&life->began, 1));
    for (int32_t block = 0; block < BLOCKS; block++)
        blocks[block] = block;
    assert_true(acts_import(survivor->agent, &life->metadata, &desc.peer));
    assert_true(acts_ok(
        lend_ticket_import(desc.peer, life->ticket.bytes, life->ticket.count, &post.ticket, &error),
        &error, "import of a ticket"));
    desc.direction = life->writes ? LEND_WRITE : LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &survivor->region.region;
    desc.remote_regions = &life->id;
    desc.block_count_max = BLOCKS;
    assert_true(acts_ok(lend_transfer_prepare(survivor->agent, &desc, &transfer, &error), &error,
                        "prepare"));
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    post.timeout_ns = fate == STOPPED ? STOPPED_TIMEOUT_NS : 2 * DEADLINE_NS;
    /* The moment may be while they connect, too. */
    if (acts_chance_below(&survivor->chance, 4) != 0)
        assert_true(acts_ok(lend_peer_connect(desc.peer, DEADLINE_NS, &error), &error, "connect"));
    assert_true(acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"));
    acts_turn_to(&life->asked, 1);
    acts_delay(acts_chance_below(&survivor->chance, ACTS_MS / 2));
    strike(survivor, victim, fate);

    uint64_t struck_ns = acts_now_ns();
    enum lend_status status = lend_transfer_wait(transfer, 2 * DEADLINE_NS);
    note_time(survivor, struck_ns);
    check_status(survivor, status, fate);
    bury(survivor, victim);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    lend_ticket_release(post.ticket);
    lend_peer_forget(desc.peer);
}

static void lose_somebody(struct survivor *survivor)
{
    uint64_t dice = acts_chance_below(&survivor->chance, 100);
    enum fate fate = dice % 10 < 6 ? KILLED : dice % 10 < 8 ? STOPPED : REPLACED;

    if (dice < 50)
        lose_reader(survivor, fate);
    else
        lose_owner(survivor, fate);
}

static void survivor_begin(struct survivor *survivor)
{
    struct lend_agent_config config = acts_config("survivor", &survivor->life->directory);
    struct lend_error error = {0};

    config.slot_rest_ns = ACTS_MS;
    config.leases_max = 64;
    config.peers_max = 64; /* so that one that is kept by mistake is missed soon */
    assert_true(acts_ok(lend_agent_create(&config, &survivor->agent, &error), &error, "survivor"));
    survivor->region = (struct acts_region){
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    assert_true(acts_register(survivor->agent, &survivor->region, 0));
}

static void test_survivor_is_told_and_gets_its_memory_back(void **state)
{
    struct life *life = acts_shared(sizeof *life);
    struct survivor survivor = {.life = life, .chance = acts_chance_begin("death")};
    uint32_t deaths = acts_count(1000), warm = 20;
    struct acts_holdings before = {0};

    (void)state;
    life->directory = acts_directory_make();
    survivor.nursery = nursery_open(life);
    survivor_begin(&survivor);
    for (uint32_t death = 0; death < deaths + warm; death++) {
        if (death == warm)
            before = acts_holdings_now();
        lose_somebody(&survivor);
    }
    print_message("%u deaths, %u of them in a running transfer; the longest wait was %.1f ms\n",
                  deaths + warm, survivor.caught, (double)survivor.longest_ns / 1e6);
    assert_true(acts_holdings_came_back(&before, 256 << 10));
    assert_true(survivor.caught * 100 >= deaths * 10);
    lend_agent_destroy(survivor.agent);
    nursery_close(&survivor.nursery);
    acts_directory_empty(&life->directory); /* of the sockets of the dead */
    assert_true(acts_directory_remove(&life->directory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_survivor_is_told_and_gets_its_memory_back)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
