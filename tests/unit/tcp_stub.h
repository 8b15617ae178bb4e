/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TCP_STUB_H
#define TCP_STUB_H

/* Agents of core_stub.h above the transport tcp. */

#include "core_stub.h"

#include "transport/tcp/tcp.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { FIRST_BYTES = 40 };
#define PATIENCE_NS UINT64_C(20000000000)

static const struct lend_transport_ops *const ops = &lend_transport_tcp;

/* Turn both until that holds; the other one may be NULL. */
#define STUB_UNTIL(condition, one, other)                                                          \
    do {                                                                                           \
        uint64_t until_ = lend_sys_real.now_ns() + PATIENCE_NS;                                    \
        while (!(condition)) {                                                                     \
            assert_true(lend_sys_real.now_ns() < until_);                                          \
            (void)stub_turn((one), 1000000);                                                       \
            if ((other) != NULL)                                                                   \
                (void)stub_turn((other), 0);                                                       \
        }                                                                                          \
    } while (0)

static inline struct lend_transport_open stub_terms(struct lend_agent *agent, const char *listen)
{
    return (struct lend_transport_open){
        .agent = agent,
        .name = "agent",
        .words_fd = -1,
        .connect_timeout_ns = UINT64_C(5000000000),
        .transfer_timeout_ns = UINT64_C(30000000000),
        .listen = listen,
    };
}

static inline void stub_open(struct lend_agent *agent, const char *listen)
{
    const struct lend_transport_open terms = stub_terms(agent, listen);
    struct lend_error error = {0};

    *agent = (struct lend_agent){.epoll = lend_sys->epoll()};
    if (ops->open(&terms, &agent->opened, &error) != LEND_OK)
        fail_msg("%s", error.message);
}

static inline void stub_close(struct lend_agent *agent)
{
    for (uint32_t i = 0; i < agent->session_count; i++)
        if (agent->sessions[i].channel != NULL)
            ops->close_channel(agent->sessions[i].channel, false);
    ops->close(agent->opened);
    assert_int_equal(agent->alarm_ns, 0);
    lend_sys->close(agent->epoll);
}

/* Begin a connection to that address. */
static inline enum lend_status stub_connect(struct lend_agent *from, const uint8_t *address,
                                            size_t count, struct lend_error *error)
{
    struct lend_session *session = &from->sessions[from->session_count];
    enum lend_status status =
        ops->connect(from->opened, address, count, session, &session->channel, error);

    if (status == LEND_OK)
        from->session_count++;
    return status;
}

static inline struct lend_tcp_channel *stub_channel(struct lend_agent *agent)
{
    return (struct lend_tcp_channel *)(void *)agent->sessions[0].channel;
}

/* The first frame of a client: a control frame of FIRST_BYTES. */
static inline void stub_greet(struct lend_channel *channel)
{
    static const uint8_t payload[FIRST_BYTES] = {1, 2, 3};
    const struct lend_frame frame = {.type = LEND_FRAME_HELLO, .payload_bytes = FIRST_BYTES};
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    lend_frame_encode(&frame, payload, header);
    assert_true(ops->room(channel) >= FIRST_BYTES);
    ops->send(channel, header, payload, FIRST_BYTES);
    ops->flush(channel);
}

/* Take it. */
static inline void stub_take_greeting(struct lend_channel *channel)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES], payload[FIRST_BYTES];
    struct lend_error error;

    assert_int_equal(ops->peek(channel, header, &error), LEND_OK);
    assert_int_equal(header[3], LEND_FRAME_HELLO);
    assert_int_equal(ops->take(channel, payload, FIRST_BYTES, &error), LEND_OK);
}

/* A client and a server that have greeted each other; what the client had sent is taken. */
static inline void stub_pair(struct lend_agent *client, struct lend_agent *server)
{
    struct lend_error error = {0};
    uint8_t address[512];

    stub_open(server, "127.0.0.1");
    stub_open(client, NULL);
    size_t count = ops->address(server->opened, address);
    if (stub_connect(client, address, count, &error) != LEND_OK)
        fail_msg("%s", error.message);
    STUB_UNTIL(ops->room(client->sessions[0].channel) > 0, client, server);
    stub_greet(client->sessions[0].channel);
    STUB_UNTIL(server->session_count == 1, server, client);
    stub_take_greeting(server->sessions[0].channel);
    ops->flush(server->sessions[0].channel);
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

/* Nothing may be left open. */
static inline int stub_after(void **state)
{
    (void)state;
    lend_sys = &lend_sys_real;
    return stub_count_fds() == stub_fds_before ? 0 : -1;
}

#define STUB_TEST(test) cmocka_unit_test_setup_teardown(test, stub_before, stub_after)

#endif
