/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

/*
 * A rail is one *leg* for each NIC of the client's that it uses, and the first of them is its root.
 * Each is made, said and heard, and broken by itself (rail.c), and its work is proven by itself
 * (work.c). A long READ or WRITE is split: each leg has a part of its bytes, the longer the faster
 * it is, and it is a success when each part is. What goes to or from memory of a GPU goes by the
 * legs that are nearest to it. All else goes by the root.
 *
 * The keys of a WRITE are each for one queue pair. The root has them before it begins; the others
 * wish for theirs when they first have a part by that lease, which waits until they are told, and
 * goes by the root if there are none.
 */

struct part {
    struct lend_rail_move move;
    struct lend_list link; /* in the `flying` of the whole, until it is over */
    struct split *split;
    struct lend_verbs_rail *leg; /* NULL: it is over */
    bool is_waiting;             /* for the keys of that leg: the leg does not know of it yet */
};

/* A READ or WRITE that is split. */
struct split {
    struct lend_list link; /* among the free ones, or those that are not */
    struct lend_rail_move *whole;
    uint32_t count;
    uint32_t left; /* parts that are not over */
    struct part parts[LEND_VERBS_LEGS_MAX];
};

struct lend_verbs_splits {
    struct lend_list free;
    struct lend_list busy;
    struct split all[LEND_VERBS_SPLITS];
};

/* --- legs --- */

static struct lend_verbs_rail *leg_after(const struct lend_verbs_rail *root, uint32_t *at)
{
    for (; *at < LEND_VERBS_LEGS_MAX; ++*at)
        if (root->legs[*at] != NULL)
            return root->legs[(*at)++];
    return NULL;
}

#define FOR_EACH_LEG(leg, root) for (uint32_t at_ = 0; (leg = leg_after(root, &at_)) != NULL;)

void lend_verbs_legs_close(struct lend_rail *base, bool forked)
{
    struct lend_verbs_rail *root = lend_verbs_rail_of(base);

    for (uint32_t i = 1; i < LEND_VERBS_LEGS_MAX; i++)
        if (root->legs[i] != NULL)
            lend_verbs_rail_close(&root->legs[i]->base, forked);
    lend_sys->release(root->parts);
    root->parts = NULL;
    lend_verbs_rail_close(base, forked);
}

/* Client, whose root is up: call by the other NICs, too. */
static void begin_legs(struct lend_verbs_rail *root)
{
    const uint32_t nics = root->station->nic_count;

    root->legs_are_begun = true;
    if (nics < 2)
        return;
    root->parts = lend_sys->allocate(sizeof *root->parts);
    if (root->parts == NULL)
        return; /* the root is enough */
    lend_list_init(&root->parts->free);
    lend_list_init(&root->parts->busy);
    for (uint32_t i = 0; i < LEND_VERBS_SPLITS; i++)
        lend_list_append(&root->parts->free, &root->parts->all[i].link);
    for (uint32_t i = 1; i < nics && i < LEND_VERBS_LEGS_MAX; i++)
        (void)lend_verbs_rail_open_leg(root, i); /* or there are fewer */
}

/* The root has lost its own NIC, and gone over to that of another leg: then there is one leg less,
 * until there is another NIC for it. */
static void give_way(struct lend_verbs_rail *leg)
{
    struct lend_error why;

    if (leg->state != LEND_VERBS_RAIL_UP || leg->place.nic != leg->root->place.nic ||
        !lend_list_is_empty(&leg->moves))
        return;
    (void)lend_fail(&why, LEND_E_NO_PATH, "the first leg goes by %s, too", leg->place.nic->name);
    lend_verbs_rail_lose(leg, &why);
}

/* What it is told of while a leg is not known to be there is not told for that leg: so a new rail
 * is there when each of its legs is, or has failed. */
enum lend_status lend_verbs_legs_judge(struct lend_rail *base, struct lend_error *why)
{
    struct lend_verbs_rail *root = lend_verbs_rail_of(base), *leg;
    enum lend_status status = lend_verbs_rail_judge(base, why);
    struct lend_error ignored;

    if (status != LEND_OK)
        return status;
    if (!root->legs_are_begun)
        begin_legs(root);
    FOR_EACH_LEG (leg, root) {
        if (leg == root)
            continue;
        give_way(leg);
        (void)lend_verbs_rail_judge(&leg->base, &ignored); /* it may call anew */
        if (!leg->is_judged)
            return lend_fail(why, LEND_PENDING, "queue pairs are being made with the owner");
    }
    return LEND_OK;
}

/* --- what they say --- */

size_t lend_verbs_legs_say(struct lend_rail *base, uint8_t *bytes)
{
    struct lend_verbs_rail *leg;
    size_t count = 0;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base)) {
        count = lend_verbs_rail_say(&leg->base, bytes);
        if (count > 0) {
            lend_verbs_message_set_leg(bytes, leg->leg);
            break;
        }
    }
    return count;
}

enum lend_status lend_verbs_legs_hear(struct lend_rail *base, const uint8_t *bytes, size_t count,
                                      struct lend_error *error)
{
    struct lend_verbs_rail *root = lend_verbs_rail_of(base);
    uint32_t leg = lend_verbs_message_leg(bytes, count);
    bool is_call = lend_verbs_message_kind(bytes, count) == LEND_VERBS_CALL;

    if (leg < LEND_VERBS_LEGS_MAX && root->legs[leg] == NULL && !root->is_client && is_call &&
        lend_verbs_rail_open_leg(root, leg) == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for leg %u of a rail", leg);
    if (leg >= LEND_VERBS_LEGS_MAX || root->legs[leg] == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "a message for leg %u of a rail", leg);
    return lend_verbs_rail_hear(&root->legs[leg]->base, bytes, count, error);
}

void lend_verbs_legs_tell(struct lend_rail *base, uint64_t region_id)
{
    struct lend_verbs_rail *leg;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base))
        lend_verbs_rail_tell(&leg->base, region_id);
}

bool lend_verbs_legs_are_behind(struct lend_rail *base)
{
    struct lend_verbs_rail *leg;
    bool is_behind = false;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base))
        is_behind |= lend_verbs_rail_is_behind(&leg->base);
    return is_behind;
}

/* --- READs and WRITEs that are split --- */

static struct split *find_split(const struct lend_verbs_rail *root,
                                const struct lend_rail_move *whole)
{
    if (root->parts == NULL)
        return NULL;
    for (struct lend_list *link = root->parts->busy.next; link != &root->parts->busy;
         link = link->next)
        if (LEND_LIST_OWNER(link, struct split, link)->whole == whole)
            return LEND_LIST_OWNER(link, struct split, link);
    return NULL;
}

static void end_part(struct part *part)
{
    part->is_waiting = false;
    lend_list_remove(&part->link);
    part->leg = NULL;
    part->split->left--;
}

/* Nothing more of it is begun. */
static void stop_parts(struct split *split)
{
    for (uint32_t i = 0; i < split->count; i++) {
        struct part *part = &split->parts[i];

        if (part->leg == NULL ||
            (!part->is_waiting && !lend_verbs_stop(&part->leg->base, &part->move)))
            continue;
        part->move.status = LEND_E_CANCELED;
        end_part(part);
    }
}

/* What a word said says more than that a leg broke, and that more than that others were stopped.
 * But of a WRITE bytes may land still where a leg broke, which must not be forgotten. */
static int gravity(const struct lend_rail_move *move)
{
    if (move->status == LEND_OK)
        return 0;
    if (move->status == LEND_E_CANCELED)
        return 1;
    return lend_rail_has_broken(move->status, move->code) != move->is_write ? 2 : 3;
}

static void free_split(struct lend_verbs_rail *root, struct split *split)
{
    lend_list_remove(&split->link);
    lend_list_append(&root->parts->free, &split->link);
}

/* All its parts are over, and so is the whole. */
static void finish(struct lend_verbs_rail *root, struct split *split)
{
    struct lend_rail_move *whole = split->whole;
    bool is_leading = true;

    for (uint32_t i = 0; i < split->count; i++) {
        const struct lend_rail_move *part = &split->parts[i].move;

        if (is_leading)
            whole->proven_bytes += part->proven_bytes;
        is_leading &= part->proven_bytes == part->total_bytes;
        if (gravity(part) > gravity(whole)) {
            whole->status = part->status;
            whole->code = part->code;
        }
    }
    free_split(root, split);
    whole->done(whole);
}

static void part_done(struct lend_rail_move *move)
{
    struct part *part = LEND_LIST_OWNER(move, struct part, move);
    struct split *split = part->split;
    struct lend_verbs_rail *root = part->leg->root;

    end_part(part);
    if (move->status != LEND_OK)
        stop_parts(split);
    if (split->left == 0)
        finish(root, split);
}

/* Does the lease let that leg write, or will it? -1: its owner has not said so. */
static int may_write(struct lend_verbs_rail *leg, const struct lend_rail_move *move)
{
    const struct lend_verbs_entry *entry =
        lend_verbs_granted_find(leg, move->slot, move->generation);

    return entry == NULL ? -1 : !entry->is_lost && entry->total > 0;
}

/* Does that leg know both ends of all of it, or could it? The peer's keys are noted for it. */
static bool knows(struct lend_verbs_rail *leg, const struct lend_rail_move *move)
{
    const int writes = move->is_write ? may_write(leg, move) : 1;

    if (writes == 0 || (writes < 0 && leg->wishes == LEND_VERBS_WISHES_MAX))
        return false;
    for (uint64_t i = 0; i < move->theirs.extent_count; i++) {
        if (lend_verbs_region_means(move->ends[i].ours, leg->nic) == 0)
            return false;
        if (move->is_write)
            continue;
        const struct lend_verbs_far *theirs = move->ends[i].theirs;
        struct lend_verbs_far *first = lend_verbs_rail_find(leg->root, theirs->told.region_id);
        const struct lend_verbs_far *own = lend_verbs_rail_find(leg, theirs->told.region_id);

        if (first != theirs || own == NULL || own->told.life != theirs->told.life)
            return false;
        first->at[leg->leg] = own;
    }
    return true;
}

/* The GPU that all of our side's memory is of; -1: of the host, or several. */
static int32_t gpu_of(const struct lend_rail_move *move)
{
    int32_t gpu = lend_verbs_region_gpu(move->ends[0].ours);

    for (uint64_t i = 1; i < move->ours.extent_count; i++)
        if (move->ends[i].ours != move->ends[i - 1].ours &&
            lend_verbs_region_gpu(move->ends[i].ours) != gpu)
            return -1;
    return gpu < LEND_VERBS_ORDINALS_MAX ? gpu : -1;
}

/* How far our NIC of a leg is from that GPU of ours; 0: not known. */
static uint32_t distance_from(const struct lend_verbs_rail *leg, int32_t gpu)
{
    return gpu < 0 ? 0
                   : atomic_load_explicit(&leg->station->distances[leg->nic][gpu],
                                          memory_order_relaxed);
}

/* How far the owner's NIC of a leg is from the one GPU of its whose memory that is; 0: not known,
 * or there is not one. All of the legs know both ends. */
static uint32_t distance_of_owner(const struct lend_verbs_rail *leg,
                                  const struct lend_rail_move *move)
{
    uint32_t most = 0;

    if (__builtin_popcount(move->gpus) != 1)
        return 0;
    if (move->is_write) {
        const struct lend_verbs_entry *target =
            lend_verbs_granted_find(leg->root, move->slot, move->generation);

        return target != NULL ? target->distances[leg->leg] : 0;
    }
    for (uint64_t i = 0; i < move->theirs.extent_count; i++) {
        const struct lend_verbs_far *theirs = move->ends[i].theirs;
        const uint32_t distance =
            leg == leg->root ? theirs->told.distance : theirs->at[leg->leg]->told.distance;

        most = distance > most ? distance : most; /* of the host's there is none */
    }
    return most;
}

/* Of legs for memory of GPUs, those alone whose NICs are nearest to them, at both ends together.
 * All, where it is not known of any end how far they are. */
static uint32_t keep_nearest(struct lend_verbs_rail **legs, uint32_t count,
                             const struct lend_rail_move *move, int32_t gpu)
{
    uint32_t ours[LEND_VERBS_LEGS_MAX], theirs[LEND_VERBS_LEGS_MAX];
    uint32_t nearest = UINT32_MAX, kept = 0;
    bool knows_ours = true, knows_theirs = true;

    for (uint32_t i = 0; i < count; i++) {
        ours[i] = distance_from(legs[i], gpu);
        theirs[i] = distance_of_owner(legs[i], move);
        knows_ours &= ours[i] > 0;
        knows_theirs &= theirs[i] > 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        ours[i] = (knows_ours ? ours[i] : 0) + (knows_theirs ? theirs[i] : 0);
        nearest = ours[i] < nearest ? ours[i] : nearest;
    }
    for (uint32_t i = 0; i < count; i++)
        if (ours[i] == nearest)
            legs[kept++] = legs[i];
    return kept;
}

/* The legs that it is to go by: one, or several, if it is to be split; 0: by the root. A short one
 * goes by another than that where it is nearer to a GPU. */
static uint32_t choose_legs(struct lend_verbs_rail *root, const struct lend_rail_move *move,
                            struct lend_verbs_rail **out)
{
    const uint64_t most = move->total_bytes / LEND_VERBS_BATCH_BYTES;
    const bool is_long = move->total_bytes >= LEND_VERBS_SPLIT_BYTES;
    int32_t gpu = root->parts != NULL ? gpu_of(move) : -1;
    struct lend_verbs_rail *leg;
    uint32_t count = 0;

    if (root->parts == NULL || lend_list_is_empty(&root->parts->free) ||
        (!is_long && gpu < 0 && move->gpus == 0))
        return 0;
    FOR_EACH_LEG (leg, root)
        if (leg->state == LEND_VERBS_RAIL_UP && (leg == root || knows(leg, move)))
            out[count++] = leg;
    if (count > 1)
        count = keep_nearest(out, count, move, gpu);
    return !is_long && count > 1 ? 1 : count < most || !is_long ? count : (uint32_t)most;
}

/* How fast a leg would carry that transfer, in Mbit/s: as the slower of its two NICs. 0: not known.
 */
static uint64_t speed_of(const struct lend_verbs_rail *leg, const struct lend_rail_move *move)
{
    const uint32_t ours = leg->ours.rate_mbps, theirs = leg->theirs.rate_mbps;

    (void)move; /* nothing depends on its memory yet */
    return ours < theirs ? ours : theirs;
}

/* What each leg has of a transfer, beside the others: by their speed, or alike where that is not
 * known. A peer that tells strange ones takes no leg out of use, and makes none carry all. Returns
 * the sum. */
static uint64_t weigh(struct lend_verbs_rail *const *legs, uint32_t count,
                      const struct lend_rail_move *move, uint64_t *out)
{
    uint64_t most = 0, sum = 0;
    bool is_known = true;

    for (uint32_t i = 0; i < count; i++) {
        out[i] = speed_of(legs[i], move);
        most = out[i] > most ? out[i] : most;
        is_known &= out[i] > 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t least = most / LEND_VERBS_SHARE_LEAST;

        out[i] = !is_known ? 1 : out[i] < least ? least : out[i];
        sum += out[i];
    }
    return sum;
}

static void begin_part(struct split *split, struct lend_verbs_rail *leg, uint64_t from,
                       uint64_t bytes)
{
    const struct lend_rail_move *whole = split->whole;
    struct part *part = &split->parts[split->count++];

    part->is_waiting = false;
    part->move = (struct lend_rail_move){.theirs = whole->theirs,
                                         .ours = whole->ours,
                                         .ends = whole->ends,
                                         .gpus = whole->gpus,
                                         .is_write = whole->is_write,
                                         .total_bytes = bytes,
                                         .slot = whole->slot,
                                         .generation = whole->generation,
                                         .judge = whole->judge,
                                         .done = part_done};
    lend_cursor_skip(&part->move.theirs, from);
    lend_cursor_skip(&part->move.ours, from);
    part->split = split;
    part->leg = leg;
    lend_list_append(&split->whole->flying, &part->link);
    split->left++;
}

static bool waits_for(const struct part *part, const struct lend_verbs_rail *leg, uint32_t slot,
                      uint64_t generation)
{
    return part->is_waiting && part->leg == leg && part->move.slot == slot &&
           part->move.generation == generation;
}

/* Does any part wait for those keys already? */
static bool is_wished(const struct lend_verbs_rail *leg, const struct lend_rail_move *move)
{
    const struct lend_list *busy = &leg->root->parts->busy;

    for (struct lend_list *link = busy->next; link != busy; link = link->next) {
        const struct split *split = LEND_LIST_OWNER(link, struct split, link);

        for (uint32_t i = 0; i < split->count; i++)
            if (waits_for(&split->parts[i], leg, move->slot, move->generation))
                return true;
    }
    return false;
}

static void start_part(struct part *part)
{
    struct lend_verbs_rail *leg = part->leg;
    const struct lend_rail_move *move = &part->move;

    if (!move->is_write || leg == leg->root || may_write(leg, move) >= 0) {
        lend_verbs_submit(&leg->base, &part->move);
        return;
    }
    if (!is_wished(leg, move)) {
        leg->owed[leg->owed_count++] =
            (struct lend_verbs_owed){.slot = move->slot, .generation = move->generation};
        leg->wishes++;
        lend_session_wake(leg->root->base.session);
    }
    part->is_waiting = true;
}

void lend_verbs_legs_settle(struct lend_verbs_rail *leg, const struct lend_verbs_granted *told)
{
    struct lend_verbs_rail *root = leg->root;

    if (root->parts == NULL)
        return;
    for (struct lend_list *link = root->parts->busy.next; link != &root->parts->busy;
         link = link->next) {
        struct split *split = LEND_LIST_OWNER(link, struct split, link);

        for (uint32_t i = 0; i < split->count; i++) {
            struct part *part = &split->parts[i];

            if (!part->is_waiting || part->leg != leg ||
                (told != NULL && !waits_for(part, leg, told->slot, told->generation)))
                continue;
            part->is_waiting = false;
            if (told == NULL || may_write(leg, &part->move) <= 0)
                part->leg = root;
            lend_verbs_submit(&part->leg->base, &part->move);
        }
    }
}

void lend_verbs_legs_submit(struct lend_rail *base, struct lend_rail_move *move)
{
    struct lend_verbs_rail *root = lend_verbs_rail_of(base);
    struct lend_verbs_rail *legs[LEND_VERBS_LEGS_MAX];
    uint64_t weights[LEND_VERBS_LEGS_MAX];
    uint32_t count = choose_legs(root, move, legs);

    /* One WRITE by another leg is a part, too, as it may have to wait for keys. */
    if (count == 0 || (count == 1 && (legs[0] == root || !move->is_write))) {
        lend_verbs_submit(count == 1 ? &legs[0]->base : base, move);
        return;
    }
    struct split *split =
        LEND_LIST_OWNER(lend_list_take_first(&root->parts->free), struct split, link);
    lend_list_append(&root->parts->busy, &split->link);
    split->whole = move;
    split->count = split->left = 0;
    lend_list_init(&move->link);
    lend_list_init(&move->flying);
    uint64_t from = 0, left = weigh(legs, count, move, weights);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t rest = move->total_bytes - from, share = rest;

        if (i + 1 < count) {
            share = rest / left * weights[i] + rest % left * weights[i] / left;
            share -= share % LEND_VERBS_SHARE_BYTES;
        }
        begin_part(split, legs[i], from, share);
        from += share;
        left -= weights[i];
    }
    for (uint32_t i = 0; i < count; i++)
        start_part(&split->parts[i]);
}

bool lend_verbs_legs_stop(struct lend_rail *base, struct lend_rail_move *move)
{
    struct lend_verbs_rail *root = lend_verbs_rail_of(base);
    struct split *split = find_split(root, move);

    if (split == NULL)
        return lend_verbs_stop(base, move);
    move->is_ending = true;
    stop_parts(split);
    return false; /* if all of it is over now, the next pump says so */
}

/* Those whose last parts ended by a stop. */
static bool finish_stopped(struct lend_verbs_rail *root)
{
    bool moved = false;

    if (root->parts == NULL)
        return false;
    for (struct lend_list *link = root->parts->busy.next; link != &root->parts->busy;) {
        struct split *split = LEND_LIST_OWNER(link, struct split, link);

        if (split->left > 0) {
            link = link->next;
            continue;
        }
        finish(root, split);
        link = root->parts->busy.next; /* done() may have changed the list */
        moved = true;
    }
    return moved;
}

/* --- all of them --- */

bool lend_verbs_legs_pump(struct lend_rail *base)
{
    struct lend_verbs_rail *leg;
    bool moved = false;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base))
        moved |= lend_verbs_pump(&leg->base);
    return moved | finish_stopped(lend_verbs_rail_of(base));
}

bool lend_verbs_legs_sleep(struct lend_rail *base)
{
    struct lend_verbs_rail *leg;
    bool sleeps = true;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base))
        sleeps &= lend_verbs_sleep(&leg->base);
    return sleeps;
}

uint64_t lend_verbs_legs_due(struct lend_rail *base)
{
    struct lend_verbs_rail *leg;
    uint64_t due = UINT64_MAX;

    FOR_EACH_LEG (leg, lend_verbs_rail_of(base)) {
        uint64_t own = lend_verbs_due(&leg->base);

        due = own < due ? own : due;
    }
    return due;
}

void lend_verbs_legs_halt(struct lend_rail *base)
{
    struct lend_verbs_rail *leg;

    lend_verbs_notes_drain(lend_verbs_rail_of(base));
    FOR_EACH_LEG (leg, lend_verbs_rail_of(base))
        lend_verbs_rail_halt(&leg->base);
    (void)finish_stopped(lend_verbs_rail_of(base));
}
