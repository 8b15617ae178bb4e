/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_DICE_H
#define LEND_TOOL_DICE_H

#include <lend/status.h>

#include <stddef.h>

/* Random numbers that a seed decides: one seed, one run. */
struct dice {
    uint64_t state;
};

uint64_t dice_roll(struct dice *dice);

/* 0 .. limit - 1; 0 if limit is 0. */
uint64_t dice_below(struct dice *dice, uint64_t limit);

/* Draw count different numbers below population, in random order, to out. The same seed draws the
 * same. LEND_E_INVALID: there are not so many. */
enum lend_status dice_draw(uint64_t seed, uint32_t population, uint32_t count, int32_t *out,
                           struct lend_error *error);

/* A seed that nobody chose; short enough to be typed again. */
uint64_t dice_seed(void);

#endif
