/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/hosts.h"

#include "tool/trouble.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* Private addresses (RFC 1918, RFC 4193), seen by nobody but the two. */
const char *const hosts_ipv4[HOSTS] = {"10.76.69.1", "10.76.69.2"};
const char *const hosts_ipv6[HOSTS] = {"fd6c:656e:64::1", "fd6c:656e:64::2"};

enum { WORDS_MAX = 32, LINE_BYTES = 512, SAID_BYTES = 160, PATH_BYTES = 64 };

/* --- programs --- */

/* Part the line at its spaces. */
static void split(char *line, char **words)
{
    size_t count = 0;

    for (char *word = strsep(&line, " "); word != NULL && count < WORDS_MAX - 1;
         word = strsep(&line, " "))
        if (word[0] != '\0')
            words[count++] = word;
    words[count] = NULL;
}

/* Where a user's PATH leaves out the folders of an administrator, look there too. */
static int spawn(pid_t *out, const posix_spawn_file_actions_t *actions, char *const *words)
{
    static const char *const folders[] = {"/usr/sbin", "/sbin"};
    char path[PATH_BYTES];
    int result = posix_spawnp(out, words[0], actions, NULL, words, environ);

    for (size_t i = 0;
         (result == ENOENT || result == EACCES) && i < sizeof folders / sizeof folders[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folders[i], words[0]);
        result = posix_spawn(out, path, actions, NULL, words, environ);
    }
    return result;
}

/* The first line that it printed, on one line of ours. */
static void read_said(int file, char *said)
{
    ssize_t count = pread(file, said, SAID_BYTES - 1, 0);

    said[count > 0 ? count : 0] = '\0';
    said[strcspn(said, "\n")] = '\0';
}

/* Start it, with what it prints going to file, and wait for it. */
static enum lend_status run(char *const *words, int file, struct lend_error *error)
{
    posix_spawn_file_actions_t actions;
    char said[SAID_BYTES];
    pid_t pid = 0;
    int how = 0;
    int result = posix_spawn_file_actions_init(&actions);

    if (result == 0)
        result = posix_spawn_file_actions_adddup2(&actions, file, STDOUT_FILENO);
    if (result == 0)
        result = posix_spawn_file_actions_adddup2(&actions, file, STDERR_FILENO);
    if (result == 0)
        result = spawn(&pid, &actions, words);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (result == ENOENT || result == EACCES)
        return trouble(error, LEND_E_ABSENT,
                       "there is no `%s' on this machine: as root: apt-get install iproute2",
                       words[0]);
    if (result != 0)
        return trouble(error, LEND_E_SYSTEM, "`%s' cannot be started: %s", words[0],
                       strerrordesc_np(result));
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return LEND_OK;
    read_said(file, said);
    return trouble(error, LEND_E_SYSTEM, "`%s %s %s' said: %s", words[0],
                   words[1] != NULL ? words[1] : "",
                   words[1] != NULL && words[2] != NULL ? words[2] : "", said);
}

static enum lend_status run_line(char *line, struct lend_error *error)
{
    char *words[WORDS_MAX];
    int file = memfd_create("said", MFD_CLOEXEC);

    if (file < 0)
        return trouble_errno(error, "no file for what `ip' says");
    split(line, words);
    enum lend_status status = run(words, file, error);
    (void)close(file);
    return status;
}

enum lend_status hosts_run(const struct hosts *hosts, int which, struct lend_error *error,
                           const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof line)
        return trouble(error, LEND_E_INVALID, "too long a command");

    enum lend_status status = hosts_enter(hosts, which, error);
    if (status != LEND_OK)
        return status;
    struct lend_error ignored; /* the command's own says more */
    status = run_line(line, error);
    enum lend_status back = hosts_leave(hosts, status == LEND_OK ? error : &ignored);
    return status == LEND_OK ? back : status;
}

/* --- namespaces --- */

static enum lend_status write_map(const char *path, unsigned id, struct lend_error *error)
{
    char text[PATH_BYTES];
    int length = snprintf(text, sizeof text, "0 %u 1", id);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = file >= 0 && write(file, text, (size_t)length) == length;
    enum lend_status status =
        is_written ? LEND_OK : trouble_errno(error, "%s cannot be written", path);

    if (file >= 0)
        (void)close(file);
    return status;
}

/* Network namespaces cannot be made, and it is not for want of the right. */
static enum lend_status tell_limit(struct lend_error *error)
{
    if (errno == ENOSPC)
        return trouble(error, LEND_E_ACCESS,
                       "no more network namespaces may be made here: as root: sysctl -w "
                       "user.max_net_namespaces=1000");
    return trouble_errno(error, "a network namespace cannot be made");
}

/* Become root of a user namespace of one's own, and go to a new network of it. */
static enum lend_status become_root(struct lend_error *error)
{
    unsigned user = geteuid();
    unsigned group = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return trouble(error, LEND_E_ACCESS,
                       "user %u may not make network namespaces (%s): run it as root, or let users "
                       "have namespaces of their own: as root: sysctl -w "
                       "user.max_user_namespaces=1000 (Debian: kernel.unprivileged_userns_clone=1; "
                       "Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0); in a container: "
                       "--cap-add SYS_ADMIN --cap-add NET_ADMIN",
                       user, strerrordesc_np(errno));
    int file = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
    if (file >= 0) { /* kernels that do not have it do not want it */
        (void)!write(file, "deny", sizeof "deny" - 1);
        (void)close(file);
    }
    enum lend_status status = write_map("/proc/self/uid_map", user, error);
    return status == LEND_OK ? write_map("/proc/self/gid_map", group, error) : status;
}

static enum lend_status hold(int *out, struct lend_error *error)
{
    *out = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (*out < 0)
        return trouble_errno(error, "/proc/self/ns/net cannot be opened");
    return LEND_OK;
}

/* Both namespaces; this process ends in the second. */
static enum lend_status make(struct hosts *hosts, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    if (unshare(CLONE_NEWNET) != 0)
        status = errno == EPERM ? become_root(error) : tell_limit(error);
    if (status == LEND_OK)
        status = hold(&hosts->namespaces[0], error);
    if (status == LEND_OK && unshare(CLONE_NEWNET) != 0)
        status = tell_limit(error);
    return status == LEND_OK ? hold(&hosts->namespaces[1], error) : status;
}

/* Back to where we were; who had to become root of a user namespace has no way back. */
static enum lend_status go_home(struct hosts *hosts, struct lend_error *error)
{
    if (setns(hosts->home, CLONE_NEWNET) == 0)
        return LEND_OK;
    if (errno != EPERM)
        return trouble_errno(error, "the network that we were on cannot be gone back to");
    (void)close(hosts->home);
    return hold(&hosts->home, error);
}

enum lend_status hosts_enter(const struct hosts *hosts, int which, struct lend_error *error)
{
    if (setns(hosts->namespaces[which], CLONE_NEWNET) != 0)
        return trouble_errno(error, "host %d cannot be entered", which + 1);
    return LEND_OK;
}

enum lend_status hosts_move_to(const struct hosts *hosts, int which, struct lend_error *error)
{
    enum lend_status status = hosts_enter(hosts, which, error);

    /* Ours alone, so that nobody else sees it and it is gone with us. */
    if (status == LEND_OK && unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        (void)mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
    return status;
}

enum lend_status hosts_leave(const struct hosts *hosts, struct lend_error *error)
{
    if (setns(hosts->home, CLONE_NEWNET) != 0)
        return trouble_errno(error, "the network that we were on cannot be gone back to");
    return LEND_OK;
}

enum lend_status hosts_open_apart(struct hosts *hosts, struct lend_error *error)
{
    *hosts = (struct hosts){.namespaces = {-1, -1}, .home = -1};

    enum lend_status status = hold(&hosts->home, error);
    if (status == LEND_OK)
        status = make(hosts, error);
    if (status == LEND_OK)
        status = go_home(hosts, error);
    for (int i = 0; status == LEND_OK && i < HOSTS; i++)
        status = hosts_run(hosts, i, error, "ip link set lo up");
    if (status != LEND_OK)
        hosts_close(hosts);
    return status;
}

/* --- the link --- */

enum lend_status hosts_plug(const struct hosts *hosts, int which, struct lend_error *error)
{
    enum lend_status status = hosts_run(
        hosts, which, error, "ip address replace %s/24 dev " HOSTS_DEVICE, hosts_ipv4[which]);

    if (status == LEND_OK)
        status = hosts_run(hosts, which, error, "ip link set " HOSTS_DEVICE " up");
    if (status == LEND_OK) /* after it is up: it loses them when it goes down */
        status =
            hosts_run(hosts, which, error, "ip address replace %s/64 dev " HOSTS_DEVICE " nodad",
                      hosts_ipv6[which]);
    return status;
}

enum lend_status hosts_unplug(const struct hosts *hosts, struct lend_error *error)
{
    return hosts_run(hosts, 0, error, "ip link set " HOSTS_DEVICE " down");
}

enum lend_status hosts_open(struct hosts *hosts, struct lend_error *error)
{
    enum lend_status status = hosts_open_apart(hosts, error);

    if (status == LEND_OK)
        status = hosts_run(hosts, 0, error,
                           "ip link add name " HOSTS_DEVICE " type veth peer name " HOSTS_DEVICE
                           " netns /proc/%d/fd/%d",
                           (int)getpid(), hosts->namespaces[1]);
    for (int i = 0; status == LEND_OK && i < HOSTS; i++)
        status = hosts_plug(hosts, i, error);
    if (status != LEND_OK)
        hosts_close(hosts);
    return status;
}

void hosts_close(struct hosts *hosts)
{
    for (int i = 0; i < HOSTS; i++)
        if (hosts->namespaces[i] >= 0)
            (void)close(hosts->namespaces[i]);
    if (hosts->home >= 0)
        (void)close(hosts->home);
    *hosts = (struct hosts){.namespaces = {-1, -1}, .home = -1};
}
