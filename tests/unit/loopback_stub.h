/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOOPBACK_STUB_H
#define LOOPBACK_STUB_H

/*
 * Core's side of core/transport.h, as little of it as a test of a transport alone needs: it takes
 * the place of the real one in the program that includes this (once).
 */

#include "base/error.h"
#include "base/sys.h"
#include "core/transport.h"
#include "wire/metadata.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

struct lend_session {
    struct lend_channel *channel;
    _Atomic int wakes;
    sem_t awake;           /* posted by each wake */
    enum lend_status hung; /* LEND_OK: not */
};

struct lend_agent {
    struct lend_watch *watch;
    bool is_refusing;
    int log_count;
    int accept_count;
    struct lend_session *accepted; /* the last one */
};

static struct lend_session *make_session(void)
{
    struct lend_session *session = calloc(1, sizeof *session);

    assert_non_null(session);
    assert_int_equal(sem_init(&session->awake, 0, 0), 0);
    return session;
}

static void free_session(struct lend_session *session)
{
    (void)sem_destroy(&session->awake);
    free(session);
}

enum lend_status lend_session_accept(struct lend_agent *agent, struct lend_channel *channel,
                                     struct lend_error *error)
{
    if (agent->is_refusing)
        return lend_fail(error, LEND_E_LIMIT, "no more");
    agent->accepted = make_session();
    agent->accepted->channel = channel;
    channel->session = agent->accepted;
    agent->accept_count++;
    return LEND_OK;
}

void lend_session_wake(struct lend_session *session)
{
    atomic_fetch_add(&session->wakes, 1);
    assert_int_equal(sem_post(&session->awake), 0);
}

void lend_session_hang_up(struct lend_session *session, enum lend_status status, const char *reason)
{
    assert_true(strlen(reason) > 0);
    if (session->hung == LEND_OK)
        session->hung = status;
}

enum lend_status lend_agent_watch(struct lend_agent *agent, struct lend_watch *watch,
                                  uint32_t events, struct lend_error *error)
{
    (void)error;
    assert_null(agent->watch);
    assert_int_equal(events, EPOLLIN);
    agent->watch = watch;
    return LEND_OK;
}

void lend_agent_unwatch(struct lend_agent *agent, struct lend_watch *watch)
{
    assert_ptr_equal(agent->watch, watch);
    agent->watch = NULL;
}

void lend_agent_alarm(struct lend_agent *agent, uint64_t at_ns, void (*expired)(void *transport),
                      void *transport)
{
    (void)agent, (void)at_ns, (void)expired, (void)transport;
    fail_msg("loopback needs no alarm");
}

void lend_agent_log(struct lend_agent *agent, int32_t level, const char *format, ...)
{
    (void)level, (void)format;
    agent->log_count++;
}

/* The poller's turn. True if there was something to do. */
static bool poll_agent(struct lend_agent *agent)
{
    struct pollfd look = {.fd = agent->watch->fd, .events = POLLIN};

    if (lend_sys_real.poll(&look, 1, 0) <= 0)
        return false;
    agent->watch->ready(agent->watch, EPOLLIN);
    return true;
}

/* --- two agents that are connected --- */

enum { RING_BYTES = 65536 };

struct party {
    struct lend_agent agent;
    void *transport;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
    size_t address_bytes;
};

struct world {
    struct party owner;
    struct party reader;
    struct lend_session *client; /* the reader's end */
    struct lend_session *server; /* the owner's end; NULL until it is accepted */
};

extern const struct lend_transport_ops lend_transport_loopback;
static const struct lend_transport_ops *const ops = &lend_transport_loopback;

static enum lend_status open_party(struct party *party, uint8_t first)
{
    struct lend_error error;

    memset(party->incarnation, first, sizeof party->incarnation);
    const struct lend_transport_open open = {.agent = &party->agent,
                                             .name = "party",
                                             .incarnation = party->incarnation,
                                             .ring_bytes = RING_BYTES};

    enum lend_status status = ops->open(&open, &party->transport, &error);
    if (status == LEND_OK)
        party->address_bytes = ops->address(party->transport, party->address);
    return status;
}

static enum lend_status connect_world(struct world *world)
{
    struct lend_error error;

    world->client = make_session();
    enum lend_status status =
        ops->connect(world->reader.transport, world->owner.address, world->owner.address_bytes,
                     world->client, &world->client->channel, &error);
    if (status != LEND_OK) {
        free_session(world->client);
        world->client = NULL;
    }
    return status;
}

static void close_end(struct lend_session **session)
{
    if (*session == NULL)
        return;
    ops->close_channel((*session)->channel, false);
    free_session(*session);
    *session = NULL;
}

static struct world *make_world(void)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    assert_int_equal(open_party(&world->owner, 0xaa), LEND_OK);
    assert_int_equal(open_party(&world->reader, 0xbb), LEND_OK);
    return world;
}

/* Two agents, and a connection that the owner has accepted. */
static struct world *make_connected_world(void)
{
    struct world *world = make_world();

    assert_int_equal(connect_world(world), LEND_OK);
    assert_true(poll_agent(&world->owner.agent));
    world->server = world->owner.agent.accepted;
    assert_non_null(world->server);
    return world;
}

static void end_world(struct world *world)
{
    close_end(&world->client);
    close_end(&world->server);
    ops->close(world->owner.transport);
    ops->close(world->reader.transport);
    assert_null(world->owner.agent.watch);
    free(world);
}

/* --- frames --- */

/* A header that says how long the payload is; the rest of it tells frames apart. */
static void make_header(uint8_t *header, uint64_t sequence, size_t count)
{
    const struct lend_frame frame = {.type = count > 0 ? LEND_FRAME_DATA : LEND_FRAME_CANCEL,
                                     .payload_bytes = (uint32_t)count,
                                     .sequence = sequence};

    lend_frame_encode(&frame, NULL, header);
}

static uint8_t pattern(uint64_t sequence, size_t at)
{
    return (uint8_t)(sequence * 37 + at * 11 + (at >> 8));
}

/* Send a frame of a pattern. False if there is no room. */
static bool send_frame(struct lend_channel *channel, uint64_t sequence, size_t count)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint8_t *payload = malloc(count + 1);
    size_t room = ops->room(channel);

    assert_non_null(payload);
    if (room > 0 && room >= count) {
        for (size_t i = 0; i < count; i++)
            payload[i] = pattern(sequence, i);
        make_header(header, sequence, count);
        ops->send(channel, header, payload, count);
    }
    free(payload);
    return room > 0 && room >= count;
}

/* Take the next frame and compare it with the pattern. False if none has come. */
static bool take_frame(struct lend_channel *channel, uint64_t *out_sequence)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_frame frame;
    struct lend_error error;

    enum lend_status status = ops->peek(channel, header, &error);
    if (status == LEND_PENDING)
        return false;
    assert_int_equal(status, LEND_OK);
    assert_int_equal(lend_frame_decode(header, &frame, &error), LEND_OK);

    uint8_t *payload = malloc(frame.payload_bytes + 1);
    assert_non_null(payload);
    assert_int_equal(ops->take(channel, payload, frame.payload_bytes, &error), LEND_OK);
    for (size_t i = 0; i < frame.payload_bytes; i++)
        assert_int_equal(payload[i], pattern(frame.sequence, i));
    free(payload);
    *out_sequence = frame.sequence;
    return true;
}

#endif
