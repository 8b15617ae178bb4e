/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_STUB_H
#define LOCAL_STUB_H

/* Agents of core_stub.h above the transport local. */

#include "core_stub.h"

#include "transport/local/local.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { RING_BYTES = 65536 };
#define DEADLINE_NS UINT64_C(20000000000)

/* Turn every agent until none has an event left. */
static inline void stub_settle(struct lend_agent *one, struct lend_agent *other)
{
    uint32_t turns = 0;

    while (stub_turn(one, 0) || (other != NULL && stub_turn(other, 0)))
        assert_true(++turns < 10000); /* an event that nobody answers */
}

/* Turn until the session was told the end. */
static inline void stub_await_end(struct lend_agent *agent, const struct lend_session *session)
{
    uint64_t until = lend_sys_real.now_ns() + DEADLINE_NS;

    while (session->hung == LEND_OK) {
        assert_true(lend_sys_real.now_ns() < until);
        (void)stub_turn(agent, 100000000);
    }
    assert_int_equal(session->hung_count, 1); /* told once, then watched no more */
}

static inline struct lend_transport_open stub_terms(struct lend_agent *agent)
{
    static const uint8_t incarnation[16] = {0xfe, 0xdc, 0xba, 0x98, 1, 2, 3};
    static char directory[64];

    /* Of our own, so that two runs at one time do not meet. */
    if (directory[0] == '\0')
        (void)snprintf(directory, sizeof directory, "/tmp/lend-test-%d", (int)getpid());
    (void)mkdir(directory, 0755);
    return (struct lend_transport_open){
        .agent = agent,
        .name = "a gent/..",
        .incarnation = incarnation,
        .words_fd = -1,
        .local_directory = directory,
        .local_mode = 0600,
        .ring_bytes = RING_BYTES,
        .connect_timeout_ns = 5000000000,
    };
}

static inline void stub_open_on(struct lend_agent *agent, const struct lend_transport_open *terms)
{
    struct lend_error error = {0};

    *agent = (struct lend_agent){.epoll = lend_sys->epoll()};
    if (lend_transport_local.open(terms, &agent->opened, &error) != LEND_OK)
        fail_msg("%s", error.message);
}

/* An agent of its own number; an abstract one leaves no file behind if it is killed. */
static inline void stub_open(struct lend_agent *agent, uint8_t number, bool is_abstract)
{
    uint8_t incarnation[16] = {(uint8_t)(getpid() >> 8), (uint8_t)getpid(), 0x56, number};
    struct lend_transport_open terms = stub_terms(agent);

    terms.incarnation = incarnation;
    terms.local_is_abstract = is_abstract;
    stub_open_on(agent, &terms);
}

static inline void stub_close(struct lend_agent *agent)
{
    for (uint32_t i = 0; i < agent->session_count; i++) {
        if (agent->sessions[i].channel != NULL)
            lend_transport_local.close_channel(agent->sessions[i].channel, false);
    }
    lend_transport_local.close(agent->opened);
    assert_int_equal(agent->alarm_ns, 0);
    lend_sys->close(agent->epoll);
    (void)rmdir(stub_terms(agent).local_directory); /* stays while another agent listens there */
}

/* Begin a connection from one to the other; nothing is turned yet. */
static inline enum lend_status stub_connect(struct lend_agent *from, struct lend_agent *to,
                                            struct lend_error *error)
{
    uint8_t address[512];
    size_t count = lend_transport_local.address(to->opened, address);
    struct lend_session *session = &from->sessions[from->session_count];

    enum lend_status status = lend_transport_local.connect(from->opened, address, count, session,
                                                           &session->channel, error);
    if (status == LEND_OK)
        from->session_count++;
    return status;
}

/* A client and a server, connected. */
static inline void stub_pair(struct lend_agent *client, struct lend_agent *server)
{
    struct lend_error error = {0};

    stub_open(client, 1, false);
    stub_open(server, 2, false);
    if (stub_connect(client, server, &error) != LEND_OK)
        fail_msg("%s", error.message);
    stub_settle(client, server);
    assert_int_equal(client->session_count, 1);
    assert_int_equal(server->session_count, 1);
}

static inline struct lend_local_channel *stub_channel(struct lend_agent *agent)
{
    return (struct lend_local_channel *)(void *)agent->sessions[0].channel;
}

static inline void stub_unpair(struct lend_agent *client, struct lend_agent *server)
{
    stub_close(client);
    stub_close(server);
}

/* How many descriptors this process has open. */
static inline int stub_count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

static int stub_fds_before;

static inline int stub_before(void **state)
{
    (void)state;
    lend_sys = &lend_sys_real;
    stub_fds_before = stub_count_fds();
    return 0;
}

/* Nothing may be left open. Foreign descriptors are closed by a thread: so wait for it, with a
 * limit. */
static inline int stub_after(void **state)
{
    uint64_t until = lend_sys_real.now_ns() + DEADLINE_NS;

    (void)state;
    while (lend_local_closing_count() > 0) {
        if (lend_sys_real.now_ns() > until)
            return -1;
        (void)sched_yield();
    }
    lend_sys = &lend_sys_real;
    return stub_count_fds() == stub_fds_before ? 0 : -1;
}

#define STUB_TEST(test) cmocka_unit_test_setup_teardown(test, stub_before, stub_after)

#endif
