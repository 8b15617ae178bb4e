/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/host.h"
#include "base/error.h"
#include "base/sort.h"
#include "base/sys.h"
#include "memory/maps.h"

/*
 * The list of mappings is ordered by address, and so are the ranges that we ask about: one walk
 * over both at a time answers for all of them, however long the list is.
 */

enum { FEW = 64 }; /* ranges that are asked for one by one: the whole list costs about as much */

/* A range that is asked about; proven from its start up to `next`. */
struct piece {
    uint64_t next;
    uint64_t end;
    struct lend_verify *item;
};

/* Pieces by address: those before `open` are settled, those from `ahead` on lie ahead of the walk.
 */
struct walk {
    struct piece *pieces;
    uint32_t open;
    uint32_t ahead;
    uint32_t count;
};

/* Settled: out of the window of open pieces, whose order does not matter. */
static void settle(struct walk *walk, uint32_t index)
{
    struct piece done = walk->pieces[index];

    walk->pieces[index] = walk->pieces[walk->open];
    walk->pieces[walk->open++] = done;
}

static void fail_hole(const struct piece *piece)
{
    struct lend_verify *item = piece->item;
    uint64_t offset = piece->next - item->memory.address;

    item->status = lend_fail(&item->error, LEND_E_MEMORY,
                             "0x%llx (byte %llu of %llu) is not mapped in this process",
                             (unsigned long long)piece->next, (unsigned long long)offset,
                             (unsigned long long)item->memory.length_bytes);
}

static void fail_rights(const struct piece *piece, const struct lend_mapping *mapping)
{
    struct lend_verify *item = piece->item;
    uint64_t offset = piece->next - item->memory.address;
    const char *lack = mapping->rights[0] != 'r'
                           ? "not readable (memory of a GPU is described with lend_memory_device())"
                           : "not writable, and it is to be lent for writing";

    item->status = lend_fail(
        &item->error, LEND_E_MEMORY, "0x%llx (byte %llu of %llu) is mapped %s at 0x%llx-0x%llx: %s",
        (unsigned long long)piece->next, (unsigned long long)offset,
        (unsigned long long)item->memory.length_bytes, mapping->rights,
        (unsigned long long)mapping->start, (unsigned long long)mapping->end, lack);
}

/* Step the piece over the mapping. True if that settles it. */
static bool step(struct piece *piece, const struct lend_mapping *mapping)
{
    bool has_rights =
        mapping->rights[0] == 'r' && (mapping->rights[1] == 'w' || !piece->item->needs_write);

    if (piece->next < mapping->start) {
        fail_hole(piece);
        return true;
    }
    if (!has_rights) {
        fail_rights(piece, mapping);
        return true;
    }
    piece->next = piece->end < mapping->end ? piece->end : mapping->end;
    return piece->next == piece->end;
}

/* A lend_maps_visit of a struct walk: enough once all pieces are settled. */
static bool pass_mapping(void *context, const struct lend_mapping *mapping)
{
    struct walk *walk = context;

    while (walk->ahead < walk->count && walk->pieces[walk->ahead].next < mapping->end)
        walk->ahead++;
    for (uint32_t i = walk->open; i < walk->ahead; i++) {
        if (step(&walk->pieces[i], mapping))
            settle(walk, i);
    }
    return walk->open < walk->count;
}

/* A lend_maps_next of a struct walk: where the first that is not settled goes on. */
static uint64_t next_address(const void *context)
{
    const struct walk *walk = context;
    uint64_t next = UINT64_MAX;

    for (uint32_t i = walk->open; i < walk->ahead; i++)
        next = walk->pieces[i].next < next ? walk->pieces[i].next : next;
    if (walk->ahead < walk->count && walk->pieces[walk->ahead].next < next)
        next = walk->pieces[walk->ahead].next;
    return next;
}

static bool is_asked(const struct lend_verify *item)
{
    return item->status == LEND_OK && lend_memory_is_host(&item->memory);
}

/* One reason for all that could not be answered. */
static void fail_open(struct walk *walk, const struct lend_error *reason)
{
    for (; walk->open < walk->count; walk->open++) {
        struct lend_verify *item = walk->pieces[walk->open].item;

        item->status = (enum lend_status)reason->status;
        item->error = *reason;
    }
}

static void run_walk(struct walk *walk, struct lend_maps *maps)
{
    struct lend_error error;

    enum lend_status status =
        walk->count <= FEW ? lend_maps_walk_few(maps, pass_mapping, next_address, walk, &error)
                           : lend_maps_walk(pass_mapping, walk, &error);
    if (status != LEND_OK)
        fail_open(walk, &error);
    for (; walk->open < walk->count; walk->open++)
        fail_hole(&walk->pieces[walk->open]);
}

static void collect(struct walk *walk, struct lend_sorted *places, struct lend_verify *items,
                    uint32_t count)
{
    uint32_t collected = 0;

    for (uint32_t i = 0; i < count; i++)
        if (is_asked(&items[i]))
            places[collected++] =
                (struct lend_sorted){.key = items[i].memory.address, .value = &items[i]};
    const struct lend_sorted *sorted = lend_sort(places, collected);
    for (uint32_t i = 0; i < collected; i++) {
        struct lend_verify *item = sorted[i].value;

        walk->pieces[i] = (struct piece){
            .next = item->memory.address,
            .end = item->memory.address + item->memory.length_bytes,
            .item = item,
        };
    }
}

void lend_host_verify(struct lend_maps *maps, struct lend_verify *items, uint32_t count)
{
    struct walk walk = {0};
    struct piece few[FEW];
    struct lend_sorted few_places[2 * FEW], *places = few_places;

    for (uint32_t i = 0; i < count; i++)
        walk.count += is_asked(&items[i]);
    if (walk.count == 0)
        return;
    bool are_few = walk.count <= FEW;
    walk.pieces = are_few ? few : lend_sys->allocate(walk.count * sizeof *walk.pieces);
    if (!are_few)
        places = lend_sys->allocate(2 * (size_t)walk.count * sizeof *places);
    bool is_ready = walk.pieces != NULL && places != NULL;
    if (is_ready) {
        collect(&walk, places, items, count);
        run_walk(&walk, maps);
    }
    if (!are_few) {
        lend_sys->release(walk.pieces);
        lend_sys->release(places);
    }
    for (uint32_t i = 0; i < count && !is_ready; i++) {
        if (is_asked(&items[i]))
            items[i].status = lend_fail(&items[i].error, LEND_E_NO_MEMORY,
                                        "no memory to verify %u ranges of host memory", walk.count);
    }
}
