/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whoever names a port or a GID of an RDMA device gets that one and no other, whatever the
 * routes say; and where it does not serve, the agent is not made, and is told why, with the values
 * and the remedy.
 * Method: names as users write them; a fake libibverbs with two NICs, each with a GID of its link
 * and one of IPv4, of RoCE v1 (0, 2) and v2 (1, 3); queue pairs are asked by which they go.
 */
#include "verbs_world.h"

#include "transport/verbs/device.h"

static int set_up(void **state)
{
    (void)state;
    fake_verbs_reset();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(fake_verbs_kept(), 0);
    lend_verbs = NULL;
    return 0;
}

static void test_names_say_device_port_and_gid(void **state)
{
    static const char *const names[] = {"mlx5_0",           "mlx5_0:1",
                                        "mlx5_0:12:3",      "mlx5_0:1:10.0.0.1",
                                        "mlx5_0:1:fe80::1", "mlx5_0:1:::ffff:10.0.0.1"};
    struct lend_verbs_named named[6];
    char text[46];

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(lend_verbs_named_parse(names[i], &named[i], NULL), LEND_OK);
        assert_string_equal(named[i].device, "mlx5_0");
        assert_int_equal(named[i].has_index, i == 2);
        assert_int_equal(named[i].has_gid, i > 2);
    }
    assert_int_equal(named[0].port, 0);
    assert_int_equal(named[1].port, 1);
    assert_int_equal(named[2].port, 12);
    assert_int_equal(named[2].index, 3);
    assert_memory_equal(named[3].gid, named[5].gid, sizeof named[3].gid);
    lend_verbs_gid_text(named[3].gid, text, sizeof text);
    assert_string_equal(text, "::ffff:10.0.0.1");
    lend_verbs_gid_text(named[4].gid, text, sizeof text);
    assert_string_equal(text, "fe80::1");
}

static void test_what_is_no_name_is_refused(void **state)
{
    static const char *const names[] = {
        "",
        ":1",
        "mlx5_0:",
        "mlx5_0:0",
        "mlx5_0:256",
        "mlx5_0:-1",
        "mlx5_0:one",
        "mlx5_0:1:",
        "mlx5_0:1:256",
        "mlx5_0:1:x",
        "mlx5_0::3",
        "mlx5_0:1:3:",
        "mlx5_0:1:3:4",
        "mlx5_0:1:10.0.0",
        "mlx5_0:1:+3",
        "mlx5_0: 1:3",
        "mlx5_0:1:4294967299",
        "mlx5_0:1:fe80::1%eth0",
        "a-name-of-a-device-that-is-longer-than-any-that-there-can-be-in-linux"};
    struct lend_verbs_named named = {.port = 77};
    struct lend_error error;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (lend_verbs_named_parse(names[i], &named, &error) != LEND_E_INVALID)
            fail_msg("\"%s\" was taken", names[i]);
        assert_int_equal(named.port, 77);
        assert_non_null(strstr(error.message, "DEVICE[:PORT[:GID]]"));
    }
}

static void expect_refusal(const char *name, enum lend_status status, const char *cause,
                           const char *remedy)
{
    struct lend_verbs_nic *nic = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, name, &nic, &error), status);
    if (strstr(error.message, cause) == NULL || strstr(error.message, remedy) == NULL)
        fail_msg("%s: %s", name, error.message);
    assert_null(nic);
}

static void test_what_a_nic_has_not_is_told_with_what_it_has(void **state)
{
    const char *usable = "1 (fe80::1), 3 (::ffff:10.77.0.1)";

    (void)state;
    expect_refusal("fake0:2", LEND_E_ABSENT, "fake0 has no port 2", "it has 1");
    expect_refusal("fake0:1:9", LEND_E_ABSENT, "fake0:1 has no GID of index 9: it has room for 4",
                   usable);
    expect_refusal("fake0:1:255", LEND_E_ABSENT, "no GID of index 255", usable);
    expect_refusal("fake0:1:10.77.0.2", LEND_E_ABSENT, "fake0:1 has no GID ::ffff:10.77.0.2",
                   "give its network device that address");
    expect_refusal("fake0:1:2", LEND_E_INVALID, "GID 2 of fake0:1 (::ffff:10.77.0.1) is of RoCE v1",
                   usable);
    memset(fake_verbs.devices[0].gids[3].gid.raw, 0, LEND_VERBS_GID_BYTES);
    expect_refusal("fake0:1:3", LEND_E_ABSENT, "GID 3 of fake0:1 is not set",
                   "usable: 1 (fe80::1)");
    expect_refusal("fake0:1:10.77.0.1", LEND_E_INVALID, "is of RoCE v1", "of RoCE v2: 1");
    fake_verbs.devices[0].gid_count = 1;
    expect_refusal("fake0:1:0", LEND_E_INVALID, "is of RoCE v1", "of RoCE v2: none is");
}

/* --- where paths begin --- */

static enum lend_status choose(const char *first, const char *second, const uint8_t *peer,
                               struct lend_verbs_place *out, struct lend_error *error)
{
    const struct lend_verbs_wish wish = {.peer_gid = peer};
    struct lend_verbs_nic *nics[2];

    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, first, &nics[0], error), LEND_OK);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, second, &nics[1], error), LEND_OK);
    enum lend_status status = lend_verbs_choose(nics, 2, &wish, out, error);
    for (int i = 0; i < 2; i++)
        assert_int_equal(lend_verbs_nic_close(nics[i], NULL), LEND_OK);
    return status;
}

static void test_a_gid_that_was_named_is_taken_whatever_the_routes_say(void **state)
{
    static const char *const names[] = {"fake1:1:3", "fake1:1:10.77.0.2"};
    struct lend_verbs_place place = {0};
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < 2; i++) { /* the other one is as good, and comes first */
        assert_int_equal(choose("fake0", names[i], NULL, &place, &error), LEND_OK);
        assert_int_equal(place.gid.index, 3);
        assert_int_equal(place.gid.gid[15], 2);
    }
    /* By the addresses alone IPv4 is before the link's. */
    assert_int_equal(choose("fake0:1", "fake1:1:fe80::1", NULL, &place, &error), LEND_OK);
    assert_int_equal(place.gid.index, 1);
    assert_int_equal(place.gid.type, LEND_VERBS_GID_ROCE_V2);
}

static void test_a_gid_of_another_family_than_the_peers_is_told(void **state)
{
    const uint8_t peer[LEND_VERBS_GID_BYTES] = {[10] = 0xff, 0xff, 10, 77, 0, 9};
    struct lend_verbs_place place = {0};
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(choose("fake0:1:1", "fake1:1:1", peer, &place, &error), LEND_E_NO_PATH);
    assert_string_equal(error.message,
                        "no RDMA port will do: the GID named of fake0:1 is not of the peer's "
                        "family; the GID named of fake1:1 is not of the peer's family");
}

static void test_a_gid_that_has_gone_since_is_told(void **state)
{
    const struct lend_verbs_wish wish = {.peer_gid = NULL};
    struct lend_verbs_nic *nic = NULL;
    struct lend_verbs_place place;
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0:1:3", &nic, &error), LEND_OK);
    fake_verbs.devices[0].gid_count = 3;
    assert_int_equal(lend_verbs_port_refresh(nic, 1, &error), LEND_OK);
    assert_int_equal(lend_verbs_choose(&nic, 1, &wish, &place, &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "fake0:1 has no GID of index 3: it has room for 3"));
    assert_int_equal(lend_verbs_nic_close(nic, NULL), LEND_OK);
}

/* --- agents --- */

static void test_queue_pairs_go_by_the_gid_that_was_named(void **state)
{
    (void)state;
    struct world *world = open_world_by("fake0:1:10.77.0.1", "fake1:1:3", 0);

    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    assert_int_equal(fake_verbs.last_sgid_index, 3);
    close_world(world);

    world = open_world_by("fake0:1:1", "fake1:1:fe80::1", 0);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    assert_int_equal(fake_verbs.last_sgid_index, 1);
    close_world(world);
}

static void test_an_agent_is_not_made_with_a_gid_that_does_not_serve(void **state)
{
    static const char *const devices[] = {"fake0:1:0", "fake1,fake0:1:10.77.0.2", "fake0,",
                                          "fake0:x"};
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    (void)state;
    lend_verbs = &fake_verbs_ops;
    config.name = "owner";
    config.transports = "loopback,verbs";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    for (int i = 0; i < 4; i++) {
        config.verbs_devices = devices[i];
        assert_int_equal(lend_agent_create(&config, &agent, &error),
                         i == 1 ? LEND_E_NO_PATH : LEND_E_INVALID);
        assert_int_equal(fake_verbs_kept(), 0);
    }
}

static void test_where_a_fork_is_not_safe_an_agent_wants_the_callers_word(void **state)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    (void)state;
    lend_verbs = &fake_verbs_ops;
    fake_verbs.fork_status = LEND_VERBS_FORK_DISABLED;
    config.name = "owner";
    config.transports = "loopback,verbs";
    config.transports_required = "verbs";
    config.verbs_devices = "fake0";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    assert_int_equal(lend_agent_create(&config, &agent, &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "LEND_AGENT_NEVER_FORKS"));
    config.flags |= LEND_AGENT_NEVER_FORKS;
    check(lend_agent_create(&config, &agent, &error), &error);
    lend_agent_destroy(agent);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_names_say_device_port_and_gid),
        TEST(test_what_is_no_name_is_refused),
        TEST(test_what_a_nic_has_not_is_told_with_what_it_has),
        TEST(test_a_gid_that_was_named_is_taken_whatever_the_routes_say),
        TEST(test_a_gid_of_another_family_than_the_peers_is_told),
        TEST(test_a_gid_that_has_gone_since_is_told),
        TEST(test_queue_pairs_go_by_the_gid_that_was_named),
        TEST(test_an_agent_is_not_made_with_a_gid_that_does_not_serve),
        TEST(test_where_a_fork_is_not_safe_an_agent_wants_the_callers_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
