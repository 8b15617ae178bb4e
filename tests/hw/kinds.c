/* SPDX-License-Identifier: Apache-2.0 */
#include "kinds.h"

#include "driver.h"
#include "memory/cuda.h"
#include "owner.h"
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Memory that did not come from cuMemAlloc(). It is six chunks long, of which blocks of three
 * quarters of one are read and written: so every other one that moves lies in two chunks.
 */

enum { CHUNKS = 6, BLOCKS = 8 };

struct kind {
    const char *name;
    const char *path;                /* of a READ */
    const char *takes;               /* where there can be none */
    bool (*make)(struct loan *loan); /* or why not, in its error */
};

/* --- of each kind, the memory --- */

static const struct lend_cuda_chunk chunk_wanted = {
    .type = LEND_CUDA_CHUNK_PINNED,
    .handle_types = LEND_CUDA_HANDLE_FD,
    .location = {.type = LEND_CUDA_LOCATION_DEVICE},
};

static uint64_t chunk_bytes; /* of each */
static void *pool;

/* The driver's answer, or what it said no to. */
static bool may(struct loan *loan, int result, const char *what)
{
    if (result != 0)
        (void)snprintf(loan->error.message, sizeof loan->error.message, "%s: CUDA error %d", what,
                       result);
    return result == 0;
}

static void give_chunks(struct loan *loan)
{
    for (uint64_t at = 0; at < loan->bytes; at += chunk_bytes)
        driver_must(driver.unmap(loan->device + at, chunk_bytes), "cuMemUnmap");
    driver_must(driver.range_free(loan->device, loan->bytes), "cuMemAddressFree");
}

static bool map_chunk(struct loan *loan, uint64_t at)
{
    uint64_t chunk = 0;

    if (!may(loan, driver.chunk_create(&chunk, chunk_bytes, &chunk_wanted, 0), "cuMemCreate"))
        return false;
    bool is_mapped = may(loan, driver.map(loan->device + at, chunk_bytes, 0, chunk, 0), "cuMemMap");
    driver_must(driver.chunk_release(chunk), "cuMemRelease"); /* it lives as long as it is mapped */
    return is_mapped;
}

/* As PyTorch's expandable segments are: one range of addresses, and chunks side by side in it. */
static bool make_chunks(struct loan *loan)
{
    const struct lend_cuda_access access = {.location = chunk_wanted.location,
                                            .rights = LEND_CUDA_ACCESS_READ_WRITE};
    uint64_t at = 0;

    if (!may(loan, driver.range_reserve(&loan->device, loan->bytes, 0, 0, 0),
             "cuMemAddressReserve"))
        return false;
    while (at < loan->bytes && map_chunk(loan, at))
        at += chunk_bytes;
    if (at == loan->bytes &&
        may(loan, driver.set_access(loan->device, loan->bytes, &access, 1), "cuMemSetAccess")) {
        loan->give = give_chunks;
        return true;
    }
    while (at > 0)
        driver_must(driver.unmap(loan->device + (at -= chunk_bytes), chunk_bytes), "cuMemUnmap");
    driver_must(driver.range_free(loan->device, loan->bytes), "cuMemAddressFree");
    return false;
}

static void give_pooled(struct loan *loan)
{
    driver_must(driver.free(loan->device), "cuMemFree");
    driver_must(driver.pool_destroy(pool), "cuMemPoolDestroy");
}

static bool make_pooled(struct loan *loan)
{
    const struct driver_pool wanted = {.type = LEND_CUDA_CHUNK_PINNED,
                                       .handle_types = LEND_CUDA_HANDLE_FD,
                                       .location_type = LEND_CUDA_LOCATION_DEVICE};

    if (driver.pool_create == NULL || driver.pool_destroy == NULL || driver.pool_allocate == NULL) {
        (void)snprintf(loan->error.message, sizeof loan->error.message,
                       "libcuda.so.1 has no cuMemPoolCreate");
        return false;
    }
    if (!may(loan, driver.pool_create(&pool, &wanted), "cuMemPoolCreate"))
        return false;
    if (!may(loan, driver.pool_allocate(&loan->device, loan->bytes, pool, NULL),
             "cuMemAllocFromPoolAsync")) {
        driver_must(driver.pool_destroy(pool), "cuMemPoolDestroy");
        return false;
    }
    driver_must(driver.synchronize(), "cuCtxSynchronize");
    loan->give = give_pooled;
    return true;
}

static void give_storage(struct loan *loan)
{
    lend_storage_destroy(loan->storage);
}

static bool make_storage(struct loan *loan, uint32_t kind)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;

    desc.length_bytes = loan->bytes;
    desc.kind = kind;
    if (lend_storage_create(&desc, &loan->storage, &loan->error) != LEND_OK)
        return false;
    void *address = lend_storage_address(loan->storage);
    if (kind == LEND_MEMORY_DEVICE)
        loan->device = (uint64_t)(uintptr_t)address;
    else
        loan->host = address;
    loan->give = give_storage;
    return true;
}

static bool make_gpu_storage(struct loan *loan)
{
    return make_storage(loan, LEND_MEMORY_DEVICE);
}

static bool make_pinned_storage(struct loan *loan)
{
    return make_storage(loan, LEND_MEMORY_PINNED);
}

/* --- what is done with it --- */

static bool is_zeroed(struct loan *loan)
{
    loan_look(loan);
    for (uint64_t i = 0; i < loan->bytes; i++)
        if (loan->copy[i] != 0)
            return false;
    return true;
}

/* What was written under the lease is its owner's to look at when that has ended. */
static enum lend_status take_back(struct loan *loan)
{
    enum lend_status status = lend_lease_revoke(loan->lease, &loan->error);

    lend_lease_release(loan->lease);
    loan->lease = NULL;
    return status;
}

/* Every second block, by the reader, and tell of it. */
static void move(struct lend_agent *agent, const struct kind *kind, struct loan *loan,
                 uint32_t direction, struct order *order)
{
    const char *path = direction == LEND_READ ? kind->path : "local/staged";
    struct answer answer = {.status = LEND_OK};
    char name[128];

    *order = (struct order){.direction = direction,
                            .memory = LEND_MEMORY_DEVICE,
                            .block_bytes = loan->bytes / BLOCKS,
                            .block_count = BLOCKS / 2,
                            .rounds = 3,
                            .seed = direction == LEND_READ ? 1 : 9};
    (void)snprintf(order->paths, sizeof order->paths, "%s", path);
    answer.status = loan_prepare(agent, loan, order);
    if (answer.status == LEND_OK)
        answer = reader_ask(order);
    if (answer.status == LEND_OK && direction == LEND_WRITE)
        answer.status = take_back(loan);
    const char *why = answer.message[0] != '\0' ? answer.message : loan->error.message;
    bool is_right =
        answer.status == LEND_OK && answer.is_wrong == 0 && strcmp(answer.path, path) == 0 &&
        (direction == LEND_READ || loan_is_filled(loan, order->seed, order->block_bytes));
    (void)snprintf(name, sizeof name, "%s: %s by %s", kind->name,
                   direction == LEND_READ ? "read" : "written", path);
    if (is_right)
        tell(name, true, "%u blocks of %llu KiB%s%s", order->block_count,
             (unsigned long long)(order->block_bytes >> 10), loan->storage != NULL ? ", of " : "",
             loan->storage != NULL ? lend_storage_note(loan->storage) : "");
    else
        tell(name, false, "%s %s%s", lend_status_name((enum lend_status)answer.status), why,
             answer.status == LEND_OK ? "wrong bytes" : "");
}

/* Withdrawn, it is its owner's to free: nothing has it open, and the old ticket gets nothing. */
static void end(const struct kind *kind, struct loan *loan, struct order *old)
{
    char name[128];

    (void)snprintf(name, sizeof name, "%s: withdrawn, freed, and read with the old ticket",
                   kind->name);
    enum lend_status status =
        lend_region_withdraw(loan->region, LEND_WITHDRAW_FORCE, PATIENCE_NS, &loan->error);
    if (status != LEND_OK) {
        tell(name, false, "%s", loan->error.message);
        return;
    }
    loan->give(loan);
    loan->give = NULL;
    old->paths[0] = '\0'; /* there is none to it any more */
    const struct answer answer = reader_ask(old);
    tell(name, answer.status == LEND_E_REVOKED || answer.status == LEND_E_STALE, "%s: %s",
         lend_status_name((enum lend_status)answer.status), answer.message);
}

static void lend_it(struct lend_agent *agent, const struct kind *kind, struct loan *loan)
{
    static struct order order;
    bool is_opened = strcmp(kind->path, "local/cuda") == 0;

    if (loan->storage != NULL && !is_zeroed(loan))
        tell(kind->name, false, "it is not zeroed");
    loan_fill(loan, 1);
    if (loan_enroll(agent, loan, loan->bytes / BLOCKS, is_opened ? LEND_REGION_SHARE_DEVICE : 0) !=
        LEND_OK) {
        tell(kind->name, false, "%s", loan->error.message);
        return;
    }
    move(agent, kind, loan, LEND_WRITE, &order);
    loan_fill(loan, 1);
    if (loan->lease == NULL && loan_grant(agent, loan) != LEND_OK) {
        tell(kind->name, false, "%s", loan->error.message);
        return;
    }
    move(agent, kind, loan, LEND_READ, &order);
    end(kind, loan, &order);
}

void test_kinds(struct lend_agent *agent)
{
    static const struct kind kinds[] = {
        {"chunks side by side", "local/cuda",
         "a GPU, and a driver, with virtual memory management and its file descriptors",
         make_chunks},
        {"memory of a pool", "local/cuda",
         "a driver of CUDA 11.2 or later, and a GPU with pools that descriptors may tell of",
         make_pooled},
        {"storage of lend's, a GPU's", "local/cuda", "memory of the GPU", make_gpu_storage},
        {"storage of lend's, pinned", "local/staged", "memory that may be pinned (ulimit -l)",
         make_pinned_storage},
    };
    size_t bytes = 0;

    driver_must(driver.chunk_granularity(&bytes, &chunk_wanted, 0),
                "cuMemGetAllocationGranularity");
    chunk_bytes = bytes;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct loan loan = {.bytes = CHUNKS * chunk_bytes, .copy = malloc(CHUNKS * chunk_bytes)};

        if (loan.copy == NULL)
            abort();
        if (kinds[i].make(&loan))
            lend_it(agent, &kinds[i], &loan);
        else
            tell(kinds[i].name, false, "%s: it takes %s", loan.error.message, kinds[i].takes);
        loan_release(&loan);
    }
}
