/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: bad input gets a status and a message with the values, and changes nothing.
 * Method: for every public function nulls, wrong sizes, unknown flags, handles of others, numbers
 * out of range and lengths that wrap; after each group the pair still does its work.
 */
#include "built.h"
#include "pair.h"

#include <limits.h>

enum { BLOCK = 4096, BLOCKS = 16, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

/* What no function may have written to. */
#define UNTOUCHED ((void *)(uintptr_t)0x10)

struct scene {
    struct pair *pair;
    struct loan remote;
    struct loan local;
    struct lend_agent *other; /* of this process, with a region, a lease and a peer of its own */
    struct lend_region *other_region;
    struct lend_lease *other_lease;
    struct lend_peer *other_peer;
    struct lend_region *lent; /* the reader's own, lent */
};

static struct lend_region *register_memory(struct pair *pair, struct lend_agent *agent)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    EXPECT(pair_describe(pair, pair_memory(pair, PAIR_READER, BLOCK * 4), BLOCK * 4, &desc.memory,
                         &error),
           LEND_OK, &error);
    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = 4;
    desc.access = ALL;
    EXPECT(lend_region_register(agent, &desc, 1, &region, NULL, &error), LEND_OK, &error);
    return region;
}

static struct lend_lease *grant_all(struct lend_agent *agent, struct lend_region *region)
{
    struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(lend_lease_grant(agent, &grant, &lease, &error), LEND_OK, &error);
    return lease;
}

static struct scene scene_make(struct pair *pair)
{
    static uint8_t bytes[64 << 10];
    struct scene scene = {.pair = pair};
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error error = {0};
    size_t count = 0;

    scene.remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    scene.local = keep_blocks(pair, BLOCK, BLOCKS);
    scene.lent = register_memory(pair, pair->reader);
    config.name = "other";
    pair_name_transports(pair, &config);
    config.local_directory = pair->directory;
    EXPECT(lend_agent_create(&config, &scene.other, &error), LEND_OK, &error);
    scene.other_region = register_memory(pair, scene.other);
    scene.other_lease = grant_all(scene.other, scene.other_region);
    EXPECT(owner_metadata(pair, bytes, sizeof bytes, &count), LEND_OK, NULL);
    EXPECT(lend_peer_import(scene.other, bytes, count, &scene.other_peer, &error), LEND_OK, &error);
    return scene;
}

/* Nothing was changed: the pair still works. */
static void scene_end(struct scene *scene)
{
    pattern_fill(scene->remote.memory, scene->remote.bytes, 8);
    assert_int_equal(read_blocks(scene->pair, &scene->local, &scene->remote, BLOCKS), LEND_OK);
    assert_true(pattern_is(scene->local.memory, scene->local.bytes, 8));
    drop(&scene->remote);
    lend_agent_destroy(scene->other);
}

static enum lend_status create(struct lend_agent_config config, struct lend_error *error)
{
    struct lend_agent *agent = UNTOUCHED;
    enum lend_status status = lend_agent_create(&config, &agent, error);

    if (status == LEND_OK)
        lend_agent_destroy(agent);
    else
        assert_ptr_equal(agent, UNTOUCHED);
    return status;
}

static void test_agent_with_bad_configuration_is_not_made(void **state)
{
    struct pair *pair = *state;
    struct lend_agent_config good = LEND_AGENT_CONFIG_INIT, bad;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};
    char longest[LEND_AGENT_NAME_BYTES_MAX + 2];

    good.name = "good";
    pair_name_transports(pair, &good);
    good.local_directory = pair->directory;
    EXPECT(create(good, &error), LEND_OK, &error);
    EXPECT(lend_agent_create(NULL, &agent, &error), LEND_E_INVALID, &error);
    EXPECT(lend_agent_create(&good, NULL, &error), LEND_E_INVALID, &error);

    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *names[] = {NULL, "", "two\nlines", "\x01", longest};
    for (size_t index = 0; index < sizeof names / sizeof names[0]; index++) {
        bad = good;
        bad.name = names[index];
        EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    }
    longest[sizeof longest - 2] = '\0';
    bad.name = longest;
    EXPECT(create(bad, &error), LEND_OK, &error);

    static const uint32_t sizes[] = {0, 3, 8, 100000};
    for (size_t index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        bad = good;
        bad.struct_size = sizes[index];
        EXPECT(create(bad, &error), LEND_E_VERSION, &error);
    }
    bad = good;
    bad.flags = 0x80;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    SAYS(&error, "80");
}

static void test_agent_with_values_out_of_range_is_not_made(void **state)
{
    struct pair *pair = *state;
    struct lend_agent_config good = LEND_AGENT_CONFIG_INIT, bad;
    struct lend_error error = {0};

    good.name = "good";
    pair_name_transports(pair, &good);
    good.local_directory = pair->directory;
    bad = good;
    bad.requests_per_peer_max = 65;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    SAYS(&error, "65");
    bad = good;
    bad.local_ring_bytes = 65536 + 1;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    SAYS(&error, "65537");
    bad.local_ring_bytes = 32768;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    bad = good;
    bad.local_mode = 0xFFFF;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);
    bad = good;
    bad.local_is_abstract = 2;
    EXPECT(create(bad, &error), LEND_E_INVALID, &error);

    bad = good;
    bad.transports = "carrier_pigeon";
    EXPECT(create(bad, &error), LEND_E_UNSUPPORTED, &error);
    SAYS(&error, "carrier_pigeon");
    bad.transports = "loopback,,local";
    assert_true(create(bad, &error) < 0);
    bad = good;
    bad.transports_required = "carrier_pigeon";
    assert_true(create(bad, &error) < 0);
    SAYS(&error, "carrier_pigeon");
}

static void test_folder_that_is_absent_is_named(void **state)
{
    struct pair *pair = *state;
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error error = {0};

    config.name = "lost";
    config.transports = "local";
    config.local_directory = "/nonexistent/lend";
    EXPECT(create(config, &error), LEND_E_NO_PATH, &error);
    SAYS(&error, "/nonexistent/lend");
    (void)pair;
}

static void note_warning(void *context, int32_t level, const char *text)
{
    *(bool *)context |= level == LEND_LOG_WARNING && strstr(text, "does not name it") != NULL;
}

static void test_agent_that_cannot_listen_as_told_is_not_made(void **state)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *first = NULL, *second = NULL;
    struct lend_error error = {0};
    bool is_warned = false;
    char text[64];

    (void)state;
    if (!built_with("tcp"))
        skip();
    config.name = "deaf";
    config.transports = "tcp,loopback";
    config.listen = "nowhere";
    EXPECT(create(config, &error), LEND_E_INVALID, &error);
    SAYS(&error, "nowhere");
    config.listen = "127.0.0.1";
    EXPECT(lend_agent_create(&config, &first, &error), LEND_OK, &error);
    EXPECT(lend_agent_address(first, text, sizeof text, &error), LEND_OK, &error);
    config.listen = text; /* which is taken */
    EXPECT(create(config, &error), LEND_E_NO_PATH, &error);
    SAYS(&error, text);

    /* Told, and not to be had: that is not passed over in silence. */
    config.transports = "loopback";
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    config.on_log = note_warning;
    config.context = &is_warned;
    EXPECT(lend_agent_create(&config, &second, &error), LEND_OK, &error);
    (void)lend_agent_progress(second, 0, &error);
    assert_true(is_warned);
    lend_agent_destroy(second);
    lend_agent_destroy(first);
}

static void test_agent_functions_take_null(void **state)
{
    struct lend_error error = {0};
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    (void)state;
    lend_agent_destroy(NULL);
    assert_null(lend_agent_name(NULL));
    lend_agent_incarnation(NULL, incarnation);
    EXPECT(lend_agent_progress(NULL, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_agent_arm(NULL, &error), LEND_E_INVALID, &error);
    assert_int_equal(lend_agent_progress(NULL, 0, NULL), LEND_E_INVALID);
    assert_int_equal(lend_agent_fd(NULL), -1);
    lend_agent_clear(NULL);
    lend_peer_forget(NULL);
    lend_lease_release(NULL);
    lend_ticket_release(NULL);
    assert_int_equal(lend_transfer_release(NULL), LEND_OK);
    assert_int_equal(lend_region_id(NULL), 0);
    assert_string_equal(lend_status_name(LEND_E_REVOKED), "LEND_E_REVOKED");
    assert_non_null(lend_status_name(-12345));
    assert_non_null(lend_version());
}

static void test_memory_that_cannot_be_is_not_described(void **state)
{
    static const uint64_t lengths[] = {0, LEND_MEMORY_BYTES_MAX + 1, UINT64_MAX};
    struct lend_memory memory, before;
    struct lend_error error = {0};
    uint8_t byte = 0;

    (void)state;
    memset(&before, 0x6B, sizeof before);
    memory = before;
    for (size_t index = 0; index < 3; index++) {
        EXPECT(lend_memory_system(&byte, lengths[index], &memory, &error), LEND_E_INVALID, &error);
        EXPECT(lend_memory_pinned(&byte, lengths[index], &memory, &error), LEND_E_INVALID, &error);
        EXPECT(lend_memory_device(65536, lengths[index], 0, &memory, &error), LEND_E_INVALID,
               &error);
        EXPECT(lend_memory_disk(0, 0, lengths[index], &memory, &error), LEND_E_INVALID, &error);
    }
    EXPECT(lend_memory_system(NULL, 1, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_pinned(NULL, 1, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_device(0, 1, 0, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_device(65536, 1, -1, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_disk(-1, 0, 1, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_disk(0, UINT64_MAX, 2, &memory, &error), LEND_E_INVALID, &error);
    EXPECT(lend_memory_system((const void *)(uintptr_t)(UINT64_MAX - 5), 7, &memory, &error),
           LEND_E_INVALID, &error);
    assert_memory_equal(&memory, &before, sizeof memory);
    EXPECT(lend_memory_system(&byte, 1, NULL, &error), LEND_E_INVALID, &error);

    assert_int_equal(lend_memory_address(NULL), 0);
    assert_int_equal(lend_memory_length_bytes(NULL), 0);
    assert_int_equal(lend_memory_storage_kind(NULL), 0);
    assert_int_equal(lend_memory_device_id(NULL), -1);
    assert_int_equal(lend_memory_is_system(NULL), 0);
    assert_int_equal(lend_memory_is_host(NULL), 0);
    EXPECT(lend_memory_descriptor(NULL, NULL, &error), LEND_E_INVALID, &error);
    char text[16];
    assert_int_equal(lend_memory_format(NULL, text, sizeof text), 6);
    assert_string_equal(text, "(none)");
}

static void test_bad_region_descriptions_are_refused(void **state)
{
    struct scene scene = scene_make(*state);
    struct lend_agent *agent = scene.pair->reader;
    struct lend_region_desc good = LEND_REGION_DESC_INIT, bad;
    struct lend_region *region = UNTOUCHED;
    struct lend_error error = {0};
    char name[LEND_REGION_NAME_BYTES_MAX + 2], tags[LEND_REGION_TAGS_BYTES_MAX + 2];

    EXPECT(pair_describe(scene.pair, pair_memory(scene.pair, PAIR_READER, BLOCK), BLOCK,
                         &good.memory, &error),
           LEND_OK, &error);
    EXPECT(lend_region_register(NULL, &good, 1, &region, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_register(agent, NULL, 1, &region, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_register(agent, &good, 0, &region, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_register(agent, &good, 1, NULL, NULL, &error), LEND_E_INVALID, &error);

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memset(tags, 't', sizeof tags - 1);
    tags[sizeof tags - 1] = '\0';
    for (uint32_t fault = 0; fault < 12; fault++) {
        enum lend_status wanted = LEND_E_INVALID;

        bad = good;
        switch (fault) {
        case 0: bad.flags = 0x40; break;
        case 1: bad.access = 4; break;
        case 2: bad.flags = 1u << 30; break;
        case 3: bad.name = name; break;
        case 4: bad.tags = tags; break;
        case 5: bad.memory.kind = 77; break;
        case 6: bad.memory.length_bytes = 0; break;
        case 7: bad.memory.address = 0; break;
        case 8: bad.memory.length_bytes = UINT64_MAX - 5; break;
        case 9: bad.struct_size = 0, wanted = LEND_E_VERSION; break;
        case 10: bad.struct_size = 5, wanted = LEND_E_VERSION; break;
        default: bad.memory.struct_size = 1; break;
        }
        int32_t result = 9;
        enum lend_status status = lend_region_register(agent, &bad, 1, &region, &result, &error);

        if (status != wanted)
            fail_msg("fault %u: %s: %s", fault, lend_status_name(status), error.message);
        assert_true(error.message[0] != '\0');
        assert_int_equal(result, wanted);
        assert_ptr_equal(region, UNTOUCHED);
    }
    EXPECT(lend_region_withdraw(scene.lent, 0, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_withdraw(scene.lent, 3, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_withdraw(NULL, LEND_WITHDRAW_FORCE, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_deregister(NULL, &error), LEND_E_INVALID, &error);
    struct lend_region_info info = {.struct_size = sizeof info};
    EXPECT(lend_region_describe(scene.lent, &info, &error), LEND_OK, &error);
    assert_int_equal(info.is_withdrawn, 0);
    EXPECT(lend_region_describe(scene.lent, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_describe(NULL, &info, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_memory(scene.lent, NULL, &error), LEND_E_INVALID, &error);
    info.struct_size = 2;
    EXPECT(lend_region_describe(scene.lent, &info, &error), LEND_E_VERSION, &error);
    scene_end(&scene);
}

static void refuse_grant(struct lend_agent *agent, const struct lend_grant_desc *desc,
                         enum lend_status wanted)
{
    struct lend_lease *lease = UNTOUCHED;
    struct lend_error error = {0};
    uint32_t count = 9;

    EXPECT(lend_lease_grant(agent, desc, &lease, &error), wanted, &error);
    assert_ptr_equal(lease, UNTOUCHED);
    EXPECT(lend_lease_list(agent, NULL, 0, &count, &error), LEND_OK, &error);
    assert_int_equal(count, 0);
}

static void test_bad_grants_are_refused(void **state)
{
    struct scene scene = scene_make(*state);
    struct lend_agent *agent = scene.pair->reader;
    struct lend_block_set set = {.regions = &scene.lent, .region_count = 1}, bad_set;
    struct lend_grant_desc good = LEND_GRANT_DESC_INIT, bad;
    struct lend_region *none = NULL;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    good.sets = &set;
    good.set_count = 1;
    good.access = LEND_ACCESS_READ;
    good.time_to_live_ns = 60 * SECONDS;
    EXPECT(lend_lease_grant(NULL, &good, &lease, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_grant(agent, &good, NULL, &error), LEND_E_INVALID, &error);
    refuse_grant(agent, NULL, LEND_E_INVALID);
    for (uint32_t fault = 0; fault < 8; fault++) {
        bad = good;
        switch (fault) {
        case 0: bad.sets = NULL; break;
        case 1: bad.set_count = 0; break;
        case 2: bad.set_count = LEND_GRANT_SETS_MAX + 1; break;
        case 3: bad.access = 0; break;
        case 4: bad.access = 8 | LEND_ACCESS_READ; break;
        case 5: bad.time_to_live_ns = 0; break;
        case 6: bad.peer = scene.other_peer; break;
        default: bad.struct_size = 1; break;
        }
        refuse_grant(agent, &bad, fault < 7 ? LEND_E_INVALID : LEND_E_VERSION);
    }

    static const int32_t beyond[] = {0, 3, 4}, negative[] = {-1};
    for (uint32_t fault = 0; fault < 10; fault++) {
        bool is_range = false;

        bad_set = set;
        bad = good;
        bad.sets = &bad_set;
        switch (fault) {
        case 0: bad_set.regions = NULL; break;
        case 1: bad_set.region_count = 0; break;
        case 2: bad_set.regions = &none; break;
        case 3: bad_set.regions = &scene.other_region; break;
        case 4: bad_set.blocks = beyond, bad_set.count = 0, bad_set.index_bits = 32; break;
        case 5: bad_set.blocks = beyond, bad_set.count = 2, bad_set.index_bits = 16; break;
        case 6:
            bad_set.blocks = beyond, bad_set.count = 3, bad_set.index_bits = 32, is_range = true;
            break;
        case 7:
            bad_set.blocks = negative, bad_set.count = 1, bad_set.index_bits = 32, is_range = true;
            break;
        case 8: bad_set.first = 4, is_range = true; break;
        default: bad_set.first = 1, bad_set.count = UINT64_MAX, is_range = true; break;
        }
        refuse_grant(agent, &bad, is_range ? LEND_E_OUT_OF_RANGE : LEND_E_INVALID);
    }
    bad_set = (struct lend_block_set){
        .regions = &scene.lent, .region_count = 1, .index_bits = 32, .blocks = beyond, .count = 3};
    assert_int_equal(lend_lease_grant(agent, &bad, &lease, &error), LEND_E_OUT_OF_RANGE);
    SAYS(&error, "4"); /* the number */
    SAYS(&error, "2"); /* its position */
    scene_end(&scene);
}

static void test_bad_use_of_leases_is_refused(void **state)
{
    struct scene scene = scene_make(*state);
    struct lend_agent *agent = scene.pair->reader;
    struct lend_lease *lease = grant_all(agent, scene.lent);
    struct lend_lease_info info = {.struct_size = sizeof info};
    struct lend_block_set set = {.regions = &scene.other_region, .region_count = 1};
    struct lend_error error = {0};
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    uint32_t ended = 9;
    size_t count = 0;

    EXPECT(lend_lease_renew(NULL, 1, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_renew(lease, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_revoke(NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_revoke_blocks(NULL, &set, &ended, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_revoke_blocks(agent, NULL, &ended, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_revoke_blocks(agent, &set, &ended, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_describe(NULL, &info, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_describe(lease, NULL, &error), LEND_E_INVALID, &error);
    info.struct_size = 7;
    EXPECT(lend_lease_describe(lease, &info, &error), LEND_E_VERSION, &error);
    EXPECT(lend_lease_list(agent, &info, 1, &ended, &error), LEND_E_VERSION, &error);
    EXPECT(lend_lease_list(agent, NULL, 1, &ended, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_list(NULL, NULL, 0, &ended, &error), LEND_E_INVALID, &error);
    EXPECT(lend_lease_list(agent, NULL, 0, NULL, &error), LEND_E_INVALID, &error);

    EXPECT(lend_ticket_export(NULL, bytes, sizeof bytes, &count, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_export(lease, NULL, sizeof bytes, &count, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_export(lease, bytes, sizeof bytes, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_export(lease, bytes, sizeof bytes, &count, &error), LEND_OK, &error);
    memset(bytes, 0x5C, sizeof bytes);
    size_t needed = count;
    char text[24];
    EXPECT(lend_ticket_export(lease, bytes, needed - 1, &count, &error), LEND_E_INVALID, &error);
    (void)snprintf(text, sizeof text, "%zu", needed);
    SAYS(&error, text);
    assert_true(is_filled(bytes + needed - 1, sizeof bytes - needed + 1, 0x5C));

    info.struct_size = sizeof info;
    EXPECT(lend_lease_describe(lease, &info, &error), LEND_OK, &error);
    assert_int_equal(info.status, LEND_OK);
    EXPECT(lend_lease_describe(scene.other_lease, &info, &error), LEND_OK, &error);
    assert_int_equal(info.status, LEND_OK);
    scene_end(&scene);
}

static void test_bad_use_of_tickets_and_peers_is_refused(void **state)
{
    struct scene scene = scene_make(*state);
    struct lend_agent *agent = scene.pair->reader;
    struct lend_peer *peer = UNTOUCHED;
    struct lend_ticket *ticket = UNTOUCHED;
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_region_info region = {.struct_size = sizeof region};
    struct lend_error error = {0};
    uint8_t bytes[64] = {0};
    uint64_t id = 7;
    size_t count = 0;

    EXPECT(lend_ticket_import(NULL, bytes, sizeof bytes, &ticket, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_import(scene.pair->peer, NULL, 4, &ticket, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_import(scene.pair->peer, bytes, 4, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_import(scene.pair->peer, bytes, sizeof bytes, &ticket, &error),
           LEND_E_CORRUPT, &error);
    EXPECT(lend_ticket_done(NULL, &error), LEND_E_INVALID, &error);
    assert_ptr_equal(ticket, UNTOUCHED);

    EXPECT(lend_metadata_export(NULL, bytes, sizeof bytes, &count, &error), LEND_E_INVALID, &error);
    EXPECT(lend_metadata_export(agent, bytes, sizeof bytes, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_metadata_export(agent, NULL, 10, &count, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_import(NULL, bytes, sizeof bytes, &peer, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_import(agent, NULL, 4, &peer, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_import(agent, bytes, 4, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_import(agent, bytes, (size_t)LEND_METADATA_BYTES_MAX + 1, &peer, &error),
           LEND_E_CORRUPT, &error);
    assert_ptr_equal(peer, UNTOUCHED);

    peer = scene.pair->peer;
    EXPECT(lend_peer_connect(NULL, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_describe(NULL, &info, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_describe(peer, NULL, &error), LEND_E_INVALID, &error);
    info.struct_size = 6;
    EXPECT(lend_peer_describe(peer, &info, &error), LEND_E_VERSION, &error);
    EXPECT(lend_peer_region(NULL, "x", &id, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_region(peer, NULL, &id, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_region(peer, "x", NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_region(peer, "", &id, &error), LEND_E_ABSENT, &error);
    EXPECT(lend_peer_region_at(NULL, 0, &region, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_region_at(peer, 0, NULL, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_region_at(peer, UINT32_MAX, &region, &error), LEND_E_OUT_OF_RANGE, &error);
    region.struct_size = 6;
    EXPECT(lend_peer_region_at(peer, 0, &region, &error), LEND_E_VERSION, &error);
    assert_int_equal(id, 7);

    struct lend_notification_info note = {.struct_size = 3};
    EXPECT(lend_notification_receive(NULL, bytes, 1, &count, NULL, 0, &error), LEND_E_INVALID,
           &error);
    EXPECT(lend_notification_receive(agent, NULL, 1, &count, NULL, 0, &error), LEND_E_INVALID,
           &error);
    EXPECT(lend_notification_receive(agent, bytes, 1, NULL, NULL, 0, &error), LEND_E_INVALID,
           &error);
    EXPECT(lend_notification_receive(agent, bytes, 1, &count, &note, 0, &error), LEND_E_VERSION,
           &error);
    scene_end(&scene);
}

static void refuse_prepare(struct scene *scene, const struct lend_transfer_desc *desc,
                           enum lend_status wanted, struct lend_error *error)
{
    struct lend_transfer *transfer = UNTOUCHED;

    EXPECT(lend_transfer_prepare(scene->pair->reader, desc, &transfer, error), wanted, error);
    assert_ptr_equal(transfer, UNTOUCHED);
}

static struct lend_transfer_desc good_transfer(struct scene *scene)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = scene->pair->peer;
    desc.paths = pair_must_name(scene->pair);
    desc.local_regions = &scene->local.region;
    desc.remote_regions = &scene->remote.id;
    desc.block_count_max = 4;
    return desc;
}

static void test_bad_transfers_are_not_prepared(void **state)
{
    struct scene scene = scene_make(*state);
    struct lend_transfer_desc good = good_transfer(&scene), bad;
    struct lend_transfer *transfer = NULL;
    struct lend_region *none = NULL;
    struct lend_error error = {0};
    uint64_t unknown = 999999;

    EXPECT(lend_transfer_prepare(NULL, &good, &transfer, &error), LEND_E_INVALID, &error);
    EXPECT(lend_transfer_prepare(scene.pair->reader, &good, NULL, &error), LEND_E_INVALID, &error);
    refuse_prepare(&scene, NULL, LEND_E_INVALID, &error);
    for (uint32_t fault = 0; fault < 19; fault++) {
        enum lend_status wanted = LEND_E_INVALID;

        bad = good;
        switch (fault) {
        case 0: bad.flags = 0x100; break;
        case 1: bad.direction = 0; break;
        case 2: bad.direction = 3; break;
        case 3: bad.peer = NULL; break;
        case 4: bad.peer = scene.other_peer; break;
        case 5: bad.local_regions = NULL; break;
        case 6: bad.remote_regions = NULL; break;
        case 7: bad.local_regions = &none; break;
        case 8: bad.local_regions = &scene.other_region; break;
        case 9: bad.local_slice.length_bytes = 100; break; /* unequal to the whole row */
        case 10: bad.local_slice = (struct lend_slice){BLOCK, 1}; break;
        case 11: bad.remote_slice = (struct lend_slice){1, BLOCK}; break;
        case 12: bad.remote_slice = (struct lend_slice){UINT64_MAX, 2}; break;
        case 13: bad.local_slice = (struct lend_slice){2, UINT64_MAX}; break;
        case 14: bad.local_slice = (struct lend_slice){5, 0}; break;
        case 15: bad.block_count_max = 0; break;
        case 16: bad.remote_regions = &unknown, wanted = LEND_E_UNKNOWN; break;
        case 17: bad.block_count_max = (1 << 24) + 1, wanted = LEND_E_LIMIT; break;
        default: bad.struct_size = 4, wanted = LEND_E_VERSION; break;
        }
        refuse_prepare(&scene, &bad, wanted, &error);
    }
    bad = good;
    bad.local_slice.length_bytes = 100;
    refuse_prepare(&scene, &bad, LEND_E_INVALID, &error);
    SAYS(&error, "100");
    SAYS(&error, "4096");
    bad = good;
    bad.remote_regions = &unknown;
    refuse_prepare(&scene, &bad, LEND_E_UNKNOWN, &error);
    SAYS(&error, "999999");

    struct loan readable = lend_memory_of(
        scene.pair, (struct lend_geometry){.block_length_bytes = BLOCK, .count = BLOCKS},
        LEND_ACCESS_READ, NULL);
    bad = good;
    bad.remote_regions = &readable.id;
    bad.direction = LEND_WRITE;
    refuse_prepare(&scene, &bad, LEND_E_ACCESS, &error);
    EXPECT(lend_region_withdraw(scene.lent, LEND_WITHDRAW_FORCE, 0, &error), LEND_OK, &error);
    bad = good;
    bad.local_regions = &scene.lent;
    refuse_prepare(&scene, &bad, LEND_E_REVOKED, &error);
    scene_end(&scene);
}

static void test_bad_posts_are_refused(void **state)
{
    static const int32_t blocks[] = {0, 1, 2, 3, 4};
    static const struct lend_range ranges[] = {{4096, 1}};
    struct scene scene = scene_make(*state);
    struct lend_transfer_desc desc = good_transfer(&scene);
    struct lend_transfer *transfer = NULL;
    struct lend_post_desc good = LEND_POST_DESC_INIT, bad;
    static uint8_t note[LEND_NOTIFICATION_BYTES_MAX + 1];
    struct lend_error error = {0};

    EXPECT(lend_transfer_prepare(scene.pair->reader, &desc, &transfer, &error), LEND_OK, &error);
    good.ticket = scene.remote.ticket;
    good.local_blocks = good.remote_blocks = blocks;
    good.block_count = 4;
    EXPECT(lend_transfer_post(NULL, &good, &error), LEND_E_INVALID, &error);
    EXPECT(lend_transfer_post(transfer, NULL, &error), LEND_E_INVALID, &error);
    for (uint32_t fault = 0; fault < 11; fault++) {
        bad = good;
        switch (fault) {
        case 0: bad.ticket = NULL; break;
        case 1: bad.local_blocks = NULL; break;
        case 2: bad.remote_blocks = NULL; break;
        case 3: bad.block_count = 0; break;
        case 4: bad.block_count = 5; break;
        case 5: bad.block_count = UINT64_MAX; break;
        case 6: bad.index_bits = 16; break;
        case 7: bad.notification = note, bad.notification_bytes = sizeof note; break;
        case 8: bad.notification_bytes = 3; break;
        case 9: bad.range_count = 1, bad.local_ranges = bad.remote_ranges = ranges; break;
        default: bad.struct_size = 8; break;
        }
        enum lend_status wanted = fault < 10 ? LEND_E_INVALID : LEND_E_VERSION;
        enum lend_status status = lend_transfer_post(transfer, &bad, &error);

        if (status != wanted)
            fail_msg("fault %u: %s: %s", fault, lend_status_name(status), error.message);
        assert_true(error.message[0] != '\0');
        assert_int_equal(lend_transfer_test(transfer), LEND_E_INVALID); /* never posted */
    }
    assert_true(is_filled(scene.local.memory, scene.local.bytes, 0));
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    assert_int_equal(lend_transfer_test(NULL), LEND_E_INVALID);
    assert_int_equal(lend_transfer_wait(NULL, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_cancel(NULL, 0), LEND_E_INVALID);
    assert_int_equal(lend_transfer_describe(NULL, NULL, NULL), LEND_E_INVALID);
    scene_end(&scene);
}

static void test_bad_ranges_are_refused(void **state)
{
    struct scene scene = scene_make(*state);
    uint64_t mine = pair_address(scene.pair, scene.local.memory);
    uint64_t theirs = pair_address(scene.pair, scene.remote.memory);
    const struct {
        struct lend_range local;
        struct lend_range remote;
        enum lend_status wanted;
    } cases[] = {
        {{mine, 10}, {theirs, 11}, LEND_E_INVALID},
        {{mine, 0}, {theirs, 0}, LEND_E_INVALID},
        {{mine - 1, 10}, {theirs, 10}, LEND_E_OUT_OF_RANGE},
        {{mine + BLOCKS * BLOCK - 9, 10}, {theirs, 10}, LEND_E_OUT_OF_RANGE},
        {{mine, 10}, {theirs - 1, 10}, LEND_E_OUT_OF_RANGE},
        {{mine, 10}, {theirs + BLOCKS * BLOCK - 9, 10}, LEND_E_OUT_OF_RANGE},
        {{mine, UINT64_MAX - 5}, {theirs, UINT64_MAX - 5}, LEND_E_OUT_OF_RANGE},
        {{UINT64_MAX - 5, 10}, {theirs, 10}, LEND_E_OUT_OF_RANGE},
        {{mine, 10}, {UINT64_MAX - 5, 10}, LEND_E_OUT_OF_RANGE},
        {{0, 10}, {theirs, 10}, LEND_E_OUT_OF_RANGE},
    };
    static const int32_t blocks[] = {0};
    struct lend_transfer_desc desc = good_transfer(&scene);
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};

    desc.region_count = 0;
    EXPECT(lend_transfer_prepare(scene.pair->reader, &desc, &transfer, &error), LEND_OK, &error);
    post.ticket = scene.remote.ticket;
    post.range_count = 1;
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        post.local_ranges = &cases[index].local;
        post.remote_ranges = &cases[index].remote;
        EXPECT(lend_transfer_post(transfer, &post, &error), cases[index].wanted, &error);
        assert_int_equal(lend_transfer_test(transfer), LEND_E_INVALID);
    }
    post.local_ranges = NULL;
    EXPECT(lend_transfer_post(transfer, &post, &error), LEND_E_INVALID, &error);
    post.local_ranges = &cases[0].local;
    post.range_count = 0;
    EXPECT(lend_transfer_post(transfer, &post, &error), LEND_E_INVALID, &error);
    post.range_count = 5; /* more than was prepared for */
    EXPECT(lend_transfer_post(transfer, &post, &error), LEND_E_INVALID, &error);
    post = (struct lend_post_desc)LEND_POST_DESC_INIT;
    post.ticket = scene.remote.ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = 1;
    EXPECT(lend_transfer_post(transfer, &post, &error), LEND_E_INVALID, &error);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    scene_end(&scene);
}

static void four_transfers(struct lend_agent_config *config, bool is_owner)
{
    if (!is_owner)
        config->transfers_max = 4;
}

static void test_limit_of_transfers_is_named(void **state)
{
    struct pair *pair = pair_make(battery_current, four_transfers);
    struct loan remote = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_transfer *transfers[5] = {NULL};
    struct move move = {.direction = LEND_READ, .local = &local, .remote = &remote, .count = 1};

    (void)state;
    for (size_t index = 0; index < 4; index++)
        EXPECT(move_prepare(pair, &move, &transfers[index]), LEND_OK, &move.error);
    EXPECT(move_prepare(pair, &move, &transfers[4]), LEND_E_LIMIT, &move.error);
    SAYS(&move.error, "4");
    assert_int_equal(lend_transfer_release(transfers[0]), LEND_OK);
    EXPECT(move_prepare(pair, &move, &transfers[0]), LEND_OK, &move.error);
    for (size_t index = 0; index < 4; index++)
        assert_int_equal(lend_transfer_release(transfers[index]), LEND_OK);
    drop(&remote);
    pair_free(pair);
}

const struct CMUnitTest *battery_input(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_agent_with_bad_configuration_is_not_made),
        PAIRED(test_agent_with_values_out_of_range_is_not_made),
        PAIRED(test_folder_that_is_absent_is_named),
        cmocka_unit_test(test_agent_that_cannot_listen_as_told_is_not_made),
        cmocka_unit_test(test_agent_functions_take_null),
        cmocka_unit_test(test_memory_that_cannot_be_is_not_described),
        PAIRED(test_bad_region_descriptions_are_refused),
        PAIRED(test_bad_grants_are_refused),
        PAIRED(test_bad_use_of_leases_is_refused),
        PAIRED(test_bad_use_of_tickets_and_peers_is_refused),
        PAIRED(test_bad_transfers_are_not_prepared),
        PAIRED(test_bad_posts_are_refused),
        PAIRED(test_bad_ranges_are_refused),
        cmocka_unit_test(test_limit_of_transfers_is_named),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
