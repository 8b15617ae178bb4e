/* SPDX-License-Identifier: Apache-2.0 */
#include "talk.h"

#include "base/sys.h"

static struct lend_sys_ops fixed;
static uint8_t seed; /* of the random bytes that are made next */

static int fill(void *bytes, size_t count)
{
    memset(bytes, seed, count);
    return 0;
}

static void fix_chance(uint8_t with)
{
    fixed = lend_sys_real;
    fixed.random = fill;
    seed = with;
    lend_sys = &fixed;
}

uint8_t talk_written(size_t at)
{
    return (uint8_t)(at * 3 + 1);
}

uint8_t talk_owned(size_t at)
{
    return (uint8_t)(0xff - at);
}

static struct lend_agent *make_agent(const char *name, uint8_t with)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;

    fix_chance(with);
    config.name = name;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    return agent;
}

static struct lend_region *lend_bytes(struct lend_agent *agent, void *memory, const char *name)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, TALK_BYTES, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = TALK_BLOCK_BYTES;
    desc.geometry.count = TALK_BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.name = name;
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

void talk_owner(struct talk *talk)
{
    const struct lend_block_set set = {.regions = &talk->lent, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;

    for (size_t i = 0; i < TALK_BYTES; i++)
        talk->lent_memory[i] = talk_owned(i);
    talk->owner = make_agent("owner", 0x11);
    talk->lent = lend_bytes(talk->owner, talk->lent_memory, "lent");
    fix_chance(0x33);
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.sets = &set;
    desc.set_count = 1;
    desc.consumer_count = 1;
    desc.time_to_live_ns = UINT64_C(1) << 62; /* whenever it is played again */
    assert_int_equal(lend_lease_grant(talk->owner, &desc, &talk->lease, NULL), LEND_OK);
    assert_int_equal(lend_metadata_export(talk->owner, talk->metadata, sizeof talk->metadata,
                                          &talk->metadata_count, NULL),
                     LEND_OK);
    assert_int_equal(lend_ticket_export(talk->lease, talk->ticket_bytes, sizeof talk->ticket_bytes,
                                        &talk->ticket_count, NULL),
                     LEND_OK);
}

void talk_reader(struct talk *talk, const void *metadata, size_t metadata_count, const void *ticket,
                 size_t ticket_count)
{
    talk->reader = make_agent("reader", 0x22);
    talk->kept = lend_bytes(talk->reader, talk->kept_memory, NULL);
    assert_int_equal(lend_peer_import(talk->reader, metadata, metadata_count, &talk->peer, NULL),
                     LEND_OK);
    assert_int_equal(lend_ticket_import(talk->peer, ticket, ticket_count, &talk->ticket, NULL),
                     LEND_OK);
}

void talk_end(struct talk *talk)
{
    if (talk->transfer != NULL)
        assert_int_equal(lend_transfer_release(talk->transfer), LEND_OK);
    if (talk->reader != NULL) {
        lend_ticket_release(talk->ticket);
        lend_peer_forget(talk->peer);
        lend_agent_destroy(talk->reader);
    }
    if (talk->owner != NULL) {
        lend_lease_release(talk->lease);
        lend_agent_destroy(talk->owner);
    }
    lend_sys = &lend_sys_real;
}

static void post(struct talk *talk, uint32_t direction)
{
    static const int32_t blocks[TALK_BLOCKS] = {1, 0};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    uint64_t remote = 0;

    if (talk->transfer != NULL)
        assert_int_equal(lend_transfer_release(talk->transfer), LEND_OK);
    assert_int_equal(lend_peer_region(talk->peer, "lent", &remote, NULL), LEND_OK);
    desc.direction = direction;
    desc.peer = talk->peer;
    desc.region_count = 1;
    desc.local_regions = &talk->kept;
    desc.remote_regions = &remote;
    desc.block_count_max = TALK_BLOCKS;
    assert_int_equal(lend_transfer_prepare(talk->reader, &desc, &talk->transfer, NULL), LEND_OK);
    post.ticket = talk->ticket;
    post.index_bits = 32;
    post.local_blocks = blocks;
    post.remote_blocks = blocks;
    post.block_count = TALK_BLOCKS;
    assert_int_equal(lend_transfer_post(talk->transfer, &post, NULL), LEND_OK);
}

void talk_begin(struct talk *talk, enum talk_step step)
{
    switch (step) {
    case TALK_CONNECT:
        assert_int_equal(lend_peer_connect(talk->peer, 0, NULL), LEND_E_TIMEOUT);
        break;
    case TALK_WRITE:
        for (size_t i = 0; i < TALK_BYTES; i++)
            talk->kept_memory[i] = talk_written(i);
        post(talk, LEND_WRITE);
        break;
    case TALK_READ:
        memset(talk->kept_memory, 0, TALK_BYTES);
        post(talk, LEND_READ);
        break;
    case TALK_NOTIFY:
        assert_int_equal(
            lend_notification_send(talk->peer, TALK_NOTIFICATION, sizeof TALK_NOTIFICATION, NULL),
            LEND_OK);
        break;
    case TALK_DONE: assert_int_equal(lend_ticket_done(talk->ticket, NULL), LEND_OK); break;
    case TALK_STEPS: break;
    }
}

bool talk_is_well(struct talk *talk, enum talk_step step)
{
    struct lend_peer_info info = {.struct_size = sizeof info};

    if (step == TALK_WRITE || step == TALK_READ) {
        if (lend_transfer_test(talk->transfer) != LEND_OK)
            return false;
        for (size_t i = 0; i < TALK_BYTES; i++)
            if (talk->kept_memory[i] != talk_written(i))
                return false;
        return true;
    }
    assert_int_equal(lend_peer_describe(talk->peer, &info, NULL), LEND_OK);
    return info.status == LEND_OK;
}
