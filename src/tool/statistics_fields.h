/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_STATISTICS_FIELDS_H
#define LEND_TOOL_STATISTICS_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers of a statistics page that stand by themselves: what JSON and Prometheus call them. */

struct lend_statistics;

struct statistics_field {
    const char *name;   /* as in struct lend_statistics */
    const char *metric; /* fields of one metric follow one another */
    const char *label;  /* that tells them apart, and its value; NULL: none */
    const char *value;
    const char *help;
    bool is_counter;
    size_t offset;
};

extern const struct statistics_field statistics_fields[];
extern const size_t statistics_fields_count;

uint64_t statistics_field_of(const struct lend_statistics *page, size_t index);

#endif
