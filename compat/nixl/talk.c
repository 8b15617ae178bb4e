/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static enum compat_level wanted_level(void)
{
    static const struct {
        const char *name;
        enum compat_level level;
    } levels[] = {
        {"FATAL", COMPAT_FATAL},     {"ERROR", COMPAT_ERROR}, {"WARN", COMPAT_WARNING},
        {"WARNING", COMPAT_WARNING}, {"INFO", COMPAT_INFO},   {"DEBUG", COMPAT_DEBUG},
        {"TRACE", COMPAT_DEBUG},
    };
    const char *wanted = getenv("NIXL_LOG_LEVEL");

    for (size_t i = 0; wanted != NULL && i < sizeof levels / sizeof levels[0]; i++)
        if (strcasecmp(wanted, levels[i].name) == 0)
            return levels[i].level;
    return COMPAT_WARNING;
}

__attribute__((format(printf, 2, 0))) static void say(enum compat_level level, const char *format,
                                                      va_list arguments)
{
    static const char letters[] = "FEWID";
    char text[512];

    if (level > wanted_level())
        return;
    (void)vsnprintf(text, sizeof text, format, arguments);
    (void)fprintf(stderr, "%c libnixl_capi of lend: %s\n", letters[level], text);
}

void compat_log(enum compat_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(level, format, arguments);
    va_end(arguments);
}

nixl_capi_status_t compat_fail(nixl_capi_status_t status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(COMPAT_ERROR, format, arguments);
    va_end(arguments);
    return status;
}

nixl_capi_status_t compat_fail_lend(enum lend_status status, const struct lend_error *error,
                                    const char *what)
{
    nixl_capi_status_t own = NIXL_CAPI_ERROR_BACKEND;

    if (status == LEND_E_INVALID || status == LEND_E_MEMORY)
        own = NIXL_CAPI_ERROR_INVALID_PARAM;
    else if (status == LEND_E_ABSENT || status == LEND_E_OUT_OF_RANGE)
        own = NIXL_CAPI_ERROR_NOT_FOUND;
    return compat_fail(own, "%s: %s (%s)", what, error->message, lend_status_name(status));
}
