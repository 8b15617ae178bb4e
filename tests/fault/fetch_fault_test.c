/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever call of the system fails on either side, asking an agent for its metadata ends
 * with what it told, or a documented status, leaks nothing, and succeeds when it is asked again.
 * Method: the sweep of sweep.h. The asker blocks, so the one who is asked makes its progress where
 * the asker waits: inside its epoll_wait.
 */
#include "sweep.h"

#include <stdio.h>

static struct lend_agent *asked;
static bool is_nested;
static int (*wait_before)(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns);

static int wait_and_let_the_other_go_on(int epoll, struct epoll_event *events, int count,
                                        uint64_t timeout_ns)
{
    if (!is_nested && asked != NULL) {
        is_nested = true;
        (void)lend_agent_progress(asked, 0, NULL);
        is_nested = false;
    }
    return wait_before(epoll, events, count, timeout_ns < 1000000 ? timeout_ns : 1000000);
}

static enum lend_status ask(struct world *world, struct lend_found **out)
{
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    const struct lend_sys_ops *before = lend_sys;
    struct lend_sys_ops hooked = *before;
    char text[64] = "loopback:";
    struct lend_error error;

    lend_agent_incarnation(world->owner, incarnation);
    for (int i = 0; i < LEND_INCARNATION_BYTES; i++)
        (void)snprintf(text + 9 + 2 * i, 3, "%02x", incarnation[i]);
    (void)!lend_agent_address(world->owner, text, sizeof text, &error); /* if it listens */
    wait_before = before->epoll_wait;
    hooked.epoll_wait = wait_and_let_the_other_go_on;
    lend_sys = &hooked;
    asked = world->owner;
    enum lend_status status = lend_fetch(world->reader, text, UINT64_C(2000000000), out, &error);
    asked = NULL;
    lend_sys = before;
    return status;
}

static void fetch(struct world *world)
{
    static const char ticket[] = "a ticket, say";
    struct lend_found *found = NULL;

    make_agents(world);
    register_regions(world);
    RETRY(lend_agent_attach(world->owner, ticket, sizeof ticket, NULL), LEND_E_NO_MEMORY);
    if (strcmp(world->transports, "local") == 0) {
        assert_int_equal(ask(world, &found), LEND_E_UNSUPPORTED);
        return;
    }
    RETRY(ask(world, &found), LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_PEER_DEAD, LEND_E_TIMEOUT);
    assert_int_equal(found->attachment_bytes, sizeof ticket);
    assert_memory_equal(found->attachment, ticket, sizeof ticket);
    RETRY(
        lend_peer_import(world->reader, found->metadata, found->metadata_bytes, &world->peer, NULL),
        LEND_E_NO_MEMORY);
    lend_found_release(found);
}

static void test_a_question_is_answered_or_refused(void **state)
{
    (void)state;
    sweep(fetch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_question_is_answered_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
