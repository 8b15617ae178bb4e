/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct lend_error) == 256, "frozen: bindings and plugins allocate it");

#ifndef LEND_VERSION
#define LEND_VERSION "0.1.0"
#endif

const char *lend_version(void)
{
    return LEND_VERSION;
}

const char *lend_status_name(int32_t status)
{
    switch ((enum lend_status)status) {
    case LEND_OK: return "LEND_OK";
    case LEND_PENDING: return "LEND_PENDING";
    case LEND_E_INVALID: return "LEND_E_INVALID";
    case LEND_E_NO_MEMORY: return "LEND_E_NO_MEMORY";
    case LEND_E_UNSUPPORTED: return "LEND_E_UNSUPPORTED";
    case LEND_E_LIMIT: return "LEND_E_LIMIT";
    case LEND_E_BUSY: return "LEND_E_BUSY";
    case LEND_E_OVERLAP: return "LEND_E_OVERLAP";
    case LEND_E_MEMORY: return "LEND_E_MEMORY";
    case LEND_E_ABSENT: return "LEND_E_ABSENT";
    case LEND_E_FORKED: return "LEND_E_FORKED";
    case LEND_E_MISMATCH: return "LEND_E_MISMATCH";
    case LEND_E_UNKNOWN: return "LEND_E_UNKNOWN";
    case LEND_E_OUT_OF_RANGE: return "LEND_E_OUT_OF_RANGE";
    case LEND_E_ACCESS: return "LEND_E_ACCESS";
    case LEND_E_CONSUMED: return "LEND_E_CONSUMED";
    case LEND_E_EXPIRED: return "LEND_E_EXPIRED";
    case LEND_E_REVOKED: return "LEND_E_REVOKED";
    case LEND_E_STALE: return "LEND_E_STALE";
    case LEND_E_PEER_DEAD: return "LEND_E_PEER_DEAD";
    case LEND_E_TIMEOUT: return "LEND_E_TIMEOUT";
    case LEND_E_CANCELED: return "LEND_E_CANCELED";
    case LEND_E_NO_PATH: return "LEND_E_NO_PATH";
    case LEND_E_CORRUPT: return "LEND_E_CORRUPT";
    case LEND_E_VERSION: return "LEND_E_VERSION";
    case LEND_E_SYSTEM: return "LEND_E_SYSTEM";
    case LEND_E_DEVICE: return "LEND_E_DEVICE";
    }
    return "LEND_E_?";
}

enum lend_status lend_status_from_wire(int32_t value)
{
    /* The names are the list of what we know. */
    if (value >= 0 || strcmp(lend_status_name(value), "LEND_E_?") == 0)
        return LEND_E_CORRUPT;
    return (enum lend_status)value;
}

/* Keep the promise of one line, whatever a peer's name or a driver's text contained. */
static void finish_message(struct lend_error *error, size_t length)
{
    static const char cut[] = "...";

    if (length >= sizeof error->message)
        memcpy(error->message + sizeof error->message - sizeof cut, cut, sizeof cut);
    for (char *next = error->message; *next != '\0'; next++) {
        if ((unsigned char)*next < ' ')
            *next = ' ';
    }
}

/* Built aside, so that an argument may be the message that error holds already. */
__attribute__((format(printf, 3, 0))) static void fill(struct lend_error *error,
                                                       struct lend_error reason, const char *format,
                                                       va_list args)
{
    int length = vsnprintf(reason.message, sizeof reason.message, format, args);

    if (length >= 0 && reason.sys_errno != 0) {
        size_t used =
            (size_t)length < sizeof reason.message ? (size_t)length : sizeof reason.message - 1;
        const char *text = strerrordesc_np(reason.sys_errno);
        if (text == NULL)
            text = "unknown error number";
        length += snprintf(reason.message + used, sizeof reason.message - used, ": %s", text);
    }
    finish_message(&reason, length < 0 ? 0 : (size_t)length);
    *error = reason;
}

enum lend_status lend_fail(struct lend_error *error, enum lend_status status, const char *format,
                           ...)
{
    assert(status < 0 || status == LEND_PENDING);
    if (error != NULL) {
        va_list args;

        va_start(args, format);
        fill(error, (struct lend_error){.status = status}, format, args);
        va_end(args);
    }
    return status;
}

enum lend_status lend_fail_errno(struct lend_error *error, int sys_errno, const char *format, ...)
{
    assert(sys_errno > 0);
    if (error != NULL) {
        va_list args;

        va_start(args, format);
        fill(error, (struct lend_error){.status = LEND_E_SYSTEM, .sys_errno = sys_errno}, format,
             args);
        va_end(args);
    }
    return LEND_E_SYSTEM;
}

enum lend_status lend_fail_device(struct lend_error *error, int64_t device_code, const char *format,
                                  ...)
{
    if (error != NULL) {
        va_list args;

        va_start(args, format);
        fill(error, (struct lend_error){.status = LEND_E_DEVICE, .device_code = device_code},
             format, args);
        va_end(args);
    }
    return LEND_E_DEVICE;
}
