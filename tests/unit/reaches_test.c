/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a peer is reached by the next of its transports where a better one leads nowhere, at once
 * or only when somebody else answers; what waited goes with it; the failure of all names each; and
 * explain says which is used, and why the better one is not.
 * Method: agents of one process under manual progress, with transports loopback and local, stepped
 * in turn. The metadata is the owner's own, but for an address in it that is that of nobody, or of
 * a stranger.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "base/sys.h"
#include "wire/metadata.h"

#define SECOND UINT64_C(1000000000)

enum { BYTES = 1 << 16, STEPS_MAX = 1 << 20 };

struct world {
    struct lend_agent *owner, *reader, *stranger;
    struct lend_region *lent, *kept;
    struct lend_peer *peer;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    char directory[32];
    uint8_t *from, *to;
};

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static struct lend_agent *make_agent(struct world *world, const char *name, const char *transports)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = transports;
    config.local_directory = world->directory;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    config.connect_timeout_ns = 60 * SECOND;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *make_region(struct lend_agent *agent, uint8_t *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_system(memory, BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BYTES;
    desc.geometry.count = 1;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static struct world *open_world(void)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    (void)snprintf(world->directory, sizeof world->directory, "/tmp/lend-reaches-XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    world->owner = make_agent(world, "owner", "loopback,local");
    world->reader = make_agent(world, "reader", "loopback,local");
    world->stranger = make_agent(world, "stranger", "loopback");
    assert_non_null(world->from = malloc(BYTES));
    assert_non_null(world->to = calloc(1, BYTES));
    memset(world->from, 'x', BYTES);
    world->lent = make_region(world->owner, world->from);
    world->kept = make_region(world->reader, world->to);
    return world;
}

static void close_world(struct world *world)
{
    if (world->transfer != NULL)
        assert_int_equal(lend_transfer_release(world->transfer), LEND_OK);
    lend_ticket_release(world->ticket);
    lend_lease_release(world->lease);
    lend_peer_forget(world->peer);
    lend_agent_destroy(world->reader);
    lend_agent_destroy(world->stranger);
    lend_agent_destroy(world->owner);
    assert_int_equal(rmdir(world->directory), 0);
    free(world->from);
    free(world->to);
    free(world);
}

static void step(struct world *world)
{
    (void)lend_agent_progress(world->owner, 0, NULL);
    (void)lend_agent_progress(world->stranger, 0, NULL);
    (void)lend_agent_progress(world->reader, 0, NULL);
}

static struct lend_metadata *tell(struct lend_agent *agent)
{
    struct lend_metadata *metadata = NULL;
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t count = 0;

    check(lend_metadata_export(agent, bytes, sizeof bytes, &count, &error), &error);
    check(lend_metadata_decode(bytes, count, &metadata, &error), &error);
    return metadata;
}

static struct lend_metadata_transport *transport_of(struct lend_metadata *metadata,
                                                    const char *name)
{
    for (uint32_t i = 0; i < metadata->transport_count; i++)
        if (strcmp(metadata->transports[i].name, name) == 0)
            return &metadata->transports[i];
    fail_msg("no transport %s", name);
    return NULL;
}

/* Whose loopback address the reader is given for the owner's: nobody's, or the stranger's. */
enum false_address { NONE, NOBODY, STRANGER };

static void import(struct world *world, enum false_address loopback, bool is_local_gone)
{
    struct lend_metadata *owner = tell(world->owner), *stranger = tell(world->stranger);
    struct lend_metadata_transport *address = transport_of(owner, "loopback");
    struct lend_error error = {0};
    uint8_t bytes[4096];

    if (loopback == STRANGER)
        *address = *transport_of(stranger, "loopback");
    if (loopback == NOBODY)
        address->address[1] ^= 1; /* of the incarnation that it names */
    if (is_local_gone) {
        address = transport_of(owner, "local");
        address->address[address->address_bytes - 1] ^= 1;
    }
    size_t count = lend_metadata_encode(owner, bytes, sizeof bytes);
    assert_true(count <= sizeof bytes);
    check(lend_peer_import(world->reader, bytes, count, &world->peer, &error), &error);
    lend_sys->release(owner);
    lend_sys->release(stranger);
}

static void expect_transport(struct world *world, const char *name)
{
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    check(lend_peer_describe(world->peer, &info, &error), &error);
    assert_string_equal(info.transport, name);
}

static enum lend_status reach_out(struct world *world, struct lend_error *error)
{
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; i < STEPS_MAX && status == LEND_E_TIMEOUT; i++) {
        (void)lend_agent_progress(world->owner, 0, NULL);
        (void)lend_agent_progress(world->stranger, 0, NULL);
        status = lend_peer_connect(world->peer, 0, error); /* the reader's progress is within */
    }
    return status;
}

static void prepare(struct world *world, const char *paths)
{
    struct lend_grant_desc lease = LEND_GRANT_DESC_INIT;
    struct lend_block_set set = {.regions = &world->lent, .region_count = 1};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    uint64_t id = lend_region_id(world->lent);
    struct lend_error error = {0};
    uint8_t bytes[256];
    size_t count = 0;

    lease.sets = &set;
    lease.set_count = 1;
    lease.access = LEND_ACCESS_READ;
    lease.time_to_live_ns = 600 * SECOND;
    check(lend_lease_grant(world->owner, &lease, &world->lease, &error), &error);
    check(lend_ticket_export(world->lease, bytes, sizeof bytes, &count, &error), &error);
    check(lend_ticket_import(world->peer, bytes, count, &world->ticket, &error), &error);
    desc.direction = LEND_READ;
    desc.peer = world->peer;
    desc.region_count = 1;
    desc.local_regions = &world->kept;
    desc.remote_regions = &id;
    desc.block_count_max = 1;
    desc.paths = paths;
    check(lend_transfer_prepare(world->reader, &desc, &world->transfer, &error), &error);
}

static enum lend_status read_block(struct world *world)
{
    static const int32_t block = 0;
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    enum lend_status status = LEND_PENDING;
    struct lend_error error = {0};

    desc.ticket = world->ticket;
    desc.local_blocks = &block;
    desc.remote_blocks = &block;
    desc.block_count = 1;
    desc.timeout_ns = 600 * SECOND;
    desc.notification = "done";
    desc.notification_bytes = 4;
    check(lend_transfer_post(world->transfer, &desc, &error), &error);
    for (int i = 0; i < STEPS_MAX && status == LEND_PENDING; i++) {
        step(world);
        status = lend_transfer_test(world->transfer);
    }
    return status;
}

static void expect_read(struct world *world, const char *transport)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_notification_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};
    char bytes[16];
    size_t count = 0;

    assert_int_equal(read_block(world), LEND_OK);
    assert_memory_equal(world->to, world->from, BYTES);
    assert_int_equal(lend_transfer_describe(world->transfer, &record, NULL), LEND_OK);
    assert_memory_equal(record.path, transport, strlen(transport));
    enum lend_status status = LEND_PENDING;
    for (int i = 0; i < STEPS_MAX && status != LEND_OK; i++) {
        step(world);
        status =
            lend_notification_receive(world->owner, bytes, sizeof bytes, &count, &info, 0, &error);
    }
    check(status, &error);
    assert_memory_equal(bytes, "done", 4);
}

static void expect_explained(struct world *world, const char *used, const char *why_not)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    struct lend_error error = {0};
    uint32_t count = 0;
    bool is_told = why_not == NULL, is_chosen = false;

    check(lend_explain(world->peer, world->kept, lend_region_id(world->lent), LEND_READ, infos,
                       LEND_PATHS_MAX, &count, &error),
          &error);
    assert_int_equal(count, 4); /* loopback, and three of local */
    for (uint32_t i = 0; i < count; i++) {
        assert_true(infos[i].status == LEND_OK || infos[i].why[0] != '\0');
        if (infos[i].is_chosen) {
            assert_false(is_chosen);
            assert_true(is_told); /* the better ones come first */
            assert_memory_equal(infos[i].name, used, strlen(used));
            is_chosen = true;
        } else if (why_not != NULL && strstr(infos[i].why, why_not) != NULL) {
            is_told = true;
        }
    }
    assert_true(is_chosen);
}

static void test_the_preferred_transport_is_used_where_it_leads_there(void **state)
{
    struct world *world = open_world();
    struct lend_error error = {0};

    (void)state;
    import(world, NONE, false);
    expect_transport(world, "loopback");
    check(reach_out(world, &error), &error);
    prepare(world, NULL);
    expect_read(world, "loopback");
    expect_transport(world, "loopback");
    expect_explained(world, "loopback", NULL);
    close_world(world);
}

static void test_the_next_is_used_where_nobody_is_there(void **state)
{
    struct world *world = open_world();
    struct lend_error error = {0};

    (void)state;
    import(world, NOBODY, false);
    check(reach_out(world, &error), &error);
    expect_transport(world, "local");
    expect_explained(world, "local/", "no agent");
    prepare(world, NULL);
    expect_read(world, "local/");
    close_world(world);
}

static void test_the_next_is_used_where_a_stranger_answers(void **state)
{
    struct world *world = open_world();
    struct lend_error error = {0};

    (void)state;
    import(world, STRANGER, false);
    check(reach_out(world, &error), &error);
    expect_transport(world, "local");
    expect_explained(world, "local/", "another incarnation");
    prepare(world, NULL);
    expect_read(world, "local/");
    close_world(world);
}

static void test_what_waits_goes_on_by_the_next(void **state)
{
    struct world *world = open_world();

    (void)state;
    import(world, STRANGER, false);
    prepare(world, "loopback,local/served");
    expect_read(world, "local/served"); /* posted before anybody has answered */
    expect_transport(world, "local");
    close_world(world);
}

static void test_what_allows_no_path_of_the_next_is_told_so(void **state)
{
    struct world *world = open_world();
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error why = {0};

    (void)state;
    import(world, STRANGER, false);
    prepare(world, "loopback");
    assert_int_equal(read_block(world), LEND_E_NO_PATH);
    assert_int_equal(lend_transfer_describe(world->transfer, &record, &why), LEND_OK);
    assert_non_null(strstr(why.message, "transport local"));
    close_world(world);
}

static void test_the_failure_of_all_names_each(void **state)
{
    static const enum false_address addresses[] = {NOBODY, STRANGER};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *world = open_world();
        struct lend_peer_info info = {.struct_size = sizeof info};
        struct lend_error error = {0};

        import(world, addresses[i], true);
        assert_int_equal(reach_out(world, &error), LEND_E_PEER_DEAD);
        assert_non_null(strstr(error.message, "loopback: "));
        assert_non_null(strstr(error.message, "; local: "));
        check(lend_peer_describe(world->peer, &info, NULL), &error);
        assert_int_equal(info.status, LEND_E_PEER_DEAD);
        close_world(world);
    }
}

static void test_a_peer_is_forgotten_between_two_transports(void **state)
{
    (void)state;
    /* After any number of steps: one of them is that between the two. */
    for (int steps = 0; steps < 12; steps++) {
        struct world *world = open_world();
        struct lend_error error = {0};

        import(world, STRANGER, false);
        assert_int_equal(lend_peer_connect(world->peer, 0, &error), LEND_E_TIMEOUT);
        for (int i = 0; i < steps; i++) {
            (void)lend_agent_progress(i % 2 == 0 ? world->stranger : world->reader, 0, NULL);
        }
        lend_peer_forget(world->peer);
        world->peer = NULL;
        step(world);
        close_world(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_preferred_transport_is_used_where_it_leads_there),
        cmocka_unit_test(test_the_next_is_used_where_nobody_is_there),
        cmocka_unit_test(test_the_next_is_used_where_a_stranger_answers),
        cmocka_unit_test(test_what_waits_goes_on_by_the_next),
        cmocka_unit_test(test_what_allows_no_path_of_the_next_is_told_so),
        cmocka_unit_test(test_the_failure_of_all_names_each),
        cmocka_unit_test(test_a_peer_is_forgotten_between_two_transports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
