/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/secret_file.h"

#include "tool/trouble.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whoever can read the secret is one of us; whoever can write it makes us one of theirs. */
static enum lend_status check_rights(const char *path, int file, struct lend_error *error)
{
    struct stat facts;

    if (fstat(file, &facts) != 0)
        return trouble_errno(error, "%s cannot be looked at", path);
    if (!S_ISREG(facts.st_mode))
        return trouble(error, LEND_E_INVALID, "%s is not a file", path);
    if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return trouble(error, LEND_E_ACCESS,
                       "%s is a secret that others may read or write (mode %04o): chmod 600 %s, "
                       "and if it was so for long, make another",
                       path, (unsigned)facts.st_mode & 07777, path);
    if (facts.st_uid != geteuid() && facts.st_uid != 0)
        return trouble(error, LEND_E_ACCESS,
                       "%s belongs to user %u, who can replace the secret; we are user %u: as "
                       "root: chown %u %s",
                       path, (unsigned)facts.st_uid, (unsigned)geteuid(), (unsigned)geteuid(),
                       path);
    return LEND_OK;
}

enum lend_status secret_read(const char *path, struct secret *out, struct lend_error *error)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (file < 0)
        return trouble(error, errno == EACCES ? LEND_E_ACCESS : LEND_E_ABSENT,
                       "%s cannot be opened: %s: it is made so: (umask 077; head -c 32 "
                       "/dev/urandom | base64 > %s), and copied to the other machine",
                       path, strerrordesc_np(errno), path);
    enum lend_status status = check_rights(path, file, error);
    ssize_t count = status == LEND_OK ? read(file, out->bytes, sizeof out->bytes) : 0;
    if (count < 0)
        status = trouble_errno(error, "%s cannot be read", path);
    (void)close(file);
    if (status != LEND_OK)
        return status;

    if (count > 0 && out->bytes[count - 1] == '\n')
        count--;
    out->count = (uint32_t)count;
    if (count >= SECRET_BYTES_MIN && count <= SECRET_BYTES_MAX)
        return LEND_OK;
    secret_wipe(out);
    return trouble(error, LEND_E_INVALID, "%s holds %s bytes, and a secret has %d .. %d", path,
                   count < SECRET_BYTES_MIN ? "too few" : "too many", SECRET_BYTES_MIN,
                   SECRET_BYTES_MAX);
}

void secret_wipe(struct secret *secret)
{
    explicit_bzero(secret->bytes, sizeof secret->bytes);
    secret->count = 0;
}
