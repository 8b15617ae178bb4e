/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_CORE_STUB_H
#define LEND_TESTS_UNIT_CORE_STUB_H

/*
 * Core's side of core/transport.h, as small as can be: an agent with an epoll, and sessions that
 * remember what they were told. One test program includes it, once.
 */

#include "base/error.h"
#include "base/sys.h"
#include "core/transport.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SESSIONS_MAX = 4 };

struct lend_session {
    struct lend_channel *channel;
    uint32_t wakes;
    uint32_t hung_count;   /* how often it was told the end */
    enum lend_status hung; /* LEND_OK: the other end is there; else the first reason */
    char reason[240];
};

struct lend_agent {
    int epoll;
    uint64_t alarm_ns;
    void (*expired)(void *transport);
    void *transport; /* of the alarm */
    void *opened;    /* the transport under test */
    uint32_t turns;  /* of ready() */
    uint32_t warnings;
    char warning[300];
    bool refuses; /* accept says that a limit is reached */
    uint32_t session_count;
    struct lend_session sessions[SESSIONS_MAX];
};

enum lend_status lend_session_accept(struct lend_agent *agent, struct lend_channel *channel,
                                     struct lend_error *error)
{
    if (agent->refuses)
        return lend_fail(error, LEND_E_LIMIT, "no more than that");
    assert_true(agent->session_count < SESSIONS_MAX);
    channel->session = &agent->sessions[agent->session_count++];
    channel->session->channel = channel;
    return LEND_OK;
}

void lend_session_wake(struct lend_session *session)
{
    session->wakes++;
}

void lend_session_hang_up(struct lend_session *session, enum lend_status status, const char *reason)
{
    if (session->hung_count++ > 0)
        return;
    session->hung = status;
    (void)snprintf(session->reason, sizeof session->reason, "%s", reason);
}

static int stub_control(struct lend_agent *agent, int operation, struct lend_watch *watch,
                        uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    return lend_sys->epoll_control(agent->epoll, operation, watch->fd, &event);
}

enum lend_status lend_agent_watch(struct lend_agent *agent, struct lend_watch *watch,
                                  uint32_t events, struct lend_error *error)
{
    int result = stub_control(agent, EPOLL_CTL_ADD, watch, events | EPOLLRDHUP);

    return result < 0 ? lend_fail_errno(error, -result, "watch") : LEND_OK;
}

enum lend_status lend_agent_rewatch(struct lend_agent *agent, struct lend_watch *watch,
                                    uint32_t events, struct lend_error *error)
{
    int result = stub_control(agent, EPOLL_CTL_MOD, watch, events);

    return result < 0 ? lend_fail_errno(error, -result, "watch") : LEND_OK;
}

void lend_agent_unwatch(struct lend_agent *agent, struct lend_watch *watch)
{
    assert_int_equal(stub_control(agent, EPOLL_CTL_DEL, watch, 0), 0);
}

void lend_agent_alarm(struct lend_agent *agent, uint64_t at_ns, void (*expired)(void *transport),
                      void *transport)
{
    agent->alarm_ns = at_ns;
    agent->expired = expired;
    agent->transport = transport;
}

void lend_agent_log(struct lend_agent *agent, int32_t level, const char *format, ...)
{
    va_list args;

    if (level > LEND_LOG_WARNING)
        return;
    agent->warnings++;
    va_start(args, format);
    (void)vsnprintf(agent->warning, sizeof agent->warning, format, args);
    va_end(args);
}

/* One event at a time, so that an unwatched descriptor never has one left in a batch. False:
 * nothing. */
static inline bool stub_turn(struct lend_agent *agent, uint64_t timeout_ns)
{
    struct epoll_event event;

    if (agent->alarm_ns != 0 && lend_sys->now_ns() >= agent->alarm_ns)
        agent->expired(agent->transport);
    if (lend_sys->epoll_wait(agent->epoll, &event, 1, timeout_ns) != 1)
        return false;
    struct lend_watch *watch = event.data.ptr;
    agent->turns++;
    watch->ready(watch, event.events);
    return true;
}

#endif
