/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_KINDS_H
#define LEND_TESTS_HW_KINDS_H

#include <lend/lend.h>

/* Lend memory of each kind but cuMemAlloc()'s: chunks, a pool's, lend's own. Prints their rows. */
void test_kinds(struct lend_agent *agent);

#endif
