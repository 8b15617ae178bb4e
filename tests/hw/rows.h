/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_ROWS_H
#define LEND_TESTS_HW_ROWS_H

#include <stdbool.h>

/* The table of the hardware tests, of which each program prints its rows for run.sh to keep. */

/* One of them: a test, whether it passed, and a figure, or why it did not. */
void tell(const char *name, bool is_good, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* How many did not. */
int tell_failures(void);

/* Little of everything is enough: the environment says so (LEND_HW_SMALL). */
bool is_small(void);

#endif
