/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a lease for writing stands on over verbs. A window of type 2B lets one queue pair
 * write, and where it was bound, and nobody else and nowhere else; what ends it, and what does not;
 * and how it looks to either side.
 * Method: an owner, and peers in processes of their own that use whatever key they are given,
 * through a real provider. All bytes of the memory are compared after each try.
 */
#include "scene.h"

#define WRITE IBV_WR_RDMA_WRITE
#define READ  IBV_WR_RDMA_READ

static void expect(struct scene *scene, uint32_t peer, const struct hostile_keys *keys,
                   enum ibv_wr_opcode opcode, enum ibv_wc_status status)
{
    struct hostile_report report = hostile_try(&scene->peers[peer], keys, opcode);

    /* Where packets get lost, so may a refusal, and who has given it says nothing more. */
    if (line_is_lossy() && status == IBV_WC_REM_ACCESS_ERR && report.status == IBV_WC_RETRY_EXC_ERR)
        return;
    if (report.status != status)
        fail_msg("%s, not %s", ibv_wc_status_str((enum ibv_wc_status)report.status),
                 ibv_wc_status_str(status));
}

static void test_a_write_through_a_window_lands(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_BYTE));
    assert_true(scene_is(&scene, HOSTILE_BYTES, HOSTILE_BYTES, SCENE_BYTE));
    scene_close(&scene);
}

static void test_another_queue_pair_is_refused_and_the_first_notices_nothing(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 2);
    struct hostile_keys keys = scene_lend(&scene, 0);
    expect(&scene, 1, &keys, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    assert_int_equal(line_state(&scene.peers[1].line), IBV_QPS_ERR);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_BYTE));
    scene_close(&scene);
}

static void test_the_key_of_the_region_reads_and_does_not_write(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_reading(&scene);
    memset(scene.memory, HOSTILE_OWNERS_BYTE, HOSTILE_BYTES);
    struct hostile_report report = hostile_try(&scene.peers[0], &keys, READ);
    assert_int_equal(report.status, IBV_WC_SUCCESS);
    assert_int_equal(report.leaked, HOSTILE_BYTES);
    expect(&scene, 0, &keys, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_OWNERS_BYTE));
    scene_close(&scene);
}

static void test_a_window_for_writing_does_not_read(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0);
    expect(&scene, 0, &keys, READ, IBV_WC_REM_ACCESS_ERR);
    scene_close(&scene);
}

/* rxe looks at the borders of the region alone: what is lent for writing has to be a region of its
 * own there. */
static void test_a_window_ends_at_its_borders_and_on_rxe_where_its_region_ends(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    bool is_rxe = line_is_rxe(&scene.host);
    struct hostile_keys beside = scene_lend(&scene, 0);
    beside.address += HOSTILE_BYTES;
    expect(&scene, 0, &beside, WRITE, is_rxe ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, SCENE_BYTE));
    assert_true(scene_is(&scene, HOSTILE_BYTES, HOSTILE_BYTES, is_rxe ? HOSTILE_BYTE : SCENE_BYTE));
    for (int32_t way = -1; way <= 1; way += 2) {
        scene_renew(&scene, 0);
        hostile_join(&scene.peers[0]);
        struct hostile_keys outside = scene_lend(&scene, 0);
        memset(scene.memory, SCENE_BYTE, SCENE_BYTES);
        outside.address += way < 0 ? UINT64_MAX : HOSTILE_BYTES + 1;
        expect(&scene, 0, &outside, WRITE, IBV_WC_REM_ACCESS_ERR);
        assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    }
    scene_close(&scene);
}

static void test_a_region_of_the_lent_blocks_ends_at_its_borders(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend_region(&scene);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_BYTE));
    assert_true(scene_is(&scene, HOSTILE_BYTES, HOSTILE_BYTES, SCENE_BYTE));
    memset(scene.memory, SCENE_BYTE, SCENE_BYTES);
    for (int32_t way = -1; way <= 1; way += 2) {
        struct hostile_keys outside = keys;

        outside.address += way < 0 ? UINT64_MAX : 1;
        expect(&scene, 0, &outside, WRITE, IBV_WC_REM_ACCESS_ERR);
        assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
        hostile_join(&scene.peers[0]);
    }
    scene_take_back(&scene);
    expect(&scene, 0, &keys, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    scene_close(&scene);
}

static void test_the_key_of_an_invalidated_window_is_refused_and_that_of_its_next_life_is_not(
    void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys old = scene_lend(&scene, 0);
    assert_int_equal(line_invalidate(&scene.peers[0].line, old.key), IBV_WC_SUCCESS);
    struct hostile_keys keys = scene_lend(&scene, 0);
    assert_true(keys.key != old.key);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_BYTE));
    memset(scene.memory, SCENE_BYTE, SCENE_BYTES);
    expect(&scene, 0, &old, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    scene_close(&scene);
}

/* Hence a queue pair's reset is a fence beside an invalidate, and not in its place. */
static void test_a_window_outlives_the_reset_of_its_queue_pair(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0);
    assert_true(line_stop(&scene.peers[0].line, IBV_QPS_ERR));
    assert_true(line_stop(&scene.peers[0].line, IBV_QPS_RESET));
    hostile_rejoin(&scene.peers[0]);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_true(scene_is(&scene, 0, HOSTILE_BYTES, HOSTILE_BYTE));
    scene_close(&scene);
}

/* A peer can take the queue pair into its error state at any time, and so this is met often. */
static void test_a_broken_queue_pair_invalidates_nothing_and_deallocation_does(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0), wrong = keys;
    wrong.address--;
    expect(&scene, 0, &wrong, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(line_invalidate(&scene.peers[0].line, keys.key), IBV_WC_WR_FLUSH_ERR);
    assert_int_equal(ibv_dealloc_mw(scene.windows[0]), 0);
    scene.windows[0] = NULL;
    hostile_join(&scene.peers[0]);
    expect(&scene, 0, &keys, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    scene_close(&scene);
}

static void test_a_region_with_a_bound_window_is_not_deregistered(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0);
    assert_int_not_equal(ibv_dereg_mr(scene.region), 0);
    expect(&scene, 0, &keys, WRITE, IBV_WC_SUCCESS);
    assert_int_equal(line_invalidate(&scene.peers[0].line, keys.key), IBV_WC_SUCCESS);
    assert_int_equal(ibv_dereg_mr(scene.region), 0);
    scene.region = NULL;
    scene_close(&scene);
}

static void test_after_deregistration_reads_and_writes_are_refused(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys reading = scene_reading(&scene), writing = scene_lend(&scene, 0);
    expect(&scene, 0, &reading, READ, IBV_WC_SUCCESS);
    assert_int_equal(line_invalidate(&scene.peers[0].line, writing.key), IBV_WC_SUCCESS);
    assert_int_equal(ibv_dereg_mr(scene.region), 0);
    scene.region = NULL;
    memset(scene.memory, HOSTILE_OWNERS_BYTE, SCENE_BYTES);
    struct hostile_report report = hostile_try(&scene.peers[0], &reading, READ);
    assert_int_equal(report.status, IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(report.leaked, 0);
    hostile_join(&scene.peers[0]);
    expect(&scene, 0, &writing, WRITE, IBV_WC_REM_ACCESS_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, HOSTILE_OWNERS_BYTE));
    scene_close(&scene);
}

static void test_a_queue_pair_that_was_reset_answers_nothing(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    struct hostile_keys keys = scene_lend(&scene, 0);
    assert_true(line_stop(&scene.peers[0].line, IBV_QPS_RESET));
    expect(&scene, 0, &keys, WRITE, IBV_WC_RETRY_EXC_ERR);
    /* And what is tried on a broken queue pair never leaves. */
    expect(&scene, 0, &keys, WRITE, IBV_WC_WR_FLUSH_ERR);
    assert_true(scene_is(&scene, 0, SCENE_BYTES, SCENE_BYTE));
    scene_close(&scene);
}

static void test_a_peer_that_was_killed_answers_nothing(void **state)
{
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    hostile_kill(&scene.peers[0]);
    struct line_work work = {READ, scene.region, (uintptr_t)scene.memory, scene.region->rkey, 8, 0};
    assert_int_equal(line_do(&scene.peers[0].line, &work), IBV_WC_RETRY_EXC_ERR);
    assert_int_equal(line_do(&scene.peers[0].line, &work), IBV_WC_WR_FLUSH_ERR);
    assert_int_equal(line_state(&scene.peers[0].line), IBV_QPS_ERR);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_through_a_window_lands),
        cmocka_unit_test(test_another_queue_pair_is_refused_and_the_first_notices_nothing),
        cmocka_unit_test(test_the_key_of_the_region_reads_and_does_not_write),
        cmocka_unit_test(test_a_window_for_writing_does_not_read),
        cmocka_unit_test(test_a_window_ends_at_its_borders_and_on_rxe_where_its_region_ends),
        cmocka_unit_test(test_a_region_of_the_lent_blocks_ends_at_its_borders),
        cmocka_unit_test(
            test_the_key_of_an_invalidated_window_is_refused_and_that_of_its_next_life_is_not),
        cmocka_unit_test(test_a_window_outlives_the_reset_of_its_queue_pair),
        cmocka_unit_test(test_a_broken_queue_pair_invalidates_nothing_and_deallocation_does),
        cmocka_unit_test(test_a_region_with_a_bound_window_is_not_deregistered),
        cmocka_unit_test(test_after_deregistration_reads_and_writes_are_refused),
        cmocka_unit_test(test_a_queue_pair_that_was_reset_answers_nothing),
        cmocka_unit_test(test_a_peer_that_was_killed_answers_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
