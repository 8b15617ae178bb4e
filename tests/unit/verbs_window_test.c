/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory windows are kept and bound anew, never with a key that was there before, and none is
 * lost or bound twice; whatever the provider says.
 * Method: a fake libibverbs with two queue pairs that lead to each other; the keys are tried by
 * WRITEs of the peer.
 */
#include "base/sys.h"
#include "double.h"
#include "fake/verbs.h"
#include "transport/verbs/window.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* A NIC, with an owner's queue pair and the peer's, and memory lent for writing. */
struct stage {
    struct lend_verbs_nic *nic;
    struct lend_verbs_cq *cq;
    struct lend_verbs_qp *owner, *peer;
    struct lend_verbs_mr *mr, *source;
    struct lend_verbs_windows windows;
    char lent[256], bytes[256];
};

static void connect_qp(struct lend_verbs_qp *qp, uint32_t to)
{
    struct lend_verbs_qp_attributes attributes = {.qp_access_flags = LEND_VERBS_REMOTE_WRITE,
                                                  .dest_qp_num = to,
                                                  .port_num = 1,
                                                  .path_mtu = LEND_VERBS_MTU_1024};
    static const int masks[] = {
        LEND_VERBS_SET_STATE | LEND_VERBS_SET_PKEY_INDEX | LEND_VERBS_SET_PORT |
            LEND_VERBS_SET_ACCESS,
        LEND_VERBS_SET_STATE | LEND_VERBS_SET_ADDRESS | LEND_VERBS_SET_PATH_MTU |
            LEND_VERBS_SET_PEER_NUMBER | LEND_VERBS_SET_RQ_PSN | LEND_VERBS_SET_MAX_SERVED_READS |
            LEND_VERBS_SET_MIN_RNR_TIMER,
        LEND_VERBS_SET_STATE | LEND_VERBS_SET_TIMEOUT | LEND_VERBS_SET_RETRY_COUNT |
            LEND_VERBS_SET_RNR_RETRY | LEND_VERBS_SET_SQ_PSN | LEND_VERBS_SET_MAX_READS,
    };

    for (int i = 0; i < 3; i++) {
        attributes.qp_state = LEND_VERBS_QP_INIT + i;
        assert_int_equal(fake_verbs_ops.modify_qp(qp, &attributes, masks[i]), 0);
    }
}

static void open_stage(struct stage *stage, uint32_t limit, uint32_t keep)
{
    struct lend_verbs_qp_init init = {.cap = {16, 16, 4, 4, 0}, .qp_type = LEND_VERBS_QP_RC};
    struct lend_error error = {0};

    memset(stage, 0, sizeof *stage);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0", &stage->nic, &error), LEND_OK);
    stage->cq = fake_verbs_ops.create_cq(stage->nic->context, 64, NULL, NULL, 0);
    init.send_cq = init.recv_cq = stage->cq;
    stage->owner = fake_verbs_ops.create_qp(stage->nic->pd, &init);
    stage->peer = fake_verbs_ops.create_qp(stage->nic->pd, &init);
    connect_qp(stage->owner, stage->peer->qp_num);
    connect_qp(stage->peer, stage->owner->qp_num);
    stage->mr = fake_verbs_ops.reg_mr(stage->nic->pd, stage->lent, sizeof stage->lent,
                                      LEND_VERBS_LOCAL_WRITE | LEND_VERBS_BIND);
    stage->source = fake_verbs_ops.reg_mr(stage->nic->pd, stage->bytes, sizeof stage->bytes, 0);
    memset(stage->bytes, 0x5a, sizeof stage->bytes);
    lend_verbs_windows_init(&stage->windows, stage->nic, limit, keep);
}

static void close_stage(struct stage *stage)
{
    struct lend_error error = {0};

    assert_int_equal(lend_verbs_windows_fini(&stage->windows, &error), LEND_OK);
    assert_int_equal(fake_verbs_ops.dereg_mr(stage->mr), 0);
    assert_int_equal(fake_verbs_ops.dereg_mr(stage->source), 0);
    assert_int_equal(fake_verbs_ops.destroy_qp(stage->owner), 0);
    assert_int_equal(fake_verbs_ops.destroy_qp(stage->peer), 0);
    assert_int_equal(fake_verbs_ops.destroy_cq(stage->cq), 0);
    assert_int_equal(lend_verbs_nic_close(stage->nic, &error), LEND_OK);
    assert_int_equal(fake_verbs_kept(), 0);
}

/* Post it, and return the status of its completion. */
static int perform(struct stage *stage, struct lend_verbs_qp *qp, struct lend_verbs_send *work)
{
    struct lend_verbs_completion completion = {0};
    struct lend_verbs_send *bad = NULL;

    work->send_flags |= (unsigned)LEND_VERBS_SIGNALED;
    assert_int_equal(lend_verbs_post_send(qp, work, &bad), 0);
    assert_int_equal(lend_verbs_poll(stage->cq, 1, &completion), 1);
    return completion.status;
}

static int write_by(struct stage *stage, uint32_t rkey, uint32_t offset, uint32_t length)
{
    struct lend_verbs_sge sge = {(uintptr_t)stage->bytes, length, stage->source->lkey};
    struct lend_verbs_send work = {.opcode = LEND_VERBS_SEND_WRITE, .sg_list = &sge, .num_sge = 1};

    work.wr.rdma.remote_addr = (uintptr_t)stage->lent + offset;
    work.wr.rdma.rkey = rkey;
    return perform(stage, stage->peer, &work);
}

static struct lend_verbs_window *take(struct stage *stage)
{
    struct lend_verbs_window *window = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_verbs_window_take(&stage->windows, &window, &error), LEND_OK);
    assert_int_equal(window->state, LEND_VERBS_WINDOW_FREE);
    return window;
}

static bool bind_window(struct stage *stage, struct lend_verbs_window *window, uint32_t offset,
                        uint32_t length)
{
    struct lend_verbs_send work = {0};

    lend_verbs_window_bind(window, stage->owner, stage->mr, (uintptr_t)stage->lent + offset, length,
                           &work);
    return lend_verbs_window_bound(window, perform(stage, stage->owner, &work), true);
}

static bool end_window(struct stage *stage, struct lend_verbs_window *window)
{
    struct lend_verbs_send work = {0};

    lend_verbs_window_end(window, &work);
    assert_int_equal(work.send_flags & LEND_VERBS_FENCE, LEND_VERBS_FENCE);
    return lend_verbs_window_ended(window, perform(stage, stage->owner, &work), true);
}

static void test_peer_writes_inside_its_window_alone(void **state)
{
    struct stage stage;

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 4);
    struct lend_verbs_window *window = take(&stage);
    assert_true(bind_window(&stage, window, 64, 64));
    assert_int_equal(write_by(&stage, window->rkey, 64, 64), LEND_VERBS_WC_SUCCESS);
    assert_int_equal(stage.lent[64], 0x5a);
    assert_int_equal(stage.lent[127], 0x5a);
    assert_int_equal(write_by(&stage, window->rkey, 65, 64), LEND_VERBS_WC_REMOTE_ACCESS);
    assert_int_equal(stage.lent[128], 0);
    assert_int_equal(lend_verbs_window_drop(&stage.windows, window, NULL), LEND_OK);
    close_stage(&stage);
}

static void test_key_of_an_ended_binding_is_refused(void **state)
{
    struct stage stage;

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 4);
    struct lend_verbs_window *window = take(&stage);
    assert_true(bind_window(&stage, window, 0, 64));
    uint32_t old = window->rkey;
    assert_true(end_window(&stage, window));
    assert_true(bind_window(&stage, window, 0, 64));
    assert_int_not_equal(window->rkey, old);
    assert_int_equal(write_by(&stage, old, 0, 8), LEND_VERBS_WC_REMOTE_ACCESS);
    assert_int_equal(stage.lent[0], 0);
    assert_int_equal(lend_verbs_window_drop(&stage.windows, window, NULL), LEND_OK);
    close_stage(&stage);
}

static void test_windows_are_kept_and_bound_anew(void **state)
{
    struct stage stage;

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 1);
    struct lend_verbs_window *one = take(&stage), *other = take(&stage);
    assert_int_equal(fake_verbs.mws, 2);
    lend_verbs_window_give(&stage.windows, one);
    lend_verbs_window_give(&stage.windows, other); /* more than are to be kept */
    assert_int_equal(fake_verbs.mws, 1);
    assert_ptr_equal(take(&stage), one);
    assert_int_equal(fake_verbs.mws, 1);
    lend_verbs_window_give(&stage.windows, one);
    close_stage(&stage);
}

static void test_no_key_comes_round(void **state)
{
    struct stage stage;
    uint32_t keys[255];

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 1);
    struct lend_verbs_window *window = take(&stage);
    for (int i = 0; i < 255; i++) {
        assert_true(bind_window(&stage, window, 0, 8));
        keys[i] = window->rkey;
        for (int j = 0; j < i; j++)
            assert_int_not_equal(keys[j], keys[i]);
        assert_true(end_window(&stage, window));
    }
    lend_verbs_window_give(&stage.windows, window);
    assert_int_equal(fake_verbs.mws, 0); /* worn, though one might be kept */

    window = take(&stage);
    assert_true(bind_window(&stage, window, 0, 8));
    for (int i = 0; i < 255; i++)
        assert_int_not_equal(keys[i], window->rkey);
    assert_true(end_window(&stage, window));
    lend_verbs_window_give(&stage.windows, window);
    close_stage(&stage);
}

static void test_worn_window_that_the_provider_keeps_is_not_taken_again(void **state)
{
    struct stage stage;
    struct lend_error error = {0};

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 1);
    struct lend_verbs_window *window = take(&stage);
    window->bindings = 255;
    fake_verbs.deallocate_errno = EBUSY;
    lend_verbs_window_give(&stage.windows, window);
    struct lend_verbs_window *other = take(&stage);
    assert_ptr_not_equal(other, window);
    lend_verbs_window_give(&stage.windows, other);
    assert_int_equal(lend_verbs_windows_fini(&stage.windows, &error), LEND_E_BUSY);
    assert_string_equal(error.message,
                        "fake0: the provider kept 2 memory windows (ibv_dealloc_mw: errno 16)");
    fake_verbs.deallocate_errno = 0;
    close_stage(&stage);
}

static void test_limit_is_the_smaller_one(void **state)
{
    struct stage stage;
    struct lend_verbs_window *window[3] = {0};
    struct lend_error error = {0};

    (void)state;
    fake_verbs_reset();
    fake_verbs.devices[0].windows_max = 2;
    open_stage(&stage, 100, 8);
    window[0] = take(&stage);
    window[1] = take(&stage);
    assert_int_equal(lend_verbs_window_take(&stage.windows, &window[2], &error), LEND_E_LIMIT);
    assert_string_equal(error.message, "fake0: all 2 memory windows are in use");
    assert_int_equal(lend_verbs_windows_fini(&stage.windows, &error), LEND_E_BUSY);
    assert_string_equal(error.message, "fake0: 2 memory windows are in use");
    lend_verbs_window_give(&stage.windows, window[0]);
    assert_ptr_equal(take(&stage), window[0]);
    lend_verbs_window_give(&stage.windows, window[0]);
    lend_verbs_window_give(&stage.windows, window[1]);
    close_stage(&stage);
}

static void test_windows_that_others_have_are_told_as_a_limit(void **state)
{
    struct stage stage;
    struct lend_verbs_window *window = NULL;
    struct lend_error error = {0};

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 8);
    fake_verbs.devices[0].windows_max = 0;
    assert_int_equal(lend_verbs_window_take(&stage.windows, &window, &error), LEND_E_LIMIT);
    assert_non_null(strstr(error.message, "fake0 has no more memory windows: 0 are in use here"));
    close_stage(&stage);
}

static void test_nic_without_type_2b_has_none(void **state)
{
    struct stage stage;
    struct lend_verbs_window *window = NULL;
    struct lend_error error = {0};

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 8);
    stage.nic->abilities.has_windows_2b = false;
    assert_int_equal(lend_verbs_window_take(&stage.windows, &window, &error), LEND_E_UNSUPPORTED);
    assert_string_equal(error.message, "fake0 has no memory windows of type 2B");
    close_stage(&stage);
}

static void test_binding_that_could_not_be_posted_leaves_the_window_free(void **state)
{
    struct stage stage;
    struct lend_verbs_send work = {0}, *bad = NULL;

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 8);
    struct lend_verbs_window *window = take(&stage);
    lend_verbs_window_bind(window, stage.owner, stage.mr, (uintptr_t)stage.lent, 8, &work);
    fake_verbs.post_errno = ENOMEM;
    assert_int_equal(lend_verbs_post_send(stage.owner, &work, &bad), ENOMEM);
    assert_false(lend_verbs_window_bound(window, 0, false));
    assert_int_equal(window->state, LEND_VERBS_WINDOW_FREE);
    assert_true(bind_window(&stage, window, 0, 8));

    lend_verbs_window_end(window, &work);
    assert_false(lend_verbs_window_ended(window, 0, false));
    assert_int_equal(window->state, LEND_VERBS_WINDOW_BOUND); /* still, and the peer may write */
    assert_int_equal(write_by(&stage, window->rkey, 0, 8), LEND_VERBS_WC_SUCCESS);
    assert_true(end_window(&stage, window));
    lend_verbs_window_give(&stage.windows, window);
    close_stage(&stage);
}

static void test_every_failed_completion_breaks_the_window_until_its_queue_pair_is_reset(
    void **state)
{
    (void)state;
    for (int status = 1; status < LEND_VERBS_WC_STATUSES; status++) {
        for (int is_end = 0; is_end < 2; is_end++) {
            struct stage stage;

            fake_verbs_reset();
            open_stage(&stage, 0, 8);
            struct lend_verbs_window *window = take(&stage);
            fake_verbs.status = status;
            fake_verbs.status_at = is_end;
            assert_int_equal(bind_window(&stage, window, 0, 8), is_end == 1);
            if (is_end == 1)
                assert_false(end_window(&stage, window));
            assert_int_equal(window->state, LEND_VERBS_WINDOW_BROKEN);
            assert_int_equal(lend_verbs_window_drop(&stage.windows, window, NULL), LEND_OK);
            assert_int_equal(fake_verbs.mws, 0);
            close_stage(&stage);
        }
    }
}

static void test_window_that_the_provider_does_not_let_go_of_stays_counted(void **state)
{
    struct stage stage;
    struct lend_error error = {0};

    (void)state;
    fake_verbs_reset();
    open_stage(&stage, 0, 8);
    struct lend_verbs_window *window = take(&stage);
    assert_true(bind_window(&stage, window, 0, 8));
    fake_verbs.deallocate_errno = EBUSY;
    assert_int_equal(lend_verbs_window_drop(&stage.windows, window, &error), LEND_E_BUSY);
    assert_int_equal(stage.windows.made, 1);
    assert_int_equal(fake_verbs_ops.dereg_mr(stage.mr), EBUSY);
    fake_verbs.deallocate_errno = 0;
    assert_int_equal(lend_verbs_window_drop(&stage.windows, window, &error), LEND_OK);
    close_stage(&stage);
}

static void test_each_call_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    for (int nth = 0;; nth++) {
        struct stage stage;
        struct lend_verbs_window *window = NULL;
        struct lend_error error = {0};

        fake_verbs_reset();
        open_stage(&stage, 0, 8);
        fake_verbs.is_swept = true;
        double_install(nth);
        enum lend_status status = lend_verbs_window_take(&stage.windows, &window, &error);
        if (status == LEND_OK)
            assert_int_equal(lend_verbs_window_drop(&stage.windows, window, &error), LEND_OK);
        bool was_reached = double_remove();
        fake_verbs.is_swept = false;
        close_stage(&stage);
        if (!was_reached) {
            assert_int_equal(status, LEND_OK);
            return;
        }
        assert_true(status == LEND_E_NO_MEMORY || status == LEND_E_DEVICE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_writes_inside_its_window_alone),
        cmocka_unit_test(test_key_of_an_ended_binding_is_refused),
        cmocka_unit_test(test_windows_are_kept_and_bound_anew),
        cmocka_unit_test(test_no_key_comes_round),
        cmocka_unit_test(test_worn_window_that_the_provider_keeps_is_not_taken_again),
        cmocka_unit_test(test_limit_is_the_smaller_one),
        cmocka_unit_test(test_windows_that_others_have_are_told_as_a_limit),
        cmocka_unit_test(test_nic_without_type_2b_has_none),
        cmocka_unit_test(test_binding_that_could_not_be_posted_leaves_the_window_free),
        cmocka_unit_test(
            test_every_failed_completion_breaks_the_window_until_its_queue_pair_is_reset),
        cmocka_unit_test(test_window_that_the_provider_does_not_let_go_of_stays_counted),
        cmocka_unit_test(test_each_call_may_fail_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
