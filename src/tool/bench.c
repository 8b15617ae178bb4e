/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/commands.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Measure what lend costs on this machine, beside memcpy and the system calls of the same. */

enum { KEY_ROUNDS = 0x200, KEY_BYTES, KEY_QUICK, KEY_OUTPUT, KEY_HOSTS };
enum { ROUNDS_DEFAULT = 9, ROUNDS_QUICK = 2, ROUNDS_MAX = 1001 };

static const uint64_t bytes_default = UINT64_C(64) << 20;
static const uint64_t bytes_default_network = UINT64_C(256) << 20;
static const uint64_t bytes_quick = UINT64_C(2) << 20;
static const uint64_t bytes_max = UINT64_C(4) << 30;

static const struct {
    const char *name;
    void (*run)(struct bench *bench);
    bool is_networked; /* between two hosts, or over tcp or ucx: the others are of one host */
} sections[] = {
    {"setup", bench_setup, false},
    {"post", bench_post, false},
    {"latency", bench_latency, false},
    {"bandwidth", bench_bandwidth, false},
    {"notification", bench_notification, false},
    {"lease", bench_lease, false},
    {"network", bench_network, true},
};
enum { SECTIONS = sizeof sections / sizeof *sections };

struct choice {
    struct bench *bench;
    bool is_chosen[SECTIONS]; /* none: all */
    bool is_any_chosen;
    struct options options; /* those in common */
    struct network network;
    const char *output; /* a file for the JSON; NULL: none */
    FILE *file;         /* the same, open */
};

static void choose(struct choice *choice, const char *name, struct argp_state *state)
{
    for (int i = 0; i < SECTIONS; i++) {
        if (strcmp(sections[i].name, name) == 0) {
            choice->is_chosen[i] = true;
            choice->is_any_chosen = true;
            return;
        }
    }
    argp_error(state, "there is no section '%s'; see --help", name);
}

/* Which sections, and over what. */
static void complete_sections(struct choice *choice, struct argp_state *state)
{
    const char *transports = choice->options.endpoint.transports;
    struct network *network = &choice->network;
    bool is_networked = network->has_hosts || transports != NULL;

    for (int i = 0; i < SECTIONS; i++) {
        if (choice->is_any_chosen && choice->is_chosen[i] && is_networked &&
            !sections[i].is_networked)
            argp_error(state,
                       "section '%s' is of one host; --hosts and --transport are of section "
                       "'network'",
                       sections[i].name);
        choice->is_chosen[i] =
            choice->is_any_chosen ? choice->is_chosen[i] : sections[i].is_networked == is_networked;
        if (choice->is_chosen[i] && sections[i].is_networked)
            choice->bench->network = network;
    }
    network->endpoint = choice->options.endpoint;
    if (transports == NULL)
        network->endpoint.transports = "tcp";
    else if (strcmp(transports, "tcp") != 0 && strcmp(transports, "ucx") != 0)
        argp_error(state, "--transport is '%s', and must be tcp or ucx", transports);
    if (network->endpoint.ucx_devices == NULL && transports != NULL &&
        strcmp(transports, "ucx") == 0)
        network->endpoint.ucx_devices = network->has_hosts ? HOSTS_DEVICE : "lo";
    (void)snprintf(network->path, sizeof network->path, "%s/served", network->endpoint.transports);
}

static void complete(struct choice *choice, struct argp_state *state)
{
    struct bench *bench = choice->bench;

    complete_sections(choice, state);

    if (bench->rounds == 0)
        bench->rounds = bench->is_quick ? ROUNDS_QUICK : ROUNDS_DEFAULT;
    if (bench->bytes == 0)
        bench->bytes = bench->is_quick          ? bytes_quick
                       : bench->network != NULL ? bytes_default_network
                                                : bytes_default;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct choice *choice = state->input;
    struct bench *bench = choice->bench;

    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &choice->options; return 0;
    case KEY_HOSTS:
        choice->network.has_hosts = options_number(state, "hosts", text, HOSTS, false) == HOSTS;
        return 0;
    case KEY_ROUNDS:
        bench->rounds = (uint32_t)options_number(state, "rounds", text, ROUNDS_MAX, false);
        return 0;
    case KEY_BYTES: bench->bytes = options_number(state, "bytes", text, bytes_max, true); return 0;
    case KEY_QUICK: bench->is_quick = true; return 0;
    case KEY_OUTPUT: choice->output = text; return 0;
    case ARGP_KEY_ARG: choose(choice, text, state); return 0;
    case ARGP_KEY_END: complete(choice, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"rounds", KEY_ROUNDS, "N", 0, "Rounds of which the median is told (default: 9)", 0},
            {"bytes", KEY_BYTES, "N[K|M|G]", 0, "Bytes of a bandwidth transfer (default: 64M)", 0},
            {"quick", KEY_QUICK, NULL, 0, "Few rounds and bytes: to see that it runs", 0},
            {"output", KEY_OUTPUT, "FILE", 0, "Write the JSON to FILE, beside the tables", 0},
            {"hosts", KEY_HOSTS, "N", 0,
             "With 2: measure section network between two hosts, which are network namespaces "
             "joined by a link (default: 1, the loopback device)",
             0},
            {0}},
    .parser = parse,
    .args_doc = "[SECTION ...]",
    .doc = "Measure what lend costs on this machine, beside memcpy and system calls that do the "
           "same, in the same rounds and in turns.\v"
           "Sections: setup, post, latency, bandwidth, notification, lease (default: all these), "
           "and network (default with --hosts or --transport).\n\n"
           "Run it on an idle machine. A figure that missed its target does not change the exit "
           "code; wrong bytes and failures do.",
    .children = (const struct argp_child[]){{&options_common, 0, NULL, 0}, {0}},
};

static enum lend_status write_json(const json_t *result, const struct choice *choice,
                                   struct lend_error *error)
{
    if (result == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for the JSON of the result");
    if (json_dumpf(result, choice->file, JSON_INDENT(2)) != 0 || fputc('\n', choice->file) == EOF ||
        fflush(choice->file) != 0)
        return trouble_errno(error, "%s cannot be written", choice->output);
    return LEND_OK;
}

static enum lend_status show(const struct choice *choice, struct lend_error *error)
{
    const char *names[SECTIONS];
    size_t count = 0;
    enum lend_status status = LEND_OK;

    for (int i = 0; i < SECTIONS; i++)
        if (choice->is_chosen[i])
            names[count++] = sections[i].name;

    json_t *result = report_json(choice->bench, names, count);
    if (choice->output != NULL)
        status = write_json(result, choice, error);
    if (status == LEND_OK && choice->options.is_json)
        return json_show(result, false, error);
    json_decref(result);
    return status;
}

int bench_main(int argc, char **argv)
{
    static struct bench bench; /* static, and zero, for its size */
    struct choice choice = {.bench = &bench};
    struct lend_error error = {0};

    (void)argp_parse(&parser, argc, argv, 0, NULL, &choice);
    if (choice.output != NULL) {
        choice.file = fopen(choice.output, "we"); /* now, so that minutes are not lost */
        must_sys(choice.file != NULL, choice.output);
    }
    if (!choice.options.is_json)
        machine_print();
    for (int i = 0; i < SECTIONS; i++) {
        if (!choice.is_chosen[i])
            continue;
        sections[i].run(&bench);
        if (!choice.options.is_json)
            report_print(&bench, sections[i].name);
    }
    enum lend_status status = show(&choice, &error);
    if (choice.file != NULL)
        (void)fclose(choice.file); /* it was flushed */
    if (status == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
