/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent with a secret is told nothing from, and tells nothing to, those who do not prove
 * that they have it; a proof is of no use a second time, or in the other direction; and a control
 * frame that anybody changed on its way breaks the session, and does nothing else.
 * Method: two agents over the fake pipe, with somebody between them who changes one frame in each
 * way; clients and servers by hand; and what their statistics and logs say of it.
 */
#include "stage.h"

/* --- those who agree --- */

/* What each side says, in order. */
struct record {
    uint32_t count[2];
    struct lend_frame frames[2][64];
    uint8_t payloads[2][64][128]; /* the beginnings */
};

static bool note_frame(void *context, enum pipe_side from, struct lend_frame *frame,
                       uint8_t *payload)
{
    struct record *record = context;
    uint32_t at = record->count[from]++;

    assert_true(at < 64);
    record->frames[from][at] = *frame;
    memcpy(record->payloads[from][at], payload, 128);
    return true;
}

static void exchange(struct stage *stage)
{
    uint8_t bytes[32];
    size_t count;

    assert_int_equal(stage_connect(stage, NULL), LEND_OK);
    for (size_t i = 0; i < MEMORY_BYTES; i++)
        stage->kept_memory[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(stage_move(stage, LEND_WRITE), LEND_OK);
    assert_memory_equal(stage->lent_memory, stage->kept_memory, MEMORY_BYTES);
    memset(stage->kept_memory, 0, MEMORY_BYTES);
    assert_int_equal(stage_move(stage, LEND_READ), LEND_OK);
    assert_memory_equal(stage->lent_memory, stage->kept_memory, MEMORY_BYTES);
    assert_int_equal(lend_notification_send(stage->peer, "hello", 5, NULL), LEND_OK);
    stage_pump(stage);
    assert_int_equal(
        lend_notification_receive(stage->owner, bytes, sizeof bytes, &count, NULL, 0, NULL),
        LEND_OK);
    assert_int_equal(count, 5);
}

static void test_agents_with_one_secret_move_blocks_and_notify(void **state)
{
    static struct record record;
    struct stage stage;

    (void)state;
    memset(&record, 0, sizeof record);
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    pipe_watch(note_frame, &record);
    exchange(&stage);
    assert_int_equal(record.frames[PIPE_CLIENT][0].type, LEND_FRAME_CHALLENGE);
    assert_int_equal(record.frames[PIPE_CLIENT][0].payload_bytes, 36);
    assert_int_equal(record.frames[PIPE_SERVER][0].type, LEND_FRAME_ANSWER);
    assert_int_equal(record.frames[PIPE_SERVER][0].payload_bytes, 68);
    assert_int_equal(record.frames[PIPE_CLIENT][1].type, LEND_FRAME_PROOF);
    assert_int_equal(record.frames[PIPE_CLIENT][1].payload_bytes, 32);
    assert_int_equal(record.frames[PIPE_CLIENT][2].type, LEND_FRAME_HELLO);
    assert_int_equal(record.frames[PIPE_SERVER][1].type, LEND_FRAME_WELCOME);
    assert_int_equal(record.frames[PIPE_SERVER][1].payload_bytes, 32 + LEND_SECRET_MAC_BYTES);
    assert_int_equal(page_of(stage.owner)->secrets_refused, 0);
    assert_int_equal(page_of(stage.owner)->sessions_broken, 0);
    assert_int_equal(stage.log_count, 0);
    stage_down(&stage);
}

static void test_no_two_sessions_begin_alike(void **state)
{
    static struct record records[2];
    struct stage stage;

    (void)state;
    memset(records, 0, sizeof records);
    for (int i = 0; i < 2; i++) {
        stage_up(&stage, OUR_SECRET, OUR_SECRET);
        pipe_watch(note_frame, &records[i]);
        assert_int_equal(stage_connect(&stage, NULL), LEND_OK);
        stage_down(&stage);
    }
    /* The random bytes, and the proofs. */
    assert_memory_not_equal(records[0].payloads[0][0] + 4, records[1].payloads[0][0] + 4, 32);
    assert_memory_not_equal(records[0].payloads[1][0] + 4, records[1].payloads[1][0] + 4, 32);
    assert_memory_not_equal(records[0].payloads[1][0] + 36, records[1].payloads[1][0] + 36, 32);
    assert_memory_not_equal(records[0].payloads[0][1], records[1].payloads[0][1], 32);
}

/* --- those who do not --- */

static void test_reader_with_another_secret_is_told_so_by_its_own_agent(void **state)
{
    struct stage stage;
    struct lend_error why;

    (void)state;
    stage_up(&stage, OUR_SECRET, THEIR_SECRET);
    assert_int_equal(stage_connect(&stage, &why), LEND_E_ACCESS);
    assert_non_null(strstr(why.message, "another secret"));
    assert_non_null(strstr(why.message, "lend_agent_config::secret"));
    stage_pump(&stage);
    assert_int_equal(page_of(stage.owner)->secrets_refused, 1);
    assert_int_equal(page_of(stage.owner)->peers_served, 0);
    stage_down(&stage);
}

static void test_reader_with_a_secret_does_not_talk_to_an_owner_without(void **state)
{
    static struct record record;
    struct stage stage;
    struct lend_error why;

    (void)state;
    memset(&record, 0, sizeof record);
    stage_up(&stage, NULL, OUR_SECRET);
    pipe_watch(note_frame, &record);
    assert_int_equal(stage_connect(&stage, &why), LEND_E_ACCESS);
    assert_non_null(strstr(why.message, "has no secret"));
    assert_int_equal(record.count[PIPE_CLIENT], 1); /* the challenge, and nothing else */
    assert_int_equal(page_of(stage.owner)->secrets_refused, 0);
    stage_down(&stage);
}

static void test_reader_without_a_secret_learns_that_one_may_be_wanted(void **state)
{
    static struct record record;
    struct stage stage;
    struct lend_error why;

    (void)state;
    memset(&record, 0, sizeof record);
    stage_up(&stage, OUR_SECRET, NULL);
    pipe_watch(note_frame, &record);
    assert_int_equal(stage_connect(&stage, &why), LEND_E_PEER_DEAD);
    assert_non_null(strstr(why.message, "lend_agent_config::secret"));
    assert_int_equal(record.count[PIPE_SERVER], 0);
    assert_int_equal(page_of(stage.owner)->secrets_refused, 1);
    assert_int_equal(page_of(stage.owner)->sessions_broken, 0);
    stage_down(&stage);
}

/* --- clients by hand --- */

static void say_hello(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[256];

    pipe_say(speaker->end, LEND_FRAME_HELLO, 0, bytes, encode_hello(stage, bytes, sizeof bytes));
}

static void say_fetch(struct speaker *speaker, struct stage *stage)
{
    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_FETCH, 0, NULL, 0);
}

static void say_goodbye(struct speaker *speaker, struct stage *stage)
{
    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_BYE, 0, NULL, 0);
}

static void say_data(struct speaker *speaker, struct stage *stage)
{
    static const uint8_t bytes[LEND_FRAME_PAYLOAD_MAX];

    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_DATA, 1, bytes, sizeof bytes);
}

static void prove_at_once(struct speaker *speaker, struct stage *stage)
{
    static const uint8_t bytes[LEND_SECRET_PROOF_BYTES];

    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, bytes, sizeof bytes);
}

static void challenge_of_version_0(struct speaker *speaker, struct stage *stage)
{
    static const uint8_t bytes[LEND_CHALLENGE_BYTES];

    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes);
}

static void challenge_that_is_short(struct speaker *speaker, struct stage *stage)
{
    static const uint8_t bytes[LEND_CHALLENGE_BYTES - 1] = {1};

    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes);
}

static void challenge_that_is_long(struct speaker *speaker, struct stage *stage)
{
    static const uint8_t bytes[LEND_FRAME_CONTROL_MAX] = {1};

    (void)stage;
    pipe_say(speaker->end, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes);
}

static void challenge_twice(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[LEND_CHALLENGE_BYTES];

    speaker_challenge(speaker, stage);
    lend_challenge_encode(&speaker->challenge, bytes);
    pipe_say(speaker->end, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes);
}

static void prove_with_a_bit_changed(struct speaker *speaker, struct stage *stage)
{
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    speaker_challenge(speaker, stage);
    speaker_prove(speaker, LEND_SECRET_CLIENT, proof);
    proof[31] ^= 0x80;
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, proof, sizeof proof);
}

static void prove_in_part(struct speaker *speaker, struct stage *stage)
{
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    speaker_challenge(speaker, stage);
    speaker_prove(speaker, LEND_SECRET_CLIENT, proof);
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, proof, sizeof proof - 1);
}

static void prove_by_reflection(struct speaker *speaker, struct stage *stage)
{
    speaker_challenge(speaker, stage);
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, speaker->answer.proof, LEND_SECRET_PROOF_BYTES);
}

static void greet_without_a_proof(struct speaker *speaker, struct stage *stage)
{
    speaker_challenge(speaker, stage);
    speaker_derive(speaker);
    say_hello(speaker, stage);
}

static void leave(struct speaker *speaker, struct stage *stage)
{
    speaker_challenge(speaker, stage);
    pipe_close(speaker->end);
    speaker->end = NULL;
}

/* All that an honest client once said, bit by bit. */
static void replay(struct speaker *speaker, struct stage *stage)
{
    static struct record record;
    uint32_t before = page_of(stage->owner)->secrets_refused == 0;

    memset(&record, 0, sizeof record);
    pipe_watch(note_frame, &record);
    assert_int_equal(stage_connect(stage, NULL), LEND_OK);
    pipe_watch(NULL, NULL);
    assert_true(before && record.count[PIPE_CLIENT] >= 3);
    for (uint32_t i = 0; i < 3; i++) {
        const struct lend_frame *frame = &record.frames[PIPE_CLIENT][i];

        assert_true(frame->payload_bytes <= 128 && frame->sequence == i);
        pipe_say(speaker->end, frame->type, frame->request, record.payloads[PIPE_CLIENT][i],
                 frame->payload_bytes);
        stage_pump(stage);
    }
}

typedef void speech(struct speaker *speaker, struct stage *stage);

/* It hears an ANSWER, if it asked for one, and then nothing but that it is over. */
static void expect_refusal(speech *speak)
{
    static struct speaker speaker;
    struct stage stage;

    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
    speaker.end = pipe_dial(stage.owner);
    speak(&speaker, &stage);
    stage_pump(&stage);
    if (speaker.end != NULL) {
        while (speaker_hear(&speaker))
            assert_int_equal(speaker.heard.type, LEND_FRAME_ANSWER);
        assert_true(pipe_is_over(speaker.end));
    }
    assert_true(speaker.heard_count <= 1);
    assert_int_equal(page_of(stage.owner)->secrets_refused, 1);
    assert_int_equal(page_of(stage.owner)->sessions_broken, 0);
    assert_int_equal(stage.log_count, 1);
    exchange(&stage); /* it goes on to serve others */
    speaker_down(&speaker);
    stage_down(&stage);
}

static void test_client_that_does_not_prove_it_hears_nothing(void **state)
{
    static speech *const speeches[] = {
        say_hello,
        say_fetch,
        say_goodbye,
        say_data,
        prove_at_once,
        challenge_of_version_0,
        challenge_that_is_short,
        challenge_that_is_long,
        challenge_twice,
        prove_with_a_bit_changed,
        prove_in_part,
        prove_by_reflection,
        greet_without_a_proof,
        leave,
        replay,
    };

    (void)state;
    for (size_t i = 0; i < sizeof speeches / sizeof speeches[0]; i++)
        expect_refusal(speeches[i]);
}

static void test_log_tells_of_the_first_refusal_and_statistics_of_all(void **state)
{
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    speaker_up(&speaker, LEND_SECRET_CLIENT, THEIR_SECRET);
    for (int i = 0; i < 100; i++) {
        speaker.end = pipe_dial(stage.owner);
        say_hello(&speaker, &stage);
        pipe_pump(stage.owner, NULL);
        assert_true(pipe_is_over(speaker.end));
        pipe_close(speaker.end);
    }
    speaker.end = NULL;
    assert_int_equal(page_of(stage.owner)->secrets_refused, 100);
    assert_int_equal(stage.log_count, 1);
    assert_non_null(strstr(stage.log, "secret"));
    speaker_down(&speaker);
    stage_down(&stage);
}

/* It asks, and then says nothing more: its place is free again when the greeting is overdue. */
static void test_client_that_stops_half_way_is_sent_away_in_time(void **state)
{
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    stage.connect_timeout_ns = 50000000;
    struct lend_agent *impatient = stage_agent(&stage, "impatient", OUR_SECRET, NULL);
    struct lend_agent *reader = stage.reader;
    assert_non_null(impatient);
    stage.reader = impatient; /* so that it makes progress with the owner */
    speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
    speaker.end = pipe_dial(impatient);
    speaker_challenge(&speaker, &stage);
    for (int i = 0; i < 1000 && !pipe_is_over(speaker.end); i++)
        (void)lend_agent_progress(impatient, 50000000, NULL);
    assert_true(pipe_is_over(speaker.end));
    assert_false(speaker_hear(&speaker));
    assert_int_equal(page_of(impatient)->secrets_refused, 1);
    speaker_down(&speaker);
    lend_agent_destroy(impatient);
    stage.reader = reader;
    stage_down(&stage);
}

/* --- clients by hand that did prove it --- */

static void seal_hello(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[256];
    size_t count = encode_hello(stage, bytes, sizeof bytes);

    speaker_meet(speaker, stage);
    speaker_say_sealed(speaker, LEND_SECRET_CLIENT, LEND_FRAME_HELLO, 0, bytes, count);
}

static void test_client_by_hand_is_welcomed_under_a_mac(void **state)
{
    static struct speaker speaker;
    struct lend_welcome welcome;
    struct stage stage;

    (void)state;
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
    speaker.end = pipe_dial(stage.owner);
    seal_hello(&speaker, &stage);
    stage_pump(&stage);
    assert_true(speaker_hear(&speaker));
    assert_int_equal(speaker.heard.type, LEND_FRAME_WELCOME);
    assert_true(speaker_unseal(&speaker, LEND_SECRET_SERVER));
    assert_int_equal(
        lend_welcome_decode(speaker.payload, speaker.heard.payload_bytes, &welcome, NULL), LEND_OK);
    speaker_down(&speaker);
    stage_down(&stage);
}

static void hello_without_a_mac(struct speaker *speaker, struct stage *stage)
{
    speaker_meet(speaker, stage);
    say_hello(speaker, stage);
}

static void hello_under_the_servers_key(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[256];
    size_t count = encode_hello(stage, bytes, sizeof bytes);

    speaker_meet(speaker, stage);
    speaker_say_sealed(speaker, LEND_SECRET_SERVER, LEND_FRAME_HELLO, 0, bytes, count);
}

static void hello_of_another_session(struct speaker *speaker, struct stage *stage)
{
    static struct speaker other;
    uint8_t bytes[256];
    size_t count = encode_hello(stage, bytes, sizeof bytes);

    speaker_meet(speaker, stage);
    speaker_up(&other, LEND_SECRET_CLIENT, OUR_SECRET);
    other.end = pipe_dial(stage->owner);
    speaker_meet(&other, stage);
    void *keys = speaker->keys;
    speaker->keys = other.keys;
    speaker_say_sealed(speaker, LEND_SECRET_CLIENT, LEND_FRAME_HELLO, 0, bytes, count);
    speaker->keys = keys;
    stage_pump(stage);
    speaker_down(&other);
}

static void welcome_that_comes_back(struct speaker *speaker, struct stage *stage)
{
    seal_hello(speaker, stage);
    stage_pump(stage);
    assert_true(speaker_hear(speaker));
    pipe_say(speaker->end, speaker->heard.type, 0, speaker->payload, speaker->heard.payload_bytes);
}

/* The MAC of the first on a frame of the number that is due. */
static void notify_twice_the_same(struct speaker *speaker, struct stage *stage)
{
    static struct record record;

    memset(&record, 0, sizeof record);
    seal_hello(speaker, stage);
    pipe_watch(note_frame, &record);
    speaker_say_sealed(speaker, LEND_SECRET_CLIENT, LEND_FRAME_NOTIFY, 0, "once", 4);
    pipe_say(speaker->end, LEND_FRAME_NOTIFY, 0, record.payloads[PIPE_CLIENT][0],
             4 + LEND_SECRET_MAC_BYTES);
    pipe_watch(NULL, NULL);
    stage_pump(stage);
    assert_int_equal(page_of(stage->owner)->notifications_received, 1);
}

static void test_frame_that_is_not_sealed_for_its_place_breaks_the_session(void **state)
{
    static speech *const speeches[] = {hello_without_a_mac, hello_under_the_servers_key,
                                       hello_of_another_session, welcome_that_comes_back,
                                       notify_twice_the_same};
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < sizeof speeches / sizeof speeches[0]; i++) {
        stage_up(&stage, OUR_SECRET, OUR_SECRET);
        speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
        speaker.end = pipe_dial(stage.owner);
        speeches[i](&speaker, &stage);
        stage_pump(&stage);
        assert_true(pipe_is_over(speaker.end));
        assert_int_equal(page_of(stage.owner)->peers_served, 0);
        speaker_down(&speaker);
        stage_down(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agents_with_one_secret_move_blocks_and_notify),
        cmocka_unit_test(test_no_two_sessions_begin_alike),
        cmocka_unit_test(test_reader_with_another_secret_is_told_so_by_its_own_agent),
        cmocka_unit_test(test_reader_with_a_secret_does_not_talk_to_an_owner_without),
        cmocka_unit_test(test_reader_without_a_secret_learns_that_one_may_be_wanted),
        cmocka_unit_test(test_client_that_does_not_prove_it_hears_nothing),
        cmocka_unit_test(test_log_tells_of_the_first_refusal_and_statistics_of_all),
        cmocka_unit_test(test_client_that_stops_half_way_is_sent_away_in_time),
        cmocka_unit_test(test_client_by_hand_is_welcomed_under_a_mac),
        cmocka_unit_test(test_frame_that_is_not_sealed_for_its_place_breaks_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
