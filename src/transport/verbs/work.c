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
    lend_list_init(&rail->reads);
    lend_list_init(&rail->free_batches);
    for (uint32_t i = 0; i < LEND_VERBS_BATCHES; i++)
        lend_list_append(&rail->free_batches, &rail->batches[i].link);
    for (uint32_t i = 0; i < LEND_VERBS_LANES; i++)
        rail->free_work[i] = LEND_VERBS_QUEUE_WORK;
}

static struct lend_rail_read *read_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_rail_read, link);
}

static struct lend_verbs_batch *batch_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_verbs_batch, link);
}

/* --- building --- */

/* Work requests as they are built. */
struct build {
    struct lend_verbs_rail *rail;
    struct lend_rail_read *read;
    struct lend_verbs_send work[LEND_VERBS_BATCH_WORK];
    struct lend_verbs_sge sges[LEND_VERBS_BATCH_WORK][LEND_VERBS_SGES_MAX];
    uint32_t count;
    uint64_t bytes;
};

/* Where the peer's NIC finds an address, and for how many bytes; 0: nowhere. */
static uint64_t find_theirs(const struct lend_verbs_far *far, uint64_t address, uint64_t bytes,
                            uint32_t *out_rkey)
{
    for (uint32_t i = 0; i < far->told.piece_count; i++) {
        const struct lend_verbs_piece *piece = &far->told.pieces[i];
        uint64_t into = address - piece->address;

        if (address < piece->address || into >= piece->bytes)
            continue;
        *out_rkey = piece->rkey;
        return bytes < piece->bytes - into ? bytes : piece->bytes - into;
    }
    return 0;
}

/* Our pieces of one work request, at most `bytes` of them: how many bytes they are. 0: our NIC has
 * them not. */
static uint64_t scatter(struct build *build, uint64_t bytes)
{
    struct lend_verbs_rail *rail = build->rail;
    struct lend_rail_read *read = build->read;
    struct lend_verbs_send *work = &build->work[build->count];
    struct lend_verbs_sge *sges = build->sges[build->count];
    uint64_t done = 0, extent;

    while (done < bytes && (uint32_t)work->num_sge < rail->pieces_max) {
        struct lend_cursor before = read->to;
        struct lend_segment segment;
        struct lend_verbs_keys keys;

        if (!lend_cursor_next_of_extent(&read->to, bytes - done, &segment, &extent))
            break;
        if (!lend_verbs_region_keys(read->ends[extent].ours, rail->nic, segment.address,
                                    segment.length_bytes, &keys)) {
            read->to = before;
            break;
        }
        if (keys.bytes < segment.length_bytes) {
            read->to = before;
            lend_cursor_skip(&read->to, keys.bytes);
        }
        sges[work->num_sge++] = (struct lend_verbs_sge){
            .addr = keys.address, .length = (uint32_t)keys.bytes, .lkey = keys.lkey};
        done += keys.bytes;
    }
    return done;
}

/* The next work request of a READ: a piece of the peer's, into as many of ours as one may have.
 * False: it cannot be built. */
static bool build_one(struct build *build, uint64_t max)
{
    struct lend_rail_read *read = build->read;
    struct lend_verbs_send *work = &build->work[build->count];
    struct lend_cursor before = read->from;
    struct lend_segment segment;
    uint64_t extent;
    uint32_t rkey = 0;

    if (!lend_cursor_next_of_extent(&read->from, max, &segment, &extent))
        return false;
    uint64_t bytes =
        find_theirs(read->ends[extent].theirs, segment.address, segment.length_bytes, &rkey);
    *work = (struct lend_verbs_send){
        .sg_list = build->sges[build->count],
        .opcode = LEND_VERBS_SEND_READ,
        .wr.rdma = {.remote_addr = segment.address, .rkey = rkey},
    };
    uint64_t done = bytes > 0 ? scatter(build, bytes) : 0;
    if (done == 0) {
        read->from = before;
        return false;
    }
    if (done < segment.length_bytes) {
        read->from = before;
        lend_cursor_skip(&read->from, done);
    }
    build->bytes += done;
    build->count++;
    return true;
}

/* The last of a batch: the lease's word, once all before it has been read. */
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
                        rail->theirs.words_address + batch->read->slot * sizeof(uint64_t),
                    .rkey = rail->theirs.words_rkey},
    };
}

/* --- posting --- */

/* The queue pair that is next, if it has room for a batch; LEND_VERBS_LANES: none has. */
static uint32_t take_lane(struct lend_verbs_rail *rail)
{
    for (uint32_t i = 0; i < LEND_VERBS_WRITE_LANE; i++) {
        uint32_t lane = (rail->next_lane + i) % LEND_VERBS_WRITE_LANE;

        if (rail->free_work[lane] >= LEND_VERBS_BATCH_WORK) {
            rail->next_lane = (lane + 1) % LEND_VERBS_WRITE_LANE;
            return lane;
        }
    }
    return LEND_VERBS_LANES;
}

/* All of it with one doorbell. Only the last is told of, and all complete in order. */
static bool post(struct lend_verbs_rail *rail, struct build *build, struct lend_verbs_batch *batch)
{
    struct lend_verbs_send *bad = NULL;

    batch->read = build->read;
    batch->work_count = build->count + 1;
    batch->bytes = build->bytes;
    batch->phase = rail->fences_itself ? LEND_VERBS_BATCH_DATA : LEND_VERBS_BATCH_WORD;
    if (rail->fences_itself)
        build->work[build->count - 1].send_flags |= LEND_VERBS_SIGNALED;
    else
        build_word(rail, batch, build->sges[build->count], &build->work[build->count]);
    build->count += !rail->fences_itself;
    for (uint32_t i = 0; i < build->count; i++) {
        build->work[i].wr_id = (uint64_t)(batch - rail->batches);
        build->work[i].next = i + 1 < build->count ? &build->work[i + 1] : NULL;
    }
    lend_list_remove(&batch->link);
    lend_list_append(&build->read->flying, &batch->link);
    rail->free_work[batch->lane] -= batch->work_count;
    if (rail->flying_count++ == 0)
        rail->heard_ns = lend_sys->now_ns();
    build->read->posted_bytes += build->bytes;
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

/* Begin the next batch of a READ, which has not all been begun. False: no room; or it has failed,
 * as the READ's status then says, or the rail has. */
static bool begin_batch(struct lend_verbs_rail *rail, struct lend_rail_read *read)
{
    struct build build = {.rail = rail, .read = read};
    uint32_t lane;

    if (lend_list_is_empty(&rail->free_batches) || (lane = take_lane(rail)) == LEND_VERBS_LANES)
        return false;
    struct lend_verbs_batch *batch = batch_at(rail->free_batches.next);
    uint64_t left = read->total_bytes - read->posted_bytes;
    uint64_t limit = left < LEND_VERBS_BATCH_BYTES ? left : LEND_VERBS_BATCH_BYTES;
    uint32_t message = rail->place.port->message_bytes_max;
    bool is_built = true;

    batch->lane = lane;
    while (is_built && build.count < LEND_VERBS_BATCH_WORK - 1 && build.bytes < limit) {
        uint64_t rest = limit - build.bytes;

        is_built = build_one(&build, rest < message ? rest : message);
    }
    if (!is_built) {
        read->status = LEND_E_NO_PATH;
        return false;
    }
    if (post(rail, &build, batch))
        return true;
    refuse_work(rail);
    return false;
}

static uint32_t count_flying(const struct lend_rail_read *read)
{
    uint32_t count = 0;

    for (const struct lend_list *link = read->flying.next; link != &read->flying; link = link->next)
        count++;
    return count;
}

static bool wants_more(const struct lend_rail_read *read)
{
    return !read->is_ending && read->status == LEND_OK && read->posted_bytes < read->total_bytes &&
           count_flying(read) < LEND_VERBS_BATCHES_OF_ONE;
}

/* READs have a batch each in their turn. */
static bool begin_more(struct lend_verbs_rail *rail)
{
    bool moved = false, goes_on = true;

    while (goes_on && rail->state == LEND_VERBS_RAIL_UP) {
        goes_on = false;
        for (struct lend_list *link = rail->reads.next; link != &rail->reads; link = link->next)
            if (wants_more(read_at(link)) && begin_batch(rail, read_at(link)))
                goes_on = moved = true;
    }
    return moved;
}

void lend_verbs_submit(struct lend_rail *base, struct lend_rail_read *read)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);

    lend_list_init(&read->link);
    lend_list_init(&read->flying);
    lend_list_append(&rail->reads, &read->link);
    if (read->slot >= rail->theirs.words_bytes / sizeof(uint64_t))
        read->status = LEND_E_UNKNOWN;
    if (rail->state == LEND_VERBS_RAIL_UP && wants_more(read))
        (void)begin_batch(rail, read);
}

bool lend_verbs_stop(struct lend_rail *base, struct lend_rail_read *read)
{
    (void)base;
    if (!lend_list_is_empty(&read->flying)) {
        read->is_ending = true;
        return false;
    }
    lend_list_remove(&read->link);
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
    struct lend_rail_read *read = batch->read;
    const volatile uint64_t *word = &rail->landing[batch - rail->batches];

    atomic_thread_fence(memory_order_acquire);
    rail->free_work[batch->lane] += batch->work_count;
    rail->failures = 0;
    batch->phase = LEND_VERBS_BATCH_DONE;
    batch->status = read->judge(*word, read->generation);

    /* In their order: so that what is proven is the beginning. */
    while (!lend_list_is_empty(&read->flying) &&
           batch_at(read->flying.next)->phase == LEND_VERBS_BATCH_DONE) {
        struct lend_verbs_batch *first = batch_at(read->flying.next);

        if (read->status == LEND_OK)
            read->status = first->status;
        if (read->status == LEND_OK)
            read->proven_bytes += first->bytes;
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
static bool end_reads(struct lend_verbs_rail *rail)
{
    bool moved = false;

    for (struct lend_list *link = rail->reads.next, *next; link != &rail->reads; link = next) {
        struct lend_rail_read *read = read_at(link);

        next = link->next;
        if (!lend_list_is_empty(&read->flying) ||
            (read->status == LEND_OK && !read->is_ending && read->proven_bytes < read->total_bytes))
            continue;
        if (read->status == LEND_OK && read->proven_bytes < read->total_bytes)
            read->status = LEND_E_CANCELED;
        lend_list_remove(&read->link);
        read->done(read);
        next = rail->reads.next; /* which may have changed the list */
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
    }
    if (count > 0)
        rail->heard_ns = lend_sys->now_ns();
    return count > 0;
}

/* Work that neither completes nor fails: a NIC tells of a peer that is silent before that. */
static bool is_silent(const struct lend_verbs_rail *rail)
{
    return rail->flying_count > 0 && lend_sys->now_ns() - rail->heard_ns > SILENCE_NS;
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

    if (!rail->is_client)
        return false;
    if (rail->state == LEND_VERBS_RAIL_BROKEN && !lend_list_is_empty(&rail->reads)) {
        const struct lend_error why = rail->why;

        lend_verbs_rail_break(rail, LEND_E_NO_PATH, 0, &why);
        return true;
    }
    if (rail->state == LEND_VERBS_RAIL_UP && rail->flying_count > 0)
        moved = hear(rail);
    if (rail->state == LEND_VERBS_RAIL_UP && !moved && is_silent(rail))
        fail_silent(rail);
    moved |= end_reads(rail);
    if (rail->state == LEND_VERBS_RAIL_UP)
        moved |= begin_more(rail);
    return moved || rail->flying_count > 0;
}

void lend_verbs_work_end(struct lend_verbs_rail *rail, enum lend_status status, int32_t code)
{
    for (uint32_t i = 0; i < LEND_VERBS_LANES; i++)
        rail->free_work[i] = LEND_VERBS_QUEUE_WORK;
    for (struct lend_list *link; (link = lend_list_take_first(&rail->reads)) != NULL;) {
        struct lend_rail_read *read = read_at(link);

        while (!lend_list_is_empty(&read->flying))
            free_batch(rail, batch_at(read->flying.next));
        if (read->status == LEND_OK) {
            read->status = status;
            read->code = code;
        }
        read->done(read);
    }
    assert(rail->flying_count == 0);
}
