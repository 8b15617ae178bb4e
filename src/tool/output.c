/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/output.h"

#include "tool/trouble.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>

struct libscols_table *table_create(const char *const *headings, size_t count)
{
    struct libscols_table *table = scols_new_table();

    if (table == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        int is_right = headings[i][0] == '>';

        if (scols_table_new_column(table, headings[i] + is_right, 0,
                                   is_right ? SCOLS_FL_RIGHT : SCOLS_FL_WRAP) == NULL) {
            scols_unref_table(table);
            return NULL;
        }
    }
    return table;
}

void table_row(struct libscols_table *table, const char *const *cells)
{
    struct libscols_line *line = table == NULL ? NULL : scols_table_new_line(table, NULL);

    for (size_t i = 0; line != NULL && i < scols_table_get_ncols(table); i++)
        (void)scols_line_set_data(line, i, cells[i]); /* an empty cell, if there is no memory */
}

void table_print(struct libscols_table *table)
{
    if (table == NULL)
        return;
    (void)scols_print_table(table);
    scols_unref_table(table);
    (void)putchar('\n');
    (void)fflush(stdout);
}

enum lend_status json_show(json_t *value, bool is_one_line, struct lend_error *error)
{
    if (value == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for the JSON of the result");

    int failed = json_dumpf(value, stdout, is_one_line ? JSON_COMPACT : JSON_INDENT(2));
    json_decref(value);
    if (failed != 0 || putchar('\n') == EOF || fflush(stdout) != 0)
        return trouble_errno(error, "the result cannot be written to standard output");
    return LEND_OK;
}

const char *print_bytes(char *text, size_t capacity, uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(text, capacity, "%" PRIu64 " B", bytes);
        return text;
    }
    while (value >= 1024 && unit < 3) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, capacity, "%.1f %s", value, units[unit]);
    return text;
}

const char *print_ns(char *text, size_t capacity, int64_t ns)
{
    double size = ns < 0 ? -(double)ns : (double)ns;

    if (size < 1e3)
        (void)snprintf(text, capacity, "%" PRId64 " ns", ns);
    else if (size < 1e6)
        (void)snprintf(text, capacity, "%.1f us", (double)ns / 1e3);
    else if (size < 1e9)
        (void)snprintf(text, capacity, "%.2f ms", (double)ns / 1e6);
    else
        (void)snprintf(text, capacity, "%.2f s", (double)ns / 1e9);
    return text;
}

const char *print_rate(char *text, size_t capacity, double bytes_per_second)
{
    (void)snprintf(text, capacity, "%.2f GB/s", bytes_per_second / 1e9);
    return text;
}

double rate_of(uint64_t bytes, uint64_t ns)
{
    return ns == 0 ? 0 : (double)bytes * 1e9 / (double)ns;
}
