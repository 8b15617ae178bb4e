/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ring.h"

#include <assert.h>

void lend_ring_init(struct lend_ring *ring, struct lend_ring_shared *shared, uint8_t *data,
                    uint64_t bytes)
{
    assert(bytes > 0 && (bytes & (bytes - 1)) == 0);
    *ring = (struct lend_ring){.shared = shared, .data = data, .bytes = bytes};
}

/*
 * Take a published tail, if it can be true: it lies between the one that we saw before and what we
 * have produced. All positions only grow, and wrap after 2^64 bytes, so distances are compared.
 */
static uint64_t room(struct lend_ring *ring, uint64_t tail)
{
    uint64_t produced = ring->position - ring->seen;

    if (ring->is_broken || tail - ring->seen > produced) {
        ring->is_broken = true;
        return 0;
    }
    ring->seen = tail;
    return ring->bytes - (ring->position - tail);
}

/* Take a published head, if it can be true: not before the one that we saw, and at most a ring
 * ahead. */
static uint64_t available(struct lend_ring *ring, uint64_t head)
{
    uint64_t known = ring->seen - ring->position;
    uint64_t now = head - ring->position;

    if (ring->is_broken || now < known || now > ring->bytes) {
        ring->is_broken = true;
        return 0;
    }
    ring->seen = head;
    return now;
}

uint64_t lend_ring_room(struct lend_ring *ring)
{
    /* Acquire: the consumer's reads of these bytes happen before we write over them. */
    return room(ring, atomic_load_explicit(&ring->shared->tail, memory_order_acquire));
}

uint64_t lend_ring_available(struct lend_ring *ring)
{
    /* Acquire: the producer's writes of these bytes happen before we read them. */
    return available(ring, atomic_load_explicit(&ring->shared->head, memory_order_acquire));
}

uint8_t *lend_ring_write_at(struct lend_ring *ring)
{
    return ring->data + (ring->position & (ring->bytes - 1));
}

const uint8_t *lend_ring_read_at(const struct lend_ring *ring)
{
    return ring->data + (ring->position & (ring->bytes - 1));
}

void lend_ring_advance(struct lend_ring *ring, uint64_t count)
{
    assert(count <= ring->bytes);
    ring->position += count;
}

/* Take the other party's 1, if it is there. */
static bool take_sleeper(_Atomic uint32_t *sleeps)
{
    /*
     * Sequentially consistent, as the store of the position before it and both steps of the sleeper
     * are: either we see its 1, or it sees our position. The load spares the line a write.
     */
    return atomic_load_explicit(sleeps, memory_order_seq_cst) != 0 &&
           atomic_exchange_explicit(sleeps, 0, memory_order_seq_cst) != 0;
}

bool lend_ring_publish_head(struct lend_ring *ring)
{
    /* Releases the bytes to the consumer; the total order with consumer_sleeps is told above. */
    atomic_store_explicit(&ring->shared->head, ring->position, memory_order_seq_cst);
    return take_sleeper(&ring->shared->consumer_sleeps);
}

bool lend_ring_publish_tail(struct lend_ring *ring)
{
    /* Releases the room to the producer; the total order with producer_sleeps is told above. */
    atomic_store_explicit(&ring->shared->tail, ring->position, memory_order_seq_cst);
    return take_sleeper(&ring->shared->producer_sleeps);
}

/* Take our own mark back. The load spares a line that the other party writes, too. */
static void clear_mark(_Atomic uint32_t *sleeps)
{
    /* Relaxed: a wake-up that comes all the same is only one too many. */
    if (atomic_load_explicit(sleeps, memory_order_relaxed) != 0)
        atomic_store_explicit(sleeps, 0, memory_order_relaxed);
}

void lend_ring_awake_consumer(struct lend_ring *ring)
{
    clear_mark(&ring->shared->consumer_sleeps);
}

void lend_ring_awake_producer(struct lend_ring *ring)
{
    clear_mark(&ring->shared->producer_sleeps);
}

bool lend_ring_sleep_consumer(struct lend_ring *ring)
{
    _Atomic uint32_t *sleeps = &ring->shared->consumer_sleeps;

    /* Ordered before the load: the producer sees the 1, or we see what it published. */
    atomic_store_explicit(sleeps, 1, memory_order_seq_cst);
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_seq_cst);

    if (available(ring, head) == 0 && !ring->is_broken)
        return true;
    lend_ring_awake_consumer(ring);
    return false;
}

bool lend_ring_sleep_producer(struct lend_ring *ring, uint64_t wanted)
{
    _Atomic uint32_t *sleeps = &ring->shared->producer_sleeps;

    /* Ordered before the load: the consumer sees the 1, or we see what it published. */
    atomic_store_explicit(sleeps, 1, memory_order_seq_cst);
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_seq_cst);

    if (room(ring, tail) < wanted && !ring->is_broken)
        return true;
    lend_ring_awake_producer(ring);
    return false;
}
