/* SPDX-License-Identifier: Apache-2.0 */
#include "core/opened.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/agent.h"
#include "core/client.h"
#include "core/lease.h"
#include "core/peer.h"
#include "core/remote.h"
#include "memory/mapped.h"

#include <string.h>

enum { PIECES_MAX = LEND_KERNEL_PIECES_MAX, BUFFERS_MAX = 8 }; /* of one copy */

#define COPY_BYTES_MAX (UINT64_C(64) << 20)
#define LOOK_AGAIN_NS  UINT64_C(2000)

/* An allocation of the peer's. */
struct lend_opened {
    struct lend_list link; /* in lend_onesided::opened */
    uint32_t file;
    const struct lend_lane *lane;
    struct lend_mapped *mapped; /* which takes its time */
    bool is_open;
    uint32_t flying; /* copies from it */
};

static struct lend_opened *opened_of(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_opened, link);
}

static const struct lend_transport_ops *ops_of(const struct lend_onesided *own)
{
    return own->session->channel->ops;
}

/* What the owner says of it, as far as all of these have it in common; copied, as it may change as
 * we look. False: it says nothing, and why. */
static bool read_head(struct lend_onesided *own, uint32_t file, struct lend_device_share *out,
                      struct lend_error *why)
{
    uint64_t bytes = 0;
    const uint8_t *told = ops_of(own)->mapped(own->session->channel, file, &bytes, why);

    if (told == NULL)
        return false;
    if (bytes < sizeof *out) {
        (void)lend_fail(why, LEND_E_NO_PATH, "the peer tells of its GPU memory in %llu bytes",
                        (unsigned long long)bytes);
        return false;
    }
    memcpy(out, told, sizeof *out);
    return true;
}

enum lend_status lend_opened_judge(struct lend_onesided *own,
                                   const struct lend_metadata_region *region,
                                   struct lend_error *why)
{
    const struct lend_transport_ops *ops = ops_of(own);
    struct lend_device_share share;
    uint32_t words;

    if (ops->keep == NULL)
        return lend_fail(why, LEND_E_NO_PATH, "transport %s opens no memory of a GPU", ops->name);
    if (region->kind != LEND_MEMORY_DEVICE)
        return lend_fail(why, LEND_E_NO_PATH, "memory of kind %u is no GPU's", region->kind);
    if (region->file == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "its owner does not let peers open it (LEND_REGION_SHARE_DEVICE)");
    if (ops->words(own->session->channel, &words, why) == NULL)
        return LEND_E_NO_PATH;
    if (!read_head(own, region->file, &share, why))
        return why != NULL && why->status == LEND_PENDING ? LEND_PENDING : LEND_E_NO_PATH;
    if (region->file_offset_bytes > share.bytes ||
        region->length_bytes > share.bytes - region->file_offset_bytes)
        return lend_fail(why, LEND_E_NO_PATH, "its allocation ends before the region does");
    return LEND_OK;
}

/* --- opening and closing --- */

static struct lend_opened *find(struct lend_onesided *own, uint32_t file,
                                const struct lend_lane *lane)
{
    for (struct lend_list *link = own->opened.next; link != &own->opened; link = link->next)
        if (opened_of(link)->file == file && opened_of(link)->lane == lane)
            return opened_of(link);
    return NULL;
}

static bool is_open(struct lend_onesided *own, uint32_t file)
{
    for (struct lend_list *link = own->opened.next; link != &own->opened; link = link->next)
        if (opened_of(link)->file == file)
            return true;
    return false;
}

static void close_opened(struct lend_onesided *own, struct lend_opened *opened);

static enum lend_status begin_opening(struct lend_onesided *own, uint32_t file,
                                      const struct lend_lane *lane, struct lend_opened **out,
                                      struct lend_error *why)
{
    struct lend_channel *channel = own->session->channel;
    bool was_open = is_open(own, file);
    uint64_t bytes = 0;

    const uint8_t *told = ops_of(own)->mapped(channel, file, &bytes, why);
    if (told == NULL)
        return LEND_E_NO_PATH;
    if (!ops_of(own)->keep(channel, file, true))
        return lend_fail(why, LEND_E_NO_PATH, "its owner has begun to take the memory back");
    struct lend_opened *opened = lend_sys->allocate(sizeof *opened);
    enum lend_status status =
        opened == NULL ? lend_fail(why, LEND_E_NO_MEMORY, "no memory to open GPU memory by")
                       : lend_mapped_begin(lane, told, bytes, &opened->mapped, why);
    if (status != LEND_OK) {
        lend_sys->release(opened);
        if (!was_open)
            (void)ops_of(own)->keep(channel, file, false);
        return status;
    }
    opened->file = file;
    opened->lane = lane;
    lend_list_append(&own->opened, &opened->link);
    *out = opened;
    return LEND_OK;
}

/* Part by part: LEND_PENDING, until all are here. */
static enum lend_status go_on_opening(struct lend_onesided *own, struct lend_opened *opened,
                                      struct lend_error *why)
{
    enum lend_status status = LEND_OK;
    uint32_t index = 0;
    int fd = -1;

    if (lend_mapped_wants(opened->mapped, &index)) {
        if (ops_of(own)->part == NULL)
            return lend_fail(why, LEND_E_NO_PATH, "transport %s brings no descriptors",
                             ops_of(own)->name);
        status = ops_of(own)->part(own->session->channel, opened->file, index, &fd, why);
    }
    if (status == LEND_OK)
        status = lend_mapped_go_on(opened->mapped, fd, why);
    if (fd >= 0)
        lend_sys->close(fd);
    opened->is_open = status == LEND_OK;
    return status;
}

/* What of the file is open in that lane, or becomes so. LEND_PENDING; LEND_E_NO_PATH, and why. */
static enum lend_status open_file(struct lend_onesided *own, uint32_t file,
                                  const struct lend_lane *lane, struct lend_opened **out,
                                  struct lend_error *why)
{
    enum lend_status status = LEND_OK;
    struct lend_opened *opened = find(own, file, lane);

    if (opened == NULL)
        status = begin_opening(own, file, lane, &opened, why);
    if (status == LEND_OK && !opened->is_open)
        status = go_on_opening(own, opened, why);
    if (status != LEND_OK && status != LEND_PENDING) {
        if (opened != NULL)
            close_opened(own, opened);
        why->status = LEND_E_NO_PATH;
        return LEND_E_NO_PATH;
    }
    *out = opened;
    return status;
}

/* What the driver does not close stays kept: its owner is to know. */
static void close_opened(struct lend_onesided *own, struct lend_opened *opened)
{
    uint32_t file = opened->file;

    lend_list_remove(&opened->link);
    bool is_closed = lend_mapped_close(opened->mapped);
    lend_sys->release(opened);
    if (is_closed && !is_open(own, file))
        (void)ops_of(own)->keep(own->session->channel, file, false);
}

/* Close what is wanted back, and from which nothing flies. */
static bool close_wanted(struct lend_onesided *own)
{
    struct lend_channel *channel = own->session->channel;
    bool moved = false;
    struct lend_list *next;

    if (lend_list_is_empty(&own->opened) || channel == NULL)
        return false;
    uint64_t stamp = ops_of(own)->mapping_stamp(channel);
    if (stamp == own->opened_stamp)
        return false;
    bool is_late = false;
    for (struct lend_list *link = own->opened.next; link != &own->opened; link = next) {
        struct lend_opened *opened = opened_of(link);
        uint64_t bytes;

        next = link->next;
        if (ops_of(own)->mapped(channel, opened->file, &bytes, NULL) != NULL)
            continue;
        is_late |= opened->flying > 0;
        if (opened->flying > 0)
            continue;
        close_opened(own, opened);
        moved = true;
    }
    if (moved)
        stamp = ops_of(own)->mapping_stamp(channel); /* which lets go of them */
    own->opened_stamp = is_late ? 0 : stamp;
    return moved;
}

/* --- where it is --- */

bool lend_opened_suits(const struct lend_transfer *transfer)
{
    if (transfer->kinds != UINT32_C(1) << LEND_MEMORY_DEVICE || transfer->lane == NULL)
        return false;
    for (uint64_t i = 0; i < transfer->region_count; i++)
        if (transfer->extents[i].device == NULL ||
            transfer->extents[i].device->lane != transfer->lane)
            return false;
    return true;
}

enum lend_status lend_opened_place(struct lend_onesided *own, struct lend_transfer *transfer,
                                   struct lend_error *why)
{
    for (uint64_t i = 0; i < transfer->region_count; i++) {
        struct lend_source *source = &transfer->sources[i];
        struct lend_opened *opened = NULL;
        enum lend_status status = open_file(own, source->file, transfer->lane, &opened, why);

        if (status != LEND_OK)
            return status;
        /* The file may have been told of anew since it was judged. */
        uint64_t bytes = lend_mapped_bytes(opened->mapped);
        if (source->offset_bytes > bytes || source->length_bytes > bytes - source->offset_bytes)
            return lend_fail(why, LEND_E_NO_PATH, "its allocation ends before the region does");
        source->opened = opened;
        transfer->source_extents[i].address += lend_mapped_address(opened->mapped);
    }
    return LEND_OK;
}

/* --- copying --- */

struct flight {
    uint64_t bytes;
    uint32_t count;
    uint32_t count_max;
    struct lend_lane_piece pieces[PIECES_MAX];
    uint32_t buffer_count;
    struct {
        uint64_t address;
        uint64_t id;
    } buffers[BUFFERS_MAX];
};

/* Note the allocation of ours that lies there. False: there are too many. */
static bool note_buffer(struct flight *flight, uint64_t address,
                        const struct lend_device_buffer *buffer)
{
    for (uint32_t i = 0; i < flight->buffer_count; i++)
        if (flight->buffers[i].id == buffer->id)
            return true;
    if (flight->buffer_count == BUFFERS_MAX)
        return false;
    flight->buffers[flight->buffer_count].address = address;
    flight->buffers[flight->buffer_count++].id = buffer->id;
    return true;
}

static enum lend_status check_buffers(const struct flight *flight, struct lend_error *why)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < flight->buffer_count; i++)
        status = lend_device_check(flight->buffers[i].address, flight->buffers[i].id, why);
    return status;
}

/* Step from there by that many bytes of the piece, which was longer. */
static void step_anew(struct lend_cursor *cursor, const struct lend_cursor *before, uint64_t bytes)
{
    struct lend_segment piece;
    uint64_t extent;

    *cursor = *before;
    (void)lend_cursor_next_of_extent(cursor, bytes, &piece, &extent);
}

/* The next piece, of one extent and one allocation on either side. False: there is none, or it has
 * no room in this flight; the cursors stay then. */
static bool add_piece(struct flight *flight, struct lend_cursor *from, struct lend_cursor *to)
{
    const struct lend_cursor from_before = *from, to_before = *to;
    struct lend_segment here, there;
    uint64_t extent = 0;

    /* Ours is asked for no more than theirs is, so that mostly both are right at once. */
    if (flight->count == flight->count_max || flight->bytes >= COPY_BYTES_MAX ||
        !lend_cursor_next_of_extent(from, COPY_BYTES_MAX - flight->bytes, &there, &extent))
        return false;
    bool is_there = lend_cursor_next_of_extent(to, there.length_bytes, &here, &extent);
    LEND_INVARIANT(is_there); /* both sides have as many bytes */
    const struct lend_device_buffer *buffer =
        lend_device_buffer_at(to->extents[extent].device, here.address);
    uint64_t left = buffer->end - here.address;
    uint64_t bytes = left < here.length_bytes ? left : here.length_bytes;
    if (!note_buffer(flight, here.address, buffer)) {
        *from = from_before;
        *to = to_before;
        return false;
    }
    if (bytes < here.length_bytes)
        step_anew(to, &to_before, bytes);
    if (bytes < there.length_bytes)
        step_anew(from, &from_before, bytes);
    flight->pieces[flight->count++] =
        (struct lend_lane_piece){.device = here.address, .from = there.address, .bytes = bytes};
    flight->bytes += bytes;
    return true;
}

static void count_flying(struct lend_transfer *transfer, int32_t more)
{
    for (uint64_t i = 0; i < transfer->region_count; i++)
        transfer->sources[i].opened->flying += (uint32_t)more;
}

static void fail(struct lend_onesided *own, struct lend_transfer *transfer,
                 const struct lend_error *why)
{
    lend_onesided_drop(own, transfer);
    lend_client_fail(own->session, transfer, why);
}

/* Begin a copy of the next bytes. */
static void launch(struct lend_onesided *own, struct lend_transfer *transfer)
{
    struct lend_error why = {0};
    struct flight flight;

    /* The allocation may be wanted back by now: what is left of it goes another way. */
    enum lend_status status = lend_onesided_place_opened(own, transfer, &why);
    if (status == LEND_PENDING && why.status == LEND_OK) /* it is being opened */
        return;
    if (status != LEND_OK) {
        enum lend_status cause = lend_onesided_judge_word(own, transfer);

        if (cause == LEND_OK) {
            lend_onesided_fall_back(own, transfer, &why);
            return;
        }
        (void)lend_lease_explain(&transfer->lease, cause, &why);
        fail(own, transfer, &why);
        return;
    }
    flight.bytes = 0;
    flight.count = flight.buffer_count = 0;
    flight.count_max = lend_lane_pieces_max(transfer->extents[0].device->lane);
    while (add_piece(&flight, &transfer->remote, &transfer->local))
        continue;
    LEND_INVARIANT(flight.count > 0);
    status = check_buffers(&flight, &why);
    if (status == LEND_OK)
        status = lend_lane_put(transfer->extents[0].device->lane, flight.pieces, flight.count,
                               &transfer->mark, &why);
    if (transfer->mark.lane == NULL) { /* nothing is under way */
        fail(own, transfer, &why);
        return;
    }
    transfer->is_flying = true;
    transfer->flying_bytes = flight.bytes;
    transfer->flight_why = why;
    count_flying(transfer, 1);
    own->flying_count++;
}

static void settle(struct lend_onesided *own, struct lend_transfer *transfer)
{
    transfer->is_flying = false;
    count_flying(transfer, -1);
    own->flying_count--;
}

/* A copy is over, well or not. */
static void land(struct lend_onesided *own, struct lend_transfer *transfer, enum lend_status status,
                 struct lend_error *why)
{
    settle(own, transfer);
    if (status == LEND_OK && transfer->flight_why.status != LEND_OK) {
        *why = transfer->flight_why; /* not all of it was begun */
        status = (enum lend_status)why->status;
    }
    if (transfer->severed != LEND_OK)
        status = lend_fail(why, (enum lend_status)transfer->severed, "%s", transfer->severed_why);
    if (status == LEND_OK)
        status = lend_transfer_check_devices(transfer, why);
    if (status == LEND_OK) {
        status = lend_onesided_judge_word(own, transfer);
        if (status != LEND_OK)
            (void)lend_lease_explain(&transfer->lease, status, why);
    }
    if (status != LEND_OK) {
        fail(own, transfer, why);
        return;
    }
    transfer->proven_bytes += transfer->flying_bytes;
    if (transfer->proven_bytes == transfer->total_bytes)
        lend_onesided_prove(own, transfer);
}

void lend_opened_begin(struct lend_onesided *own, struct lend_transfer *transfer)
{
    lend_list_append(&own->carried, &transfer->session_link);
}

void lend_opened_drop(struct lend_onesided *own, struct lend_transfer *transfer)
{
    (void)own;
    LEND_INVARIANT(!transfer->is_flying);
    lend_lane_drop_mark(&transfer->mark);
}

bool lend_opened_pump(struct lend_onesided *own)
{
    bool moved = close_wanted(own);
    struct lend_list *next;

    for (struct lend_list *link = own->carried.next; link != &own->carried; link = next) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);
        struct lend_error why = {0};

        next = link->next;
        moved = true; /* nobody wakes us when it has landed */
        if (transfer->is_flying) {
            enum lend_status status = lend_lane_ask(&transfer->mark, &why);
            if (status == LEND_PENDING)
                continue;
            land(own, transfer, status, &why);
        } else {
            launch(own, transfer);
        }
    }
    return moved;
}

/* Let go of those of which nothing flies any more; what was severed ends as was said then. */
static void look_for_landed(struct lend_onesided *own)
{
    struct lend_list *next;

    for (struct lend_list *link = own->carried.next; link != &own->carried; link = next) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);
        struct lend_error why = {0};

        next = link->next;
        if (!transfer->is_flying || lend_lane_ask(&transfer->mark, &why) == LEND_PENDING)
            continue;
        settle(own, transfer);
        if (transfer->severed != LEND_OK) {
            (void)lend_fail(&why, (enum lend_status)transfer->severed, "%s", transfer->severed_why);
            fail(own, transfer, &why);
        }
    }
}

bool lend_opened_halt(struct lend_onesided *own)
{
    uint64_t until = lend_deadline(lend_sys->now_ns(), LEND_SETTLE_NS);

    while (own->flying_count > 0) {
        look_for_landed(own);
        if (own->flying_count == 0)
            break;
        if (lend_sys->now_ns() >= until)
            return false;
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
    }
    return true;
}

void lend_opened_fini(struct lend_onesided *own)
{
    struct lend_agent *agent = own->session->agent;
    struct lend_list *next;

    for (struct lend_list *link = own->opened.next; link != &own->opened; link = next) {
        next = link->next;
        if (opened_of(link)->flying == 0) {
            close_opened(own, opened_of(link));
            continue;
        }
        lend_list_remove(link);
        (void)pthread_mutex_lock(&agent->stage_lock);
        lend_list_append(&agent->stuck, link);
        (void)pthread_mutex_unlock(&agent->stage_lock);
    }
}

void lend_opened_forget(struct lend_agent *agent)
{
    for (struct lend_list *link; (link = lend_list_take_first(&agent->stuck)) != NULL;) {
        lend_mapped_forget(opened_of(link)->mapped);
        lend_sys->release(opened_of(link));
    }
}
