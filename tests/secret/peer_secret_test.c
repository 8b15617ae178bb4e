/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a connection to a peer is held to the secret that the peer's import gave, and one from it
 * to our own; who has the wrong one, or none, is told nothing; the first import of an incarnation
 * says by which secret it is met; and no secret is left when a peer is gone.
 * Method: two or three agents over the fake pipe, each with a secret of its own or without one, and
 * somebody between them who counts what each side says.
 */
#include "stage.h"

#include <sys/wait.h>
#include <unistd.h>

enum { AGENTS_MAX = 3 };

static const char *const secrets[AGENTS_MAX] = {
    "the secret of the first",
    "what the second one wants to hear",
    "and the third has one too",
};

static bool count_frame(void *context, enum pipe_side from, struct lend_frame *frame,
                        uint8_t *payload)
{
    uint32_t *counts = context;

    (void)frame, (void)payload;
    counts[from]++;
    return true;
}

static enum lend_status import_with(struct lend_agent *from, struct lend_agent *to,
                                    const char *secret, struct lend_peer **out,
                                    struct lend_error *error)
{
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;
    uint8_t bytes[4096];
    char copy[LEND_SECRET_BYTES_MAX + 1] = "";
    size_t count;

    assert_int_equal(lend_metadata_export(to, bytes, sizeof bytes, &count, NULL), LEND_OK);
    if (secret != NULL) {
        (void)snprintf(copy, sizeof copy, "%s", secret);
        desc.secret = copy;
        desc.secret_bytes = (uint32_t)strlen(copy);
    }
    enum lend_status status = lend_peer_import_with(from, bytes, count, &desc, out, error);
    memset(copy, 0, sizeof copy); /* what was given is not looked at again */
    return status;
}

static struct lend_peer *import_surely(struct lend_agent *from, struct lend_agent *to,
                                       const char *secret)
{
    struct lend_peer *peer = NULL;
    struct lend_error why = {0};
    enum lend_status status = import_with(from, to, secret, &peer, &why);

    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), why.message);
    return peer;
}

static enum lend_status connect_to(struct lend_peer *peer, struct lend_agent *from,
                                   struct lend_agent *to, struct lend_error *why)
{
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; i < 200 && status == LEND_E_TIMEOUT; i++) {
        status = lend_peer_connect(peer, 0, why);
        if (status == LEND_E_TIMEOUT)
            (void)lend_agent_progress(to, 0, NULL);
    }
    pipe_pump(from, to);
    return status;
}

/* --- a group of agents --- */

struct group {
    struct stage stage; /* its folder, and the log */
    uint32_t count;
    struct lend_agent *agents[AGENTS_MAX];
    struct lend_peer *peers[AGENTS_MAX][AGENTS_MAX]; /* the second as the first knows it */
};

static void group_up(struct group *group, uint32_t count)
{
    static const char *const names[AGENTS_MAX] = {"first", "second", "third"};

    *group = (struct group){.stage.directory = "/tmp/lend-secret-XXXXXX", .count = count};
    assert_non_null(mkdtemp(group->stage.directory));
    for (uint32_t i = 0; i < count; i++) {
        group->agents[i] = stage_agent(&group->stage, names[i], secrets[i], NULL);
        assert_non_null(group->agents[i]);
    }
}

static void group_down(struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        lend_agent_destroy(group->agents[i]);
    assert_int_equal(rmdir(group->stage.directory), 0);
    pipe_watch(NULL, NULL);
}

static void introduce_all(struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        for (uint32_t j = 0; j < group->count; j++)
            if (i != j)
                group->peers[i][j] = import_surely(group->agents[i], group->agents[j], secrets[j]);
}

static void pump_all(struct group *group)
{
    for (int round = 0; round < 4; round++)
        for (uint32_t i = 0; i < group->count; i++)
            pipe_pump(group->agents[i], group->agents[(i + 1) % group->count]);
}

/* Each says one thing to each other one; and takes what it was told. */
static void exchange_words(struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        for (uint32_t j = 0; j < group->count; j++)
            if (i != j)
                assert_int_equal(lend_notification_send(group->peers[i][j], "word", 4, NULL),
                                 LEND_OK);
    pump_all(group);
    for (uint32_t i = 0; i < group->count; i++) {
        uint8_t bytes[16];
        size_t count;

        for (uint32_t j = 1; j < group->count; j++)
            assert_int_equal(lend_notification_receive(group->agents[i], bytes, sizeof bytes,
                                                       &count, NULL, 0, NULL),
                             LEND_OK);
        assert_int_equal(
            lend_notification_receive(group->agents[i], bytes, sizeof bytes, &count, NULL, 0, NULL),
            LEND_E_ABSENT);
        assert_int_equal(page_of(group->agents[i])->secrets_refused, 0);
        assert_int_equal(page_of(group->agents[i])->sessions_broken, 0);
        assert_int_equal(page_of(group->agents[i])->peers_served, group->count - 1);
    }
    assert_int_equal(group->stage.log_count, 0);
}

static void test_each_connection_is_held_to_the_secret_of_who_accepts_it(void **state)
{
    struct group group;

    (void)state;
    for (uint32_t count = 2; count <= AGENTS_MAX; count++) {
        group_up(&group, count);
        introduce_all(&group);
        exchange_words(&group); /* all connections begin at once, and cross */
        group_down(&group);
    }
}

static void test_blocks_move_under_the_secret_of_the_owner(void **state)
{
    static const char *const readers[] = {NULL, THEIR_SECRET, OUR_SECRET};
    struct stage stage;
    uint8_t bytes[4096];
    size_t count;

    (void)state;
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        stage_up(&stage, OUR_SECRET, readers[i]);
        lend_ticket_release(stage.ticket);
        lend_peer_forget(stage.peer);
        stage.peer = import_surely(stage.reader, stage.owner, OUR_SECRET);
        assert_int_equal(lend_ticket_export(stage.lease, bytes, sizeof bytes, &count, NULL),
                         LEND_OK);
        assert_int_equal(lend_ticket_import(stage.peer, bytes, count, &stage.ticket, NULL),
                         LEND_OK);
        memset(stage.lent_memory, 0x5a, MEMORY_BYTES);
        assert_int_equal(stage_move(&stage, LEND_READ), LEND_OK);
        assert_memory_equal(stage.kept_memory, stage.lent_memory, MEMORY_BYTES);
        assert_int_equal(page_of(stage.owner)->secrets_refused, 0);
        stage_down(&stage);
    }
}

/* --- those who have another one, or none --- */

struct refusal {
    const char *owners, *readers, *given;
    enum lend_status status;
    const char *text;
    uint32_t said_by_client, said_by_server;
};

static void expect_refusal(const struct refusal *refusal)
{
    struct stage stage = {.directory = "/tmp/lend-secret-XXXXXX"};
    struct lend_error why = {0};
    uint32_t counts[2] = {0}; /* by enum pipe_side */

    assert_non_null(mkdtemp(stage.directory));
    struct lend_agent *owner = stage_agent(&stage, "owner", refusal->owners, NULL);
    struct lend_agent *reader = stage_agent(&stage, "reader", refusal->readers, NULL);
    assert_true(owner != NULL && reader != NULL);
    struct lend_peer *peer = import_surely(reader, owner, refusal->given);
    pipe_watch(count_frame, counts);
    assert_int_equal(connect_to(peer, reader, owner, &why), refusal->status);
    if (strstr(why.message, refusal->text) == NULL)
        fail_msg("%s is not in: %s", refusal->text, why.message);
    assert_int_equal(counts[PIPE_CLIENT], refusal->said_by_client);
    assert_int_equal(counts[PIPE_SERVER], refusal->said_by_server);
    assert_int_equal(page_of(owner)->secrets_refused, refusal->owners != NULL);
    assert_int_equal(page_of(owner)->peers_served, 0);
    pipe_watch(NULL, NULL);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
    assert_int_equal(rmdir(stage.directory), 0);
}

static void test_who_was_given_another_secret_is_told_nothing(void **state)
{
    /* The client says a challenge, the server an answer, and the client sees that it is wrong. */
    static const struct refusal refusals[] = {
        {OUR_SECRET, NULL, THEIR_SECRET, LEND_E_ACCESS, "than its import gave", 1, 1},
        {OUR_SECRET, OUR_SECRET, THEIR_SECRET, LEND_E_ACCESS, "than its import gave", 1, 1},
        {OUR_SECRET, THEIR_SECRET, THEIR_SECRET, LEND_E_ACCESS, "than its import gave", 1, 1},
        {OUR_SECRET, THEIR_SECRET, NULL, LEND_E_ACCESS, "than we have", 1, 1},
        {OUR_SECRET, NULL, NULL, LEND_E_PEER_DEAD, "or of its import", 1, 0},
        {NULL, NULL, OUR_SECRET, LEND_E_ACCESS, "its import gave one", 1, 1},
        {NULL, OUR_SECRET, OUR_SECRET, LEND_E_ACCESS, "its import gave one", 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        expect_refusal(&refusals[i]);
}

/* The other end's own secret is for those who connect to it, and not for whom it connects to. */
static void test_secret_of_a_peer_does_not_open_us_to_it(void **state)
{
    struct group group;
    struct lend_error why;

    (void)state;
    group_up(&group, 2);
    struct lend_peer *there = import_surely(group.agents[0], group.agents[1], secrets[1]);
    struct lend_peer *back = import_surely(group.agents[1], group.agents[0], NULL);
    assert_int_equal(connect_to(there, group.agents[0], group.agents[1], &why), LEND_OK);
    assert_int_equal(connect_to(back, group.agents[1], group.agents[0], &why), LEND_E_ACCESS);
    assert_int_equal(page_of(group.agents[0])->secrets_refused, 1);
    assert_int_equal(page_of(group.agents[0])->peers_served, 0);
    assert_int_equal(page_of(group.agents[1])->secrets_refused, 0);
    assert_int_equal(page_of(group.agents[1])->peers_served, 1);
    group_down(&group);
}

static void test_agent_that_lets_all_in_connects_to_one_that_does_not(void **state)
{
    struct group group;
    struct lend_error why;

    (void)state;
    group_up(&group, 2);
    struct lend_agent *open = stage_agent(&group.stage, "open", NULL, NULL);
    struct lend_peer *there = import_surely(open, group.agents[1], secrets[1]);
    struct lend_peer *back = import_surely(group.agents[1], group.agents[0], secrets[0]);
    assert_int_equal(connect_to(there, open, group.agents[1], &why), LEND_OK);
    assert_int_equal(connect_to(back, group.agents[1], group.agents[0], &why), LEND_OK);
    lend_agent_destroy(open);
    group_down(&group);
}

static void test_restarted_peer_is_met_by_its_new_secret(void **state)
{
    struct group group;
    struct lend_error why;

    (void)state;
    group_up(&group, 2);
    introduce_all(&group);
    exchange_words(&group);
    lend_agent_destroy(group.agents[1]);
    group.agents[1] = stage_agent(&group.stage, "second", secrets[2], NULL);
    assert_non_null(group.agents[1]);

    struct lend_peer *late = import_surely(group.agents[0], group.agents[1], secrets[1]);
    assert_ptr_not_equal(late, group.peers[0][1]);
    assert_int_equal(connect_to(late, group.agents[0], group.agents[1], &why), LEND_E_ACCESS);
    assert_int_equal(page_of(group.agents[1])->secrets_refused, 1);
    lend_peer_forget(late);
    late = import_surely(group.agents[0], group.agents[1], secrets[2]);
    assert_int_equal(connect_to(late, group.agents[0], group.agents[1], &why), LEND_OK);
    struct lend_peer *back = import_surely(group.agents[1], group.agents[0], secrets[0]);
    assert_int_equal(connect_to(back, group.agents[1], group.agents[0], &why), LEND_OK);
    group_down(&group);
}

/* --- importing --- */

static void test_first_import_says_which_secret_it_is(void **state)
{
    struct group group;
    struct lend_peer *again = NULL;
    struct lend_error why;

    (void)state;
    group_up(&group, 2);
    struct lend_agent *ours = group.agents[0], *theirs = group.agents[1];
    struct lend_peer *peer = import_surely(ours, theirs, secrets[1]);
    assert_ptr_equal(import_surely(ours, theirs, secrets[1]), peer);
    assert_ptr_equal(import_surely(ours, theirs, NULL), peer);
    assert_int_equal(import_with(ours, theirs, secrets[2], &again, &why), LEND_E_MISMATCH);
    assert_non_null(strstr(why.message, "second is known already"));
    assert_null(again);
    assert_int_equal(connect_to(peer, ours, theirs, &why), LEND_OK);
    for (int i = 0; i < 3; i++)
        lend_peer_forget(peer);
    peer = import_surely(ours, theirs, secrets[2]); /* nobody knows it any more */
    assert_int_equal(connect_to(peer, ours, theirs, &why), LEND_E_ACCESS);
    group_down(&group);
}

static void test_import_that_gave_none_stands_for_our_own(void **state)
{
    struct group group;
    struct lend_peer *again = NULL;
    struct lend_error why;

    (void)state;
    group_up(&group, 2);
    struct lend_agent *open = stage_agent(&group.stage, "open", NULL, NULL);
    struct lend_peer *peer = import_surely(group.agents[0], group.agents[1], NULL);
    assert_int_equal(import_with(group.agents[0], group.agents[1], secrets[1], &again, &why),
                     LEND_E_MISMATCH);
    assert_ptr_equal(import_surely(group.agents[0], group.agents[1], secrets[0]), peer);
    (void)import_surely(open, group.agents[1], NULL);
    assert_int_equal(import_with(open, group.agents[1], secrets[1], &again, &why), LEND_E_MISMATCH);
    assert_null(again);
    lend_agent_destroy(open);
    group_down(&group);
}

static void test_wrong_secret_is_invalid(void **state)
{
    static const uint8_t secret[65];
    static const uint32_t wrong[] = {0, 1, 15, 65, UINT32_MAX};
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;
    struct lend_peer *peer = NULL;
    struct group group;
    uint8_t bytes[4096];
    size_t count;

    (void)state;
    group_up(&group, 2);
    assert_int_equal(lend_metadata_export(group.agents[1], bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    desc.secret = secret;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        desc.secret_bytes = wrong[i];
        assert_int_equal(lend_peer_import_with(group.agents[0], bytes, count, &desc, &peer, NULL),
                         LEND_E_INVALID);
    }
    desc.secret = NULL;
    desc.secret_bytes = 16;
    assert_int_equal(lend_peer_import_with(group.agents[0], bytes, count, &desc, &peer, NULL),
                     LEND_E_INVALID);
    desc.secret_bytes = 0;
    desc.reserved = 1;
    assert_int_equal(lend_peer_import_with(group.agents[0], bytes, count, &desc, &peer, NULL),
                     LEND_E_INVALID);
    assert_null(peer);
    group_down(&group);
}

/* As programs have it that were compiled before peers had secrets; nothing lies behind it. */
static void test_description_without_a_secret_is_taken(void **state)
{
    const uint32_t size = offsetof(struct lend_import_desc, secret);
    struct lend_import_desc *desc = calloc(1, size);
    struct lend_peer *peer = NULL;
    struct group group;
    uint8_t bytes[4096];
    size_t count;

    (void)state;
    assert_non_null(desc);
    assert_int_equal(size, 16);
    group_up(&group, 2);
    assert_int_equal(lend_metadata_export(group.agents[1], bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    memcpy(desc, &size, sizeof size);
    assert_int_equal(lend_peer_import_with(group.agents[0], bytes, count, desc, &peer, NULL),
                     LEND_OK);
    assert_non_null(peer);
    group_down(&group);
    free(desc);
}

static void test_plugin_that_is_not_there_is_named_at_the_import(void **state)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error why;
    struct group group;
    char path[] = "/nowhere/lend-secret.so";

    (void)state;
    group_up(&group, 2);
    config.name = "poor";
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    config.local_directory = group.stage.directory;
    config.secret_plugin = path;
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    path[0] = '?'; /* what the configuration said was copied */
    assert_int_equal(import_with(agent, group.agents[1], secrets[1], &peer, &why), LEND_E_ABSENT);
    assert_non_null(strstr(why.message, "/nowhere/lend-secret.so: cannot open"));
    assert_non_null(strstr(why.message, "Debian's package"));
    assert_null(peer);
    (void)import_surely(agent, group.agents[1], NULL);
    lend_agent_destroy(agent);
    group_down(&group);
}

/* --- what is left --- */

/* The plugin, with its keeping counted. */
static struct lend_secret_plugin counting;
static const struct lend_secret_plugin *counted;
static int kept_count, keys_count;

static enum lend_status keep_counted(const void *secret, uint64_t secret_bytes, void **out_kept,
                                     struct lend_error *error)
{
    kept_count++;
    return counted->keep(secret, secret_bytes, out_kept, error);
}

static void forget_counted(void *kept)
{
    kept_count -= kept != NULL;
    counted->forget(kept);
}

static enum lend_status derive_counted(const void *kept, const uint8_t *transcript, uint64_t bytes,
                                       void **out_keys, struct lend_error *error)
{
    keys_count++;
    return counted->derive(kept, transcript, bytes, out_keys, error);
}

static void discard_counted(void *keys)
{
    keys_count -= keys != NULL;
    counted->discard(keys);
}

static void count_keeping(struct lend_agent *agent, const struct speaker *speaker)
{
    counted = speaker->plugin;
    counting = *counted;
    counting.keep = keep_counted;
    counting.forget = forget_counted;
    counting.derive = derive_counted;
    counting.discard = discard_counted;
    assert_null(agent->keeper.plugin); /* nobody has given it a secret */
    agent->keeper.plugin = &counting;
}

static void test_secret_is_forgotten_with_its_peer(void **state)
{
    static struct speaker speaker; /* it has the plugin loaded */
    struct lend_peer *again = NULL;
    struct lend_error why;
    struct group group;

    (void)state;
    group_up(&group, 2);
    speaker_up(&speaker, LEND_SECRET_CLIENT, OUR_SECRET);
    struct lend_agent *open = stage_agent(&group.stage, "open", NULL, NULL);
    count_keeping(open, &speaker);
    struct lend_peer *peer = import_surely(open, group.agents[0], secrets[0]);
    (void)import_surely(open, group.agents[0], secrets[0]);
    assert_int_equal(import_with(open, group.agents[0], secrets[1], &again, &why), LEND_E_MISMATCH);
    assert_int_equal(kept_count, 1);
    assert_int_equal(connect_to(peer, open, group.agents[0], &why), LEND_OK);
    assert_int_equal(keys_count, 1);
    lend_peer_forget(peer);
    assert_int_equal(kept_count, 1);
    lend_peer_forget(peer);
    pump_all(&group);
    pipe_pump(open, NULL);
    assert_int_equal(kept_count, 0);
    assert_int_equal(keys_count, 0);

    peer = import_surely(open, group.agents[1], secrets[1]);
    assert_int_equal(connect_to(peer, open, group.agents[1], &why), LEND_OK);
    lend_agent_destroy(open);
    assert_int_equal(kept_count, 0);
    assert_int_equal(keys_count, 0);
    speaker_down(&speaker);
    group_down(&group);
}

static void test_forked_child_wipes_its_own_copies_alone(void **state)
{
    struct group group;
    int ended = 0;

    (void)state;
    group_up(&group, 2);
    introduce_all(&group);
    exchange_words(&group);
    pid_t child = fork();
    if (child == 0) {
        for (uint32_t i = 0; i < group.count; i++)
            lend_agent_destroy(group.agents[i]);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    exchange_words(&group);
    group_down(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_connection_is_held_to_the_secret_of_who_accepts_it),
        cmocka_unit_test(test_blocks_move_under_the_secret_of_the_owner),
        cmocka_unit_test(test_who_was_given_another_secret_is_told_nothing),
        cmocka_unit_test(test_secret_of_a_peer_does_not_open_us_to_it),
        cmocka_unit_test(test_agent_that_lets_all_in_connects_to_one_that_does_not),
        cmocka_unit_test(test_restarted_peer_is_met_by_its_new_secret),
        cmocka_unit_test(test_first_import_says_which_secret_it_is),
        cmocka_unit_test(test_import_that_gave_none_stands_for_our_own),
        cmocka_unit_test(test_wrong_secret_is_invalid),
        cmocka_unit_test(test_description_without_a_secret_is_taken),
        cmocka_unit_test(test_plugin_that_is_not_there_is_named_at_the_import),
        cmocka_unit_test(test_secret_is_forgotten_with_its_peer),
        cmocka_unit_test(test_forked_child_wipes_its_own_copies_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
