/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/message.h"

#include "base/error.h"
#include "wire/field.h"

#include <lend/transfer.h>

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>

/* ---- REQUEST ----
 *
 *     u8 direction | u8 flags | lease's name | varint slice offset | varint slice length |
 *     varint run count | varint total bytes | varint region count | packed region ids
 *
 * The ids are runs of consecutive ones: {zigzag varint: the first, less the last id before it (0 at
 * first) | varint count}.
 */

enum { FLAG_RANGES = 1, FLAG_SUMS = 2 };

static void write_region_ids(struct lend_writer *writer, const uint64_t *ids, uint32_t count)
{
    uint64_t last = 0;
    uint32_t length;

    for (uint32_t i = 0; i < count; i += length) {
        for (length = 1; i + length < count; length++) {
            if (ids[i + length] != ids[i] + length)
                break;
        }
        lend_write_varint(writer, lend_zigzag(ids[i] - last));
        lend_write_varint(writer, length);
        last = ids[i] + length - 1;
    }
}

size_t lend_request_encode(const struct lend_request *request, const uint64_t *region_ids,
                           void *bytes, size_t capacity)
{
    assert(request->region_count <= LEND_REQUEST_REGIONS_MAX);

    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u8(&writer, request->direction);
    lend_write_u8(&writer, (uint8_t)((request->has_ranges ? FLAG_RANGES : 0) |
                                     (request->wants_sums ? FLAG_SUMS : 0)));
    lend_lease_name_write(&writer, &request->lease);
    lend_write_varint(&writer, request->slice_offset_bytes);
    lend_write_varint(&writer, request->slice_length_bytes);
    lend_write_varint(&writer, request->run_count);
    lend_write_varint(&writer, request->total_bytes);
    lend_write_varint(&writer, request->region_count);
    write_region_ids(&writer, region_ids, request->region_count);
    return writer.count;
}

static enum lend_status read_region_ids(struct lend_reader *reader, uint32_t count, uint64_t *ids,
                                        struct lend_error *error)
{
    uint64_t last = 0;
    uint64_t length;

    for (uint32_t i = 0; i < count; i += (uint32_t)length) {
        uint64_t first = last + lend_unzigzag(lend_read_varint(reader));

        length = lend_read_varint(reader);
        if (reader->bad)
            return lend_fail(error, LEND_E_CORRUPT, "a REQUEST is cut within its %u regions",
                             count);
        if (length == 0 || length > count - i)
            return lend_fail(error, LEND_E_CORRUPT,
                             "a REQUEST of %u regions has a run of %" PRIu64 " at %u", count,
                             length, i);
        if (first == 0 || first > UINT64_MAX - length)
            return lend_fail(error, LEND_E_CORRUPT,
                             "a REQUEST for region %" PRIu64 " and %" PRIu64 " more", first,
                             length - 1);
        for (uint32_t k = 0; k < length; k++)
            ids[i + k] = first + k;
        last = first + length - 1;
    }
    return LEND_OK;
}

static enum lend_status check_request(const struct lend_request *request, uint64_t region_count,
                                      struct lend_error *error)
{
    uint64_t offset = request->slice_offset_bytes;
    uint64_t length = request->slice_length_bytes;

    if (request->direction != LEND_READ && request->direction != LEND_WRITE)
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST of unknown direction %u",
                         request->direction);
    if (request->has_ranges ? region_count != 0
                            : region_count == 0 || region_count > LEND_REQUEST_REGIONS_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST for %" PRIu64 " regions%s", region_count,
                         request->has_ranges ? " and ranges" : "");
    if (offset > LEND_MEMORY_BYTES_MAX || length > LEND_MEMORY_BYTES_MAX - offset ||
        (length == 0 && offset != 0) || (length != 0 && request->has_ranges))
        return lend_fail(error, LEND_E_CORRUPT,
                         "a REQUEST for a slice of %" PRIu64 " bytes at %" PRIu64 "%s", length,
                         offset, request->has_ranges ? " of ranges" : "");
    if (request->run_count == 0 || request->run_count > LEND_REQUEST_RUNS_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST of %" PRIu64 " runs, not 1 to %d",
                         request->run_count, LEND_REQUEST_RUNS_MAX);
    if (request->total_bytes == 0)
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST for 0 bytes");
    return LEND_OK;
}

enum lend_status lend_request_decode(const void *bytes, size_t count, struct lend_request *out,
                                     uint64_t *region_ids, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_request request = {0};

    request.direction = lend_read_u8(&reader);
    uint8_t flags = lend_read_u8(&reader);
    request.has_ranges = (flags & FLAG_RANGES) != 0;
    request.wants_sums = (flags & FLAG_SUMS) != 0;
    lend_lease_name_read(&reader, &request.lease);
    request.slice_offset_bytes = lend_read_varint(&reader);
    request.slice_length_bytes = lend_read_varint(&reader);
    request.run_count = lend_read_varint(&reader);
    request.total_bytes = lend_read_varint(&reader);
    uint64_t region_count = lend_read_varint(&reader);

    if (reader.bad)
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST of %zu bytes is cut", count);
    if (flags & ~(FLAG_RANGES | FLAG_SUMS))
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST with unknown flags 0x%02x", flags);
    enum lend_status status = check_request(&request, region_count, error);
    if (status != LEND_OK)
        return status;
    request.region_count = (uint32_t)region_count;

    status = read_region_ids(&reader, request.region_count, region_ids, error);
    if (status != LEND_OK)
        return status;
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a REQUEST of %zu bytes has %zu too many", count,
                         reader.left);

    *out = request;
    return LEND_OK;
}

/* ---- RUNS ----
 *
 * Tables that are read by the thousand: plain loads, which a compiler makes wide, in place of the
 * reader. They are checked whole before the first one is stored.
 */

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;

    memcpy(&value, bytes, sizeof value);
    return le32toh(value);
}

static uint64_t load_u64(const uint8_t *bytes)
{
    uint64_t value;

    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

static void store_u32(uint8_t *bytes, uint32_t value)
{
    value = htole32(value);
    memcpy(bytes, &value, sizeof value);
}

static void store_u64(uint8_t *bytes, uint64_t value)
{
    value = htole64(value);
    memcpy(bytes, &value, sizeof value);
}

static struct lend_run load_run(const uint8_t *bytes)
{
    return (struct lend_run){.first = load_u32(bytes), .count = load_u32(bytes + 4)};
}

static struct lend_run_range load_range(const uint8_t *bytes)
{
    return (struct lend_run_range){.region_id = load_u64(bytes),
                                   .offset_bytes = load_u64(bytes + 8),
                                   .length_bytes = load_u64(bytes + 16)};
}

static bool run_is_valid(struct lend_run run)
{
    return run.count > 0 && (uint64_t)run.first + run.count <= LEND_REGION_BLOCKS_MAX;
}

static bool range_is_valid(struct lend_run_range range)
{
    return range.region_id > 0 && range.length_bytes > 0 &&
           range.length_bytes <= LEND_MEMORY_BYTES_MAX &&
           range.offset_bytes <= LEND_MEMORY_BYTES_MAX - range.length_bytes;
}

void lend_runs_encode(const struct lend_run *runs, size_t count, void *bytes)
{
    uint8_t *next = bytes;

    for (size_t i = 0; i < count; i++, next += LEND_RUN_BYTES) {
        store_u32(next, runs[i].first);
        store_u32(next + 4, runs[i].count);
    }
}

void lend_run_ranges_encode(const struct lend_run_range *ranges, size_t count, void *bytes)
{
    uint8_t *next = bytes;

    for (size_t i = 0; i < count; i++, next += LEND_RUN_RANGE_BYTES) {
        store_u64(next, ranges[i].region_id);
        store_u64(next + 8, ranges[i].offset_bytes);
        store_u64(next + 16, ranges[i].length_bytes);
    }
}

/* Do count bytes hold whole entries, at least one, and no more than capacity? */
static enum lend_status check_table(size_t count, size_t entry_bytes, size_t capacity,
                                    struct lend_error *error)
{
    if (count == 0 || count % entry_bytes != 0)
        return lend_fail(error, LEND_E_CORRUPT, "RUNS of %zu bytes, and each run takes %zu", count,
                         entry_bytes);
    if (count / entry_bytes > capacity)
        return lend_fail(error, LEND_E_CORRUPT, "%zu RUNS, and the request has only %zu left",
                         count / entry_bytes, capacity);
    return LEND_OK;
}

enum lend_status lend_runs_decode(const void *bytes, size_t count, struct lend_run *out,
                                  size_t capacity, size_t *out_count, struct lend_error *error)
{
    const uint8_t *start = bytes;
    size_t run_count = count / LEND_RUN_BYTES;
    enum lend_status status = check_table(count, LEND_RUN_BYTES, capacity, error);

    if (status != LEND_OK)
        return status;
    for (size_t i = 0; i < run_count; i++) {
        struct lend_run run = load_run(start + i * LEND_RUN_BYTES);

        if (!run_is_valid(run))
            return lend_fail(error, LEND_E_CORRUPT, "run %zu of RUNS is %u blocks from %u", i,
                             run.count, run.first);
    }

    for (size_t i = 0; i < run_count; i++)
        out[i] = load_run(start + i * LEND_RUN_BYTES);
    *out_count = run_count;
    return LEND_OK;
}

enum lend_status lend_run_ranges_decode(const void *bytes, size_t count, struct lend_run_range *out,
                                        size_t capacity, size_t *out_count,
                                        struct lend_error *error)
{
    const uint8_t *start = bytes;
    size_t range_count = count / LEND_RUN_RANGE_BYTES;
    enum lend_status status = check_table(count, LEND_RUN_RANGE_BYTES, capacity, error);

    if (status != LEND_OK)
        return status;
    for (size_t i = 0; i < range_count; i++) {
        struct lend_run_range range = load_range(start + i * LEND_RUN_RANGE_BYTES);

        if (!range_is_valid(range))
            return lend_fail(error, LEND_E_CORRUPT,
                             "range %zu of RUNS is %" PRIu64 " bytes at %" PRIu64
                             " of region %" PRIu64,
                             i, range.length_bytes, range.offset_bytes, range.region_id);
    }

    for (size_t i = 0; i < range_count; i++)
        out[i] = load_range(start + i * LEND_RUN_RANGE_BYTES);
    *out_count = range_count;
    return LEND_OK;
}
