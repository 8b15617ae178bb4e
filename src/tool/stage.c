/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/stage.h"

#include "tool/trouble.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const int answer_ms = 60000;
static const uint64_t leave_ns = 5000000000;
static const uint64_t leave_look_ns = 200000;
static const uint64_t timeout_ns = 5000000000;

static void name_signals(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGHUP);
}

static enum lend_status open_hosts(struct stage *stage, bool has_hosts, struct lend_error *error)
{
    stage->hosts = (struct hosts){.namespaces = {-1, -1}, .home = -1};
    if (!has_hosts)
        return LEND_OK;
    enum lend_status status = hosts_open(&stage->hosts, error);
    stage->has_hosts = status == LEND_OK;
    return status;
}

enum lend_status stage_open(struct stage *stage, const struct endpoint *endpoint, bool has_hosts,
                            struct lend_error *error)
{
    const char *parent = getenv("TMPDIR");
    sigset_t set;

    stage->endpoint = *endpoint;
    stage->signals = -1;
    stage->owner = (struct player){.name = "owner", .channel = -1};
    stage->reader = (struct player){.name = "reader", .channel = -1};
    if (parent == NULL || strlen(parent) > 40) /* a socket's path has room for 107 bytes */
        parent = "/tmp";
    (void)snprintf(stage->directory, sizeof stage->directory, "%s/lend-demo-XXXXXX", parent);
    if (mkdtemp(stage->directory) == NULL) {
        enum lend_status status = trouble_errno(error, "%s cannot be made", stage->directory);
        stage->directory[0] = '\0';
        return status;
    }
    stage->endpoint.directory = stage->directory;

    name_signals(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE,
                 SIG_IGN); /* a reader of our output that goes away is no reason to leave files */
    stage->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (stage->signals < 0)
        return trouble_errno(error, "signals cannot be caught");
    return open_hosts(stage, has_hosts, error);
}

/* Remove the directory with what dead processes have left in it. */
static void remove_directory(const char *path)
{
    DIR *directory = opendir(path);

    if (directory == NULL)
        return;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    }
    (void)closedir(directory);
    if (rmdir(path) != 0)
        (void)fprintf(stderr, "lend: %s could not be removed: %s\n", path, strerror(errno));
}

void stage_close(struct stage *stage)
{
    struct lend_error ignored; /* what went wrong has been told by now */

    (void)stage_clear(stage, &ignored);
    if (stage->signals >= 0)
        (void)close(stage->signals);
    stage->signals = -1;
    if (stage->has_hosts)
        hosts_close(&stage->hosts);
    stage->has_hosts = false;
    if (stage->directory[0] != '\0')
        remove_directory(stage->directory);
    stage->directory[0] = '\0';
}

/* In the child: go to the player's host, and listen there. */
static void enter_host(struct stage *stage, int which)
{
    struct lend_error error;

    if (!stage->has_hosts)
        return;
    if (hosts_move_to(&stage->hosts, which, &error) != LEND_OK) {
        trouble_tell(&error);
        _exit(EXIT_TROUBLE);
    }
    hosts_close(&stage->hosts);
    stage->endpoint.listen = hosts_ipv4[which];
    stage->endpoint.connect_timeout_ns = STAGE_SILENCE_NS; /* tcp's patience is the longer one */
    stage->endpoint.transfer_timeout_ns = STAGE_SILENCE_NS;
}

/* In the child. Whatever happens to the director, the child does not outlive it. */
static void play(struct stage *stage, int channel, pid_t director,
                 actor_handler (*find)(uint32_t verb))
{
    sigset_t set;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != director)
        _exit(EXIT_TROUBLE);
    name_signals(&set);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    (void)close(stage->signals);
    if (stage->owner.channel >= 0)
        (void)close(stage->owner.channel);
    if (find == reader_handler && stage->reader_nics != NULL)
        stage->endpoint.verbs_devices = stage->reader_nics;
    enter_host(stage, find == owner_handler ? 0 : 1);
    actor_play(&stage->endpoint, channel, find);
    exit(EXIT_GOOD); /* not _exit(): a sanitizer shall have its say about what was not freed */
}

static enum lend_status start(struct stage *stage, struct player *player,
                              actor_handler (*find)(uint32_t verb), struct lend_error *error)
{
    int ends[2];
    pid_t director = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return trouble_errno(error, "no side channel for the %s", player->name);
    (void)fflush(NULL);

    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        play(stage, ends[1], director, find);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return trouble_errno(error, "the %s's process cannot be started", player->name);
    }
    *player = (struct player){.name = player->name, .pid = pid, .channel = ends[0]};
    return LEND_OK;
}

enum lend_status stage_raise(struct stage *stage, struct lend_error *error)
{
    enum lend_status status = start(stage, &stage->owner, owner_handler, error);

    if (status == LEND_OK)
        status = start(stage, &stage->reader, reader_handler, error);
    return status;
}

/* Wait for a process that was asked to leave, and kill it if it does not. */
static int collect(pid_t pid)
{
    uint64_t until_ns = now_ns() + leave_ns;
    int how = 0;
    pid_t got = waitpid(pid, &how, WNOHANG);

    while (got == 0 && now_ns() < until_ns) {
        sleep_until_ns(now_ns() + leave_look_ns);
        got = waitpid(pid, &how, WNOHANG);
    }
    if (got == 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &how, 0);
    }
    return how;
}

static enum lend_status dismiss(struct player *player, struct lend_error *error)
{
    if (player->channel >= 0)
        (void)close(player->channel);
    player->channel = -1;
    if (player->pid == 0)
        return LEND_OK;
    if (player->is_struck)
        (void)kill(player->pid, SIGKILL);

    int how = collect(player->pid);
    player->pid = 0;
    if (player->is_struck || (WIFEXITED(how) && WEXITSTATUS(how) == EXIT_GOOD))
        return LEND_OK;
    if (WIFSIGNALED(how))
        return trouble(error, LEND_E_PEER_DEAD, "the %s's process died of signal %d (%s)",
                       player->name, WTERMSIG(how), strsignal(WTERMSIG(how)));
    return trouble(error, LEND_E_PEER_DEAD, "the %s's process ended with exit code %d",
                   player->name, WEXITSTATUS(how));
}

enum lend_status stage_clear(struct stage *stage, struct lend_error *error)
{
    struct lend_error ignored; /* one reason is enough */
    enum lend_status reader = dismiss(&stage->reader, error);
    enum lend_status owner = dismiss(&stage->owner, reader == LEND_OK ? error : &ignored);

    return reader == LEND_OK ? owner : reader;
}

struct order *stage_order(struct stage *stage, enum order_verb verb)
{
    struct order *order = &stage->order;

    memset(order, 0, offsetof(struct order, bytes));
    order->verb = verb;
    order->bad_block = -1;
    order->timeout_ns = timeout_ns;
    return order;
}

void stage_carry(struct stage *stage)
{
    memcpy(stage->order.address, stage->report.address, sizeof stage->order.address);
    if (stage->order.address[0] != '\0')
        return;
    stage->order.byte_count = stage->report.byte_count;
    memcpy(stage->order.bytes, stage->report.bytes_sent, stage->report.byte_count);
}

enum lend_status stage_send(struct stage *stage, struct player *player, struct lend_error *error)
{
    return order_send(player->channel, &stage->order, error);
}

enum lend_status stage_await(struct stage *stage, struct player *player, struct lend_error *error)
{
    struct pollfd waits[] = {{.fd = player->channel, .events = POLLIN},
                             {.fd = stage->signals, .events = POLLIN}};
    int ready = 0;

    do {
        ready = poll(waits, 2, answer_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return trouble_errno(error, "the side channels cannot be watched");
    if (waits[1].revents != 0)
        return trouble(error, LEND_E_CANCELED, "interrupted");
    if (ready == 0)
        return trouble(error, LEND_E_TIMEOUT, "the %s has not answered in %d s", player->name,
                       answer_ms / 1000);

    enum lend_status status = report_receive(player->channel, &stage->report, error);
    if (status == LEND_E_PEER_DEAD)
        return trouble(error, status, "the %s's process (%d) has ended", player->name, player->pid);
    return status;
}

enum lend_status stage_ask(struct stage *stage, struct player *player, struct lend_error *error)
{
    enum lend_status status = stage_send(stage, player, error);

    if (status == LEND_OK)
        status = stage_await(stage, player, error);
    if (status == LEND_OK && stage->report.status != LEND_OK)
        return trouble(error, (enum lend_status)stage->report.status, "%s: %s", player->name,
                       stage->report.text);
    return status;
}

void stage_strike(struct player *player, int number)
{
    player->is_struck = number != SIGCONT;
    (void)kill(player->pid, number);
}
