/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"

#include <string.h>

enum { TELLING_MAX = LEND_METADATA_REGIONS_MAX, TABLE_FIRST = 64 };

#define PAUSE_NS UINT64_C(1000000000)

/* --- making --- */

/* Does another leg of the rail go by that NIC? */
static bool is_taken(const struct lend_verbs_rail *rail, const struct lend_verbs_nic *nic)
{
    for (uint32_t i = 0; i < LEND_VERBS_LEGS_MAX; i++) {
        const struct lend_verbs_rail *other = rail->root->legs[i];

        if (other != NULL && other != rail && other->place.nic == nic &&
            (other->state == LEND_VERBS_RAIL_UP || other->state == LEND_VERBS_RAIL_CALLING))
            return true;
    }
    return false;
}

/* A place by a NIC that no other leg has; if there is none, and it matters, by any. */
static enum lend_status choose_place(struct lend_verbs_rail *rail,
                                     const struct lend_verbs_wish *wish, struct lend_error *error)
{
    const struct lend_verbs_station *station = rail->station;
    struct lend_verbs_nic *nics[LEND_VERBS_NICS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < station->nic_count; i++)
        if (!is_taken(rail, station->nics[i]))
            nics[count++] = station->nics[i];
    enum lend_status status = lend_verbs_choose(nics, count, wish, &rail->place, error);
    if (status == LEND_OK || count == station->nic_count || (rail->is_client && rail->leg > 0))
        return status;
    return lend_verbs_choose(station->nics, station->nic_count, wish, &rail->place, error);
}

static enum lend_status choose(struct lend_verbs_rail *rail, const uint8_t *gid,
                               struct lend_error *error)
{
    struct lend_verbs_station *station = rail->station;
    const struct lend_verbs_wish wish = {.peer_gid = gid};

    rail->events_seen = atomic_load_explicit(&station->events, memory_order_acquire);
    enum lend_status status = choose_place(rail, &wish, error);
    for (uint32_t i = 0; status == LEND_OK && i < station->nic_count; i++)
        if (station->nics[i] == rail->place.nic)
            rail->nic = i;
    if (status == LEND_OK) {
        uint32_t pieces = rail->place.nic->abilities.read_pieces_max;

        rail->pieces_max = pieces < 1                     ? 1
                           : pieces > LEND_VERBS_SGES_MAX ? (uint32_t)LEND_VERBS_SGES_MAX
                                                          : pieces;
    }
    return status;
}

/* It cannot be used, for that reason. */
static void note_failure(struct lend_verbs_rail *rail, const struct lend_error *why)
{
    if (rail->is_joined) {
        rail->is_joined = false;
        rail->owes_halt = true;
        rail->halted_round = rail->round;
    }
    lend_verbs_granted_forget(rail);
    rail->state = LEND_VERBS_RAIL_BROKEN;
    rail->is_judged = true;
    rail->why = *why;
    rail->failures++;
    rail->retry_ns = lend_sys->now_ns() + PAUSE_NS;
    if (!lend_verbs_pairs_destroy(rail))
        rail->is_stuck = true;
    lend_verbs_notes_lose(rail);
    if (rail->is_client)
        rail->owed_count = rail->wishes = 0;
    lend_verbs_legs_settle(rail, NULL);
    lend_verbs_touch(rail->station);
}

static enum lend_status find_landing(struct lend_verbs_rail *rail, struct lend_error *error)
{
    struct lend_verbs_keys keys;

    if (!lend_verbs_region_keys(rail->landing_region, rail->nic, (uint64_t)(uintptr_t)rail->landing,
                                LEND_VERBS_LANDING_WORDS * sizeof(uint64_t), &keys) ||
        keys.bytes != LEND_VERBS_LANDING_WORDS * sizeof(uint64_t))
        return lend_fail(error, LEND_E_NO_PATH, "%s has no place for words of leases",
                         rail->place.nic->name);
    rail->landing_lkey = keys.lkey;
    return LEND_OK;
}

/* Client: make our queue pairs, and say so. */
static void call(struct lend_verbs_rail *rail)
{
    struct lend_error why = {0};
    enum lend_status status = LEND_E_NO_PATH;

    if (rail->landing_region == NULL)
        return;
    rail->round++;
    for (uint32_t i = 0; status != LEND_OK && i < rail->peer_gid_count; i++)
        status = choose(rail, rail->peer_gids[i], &why);
    if (status == LEND_OK)
        status = find_landing(rail, &why);
    if (status == LEND_OK)
        lend_verbs_notes_find(rail);
    if (status == LEND_OK)
        status = lend_verbs_pairs_make(rail, &why);
    if (status != LEND_OK) {
        note_failure(rail, &why);
        return;
    }
    rail->state = LEND_VERBS_RAIL_CALLING;
    rail->owes_offer = true;
    lend_verbs_touch(rail->station);
    lend_session_wake(rail->base.session);
}

/* Where words of leases land. */
static void make_landing(struct lend_verbs_rail *rail)
{
    const struct lend_verbs_memory memory = {
        .bytes = LEND_VERBS_LANDING_WORDS * sizeof(uint64_t),
        .kind = LEND_MEMORY_SYSTEM,
        .rights = LEND_VERBS_MAY_LAND | LEND_VERBS_IS_ORDERED,
    };
    struct lend_verbs_memory placed = memory;

    rail->landing = lend_sys->allocate(memory.bytes);
    placed.address = (uint64_t)(uintptr_t)rail->landing;
    if (rail->landing == NULL)
        (void)lend_fail(&rail->why, LEND_E_NO_MEMORY, "no memory for words of leases");
    else if (lend_verbs_region_register(rail->station->store, &placed, &rail->landing_region,
                                        &rail->why) != LEND_OK)
        rail->landing_region = NULL;
    rail->state = LEND_VERBS_RAIL_BROKEN; /* until it calls */
}

static void take_address(struct lend_verbs_rail *rail, const struct lend_rail_desc *desc)
{
    struct lend_reader reader = lend_reader_init(desc->address, desc->address_bytes);

    (void)lend_read_u8(&reader);
    uint8_t count = lend_read_u8(&reader);
    for (uint8_t i = 0; i < count && i < sizeof rail->peer_gids / sizeof rail->peer_gids[0]; i++)
        lend_read_bytes(&reader, rail->peer_gids[rail->peer_gid_count++], LEND_VERBS_GID_BYTES);
}

static const struct lend_rail_ops *ops_of_transport(void)
{
    return lend_transport_verbs.rail;
}

/* root: NULL: it is the first. */
static struct lend_verbs_rail *make(struct lend_verbs_station *station, bool is_client,
                                    struct lend_session *session, struct lend_verbs_rail *root)
{
    struct lend_verbs_rail *rail = lend_sys->allocate(sizeof *rail);

    if (rail == NULL)
        return NULL;
    rail->base = (struct lend_rail){.ops = ops_of_transport(), .session = session};
    rail->station = station;
    rail->is_client = is_client;
    rail->root = root != NULL ? root : rail;
    lend_list_init(&rail->grants);
    (void)pthread_mutex_lock(&station->rails_lock);
    lend_list_append(&station->rails, &rail->station_link);
    (void)pthread_mutex_unlock(&station->rails_lock);
    lend_verbs_work_init(rail);
    return rail;
}

enum lend_status lend_verbs_rail_open(void *transport, const struct lend_rail_desc *desc,
                                      struct lend_rail **out, struct lend_error *error)
{
    struct lend_verbs_rail *rail = make(transport, desc->is_client, desc->session, NULL);

    if (rail == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a rail");
    rail->legs[0] = rail;
    if (rail->is_client) {
        take_address(rail, desc);
        make_landing(rail);
        lend_verbs_notes_open(rail);
        call(rail);
    }
    *out = &rail->base;
    return LEND_OK;
}

struct lend_verbs_rail *lend_verbs_rail_open_leg(struct lend_verbs_rail *root, uint32_t leg)
{
    struct lend_verbs_rail *rail = make(root->station, root->is_client, root->base.session, root);

    if (rail == NULL)
        return NULL;
    rail->leg = leg;
    root->legs[leg] = rail;
    if (!rail->is_client)
        return rail;
    /* Another NIC of the peer's comes first. */
    rail->peer_gid_count = root->peer_gid_count;
    for (uint32_t i = 0; i < root->peer_gid_count; i++)
        memcpy(rail->peer_gids[i], root->peer_gids[(i + leg) % root->peer_gid_count],
               LEND_VERBS_GID_BYTES);
    make_landing(rail);
    call(rail);
    return rail;
}

/* --- breaking --- */

void lend_verbs_rail_break(struct lend_verbs_rail *rail, enum lend_status status, int32_t code,
                           const struct lend_error *why)
{
    rail->owes_offer = false;
    note_failure(rail, why);
    /* What it moves may still land: it is not over. */
    if (rail->is_stuck) {
        lend_agent_log(rail->station->agent, LEND_LOG_ERROR,
                       "verbs: %s did not give up its queue pairs: what moves by it never ends",
                       rail->place.nic->name);
        return;
    }
    lend_verbs_work_end(rail, status, code);
}

void lend_verbs_rail_lose(struct lend_verbs_rail *rail, const struct lend_error *why)
{
    if (lend_list_is_empty(&rail->moves))
        note_failure(rail, why);
    rail->state = LEND_VERBS_RAIL_BROKEN; /* the next pump does what there is to do */
    rail->why = *why;
}

void lend_verbs_rail_halt(struct lend_rail *base)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_NO_PATH, "what it moved was stopped by force");
    lend_verbs_rail_break(rail, LEND_E_NO_PATH, 0, &why);
}

static void free_fars(struct lend_verbs_rail *rail)
{
    for (uint32_t i = 0; i < rail->bucket_count; i++)
        for (struct lend_verbs_far *it = rail->buckets[i], *next; it != NULL; it = next) {
            next = it->next;
            lend_sys->release(it);
        }
    lend_sys->release(rail->buckets);
}

static void leave_station(struct lend_verbs_rail *rail)
{
    (void)pthread_mutex_lock(&rail->station->rails_lock);
    lend_list_remove(&rail->station_link);
    rail->base.session = NULL;
    (void)pthread_mutex_unlock(&rail->station->rails_lock);
}

void lend_verbs_rail_close(struct lend_rail *base, bool forked)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    if (!forked)
        leave_station(rail);
    if (!forked && !lend_verbs_pairs_destroy(rail))
        return; /* what it was given may be read and written still, and so stays */
    if (!forked && rail->landing_region != NULL &&
        lend_verbs_region_release(rail->landing_region, NULL) != LEND_OK)
        return;
    if (!lend_verbs_notes_close(rail, forked))
        return;
    if (forked)
        lend_verbs_keys_forget(rail);
    free_fars(rail);
    lend_verbs_granted_forget(rail);
    lend_sys->release(rail->landing);
    lend_sys->release(rail->telling);
    lend_sys->release(rail);
}

/* --- saying --- */

void lend_verbs_rail_tell(struct lend_rail *base, uint64_t region_id)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    if (rail->state != LEND_VERBS_RAIL_UP)
        return;
    if (rail->telling_count == rail->telling_capacity) {
        uint32_t capacity = rail->telling_capacity == 0 ? 64 : rail->telling_capacity * 2;
        uint64_t *grown =
            capacity <= TELLING_MAX ? lend_sys->allocate(capacity * sizeof *grown) : NULL;

        if (grown == NULL)
            return; /* it is served, then */
        if (rail->telling_count > 0)
            memcpy(grown, rail->telling, rail->telling_count * sizeof *grown);
        lend_sys->release(rail->telling);
        rail->telling = grown;
        rail->telling_capacity = capacity;
    }
    rail->telling[rail->telling_count++] = region_id;
}

/* The keys of as many regions as fit; those that this NIC has not are left out. */
static size_t say_keys(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    struct lend_verbs_told told;
    size_t count = 1;
    uint32_t i = 0;

    bytes[0] = LEND_VERBS_KEYS;
    for (; i < rail->telling_count; i++) {
        if (!lend_verbs_describe(rail->station, rail->telling[i], rail->nic, &told))
            continue;
        size_t needed = lend_verbs_told_bytes(&told);
        if (needed > LEND_FRAME_MESSAGE_MAX - count)
            break;
        lend_verbs_told_encode(&told, bytes + count, needed);
        count += needed;
    }
    rail->telling_count -= i;
    memmove(rail->telling, rail->telling + i, rail->telling_count * sizeof *rail->telling);
    return count > 1 ? count : 0;
}

static size_t say_wish(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    rail->owed_count--;
    return lend_verbs_wish_encode(rail->owed[rail->owed_count].slot,
                                  rail->owed[rail->owed_count].generation, bytes,
                                  LEND_FRAME_MESSAGE_MAX);
}

size_t lend_verbs_rail_say(struct lend_rail *base, uint8_t *bytes)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    if (rail->owes_refusal) {
        rail->owes_refusal = false;
        return lend_verbs_refusal_encode(rail->theirs.round, rail->why.message, bytes,
                                         LEND_FRAME_MESSAGE_MAX);
    }
    size_t noted =
        rail->is_client ? lend_verbs_say_note(rail, bytes) : lend_verbs_say_noted(rail, bytes);
    if (noted > 0)
        return noted;
    if (rail->owes_halt) {
        rail->owes_halt = false;
        return lend_verbs_halt_encode(rail->halted_round, bytes, LEND_FRAME_MESSAGE_MAX);
    }
    if (rail->owes_offer) {
        rail->owes_offer = false;
        return lend_verbs_offer_encode(&rail->ours, !rail->is_client, bytes,
                                       LEND_FRAME_MESSAGE_MAX);
    }
    size_t count = rail->telling_count > 0 ? say_keys(rail, bytes) : 0;
    if (count > 0 || rail->owed_count == 0)
        return count;
    return rail->is_client ? say_wish(rail, bytes) : lend_verbs_say_grant(rail, bytes);
}

/* --- hearing: the server --- */

static enum lend_status answer(struct lend_verbs_rail *rail, struct lend_error *why)
{
    enum lend_status status = choose(rail, rail->theirs.gid, why);

    rail->round = rail->theirs.round;
    lend_verbs_notes_open(rail);
    if (status == LEND_OK)
        status = lend_verbs_pairs_make(rail, why);
    if (status == LEND_OK)
        status = lend_verbs_pairs_join(rail, why);
    return status;
}

/* Nobody knows what the peer may still do. */
static enum lend_status keeps(const struct lend_verbs_rail *rail, struct lend_error *error)
{
    return lend_fail(error, LEND_E_LIMIT, "%s did not give up the queue pairs before",
                     rail->place.nic->name);
}

/* Queue pairs take the driver's time, and so other peers'. */
static bool calls_too_often(struct lend_verbs_rail *rail)
{
    uint64_t now = lend_sys->now_ns();

    if (rail->calls == 0 || now - rail->calls_since_ns >= PAUSE_NS) {
        rail->calls_since_ns = now;
        rail->calls = 0;
    }
    return rail->calls++ >= LEND_VERBS_CALLS_MAX;
}

static enum lend_status hear_call(struct lend_verbs_rail *rail, const uint8_t *bytes, size_t count,
                                  struct lend_error *error)
{
    struct lend_error why = {0};

    enum lend_status status = lend_verbs_offer_decode(bytes, count, false, &rail->theirs, &why);
    if (status == LEND_E_CORRUPT) {
        if (error != NULL)
            *error = why;
        return status;
    }
    rail->telling_count = 0;
    if (!lend_verbs_pairs_destroy(rail))
        return keeps(rail, error);
    if (status == LEND_OK && calls_too_often(rail))
        status = lend_fail(&why, LEND_E_LIMIT, "more than %d calls within a second",
                           LEND_VERBS_CALLS_MAX);
    if (status == LEND_OK)
        status = answer(rail, &why);
    rail->owes_offer = status == LEND_OK;
    rail->owes_refusal = status != LEND_OK;
    if (status == LEND_OK) {
        rail->state = LEND_VERBS_RAIL_UP;
        lend_verbs_keys_begin(rail);
    } else {
        note_failure(rail, &why);
    }
    return LEND_OK;
}

/* The peer's rail broke, or was halted: what it had posted is to land no more. */
static enum lend_status hear_halt(struct lend_verbs_rail *rail, const uint8_t *bytes, size_t count,
                                  struct lend_error *error)
{
    uint32_t round;

    enum lend_status status = lend_verbs_halt_decode(bytes, count, &round, error);
    if (status != LEND_OK || round != rail->round || rail->state != LEND_VERBS_RAIL_UP)
        return status;
    rail->telling_count = 0;
    rail->owes_offer = false;
    rail->state = LEND_VERBS_RAIL_IDLE;
    return lend_verbs_pairs_destroy(rail) ? LEND_OK : keeps(rail, error);
}

/* --- hearing: the client --- */

static enum lend_status hear_answer(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                    size_t count, struct lend_error *error)
{
    struct lend_verbs_offer offer = {0};
    struct lend_error why = {0};

    enum lend_status status = lend_verbs_offer_decode(bytes, count, true, &offer, &why);
    if (status == LEND_E_CORRUPT) {
        if (error != NULL)
            *error = why;
        return status;
    }
    if (rail->state != LEND_VERBS_RAIL_CALLING || offer.round != rail->round)
        return LEND_OK; /* to a call before */
    rail->theirs = offer;
    if (status == LEND_OK)
        status = lend_verbs_pairs_join(rail, &why);
    if (status == LEND_OK) {
        rail->is_joined = true;
        rail->is_judged = true;
        rail->state = LEND_VERBS_RAIL_UP;
        lend_verbs_touch(rail->station);
    } else {
        note_failure(rail, &why);
    }
    return LEND_OK;
}

static enum lend_status hear_refusal(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                     size_t count, struct lend_error *error)
{
    char reason[LEND_VERBS_REASON_MAX + 1];
    struct lend_error why;
    uint32_t round;

    enum lend_status status = lend_verbs_refusal_decode(bytes, count, &round, reason, error);
    if (status != LEND_OK)
        return status;
    if (rail->state == LEND_VERBS_RAIL_CALLING && round == rail->round) {
        rail->failures = LEND_VERBS_JOINS_MAX;
        (void)lend_fail(&why, LEND_E_NO_PATH, "the owner made no rail: %s", reason);
        note_failure(rail, &why);
    }
    return LEND_OK;
}

/* --- what it has told of its regions --- */

struct lend_verbs_far *lend_verbs_rail_find(const struct lend_verbs_rail *rail, uint64_t region_id)
{
    if (rail->bucket_count == 0)
        return NULL;
    for (struct lend_verbs_far *it = rail->buckets[region_id & (rail->bucket_count - 1)];
         it != NULL; it = it->next)
        if (it->told.region_id == region_id)
            return it;
    return NULL;
}

static void enter(struct lend_verbs_rail *rail, struct lend_verbs_far *far)
{
    struct lend_verbs_far **bucket = &rail->buckets[far->told.region_id & (rail->bucket_count - 1)];

    far->next = *bucket;
    *bucket = far;
}

static bool grow(struct lend_verbs_rail *rail)
{
    uint32_t before = rail->bucket_count;
    uint32_t count = before == 0 ? (uint32_t)TABLE_FIRST : before * 2;

    if (rail->far_count < before)
        return true;
    struct lend_verbs_far **old = rail->buckets;
    struct lend_verbs_far **made = lend_sys->allocate(count * sizeof(void *));
    if (made == NULL)
        return before > 0;
    rail->buckets = made;
    rail->bucket_count = count;
    for (uint32_t i = 0; i < before; i++)
        for (struct lend_verbs_far *it = old[i], *next; it != NULL; it = next) {
            next = it->next;
            enter(rail, it);
        }
    lend_sys->release(old);
    return true;
}

/* What has no room is not known: it is served. */
static void note_told(struct lend_verbs_rail *rail, const struct lend_verbs_told *told)
{
    struct lend_verbs_far *far = lend_verbs_rail_find(rail, told->region_id);

    if (far == NULL) {
        far = rail->far_count < LEND_VERBS_FARS_MAX && grow(rail) ? lend_sys->allocate(sizeof *far)
                                                                  : NULL;
        if (far == NULL)
            return;
        far->told = *told;
        enter(rail, far);
        rail->far_count++;
    } else if (memcmp(&far->told, told, sizeof *told) == 0) {
        return;
    }
    far->told = *told;
    lend_verbs_touch(rail->station);
}

static enum lend_status hear_keys(struct lend_verbs_rail *rail, const uint8_t *bytes, size_t count,
                                  struct lend_error *error)
{
    for (size_t at = 1; at < count;) {
        struct lend_verbs_told told;
        enum lend_status status = lend_verbs_told_decode(bytes, count, &at, &told, error);

        if (status != LEND_OK)
            return status;
        note_told(rail, &told);
    }
    return LEND_OK;
}

void lend_verbs_rail_lose_pairs(struct lend_verbs_rail *rail)
{
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_NO_PATH, "the owner's NIC had to give up the queue pairs");
    lend_verbs_rail_lose(rail, &why);
}

static enum lend_status hear_grant(struct lend_verbs_rail *rail, const uint8_t *bytes, size_t count,
                                   struct lend_error *error)
{
    struct lend_verbs_granted granted;
    enum lend_status status = lend_verbs_granted_decode(bytes, count, &granted, error);

    /* Of a round before they are void. */
    if (status != LEND_OK || rail->state != LEND_VERBS_RAIL_UP)
        return status;
    lend_verbs_granted_note(rail, &granted);
    rail->wishes -= granted.first == 0 && rail->wishes > 0;
    lend_verbs_legs_settle(rail, &granted);
    if (granted.is_lost && rail != rail->root) /* of the root core asks */
        lend_verbs_rail_lose_pairs(rail);
    return LEND_OK;
}

enum lend_status lend_verbs_rail_hear(struct lend_rail *base, const uint8_t *bytes, size_t count,
                                      struct lend_error *error)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    uint8_t kind = lend_verbs_message_kind(bytes, count);

    if (!rail->is_client && kind == LEND_VERBS_CALL)
        return hear_call(rail, bytes, count, error);
    if (!rail->is_client && kind == LEND_VERBS_HALT)
        return hear_halt(rail, bytes, count, error);
    if (!rail->is_client && kind == LEND_VERBS_WISH)
        return lend_verbs_hear_wish(rail, bytes, count, error);
    if (!rail->is_client && kind == LEND_VERBS_NOTE)
        return lend_verbs_hear_note(rail, bytes, count, error);
    if (rail->is_client && kind == LEND_VERBS_NOTED)
        return lend_verbs_hear_noted(rail, bytes, count, error);
    if (rail->is_client && kind == LEND_VERBS_ANSWER)
        return hear_answer(rail, bytes, count, error);
    if (rail->is_client && kind == LEND_VERBS_REFUSAL)
        return hear_refusal(rail, bytes, count, error);
    if (rail->is_client && kind == LEND_VERBS_GRANT)
        return hear_grant(rail, bytes, count, error);
    if (rail->is_client && kind == LEND_VERBS_KEYS)
        return hear_keys(rail, bytes, count, error);
    return lend_fail(error, LEND_E_CORRUPT, "a message of kind %u on a rail", kind);
}

/* --- asking --- */

enum lend_status lend_verbs_rail_judge(struct lend_rail *base, struct lend_error *why)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    if (rail->state == LEND_VERBS_RAIL_BROKEN && !rail->is_stuck &&
        lend_list_is_empty(&rail->moves) &&
        (rail->failures < LEND_VERBS_JOINS_MAX || lend_sys->now_ns() >= rail->retry_ns))
        call(rail);
    if (rail->state == LEND_VERBS_RAIL_UP)
        return LEND_OK;
    if (rail->state == LEND_VERBS_RAIL_CALLING)
        return lend_fail(why, LEND_PENDING, "queue pairs are being made with the owner");
    return lend_fail(why, LEND_E_NO_PATH, "no queue pairs: %.200s", rail->why.message);
}

bool lend_verbs_rail_is_behind(struct lend_rail *base)
{
    return lend_verbs_rail_of(base)->owes_halt;
}

uint64_t lend_verbs_rail_stamp(struct lend_rail *base)
{
    return atomic_load_explicit(&lend_verbs_rail_of(base)->station->serial, memory_order_acquire);
}

const void *lend_verbs_rail_theirs(struct lend_rail *base, uint64_t region_id, uint32_t life,
                                   struct lend_error *why)
{
    const struct lend_verbs_far *far = lend_verbs_rail_find(lend_verbs_rail_of(base), region_id);

    if (far != NULL && far->told.life == life)
        return far;
    (void)lend_fail(why, LEND_E_NO_PATH,
                    "the owner's NIC does not have region %llu, or not in the life that its "
                    "metadata tells",
                    (unsigned long long)region_id);
    return NULL;
}
