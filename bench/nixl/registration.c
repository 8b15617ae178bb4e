/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "side.h"

#include <stdio.h>
#include <stdlib.h>

enum { STRIDE = 8192, LENGTH = 4096 };

/* One call for each descriptor, in that order. The lists are made before the clock runs. */
static void measure_order(struct side *side, const char *name, const uint32_t *order,
                          uint64_t count)
{
    char what[48];
    nixl_capi_reg_dlist_t *lists = malloc(count * sizeof *lists);

    if (lists == NULL)
        die("no memory for lists");
    for (uint64_t i = 0; i < count; i++) {
        DO(side->api.create_reg_dlist(NIXL_CAPI_MEM_DRAM, &lists[i]));
        DO(side->api.reg_dlist_add_desc(lists[i], (uintptr_t)side->memory + order[i] * STRIDE,
                                        LENGTH, 0, NULL, 0));
    }
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < count; i++)
        DO(side->api.register_mem(side->agent, lists[i], side->options));
    uint64_t registered = now_ns();
    for (uint64_t i = 0; i < count; i++)
        DO(side->api.deregister_mem(side->agent, lists[i], side->options));
    uint64_t ended = now_ns();

    snprintf(what, sizeof what, "register, %s, each", name);
    sample_give(what, count, 0, (double)(registered - began) / (double)count);
    snprintf(what, sizeof what, "deregister, %s, each", name);
    sample_give(what, count, 0, (double)(ended - registered) / (double)count);
    for (uint64_t i = 0; i < count; i++)
        DO(side->api.destroy_reg_dlist(lists[i]));
    free(lists);
}

static void measure_one_call(struct side *side, uint64_t count)
{
    nixl_capi_reg_dlist_t list = side_list(side, count, STRIDE, LENGTH);
    uint64_t began = now_ns();

    DO(side->api.register_mem(side->agent, list, side->options));
    uint64_t registered = now_ns();
    DO(side->api.deregister_mem(side->agent, list, side->options));
    sample_give("register in one call, each", count, 0,
                (double)(registered - began) / (double)count);
    sample_give("deregister in one call, each", count, 0,
                (double)(now_ns() - registered) / (double)count);
    DO(side->api.destroy_reg_dlist(list));
}

void measure_registration(const char *library, uint64_t count)
{
    struct side side;
    uint32_t *order = side_shuffle(count, 7);

    side_open(&side, library, "registration", count * STRIDE);
    DO(side.api.register_mem(side.agent, side_list(&side, 1, STRIDE, 1),
                             side.options)); /* the first */
    measure_one_call(&side, count);
    measure_order(&side, "random", order, count);
    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    measure_order(&side, "ascending", order, count);
    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)(count - 1 - i);
    measure_order(&side, "descending", order, count);
    free(order);
}
