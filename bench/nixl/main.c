/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NIXL's C ABI measured: lend's library and NVIDIA's beside each other, in one run, in processes of
 * their own that take turns.
 *
 *     nixl_bench [--rounds=N] [--json=FILE] [--only=SECTION] OURS [THEIRS]
 *
 * OURS and THEIRS are the files of libnixl_capi.so. Both run as a program gets them that says
 * nothing: create_agent() and the backend UCX with the parameters it proposes.
 */
#include "api.h"
#include "bench.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECTION_SECONDS = 120, OUTPUT_MAX = 2000 };

static const struct section sections[] = {
    {"registration", measure_one_call, 1},
    {"registration", measure_one_call, 1000},
    {"registration", measure_one_call, 100000},
    {"registration", measure_ascending, 1},
    {"registration", measure_ascending, 1000},
    {"registration", measure_ascending, 100000},
    {"registration", measure_descending, 1},
    {"registration", measure_descending, 1000},
    {"registration", measure_descending, 100000},
    {"registration", measure_random, 1},
    {"registration", measure_random, 1000},
    {"registration", measure_random, 100000},
    {"exchange", measure_exchange, 1},
    {"exchange", measure_exchange, 1000},
    {"exchange", measure_exchange, 100000},
    {"notification", measure_notification, 500},
    {"scatter", measure_scatter, 512},
    {"scatter", measure_scatter, 4096},
    {"scatter", measure_scatter, 16384},
    {"scatter", measure_scatter, 65536},
};

struct arguments {
    int rounds;
    const char *json;
    const char *only;
    const char *paths[LIBRARIES];
};

static int samples_to = -1;

/* They go at the end of a section, so that telling of one does not disturb the next. */
static struct sample *kept;
static size_t kept_count;

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void give(const char *what, uint64_t count, uint64_t bytes, double ns, int is_least)
{
    struct sample sample = {.count = count, .bytes = bytes, .ns = ns, .is_least = is_least};

    snprintf(sample.what, sizeof sample.what, "%s", what);
    if ((kept_count & (kept_count - 1)) == 0) {
        struct sample *grown =
            reallocarray(kept, kept_count > 0 ? kept_count * 2 : 1, sizeof *grown);
        if (grown == NULL)
            die("no memory for samples");
        kept = grown;
    }
    kept[kept_count++] = sample;
}

static void send_samples(void)
{
    for (size_t i = 0; i < kept_count; i++)
        /* Shorter than PIPE_BUF: it goes as a whole. */
        if (write(samples_to, &kept[i], sizeof kept[i]) != (ssize_t)sizeof kept[i])
            die("nobody takes samples");
}

void sample_give(const char *what, uint64_t count, uint64_t bytes, double ns)
{
    give(what, count, bytes, ns, 0);
}

void sample_give_least(const char *what, uint64_t count, uint64_t bytes, double ns)
{
    give(what, count, bytes, ns, 1);
}

static _Noreturn void work(const struct section *section, const char *library, FILE *output)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Both say things that do not belong into a table. */
    dup2(fileno(output), STDOUT_FILENO);
    dup2(fileno(output), STDERR_FILENO);
    alarm(SECTION_SECONDS);
    section->measure(library, section->argument);
    send_samples();
    fflush(NULL);
    _exit(0);
}

static void show_failure(const struct section *section, const char *library, int status,
                         FILE *output)
{
    char text[OUTPUT_MAX + 1];

    fseek(output, 0, SEEK_END);
    long size = ftell(output);
    fseek(output, size > OUTPUT_MAX ? size - OUTPUT_MAX : 0, SEEK_SET);
    text[fread(text, 1, OUTPUT_MAX, output)] = '\0';
    fprintf(stderr, "%s %llu with %s: ended with %s %d\n%s\n", section->name,
            (unsigned long long)section->argument, library,
            WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
}

static void run(struct report *report, const struct section *section, int library, const char *path)
{
    int ends[2], status;
    struct sample sample;
    FILE *output = tmpfile();

    if (output == NULL || pipe(ends) != 0)
        die(strerror(errno));
    pid_t worker = fork();
    if (worker < 0)
        die(strerror(errno));
    if (worker == 0) {
        close(ends[0]);
        samples_to = ends[1];
        work(section, path, output);
    }
    close(ends[1]);
    while (read(ends[0], &sample, sizeof sample) == (ssize_t)sizeof sample)
        report_add(report, library, &sample);
    close(ends[0]);
    waitpid(worker, &status, 0);
    if (status != 0)
        show_failure(section, path, status, output);
    fclose(output);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case 'r': arguments->rounds = (int)strtol(text, NULL, 10); return 0;
    case 'j': arguments->json = text; return 0;
    case 'o': arguments->only = text; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num >= LIBRARIES)
            argp_usage(state);
        arguments->paths[state->arg_num] = text;
        return 0;
    case ARGP_KEY_END:
        if (state->arg_num == 0 || arguments->rounds < 1)
            argp_usage(state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"rounds", 'r', "N", 0, "Take turns that many times (default: 3)", 0},
        {"json", 'j', "FILE", 0, "Write what was measured to FILE, too", 0},
        {"only", 'o', "SECTION", 0, "registration, exchange, notification, or scatter", 0},
        {0},
    };
    static const struct argp argp = {options,
                                     parse,
                                     "OURS [THEIRS]",
                                     "Measure NIXL's C ABI, with lend's library and NVIDIA's.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments arguments = {.rounds = 3};
    struct report *report = report_create();
    int result = 0;

    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (report == NULL)
        die("no memory");
    for (int round = 0; round < arguments.rounds; round++) {
        for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
            if (arguments.only != NULL && strcmp(arguments.only, sections[i].name) != 0)
                continue;
            for (int turn = 0; turn < LIBRARIES; turn++) {
                int library = (turn + round) % LIBRARIES; /* either goes first */

                if (arguments.paths[library] != NULL)
                    run(report, &sections[i], library, arguments.paths[library]);
            }
        }
    }
    report_print(report);
    if (arguments.json != NULL && report_write_json(report, arguments.paths, arguments.json) != 0) {
        fprintf(stderr, "nixl_bench: %s: not written\n", arguments.json);
        result = 1;
    }
    report_destroy(report);
    return result;
}
