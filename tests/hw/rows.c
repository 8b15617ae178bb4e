/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

void tell(const char *name, bool is_good, const char *format, ...)
{
    va_list arguments;

    failures += !is_good;
    (void)printf("| %s | %s | ", name, is_good ? "passed" : "FAILED");
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf(" |\n");
    (void)fflush(stdout);
}

int tell_failures(void)
{
    return failures;
}

bool is_small(void)
{
    return getenv("LEND_HW_SMALL") != NULL;
}
