/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post a read of so many blocks so many times over the null transport; print the median time of a
 * post in nanoseconds a block. post_cost.py counts the instructions of the same posts.
 *
 *     posts scattered|runs 32|64 BLOCKS POSTS
 */
#include "null_transport.h"
#include "samples.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Block numbers: all in ascending order, or in an order in which no two are neighbours. */
static void *number_blocks(const char *shape, uint32_t bits, uint64_t count)
{
    bool is_scattered = strcmp(shape, "scattered") == 0;
    void *numbers = calloc(count, bits / 8);

    for (uint64_t i = 0; numbers != NULL && i < count; i++) {
        uint64_t number = is_scattered ? i / 2 + (i % 2) * (count / 2) : i;

        if (bits == 32)
            ((int32_t *)numbers)[i] = (int32_t)number;
        else
            ((int64_t *)numbers)[i] = (int64_t)number;
    }
    return numbers;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 5) {
        fprintf(stderr, "usage: %s scattered|runs 32|64 BLOCKS POSTS\n", arguments[0]);
        return 2;
    }
    uint32_t bits = (uint32_t)strtoul(arguments[2], NULL, 10);
    uint64_t blocks = strtoull(arguments[3], NULL, 10), posts = strtoull(arguments[4], NULL, 10);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    uint64_t *samples = calloc(posts, sizeof *samples);
    void *numbers = number_blocks(arguments[1], bits, blocks);
    struct null_pair pair;

    if (numbers == NULL || samples == NULL)
        return 1;
    struct lend_agent *reader = null_agent_create("reader");
    null_pair_init(&pair, reader, "owner", blocks);
    for (uint64_t i = 0; i < posts; i++) {
        null_pair_post(&pair, bits, numbers, blocks);
        null_pair_finish(&pair);
        if (lend_transfer_describe(pair.transfer, &record, NULL) != LEND_OK)
            return 1;
        samples[i] = record.post_ns;
    }
    printf("%.2f\n", (double)samples_median(samples, posts) / (double)blocks);

    null_pair_fini(&pair);
    lend_agent_destroy(reader);
    free(numbers);
    free(samples);
    return 0;
}
