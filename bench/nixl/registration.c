/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "side.h"

#include <stdio.h>
#include <stdlib.h>

enum { STRIDE = 8192, LENGTH = 4096 };

/* Theirs searches from one end, and 100,000 take it minutes: then it is the mean of what was done.
 */
static const uint64_t STOP_NS = 10000000000u;

typedef nixl_capi_status_t (*call)(nixl_capi_agent_t agent, nixl_capi_reg_dlist_t list,
                                   nixl_capi_opt_args_t options);

/* One call for each list, until the time is over; how many that were. */
static uint64_t call_each(struct side *side, call function, const nixl_capi_reg_dlist_t *lists,
                          uint64_t count, const char *what, uint64_t row)
{
    uint64_t began = now_ns(), done = 0;

    while (done < count && ((done & 255) != 0 || now_ns() - began < STOP_NS))
        api_check(function(side->agent, lists[done++], side->options), what);
    double mean = (double)(now_ns() - began) / (double)done;

    if (done < count)
        sample_give_least(what, row, 0, mean);
    else
        sample_give(what, row, 0, mean);
    return done;
}

static int times_of(uint64_t count)
{
    if (count == 1)
        return 1000; /* what takes a microsecond, until caches know it */
    return count > 10000 ? 1 : 20;
}

/* The lists are made before the clock runs. */
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
    for (int i = 0; i < times_of(count); i++) {
        snprintf(what, sizeof what, "register, %s, each", name);
        uint64_t registered = call_each(side, side->api.register_mem, lists, count, what, count);
        snprintf(what, sizeof what, "deregister, %s, each", name);
        (void)call_each(side, side->api.deregister_mem, lists, registered, what, count);
    }
    free(lists); /* their elements go with the process */
}

static void open_side(struct side *side, const char *library, uint64_t count)
{
    side_open(side, library, "registration", count * STRIDE);
    /* What happens at the first only. */
    side_register(side, side_list(side, 1, STRIDE, 1));
}

void measure_one_call(const char *library, uint64_t count)
{
    struct side side;

    open_side(&side, library, count);
    nixl_capi_reg_dlist_t list = side_list(&side, count, STRIDE, LENGTH);

    for (int i = 0; i < times_of(count); i++) {
        uint64_t began = now_ns();

        side_register(&side, list);
        uint64_t registered = now_ns();
        DO(side.api.deregister_mem(side.agent, list, side.options));
        uint64_t ended = now_ns();

        sample_give("register in one call, each", count, 0,
                    (double)(registered - began) / (double)count);
        sample_give("deregister in one call, each", count, 0,
                    (double)(ended - registered) / (double)count);
    }
}

static void measure(const char *library, const char *name, uint32_t *order, uint64_t count)
{
    struct side side;

    open_side(&side, library, count);
    measure_order(&side, name, order, count);
    free(order);
}

void measure_ascending(const char *library, uint64_t count)
{
    uint32_t *order = side_shuffle(count, 7);

    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    measure(library, "ascending", order, count);
}

void measure_descending(const char *library, uint64_t count)
{
    uint32_t *order = side_shuffle(count, 7);

    for (uint64_t i = 0; i < count; i++)
        order[i] = (uint32_t)(count - 1 - i);
    measure(library, "descending", order, count);
}

void measure_random(const char *library, uint64_t count)
{
    measure(library, "random", side_shuffle(count, 7), count);
}
