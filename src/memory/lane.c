/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/lane.h"

#include "base/error.h"
#include "base/sys.h"
#include "memory/cuda.h"

#include <string.h>

enum { BATCH_MAX = 256 };

#define LOOK_AGAIN_NS UINT64_C(20000)

void lend_lanes_init(struct lend_lanes *lanes)
{
    (void)pthread_mutex_init(&lanes->lock, NULL);
}

/* The lane's context is the thread's current one until leave(); the one before it comes back then.
 */
static enum lend_status enter(const struct lend_lane *lane, struct lend_error *error)
{
    int result = lane->cuda->context_push(lane->context);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuCtxPushCurrent");
    return LEND_OK;
}

/* What cannot be popped is not ours to mend, and no copy is wrong for it. */
static void leave(const struct lend_lane *lane)
{
    void *popped;

    (void)lane->cuda->context_pop(&popped);
}

/* --- life --- */

static enum lend_status retain_primary(struct lend_lane *lane, struct lend_error *error)
{
    int device = 0;
    int result = lane->cuda->device_get(&device, lane->ordinal);

    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuDeviceGet");
    result = lane->cuda->primary_context_retain(&lane->context, device);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuDevicePrimaryCtxRetain");
    lane->is_primary = true;
    return LEND_OK;
}

static void release_primary(const struct lend_lane *lane)
{
    int device = 0;

    if (lane->is_primary && lane->cuda->device_get(&device, lane->ordinal) == LEND_CUDA_SUCCESS)
        (void)lane->cuda->primary_context_release(device);
}

static enum lend_status make_stream(struct lend_lane *lane, struct lend_error *error)
{
    enum lend_status status = enter(lane, error);

    if (status != LEND_OK)
        return status;
    int result = lane->cuda->stream_create(&lane->stream, LEND_CUDA_STREAM_NON_BLOCKING);
    leave(lane);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuStreamCreate");
    return LEND_OK;
}

/* A driver of before CUDA 11.3 does not know these attributes. */
static void ask_of_remote_writes(struct lend_lane *lane)
{
    const struct lend_cuda_ops *cuda = lane->cuda;
    int device = 0, options = 0, ordering = 0;

    lane->orders_remote_writes = lane->flushes_remote_writes = false;
    if (cuda->device_get(&device, lane->ordinal) != LEND_CUDA_SUCCESS)
        return;
    if (cuda->device_get_attribute(&options, LEND_CUDA_DEVICE_FLUSH_OPTIONS, device) ==
        LEND_CUDA_SUCCESS)
        lane->flushes_remote_writes = (options & 1) != 0 && cuda->flush_remote_writes != NULL;
    if (cuda->device_get_attribute(&ordering, LEND_CUDA_DEVICE_WRITES_ORDERING, device) ==
        LEND_CUDA_SUCCESS)
        lane->orders_remote_writes = ordering >= LEND_CUDA_FLUSH_TO_OWNER;
}

static enum lend_status make(struct lend_lane *lane, const struct lend_device_memory *memory,
                             struct lend_error *error)
{
    lane->context = memory->context;
    lane->ordinal = memory->ordinal;
    lane->stream = NULL;
    lane->is_primary = false;
    lane->was_equipped = false;
    atomic_init(&lane->has_no_batches, false);
    lane->kernel = (struct lend_kernel){0};
    enum lend_status status = lend_cuda_open(&lane->cuda, error);

    if (status == LEND_OK && memory->context == NULL)
        status = retain_primary(lane, error);
    if (status != LEND_OK)
        return status;
    status = make_stream(lane, error);
    if (status != LEND_OK)
        release_primary(lane);
    else
        ask_of_remote_writes(lane);
    return status;
}

static bool is_of(const struct lend_lane *lane, const struct lend_device_memory *memory)
{
    return memory->context != NULL ? lane->context == memory->context
                                   : lane->is_primary && lane->ordinal == memory->ordinal;
}

static struct lend_lane *find_locked(struct lend_lanes *lanes,
                                     const struct lend_device_memory *memory)
{
    for (uint32_t i = 0; i < lanes->count; i++)
        if (is_of(&lanes->lanes[i], memory))
            return &lanes->lanes[i];
    return NULL;
}

enum lend_status lend_lane_assign(struct lend_lanes *lanes, struct lend_device_memory *memory,
                                  struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&lanes->lock);
    memory->lane = find_locked(lanes, memory);
    if (memory->lane == NULL && lanes->count == LEND_LANES_MAX) {
        status = lend_fail(error, LEND_E_LIMIT, "GPU memory of more than %d CUDA contexts",
                           LEND_LANES_MAX);
    } else if (memory->lane == NULL) {
        struct lend_lane *lane = &lanes->lanes[lanes->count];

        status = make(lane, memory, error);
        if (status == LEND_OK) {
            lanes->count++;
            memory->lane = lane;
        }
    }
    (void)pthread_mutex_unlock(&lanes->lock);
    return status;
}

enum lend_status lend_lane_equip(struct lend_lanes *lanes, struct lend_lane *lane,
                                 struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    const char *what = NULL;

    (void)pthread_mutex_lock(&lanes->lock);
    if (!lane->was_equipped) {
        status = enter(lane, error);
        if (status == LEND_OK) {
            int result = lend_kernel_load(&lane->kernel, lane->cuda, &what);

            leave(lane);
            if (result != LEND_CUDA_SUCCESS)
                status = lend_cuda_fail(error, lane->cuda, result, what);
        }
        lane->was_equipped = true;
    }
    (void)pthread_mutex_unlock(&lanes->lock);
    return status;
}

void lend_lanes_fini(struct lend_lanes *lanes, bool forked)
{
    for (uint32_t i = 0; i < lanes->count && !forked; i++) {
        struct lend_lane *lane = &lanes->lanes[i];

        if (enter(lane, NULL) == LEND_OK) {
            (void)lane->cuda->stream_destroy(lane->stream);
            lend_kernel_unload(&lane->kernel, lane->cuda);
            leave(lane);
        }
        release_primary(lane);
    }
    lanes->count = 0;
    if (!forked)
        (void)pthread_mutex_destroy(&lanes->lock);
}

/* --- work --- */

static enum lend_status put_piece(const struct lend_lane *lane, const struct lend_lane_piece *piece,
                                  struct lend_error *error)
{
    const struct lend_cuda_ops *cuda = lane->cuda;
    const char *what = "cuMemcpyDtoHAsync";
    int result;

    if (piece->from != 0) {
        what = "cuMemcpyDtoDAsync";
        result = cuda->copy_on_device(piece->device, piece->from, piece->bytes, lane->stream);
    } else if (piece->host == NULL) {
        what = "cuMemsetD8Async";
        result = cuda->fill(piece->device, 0, piece->bytes, lane->stream);
    } else if (piece->is_to_device) {
        what = "cuMemcpyHtoDAsync";
        result = cuda->copy_to_device(piece->device, piece->host, piece->bytes, lane->stream);
    } else {
        result = cuda->copy_to_host(piece->host, piece->device, piece->bytes, lane->stream);
    }
    return result == LEND_CUDA_SUCCESS ? LEND_OK : lend_cuda_fail(error, cuda, result, what);
}

static bool is_copy(const struct lend_lane_piece *piece)
{
    return piece->from != 0 || piece->host != NULL;
}

/* How many pieces from the first on are small, and enough of them to be copied by the kernel; else
 * 0. */
static uint32_t small_of(const struct lend_lane_piece *pieces, uint32_t count)
{
    uint32_t length = 0;

    while (length < count && is_copy(&pieces[length]) &&
           pieces[length].bytes <= LEND_KERNEL_BYTES_MAX)
        length++;
    return length >= LEND_KERNEL_PIECES_LEAST ? length : 0;
}

uint32_t lend_lane_pieces_max(const struct lend_lane *lane)
{
    return lend_kernel_is_there(&lane->kernel) ? LEND_KERNEL_PIECES_MAX : BATCH_MAX;
}

/* Where a piece comes from, and where it goes. A GPU has pinned memory at the host's address. */
static struct lend_kernel_piece ends_of(const struct lend_lane_piece *piece)
{
    uint64_t host = (uint64_t)(uintptr_t)piece->host;

    return (struct lend_kernel_piece){
        .to = piece->from != 0 || piece->is_to_device ? piece->device : host,
        .from = piece->from != 0      ? piece->from
                : piece->is_to_device ? host
                                      : piece->device,
        .bytes = piece->bytes,
    };
}

/* How many copies from the first on are one call; 0: it is to be made by itself. */
static uint32_t batch_of(const struct lend_lane *lane, const struct lend_lane_piece *pieces,
                         uint32_t count)
{
    uint32_t length = 0;

    /* Relaxed: it orders nothing. */
    if (lane->cuda->copy_batch == NULL ||
        atomic_load_explicit(&lane->has_no_batches, memory_order_relaxed))
        return 0;
    while (length < count && length < BATCH_MAX && is_copy(&pieces[length]))
        length++;
    return length > 1 ? length : 0;
}

static int put_batch(const struct lend_lane *lane, const struct lend_lane_piece *pieces,
                     uint32_t count)
{
    struct lend_cuda_batch how = {.source_order = LEND_CUDA_SOURCE_IN_STREAM_ORDER};
    uint64_t to[BATCH_MAX], from[BATCH_MAX];
    size_t bytes[BATCH_MAX], start = 0, failed_at = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct lend_kernel_piece ends = ends_of(&pieces[i]);

        to[i] = ends.to;
        from[i] = ends.from;
        bytes[i] = ends.bytes;
    }
    return lane->cuda->copy_batch(to, from, bytes, count, &how, &start, 1, &failed_at,
                                  lane->stream);
}

/* Put in the next of them: many by one call, where the driver can. *done counts those that may be
 * under way, were it only because it is not known. */
static enum lend_status put_next(struct lend_lane *lane, const struct lend_lane_piece *pieces,
                                 uint32_t count, uint32_t *done, struct lend_lane_mark *mark,
                                 struct lend_error *error)
{
    const struct lend_lane_piece *next = pieces + *done;
    const char *what = "cuLaunchKernel";
    uint32_t length = 0;
    struct lend_kernel_piece *rows =
        lend_kernel_room(&lane->kernel, &mark->table, small_of(next, count - *done), &length);
    int result;

    if (rows != NULL) {
        for (uint32_t i = 0; i < length; i++)
            rows[i] = ends_of(&next[i]);
        result = lend_kernel_launch(&lane->kernel, lane->cuda, lane->stream, &mark->table, length);
    } else {
        length = batch_of(lane, next, count - *done);
        if (length == 0)
            return put_piece(lane, &pieces[(*done)++], error);
        what = "cuMemcpyBatchAsync";
        result = put_batch(lane, next, length);
        if (result == LEND_CUDA_ERROR_NOT_SUPPORTED) /* of this context, or this GPU */
            atomic_store_explicit(&lane->has_no_batches, true, memory_order_relaxed);
    }
    if (result == LEND_CUDA_ERROR_NOT_SUPPORTED)
        return LEND_OK; /* they go another way */
    *done += length;
    return result == LEND_CUDA_SUCCESS ? LEND_OK : lend_cuda_fail(error, lane->cuda, result, what);
}

/* An event belongs to the context that it was made in. Made before there is work, so that none is
 * without one for want of memory. */
static enum lend_status make_mark(struct lend_lane *lane, struct lend_lane_mark *mark,
                                  struct lend_error *error)
{
    if (mark->lane != lane)
        lend_lane_drop_mark(mark);
    mark->is_set = false;
    if (mark->event != NULL)
        return LEND_OK;
    int result = lane->cuda->event_create(&mark->event, LEND_CUDA_EVENT_DISABLE_TIMING);
    if (result == LEND_CUDA_SUCCESS) {
        mark->lane = lane;
        return LEND_OK;
    }
    mark->event = NULL;
    return lend_cuda_fail(error, lane->cuda, result, "cuEventCreate");
}

static int set_mark(struct lend_lane_mark *mark)
{
    int result = mark->lane->cuda->event_record(mark->event, mark->lane->stream);

    mark->is_set = result == LEND_CUDA_SUCCESS;
    return result;
}

enum lend_status lend_lane_put(struct lend_lane *lane, const struct lend_lane_piece *pieces,
                               uint32_t count, struct lend_lane_mark *mark,
                               struct lend_error *error)
{
    enum lend_status status = enter(lane, error);
    uint32_t done = 0;

    if (status == LEND_OK) {
        status = make_mark(lane, mark, error);
        while (status == LEND_OK && done < count)
            status = put_next(lane, pieces, count, &done, mark, error);
        if (done > 0)
            (void)set_mark(mark); /* tried again when it is asked */
        leave(lane);
    }
    if (done == 0) { /* nothing is under way that a mark could tell of */
        lend_lane_drop_mark(mark);
    }
    return status;
}

enum lend_status lend_lane_follow(struct lend_lane *lane, uint64_t stream,
                                  struct lend_lane_mark *mark, struct lend_error *error)
{
    enum lend_status status = enter(lane, error);

    if (status != LEND_OK)
        return status;
    status = make_mark(lane, mark, error);
    if (status == LEND_OK) {
        int result = lane->cuda->event_record(mark->event, (void *)(uintptr_t)stream);

        mark->is_set = result == LEND_CUDA_SUCCESS;
        if (!mark->is_set)
            status = lend_cuda_fail(error, lane->cuda, result, "cuEventRecord in that stream");
    }
    leave(lane);
    if (status != LEND_OK)
        lend_lane_drop_mark(mark);
    return status;
}

/* After these no work of the context goes on: it is at an end, or the GPU was reset. */
static bool is_fatal(int result)
{
    static const int fatal[] = {4, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719};

    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        if (result == fatal[i])
            return true;
    return false;
}

enum lend_status lend_lane_ask(struct lend_lane_mark *mark, struct lend_error *error)
{
    struct lend_lane *lane = mark->lane;
    int result = LEND_CUDA_SUCCESS;

    if (lane == NULL)
        return LEND_OK;
    if (!mark->is_set && enter(lane, NULL) == LEND_OK) {
        result = set_mark(mark);
        leave(lane);
    }
    if (mark->is_set)
        result = lane->cuda->event_query(mark->event);
    bool is_good = mark->is_set && result == LEND_CUDA_SUCCESS;
    if (!is_good && !is_fatal(result))
        return LEND_PENDING;
    lend_kernel_give_back(&lane->kernel, &mark->table);
    return is_good ? LEND_OK : lend_cuda_fail(error, lane->cuda, result, "a copy of GPU memory");
}

enum lend_status lend_lane_do(struct lend_lane *lane, const struct lend_lane_piece *piece,
                              struct lend_error *error)
{
    struct lend_lane_mark mark = {0};
    enum lend_status status = lend_lane_put(lane, piece, 1, &mark, error);

    while (status == LEND_OK && (status = lend_lane_ask(&mark, error)) == LEND_PENDING) {
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
        status = LEND_OK;
    }
    lend_lane_drop_mark(&mark);
    return status;
}

void lend_lane_drop_mark(struct lend_lane_mark *mark)
{
    const struct lend_lane *lane = mark->lane;

    if (lane != NULL && mark->event != NULL && enter(lane, NULL) == LEND_OK) {
        (void)lane->cuda->event_destroy(mark->event);
        leave(lane);
    }
    *mark = (struct lend_lane_mark){0};
}

bool lend_lane_pci(const struct lend_lane *lane, char out[LEND_PCI_BYTES])
{
    int device = 0;

    return lane->cuda->device_get(&device, lane->ordinal) == LEND_CUDA_SUCCESS &&
           lane->cuda->device_get_pci(out, LEND_PCI_BYTES, device) == LEND_CUDA_SUCCESS;
}

/* --- what NICs write --- */

enum lend_status lend_lane_check_remote_writes(const struct lend_lane *lane,
                                               struct lend_error *error)
{
    if (lane->orders_remote_writes || lane->flushes_remote_writes)
        return LEND_OK;
    return lend_fail(
        error, LEND_E_UNSUPPORTED,
        "nothing tells when GPU %d sees what a NIC has written: it does not order such "
        "writes, and its driver does not flush them (it needs CUDA 11.3)",
        lane->ordinal);
}

enum lend_status lend_lane_flush(const struct lend_lane *lane, struct lend_error *error)
{
    if (lane->orders_remote_writes || !lane->flushes_remote_writes) /* or none are let in */
        return LEND_OK;
    int result = lane->cuda->context_push(lane->context);
    if (result == LEND_CUDA_SUCCESS) {
        result = lane->cuda->flush_remote_writes(LEND_CUDA_FLUSH_CURRENT_CONTEXT,
                                                 LEND_CUDA_FLUSH_TO_OWNER);
        leave(lane);
    }
    if (result == LEND_CUDA_SUCCESS)
        return LEND_OK;
    enum lend_status status =
        lend_cuda_fail(error, lane->cuda, result, "cuFlushGPUDirectRDMAWrites");
    if (is_fatal(result))
        return status;
    if (error != NULL)
        error->status = LEND_E_BUSY;
    return LEND_E_BUSY;
}

/* --- memory of the host --- */

enum lend_status lend_lane_pin(const struct lend_lane *lane, size_t bytes, void **out,
                               struct lend_error *error)
{
    enum lend_status status = enter(lane, error);

    if (status != LEND_OK)
        return status;
    int result = lane->cuda->host_allocate(out, bytes, LEND_CUDA_HOST_PORTABLE);
    leave(lane);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuMemHostAlloc");
    return LEND_OK;
}

void lend_lane_unpin(const struct lend_lane *lane, void *memory)
{
    if (memory == NULL || enter(lane, NULL) != LEND_OK)
        return;
    (void)lane->cuda->host_free(memory);
    leave(lane);
}

enum lend_status lend_lane_allocate(const struct lend_lane *lane, size_t bytes, uint64_t *out,
                                    struct lend_error *error)
{
    enum lend_status status = enter(lane, error);

    if (status != LEND_OK)
        return status;
    int result = lane->cuda->allocate(out, bytes);
    leave(lane);
    if (result == LEND_CUDA_ERROR_OUT_OF_MEMORY)
        return lend_fail(error, LEND_E_NO_MEMORY, "GPU %d has no memory for %zu bytes",
                         lane->ordinal, bytes);
    if (result != LEND_CUDA_SUCCESS)
        return lend_cuda_fail(error, lane->cuda, result, "cuMemAlloc");
    return LEND_OK;
}

void lend_lane_free(const struct lend_lane *lane, uint64_t address)
{
    if (enter(lane, NULL) != LEND_OK)
        return;
    (void)lane->cuda->free(address);
    leave(lane);
}

/* --- for what else needs its context --- */

enum lend_status lend_lane_enter(const struct lend_lane *lane, struct lend_error *error)
{
    return enter(lane, error);
}

void lend_lane_leave(const struct lend_lane *lane)
{
    leave(lane);
}
