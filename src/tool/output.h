/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_OUTPUT_H
#define LEND_TOOL_OUTPUT_H

#include "tool/progress.h"

#include <jansson.h>
#include <lend/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the command shows: tables for people, and JSON for programs. */

struct libscols_table;

enum { TABLE_COLUMNS_MAX = 8 };

/* A table with those columns; a heading that begins with '>' is of a column set to the right. NULL:
 * no memory. */
struct libscols_table *table_create(const char *const *headings, size_t count);
/* Add a row of as many cells as there are columns. A row that finds no memory is left out. */
void table_row(struct libscols_table *table, const char *const *cells);
/* Print it to stdout, and free it. */
void table_print(struct libscols_table *table);

/* Print a value to stdout, over several lines or on one, and give it back. LEND_E_NO_MEMORY: it is
 * NULL. */
enum lend_status json_show(json_t *value, bool is_one_line, struct lend_error *error);

/* Sizes, times and rates for people: "64.0 MiB", "1.24 ms", "5.31 GB/s". They return text. */
const char *print_bytes(char *text, size_t capacity, uint64_t bytes);
const char *print_ns(char *text, size_t capacity, int64_t ns);
const char *print_rate(char *text, size_t capacity, double bytes_per_second);

/* A rate in bytes a second; 0 if no time passed. */
double rate_of(uint64_t bytes, uint64_t ns);

#endif
