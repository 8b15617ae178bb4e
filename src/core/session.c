/* SPDX-License-Identifier: Apache-2.0 */
#include "core/session.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/rail.h"
#include "core/stage.h"
#include "core/view.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What one step takes before others have their turn. */
enum { STEP_FRAMES_MAX = 128, STEP_BYTES_MAX = 512 << 10 };

/* And what it sends: so many times what the role sends at a time, a frame of data for each request.
 * What comes in between is taken, so that nobody waits for more than one of them. */
enum { STEP_PUMPS_MAX = 4 };

enum { YIELDS_MAX = 100 }; /* to callers, of about a microsecond each at least */

/* --- life --- */

struct lend_session *lend_session_create(struct lend_agent *agent,
                                         const struct lend_session_role *role,
                                         const struct lend_secret *secret)
{
    struct lend_session *session = lend_sys->allocate(role->bytes);

    if (session == NULL)
        return NULL;
    session->agent = agent;
    session->role = role;
    atomic_init(&session->references, 1);
    lend_list_init(&session->link);
    lend_list_init(&session->hot_link);
    lend_list_init(&session->polled_link);
    (void)pthread_mutex_init(&session->lock, NULL);
    (void)pthread_mutex_init(&session->hung_lock, NULL);
    lend_guard_init(&session->guard, secret, role->is_client);
    session->greet_until_ns = lend_deadline(lend_sys->now_ns(), agent->config.connect_timeout_ns);
    return session;
}

void lend_session_retain(struct lend_session *session)
{
    /* Relaxed: the caller holds a reference, so this publishes nothing. */
    (void)atomic_fetch_add_explicit(&session->references, 1, memory_order_relaxed);
}

void lend_session_release(struct lend_session *session)
{
    if (session == NULL)
        return;
    /* Release: what we did to it comes before the free; acquire: so does what others did. */
    if (atomic_fetch_sub_explicit(&session->references, 1, memory_order_acq_rel) > 1)
        return;
    lend_guard_fini(&session->guard);
    lend_stage_destroy(session->stage, false);
    session->role->fini(
        session); /* last: the guard's secret may be that of a peer, which goes here */
    (void)pthread_mutex_destroy(&session->lock);
    (void)pthread_mutex_destroy(&session->hung_lock);
    lend_sys->release(session);
}

/* Did the peer break the protocol? What a BYE says is the peer's word, not its breach. */
static bool is_breach(const struct lend_session *session, const struct lend_error *why)
{
    return why->status == LEND_E_CORRUPT ||
           (why->status == LEND_E_LIMIT && session->frame.type != LEND_FRAME_BYE);
}

/* Let the poller see to it. */
static void call_poller(struct lend_session *session)
{
    atomic_store_explicit(&session->agent->poller.has_dead, true, memory_order_seq_cst);
    lend_poller_kick(&session->agent->poller);
}

void lend_session_begin(struct lend_session *session, struct lend_channel *channel)
{
    struct lend_agent *agent = session->agent;

    (void)pthread_mutex_lock(&session->lock);
    session->channel = channel;
    (void)lend_session_pump(session);
    (void)pthread_mutex_unlock(&session->lock);

    lend_session_retain(session);
    (void)pthread_mutex_lock(&agent->lock);
    lend_list_append(&agent->sessions, &session->link);
    (void)pthread_mutex_unlock(&agent->lock);
    lend_poller_timer(&agent->poller, session->greet_until_ns);
    /* The transport may have had it stepped before, and the poller found nobody to bury. */
    if (atomic_load_explicit(&session->is_dead, memory_order_seq_cst) ||
        atomic_load_explicit(&session->is_adrift, memory_order_seq_cst))
        call_poller(session);
    lend_session_wake(session);
}

/* Nobody has greeted yet, and the role has another channel to try: then this one is given up, and
 * not the session. */
static bool cast_off(struct lend_session *session, const struct lend_error *why)
{
    if (session->role->diverts == NULL || session->channel == NULL || session->is_welcome ||
        !session->role->diverts(session, why))
        return false;
    session->spent = session->channel;
    session->channel = NULL;
    atomic_store_explicit(&session->is_adrift, true, memory_order_release);
    call_poller(session);
    return true;
}

/* Has a client gone, or been sent away, before it proved that it has our secret? */
static bool is_refusal(const struct lend_session *session, const struct lend_error *why)
{
    return lend_guard_is_shut(&session->guard) && !session->role->is_client &&
           why->status != LEND_E_CANCELED && why->status != LEND_E_NO_MEMORY;
}

static void bury(struct lend_session *session, const struct lend_error *why)
{
    if (atomic_load_explicit(&session->is_dead, memory_order_relaxed))
        return;
    if (is_refusal(session, why))
        lend_guard_refuse(session->agent, why);
    else if (is_breach(session, why))
        LEND_STATISTICS_ADD(session->agent, sessions_broken, 1);
    if (cast_off(session, why))
        return;
    session->why = *why;
    /* For those who wait, a peer that breaks the protocol is a peer that is lost. */
    if (session->why.status == LEND_E_CORRUPT)
        session->why.status = LEND_E_PEER_DEAD;
    atomic_store_explicit(&session->is_dead, true, memory_order_release);
    session->role->die(session);
    call_poller(session);
}

void lend_session_die(struct lend_session *session, enum lend_status status, const char *format,
                      ...)
{
    struct lend_error why = {.status = status};
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why.message, sizeof why.message, format, args);
    va_end(args);
    bury(session, &why);
}

void lend_session_hang_up(struct lend_session *session, enum lend_status status, const char *reason)
{
    (void)pthread_mutex_lock(&session->hung_lock);
    if (session->hung.status == LEND_OK)
        (void)lend_fail(&session->hung, status, "%s", reason);
    /* Release: what the peer had published before is there for who sees this. */
    atomic_store_explicit(&session->is_hung, true, memory_order_release);
    (void)pthread_mutex_unlock(&session->hung_lock);
    lend_session_wake(session);
}

/* Did the transport say that the other end is gone? */
static bool is_hung(const struct lend_session *session)
{
    /* Acquire: what the peer had published before that is there. */
    return atomic_load_explicit(&session->is_hung, memory_order_acquire);
}

static void bury_hung(struct lend_session *session)
{
    (void)pthread_mutex_lock(&session->hung_lock);
    struct lend_error why = session->hung, told = why;
    (void)pthread_mutex_unlock(&session->hung_lock);
    /* A server that wants a secret hangs up without a word; so does one that is killed. */
    if (session->role->is_client && session->due_sequence == 0 && why.status == LEND_E_PEER_DEAD)
        (void)lend_fail(&told, LEND_E_PEER_DEAD,
                        "%.90s; it had said nothing yet: if it lives, it may have another secret "
                        "than we, or one of us has none (lend_agent_config::secret, or of its "
                        "import)",
                        why.message);
    bury(session, &told);
}

/* Whoever steps a session is up: the other end need not ring for us. */
static void stay_awake(struct lend_session *session)
{
    if (!session->is_asleep)
        return;
    session->is_asleep = false;
    session->channel->ops->awake(session->channel);
}

/* --- sending --- */

size_t lend_session_room(struct lend_session *session)
{
    return session->channel != NULL ? session->channel->ops->room(session->channel) : 0;
}

size_t lend_session_message_max(const struct lend_session *session)
{
    return lend_guard_is_sealed(&session->guard) ? LEND_FRAME_MESSAGE_MAX : LEND_FRAME_CONTROL_MAX;
}

/* With the MAC behind the payload. */
static void send_sealed(struct lend_session *session, const struct lend_frame *frame,
                        const void *payload)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    uint8_t sealed[LEND_FRAME_CONTROL_MAX];
    size_t count = frame->payload_bytes - LEND_FRAME_MAC_BYTES;

    LEND_INVARIANT(frame->payload_bytes <= sizeof sealed);
    if (count > 0)
        memcpy(sealed, payload, count);
    lend_guard_seal(session, frame, payload, sealed + count);
    lend_frame_encode(frame, sealed, header);
    session->channel->ops->send(session->channel, header, sealed, frame->payload_bytes);
}

bool lend_session_send(struct lend_session *session, enum lend_frame_type type, uint64_t request,
                       const void *payload, size_t count)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    bool is_sealed = lend_guard_is_sealed(&session->guard);
    size_t bytes = is_sealed ? count + LEND_FRAME_MAC_BYTES : count;
    size_t room = lend_session_room(session);

    assert(count <= lend_session_message_max(session));
    /* An empty frame takes room too, and room() says 0 when there is none. */
    if (room == 0 || room < bytes) {
        session->wanted_room = bytes > 0 ? bytes : 1;
        return false;
    }

    const struct lend_frame frame = {
        .type = (uint8_t)type,
        .payload_bytes = (uint32_t)bytes,
        .sequence = session->sent_sequence++,
        .request = request,
    };
    if (is_sealed) {
        send_sealed(session, &frame, payload);
        return true;
    }
    lend_frame_encode(&frame, payload, header);
    session->channel->ops->send(session->channel, header, payload, count);
    return true;
}

static void make_data_header(struct lend_session *session, uint64_t request, size_t count,
                             uint8_t header[LEND_FRAME_HEADER_BYTES])
{
    const struct lend_frame frame = {
        .type = LEND_FRAME_DATA,
        .payload_bytes = (uint32_t)count,
        .sequence = session->sent_sequence++,
        .request = request,
    };

    lend_frame_encode(&frame, NULL, header);
}

void lend_session_send_data(struct lend_session *session, uint64_t request,
                            struct lend_cursor *from, size_t count)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    make_data_header(session, request, count, header);
    session->channel->ops->send_data(session->channel, header, from, count);
}

void lend_session_send_copy(struct lend_session *session, uint64_t request, const void *bytes,
                            size_t count)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    make_data_header(session, request, count, header);
    session->channel->ops->send(session->channel, header, bytes, count);
}

enum lend_status lend_session_notified(struct lend_session *session, uint64_t number,
                                       const void *bytes, size_t count, struct lend_error *error)
{
    if (session->role->notified == NULL || number == 0)
        return lend_fail(error, LEND_E_CORRUPT, "notification %llu by a rail",
                         (unsigned long long)number);
    return session->role->notified(session, number, bytes, count, error);
}

void lend_session_bye(struct lend_session *session, const struct lend_error *why)
{
    struct lend_verdict verdict = {.status = why->status};
    uint8_t bytes[512];

    if (session->role->is_client)
        (void)lend_rail_repeat(session);
    if (!lend_guard_is_shut(&session->guard)) { /* strangers are told nothing */
        (void)snprintf(verdict.text, sizeof verdict.text, "%.*s", LEND_MESSAGE_TEXT_MAX,
                       why->message);
        size_t count = lend_verdict_encode(&verdict, bytes, sizeof bytes);
        (void)lend_session_send(session, LEND_FRAME_BYE, 0, bytes, count); /* a courtesy */
        session->channel->ops->flush(session->channel);
    }
    bury(session, why);
}

bool lend_session_halt(struct lend_session *session)
{
    struct lend_channel *channel = session->channel;

    if (channel == NULL || channel->begun == channel->settled)
        return true;
    channel->ops->halt(channel);
    return channel->begun == channel->settled;
}

bool lend_session_pump(struct lend_session *session)
{
    bool moved = false;

    session->wanted_room = 0;
    if (session->stage != NULL)
        lend_stage_poll(session->stage);
    if (lend_guard_is_shut(&session->guard))
        moved = lend_guard_pump(session);
    if (!lend_guard_is_shut(&session->guard))
        moved |= session->role->pump(session);
    moved |= lend_stage_is_flying(session->stage, NULL); /* nobody wakes us when it has landed */
    session->pump_moved = moved;
    session->channel->ops->flush(session->channel);
    return session->pump_moved;
}

/* --- taking --- */

static void break_off(struct lend_session *session, const struct lend_error *why)
{
    if (!is_refusal(session, why)) /* of which not all are told */
        lend_agent_log(session->agent,
                       why->status == LEND_E_CANCELED ? LEND_LOG_DEBUG : LEND_LOG_WARNING,
                       "connection cut: %s", why->message);
    lend_session_bye(session, why);
}

/* Peek at the next frame, and check its header. LEND_PENDING: there is none. */
static enum lend_status next_frame(struct lend_session *session, struct lend_error *error)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    if (session->has_frame)
        return LEND_OK;
    enum lend_status status = session->channel->ops->peek(session->channel, header, error);
    if (status != LEND_OK)
        return status;

    status = lend_frame_decode(header, &session->frame, error);
    if (status != LEND_OK)
        return status;
    /* As transports do it with what they have begun: what says that it is all over comes after. */
    if (lend_stage_is_landing(session->stage) && session->frame.type != LEND_FRAME_DATA)
        return LEND_PENDING;
    if (session->frame.sequence != session->due_sequence)
        return lend_fail(
            error, LEND_E_PEER_DEAD,
            "frame %llu came where %llu was due: the connection lost or reordered some",
            (unsigned long long)session->frame.sequence, (unsigned long long)session->due_sequence);
    if (lend_guard_is_shut(&session->guard)) {
        status = lend_guard_expect(session, &session->frame, error);
        if (status != LEND_OK)
            return status;
    }
    session->due_sequence++;
    session->has_frame = true;
    session->frame_left = session->frame.payload_bytes;
    return LEND_OK;
}

static enum lend_status take_control(struct lend_session *session, struct lend_error *error)
{
    uint8_t payload[LEND_FRAME_CONTROL_MAX];
    struct lend_frame *frame = &session->frame;

    enum lend_status status =
        session->channel->ops->take(session->channel, payload, frame->payload_bytes, error);
    if (status != LEND_OK)
        return status;
    session->has_frame = false;
    status = lend_frame_check(frame, payload, error);
    if (status == LEND_OK && lend_guard_is_shut(&session->guard))
        return lend_guard_take(session, frame, payload, error);
    if (status == LEND_OK && lend_guard_is_sealed(&session->guard))
        status = lend_guard_unseal(session, frame, payload, error);
    if (status != LEND_OK)
        return status;
    return session->role->control(session, frame, payload, error);
}

static enum lend_status take_data(struct lend_session *session, size_t *out_taken,
                                  struct lend_error *error)
{
    size_t taken = 0;

    enum lend_status status = session->role->data(session, session->frame_left, &taken, error);
    if (status != LEND_OK)
        return status;
    session->frame_left -= taken;
    session->has_frame = session->frame_left > 0;
    *out_taken = taken;
    return taken > 0 || !session->has_frame ? LEND_OK : LEND_PENDING;
}

/* Take frames, up to a step's worth. True if any came. */
static bool receive(struct lend_session *session)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_OK;
    size_t bytes = 0;
    unsigned frames = 0;

    while (frames < STEP_FRAMES_MAX && bytes < STEP_BYTES_MAX &&
           !atomic_load_explicit(&session->is_dead, memory_order_relaxed)) {
        size_t taken = 0;

        status = next_frame(session, &error);
        if (status == LEND_OK)
            status = session->frame.type == LEND_FRAME_DATA ? take_data(session, &taken, &error)
                                                            : take_control(session, &error);
        if (status != LEND_OK)
            break;
        bytes += taken;
        frames++;
    }
    if (status < 0 && !atomic_load_explicit(&session->is_dead, memory_order_relaxed))
        break_off(session, &error);
    return frames > 0;
}

/* It lives, and has a channel. */
static bool is_afloat(const struct lend_session *session)
{
    return session->channel != NULL &&
           !atomic_load_explicit(&session->is_dead, memory_order_relaxed);
}

static bool step_locked(struct lend_session *session)
{
    /* What it was woken for was there before the wake, and is seen by what follows. The load spares
     * those who look again and again a locked write. */
    if (atomic_load_explicit(&session->is_woken, memory_order_seq_cst))
        (void)atomic_exchange_explicit(&session->is_woken, false, memory_order_seq_cst);
    if (!is_afloat(session))
        return false;
    stay_awake(session);
    /* Asked before we look: what was published before the end is there when we do. */
    bool is_over = is_hung(session);
    bool received = receive(session) || lend_stage_is_landing(session->stage);
    bool moved = received;

    for (int i = 0; i < STEP_PUMPS_MAX && is_afloat(session); i++) {
        if (i > 0)
            received |= receive(session);
        if (!is_afloat(session) || !lend_session_pump(session))
            break;
        moved = true;
    }
    moved |= received;
    if (is_over && !received && is_afloat(session)) {
        bury_hung(session);
        moved = true;
    }
    return moved;
}

void lend_session_lock(struct lend_session *session)
{
    if (pthread_mutex_trylock(&session->lock) == 0)
        return;
    /* Relaxed, here and where it is looked at: a hint, which orders nothing. */
    (void)atomic_fetch_add_explicit(&session->callers, 1, memory_order_relaxed);
    (void)pthread_mutex_lock(&session->lock);
    (void)atomic_fetch_sub_explicit(&session->callers, 1, memory_order_relaxed);
}

/* Whoever gives a lock back and takes it again at once has it again, and who was waiting for it has
 * not even been woken by then: so wait a moment. */
static void let_callers_go(const struct lend_session *session)
{
    for (int i = 0;
         i < YIELDS_MAX && atomic_load_explicit(&session->callers, memory_order_relaxed) > 0; i++)
        lend_sys->yield();
}

bool lend_session_step(struct lend_session *session, bool may_wait)
{
    let_callers_go(session);
    if (may_wait)
        (void)pthread_mutex_lock(&session->lock);
    else if (pthread_mutex_trylock(&session->lock) != 0)
        return false;
    bool moved = step_locked(session);
    (void)pthread_mutex_unlock(&session->lock);
    return moved;
}

bool lend_session_sleep(struct lend_session *session)
{
    bool sleeps = true;

    (void)pthread_mutex_lock(&session->lock);
    if (session->channel != NULL &&
        !atomic_load_explicit(&session->is_dead, memory_order_relaxed)) {
        sleeps = !session->pump_moved && !is_hung(session) && lend_rail_sleep(session) &&
                 session->channel->ops->sleep(session->channel, session->wanted_room > 0,
                                              session->wanted_room);
        session->is_asleep |= sleeps;
        sleeps &= !atomic_load_explicit(&session->is_woken, memory_order_seq_cst);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return sleeps;
}

void lend_session_join(struct lend_session *session)
{
    (void)atomic_fetch_add_explicit(&session->helpers, 1, memory_order_seq_cst);
}

void lend_session_leave(struct lend_session *session)
{
    if (atomic_fetch_sub_explicit(&session->helpers, 1, memory_order_seq_cst) == 1 &&
        !lend_session_sleep(session))
        lend_session_wake(session);
}

void lend_session_help(struct lend_session *session, uint64_t until_ns,
                       bool (*is_over)(void *subject), void *subject)
{
    struct lend_agent *agent = session->agent;
    uint64_t moved_ns = lend_sys->now_ns();

    lend_session_join(session);
    while (!is_over(subject)) {
        bool moved = lend_session_step(session, true);
        if (is_over(subject))
            break;

        uint64_t now = lend_sys->now_ns();
        if (moved)
            moved_ns = now;
        if (now >= until_ns || now - moved_ns >= agent->config.spin_ns)
            break;
        lend_poller_give_way(&agent->poller, now, now - moved_ns);
    }
    lend_session_leave(session);
}

/* --- all of an agent's --- */

static void close_channel(struct lend_session *session, bool forked)
{
    struct lend_channel *channel = session->channel;

    if (!forked) {
        lend_session_close_hot(session);
        (void)pthread_mutex_lock(&session->lock);
        session->channel = NULL;
        (void)pthread_mutex_unlock(&session->lock);
    }
    if (channel != NULL)
        channel->ops->close_channel(channel, forked);
}

/* The channel that led nowhere, if there is one. */
static void close_spent(struct lend_session *session, bool forked)
{
    struct lend_channel *spent = session->spent;

    session->spent = NULL;
    atomic_store_explicit(&session->is_adrift, false, memory_order_relaxed);
    if (spent != NULL)
        spent->ops->close_channel(spent, forked);
}

/* Begin anew with that channel; false if the session has died meanwhile. */
static bool begin_again(struct lend_session *session, struct lend_channel *channel)
{
    (void)pthread_mutex_lock(&session->lock);
    bool is_dead = atomic_load_explicit(&session->is_dead, memory_order_relaxed);
    if (!is_dead) {
        lend_guard_fini(&session->guard);
        lend_guard_init(&session->guard, session->guard.secret, session->role->is_client);
        session->sent_sequence = session->due_sequence = 0;
        session->has_frame = false;
        session->is_asleep = false;
        session->channel = channel;
        (void)lend_session_pump(session);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return !is_dead;
}

static void divert(struct lend_session *session)
{
    struct lend_error why = {0};

    close_spent(session, false);
    /* Nobody says any more that the other end is gone: there is none. */
    (void)pthread_mutex_lock(&session->hung_lock);
    session->hung = (struct lend_error){0};
    atomic_store_explicit(&session->is_hung, false, memory_order_relaxed);
    (void)pthread_mutex_unlock(&session->hung_lock);

    struct lend_channel *channel = session->role->divert(session, &why);
    if (channel == NULL) {
        (void)pthread_mutex_lock(&session->lock);
        bury(session, &why);
        (void)pthread_mutex_unlock(&session->lock);
    } else if (begin_again(session, channel)) {
        lend_session_wake(session);
    } else {
        channel->ops->close_channel(channel, false);
    }
}

static void drop(struct lend_session *session)
{
    close_spent(session, false);
    close_channel(session, false);
    lend_rail_end(session, false);
    session->role->buried(session);
    lend_session_release(session);
}

/* A session that is dead, taken off the list, or is adrift and not dead, with a reference; NULL:
 * none. */
static struct lend_session *take_lost(struct lend_agent *agent, bool *out_is_dead)
{
    struct lend_session *lost = NULL;

    (void)pthread_mutex_lock(&agent->lock);
    for (struct lend_list *link = agent->sessions.next; link != &agent->sessions && lost == NULL;
         link = link->next) {
        struct lend_session *session = LEND_LIST_OWNER(link, struct lend_session, link);

        *out_is_dead = atomic_load_explicit(&session->is_dead, memory_order_acquire);
        if (*out_is_dead || atomic_load_explicit(&session->is_adrift, memory_order_acquire))
            lost = session;
    }
    if (lost != NULL && *out_is_dead)
        lend_list_remove(&lost->link);
    else if (lost != NULL)
        lend_session_retain(lost);
    (void)pthread_mutex_unlock(&agent->lock);
    return lost;
}

void lend_sessions_reap(struct lend_agent *agent)
{
    bool is_dead = false;

    for (struct lend_session *session; (session = take_lost(agent, &is_dead)) != NULL;) {
        if (is_dead) {
            drop(session);
        } else {
            divert(session);
            lend_session_release(session);
        }
    }
}

/* The session at that place of the list, with a reference; NULL: past the end. */
static struct lend_session *hold_next(struct lend_agent *agent, struct lend_session *after)
{
    struct lend_session *session = NULL;

    (void)pthread_mutex_lock(&agent->lock);
    struct lend_list *link = after != NULL ? after->link.next : agent->sessions.next;
    if (link != &agent->sessions) {
        session = LEND_LIST_OWNER(link, struct lend_session, link);
        lend_session_retain(session);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    return session;
}

/* Only the poller takes sessions off the list, and it is us; so the walk's place stays. */
uint64_t lend_sessions_timers(struct lend_agent *agent, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;

    for (struct lend_session *session = hold_next(agent, NULL), *following; session != NULL;
         session = following) {
        uint64_t own = UINT64_MAX;

        (void)pthread_mutex_lock(&session->lock);
        if (!atomic_load_explicit(&session->is_dead, memory_order_relaxed)) {
            if (!session->is_welcome && now_ns >= session->greet_until_ns)
                lend_session_die(session, LEND_E_TIMEOUT, "no greeting within %llu ms",
                                 (unsigned long long)(agent->config.connect_timeout_ns / 1000000));
            else
                own = session->role->timers(session, now_ns);
            uint64_t rail = lend_rail_timers(session, now_ns);
            own = rail < own ? rail : own;
            if (!session->is_welcome && session->greet_until_ns < own)
                own = session->greet_until_ns;
        }
        (void)pthread_mutex_unlock(&session->lock);
        next = own < next ? own : next;
        following = hold_next(agent, session);
        lend_session_release(session);
    }
    return next;
}

void lend_sessions_fini(struct lend_agent *agent, bool forked)
{
    for (struct lend_list *link; (link = lend_list_take_first(&agent->sessions)) != NULL;) {
        struct lend_session *session = LEND_LIST_OWNER(link, struct lend_session, link);

        if (forked) {
            close_spent(session, true);
            close_channel(session, true);
            lend_guard_fini(&session->guard);
            lend_stage_destroy(session->stage, true);
            lend_rail_end(session, true);
            if (session->role->is_client)
                lend_views_fini(lend_client_onesided(session));
            lend_sys->release(session);
            continue;
        }
        (void)pthread_mutex_lock(&session->lock);
        if (session->role->is_client && session->channel != NULL &&
            !atomic_load_explicit(&session->is_dead, memory_order_relaxed) &&
            lend_rail_repeat(session))
            session->channel->ops->flush(session->channel);
        lend_session_die(session, LEND_E_CANCELED, "the agent was destroyed");
        (void)pthread_mutex_unlock(&session->lock);
        drop(session);
    }
}
