/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <stdlib.h>
#include <string.h>

/* Where an agent is, or would be put. True: it is there. */
static bool find(const struct nixl_capi_notif_map_s *map, const char *agent, size_t *out)
{
    size_t first = 0, end = map->count;

    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = strcmp(map->agents[middle].agent, agent);
        if (order == 0) {
            *out = middle;
            return true;
        }
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    *out = first;
    return false;
}

/* Put an agent that has no messages yet at its place. */
static bool insert(nixl_capi_notif_map_t map, const char *agent, size_t at)
{
    void *agents = map->agents;

    if (!compat_reserve(&agents, &map->capacity, map->count + 1, sizeof *map->agents))
        return false;
    map->agents = agents;
    char *copy = compat_copy_text(agent);
    if (copy == NULL)
        return false;

    memmove(&map->agents[at + 1], &map->agents[at], (map->count - at) * sizeof *map->agents);
    map->agents[at] = (struct compat_notifications){.agent = copy};
    map->count++;
    return true;
}

static void drop(struct compat_notifications *from)
{
    for (size_t i = 0; i < from->count; i++)
        free(from->messages[i].bytes);
    free(from->messages);
    free(from->agent);
}

static bool append(struct compat_notifications *from, void *bytes, size_t length_bytes)
{
    void *messages = from->messages;

    if (!compat_reserve(&messages, &from->capacity, from->count + 1, sizeof *from->messages))
        return false;
    from->messages = messages;
    from->messages[from->count++] =
        (struct compat_bytes){.bytes = bytes, .length_bytes = length_bytes};
    return true;
}

bool compat_notif_map_add(nixl_capi_notif_map_t map, const char *agent, const void *bytes,
                          size_t length_bytes)
{
    size_t at = 0;
    void *copy = compat_copy(bytes, length_bytes);
    if (copy == NULL)
        return false;

    bool is_new = !find(map, agent, &at);
    if (is_new && !insert(map, agent, at)) {
        free(copy);
        return false;
    }
    if (append(&map->agents[at], copy, length_bytes))
        return true;

    free(copy);
    if (is_new) {
        drop(&map->agents[at]);
        map->count--;
        memmove(&map->agents[at], &map->agents[at + 1], (map->count - at) * sizeof *map->agents);
    }
    return false;
}

nixl_capi_status_t nixl_capi_create_notif_map(nixl_capi_notif_map_t *notif_map)
{
    if (notif_map == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *notif_map = calloc(1, sizeof **notif_map);
    return *notif_map != NULL ? NIXL_CAPI_SUCCESS : NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t nixl_capi_destroy_notif_map(nixl_capi_notif_map_t notif_map)
{
    if (notif_map == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    (void)nixl_capi_notif_map_clear(notif_map); /* it fails for NULL alone */
    free(notif_map->agents);
    free(notif_map);
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_notif_map_clear(nixl_capi_notif_map_t map)
{
    if (map == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    for (size_t i = 0; i < map->count; i++)
        drop(&map->agents[i]);
    map->count = 0;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_notif_map_size(nixl_capi_notif_map_t map, size_t *size)
{
    if (map == NULL || size == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *size = map->count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_notif_map_get_agent_at(nixl_capi_notif_map_t map, size_t index,
                                                    const char **agent_name)
{
    if (agent_name == NULL)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *agent_name = NULL;
    if (map == NULL || index >= map->count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *agent_name = map->agents[index].agent;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_notif_map_get_notifs_size(nixl_capi_notif_map_t map,
                                                       const char *agent_name, size_t *size)
{
    size_t at = 0;

    if (map == NULL || agent_name == NULL || size == NULL || !find(map, agent_name, &at))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *size = map->agents[at].count;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t nixl_capi_notif_map_get_notif(nixl_capi_notif_map_t map, const char *agent_name,
                                                 size_t index, const void **data, size_t *len)
{
    size_t at = 0;

    if (data != NULL)
        *data = NULL;
    if (map == NULL || agent_name == NULL || data == NULL || len == NULL ||
        !find(map, agent_name, &at) || index >= map->agents[at].count)
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    *data = map->agents[at].messages[index].bytes;
    *len = map->agents[at].messages[index].length_bytes;
    return NIXL_CAPI_SUCCESS;
}
