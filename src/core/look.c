/* SPDX-License-Identifier: Apache-2.0 */
#include "core/look.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/awaited.h"
#include "core/lease_keys.h"
#include "core/rail.h"
#include "wire/view.h"

#include <stdio.h>
#include <string.h>

enum lend_status lend_look_take(struct lend_looks *looks, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error)
{
    struct lend_lease_name name;

    enum lend_status status = lend_lease_name_decode(payload, frame->payload_bytes, &name, error);
    if (status != LEND_OK)
        return status;
    if (looks->count == LEND_LOOKS_MAX)
        return lend_fail(error, LEND_E_LIMIT, "more than %d looks at one time", LEND_LOOKS_MAX);
    looks->waiting[looks->count++] = (struct lend_look){.id = frame->request, .name = name};
    return LEND_OK;
}

/* Describe the lease's parts. Under the agent's lock; the lease is held. */
static enum lend_status describe_locked(const struct lend_lease *lease, struct lend_view_set *sets,
                                        struct lend_view_part *parts, struct lend_view *view)
{
    for (uint32_t i = 0; i < lease->blocks_count; i++) {
        const struct lend_blocks *blocks = &lease->blocks[i];

        sets[i] = (struct lend_view_set){
            .first = blocks->first,
            .span = blocks->span,
            .bitmap = blocks->count == blocks->span ? NULL : blocks->bitmap,
        };
    }
    for (uint32_t i = 0; i < lease->part_count; i++) {
        const struct lend_lease_part *part = &lease->parts[i];

        if (part->region == NULL)
            return lend_lease_judge(lease); /* gone, and so the lease has ended */
        parts[i] = (struct lend_view_part){
            .region_id = part->region_id,
            .life = part->region->life,
            .set = (uint32_t)(part->blocks - lease->blocks),
        };
    }
    view->access = lease->access;
    view->set_count = lease->blocks_count;
    view->part_count = lease->part_count;
    view->sets = sets;
    view->parts = parts;
    return LEND_OK;
}

/* Where the regions of the lease are, and by which keys they are written: our rail says it, ahead
 * of the answer. */
static void tell_rail(struct lend_lease *lease, struct lend_session *session)
{
    bool reads = session->rail != NULL && (lease->access & LEND_ACCESS_READ) != 0;

    for (uint32_t i = 0; reads && i < lease->part_count; i++)
        session->rail->ops->tell(session->rail, lease->parts[i].region_id);
    lend_lease_give_keys(lease, session);
}

/* Encode what the lease permits; more than capacity: it cannot be said. 0: no memory. */
static size_t encode(struct lend_lease *lease, uint8_t *bytes, size_t capacity)
{
    struct lend_view view = {.status = LEND_OK};
    struct lend_view_set *sets = lend_sys->allocate(lease->blocks_count * sizeof *sets);
    struct lend_view_part *parts = lend_sys->allocate(lease->part_count * sizeof *parts);
    size_t count = 0;

    if (sets != NULL && parts != NULL) {
        (void)pthread_mutex_lock(&lease->agent->lock);
        enum lend_status status = describe_locked(lease, sets, parts, &view);
        if (status != LEND_OK)
            view = (struct lend_view){.status = status, .text = "a region of the lease is gone"};
        count = lend_view_encode(&view, bytes, capacity);
        (void)pthread_mutex_unlock(&lease->agent->lock);
    }
    lend_sys->release(sets);
    lend_sys->release(parts);
    return count;
}

static size_t refuse(const struct lend_error *why, uint8_t *bytes, size_t capacity)
{
    struct lend_view view = {.status = why->status};

    (void)snprintf(view.text, sizeof view.text, "%.*s", LEND_MESSAGE_TEXT_MAX, why->message);
    return lend_view_encode(&view, bytes, capacity);
}

static size_t answer(struct lend_session *session, struct lend_look *look,
                     const struct lend_lease_user *user, uint8_t *bytes, size_t capacity)
{
    struct lend_agent *agent = session->agent;
    struct lend_lease *lease = NULL;
    struct lend_error why;
    size_t count = 0;

    if (lend_lease_get(agent, &look->name, user, 0, &lease, &why) == LEND_OK) {
        if (lease->is_standing) {
            lend_lease_put(lease);
            (void)lend_fail(&why, LEND_E_LIMIT, "a standing lease is served by its owner alone");
            return refuse(&why, bytes, capacity);
        }
        count = encode(lease, bytes, capacity);
        if (!look->is_told && count > 0 && count <= capacity)
            tell_rail(lease, session);
        look->is_told = true;
        lend_lease_put(lease);
        if (count > 0 && count <= capacity)
            return count;
        (void)lend_fail(&why, count == 0 ? LEND_E_NO_MEMORY : LEND_E_LIMIT,
                        count == 0 ? "the owner has no memory to describe the lease"
                                   : "the lease names its blocks in too many pieces to be told");
    }
    return refuse(&why, bytes, capacity);
}

/* The oldest that can be answered; those of leases whose blocks are not there yet wait. */
static uint32_t first_of(const struct lend_looks *looks, struct lend_agent *agent)
{
    uint32_t first = 0;

    while (first < looks->count && lend_awaited_is_named(agent, &looks->waiting[first].name))
        first++;
    return first;
}

bool lend_look_pump(struct lend_looks *looks, struct lend_session *session,
                    const struct lend_lease_user *user)
{
    uint8_t bytes[LEND_FRAME_CONTROL_MAX];

    if (looks->count == 0)
        return false;
    if (lend_session_room(session) < sizeof bytes) {
        session->wanted_room = sizeof bytes;
        return false;
    }
    uint32_t first = first_of(looks, session->agent);
    if (first == looks->count)
        return false;
    struct lend_look *look = &looks->waiting[first];
    size_t count = answer(session, look, user, bytes, lend_session_message_max(session));
    LEND_INVARIANT(count <= sizeof bytes);
    if (!lend_rail_say(session) || lend_session_room(session) < sizeof bytes) {
        session->wanted_room = sizeof bytes;
        return true; /* what it said has left; the answer is made anew when there is room */
    }
    (void)lend_session_send(session, LEND_FRAME_VIEW, look->id, bytes, count);
    looks->count--;
    memmove(look, look + 1, (looks->count - first) * sizeof *look);
    return true;
}
