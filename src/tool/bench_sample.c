/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench.h"
#include "tool/dice.h"
#include "tool/trouble.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SAMPLES_FIRST = 256 };

const double bench_percents[BENCH_PERCENTS] = {0, 10, 25, 50, 75, 90, 99, 100};

void samples_add(struct samples *samples, double ns)
{
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity == 0 ? SAMPLES_FIRST : 2 * samples->capacity;
        double *grown = realloc(samples->ns, capacity * sizeof *grown);

        must_sys(grown != NULL, "memory for samples");
        samples->ns = grown;
        samples->capacity = capacity;
    }
    samples->ns[samples->count++] = ns;
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;

    return (a > b) - (a < b);
}

struct figure samples_take(struct samples *samples, double divisor)
{
    struct figure figure = {.count = samples->count};

    if (samples->count > 0)
        qsort(samples->ns, samples->count, sizeof *samples->ns, compare);
    for (int i = 0; samples->count > 0 && i < BENCH_PERCENTS; i++) {
        double place = bench_percents[i] / 100 * (double)(samples->count - 1);

        figure.ns[i] = samples->ns[(size_t)(place + 0.5)] / divisor;
    }
    free(samples->ns);
    *samples = (struct samples){0};
    return figure;
}

double figure_median(const struct figure *figure)
{
    return figure->ns[3];
}

double figure_p99(const struct figure *figure)
{
    return figure->ns[6];
}

void must(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    trouble_tell(error);
    exit(EXIT_TROUBLE);
}

void must_sys(bool is_well, const char *what)
{
    struct lend_error error;

    if (!is_well)
        must(trouble_errno(&error, "%s", what), &error);
}

void must_be_before(uint64_t until_ns)
{
    struct lend_error error;

    if (now_ns() >= until_ns)
        must(trouble(&error, LEND_E_TIMEOUT, "the other process does not answer"), &error);
}

void *must_allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);

    must_sys(memory != NULL, "memory for the benchmark");
    return memory;
}

unsigned char *must_map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must_sys(memory != MAP_FAILED, "memory for blocks; try fewer --bytes");
    memset(memory, 1, bytes);
    return memory;
}

int32_t *must_permute(uint64_t count, uint64_t seed)
{
    int32_t *numbers = must_allocate(count, sizeof *numbers);
    struct lend_error error;

    must(dice_draw(seed, (uint32_t)count, (uint32_t)count, numbers, &error), &error);
    return numbers;
}
