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
    rail->entry_count = rail->known_count = 0;
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
    rail->known_count -= it->total;
    rail->entry_count--;
    lend_sys->release(it);
}

/* A lease of which something is said for the first time, or anew. NULL: there is nothing to know,
 * and it may be asked for; or no memory, and it is served. */
static struct lend_verbs_entry *begin(struct lend_verbs_rail *rail,
                                      const struct lend_verbs_granted *granted)
{
    forget(rail, find(rail, granted->slot));
    if (granted->total == 0 && !granted->is_lost && granted->why[0] == '\0')
        return NULL;
    /* They may be asked for again, all of them. */
    if (rail->entry_count == ENTRIES_MAX ||
        granted->total > LEND_VERBS_KNOWN_MAX - rail->known_count)
        lend_verbs_granted_forget(rail);
    struct lend_verbs_entry *made =
        lend_sys->allocate(sizeof *made + granted->total * sizeof made->pieces[0]);
    if (made == NULL)
        return NULL;
    made->slot = granted->slot;
    made->generation = granted->generation;
    made->is_lost = granted->is_lost;
    made->total = granted->total;
    memcpy(made->distances, granted->distances, sizeof made->distances);
    memcpy(made->why, granted->why, sizeof made->why);
    made->next = *bucket_of(rail, made->slot);
    *bucket_of(rail, made->slot) = made;
    rail->entry_count++;
    rail->known_count += made->total;
    return made;
}

void lend_verbs_granted_note(struct lend_verbs_rail *rail, const struct lend_verbs_granted *granted)
{
    struct lend_verbs_entry *it =
        granted->first == 0 ? begin(rail, granted) : *find(rail, granted->slot);

    /* What is not the rest of what was said before is of something that is forgotten. */
    if (it == NULL || it->generation != granted->generation || it->total != granted->total ||
        it->piece_count != granted->first)
        return;
    memcpy(it->pieces + it->piece_count, granted->pieces,
           granted->piece_count * sizeof granted->pieces[0]);
    it->piece_count += granted->piece_count;
    if (it->piece_count == it->total)
        qsort(it->pieces, it->total, sizeof it->pieces[0], by_address);
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
    if (granted->total == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "the owner's NIC lets nobody write by lease %u.%llx: %s", slot,
                         (unsigned long long)generation, granted->why);
    return LEND_OK;
}
