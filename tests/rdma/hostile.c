/* SPDX-License-Identifier: Apache-2.0 */
#include "hostile.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../acts/acts.h"

enum { DEPTH = 8 }; /* work requests under way at one time */

enum order { MEET, JOIN, TRY, FLOOD, LEAVE };

struct message {
    uint32_t order;
    uint32_t opcode;
    uint32_t number;
    struct line_end end;
    struct hostile_keys keys;
};

/* What the hostile process has. */
struct state {
    struct line_host host;
    struct line line;
    struct ibv_mr *local;
    const atomic_uint *begun;
    int channel;
};

static uint32_t count_owners(const uint8_t *memory)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < HOSTILE_BYTES; i++)
        count += memory[i] == HOSTILE_OWNERS_BYTE;
    return count;
}

struct hostile_report hostile_flood(struct line *line, struct ibv_mr *local,
                                    const struct hostile_keys *keys, enum ibv_wr_opcode opcode,
                                    const atomic_uint *begun)
{
    struct line_work work = {opcode, local, keys->address, keys->key, keys->bytes, 0};
    struct hostile_report report = {.is_done = 1};
    uint32_t under_way = 0;

    memset(local->addr, HOSTILE_BYTE, HOSTILE_BYTES);
    while (report.status == IBV_WC_SUCCESS) {
        for (; under_way < DEPTH; under_way++)
            if (!line_post(line, &work))
                return (struct hostile_report){0};
        report.status = line_await(line);
        under_way--;
        report.done += report.status == IBV_WC_SUCCESS;
    }
    report.early = atomic_load(begun) == 0;
    report.others = under_way;
    for (; under_way > 0; under_way--)
        if (line_await(line) == IBV_WC_GENERAL_ERR)
            report.is_done = 0;
    report.leaked = count_owners(local->addr);
    return report;
}

static struct hostile_report try(struct state *state, const struct message *message)
{
    struct line_work work = {message->opcode,   state->local,        message->keys.address,
                             message->keys.key, message->keys.bytes, 0};
    struct hostile_report report = {.is_done = 1};

    memset(state->local->addr, HOSTILE_BYTE, HOSTILE_BYTES);
    report.status = line_do(&state->line, &work);
    report.done = report.status == IBV_WC_SUCCESS;
    report.leaked = count_owners(state->local->addr);
    return report;
}

static bool answer(struct state *state, const struct message *message)
{
    struct line_end end;
    struct hostile_report report;

    switch ((enum order)message->order) {
    case MEET:
        if (!line_renew(&state->line))
            return false;
        end = line_end(&state->line);
        return send(state->channel, &end, sizeof end, 0) == sizeof end;
    case JOIN:
        report = (struct hostile_report){
            .is_done = line_join(&state->line, &message->end, message->number)};
        break;
    case TRY: report = try(state, message); break;
    case FLOOD:
        report = hostile_flood(&state->line, state->local, &message->keys, message->opcode,
                               state->begun);
        break;
    case LEAVE:
    default: return false;
    }
    return send(state->channel, &report, sizeof report, 0) == sizeof report;
}

/* What the process does, until its owner goes. */
static int serve(struct state *state, uint32_t device)
{
    struct message message;
    void *memory =
        mmap(NULL, HOSTILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || !line_host_open(&state->host, line_device(device)) ||
        !line_open(&state->line, &state->host))
        return 1;
    state->local = ibv_reg_mr(state->host.domain, memory, HOSTILE_BYTES, IBV_ACCESS_LOCAL_WRITE);
    if (state->local == NULL)
        return 1;
    while (recv(state->channel, &message, sizeof message, 0) == sizeof message &&
           message.order != LEAVE)
        if (!answer(state, &message))
            return 1;
    line_close(&state->line);
    (void)ibv_dereg_mr(state->local);
    line_host_close(&state->host);
    return 0;
}

/* The owner's side. */

struct arguments {
    struct state state;
    uint32_t device;
    int owners; /* its end of the channel, which is not to be kept open here */
};

static int run(void *context)
{
    struct arguments *arguments = context;

    (void)close(arguments->owners);
    return serve(&arguments->state, arguments->device);
}

void hostile_start(struct hostile *hostile, uint32_t device)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    memset(hostile, 0, sizeof *hostile);
    hostile->begun = acts_shared(sizeof *hostile->begun);
    hostile->channel = ends[0];

    struct timeval patience = {.tv_sec = ACTS_PATIENCE_NS / ACTS_SECOND};
    assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    struct arguments arguments = {.state = {.channel = ends[1], .begun = hostile->begun},
                                  .device = device,
                                  .owners = ends[0]};
    hostile->process = acts_spawn(run, &arguments);
    (void)close(ends[1]);
}

static void order(struct hostile *hostile, const struct message *message)
{
    assert_int_equal(send(hostile->channel, message, sizeof *message, MSG_NOSIGNAL),
                     sizeof *message);
}

struct hostile_report hostile_end(struct hostile *hostile)
{
    struct hostile_report report;

    assert_int_equal(recv(hostile->channel, &report, sizeof report, 0), sizeof report);
    assert_true(report.is_done);
    return report;
}

void hostile_meet(struct hostile *hostile, struct line_host *host)
{
    assert_true(line_open(&hostile->line, host));
    hostile_rejoin(hostile);
}

void hostile_join(struct hostile *hostile)
{
    assert_true(line_renew(&hostile->line));
    hostile_rejoin(hostile);
}

void hostile_rejoin(struct hostile *hostile)
{
    struct message message = {.order = MEET};
    struct line_end theirs;

    order(hostile, &message);
    assert_int_equal(recv(hostile->channel, &theirs, sizeof theirs, 0), sizeof theirs);
    /* Far from the last: what is still on its way belongs to no packet of this life. */
    hostile->number += 100003;
    assert_true(line_join(&hostile->line, &theirs, hostile->number));
    message =
        (struct message){.order = JOIN, .number = hostile->number, .end = line_end(&hostile->line)};
    order(hostile, &message);
    (void)hostile_end(hostile);
}

static void ask(struct hostile *hostile, enum order what, const struct hostile_keys *keys,
                enum ibv_wr_opcode opcode)
{
    struct message message = {.order = what, .opcode = opcode, .keys = *keys};

    order(hostile, &message);
}

struct hostile_report hostile_try(struct hostile *hostile, const struct hostile_keys *keys,
                                  enum ibv_wr_opcode opcode)
{
    ask(hostile, TRY, keys, opcode);
    return hostile_end(hostile);
}

void hostile_begin(struct hostile *hostile, const struct hostile_keys *keys,
                   enum ibv_wr_opcode opcode)
{
    atomic_store(hostile->begun, 0);
    ask(hostile, FLOOD, keys, opcode);
}

void hostile_kill(struct hostile *hostile)
{
    assert_int_equal(kill(hostile->process, SIGKILL), 0);
    (void)waitpid(hostile->process, NULL, 0);
    hostile->process = 0;
}

void hostile_stop(struct hostile *hostile)
{
    if (hostile->process > 0) {
        order(hostile, &(struct message){.order = LEAVE});
        assert_int_equal(acts_reap(hostile->process), 0);
    }
    (void)close(hostile->channel);
    line_close(&hostile->line);
    acts_unshare(hostile->begun, sizeof *hostile->begun);
}
