/* SPDX-License-Identifier: Apache-2.0 */
#include "core/outbox.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/onesided.h"
#include "core/rail.h"
#include "core/statistics.h"

void lend_outbox_init(struct lend_outbox *outbox, struct lend_session *session, uint64_t window)
{
    *outbox = (struct lend_outbox){.session = session, .window = window};
    lend_list_init(&outbox->waiting);
}

bool lend_outbox_reserve(struct lend_outbox *outbox, size_t count)
{
    uint64_t cost = lend_notification_cost(count);

    if (outbox->reserved + cost - outbox->credited > outbox->window)
        return false;
    outbox->reserved += cost;
    return true;
}

void lend_outbox_unreserve(struct lend_outbox *outbox, size_t count)
{
    outbox->reserved -= lend_notification_cost(count);
}

void lend_outbox_queue(struct lend_outbox *outbox, struct lend_outgoing *outgoing)
{
    lend_list_append(&outbox->waiting, &outgoing->link);
}

static void finish(struct lend_outgoing *outgoing)
{
    if (outgoing->transfer != NULL)
        lend_transfer_complete(outgoing->transfer, LEND_OK, NULL);
    else
        lend_sys->release(outgoing);
}

/* A frame has left. */
static void note_sent(struct lend_outbox *outbox, enum lend_frame_type type, const void *bytes,
                      size_t count)
{
    struct lend_lease_name name;
    struct lend_error error;

    if (type == LEND_FRAME_NOTIFY) {
        outbox->sent += lend_notification_cost(count);
        LEND_STATISTICS_ADD(outbox->session->agent, notifications_sent, 1);
    }
    if (type == LEND_FRAME_TICKET_DONE &&
        lend_lease_name_decode(bytes, count, &name, &error) == LEND_OK)
        lend_onesided_forget(lend_client_onesided(outbox->session), &name);
}

/* By the rail, if that takes it; else by the channel. Where there is no rail all come in order. */
static bool send_notification(struct lend_outbox *outbox, const void *bytes, size_t count)
{
    struct lend_session *session = outbox->session;
    const uint64_t number = outbox->numbered + 1;

    if (!lend_rail_notify(session, number, bytes, count) &&
        !lend_session_send(session, LEND_FRAME_NOTIFY, session->rail != NULL ? number : 0, bytes,
                           count))
        return false;
    outbox->numbered = number;
    return true;
}

static bool send_one(struct lend_outbox *outbox, enum lend_frame_type type, const void *bytes,
                     size_t count)
{
    uint64_t cost = type == LEND_FRAME_NOTIFY ? lend_notification_cost(count) : 0;

    if (outbox->sent + cost - outbox->credited > outbox->window && cost > 0)
        return false; /* the peer's window is smaller than we took it for: wait for credit */
    bool is_sent = cost > 0 ? send_notification(outbox, bytes, count)
                            : lend_rail_repeat(outbox->session) &&
                                  lend_session_send(outbox->session, type, 0, bytes, count);
    if (!is_sent)
        return false;
    note_sent(outbox, type, bytes, count);
    return true;
}

bool lend_outbox_send(struct lend_outbox *outbox, enum lend_frame_type type, const void *bytes,
                      size_t count)
{
    struct lend_channel *channel = outbox->session->channel;

    if (!outbox->session->is_welcome || channel == NULL || !lend_list_is_empty(&outbox->waiting) ||
        !send_one(outbox, type, bytes, count))
        return false;
    channel->ops->flush(channel);
    return true;
}

bool lend_outbox_pump(struct lend_outbox *outbox)
{
    bool moved = false;

    while (!lend_list_is_empty(&outbox->waiting)) {
        struct lend_outgoing *outgoing =
            LEND_LIST_OWNER(outbox->waiting.next, struct lend_outgoing, link);

        if (!send_one(outbox, outgoing->type, outgoing->bytes, outgoing->count))
            break;
        lend_list_remove(&outgoing->link);
        finish(outgoing);
        moved = true;
    }
    return moved;
}

enum lend_status lend_outbox_credit(struct lend_outbox *outbox, const struct lend_frame *frame,
                                    const uint8_t *payload, struct lend_error *error)
{
    uint64_t taken;

    enum lend_status status = lend_credit_decode(payload, frame->payload_bytes, &taken, error);
    if (status != LEND_OK)
        return status;
    if (taken < outbox->credited || taken > outbox->sent)
        return lend_fail(error, LEND_E_CORRUPT,
                         "credit for %llu bytes of notifications; %llu were sent",
                         (unsigned long long)taken, (unsigned long long)outbox->sent);
    outbox->credited = taken;
    return LEND_OK;
}
