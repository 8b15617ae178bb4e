/* SPDX-License-Identifier: Apache-2.0 */
#include "core/peer.h"

#include "base/error.h"
#include "base/sort.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/onesided.h"
#include "core/region.h"
#include "core/session.h"
#include "core/share.h"

#include <stdio.h>
#include <string.h>

enum { PREFAULT_BYTES = 4 << 20 };

/* --- metadata of our own --- */

static bool is_told(const struct lend_region *region)
{
    return region != NULL && region->access != 0 && !atomic_load(&region->is_withdrawn);
}

static void list_region_locked(const struct lend_region *region, struct lend_metadata_region *out)
{
    *out = (struct lend_metadata_region){
        .id = region->id,
        .kind = region->memory.kind,
        .device = region->memory.device,
        .access = region->access,
        .address = region->memory.address,
        .length_bytes = region->memory.length_bytes,
        .geometry = region->geometry,
        .flags = region->flags & LEND_METADATA_FLAGS,
        .life = region->life,
        .file = lend_file_number_locked(region),
        .file_offset_bytes = region->file_offset_bytes,
        .name = region->name,
        .tags = region->tags != NULL ? region->tags : "",
    };
}

static uint32_t list_regions_locked(struct lend_agent *agent, struct lend_metadata_region *out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < agent->table.place_count; i++)
        if (is_told(agent->table.places[i].region))
            list_region_locked(agent->table.places[i].region, &out[count++]);
    return count;
}

/* Those regions, sorted by their ids, each once. */
static uint32_t list_sorted_locked(const struct lend_sorted *sorted, uint32_t total,
                                   struct lend_metadata_region *out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < total; i++)
        if (is_told(sorted[i].value) && (i == 0 || sorted[i].key != sorted[i - 1].key))
            list_region_locked(sorted[i].value, &out[count++]);
    return count;
}

/* Where the bytes go. */
struct room {
    void *bytes;
    size_t capacity;
    size_t *out_count;
};

static void list_transports(struct lend_agent *agent, struct lend_metadata *out)
{
    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *from = &agent->transports[i];
        struct lend_metadata_transport *to = &out->transports[i];

        (void)snprintf(to->name, sizeof to->name, "%s", from->ops->name);
        to->address_bytes = (uint32_t)from->ops->address(from->transport, to->address);
    }
    out->transport_count = agent->transport_count;
}

/* With sorted, of those regions alone. */
static enum lend_status encode(struct lend_agent *agent, const struct lend_sorted *sorted,
                               uint32_t sorted_count, struct room *room, struct lend_error *error)
{
    struct lend_metadata *metadata = lend_sys->allocate(sizeof *metadata);
    size_t count = 0;

    if (metadata == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to export metadata");
    memcpy(metadata->name, agent->name, sizeof metadata->name);
    memcpy(metadata->incarnation, agent->incarnation, sizeof metadata->incarnation);
    list_transports(agent, metadata);

    (void)pthread_mutex_lock(&agent->lock);
    size_t most = sorted != NULL ? sorted_count : agent->table.count;
    struct lend_metadata_region *regions = lend_sys->allocate_dirty((most + 1) * sizeof *regions);
    if (regions != NULL) {
        metadata->serial = agent->serial;
        metadata->is_partial = sorted != NULL;
        metadata->region_count = sorted != NULL ? list_sorted_locked(sorted, sorted_count, regions)
                                                : list_regions_locked(agent, regions);
        metadata->regions = regions;
        count = lend_metadata_encode(metadata, room->bytes, room->capacity);
    }
    (void)pthread_mutex_unlock(&agent->lock);

    lend_sys->release(metadata);
    lend_sys->release(regions);
    if (regions == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to export metadata");
    *room->out_count = count;
    return LEND_OK;
}

void lend_export_desc_init(struct lend_export_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_export_desc)LEND_EXPORT_DESC_INIT;
}

static enum lend_status check_desc(struct lend_agent *agent, const struct lend_export_desc *desc,
                                   struct lend_error *error)
{
    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_export_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    if ((desc->flags & ~(uint32_t)LEND_EXPORT_PARTIAL) != 0 || desc->reserved != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x, or reserved is %u, not 0",
                         desc->flags, desc->reserved);
    if (desc->regions == NULL ? desc->region_count > 0 : (desc->flags & LEND_EXPORT_PARTIAL) == 0)
        return lend_fail(error, LEND_E_INVALID,
                         "%u regions that are NULL, or without LEND_EXPORT_PARTIAL",
                         desc->region_count);
    for (uint32_t i = 0; i < desc->region_count; i++) {
        enum lend_status status = lend_handle_check(desc->regions[i], LEND_TAG_REGION, error);

        if (status != LEND_OK)
            return status;
        if (desc->regions[i]->agent != agent)
            return lend_fail(error, LEND_E_INVALID, "region %u is of another agent", i);
    }
    return LEND_OK;
}

static enum lend_status encode_some(struct lend_agent *agent, const struct lend_export_desc *desc,
                                    struct room *room, struct lend_error *error)
{
    struct lend_sorted *places =
        lend_sys->allocate(2 * ((size_t)desc->region_count + 1) * sizeof *places);

    if (places == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to export metadata");
    for (uint32_t i = 0; i < desc->region_count; i++)
        places[i] = (struct lend_sorted){.key = desc->regions[i]->id, .value = desc->regions[i]};
    enum lend_status status =
        encode(agent, lend_sort(places, desc->region_count), desc->region_count, room, error);
    lend_sys->release(places);
    return status;
}

enum lend_status lend_metadata_export(struct lend_agent *agent, void *bytes, size_t capacity,
                                      size_t *out_count, struct lend_error *error)
{
    return lend_metadata_export_with(agent, NULL, bytes, capacity, out_count, error);
}

enum lend_status lend_metadata_export_with(struct lend_agent *agent,
                                           const struct lend_export_desc *desc, void *bytes,
                                           size_t capacity, size_t *out_count,
                                           struct lend_error *error)
{
    struct room room = {.bytes = bytes, .capacity = capacity, .out_count = out_count};
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (out_count == NULL || (bytes == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or room for %zu bytes, is NULL",
                         capacity);
    if (desc != NULL)
        status = check_desc(agent, desc, error);
    if (status != LEND_OK)
        return status;
    if (desc != NULL && (desc->flags & LEND_EXPORT_PARTIAL) != 0)
        status = encode_some(agent, desc, &room, error);
    else
        status = encode(agent, NULL, 0, &room, error);
    if (status != LEND_OK)
        return status;
    if (*out_count > LEND_METADATA_BYTES_MAX)
        return lend_fail(error, LEND_E_LIMIT, "metadata of %zu bytes, over %u", *out_count,
                         LEND_METADATA_BYTES_MAX);
    if (*out_count > capacity)
        return lend_fail(error, LEND_E_INVALID,
                         "the metadata takes %zu bytes, there is room for %zu", *out_count,
                         capacity);
    return LEND_OK;
}

/* --- life --- */

void lend_peer_retain(struct lend_peer *peer)
{
    (void)pthread_mutex_lock(&peer->agent->lock);
    peer->references++;
    (void)pthread_mutex_unlock(&peer->agent->lock);
}

static void free_contents(struct lend_peer *peer)
{
    lend_secret_forget(&peer->secret);
    lend_sys->release(peer->metadata);
    lend_sys->release(peer->reaches);
    lend_range_index_fini(&peer->ranges);
    (void)pthread_mutex_destroy(&peer->lock);
}

void lend_peer_release(struct lend_peer *peer)
{
    struct lend_agent *agent = peer->agent;

    (void)pthread_mutex_lock(&agent->lock);
    if (--peer->references == 0) {
        free_contents(peer);
        lend_pool_give(&agent->peers, peer);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

/* The last handle is gone: end the session, and what is under way in it. */
static void end_session(struct lend_peer *peer)
{
    (void)pthread_mutex_lock(&peer->lock);
    struct lend_session *session = peer->session;
    peer->session = NULL;
    peer->is_forgotten = true;
    (void)pthread_mutex_unlock(&peer->lock);
    if (session == NULL)
        return;

    (void)pthread_mutex_lock(&session->lock);
    if (!atomic_load_explicit(&session->is_dead, memory_order_relaxed)) {
        struct lend_error why;

        (void)lend_fail(&why, LEND_E_CANCELED, "peer %s was forgotten", peer->name);
        if (session->channel != NULL)
            lend_session_bye(session, &why);
        else /* between two transports */
            lend_session_die(session, LEND_E_CANCELED, "%s", why.message);
    }
    (void)pthread_mutex_unlock(&session->lock);
    lend_session_release(session);
}

void lend_peer_forget(struct lend_peer *peer)
{
    if (lend_handle_check(peer, LEND_TAG_PEER, NULL) != LEND_OK)
        return;

    struct lend_agent *agent = peer->agent;
    (void)pthread_mutex_lock(&agent->lock);
    bool is_last = --peer->handles == 0;
    if (is_last) {
        lend_list_remove(&peer->link);
        LEND_STATISTICS_ADD_LOCKED(agent, peers_imported, -1);
        peer->object.live_tag = LEND_TAG_PEER_FORGOTTEN;
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (!is_last)
        return;
    end_session(peer);
    lend_peer_release(peer);
    lend_agent_dispatch(agent);
}

void lend_peers_fini(struct lend_agent *agent)
{
    for (void *object = NULL; (object = lend_pool_next(&agent->peers, object)) != NULL;)
        free_contents(object);
    lend_pool_fini(&agent->peers);
}

/* --- the session --- */

enum lend_status lend_peer_session(struct lend_peer *peer, struct lend_session **out,
                                   struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    struct lend_session *dead = NULL;

    (void)pthread_mutex_lock(&peer->lock);
    if (peer->is_forgotten)
        status = lend_fail(error, LEND_E_PEER_DEAD, "peer %s was forgotten", peer->name);
    if (peer->session != NULL &&
        atomic_load_explicit(&peer->session->is_dead, memory_order_acquire)) {
        dead = peer->session;
        peer->session = NULL;
    }
    if (status == LEND_OK && peer->session == NULL) {
        status = lend_client_connect(peer, &peer->session, error);
        if (status != LEND_OK)
            atomic_store(&peer->lost, status);
    }
    if (status == LEND_OK) {
        *out = peer->session;
        lend_session_retain(*out);
    }
    (void)pthread_mutex_unlock(&peer->lock);
    lend_session_release(dead);
    return status;
}

enum lend_status lend_peer_explain(struct lend_peer *peer, struct lend_error *error)
{
    char text[sizeof error->message] = "";
    enum lend_status status = LEND_E_PEER_DEAD;

    (void)pthread_mutex_lock(&peer->agent->lock);
    for (uint32_t i = 0; i < peer->reach_count; i++) {
        const struct lend_peer_reach *reach = &peer->reaches[i];
        size_t length = strlen(text), room = (sizeof text - length) / (peer->reach_count - i);

        if (peer->reach_count == 1)
            (void)snprintf(text, sizeof text, "%s", reach->why.message);
        else
            (void)snprintf(text + length, room, "%s%.16s: %.200s", i > 0 ? "; " : "",
                           reach->transport->ops->name, reach->why.message);
        if (status == LEND_E_PEER_DEAD && reach->why.status < 0)
            status = (enum lend_status)reach->why.status;
    }
    (void)pthread_mutex_unlock(&peer->agent->lock);
    return lend_fail(error, status, "%s", text);
}

enum lend_status lend_peer_route(struct lend_peer *peer, struct lend_session **out,
                                 struct lend_error *error)
{
    enum lend_status status = lend_peer_session(peer, out, error);

    if (status == LEND_OK || status == LEND_E_PEER_DEAD)
        return status;
    if (error != NULL)
        error->status = LEND_E_NO_PATH; /* what it says of the cause stays */
    return LEND_E_NO_PATH;
}

void lend_peer_lose(struct lend_peer *peer, struct lend_session *session)
{
    bool is_its = false;

    (void)pthread_mutex_lock(&peer->lock);
    if (peer->session == session) {
        peer->session = NULL;
        is_its = true;
    }
    (void)pthread_mutex_unlock(&peer->lock);
    if (is_its)
        lend_session_release(session);
}

void lend_peers_mourn(struct lend_agent *agent, const uint8_t *incarnation)
{
    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->peer_list.next; link != &agent->peer_list;
         link = link->next) {
        struct lend_peer *peer = LEND_LIST_OWNER(link, struct lend_peer, link);

        if (memcmp(peer->incarnation, incarnation, LEND_INCARNATION_BYTES) == 0)
            atomic_store(&peer->lost, LEND_E_PEER_DEAD);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

static bool has_greeted(void *subject)
{
    struct lend_session *session = subject;

    /* Not its lock: this is asked under the completion lock, which is a leaf. */
    return session->is_welcome || atomic_load_explicit(&session->is_dead, memory_order_acquire);
}

static bool has_probed(void *subject)
{
    struct lend_onesided *own = lend_client_onesided(subject);

    return (atomic_load_explicit(&own->probe_status, memory_order_acquire) != LEND_PENDING &&
            atomic_load_explicit(&own->session->rail_is_known, memory_order_acquire)) ||
           atomic_load_explicit(&own->session->is_dead, memory_order_acquire);
}

/* Touch what is mapped from the peer, a little at a time, so that others have the session between.
 */
static void prefault(struct lend_session *session, uint64_t until_ns)
{
    bool goes_on = true;

    while (goes_on && lend_sys->now_ns() < until_ns) {
        (void)pthread_mutex_lock(&session->lock);
        goes_on = session->channel != NULL && session->channel->ops->prefault != NULL &&
                  session->channel->ops->prefault(session->channel, PREFAULT_BYTES);
        (void)pthread_mutex_unlock(&session->lock);
    }
}

/* Connected: learn what can be known of the ways to the peer's memory. What is not known in time
 * is found out later. */
static void find_out(struct lend_session *session, const struct lend_peer *peer, uint64_t until_ns)
{
    struct lend_agent *agent = session->agent;

    (void)pthread_mutex_lock(&session->lock);
    if (session->channel != NULL && !atomic_load_explicit(&session->is_dead, memory_order_relaxed))
        lend_onesided_probe(lend_client_onesided(session));
    (void)pthread_mutex_unlock(&session->lock);
    while (lend_agent_is_manual(agent) && !has_probed(session)) {
        uint64_t now = lend_sys->now_ns();

        if (now >= until_ns)
            break;
        (void)lend_poller_progress(&agent->poller, until_ns - now);
    }
    if (!lend_agent_is_manual(agent))
        lend_agent_await(agent, until_ns, has_probed, session);
    if ((peer->import_flags & LEND_IMPORT_PREFAULT) != 0)
        prefault(session, until_ns);
}

static enum lend_status greeting_of(struct lend_session *session, const struct lend_peer *peer,
                                    uint64_t timeout_ns, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&session->lock);
    if (atomic_load_explicit(&session->is_dead, memory_order_relaxed)) {
        status = (enum lend_status)session->why.status;
        if (error != NULL)
            *error = session->why;
    } else if (!session->is_welcome) {
        status = lend_fail(error, LEND_E_TIMEOUT, "%s did not answer within %llu ms", peer->name,
                           (unsigned long long)(timeout_ns / 1000000));
    }
    (void)pthread_mutex_unlock(&session->lock);
    return status;
}

enum lend_status lend_peer_connect(struct lend_peer *peer, uint64_t timeout_ns,
                                   struct lend_error *error)
{
    struct lend_session *session;
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    status = lend_peer_session(peer, &session, error);
    if (status != LEND_OK)
        return status;

    struct lend_agent *agent = peer->agent;
    uint64_t until = lend_deadline(lend_sys->now_ns(), timeout_ns);
    if (lend_agent_is_manual(agent)) {
        /* Once at least, where the time is 0; and not to wait for what has come already. */
        while (!has_greeted(session)) {
            uint64_t now = lend_sys->now_ns();
            (void)lend_poller_progress(&agent->poller, until > now ? until - now : 0);
            if (lend_sys->now_ns() >= until)
                break;
        }
    } else {
        lend_agent_await(agent, until, has_greeted, session);
    }
    status = greeting_of(session, peer, timeout_ns, error);
    if (status == LEND_OK)
        find_out(session, peer, until);
    lend_session_release(session);
    return status;
}

/* --- describing --- */

const struct lend_metadata_region *lend_peer_find_locked(const struct lend_peer *peer, uint64_t id)
{
    const struct lend_metadata *metadata = peer->metadata;
    uint32_t low = 0, high = metadata->region_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (metadata->regions[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < metadata->region_count && metadata->regions[low].id == id ? &metadata->regions[low]
                                                                           : NULL;
}

enum lend_status lend_peer_describe(const struct lend_peer *peer, struct lend_peer_info *out,
                                    struct lend_error *error)
{
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    status = lend_struct_check(out, "lend_peer_info", sizeof *out, error);
    if (status != LEND_OK)
        return status;

    struct lend_peer *mutable_peer = (struct lend_peer *)(uintptr_t)peer;
    struct lend_session *session = NULL;
    *out = (struct lend_peer_info){.struct_size = sizeof *out, .status = LEND_PENDING};
    memcpy(out->name, peer->name, sizeof out->name);
    memcpy(out->incarnation, peer->incarnation, sizeof out->incarnation);
    (void)snprintf(out->transport, sizeof out->transport, "%s", lend_peer_ops(peer)->name);
    (void)pthread_mutex_lock(&peer->agent->lock);
    out->region_count = peer->metadata->region_count;
    (void)pthread_mutex_unlock(&peer->agent->lock);

    (void)pthread_mutex_lock(&mutable_peer->lock);
    session = peer->session;
    if (session != NULL)
        lend_session_retain(session);
    (void)pthread_mutex_unlock(&mutable_peer->lock);
    if (session != NULL) {
        (void)pthread_mutex_lock(&session->lock);
        if (session->is_welcome)
            out->status = LEND_OK;
        (void)pthread_mutex_unlock(&session->lock);
        lend_session_release(session);
    }
    if (atomic_load(&mutable_peer->lost) != LEND_OK)
        out->status = atomic_load(&mutable_peer->lost);
    return LEND_OK;
}

enum lend_status lend_peer_region(const struct lend_peer *peer, const char *name, uint64_t *out_id,
                                  struct lend_error *error)
{
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);
    uint64_t id = 0;

    if (status != LEND_OK)
        return status;
    if (name == NULL || out_id == NULL)
        return lend_fail(error, LEND_E_INVALID, "name or out_id is NULL");
    (void)pthread_mutex_lock(&peer->agent->lock);
    for (uint32_t i = 0; i < peer->metadata->region_count && id == 0; i++)
        if (name[0] != '\0' && strcmp(peer->metadata->regions[i].name, name) == 0)
            id = peer->metadata->regions[i].id;
    (void)pthread_mutex_unlock(&peer->agent->lock);
    if (id == 0)
        return lend_fail(error, LEND_E_ABSENT, "%s has no region named %.63s", peer->name, name);
    *out_id = id;
    return LEND_OK;
}

static void fill_region(const struct lend_metadata_region *region, struct lend_region_info *out)
{
    *out = (struct lend_region_info){
        .struct_size = sizeof *out,
        .access = region->access,
        .id = region->id,
        .memory = {.struct_size = sizeof out->memory,
                   .kind = region->kind,
                   .address = region->address,
                   .length_bytes = region->length_bytes,
                   .device = region->device},
        .geometry = region->geometry,
        .flags = region->flags,
        .life = region->life,
    };
    (void)snprintf(out->name, sizeof out->name, "%s", region->name);
    (void)snprintf(out->tags, sizeof out->tags, "%s", region->tags);
}

enum lend_status lend_peer_region_at(const struct lend_peer *peer, uint32_t index,
                                     struct lend_region_info *out, struct lend_error *error)
{
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    status = lend_struct_check(out, "lend_region_info", sizeof *out, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&peer->agent->lock);
    uint32_t count = peer->metadata->region_count;
    if (index < count)
        fill_region(&peer->metadata->regions[index], out);
    (void)pthread_mutex_unlock(&peer->agent->lock);
    if (index >= count)
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "region %u of %u", index, count);
    return LEND_OK;
}
