/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/*
 * The owner's keys: the right of one peer to write what one lease names, by that rail's queue pair
 * for writes. They are made by the session of the peer, and ended by whoever ends the lease, so all
 * of it is under the station's lock of keys. Each takes a call of the driver's, or work of the NIC:
 * so there are a few for each turn of the session, and for each holding of the lock.
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
    bool has_failed;                 /* no more of it is made */
    uint32_t made;                   /* keys, in their order */
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
        rail->key_work -= count > 0 ? (uint32_t)count : 0;
        for (int i = 0; i < count; i++)
            settle((struct lend_verbs_window *)(uintptr_t)completions[i].wr_id,
                   completions[i].status);
    }
}

/* A bind, or the end of a binding. */
static bool post(struct lend_verbs_rail *rail, struct lend_verbs_send *work)
{
    struct lend_verbs_send *bad = NULL;

    if (rail->key_work == LEND_VERBS_KEY_WORK ||
        lend_verbs_post_send(*pair_of(rail), work, &bad) != 0)
        return false;
    rail->key_work++;
    return true;
}

static void post_end(struct lend_verbs_rail *rail, struct lend_verbs_window *window)
{
    struct lend_verbs_send work = {.wr_id = (uint64_t)(uintptr_t)window};

    lend_verbs_window_end(window, &work);
    if (!post(rail, &work))
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

    for (uint32_t i = 0; i < grant->made; i++)
        if (grant->keys[i].window != NULL)
            is_broken |=
                !rail->is_writable || grant->keys[i].window->state == LEND_VERBS_WINDOW_BROKEN;
    return is_broken;
}

/* Go on ending a grant: that many private regions of it, and all else. True: it has ended. */
static bool end_grant(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant, uint32_t most)
{
    bool is_over = true;

    for (uint32_t i = 0; i < grant->made; i++) {
        const bool is_private = grant->keys[i].private != NULL;

        if (!is_private || most > 0)
            (void)end_key(rail, &grant->keys[i]);
        most -= is_private && most > 0;
    }
    hear(rail);
    for (uint32_t i = 0; i < grant->made; i++)
        is_over &= grant->keys[i].private == NULL && end_key(rail, &grant->keys[i]);
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
        for (uint32_t i = 0; i < grant_at(link)->made; i++)
            is_gone &= drop_window(rail, &grant_at(link)->keys[i]);
    is_gone &= destroy_pair(rail);
    for (struct lend_list *link = rail->grants.next, *next; link != &rail->grants; link = next) {
        next = link->next;
        if (end_grant(rail, grant_at(link), UINT32_MAX))
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

    if (!end_grant(rail, grant, LEND_VERBS_KEYS_AT_ONCE)) {
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

static uint32_t count_left(const struct lend_verbs_grant *grant)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < grant->made; i++)
        count += grant->keys[i].window != NULL || grant->keys[i].private != NULL;
    return count;
}

/* Go on ending the keys of a lease, on all rails. How many are left, where any are. True: there is
 * no grant of it. */
static bool end_everywhere(struct lend_verbs_station *station, const struct lend_rail_grant *what,
                           bool by_force, uint64_t *out_left, struct lend_error *why)
{
    struct lend_verbs_grant *grant;
    struct lend_list over;

    *out_left = 0;
    lend_list_init(&over);
    (void)pthread_mutex_lock(&station->keys_lock);
    uint64_t attempt = ++station->attempts;
    /* Others may end with it, so each is looked for from the beginning. */
    while ((grant = find_next(station, what, attempt)) != NULL) {
        const struct lend_verbs_rail *rail = grant->rail;

        if (end_or_abandon(grant, by_force, &over))
            continue;
        *out_left += count_left(grant);
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
    uint64_t pause_ns = PAUSE_NS, left = 0, least = UINT64_MAX;
    struct lend_error why = {0};

    for (bool by_force = false; !end_everywhere(transport, &what, by_force, &left, &why);) {
        const uint64_t now = lend_sys->now_ns();

        if (by_force)
            return lend_fail(error, LEND_E_BUSY, "lease %u.%llx may still be written: %.180s", slot,
                             (unsigned long long)generation, why.message);
        if (left < least) {
            least = left;
            until = now + END_NS;
            pause_ns = PAUSE_NS;
        }
        by_force = now >= until;
        if (!by_force)
            lend_sys->sleep_ns(pause_ns);
        pause_ns = pause_ns < PAUSE_NS_MAX ? pause_ns * 2 : pause_ns;
    }
    return LEND_OK;
}

/* --- making --- */

/* There are none for that lease, for that reason. */
static void note_keyless(struct lend_verbs_rail *rail, const struct lend_rail_grant *what,
                         const char *why)
{
    rail->keyless.slot = what->slot;
    rail->keyless.generation = what->generation;
    (void)snprintf(rail->keyless.why, sizeof rail->keyless.why, "%.*s", LEND_VERBS_REASON_MAX, why);
}

/* A private region of those bytes; where it comes in several pieces it is none. */
static enum lend_status make_private(struct lend_verbs_rail *rail, struct key *key,
                                     struct lend_verbs_region *region, struct lend_error *why)
{
    const struct lend_verbs_piece asked = key->piece;
    struct lend_verbs_keys keys;

    enum lend_status status =
        lend_verbs_private_begin(region, rail->nic, asked.address, asked.bytes, &key->private, why);
    if (status != LEND_OK)
        return status;
    if (!lend_verbs_private_keys(key->private, asked.address, asked.bytes, &keys) ||
        keys.bytes != asked.bytes)
        return lend_fail(why, LEND_E_NO_PATH, "%s registers a run of blocks in pieces alone",
                         rail->place.nic->name);
    key->piece.rkey = keys.rkey;
    return LEND_OK;
}

/* A window that is to be bound to those bytes, or a private region of them. */
static enum lend_status take_key(struct lend_verbs_rail *rail, struct key *key,
                                 struct lend_error *why)
{
    uint32_t gpu;
    struct lend_verbs_region *region = lend_verbs_find(rail->station, key->region_id, &gpu);
    struct lend_verbs_keys keys;

    if (region == NULL ||
        !lend_verbs_region_keys(region, rail->nic, key->piece.address, key->piece.bytes, &keys))
        return lend_fail(why, LEND_E_NO_PATH, "%s does not have region %llu", rail->place.nic->name,
                         (unsigned long long)key->region_id);
    key->mr = keys.mr;
    return rail->binds && lend_verbs_region_can_bind(region, rail->nic)
               ? lend_verbs_window_take(windows_of(rail), &key->window, why)
               : make_private(rail, key, region, why);
}

/* Which keys a span needs: one for each registration that it lies in. Where there is no grant yet
 * they are only counted. The lease keeps its region. */
static enum lend_status plan_span(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                                  const struct lend_rail_span *span, uint32_t *count,
                                  struct lend_error *why)
{
    const uint32_t most = grant != NULL ? grant->capacity : (uint32_t)LEND_VERBS_GRANTED_MAX;
    uint32_t gpu = 0;
    struct lend_verbs_region *region = lend_verbs_find(rail->station, span->region_id, &gpu);
    struct lend_verbs_keys keys;

    for (uint64_t done = 0; done < span->length_bytes; done += keys.bytes) {
        if (region == NULL || !lend_verbs_region_keys(region, rail->nic, span->address + done,
                                                      span->length_bytes - done, &keys))
            return lend_fail(why, LEND_E_NO_PATH, "%s does not have region %llu",
                             rail->place.nic->name, (unsigned long long)span->region_id);
        if (*count == most)
            return lend_fail(why, LEND_E_LIMIT,
                             "it takes more than %u keys of %s: lend fewer blocks with a lease",
                             most, rail->place.nic->name);
        if (grant != NULL)
            grant->keys[*count] =
                (struct key){.region_id = span->region_id,
                             .piece = {.address = span->address + done, .bytes = keys.bytes}};
        ++*count;
    }
    if (grant != NULL)
        grant->gpus |= gpu;
    return LEND_OK;
}

static enum lend_status plan(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                             const struct lend_rail_grant *what, uint32_t *out_count,
                             struct lend_error *why)
{
    enum lend_status status = LEND_OK;

    *out_count = 0;
    for (uint32_t i = 0; status == LEND_OK && i < what->span_count; i++)
        status = plan_span(rail, grant, &what->spans[i], out_count, why);
    return status;
}

static bool post_bind(struct lend_verbs_rail *rail, struct key *key)
{
    struct lend_verbs_send work = {.wr_id = (uint64_t)(uintptr_t)key->window,
                                   .send_flags = LEND_VERBS_SIGNALED};

    lend_verbs_window_bind(key->window, *pair_of(rail), key->mr, key->piece.address,
                           key->piece.bytes, &work);
    if (post(rail, &work))
        return true;
    (void)lend_verbs_window_bound(key->window, 0, false);
    return false;
}

/* Of the keys from `first` on. */
static uint32_t count_in(const struct lend_verbs_grant *grant, uint32_t first,
                         enum lend_verbs_window_state state)
{
    uint32_t count = 0;

    for (uint32_t i = first; i < grant->made; i++)
        count += grant->keys[i].window != NULL && grant->keys[i].window->state == state;
    return count;
}

/* A key is told when its binding has completed. */
static bool bind_windows(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                         uint32_t first)
{
    uint64_t until = lend_sys->now_ns() + BIND_NS;
    uint32_t wanted = 0;

    for (uint32_t i = first; i < grant->made; i++) {
        if (grant->keys[i].window == NULL)
            continue;
        if (!post_bind(rail, &grant->keys[i]))
            return false;
        wanted++;
    }
    do {
        hear(rail);
    } while (count_in(grant, first, LEND_VERBS_WINDOW_BINDING) > 0 && lend_sys->now_ns() < until);
    if (count_in(grant, first, LEND_VERBS_WINDOW_BOUND) != wanted)
        return false;
    for (uint32_t i = first; i < grant->made; i++)
        if (grant->keys[i].window != NULL)
            grant->keys[i].piece.rkey = grant->keys[i].window->rkey;
    return true;
}

/* Make the next keys of a grant. If that fails all of it ends: what has ended goes to `over`. */
static void make_some(struct lend_verbs_rail *rail, struct lend_verbs_grant *grant,
                      struct lend_list *over)
{
    const uint64_t until = lend_sys->now_ns() + BIND_NS;
    const uint32_t first = grant->made;
    enum lend_status status = LEND_OK;
    struct lend_error why;
    bool is_over;

    while (status == LEND_OK && grant->made < grant->key_count &&
           grant->made - first < LEND_VERBS_KEYS_AT_ONCE)
        status = take_key(rail, &grant->keys[grant->made++], &why);
    if (status == LEND_OK) {
        if (!bind_windows(rail, grant, first))
            (void)abandon(rail, over); /* the queue pair failed, or does not answer */
        return;
    }
    grant->has_failed = true;
    note_keyless(rail, &grant->what, why.message);
    do {
        is_over = end_grant(rail, grant, UINT32_MAX);
    } while (!is_over && lend_sys->now_ns() < until);
    if (is_over) /* what a NIC keeps is told to whoever ends the lease */
        move_over(grant, over);
}

/* Begin with the keys of a lease, which `holder` has a reference to; NULL: the new one has. True:
 * there is a grant, or was: what has ended is told of as the others are. */
static bool make(struct lend_verbs_rail *rail, const struct lend_rail_grant *what,
                 struct lend_verbs_grant *holder, struct lend_list *over)
{
    struct lend_verbs_grant *grant = NULL;
    struct lend_error why;
    uint32_t count = 0;

    note_keyless(rail, what, "");
    enum lend_status status = plan(rail, NULL, what, &count, &why);
    if (status == LEND_OK)
        grant = lend_sys->allocate(sizeof *grant + count * sizeof grant->keys[0]);
    if (grant != NULL) {
        grant->capacity = count;
        status = plan(rail, grant, what, &grant->key_count, &why);
    } else if (status == LEND_OK) {
        status = lend_fail(&why, LEND_E_NO_MEMORY, "the owner has no memory for %u keys", count);
    }
    if (status != LEND_OK) {
        note_keyless(rail, what, why.message);
        lend_sys->release(grant);
        return false;
    }
    grant->what = *what;
    grant->rail = rail;
    grant->holder = holder != NULL ? holder : grant;
    (void)atomic_fetch_add_explicit(&grant->holder->shares, 1, memory_order_relaxed);
    lend_list_append(&rail->grants, &grant->link);
    lend_list_append(bucket_of(rail->station, what->slot), &grant->slot_link);
    make_some(rail, grant, over);
    return true;
}

/* Are there keys of it that are still to be made? Of a lease whose end has begun there are none. */
static bool is_growing(const struct lend_verbs_rail *rail, const struct lend_verbs_grant *grant)
{
    return grant != NULL && rail->is_writable && grant->attempt == 0 && !grant->has_failed &&
           grant->made < grant->key_count;
}

bool lend_verbs_keys_pump(struct lend_verbs_rail *rail)
{
    struct lend_verbs_grant *grant = NULL;
    struct lend_list over;

    if (rail->owed_count == 0)
        return false;
    lend_list_init(&over);
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    for (uint32_t i = 0; !is_growing(rail, grant) && i < rail->owed_count; i++)
        grant = find(rail->station, rail, rail->owed[i].slot, rail->owed[i].generation);
    const bool moves = is_growing(rail, grant);
    if (moves)
        make_some(rail, grant, &over);
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    tell_over(&over);
    return moves;
}

/* The peer is told of its keys next, and before that of what it reads behind WRITEs to GPUs. */
static void owe(struct lend_verbs_rail *rail, uint32_t slot, uint64_t generation)
{
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    const struct lend_verbs_grant *grant = find(rail->station, rail, slot, generation);
    const uint32_t gpus = grant != NULL ? grant->gpus : 0;
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    lend_verbs_gpus_tell(rail, gpus);
    uint32_t at = 0;
    while (at < rail->owed_count &&
           (rail->owed[at].slot != slot || rail->owed[at].generation != generation))
        at++;
    rail->owed_count += at == rail->owed_count;
    rail->owed[at] = (struct lend_verbs_owed){.slot = slot, .generation = generation};
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
    if (what->span_count == 0)
        note_keyless(rail, what, what->why_none);
    else if (rail->is_writable && find(station, rail, what->slot, what->generation) == NULL)
        is_new = make(rail, what, NULL, &over);
    (void)pthread_mutex_unlock(&station->keys_lock);
    tell_over(&over);
    owe(rail, what->slot, what->generation);
    return is_new;
}

/* Are all keys there? Those that are ending are not told. */
static bool is_whole(const struct lend_verbs_rail *rail, const struct lend_verbs_grant *grant)
{
    bool is_whole = rail->is_writable && grant->attempt == 0 && grant->made == grant->key_count;

    for (uint32_t i = 0; i < grant->key_count; i++) {
        const struct key *key = &grant->keys[i];

        is_whole &= key->private != NULL ||
                    (key->window != NULL && key->window->state == LEND_VERBS_WINDOW_BOUND);
    }
    return is_whole;
}

/* The same keys as another leg has, or will have, by the NIC of this one. The lease is that one's
 * to hold. */
static void make_alike(struct lend_verbs_rail *rail, const struct lend_verbs_grant *other,
                       struct lend_list *over)
{
    struct lend_rail_span *spans = lend_sys->allocate(other->key_count * sizeof *spans);
    struct lend_rail_grant what = other->what;

    for (uint32_t i = 0; spans != NULL && i < other->key_count; i++)
        spans[i] = (struct lend_rail_span){.region_id = other->keys[i].region_id,
                                           .address = other->keys[i].piece.address,
                                           .length_bytes = other->keys[i].piece.bytes};
    what.spans = spans;
    what.span_count = other->key_count;
    if (spans != NULL)
        (void)make(rail, &what, other->holder, over);
    lend_sys->release(spans);
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
    if (rail->is_writable && first != NULL && first->attempt == 0 && !first->has_failed &&
        find(station, rail, slot, generation) == NULL)
        make_alike(rail, first, &over);
    (void)pthread_mutex_unlock(&station->keys_lock);
    tell_over(&over);
    owe(rail, slot, generation);
    return LEND_OK;
}

/* What is to be said of a lease now. False: nothing, until more of its keys are made. */
static bool tell_next(struct lend_verbs_rail *rail, struct lend_verbs_owed *owed,
                      struct lend_verbs_granted *out)
{
    const struct lend_verbs_grant *grant = find(rail->station, rail, owed->slot, owed->generation);
    const bool grows = is_growing(rail, grant);

    if (grows && owed->is_begun)
        return false;
    *out = (struct lend_verbs_granted){
        .slot = owed->slot, .generation = owed->generation, .is_lost = !rail->is_writable};
    if (grows || (grant != NULL && is_whole(rail, grant))) {
        out->total = grant->key_count;
        out->first = owed->told;
        lend_verbs_gpus_measure(rail->root, grant->gpus, out->distances);
        while (!grows && owed->told < out->total && out->piece_count < LEND_VERBS_GRANT_PIECES_MAX)
            out->pieces[out->piece_count++] = grant->keys[owed->told++].piece;
    } else if (rail->keyless.slot == owed->slot && rail->keyless.generation == owed->generation) {
        memcpy(out->why, rail->keyless.why, sizeof out->why);
    }
    owed->is_begun = true;
    return true;
}

size_t lend_verbs_say_grant(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    struct lend_verbs_granted told;
    bool is_said = false;
    uint32_t at = 0;

    (void)pthread_mutex_lock(&rail->station->keys_lock);
    while (at < rail->owed_count && !(is_said = tell_next(rail, &rail->owed[at], &told)))
        at++;
    (void)pthread_mutex_unlock(&rail->station->keys_lock);
    if (!is_said)
        return 0;
    if (told.total == 0 || rail->owed[at].told == told.total) {
        rail->owed_count--;
        memmove(&rail->owed[at], &rail->owed[at + 1],
                (rail->owed_count - at) * sizeof rail->owed[0]);
    }
    return lend_verbs_granted_encode(&told, bytes, LEND_FRAME_MESSAGE_MAX);
}

/* --- a rail's part --- */

void lend_verbs_keys_begin(struct lend_verbs_rail *rail)
{
    (void)pthread_mutex_lock(&rail->station->keys_lock);
    rail->is_writable = true;
    rail->key_work = 0;
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

        for (uint32_t i = 0; i < grant->made; i++) {
            lend_sys->release(grant->keys[i].window);
            if (grant->keys[i].private != NULL)
                lend_verbs_private_forget(grant->keys[i].private);
        }
        lend_sys->release(grant);
    }
}
