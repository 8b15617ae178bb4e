/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register so many named regions of one mapping in one call, their addresses in the order that is
 * named, then deregister them one by one in the same order; print the nanoseconds that each took a
 * region. register_cost.py counts the instructions of the same calls.
 *
 *     registers ascending|descending|shuffled COUNT
 */
#include "null_transport.h"
#include "samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { REGION_BYTES = 4096, NAME_BYTES = 32 };

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    fprintf(stderr, "%s\n", error->message);
    exit(1);
}

/* The place of the region at that position: a permutation that is the same in every run. */
static uint64_t place_of(const char *order, uint64_t at, uint64_t count)
{
    if (strcmp(order, "ascending") == 0)
        return at;
    if (strcmp(order, "descending") == 0)
        return count - 1 - at;
    return at * 7919 % count; /* a prime, and no factor of a count that is a power of ten */
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 3) {
        fprintf(stderr, "usage: %s ascending|descending|shuffled COUNT\n", arguments[0]);
        return 2;
    }
    uint32_t count = (uint32_t)strtoul(arguments[2], NULL, 10);
    struct lend_region_desc *descs = calloc(count, sizeof *descs);
    struct lend_region **regions = calloc(count, sizeof(struct lend_region *));
    char(*names)[NAME_BYTES] = calloc(count, sizeof *names);
    char *memory = mmap(NULL, (uint64_t)count * REGION_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct lend_error error;

    if (descs == NULL || regions == NULL || names == NULL || memory == MAP_FAILED)
        return 1;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t place = place_of(arguments[1], i, count);

        lend_region_desc_init(&descs[i]);
        (void)snprintf(names[i], sizeof names[i], "layers.%llu.attention",
                       (unsigned long long)place);
        descs[i].name = names[i];
        descs[i].access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
        check(lend_memory_system(memory + place * REGION_BYTES, REGION_BYTES, &descs[i].memory,
                                 &error),
              &error);
    }
    struct lend_agent *agent = null_agent_create("owner");

    uint64_t began = samples_now_ns();
    check(lend_region_register(agent, descs, count, regions, NULL, &error), &error);
    uint64_t registered = samples_now_ns();
    for (uint32_t i = 0; i < count; i++)
        check(lend_region_deregister(regions[i], &error), &error);
    uint64_t gone = samples_now_ns();
    printf("%.0f %.0f\n", (double)(registered - began) / count,
           (double)(gone - registered) / count);

    lend_agent_destroy(agent);
    free(descs);
    free(regions);
    free(names);
    return 0;
}
