/* SPDX-License-Identifier: Apache-2.0 */
#include "death.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 16384, BLOCKS = 64, GIVEN_UP = 0x7E };

#define STOPPED_TIMEOUT_NS (30 * ACTS_MS)
#define DEADLINE_NS        (10 * ACTS_SECOND) /* that a loaded machine keeps, too */

enum fate { KILLED, STOPPED, REPLACED };

/* A victim's life, in memory that all see. */
struct life {
    struct death_plan plan;
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
        !acts_ok(lend_peer_connect(desc.peer, DEADLINE_NS, &error), &error, "connect") ||
        !acts_ok(lend_ticket_import(desc.peer, life->ticket.bytes, life->ticket.count, &post.ticket,
                                    &error),
                 &error, "import of a ticket"))
        return 1;
    desc.direction = life->writes ? LEND_WRITE : LEND_READ;
    desc.paths = life->writes ? NULL : life->plan.path;
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
    struct acts_region region = {.block_bytes = BLOCK, .count = BLOCKS};
    struct lend_lease *lease = NULL;

    if (!acts_furnish(&region, life->plan.path))
        return 1;
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
    struct lend_agent_config config =
        acts_config_for("victim", &life->directory, life->plan.path, life->plan.victim_address);
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.flags |= LEND_AGENT_ALLOW_CROSS_MEMORY;
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
        if (life->plan.go != NULL && !life->plan.go(true))
            _exit(1);
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
    struct acts_region lent[2]; /* as owner: the last ones, which nothing may touch any more */
    struct acts_region region;  /* as reader */
    uint32_t caught;            /* transfers that death ended */
    uint32_t reads_caught;      /* of those, READs of this process */
    uint32_t kept;              /* regions that a stopped reader had mapped still */
    uint32_t continued;         /* victims that went on when they were given up */
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

/* One that was stopped may go on for a while, after the other has given it up. */
static void bury(struct survivor *survivor, pid_t victim, enum fate fate)
{
    if (fate == STOPPED && acts_chance_below(&survivor->chance, 2) == 0) {
        survivor->continued++;
        assert_int_equal(kill(victim, SIGCONT), 0);
        acts_delay(acts_chance_below(&survivor->chance, 2 * ACTS_MS));
    }
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

/* Take the region back from a reader that was struck. True: it is buried, for while it was stopped
 * it had the memory mapped. */
static bool take_back_from(struct survivor *survivor, struct lend_region *region, pid_t victim,
                           enum fate fate)
{
    bool may_keep = fate == STOPPED && strcmp(survivor->life->plan.path, "local/mapped") == 0;
    uint64_t timeout_ns = may_keep ? STOPPED_TIMEOUT_NS : DEADLINE_NS;
    struct lend_error error = {0};
    uint64_t began_ns = acts_now_ns();
    enum lend_status status = lend_region_withdraw(region, LEND_WITHDRAW_FORCE, timeout_ns, &error);
    bool is_kept = may_keep && status == LEND_E_BUSY;

    note_time(survivor, began_ns);
    if (is_kept) {
        survivor->kept++;
        bury(survivor, victim, fate);
        began_ns = acts_now_ns();
        status = lend_region_withdraw(region, LEND_WITHDRAW_FORCE, DEADLINE_NS, &error);
        note_time(survivor, began_ns);
    }
    assert_true(acts_ok(status, &error, "withdraw"));
    return is_kept;
}

/* From here on a touch of it is a fault that ends this process; or, where the kernel would take
 * that for an error and nobody would know, what lands in it is found by retire_memory(). */
static void give_up_memory(const struct survivor *survivor, const struct acts_region *region)
{
    size_t bytes = (size_t)BLOCK * BLOCKS;

    if (acts_path_is_by_kernel(survivor->life->plan.path))
        memset(region->memory, GIVEN_UP, bytes);
    else
        assert_int_equal(mprotect(region->memory, bytes, PROT_NONE), 0);
}

static void retire_memory(const struct survivor *survivor, struct acts_region *region)
{
    if (region->memory == NULL)
        return;
    if (acts_path_is_by_kernel(survivor->life->plan.path))
        assert_true(acts_is_byte(region->memory, (size_t)BLOCK * BLOCKS, GIVEN_UP));
    acts_unfurnish(region);
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

    assert_true(acts_furnish(&region, life->plan.path));
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

    bool is_buried = take_back_from(survivor, region.region, victim, fate);

    give_up_memory(survivor, &region);
    assert_true(acts_ok(lend_region_deregister(region.region, &error), &error, "deregister"));
    assert_true(acts_ok(lend_lease_describe(lease, &info, &error), &error, "describe"));
    assert_true(info.status != LEND_OK);
    survivor->caught += info.bytes % bytes != 0; /* ended in the middle of one */
    lend_lease_release(lease);
    if (!is_buried)
        bury(survivor, victim, fate);
    retire_memory(survivor, &survivor->lent[1]);
    survivor->lent[1] = survivor->lent[0];
    survivor->lent[0] = region;
}

static void check_status(struct survivor *survivor, enum lend_status status, enum fate fate)
{
    const uint8_t *memory = survivor->region.memory;
    enum lend_status expected = fate == STOPPED ? LEND_E_TIMEOUT : LEND_E_PEER_DEAD;

    if (status != LEND_OK && status != expected)
        fail_msg("fate %d: %s", (int)fate, lend_status_name(status));
    survivor->caught += status != LEND_OK;
    survivor->reads_caught += status != LEND_OK && !survivor->life->writes;
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
    bool copies = !life->writes && acts_path_copies(life->plan.path); /* by ourselves */

    assert_true(acts_turn_await(&life->began, 1));
    for (int32_t block = 0; block < BLOCKS; block++)
        blocks[block] = block;
    assert_true(acts_import(survivor->agent, &life->metadata, &desc.peer));
    assert_true(acts_ok(
        lend_ticket_import(desc.peer, life->ticket.bytes, life->ticket.count, &post.ticket, &error),
        &error, "import of a ticket"));
    desc.direction = life->writes ? LEND_WRITE : LEND_READ;
    desc.paths = life->writes ? NULL : life->plan.path;
    desc.region_count = 1;
    desc.local_regions = &survivor->region.region;
    desc.remote_regions = &life->id;
    desc.block_count_max = BLOCKS;
    /* The moment may be while they connect, too, where that need not be to know the path. */
    if (copies || acts_chance_below(&survivor->chance, 4) != 0)
        assert_true(acts_ok(lend_peer_connect(desc.peer, DEADLINE_NS, &error), &error, "connect"));
    assert_true(acts_ok(lend_transfer_prepare(survivor->agent, &desc, &transfer, &error), &error,
                        "prepare"));
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    post.timeout_ns = fate == STOPPED ? STOPPED_TIMEOUT_NS : 2 * DEADLINE_NS;
    assert_true(acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"));
    acts_turn_to(&life->asked, 1);
    acts_delay(acts_chance_below(&survivor->chance, copies ? ACTS_MS / 16 : ACTS_MS / 2));
    strike(survivor, victim, fate);

    uint64_t struck_ns = acts_now_ns();
    enum lend_status status = lend_transfer_wait(transfer, 2 * DEADLINE_NS);
    note_time(survivor, struck_ns);
    check_status(survivor, status, fate);
    /* The transfer is over: whatever its owner does yet, this memory is ours. */
    memset(survivor->region.memory, 0xA5, (size_t)BLOCK * BLOCKS);
    bury(survivor, victim, fate);
    assert_true(acts_is_byte(survivor->region.memory, (size_t)BLOCK * BLOCKS, 0xA5));
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    lend_ticket_release(post.ticket);
    lend_peer_forget(desc.peer);
}

static void lose_somebody(struct survivor *survivor)
{
    uint64_t dice = acts_chance_below(&survivor->chance, 100);
    enum fate fate = dice % 10 < 6 ? KILLED : dice % 10 < 8 ? STOPPED : REPLACED;

    /* UCX's sockets outlive an exec, so that a program that replaces itself is not seen to. */
    if (fate == REPLACED && strcmp(survivor->life->plan.path, "ucx/served") == 0)
        fate = KILLED;

    if (dice < 50)
        lose_reader(survivor, fate);
    else
        lose_owner(survivor, fate);
}

static void survivor_begin(struct survivor *survivor)
{
    const struct death_plan *plan = &survivor->life->plan;
    struct lend_agent_config config =
        acts_config_for("survivor", &survivor->life->directory, plan->path, plan->survivor_address);
    struct lend_error error = {0};

    config.flags |= LEND_AGENT_ALLOW_CROSS_MEMORY;
    config.slot_rest_ns = ACTS_MS;
    config.leases_max = 64;
    config.peers_max = 64; /* so that one that is kept by mistake is missed soon */
    assert_true(acts_ok(lend_agent_create(&config, &survivor->agent, &error), &error, "survivor"));
    survivor->region = (struct acts_region){
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    assert_true(acts_register(survivor->agent, &survivor->region, 0));
}

void death_run(const struct death_plan *plan)
{
    struct life *life = acts_shared(sizeof *life);
    struct survivor survivor = {.life = life, .chance = acts_chance_begin("death")};
    uint32_t warm = 20;
    struct acts_holdings before = {0};

    life->plan = *plan;
    life->directory = acts_directory_make();
    survivor.nursery = nursery_open(life);
    assert_true(plan->go == NULL || plan->go(false));
    survivor_begin(&survivor);
    for (uint32_t death = 0; death < plan->deaths + warm; death++) {
        if (death == warm)
            before = acts_holdings_now();
        lose_somebody(&survivor);
    }
    print_message("%s: %u deaths, %u of them in a running transfer (%u in our reads), %u that kept "
                  "a mapping, %u that went on later; the longest wait was %.1f ms\n",
                  plan->path, plan->deaths + warm, survivor.caught, survivor.reads_caught,
                  survivor.kept, survivor.continued, (double)survivor.longest_ns / 1e6);
    assert_true(acts_holdings_came_back(&before, 256 << 10));
    assert_true(survivor.caught * 100 >= plan->deaths * 10);
    lend_agent_destroy(survivor.agent);
    acts_unfurnish(&survivor.region);
    for (uint32_t index = 0; index < 2; index++)
        retire_memory(&survivor, &survivor.lent[index]);
    nursery_close(&survivor.nursery);
    acts_directory_empty(&life->directory); /* of the sockets of the dead */
    assert_true(acts_directory_remove(&life->directory));
    acts_unshare(life, sizeof *life);
}
