/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/channel.h"

#include "base/error.h"
#include "base/sys.h"

#include <lend/transfer.h>

#include <string.h>

/* What a client asks for: requests, from the frame that brings them to their end. They are our own
 * core's, so that what cannot be is refused, and not fenced off. */

struct lend_nixl_request *lend_nixl_request_find(struct lend_nixl_channel *channel, uint64_t id)
{
    for (int i = 0; i < LEND_NIXL_REQUESTS; i++) {
        struct lend_nixl_request *request = &channel->requests[i];

        if (request->phase != LEND_NIXL_REQUEST_FREE && request->id == id)
            return request;
    }
    return NULL;
}

/* --- chunks --- */

struct lend_nixl_chunk *lend_nixl_chunk_free(struct lend_nixl_channel *channel, bool is_read)
{
    int first = is_read ? 0 : LEND_NIXL_READS;
    int last = is_read ? LEND_NIXL_READS : LEND_NIXL_CHUNKS;

    for (int i = first; channel->is_ready && !channel->is_broken && i < last; i++)
        if (channel->chunks[i].phase == LEND_NIXL_CHUNK_FREE)
            return &channel->chunks[i];
    return NULL;
}

void lend_nixl_chunk_begin(struct lend_nixl_chunk *chunk, struct lend_nixl_request *request,
                           size_t bytes)
{
    chunk->request = request;
    chunk->bytes = bytes;
    chunk->flown = chunk->flying = 0;
    chunk->cursor = request->cursor;
    lend_cursor_skip(&request->cursor, bytes);
    request->begun_bytes += bytes;
    request->chunks++;
}

void lend_nixl_chunk_end(struct lend_nixl_chunk *chunk)
{
    if (chunk->request != NULL) {
        if (chunk->phase == LEND_NIXL_CHUNK_LANDED)
            chunk->request->landed--;
        else
            chunk->request->chunks--;
    }
    lend_list_remove(&chunk->link);
    chunk->request = NULL;
    chunk->phase = LEND_NIXL_CHUNK_FREE;
}

/* --- ends --- */

bool lend_nixl_request_is_quiet(const struct lend_nixl_request *request)
{
    return request->chunks == 0 && request->landed == 0;
}

void lend_nixl_request_free(struct lend_nixl_request *request)
{
    lend_sys->release(request->extents);
    lend_sys->release(request->runs);
    *request = (struct lend_nixl_request){.phase = LEND_NIXL_REQUEST_FREE};
}

void lend_nixl_request_end(struct lend_nixl_channel *channel, struct lend_nixl_request *request,
                           const struct lend_error *why)
{
    if (request->phase == LEND_NIXL_REQUEST_ENDED)
        return;
    request->phase = LEND_NIXL_REQUEST_ENDED;
    request->tail_bytes = 0;
    if (why != NULL)
        request->verdict = *why;
    for (int i = 0; i < LEND_NIXL_CHUNKS; i++) {
        struct lend_nixl_chunk *chunk = &channel->chunks[i];

        if (chunk->request == request && chunk != channel->answer.chunk &&
            (chunk->phase == LEND_NIXL_CHUNK_READY || chunk->phase == LEND_NIXL_CHUNK_LANDED))
            lend_nixl_chunk_end(chunk);
    }
}

void lend_nixl_request_cancel(struct lend_nixl_channel *channel, const struct lend_frame *frame)
{
    struct lend_nixl_request *request = lend_nixl_request_find(channel, frame->request);
    struct lend_error why;

    if (request == NULL)
        return;
    (void)lend_fail(&why, LEND_E_CANCELED, "canceled");
    lend_nixl_request_end(channel, request, &why);
}

/* --- beginnings --- */

static const struct lend_metadata_region *find_region(const struct lend_nixl_peer *peer,
                                                      uint64_t id)
{
    for (uint32_t i = 0; i < peer->region_count; i++)
        if (peer->regions[i].id == id)
            return &peer->regions[i];
    return NULL;
}

static enum lend_status resolve_region(const struct lend_nixl_channel *channel,
                                       const struct lend_request *asked, uint64_t id,
                                       struct lend_extent *out, struct lend_error *error)
{
    const struct lend_metadata_region *region = find_region(channel->peer, id);

    if (region == NULL)
        return lend_fail(error, LEND_E_UNKNOWN, "region %llu was not told of %s",
                         (unsigned long long)id, channel->peer->identity.name);
    const struct lend_geometry *geometry = &region->geometry;
    *out = (struct lend_extent){
        .address = region->address + asked->slice_offset_bytes,
        .row_bytes = asked->slice_length_bytes > 0 ? asked->slice_length_bytes
                                                   : geometry->block_length_bytes,
        .stride_bytes = geometry->stride_bytes,
        .inner_stride_bytes = geometry->inner_stride_bytes,
        .inner_count = geometry->inner_count,
    };
    return LEND_OK;
}

static enum lend_status resolve_range(const struct lend_nixl_channel *channel,
                                      const struct lend_run_range *range, struct lend_extent *out,
                                      struct lend_error *error)
{
    const struct lend_metadata_region *region = find_region(channel->peer, range->region_id);

    if (region == NULL || range->offset_bytes > region->length_bytes ||
        range->length_bytes > region->length_bytes - range->offset_bytes)
        return lend_fail(
            error, LEND_E_OUT_OF_RANGE, "%llu bytes at %llu of region %llu, as it was told of %s",
            (unsigned long long)range->length_bytes, (unsigned long long)range->offset_bytes,
            (unsigned long long)range->region_id, channel->peer->identity.name);
    *out = lend_extent_of_bytes(region->address + range->offset_bytes, range->length_bytes);
    return LEND_OK;
}

static enum lend_status open_request(struct lend_nixl_channel *channel,
                                     struct lend_nixl_request *request, const uint64_t *region_ids,
                                     struct lend_error *error)
{
    const struct lend_request *asked = &request->asked;
    uint64_t extents = asked->has_ranges ? asked->run_count : asked->region_count;
    uint64_t runs = asked->has_ranges ? 1 : asked->run_count;
    enum lend_status status = LEND_OK;

    if (asked->wants_sums)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "NIXL makes no checksums (LEND_TRANSFER_CHECKSUM)");
    request->extents = lend_sys->allocate(extents * sizeof *request->extents);
    request->runs = lend_sys->allocate(runs * sizeof *request->runs);
    if (request->extents == NULL || request->runs == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %llu runs",
                         (unsigned long long)asked->run_count);
    for (uint32_t i = 0; status == LEND_OK && i < asked->region_count; i++)
        status = resolve_region(channel, asked, region_ids[i], &request->extents[i], error);
    return status;
}

void lend_nixl_request_take(struct lend_nixl_channel *channel, const struct lend_frame *frame,
                            const uint8_t *payload)
{
    uint64_t region_ids[LEND_REQUEST_REGIONS_MAX];
    struct lend_nixl_request *request = NULL;
    struct lend_request asked;
    struct lend_error why;

    for (int i = 0; request == NULL && i < LEND_NIXL_REQUESTS; i++)
        if (channel->requests[i].phase == LEND_NIXL_REQUEST_FREE)
            request = &channel->requests[i];
    LEND_INVARIANT(request != NULL);
    enum lend_status status =
        lend_request_decode(payload, frame->payload_bytes, &asked, region_ids, &why);
    LEND_INVARIANT(status == LEND_OK);
    *request = (struct lend_nixl_request){
        .phase = LEND_NIXL_REQUEST_RUNS, .id = frame->request, .asked = asked};
    status = open_request(channel, request, region_ids, &why);
    if (status != LEND_OK)
        lend_nixl_request_end(channel, request, &why);
}

static enum lend_status take_ranges(struct lend_nixl_channel *channel,
                                    struct lend_nixl_request *request, const uint8_t *payload,
                                    size_t bytes, struct lend_error *error)
{
    enum { RANGES_PER_FRAME = LEND_FRAME_CONTROL_MAX / LEND_RUN_RANGE_BYTES };
    struct lend_run_range ranges[RANGES_PER_FRAME];
    uint64_t left = request->asked.run_count - request->runs_taken;
    size_t count;

    enum lend_status status = lend_run_ranges_decode(
        payload, bytes, ranges, left < RANGES_PER_FRAME ? (size_t)left : RANGES_PER_FRAME, &count,
        error);
    for (size_t i = 0; status == LEND_OK && i < count; i++)
        status =
            resolve_range(channel, &ranges[i], &request->extents[request->runs_taken++], error);
    return status;
}

static enum lend_status take_block_runs(struct lend_nixl_request *request, const uint8_t *payload,
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

void lend_nixl_request_take_runs(struct lend_nixl_channel *channel, const struct lend_frame *frame,
                                 const uint8_t *payload)
{
    struct lend_nixl_request *request = lend_nixl_request_find(channel, frame->request);
    struct lend_error why;

    if (request == NULL || request->phase != LEND_NIXL_REQUEST_RUNS)
        return; /* refused, or canceled, meanwhile */
    const struct lend_request *asked = &request->asked;
    enum lend_status status =
        asked->has_ranges ? take_ranges(channel, request, payload, frame->payload_bytes, &why)
                          : take_block_runs(request, payload, frame->payload_bytes, &why);
    if (status != LEND_OK) {
        lend_nixl_request_end(channel, request, &why);
        return;
    }
    if (request->runs_taken < asked->run_count)
        return;
    if (asked->has_ranges)
        request->runs[0] = (struct lend_run){.first = 0, .count = 1};
    lend_cursor_init(&request->cursor, request->extents,
                     asked->has_ranges ? asked->run_count : asked->region_count, request->runs,
                     asked->has_ranges ? 1 : asked->run_count);
    request->phase = LEND_NIXL_REQUEST_MOVE;
}
