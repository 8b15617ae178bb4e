/* SPDX-License-Identifier: Apache-2.0 */
#include "post.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Metadata in etcd, as an attachment of what lend keeps there: NIXL_ETCD_ENDPOINTS says where. */

#define FIND_NS UINT64_C(5000000000)

bool compat_directory_is_there(void)
{
    const char *endpoints = getenv("NIXL_ETCD_ENDPOINTS");

    return endpoints != NULL && endpoints[0] != '\0';
}

/* "http://host:port[,http://host:port ...]" as lend has it: "etcd://host:port[,host:port
 * ...]/nixl". */
static bool make_url(char *out, size_t room)
{
    const char *from = getenv("NIXL_ETCD_ENDPOINTS");
    bool is_secure = strncmp(from, "https://", 8) == 0;
    size_t count = (size_t)snprintf(out, room, "%s://", is_secure ? "etcds" : "etcd");

    while (*from != '\0' && count + 16 < room) {
        const char *scheme = is_secure ? "https://" : "http://";

        if (strncmp(from, scheme, strlen(scheme)) == 0)
            from += strlen(scheme);
        while (*from != '\0' && *from != ',' && count + 16 < room) {
            if (*from != '/')
                out[count++] = *from;
            from++;
        }
        if (*from == ',')
            out[count++] = *from++;
    }
    if (*from != '\0')
        return false;
    (void)snprintf(out + count, room - count, "/nixl");
    return true;
}

static enum lend_status open_it(struct compat_post *post, struct lend_error *error)
{
    struct lend_directory_config config = LEND_DIRECTORY_CONFIG_INIT;
    char url[512];

    if (post->directory != NULL)
        return LEND_OK;
    if (!make_url(url, sizeof url)) {
        (void)snprintf(error->message, sizeof error->message, "NIXL_ETCD_ENDPOINTS is too long");
        return LEND_E_INVALID;
    }
    config.url = url;
    config.plugin = compat_setting("lend_etcd_plugin");
    return lend_directory_open(atomic_load(&post->agent->lend), &config, &post->directory, error);
}

static enum lend_status publish(struct compat_post *post, const struct compat_order *order,
                                struct lend_error *error)
{
    const uint8_t *bytes = order->message.bytes;

    /* Without the letter before it. */
    enum lend_status status = lend_agent_attach(atomic_load(&post->agent->lend), bytes + 1,
                                                order->message.length_bytes - 1, error);
    return status == LEND_OK ? lend_directory_publish(post->directory, error) : status;
}

static enum lend_status find(struct compat_post *post, const struct compat_order *order,
                             struct lend_error *error)
{
    struct lend_found *found = NULL;
    char *name = NULL;

    enum lend_status status =
        lend_directory_find(post->directory, order->name, FIND_NS, &found, error);
    if (status != LEND_OK)
        return status;
    if (found->attachment != NULL) /* what is wrong with it was said */
        (void)compat_metadata_load(post->agent, found->attachment, found->attachment_bytes, &name);
    lend_found_release(found);
    free(name);
    return LEND_OK;
}

nixl_capi_status_t compat_directory_carry_out(struct compat_post *post,
                                              const struct compat_order *order)
{
    struct lend_error error = {0};

    if (order->kind == 'I') {
        lend_directory_close(post->directory);
        post->directory = NULL;
        return NIXL_CAPI_SUCCESS;
    }
    enum lend_status status = open_it(post, &error);
    if (status == LEND_OK)
        status = order->kind == 'M' ? publish(post, order, &error) : find(post, order, &error);
    return status == LEND_OK ? NIXL_CAPI_SUCCESS
                             : compat_fail_lend(status, &error, "metadata by etcd");
}
