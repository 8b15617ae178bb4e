/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: agents that want MACs on networks alone leave them out where the kernel vouches for the
 * other end, prove the secret there as everywhere, and keep them wherever it does not; nothing that
 * the other end says changes that, and ends that do not agree on it refuse each other.
 * Method: two agents over the fake pipe, whose ends are private or not, as each side is told; what
 * each frame carries; and clients by hand that ask for less than is due.
 */
#include "stage.h"

enum { PLAIN_WELCOME_BYTES = 32 };

/* --- what agents say to each other --- */

struct heard {
    uint32_t count;
    uint32_t proof_count;
    uint32_t welcome_bytes;
};

static bool note_frame(void *context, enum pipe_side from, struct lend_frame *frame,
                       uint8_t *payload)
{
    struct heard *heard = context;

    (void)from, (void)payload;
    heard->count++;
    heard->proof_count += frame->type == LEND_FRAME_ANSWER || frame->type == LEND_FRAME_PROOF;
    if (frame->type == LEND_FRAME_WELCOME)
        heard->welcome_bytes = frame->payload_bytes;
    return true;
}

static void make_private(bool client, bool server)
{
    pipe_make_private(PIPE_CLIENT, client);
    pipe_make_private(PIPE_SERVER, server);
}

static void expect_exchange(uint32_t flags, bool is_private, uint32_t welcome_bytes)
{
    struct heard heard = {0};
    struct stage stage;

    make_private(is_private, is_private);
    stage_up_flagged(&stage, flags, flags);
    pipe_watch(note_frame, &heard);
    assert_int_equal(stage_connect(&stage, NULL), LEND_OK);
    assert_int_equal(stage_move(&stage, LEND_WRITE), LEND_OK);
    assert_int_equal(stage_move(&stage, LEND_READ), LEND_OK);
    assert_int_equal(heard.proof_count, 2); /* of both, in any case */
    assert_int_equal(heard.welcome_bytes, welcome_bytes);
    assert_int_equal(stage.log_count, 0);
    stage_down(&stage);
    make_private(false, false);
}

static void test_private_connection_is_proved_and_bears_no_macs_where_both_say_so(void **state)
{
    (void)state;
    expect_exchange(LEND_AGENT_SEAL_NETWORKS, true, PLAIN_WELCOME_BYTES);
}

static void test_every_other_connection_bears_macs(void **state)
{
    (void)state;
    expect_exchange(LEND_AGENT_SEAL_NETWORKS, false, PLAIN_WELCOME_BYTES + LEND_SECRET_MAC_BYTES);
    expect_exchange(0, true, PLAIN_WELCOME_BYTES + LEND_SECRET_MAC_BYTES);
    expect_exchange(0, false, PLAIN_WELCOME_BYTES + LEND_SECRET_MAC_BYTES);
}

/* --- those who do not agree --- */

static void expect_refusal(uint32_t owners_flags, uint32_t readers_flags, struct lend_error *why)
{
    struct heard heard = {0};
    struct stage stage;

    stage_up_flagged(&stage, owners_flags, readers_flags);
    pipe_watch(note_frame, &heard);
    assert_int_equal(stage_connect(&stage, why), LEND_E_ACCESS);
    stage_pump(&stage);
    assert_int_equal(heard.count, 2); /* CHALLENGE and ANSWER */
    assert_int_equal(page_of(stage.owner)->secrets_refused, 1);
    stage_down(&stage);
}

static void test_one_with_the_flag_and_one_without_refuse_each_other(void **state)
{
    struct lend_error why;

    (void)state;
    make_private(true, true);
    expect_refusal(LEND_AGENT_SEAL_NETWORKS, 0, &why);
    assert_non_null(strstr(why.message, "LEND_AGENT_SEAL_NETWORKS"));
    expect_refusal(0, LEND_AGENT_SEAL_NETWORKS, &why);
    assert_non_null(strstr(why.message, "LEND_AGENT_SEAL_NETWORKS"));
    make_private(false, false);
}

/* As if somebody passed on what is said between a network and a socket of this host. */
static void test_end_that_is_private_refuses_one_that_is_not(void **state)
{
    struct lend_error why;

    (void)state;
    make_private(true, false);
    expect_refusal(LEND_AGENT_SEAL_NETWORKS, LEND_AGENT_SEAL_NETWORKS, &why);
    make_private(false, true);
    expect_refusal(LEND_AGENT_SEAL_NETWORKS, LEND_AGENT_SEAL_NETWORKS, &why);
    make_private(false, false);
}

/* --- clients by hand, who know the secret and would do without MACs --- */

static void prove_as_if_none_followed(struct speaker *speaker, struct stage *stage)
{
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    speaker_challenge(speaker, stage);
    speaker->has_no_macs = true;
    speaker_prove(speaker, LEND_SECRET_CLIENT, proof);
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, proof, sizeof proof);
}

static void greet_without_a_mac(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[256];

    speaker_meet(speaker, stage);
    pipe_say(speaker->end, LEND_FRAME_HELLO, 0, bytes, encode_hello(stage, bytes, sizeof bytes));
}

static void test_nobody_from_a_network_talks_its_way_out_of_macs(void **state)
{
    typedef void speech(struct speaker * speaker, struct stage * stage);
    static speech *const speeches[] = {prove_as_if_none_followed, greet_without_a_mac};
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < sizeof speeches / sizeof speeches[0]; i++) {
        stage_up_flagged(&stage, LEND_AGENT_SEAL_NETWORKS, LEND_AGENT_SEAL_NETWORKS);
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

static void test_client_by_hand_is_welcomed_without_a_mac_where_it_is_private(void **state)
{
    static struct speaker speaker;
    struct lend_welcome welcome;
    uint8_t proof[LEND_SECRET_PROOF_BYTES], bytes[256];
    struct stage stage;

    (void)state;
    make_private(true, true);
    stage_up_flagged(&stage, LEND_AGENT_SEAL_NETWORKS, LEND_AGENT_SEAL_NETWORKS);
    speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
    speaker.has_no_macs = true;
    speaker.end = pipe_dial(stage.owner);
    speaker_challenge(&speaker, &stage); /* the owner's proof is of the same kind */
    speaker_prove(&speaker, LEND_SECRET_CLIENT, proof);
    pipe_say(speaker.end, LEND_FRAME_PROOF, 0, proof, sizeof proof);
    pipe_say(speaker.end, LEND_FRAME_HELLO, 0, bytes, encode_hello(&stage, bytes, sizeof bytes));
    stage_pump(&stage);
    assert_true(speaker_hear(&speaker));
    assert_int_equal(speaker.heard.type, LEND_FRAME_WELCOME);
    assert_int_equal(
        lend_welcome_decode(speaker.payload, speaker.heard.payload_bytes, &welcome, NULL), LEND_OK);
    speaker_down(&speaker);
    stage_down(&stage);
    make_private(false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_private_connection_is_proved_and_bears_no_macs_where_both_say_so),
        cmocka_unit_test(test_every_other_connection_bears_macs),
        cmocka_unit_test(test_one_with_the_flag_and_one_without_refuse_each_other),
        cmocka_unit_test(test_end_that_is_private_refuses_one_that_is_not),
        cmocka_unit_test(test_nobody_from_a_network_talks_its_way_out_of_macs),
        cmocka_unit_test(test_client_by_hand_is_welcomed_without_a_mac_where_it_is_private),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
