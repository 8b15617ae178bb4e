/* SPDX-License-Identifier: Apache-2.0 */
#include "core/poller.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/agent.h"
#include "core/awaited.h"
#include "core/freed.h"
#include "core/lease.h"
#include "core/session.h"
#include "core/transfer.h"

#include <assert.h>

enum {
    EVENTS_MAX = 64,
    PASSES_PER_LOOK = 64, /* passes over hot sessions between two looks at the descriptors, */
    LOOK_NS = 200000,     /* or the time between them, if the passes take longer */

    YIELD_AFTER_NS = 4000,     /* a peer with a processor of its own has often answered by then */
    YIELD_NS_MAX = 2000000,    /* longer than a peer takes to fill or empty its ring */
    YIELD_PAUSE_NS = 20000000, /* after one that was longer */
    YIELD_NS_ALONE = 1500,     /* nobody else wanted the processor: look without it for a while */

    SPIN_TIMES = 4, /* as long as usual, where that would have spared the last sleep */

    POLL_GAP_NS = 10000,    /* between polls of a caller that does nothing else */
    POLL_ROW_NS = 20000,    /* of such polls: who looks how many things are has not that many */
    POLLED_NS_MAX = 500000, /* after the last, until the session is seen to by the poller */
};

/* --- descriptors --- */

enum lend_status lend_agent_watch(struct lend_agent *agent, struct lend_watch *watch,
                                  uint32_t events, struct lend_error *error)
{
    struct epoll_event event = {.events = events | EPOLLRDHUP, .data.ptr = watch};

    int result = lend_sys->epoll_control(agent->poller.epoll_fd, EPOLL_CTL_ADD, watch->fd, &event);
    if (result < 0)
        return lend_fail_errno(error, -result, "descriptor %d cannot be watched", watch->fd);
    return LEND_OK;
}

enum lend_status lend_agent_rewatch(struct lend_agent *agent, struct lend_watch *watch,
                                    uint32_t events, struct lend_error *error)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    int result = lend_sys->epoll_control(agent->poller.epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    if (result < 0)
        return lend_fail_errno(error, -result, "descriptor %d cannot be watched", watch->fd);
    return LEND_OK;
}

void lend_agent_unwatch(struct lend_agent *agent, struct lend_watch *watch)
{
    struct lend_poller *poller = &agent->poller;

    (void)lend_sys->epoll_control(poller->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    /* It may stand in the batch that is being told at this moment, by us. */
    for (int i = 0; i < poller->batch_count; i++)
        if (poller->batch[i].data.ptr == watch)
            poller->batch[i].data.ptr = NULL;
}

void lend_agent_alarm(struct lend_agent *agent, uint64_t at_ns, void (*expired)(void *transport),
                      void *transport)
{
    struct lend_alarm *free_alarm = NULL, *found = NULL;

    for (int i = 0; i < LEND_ALARMS_MAX; i++) {
        struct lend_alarm *alarm = &agent->poller.alarms[i];

        if (alarm->transport == transport)
            found = alarm;
        else if (alarm->transport == NULL && free_alarm == NULL)
            free_alarm = alarm;
    }
    found = found != NULL ? found : free_alarm;
    assert(found != NULL); /* as many alarms as transports */
    *found = (struct lend_alarm){.at_ns = at_ns, .expired = expired, .transport = transport};
    if (at_ns != 0)
        lend_poller_timer(&agent->poller, at_ns);
}

static void kicked(struct lend_watch *watch, uint32_t events)
{
    uint64_t count;

    (void)events;
    (void)lend_sys->read(watch->fd, &count, sizeof count);
}

/* Wait for descriptors, at most that long, and let their watchers know. True if anything came but
 * the end of the timer. */
static bool look(struct lend_poller *poller, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int count = lend_sys->epoll_wait(poller->epoll_fd, events, EVENTS_MAX, timeout_ns);

    atomic_store_explicit(&poller->is_asleep, false, memory_order_seq_cst);
    poller->passes_since_look = 0;
    poller->batch = events;
    poller->batch_count = count > 0 ? count : 0;
    for (int i = 0; i < poller->batch_count; i++) {
        struct lend_watch *watch = events[i].data.ptr;

        if (watch != NULL)
            watch->ready(watch, events[i].events);
    }
    bool came = count > 0 && !(count == 1 && poller->batch[0].data.ptr == &poller->timer_watch);
    poller->batch = NULL;
    poller->batch_count = 0;
    return came;
}

/* --- hot sessions --- */

/* True if it was not hot before. */
static bool make_hot(struct lend_poller *poller, struct lend_session *session)
{
    bool is_new = false;

    (void)pthread_mutex_lock(&poller->hot_lock);
    if (!session->is_hot && !session->is_closed) {
        session->is_hot = true;
        lend_list_append(&poller->hot, &session->hot_link);
        /* Before the look at is_asleep that follows: fall_asleep() does the two the other way. */
        (void)atomic_fetch_add_explicit(&poller->hot_count, 1, memory_order_seq_cst);
        is_new = true;
    }
    (void)pthread_mutex_unlock(&poller->hot_lock);
    return is_new;
}

void lend_session_wake(struct lend_session *session)
{
    struct lend_poller *poller = &session->agent->poller;

    /* It may be hot already, and about to be put to sleep: then this is what forbids it. */
    atomic_store_explicit(&session->is_woken, true, memory_order_seq_cst);
    if (make_hot(poller, session))
        lend_poller_kick(poller);
}

static void make_cold_locked(struct lend_poller *poller, struct lend_session *session)
{
    if (!session->is_hot)
        return;
    session->is_hot = false;
    lend_list_remove(&session->hot_link);
    (void)atomic_fetch_sub_explicit(&poller->hot_count, 1, memory_order_seq_cst);
}

static struct lend_session *first_hot_locked(struct lend_poller *poller)
{
    return lend_list_is_empty(&poller->hot)
               ? NULL
               : LEND_LIST_OWNER(poller->hot.next, struct lend_session, hot_link);
}

static struct lend_session *take_hot(struct lend_poller *poller)
{
    (void)pthread_mutex_lock(&poller->hot_lock);
    struct lend_session *session = first_hot_locked(poller);
    if (session != NULL)
        make_cold_locked(poller, session);
    (void)pthread_mutex_unlock(&poller->hot_lock);
    return session;
}

/* The first, which becomes the last. Only who has the turn closes a session, and that is us. */
static struct lend_session *next_hot(struct lend_poller *poller)
{
    (void)pthread_mutex_lock(&poller->hot_lock);
    struct lend_session *session = first_hot_locked(poller);
    if (session != NULL) {
        lend_list_remove(&session->hot_link);
        lend_list_append(&poller->hot, &session->hot_link);
    }
    (void)pthread_mutex_unlock(&poller->hot_lock);
    return session;
}

static unsigned count_hot(struct lend_poller *poller)
{
    return atomic_load_explicit(&poller->hot_count, memory_order_seq_cst);
}

static void end_polling_locked(struct lend_session *session)
{
    if (!atomic_load_explicit(&session->is_polled, memory_order_relaxed))
        return;
    lend_list_remove(&session->polled_link);
    atomic_store_explicit(&session->is_polled, false, memory_order_seq_cst);
}

void lend_session_close_hot(struct lend_session *session)
{
    struct lend_poller *poller = &session->agent->poller;

    (void)pthread_mutex_lock(&poller->hot_lock);
    session->is_closed = true;
    make_cold_locked(poller, session);
    end_polling_locked(session);
    (void)pthread_mutex_unlock(&poller->hot_lock);
}

/* Do threads of the application step it? */
static bool has_helpers(struct lend_session *session)
{
    return atomic_load_explicit(&session->helpers, memory_order_seq_cst) > 0 ||
           atomic_load_explicit(&session->is_polled, memory_order_seq_cst);
}

/* A session that a waiting thread steps is that thread's, which will wake it when it leaves, and
 * one that is polled is that caller's, until the timer ends. If they left before we took the
 * session off the list, their wake found the session hot, and is ours to do. */
static void leave_to_helpers(struct lend_poller *poller, struct lend_session *session)
{
    (void)pthread_mutex_lock(&poller->hot_lock);
    make_cold_locked(poller, session);
    (void)pthread_mutex_unlock(&poller->hot_lock);
    if (!has_helpers(session))
        (void)make_hot(poller, session);
}

/* Step each session that is hot now, once; it stays hot. */
static bool step_hot(struct lend_poller *poller)
{
    bool moved = false;

    for (unsigned left = count_hot(poller); left > 0; left--) {
        struct lend_session *session = next_hot(poller);

        if (session == NULL)
            break;
        if (has_helpers(session))
            leave_to_helpers(poller, session);
        else
            moved |= lend_session_step(session, false);
    }
    return moved;
}

/* Put to sleep what can be. True if nothing is hot any more. */
static bool cool_down(struct lend_poller *poller)
{
    bool all = true;

    for (unsigned left = count_hot(poller); left > 0; left--) {
        struct lend_session *session = take_hot(poller);

        if (session == NULL)
            break;
        if (has_helpers(session))
            continue;
        if (!lend_session_sleep(session)) {
            (void)make_hot(poller, session);
            all = false;
        }
    }
    return all;
}

/* --- callers that poll --- */

/* Is it polled again and again, and not now and then? A hint, and so are its loads and stores:
 * another caller may be ahead of our time. */
static bool is_polled_on(struct lend_session *session, uint64_t now)
{
    uint64_t before = atomic_load_explicit(&session->polled_ns, memory_order_relaxed);

    atomic_store_explicit(&session->polled_ns, now, memory_order_relaxed);
    if (now > before && now - before >= POLL_GAP_NS) {
        atomic_store_explicit(&session->stirred_ns, now, memory_order_relaxed);
        atomic_store_explicit(&session->row_ns, now, memory_order_relaxed);
        return false;
    }
    uint64_t row_ns = atomic_load_explicit(&session->row_ns, memory_order_relaxed);
    return now > row_ns && now - row_ns >= POLL_ROW_NS;
}

/* See that the timer ends, and not much too soon: it is set anew once in a long while, and then
 * that is true. */
static bool set_timer(struct lend_poller *poller, uint64_t now)
{
    uint64_t due = atomic_load_explicit(&poller->timer_due_ns, memory_order_seq_cst);

    if (due > now + POLLED_NS_MAX / 2 ||
        !atomic_compare_exchange_strong_explicit(&poller->timer_due_ns, &due, now + POLLED_NS_MAX,
                                                 memory_order_seq_cst, memory_order_seq_cst))
        return false;
    (void)lend_sys->set_timer(poller->timer_watch.fd, POLLED_NS_MAX);
    return true;
}

static void begin_polling(struct lend_poller *poller, struct lend_session *session)
{
    (void)pthread_mutex_lock(&poller->hot_lock);
    if (!session->is_closed && !atomic_load_explicit(&session->is_polled, memory_order_relaxed)) {
        lend_list_append(&poller->polled, &session->polled_link);
        atomic_store_explicit(&session->is_polled, true, memory_order_seq_cst);
    }
    (void)pthread_mutex_unlock(&poller->hot_lock);
}

static bool has_polled(struct lend_poller *poller)
{
    (void)pthread_mutex_lock(&poller->hot_lock);
    bool has_any = !lend_list_is_empty(&poller->polled);
    (void)pthread_mutex_unlock(&poller->hot_lock);
    return has_any;
}

/* One that no caller has stepped since then, which is polled no more, with a reference; NULL: there
 * is none. */
static struct lend_session *take_untended(struct lend_poller *poller, uint64_t since_ns)
{
    struct lend_session *found = NULL;

    (void)pthread_mutex_lock(&poller->hot_lock);
    for (struct lend_list *link = poller->polled.next; link != &poller->polled && found == NULL;
         link = link->next) {
        struct lend_session *session = LEND_LIST_OWNER(link, struct lend_session, polled_link);

        if (atomic_load_explicit(&session->tended_ns, memory_order_relaxed) <= since_ns)
            found = session;
    }
    if (found != NULL) {
        lend_session_retain(found);
        end_polling_locked(found);
    }
    (void)pthread_mutex_unlock(&poller->hot_lock);
    return found;
}

/* Put those to sleep, or make them hot. */
static void take_over(struct lend_poller *poller, uint64_t since_ns)
{
    for (struct lend_session *session; (session = take_untended(poller, since_ns)) != NULL;) {
        if (!lend_session_sleep(session))
            lend_session_wake(session);
        lend_session_release(session);
    }
}

/* As who waits gives way, and for as long as that spins; later on it is the caller's own time. */
static void give_way_once(struct lend_poller *poller, struct lend_session *session, uint64_t now)
{
    uint64_t idle_ns = now - atomic_load_explicit(&session->stirred_ns, memory_order_relaxed);

    if (idle_ns < YIELD_AFTER_NS || idle_ns >= poller->agent->config.spin_ns)
        return;
    lend_poller_give_way(poller, now, idle_ns);
    atomic_store_explicit(&session->polled_ns, lend_sys->now_ns(), memory_order_relaxed);
}

/* It is the caller's, until the timer ends. Who puts the timer off sees to those whose callers have
 * stopped meanwhile, for whom it would have ended. */
static void tend(struct lend_poller *poller, struct lend_session *session, uint64_t now)
{
    atomic_store_explicit(&session->tended_ns, now, memory_order_relaxed);
    if (!atomic_load_explicit(&session->is_polled, memory_order_seq_cst))
        begin_polling(poller, session);
    if (set_timer(poller, now))
        take_over(poller, now - POLLED_NS_MAX / 2);
}

void lend_session_poll(struct lend_session *session)
{
    struct lend_poller *poller = &session->agent->poller;
    uint64_t now = lend_sys->now_ns();
    bool is_on = is_polled_on(session, now);

    if (poller->timer_watch.fd < 0 ||
        atomic_load_explicit(&poller->is_relied_on, memory_order_relaxed))
        return;
    if (is_on)
        tend(poller, session, now);
    else if (!atomic_load_explicit(&session->is_polled, memory_order_seq_cst))
        return; /* it is the poller's */
    /* Who polls now and then what is still a caller's steps it, for nobody else does. */
    if (lend_session_step(session, false)) { /* which may take long */
        now = lend_sys->now_ns();
        atomic_store_explicit(&session->polled_ns, now, memory_order_relaxed);
        atomic_store_explicit(&session->stirred_ns, now, memory_order_relaxed);
    }
    if (is_on)
        give_way_once(poller, session, now);
    /* Put to sleep between the two, it may be up again since, and nobody's. */
    if (!atomic_load_explicit(&session->is_polled, memory_order_seq_cst))
        lend_session_wake(session);
}

void lend_poller_reclaim(struct lend_poller *poller)
{
    if (has_polled(poller))
        take_over(poller, UINT64_MAX);
}

void lend_poller_rely(struct lend_poller *poller)
{
    atomic_store_explicit(&poller->is_relied_on, true, memory_order_relaxed);
    lend_poller_reclaim(poller);
}

/* The timer has ended. */
static void timer_ended(struct lend_watch *watch, uint32_t events)
{
    struct lend_poller *poller = LEND_LIST_OWNER(watch, struct lend_poller, timer_watch);
    uint64_t now = lend_sys->now_ns(), count;

    (void)events;
    (void)lend_sys->read(watch->fd, &count, sizeof count);
    /* Before we look: who polls from here on sets it anew. */
    atomic_store_explicit(&poller->timer_due_ns, 0, memory_order_seq_cst);
    take_over(poller, now - POLLED_NS_MAX / 2);
    if (has_polled(poller))
        (void)set_timer(poller, now);
}

/* --- time --- */

void lend_poller_kick(struct lend_poller *poller)
{
    if (atomic_exchange_explicit(&poller->is_asleep, false, memory_order_seq_cst)) {
        uint64_t one = 1;
        (void)lend_sys->write(poller->kick_fd, &one, sizeof one); /* full means kicked already */
    }
}

void lend_poller_timer(struct lend_poller *poller, uint64_t at_ns)
{
    uint64_t before = atomic_load_explicit(&poller->timer_at_ns, memory_order_seq_cst);

    while (at_ns < before)
        if (atomic_compare_exchange_weak_explicit(&poller->timer_at_ns, &before, at_ns,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            lend_poller_kick(poller);
            return;
        }
}

static uint64_t ring_alarms(struct lend_poller *poller, uint64_t now)
{
    uint64_t next = UINT64_MAX;

    for (int i = 0; i < LEND_ALARMS_MAX; i++) {
        struct lend_alarm *alarm = &poller->alarms[i];

        if (alarm->at_ns != 0 && alarm->at_ns <= now) {
            alarm->at_ns = 0;
            alarm->expired(alarm->transport);
        }
        if (alarm->at_ns != 0 && alarm->at_ns < next)
            next = alarm->at_ns;
    }
    return next;
}

static void run_timers(struct lend_poller *poller, uint64_t now)
{
    if (now < atomic_load_explicit(&poller->timer_at_ns, memory_order_seq_cst))
        return;
    /* Cleared first, so that a time that is set while we look is not lost. */
    atomic_store_explicit(&poller->timer_at_ns, UINT64_MAX, memory_order_seq_cst);
    lend_poller_timer(poller, ring_alarms(poller, now));
    lend_poller_timer(poller, lend_sessions_timers(poller->agent, now));
    lend_poller_timer(poller, lend_leases_expire(poller->agent, now));
    lend_poller_timer(poller, lend_freed_look(poller->agent, now));
    lend_poller_timer(poller, lend_awaited_look(poller->agent, now));
}

/* --- turns --- */

/* One pass: what is at hand, and no waiting. True if something moved, or is to be told. One look at
 * the clock, which the caller has too. */
static bool pass(struct lend_poller *poller, uint64_t *out_now)
{
    bool moved = step_hot(poller);

    moved |= lend_transfers_zero(poller->agent);
    if (++poller->passes_since_look >= PASSES_PER_LOOK || count_hot(poller) == 0 ||
        poller->passed_ns - poller->looked_ns >= LOOK_NS)
        moved |= look(poller, 0);
    if (atomic_load_explicit(&poller->has_dead, memory_order_seq_cst) &&
        atomic_exchange_explicit(&poller->has_dead, false, memory_order_seq_cst))
        lend_sessions_reap(poller->agent);
    poller->passed_ns = *out_now = lend_sys->now_ns();
    if (poller->passes_since_look == 0)
        poller->looked_ns = poller->passed_ns;
    run_timers(poller, *out_now);
    return moved || atomic_load_explicit(&poller->agent->has_news, memory_order_seq_cst);
}

/* True if the poller may sleep: everything was put to sleep, and whoever changes that will kick. */
static bool fall_asleep(struct lend_poller *poller)
{
    if (!cool_down(poller) || lend_transfers_zero(poller->agent))
        return false;
    atomic_store_explicit(&poller->is_asleep, true, memory_order_seq_cst);
    if (count_hot(poller) == 0 && !atomic_load_explicit(&poller->stop, memory_order_seq_cst) &&
        !atomic_load_explicit(&poller->has_dead, memory_order_seq_cst))
        return true;
    atomic_store_explicit(&poller->is_asleep, false, memory_order_seq_cst);
    return false;
}

void lend_poller_give_way(struct lend_poller *poller, uint64_t now_ns, uint64_t idle_ns)
{
    _Atomic uint64_t *no_yield_until_ns = &poller->no_yield_until_ns;

    /* Relaxed: a hint, and a stale one costs no more than a yield or a spin. */
    if (idle_ns < YIELD_AFTER_NS ||
        now_ns < atomic_load_explicit(no_yield_until_ns, memory_order_relaxed))
        return;
    lend_sys->yield();
    uint64_t after_ns = lend_sys->now_ns();
    if (after_ns - now_ns >= YIELD_NS_MAX)
        atomic_store_explicit(no_yield_until_ns, after_ns + YIELD_PAUSE_NS, memory_order_relaxed);
    else if (after_ns - now_ns < YIELD_NS_ALONE)
        atomic_store_explicit(no_yield_until_ns, after_ns + YIELD_AFTER_NS, memory_order_relaxed);
}

/* How long to spin the next time, after a sleep. What comes soon after falling asleep costs both
 * sides more than to have looked that long; but nobody is to pay for what may never come, so once
 * it was in vain it is over. And with one processor, it is the peer's that we look with. */
static void adapt_spin(struct lend_poller *poller, bool came, uint64_t idle_ns)
{
    uint64_t usual = poller->agent->config.spin_ns;
    bool pays = came && poller->has_processors && idle_ns / SPIN_TIMES < usual;

    poller->spin_ns = pays ? usual * SPIN_TIMES : usual;
}

static bool take_turn(struct lend_poller *poller, uint64_t until_ns)
{
    for (;;) {
        uint64_t now;
        bool moved = pass(poller, &now);

        if (moved)
            poller->moved_ns = now;
        if (moved || now >= until_ns || atomic_load_explicit(&poller->stop, memory_order_seq_cst))
            return moved;
        bool may_spin = now - poller->moved_ns < poller->spin_ns;
        if (may_spin && count_hot(poller) > 0) {
            lend_poller_give_way(poller, now, now - poller->moved_ns);
            continue;
        }
        if (!fall_asleep(poller))
            continue;

        uint64_t timer = atomic_load_explicit(&poller->timer_at_ns, memory_order_seq_cst);
        uint64_t wake = timer < until_ns ? timer : until_ns;
        bool came = look(poller, wake == UINT64_MAX ? UINT64_MAX : wake > now ? wake - now : 0);
        poller->looked_ns = poller->passed_ns = lend_sys->now_ns();
        adapt_spin(poller, came, poller->looked_ns - poller->moved_ns);
        if (came)
            poller->moved_ns = poller->looked_ns;
    }
}

static bool turn_is_free(void *subject)
{
    struct lend_poller *poller = subject;

    if (pthread_mutex_trylock(&poller->turn) != 0)
        return false;
    (void)pthread_mutex_unlock(&poller->turn);
    return true;
}

bool lend_poller_progress(struct lend_poller *poller, uint64_t timeout_ns)
{
    uint64_t until = timeout_ns > 0 ? lend_deadline(lend_sys->now_ns(), timeout_ns) : 0;
    bool moved = false;

    if (pthread_mutex_trylock(&poller->turn) == 0) {
        moved = take_turn(poller, until);
        (void)pthread_mutex_unlock(&poller->turn);
        lend_agent_rouse(poller->agent); /* whoever waits for the turn */
    } else if (timeout_ns > 0) {
        lend_poller_reclaim(poller);
        lend_agent_wait(poller->agent, until, turn_is_free, poller);
    }
    lend_agent_dispatch(poller->agent);
    return moved;
}

bool lend_poller_arm(struct lend_poller *poller)
{
    bool armed = false;

    if (pthread_mutex_trylock(&poller->turn) != 0)
        return false;
    if (lend_sys->now_ns() < atomic_load_explicit(&poller->timer_at_ns, memory_order_seq_cst))
        armed = fall_asleep(poller);
    (void)pthread_mutex_unlock(&poller->turn);
    return armed;
}

/* The poller whose thread this is. Eight bytes of those that the C library keeps for libraries that
 * are loaded late: any other model would have us call the loader, and need it. */
static _Thread_local const struct lend_poller *ours __attribute__((tls_model("initial-exec")));

bool lend_poller_is_ours(const struct lend_poller *poller)
{
    return ours == poller;
}

bool lend_poller_is_stopping(struct lend_poller *poller)
{
    return atomic_load_explicit(&poller->stop, memory_order_seq_cst);
}

static void *run(void *context)
{
    struct lend_poller *poller = context;

    ours = poller;
    while (!atomic_load_explicit(&poller->stop, memory_order_seq_cst)) {
        /* Others have the turn for a while at most, and then it is ours again. */
        (void)pthread_mutex_lock(&poller->turn);
        (void)take_turn(poller, UINT64_MAX);
        (void)pthread_mutex_unlock(&poller->turn);
        lend_agent_dispatch(poller->agent);
    }
    return NULL;
}

enum lend_status lend_poller_init(struct lend_poller *poller, struct lend_agent *agent,
                                  struct lend_error *error)
{
    poller->agent = agent;
    (void)pthread_mutex_init(&poller->turn, NULL);
    (void)pthread_mutex_init(&poller->hot_lock, NULL);
    lend_list_init(&poller->hot);
    lend_list_init(&poller->polled);
    atomic_init(&poller->timer_at_ns, UINT64_MAX);
    poller->spin_ns = agent->config.spin_ns;
    poller->has_processors = lend_sys->processors() > 1;

    poller->epoll_fd = lend_sys->epoll();
    if (poller->epoll_fd < 0)
        return lend_fail_errno(error, -poller->epoll_fd, "no epoll descriptor");
    poller->kick_fd = lend_sys->event();
    if (poller->kick_fd < 0)
        return lend_fail_errno(error, -poller->kick_fd, "no event descriptor");
    poller->kick_watch = (struct lend_watch){.ready = kicked, .fd = poller->kick_fd};
    return lend_agent_watch(agent, &poller->kick_watch, EPOLLIN, error);
}

/* Without one, callers that poll leave it all to the thread. */
static void make_timer(struct lend_poller *poller)
{
    poller->timer_watch = (struct lend_watch){.ready = timer_ended, .fd = lend_sys->timer()};
    if (poller->timer_watch.fd < 0 ||
        lend_agent_watch(poller->agent, &poller->timer_watch, EPOLLIN, NULL) == LEND_OK)
        return;
    lend_sys->close(poller->timer_watch.fd);
    poller->timer_watch.fd = -1;
}

enum lend_status lend_poller_start(struct lend_poller *poller, struct lend_error *error)
{
    make_timer(poller);
    int result = lend_sys->thread(&poller->thread, run, poller, "lend-progress");

    if (result < 0)
        return lend_fail_errno(error, -result, "no progress thread");
    poller->has_thread = true;
    return LEND_OK;
}

void lend_poller_stop(struct lend_poller *poller)
{
    if (!poller->has_thread)
        return;
    atomic_store_explicit(&poller->stop, true, memory_order_seq_cst);
    lend_poller_kick(poller);
    (void)pthread_join(poller->thread, NULL);
    poller->has_thread = false;
}

void lend_poller_fini(struct lend_poller *poller)
{
    if (poller->timer_watch.fd >= 0)
        lend_sys->close(poller->timer_watch.fd);
    if (poller->kick_fd >= 0)
        lend_sys->close(poller->kick_fd);
    if (poller->epoll_fd >= 0)
        lend_sys->close(poller->epoll_fd);
}
