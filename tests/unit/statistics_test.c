/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the statistics page says who holds what, what was moved and for whom; it is for its owner
 * alone, ends with its agent, tells a killed agent's from a live one's, and costs an agent that
 * cannot have one nothing. Method: agents over the loopback transport in a folder of the test's
 * own, whose pages are mapped by name as a watcher does it.
 */
#include <lend/lend.h>
#include <lend/statistics.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BLOCKS = 16, BLOCK_BYTES = 4096, LEASES = LEND_STATISTICS_LEASES + 44, ROUNDS = 3000 };

#define SECOND UINT64_C(1000000000)

static uint8_t lent_memory[BLOCKS * BLOCK_BYTES], kept_memory[BLOCKS * BLOCK_BYTES];

struct world {
    char directory[64];
    char told[512]; /* of the log at LEND_LOG_INFO */
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    (void)snprintf(world->directory, sizeof world->directory, "/tmp/lend-statistics-XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    int result = rmdir(world->directory); /* nothing is left in it */

    free(world);
    return result;
}

static void keep_log(void *context, int32_t level, const char *text)
{
    struct world *world = context;

    if (level == LEND_LOG_INFO)
        (void)snprintf(world->told, sizeof world->told, "%s", text);
}

static struct lend_agent_config config_of(struct world *world, const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = "loopback";
    config.local_directory = world->directory;
    config.on_log = keep_log;
    config.context = world;
    return config;
}

static struct lend_agent *make_with(const struct lend_agent_config *config)
{
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    if (lend_agent_create(config, &agent, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return agent;
}

static struct lend_agent *make(struct world *world, const char *name)
{
    const struct lend_agent_config config = config_of(world, name);

    return make_with(&config);
}

/* The one page whose name begins so, in path; false: there is none. */
static bool find(const struct world *world, const char *name, char *path, size_t capacity)
{
    DIR *folder = opendir(world->directory);
    struct dirent *entry;
    bool found = false;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        if (strncmp(entry->d_name, name, strlen(name)) == 0 &&
            strstr(entry->d_name, ".stats") != NULL) {
            assert_false(found);
            found = true;
            (void)snprintf(path, capacity, "%s/%.200s", world->directory, entry->d_name);
        }
    (void)closedir(folder);
    return found;
}

static const struct lend_statistics *map_page(const struct world *world, const char *name)
{
    char path[300];

    assert_true(find(world, name, path, sizeof path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    void *page = mmap(NULL, sizeof(struct lend_statistics), PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    (void)close(fd);
    return page;
}

static void unmap_page(const struct lend_statistics *page)
{
    assert_int_equal(munmap((void *)(uintptr_t)page, sizeof *page), 0);
}

/* As a watcher does: is an agent there that holds the lock? */
static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    int result = flock(fd, LOCK_SH | LOCK_NB);
    bool is_held = result != 0 && errno == EWOULDBLOCK;
    (void)close(fd);
    return is_held;
}

static struct lend_region *lend_memory(struct lend_agent *agent, const char *name, uint8_t *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_memory_system(memory, BLOCKS * BLOCK_BYTES, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.name = name;
    if (lend_region_register(agent, &desc, 1, &region, NULL, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return region;
}

static struct lend_lease *grant(struct lend_agent *agent, struct lend_region *region,
                                uint64_t blocks, uint64_t time_to_live_ns)
{
    const struct lend_block_set set = {.regions = &region, .region_count = 1, .count = blocks};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.time_to_live_ns = time_to_live_ns;
    if (lend_lease_grant(agent, &desc, &lease, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return lease;
}

/* The row of that lease; NULL: it has none. */
static const struct lend_statistics_lease *row_of(const struct lend_statistics *page,
                                                  const struct lend_lease *lease)
{
    struct lend_lease_info info = {.struct_size = sizeof info};

    assert_int_equal(lend_lease_describe(lease, &info, NULL), LEND_OK);
    for (size_t i = 0; i < LEND_STATISTICS_LEASES; i++)
        if (page->lease_rows[i].id == info.id)
            return &page->lease_rows[i];
    return NULL;
}

/* --- whose it is --- */

static void test_a_page_says_whose_it_is_and_is_for_its_owner_alone(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "engine 0/é");
    uint8_t id[LEND_INCARNATION_BYTES];
    char path[300], expected[128];
    struct stat found;

    assert_true(find(world, "engine_0_", path, sizeof path));
    lend_agent_incarnation(agent, id);
    (void)snprintf(expected, sizeof expected, "/engine_0___-%02x%02x%02x%02x.stats", id[0], id[1],
                   id[2], id[3]);
    assert_string_equal(path + strlen(world->directory), expected);
    assert_int_equal(lstat(path, &found), 0);
    assert_int_equal(found.st_mode, S_IFREG | 0600);
    assert_int_equal(found.st_size, sizeof(struct lend_statistics));
    /* All of it is there already, so that no store finds the disk full. */
    assert_true((uint64_t)found.st_blocks * 512 >= sizeof(struct lend_statistics));
    assert_true(is_locked(path));

    const struct lend_statistics *page = map_page(world, "engine_0_");
    assert_true(page->magic == LEND_STATISTICS_MAGIC);
    assert_memory_equal(&page->magic, "LENDSTAT", 8);
    assert_int_equal(page->version, LEND_STATISTICS_VERSION);
    assert_int_equal(page->bytes, sizeof *page);
    assert_int_equal(page->pid, getpid());
    assert_string_equal(page->name, "engine 0/é");
    assert_memory_equal(page->incarnation, id, sizeof id);
    assert_string_equal(page->library_version, lend_version());
    assert_true(page->started_ns > 0);
    lend_agent_destroy(agent);
    assert_int_equal(lstat(path, &found), -1);
    unmap_page(page);
}

static void test_an_agent_that_wants_no_page_has_none(void **state)
{
    struct world *world = *state;
    struct lend_agent_config config = config_of(world, "quiet");
    char path[300];

    config.flags = LEND_AGENT_NO_STATISTICS;
    struct lend_agent *agent = make_with(&config);
    assert_false(find(world, "quiet", path, sizeof path));
    struct lend_lease *lease = grant(agent, lend_memory(agent, "k", lent_memory), 4, SECOND);
    assert_int_equal(lend_lease_revoke(lease, NULL), LEND_OK);
    assert_string_equal(world->told, "");
    lend_agent_destroy(agent);
}

static void test_an_agent_that_cannot_have_a_page_says_why_and_works(void **state)
{
    static const char *const directories[] = {"/tmp/there is no such folder", "tmp", "/proc"};
    struct world *world = *state;

    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        struct lend_agent_config config = config_of(world, "poor");

        world->told[0] = '\0';
        config.local_directory = directories[i];
        struct lend_agent *agent = make_with(&config);
        struct lend_lease *lease = grant(agent, lend_memory(agent, "k", lent_memory), 4, SECOND);
        assert_int_equal(lend_lease_revoke(lease, NULL), LEND_OK);
        if (strstr(world->told, "no statistics page: ") == NULL ||
            strstr(world->told, directories[i]) == NULL)
            fail_msg("\"%s\" does not say why", world->told);
        lend_agent_destroy(agent);
    }
}

/* --- regions and leases --- */

static void test_regions_are_counted_until_they_are_gone(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "owner");
    const struct lend_statistics *page = map_page(world, "owner");
    struct lend_region *one = lend_memory(agent, "k", lent_memory);
    struct lend_region *other = lend_memory(agent, "v", kept_memory);

    assert_int_equal(page->regions, 2);
    assert_int_equal(page->region_bytes, sizeof lent_memory + sizeof kept_memory);
    assert_int_equal(lend_region_withdraw(one, LEND_WITHDRAW_DRAIN, 0, NULL), LEND_OK);
    assert_int_equal(lend_region_withdraw(one, LEND_WITHDRAW_DRAIN, 0, NULL), LEND_OK);
    assert_int_equal(page->regions_withdrawn, 1);
    assert_int_equal(lend_region_suspend(other, LEND_WITHDRAW_DRAIN, 0, NULL), LEND_OK);
    assert_int_equal(page->regions_withdrawn, 2);
    assert_int_equal(lend_region_resume(other, NULL, -1, 0, NULL), LEND_OK);
    assert_int_equal(page->regions_withdrawn, 1);
    assert_int_equal(page->region_bytes, sizeof lent_memory + sizeof kept_memory);
    assert_int_equal(lend_region_deregister(one, NULL), LEND_OK);
    assert_int_equal(page->regions_withdrawn, 0);
    assert_int_equal(lend_region_deregister(other, NULL), LEND_OK); /* without being asked back */
    assert_int_equal(page->regions_withdrawn, 0);
    assert_int_equal(page->regions, 0);
    assert_int_equal(page->region_bytes, 0);
    unmap_page(page);
    lend_agent_destroy(agent);
}

static void test_a_row_tells_a_lease_while_it_lives(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "owner");
    const struct lend_statistics *page = map_page(world, "owner");
    struct lend_lease *lease =
        grant(agent, lend_memory(agent, "layers.0.k", lent_memory), 5, 30 * SECOND);
    const struct lend_statistics_lease *row = row_of(page, lease);
    struct lend_lease_info info = {.struct_size = sizeof info};

    assert_non_null(row);
    assert_int_equal(lend_lease_describe(lease, &info, NULL), LEND_OK);
    assert_int_equal(row->sequence % 2, 0);
    assert_true(row->granted_ns == info.granted_ns && row->expires_ns == info.expires_ns);
    assert_int_equal(row->block_count, 5);
    assert_int_equal(row->region_count, 1);
    assert_int_equal(row->access, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    assert_string_equal(row->region, "layers.0.k");
    assert_string_equal(row->peer, "");
    assert_string_equal(row->last_user, "");

    assert_int_equal(lend_lease_renew(lease, 60 * SECOND, NULL), LEND_OK);
    assert_true(row->expires_ns >= info.expires_ns + 29 * SECOND);
    assert_int_equal(page->leases, 1);
    uint64_t sequence = row->sequence;
    assert_int_equal(lend_lease_revoke(lease, NULL), LEND_OK);
    assert_int_equal(row->id, 0);
    assert_int_equal(row->sequence, sequence + 2);
    assert_int_equal(page->leases, 0);
    assert_true(page->leases_granted == 1 && page->leases_revoked == 1);
    assert_int_equal(lend_lease_revoke(lease, NULL), LEND_OK); /* it ends once */
    assert_int_equal(page->leases_revoked, 1);
    unmap_page(page);
    lend_agent_destroy(agent);
}

static void test_a_lease_that_expires_is_told_as_such(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "owner");
    const struct lend_statistics *page = map_page(world, "owner");
    struct lend_lease *lease = grant(agent, lend_memory(agent, "k", lent_memory), 1, 1);

    assert_int_equal(lend_lease_renew(lease, SECOND, NULL), LEND_E_EXPIRED);
    assert_true(page->leases_expired == 1 && page->leases_revoked == 0 && page->leases == 0);
    assert_null(row_of(page, lease));
    unmap_page(page);
    lend_agent_destroy(agent);
}

static void test_leases_beyond_the_table_are_counted_as_omitted(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "owner");
    const struct lend_statistics *page = map_page(world, "owner");
    struct lend_region *region = lend_memory(agent, "k", lent_memory);
    static struct lend_lease *leases[LEASES];

    for (int i = 0; i < LEASES; i++)
        leases[i] = grant(agent, region, 1, 60 * SECOND);
    assert_int_equal(page->leases, LEASES);
    assert_int_equal(page->leases_omitted, LEASES - LEND_STATISTICS_LEASES);
    assert_non_null(row_of(page, leases[LEND_STATISTICS_LEASES - 1]));
    assert_null(row_of(page, leases[LEND_STATISTICS_LEASES]));

    /* One that has a row makes place for the next; one that has none leaves the count. */
    assert_int_equal(lend_lease_revoke(leases[7], NULL), LEND_OK);
    assert_int_equal(page->leases_omitted, LEASES - LEND_STATISTICS_LEASES);
    assert_non_null(row_of(page, grant(agent, region, 1, 60 * SECOND)));
    assert_int_equal(lend_lease_revoke(leases[LEASES - 1], NULL), LEND_OK);
    assert_int_equal(page->leases_omitted, LEASES - LEND_STATISTICS_LEASES - 1);
    assert_int_equal(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, SECOND, NULL), LEND_OK);
    assert_true(page->leases == 0 && page->leases_omitted == 0);
    assert_int_equal(page->leases_revoked, LEASES + 1);
    for (size_t i = 0; i < LEND_STATISTICS_LEASES; i++)
        assert_true(page->lease_rows[i].id == 0 && page->lease_rows[i].sequence % 2 == 0);
    unmap_page(page);
    lend_agent_destroy(agent);
}

/* --- a watcher that reads while rows are written --- */

struct watch {
    const struct lend_statistics *page;
    atomic_bool is_over;
    uint64_t seen;
    uint64_t mixed;
};

/* The first row, copied as <lend/statistics.h> says; false: it was being written. */
static bool copy_row(const struct lend_statistics_lease *row, struct lend_statistics_lease *out)
{
    const uint64_t *from = (const uint64_t *)(const void *)row;
    uint64_t words[sizeof *row / 8];
    uint64_t before = __atomic_load_n(&row->sequence, __ATOMIC_ACQUIRE);

    for (size_t i = 0; i < sizeof words / 8; i++)
        words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_acquire);
    memcpy(out, words, sizeof words);
    return before % 2 == 0 && __atomic_load_n(&row->sequence, __ATOMIC_RELAXED) == before;
}

static void *watch_rows(void *context)
{
    struct watch *watch = context;

    while (!atomic_load(&watch->is_over)) {
        struct lend_statistics_lease row;

        if (!copy_row(&watch->page->lease_rows[0], &row) || row.id == 0)
            continue;
        watch->seen++;
        /* Leases on "few" have 3 blocks, those on "many" 9. */
        watch->mixed += strcmp(row.region, row.block_count == 3 ? "few" : "many") != 0;
    }
    return NULL;
}

static void test_a_row_that_its_sequence_vouches_for_is_of_one_lease(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "owner");
    struct watch watch = {.page = map_page(world, "owner")};
    struct lend_region *few = lend_memory(agent, "few", lent_memory);
    struct lend_region *many = lend_memory(agent, "many", kept_memory);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, watch_rows, &watch), 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct lend_lease *lease =
            i % 2 == 0 ? grant(agent, few, 3, SECOND) : grant(agent, many, 9, SECOND);

        assert_int_equal(lend_lease_revoke(lease, NULL), LEND_OK);
        lend_lease_release(lease);
        if (i % 100 == 0)
            (void)sched_yield();
    }
    atomic_store(&watch.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%llu rows were seen\n", (unsigned long long)watch.seen);
    assert_int_equal(watch.mixed, 0);
    unmap_page(watch.page);
    lend_agent_destroy(agent);
}

/* --- what moves --- */

static struct lend_ticket *import_all(struct lend_agent *owner, struct lend_agent *reader,
                                      const struct lend_lease *lease, struct lend_peer **out_peer)
{
    uint8_t metadata[4096], ticket[256];
    size_t metadata_bytes = 0, ticket_bytes = 0;
    struct lend_ticket *made = NULL;

    assert_int_equal(lend_metadata_export(owner, metadata, sizeof metadata, &metadata_bytes, NULL),
                     LEND_OK);
    assert_int_equal(lend_ticket_export(lease, ticket, sizeof ticket, &ticket_bytes, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_import(reader, metadata, metadata_bytes, out_peer, NULL), LEND_OK);
    assert_int_equal(lend_ticket_import(*out_peer, ticket, ticket_bytes, &made, NULL), LEND_OK);
    return made;
}

static enum lend_status move(struct lend_agent *reader, struct lend_peer *peer,
                             struct lend_ticket *ticket, struct lend_region *kept, uint64_t remote,
                             uint32_t direction, int32_t first)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    const int32_t blocks[] = {first, first + 1};
    struct lend_transfer *transfer = NULL;

    desc.direction = direction;
    desc.peer = peer;
    desc.region_count = 1;
    desc.local_regions = &kept;
    desc.remote_regions = &remote;
    desc.block_count_max = 2;
    assert_int_equal(lend_transfer_prepare(reader, &desc, &transfer, NULL), LEND_OK);
    post.ticket = ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = 2;
    post.notification = "done";
    post.notification_bytes = 4;
    assert_int_equal(lend_transfer_post(transfer, &post, NULL), LEND_OK);
    enum lend_status status = lend_transfer_wait(transfer, 10 * SECOND);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    return status;
}

static void expect_served(const struct lend_statistics *page, const struct lend_lease *lease)
{
    const struct lend_statistics_lease *row = row_of(page, lease);
    const struct lend_statistics_peer *peer = &page->peer_rows[0];

    assert_true(page->requests_served == 2 && page->requests_refused == 1);
    assert_int_equal(page->bytes_served_read, 2 * BLOCK_BYTES);
    assert_int_equal(page->bytes_served_written, 2 * BLOCK_BYTES);
    assert_true(page->peers_served == 1 && page->peers_omitted == 0);
    assert_true(peer->id != 0 && peer->connected_ns > 0 && peer->sequence % 2 == 0);
    assert_string_equal(peer->name, "reader");
    assert_true(peer->requests == 2 && peer->requests_active == 0);
    assert_int_equal(peer->bytes_read, 2 * BLOCK_BYTES);
    assert_int_equal(peer->bytes_written, 2 * BLOCK_BYTES);
    assert_non_null(row);
    assert_int_equal(row->requests, 3); /* the one that was refused asked too */
    assert_int_equal(row->bytes, 4 * BLOCK_BYTES);
    assert_string_equal(row->last_user, "reader");
}

static void expect_moved(const struct lend_statistics *page)
{
    const struct lend_statistics_path *path = &page->paths[0];

    assert_string_equal(path->name, "loopback");
    assert_true(path->transfers == 2 && path->transfers_failed == 1);
    assert_int_equal(path->bytes_read, 2 * BLOCK_BYTES);
    assert_int_equal(path->bytes_written, 2 * BLOCK_BYTES);
    assert_string_equal(page->paths[1].name, "");
    assert_true(page->peers_imported == 1 && page->transfers_prepared == 0);
    assert_int_equal(page->notifications_sent, 2);
}

static void test_what_moves_is_told_at_both_ends(void **state)
{
    struct world *world = *state;
    struct lend_agent *owner = make(world, "owner"), *reader = make(world, "reader");
    const struct lend_statistics *of_owner = map_page(world, "owner");
    const struct lend_statistics *of_reader = map_page(world, "reader");
    struct lend_region *lent = lend_memory(owner, "k", lent_memory);
    struct lend_region *kept = lend_memory(reader, "mine", kept_memory);
    struct lend_lease *lease = grant(owner, lent, 8, 60 * SECOND);
    struct lend_peer *peer = NULL;
    struct lend_ticket *ticket = import_all(owner, reader, lease, &peer);
    uint64_t id = lend_region_id(lent);
    char bytes[16];
    size_t count = 0;

    assert_int_equal(move(reader, peer, ticket, kept, id, LEND_READ, 0), LEND_OK);
    assert_int_equal(move(reader, peer, ticket, kept, id, LEND_WRITE, 4), LEND_OK);
    assert_int_equal(move(reader, peer, ticket, kept, id, LEND_READ, 7), LEND_E_OUT_OF_RANGE);
    expect_served(of_owner, lease);
    expect_moved(of_reader);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            lend_notification_receive(owner, bytes, sizeof bytes, &count, NULL, 10 * SECOND, NULL),
            LEND_OK);
    assert_true(of_owner->notifications_received == 2 && of_owner->notifications_waiting == 0);

    lend_peer_forget(peer);
    assert_int_equal(of_reader->peers_imported, 0);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
    assert_true(of_owner->leases == 0 && of_owner->peers_served == 0);
    assert_int_equal(of_owner->peer_rows[0].id, 0);
    assert_int_equal(of_owner->sessions_broken, 0);
    unmap_page(of_owner);
    unmap_page(of_reader);
}

/* --- ends --- */

static void test_a_killed_agents_page_can_be_locked(void **state)
{
    struct world *world = *state;
    char path[300], byte;
    int pipes[2];

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct lend_agent_config config = config_of(world, "victim");
        struct lend_agent *agent = NULL;

        if (lend_agent_create(&config, &agent, NULL) != LEND_OK || write(pipes[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_true(find(world, "victim", path, sizeof path));
    assert_true(is_locked(path));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_false(is_locked(path));
    assert_int_equal(unlink(path), 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

static void test_a_forked_child_leaves_the_page_as_it_is(void **state)
{
    struct world *world = *state;
    struct lend_agent *agent = make(world, "parent");
    const struct lend_statistics *page = map_page(world, "parent");
    static struct lend_statistics before;
    char path[300];
    int status;

    (void)grant(agent, lend_memory(agent, "k", lent_memory), 4, 60 * SECOND);
    memcpy(&before, page, sizeof before);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lend_agent_destroy(agent);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(find(world, "parent", path, sizeof path));
    assert_true(is_locked(path));
    assert_memory_equal(&before, page, sizeof before);
    unmap_page(page);
    lend_agent_destroy(agent);
    assert_false(find(world, "parent", path, sizeof path));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_page_says_whose_it_is_and_is_for_its_owner_alone),
        TEST(test_an_agent_that_wants_no_page_has_none),
        TEST(test_an_agent_that_cannot_have_a_page_says_why_and_works),
        TEST(test_regions_are_counted_until_they_are_gone),
        TEST(test_a_row_tells_a_lease_while_it_lives),
        TEST(test_a_lease_that_expires_is_told_as_such),
        TEST(test_leases_beyond_the_table_are_counted_as_omitted),
        TEST(test_a_row_that_its_sequence_vouches_for_is_of_one_lease),
        TEST(test_what_moves_is_told_at_both_ends),
        TEST(test_a_killed_agents_page_can_be_locked),
        TEST(test_a_forked_child_leaves_the_page_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
