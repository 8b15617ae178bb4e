/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/gpu_storage.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/sys.h"
#include "memory/lane.h"

#include <string.h>

#define LOOK_AGAIN_NS UINT64_C(20000)

struct lend_gpu_storage {
    int64_t life; /* of the process that made it */
    enum lend_memory_kind kind;
    int32_t ordinal;
    uint64_t address;
    struct lend_lanes lanes; /* one, which holds the context */
    struct lend_lane *lane;
};

/* The GPU writes the zeros, and is waited for: whoever gets it shall find them. */
static enum lend_status zero_device(struct lend_gpu_storage *storage, uint64_t bytes,
                                    struct lend_error *error)
{
    const struct lend_lane_piece zeros = {.device = storage->address, .bytes = bytes};
    struct lend_lane_mark mark = {0};
    enum lend_status status = lend_lane_put(storage->lane, &zeros, 1, &mark, error);

    while (status == LEND_OK && (status = lend_lane_ask(&mark, error)) == LEND_PENDING) {
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
        status = LEND_OK;
    }
    lend_lane_drop_mark(&mark);
    return status;
}

static enum lend_status allocate(struct lend_gpu_storage *storage, uint64_t bytes,
                                 struct lend_error *error)
{
    void *pinned = NULL;
    enum lend_status status;

    if (storage->kind == LEND_MEMORY_DEVICE) {
        status = lend_lane_allocate(storage->lane, bytes, &storage->address, error);
        return status == LEND_OK ? zero_device(storage, bytes, error) : status;
    }
    status = lend_lane_pin(storage->lane, bytes, &pinned, error);
    if (status != LEND_OK)
        return status;
    memset(pinned, 0, bytes);
    storage->address = (uint64_t)(uintptr_t)pinned;
    return LEND_OK;
}

enum lend_status lend_gpu_storage_create(enum lend_memory_kind kind, int32_t ordinal,
                                         uint64_t bytes, struct lend_gpu_storage **out,
                                         struct lend_error *error)
{
    struct lend_device_memory where = {.ordinal = ordinal};
    struct lend_gpu_storage *made = lend_sys->allocate(sizeof *made);

    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the handle of storage");
    made->life = lend_fork_life();
    made->kind = kind;
    made->ordinal = ordinal;
    lend_lanes_init(&made->lanes);
    enum lend_status status = lend_lane_assign(&made->lanes, &where, error);
    made->lane = where.lane;
    if (status == LEND_OK)
        status = allocate(made, bytes, error);
    if (status != LEND_OK) {
        lend_gpu_storage_destroy(made);
        return status;
    }
    *out = made;
    return LEND_OK;
}

void lend_gpu_storage_destroy(struct lend_gpu_storage *storage)
{
    if (storage == NULL)
        return;
    bool forked = !lend_fork_is_same(storage->life);
    if (!forked && storage->address != 0 && storage->kind == LEND_MEMORY_DEVICE)
        lend_lane_free(storage->lane, storage->address);
    else if (!forked && storage->address != 0)
        lend_lane_unpin(storage->lane, (void *)(uintptr_t)storage->address);
    lend_lanes_fini(&storage->lanes, forked);
    lend_sys->release(storage);
}

uint64_t lend_gpu_storage_address(const struct lend_gpu_storage *storage)
{
    return storage->address;
}

enum lend_status lend_gpu_storage_describe(const struct lend_gpu_storage *storage,
                                           uint64_t offset_bytes, uint64_t length_bytes,
                                           struct lend_memory *out, struct lend_error *error)
{
    uint64_t address = storage->address + offset_bytes;

    return storage->kind == LEND_MEMORY_DEVICE
               ? lend_memory_device(address, length_bytes, storage->ordinal, out, error)
               : lend_memory_pinned((const void *)(uintptr_t)address, length_bytes, out, error);
}
