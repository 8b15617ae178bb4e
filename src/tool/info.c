/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/info.h"

#include "tool/commands.h"
#include "tool/trouble.h"

#include <argp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* `lend info': what this build can do on this machine, and why not more. */

enum { KEY_DIRECTORY = 0x300, KEY_JSON, KEY_NIXL_LIBRARY };

struct request {
    struct info info;
    bool is_json;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct request *request = state->input;

    switch (key) {
    case KEY_DIRECTORY: request->info.directory = text; return 0;
    case KEY_JSON: request->is_json = true; return 0;
    case KEY_NIXL_LIBRARY: request->info.nixl_library = text; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not expected", text); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"directory", KEY_DIRECTORY, "DIR", 0,
             "The folder of the sockets, as local_directory has it (default: the library's)", 0},
            {"json", KEY_JSON, NULL, 0, "Print the result as JSON", 0},
            {"nixl-library", KEY_NIXL_LIBRARY, "FILE", 0,
             "The libnixl_capi to look at (default: the one that transport nixl would load)", 0},
            {0}},
    .parser = parse,
    .doc =
        "Tell what this build of lend can do on this machine, and why not more: kinds of memory, "
        "transports, paths, limits. `lend doctor' says what to do about it.",
};

void info_value(struct info *info, const char *section, const char *name, const char *format, ...)
{
    struct info_row *row = &info->rows[info->count];
    va_list arguments;

    if (info->count < INFO_ROWS_MAX - 1)
        info->count++;
    *row = (struct info_row){.section = section, .name = name};
    va_start(arguments, format);
    (void)vsnprintf(row->value, sizeof row->value, format, arguments);
    va_end(arguments);
}

void info_meaning(struct info *info, const char *format, ...)
{
    struct info_row *row = &info->rows[info->count - 1];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(row->meaning, sizeof row->meaning, format, arguments);
    va_end(arguments);
}

static enum lend_status print_json(const struct info *info, struct lend_error *error)
{
    json_t *all = json_pack("{s:s}", "version", lend_version());

    for (uint32_t i = 0; all != NULL && i < info->count; i++) {
        const struct info_row *row = &info->rows[i];
        json_t *section = json_object_get(all, row->section);

        if (section == NULL) {
            section = json_object();
            (void)json_object_set_new(all, row->section, section);
        }
        (void)json_object_set_new(
            section, row->name,
            json_pack("{s:s, s:s}", "value", row->value, "meaning", row->meaning));
    }
    return json_show(all, false, error);
}

static void print_tables(const struct info *info)
{
    struct libscols_table *table = NULL;

    for (uint32_t i = 0; i < info->count; i++) {
        const struct info_row *row = &info->rows[i];

        if (i == 0 || strcmp(row->section, info->rows[i - 1].section) != 0) {
            table_print(table);
            table = table_create((const char *const[]){row->section, "value", "meaning"}, 3);
        }
        table_row(table, (const char *const[]){row->name, row->value, row->meaning});
    }
    table_print(table);
}

int info_main(int argc, char **argv)
{
    static struct request request; /* static, and zero, for its size */
    struct info *info = &request.info;
    struct lend_error error = {0};
    char directory[64];

    info->probe = &probe_real;
    (void)argp_parse(&parser, argc, argv, 0, NULL, &request);
    if (info->directory == NULL) {
        probe_directory(&probe_real, directory, sizeof directory);
        info->directory = directory;
        info->is_default = true;
    }

    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is to be told, not to end us */
    info_tell_library(info);
    info_tell_limits(info);
    info_tell_kernel(info);
    info_tell_memory(info);
    if (!request.is_json) {
        print_tables(info);
        return EXIT_GOOD;
    }
    if (print_json(info, &error) == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
