/* SPDX-License-Identifier: Apache-2.0 */
#include "post.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* The secret without which no listener tells metadata, nor takes any. */

enum { MADE_BYTES = 32, BYTES_MIN = 16 };

/* A folder and a file that are this user's alone. */
static bool is_ours(int fd, mode_t kind)
{
    struct stat found;

    return fstat(fd, &found) == 0 && (found.st_mode & S_IFMT) == kind &&
           found.st_uid == geteuid() && (found.st_mode & 077) == 0;
}

static int open_folder(char *path, size_t room)
{
    const char *folder = getenv("XDG_RUNTIME_DIR");

    if (folder != NULL && folder[0] == '/')
        (void)snprintf(path, room, "%s", folder);
    else
        (void)snprintf(path, room, "/tmp/lend-%u", (unsigned)geteuid());
    (void)mkdir(path, 0700); /* it is there, or opening it says why not */
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !is_ours(fd, S_IFDIR)) {
        (void)close(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

/* Whole or not at all: written under another name, then linked. It is no failure if another process
 * was quicker. */
static void make_file(int folder, const char *name)
{
    uint8_t bytes[MADE_BYTES];
    char temporary[64];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return;
    (void)snprintf(temporary, sizeof temporary, "%s.%d.%02x%02x", name, (int)getpid(), bytes[0],
                   bytes[1]);
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return;
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes)
        (void)linkat(folder, temporary, folder, name, 0);
    (void)close(fd);
    (void)unlinkat(folder, temporary, 0);
    explicit_bzero(bytes, sizeof bytes);
}

static size_t read_file(int folder, const char *name, uint8_t *out)
{
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return 0;
    ssize_t count = is_ours(fd, S_IFREG) ? read(fd, out, COMPAT_SECRET_BYTES_MAX) : 0;
    (void)close(fd);
    return count >= BYTES_MIN ? (size_t)count : 0;
}

static size_t find_or_make(uint8_t *out)
{
    static const char name[] = "nixl-secret";
    char path[192];
    int folder = open_folder(path, sizeof path);

    if (folder < 0) {
        compat_log(COMPAT_ERROR, "no secret for listeners: %s: %s", path, strerror(errno));
        return 0;
    }
    size_t count = read_file(folder, name, out);
    if (count == 0) {
        make_file(folder, name);
        count = read_file(folder, name, out);
    }
    (void)close(folder);
    if (count == 0)
        compat_log(
            COMPAT_ERROR,
            "no secret for listeners: %s/%s is not a file of this user's alone with %d to %d "
            "bytes; or set LEND_NIXL_SECRET",
            path, name, BYTES_MIN, COMPAT_SECRET_BYTES_MAX);
    return count;
}

size_t compat_secret(uint8_t out[COMPAT_SECRET_BYTES_MAX])
{
    const char *given = getenv("LEND_NIXL_SECRET");
    size_t count = given != NULL ? strlen(given) : 0;

    if (count == 0)
        return find_or_make(out);
    if (count < BYTES_MIN || count > COMPAT_SECRET_BYTES_MAX) {
        compat_log(COMPAT_ERROR, "LEND_NIXL_SECRET has %zu bytes, and must have %d to %d", count,
                   BYTES_MIN, COMPAT_SECRET_BYTES_MAX);
        return 0;
    }
    memcpy(out, given, count);
    return count;
}
