/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/actor.h"
#include "tool/commands.h"
#include "tool/trouble.h"

#include <argp.h>
#include <lend/status.h>
#include <stdio.h>
#include <string.h>

/* The `lend` command: finds the sub-command and hands over. */

static const struct {
    const char *name;
    char *title; /* what messages begin with */
    int (*main)(int argc, char **argv);
} commands[] = {
    {"demo", (char[]){"lend demo"}, demo_main},
    {"serve", (char[]){"lend serve"}, serve_main},
    {"pull", (char[]){"lend pull"}, pull_main},
    {"explain", (char[]){"lend explain"}, explain_main},
    {"top", (char[]){"lend top"}, top_main},
    {"metrics", (char[]){"lend metrics"}, metrics_main},
    {"bench", (char[]){"lend bench"}, bench_main},
    {"info", (char[]){"lend info"}, info_main},
    {"doctor", (char[]){"lend doctor"}, doctor_main},
    {"stand-in", (char[]){"lend stand-in"}, actor_stand_in}, /* for the demo alone */
};

static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    (void)fprintf(stream, "lend %s\n", lend_version());
}

/* The first argument that is no option is the sub-command, and the rest is its own. */
static error_t parse(int key, char *text, struct argp_state *state)
{
    int *out_index = state->input;

    switch (key) {
    case ARGP_KEY_ARG:
        (void)text;
        *out_index = state->next - 1;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "which command? See --help"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .parser = parse,
    .args_doc = "COMMAND [OPTION...]",
    .doc = "Lend memory that you own to other processes, and take it back safely.\v"
           "Commands:\n"
           "  demo    show it between two processes, and what happens when things go wrong\n"
           "  serve   lend a KV cache until stopped\n"
           "  pull    pull blocks of what another process serves, and check them\n"
           "  explain tell which path a transfer would take, and why not a better one\n"
           "  top     show the agents of this machine: who holds what, and what moves\n"
           "  metrics print their counters, for Prometheus\n"
           "  bench   measure what it costs here, beside memcpy and raw system calls\n"
           "  info    tell what this build can do on this machine, and why not more\n"
           "  doctor  check what lend needs of this machine, and say what to do\n\n"
           "`lend COMMAND --help' describes each.",
};

int main(int argc, char **argv)
{
    int at = 0;

    argp_program_version_hook = print_version;
    argp_err_exit_status = EXIT_USAGE;
    (void)argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &at);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[at], commands[i].name) == 0) {
            argv[at] = commands[i].title;
            return commands[i].main(argc - at, argv + at);
        }
    }
    (void)fprintf(stderr, "lend: there is no command '%s'; see lend --help\n", argv[at]);
    return EXIT_USAGE;
}
