/* SPDX-License-Identifier: Apache-2.0 */
#include "core/peer.h"

#include "base/error.h"
#include "base/sys.h"
#include "wire/field.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A peer's metadata, taken in: for the first time, or in the place of what it told before. */

void lend_import_desc_init(struct lend_import_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_import_desc)LEND_IMPORT_DESC_INIT;
}

/* --- wanted tags --- */

/* A pair "key=value" of a list; also a word of other tags, which has no value. */
struct tag {
    const char *key;
    size_t key_bytes;
    const char *value; /* NULL: there is no '=' */
    size_t value_bytes;
};

/* The next word of a list of tags; false at its end. */
static bool next_tag(const char **list, struct tag *out)
{
    const char *at = *list + strspn(*list, " ");
    size_t bytes = strcspn(at, " ");
    const char *equals = memchr(at, '=', bytes);

    if (bytes == 0)
        return false;
    *list = at + bytes;
    out->key = at;
    out->key_bytes = equals != NULL ? (size_t)(equals - at) : bytes;
    out->value = equals != NULL ? equals + 1 : NULL;
    out->value_bytes = equals != NULL ? bytes - out->key_bytes - 1 : 0;
    return true;
}

static enum lend_status check_wanted(const char *wanted, struct lend_error *error)
{
    size_t bytes = strnlen(wanted, LEND_REGION_TAGS_BYTES_MAX + 1);
    struct tag tag;

    if (bytes > LEND_REGION_TAGS_BYTES_MAX || !lend_text_is_printable(wanted, bytes))
        return lend_fail(error, LEND_E_INVALID,
                         "the wanted tags must have at most %d printable bytes",
                         LEND_REGION_TAGS_BYTES_MAX);
    while (next_tag(&wanted, &tag))
        if (tag.value == NULL || tag.key_bytes == 0)
            return lend_fail(error, LEND_E_INVALID, "the wanted tag %.*s is no pair key=value",
                             tag.value == NULL ? (int)tag.key_bytes : 1, tag.key);
    return LEND_OK;
}

/* The first pair of that key; false: there is none. */
static bool find_tag(const char *list, const struct tag *wanted, struct tag *out)
{
    while (next_tag(&list, out))
        if (out->value != NULL && out->key_bytes == wanted->key_bytes &&
            memcmp(out->key, wanted->key, wanted->key_bytes) == 0)
            return true;
    return false;
}

static enum lend_status check_region_tags(const struct lend_metadata *metadata,
                                          const struct lend_metadata_region *region,
                                          const char *wanted, struct lend_error *error)
{
    enum { SHOWN_MAX = 40 }; /* of a key and of each value: the message has room for all */
    struct tag tag, found;

    while (next_tag(&wanted, &tag)) {
        bool has = find_tag(region->tags, &tag, &found);
        size_t value_bytes = has ? found.value_bytes : 0;

        if (has && value_bytes == tag.value_bytes &&
            memcmp(found.value, tag.value, value_bytes) == 0)
            continue;
        return lend_fail(
            error, LEND_E_MISMATCH,
            "region %.63s (%llu) of %.32s: %.*s is %s%.*s, and wanted is %.*s", region->name,
            (unsigned long long)region->id, metadata->name,
            (int)(tag.key_bytes < SHOWN_MAX ? tag.key_bytes : SHOWN_MAX), tag.key,
            has ? "" : "not told", (int)(value_bytes < SHOWN_MAX ? value_bytes : SHOWN_MAX),
            has ? found.value : "",
            (int)(tag.value_bytes < SHOWN_MAX ? tag.value_bytes : SHOWN_MAX), tag.value);
    }
    return LEND_OK;
}

static enum lend_status check_tags(const struct lend_metadata *metadata, const char *wanted,
                                   struct lend_error *error)
{
    const char *before = NULL;

    if (wanted == NULL || wanted[0] == '\0')
        return LEND_OK;
    for (uint32_t i = 0; i < metadata->region_count; i++) {
        const struct lend_metadata_region *region = &metadata->regions[i];

        if (region->tags == before)
            continue; /* like regions share the bytes of their tags */
        before = region->tags;
        enum lend_status status = check_region_tags(metadata, region, wanted, error);
        if (status != LEND_OK)
            return status;
    }
    return LEND_OK;
}

/* --- importing --- */

/* What an import works with: decoded bytes, and their index, until a peer takes them. */
struct import {
    struct lend_agent *agent;
    const struct lend_import_desc *desc;
    struct lend_metadata *metadata;
    struct lend_range_index ranges;
    struct lend_peer_reach *reaches; /* room for LEND_PEER_REACHES_MAX */
    uint32_t reach_count;
    struct lend_secret secret; /* that the description gives, until a peer takes it */
};

/* Keep the reaches in order of rank; of equals, the first to come stays first. */
static void insert_reach(struct import *import, const struct lend_open_transport *ours,
                         const struct lend_metadata_transport *theirs)
{
    uint32_t at = import->reach_count;

    while (at > 0 && import->reaches[at - 1].transport->ops->rank > ours->ops->rank)
        at--;
    if (at == LEND_PEER_REACHES_MAX)
        return;
    if (import->reach_count < LEND_PEER_REACHES_MAX)
        import->reach_count++;
    memmove(&import->reaches[at + 1], &import->reaches[at],
            (import->reach_count - 1 - at) * sizeof import->reaches[0]);
    import->reaches[at] = (struct lend_peer_reach){.transport = ours, .address = *theirs};
}

/* A rail that leads to the peer, beside whatever it is reached by. */
static void find_rail(struct lend_peer *peer, const struct lend_metadata *metadata)
{
    const struct lend_agent *agent = peer->agent;

    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *ours = &agent->transports[i];

        for (uint32_t j = 0; ours->ops->rail != NULL && j < metadata->transport_count; j++) {
            const struct lend_metadata_transport *theirs = &metadata->transports[j];

            if (strcmp(ours->ops->name, theirs->name) == 0 &&
                ours->ops->rail->leads(ours->transport, theirs->address, theirs->address_bytes)) {
                peer->rail = ours;
                peer->rail_address = *theirs;
            }
        }
    }
}

static void find_reaches(struct import *import)
{
    const struct lend_metadata *metadata = import->metadata;
    struct lend_agent *agent = import->agent;

    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *ours = &agent->transports[i];

        for (uint32_t j = 0; j < metadata->transport_count; j++) {
            const struct lend_metadata_transport *theirs = &metadata->transports[j];

            if (ours->ops->rail == NULL && strcmp(ours->ops->name, theirs->name) == 0 &&
                ours->ops->reaches(ours->transport, theirs->address, theirs->address_bytes))
                insert_reach(import, ours, theirs);
        }
    }
}

static enum lend_status no_path(const struct lend_agent *agent,
                                const struct lend_metadata *metadata, struct lend_error *error)
{
    char ours[80] = "", theirs[80] = "";

    for (uint32_t i = 0; i < agent->transport_count; i++)
        (void)snprintf(ours + strlen(ours), sizeof ours - strlen(ours), " %s",
                       agent->transports[i].ops->name);
    for (uint32_t i = 0; i < metadata->transport_count; i++)
        (void)snprintf(theirs + strlen(theirs), sizeof theirs - strlen(theirs), " %s",
                       metadata->transports[i].name);
    return lend_fail(error, LEND_E_NO_PATH, "no transport reaches %s: it has%s, we have%s",
                     metadata->name, theirs, ours);
}

static struct lend_peer *find_locked(struct lend_agent *agent, const uint8_t *incarnation)
{
    for (struct lend_list *link = agent->peer_list.next; link != &agent->peer_list;
         link = link->next) {
        struct lend_peer *peer = LEND_LIST_OWNER(link, struct lend_peer, link);

        if (memcmp(peer->incarnation, incarnation, LEND_INCARNATION_BYTES) == 0)
            return peer;
    }
    return NULL;
}

static enum lend_status index_regions(const struct lend_metadata *metadata,
                                      struct lend_range_index *out, struct lend_error *error)
{
    uint32_t count = metadata->region_count;
    enum lend_status status = lend_range_index_reserve(out, count, error);

    if (status != LEND_OK || count == 0)
        return status;
    struct lend_range_entry *entries = lend_sys->allocate(count * sizeof *entries);
    struct lend_sorted *places = lend_sys->allocate(2 * (size_t)count * sizeof *places);
    if (entries == NULL || places == NULL) {
        lend_sys->release(entries);
        lend_sys->release(places);
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory to index %u regions", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct lend_metadata_region *region = &metadata->regions[i];

        entries[i] = (struct lend_range_entry){
            .start = region->address,
            .end = region->address + region->length_bytes,
            .value = (void *)((uintptr_t)i + 1),
        };
    }
    lend_range_index_insert_all(out, entries, places, count);
    lend_sys->release(entries);
    lend_sys->release(places);
    return LEND_OK;
}

/* --- the secret --- */

/* The plugin, loaded by the first who needs it. */
static enum lend_status have_plugin(struct lend_agent *agent, const struct lend_secret_plugin **out,
                                    struct lend_error *error)
{
    struct lend_secret_keeper keeper = {0};
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&agent->lock);
    *out = agent->keeper.plugin;
    (void)pthread_mutex_unlock(&agent->lock);
    if (*out != NULL)
        return LEND_OK;
    status = lend_secret_load(&keeper, agent->config.secret_plugin, error);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&agent->lock);
        if (agent->keeper.plugin == NULL) {
            agent->keeper = keeper;
            keeper = (struct lend_secret_keeper){0};
        }
        *out = agent->keeper.plugin; /* ours, or that of a thread that was faster */
        (void)pthread_mutex_unlock(&agent->lock);
    }
    lend_secret_unload(&keeper);
    return status;
}

/* Not under the agent's lock: files are read, and memory is locked. */
static enum lend_status take_secret(struct import *import, struct lend_error *error)
{
    const struct lend_import_desc *desc = import->desc;
    const struct lend_secret_plugin *plugin = NULL;

    if (desc->secret == NULL)
        return LEND_OK;
    enum lend_status status = have_plugin(import->agent, &plugin, error);
    if (status != LEND_OK)
        return status;
    import->secret.is_of_peer = true;
    return lend_secret_keep(&import->secret, plugin, desc->secret, desc->secret_bytes, error);
}

/* The first import of an incarnation says by which secret it is met. */
static enum lend_status check_same_secret(const struct lend_peer *peer,
                                          const struct lend_secret *secret,
                                          struct lend_error *error)
{
    if (secret->plugin == NULL || lend_secret_is_same(lend_peer_secret(peer), secret))
        return LEND_OK;
    return lend_fail(error, LEND_E_MISMATCH,
                     "%s is known already, with another secret or without one; forget it first",
                     peer->name);
}

/* --- entering --- */

static void swap_in(struct lend_peer *peer, struct import *import)
{
    struct lend_metadata *metadata = peer->metadata;
    struct lend_range_index ranges = peer->ranges;

    peer->metadata = import->metadata;
    peer->ranges = import->ranges;
    import->metadata = metadata;
    import->ranges = ranges;
    /* Release: whoever sees the new stamp, and looks under the agent's lock, sees what is new. */
    (void)atomic_fetch_add_explicit(&peer->metadata_stamp, 1, memory_order_release);
}

/* Does the peer's metadata have all that was told, in lives as late? */
static bool has_all_locked(const struct lend_peer *peer, const struct lend_metadata *told)
{
    for (uint32_t i = 0; i < told->region_count; i++) {
        const struct lend_metadata_region *known = lend_peer_find_locked(peer, told->regions[i].id);

        if (known == NULL || known->life < told->regions[i].life)
            return false;
    }
    return true;
}

/* What was told of some regions is added to what is known. Of all regions: it takes the place of
 * what is known, if that is older; but what was told of some since then stays. */
static enum lend_status complete_locked(const struct lend_peer *peer, struct import *import,
                                        bool *out_is_newer, struct lend_error *error)
{
    struct lend_metadata *told = import->metadata, *merged = NULL;
    bool is_newer =
        told->serial > peer->whole_serial && !(told->is_partial && has_all_locked(peer, told));
    enum lend_status status = LEND_OK;

    if (is_newer && (told->is_partial || told->serial < peer->metadata->serial)) {
        status = lend_metadata_merge(peer->metadata, told, &merged, error);
        if (status != LEND_OK)
            return status;
        merged->is_partial = told->is_partial; /* of this time, as it has been */
        lend_sys->release(told);
        lend_range_index_fini(&import->ranges);
        import->ranges = (struct lend_range_index){0};
        import->metadata = merged;
        status = index_regions(merged, &import->ranges, error);
    }
    *out_is_newer = is_newer;
    return status;
}

/* Take over what is newer, if it is as the first import wanted it, and this one does. */
static enum lend_status renew_locked(struct lend_peer *peer, struct import *import,
                                     struct lend_error *error)
{
    uint64_t serial = import->metadata->serial; /* merged, it may be another */
    bool is_newer = false;

    enum lend_status status = check_same_secret(peer, &import->secret, error);
    if (status == LEND_OK)
        status = complete_locked(peer, import, &is_newer, error);
    const struct lend_metadata *metadata = is_newer ? import->metadata : peer->metadata;
    if (status == LEND_OK)
        status = check_tags(metadata, import->desc->tags, error);
    if (status == LEND_OK && is_newer)
        status = check_tags(metadata, peer->wanted_tags, error);
    /* The addresses of an incarnation do not change; its regions do. */
    if (status == LEND_OK && is_newer) {
        if (!import->metadata->is_partial)
            peer->whole_serial = serial;
        swap_in(peer, import);
    }
    return status;
}

static enum lend_status enter_locked(struct import *import, struct lend_peer **out,
                                     struct lend_error *error)
{
    struct lend_agent *agent = import->agent;
    struct lend_peer *peer = find_locked(agent, import->metadata->incarnation);
    enum lend_status status;

    if (peer != NULL) {
        status = renew_locked(peer, import, error);
        if (status != LEND_OK)
            return status;
        peer->handles++;
        *out = peer;
        return LEND_OK;
    }
    status = check_tags(import->metadata, import->desc->tags, error);
    if (status != LEND_OK)
        return status;
    if (agent->peers.live_count == agent->config.peers_max)
        return lend_fail(error, LEND_E_LIMIT, "%u peers are known (peers_max)",
                         agent->config.peers_max);
    peer = lend_pool_take(&agent->peers, LEND_TAG_PEER);
    if (peer == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a peer");
    peer->agent = agent;
    peer->handles = 1;
    peer->references = 1;
    memcpy(peer->name, import->metadata->name, sizeof peer->name);
    memcpy(peer->incarnation, import->metadata->incarnation, sizeof peer->incarnation);
    if (import->desc->tags != NULL)
        memcpy(peer->wanted_tags, import->desc->tags, strlen(import->desc->tags) + 1);
    peer->import_flags = import->desc->flags;
    peer->secret = import->secret;
    import->secret = (struct lend_secret){0};
    peer->reaches = LEND_TAKE(import->reaches);
    peer->reach_count = import->reach_count;
    find_rail(peer, import->metadata);
    peer->whole_serial = import->metadata->is_partial ? 0 : import->metadata->serial;
    swap_in(peer, import);
    (void)pthread_mutex_init(&peer->lock, NULL);
    lend_list_append(&agent->peer_list, &peer->link);
    LEND_STATISTICS_ADD_LOCKED(agent, peers_imported, 1);
    *out = peer;
    return LEND_OK;
}

static enum lend_status check_desc(const struct lend_import_desc *desc, struct lend_error *error)
{
    if ((desc->flags & ~(uint32_t)LEND_IMPORT_PREFAULT) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", desc->flags);
    if (desc->reserved != 0)
        return lend_fail(error, LEND_E_INVALID, "reserved is %u, not 0", desc->reserved);
    enum lend_status status = lend_secret_check(desc->secret, desc->secret_bytes, error);
    if (status != LEND_OK)
        return status;
    return desc->tags != NULL ? check_wanted(desc->tags, error) : LEND_OK;
}

/* The caller's, of whatever version, as one of ours. NULL: nothing is wanted. */
static enum lend_status copy_desc(const struct lend_import_desc *desc, struct lend_import_desc *out,
                                  struct lend_error *error)
{
    /* Programs were compiled with this, before peers had secrets. */
    const size_t first_size = offsetof(struct lend_import_desc, secret);

    lend_import_desc_init(out);
    if (desc == NULL)
        return LEND_OK;
    if (desc->struct_size != sizeof *desc && desc->struct_size != first_size)
        return lend_fail(error, LEND_E_VERSION, "lend_import_desc is %u bytes, not %zu or %zu",
                         desc->struct_size, sizeof *desc, first_size);
    memcpy(out, desc, desc->struct_size);
    return check_desc(out, error);
}

static enum lend_status decode(struct import *import, const void *bytes, size_t count,
                               struct lend_error *error)
{
    if (count > LEND_METADATA_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "metadata of %zu bytes, over %u", count,
                         LEND_METADATA_BYTES_MAX);
    enum lend_status status = lend_metadata_decode(bytes, count, &import->metadata, error);
    if (status != LEND_OK)
        return status;
    return index_regions(import->metadata, &import->ranges, error);
}

static enum lend_status reach_out(struct import *import, struct lend_error *error)
{
    import->reaches = lend_sys->allocate(LEND_PEER_REACHES_MAX * sizeof *import->reaches);
    if (import->reaches == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the addresses of a peer");
    find_reaches(import);
    return import->reach_count > 0 ? LEND_OK : no_path(import->agent, import->metadata, error);
}

static void let_go(struct import *import)
{
    lend_sys->release(import->reaches);
    lend_sys->release(import->metadata);
    lend_range_index_fini(&import->ranges);
    lend_secret_forget(&import->secret);
}

enum lend_status lend_peer_import_with(struct lend_agent *agent, const void *bytes, size_t count,
                                       const struct lend_import_desc *desc, struct lend_peer **out,
                                       struct lend_error *error)
{
    struct lend_import_desc wanted;
    struct import import = {.agent = agent, .desc = &wanted};
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (bytes == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "bytes or out is NULL");
    status = copy_desc(desc, &wanted, error);
    if (status == LEND_OK)
        status = decode(&import, bytes, count, error);
    if (status == LEND_OK)
        status = reach_out(&import, error);
    if (status == LEND_OK)
        status = take_secret(&import, error);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&agent->lock);
        status = enter_locked(&import, out, error);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    let_go(&import);
    return status;
}

enum lend_status lend_peer_import(struct lend_agent *agent, const void *bytes, size_t count,
                                  struct lend_peer **out, struct lend_error *error)
{
    return lend_peer_import_with(agent, bytes, count, NULL, out, error);
}

enum lend_status lend_peer_refresh(struct lend_peer *peer, const void *bytes, size_t count,
                                   struct lend_error *error)
{
    static const struct lend_import_desc nothing_wanted = LEND_IMPORT_DESC_INIT;
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    if (bytes == NULL)
        return lend_fail(error, LEND_E_INVALID, "bytes is NULL");

    struct import import = {.agent = peer->agent, .desc = &nothing_wanted};
    status = decode(&import, bytes, count, error);
    if (status == LEND_OK &&
        memcmp(import.metadata->incarnation, peer->incarnation, LEND_INCARNATION_BYTES) != 0)
        status = lend_fail(error, LEND_E_PEER_DEAD,
                           "the metadata is of %s in another incarnation than that of %s: it "
                           "restarted; import it",
                           import.metadata->name, peer->name);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&peer->agent->lock);
        status = renew_locked(peer, &import, error);
        (void)pthread_mutex_unlock(&peer->agent->lock);
    }
    let_go(&import);
    return status;
}

void lend_peers_renew(struct lend_agent *agent, const void *bytes, size_t count)
{
    static const struct lend_import_desc nothing_wanted = LEND_IMPORT_DESC_INIT;
    struct import import = {.agent = agent, .desc = &nothing_wanted};
    struct lend_error why = {0};

    enum lend_status status = decode(&import, bytes, count, &why);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&agent->lock);
        struct lend_peer *peer = find_locked(agent, import.metadata->incarnation);
        if (peer != NULL)
            status = renew_locked(peer, &import, &why);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    if (status != LEND_OK)
        lend_agent_log(agent, LEND_LOG_WARNING, "newer metadata of a peer is not taken: %s",
                       why.message);
    let_go(&import);
}
