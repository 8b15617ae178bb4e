/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>

/*
 * Notifications by the rail: a SEND each, on a queue pair of the first leg's. The owner has posted
 * as many receives as it said in its ANSWER, and posts one again before it confirms what came by it
 * (NOTED), so that the sender, which has no more under way than are not confirmed, always finds
 * one. Until then it keeps what it sent: where the rail breaks it says that again by the channel
 * (NOTE), and the owner drops what it has had, as each has a number.
 */

enum { POLLED_MAX = 16, UNTOLD_MAX = LEND_VERBS_NOTES / 4, DRAINS_MAX = 8 };

struct lend_verbs_notes {
    uint8_t slots[LEND_VERBS_NOTES][LEND_VERBS_NOTE_BYTES]; /* of NOTEs, as they are on the wire */
    struct lend_verbs_region *region;                       /* they, by our NICs */
    uint32_t lkey;                                          /* by the one that we have chosen, */
    bool is_found;                                          /* if that one has them */

    /* Client: those that are not confirmed, from `first` on. */
    uint64_t numbers[LEND_VERBS_NOTES];
    uint32_t counts[LEND_VERBS_NOTES];
    uint32_t first;
    uint32_t kept;
    uint32_t lost;   /* of them, the first so many are to be said by the channel; */
    uint32_t flying; /* SENDs that have not completed */

    /* Server. */
    struct lend_verbs_cq *cq; /* for what comes */
    uint64_t last;            /* number that came */
    uint32_t untold;          /* that came, and are not confirmed */
};

/* --- both --- */

void lend_verbs_notes_open(struct lend_verbs_rail *rail)
{
    struct lend_verbs_notes *made;

    if (rail->notes != NULL || rail != rail->root)
        return;
    made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return;
    const struct lend_verbs_memory memory = {
        .address = (uint64_t)(uintptr_t)made->slots,
        .bytes = sizeof made->slots,
        .kind = LEND_MEMORY_SYSTEM,
        .rights = LEND_VERBS_MAY_LAND | LEND_VERBS_IS_ORDERED,
    };
    if (lend_verbs_region_register(rail->station->store, &memory, &made->region, NULL) == LEND_OK)
        rail->notes = made;
    else
        lend_sys->release(made);
}

bool lend_verbs_notes_close(struct lend_verbs_rail *rail, bool forked)
{
    struct lend_verbs_notes *notes = rail->notes;

    if (notes == NULL)
        return true;
    if (!forked && lend_verbs_region_release(notes->region, NULL) != LEND_OK)
        return false;
    lend_sys->release(notes);
    rail->notes = NULL;
    return true;
}

bool lend_verbs_notes_find(struct lend_verbs_rail *rail)
{
    struct lend_verbs_notes *notes = rail->notes;
    struct lend_verbs_keys keys;

    if (notes == NULL)
        return false;
    notes->is_found = false;
    if (!lend_verbs_region_keys(notes->region, rail->nic, (uint64_t)(uintptr_t)notes->slots,
                                sizeof notes->slots, &keys) ||
        keys.bytes != sizeof notes->slots)
        return false;
    notes->lkey = keys.lkey;
    return notes->is_found = true;
}

static struct lend_verbs_sge sge_of(const struct lend_verbs_notes *notes, uint32_t slot,
                                    uint32_t count)
{
    return (struct lend_verbs_sge){
        .addr = (uint64_t)(uintptr_t)notes->slots[slot], .length = count, .lkey = notes->lkey};
}

/* --- the owner --- */

static bool post_receive(struct lend_verbs_rail *rail, uint32_t slot)
{
    struct lend_verbs_sge sge = sge_of(rail->notes, slot, LEND_VERBS_NOTE_BYTES);
    struct lend_verbs_receive work = {.wr_id = slot, .sg_list = &sge, .num_sge = 1}, *bad = NULL;

    return lend_verbs_post_receive(rail->pairs[LEND_VERBS_NOTE_LANE], &work, &bad) == 0;
}

void lend_verbs_notes_begin(struct lend_verbs_rail *rail)
{
    const struct lend_verbs_ops *verbs = rail->station->verbs;
    const struct lend_verbs_ear *ear = &rail->station->ears[rail->nic];

    /* Nobody polls for a notification for ever. */
    if (rail->is_client || rail != rail->root || !lend_verbs_notes_find(rail) ||
        !atomic_load_explicit(&ear->hears_completions, memory_order_relaxed))
        return;
    rail->notes->untold = 0;
    rail->notes->cq =
        verbs->create_cq(rail->place.nic->context, LEND_VERBS_NOTES + 1, rail, ear->channel, 0);
}

struct lend_verbs_cq *lend_verbs_notes_cq(const struct lend_verbs_rail *rail, uint32_t lane)
{
    return rail->notes != NULL && lane == LEND_VERBS_NOTE_LANE ? rail->notes->cq : NULL;
}

uint8_t lend_verbs_notes_offer(struct lend_verbs_rail *rail)
{
    uint8_t posted = 0;

    if (lend_verbs_notes_cq(rail, LEND_VERBS_NOTE_LANE) == NULL)
        return 0;
    while (posted < LEND_VERBS_NOTES && post_receive(rail, posted))
        posted++;
    return posted;
}

bool lend_verbs_notes_end(struct lend_verbs_rail *rail)
{
    if (rail->notes == NULL || rail->notes->cq == NULL)
        return true;
    if (rail->station->verbs->destroy_cq(rail->notes->cq) != 0)
        return false;
    rail->notes->cq = NULL;
    return true;
}

/* What came is not what a sender says, or cannot be taken: the peer's rail ends, and what is worth
 * it comes by the channel. */
static void refuse(struct lend_verbs_rail *rail, const struct lend_error *why)
{
    lend_agent_log(rail->station->agent, LEND_LOG_WARNING, "verbs: a rail was cut: %s",
                   why->message);
    rail->state = LEND_VERBS_RAIL_IDLE;
    rail->telling_count = 0;
    rail->owes_offer = false;
    if (!lend_verbs_pairs_destroy(rail))
        rail->is_stuck = true;
}

/* The NIC wrote it before its completion was there. Nobody writes to it before it is posted again.
 */
static enum lend_status take(struct lend_verbs_rail *rail,
                             const struct lend_verbs_completion *completion, struct lend_error *why)
{
    struct lend_verbs_notes *notes = rail->notes;
    const uint8_t *bytes = NULL;
    size_t count = 0;

    if (completion->wr_id >= LEND_VERBS_NOTES || completion->byte_len > LEND_VERBS_NOTE_BYTES)
        return lend_fail(why, LEND_E_CORRUPT, "a notification in %u bytes", completion->byte_len);
    enum lend_status status = lend_verbs_note_decode(
        notes->slots[completion->wr_id], completion->byte_len, &notes->last, &bytes, &count, why);
    if (status == LEND_OK)
        status = lend_session_notified(rail->base.session, notes->last, bytes, count, why);
    if (status == LEND_OK && !post_receive(rail, (uint32_t)completion->wr_id))
        status = lend_fail(why, LEND_E_DEVICE, "%s took no receive", rail->place.nic->name);
    notes->untold++;
    return status;
}

bool lend_verbs_notes_hear(struct lend_verbs_rail *rail)
{
    struct lend_verbs_cq *cq = lend_verbs_notes_cq(rail, LEND_VERBS_NOTE_LANE);
    struct lend_verbs_completion completions[POLLED_MAX];
    struct lend_error why;

    if (cq == NULL || rail->state != LEND_VERBS_RAIL_UP)
        return false;
    int count = lend_verbs_poll(cq, POLLED_MAX, completions);
    atomic_thread_fence(memory_order_acquire);
    for (int i = 0; i < count; i++)
        /* Of a queue pair that its peer has brought into error: that one says HALT, or dies. */
        if (completions[i].status == LEND_VERBS_WC_SUCCESS &&
            take(rail, &completions[i], &why) != LEND_OK) {
            refuse(rail, &why);
            return true;
        }
    if (count > 0)
        rail->arming = LEND_VERBS_UNARMED;
    else if (rail->arming == LEND_VERBS_ARMED)
        rail->arming = LEND_VERBS_ARMED_LOOKED;
    return count > 0;
}

void lend_verbs_notes_drain(struct lend_verbs_rail *rail)
{
    for (int i = 0; i < DRAINS_MAX && lend_verbs_notes_hear(rail); i++) {
    }
}

size_t lend_verbs_say_noted(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    if (rail->notes == NULL || rail->notes->untold < UNTOLD_MAX)
        return 0;
    rail->notes->untold = 0;
    return lend_verbs_noted_encode(rail->notes->last, bytes, LEND_FRAME_MESSAGE_MAX);
}

enum lend_status lend_verbs_hear_note(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                      size_t count, struct lend_error *error)
{
    const uint8_t *said = NULL;
    uint64_t number = 0;
    size_t length = 0;

    enum lend_status status = lend_verbs_note_decode(bytes, count, &number, &said, &length, error);
    return status == LEND_OK
               ? lend_session_notified(rail->base.session, number, said, length, error)
               : status;
}

/* --- the sender --- */

static bool has_room(const struct lend_verbs_rail *rail, size_t count)
{
    const struct lend_verbs_notes *notes = rail->notes;
    uint32_t most = rail->theirs.note_count;

    most = most < LEND_VERBS_NOTES ? most : (uint32_t)LEND_VERBS_NOTES;
    return notes != NULL && notes->is_found && rail->state == LEND_VERBS_RAIL_UP &&
           notes->lost == 0 && count <= LEND_VERBS_NOTE_BYTES - LEND_VERBS_NOTE_HEAD &&
           notes->kept < most && rail->free_work[LEND_VERBS_NOTE_LANE] > 0;
}

static bool post_send(struct lend_verbs_rail *rail, uint32_t slot)
{
    struct lend_verbs_notes *notes = rail->notes;
    struct lend_verbs_sge sge = sge_of(notes, slot, notes->counts[slot]);
    struct lend_verbs_send *bad = NULL, work = {.wr_id = LEND_VERBS_BATCHES + slot,
                                                .sg_list = &sge,
                                                .num_sge = 1,
                                                .opcode = LEND_VERBS_SEND_SEND,
                                                .send_flags = LEND_VERBS_SIGNALED};

    if (!lend_verbs_work_flies(rail))
        rail->heard_ns = lend_sys->now_ns();
    notes->flying++;
    rail->free_work[LEND_VERBS_NOTE_LANE]--;
    return lend_verbs_post_send(rail->pairs[LEND_VERBS_NOTE_LANE], &work, &bad) == 0;
}

bool lend_verbs_notify(struct lend_rail *base, uint64_t number, const void *bytes, size_t count)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    struct lend_verbs_notes *notes = rail->notes;
    struct lend_error why;

    if (!has_room(rail, count))
        return false;
    uint32_t slot = (notes->first + notes->kept) % LEND_VERBS_NOTES;
    notes->numbers[slot] = number;
    notes->counts[slot] = (uint32_t)lend_verbs_note_encode(number, bytes, count, notes->slots[slot],
                                                           LEND_VERBS_NOTE_BYTES);
    notes->kept++;
    if (post_send(rail, slot)) {
        lend_verbs_rail_arm(rail); /* whoever sleeps is to hear of it if it fails */
        return true;
    }
    (void)lend_fail(&why, LEND_E_DEVICE, "%s took no more work", rail->place.nic->name);
    lend_verbs_rail_lose(rail, &why); /* and so it is said by the channel */
    return true;
}

bool lend_verbs_notes_fly(const struct lend_verbs_rail *rail)
{
    return rail->notes != NULL && rail->notes->flying > 0;
}

void lend_verbs_notes_sent(struct lend_verbs_rail *rail)
{
    if (rail->notes == NULL || rail->notes->flying == 0)
        return;
    rail->notes->flying--;
    rail->free_work[LEND_VERBS_NOTE_LANE]++;
}

static void drop_first(struct lend_verbs_notes *notes)
{
    notes->first = (notes->first + 1) % LEND_VERBS_NOTES;
    notes->kept--;
    notes->lost -= notes->lost > 0;
}

enum lend_status lend_verbs_hear_noted(struct lend_verbs_rail *rail, const uint8_t *bytes,
                                       size_t count, struct lend_error *error)
{
    struct lend_verbs_notes *notes = rail->notes;
    uint64_t number = 0;

    enum lend_status status = lend_verbs_noted_decode(bytes, count, &number, error);
    while (status == LEND_OK && notes != NULL && notes->kept > 0 &&
           notes->numbers[notes->first] <= number)
        drop_first(notes);
    return status;
}

void lend_verbs_repeat(struct lend_rail *base)
{
    struct lend_verbs_notes *notes = lend_verbs_rail_of(base)->notes;

    if (notes != NULL)
        notes->lost = notes->kept;
}

void lend_verbs_notes_lose(struct lend_verbs_rail *rail)
{
    struct lend_verbs_notes *notes = rail->notes;

    if (!rail->is_client || notes == NULL)
        return;
    rail->free_work[LEND_VERBS_NOTE_LANE] += notes->flying;
    notes->flying = 0;
    lend_verbs_repeat(&rail->base);
    if (notes->lost > 0)
        lend_session_wake(rail->base.session);
}

size_t lend_verbs_say_note(struct lend_verbs_rail *rail, uint8_t *bytes)
{
    struct lend_verbs_notes *notes = rail->notes;

    if (!rail->is_client || notes == NULL || notes->lost == 0)
        return 0;
    size_t count = notes->counts[notes->first];
    memcpy(bytes, notes->slots[notes->first], count);
    drop_first(notes);
    return count;
}
