/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever UCX does late, or not at all, lent memory is called quiet only when it is, and
 * nothing leaks.
 * Method: two agents over a fake UCX, under manual progress: its callbacks are held back, come in
 * another order, or come only after a close by force; and each of its calls fails once.
 */
#include "ucx_stub.h"

/* --- reads that are sent from place --- */

static void test_read_is_sent_from_where_it_lies(void **state)
{
    struct world *world = *state;

    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
    assert_true(fake_ucx.from_place > 0);
    assert_int_equal(fake_ucx.rendezvous, 0);
}

static void test_frames_in_another_order_are_put_in_theirs(void **state)
{
    struct world *world = *state;

    fake_ucx.reverses = true;
    for (int i = 0; i < 3; i++) {
        memset(world->destination, 0, BYTES);
        post(world, 0);
        assert_int_equal(await(world), LEND_OK);
        assert_true(is_read(world));
    }
}

static void test_read_is_done_only_when_the_callbacks_have_come(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_sends = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    assert_true(is_read(world)); /* all is there, but for the owner's word */
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_OK);
}

static void test_lease_that_ends_before_the_callback_makes_no_success(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    fake_ucx.holds_sends = true;
    post(world, 0);
    pump_often(world);
    check(lend_lease_revoke(world->lease, &error), &error);
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_E_REVOKED);
}

static void test_withdraw_waits_for_what_is_sent_and_then_cuts(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    fake_ucx.holds_sends = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_region_withdraw(world->lent, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_BUSY);
    assert_non_null(strstr(error.message, "reader"));
    assert_int_equal(fake_ucx.closed, 0);
    check(lend_region_withdraw(world->lent, LEND_WITHDRAW_FORCE, 20 * SECOND, &error), &error);
    assert_true(fake_ucx.closed > 0);
    enum lend_status status = await(world);
    assert_true(status == LEND_E_PEER_DEAD || status == LEND_E_REVOKED);
}

static void test_withdraw_is_busy_for_ever_if_the_callback_never_comes(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    fake_ucx.holds_sends = fake_ucx.is_stubborn = true;
    post(world, 0);
    pump_often(world);
    for (int i = 0; i < 2; i++)
        assert_int_equal(lend_region_withdraw(world->lent, LEND_WITHDRAW_FORCE, 4 * SECOND, &error),
                         LEND_E_BUSY);
    assert_true(fake_ucx.closed > 0);
    fake_ucx_let_go(); /* so that the fake's own memory is free again */
    pump_often(world);
}

/* --- reads that are received in place --- */

static void test_rendezvous_lands_where_it_belongs(void **state)
{
    struct world *world = *state;

    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
    assert_true(fake_ucx.rendezvous > 0);
    assert_int_equal(fake_ucx.from_place, 0);
}

static void test_read_is_no_success_before_all_has_landed(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    fake_ucx.holds_receives = false;
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

static void test_canceled_read_waits_for_what_is_landing(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_PENDING);
    assert_int_equal(lend_transfer_release(world->transfer), LEND_E_BUSY);
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_E_CANCELED);
    assert_int_equal(fake_ucx.closed, 0);
    /* The connection goes on. */
    fake_ucx.holds_receives = false;
    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

static void test_canceled_read_that_never_lands_is_cut(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 20 * SECOND), LEND_E_CANCELED);
    assert_true(fake_ucx.closed > 0);
    memset(world->destination, 0x5A, BYTES);
    fake_ucx_let_go();
    pump_often(world);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->destination[i], 0x5A);
}

static void test_deadline_waits_for_what_is_landing(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = true;
    post(world, SECOND / 5);
    pump_often(world);
    assert_int_equal(lend_transfer_wait(world->transfer, 20 * SECOND), LEND_E_TIMEOUT);
    assert_true(fake_ucx.closed > 0);
}

static void test_withdrawn_destination_waits_for_what_is_landing(void **state)
{
    struct world *world = *state;
    struct lend_error error = {0};

    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_region_withdraw(world->place, LEND_WITHDRAW_FORCE, 0, &error),
                     LEND_E_BUSY);
    check(lend_region_withdraw(world->place, LEND_WITHDRAW_FORCE, 20 * SECOND, &error), &error);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_E_REVOKED);
    assert_true(fake_ucx.closed > 0);
}

static void test_transfer_never_ends_if_what_is_landing_never_does(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = fake_ucx.is_stubborn = true;
    post(world, 0);
    pump_often(world);
    assert_int_equal(lend_transfer_cancel(world->transfer, 3 * SECOND), LEND_PENDING);
    assert_true(fake_ucx.closed > 0);
    fake_ucx_let_go();
    pump_often(world);
}

static void test_agent_that_ends_lets_nothing_land_after(void **state)
{
    struct world *world = *state;

    fake_ucx.holds_receives = true;
    post(world, 0);
    pump_often(world);
    lend_agent_destroy(world->reader);
    world->reader = NULL;
    assert_true(fake_ucx.closed > 0);
    memset(world->destination, 0x5A, BYTES);
    fake_ucx_let_go();
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(world->destination[i], 0x5A);
}

static int begin_rendezvous(void **state)
{
    (void)begin(state);
    struct world *world = *state;

    lend_agent_destroy(world->reader);
    lend_agent_destroy(world->owner);
    lend_ucx_rendezvous_bytes = 1;
    make_both(world);
    fake_ucx.closed = 0;
    return 0;
}

/* --- connections --- */

static void test_reader_that_restarts_leaves_nothing_behind(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 20; i++) {
        post(world, 0);
        assert_int_equal(await(world), LEND_OK);
        lend_agent_destroy(world->reader);
        world->reader = make_agent("reader");
        pump_often(world);
        assert_int_equal(fake_ucx.endpoints, 0);
        assert_int_equal(fake_ucx.requests, 0);
        world->place = lend_region_of(world->reader, world->destination, 0);
        import(world);
        prepare(world, LEND_READ);
    }
}

static void test_owner_that_is_gone_is_dead(void **state)
{
    struct world *world = *state;
    static const int32_t block = 0;
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    lend_agent_destroy(world->owner);
    world->owner = NULL;
    pump_often(world);
    desc.ticket = world->ticket;
    desc.local_blocks = desc.remote_blocks = &block;
    desc.block_count = 1;
    assert_true(lend_transfer_post(world->transfer, &desc, &error) != LEND_OK);
    assert_int_equal(fake_ucx.endpoints, 0);
}

static void test_explanation_says_when_tcp_would_be_faster(void **state)
{
    struct lend_agent_config config = config_of("both");
    struct lend_agent *owner = NULL, *reader = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    struct lend_region_info info = {.struct_size = sizeof info};
    uint8_t bytes[8192];
    char text[2048];
    size_t count = 0;

    (void)state;
    fake_ucx_reset();
    lend_ucx = &fake_ucx_ops;
    config.transports = "tcp,ucx";
    config.listen = "127.0.0.1";
    for (int i = 0; i < 2; i++) {
        void *memory = malloc(BYTES);

        config.ucx_devices = i == 0 ? "eth0" : "fake0:1";
        check(lend_agent_create(&config, &owner, &error), &error);
        check(lend_agent_create(&config, &reader, &error), &error);
        struct lend_region *region = lend_region_of(owner, memory, LEND_ACCESS_READ);
        check(lend_region_describe(region, &info, &error), &error);
        check(lend_metadata_export(owner, bytes, sizeof bytes, &count, &error), &error);
        check(lend_peer_import(reader, bytes, count, &peer, &error), &error);
        check(lend_explain_text(peer, NULL, info.id, LEND_READ, text, sizeof text, &count, &error),
              &error);
        assert_non_null(strstr(text, "* ucx/served"));
        assert_non_null(strstr(text, "transport ucx comes before it"));
        assert_int_equal(strstr(text, "usually the faster") != NULL, i == 0);
        lend_agent_destroy(reader);
        lend_agent_destroy(owner);
        free(memory);
    }
    lend_ucx = NULL;
}

/* --- what strangers could say, were UCX to let them --- */

static void test_messages_of_no_channel_change_nothing(void **state)
{
    struct world *world = *state;
    uint32_t chance = 1;

    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    for (int i = 0; i < 2000; i++) {
        uint8_t header[LEND_UCX_HEADER_BYTES];
        struct lend_ucx_message message = {.kind = (enum lend_ucx_kind)(1 + i % 6),
                                           .position = (uint64_t)i * 7};

        for (size_t byte = 0; byte < sizeof header; byte++)
            header[byte] = (uint8_t)((chance = chance * 1664525 + 1013904223) >> 24);
        if (i % 3 != 0) {
            memcpy(&message.channel, header, sizeof message.channel);
            lend_ucx_encode(&message, header);
        }
        fake_ucx_say(i % 2, header, i % 5 == 0 ? header[0] % sizeof header : sizeof header,
                     header[1], i % 7 == 0);
        pump(world);
    }
    memset(world->destination, 0, BYTES);
    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

/* Say to the reader what its owner did not, over the channel that they have. */
static void forge(struct world *world, uint64_t position, uint64_t taken, size_t length,
                  bool is_rendezvous)
{
    struct lend_ucx_message message;
    uint8_t header[LEND_UCX_HEADER_BYTES];

    assert_true(lend_ucx_decode(fake_ucx_last.header, fake_ucx_last.header_length, &message));
    message.kind = LEND_UCX_FRAME;
    message.position = position == UINT64_MAX ? message.position : message.position + position;
    message.taken = taken;
    lend_ucx_encode(&message, header);
    fake_ucx_say(1, header, sizeof header, length, is_rendezvous);
    pump_often(world);
}

static void test_forged_frame_breaks_its_connection_and_no_more(void **state)
{
    static const struct {
        uint64_t position;
        uint64_t taken;
        size_t length;
        bool is_rendezvous;
    } cases[] = {
        {UINT64_MAX, 0, 0, false}, /* one that was taken already */
        {1, UINT64_MAX, 0, false}, /* it has taken what it was not sent */
        {1, 0, 100, false},        /* another length than the frame says */
        {1, 0, 1 << 20, false},    /* more than a frame may have */
        {1, 0, 0, true},           /* a word of control by rendezvous */
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lend_peer_info info = {.struct_size = sizeof info};
        struct lend_error error = {0};

        memset(world->destination, 0, BYTES);
        post(world, 0);
        assert_int_equal(await(world), LEND_OK); /* the last that was said is the owner's DONE */
        assert_true(is_read(world));
        forge(world, cases[i].position, cases[i].taken, cases[i].length, cases[i].is_rendezvous);
        check(lend_peer_describe(world->peer, &info, &error), &error);
        if (info.status != LEND_E_PEER_DEAD)
            fail_msg("case %zu: %s", i, lend_status_name((enum lend_status)info.status));
    }
    memset(world->destination, 0, BYTES);
    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    assert_true(is_read(world));
}

static void test_frames_that_wait_hold_few_buffers_of_ucx(void **state)
{
    enum { LENGTH = 1100, FRAMES = 100, BUFFERS_MAX = 8 };
    struct world *world = *state;
    struct lend_ucx_message message;
    uint8_t header[LEND_UCX_HEADER_BYTES];

    post(world, 0);
    assert_int_equal(await(world), LEND_OK);
    pump_often(world);
    int data = fake_ucx.data;
    assert_true(lend_ucx_decode(fake_ucx_last.header, fake_ucx_last.header_length, &message));
    message.kind = LEND_UCX_FRAME;
    message.taken = 0;
    message.frame[4] = LENGTH & 0xff;
    message.frame[5] = LENGTH >> 8;
    for (int i = 0; i < FRAMES; i++) {
        message.position += 2; /* never the next one */
        lend_ucx_encode(&message, header);
        fake_ucx_say(1, header, sizeof header, LENGTH, false);
    }
    pump_often(world);
    assert_true(fake_ucx.data > data);
    assert_true(fake_ucx.data <= data + BUFFERS_MAX);
}

/* --- opening --- */

static void test_every_call_that_fails_is_told_and_undone(void **state)
{
    struct lend_agent_config config = config_of("short-lived");
    int failures = 0;

    (void)state;
    lend_ucx = &fake_ucx_ops;
    for (int nth = 0;; nth++) {
        struct lend_agent *agent = NULL;
        struct lend_error error = {0};

        fake_ucx_reset();
        fake_ucx.fail_at = nth;
        fake_ucx.failure = nth % 2 == 0 ? LEND_UCX_NO_MEMORY : -3;
        enum lend_status status = lend_agent_create(&config, &agent, &error);
        if (status == LEND_OK) {
            lend_agent_destroy(agent);
            break;
        }
        assert_int_equal(status, LEND_E_NO_PATH);
        assert_non_null(strstr(error.message, "UCX"));
        assert_int_equal(fake_ucx.workers + fake_ucx.contexts + fake_ucx.configs, 0);
        failures++;
    }
    assert_int_equal(failures, 6);
    lend_ucx = NULL;
}

static void expect_failure(const struct lend_agent_config *config, enum lend_status wanted,
                           const char *words)
{
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_agent_create(config, &agent, &error), wanted);
    if (strstr(error.message, words) == NULL)
        fail_msg("\"%s\" says nothing of \"%s\"", error.message, words);
}

static void test_what_is_missing_is_named(void **state)
{
    struct lend_agent_config config = config_of("short-lived");

    (void)state;
    config.ucx_library = "libnowhere.so.7";
    expect_failure(&config, LEND_E_NO_PATH, "libnowhere.so.7");
    config.ucx_library = "libc.so.6";
    expect_failure(&config, LEND_E_NO_PATH, "ucp_get_version_string");
    config.ucx_devices = NULL;
    expect_failure(&config, LEND_E_NO_PATH, "ucx_devices");

    fake_ucx_reset();
    lend_ucx = &fake_ucx_ops;
    config.ucx_devices = "nonsense";
    expect_failure(&config, LEND_E_INVALID, "nonsense");
    config.ucx_devices = "fake0:1," STUB_ABSENT ":2";
    expect_failure(&config, LEND_E_INVALID, "names " STUB_ABSENT);
    lend_ucx = NULL;
    assert_int_equal(fake_ucx.configs + fake_ucx.contexts, 0);
}

int main(void)
{
#define WITH(start, test) cmocka_unit_test_setup_teardown(test, start, end)
    const struct CMUnitTest tests[] = {
        WITH(begin, test_read_is_sent_from_where_it_lies),
        WITH(begin, test_frames_in_another_order_are_put_in_theirs),
        WITH(begin, test_read_is_done_only_when_the_callbacks_have_come),
        WITH(begin, test_lease_that_ends_before_the_callback_makes_no_success),
        WITH(begin, test_withdraw_waits_for_what_is_sent_and_then_cuts),
        WITH(begin, test_withdraw_is_busy_for_ever_if_the_callback_never_comes),
        WITH(begin_rendezvous, test_rendezvous_lands_where_it_belongs),
        WITH(begin_rendezvous, test_read_is_no_success_before_all_has_landed),
        WITH(begin_rendezvous, test_canceled_read_waits_for_what_is_landing),
        WITH(begin_rendezvous, test_canceled_read_that_never_lands_is_cut),
        WITH(begin_rendezvous, test_deadline_waits_for_what_is_landing),
        WITH(begin_rendezvous, test_withdrawn_destination_waits_for_what_is_landing),
        WITH(begin_rendezvous, test_transfer_never_ends_if_what_is_landing_never_does),
        WITH(begin_rendezvous, test_agent_that_ends_lets_nothing_land_after),
        WITH(begin, test_reader_that_restarts_leaves_nothing_behind),
        WITH(begin, test_owner_that_is_gone_is_dead),
        WITH(begin, test_messages_of_no_channel_change_nothing),
        WITH(begin, test_frames_that_wait_hold_few_buffers_of_ucx),
        WITH(begin, test_forged_frame_breaks_its_connection_and_no_more),
        cmocka_unit_test(test_explanation_says_when_tcp_would_be_faster),
        cmocka_unit_test(test_every_call_that_fails_is_told_and_undone),
        cmocka_unit_test(test_what_is_missing_is_named),
    };

    stub_devices();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
