/* SPDX-License-Identifier: Apache-2.0 */
#include "post.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Metadata in etcd, as an attachment of what lend keeps there: NIXL_ETCD_ENDPOINTS says where,
 * and NIXL_ETCD_NAMESPACE under which keys.
 *
 * Who fetches it from there follows it: when it is invalidated, the peer is forgotten. An entry
 * that is invalidated loses its attachment first, and then goes; one that goes without that is of
 * an agent that died, or that etcd has not heard of for a while, and then a connection knows
 * better.
 */

#define FIND_NS UINT64_C(5000000000)
enum { FIND_TRIES = 100 }; /* in about that time */

bool compat_directory_is_there(void)
{
    const char *endpoints = getenv("NIXL_ETCD_ENDPOINTS");

    return endpoints != NULL && endpoints[0] != '\0';
}

/* "http://host:port[,http://host:port ...]", which stands for "host:port[,host:port ...]". */
static bool add_hosts(const char *from, const char *scheme, char *out, size_t room)
{
    size_t count = strlen(out);

    while (*from != '\0' && count + 1 < room) {
        if (strncmp(from, scheme, strlen(scheme)) == 0)
            from += strlen(scheme);
        while (*from != '\0' && *from != ',' && count + 1 < room) {
            if (*from != '/')
                out[count++] = *from;
            from++;
        }
        if (*from == ',' && count + 1 < room)
            out[count++] = *from++;
    }
    out[count] = '\0';
    return *from == '\0';
}

/* "etcd://host:port[,host:port ...]/namespace" for lend. */
static bool make_url(char *out, size_t room)
{
    const char *endpoints = getenv("NIXL_ETCD_ENDPOINTS");
    const char *prefix = getenv("NIXL_ETCD_NAMESPACE");
    bool is_secure = strncmp(endpoints, "https://", 8) == 0;

    if (prefix == NULL)
        prefix = "/nixl/agents";
    prefix += strspn(prefix, "/");
    (void)snprintf(out, room, "%s://", is_secure ? "etcds" : "etcd");
    if (!add_hosts(endpoints, is_secure ? "https://" : "http://", out, room))
        return false;
    size_t count = strlen(out);
    return (size_t)snprintf(out + count, room - count, "/%s", prefix) < room - count;
}

/* --- what is followed --- */

/* A peer whose metadata came from the directory, with a reference; NULL: there is none. */
static struct compat_peer *find_followed(nixl_capi_agent_t agent, const char *name)
{
    (void)pthread_mutex_lock(&agent->lock);
    struct compat_peer *peer = agent->peers;
    while (peer != NULL &&
           (!peer->is_followed || peer->is_withdrawn || strcmp(peer->name, name) != 0))
        peer = peer->next;
    if (peer != NULL)
        compat_peer_retain(peer);
    (void)pthread_mutex_unlock(&agent->lock);
    return peer;
}

static void follow(nixl_capi_agent_t agent, const char *name)
{
    (void)pthread_mutex_lock(&agent->lock);
    for (struct compat_peer *peer = agent->peers; peer != NULL; peer = peer->next)
        peer->is_followed |= strcmp(peer->name, name) == 0;
    (void)pthread_mutex_unlock(&agent->lock);
}

static bool is_connected(struct compat_peer *peer)
{
    struct lend_peer_info info = {.struct_size = sizeof info};
    bool connected = false;

    (void)pthread_rwlock_rdlock(&peer->use);
    if (!peer->is_gone && lend_peer_describe(peer->lend, &info, NULL) == LEND_OK)
        connected = info.status == LEND_OK;
    (void)pthread_rwlock_unlock(&peer->use);
    return connected;
}

/* What a look is taken at the entry of a followed peer for. */
enum cause {
    CAUSE_FOUND,   /* it was found and loaded, and may have gone since */
    CAUSE_LEFT,    /* it is told to have gone, */
    CAUSE_EMPTIED, /* or to have been emptied */
};

/* Is its metadata there no more? What is told comes late at times, so that one looks. */
static bool is_withdrawn(struct lend_directory *directory, struct compat_peer *peer,
                         enum cause cause)
{
    struct lend_found *found = NULL;

    enum lend_status status = lend_directory_find(directory, peer->name, 0, &found, NULL);
    if (status == LEND_OK) {
        bool has_metadata = found->attachment != NULL;

        lend_found_release(found);
        return !has_metadata;
    }
    if (cause == CAUSE_EMPTIED)
        return true;
    return (cause == CAUSE_LEFT || status == LEND_E_ABSENT) && !is_connected(peer);
}

static void forget_withdrawn(struct compat_post *post, const char *name, enum cause cause)
{
    struct lend_directory *directory = atomic_load(&post->directory);
    struct compat_peer *peer = directory != NULL ? find_followed(post->agent, name) : NULL;

    if (peer != NULL && is_withdrawn(directory, peer, cause)) {
        compat_log(COMPAT_INFO, "%s: the metadata of %s was taken out of etcd", post->agent->name,
                   name);
        compat_peer_withdraw(peer);
    }
    compat_peer_release(peer);
}

/* On a thread of the directory. */
static void on_event(void *context, enum lend_directory_event event, const char *name,
                     const struct lend_found *found)
{
    if (event == LEND_DIRECTORY_LEFT)
        forget_withdrawn(context, name, CAUSE_LEFT);
    else if (found->attachment == NULL)
        forget_withdrawn(context, name, CAUSE_EMPTIED);
}

/* --- what is ordered --- */

static enum lend_status open_it(struct compat_post *post, struct lend_error *error)
{
    struct lend_directory_config config = LEND_DIRECTORY_CONFIG_INIT;
    struct lend_directory *made = NULL;
    char url[1024];

    if (atomic_load(&post->directory) != NULL)
        return LEND_OK;
    if (!make_url(url, sizeof url)) {
        (void)snprintf(error->message, sizeof error->message,
                       "NIXL_ETCD_ENDPOINTS and NIXL_ETCD_NAMESPACE have over %zu bytes",
                       sizeof url - 16);
        return LEND_E_INVALID;
    }
    config.flags = LEND_DIRECTORY_NO_REGIONS; /* they are told of in the attachment */
    config.url = url;
    config.plugin = compat_setting("lend_etcd_plugin");
    config.on_event = on_event;
    config.context = post;
    enum lend_status status =
        lend_directory_open(atomic_load(&post->agent->lend), &config, &made, error);
    if (status == LEND_OK)
        atomic_store(&post->directory, made);
    return status;
}

static enum lend_status publish(struct compat_post *post, const struct compat_order *order,
                                struct lend_error *error)
{
    const uint8_t *bytes = order->message.bytes;

    /* Without the letter before it. */
    enum lend_status status = lend_agent_attach(atomic_load(&post->agent->lend), bytes + 1,
                                                order->message.length_bytes - 1, error);
    return status == LEND_OK ? lend_directory_publish(atomic_load(&post->directory), error)
                             : status;
}

/* An entry with metadata: one that was emptied is about to go, and may come again. */
static enum lend_status find_whole(struct compat_post *post, const char *name,
                                   struct lend_found **out, struct lend_error *error)
{
    const struct timespec pause = {.tv_nsec = FIND_NS / FIND_TRIES};

    for (int i = 0; i < FIND_TRIES && !atomic_load(&post->is_over); i++) {
        struct lend_found *found = NULL;

        enum lend_status status =
            lend_directory_find(atomic_load(&post->directory), name, FIND_NS, &found, error);
        if (status != LEND_OK)
            return status;
        if (found->attachment != NULL) {
            *out = found;
            return LEND_OK;
        }
        lend_found_release(found);
        (void)nanosleep(&pause, NULL);
    }
    (void)snprintf(error->message, sizeof error->message, "the entry of %s has no metadata", name);
    return LEND_E_ABSENT;
}

static enum lend_status find(struct compat_post *post, const struct compat_order *order,
                             struct lend_error *error)
{
    struct lend_found *found = NULL;
    char *name = NULL;

    enum lend_status status = find_whole(post, order->name, &found, error);
    if (status != LEND_OK)
        return status;
    /* What is wrong with it is said there. */
    (void)compat_metadata_load(post->agent, found->attachment, found->attachment_bytes, &name);
    lend_found_release(found);
    if (name != NULL) {
        follow(post->agent, name);
        forget_withdrawn(post, name, CAUSE_FOUND);
    }
    free(name);
    return LEND_OK;
}

static enum lend_status invalidate(struct compat_post *post, struct lend_error *error)
{
    struct lend_directory *directory = atomic_load(&post->directory);

    if (directory == NULL) /* then nothing of ours is there */
        return LEND_OK;
    enum lend_status status = lend_agent_attach(atomic_load(&post->agent->lend), NULL, 0, error);
    if (status == LEND_OK)
        status = lend_directory_publish(directory, error); /* so that others are told why it goes */
    enum lend_status taken_back = lend_directory_unpublish(directory, error);
    return taken_back != LEND_OK ? taken_back : status;
}

nixl_capi_status_t compat_directory_carry_out(struct compat_post *post,
                                              const struct compat_order *order)
{
    struct lend_error error = {0};

    enum lend_status status = order->kind == 'I' ? invalidate(post, &error) : open_it(post, &error);
    if (status == LEND_OK && order->kind != 'I')
        status = order->kind == 'M' ? publish(post, order, &error) : find(post, order, &error);
    return status == LEND_OK ? NIXL_CAPI_SUCCESS
                             : compat_fail_lend(status, &error, "metadata by etcd");
}
