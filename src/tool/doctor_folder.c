/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <lend/statistics.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

/* Checks of the folder in which agents have their sockets and statistics pages. */

enum {
    PATH_BYTES = 4352,
    PATH_MAX_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path) - 1,
    NAME_EXTRA = sizeof "/-01234567.sock" - 1, /* of a socket's path beside folder and name */
    NAME_COMFORT = 16,
    YOUNG_S = 5, /* a file of that age may be of an agent that is just being made */
    LEFTOVERS_TOLD = 4,
};

static void check_owner_and_mode(const struct exam *exam, const struct stat *folder,
                                 struct finding *out)
{
    enum severity severity = exam->is_default ? SEVERITY_FAULT : SEVERITY_WARNING;
    uid_t user = exam->probe->user();
    unsigned mode = folder->st_mode & 07777;
    bool is_common = (mode & S_ISVTX) != 0 && !exam->is_default; /* like /tmp */

    if (folder->st_uid != user && (exam->is_default || folder->st_uid != 0)) {
        found(out, severity, "%s belongs to user %u, who can replace our sockets; we are user %u",
              exam->directory, (unsigned)folder->st_uid, (unsigned)user);
        if (exam->is_default)
            remedy(out,
                   "set local_directory (--socket-directory) to a folder of your own: "
                   "mkdir -m 0700 \"$HOME/lend\"; or as root: rm -r %s",
                   exam->word);
        else
            remedy(out, "chown %u %s", (unsigned)user, exam->word);
        return;
    }
    if ((mode & (S_IWGRP | S_IWOTH)) != 0 && !is_common) {
        found(out, severity, "%s may be written by others (mode %04o), who can replace our sockets",
              exam->directory, mode);
        remedy(out, "chmod 0700 %s", exam->word);
        return;
    }
    found(out, SEVERITY_OK, "%s: user %u, mode %04o", exam->directory, (unsigned)folder->st_uid,
          mode);
}

static void check_absent(const struct exam *exam, int result, struct finding *out)
{
    if (result == -ENOENT && exam->is_default) {
        found(out, SEVERITY_OK, "%s is not there yet: the first agent makes it", exam->directory);
        return;
    }
    found(out, SEVERITY_FAULT, "%s: %s", exam->directory, strerrordesc_np(-result));
    if (result == -ENOENT)
        remedy(out, "mkdir -p -m 0700 %s", exam->word);
    else
        remedy(out, "namei -l %s shows which folder above it is in the way; chmod a+x that one",
               exam->word);
}

static void check_folder(const struct exam *exam, struct finding *out)
{
    struct stat folder;

    if (exam->directory[0] != '/') {
        found(out, SEVERITY_FAULT, "%s does not begin with /: peers have other working directories",
              exam->directory);
        remedy(out, "give an absolute path: --directory \"$PWD\"/%s", exam->word);
        return;
    }
    int result = exam->probe->stat(exam->directory, &folder);
    if (result < 0) {
        check_absent(exam, result, out);
        return;
    }
    if (S_ISLNK(folder.st_mode)) {
        char target[256] = "?";

        (void)exam->probe->link(exam->directory, target, sizeof target);
        found(out, exam->is_default ? SEVERITY_FAULT : SEVERITY_WARNING,
              "%s is a link to %s, which somebody else may change", exam->directory, target);
        if (exam->is_default)
            remedy(out, "rm %s", exam->word);
        else
            remedy(out, "set local_directory to where it leads: %s", target);
        return;
    }
    if (!S_ISDIR(folder.st_mode)) {
        found(out, SEVERITY_FAULT, "%s is not a folder", exam->directory);
        remedy(out, "rm %s", exam->word);
        return;
    }
    check_owner_and_mode(exam, &folder, out);
}

static void tell_unusable(const struct exam *exam, const char *what, int result,
                          struct finding *out)
{
    const char *folder = exam->word;

    found(out, SEVERITY_FAULT, "%s cannot be made in %s: %s", what, exam->directory,
          strerrordesc_np(-result));
    switch (result) {
    case -EROFS:
        remedy(out,
               "mount -o remount,rw \"$(findmnt -n -o TARGET -T %s)\", or set local_directory to a "
               "file system that can be written",
               folder);
        break;
    case -ENOSPC:
    case -EDQUOT:
        remedy(out, "df -h %s; df -i %s; free some space there, or set local_directory elsewhere",
               folder, folder);
        break;
    case -EACCES:
    case -EPERM:
        remedy(out, "chmod u+rwx %s; namei -l %s shows a folder above it that is in the way",
               folder, folder);
        break;
    case -ENOENT: remedy(out, "mkdir -p -m 0700 %s", folder); break;
    case -EFBIG: remedy(out, "prlimit --pid $$ --fsize=unlimited:"); break;
    case -EMFILE:
    case -ENFILE: remedy(out, "ulimit -S -n 4096"); break;
    default: remedy(out, "set local_directory to a folder on a local file system, such as /tmp");
    }
}

/* What lend does there: make a socket, and a file of one statistics page. */
static void check_use(const struct exam *exam, struct finding *out)
{
    const struct probe *probe = exam->probe;
    struct stat folder;
    char path[PATH_BYTES];
    uint64_t free_bytes = 0;
    bool is_read_only = false;

    if (exam->is_default && probe->stat(exam->directory, &folder) == -ENOENT) {
        found(out, SEVERITY_OK, "%s is not there yet", exam->directory);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/.lend-doctor-%d", exam->directory, (int)probe->pid());
    int result = probe->bind_socket(path);
    if (result < 0 && result != -ENAMETOOLONG) { /* which check_path tells */
        tell_unusable(exam, "a socket", result, out);
        return;
    }
    result = probe->write_file(path, sizeof(struct lend_statistics));
    if (result < 0) {
        tell_unusable(exam, "a statistics page", result, out);
        return;
    }
    (void)probe->free_bytes(exam->directory, &free_bytes, &is_read_only);
    found(out, SEVERITY_OK, "a socket and a file of %zu bytes can be made; %llu MiB are free",
          sizeof(struct lend_statistics), (unsigned long long)(free_bytes >> 20));
}

static void check_path(const struct exam *exam, struct finding *out)
{
    long room = (long)PATH_MAX_BYTES - NAME_EXTRA - (long)strlen(exam->directory);

    if (room >= NAME_COMFORT) {
        found(out, SEVERITY_OK, "agents may have names of up to %ld bytes",
              room < LEND_AGENT_NAME_BYTES_MAX ? room : (long)LEND_AGENT_NAME_BYTES_MAX);
        return;
    }
    found(out, room < 1 ? SEVERITY_FAULT : SEVERITY_WARNING,
          "the folder's path has %zu bytes of the %d of a socket's path, which leaves %ld for an "
          "agent's name",
          strlen(exam->directory), (int)PATH_MAX_BYTES, room < 0 ? 0 : room);
    remedy(out,
           "set local_directory to a path of at most %d bytes, such as /tmp/lend-%u, or set "
           "local_is_abstract",
           (int)PATH_MAX_BYTES - NAME_EXTRA - LEND_AGENT_NAME_BYTES_MAX,
           (unsigned)exam->probe->user());
}

static void check_mode(const struct exam *exam, struct finding *out)
{
    unsigned mode = exam->socket_mode;
    unsigned entry = 0;
    struct stat folder;

    if ((mode & S_IWUSR) == 0) {
        found(out, SEVERITY_FAULT,
              "a socket of mode %04o lets nobody in: to connect is to write, and not even the "
              "owner may",
              mode);
        remedy(out, "set local_mode (--socket-mode) to 0600, or to 0660 or 0666 for other users");
        return;
    }
    if ((mode & S_IWGRP) != 0)
        entry |= S_IXGRP;
    if ((mode & S_IWOTH) != 0)
        entry |= S_IXOTH;
    if (entry != 0 && exam->probe->stat(exam->directory, &folder) < 0)
        folder.st_mode = 0700; /* as it will be made */
    if (entry != 0 && (folder.st_mode & entry) != entry) {
        found(out, SEVERITY_WARNING,
              "a socket of mode %04o is for others too, but %s (mode %04o) does not let them enter",
              mode, exam->directory, (unsigned)folder.st_mode & 07777);
        remedy(out, "chmod %04o %s", ((unsigned)folder.st_mode & 07777) | entry, exam->word);
        return;
    }
    found(out, SEVERITY_OK, "a socket of mode %04o lets in: %s", mode,
          (mode & S_IWOTH) != 0   ? "every user"
          : (mode & S_IWGRP) != 0 ? "our user and our group"
                                  : "our user");
}

/* Files of agents that were killed. */
struct leftovers {
    const struct exam *exam;
    uint32_t sockets;
    uint32_t pages;
    uint32_t told;
    char names[DOCTOR_TEXT_BYTES - 64];
};

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text);
    size_t wanted = strlen(ending);

    return length > wanted && strcmp(text + length - wanted, ending) == 0;
}

/* A name that a shell takes as it is; others are not told, as somebody may have chosen them. */
static bool is_plain(const char *name)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return name[0] != '-' && name[strspn(name, safe)] == '\0';
}

static bool look_at_file(void *context, const char *name)
{
    struct leftovers *left = context;
    const struct probe *probe = left->exam->probe;
    bool is_socket = ends_with(name, ".sock");
    bool is_page = ends_with(name, ".stats");
    char path[PATH_BYTES], word[PATH_BYTES];
    struct stat file;

    if ((!is_socket && !is_page) || !is_plain(name))
        return true;
    (void)snprintf(path, sizeof path, "%s/%s", left->exam->directory, name);
    if (probe->stat(path, &file) < 0 || file.st_mtime + YOUNG_S > time(NULL))
        return true;
    if (is_socket ? !S_ISSOCK(file.st_mode) || probe->is_listening(path) != 0
                  : !S_ISREG(file.st_mode) || probe->is_locked(path) != 0)
        return true;

    left->sockets += is_socket;
    left->pages += is_page;
    size_t used = strlen(left->names), length = strlen(shell_word(word, sizeof word, path));
    /* Whole, or not at all: somebody is to run it. */
    if (left->told < LEFTOVERS_TOLD && used + 1 + length < sizeof left->names) {
        left->names[used] = ' ';
        memcpy(left->names + used + 1, word, length + 1);
        left->told++;
    }
    return true;
}

static void check_leftovers(const struct exam *exam, struct finding *out)
{
    struct leftovers left = {.exam = exam};
    int result = exam->probe->names(exam->directory, look_at_file, &left);
    uint32_t all = left.sockets + left.pages;

    if (result < 0 && result != -ENOENT) {
        found(out, SEVERITY_WARNING, "%s cannot be listed: %s", exam->directory,
              strerrordesc_np(-result));
        remedy(out, "chmod u+rx %s", exam->word);
        return;
    }
    if (all == 0) {
        found(out, SEVERITY_OK, "no agent left files behind");
        return;
    }
    found(out, SEVERITY_WARNING,
          "agents that were killed left %u sockets and %u statistics pages behind", left.sockets,
          left.pages);
    if (left.told == 0) {
        remedy(out, "remove them: their paths are too long to be told here");
        return;
    }
    remedy(out, "rm --%s%s", left.names,
           left.told < all ? " (and others: run lend doctor again then)" : "");
}

const struct check checks_folder[] = {
    {"folder", check_folder},    {"folder-use", check_use},      {"socket-path", check_path},
    {"socket-mode", check_mode}, {"leftovers", check_leftovers}, {NULL, NULL},
};
