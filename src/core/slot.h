/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SLOT_H
#define LEND_CORE_SLOT_H

#include <lend/status.h>

#include <stdatomic.h>
#include <stddef.h>

/*
 * Slots and their generation words. Every lease has a slot: a word of 64 bits,
 *
 *     generation << 8 | state
 *
 * that says whether the lease of that generation lives, and if not, why. Generations of a slot
 * start random and only grow. A slot is taken again only after its word has told the cause for a
 * while.
 *
 * The word is read without a lock by whoever moves bytes, peers that copy by themselves among them;
 * everything else here is guarded by the agent's lock.
 */

enum lend_slot_state {
    LEND_SLOT_UNUSED = 0,
    LEND_SLOT_LIVE = 1,
    LEND_SLOT_REVOKED = 2,
    LEND_SLOT_EXPIRED = 3,
    LEND_SLOT_CONSUMED = 4,
    LEND_SLOT_PEER_DEAD = 5,
};

enum { LEND_SLOT_STATE_BITS = 8 };

struct lend_slot {
    void *lease;       /* while it lives */
    uint64_t ended_ns; /* when it last ended */
    uint64_t ended_by; /* the region whose suspension ended it; 0: something else did */
    uint32_t next_free;
};

struct lend_slots {
    /* In a file of its own, sealed against resizing and new writers, so that peers that copy by
     * themselves may map it. */
    _Atomic uint64_t *words;
    int words_fd;
    size_t words_bytes;
    struct lend_slot **pages; /* of SLOTS_PER_PAGE each, made when first needed */
    uint32_t page_capacity;
    uint32_t made_count;
    uint32_t limit;
    uint64_t rest_ns;
    uint32_t free_first; /* the slot that has rested longest, or LEND_SLOT_NONE */
    uint32_t free_last;
};

#define LEND_SLOT_NONE UINT32_MAX

enum lend_status lend_slots_init(struct lend_slots *slots, uint32_t limit, uint64_t rest_ns,
                                 struct lend_error *error);
void lend_slots_fini(struct lend_slots *slots);

/* Take a slot and begin its next generation, live. LEND_E_LIMIT, LEND_E_NO_MEMORY, LEND_E_SYSTEM.
 */
enum lend_status lend_slots_take(struct lend_slots *slots, void *lease, uint64_t now_ns,
                                 uint32_t *out_slot, uint64_t *out_generation,
                                 struct lend_error *error);

/* Its word; and the slot of that number, or NULL. */
static inline _Atomic uint64_t *lend_slots_word(const struct lend_slots *slots, uint32_t number)
{
    return &slots->words[number];
}

struct lend_slot *lend_slots_at(const struct lend_slots *slots, uint32_t number);

/*
 * End the slot's generation: store the word, then a full fence, so that whatever the owner does
 * next to the blocks is ordered after. The slot begins its rest.
 */
void lend_slots_end(struct lend_slots *slots, uint32_t number, enum lend_slot_state cause,
                    uint64_t now_ns);

/* The slot was just ended by the suspension of that region: note it, until the slot is taken again.
 */
void lend_slots_note(struct lend_slots *slots, uint32_t number, uint64_t region_id);

/* The region has a newer life: what its suspension ended is LEND_E_STALE from now on. */
void lend_slots_outdate(struct lend_slots *slots, uint64_t region_id);

static inline uint64_t lend_slot_word(uint64_t generation, enum lend_slot_state state)
{
    return generation << LEND_SLOT_STATE_BITS | (uint64_t)state;
}

/*
 * What a word says of the lease of that generation: LEND_OK while it lives, else its cause:
 * LEND_E_UNKNOWN for a generation that never was, LEND_E_STALE for one that another has followed.
 */
enum lend_status lend_slot_judge(uint64_t word, uint64_t generation);

#endif
