/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/options.h"

#include "tool/cache.h"
#include "tool/dice.h"
#include "tool/trouble.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_TRANSPORT = 0x100,
    KEY_JSON,
    KEY_VERBOSE,
    KEY_MODEL,
    KEY_MEMORY,
    KEY_BLOCKS,
    KEY_SEED,
    KEY_PATH,
    KEY_DIRECTORY,
    KEY_SECRET,
    KEY_SECRET_PLUGIN,
    KEY_UCX_DEVICES,
    KEY_UCX_TRANSPORTS,
    KEY_UCX_LIBRARY,
    KEY_VERBS_DEVICES,
};

enum { MEMORY_SHARE = 4 }; /* a quarter of what is free */
static const uint64_t memory_default_max = UINT64_C(1) << 30;
static const uint64_t memory_max = UINT64_C(1) << 46;
static const uint64_t blocks_max = UINT64_C(1) << 24;

uint64_t options_number(struct argp_state *state, const char *option, const char *text,
                        uint64_t max, bool has_unit)
{
    static const char units[] = "KMG";
    char *end = NULL;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    const char *unit = has_unit && *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
    end += unit != NULL;
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || number == 0 ||
        number > max >> shift)
        argp_error(state, "--%s is '%s', and must be 1 .. %llu%s", option, text,
                   (unsigned long long)max, has_unit ? ", or such a number of K, M or G" : "");
    return (uint64_t)number << shift;
}

void options_init(struct options *options)
{
    *options = (struct options){
        .endpoint = {.model = model_at(0), .memory_kind = LEND_MEMORY_SYSTEM},
        .blocks = OPTION_PIECES_DEFAULT,
    };
}

static error_t parse_common(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case KEY_TRANSPORT: options->endpoint.transports = text; return 0;
    case KEY_JSON: options->is_json = true; return 0;
    case KEY_VERBOSE: options->endpoint.is_verbose = true; return 0;
    case KEY_UCX_DEVICES: options->endpoint.ucx_devices = text; return 0;
    case KEY_UCX_TRANSPORTS: options->endpoint.ucx_transports = text; return 0;
    case KEY_UCX_LIBRARY: options->endpoint.ucx_library = text; return 0;
    case KEY_VERBS_DEVICES: options->endpoint.verbs_devices = text; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_secret(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case KEY_SECRET: options->endpoint.secret_file = text; return 0;
    case KEY_SECRET_PLUGIN: options->endpoint.secret_plugin = text; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const char *const kinds[] = {
    [LEND_MEMORY_SYSTEM] = "host",
    [LEND_MEMORY_PINNED] = "pinned",
    [LEND_MEMORY_DEVICE] = "cuda",
};

const char *options_kind_name(uint32_t kind)
{
    return kinds[kind];
}

bool options_kind(const char *text, uint32_t *out_kind)
{
    for (uint32_t kind = LEND_MEMORY_SYSTEM; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        if (strcmp(text, kinds[kind]) != 0)
            continue;
        *out_kind = kind;
        return true;
    }
    return false;
}

static error_t parse_cache(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case KEY_MODEL:
        options->endpoint.model = model_find(text);
        if (options->endpoint.model == NULL)
            argp_error(state, "--model: there is no '%s'; see --help", text);
        return 0;
    case KEY_MEMORY:
        if (!options_kind(text, &options->endpoint.memory_kind))
            options->memory_bytes = options_number(state, "memory", text, memory_max, true);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_pull(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case KEY_BLOCKS:
        options->blocks = options_number(state, "blocks", text, blocks_max, false);
        return 0;
    case KEY_SEED:
        options->seed = options_number(state, "seed", text, INT64_MAX, false);
        options->has_seed = true;
        return 0;
    case KEY_PATH: options->endpoint.paths = text; return 0;
    case ARGP_KEY_END:
        if (!options->has_seed)
            options->seed = dice_seed();
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_socket(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    if (key != KEY_DIRECTORY)
        return ARGP_ERR_UNKNOWN;
    options->endpoint.directory = text;
    return 0;
}

const struct argp options_common = {
    .options =
        (const struct argp_option[]){
            {"transport", KEY_TRANSPORT, "NAME[,NAME...]", 0,
             "Ways to move bytes: local, tcp, ucx (default: local, and tcp where another machine "
             "may be meant)",
             0},
            {"ucx-devices", KEY_UCX_DEVICES, "DEVICE[,DEVICE...]", 0,
             "What ucx may use, as UCX names it: eth0, mlx5_0:1. Their network is trusted", 0},
            {"ucx-transports", KEY_UCX_TRANSPORTS, "NAME[,NAME...]", 0,
             "UCX's own transports, as UCX_TLS has them (default: UCX's choice)", 0},
            {"ucx-library", KEY_UCX_LIBRARY, "FILE", 0, "The libucp to load", 0},
            {"verbs-devices", KEY_VERBS_DEVICES, "DEVICE[,DEVICE...]", 0,
             "RDMA NICs to read and write by, beside local or tcp: mlx5_0, mlx5_0:1", 0},
            {"json", KEY_JSON, NULL, 0, "Print the result as JSON", 0},
            {"verbose", KEY_VERBOSE, NULL, 0, "Print the library's log to standard error", 0},
            {0}},
    .parser = parse_common,
};

const struct argp options_cache = {
    .options =
        (const struct argp_option[]){
            {"model", KEY_MODEL, "NAME", 0, "Whose KV cache to lend (default: Llama-3.1-8B)", 0},
            {"memory", KEY_MEMORY, "BYTES|KIND", 0,
             "Memory to use, as a number or as 512M, 2G (default: a quarter of what is free, at "
             "most 1G); or of which kind: host, pinned, cuda, which is GPU 0's (default: host). "
             "Both, if given twice",
             0},
            {0}},
    .parser = parse_cache,
};

const struct argp options_pull = {
    .options =
        (const struct argp_option[]){
            {"blocks", KEY_BLOCKS, "N", 0,
             "Scattered blocks to pull, over all tensors, rounded up to as many of each (default: "
             "2000)",
             0},
            {"seed", KEY_SEED, "N", 0, "Draw the same blocks and moments again", 0},
            {"path", KEY_PATH, "PATH[,PATH...]", 0,
             "Read by these paths alone, such as local/served, and write by those of them that end "
             "in /write (default: the best there is)",
             0},
            {0}},
    .parser = parse_pull,
};

const struct argp options_socket = {
    .options = (const struct argp_option[]){{"socket-directory", KEY_DIRECTORY, "DIR", 0,
                                             "Where the socket is (default: the library's)", 0},
                                            {0}},
    .parser = parse_socket,
};

const struct argp options_secret = {
    .options =
        (const struct argp_option[]){
            {"secret-file", KEY_SECRET, "FILE", 0,
             "Talk only to agents that have the secret in FILE, of 16 .. 64 bytes", 0},
            {"secret-plugin", KEY_SECRET_PLUGIN, "FILE", 0,
             "The plugin to load for it (default: the library's)", 0},
            {0}},
    .parser = parse_secret,
};

enum lend_status options_size_cache(const struct options *options, uint64_t spare_bytes,
                                    uint32_t least, uint32_t *out_block_count,
                                    struct lend_error *error)
{
    const struct model *model = options->endpoint.model;
    uint64_t available = memory_available_bytes();
    uint64_t budget = options->memory_bytes;
    uint64_t row_bytes = (uint64_t)model_region_count(model) * model_block_bytes(model);
    uint64_t needed = spare_bytes + least * row_bytes;

    if (budget == 0)
        budget = available / MEMORY_SHARE;
    if (options->memory_bytes == 0 && budget > memory_default_max)
        budget = needed > memory_default_max ? needed : memory_default_max;
    if (budget > available)
        return trouble(error, LEND_E_NO_MEMORY,
                       "%llu MiB are wanted, and the machine has %llu MiB free: try less --memory",
                       (unsigned long long)(budget >> 20), (unsigned long long)(available >> 20));
    if (budget < needed)
        return trouble(error, LEND_E_NO_MEMORY,
                       "%llu MiB do not suffice: it takes %llu MiB. Try --memory %lluM, fewer "
                       "--blocks, or another --model",
                       (unsigned long long)(budget >> 20), (unsigned long long)(needed >> 20),
                       (unsigned long long)((needed >> 20) + 1));

    uint64_t count = (budget - spare_bytes) / row_bytes;
    *out_block_count = count < PATTERN_BLOCKS_MAX ? (uint32_t)count : PATTERN_BLOCKS_MAX;
    return LEND_OK;
}

uint32_t options_block_count(const struct options *options)
{
    uint32_t regions = model_region_count(options->endpoint.model);

    return (uint32_t)((options->blocks + regions - 1) / regions);
}
