/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/lender.h"

#include "tool/trouble.h"

#include <unistd.h>

static const uint64_t slot_wait_ns = 1000000000;
static const uint64_t slot_look_ns = 500000;

/* Memory of a GPU is lent with the consent to open it, unless no path is wanted that does. */
static uint32_t consent_of(const struct cache *cache, const struct endpoint *endpoint)
{
    bool is_wanted = endpoint->paths == NULL || endpoint_has_name(endpoint->paths, "local/cuda");

    return cache->kind == LEND_MEMORY_DEVICE && is_wanted ? LEND_REGION_SHARE_DEVICE : 0;
}

static enum lend_status register_all(struct lender *lender, const struct endpoint *endpoint,
                                     struct lend_error *error)
{
    const struct cache *cache = &lender->cache;
    struct lend_region_desc descs[MODEL_REGIONS_MAX];
    char names[MODEL_REGIONS_MAX][LEND_REGION_NAME_BYTES_MAX + 1];

    for (uint32_t i = 0; i < cache->region_count; i++) {
        model_region_name(cache->model, i, names[i], sizeof names[i]);
        lend_region_desc_init(&descs[i]);
        descs[i].name = names[i];
        descs[i].tags = cache->model->name;
        descs[i].access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
        descs[i].flags = consent_of(cache, endpoint);

        enum lend_status status = cache_describe(cache, i, &descs[i], error);
        if (status != LEND_OK)
            return status;
    }

    enum lend_status status = lend_region_register(lender->agent, descs, cache->region_count,
                                                   lender->regions, NULL, error);
    if (status == LEND_OK)
        lender->region_count = cache->region_count;
    return status;
}

enum lend_status lender_lend(struct lender *lender, const struct endpoint *endpoint,
                             uint32_t block_count, uint64_t *out_register_ns,
                             struct lend_error *error)
{
    enum lend_status status =
        cache_allocate(&lender->cache, endpoint->model, endpoint->memory_kind, block_count, error);

    if (status != LEND_OK)
        return status;
    cache_fill(&lender->cache, (uint32_t)getpid(), lender->generation);

    uint64_t begun_ns = now_ns();
    status = register_all(lender, endpoint, error);
    *out_register_ns = now_ns() - begun_ns;
    return status;
}

enum lend_status lender_grant(struct lender *lender, const struct offer *offer,
                              struct lend_error *error)
{
    struct lend_block_set set = {
        .regions = lender->regions,
        .region_count = lender->region_count,
        .index_bits = 32,
        .blocks = offer->blocks.numbers,
        .count = offer->blocks.count,
    };
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint64_t until_ns = now_ns() + slot_wait_ns;

    desc.access = offer->access;
    desc.sets = &set;
    desc.set_count = 1;
    desc.consumer_count = offer->consumer_count;
    desc.peer = offer->is_named ? lender->reader : NULL;
    desc.time_to_live_ns = offer->time_to_live_ns;

    lend_lease_release(lender->lease);
    lender->lease = NULL;
    enum lend_status status = lend_lease_grant(lender->agent, &desc, &lender->lease, error);
    while (status == LEND_E_LIMIT && now_ns() < until_ns) {
        sleep_until_ns(now_ns() + slot_look_ns);
        status = lend_lease_grant(lender->agent, &desc, &lender->lease, error);
    }
    return status;
}

enum lend_status lender_revoke(struct lender *lender, struct lend_error *error)
{
    if (lender->lease == NULL)
        return LEND_OK;
    return lend_lease_revoke(lender->lease, error);
}

enum lend_status lender_reclaim(struct lender *lender, uint64_t timeout_ns,
                                struct lend_error *error)
{
    uint64_t until_ns = now_ns() + timeout_ns;

    while (lender->region_count > 0) {
        struct lend_region *region = lender->regions[lender->region_count - 1];
        uint64_t now = now_ns();
        uint64_t left_ns = until_ns > now ? until_ns - now : 0;
        enum lend_status status = lend_region_withdraw(region, LEND_WITHDRAW_FORCE, left_ns, error);

        if (status == LEND_OK)
            status = lend_region_deregister(region, error);
        if (status != LEND_OK)
            return status;
        lender->region_count--;
    }
    if (lender->cache.base != NULL)
        cache_set(&lender->cache, NULL, CACHE_POISON);
    cache_unmap(&lender->cache);
    return LEND_OK;
}

void lender_close(struct lender *lender)
{
    lend_lease_release(lender->lease);
    lend_peer_forget(lender->reader);
    lend_agent_destroy(lender->agent);
    cache_unmap(&lender->cache);
    *lender = (struct lender){0};
}
