/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stage.h"

#include "base/copy.h"
#include "base/error.h"
#include "base/sys.h"
#include "core/agent.h"
#include "core/lease.h"
#include "core/session.h"

#include <assert.h>
#include <string.h>

enum { PIECES_MAX = 256 }; /* calls of the driver for one copy */

#define LOOK_AGAIN_NS UINT64_C(2000)

static void *pointer_to(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static int32_t state_of(const struct lend_cell *cell)
{
    return atomic_load_explicit(&cell->state, memory_order_acquire);
}

static void set_state(struct lend_cell *cell, enum lend_cell_state state)
{
    atomic_store_explicit(&cell->state, (int32_t)state, memory_order_release);
}

static void poll_locked(struct lend_stage *stage);

/* --- life --- */

enum lend_status lend_stage_open(struct lend_session *session, const struct lend_lane *lane,
                                 struct lend_error *error)
{
    session->channel->wants_copies = true; /* a cell has no time to wait for who reads from it */
    if (session->stage != NULL)
        return LEND_OK;

    struct lend_stage *stage = lend_sys->allocate(sizeof *stage);
    if (stage == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a stage");
    stage->agent = session->agent;
    stage->lane = lane;
    enum lend_status status =
        lend_lane_pin(lane, (size_t)LEND_CELLS * LEND_CELL_BYTES, &stage->pinned, error);
    if (status != LEND_OK) {
        lend_sys->release(stage);
        return status;
    }
    for (uint32_t i = 0; i < LEND_CELLS; i++)
        stage->cells[i].bytes = (uint8_t *)stage->pinned + (size_t)i * LEND_CELL_BYTES;
    (void)pthread_mutex_lock(&stage->agent->stage_lock);
    lend_list_append(&stage->agent->stages, &stage->link);
    (void)pthread_mutex_unlock(&stage->agent->stage_lock);
    session->stage = stage;
    return LEND_OK;
}

bool lend_stage_halt(struct lend_stage *stage)
{
    uint64_t until = lend_deadline(lend_sys->now_ns(), LEND_SETTLE_NS);

    while (lend_stage_is_flying(stage, NULL)) {
        lend_stage_poll(stage);
        if (!lend_stage_is_flying(stage, NULL))
            break;
        if (lend_sys->now_ns() >= until)
            return false;
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
    }
    return true;
}

/* The driver's things are given back, but for memory that a GPU may still write to. */
static void free_stage(struct lend_stage *stage)
{
    bool is_quiet = !lend_stage_is_flying(stage, NULL);

    for (uint32_t i = 0; is_quiet && i < LEND_CELLS; i++)
        lend_lane_drop_mark(&stage->cells[i].mark);
    if (is_quiet)
        lend_lane_unpin(stage->lane, stage->pinned);
    lend_sys->release(stage);
}

void lend_stage_destroy(struct lend_stage *stage, bool forked)
{
    if (stage == NULL || forked) {
        lend_sys->release(stage);
        return;
    }
    (void)pthread_mutex_lock(&stage->agent->stage_lock);
    poll_locked(stage);
    bool is_quiet = !lend_stage_is_flying(stage, NULL);
    if (is_quiet)
        lend_list_remove(&stage->link);
    (void)pthread_mutex_unlock(&stage->agent->stage_lock);
    if (is_quiet)
        free_stage(stage);
}

void lend_stages_fini(struct lend_agent *agent, bool forked)
{
    for (struct lend_list *link;
         !forked && (link = lend_list_take_first(&agent->stages)) != NULL;) {
        struct lend_stage *stage = LEND_LIST_OWNER(link, struct lend_stage, link);

        poll_locked(stage);
        free_stage(stage);
    }
}

/* --- cells --- */

struct lend_cell *lend_stage_first(struct lend_stage *stage, const void *owner)
{
    struct lend_cell *first = NULL;

    for (uint32_t i = 0; i < LEND_CELLS; i++) {
        struct lend_cell *cell = &stage->cells[i];

        if (state_of(cell) != LEND_CELL_FREE && cell->owner == owner &&
            (first == NULL || cell->sequence < first->sequence))
            first = cell;
    }
    return first;
}

struct lend_cell *lend_stage_take(struct lend_stage *stage, const void *owner, bool is_to_memory)
{
    uint32_t first = is_to_memory ? 0 : LEND_CELLS_TO_MEMORY;
    uint32_t end = is_to_memory ? LEND_CELLS_TO_MEMORY : LEND_CELLS;
    struct lend_cell *cell = NULL;
    uint32_t free_count = 0;

    for (uint32_t i = first; i < end; i++)
        if (state_of(&stage->cells[i]) == LEND_CELL_FREE) {
            cell = &stage->cells[i];
            free_count++;
        }
    /* The last is for one that has none yet. */
    if (free_count == 0 || (free_count == 1 && lend_stage_first(stage, owner) != NULL))
        return NULL;
    cell->owner = owner;
    cell->sequence = ++stage->sequence_last;
    cell->count = 0;
    cell->sent = 0;
    cell->is_judged = false;
    cell->error.status = LEND_OK;
    cell->verdict = LEND_OK;
    cell->lease = NULL;
    cell->buffer_count = 0;
    cell->extent = lend_extent_of_bytes((uint64_t)(uintptr_t)cell->bytes, LEND_CELL_BYTES);
    cell->run = (struct lend_run){.first = 0, .count = 1};
    lend_cursor_init(&cell->cursor, &cell->extent, 1, &cell->run, 1);
    set_state(cell, LEND_CELL_HELD);
    return cell;
}

void lend_cell_free(struct lend_cell *cell)
{
    LEND_INVARIANT(state_of(cell) != LEND_CELL_FLYING);
    cell->owner = NULL;
    set_state(cell, LEND_CELL_FREE);
}

void lend_stage_drop(struct lend_stage *stage, const void *owner)
{
    for (uint32_t i = 0; stage != NULL && i < LEND_CELLS; i++) {
        struct lend_cell *cell = &stage->cells[i];
        int32_t state = state_of(cell);

        if (cell->owner == owner && state != LEND_CELL_FREE && state != LEND_CELL_FLYING)
            lend_cell_free(cell);
    }
}

bool lend_stage_is_flying(const struct lend_stage *stage, const void *owner)
{
    for (uint32_t i = 0; stage != NULL && i < LEND_CELLS; i++)
        if (state_of(&stage->cells[i]) == LEND_CELL_FLYING &&
            (owner == NULL || stage->cells[i].owner == owner))
            return true;
    return false;
}

bool lend_stage_is_landing(const struct lend_stage *stage)
{
    for (uint32_t i = 0; stage != NULL && i < LEND_CELLS; i++)
        if (stage->cells[i].is_to_memory && state_of(&stage->cells[i]) == LEND_CELL_FLYING)
            return true;
    return false;
}

/* --- copying --- */

/* What one copy is made of. */
struct flight {
    struct lend_cell *cell; /* NULL: only how far it goes is asked */
    bool is_to_memory;
    uint64_t bytes;
    struct lend_lane *lane;
    uint32_t buffer_count;
    uint64_t ids[LEND_CELL_BUFFERS];
    uint32_t count;
    struct lend_lane_piece pieces[PIECES_MAX];
};

/* Note the allocation that lies at the address. False: there are too many. */
static bool note_buffer(struct flight *flight, uint64_t address, uint64_t id)
{
    for (uint32_t i = 0; i < flight->buffer_count; i++)
        if (flight->ids[i] == id)
            return true;
    if (flight->buffer_count == LEND_CELL_BUFFERS)
        return false;
    if (flight->cell != NULL) {
        flight->cell->buffers[flight->buffer_count].address = address;
        flight->cell->buffers[flight->buffer_count].id = id;
        flight->cell->buffer_count = flight->buffer_count + 1;
    }
    flight->ids[flight->buffer_count++] = id;
    return true;
}

/* A piece of device memory. False: not in this flight any more. */
static bool add_device(struct flight *flight, const struct lend_device_memory *device,
                       const struct lend_segment *segment)
{
    if ((flight->lane != NULL && flight->lane != device->lane) || flight->count == PIECES_MAX ||
        !note_buffer(flight, segment->address, lend_device_buffer_at(device, segment->address)->id))
        return false;
    flight->lane = device->lane;
    if (flight->cell != NULL)
        flight->pieces[flight->count] = (struct lend_lane_piece){
            .device = segment->address,
            .host = flight->cell->bytes + flight->bytes,
            .bytes = segment->length_bytes,
            .is_to_device = flight->is_to_memory,
        };
    flight->count++;
    return true;
}

static void copy_host(const struct flight *flight, const struct lend_segment *segment)
{
    uint8_t *ours = flight->cell->bytes + flight->bytes;

    if (flight->is_to_memory)
        memcpy(pointer_to(segment->address), ours, segment->length_bytes);
    else
        lend_copy_racing(ours, pointer_to(segment->address), segment->length_bytes);
}

/* The next contiguous bytes of the present extent. */
static bool next_of_extent(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out)
{
    uint64_t extent_count = cursor->extent_count;

    cursor->extent_count = cursor->extent + 1;
    bool found = lend_cursor_next(cursor, max, out);
    cursor->extent_count = extent_count;
    return found;
}

/* The next piece of the stream: of one extent alone, and of a GPU's of one allocation, as no copy
 * need go from one into the next that touches it. */
static bool next_piece(struct lend_cursor *cursor, uint64_t max, struct lend_segment *out)
{
    struct lend_cursor ahead = *cursor;

    if (cursor->extent == cursor->extent_count)
        return false;

    const struct lend_device_memory *device = cursor->extents[cursor->extent].device;
    if (device != NULL && next_of_extent(&ahead, 1, out)) {
        uint64_t left = lend_device_buffer_at(device, out->address)->end - out->address;

        max = max < left ? max : left;
    }
    return next_of_extent(cursor, max, out);
}

/* Go over the next bytes of the stream, at most max, as far as one flight can. */
static void walk(struct flight *flight, struct lend_cursor *cursor, uint64_t max)
{
    while (flight->bytes < max) {
        const struct lend_cursor before = *cursor;
        struct lend_segment segment;

        if (!next_piece(cursor, max - flight->bytes, &segment))
            return;

        const struct lend_device_memory *device = before.extents[before.extent].device;
        if (device != NULL && !add_device(flight, device, &segment)) {
            *cursor = before;
            return;
        }
        if (device == NULL && flight->cell != NULL)
            copy_host(flight, &segment);
        flight->bytes += segment.length_bytes;
    }
}

uint64_t lend_stage_reach(const struct lend_cursor *cursor, uint64_t max)
{
    struct lend_cursor ahead = *cursor;
    struct flight flight;

    flight.cell = NULL;
    flight.bytes = 0;
    flight.lane = NULL;
    flight.buffer_count = 0;
    flight.count = 0;
    walk(&flight, &ahead, max < LEND_CELL_BYTES ? max : LEND_CELL_BYTES);
    return flight.bytes;
}

/* Is all that it touches what it was when it was registered? */
static enum lend_status check_buffers(struct lend_cell *cell)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < cell->buffer_count; i++)
        status = lend_device_check(cell->buffers[i].address, cell->buffers[i].id, &cell->error);
    return status;
}

/* The copy is over. Under the stage's lock, or before anybody else knows of it. */
static void land(struct lend_cell *cell)
{
    if (cell->lease != NULL && cell->is_to_memory)
        (void)lend_lease_leave(cell->lease); /* what landed, landed while it was live */
    else if (cell->lease != NULL)
        cell->verdict = lend_lease_end_move(cell->lease);
    cell->lease = NULL;
    set_state(cell, LEND_CELL_LANDED);
}

/* Of bytes that go to a GPU, nothing is written where the memory is another one by now. */
static void start(struct lend_stage *stage, struct lend_cell *cell, struct flight *flight)
{
    enum lend_status status = check_buffers(cell);

    if (status == LEND_OK && flight->count > 0) {
        status =
            lend_lane_put(flight->lane, flight->pieces, flight->count, &cell->mark, &cell->error);
        if (cell->mark.lane != NULL) { /* some of it is under way, whatever the status */
            (void)pthread_mutex_lock(&stage->agent->stage_lock);
            set_state(cell, LEND_CELL_FLYING);
            (void)pthread_mutex_unlock(&stage->agent->stage_lock);
            return;
        }
    }
    land(cell);
}

void lend_cell_fill(struct lend_stage *stage, struct lend_cell *cell, struct lend_cursor *from,
                    uint64_t count, struct lend_lease *lease)
{
    struct flight flight;

    flight.cell = cell;
    flight.is_to_memory = cell->is_to_memory = false;
    flight.bytes = 0;
    flight.lane = NULL;
    flight.buffer_count = 0;
    flight.count = 0;
    walk(&flight, from, count);
    cell->count = flight.bytes;
    cell->lease = lease;
    if (lease != NULL)
        lend_lease_begin_move(lease);
    start(stage, cell, &flight);
    if (lease != NULL)
        (void)lend_lease_leave(lease); /* the verdict comes when it has landed */
}

void lend_cell_spill(struct lend_stage *stage, struct lend_cell *cell, struct lend_cursor *to,
                     uint64_t count, struct lend_lease *lease)
{
    struct flight flight;

    flight.cell = cell;
    flight.is_to_memory = cell->is_to_memory = true;
    flight.bytes = 0;
    flight.lane = NULL;
    flight.buffer_count = 0;
    flight.count = 0;
    walk(&flight, to, count);
    LEND_INVARIANT(flight.bytes == count);
    cell->count = count;
    cell->lease = lease;
    start(stage, cell, &flight);
}

uint64_t lend_stage_zero(struct lend_cursor *cursor, uint64_t max, struct lend_lane_mark *mark)
{
    struct lend_lane_piece pieces[PIECES_MAX];
    struct lend_lane *lane = NULL;
    uint64_t done = 0;
    uint32_t count = 0;

    while (done < max && count < PIECES_MAX) {
        const struct lend_cursor before = *cursor;
        struct lend_segment segment;

        if (!next_piece(cursor, max - done, &segment))
            break;

        const struct lend_device_memory *device = before.extents[before.extent].device;
        if (device != NULL && lane != NULL && device->lane != lane) {
            *cursor = before;
            break;
        }
        if (device == NULL) {
            memset(pointer_to(segment.address), 0, segment.length_bytes);
        } else if (lend_device_check(segment.address,
                                     lend_device_buffer_at(device, segment.address)->id,
                                     NULL) == LEND_OK) {
            lane = device->lane;
            pieces[count++] =
                (struct lend_lane_piece){.device = segment.address, .bytes = segment.length_bytes};
        }
        done += segment.length_bytes;
    }
    if (count > 0)
        (void)lend_lane_put(lane, pieces, count, mark, NULL);
    return done;
}

enum lend_status lend_cell_judge(struct lend_cell *cell)
{
    assert(lend_cell_has_landed(cell));
    if (cell->is_judged)
        return LEND_OK;
    if (cell->error.status == LEND_OK)
        (void)check_buffers(cell);
    cell->is_judged = cell->error.status == LEND_OK;
    return (enum lend_status)cell->error.status;
}

void lend_cell_send(struct lend_cell *cell, struct lend_session *session, uint64_t request,
                    size_t count)
{
    /* A transport that moves by itself would still read the cell when it is another's. */
    if (session->channel->ops->halt != NULL)
        lend_session_send_copy(session, request, cell->bytes + cell->sent, count);
    else
        lend_session_send_data(session, request, &cell->cursor, count);
    cell->sent += count;
    if (cell->sent == cell->count)
        lend_cell_free(cell);
}

/* --- looking --- */

static void poll_locked(struct lend_stage *stage)
{
    for (uint32_t i = 0; i < LEND_CELLS; i++) {
        struct lend_cell *cell = &stage->cells[i];
        struct lend_error why;

        if (state_of(cell) != LEND_CELL_FLYING)
            continue;
        enum lend_status status = lend_lane_ask(&cell->mark, &why);
        if (status == LEND_PENDING)
            continue;
        if (status != LEND_OK && cell->error.status == LEND_OK)
            cell->error = why;
        land(cell);
    }
}

void lend_stage_poll(struct lend_stage *stage)
{
    (void)pthread_mutex_lock(&stage->agent->stage_lock);
    poll_locked(stage);
    (void)pthread_mutex_unlock(&stage->agent->stage_lock);
}

void lend_stages_poll(struct lend_agent *agent)
{
    (void)pthread_mutex_lock(&agent->stage_lock);
    for (struct lend_list *link = agent->stages.next; link != &agent->stages; link = link->next)
        poll_locked(LEND_LIST_OWNER(link, struct lend_stage, link));
    (void)pthread_mutex_unlock(&agent->stage_lock);
}
