/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_STATISTICS_FILE_H
#define LEND_TOOL_STATISTICS_FILE_H

#include <lend/statistics.h>
#include <lend/status.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * The statistics pages in a folder, as they were at one moment. What is read may be anybody's work:
 * files are read, never mapped, so that one that is cut meanwhile is an error and not a signal;
 * each row is copied once, under its sequence; and every name is made fit to print.
 */

enum statistics_state {
    STATISTICS_LIVE,
    STATISTICS_STALE,     /* its agent was killed */
    STATISTICS_UNREADABLE /* for that reason */
};

enum { STATISTICS_INCARNATION_BYTES = 9, STATISTICS_ROW_TRIES = 100 };

struct statistics_file {
    char name[256]; /* fit to print */
    enum statistics_state state;
    char reason[192];
    char incarnation[STATISTICS_INCARNATION_BYTES]; /* as the file's name has it */
    uint32_t rows_skipped;                          /* that were being written at every look */
    struct lend_statistics *page;                   /* a copy, owned; NULL: unreadable */
};

struct statistics_list {
    const char *directory; /* points into made, or is the caller's */
    char made[32];
    uint64_t taken_ns;    /* CLOCK_BOOTTIME */
    uint64_t files_count; /* by name */
    uint64_t omitted;     /* more than are looked at */
    struct statistics_file *files;
};

/* Read all that there are; NULL: the library's default folder, where there may be none. Give back
 * with statistics_list_fini(), unless it fails. */
enum lend_status statistics_list_read(const char *directory, struct statistics_list *out,
                                      struct lend_error *error);
void statistics_list_fini(struct statistics_list *list);

/* The same agent's file of an earlier look, or NULL. */
const struct statistics_file *statistics_list_find(const struct statistics_list *list,
                                                   const struct statistics_file *file);

/* From then to now; 0 if a page says that it is still to come. */
static inline uint64_t statistics_age_ns(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Has the path a name, and one that no row before it has? */
bool statistics_path_is_told(const struct lend_statistics *page, size_t index);

#endif
