/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of NIXL: strict C11, linked with libnixl_capi alone, which calls every function of the
 * ABI at least once, in two processes that have nothing but two pipes in common. walk_test.py runs
 * it, and sees that no function is left out. It ends with status 1 at the first surprise.
 *
 *     nixl_walk
 */
#include <nixl_capi.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE_BYTES = 4096, PIECES = 64, MEMORY_BYTES = PIECES * PIECE_BYTES };

static const char *role = "walk";
static int to_other, from_other; /* pipes */
static uint8_t *memory;

/* The call must have this status. */
#define EXPECT(status, call) expect(__LINE__, #call, (call), (status))
#define OK(call)             EXPECT(NIXL_CAPI_SUCCESS, call)
/* What is said must be so. */
#define SEE(truth)           expect(__LINE__, #truth, (truth) ? 0 : 1, 0)

static void expect(int line, const char *what, int is, int expected)
{
    if (is == expected)
        return;
    fprintf(stderr, "%s: line %d: %s: %d, not %d\n", role, line, what, is, expected);
    exit(1);
}

/* The pipes: bytes with their length before them. */

static void say(const void *bytes, size_t length)
{
    SEE(write(to_other, &length, sizeof length) == (ssize_t)sizeof length);
    SEE(length == 0 || write(to_other, bytes, length) == (ssize_t)length);
}

static void *hear(size_t *length)
{
    size_t got = 0;

    SEE(read(from_other, length, sizeof *length) == (ssize_t)sizeof *length);
    char *bytes = malloc(*length + 1);
    SEE(bytes != NULL);
    while (got < *length) {
        ssize_t more = read(from_other, bytes + got, *length - got);
        SEE(more > 0);
        got += (size_t)more;
    }
    bytes[got] = 0;
    return bytes;
}

static void step(void)
{
    say("", 0);
}

static void wait_for_step(void)
{
    size_t length = 1;

    free(hear(&length));
    SEE(length == 0);
}

/* What byte `at` of a process' memory is at first. */
static uint8_t filling(size_t at, uint8_t seed)
{
    return (uint8_t)(seed + at / PIECE_BYTES * 3 + at % 251);
}

static bool is_piece(size_t at, size_t as, uint8_t seed)
{
    for (size_t i = 0; i < PIECE_BYTES; i++) {
        if (memory[at * PIECE_BYTES + i] != filling(as * PIECE_BYTES + i, seed))
            return false;
    }
    return true;
}

/* Agents, backends and memory. */

static nixl_capi_backend_t walk_plugins(nixl_capi_agent_t agent)
{
    nixl_capi_string_list_t plugins = NULL;
    nixl_capi_mem_list_t mems = NULL;
    nixl_capi_params_t params = NULL;
    nixl_capi_backend_t backend = NULL;
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    const char *name = NULL;
    size_t size = 0;
    bool is_empty = true, has_ucx = false, has_dram = false;

    OK(nixl_capi_get_available_plugins(agent, &plugins));
    OK(nixl_capi_string_list_size(plugins, &size));
    for (size_t i = 0; i < size; i++) {
        OK(nixl_capi_string_list_get(plugins, i, &name));
        has_ucx |= strcmp(name, "UCX") == 0;
    }
    SEE(has_ucx);
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM, nixl_capi_string_list_get(plugins, size, &name));
    OK(nixl_capi_destroy_string_list(plugins));

    OK(nixl_capi_get_plugin_params(agent, "UCX", &mems, &params));
    OK(nixl_capi_mem_list_is_empty(mems, &is_empty));
    SEE(!is_empty);
    OK(nixl_capi_mem_list_size(mems, &size));
    for (size_t i = 0; i < size; i++) {
        OK(nixl_capi_mem_list_get(mems, i, &type));
        OK(nixl_capi_mem_type_to_string(type, &name));
        has_dram |= strcmp(name, "DRAM") == 0;
    }
    SEE(has_dram);
    OK(nixl_capi_destroy_mem_list(mems));
    SEE(nixl_capi_create_backend(agent, "no such backend", params, &backend) < 0);
    OK(nixl_capi_create_backend(agent, "UCX", params, &backend));
    OK(nixl_capi_destroy_params(params));

    OK(nixl_capi_get_backend_params(agent, backend, &mems, &params));
    OK(nixl_capi_params_is_empty(params, &is_empty));
    OK(nixl_capi_destroy_mem_list(mems));
    OK(nixl_capi_destroy_params(params));
    return backend;
}

static void walk_parameters(void)
{
    nixl_capi_params_t params = NULL;
    nixl_capi_param_iter_t iterator = NULL;
    const char *key = NULL, *value = NULL;
    bool has_next = true, is_empty = true;
    int count = 0;

    OK(nixl_capi_create_params(&params));
    OK(nixl_capi_params_add(params, "a", "1"));
    OK(nixl_capi_params_add(params, "b", "2"));
    OK(nixl_capi_params_is_empty(params, &is_empty));
    SEE(!is_empty);
    OK(nixl_capi_params_create_iterator(params, &iterator));
    while (has_next) {
        OK(nixl_capi_params_iterator_next(iterator, &key, &value, &has_next));
        SEE(value[0] - '1' == key[0] - 'a');
        count++;
    }
    SEE(count == 2);
    OK(nixl_capi_params_destroy_iterator(iterator));
    OK(nixl_capi_destroy_params(params));
}

static nixl_capi_reg_dlist_t memory_to_register(void)
{
    nixl_capi_reg_dlist_t list = NULL;
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    size_t count = 0;
    bool is_empty = true;

    OK(nixl_capi_create_reg_dlist(NIXL_CAPI_MEM_DRAM, &list));
    OK(nixl_capi_reg_dlist_get_type(list, &type));
    SEE(type == NIXL_CAPI_MEM_DRAM);
    OK(nixl_capi_reg_dlist_add_desc(list, 1, 2, 3, "metadata", 8));
    OK(nixl_capi_reg_dlist_clear(list));
    OK(nixl_capi_reg_dlist_resize(list, 2));
    OK(nixl_capi_reg_dlist_rem_desc(list, 1));
    OK(nixl_capi_reg_dlist_rem_desc(list, 0));
    OK(nixl_capi_reg_dlist_trim(list));
    OK(nixl_capi_reg_dlist_is_empty(list, &is_empty));
    SEE(is_empty);
    OK(nixl_capi_reg_dlist_add_desc(list, (uintptr_t)memory, MEMORY_BYTES, 0, NULL, 0));
    OK(nixl_capi_reg_dlist_desc_count(list, &count));
    SEE(count == 1);
    OK(nixl_capi_reg_dlist_print(list));
    return list;
}

/* `count` pieces of memory that begins at `start`, from `first` on. */
static nixl_capi_xfer_dlist_t pieces(uintptr_t start, size_t first, size_t count)
{
    nixl_capi_xfer_dlist_t list = NULL;

    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &list));
    for (size_t i = 0; i < count; i++)
        OK(nixl_capi_xfer_dlist_add_desc(list, start + (first + i) * PIECE_BYTES, PIECE_BYTES, 0));
    return list;
}

static void walk_descriptors(void)
{
    nixl_capi_xfer_dlist_t list = pieces(0, 0, 4);
    nixl_capi_mem_type_t type = NIXL_CAPI_MEM_UNKNOWN;
    size_t count = 0;
    bool is_empty = false;

    OK(nixl_capi_xfer_dlist_get_type(list, &type));
    SEE(type == NIXL_CAPI_MEM_DRAM);
    OK(nixl_capi_xfer_dlist_rem_desc(list, 0));
    OK(nixl_capi_xfer_dlist_resize(list, 2));
    OK(nixl_capi_xfer_dlist_trim(list));
    OK(nixl_capi_xfer_dlist_desc_count(list, &count));
    SEE(count == 2);
    OK(nixl_capi_xfer_dlist_print(list));
    OK(nixl_capi_xfer_dlist_clear(list));
    OK(nixl_capi_xfer_dlist_len(list, &count));
    SEE(count == 0);
    OK(nixl_capi_xfer_dlist_is_empty(list, &is_empty));
    SEE(is_empty);
    OK(nixl_capi_destroy_xfer_dlist(list));
}

/* Options by which a transfer, complete, tells of itself; or, with NULL, of which none does. */
static nixl_capi_opt_args_t options_with(nixl_capi_backend_t backend, const char *message)
{
    nixl_capi_opt_args_t args = NULL;
    void *data = NULL;
    size_t length = 0;
    bool is = false;

    OK(nixl_capi_create_opt_args(&args));
    OK(nixl_capi_opt_args_add_backend(args, backend));
    OK(nixl_capi_opt_args_set_skip_desc_merge(args, true));
    OK(nixl_capi_opt_args_get_skip_desc_merge(args, &is));
    SEE(is);
    if (message == NULL)
        return args;
    OK(nixl_capi_opt_args_set_notif_msg(args, message, strlen(message)));
    OK(nixl_capi_opt_args_set_has_notif(args, true));
    OK(nixl_capi_opt_args_get_has_notif(args, &is));
    SEE(is);
    OK(nixl_capi_opt_args_get_notif_msg(args, &data, &length));
    SEE(length == strlen(message) && memcmp(data, message, length) == 0);
    free(data);
    return args;
}

/* Until that agent has sent just this. */
static void await_notification(nixl_capi_agent_t agent, const char *sender, const char *message)
{
    nixl_capi_notif_map_t map = NULL;
    const char *name = NULL;
    const void *data = NULL;
    size_t size = 0, length = 0;

    OK(nixl_capi_create_notif_map(&map));
    while (size == 0) {
        OK(nixl_capi_get_notifs(agent, map, NULL));
        OK(nixl_capi_notif_map_size(map, &size));
        sched_yield();
    }
    SEE(size == 1);
    OK(nixl_capi_notif_map_get_agent_at(map, 0, &name));
    SEE(strcmp(name, sender) == 0);
    OK(nixl_capi_notif_map_get_notifs_size(map, sender, &size));
    SEE(size == 1);
    OK(nixl_capi_notif_map_get_notif(map, sender, 0, &data, &length));
    SEE(length == strlen(message) && memcmp(data, message, length) == 0);
    OK(nixl_capi_notif_map_clear(map));
    OK(nixl_capi_notif_map_size(map, &size));
    SEE(size == 0);
    OK(nixl_capi_destroy_notif_map(map));
}

/* Until that peer is known, or is no longer. */
static void await_peer(nixl_capi_agent_t agent, const char *name, bool is_known)
{
    while ((nixl_capi_check_remote_md(agent, name, NULL) == NIXL_CAPI_SUCCESS) != is_known)
        sched_yield();
}

/* A port of 127.0.0.1 that nobody has now. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SEE(bind(fd, (struct sockaddr *)&address, length) == 0);
    SEE(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* Where a listener cannot be had (lend's needs a plugin), there is none. */
static nixl_capi_agent_t create_agent(const char *name, nixl_capi_agent_config_t config)
{
    nixl_capi_agent_t agent = NULL;

    if (nixl_capi_create_configured_agent(name, &config, &agent) != NIXL_CAPI_SUCCESS) {
        config.enable_listen_thread = false;
        OK(nixl_capi_create_configured_agent(name, &config, &agent));
    }
    return agent;
}

/* The target: lends its memory, and then does next to nothing. */
static void be_target(void)
{
    nixl_capi_agent_config_t config = {.enable_prog_thread = true,
                                       .enable_listen_thread = true,
                                       .listen_port = free_port(),
                                       .lthr_delay_us = 1000,
                                       .thread_sync = NIXL_CAPI_THREAD_SYNC_STRICT};
    nixl_capi_agent_t agent = NULL;
    void *data = NULL;
    size_t length = 0;
    uintptr_t start = (uintptr_t)memory;

    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM, nixl_capi_create_configured_agent("t", NULL, &agent));
    agent = create_agent("target", config);
    nixl_capi_backend_t backend = walk_plugins(agent);
    nixl_capi_reg_dlist_t registered = memory_to_register();
    nixl_capi_opt_args_t args = options_with(backend, NULL);
    OK(nixl_capi_register_mem(agent, registered, args));
    OK(nixl_capi_get_local_partial_md(agent, registered, &data, &length, NULL));
    SEE(length > 0);
    free(data);
    OK(nixl_capi_get_local_md(agent, &data, &length));
    say(data, length);
    say(&start, sizeof start);
    say(&config.listen_port, sizeof config.listen_port);
    free(data);

    await_notification(agent, "initiator", "I have read it");
    step();
    await_notification(agent, "initiator", "I have written it");
    for (size_t i = 0; i < PIECES / 2; i++)
        SEE(is_piece(PIECES / 2 + i, PIECES / 2 - 1 - i, 2));
    step();
    await_notification(agent, "initiator", "a word apart");

    /* It has come by our own listener, or comes by the pipe. */
    data = hear(&length);
    if (length > 0) {
        char *name = NULL;
        OK(nixl_capi_load_remote_md(agent, data, length, &name));
        SEE(strcmp(name, "initiator") == 0);
        free(name);
    }
    free(data);
    await_peer(agent, "initiator", true);
    OK(nixl_capi_gen_notif(agent, "initiator", "thank you", 9, NULL));
    step();
    wait_for_step();
    OK(nixl_capi_deregister_mem(agent, registered, NULL));
    SEE(nixl_capi_deregister_mem(agent, registered, NULL) < 0);
    step();
    wait_for_step();
    OK(nixl_capi_destroy_opt_args(args));
    OK(nixl_capi_destroy_reg_dlist(registered));
    OK(nixl_capi_destroy_backend(backend));
    OK(nixl_capi_destroy_agent(agent));
}

/* The initiator. */

struct target {
    char *name;
    uintptr_t start;
    int port;
    void *metadata;
    size_t metadata_bytes;
};

static void post_and_wait(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request,
                          nixl_capi_opt_args_t args)
{
    nixl_capi_status_t status = nixl_capi_post_xfer_req(agent, request, args);

    while (status == NIXL_CAPI_IN_PROG) {
        sched_yield();
        status = nixl_capi_get_xfer_status(agent, request);
    }
    OK(status);
    OK(nixl_capi_get_xfer_status(agent, request));
}

static void end_request(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request)
{
    EXPECT(NIXL_CAPI_ERROR_INVALID_STATE, nixl_capi_destroy_xfer_req(request));
    OK(nixl_capi_release_xfer_req(agent, request));
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM, nixl_capi_release_xfer_req(agent, request));
    OK(nixl_capi_destroy_xfer_req(request));
}

/* Read half of the target's memory by lists that were prepared: its pieces from last to first. */
static void read_prepared(nixl_capi_agent_t agent, const struct target *target,
                          nixl_capi_backend_t backend)
{
    nixl_capi_xfer_dlist_t ours = pieces((uintptr_t)memory, 0, PIECES);
    nixl_capi_xfer_dlist_t theirs = pieces(target->start, 0, PIECES);
    nixl_capi_xfer_dlist_handle_t from = NULL, to = NULL;
    nixl_capi_xfer_req_t request = NULL;
    nixl_capi_opt_args_t args = options_with(backend, "I have read it");
    struct nixl_capi_xfer_telemetry_s telemetry = {0};
    int to_index[PIECES / 2], from_index[PIECES / 2];
    int64_t duration_us = 0, margin_us = 0;
    nixl_capi_cost_t method = NIXL_CAPI_COST_ANALYTICAL_BACKEND;

    for (int i = 0; i < PIECES / 2; i++) {
        to_index[i] = PIECES / 2 + i;
        from_index[i] = PIECES / 2 - 1 - i;
    }
    OK(nixl_capi_check_remote_md(agent, target->name, theirs));
    OK(nixl_capi_prep_xfer_dlist(agent, "", ours, &to, NULL));
    OK(nixl_capi_prep_xfer_dlist(agent, target->name, theirs, &from, NULL));
    SEE(nixl_capi_make_xfer_req(agent, NIXL_CAPI_XFER_OP_READ, to, to_index, 2, from, from_index, 1,
                                &request, NULL) < 0);
    OK(nixl_capi_make_xfer_req(agent, NIXL_CAPI_XFER_OP_READ, to, to_index, PIECES / 2, from,
                               from_index, PIECES / 2, &request, args));
    nixl_capi_backend_t used = NULL;
    OK(nixl_capi_query_xfer_backend(agent, request, &used));
    OK(nixl_capi_destroy_backend(used));
    SEE(nixl_capi_estimate_xfer_cost(agent, request, NULL, &duration_us, &margin_us, &method) <= 0);
    post_and_wait(agent, request, NULL);
    for (size_t i = 0; i < PIECES / 2; i++)
        SEE(is_piece(PIECES / 2 + i, PIECES / 2 - 1 - i, 1));
    OK(nixl_capi_get_xfer_telemetry(agent, request, &telemetry));
    SEE(telemetry.total_bytes == PIECES / 2 * PIECE_BYTES);
    end_request(agent, request);
    wait_for_step(); /* the notification came */

    OK(nixl_capi_release_xfer_dlist_handle(agent, from));
    OK(nixl_capi_release_xfer_dlist_handle(agent, to));
    OK(nixl_capi_destroy_xfer_dlist(ours));
    OK(nixl_capi_destroy_xfer_dlist(theirs));
    OK(nixl_capi_destroy_opt_args(args));
}

/* Write the first half of our memory to the target's second, one piece per descriptor. */
static void write_at_once(nixl_capi_agent_t agent, const struct target *target,
                          nixl_capi_backend_t backend)
{
    nixl_capi_xfer_dlist_t ours = NULL;
    nixl_capi_xfer_dlist_t theirs = pieces(target->start, PIECES / 2, PIECES / 2);
    nixl_capi_xfer_req_t request = NULL;
    nixl_capi_opt_args_t args = options_with(backend, "I have written it");

    OK(nixl_capi_create_xfer_dlist(NIXL_CAPI_MEM_DRAM, &ours));
    for (size_t i = 0; i < PIECES / 2; i++)
        OK(nixl_capi_xfer_dlist_add_desc(
            ours, (uintptr_t)memory + (PIECES / 2 - 1 - i) * PIECE_BYTES, PIECE_BYTES, 0));
    OK(nixl_capi_create_xfer_req(agent, NIXL_CAPI_XFER_OP_WRITE, ours, theirs, target->name,
                                 &request, NULL));
    post_and_wait(agent, request, args);
    wait_for_step();
    end_request(agent, request);
    OK(nixl_capi_destroy_xfer_dlist(ours));
    OK(nixl_capi_destroy_xfer_dlist(theirs));
    OK(nixl_capi_destroy_opt_args(args));
}

/* Where no metadata can be sent, nothing of the kind can be done. */
static void walk_no_listener(nixl_capi_agent_t agent, const struct target *target,
                             nixl_capi_reg_dlist_t registered, nixl_capi_opt_args_t args)
{
    void *data = NULL;
    size_t length = 0;

    SEE(nixl_capi_send_local_partial_md(agent, registered, args) < 0);
    SEE(nixl_capi_fetch_remote_md(agent, target->name, args) < 0);
    SEE(nixl_capi_invalidate_local_md(agent, args) < 0);
    OK(nixl_capi_get_local_md(agent, &data, &length));
    say(data, length);
    free(data);
    await_notification(agent, target->name, "thank you");
    wait_for_step();
    OK(nixl_capi_invalidate_remote_md(agent, target->name));
    SEE(nixl_capi_check_remote_md(agent, target->name, NULL) < 0);
}

/* Metadata by the target's listener, both ways, until each has forgotten the other. */
static void walk_listener(nixl_capi_agent_t agent, const struct target *target,
                          nixl_capi_reg_dlist_t registered)
{
    nixl_capi_opt_args_t args = NULL;

    OK(nixl_capi_agent_make_connection(agent, target->name, NULL));
    OK(nixl_capi_create_opt_args(&args));
    OK(nixl_capi_opt_args_set_ip_addr(args, "127.0.0.1"));
    OK(nixl_capi_opt_args_set_port(args, (uint16_t)target->port));
    if (nixl_capi_send_local_md(agent, args) != NIXL_CAPI_SUCCESS) {
        walk_no_listener(agent, target, registered, args);
        OK(nixl_capi_destroy_opt_args(args));
        return;
    }
    say("", 0);
    await_notification(agent, target->name, "thank you");
    wait_for_step();
    OK(nixl_capi_send_local_partial_md(agent, registered, args));
    OK(nixl_capi_invalidate_remote_md(agent, target->name));
    SEE(nixl_capi_check_remote_md(agent, target->name, NULL) < 0);
    SEE(nixl_capi_invalidate_remote_md(agent, target->name) < 0);
    OK(nixl_capi_fetch_remote_md(agent, target->name, args));
    await_peer(agent, target->name, true);
    OK(nixl_capi_invalidate_local_md(agent, args));
    OK(nixl_capi_destroy_opt_args(args));
}

/* What no transfer needs. */
static void walk_the_rest(nixl_capi_agent_t agent, nixl_capi_backend_t backend,
                          nixl_capi_reg_dlist_t registered)
{
    nixl_capi_query_resp_list_t answers = NULL;
    nixl_capi_params_t params = NULL;
    nixl_capi_opt_args_t args = options_with(backend, NULL);
    void *data = NULL;
    size_t size = 1;
    bool is = true;

    SEE(!nixl_capi_is_stub());
    walk_parameters();
    walk_descriptors();
    OK(nixl_capi_create_query_resp_list(&answers));
    SEE(nixl_capi_query_mem(agent, registered, answers, args) <= 0);
    OK(nixl_capi_query_resp_list_size(answers, &size));
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM, nixl_capi_query_resp_list_has_value(answers, size, &is));
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM,
           nixl_capi_query_resp_list_get_params(answers, size, &params));
    OK(nixl_capi_destroy_query_resp_list(answers));
    OK(nixl_capi_destroy_opt_args(args));

#ifndef WALK_NIXL_1_4
    nixl_capi_remote_dlist_t remote = NULL;
    nixl_capi_xfer_dlist_t local = pieces((uintptr_t)memory, 0, 1);
    nixl_capi_mem_view_t view = NULL;
    OK(nixl_capi_create_opt_args(&args));
    OK(nixl_capi_opt_args_set_custom_param(args, "worker_id=0", 11));
    OK(nixl_capi_opt_args_get_custom_param(args, &data, &size));
    SEE(size == 11);
    free(data);
    OK(nixl_capi_destroy_opt_args(args));
    OK(nixl_capi_create_remote_dlist(NIXL_CAPI_MEM_DRAM, &remote));
    OK(nixl_capi_remote_dlist_add_desc(remote, 0, 1, 2, "target"));
    SEE(nixl_capi_prep_mem_view_remote(agent, remote, &view, NULL) < 0);
    SEE(nixl_capi_prep_mem_view_local(agent, local, &view, NULL) < 0);
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM, nixl_capi_release_mem_view(agent, NULL));
    OK(nixl_capi_destroy_remote_dlist(remote));
    OK(nixl_capi_destroy_xfer_dlist(local));
#else
    (void)data;
#endif
}

static void be_initiator(void)
{
    nixl_capi_agent_config_t config = {.enable_prog_thread = true,
                                       .enable_listen_thread = true,
                                       .listen_port = free_port(),
                                       .capture_telemetry = true,
                                       .lthr_delay_us = 1000,
                                       .thread_sync = NIXL_CAPI_THREAD_SYNC_STRICT};
    nixl_capi_agent_t short_lived = NULL;
    struct target target = {0};
    size_t length = 0;

    OK(nixl_capi_create_agent("short-lived", &short_lived));
    OK(nixl_capi_destroy_agent(short_lived));
    nixl_capi_agent_t agent = create_agent("initiator", config);
    nixl_capi_backend_t backend = walk_plugins(agent);
    nixl_capi_reg_dlist_t registered = memory_to_register();
    OK(nixl_capi_register_mem(agent, registered, NULL));

    target.metadata = hear(&target.metadata_bytes);
    uintptr_t *start = hear(&length);
    SEE(length == sizeof *start);
    target.start = *start;
    free(start);
    int *port = hear(&length);
    SEE(length == sizeof *port);
    target.port = *port;
    free(port);
    EXPECT(NIXL_CAPI_ERROR_INVALID_PARAM,
           nixl_capi_load_remote_md(agent, target.metadata, 0, &target.name));
    OK(nixl_capi_load_remote_md(agent, target.metadata, target.metadata_bytes, &target.name));
    SEE(strcmp(target.name, "target") == 0);

    read_prepared(agent, &target, backend);
    write_at_once(agent, &target, backend);
    OK(nixl_capi_gen_notif(agent, target.name, "a word apart", 12, NULL));
    walk_listener(agent, &target, registered);
    walk_the_rest(agent, backend, registered);
    step();
    wait_for_step(); /* the target has its memory back */
    step();
    OK(nixl_capi_deregister_mem(agent, registered, NULL));
    OK(nixl_capi_destroy_reg_dlist(registered));
    OK(nixl_capi_destroy_backend(backend));
    OK(nixl_capi_destroy_agent(agent));
    free(target.name);
    free(target.metadata);
}

int main(void)
{
    int down[2], up[2], status = 0;

    SEE(pipe(down) == 0 && pipe(up) == 0);
    memory = malloc(MEMORY_BYTES);
    SEE(memory != NULL);
    pid_t child = fork();
    SEE(child >= 0);
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for what will not come */
    role = child == 0 ? "target" : "initiator";
    to_other = child == 0 ? up[1] : down[1];
    from_other = child == 0 ? down[0] : up[0];
    close(child == 0 ? up[0] : down[0]);
    close(child == 0 ? down[1] : up[1]);
    for (size_t i = 0; i < MEMORY_BYTES; i++)
        memory[i] = filling(i, child == 0 ? 1 : 2);

    if (child == 0)
        be_target();
    else
        be_initiator();
    free(memory);
    if (child == 0)
        return 0;
    SEE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
