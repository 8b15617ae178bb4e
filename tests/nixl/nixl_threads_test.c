/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent may be used from many threads, whatever synchronisation was asked for; and
 * permuted tables of pieces of every size class move the right bytes, both ways, all at the same
 * time. Method: threads of one initiator and one target, each with memory and requests of its own,
 * while others register, load metadata and notify on the same two agents. What was moved is
 * compared. Run under the thread sanitizer too.
 */
#include "stage.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MOVERS = 8, ROUNDS = 6, PIECES = 64, BYTES = 1 << 20, NOTES = 200 };

static nixl_capi_agent_t initiator;
static nixl_capi_agent_t target;
static _Atomic bool is_over;

/* Cmocka's assertions end the thread of the test alone, so threads say what is wrong. */
struct mover {
    pthread_t thread;
    uint32_t number;
    uint8_t *here;
    uint8_t *there;
    const char *wrong; /* NULL: nothing */
};

static void shuffle(int *indices, uint32_t seed)
{
    for (int i = 0; i < PIECES; i++)
        indices[i] = i;
    for (int i = PIECES - 1; i > 0; i--) {
        seed = seed * 1103515245u + 12345u;
        int j = (int)(seed >> 16) % (i + 1), kept = indices[i];

        indices[i] = indices[j];
        indices[j] = kept;
    }
}

static nixl_capi_status_t prepare(const char *name, const uint8_t *memory, size_t piece,
                                  nixl_capi_xfer_dlist_handle_t *out)
{
    nixl_capi_xfer_dlist_t list = NULL;
    nixl_capi_status_t status = nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list);

    for (size_t i = 0; i < PIECES && status == NIXL_CAPI_SUCCESS; i++)
        status =
            nixl_capi_xfer_dlist_add_desc(list, (uintptr_t)memory + i * (BYTES / PIECES), piece, 0);
    if (status == NIXL_CAPI_SUCCESS)
        status = nixl_capi_prep_xfer_dlist(initiator, name, list, out, NULL);
    if (list != NULL)
        (void)nixl_capi_destroy_xfer_dlist(list);
    return status;
}

static bool is_moved(const struct mover *mover, const int *local, const int *remote, size_t piece)
{
    for (int i = 0; i < PIECES; i++)
        if (memcmp(mover->here + (size_t)local[i] * (BYTES / PIECES),
                   mover->there + (size_t)remote[i] * (BYTES / PIECES), piece) != 0)
            return false;
    return true;
}

static const char *move_once(struct mover *mover, nixl_capi_xfer_op_t operation, size_t piece,
                             uint32_t seed)
{
    nixl_capi_xfer_dlist_handle_t here = NULL, there = NULL;
    nixl_capi_xfer_req_t request = NULL;
    int local[PIECES], remote[PIECES];
    const char *wrong = NULL;

    shuffle(local, seed);
    shuffle(remote, seed + 1);
    stage_fill(operation == NIXL_CAPI_XFER_OP_WRITE ? mover->here : mover->there, BYTES, seed);
    if (prepare("", mover->here, piece, &here) != NIXL_CAPI_SUCCESS ||
        prepare("target", mover->there, piece, &there) != NIXL_CAPI_SUCCESS)
        return "a list cannot be prepared";
    if (nixl_capi_make_xfer_req(initiator, operation, here, local, PIECES, there, remote, PIECES,
                                &request, NULL) != NIXL_CAPI_SUCCESS)
        return "a request cannot be made";
    nixl_capi_status_t status = nixl_capi_post_xfer_req(initiator, request, NULL);
    while (status == NIXL_CAPI_IN_PROG)
        status = nixl_capi_get_xfer_status(initiator, request);
    if (status != NIXL_CAPI_SUCCESS)
        wrong = "a request failed";
    else if (!is_moved(mover, local, remote, piece))
        wrong = "other bytes came than were sent";
    if (nixl_capi_release_xfer_req(initiator, request) != NIXL_CAPI_SUCCESS ||
        nixl_capi_destroy_xfer_req(request) != NIXL_CAPI_SUCCESS ||
        nixl_capi_release_xfer_dlist_handle(initiator, here) != NIXL_CAPI_SUCCESS ||
        nixl_capi_release_xfer_dlist_handle(initiator, there) != NIXL_CAPI_SUCCESS)
        wrong = "a handle cannot be ended";
    return wrong;
}

static void *move(void *context)
{
    static const size_t pieces[ROUNDS] = {1, 511, 512, 4096, 16383, 16384};
    struct mover *mover = context;

    for (uint32_t round = 0; round < ROUNDS && mover->wrong == NULL; round++) {
        uint32_t seed = mover->number * 1000 + round * 10;

        mover->wrong = move_once(mover, NIXL_CAPI_XFER_OP_WRITE, pieces[round], seed);
        if (mover->wrong == NULL)
            mover->wrong = move_once(mover, NIXL_CAPI_XFER_OP_READ, pieces[round], seed + 5);
    }
    return NULL;
}

/* Somebody else registers and takes back, and has metadata exported and loaded, all the time. */
static void *disturb(void *context)
{
    uint8_t *memory = stage_map(BYTES);
    const char **wrong = context;

    while (!atomic_load(&is_over) && *wrong == NULL) {
        nixl_capi_reg_dlist_t list = NULL;
        void *bytes = NULL;
        size_t count = 0;
        char *name = NULL;

        if (nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_DRAM, &list) != NIXL_CAPI_SUCCESS ||
            nixl_capi_reg_dlist_add_desc(list, (uintptr_t)memory, BYTES, 0, NULL, 0) !=
                NIXL_CAPI_SUCCESS ||
            nixl_capi_register_mem(target, list, NULL) != NIXL_CAPI_SUCCESS)
            *wrong = "memory cannot be registered";
        else if (nixl_capi_get_local_md(target, &bytes, &count) != NIXL_CAPI_SUCCESS ||
                 nixl_capi_load_remote_md(initiator, bytes, count, &name) != NIXL_CAPI_SUCCESS)
            *wrong = "metadata cannot be loaded";
        else if (nixl_capi_deregister_mem(target, list, NULL) != NIXL_CAPI_SUCCESS)
            *wrong = "memory cannot be taken back";
        free(bytes);
        free(name);
        (void)nixl_capi_destroy_reg_dlist(list);
    }
    stage_unmap(memory, BYTES);
    return NULL;
}

static void *notify(void *context)
{
    const char **wrong = context;

    for (int i = 0; i < NOTES && *wrong == NULL; i++)
        if (nixl_capi_gen_notif(initiator, "target", "note", 4, NULL) != NIXL_CAPI_SUCCESS)
            *wrong = "a notification cannot be sent";
    return NULL;
}

static void test_one_agent_serves_many_threads(void **state)
{
    struct mover movers[MOVERS];
    const char *disturbed = NULL, *unsent[2] = {NULL, NULL};
    pthread_t disturber, notifiers[2];
    nixl_capi_notif_map_t map = NULL;

    (void)state;
    initiator = stage_agent("initiator");
    target = stage_agent("target");
    atomic_store(&is_over, false);
    for (uint32_t i = 0; i < MOVERS; i++) {
        movers[i] =
            (struct mover){.number = i, .here = stage_map(BYTES), .there = stage_map(BYTES)};
        stage_register(initiator, movers[i].here, BYTES);
        stage_register(target, movers[i].there, BYTES);
    }
    stage_load(initiator, target);
    OK(nixl_capi_create_notif_map(&map));
    for (uint32_t i = 0; i < MOVERS; i++)
        assert_int_equal(pthread_create(&movers[i].thread, NULL, move, &movers[i]), 0);
    assert_int_equal(pthread_create(&disturber, NULL, disturb, &disturbed), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&notifiers[i], NULL, notify, &unsent[i]), 0);
    stage_await_notifications(target, map, "initiator", 2 * NOTES);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(notifiers[i], NULL), 0);
    for (uint32_t i = 0; i < MOVERS; i++)
        assert_int_equal(pthread_join(movers[i].thread, NULL), 0);
    atomic_store(&is_over, true);
    assert_int_equal(pthread_join(disturber, NULL), 0);

    OK(nixl_capi_destroy_notif_map(map));
    OK(nixl_capi_destroy_agent(initiator));
    OK(nixl_capi_destroy_agent(target));
    for (uint32_t i = 0; i < MOVERS; i++) {
        assert_string_equal(movers[i].wrong != NULL ? movers[i].wrong : "", "");
        stage_unmap(movers[i].here, BYTES);
        stage_unmap(movers[i].there, BYTES);
    }
    assert_string_equal(disturbed != NULL ? disturbed : "", "");
    assert_string_equal(unsent[0] != NULL ? unsent[0] : "", "");
    assert_string_equal(unsent[1] != NULL ? unsent[1] : "", "");
}

/* Ask, without a pause, until the peer is gone. */
struct asker {
    pthread_t thread;
    nixl_capi_xfer_req_t request;
    _Atomic uint32_t answers;
    nixl_capi_status_t status;
};

static void *keep_asking(void *context)
{
    struct asker *asker = context;
    int64_t duration_us, margin_us;
    nixl_capi_cost_t method;

    do {
        asker->status = nixl_capi_estimate_xfer_cost(initiator, asker->request, NULL, &duration_us,
                                                     &margin_us, &method);
        (void)atomic_fetch_add(&asker->answers, 1);
    } while (asker->status == NIXL_CAPI_SUCCESS);
    return NULL;
}

static void test_who_ends_a_peer_is_not_kept_waiting_by_those_who_use_it(void **state)
{
    struct asker askers[4];
    uint8_t *here = stage_map(BYTES), *there = stage_map(BYTES);

    (void)state;
    initiator = stage_agent("initiator");
    target = stage_agent("target");
    stage_register(initiator, here, BYTES);
    stage_register(target, there, BYTES);
    stage_load(initiator, target);
    for (int i = 0; i < 4; i++) {
        askers[i] = (struct asker){.request = stage_request(initiator, NIXL_CAPI_XFER_OP_READ,
                                                            "target", here, there, BYTES)};
        assert_int_equal(pthread_create(&askers[i].thread, NULL, keep_asking, &askers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        while (atomic_load(&askers[i].answers) < 100)
            (void)sched_yield();
    OK(nixl_capi_invalidate_remote_md(initiator, "target"));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(askers[i].thread, NULL), 0);
        assert_int_equal(askers[i].status, NIXL_CAPI_ERROR_NOT_FOUND);
        stage_end(initiator, askers[i].request);
    }
    OK(nixl_capi_destroy_agent(initiator));
    OK(nixl_capi_destroy_agent(target));
    stage_unmap(here, BYTES);
    stage_unmap(there, BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_agent_serves_many_threads),
        cmocka_unit_test(test_who_ends_a_peer_is_not_kept_waiting_by_those_who_use_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
