/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_DOUBLE_H
#define LEND_TESTS_DOUBLE_H

#include "base/sys.h"

#include <stdbool.h>

/*
 * A double of the system: the real one, but for one call that fails and a clock that can be
 * stopped. It counts what is taken and given back, from any thread.
 */

/* A world in which exactly one call fails: the nth fallible one (from 0), or none if nth is
 * negative. */
void double_install(int nth);

/* The same, counted by places in the code: the first call from the nth place that makes one. For
 * scenarios of very many calls. */
void double_install_site(int nth);

/* Back to the real world. Fails the test if anything was leaked. True if the fault was reached. */
bool double_remove(void);

/* For doubles of other calls, such as a fake transport's: is it this call's turn to fail? */
bool double_should_fail(void);

/* Fallible calls since the double was installed. */
int double_calls(void);

/* Taken and not given back since the double was installed. */
int double_live_allocations(void);
int double_live_descriptors(void); /* those that came with a message included */
int double_live_maps(void);
int double_live_threads(void);

/* Stop the clock at now_ns (not 0); each look at it moves it by tick_ns. Sleeping, and waiting for
 * what has not happened yet, end at once and move it by their time. Until double_remove(). */
void double_clock_set(uint64_t now_ns, uint64_t tick_ns);
void double_clock_advance(uint64_t duration_ns);

#endif
