/* SPDX-License-Identifier: Apache-2.0 */
#include "crossing.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OWNER, READER }; /* the hosts */

enum order { GRANT, REVOKE, NOTE_HOLDINGS, COMPARE_HOLDINGS, ECHO };

struct crossing_shared {
    struct acts_directory directory;
    struct acts_turn born;  /* the owner of that life is ready */
    struct acts_turn death; /* the owner of that life is to be killed */
    struct acts_turn asked;
    struct acts_turn done;
    struct hosts hosts;
    uint8_t *memory; /* mapped at the same place in all processes */
    enum order order;
    bool is_well;   /* the answer */
    uint32_t flags; /* crossing_flag */
    struct acts_blob metadata;
    struct acts_blob ticket;
    struct acts_holdings holdings;
    uint64_t own_bytes; /* of anonymous pages */
    uint64_t id;
};

static void must_be_well(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

/* --- the owner --- */

struct owner {
    struct crossing_shared *shared;
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_lease *lease;
};

static struct lend_agent_config config_on(int host, const char *name,
                                          const struct crossing_shared *shared)
{
    struct lend_agent_config config =
        acts_config_for(name, &shared->directory, "tcp/served", hosts_ipv4[host]);

    config.connect_timeout_ns = CROSSING_CONNECT_NS;
    config.transfer_timeout_ns = CROSSING_TRANSFER_NS;
    config.slot_rest_ns = ACTS_MS;
    if ((shared->flags & CROSSING_SECRET) != 0) {
        config.secret = "what the two of them know";
        config.secret_bytes = 25;
        config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    }
    return config;
}

static struct lend_agent *owner_agent(struct crossing_shared *shared)
{
    struct lend_agent_config config = config_on(OWNER, "owner", shared);
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.leases_max = 64;
    return acts_ok(lend_agent_create(&config, &agent, &error), &error, "owner") ? agent : NULL;
}

static void *answer(void *context)
{
    struct lend_agent *agent = context;
    static struct acts_blob blob;
    struct lend_error error;

    for (;;) {
        struct lend_peer *reader = NULL;

        if (lend_notification_receive(agent, blob.bytes, sizeof blob.bytes, &blob.count, NULL,
                                      ACTS_SECOND, &error) != LEND_OK)
            continue;
        uint8_t number = blob.bytes[0];
        if (!acts_ok(lend_peer_import(agent, blob.bytes + 1, blob.count - 1, &reader, &error),
                     &error, "import of a reader") ||
            !acts_ok(lend_notification_send(reader, &number, 1, &error), &error, "answer"))
            _exit(1);
        /* The handle is kept: forgetting the last one would end the connection. */
    }
}

/* What is resident and of no file and not shared, for /proc/self/statm. */
static uint64_t count_own_bytes(void)
{
    unsigned long long resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL || fscanf(file, "%*u %llu %llu", &resident, &shared) != 2)
        resident = shared = 0;
    if (file != NULL)
        (void)fclose(file);
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool obey(struct owner *owner)
{
    struct crossing_shared *shared = owner->shared;
    struct lend_error error = {0};
    pthread_t thread;

    switch (shared->order) {
    case GRANT:
        return acts_grant(owner->agent, &owner->region, LEND_ACCESS_READ | LEND_ACCESS_WRITE,
                          &owner->lease, &shared->ticket);
    case REVOKE:
        if (!acts_ok(lend_lease_revoke(owner->lease, &error), &error, "revoke"))
            return false;
        lend_lease_release(owner->lease);
        owner->lease = NULL;
        return true;
    case NOTE_HOLDINGS:
        shared->holdings = acts_holdings_now();
        shared->own_bytes = count_own_bytes();
        return true;
    case COMPARE_HOLDINGS: return acts_holdings_came_back(&shared->holdings, 256 << 10);
    case ECHO: return pthread_create(&thread, NULL, answer, owner->agent) == 0;
    }
    return false;
}

static int own(void *context)
{
    struct owner owner = {.shared = context};
    struct crossing_shared *shared = owner.shared;
    uint32_t order = atomic_load(&shared->done.reached) + 1;

    owner.agent = owner_agent(shared);
    owner.region = (struct acts_region){
        .memory = shared->memory, .block_bytes = CROSSING_BLOCK, .count = CROSSING_BLOCKS};
    if (owner.agent == NULL ||
        !acts_register(owner.agent, &owner.region, LEND_ACCESS_READ | LEND_ACCESS_WRITE) ||
        !acts_metadata(owner.agent, &shared->metadata))
        return 1;
    shared->id = owner.region.id;
    acts_turn_to(&shared->born, atomic_load(&shared->death.reached) + 1);
    for (;; order++) {
        acts_turn_sleep(&shared->asked, order);
        shared->is_well = obey(&owner);
        acts_turn_to(&shared->done, order);
    }
}

/* One owner after the other. This process has no agent, and no second thread. */
static int keep(void *context)
{
    struct crossing_shared *shared = context;
    struct lend_error error = {0};

    if (!acts_ok(hosts_enter(&shared->hosts, OWNER, &error), &error, "the owner's host"))
        return 1;
    for (uint32_t life = 1;; life++) {
        pid_t owner = acts_spawn(own, shared);

        acts_turn_sleep(&shared->death, life);
        (void)kill(owner, SIGKILL);
        (void)waitpid(owner, NULL, 0);
    }
}

static void ask(struct crossing *crossing, enum order order)
{
    crossing->shared->order = order;
    crossing->shared->is_well = false;
    acts_turn_to(&crossing->shared->asked, ++crossing->orders);
    assert_true(acts_turn_await(&crossing->shared->done, crossing->orders));
}

struct lend_ticket *crossing_grant(struct crossing *crossing, struct lend_peer *peer)
{
    ask(crossing, GRANT);
    assert_true(crossing->shared->is_well);
    return crossing_same_ticket(crossing, peer);
}

struct lend_ticket *crossing_same_ticket(struct crossing *crossing, struct lend_peer *peer)
{
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};

    must_be_well(lend_ticket_import(peer, crossing->shared->ticket.bytes,
                                    crossing->shared->ticket.count, &ticket, &error),
                 &error);
    return ticket;
}

void crossing_revoke(struct crossing *crossing)
{
    ask(crossing, REVOKE);
    assert_true(crossing->shared->is_well);
}

struct acts_holdings crossing_note_holdings(struct crossing *crossing)
{
    ask(crossing, NOTE_HOLDINGS);
    return crossing->shared->holdings;
}

void crossing_note_as(struct crossing *crossing, const struct acts_holdings *holdings)
{
    crossing->shared->holdings = *holdings;
}

uint64_t crossing_own_bytes(const struct crossing *crossing)
{
    return crossing->shared->own_bytes;
}

bool crossing_holdings_came_back(struct crossing *crossing)
{
    ask(crossing, COMPARE_HOLDINGS);
    return crossing->shared->is_well;
}

void crossing_echo(struct crossing *crossing)
{
    ask(crossing, ECHO);
    assert_true(crossing->shared->is_well);
}

void crossing_restart(struct crossing *crossing)
{
    acts_turn_to(&crossing->shared->death, crossing->lives++);
    assert_true(acts_turn_await(&crossing->shared->born, crossing->lives));
}

const struct acts_blob *crossing_metadata(const struct crossing *crossing)
{
    return &crossing->shared->metadata;
}

uint64_t crossing_region(const struct crossing *crossing)
{
    return crossing->shared->id;
}

/* --- the hosts --- */

static void skip_without(enum lend_status status, const struct lend_error *error,
                         struct hosts *hosts)
{
    if (status == LEND_E_ACCESS || status == LEND_E_ABSENT || status == LEND_E_UNSUPPORTED) {
        print_message("skipped: %s\n", error->message);
        hosts_close(hosts);
        skip();
    }
    must_be_well(status, error);
}

void crossing_open(struct crossing *crossing, const struct impairment *impairment, uint32_t flags)
{
    struct lend_error error = {0};
    enum lend_status status;

    if ((flags & CROSSING_SECRET) != 0 && LEND_TEST_SECRET_PLUGIN[0] == '\0') {
        print_message("skipped: libsodium was not there to build the plugin\n");
        skip();
    }
    *crossing = (struct crossing){0};
    status = impairment == NULL ? hosts_open(&crossing->hosts, &error)
                                : hosts_open_apart(&crossing->hosts, &error);
    skip_without(status, &error, &crossing->hosts);
    if (impairment != NULL)
        skip_without(link_open(&crossing->link, &crossing->hosts, impairment, &error), &error,
                     &crossing->hosts);

    crossing->theirs = (struct acts_region){.memory = acts_shared(CROSSING_BYTES),
                                            .block_bytes = CROSSING_BLOCK,
                                            .count = CROSSING_BLOCKS};
    crossing->shared = acts_shared(sizeof *crossing->shared);
    crossing->shared->directory = acts_directory_make();
    crossing->shared->hosts = crossing->hosts;
    crossing->shared->flags = flags;
    crossing->shared->memory = crossing->theirs.memory;
    crossing->lives = 1;
    crossing->keeper = acts_spawn(keep, crossing->shared);
    assert_true(acts_turn_await(&crossing->shared->born, 1));
}

void crossing_close(struct crossing *crossing)
{
    struct lend_error error = {0};

    assert_int_equal(kill(crossing->keeper, SIGKILL), 0); /* and the owner dies with it */
    assert_int_equal(waitpid(crossing->keeper, NULL, 0), crossing->keeper);
    must_be_well(hosts_leave(&crossing->hosts, &error), &error);
    link_close(&crossing->link);
    hosts_close(&crossing->hosts);
    acts_directory_empty(&crossing->shared->directory); /* of the pages of the dead */
    assert_true(acts_directory_remove(&crossing->shared->directory));
    acts_unshare(crossing->theirs.memory, CROSSING_BYTES);
    acts_unshare(crossing->shared, sizeof *crossing->shared);
}

static void go_to_reader(struct crossing *crossing)
{
    struct lend_error error = {0};

    must_be_well(hosts_enter(&crossing->hosts, READER, &error), &error);
}

void crossing_unplug(struct crossing *crossing)
{
    struct lend_error error = {0};

    must_be_well(hosts_unplug(&crossing->hosts, &error), &error);
    go_to_reader(crossing);
}

void crossing_plug(struct crossing *crossing)
{
    struct lend_error error = {0};

    must_be_well(hosts_plug(&crossing->hosts, OWNER, &error), &error);
    go_to_reader(crossing);
}

/* --- the reader --- */

struct lend_agent_config crossing_config(struct crossing *crossing, const char *name)
{
    go_to_reader(crossing);
    return config_on(READER, name, crossing->shared);
}

void crossing_begin(struct crossing *crossing)
{
    struct lend_agent_config config = crossing_config(crossing, "reader");
    struct lend_error error = {0};

    config.peers_max = 64; /* so that one that is kept by mistake is missed soon */
    must_be_well(lend_agent_create(&config, &crossing->agent, &error), &error);
    crossing->ours = (struct acts_region){.memory = acts_shared(CROSSING_BYTES),
                                          .block_bytes = CROSSING_BLOCK,
                                          .count = CROSSING_BLOCKS};
    assert_true(acts_register(crossing->agent, &crossing->ours, 0));
}

void crossing_meet(struct crossing *crossing)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};

    assert_true(acts_import(crossing->agent, &crossing->shared->metadata, &crossing->peer));
    desc.peer = crossing->peer;
    desc.region_count = 1;
    desc.local_regions = &crossing->ours.region;
    desc.remote_regions = &crossing->shared->id;
    desc.block_count_max = CROSSING_BLOCKS;
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
        desc.direction = direction;
        must_be_well(lend_transfer_prepare(crossing->agent, &desc,
                                           &crossing->transfers[direction - 1], &error),
                     &error);
    }
}

void crossing_part(struct crossing *crossing)
{
    for (uint32_t index = 0; index < 2; index++)
        assert_int_equal(lend_transfer_release(crossing->transfers[index]), LEND_OK);
    lend_peer_forget(crossing->peer);
}

void crossing_end(struct crossing *crossing)
{
    lend_agent_destroy(crossing->agent);
    acts_unshare(crossing->ours.memory, CROSSING_BYTES);
}
