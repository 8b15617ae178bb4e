/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/commands.h"
#include "tool/output.h"
#include "tool/statistics_fields.h"
#include "tool/statistics_file.h"
#include "tool/trouble.h"

#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* `lend metrics`: the statistics pages once, for programs: Prometheus' text format, or JSON. */

enum { LABELS_MAX = 4, KEY_DIRECTORY = 0x100, KEY_JSON };

struct label {
    const char *name;
    const char *value;
};

struct metrics {
    const char *directory;
    bool is_json;
    bool is_short; /* of memory for the JSON */
    struct statistics_list list;
    json_t *metrics; /* JSON: all of them, */
    json_t *samples; /* and those of the metric that is being told */
    const char *name;
};

/* --- one metric, and its samples --- */

static void begin(struct metrics *metrics, const char *name, bool is_counter, const char *help)
{
    const char *type = is_counter ? "counter" : "gauge";

    metrics->name = name;
    if (!metrics->is_json) {
        (void)printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
        return;
    }
    metrics->samples = json_array();
    json_t *metric = json_pack("{s:s, s:s, s:s, s:o}", "name", name, "type", type, "help", help,
                               "samples", metrics->samples);
    if (json_array_append_new(metrics->metrics, metric) != 0) {
        metrics->is_short = true;
        metrics->samples = NULL;
    }
}

static void print_labels(const struct label *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)printf("%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
        for (const char *at = labels[i].value; *at != '\0'; at++) {
            if (*at == '\\' || *at == '"')
                (void)putchar('\\');
            (void)putchar(*at); /* a page's text has no line ends left */
        }
        (void)putchar('"');
    }
    if (count > 0)
        (void)putchar('}');
}

static void keep(struct metrics *metrics, const struct label *labels, size_t count, json_t *value)
{
    json_t *names = json_object();
    int failed = 0;

    for (size_t i = 0; i < count; i++)
        failed |= json_object_set_new(names, labels[i].name, json_string(labels[i].value));
    json_t *sample = json_pack("{s:o, s:o}", "labels", names, "value", value);
    failed |= json_array_append_new(metrics->samples, sample);
    metrics->is_short |= failed != 0;
}

static void tell(struct metrics *metrics, const struct label *labels, size_t count, uint64_t value)
{
    if (metrics->is_json) {
        keep(metrics, labels, count,
             json_integer(value < INT64_MAX ? (json_int_t)value : INT64_MAX));
        return;
    }
    (void)printf("%s", metrics->name);
    print_labels(labels, count);
    (void)printf(" %" PRIu64 "\n", value);
}

static void tell_seconds(struct metrics *metrics, const struct label *labels, size_t count,
                         uint64_t ns)
{
    double seconds = (double)ns / 1e9;

    if (metrics->is_json) {
        keep(metrics, labels, count, json_real(seconds));
        return;
    }
    (void)printf("%s", metrics->name);
    print_labels(labels, count);
    (void)printf(" %.3f\n", seconds);
}

/* --- what the pages say --- */

/* The next live agent's file from *at on; NULL: no more. Its labels are the first two. */
static const struct statistics_file *next_agent(const struct metrics *metrics, uint64_t *at,
                                                struct label *labels)
{
    while (*at < metrics->list.files_count) {
        const struct statistics_file *file = &metrics->list.files[(*at)++];

        if (file->state == STATISTICS_LIVE) {
            labels[0] = (struct label){"agent", file->page->name};
            labels[1] = (struct label){"incarnation", file->incarnation};
            return file;
        }
    }
    return NULL;
}

static void tell_files(struct metrics *metrics)
{
    static const char *const names[] = {
        [STATISTICS_LIVE] = "live",
        [STATISTICS_STALE] = "stale",
        [STATISTICS_UNREADABLE] = "unreadable",
    };
    uint64_t counts[sizeof names / sizeof names[0]] = {0};

    for (uint64_t i = 0; i < metrics->list.files_count; i++)
        counts[metrics->list.files[i].state]++;
    begin(metrics, "lend_statistics_files", false, "Statistics pages in the folder, by state.");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        tell(metrics, &(struct label){"state", names[i]}, 1, counts[i]);
}

static void tell_agents(struct metrics *metrics)
{
    struct label labels[LABELS_MAX];
    const struct statistics_file *file;
    char pid[24];

    begin(metrics, "lend_agent_info", false, "1 for each agent that lives.");
    for (uint64_t at = 0; (file = next_agent(metrics, &at, labels)) != NULL;) {
        (void)snprintf(pid, sizeof pid, "%" PRIu64, file->page->pid);
        labels[2] = (struct label){"pid", pid};
        labels[3] = (struct label){"version", file->page->library_version};
        tell(metrics, labels, 4, 1);
    }
    begin(metrics, "lend_agent_uptime_seconds", false, "How long the agent has been there.");
    for (uint64_t at = 0; (file = next_agent(metrics, &at, labels)) != NULL;)
        tell_seconds(metrics, labels, 2,
                     statistics_age_ns(metrics->list.taken_ns, file->page->started_ns));
}

static void tell_fields(struct metrics *metrics)
{
    struct label labels[LABELS_MAX];
    const struct statistics_file *file;
    const char *last = "";

    for (size_t i = 0; i < statistics_fields_count; i++) {
        const struct statistics_field *field = &statistics_fields[i];

        if (strcmp(last, field->metric) != 0)
            begin(metrics, field->metric, field->is_counter, field->help);
        last = field->metric;
        labels[2] = (struct label){field->label, field->value};
        for (uint64_t at = 0; (file = next_agent(metrics, &at, labels)) != NULL;)
            tell(metrics, labels, field->label != NULL ? 3 : 2, statistics_field_of(file->page, i));
    }
}

/* The age of the oldest lease: what grows when somebody never gives back. */
static void tell_oldest(struct metrics *metrics)
{
    struct label labels[LABELS_MAX];
    const struct statistics_file *file;

    begin(metrics, "lend_lease_oldest_seconds", false,
          "Age of the oldest live lease that has a row on the page; 0: none.");
    for (uint64_t at = 0; (file = next_agent(metrics, &at, labels)) != NULL;) {
        uint64_t oldest = 0;

        for (size_t i = 0; i < LEND_STATISTICS_LEASES; i++) {
            const struct lend_statistics_lease *row = &file->page->lease_rows[i];
            uint64_t age =
                row->id != 0 ? statistics_age_ns(metrics->list.taken_ns, row->granted_ns) : 0;

            oldest = age > oldest ? age : oldest;
        }
        tell_seconds(metrics, labels, 2, oldest);
    }
}

/* One metric of the paths: two fields of a row, which a label tells apart. */
static void tell_paths(struct metrics *metrics, const char *label, const char *const *values,
                       const size_t *offsets)
{
    struct label labels[LABELS_MAX];
    const struct statistics_file *file;

    for (uint64_t at = 0; (file = next_agent(metrics, &at, labels)) != NULL;)
        for (size_t i = 0; i < LEND_STATISTICS_PATHS; i++) {
            const struct lend_statistics_path *row = &file->page->paths[i];

            if (!statistics_path_is_told(file->page, i))
                continue;
            labels[2] = (struct label){"path", row->name};
            for (int which = 0; which < 2; which++) {
                uint64_t value;

                memcpy(&value, (const char *)row + offsets[which], sizeof value);
                labels[3] = (struct label){label, values[which]};
                tell(metrics, labels, 4, value);
            }
        }
}

static void tell_transfers(struct metrics *metrics)
{
    begin(metrics, "lend_transfers_total", true,
          "Transfers of the agent's own that are complete, by path.");
    tell_paths(metrics, "status", (const char *const[]){"ok", "failed"},
               (const size_t[]){offsetof(struct lend_statistics_path, transfers),
                                offsetof(struct lend_statistics_path, transfers_failed)});
    begin(metrics, "lend_transfer_bytes_total", true, "Bytes that they moved, by path.");
    tell_paths(metrics, "direction", (const char *const[]){"read", "write"},
               (const size_t[]){offsetof(struct lend_statistics_path, bytes_read),
                                offsetof(struct lend_statistics_path, bytes_written)});
}

static enum lend_status show(struct metrics *metrics, struct lend_error *error)
{
    if (metrics->is_json)
        metrics->metrics = json_array();
    tell_files(metrics);
    tell_agents(metrics);
    tell_fields(metrics);
    tell_oldest(metrics);
    tell_transfers(metrics);
    if (metrics->is_json) {
        json_t *result = json_pack("{s:s, s:o}", "directory", metrics->list.directory, "metrics",
                                   metrics->metrics);
        if (metrics->is_short) {
            json_decref(result);
            result = NULL;
        }
        return json_show(result, false, error);
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        return trouble_errno(error, "the metrics cannot be written to standard output");
    return LEND_OK;
}

/* --- the command --- */

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct metrics *metrics = state->input;

    switch (key) {
    case KEY_DIRECTORY: metrics->directory = text; return 0;
    case KEY_JSON: metrics->is_json = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is one argument too many", text); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){{"directory", KEY_DIRECTORY, "DIR", 0,
                                      "Where the agents' sockets are (default: the library's)", 0},
                                     {"json", KEY_JSON, NULL, 0, "Print the same as JSON", 0},
                                     {0}},
    .parser = parse,
    .doc = "Print the counters of this machine's agents in Prometheus' text format.",
};

int metrics_main(int argc, char **argv)
{
    struct metrics metrics = {0};
    struct lend_error error = {0};

    (void)argp_parse(&parser, argc, argv, 0, NULL, &metrics);
    enum lend_status status = statistics_list_read(metrics.directory, &metrics.list, &error);
    if (status == LEND_OK) {
        status = show(&metrics, &error);
        statistics_list_fini(&metrics.list);
    }
    if (status == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
