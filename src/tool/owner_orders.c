/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/actor.h"

#include "tool/gpu.h"
#include "tool/trouble.h"

#include <lend/notification.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the owner does when it is told. Each is an actor_handler. */

static const uint64_t look_ns = 200000;
static const uint64_t stray_time_to_live_ns = 1000000000;
static const uint64_t filler_time_to_live_ns = 20000000;

static enum lend_status open_agent(struct actor *actor, struct lend_error *error)
{
    actor->endpoint.leases_max = actor->order.leases_max;
    actor->endpoint.slot_rest_ns = actor->order.slot_rest_ns;
    return endpoint_create(&actor->endpoint, "owner", &actor->lender.agent, error);
}

static enum lend_status export_metadata(struct actor *actor, struct lend_error *error)
{
    size_t count = 0;
    enum lend_status status = lend_metadata_export(actor->lender.agent, actor->report.bytes_sent,
                                                   sizeof actor->report.bytes_sent, &count, error);

    actor->report.byte_count = status == LEND_OK ? (uint32_t)count : 0;
    return status == LEND_OK ? actor_tell_address(actor, actor->lender.agent, error) : status;
}

static enum lend_status export_ticket(struct actor *actor, const struct lend_lease *lease,
                                      struct lend_error *error)
{
    size_t count = 0;
    enum lend_status status = lend_ticket_export(lease, actor->report.bytes_sent,
                                                 sizeof actor->report.bytes_sent, &count, error);

    actor->report.byte_count = status == LEND_OK ? (uint32_t)count : 0;
    return status;
}

/* Let whoever asks have the ticket that was reported, if we listen. */
static enum lend_status attach_ticket(struct actor *actor, struct lend_error *error)
{
    const struct report *report = &actor->report;

    if (actor->endpoint.listen == NULL)
        return LEND_OK;
    enum lend_status status =
        lend_agent_attach(actor->lender.agent, report->bytes_sent, report->byte_count, error);
    return status == LEND_OK ? actor_tell_address(actor, actor->lender.agent, error) : status;
}

static enum lend_status lend_cache(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;

    actor->lender.generation = order->generation;
    enum lend_status status = lender_lend(&actor->lender, &actor->endpoint, order->block_count,
                                          &actor->report.elapsed_ns, error);
    (void)snprintf(actor->report.device, sizeof actor->report.device, "%s", gpu_name());
    return status == LEND_OK ? export_metadata(actor, error) : status;
}

static enum lend_status meet(struct actor *actor, struct lend_error *error)
{
    struct lend_agent *agent = actor->lender.agent;
    struct lend_found *found = NULL;
    enum lend_status status = actor_ask(actor, agent, &found, error);

    if (status != LEND_OK)
        return status;
    status = found != NULL ? lend_peer_import(agent, found->metadata, found->metadata_bytes,
                                              &actor->lender.reader, error)
                           : lend_peer_import(agent, actor->order.bytes, actor->order.byte_count,
                                              &actor->lender.reader, error);
    lend_found_release(found);
    return status;
}

static enum lend_status grant(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;
    struct offer offer = {
        .access = order->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE,
        .consumer_count = order->consumer_count,
        .blocks = {.count = order->block_count},
        .time_to_live_ns = order->time_to_live_ns,
        .is_named = order->is_named,
    };

    if (!order->has_range) {
        enum lend_status status = actor_draw(actor, actor->lender.cache.block_count,
                                             actor_reader_blocks(order->block_count), error);
        if (status != LEND_OK)
            return status;
        offer.blocks.numbers = actor->remote;
    }
    enum lend_status status = lender_revoke(&actor->lender, error); /* the one before */
    if (status == LEND_OK)
        status = lender_grant(&actor->lender, &offer, error);
    if (status == LEND_OK)
        status = export_ticket(actor, actor->lender.lease, error);
    return status == LEND_OK ? attach_ticket(actor, error) : status;
}

/* A lease of another agent on a page of its own, which is gone when this returns. */
static enum lend_status export_stray(struct actor *actor, struct lend_error *error)
{
    static alignas(4096) unsigned char page[4096];
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_agent *agent = NULL;
    struct lend_lease *lease = NULL;
    struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc offer = LEND_GRANT_DESC_INIT;

    enum lend_status status = endpoint_create(&actor->endpoint, "stray", &agent, error);
    desc.access = LEND_ACCESS_READ;
    if (status == LEND_OK)
        status = lend_memory_system(page, sizeof page, &desc.memory, error);
    if (status == LEND_OK)
        status = lend_region_register(agent, &desc, 1, &region, NULL, error);
    offer.access = LEND_ACCESS_READ;
    offer.sets = &set;
    offer.set_count = 1;
    offer.time_to_live_ns = stray_time_to_live_ns;
    if (status == LEND_OK)
        status = lend_lease_grant(agent, &offer, &lease, error);
    if (status == LEND_OK)
        status = export_ticket(actor, lease, error);
    lend_lease_release(lease);
    lend_agent_destroy(agent);
    return status;
}

static enum lend_status restart(struct actor *actor, struct lend_error *error)
{
    lender_close(&actor->lender);

    enum lend_status status =
        endpoint_create(&actor->endpoint, "owner", &actor->lender.agent, error);
    return status == LEND_OK ? lend_cache(actor, error) : status;
}

static enum lend_status end_lease(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;
    const struct cache *cache = &actor->lender.cache;
    struct mark mark = {.owner = (uint32_t)getpid(), .generation = order->generation};
    enum lend_status status = LEND_OK;

    if (order->is_rewriting) /* before the delay: nothing shall lie between the revoke and the
                                rewrite */
        status =
            actor_draw(actor, cache->block_count, actor_reader_blocks(order->block_count), error);
    if (status != LEND_OK)
        return status;
    sleep_until_ns(now_ns() + order->delay_ns);

    uint64_t begun_ns = now_ns();
    status = lender_revoke(&actor->lender, error);
    actor->report.elapsed_ns = now_ns() - begun_ns;
    if (status == LEND_OK && order->is_rewriting) {
        struct blocks blocks = {actor->remote, order->block_count};

        cache_fill_blocks(cache, &blocks, actor->remote, &mark);
    }
    return status;
}

static enum lend_status reuse(struct actor *actor, struct lend_error *error)
{
    struct offer offer = {
        .access = LEND_ACCESS_READ,
        .time_to_live_ns = filler_time_to_live_ns,
    };
    enum lend_status status = lender_revoke(&actor->lender, error);

    for (uint32_t i = 0; status == LEND_OK && i < actor->endpoint.leases_max; i++)
        status = lender_grant(&actor->lender, &offer, error);
    return status;
}

static enum lend_status reclaim(struct actor *actor, struct lend_error *error)
{
    uint64_t begun_ns = now_ns();
    enum lend_status status = lender_reclaim(&actor->lender, actor->order.timeout_ns, error);

    actor->report.elapsed_ns = now_ns() - begun_ns;
    return status;
}

static enum lend_status await_fate(struct actor *actor, struct lend_error *error)
{
    struct lend_lease_info info = {.struct_size = sizeof info};
    uint64_t begun_ns = now_ns();
    uint64_t until_ns = begun_ns + actor->order.timeout_ns;
    enum lend_status status = lend_lease_describe(actor->lender.lease, &info, error);

    while (status == LEND_OK && info.status == LEND_OK && now_ns() < until_ns) {
        sleep_until_ns(now_ns() + look_ns);
        status = lend_lease_describe(actor->lender.lease, &info, error);
    }
    actor->report.elapsed_ns = now_ns() - begun_ns;
    if (status != LEND_OK)
        return status;
    if (info.status == LEND_OK)
        return trouble(error, LEND_E_TIMEOUT, "the lease lives on after %llu ms",
                       (unsigned long long)(actor->order.timeout_ns / 1000000));
    return trouble(error, (enum lend_status)info.status, "so the lease ended");
}

static enum lend_status receive(struct actor *actor, struct lend_error *error)
{
    size_t count = 0;
    enum lend_status status = lend_notification_receive(
        actor->lender.agent, actor->report.bytes_sent, sizeof actor->report.bytes_sent, &count,
        NULL, actor->order.timeout_ns, error);

    actor->report.at_ns = now_ns();
    actor->report.byte_count = status == LEND_OK ? (uint32_t)count : 0;
    return status;
}

static enum lend_status map_scratch(struct actor *actor, uint32_t kind, uint32_t block_count,
                                    struct lend_error *error)
{
    if (actor->scratch.base != NULL && actor->scratch.kind == kind &&
        actor->scratch.block_count == block_count)
        return LEND_OK;
    cache_unmap(&actor->scratch);
    return cache_map(&actor->scratch, actor->endpoint.model, kind, block_count, error);
}

static enum lend_status copy(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;
    uint32_t target_count = actor_reader_blocks(order->block_count);
    enum lend_status status = map_scratch(actor, actor->endpoint.memory_kind, target_count, error);

    if (status == LEND_OK)
        status = actor_draw(actor, actor->lender.cache.block_count, target_count, error);
    if (status != LEND_OK)
        return status;

    struct blocks from = {actor->remote, order->block_count};
    struct blocks to = {actor->local, order->block_count};
    cache_set(&actor->scratch, &to, 0); /* as the reader wipes what it pulls to */

    uint64_t begun_ns = now_ns();
    cache_copy(&actor->scratch, &to, &actor->lender.cache, &from);
    actor->report.elapsed_ns = now_ns() - begun_ns;
    return LEND_OK;
}

/* Count the pieces of one block number that hold what they may not. is_lent: they were lent for
 * writing. */
static uint64_t count_wrong(const struct actor *actor, uint32_t block, bool is_lent)
{
    const struct order *order = &actor->order;
    const struct cache *cache = &actor->lender.cache;
    uint64_t wrong = 0;

    for (uint32_t region = 0; region < cache->region_count; region++) {
        const unsigned char *bytes = cache_look(cache, region, block);
        struct mark own = {(uint32_t)getpid(), region, block, actor->lender.generation};
        struct mark written = {order->owner, region, block, order->generation};
        const struct mark *one = is_lent && order->is_written ? &written : &own;
        const struct mark *other = is_lent ? &written : &own;

        wrong += pattern_count_foreign(bytes, cache->block_bytes, one, other) != 0;
    }
    return wrong;
}

/* After a write: only what the reader sent may lie in what was lent, and nothing elsewhere; and
 * nothing may change any more. */
static enum lend_status look(struct actor *actor, struct lend_error *error)
{
    const struct order *order = &actor->order;
    const struct cache *cache = &actor->lender.cache;
    uint32_t live_count;
    enum lend_status status = map_scratch(actor, LEND_MEMORY_SYSTEM, cache->block_count, error);

    /* What our progress thread wrote comes before this call, and this call before our look. */
    if (status == LEND_OK)
        status = lend_lease_list(actor->lender.agent, NULL, 0, &live_count, error);
    if (status == LEND_OK)
        status =
            actor_draw(actor, cache->block_count, actor_reader_blocks(order->block_count), error);
    if (status != LEND_OK)
        return status;

    cache_read(cache, actor->scratch.base);
    for (uint32_t block = 0; block < cache->block_count; block++) {
        bool is_lent = false;

        for (uint32_t i = 0; i < order->block_count; i++)
            is_lent = is_lent || (uint32_t)actor->remote[i] == block;
        actor->report.pieces_wrong += count_wrong(actor, block, is_lent);
    }
    sleep_until_ns(now_ns() + order->delay_ns);
    for (uint32_t region = 0; region < cache->region_count; region++)
        for (uint32_t block = 0; block < cache->block_count; block++)
            actor->report.late_pieces +=
                memcmp(cache_block(&actor->scratch, region, block),
                       cache_look(cache, region, block), cache->block_bytes) != 0;
    return LEND_OK;
}

static enum lend_status become_another(struct actor *actor, struct lend_error *error)
{
    static char name[] = "lend";
    static char command[] = "stand-in";
    char *arguments[] = {name, command, NULL};

    (void)actor;
    (void)execv("/proc/self/exe", arguments);
    return trouble_errno(error, "/proc/self/exe cannot be executed");
}

actor_handler owner_handler(uint32_t verb)
{
    static const actor_handler handlers[] = {
        [ORDER_OPEN] = open_agent,  [ORDER_LEND] = lend_cache,     [ORDER_MEET] = meet,
        [ORDER_GRANT] = grant,      [ORDER_STRAY] = export_stray,  [ORDER_RESTART] = restart,
        [ORDER_REVOKE] = end_lease, [ORDER_REUSE] = reuse,         [ORDER_RECLAIM] = reclaim,
        [ORDER_FATE] = await_fate,  [ORDER_RECEIVE] = receive,     [ORDER_COPY] = copy,
        [ORDER_LOOK] = look,        [ORDER_EXEC] = become_another,
    };

    return verb < sizeof handlers / sizeof handlers[0] ? handlers[verb] : NULL;
}
