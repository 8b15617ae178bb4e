/* SPDX-License-Identifier: Apache-2.0 */
#include "core/view.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/block_set.h"
#include "core/lease.h"
#include "core/look.h"

#include <string.h>

enum { VIEWS_MAX = 256 };

enum phase {
    PHASE_WANTED = 0, /* the LOOK is to be sent */
    PHASE_ASKED,
    PHASE_HELD,
};

/* What one lease permits. */
struct view {
    struct lend_list link; /* in lend_onesided::views */
    struct lend_lease_name name;
    enum phase phase;
    bool is_stale;            /* answered already out of date: to be dropped once nobody waits */
    uint64_t look;            /* the number that its answer bears */
    struct lend_list waiting; /* transfers, by session_link */
    struct lend_view *answer; /* owned; NULL until it is held */
};

static bool names_are_equal(const struct lend_lease_name *one, const struct lend_lease_name *other)
{
    return one->slot == other->slot && one->generation == other->generation &&
           memcmp(one->key, other->key, sizeof one->key) == 0;
}

static struct view *view_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct view, link);
}

static void drop_view(struct lend_onesided *own, struct view *view)
{
    lend_list_remove(&view->link);
    own->view_count--;
    own->wanted_count -= view->phase == PHASE_WANTED;
    lend_sys->release(view->answer);
    lend_sys->release(view);
}

static struct view *find_view(struct lend_onesided *own, const struct lend_lease_name *name)
{
    /* The latest first: who posts again and again posts with the same ticket. */
    for (struct lend_list *link = own->views.previous; link != &own->views; link = link->previous)
        if (names_are_equal(&view_at(link)->name, name) && !view_at(link)->is_stale)
            return view_at(link);
    return NULL;
}

/* Make room for one more: the least recently used that nobody waits for. */
static void make_room(struct lend_onesided *own)
{
    for (struct lend_list *link = own->views.next;
         own->view_count >= VIEWS_MAX && link != &own->views; link = link->next)
        if (view_at(link)->phase == PHASE_HELD) {
            drop_view(own, view_at(link));
            return;
        }
}

static struct view *make_view(struct lend_onesided *own, const struct lend_lease_name *name)
{
    make_room(own);

    struct view *view = lend_sys->allocate(sizeof *view);
    if (view == NULL)
        return NULL;
    view->name = *name;
    lend_list_init(&view->waiting);
    lend_list_append(&own->views, &view->link);
    own->view_count++;
    own->wanted_count++;
    return view;
}

/* --- what it permits --- */

static const struct lend_view_part *find_part(const struct lend_view *view, uint64_t region_id)
{
    uint32_t low = 0, high = view->part_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (view->parts[middle].region_id < region_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < view->part_count && view->parts[low].region_id == region_id ? &view->parts[low]
                                                                             : NULL;
}

static struct lend_blocks blocks_of(const struct lend_view *view, uint32_t set)
{
    const struct lend_view_set *it = &view->sets[set];

    /* All members or not is what matters of the count. */
    return (struct lend_blocks){
        .first = it->first,
        .span = it->span,
        .count = it->bitmap == NULL ? it->span : 0,
        .bitmap = (uint64_t *)(uintptr_t)it->bitmap,
    };
}

static enum lend_status check_runs(const struct lend_transfer *transfer, uint64_t region_id,
                                   const struct lend_blocks *blocks, struct lend_error *why)
{
    for (uint64_t i = 0; i < transfer->remote_run_count; i++) {
        const struct lend_run *run = &transfer->remote_runs[i];

        if (!lend_blocks_cover(blocks, run->first, run->count))
            return lend_fail(why, LEND_E_OUT_OF_RANGE,
                             "blocks %u + %u of region %llu are not all in the lease", run->first,
                             run->count, (unsigned long long)region_id);
    }
    return LEND_OK;
}

/* Does the lease permit the whole transfer? Regions that share a set are asked once. */
static enum lend_status check(const struct lend_transfer *transfer, const struct lend_view *view,
                              struct lend_error *why)
{
    uint32_t asked = UINT32_MAX;
    bool is_read = transfer->direction == LEND_READ;

    if ((view->access & (is_read ? LEND_ACCESS_READ : LEND_ACCESS_WRITE)) == 0)
        return lend_fail(why, LEND_E_ACCESS, "the lease is for %s only",
                         is_read ? "writing" : "reading");
    for (uint64_t i = 0; i < transfer->region_count; i++) {
        uint64_t id = transfer->has_ranges ? transfer->ranges[i].region_id : transfer->remotes[i];
        const struct lend_view_part *part = find_part(view, id);

        if (part == NULL)
            return lend_fail(why, LEND_E_OUT_OF_RANGE, "region %llu is not in the lease",
                             (unsigned long long)id);
        if (part->life != transfer->sources[i].life)
            return lend_fail(why, LEND_E_STALE,
                             "region %llu was resumed since its metadata was imported: refresh it",
                             (unsigned long long)id);
        if (part->set == asked && !transfer->has_ranges)
            continue;
        asked = part->set;

        struct lend_blocks blocks = blocks_of(view, part->set);
        enum lend_status status = transfer->has_ranges
                                      ? lend_lease_check_range(&transfer->sources[i].geometry,
                                                               &blocks, &transfer->ranges[i], why)
                                      : check_runs(transfer, id, &blocks, why);
        if (status != LEND_OK)
            return status;
    }
    return LEND_OK;
}

static void permit(struct lend_onesided *own, const struct lend_view *answer,
                   struct lend_transfer *transfer)
{
    struct lend_error why = {0};
    enum lend_status status = (enum lend_status)answer->status;

    if (status == LEND_OK) {
        status = check(transfer, answer, &why);
        /* Its owner knows where it is now. */
        if (status == LEND_E_STALE)
            status = LEND_E_NO_PATH;
    } else {
        (void)lend_fail(&why, status, "%s", answer->text);
        /* What cannot be told, its owner can still check by itself. */
        if (status == LEND_E_LIMIT || status == LEND_E_NO_MEMORY)
            status = LEND_E_NO_PATH;
    }
    lend_onesided_permit(own, transfer, status, &why);
}

/* --- asking --- */

void lend_views_attach(struct lend_onesided *own, struct lend_transfer *transfer)
{
    struct view *view = find_view(own, &transfer->lease);
    struct lend_error why;

    if (view == NULL)
        view = make_view(own, &transfer->lease);
    if (view == NULL) {
        (void)lend_fail(&why, LEND_E_NO_PATH, "no memory for what the lease permits");
        lend_onesided_permit(own, transfer, LEND_E_NO_PATH, &why);
        return;
    }
    lend_list_remove(&view->link); /* the latest used is the last */
    lend_list_append(&own->views, &view->link);
    transfer->view_is_new = view->phase != PHASE_HELD;
    if (view->phase == PHASE_HELD)
        permit(own, view->answer, transfer);
    else
        lend_list_append(&view->waiting, &transfer->session_link);
}

void lend_views_hush(struct lend_onesided *own, struct lend_transfer *transfer)
{
    lend_list_append(&own->unheard, &transfer->session_link);
}

static bool may_hush(const struct lend_onesided *own)
{
    return own->hush_look == 0 && !lend_list_is_empty(&own->unheard) &&
           own->looks_out < LEND_LOOKS_MAX;
}

static bool ask(struct lend_onesided *own, const struct lend_lease_name *name, uint64_t *out_look)
{
    uint8_t bytes[64];
    size_t count = lend_lease_name_encode(name, bytes, sizeof bytes);

    if (!lend_session_send(own->session, LEND_FRAME_LOOK, own->next_look + 1, bytes, count))
        return false;
    *out_look = ++own->next_look;
    own->looks_out++;
    return true;
}

/* A look at no lease, for which the owner begins nothing, is behind all that was said before, too.
 */
static bool ask_hush(struct lend_onesided *own)
{
    static const struct lend_lease_name none; /* generations begin with 1 */

    if (!may_hush(own) || !ask(own, &none, &own->hush_look))
        return false;
    for (struct lend_list *link; (link = lend_list_take_first(&own->unheard)) != NULL;)
        lend_list_append(&own->hushed, link);
    return true;
}

/* Its answer is there: whatever was under way when it was asked for lands no more. */
static void end_hush(struct lend_onesided *own)
{
    struct lend_error why = {0};

    own->hush_look = 0;
    own->looks_out--;
    for (struct lend_list *link; (link = lend_list_take_first(&own->hushed)) != NULL;)
        lend_onesided_permit(own, LEND_LIST_OWNER(link, struct lend_transfer, session_link),
                             LEND_OK, &why);
}

bool lend_views_ask(struct lend_onesided *own)
{
    bool moved = ask_hush(own);

    for (struct lend_list *link = own->views.next; link != &own->views; link = link->next) {
        struct view *view = view_at(link);

        if (view->phase != PHASE_WANTED || own->looks_out == LEND_LOOKS_MAX)
            continue;
        if (!ask(own, &view->name, &view->look))
            return moved;
        view->phase = PHASE_ASKED;
        own->wanted_count--;
        moved = true;
    }
    return moved;
}

bool lend_views_want(const struct lend_onesided *own)
{
    return (own->wanted_count > 0 && own->looks_out < LEND_LOOKS_MAX) || may_hush(own);
}

static struct view *find_look(struct lend_onesided *own, uint64_t look)
{
    for (struct lend_list *link = own->views.next; link != &own->views; link = link->next)
        if (view_at(link)->phase == PHASE_ASKED && view_at(link)->look == look)
            return view_at(link);
    return NULL;
}

enum lend_status lend_onesided_view(struct lend_onesided *own, const struct lend_frame *frame,
                                    const uint8_t *payload, struct lend_error *error)
{
    struct view *view = find_look(own, frame->request);
    struct lend_view *answer = NULL;

    if (view == NULL && own->hush_look != 0 && own->hush_look == frame->request) {
        end_hush(own);
        return LEND_OK;
    }
    if (view == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "a VIEW for look %llu, which is not under way",
                         (unsigned long long)frame->request);
    enum lend_status status = lend_view_decode(payload, frame->payload_bytes, &answer, error);
    if (status != LEND_OK)
        return status;
    own->looks_out--;
    view->answer = answer;
    /* Whoever forgets it meanwhile makes it stale, as it is not held yet. */
    for (struct lend_list *link; (link = lend_list_take_first(&view->waiting)) != NULL;)
        permit(own, answer, LEND_LIST_OWNER(link, struct lend_transfer, session_link));
    view->phase = PHASE_HELD;
    /* A refusal may be another one the next time. */
    if (answer->status != LEND_OK || view->is_stale)
        drop_view(own, view);
    return LEND_OK;
}

void lend_onesided_forget(struct lend_onesided *own, const struct lend_lease_name *name)
{
    struct view *view = find_view(own, name);

    if (view == NULL)
        return;
    if (view->phase == PHASE_HELD)
        drop_view(own, view);
    else
        view->is_stale = true;
}

void lend_views_fini(struct lend_onesided *own)
{
    for (struct lend_list *link = own->views.next, *next; link != &own->views; link = next) {
        next = link->next;
        drop_view(own, view_at(link));
    }
}
