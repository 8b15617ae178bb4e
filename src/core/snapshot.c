/* SPDX-License-Identifier: Apache-2.0 */
#include "core/snapshot.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/session.h"
#include "wire/found.h"

#include <string.h>

/* --- the attachment --- */

enum lend_status lend_agent_attach(struct lend_agent *agent, const void *bytes, size_t count,
                                   struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);
    uint8_t *copy = NULL;

    if (status != LEND_OK)
        return status;
    if (bytes == NULL && count > 0)
        return lend_fail(error, LEND_E_INVALID, "an attachment of %zu bytes that is NULL", count);
    if (count > LEND_ATTACHMENT_BYTES_MAX)
        return lend_fail(error, LEND_E_LIMIT, "an attachment of %zu bytes, over %u", count,
                         LEND_ATTACHMENT_BYTES_MAX);
    if (count > 0) {
        copy = lend_sys->allocate(count);
        if (copy == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an attachment of %zu bytes",
                             count);
        memcpy(copy, bytes, count);
    }
    (void)pthread_mutex_lock(&agent->lock);
    uint8_t *before = agent->attachment;
    agent->attachment = copy;
    agent->attachment_bytes = (uint32_t)count;
    agent->attachment_serial++;
    (void)pthread_mutex_unlock(&agent->lock);
    lend_sys->release(before);
    return LEND_OK;
}

/* --- snapshots --- */

static bool is_current_locked(const struct lend_agent *agent, const struct lend_snapshot *snapshot)
{
    return (snapshot->is_bare || snapshot->serial == agent->serial) &&
           snapshot->attachment == agent->attachment_serial;
}

bool lend_snapshot_is_old(struct lend_agent *agent, const struct lend_snapshot *snapshot)
{
    (void)pthread_mutex_lock(&agent->lock);
    bool is_current = is_current_locked(agent, snapshot);
    (void)pthread_mutex_unlock(&agent->lock);
    return !is_current;
}

/* One that somebody else has, and that is as new; NULL: none. Says how many others there are, how
 * one of now would be named, and how long its attachment would be. */
static struct lend_snapshot *share(struct lend_agent *agent, struct lend_snapshot *now,
                                   uint32_t *out_count)
{
    struct lend_snapshot *found = NULL;

    *out_count = 0;
    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->snapshots.next; link != &agent->snapshots;
         link = link->next) {
        struct lend_snapshot *snapshot = LEND_LIST_OWNER(link, struct lend_snapshot, link);

        (*out_count)++;
        if (snapshot->is_bare == now->is_bare && is_current_locked(agent, snapshot))
            found = snapshot;
    }
    if (found != NULL)
        found->references++;
    now->serial = agent->serial;
    now->attachment = agent->attachment_serial;
    now->attachment_bytes = agent->attachment_bytes;
    (void)pthread_mutex_unlock(&agent->lock);
    return found;
}

/* The metadata, and behind it room for so long an attachment. */
static enum lend_status make(struct lend_agent *agent, const struct lend_snapshot *now,
                             struct lend_snapshot **out, struct lend_error *error)
{
    struct lend_export_desc desc = LEND_EXPORT_DESC_INIT;
    size_t room = 4096;

    desc.flags = now->is_bare ? LEND_EXPORT_PARTIAL : 0;
    for (;;) {
        size_t count = 0;
        struct lend_snapshot *snapshot =
            lend_sys->allocate(sizeof *snapshot + room + now->attachment_bytes);

        if (snapshot == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "no memory to tell of ourselves");
        enum lend_status status =
            lend_metadata_export_with(agent, &desc, snapshot->bytes, room, &count, error);
        if (status == LEND_OK) {
            snapshot->metadata_bytes = (uint32_t)count;
            *out = snapshot;
            return LEND_OK;
        }
        lend_sys->release(snapshot);
        if (status != LEND_E_INVALID || count <= room)
            return status;
        room = count; /* and should it grow meanwhile, once more */
    }
}

/* False: it is another one by now, and there is no room for it. */
static bool add_attachment_locked(struct lend_agent *agent, struct lend_snapshot *snapshot,
                                  uint32_t room)
{
    if (agent->attachment_bytes > room)
        return false;
    snapshot->attachment_bytes = agent->attachment_bytes;
    if (agent->attachment_bytes > 0)
        memcpy(snapshot->bytes + snapshot->metadata_bytes, agent->attachment,
               agent->attachment_bytes);
    return true;
}

enum lend_status lend_snapshot_take(struct lend_agent *agent, uint32_t max, bool is_bare,
                                    struct lend_snapshot **out, struct lend_error *error)
{
    struct lend_snapshot now = {.is_bare = is_bare}, *snapshot;
    bool is_whole = false;
    uint32_t count;

    while (!is_whole) {
        snapshot = share(agent, &now, &count);
        if (snapshot != NULL)
            break;
        if (count >= max)
            return lend_fail(error, LEND_E_BUSY,
                             "%u others are being told older metadata, and slowly; ask again later",
                             count);
        enum lend_status status = make(agent, &now, &snapshot, error);
        if (status != LEND_OK)
            return status;
        /* Of before we looked: so that what changed since is never taken for seen. */
        snapshot->serial = now.serial;
        snapshot->attachment = now.attachment;
        snapshot->is_bare = is_bare;
        snapshot->references = 1;
        (void)pthread_mutex_lock(&agent->lock);
        is_whole = add_attachment_locked(agent, snapshot, now.attachment_bytes);
        if (is_whole)
            lend_list_append(&agent->snapshots, &snapshot->link);
        (void)pthread_mutex_unlock(&agent->lock);
        if (!is_whole)
            lend_sys->release(snapshot);
    }
    *out = snapshot;
    return LEND_OK;
}

void lend_snapshot_release(struct lend_agent *agent, struct lend_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    (void)pthread_mutex_lock(&agent->lock);
    bool is_last = --snapshot->references == 0;
    if (is_last)
        lend_list_remove(&snapshot->link);
    (void)pthread_mutex_unlock(&agent->lock);
    if (is_last)
        lend_sys->release(snapshot);
}

void lend_snapshots_fini(struct lend_agent *agent)
{
    /* Whoever held one is gone; in a forked child, without a word. */
    for (struct lend_list *link; (link = lend_list_take_first(&agent->snapshots)) != NULL;)
        lend_sys->release(LEND_LIST_OWNER(link, struct lend_snapshot, link));
    lend_sys->release(agent->attachment);
}

/* --- telling --- */

enum lend_status lend_telling_begin(struct lend_telling *telling, struct lend_session *session,
                                    const struct lend_frame *frame, const uint8_t *payload,
                                    struct lend_error *error)
{
    struct lend_agent *agent = session->agent;
    struct lend_fetch_message fetch;

    enum lend_status status = lend_fetch_decode(payload, frame->payload_bytes, &fetch, error);
    if (status != LEND_OK)
        return status;
    if (telling->snapshot != NULL)
        return lend_fail(error, LEND_E_CORRUPT, "a second FETCH");
    if (fetch.version_min > LEND_PROTOCOL_VERSION || fetch.version_max < LEND_PROTOCOL_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "%s speaks versions %u to %u of the protocol, %s speaks %d", fetch.name,
                         fetch.version_min, fetch.version_max, agent->name, LEND_PROTOCOL_VERSION);
    if (session->channel->ops->parse == NULL)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s tells its metadata only where it was asked to listen", agent->name);
    return lend_snapshot_take(agent, LEND_SNAPSHOTS_MAX, false, &telling->snapshot, error);
}

bool lend_telling_pump(struct lend_telling *telling, struct lend_session *session)
{
    const struct lend_snapshot *snapshot = telling->snapshot;
    uint32_t total = snapshot->metadata_bytes + snapshot->attachment_bytes;
    uint8_t bytes[LEND_FOUND_HEADER_BYTES + LEND_FOUND_PART_MAX];
    bool moved = false;

    while (telling->told < total) {
        uint32_t left = total - telling->told;
        const struct lend_found_part part = {
            .version = LEND_PROTOCOL_VERSION,
            .metadata_bytes = snapshot->metadata_bytes,
            .attachment_bytes = snapshot->attachment_bytes,
            .offset = telling->told,
            .count = left < LEND_FOUND_PART_MAX ? left : (uint32_t)LEND_FOUND_PART_MAX,
            .bytes = snapshot->bytes + telling->told,
        };
        size_t count = lend_found_encode(&part, bytes, sizeof bytes);

        if (!lend_session_send(session, LEND_FRAME_FOUND, 0, bytes, count))
            break;
        telling->told += part.count;
        moved = true;
    }
    return moved;
}

void lend_telling_end(struct lend_telling *telling, struct lend_agent *agent)
{
    lend_snapshot_release(agent, telling->snapshot);
    telling->snapshot = NULL;
}
