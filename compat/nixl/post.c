/* SPDX-License-Identifier: Apache-2.0 */
#include "post.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAKE_NS UINT64_C(200000000)  /* how often the taker looks whether it is to end */
#define SEND_NS UINT64_C(5000000000) /* to reach a listener */

/* --- sending --- */

/* One more of those who are sent to: the oldest is forgotten. */
static void keep_peer(struct compat_post *post, struct compat_peer *peer)
{
    struct compat_peer **at = &post->peers[post->peer_next++ % COMPAT_OFFICE_PEERS];

    if (*at != NULL) {
        compat_peer_end(*at);
        compat_peer_release(*at);
    }
    *at = peer;
}

/* Another office, by its metadata. */
static struct compat_peer *import(struct compat_post *post, const void *bytes, size_t count)
{
    struct lend_peer *lend = NULL;
    struct lend_error error;

    enum lend_status status = lend_peer_import(post->office, bytes, count, &lend, &error);
    if (status != LEND_OK) {
        (void)compat_fail_lend(status, &error, "a listener");
        return NULL;
    }
    struct compat_peer *peer = compat_peer_create(post->agent, "a listener", lend, NULL);
    if (peer == NULL)
        lend_peer_forget(lend);
    return peer;
}

static enum lend_status connect_to(struct compat_post *post, const char *address,
                                   struct compat_peer **out, struct lend_error *error)
{
    struct lend_found *found = NULL;

    enum lend_status status = lend_fetch(post->office, address, SEND_NS, &found, error);
    if (status != LEND_OK)
        return status;
    struct compat_peer *peer = import(post, found->metadata, found->metadata_bytes);
    lend_found_release(found);
    if (peer == NULL)
        return LEND_E_NO_PATH;
    status = lend_peer_connect(peer->lend, SEND_NS, error);
    if (status == LEND_OK) {
        *out = peer;
        return LEND_OK;
    }
    compat_peer_end(peer);
    compat_peer_release(peer);
    return status;
}

/* An 'F' says where to answer. */
static bool add_return_address(struct compat_post *post, struct compat_bytes *message)
{
    size_t count = 0, room = 16384;
    uint8_t *bytes = malloc(1 + room);

    if (bytes == NULL)
        return false;
    bytes[0] = 'F';
    if (lend_metadata_export(post->office, bytes + 1, room, &count, NULL) != LEND_OK) {
        free(bytes); /* an office has no regions, so that it always suffices */
        return false;
    }
    *message = (struct compat_bytes){.bytes = bytes, .length_bytes = 1 + count};
    return true;
}

static void carry_out(struct compat_post *post, struct compat_order *order)
{
    struct compat_peer *peer = NULL;
    struct lend_error error = {0};

    if (order->address[0] == '\0') {
        (void)compat_directory_carry_out(post, order); /* what goes wrong is said there */
        return;
    }
    if (order->kind == 'F' && !add_return_address(post, &order->message))
        return;
    enum lend_status status = connect_to(post, order->address, &peer, &error);
    if (status != LEND_OK) {
        compat_log(COMPAT_ERROR, "the listener at %s: %s", order->address, error.message);
        return;
    }
    (void)compat_notification_send(peer, &order->message);
    (void)pthread_mutex_lock(&post->lock);
    keep_peer(post, peer); /* forgotten now, it would not get all of it */
    (void)pthread_mutex_unlock(&post->lock);
}

static struct compat_order *await_order(struct compat_post *post)
{
    (void)pthread_mutex_lock(&post->lock);
    while (post->first == NULL && !atomic_load(&post->is_over))
        (void)pthread_cond_wait(&post->changed, &post->lock);
    struct compat_order *order = post->first;
    if (order != NULL)
        post->first = order->next;
    (void)pthread_mutex_unlock(&post->lock);
    return order;
}

static void free_order(struct compat_order *order)
{
    free(order->message.bytes);
    free(order);
}

static void *send_orders(void *context)
{
    struct compat_post *post = context;

    for (struct compat_order *order; (order = await_order(post)) != NULL; free_order(order))
        if (!atomic_load(&post->is_over))
            carry_out(post, order);
    return NULL;
}

/* --- taking --- */

static void answer(struct compat_post *post, const uint8_t *bytes, size_t count)
{
    struct compat_bytes message = {0};
    void *metadata = NULL;
    size_t metadata_bytes = 0;

    if (compat_metadata_export(post->agent, NULL, &metadata, &metadata_bytes) != NIXL_CAPI_SUCCESS)
        return;
    message.length_bytes = 1 + metadata_bytes;
    message.bytes = malloc(message.length_bytes);
    struct compat_peer *peer = message.bytes != NULL ? import(post, bytes, count) : NULL;
    if (peer != NULL) {
        *(uint8_t *)message.bytes = 'M';
        memcpy((uint8_t *)message.bytes + 1, metadata, metadata_bytes);
        (void)compat_notification_send(peer, &message);
        (void)pthread_mutex_lock(&post->lock);
        keep_peer(post, peer);
        (void)pthread_mutex_unlock(&post->lock);
    }
    free(message.bytes);
    free(metadata);
}

static void take(struct compat_post *post, const char *from, const struct compat_bytes *message)
{
    const uint8_t *bytes = message->bytes;
    char *name = NULL;

    if (message->length_bytes == 0)
        return;
    switch (bytes[0]) {
    case 'M':
        (void)compat_metadata_load(post->agent, bytes + 1, message->length_bytes - 1, &name);
        free(name);
        break;
    case 'F': answer(post, bytes + 1, message->length_bytes - 1); break;
    case 'I': {
        struct compat_peer *peer = NULL;

        if (strcmp(from, post->agent->name) != 0 &&
            compat_peer_find(post->agent, from, &peer) == NIXL_CAPI_SUCCESS) {
            compat_peer_end(peer);
            compat_peer_release(peer);
        }
        break;
    }
    default: compat_log(COMPAT_WARNING, "%s sent what no listener knows", from); break;
    }
}

static void *take_all(void *context)
{
    struct compat_post *post = context;
    nixl_capi_notif_map_t map = NULL;

    if (nixl_capi_create_notif_map(&map) != NIXL_CAPI_SUCCESS)
        return NULL;
    while (!atomic_load(&post->is_over)) {
        if (compat_receive(post->office, post->assembly, TAKE_NS, map) != NIXL_CAPI_SUCCESS)
            break;
        for (size_t i = 0; i < map->count; i++)
            for (size_t j = 0; j < map->agents[i].count; j++)
                take(post, map->agents[i].agent, &map->agents[i].messages[j]);
        (void)nixl_capi_notif_map_clear(map);
    }
    (void)nixl_capi_destroy_notif_map(map);
    return NULL;
}

/* --- the office --- */

static nixl_capi_status_t open_office(struct compat_post *post)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    uint8_t secret[COMPAT_SECRET_BYTES_MAX];
    struct lend_error error;
    char listen[32] = "0.0.0.0";

    config.secret_bytes = (uint32_t)compat_secret(secret);
    if (config.secret_bytes == 0)
        return NIXL_CAPI_ERROR_BACKEND;
    if (post->agent->config.enable_listen_thread)
        (void)snprintf(listen, sizeof listen, "0.0.0.0:%d", post->agent->config.listen_port);
    config.secret = secret;
    config.secret_plugin = compat_setting("lend_secret_plugin");
    config.name = post->agent->name;
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.transports = "local,tcp";
    config.transports_required = "tcp";
    config.listen = listen;
    config.advertise = compat_setting("lend_advertise");
    config.on_log = compat_on_log;
    config.notification_window_bytes = COMPAT_NOTIFICATION_WINDOW;
    enum lend_status status = lend_agent_create(&config, &post->office, &error);
    explicit_bzero(secret, sizeof secret);
    if (status == LEND_OK)
        return NIXL_CAPI_SUCCESS;
    (void)compat_fail_lend(status, &error, "the listener for metadata");
    return NIXL_CAPI_ERROR_BACKEND;
}

static void close_post(struct compat_post *post)
{
    (void)pthread_mutex_lock(&post->lock);
    atomic_store(&post->is_over, true);
    (void)pthread_cond_broadcast(&post->changed);
    (void)pthread_mutex_unlock(&post->lock);
    if (post->has_sender)
        (void)pthread_join(post->sender, NULL);
    if (post->has_taker)
        (void)pthread_join(post->taker, NULL);
    lend_directory_close(atomic_load(&post->directory));
    for (size_t i = 0; i < COMPAT_OFFICE_PEERS; i++) {
        if (post->peers[i] == NULL)
            continue;
        compat_peer_end(post->peers[i]);
        compat_peer_release(post->peers[i]);
    }
    for (struct compat_order *order; (order = post->first) != NULL; free_order(order))
        post->first = order->next;
    lend_agent_destroy(post->office);
    compat_assembly_destroy(post->assembly);
    (void)pthread_cond_destroy(&post->changed);
    (void)pthread_mutex_destroy(&post->lock);
    free(post);
}

/* With an office only if something is to go by listeners. */
static nixl_capi_status_t open_post(nixl_capi_agent_t agent, bool wants_office,
                                    struct compat_post **out)
{
    struct compat_post *post = calloc(1, sizeof *post);
    nixl_capi_status_t status = NIXL_CAPI_ERROR_BACKEND;

    if (post == NULL)
        return status;
    (void)pthread_mutex_init(&post->lock, NULL);
    (void)pthread_cond_init(&post->changed, NULL);
    post->agent = agent;
    post->assembly = compat_assembly_create();
    if (post->assembly != NULL)
        status = wants_office ? open_office(post) : NIXL_CAPI_SUCCESS;
    if (status == NIXL_CAPI_SUCCESS) {
        post->has_sender = pthread_create(&post->sender, NULL, send_orders, post) == 0;
        post->has_taker = wants_office && pthread_create(&post->taker, NULL, take_all, post) == 0;
        if (!post->has_sender || post->has_taker != wants_office)
            status = NIXL_CAPI_ERROR_BACKEND;
    }
    if (status == NIXL_CAPI_SUCCESS)
        *out = post;
    else
        close_post(post);
    return status;
}

nixl_capi_status_t compat_post_open(nixl_capi_agent_t agent)
{
    return open_post(agent, true, &agent->office);
}

void compat_post_close(nixl_capi_agent_t agent)
{
    if (agent->office != NULL)
        close_post(agent->office);
    if (agent->directory != NULL)
        close_post(agent->directory);
    agent->office = agent->directory = NULL;
}

/* --- the ABI --- */

/* The one that it goes by, made by the first who needs it. */
static nixl_capi_status_t find_post(nixl_capi_agent_t agent, bool by_listener,
                                    struct compat_post **out)
{
    struct compat_post **at = by_listener ? &agent->office : &agent->directory;
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;

    (void)pthread_mutex_lock(&agent->lock);
    if (*at == NULL)
        status = open_post(agent, by_listener, at);
    *out = *at;
    (void)pthread_mutex_unlock(&agent->lock);
    return status;
}

static nixl_capi_status_t address_of(const struct nixl_capi_opt_args_s *opt_args, char *out,
                                     size_t room)
{
    unsigned char binary[sizeof(struct in6_addr)];
    const char *address = opt_args != NULL ? opt_args->ip_address : NULL;
    unsigned port = opt_args != NULL && opt_args->has_port ? opt_args->port : (unsigned)COMPAT_PORT;

    out[0] = '\0';
    if (address == NULL)
        return compat_directory_is_there()
                   ? NIXL_CAPI_SUCCESS
                   : compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM,
                                 "no address in the options, and no NIXL_ETCD_ENDPOINTS");
    if (inet_pton(AF_INET, address, binary) == 1)
        (void)snprintf(out, room, "%s:%u", address, port);
    else if (inet_pton(AF_INET6, address, binary) == 1)
        (void)snprintf(out, room, "[%s]:%u", address, port);
    else
        return compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "%s is no numeric address", address);
    return NIXL_CAPI_SUCCESS;
}

/* Leave an order; it is the post's from then on. */
static nixl_capi_status_t leave(nixl_capi_agent_t agent, struct compat_order *order)
{
    struct compat_post *post = NULL;

    nixl_capi_status_t status = find_post(agent, order->address[0] != '\0', &post);
    if (status != NIXL_CAPI_SUCCESS) {
        free_order(order);
        return status;
    }
    (void)pthread_mutex_lock(&post->lock);
    struct compat_order **last = &post->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = order;
    (void)pthread_cond_signal(&post->changed);
    (void)pthread_mutex_unlock(&post->lock);
    return NIXL_CAPI_SUCCESS;
}

static nixl_capi_status_t begin_order(nixl_capi_agent_t agent, char kind,
                                      const struct nixl_capi_opt_args_s *opt_args,
                                      struct compat_order **out)
{
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    struct compat_order *order = calloc(1, sizeof *order);

    if (order == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    order->kind = kind;
    if (status == NIXL_CAPI_SUCCESS)
        status = address_of(opt_args, order->address, sizeof order->address);
    if (status == NIXL_CAPI_SUCCESS && atomic_load(&agent->lend) == NULL)
        status = compat_fail(NIXL_CAPI_ERROR_INVALID_PARAM, "agent %s has no backend", agent->name);
    if (status == NIXL_CAPI_SUCCESS)
        *out = order;
    else
        free_order(order);
    return status;
}

static nixl_capi_status_t add_metadata(nixl_capi_agent_t agent, const struct compat_descs *partial,
                                       struct compat_bytes *out)
{
    void *metadata = NULL;
    size_t count = 0;

    nixl_capi_status_t status = compat_metadata_export(agent, partial, &metadata, &count);
    if (status != NIXL_CAPI_SUCCESS)
        return status;
    uint8_t *bytes = malloc(1 + count);
    if (bytes != NULL) {
        bytes[0] = 'M';
        memcpy(bytes + 1, metadata, count);
        *out = (struct compat_bytes){.bytes = bytes, .length_bytes = 1 + count};
    }
    free(metadata);
    return bytes != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

static nixl_capi_status_t send_metadata(nixl_capi_agent_t agent, const struct compat_descs *partial,
                                        const struct nixl_capi_opt_args_s *opt_args)
{
    struct compat_order *order = NULL;

    if (!compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = begin_order(agent, 'M', opt_args, &order);
    if (status == NIXL_CAPI_SUCCESS) {
        status = add_metadata(agent, partial, &order->message);
        if (status == NIXL_CAPI_SUCCESS)
            status = leave(agent, order);
        else
            free_order(order);
    }
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_send_local_md(nixl_capi_agent_t agent, nixl_capi_opt_args_t opt_args)
{
    return agent != NULL ? send_metadata(agent, NULL, opt_args) : NIXL_CAPI_ERROR_INVALID_PARAM;
}

nixl_capi_status_t nixl_capi_send_local_partial_md(nixl_capi_agent_t agent,
                                                   nixl_capi_reg_dlist_t descs,
                                                   nixl_capi_opt_args_t opt_args)
{
    if (agent == NULL || descs == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    return send_metadata(agent, &descs->descs, opt_args);
}

nixl_capi_status_t nixl_capi_fetch_remote_md(nixl_capi_agent_t agent, const char *remote_name,
                                             nixl_capi_opt_args_t opt_args)
{
    struct compat_order *order = NULL;

    if (agent == NULL || remote_name == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = begin_order(agent, 'F', opt_args, &order);
    if (status == NIXL_CAPI_SUCCESS) {
        (void)snprintf(order->name, sizeof order->name, "%s", remote_name);
        status = leave(agent, order);
    }
    compat_leave(agent);
    return status;
}

nixl_capi_status_t nixl_capi_invalidate_local_md(nixl_capi_agent_t agent,
                                                 nixl_capi_opt_args_t opt_args)
{
    struct compat_order *order = NULL;

    if (agent == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    nixl_capi_status_t status = begin_order(agent, 'I', opt_args, &order);
    if (status == NIXL_CAPI_SUCCESS) {
        order->message.bytes = compat_copy("I", 1);
        order->message.length_bytes = 1;
        if (order->message.bytes != NULL) {
            status = leave(agent, order);
        } else {
            free_order(order);
            status = NIXL_CAPI_ERROR_BACKEND;
        }
    }
    compat_leave(agent);
    return status;
}
