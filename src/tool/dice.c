/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/dice.h"

#include "tool/trouble.h"

#include <stdlib.h>
#include <sys/random.h>

/* A counter in steps of an odd number, put through a bijective mix: every state comes once. */
uint64_t dice_roll(struct dice *dice)
{
    uint64_t word = dice->state += UINT64_C(0x9e3779b97f4a7c15);

    for (int round = 0; round < 2; round++)
        word = (word ^ word >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return word ^ word >> 32;
}

uint64_t dice_below(struct dice *dice, uint64_t limit)
{
    return limit == 0 ? 0 : dice_roll(dice) % limit;
}

enum lend_status dice_draw(uint64_t seed, uint32_t population, uint32_t count, int32_t *out,
                           struct lend_error *error)
{
    if (count > population || population > INT32_MAX)
        return trouble(error, LEND_E_INVALID, "%u different blocks of %u do not exist", count,
                       population);

    int32_t *deck = malloc(population * sizeof *deck);
    if (deck == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory to draw from %u blocks", population);
    for (uint32_t i = 0; i < population; i++)
        deck[i] = (int32_t)i;

    struct dice dice = {.state = seed};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t pick = i + dice_below(&dice, population - i);

        out[i] = deck[pick];
        deck[pick] = deck[i];
    }
    free(deck);
    return LEND_OK;
}

uint64_t dice_seed(void)
{
    uint32_t seed = 0;

    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint32_t)now_ns();
    return seed == 0 ? 1 : seed;
}
