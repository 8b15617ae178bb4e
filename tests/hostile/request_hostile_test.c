/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a request reaches nothing that its lease does not allow, whatever it says: it is refused
 * with the documented status, or, where it breaks the protocol, its connection is cut with one. And
 * a lease that ends under it tells its cause, though the region is gone by then. Method: as
 * client_hostile_test.c.
 */
#include "hostile.h"

#include "base/sys.h"

#include <sched.h>
#include <stdatomic.h>

/* --- requests that are refused, on a connection that goes on --- */

struct bad_request {
    const char *what;
    void (*spoil)(struct asking *asking, const struct stage *stage);
    enum lend_status status;
};

static void forge_slot(struct asking *asking, const struct stage *stage)
{
    asking->request.lease.slot = stage->writing.slot;
    asking->request.lease.generation = stage->writing.generation;
}

static void forge_slot_beyond_all(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.lease.slot = UINT32_MAX;
}

static void forge_generation(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.lease.generation += UINT64_C(1) << 40;
}

static void forge_key(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.lease.key[15] ^= 1;
}

static void turn_direction(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.direction = LEND_WRITE;
}

static void name_foreign_region(struct asking *asking, const struct stage *stage)
{
    asking->region_ids[0] = stage->closed_id;
    asking->request.total_bytes = CLOSED_BYTES;
    asking->runs[0] = (struct lend_run){.first = 0, .count = 1};
}

static void name_no_region(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->region_ids[0] = UINT64_MAX - 1;
}

static void add_foreign_region(struct asking *asking, const struct stage *stage)
{
    asking->region_ids[1] = stage->gaps_id;
    asking->request.region_count = 2;
}

static void leave_lease(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->runs[0] = (struct lend_run){.first = QUARTER, .count = 2};
}

static void cross_lease(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->runs[0] = (struct lend_run){.first = QUARTER - 1, .count = 2};
}

static void leave_region(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->runs[0] = (struct lend_run){.first = (1U << 31) - 2, .count = 2};
}

static void ask_for_all(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->runs[0] = (struct lend_run){.first = 0, .count = 1U << 31};
    asking->request.total_bytes = UINT64_C(1) << 43;
}

static void slice_beyond_row(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.slice_offset_bytes = BLOCK_BYTES - 1;
    asking->request.slice_length_bytes = 2;
}

static void slice_all_of_the_world(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.slice_length_bytes = UINT64_C(1) << 46;
}

static void promise_more(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.total_bytes++;
}

static void promise_less(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.total_bytes -= BLOCK_BYTES;
}

static void promise_the_world(struct asking *asking, const struct stage *stage)
{
    (void)stage;
    asking->request.total_bytes = UINT64_MAX;
}

static void to_range(struct asking *asking, const struct stage *stage, uint64_t offset,
                     uint64_t length)
{
    *asking = ask_range(stage, offset, length);
}

static void range_over_a_gap(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, 0, GAP_BLOCK_BYTES + 1);
}

static void range_in_a_gap(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, GAP_BLOCK_BYTES, 1);
}

static void range_behind_the_lease(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, (GAP_BLOCKS - 4) * GAP_STRIDE, 1);
}

static void range_behind_the_region(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, GAP_BYTES, 512);
}

static void range_up_to_the_limit(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, GAP_STRIDE, (UINT64_C(1) << 46) - GAP_STRIDE);
}

static void range_far_out(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, (UINT64_C(1) << 46) - 1, 1);
}

static void range_of_a_foreign_region(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, 0, 512);
    asking->ranges[0].region_id = stage->closed_id;
}

static void range_with_another_total(struct asking *asking, const struct stage *stage)
{
    to_range(asking, stage, 0, 512);
    asking->request.total_bytes = 511;
}

static void test_requests_beyond_the_lease_are_refused(void **state)
{
    static const struct bad_request bad[] = {
        {"another slot", forge_slot, LEND_E_UNKNOWN},
        {"a slot that is not", forge_slot_beyond_all, LEND_E_UNKNOWN},
        {"a generation to come", forge_generation, LEND_E_UNKNOWN},
        {"a wrong key", forge_key, LEND_E_UNKNOWN},
        {"a write by a read lease", turn_direction, LEND_E_ACCESS},
        {"a region of another's", name_foreign_region, LEND_E_OUT_OF_RANGE},
        {"a region that is not", name_no_region, LEND_E_OUT_OF_RANGE},
        {"a second region", add_foreign_region, LEND_E_OUT_OF_RANGE},
        {"blocks of another lease", leave_lease, LEND_E_OUT_OF_RANGE},
        {"a block too many", cross_lease, LEND_E_OUT_OF_RANGE},
        {"blocks that are not", leave_region, LEND_E_OUT_OF_RANGE},
        {"all blocks", ask_for_all, LEND_E_OUT_OF_RANGE},
        {"a slice over a row's end", slice_beyond_row, LEND_E_OUT_OF_RANGE},
        {"a slice of 64 TiB", slice_all_of_the_world, LEND_E_OUT_OF_RANGE},
        {"a byte too many", promise_more, LEND_E_OUT_OF_RANGE},
        {"a block too few", promise_less, LEND_E_OUT_OF_RANGE},
        {"2^64 - 1 bytes", promise_the_world, LEND_E_OUT_OF_RANGE},
        {"a range over a gap", range_over_a_gap, LEND_E_OUT_OF_RANGE},
        {"a range in a gap", range_in_a_gap, LEND_E_OUT_OF_RANGE},
        {"a range behind the lease", range_behind_the_lease, LEND_E_OUT_OF_RANGE},
        {"a range behind the region", range_behind_the_region, LEND_E_OUT_OF_RANGE},
        {"a range of 64 TiB", range_up_to_the_limit, LEND_E_OUT_OF_RANGE},
        {"a range far out", range_far_out, LEND_E_OUT_OF_RANGE},
        {"a range of another's region", range_of_a_foreign_region, LEND_E_OUT_OF_RANGE},
        {"a range and another total", range_with_another_total, LEND_E_OUT_OF_RANGE},
    };
    struct stage *stage = *state;
    static struct wire wire;
    uint64_t bytes;

    wire_meet(&wire, stage);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct asking asking = ask_read(stage, 3, 2);

        print_message("%s\n", bad[i].what);
        bad[i].spoil(&asking, stage);
        enum lend_status status = await_done(&wire, wire_ask(&wire, &asking), &bytes);
        assert_string_equal(lend_status_name(status), lend_status_name(bad[i].status));
        assert_int_equal(bytes, 0);
    }
    struct asking right = ask_read(stage, 3, 2);
    assert_int_equal(await_done(&wire, wire_ask(&wire, &right), &bytes), LEND_OK);
    assert_int_equal(bytes, 2 * BLOCK_BYTES);
    right = ask_range(stage, GAP_STRIDE + 1, GAP_BLOCK_BYTES - 1);
    assert_int_equal(await_done(&wire, wire_ask(&wire, &right), &bytes), LEND_OK);
    wire_close(&wire);
}

/* --- requests that cut the connection --- */

static void too_many_runs(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.run_count = 3;
    (void)wire_ask(wire, &asking);
}

static void runs_twice(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_write(stage, 0, 2);
    uint64_t request = wire_ask(wire, &asking);

    wire_send_runs(wire, request, &asking);
}

static void runs_for_a_request_to_come(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    wire_send_runs(wire, 5, &asking);
}

static void a_run_of_nothing(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.runs[0].count = 0;
    (void)wire_ask(wire, &asking);
}

static void a_run_that_wraps(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.runs[0] = (struct lend_run){.first = UINT32_MAX, .count = 2};
    (void)wire_ask(wire, &asking);
}

static void a_range_that_wraps(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_range(stage, 0, 512);

    asking.ranges[0].offset_bytes = UINT64_MAX - 255;
    (void)wire_ask(wire, &asking);
}

static void half_a_run(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.run_count = 0;
    (void)wire_send(wire, LEND_FRAME_RUNS, wire_ask(wire, &asking), "1234", 4);
}

static void no_runs(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.request.run_count = 0;
    (void)wire_ask(wire, &asking);
}

static void a_million_runs(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.request.run_count = 1 << 20;
    (void)wire_ask(wire, &asking);
}

static void no_bytes(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.request.total_bytes = 0;
    (void)wire_ask(wire, &asking);
}

static void a_third_direction(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.request.direction = 3;
    (void)wire_ask(wire, &asking);
}

static void a_slice_that_wraps(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    asking.request.slice_offset_bytes = UINT64_MAX - 1;
    asking.request.slice_length_bytes = 4096;
    (void)wire_ask(wire, &asking);
}

static void too_many_requests(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_write(stage, 0, 1); /* its bytes never come */

    for (int i = 0; i <= REQUESTS_MAX; i++)
        (void)wire_ask(wire, &asking);
}

static void a_lower_number(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    wire->request = 41;
    (void)await_done(wire, wire_ask(wire, &asking), NULL);
    wire->request = 40;
    (void)wire_ask(wire, &asking);
}

static void the_same_number(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_write(stage, 0, 1);

    (void)wire_ask(wire, &asking);
    wire->request--;
    (void)wire_ask(wire, &asking);
}

static void number_zero(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);

    wire->request = UINT64_MAX;
    (void)wire_ask(wire, &asking);
}

static void data_beyond_the_total(struct wire *wire, const struct stage *stage)
{
    static const uint8_t bytes[BLOCK_BYTES + 1];
    struct asking asking = ask_write(stage, 0, 1);

    (void)wire_send(wire, LEND_FRAME_DATA, wire_ask(wire, &asking), bytes, sizeof bytes);
}

static void data_for_a_read(struct wire *wire, const struct stage *stage)
{
    static const uint8_t bytes[BLOCK_BYTES];
    struct asking asking = ask_read(stage, 0, 1);

    asking.run_count = 0; /* so that it is not over yet */
    (void)wire_send(wire, LEND_FRAME_DATA, wire_ask(wire, &asking), bytes, sizeof bytes);
}

static void data_before_the_runs(struct wire *wire, const struct stage *stage)
{
    static const uint8_t bytes[BLOCK_BYTES];
    struct asking asking = ask_write(stage, 0, 1);

    asking.run_count = 0;
    (void)wire_send(wire, LEND_FRAME_DATA, wire_ask(wire, &asking), bytes, sizeof bytes);
}

static void data_for_a_request_to_come(struct wire *wire, const struct stage *stage)
{
    (void)stage;
    (void)wire_send(wire, LEND_FRAME_DATA, 1, "bytes", 5);
}

static void trailing_bytes(struct wire *wire, const struct stage *stage)
{
    struct asking asking = ask_read(stage, 0, 1);
    uint8_t bytes[256];
    size_t count = lend_request_encode(&asking.request, asking.region_ids, bytes, sizeof bytes);

    bytes[count] = 0;
    (void)wire_send(wire, LEND_FRAME_REQUEST, 1, bytes, count + 1);
}

static void a_long_notification(struct wire *wire, const struct stage *stage)
{
    static const uint8_t bytes[LEND_NOTIFICATION_BYTES_MAX + 1];

    (void)stage;
    (void)wire_send(wire, LEND_FRAME_NOTIFY, 0, bytes, sizeof bytes);
}

static void notifications_beyond_the_window(struct wire *wire, const struct stage *stage)
{
    static const uint8_t bytes[4096];

    (void)stage;
    for (int i = 0; i <= WINDOW_BYTES / 4096; i++)
        (void)wire_send(wire, LEND_FRAME_NOTIFY, 0, bytes, sizeof bytes);
}

static void test_requests_that_break_the_protocol_cut_the_connection(void **state)
{
    static const struct {
        const char *what;
        void (*act)(struct wire *wire, const struct stage *stage);
        enum lend_status status;
    } bad[] = {
        {"too many runs", too_many_runs, LEND_E_CORRUPT},
        {"runs twice", runs_twice, LEND_E_CORRUPT},
        {"runs of a request to come", runs_for_a_request_to_come, LEND_E_CORRUPT},
        {"a run of nothing", a_run_of_nothing, LEND_E_CORRUPT},
        {"a run that wraps", a_run_that_wraps, LEND_E_CORRUPT},
        {"a range that wraps", a_range_that_wraps, LEND_E_CORRUPT},
        {"half a run", half_a_run, LEND_E_CORRUPT},
        {"no runs", no_runs, LEND_E_CORRUPT},
        {"a million runs", a_million_runs, LEND_E_CORRUPT},
        {"no bytes", no_bytes, LEND_E_CORRUPT},
        {"a third direction", a_third_direction, LEND_E_CORRUPT},
        {"a slice that wraps", a_slice_that_wraps, LEND_E_CORRUPT},
        {"too many requests", too_many_requests, LEND_E_LIMIT},
        {"a lower number", a_lower_number, LEND_E_CORRUPT},
        {"the same number", the_same_number, LEND_E_CORRUPT},
        {"number 0", number_zero, LEND_E_CORRUPT},
        {"data beyond the total", data_beyond_the_total, LEND_E_CORRUPT},
        {"data for a read", data_for_a_read, LEND_E_CORRUPT},
        {"data before the runs", data_before_the_runs, LEND_E_CORRUPT},
        {"data of a request to come", data_for_a_request_to_come, LEND_E_CORRUPT},
        {"a request and a byte", trailing_bytes, LEND_E_CORRUPT},
        {"a long notification", a_long_notification, LEND_E_LIMIT},
        {"notifications beyond the window", notifications_beyond_the_window, LEND_E_LIMIT},
    };
    struct stage *stage = *state;
    static struct wire wire;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        print_message("%s\n", bad[i].what);
        wire_meet(&wire, stage);
        bad[i].act(&wire, stage);
        expect_cut(&wire, bad[i].status);
        wire_close(&wire);
        check_stage(stage);
    }
}

/* --- requests whose lease ends, and whose region goes, under them --- */

static void deregister_gaps(struct stage *stage)
{
    uint64_t until = wall_ns() + PATIENCE;

    while (lend_region_deregister(stage->gaps, NULL) == LEND_E_BUSY) {
        assert_true(wall_ns() < until);
        (void)sched_yield();
    }
}

/* A request by ranges, of which the owner has not seen the ranges yet. */
static uint64_t begin_ranges(struct wire *wire, const struct stage *stage, struct asking *asking)
{
    struct asking another = ask_read(stage, 0, 1);

    *asking = ask_range(stage, GAP_STRIDE, GAP_BLOCK_BYTES);
    asking->run_count = 0;
    uint64_t request = wire_ask(wire, asking);
    asking->run_count = 1;
    /* What comes after it is done: so it is held. */
    assert_int_equal(await_done(wire, wire_ask(wire, &another), NULL), LEND_OK);
    return request;
}

static void test_ranges_of_a_region_that_is_gone_end_with_the_revocation(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;
    struct asking asking;

    wire_meet(&wire, stage);
    uint64_t request = begin_ranges(&wire, stage, &asking);
    assert_int_equal(lend_lease_revoke(stage->leases[2], NULL), LEND_OK);
    deregister_gaps(stage);
    wire_send_runs(&wire, request, &asking);
    assert_string_equal(lend_status_name(await_done(&wire, request, NULL)),
                        lend_status_name(LEND_E_REVOKED));

    /* What is in no lease is beyond it, still. */
    asking = ask_range(stage, 0, GAP_BLOCK_BYTES);
    asking.request.lease = stage->reading;
    assert_int_equal(await_done(&wire, wire_ask(&wire, &asking), NULL), LEND_E_OUT_OF_RANGE);
    wire_close(&wire);
}

static void test_ranges_of_a_region_that_is_gone_end_with_the_expiry(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;
    struct asking asking;

    wire_meet(&wire, stage);
    uint64_t request = begin_ranges(&wire, stage, &asking);
    assert_int_equal(lend_lease_renew(stage->leases[2], 1, NULL), LEND_OK);
    deregister_gaps(stage);
    wire_send_runs(&wire, request, &asking);
    assert_string_equal(lend_status_name(await_done(&wire, request, NULL)),
                        lend_status_name(LEND_E_EXPIRED));
    wire_close(&wire);
}

/* The region's owner, who is as quick as can be: between the server's look at the lease and its
 * look at the region, when it asks for memory. */
static struct lend_sys_ops quick;
static struct stage *_Atomic quick_stage;

static void *allocate_and_revoke(size_t bytes)
{
    struct stage *stage = bytes == sizeof(uint64_t) ? atomic_exchange(&quick_stage, NULL) : NULL;

    if (stage != NULL) {
        assert_int_equal(lend_lease_revoke(stage->leases[2], NULL), LEND_OK);
        deregister_gaps(stage);
    }
    return lend_sys_real.allocate(bytes);
}

static int quick_up(void **state)
{
    quick = lend_sys_real;
    quick.allocate = allocate_and_revoke;
    lend_sys = &quick;
    return stage_up(state);
}

static int quick_down(void **state)
{
    int status = stage_down(state);

    lend_sys = &lend_sys_real;
    return status;
}

static void test_blocks_of_a_region_that_is_gone_end_with_the_revocation(void **state)
{
    struct stage *stage = *state;
    struct asking asking = ask_read(stage, 0, 1);
    static struct wire wire;

    asking.request.lease = stage->gapped;
    asking.request.total_bytes = GAP_BLOCK_BYTES;
    asking.region_ids[0] = stage->gaps_id;
    wire_meet(&wire, stage);
    atomic_store(&quick_stage, stage);
    enum lend_status status = await_done(&wire, wire_ask(&wire, &asking), NULL);
    assert_null(atomic_load(&quick_stage));
    assert_string_equal(lend_status_name(status), lend_status_name(LEND_E_REVOKED));
    wire_close(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_requests_beyond_the_lease_are_refused),
        STAGED(test_requests_that_break_the_protocol_cut_the_connection),
        STAGED(test_ranges_of_a_region_that_is_gone_end_with_the_revocation),
        STAGED(test_ranges_of_a_region_that_is_gone_end_with_the_expiry),
        cmocka_unit_test_setup_teardown(
            test_blocks_of_a_region_that_is_gone_end_with_the_revocation, quick_up, quick_down),
    };
    RUN_OVER_EACH(tests);
}
