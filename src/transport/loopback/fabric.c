/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/loopback/fabric.h"

#include "base/list.h"
#include "base/sys.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

enum { HELD_MAX = 64 };

struct lend_fabric_line {
    struct lend_list link; /* in `lines` */
    struct lend_fabric_end end;
    uint8_t from[LEND_INCARNATION_BYTES];
    uint8_t to[LEND_INCARNATION_BYTES];
    bool is_from_client;
    bool is_dead;
    uint32_t held_count;
    struct lend_fabric_held *first;
};

/* Guards all lines and the fabric. After a session's lock, and before those of loopback. */
static pthread_mutex_t fabric_lock = PTHREAD_MUTEX_INITIALIZER;
static struct lend_list lines = {.next = &lines, .previous = &lines};
static const struct lend_fabric *_Atomic installed;

void lend_fabric_install(const struct lend_fabric *fabric)
{
    (void)pthread_mutex_lock(&fabric_lock);
    /* Relaxed, here and below: the lock orders what matters; elsewhere only NULL is looked for. */
    atomic_store_explicit(&installed, fabric, memory_order_relaxed);
    (void)pthread_mutex_unlock(&fabric_lock);
}

bool lend_fabric_is_installed(void)
{
    return atomic_load_explicit(&installed, memory_order_relaxed) != NULL;
}

struct lend_fabric_line *lend_fabric_line_create(const uint8_t *from, const uint8_t *to,
                                                 bool is_from_client,
                                                 const struct lend_fabric_end *end)
{
    struct lend_fabric_line *line = lend_sys->allocate(sizeof *line);

    if (line == NULL)
        return NULL;
    line->end = *end;
    line->is_from_client = is_from_client;
    memcpy(line->from, from, LEND_INCARNATION_BYTES);
    memcpy(line->to, to, LEND_INCARNATION_BYTES);

    (void)pthread_mutex_lock(&fabric_lock);
    lend_list_append(&lines, &line->link);
    (void)pthread_mutex_unlock(&fabric_lock);
    return line;
}

static void drop_first(struct lend_fabric_line *line)
{
    struct lend_fabric_held *first = line->first;

    line->first = first->next;
    line->held_count--;
    lend_sys->release(first);
}

static void drop_all(struct lend_fabric_line *line)
{
    while (line->first != NULL)
        drop_first(line);
}

void lend_fabric_line_destroy(struct lend_fabric_line *line)
{
    if (line == NULL)
        return;
    (void)pthread_mutex_lock(&fabric_lock);
    lend_list_remove(&line->link);
    (void)pthread_mutex_unlock(&fabric_lock);

    drop_all(line);
    lend_sys->release(line);
}

bool lend_fabric_line_has_room(const struct lend_fabric_line *line)
{
    return line->held_count < HELD_MAX;
}

static struct lend_fabric_verdict judge(const struct lend_fabric_line *line,
                                        const struct lend_fabric_held *held)
{
    const struct lend_fabric *fabric = atomic_load_explicit(&installed, memory_order_relaxed);
    struct lend_fabric_frame frame = {.is_from_client = line->is_from_client,
                                      .header = held->bytes,
                                      .payload = held->bytes + LEND_FRAME_HEADER_BYTES,
                                      .count = held->count};

    if (line->is_dead)
        return (struct lend_fabric_verdict){.action = LEND_FABRIC_DROP};
    if (fabric == NULL)
        return (struct lend_fabric_verdict){.action = LEND_FABRIC_DELIVER};
    memcpy(frame.from, line->from, LEND_INCARNATION_BYTES);
    memcpy(frame.to, line->to, LEND_INCARNATION_BYTES);
    return fabric->judge(fabric->context, &frame);
}

/* Last in line; but before the last one if that waits to be swapped. */
static void append(struct lend_fabric_line *line, struct lend_fabric_held *held)
{
    struct lend_fabric_held **place = &line->first;

    while (*place != NULL && !(*place)->is_swapping)
        place = &(*place)->next;
    if (*place != NULL) {
        if (held->is_swapping) /* the two trade places once, and now */
            held->visible_ns = 0;
        held->is_swapping = false;
        (*place)->is_swapping = false;
        (*place)->visible_ns = held->visible_ns;
    }
    held->next = *place;
    *place = held;
    line->held_count++;
}

static void obey(struct lend_fabric_held *held, const struct lend_fabric_verdict *verdict)
{
    uint64_t bit = verdict->bit % ((LEND_FRAME_HEADER_BYTES + held->count) * 8);

    switch ((enum lend_fabric_action)verdict->action) {
    case LEND_FABRIC_DELAY: held->visible_ns = verdict->until_ns; break;
    case LEND_FABRIC_SWAP:
        held->visible_ns = verdict->until_ns;
        held->is_swapping = true;
        break;
    case LEND_FABRIC_CORRUPT: held->bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8)); break;
    case LEND_FABRIC_DELIVER:
    case LEND_FABRIC_DROP: break;
    }
}

void lend_fabric_line_push(struct lend_fabric_line *line, const uint8_t *header,
                           const uint8_t *payload, size_t count)
{
    struct lend_fabric_held *held =
        lend_sys->allocate(sizeof *held + LEND_FRAME_HEADER_BYTES + count);

    if (held == NULL)
        return; /* a fabric may lose frames */
    held->count = count;
    memcpy(held->bytes, header, LEND_FRAME_HEADER_BYTES);
    if (count > 0)
        memcpy(held->bytes + LEND_FRAME_HEADER_BYTES, payload, count);

    (void)pthread_mutex_lock(&fabric_lock);
    struct lend_fabric_verdict verdict = judge(line, held);

    if (verdict.action == LEND_FABRIC_DROP) {
        lend_sys->release(held);
    } else {
        obey(held, &verdict);
        append(line, held);
    }
    (void)pthread_mutex_unlock(&fabric_lock);
}

const struct lend_fabric_held *lend_fabric_line_first(struct lend_fabric_line *line)
{
    const struct lend_fabric_held *first = line->first;

    return first != NULL && first->visible_ns <= lend_sys->now_ns() ? first : NULL;
}

void lend_fabric_line_pop(struct lend_fabric_line *line)
{
    (void)pthread_mutex_lock(&fabric_lock);
    if (line->first != NULL) /* a cut may have come between */
        drop_first(line);
    (void)pthread_mutex_unlock(&fabric_lock);
}

bool lend_fabric_line_is_dead(const struct lend_fabric_line *line)
{
    return line->is_dead;
}

static struct lend_fabric_line *line_of(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_fabric_line, link);
}

uint64_t lend_fabric_next_ns(void)
{
    uint64_t next_ns = UINT64_MAX;

    (void)pthread_mutex_lock(&fabric_lock);
    for (struct lend_list *link = lines.next; link != &lines; link = link->next) {
        const struct lend_fabric_held *first = line_of(link)->first;

        if (first != NULL && first->visible_ns < next_ns)
            next_ns = first->visible_ns;
    }
    (void)pthread_mutex_unlock(&fabric_lock);
    return next_ns;
}

void lend_fabric_tick(void)
{
    uint64_t now_ns = lend_sys->now_ns();

    (void)pthread_mutex_lock(&fabric_lock);
    for (struct lend_list *link = lines.next; link != &lines; link = link->next) {
        struct lend_fabric_line *line = line_of(link);

        if (line->first != NULL && line->first->visible_ns <= now_ns)
            line->end.wake(line->end.owner);
    }
    (void)pthread_mutex_unlock(&fabric_lock);
}

void lend_fabric_cut(const uint8_t *incarnation, bool is_loud)
{
    (void)pthread_mutex_lock(&fabric_lock);
    for (struct lend_list *link = lines.next; link != &lines; link = link->next) {
        struct lend_fabric_line *line = line_of(link);

        if (memcmp(line->from, incarnation, LEND_INCARNATION_BYTES) != 0 &&
            memcmp(line->to, incarnation, LEND_INCARNATION_BYTES) != 0)
            continue;
        line->is_dead = true;
        drop_all(line);
        if (is_loud)
            line->end.hang_up(line->end.owner);
    }
    (void)pthread_mutex_unlock(&fabric_lock);
}
