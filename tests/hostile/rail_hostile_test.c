/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a peer that says on a rail what it should not, out of order, again and again, or with
 * counts that are huge, costs the other end that connection at most: its queue pairs, memory and
 * time stay bounded, no READ is a success with bytes that are not the owner's, nothing is written
 * that was not lent for writing, and afterwards transfers go on.
 * Method: two agents of one process on a fake libibverbs (unit/verbs_world.h); one end's session
 * sends RAIL frames that are forged, in its own sequence, so that all but their content is right.
 */
#include "unit/verbs_world.h"

#include "core/lease.h"

enum { ROOM = LEND_FRAME_MESSAGE_MAX, LANES = 1 + LEND_VERBS_READ_LANES };

/* A message, as if that side had said it. False: the connection is cut. */
static bool forge(struct world *world, struct side *from, const void *bytes, size_t count)
{
    struct lend_session *session = session_of(from);
    bool is_sent = false;

    for (int i = 0; !is_sent && i < STEPS_MAX; i++) {
        if (session == NULL || atomic_load(&session->is_dead))
            return false;
        (void)pthread_mutex_lock(&session->lock);
        is_sent = lend_session_send(session, LEND_FRAME_RAIL, 0, bytes, count);
        session->channel->ops->flush(session->channel);
        (void)pthread_mutex_unlock(&session->lock);
        step(world);
        session = session_of(from);
    }
    assert_true(is_sent);
    for (int i = 0; i < 4; i++)
        step(world);
    session = session_of(from);
    return session != NULL && !atomic_load(&session->is_dead);
}

static size_t write_lanes(uint8_t *bytes, uint32_t round, bool is_answer, uint8_t lanes)
{
    const struct lend_verbs_offer offer = {.round = round,
                                           .gid = {[10] = 0xff, 0xff, 10, 77, 0, 2},
                                           .link_layer = LEND_VERBS_LINK_ETHERNET,
                                           .mtu = LEND_VERBS_MTU_1024,
                                           .reads = 16,
                                           .lane_count = lanes,
                                           .lanes = {{0x900, 1}, {0x901, 2}, {0x902, 3}},
                                           .words_address = 4096,
                                           .words_bytes = 1 << 20,
                                           .words_rkey = 0x7f00};

    return lend_verbs_offer_encode(&offer, is_answer, bytes, ROOM);
}

static size_t write_call(uint8_t *bytes, uint32_t round, bool is_answer)
{
    return write_lanes(bytes, round, is_answer, LANES);
}

/* The transfers of an honest peer, whatever was said: right, by whatever path. */
static void expect_service(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        for (int r = 0; r < REGIONS; r++)
            memset(world->reader.memory[r], 0, BYTES);
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, NULL);
    }
    assert_true(fake_verbs.qps <= 2 * LANES);
}

/* --- what comes the wrong way, or at the wrong time --- */

static void test_a_message_that_only_the_other_end_says_cuts_the_connection(void **state)
{
    static const uint8_t readers[] = {
        LEND_VERBS_ANSWER, LEND_VERBS_REFUSAL, LEND_VERBS_KEYS, LEND_VERBS_GRANT, 0, 7, 0xff};
    static const uint8_t owners[] = {LEND_VERBS_CALL, LEND_VERBS_HALT, 0, 7, 0xff};

    (void)state;
    for (size_t i = 0; i < sizeof readers + sizeof owners; i++) {
        struct world *world = open_world(true, true);
        bool is_reader = i < sizeof readers;
        uint8_t bytes[64] = {is_reader ? readers[i] : owners[i - sizeof readers]};

        assert_false(forge(world, is_reader ? &world->reader : &world->owner, bytes, sizeof bytes));
        step_often(world);
        expect_service(world);
        close_world(world);
    }
}

static void test_a_message_cut_short_cuts_the_connection(void **state)
{
    static const uint8_t kinds[] = {LEND_VERBS_CALL, LEND_VERBS_HALT, LEND_VERBS_ANSWER,
                                    LEND_VERBS_KEYS, LEND_VERBS_GRANT};

    (void)state;
    for (size_t i = 0; i < sizeof kinds; i++) {
        struct world *world = open_world(true, true);
        uint8_t bytes[2] = {kinds[i], 2};

        assert_false(forge(world, i < 2 ? &world->reader : &world->owner, bytes, 2));
        step_often(world);
        expect_service(world);
        close_world(world);
    }
}

static void test_answers_that_nobody_waits_for_change_nothing(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    uint8_t bytes[ROOM];
    uint32_t round = rail_of(&world->reader)->round;

    for (uint32_t i = 0; i < 3; i++) /* of the round before, this one, the next */
        assert_true(forge(world, &world->owner, bytes, write_call(bytes, round + i - 1, true)));
    assert_true(
        forge(world, &world->owner, bytes, lend_verbs_refusal_encode(round, "gone", bytes, ROOM)));
    for (uint32_t i = 0; i < 2; i++) /* halts of rounds that are not */
        assert_true(forge(world, &world->reader, bytes,
                          lend_verbs_halt_encode(round + 1 - 2 * i, bytes, ROOM)));
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    close_world(world);
}

static void test_an_answer_that_names_others_queue_pairs_reads_nothing(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    uint8_t bytes[ROOM];

    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "verbs/read");
    fake_verbs.status_at = fake_verbs.works;
    fake_verbs.status = LEND_VERBS_WC_RETRY_EXCEEDED;
    expect(world, LEND_OK, "loopback");
    fake_verbs.status_at = -1;
    /* It calls, and hears the forged answer first. */
    struct lend_error why;
    assert_int_equal(lend_verbs_rail_judge(&rail_of(&world->reader)->base, &why), LEND_PENDING);
    size_t count = write_call(bytes, rail_of(&world->reader)->round, true);
    (void)lend_verbs_rail_hear(&rail_of(&world->reader)->base, bytes, count, NULL);
    step_often(world);
    expect_service(world);
    close_world(world);
}

/* --- again and again --- */

static void test_calls_in_a_loop_make_a_bounded_number_of_queue_pairs(void **state)
{
    enum { CALLS = 2000 };

    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 10);
    struct world *world = open_world(true, true);
    uint8_t bytes[ROOM];
    int made = fake_verbs.qps_made;

    prepare(world, LEND_READ, NULL);
    expect(world, LEND_OK, "verbs/read");
    for (uint32_t i = 0; i < CALLS; i++) {
        assert_true(forge(world, &world->reader, bytes, write_call(bytes, 100 + i, false)));
        assert_true(fake_verbs.qps <= 2 * LANES);
    }
    assert_true(fake_verbs.qps_made - made <= LEND_VERBS_CALLS_MAX * LANES);
    expect_service(world);
    /* Later it is as if nothing had been. */
    double_clock_advance(2 * SECOND);
    step_often(world);
    expect_service(world);
    prepare(world, LEND_READ, "verbs/read");
    expect(world, LEND_OK, "verbs/read");
    close_world(world);
    (void)double_remove();
}

static void test_calls_and_halts_in_turn_are_bounded_too(void **state)
{
    (void)state;
    double_install(-1);
    double_clock_set(SECOND, 10);
    struct world *world = open_world(true, true);
    uint8_t bytes[ROOM];
    int made = fake_verbs.qps_made;

    for (uint32_t i = 0; i < 500; i++) {
        assert_true(forge(world, &world->reader, bytes, write_call(bytes, 100 + i, false)));
        assert_true(
            forge(world, &world->reader, bytes, lend_verbs_halt_encode(100 + i, bytes, ROOM)));
        assert_true(fake_verbs.qps <= LANES); /* the reader's own */
    }
    assert_true(fake_verbs.qps_made - made <= LEND_VERBS_CALLS_MAX * LANES);
    expect_service(world);
    close_world(world);
    (void)double_remove();
}

/* --- counts --- */

/* Of a call there are made as many as we want ourselves; one alone carries no reads. */
static void test_queue_pairs_of_any_number_are_bounded(void **state)
{
    static const uint8_t lanes[] = {1, 2, LANES, LANES + 1, LEND_VERBS_LANES_MAX};

    (void)state;
    for (uint32_t i = 0; i < 2 * sizeof lanes; i++) {
        struct world *world = open_world(true, true);
        const bool is_answer = i % 2 != 0;
        uint8_t bytes[ROOM];

        /* An answer is one that nobody awaits. */
        uint32_t round = is_answer ? rail_of(&world->reader)->round : 100;
        size_t count = write_lanes(bytes, round, is_answer, lanes[i / 2]);
        (void)forge(world, is_answer ? &world->owner : &world->reader, bytes, count);
        assert_true(fake_verbs.qps <= 2 * LANES);
        expect_service(world);
        close_world(world);
    }
}

/* Keys of so many regions in one message, with ids from that one on. */
static size_t write_keys(uint8_t *bytes, uint64_t first_id, uint32_t count)
{
    struct lend_verbs_told told = {
        .life = 1, .piece_count = 1, .pieces = {{UINT64_C(0x10000), 4096, 0x7f00}}};
    size_t length = 1;

    bytes[0] = LEND_VERBS_KEYS;
    for (uint32_t i = 0; i < count; i++) {
        told.region_id = first_id + i;
        lend_verbs_told_encode(&told, bytes + length, ROOM - length);
        length += lend_verbs_told_bytes(&told);
    }
    return length;
}

static void test_keys_of_more_regions_than_are_known_are_left_out(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    const struct lend_verbs_told one = {.piece_count = 1};
    const uint32_t at_once = (uint32_t)((ROOM - 1) / lend_verbs_told_bytes(&one));
    uint8_t bytes[ROOM];

    for (uint64_t id = 1000; id < 1000 + LEND_VERBS_FARS_MAX + 4 * at_once; id += at_once)
        assert_true(forge(world, &world->owner, bytes, write_keys(bytes, id, at_once)));
    assert_int_equal(rail_of(&world->reader)->far_count, LEND_VERBS_FARS_MAX);
    expect_service(world);
    close_world(world);
}

static void test_grants_of_ever_more_leases_are_bounded(void **state)
{
    enum { LEASES = 3000, KEPT_MAX = 1024 };

    (void)state;
    struct world *world = open_world(true, true);
    struct lend_verbs_granted granted = {.total = LEND_VERBS_GRANT_PIECES_MAX,
                                         .piece_count = LEND_VERBS_GRANT_PIECES_MAX};
    uint8_t bytes[ROOM];

    for (uint32_t i = 0; i < granted.total; i++) /* all over the place, and overlapping */
        granted.pieces[i] = (struct lend_verbs_piece){
            .address = UINT64_C(0x10000) * (i % 7), .bytes = 1 + i % 3, .rkey = i};
    for (uint32_t i = 0; i < LEASES; i++) {
        granted.slot = i * 64; /* of one bucket */
        size_t count = lend_verbs_granted_encode(&granted, bytes, ROOM);
        assert_true(forge(world, &world->owner, bytes, count));
        assert_true(rail_of(&world->reader)->entry_count <= KEPT_MAX);
        assert_true(rail_of(&world->reader)->known_count <= LEND_VERBS_KNOWN_MAX);
    }
    expect_service(world);
    prepare(world, LEND_WRITE, NULL);
    post(world);
    struct lend_error error = {0};
    assert_int_equal(finish(world, &error).status, LEND_OK);
    close_world(world);
}

static void test_a_write_waits_for_no_keys_that_never_come(void **state)
{
    (void)state;
    struct world *world = open_world(true, true);
    struct lend_verbs_granted granted = {
        .slot = world->lease->slot, .generation = world->lease->generation, .total = 10};
    uint8_t bytes[ROOM];

    prepare(world, LEND_WRITE, "verbs/write");
    expect(world, LEND_OK, "verbs/write");
    assert_true(
        forge(world, &world->owner, bytes, lend_verbs_granted_encode(&granted, bytes, ROOM)));
    granted.piece_count = 1;
    granted.pieces[0] = (struct lend_verbs_piece){.address = 1, .bytes = 1};
    for (uint32_t i = 0; i < 3 * granted.total; i++) { /* all but the first, and again */
        granted.first = 1 + i % (granted.total - 1);
        assert_true(
            forge(world, &world->owner, bytes, lend_verbs_granted_encode(&granted, bytes, ROOM)));
    }
    post(world);
    step_often(world);
    assert_int_equal(lend_transfer_test(world->transfer), LEND_PENDING);
    assert_int_equal(lend_transfer_cancel(world->transfer, 0), LEND_E_CANCELED);
    grant(world, LEND_ACCESS_WRITE);
    expect(world, LEND_OK, "verbs/write");
    close_world(world);
}

static void test_wishes_for_a_lease_that_was_not_shown_make_no_keys(void **state)
{
    enum { MANY = 200 };

    (void)state;
    for (uint8_t leg = 0; leg < 2; leg++) {
        struct world *world = open_world_by("fake0,fake2", "fake1,fake3", 0);
        uint8_t bytes[ROOM];
        size_t count =
            lend_verbs_wish_encode(world->lease->slot, world->lease->generation, bytes, ROOM);

        lend_verbs_message_set_leg(bytes, leg);
        for (int i = 0; i < MANY; i++)
            assert_true(forge(world, &world->reader, bytes, count));
        assert_int_equal(fake_verbs.mws, 0);
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "verbs/read");
        prepare(world, LEND_WRITE, "verbs/write"); /* which shows it, and has keys of one leg */
        expect(world, LEND_OK, "verbs/write");
        assert_int_equal(fake_verbs.mws, REGIONS);
        for (int i = 0; i < MANY; i++)
            assert_true(forge(world, &world->reader, bytes, count));
        assert_int_equal(fake_verbs.mws, (1 + leg) * REGIONS);
        close_world(world);
    }
}

static void test_notifications_that_wait_for_others_are_bounded(void **state)
{
    enum { WINDOW = 262144, NOTE = LEND_VERBS_NOTE_BYTES - LEND_VERBS_NOTE_HEAD };

    (void)state;
    struct world *world = open_world(true, true);
    uint8_t bytes[ROOM], text[NOTE] = {1};
    struct lend_error error = {0};
    size_t count = 0;
    uint64_t said = 0;

    /* The first is never said. */
    while (forge(world, &world->reader, bytes,
                 lend_verbs_note_encode(1 << 20 | (said * 7 & 0xffff), text, NOTE, bytes, ROOM)))
        assert_true(said++ <= WINDOW / NOTE);
    assert_true(said > WINDOW / NOTE / 2);
    assert_int_equal(
        lend_notification_receive(world->owner.agent, text, NOTE, &count, NULL, 0, &error),
        LEND_E_ABSENT);
    close_world(world);
}

/* --- keys that are not --- */

static void test_forged_keys_read_nothing_that_is_not_the_owners(void **state)
{
    (void)state;
    /* By the keys of the words, of another region, of nothing; and in the middle of a READ. */
    for (int which = 0; which < 6; which++) {
        struct world *world = open_world(true, true);
        struct lend_verbs_told told = {.piece_count = 1, .life = 1};
        uint8_t bytes[ROOM] = {LEND_VERBS_KEYS};
        struct lend_error error = {0};

        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "verbs/read");
        const struct lend_verbs_far *far = lend_verbs_rail_theirs(
            &rail_of(&world->reader)->base, lend_region_id(world->owner.regions[0]), 0, &error);
        if (far == NULL)
            far = lend_verbs_rail_theirs(&rail_of(&world->reader)->base,
                                         lend_region_id(world->owner.regions[0]), 1, &error);
        assert_non_null(far);
        told = far->told;
        const uint32_t words = rail_of(&world->reader)->theirs.words_rkey;
        told.pieces[0].rkey = which % 3 == 0   ? words
                              : which % 3 == 1 ? told.pieces[0].rkey + 0x100
                                               : 0xffffff00;
        fake_verbs.holds = which >= 3;
        for (int r = 0; r < REGIONS; r++)
            memset(world->reader.memory[r], 0, BYTES);
        if (which >= 3) {
            post(world);
            step_often(world);
        }
        lend_verbs_told_encode(&told, bytes + 1, ROOM - 1);
        assert_true(forge(world, &world->owner, bytes, 1 + lend_verbs_told_bytes(&told)));
        if (which < 3)
            post(world);
        fake_verbs.holds = false;
        (void)fake_verbs_let_go(1 << 20);
        if (finish(world, &error).status == LEND_OK)
            assert_true(is_here(world));
        close_world(world);
    }
}

static void test_forged_grants_write_nothing_that_was_not_lent_for_writing(void **state)
{
    (void)state;
    for (int is_vain = 0; is_vain < 2; is_vain++) {
        struct world *world = open_world(true, true);
        struct lend_verbs_granted granted = {.total = 1, .piece_count = 1};
        struct lend_error error = {0};
        uint8_t bytes[ROOM];

        grant(world, LEND_ACCESS_READ);
        struct lend_verbs_rail *rail = rail_of(&world->reader);
        prepare(world, LEND_READ, NULL);
        expect(world, LEND_OK, "verbs/read");
        /* As if a write lease were there: of all the memory, by its key for reading. */
        const struct lend_verbs_far *far =
            lend_verbs_rail_theirs(&rail->base, lend_region_id(world->owner.regions[0]), 1, &error);
        if (far == NULL)
            far = lend_verbs_rail_theirs(&rail->base, lend_region_id(world->owner.regions[0]), 0,
                                         &error);
        assert_non_null(far);
        granted.pieces[0] = far->told.pieces[0];
        granted.pieces[0].rkey += is_vain != 0 ? 0x100 : 0;
        for (uint32_t slot = 0; slot < 8; slot++) {
            granted.slot = slot;
            granted.generation = UINT64_MAX;
            assert_true(forge(world, &world->owner, bytes,
                              lend_verbs_granted_encode(&granted, bytes, ROOM)));
        }
        prepare(world, LEND_WRITE, NULL);
        memset(world->reader.memory[0], 0xee, BYTES);
        post(world);
        assert_int_equal(finish(world, &error).status, LEND_E_ACCESS);
        for (int r = 0; r < REGIONS; r++)
            for (int j = 0; j < BYTES; j++)
                assert_int_equal(world->owner.memory[r][j], byte_at(r, j));
        close_world(world);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_that_only_the_other_end_says_cuts_the_connection),
        cmocka_unit_test(test_a_message_cut_short_cuts_the_connection),
        cmocka_unit_test(test_answers_that_nobody_waits_for_change_nothing),
        cmocka_unit_test(test_an_answer_that_names_others_queue_pairs_reads_nothing),
        cmocka_unit_test(test_calls_in_a_loop_make_a_bounded_number_of_queue_pairs),
        cmocka_unit_test(test_calls_and_halts_in_turn_are_bounded_too),
        cmocka_unit_test(test_queue_pairs_of_any_number_are_bounded),
        cmocka_unit_test(test_keys_of_more_regions_than_are_known_are_left_out),
        cmocka_unit_test(test_grants_of_ever_more_leases_are_bounded),
        cmocka_unit_test(test_a_write_waits_for_no_keys_that_never_come),
        cmocka_unit_test(test_wishes_for_a_lease_that_was_not_shown_make_no_keys),
        cmocka_unit_test(test_notifications_that_wait_for_others_are_bounded),
        cmocka_unit_test(test_forged_keys_read_nothing_that_is_not_the_owners),
        cmocka_unit_test(test_forged_grants_write_nothing_that_was_not_lent_for_writing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
