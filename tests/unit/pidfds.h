/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_PIDFDS_H
#define LEND_TESTS_UNIT_PIDFDS_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/sys.h"

/* An old kernel has none, nor has valgrind. */
static inline bool has_pidfds(void)
{
    int fd = lend_sys->pidfd_self();

    if (fd >= 0)
        lend_sys->close(fd);
    return fd >= 0;
}

static inline void skip_without_pidfds(void)
{
    if (has_pidfds())
        return;
    print_message("no pidfds here: skipped\n");
    skip();
}

/* Where nobody can see a process end nothing of it is opened. */
static inline bool is_without_pidfds(void)
{
    bool has = has_pidfds();

    if (!has)
        puts("SKIP: no pidfd_open() here (valgrind has none), without which no memory of a GPU is "
             "opened");
    return !has;
}

#endif
