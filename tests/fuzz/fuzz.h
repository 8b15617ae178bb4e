/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FUZZ_H
#define LEND_TESTS_FUZZ_H

#include "wire_samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a target is: libFuzzer calls it, or fuzz/driver.c does. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

/* An invariant; unlike assert() it holds in every build. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
