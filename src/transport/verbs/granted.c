/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>

/* The writer's side: what an owner has said that leases let us write, in this round of the rail. */

enum { ENTRIES_MAX = 1024 };

static struct lend_verbs_entry **bucket_of(struct lend_verbs_rail *rail, uint32_t slot)
{
    return &rail->entries[slot % LEND_VERBS_ENTRY_BUCKETS];
}

void lend_verbs_granted_forget(struct lend_verbs_rail *rail)
{
    for (uint32_t i = 0; i < LEND_VERBS_ENTRY_BUCKETS; i++)
        for (struct lend_verbs_entry *it = rail->entries[i], *next; it != NULL; it = next) {
            next = it->next;
            rail->entries[i] = next;
            lend_sys->release(it);
        }
    rail->entry_count = 0;
}

static int by_address(const void *one, const void *other)
{
    const struct lend_verbs_piece *a = one, *b = other;

    return a->address < b->address ? -1 : a->address > b->address;
}

/* A slot has one lease at a time. */
static struct lend_verbs_entry **find(struct lend_verbs_rail *rail, uint32_t slot)
{
    struct lend_verbs_entry **at = bucket_of(rail, slot);

    while (*at != NULL && (*at)->slot != slot)
        at = &(*at)->next;
    return at;
}

static void forget(struct lend_verbs_rail *rail, struct lend_verbs_entry **at)
{
    struct lend_verbs_entry *it = *at;

    if (it == NULL)
        return;
    *at = it->next;
    lend_sys->release(it);
    rail->entry_count--;
}

void lend_verbs_granted_note(struct lend_verbs_rail *rail, const struct lend_verbs_granted *granted)
{
    size_t piece_bytes = granted->piece_count * sizeof granted->pieces[0];
    struct lend_verbs_entry *made = lend_sys->allocate(sizeof *made + piece_bytes);

    forget(rail, find(rail, granted->slot));
    /* They may be asked for again, all of them. */
    if (rail->entry_count == ENTRIES_MAX)
        lend_verbs_granted_forget(rail);
    if (made == NULL)
        return; /* it is served, then */
    made->slot = granted->slot;
    made->generation = granted->generation;
    made->is_lost = granted->is_lost;
    made->piece_count = granted->piece_count;
    memcpy(made->pieces, granted->pieces, piece_bytes);
    qsort(made->pieces, made->piece_count, sizeof made->pieces[0], by_address);
    made->next = *bucket_of(rail, made->slot);
    *bucket_of(rail, made->slot) = made;
    rail->entry_count++;
}

const struct lend_verbs_entry *lend_verbs_granted_find(struct lend_verbs_rail *rail, uint32_t slot,
                                                       uint64_t generation)
{
    const struct lend_verbs_entry *it = *find(rail, slot);

    return it != NULL && it->generation == generation ? it : NULL;
}

enum lend_status lend_verbs_writes(struct lend_rail *base, uint32_t slot, uint64_t generation,
                                   struct lend_error *why)
{
    struct lend_verbs_rail *rail = lend_verbs_rail_of(base);
    const struct lend_verbs_entry *granted = lend_verbs_granted_find(rail, slot, generation);

    if (granted != NULL && granted->is_lost) {
        lend_verbs_rail_lose_pairs(rail);
        return lend_fail(why, LEND_PENDING, "queue pairs are to be made anew");
    }
    if (granted == NULL)
        return lend_fail(why, LEND_E_UNKNOWN,
                         "its owner has not said what lease %u.%llx lets our NIC write", slot,
                         (unsigned long long)generation);
    if (granted->piece_count == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "the owner's NIC lets nobody write by lease %u.%llx: its blocks lie in "
                         "too many pieces, or the NIC has no room for more keys",
                         slot, (unsigned long long)generation);
    return LEND_OK;
}
