/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: what one agent says in a control frame is what the other one hears, and a payload that is
 * cut, too long, or out of range is refused with its reason, with nothing written to out. Method:
 * each message is encoded and decoded; then fields are set to what no honest peer sends, or bytes
 * are changed, and decoded from copies of exactly their size.
 */

#include "wire_samples.h"

#include <lend/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROOM = LEND_FRAME_CONTROL_MAX };

/* A decoder of any message, in one shape. */
typedef enum lend_status decoder(const uint8_t *bytes, size_t count, void *out,
                                 struct lend_error *error);

static enum lend_status decode_hello(const uint8_t *bytes, size_t count, void *out,
                                     struct lend_error *error)
{
    return lend_hello_decode(bytes, count, out, error);
}

static enum lend_status decode_welcome(const uint8_t *bytes, size_t count, void *out,
                                       struct lend_error *error)
{
    return lend_welcome_decode(bytes, count, out, error);
}

static enum lend_status decode_verdict(const uint8_t *bytes, size_t count, void *out,
                                       struct lend_error *error)
{
    return lend_verdict_decode(bytes, count, out, error);
}

static enum lend_status decode_request(const uint8_t *bytes, size_t count, void *out,
                                       struct lend_error *error)
{
    static uint64_t ids[LEND_REQUEST_REGIONS_MAX];

    return lend_request_decode(bytes, count, out, ids, error);
}

enum { RUNS_ROOM = 4 };

static enum lend_status decode_runs(const uint8_t *bytes, size_t count, void *out,
                                    struct lend_error *error)
{
    size_t run_count = SIZE_MAX;
    enum lend_status status = lend_runs_decode(bytes, count, out, RUNS_ROOM, &run_count, error);

    assert_true(status == LEND_OK || run_count == SIZE_MAX);
    return status;
}

static enum lend_status decode_ranges(const uint8_t *bytes, size_t count, void *out,
                                      struct lend_error *error)
{
    size_t range_count = SIZE_MAX;
    enum lend_status status =
        lend_run_ranges_decode(bytes, count, out, RUNS_ROOM, &range_count, error);

    assert_true(status == LEND_OK || range_count == SIZE_MAX);
    return status;
}

static enum lend_status decode_credit(const uint8_t *bytes, size_t count, void *out,
                                      struct lend_error *error)
{
    return lend_credit_decode(bytes, count, out, error);
}

static enum lend_status decode_lease_name(const uint8_t *bytes, size_t count, void *out,
                                          struct lend_error *error)
{
    return lend_lease_name_decode(bytes, count, out, error);
}

static void assert_refused(decoder *decode, const uint8_t *bytes, size_t count, const char *reason)
{
    uint8_t *copy = copy_bytes(bytes, count);
    uint8_t out[512];
    struct lend_error error;

    memset(out, PAINT, sizeof out);
    assert_int_equal(decode(copy, count, out, &error), LEND_E_CORRUPT);
    assert_true(is_painted(out, sizeof out));
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error.message);
    free(copy);
}

/* Refused at every cut, and with a byte more. bytes has room for it. */
static void assert_exact(decoder *decode, uint8_t *bytes, size_t count)
{
    bytes[count] = 0;
    assert_refused(decode, bytes, count + 1, "");
    for (size_t length = 0; length < count; length++)
        assert_refused(decode, bytes, length, "");
}

static void test_hello_comes_back_as_it_was(void **state)
{
    (void)state;
    struct lend_hello hello = sample_hello(), again;
    uint8_t bytes[ROOM];
    size_t count = lend_hello_encode(&hello, bytes, ROOM);

    assert_int_equal(lend_hello_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(hellos_are_equal(&hello, &again));
    assert_exact(decode_hello, bytes, count);
}

static void test_hello_has_a_name_and_a_range_of_versions(void **state)
{
    (void)state;
    struct lend_hello hello = sample_hello();
    uint8_t bytes[ROOM];

    hello.version_min = 0;
    assert_refused(decode_hello, bytes, lend_hello_encode(&hello, bytes, ROOM), "versions 0 to 3");
    hello.version_min = 4;
    assert_refused(decode_hello, bytes, lend_hello_encode(&hello, bytes, ROOM), "versions 4 to 3");

    hello = sample_hello();
    hello.name[3] = '\x1b';
    assert_refused(decode_hello, bytes, lend_hello_encode(&hello, bytes, ROOM),
                   "the client's name has a control character");
    hello.name[0] = '\0';
    assert_refused(decode_hello, bytes, lend_hello_encode(&hello, bytes, ROOM),
                   "the client's name is empty");
}

static void test_welcome_comes_back_as_it_was(void **state)
{
    (void)state;
    struct lend_welcome welcome = sample_welcome(), again;
    uint8_t bytes[ROOM];
    size_t count = lend_welcome_encode(&welcome, bytes, ROOM);

    assert_int_equal(lend_welcome_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(welcomes_are_equal(&welcome, &again));
    assert_exact(decode_welcome, bytes, count);
}

static void test_welcome_has_a_version_and_1_to_64_requests(void **state)
{
    (void)state;
    struct lend_welcome welcome = sample_welcome();
    uint8_t bytes[ROOM];

    welcome.requests_max = 65;
    assert_refused(decode_welcome, bytes, lend_welcome_encode(&welcome, bytes, ROOM),
                   "65 requests at a time, not 1 to 64");
    welcome.requests_max = 0;
    assert_refused(decode_welcome, bytes, lend_welcome_encode(&welcome, bytes, ROOM), "0 requests");
    welcome = sample_welcome();
    welcome.version = 0;
    assert_refused(decode_welcome, bytes, lend_welcome_encode(&welcome, bytes, ROOM), "version 0");
}

static void test_verdict_comes_back_as_it_was(void **state)
{
    (void)state;
    struct lend_verdict verdicts[] = {sample_verdict(), {.status = LEND_OK, .bytes = UINT64_MAX}};
    uint8_t bytes[ROOM];

    memset(verdicts[1].text, 'x', LEND_MESSAGE_TEXT_MAX);
    for (int i = 0; i < 2; i++) {
        struct lend_verdict again;
        size_t count = lend_verdict_encode(&verdicts[i], bytes, ROOM);

        assert_int_equal(lend_verdict_decode(bytes, count, &again, NULL), LEND_OK);
        assert_true(verdicts_are_equal(&verdicts[i], &again));
        assert_exact(decode_verdict, bytes, count);
    }
}

static void test_verdict_of_an_unknown_status_is_corrupt(void **state)
{
    (void)state;
    static const int32_t statuses[] = {LEND_PENDING, 77, -1000, INT32_MIN, INT32_MAX};

    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct lend_verdict verdict = {.status = statuses[i]}, again;
        uint8_t bytes[ROOM];
        size_t count = lend_verdict_encode(&verdict, bytes, ROOM);

        assert_int_equal(lend_verdict_decode(bytes, count, &again, NULL), LEND_OK);
        assert_int_equal(again.status, LEND_E_CORRUPT);
    }
}

static void test_verdict_text_is_made_printable(void **state)
{
    (void)state;
    struct lend_verdict verdict = {.status = LEND_E_BUSY, .text = "a\nb\x1b[2Jc\x7f\xc3\xa9"},
                        again;
    uint8_t bytes[ROOM];
    size_t count = lend_verdict_encode(&verdict, bytes, ROOM);

    bytes[count - 6] = '\0'; /* the 2 */
    assert_int_equal(lend_verdict_decode(bytes, count, &again, NULL), LEND_OK);
    assert_string_equal(again.text, "a?b?[?Jc?\xc3\xa9");
}

static void test_verdict_text_has_a_limit(void **state)
{
    (void)state;
    enum { TEXT_AT = 13 };
    uint8_t bytes[TEXT_AT + LEND_MESSAGE_TEXT_MAX + 1] = {[TEXT_AT - 1] =
                                                              LEND_MESSAGE_TEXT_MAX + 1};

    assert_refused(decode_verdict, bytes, sizeof bytes, "201 bytes, over the limit of 200");
}

static void test_credit_comes_back_as_it_was(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    uint64_t again = 0;
    size_t count = lend_credit_encode(UINT64_MAX - 5, bytes, ROOM);

    assert_int_equal(lend_credit_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(again == UINT64_MAX - 5);
    assert_exact(decode_credit, bytes, count);
}

static void test_lease_name_comes_back_as_it_was(void **state)
{
    (void)state;
    struct lend_lease_name name = sample_lease_name(), again;
    uint8_t bytes[ROOM];
    size_t count = lend_lease_name_encode(&name, bytes, ROOM);

    assert_int_equal(lend_lease_name_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(lease_names_are_equal(&name, &again));
    assert_exact(decode_lease_name, bytes, count);
}

static void test_messages_measure_what_does_not_fit(void **state)
{
    (void)state;
    struct lend_hello hello = sample_hello();
    struct lend_request request = sample_request();
    static const uint64_t ids[] = {1, 2, 3};
    uint8_t bytes[ROOM];
    size_t hello_count = lend_hello_encode(&hello, bytes, ROOM);
    size_t request_count = lend_request_encode(&request, ids, bytes, ROOM);

    for (size_t capacity = 0; capacity < hello_count; capacity++) {
        uint8_t *small = malloc(capacity);

        assert_int_equal(lend_hello_encode(&hello, small, capacity), hello_count);
        assert_int_equal(lend_request_encode(&request, ids, small, capacity), request_count);
        free(small);
    }
}

/* ---- REQUEST ---- */

static void assert_request_comes_back(const struct lend_request *request, const uint64_t *ids,
                                      size_t bytes_max)
{
    static uint64_t again_ids[LEND_REQUEST_REGIONS_MAX];
    static uint8_t bytes[ROOM + 1];
    struct lend_request again;
    size_t count = lend_request_encode(request, ids, bytes, ROOM);

    assert_in_range(count, 1, bytes_max);
    assert_int_equal(lend_request_decode(bytes, count, &again, again_ids, NULL), LEND_OK);
    assert_true(requests_are_equal(request, &again));
    for (uint32_t i = 0; i < request->region_count; i++)
        assert_true(ids[i] == again_ids[i]);
    if (count < 100)
        assert_exact(decode_request, bytes, count);
}

static void test_request_comes_back_as_it_was(void **state)
{
    (void)state;
    static const uint64_t ids[] = {5, 6, 7}, scattered[] = {UINT64_MAX - 1, 1, 1};
    struct lend_request request = sample_request();

    assert_request_comes_back(&request, ids, 64);
    request.direction = LEND_WRITE;
    request.slice_length_bytes = request.slice_offset_bytes = 0;
    request.run_count = LEND_REQUEST_RUNS_MAX;
    request.total_bytes = UINT64_MAX;
    assert_request_comes_back(&request, scattered, 128);
    request.has_ranges = true;
    request.region_count = 0;
    assert_request_comes_back(&request, NULL, 64);
}

static void test_consecutive_regions_of_a_request_take_no_room(void **state)
{
    (void)state;
    static uint64_t ids[LEND_REQUEST_REGIONS_MAX];
    struct lend_request request = sample_request();

    for (uint32_t i = 0; i < LEND_REQUEST_REGIONS_MAX; i++)
        ids[i] = 1000 + i;
    request.region_count = LEND_REQUEST_REGIONS_MAX;
    assert_request_comes_back(&request, ids, 64);
}

static void test_any_regions_of_a_request_fit_a_control_frame(void **state)
{
    (void)state;
    static uint64_t ids[LEND_REQUEST_REGIONS_MAX];
    struct lend_request request = sample_request();

    for (uint32_t i = 0; i < LEND_REQUEST_REGIONS_MAX; i++)
        ids[i] = i % 2 == 0 ? 1 + i : (UINT64_C(1) << 63) - i;
    request.region_count = LEND_REQUEST_REGIONS_MAX;
    request.slice_offset_bytes = request.slice_length_bytes = LEND_MEMORY_BYTES_MAX / 2;
    request.total_bytes = UINT64_MAX;
    assert_request_comes_back(&request, ids, LEND_FRAME_CONTROL_MAX);
}

static void assert_request_refused(const struct lend_request *request, const char *reason)
{
    static const uint64_t ids[LEND_REQUEST_REGIONS_MAX] = {1, 2, 3};
    static uint8_t bytes[ROOM];
    size_t count = lend_request_encode(request, ids, bytes, ROOM);

    assert_refused(decode_request, bytes, count, reason);
}

static void test_fields_of_a_request_are_in_range(void **state)
{
    (void)state;
    struct lend_request good = sample_request(), bad;

    bad = good, bad.direction = 0;
    assert_request_refused(&bad, "unknown direction 0");
    bad = good, bad.direction = 3;
    assert_request_refused(&bad, "unknown direction 3");
    bad = good, bad.run_count = 0;
    assert_request_refused(&bad, "of 0 runs, not 1 to 32768");
    bad = good, bad.run_count = LEND_REQUEST_RUNS_MAX + 1;
    assert_request_refused(&bad, "of 32769 runs");
    bad = good, bad.total_bytes = 0;
    assert_request_refused(&bad, "0 bytes");
    bad = good, bad.region_count = 0;
    assert_request_refused(&bad, "for 0 regions");
    bad = good, bad.has_ranges = true, bad.slice_length_bytes = bad.slice_offset_bytes = 0;
    assert_request_refused(&bad, "for 3 regions and ranges");
}

static void test_slice_of_a_request_is_in_range(void **state)
{
    (void)state;
    struct lend_request good = sample_request(), bad;

    bad = good, bad.slice_offset_bytes = LEND_MEMORY_BYTES_MAX;
    assert_request_refused(&bad, "slice of 2048 bytes at 70368744177664");
    bad = good, bad.slice_offset_bytes = UINT64_MAX;
    assert_request_refused(&bad, "at 18446744073709551615");
    bad = good, bad.slice_length_bytes = UINT64_MAX - 4095; /* wraps to 0 */
    assert_request_refused(&bad, "slice of 18446744073709547520 bytes");
    bad = good, bad.slice_length_bytes = 0;
    assert_request_refused(&bad, "slice of 0 bytes at 4096");
    bad = good, bad.has_ranges = true, bad.region_count = 0;
    assert_request_refused(&bad, "slice of 2048 bytes at 4096 of ranges");
}

static void test_region_ids_of_a_request_are_in_range(void **state)
{
    (void)state;
    struct lend_request request = sample_request();
    static const uint64_t zero[] = {0, 1, 2}, top[] = {UINT64_MAX, 7, 8};
    uint8_t bytes[ROOM];
    size_t count = lend_request_encode(&request, zero, bytes, ROOM);

    assert_refused(decode_request, bytes, count, "for region 0 and 2 more");
    count = lend_request_encode(&request, top, bytes, ROOM);
    assert_refused(decode_request, bytes, count, "for region 18446744073709551615 and 0 more");
}

static void test_runs_of_region_ids_do_not_exceed_their_count(void **state)
{
    (void)state;
    struct lend_request request = sample_request();
    static const uint64_t ids[] = {1, 2, 3};
    uint8_t bytes[ROOM];
    size_t count = lend_request_encode(&request, ids, bytes, ROOM);

    assert_int_equal(bytes[count - 1], 3); /* the only run's length */
    bytes[count - 1] = 4;
    assert_refused(decode_request, bytes, count, "3 regions has a run of 4 at 0");
    bytes[count - 1] = 0;
    assert_refused(decode_request, bytes, count, "3 regions has a run of 0 at 0");
    memset(bytes + count - 1, 0xff, 9);
    bytes[count + 8] = 0x01; /* 2^64 - 1: wraps any sum */
    assert_refused(decode_request, bytes, count + 9, "a run of 18446744073709551615 at 0");
}

static void test_regions_of_a_request_have_a_limit(void **state)
{
    (void)state;
    struct lend_request request = sample_request();
    static const uint64_t ids[] = {1, 2, 3};
    uint8_t bytes[ROOM];
    size_t count = lend_request_encode(&request, ids, bytes, ROOM);

    assert_int_equal(bytes[count - 3], 3); /* varint region count, then id and length */
    bytes[count - 3] = 0x81;               /* 2,049 */
    bytes[count - 2] = 0x10;
    assert_refused(decode_request, bytes, count, "for 2049 regions");
}

static void test_unknown_flags_of_a_request_are_refused(void **state)
{
    (void)state;
    struct lend_request request = sample_request();
    static const uint64_t ids[] = {1, 2, 3};
    uint8_t bytes[ROOM];
    size_t count = lend_request_encode(&request, ids, bytes, ROOM);

    bytes[1] = 0x82;
    assert_refused(decode_request, bytes, count, "unknown flags 0x82");
}

/* ---- RUNS ---- */

static void test_runs_come_back_as_they_were(void **state)
{
    (void)state;
    static const struct lend_run runs[] = {{0, 1}, {16383, 2}, {0x7fffffff, 1}, {0, 0x80000000}};
    static const uint8_t first[] = {0xff, 0x3f, 0, 0, 2, 0, 0, 0};
    struct lend_run again[RUNS_ROOM];
    uint8_t bytes[sizeof runs + 1];
    size_t count = 0;

    lend_runs_encode(runs, RUNS_ROOM, bytes);
    assert_memory_equal(bytes + LEND_RUN_BYTES, first, sizeof first);
    assert_int_equal(lend_runs_decode(bytes, sizeof runs, again, RUNS_ROOM, &count, NULL), LEND_OK);
    assert_int_equal(count, RUNS_ROOM);
    assert_memory_equal(runs, again, sizeof runs);
    assert_refused(decode_runs, bytes, 0, "RUNS of 0 bytes");
    assert_refused(decode_runs, bytes, sizeof runs - 1, "RUNS of 31 bytes, and each run takes 8");
}

static void test_runs_are_in_range(void **state)
{
    (void)state;
    static const struct lend_run bad[] = {
        {5, 0}, {0x80000000, 1}, {0x7fffffff, 2}, {1, 0x80000000}, {UINT32_MAX, 2}};
    struct lend_run runs[RUNS_ROOM] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}};
    uint8_t bytes[sizeof runs + LEND_RUN_BYTES] = {0};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char reason[64];

        runs[3] = bad[i];
        lend_runs_encode(runs, RUNS_ROOM, bytes);
        (void)snprintf(reason, sizeof reason, "run 3 of RUNS is %u blocks from %u", bad[i].count,
                       bad[i].first);
        assert_refused(decode_runs, bytes, sizeof runs, reason);
    }
    assert_refused(decode_runs, bytes, sizeof bytes, "5 RUNS, and the request has only 4 left");
}

static void test_ranges_come_back_as_they_were(void **state)
{
    (void)state;
    static const struct lend_run_range ranges[] = {
        {1, 0, LEND_MEMORY_BYTES_MAX}, {UINT64_MAX, LEND_MEMORY_BYTES_MAX - 1, 1}, {7, 4096, 100}};
    struct lend_run_range again[RUNS_ROOM];
    uint8_t bytes[sizeof ranges + 1];
    size_t count = 0;

    lend_run_ranges_encode(ranges, 3, bytes);
    assert_int_equal(lend_run_ranges_decode(bytes, sizeof ranges, again, RUNS_ROOM, &count, NULL),
                     LEND_OK);
    assert_int_equal(count, 3);
    assert_memory_equal(ranges, again, sizeof ranges);
    assert_exact(decode_ranges, bytes, LEND_RUN_RANGE_BYTES);
}

static void test_ranges_are_in_range(void **state)
{
    (void)state;
    static const struct lend_run_range bad[] = {
        {0, 0, 1},
        {1, 0, 0},
        {1, 0, LEND_MEMORY_BYTES_MAX + 1},
        {1, LEND_MEMORY_BYTES_MAX, 1},
        {1, UINT64_MAX, 2},
        {1, 2, UINT64_MAX},
    };
    struct lend_run_range ranges[2] = {{1, 0, 1}};
    uint8_t bytes[5 * LEND_RUN_RANGE_BYTES] = {0};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ranges[1] = bad[i];
        lend_run_ranges_encode(ranges, 2, bytes);
        assert_refused(decode_ranges, bytes, sizeof ranges, "range 1 of RUNS is");
    }
    assert_refused(decode_ranges, bytes, sizeof bytes, "5 RUNS, and the request has only 4 left");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_comes_back_as_it_was),
        cmocka_unit_test(test_hello_has_a_name_and_a_range_of_versions),
        cmocka_unit_test(test_welcome_comes_back_as_it_was),
        cmocka_unit_test(test_welcome_has_a_version_and_1_to_64_requests),
        cmocka_unit_test(test_verdict_comes_back_as_it_was),
        cmocka_unit_test(test_verdict_of_an_unknown_status_is_corrupt),
        cmocka_unit_test(test_verdict_text_is_made_printable),
        cmocka_unit_test(test_verdict_text_has_a_limit),
        cmocka_unit_test(test_credit_comes_back_as_it_was),
        cmocka_unit_test(test_lease_name_comes_back_as_it_was),
        cmocka_unit_test(test_messages_measure_what_does_not_fit),
        cmocka_unit_test(test_request_comes_back_as_it_was),
        cmocka_unit_test(test_consecutive_regions_of_a_request_take_no_room),
        cmocka_unit_test(test_any_regions_of_a_request_fit_a_control_frame),
        cmocka_unit_test(test_fields_of_a_request_are_in_range),
        cmocka_unit_test(test_slice_of_a_request_is_in_range),
        cmocka_unit_test(test_region_ids_of_a_request_are_in_range),
        cmocka_unit_test(test_runs_of_region_ids_do_not_exceed_their_count),
        cmocka_unit_test(test_regions_of_a_request_have_a_limit),
        cmocka_unit_test(test_unknown_flags_of_a_request_are_refused),
        cmocka_unit_test(test_runs_come_back_as_they_were),
        cmocka_unit_test(test_runs_are_in_range),
        cmocka_unit_test(test_ranges_come_back_as_they_were),
        cmocka_unit_test(test_ranges_are_in_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
