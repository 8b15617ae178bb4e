/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rows as they are shown: a table for people, and JSON. */

struct row *report_row(struct bench *bench, const char *section, const char *what)
{
    struct report *report = &bench->report;
    struct lend_error error;

    if (report->count == BENCH_ROWS_MAX)
        must(trouble(&error, LEND_E_LIMIT, "more than %d rows", BENCH_ROWS_MAX), &error);

    struct row *row = &report->rows[report->count++];
    *row = (struct row){.section = section, .what = what, .direction = ""};
    return row;
}

void row_beside(struct row *row, const char *what, struct samples *samples, double divisor)
{
    struct figure figure = samples_take(samples, divisor);

    if (figure.count > 0 && row->beside_count < BENCH_BESIDE_MAX)
        row->besides[row->beside_count++] = (struct beside){what, figure};
}

void row_share_besides(struct row *row, const struct row *other)
{
    memcpy(row->besides, other->besides, sizeof row->besides);
    row->beside_count = other->beside_count;
}

double row_ratio(const struct row *row, const struct beside *beside)
{
    double ours = figure_median(&row->figure);
    double theirs = figure_median(&beside->figure);

    if (row->measure == MEASURE_RATE)
        return ours > 0 ? theirs / ours : 0;
    return theirs > 0 ? ours / theirs : 0;
}

const char *row_goal(const struct row *row, char *text, size_t capacity)
{
    const struct goal *goal = &row->goal;
    const char *what = row->besides[goal->beside].what;
    char limit[32];

    if (row->figure.count == 0 || goal->kind == GOAL_NONE ||
        (goal->kind != GOAL_TIME && goal->kind != GOAL_P99 && goal->beside >= row->beside_count))
        return NULL;
    (void)print_ns(limit, sizeof limit, (int64_t)goal->limit);
    if (row->measure == MEASURE_BYTES)
        (void)print_bytes(limit, sizeof limit, (uint64_t)goal->limit);
    if (goal->kind == GOAL_P99)
        (void)snprintf(text, capacity, "p99 at most %s", limit);
    else if (goal->kind == GOAL_TIME)
        (void)snprintf(text, capacity, "at most %s%s", limit,
                       row->measure == MEASURE_PER_BLOCK ? " a block" : "");
    else if (goal->kind == GOAL_PLUS)
        (void)snprintf(text, capacity, "at most %s + %s", limit, what);
    else if (goal->kind == GOAL_TIMES)
        (void)snprintf(text, capacity, "at most %.1fx the time of %s", goal->limit, what);
    else
        (void)snprintf(text, capacity, "at least %.2fx %s", goal->limit, what);
    return text;
}

bool row_is_met(const struct row *row)
{
    double ours = figure_median(&row->figure);
    double theirs = figure_median(&row->besides[row->goal.beside].figure);

    switch (row->goal.kind) {
    case GOAL_TIME: return ours <= row->goal.limit;
    case GOAL_P99: return figure_p99(&row->figure) <= row->goal.limit;
    case GOAL_PLUS: return ours <= row->goal.limit + theirs;
    case GOAL_TIMES: return ours <= row->goal.limit * theirs;
    case GOAL_SHARE: return theirs >= row->goal.limit * ours; /* the rates are as 1 / times */
    case GOAL_NONE:
    default: return true;
    }
}

/* --- JSON --- */

static json_t *percentiles_json(const struct figure *figure)
{
    json_t *object = json_object();
    char key[16];

    for (int i = 0; i < BENCH_PERCENTS; i++) {
        (void)snprintf(key, sizeof key, "%.0f", bench_percents[i]);
        (void)json_object_set_new(object, key, json_real(figure->ns[i]));
    }
    return object;
}

static json_t *besides_json(const struct row *row)
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < row->beside_count; i++) {
        const struct beside *beside = &row->besides[i];

        (void)json_array_append_new(array, json_pack("{s:s, s:f, s:f, s:f}", "what", beside->what,
                                                     "median_ns", figure_median(&beside->figure),
                                                     "p99_ns", figure_p99(&beside->figure), "ratio",
                                                     row_ratio(row, beside)));
    }
    return array;
}

static double rate_of_row(const struct row *row, const struct figure *figure)
{
    return rate_of(row->block_bytes * row->block_count, (uint64_t)figure_median(figure));
}

static json_t *row_json(const struct row *row)
{
    static const char *const measures[] = {"time", "time_per_block", "rate", "bytes"};
    char text[128];
    const char *goal = row_goal(row, text, sizeof text);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:I}", "what", row->what, "path",
                  row->path, "direction", row->direction, "measure", measures[row->measure],
                  "block_bytes", (json_int_t)row->block_bytes, "block_count",
                  (json_int_t)row->block_count, "samples", (json_int_t)row->figure.count, "beside",
                  besides_json(row), "verified_bytes", (json_int_t)row->verified_bytes);

    (void)json_object_set_new(object, "how",
                              row->how == NULL ? json_null() : json_string(row->how));
    if (row->figure.count == 0) {
        (void)json_object_set_new(object, "why",
                                  json_pack("{s:s, s:s}", "status",
                                            lend_status_name(row->why.status), "text",
                                            row->why.message));
        return object;
    }
    (void)json_object_set_new(object, "why", json_null());
    if (row->measure == MEASURE_BYTES) {
        (void)json_object_set_new(object, "bytes",
                                  json_integer((json_int_t)figure_median(&row->figure)));
    } else {
        (void)json_object_set_new(object, "median_ns", json_real(figure_median(&row->figure)));
        (void)json_object_set_new(object, "p99_ns", json_real(figure_p99(&row->figure)));
        (void)json_object_set_new(object, "percentiles_ns", percentiles_json(&row->figure));
    }
    if (row->measure == MEASURE_RATE)
        (void)json_object_set_new(object, "bytes_per_second",
                                  json_real(rate_of_row(row, &row->figure)));
    (void)json_object_set_new(
        object, "target",
        goal == NULL ? json_null()
                     : json_pack("{s:s, s:b}", "text", goal, "is_met", (int)row_is_met(row)));
    return object;
}

json_t *report_json(const struct bench *bench, const char *const *sections, size_t count)
{
    json_t *all = json_object();

    for (size_t i = 0; i < count; i++) {
        json_t *rows = json_array();

        for (uint32_t r = 0; r < bench->report.count; r++)
            if (strcmp(bench->report.rows[r].section, sections[i]) == 0)
                (void)json_array_append_new(rows, row_json(&bench->report.rows[r]));
        (void)json_object_set_new(all, sections[i], rows);
    }
    return json_pack("{s:s, s:o, s:i, s:I, s:b, s:o}", "version", lend_version(), "machine",
                     machine_json(), "rounds", (int)bench->rounds, "bytes",
                     (json_int_t)bench->bytes, "is_quick", (int)bench->is_quick, "sections", all);
}

/* --- tables --- */

static const char *print_figure(char *text, size_t capacity, const struct row *row,
                                const struct figure *figure, double ns)
{
    if (row->measure == MEASURE_RATE)
        return print_rate(text, capacity, rate_of_row(row, figure));
    if (row->measure == MEASURE_BYTES)
        return print_bytes(text, capacity, (uint64_t)ns);
    if (row->measure == MEASURE_PER_BLOCK)
        (void)snprintf(text, capacity, "%.1f ns/block", ns);
    else if (ns < 1e3)
        (void)snprintf(text, capacity, "%.1f ns", ns);
    else
        (void)print_ns(text, capacity, (int64_t)ns);
    return text;
}

static void print_besides(char *text, size_t capacity, const struct row *row)
{
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < row->beside_count && used < capacity; i++) {
        const struct beside *beside = &row->besides[i];
        char figure[32], late[32], p99[48] = "";

        (void)print_figure(figure, sizeof figure, row, &beside->figure,
                           figure_median(&beside->figure));
        if (row->goal.kind == GOAL_P99) {
            (void)print_figure(late, sizeof late, row, &beside->figure,
                               figure_p99(&beside->figure));
            (void)snprintf(p99, sizeof p99, ", p99 %s", late);
        }
        used +=
            (size_t)snprintf(text + used, capacity - used, "%s%.2fx %s (%s%s)", i > 0 ? ", " : "",
                             row_ratio(row, beside), beside->what, figure, p99);
    }
}

static void print_blocks(char *text, size_t capacity, const struct row *row)
{
    char size[32];

    text[0] = '\0';
    if (row->block_count > 0)
        (void)snprintf(text, capacity, "%" PRIu64 " x %s", row->block_count,
                       print_bytes(size, sizeof size, row->block_bytes));
}

static void print_row(struct libscols_table *table, const struct row *row)
{
    char what[128], blocks[64], figure[32] = "-", p99[32] = "", besides[400], goal[128],
                                verdict[160];

    (void)snprintf(what, sizeof what, "%s%s%s", row->what, row->direction[0] != '\0' ? ", " : "",
                   row->direction);
    print_blocks(blocks, sizeof blocks, row);
    verdict[0] = '\0';
    if (row->figure.count == 0) {
        (void)snprintf(besides, sizeof besides, "%s: %s", lend_status_name(row->why.status),
                       row->why.message);
    } else {
        (void)print_figure(figure, sizeof figure, row, &row->figure, figure_median(&row->figure));
        if (row->measure != MEASURE_RATE && row->measure != MEASURE_BYTES)
            (void)print_figure(p99, sizeof p99, row, &row->figure, figure_p99(&row->figure));
        print_besides(besides, sizeof besides, row);
        if (row_goal(row, goal, sizeof goal) != NULL)
            (void)snprintf(verdict, sizeof verdict, "%s: %s", goal,
                           row_is_met(row) ? "met" : "missed");
    }
    table_row(table, (const char *const[]){what, row->path, blocks, figure, p99, besides, verdict});
}

void report_print(const struct bench *bench, const char *section)
{
    const char *const headings[] = {section, "path",   ">blocks", ">median",
                                    ">p99",  "beside", "target"};
    struct libscols_table *table = table_create(headings, sizeof headings / sizeof headings[0]);

    for (uint32_t i = 0; i < bench->report.count; i++)
        if (strcmp(bench->report.rows[i].section, section) == 0)
            print_row(table, &bench->report.rows[i]);
    table_print(table);
    for (uint32_t i = 0; i < bench->report.count; i++) {
        const struct row *row = &bench->report.rows[i];

        if (strcmp(row->section, section) == 0 && row->how != NULL)
            (void)printf("%s: %s.\n", row->what, row->how);
    }
}
