/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>

enum { POLLED_MAX = 16 };

/* One more than there is of, so that a word that never came is that of no lease. */
#define NO_WORD UINT64_C(0)

#define SILENCE_NS UINT64_C(5000000000)

void lend_verbs_work_init(struct lend_verbs_rail *rail)
{
    lend_list_init(&rail->moves);
    lend_list_init(&rail->free_batches);
    for (uint32_t i = 0; i < LEND_VERBS_BATCHES; i++)
        lend_list_append(&rail->free_batches, &rail->batches[i].link);
    for (uint32_t i = 0; i < LEND_VERBS_LANES_MAX; i++)
        rail->free_work[i] = LEND_VERBS_QUEUE_WORK;
}

static struct lend_rail_move *move_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_rail_move, link);
}

static struct lend_verbs_batch *batch_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_verbs_batch, link);
}

/* --- building --- */

/* Work requests as they are built. */
struct build {
    struct lend_verbs_rail *rail;
    struct lend_rail_move *move;
    const struct lend_verbs_entry *granted; /* of a WRITE: by which keys; NULL: not known here */
    uint64_t id;                            /* of the batch */
    uint32_t count;
    uint64_t bytes;
    const struct lend_verbs_region
        *region; /* of ours, whose keys were looked up last; NULL: none */
    struct lend_verbs_keys keys;
    struct lend_verbs_send work[LEND_VERBS_BATCH_WORK];
    struct lend_verbs_sge sges[LEND_VERBS_BATCH_WORK][LEND_VERBS_SGES_MAX];
};

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What comes next of a side; false: nothing does. */
static inline bool see(struct lend_cursor *cursor, struct lend_rail_reach *reach)
{
    return reach->left.length_bytes > 0 ||
           lend_cursor_next_of_extent(cursor, UINT64_MAX, &reach->left, &reach->extent);
}

static inline void step(struct lend_rail_reach *reach, uint64_t bytes)
{
    reach->left.address += bytes;
    reach->left.length_bytes -= bytes;
}

/* Where the peer's NIC finds an address, and for how many bytes; 0: nowhere. */
static uint64_t find_piece(const struct lend_verbs_piece *pieces, uint32_t count, uint64_t address,
                           uint64_t bytes, uint32_t *out_rkey)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct lend_verbs_piece *piece = &pieces[i];
        uint64_t into = address - piece->address;

        if (address < piece->address || into >= piece->bytes)
            continue;
        *out_rkey = piece->rkey;
        return bytes < piece->bytes - into ? bytes : piece->bytes - into;
    }
    return 0;
}

/* The same of pieces that ascend, and may be many: mostly it is that which begins last before. */
static uint64_t find_granted(const struct lend_verbs_entry *granted, uint64_t address,
                             uint64_t bytes, uint32_t *out_rkey)
{
    uint32_t low = 0, high = granted->piece_count;
    uint64_t found = 0;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (granted->pieces[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0)
        found = find_piece(&granted->pieces[low - 1], 1, address, bytes, out_rkey);
    /* Regions may overlap. */
    return found > 0 ? found : find_piece(granted->pieces, low, address, bytes, out_rkey);
}

/* Whoever may read a region may read all of it; what may be written has the keys of its lease. */
static uint64_t find_theirs(const struct build *build, uint64_t extent, uint64_t address,
                            uint64_t bytes, uint32_t *out_rkey)
{
    const struct lend_rail_move *move = build->move;
    const struct lend_verbs_entry *granted = build->granted;

    if (move->is_write)
        return granted == NULL ? 0 : find_granted(granted, address, bytes, out_rkey);
    const struct lend_verbs_far *far = move->ends[extent].theirs;

    if (build->rail->leg > 0)
        far = far->at[build->rail->leg];
    return find_piece(far->told.pieces, far->told.piece_count, address, bytes, out_rkey);
}

/* The key of ours by which our NIC finds that address, and for how many bytes; 0: nowhere. A
 * region's keys are looked up under a lock of all rails, and so once for a batch. */
static inline uint64_t find_ours(struct build *build, const struct lend_rail_reach *here,
                                 uint32_t *out_lkey)
{
    const struct lend_verbs_region *region = build->move->ends[here->extent].ours;
    struct lend_verbs_keys *keys = &build->keys;

    if (build->region != region || here->left.address - keys->address >= keys->bytes) {
        build->region = NULL;
        if (!lend_verbs_region_piece(region, build->rail->nic, here->left.address, keys))
            return 0;
        build->region = region;
    }
    *out_lkey = keys->lkey;
    return least(here->left.length_bytes, keys->bytes - (here->left.address - keys->address));
}

/* Our pieces of one work request, at most `bytes` of them: how many bytes they are. 0: our NIC has
 * them not. */
static inline uint64_t scatter(struct build *build, uint64_t bytes, int *out_count)
{
    struct lend_rail_move *move = build->move;
    struct lend_verbs_sge *sges = build->sges[build->count];
    const int most = (int)build->rail->pieces_max;
    struct lend_rail_reach *here = &move->here;
    uint64_t done = 0;
    int used = 0;

    while (done < bytes && used < most && see(&move->ours, here)) {
        uint32_t lkey = 0;
        uint64_t count = least(find_ours(build, here, &lkey), bytes - done);

        if (count == 0)
            break;
        sges[used++] = (struct lend_verbs_sge){
            .addr = here->left.address, .length = (uint32_t)count, .lkey = lkey};
        step(here, count);
        done += count;
    }
    *out_count = used;
    return done;
}

/* The next work request: a piece of the peer's, and as many of ours as one may have. False: it
 * cannot be built. What a READ or WRITE does not need is left as it is: it is not looked at. */
static bool build_one(struct build *build, uint64_t max)
{
    struct lend_rail_move *move = build->move;
    struct lend_verbs_send *work = &build->work[build->count];
    struct lend_rail_reach *there = &move->there;

    if (!see(&move->theirs, there))
        return false;
    work->wr_id = build->id;
    work->next = work + 1;
    work->sg_list = build->sges[build->count];
    work->opcode = move->is_write ? LEND_VERBS_SEND_WRITE : LEND_VERBS_SEND_READ;
    work->send_flags = 0;
    work->wr.rdma.remote_addr = there->left.address;
    uint64_t bytes = find_theirs(build, there->extent, there->left.address,
                                 least(there->left.length_bytes, max), &work->wr.rdma.rkey);
    uint64_t done = bytes > 0 ? scatter(build, bytes, &work->num_sge) : 0;
    step(there, done);
    build->bytes += done;
    build->count++;
    return done > 0;
}

/* How many beacons are to be read behind the data. */
static uint32_t count_beacons(const struct lend_rail_move *move)
{
    return move->is_write ? (uint32_t)__builtin_popcount(move->gpus) : 0;
}

/* Behind WRITEs to GPUs, a read of each: it is answered when they are there. False: the owner has
 * not told where. */
static bool build_beacons(struct build *build)
{
    struct lend_verbs_rail *rail = build->rail;

    for (uint32_t gpu = 0; build->move->gpus >> gpu != 0; gpu++) {
        struct lend_verbs_sge *sge = build->sges[build->count];

        if ((build->move->gpus >> gpu & 1) == 0)
            continue;
        const struct lend_verbs_far *beacon = lend_verbs_rail_find(rail, lend_verbs_beacon_id(gpu));
        if (beacon == NULL || beacon->told.piece_count == 0)
            return false;
        const struct lend_verbs_piece *piece = &beacon->told.pieces[0];
        *sge =
            (struct lend_verbs_sge){.addr = (uint64_t)(uintptr_t)&rail->landing[LEND_VERBS_BATCHES],
                                    .length = (uint32_t)least(piece->bytes, sizeof(uint64_t)),
                                    .lkey = rail->landing_lkey};
        build->work[build->count] = (struct lend_verbs_send){
            .wr_id = build->id,
            .next = &build->work[build->count + 1],
            .sg_list = sge,
            .num_sge = 1,
            .opcode = LEND_VERBS_SEND_READ,
            .wr.rdma = {.remote_addr = piece->address, .rkey = piece->rkey}};
        build->count++;
    }
    return true;
}

/* The last of a batch: the lease's word, once all before it has been read or written: requests of a
 * queue pair are carried out in their order. */
static void build_word(struct lend_verbs_rail *rail, const struct lend_verbs_batch *batch,
                       struct lend_verbs_sge *sge, struct lend_verbs_send *out)
{
    uint64_t index = (uint64_t)(batch - rail->batches);

    rail->landing[index] = NO_WORD;
    *sge = (struct lend_verbs_sge){.addr = (uint64_t)(uintptr_t)&rail->landing[index],
                                   .length = sizeof(uint64_t),
                                   .lkey = rail->landing_lkey};
    *out = (struct lend_verbs_send){
        .wr_id = index,
        .sg_list = sge,
        .num_sge = 1,
        .opcode = LEND_VERBS_SEND_READ,
        .send_flags = LEND_VERBS_SIGNALED | (rail->fences_itself ? 0 : LEND_VERBS_FENCE),
        .wr.rdma = {.remote_addr =
                        rail->theirs.words_address + batch->move->slot * sizeof(uint64_t),
                    .rkey = rail->theirs.words_rkey},
    };
}

/* --- posting --- */

/* The queue pair that is next, if it has room for a batch; LEND_VERBS_LANES_MAX: none has. */
static uint32_t take_lane(struct lend_verbs_rail *rail, bool is_write)
{
    const uint32_t reads = rail->lane_count - 1;

    if (is_write)
        return rail->free_work[LEND_VERBS_WRITE_LANE] >= LEND_VERBS_BATCH_WORK
                   ? (uint32_t)LEND_VERBS_WRITE_LANE
                   : (uint32_t)LEND_VERBS_LANES_MAX;
    for (uint32_t i = 0; i < reads; i++) {
        uint32_t lane = 1 + (rail->next_lane + i) % reads;

        if (rail->free_work[lane] >= LEND_VERBS_BATCH_WORK) {
            rail->next_lane = lane % reads;
            return lane;
        }
    }
    return LEND_VERBS_LANES_MAX;
}

/* All of it with one doorbell. Only the last is told of, and all complete in order. */
static bool post(struct lend_verbs_rail *rail, struct build *build, struct lend_verbs_batch *batch)
{
    struct lend_verbs_send *bad = NULL;

    batch->move = build->move;
    batch->work_count = build->count + 1;
    batch->bytes = build->bytes;
    batch->phase = rail->fences_itself ? LEND_VERBS_BATCH_DATA : LEND_VERBS_BATCH_WORD;
    if (rail->fences_itself)
        build->work[build->count - 1].send_flags |= LEND_VERBS_SIGNALED;
    else
        build_word(rail, batch, build->sges[build->count], &build->work[build->count]);
    build->count += !rail->fences_itself;
    build->work[build->count - 1].next = NULL;
    lend_list_remove(&batch->link);
    lend_list_append(&build->move->flying, &batch->link);
    rail->free_work[batch->lane] -= batch->work_count;
    if (!lend_verbs_work_flies(rail))
        rail->heard_ns = lend_sys->now_ns();
    rail->flying_count++;
    build->move->posted_bytes += build->bytes;
    return lend_verbs_post_send(rail->pairs[batch->lane], build->work, &bad) == 0;
}

/* The next pump does what there is to do. */
static void refuse_work(struct lend_verbs_rail *rail)
{
    rail->state = LEND_VERBS_RAIL_BROKEN;
    (void)lend_fail(&rail->why, LEND_E_DEVICE, "%s took no more work", rail->place.nic->name);
}

/* The data of a batch has completed: now its word. */
static void ask_word(struct lend_verbs_rail *rail, struct lend_verbs_batch *batch)
{
    struct lend_verbs_send work, *bad = NULL;
    struct lend_verbs_sge sge;

    build_word(rail, batch, &sge, &work);
    batch->phase = LEND_VERBS_BATCH_WORD;
    if (lend_verbs_post_send(rail->pairs[batch->lane], &work, &bad) != 0)
        refuse_work(rail);
}

/* Begin the next batch of what has not all been begun. False: no room; or it has failed, as its
 * status then says, or the rail has. */
static bool begin_batch(struct lend_verbs_rail *rail, struct lend_rail_move *move)
{
    struct build build;
    uint32_t lane;

    if (lend_list_is_empty(&rail->free_batches) ||
        (lane = take_lane(rail, move->is_write)) == LEND_VERBS_LANES_MAX)
        return false;
    build.rail = rail; /* and no more of it: most is written before it is read */
    build.move = move;
    build.granted =
        move->is_write ? lend_verbs_granted_find(rail, move->slot, move->generation) : NULL;
    if (build.granted != NULL && build.granted->piece_count < build.granted->total)
        return false; /* its keys are being made */
    build.count = 0;
    build.bytes = 0;
    build.region = NULL;
    struct lend_verbs_batch *batch = batch_at(rail->free_batches.next);
    build.id = (uint64_t)(batch - rail->batches);
    uint64_t left = move->total_bytes - move->posted_bytes;
    uint64_t limit = left < LEND_VERBS_BATCH_BYTES ? left : LEND_VERBS_BATCH_BYTES;
    uint32_t message = rail->place.port.message_bytes_max;
    uint32_t beacons = count_beacons(move);
    bool is_built = beacons <= LEND_VERBS_BEACONS_MAX;

    batch->lane = lane;
    while (is_built && build.count < LEND_VERBS_BATCH_WORK - 1 - beacons && build.bytes < limit) {
        uint64_t rest = limit - build.bytes;

        is_built = build_one(&build, rest < message ? rest : message);
    }
    if (beacons > 0)
        is_built = is_built && build_beacons(&build);
    if (!is_built) {
        move->status = LEND_E_NO_PATH;
        return false;
    }
    if (post(rail, &build, batch))
        return true;
    refuse_work(rail);
    return false;
}

static uint32_t count_flying(const struct lend_rail_move *move)
{
    uint32_t count = 0;

    for (const struct lend_list *link = move->flying.next; link != &move->flying; link = link->next)
        count++;
    return count;
}

static bool wants_more(const struct lend_rail_move *move)
{
    return !move->is_ending && move->status == LEND_OK && move->posted_bytes < move->total_bytes &&
           count_flying(move) < LEND_VERBS_BATCHES_OF_ONE;
}

/* Each has a batch in its turn. */
static bool begin_more(struct lend_verbs_rail *rail)
{
    bool moved = false, goes_on = true;

    while (goes_on && rail->state == LEND_VERBS_RAIL_UP) {
        goes_on = false;
        for (struct lend_list *link = rail->moves.next; link != &rail->moves; link = link->next)
            if (wants_more(move_at(link)) && begin_batch(rail, move_at(link)))
                goes_on = moved = true;
    }
    return moved;
}

void lend_verbs_submit(struct lend_rail *base, struct lend_rail_move *move)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    lend_list_init(&move->link);
    lend_list_init(&move->flying);
    lend_list_append(&rail->moves, &move->link);
    if (move->slot >= rail->theirs.words_bytes / sizeof(uint64_t))
        move->status = LEND_E_UNKNOWN;
    if (rail->state == LEND_VERBS_RAIL_UP && wants_more(move))
        (void)begin_batch(rail, move);
}

bool lend_verbs_stop(struct lend_rail *base, struct lend_rail_move *move)
{
    (void)base;
    if (!lend_list_is_empty(&move->flying)) {
        move->is_ending = true;
        return false;
    }
    lend_list_remove(&move->link);
    return true;
}

/* --- completing --- */

static void free_batch(struct lend_verbs_rail *rail, struct lend_verbs_batch *batch)
{
    lend_list_remove(&batch->link);
    lend_list_append(&rail->free_batches, &batch->link);
    rail->flying_count--;
}

/* Its work requests are over, and so all before them on their queue pair: what does the word say?
 * Acquire: the NIC wrote it before the completion that we have seen. */
static void settle(struct lend_verbs_rail *rail, struct lend_verbs_batch *batch)
{
    struct lend_rail_move *move = batch->move;
    const volatile uint64_t *word = &rail->landing[batch - rail->batches];

    atomic_thread_fence(memory_order_acquire);
    rail->free_work[batch->lane] += batch->work_count;
    rail->failures = 0;
    batch->phase = LEND_VERBS_BATCH_DONE;
    batch->status = move->judge(*word, move->generation);

    /* In their order: so that what is proven is the beginning. */
    while (!lend_list_is_empty(&move->flying) &&
           batch_at(move->flying.next)->phase == LEND_VERBS_BATCH_DONE) {
        struct lend_verbs_batch *first = batch_at(move->flying.next);

        if (move->status == LEND_OK)
            move->status = first->status;
        if (move->status == LEND_OK)
            move->proven_bytes += first->bytes;
        free_batch(rail, first);
    }
}

static void advance(struct lend_verbs_rail *rail, struct lend_verbs_batch *batch)
{
    if (batch->phase == LEND_VERBS_BATCH_DATA)
        ask_word(rail, batch);
    else if (batch->phase == LEND_VERBS_BATCH_WORD)
        settle(rail, batch);
}

/* Tell of those that are over. */
static bool end_moves(struct lend_verbs_rail *rail)
{
    bool moved = false;

    for (struct lend_list *link = rail->moves.next, *next; link != &rail->moves; link = next) {
        struct lend_rail_move *move = move_at(link);

        next = link->next;
        if (!lend_list_is_empty(&move->flying) ||
            (move->status == LEND_OK && !move->is_ending && move->proven_bytes < move->total_bytes))
            continue;
        if (move->status == LEND_OK && move->proven_bytes < move->total_bytes)
            move->status = LEND_E_CANCELED;
        lend_list_remove(&move->link);
        move->done(move);
        next = rail->moves.next; /* which may have changed the list */
        moved = true;
    }
    return moved;
}

/* What a failed completion says of the rail. That which is flushed was behind another. */
static enum lend_status cause_of(int status)
{
    switch (status) {
    case LEND_VERBS_WC_RETRY_EXCEEDED:
    case LEND_VERBS_WC_RNR_RETRY_EXCEEDED:
    case LEND_VERBS_WC_RESPONSE_TIMEOUT: return LEND_E_PEER_DEAD;
    case LEND_VERBS_WC_LOCAL_LENGTH:
    case LEND_VERBS_WC_LOCAL_QP_OPERATION:
    case LEND_VERBS_WC_LOCAL_PROTECTION:
    case LEND_VERBS_WC_LOCAL_ACCESS:
    case LEND_VERBS_WC_FATAL:
    case LEND_VERBS_WC_GENERAL: return LEND_E_DEVICE;
    default: return LEND_E_NO_PATH;
    }
}

static void fail_by(struct lend_verbs_rail *rail, int status)
{
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_NO_PATH, "%s: %s", rail->place.nic->name,
                    lend_verbs_wc_name(status));
    why.device_code = status;
    lend_verbs_rail_break(rail, cause_of(status), status, &why);
}

/* True if anything had completed; the rail may be broken then. */
static bool hear(struct lend_verbs_rail *rail)
{
    struct lend_verbs_completion completions[POLLED_MAX];
    int count = lend_verbs_poll(rail->cq, POLLED_MAX, completions);

    if (count < 0) {
        fail_by(rail, LEND_VERBS_WC_FATAL);
        return true;
    }
    for (int i = 0; i < count; i++) {
        const struct lend_verbs_completion *completion = &completions[i];

        if (completion->status != LEND_VERBS_WC_SUCCESS) {
            fail_by(rail, completion->status);
            return true;
        }
        if (completion->wr_id < LEND_VERBS_BATCHES)
            advance(rail, &rail->batches[completion->wr_id]);
        else
            lend_verbs_notes_sent(rail);
    }
    if (count > 0) {
        rail->heard_ns = lend_sys->now_ns();
        rail->arming = LEND_VERBS_UNARMED;
    } else if (rail->arming == LEND_VERBS_ARMED) {
        rail->arming = LEND_VERBS_ARMED_LOOKED;
    }
    return count > 0;
}

bool lend_verbs_work_flies(const struct lend_verbs_rail *rail)
{
    return rail->flying_count > 0 || lend_verbs_notes_fly(rail);
}

/* Work that neither completes nor fails: a NIC tells of a peer that is silent before that. */
static bool is_silent(const struct lend_verbs_rail *rail)
{
    return lend_verbs_work_flies(rail) && lend_sys->now_ns() - rail->heard_ns > SILENCE_NS;
}

static void fail_silent(struct lend_verbs_rail *rail)
{
    struct lend_error why;

    (void)lend_fail(&why, LEND_E_NO_PATH, "%s completed nothing for %llu ms", rail->place.nic->name,
                    (unsigned long long)(SILENCE_NS / 1000000));
    lend_verbs_rail_break(rail, LEND_E_NO_PATH, 0, &why);
}

bool lend_verbs_pump(struct lend_rail *base)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    bool moved = false;

    if (!rail->is_client) {
        moved = lend_verbs_notes_hear(rail);
        return lend_verbs_keys_pump(rail) || moved;
    }
    if (lend_verbs_rail_heed(rail))
        return true;
    if (rail->state == LEND_VERBS_RAIL_BROKEN && !lend_list_is_empty(&rail->moves)) {
        const struct lend_error why = rail->why;

        lend_verbs_rail_break(rail, LEND_E_NO_PATH, 0, &why);
        return true;
    }
    if (rail->state == LEND_VERBS_RAIL_UP && lend_verbs_work_flies(rail))
        moved = hear(rail);
    if (rail->state == LEND_VERBS_RAIL_UP && !moved && is_silent(rail))
        fail_silent(rail);
    moved |= end_moves(rail);
    if (rail->state == LEND_VERBS_RAIL_UP)
        moved |= begin_more(rail);
    return moved;
}

bool lend_verbs_sleep(struct lend_rail *base)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    const bool waits = rail->is_client ? lend_verbs_work_flies(rail)
                                       : lend_verbs_notes_cq(rail, LEND_VERBS_NOTE_LANE) != NULL;

    if (rail->state != LEND_VERBS_RAIL_UP || !waits)
        return true;
    /* What completed before it was armed is not told: the next pump looks. */
    lend_verbs_rail_arm(rail);
    /* An owner whose NIC tells of no completions any more is woken by what else that tells. */
    return rail->arming == LEND_VERBS_ARMED_LOOKED ||
           (!rail->is_client && rail->arming == LEND_VERBS_UNARMED);
}

uint64_t lend_verbs_due(struct lend_rail *base)
{
    const struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    return lend_verbs_work_flies(rail) ? rail->heard_ns + SILENCE_NS + 1 : UINT64_MAX;
}

void lend_verbs_work_end(struct lend_verbs_rail *rail, enum lend_status status, int32_t code)
{
    for (uint32_t i = 0; i < LEND_VERBS_LANES_MAX; i++)
        rail->free_work[i] = LEND_VERBS_QUEUE_WORK;
    for (struct lend_list *link; (link = lend_list_take_first(&rail->moves)) != NULL;) {
        struct lend_rail_move *move = move_at(link);

        while (!lend_list_is_empty(&move->flying))
            free_batch(rail, batch_at(move->flying.next));
        if (move->status == LEND_OK) {
            move->status = status;
            move->code = code;
        }
        move->done(move);
    }
    assert(rail->flying_count == 0);
}
