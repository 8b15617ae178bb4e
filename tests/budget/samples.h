/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_BUDGET_SAMPLES_H
#define LEND_TESTS_BUDGET_SAMPLES_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* Times that are printed beside a count, and decide nothing. */

static inline uint64_t samples_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline int samples_compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

/* Sorts them. */
static inline uint64_t samples_median(uint64_t *samples, uint64_t count)
{
    qsort(samples, count, sizeof *samples, samples_compare);
    return samples[count / 2];
}

#endif
