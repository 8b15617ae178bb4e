/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_BENCH_H
#define LEND_TOOL_BENCH_H

#include <jansson.h>
#include <lend/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What `lend bench' measures, and how it is kept.
 *
 * Everything is measured beside its raw peer: in the same rounds, in turns, so that what disturbs
 * the machine disturbs both. What is told are medians, and their ratio.
 *
 * A failure that was not looked for ends the program with the reason: must() below. The other
 * process ends with the first one.
 */

#define BENCH_SECOND_NS UINT64_C(1000000000)

enum { BENCH_BESIDE_MAX = 3, BENCH_ROWS_MAX = 192, BENCH_PERCENTS = 8 };

/* --- samples (bench_sample.c) --- */

/* Times in nanoseconds, as many as are added. */
struct samples {
    double *ns;
    size_t count;
    size_t capacity;
};

/* What many samples come to. */
struct figure {
    size_t count; /* of samples; 0: it was not measured */
    double ns[BENCH_PERCENTS];
};
extern const double bench_percents[BENCH_PERCENTS];

void samples_add(struct samples *samples, double ns);
/* Their figure, each divided by that (by blocks, say); frees them. */
struct figure samples_take(struct samples *samples, double divisor);
double figure_median(const struct figure *figure);
double figure_p99(const struct figure *figure);

/* --- the report (bench_report.c) --- */

enum measure {
    MEASURE_TIME,      /* nanoseconds */
    MEASURE_PER_BLOCK, /* nanoseconds a block */
    MEASURE_RATE,      /* bytes a second, from the time for all the blocks */
    MEASURE_BYTES,     /* no time at all: bytes */
};

/* The same by raw means. */
struct beside {
    const char *what;
    struct figure figure;
};

/* What docs/budgets.md wants of it. */
enum goal_kind {
    GOAL_NONE,
    GOAL_TIME,  /* at most limit nanoseconds, or bytes */
    GOAL_P99,   /* at most limit nanoseconds at the 99th percentile */
    GOAL_PLUS,  /* at most limit nanoseconds more than the raw peer */
    GOAL_TIMES, /* at most limit times the raw peer's time */
    GOAL_SHARE, /* at least limit times the raw peer's rate */
};
struct goal {
    enum goal_kind kind;
    double limit;
    uint32_t beside; /* which raw peer */
};

struct row {
    const char *section;
    const char *what;
    const char *direction; /* "read", "write", or "" */
    char path[32];         /* or "" */
    uint64_t block_bytes;  /* 0: it has no blocks */
    uint64_t block_count;
    enum measure measure;
    struct figure figure;
    struct beside besides[BENCH_BESIDE_MAX];
    uint32_t beside_count;
    struct goal goal;
    uint64_t verified_bytes; /* bytes that were looked at and found right */
    struct lend_error why;   /* if it was not measured */
    const char *how;         /* NULL, or what should be said of the method */
};

struct report {
    struct row rows[BENCH_ROWS_MAX];
    uint32_t count;
};

struct network;

struct bench {
    uint32_t rounds;
    uint64_t bytes;          /* of a transfer of the bandwidth section */
    struct network *network; /* of section network; else NULL */
    bool is_quick;           /* fewer samples, so that a test can run it */
    struct report report;
};

/* A new row, to be filled. Never NULL. */
struct row *report_row(struct bench *bench, const char *section, const char *what);
/* Beside what: takes the samples. Nothing is added if there are none. */
void row_beside(struct row *row, const char *what, struct samples *samples, double divisor);
/* The raw peers of another row, of the same rounds. */
void row_share_besides(struct row *row, const struct row *other);
/* How its figure stands to that raw peer's: of rates if it is a rate, else of times. */
double row_ratio(const struct row *row, const struct beside *beside);
/* The goal in words; NULL: none, or what it is beside was not measured. */
const char *row_goal(const struct row *row, char *text, size_t capacity);
bool row_is_met(const struct row *row);

/* The rows of one section, and all: with the machine. NULL: no memory. */
json_t *report_json(const struct bench *bench, const char *const *sections, size_t count);
/* Print the table of a section. */
void report_print(const struct bench *bench, const char *section);

/* --- the machine (bench_machine.c) --- */

/* NULL: no memory. */
json_t *machine_json(void);
void machine_print(void);

/* --- the sections (bench_SECTION.c) --- */

void bench_setup(struct bench *bench);
void bench_post(struct bench *bench);
void bench_latency(struct bench *bench);
void bench_bandwidth(struct bench *bench);
void bench_notification(struct bench *bench);
void bench_lease(struct bench *bench);
void bench_network(struct bench *bench);

/* --- small things (bench_sample.c) --- */

/* End the program with the reason, unless all is well. */
void must(enum lend_status status, const struct lend_error *error);
/* The same for a system call, with errno. */
void must_sys(bool is_well, const char *what);
/* End the program if it is later: the other process does not answer. */
void must_be_before(uint64_t until_ns);
/* Zeroed; never NULL. */
void *must_allocate(size_t count, size_t bytes);
/* Memory of that many bytes, every page of it touched. */
unsigned char *must_map(uint64_t bytes);
/* The numbers 0 .. count - 1 in an order that the seed decides. */
int32_t *must_permute(uint64_t count, uint64_t seed);

#endif
