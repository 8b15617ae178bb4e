/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"
#include "pair.h"

#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <unistd.h>

static pid_t reader; /* its process */

void battery_gpu_begin(void)
{
    reader = getpid();
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
}

static void enter(void)
{
    void *context = NULL;

    assert_int_equal(cuInit(0), 0);
    assert_int_equal(cuDevicePrimaryCtxRetain(&context, 0), 0);
    assert_int_equal(cuCtxPushCurrent_v2(context), 0);
}

static void leave(void)
{
    void *context = NULL;

    assert_int_equal(cuCtxPopCurrent_v2(&context), 0);
    assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), 0);
}

uint64_t battery_gpu_allocate(size_t bytes)
{
    uint64_t address = 0;

    enter();
    assert_int_equal(cuMemAlloc_v2(&address, bytes), 0);
    leave();
    return address;
}

void battery_gpu_free(uint64_t address)
{
    enter();
    assert_int_equal(cuMemFree_v2(address), 0);
    leave();
}

/* What an owner's agent does next it does for the reader, who was told that this is over: an order
 * by another process, which the thread sanitizer does not see, and takes from the fake's lock. */
static void settle(void)
{
    if (getpid() == reader)
        return;
    fake_cuda_lock();
    fake_cuda_unlock();
}

/* Where the fake has the bytes, and not by its copies: these would wait for what NICs have written,
 * which lend has to see to. */
void battery_gpu_put(uint64_t to, const void *from, size_t bytes)
{
    memcpy(fake_cuda_bytes(to), from, bytes);
    settle();
}

void battery_gpu_get(void *to, uint64_t from, size_t bytes)
{
    memcpy(to, fake_cuda_bytes(from), bytes);
    settle();
}

void battery_gpu_end(void)
{
    lend_cuda = NULL;
    /* The reader's agent, and where it lives beside it the owner's, gave back what they had of the
     * driver. */
    assert_int_equal(fake_cuda_held(), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    assert_int_equal(fake_cuda_opened(), 0);
    assert_int_equal(fake_cuda_torn(), 0);
    fake_cuda_reset(); /* others may have those addresses next */
}
