/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 128, SMALL_BYTES = 4096 };
static const double POST_NS_MAX = 2e6;

struct samples {
    double *ns;
    size_t count;
    size_t capacity;
    bool is_least; /* of one of them at least */
};

struct row {
    struct sample first; /* its name, count and bytes */
    struct samples of[LIBRARIES];
};

struct report {
    struct row rows[ROWS_MAX];
    size_t count;
};

struct report *report_create(void)
{
    return calloc(1, sizeof(struct report));
}

void report_destroy(struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        for (int library = 0; library < LIBRARIES; library++)
            free(report->rows[i].of[library].ns);
    }
    free(report);
}

static struct row *find_row(struct report *report, const struct sample *sample)
{
    for (size_t i = 0; i < report->count; i++) {
        struct row *row = &report->rows[i];

        if (strcmp(row->first.what, sample->what) == 0 && row->first.count == sample->count &&
            row->first.bytes == sample->bytes)
            return row;
    }
    if (report->count == ROWS_MAX)
        return NULL;
    report->rows[report->count].first = *sample;
    return &report->rows[report->count++];
}

void report_add(struct report *report, int library, const struct sample *sample)
{
    struct row *row = find_row(report, sample);

    if (row == NULL)
        return;
    struct samples *samples = &row->of[library];
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity != 0 ? 2 * samples->capacity : 64;
        double *grown = realloc(samples->ns, capacity * sizeof *grown);

        if (grown == NULL)
            return;
        samples->ns = grown;
        samples->capacity = capacity;
    }
    samples->ns[samples->count++] = sample->ns;
    samples->is_least |= sample->is_least != 0;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

/* 0 where nothing was measured. */
static double median(const struct samples *samples)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->ns, samples->count, sizeof *samples->ns, compare);
    return (samples->ns[samples->count / 2] + samples->ns[(samples->count - 1) / 2]) / 2;
}

/* How many times longer the other library takes. */
static double ratio_of(const struct row *row)
{
    double ours = median(&row->of[OURS]);

    return ours > 0 ? median(&row->of[THEIRS]) / ours : 0;
}

static bool is_post_of_many(const struct row *row)
{
    return strncmp(row->first.what, "of that, post", 13) == 0 && row->first.count == 16384;
}

/* What was set out to be reached; NULL where it cannot be told. */
static const char *judge(const struct row *row)
{
    double ours = median(&row->of[OURS]), ratio = ratio_of(row);
    bool is_small =
        strncmp(row->first.what, "scattered", 9) == 0 && row->first.bytes <= SMALL_BYTES;

    if (is_post_of_many(row))
        return ours == 0 ? NULL : ours < POST_NS_MAX ? "under 2 ms: met" : "under 2 ms: missed";
    if (ours == 0 || row->of[THEIRS].count == 0)
        return NULL;
    if (is_small)
        return ratio >= 2 ? "twice as fast: met" : "twice as fast: missed";
    return ratio >= 1 ? "not slower: met" : "not slower: missed";
}

static void print_median(char *text, size_t capacity, const struct samples *samples)
{
    double ns = median(samples);
    const char *over = samples->is_least ? "over " : "";

    if (samples->count == 0)
        snprintf(text, capacity, "-");
    else if (ns < 1e3)
        snprintf(text, capacity, "%s%.1f ns", over, ns);
    else if (ns < 1e6)
        snprintf(text, capacity, "%s%.2f us", over, ns / 1e3);
    else
        snprintf(text, capacity, "%s%.2f ms", over, ns / 1e6);
}

void report_print(const struct report *report)
{
    printf("| what | count | bytes | lend | NVIDIA's | times | target |\n"
           "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < report->count; i++) {
        const struct row *row = &report->rows[i];
        const char *judged = judge(row);
        char texts[LIBRARIES][24], bytes[24] = "", ratio[24] = "";

        for (int library = 0; library < LIBRARIES; library++)
            print_median(texts[library], sizeof texts[library], &row->of[library]);
        if (row->first.bytes != 0)
            snprintf(bytes, sizeof bytes, "%" PRIu64, row->first.bytes);
        if (row->of[THEIRS].count != 0)
            snprintf(ratio, sizeof ratio, "%.2f", ratio_of(row));
        printf("| %s | %" PRIu64 " | %s | %s | %s | %s | %s |\n", row->first.what, row->first.count,
               bytes, texts[OURS], texts[THEIRS], ratio, judged != NULL ? judged : "");
    }
}

static json_t *figure(const struct samples *samples)
{
    if (samples->count == 0)
        return json_null();
    double middle = median(samples);

    return json_pack("{s:f, s:f, s:f, s:I, s:b}", "median_ns", middle, "min_ns", samples->ns[0],
                     "max_ns", samples->ns[samples->count - 1], "samples",
                     (json_int_t)samples->count, "is_least", (int)samples->is_least);
}

int report_write_json(const struct report *report, const char *const paths[LIBRARIES],
                      const char *file)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < report->count; i++) {
        const struct row *row = &report->rows[i];

        json_array_append_new(rows,
                              json_pack("{s:s, s:I, s:I, s:o, s:o, s:f, s:s?}", "what",
                                        row->first.what, "count", (json_int_t)row->first.count,
                                        "bytes", (json_int_t)row->first.bytes, "lend",
                                        figure(&row->of[OURS]), "nvidia", figure(&row->of[THEIRS]),
                                        "times", ratio_of(row), "target", judge(row)));
    }
    json_t *all = json_pack("{s:{s:s, s:s?}, s:o}", "libraries", "lend", paths[OURS], "nvidia",
                            paths[THEIRS], "rows", rows);
    int result = all != NULL ? json_dump_file(all, file, JSON_INDENT(1)) : -1;

    json_decref(all);
    return result;
}
