/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_KERNEL_H
#define LEND_TESTS_HW_KERNEL_H

#include <stdbool.h>

/* Prints its row. The primary context of GPU 0 is current. */
bool test_behind_stream(void);

#endif
