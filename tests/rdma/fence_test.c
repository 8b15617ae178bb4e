/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: after the fence nothing lands. A hostile peer writes as fast as it can where that was lent
 * to it, and goes on when it is taken back; from the moment that the owner's fence is over, not one
 * byte of the memory changes, and what the owner writes then is read by nobody. An invalidate alone
 * is no fence on rxe: a packet may land after it, and no more than one. (Why neither the reset of a
 * queue pair nor a deregistration after an invalidate is among these: docs/fencing.md.)
 * Method: 1,000 rounds for a deregistration, and 200 for the others (LEND_TIMES, LEND_SCALE), in
 * which the peer has work requests under way when the owner revokes, at a random moment after the
 * first of them landed; a round in which it was stopped by something else is not counted, and done
 * again. After the revoke the owner uses the memory at once for something else, and compares it
 * byte for byte when all of the peer's work requests have ended.
 */
#include "scene.h"

#include <sched.h>

enum {
    ROUNDS = 1000,
    FEWER = 200,
    DELAY_NS = 300000,
    IDLE_MAX = 4, /* rounds to do again for each that counts */
};

/* How writing is taken back: the invalidate of a window, alone or with the destruction of the queue
 * pair after it, or the deregistration of a region of the lent blocks. */
enum fence { NONE, DESTRUCTION, DEREGISTRATION };

/* What was seen in all rounds. */
struct tally {
    uint32_t rounds;
    uint32_t again;     /* rounds that did not count */
    uint32_t late;      /* in which something landed afterwards */
    uint32_t under_way; /* work requests, at the moment of the refusals */
    uint32_t refused;   /* rounds that ended by a refusal, others by silence */
};

static void await_first(const struct scene *scene, uint64_t delay_ns)
{
    const volatile uint8_t *first = scene->memory;
    uint64_t end = acts_now_ns() + ACTS_PATIENCE_NS;

    while (*first == SCENE_BYTE) {
        assert_true(acts_now_ns() < end);
        (void)sched_yield();
    }
    for (end = acts_now_ns() + delay_ns; acts_now_ns() < end;)
        continue;
}

/* False: the peer has broken the queue pair before, and nothing is invalidated on it any more. */
static bool revoke(struct scene *scene, uint32_t key, enum fence fence)
{
    struct line *line = &scene->peers[0].line;

    atomic_store(scene->peers[0].begun, 1);
    if (fence == DEREGISTRATION) {
        scene_take_back(scene);
        return true;
    }
    enum ibv_wc_status status = line_invalidate(line, key);
    if (status == IBV_WC_WR_FLUSH_ERR)
        return false;
    assert_int_equal(status, IBV_WC_SUCCESS);
    if (fence == DESTRUCTION) {
        assert_int_equal(ibv_destroy_qp(line->pair), 0);
        line->pair = NULL;
    }
    return true;
}

/* Packets that landed where the owner has used the memory again. */
static uint32_t count_late(const struct scene *scene)
{
    uint32_t count = 0;

    for (uint32_t at = 0; at < SCENE_BYTES; at += LINE_PACKET)
        count += !scene_is(scene, at, LINE_PACKET, HOSTILE_OWNERS_BYTE);
    return count;
}

/* False: the peer was stopped before the owner revoked. */
static bool judge(struct tally *tally, const struct hostile_report *report, bool may_be_silent)
{
    if (report->early) {
        tally->again++;
        return false;
    }
    if (report->status != IBV_WC_REM_ACCESS_ERR && !may_be_silent && !line_is_lossy())
        fail_msg("round %u: %s", tally->rounds,
                 ibv_wc_status_str((enum ibv_wc_status)report->status));
    assert_true(report->others > 0);
    tally->rounds++;
    tally->under_way += report->others;
    tally->refused += report->status == IBV_WC_REM_ACCESS_ERR;
    return true;
}

static void tell(const char *what, const struct tally *tally)
{
    print_message("%s: %u rounds with %u work requests under way, %u refused, %u unanswered; in %u "
                  "a packet landed afterwards; %u rounds were done again\n",
                  what, tally->rounds, tally->under_way, tally->refused,
                  tally->rounds - tally->refused, tally->late, tally->again);
}

static void write_on(const char *what, enum fence fence)
{
    struct acts_chance chance = acts_chance_begin(what);
    uint32_t rounds = acts_count(fence == DEREGISTRATION ? ROUNDS : FEWER);
    struct tally tally = {0};
    struct scene scene;

    scene_open(&scene, 1);
    while (tally.rounds < rounds) {
        memset(scene.memory, SCENE_BYTE, SCENE_BYTES);
        struct hostile_keys keys =
            fence == DEREGISTRATION ? scene_lend_region(&scene) : scene_lend(&scene, 0);
        hostile_begin(&scene.peers[0], &keys, IBV_WR_RDMA_WRITE);
        await_first(&scene, acts_chance_below(&chance, DELAY_NS));
        if (!revoke(&scene, keys.key, fence)) {
            tally.again++;
            (void)hostile_end(&scene.peers[0]);
            scene_renew(&scene, 0);
            hostile_join(&scene.peers[0]);
            continue;
        }
        memset(scene.memory, HOSTILE_OWNERS_BYTE, SCENE_BYTES);
        struct hostile_report report = hostile_end(&scene.peers[0]);
        uint32_t late = count_late(&scene);
        if (judge(&tally, &report, fence == DESTRUCTION))
            tally.late += late > 0;
        if (late > (fence == NONE))
            fail_msg("round %u: %u packets landed afterwards", tally.rounds, late);
        assert_true(tally.again < IDLE_MAX * rounds);
        hostile_join(&scene.peers[0]);
    }
    tell(what, &tally);
    scene_close(&scene);
}

static void test_after_an_invalidate_alone_one_packet_may_land(void **state)
{
    (void)state;
    write_on("invalidate", NONE);
}

static void test_after_the_destruction_of_the_queue_pair_nothing_lands(void **state)
{
    (void)state;
    write_on("invalidate and destruction", DESTRUCTION);
}

static void test_after_a_deregistration_nothing_lands(void **state)
{
    (void)state;
    write_on("deregistration", DEREGISTRATION);
}

static void test_after_a_deregistration_nothing_is_read(void **state)
{
    struct acts_chance chance = acts_chance_begin("reads");
    uint32_t rounds = acts_count(ROUNDS);
    struct tally tally = {0};
    struct scene scene;
    (void)state;

    scene_open(&scene, 1);
    while (tally.rounds < rounds) {
        memset(scene.memory, SCENE_BYTE, SCENE_BYTES);
        struct hostile_keys keys = scene_reading(&scene);
        hostile_begin(&scene.peers[0], &keys, IBV_WR_RDMA_READ);
        acts_delay(acts_chance_below(&chance, 3 * DELAY_NS));
        atomic_store(scene.peers[0].begun, 1);
        assert_int_equal(ibv_dereg_mr(scene.region), 0);
        memset(scene.memory, HOSTILE_OWNERS_BYTE, SCENE_BYTES);
        struct hostile_report report = hostile_end(&scene.peers[0]);
        assert_int_equal(report.leaked, 0);
        /* What was being answered ends unanswered, or flushed. */
        (void)judge(&tally, &report, true);
        assert_true(tally.again < IDLE_MAX * rounds);
        scene_register(&scene);
        hostile_join(&scene.peers[0]);
    }
    tell("reads and deregistration", &tally);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_an_invalidate_alone_one_packet_may_land),
        cmocka_unit_test(test_after_the_destruction_of_the_queue_pair_nothing_lands),
        cmocka_unit_test(test_after_a_deregistration_nothing_lands),
        cmocka_unit_test(test_after_a_deregistration_nothing_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
