/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/commands.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/source.h"
#include "tool/trouble.h"

#include <lend/explain.h>
#include <stdio.h>
#include <string.h>

/* `lend explain': which path a transfer with an owner would take, and why not a better one. */

enum { KEY_REGION = 0x200, KEY_WRITE, KEY_CONNECT };

static const uint64_t connect_ns = 5000000000;

struct explain {
    struct options options;
    struct source source;
    const char *region; /* NULL: all */
    uint32_t direction; /* a lend_direction */
    bool is_connecting;
    bool is_cut_off; /* a region was found that no path reaches */
    struct lend_agent *agent;
    struct lend_peer *peer;
    struct lend_peer_info info;
    struct export_file file;
    json_t *regions;              /* with --json */
    struct libscols_table *table; /* without */
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct explain *explain = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &explain->source;
        for (int i = 1; i < 4; i++)
            state->child_inputs[i] = &explain->options;
        return 0;
    case KEY_REGION: explain->region = text; return 0;
    case KEY_WRITE: explain->direction = LEND_WRITE; return 0;
    case KEY_CONNECT: explain->is_connecting = true; return 0;
    case ARGP_KEY_ARG:
        if (explain->source.path != NULL)
            argp_error(state, "'%s' is not expected", text);
        explain->source.path = text;
        return 0;
    case ARGP_KEY_END: source_check(&explain->source, state, "FILE"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"region", KEY_REGION, "NAME", 0, "Tell of that region alone (default: of all)", 0},
            {"write", KEY_WRITE, NULL, 0, "Of writing to it (default: of reading from it)", 0},
            {"connect", KEY_CONNECT, NULL, 0,
             "Connect first: of some paths only a connection can tell", 0},
            {0}},
    .parser = parse,
    .args_doc = "[FILE]",
    .doc = "Tell by which path blocks would come from the owner whose metadata FILE holds, as "
           "`lend serve --export FILE' wrote it, or who is asked for it, and why not by a better "
           "one.\v"
           "The exit code is 0 if every region that was asked about has a path, else 1.",
    .children = (const struct argp_child[]){{&options_source, 0, NULL, 0},
                                            {&options_socket, 0, NULL, 0},
                                            {&options_secret, 0, NULL, 0},
                                            {&options_common, 0, NULL, 0},
                                            {0}},
};

/* Make an agent, know the owner, and connect where that was asked for. */
static enum lend_status begin(struct explain *explain, struct lend_error *error)
{
    const struct export_file *file = &explain->file;
    enum lend_status status =
        endpoint_create(&explain->options.endpoint, "explain", &explain->agent, error);

    if (status == LEND_OK)
        status = source_read(&explain->source, explain->agent, &explain->file, error);
    if (status == LEND_OK)
        status = lend_peer_import(explain->agent, file->metadata, file->metadata_bytes,
                                  &explain->peer, error);
    if (status == LEND_OK && explain->is_connecting)
        status = lend_peer_connect(explain->peer, connect_ns, error);
    explain->info.struct_size = sizeof explain->info;
    if (status == LEND_OK)
        status = lend_peer_describe(explain->peer, &explain->info, error);
    return status;
}

static const char *state_of(const struct lend_path_info *path)
{
    if (path->status == LEND_OK)
        return path->is_chosen ? "taken" : "possible";
    return path->status == LEND_PENDING ? "known once connected" : lend_status_name(path->status);
}

static json_t *describe(const struct lend_path_info *path)
{
    return json_pack("{s:s, s:s, s:b, s:b, s:b, s:s}", "path", path->name, "status",
                     lend_status_name(path->status), "is_chosen", (int)path->is_chosen,
                     "is_one_sided", (int)path->is_one_sided, "is_fenced", (int)path->is_fenced,
                     "why", path->why);
}

static void show(struct explain *explain, const struct lend_region_info *region,
                 const struct lend_path_info *paths, uint32_t count)
{
    json_t *rows = explain->options.is_json ? json_array() : NULL;
    bool is_reached = false;
    char label[40];

    for (uint32_t i = 0; i < count; i++) {
        is_reached = is_reached || paths[i].status == LEND_OK || paths[i].status == LEND_PENDING;
        if (rows != NULL) {
            (void)json_array_append_new(rows, describe(&paths[i]));
            continue;
        }
        (void)snprintf(label, sizeof label, "%s%s", paths[i].is_chosen ? "* " : "  ",
                       paths[i].name);
        table_row(explain->table,
                  (const char *const[]){i == 0 ? region->name : "", label, state_of(&paths[i]),
                                        paths[i].is_one_sided ? "reader" : "owner",
                                        paths[i].is_fenced ? "yes" : "no", paths[i].why});
    }
    explain->is_cut_off = explain->is_cut_off || !is_reached;
    if (rows != NULL)
        (void)json_array_append_new(explain->regions,
                                    json_pack("{s:s, s:I, s:o}", "region", region->name, "id",
                                              (json_int_t)region->id, "paths", rows));
}

static enum lend_status explain_region(struct explain *explain,
                                       const struct lend_region_info *region,
                                       struct lend_error *error)
{
    struct lend_path_info paths[LEND_PATHS_MAX];
    uint32_t count = 0;

    memset(paths, 0, sizeof paths);
    paths[0].struct_size = sizeof paths[0];
    enum lend_status status = lend_explain(explain->peer, NULL, region->id, explain->direction,
                                           paths, LEND_PATHS_MAX, &count, error);
    if (status == LEND_OK)
        show(explain, region, paths, count < LEND_PATHS_MAX ? count : LEND_PATHS_MAX);
    return status;
}

static enum lend_status explain_all(struct explain *explain, struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    bool is_found = false;

    for (uint32_t i = 0; status == LEND_OK && i < explain->info.region_count; i++) {
        struct lend_region_info region = {.struct_size = sizeof region};

        status = lend_peer_region_at(explain->peer, i, &region, error);
        if (status != LEND_OK ||
            (explain->region != NULL && strcmp(explain->region, region.name) != 0))
            continue;
        is_found = true;
        status = explain_region(explain, &region, error);
    }
    if (status == LEND_OK && explain->region != NULL && !is_found)
        return trouble(error, LEND_E_ABSENT, "%s lends no region '%s', of %u", explain->info.name,
                       explain->region, explain->info.region_count);
    return status;
}

static enum lend_status print(struct explain *explain, struct lend_error *error)
{
    if (!explain->options.is_json) {
        table_print(explain->table);
        explain->table = NULL;
        return LEND_OK;
    }

    json_t *regions = explain->regions;
    explain->regions = NULL; /* it goes with the rest */
    return json_show(json_pack("{s:s, s:s, s:s, s:s, s:o}", "version", lend_version(), "peer",
                               explain->info.name, "peer_status",
                               lend_status_name(explain->info.status), "direction",
                               explain->direction == LEND_READ ? "read" : "write", "regions",
                               regions),
                     false, error);
}

static void end(struct explain *explain)
{
    lend_peer_forget(explain->peer);
    lend_agent_destroy(explain->agent);
}

int explain_main(int argc, char **argv)
{
    static const char *const headings[] = {"region", "path", "state", "copied by", "fenced", "why"};
    static struct explain explain; /* static, and zero, for its size */
    struct lend_error error = {0};

    explain.direction = LEND_READ;
    explain.source.out_is_networked = &explain.options.endpoint.is_networked;
    options_init(&explain.options);
    (void)argp_parse(&parser, argc, argv, 0, NULL, &explain);

    enum lend_status status = begin(&explain, &error);
    if (status == LEND_OK) {
        if (explain.options.is_json)
            explain.regions = json_array();
        else
            explain.table = table_create(headings, sizeof headings / sizeof headings[0]);
        status = explain_all(&explain, &error);
    }
    if (status == LEND_OK)
        status = print(&explain, &error);
    json_decref(explain.regions);
    end(&explain);
    if (status == LEND_OK)
        return explain.is_cut_off ? EXIT_TROUBLE : EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
