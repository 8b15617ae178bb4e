/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_TROUBLE_H
#define LEND_TOOL_TROUBLE_H

#include <lend/status.h>

/* Errors of the command's own, in the library's form, and the clock. */

/* How the command ends. */
enum { EXIT_GOOD = 0, EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

/* Fill the error and return its status. */
enum lend_status trouble(struct lend_error *error, enum lend_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a system call that failed: LEND_E_SYSTEM, with errno and its text behind the
 * message. */
enum lend_status trouble_errno(struct lend_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Tell the user, on stderr. */
void trouble_tell(const struct lend_error *error);

/* CLOCK_MONOTONIC: the same in every process of the machine. */
uint64_t now_ns(void);

/* Sleep until now_ns() says so; at once if it does. */
void sleep_until_ns(uint64_t at_ns);

#endif
