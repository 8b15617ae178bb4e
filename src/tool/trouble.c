/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/trouble.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void fill(struct lend_error *error, enum lend_status status, const char *format,
                 va_list arguments) __attribute__((format(printf, 3, 0)));

static void fill(struct lend_error *error, enum lend_status status, const char *format,
                 va_list arguments)
{
    *error = (struct lend_error){.status = status};
    (void)vsnprintf(error->message, sizeof error->message, format, arguments);
}

enum lend_status trouble(struct lend_error *error, enum lend_status status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fill(error, status, format, arguments);
    va_end(arguments);
    return status;
}

enum lend_status trouble_errno(struct lend_error *error, const char *format, ...)
{
    int number = errno;
    va_list arguments;

    va_start(arguments, format);
    fill(error, LEND_E_SYSTEM, format, arguments);
    va_end(arguments);

    size_t used = strlen(error->message);
    (void)snprintf(error->message + used, sizeof error->message - used, ": %s", strerror(number));
    error->sys_errno = number;
    return LEND_E_SYSTEM;
}

void trouble_tell(const struct lend_error *error)
{
    (void)fprintf(stderr, "lend: %s (%s)\n", error->message, lend_status_name(error->status));
}

uint64_t now_ns(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* cannot fail for this clock */
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

void sleep_until_ns(uint64_t at_ns)
{
    struct timespec time = {
        .tv_sec = (time_t)(at_ns / 1000000000U),
        .tv_nsec = (long)(at_ns % 1000000000U),
    };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
        continue;
}
