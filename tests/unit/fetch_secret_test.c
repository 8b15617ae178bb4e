/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: who asks an agent that has a secret for its metadata gets it with the same secret, and with
 * another one or none gets nothing, not a byte of what it would be told, and an error that says
 * why; and who has a secret tells nothing of itself to an agent that has none. Method: two agents
 * over tcp, and over loopback, each with a secret or without; the counters of the asked one; and
 * over tcp all that is given to a socket is searched for what nobody may see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "base/sys.h"
#include "core/agent.h"

#include <pthread.h>

#define SECOND UINT64_C(1000000000)

#define OUR_SECRET   "the secret of these two"
#define THEIR_SECRET "the secret of some others"

#define OWNER  "the-owner-who-is-asked"
#define ASKER  "the-asker-who-asks"
#define TICKET "what the owner has attached"

/* --- what is sent --- */

static struct {
    pthread_mutex_t lock;
    size_t bytes;
    bool has_owner, has_asker, has_ticket; /* somewhere in it */
} sent = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void look_at(const void *bytes, size_t count)
{
    sent.bytes += count;
    sent.has_owner |= memmem(bytes, count, OWNER, strlen(OWNER)) != NULL;
    sent.has_asker |= memmem(bytes, count, ASKER, strlen(ASKER)) != NULL;
    sent.has_ticket |= memmem(bytes, count, TICKET, strlen(TICKET)) != NULL;
}

static ssize_t send_seen(int fd, const struct msghdr *message)
{
    (void)pthread_mutex_lock(&sent.lock);
    for (size_t i = 0; i < message->msg_iovlen; i++)
        look_at(message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    (void)pthread_mutex_unlock(&sent.lock);
    return lend_sys_real.sendmsg(fd, message);
}

/* --- the two --- */

struct pair {
    const char *transports;
    struct lend_agent *owner, *asker;
    char address[64];
};

static enum lend_status make(const char *name, const char *transports, const char *secret,
                             struct lend_agent **out, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = transports;
    if (strcmp(transports, "tcp") == 0 && strcmp(name, OWNER) == 0)
        config.listen = "127.0.0.1";
    config.secret = secret;
    config.secret_bytes = secret != NULL ? (uint32_t)strlen(secret) : 0;
    config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    return lend_agent_create(&config, out, error);
}

static void address_of(struct pair *pair)
{
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    if (lend_agent_address(pair->owner, pair->address, sizeof pair->address, NULL) == LEND_OK)
        return;
    lend_agent_incarnation(pair->owner, incarnation);
    (void)snprintf(pair->address, sizeof pair->address, "loopback:");
    for (size_t i = 0; i < sizeof incarnation; i++)
        (void)snprintf(pair->address + 9 + 2 * i, 3, "%02x", incarnation[i]);
}

static void pair_up(struct pair *pair, const char *owners_secret, const char *askers_secret)
{
    static struct lend_sys_ops hooked;
    struct lend_error error = {0};

    hooked = lend_sys_real;
    hooked.sendmsg = send_seen;
    lend_sys = &hooked;
    sent.bytes = 0;
    sent.has_owner = sent.has_asker = sent.has_ticket = false;
    enum lend_status status = make(OWNER, pair->transports, owners_secret, &pair->owner, &error);
    if (status == LEND_OK)
        status = make(ASKER, pair->transports, askers_secret, &pair->asker, &error);
    if (status == LEND_E_UNSUPPORTED) {
        (void)printf("SKIP: %s\n", error.message);
        lend_sys = &lend_sys_real;
        skip();
    }
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error.message);
    assert_int_equal(lend_agent_attach(pair->owner, TICKET, strlen(TICKET), NULL), LEND_OK);
    address_of(pair);
}

static void pair_down(struct pair *pair)
{
    lend_agent_destroy(pair->asker);
    lend_agent_destroy(pair->owner);
    lend_sys = &lend_sys_real;
}

static void expect_refusal(struct pair *pair, enum lend_status expected, const char *says,
                           uint64_t refused)
{
    struct lend_found *found = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_fetch(pair->asker, pair->address, 60 * SECOND, &found, &error), expected);
    assert_null(found);
    assert_int_equal(error.status, expected);
    if (strstr(error.message, says) == NULL || strstr(error.message, "secret") == NULL)
        fail_msg("it does not say \"%s\", but \"%s\"", says, error.message);
    assert_null(strstr(error.message, OWNER));
    assert_false(sent.has_owner);
    assert_false(sent.has_ticket);

    /* The owner counts it when it sees the end; until then others come. */
    const struct lend_statistics *page = pair->owner->statistics.page;
    for (int i = 0;
         i < 60000 && __atomic_load_n(&page->secrets_refused, __ATOMIC_RELAXED) < refused; i++)
        assert_int_equal(lend_fetch(pair->asker, pair->address, 60 * SECOND, &found, NULL),
                         expected);
    assert_true(__atomic_load_n(&page->secrets_refused, __ATOMIC_RELAXED) >= refused);
    assert_false(sent.has_owner);
    assert_false(sent.has_ticket);
}

/* --- tests --- */

static void test_who_has_the_secret_is_told(void **state)
{
    struct pair pair = {.transports = *state};
    struct lend_found *found = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};

    pair_up(&pair, OUR_SECRET, OUR_SECRET);
    assert_int_equal(lend_fetch(pair.asker, pair.address, 60 * SECOND, &found, &error), LEND_OK);
    assert_int_equal(found->attachment_bytes, strlen(TICKET));
    assert_memory_equal(found->attachment, TICKET, strlen(TICKET));
    assert_int_equal(
        lend_peer_import(pair.asker, found->metadata, found->metadata_bytes, &peer, &error),
        LEND_OK);
    assert_int_equal(lend_peer_connect(peer, 60 * SECOND, &error), LEND_OK);
    lend_found_release(found);
    assert_int_equal(pair.owner->statistics.page->secrets_refused, 0);
    if (strcmp(pair.transports, "tcp") == 0) /* what the others are searched for would be seen */
        assert_true(sent.has_owner && sent.has_asker && sent.has_ticket);
    pair_down(&pair);
}

static void test_who_has_another_secret_is_told_nothing(void **state)
{
    struct pair pair = {.transports = *state};

    pair_up(&pair, OUR_SECRET, THEIR_SECRET);
    expect_refusal(&pair, LEND_E_ACCESS, "another secret", 1);
    assert_false(sent.has_asker);
    pair_down(&pair);
}

static void test_who_has_no_secret_is_told_nothing(void **state)
{
    struct pair pair = {.transports = *state};

    pair_up(&pair, OUR_SECRET, NULL);
    expect_refusal(&pair, LEND_E_PEER_DEAD, "one of us has none", 1);
    pair_down(&pair);
}

static void test_who_has_a_secret_asks_nobody_who_has_none(void **state)
{
    struct pair pair = {.transports = *state};

    pair_up(&pair, NULL, OUR_SECRET);
    expect_refusal(&pair, LEND_E_ACCESS, "no secret", 0);
    assert_false(sent.has_asker);
    pair_down(&pair);
}

int main(void)
{
    static char loopback[] = "loopback", tcp[] = "tcp";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_who_has_the_secret_is_told, loopback),
        cmocka_unit_test_prestate(test_who_has_another_secret_is_told_nothing, loopback),
        cmocka_unit_test_prestate(test_who_has_no_secret_is_told_nothing, loopback),
        cmocka_unit_test_prestate(test_who_has_a_secret_asks_nobody_who_has_none, loopback),
    };
    const struct CMUnitTest over_tcp[] = {
        cmocka_unit_test_prestate(test_who_has_the_secret_is_told, tcp),
        cmocka_unit_test_prestate(test_who_has_another_secret_is_told_nothing, tcp),
        cmocka_unit_test_prestate(test_who_has_no_secret_is_told_nothing, tcp),
        cmocka_unit_test_prestate(test_who_has_a_secret_asks_nobody_who_has_none, tcp),
    };
    if (LEND_TEST_SECRET_PLUGIN[0] == '\0') {
        (void)printf("SKIP: this build has no plugin for the secret (libsodium-dev)\n");
        return 77;
    }
    int failures = cmocka_run_group_tests_name("loopback", tests, NULL, NULL);

    return failures + cmocka_run_group_tests_name("tcp", over_tcp, NULL, NULL);
}
