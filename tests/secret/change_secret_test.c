/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: between agents with a secret, a control frame of any type that is changed on its way, in
 * payload, MAC, length, type or request, breaks the session and has no other effect; a server that
 * does not have the secret, or leaves the exchange, gets nothing of a reader; and what is asked for
 * wrongly, or cannot be loaded, is named.
 * Method: somebody between the two agents changes the first frame of each type in each of these
 * ways, with checksums made anew; servers by hand; agents that are to be made wrongly.
 */
#include "stage.h"

#include <sys/wait.h>
#include <unistd.h>

/* --- frames that are changed --- */

enum change {
    CHANGE_MAC,
    CHANGE_PAYLOAD,
    CHANGE_REQUEST,
    CHANGE_LENGTH,
    CHANGE_TYPE,
};
enum { CHANGES = CHANGE_TYPE + 1 };

struct strike {
    enum pipe_side side;
    uint8_t type;
    enum change change;
    bool is_done;
    const struct lend_statistics *owner;
    uint64_t served, notified; /* by the owner, when it struck */
};

static bool strike_frame(void *context, enum pipe_side from, struct lend_frame *frame,
                         uint8_t *payload)
{
    struct strike *strike = context;

    if (strike->is_done || from != strike->side || frame->type != strike->type)
        return true;
    switch (strike->change) {
    case CHANGE_MAC: payload[frame->payload_bytes - 1] ^= 1; break;
    case CHANGE_PAYLOAD: payload[0] ^= 1; break;
    case CHANGE_REQUEST: frame->request++; break;
    case CHANGE_LENGTH: frame->payload_bytes--; break;
    case CHANGE_TYPE:
    default: frame->type = frame->type == LEND_FRAME_BYE ? LEND_FRAME_NOTIFY : LEND_FRAME_BYE;
    }
    strike->is_done = true;
    strike->served = strike->owner->requests_served;
    strike->notified = strike->owner->notifications_received;
    return true;
}

static void cancel_a_write(struct stage *stage)
{
    struct lend_transfer *transfer = stage_post(stage, LEND_WRITE);

    (void)lend_transfer_cancel(transfer, 0);
    (void)stage_finish(stage, transfer);
}

/* Until a quarter of the window was taken, so that a CREDIT is due. */
static void notify(struct stage *stage, const struct strike *strike)
{
    static uint8_t bytes[LEND_NOTIFICATION_BYTES_MAX];
    size_t count;

    for (int i = 0; i < 2 && !strike->is_done; i++) {
        assert_int_equal(lend_notification_send(stage->peer, bytes, sizeof bytes, NULL), LEND_OK);
        stage_pump(stage);
    }
    while (lend_notification_receive(stage->owner, bytes, sizeof bytes, &count, NULL, 0, NULL) ==
           LEND_OK)
        stage_pump(stage);
}

/* Everything that two agents say to each other, or as much of it as they come to. */
static void converse(struct stage *stage, const struct strike *strike)
{
    enum lend_status status = stage_connect(stage, NULL);

    assert_true((status == LEND_OK) == !strike->is_done);
    for (uint32_t direction = LEND_READ; direction <= LEND_WRITE && !strike->is_done; direction++) {
        status = stage_move(stage, direction);
        assert_true((status == LEND_OK) == !strike->is_done);
    }
    if (!strike->is_done)
        cancel_a_write(stage);
    if (!strike->is_done)
        notify(stage, strike);
    if (!strike->is_done)
        (void)lend_ticket_done(stage->ticket, NULL);
    stage_pump(stage);
}

static void expect_break(enum pipe_side side, uint8_t type, enum change change)
{
    struct strike strike = {.side = side, .type = type, .change = change};
    struct stage stage;

    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    strike.owner = page_of(stage.owner);
    pipe_watch(strike_frame, &strike);
    converse(&stage, &strike);
    assert_true(strike.is_done);
    const struct lend_agent *struck = side == PIPE_CLIENT ? stage.owner : stage.reader;
    assert_int_equal(page_of(struck)->sessions_broken, 1);
    assert_int_equal(page_of(stage.owner)->peers_served, 0);
    assert_int_equal(strike.owner->requests_served, strike.served);
    assert_int_equal(strike.owner->notifications_received, strike.notified);
    stage_down(&stage);
}

static void test_changed_frame_of_any_type_breaks_the_session_and_does_nothing(void **state)
{
    static const struct {
        enum pipe_side side;
        uint8_t type;
    } frames[] = {
        {PIPE_CLIENT, LEND_FRAME_HELLO},       {PIPE_SERVER, LEND_FRAME_WELCOME},
        {PIPE_CLIENT, LEND_FRAME_REQUEST},     {PIPE_CLIENT, LEND_FRAME_RUNS},
        {PIPE_SERVER, LEND_FRAME_DONE},        {PIPE_CLIENT, LEND_FRAME_CANCEL},
        {PIPE_CLIENT, LEND_FRAME_NOTIFY},      {PIPE_SERVER, LEND_FRAME_CREDIT},
        {PIPE_CLIENT, LEND_FRAME_TICKET_DONE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++)
        for (int change = CHANGE_MAC; change < CHANGES; change++)
            expect_break(frames[i].side, frames[i].type, (enum change)change);
}

/* DATA has no MAC, as docs/trust.md says: that this is so is no accident. */
static void test_changed_data_is_not_noticed(void **state)
{
    struct strike strike = {.side = PIPE_SERVER, .type = LEND_FRAME_DATA, .change = CHANGE_PAYLOAD};
    struct stage stage;

    (void)state;
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    strike.owner = page_of(stage.owner);
    pipe_watch(strike_frame, &strike);
    assert_int_equal(stage_move(&stage, LEND_READ), LEND_OK);
    assert_true(strike.is_done);
    assert_int_equal(stage.kept_memory[0], stage.lent_memory[0] ^ 1);
    stage_down(&stage);
}

/* --- servers by hand --- */

/* A reader connects to a speaker; up to the reader's CHALLENGE. */
static void await_challenge(struct speaker *speaker, struct stage *stage, const char *secret)
{
    stage_up(stage, OUR_SECRET, OUR_SECRET);
    speaker_up(speaker, LEND_SECRET_SERVER, secret);
    pipe_answer_by_hand(true);
    assert_int_equal(lend_peer_connect(stage->peer, 0, NULL), LEND_E_TIMEOUT);
    speaker->end = pipe_accepted();
    assert_non_null(speaker->end);
    assert_true(speaker_hear(speaker));
    assert_int_equal(speaker->heard.type, LEND_FRAME_CHALLENGE);
    assert_int_equal(lend_challenge_decode(speaker->payload, speaker->heard.payload_bytes,
                                           &speaker->challenge, NULL),
                     LEND_OK);
}

static void say_answer(struct speaker *speaker, uint32_t version, uint32_t role)
{
    uint8_t bytes[LEND_ANSWER_BYTES];

    speaker->answer.version = version;
    memset(speaker->answer.nonce, 0x42, sizeof speaker->answer.nonce);
    speaker_prove(speaker, role, speaker->answer.proof);
    lend_answer_encode(&speaker->answer, bytes);
    pipe_say(speaker->end, LEND_FRAME_ANSWER, 0, bytes, sizeof bytes);
}

/* The reader has heard enough: it says nothing more, and its application reads why. */
static void expect_end(struct speaker *speaker, struct stage *stage, enum lend_status status,
                       const char *word)
{
    struct lend_peer_info info = {.struct_size = sizeof info};

    pipe_pump(stage->reader, NULL);
    assert_false(speaker_hear(speaker));
    assert_true(pipe_is_over(speaker->end));
    assert_int_equal(lend_peer_describe(stage->peer, &info, NULL), LEND_OK);
    assert_string_equal(lend_status_name(info.status), lend_status_name(status));
    assert_non_null(strstr(stage->log, word));
    speaker_down(speaker);
    stage_down(stage);
}

static void test_server_with_another_secret_gets_no_proof(void **state)
{
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    await_challenge(&speaker, &stage, THEIR_SECRET);
    say_answer(&speaker, LEND_CHALLENGE_VERSION, LEND_SECRET_SERVER);
    expect_end(&speaker, &stage, LEND_E_ACCESS, "another secret");
}

static void test_server_that_proves_it_as_a_client_gets_no_proof(void **state)
{
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    await_challenge(&speaker, &stage, OUR_SECRET);
    say_answer(&speaker, LEND_CHALLENGE_VERSION, LEND_SECRET_CLIENT);
    expect_end(&speaker, &stage, LEND_E_ACCESS, "another secret");
}

static void test_server_of_a_version_that_we_do_not_know_is_named(void **state)
{
    static struct speaker speaker;
    struct stage stage;

    (void)state;
    await_challenge(&speaker, &stage, OUR_SECRET);
    say_answer(&speaker, 2, LEND_SECRET_SERVER);
    expect_end(&speaker, &stage, LEND_E_VERSION, "version 2 of the proofs, we speak 1");
}

static void test_server_that_is_full_says_so(void **state)
{
    const struct lend_verdict verdict = {.status = LEND_E_LIMIT, .text = "1 peers are served"};
    static struct speaker speaker;
    struct stage stage;
    uint8_t bytes[512];

    (void)state;
    await_challenge(&speaker, &stage, OUR_SECRET);
    pipe_say(speaker.end, LEND_FRAME_BYE, 0, bytes,
             lend_verdict_encode(&verdict, bytes, sizeof bytes));
    expect_end(&speaker, &stage, LEND_E_LIMIT, "1 peers are served");
}

static void test_welcome_without_an_answer_is_none(void **state)
{
    static struct speaker speaker;
    const struct lend_welcome welcome = {.version = 1, .requests_max = 1};
    struct stage stage;
    uint8_t bytes[128];

    (void)state;
    await_challenge(&speaker, &stage, OUR_SECRET);
    pipe_say(speaker.end, LEND_FRAME_WELCOME, 0, bytes,
             lend_welcome_encode(&welcome, bytes, sizeof bytes));
    expect_end(&speaker, &stage, LEND_E_ACCESS, "where a proof of the secret was due");
}

/* --- what is asked for wrongly --- */

static enum lend_status make(struct lend_agent_config *config, struct lend_error *why)
{
    struct lend_agent *agent = NULL;

    config->name = "agent";
    config->flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    enum lend_status status = lend_agent_create(config, &agent, why);
    lend_agent_destroy(agent);
    return status;
}

static void test_secret_of_a_wrong_length_is_invalid(void **state)
{
    static const uint8_t secret[65];
    static const uint32_t wrong[] = {0, 1, 15, 65, UINT32_MAX};
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error why;

    (void)state;
    config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    config.secret = secret;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        config.secret_bytes = wrong[i];
        assert_int_equal(make(&config, &why), LEND_E_INVALID);
    }
    config.secret_bytes = 16;
    assert_int_equal(make(&config, &why), LEND_OK);
    config.secret_bytes = 64;
    assert_int_equal(make(&config, &why), LEND_OK);
    config.secret = NULL;
    assert_int_equal(make(&config, &why), LEND_E_INVALID);
}

static void test_plugin_that_is_not_there_is_named_with_its_package(void **state)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error why;

    (void)state;
    config.secret = OUR_SECRET;
    config.secret_bytes = 16;
    config.secret_plugin = "/nowhere/lend-secret.so";
    assert_int_equal(make(&config, &why), LEND_E_ABSENT);
    assert_non_null(strstr(why.message, "/nowhere/lend-secret.so: cannot open"));
    assert_non_null(strstr(why.message, "Debian's package"));
    config.secret_plugin = NULL; /* there, if lend is installed on this machine */
    enum lend_status status = make(&config, &why);
    if (status != LEND_OK) {
        assert_int_equal(status, LEND_E_ABSENT);
        assert_non_null(strstr(why.message, "/lend/lend-secret.so: "));
    }
    config.secret_plugin = "libc.so.6";
    assert_int_equal(make(&config, &why), LEND_E_ABSENT);
    assert_non_null(strstr(why.message, "libc.so.6 has no function lend_secret_plugin_1"));
    config.secret = NULL;
    config.secret_bytes = 0;
    assert_int_equal(make(&config, &why), LEND_OK); /* nobody needs it */
}

static void test_forked_child_wipes_its_own_copy_alone(void **state)
{
    struct stage stage;
    int ended = 0;

    (void)state;
    stage_up(&stage, OUR_SECRET, OUR_SECRET);
    assert_int_equal(stage_connect(&stage, NULL), LEND_OK);
    pid_t child = fork();
    if (child == 0) {
        lend_agent_destroy(stage.reader);
        lend_agent_destroy(stage.owner);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    assert_int_equal(stage_move(&stage, LEND_READ), LEND_OK);
    assert_int_equal(page_of(stage.owner)->sessions_broken, 0);
    stage_down(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_frame_of_any_type_breaks_the_session_and_does_nothing),
        cmocka_unit_test(test_changed_data_is_not_noticed),
        cmocka_unit_test(test_server_with_another_secret_gets_no_proof),
        cmocka_unit_test(test_server_that_proves_it_as_a_client_gets_no_proof),
        cmocka_unit_test(test_server_of_a_version_that_we_do_not_know_is_named),
        cmocka_unit_test(test_server_that_is_full_says_so),
        cmocka_unit_test(test_welcome_without_an_answer_is_none),
        cmocka_unit_test(test_secret_of_a_wrong_length_is_invalid),
        cmocka_unit_test(test_plugin_that_is_not_there_is_named_with_its_package),
        cmocka_unit_test(test_forked_child_wipes_its_own_copy_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
