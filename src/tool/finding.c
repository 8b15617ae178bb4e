/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void found(struct finding *out, enum severity severity, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(out->found, sizeof out->found, format, arguments);
    va_end(arguments);
    out->severity = severity;
}

void remedy(struct finding *out, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(out->remedy, sizeof out->remedy, format, arguments);
    va_end(arguments);
}

const char *shell_word(char *out, size_t capacity, const char *text)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+=:,@%";
    size_t used = 1;

    if (text[0] != '\0' && text[strspn(text, safe)] == '\0') {
        (void)snprintf(out, capacity, "%s", text);
        return out;
    }
    out[0] = '\'';
    for (; *text != '\0' && used + 6 < capacity; text++) {
        if (*text == '\'') {
            memcpy(out + used, "'\\''", 4);
            used += 4;
        } else {
            out[used++] = *text;
        }
    }
    out[used++] = '\'';
    out[used] = '\0';
    return out;
}
