/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of a GPU is known to a NIC by the export that leads there; by one that leads
 * elsewhere nothing is read or written, and the log says so; what the caller has chosen is not
 * tried; and a trial that cannot be made rules out nothing, and leaves nothing.
 * Method: the world of rails, with GPUs behind it and NICs that follow some exports to nothing. Of
 * the trial by itself, every call fails in turn. Nothing here shows what a NIC or a GPU does.
 */
#include "verbs_world.h"

#include "core/session.h"
#include "transport/verbs/trial.h"

#include <errno.h>

enum { DEFAULT = 1 << 0, PCIE = 1 << 1, CALLS_MAX = 64 };

static char said[2048]; /* the last warning of verbs */

static void listen_to(void *context, int32_t level, const char *text)
{
    (void)context;
    if (level <= LEND_LOG_WARNING && strstr(text, "dma-buf") != NULL)
        (void)snprintf(said, sizeof said, "%s", text);
}

/* The owner lends memory of a GPU; its NIC follows those exports to nothing. */
static struct world *open_misled(unsigned misled, bool has_peer_memory, uint32_t flags)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    owner_is_device = true;
    agent_flags = flags;
    agent_log = listen_to;
    said[0] = '\0';
    begin_world();
    fake_verbs.devices[0].misleads = misled;
    fake_verbs.devices[0].has_peer_memory = has_peer_memory;
    fill_world(world, "fake0", "fake1");
    agent_flags = 0;
    agent_log = NULL;
    return world;
}

static struct lend_verbs_station *station_of(const struct world *world)
{
    return rail_of(&world->owner)->station;
}

static unsigned unfit(const struct world *world)
{
    return atomic_load(&station_of(world)->nics[0]->unfit_exports[0]);
}

static void expect_moves(struct world *world)
{
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    paint(world, 0x5a);
    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_OK, "verbs/write");
}

static void test_a_nic_that_reaches_a_gpu_by_both_has_it_by_the_default(void **state)
{
    struct world *world = open_misled(0, false, 0);

    (void)state;
    assert_true(station_of(world)->is_tried[0]);
    assert_false(station_of(world)->is_tried[1]);
    assert_int_equal(unfit(world), 0);
    assert_string_equal(said, "");
    assert_int_equal(fake_verbs.last_export, 0);
    expect_moves(world);
    close_world(world);
}

static void test_a_way_that_leads_elsewhere_is_not_taken(void **state)
{
    (void)state;
    for (unsigned flag = 0; flag < 2; flag++) {
        struct world *world = open_misled(1u << flag, false, 0);

        assert_int_equal(unfit(world), 1u << flag);
        assert_string_equal(
            said, flag == 0
                      ? "fake0 does not reach memory of GPU 0 by a dma-buf with the driver's "
                        "default: it read other bytes than are there (status 0 of its completion)"
                      : "fake0 does not reach memory of GPU 0 by a dma-buf by PCIe: it read other "
                        "bytes than are there (status 0 of its completion)");
        assert_int_equal(fake_verbs.last_export, 1 - flag);
        expect_moves(world);
        close_world(world);
    }
}

static void test_where_none_leads_there_peer_memory_is_left(void **state)
{
    struct world *world = open_misled(DEFAULT | PCIE, true, 0);

    (void)state;
    assert_int_equal(unfit(world), DEFAULT | PCIE);
    expect_moves(world);
    close_world(world);
}

static void test_where_nothing_leads_there_it_is_refused_or_staged(void **state)
{
    struct world *world = open_misled(DEFAULT | PCIE, false, 0);
    struct lend_error error = {0};

    (void)state;
    prepare(world, LEND_READ, "verbs/read");
    post(world);
    assert_int_equal(finish(world, &error).status, LEND_E_NO_PATH);
    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "loopback/staged");
    assert_non_null(strstr(said, "reaches memory of GPU 0 by no dma-buf"));
    close_world(world);
}

static void test_what_the_caller_has_chosen_is_not_tried(void **state)
{
    static const struct {
        uint32_t flags;
        unsigned misled, last;
    } cases[] = {{LEND_AGENT_DMA_BUF_DEFAULT, PCIE, 0}, {LEND_AGENT_DMA_BUF_PCIE, DEFAULT, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *world = open_misled(cases[i].misled, false, cases[i].flags);

        assert_false(station_of(world)->is_tried[0]);
        assert_int_equal(unfit(world), cases[i].misled);
        assert_int_equal(fake_verbs.last_export, cases[i].last);
        expect_moves(world);
        close_world(world);
    }
    struct world *world =
        open_misled(DEFAULT, false, LEND_AGENT_DMA_BUF_DEFAULT | LEND_AGENT_DMA_BUF_PCIE);
    assert_int_equal(unfit(world), DEFAULT); /* both: as if there was neither */
    close_world(world);
}

/* --- a trial by itself --- */

static struct lend_lane *lane_of(const struct world *world)
{
    const struct lend_verbs_station *station = station_of(world);

    for (uint32_t i = 0; i < station->bucket_count; i++)
        for (const struct lend_verbs_exposure *it = station->buckets[i]; it != NULL; it = it->next)
            if (it->what.lane != NULL)
                return it->what.lane;
    fail_msg("no memory of a GPU is exposed");
    return NULL;
}

static enum lend_status try(struct world *world, unsigned flag)
{
    struct lend_error error = {0};
    const int kept = fake_verbs_kept(), cuda_kept = fake_cuda_kept(), held = fake_cuda_held();

    enum lend_status status =
        lend_verbs_try_export(station_of(world)->nics[0], lane_of(world), flag, &error);
    if (status != LEND_OK)
        assert_true(error.message[0] != '\0');
    assert_int_equal(fake_verbs_kept(), kept);
    assert_int_equal(fake_cuda_kept(), cuda_kept);
    assert_int_equal(fake_cuda_held(), held);
    return status;
}

static void test_a_read_that_fails_rules_a_way_out_unless_all_do(void **state)
{
    struct world *world = open_misled(0, false, 0);

    (void)state;
    fake_verbs.status = LEND_VERBS_WC_REMOTE_ACCESS;
    fake_verbs.status_at = fake_verbs.works + 1;
    assert_int_equal(try(world, 0), LEND_E_CORRUPT);
    fake_verbs.status_at = fake_verbs.works; /* of the host's memory */
    assert_int_equal(try(world, 0), LEND_E_NO_PATH);
    fake_verbs.status_at = -1;
    fake_verbs.holds = true; /* for longer than it waits */
    assert_int_equal(try(world, 0), LEND_E_NO_PATH);
    fake_verbs.holds = false;
    (void)fake_verbs_let_go(1 << 20);
    fake_verbs.post_errno = ENOMEM;
    assert_int_equal(try(world, 0), LEND_E_NO_PATH);
    fake_verbs.post_errno = 0;
    assert_int_equal(try(world, 1), LEND_OK);
    close_world(world);
}

static void test_a_trial_that_cannot_be_made_says_nothing_of_the_way(void **state)
{
    static const char *const calls[] = {"cuMemHostAlloc", "cuMemAlloc", "cuCtxPushCurrent",
                                        "cuMemGetHandleForAddressRange", "cuEventCreate"};
    struct world *world = open_misled(0, false, 0);
    int ended = 0;

    (void)state;
    for (int at = 0; at < CALLS_MAX && ended < 2; at++) {
        fake_verbs.fail_at = fake_verbs.calls + at;
        fake_verbs.failure = at % 2 == 0 ? ENOMEM : EINVAL;
        const enum lend_status status = try(world, 0);
        assert_int_not_equal(status, LEND_E_CORRUPT);
        ended += status == LEND_OK;
        assert_true(status != LEND_OK || at > 4);
    }
    fake_verbs.fail_at = -1;
    assert_int_equal(ended, 2);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        fake_cuda_fail(calls[i], LEND_CUDA_ERROR_INVALID_VALUE);
        enum lend_status status = try(world, 0);
        assert_true(status != LEND_OK && status != LEND_E_CORRUPT);
        fake_cuda_fail(calls[i], 0);
    }
    close_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_nic_that_reaches_a_gpu_by_both_has_it_by_the_default),
        cmocka_unit_test(test_a_way_that_leads_elsewhere_is_not_taken),
        cmocka_unit_test(test_where_none_leads_there_peer_memory_is_left),
        cmocka_unit_test(test_where_nothing_leads_there_it_is_refused_or_staged),
        cmocka_unit_test(test_what_the_caller_has_chosen_is_not_tried),
        cmocka_unit_test(test_a_read_that_fails_rules_a_way_out_unless_all_do),
        cmocka_unit_test(test_a_trial_that_cannot_be_made_says_nothing_of_the_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
