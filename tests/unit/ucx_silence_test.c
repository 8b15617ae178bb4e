/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: over UCX a peer that is silent is dead after a bounded time, one that says that it is there
 * is waited for, and no word of somebody else takes its place.
 * Method: two agents over a fake UCX that loses what they send, or holds a callback back so that
 * nothing but pings goes on; openings that no agent sent are put into its mail.
 */
#include "ucx_stub.h"

#include "base/sys.h"
#include "wire/metadata.h"

#define PATIENCE   SECOND
#define TEST_LIMIT (30 * SECOND) /* what takes longer does not come */

static int begin_impatiently(void **state)
{
    stub_patience_ns = PATIENCE;
    return begin(state);
}

static void read_once(struct world *world)
{
    enum lend_status status = LEND_PENDING;
    uint64_t until = lend_sys->now_ns() + TEST_LIMIT;

    memset(world->destination, 0, BYTES);
    post(world, TEST_LIMIT);
    while (status == LEND_PENDING && lend_sys->now_ns() < until) {
        pump(world);
        status = lend_transfer_test(world->transfer);
    }
    assert_int_equal(status, LEND_OK);
    assert_true(is_read(world));
    pump_often(world);
}

/* Until a count of the fake's is that high. */
static void pump_until(struct world *world, const int *count, int wanted)
{
    uint64_t until = lend_sys->now_ns() + TEST_LIMIT;

    while (*count < wanted) {
        assert_true(lend_sys->now_ns() < until);
        pump(world);
    }
}

/* --- pings --- */

static void test_peer_that_answers_nothing_is_dead(void **state)
{
    struct world *world = *state;
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    read_once(world);
    fake_ucx.drops = true;
    post(world, TEST_LIMIT);
    assert_int_equal(lend_transfer_wait(world->transfer, TEST_LIMIT), LEND_E_PEER_DEAD);
    check(lend_peer_describe(world->peer, &info, &error), &error);
    assert_int_equal(info.status, LEND_E_PEER_DEAD);
    assert_true(fake_ucx.closed > 0);

    /* And is there again when it is heard. */
    fake_ucx.drops = false;
    pump_often(world);
    read_once(world);
}

static void test_peer_that_answers_pings_is_waited_for(void **state)
{
    struct world *world = *state;

    read_once(world);
    fake_ucx.holds_sends = true;
    post(world, TEST_LIMIT);
    pump_often(world);
    /* A ping comes after a quarter of what the reader puts up with, and then its answer. */
    pump_until(world, &fake_ucx.sent, fake_ucx.sent + 2 * 6);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    assert_int_equal(fake_ucx.closed, 0);
    fake_ucx_let_go();
    assert_int_equal(await(world), LEND_OK);
}

static void test_nobody_is_asked_while_nothing_is_due(void **state)
{
    struct world *world = *state;
    uint64_t until = lend_sys->now_ns() + 3 * PATIENCE;

    read_once(world);
    /* What the owner said last may be asked after once. */
    while (lend_sys->now_ns() < until - PATIENCE)
        pump(world);
    int sent = fake_ucx.sent;
    while (lend_sys->now_ns() < until)
        pump(world);
    assert_int_equal(fake_ucx.sent, sent);
    assert_int_equal(fake_ucx.closed, 0);
}

/* --- openings in a peer's name --- */

static void open_as(struct lend_agent *whom)
{
    const struct lend_ucx_message open = {.kind = LEND_UCX_OPEN};
    const struct lend_ucx_greeting greeting = {.link = 77, .channel = 99, .window_bytes = 1 << 20};
    uint8_t metadata[8192], header[LEND_UCX_HEADER_BYTES];
    uint8_t bytes[LEND_UCX_GREETING_BYTES + LEND_METADATA_ADDRESS_MAX];
    struct lend_metadata *decoded = NULL;
    struct lend_error error = {0};
    size_t count;

    check(lend_metadata_export(whom, metadata, sizeof metadata, &count, &error), &error);
    check(lend_metadata_decode(metadata, count, &decoded, &error), &error);
    lend_ucx_encode(&open, header);
    lend_ucx_encode_greeting(&greeting, bytes);
    memcpy(bytes + LEND_UCX_GREETING_BYTES, decoded->transports[0].address,
           decoded->transports[0].address_bytes);
    fake_ucx_tell(0, header, sizeof header, bytes,
                  LEND_UCX_GREETING_BYTES + decoded->transports[0].address_bytes);
    lend_sys->release(decoded);
}

static void test_opening_in_the_name_of_who_is_there_is_let_go(void **state)
{
    struct world *world = *state;

    read_once(world);
    for (int i = 0; i < 3; i++) {
        int sent = fake_ucx.sent;

        open_as(world->reader);
        pump_often(world);
        assert_int_equal(fake_ucx.sent, sent + 2); /* a question, and the reader's answer */
        assert_int_equal(fake_ucx.closed, 0);
        assert_int_equal(fake_ucx.endpoints, 2);
        read_once(world);
    }
}

static void test_openings_while_one_is_in_doubt_are_refused(void **state)
{
    struct world *world = *state;

    read_once(world);
    int sent = fake_ucx.sent;
    for (int i = 0; i < 5; i++)
        open_as(world->reader);
    pump_often(world);
    assert_int_equal(fake_ucx.sent, sent + 2 + 4);
    assert_int_equal(fake_ucx.closed, 0);
    read_once(world);
}

static void test_opening_by_who_has_lost_its_connection_is_answered(void **state)
{
    struct world *world = *state;

    read_once(world);
    fake_ucx.drops = true; /* so nobody answers for the connection that is there */
    open_as(world->reader);
    pump_until(world, &fake_ucx.closed, 1);
    fake_ucx.drops = false;
    pump_often(world);
    read_once(world);
}

static void test_opening_in_doubt_leaves_with_the_agent(void **state)
{
    struct world *world = *state;

    read_once(world);
    fake_ucx.drops = true;
    open_as(world->reader);
    (void)lend_agent_progress(world->owner, 0, NULL);
}

int main(void)
{
#define WITH(start, test) cmocka_unit_test_setup_teardown(test, start, end)
    const struct CMUnitTest tests[] = {
        WITH(begin_impatiently, test_peer_that_answers_nothing_is_dead),
        WITH(begin_impatiently, test_peer_that_answers_pings_is_waited_for),
        WITH(begin_impatiently, test_nobody_is_asked_while_nothing_is_due),
        WITH(begin, test_opening_in_the_name_of_who_is_there_is_let_go),
        WITH(begin, test_openings_while_one_is_in_doubt_are_refused),
        WITH(begin_impatiently, test_opening_by_who_has_lost_its_connection_is_answered),
        WITH(begin, test_opening_in_doubt_leaves_with_the_agent),
    };

    stub_devices();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
