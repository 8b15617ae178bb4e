/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/trouble.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void pair_begin(struct pair *pair, void (*live)(struct pair *pair, void *context), void *context)
{
    pid_t parent = getpid();
    int ends[2];

    must_sys(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a pair of sockets");
    (void)fflush(NULL); /* or both would print it */
    pair->other = fork();
    must_sys(pair->other >= 0, "a second process");
    if (pair->other == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(EXIT_TROUBLE);
        (void)close(ends[1]);
        *pair = (struct pair){.channel = ends[0], .other = parent};
        live(pair, context);
        exit(EXIT_GOOD); /* not _exit(): a sanitizer shall have its say */
    }
    (void)close(ends[0]);
    pair->channel = ends[1];
}

void pair_end(struct pair *pair)
{
    struct lend_error error;
    int state = 0;

    (void)close(pair->channel);
    must_sys(waitpid(pair->other, &state, 0) == pair->other, "the other process");
    if (state != 0)
        must(trouble(&error, LEND_E_PEER_DEAD, "the other process ended with state 0x%x",
                     (unsigned)state),
             &error);
}

void pair_say(const struct pair *pair, const void *bytes, size_t count)
{
    const char *next = bytes;

    for (ssize_t sent; count > 0; next += sent, count -= (size_t)sent) {
        sent = send(pair->channel, next, count, MSG_NOSIGNAL);
        must_sys(sent > 0, "the other process does not listen");
    }
}

bool pair_hears(const struct pair *pair, void *bytes, size_t count)
{
    char *next = bytes;

    for (ssize_t got; count > 0; next += got, count -= (size_t)got) {
        got = read(pair->channel, next, count);
        if (got <= 0)
            return false;
    }
    return true;
}

void pair_hear(const struct pair *pair, void *bytes, size_t count)
{
    struct lend_error error;

    if (!pair_hears(pair, bytes, count))
        must(trouble(&error, LEND_E_PEER_DEAD, "the other process has ended, and said why"),
             &error);
}

struct lend_agent *must_open_agent(const char *name, uint32_t flags)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.flags = flags;
    config.transports = "local";
    config.local_is_abstract = 1;
    must(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

struct lend_lease *must_grant(struct lend_agent *agent, struct lend_region *const *regions,
                              uint32_t count, uint32_t access)
{
    const struct lend_block_set set = {.regions = regions, .region_count = count};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = access;
    desc.time_to_live_ns = 3600 * BENCH_SECOND_NS;
    must(lend_lease_grant(agent, &desc, &lease, &error), &error);
    return lease;
}
