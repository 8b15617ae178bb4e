/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks of the library in a process, of what it can do, and of a process that is to be a peer. */

enum { PATH_BYTES = 4352, COPIES_MAX = 4, COPY_BYTES = 160 };

static void check_version(const struct exam *exam, struct finding *out)
{
    const char *version = exam->probe->library_version();

    if (strcmp(version, LEND_VERSION) == 0) {
        found(out, SEVERITY_OK, "command and library are of version %s", version);
        return;
    }
    found(out, SEVERITY_WARNING, "the command is of version %s, and it has found liblend %s",
          LEND_VERSION, version);
    remedy(out, "ldd \"$(command -v lend)\" shows which; unset LD_LIBRARY_PATH, or as root: "
                "ldconfig");
}

/* Different files of the library that one process has mapped. */
struct copies {
    uint32_t count;
    char paths[COPIES_MAX][COPY_BYTES];
};

static bool look_at_mapping(void *context, const char *line)
{
    struct copies *copies = context;
    const char *path = strchr(line, '/');
    const char *base = strrchr(line, '/');

    if (path == NULL || strncmp(base + 1, "liblend.so", 10) != 0)
        return true;
    for (uint32_t i = 0; i < copies->count; i++) {
        if (strncmp(copies->paths[i], path, COPY_BYTES - 1) == 0)
            return true;
    }
    if (copies->count < COPIES_MAX)
        (void)snprintf(copies->paths[copies->count++], COPY_BYTES, "%s", path);
    return true;
}

static void check_copies(const struct exam *exam, struct finding *out)
{
    struct copies copies = {0};
    char path[64] = "/proc/self/maps";

    if (exam->peer != 0)
        (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)exam->peer);
    int result = exam->probe->lines(path, look_at_mapping, &copies);
    if (result < 0) {
        found(out, SEVERITY_WARNING, "%s: %s", path, strerrordesc_np(-result));
        remedy(out, result == -ENOENT ? "give the number of a process that runs: --pid"
                                      : "run lend doctor as that process's user, or as root");
        return;
    }
    if (copies.count < 2) {
        found(out, SEVERITY_OK, "%s names %s", path,
              copies.count == 0 ? "no liblend.so" : copies.paths[0]);
        return;
    }
    found(out, SEVERITY_FAULT,
          "%s names %u copies of liblend: agents of one do not see those of the other, and a fork "
          "is not told to both",
          path, copies.count);
    remedy(out, "link everything to one of %s and %s; LD_DEBUG=files shows who loads which",
           copies.paths[0], copies.paths[1]);
}

static void check_agent(const struct exam *exam, struct finding *out)
{
    struct lend_error error = {0};
    const char *directory = exam->is_default ? NULL : exam->directory;
    char names[] = LEND_TRANSPORTS;
    char *rest = NULL;

    for (char *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        /* They are opened where a device is named; checks of their own look at that. */
        if (strcmp(name, "ucx") == 0 || strcmp(name, "nixl") == 0 || strcmp(name, "verbs") == 0)
            continue;
        if (exam->probe->open_transport(name, directory, &error) == LEND_OK)
            continue;
        found(out, SEVERITY_FAULT, "an agent with transport %s cannot be made: %s (%s)", name,
              error.message, lend_status_name(error.status));
        remedy(out, "as the message says; the other checks name the cause more closely");
        return;
    }
    found(out, SEVERITY_OK, "an agent can be made with each transport: %s", LEND_TRANSPORTS);
}

static void check_round_trip(const struct exam *exam, struct finding *out)
{
    struct lend_error error = {0};
    char path[32] = "";

    if (exam->probe->round_trip(exam->is_default ? NULL : exam->directory, path, &error) ==
        LEND_OK) {
        found(out, SEVERITY_OK, "a block was lent and read, by path %s", path);
        return;
    }
    found(out, SEVERITY_FAULT, "a block that was lent could not be read: %s (%s)", error.message,
          lend_status_name(error.status));
    remedy(out, "as the message says; the other checks name the cause more closely");
}

static void check_peer_user(const struct exam *exam, struct finding *out)
{
    char path[64];
    char text[64];
    struct stat folder;
    unsigned user = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)exam->peer);
    if (probe_text(exam->probe, path, "Uid:", text, sizeof text) < 0 ||
        sscanf(text, "%*u %u", &user) != 1) {
        found(out, SEVERITY_FAULT, "there is no process %d here", (int)exam->peer);
        remedy(out, "give its number in this PID namespace: lsns -t pid; pgrep -a NAME");
        return;
    }
    if (user != exam->probe->user() && (exam->socket_mode & S_IWOTH) == 0) {
        found(out, SEVERITY_WARNING,
              "process %d is of user %u, and we are user %u: a socket of mode %04o does not let it "
              "in",
              (int)exam->peer, user, (unsigned)exam->probe->user(), exam->socket_mode);
        remedy(out, "set local_mode (--socket-mode) to 0666, and local_directory to a folder that "
                    "both may enter (mode 0711)");
        return;
    }
    (void)snprintf(path, sizeof path, "/proc/%d", (int)exam->peer);
    if (exam->probe->stat(path, &folder) == 0 && folder.st_uid != user) {
        found(out, SEVERITY_WARNING,
              "process %d of user %u is not dumpable: local/cross-memory is off for what it lends",
              (int)exam->peer, user);
        remedy(out, "prctl(PR_SET_DUMPABLE, 1) in that program; do not run it set-user-id or with "
                    "file capabilities");
        return;
    }
    found(out, SEVERITY_OK, "process %d is of user %u", (int)exam->peer, user);
}

static void check_peer_pids(const struct exam *exam, struct finding *out)
{
    char path[64];
    char ours[64];
    char theirs[64];

    (void)snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)exam->peer);
    int result = exam->probe->link("/proc/self/ns/pid", ours, sizeof ours);
    if (result == 0)
        result = exam->probe->link(path, theirs, sizeof theirs);
    if (result < 0) {
        found(out, SEVERITY_WARNING, "%s: %s", path, strerrordesc_np(-result));
        remedy(out, "run lend doctor as that process's user, or as root");
        return;
    }
    if (strcmp(ours, theirs) == 0) {
        found(out, SEVERITY_OK, "process %d is in our PID namespace", (int)exam->peer);
        return;
    }
    found(out, SEVERITY_WARNING,
          "process %d is in PID namespace %s, and we are in %s: path local/cross-memory is off; "
          "local/mapped and local/served work",
          (int)exam->peer, theirs, ours);
    remedy(out, "docker run --pid=container:NAME, or shareProcessNamespace: true in the pod");
}

static void check_peer_folder(const struct exam *exam, struct finding *out)
{
    char path[PATH_BYTES];
    struct stat ours;
    struct stat theirs;

    (void)snprintf(path, sizeof path, "/proc/%d/root%s", (int)exam->peer, exam->directory);
    if (exam->probe->stat(exam->directory, &ours) < 0) {
        found(out, SEVERITY_OK, "%s is not there", exam->directory);
        return;
    }
    int result = exam->probe->stat(path, &theirs);
    if (result == -EACCES || result == -EPERM) {
        found(out, SEVERITY_WARNING, "%s: %s", path, strerrordesc_np(-result));
        remedy(out, "run lend doctor as that process's user, or as root");
        return;
    }
    if (result == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino) {
        found(out, SEVERITY_OK, "process %d sees %s as we do", (int)exam->peer, exam->directory);
        return;
    }
    found(out, SEVERITY_FAULT, "process %d has %s at %s: it cannot reach our socket",
          (int)exam->peer, result == 0 ? "another folder" : "nothing", exam->directory);
    remedy(out, "mount the folder into both containers: docker run -v %s:%s", exam->word,
           exam->word);
}

const struct check checks_process[] = {
    {"version", check_version},
    {"copies", check_copies},
    {"agent", check_agent},
    {"round-trip", check_round_trip},
    {NULL, NULL},
};

const struct check checks_peer[] = {
    {"peer-user", check_peer_user},
    {"peer-pids", check_peer_pids},
    {"peer-folder", check_peer_folder},
    {NULL, NULL},
};
