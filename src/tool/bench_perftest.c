/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/trouble.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What UCX's own ucx_perftest makes of the same sizes, on the same devices. Where UCX may choose it
 * would take shared memory, since both ends are processes of one machine, whatever namespaces they
 * are in; lend never does over ucx. So it is told to leave that out. */

enum { PORT_BYTES = 8, LINE_BYTES = 160, WORDS_MAX = 24, TEXT_BYTES = 512, TRIES = 25 };

static const uint64_t again_ns = 20000000;

/* A port that was free a moment ago. */
static void find_port(char *text)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof name;
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must_sys(probe >= 0 && bind(probe, (struct sockaddr *)&name, sizeof name) == 0 &&
                 getsockname(probe, (struct sockaddr *)&name, &length) == 0,
             "a free port");
    (void)close(probe);
    (void)snprintf(text, PORT_BYTES, "%u", ntohs(name.sin_port));
}

/* In a child: become the program of that line, whose words are parted by spaces. What it prints
 * goes to `said`; -1: nowhere. */
static void become(const struct network *network, int which, int said, char *line)
{
    const struct endpoint *endpoint = &network->endpoint;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char *words[WORDS_MAX] = {NULL};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    network_enter(network, which);
    (void)setenv("UCX_NET_DEVICES", endpoint->ucx_devices, 1);
    (void)setenv("UCX_TLS", endpoint->ucx_transports != NULL ? endpoint->ucx_transports : "^sm", 1);
    (void)dup2(said >= 0 ? said : nowhere, STDOUT_FILENO);
    (void)dup2(nowhere, STDERR_FILENO);
    for (size_t i = 0; line != NULL && i < WORDS_MAX - 1; i++)
        words[i] = strsep(&line, " ");
    (void)execvp(words[0], words);
    _exit(errno == ENOENT ? PERFTEST_MISSING : EXIT_TROUBLE);
}

/* Its exit status; `text` gets what it printed. */
static int run_client(const struct network *network, char *line, char *text)
{
    int ends[2], how = 0;
    size_t used = 0;

    must_sys(pipe2(ends, O_CLOEXEC) == 0, "a pipe");
    (void)fflush(NULL);
    pid_t pid = fork();
    must_sys(pid >= 0, "a process for ucx_perftest");
    if (pid == 0)
        become(network, NETWORK_READER, ends[1], line);
    (void)close(ends[1]);
    for (ssize_t got = 1; got > 0 && used<TEXT_BYTES - 1; used += got> 0 ? (size_t)got : 0)
        got = read(ends[0], text + used, TEXT_BYTES - 1 - used);
    text[used] = '\0';
    (void)close(ends[0]);
    must_sys(waitpid(pid, &how, 0) == pid, "ucx_perftest");
    return WIFEXITED(how) ? WEXITSTATUS(how) : EXIT_TROUBLE;
}

/* The overall time of one message in microseconds, out of its last line of values that commas part;
 * 0: there is none. */
static double read_time(const char *text)
{
    double values[4] = {0};
    const char *line = strchr(text, '\n');

    for (int i = 0; line != NULL && i < 4; i++) {
        values[i] = strtod(line + 1, NULL);
        line = strchr(line + 1, ',');
    }
    return values[3];
}

double perftest_run(const struct network *network, const struct perftest *test)
{
    const char *address = network_address(network, NETWORK_OWNER);
    char port[PORT_BYTES], serve[LINE_BYTES], ask[LINE_BYTES], text[TEXT_BYTES] = "";
    int result = EXIT_TROUBLE;

    find_port(port);
    (void)snprintf(serve, sizeof serve, "ucx_perftest -p %s", port);
    (void)snprintf(ask, sizeof ask, "ucx_perftest %s -p %s -t %s -s %llu -n %u -w 1 -f -v", address,
                   port, test->name, (unsigned long long)test->bytes, test->count);
    (void)fflush(NULL);
    pid_t server = fork();
    must_sys(server >= 0, "a process for ucx_perftest");
    if (server == 0)
        become(network, NETWORK_OWNER, -1, serve);
    for (int i = 0; i < TRIES && result != EXIT_GOOD && result != PERFTEST_MISSING; i++) {
        sleep_until_ns(now_ns() + again_ns); /* it listens soon */
        result = run_client(network, ask, text);
    }
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    return result == EXIT_GOOD ? read_time(text) * 1000 : 0;
}
