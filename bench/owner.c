/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

/* The owner: it lends its memory, and then does what the reader asks. */

struct owner {
    int fd;
    struct lend_agent *agent;
    unsigned char *memory;
    struct lend_region *regions[LAYOUTS_MAX];
    struct lend_peer *reader;
};

static struct lend_lease *grant(struct lend_agent *agent, struct lend_region *const *regions,
                                uint32_t count, uint32_t access)
{
    const struct lend_block_set set = {.regions = regions, .region_count = count};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = access;
    desc.time_to_live_ns = 3600 * NS_PER_S;
    check(lend_lease_grant(agent, &desc, &lease, &error), &error);
    return lease;
}

static void greet(struct owner *owner)
{
    struct lend_lease *lease =
        grant(owner->agent, owner->regions, layout_count, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    struct hello mine = {0}, theirs;
    struct lend_error error;

    export_metadata(owner->agent, &mine);
    check(lend_ticket_export(lease, mine.ticket, sizeof mine.ticket, &mine.ticket_bytes, &error),
          &error);
    say(owner->fd, &mine, sizeof mine);
    hear(owner->fd, &theirs, sizeof theirs);
    check(lend_peer_import(owner->agent, theirs.metadata, theirs.metadata_bytes, &owner->reader,
                           &error),
          &error);
    check(lend_peer_connect(owner->reader, 5 * NS_PER_S, &error), &error);
}

static void echo(struct owner *owner, uint32_t count)
{
    struct lend_error error;
    unsigned char bytes[64];

    for (uint32_t i = 0; i < count; i++) {
        size_t got = 0;

        check(lend_notification_receive(owner->agent, bytes, sizeof bytes, &got, NULL,
                                        10 * NS_PER_S, &error),
              &error);
        check(lend_notification_send(owner->reader, bytes, got, &error), &error);
    }
}

static uint64_t revoke_once(struct owner *owner)
{
    struct lend_lease *lease = grant(owner->agent, owner->regions, 1, LEND_ACCESS_READ);
    struct lend_error error;

    uint64_t began = now_ns();
    check(lend_lease_revoke(lease, &error), &error);
    uint64_t took = now_ns() - began;
    lend_lease_release(lease);
    return took;
}

/* Memory apart from what the reader pulls. */
static uint64_t withdraw_once(struct owner *owner, unsigned char *memory, uint64_t bytes)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error;

    check(lend_memory_system(memory, bytes, &desc.memory, &error), &error);
    desc.access = LEND_ACCESS_READ;
    check(lend_region_register(owner->agent, &desc, 1, &region, NULL, &error), &error);

    uint64_t began = now_ns();
    check(lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, NS_PER_S, &error), &error);
    uint64_t took = now_ns() - began;
    check(lend_region_deregister(region, &error), &error);
    return took;
}

static void end(struct owner *owner, uint32_t count)
{
    enum { APART_BYTES = 1 << 20 };
    unsigned char *memory = take_memory(APART_BYTES, 0);
    uint64_t *samples = calloc(count, sizeof *samples);
    struct end_report report = {0};

    if (samples == NULL)
        exit(1);
    for (uint32_t i = 0; i < count; i++)
        samples[i] = revoke_once(owner);
    report.revoke_ns = median(samples, count);
    for (uint32_t i = 0; i < count; i++)
        samples[i] = withdraw_once(owner, memory, APART_BYTES);
    report.withdraw_ns = median(samples, count);
    free(samples);
    say(owner->fd, &report, sizeof report);
}

_Noreturn void be_owner(int fd, uint32_t ring_bytes)
{
    struct owner owner = {.fd = fd};
    struct command command = {0};

    owner.memory = take_memory(memory_bytes(), 0x5a);
    owner.agent = open_agent("bench-owner", ring_bytes);
    register_layouts(owner.agent, owner.memory, LEND_ACCESS_READ | LEND_ACCESS_WRITE,
                     owner.regions);
    greet(&owner);
    for (;;) {
        hear(fd, &command, sizeof command);
        if (command.order == ORDER_QUIT)
            break;
        if (command.order == ORDER_ECHO)
            echo(&owner, command.count);
        else
            end(&owner, command.count);
    }
    lend_agent_destroy(owner.agent);
    exit(0);
}
