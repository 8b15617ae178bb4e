/* SPDX-License-Identifier: Apache-2.0 */
#include "core/served_request.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

enum { SUM_BYTES = 256 << 10 }; /* that are checksummed in one go */

/* --- opening --- */

static uint32_t access_of(const struct lend_request *asked)
{
    return asked->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE;
}

/* Find a region that extent `at` is of. Under a standing lease the request counts in it, so that
 * it does not go. Under the agent's lock. */
static enum lend_status take_region(struct lend_served_request *request, uint64_t region_id,
                                    uint64_t at, struct lend_leased *out, struct lend_error *error)
{
    enum lend_status status =
        lend_lease_find(request->lease, region_id, access_of(&request->asked), out, error);

    if (status == LEND_OK && request->standing != NULL) {
        request->standing[at] = out->region;
        request->standing_count = at + 1;
        out->region->standing_uses++;
    }
    return status;
}

/* Memory of a GPU goes over a stage. */
static void note_device(struct lend_served_request *request, struct lend_extent *extent,
                        const struct lend_region *region)
{
    extent->device = lend_region_device(region);
    if (request->lane == NULL && extent->device != NULL)
        request->lane = extent->device->lane;
}

static enum lend_status resolve_region(struct lend_served_request *request, uint32_t at,
                                       struct lend_error *error)
{
    struct lend_leased leased;

    enum lend_status status = take_region(request, request->region_ids[at], at, &leased, error);
    if (status != LEND_OK)
        return status;

    const struct lend_geometry *geometry = &leased.region->geometry;
    uint64_t offset = request->asked.slice_offset_bytes;
    uint64_t length = request->asked.slice_length_bytes;
    if (offset > geometry->block_length_bytes || length > geometry->block_length_bytes - offset)
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "slice %llu + %llu of rows of %llu bytes",
                         (unsigned long long)offset, (unsigned long long)length,
                         (unsigned long long)geometry->block_length_bytes);
    request->extents[at] = lend_extent_of(leased.region->memory.address, geometry, offset, length);
    note_device(request, &request->extents[at], leased.region);
    return LEND_OK;
}

/* A range of a region: inside one row of one leased block, or over blocks that touch. */
static enum lend_status resolve_range(struct lend_served_request *request,
                                      const struct lend_run_range *range, uint64_t at,
                                      struct lend_error *error)
{
    struct lend_leased leased;

    enum lend_status status = take_region(request, range->region_id, at, &leased, error);
    if (status != LEND_OK)
        return status;
    status = lend_lease_check_range(&leased.region->geometry, leased.blocks, range, error);
    if (status != LEND_OK)
        return status;
    request->extents[at] = lend_extent_of_bytes(leased.region->memory.address + range->offset_bytes,
                                                range->length_bytes);
    note_device(request, &request->extents[at], leased.region);
    return LEND_OK;
}

static enum lend_status allocate_request(struct lend_served_request *request,
                                         struct lend_error *error)
{
    const struct lend_request *asked = &request->asked;
    uint64_t extents = asked->has_ranges ? asked->run_count : asked->region_count;
    uint64_t runs = asked->has_ranges ? 1 : asked->run_count;

    request->extents = lend_sys->allocate(extents * sizeof *request->extents);
    request->runs = lend_sys->allocate(runs * sizeof *request->runs);
    if (request->lease->is_standing)
        request->standing = lend_sys->allocate(extents * sizeof *request->standing);
    if (request->extents == NULL || request->runs == NULL ||
        (request->lease->is_standing && request->standing == NULL))
        return lend_fail(error, LEND_E_NO_MEMORY, "the owner has no memory for %llu runs",
                         (unsigned long long)asked->run_count);
    return LEND_OK;
}

enum lend_status lend_served_open(struct lend_served_request *request, struct lend_agent *agent,
                                  const struct lend_lease_user *user, const uint64_t *region_ids)
{
    const struct lend_request *asked = &request->asked;
    struct lend_error *error = &request->verdict;

    enum lend_status status =
        lend_lease_get(agent, &asked->lease, user, access_of(asked), &request->lease, error);
    if (status != LEND_OK)
        return status;
    status = allocate_request(request, error);
    if (status != LEND_OK || asked->has_ranges)
        return status;

    size_t bytes = asked->region_count * sizeof *region_ids;
    request->region_ids = lend_sys->allocate(bytes);
    if (request->region_ids == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "the owner has no memory for %u regions",
                         asked->region_count);
    memcpy(request->region_ids, region_ids, bytes);

    /* Regions go only with the agent's lock and an idle lease; ours is held, but may have ended. */
    (void)pthread_mutex_lock(&agent->lock);
    for (uint32_t i = 0; status == LEND_OK && i < asked->region_count; i++)
        status = resolve_region(request, i, error);
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

/* --- runs --- */

static enum lend_status take_block_runs(struct lend_served_request *request, const uint8_t *payload,
                                        size_t bytes, struct lend_error *error)
{
    size_t count;

    enum lend_status status =
        lend_runs_decode(payload, bytes, request->runs + request->runs_taken,
                         request->asked.run_count - request->runs_taken, &count, error);
    if (status == LEND_OK)
        request->runs_taken += count;
    return status;
}

static enum lend_status take_ranges(struct lend_served_request *request, const uint8_t *payload,
                                    size_t bytes, struct lend_error *error)
{
    enum { RANGES_PER_FRAME = LEND_FRAME_CONTROL_MAX / LEND_RUN_RANGE_BYTES };
    struct lend_agent *agent = request->lease->agent;
    struct lend_run_range ranges[RANGES_PER_FRAME];
    uint64_t left = request->asked.run_count - request->runs_taken;
    size_t count;

    enum lend_status status = lend_run_ranges_decode(
        payload, bytes, ranges, left < RANGES_PER_FRAME ? (size_t)left : RANGES_PER_FRAME, &count,
        error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < count && request->verdict.status == LEND_OK; i++) {
        /* What is refused here is the request, not the session. */
        (void)resolve_range(request, &ranges[i], request->runs_taken + i, &request->verdict);
        request->planned_bytes += ranges[i].length_bytes;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    request->runs_taken += count;
    return LEND_OK;
}

static enum lend_status check_run(const struct lend_leased *leased, struct lend_run run,
                                  struct lend_error *error)
{
    uint64_t count = leased->region->geometry.count;

    if (leased->blocks != NULL ? lend_blocks_cover(leased->blocks, run.first, run.count)
                               : run.first < count && run.count <= count - run.first)
        return LEND_OK;
    return lend_fail(error, LEND_E_OUT_OF_RANGE,
                     "blocks %u + %u of region %llu are not all in the lease", run.first, run.count,
                     (unsigned long long)leased->region->id);
}

/* Every run of every region must be leased. Regions that share a set of blocks are asked once. */
static enum lend_status check_runs_locked(struct lend_served_request *request,
                                          struct lend_error *error)
{
    const struct lend_blocks *asked = NULL;
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < request->asked.region_count; i++) {
        struct lend_leased leased;

        status = lend_lease_find(request->lease, request->region_ids[i], access_of(&request->asked),
                                 &leased, error);
        if (status != LEND_OK || (leased.blocks != NULL && leased.blocks == asked))
            continue;
        asked = leased.blocks;
        for (uint64_t j = 0; status == LEND_OK && j < request->asked.run_count; j++)
            status = check_run(&leased, request->runs[j], error);
    }
    return status;
}

static enum lend_status check_runs(struct lend_served_request *request, struct lend_error *error)
{
    struct lend_agent *agent = request->lease->agent;

    (void)pthread_mutex_lock(&agent->lock);
    enum lend_status status = check_runs_locked(request, error);
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

static uint64_t count_blocks(const struct lend_served_request *request)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < request->asked.run_count; i++)
        count += request->runs[i].count;
    return count;
}

/* Room for a checksum of every block or range. */
static enum lend_status plan_sums(struct lend_served_request *request, struct lend_error *error)
{
    const struct lend_request *asked = &request->asked;
    uint64_t count = asked->run_count;

    if (!asked->has_ranges &&
        __builtin_mul_overflow(count_blocks(request), (uint64_t)asked->region_count, &count))
        count = UINT64_MAX;
    if (count > LEND_SUMS_MAX)
        return lend_fail(error, LEND_E_LIMIT, "%llu checksums in one request, over %d",
                         (unsigned long long)count, LEND_SUMS_MAX);
    request->sums.bytes = lend_sys->allocate((size_t)count * 4);
    if (request->sums.bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "the owner has no memory for %llu checksums",
                         (unsigned long long)count);
    request->sums.count = (uint32_t)count;
    return LEND_OK;
}

/* All runs are here: is it what the lease allows, and as many bytes as were said? */
static enum lend_status plan_request(struct lend_served_request *request, struct lend_error *error)
{
    const struct lend_request *asked = &request->asked;
    uint64_t total = request->planned_bytes;

    if (!asked->has_ranges) {
        uint64_t blocks = count_blocks(request);

        enum lend_status status = check_runs(request, error);
        if (status != LEND_OK)
            return status;
        total = 0;
        for (uint32_t i = 0; i < asked->region_count; i++) {
            uint64_t block_bytes = request->extents[i].row_bytes * request->extents[i].inner_count;
            uint64_t bytes;

            if (__builtin_mul_overflow(blocks, block_bytes, &bytes) ||
                __builtin_add_overflow(total, bytes, &total))
                return lend_fail(error, LEND_E_OUT_OF_RANGE,
                                 "%llu blocks of %llu bytes wrap around",
                                 (unsigned long long)blocks, (unsigned long long)block_bytes);
        }
        lend_cursor_init(&request->cursor, request->extents, asked->region_count, request->runs,
                         asked->run_count);
    } else {
        request->runs[0] = (struct lend_run){.first = 0, .count = 1};
        lend_cursor_init(&request->cursor, request->extents, asked->run_count, request->runs, 1);
    }
    if (total != asked->total_bytes)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "%llu bytes are asked for, and the owner's blocks have %llu: was its "
                         "metadata imported anew since its regions changed?",
                         (unsigned long long)asked->total_bytes, (unsigned long long)total);
    return asked->wants_sums ? plan_sums(request, error) : LEND_OK;
}

enum lend_status lend_served_take_runs(struct lend_served_request *request, const uint8_t *payload,
                                       size_t bytes, struct lend_error *error)
{
    enum lend_status status = request->asked.has_ranges
                                  ? take_ranges(request, payload, bytes, error)
                                  : take_block_runs(request, payload, bytes, error);
    if (status != LEND_OK)
        return status;
    if (request->verdict.status == LEND_OK && request->runs_taken == request->asked.run_count &&
        plan_request(request, &request->verdict) == LEND_OK)
        request->phase = LEND_SERVED_MOVE;
    return LEND_OK;
}

/* --- checksums --- */

bool lend_served_is_summing(const struct lend_served_request *request)
{
    return request->phase == LEND_SERVED_MOVE && request->sums.made < request->sums.count;
}

void lend_served_sum(struct lend_served_request *request)
{
    struct lend_sums *sums = &request->sums;
    uint64_t bytes = (uint64_t)sums->count * 4;

    if (!lend_sums_make(sums, &request->cursor, SUM_BYTES))
        return;
    lend_sums_stand(&request->cursor, &sums->place, sums->bytes, bytes);
    request->asked.direction = LEND_READ;
    request->asked.total_bytes = bytes;
}

/* --- the end --- */

static void drop_memory(struct lend_served_request *request)
{
    lend_sys->release(request->region_ids);
    lend_sys->release(request->extents);
    lend_sys->release(request->runs);
    lend_sys->release(request->sums.bytes);
    request->sums = (struct lend_sums){0};
    request->region_ids = NULL;
    request->extents = NULL;
    request->runs = NULL;
}

/* Under a standing lease: count in its regions no more. */
static void leave_regions(struct lend_served_request *request)
{
    if (request->standing == NULL)
        return;

    struct lend_agent *agent = request->lease->agent;
    (void)pthread_mutex_lock(&agent->lock);
    for (uint64_t i = 0; i < request->standing_count; i++)
        request->standing[i]->standing_uses--;
    (void)pthread_mutex_unlock(&agent->lock);
    lend_sys->release(request->standing);
    request->standing = NULL;
    request->standing_count = 0;
}

enum lend_status lend_served_check_standing(struct lend_served_request *request)
{
    if (request->standing == NULL)
        return LEND_OK;

    /* Acquire: the regions that were marked before it was counted are seen to be. */
    uint64_t count =
        atomic_load_explicit(&request->lease->agent->forced_count, memory_order_acquire);
    if (count == request->forced_seen)
        return LEND_OK;
    request->forced_seen = count;
    for (uint64_t i = 0; i < request->standing_count; i++)
        if (atomic_load_explicit(&request->standing[i]->is_forced, memory_order_relaxed))
            return lend_fail(&request->verdict, LEND_E_REVOKED, "region %llu was withdrawn",
                             (unsigned long long)request->standing[i]->id);
    return LEND_OK;
}

static void drop_holdings(struct lend_served_request *request)
{
    leave_regions(request);
    if (request->lease != NULL)
        lend_lease_put(request->lease);
    request->lease = NULL;
    drop_memory(request);
}

void lend_served_end(struct lend_served_request *request, enum lend_status status)
{
    if (status == LEND_OK)
        request->verdict = (struct lend_error){0};
    drop_holdings(request);
    request->phase = LEND_SERVED_ENDED;
}

void lend_served_abandon(struct lend_served_request *request)
{
    drop_memory(request);
}

void lend_served_drop(struct lend_served_request *request)
{
    drop_holdings(request);
    request->phase = LEND_SERVED_FREE;
}
