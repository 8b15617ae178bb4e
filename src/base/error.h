/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_ERROR_H
#define LEND_BASE_ERROR_H

#include <lend/status.h>

#include <stdbool.h>

/*
 * Fill error (which may be NULL) and return status, so that a failure and its explanation are one
 * statement: `return lend_fail(error, LEND_E_INVALID, "length is 0");`. The function that first
 * sees the failure says so; its callers pass the status on and leave error alone. A message that
 * is too long ends in "...". With LEND_PENDING it says what is being waited for.
 */
enum lend_status lend_fail(struct lend_error *error, enum lend_status status, const char *format,
                           ...) __attribute__((format(printf, 3, 4), cold, nonnull(3)));

/* As lend_fail() with LEND_E_SYSTEM; records sys_errno and appends its text to the message. */
enum lend_status lend_fail_errno(struct lend_error *error, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold, nonnull(3)));

/* As lend_fail() with LEND_E_DEVICE; records device_code. */
enum lend_status lend_fail_device(struct lend_error *error, int64_t device_code, const char *format,
                                  ...) __attribute__((format(printf, 3, 4), cold, nonnull(3)));

/* The status of that value if it is a failure that we know, else LEND_E_CORRUPT: for the wire. */
enum lend_status lend_status_from_wire(int32_t value);

/* Something that must never be: whose breach could let a peer write to memory that is no longer
 * lent. */
#define LEND_INVARIANT(condition)                                                                  \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            __builtin_trap();                                                                      \
    } while (0)

#endif
