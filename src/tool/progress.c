/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/progress.h"

#include "tool/trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };

static const uint64_t draw_after_ns = 1000000000;
static const uint64_t draw_again_ns = 100000000;

struct progress progress_start(const char *label, uint64_t total)
{
    return (struct progress){.label = label, .total = total, .started_ns = now_ns()};
}

void progress_step(struct progress *progress)
{
    uint64_t now = now_ns();

    progress->done++;
    if (now - progress->started_ns < draw_after_ns || now - progress->drawn_ns < draw_again_ns ||
        isatty(STDERR_FILENO) == 0)
        return;

    char bar[BAR_CELLS + 1] = {0};
    uint64_t full = progress->done * BAR_CELLS / progress->total;
    for (uint64_t i = 0; i < BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    (void)fprintf(stderr, "\r%s [%s] %3" PRIu64 " %%", progress->label, bar,
                  progress->done * 100 / progress->total);
    progress->drawn_ns = now;
}

void progress_end(struct progress *progress)
{
    if (progress->drawn_ns != 0)
        (void)fprintf(stderr, "\r\033[K");
    progress->drawn_ns = 0;
}
