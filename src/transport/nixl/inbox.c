/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/engine.h"

#include "base/error.h"
#include "base/sys.h"

#include <lend/notification.h>

#include <stdio.h>
#include <string.h>

/*
 * Notifications of NIXL agents. Each agent that has sent one is, to core, a client that has
 * connected: a channel brings its greeting, and then its notifications as the window has room.
 *
 * NIXL knows no flow control, and who sends is who says so in the message; so what waits is
 * bounded, and what goes beyond that is dropped, and told.
 *
 * A sender is made by the helper, and accepted and freed in the poller's turn.
 */

enum { SENDERS_MAX = 1024, WAITING_BYTES_MAX = 4 << 20, ROOM_BYTES = LEND_FRAME_CONTROL_MAX };

struct note {
    struct lend_list link;
    size_t count;
    uint8_t bytes[];
};

struct sender {
    struct lend_channel base;
    struct lend_list link;
    struct lend_nixl_engine *engine;
    char name[LEND_NIXL_NAME_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    bool is_accepted;
    bool has_greeted;
    bool is_welcome;
    bool has_frame; /* the header of the frame that core looks at is there */
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint8_t hello[256];
    uint64_t sequence;
    uint64_t window;
    uint64_t sent; /* cost of the notifications that core was given, */
    uint64_t credited;
    size_t waiting_bytes;
    struct lend_list notes;
};

static struct sender *sender_of(struct lend_channel *base)
{
    return (struct sender *)base;
}

/* --- the channel --- */

static void free_sender(struct sender *sender)
{
    lend_list_remove(&sender->link);
    for (struct lend_list *link; (link = lend_list_take_first(&sender->notes)) != NULL;)
        lend_sys->release(LEND_LIST_OWNER(link, struct note, link));
    lend_sys->release(sender);
}

static void close_channel(struct lend_channel *base, bool forked)
{
    struct sender *sender = sender_of(base);
    struct lend_nixl_engine *engine = sender->engine;

    if (forked)
        return; /* it is freed with the engine's copy */
    lend_nixl_lock(engine);
    free_sender(sender);
    lend_nixl_unlock(engine);
}

static size_t room(struct lend_channel *base)
{
    (void)base;
    return ROOM_BYTES;
}

static void say(struct lend_channel *base, const uint8_t *header, const void *payload, size_t count)
{
    struct sender *sender = sender_of(base);
    struct lend_welcome welcome;
    struct lend_frame frame;
    struct lend_error error;
    uint64_t taken;

    if (lend_frame_decode(header, &frame, &error) != LEND_OK)
        return;
    lend_nixl_lock(sender->engine);
    if (frame.type == LEND_FRAME_WELCOME &&
        lend_welcome_decode(payload, count, &welcome, &error) == LEND_OK) {
        sender->window = welcome.notification_window_bytes;
        sender->is_welcome = true;
    }
    if (frame.type == LEND_FRAME_CREDIT &&
        lend_credit_decode(payload, count, &taken, &error) == LEND_OK)
        sender->credited = taken;
    lend_nixl_unlock(sender->engine);
}

static void send_data(struct lend_channel *base, const uint8_t *header, struct lend_cursor *from,
                      size_t count)
{
    (void)base; /* a sender asks for nothing */
    (void)header;
    lend_cursor_skip(from, count);
}

static void flush(struct lend_channel *base)
{
    (void)base;
}

static void show(struct sender *sender, enum lend_frame_type type, const void *payload,
                 size_t count)
{
    const struct lend_frame frame = {
        .type = (uint8_t)type,
        .payload_bytes = (uint32_t)count,
        .sequence = sender->sequence++,
    };

    lend_frame_encode(&frame, payload, sender->header);
    sender->has_frame = true;
}

static void greet(struct sender *sender)
{
    struct lend_hello hello = {.version_min = LEND_PROTOCOL_VERSION,
                               .version_max = LEND_PROTOCOL_VERSION};

    lend_nixl_tame_name(sender->name, hello.name);
    memcpy(hello.incarnation, sender->incarnation, sizeof hello.incarnation);
    memcpy(hello.wanted, sender->engine->incarnation, sizeof hello.wanted);
    size_t count = lend_hello_encode(&hello, sender->hello, sizeof sender->hello);
    show(sender, LEND_FRAME_HELLO, sender->hello, count);
}

static struct note *first_note(const struct sender *sender)
{
    return lend_list_is_empty(&sender->notes)
               ? NULL
               : LEND_LIST_OWNER(sender->notes.next, struct note, link);
}

static bool has_frame(struct sender *sender)
{
    if (sender->has_frame)
        return true;
    if (!sender->has_greeted) {
        greet(sender);
        return true;
    }
    const struct note *note = sender->is_welcome ? first_note(sender) : NULL;
    if (note == NULL)
        return false;
    uint64_t cost = lend_notification_cost(note->count);
    if (sender->sent + cost - sender->credited > sender->window)
        return false;
    sender->sent += cost;
    show(sender, LEND_FRAME_NOTIFY, note->bytes, note->count);
    return true;
}

static enum lend_status peek(struct lend_channel *base, uint8_t *header, struct lend_error *error)
{
    struct sender *sender = sender_of(base);

    (void)error;
    lend_nixl_lock(sender->engine);
    bool is_there = has_frame(sender);
    if (is_there)
        memcpy(header, sender->header, sizeof sender->header);
    lend_nixl_unlock(sender->engine);
    return is_there ? LEND_OK : LEND_PENDING;
}

static enum lend_status take(struct lend_channel *base, void *payload, size_t count,
                             struct lend_error *error)
{
    struct sender *sender = sender_of(base);
    struct note *note = NULL;

    (void)error;
    lend_nixl_lock(sender->engine);
    sender->has_frame = false;
    if (sender->has_greeted) {
        note = first_note(sender);
        lend_list_remove(&note->link);
        sender->waiting_bytes -= sizeof *note + note->count;
        LEND_INVARIANT(count == note->count);
        if (count > 0)
            memcpy(payload, note->bytes, count);
    } else {
        LEND_INVARIANT(count <= sizeof sender->hello);
        memcpy(payload, sender->hello, count);
        sender->has_greeted = true;
    }
    lend_nixl_unlock(sender->engine);
    lend_sys->release(note);
    return LEND_OK;
}

static size_t take_data(struct lend_channel *base, struct lend_cursor *to, size_t count,
                        size_t total)
{
    (void)base; /* it sends none */
    (void)to;
    (void)total;
    return count;
}

static bool sleep_until_woken(struct lend_channel *base, bool wants_room, size_t wanted)
{
    struct sender *sender = sender_of(base);

    (void)wanted;
    lend_nixl_lock(sender->engine);
    bool sleeps = !has_frame(sender) && !wants_room;
    lend_nixl_unlock(sender->engine);
    return sleeps;
}

static void awake(struct lend_channel *base)
{
    (void)base;
}

static const struct lend_transport_ops sender_ops = {
    .name = "nixl",
    .close_channel = close_channel,
    .room = room,
    .send = say,
    .send_data = send_data,
    .flush = flush,
    .peek = peek,
    .take = take,
    .take_data = take_data,
    .sleep = sleep_until_woken,
    .awake = awake,
};

/* --- on the helper --- */

static struct sender *find_locked(struct lend_nixl_engine *engine, const char *name,
                                  uint32_t *out_count)
{
    *out_count = 0;
    for (struct lend_list *link = engine->senders.next; link != &engine->senders;
         link = link->next) {
        struct sender *sender = LEND_LIST_OWNER(link, struct sender, link);

        (*out_count)++;
        if (strcmp(sender->name, name) == 0)
            return sender;
    }
    return NULL;
}

static struct sender *make_locked(struct lend_nixl_engine *engine, const char *name)
{
    static const uint64_t one = 1;
    const struct lend_nixl_peer *peer = lend_nixl_peer_named(engine, name);
    struct sender *sender = lend_sys->allocate(sizeof *sender);

    if (sender == NULL)
        return NULL;
    sender->base.ops = &sender_ops;
    sender->engine = engine;
    (void)snprintf(sender->name, sizeof sender->name, "%.*s", LEND_NIXL_NAME_MAX, name);
    if (peer != NULL)
        memcpy(sender->incarnation, peer->identity.incarnation, sizeof sender->incarnation);
    else if (lend_sys->random(sender->incarnation, sizeof sender->incarnation) < 0) {
        lend_sys->release(sender);
        return NULL;
    }
    lend_list_init(&sender->notes);
    lend_list_append(&engine->senders, &sender->link);
    /* An eventfd takes this unless its count is full, and then it has rung. */
    (void)lend_sys->write(engine->bell.fd, &one, sizeof one);
    return sender;
}

/* Why it is dropped; NULL: it is not. */
static const char *deliver_locked(struct lend_nixl_engine *engine, const char *name,
                                  const void *bytes, size_t count)
{
    uint32_t senders;

    if (count > LEND_NOTIFICATION_BYTES_MAX ||
        lend_notification_cost(count) > engine->window_bytes / 2)
        return "it is too long for lend (notification_window_bytes)";
    struct sender *sender = find_locked(engine, name, &senders);
    if (sender == NULL && senders >= SENDERS_MAX)
        return "too many agents have sent some";
    if (sender == NULL)
        sender = make_locked(engine, name);
    if (sender == NULL)
        return "there is no memory for its sender";
    if (sender->waiting_bytes + sizeof(struct note) + count > WAITING_BYTES_MAX)
        return "the application does not take those before it";
    struct note *note = lend_sys->allocate(sizeof *note + count);
    if (note == NULL)
        return "there is no memory for it";
    note->count = count;
    if (count > 0)
        memcpy(note->bytes, bytes, count);
    lend_list_append(&sender->notes, &note->link);
    sender->waiting_bytes += sizeof *note + count;
    if (sender->is_accepted)
        lend_session_wake(sender->base.session);
    return NULL;
}

static void deliver(struct lend_nixl_engine *engine, const char *name, const void *bytes,
                    size_t count)
{
    char tame[LEND_AGENT_NAME_BYTES_MAX + 1];

    lend_nixl_lock(engine);
    const char *why = deliver_locked(engine, name, bytes, count);
    lend_nixl_unlock(engine);
    if (why == NULL)
        return;
    lend_nixl_tame_name(name, tame);
    lend_agent_log(engine->agent, LEND_LOG_WARNING,
                   "a notification of %zu bytes from NIXL agent %s is dropped: %s", count, tame,
                   why);
}

static void deliver_all(struct lend_nixl_engine *engine, const char *name)
{
    const struct lend_nixl_ops *door = &engine->door;
    size_t count = 0;

    if (door->notifications_count(engine->inbox, name, &count) != LEND_NIXL_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        const void *bytes = NULL;
        size_t length = 0;

        if (door->notifications_at(engine->inbox, name, i, &bytes, &length) == LEND_NIXL_OK)
            deliver(engine, name, bytes, length);
    }
}

bool lend_nixl_inbox_poll(struct lend_nixl_engine *engine)
{
    const struct lend_nixl_ops *door = &engine->door;
    size_t agents = 0;

    if (engine->nixl == NULL)
        return false;
    /* What it says of trouble with one of its backends is not for us: what has come has come. */
    (void)door->notifications_get(engine->nixl, engine->inbox, NULL);
    if (door->notifications_size(engine->inbox, &agents) != LEND_NIXL_OK || agents == 0)
        return false;
    for (size_t i = 0; i < agents; i++) {
        const char *name = NULL;

        if (door->notifications_name(engine->inbox, i, &name) == LEND_NIXL_OK && name != NULL)
            deliver_all(engine, name);
    }
    (void)door->notifications_clear(engine->inbox);
    return true;
}

/* --- in the poller's turn --- */

static struct sender *next_new(struct lend_nixl_engine *engine)
{
    struct sender *found = NULL;

    lend_nixl_lock(engine);
    for (struct lend_list *link = engine->senders.next; link != &engine->senders && found == NULL;
         link = link->next) {
        struct sender *sender = LEND_LIST_OWNER(link, struct sender, link);

        if (!sender->is_accepted)
            found = sender;
    }
    lend_nixl_unlock(engine);
    return found;
}

void lend_nixl_inbox_ready(struct lend_watch *watch, uint32_t events)
{
    struct lend_nixl_engine *engine = (struct lend_nixl_engine *)watch;
    struct sender *sender;
    struct lend_error error;
    uint64_t rings;

    (void)events;
    (void)lend_sys->read(watch->fd, &rings, sizeof rings);
    while ((sender = next_new(engine)) != NULL) {
        enum lend_status status = lend_session_accept(engine->agent, &sender->base, &error);

        lend_nixl_lock(engine);
        sender->is_accepted = true;
        if (status == LEND_OK)
            lend_session_wake(sender->base.session);
        else
            free_sender(sender);
        lend_nixl_unlock(engine);
        if (status != LEND_OK)
            lend_agent_log(engine->agent, LEND_LOG_WARNING,
                           "notifications of a NIXL agent are dropped: %s", error.message);
    }
}

void lend_nixl_inbox_fini(struct lend_nixl_engine *engine)
{
    while (!lend_list_is_empty(&engine->senders))
        free_sender(LEND_LIST_OWNER(engine->senders.next, struct sender, link));
}
