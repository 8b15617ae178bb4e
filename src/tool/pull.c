/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/borrower.h"
#include "tool/commands.h"
#include "tool/dice.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/source.h"
#include "tool/trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The reader's half alone: pull scattered blocks of what `lend serve' lends, and check every byte.
 */

enum { KEY_IMPORT = 0x200, KEY_REPEAT, KEY_MEMORY, REPEAT_MAX = 1000000 };

static const uint64_t timeout_ns = 30000000000;

struct pull {
    struct options options;
    struct source source;
    uint32_t repeat;
    struct borrower borrower;
    struct export_file file;
    struct dice dice;
    uint32_t block_count; /* of each region */
    int32_t *local;
    int32_t *remote;
    json_t *rounds;               /* with --json */
    struct libscols_table *table; /* without */
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct pull *pull = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &pull->source;
        for (int i = 1; i < 5; i++)
            state->child_inputs[i] = &pull->options;
        return 0;
    case KEY_IMPORT: pull->source.path = text; return 0;
    case KEY_REPEAT:
        pull->repeat = (uint32_t)options_number(state, "repeat", text, REPEAT_MAX, false);
        return 0;
    case KEY_MEMORY:
        if (!options_kind(text, &pull->options.endpoint.memory_kind))
            argp_error(state, "--memory is '%s', and must be host, pinned or cuda", text);
        return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not expected", text); return 0;
    case ARGP_KEY_END: source_check(&pull->source, state, "--import FILE"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"import", KEY_IMPORT, "FILE", 0, "What `lend serve --export FILE' has written", 0},
            {"memory", KEY_MEMORY, "KIND", 0,
             "The memory to pull to: host, pinned, or cuda, which is GPU 0's (default: host)", 0},
            {"repeat", KEY_REPEAT, "N", 0, "Pull N times, other blocks each time (default: 1)", 0},
            {0}},
    .parser = parse,
    .doc = "Pull scattered blocks of what `lend serve' lends, check every byte, and notify it.\v"
           "The exit code is 0 if all arrived and all was right, else 1.",
    .children = (const struct argp_child[]){{&options_source, 0, NULL, 0},
                                            {&options_pull, 0, NULL, 0},
                                            {&options_socket, 0, NULL, 0},
                                            {&options_secret, 0, NULL, 0},
                                            {&options_common, 0, NULL, 0},
                                            {0}},
};

/* Learn what the owner lends. */
static enum lend_status learn(struct pull *pull, struct lend_error *error)
{
    enum lend_status status = source_read(&pull->source, pull->borrower.agent, &pull->file, error);

    if (status != LEND_OK)
        return status;
    pull->options.endpoint.model = model_find(pull->file.model);
    if (pull->options.endpoint.model == NULL)
        return trouble(error, LEND_E_UNSUPPORTED, "%s: the model '%s' is not known",
                       source_name(&pull->source), pull->file.model);
    return LEND_OK;
}

/* Make the agent and its cache, know the owner, and connect. */
static enum lend_status begin(struct pull *pull, struct lend_error *error)
{
    struct borrower *borrower = &pull->borrower;
    const struct export_file *file = &pull->file;
    enum lend_status status =
        endpoint_create(&pull->options.endpoint, "reader", &borrower->agent, error);
    if (status == LEND_OK)
        status = learn(pull, error);
    if (status != LEND_OK)
        return status;

    const struct model *model = pull->options.endpoint.model;
    status = borrower_take_paths(borrower, pull->options.endpoint.paths, error);
    if (status != LEND_OK)
        return status;
    pull->block_count = options_block_count(&pull->options);
    pull->local = malloc((pull->block_count + 1U) * sizeof *pull->local);
    pull->remote = malloc((pull->block_count + 1U) * sizeof *pull->remote);
    if (pull->local == NULL || pull->remote == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for %u block numbers",
                       pull->block_count);

    status = borrower_furnish(borrower, &pull->options.endpoint, pull->block_count, error);
    if (status == LEND_OK)
        status = borrower_import(borrower, file->metadata, file->metadata_bytes, error);
    if (status == LEND_OK && pull->block_count > borrower->owner_block_count)
        status = trouble(error, LEND_E_OUT_OF_RANGE,
                         "%u blocks of each of %u tensors are wanted, and %u are lent: try fewer "
                         "--blocks here, or more --memory there",
                         pull->block_count, model_region_count(model), borrower->owner_block_count);
    if (status == LEND_OK)
        status = borrower_take_ticket(borrower, file->ticket, file->ticket_bytes, error);
    if (status == LEND_OK)
        status = lend_peer_connect(borrower->owner, timeout_ns, error);
    return status;
}

static void show(struct pull *pull, uint32_t round, const struct outcome *outcome,
                 const struct finding *finding)
{
    char cells[4][32];
    double rate = rate_of(outcome->record.bytes, outcome->elapsed_ns);

    if (pull->options.is_json) {
        (void)json_array_append_new(pull->rounds,
                                    json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:s}", "status",
                                              lend_status_name(outcome->status), "pieces",
                                              (json_int_t)outcome->record.blocks, "bytes",
                                              (json_int_t)outcome->record.bytes, "pieces_wrong",
                                              (json_int_t)finding->pieces, "post_ns",
                                              (json_int_t)outcome->record.post_ns, "pull_ns",
                                              (json_int_t)outcome->elapsed_ns, "bytes_per_second",
                                              rate, "path", outcome->record.path));
        return;
    }
    (void)snprintf(cells[0], sizeof cells[0], "%u", round + 1);
    (void)snprintf(cells[1], sizeof cells[1], "%" PRIu64, outcome->record.blocks);
    (void)snprintf(cells[2], sizeof cells[2], "%" PRIu64, finding->pieces);
    (void)print_ns(cells[3], sizeof cells[3], (int64_t)outcome->elapsed_ns);

    char size[32];
    char speed[32];
    table_row(pull->table,
              (const char *const[]){cells[0], cells[1],
                                    print_bytes(size, sizeof size, outcome->record.bytes), cells[2],
                                    cells[3], print_rate(speed, sizeof speed, rate),
                                    outcome->record.path, lend_status_name(outcome->status)});
}

static enum lend_status run_round(struct pull *pull, uint32_t round, struct lend_error *error)
{
    const struct cache *cache = &pull->borrower.cache;
    struct mark mark = {.owner = pull->file.owner, .generation = pull->file.generation};
    struct blocks local = {pull->local, pull->block_count};
    struct outcome outcome;
    struct finding finding = {0};
    enum lend_status status = dice_draw(dice_roll(&pull->dice), pull->borrower.owner_block_count,
                                        pull->block_count, pull->remote, error);
    if (status == LEND_OK)
        status = dice_draw(dice_roll(&pull->dice), cache->block_count, pull->block_count,
                           pull->local, error);
    if (status != LEND_OK)
        return status;

    struct move move = {
        .direction = LEND_READ,
        .timeout_ns = timeout_ns,
        .local = pull->local,
        .remote = pull->remote,
        .count = pull->block_count,
        .notification = "pulled",
    };
    cache_set(cache, &local, 0);
    borrower_move(&pull->borrower, &move, &outcome);
    if (outcome.status == LEND_OK)
        cache_check(cache, &local, pull->remote, &mark, (uint64_t)cache->region_count * local.count,
                    &finding);
    show(pull, round, &outcome, &finding);
    if (outcome.status != LEND_OK)
        return trouble(error, (enum lend_status)outcome.status, "%s", outcome.text);
    if (finding.pieces != 0)
        return trouble(error, LEND_E_CORRUPT, "%s", finding.text);
    return LEND_OK;
}

static enum lend_status print_rounds(struct pull *pull, struct lend_error *error)
{
    if (!pull->options.is_json) {
        table_print(pull->table);
        return LEND_OK;
    }
    return json_show(json_pack("{s:s, s:s, s:I, s:i, s:o}", "version", lend_version(), "model",
                               pull->options.endpoint.model->name, "seed",
                               (json_int_t)pull->options.seed, "blocks_per_region",
                               (int)pull->block_count, "rounds", pull->rounds),
                     false, error);
}

int pull_main(int argc, char **argv)
{
    static const char *const headings[] = {">round", ">blocks", ">bytes", ">wrong",
                                           ">time",  ">rate",   "path",   "status"};
    static struct pull pull; /* static, and zero, for its size */
    struct lend_error error = {0};
    struct lend_error unprinted = {0};

    pull.repeat = 1;
    pull.source.out_is_networked = &pull.options.endpoint.is_networked;
    options_init(&pull.options);
    (void)argp_parse(&parser, argc, argv, 0, NULL, &pull);
    pull.dice.state = pull.options.seed;

    enum lend_status status = begin(&pull, &error);
    if (status == LEND_OK) {
        struct progress progress = progress_start("pulling", pull.repeat);

        if (pull.options.is_json)
            pull.rounds = json_array();
        else
            pull.table = table_create(headings, sizeof headings / sizeof headings[0]);
        for (uint32_t i = 0; status == LEND_OK && i < pull.repeat; i++) {
            status = run_round(&pull, i, &error);
            progress_step(&progress);
        }
        progress_end(&progress);
        if (status == LEND_OK)
            status = lend_ticket_done(pull.borrower.ticket, &error);
        if (print_rounds(&pull, &unprinted) != LEND_OK)
            trouble_tell(&unprinted);
    }
    borrower_close(&pull.borrower);
    free(pull.local);
    free(pull.remote);
    if (status == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
