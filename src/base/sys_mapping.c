/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sys.h"

#include <errno.h>
#include <sys/ioctl.h>

/* The kernel's struct procmap_query and its numbers, which older headers do not have. */
struct mapping_query {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_address;
    uint64_t start;
    uint64_t end;
    uint64_t flags;
    uint64_t page_size;
    uint64_t offset;
    uint64_t inode;
    uint32_t device_major;
    uint32_t device_minor;
    uint32_t name_bytes;
    uint32_t build_id_bytes;
    uint64_t name_address;
    uint64_t build_id_address;
};

#define MAPPING_QUERY _IOWR('f', 17, struct mapping_query)

enum {
    MAPPING_READABLE = 1,
    MAPPING_WRITABLE = 2,
    MAPPING_EXECUTABLE = 4,
    MAPPING_SHARED = 8,
    MAPPING_OR_NEXT = 16,
};

int lend_sys_mapping_real(int fd, uint64_t address, struct lend_sys_mapping *out)
{
    struct mapping_query query = {
        .size = sizeof query, .query_flags = MAPPING_OR_NEXT, .query_address = address};

    while (ioctl(fd, MAPPING_QUERY, &query) < 0)
        if (errno != EINTR)
            return errno == ENOENT ? -ENOENT : -ENOTTY;
    *out = (struct lend_sys_mapping){.start = query.start, .end = query.end, .rights = "---p"};
    out->rights[0] = (query.flags & MAPPING_READABLE) != 0 ? 'r' : '-';
    out->rights[1] = (query.flags & MAPPING_WRITABLE) != 0 ? 'w' : '-';
    out->rights[2] = (query.flags & MAPPING_EXECUTABLE) != 0 ? 'x' : '-';
    out->rights[3] = (query.flags & MAPPING_SHARED) != 0 ? 's' : 'p';
    return 0;
}
