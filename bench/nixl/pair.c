/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "bench.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

void pair_send(struct pair *pair, const void *bytes, size_t count)
{
    const char *from = bytes;

    while (count > 0) {
        ssize_t sent = send(pair->link, from, count, MSG_NOSIGNAL);

        if (sent <= 0)
            die("the other process is gone");
        from += sent;
        count -= (size_t)sent;
    }
}

void pair_receive(struct pair *pair, void *bytes, size_t count)
{
    char *to = bytes;

    while (count > 0) {
        ssize_t received = recv(pair->link, to, count, 0);

        if (received <= 0)
            die("the other process is gone");
        to += received;
        count -= (size_t)received;
    }
}

void pair_start(struct pair *pair, uint64_t argument, pair_serve serve)
{
    int ends[2];
    struct side side;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        die("no socketpair");
    pid_t peer = fork();
    if (peer < 0)
        die("no second process");
    pair->link = ends[peer == 0];
    close(ends[peer != 0]);
    if (peer > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(&side, &(struct pair){ends[1]}, argument);
    _exit(0);
}

double pair_export(struct side *side, struct pair *pair)
{
    void *blob;
    size_t bytes;
    uint64_t began = now_ns();

    DO(side->api.get_local_md(side->agent, &blob, &bytes));
    double ns = (double)(now_ns() - began);

    pair_send(pair, &bytes, sizeof bytes);
    pair_send(pair, blob, bytes);
    free(blob);
    return ns;
}

double pair_import(struct side *side, struct pair *pair)
{
    char *name;
    size_t bytes;

    pair_receive(pair, &bytes, sizeof bytes);
    void *blob = malloc(bytes);
    if (blob == NULL)
        die("no memory for metadata");
    pair_receive(pair, blob, bytes);

    uint64_t began = now_ns();
    DO(side->api.load_remote_md(side->agent, blob, bytes, &name));
    double ns = (double)(now_ns() - began);

    free(name);
    free(blob);
    return ns;
}
