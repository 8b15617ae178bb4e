/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NIXL_BENCH_BENCH_H
#define NIXL_BENCH_BENCH_H

#include <stdint.h>

/*
 * Each section is measured by processes of its own, of one library or of the other in turn, so that
 * a progress thread of one does not take the processor of the other. What they measure goes to the
 * program that started them, as samples.
 */
struct sample {
    char what[48];
    uint64_t count; /* of descriptors, or pieces */
    uint64_t bytes; /* of each; 0: it does not matter */
    double ns;
    int is_least; /* it was stopped, and would have been more */
};

/* With the file of the library, and the section's argument. */
struct section {
    const char *name;
    void (*measure)(const char *library, uint64_t argument);
    uint64_t argument;
};

void measure_one_call(const char *library, uint64_t count);
void measure_ascending(const char *library, uint64_t count);
void measure_descending(const char *library, uint64_t count);
void measure_random(const char *library, uint64_t count);
void measure_exchange(const char *library, uint64_t count);
void measure_notification(const char *library, uint64_t count);
void measure_scatter(const char *library, uint64_t piece_bytes);

/* To the program that started this process. */
void sample_give(const char *what, uint64_t count, uint64_t bytes, double ns);
void sample_give_least(const char *what, uint64_t count, uint64_t bytes, double ns);
uint64_t now_ns(void);

/* What became of it all. */
enum { OURS, THEIRS, LIBRARIES };
struct report;

struct report *report_create(void);
void report_destroy(struct report *report);
void report_add(struct report *report, int library, const struct sample *sample);
void report_print(const struct report *report);
/* 0, or -1 with errno. */
int report_write_json(const struct report *report, const char *const paths[LIBRARIES],
                      const char *file);

#endif
