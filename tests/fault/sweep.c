/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep.h"

#include "built.h"

#include "transport/local/local.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define SECRET "what the two of them know"

enum { CALLS_MAX = 500 };

#define START_NS UINT64_C(1000000000000)
#define TICK_NS  UINT64_C(100)
#define MS       UINT64_C(1000000)

uint8_t lent_memory[LENT_BYTES];
uint8_t kept_memory[LENT_BYTES];

static char directory[64];
static int current; /* the call that fails at this moment, for messages */
static const char *current_transports;

static uint8_t filling(uint8_t seed, uint64_t at)
{
    return (uint8_t)(seed + at * 7 + (at / BLOCK_BYTES) * 13);
}

void fill(uint8_t *memory, uint8_t seed)
{
    for (uint64_t at = 0; at < LENT_BYTES; at++)
        memory[at] = filling(seed, at);
}

bool is_filled(const uint8_t *memory, uint64_t block, uint64_t count, uint8_t seed, uint64_t as)
{
    for (uint64_t at = 0; at < count * BLOCK_BYTES; at++)
        if (memory[block * BLOCK_BYTES + at] != filling(seed, as * BLOCK_BYTES + at))
            return false;
    return true;
}

void pump(struct world *world)
{
    (void)lend_agent_progress(world->reader, 0, NULL);
    if (world->owner != NULL)
        (void)lend_agent_progress(world->owner, 0, NULL);
    double_clock_advance(MS);
}

void check_listed(struct world *world, enum lend_status got, const int *listed, const char *call)
{
    world->failures++;
    for (; *listed != 0; listed++)
        if ((int)got == *listed)
            return;
    fail_msg("over %s, call %d failed: %s is not a documented status of %s", current_transports,
             current, lend_status_name(got), call);
}

void check_succeeds(enum lend_status got, const char *call)
{
    if (got != LEND_OK)
        fail_msg("over %s, call %d failed: then %s gives %s", current_transports, current, call,
                 lend_status_name(got));
}

static void count_retain(void *token)
{
    ((struct world *)token)->retained++;
}

static void count_release(void *token)
{
    ((struct world *)token)->released++;
}

struct lend_region_desc describe_region(struct world *world, uint8_t *memory, const char *name)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    SURE(lend_memory_system(memory, LENT_BYTES, &desc.memory, NULL));
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.name = name;
    desc.tags = "engine=test";
    desc.owner =
        (struct lend_owner){.token = world, .retain = count_retain, .release = count_release};
    return desc;
}

void make_agent(struct world *world, bool is_owner)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent **out = is_owner ? &world->owner : &world->reader;

    config.name = is_owner ? "owner" : "reader";
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    config.transports = world->transports;
    config.local_directory = directory;
    config.local_ring_bytes = 131072;
    config.listen = strcmp(world->transports, "tcp") == 0 ? "127.0.0.1" : NULL;
    if (world->has_secret || world->has_own)
        config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    if (world->has_secret || (world->has_own && is_owner)) {
        config.secret = SECRET;
        config.secret_bytes = sizeof SECRET - 1;
        RETRY(lend_agent_create(&config, out, NULL), LEND_E_NO_PATH, LEND_E_ABSENT,
              LEND_E_NO_MEMORY, LEND_E_SYSTEM);
        return;
    }
    RETRY(lend_agent_create(&config, out, NULL), LEND_E_NO_PATH, LEND_E_NO_MEMORY, LEND_E_SYSTEM);
    assert_non_null(*out);
}

void make_agents(struct world *world)
{
    make_agent(world, true);
    make_agent(world, false);
}

void register_regions(struct world *world)
{
    struct lend_region_desc lent = describe_region(world, lent_memory, "lent");
    struct lend_region_desc kept = describe_region(world, kept_memory, NULL);

    RETRY(lend_region_register(world->owner, &lent, 1, &world->lent, NULL, NULL), LEND_E_MEMORY,
          LEND_E_NO_MEMORY, LEND_E_SYSTEM);
    RETRY(lend_region_register(world->reader, &kept, 1, &world->kept, NULL, NULL), LEND_E_MEMORY,
          LEND_E_NO_MEMORY, LEND_E_SYSTEM);
}

void import_peer(struct world *world)
{
    static uint8_t bytes[4096];
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;
    size_t count = 0;

    RETRY(lend_metadata_export(world->owner, bytes, sizeof bytes, &count, NULL), LEND_E_NO_MEMORY);
    if (!world->has_own) {
        RETRY(lend_peer_import(world->reader, bytes, count, &world->peer, NULL), LEND_E_NO_MEMORY);
        return;
    }
    desc.secret = SECRET;
    desc.secret_bytes = sizeof SECRET - 1;
    RETRY(lend_peer_import_with(world->reader, bytes, count, &desc, &world->peer, NULL),
          LEND_E_ABSENT, LEND_E_NO_MEMORY, LEND_E_SYSTEM);
}

void grant_lease(struct world *world, uint32_t access, uint32_t consumers)
{
    struct lend_block_set set = {.regions = &world->lent, .region_count = 1, .count = 8};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;

    desc.access = access;
    desc.sets = &set;
    desc.set_count = 1;
    desc.consumer_count = consumers;
    desc.time_to_live_ns = 600000 * MS;
    RETRY(lend_lease_grant(world->owner, &desc, &world->lease, NULL), LEND_E_NO_MEMORY,
          LEND_E_SYSTEM);
}

void import_ticket(struct world *world)
{
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = 0;

    SURE(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, NULL));
    RETRY(lend_ticket_import(world->peer, bytes, count, &world->ticket, NULL), LEND_E_NO_MEMORY);
}

/* Give back what the run has left, in the order that is the hardest: handles after their agents'
 * peers are gone. */
static void end(struct world *world)
{
    if (world->transfer != NULL)
        SURE(lend_transfer_release(world->transfer));
    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    lend_agent_destroy(world->owner);
    lend_agent_destroy(world->reader);
    assert_int_equal(world->released, world->retained);
    /* Descriptors that were refused are closed by threads. */
    while (lend_local_closing_count() > 0 || double_live_threads() > 0)
        (void)sched_yield();
}

/* One run. True if the fault was reached. */
static bool play_once(scenario *play, const char *transports, int nth, bool by_site)
{
    struct world world = {.transports = transports};

    current = nth;
    current_transports = transports;
    fill(lent_memory, 1);
    fill(kept_memory, 101);
    if (by_site)
        double_install_site(nth);
    else
        double_install(nth);
    double_clock_set(START_NS, TICK_NS);
    play(&world);
    end(&world);
    if (nth < 0)
        assert_int_equal(world.failures, 0);
    return double_remove();
}

static void sweep_over(scenario *play, const char *transports)
{
    (void)play_once(play, transports, -1, false);
    bool by_site = double_calls() > CALLS_MAX;
    int nth = 0;

    while (play_once(play, transports, nth, by_site))
        nth++;
    assert_true(nth > 0);
    print_message("over %s: %d faults%s\n", transports, nth, by_site ? ", by place" : "");
}

void sweep(scenario *play)
{
    (void)snprintf(directory, sizeof directory, "/tmp/lend-fault-XXXXXX");
    assert_non_null(mkdtemp(directory));
    sweep_over(play, "loopback");
    sweep_over(play, "local");
    if (built_with("tcp"))
        sweep_over(play, "tcp");
    assert_int_equal(rmdir(directory), 0); /* no socket is left there */
}
