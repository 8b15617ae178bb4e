/* SPDX-License-Identifier: Apache-2.0 */
#include "base/directory.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Why /tmp/lend-UID may not be ours to use: anybody may have put something there before us. */
static enum lend_status check(const char *path, uid_t user, struct lend_error *error)
{
    struct stat found;

    int result = lend_sys->stat(path, &found);
    if (result < 0)
        return lend_fail_errno(error, -result, "%s", path);
    if (S_ISLNK(found.st_mode))
        return lend_fail(error, LEND_E_ACCESS,
                         "%s is a link, which somebody else may have put there: remove it, or set "
                         "local_directory",
                         path);
    if (!S_ISDIR(found.st_mode))
        return lend_fail(error, LEND_E_ACCESS,
                         "%s is not a directory: remove it, or set local_directory", path);
    if (found.st_uid != user)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s belongs to user %u, and we are user %u: set local_directory", path,
                         (unsigned)found.st_uid, (unsigned)user);
    if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s may be written by others (mode %04o): chmod 0700 it, or set "
                         "local_directory",
                         path, (unsigned)found.st_mode & 07777);
    return LEND_OK;
}

enum lend_status lend_directory_choose(const char *given, char *made, const char **out,
                                       struct lend_error *error)
{
    struct ucred self;

    if (given != NULL) {
        if (given[0] != '/')
            return lend_fail(error, LEND_E_INVALID,
                             "local_directory is %s; it must begin with /, as peers do not share "
                             "our working directory",
                             given);
        *out = given;
        return LEND_OK;
    }
    lend_sys->self(&self);
    (void)snprintf(made, LEND_DIRECTORY_DEFAULT_BYTES, "/tmp/lend-%u", (unsigned)self.uid);

    int result = lend_sys->make_directory(made, 0700);
    if (result < 0 && result != -EEXIST)
        return lend_fail_errno(error, -result, "make %s (or set local_directory)", made);
    *out = made;
    return check(made, self.uid, error);
}

void lend_file_stem(const char *name, const uint8_t *incarnation, char *out)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t at = 0;

    for (; name[at] != '\0' && at < LEND_AGENT_NAME_BYTES_MAX; at++)
        out[at] = strchr(safe, name[at]) != NULL ? name[at] : '_';
    if (out[0] == '.')
        out[0] = '_';
    (void)snprintf(out + at, LEND_FILE_STEM_BYTES - at, "-%02x%02x%02x%02x", incarnation[0],
                   incarnation[1], incarnation[2], incarnation[3]);
}
