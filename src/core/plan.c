/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transfer.h"

#include "base/error.h"
#include "core/block_set.h"
#include "core/explain.h"
#include "core/region.h"
#include "core/sums.h"

#include <endian.h>
#include <string.h>

/*
 * Planning: what a post names becomes runs of blocks that follow one another, on either side by
 * itself, and those become the windows that requests ask for. No allocation, and one look at each
 * number.
 */

/* --- runs --- */

/* Both widths of index are worth a loop of their own: this is what a post costs per block. */
#define DEFINE_BUILD_RUNS(name, index_type)                                                        \
    static uint64_t name(const index_type *indices, uint64_t count, uint64_t limit,                \
                         struct lend_run *runs, uint64_t *out_bad)                                 \
    {                                                                                              \
        uint64_t run_count = 0, next = UINT64_MAX;                                                 \
                                                                                                   \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            uint64_t index = (uint64_t)indices[i]; /* a negative one is over any limit */          \
                                                                                                   \
            if (index >= limit) {                                                                  \
                *out_bad = i;                                                                      \
                return 0;                                                                          \
            }                                                                                      \
            if (index == next)                                                                     \
                runs[run_count - 1].count++;                                                       \
            else                                                                                   \
                runs[run_count++] = (struct lend_run){.first = (uint32_t)index, .count = 1};       \
            next = index + 1;                                                                      \
        }                                                                                          \
        return run_count;                                                                          \
    }

DEFINE_BUILD_RUNS(build_runs_32, int32_t)
DEFINE_BUILD_RUNS(build_runs_64, int64_t)

/* One side's array of block numbers. */
struct side {
    const char *name;
    const void *indices;
    uint64_t limit; /* the blocks of its smallest region */
    struct lend_run *runs;
    uint64_t run_count; /* out */
};

static enum lend_status plan_side(struct side *side, uint32_t bits, uint64_t count,
                                  struct lend_error *error)
{
    uint64_t bad = 0;

    side->run_count = bits == 64
                          ? build_runs_64(side->indices, count, side->limit, side->runs, &bad)
                          : build_runs_32(side->indices, count, side->limit, side->runs, &bad);
    if (side->run_count == 0)
        return lend_fail(
            error, LEND_E_OUT_OF_RANGE,
            "%s block %lld at position %llu, where the smallest region has %llu blocks", side->name,
            (long long)lend_index_at(side->indices, bits, bad), (unsigned long long)bad,
            (unsigned long long)side->limit);
    return LEND_OK;
}

static uint64_t least(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* Cut runs that are longer than a window. In place, from the last on: there is room for as many
 * runs as blocks, and no cut run begins before the one that it is of. */
static uint64_t split_runs(struct lend_run *runs, uint64_t count, uint64_t longest)
{
    uint64_t total = 0;

    for (uint64_t i = 0; i < count; i++)
        total += (runs[i].count + longest - 1) / longest;
    if (total == count)
        return count;
    for (uint64_t i = count, to = total; i > 0; i--) {
        struct lend_run run = runs[i - 1];
        uint64_t pieces = (run.count + longest - 1) / longest;

        for (uint64_t piece = pieces; piece > 0; piece--) {
            uint64_t from = (piece - 1) * longest;

            runs[--to] = (struct lend_run){
                .first = run.first + (uint32_t)from,
                .count = (uint32_t)least(run.count - from, longest),
            };
        }
    }
    return total;
}

static enum lend_status plan_blocks(struct lend_transfer *transfer,
                                    const struct lend_post_desc *desc, struct lend_error *error)
{
    uint32_t bits = desc->index_bits != 0 ? desc->index_bits : 32;

    if (desc->local_ranges != NULL || desc->remote_ranges != NULL || desc->range_count != 0)
        return lend_fail(error, LEND_E_INVALID,
                         "ranges for a transfer that was prepared with %llu pairs of regions",
                         (unsigned long long)transfer->region_count);
    if (desc->local_blocks == NULL || desc->remote_blocks == NULL || desc->block_count == 0)
        return lend_fail(error, LEND_E_INVALID, "no blocks: local %p, remote %p, count %llu",
                         desc->local_blocks, desc->remote_blocks,
                         (unsigned long long)desc->block_count);
    if (bits != 32 && bits != 64)
        return lend_fail(error, LEND_E_INVALID, "index_bits is %u; block numbers have 32 or 64",
                         bits);
    if (desc->block_count > transfer->block_count_max)
        return lend_fail(error, LEND_E_INVALID, "%llu blocks, prepared for %llu (block_count_max)",
                         (unsigned long long)desc->block_count,
                         (unsigned long long)transfer->block_count_max);

    struct side local = {"local", desc->local_blocks, transfer->local_blocks_min,
                         transfer->local_runs, 0};
    enum lend_status status = plan_side(&local, bits, desc->block_count, error);
    if (status != LEND_OK)
        return status;
    struct side remote = {"remote", desc->remote_blocks, transfer->remote_blocks_min,
                          transfer->remote_runs, 0};
    status = plan_side(&remote, bits, desc->block_count, error);
    if (status != LEND_OK)
        return status;
    transfer->local_run_count = local.run_count;
    transfer->remote_run_count = remote.run_count;
    if (desc->block_count > transfer->window_bytes_max / transfer->block_bytes) {
        uint64_t longest = transfer->window_bytes_max / transfer->block_bytes;

        transfer->remote_run_count =
            split_runs(transfer->remote_runs, remote.run_count, longest > 0 ? longest : 1);
    }
    transfer->block_count = desc->block_count;
    transfer->total_bytes = transfer->region_count * desc->block_count * transfer->block_bytes;
    return LEND_OK;
}

/* --- ranges --- */

/* The ranges of both sides, and where the last was found: neighbours often lie in one region. */
struct finder {
    const struct lend_range *local;
    const struct lend_range *remote;
    uint64_t count;
    const struct lend_metadata_region *last_remote; /* NULL: none yet */
    uint32_t kinds;                                 /* of memory */
    uint64_t total_bytes;
};

static enum lend_status find_local(struct lend_transfer *transfer, struct finder *finder,
                                   uint64_t at, struct lend_error *error)
{
    const struct lend_range *range = &finder->local[at];
    struct lend_region *found = lend_range_find_own(
        transfer->agent, range, at > 0 ? transfer->locals[at - 1].region : NULL);

    if (found == NULL)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "local range %llu, 0x%llx + %llu, lies in no region of this agent",
                         (unsigned long long)at, (unsigned long long)range->address,
                         (unsigned long long)range->length_bytes);
    transfer->locals[at] = (struct lend_transfer_region){
        .region = found, .id = found->id, .address = found->memory.address};
    transfer->extents[at] = lend_extent_of_bytes(range->address, range->length_bytes);
    finder->kinds |= UINT32_C(1) << found->memory.kind;
    return LEND_OK;
}

static enum lend_status find_remote(struct lend_transfer *transfer, struct finder *finder,
                                    uint64_t at, struct lend_error *error)
{
    const struct lend_peer *peer = transfer->peer;
    const struct lend_range *range = &finder->remote[at];
    uint32_t access = transfer->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE;
    const struct lend_metadata_region *found =
        lend_range_find_peers(peer, range, access, finder->last_remote);

    if (found == NULL)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "remote range %llu, 0x%llx + %llu, lies in no region of %s that allows it",
                         (unsigned long long)at, (unsigned long long)range->address,
                         (unsigned long long)range->length_bytes, peer->name);
    transfer->ranges[at] = (struct lend_run_range){
        .region_id = found->id,
        .offset_bytes = range->address - found->address,
        .length_bytes = range->length_bytes,
    };
    finder->last_remote = found;
    finder->kinds |= UINT32_C(1) << found->kind;
    return LEND_OK;
}

static enum lend_status check_range(struct finder *finder, uint64_t at, struct lend_error *error)
{
    const struct lend_range *local = &finder->local[at], *remote = &finder->remote[at];

    if (local->length_bytes == 0 || local->length_bytes != remote->length_bytes)
        return lend_fail(
            error, LEND_E_INVALID,
            "range %llu is of %llu bytes here and %llu there; both must be equal, and not 0",
            (unsigned long long)at, (unsigned long long)local->length_bytes,
            (unsigned long long)remote->length_bytes);
    if (local->address > UINT64_MAX - local->length_bytes ||
        remote->address > UINT64_MAX - remote->length_bytes ||
        __builtin_add_overflow(finder->total_bytes, local->length_bytes, &finder->total_bytes))
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "range %llu wraps around",
                         (unsigned long long)at);
    return LEND_OK;
}

static enum lend_status find_all_locked(struct lend_transfer *transfer, struct finder *finder,
                                        struct lend_error *error)
{
    for (uint64_t i = 0; i < finder->count; i++) {
        enum lend_status status = check_range(finder, i, error);
        if (status == LEND_OK)
            status = find_local(transfer, finder, i, error);
        if (status == LEND_OK)
            status = find_remote(transfer, finder, i, error);
        if (status != LEND_OK)
            return status;
    }
    return LEND_OK;
}

static enum lend_status find_all(struct lend_transfer *transfer, struct finder *finder,
                                 struct lend_error *error)
{
    if (finder->local == NULL || finder->remote == NULL || finder->count == 0)
        return lend_fail(error, LEND_E_INVALID, "no ranges: local %p, remote %p, count %llu",
                         (const void *)finder->local, (const void *)finder->remote,
                         (unsigned long long)finder->count);
    if (finder->count > transfer->block_count_max)
        return lend_fail(error, LEND_E_INVALID, "%llu ranges, prepared for %llu (block_count_max)",
                         (unsigned long long)finder->count,
                         (unsigned long long)transfer->block_count_max);

    (void)pthread_mutex_lock(&transfer->agent->lock);
    enum lend_status status = find_all_locked(transfer, finder, error);
    (void)pthread_mutex_unlock(&transfer->agent->lock);
    if (status != LEND_OK)
        return status;
    transfer->total_bytes = finder->total_bytes;
    transfer->kinds = finder->kinds;
    status = lend_transfer_check_kinds(transfer, error);
    if (status != LEND_OK)
        return status;
    lend_transfer_set_ranges(transfer, finder->count);
    return LEND_OK;
}

void lend_transfer_set_ranges(struct lend_transfer *transfer, uint64_t count)
{
    transfer->placement = (struct lend_placement){0}; /* other ranges, other places */
    transfer->region_count = count;
    transfer->block_count = count;
    transfer->remote_run_count = count;
    transfer->local_runs[0] = (struct lend_run){.first = 0, .count = 1};
}

enum lend_status lend_transfer_resolve(struct lend_transfer *transfer,
                                       const struct lend_transfer_desc *desc,
                                       struct lend_error *error)
{
    struct finder finder = {
        .local = desc->local_ranges, .remote = desc->remote_ranges, .count = desc->range_count};

    enum lend_status status = find_all(transfer, &finder, error);
    transfer->is_resolved = status == LEND_OK;
    return status;
}

static enum lend_status plan_ranges(struct lend_transfer *transfer,
                                    const struct lend_post_desc *desc, struct lend_error *error)
{
    struct finder finder = {
        .local = desc->local_ranges, .remote = desc->remote_ranges, .count = desc->range_count};

    if (desc->local_blocks != NULL || desc->remote_blocks != NULL || desc->block_count != 0)
        return lend_fail(error, LEND_E_INVALID,
                         "block numbers for a transfer that was prepared for address ranges");
    if (!transfer->is_resolved)
        return find_all(transfer, &finder, error);
    if (finder.local != NULL || finder.remote != NULL || finder.count != 0)
        return lend_fail(error, LEND_E_INVALID,
                         "ranges for a transfer that was prepared with its own");
    return transfer->local_list != NULL ? lend_transfer_unfold(transfer, error) : LEND_OK;
}

enum lend_status lend_transfer_check_kinds(const struct lend_transfer *transfer,
                                           struct lend_error *error)
{
    if (lend_transfer_is_staged(transfer) && (transfer->flags & LEND_TRANSFER_CHECKSUM) != 0)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "LEND_TRANSFER_CHECKSUM is for memory of the host: blocks in memory of a "
                         "GPU are not checksummed");
    return lend_paths_check_staged(transfer, error);
}

/* --- windows --- */

/* As many ranges from the window's first on as it may ask for. */
static void take_ranges(const struct lend_transfer *transfer, struct lend_transfer_window *window)
{
    uint64_t most = least(transfer->remote_run_count - window->run, LEND_REQUEST_RUNS_MAX);

    window->run_count = 0;
    window->bytes = 0;
    do {
        window->bytes += transfer->ranges[window->run + window->run_count].length_bytes;
        window->run_count++;
    } while (window->run_count < most &&
             transfer->ranges[window->run + window->run_count].length_bytes <=
                 transfer->window_bytes_max - least(window->bytes, transfer->window_bytes_max));
}

/* The same of one region's runs. */
static void take_runs(const struct lend_transfer *transfer, struct lend_transfer_window *window)
{
    uint64_t most = least(transfer->remote_run_count - window->run, LEND_REQUEST_RUNS_MAX);
    uint64_t blocks_max = transfer->window_bytes_max / transfer->block_bytes, blocks = 0;

    window->region_count = 1;
    window->run_count = 0;
    do {
        blocks += transfer->remote_runs[window->run + window->run_count].count;
        window->run_count++;
    } while (window->run_count < most &&
             transfer->remote_runs[window->run + window->run_count].count <=
                 blocks_max - least(blocks, blocks_max));
    window->bytes = blocks * transfer->block_bytes;
}

/* Both ends walk region by region, so a window is all the runs of some regions, or, if there are
 * more than a request may name, some runs of one region. */
static bool step_window(struct lend_transfer *transfer)
{
    struct lend_transfer_window *window = &transfer->window;
    uint64_t runs = transfer->remote_run_count;
    /* Ranges name their regions themselves, so they are walked once. */
    uint64_t regions = transfer->has_ranges ? 1 : transfer->region_count;

    window->run += window->run_count;
    if (window->run >= runs) {
        window->run = 0;
        window->region += transfer->has_ranges ? 1 : window->region_count;
    }
    if (window->region >= regions)
        return false;
    if (transfer->has_ranges) {
        take_ranges(transfer, window);
        return true;
    }

    uint64_t region_bytes = transfer->block_count * transfer->block_bytes;
    if (runs > LEND_REQUEST_RUNS_MAX || region_bytes > transfer->window_bytes_max) {
        take_runs(transfer, window);
        return true;
    }
    window->run_count = runs;
    window->region_count = least(least(regions - window->region, LEND_REQUEST_REGIONS_MAX),
                                 transfer->window_bytes_max / region_bytes);
    window->bytes = window->region_count * region_bytes;
    return true;
}

/* --- checksums --- */

static uint64_t units_of_window(const struct lend_transfer *transfer)
{
    return transfer->has_ranges ? transfer->window.run_count
                                : transfer->window.bytes / transfer->block_bytes;
}

uint64_t lend_transfer_window_moves(const struct lend_transfer *transfer)
{
    return transfer->is_summing ? units_of_window(transfer) * 4 : transfer->window.bytes;
}

/* Stand where the window's checksums are to be received. */
static void expect_sums(struct lend_transfer *transfer)
{
    lend_sums_stand(&transfer->sum_cursor, &transfer->sum_place, transfer->sums,
                    lend_transfer_window_moves(transfer));
}

bool lend_transfer_next_window(struct lend_transfer *transfer)
{
    if (!step_window(transfer))
        return false;
    if (transfer->is_summing)
        expect_sums(transfer);
    return true;
}

bool lend_transfer_begin_sums(struct lend_transfer *transfer)
{
    if ((transfer->flags & LEND_TRANSFER_CHECKSUM) == 0 || transfer->is_summing)
        return false;
    transfer->is_summing = true;
    lend_transfer_rewind(transfer);
    transfer->checked = transfer->local;
    return true;
}

enum lend_status lend_transfer_check_sums(struct lend_transfer *transfer, struct lend_error *error)
{
    uint64_t units = units_of_window(transfer);

    for (uint64_t i = 0; i < units; i++) {
        uint64_t bytes = lend_sums_unit_bytes(&transfer->checked);
        uint32_t ours = lend_sums_of_unit(&transfer->checked), theirs;

        memcpy(&theirs, transfer->sums + i * 4, sizeof theirs);
        theirs = le32toh(theirs);
        if (ours != theirs)
            return lend_fail(error, LEND_E_CORRUPT,
                             "block %llu of the transfer has CRC-32C %08x here and %08x at %s",
                             (unsigned long long)transfer->checked_blocks, ours, theirs,
                             transfer->peer->name);
        transfer->checked_blocks++;
        transfer->proven_bytes += bytes;
    }
    return LEND_OK;
}

/* --- the whole --- */

void lend_transfer_rewind(struct lend_transfer *transfer)
{
    transfer->proven_bytes = 0;
    transfer->checked_blocks = 0;
    lend_cursor_init(&transfer->local, transfer->extents, transfer->region_count,
                     transfer->local_runs, transfer->has_ranges ? 1 : transfer->local_run_count);
    transfer->window = (struct lend_transfer_window){0};
    (void)lend_transfer_next_window(transfer);
}

enum lend_status lend_transfer_plan(struct lend_transfer *transfer,
                                    const struct lend_post_desc *desc, struct lend_error *error)
{
    enum lend_status status = transfer->has_ranges ? plan_ranges(transfer, desc, error)
                                                   : plan_blocks(transfer, desc, error);
    if (status != LEND_OK)
        return status;
    lend_transfer_rewind(transfer);
    return LEND_OK;
}
