/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/attach.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>

/* How much the kernel lets this process pin. */

enum { FILE_BYTES = 4096, CAP_IPC_LOCK_BIT = 14 };

/* The line of a file of /proc that begins so, behind that. NULL: none. */
static const char *find_line(const char *path, const char *beginning, char *text)
{
    int fd = lend_sys->open_read(path);
    size_t length = 0;
    ssize_t count = 0;

    if (fd < 0)
        return NULL;
    while (length < FILE_BYTES - 1 &&
           (count = lend_sys->read(fd, text + length, FILE_BYTES - 1 - length)) > 0)
        length += (size_t)count;
    lend_sys->close(fd);
    text[length] = '\0';
    const char *at = strstr(text, beginning);
    return count < 0 || at == NULL ? NULL : at + strlen(beginning);
}

/* The soft limit; UINT64_MAX: there is none, or it is not known. */
static uint64_t memlock_limit(void)
{
    char text[FILE_BYTES];
    const char *at = find_line("/proc/self/limits", "Max locked memory", text);

    if (at == NULL)
        return UINT64_MAX;
    at += strspn(at, " ");
    return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : UINT64_MAX;
}

static uint64_t status_field(const char *name, int base)
{
    char text[FILE_BYTES];
    const char *at = find_line("/proc/self/status", name, text);

    return at != NULL ? strtoull(at, NULL, base) : 0;
}

enum lend_status lend_verbs_check_memlock(uint64_t bytes, struct lend_error *error)
{
    uint64_t limit = memlock_limit();

    if (limit == UINT64_MAX)
        return LEND_OK;
    if ((status_field("CapEff:", 16) >> CAP_IPC_LOCK_BIT & 1) != 0)
        return LEND_OK; /* the limit is void */
    uint64_t pinned = status_field("VmPin:", 10) * 1024;
    if (pinned <= limit && bytes <= limit - pinned)
        return LEND_OK;
    return lend_fail(error, LEND_E_LIMIT,
                     "registering %llu bytes needs locked memory, and RLIMIT_MEMLOCK is %llu with "
                     "%llu pinned: raise it (ulimit -l unlimited; LimitMEMLOCK=infinity; docker "
                     "--ulimit memlock=-1) or give CAP_IPC_LOCK",
                     (unsigned long long)bytes, (unsigned long long)limit,
                     (unsigned long long)pinned);
}
