/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever NIXL does late, wrongly or not at all, what lend says of it is true, our memory is
 * called quiet only when it is, and nothing leaks.
 * Method: an agent over a fake NIXL: its requests are held back, end in failure, or land after they
 * were released, and each of its calls fails once.
 */
#include "fake/nixl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

enum { BLOCK = 4096, BLOCKS = 160, BYTES = BLOCK * BLOCKS, LINES_MAX = 16 };
#define SECOND   UINT64_C(1000000000)
#define PATIENCE (30 * SECOND)

struct world {
    struct lend_agent *agent;
    struct lend_region *place; /* ours, for transfers, */
    struct lend_region *open;  /* and for NIXL agents */
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint8_t *ours, *opened, *theirs;
    unsigned line_count;
    char lines[LINES_MAX][200];
};

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static void note_line(void *context, int32_t level, const char *text)
{
    struct world *world = context;

    (void)level;
    if (world->line_count < LINES_MAX)
        (void)snprintf(world->lines[world->line_count++], sizeof world->lines[0], "%s", text);
}

static struct lend_agent_config config_of(struct world *world)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = "ours";
    config.transports = "nixl";
    config.nixl_devices = "fake0";
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.connect_timeout_ns = PATIENCE;
    config.context = world;
    config.on_log = note_line;
    return config;
}

static enum lend_status make_agent(struct world *world, struct lend_error *error)
{
    const struct lend_agent_config config = config_of(world);

    return lend_agent_create(&config, &world->agent, error);
}

static enum lend_status add_region(struct world *world, void *memory, uint32_t flags,
                                   struct lend_region **out, struct lend_error *error)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    check(lend_memory_system(memory, BYTES, &desc.memory, error), error);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.flags = flags;
    return lend_region_register(world->agent, &desc, 1, out, NULL, error);
}

static enum lend_status import(struct world *world, struct lend_peer **out,
                               struct lend_error *error)
{
    struct lend_nixl_peer_desc desc = LEND_NIXL_PEER_DESC_INIT;
    struct lend_region_desc region = LEND_REGION_DESC_INIT;
    uint8_t bytes[256];

    fake_nixl_tell("theirs", bytes, &desc.byte_count);
    check(lend_memory_system(world->theirs, BYTES, &region.memory, error), error);
    region.geometry.block_length_bytes = BLOCK;
    region.geometry.count = BLOCKS;
    region.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.bytes = bytes;
    desc.regions = &region;
    desc.region_count = 1;
    return lend_nixl_peer_import(world->agent, &desc, out, error);
}

static enum lend_status prepare(struct world *world, uint32_t direction, struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    const uint64_t remote = 1;

    desc.direction = direction;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->place;
    desc.remote_regions = &remote;
    desc.block_count_max = BLOCKS;
    return lend_transfer_prepare(world->agent, &desc, &world->transfer, error);
}

static enum lend_status post(struct world *world, const char *notification,
                             struct lend_error *error)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    int32_t local[BLOCKS], remote[BLOCKS];

    for (int32_t i = 0; i < BLOCKS; i++) {
        local[i] = i;
        remote[i] = BLOCKS - 1 - i;
    }
    desc.ticket = world->ticket;
    desc.local_blocks = local;
    desc.remote_blocks = remote;
    desc.block_count = BLOCKS;
    desc.notification = notification;
    desc.notification_bytes = notification != NULL ? strlen(notification) : 0;
    desc.timeout_ns = PATIENCE;
    return lend_transfer_post(world->transfer, &desc, error);
}

static void fill(struct world *world)
{
    for (size_t i = 0; i < BYTES; i++) {
        world->ours[i] = (uint8_t)(i / 7);
        world->theirs[i] = (uint8_t)(i / 5 + 1);
    }
}

static bool is_mirrored(const struct world *world)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if (memcmp(world->ours + i * BLOCK, world->theirs + (BLOCKS - 1 - i) * BLOCK, BLOCK) != 0)
            return false;
    return true;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    world->ours = malloc(BYTES);
    world->opened = calloc(1, BYTES);
    world->theirs = malloc(BYTES);
    fill(world);
    fake_nixl_reset();
    fake_nixl_add("theirs", world->theirs, BYTES);
    *state = world;
    return 0;
}

static void end_agent(struct world *world)
{
    if (world->transfer != NULL)
        (void)lend_transfer_cancel(world->transfer, PATIENCE);
    (void)lend_transfer_release(world->transfer);
    lend_ticket_release(world->ticket);
    lend_peer_forget(world->peer);
    lend_agent_destroy(world->agent);
    world->transfer = NULL;
    world->ticket = NULL;
    world->peer = NULL;
    world->agent = NULL;
    world->place = world->open = NULL;
}

static void expect_nothing_left(void)
{
    assert_int_equal(fake_nixl.agents, 0);
    assert_int_equal(fake_nixl.backends, 0);
    assert_int_equal(fake_nixl.params, 0);
    assert_int_equal(fake_nixl.memory_lists, 0);
    assert_int_equal(fake_nixl.lists, 0);
    assert_int_equal(fake_nixl.requests, 0);
    assert_int_equal(fake_nixl.maps, 0);
    assert_int_equal(fake_nixl.bytes, 0);
    assert_int_equal(fake_nixl.registered, 0);
}

static int tear_down(void **state)
{
    struct world *world = *state;

    end_agent(world);
    expect_nothing_left();
    lend_nixl = NULL;
    free(world->ours);
    free(world->opened);
    free(world->theirs);
    free(world);
    return 0;
}

static void begin(struct world *world, uint32_t direction)
{
    struct lend_error error = {0};

    check(make_agent(world, &error), &error);
    check(add_region(world, world->ours, 0, &world->place, &error), &error);
    check(import(world, &world->peer, &error), &error);
    check(lend_nixl_ticket(world->peer, LEND_NIXL_ACCEPT_UNFENCED, &world->ticket, &error), &error);
    check(prepare(world, direction, &error), &error);
}

/* The helper has made that call so often. */
static void await_calls(enum fake_nixl_call call, int count)
{
    while (fake_nixl.calls[call] < count)
        ;
}

/* --- what should be --- */

static void test_blocks_are_read_and_written_as_they_lie(void **state)
{
    struct world *world = *state;
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error error = {0};
    char text[32] = "";

    begin(world, LEND_READ);
    check(post(world, NULL, &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);
    assert_true(is_mirrored(world));
    check(lend_transfer_describe(world->transfer, &record, NULL), &error);
    assert_string_equal(record.path, "nixl/unfenced");
    assert_int_equal(record.bytes, BYTES);
    check(lend_transfer_release(world->transfer), &error);

    memset(world->ours, 0x21, BYTES);
    check(prepare(world, LEND_WRITE, &error), &error);
    check(post(world, "it is there", &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);
    assert_true(is_mirrored(world));
    while (fake_nixl_notified("theirs", text, sizeof text) == 0)
        ;
    assert_string_equal(text, "it is there");
}

static void test_many_small_pieces_take_several_requests(void **state)
{
    struct world *world = *state;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post_desc = LEND_POST_DESC_INIT;
    struct lend_range local[2000], remote[2000];
    struct lend_error error = {0};

    begin(world, LEND_READ);
    check(lend_transfer_release(world->transfer), &error);
    for (uint64_t i = 0; i < 2000; i++) {
        local[i] = (struct lend_range){(uintptr_t)world->ours + i * 100, 33};
        remote[i] = (struct lend_range){(uintptr_t)world->theirs + (1999 - i) * 200, 33};
    }
    desc.peer = world->peer;
    desc.direction = LEND_WRITE;
    desc.block_count_max = 2000;
    check(lend_transfer_prepare(world->agent, &desc, &world->transfer, &error), &error);
    post_desc.ticket = world->ticket;
    post_desc.local_ranges = local;
    post_desc.remote_ranges = remote;
    post_desc.range_count = 2000;
    check(lend_transfer_post(world->transfer, &post_desc, &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);
    for (size_t i = 0; i < 2000; i++)
        assert_memory_equal((void *)(uintptr_t)local[i].address,
                            (void *)(uintptr_t)remote[i].address, 33);
    assert_true(fake_nixl.calls[FAKE_NIXL_REQUEST_CREATE] >= 4);
}

static void test_the_same_metadata_is_the_same_peer_and_new_ones_another(void **state)
{
    struct world *world = *state;
    struct lend_peer *again = NULL;
    struct lend_error error = {0};

    begin(world, LEND_READ);
    check(import(world, &again, &error), &error);
    assert_ptr_equal(again, world->peer);
    lend_peer_forget(again);
    check(post(world, NULL, &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);

    fake_nixl_kill("theirs");
    fake_nixl_add("theirs", world->theirs, BYTES);
    again = NULL;
    check(import(world, &again, &error), &error);
    assert_ptr_not_equal(again, world->peer);
    lend_ticket_release(world->ticket);
    check(lend_transfer_release(world->transfer), &error);
    lend_peer_forget(world->peer);
    world->peer = again;
    check(lend_nixl_ticket(world->peer, LEND_NIXL_ACCEPT_UNFENCED, &world->ticket, &error), &error);
    check(prepare(world, LEND_READ, &error), &error);
    check(post(world, NULL, &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);
}

/* --- late, and never --- */

static void test_a_canceled_read_is_quiet_though_nixl_goes_on(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    begin(world, LEND_READ);
    fake_nixl.holds = true;
    check(post(world, NULL, &error), &error);
    await_calls(FAKE_NIXL_REQUEST_STATUS, 1);
    assert_int_equal(lend_transfer_cancel(world->transfer, PATIENCE), LEND_E_CANCELED);
    memset(world->ours, 0x42, BYTES);
    fake_nixl_let_go();
    /* And it may be used again at once. */
    check(lend_region_withdraw(world->place, LEND_WITHDRAW_FORCE, 0, &error), &error);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->ours[i], 0x42);
}

static void test_a_canceled_write_is_quiet_when_nixl_has_done_with_it(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    begin(world, LEND_WRITE);
    fake_nixl.holds = true;
    check(post(world, NULL, &error), &error);
    await_calls(FAKE_NIXL_REQUEST_STATUS, 1);
    assert_int_equal(lend_transfer_cancel(world->transfer, SECOND / 20), LEND_PENDING);
    fake_nixl_let_go();
    assert_int_equal(lend_transfer_cancel(world->transfer, PATIENCE), LEND_E_CANCELED);
}

static void test_a_peer_that_dies_under_a_read_is_dead_and_what_lands_later_goes_nowhere(
    void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    begin(world, LEND_READ);
    fake_nixl.holds = true;
    check(post(world, NULL, &error), &error);
    await_calls(FAKE_NIXL_REQUEST_STATUS, 1);
    fake_nixl_kill("theirs");
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_E_PEER_DEAD);
    memset(world->ours, 0x42, BYTES);
    fake_nixl_let_go();
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->ours[i], 0x42);
}

static void test_agents_end_with_requests_under_way(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    begin(world, LEND_WRITE);
    fake_nixl.holds = true;
    check(post(world, NULL, &error), &error);
    await_calls(FAKE_NIXL_REQUEST_STATUS, 1);
    lend_agent_destroy(world->agent);
    world->agent = NULL;
    world->transfer = NULL;
    world->ticket = NULL;
    world->peer = NULL;
    expect_nothing_left();
}

static void test_nixl_that_does_not_answer_is_a_timeout(void **state)
{
    struct world *world = *state;
    struct lend_agent_config config = config_of(world);
    struct lend_error error = {0};
    uint8_t bytes[512];
    size_t count = 0;

    config.connect_timeout_ns = SECOND / 10;
    check(lend_agent_create(&config, &world->agent, &error), &error);
    fake_nixl.is_stuck = true;
    while (!fake_nixl.is_waiting)
        ;
    enum lend_status told =
        lend_nixl_metadata_export(world->agent, bytes, sizeof bytes, &count, &error);
    enum lend_status added =
        add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, &error);
    fake_nixl.is_stuck = false;
    assert_int_equal(told, LEND_E_TIMEOUT);
    assert_int_equal(added, LEND_E_TIMEOUT);
}

/* --- memory of ours --- */

static void test_withdrawing_ends_access_and_says_how(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};
    uint8_t bytes[512];
    size_t count = 0;

    check(make_agent(world, &error), &error);
    check(add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, &error),
          &error);
    assert_true(fake_nixl_store("ours", world->opened, 1, BYTES));
    check(lend_nixl_metadata_export(world->agent, bytes, sizeof bytes, &count, &error), &error);
    assert_int_equal(lend_region_withdraw(world->open, LEND_WITHDRAW_DRAIN, 0, &error),
                     LEND_E_BUSY);
    assert_non_null(strstr(error.message, "LEND_WITHDRAW_FORCE"));
    assert_true(fake_nixl_store("ours", world->opened, 2, BYTES));
    check(lend_region_withdraw(world->open, LEND_WITHDRAW_FORCE, PATIENCE, &error), &error);
    assert_false(fake_nixl_store("ours", world->opened, 3, 1));
    assert_int_equal(fake_nixl.agents, 0);
    check(lend_region_deregister(world->open, &error), &error);
}

static void test_a_life_that_is_ended_is_followed_by_another(void **state)
{
    struct world *world = *state;
    struct lend_region *other = NULL;
    struct lend_error error = {0};
    uint8_t bytes[512];
    size_t count = 0;

    begin(world, LEND_READ);
    check(add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, &error),
          &error);
    check(add_region(world, world->theirs, LEND_REGION_ALLOW_UNFENCED, &other, &error), &error);
    check(lend_nixl_metadata_export(world->agent, bytes, sizeof bytes, &count, &error), &error);
    check(post(world, NULL, &error), &error);
    assert_int_equal(lend_transfer_wait(world->transfer, PATIENCE), LEND_OK);
    check(lend_region_withdraw(world->open, LEND_WITHDRAW_FORCE, PATIENCE, &error), &error);

    /* Peers are reached anew, and what is still lent is there again. */
    memset(world->ours, 0, BYTES);
    enum lend_status status = LEND_E_PEER_DEAD;
    for (int i = 0; i < 100 && status == LEND_E_PEER_DEAD; i++) {
        check(post(world, NULL, &error), &error);
        status = lend_transfer_wait(world->transfer, PATIENCE);
    }
    assert_int_equal(status, LEND_OK);
    assert_true(is_mirrored(world));
    assert_true(fake_nixl_store("ours", world->theirs, 3, 1));
    assert_false(fake_nixl_store("ours", world->opened, 3, 1));
    check(lend_region_withdraw(other, LEND_WITHDRAW_DRAIN, PATIENCE, &error), &error);
}

static void test_what_cannot_be_exposed_is_refused(void **state)
{
    struct world *world = *state;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(make_agent(world, &error), &error);
    check(add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, &error),
          &error);
    assert_int_equal(add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &region, &error),
                     LEND_E_OVERLAP);
    assert_int_equal(lend_region_suspend(world->open, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_UNSUPPORTED);
    check(lend_memory_system(world->ours, BYTES, &desc.memory, &error), &error);
    desc.flags = LEND_REGION_ALLOW_UNFENCED;
    desc.access = LEND_ACCESS_READ;
    assert_int_equal(lend_region_register(world->agent, &desc, 1, &region, NULL, &error),
                     LEND_E_INVALID);
    assert_int_equal(lend_region_withdraw(world->open, LEND_WITHDRAW_DRAIN, PATIENCE, &error),
                     LEND_OK); /* nobody was told of it */
}

/* --- notifications --- */

static enum lend_status receive(struct world *world, char *text, size_t capacity,
                                struct lend_notification_info *info, uint64_t timeout_ns)
{
    struct lend_error error = {0};
    size_t count = 0;

    info->struct_size = sizeof *info;
    enum lend_status status = lend_notification_receive(world->agent, text, capacity - 1, &count,
                                                        info, timeout_ns, &error);
    text[status == LEND_OK ? count : 0] = '\0';
    return status;
}

static void test_strangers_notify_under_the_name_that_they_say(void **state)
{
    struct world *world = *state;
    struct lend_notification_info one, other;
    struct lend_error error = {0};
    char text[64];

    check(make_agent(world, &error), &error);
    assert_true(fake_nixl_notify("bad\nname", "ours", "hello", 5));
    assert_int_equal(receive(world, text, sizeof text, &one, PATIENCE), LEND_OK);
    assert_string_equal(text, "hello");
    assert_string_equal(one.peer, "bad?name");
    assert_true(fake_nixl_notify("bad\nname", "ours", "", 0));
    assert_int_equal(receive(world, text, sizeof text, &other, PATIENCE), LEND_OK);
    assert_string_equal(text, "");
    assert_memory_equal(one.incarnation, other.incarnation, LEND_INCARNATION_BYTES);
}

static void test_a_notification_too_long_is_dropped_and_told(void **state)
{
    struct world *world = *state;
    struct lend_notification_info info;
    struct lend_error error = {0};
    char text[64];
    static const uint8_t longest[LEND_NOTIFICATION_BYTES_MAX + 1];

    check(make_agent(world, &error), &error);
    assert_true(fake_nixl_notify("theirs", "ours", longest, sizeof longest));
    assert_true(fake_nixl_notify("theirs", "ours", "short", 5));
    assert_int_equal(receive(world, text, sizeof text, &info, PATIENCE), LEND_OK);
    assert_string_equal(text, "short");
    (void)lend_agent_progress(world->agent, 0, NULL);
    bool is_told = false;
    for (unsigned i = 0; i < world->line_count; i++)
        is_told |= strstr(world->lines[i], "too long for lend") != NULL;
    assert_true(is_told);
}

static void test_notifications_wait_for_who_takes_them(void **state)
{
    struct world *world = *state;
    struct lend_agent_config config = config_of(world);
    struct lend_notification_info info;
    struct lend_error error = {0};
    char text[64];

    config.notification_window_bytes = 1024;
    check(lend_agent_create(&config, &world->agent, &error), &error);
    for (int i = 0; i < 60; i++) {
        (void)snprintf(text, sizeof text, "number %d", i);
        assert_true(fake_nixl_notify("theirs", "ours", text, strlen(text)));
    }
    for (int i = 0; i < 60; i++) {
        char wanted[64];

        (void)snprintf(wanted, sizeof wanted, "number %d", i);
        assert_int_equal(receive(world, text, sizeof text, &info, PATIENCE), LEND_OK);
        assert_string_equal(text, wanted);
    }
}

/* --- each call, once --- */

/* A whole life, as far as it goes. */
static enum lend_status live(struct world *world, struct lend_error *error)
{
    uint8_t bytes[512];
    size_t count = 0;

    enum lend_status status = make_agent(world, error);
    if (status == LEND_OK)
        status = add_region(world, world->ours, 0, &world->place, error);
    if (status == LEND_OK)
        status = add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, error);
    if (status == LEND_OK)
        status = lend_region_withdraw(world->open, LEND_WITHDRAW_DRAIN, PATIENCE, error);
    if (status == LEND_OK)
        status = lend_nixl_metadata_export(world->agent, bytes, sizeof bytes, &count, error);
    if (status == LEND_OK)
        status = import(world, &world->peer, error);
    if (status == LEND_OK)
        status = lend_nixl_ticket(world->peer, LEND_NIXL_ACCEPT_UNFENCED, &world->ticket, error);
    if (status == LEND_OK)
        status = prepare(world, LEND_READ, error);
    if (status == LEND_OK)
        status = post(world, "done", error);
    if (status == LEND_OK)
        status = lend_transfer_wait(world->transfer, PATIENCE);
    return status;
}

static bool is_documented(enum lend_status status)
{
    return status == LEND_OK || status == LEND_E_DEVICE || status == LEND_E_NO_PATH ||
           status == LEND_E_NO_MEMORY || status == LEND_E_CORRUPT || status == LEND_E_PEER_DEAD ||
           status == LEND_E_OUT_OF_RANGE;
}

static void test_each_call_may_fail(void **state)
{
    struct world *world = *state;

    for (int call = 0; call < FAKE_NIXL_CALLS; call++)
        for (int nth = 0; nth < 3; nth++) {
            struct lend_error error = {0};

            fake_nixl_reset();
            fake_nixl_add("theirs", world->theirs, BYTES);
            fill(world);
            fake_nixl.failing = (enum fake_nixl_call)call;
            fake_nixl.fail_at = nth;
            fake_nixl.holds = call == FAKE_NIXL_REQUEST_STATUS;
            enum lend_status status = live(world, &error);
            if (!is_documented(status))
                fail_msg("call %d, %d: %s, %s", call, nth, lend_status_name(status), error.message);
            if (status == LEND_OK)
                assert_true(is_mirrored(world));
            end_agent(world);
            expect_nothing_left();
        }
}

/* --- settings --- */

static void expect_refusal(const struct lend_agent_config *config, enum lend_status status,
                           const char *text)
{
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_agent_create(config, &agent, &error), status);
    if (strstr(error.message, text) == NULL)
        fail_msg("\"%s\" in %s", text, error.message);
    assert_null(agent);
}

static void test_settings_that_make_no_sense_are_refused(void **state)
{
    struct world *world = *state;
    struct lend_agent_config config = config_of(world);

    config.nixl_devices = "eth0,eth1";
    expect_refusal(&config, LEND_E_INVALID, "one device");
    config.nixl_devices = "";
    expect_refusal(&config, LEND_E_INVALID, "one device");
    config.nixl_devices = NULL;
    expect_refusal(&config, LEND_E_NO_PATH, "nixl_devices");
    config.nixl_devices = "eth0";
    config.nixl_transports = "cma";
    expect_refusal(&config, LEND_E_INVALID, "nixl_transports");
    config.nixl_transports = "tcp";
    lend_nixl = NULL;
    config.nixl_library = "libnowhere.so.7";
    expect_refusal(&config, LEND_E_NO_PATH, "libnowhere.so.7");
    config.nixl_library = "libc.so.6";
    expect_refusal(&config, LEND_E_NO_PATH, "not NVIDIA's");
}

static void test_without_the_transport_every_call_says_so(void **state)
{
    struct world *world = *state;
    struct lend_agent_config config = config_of(world);
    struct lend_nixl_peer_desc desc = LEND_NIXL_PEER_DESC_INIT;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    size_t count = 0;

    config.transports = "loopback";
    config.nixl_devices = NULL;
    check(lend_agent_create(&config, &world->agent, &error), &error);
    assert_int_equal(lend_nixl_metadata_export(world->agent, NULL, 0, &count, &error),
                     LEND_E_UNSUPPORTED);
    desc.bytes = "x";
    desc.byte_count = 1;
    assert_int_equal(lend_nixl_peer_import(world->agent, &desc, &peer, &error), LEND_E_UNSUPPORTED);
    assert_int_equal(
        add_region(world, world->opened, LEND_REGION_ALLOW_UNFENCED, &world->open, &error),
        LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "nixl_devices"));
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_blocks_are_read_and_written_as_they_lie),
        EACH(test_many_small_pieces_take_several_requests),
        EACH(test_the_same_metadata_is_the_same_peer_and_new_ones_another),
        EACH(test_a_canceled_read_is_quiet_though_nixl_goes_on),
        EACH(test_a_canceled_write_is_quiet_when_nixl_has_done_with_it),
        EACH(test_a_peer_that_dies_under_a_read_is_dead_and_what_lands_later_goes_nowhere),
        EACH(test_agents_end_with_requests_under_way),
        EACH(test_nixl_that_does_not_answer_is_a_timeout),
        EACH(test_withdrawing_ends_access_and_says_how),
        EACH(test_a_life_that_is_ended_is_followed_by_another),
        EACH(test_what_cannot_be_exposed_is_refused),
        EACH(test_strangers_notify_under_the_name_that_they_say),
        EACH(test_a_notification_too_long_is_dropped_and_told),
        EACH(test_notifications_wait_for_who_takes_them),
        EACH(test_each_call_may_fail),
        EACH(test_settings_that_make_no_sense_are_refused),
        EACH(test_without_the_transport_every_call_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
