/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an idle agent costs less than 300 KiB, and no processor time.
 * Method: 100 agents, and what the kernel says of this process before and after them (Private_Dirty
 * of smaps_rollup); then, for a second, how often any of their threads was scheduled and how long
 * they ran. The same for pairs that are connected and have moved blocks, for which a thread waited,
 * or polled without a pause.
 */
#include "acts.h"
#include "sanitizer.h"

#include <dirent.h>
#include <poll.h>

enum { AGENTS = 100, PAIRS = 20, BLOCK = 4096, KIB_MAX = 300, POLLED_READS = 100 };

static uint64_t number_behind(const char *path, const char *label)
{
    FILE *file = fopen(path, "re");
    char line[256];
    uint64_t number = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, label, strlen(label)) == 0)
            number = strtoull(line + strlen(label), NULL, 10);
    if (file != NULL)
        (void)fclose(file);
    return number;
}

/* What the agents' threads did so far. */
struct activity {
    uint64_t switches;
    uint64_t run_ns;
    uint32_t threads;
};

/* Sanitizers have threads of their own, which are no business of ours. */
static bool is_an_agents(const char *thread)
{
    char path[300], name[32] = "";
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", thread);
    file = fopen(path, "re");
    if (file != NULL && fgets(name, sizeof name, file) == NULL)
        name[0] = '\0';
    if (file != NULL)
        (void)fclose(file);
    return strncmp(name, "lend", 4) == 0;
}

static void add_thread(struct activity *activity, const char *thread)
{
    char path[300];
    FILE *file;
    unsigned long long run_ns = 0;

    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    activity->switches += number_behind(path, "voluntary_ctxt_switches:");
    activity->switches += number_behind(path, "nonvoluntary_ctxt_switches:");
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", thread);
    file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &run_ns) == 1)
            activity->run_ns += run_ns;
        (void)fclose(file);
    }
    activity->threads++;
}

static struct activity activity_now(void)
{
    struct activity activity = {0};
    DIR *directory = opendir("/proc/self/task");
    struct dirent *entry;

    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.' && is_an_agents(entry->d_name))
            add_thread(&activity, entry->d_name);
    (void)closedir(directory);
    return activity;
}

/* The second itself is what is measured: there is nothing else to wait for. */
static void let_a_second_pass(void)
{
    (void)poll(NULL, 0, 1000);
}

static void expect_idle(uint32_t agents)
{
    struct activity before, after;
    uint32_t tries = 0;

    /* Starting, and spinning after the last work, is over at some time; then it must stay so. */
    do {
        before = activity_now();
        let_a_second_pass();
        after = activity_now();
    } while (after.switches != before.switches && ++tries < 3);
    print_message("%u agents, %u threads: switched %llu times and ran %llu ns in a second\n",
                  agents, after.threads, (unsigned long long)(after.switches - before.switches),
                  (unsigned long long)(after.run_ns - before.run_ns));
    assert_int_equal(after.switches, before.switches);
    assert_int_equal(after.run_ns, before.run_ns);
    assert_true(after.threads == agents);
}

static struct lend_agent *make_agent(uint32_t number, const struct acts_directory *directory)
{
    struct lend_agent_config config;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};
    char name[32];

    (void)snprintf(name, sizeof name, "idle-%u", number);
    config = acts_config(name, directory);
    config.transports = NULL; /* all that there are */
    assert_true(acts_ok(lend_agent_create(&config, &agent, &error), &error, name));
    return agent;
}

static bool is_instrumented(void)
{
    return UNDER_ASAN || UNDER_TSAN;
}

static void test_idle_agent_is_small_and_asleep(void **state)
{
    struct acts_directory directory = acts_directory_make();
    struct lend_agent *agents[AGENTS + 1];
    uint64_t before, after;

    (void)state;
    agents[AGENTS] = make_agent(AGENTS, &directory); /* what all of them share is not theirs */
    before = number_behind("/proc/self/smaps_rollup", "Private_Dirty:");
    for (uint32_t index = 0; index < AGENTS; index++)
        agents[index] = make_agent(index, &directory);
    after = number_behind("/proc/self/smaps_rollup", "Private_Dirty:");
    print_message("%.1f KiB an agent\n", (double)(after - before) / AGENTS);
    assert_true(before > 0 && after > before);
    if (!is_instrumented())
        assert_true(after - before < (uint64_t)KIB_MAX * AGENTS);
    expect_idle(AGENTS + 1);
    for (uint32_t index = 0; index <= AGENTS; index++)
        lend_agent_destroy(agents[index]);
    assert_true(acts_directory_remove(&directory));
}

static void read_once(struct lend_transfer *transfer, const struct lend_post_desc *post, bool polls)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_PENDING;

    assert_true(acts_ok(lend_transfer_post(transfer, post, &error), &error, "post"));
    while (polls && status == LEND_PENDING)
        status = lend_transfer_test(transfer);
    if (!polls)
        status = lend_transfer_wait(transfer, ACTS_PATIENCE_NS);
    assert_int_equal(status, LEND_OK);
}

static void move(struct lend_agent *owner, struct lend_agent *reader, uint32_t reads, bool polls)
{
    struct acts_region lent = {.memory = acts_shared(BLOCK), .block_bytes = BLOCK, .count = 1};
    struct acts_region kept = {.memory = acts_shared(BLOCK), .block_bytes = BLOCK, .count = 1};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_lease *lease = NULL;
    struct acts_blob metadata, ticket;
    struct lend_error error = {0};
    static const int32_t zero = 0;

    assert_true(acts_register(owner, &lent, LEND_ACCESS_READ) && acts_register(reader, &kept, 0));
    assert_true(acts_grant(owner, &lent, LEND_ACCESS_READ, &lease, &ticket));
    assert_true(acts_metadata(owner, &metadata) && acts_import(reader, &metadata, &desc.peer));
    assert_true(
        acts_ok(lend_ticket_import(desc.peer, ticket.bytes, ticket.count, &post.ticket, &error),
                &error, "import of a ticket"));
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &kept.region;
    desc.remote_regions = &lent.id;
    desc.block_count_max = 1;
    assert_true(
        acts_ok(lend_transfer_prepare(reader, &desc, &transfer, &error), &error, "prepare"));
    post.local_blocks = post.remote_blocks = &zero;
    post.block_count = 1;
    for (uint32_t i = 0; i < reads; i++)
        read_once(transfer, &post, polls);
}

static void expect_idle_pairs(uint32_t reads, bool polls)
{
    struct acts_directory directory = acts_directory_make();
    struct lend_agent *agents[PAIRS * 2];

    for (uint32_t index = 0; index < PAIRS * 2; index++)
        agents[index] = make_agent(index, &directory);
    for (uint32_t pair = 0; pair < PAIRS; pair++)
        move(agents[2 * pair], agents[2 * pair + 1], reads, polls);
    expect_idle(PAIRS * 2);
    for (uint32_t index = 0; index < PAIRS * 2; index++)
        lend_agent_destroy(agents[index]);
    assert_true(acts_directory_remove(&directory));
}

static void test_connected_agents_are_asleep_too(void **state)
{
    (void)state;
    expect_idle_pairs(1, false);
}

static void test_agents_whose_transfers_were_polled_are_asleep_too(void **state)
{
    (void)state;
    expect_idle_pairs(POLLED_READS, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_agent_is_small_and_asleep),
        cmocka_unit_test(test_connected_agents_are_asleep_too),
        cmocka_unit_test(test_agents_whose_transfers_were_polled_are_asleep_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
