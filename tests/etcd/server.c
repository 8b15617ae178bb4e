/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

static bool is_in_path(const char *name)
{
    const char *path = getenv("PATH");
    char file[512];

    for (const char *at = path != NULL ? path : ""; *at != '\0';) {
        size_t length = strcspn(at, ":");

        (void)snprintf(file, sizeof file, "%.*s/%s", (int)length, at, name);
        if (access(file, X_OK) == 0)
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

bool etcd_is_installed(void)
{
    return is_in_path("etcd") && is_in_path("etcdctl");
}

/* In the child: the file as that descriptor, or nothing. */
static void redirect(const char *path, int flags, int as)
{
    int fd = open(path != NULL ? path : "/dev/null", flags, 0600);

    if (fd < 0 || dup2(fd, as) < 0)
        _exit(126);
}

/* As one of the cluster, which that says. */
static void run_server(struct etcd *etcd, const char *cluster)
{
    char data[64], log[64], client[80], peer[80];

    (void)snprintf(data, sizeof data, "%s/data", etcd->folder);
    (void)snprintf(log, sizeof log, "%s/log", etcd->folder);
    (void)snprintf(client, sizeof client, "http://%s", etcd->client);
    (void)snprintf(peer, sizeof peer, "http://%s", etcd->peer);
    etcd->pid = fork();
    assert_true(etcd->pid >= 0);
    if (etcd->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test die first */
        redirect(NULL, O_RDONLY, 0);
        redirect(log, O_WRONLY | O_CREAT | O_APPEND, 1);
        redirect(log, O_WRONLY | O_CREAT | O_APPEND, 2);
        (void)execlp("etcd", "etcd", "--name", etcd->peer, "--data-dir", data,
                     "--listen-client-urls", client, "--advertise-client-urls", client,
                     "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                     "--initial-cluster", cluster, (char *)NULL);
        _exit(127);
    }
}

static void await_answer(const struct etcd *etcd)
{
    etcd_control(etcd, NULL, NULL, (const char *const[]){"get", "ready", NULL});
}

static void prepare(struct etcd *etcd)
{
    *etcd = (struct etcd){.pid = -1};
    (void)snprintf(etcd->folder, sizeof etcd->folder, "/tmp/lend-etcd-XXXXXX");
    assert_non_null(mkdtemp(etcd->folder));
    (void)snprintf(etcd->client, sizeof etcd->client, "127.0.0.1:%d", free_port());
    (void)snprintf(etcd->peer, sizeof etcd->peer, "127.0.0.1:%d", free_port());
}

/* Members of one cluster: "NAME=URL,NAME=URL", of which the names are where they hear each other.
 */
static void run_cluster(struct etcd *members, int count)
{
    char cluster[512] = "";
    size_t length = 0;

    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(cluster + length, sizeof cluster - length, "%s%s=http://%s",
                                   i > 0 ? "," : "", members[i].peer, members[i].peer);
    assert_true(length < sizeof cluster);
    for (int i = 0; i < count; i++)
        run_server(&members[i], cluster);
    for (int i = 0; i < count; i++)
        await_answer(&members[i]);
}

void etcd_start(struct etcd *etcd)
{
    etcd_start_cluster(etcd, 1);
}

void etcd_start_cluster(struct etcd *members, int count)
{
    for (int i = 0; i < count; i++)
        prepare(&members[i]);
    run_cluster(members, count);
}

void etcd_signal(const struct etcd *etcd, int number)
{
    int how = 0;

    assert_int_equal(kill(etcd->pid, number), 0);
    if (number != SIGSTOP)
        return;
    /* All of its threads have stopped when it says so. */
    assert_int_equal(waitpid(etcd->pid, &how, WUNTRACED), etcd->pid);
    assert_true(WIFSTOPPED(how));
}

void etcd_kill(struct etcd *etcd)
{
    int how;

    if (etcd->pid > 0) {
        etcd_signal(etcd, SIGKILL);
        assert_int_equal(waitpid(etcd->pid, &how, 0), etcd->pid);
    }
    etcd->pid = -1;
}

static void run(const char *const *arguments, const char *in, const char *out)
{
    char *copies[16] = {NULL};
    pid_t pid = fork();
    int how = -1;

    assert_true(pid >= 0);
    if (pid == 0) {
        for (size_t i = 0; i < 15 && arguments[i] != NULL; i++)
            copies[i] = strdup(arguments[i]);
        redirect(in, O_RDONLY, 0);
        redirect(out, O_WRONLY | O_CREAT | O_TRUNC, 1);
        (void)execvp(copies[0], copies);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail_msg("%s %s ends with 0x%x", arguments[0], arguments[1], how);
}

static void remove_folder(const char *path)
{
    run((const char *const[]){"rm", "-rf", path, NULL}, NULL, NULL);
}

void etcd_restart(struct etcd *etcd, bool is_empty)
{
    char data[64];

    etcd_kill(etcd);
    (void)snprintf(data, sizeof data, "%s/data", etcd->folder);
    if (is_empty)
        remove_folder(data);
    run_cluster(etcd, 1);
}

void etcd_end(struct etcd *etcd)
{
    etcd_kill(etcd);
    remove_folder(etcd->folder);
}

void etcd_control(const struct etcd *etcd, const char *in, const char *out,
                  const char *const *arguments)
{
    char from[80], to[80];
    const char *all[16] = {"etcdctl", "--endpoints",       etcd->client, "--dial-timeout",
                           "60s",     "--command-timeout", "60s"};

    for (size_t i = 0; i < 6 && arguments[i] != NULL; i++)
        all[7 + i] = arguments[i];
    (void)snprintf(from, sizeof from, "%s/%s", etcd->folder, in != NULL ? in : "");
    (void)snprintf(to, sizeof to, "%s/%s", etcd->folder, out != NULL ? out : "");
    (void)setenv("ETCDCTL_API", "3", 1);
    run(all, in != NULL ? from : NULL, out != NULL ? to : NULL);
}

/* It tells that of itself, in text, over HTTP. */
unsigned long etcd_range_count(const struct etcd *etcd)
{
    static const char question[] = "GET /metrics HTTP/1.0\r\n\r\n",
                      name[] = "\netcd_debugging_mvcc_range_total ";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static char text[1 << 20];
    size_t count = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_port = htons((uint16_t)strtoul(strchr(etcd->client, ':') + 1, NULL, 10));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(fd, question, sizeof question - 1), sizeof question - 1);
    for (ssize_t more; (more = read(fd, text + count, sizeof text - 1 - count)) > 0;)
        count += (size_t)more;
    (void)close(fd);
    text[count] = '\0';
    const char *at = strstr(text, name);
    assert_non_null(at);
    return (unsigned long)strtod(at + sizeof name - 1, NULL);
}
