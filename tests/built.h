/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_BUILT_H
#define LEND_TESTS_BUILT_H

#include <stdbool.h>

/* Is that transport in this build? If not, it is printed, as the reason for a skip. */
bool built_with(const char *transport);

#endif
