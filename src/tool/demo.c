/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/demo.h"

#include "tool/commands.h"
#include "tool/trouble.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_ITERATIONS = 'i',
    KEY_HOSTS = 0x200,
    KEY_READER_NICS,
    ITERATIONS_DEFAULT = 10,
    ITERATIONS_MAX = 1000000
};

/* What one pull of the acts moves, about: enough that a random moment falls into it. */
static const uint64_t act_bytes = UINT64_C(16) << 20;

enum { ACT_SHARE = 6 }; /* owner, reader and the owner's copy have twice that each */

struct demo {
    struct options options;
    uint32_t iterations;
    uint32_t hosts; /* 1 or 2 */
    const char *reader_nics;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct demo *demo = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 3; i++)
            state->child_inputs[i] = &demo->options;
        return 0;
    case KEY_ITERATIONS:
        demo->iterations =
            (uint32_t)options_number(state, "iterations", text, ITERATIONS_MAX, false);
        return 0;
    case KEY_HOSTS:
        demo->hosts = (uint32_t)options_number(state, "hosts", text, HOSTS, false);
        return 0;
    case KEY_READER_NICS: demo->reader_nics = text; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not expected", text); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = (const struct argp_option[]){{"iterations", KEY_ITERATIONS, "K", 0,
                                             "Do each thing of the acts K times (default: 10)", 0},
                                            {"hosts", KEY_HOSTS, "N", 0,
                                             "With 2: owner and reader are on two hosts, which are "
                                             "network namespaces joined by a link (default: 1)",
                                             0},
                                            {"reader-verbs-devices", KEY_READER_NICS,
                                             "DEVICE[,DEVICE...]", 0,
                                             "The reader's RDMA NICs (default: those of "
                                             "--verbs-devices, as the owner's)",
                                             0},
                                            {0}},
    .parser = parse,
    .doc = "Show the main job between two processes: one lends a KV cache, the other pulls "
           "scattered blocks of it, checks every byte and notifies; then four acts in which things "
           "go wrong, each with the outcome it must have.\v"
           "Models: Llama-3.1-8B, Llama-3.1-70B, Qwen2.5-32B, DeepSeek-R1-Distill-Qwen-32B, "
           "Mistral-7B-v0.3, DeepSeek-R1.\n\n"
           "The exit code is 0 if every byte and every outcome is right, else 1.",
    .children = (const struct argp_child[]){{&options_cache, 0, NULL, 0},
                                            {&options_pull, 0, NULL, 0},
                                            {&options_common, 0, NULL, 0},
                                            {0}},
};

/* Two hosts have tcp between them, unless the user wants another transport: then tcp is what they
 * find each other by. Over these two processes of one host meet on its loopback device. */
static void complete(struct demo *demo)
{
    struct endpoint *endpoint = &demo->options.endpoint;
    bool has_hosts = demo->hosts == HOSTS;

    if (has_hosts && endpoint->transports == NULL)
        endpoint->transports = "tcp";
    bool is_ucx = endpoint_has_name(endpoint->transports, "ucx");
    if (!has_hosts && (is_ucx || endpoint_has_name(endpoint->transports, "tcp")))
        endpoint->listen = "127.0.0.1";
    if (is_ucx && endpoint->ucx_devices == NULL)
        endpoint->ucx_devices = has_hosts ? HOSTS_DEVICE : "lo";
    if (is_ucx && endpoint->paths == NULL)
        endpoint->paths = "ucx/served"; /* or tcp would stand in for it */
    endpoint->is_networked = has_hosts;
}

/* Size the job by the memory there is. */
static enum lend_status plan(const struct demo *demo, struct job *job, struct acts *acts,
                             struct lend_error *error)
{
    const struct model *model = demo->options.endpoint.model;
    uint32_t regions = model_region_count(model);
    uint64_t row_bytes = (uint64_t)regions * model_block_bytes(model);

    job->block_count = options_block_count(&demo->options);
    job->pieces = (uint64_t)job->block_count * regions;
    job->bytes = job->block_count * row_bytes;
    /* The reader's copy, and the owner's for the comparison. */
    enum lend_status status = options_size_cache(&demo->options, 2 * job->bytes, job->block_count,
                                                 &job->owner_block_count, error);
    if (status != LEND_OK)
        return status;
    job->lent_bytes = job->owner_block_count * row_bytes;

    acts->iterations = demo->iterations;
    uint64_t share = (job->lent_bytes + 2 * job->bytes) / ACT_SHARE;
    acts->block_count = (uint32_t)((act_bytes < share ? act_bytes : share) / row_bytes);
    if (acts->block_count == 0)
        acts->block_count = 1;
    return LEND_OK;
}

int demo_main(int argc, char **argv)
{
    static struct stage stage; /* static, and zero, for its size */
    struct demo demo = {.iterations = ITERATIONS_DEFAULT, .hosts = 1};
    struct job job = {0};
    struct lend_error error = {0};

    options_init(&demo.options);
    (void)argp_parse(&parser, argc, argv, 0, NULL, &demo);
    complete(&demo);
    stage.reader_nics = demo.reader_nics;

    struct acts acts = {.stage = &stage, .dice = {.state = demo.options.seed}};
    enum lend_status status = plan(&demo, &job, &acts, &error);
    if (status == LEND_OK)
        status = stage_open(&stage, &demo.options.endpoint, demo.hosts == HOSTS, &error);
    if (status == LEND_OK)
        status = job_run(&stage, dice_roll(&acts.dice), &job, &error);
    bool has_job = status == LEND_OK;
    if (has_job)
        status = acts_run(&acts, &error);
    stage_close(&stage);

    /* What was seen until a failure is worth showing. */
    if (has_job && demo.options.is_json) {
        const char *failure = status == LEND_OK ? NULL : error.message;
        struct lend_error unprinted;
        enum lend_status shown = demo_print_json(&demo.options, &job, &acts, failure, &unprinted);

        if (status == LEND_OK && shown != LEND_OK) {
            status = shown;
            error = unprinted;
        }
    } else if (has_job) {
        demo_print(&demo.options, &job, &acts);
    }
    if (status != LEND_OK) {
        trouble_tell(&error);
        return EXIT_TROUBLE;
    }
    return acts_count_wrong(&acts) == 0 ? EXIT_GOOD : EXIT_TROUBLE;
}
