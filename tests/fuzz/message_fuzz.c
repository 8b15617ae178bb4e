/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no payload of a control frame can crash us, and what is accepted obeys its limits, says the
 * same when it is written again, and fits a frame. Method: the first byte of the input chooses the
 * message, the rest is its payload.
 */

#include "fuzz/fuzz.h"
#include "wire_samples.h"

#include <lend/transfer.h>

enum { ROOM = LEND_FRAME_CONTROL_MAX };

/* Was it accepted? If not, out must still be as it was painted. */
static int was_accepted(enum lend_status status, const struct lend_error *error, const void *out,
                        size_t out_bytes)
{
    if (status == LEND_OK)
        return 1;
    CHECK(status == LEND_E_CORRUPT);
    CHECK(error->status == status && error->message[0] != '\0');
    CHECK(is_painted(out, out_bytes));
    return 0;
}

static void check_name(const char *name)
{
    size_t count = strlen(name);

    CHECK(count > 0 && count <= LEND_AGENT_NAME_BYTES_MAX);
    for (size_t i = 0; i < count; i++)
        CHECK((uint8_t)name[i] >= 0x20 && name[i] != 0x7f);
}

static void try_hello(const uint8_t *bytes, size_t count)
{
    struct lend_hello hello;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&hello, PAINT, sizeof hello);
    enum lend_status status = lend_hello_decode(bytes, count, &hello, &error);
    if (was_accepted(status, &error, &hello, sizeof hello)) {
        check_name(hello.name);
        CHECK(hello.version_min > 0 && hello.version_min <= hello.version_max);
        CHECK(lend_hello_encode(&hello, written, ROOM) == count);
        CHECK(memcmp(written, bytes, count) == 0);
    }
}

static void try_welcome(const uint8_t *bytes, size_t count)
{
    struct lend_welcome welcome;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&welcome, PAINT, sizeof welcome);
    enum lend_status status = lend_welcome_decode(bytes, count, &welcome, &error);
    if (was_accepted(status, &error, &welcome, sizeof welcome)) {
        CHECK(welcome.version > 0);
        CHECK(welcome.requests_max >= 1 && welcome.requests_max <= 64);
        CHECK(lend_welcome_encode(&welcome, written, ROOM) == count);
        CHECK(memcmp(written, bytes, count) == 0);
    }
}

static void try_verdict(const uint8_t *bytes, size_t count)
{
    struct lend_verdict verdict, again;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&verdict, PAINT, sizeof verdict);
    enum lend_status status = lend_verdict_decode(bytes, count, &verdict, &error);
    if (was_accepted(status, &error, &verdict, sizeof verdict)) {
        CHECK(verdict.status <= 0);
        CHECK(strlen(verdict.text) <= LEND_MESSAGE_TEXT_MAX);
        for (const char *next = verdict.text; *next != '\0'; next++)
            CHECK((uint8_t)*next >= 0x20 && *next != 0x7f);
        CHECK(lend_verdict_encode(&verdict, written, ROOM) == count);
        CHECK(lend_verdict_decode(written, count, &again, NULL) == LEND_OK);
        CHECK(verdicts_are_equal(&verdict, &again));
    }
}

static void check_request(const struct lend_request *request, const uint64_t *ids)
{
    CHECK(request->direction == LEND_READ || request->direction == LEND_WRITE);
    CHECK(request->has_ranges == (request->region_count == 0));
    CHECK(request->region_count <= LEND_REQUEST_REGIONS_MAX);
    CHECK(request->run_count > 0 && request->run_count <= LEND_REQUEST_RUNS_MAX);
    CHECK(request->total_bytes > 0);
    CHECK(request->slice_length_bytes <= LEND_MEMORY_BYTES_MAX);
    CHECK(request->slice_offset_bytes <= LEND_MEMORY_BYTES_MAX - request->slice_length_bytes);
    CHECK(request->slice_length_bytes > 0 || request->slice_offset_bytes == 0);
    for (uint32_t i = 0; i < request->region_count; i++)
        CHECK(ids[i] > 0);
}

static void try_request(const uint8_t *bytes, size_t count)
{
    size_t ids_bytes = LEND_REQUEST_REGIONS_MAX * sizeof(uint64_t);
    uint64_t *ids = malloc(ids_bytes), *ids_again = malloc(ids_bytes);
    struct lend_request request, again;
    struct lend_error error;
    uint8_t written[ROOM];

    CHECK(ids != NULL && ids_again != NULL);
    memset(&request, PAINT, sizeof request);
    enum lend_status status = lend_request_decode(bytes, count, &request, ids, &error);
    if (was_accepted(status, &error, &request, sizeof request)) {
        check_request(&request, ids);
        size_t length = lend_request_encode(&request, ids, written, ROOM);
        CHECK(length <= ROOM);
        CHECK(lend_request_decode(written, length, &again, ids_again, NULL) == LEND_OK);
        CHECK(requests_are_equal(&request, &again));
        CHECK(memcmp(ids, ids_again, request.region_count * sizeof *ids) == 0);
    }
    free(ids);
    free(ids_again);
}

static void try_runs(const uint8_t *bytes, size_t count)
{
    enum { CAPACITY = 20 };
    struct lend_run runs[CAPACITY];
    size_t run_count = SIZE_MAX;
    struct lend_error error;
    uint8_t written[CAPACITY * LEND_RUN_BYTES];

    memset(runs, PAINT, sizeof runs);
    enum lend_status status = lend_runs_decode(bytes, count, runs, CAPACITY, &run_count, &error);
    if (!was_accepted(status, &error, runs, sizeof runs)) {
        CHECK(run_count == SIZE_MAX);
        return;
    }
    CHECK(run_count > 0 && run_count <= CAPACITY && run_count * LEND_RUN_BYTES == count);
    for (size_t i = 0; i < run_count; i++) {
        CHECK(runs[i].count > 0);
        CHECK((uint64_t)runs[i].first + runs[i].count <= LEND_REGION_BLOCKS_MAX);
    }
    lend_runs_encode(runs, run_count, written);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_ranges(const uint8_t *bytes, size_t count)
{
    enum { CAPACITY = 8 };
    struct lend_run_range ranges[CAPACITY];
    size_t range_count = SIZE_MAX;
    struct lend_error error;
    uint8_t written[CAPACITY * LEND_RUN_RANGE_BYTES];

    memset(ranges, PAINT, sizeof ranges);
    enum lend_status status =
        lend_run_ranges_decode(bytes, count, ranges, CAPACITY, &range_count, &error);
    if (!was_accepted(status, &error, ranges, sizeof ranges)) {
        CHECK(range_count == SIZE_MAX);
        return;
    }
    CHECK(range_count > 0 && range_count * LEND_RUN_RANGE_BYTES == count);
    for (size_t i = 0; i < range_count; i++) {
        CHECK(ranges[i].region_id > 0 && ranges[i].length_bytes > 0);
        CHECK(ranges[i].length_bytes <= LEND_MEMORY_BYTES_MAX);
        CHECK(ranges[i].offset_bytes <= LEND_MEMORY_BYTES_MAX - ranges[i].length_bytes);
    }
    lend_run_ranges_encode(ranges, range_count, written);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_credit(const uint8_t *bytes, size_t count)
{
    uint64_t taken;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&taken, PAINT, sizeof taken);
    enum lend_status status = lend_credit_decode(bytes, count, &taken, &error);
    if (was_accepted(status, &error, &taken, sizeof taken)) {
        CHECK(lend_credit_encode(taken, written, ROOM) == count);
        CHECK(memcmp(written, bytes, count) == 0);
    }
}

static void try_lease_name(const uint8_t *bytes, size_t count)
{
    struct lend_lease_name name;
    struct lend_error error;
    uint8_t written[ROOM];

    memset(&name, PAINT, sizeof name);
    enum lend_status status = lend_lease_name_decode(bytes, count, &name, &error);
    if (was_accepted(status, &error, &name, sizeof name)) {
        CHECK(lend_lease_name_encode(&name, written, ROOM) == count);
        CHECK(memcmp(written, bytes, count) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static void (*const targets[])(const uint8_t *bytes, size_t count) = {
        try_hello, try_welcome, try_verdict, try_request,
        try_runs,  try_ranges,  try_credit,  try_lease_name,
    };

    if (count > 0 && count - 1 <= LEND_FRAME_CONTROL_MAX) {
        uint8_t *payload = copy_bytes(bytes + 1, count - 1);

        targets[bytes[0] % (sizeof targets / sizeof targets[0])](payload, count - 1);
        free(payload);
    }
    return 0;
}
