/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_RING_H
#define LEND_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A ring of bytes in memory that two parties map: one produces, one consumes. What stands in the
 * shared page is never trusted: positions are checked against the size at every look, and a bad one
 * makes the ring broken for good.
 *
 * The data area is mapped twice in a row, so that any run of bytes up to its size is contiguous in
 * the address space. Each party keeps its own position in private memory and publishes it.
 *
 * Sleeping: before it sleeps, a party stores 1 in its `..._sleeps`, then looks once more; the other
 * party, having published, takes the 1 (exchange) and wakes it. Both sides are sequentially
 * consistent, so one of them sees the other.
 */
struct lend_ring_shared {
    _Alignas(128) _Atomic uint64_t head; /* bytes ever produced */
    _Atomic uint32_t consumer_sleeps;
    _Alignas(128) _Atomic uint64_t tail; /* bytes ever consumed */
    _Atomic uint32_t producer_sleeps;
};

struct lend_ring {
    struct lend_ring_shared *shared;
    uint8_t *data;     /* mapped twice; data[i] and data[i + bytes] are one */
    uint64_t bytes;    /* of the data area; a power of two */
    uint64_t position; /* ours: head if we produce, tail if we consume; may run ahead of what is
                          published */
    uint64_t seen;     /* theirs, as last read */
    bool is_broken;    /* the other party published nonsense */
};

void lend_ring_init(struct lend_ring *ring, struct lend_ring_shared *shared, uint8_t *data,
                    uint64_t bytes);

/* Producer: free bytes; and where the next go (valid for that many). */
uint64_t lend_ring_room(struct lend_ring *ring);
uint8_t *lend_ring_write_at(struct lend_ring *ring);
/* Consumer: bytes to read; and where the next are (valid for that many). */
uint64_t lend_ring_available(struct lend_ring *ring);
const uint8_t *lend_ring_read_at(const struct lend_ring *ring);

/* Move our position by count, without telling yet. */
void lend_ring_advance(struct lend_ring *ring, uint64_t count);

/* Tell what we produced or consumed. True if the other party sleeps and must be woken. */
bool lend_ring_publish_head(struct lend_ring *ring);
bool lend_ring_publish_tail(struct lend_ring *ring);

/* Say that we go to sleep. False if there is something to do at once (bytes to read; room of at
 * least `wanted`). */
bool lend_ring_sleep_consumer(struct lend_ring *ring);
bool lend_ring_sleep_producer(struct lend_ring *ring, uint64_t wanted);

/* Say that we are up, so that the other party need not wake us. */
void lend_ring_awake_consumer(struct lend_ring *ring);
void lend_ring_awake_producer(struct lend_ring *ring);

#endif
