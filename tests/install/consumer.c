/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user's program, as small as one can be that does the main job: it lends memory, reads it back
 * through a second agent over transport loopback, and checks every byte. It is C11 and C++17, and
 * is built against an installed lend in every way that docs/install.md tells.
 */
#include <lend/lend.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 4096, BLOCK_COUNT = 16, PULLED_COUNT = 4 };

static unsigned char owned[BLOCK_BYTES * BLOCK_COUNT];
static unsigned char pulled[BLOCK_BYTES * PULLED_COUNT];

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    fprintf(stderr, "consumer: %s: %s\n", lend_status_name(status), error->message);
    exit(1);
}

static struct lend_agent *open_agent(const char *name)
{
    struct lend_error error;
    struct lend_agent *agent = NULL;
    struct lend_agent_config config;

    lend_agent_config_init(&config);
    config.name = name;
    config.transports = "loopback";
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *register_blocks(struct lend_agent *agent, unsigned char *bytes,
                                           uint64_t count, uint32_t access)
{
    struct lend_error error;
    struct lend_region *region = NULL;
    struct lend_region_desc desc;

    lend_region_desc_init(&desc);
    check(lend_memory_system(bytes, count * BLOCK_BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = count;
    desc.access = access;
    desc.name = "tensor";
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static struct lend_lease *grant_all(struct lend_agent *agent, struct lend_region *region)
{
    struct lend_error error;
    struct lend_lease *lease = NULL;
    struct lend_block_set set;
    struct lend_grant_desc grant;

    memset(&set, 0, sizeof set);
    set.regions = &region;
    set.region_count = 1;
    set.count = BLOCK_COUNT;
    lend_grant_desc_init(&grant);
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = UINT64_C(60000000000);
    check(lend_lease_grant(agent, &grant, &lease, &error), &error);
    return lease;
}

/* Read the blocks of that name and those numbers, and return when they are here. */
static void pull(struct lend_agent *agent, struct lend_peer *peer, struct lend_ticket *ticket,
                 struct lend_region *local, const int32_t *numbers)
{
    static const int32_t ours[PULLED_COUNT] = {0, 1, 2, 3};
    struct lend_error error;
    uint64_t remote = 0;
    struct lend_transfer *transfer = NULL;
    struct lend_transfer_desc desc;
    struct lend_post_desc post;

    check(lend_peer_region(peer, "tensor", &remote, &error), &error);
    lend_transfer_desc_init(&desc);
    desc.direction = LEND_READ;
    desc.peer = peer;
    desc.local_regions = &local;
    desc.remote_regions = &remote;
    desc.region_count = 1;
    desc.block_count_max = PULLED_COUNT;
    check(lend_transfer_prepare(agent, &desc, &transfer, &error), &error);

    lend_post_desc_init(&post);
    post.ticket = ticket;
    post.local_blocks = ours;
    post.remote_blocks = numbers;
    post.block_count = PULLED_COUNT;
    check(lend_transfer_post(transfer, &post, &error), &error);
    memset(&error, 0, sizeof error);
    check(lend_transfer_wait(transfer, UINT64_C(30000000000)), &error);
    check(lend_transfer_release(transfer), &error);
}

int main(void)
{
    static const int32_t numbers[PULLED_COUNT] = {11, 2, 15, 8};
    static unsigned char metadata[65536];
    unsigned char told[LEND_TICKET_BYTES_MAX];
    size_t metadata_bytes = 0;
    size_t told_bytes = 0;
    size_t wrong = 0;
    struct lend_error error;

    for (size_t i = 0; i < sizeof owned; i++)
        owned[i] = (unsigned char)(1 + i / BLOCK_BYTES + i % 127);
    struct lend_agent *owner = open_agent("owner");
    struct lend_agent *reader = open_agent("reader");
    struct lend_region *lent = register_blocks(owner, owned, BLOCK_COUNT, LEND_ACCESS_READ);
    struct lend_region *local = register_blocks(reader, pulled, PULLED_COUNT, 0);
    struct lend_lease *lease = grant_all(owner, lent);
    check(lend_metadata_export(owner, metadata, sizeof metadata, &metadata_bytes, &error), &error);
    check(lend_ticket_export(lease, told, sizeof told, &told_bytes, &error), &error);

    struct lend_peer *peer = NULL;
    struct lend_ticket *ticket = NULL;
    check(lend_peer_import(reader, metadata, metadata_bytes, &peer, &error), &error);
    check(lend_ticket_import(peer, told, told_bytes, &ticket, &error), &error);
    pull(reader, peer, ticket, local, numbers);
    for (size_t i = 0; i < sizeof pulled; i++)
        wrong +=
            pulled[i] != owned[(size_t)numbers[i / BLOCK_BYTES] * BLOCK_BYTES + i % BLOCK_BYTES];

    check(lend_lease_revoke(lease, &error), &error);
    check(lend_region_withdraw(lent, LEND_WITHDRAW_FORCE, UINT64_C(5000000000), &error), &error);
    lend_ticket_release(ticket);
    lend_peer_forget(peer);
    lend_lease_release(lease);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
    printf("lend %s: %zu bytes, %zu wrong\n", lend_version(), sizeof pulled, wrong);
    return wrong == 0 ? 0 : 1;
}
