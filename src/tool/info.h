/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_INFO_H
#define LEND_TOOL_INFO_H

#include "tool/output.h"
#include "tool/probe.h"

/* What `lend info' tells, gathered section by section. */

enum { INFO_ROWS_MAX = 128, INFO_VALUE_BYTES = 160, INFO_MEANING_BYTES = 320 };

struct info_row {
    const char *section;
    const char *name;
    char value[INFO_VALUE_BYTES];
    char meaning[INFO_MEANING_BYTES]; /* for lend, with the reason */
};

struct info {
    const struct probe *probe;
    const char *directory; /* of the sockets; never NULL */
    bool is_default;
    const char *nixl_library; /* to be looked at; NULL: the one that is found */
    uint32_t count;
    struct info_row rows[INFO_ROWS_MAX];
};

/* Begin a row: its value, and then what that means. */
void info_value(struct info *info, const char *section, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void info_meaning(struct info *info, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* info_nixl.c: which libnixl_capi is whose. */
void info_tell_nixl(struct info *info);

/* info_rdma.c: libibverbs, devices and ports. */
void info_tell_rdma(struct info *info);

/* info_library.c: build, memory kinds, transports, paths. info_machine.c: limits, kernel, memory.
 */
void info_tell_library(struct info *info);
void info_tell_limits(struct info *info);
void info_tell_kernel(struct info *info);
void info_tell_memory(struct info *info);

#endif
