/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/top.h"

#include "tool/commands.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <argp.h>
#include <inttypes.h>
#include <lend/region.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `lend top`: the agents of this machine, who holds what of theirs, and what moves. */

enum {
    KEY_DIRECTORY = 0x100,
    KEY_ONCE,
    KEY_JSON,
    KEY_INTERVAL,
    COLUMNS_MAX = 11,
    CELL_BYTES = 80,
    ROWS_SHOWN = 20, /* of a table that is drawn again and again */
};

struct top {
    const char *directory;
    bool is_once;
    bool is_json;
    uint64_t interval_ns;
};

/* A row of a table while it is written. */
struct cells {
    uint32_t count;
    const char *texts[COLUMNS_MAX];
    char storage[COLUMNS_MAX][CELL_BYTES];
};

/* --- comparing two looks --- */

double top_rate(const struct top_view *view, uint64_t now, uint64_t before)
{
    return now > before ? rate_of(now - before,
                                  statistics_age_ns(view->now->taken_ns, view->before->taken_ns))
                        : 0;
}

const struct lend_statistics_peer *top_peer_before(const struct top_view *view,
                                                   const struct statistics_file *file, size_t at)
{
    const struct statistics_file *old = statistics_list_find(view->before, file);
    const struct lend_statistics_peer *row = old != NULL ? &old->page->peer_rows[at] : NULL;

    return row != NULL && row->id == file->page->peer_rows[at].id ? row : NULL;
}

const struct lend_statistics_path *top_path_before(const struct top_view *view,
                                                   const struct statistics_file *file, size_t at)
{
    const struct statistics_file *old = statistics_list_find(view->before, file);
    const struct lend_statistics_path *row = old != NULL ? &old->page->paths[at] : NULL;

    return row != NULL && strcmp(row->name, file->page->paths[at].name) == 0 ? row : NULL;
}

/* --- cells --- */

static void add_cell(struct cells *cells, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_cell(struct cells *cells, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(cells->storage[cells->count], CELL_BYTES, format, arguments);
    va_end(arguments);
    cells->texts[cells->count] = cells->storage[cells->count];
    cells->count++;
}

static void add_count(struct cells *cells, uint64_t value)
{
    add_cell(cells, "%" PRIu64, value);
}

static void add_bytes(struct cells *cells, uint64_t bytes)
{
    char text[32];

    add_cell(cells, "%s", print_bytes(text, sizeof text, bytes));
}

static void add_rate(struct cells *cells, double bytes_per_second)
{
    add_cell(cells, "%.2f MB/s", bytes_per_second / 1e6);
}

static void add_age(struct cells *cells, uint64_t ns)
{
    uint64_t seconds = ns / 1000000000;

    if (seconds < 60)
        add_cell(cells, "%.1f s", (double)ns / 1e9);
    else if (seconds < 3600)
        add_cell(cells, "%" PRIu64 "m %02" PRIu64 "s", seconds / 60, seconds % 60);
    else if (seconds < 86400)
        add_cell(cells, "%" PRIu64 "h %02" PRIu64 "m", seconds / 3600, seconds / 60 % 60);
    else
        add_cell(cells, "%" PRIu64 "d %02" PRIu64 "h", seconds / 86400, seconds / 3600 % 24);
}

/* A table that may have only so many rows. */
struct sheet {
    struct libscols_table *table;
    uint64_t rows;
    uint64_t rows_max;
};

static void add_row(struct sheet *sheet, const struct cells *cells)
{
    if (sheet->rows++ < sheet->rows_max)
        table_row(sheet->table, cells->texts);
}

static void print_sheet(const struct sheet *sheet, const char *title)
{
    if (sheet->rows == 0) {
        scols_unref_table(sheet->table);
        return;
    }
    (void)printf("%s\n", title);
    if (sheet->rows > sheet->rows_max)
        (void)printf("(%" PRIu64 " of %" PRIu64 "; --once shows all)\n", sheet->rows_max,
                     sheet->rows);
    table_print(sheet->table);
}

#define SHEET(limit, ...)                                                                          \
    (struct sheet)                                                                                 \
    {                                                                                              \
        .table = table_create((const char *const[]){__VA_ARGS__},                                  \
                              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)),        \
        .rows_max = (limit),                                                                       \
    }

/* --- the tables --- */

static void show_agents(const struct top_view *view, uint64_t limit)
{
    struct sheet sheet = SHEET(limit, "agent", ">pid", "state", ">up", ">regions", ">lent",
                               ">leases", ">peers", ">served", ">serving", ">broken off");

    for (uint64_t i = 0; i < view->now->files_count; i++) {
        const struct statistics_file *file = &view->now->files[i], *old;
        const struct lend_statistics *page = file->page;
        struct cells cells = {0};
        double rate = 0;

        if (page == NULL)
            continue;
        old = statistics_list_find(view->before, file);
        if (old != NULL)
            rate = top_rate(view, page->bytes_served_read, old->page->bytes_served_read) +
                   top_rate(view, page->bytes_served_written, old->page->bytes_served_written);
        add_cell(&cells, "%s", page->name);
        add_count(&cells, page->pid);
        add_cell(&cells, "%s", file->state == STATISTICS_LIVE ? "live" : "stale");
        add_age(&cells, statistics_age_ns(view->now->taken_ns, page->started_ns));
        add_count(&cells, page->regions);
        add_bytes(&cells, page->region_bytes);
        add_count(&cells, page->leases);
        add_count(&cells, page->peers_served);
        add_bytes(&cells, page->bytes_served_read + page->bytes_served_written);
        add_rate(&cells, rate);
        add_count(&cells, page->sessions_broken);
        add_row(&sheet, &cells);
    }
    print_sheet(&sheet, "AGENTS");
}

static void add_lease(struct sheet *sheet, const struct top_view *view,
                      const struct statistics_file *file, const struct lend_statistics_lease *row)
{
    static const char *const accesses[] = {"none", "read", "write", "read, write"};
    uint64_t now = view->now->taken_ns;
    struct cells cells = {0};

    add_cell(&cells, "%s", file->page->name);
    add_cell(&cells, "%" PRIx64, row->id);
    if (row->region_count > 1)
        add_cell(&cells, "%.60s + %u", row->region, row->region_count - 1);
    else
        add_cell(&cells, "%s", row->region);
    add_count(&cells, row->block_count);
    add_cell(&cells, "%s",
             accesses[row->access & (uint32_t)(LEND_ACCESS_READ | LEND_ACCESS_WRITE)]);
    add_cell(&cells, "%s", row->peer[0] != '\0' ? row->peer : "any bearer");
    add_cell(&cells, "%s", row->last_user[0] != '\0' ? row->last_user : "nobody yet");
    add_age(&cells, statistics_age_ns(now, row->granted_ns));
    if (row->expires_ns != 0)
        add_age(&cells, statistics_age_ns(row->expires_ns, now));
    else
        add_cell(&cells, "never");
    add_count(&cells, row->requests);
    add_bytes(&cells, row->bytes);
    add_row(sheet, &cells);
}

static void show_leases(const struct top_view *view, uint64_t limit)
{
    struct sheet sheet = SHEET(limit, "agent", "lease", "region", ">blocks", "access", "for",
                               "last user", ">since", ">expires in", ">requests", ">bytes");
    uint64_t omitted = 0;

    for (uint64_t i = 0; i < view->now->files_count; i++) {
        const struct statistics_file *file = &view->now->files[i];

        if (file->state != STATISTICS_LIVE)
            continue;
        omitted += file->page->leases_omitted;
        for (size_t j = 0; j < LEND_STATISTICS_LEASES; j++)
            if (file->page->lease_rows[j].id != 0)
                add_lease(&sheet, view, file, &file->page->lease_rows[j]);
    }
    print_sheet(&sheet, "LEASES");
    if (omitted > 0)
        (void)printf("(and %" PRIu64 " that the pages have no rows for)\n\n", omitted);
}

static void show_peers(const struct top_view *view, uint64_t limit)
{
    struct sheet sheet = SHEET(limit, "agent", "peer", ">since", ">requests", ">active", ">reading",
                               ">writing", ">read", ">written");

    for (uint64_t i = 0; i < view->now->files_count; i++) {
        const struct statistics_file *file = &view->now->files[i];

        for (size_t j = 0; file->state == STATISTICS_LIVE && j < LEND_STATISTICS_PEERS; j++) {
            const struct lend_statistics_peer *row = &file->page->peer_rows[j];
            const struct lend_statistics_peer *old = top_peer_before(view, file, j);
            struct cells cells = {0};

            if (row->id == 0)
                continue;
            add_cell(&cells, "%s", file->page->name);
            add_cell(&cells, "%s", row->name);
            add_age(&cells, statistics_age_ns(view->now->taken_ns, row->connected_ns));
            add_count(&cells, row->requests);
            add_count(&cells, row->requests_active);
            add_rate(&cells, old != NULL ? top_rate(view, row->bytes_read, old->bytes_read) : 0);
            add_rate(&cells,
                     old != NULL ? top_rate(view, row->bytes_written, old->bytes_written) : 0);
            add_bytes(&cells, row->bytes_read);
            add_bytes(&cells, row->bytes_written);
            add_row(&sheet, &cells);
        }
    }
    print_sheet(&sheet, "PEERS SERVED");
}

static void show_paths(const struct top_view *view, uint64_t limit)
{
    struct sheet sheet = SHEET(limit, "agent", "path", ">transfers", ">failed", ">reading",
                               ">writing", ">read", ">written");

    for (uint64_t i = 0; i < view->now->files_count; i++) {
        const struct statistics_file *file = &view->now->files[i];

        for (size_t j = 0; file->state == STATISTICS_LIVE && j < LEND_STATISTICS_PATHS; j++) {
            const struct lend_statistics_path *row = &file->page->paths[j];
            const struct lend_statistics_path *old = top_path_before(view, file, j);
            struct cells cells = {0};

            if (!statistics_path_is_told(file->page, j))
                continue;
            add_cell(&cells, "%s", file->page->name);
            add_cell(&cells, "%s", row->name);
            add_count(&cells, row->transfers);
            add_count(&cells, row->transfers_failed);
            add_rate(&cells, old != NULL ? top_rate(view, row->bytes_read, old->bytes_read) : 0);
            add_rate(&cells,
                     old != NULL ? top_rate(view, row->bytes_written, old->bytes_written) : 0);
            add_bytes(&cells, row->bytes_read);
            add_bytes(&cells, row->bytes_written);
            add_row(&sheet, &cells);
        }
    }
    print_sheet(&sheet, "PATHS TAKEN");
}

static void show_unreadable(const struct top_view *view)
{
    for (uint64_t i = 0; i < view->now->files_count; i++) {
        const struct statistics_file *file = &view->now->files[i];

        if (file->state == STATISTICS_UNREADABLE)
            (void)printf("%s %s\n", file->name, file->reason);
        else if (file->state == STATISTICS_STALE)
            (void)printf("%s is stale: its agent was killed. Remove it.\n", file->name);
    }
    if (view->now->omitted > 0)
        (void)printf("%" PRIu64 " more files are not looked at\n", view->now->omitted);
    if (view->now->files_count == 0)
        (void)printf("There is no agent in %s.\n", view->now->directory);
}

static enum lend_status show(const struct top *top, const struct top_view *view,
                             struct lend_error *error)
{
    uint64_t limit = top->is_once ? UINT64_MAX : ROWS_SHOWN;

    if (top->is_json)
        return json_show(top_json(view), false, error);
    if (!top->is_once)
        (void)printf("\033[H\033[2J");
    show_agents(view, limit);
    show_leases(view, limit);
    show_peers(view, limit);
    show_paths(view, limit);
    show_unreadable(view);
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        return trouble_errno(error, "the tables cannot be written to standard output");
    return LEND_OK;
}

/* --- the command --- */

static uint64_t parse_interval(struct argp_state *state, const char *text)
{
    char *end = NULL;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0.05 && seconds <= 3600))
        argp_error(state, "--interval is '%s', and must be 0.05 .. 3600 seconds", text);
    return (uint64_t)(seconds * 1e9);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct top *top = state->input;

    switch (key) {
    case KEY_DIRECTORY: top->directory = text; return 0;
    case KEY_ONCE: top->is_once = true; return 0;
    case KEY_JSON: top->is_json = true; return 0;
    case KEY_INTERVAL: top->interval_ns = parse_interval(state, text); return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is one argument too many", text); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"directory", KEY_DIRECTORY, "DIR", 0,
             "Where the agents' sockets are (default: the library's)", 0},
            {"once", KEY_ONCE, NULL, 0,
             "Look twice, an interval apart, print once, and end. So it does when standard output "
             "is no terminal",
             0},
            {"json", KEY_JSON, NULL, 0, "The same, as JSON", 0},
            {"interval", KEY_INTERVAL, "S", 0, "Seconds between two looks (default: 1)", 0},
            {0}},
    .parser = parse,
    .doc = "Show the agents of this machine: their leases and who holds them, the peers that they "
           "serve, and what moves over which path. It asks nobody: it reads the pages beside "
           "their sockets.",
};

/* Look, and look again, until once is enough. */
static enum lend_status run(const struct top *top, struct lend_error *error)
{
    struct statistics_list before, now;
    enum lend_status status = statistics_list_read(top->directory, &before, error);

    if (status != LEND_OK)
        return status;
    do {
        sleep_until_ns(now_ns() + top->interval_ns);
        status = statistics_list_read(top->directory, &now, error);
        if (status != LEND_OK)
            break;
        status = show(top, &(struct top_view){.now = &now, .before = &before}, error);
        statistics_list_fini(&before);
        before = now;
    } while (status == LEND_OK && !top->is_once);
    statistics_list_fini(&before);
    return status;
}

int top_main(int argc, char **argv)
{
    struct top top = {.interval_ns = 1000000000};
    struct lend_error error = {0};

    (void)argp_parse(&parser, argc, argv, 0, NULL, &top);
    if (top.is_json || isatty(STDOUT_FILENO) == 0)
        top.is_once = true;
    if (run(&top, &error) == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
