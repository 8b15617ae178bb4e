/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/source.h"

#include "tool/options.h"
#include "tool/trouble.h"

#include <lend/discovery.h>

enum { KEY_FROM = 0x280, KEY_DIRECTORY, KEY_NAME, KEY_PLUGIN, KEY_WAIT, WAIT_MAX = 3600 };

static const uint64_t look_ns = 20000000;
static const uint64_t fetch_ns = 5000000000;
static const uint64_t second_ns = 1000000000;

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct source *source = state->input;

    switch (key) {
    case KEY_FROM: source->from = text; break;
    case KEY_DIRECTORY: source->directory = text; break;
    case KEY_NAME: source->name = text; return 0;
    case KEY_PLUGIN: source->plugin = text; return 0;
    case KEY_WAIT:
        source->wait_seconds = (uint32_t)options_number(state, "wait", text, WAIT_MAX, false);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
    *source->out_is_networked = true;
    return 0;
}

const struct argp options_source = {
    .options =
        (const struct argp_option[]){
            {"from", KEY_FROM, "ADDR:PORT", 0,
             "Ask the owner that listens there; [ADDR]:PORT for IPv6", 0},
            {"directory", KEY_DIRECTORY, "URL", 0,
             "Look the owner up by its name in etcd: etcd://HOST:PORT", 0},
            {"directory-plugin", KEY_PLUGIN, "FILE", 0,
             "The plugin to load for the directory (default: the library's)", 0},
            {"name", KEY_NAME, "NAME", 0, "The owner's name there (default: owner)", 0},
            {"wait", KEY_WAIT, "SECONDS", 0, "Wait so long for the owner to be there", 0},
            {0}},
    .parser = parse,
};

void source_check(const struct source *source, struct argp_state *state, const char *file)
{
    int count = (source->path != NULL) + (source->from != NULL) + (source->directory != NULL);

    if (count != 1)
        argp_error(state, "%s is needed: %s, --from ADDR:PORT, or --directory URL",
                   count == 0 ? "one of these" : "one of these alone", file);
    if (source->name != NULL && source->directory == NULL)
        argp_error(state, "--name is a name in a directory: --directory URL is missing");
}

const char *source_name(const struct source *source)
{
    if (source->path != NULL)
        return source->path;
    return source->from != NULL ? source->from : source->directory;
}

/* Look once. */
static enum lend_status look(const struct source *source, struct lend_agent *agent,
                             struct export_file *out, struct lend_error *error)
{
    struct lend_found *found = NULL;

    if (source->path != NULL)
        return export_file_read(source->path, out, error);
    enum lend_status status = lend_fetch(agent, source->from, fetch_ns, &found, error);
    if (status == LEND_OK)
        status = export_file_find(source->from, found, out, error);
    lend_found_release(found);
    return status;
}

static enum lend_status look_up(const struct source *source, struct lend_agent *agent,
                                struct export_file *out, struct lend_error *error)
{
    struct lend_directory_config config = LEND_DIRECTORY_CONFIG_INIT;
    struct lend_directory *directory = NULL;
    struct lend_found *found = NULL;
    const char *name = source->name == NULL ? SERVE_NAME_DEFAULT : source->name;

    config.url = source->directory;
    config.plugin = source->plugin;
    enum lend_status status = lend_directory_open(agent, &config, &directory, error);
    if (status == LEND_OK)
        status =
            lend_directory_find(directory, name, source->wait_seconds * second_ns, &found, error);
    if (status == LEND_OK)
        status = export_file_find(name, found, out, error);
    lend_found_release(found);
    lend_directory_close(directory);
    return status;
}

enum lend_status source_read(const struct source *source, struct lend_agent *agent,
                             struct export_file *out, struct lend_error *error)
{
    uint64_t until_ns = now_ns() + source->wait_seconds * second_ns;

    if (source->directory != NULL)
        return look_up(source, agent, out, error);
    enum lend_status status = look(source, agent, out, error);
    while ((status == LEND_E_ABSENT || status == LEND_E_PEER_DEAD || status == LEND_E_TIMEOUT) &&
           now_ns() < until_ns) {
        sleep_until_ns(now_ns() + look_ns);
        status = look(source, agent, out, error);
    }
    return status;
}
