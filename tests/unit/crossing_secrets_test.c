/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: over the transports that agents really use, agents that each have a secret of their own and
 * know that of the others reach each other, whoever dials first or at the same moment; who knows
 * another one, or none, does not; and a restarted agent is met by its new one.
 * Method: three agents of one process with progress threads; a thread for each, which imports the
 * two others and connects and speaks to them when all are ready, round by round.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "core/agent.h"

#define SECOND UINT64_C(1000000000)

enum { AGENTS = 3, ROUNDS = 8, METADATA_BYTES = 4096 };

struct member {
    struct meeting *meeting;
    struct lend_agent *agent;
    char secret[32];
    uint8_t metadata[METADATA_BYTES];
    size_t metadata_bytes;
    struct lend_peer *peers[AGENTS];
    struct lend_error why; /* what went wrong; LEND_OK: nothing */
    const char *step;
};

struct meeting {
    const char *transport;
    char directory[32];
    struct member members[AGENTS];
    pthread_barrier_t ready;
};

static void fail_on(enum lend_status status, const struct lend_error *why, const char *what)
{
    if (status != LEND_OK)
        fail_msg("%s: %s: %s", what, lend_status_name(status), why->message);
}

static void begin(struct meeting *meeting, uint32_t place, const char *secret)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct member *member = &meeting->members[place];
    struct lend_error why = {0};
    char name[16];

    (void)snprintf(name, sizeof name, "agent %u", place);
    (void)snprintf(member->secret, sizeof member->secret, "%s", secret != NULL ? secret : "");
    config.name = name;
    config.transports = meeting->transport;
    config.local_directory = meeting->directory;
    config.listen = strcmp(meeting->transport, "tcp") == 0 ? "127.0.0.1" : NULL;
    config.secret = secret != NULL ? member->secret : NULL;
    config.secret_bytes = (uint32_t)strlen(member->secret);
    config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    member->meeting = meeting;
    fail_on(lend_agent_create(&config, &member->agent, &why), &why, "create");
    fail_on(lend_metadata_export(member->agent, member->metadata, METADATA_BYTES,
                                 &member->metadata_bytes, &why),
            &why, "export");
}

static void open_meeting(struct meeting *meeting, const char *transport)
{
    if (LEND_TEST_SECRET_PLUGIN[0] == '\0') {
        print_message("libsodium was not there to build the plugin\n");
        skip();
    }
    *meeting = (struct meeting){.transport = transport, .directory = "/tmp/lend-cross-XXXXXX"};
    assert_non_null(mkdtemp(meeting->directory));
    assert_int_equal(pthread_barrier_init(&meeting->ready, NULL, AGENTS), 0);
    for (uint32_t i = 0; i < AGENTS; i++) {
        char secret[32];

        (void)snprintf(secret, sizeof secret, "what agent %u wants to hear", i);
        begin(meeting, i, secret);
    }
}

static void close_meeting(struct meeting *meeting)
{
    for (uint32_t i = 0; i < AGENTS; i++)
        lend_agent_destroy(meeting->members[i].agent);
    assert_int_equal(pthread_barrier_destroy(&meeting->ready), 0);
    assert_int_equal(rmdir(meeting->directory), 0);
}

static enum lend_status import_with(struct member *from, const struct member *to,
                                    const char *secret, struct lend_peer **out,
                                    struct lend_error *why)
{
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;

    desc.secret = secret;
    desc.secret_bytes = secret != NULL ? (uint32_t)strlen(secret) : 0;
    return lend_peer_import_with(from->agent, to->metadata, to->metadata_bytes, &desc, out, why);
}

/* Progress threads write them meanwhile. */
static uint64_t number(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static const struct lend_statistics *page_of(const struct member *member)
{
    assert_non_null(member->agent->statistics.page);
    return member->agent->statistics.page;
}

/* --- all at once --- */

/* Not the thread of the test, which alone may fail it. */
static bool did(struct member *member, const char *step, enum lend_status status)
{
    if (status == LEND_OK)
        return true;
    member->step = step;
    member->why.status = status;
    return false;
}

static bool meet(struct member *member, uint32_t other, uint32_t round)
{
    struct lend_error *why = &member->why;
    struct lend_peer *peer = member->peers[other];

    return did(member, "connect", lend_peer_connect(peer, 30 * SECOND, why)) &&
           did(member, "send", lend_notification_send(peer, &round, sizeof round, why));
}

static bool hear(struct member *member, uint32_t round)
{
    for (uint32_t i = 1; i < AGENTS; i++) {
        uint32_t heard = UINT32_MAX;
        size_t count = 0;

        if (!did(member, "receive",
                 lend_notification_receive(member->agent, &heard, sizeof heard, &count, NULL,
                                           30 * SECOND, &member->why)))
            return false;
        if (heard != round)
            return did(member, "a word of another round", LEND_E_CORRUPT);
    }
    return true;
}

static void *take_part(void *context)
{
    struct member *member = context;
    struct member *members = member->meeting->members;
    uint32_t place = (uint32_t)(member - members);
    bool is_well = true;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t other = 0; other < AGENTS && is_well; other++)
            if (other != place)
                is_well = did(member, "import",
                              import_with(member, &members[other], members[other].secret,
                                          &member->peers[other], &member->why));
        /* Who is not well comes here too, or the others would wait for ever. */
        (void)pthread_barrier_wait(&member->meeting->ready);
        for (uint32_t step = 1; step < AGENTS && is_well; step++)
            is_well = meet(member, (place + step) % AGENTS, round);
        is_well = is_well && hear(member, round);
        (void)pthread_barrier_wait(&member->meeting->ready);
        for (uint32_t other = 0; other < AGENTS; other++) {
            lend_peer_forget(member->peers[other]);
            member->peers[other] = NULL;
        }
    }
    return NULL;
}

static void expect_crossing(const char *transport)
{
    struct meeting meeting;
    pthread_t threads[AGENTS];

    open_meeting(&meeting, transport);
    for (uint32_t i = 0; i < AGENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_part, &meeting.members[i]), 0);
    for (uint32_t i = 0; i < AGENTS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (uint32_t i = 0; i < AGENTS; i++) {
        const struct member *member = &meeting.members[i];

        fail_on((enum lend_status)member->why.status, &member->why, member->step);
        assert_int_equal(number(&page_of(member)->secrets_refused), 0);
        assert_int_equal(number(&page_of(member)->sessions_broken), 0);
    }
    close_meeting(&meeting);
}

static void test_agents_dial_each_other_at_one_time(void **state)
{
    expect_crossing(*state);
}

static void *visit(void *context)
{
    struct member *member = context;
    struct member *host = &member->meeting->members[0];
    struct lend_peer *peer = NULL;

    (void)pthread_barrier_wait(&member->meeting->ready);
    if (did(member, "import", import_with(host, member, member->secret, &peer, &member->why)))
        (void)did(member, "connect", lend_peer_connect(peer, 30 * SECOND, &member->why));
    return NULL;
}

/* It has no secret of its own, so that the plugin is loaded by whichever import is the first. */
static void test_imports_at_one_time_load_one_plugin(void **state)
{
    struct meeting meeting;
    pthread_t threads[AGENTS];

    for (uint32_t round = 0; round < ROUNDS; round++) {
        open_meeting(&meeting, *state);
        lend_agent_destroy(meeting.members[0].agent);
        begin(&meeting, 0, NULL);
        for (uint32_t i = 1; i < AGENTS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, visit, &meeting.members[i]), 0);
        (void)pthread_barrier_wait(&meeting.ready);
        for (uint32_t i = 1; i < AGENTS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (uint32_t i = 1; i < AGENTS; i++)
            fail_on((enum lend_status)meeting.members[i].why.status, &meeting.members[i].why,
                    meeting.members[i].step);
        close_meeting(&meeting);
    }
}

/* --- one after the other --- */

static struct lend_peer *meet_surely(struct member *from, struct member *to)
{
    struct lend_peer *peer = NULL;
    struct lend_error why = {0};

    fail_on(import_with(from, to, to->secret, &peer, &why), &why, "import");
    fail_on(lend_peer_connect(peer, 30 * SECOND, &why), &why, "connect");
    return peer;
}

/* Its own secret, or that of a third, or none at all, is not that of the other. */
static void test_wrong_secret_is_refused_and_the_other_way_stays_open(void **state)
{
    struct meeting meeting;
    struct lend_error why = {0};

    open_meeting(&meeting, *state);
    struct member *members = meeting.members;
    const char *const wrong[] = {members[0].secret, members[2].secret, NULL};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct lend_peer *peer = NULL;

        fail_on(import_with(&members[0], &members[1], wrong[i], &peer, &why), &why, "import");
        assert_int_equal(lend_peer_connect(peer, 30 * SECOND, &why), LEND_E_ACCESS);
        assert_non_null(strstr(why.message, "another secret"));
        lend_peer_forget(peer);
    }
    (void)meet_surely(&members[1], &members[0]);
    (void)meet_surely(&members[0], &members[1]);
    assert_int_equal(number(&page_of(&members[1])->peers_served), 1);
    assert_int_equal(number(&page_of(&members[0])->peers_served), 1);
    close_meeting(&meeting);
}

static void test_restarted_agent_is_met_by_its_new_secret(void **state)
{
    struct meeting meeting;
    struct lend_peer *peer = NULL;
    struct lend_error why = {0};

    open_meeting(&meeting, *state);
    struct member *reader = &meeting.members[0], *owner = &meeting.members[1];
    struct lend_peer *former = meet_surely(reader, owner);
    (void)meet_surely(owner, reader);
    lend_agent_destroy(owner->agent);
    begin(&meeting, 1, "this life's is another one");

    const char *stale = "what agent 1 wants to hear";
    fail_on(import_with(reader, owner, stale, &peer, &why), &why, "import");
    assert_ptr_not_equal(peer, former);
    assert_int_equal(lend_peer_connect(peer, 30 * SECOND, &why), LEND_E_ACCESS);
    lend_peer_forget(peer);
    (void)meet_surely(reader, owner);
    (void)meet_surely(owner, reader);
    assert_int_equal(lend_peer_connect(former, 30 * SECOND, &why), LEND_E_PEER_DEAD);
    close_meeting(&meeting);
}

int main(void)
{
    static char loopback[] = "loopback", local[] = "local", tcp[] = "tcp";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_agents_dial_each_other_at_one_time, loopback),
        cmocka_unit_test_prestate(test_agents_dial_each_other_at_one_time, local),
        cmocka_unit_test_prestate(test_agents_dial_each_other_at_one_time, tcp),
        cmocka_unit_test_prestate(test_imports_at_one_time_load_one_plugin, local),
        cmocka_unit_test_prestate(test_wrong_secret_is_refused_and_the_other_way_stays_open,
                                  loopback),
        cmocka_unit_test_prestate(test_wrong_secret_is_refused_and_the_other_way_stays_open, local),
        cmocka_unit_test_prestate(test_wrong_secret_is_refused_and_the_other_way_stays_open, tcp),
        cmocka_unit_test_prestate(test_restarted_agent_is_met_by_its_new_secret, loopback),
        cmocka_unit_test_prestate(test_restarted_agent_is_met_by_its_new_secret, local),
        cmocka_unit_test_prestate(test_restarted_agent_is_met_by_its_new_secret, tcp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
