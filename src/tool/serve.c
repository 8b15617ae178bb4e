/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/commands.h"
#include "tool/export_file.h"
#include "tool/lender.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <errno.h>
#include <inttypes.h>
#include <lend/notification.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* The owner's half alone: lend a cache, tell of it, and serve until told to stop. */

enum {
    GENERATION = 1,
    KEY_EXPORT = 0x200,
    KEY_SECONDS,
    KEY_CONSUMERS,
    KEY_MODE,
    KEY_LISTEN,
    KEY_ADVERTISE,
    KEY_DIRECTORY,
    KEY_PLUGIN,
    KEY_NAME,
};

static const uint64_t lease_ns = 30000000000;
static const uint64_t renew_ns = 10000000000;
static const uint64_t reclaim_ns = 10000000000;
static const uint64_t second_ns = 1000000000;

struct serve {
    struct options options;
    const char *path; /* of the file to write; NULL: none */
    const char *directory_plugin;
    const char *directory_url; /* to publish in; NULL: none */
    const char *name;
    struct lend_directory *directory;
    char address[ENDPOINT_ADDRESS_BYTES]; /* where it listens; "": nowhere */
    uint32_t seconds;                     /* 0: until a signal */
    uint32_t consumers;
    struct lender lender;
    int signals;
    bool is_exported;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct serve *serve = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 4; i++)
            state->child_inputs[i] = &serve->options;
        return 0;
    case KEY_EXPORT: serve->path = text; return 0;
    case KEY_LISTEN: serve->options.endpoint.listen = text; return 0;
    case KEY_ADVERTISE: serve->options.endpoint.advertise = text; return 0;
    case KEY_DIRECTORY: serve->directory_url = text; return 0;
    case KEY_PLUGIN: serve->directory_plugin = text; return 0;
    case KEY_NAME: serve->name = text; return 0;
    case KEY_SECONDS:
        serve->seconds = (uint32_t)options_number(state, "seconds", text, INT32_MAX, false);
        return 0;
    case KEY_CONSUMERS:
        serve->consumers = (uint32_t)options_number(state, "consumers", text, INT32_MAX, false);
        return 0;
    case KEY_MODE:
        if (sscanf(text, "%o", &serve->options.endpoint.socket_mode) != 1 ||
            serve->options.endpoint.socket_mode > 0777)
            argp_error(state, "--socket-mode is '%s', and must be such as 0660", text);
        return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not expected", text); return 0;
    case ARGP_KEY_END:
        if (serve->path == NULL && serve->options.endpoint.listen == NULL)
            argp_error(state, "one of these is needed: --export FILE, --listen ADDR");
        if (serve->options.endpoint.listen == NULL &&
            (endpoint_has_name(serve->options.endpoint.transports, "tcp") ||
             serve->directory_url != NULL || serve->options.endpoint.advertise != NULL))
            argp_error(state, "nobody on another machine gets here: --listen ADDR is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"export", KEY_EXPORT, "FILE", 0,
             "Write to FILE what `lend pull --import FILE' needs; it is removed at the end", 0},
            {"listen", KEY_LISTEN, "ADDR[:PORT]", 0,
             "Listen there for `lend pull --from' of other machines; [ADDR]:PORT for IPv6 "
             "(default: nowhere)",
             0},
            {"advertise", KEY_ADVERTISE, "ADDR[:PORT]", 0,
             "Tell others that address in place of the one listened on", 0},
            {"directory", KEY_DIRECTORY, "URL", 0,
             "Publish in etcd, for `lend pull --directory': etcd://HOST:PORT", 0},
            {"directory-plugin", KEY_PLUGIN, "FILE", 0,
             "The plugin to load for the directory (default: the library's)", 0},
            {"name", KEY_NAME, "NAME", 0, "The agent's name (default: owner)", 0},
            {"seconds", KEY_SECONDS, "N", 0, "Stop after N seconds (default: at SIGINT, SIGTERM)",
             0},
            {"consumers", KEY_CONSUMERS, "N", 0, "Stop when N readers have said that they are done",
             0},
            {"socket-mode", KEY_MODE, "OCTAL", 0,
             "Permission bits of the socket, such as 0666 for other users (default: 0600)", 0},
            {0}},
    .parser = parse,
    .doc = "Lend a KV cache, filled with a pattern, to whoever is given the exported file, or asks "
           "where it listens.",
    .children = (const struct argp_child[]){{&options_cache, 0, NULL, 0},
                                            {&options_socket, 0, NULL, 0},
                                            {&options_secret, 0, NULL, 0},
                                            {&options_common, 0, NULL, 0},
                                            {0}},
};

/* Before the agent makes threads: they shall not take the signals away from us. */
static enum lend_status catch_signals(struct serve *serve, struct lend_error *error)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    serve->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (serve->signals < 0)
        return trouble_errno(error, "signals cannot be caught");
    return LEND_OK;
}

/* Write the file, and tell whoever asks. */
static enum lend_status tell(struct serve *serve, struct export_file *file,
                             struct lend_error *error)
{
    struct lend_agent *agent = serve->lender.agent;
    struct lend_directory_config config = LEND_DIRECTORY_CONFIG_INIT;
    enum lend_status status = LEND_OK;

    if (serve->options.endpoint.listen != NULL) {
        status = export_file_attach(agent, file, error);
        if (status == LEND_OK)
            status = lend_agent_address(agent, serve->address, sizeof serve->address, error);
    }
    if (status == LEND_OK && serve->directory_url != NULL) {
        config.url = serve->directory_url;
        config.plugin = serve->directory_plugin;
        status = lend_directory_open(agent, &config, &serve->directory, error);
        if (status == LEND_OK)
            status = lend_directory_publish(serve->directory, error);
    }
    if (status != LEND_OK || serve->path == NULL)
        return status;
    status = export_file_write(serve->path, file, error);
    serve->is_exported = status == LEND_OK;
    return status;
}

/* Register, grant, and tell. */
static enum lend_status begin(struct serve *serve, struct export_file *file,
                              uint64_t *out_register_ns, struct lend_error *error)
{
    const struct model *model = serve->options.endpoint.model;
    struct lender *lender = &serve->lender;
    struct offer offer = {
        .access = LEND_ACCESS_READ,
        .consumer_count = serve->consumers,
        .time_to_live_ns = lease_ns,
    };
    uint32_t block_count = 0;
    size_t metadata_bytes = 0;
    size_t ticket_bytes = 0;

    enum lend_status status = options_size_cache(&serve->options, 0, 1, &block_count, error);
    if (status == LEND_OK)
        status = endpoint_create(&serve->options.endpoint, serve->name, &lender->agent, error);
    lender->generation = GENERATION;
    if (status == LEND_OK)
        status = lender_lend(lender, &serve->options.endpoint, block_count, out_register_ns, error);
    if (status == LEND_OK)
        status = lender_grant(lender, &offer, error);
    if (status == LEND_OK)
        status = lend_metadata_export(lender->agent, file->metadata, sizeof file->metadata,
                                      &metadata_bytes, error);
    if (status == LEND_OK)
        status = lend_ticket_export(lender->lease, file->ticket, sizeof file->ticket, &ticket_bytes,
                                    error);
    if (status != LEND_OK)
        return status;
    (void)snprintf(file->model, sizeof file->model, "%s", model->name);
    file->owner = (uint32_t)getpid();
    file->generation = GENERATION;
    file->metadata_bytes = (uint32_t)metadata_bytes;
    file->ticket_bytes = (uint32_t)ticket_bytes;
    return tell(serve, file, error);
}

static void tell_ready(const struct serve *serve, const struct export_file *file,
                       uint64_t register_ns)
{
    const struct cache *cache = &serve->lender.cache;
    struct lend_error error;
    char size[32];
    char time[32];

    if (serve->options.is_json) {
        json_t *event =
            json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:i}", "event", "ready", "model",
                      cache->model->name, "regions", (int)cache->region_count, "blocks_per_region",
                      (int)cache->block_count, "lent_bytes", (json_int_t)cache->length_bytes,
                      "register_ns", (json_int_t)register_ns, "metadata_bytes",
                      (int)file->metadata_bytes, "ticket_bytes", (int)file->ticket_bytes);
        (void)json_object_set_new(event, "address",
                                  serve->address[0] == '\0' ? json_null()
                                                            : json_string(serve->address));
        if (json_show(event, true, &error) != LEND_OK)
            trouble_tell(&error);
        return;
    }
    (void)printf("lending %s: %u tensors of %u blocks, %s; registered in %s\n", cache->model->name,
                 cache->region_count, cache->block_count,
                 print_bytes(size, sizeof size, cache->length_bytes),
                 print_ns(time, sizeof time, (int64_t)register_ns));
    if (serve->path != NULL)
        (void)printf("%s holds %u bytes of metadata and a ticket of %u bytes\n", serve->path,
                     file->metadata_bytes, file->ticket_bytes);
    if (serve->address[0] != '\0')
        (void)printf("listening on %s: lend pull --from %s\n", serve->address, serve->address);
    if (serve->directory != NULL)
        (void)printf("published: lend pull --directory %s --name %s\n", serve->directory_url,
                     serve->name);
    (void)fflush(stdout);
}

static void tell_notification(const struct serve *serve, const char *bytes, size_t count,
                              const struct lend_notification_info *info)
{
    struct lend_error error;
    char text[256];
    size_t length = 0;

    for (; length < count && length < sizeof text - 1; length++)
        text[length] = bytes[length] < ' ' || bytes[length] > '~' ? '?' : bytes[length];
    text[length] = '\0';
    if (serve->options.is_json) {
        json_t *event = json_pack("{s:s, s:s, s:i, s:s}", "event", "notification", "peer",
                                  info->peer, "bytes", (int)count, "text", text);
        if (json_show(event, true, &error) != LEND_OK)
            trouble_tell(&error);
        return;
    }
    (void)printf("notification of %s: %s\n", info->peer, text);
    (void)fflush(stdout);
}

/* Show every notification that is there. */
static enum lend_status drain(struct serve *serve, struct lend_error *error)
{
    static char bytes[LEND_NOTIFICATION_BYTES_MAX];
    struct lend_agent *agent = serve->lender.agent;
    struct lend_notification_info info = {.struct_size = sizeof info};
    size_t count = 0;

    lend_agent_clear(agent); /* before looking: what comes meanwhile wakes us again */
    enum lend_status status =
        lend_notification_receive(agent, bytes, sizeof bytes, &count, &info, 0, error);
    while (status == LEND_OK) {
        tell_notification(serve, bytes, count, &info);
        status = lend_notification_receive(agent, bytes, sizeof bytes, &count, &info, 0, error);
    }
    return status == LEND_E_ABSENT ? LEND_OK : status;
}

/* Serve until a signal, the time, or the lease's own end. The agent's thread does the work. */
static enum lend_status attend(struct serve *serve, struct lend_error *error)
{
    struct lend_lease_info info = {.struct_size = sizeof info};
    uint64_t end_ns = serve->seconds == 0 ? UINT64_MAX : now_ns() + serve->seconds * second_ns;
    uint64_t next_ns = now_ns() + renew_ns;
    struct pollfd waits[] = {{.fd = serve->signals, .events = POLLIN},
                             {.fd = lend_agent_fd(serve->lender.agent), .events = POLLIN}};

    for (;;) {
        uint64_t now = now_ns();
        uint64_t left_ns = end_ns > now ? end_ns - now : 0;
        uint64_t wait_ns = left_ns < second_ns / 10 ? left_ns : second_ns / 10;

        if (left_ns == 0)
            return LEND_OK;
        if (poll(waits, 2, (int)(wait_ns / 1000000) + 1) < 0 && errno != EINTR)
            return trouble_errno(error, "the agent cannot be watched");
        if (waits[0].revents != 0)
            return LEND_OK;
        enum lend_status status = drain(serve, error);
        if (status == LEND_OK)
            status = lend_lease_describe(serve->lender.lease, &info, error);
        if (status != LEND_OK || info.status != LEND_OK)
            return status;
        if (now_ns() < next_ns)
            continue;
        next_ns = now_ns() + renew_ns;
        status = lend_lease_renew(serve->lender.lease, lease_ns, error);
        if (status != LEND_OK && status != LEND_E_CONSUMED)
            return status;
    }
}

static enum lend_status tell_lease(const struct serve *serve, struct lend_error *error)
{
    struct lend_lease_info info = {.struct_size = sizeof info};
    enum lend_status status = lend_lease_describe(serve->lender.lease, &info, error);
    char cells[3][32];

    if (status != LEND_OK)
        return status;
    if (serve->options.is_json)
        return json_show(json_pack("{s:s, s:s, s:s, s:i, s:I, s:I}", "event", "lease", "status",
                                   lend_status_name(info.status), "last_user", info.last_user,
                                   "consumers_done", (int)info.consumers_done, "requests",
                                   (json_int_t)info.requests, "bytes", (json_int_t)info.bytes),
                         true, error);

    struct libscols_table *table = table_create(
        (const char *const[]){"lease", "last user", ">done", ">requests served", ">bytes served"},
        5);
    (void)snprintf(cells[0], sizeof cells[0], "%u", info.consumers_done);
    (void)snprintf(cells[1], sizeof cells[1], "%" PRIu64, info.requests);
    table_row(table, (const char *const[]){info.status == LEND_OK ? "lives"
                                                                  : lend_status_name(info.status),
                                           info.last_user, cells[0], cells[1],
                                           print_bytes(cells[2], sizeof cells[2], info.bytes)});
    table_print(table);
    return LEND_OK;
}

int serve_main(int argc, char **argv)
{
    static struct serve serve; /* static, and zero, for their size */
    static struct export_file file;
    struct lend_error error = {0};
    uint64_t register_ns = 0;

    serve.name = SERVE_NAME_DEFAULT;
    options_init(&serve.options);
    (void)argp_parse(&parser, argc, argv, 0, NULL, &serve);

    enum lend_status status = catch_signals(&serve, &error);
    if (status == LEND_OK)
        status = begin(&serve, &file, &register_ns, &error);
    if (status == LEND_OK) {
        tell_ready(&serve, &file, register_ns);
        status = attend(&serve, &error);
    }
    if (status == LEND_OK)
        status = drain(&serve, &error); /* what came with the last moment */
    if (status == LEND_OK)
        status = tell_lease(&serve, &error);
    lend_directory_close(serve.directory);
    if (serve.is_exported)
        (void)unlink(serve.path); /* it leads nowhere any more; perhaps somebody was faster */
    if (status == LEND_OK)
        status = lender_reclaim(&serve.lender, reclaim_ns, &error);
    lender_close(&serve.lender);
    if (status == LEND_OK)
        return EXIT_GOOD;
    trouble_tell(&error);
    return EXIT_TROUBLE;
}
