/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever call of the system fails, agents, regions, leases and peers come and go with
 * documented statuses, leak nothing, keep their owners' tokens balanced, and work when they are
 * asked again. Method: the sweep of sweep.h over what a program does without a transfer.
 */
#include "sweep.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECONDS UINT64_C(1000000000)

static void come_and_go(struct world *world)
{
    make_agents(world);
    assert_string_equal(lend_agent_name(world->owner), "owner");
    for (int i = 0; i < 3; i++)
        pump(world);
}

static void test_agents_come_and_go(void **state)
{
    (void)state;
    sweep(come_and_go);
}

static void give_back(struct world *world, struct lend_region *region)
{
    RETRY(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, SECONDS, NULL), LEND_E_BUSY);
    RETRY(lend_region_deregister(region, NULL), LEND_E_BUSY);
}

static void register_several(struct world *world)
{
    static uint8_t others[2][LENT_BYTES];
    struct lend_region_desc descs[3] = {describe_region(world, lent_memory, "lent"),
                                        describe_region(world, others[0], "layer.0"),
                                        describe_region(world, others[1], "layer.1")};
    struct lend_region *regions[3] = {NULL};
    int32_t results[3];

    make_agent(world, true);
    make_agent(world, false);
    enum lend_status status = lend_region_register(world->owner, descs, 3, regions, results, NULL);
    if (status != LEND_OK) {
        static const int listed[] = {LEND_E_MEMORY, LEND_E_NO_MEMORY, LEND_E_SYSTEM, 0};

        check_listed(world, status, listed, "lend_region_register");
        assert_null(regions[0]); /* all, or none */
        assert_int_equal(world->retained, 0);
        SURE(lend_region_register(world->owner, descs, 3, regions, results, NULL));
    }
    assert_int_equal(world->retained, 3);
    for (int i = 0; i < 3; i++) {
        struct lend_region_info info = {.struct_size = sizeof info};

        assert_int_equal(results[i], LEND_OK);
        SURE(lend_region_describe(regions[i], &info, NULL));
        assert_string_equal(info.tags, "engine=test");
    }
    give_back(world, regions[1]);
    assert_int_equal(world->released, 1);
    give_back(world, regions[0]);
    assert_int_equal(world->released, 2); /* the third goes with the agent */
}

static void test_regions_are_registered_all_or_none(void **state)
{
    (void)state;
    sweep(register_several);
}

/* A file of two pieces, by another door than the double's. */
struct pieces {
    int fd;
    uint8_t *memory;
};

static void share_and_take_back(struct world *world, const struct pieces *pieces)
{
    struct lend_region_desc descs[2] = {describe_region(world, pieces->memory, "lent"),
                                        describe_region(world, pieces->memory + LENT_BYTES, NULL)};
    struct lend_region *regions[2] = {NULL};

    for (int i = 0; i < 2; i++) {
        descs[i].flags = LEND_REGION_SHARE_FILE;
        descs[i].share_fd = pieces->fd;
        descs[i].share_offset_bytes = (uint64_t)i * LENT_BYTES;
    }
    make_agent(world, true);
    make_agent(world, false);
    int descriptors = double_live_descriptors();
    enum lend_status status = lend_region_register(world->owner, descs, 2, regions, NULL, NULL);
    if (status != LEND_OK) {
        static const int listed[] = {LEND_E_MEMORY, LEND_E_NO_MEMORY, LEND_E_SYSTEM, 0};

        check_listed(world, status, listed, "lend_region_register");
        assert_null(regions[0]);
        assert_int_equal(double_live_descriptors(), descriptors);
        SURE(lend_region_register(world->owner, descs, 2, regions, NULL, NULL));
    }
    assert_int_equal(double_live_descriptors(), descriptors + 2);
    for (int i = 0; i < 2; i++)
        RETRY(lend_region_suspend(regions[i], LEND_WITHDRAW_FORCE, SECONDS, NULL), LEND_E_BUSY);
    assert_int_equal(double_live_descriptors(), descriptors);
    RETRY(lend_region_resume(regions[1], NULL, pieces->fd, LENT_BYTES, NULL), LEND_E_MEMORY,
          LEND_E_NO_MEMORY, LEND_E_SYSTEM);
    assert_int_equal(double_live_descriptors(), descriptors + 2);
    give_back(world, regions[1]);
    give_back(world, regions[0]);
    assert_int_equal(double_live_descriptors(), descriptors);
}

static void share_file(struct world *world)
{
    struct pieces pieces = {.fd = memfd_create("pieces", MFD_CLOEXEC | MFD_ALLOW_SEALING)};

    assert_true(pieces.fd >= 0);
    assert_int_equal(ftruncate(pieces.fd, 2L * LENT_BYTES), 0);
    assert_int_equal(fcntl(pieces.fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    pieces.memory = mmap(NULL, 2L * LENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, pieces.fd, 0);
    assert_ptr_not_equal(pieces.memory, MAP_FAILED);
    share_and_take_back(world, &pieces);
    assert_int_equal(munmap(pieces.memory, 2L * LENT_BYTES), 0);
    assert_int_equal(close(pieces.fd), 0);
}

static void test_files_are_shared_and_taken_back(void **state)
{
    (void)state;
    sweep(share_file);
}

static void grant_by_numbers(struct world *world, struct lend_lease **out)
{
    static const int32_t numbers[] = {15, 9, 11, 9};
    const struct lend_block_set set = {.regions = &world->lent,
                                       .region_count = 1,
                                       .index_bits = 32,
                                       .blocks = numbers,
                                       .count = 4};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;

    desc.access = LEND_ACCESS_READ;
    desc.sets = &set;
    desc.set_count = 1;
    desc.time_to_live_ns = 60 * SECONDS;
    desc.consumer_count = 2;
    RETRY(lend_lease_grant(world->owner, &desc, out, NULL), LEND_E_NO_MEMORY, LEND_E_SYSTEM);
}

static void lease_and_revoke(struct world *world)
{
    struct lend_block_set evicted = {
        .regions = &world->lent, .region_count = 1, .first = 11, .count = 1};
    struct lend_lease_info info = {.struct_size = sizeof info};
    struct lend_lease *other = NULL;
    uint32_t count = 0;

    make_agents(world);
    register_regions(world);
    import_peer(world);
    grant_lease(world, LEND_ACCESS_READ, 0);
    import_ticket(world);
    SURE(lend_lease_renew(world->lease, 30 * SECONDS, NULL));
    grant_by_numbers(world, &other);
    SURE(lend_lease_list(world->owner, NULL, 0, &count, NULL));
    assert_int_equal(count, 2);

    RETRY(lend_lease_revoke_blocks(world->owner, &evicted, &count, NULL), LEND_E_NO_MEMORY);
    SURE(lend_lease_describe(other, &info, NULL));
    assert_int_equal(info.status, LEND_E_REVOKED);
    lend_lease_release(other);
    SURE(lend_lease_describe(world->lease, &info, NULL));
    assert_int_equal(info.status, LEND_OK);
    SURE(lend_lease_revoke(world->lease, NULL));
    SURE(lend_lease_describe(world->lease, &info, NULL));
    assert_int_equal(info.status, LEND_E_REVOKED);
    give_back(world, world->lent);
}

static void test_leases_are_granted_and_revoked(void **state)
{
    (void)state;
    sweep(lease_and_revoke);
}

/* Connect, with the owner's progress in turns; the status at the end. */
static enum lend_status connect_to(struct world *world)
{
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; i < 20000 && status == LEND_E_TIMEOUT; i++) {
        status = lend_peer_connect(world->peer, 0, NULL);
        pump(world);
    }
    return status;
}

static void meet_and_part(struct world *world)
{
    struct lend_peer_info info = {.struct_size = sizeof info};
    uint64_t id = 0;

    make_agents(world);
    register_regions(world);
    for (int i = 0; i < 2; i++) {
        import_peer(world);
        SURE(lend_peer_region(world->peer, "lent", &id, NULL));
        assert_int_equal(id, lend_region_id(world->lent));
        RETRY(connect_to(world), LEND_E_PEER_DEAD, LEND_E_ACCESS, LEND_E_NO_MEMORY, LEND_E_SYSTEM,
              LEND_E_LIMIT);
        SURE(lend_peer_describe(world->peer, &info, NULL));
        assert_int_equal(info.status, LEND_OK);
        assert_int_equal(info.region_count, 1);
        lend_peer_forget(world->peer);
        for (int turn = 0; turn < 5; turn++)
            pump(world);
    }
}

static void test_peers_are_met_and_forgotten(void **state)
{
    (void)state;
    sweep(meet_and_part);
}

static void prove_and_part(struct world *world)
{
    world->has_secret = true;
    meet_and_part(world);
}

static void prove_the_owners_and_part(struct world *world)
{
    world->has_own = true;
    meet_and_part(world);
}

static void sweep_if_there_is_a_plugin(scenario *play)
{
    if (LEND_TEST_SECRET_PLUGIN[0] == '\0') {
        print_message("libsodium was not there to build the plugin\n");
        skip();
    }
    sweep(play);
}

static void test_secrets_are_kept_and_proved(void **state)
{
    (void)state;
    sweep_if_there_is_a_plugin(prove_and_part);
}

static void test_secrets_of_peers_are_kept_and_proved(void **state)
{
    (void)state;
    sweep_if_there_is_a_plugin(prove_the_owners_and_part);
}

/* A region sleeps and comes back elsewhere, and the peer that wants its tags takes that over. */
static void sleep_and_wake(struct world *world)
{
    static uint8_t bytes[4096];
    static uint8_t elsewhere[LENT_BYTES];
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_memory memory;
    size_t count = 0;

    make_agents(world);
    register_regions(world);
    import_peer(world);
    grant_lease(world, LEND_ACCESS_READ, 0);
    SURE(lend_region_suspend(world->lent, LEND_WITHDRAW_FORCE, 60 * SECONDS, NULL));
    SURE(lend_memory_system(elsewhere, sizeof elsewhere, &memory, NULL));
    RETRY(lend_region_resume(world->lent, &memory, -1, 0, NULL), LEND_E_NO_MEMORY, LEND_E_SYSTEM);
    SURE(lend_region_describe(world->lent, &info, NULL));
    assert_int_equal(info.life, 1);
    assert_int_equal(info.memory.address, (uintptr_t)elsewhere);

    RETRY(lend_metadata_export(world->owner, bytes, sizeof bytes, &count, NULL), LEND_E_NO_MEMORY);
    RETRY(lend_peer_refresh(world->peer, bytes, count, NULL), LEND_E_NO_MEMORY);
    SURE(lend_peer_region_at(world->peer, 0, &info, NULL));
    assert_int_equal(info.life, 1);
    assert_int_equal(info.memory.address, (uintptr_t)elsewhere);
    SURE(lend_region_suspend(world->lent, LEND_WITHDRAW_DRAIN, 0, NULL));
    give_back(world, world->lent);
}

static void test_regions_sleep_and_wake(void **state)
{
    (void)state;
    sweep(sleep_and_wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agents_come_and_go),
        cmocka_unit_test(test_regions_are_registered_all_or_none),
        cmocka_unit_test(test_files_are_shared_and_taken_back),
        cmocka_unit_test(test_leases_are_granted_and_revoked),
        cmocka_unit_test(test_regions_sleep_and_wake),
        cmocka_unit_test(test_peers_are_met_and_forgotten),
        cmocka_unit_test(test_secrets_are_kept_and_proved),
        cmocka_unit_test(test_secrets_of_peers_are_kept_and_proved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
