/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe_agents.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Looking at a library in a child: what it loads and starts is gone with it, and if it dies we do
 * not. */

enum { PATIENCE_MS = 10000 };

/* Wait for the child, but not for ever. */
static void collect(pid_t child, int ended)
{
    struct pollfd wait = {.fd = ended, .events = POLLIN};

    if (poll(&wait, 1, PATIENCE_MS) <= 0)
        (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

int probe_in_child(void (*look)(const void *subject, void *out), const void *subject, void *out,
                   size_t bytes)
{
    void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];

    if (shared == MAP_FAILED)
        return -ENOMEM;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        (void)munmap(shared, bytes);
        return -errno;
    }
    memcpy(shared, out, bytes);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(PATIENCE_MS / 1000 * 2); /* should we be killed meanwhile */
        look(subject, shared);
        _exit(0); /* its handlers shall not run here */
    }
    (void)close(ends[1]);
    if (child > 0)
        collect(child, ends[0]);
    (void)close(ends[0]);
    memcpy(out, shared, bytes);
    (void)munmap(shared, bytes);
    return 0;
}
