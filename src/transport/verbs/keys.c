/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>

/*
 * The owner's keys: the right of one peer to write what one lease names, by that rail's queue pair
 * for writes. They are made by the session of the peer, and ended by whoever ends the lease, so all
 * of it is under the station's lock of keys.
 */

enum { POLLED_MAX = 16, PAUSE_NS = 2000, PAUSE_NS_MAX = 1000000 };

#define BIND_NS UINT64_C(5000000) /* for that long a session waits until its windows are bound */
#define END_NS  UINT64_C(500000000)

/* The right to write one run. Both NULL: it has ended. */
struct key {
    uint64_t region_id;
    struct lend_verbs_window *window;
    struct lend_verbs_private *private;
    struct lend_verbs_mr *mr; /* that the window is bound to */
    struct lend_verbs_piece piece;
};

struct lend_verbs_grant {
    struct lend_list link;      /* in its rail's `grants`, */
    struct lend_list slot_link; /* and in the station's */
    struct lend_verbs_rail *rail;
    struct lend_rail_grant what;
    struct lend_verbs_grant *holder; /* that has the reference to the lease: it, or its root's, */
    _Atomic uint32_t shares;         /* for so many that are not over */
    uint64_t attempt;                /* to end its lease, that came by last */
    uint32_t gpus;                   /* of the station's, whose memory it lets the peer write */
    uint32_t key_count;
    uint32_t capacity;
    struct key keys[];
};

_Static_assert((int)LEND_RAIL_SPANS_MAX == (int)LEND_VERBS_GRANTED_MAX, "a span has a key");

static struct lend_verbs_grant *grant_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_verbs_grant, link);
}

static struct lend_verbs_windows *windows_of(const struct lend_verbs_rail *rail)
{
    return &rail->station->windows[rail->nic];
}

static struct lend_verbs_qp **pair_of(struct lend_verbs_rail *rail)
{
    return &rail->pairs[LEND_VERBS_WRITE_LANE];
}

static struct lend_list *bucket_of(struct lend_verbs_station *station, uint32_t slot)
{
    return &station->grants[slot % LEND_VERBS_GRANT_BUCKETS];
}

/* The first grant of a lease, on that rail, or, if that is NULL, on any. */
static struct lend_verbs_grant *find(struct lend_verbs_station *station, struct lend_verbs_rail *on,
                                     uint32_t slot, uint64_t generation)
{
    struct lend_list *bucket = bucket_of(station, slot);

    for (struct lend_list *link = bucket->next; link != bucket; link = link->next) {
        struct lend_verbs_grant *grant = LEND_LIST_OWNER(link, struct lend_verbs_grant, slot_link);

        if (grant->what.slot == slot && grant->what.generation == generation &&
            (on == NULL || grant->rail == on))
            return grant;
    }
    return NULL;
}

/* --- ending --- */

static void settle(struct lend_verbs_window *window, int wc_status)
{
    if (window->state == LEND_VERBS_WINDOW_BINDING)
        (void)lend_verbs_window_bound(window, wc_status, true);
    else
        (void)lend_verbs_window_ended(window, wc_status, true);
}

/* What has completed on the queue pair: binds, and ends of bindings. */
static void hear(struct lend_verbs_rail *rail)
{
    struct lend_verbs_completion completions[POLLED_MAX];
    int count = rail->is_writable ? POLLED_MAX : 0;

    while (count == POLLED_MAX) {
        count = lend_verbs_poll(rail->write_cq, POLLED_MAX, completions);
        for (int i = 0; i < count; i++)
            settle((struct lend_verbs_window *)(uintptr_t)completions[i].wr_id,
                   completions[i].status);
    }
}

static void post_end(struct lend_verbs_rail *rail, struct lend_verbs_window *window)
{
    struct lend_verbs_send work = {.wr_id = (uint64_t)(uintptr_t)window}, *bad = NULL;

    lend_verbs_window_end(window, &work);
    if (lend_verbs_post_send(*pair_of(rail), &work, &bad) != 0)
        (void)lend_verbs_window_ended(window, 0, false); /* it is tried again */
}

/* Go on ending a key. True: it has ended. */
static bool end_key(struct lend_verbs_rail *rail, struct key *key)
{
    struct lend_verbs_window *window = key->window;

    if (key->private != NULL && lend_verbs_private_end(key->private, &rail->keeps) == LEND_OK)
        key->private = NULL;
    if (window != NULL && window->state == LEND_VERBS_WINDOW_BOUND && rail->is_writable)
        post_end(rail, window);
    if (window != NULL && window->state == LEND_VERBS_WINDOW_FREE) {
        lend_verbs_window_give(windows_of(rail), window);
        key->window = NULL;
    }
    return key->private == NULL && key->window == NULL;
}

/* Is there a key that its queue pair cannot end any more? */
static bool is_broken(const struct lend_verbs_rail *rail, const struct lend_verbs_grant *grant)
{
    bool is_broken = false;

    for (uint32_t i = 0; i < grant->key_count; i++)
        if (grant->keys[i].window != NULL)
            is_broken |=
                !rail->is_writable || grant->keys[i].window->state == LEND_VERBS_WINDOW_BROKEN;
    return is_broken;
}

/* Go on ending all of a grant. True: it has ended. */
static bool end_grant(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant)
{
    bool is_over = true;

    for (uint32_t i = 0; i < grant->key_count; i++)
        (void)end_key(rail, &grant->keys[i]);
    hear(rail);
    for (uint32_t i = 0; i < grant->key_count; i++)
        is_over &= end_key(rail, &grant->keys[i]);
    /* What was let through before is on its way to a GPU still. */
    if (is_over && lend_verbs_gpus_flush(rail->station, grant->gpus, &rail->keeps))
        grant->gpus = 0;
    return is_over && grant->gpus == 0;
}

static void move_over(struct lend_verbs_grant *grant, struct lend_list *over)
{
    lend_list_remove(&grant->link);
    lend_list_remove(&grant->slot_link);
    lend_list_append(over, &grant->link);
}

static bool drop_window(struct lend_verbs_rail *rail, struct key *key)
{
    if (key->window == NULL)
        return true;
    if (key->window->state == LEND_VERBS_WINDOW_FREE)
        lend_verbs_window_give(windows_of(rail), key->window);
    else if (lend_verbs_window_drop(windows_of(rail), key->window, &rail->keeps) != LEND_OK)
        return false;
    key->window = NULL;
    return true;
}

/* Its windows went before it. */
static bool destroy_pair(struct lend_verbs_rail *rail)
{
    const struct lend_verbs_ops *verbs = rail->station->verbs;
    int number = 0;

    if (*pair_of(rail) != NULL) {
        number = lend_verbs_errno(verbs->destroy_qp(*pair_of(rail)));
        if (number == 0)
            *pair_of(rail) = NULL;
    }
    if (number == 0 && rail->write_cq != NULL) {
        number = lend_verbs_errno(verbs->destroy_cq(rail->write_cq));
        if (number == 0)
            rail->write_cq = NULL;
    }
    if (number != 0)
        (void)lend_verbs_fail(&rail->keeps, number, "destroying the queue pair for writes on %s",
                              rail->place.nic->name);
    return number == 0;
}

/* End all that the peer may write, by force. What has ended goes to `over`; false: not all has. */
static bool abandon(struct lend_verbs_rail *rail, struct lend_list *over)
{
    struct lend_verbs_qp_attributes to = {.qp_state = LEND_VERBS_QP_ERROR};
    bool is_gone = true;

    rail->is_writable = false;
    if (*pair_of(rail) != NULL) {
        /* Where these fail the destruction says so. */
        (void)rail->station->verbs->modify_qp(*pair_of(rail), &to, LEND_VERBS_SET_STATE);
        to.qp_state = LEND_VERBS_QP_RESET;
        (void)rail->station->verbs->modify_qp(*pair_of(rail), &to, LEND_VERBS_SET_STATE);
    }
    for (struct lend_list *link = rail->grants.next; link != &rail->grants; link = link->next)
        for (uint32_t i = 0; i < grant_at(link)->key_count; i++)
            is_gone &= drop_window(rail, &grant_at(link)->keys[i]);
    is_gone &= destroy_pair(rail);
    for (struct lend_list *link = rail->grants.next, *next; link != &rail->grants; link = next) {
        next = link->next;
        if (end_grant(rail, grant_at(link)))
            move_over(grant_at(link), over);
        else
            is_gone = false;
    }
    return is_gone;
}

/* Tell of those that have ended. Under no lock of ours. */
static void tell_over(struct lend_list *over)
{
    for (struct lend_list *link; (link = lend_list_take_first(over)) != NULL;) {
        struct lend_verbs_grant *grant = grant_at(link), *holder = grant->holder;

        if (grant != holder)
            lend_sys->release(grant);
        /* Whatever each of them did to its keys comes before the lease is let go of. */
        if (atomic_fetch_sub_explicit(&holder->shares, 1, memory_order_acq_rel) > 1)
            continue;
        holder->what.ended(holder->what.lease);
        lend_sys->release(holder);
    }
}

/* Go on ending a grant, by force if its queue pair cannot do it. True: it is over. */
static bool end_or_abandon(struct lend_verbs_grant *grant, bool by_force, struct lend_list *over)
{
    struct lend_verbs_rail *rail = grant->rail;
    const struct lend_rail_grant what = grant->what;

    if (!end_grant(rail, grant)) {
        if (!by_force && !is_broken(rail, grant))
            return false;
        (void)abandon(rail, over);
        return find(rail->station, rail, what.slot, what.generation) == NULL;
    }
    move_over(grant, over);
    return true;
}

/* A grant of the lease that this attempt has not come by; it has then. */
static struct lend_verbs_grant *find_next(struct lend_verbs_station *station,
                                          const struct lend_rail_grant *what, uint64_t attempt)
{
    struct lend_list *bucket = bucket_of(station, what->slot);

    for (struct lend_list *link = bucket->next; link != bucket; link = link->next) {
        struct lend_verbs_grant *grant = LEND_LIST_OWNER(link, struct lend_verbs_grant, slot_link);

        if (grant->what.slot != what->slot || grant->what.generation != what->generation ||
            grant->attempt == attempt)
            continue;
        grant->attempt = attempt;
        return grant;
    }
    return NULL;
}

/* Go on ending the keys of a lease, on all rails. True: there are none. */
static bool end_everywhere(struct lend_verbs_station *station, const struct lend_rail_grant *what,
                           bool by_force, struct lend_error *why)
{
    struct lend_verbs_grant *grant;
    struct lend_list over;

    lend_list_init(&over);
    (void)pthread_mutex_lock(&station->keys_lock);
    uint64_t attempt = ++station->attempts;
    /* Others may end with it, so each is looked for from the beginning. */
    while ((grant = find_next(station, what, attempt)) != NULL) {
        const struct lend_verbs_rail *rail = grant->rail;

        if (!end_or_abandon(grant, by_force, &over))
            *why = rail->keeps;
    }
    bool is_over = find(station, NULL, what->slot, what->generation) == NULL;
    (void)pthread_mutex_unlock(&station->keys_lock);
    tell_over(&over);
    return is_over;
}

enum lend_status lend_verbs_revoke(void *transport, uint32_t slot, uint64_t generation,
                                   struct lend_error *error)
{
    const struct lend_rail_grant what = {.slot = slot, .generation = generation};
    uint64_t until = lend_sys->now_ns() + END_NS;
    uint64_t pause_ns = PAUSE_NS;
    struct lend_error why = {0};

    for (bool by_force = false; !end_everywhere(transport, &what, by_force, &why);) {
        if (by_force)
            return lend_fail(error, LEND_E_BUSY, "lease %u.%llx may still be written: %.180s", slot,
                             (unsigned long long)generation, why.message);
        by_force = lend_sys->now_ns() >= until;
        if (!by_force)
            lend_sys->sleep_ns(pause_ns);
        pause_ns = pause_ns < PAUSE_NS_MAX ? pause_ns * 2 : pause_ns;
    }
    return LEND_OK;
}

/* --- making --- */

/* A private region of those bytes; where it comes in several pieces it is none. */
static enum lend_status make_private(struct lend_verbs_rail *rail, struct key *key,
                                     struct lend_verbs_region *region)
{
    const struct lend_verbs_piece asked = key->piece;
    struct lend_verbs_keys keys;

    enum lend_status status = lend_verbs_private_begin(region, rail->nic, asked.address,
                                                       asked.bytes, &key->private, NULL);
    if (status != LEND_OK)
        return status;
    if (!lend_verbs_private_keys(key->private, asked.address, asked.bytes, &keys) ||
        keys.bytes != asked.bytes)
        return LEND_E_NO_PATH;
    key->piece.rkey = keys.rkey;
    return LEND_OK;
}

/* A window that is to be bound to those bytes, or a private region of them. */
static enum lend_status take_key(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                                 struct lend_verbs_region *region, uint64_t region_id,
                                 const struct lend_verbs_keys *keys)
{
    struct key *key = &grant->keys[grant->key_count++];

    key->region_id = region_id;
    key->mr = keys->mr;
    key->piece = (struct lend_verbs_piece){.address = keys->address, .bytes = keys->bytes};
    return rail->binds && lend_verbs_region_can_bind(region, rail->nic)
               ? lend_verbs_window_take(windows_of(rail), &key->window, NULL)
               : make_private(rail, key, region);
}

/* What a span needs is there; windows are yet to be bound. Where there is no grant yet it is only
 * counted. The lease keeps its region. */
static enum lend_status take_span(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                                  const struct lend_rail_span *span, uint32_t *count)
{
    uint32_t gpu = 0;
    struct lend_verbs_region *region = lend_verbs_find(rail->station, span->region_id, &gpu);
    enum lend_status status = region != NULL ? LEND_OK : LEND_E_NO_PATH;
    struct lend_verbs_keys keys;

    if (grant != NULL)
        grant->gpus |= gpu;
    for (uint64_t done = 0; status == LEND_OK && done < span->length_bytes; done += keys.bytes) {
        if (!lend_verbs_region_keys(region, rail->nic, span->address + done,
                                    span->length_bytes - done, &keys))
            return LEND_E_NO_PATH;
        if (++*count > (grant != NULL ? grant->capacity : (uint32_t)LEND_VERBS_GRANTED_MAX))
            return LEND_E_LIMIT;
        if (grant != NULL)
            status = take_key(rail, grant, region, span->region_id, &keys);
    }
    return status;
}

static enum lend_status take_spans(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                                   const struct lend_rail_grant *what, uint32_t *out_count)
{
    enum lend_status status = LEND_OK;

    *out_count = 0;
    for (uint32_t i = 0; status == LEND_OK && i < what->span_count; i++)
        status = take_span(rail, grant, &what->spans[i], out_count);
    return status;
}

static bool post_bind(struct lend_verbs_rail *rail, struct key *key)
{
    struct lend_verbs_send work = {.wr_id = (uint64_t)(uintptr_t)key->window,
                                   .send_flags = LEND_VERBS_SIGNALED};
    struct lend_verbs_send *bad = NULL;

    lend_verbs_window_bind(key->window, *pair_of(rail), key->mr, key->piece.address,
                           key->piece.bytes, &work);
    if (lend_verbs_post_send(*pair_of(rail), &work, &bad) == 0)
        return true;
    (void)lend_verbs_window_bound(key->window, 0, false);
    return false;
}

static uint32_t count_in(const struct lend_verbs_grant *grant, enum lend_verbs_window_state state)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < grant->key_count; i++)
        count += grant->keys[i].window != NULL && grant->keys[i].window->state == state;
    return count;
}

/* A key is told when its binding has completed. */
static bool bind_windows(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant)
{
    uint64_t until = lend_sys->now_ns() + BIND_NS;
    uint32_t wanted = 0;

    for (uint32_t i = 0; i < grant->key_count; i++) {
        if (grant->keys[i].window == NULL)
            continue;
        if (!post_bind(rail, &grant->keys[i]))
            return false;
        wanted++;
    }
    do {
        hear(rail);
    } while (count_in(grant, LEND_VERBS_WINDOW_BINDING) > 0 && lend_sys->now_ns() < until);
    if (count_in(grant, LEND_VERBS_WINDOW_BOUND) != wanted)
        return false;
    for (uint32_t i = 0; i < grant->key_count; i++)
        if (grant->keys[i].window != NULL)
            grant->keys[i].piece.rkey = grant->keys[i].window->rkey;
    return true;
}

/* Make the keys of a lease, which `holder` has a reference to; NULL: the new one has. True: there
 * is a grant, or was: what has ended goes to `over`, and is told of as the others are. */
static bool make(struct lend_verbs_rail *rail, const struct lend_rail_grant *what,
                 struct lend_verbs_grant *holder, struct lend_list *over)
{
    uint32_t count = 0;

    if (take_spans(rail, NULL, what, &count) != LEND_OK)
        return false;
    struct lend_verbs_grant *grant =
        lend_sys->allocate(sizeof *grant + count * sizeof grant->keys[0]);
    if (grant == NULL)
        return false;
    grant->what = *what;
    grant->capacity = count;
    grant->rail = rail;
    grant->holder = holder != NULL ? holder : grant;
    (void)atomic_fetch_add_explicit(&grant->holder->shares, 1, memory_order_relaxed);
    lend_list_append(&rail->grants, &grant->link);
    lend_list_append(bucket_of(rail->station, what->slot), &grant->slot_link);
    if (take_spans(rail, grant, what, &count) == LEND_OK) {
        if (!bind_windows(rail, grant))
            (void)abandon(rail, over);   /* the queue pair failed, or does not answer */
    } else if (end_grant(rail, grant)) { /* nothing of it was bound */
        move_over(grant, over);
    }
    return true; /* where a NIC keeps it whoever ends the lease is told */
}

/* The peer is told of its keys next, and before that of what it reads behind WRITEs to GPUs. */
static void owe(struct lend_verbs_rail *rail, uint32_t slot, uint64_t generation)
{
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    const struct lend_verbs_grant *grant = find(rail->station, rail, slot, generation);
    const uint32_t gpus = grant != NULL ? grant->gpus : 0;
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    lend_verbs_gpus_tell(rail, gpus);
    rail->owed[rail->owed_count].slot = slot;
    rail->owed[rail->owed_count++].generation = generation;
}

bool lend_verbs_grant(struct lend_rail *base, const struct lend_rail_grant *what)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    struct lend_verbs_station *station = rail->station;
    struct lend_list over;
    bool is_new = false;

    if (rail->state != LEND_VERBS_RAIL_UP || rail->owed_count == LEND_VERBS_OWED_MAX)
        return false;
    lend_list_init(&over);
    (void)pthread_mutex_lock(&station->keys_lock);
    if (rail->is_writable && what->span_count > 0 &&
        find(station, rail, what->slot, what->generation) == NULL)
        is_new = make(rail, what, NULL, &over);
    (void)pthread_mutex_unlock(&station->keys_lock);
    tell_over(&over);
    owe(rail, what->slot, what->generation);
    return is_new;
}

/* Are all keys there? Those that are ending are not told. */
static bool is_whole(const struct lend_verbs_rail *rail, const struct lend_verbs_grant *grant)
{
    bool is_whole = rail->is_writable && grant->key_count == grant->capacity;

    for (uint32_t i = 0; i < grant->key_count; i++) {
        const struct key *key = &grant->keys[i];

        is_whole &= key->private != NULL ||
                    (key->window != NULL && key->window->state == LEND_VERBS_WINDOW_BOUND);
    }
    return is_whole;
}

/* The same keys as another leg has, by the NIC of this one. The lease is that one's to hold. */
static void make_alike(struct lend_verbs_rail *rail, const struct lend_verbs_grant *other,
                       struct lend_list *over)
{
    struct lend_rail_span spans[LEND_VERBS_GRANTED_MAX];
    struct lend_rail_grant what = other->what;

    for (uint32_t i = 0; i < other->key_count; i++)
        spans[i] = (struct lend_rail_span){.region_id = other->keys[i].region_id,
                                           .address = other->keys[i].piece.address,
                                           .length_bytes = other->keys[i].piece.bytes};
    what.spans = spans;
    what.span_count = other->key_count;
    (void)make(rail, &what, other->holder, over);
}

enum lend_status lend_verbs_hear_wish(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                      size_t count, struct lend_error *error)
{
    struct lend_verbs_station *station = rail->station;
    struct lend_list over;
    uint64_t generation;
    uint32_t slot;

    enum lend_status status = lend_verbs_wish_decode(bytes, count, &slot, &generation, error);
    if (status != LEND_OK || rail->state != LEND_VERBS_RAIL_UP)
        return status;
    if (rail->owed_count == LEND_VERBS_OWED_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "more than %d wishes for keys at one time",
                         LEND_VERBS_OWED_MAX);
    lend_list_init(&over);
    (void)pthread_mutex_lock(&station->keys_lock);
    /* It has shown the lease, and that one lives: whoever ends it ends these, too. */
    const struct lend_verbs_grant *first = find(station, rail->root, slot, generation);
    if (rail->is_writable && first != NULL && first->attempt == 0 && is_whole(rail->root, first) &&
        find(station, rail, slot, generation) == NULL)
        make_alike(rail, first, &over);
    (void)pthread_mutex_unlock(&station->keys_lock);
    tell_over(&over);
    owe(rail, slot, generation);
    return LEND_OK;
}

size_t lend_verbs_say_grant(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    const uint32_t slot = rail->owed[0].slot;
    const uint64_t generation = rail->owed[0].generation;
    struct lend_verbs_granted told = {.slot = slot, .generation = generation};

    rail->owed_count--;
    for (uint32_t i = 0; i < rail->owed_count; i++)
        rail->owed[i] = rail->owed[i + 1];
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    const struct lend_verbs_grant *grant = find(rail->station, rail, slot, generation);
    if (grant != NULL && is_whole(rail, grant))
        for (; told.piece_count < grant->key_count; told.piece_count++)
            told.pieces[told.piece_count] = grant->keys[told.piece_count].piece;
    told.is_lost = !rail->is_writable;
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    return lend_verbs_granted_encode(&told, bytes, LEND_FRAME_MESSAGE_MAX);
}

/* --- a rail's part --- */

void lend_verbs_keys_begin(struct lend_verbs_rail *rail)
{
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    rail->is_writable = true;
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
}

bool lend_verbs_keys_end(struct lend_verbs_rail *rail)
{
    struct lend_list over;

    lend_list_init(&over);
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    bool is_gone = abandon(rail, &over);
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    tell_over(&over);
    rail->owed_count = 0;
    return is_gone;
}

void lend_verbs_keys_forget(struct lend_verbs_rail *rail)
{
    for (struct lend_list *link; (link = lend_list_take_first(&rail->grants)) != NULL;) {
        struct lend_verbs_grant *grant = grant_at(link);

        for (uint32_t i = 0; i < grant->key_count; i++) {
            lend_sys->release(grant->keys[i].window);
            if (grant->keys[i].private != NULL)
                lend_verbs_private_forget(grant->keys[i].private);
        }
        lend_sys->release(grant);
    }
}
