/* SPDX-License-Identifier: Apache-2.0 */
#include "core/slot.h"

#include "base/error.h"
#include "base/sys.h"

#include <fcntl.h>

enum { SLOTS_PER_PAGE = 128, PAGE_BYTES = 4096, NO_FILE = -1 };

/* 40 random bits leave 2^55 generations to come, more than any slot lives through. */
#define FIRST_GENERATION_MASK ((UINT64_C(1) << 40) - 1)

/* Map the words, then shut the file to all writers that are not mapped yet. */
static enum lend_status make_words(struct lend_slots *slots, struct lend_error *error)
{
    size_t bytes = (slots->limit * sizeof(uint64_t) + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    int fd = lend_sys->memfd_storage("lend-words", bytes, false);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "no memory file for the words of %u leases",
                               slots->limit);
    slots->words_fd = fd;
    slots->words_bytes = bytes;
    slots->words = lend_sys->map_file(fd, 0, bytes, true, false);
    if (slots->words == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "the words of %u leases cannot be mapped",
                         slots->limit);
    int result =
        lend_sys->seal(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
    if (result < 0)
        return lend_fail_errno(error, -result, "the words of leases cannot be sealed");
    return LEND_OK;
}

enum lend_status lend_slots_init(struct lend_slots *slots, uint32_t limit, uint64_t rest_ns,
                                 struct lend_error *error)
{
    uint32_t pages = limit / SLOTS_PER_PAGE + (limit % SLOTS_PER_PAGE != 0);

    *slots = (struct lend_slots){
        .page_capacity = pages,
        .limit = limit,
        .rest_ns = rest_ns,
        .free_first = LEND_SLOT_NONE,
        .free_last = LEND_SLOT_NONE,
        .words_fd = NO_FILE,
    };
    slots->pages = lend_sys->allocate(pages * sizeof *slots->pages);
    if (slots->pages == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a table of %u leases", limit);
    enum lend_status status = make_words(slots, error);
    if (status != LEND_OK)
        lend_slots_fini(slots);
    return status;
}

void lend_slots_fini(struct lend_slots *slots)
{
    if (slots->pages == NULL)
        return;
    for (uint32_t i = 0; i < slots->page_capacity; i++)
        lend_sys->release(slots->pages[i]);
    lend_sys->release(slots->pages);
    slots->pages = NULL;
    lend_sys->unmap(slots->words, slots->words_bytes);
    slots->words = NULL;
    if (slots->words_fd >= 0)
        lend_sys->close(slots->words_fd);
    slots->words_fd = NO_FILE;
}

struct lend_slot *lend_slots_at(const struct lend_slots *slots, uint32_t number)
{
    if (number >= slots->made_count)
        return NULL;
    return &slots->pages[number / SLOTS_PER_PAGE][number % SLOTS_PER_PAGE];
}

static enum lend_status make_slot(struct lend_slots *slots, uint32_t *out, struct lend_error *error)
{
    uint32_t page = slots->made_count / SLOTS_PER_PAGE;
    uint64_t first_generation = 0;

    int result = lend_sys->random(&first_generation, sizeof first_generation);
    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes for a lease");

    if (slots->pages[page] == NULL) {
        slots->pages[page] = lend_sys->allocate(SLOTS_PER_PAGE * sizeof **slots->pages);
        if (slots->pages[page] == NULL)
            return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %d more leases",
                             SLOTS_PER_PAGE);
    }
    *out = slots->made_count++;
    atomic_store_explicit(
        lend_slots_word(slots, *out),
        lend_slot_word(first_generation & FIRST_GENERATION_MASK, LEND_SLOT_UNUSED),
        memory_order_relaxed);
    return LEND_OK;
}

static uint32_t take_rested(struct lend_slots *slots, uint64_t now_ns)
{
    uint32_t number = slots->free_first;
    struct lend_slot *slot = lend_slots_at(slots, number);

    if (slot == NULL || now_ns - slot->ended_ns < slots->rest_ns)
        return LEND_SLOT_NONE;
    slots->free_first = slot->next_free;
    if (slots->free_first == LEND_SLOT_NONE)
        slots->free_last = LEND_SLOT_NONE;
    return number;
}

enum lend_status lend_slots_take(struct lend_slots *slots, void *lease, uint64_t now_ns,
                                 uint32_t *out_slot, uint64_t *out_generation,
                                 struct lend_error *error)
{
    uint32_t number = take_rested(slots, now_ns);

    if (number == LEND_SLOT_NONE) {
        if (slots->made_count == slots->limit)
            return lend_fail(error, LEND_E_LIMIT,
                             "all %u leases (leases_max) live, or ended less than %llu ms ago "
                             "(slot_rest_ns)",
                             slots->limit, (unsigned long long)(slots->rest_ns / 1000000));
        enum lend_status status = make_slot(slots, &number, error);
        if (status != LEND_OK)
            return status;
    }

    struct lend_slot *slot = lend_slots_at(slots, number);
    _Atomic uint64_t *word = lend_slots_word(slots, number);
    uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t generation = (before >> LEND_SLOT_STATE_BITS) + 1;

    slot->lease = lease;
    slot->ended_by = 0;
    /* Release: the lease's fields are there before anybody finds it live. */
    atomic_store_explicit(word, lend_slot_word(generation, LEND_SLOT_LIVE), memory_order_release);
    *out_slot = number;
    *out_generation = generation;
    return LEND_OK;
}

void lend_slots_end(struct lend_slots *slots, uint32_t number, enum lend_slot_state cause,
                    uint64_t now_ns)
{
    struct lend_slot *slot = lend_slots_at(slots, number);
    _Atomic uint64_t *at = lend_slots_word(slots, number);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);

    LEND_INVARIANT((word & 0xff) == LEND_SLOT_LIVE);
    atomic_store_explicit(at, lend_slot_word(word >> LEND_SLOT_STATE_BITS, cause),
                          memory_order_seq_cst);
    /* Full fence: the owner's next stores to the blocks come after the word, and its look at the
     * pins too; lend_lease_enter() and lend_lease_leave() are the other half. */
    atomic_thread_fence(memory_order_seq_cst);

    slot->lease = NULL;
    slot->ended_ns = now_ns;
    slot->next_free = LEND_SLOT_NONE;
    if (slots->free_last != LEND_SLOT_NONE)
        lend_slots_at(slots, slots->free_last)->next_free = number;
    else
        slots->free_first = number;
    slots->free_last = number;
}

void lend_slots_note(struct lend_slots *slots, uint32_t number, uint64_t region_id)
{
    lend_slots_at(slots, number)->ended_by = region_id;
}

void lend_slots_outdate(struct lend_slots *slots, uint64_t region_id)
{
    for (uint32_t i = 0; i < slots->made_count; i++) {
        struct lend_slot *slot = lend_slots_at(slots, i);

        if (slot->ended_by != region_id)
            continue;
        /* A generation that nobody was ever granted: no ticket names it, and the next that is
         * granted follows it. Relaxed: the word was that of an ended lease before, too. */
        _Atomic uint64_t *at = lend_slots_word(slots, i);
        uint64_t next =
            (atomic_load_explicit(at, memory_order_relaxed) >> LEND_SLOT_STATE_BITS) + 1;

        slot->ended_by = 0;
        atomic_store_explicit(at, lend_slot_word(next, LEND_SLOT_UNUSED), memory_order_relaxed);
    }
}

enum lend_status lend_slot_judge(uint64_t word, uint64_t generation)
{
    uint64_t current = word >> LEND_SLOT_STATE_BITS;

    if (current > generation)
        return LEND_E_STALE;
    if (current < generation)
        return LEND_E_UNKNOWN;
    switch ((enum lend_slot_state)(word & 0xff)) {
    case LEND_SLOT_LIVE: return LEND_OK;
    case LEND_SLOT_REVOKED: return LEND_E_REVOKED;
    case LEND_SLOT_EXPIRED: return LEND_E_EXPIRED;
    case LEND_SLOT_CONSUMED: return LEND_E_CONSUMED;
    case LEND_SLOT_PEER_DEAD: return LEND_E_PEER_DEAD;
    case LEND_SLOT_UNUSED: break;
    }
    return LEND_E_UNKNOWN;
}
