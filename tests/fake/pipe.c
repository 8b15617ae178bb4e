/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/pipe.h"

#include "base/error.h"
#include "core/cursor.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { AGENTS_MAX = 16, ROUNDS = 40 };

struct pipe_frame {
    struct pipe_frame *next;
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint32_t count;
    uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
};

static struct lend_agent *agents[AGENTS_MAX]; /* an address is a place here */
static pipe_hook *watcher;
static void *watcher_context;
static bool is_by_hand;
static struct pipe_end *accepted;

void pipe_watch(pipe_hook *hook, void *context)
{
    watcher = hook;
    watcher_context = context;
}

void pipe_answer_by_hand(bool by_hand)
{
    is_by_hand = by_hand;
    accepted = NULL;
}

struct pipe_end *pipe_accepted(void)
{
    return accepted;
}

/* --- ends --- */

static bool are_private[2]; /* by their side */

void pipe_make_private(enum pipe_side side, bool is_private)
{
    are_private[side] = is_private;
}

static struct pipe_end *make_end(enum pipe_side side, struct lend_session *session)
{
    struct pipe_end *end = calloc(1, sizeof *end);

    assert_non_null(end);
    end->base.ops = lend_transports[0];
    end->base.session = session;
    end->base.is_private = are_private[side];
    end->side = side;
    return end;
}

static void join(struct pipe_end *one, struct pipe_end *other)
{
    one->other = other;
    other->other = one;
}

static void drop_first(struct pipe_end *end)
{
    struct pipe_frame *frame = end->first;

    end->first = frame->next;
    end->taken = 0;
    free(frame);
}

void pipe_close(struct pipe_end *end)
{
    if (end->other != NULL) {
        end->other->other = NULL;
        if (end->other->base.session != NULL)
            lend_session_hang_up(end->other->base.session, LEND_E_PEER_DEAD,
                                 "the pipe's other end is closed");
    }
    while (end->first != NULL)
        drop_first(end);
    if (end == accepted)
        accepted = NULL;
    free(end);
}

bool pipe_is_over(const struct pipe_end *end)
{
    return end->other == NULL;
}

static enum lend_status serve(struct lend_agent *agent, struct pipe_end *client,
                              struct lend_error *error)
{
    struct pipe_end *server = make_end(PIPE_SERVER, NULL);

    join(client, server);
    if (is_by_hand) {
        accepted = server;
        return LEND_OK;
    }
    enum lend_status status = lend_session_accept(agent, &server->base, error);
    if (status != LEND_OK)
        pipe_close(server);
    return status;
}

struct pipe_end *pipe_dial(struct lend_agent *server)
{
    struct pipe_end *client = make_end(PIPE_CLIENT, NULL);

    assert_int_equal(serve(server, client, NULL), LEND_OK);
    return client;
}

/* --- frames --- */

static void queue(struct pipe_end *to, struct pipe_frame *frame)
{
    struct pipe_frame **last = &to->first;

    while (*last != NULL)
        last = &(*last)->next;
    *last = frame;
    if (to->base.session != NULL)
        lend_session_wake(to->base.session);
}

static void carry(struct pipe_end *from, struct lend_frame frame, struct pipe_frame *carried)
{
    if (from->other == NULL ||
        (watcher != NULL && !watcher(watcher_context, from->side, &frame, carried->payload))) {
        free(carried);
        return;
    }
    carried->count = frame.payload_bytes;
    lend_frame_encode(&frame, frame.type == LEND_FRAME_DATA ? NULL : carried->payload,
                      carried->header);
    queue(from->other, carried);
}

static struct pipe_frame *make_frame(void)
{
    struct pipe_frame *frame = calloc(1, sizeof *frame);

    assert_non_null(frame);
    return frame;
}

void pipe_say(struct pipe_end *end, uint8_t type, uint64_t request, const void *payload,
              size_t count)
{
    struct pipe_frame *frame = make_frame();
    const struct lend_frame said = {.type = type,
                                    .payload_bytes = (uint32_t)count,
                                    .sequence = end->sequence++,
                                    .request = request};

    if (count > 0)
        memcpy(frame->payload, payload, count);
    carry(end, said, frame);
}

void pipe_say_bytes(struct pipe_end *end, const uint8_t *header, const void *payload, size_t count)
{
    struct pipe_frame *frame = make_frame();

    assert_true(count <= sizeof frame->payload && end->other != NULL);
    memcpy(frame->header, header, sizeof frame->header);
    if (count > 0)
        memcpy(frame->payload, payload, count);
    frame->count = (uint32_t)count;
    queue(end->other, frame);
}

bool pipe_hear(struct pipe_end *end, struct lend_frame *out, uint8_t *payload)
{
    if (end->first == NULL)
        return false;
    assert_int_equal(lend_frame_decode(end->first->header, out, NULL), LEND_OK);
    memcpy(payload, end->first->payload, end->first->count);
    drop_first(end);
    return true;
}

/* --- the transport --- */

static enum lend_status open_pipe(const struct lend_transport_open *open, void **out,
                                  struct lend_error *error)
{
    for (size_t i = 0; i < AGENTS_MAX; i++)
        if (agents[i] == NULL) {
            agents[i] = open->agent;
            *out = &agents[i];
            return LEND_OK;
        }
    return lend_fail(error, LEND_E_LIMIT, "more agents than the pipe has places for");
}

static void close_transport(void *transport)
{
    *(struct lend_agent **)transport = NULL;
}

static size_t address(void *transport, uint8_t *bytes)
{
    bytes[0] = (uint8_t)((struct lend_agent **)transport - agents);
    return 1;
}

static bool reaches(void *transport, const uint8_t *bytes, size_t count)
{
    (void)transport;
    return count == 1 && bytes[0] < AGENTS_MAX;
}

static enum lend_status connect_pipe(void *transport, const uint8_t *bytes, size_t count,
                                     struct lend_session *session, struct lend_channel **out,
                                     struct lend_error *error)
{
    (void)transport, (void)count;
    if (agents[bytes[0]] == NULL && !is_by_hand)
        return lend_fail(error, LEND_E_PEER_DEAD, "nobody is at the pipe's other end");

    struct pipe_end *client = make_end(PIPE_CLIENT, session);
    enum lend_status status = serve(agents[bytes[0]], client, error);
    if (status == LEND_OK)
        *out = &client->base;
    else
        free(client);
    return status;
}

static void close_channel(struct lend_channel *channel, bool forked)
{
    (void)forked;
    pipe_close((struct pipe_end *)channel);
}

static size_t room(struct lend_channel *channel)
{
    (void)channel;
    return LEND_FRAME_PAYLOAD_MAX;
}

static void send_frame(struct lend_channel *channel, const uint8_t *header, const void *payload,
                       size_t count)
{
    struct pipe_frame *carried = make_frame();
    struct lend_frame frame;

    assert_int_equal(lend_frame_decode(header, &frame, NULL), LEND_OK);
    if (count > 0)
        memcpy(carried->payload, payload, count);
    carry((struct pipe_end *)channel, frame, carried);
}

static void send_data(struct lend_channel *channel, const uint8_t *header, struct lend_cursor *from,
                      size_t count)
{
    struct pipe_frame *carried = make_frame();
    struct lend_frame frame;

    assert_int_equal(lend_frame_decode(header, &frame, NULL), LEND_OK);
    lend_cursor_gather(from, carried->payload, count);
    carry((struct pipe_end *)channel, frame, carried);
}

static void nothing(struct lend_channel *channel)
{
    (void)channel;
}

static enum lend_status peek(struct lend_channel *channel, uint8_t *header,
                             struct lend_error *error)
{
    const struct pipe_end *end = (const struct pipe_end *)channel;

    (void)error;
    if (end->first == NULL)
        return LEND_PENDING;
    memcpy(header, end->first->header, sizeof end->first->header);
    return LEND_OK;
}

static enum lend_status take(struct lend_channel *channel, void *payload, size_t count,
                             struct lend_error *error)
{
    struct pipe_end *end = (struct pipe_end *)channel;

    (void)error;
    memcpy(payload, end->first->payload, count);
    drop_first(end);
    return LEND_OK;
}

static size_t take_data(struct lend_channel *channel, struct lend_cursor *to, size_t count,
                        size_t total)
{
    struct pipe_end *end = (struct pipe_end *)channel;

    if (to != NULL)
        lend_cursor_scatter(to, end->first->payload + end->taken, count);
    end->taken += count;
    if (end->taken == total)
        drop_first(end);
    return count;
}

static bool sleep_pipe(struct lend_channel *channel, bool wants_room, size_t wanted)
{
    (void)wants_room, (void)wanted;
    return ((struct pipe_end *)channel)->first == NULL;
}

static const struct lend_transport_ops ops = {
    .name = "pipe",
    .paths = {[LEND_WAY_SERVED] = "pipe"},
    .rank = 1,
    .kinds = 1U << LEND_MEMORY_SYSTEM,
    .open = open_pipe,
    .close = close_transport,
    .close_forked = close_transport,
    .address = address,
    .reaches = reaches,
    .connect = connect_pipe,
    .close_channel = close_channel,
    .room = room,
    .send = send_frame,
    .send_data = send_data,
    .flush = nothing,
    .peek = peek,
    .take = take,
    .take_data = take_data,
    .sleep = sleep_pipe,
    .awake = nothing,
};

const struct lend_transport_ops *const lend_transports[] = {&ops, NULL};

void pipe_pump(struct lend_agent *one, struct lend_agent *other)
{
    for (int i = 0; i < ROUNDS; i++) {
        (void)lend_agent_progress(one, 0, NULL);
        if (other != NULL)
            (void)lend_agent_progress(other, 0, NULL);
    }
}
